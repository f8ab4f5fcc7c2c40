//! [`Semaphore`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{CountDownLatch, Event, Semaphore, joinall, sleep};

use crate::support::{EVERYWHERE, From, any_hub, deadline, eventually, spawn_on, waiting};

#[test]
fn permits_bound_how_many_are_inside() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(3));
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    // The first three have to be there together.
    let together = Arc::new(CountDownLatch::new(3));
    let greenlets: Vec<_> = (0..60)
        .map(|i| {
            let (semaphore, inside, most) = (
                Arc::clone(&semaphore),
                Arc::clone(&inside),
                Arc::clone(&most),
            );
            let together = Arc::clone(&together);
            spawn_on(any_hub(i), move || {
                assert!(semaphore.acquire());
                let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                together.count_down();
                together.wait();
                sleep(Duration::from_micros(200));
                inside.fetch_sub(1, Ordering::SeqCst);
                semaphore.release();
            })
        })
        .collect();
    assert!(joinall(&greenlets, None));
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(semaphore.counter(), 3);
}

#[test]
fn release_may_exceed_the_start() {
    let semaphore = Semaphore::new(0);
    assert!(semaphore.locked());
    semaphore.release();
    semaphore.release();
    assert_eq!(semaphore.counter(), 2);
    assert!(semaphore.try_acquire() && semaphore.acquire());
    assert!(!semaphore.try_acquire());
}

#[test]
fn acquire_times_out_and_takes_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let semaphore = Semaphore::new(0);
            assert!(!semaphore.acquire_timeout(Duration::from_millis(3)));
            assert!(!semaphore.acquire_timeout(Duration::ZERO));
            semaphore.release();
            assert_eq!(semaphore.counter(), 1);
        });
    }
}

#[test]
fn permits_go_to_whoever_waits_longest() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for i in 0..30 {
        let from = EVERYWHERE[i % 3];
        let (theirs, order) = (Arc::clone(&semaphore), Arc::clone(&order));
        let done = Arc::new(Event::new());
        let told = Arc::clone(&done);
        let waits = waiting(&semaphore);
        waiters.push((
            from.start(move || {
                assert!(theirs.acquire());
                order.lock().unwrap().push(i);
                told.set();
            }),
            done,
        ));
        eventually("the next one waits", || waiting(&semaphore) > waits);
    }
    for (_, done) in &waiters {
        semaphore.release();
        // One at a time, so that the order in which they write is the order in which they were let
        // in.
        done.wait();
    }
    for (waiter, _) in waiters {
        waiter();
    }
    assert_eq!(*order.lock().unwrap(), (0..30).collect::<Vec<_>>());
}

#[test]
fn newcomer_does_not_overtake_who_waits() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(0));
    let theirs = Arc::clone(&semaphore);
    let waiter = From::OtherHub.start(move || theirs.acquire());
    eventually("it waits", || waiting(&semaphore) == 1);
    semaphore.release();
    // Handed over, although the waiter has perhaps not run yet.
    assert!(!semaphore.try_acquire());
    assert!(waiter());
}

#[test]
fn no_permit_is_lost_when_waiters_are_killed_or_run_out_of_time() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(1));
    for round in 0..3_000_u64 {
        assert!(semaphore.acquire());
        let taken = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|i| {
                let (theirs, taken) = (Arc::clone(&semaphore), Arc::clone(&taken));
                spawn_on(any_hub(i), move || {
                    let got = match i {
                        0 => theirs.acquire(),
                        1 => theirs.acquire_timeout(Duration::from_micros(round % 70)),
                        _ => theirs.acquire(),
                    };
                    if got {
                        taken.fetch_add(1, Ordering::SeqCst);
                        theirs.release();
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            waiters[0].kill_nowait();
        }
        semaphore.release();
        if round % 2 == 1 {
            waiters[0].kill_nowait();
        }
        assert!(joinall(&waiters, None));
        assert_eq!(semaphore.counter(), 1, "round {round}");
        assert!(taken.load(Ordering::SeqCst) >= 1);
    }
}

#[test]
fn permits_do_not_overflow() {
    let semaphore = Semaphore::new(usize::MAX);
    let released = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| semaphore.release()));
    assert!(released.is_err());
    assert_eq!(semaphore.counter(), usize::MAX);
}
