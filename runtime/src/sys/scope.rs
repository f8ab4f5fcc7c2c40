//! [`Scope`]: greenlets that borrow.
//!
//! The runtime takes bodies that are `'static`; here those are passed to it that are not. What makes
//! this sound is the shape of [`with_scope`]: it calls a closure, and does not come back before
//! every greenlet of the scope has ended, whatever happens to the caller meanwhile. No destructor
//! takes part, so there is none to forget.
//!
//! - The closure returns, panics, or is unwound by a kill or a time-out: all are caught, and the
//!   wait comes after.
//! - A kill or a time-out during the wait: the greenlets of the scope are killed and waited for all
//!   the same, by a wait that nothing interrupts; then the caller is unwound.
//! - A caller that unwinds may not wait (a switch would leak its panic into others), so its scope
//!   starts nothing. Whether it does is known at the beginning, and is the same at the end: the
//!   panics in between are caught.
//! - The wait can't fail. Should it panic all the same, the process is aborted.
//! - A greenlet has ended when its closure and its result have been moved out or dropped: what is
//!   told of the end comes after both, and touches only what the runtime owns.
//! - A stack that overflows ends the process, and so does its end; a hub that stands still makes the
//!   caller wait for ever. In neither case does anybody come back to what was borrowed.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::SpawnError;
use crate::greenlet::{Builder, kill_task};
use crate::hub::{self, Body, Job, SendJob};
use crate::run_info::WaitsFor;
use crate::switch::{self, Interrupt};
use crate::task::{Task, lock};
use crate::waiter::{Stop, Waiter};

/// Where greenlets are spawned that borrow. From [`scope`](crate::scope()).
///
/// What they borrow has to be older than the scope:
///
/// ```compile_fail,E0373
/// greenwood_runtime::scope(|s| {
///     let inside = 1;
///     s.spawn(|| inside + 1).join().unwrap();
/// });
/// ```
///
/// and neither the scope nor a handle leaves it:
///
/// ```compile_fail
/// let mut kept = None;
/// greenwood_runtime::scope(|s| kept = Some(s.spawn(|| 1)));
/// ```
///
/// What can't be shared between threads can be borrowed on the caller's own hub only:
///
/// ```compile_fail,E0277
/// let count = std::cell::Cell::new(0);
/// greenwood_runtime::scope(|s| drop(s.spawn(|| count.set(1))));
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    children: Mutex<Children>,
    /// The caller unwinds: it could not wait for them, so none is started.
    pub(crate) unwinds: bool,
    /// How many have panicked, and nobody knows.
    pub(crate) panics: AtomicUsize,
    // Invariant, as that of `std::thread::Scope`: `'scope` must not be shortened.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Children {
    /// All that have not ended, and some that have.
    list: Vec<Arc<Task>>,
    /// They are killed, and those that come.
    killed: bool,
}

/// How a scope has ended; all its greenlets have.
pub(crate) struct Finished<R> {
    pub(crate) result: std::thread::Result<R>,
    /// What has come during the wait, to be raised.
    pub(crate) interrupt: Option<Interrupt>,
    /// How many greenlets have panicked, and nobody knows.
    pub(crate) panics: usize,
}

/// Calls `f` with a scope, and waits for all greenlets that have been spawned in it. Never unwinds
/// before they have ended.
///
/// # Panics
///
/// In a hub's own loop, before it calls `f`.
pub(crate) fn with_scope<'env, F, R>(f: F) -> Finished<R>
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
{
    switch::check();
    switch::check_waits();
    let scope = Scope {
        children: Mutex::default(),
        unwinds: !switch::may_wait(),
        panics: AtomicUsize::new(0),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let failed = result.is_err();
    let Ok(interrupt) = catch_unwind(AssertUnwindSafe(|| scope.wait_for_all(failed))) else {
        // The greenlets may still run, and what they borrow must stay.
        std::process::abort();
    };
    Finished {
        result,
        interrupt,
        panics: scope.panics.load(Ordering::Relaxed),
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a greenlet in the scope.
    pub(crate) fn launch(
        &'scope self,
        builder: Builder,
        body: Box<dyn Body + Send + 'scope>,
        site: &'static Location<'static>,
    ) -> Result<Arc<Task>, SpawnError> {
        let (task, stack_size) = builder.prepare(site)?;
        self.adopt(&task);
        // SAFETY: the types differ only in the lifetime. `with_scope`, which has made this scope
        // and ends `'scope`, does not return or unwind before `task` is over, which it finds in the
        // list from now on; and a greenlet is over only after its body has been consumed. Should
        // the next line panic, it is not started, and `with_scope` waits for ever.
        let body: Box<dyn Body + Send + 'static> = unsafe { std::mem::transmute(body) };
        hub::spawn(Arc::clone(&task), SendJob { body, stack_size }, None);
        Ok(task)
    }

    /// Starts a greenlet of the caller's own hub in the scope.
    pub(crate) fn launch_local(
        &'scope self,
        builder: Builder,
        body: Box<dyn Body + 'scope>,
        site: &'static Location<'static>,
    ) -> Result<Arc<Task>, SpawnError> {
        let (task, stack_size) = builder.prepare_local(site)?;
        self.adopt(&task);
        // SAFETY: as in `launch`. The body stays on this thread, which is the hub's.
        let body: Box<dyn Body + 'static> = unsafe { std::mem::transmute(body) };
        hub::local().start(Arc::clone(&task), Job { body, stack_size });
        Ok(task)
    }

    /// Notes a greenlet that is about to be started.
    fn adopt(&self, task: &Arc<Task>) {
        let mut children = lock(&self.children);
        if children.killed {
            task.mark_killed();
        }
        let list = &mut children.list;
        // Those that have ended are dropped here, so that many short ones take no room.
        if list.len() == list.capacity() {
            list.retain(|child| !child.is_over());
        }
        list.push(Arc::clone(task));
    }

    fn kill_all(&self) {
        let children = {
            let mut children = lock(&self.children);
            children.killed = true;
            children.list.clone()
        };
        for child in &children {
            kill_task(child);
        }
    }

    /// Waits until all have ended. A kill or a time-out that comes meanwhile is returned, after
    /// that.
    fn wait_for_all(&self, failed: bool) -> Option<Interrupt> {
        if failed {
            self.kill_all();
        }
        let mut interrupt = None;
        // A greenlet may spawn others as long as it lasts: when the list is empty, no more can come.
        while let Some(child) = self.last() {
            let waiter = Waiter::new();
            if !child.notify_at_end(&waiter) {
                continue;
            }
            if failed || interrupt.is_some() {
                waiter.wait_through();
            } else if let Err(Stop::Interrupt(came)) = waiter.wait_for(WaitsFor::Greenlet, None) {
                interrupt = Some(came);
                self.kill_all();
            }
        }
        interrupt
    }

    /// The last that has not ended. Those behind it are dropped.
    fn last(&self) -> Option<Arc<Task>> {
        let list = &mut lock(&self.children).list;
        while list.last()?.is_over() {
            list.pop();
        }
        list.last().cloned()
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children = lock(&self.children).list.clone();
        let alive = children.iter().filter(|child| !child.is_over());
        f.debug_struct("Scope")
            .field("greenlets", &alive.count())
            .finish_non_exhaustive()
    }
}
