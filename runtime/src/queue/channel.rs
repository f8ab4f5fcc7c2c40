//! [`Channel`]: gevent's `Channel`.

use std::fmt;
use std::time::Duration;

use super::core::Core;
use super::store::Fifo;
use super::{GetError, PutError, QueueIter};
use crate::switch;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};

/// A queue that holds nothing: who puts waits until somebody takes the item. gevent's `Channel`.
///
/// The two meet: a put that returns says that the item has been taken, one that fails or is killed
/// that it has not been, and won't be. A taker of the same hub that has waited for the item goes on
/// before who has put it, as in gevent. (Where several wait to put, one who takes twice has both items
/// before the first of them goes on; gevent's has one.) Strictly fair on both sides, as
/// [`Queue`](crate::Queue) is.
///
/// It can be shut down as the queues can, which gevent's can't, as an iteration would not end
/// otherwise. There is no `peek`, as in gevent.
///
/// ```
/// use greenwood_runtime::{spawn, Channel};
/// use std::sync::Arc;
///
/// let channel = Arc::new(Channel::new());
/// assert!(channel.put_nowait("nobody takes it").is_err());
/// let theirs = Arc::clone(&channel);
/// let taker = spawn(move || theirs.get().unwrap());
/// channel.put("taken").unwrap();
/// assert_eq!(taker.join().unwrap(), "taken");
/// ```
pub struct Channel<T> {
    core: Core<T, Fifo<T>>,
}

impl<T> Channel<T> {
    /// A channel.
    pub const fn new() -> Channel<T> {
        Channel {
            core: Core::new(Fifo::new(), 0, 0),
        }
    }

    /// Puts an item, waiting until somebody takes it.
    ///
    /// # Errors
    ///
    /// [`PutError::ShutDown`], with the item, also when the shutdown comes while it waits;
    /// [`PutError::Full`] only in a greenlet that unwinds and would have to wait.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.core.meet_until(item, None)
    }

    /// Puts an item, waiting no longer than `timeout` until somebody takes it.
    ///
    /// # Errors
    ///
    /// [`PutError`], with the item.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.core.meet_until(item, switch::deadline(Some(timeout)))
    }

    /// Puts an item if somebody waits for one. Never waits.
    ///
    /// # Errors
    ///
    /// [`PutError`], with the item.
    pub fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        self.core.put_nowait(item)
    }

    /// Takes the item of who waits longest with one, waiting for one if need be.
    ///
    /// # Errors
    ///
    /// [`GetError::ShutDown`], also when the shutdown comes while it waits; [`GetError::Empty`]
    /// only in a greenlet that unwinds and would have to wait.
    pub fn get(&self) -> Result<T, GetError> {
        self.core.get_until(None)
    }

    /// Takes an item, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.core.get_until(switch::deadline(Some(timeout)))
    }

    /// Takes an item if somebody waits with one. Never waits.
    ///
    /// # Errors
    ///
    /// [`GetError`].
    pub fn get_nowait(&self) -> Result<T, GetError> {
        self.core.get_nowait()
    }

    /// The items, each taken as with [`get`](Channel::get) when it is asked for, until a shutdown.
    /// It also ends in a greenlet that unwinds and would have to wait.
    pub fn iter(&self) -> QueueIter<'_, T> {
        QueueIter { queue: &self.core }
    }

    /// Ends the channel: all who wait and all who come are refused, and putters keep their items.
    ///
    /// As the channel holds nothing, there is no difference between an immediate shutdown and
    /// another.
    pub fn shutdown(&self) {
        self.core.shutdown(false);
    }

    /// Whether it has been [shut down](Channel::shutdown).
    pub fn is_shutdown(&self) -> bool {
        self.core.is_shut_down()
    }

    /// How many wait with an item, less how many wait for one: gevent's `balance`. They never do
    /// both.
    pub fn balance(&self) -> isize {
        let (putters, getters) = self.core.waiting();
        putters as isize - getters as isize
    }
}

impl<T> Default for Channel<T> {
    fn default() -> Channel<T> {
        Channel::new()
    }
}

impl<'a, T> IntoIterator for &'a Channel<T> {
    type Item = T;
    type IntoIter = QueueIter<'a, T>;

    fn into_iter(self) -> QueueIter<'a, T> {
        self.iter()
    }
}

impl<T> Sealed for Channel<T> {}

/// Ready when a `get` would not wait: somebody waits with an item, or it has been shut down.
impl<T> Waitable for Channel<T> {
    fn ready(&self) -> bool {
        self.core.ready()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.core.watch(watcher)
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (putters, getters) = self.core.waiting();
        f.debug_struct("Channel")
            .field("getters", &getters)
            .field("putters", &putters)
            .field("shut_down", &self.is_shutdown())
            .finish()
    }
}
