//! [`Queue`]: gevent's `Queue`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::switch;
use crate::task::lock;
use crate::waiter::{Node, Stop, WaitList, Waiter};

/// A first-in, first-out queue between greenlets and threads, bounded or not: gevent's `Queue`.
///
/// Strictly fair: items go to those who wait in the order in which they came. An item is handed to
/// one taker: one that is killed or runs out of time at that moment either has it or leaves it in
/// the queue.
///
/// ```
/// use greenwood_runtime::{spawn, Queue};
/// use std::sync::Arc;
///
/// let jobs = Arc::new(Queue::new(16));
/// let theirs = Arc::clone(&jobs);
/// let worker = spawn(move || theirs.get().unwrap() + 1);
/// jobs.put(41).unwrap();
/// assert_eq!(worker.join().unwrap(), 42);
/// ```
pub struct Queue<T> {
    maxsize: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    getters: WaitList<Arc<Hand<T>>>,
    putters: WaitList<Arc<Hand<T>>>,
}

/// One who waits, with room for the item that he gets or wants to put.
struct Hand<T> {
    waiter: Arc<Waiter>,
    item: Mutex<Option<T>>,
}

impl<T> Hand<T> {
    fn new(item: Option<T>) -> Arc<Hand<T>> {
        Arc::new(Hand {
            waiter: Waiter::new(),
            item: Mutex::new(item),
        })
    }
}

impl<T> Node for Arc<Hand<T>> {
    fn waiter(&self) -> &Waiter {
        &self.waiter
    }
}

/// Why an item was not put; it holds the item.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was full, and stayed so for the time given. gevent's `Full`.
    Full(T),
}

impl<T> PutError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is full")
    }
}

impl<T> std::error::Error for PutError<T> {}

/// Why there is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// The queue was empty, and stayed so for the time given. gevent's `Empty`.
    Empty,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is empty")
    }
}

impl std::error::Error for GetError {}

impl<T> Queue<T> {
    /// A queue of at most `maxsize` items; 0: without a bound.
    pub const fn new(maxsize: usize) -> Queue<T> {
        let state = State {
            items: VecDeque::new(),
            getters: WaitList::new(),
            putters: WaitList::new(),
        };
        Queue {
            maxsize,
            state: Mutex::new(state),
        }
    }

    /// Puts an item, waiting for room if need be.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`] only in a greenlet that unwinds and would have to wait.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// Puts an item, waiting for room no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`], with the item.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, switch::deadline(Some(timeout)))
    }

    /// Puts an item if there is room.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`], with the item.
    pub fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        let offered = self.offer(&mut lock(&self.state), item);
        offered.map(wake).map_err(PutError::Full)
    }

    /// Takes the first item, waiting for one if need be.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`] only in a greenlet that unwinds and would have to wait.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Takes the first item, waiting for one no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(switch::deadline(Some(timeout)))
    }

    /// Takes the first item if there is one.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`].
    pub fn get_nowait(&self) -> Result<T, GetError> {
        let taken = self.take(&mut lock(&self.state));
        let (item, putter) = taken.ok_or(GetError::Empty)?;
        wake(putter);
        Ok(item)
    }

    /// How many items it holds: gevent's `qsize`.
    pub fn len(&self) -> usize {
        lock(&self.state).items.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a [`put`](Queue::put) would have to wait.
    pub fn is_full(&self) -> bool {
        self.maxsize != 0 && self.len() >= self.maxsize
    }

    /// The most items that it holds; 0: without a bound.
    pub fn maxsize(&self) -> usize {
        self.maxsize
    }

    /// Gives the item to who waits longest, who is to be woken, else keeps it; gives it back when
    /// there is no room.
    fn offer(&self, state: &mut State<T>, mut item: T) -> Result<Option<Arc<Hand<T>>>, T> {
        while let Some(getter) = state.getters.pop() {
            // Before the claim: from then on the getter may look.
            *lock(&getter.item) = Some(item);
            if getter.waiter.claim() {
                return Ok(Some(getter));
            }
            item = lock(&getter.item)
                .take()
                .expect("put there two lines above, under the lock");
        }
        if self.maxsize != 0 && state.items.len() >= self.maxsize {
            return Err(item);
        }
        state.items.push_back(item);
        Ok(None)
    }

    /// Takes the first item, and lets in the item of who waits longest for room, who is to be
    /// woken.
    fn take(&self, state: &mut State<T>) -> Option<(T, Option<Arc<Hand<T>>>)> {
        let item = state.items.pop_front()?;
        let putter = state.putters.claim_one();
        if let Some(putter) = &putter {
            state.items.extend(lock(&putter.item).take());
        }
        Some((item, putter))
    }

    fn put_until(&self, item: T, deadline: Option<u64>) -> Result<(), PutError<T>> {
        switch::check();
        let hand = {
            let mut state = lock(&self.state);
            let item = match self.offer(&mut state, item) {
                Ok(getter) => {
                    drop(state);
                    wake(getter);
                    return Ok(());
                }
                Err(item) => item,
            };
            if !switch::may_wait() {
                return Err(PutError::Full(item));
            }
            let hand = Hand::new(Some(item));
            state.putters.push(Arc::clone(&hand));
            hand
        };
        match hand.waiter.wait(deadline) {
            Ok(()) => Ok(()),
            Err(stop) => {
                lock(&self.state).putters.abandon();
                // The hand stays in the list for a while; the item must not.
                let item = lock(&hand.item).take();
                let item = item.expect("taken only with a notification");
                match stop {
                    Stop::Deadline => Err(PutError::Full(item)),
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    fn get_until(&self, deadline: Option<u64>) -> Result<T, GetError> {
        switch::check();
        let hand = {
            let mut state = lock(&self.state);
            if let Some((item, putter)) = self.take(&mut state) {
                drop(state);
                wake(putter);
                return Ok(item);
            }
            if !switch::may_wait() {
                return Err(GetError::Empty);
            }
            let hand = Hand::new(None);
            state.getters.push(Arc::clone(&hand));
            hand
        };
        match hand.waiter.wait(deadline) {
            Ok(()) => {
                let item = lock(&hand.item).take();
                Ok(item.expect("put there before the claim"))
            }
            Err(stop) => {
                lock(&self.state).getters.abandon();
                match stop {
                    Stop::Deadline => Err(GetError::Empty),
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }
}

/// Wakes who was handed something, without the queue's lock.
fn wake<T>(hand: Option<Arc<Hand<T>>>) {
    if let Some(hand) = hand {
        hand.waiter.wake();
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Queue")
            .field("len", &state.items.len())
            .field("maxsize", &self.maxsize)
            .field("getters", &state.getters.len())
            .field("putters", &state.putters.len())
            .finish()
    }
}
