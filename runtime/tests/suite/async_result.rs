//! [`AsyncResult`] and [`CountDownLatch`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    AsyncResult, CountDownLatch, ResultError, joinall, sleep, spawn, spawn_later, wait,
    with_timeout, with_timeout_or,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, eventually, spawn_on, waiting};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

type Number = AsyncResult<i32, String>;

#[test]
fn value_reaches_all_who_wait_wherever_they_are() {
    let _deadline = deadline();
    for setter in EVERYWHERE {
        let result = Arc::new(Number::new());
        let waiters: Vec<_> = (EVERYWHERE.into_iter().cycle().take(30))
            .map(|from| {
                let result = Arc::clone(&result);
                from.start(move || result.get().copied().unwrap())
            })
            .collect();
        eventually("all wait", || waiting(&result) == 30);
        let sets = Arc::clone(&result);
        setter.run(move || sets.set(9).unwrap());
        assert!(waiters.into_iter().all(|waiter| waiter() == 9));
        assert_eq!(result.get_nowait(), Ok(&9));
        assert_eq!((result.value(), result.exception()), (Some(&9), None));
        assert!(result.ready() && result.successful());
    }
}

#[test]
fn error_is_what_get_returns() {
    let _deadline = deadline();
    let result = Arc::new(Number::new());
    assert_eq!((result.value(), result.exception()), (None, None));
    assert!(!result.ready() && !result.successful());
    let theirs = Arc::clone(&result);
    let waiter = spawn(move || theirs.get().unwrap_err().into_exception().cloned());
    result.set_exception("no".to_owned()).unwrap();
    assert_eq!(waiter.join().unwrap().unwrap(), "no");
    assert_eq!(result.exception().unwrap(), "no");
    assert_eq!(
        result.get().unwrap_err(),
        ResultError::Exception(&"no".to_owned())
    );
    assert!(result.ready() && !result.successful() && result.wait());
}

#[test]
fn what_came_first_stays() {
    let _deadline = deadline();
    let result = Number::new();
    result.set(1).unwrap();
    assert_eq!(result.set(2), Err(2));
    assert_eq!(result.set_exception("x".into()), Err("x".into()));
    assert_eq!(result.into_result(), Some(Ok(1)));
    let result = Number::new();
    result.set_exception("x".into()).unwrap();
    assert_eq!(result.set(2), Err(2));
    assert_eq!(result.into_result(), Some(Err("x".into())));
    assert_eq!(Number::new().into_result(), None);
}

#[test]
fn waits_end_in_time_and_leave_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let result = Number::new();
            assert_eq!(result.get_nowait(), Err(ResultError::Timeout));
            assert_eq!(
                result.get_timeout(Duration::ZERO),
                Err(ResultError::Timeout)
            );
            let start = Instant::now();
            assert_eq!(result.get_timeout(SHORT), Err(ResultError::Timeout));
            assert!(!result.wait_timeout(SHORT));
            assert!(start.elapsed() >= SHORT * 2);
            assert!(with_timeout(SHORT, || result.get().is_ok()).is_err());
            assert_eq!(with_timeout_or(SHORT, -1, || *result.get().unwrap()), -1);
            assert_eq!(waiting(&result), 0);
            result.set(4).unwrap();
            assert_eq!(result.get_timeout(Duration::ZERO), Ok(&4));
        });
    }
}

#[test]
fn killed_waiter_leaves_the_others_alone() {
    let _deadline = deadline();
    for hub in 0..greenwood_runtime::Hub::count() {
        let result = Arc::new(Number::new());
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let result = Arc::clone(&result);
                spawn_on(hub, move || result.get().copied().unwrap())
            })
            .collect();
        eventually("all wait", || waiting(&result) == 10);
        for waiter in waiters.iter().step_by(2) {
            waiter.kill();
        }
        assert_eq!(waiting(&result), 5);
        result.set(6).unwrap();
        assert!(joinall(&waiters, None));
        for (i, waiter) in waiters.into_iter().enumerate() {
            match i % 2 {
                0 => assert!(waiter.join().unwrap_err().is_killed()),
                _ => assert_eq!(waiter.join().unwrap(), 6),
            }
        }
    }
}

