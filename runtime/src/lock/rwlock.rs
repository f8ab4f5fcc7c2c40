//! [`RwLock`]: a value for one writer or many readers.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, Arc, PoisonError, TryLockError};
use std::time::Duration;

use super::LockError;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::Mutex;
use crate::task::lock;
use crate::waiter::{Node, Stop, WaitList, Waiter};

/// A value that many may read at the same time, or one may change. Not gevent's; its differences
/// from `std`'s are those of [`Mutex`](crate::Mutex).
///
/// It is fair: who waits is let in in the order of coming, readers that follow one another
/// together. So readers that never cease do not keep a writer out, and neither do writers a reader.
/// In return, who reads must not lock it once more: behind a writer that came in between it would
/// wait for itself.
///
/// ```
/// use greenwood_runtime::RwLock;
/// let lock = RwLock::new(1);
/// {
///     let (one, other) = (lock.read()?, lock.read()?);
///     assert_eq!(*one + *other, 2);
///     assert!(lock.try_write().is_err());
/// }
/// *lock.write()? += 1;
/// assert_eq!(*lock.read()?, 2);
/// # Ok::<(), greenwood_runtime::LockError>(())
/// ```
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    turns: Turns,
    /// Locked only by those whose turn it is, and so never waited for.
    value: sync::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            turns: Turns::new(),
            value: sync::RwLock::new(value),
        }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        let value = self.value.into_inner();
        value.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the value to read, waiting while another changes it or waits to.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.read_until(None)
    }

    /// Takes the value to read, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError`]: it was not to be had in that time.
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.read_until(switch::deadline(Some(timeout)))
    }

    /// Takes the value to read if nobody changes it or waits to. Never waits.
    ///
    /// # Errors
    ///
    /// [`LockError`]: it is not to be had now.
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.turns.try_take(false).map(|turn| self.reader(turn))
    }

    /// Takes the value to change it, waiting while others have it.
    ///
    /// # Errors
    ///
    /// [`LockError`] only in a greenlet that unwinds and would have to wait.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.write_until(None)
    }

    /// Takes the value to change it, waiting for it no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError`]: it was not to be had in that time.
    pub fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.write_until(switch::deadline(Some(timeout)))
    }

    /// Takes the value to change it if nobody has it. Never waits.
    ///
    /// # Errors
    ///
    /// [`LockError`]: it is not to be had now.
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.turns.try_take(true).map(|turn| self.writer(turn))
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        let value = self.value.get_mut();
        value.unwrap_or_else(PoisonError::into_inner)
    }

    fn read_until(&self, deadline: Option<u64>) -> Result<RwLockReadGuard<'_, T>, LockError> {
        let turn = self.turns.take(false, deadline)?;
        Ok(self.reader(turn))
    }

    fn write_until(&self, deadline: Option<u64>) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        let turn = self.turns.take(true, deadline)?;
        Ok(self.writer(turn))
    }

    fn reader<'a>(&'a self, turn: Turn<'a>) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard {
            value: unpoisoned(self.value.try_read()),
            _turn: turn,
        }
    }

    fn writer<'a>(&'a self, turn: Turn<'a>) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard {
            lock: self,
            value: unpoisoned(self.value.try_write()),
            turn,
        }
    }
}

fn unpoisoned<G>(guard: Result<G, TryLockError<G>>) -> G {
    match guard {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => unreachable!("locked only by those whose turn it is"),
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = self.try_read();
        let (waiters, mut text) = (self.turns.waiters(), f.debug_struct("RwLock"));
        match &guard {
            Ok(value) => text.field("value", &&**value),
            Err(_) => text.field("value", &format_args!("<locked>")),
        };
        text.field("waiters", &waiters).finish()
    }
}

/// The value of an [`RwLock`] to read. It is not `Send`: it stays in its greenlet or thread.
#[must_use = "the lock is released at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // In this order, in which they are dropped: the value is free before the next one's turn comes.
    value: sync::RwLockReadGuard<'a, T>,
    _turn: Turn<'a>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value of an [`RwLock`] to change. It is not `Send`: it stays in its greenlet or thread.
