//! `map`, `imap` and `imap_unordered` of [`Group`] and [`Pool`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Event, Group, JoinError, Pool, Queue, sleep, spawn_later, with_timeout};

use crate::support::{EVERYWHERE, From, OnDrop, deadline, eventually};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(3);

#[test]
fn map_gives_results_in_order() {
    let _deadline = deadline();
    for size in [1, 2, 3, 10] {
        for from in EVERYWHERE {
            from.run(move || {
                let pool = Pool::new(size);
                let square = |n: u64| {
                    sleep(Duration::from_micros(n * 7 % 50));
                    n * n
                };
                let expected: Vec<_> = (0..100).map(|n| n * n).collect();
                assert_eq!(pool.map(square, 0..100).unwrap(), expected);
                assert_eq!(pool.map(square, []).unwrap(), []);
                let later = pool.map_async(square, 0..100);
                assert_eq!(later.join().unwrap().unwrap(), expected);
            });
        }
    }
}

#[test]
fn map_ends_with_the_first_error() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let error = pool
        .map(|n| if n == 5 { panic!("expected: {n}") } else { n }, 0..)
        .unwrap_err();
    assert!(error.to_string().ends_with("expected: 5"));
    // What the iterator panics with comes out of the call.
    let failing = (0..5).inspect(|&n| assert!(n < 3, "expected: the iterator"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.map(|n| n, failing).map(drop)
    }));
    assert!(caught.is_err());
    assert!(pool.join(None));
    assert_eq!(pool.free_count(), 3);
}

#[test]
fn members_map_in_their_own_full_pool() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let theirs = pool.clone();
    let sum = pool.apply(move || theirs.map(|n| n + 1, [1, 2, 3]));
    assert_eq!(sum.unwrap().unwrap(), [2, 3, 4]);
}

#[test]
fn imap_gives_results_in_order() {
    let _deadline = deadline();
    for size in [1, 2, 10] {
        for from in EVERYWHERE {
            for maxsize in [0, 1, 4] {
                from.run(move || {
                    let pool = Pool::new(size);
                    let square = |n: u64| {
                        sleep(Duration::from_micros((n * 7) % 50));
                        n * n
                    };
                    let expected: Vec<_> = (0..60).map(|n| n * n).collect();
                    let ordered: Vec<_> = pool
                        .imap(square, 0..60, maxsize)
                        .map(Result::unwrap)
                        .collect();
                    assert_eq!(ordered, expected);
                    let mut unordered: Vec<_> = pool
                        .imap_unordered(square, 0..60, maxsize)
                        .map(Result::unwrap)
                        .collect();
                    unordered.sort_unstable();
                    assert_eq!(unordered, expected);
                    assert_eq!(pool.imap(square, [], maxsize).count(), 0);
                    assert_eq!(pool.imap_unordered(square, [], maxsize).count(), 0);
                });
            }
        }
    }
}

#[test]
fn imap_unordered_gives_what_ends_first() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let slow = Arc::new(Event::new());
    let waits = Arc::clone(&slow);
    let body = move |n| {
        if n == 10 {
            waits.wait();
        }
        n
    };
    let mut results = pool.imap_unordered(body, [10, 1, 2], 0).map(Result::unwrap);
    let mut first = [results.next().unwrap(), results.next().unwrap()];
    first.sort_unstable();
    assert_eq!(first, [1, 2]);
    slow.set();
    assert_eq!(results.next(), Some(10));
    assert_eq!(results.next(), None);
}

#[test]
fn errors_come_at_their_items() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let half = |n: u32| 100 / n;
    for unordered in [false, true] {
        let mut results = match unordered {
            false => pool.imap(half, [1, 0, 2], 0),
            true => pool.imap_unordered(half, [1, 0, 2], 0),
        };
        assert_eq!(results.next().unwrap().unwrap(), 100);
        assert!(results.next().unwrap().unwrap_err().is_panic());
        assert_eq!(results.next().unwrap().unwrap(), 50);
        assert!(results.next().is_none() && results.next().is_none());
    }
}

