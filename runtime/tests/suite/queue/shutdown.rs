//! The end of a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{
    Channel, GetError, LifoQueue, PriorityQueue, PutError, Queue, SimpleQueue, joinall,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on};

const LONG: Duration = Duration::from_secs(3_600);

macro_rules! every_method_is_refused {
    ($kind:ident) => {
        for from in EVERYWHERE {
            from.run(|| {
                let queue = $kind::new(2);
                queue.put(1).unwrap();
                queue.put_nowait(2).unwrap();
                queue.shutdown(false);
                assert!(queue.is_shutdown());
                let refused = [
                    queue.put(3),
                    queue.put_timeout(3, LONG),
                    queue.put_nowait(3),
                ];
                assert_eq!(refused, [Err(PutError::ShutDown(3)); 3]);
                assert!(refused[0].is_err_and(|error| error.is_shut_down()));
                // What is left can be got.
                let left = queue.peek();
                assert_eq!(queue.get(), left);
                assert!(matches!(queue.get_timeout(LONG), Ok(1 | 2)));
                let refused = [
                    queue.get(),
                    queue.get_timeout(LONG),
                    queue.get_nowait(),
                    queue.peek(),
                    queue.peek_timeout(LONG),
                    queue.peek_nowait(),
                ];
                assert_eq!(refused, [Err(GetError::ShutDown); 6]);
                assert_eq!(queue.iter().next(), None);
            });
        }
    };
}

#[test]
fn queue_that_is_shut_down_takes_nothing_and_gives_what_is_left() {
    let _deadline = deadline();
    every_method_is_refused!(Queue);
    every_method_is_refused!(SimpleQueue);
    every_method_is_refused!(LifoQueue);
    every_method_is_refused!(PriorityQueue);
}

#[test]
fn immediate_shutdown_drops_the_items_which_count_as_done() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let drops = Arc::new(AtomicUsize::new(0));
            let queue = Queue::new(0);
            for _ in 0..5 {
                let drops = Arc::clone(&drops);
                let item = OnDrop(move || {
                    drops.fetch_add(1, Ordering::SeqCst);
                });
                assert!(queue.put(item).is_ok());
            }
            let taken = queue.get();
            // Also after one that was not immediate.
            queue.shutdown(false);
            assert_eq!(queue.len(), 4);
            queue.shutdown(true);
            assert_eq!((queue.len(), drops.load(Ordering::SeqCst)), (0, 4));
            assert!(matches!(queue.get(), Err(GetError::ShutDown)));
            // The one that was taken is still being worked on.
            assert_eq!(queue.unfinished_tasks(), 1);
            assert!(!queue.join_timeout(Duration::ZERO));
            queue.task_done();
            assert!(queue.join());
            drop(taken);
        });
    }
}

#[test]
fn shutdown_wakes_all_who_wait() {
    let _deadline = deadline();
    for immediate in [false, true] {
        let (full, empty) = (Arc::new(Queue::new(1)), Arc::new(Queue::<u32>::new(1)));
        full.put(0).unwrap();
        let mut waiters: Vec<Box<dyn FnOnce() -> bool>> = Vec::new();
        for (i, from) in EVERYWHERE.into_iter().cycle().take(9).enumerate() {
            let theirs = Arc::clone(&full);
            waiters.push(from.start(move || theirs.put(7) == Err(PutError::ShutDown(7))));
            let theirs = Arc::clone(&empty);
            waiters.push(from.start(move || theirs.get() == Err(GetError::ShutDown)));
            let theirs = Arc::clone(&empty);
            waiters.push(from.start(move || theirs.peek() == Err(GetError::ShutDown)));
            let theirs = Arc::clone(&full);
            waiters.push(from.start(move || theirs.join_timeout(LONG) == immediate));
            eventually("they wait", || {
                count(&full, "putters") == i + 1 && count(&empty, "getters") == 2 * (i + 1)
            });
        }
        full.shutdown(immediate);
        empty.shutdown(immediate);
        if !immediate {
            // The joins go on waiting for what is left.
            assert_eq!(full.get(), Ok(0));
            waiters.drain(..).enumerate().for_each(|(i, waiter)| {
                if i % 4 == 3 {
                    if full.unfinished_tasks() > 0 {
                        full.task_done();
                    }
                    assert!(!waiter());
                } else {
                    assert!(waiter());
                }
            });
        }
        assert!(waiters.into_iter().all(|waiter| waiter()));
        assert_eq!((count(&full, "putters"), count(&empty, "getters")), (0, 0));
    }
}

#[test]
fn channel_that_is_shut_down_refuses_everybody() {
    let _deadline = deadline();
    let channel = Arc::new(Channel::new());
    let putters: Vec<_> = (0..6)
        .map(|i| {
            let theirs = Arc::clone(&channel);
            let putter = EVERYWHERE[i % 3].start(move || theirs.put(i));
            eventually("it waits", || channel.balance() == i as isize + 1);
            putter
        })
        .collect();
    channel.shutdown();
    for (i, putter) in putters.into_iter().enumerate() {
        assert_eq!(putter(), Err(PutError::ShutDown(i)));
    }
    assert_eq!(channel.put_nowait(1), Err(PutError::ShutDown(1)));
    assert_eq!(channel.get(), Err(GetError::ShutDown));
    assert_eq!(channel.balance(), 0);
}

/// Putters, getters and the shutdown at the same moment: what was put is got or left.
#[test]
fn shutdown_loses_nothing_that_was_put() {
    let _deadline = deadline();
    for round in 0..1_000_usize {
        let queue = Arc::new(Queue::new(round % 3));
        let (put, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut greenlets = Vec::new();
        for i in 0..2 {
            let (theirs, put) = (Arc::clone(&queue), Arc::clone(&put));
            greenlets.push(spawn_on(any_hub(i), move || {
                while theirs.put(1).is_ok() {
                    if put.fetch_add(1, Ordering::SeqCst) > 20 {
                        break;
                    }
                }
            }));
            let (theirs, got) = (Arc::clone(&queue), Arc::clone(&got));
            greenlets.push(spawn_on(any_hub(i + 1), move || {
                while theirs.get() == Ok(1) {
                    got.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        let theirs = Arc::clone(&queue);
        EVERYWHERE[round % 2 + round % 2].run(move || theirs.shutdown(false));
        assert!(joinall(&greenlets, None));
        let left = queue.iter().count();
        let got = got.load(Ordering::SeqCst) + left;
        assert_eq!(got, put.load(Ordering::SeqCst), "round {round}");
        assert_eq!(queue.unfinished_tasks(), got);
    }
}