#[must_use = "the lock is released at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    // As in `RwLockReadGuard`.
    value: sync::RwLockWriteGuard<'a, T>,
    turn: Turn<'a>,
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on reading what has been written, without a writer in between. Readers that wait next
    /// are let in.
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let RwLockWriteGuard {
            lock,
            value,
            mut turn,
        } = guard;
        drop(value);
        turn.downgrade();
        lock.reader(turn)
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Whose turn it is.
#[derive(Default)]
struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    readers: usize,
    writer: bool,
    waiters: WaitList<Arc<Entry>>,
}

/// One who waits.
struct Entry {
    waiter: Waiter,
    write: bool,
}

impl Node for Arc<Entry> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

impl Turns {
    const fn new() -> Turns {
        Turns(Mutex::new(State {
            readers: 0,
            writer: false,
            waiters: WaitList::new(),
        }))
    }

    fn try_take(&self, write: bool) -> Result<Turn<'_>, LockError> {
        match lock(&self.0).enter(write) {
            true => Ok(Turn { turns: self, write }),
            false => Err(LockError),
        }
    }

    fn take(&self, write: bool, deadline: Option<u64>) -> Result<Turn<'_>, LockError> {
        switch::check();
        let entry = {
            let mut state = lock(&self.0);
            if state.enter(write) {
                return Ok(Turn { turns: self, write });
            }
            if !switch::may_wait() {
                return Err(LockError);
            }
            let entry = Arc::new(Entry {
                waiter: Waiter::here(),
                write,
            });
            state.waiters.push(Arc::clone(&entry));
            entry
        };
        match entry.waiter.wait_for(WaitsFor::Lock, deadline) {
            // The turn came with the notification.
            Ok(()) => Ok(Turn { turns: self, write }),
            Err(stop) => {
                // Those behind may have waited only for this one.
                self.change(|state| state.waiters.abandon());
                match stop {
                    Stop::Deadline => Err(LockError),
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    /// Changes the state, and lets in those who may come in by that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let admitted = {
            let mut state = lock(&self.0);
            change(&mut state);
            state.admit()
        };
        for entry in admitted {
            entry.waiter.wake();
        }
    }

    fn waiters(&self) -> usize {
        lock(&self.0).waiters.len()
    }
}

impl State {
    /// Whether there is room for one more, of those who are in.
    fn has_room(&self, write: bool) -> bool {
        !self.writer && (!write || self.readers == 0)
    }

    fn count_in(&mut self, write: bool) {
        match write {
            true => self.writer = true,
            false => self.readers += 1,
        }
    }

    /// Lets a newcomer in, who may not overtake anybody.
    fn enter(&mut self, write: bool) -> bool {
        let enters = self.has_room(write) && (self.waiters.is_empty() || !self.waiters.any());
        if enters {
            self.count_in(write);
        }
        enters
    }

    /// Lets in those who come first: a writer, or readers up to the next writer. They are to be
    /// woken.
    fn admit(&mut self) -> Vec<Arc<Entry>> {
        let mut admitted = Vec::new();
        while let Some(first) = self.waiters.first() {
            let write = first.write;
            // Who has given up and is still in the list must not stop the others.
            if first.waiter.is_waiting() && !self.has_room(write) {
                break;
            }
            if let Some(entry) = self.waiters.claim_first() {
                self.count_in(write);
                admitted.push(entry);
            }
        }
        admitted
    }
}

/// The right to use the value, given back when dropped.
struct Turn<'a> {
    turns: &'a Turns,
    write: bool,
}

impl Turn<'_> {
    fn downgrade(&mut self) {
        self.write = false;
        self.turns.change(|state| {
            state.writer = false;
            state.readers += 1;
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let write = self.write;
        self.turns.change(|state| match write {
            true => state.writer = false,
            false => state.readers -= 1,
        });
    }
}
