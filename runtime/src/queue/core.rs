//! What all queues have in common: who waits, who is served, and the end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::hand::{Getter, Putter, Wakes, key_of};
use super::store::Store;
use super::{GetError, PutError};
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::{Mutex, MutexGuard};
use crate::task::lock;
use crate::waitable::{Watcher, Watchers};
use crate::waiter::{Stop, WaitList, Waiter};

/// The capacity of a queue without a bound.
pub(super) const UNBOUNDED: usize = usize::MAX;

/// Room for items on their way to getters that is kept when there are none.
const MOST_ROOM: usize = 64;

/// A queue over a store `S` of its items.
///
/// Who waits for an item waits while nothing is stored; who waits with one, while as much is stored
/// as may be. So there are never both, and nobody waits for what is there.
pub(super) struct Core<T, S> {
    state: Mutex<State<T, S>>,
}

struct State<T, S> {
    store: S,
    /// How many items may be stored. With none, each goes from hand to hand.
    capacity: usize,
    shut_down: bool,
    /// Items put, less those reported as done.
    unfinished: usize,
    getters: WaitList<Getter<T>>,
    putters: WaitList<Arc<Putter<T>>>,
    /// Items of getters that have been woken, by their keys.
    handed: VecDeque<(usize, T)>,
    joiners: WaitList<Arc<Waiter>>,
    watchers: Watchers,
}

