//! Groups and pools of greenlets: gevent's `pool`.

mod group;
mod imap;
mod maps;
mod roster;

use std::fmt;
use std::ops::Deref;

pub use group::Group;
pub use imap::Imap;
pub(crate) use imap::{Feed, Handle};
pub(crate) use roster::Place;

use crate::error::SpawnError;

/// A [`Group`] of at most `size` greenlets: gevent's `Pool`.
///
/// All that a group can do, a pool can too. [`spawn`](Group::spawn) waits while it is full; those
/// who wait get their places in the order in which they came. A member's place is free when it
/// ends, whatever ends it, before anybody learns of the end.
///
/// A clone is another handle to the same pool.
///
/// ```
/// use greenwood_runtime::{sleep, Pool};
/// use std::time::Duration;
///
/// let pool = Pool::new(10);
/// let squares = pool.map(
///     |n| {
///         sleep(Duration::from_millis(1));
///         n * n
///     },
///     0..100,
/// )?;
/// assert_eq!(squares[99], 99 * 99);
/// # Ok::<(), greenwood_runtime::JoinError>(())
/// ```
#[derive(Clone)]
pub struct Pool {
    group: Group,
}

impl Pool {
    /// A pool of at most `size` greenlets. With a size of 0 it never has a member, as in gevent. One
    /// without a bound, gevent's `Pool(None)`, is a [`Group`].
    pub fn new(size: usize) -> Pool {
        Pool {
            group: Group::of_size(size),
        }
    }

    /// How many greenlets it can have.
    pub fn size(&self) -> usize {
        self.group.roster().size()
    }

    /// How many more can be spawned without waiting.
    pub fn free_count(&self) -> usize {
        self.group.roster().free()
    }
}

impl Deref for Pool {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.group
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.fmt_as("Pool", f)
    }
}

/// A pool has no place for another greenlet: gevent's `PoolFull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolFull;

impl fmt::Display for PoolFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool is full")
    }
}

impl std::error::Error for PoolFull {}

/// Why a greenlet could not be spawned in a pool.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PoolError {
    /// The pool was full, and stayed so for the time given: gevent's `PoolFull`.
    Full(PoolFull),
    /// No greenlet could be started.
    Spawn(SpawnError),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Full(error) => error.fmt(f),
            PoolError::Spawn(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PoolError::Full(_) => None,
            PoolError::Spawn(error) => error.source(),
        }
    }
}

impl From<PoolFull> for PoolError {
    fn from(error: PoolFull) -> PoolError {
        PoolError::Full(error)
    }
}

impl From<SpawnError> for PoolError {
    fn from(error: SpawnError) -> PoolError {
        PoolError::Spawn(error)
    }
}
