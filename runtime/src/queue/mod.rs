//! gevent's queues: [`Queue`], [`SimpleQueue`], [`LifoQueue`], [`PriorityQueue`] and [`Channel`].

use std::fmt;
use std::time::Duration;

mod channel;
mod core;
mod error;
mod hand;
mod store;

pub use channel::Channel;
pub use error::{GetError, PutError};

use crate::switch;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};
use core::{Core, capacity, maxsize};
use store::{Fifo, Heap, Lifo, Store};

/// A first-in, first-out queue between greenlets and threads, bounded or not: gevent's `Queue`.
///
/// Strictly fair: items go to those who wait in the order in which they came. An item is handed to
/// one taker: one that is killed or runs out of time at that moment either has it or leaves it in
/// the queue.
///
/// It also counts what is put and what is [reported as done](Queue::task_done), so that one can
/// [wait for the work](Queue::join) behind the items, as with gevent's `Queue` since 25.4 and
/// Python's.
///
/// ```
/// use greenwood_runtime::{spawn, Queue};
/// use std::sync::Arc;
///
/// let jobs = Arc::new(Queue::new(16));
/// let theirs = Arc::clone(&jobs);
/// let worker = spawn(move || {
///     let mut sum = 0;
///     // Until the shutdown.
///     for job in &*theirs {
///         sum += job;
///         theirs.task_done();
///     }
///     sum
/// });
/// for job in [1, 40] {
///     jobs.put(job).unwrap();
/// }
/// assert!(jobs.join());
/// jobs.put(1).unwrap();
/// jobs.shutdown(false);
/// assert_eq!(worker.join().unwrap(), 42);
/// ```
pub struct Queue<T> {
    core: Core<T, Fifo<T>>,
}

/// gevent's `JoinableQueue`: since gevent 25.4 another name of [`Queue`], as here.
pub type JoinableQueue<T> = Queue<T>;

/// A [`Queue`] that does not offer to wait until the work is done: gevent's `SimpleQueue`.
///
/// gevent's can't be shut down, and its iteration ends with an item that is `StopIteration`. There
/// is no such item here, so this one can be shut down like the others.
///
/// ```
/// let queue = greenwood_runtime::SimpleQueue::new(0);
/// queue.put("a").unwrap();
/// assert_eq!(queue.peek(), Ok("a"));
/// assert_eq!(queue.get(), Ok("a"));
/// ```
pub struct SimpleQueue<T> {
    core: Core<T, Fifo<T>>,
}

/// A [`Queue`] whose newest item comes first: gevent's `LifoQueue`.
///
/// ```
/// let queue = greenwood_runtime::LifoQueue::with_items(0, [1, 2, 3]);
/// assert_eq!((queue.get(), queue.get()), (Ok(3), Ok(2)));
/// ```
pub struct LifoQueue<T> {
    core: Core<T, Lifo<T>>,
}

/// A [`Queue`] whose smallest item comes first: gevent's `PriorityQueue`.
///
/// Of equal items the one that was put first comes first; Python's leaves that open.
/// [`std::cmp::Reverse`] around the items has the largest first. They are compared while the queue
/// is locked: their `Ord` must neither block nor use the queue. Should it panic, so does the call: an
/// item that was to be put is in the queue then, one that was to be got is gone, and the order of
/// the others is not certain any more.
///
/// ```
/// use greenwood_runtime::PriorityQueue;
/// let queue = PriorityQueue::new(0);
/// for entry in [(2, "later"), (1, "soon"), (3, "last")] {
///     queue.put(entry).unwrap();
/// }
/// assert_eq!(queue.get(), Ok((1, "soon")));
/// ```
pub struct PriorityQueue<T> {
    core: Core<T, Heap<T>>,
}

