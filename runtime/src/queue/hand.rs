//! [`Getter`] and [`Putter`]: those who wait at a queue; [`Wakes`]: those who are to be woken.

use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::waitable::Watchers;
use crate::waiter::{Node, Waiter};

/// One who waits for an item. It finds it with the queue, by its [key](key_of).
///
/// One that is woken without an item learns by that of the shutdown.
pub(super) struct Getter<T> {
    pub(super) waiter: Arc<Waiter>,
    /// Of who wants to see the item and not to have it.
    pub(super) copy: Option<fn(&T) -> T>,
}

/// What is nobody else's as long as the waiter is there.
pub(super) fn key_of(waiter: &Arc<Waiter>) -> usize {
    Arc::as_ptr(waiter).addr()
}

impl<T> Node for Getter<T> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

/// One who waits for room, with the item that it wants to put.
pub(super) struct Putter<T> {
    pub(super) waiter: Arc<Waiter>,
    pub(super) item: Mutex<Option<T>>,
    /// The shutdown has come, and the putter still has its item.
    refused: AtomicBool,
}

impl<T> Putter<T> {
    pub(super) fn new(item: T) -> Arc<Putter<T>> {
        Arc::new(Putter {
            waiter: Waiter::new(),
            item: Mutex::new(Some(item)),
            refused: AtomicBool::new(false),
        })
    }

    /// Ends the wait by the shutdown. The putter is in no list any more.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.waiter.notify();
    }

    /// After a notification: whether the shutdown has ended the wait.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

impl<T> Node for Arc<Putter<T>> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

/// Those who have been claimed or are to be told: woken when this is dropped, which is to be after
/// the queue's lock.
pub(super) struct Wakes<T> {
    pub(super) one: Option<Arc<Waiter>>,
    /// Rare, and kept small: this is returned by every put and get.
    others: Option<Box<Others<T>>>,
}

pub(super) struct Others<T> {
    pub(super) waiters: Vec<Arc<Waiter>>,
    pub(super) watchers: Watchers,
    /// Copies for those who gave up meanwhile. Their own code is not to run under the lock.
    pub(super) unseen: Vec<T>,
}

impl<T> Wakes<T> {
    #[inline]
    pub(super) const fn none() -> Wakes<T> {
        Wakes {
            one: None,
            others: None,
        }
    }

    #[cold]
    pub(super) fn others(&mut self) -> &mut Others<T> {
        self.others.get_or_insert_with(|| {
            Box::new(Others {
                waiters: Vec::new(),
                watchers: Watchers::new(),
                unseen: Vec::new(),
            })
        })
    }

    #[inline(never)]
    fn wake(&mut self) {
        // Who has seen the item before who has got it; last what may panic.
        let mut unseen = Vec::new();
        if let Some(others) = self.others.take() {
            for waiter in others.waiters {
                waiter.wake();
            }
            others.watchers.tell();
            unseen = others.unseen;
        }
        if let Some(waiter) = self.one.take() {
            waiter.wake();
        }
        drop(unseen);
    }
}

impl<T> Drop for Wakes<T> {
    #[inline]
    fn drop(&mut self) {
        if self.one.is_some() || self.others.is_some() {
            self.wake();
        }
    }
}
