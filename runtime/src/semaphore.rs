//! [`Semaphore`] and [`BoundedSemaphore`]: gevent's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::lock::LockError;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::{Mutex, MutexGuard};
use crate::task::lock;
use crate::wait::iwait;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher, Watchers};
use crate::waiter::{Stop, WaitList, Waiter};

/// A counter of permits: gevent's `Semaphore`. Fair: a permit goes to whoever waits longest.
///
/// ```
/// use greenwood_runtime::Semaphore;
/// let two = Semaphore::new(2);
/// assert!(two.acquire() && two.try_acquire());
/// assert!(!two.try_acquire());
/// two.release();
/// {
///     let _permit = two.permit()?;
///     assert!(two.locked());
/// }
/// assert!(!two.locked());
/// # Ok::<(), greenwood_runtime::LockError>(())
/// ```
pub struct Semaphore {
    state: Mutex<State>,
}

struct State {
    permits: usize,
    waiters: WaitList<Arc<Waiter>>,
    watchers: Watchers,
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore {
            state: Mutex::new(State {
                permits,
                waiters: WaitList::new(),
                watchers: Watchers::new(),
            }),
        }
    }

    /// Takes a permit, waiting for one if need be. False only in a greenlet that unwinds and would
    /// have to wait.
    #[must_use = "without a permit nothing may be released"]
    #[inline]
    pub fn acquire(&self) -> bool {
        self.acquire_until(None)
    }

    /// Takes a permit, waiting for one no longer than `timeout`; whether it has one.
    #[must_use = "without a permit nothing may be released"]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_until(switch::deadline(Some(timeout)))
    }

    /// Takes a permit if there is one: gevent's `acquire(blocking=False)`.
    #[must_use = "without a permit nothing may be released"]
    pub fn try_acquire(&self) -> bool {
        let mut state = lock(&self.state);
        if state.permits == 0 {
            return false;
        }
        state.permits -= 1;
        true
    }

    /// Takes a permit as [`acquire`](Semaphore::acquire) does, which is given back when the value is
    /// dropped, however that comes: gevent's `with`.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    pub fn permit(&self) -> Result<Permit<'_>, LockError> {
        self.permit_until(None)
    }

    /// Takes a permit that is given back when dropped, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError`]: there was none in that time.
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Permit<'_>, LockError> {
        self.permit_until(switch::deadline(Some(timeout)))
    }

    /// Takes a permit that is given back when dropped, if there is one.
    ///
    /// # Errors
    ///
    /// [`LockError`]: there is none.
    pub fn try_permit(&self) -> Result<Permit<'_>, LockError> {
        Permit::taken(self.try_acquire(), self)
    }

    /// Gives a permit back, or adds one: it may exceed the number at the start, as in gevent.
    ///
    /// # Panics
    ///
    /// If there are `usize::MAX` permits already.
    pub fn release(&self) {
        let released = self.release_below(usize::MAX);
        assert!(released, "more permits than can be counted");
    }

    /// Waits until a permit can be had, and does not take it: gevent's `wait`. How many there are,
    /// which may be none when others were quicker.
    pub fn wait(&self) -> usize {
        self.wait_ready(None)
    }

    /// As [`wait`](Semaphore::wait), no longer than `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> usize {
        self.wait_ready(Some(timeout))
    }

    /// How many permits can be had without waiting.
    pub fn counter(&self) -> usize {
        lock(&self.state).permits
    }

    /// Whether an [`acquire`](Semaphore::acquire) would have to wait.
    pub fn locked(&self) -> bool {
        self.counter() == 0
    }

    pub(crate) fn permit_until(&self, deadline: Option<u64>) -> Result<Permit<'_>, LockError> {
        Permit::taken(self.acquire_until(deadline), self)
    }

    #[inline]
    pub(crate) fn acquire_until(&self, deadline: Option<u64>) -> bool {
        switch::check();
        let mut state = lock(&self.state);
        if state.permits > 0 {
            state.permits -= 1;
            return true;
        }
        self.await_permit(state, deadline)
    }

    #[inline(never)]
    fn await_permit(&self, mut state: MutexGuard<'_, State>, deadline: Option<u64>) -> bool {
        if !switch::may_wait() {
            return false;
        }
        let waiter = Waiter::new();
        state.waiters.push(Arc::clone(&waiter));
        drop(state);
        match waiter.wait(WaitsFor::Semaphore, deadline) {
            // The permit came with the notification.
            Ok(()) => true,
            Err(stop) => {
                lock(&self.state).waiters.abandon();
                match stop {
                    Stop::Deadline => false,
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    /// Gives a permit back unless there are so many already; whether it did.
    fn release_below(&self, bound: usize) -> bool {
        let (next, watchers) = {
            let mut state = lock(&self.state);
            if state.permits >= bound {
                return false;
            }
            // Handed over directly: whoever comes now can't overtake. Who gave up at this moment is
            // passed over.
            let next = state.waiters.claim_one();
            let mut watchers = None;
            if next.is_none() {
                state.permits += 1;
                if !state.watchers.is_empty() {
                    watchers = Some(state.watchers.take());
                }
            }
            (next, watchers)
        };
        if let Some(next) = next {
            next.wake();
        }
        if let Some(watchers) = watchers {
            watchers.tell();
        }
        true
    }

    /// Gives a permit to everybody who waits and whoever will come.
    pub(crate) fn open(&self) {
        let waiters = {
            let mut state = lock(&self.state);
            state.permits = usize::MAX;
            state.waiters.take()
        };
        for waiter in waiters {
            waiter.notify();
        }
    }

    fn wait_ready(&self, timeout: Option<Duration>) -> usize {
        iwait(&[self], timeout).next();
        self.counter()
    }

    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (permits, waiters) = {
            let state = lock(&self.state);
            (state.permits, state.waiters.len())
        };
        f.debug_struct(name)
            .field("permits", &permits)
            .field("waiters", &waiters)
            .finish()
    }
}

/// One permit, as in gevent.
impl Default for Semaphore {
    fn default() -> Semaphore {
        Semaphore::new(1)
    }
}

impl Sealed for Semaphore {}

/// Ready when a permit can be had. Nothing is taken by waiting, and those who acquire come first.
impl Waitable for Semaphore {
    fn ready(&self) -> bool {
        !self.locked()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        let mut state = lock(&self.state);
        let locked = state.permits == 0;
        if locked {
            state.watchers.add(watcher);
        }
        locked
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("Semaphore", f)
    }
}

/// A permit of a [`Semaphore`] or [`BoundedSemaphore`], given back when dropped.
#[derive(Debug)]
#[must_use = "the permit is given back at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    bound: usize,
}

impl<'a> Permit<'a> {
    fn taken(taken: bool, semaphore: &'a Semaphore) -> Result<Permit<'a>, LockError> {
        match taken {
            true => Ok(Permit {
                semaphore,
                bound: usize::MAX,
            }),
            false => Err(LockError),
        }
    }

    /// Keeps the permit taken for good: somebody else will release it.
    pub fn forget(mut self) {
        // Nothing is below a bound of zero.
        self.bound = 0;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // Refused when others have released too often: that has been reported to them.
        self.semaphore.release_below(self.bound);
    }
}

/// A [`Semaphore`] that never has more permits than at the start: gevent's `BoundedSemaphore`.
///
/// ```
/// use greenwood_runtime::BoundedSemaphore;
/// let one = BoundedSemaphore::new(1);
/// let permit = one.permit()?;
/// drop(permit);
/// assert!(one.release().is_err());
/// # Ok::<(), greenwood_runtime::LockError>(())
/// ```
pub struct BoundedSemaphore {
    semaphore: Semaphore,
    bound: usize,
}

impl BoundedSemaphore {
    /// A semaphore with so many permits, and never more.
    pub const fn new(permits: usize) -> BoundedSemaphore {
        BoundedSemaphore {
            semaphore: Semaphore::new(permits),
            bound: permits,
        }
    }

    /// As [`Semaphore::acquire`].
    #[must_use = "without a permit nothing may be released"]
    pub fn acquire(&self) -> bool {
        self.semaphore.acquire()
    }

    /// As [`Semaphore::acquire_timeout`].
    #[must_use = "without a permit nothing may be released"]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.semaphore.acquire_timeout(timeout)
    }

    /// As [`Semaphore::try_acquire`].
    #[must_use = "without a permit nothing may be released"]
    pub fn try_acquire(&self) -> bool {
        self.semaphore.try_acquire()
    }

    /// As [`Semaphore::permit`].
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    pub fn permit(&self) -> Result<Permit<'_>, LockError> {
        self.taken(self.acquire())
    }

    /// As [`Semaphore::permit_timeout`].
    ///
    /// # Errors
    ///
    /// [`LockError`]: there was none in that time.
    pub fn permit_timeout(&self, timeout: Duration) -> Result<Permit<'_>, LockError> {
        self.taken(self.acquire_timeout(timeout))
    }

    /// As [`Semaphore::try_permit`].
    ///
    /// # Errors
    ///
    /// [`LockError`]: there is none.
    pub fn try_permit(&self) -> Result<Permit<'_>, LockError> {
        self.taken(self.try_acquire())
    }

    /// Gives a permit back.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`] if none is taken: a mistake of the caller's, and nothing has changed. gevent
    /// raises `ValueError`.
    pub fn release(&self) -> Result<(), ReleaseError> {
        match self.semaphore.release_below(self.bound) {
            true => Ok(()),
            false => Err(ReleaseError),
        }
    }

    /// As [`Semaphore::wait`].
    pub fn wait(&self) -> usize {
        self.semaphore.wait()
    }

    /// As [`Semaphore::wait_timeout`].
    pub fn wait_timeout(&self, timeout: Duration) -> usize {
        self.semaphore.wait_timeout(timeout)
    }

    /// How many permits can be had without waiting.
    pub fn counter(&self) -> usize {
        self.semaphore.counter()
    }

    /// Whether an [`acquire`](BoundedSemaphore::acquire) would have to wait.
    pub fn locked(&self) -> bool {
        self.semaphore.locked()
    }

    fn taken(&self, taken: bool) -> Result<Permit<'_>, LockError> {
        let mut permit = Permit::taken(taken, &self.semaphore)?;
        permit.bound = self.bound;
        Ok(permit)
    }
}

/// One permit, as in gevent.
impl Default for BoundedSemaphore {
    fn default() -> BoundedSemaphore {
        BoundedSemaphore::new(1)
    }
}

impl Sealed for BoundedSemaphore {}

/// Ready when a permit can be had.
impl Waitable for BoundedSemaphore {
    fn ready(&self) -> bool {
        self.semaphore.ready()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.semaphore.watch(watcher)
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.semaphore.debug("BoundedSemaphore", f)
    }
}

/// A [`BoundedSemaphore`] has been released more often than acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseError;

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was released more often than acquired")
    }
}

impl std::error::Error for ReleaseError {}
