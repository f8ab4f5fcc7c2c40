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
pub(super) struct Wakes<T>(Who<T>);

enum Who<T> {
    Nobody,
    One(Arc<Waiter>),
    Several(Box<Several<T>>),
}

/// Rare.
pub(super) struct Several<T> {
    pub(super) first: Vec<Arc<Waiter>>,
    pub(super) watchers: Watchers,
    /// Who has got the item, or has put the first.
    last: Option<Arc<Waiter>>,
    /// Copies for those who gave up meanwhile. Their own code is not to run under the lock.
    pub(super) unseen: Vec<T>,
}

impl<T> Wakes<T> {
    #[inline]
    pub(super) const fn none() -> Wakes<T> {
        Wakes(Who::Nobody)
    }

    /// Adds one who has been claimed, to be woken last if nobody is yet.
    #[inline]
    pub(super) fn add(&mut self, waiter: Arc<Waiter>) {
        match &mut self.0 {
            Who::Nobody => self.0 = Who::One(waiter),
            _ => self.add_to_several(waiter),
        }
    }

    #[cold]
    fn add_to_several(&mut self, waiter: Arc<Waiter>) {
        let several = self.several();
        match several.last {
            None => several.last = Some(waiter),
            Some(_) => several.first.push(waiter),
        }
    }

    #[cold]
    pub(super) fn several(&mut self) -> &mut Several<T> {
        if !matches!(self.0, Who::Several(_)) {
            let last = match std::mem::replace(&mut self.0, Who::Nobody) {
                Who::One(waiter) => Some(waiter),
                _ => None,
            };
            self.0 = Who::Several(Box::new(Several {
                first: Vec::new(),
                watchers: Watchers::new(),
                last,
                unseen: Vec::new(),
            }));
        }
        match &mut self.0 {
            Who::Several(several) => several,
            _ => unreachable!("made so just now"),
        }
    }

    #[inline(never)]
    fn wake(&mut self) {
        match std::mem::replace(&mut self.0, Who::Nobody) {
            Who::Nobody => {}
            Who::One(waiter) => waiter.wake(),
            Who::Several(several) => {
                // Who has seen the item before who has got it; at the end what may panic.
                for waiter in several.first {
                    waiter.wake();
                }
                several.watchers.tell();
                if let Some(waiter) = several.last {
                    waiter.wake();
                }
                drop(several.unseen);
            }
        }
    }
}

impl<T> Drop for Wakes<T> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.0, Who::Nobody) {
            self.wake();
        }
    }
}
