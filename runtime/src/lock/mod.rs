//! Locks that wait as greenlets do. All are fair: who waits longest is next.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

mod condvar;
mod mutex;
mod once;
mod rlock;
mod rwlock;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceCell};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::greenlet::current_id;

/// A lock or a permit was not to be had in the time given.
///
/// Calls without a time limit return it only in a greenlet that unwinds and would have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockError;

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is held by another")
    }
}

impl std::error::Error for LockError {}

/// Nobody: the number that [`caller`] never returns.
const NOBODY: u64 = 0;

/// The number of the greenlet that calls, else of the thread.
fn caller() -> u64 {
    const THREADS: u64 = 1 << 63;
    static NEXT: AtomicU64 = AtomicU64::new(THREADS);
    thread_local! {
        static THREAD: Cell<u64> = const { Cell::new(NOBODY) };
    }
    current_id().unwrap_or_else(|| {
        if THREAD.get() == NOBODY {
            THREAD.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        THREAD.get()
    })
}
