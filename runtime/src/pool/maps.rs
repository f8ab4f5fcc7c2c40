//! The calls of [`Group`] that run a function for something: `apply`, `map`, `imap`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::Group;
use super::group::{fill, started};
use super::imap::{Feed, Imap};
use crate::error::{JoinError, Payload, SpawnError};
use crate::greenlet::{Builder, Greenlet};
use crate::panics::is_interrupt;
use crate::switch;
use crate::sys::current;
use crate::task::Task;

/// Calling functions in members.
impl Group {
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
        match self.place() {
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
        started(match self.place_nowait() {
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
        // Also if there are no items.
        switch::check();
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
        let place = match self.place_nowait() {
            None if self.is_called_by_member() => return Begun::Done(run_here(|| f(item))),
            None => self.place(),
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
    /// iterator that is returned is dropped; what has been spawned runs on. (So a member must not take
    /// results of a full pool whose places all wait for such: nobody would leave.)
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
            match group.place() {
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
        id.is_some_and(|id| self.roster().contains(id))
    }
}

/// What a `map` has begun.
enum Begun<T> {
    Greenlet(Greenlet<T>),
    /// In the caller itself.
    Done(Result<T, JoinError>),
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

fn refused(source: SpawnError) -> JoinError {
    JoinError::Refused {
        name: "a member".into(),
        source,
    }
}

/// Runs `f` in the caller, as if in a greenlet of its own.
fn run_here<T>(f: impl FnOnce() -> T) -> Result<T, JoinError> {
    // As the wait for a member would.
    switch::check();
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Ok(value),
        Err(payload) if is_interrupt(&*payload) => resume_unwind(payload),
        Err(payload) => Err(JoinError::Panicked {
            name: current::with(|task| task.map_or("a thread", Task::name).into()),
            payload: Payload::new(payload),
        }),
    }
}
