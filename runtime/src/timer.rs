//! The timers of one hub: an ordered map on the hub's own thread, and one timerfd.
//!
//! A greenlet has at most one entry. It is left in place when the wait ends early, and moved only
//! when it fires too soon: a connection that sets a time limit for each read costs one entry per
//! limit, not per read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::hub::{self, Job};
use crate::sys::{fd, now_ns};
use crate::task::Task;

/// When, and a number that tells entries of the same moment apart.
pub(crate) type TimerKey = (u64, NonZero<u64>);

pub(crate) enum Entry {
    /// The deadline of a wait.
    Wake(Arc<Task>),
    /// A greenlet of `spawn_later`.
    Start(Arc<Task>, Job),
}

pub(crate) struct Timers {
    fd: OwnedFd,
    /// What the timerfd is set to; `u64::MAX` when it has fired or was never set.
    armed: Cell<u64>,
    next: Cell<NonZero<u64>>,
    entries: RefCell<BTreeMap<TimerKey, Entry>>,
}

impl Timers {
    pub(crate) fn new(fd: OwnedFd) -> Timers {
        Timers {
            fd,
            armed: Cell::new(u64::MAX),
            next: Cell::new(NonZero::<u64>::MIN),
            entries: RefCell::new(BTreeMap::new()),
        }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Makes sure that `task` is looked at by `deadline`.
    pub(crate) fn ensure(&self, task: &Task, deadline: u64, handle: impl FnOnce() -> Arc<Task>) {
        let timer = &task.local().timer;
        if let Some(key) = timer.get() {
            if key.0 <= deadline {
                return;
            }
            self.entries.borrow_mut().remove(&key);
        }
        timer.set(Some(self.insert(deadline, Entry::Wake(handle()))));
    }

    pub(crate) fn insert(&self, at: u64, entry: Entry) -> TimerKey {
        let key = (at, self.next.get());
        self.next.set(key.1.saturating_add(1));
        self.entries.borrow_mut().insert(key, entry);
        if at < self.armed.get() {
            self.armed.set(at);
            fd::arm(&self.fd, at);
        }
        key
    }

    pub(crate) fn cancel(&self, key: TimerKey) -> Option<Entry> {
        self.entries.borrow_mut().remove(&key)
    }

    /// Wakes and starts whoever is due, and arms the timerfd for the next.
    pub(crate) fn fire(&self) {
        self.armed.set(u64::MAX);
        let now = now_ns();
        loop {
            let entry = {
                let mut entries = self.entries.borrow_mut();
                match entries.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    Some(first) => {
                        let at = first.key().0;
                        if at < self.armed.get() {
                            self.armed.set(at);
                            fd::arm(&self.fd, at);
                        }
                        return;
                    }
                    None => return,
                }
            };
            match entry {
                Entry::Wake(task) => self.expire(&task, now),
                Entry::Start(task, job) => {
                    task.local().timer.set(None);
                    hub::local().start(task, job);
                }
            }
        }
    }

    fn expire(&self, task: &Arc<Task>, now: u64) {
        let local = task.local();
        local.timer.set(None);
        match local.deadline.get() {
            Some(deadline) if deadline.get() <= now => {
                local.expired.set(true);
                task.wake_here();
            }
            // The wait that the entry was made for is over; a later one is under way.
            Some(deadline) => self.ensure(task, deadline.get(), || Arc::clone(task)),
            None => {}
        }
    }
}