macro_rules! queue {
    ($name:ident $(<$bound:ident>)?, $store:ident, $next:literal) => {
        impl<T $(: $bound)?> $name<T> {
            /// A queue of at most `maxsize` items; 0: without a bound.
            pub const fn new(maxsize: usize) -> $name<T> {
                $name {
                    core: Core::new($store::new(), capacity(maxsize), 0),
                }
            }

            /// A queue that holds these items, put in this order, however many they are. gevent's
            /// argument `items`.
            pub fn with_items(maxsize: usize, items: impl IntoIterator<Item = T>) -> $name<T> {
                let mut store = $store::new();
                items.into_iter().for_each(|item| store.push(item));
                let unfinished = store.len();
                $name {
                    core: Core::new(store, capacity(maxsize), unfinished),
                }
            }

            /// Puts an item, waiting for room if need be.
            ///
            /// # Errors
            ///
            /// [`PutError::ShutDown`], with the item, also when the shutdown comes while it waits;
            /// [`PutError::Full`] only in a greenlet that unwinds and would have to wait.
            pub fn put(&self, item: T) -> Result<(), PutError<T>> {
                self.core.put_until(item, None)
            }

            /// Puts an item, waiting for room no longer than `timeout`.
            ///
            /// # Errors
            ///
            /// [`PutError`], with the item.
            pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
                self.core.put_until(item, switch::deadline(Some(timeout)))
            }

            /// Puts an item if there is room. Never waits.
            ///
            /// # Errors
            ///
            /// [`PutError`], with the item.
            pub fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
                self.core.put_nowait(item)
            }

            #[doc = concat!("Takes the ", $next, " item, waiting for one if need be.")]
            ///
            /// # Errors
            ///
            /// [`GetError::ShutDown`] when nothing is left after a shutdown, also when that comes
            /// while it waits; [`GetError::Empty`] only in a greenlet that unwinds and would have to
            /// wait.
            pub fn get(&self) -> Result<T, GetError> {
                self.core.get_until(None)
            }

            #[doc = concat!(
                "Takes the ", $next, " item, waiting for one no longer than `timeout`."
            )]
            ///
            /// # Errors
            ///
            /// [`GetError`].
            pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
                self.core.get_until(switch::deadline(Some(timeout)))
            }

            #[doc = concat!("Takes the ", $next, " item if there is one. Never waits.")]
            ///
            /// # Errors
            ///
            /// [`GetError`].
            pub fn get_nowait(&self) -> Result<T, GetError> {
                self.core.get_nowait()
            }

            #[doc = concat!(
                "A copy of the ", $next, " item, which stays, waiting for one if need be."
            )]
            ///
            /// Who waits with it has a place among those who wait with [`get`](Self::get), and sees
            /// the item for which it was its turn, even if the next of them takes it. The copy is
            /// made while the queue is locked: the item's `Clone` must neither block nor use the
            /// queue.
            ///
            /// # Errors
            ///
            /// As [`get`](Self::get).
            pub fn peek(&self) -> Result<T, GetError>
            where
                T: Clone,
            {
                self.core.peek_until(None)
            }

            /// As [`peek`](Self::peek), waiting for an item no longer than `timeout`.
            ///
            /// # Errors
            ///
            /// [`GetError`].
            pub fn peek_timeout(&self, timeout: Duration) -> Result<T, GetError>
            where
                T: Clone,
            {
                self.core.peek_until(switch::deadline(Some(timeout)))
            }

            #[doc = concat!("A copy of the ", $next, " item if there is one. Never waits.")]
            ///
            /// # Errors
            ///
            /// [`GetError`].
            pub fn peek_nowait(&self) -> Result<T, GetError>
            where
                T: Clone,
            {
                self.core.peek_nowait()
            }

            /// The items, each taken as with [`get`](Self::get) when it is asked for, until a
            /// shutdown. It also ends in a greenlet that unwinds and would have to wait.
            ///
            /// In gevent an iteration ends with the item `StopIteration`.
            pub fn iter(&self) -> QueueIter<'_, T> {
                QueueIter { queue: &self.core }
            }

            /// Ends the queue: gevent's `shutdown`, which is that of Python 3.13.
            ///
            /// From now on whoever puts gets [`PutError::ShutDown`], and so do those who wait for
            /// room. What the queue holds can still be got; then whoever gets, has
            /// [`GetError::ShutDown`]. With `immediate` the items are dropped and count as done. It
            /// may follow a shutdown without.
            pub fn shutdown(&self, immediate: bool) {
                self.core.shutdown(immediate);
            }

            /// Whether it has been [shut down](Self::shutdown). gevent's attribute.
            pub fn is_shutdown(&self) -> bool {
                self.core.is_shut_down()
            }

            /// How many items it holds: gevent's `qsize`.
            pub fn len(&self) -> usize {
                self.core.len()
            }

            /// Whether it holds none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether a [`put`](Self::put) would have to wait.
            pub fn is_full(&self) -> bool {
                self.core.is_full()
            }

            /// The most items that it holds; 0: without a bound.
            pub fn maxsize(&self) -> usize {
                maxsize(self.core.capacity())
            }

            /// Sets the bound anew; 0: none. Those who wait are let in if there is room now. What
            /// is more than a lower bound stays.
            pub fn set_maxsize(&self, maxsize: usize) {
                self.core.set_capacity(capacity(maxsize));
            }

            /// Another queue with copies of the items and the same bound, which is not shut down.
            /// The items' `Clone` must neither block nor use the queue.
            pub fn copy(&self) -> $name<T>
            where
                T: Clone,
            {
                $name {
                    core: self.core.copy(),
                }
            }
        }

        /// Without a bound, as in gevent.
        impl<T $(: $bound)?> Default for $name<T> {
            fn default() -> $name<T> {
                $name::new(0)
            }
        }

        impl<'a, T $(: $bound)?> IntoIterator for &'a $name<T> {
            type Item = T;
            type IntoIter = QueueIter<'a, T>;

            fn into_iter(self) -> QueueIter<'a, T> {
                self.iter()
            }
        }

        impl<T $(: $bound)?> Sealed for $name<T> {}

        /// Ready when a `get` would not wait: it holds something, or has been shut down.
        impl<T $(: $bound)?> Waitable for $name<T> {
            fn ready(&self) -> bool {
                self.core.ready()
            }

            fn watch(&self, watcher: Watcher) -> bool {
                self.core.watch(watcher)
            }
        }

        impl<T $(: $bound)?> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.core.fmt(stringify!($name), f)
            }
        }
    };
}

