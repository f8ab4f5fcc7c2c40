//! Which greenlet runs on this thread.

use std::cell::Cell;
use std::sync::Arc;

use crate::task::Task;

thread_local! {
    // No destructor and constant initialisation: a signal handler may read it.
    static CURRENT: Cell<*const Task> = const { Cell::new(std::ptr::null()) };
    /// Whose stack is in use, also while a greenlet switches away or starts a coroutine, when no greenlet is the current one.
    static ON_STACK: Cell<*const Task> = const { Cell::new(std::ptr::null()) };
}

/// Says that `task` runs on this thread from now on.
///
/// Only the run loop of a coroutine calls this; it holds
/// an `Arc` of the task until it has said [`end`].
#[inline]
pub(crate) fn start(task: &Arc<Task>) {
    CURRENT.set(Arc::as_ptr(task));
    ON_STACK.set(Arc::as_ptr(task));
}

/// Says that the current greenlet has ended: its run loop is about to let go of it.
#[inline]
pub(crate) fn end() {
    CURRENT.set(std::ptr::null());
    ON_STACK.set(std::ptr::null());
}

/// Says that this thread leaves the stack that it is on for another coroutine's. When it comes back it
/// is to say so to what this returns.
#[inline]
pub(super) fn leaves_stack() -> Left {
    Left(ON_STACK.replace(std::ptr::null()))
}

/// Whose stack was left.
pub(super) struct Left(*const Task);

impl Left {
    #[inline]
    pub(super) fn come_back(self) {
        ON_STACK.set(self.0);
    }
}

/// Calls `f` with the greenlet whose stack this thread was last seen on. For the handler of stack
/// overflows.
pub(crate) fn with_owner_of_stack<R>(f: impl FnOnce(Option<&Task>) -> R) -> R {
    // SAFETY: a pointer that is not null was set by `start`, by an `Aside` that ended, or by `come_back` on
    // the stack where one of them had set it, for a greenlet of this thread that has not called `end`
    // since: its run loop holds an `Arc` of the task.
    f(unsafe { ON_STACK.get().as_ref() })
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
    // SAFETY: as in `with`; the pointer came from `Arc::as_ptr` of an `Arc` that is still alive.
    unsafe {
        Arc::increment_strong_count(task);
        Some(Arc::from_raw(task))
    }
}

/// Puts aside the running greenlet while other code runs in its place (other greenlets, or a new
/// coroutine's first steps), and puts it back when dropped.
pub(crate) struct Aside(*const Task);

#[inline]
pub(crate) fn aside() -> Aside {
    Aside(CURRENT.replace(std::ptr::null()))
}

impl Drop for Aside {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
        if !self.0.is_null() {
            ON_STACK.set(self.0);
        }
    }
}
