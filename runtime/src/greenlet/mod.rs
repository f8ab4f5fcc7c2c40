//! Greenlets: spawning, joining and killing them.

mod all;
mod builder;
mod current;
mod handle;
mod ident;
mod links;
mod outcome;
mod sleep;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use all::kill_tasks;
pub use all::{JoinAll, joinall, killall, killall_nowait};
pub use builder::Builder;
pub use current::{Current, current_id, getcurrent};
pub use handle::Greenlet;
pub(crate) use handle::{await_end, kill_task};
pub(crate) use ident::Ident;
pub use links::Link;
pub(crate) use links::{Caller, Links};
pub(crate) use outcome::{Deliver, Launch, Outcome, body};
pub use sleep::{idle, sleep, trim_stack};

use crate::error::JoinError;
use crate::hub;
use crate::sys::current as this;
use crate::waiter::Waiter;

/// Starts a greenlet that runs `f`: gevent's `spawn`.
///
/// It never runs inline: its turn comes when the caller blocks. Called from a greenlet, the new one
/// belongs to the same hub; called from another thread, the hubs take turns. [`Builder`] chooses
/// otherwise, and gives a name.
///
/// # Panics
///
/// If it can't be started, with the text of the [`SpawnError`](crate::SpawnError).
/// [`Builder::spawn`] returns it instead.
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
///
/// ```
/// use greenwood_runtime::spawn_later;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let later = spawn_later(Duration::from_millis(5), Instant::now);
/// assert!(later.join().unwrap() - start >= Duration::from_millis(5));
/// ```
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
#[track_caller]
pub fn run_in_greenlet<F, T>(f: F) -> Result<T, JoinError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let refused = |source| JoinError::Refused {
        name: "run_in_greenlet".into(),
        source,
    };
    let foreign = hub::try_local().filter(|_| this::with(|task| task.is_none()));
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
    greenlet.into_result()
}