#[test]
fn what_the_iterator_panics_with_comes_last() {
    let _deadline = deadline();
    let pool = Pool::new(3);
    let failing = || (0..5).inspect(|&n| assert!(n < 2, "expected: the iterator"));
    for results in [
        pool.imap(|n| n, failing(), 0),
        pool.imap_unordered(|n| n, failing(), 1),
    ] {
        let results: Vec<_> = results.collect();
        assert_eq!(results.len(), 3);
        assert!(results[..2].iter().all(Result::is_ok));
        assert!(results[2].as_ref().is_err_and(JoinError::is_panic));
    }
}

#[test]
fn imap_takes_items_as_they_come() {
    let _deadline = deadline();
    for unordered in [false, true] {
        let pool = Pool::new(2);
        let queue = Arc::new(Queue::<Option<u32>>::new(0));
        let theirs = Arc::clone(&queue);
        let items = std::iter::from_fn(move || theirs.get().unwrap());
        let mut results = match unordered {
            false => pool.imap(|n| n, items, 0),
            true => pool.imap_unordered(|n| n, items, 0),
        };
        queue.put(Some(123)).unwrap();
        assert_eq!(results.next().unwrap().unwrap(), 123);
        spawn_later(SHORT, move || queue.put(None));
        assert!(results.next().is_none());
    }
}

#[test]
fn maxsize_bounds_what_is_begun_and_not_taken() {
    let _deadline = deadline();
    let pool = Pool::new(10);
    for unordered in [false, true] {
        let begun = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&begun);
        let body = move |n: usize| {
            theirs.fetch_add(1, Ordering::SeqCst);
            n
        };
        let results = match unordered {
            false => pool.imap(body, 0..100, 3),
            true => pool.imap_unordered(body, 0..100, 3),
        };
        for (taken, result) in results.enumerate() {
            result.unwrap();
            assert!(begun.load(Ordering::SeqCst) <= taken + 1 + 3);
            if taken % 10 == 0 {
                eventually("it goes on", || {
                    begun.load(Ordering::SeqCst) == (taken + 1 + 3).min(100)
                });
                assert!(pool.join(None));
            }
        }
    }
}

#[test]
fn dropping_the_iterator_stops_the_feeder() {
    let _deadline = deadline();
    for (size, maxsize) in [(1, 0), (4, 2), (4, 0)] {
        let pool = Pool::new(size);
        let dropped = Arc::new(Event::new());
        let told = Arc::clone(&dropped);
        let _keep = &told;
        let last = OnDrop({
            let told = Arc::clone(&told);
            move || told.set()
        });
        let items = (0..).inspect(move |_| {
            let _last = &last;
        });
        let mut results = pool.imap(|n| n, items, maxsize);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        drop(results);
        // Its items are gone, and it with them.
        assert!(dropped.wait());
        assert!(pool.join(None));
        assert_eq!(pool.free_count(), size);
    }
}

#[test]
fn a_next_that_runs_out_of_time_takes_nothing() {
    let _deadline = deadline();
    let pool = Pool::new(2);
    for unordered in [false, true] {
        let event = Arc::new(Event::new());
        let waits = Arc::clone(&event);
        let body = move |n| {
            waits.wait();
            n
        };
        let mut results = match unordered {
            false => pool.imap(body, [7], 1),
            true => pool.imap_unordered(body, [7], 1),
        };
        assert!(with_timeout(SHORT, || results.next()).is_err());
        assert!(with_timeout(Duration::ZERO, || results.next()).is_err());
        event.set();
        assert_eq!(results.next().unwrap().unwrap(), 7);
        assert!(results.next().is_none());
    }
}

#[test]
fn killed_members_are_errors_of_their_items() {
    let _deadline = deadline();
    let pool = Pool::new(2);
    let results = pool.imap(|_| sleep(LONG), 0..6, 0);
    let (theirs, over) = (pool.clone(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&over);
    let killer = std::thread::spawn(move || {
        while !told.load(Ordering::SeqCst) {
            theirs.kill();
            sleep(Duration::from_micros(50));
        }
    });
    let results: Vec<_> = results.collect();
    assert_eq!(results.len(), 6);
    for result in results {
        assert!(result.unwrap_err().is_killed());
    }
    over.store(true, Ordering::SeqCst);
    killer.join().unwrap();
}

#[test]
fn a_feeder_without_a_bound_lets_others_run() {
    let _deadline = deadline();
    From::SameHub.run(|| {
        let endless = Group::new().imap(|n| n, 0.., 0);
        for _ in 0..10 {
            sleep(Duration::ZERO);
        }
        drop(endless);
    });
}
