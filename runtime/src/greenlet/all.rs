//! Many greenlets at once: gevent's `joinall` and `killall`.

use std::time::Duration;

use super::handle::{Greenlet, await_end};
use crate::switch;
use crate::sys::current;
use crate::task::Task;

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
