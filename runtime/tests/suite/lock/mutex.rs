//! [`Mutex`].

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Event, Mutex, joinall, sleep, with_timeout};

use super::in_unwinding;
use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, until_waits, waiting};

const BRIEF: Duration = Duration::from_millis(2);

#[test]
fn one_at_a_time_has_the_value_also_over_a_switch() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new((0, Cell::new(false))));
    let all: Vec<_> = (0..12)
        .map(|i| {
            let mutex = Arc::clone(&mutex);
            EVERYWHERE[i % 3].start(move || {
                for round in 0..100 {
                    let mut guard = mutex.lock().unwrap();
                    assert!(!guard.1.replace(true));
                    let before = guard.0;
                    if round % 8 == 0 {
                        sleep(Duration::ZERO);
                    }
                    guard.0 = before + 1;
                    assert!(guard.1.replace(false));
                }
            })
        })
        .collect();
    all.into_iter().for_each(|one| one());
    let mutex = Arc::into_inner(mutex).expect("the others have ended");
    assert_eq!(mutex.into_inner().0, 1_200);
}

#[test]
fn mutex_goes_to_who_waits_longest_and_a_newcomer_does_not_overtake() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new(Vec::new()));
    let guard = mutex.lock().unwrap();
    let waiters: Vec<_> = (0..15)
        .map(|i| {
            let theirs = Arc::clone(&mutex);
            let waiter = EVERYWHERE[i % 3].start(move || theirs.lock().unwrap().push(i));
            eventually("the next one waits", || waiting(&*mutex) == i + 1);
            waiter
        })
        .collect();
    drop(guard);
    let last = mutex.lock().unwrap();
    assert_eq!(*last, (0..15).collect::<Vec<_>>());
    drop(last);
    waiters.into_iter().for_each(|waiter| waiter());
}

#[test]
fn mutex_that_is_held_is_waited_for_no_longer_than_told() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let mutex = Arc::new(Mutex::new(1));
        let guard = mutex.lock().unwrap();
        let theirs = Arc::clone(&mutex);
        from.run(move || {
            assert!(theirs.try_lock().is_err());
            assert!(theirs.lock_timeout(BRIEF).is_err());
            assert!(with_timeout(BRIEF, || theirs.lock().is_ok()).is_err());
            assert!(theirs.locked());
        });
        drop(guard);
        assert_eq!(*mutex.try_lock().unwrap(), 1);
        assert_eq!(waiting(&*mutex), 0);
    }
}

#[test]
fn holder_that_panics_or_is_killed_leaves_the_value_to_the_next() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new(0));
    for killed in [false, true] {
        let panics = Arc::new(Event::new());
        let (theirs, told) = (Arc::clone(&mutex), Arc::clone(&panics));
        let holder = spawn_on(0, move || {
            let mut guard = theirs.lock().unwrap();
            *guard += 1;
            told.wait();
            panic!("with the mutex");
        });
        until_waits(holder.id());
        let theirs = Arc::clone(&mutex);
        let next = spawn_on(any_hub(1), move || *theirs.lock().unwrap());
        until_waits(next.id());
        if killed {
            holder.kill();
        } else {
            panics.set();
        }
        assert_eq!(next.join().unwrap(), 1 + i32::from(killed));
        assert_eq!(holder.join().unwrap_err().is_killed(), killed);
    }
    assert_eq!(Arc::into_inner(mutex).unwrap().into_inner(), 2);
}

#[test]
fn nothing_is_lost_when_waiters_are_killed_or_run_out_of_time() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new(0_usize));
    let entered = Arc::new(AtomicUsize::new(0));
    for round in 0..2_000_u64 {
        let guard = mutex.lock().unwrap();
        let waiters: Vec<_> = (0..3)
            .map(|i| {
                let (theirs, entered) = (Arc::clone(&mutex), Arc::clone(&entered));
                spawn_on(any_hub(i), move || {
                    let guard = match i {
                        1 => theirs.lock_timeout(Duration::from_micros(round % 70)),
                        _ => theirs.lock(),
                    };
                    if let Ok(mut guard) = guard {
                        *guard += 1;
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            waiters[0].kill_nowait();
        }
        drop(guard);
        if round % 2 == 1 {
            waiters[0].kill_nowait();
        }
        assert!(joinall(&waiters, None));
        assert!(!mutex.locked(), "round {round}");
    }
    assert_eq!(*mutex.lock().unwrap(), entered.load(Ordering::SeqCst));
}

#[test]
fn lock_does_not_wait_in_a_greenlet_that_unwinds() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&mutex);
    assert!(in_unwinding(0, move || {
        *theirs.lock().unwrap() += 1;
        true
    }));
    let guard = mutex.lock().unwrap();
    assert_eq!(*guard, 1);
    let theirs = Arc::clone(&mutex);
    assert!(in_unwinding(0, move || theirs.lock().is_err()));
    drop(guard);
    assert!(!mutex.locked());
}

#[test]
fn value_can_be_unsized_and_printed_and_had_without_locking() {
    let mut mutex = Mutex::from([1, 2, 3]);
    mutex.get_mut()[0] = 4;
    let slice: &Mutex<[i32]> = &mutex;
    assert_eq!(slice.lock().unwrap().len(), 3);
    assert!(format!("{slice:?}").starts_with("Mutex { value: [4, 2, 3],"));
    let guard = mutex.lock().unwrap();
    assert_eq!(format!("{guard:?}"), "[4, 2, 3]");
    assert!(format!("{mutex:?}").contains("<locked>"));
    drop(guard);
    assert_eq!(Mutex::<u32>::default().into_inner(), 0);
}
