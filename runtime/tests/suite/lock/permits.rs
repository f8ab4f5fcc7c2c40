//! Guards, bounds and waiting of [`Semaphore`] and [`BoundedSemaphore`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use greenwood_runtime::{BoundedSemaphore, Event, Semaphore, Waitable, iwait, sleep, wait};

use super::in_unwinding;
use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, waiting};

const BRIEF: Duration = Duration::from_millis(2);

#[test]
fn semaphore_has_one_permit_by_default() {
    assert_eq!(Semaphore::default().counter(), 1);
    assert_eq!(BoundedSemaphore::default().counter(), 1);
}

#[test]
fn permit_comes_back_when_dropped() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let semaphore = Semaphore::new(1);
            let permit = semaphore.permit().unwrap();
            assert!(semaphore.try_permit().is_err());
            assert!(semaphore.permit_timeout(BRIEF).is_err());
            drop(permit);
            let panics = catch_unwind(AssertUnwindSafe(|| {
                let _permit = semaphore.permit().unwrap();
                panic!("with a permit");
            }));
            assert!(panics.is_err());
            assert_eq!(semaphore.counter(), 1);
            semaphore.permit().unwrap().forget();
            assert!(semaphore.locked());
        });
    }
}

#[test]
fn permit_of_a_killed_greenlet_goes_to_the_next() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(1));
    let theirs = Arc::clone(&semaphore);
    let holder = spawn_on(0, move || {
        let _permit = theirs.permit().unwrap();
        sleep(Duration::from_secs(3_600));
    });
    eventually("it holds it", || semaphore.locked());
    let theirs = Arc::clone(&semaphore);
    let next = spawn_on(any_hub(1), move || theirs.permit().is_ok());
    eventually("the next waits", || waiting(&*semaphore) == 1);
    holder.kill();
    assert!(next.join().unwrap());
    assert_eq!(semaphore.counter(), 1);
}

#[test]
fn bounded_semaphore_refuses_to_exceed_its_bound() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let semaphore = BoundedSemaphore::new(2);
            assert!(semaphore.release().is_err());
            assert!(semaphore.acquire() && semaphore.try_acquire());
            assert!(!semaphore.try_acquire() && !semaphore.acquire_timeout(BRIEF));
            assert_eq!((semaphore.release(), semaphore.release()), (Ok(()), Ok(())));
            assert!(semaphore.release().is_err());
            assert_eq!(semaphore.counter(), 2);
            // A permit that somebody else has given back does not come back twice.
            let permit = semaphore.permit().unwrap();
            assert_eq!(semaphore.release(), Ok(()));
            drop(permit);
            assert_eq!(semaphore.counter(), 2);
        });
    }
}

#[test]
fn bounded_semaphore_hands_over_to_who_waits() {
    let _deadline = deadline();
    let semaphore = Arc::new(BoundedSemaphore::new(1));
    assert!(semaphore.acquire());
    for from in EVERYWHERE {
        let theirs = Arc::clone(&semaphore);
        let next = from.start(move || theirs.acquire());
        eventually("it waits", || waiting(&*semaphore) == 1);
        assert_eq!(semaphore.release(), Ok(()));
        assert!(next());
        assert!(semaphore.locked());
    }
}

#[test]
fn semaphore_can_be_waited_for_and_nothing_is_taken() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let semaphore = Arc::new(Semaphore::new(0));
        let go_on = Arc::new(Event::new());
        let (theirs, told) = (Arc::clone(&semaphore), Arc::clone(&go_on));
        let waits = from.start(move || {
            assert_eq!(theirs.wait_timeout(BRIEF), 0);
            assert_eq!(wait(&[&*theirs], Some(BRIEF), None), []);
            told.set();
            let ready = wait(&[&*theirs], None, None);
            (ready, theirs.wait())
        });
        assert!(go_on.wait());
        semaphore.release();
        assert_eq!(waits(), (vec![0], 1));
        assert!(semaphore.ready());
    }
}

#[test]
fn permit_for_who_acquires_makes_a_semaphore_ready_for_nobody_else() {
    let _deadline = deadline();
    let semaphore = Arc::new(BoundedSemaphore::new(1));
    assert!(semaphore.acquire());
    let theirs = Arc::clone(&semaphore);
    let next = spawn_on(any_hub(1), move || theirs.acquire());
    eventually("it waits", || waiting(&*semaphore) == 1);
    let ready = iwait(&[&*semaphore], Some(BRIEF));
    semaphore.release().unwrap();
    assert_eq!(ready.count(), 0);
    assert!(next.join().unwrap());
}

#[test]
fn acquire_does_not_wait_in_a_greenlet_that_unwinds() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(1));
    let theirs = Arc::clone(&semaphore);
    let answers = in_unwinding(0, move || {
        let taken = theirs.permit();
        (taken.is_ok(), theirs.acquire(), theirs.permit().is_err())
    });
    assert_eq!(answers, (true, false, true));
    assert_eq!(semaphore.counter(), 1);
}

/// After gevent's issue 1487: two that hand a permit to and fro must let in the third.
#[test]
fn two_who_take_turns_do_not_keep_out_a_third() {
    let _deadline = deadline();
    let semaphore = Arc::new(Semaphore::new(1));
    let over = Arc::new(AtomicBool::new(false));
    let taking_turns: Vec<_> = (0..2)
        .map(|i| {
            let (theirs, over) = (Arc::clone(&semaphore), Arc::clone(&over));
            spawn_on(any_hub(i), move || {
                while !over.load(SeqCst) {
                    let _permit = theirs.permit().unwrap();
                    sleep(Duration::ZERO);
                }
            })
        })
        .collect();
    for from in EVERYWHERE {
        let theirs = Arc::clone(&semaphore);
        assert!(from.run(move || theirs.permit().is_ok()));
    }
    over.store(true, SeqCst);
    taking_turns
        .into_iter()
        .for_each(|greenlet| greenlet.join().unwrap());
}

/// After gevent's dueling threads.
#[test]
fn greenlets_and_threads_take_turns_thousands_of_times() {
    let _deadline = deadline();
    let semaphore = Arc::new(BoundedSemaphore::new(1));
    let inside = Arc::new(AtomicBool::new(false));
    let all: Vec<_> = (0..6)
        .map(|i| {
            let (semaphore, inside) = (Arc::clone(&semaphore), Arc::clone(&inside));
            EVERYWHERE[i % 3].start(move || {
                for round in 0..500 {
                    let acquired = match round % 2 {
                        0 => semaphore.acquire(),
                        _ => semaphore.acquire_timeout(Duration::from_secs(3_600)),
                    };
                    assert!(acquired && !inside.swap(true, SeqCst));
                    assert!(inside.swap(false, SeqCst));
                    semaphore.release().unwrap();
                }
            })
        })
        .collect();
    all.into_iter().for_each(|one| one());
    assert_eq!(semaphore.counter(), 1);
}
