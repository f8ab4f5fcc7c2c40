//! [`Condvar`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Condvar, Mutex, joinall, sleep, with_timeout};

use super::in_unwinding;
use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, waiting};

const BRIEF: Duration = Duration::from_millis(2);

type Shared<T> = Arc<(Mutex<T>, Condvar)>;

fn shared<T>(value: T) -> Shared<T> {
    Arc::new((Mutex::new(value), Condvar::new()))
}

#[test]
fn notifications_come_in_the_order_of_waiting() {
    let _deadline = deadline();
    let pair = shared(Vec::new());
    let waiters: Vec<_> = (0..12)
        .map(|i| {
            let theirs = Arc::clone(&pair);
            let waiter = EVERYWHERE[i % 3].start(move || {
                let (order, changed) = &*theirs;
                let (mut order, notified) = changed.wait(order.lock().unwrap());
                order.push(i);
                notified
            });
            eventually("the next one waits", || waiting(&pair.1) == i + 1);
            waiter
        })
        .collect();
    for i in 0..6 {
        pair.1.notify_one();
        eventually("it has come", || pair.0.lock().unwrap().len() == i + 1);
    }
    assert_eq!(waiting(&pair.1), 6);
    pair.1.notify_all();
    assert!(waiters.into_iter().all(|waiter| waiter()));
    let mut order = pair.0.lock().unwrap();
    assert_eq!(order[..6], [0, 1, 2, 3, 4, 5]);
    // Those woken together come in any order, each once.
    order.sort_unstable();
    assert_eq!(*order, (0..12).collect::<Vec<_>>());
    // Nobody waits: nothing is kept.
    pair.1.notify_one();
    drop(order);
    let (_, notified) = pair.1.wait_timeout(pair.0.lock().unwrap(), BRIEF);
    assert!(!notified);
}

#[test]
fn wait_while_returns_when_the_condition_ends() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let pair = shared(0);
        let theirs = Arc::clone(&pair);
        let waits = from.start(move || {
            let (count, changed) = &*theirs;
            let guard = count.lock().unwrap();
            let (guard, over) = changed.wait_timeout_while(guard, BRIEF, |count| *count < 1_000);
            assert!(!over);
            let (guard, over) = changed.wait_while(guard, |count| *count < 5);
            assert!(over);
            *guard
        });
        for _ in 0..5 {
            *pair.0.lock().unwrap() += 1;
            pair.1.notify_one();
        }
        assert_eq!(waits(), 5);
    }
}

#[test]
fn killed_and_timed_out_waiters_are_passed_over() {
    let _deadline = deadline();
    let pair = shared(());
    let start = |i: usize| {
        let theirs = Arc::clone(&pair);
        let waits = waiting(&pair.1);
        let waiter = spawn_on(any_hub(i), move || {
            let guard = theirs.0.lock().unwrap();
            theirs.1.wait(guard).1
        });
        eventually("it waits", || waiting(&pair.1) == waits + 1);
        waiter
    };
    let (first, second, third) = (start(0), start(1), start(0));
    // Who waits has given the value back a little later.
    eventually("nobody has the value", || !pair.0.locked());
    assert!(with_timeout(BRIEF, || pair.1.wait(pair.0.lock().unwrap()).1).is_err());
    assert!(!pair.0.locked());
    first.kill();
    pair.1.notify_one();
    assert!(second.join().unwrap());
    assert_eq!(waiting(&pair.1), 1);
    pair.1.notify_one();
    assert!(third.join().unwrap());
}

#[test]
fn notification_whose_receiver_is_killed_before_it_has_the_value_goes_to_the_next() {
    let _deadline = deadline();
    for round in 0..100 {
        let pair = shared(());
        let start = |i: usize| {
            let theirs = Arc::clone(&pair);
            let waits = waiting(&pair.1);
            let waiter = spawn_on(any_hub(round + i), move || {
                let guard = theirs.0.lock().unwrap();
                theirs.1.wait(guard).1
            });
            eventually("it waits", || waiting(&pair.1) == waits + 1);
            waiter
        };
        let (first, second) = (start(0), start(1));
        let guard = pair.0.lock().unwrap();
        pair.1.notify_one();
        if round % 2 == 0 {
            eventually("it waits for the value", || waiting(&pair.0) == 1);
        }
        first.kill();
        eventually("the second waits for the value", || waiting(&pair.0) == 1);
        drop(guard);
        assert!(second.join().unwrap());
    }
}

#[test]
fn wait_keeps_the_guard_in_a_greenlet_that_unwinds() {
    let _deadline = deadline();
    let pair = shared(1);
    let theirs = Arc::clone(&pair);
    let answers = in_unwinding(0, move || {
        let (guard, notified) = theirs.1.wait(theirs.0.lock().unwrap());
        let (guard, over) = theirs.1.wait_while(guard, |value| *value == 1);
        (notified, over, *guard)
    });
    assert_eq!(answers, (false, false, 1));
    assert!(!pair.0.locked());
}

/// A queue made of a mutex and a condition, with kills: every item is taken once.
#[test]
fn no_notification_is_lost_under_fire() {
    let _deadline = deadline();
    let pair = shared(Vec::new());
    let taken = Arc::new(AtomicUsize::new(0));
    let rounds = 1_000;
    for round in 0..rounds {
        let takers: Vec<_> = (0..3)
            .map(|i| {
                let (theirs, taken) = (Arc::clone(&pair), Arc::clone(&taken));
                spawn_on(any_hub(i), move || {
                    let (items, changed) = &*theirs;
                    let guard = items.lock().unwrap();
                    let (mut guard, found) = changed.wait_while(guard, |items| items.is_empty());
                    if found {
                        guard.pop();
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        if round % 3 == 0 {
            sleep(Duration::ZERO);
        }
        takers[0].kill_nowait();
        for _ in 0..2 {
            pair.0.lock().unwrap().push(round);
            pair.1.notify_one();
        }
        if round % 3 == 1 {
            takers[1].kill_nowait();
        }
        // Two items and at least one taker who lives, unless the dead have taken them.
        eventually("the third finds one", || {
            takers[2].ready() || pair.0.lock().unwrap().is_empty()
        });
        takers.iter().for_each(|taker| taker.kill_nowait());
        assert!(joinall(&takers, None));
        let left = pair.0.lock().unwrap().drain(..).count();
        let taken = taken.fetch_add(left, Ordering::SeqCst) + left;
        assert_eq!(taken, 2 * (round + 1), "round {round}");
        assert_eq!(waiting(&pair.1), 0);
    }
}