#[test]
fn waiters_of_one_hub_wake_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let result = Arc::new(Number::new());
    let order = Arc::new(Mutex::new(Vec::new()));
    let waiters: Vec<_> = (0..100)
        .map(|i| {
            let (theirs, order) = (Arc::clone(&result), Arc::clone(&order));
            let waiter = spawn_on(0, move || {
                theirs.wait();
                order.lock().unwrap().push(i);
            });
            eventually("it waits", || waiting(&result) == i + 1);
            waiter
        })
        .collect();
    result.set(0).unwrap();
    assert!(joinall(&waiters, None));
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn who_unwinds_does_not_wait() {
    let _deadline = deadline();
    let result = Arc::new(Number::new());
    let theirs = Arc::clone(&result);
    let unwinds = spawn(move || {
        let _looks = OnDrop(|| {
            assert_eq!(theirs.get(), Err(ResultError::Timeout));
            assert!(!theirs.wait_timeout(LONG));
            theirs.set(3).unwrap();
            assert_eq!(theirs.get(), Ok(&3));
        });
        std::panic::resume_unwind(Box::new(()))
    });
    let error: Result<(), _> = unwinds.join();
    assert!(error.unwrap_err().is_panic());
    assert_eq!(result.value(), Some(&3));
}

/// Sets and waits at the same moment, from different hubs: nobody misses it.
#[test]
fn no_set_is_missed_in_thousands() {
    let _deadline = deadline();
    for round in 0..3_000 {
        let result = Arc::new(Number::new());
        let theirs = Arc::clone(&result);
        let waiter = spawn_on(any_hub(round), move || match round % 3 {
            0 => theirs.get().is_ok(),
            1 => theirs.get_timeout(LONG).is_ok(),
            _ => wait(&[&*theirs], None, None) == [0],
        });
        if round % 2 == 0 {
            let sets = Arc::clone(&result);
            spawn_on(any_hub(round + 1), move || sets.set(1));
        } else {
            result.set(1).unwrap();
        }
        assert!(waiter.join().unwrap());
    }
}

#[test]
fn first_of_many_setters_wins() {
    let _deadline = deadline();
    let result = Arc::new(Number::new());
    let won = Arc::new(AtomicUsize::new(0));
    let setters: Vec<_> = (0..40)
        .map(|i| {
            let (result, won) = (Arc::clone(&result), Arc::clone(&won));
            spawn_on(any_hub(i), move || {
                if result.set(i as i32).is_ok() {
                    won.fetch_add(1, Ordering::SeqCst);
                }
                *result.get().unwrap()
            })
        })
        .collect();
    let value = *result.get().unwrap();
    for setter in setters {
        assert_eq!(setter.join().unwrap(), value);
    }
    assert_eq!(won.load(Ordering::SeqCst), 1);
}

#[test]
fn latch_opens_with_the_last_count() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let latch = Arc::new(CountDownLatch::new(30));
            assert!(!latch.wait_timeout(Duration::ZERO));
            let last = Arc::new(AtomicUsize::new(0));
            for i in 0..29 {
                let (latch, last) = (Arc::clone(&latch), Arc::clone(&last));
                spawn_on(any_hub(i), move || {
                    sleep(Duration::from_micros(i as u64));
                    if latch.count_down() {
                        last.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            eventually("29 have counted", || latch.count() == 1);
            assert!(!latch.wait_timeout(Duration::from_millis(1)));
            let theirs = Arc::clone(&latch);
            spawn_later(Duration::from_millis(1), move || theirs.count_down());
            assert!(latch.wait() && latch.wait_timeout(Duration::ZERO));
            assert_eq!(wait(&[&*latch], None, None), [0]);
            assert_eq!((latch.count(), last.load(Ordering::SeqCst)), (0, 0));
            assert!(!latch.count_down());
            assert!(CountDownLatch::new(0).wait());
        });
    }
}
