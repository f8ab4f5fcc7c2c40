//! Time-outs: gevent's `Timeout` and `with_timeout`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Elapsed;
use crate::seldom::Seldom;
use crate::switch::{self, TimeoutExpired};
use crate::sys::current;
use crate::task::Task;

/// Runs `f`, but no longer than `duration`: gevent's `with_timeout`.
///
/// When the time is up, the blocking call in which `f` waits (or the next that it makes) unwinds to
/// here; destructors run. Code that computes without blocking is not interrupted. Time-outs nest:
/// each ends at the call that owns it, and of several that have expired the one with the earliest
/// deadline is raised. Zero expires at the first blocking call. Works on plain threads too.
///
/// # Errors
///
/// [`Elapsed`] if the time was up first.
///
/// ```
/// use greenwood_runtime::{sleep, with_timeout};
/// use std::time::Duration;
///
/// let result = with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(60)));
/// assert!(result.is_err());
/// assert_eq!(with_timeout(Duration::from_secs(60), || 1), Ok(1));
/// ```
pub fn with_timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    Timeout::start(duration).catch(f)
}

/// A time limit for everything that blocks until it is dropped: gevent's `Timeout`, started.
///
/// When it expires, a blocking call unwinds the greenlet. [`with_timeout`] catches that where it
/// belongs and is what one mostly wants; a bare `Timeout` that expires ends the greenlet, as an
/// uncaught `Timeout` does in gevent, unless [`catch`](Timeout::catch) is there.
///
/// It belongs to the greenlet (or thread) that started it, wherever it is moved, and so is not
/// `Send`.
#[derive(Debug)]
pub struct Timeout {
    /// None: a limit beyond the clock's range, which never expires.
    id: Option<u64>,
    /// Whose blocking calls it limits; none: those of a plain thread. It may have been moved to
    /// another greenlet of the hub since.
    owner: Option<Arc<Task>>,
    not_send: std::marker::PhantomData<*const ()>,
}

impl Timeout {
    /// Starts a time limit of `duration` from now.
    pub fn start(duration: Duration) -> Timeout {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let deadline = switch::deadline(Some(duration));
        let timeout = Timeout {
            id: deadline.map(|_| NEXT.fetch_add(1, Ordering::Relaxed)),
            owner: current::get(),
            not_send: std::marker::PhantomData,
        };
        if let (Some(id), Some(deadline)) = (timeout.id, deadline) {
            timeout.with_limits(|limits| limits.as_mut().push((id, deadline)));
        }
        timeout
    }

    /// Runs `f` under this limit.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if this limit ended it. Others pass through.
    pub fn catch<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Ok(value),
            Err(payload) => match payload.downcast_ref::<TimeoutExpired>() {
                Some(expired) if Some(expired.0) == self.id => {
                    self.cancel();
                    Err(Elapsed)
                }
                _ => resume_unwind(payload),
            },
        }
    }

    /// Ends the limit before its time.
    pub fn cancel(&self) {
        if let Some(id) = self.id {
            self.with_limits(|limits| {
                limits.retain(|&(other, _)| other != id);
                if limits.as_slice().is_empty() && self.owner.is_none() {
                    // Nobody cleans up behind a thread.
                    limits.take();
                }
            });
        }
    }

    /// Whether the limit is in force.
    pub fn pending(&self) -> bool {
        self.id.is_some_and(|id| {
            self.with_limits(|limits| limits.as_slice().iter().any(|limit| limit.0 == id))
        })
    }

    /// Calls `f` with all time-outs in force where this one belongs: (identity, deadline).
    fn with_limits<R>(&self, f: impl FnOnce(&mut Seldom<(u64, u64)>) -> R) -> R {
        match &self.owner {
            Some(task) => f(&mut task.local().frame.timeouts.borrow_mut()),
            None => switch::with_thread_frame(|frame| f(&mut frame.timeouts.borrow_mut())),
        }
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        self.cancel();
    }
}
