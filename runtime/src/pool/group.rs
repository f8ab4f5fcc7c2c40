//! [`Group`]: gevent's `Group`, and what it has in common with a pool.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::roster::{Place, Roster};
use super::{PoolError, PoolFull};
use crate::error::{JoinError, SpawnError};
use crate::greenlet::{Builder, Current, Greenlet, await_end, kill_tasks};
use crate::switch;
use crate::sys::current;
use crate::task::Task;

/// Greenlets that one joins and kills together: gevent's `Group`. Those that end leave it by
/// themselves, whatever ends them.
///
/// A clone is another handle to the same group. Dropping the last one lets the members run on.
/// Works from greenlets of any hub and from plain threads.
///
/// ```
/// use greenwood_runtime::{sleep, Group};
/// use std::time::Duration;
///
/// let group = Group::new();
/// for i in 0..3 {
///     group.spawn(move || sleep(Duration::from_millis(i)));
/// }
/// assert!(group.join(None));
/// assert_eq!(group.len(), 0);
/// ```
#[derive(Clone)]
pub struct Group {
    roster: Arc<Roster>,
}

impl Group {
    /// A group without members, and without a bound on their number.
    pub fn new() -> Group {
        Group::of_size(usize::MAX)
    }

    pub(super) fn of_size(size: usize) -> Group {
        Group {
            roster: Roster::new(size),
        }
    }

    /// A place for a greenlet that is about to be spawned, waited for without end; none if the caller
    /// unwinds and would have to wait.
    pub(crate) fn place(&self) -> Option<Place> {
        self.roster.place(None)
    }

    /// A place for a greenlet that is about to be spawned, if there is one.
    pub(super) fn place_nowait(&self) -> Option<Place> {
        self.roster.place_nowait()
    }

    /// Whether there can be members at all.
    pub(crate) fn is_of_some_size(&self) -> bool {
        self.roster.size() > 0
    }

