//! Letting others run: gevent's `sleep` and `idle`.

use std::time::Duration;

use crate::run_info::WaitsFor;
use crate::switch;
use crate::sys::home::{NO_HUB, this_hub};
use crate::sys::{current, now_ns};

/// Waits for `duration`: gevent's `sleep`. Zero lets the others run, and the hub's I/O in its turn.
///
/// Never less, and little more: some 50 µs on a machine that is not busy, up to a millisecond while
/// other timers of the hub are due before and behind it.
///
/// In a greenlet that unwinds it returns at once.
///
/// ```
/// use greenwood_runtime::{sleep, spawn};
/// use std::time::Duration;
///
/// let minute = spawn(|| sleep(Duration::from_secs(60)));
/// sleep(Duration::from_millis(1));
/// assert!(!minute.ready());
/// ```
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        // Without a look at the clock, which takes as long as half of the switch.
        switch::check();
        if switch::may_wait() {
            switch::pass(false);
        }
        return;
    }
    // Taken here: the others may have their turn before the wait begins.
    let deadline = switch::deadline(Some(duration));
    switch::check();
    if !switch::may_wait() {
        return;
    }
    loop {
        switch::waits_for(WaitsFor::Sleep);
        match switch::park(deadline) {
            switch::Parked::Woken if deadline.is_some_and(|at| now_ns() >= at) => return,
            switch::Parked::Woken => {}
            switch::Parked::Expired => return,
            switch::Parked::Interrupted(interrupt) => switch::raise(interrupt),
        }
    }
}

/// Lets every other greenlet of the hub that can run do so, and the hub look after its I/O:
/// gevent's `idle`. Of those who have just been spawned, some may begin after that: as many have their
/// first turn before the hub's I/O as there is time for.
///
/// On a plain thread it yields the thread.
pub fn idle() {
    switch::check();
    if switch::may_wait() {
        switch::pass(true);
    }
}

/// Gives the part of its stack that the calling greenlet does not use back to the system; a few µs.
///
/// A parked greenlet then takes about one page (4 KiB) and its own data. Its hub does the same for
/// each that has waited for a quarter of a second, or for longer if that has been done to it
/// before; this is for who can't wait for that. Does nothing on a plain thread.
pub fn trim_stack() {
    if this_hub() != NO_HUB {
        current::with(|task| {
            if let Some(task) = task {
                task.stack().trim();
            }
        });
    }
}
