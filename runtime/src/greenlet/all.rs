//! Many greenlets at once: gevent's `joinall` and `killall`.

use std::sync::Arc;
use std::time::Duration;

use super::handle::{Greenlet, await_end, kill_task};
use crate::error::JoinError;
use crate::switch;
use crate::sys::current;
use crate::task::Task;
use crate::wait::iwait;
use crate::waitable::Waitable;

/// Waits until all have ended, no longer than `timeout` (none: without end); whether all have.
/// gevent's `joinall`; [`JoinAll`] is the long form of it. Their results stay in their handles.
///
/// Greenlets with results of different types are waited for by [`wait`](crate::wait()), or joined
/// in a [`Group`](crate::Group).
///
/// ```
/// use greenwood_runtime::{joinall, sleep, spawn};
/// use std::time::Duration;
///
/// let mut greenlets = vec![spawn(|| 1), spawn(|| 2)];
/// assert!(joinall(&greenlets, None));
/// greenlets.push(spawn(|| {
///     sleep(Duration::from_secs(60));
///     3
/// }));
/// assert!(!joinall(&greenlets, Some(Duration::from_millis(1))));
/// ```
pub fn joinall<'a, T: 'a>(
    greenlets: impl IntoIterator<Item = &'a Greenlet<T>>,
    timeout: Option<Duration>,
) -> bool {
    let deadline = switch::deadline(timeout);
    // Also if there is none of them.
    switch::check();
    let mut all = true;
    for greenlet in greenlets {
        all &= await_end(&greenlet.task, deadline);
    }
    all
}

/// Waits for some greenlets, and tells which have ended: gevent's `joinall` with all that it takes.
///
/// ```
/// use greenwood_runtime::{JoinAll, sleep, spawn};
/// use std::time::Duration;
///
/// let greenlets = [spawn(|| sleep(Duration::from_secs(60))), spawn(|| ())];
/// let finished = JoinAll::new(&greenlets).count(1).wait();
/// assert_eq!(finished[0].id(), greenlets[1].id());
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until it waits"]
pub struct JoinAll<'a, T> {
    greenlets: Vec<&'a Greenlet<T>>,
    timeout: Option<Duration>,
    count: Option<usize>,
}

impl<'a, T> JoinAll<'a, T> {
    /// For all of these, without a time limit. One may be among them more than once, and counts
    /// each time.
    pub fn new(greenlets: impl IntoIterator<Item = &'a Greenlet<T>>) -> JoinAll<'a, T> {
        JoinAll {
            greenlets: greenlets.into_iter().collect(),
            timeout: None,
            count: None,
        }
    }

    /// How long to wait. Default: without end.
    pub fn timeout(mut self, timeout: Duration) -> JoinAll<'a, T> {
        self.timeout = Some(timeout);
        self
    }

    /// For how many of them to wait. Default: all.
    pub fn count(mut self, count: usize) -> JoinAll<'a, T> {
        self.count = Some(count);
        self
    }

    /// Waits, and returns those that have ended, in the order in which they did.
    pub fn wait(&self) -> Vec<&'a Greenlet<T>> {
        self.finished().collect()
    }

    /// Waits, and returns those that have ended, in the order in which they did; but not beyond the
    /// first that has [failed](Greenlet::exception): gevent's `raise_error=True`.
    ///
    /// # Errors
    ///
    /// That one's error.
    pub fn raise_error(&self) -> Result<Vec<&'a Greenlet<T>>, &'a JoinError> {
        self.finished()
            .map(|greenlet| greenlet.exception().map_or(Ok(greenlet), Err))
            .collect()
    }

    fn finished(&self) -> impl Iterator<Item = &'a Greenlet<T>> {
        let objects: Vec<_> = (self.greenlets.iter())
            .map(|&greenlet| greenlet as &dyn Waitable)
            .collect();
        let count = self.count.unwrap_or(objects.len());
        let places = iwait(&objects, self.timeout).take(count);
        places.map(|place| self.greenlets[place])
    }
}

/// Kills all at once, then waits until all have ended, no longer than `timeout` (none: without
/// end); whether all have. gevent's `killall`.
///
/// ```
/// use greenwood_runtime::{Event, killall, spawn};
///
/// let greenlets = [spawn(|| Event::new().wait()), spawn(|| Event::new().wait())];
/// assert!(killall(&greenlets, None));
/// assert!(greenlets.iter().all(|greenlet| greenlet.dead()));
/// ```
pub fn killall<'a, T: 'a>(
    greenlets: impl IntoIterator<Item = &'a Greenlet<T>>,
    timeout: Option<Duration>,
) -> bool {
    let greenlets: Vec<_> = greenlets.into_iter().collect();
    killall_nowait(greenlets.iter().copied());
    joinall(greenlets, timeout)
}

/// Kills all at once and does not wait: gevent's `killall(block=False)`.
///
/// The caller may be among them, and then is the last, as that unwinds it.
pub fn killall_nowait<'a, T: 'a>(greenlets: impl IntoIterator<Item = &'a Greenlet<T>>) {
    kill_tasks(greenlets.into_iter().map(|greenlet| &greenlet.task));
}

/// Kills all, the caller last, as that ends it.
pub(crate) fn kill_tasks<'a>(tasks: impl IntoIterator<Item = &'a Arc<Task>>) {
    let me = current::with(|task| task.map(Task::id));
    let mut myself = None;
    for task in tasks {
        match Some(task.id()) == me {
            true => myself = Some(task),
            false => kill_task(task),
        }
    }
    if let Some(myself) = myself {
        kill_task(myself);
    }
}
