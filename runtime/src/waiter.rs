//! [`Waiter`]: one wait of one greenlet or thread, ended by exactly one of a notification, a
//! deadline, a time-out or a kill. Every primitive is built on it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::run_info::WaitsFor;
use crate::switch::{self, Parked};
use crate::sync::atomic::{AtomicU8, Ordering, fence};
use crate::sys::coroutine::ForeignParker;
use crate::task::Sleeper;

const WAITING: u8 = 0;
const NOTIFIED: u8 = 1;
const ABANDONED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Waiter {
    sleeper: Sleeper,
    state: AtomicU8,
}

/// Why a wait ended without a notification.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The wait's own deadline.
    Deadline,
    /// A kill or a time-out: to be raised once the primitive has tidied up.
    Interrupt(switch::Interrupt),
}

impl Waiter {
    /// A wait of the calling greenlet or thread.
    pub(crate) fn new() -> Arc<Waiter> {
        let kept = switch::with_kept(Cell::take).flatten();
        // Whoever had it, to notify or to forget it, has let go of it.
        match kept.filter(|kept| Arc::strong_count(kept) == 1) {
            Some(kept) => {
                fence(Ordering::Acquire);
                kept.state.store(WAITING, Ordering::Relaxed);
                kept
            }
            None => Arc::new(Waiter::here()),
        }
    }

    /// As [`new`](Waiter::new), to be a part of something larger that is shared.
    pub(crate) fn here() -> Waiter {
        Waiter {
            sleeper: switch::sleeper(),
            state: AtomicU8::new(WAITING),
        }
    }

    /// A wait of a coroutine that is no greenlet, by `parker`.
    pub(crate) fn of_coroutine(parker: Arc<ForeignParker>) -> Arc<Waiter> {
        Arc::new(Waiter {
            sleeper: Sleeper::Coroutine(parker),
            state: AtomicU8::new(WAITING),
        })
    }

