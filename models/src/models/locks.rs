//! Permits and locks: handed over, never lost, never held by two.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Model, Told};
use crate::lock::{Condvar, Mutex, Once, RLock, RwLock};
use crate::semaphore::Semaphore;
use crate::switch;

pub(super) const MODELS: &[Model] = &[
    ("a_permit_goes_to_one_who_waits_or_stays", timeout),
    ("a_permit_is_not_lost_with_who_is_killed", kill),
    ("a_permit_excludes_others_and_tells_them", exclusion),
    ("what_is_done_once_is_done_once_and_seen", once),
    ("what_panics_is_done_by_the_next", once_panics),
    ("an_rlock_has_one_owner", rlock),
    ("a_writer_is_alone", rwlock),
    ("a_writer_that_gives_up_holds_up_nobody", rwlock_timeout),
    ("a_change_is_not_missed", condvar),
    (
        "a_notification_is_not_lost_with_who_is_killed",
        condvar_and_kill,
    ),
];

fn timeout() {
    let semaphore = Arc::new(Semaphore::new(0));
    assert!(semaphore.locked());
    let theirs = Arc::clone(&semaphore);
    let taking = switch::spawn_thread(move || theirs.acquire_timeout(Duration::ZERO));
    semaphore.release();
    let taken = usize::from(taking.join());
    assert_eq!(taken + semaphore.counter(), 1);
}

fn kill() {
    let semaphore = Arc::new(Semaphore::new(0));
    assert!(semaphore.locked());
    let (killed, kept) = (Arc::clone(&semaphore), Arc::clone(&semaphore));
    let (victim, one) = switch::spawn(move || killed.acquire());
    let (_, other) = switch::spawn(move || kept.acquire());
    let killer = switch::spawn_thread(move || victim.kill());
    semaphore.release();
    killer.join();
    // If the one who was killed has got it, another is needed for the other.
    if one.join() == Some(true) {
        semaphore.release();
    }
    assert_eq!(other.join(), Some(true));
    assert_eq!(semaphore.counter(), 0);
}

fn exclusion() {
    let (semaphore, told) = (Arc::new(Semaphore::new(1)), Told::default());
    assert!(!semaphore.locked());
    let add = |semaphore: &Arc<Semaphore>| {
        let (semaphore, told) = (Arc::clone(semaphore), told.clone());
        move || {
            let _permit = semaphore.permit().unwrap();
            told.set(told.get() + 1);
        }
    };
    let (_, greenlet) = switch::spawn(add(&semaphore));
    let thread = switch::spawn_thread(add(&semaphore));
    assert!(greenlet.join().is_some());
    thread.join();
    assert_eq!((told.get(), semaphore.counter()), (2, 1));
}

/// Something that has been tried in vain, by which its atomics have been made.
fn tried() -> Arc<Once> {
    let once = Arc::new(Once::new());
    assert!(fails(&once));
    once
}

fn fails(once: &Once) -> bool {
    let payload: Box<dyn Any + Send> = Box::new("no");
    catch_unwind(AssertUnwindSafe(|| {
        once.call_once(|| resume_unwind(payload))
    }))
    .is_err()
}

fn once() {
    let (once, told) = (tried(), Told::default());
    let call = |once: &Arc<Once>| {
        let (once, told) = (Arc::clone(once), told.clone());
        move || {
            assert!(once.call_once(|| told.set(told.get() + 1)));
            assert_eq!(told.get(), 1);
        }
    };
    let (_, greenlet) = switch::spawn(call(&once));
    let thread = switch::spawn_thread(call(&once));
    // Who only looks does not wait, and sees all or nothing.
    if once.is_completed() {
        assert_eq!(told.get(), 1);
    }
    assert!(greenlet.join().is_some());
    thread.join();
}

fn once_panics() {
    let once = tried();
    let theirs = Arc::clone(&once);
    let failing = switch::spawn_thread(move || fails(&theirs));
    let mut runs = 0;
    assert!(once.call_once(|| runs += 1));
    // It has failed before, or found it done.
    failing.join();
    assert!(once.is_completed() && runs == 1);
}

fn rlock() {
    let (lock, told) = (Arc::new(RLock::new()), Told::default());
    assert!(!lock.is_owned());
    let add = |lock: &Arc<RLock>| {
        let (lock, told) = (Arc::clone(lock), told.clone());
        move || {
            let _outer = lock.lock().unwrap();
            let _inner = lock.lock().unwrap();
            told.set(told.get() + 1);
            assert!(lock.is_owned());
        }
    };
    let thread = switch::spawn_thread(add(&lock));
    add(&lock)();
    thread.join();
    assert_eq!(told.get(), 2);
    assert!(!lock.locked() && !lock.is_owned());
}

/// The lock of `std` around the value says if two are in.
fn rwlock() {
    let lock = Arc::new(RwLock::new(0));
    drop(lock.write().unwrap());
    let writer = Arc::clone(&lock);
    let writing = switch::spawn_thread(move || *writer.write().unwrap() += 1);
    let reader = Arc::clone(&lock);
    let (_, reading) = switch::spawn(move || *reader.read().unwrap());
    *lock.write().unwrap() += 1;
    assert!(reading.join().unwrap() <= 2);
    writing.join();
    assert_eq!(*lock.try_write().unwrap(), 2);
}

/// A reader behind it comes in although another reads.
fn rwlock_timeout() {
    let lock = Arc::new(RwLock::new(()));
    let reading = lock.read().unwrap();
    let writer = Arc::clone(&lock);
    let writing = switch::spawn_thread(move || writer.write_timeout(Duration::ZERO).is_ok());
    let reader = Arc::clone(&lock);
    let (_, behind) = switch::spawn(move || reader.read().is_ok());
    assert_eq!(behind.join(), Some(true));
    drop(reading);
    writing.join();
    assert!(lock.try_write().is_ok());
}

fn condvar() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = Arc::clone(&shared);
    drop(shared.0.lock().unwrap());
    let changing = switch::spawn_thread(move || {
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_one();
    });
    let mut guard = shared.0.lock().unwrap();
    while !*guard {
        guard = shared.1.wait(guard).0;
    }
    drop(guard);
    changing.join();
}

/// Two wait, and one of them is killed, also when it has been notified and waits for the value.
fn condvar_and_kill() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    drop(shared.0.lock().unwrap());
    let take = |shared: &Arc<(Mutex<u32>, Condvar)>| {
        let shared = Arc::clone(shared);
        move || {
            let mut guard = shared.0.lock().unwrap();
            while *guard == 0 {
                guard = shared.1.wait(guard).0;
            }
            *guard -= 1;
        }
    };
    let (victim, one) = switch::spawn(take(&shared));
    let (_, other) = switch::spawn(take(&shared));
    *shared.0.lock().unwrap() = 1;
    shared.1.notify_one();
    victim.kill();
    if one.join().is_some() {
        *shared.0.lock().unwrap() = 1;
        shared.1.notify_one();
    }
    assert!(other.join().is_some());
    assert_eq!(*shared.0.lock().unwrap(), 0);
}
