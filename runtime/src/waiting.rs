//! [`wait_in`]: a wait in a list that is part of a state behind a lock. What events, groups, thread
//! pools and places have in common.

use std::sync::Arc;

use crate::run_info::WaitsFor;
use crate::switch;
use crate::sync::Mutex;
use crate::task::lock;
use crate::waiter::{Stop, WaitList, Waiter};

/// Waits in `list` until somebody takes the caller out of it and notifies it, no longer than until
/// `deadline`; not at all if it `is_so` already, which may take something. Whether it came to that:
/// false also if the caller unwinds and would have to wait.
///
/// Calls [`switch::share`] nowhere: that may raise a kill, and what was taken would be lost. The
/// caller does, before or once somebody owns it.
pub(crate) fn wait_in<S>(
    state: &Mutex<S>,
    what: WaitsFor,
    deadline: Option<u64>,
    is_so: impl FnOnce(&mut S) -> bool,
    list: impl Fn(&mut S) -> &mut WaitList<Arc<Waiter>>,
) -> bool {
    switch::check();
    let waiter = {
        let mut state = lock(state);
        if is_so(&mut state) {
            return true;
        }
        if !switch::may_wait() {
            return false;
        }
        let waiter = Waiter::new();
        list(&mut state).push(Arc::clone(&waiter));
        waiter
    };
    match waiter.wait(what, deadline) {
        // What was waited for came with the notification.
        Ok(()) => true,
        Err(stop) => {
            list(&mut lock(state)).abandon();
            match stop {
                Stop::Deadline => false,
                Stop::Interrupt(interrupt) => switch::raise(interrupt),
            }
        }
    }
}