    /// Ends the wait; false when it has ended already, and then the notification belongs to someone
    /// else. If true, [`wake`](Waiter::wake) must follow: better without the primitive's lock, for
    /// which the one woken would only have to wait.
    pub(crate) fn claim(&self) -> bool {
        self.state
            .compare_exchange(WAITING, NOTIFIED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Wakes who has been [claimed](Waiter::claim).
    pub(crate) fn wake(&self) {
        self.sleeper.wake();
    }

    /// Ends the wait and wakes who waits; false as in [`claim`](Waiter::claim).
    pub(crate) fn notify(&self) -> bool {
        let claimed = self.claim();
        if claimed {
            self.wake();
        }
        claimed
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }

    fn abandon(&self) -> bool {
        self.state
            .compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// As [`wait_for`](Waiter::wait_for), and [keeps](Waiter::keep) the waiter.
    #[inline(always)]
    pub(crate) fn wait(self: Arc<Self>, what: WaitsFor, deadline: Option<u64>) -> Result<(), Stop> {
        let ended = self.wait_for(what, deadline);
        self.keep();
        ended
    }

    /// Keeps the waiter for the greenlet's next wait, after the wait for which it was made. Most
    /// waits allocate nothing by that.
    #[inline]
    pub(crate) fn keep(self: Arc<Self>) {
        switch::with_kept(|kept| kept.set(Some(self)));
    }

    /// Waits for the notification, and says for what it comes. A notification that comes at the same
    /// moment as a deadline or a kill wins: what was handed over with it is never lost. The kill is
    /// then raised by the next blocking call.
    ///
    /// # Errors
    ///
    /// [`Stop`]: nobody will notify this waiter any more.
    #[inline(always)]
    pub(crate) fn wait_for(&self, what: WaitsFor, deadline_ns: Option<u64>) -> Result<(), Stop> {
        loop {
            if !self.is_waiting() {
                return Ok(());
            }
            let parked = match &self.sleeper {
                Sleeper::Greenlet(task) => {
                    task.local().frame.waits_for.set(what);
                    switch::park_greenlet(task, deadline_ns)
                }
                _ => switch::park(deadline_ns),
            };
            let stop = match parked {
                Parked::Woken => continue,
                Parked::Expired => Stop::Deadline,
                Parked::Interrupted(interrupt) => Stop::Interrupt(interrupt),
            };
            if self.abandon() {
                return Err(stop);
            }
            if let Stop::Interrupt(switch::Interrupt::Hook) = stop {
                switch::raise_hook_later();
            }
            return Ok(());
        }
    }
}

impl Waiter {
    /// Waits for the notification, and is ended by nothing else.
    pub(crate) fn wait_through(&self) {
        while self.is_waiting() {
            switch::park_through();
        }
    }
}

/// Those who wait for one thing, in the order in which they came.
///
/// Whoever gives up stays in the list until half of it has: giving up costs nothing then, and the
/// list stays bounded.
#[derive(Debug)]
pub(crate) struct WaitList<N> {
    nodes: VecDeque<N>,
    abandoned: usize,
}

/// An entry of a [`WaitList`].
pub(crate) trait Node {
    fn waiter(&self) -> &Waiter;
}

impl Node for Arc<Waiter> {
    fn waiter(&self) -> &Waiter {
        self
    }
}

impl<N> Default for WaitList<N> {
    fn default() -> Self {
        WaitList::new()
    }
}

impl<N> WaitList<N> {
    pub(crate) const fn new() -> WaitList<N> {
        WaitList {
            nodes: VecDeque::new(),
            abandoned: 0,
        }
    }
}

impl<N: Node> WaitList<N> {
    pub(crate) fn push(&mut self, node: N) {
        self.nodes.push_back(node);
    }

    pub(crate) fn pop(&mut self) -> Option<N> {
        self.nodes.pop_front()
    }

    /// Whether nobody is in it, not even who has given up.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(crate) fn first(&self) -> Option<&N> {
        self.nodes.front()
    }

    /// Takes out all.
    pub(crate) fn take(&mut self) -> VecDeque<N> {
        self.abandoned = 0;
        std::mem::take(&mut self.nodes)
    }

    /// Claims the first who still waits, to be [woken](Waiter::wake) without the lock.
    #[must_use = "who is claimed must be woken"]
    pub(crate) fn claim_one(&mut self) -> Option<N> {
        while let Some(node) = self.pop() {
            if node.waiter().claim() {
                return Some(node);
            }
        }
        None
    }

    /// Takes out the first, and claims it if it still waits.
    #[must_use = "who is claimed must be woken"]
    pub(crate) fn claim_first(&mut self) -> Option<N> {
        self.pop().filter(|node| node.waiter().claim())
    }

    /// Says that one of the list has given up.
    pub(crate) fn abandon(&mut self) {
        self.abandoned += 1;
        if self.abandoned * 2 > self.nodes.len() {
            self.nodes.retain(|node| node.waiter().is_waiting());
            self.abandoned = 0;
        }
    }

    /// Whether anybody waits.
    pub(crate) fn any(&self) -> bool {
        self.nodes.iter().any(|node| node.waiter().is_waiting())
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.nodes
            .iter()
            .filter(|node| node.waiter().is_waiting())
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_forgets_those_who_gave_up() {
        let mut list = WaitList::new();
        for _ in 0..1_000 {
            let waiter = Waiter::new();
            list.push(Arc::clone(&waiter));
            assert!(waiter.abandon());
            list.abandon();
        }
        assert!(list.nodes.len() <= 2);
        assert!(list.claim_one().is_none());
    }

    #[test]
    fn a_waiter_ends_once() {
        let waiter = Waiter::new();
        assert!(waiter.notify());
        assert!(!waiter.notify());
        assert!(!waiter.abandon());
        assert!(waiter.wait_for(WaitsFor::Event, None).is_ok());
    }

    #[test]
    fn a_deadline_in_the_past_ends_a_wait() {
        let waiter = Waiter::new();
        let late = waiter.wait_for(WaitsFor::Event, Some(1));
        assert!(matches!(late, Err(Stop::Deadline)));
        assert!(!waiter.notify());
    }
}
