//! Greenlets: spawning, joining and killing them.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config;
use crate::error::{JoinError, Payload, SpawnError};
use crate::hub::{self, Body, Go, Job, SendJob};
use crate::limits;
use crate::panics::drop_caught;
use crate::switch::{self, GreenletExit, Interrupt, TimeoutExpired};
use crate::sys::current;
use crate::sys::home::{NO_HUB, this_hub};
use crate::sys::now_ns;
use crate::task::{Task, lock};
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};
use crate::waiter::{Stop, Waiter};

/// Starts a greenlet that runs `f`: gevent's `spawn`.
///
/// It never runs inline: its turn comes when the caller blocks. Called from a greenlet, the new one
/// belongs to the same hub; called from another thread, the hubs take turns. [`Builder`] chooses
/// otherwise, and gives a name.
///
/// # Panics
///
/// If it can't be started, with the text of the [`SpawnError`]. [`Builder::spawn`] returns it
/// instead.
///
/// ```
/// let greenlet = greenwood_runtime::spawn(|| 6 * 7);
/// assert_eq!(greenlet.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().spawn(f) {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a greenlet on the caller's own hub; `f` and its result need not be `Send`, as a greenlet
/// never changes its thread.
///
/// # Panics
///
/// If it can't be started; also on a thread that is no hub's.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// greenwood_runtime::spawn(|| {
///     let count = Rc::new(Cell::new(0));
///     let theirs = Rc::clone(&count);
///     greenwood_runtime::spawn_local(move || theirs.set(1)).join().unwrap();
///     assert_eq!(count.get(), 1);
/// })
/// .join()
/// .unwrap();
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    match Builder::new().spawn_local(f) {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

/// Starts a greenlet after `delay`: gevent's `spawn_later`. Killed before that, it never runs.
///
/// # Panics
///
/// If there is no room for it. [`Builder::spawn_later`] returns the error instead.
#[track_caller]
pub fn spawn_later<F, T>(delay: Duration, f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().spawn_later(delay, f) {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

/// A greenlet with a name, a stack size or a hub of its own.
///
/// ```
/// use greenwood_runtime::Builder;
/// let greenlet = Builder::new().name("parser").stack_size(1 << 20).hub(0).spawn(|| "done")?;
/// assert_eq!(greenlet.name(), "parser");
/// assert_eq!(greenlet.join().unwrap(), "done");
/// # Ok::<(), greenwood_runtime::SpawnError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Box<str>>,
    stack_size: Option<usize>,
    hub: Option<usize>,
}

impl Builder {
    /// A greenlet like any other.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Its name, in messages and logs. Default: `greenlet-` and its number.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Its stack size in bytes, rounded up to whole pages; default:
    /// [`Hub::limits`](crate::Hub::limits)'s `stack_size`. Only touched pages take memory,
    /// but a stack of another size than the default is not kept for the next greenlet, so starting
    /// costs about 20 µs more.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Its hub, 0 to [`Hub::count`](crate::Hub::count) - 1. Default: the caller's own; from a plain
    /// thread the hubs take turns.
    pub fn hub(mut self, hub: usize) -> Builder {
        self.hub = Some(hub);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]: a limit is reached, the builder asks for what can't be had, or it would be
    /// the first greenlet and the hubs can't start.
    pub fn spawn<F, T>(self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.launch(f, None)
    }

    /// Starts it after `delay`. It counts as alive from now on.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    pub fn spawn_later<F, T>(self, delay: Duration, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // A delay beyond the clock's range (584 years) never ends.
        self.launch(f, Some(switch::deadline(Some(delay)).unwrap_or(u64::MAX)))
    }

    /// Starts it on the caller's own hub; nothing need be `Send`.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; [`SpawnError::NoHub`] on a thread that is no hub's, and
    /// [`SpawnError::NotThisHub`] when the builder names another hub.
    pub fn spawn_local<F, T>(self, f: F) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let Some(local) = hub::try_local() else {
            return Err(SpawnError::NoHub);
        };
        let current = local.id() as usize;
        if let Some(hub) = self.hub
            && hub != current
        {
            return Err(SpawnError::NotThisHub { hub, current });
        }
        let stack_size = self.checked_stack_size()?;
        limits::reserve()?;
        let task = Task::new(self.name, local.id());
        let outcome = Arc::new(Outcome::new());
        let body = body(f, Arc::clone(&outcome));
        local.start(Arc::clone(&task), Job { body, stack_size });
        Ok(Greenlet { task, outcome })
    }

    /// Starts one whose result nobody asks for.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    pub(crate) fn spawn_detached<F>(self, f: F) -> Result<(), SpawnError>
    where
        F: FnOnce() + Send + 'static,
    {
        self.launch_with(body(f, ()), None).map(drop)
    }

    fn launch<F, T>(self, f: F, at: Option<u64>) -> Result<Greenlet<T>, SpawnError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let outcome = Arc::new(Outcome::new());
        let task = self.launch_with(body(f, Arc::clone(&outcome)), at)?;
        Ok(Greenlet { task, outcome })
    }

    fn launch_with(
        self,
        body: Box<dyn Body + Send>,
        at: Option<u64>,
    ) -> Result<Arc<Task>, SpawnError> {
        let runtime = hub::try_runtime()?;
        let hub = match self.hub {
            Some(hub) if hub < runtime.hubs() => hub as u32,
            Some(hub) => {
                return Err(SpawnError::NoSuchHub {
                    hub,
                    hubs: runtime.hubs(),
                });
            }
            None => runtime.pick(),
        };
        let stack_size = self.checked_stack_size()?;
        limits::reserve()?;
        let task = Task::new(self.name, hub);
        hub::spawn(Arc::clone(&task), SendJob { body, stack_size }, at);
        Ok(task)
    }

    fn checked_stack_size(&self) -> Result<Option<usize>, SpawnError> {
        match self.stack_size {
            None => Ok(None),
            Some(size) => {
                let Some(bytes) = config::usable_stack(size) else {
                    return Err(SpawnError::StackSize { size });
                };
                match config::above_limit(bytes) {
                    Some(limit) => Err(SpawnError::StackLimit { size, limit }),
                    None => Ok(Some(bytes)),
                }
            }
        }
    }
}

