//! [`Roster`]: who is in a group, and the places that are left.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use crate::error::JoinError;
use crate::places::{self, HasPlaces, Places};
use crate::run_info::WaitsFor;
use crate::switch;
use crate::task::{Keeper, Task, lock};
use crate::waiter::{WaitList, Waiter};
use crate::waiting::wait_in;

/// What the handles of a group share. It has its members, and they have a way to it.
pub(super) struct Roster {
    state: Mutex<State>,
}

pub(super) struct State {
    places: Places,
    /// By their numbers, which is in the order in which they were spawned.
    members: BTreeMap<u64, Arc<Task>>,
    /// Those who have given up their place and have not quite ended. Hardly ever more than one for
    /// each hub.
    leaving: Vec<Arc<Task>>,
    /// They wait until it is empty.
    joiners: WaitList<Arc<Waiter>>,
    /// What members have come to, for those who wait and want to know.
    failures: Vec<Arc<Failure>>,
    /// They wait until there is a place, and are not given one.
    lookers: WaitList<Arc<Waiter>>,
}

/// The first error that a member has come to.
type Failure = Mutex<Option<JoinError>>;

impl HasPlaces for State {
    fn places(&mut self) -> &mut Places {
        &mut self.places
    }
}

/// A place that nobody has yet. Dropped, it goes to the next.
pub(crate) struct Place {
    roster: Option<Arc<Roster>>,
}

impl Place {
    /// Makes `task` a member.
    pub(crate) fn occupy(mut self, task: &Arc<Task>) {
        if let Some(roster) = self.roster.take() {
            roster.enter(task);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(roster) = self.roster.take() {
            roster.give_back();
        }
    }
}

impl Roster {
    pub(super) fn new(size: usize) -> Arc<Roster> {
        Arc::new(Roster {
            state: Mutex::new(State {
                places: Places::new(size),
                members: BTreeMap::new(),
                leaving: Vec::new(),
                joiners: WaitList::new(),
                failures: Vec::new(),
                lookers: WaitList::new(),
            }),
        })
    }

    /// A place, waited for until `deadline`; none also if the caller unwinds and would have to wait.
    pub(super) fn place(self: &Arc<Self>, deadline: Option<u64>) -> Option<Place> {
        if !places::take(&self.state, WaitsFor::Pool, deadline) {
            return None;
        }
        let roster = Some(Arc::clone(self));
        let place = Place { roster };
        // A kill that is raised here gives the place back.
        switch::share();
        Some(place)
    }

    /// A place, if there is one.
    pub(super) fn place_nowait(self: &Arc<Self>) -> Option<Place> {
        let taken = lock(&self.state).places.try_take();
        taken.then(|| Place {
            roster: Some(Arc::clone(self)),
        })
    }

    fn give_back(&self) {
        let (next, lookers) = {
            let mut state = lock(&self.state);
            (state.places.give_back(), state.lookers_to_tell())
        };
        wake(next, lookers);
    }

    /// Makes `task` a member, for a place that the caller has taken.
    fn enter(self: &Arc<Self>, task: &Arc<Task>) {
        let before = lock(&self.state)
            .members
            .insert(task.id(), Arc::clone(task));
        if before.is_some() {
            // Somebody else was quicker.
            self.give_back();
        } else if !task.keep(Arc::downgrade(self) as Weak<dyn Keeper>) && self.leaves(task.id()) {
            self.left(task.id());
        }
    }

    /// Takes a member out; whether it was one.
    pub(super) fn discard(&self, task: &Task) -> bool {
        let was_member = self.leaves(task.id());
        if was_member {
            task.forget(self);
            self.left(task.id());
        }
        was_member
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        lock(&self.state).members.contains_key(&id)
    }

    pub(super) fn members(&self) -> Vec<Arc<Task>> {
        lock(&self.state).members.values().cloned().collect()
    }

