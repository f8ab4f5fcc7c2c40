//! Greenlets, in place of `runtime/src/task.rs`: each has a hub for itself, and both are one thread
//! of loom's. Written anew on purpose, with the names of that file, which is about stacks, hubs with
//! many greenlets, and locals. What is left of it is how a greenlet is woken and killed.

use std::cell::Cell;
use std::sync::{Arc, PoisonError};

use crate::inbox::Inbox;
use crate::run_info::WaitsFor;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::sys::coroutine::ForeignParker;
use crate::thread_parker::ThreadParker;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A greenlet, and its hub.
#[derive(Default)]
pub(crate) struct Task {
    killed: AtomicBool,
    local: Local,
    inbox: Inbox<Message>,
    /// The hub's eventfd.
    event: ThreadParker,
}

/// What may come for it.
enum Message {
    Wake,
    Kill,
}

#[derive(Default)]
pub(crate) struct Local {
    pub(crate) frame: Frame,
}

#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) waits_for: Cell<WaitsFor>,
}

impl Default for Inbox<Message> {
    fn default() -> Inbox<Message> {
        Inbox::new()
    }
}

impl Task {
    pub(crate) fn local(&self) -> &Local {
        &self.local
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// As `kill_task` and `hub::kill`.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.post(Message::Kill);
    }

    fn post(&self, message: Message) {
        if self.inbox.post(message) {
            self.event.unpark();
        }
    }

    /// The hub's loop, up to the moment in which it wakes the greenlet.
    pub(crate) fn run_hub(&self) {
        let mut messages = Vec::new();
        while messages.is_empty() {
            self.event.park(None);
            self.inbox.take(&mut messages);
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// As in the runtime.
#[derive(Clone, Debug)]
pub(crate) enum Sleeper {
    Greenlet(Arc<Task>),
    Thread(Arc<ThreadParker>),
    Coroutine(Arc<ForeignParker>),
}

impl Sleeper {
    pub(crate) fn wake(&self) {
        match self {
            Sleeper::Greenlet(task) => task.post(Message::Wake),
            Sleeper::Thread(parker) => parker.unpark(),
            Sleeper::Coroutine(parker) => match **parker {},
        }
    }
}
