//! The greenlet that calls: gevent's `getcurrent`.

use std::panic::Location;
use std::sync::Arc;

use super::handle::kill_task;
use crate::sys::current;
use crate::task::Task;
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};

/// The greenlet that calls, as others see it; none on a plain thread. gevent's `getcurrent`.
///
/// ```
/// use greenwood_runtime::{getcurrent, spawn, wait};
///
/// let me = spawn(|| getcurrent().unwrap()).join().unwrap();
/// assert_eq!(wait(&[&me], None, None), [0]);
/// assert!(me.ready() && getcurrent().is_none());
/// ```
pub fn getcurrent() -> Option<Current> {
    current::get().map(|task| Current { task })
}

/// The number of the greenlet that calls; none on a plain thread. Cheaper than [`getcurrent`].
#[inline]
pub fn current_id() -> Option<u64> {
    current::with(|task| task.map(Task::id))
}

/// A greenlet without its result: the calling one, from [`getcurrent`], or a group's member.
///
/// It can be handed to others, who kill it, or [`wait`](crate::wait) for its end.
#[derive(Debug, Clone)]
pub struct Current {
    task: Arc<Task>,
}

impl Current {
    pub(crate) fn of(task: Arc<Task>) -> Current {
        Current { task }
    }

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

    /// The number of the greenlet that spawned it: gevent's `spawning_greenlet`. None if that was
    /// a plain thread.
    pub fn spawning_greenlet(&self) -> Option<u64> {
        self.task.parent()
    }

    /// Where it was spawned: the innermost entry of gevent's `spawning_stack`.
    pub fn spawning_site(&self) -> &'static Location<'static> {
        self.task.site()
    }

    /// A small number of its own: see [`Greenlet::minimal_ident`](crate::Greenlet::minimal_ident).
    pub fn minimal_ident(&self) -> u32 {
        self.task.minimal_ident()
    }

    /// The hub that it belongs to.
    pub fn hub(&self) -> usize {
        self.task.hub() as usize
    }

    /// Kills it, from wherever the value has got to, without waiting for its end: see
    /// [`Greenlet::kill_nowait`](crate::Greenlet::kill_nowait).
    pub fn kill_nowait(&self) {
        kill_task(&self.task);
    }

    /// Whether it has ended.
    pub fn ready(&self) -> bool {
        self.task.has_ended()
    }
}

impl Sealed for Current {}

/// Ready when it has ended and its links have been called.
impl Waitable for Current {
    fn ready(&self) -> bool {
        self.task.is_over()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.task.watch_end(watcher)
    }
}