type Slot<T> = Mutex<Option<Result<T, JoinError>>>;

struct Outcome<T>(Slot<T>);

impl<T> Outcome<T> {
    fn new() -> Outcome<T> {
        Outcome(Mutex::new(None))
    }
}

/// Where a greenlet's result goes.
trait Deliver<T> {
    fn deliver(self, result: Result<T, JoinError>);
}

impl<T> Deliver<T> for Arc<Outcome<T>> {
    fn deliver(self, result: Result<T, JoinError>) {
        *lock(&self.0) = Some(result);
        // Nobody may be left to take the result, which then ends here: inside the greenlet, and
        // caught.
        drop_caught(self);
    }
}

/// Nobody asks for it.
impl Deliver<()> for () {
    fn deliver(self, result: Result<(), JoinError>) {
        drop_caught(result);
    }
}

/// What the coroutine runs: `f`, caught, with its result put where the handle finds it.
struct Launch<F, O> {
    f: F,
    /// Taken when it runs.
    outcome: Option<O>,
}

fn body<F, O>(f: F, outcome: O) -> Box<Launch<F, O>> {
    let outcome = Some(outcome);
    Box::new(Launch { f, outcome })
}

// What is on the stack here stays there as long as the greenlet lives, so the rare cases are other
// functions', and the closure is moved once only.
impl<F, T, O> Body for Launch<F, O>
where
    F: FnOnce() -> T,
    O: Deliver<T>,
{
    fn run(mut self: Box<Self>, go: Go, task: &Task) {
        let outcome = self.outcome.take();
        let result = match go {
            // A boxed closure that is called where it is would keep its memory until it returns.
            Go::Run => match catch_unwind(AssertUnwindSafe(move || (taken_out(self).f)())) {
                Ok(value) => Ok(value),
                Err(payload) => Err(unwound(payload, task)),
            },
            Go::Killed => Err(unrun(self, None, task)),
            Go::Refused(source) => Err(unrun(self, Some(source), task)),
        };
        if let Some(outcome) = outcome {
            outcome.deliver(result);
        }
    }
}

/// The value, without its box.
#[expect(clippy::boxed_local, reason = "to be rid of the box is what it is for")]
fn taken_out<T>(boxed: Box<T>) -> T {
    *boxed
}

