//! [`Condvar`]: waiting for a change of what a [`Mutex`](super::Mutex) protects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::MutexGuard;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::Mutex;
use crate::task::lock;
use crate::waiter::{Stop, WaitList, Waiter};

/// Where greenlets and threads wait for a change of the value in a [`Mutex`](crate::Mutex), which
/// others may have meanwhile. gevent has none of its own: there, Python's `threading.Condition` is
/// used over its locks.
///
/// Those who wait are notified in the order in which they came. A notification whose receiver is
/// killed or runs out of a time-out before it has the value again goes to the next: none is lost.
///
/// Every wait gives the guard back together with a bool, as [`Event::wait`](crate::Event::wait)
/// does. The greenlet does not have the value while it waits; killed there, it unwinds without it.
///
/// ```
/// use greenwood_runtime::{spawn, Condvar, Mutex};
/// use std::sync::Arc;
///
/// let shared = Arc::new((Mutex::new(0), Condvar::new()));
/// let theirs = Arc::clone(&shared);
/// let waiter = spawn(move || {
///     let (count, changed) = &*theirs;
///     let (count, enough) = changed.wait_while(count.lock().unwrap(), |count| *count < 3);
///     (*count, enough)
/// });
/// let (count, changed) = &*shared;
/// for _ in 0..3 {
///     *count.lock().unwrap() += 1;
///     changed.notify_all();
/// }
/// assert_eq!(waiter.join().unwrap(), (3, true));
/// ```
#[derive(Default)]
pub struct Condvar {
    waiters: Mutex<WaitList<Arc<Waiter>>>,
}

impl Condvar {
    /// A condition that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar {
            waiters: Mutex::new(WaitList::new()),
        }
    }

    /// Lets others have the value, waits for a notification and then for the value. False only in a
    /// greenlet that unwinds and may not wait: the guard has been kept then.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> (MutexGuard<'a, T>, bool) {
        self.wait_until(guard, None)
    }

    /// As [`wait`](Condvar::wait), but waits for a notification no longer than `timeout`; whether
    /// one came. The value is then waited for as long as it takes.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_until(guard, switch::deadline(Some(timeout)))
    }

    /// Waits for as long as `condition` holds of the value, which is looked at now and after each
    /// notification: Python's `wait_for` with the opposite condition. False, the condition still
    /// holding, only in a greenlet that unwinds and would have to wait.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_while_until(guard, condition, None)
    }

    /// As [`wait_while`](Condvar::wait_while), but waits for notifications no longer than `timeout`
    /// in all. False if the condition still holds.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_while_until(guard, condition, switch::deadline(Some(timeout)))
    }

    /// Notifies who waits longest, if anybody does. The caller need not have the value.
    pub fn notify_one(&self) {
        // The guard is dropped at the end of the statement.
        let next = lock(&self.waiters).claim_one();
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Notifies all who wait, in the order in which they came. The caller need not have the value.
    pub fn notify_all(&self) {
        let waiters = lock(&self.waiters).take();
        for waiter in waiters {
            waiter.notify();
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<u64>,
    ) -> (MutexGuard<'a, T>, bool) {
        switch::check();
        if !switch::may_wait() {
            return (guard, false);
        }
        let waiter = Waiter::new();
        // Before the value is free: a change made from then on is not missed.
        lock(&self.waiters).push(Arc::clone(&waiter));
        let mutex = guard.mutex();
        drop(guard);
        let notified = match waiter.wait(WaitsFor::Condvar, deadline) {
            Ok(()) => true,
            Err(stop) => {
                lock(&self.waiters).abandon();
                match stop {
                    Stop::Deadline => false,
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        };
        let mut received = Received(notified.then_some(self));
        let guard = mutex.lock().expect("who has waited may wait");
        received.0 = None;
        (guard, notified)
    }

    fn wait_while_until<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        deadline: Option<u64>,
    ) -> (MutexGuard<'a, T>, bool) {
        while condition(&mut guard) {
            let notified;
            (guard, notified) = self.wait_until(guard, deadline);
            if !notified {
                let over = !condition(&mut guard);
                return (guard, over);
            }
        }
        (guard, true)
    }
}

/// A notification that has been received: passed on to the next when an interrupt comes before the
/// receiver could make use of it.
struct Received<'a>(Option<&'a Condvar>);

impl Drop for Received<'_> {
    fn drop(&mut self) {
        if let Some(condvar) = self.0 {
            condvar.notify_one();
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiters = lock(&self.waiters).len();
        f.debug_struct("Condvar")
            .field("waiters", &waiters)
            .finish()
    }
}