impl<T, S> Core<T, S> {
    pub(super) const fn new(store: S, capacity: usize, unfinished: usize) -> Core<T, S> {
        Core {
            state: Mutex::new(State {
                store,
                capacity,
                shut_down: false,
                unfinished,
                getters: WaitList::new(),
                putters: WaitList::new(),
                handed: VecDeque::new(),
                joiners: WaitList::new(),
                watchers: Watchers::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, S>> {
        lock(&self.state)
    }
}

impl<T, S: Store<T>> Core<T, S> {
    pub(super) fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        // Dropped, and those in it woken, after the guard.
        let mut wakes = Wakes::none();
        self.state().offer(item, &mut wakes)
    }

    #[inline]
    pub(super) fn put_until(&self, item: T, deadline: Option<u64>) -> Result<(), PutError<T>> {
        switch::check();
        let mut wakes = Wakes::none();
        let mut state = self.state();
        match state.offer(item, &mut wakes) {
            Err(PutError::Full(item)) if switch::may_wait() => {
                self.await_room(state, item, deadline)
            }
            result => result,
        }
    }

    /// As [`put_until`](Core::put_until); and who has waited for the item goes on first, if it is a
    /// greenlet of the same hub.
    pub(super) fn meet_until(&self, item: T, deadline: Option<u64>) -> Result<(), PutError<T>> {
        switch::check();
        let mut wakes = Wakes::none();
        let mut state = self.state();
        match state.offer(item, &mut wakes) {
            Ok(()) => {
                drop(state);
                drop(wakes);
                switch::let_others_go_first();
                Ok(())
            }
            Err(PutError::Full(item)) if switch::may_wait() => {
                self.await_room(state, item, deadline)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits with the item until it is stored or taken.
    #[inline(never)]
    fn await_room(
        &self,
        mut state: MutexGuard<'_, State<T, S>>,
        item: T,
        deadline: Option<u64>,
    ) -> Result<(), PutError<T>> {
        let putter = Putter::new(item);
        state.putters.push(Arc::clone(&putter));
        // Nothing is stored, and yet a get would not wait any more.
        let watchers = match state.capacity {
            0 => state.watchers.take(),
            _ => Watchers::new(),
        };
        drop(state);
        watchers.tell();
        let stop = match putter.waiter.wait_for(WaitsFor::Queue, deadline) {
            Ok(()) if putter.is_refused() => None,
            // Who has claimed it takes the item, perhaps only now.
            Ok(()) => return Ok(()),
            Err(stop) => {
                self.state().putters.abandon();
                Some(stop)
            }
        };
        // The putter may stay in the list for a while; the item must not.
        let item = lock(&putter.item).take();
        let item = item.expect("nobody takes it from a putter that was not claimed");
        match stop {
            None => Err(PutError::ShutDown(item)),
            Some(Stop::Deadline) => Err(PutError::Full(item)),
            Some(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
        }
    }

    pub(super) fn get_nowait(&self) -> Result<T, GetError> {
        let mut wakes = Wakes::none();
        let mut state = self.state();
        let taken = state.take(&mut wakes);
        taken.ok_or_else(|| state.why_empty())
    }

    #[inline(always)]
    pub(super) fn get_until(&self, deadline: Option<u64>) -> Result<T, GetError> {
        switch::check();
        let mut wakes = Wakes::none();
        let mut state = self.state();
        match state.take(&mut wakes) {
            Some(item) => Ok(item),
            None => self.await_item(state, None, deadline),
        }
    }

    pub(super) fn peek_nowait(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        let state = self.state();
        let item = state.store.peek().cloned();
        item.ok_or_else(|| state.why_empty())
    }

    pub(super) fn peek_until(&self, deadline: Option<u64>) -> Result<T, GetError>
    where
        T: Clone,
    {
        switch::check();
        let state = self.state();
        match state.store.peek() {
            Some(item) => Ok(item.clone()),
            None => self.await_item(state, Some(T::clone), deadline),
        }
    }

    /// Waits for an item, or with `copy` for the sight of one.
    #[inline(never)]
    fn await_item(
        &self,
        mut state: MutexGuard<'_, State<T, S>>,
        copy: Option<fn(&T) -> T>,
        deadline: Option<u64>,
    ) -> Result<T, GetError> {
        if state.shut_down || !switch::may_wait() {
            return Err(state.why_empty());
        }
        let waiter = Waiter::new();
        state.getters.push(Getter {
            waiter: Arc::clone(&waiter),
            copy,
        });
        drop(state);
        match waiter.wait_for(WaitsFor::Queue, deadline) {
            Ok(()) => {
                let item = self.state().handed_to(key_of(&waiter));
                waiter.keep();
                item.ok_or(GetError::ShutDown)
            }
            Err(stop) => {
                self.state().getters.abandon();
                match stop {
                    Stop::Deadline => Err(GetError::Empty),
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.state().store.len()
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        state.store.len() >= state.capacity
    }

    pub(super) fn capacity(&self) -> usize {
        self.state().capacity
    }

    pub(super) fn set_capacity(&self, capacity: usize) {
        let mut wakes = Wakes::none();
        let mut state = self.state();
        state.capacity = capacity;
        while state.admit(&mut wakes) {}
        drop(state);
        drop(wakes);
    }

    /// How many wait to put, and how many to get.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.putters.len(), state.getters.len())
    }

    pub(super) fn shutdown(&self, immediate: bool) {
        let mut state = self.state();
        state.shut_down = true;
        let mut joiners = None;
        let dropped = immediate.then(|| {
            let dropped = state.store.drain();
            state.unfinished = state.unfinished.saturating_sub(dropped.len());
            if state.unfinished == 0 {
                joiners = Some(state.joiners.take());
            }
            dropped
        });
        let (getters, putters) = (state.getters.take(), state.putters.take());
        let watchers = state.watchers.take();
        drop(state);
        for getter in getters {
            getter.waiter.notify();
        }
        for putter in putters {
            putter.refuse();
        }
        for joiner in joiners.into_iter().flatten() {
            joiner.notify();
        }
        watchers.tell();
        // Last, as the items' own code may panic.
        drop(dropped);
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.state().shut_down
    }

    pub(super) fn unfinished(&self) -> usize {
        self.state().unfinished
    }

    /// # Panics
    ///
    /// If nothing is unfinished.
    pub(super) fn task_done(&self) {
        let joiners = {
            let mut state = self.state();
            let left = state.unfinished.checked_sub(1);
            state.unfinished = left.expect("task_done called more often than items were put");
            match state.unfinished {
                0 => state.joiners.take(),
                _ => return,
            }
        };
        for joiner in joiners {
            joiner.notify();
        }
    }

    /// Whether all is done.
    pub(super) fn join_until(&self, deadline: Option<u64>) -> bool {
        switch::check();
        let waiter = {
            let mut state = self.state();
            if state.unfinished == 0 {
                return true;
            }
            if !switch::may_wait() {
                return false;
            }
            let waiter = Waiter::new();
            state.joiners.push(Arc::clone(&waiter));
            waiter
        };
        match waiter.wait(WaitsFor::Queue, deadline) {
            Ok(()) => true,
            Err(stop) => {
                self.state().joiners.abandon();
                match stop {
                    Stop::Deadline => false,
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }

    /// A copy of what is stored, the bound and the count of what is unfinished.
    pub(super) fn copy(&self) -> Core<T, S>
    where
        S: Clone,
    {
        let state = self.state();
        Core::new(state.store.clone(), state.capacity, state.unfinished)
    }

    pub(super) fn ready(&self) -> bool {
        self.state().ready()
    }

    pub(super) fn watch(&self, watcher: Watcher) -> bool {
        let mut state = self.state();
        let ready = state.ready();
        if !ready {
            state.watchers.add(watcher);
        }
        !ready
    }

    pub(super) fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (numbers, shut_down) = {
            let state = self.state();
            let numbers = [
                ("len", state.store.len()),
                ("maxsize", maxsize(state.capacity)),
                ("getters", state.getters.len()),
                ("putters", state.putters.len()),
                ("unfinished", state.unfinished),
            ];
            (numbers, state.shut_down)
        };
        let mut text = f.debug_struct(name);
        for (name, number) in &numbers {
            text.field(name, number);
        }
        text.field("shut_down", &shut_down).finish()
    }
}

impl<T, S: Store<T>> State<T, S> {
    /// Gives the item to who waits longest, else stores it.
    ///
    /// # Errors
    ///
    /// [`PutError`], with the item.
    // Inlined with `take`: returning their results by memory costs as much as they do. Those to be
    // woken are not part of them for the same reason.
    #[inline(always)]
    fn offer(&mut self, item: T, wakes: &mut Wakes<T>) -> Result<(), PutError<T>> {
        if self.shut_down {
            return Err(PutError::ShutDown(item));
        }
        let item = match self.getters.is_empty() {
            true => item,
            false => match self.hand_over(item, wakes) {
                Some(item) => item,
                None => return Ok(()),
            },
        };
        if self.store.len() >= self.capacity {
            return Err(PutError::Full(item));
        }
        self.unfinished += 1;
        if !self.watchers.is_empty() {
            wakes.several().watchers = self.watchers.take();
        }
        self.store.push(item);
        Ok(())
    }

    /// Gives the item to who waits longest, and lets those see it who are before; returns it if
    /// nobody has taken it.
    fn hand_over(&mut self, item: T, wakes: &mut Wakes<T>) -> Option<T> {
        while let Some(getter) = self.getters.first() {
            if let Some(copy) = getter.copy {
                // Who looks stays in the list until it is made: the item's own code may panic.
                let copied = copy(&item);
                match self.getters.claim_first() {
                    Some(getter) => {
                        self.handed.push_back((key_of(&getter.waiter), copied));
                        wakes.several().first.push(getter.waiter);
                    }
                    None => wakes.several().unseen.push(copied),
                }
                continue;
            }
            // It looks under the lock.
            if let Some(getter) = self.getters.claim_first() {
                self.handed.push_back((key_of(&getter.waiter), item));
                self.unfinished += 1;
                wakes.add(getter.waiter);
                return None;
            }
        }
        Some(item)
    }

    /// The item that has been handed to a getter.
    #[inline]
    fn handed_to(&mut self, key: usize) -> Option<T> {
        // Nearly always the first.
        let taken = match self.handed.front() {
            Some(first) if first.0 == key => self.handed.pop_front(),
            _ => {
                let at = self.handed.iter().position(|it| it.0 == key)?;
                self.handed.remove(at)
            }
        };
        // A burst must not keep its room for ever.
        if self.handed.is_empty() && self.handed.capacity() > MOST_ROOM {
            self.handed = VecDeque::new();
        }
        taken.map(|it| it.1)
    }

    /// Takes the next item, and lets in that of who waits longest for room.
    #[inline(always)]
    fn take(&mut self, wakes: &mut Wakes<T>) -> Option<T> {
        if let Some(item) = self.store.pop() {
            self.admit(wakes);
            return Some(item);
        }
        // Where nothing is stored, from hand to hand.
        match self.putters.is_empty() {
            true => None,
            false => self.claim_putter(wakes),
        }
    }

    /// Stores the item of who waits longest for room, if there is room; whether it has.
    #[inline(always)]
    fn admit(&mut self, wakes: &mut Wakes<T>) -> bool {
        if self.putters.is_empty() || self.store.len() >= self.capacity {
            return false;
        }
        let item = self.claim_putter(wakes);
        let found = item.is_some();
        if let Some(item) = item {
            self.store.push(item);
        }
        found
    }

    /// Takes the item of who waits longest for room.
    fn claim_putter(&mut self, wakes: &mut Wakes<T>) -> Option<T> {
        let putter = self.putters.claim_one()?;
        let item = lock(&putter.item).take();
        self.unfinished += 1;
        wakes.add(Arc::clone(&putter.waiter));
        Some(item.expect("a putter has its item until it is claimed"))
    }

    fn why_empty(&self) -> GetError {
        if self.shut_down {
            GetError::ShutDown
        } else {
            GetError::Empty
        }
    }

    /// Whether a get would return at once.
    fn ready(&self) -> bool {
        self.store.len() > 0 || self.shut_down || (self.capacity == 0 && self.putters.any())
    }
}

/// The bound as gevent gives it: 0 for none.
pub(super) fn maxsize(capacity: usize) -> usize {
    match capacity {
        UNBOUNDED => 0,
        bounded => bounded,
    }
}

/// The opposite of [`maxsize`].
pub(super) const fn capacity(maxsize: usize) -> usize {
    match maxsize {
        0 => UNBOUNDED,
        bounded => bounded,
    }
}
