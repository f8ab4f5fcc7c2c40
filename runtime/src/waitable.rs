//! [`Waitable`]: what can be waited for together with other things.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::run_info::WaitsFor;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::task::lock;
use crate::waiter::{Stop, Waiter};

/// What [`wait`](crate::wait) and [`iwait`](crate::iwait) take: greenlets, events, results,
/// semaphores, queues. Sealed: only this crate implements it.
pub trait Waitable: sealed::Sealed {
    /// Whether a wait for it alone would return at once.
    fn ready(&self) -> bool;

    /// Has the watcher told, once, when it becomes ready; false, and nothing, if it is.
    #[doc(hidden)]
    fn watch(&self, watcher: Watcher) -> bool;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// One of the things that somebody waits for, from the point of view of that thing.
#[doc(hidden)]
#[derive(Clone)]
pub struct Watcher {
    index: usize,
    news: Arc<News>,
}

/// What has become ready of the things that one waits for, in that order.
#[derive(Debug, Default)]
pub(crate) struct News {
    state: Mutex<NewsState>,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct NewsState {
    ready: VecDeque<usize>,
    waiter: Option<Arc<Waiter>>,
}

impl Watcher {
    /// A watcher of the thing of this number.
    pub(crate) fn new(news: &Arc<News>, index: usize) -> Watcher {
        Watcher {
            index,
            news: Arc::clone(news),
        }
    }

    /// Says that the thing is ready. Better without the thing's lock.
    pub(crate) fn tell(&self) {
        let waiter = {
            let mut state = lock(&self.news.state);
            state.ready.push_back(self.index);
            state.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.notify();
        }
    }

    /// Whether anybody still wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.news.over.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl News {
    /// Waits for the next thing that becomes ready, and returns its number.
    ///
    /// # Errors
    ///
    /// [`Stop`]. What becomes ready later is kept for the next call.
    pub(crate) fn next(&self, deadline: Option<u64>) -> Result<usize, Stop> {
        loop {
            let waiter = {
                let mut state = lock(&self.state);
                if let Some(index) = state.ready.pop_front() {
                    return Ok(index);
                }
                let waiter = Waiter::new();
                state.waiter = Some(Arc::clone(&waiter));
                waiter
            };
            if let Err(stop) = waiter.wait(WaitsFor::Several, deadline) {
                lock(&self.state).waiter = None;
                return Err(stop);
            }
        }
    }

    /// What is ready already, if anything is.
    pub(crate) fn try_next(&self) -> Option<usize> {
        lock(&self.state).ready.pop_front()
    }

    /// Nobody waits any more: those who would tell may forget it.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Those who wait for a thing among others. They are told of it and nothing is handed to them.
#[derive(Debug)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub(crate) const fn new() -> Watchers {
        Watchers(Vec::new())
    }

    pub(crate) fn add(&mut self, watcher: Watcher) {
        // Who gave up is dropped here, so that many short waits for one thing take no room.
        if self.0.len() == self.0.capacity() {
            self.0.retain(Watcher::is_wanted);
        }
        self.0.push(watcher);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out all, to be [told](Watchers::tell) without the thing's lock.
    #[inline]
    #[must_use = "they are to be told"]
    pub(crate) fn take(&mut self) -> Watchers {
        std::mem::take(self)
    }

    #[inline]
    pub(crate) fn tell(self) {
        for watcher in self.0 {
            watcher.tell();
        }
    }
}

impl Default for Watchers {
    fn default() -> Watchers {
        Watchers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_forget_those_who_gave_up() {
        let mut watchers = Watchers::new();
        for _ in 0..1_000 {
            let news = Arc::new(News::default());
            watchers.add(Watcher::new(&news, 0));
            news.end();
        }
        assert!(watchers.0.len() < 10);
    }

    #[test]
    fn news_come_in_order() {
        let news = Arc::new(News::default());
        for index in [2, 0, 1] {
            Watcher::new(&news, index).tell();
        }
        assert_eq!(news.next(None).unwrap(), 2);
        assert_eq!(news.try_next(), Some(0));
        assert_eq!(news.next(None).unwrap(), 1);
        assert_eq!(news.try_next(), None);
        assert!(matches!(news.next(Some(1)), Err(Stop::Deadline)));
    }
}
