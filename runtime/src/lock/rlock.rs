//! [`RLock`]: gevent's `RLock`.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::{LockError, NOBODY, caller};
use crate::semaphore::Semaphore;
use crate::switch;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A lock that its owner, a greenlet or a thread, may take again and again: gevent's `RLock`.
///
/// It is free when it has been released as often as it was acquired. It protects no value; where
/// one is to be changed, [`Mutex`](crate::Mutex) does, and is not re-entrant.
///
/// ```
/// use greenwood_runtime::RLock;
/// let lock = RLock::new();
/// let outer = lock.lock()?;
/// let inner = lock.lock()?;
/// drop(outer);
/// assert!(lock.locked());
/// drop(inner);
/// assert!(!lock.locked());
/// # Ok::<(), greenwood_runtime::LockError>(())
/// ```
pub struct RLock {
    free: Semaphore,
    /// Whoever reads its own number here has written it.
    owner: AtomicU64,
    /// How often the owner has it. Only the owner looks at it.
    count: AtomicUsize,
}

impl RLock {
    /// A lock that nobody holds.
    pub const fn new() -> RLock {
        RLock {
            free: Semaphore::new(1),
            owner: AtomicU64::new(NOBODY),
            count: AtomicUsize::new(0),
        }
    }

    /// Takes the lock, waiting for it if another holds it. False only in a greenlet that unwinds
    /// and would have to wait.
    #[must_use = "without the lock nothing may be released"]
    pub fn acquire(&self) -> bool {
        self.acquire_until(None)
    }

    /// Takes the lock, waiting for it no longer than `timeout`; whether it has it.
    #[must_use = "without the lock nothing may be released"]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_until(switch::deadline(Some(timeout)))
    }

    /// Takes the lock if no other holds it: gevent's `acquire(blocking=False)`.
    #[must_use = "without the lock nothing may be released"]
    pub fn try_acquire(&self) -> bool {
        self.take(|| (), Semaphore::try_acquire)
    }

    /// Takes the lock as [`acquire`](RLock::acquire) does, and releases it when the value is dropped:
    /// gevent's `with`.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    pub fn lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.guard(self.acquire())
    }

    /// Takes the lock until the value is dropped, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError`]: another held it for so long.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_>, LockError> {
        self.guard(self.acquire_timeout(timeout))
    }

    /// Takes the lock until the value is dropped, if no other holds it.
    ///
    /// # Errors
    ///
    /// [`LockError`]: another holds it.
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, LockError> {
        self.guard(self.try_acquire())
    }

    /// Releases it once. When that has been done as often as it was acquired, it goes to whoever
    /// waits longest.
    ///
    /// # Panics
    ///
    /// If another holds it, or nobody: where gevent raises `RuntimeError`.
    pub fn release(&self) {
        assert!(
            self.is_owned(),
            "an RLock was released by somebody who does not hold it"
        );
        self.release_once();
    }

    /// Whether anybody holds it.
    pub fn locked(&self) -> bool {
        self.free.locked()
    }

    /// Whether the calling greenlet or thread holds it: gevent's `_is_owned`.
    pub fn is_owned(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == caller()
    }

    fn acquire_until(&self, deadline: Option<u64>) -> bool {
        self.take(switch::check, |free| free.acquire_until(deadline))
    }

    /// Takes it once more if the caller has it, after `again`, else by `acquire`.
    fn take(&self, again: impl FnOnce(), acquire: impl FnOnce(&Semaphore) -> bool) -> bool {
        let me = caller();
        if self.owner.load(Ordering::Relaxed) == me {
            again();
            let count = self.count.load(Ordering::Relaxed).checked_add(1);
            let count = count.expect("an RLock is acquired more often than can be counted");
            self.count.store(count, Ordering::Relaxed);
            return true;
        }
        let acquired = acquire(&self.free);
        if acquired {
            self.owner.store(me, Ordering::Relaxed);
            self.count.store(1, Ordering::Relaxed);
        }
        acquired
    }

    /// On the owner's behalf.
    fn release_once(&self) {
        let count = self.count.load(Ordering::Relaxed) - 1;
        self.count.store(count, Ordering::Relaxed);
        if count == 0 {
            self.owner.store(NOBODY, Ordering::Relaxed);
            self.free.release();
        }
    }

    fn guard(&self, taken: bool) -> Result<RLockGuard<'_>, LockError> {
        match taken {
            true => Ok(RLockGuard {
                lock: self,
                owner: caller(),
                not_send: PhantomData,
            }),
            false => Err(LockError),
        }
    }
}

impl Default for RLock {
    fn default() -> RLock {
        RLock::new()
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("owned", &self.is_owned())
            .field("free", &self.free)
            .finish()
    }
}

/// An [`RLock`] taken once, released when dropped. It belongs to the greenlet or thread that took
/// it, and so is not `Send`.
#[derive(Debug)]
#[must_use = "the lock is released at once"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    owner: u64,
    not_send: PhantomData<*const ()>,
}

impl Drop for RLockGuard<'_> {
    fn drop(&mut self) {
        // Perhaps by another greenlet of the owner's hub, to which it was moved: never at the same
        // time. Not if it has been released too often: it may be another's by now.
        if self.lock.owner.load(Ordering::Relaxed) == self.owner {
            self.lock.release_once();
        }
    }
}