macro_rules! joinable {
    ($name:ident $(<$bound:ident>)?) => {
        impl<T $(: $bound)?> $name<T> {
            /// Reports that the work on one item is done. Once all that was put has been reported,
            /// those in [`join`](Self::join) go on.
            ///
            /// # Panics
            ///
            /// If called more often than items were put: where gevent raises `ValueError`.
            pub fn task_done(&self) {
                self.core.task_done();
            }

            /// How many items have been put and not yet been [reported as done](Self::task_done),
            /// whether they have been got or not: gevent's `unfinished_tasks`.
            pub fn unfinished_tasks(&self) -> usize {
                self.core.unfinished()
            }

            /// Waits until all is [done](Self::task_done); at once if nothing was put. False only
            /// in a greenlet that unwinds and would have to wait.
            pub fn join(&self) -> bool {
                self.core.join_until(None)
            }

            /// Waits until all is [done](Self::task_done), no longer than `timeout`; whether it is,
            /// or was at least once while waiting.
            pub fn join_timeout(&self, timeout: Duration) -> bool {
                self.core.join_until(switch::deadline(Some(timeout)))
            }
        }
    };
}

queue!(Queue, Fifo, "first");
joinable!(Queue);
queue!(SimpleQueue, Fifo, "first");
queue!(LifoQueue, Lifo, "newest");
joinable!(LifoQueue);
queue!(PriorityQueue<Ord>, Heap, "smallest");
joinable!(PriorityQueue<Ord>);

/// The items of a queue until its shutdown. Its [`next`](Iterator::next) waits.
#[must_use = "it waits only when asked for the next"]
pub struct QueueIter<'a, T> {
    queue: &'a dyn Get<T>,
}

trait Get<T> {
    fn get(&self) -> Option<T>;
}

impl<T, S: Store<T>> Get<T> for Core<T, S> {
    fn get(&self) -> Option<T> {
        self.get_until(None).ok()
    }
}

impl<T> Iterator for QueueIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.queue.get()
    }
}

impl<T> fmt::Debug for QueueIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueIter").finish_non_exhaustive()
    }
}
