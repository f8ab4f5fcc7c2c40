//! Panics of greenlets: the message names the greenlet, and kills and time-outs are told apart.

use std::any::Any;
use std::cell::Cell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::switch::{GreenletExit, TimeoutExpired};
use crate::sys::current;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`, of which a panic is expected as an answer: it is caught, and no message printed.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> std::thread::Result<R> {
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(before);
    result
}

/// Puts a line that names the greenlet before the message of whatever panic hook is in force.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                return;
            }
            current::with(|task| {
                if let Some(task) = task {
                    // Not `eprintln!`, which panics when stderr is broken, and that in here would
                    // end the process.
                    let line = format!("greenlet '{}' (id {}) panicked:\n", task.name(), task.id());
                    std::io::stderr().write_all(line.as_bytes()).ok();
                }
            });
            previous(info);
        }));
    });
}

/// Whether a payload caught by `catch_unwind` is a kill or a time-out of the runtime on its way up.
///
/// Code that catches panics must pass such a payload on with [`std::panic::resume_unwind`]. If it
/// does not, a kill is raised again by the greenlet's next blocking call.
///
/// ```
/// # fn work() {}
/// # greenwood_runtime::spawn(|| {
/// if let Err(payload) = std::panic::catch_unwind(work) {
///     if greenwood_runtime::is_interrupt(&*payload) {
///         std::panic::resume_unwind(payload);
///     }
///     eprintln!("work has panicked; the greenlet goes on");
/// }
/// # }).join().unwrap();
/// ```
pub fn is_interrupt(payload: &(dyn Any + Send)) -> bool {
    payload.is::<GreenletExit>() || payload.is::<TimeoutExpired>()
}

/// Whether a payload caught by `catch_unwind` is a kill on its way up: gevent's `GreenletExit`.
/// Other [interrupts](is_interrupt) are time-outs.
pub fn is_kill(payload: &(dyn Any + Send)) -> bool {
    payload.is::<GreenletExit>()
}

/// Drops what is a user's. Its destructor may panic, as may that of the payload: none of it goes
/// further.
pub(crate) fn drop_caught<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        // A second payload is not worth a third try.
        let _leaked = std::mem::ManuallyDrop::new(again);
    }
}

/// The text of a panic's payload, if it has one.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
