//! [`scope`]: greenlets that borrow from their caller's stack.

use std::fmt;
use std::panic::{Location, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{JoinError, SpawnError};
use crate::greenlet::{Builder, Deliver, Greenlet, Launch, Outcome, body};
use crate::panics::drop_caught;
use crate::switch;
use crate::sys::home::NO_HUB;
use crate::sys::scope::{Scope, with_scope};
use crate::task::Task;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};

/// Calls `f` with a [`Scope`], in which greenlets can be spawned that borrow what the caller owns;
/// returns when all of them have ended. The counterpart of [`std::thread::scope`]; gevent needs
/// none.
///
/// If `f` panics, or the caller is killed or runs out of time in it or while it waits here, the
/// greenlets of the scope are killed and waited for, and then the caller unwinds. That wait can't
/// be cut short: a greenlet that catches its kill and goes on keeps the caller, and a
/// [`with_timeout`](crate::with_timeout) around it, until it ends.
///
/// In a destructor that runs because of a panic or a kill nobody may wait, so there a scope starts
/// no greenlets: their handles say [`JoinError::Unwinding`].
///
/// # Panics
///
/// If a greenlet of the scope has panicked whose handle nobody has [joined](ScopedGreenlet::join),
/// once all have ended. In a hub's own loop.
///
/// ```
/// use greenwood_runtime::scope;
///
/// let words = ["greenlets", "may", "borrow"];
/// let mut longest = "";
/// let lengths = scope(|s| {
///     s.spawn(|| longest = words.iter().max_by_key(|word| word.len()).unwrap());
///     words.map(|word| s.spawn(move || word.len()).join().unwrap())
/// });
/// assert_eq!((longest, lengths), ("greenlets", [9, 3, 6]));
/// ```
pub fn scope<'env, F, R>(f: F) -> R
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    let finished = with_scope(f);
    let result = match finished.result {
        Ok(result) => result,
        Err(payload) => resume_unwind(payload),
    };
    if let Some(interrupt) = finished.interrupt {
        drop(result);
        switch::raise(interrupt);
    }
    assert!(finished.panics == 0, "a greenlet of a scope has panicked");
    result
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a greenlet that may borrow from outside the scope. Otherwise as
    /// [`spawn`](crate::spawn).
    ///
    /// # Panics
    ///
    /// If it can't be started; [`spawn_with`](Scope::spawn_with) returns the error instead.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.spawn_with(Builder::new(), f) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("{error}"),
        }
    }

    /// Starts a greenlet as the builder says.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], as [`Builder::spawn`].
    #[track_caller]
    pub fn spawn_with<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
    ) -> Result<ScopedGreenlet<'scope, T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        if self.unwinds {
            return Ok(self.refused(f));
        }
        let (outcome, body) = self.body(f);
        let task = self.launch(builder, body, Location::caller())?;
        Ok(self.handle(task, outcome))
    }

    /// Starts a greenlet on the caller's own hub; neither `f` nor its result need be `Send`.
    /// Otherwise as [`spawn_local`](crate::spawn_local).
    ///
    /// # Panics
    ///
    /// If it can't be started; also on a thread that is no hub's.
    #[track_caller]
    pub fn spawn_local<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        if self.unwinds {
            return self.refused(f);
        }
        let (outcome, body) = self.body(f);
        match self.launch_local(Builder::new(), body, Location::caller()) {
            Ok(task) => self.handle(task, outcome),
            Err(error) => panic!("{error}"),
        }
    }

    #[expect(clippy::type_complexity, reason = "the two halves of one thing")]
    fn body<F, T>(&'scope self, f: F) -> (Arc<Outcome<T>>, Box<Launch<F, Counted<'scope, T>>>)
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let outcome = Arc::new(Outcome::new());
        let counted = Counted {
            outcome: Arc::clone(&outcome),
            panics: &self.panics,
        };
        (outcome, body(f, counted))
    }

    fn handle<T>(
        &'scope self,
        task: Arc<Task>,
        outcome: Arc<Outcome<T>>,
    ) -> ScopedGreenlet<'scope, T> {
        ScopedGreenlet {
            greenlet: Greenlet { task, outcome },
            panics: &self.panics,
        }
    }

    /// The handle of one that is not started, as nobody could wait for its end.
    #[track_caller]
    fn refused<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T> {
        drop_caught(f);
        let outcome = Arc::new(Outcome::new());
        drop(outcome.set(Err(JoinError::Unwinding)));
        let task = Task::new(None, NO_HUB, Location::caller());
        task.tell();
        self.handle(task, outcome)
    }
}

/// Where the result of a scope's greenlet goes.
struct Counted<'scope, T> {
    outcome: Arc<Outcome<T>>,
    panics: &'scope AtomicUsize,
}

impl<T> Deliver<T> for Counted<'_, T> {
    fn deliver(self, result: Result<T, JoinError>, task: &Task) {
        if matches!(result, Err(JoinError::Panicked { .. })) {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        self.outcome.deliver(result, task);
    }
}

/// A greenlet of a [`Scope`]. Dropping the handle lets it run on, up to the end of the scope.
pub struct ScopedGreenlet<'scope, T> {
    greenlet: Greenlet<T>,
    panics: &'scope AtomicUsize,
}

impl<T> ScopedGreenlet<'_, T> {
    /// Waits for its end and takes its result.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, was killed, or could not be started.
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.greenlet.join();
        if matches!(result, Err(JoinError::Panicked { .. })) {
            self.panics.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// Waits for its end, but no longer than `timeout`; whether it has ended.
    pub fn join_timeout(&self, timeout: std::time::Duration) -> bool {
        self.greenlet.join_timeout(timeout)
    }

    /// Kills it and waits for its end: see [`Greenlet::kill`].
    pub fn kill(&self) {
        self.greenlet.kill();
    }

    /// Kills it and does not wait.
    pub fn kill_nowait(&self) {
        self.greenlet.kill_nowait();
    }

    /// Whether it has ended.
    pub fn ready(&self) -> bool {
        self.greenlet.ready()
    }

    /// The name that it was given, else `greenlet-` and its number.
    pub fn name(&self) -> &str {
        self.greenlet.name()
    }

    /// Its number, unlike that of any other greenlet of the process.
    pub fn id(&self) -> u64 {
        self.greenlet.id()
    }
}

impl<T> Sealed for ScopedGreenlet<'_, T> {}

/// Ready when it has ended.
impl<T> Waitable for ScopedGreenlet<'_, T> {
    fn ready(&self) -> bool {
        Waitable::ready(&self.greenlet)
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.greenlet.watch(watcher)
    }
}

impl<T> fmt::Debug for ScopedGreenlet<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedGreenlet")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("ready", &self.ready())
            .finish()
    }
}
