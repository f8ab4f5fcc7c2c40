//! Why a queue did not take or give an item.

use std::fmt;

/// Why an item was not put; it holds the item.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was full, and stayed so for the time given. gevent's `Full`.
    Full(T),
    /// The queue has been shut down: it takes nothing more. gevent's `ShutDown`.
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) | PutError::ShutDown(item) => item,
        }
    }

    /// Whether the queue has been shut down, so that trying again is of no use.
    pub fn is_shut_down(&self) -> bool {
        matches!(self, PutError::ShutDown(_))
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "Full(..)",
            PutError::ShutDown(_) => "ShutDown(..)",
        })
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "the queue is full",
            PutError::ShutDown(_) => "the queue has been shut down",
        })
    }
}

impl<T> std::error::Error for PutError<T> {}

/// Why there is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
// As large as most items, so that a result with one of these is returned in registers.
#[repr(usize)]
pub enum GetError {
    /// The queue was empty, and stayed so for the time given. gevent's `Empty`.
    Empty,
    /// The queue has been shut down and has nothing left. gevent's `ShutDown`.
    ShutDown,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetError::Empty => "the queue is empty",
            GetError::ShutDown => "the queue has been shut down",
        })
    }
}

impl std::error::Error for GetError {}
