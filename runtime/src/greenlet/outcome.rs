//! What a greenlet runs, and where its result goes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::links;
use crate::error::{JoinError, Payload, SpawnError};
use crate::hub::{Body, Go};
use crate::panics::drop_caught;
use crate::switch::{GreenletExit, TimeoutExpired};
use crate::sys::slot::Slot;
use crate::task::Task;

/// Where a greenlet's result is until somebody takes it.
pub(crate) type Outcome<T> = Slot<T, JoinError>;

/// Where a greenlet's result goes.
pub(crate) trait Deliver<T> {
    fn deliver(self, result: Result<T, JoinError>, task: &Task);
}

impl<T> Deliver<T> for Arc<Outcome<T>> {
    fn deliver(self, result: Result<T, JoinError>, task: &Task) {
        drop_caught(self.set(result));
        links::prepare(task, self.error());
        if let Some(error) = self.error() {
            task.tell_keepers_of(error);
        }
        // Nobody may be left to take the result, which then ends here: inside the greenlet, and
        // caught.
        drop_caught(self);
    }
}

/// Nobody asks for it.
impl Deliver<()> for () {
    fn deliver(self, result: Result<(), JoinError>, _: &Task) {
        drop_caught(result);
    }
}

/// What the coroutine runs: `f`, caught, with its result put where the handle finds it.
pub(crate) struct Launch<F, O> {
    f: F,
    /// Taken when it runs.
    outcome: Option<O>,
}

pub(crate) fn body<F, O>(f: F, outcome: O) -> Box<Launch<F, O>> {
    let outcome = Some(outcome);
    Box::new(Launch { f, outcome })
}

// What is on the stack here stays there as long as the greenlet lives, so the rare cases are other
// functions', and the closure is moved once only.
impl<F, T, O> Body for Launch<F, O>
where
    F: FnOnce() -> T,
    O: Deliver<T>,
{
    fn run(mut self: Box<Self>, go: Go, task: &Task) {
        let outcome = self.outcome.take();
        let result = match go {
            // A boxed closure that is called where it is would keep its memory until it returns.
            Go::Run => match catch_unwind(AssertUnwindSafe(move || (taken_out(self).f)())) {
                Ok(value) => Ok(value),
                Err(payload) => Err(unwound(payload, task)),
            },
            Go::Killed => Err(unrun(self, None, task)),
            Go::Refused(source) => Err(unrun(self, Some(source), task)),
        };
        if let Some(outcome) = outcome {
            outcome.deliver(result, task);
        }
    }
}

/// The value, without its box.
#[expect(clippy::boxed_local, reason = "to be rid of the box is what it is for")]
fn taken_out<T>(boxed: Box<T>) -> T {
    *boxed
}

#[inline(never)]
fn unrun<T>(body: Box<T>, refused: Option<SpawnError>, task: &Task) -> JoinError {
    drop_caught(body);
    let name = task.name().into();
    match refused {
        Some(source) => JoinError::Refused { name, source },
        None => killed(name, task),
    }
}

#[inline(never)]
fn unwound(payload: Box<dyn Any + Send>, task: &Task) -> JoinError {
    let name = task.name().into();
    if payload.is::<GreenletExit>() {
        killed(name, task)
    } else if payload.is::<TimeoutExpired>() {
        JoinError::TimedOut { name }
    } else {
        let payload = Payload::new(payload);
        JoinError::Panicked { name, payload }
    }
}

fn killed(name: Box<str>, task: &Task) -> JoinError {
    match task.take_payload() {
        Some(payload) => JoinError::KilledWith {
            name,
            payload: Payload::new(payload),
        },
        None => JoinError::Killed { name },
    }
}
