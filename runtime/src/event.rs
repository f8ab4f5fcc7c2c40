//! [`Event`]: gevent's `Event`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::Mutex;
use crate::task::lock;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher, Watchers};
use crate::waiter::{WaitList, Waiter};
use crate::waiting::wait_in;

/// A flag that greenlets and threads wait for: gevent's `Event`.
///
/// ```
/// use greenwood_runtime::{spawn, Event};
/// use std::sync::Arc;
///
/// let ready = Arc::new(Event::new());
/// let theirs = Arc::clone(&ready);
/// let waiter = spawn(move || theirs.wait());
/// ready.set();
/// assert!(waiter.join().unwrap());
/// ```
#[derive(Default)]
pub struct Event {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    set: bool,
    waiters: WaitList<Arc<Waiter>>,
    watchers: Watchers,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Event {
        Event {
            state: Mutex::new(State {
                set: false,
                waiters: WaitList::new(),
                watchers: Watchers::new(),
            }),
        }
    }

    /// Sets the flag and wakes all who wait, in the order in which they came; behind them those who
    /// wait for several things ([`wait`](crate::wait), [`iwait`](crate::iwait)).
    pub fn set(&self) {
        let (waiters, watchers) = {
            let mut state = lock(&self.state);
            state.set = true;
            (state.waiters.take(), state.watchers.take())
        };
        for waiter in waiters {
            waiter.notify();
        }
        watchers.tell();
    }

    /// Takes the flag back. Who was woken by a [`set`](Event::set) before returns all the same.
    pub fn clear(&self) {
        lock(&self.state).set = false;
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        lock(&self.state).set
    }

    /// Waits until the flag is set; at once if it is. False only in a greenlet that unwinds and
    /// would have to wait.
    pub fn wait(&self) -> bool {
        self.wait_until(None)
    }

    /// Waits until the flag is set, no longer than `timeout`. True if it was set at least once
    /// while waiting.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(switch::deadline(Some(timeout)))
    }

    pub(crate) fn wait_until(&self, deadline: Option<u64>) -> bool {
        wait_in(
            &self.state,
            WaitsFor::Event,
            deadline,
            |state| state.set,
            |state| &mut state.waiters,
        )
    }
}

impl Sealed for Event {}

impl Waitable for Event {
    fn ready(&self) -> bool {
        self.is_set()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        let mut state = lock(&self.state);
        if !state.set {
            state.watchers.add(watcher);
        }
        !state.set
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (set, waiters) = {
            let state = lock(&self.state);
            (state.set, state.waiters.len())
        };
        f.debug_struct("Event")
            .field("set", &set)
            .field("waiters", &waiters)
            .finish()
    }
}
