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
use crate::stats::Counters;
use crate::sys::{fd, now_ns};
use crate::task::Task;

/// Timers that have just fired are followed by the next ones no sooner, in ns: a millisecond. A
/// timer alone is on time to some 50 µs; but where thousands are due each second, the system's part
/// of a wake (a sleep, an interrupt, a system call or two) is had once for all that are due within a
/// millisecond, and not for each. gevent, whose loop counts in milliseconds, is as late.
const SLACK: u64 = 1_000_000;

/// When, and a number that tells entries of the same moment apart.
pub(crate) type TimerKey = (u64, NonZero<u64>);

/// What is to be done: two words, as there is one for each connection that has just come.
pub(crate) struct Entry {
    task: Arc<Task>,
    /// There for a greenlet of `spawn_later`, which is to begin; else it is the deadline of a wait.
    start: Option<Box<Job>>,
}

pub(crate) struct Timers {
    fd: OwnedFd,
    /// What the timerfd is set to; `u64::MAX` when it has fired or was never set.
    armed: Cell<u64>,
    next: Cell<NonZero<u64>>,
    /// When the hub is to look after stacks; `u64::MAX`: not at all.
    trim_at: Cell<u64>,
    entries: RefCell<BTreeMap<TimerKey, Entry>>,
    counters: &'static Counters,
}

impl Timers {
    pub(crate) fn new(fd: OwnedFd, counters: &'static Counters) -> Timers {
        Timers {
            counters,
            fd,
            armed: Cell::new(u64::MAX),
            next: Cell::new(NonZero::<u64>::MIN),
            trim_at: Cell::new(u64::MAX),
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
        timer.set(Some(self.insert(deadline, handle(), None)));
    }

    /// Has a greenlet started at that moment.
    pub(crate) fn start_at(&self, at: u64, task: &Arc<Task>, job: Job) {
        let key = self.insert(at, Arc::clone(task), Some(Box::new(job)));
        task.local().timer.set(Some(key));
    }

    fn insert(&self, at: u64, task: Arc<Task>, start: Option<Box<Job>>) -> TimerKey {
        let key = (at, self.next.get());
        self.next.set(key.1.saturating_add(1));
        let mut entries = self.entries.borrow_mut();
        entries.insert(key, Entry { task, start });
        self.counters.timers(entries.len());
        self.arm(at);
        key
    }

    fn arm(&self, at: u64) {
        if at < self.armed.get() {
            self.armed.set(at);
            fd::arm(&self.fd, at);
        }
    }

    /// Has the hub look after stacks then, or earlier if it has been said so.
    pub(crate) fn trim_at(&self, at: u64) {
        let at = at.min(self.trim_at.get());
        self.trim_at.set(at);
        self.arm(at);
    }

    /// Whether it is time for that; true once only.
    pub(crate) fn is_time_to_trim(&self) -> bool {
        let at = self.trim_at.get();
        let is_time = at <= now_ns();
        match is_time {
            true => self.trim_at.set(u64::MAX),
            false if at != u64::MAX => self.arm(at),
            false => {}
        }
        is_time
    }

    /// Removes an entry; what would have been started by it.
    pub(crate) fn cancel(&self, key: TimerKey) -> Option<Job> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.remove(&key)?;
        self.counters.timers(entries.len());
        entry.start.map(|job| *job)
    }

    /// Wakes and starts whoever is due, and arms the timerfd for the next.
    pub(crate) fn fire(&self) {
        self.armed.set(u64::MAX);
        let now = now_ns();
        self.counters.looked_at_the_clock(now);
        if let Some((&(at, _), _)) = self.entries.borrow().first_key_value()
            && at <= now
        {
            self.counters.late(now - at);
        }
        loop {
            let entry = {
                let mut entries = self.entries.borrow_mut();
                match entries.first_entry() {
                    Some(first) if first.key().0 <= now => {
                        let entry = first.remove();
                        self.counters.timers(entries.len());
                        entry
                    }
                    Some(first) => {
                        self.arm(first.key().0.max(now.saturating_add(SLACK)));
                        return;
                    }
                    None => return,
                }
            };
            let Entry { task, start } = entry;
            match start {
                None => self.expire(&task, now),
                Some(job) => {
                    task.local().timer.set(None);
                    hub::local().start(task, *job);
                }
            }
        }
    }

    /// The greenlets that wait for their time, each with the moment.
    pub(crate) fn scheduled(&self) -> Vec<(u64, Arc<Task>)> {
        let entries = self.entries.borrow();
        entries
            .iter()
            .filter(|(_, entry)| entry.start.is_some())
            .map(|(key, entry)| (key.0, Arc::clone(&entry.task)))
            .collect()
    }

    fn expire(&self, task: &Arc<Task>, now: u64) {
        let local = task.local();
        local.timer.set(None);
        match local.deadline.get() {
            Some(deadline) if deadline.get() <= now => {
                local.frame.expired.set(true);
                task.wake_here();
            }
            // The wait that the entry was made for is over; a later one is under way.
            Some(deadline) => self.ensure(task, deadline.get(), || Arc::clone(task)),
            None => {}
        }
    }
}
