//! [`Hand`]: one who waits at a queue; [`Wakes`]: those who are to be woken.

use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::waitable::Watchers;
use crate::waiter::{Node, Waiter};

/// One who waits, with room for the item that he gets or wants to put.
///
/// A getter that is woken without an item learns by that of the shutdown.
pub(super) struct Hand<T> {
    pub(super) waiter: Waiter,
    pub(super) item: Mutex<Option<T>>,
    /// The shutdown has come, and a putter still has its item.
    refused: AtomicBool,
    /// Of who wants to see the item and not to have it.
    pub(super) copy: Option<fn(&T) -> T>,
}

impl<T> Hand<T> {
    pub(super) fn new(item: Option<T>, copy: Option<fn(&T) -> T>) -> Arc<Hand<T>> {
        Arc::new(Hand {
            waiter: Waiter::here(),
            item: Mutex::new(item),
            refused: AtomicBool::new(false),
            copy,
        })
    }

    /// Ends the wait by the shutdown. The hand is in no list any more.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.waiter.notify();
    }

    /// After a notification: whether the shutdown has ended the wait.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

impl<T> Node for Arc<Hand<T>> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

/// Those who have been claimed or are to be told: woken when this is dropped, which is to be after
/// the queue's lock.
pub(super) struct Wakes<T> {
    pub(super) hand: Option<Arc<Hand<T>>>,
    /// Rare, and kept small: this is returned by every put and get.
    others: Option<Box<Others<T>>>,
}

pub(super) struct Others<T> {
    pub(super) hands: Vec<Arc<Hand<T>>>,
    pub(super) watchers: Watchers,
}

impl<T> Wakes<T> {
    #[inline]
    pub(super) const fn none() -> Wakes<T> {
        Wakes {
            hand: None,
            others: None,
        }
    }

    #[cold]
    pub(super) fn others(&mut self) -> &mut Others<T> {
        self.others.get_or_insert_with(|| {
            Box::new(Others {
                hands: Vec::new(),
                watchers: Watchers::new(),
            })
        })
    }

    #[inline(never)]
    fn wake(&mut self) {
        // Who has seen the item before who has got it.
        if let Some(others) = self.others.take() {
            for hand in others.hands {
                hand.waiter.wake();
            }
            others.watchers.tell();
        }
        if let Some(hand) = self.hand.take() {
            hand.waiter.wake();
        }
    }
}

impl<T> Drop for Wakes<T> {
    #[inline]
    fn drop(&mut self) {
        if self.hand.is_some() || self.others.is_some() {
            self.wake();
        }
    }
}