    /// Whether both have the same members.
    pub(crate) fn is_same(&self, other: &Group) -> bool {
        Arc::ptr_eq(&self.roster, &other.roster)
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Starts a greenlet that is a member; a full [`Pool`](super::Pool) is waited for.
    ///
    /// A caller that unwinds may not wait: then the new greenlet waits for its place itself, as with
    /// [`apply_async`](Group::apply_async).
    ///
    /// # Panics
    ///
    /// If it can't be started, with the text of the [`SpawnError`].
    /// [`spawn_with`](Group::spawn_with) returns it instead.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        started(match self.place() {
            Some(place) => fill(place, Builder::new(), f),
            None => self.spawn_waiting(f),
        })
    }

    /// As [`spawn`](Group::spawn), but waits for a place no longer than `timeout`: gevent's
    /// `start(timeout)`.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    #[track_caller]
    pub fn spawn_timeout<F, T>(&self, timeout: Duration, f: F) -> Result<Greenlet<T>, PoolError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.roster.place(switch::deadline(Some(timeout)));
        Ok(fill(place.ok_or(PoolFull)?, Builder::new(), f)?)
    }

    /// As [`spawn`](Group::spawn), if there is a place: gevent's `start(blocking=False)`.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    #[track_caller]
    pub fn spawn_nowait<F, T>(&self, f: F) -> Result<Greenlet<T>, PoolError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.place_nowait().ok_or(PoolFull)?;
        Ok(fill(place, Builder::new(), f)?)
    }

    /// As [`spawn`](Group::spawn), for a greenlet with a name, a stack size or a hub of its own.
    ///
    /// # Errors
    ///
    /// [`PoolError`]; [`PoolError::Full`] only in a greenlet that unwinds and would have to wait.
    ///
    /// ```
    /// use greenwood_runtime::{Builder, Pool};
    /// let greenlet = Pool::new(2).spawn_with(Builder::new().name("worker"), || 1)?;
    /// assert_eq!(greenlet.name(), "worker");
    /// # Ok::<(), greenwood_runtime::PoolError>(())
    /// ```
    #[track_caller]
    pub fn spawn_with<F, T>(&self, builder: Builder, f: F) -> Result<Greenlet<T>, PoolError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = self.place().ok_or(PoolFull)?;
        Ok(fill(place, builder, f)?)
    }

    /// Makes an [unstarted](Greenlet::new) greenlet a member and starts it; a full pool is waited
    /// for: gevent's `start`. One that has been started is only [added](Group::add).
    ///
    /// # Errors
    ///
    /// [`PoolError`]; [`PoolError::Full`] only in a greenlet that unwinds and would have to wait.
    pub fn start<T>(&self, greenlet: &Greenlet<T>) -> Result<(), PoolError> {
        self.start_until(greenlet, None)
    }

    /// As [`start`](Group::start), but waits for a place no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`PoolError`].
    pub fn start_timeout<T>(
        &self,
        greenlet: &Greenlet<T>,
        timeout: Duration,
    ) -> Result<(), PoolError> {
        self.start_until(greenlet, switch::deadline(Some(timeout)))
    }

    fn start_until<T>(
        &self,
        greenlet: &Greenlet<T>,
        deadline: Option<u64>,
    ) -> Result<(), PoolError> {
        self.add_to(&greenlet.task, || self.roster.place(deadline))?;
        greenlet.start().map_err(|error| {
            self.roster.discard(&greenlet.task);
            PoolError::Spawn(error)
        })
    }

    /// As [`spawn_with`](Group::spawn_with), on the caller's own hub; nothing need be `Send`.
    ///
    /// # Errors
    ///
    /// As [`spawn_with`](Group::spawn_with); also on a thread that is no hub's.
    #[track_caller]
    pub fn spawn_local<F, T>(&self, builder: Builder, f: F) -> Result<Greenlet<T>, PoolError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let place = self.place().ok_or(PoolFull)?;
        Ok(builder.spawn_local_noted(f, |task| place.occupy(task))?)
    }

    /// A greenlet that becomes a member before it runs `f`, when there is a place.
    #[track_caller]
    pub(super) fn spawn_waiting<F, T>(&self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let roster = Arc::clone(&self.roster);
        Builder::new().spawn(move || {
            let place = roster.place(None);
            drop(roster);
            if let (Some(place), Some(task)) = (place, current::get()) {
                place.occupy(&task);
            }
            f()
        })
    }

    /// Makes a greenlet a member and does not start it: gevent's `add`. One that has ended, or is a
    /// member, is left as it is.
    ///
    /// gevent's waits for a place by default; meanwhile the greenlet would run, and perhaps end,
    /// outside the pool that is to bound it. To wait, use [`start`](Group::start) with a greenlet
    /// that has not been started, or [`add_timeout`](Group::add_timeout).
    ///
    /// # Errors
    ///
    /// [`PoolFull`]: there is no place.
    pub fn add<T>(&self, greenlet: &Greenlet<T>) -> Result<(), PoolFull> {
        self.add_to(&greenlet.task, || self.place_nowait())
    }

    /// As [`add`](Group::add), but waits for a place no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// [`PoolFull`]: there was no place in time.
    pub fn add_timeout<T>(
        &self,
        greenlet: &Greenlet<T>,
        timeout: Duration,
    ) -> Result<(), PoolFull> {
        let deadline = switch::deadline(Some(timeout));
        self.add_to(&greenlet.task, || self.roster.place(deadline))
    }

    fn add_to(
        &self,
        task: &Arc<Task>,
        place: impl FnOnce() -> Option<Place>,
    ) -> Result<(), PoolFull> {
        if !task.has_ended() && !self.roster.contains(task.id()) {
            place().ok_or(PoolFull)?.occupy(task);
        }
        Ok(())
    }

    /// Takes a greenlet out, which runs on; whether it was a member. Its place is free then.
    pub fn discard<T>(&self, greenlet: &Greenlet<T>) -> bool {
        self.roster.discard(&greenlet.task)
    }

    /// Whether a greenlet is a member.
    pub fn contains<T>(&self, greenlet: &Greenlet<T>) -> bool {
        self.roster.contains(greenlet.id())
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.roster.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members at present, in the order in which they were spawned.
    pub fn iter(&self) -> std::vec::IntoIter<Current> {
        let members: Vec<_> = self.roster.members().into_iter().map(Current::of).collect();
        members.into_iter()
    }

    /// Waits until there are no members, no longer than `timeout` (none: without end); whether it
    /// came to that: gevent's `join`.
    ///
    /// When it returns there may be new ones. A member that calls it waits for itself.
    pub fn join(&self, timeout: Option<Duration>) -> bool {
        self.roster.wait_empty(switch::deadline(timeout))
    }

    /// As [`join`](Group::join); but if a member comes to an error meanwhile, that is returned after
    /// the wait: gevent's `join(raise_error=True)`. A kill is no error, unless it has a payload.
    ///
    /// # Errors
    ///
    /// The first of those errors.
    ///
    /// ```no_run
    /// let group = greenwood_runtime::Group::new();
    /// group.spawn(|| panic!("it fails while it is waited for"));
    /// assert!(group.join_raise_error(None).unwrap_err().is_panic());
    /// ```
    pub fn join_raise_error(&self, timeout: Option<Duration>) -> Result<bool, JoinError> {
        self.roster.wait_empty_or_failed(switch::deadline(timeout))
    }

    /// Kills all members and waits until there are none: gevent's `kill`. Those that come meanwhile
    /// are killed too. A member that calls it goes last, and does not come back.
    pub fn kill(&self) {
        self.kill_until(None);
    }

    /// As [`kill`](Group::kill), but waits no longer than `timeout`; whether all have ended.
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.kill_until(switch::deadline(Some(timeout)))
    }

    /// Kills all members and does not wait: gevent's `kill(block=False)`.
    pub fn kill_nowait(&self) {
        kill_tasks(&self.roster.members());
    }

    fn kill_until(&self, deadline: Option<u64>) -> bool {
        let mut members = self.roster.all();
        if members.is_empty() {
            // Else the waits below do so; not before who is to be killed is.
            switch::check();
        }
        while !members.is_empty() {
            kill_tasks(&members);
            if !members.iter().all(|task| await_end(task, deadline)) {
                return false;
            }
            members = self.roster.all();
        }
        true
    }

    /// Kills a greenlet and waits for its end, if it is a member: gevent's `killone`. Whether it
    /// was one.
    pub fn killone<T>(&self, greenlet: &Greenlet<T>) -> bool {
        let is_member = self.killone_nowait(greenlet);
        if is_member {
            await_end(&greenlet.task, None);
        }
        is_member
    }

    /// As [`killone`](Group::killone), but does not wait for the end.
    pub fn killone_nowait<T>(&self, greenlet: &Greenlet<T>) -> bool {
        let is_member = self.contains(greenlet);
        if is_member {
            greenlet.kill_nowait();
        }
        is_member
    }

    /// Whether a [`spawn`](Group::spawn) would have to wait. Never, in a group that is no pool.
    pub fn full(&self) -> bool {
        self.roster.free() == 0
    }

    /// Waits until a greenlet can be spawned without waiting, no longer than `timeout` (none:
    /// without end); how many can, 0 if the time was up. Somebody else may be quicker. gevent's
    /// `wait_available`.
    pub fn wait_available(&self, timeout: Option<Duration>) -> usize {
        let deadline = switch::deadline(timeout);
        while self.roster.wait_free(deadline) {
            let free = self.roster.free();
            if free > 0 {
                return free;
            }
        }
        0
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(name).field(&self.roster).finish()
    }
}

#[track_caller]
pub(super) fn fill<F, T>(place: Place, builder: Builder, f: F) -> Result<Greenlet<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    builder.spawn_noted(f, Location::caller(), |task| place.occupy(task))
}

#[track_caller]
pub(super) fn started<T>(spawned: Result<Greenlet<T>, SpawnError>) -> Greenlet<T> {
    match spawned {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl IntoIterator for &Group {
    type Item = Current;
    type IntoIter = std::vec::IntoIter<Current>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as("Group", f)
    }
}
