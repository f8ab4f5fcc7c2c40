//! [`Queue`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{GetError, PutError, Queue, joinall};

mod channel;
mod exchange;
mod join;
mod kinds;
mod peek;
mod shutdown;

use crate::support::{EVERYWHERE, From, OnDrop, any_hub, count, deadline, eventually, spawn_on};

#[test]
fn items_come_out_in_the_order_in_which_they_went_in() {
    let _deadline = deadline();
    for putter in EVERYWHERE {
        for getter in EVERYWHERE {
            for maxsize in [0, 1, 7] {
                let queue = Arc::new(Queue::new(maxsize));
                let theirs = Arc::clone(&queue);
                let puts = putter.start(move || {
                    for i in 0..1_000 {
                        theirs.put(i).unwrap();
                    }
                });
                let gets = getter.start(move || {
                    for i in 0..1_000 {
                        assert_eq!(queue.get(), Ok(i));
                    }
                    assert!(queue.is_empty());
                });
                puts();
                gets();
            }
        }
    }
}

#[test]
fn bounded_queue_holds_no_more_than_its_bound() {
    let _deadline = deadline();
    let queue = Queue::new(2);
    assert_eq!(queue.put(1), Ok(()));
    assert_eq!(queue.put_nowait(2), Ok(()));
    assert!(queue.is_full());
    assert_eq!(queue.put_nowait(3), Err(PutError::Full(3)));
    for from in EVERYWHERE {
        let queue = Arc::new(Queue::new(1));
        queue.put(0).unwrap();
        let refused = from.run(move || queue.put_timeout(3, Duration::from_millis(2)));
        assert_eq!(refused.unwrap_err().into_inner(), 3);
    }
    assert_eq!(queue.get(), Ok(1));
    assert_eq!((queue.len(), queue.maxsize()), (1, 2));
}

#[test]
fn get_times_out_on_an_empty_queue() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = Queue::<()>::new(0);
            assert_eq!(
                queue.get_timeout(Duration::from_millis(2)),
                Err(GetError::Empty)
            );
            assert_eq!(queue.get_timeout(Duration::ZERO), Err(GetError::Empty));
            assert_eq!(queue.get_nowait(), Err(GetError::Empty));
        });
    }
}

#[test]
fn getters_are_served_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(0));
    let mut getters = Vec::new();
    for i in 0..30 {
        let theirs = Arc::clone(&queue);
        getters.push(EVERYWHERE[i % 3].start(move || theirs.get().unwrap()));
        eventually("the next one waits", || count(&queue, "getters") == i + 1);
    }
    for i in 0..30 {
        queue.put(i).unwrap();
    }
    for (i, getter) in getters.into_iter().enumerate() {
        assert_eq!(getter(), i);
    }
}

#[test]
fn putters_are_let_in_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(1));
    queue.put(0).unwrap();
    let mut putters = Vec::new();
    for i in 1..30 {
        let theirs = Arc::clone(&queue);
        putters.push(EVERYWHERE[i % 3].start(move || theirs.put(i).unwrap()));
        eventually("the next one waits", || count(&queue, "putters") == i);
    }
    for i in 0..30 {
        assert_eq!(queue.get(), Ok(i));
    }
    putters.into_iter().for_each(|putter| putter());
}

#[test]
fn getter_that_gave_up_is_passed_over() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(0));
    let start = |from: From| {
        let (theirs, waits) = (Arc::clone(&queue), count(&queue, "getters"));
        let getter = spawn_on(
            usize::from(from == From::OtherHub) * any_hub(1),
            move || theirs.get(),
        );
        eventually("it waits", || count(&queue, "getters") == waits + 1);
        getter
    };
    let first = start(From::SameHub);
    let second = start(From::OtherHub);
    let third = start(From::SameHub);
    first.kill();
    third.kill();
    queue.put(1).unwrap();
    assert_eq!(second.join().unwrap(), Ok(1));
    assert_eq!(count(&queue, "getters"), 0);
}

#[test]
fn item_of_a_killed_putter_is_dropped_and_never_delivered() {
    let _deadline = deadline();
    let drops = Arc::new(AtomicUsize::new(0));
    let item = |name: usize| {
        let drops = Arc::clone(&drops);
        (
            name,
            OnDrop(move || {
                drops.fetch_add(1, Ordering::SeqCst);
            }),
        )
    };
    let queue = Arc::new(Queue::new(1));
    queue.put(item(0)).map_err(drop).unwrap();
    let putters: Vec<_> = (1..=5)
        .map(|name| {
            let (theirs, item) = (Arc::clone(&queue), item(name));
            let putter = spawn_on(any_hub(name), move || {
                theirs.put(item).map_err(drop).unwrap();
            });
            eventually("it waits", || count(&queue, "putters") == name);
            putter
        })
        .collect();
    putters[1].kill();
    // Although the others wait on: nobody will ever look at the item again.
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let names: Vec<_> = (0..5).map(|_| queue.get().unwrap().0).collect();
    assert_eq!(names, [0, 1, 3, 4, 5]);
    assert!(joinall(&putters, None));
    assert_eq!(drops.load(Ordering::SeqCst), 6);
}