    /// The members, and those who have not quite ended.
    pub(super) fn all(&self) -> Vec<Arc<Task>> {
        let state = lock(&self.state);
        let all = state.members.values().chain(&state.leaving);
        all.cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.state).members.len()
    }

    pub(super) fn size(&self) -> usize {
        lock(&self.state).places.limit()
    }

    pub(super) fn free(&self) -> usize {
        lock(&self.state).places.free()
    }

    /// Waits until there are no members; false if `deadline` came first, or the caller unwinds and
    /// would have to wait.
    pub(super) fn wait_empty(&self, deadline: Option<u64>) -> bool {
        self.wait(deadline, State::is_empty, |state| &mut state.joiners)
    }

    /// As [`wait_empty`](Roster::wait_empty), with the first error that a member comes to meanwhile.
    pub(super) fn wait_empty_or_failed(&self, deadline: Option<u64>) -> Result<bool, JoinError> {
        let failure = Arc::new(Failure::new(None));
        lock(&self.state).failures.push(Arc::clone(&failure));
        let _heard = Heard(self, &failure);
        let empty = self.wait_empty(deadline);
        let error = lock(&failure).take();
        error.map_or(Ok(empty), Err)
    }

    /// Waits until there is a free place.
    pub(super) fn wait_free(&self, deadline: Option<u64>) -> bool {
        let is_free = |state: &State| state.places.free() > 0;
        self.wait(deadline, is_free, |state| &mut state.lookers)
    }

    fn wait(
        &self,
        deadline: Option<u64>,
        is_so: impl Fn(&State) -> bool,
        list: impl Fn(&mut State) -> &mut WaitList<Arc<Waiter>>,
    ) -> bool {
        switch::share();
        wait_in(
            &self.state,
            WaitsFor::Pool,
            deadline,
            |state| is_so(state),
            list,
        )
    }
}

/// Somebody is told of errors as long as it is there.
struct Heard<'a>(&'a Roster, &'a Arc<Failure>);

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        let failures = &mut lock(&self.0.state).failures;
        failures.retain(|failure| !Arc::ptr_eq(failure, self.1));
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.leaving.is_empty()
    }

    fn lookers_to_tell(&mut self) -> Vec<Arc<Waiter>> {
        match self.places.free() {
            0 => Vec::new(),
            _ => self.lookers.take().into(),
        }
    }
}

impl Keeper for Roster {
    fn failed(&self, id: u64, error: &JoinError) {
        let state = lock(&self.state);
        if error.is_exit() || !state.members.contains_key(&id) {
            return;
        }
        for failure in &state.failures {
            lock(failure).get_or_insert_with(|| error.clone());
        }
    }

    fn leaves(&self, id: u64) -> bool {
        let (next, lookers) = {
            let mut state = lock(&self.state);
            let Some(member) = state.members.remove(&id) else {
                return false;
            };
            state.leaving.push(member);
            (state.places.give_back(), state.lookers_to_tell())
        };
        wake(next, lookers);
        true
    }

    fn left(&self, id: u64) {
        let joiners = {
            let mut state = lock(&self.state);
            state.leaving.retain(|task| task.id() != id);
            if !state.is_empty() {
                return;
            }
            state.joiners.take()
        };
        for joiner in joiners {
            joiner.notify();
        }
    }
}

/// Wakes who has been given a place, and those who only look for one.
fn wake(next: Option<Arc<Waiter>>, lookers: Vec<Arc<Waiter>>) {
    if let Some(next) = next {
        next.wake();
    }
    for looker in lookers {
        looker.notify();
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = {
            let state = lock(&self.state);
            [
                ("members", state.members.len()),
                ("size", state.places.limit()),
                ("spawners", state.places.waiting()),
                ("joiners", state.joiners.len()),
                ("lookers", state.lookers.len()),
            ]
        };
        let mut text = f.debug_struct("Roster");
        for (name, number) in &fields {
            text.field(name, number);
        }
        text.finish()
    }
}
