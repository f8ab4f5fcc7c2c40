//! [`Group`]: gevent's `Group`, and what it has in common with a pool.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::imap::{Feed, Imap};
use super::roster::{Place, Roster};
use super::{PoolError, PoolFull};
use crate::error::{JoinError, Payload, SpawnError};
use crate::greenlet::{Builder, Current, Greenlet, await_end, kill_tasks};
use crate::panics::is_interrupt;
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

/// What a `map` has begun.
enum Begun<T> {
    Greenlet(Greenlet<T>),
    /// In the caller itself.
    Done(Result<T, JoinError>),
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
        started(match self.roster.place(None) {
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
        let place = self.roster.place_nowait().ok_or(PoolFull)?;
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
        let place = self.roster.place(None).ok_or(PoolFull)?;
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
        let place = self.roster.place(None).ok_or(PoolFull)?;
        Ok(builder.spawn_local_noted(f, |task| place.occupy(task))?)
    }

    /// A greenlet that becomes a member before it runs `f`, when there is a place.
    #[track_caller]
    fn spawn_waiting<F, T>(&self, f: F) -> Result<Greenlet<T>, SpawnError>
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
        self.add_to(&greenlet.task, || self.roster.place_nowait())
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
        loop {
            let members = self.roster.all();
            if members.is_empty() {
                return true;
            }
            kill_tasks(&members);
            if !members.iter().all(|task| await_end(task, deadline)) {
                return false;
            }
        }
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

    /// Runs `f` in a member and waits for its result: gevent's `apply`.
    ///
    /// Called by a member it runs `f` in the caller, which could otherwise wait for its own place.
    /// If the caller is killed while it waits, the member runs on.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: `f` panicked, or its greenlet was killed or could not be started.
    #[track_caller]
    pub fn apply<F, T>(&self, f: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.is_called_by_member() {
            return run_here(f);
        }
        match self.roster.place(None) {
            Some(place) => fill(place, Builder::new(), f).map_err(refused)?.join(),
            None => Err(JoinError::Unwinding),
        }
    }

    /// As [`spawn`](Group::spawn), but never waits: in a full pool the new greenlet waits itself,
    /// and is no member until there is a place. gevent's `apply_async`; its callback is a link of
    /// the greenlet.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Group::spawn).
    #[track_caller]
    pub fn apply_async<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        started(match self.roster.place_nowait() {
            Some(place) => fill(place, Builder::new(), f),
            None => self.spawn_waiting(f),
        })
    }

