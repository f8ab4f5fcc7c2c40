//! What blocks a greenlet, in place of `runtime/src/switch.rs`. It has the names of that file, so
//! that the runtime's others compile here as they are, and is written anew on purpose: the real one
//! changes stacks, which loom can't follow. Here a wait holds up one of loom's threads. What others
//! can see of a wait is done in the same order; there is nothing of stacks, timers and hooks.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use loom::thread::{self, JoinHandle};

use crate::sys::{PAST, now_ns};
use crate::task::{Sleeper, Task};
use crate::waiter::Waiter;

loom::thread_local! {
    static MYSELF: RefCell<Option<Sleeper>> = RefCell::new(None);
    static KEPT: Cell<Option<Arc<Waiter>>> = Cell::new(None);
}

#[derive(Debug)]
pub(crate) enum Parked {
    Woken,
    Expired,
    Interrupted(Interrupt),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Kill,
    /// Nobody has hooks here.
    Hook,
}

/// The payload of a kill.
struct GreenletExit;

pub(crate) fn raise(interrupt: Interrupt) -> ! {
    match interrupt {
        Interrupt::Kill => resume_unwind(Box::new(GreenletExit)),
        Interrupt::Hook => unreachable!("nobody has hooks here"),
    }
}

pub(crate) fn may_wait() -> bool {
    true
}

pub(crate) fn check() {
    if let Some(task) = greenlet_that_calls()
        && task.is_killed()
    {
        raise(Interrupt::Kill);
    }
}

pub(crate) fn share() {}

pub(crate) fn let_others_go_first() {}

pub(crate) fn raise_hook_later() {}

/// A time-out of zero is past, another one never comes.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<u64> {
    timeout.filter(Duration::is_zero).map(|_| PAST)
}

pub(crate) fn sleeper() -> Sleeper {
    MYSELF.with(|myself| {
        let mut myself = myself.borrow_mut();
        myself
            .get_or_insert_with(|| Sleeper::Thread(Arc::default()))
            .clone()
    })
}

/// Threads keep theirs too.
pub(crate) fn with_kept<R>(f: impl FnOnce(&Cell<Option<Arc<Waiter>>>) -> R) -> Option<R> {
    Some(KEPT.with(f))
}

fn greenlet_that_calls() -> Option<Arc<Task>> {
    match sleeper() {
        Sleeper::Greenlet(task) => Some(task),
        _ => None,
    }
}

pub(crate) fn park(deadline: Option<u64>) -> Parked {
    let expired = deadline.is_some_and(|deadline| deadline <= now_ns());
    match sleeper() {
        Sleeper::Greenlet(task) => return park_greenlet(&task, deadline),
        Sleeper::Thread(parker) => parker.park(deadline),
        Sleeper::Coroutine(parker) => match *parker {},
    }
    match expired {
        true => Parked::Expired,
        false => Parked::Woken,
    }
}

pub(crate) fn park_greenlet(task: &Task, deadline: Option<u64>) -> Parked {
    if task.is_killed() {
        return Parked::Interrupted(Interrupt::Kill);
    }
    let expired = deadline.is_some_and(|deadline| deadline <= now_ns());
    if !expired {
        task.run_hub();
    }
    match expired {
        _ if task.is_killed() => Parked::Interrupted(Interrupt::Kill),
        true => Parked::Expired,
        false => Parked::Woken,
    }
}

pub(crate) fn park_through() {
    match sleeper() {
        Sleeper::Greenlet(task) => task.run_hub(),
        Sleeper::Thread(parker) => parker.park(None),
        Sleeper::Coroutine(parker) => match *parker {},
    }
}

/// Starts a greenlet; what it returns is none if it was killed.
pub(crate) fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> (Arc<Task>, Handle<Option<T>>) {
    let task = Arc::<Task>::default();
    let theirs = Arc::clone(&task);
    let body = move || {
        MYSELF.with(|myself| myself.replace(Some(Sleeper::Greenlet(theirs))));
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Some(value),
            Err(payload) if payload.is::<GreenletExit>() => None,
            Err(payload) => resume_unwind(payload),
        }
    };
    // Made here, as two threads use it.
    assert!(!task.is_killed());
    (task, Handle(thread::spawn(body)))
}

/// Starts a thread.
pub(crate) fn spawn_thread<T: 'static>(f: impl FnOnce() -> T + 'static) -> Handle<T> {
    Handle(thread::spawn(f))
}

pub(crate) struct Handle<T>(JoinHandle<T>);

impl<T> Handle<T> {
    pub(crate) fn join(self) -> T {
        self.0.join().expect("it ends")
    }
}
