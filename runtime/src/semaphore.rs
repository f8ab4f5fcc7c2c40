//! [`Semaphore`]: gevent's `Semaphore`.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::switch;
use crate::task::lock;
use crate::waiter::{Stop, WaitList, Waiter};

/// A counter of permits: gevent's `Semaphore`. Fair: a permit goes to whoever waits longest.
///
/// ```
/// use greenwood_runtime::Semaphore;
/// let two = Semaphore::new(2);
/// assert!(two.acquire() && two.try_acquire());
/// assert!(!two.try_acquire());
/// two.release();
/// assert!(two.try_acquire());
/// ```
pub struct Semaphore {
    state: Mutex<State>,
}

struct State {
    permits: usize,
    waiters: WaitList<Arc<Waiter>>,
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore {
            state: Mutex::new(State {
                permits,
                waiters: WaitList::new(),
            }),
        }
    }

    /// Takes a permit, waiting for one if need be. False only in a greenlet that unwinds and would
    /// have to wait.
    #[must_use = "without a permit nothing may be released"]
    pub fn acquire(&self) -> bool {
        self.acquire_until(None)
    }

    /// Takes a permit, waiting for one no longer than `timeout`; whether it has one.
    #[must_use = "without a permit nothing may be released"]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_until(switch::deadline(Some(timeout)))
    }

    /// Takes a permit if there is one: gevent's `acquire(blocking=False)`.
    #[must_use = "without a permit nothing may be released"]
    pub fn try_acquire(&self) -> bool {
        let mut state = lock(&self.state);
        if state.permits == 0 {
            return false;
        }
        state.permits -= 1;
        true
    }

    /// Gives a permit back, or adds one: it may exceed the number at the start, as in gevent.
    ///
    /// # Panics
    ///
    /// If there are `usize::MAX` permits already.
    pub fn release(&self) {
        let next = {
            let mut state = lock(&self.state);
            // Handed over directly: whoever comes now can't overtake. Who gave up at this moment is
            // passed over.
            let next = state.waiters.claim_one();
            if next.is_none() {
                let permits = state.permits.checked_add(1);
                state.permits = permits.expect("more permits than can be counted");
            }
            next
        };
        if let Some(next) = next {
            next.wake();
        }
    }

    /// How many permits can be had without waiting.
    pub fn counter(&self) -> usize {
        lock(&self.state).permits
    }

    /// Whether an [`acquire`](Semaphore::acquire) would have to wait.
    pub fn locked(&self) -> bool {
        self.counter() == 0
    }

    fn acquire_until(&self, deadline: Option<u64>) -> bool {
        switch::check();
        let waiter = {
            let mut state = lock(&self.state);
            if state.permits > 0 {
                state.permits -= 1;
                return true;
            }
            if !switch::may_wait() {
                return false;
            }
            let waiter = Waiter::new();
            state.waiters.push(Arc::clone(&waiter));
            waiter
        };
        match waiter.wait(deadline) {
            // The permit came with the notification.
            Ok(()) => true,
            Err(stop) => {
                lock(&self.state).waiters.abandon();
                match stop {
                    Stop::Deadline => false,
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Semaphore")
            .field("permits", &state.permits)
            .field("waiters", &state.waiters.len())
            .finish()
    }
}
