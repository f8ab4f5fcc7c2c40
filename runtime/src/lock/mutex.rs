//! [`Mutex`]: a value for one at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, TryLockError};
use std::time::Duration;

use super::LockError;
use crate::semaphore::{Permit, Semaphore};
use crate::switch;

/// A value that one greenlet or thread at a time may use, for as long as it holds the guard, also
/// over blocking calls. gevent has the lock without the value: `Semaphore(1)`.
///
/// What `std`'s mutex is for threads, with these differences:
///
/// - Who waits puts only his greenlet aside, not the hub.
/// - It is fair: a guard that is dropped hands the value to whoever waits longest, and a newcomer
///   can't overtake.
/// - There is no poisoning: a greenlet that is killed or panics while it holds the guard leaves the
///   value as it is.
///
/// It is not re-entrant: who locks it twice waits for itself, for ever. A guard stays in its
/// greenlet or thread: it is not `Send`.
///
/// ```
/// use greenwood_runtime::{sleep, spawn, Mutex};
/// use std::{sync::Arc, time::Duration};
///
/// let sum = Arc::new(Mutex::new(0));
/// let greenlets: Vec<_> = (0..10)
///     .map(|_| {
///         let sum = Arc::clone(&sum);
///         spawn(move || {
///             let mut sum = sum.lock().unwrap();
///             let before = *sum;
///             sleep(Duration::from_millis(1));
///             *sum = before + 1;
///         })
///     })
///     .collect();
/// greenlets.into_iter().for_each(|greenlet| greenlet.join().unwrap());
/// assert_eq!(*sum.lock().unwrap(), 10);
/// ```
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    /// Whose turn it is. Its default has one permit.
    turn: Semaphore,
    /// Locked only by whose turn it is, and so never waited for.
    value: sync::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            turn: Semaphore::new(1),
            value: sync::Mutex::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        let value = self.value.into_inner();
        value.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the value, waiting for it if another has it.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait: a destructor that may
    /// run in one has to do without the value then.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_until(None)
    }

    /// Takes the value, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError`]: another had it for so long.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_until(switch::deadline(Some(timeout)))
    }

    /// Takes the value if nobody has it. Never waits.
    ///
    /// # Errors
    ///
    /// [`LockError`]: another has it.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.turn.try_permit().map(|turn| self.guard(turn))
    }

    /// Whether somebody has it.
    pub fn locked(&self) -> bool {
        self.turn.locked()
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        let value = self.value.get_mut();
        value.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_until(&self, deadline: Option<u64>) -> Result<MutexGuard<'_, T>, LockError> {
        let turn = self.turn.permit_until(deadline)?;
        Ok(self.guard(turn))
    }

    fn guard<'a>(&'a self, turn: Permit<'a>) -> MutexGuard<'a, T> {
        let value = match self.value.try_lock() {
            Ok(value) => value,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("locked only by whose turn it is"),
        };
        MutexGuard {
            mutex: self,
            value,
            _turn: turn,
        }
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = self.try_lock();
        let mut text = f.debug_struct("Mutex");
        match &guard {
            Ok(value) => text.field("value", &&**value),
            Err(_) => text.field("value", &format_args!("<locked>")),
        };
        text.field("turn", &self.turn).finish()
    }
}

/// The value of a [`Mutex`], which the next may have when this is dropped.
#[must_use = "the mutex is unlocked at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    // In this order, in which they are dropped: the value is free before the next one's turn comes.
    value: sync::MutexGuard<'a, T>,
    _turn: Permit<'a>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
