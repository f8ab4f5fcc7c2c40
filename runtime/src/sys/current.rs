//! Which greenlet runs on this thread.

use std::cell::Cell;
use std::sync::Arc;

use crate::task::Task;

thread_local! {
    // No destructor and constant initialisation: a signal handler may read it.
    static CURRENT: Cell<*const Task> = const { Cell::new(std::ptr::null()) };
}

/// Says that `task` runs on this thread from now on, or no greenlet (`None`: the hub's own loop).
///
/// Only the run loop of a coroutine and the one place that switches call this; the run loop holds
/// an `Arc` of the task for as long as the task is the current one, and that is where `task` must come from.
#[inline]
pub(crate) fn set(task: Option<&Task>) {
    CURRENT.set(task.map_or(std::ptr::null(), std::ptr::from_ref));
}

/// Calls `f` with the greenlet that runs here, if this is one.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Task>) -> R) -> R {
    // SAFETY: a pointer that is not null was set by the run loop of the running coroutine, which
    // holds an `Arc` of the task until after it has set another value, and that frame is below
    // this one on the same stack, or this is the thread's own stack and the pointer is null.
    f(unsafe { CURRENT.get().as_ref() })
}

/// The greenlet that runs here, if this is one.
#[inline]
pub(crate) fn get() -> Option<Arc<Task>> {
    let task = CURRENT.get();
    if task.is_null() {
        return None;
    }
    // SAFETY: as in `with`; it points into an `Arc` that is still alive, as every task is made in one.
    unsafe {
        Arc::increment_strong_count(task);
        Some(Arc::from_raw(task))
    }
}

/// Puts aside the running greenlet while other code runs in its place (a new coroutine's first
/// steps), and puts it back when dropped.
pub(crate) struct Aside(*const Task);

pub(crate) fn aside() -> Aside {
    Aside(CURRENT.replace(std::ptr::null()))
}

impl Drop for Aside {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