#[test]
fn waiters_that_gave_up_do_not_pile_up() {
    let _deadline = deadline();
    let queue = Queue::new(1);
    let payload = Arc::new(());
    queue.put(Arc::clone(&payload)).unwrap();
    for _ in 0..5_000 {
        let put = queue.put_timeout(Arc::clone(&payload), Duration::from_nanos(1));
        assert!(put.is_err());
    }
    assert_eq!(Arc::strong_count(&payload), 2);
    assert_eq!(count(&queue, "putters"), 0);
}

#[test]
fn many_putters_and_getters_lose_and_invent_nothing() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(3));
    let got = Arc::new(Mutex::new(HashSet::new()));
    let left = Arc::new(AtomicUsize::new(8_000));
    let getters: Vec<_> = (0..8)
        .map(|i| {
            let (queue, got, left) = (Arc::clone(&queue), Arc::clone(&got), Arc::clone(&left));
            EVERYWHERE[i % 3].start(move || {
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok()
                {
                    let item: usize = queue.get().unwrap();
                    assert!(got.lock().unwrap().insert(item), "{item} came twice");
                }
            })
        })
        .collect();
    let putters: Vec<_> = (0..8)
        .map(|i| {
            let queue = Arc::clone(&queue);
            EVERYWHERE[i % 3].start(move || {
                for item in 0..1_000 {
                    queue.put(i * 1_000 + item).unwrap();
                }
            })
        })
        .collect();
    putters.into_iter().for_each(|putter| putter());
    getters.into_iter().for_each(|getter| getter());
    assert_eq!(got.lock().unwrap().len(), 8_000);
    assert!(queue.is_empty());
}

/// The promise: an item taken by a greenlet that is killed at that moment is delivered or
/// still in the queue.
#[test]
fn no_item_is_lost_to_a_kill_at_the_moment_of_delivery() {
    let _deadline = deadline();
    let (mut delivered, mut left) = (0, 0);
    for round in 0..6_000 {
        let queue = Arc::new(Queue::new(1));
        let got = Arc::new(AtomicUsize::new(0));
        let (theirs, told) = (Arc::clone(&queue), Arc::clone(&got));
        let getter = spawn_on(any_hub(round), move || {
            let item: usize = match round % 3 {
                0 => theirs.get().unwrap(),
                1 => theirs.get_timeout(Duration::from_secs(3_600)).unwrap(),
                _ => match theirs.get_timeout(Duration::from_micros(50)) {
                    Ok(item) => item,
                    Err(_) => return,
                },
            };
            told.store(item, Ordering::SeqCst);
        });
        let theirs = Arc::clone(&queue);
        let putter = EVERYWHERE[round / 3 % 3].start(move || theirs.put(7).unwrap());
        if round % 7 != 0 {
            getter.kill_nowait();
        }
        putter();
        assert!(getter.join_timeout(Duration::from_secs(30)));
        let here = got.load(Ordering::SeqCst) == 7;
        assert_ne!(here, queue.get_nowait() == Ok(7), "round {round}");
        delivered += usize::from(here);
        left += usize::from(!here);
    }
    assert!(delivered > 0 && left > 0, "{delivered} and {left}");
}

#[test]
fn no_item_is_lost_when_the_putter_is_killed_at_the_moment_of_handing_over() {
    let _deadline = deadline();
    for round in 0..3_000 {
        let queue = Arc::new(Queue::new(1));
        queue.put(0).unwrap();
        let returned = Arc::new(AtomicUsize::new(0));
        let (theirs, told) = (Arc::clone(&queue), Arc::clone(&returned));
        let putter = spawn_on(any_hub(round), move || {
            theirs.put(1).unwrap();
            told.store(1, Ordering::SeqCst);
        });
        let theirs = Arc::clone(&queue);
        let getter = EVERYWHERE[round % 3].start(move || theirs.get().unwrap());
        putter.kill_nowait();
        assert_eq!(getter(), 0);
        assert!(putter.join_timeout(Duration::from_secs(30)));
        // What was reported as put is there, and what was not is not.
        let there = queue.get_nowait() == Ok(1);
        assert_eq!(there, returned.load(Ordering::SeqCst) == 1, "round {round}");
    }
}
