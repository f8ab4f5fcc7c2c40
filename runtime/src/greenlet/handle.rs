//! [`Greenlet`]: the handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::outcome::Outcome;
use crate::error::JoinError;
use crate::hub;
use crate::switch::{self, Interrupt};
use crate::sys::current;
use crate::task::{Task, lock};
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};
use crate::waiter::{Stop, Waiter};

/// A greenlet: gevent's `Greenlet`. Dropping the handle lets it run on.
///
/// Any number of greenlets and threads may wait for its end.
pub struct Greenlet<T> {
    pub(super) task: Arc<Task>,
    pub(super) outcome: Arc<Outcome<T>>,
}

impl<T> Greenlet<T> {
    /// Waits for its end and returns its result: gevent's `get`.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, was killed, or could not be started.
    pub fn join(self) -> Result<T, JoinError> {
        if !await_end(&self.task, None) {
            return Err(JoinError::Unwinding);
        }
        let result = lock(&self.outcome.0).take();
        result.expect("the result is in place before the end, and `join` takes the only handle")
    }

    /// Waits for its end, but no longer than `timeout`; whether it has ended. Then
    /// [`join`](Greenlet::join) returns at once.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        await_end(&self.task, switch::deadline(Some(timeout)))
    }

    /// Kills it and waits for its end: gevent's `kill`.
    ///
    /// It unwinds from the call in which it blocks, or the next that it makes; destructors run. One
    /// that has not started never runs. Killing what has ended does nothing; killing oneself
    /// unwinds at once.
    pub fn kill(&self) {
        self.kill_nowait();
        await_end(&self.task, None);
    }

    /// Kills it and waits for its end, but no longer than `timeout`; whether it has ended.
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.kill_nowait();
        await_end(&self.task, switch::deadline(Some(timeout)))
    }

    /// Kills it and does not wait: gevent's `kill(block=False)`.
    pub fn kill_nowait(&self) {
        kill_task(&self.task);
    }

    /// Whether it has ended.
    pub fn ready(&self) -> bool {
        self.task.has_ended()
    }

    /// The name that it was given, else `greenlet-` and its number.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// Its number, unlike that of any other greenlet of the process.
    pub fn id(&self) -> u64 {
        self.task.id()
    }

    /// The hub that it belongs to.
    pub fn hub(&self) -> usize {
        self.task.hub() as usize
    }
}

impl<T> Sealed for Greenlet<T> {}

/// Ready when it has ended.
impl<T> Waitable for Greenlet<T> {
    fn ready(&self) -> bool {
        self.task.has_ended()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.task.watch_end(watcher)
    }
}

impl<T> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("hub", &self.hub())
            .field("ready", &self.ready())
            .finish()
    }
}

pub(super) fn kill_task(task: &Arc<Task>) {
    if task.has_ended() {
        return;
    }
    let myself = current::with(|current| current.is_some_and(|current| current.id() == task.id()));
    task.mark_killed();
    if myself {
        if switch::may_wait() {
            switch::raise(Interrupt::Kill);
        }
        return;
    }
    hub::kill(task);
}

/// Waits for the end of a greenlet; false when the deadline came first, or the caller unwinds.
pub(crate) fn await_end(task: &Arc<Task>, deadline: Option<u64>) -> bool {
    switch::check();
    loop {
        if task.has_ended() {
            return true;
        }
        if !switch::may_wait() {
            return false;
        }
        let waiter = Waiter::new();
        if !task.notify_at_end(&waiter) {
            return true;
        }
        match waiter.wait(deadline) {
            Ok(()) => {}
            Err(Stop::Deadline) => return task.has_ended(),
            Err(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
        }
    }
}