#[inline(never)]
fn unrun<T>(body: Box<T>, refused: Option<SpawnError>, task: &Task) -> JoinError {
    drop_caught(body);
    let name = task.name().into();
    match refused {
        Some(source) => JoinError::Refused { name, source },
        None => JoinError::Killed { name },
    }
}

#[inline(never)]
fn unwound(payload: Box<dyn Any + Send>, task: &Task) -> JoinError {
    let name = task.name().into();
    if payload.is::<GreenletExit>() {
        JoinError::Killed { name }
    } else if payload.is::<TimeoutExpired>() {
        JoinError::TimedOut { name }
    } else {
        let payload = Payload::new(payload);
        JoinError::Panicked { name, payload }
    }
}

/// A greenlet: gevent's `Greenlet`. Dropping the handle lets it run on.
///
/// Any number of greenlets and threads may wait for its end.
pub struct Greenlet<T> {
    task: Arc<Task>,
    outcome: Arc<Outcome<T>>,
}

impl<T> Greenlet<T> {
    /// Waits for its end and returns its result: gevent's `get`.
    ///
    /// # Errors
    ///
    /// [`JoinError`]: it panicked, was killed, or could not be started.
    pub fn join(self) -> Result<T, JoinError> {
        if !await_end(&self.task, None) {
            return Err(JoinError::Unwinding);
        }
        let result = lock(&self.outcome.0).take();
        result.expect("the result is in place before the end, and `join` takes the only handle")
    }

    /// Waits for its end, but no longer than `timeout`; whether it has ended. Then
    /// [`join`](Greenlet::join) returns at once.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        await_end(&self.task, switch::deadline(Some(timeout)))
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

    /// Kills it and waits for its end, but no longer than `timeout`; whether it has ended.
    pub fn kill_timeout(&self, timeout: Duration) -> bool {
        self.kill_nowait();
        await_end(&self.task, switch::deadline(Some(timeout)))
    }

    /// Kills it and does not wait: gevent's `kill(block=False)`.
    pub fn kill_nowait(&self) {
        kill_task(&self.task);
    }

    /// Whether it has ended.
    pub fn ready(&self) -> bool {
        self.task.has_ended()
    }

    /// The name that it was given, else `greenlet-` and its number.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// Its number, unlike that of any other greenlet of the process.
    pub fn id(&self) -> u64 {
        self.task.id()
    }

    /// The hub that it belongs to.
    pub fn hub(&self) -> usize {
        self.task.hub() as usize
    }
}

impl<T> Sealed for Greenlet<T> {}

