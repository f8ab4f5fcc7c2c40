//! [`Greenlet`]: the handle.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::builder::Builder;
use super::links::{self, Link, Prepare};
use super::outcome::Outcome;
use crate::error::{JoinError, ResultError, SpawnError};
use crate::hub;
use crate::limits;
use crate::run_info::WaitsFor;
use crate::switch::{self, Interrupt};
use crate::sys::current;
use crate::task::Task;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};
use crate::waiter::{Stop, Waiter};

/// A greenlet: gevent's `Greenlet`. Dropping the handle lets it run on.
///
/// Any number of greenlets and threads may wait for its end. The result stays with the handle until
/// [`join`](Greenlet::join) takes it: [`get`](Greenlet::get) and [`value`](Greenlet::value) look at
/// it where it is.
///
/// [`spawn`](crate::spawn) makes one and starts it; [`Greenlet::new`] only makes it.
pub struct Greenlet<T> {
    pub(crate) task: Arc<Task>,
    pub(crate) outcome: Arc<Outcome<T>>,
}

/// For a [`get`](Greenlet::get) that may not wait.
static UNWINDING: JoinError = JoinError::Unwinding;

impl<T> Greenlet<T> {
    /// A greenlet that has not been started: gevent's `Greenlet(f)`. [`start`](Greenlet::start)
    /// or [`start_later`](Greenlet::start_later) does that; killed before, it never runs.
    ///
    /// # Panics
    ///
    /// If it would be the first greenlet and the hubs can't start. [`Builder::unstarted`] returns
    /// the error instead.
    ///
    /// ```
    /// use greenwood_runtime::Greenlet;
    /// let greenlet = Greenlet::new(|| 6 * 7);
    /// greenlet.link_value(|value| println!("{value}"));
    /// greenlet.start().unwrap();
    /// assert_eq!(greenlet.join().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn new<F>(f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match Builder::new().unstarted(f) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts it: gevent's `start`. Does nothing if that has been done.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]: a limit is reached. It can be tried again.
    pub fn start(&self) -> Result<(), SpawnError> {
        self.launch(None)
    }

    /// Starts it after `delay`: gevent's `start_later`. Does nothing if it has been started.
    ///
    /// # Errors
    ///
    /// As [`start`](Greenlet::start).
    pub fn start_later(&self, delay: Duration) -> Result<(), SpawnError> {
        self.launch(Some(switch::later(delay)))
    }

    fn launch(&self, at: Option<u64>) -> Result<(), SpawnError> {
        if self.task.is_launched() {
            return Ok(());
        }
        limits::reserve()?;
        match self.task.take_unstarted() {
            Some(job) => hub::spawn(Arc::clone(&self.task), job, at),
            // Another was quicker.
            None => limits::release(),
        }
        Ok(())
    }

    /// Waits for its end and takes its result. gevent's `get`, once; see [`get`](Greenlet::get).
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, was killed, or could not be started.
    pub fn join(self) -> Result<T, JoinError> {
        if !await_end(&self.task, None) {
            return Err(JoinError::Unwinding);
        }
        self.into_result()
    }

    /// The result of one that has ended.
    pub(crate) fn into_result(self) -> Result<T, JoinError> {
        // The greenlet has let go of it before its end, and so have its links.
        Arc::into_inner(self.outcome)
            .and_then(Outcome::into_inner)
            .expect("the result is in place before the end, and this is the only handle")
    }

