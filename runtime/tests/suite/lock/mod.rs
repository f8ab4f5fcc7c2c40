//! Semaphores and locks.

mod condvar;
mod mutex;
mod once;
mod permits;
mod rlock;
mod rwlock;
mod semaphore;

use std::sync::Arc;

use greenwood_runtime::{
    Condvar, Event, Greenlet, Mutex, MutexGuard, Once, OnceCell, Permit, RLock, RLockGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard, Semaphore,
};

use crate::support::{OnDrop, spawn_on};

const fn may_travel<T: Send + Sync>() {}

const _: () = {
    may_travel::<Mutex<u32>>();
    may_travel::<Mutex<std::cell::Cell<u32>>>();
    may_travel::<RwLock<u32>>();
    may_travel::<OnceCell<u32>>();
    may_travel::<(Condvar, Once, RLock, Semaphore)>();
    may_travel::<Permit<'_>>();
};

/// Asserts at compile time that a type is not `Send`: with `Send`, there would be two candidates.
macro_rules! stays_in_its_greenlet {
    ($($kind:ty),+) => {$(
        const _: fn() = || {
            trait Candidate<A> {
                fn found() {}
            }
            impl<T: ?Sized> Candidate<()> for T {}
            struct Second;
            impl<T: ?Sized + Send> Candidate<Second> for T {}
            let _ = <$kind as Candidate<_>>::found;
        };
    )+};
}

stays_in_its_greenlet!(
    MutexGuard<'static, u32>,
    RLockGuard<'static>,
    RwLockReadGuard<'static, u32>,
    RwLockWriteGuard<'static, u32>
);

/// A greenlet that is killed while it waits; what `f` returns is what a call in its destructor
/// returned, while it unwound.
fn in_unwinding<T: Send + 'static>(hub: usize, f: impl Fn() -> T + Send + 'static) -> T {
    let (answer, waits) = (
        Arc::new(std::sync::Mutex::new(None)),
        Arc::new(Event::new()),
    );
    let (told, theirs) = (Arc::clone(&answer), Arc::clone(&waits));
    let greenlet: Greenlet<()> = spawn_on(hub, move || {
        let _at_the_end = OnDrop(|| *told.lock().unwrap() = Some(f()));
        theirs.set();
        Event::new().wait();
    });
    waits.wait();
    greenlet.kill();
    let answer = answer.lock().unwrap().take();
    answer.expect("the destructor has run")
}
