//! [`Places`]: a bounded number of places, given to those who wait for one in their order. Group,
//! thread pool and resolver are built on it.

use std::sync::{Arc, Mutex};

use crate::run_info::WaitsFor;
use crate::waiter::{Node, WaitList, Waiter};
use crate::waiting::wait_in;

/// Counts the places that are taken. Part of a state behind a lock.
#[derive(Debug)]
pub(crate) struct Places<N = Arc<Waiter>> {
    taken: usize,
    limit: usize,
    /// They wait only while nothing is free: what becomes free is theirs at once.
    waiters: WaitList<N>,
}

/// A state with places in it.
pub(crate) trait HasPlaces {
    fn places(&mut self) -> &mut Places;
}

impl HasPlaces for Places {
    fn places(&mut self) -> &mut Places {
        self
    }
}

impl<N> Places<N> {
    pub(crate) const fn new(limit: usize) -> Places<N> {
        Places {
            taken: 0,
            limit,
            waiters: WaitList::new(),
        }
    }
}

impl<N: Node> Places<N> {
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    /// How many wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn try_take(&mut self) -> bool {
        let free = self.taken < self.limit;
        if free {
            self.taken += 1;
        }
        free
    }

    /// Takes a place beyond the limit, for one who may not wait.
    pub(crate) fn take_anyway(&mut self) {
        self.taken += 1;
    }

    /// Gives a place back, or on: to who waits longest, and is to be woken without the lock.
    #[must_use = "who is claimed must be woken"]
    pub(crate) fn give_back(&mut self) -> Option<N> {
        self.taken -= 1;
        self.give()
    }

    /// Changes the limit. Those who are let in are to be woken without the lock.
    #[must_use = "who is claimed must be woken"]
    pub(crate) fn set_limit(&mut self, limit: usize) -> Vec<N> {
        self.limit = limit;
        std::iter::from_fn(|| self.give()).collect()
    }

    /// Has `node` wait for a place.
    pub(crate) fn wait(&mut self, node: N) {
        self.waiters.push(node);
    }

    /// Says that one who waited has given up.
    pub(crate) fn abandon(&mut self) {
        self.waiters.abandon();
    }

    fn give(&mut self) -> Option<N> {
        if self.taken >= self.limit {
            return None;
        }
        let next = self.waiters.claim_one()?;
        self.taken += 1;
        Some(next)
    }
}

/// Takes a place, and waits for it if need be, as for `what`. False if `deadline` came first, or the
/// caller unwinds and would have to wait.
///
/// Calls [`share`](crate::switch::share) nowhere: that may raise a kill, and the place would be lost.
/// The caller does, once somebody owns it.
pub(crate) fn take<S: HasPlaces>(state: &Mutex<S>, what: WaitsFor, deadline: Option<u64>) -> bool {
    wait_in(
        state,
        what,
        deadline,
        |state| state.places().try_take(),
        |state| &mut state.places().waiters,
    )
}