    /// Calls `f` with each item, each in a member, and returns the results in the order of the
    /// items: gevent's `map`.
    ///
    /// The items are taken by the caller, as there are places. A member that calls this in a full
    /// pool runs `f` itself, as it could otherwise wait for its own place.
    ///
    /// # Errors
    ///
    /// The first in the order of the items, as soon as all before it have ended. Nothing is spawned
    /// any more then; what has been runs on, also if the caller is killed.
    #[track_caller]
    pub fn map<F, I, T>(&self, f: F, items: I) -> Result<Vec<T>, JoinError>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        let items = items.into_iter();
        let mut results = Vec::with_capacity(items.size_hint().0.min(MAX_HINT));
        let mut begun = VecDeque::new();
        for item in items {
            begun.push_back(self.begin(&f, item));
            while let Some(result) = begun.pop_front_if(|first| first.has_ended()) {
                results.push(result.join()?);
            }
        }
        for result in begun {
            results.push(result.join()?);
        }
        Ok(results)
    }

    #[track_caller]
    fn begin<A, F, T>(&self, f: &Arc<F>, item: A) -> Begun<T>
    where
        A: Send + 'static,
        F: Fn(A) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let place = match self.roster.place_nowait() {
            None if self.is_called_by_member() => return Begun::Done(run_here(|| f(item))),
            None => self.roster.place(None),
            some => some,
        };
        let Some(place) = place else {
            return Begun::Done(Err(JoinError::Unwinding));
        };
        let f = Arc::clone(f);
        match fill(place, Builder::new(), move || f(item)) {
            Ok(greenlet) => Begun::Greenlet(greenlet),
            Err(error) => Begun::Done(Err(refused(error))),
        }
    }

    /// A [`map`](Group::map) in a greenlet of its own, which is no member: gevent's `map_async`.
    ///
    /// # Panics
    ///
    /// If it can't be started.
    #[track_caller]
    pub fn map_async<F, I, T>(&self, f: F, items: I) -> Greenlet<Result<Vec<T>, JoinError>>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let group = self.clone();
        started(Builder::new().spawn(move || group.map(f, items)))
    }

    /// Calls `f` with each item, each in a member, and gives the results one after the other, in the
    /// order of the items: gevent's `imap`. What `f` panics with is an error in its item's place;
    /// what the iterator panics with is the last.
    ///
    /// A greenlet that is no member takes the items, from now on, and spawns. It stops when the
    /// iterator that is returned is dropped; what has been spawned runs on.
    ///
    /// At most `maxsize` items have been begun whose results have not been taken (0: no bound but
    /// the pool's, and results that wait are not bounded at all). gevent lets one more begin.
    ///
    /// ```
    /// use greenwood_runtime::Pool;
    /// let pool = Pool::new(4);
    /// let mut halves = pool.imap(|n: u32| 12 / n, [1, 0, 2], 8);
    /// assert_eq!(halves.next().unwrap()?, 12);
    /// assert!(halves.next().unwrap().is_err_and(|error| error.is_panic()));
    /// assert_eq!(halves.next().unwrap()?, 6);
    /// assert!(halves.next().is_none());
    /// # Ok::<(), greenwood_runtime::JoinError>(())
    /// ```
    #[track_caller]
    pub fn imap<F, I, T>(&self, f: F, items: I, maxsize: usize) -> Imap<T>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        Imap(self.feed(f, items, maxsize, true))
    }

    /// As [`imap`](Group::imap), but gives each result as soon as it is there: gevent's
    /// `imap_unordered`.
    #[track_caller]
    pub fn imap_unordered<F, I, T>(&self, f: F, items: I, maxsize: usize) -> Imap<T>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        Imap(self.feed(f, items, maxsize, false))
    }

    #[track_caller]
    fn feed<F, I, T>(&self, f: F, items: I, maxsize: usize, ordered: bool) -> Feed<Greenlet<T>>
    where
        I: IntoIterator + Send + 'static,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        let group = self.clone();
        // As with the spawns of a plain thread, which are not all on one hub either.
        let spread = crate::Hub::current().is_none().then(crate::Hub::count);
        let mut number = 0;
        let site = Location::caller();
        let spawn = move |item| {
            let f = Arc::clone(&f);
            let mut builder = Builder::new();
            if let Some(hubs) = spread {
                builder = builder.hub(number % hubs);
                number += 1;
            }
            match group.roster.place(None) {
                Some(place) => {
                    let note = |task: &Arc<Task>| place.occupy(task);
                    let spawned = builder.spawn_noted(move || f(item), site, note);
                    spawned.map_err(refused)
                }
                None => Err(JoinError::Unwinding),
            }
        };
        Feed::new(spawn, items, maxsize, ordered)
    }

    fn is_called_by_member(&self) -> bool {
        let id = current::with(|task| task.map(Task::id));
        id.is_some_and(|id| self.roster.contains(id))
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(name).field(&self.roster).finish()
    }
}

/// How much room is made for results at once, whatever an iterator promises.
const MAX_HINT: usize = 4_096;

impl<T> Begun<T> {
    fn has_ended(&self) -> bool {
        match self {
            Begun::Greenlet(greenlet) => greenlet.ready(),
            Begun::Done(_) => true,
        }
    }

    fn join(self) -> Result<T, JoinError> {
        match self {
            Begun::Greenlet(greenlet) => greenlet.join(),
            Begun::Done(result) => result,
        }
    }
}

#[track_caller]
fn fill<F, T>(place: Place, builder: Builder, f: F) -> Result<Greenlet<T>, SpawnError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    builder.spawn_noted(f, Location::caller(), |task| place.occupy(task))
}

#[track_caller]
fn started<T>(spawned: Result<Greenlet<T>, SpawnError>) -> Greenlet<T> {
    match spawned {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

fn refused(source: SpawnError) -> JoinError {
    JoinError::Refused {
        name: "a member".into(),
        source,
    }
}

/// Runs `f` in the caller, as if in a greenlet of its own.
fn run_here<T>(f: impl FnOnce() -> T) -> Result<T, JoinError> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Ok(value),
        Err(payload) if is_interrupt(&*payload) => resume_unwind(payload),
        Err(payload) => Err(JoinError::Panicked {
            name: current::with(|task| task.map_or("a thread", Task::name).into()),
            payload: Payload::new(payload),
        }),
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
