//! [`RLock`].

use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{RLock, joinall, sleep, with_timeout};

use super::in_unwinding;
use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, waiting};

const BRIEF: Duration = Duration::from_millis(2);

#[test]
fn owner_may_take_it_again_and_others_wait_for_the_last_release() {
    let _deadline = deadline();
    for owner in EVERYWHERE {
        for other in EVERYWHERE {
            let lock = Arc::new(RLock::new());
            owner.run(move || {
                assert!(lock.acquire() && lock.try_acquire() && lock.acquire_timeout(BRIEF));
                assert!(lock.locked() && lock.is_owned());
                let theirs = Arc::clone(&lock);
                other.run(move || {
                    assert!(!theirs.is_owned() && !theirs.try_acquire());
                    assert!(!theirs.acquire_timeout(Duration::from_micros(100)));
                });
                let theirs = Arc::clone(&lock);
                let waits = other.start(move || assert!(theirs.lock().is_ok()));
                lock.release();
                lock.release();
                eventually("it waits", || waiting(&*lock) == 1);
                lock.release();
                waits();
                assert!(!lock.locked() && !lock.is_owned());
            });
        }
    }
}

#[test]
fn release_by_who_does_not_hold_it_panics_and_changes_nothing() {
    let _deadline = deadline();
    let lock = Arc::new(RLock::new());
    let release_by_another = || {
        let theirs = Arc::clone(&lock);
        let greenlet = spawn_on(any_hub(1), move || theirs.release());
        assert!(greenlet.join().unwrap_err().is_panic());
        let theirs = Arc::clone(&lock);
        assert!(std::thread::spawn(move || theirs.release()).join().is_err());
    };
    release_by_another();
    let guard = lock.lock().unwrap();
    release_by_another();
    assert!(lock.is_owned());
    drop(guard);
    assert!(!lock.locked());
}

#[test]
fn guards_are_released_by_a_kill() {
    let _deadline = deadline();
    let lock = Arc::new(RLock::default());
    let theirs = Arc::clone(&lock);
    let holder = spawn_on(0, move || {
        let _guards = (theirs.lock().unwrap(), theirs.lock().unwrap());
        sleep(Duration::from_secs(3_600));
    });
    eventually("it holds it", || lock.locked());
    assert!(lock.try_lock().is_err() && lock.lock_timeout(BRIEF).is_err());
    assert!(with_timeout(BRIEF, || lock.lock().is_ok()).is_err());
    holder.kill();
    assert!(lock.try_lock().is_ok());
}

#[test]
fn lock_does_not_wait_in_a_greenlet_that_unwinds() {
    let _deadline = deadline();
    let lock = Arc::new(RLock::new());
    let guard = lock.lock().unwrap();
    let theirs = Arc::clone(&lock);
    assert!(in_unwinding(0, move || theirs.lock().is_err()));
    drop(guard);
    let theirs = Arc::clone(&lock);
    assert!(in_unwinding(0, move || theirs.lock().is_ok() && theirs.lock().is_ok()));
    assert!(!lock.locked());
}

#[test]
fn many_take_turns_and_killed_ones_lose_nothing() {
    let _deadline = deadline();
    let lock = Arc::new(RLock::new());
    for round in 0..1_000_u64 {
        let greenlets: Vec<_> = (0..4)
            .map(|i| {
                let theirs = Arc::clone(&lock);
                let limit = Duration::from_micros(round % 50);
                spawn_on(any_hub(i), move || {
                    let guard = match i {
                        0 => theirs.lock_timeout(limit),
                        _ => theirs.lock(),
                    };
                    if guard.is_ok() {
                        let again = theirs.lock();
                        if i == 1 {
                            sleep(Duration::ZERO);
                        }
                        assert!(again.is_ok() && theirs.is_owned());
                    }
                })
            })
            .collect();
        greenlets[(round % 4) as usize].kill_nowait();
        assert!(joinall(&greenlets, None));
        for greenlet in greenlets {
            assert!(
                greenlet
                    .join()
                    .map_or_else(|error| error.is_killed(), |()| true)
            );
        }
        assert!(!lock.locked(), "round {round}");
    }
}

/// A guard that outlives its own taking, by a release too many, is none of who has it next.
#[test]
fn guard_that_was_released_by_hand_takes_the_lock_from_nobody() {
    let _deadline = deadline();
    let lock = RLock::new();
    let guard = lock.lock().unwrap();
    lock.release();
    let (taken, over) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let (taken, over, lock) = (&taken, &over, &lock);
        scope.spawn(move || {
            assert!(lock.acquire());
            taken.wait();
            over.wait();
            lock.release();
        });
        taken.wait();
        drop(guard);
        let free = lock.try_acquire();
        over.wait();
        assert!(!free);
    });
    let guard = lock.lock().unwrap();
    lock.release();
    drop(guard);
    assert!(!lock.locked());
}
