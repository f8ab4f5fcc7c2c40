//! [`AsyncResult`]: gevent's `AsyncResult`.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{JoinError, ResultError};
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::Mutex;
use crate::task::lock;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher, Watchers};
use crate::waiter::{Stop, WaitList, Waiter};

/// A value or an error that comes once, for any number of greenlets and threads to wait for:
/// gevent's `AsyncResult`.
///
/// It lends what has come, so it need not be copied. gevent's may be set again; this one keeps what
/// came first, as others may have a reference to it.
///
/// The error's type is [`JoinError`] unless another is named: then the result can be
/// [linked](AsyncResult::setter) to a greenlet.
///
/// ```
/// use greenwood_runtime::{AsyncResult, spawn};
/// use std::sync::Arc;
///
/// let result = Arc::new(AsyncResult::<i32>::new());
/// let theirs = Arc::clone(&result);
/// let waiter = spawn(move || *theirs.get().unwrap() + 1);
/// result.set(41).unwrap();
/// assert_eq!(waiter.join().unwrap(), 42);
/// ```
pub struct AsyncResult<T, E = JoinError> {
    result: OnceLock<Result<T, E>>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    waiters: WaitList<Arc<Waiter>>,
    watchers: Watchers,
}

impl<T, E> AsyncResult<T, E> {
    /// One to which nothing has come.
    pub const fn new() -> AsyncResult<T, E> {
        AsyncResult {
            result: OnceLock::new(),
            waiting: Mutex::new(Waiting {
                waiters: WaitList::new(),
                watchers: Watchers::new(),
            }),
        }
    }

    /// Sets the value and wakes all who wait, in the order in which they came; behind them those who
    /// wait for several things ([`wait`](crate::wait), [`iwait`](crate::iwait)).
    ///
    /// # Errors
    ///
    /// The value, if there is one already, or an error.
    pub fn set(&self, value: T) -> Result<(), T> {
        match self.set_result(Ok(value)) {
            Err(Ok(value)) => Err(value),
            _ => Ok(()),
        }
    }

    /// Sets an error, which every [`get`](AsyncResult::get) then returns, and wakes all who wait:
    /// gevent's `set_exception`.
    ///
    /// # Errors
    ///
    /// The error, if there is one already, or a value.
    pub fn set_exception(&self, error: E) -> Result<(), E> {
        match self.set_result(Err(error)) {
            Err(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets a value or an error.
    ///
    /// # Errors
    ///
    /// What was given, if there is a value or an error already.
    pub fn set_result(&self, result: Result<T, E>) -> Result<(), Result<T, E>> {
        self.result.set(result)?;
        let (waiters, watchers) = {
            let mut waiting = lock(&self.waiting);
            (waiting.waiters.take(), waiting.watchers.take())
        };
        for waiter in waiters {
            waiter.notify();
        }
        watchers.tell();
        Ok(())
    }

    /// What is to be [linked](crate::Greenlet::link) to a greenlet so that its result comes here.
    /// What comes second is dropped.
    pub fn setter(self: &Arc<Self>) -> impl FnOnce(Result<T, E>) + use<T, E> {
        let this = Arc::clone(self);
        move |result| drop(this.set_result(result))
    }

    /// Waits for the value and lends it.
    ///
    /// # Errors
    ///
    /// [`ResultError::Exception`] if it came to an error; [`ResultError::Timeout`] only in a
    /// greenlet that unwinds and would have to wait.
    pub fn get(&self) -> Result<&T, ResultError<&E>> {
        self.wait_until(None);
        self.get_now()
    }

    /// Waits for the value no longer than `timeout`, and lends it.
    ///
    /// # Errors
    ///
    /// [`ResultError`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<&T, ResultError<&E>> {
        self.wait_until(switch::deadline(Some(timeout)));
        self.get_now()
    }

    /// Lends the value if it is there: gevent's `get_nowait`.
    ///
    /// # Errors
    ///
    /// [`ResultError`].
    pub fn get_nowait(&self) -> Result<&T, ResultError<&E>> {
        self.get_now()
    }

    fn get_now(&self) -> Result<&T, ResultError<&E>> {
        match self.result.get() {
            Some(result) => result.as_ref().map_err(ResultError::Exception),
            None => Err(ResultError::Timeout),
        }
    }

    /// Waits until a value or an error has come; false only in a greenlet that unwinds and would
    /// have to wait. gevent's `wait`, which returns the value: see [`value`](AsyncResult::value).
    pub fn wait(&self) -> bool {
        self.wait_until(None)
    }

    /// Waits until a value or an error has come, no longer than `timeout`; whether it has.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(switch::deadline(Some(timeout)))
    }

    /// Whether a value or an error has come.
    pub fn ready(&self) -> bool {
        self.result.get().is_some()
    }

    /// Whether a value has come.
    pub fn successful(&self) -> bool {
        self.value().is_some()
    }

    /// The value, if one has come.
    pub fn value(&self) -> Option<&T> {
        self.result.get()?.as_ref().ok()
    }

    /// The error, if one has come.
    pub fn exception(&self) -> Option<&E> {
        self.result.get()?.as_ref().err()
    }

    /// What has come, for the last one who holds it.
    pub fn into_result(self) -> Option<Result<T, E>> {
        self.result.into_inner()
    }

    fn wait_until(&self, deadline: Option<u64>) -> bool {
        switch::check();
        if self.ready() {
            return true;
        }
        if !switch::may_wait() {
            return false;
        }
        let waiter = Waiter::new();
        {
            let mut waiting = lock(&self.waiting);
            // Whoever sets it takes the lock after that.
            if self.ready() {
                return true;
            }
            waiting.waiters.push(Arc::clone(&waiter));
        }
        match waiter.wait(WaitsFor::Result, deadline) {
            Ok(()) => true,
            Err(stop) => {
                lock(&self.waiting).waiters.abandon();
                match stop {
                    Stop::Deadline => self.ready(),
                    Stop::Interrupt(interrupt) => switch::raise(interrupt),
                }
            }
        }
    }
}

impl<T, E> Default for AsyncResult<T, E> {
    fn default() -> AsyncResult<T, E> {
        AsyncResult::new()
    }
}

impl<T, E> Sealed for AsyncResult<T, E> {}

/// Ready when a value or an error has come.
impl<T, E> Waitable for AsyncResult<T, E> {
    fn ready(&self) -> bool {
        self.ready()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        let mut waiting = lock(&self.waiting);
        let waits = !self.ready();
        if waits {
            waiting.watchers.add(watcher);
        }
        waits
    }
}

impl<T, E> fmt::Debug for AsyncResult<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiters = lock(&self.waiting).waiters.len();
        f.debug_struct("AsyncResult")
            .field("ready", &self.ready())
            .field("waiters", &waiters)
            .finish_non_exhaustive()
    }
}
