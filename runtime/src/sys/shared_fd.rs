//! [`SharedFd`]: a descriptor that several handles share.

use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

/// What owns one descriptor: `as_fd` gives the same one as long as the value lives.
pub(crate) trait OwnsFd: AsFd {}

/// A handle to what owns a descriptor, with the descriptor's number: who sends to thousands of them
/// finds none in the processor's caches, and need not wait for the owner's memory too.
#[derive(Debug)]
pub(crate) struct SharedFd<T> {
    number: RawFd,
    owner: Arc<T>,
}

impl<T: OwnsFd> SharedFd<T> {
    pub(crate) fn new(owner: T) -> SharedFd<T> {
        SharedFd {
            number: owner.as_fd().as_raw_fd(),
            owner: Arc::new(owner),
        }
    }

    /// The owner, if this is the only handle.
    pub(crate) fn try_unwrap(self) -> Result<T, SharedFd<T>> {
        let SharedFd { number, owner } = self;
        Arc::try_unwrap(owner).map_err(|owner| SharedFd { number, owner })
    }
}

impl<T> Clone for SharedFd<T> {
    fn clone(&self) -> SharedFd<T> {
        SharedFd {
            number: self.number,
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<T> Deref for SharedFd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.owner
    }
}

impl<T: OwnsFd> AsFd for SharedFd<T> {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the number is that of the descriptor which the owner had at `new` and, by
        // `OwnsFd`, has as long as it lives; the borrow of `self` keeps the owner alive.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }
}