/// Ready when it has ended.
impl<T> Waitable for Greenlet<T> {
    fn ready(&self) -> bool {
        self.task.has_ended()
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

fn kill_task(task: &Arc<Task>) {
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
    hub::kill(task);
}

/// Waits for the end of a greenlet; false when the deadline came first, or the caller unwinds.
pub(crate) fn await_end(task: &Arc<Task>, deadline: Option<u64>) -> bool {
    switch::check();
    loop {
        if task.has_ended() {
            return true;
        }
        if !switch::may_wait() {
            return false;
        }
        let waiter = Waiter::new();
        if !task.notify_at_end(&waiter) {
            return true;
        }
        match waiter.wait(deadline) {
            Ok(()) => {}
            Err(Stop::Deadline) => return task.has_ended(),
            Err(Stop::Interrupt(interrupt)) => switch::raise(interrupt),
        }
    }
}

/// Runs `f` in a greenlet and waits for its result: for code on a hub's thread that is no greenlet.
///
/// That is a coroutine of `may` itself, started by a crate that is built on `may` (without its
/// default features) and pinned to the hub, as those of `may_minihttp`'s `HttpServiceFactory`.
/// Such code can't wait by any other call of this crate. In a greenlet and on a plain thread it is
/// a spawn and a join.
///
/// # Errors
///
/// [`JoinError`]: it panicked or was killed, or could not be started.
///
/// # Panics
///
/// In a destructor that runs in a hub's own loop: it would stop every greenlet of the hub.
pub fn run_in_greenlet<F, T>(f: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let refused = |source| JoinError::Refused {
        name: "run_in_greenlet".into(),
        source,
    };
    let foreign = hub::try_local().filter(|_| current::with(|task| task.is_none()));
    let Some(local) = foreign else {
        return Builder::new().spawn(f).map_err(refused)?.join();
    };
    let parker = local.parker_of_foreigner();
    let greenlet = Builder::new().spawn_local(f).map_err(refused)?;
    let waiter = Waiter::of_coroutine(Arc::clone(&parker));
    if greenlet.task.notify_at_end(&waiter) {
        while waiter.is_waiting() {
            parker.park();
        }
    }
    let result = lock(&greenlet.outcome.0).take();
    result.expect("the result is in place before the end")
}

/// Waits until all have ended, no longer than `timeout` (none: without end); whether all have.
/// gevent's `joinall`. Their results stay in their handles.
pub fn joinall<'a, T: 'a>(
    greenlets: impl IntoIterator<Item = &'a Greenlet<T>>,
    timeout: Option<Duration>,
) -> bool {
    let deadline = switch::deadline(timeout);
    let mut all = true;
    for greenlet in greenlets {
        all &= await_end(&greenlet.task, deadline);
    }
    all
}

/// Kills all at once, then waits until all have ended, no longer than `timeout` (none: without
/// end); whether all have. gevent's `killall`.
pub fn killall<'a, T: 'a>(
    greenlets: impl IntoIterator<Item = &'a Greenlet<T>>,
    timeout: Option<Duration>,
) -> bool {
    let greenlets: Vec<_> = greenlets.into_iter().collect();
    // The caller itself may be among them: it goes last, as that ends it.
    let me = current::with(|task| task.map(Task::id));
    for greenlet in greenlets
        .iter()
        .filter(|greenlet| Some(greenlet.id()) != me)
    {
        greenlet.kill_nowait();
    }
    for greenlet in greenlets
        .iter()
        .filter(|greenlet| Some(greenlet.id()) == me)
    {
        greenlet.kill_nowait();
    }
    joinall(greenlets, timeout)
}

/// The greenlet that calls, as others see it; none on a plain thread. gevent's `getcurrent`.
pub fn getcurrent() -> Option<Current> {
    current::get().map(|task| Current { task })
}

/// The number of the greenlet that calls; none on a plain thread. Cheaper than [`getcurrent`].
#[inline]
pub fn current_id() -> Option<u64> {
    current::with(|task| task.map(Task::id))
}

/// The calling greenlet. From [`getcurrent`].
#[derive(Debug, Clone)]
pub struct Current {
    task: Arc<Task>,
}

impl Current {
    pub(crate) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The name that it was given, else `greenlet-` and its number.
    pub fn name(&self) -> &str {
        self.task.name()
    }

    /// Its number, unlike that of any other greenlet of the process.
    pub fn id(&self) -> u64 {
        self.task.id()
    }

    /// The hub that it belongs to.
    pub fn hub(&self) -> usize {
        self.task.hub() as usize
    }

    /// Kills it, from wherever the value has got to, without waiting for its end.
    pub fn kill_nowait(&self) {
        kill_task(&self.task);
    }

    /// Whether it has ended.
    pub fn ready(&self) -> bool {
        self.task.has_ended()
    }
}

/// Waits for `duration`: gevent's `sleep`. Zero lets the others run, and the hub's I/O in its turn.
///
/// In a greenlet that unwinds it returns at once.
pub fn sleep(duration: Duration) {
    switch::check();
    if !switch::may_wait() {
        return;
    }
    if duration.is_zero() {
        switch::pass(false);
        return;
    }
    let deadline = switch::deadline(Some(duration));
    loop {
        match switch::park(deadline) {
            switch::Parked::Woken if deadline.is_some_and(|at| now_ns() >= at) => return,
            switch::Parked::Woken => {}
            switch::Parked::Expired => return,
            switch::Parked::Interrupted(interrupt) => switch::raise(interrupt),
        }
    }
}

/// Lets every other greenlet of the hub that can run do so, and the hub look after its I/O:
/// gevent's `idle`.
///
/// On a plain thread it yields the thread.
pub fn idle() {
    switch::check();
    if switch::may_wait() {
        switch::pass(true);
    }
}

/// Gives the untouched part of the calling greenlet's stack back to the system, to be called before
/// a long wait; a few µs.
///
/// A parked greenlet then takes about one page (4 KiB) and its own data. Does nothing on a plain
/// thread.
pub fn trim_stack() {
    if this_hub() != NO_HUB {
        current::with(|task| {
            if let Some(task) = task {
                task.stack().trim();
            }
        });
    }
}