    /// Waits for its end, but no longer than `timeout`; whether it has ended: gevent's
    /// `join(timeout)`. Then [`join`](Greenlet::join) returns at once.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        await_end(&self.task, switch::deadline(Some(timeout)))
    }

    /// Waits for its end and lends its result: gevent's `get`.
    ///
    /// # Errors
    ///
    /// [`JoinError`], as [`join`](Greenlet::join).
    ///
    /// ```
    /// let greenlet = greenwood_runtime::spawn(|| String::from("done"));
    /// assert_eq!(greenlet.get().unwrap(), "done");
    /// assert_eq!(greenlet.value().unwrap(), "done");
    /// ```
    pub fn get(&self) -> Result<&T, &JoinError>
    where
        T: Sync,
    {
        if !await_end(&self.task, None) {
            return Err(&UNWINDING);
        }
        self.outcome.get().map_or(Err(&UNWINDING), Result::as_ref)
    }

    /// As [`get`](Greenlet::get), but waits no longer than `timeout`. With zero it is gevent's
    /// `get(block=False)`.
    ///
    /// # Errors
    ///
    /// [`ResultError::Exception`] with the [`JoinError`], or [`ResultError::Timeout`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<&T, ResultError<&JoinError>>
    where
        T: Sync,
    {
        self.join_timeout(timeout);
        match self.outcome.get() {
            Some(result) => result.as_ref().map_err(ResultError::Exception),
            None => Err(ResultError::Timeout),
        }
    }

    /// What it has returned; none if it has not (yet). gevent's `value`, which for a killed
    /// greenlet is the `GreenletExit`; here that is none.
    pub fn value(&self) -> Option<&T>
    where
        T: Sync,
    {
        self.ended(self.outcome.get())?.as_ref().ok()
    }

    /// What it has failed with; none if it has not (yet). gevent's `exception`: a kill without a
    /// payload counts as a success.
    pub fn exception(&self) -> Option<&JoinError> {
        let error = self.ended(self.outcome.error())?;
        (!error.is_exit()).then_some(error)
    }

    /// Whether it has ended by returning, or by a kill without a payload: gevent's `successful`.
    pub fn successful(&self) -> bool {
        self.task.has_ended() && self.exception().is_none()
    }

    /// The result comes a little before the end.
    fn ended<R>(&self, result: Option<R>) -> Option<R> {
        result.filter(|_| self.task.has_ended())
    }

    /// Kills it and waits for its end: gevent's `kill`.
    ///
    /// It unwinds from the call in which it blocks, or the next that it makes; destructors run. One
    /// that has not started never runs. Killing what has ended does nothing; killing oneself
    /// unwinds at once.
    pub fn kill(&self) {
        self.kill_nowait();
        await_end(&self.task, None);
    }

    /// Kills it and waits for its end, but no longer than `timeout`; whether it has ended. gevent's
    /// `kill(timeout=...)`.
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.kill_nowait();
        await_end(&self.task, switch::deadline(Some(timeout)))
    }

    /// Kills it and does not wait: gevent's `kill(block=False)`. The caller itself unwinds at once, where
    /// gevent's goes on to its next switch.
    pub fn kill_nowait(&self) {
        kill_task(&self.task);
    }

    /// Kills it with a payload and waits for its end: gevent's `kill(exception)`.
    ///
    /// As [`kill`](Greenlet::kill), but the result is [`JoinError::KilledWith`], with the payload.
    /// It unwinds with a private payload all the same: where gevent's exception may be caught and
    /// is gone then, this one comes again with the next blocking call. The first kill decides: on
    /// one that has been killed already the payload is dropped.
    ///
    /// ```
    /// use greenwood_runtime::{Event, JoinError, spawn};
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Shutdown;
    ///
    /// let greenlet = spawn(|| Event::new().wait());
    /// greenlet.kill_with(Shutdown);
    /// assert!(!greenlet.successful());
    /// let Err(JoinError::KilledWith { payload, .. }) = greenlet.join() else { panic!() };
    /// assert_eq!(*payload.into_inner().downcast::<Shutdown>().unwrap(), Shutdown);
    /// ```
    pub fn kill_with(&self, payload: impl Any + Send) {
        self.throw(payload);
        await_end(&self.task, None);
    }

    /// As [`kill_with`](Greenlet::kill_with), without the wait: gevent's `throw`, and
    /// `kill(exception, block=False)`.
    pub fn throw(&self, payload: impl Any + Send) {
        if let Err(payload) = self.task.mark_killed_with(Box::new(payload)) {
            drop(payload);
            return;
        }
        kill_task(&self.task);
    }

    /// Has `f` called with a copy of the result when it has ended: gevent's `link`.
    ///
    /// Links are called in the order in which they were made, one after the other, before a
    /// [`join`](Greenlet::join) returns. They run in a greenlet of their own on the same hub, not
    /// in the one that has ended, so they may block; then those behind them have to wait, and
    /// whoever joins does not (in gevent each `link` has a greenlet of its own, and a `rawlink`
    /// none: it may not block). One that panics harms nobody. Linked after the end, it is called
    /// soon, not at once.
    ///
    /// See [`rawlink`](Greenlet::rawlink) for results that can't be copied.
    ///
    /// ```
    /// use greenwood_runtime::{AsyncResult, spawn};
    /// use std::sync::Arc;
    ///
    /// let result = Arc::new(AsyncResult::new());
    /// spawn(|| 5).link(result.setter());
    /// assert_eq!(*result.get().unwrap(), 5);
    /// ```
    pub fn link<F>(&self, f: F) -> Link
    where
        F: FnOnce(Result<T, JoinError>) + Send + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let outcome = Arc::clone(&self.outcome);
        self.add_link(Box::new(move |_| {
            let result = outcome.get()?.clone();
            Some(Box::new(move || f(result)))
        }))
    }

    /// Has `f` called with a copy of the value when it has returned one: gevent's `link_value`,
    /// which also takes a kill for a value. Otherwise as [`link`](Greenlet::link).
    pub fn link_value<F>(&self, f: F) -> Link
    where
        F: FnOnce(T) + Send + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let outcome = Arc::clone(&self.outcome);
        self.add_link(Box::new(move |_| {
            let value = outcome.get()?.as_ref().ok()?.clone();
            Some(Box::new(move || f(value)))
        }))
    }

    /// Has `f` called with the error when it has [failed](Greenlet::exception): gevent's
    /// `link_exception`. Not after a kill without a payload. Otherwise as
    /// [`link`](Greenlet::link).
    pub fn link_exception<F>(&self, f: F) -> Link
    where
        F: FnOnce(JoinError) + Send + 'static,
    {
        self.add_link(Box::new(move |error| {
            let error = error.filter(|error| !error.is_exit())?.clone();
            Some(Box::new(move || f(error)))
        }))
    }

    /// Has `f` called when it has ended, with the error if it has one, a kill also: gevent's
    /// `rawlink`. For results of all types; otherwise as [`link`](Greenlet::link).
    pub fn rawlink<F>(&self, f: F) -> Link
    where
        F: FnOnce(Option<JoinError>) + Send + 'static,
    {
        self.add_link(Box::new(move |error| {
            let error = error.cloned();
            Some(Box::new(move || f(error)))
        }))
    }

    fn add_link(&self, prepare: Prepare) -> Link {
        links::link(&self.task, prepare, || {
            self.outcome.is_set().then(|| self.outcome.error())
        })
    }

    /// Takes a link back, unless it has been called or is just being called; whether that has been
    /// done. gevent's `unlink`, which is given the callback.
    pub fn unlink(&self, link: Link) -> bool {
        links::unlink(&self.task, link)
    }

    /// Takes back all links: gevent's `unlink_all`.
    pub fn unlink_all(&self) {
        links::unlink_all(&self.task);
    }

    /// How many links are to be called yet: gevent's `has_links`.
    pub fn links(&self) -> usize {
        links::count(&self.task)
    }

    /// Whether it has been started and has not ended: gevent's `started`, and what a gevent
    /// greenlet is as a truth value.
    pub fn started(&self) -> bool {
        self.task.is_launched() && !self.task.has_ended()
    }

    /// Whether it has ended, also by a kill before its start: gevent's `dead`.
    pub fn dead(&self) -> bool {
        self.task.has_ended()
    }

    /// Whether it has ended: gevent's `ready`.
    pub fn ready(&self) -> bool {
        self.task.has_ended()
    }

    /// The name that it was given by [`Builder::name`], else `greenlet-` and its number.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// Its number, unlike that of any other greenlet of the process.
    pub fn id(&self) -> u64 {
        self.task.id()
    }

    /// A small number that is its own as long as a handle to it lasts: gevent's `minimal_ident`.
    /// The smallest, from 0 up, that no other greenlet has which was asked for it.
    pub fn minimal_ident(&self) -> u32 {
        self.task.minimal_ident()
    }

    /// The hub that it belongs to.
    pub fn hub(&self) -> usize {
        self.task.hub() as usize
    }

    /// The number of the greenlet that spawned it: gevent's `spawning_greenlet`. None if that was
    /// a plain thread.
    pub fn spawning_greenlet(&self) -> Option<u64> {
        self.task.parent()
    }

    /// Where it was spawned: the innermost entry of gevent's `spawning_stack`.
    pub fn spawning_site(&self) -> &'static Location<'static> {
        self.task.site()
    }
}

