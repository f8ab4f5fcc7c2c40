//! Locks, in place of `runtime/src/lock/mod.rs`: the same files, without what has no place in a model.

use std::fmt;

use crate::switch;
use crate::task::Sleeper;

#[path = "../../runtime/src/lock/condvar.rs"]
mod condvar;
#[path = "../../runtime/src/lock/mutex.rs"]
mod mutex;
#[path = "../../runtime/src/lock/once.rs"]
mod once;
#[path = "../../runtime/src/lock/rlock.rs"]
mod rlock;
#[path = "../../runtime/src/lock/rwlock.rs"]
mod rwlock;

pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use rlock::RLock;
pub use rwlock::RwLock;

/// As in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockError;

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lock is held by another")
    }
}

impl std::error::Error for LockError {}

const NOBODY: u64 = 0;

/// The number of the greenlet or the thread that calls: where its wakes go to.
fn caller() -> u64 {
    match switch::sleeper() {
        Sleeper::Greenlet(task) => std::sync::Arc::as_ptr(&task) as u64,
        Sleeper::Thread(parker) => std::sync::Arc::as_ptr(&parker) as u64,
        Sleeper::Coroutine(parker) => match *parker {},
    }
}
