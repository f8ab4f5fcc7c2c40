//! One job of a thread pool, and the handle to its result.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::crew::{Crew, Work};
use super::error::ThreadError;
use crate::error::Payload;
use crate::panics::drop_caught;
use crate::pool::Handle;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::task::lock;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher, Watchers};
use crate::waiter::{WaitList, Waiter};
use crate::waiting::wait_in;

/// What will be there when a job of a [`ThreadPool`](super::ThreadPool) is done: gevent's
/// `AsyncResult` of `ThreadPool.spawn`.
///
/// Dropping it lets the job be done. Its result is then dropped by the thread.
pub struct ThreadResult<T> {
    job: Arc<Job<T>>,
    crew: Arc<Crew>,
}

pub(super) struct Job<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Until it begins.
    work: Option<Box<dyn FnOnce() -> T + Send>>,
    result: Option<Result<T, ThreadError>>,
    /// The result is there, or has been taken.
    ended: bool,
    waiters: WaitList<Arc<Waiter>>,
    watchers: Watchers,
}

impl<T: Send + 'static> Job<T> {
    pub(super) fn new(f: impl FnOnce() -> T + Send + 'static) -> Arc<Job<T>> {
        Arc::new(Job {
            state: Mutex::new(State {
                work: Some(Box::new(f)),
                result: None,
                ended: false,
                waiters: WaitList::new(),
                watchers: Watchers::new(),
            }),
        })
    }
}

impl<T> Job<T> {
    fn end(&self) {
        let (waiters, watchers) = {
            let mut state = lock(&self.state);
            state.ended = true;
            (state.waiters.take(), state.watchers.take())
        };
        for waiter in waiters {
            waiter.notify();
        }
        watchers.tell();
    }

    /// Ends it with `error` if it has not begun; whether that is so.
    fn give_up(&self, error: ThreadError) -> bool {
        let work = {
            let mut state = lock(&self.state);
            let work = state.work.take();
            if work.is_some() {
                state.result = Some(Err(error));
            }
            work
        };
        let had_not_begun = work.is_some();
        if had_not_begun {
            self.end();
        }
        drop_caught(work);
        had_not_begun
    }
}

impl<T: Send + 'static> Work for Job<T> {
    fn run(&self) {
        let work = lock(&self.state).work.take();
        if let Some(work) = work {
            let result = run_here(work);
            lock(&self.state).result = Some(result);
        }
    }

    fn tell(&self) {
        self.end();
    }

    fn refuse(&self, error: ThreadError) {
        self.give_up(error);
    }
}

/// Calls `f` in the caller, as if by a thread of the pool.
pub(super) fn run_here<T>(f: impl FnOnce() -> T) -> Result<T, ThreadError> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| ThreadError::Panicked {
        payload: Payload::new(payload),
    })
}

impl<T> ThreadResult<T> {
    pub(super) fn new(job: Arc<Job<T>>, crew: Arc<Crew>) -> ThreadResult<T> {
        ThreadResult { job, crew }
    }

    /// Waits until the job is done and returns its result: gevent's `get`.
    ///
    /// # Errors
    ///
    /// [`ThreadError`]: it panicked, was cancelled, or there was no thread for it.
    pub fn join(self) -> Result<T, ThreadError> {
        if !self.await_until(None) {
            return Err(ThreadError::Unwinding);
        }
        self.into_result()
    }

    /// The result of one that is done.
    fn into_result(self) -> Result<T, ThreadError> {
        let result = lock(&self.job.state).result.take();
        result.expect("the result is there at the end, and this is the only handle")
    }

    /// Waits until the job is done, but no longer than `timeout`; whether it is. Then
    /// [`join`](ThreadResult::join) returns at once.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.await_until(switch::deadline(Some(timeout)))
    }

    /// Whether the job is done.
    pub fn ready(&self) -> bool {
        lock(&self.job.state).ended
    }

    /// Gives the job up if it has not begun, and drops what it would have run; whether that is so.
    /// What has begun goes on.
    pub fn cancel(&self) -> bool {
        let cancelled = self.job.give_up(ThreadError::Cancelled);
        if cancelled {
            self.crew.forget(Arc::as_ptr(&self.job).cast());
        }
        cancelled
    }

    pub(crate) fn await_until(&self, deadline: Option<u64>) -> bool {
        switch::share();
        wait_in(
            &self.job.state,
            WaitsFor::Thread,
            deadline,
            |state| state.ended,
            |state| &mut state.waiters,
        )
    }
}

impl<T> Sealed for ThreadResult<T> {}

/// Ready when the job is done.
impl<T> Waitable for ThreadResult<T> {
    fn ready(&self) -> bool {
        self.ready()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        let mut state = lock(&self.job.state);
        if !state.ended {
            state.watchers.add(watcher);
        }
        !state.ended
    }
}

impl<T> fmt::Debug for ThreadResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begun, ready, waiters) = {
            let state = lock(&self.job.state);
            (state.work.is_none(), state.ended, state.waiters.len())
        };
        f.debug_struct("ThreadResult")
            .field("begun", &begun)
            .field("ready", &ready)
            .field("waiters", &waiters)
            .finish()
    }
}

/// A job that is given up, if it has not begun, when nobody wants its result any more.
pub(crate) struct Wanted<T>(Option<ThreadResult<T>>);

impl<T> Wanted<T> {
    pub(crate) fn new(result: ThreadResult<T>) -> Wanted<T> {
        Wanted(Some(result))
    }

    /// Waits for the end; false if `deadline` came first, or the caller unwinds and would have to
    /// wait.
    pub(crate) fn await_until(&self, deadline: Option<u64>) -> bool {
        match &self.0 {
            Some(result) => result.await_until(deadline),
            None => true,
        }
    }

    pub(crate) fn join(self) -> Result<T, ThreadError> {
        if !self.await_until(None) {
            return Err(ThreadError::Unwinding);
        }
        self.result()
    }
}

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        if let Some(result) = &self.0 {
            result.cancel();
        }
    }
}

impl<T> Sealed for Wanted<T> {}

impl<T> Waitable for Wanted<T> {
    fn ready(&self) -> bool {
        self.0.as_ref().is_none_or(ThreadResult::ready)
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.0.as_ref().is_some_and(|result| result.watch(watcher))
    }
}

impl<T> Handle for Wanted<T> {
    type Value = T;
    type Error = ThreadError;

    fn await_end(&self) -> bool {
        self.await_until(None)
    }

    fn result(mut self) -> Result<T, ThreadError> {
        let result = self.0.take();
        result.map_or(Err(ThreadError::Cancelled), ThreadResult::into_result)
    }
}
