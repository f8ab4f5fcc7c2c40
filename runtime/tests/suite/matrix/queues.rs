//! Every call of every kind of queue.

use std::sync::atomic::{AtomicBool, Ordering};

use greenwood_runtime::{Channel, GetError, LifoQueue, PriorityQueue, Queue, SimpleQueue};

use super::{LONG, Row, play, row};
use crate::support::count;

macro_rules! rows {
    ($kind:ident) => {
        vec![
            row(
                concat!(stringify!($kind), " get"),
                || $kind::new(0),
                |queue, limit| match limit {
                    Some(limit) => queue.get_timeout(limit) == Ok(7),
                    None => queue.get() == Ok(7),
                },
                |queue| queue.put(7).unwrap(),
                |queue, got| {
                    let left = if got { Err(GetError::Empty) } else { Ok(7) };
                    assert_eq!(queue.get_nowait(), left);
                    assert_eq!(count(queue, "getters"), 0);
                },
            ),
            row(
                concat!(stringify!($kind), " put"),
                || $kind::with_items(1, [0]),
                |queue, limit| queue.put_timeout(7, limit.unwrap_or(LONG)).is_ok(),
                |queue| assert_eq!(queue.get_nowait(), Ok(0)),
                |queue, put| {
                    let left = if put { Ok(7) } else { Err(GetError::Empty) };
                    assert_eq!(queue.get_nowait(), left);
                    assert_eq!(count(queue, "putters"), 0);
                },
            ),
            row(
                concat!(stringify!($kind), " peek"),
                || $kind::new(0),
                |queue, limit| match limit {
                    Some(limit) => queue.peek_timeout(limit) == Ok(7),
                    None => queue.peek() == Ok(7),
                },
                |queue| queue.put(7).unwrap(),
                |queue, _| {
                    assert_eq!(queue.get_nowait(), Ok(7));
                    assert_eq!(count(queue, "getters"), 0);
                },
            ),
            row(
                concat!(stringify!($kind), " next"),
                || $kind::new(0),
                |queue, _| queue.iter().next().is_some(),
                |queue| queue.put(7).unwrap(),
                |queue, got| assert_eq!(queue.len(), usize::from(!got)),
            )
            .without_limit(),
            row(
                concat!(stringify!($kind), " get, and the shutdown"),
                || $kind::<u8>::new(0),
                |queue, limit| queue.get_timeout(limit.unwrap_or(LONG)) == Err(GetError::ShutDown),
                |queue| queue.shutdown(false),
                |queue, _| assert_eq!(count(queue, "getters"), 0),
            ),
        ]
    };
}

macro_rules! join {
    ($kind:ident) => {
        row(
            concat!(stringify!($kind), " join"),
            || $kind::with_items(0, [7]),
            |queue, limit| match limit {
                Some(limit) => queue.join_timeout(limit),
                None => queue.join(),
            },
            |queue| {
                assert_eq!(queue.get_nowait(), Ok(7));
                queue.task_done();
            },
            |queue, _| assert_eq!(queue.unfinished_tasks(), 0),
        )
    };
}

/// Rows of a channel: what is passed is passed to one who is there, or not at all.
fn channel() -> Vec<Row> {
    type Scene = (Channel<u8>, AtomicBool);
    fn scene() -> Scene {
        (Channel::new(), AtomicBool::new(false))
    }
    fn settle((channel, passed): &Scene, got: bool) {
        assert_eq!(passed.load(Ordering::SeqCst), got);
        assert_eq!(channel.balance(), 0);
    }
    vec![
        row(
            "Channel get",
            scene,
            |(channel, _), limit| match limit {
                Some(limit) => channel.get_timeout(limit) == Ok(7),
                None => channel.get() == Ok(7),
            },
            |(channel, passed)| passed.store(channel.put_nowait(7).is_ok(), Ordering::SeqCst),
            settle,
        ),
        row(
            "Channel put",
            scene,
            |(channel, _), limit| match limit {
                Some(limit) => channel.put_timeout(7, limit).is_ok(),
                None => channel.put(7).is_ok(),
            },
            |(channel, passed)| passed.store(channel.get_nowait() == Ok(7), Ordering::SeqCst),
            settle,
        ),
    ]
}

#[test]
fn queues() {
    play("matrix::queues::queues", || {
        let mut rows = rows!(Queue);
        rows.extend(rows!(SimpleQueue));
        rows.push(join!(Queue));
        rows.extend(channel());
        rows
    });
}

#[test]
fn ordered_queues() {
    play("matrix::queues::ordered_queues", || {
        let mut rows = rows!(LifoQueue);
        rows.extend(rows!(PriorityQueue));
        rows.extend([join!(LifoQueue), join!(PriorityQueue)]);
        rows
    });
}
