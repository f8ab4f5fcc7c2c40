//! [`TaskLocal`] and [`Frame`]: what only the hub of a greenlet looks at, and what a greenlet or a
//! thread carries for the calls that block in it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::num::NonZero;
use std::sync::Arc;

use crate::run_info::WaitsFor;
use crate::seldom::Seldom;
use crate::sys::coroutine::Parker;
use crate::timer::TimerKey;
use crate::waiter::Waiter;

/// What only the greenlet's own hub looks at.
#[repr(C)]
#[derive(Default)]
pub(crate) struct TaskLocal {
    pub(crate) frame: Frame,
    /// When the present wait ends.
    pub(crate) deadline: Cell<Option<NonZero<u64>>>,
    /// The parker of the coroutine that runs the greenlet.
    pub(crate) parker: RefCell<Option<Arc<Parker>>>,
    /// The descriptor that it waits for, while it does.
    pub(crate) io: RefCell<Option<Arc<crate::net::socket::Endpoint>>>,
    /// Its waiter, while it does not wait: it has the greenlet, which lets go of it at its end.
    pub(crate) waiter: Cell<Option<Arc<Waiter>>>,
    /// Its entry among the hub's timers, which may be earlier than the present deadline, never
    /// later.
    pub(crate) timer: Cell<Option<TimerKey>>,
}

/// What a greenlet or an OS thread carries for the calls that block in it.
#[derive(Default)]
pub(crate) struct Frame {
    /// The time-outs in force, outermost first: (identity, deadline).
    timeouts: Cell<Seldom<(u64, u64)>>,
    is_of_thread: bool,
    /// To be called before the next switch.
    pub(crate) before_switch: Cell<Option<Arc<dyn crate::switch::BeforeSwitch>>>,
    /// What `before_switch` has panicked with, until it is raised.
    // Boxed twice for one word instead of two: there is hardly ever one.
    pub(crate) panic: Cell<Option<Box<Box<dyn Any + Send>>>>,
    /// An interrupt has been raised before without a wait.
    pub(crate) raised: Cell<bool>,
    /// The greenlet leads the hub's parked connections and runs one of them: before it switches,
    /// another has to lead.
    pub(crate) in_burst: Cell<bool>,
    /// It has values of [`local!`](crate::local).
    pub(crate) has_locals: Cell<bool>,
    /// Set by the timer that ended the greenlet's present wait.
    pub(crate) expired: Cell<bool>,
    /// What it waits for, if whoever waits has said so.
    pub(crate) waits_for: Cell<WaitsFor>,
}

impl Frame {
    /// For an OS thread.
    pub(crate) const fn of_thread() -> Frame {
        Frame {
            is_of_thread: true,
            timeouts: Cell::new(Seldom::new()),
            before_switch: Cell::new(None),
            panic: Cell::new(None),
            raised: Cell::new(false),
            in_burst: Cell::new(false),
            has_locals: Cell::new(false),
            expired: Cell::new(false),
            waits_for: Cell::new(WaitsFor::Turn),
        }
    }

    /// Ends the time-outs in force, for a greenlet that goes on with something else.
    pub(crate) fn end_timeouts(&self) {
        self.timeouts.take();
        self.raised.set(false);
    }

    /// Calls `f`, which runs nothing of a user's, with the time-outs in force.
    #[inline]
    pub(crate) fn with_timeouts<R>(&self, f: impl FnOnce(&mut Seldom<(u64, u64)>) -> R) -> R {
        let mut timeouts = self.timeouts.take();
        let result = f(&mut timeouts);
        self.timeouts.set(timeouts);
        result
    }

    /// The time-out in force that expires first; the outermost of those that expire together.
    #[inline]
    pub(crate) fn earliest_timeout(&self) -> Option<(u64, u64)> {
        self.with_timeouts(|timeouts| {
            let all = timeouts.as_slice().iter().copied();
            all.min_by_key(|&(_, deadline)| deadline)
        })
    }

    /// Puts a time-out in force.
    #[inline]
    pub(crate) fn limit(&self, id: u64, deadline: u64) {
        self.with_timeouts(|timeouts| timeouts.as_mut().push((id, deadline)));
    }

    /// Ends a time-out, which may have ended already.
    #[inline]
    pub(crate) fn end_limit(&self, id: u64) {
        self.with_timeouts(|timeouts| {
            // Nearly always the innermost.
            match timeouts.as_slice().last() {
                Some(last) if last.0 == id => drop(timeouts.as_mut().pop()),
                _ => timeouts.retain(|&(other, _)| other != id),
            }
            if self.is_of_thread && timeouts.as_slice().is_empty() {
                // Nobody cleans up behind a thread.
                timeouts.take();
            }
        });
    }

    /// Whether a time-out is in force.
    pub(crate) fn has_limit(&self, id: u64) -> bool {
        self.with_timeouts(|timeouts| timeouts.as_slice().iter().any(|limit| limit.0 == id))
    }
}