impl<T> Sealed for Greenlet<T> {}

/// Ready when it has ended and its links have been called.
impl<T> Waitable for Greenlet<T> {
    fn ready(&self) -> bool {
        self.task.is_over()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.task.watch_end(watcher)
    }
}

impl<T> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("hub", &self.hub())
            .field("ready", &self.ready())
            .finish()
    }
}

pub(crate) fn kill_task(task: &Arc<Task>) {
    if task.has_ended() {
        return;
    }
    let myself = current::with(|current| current.is_some_and(|current| current.id() == task.id()));
    task.mark_killed();
    if myself {
        if switch::may_wait() {
            switch::raise(Interrupt::Kill);
        }
        return;
    }
    match task.take_unstarted() {
        // It starts, to find itself killed.
        Some(job) => {
            limits::reserve_anyway();
            hub::spawn(Arc::clone(task), job, None);
        }
        None => hub::kill(task),
    }
}

/// Waits for the end of a greenlet, its links included; false when the deadline came first, or the
/// caller unwinds.
pub(crate) fn await_end(task: &Arc<Task>, deadline: Option<u64>) -> bool {
    switch::check();
    if task.is_over() {
        return true;
    }
    if !switch::may_wait() {
        return task.has_ended();
    }
    let waiter = Waiter::new();
    if !task.notify_at_end(&waiter) {
        return true;
    }
    match waiter.wait(WaitsFor::Greenlet, deadline) {
        Ok(()) => true,
        Err(Stop::Deadline) => task.has_ended(),
        Err(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
    }
}
