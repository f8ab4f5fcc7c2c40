//! [`CountDownLatch`]: waiting for a number of things to be done.

use std::fmt;
use std::time::Duration;

use crate::event::Event;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};

/// Opens when it has been counted down to zero, and stays open.
///
/// gevent has none; there it is an `Event` and a counter, or `wait` on a list. It is for work that
/// has no handle to wait for.
///
/// ```
/// use greenwood_runtime::{CountDownLatch, spawn};
/// use std::sync::Arc;
///
/// let done = Arc::new(CountDownLatch::new(3));
/// for _ in 0..3 {
///     let done = Arc::clone(&done);
///     spawn(move || done.count_down());
/// }
/// assert!(done.wait());
/// ```
pub struct CountDownLatch {
    left: AtomicUsize,
    open: Event,
}

impl CountDownLatch {
    /// One that opens after `count` times; with 0 it is open.
    pub fn new(count: usize) -> CountDownLatch {
        let open = Event::new();
        if count == 0 {
            open.set();
        }
        CountDownLatch {
            left: AtomicUsize::new(count),
            open,
        }
    }

    /// Counts one; whether that was the last. Those who wait are then woken, in the order in which
    /// they came. Does nothing when it is open.
    pub fn count_down(&self) -> bool {
        let before = self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(1)
            });
        let last = before == Ok(1);
        if last {
            self.open.set();
        }
        last
    }

    /// How many times are left.
    pub fn count(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Waits until it is open. False only in a greenlet that unwinds and would have to wait.
    pub fn wait(&self) -> bool {
        self.open.wait()
    }

    /// Waits until it is open, no longer than `timeout`; whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.open.wait_timeout(timeout)
    }
}

impl Sealed for CountDownLatch {}

/// Ready when it is open.
impl Waitable for CountDownLatch {
    fn ready(&self) -> bool {
        self.open.is_set()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.open.watch(watcher)
    }
}

impl fmt::Debug for CountDownLatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountDownLatch")
            .field("count", &self.count())
            .field("open", &self.open)
            .finish()
    }
}
