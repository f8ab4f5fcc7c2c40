//! Accepting: who is let in, and what is done about errors.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Spawn;
use super::base::OnDrop;
use super::seats::{Admission, Seat, Seats, Slot};
use crate::error::SpawnError;
use crate::greenlet::Builder;
use crate::pool::{Group, Place};
use crate::semaphore::Semaphore;
use crate::sys::current;
use crate::{limits, sleep};

/// How long accepting pauses when descriptors or memory have run out; doubled up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(10);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Descriptors left for everything that is no connection, when the number of connections is not
/// set.
const SPARE_DESCRIPTORS: u64 = 64;

/// Lets in as many as there is room for.
pub(super) struct Gate {
    slots: Option<Arc<Semaphore>>,
    /// As many as there may be greenlets, if their number is not set: those that go on without one
    /// do not count.
    stacks: Option<Arc<Semaphore>>,
    /// Of which handlers become members.
    group: Option<Group>,
    is_raw: bool,
}

/// The right to be served, of one who was let in.
pub(super) struct Ticket {
    admission: Admission,
    place: Option<Place>,
    is_raw: bool,
}

impl Ticket {
    /// Seats the calling greenlet, the handler's.
    pub(super) fn seat(self, seats: &Arc<Seats>) -> Seat {
        if let (Some(place), Some(task)) = (self.place, current::get()) {
            place.occupy(&task);
        }
        match self.is_raw {
            true => seats.untracked(),
            false => seats.take(self.admission),
        }
    }
}

impl Gate {
    /// A gate for what takes a descriptor each, if it does, and a greenlet.
    pub(super) fn new(spawn: Spawn, each_takes_a_descriptor: bool) -> Gate {
        let new = |places| Some(Arc::new(Semaphore::new(places)));
        let descriptors = || match each_takes_a_descriptor {
            true => new(allowed_descriptors()),
            false => None,
        };
        let is_raw = matches!(spawn, Spawn::Raw);
        let (slots, stacks, group) = match spawn {
            Spawn::Greenlet => (descriptors(), new(limits::allowed()), None),
            Spawn::Pool(size) => (new(size), None, None),
            Spawn::In(group) => (descriptors(), None, Some(group)),
            Spawn::Raw => (None, None, None),
        };
        Gate {
            slots,
            stacks,
            group,
            is_raw,
        }
    }

    /// Waits until there is room for one more; none if the caller unwinds.
    pub(super) fn admit(&self) -> Option<Ticket> {
        let wait = |places: &Option<Arc<Semaphore>>| match places {
            Some(places) => Slot::wait(places).map(Some),
            None => Some(None),
        };
        let slot = wait(&self.slots)?;
        let stack = wait(&self.stacks)?;
        let place = match &self.group {
            Some(group) => Some(group.place()?),
            None => None,
        };
        let admission = Admission {
            _slot: slot,
            stack: Mutex::new(stack),
        };
        Some(Ticket {
            admission,
            place,
            is_raw: self.is_raw,
        })
    }
}

fn allowed_descriptors() -> usize {
    let descriptors = crate::sys::limits::descriptors()
        .saturating_sub(SPARE_DESCRIPTORS)
        .max(1);
    usize::try_from(descriptors).unwrap_or(usize::MAX)
}

/// Starts handlers, and pauses when that fails.
pub(super) struct Starter {
    /// The server's address, for logs.
    name: String,
    delay: Duration,
    /// What became of the last one: [`SERVED`] or [`REFUSED`], or nothing yet.
    last: Arc<AtomicU8>,
}

/// Its greenlet has started.
const SERVED: u8 = 1;
/// There was no memory for the stack of its greenlet.
const REFUSED: u8 = 2;

impl Starter {
    pub(super) fn new(name: String) -> Starter {
        Starter {
            name,
            delay: MIN_DELAY,
            last: Arc::default(),
        }
    }

    /// Pauses if the last handler had no room.
    pub(super) fn look_back(&mut self) {
        match self.last.swap(0, Ordering::SeqCst) {
            SERVED => self.delay = MIN_DELAY,
            REFUSED => self.pause(&"no memory for the stack of a handler's greenlet"),
            _ => {}
        }
    }

    pub(super) fn start(
        &self,
        greenlet: Builder,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), SpawnError> {
        let (last, refused) = (Arc::clone(&self.last), Arc::clone(&self.last));
        let unserved = OnDrop::new(move || refused.store(REFUSED, Ordering::SeqCst));
        let run = move || {
            unserved.disarm();
            last.store(SERVED, Ordering::SeqCst);
            run();
        };
        let started = greenlet.spawn_detached(run);
        if started.is_err() {
            // The caller knows by that, and better: `run` has been dropped.
            self.last.store(0, Ordering::SeqCst);
        }
        started
    }

    pub(super) fn pause(&mut self, error: &dyn fmt::Display) {
        tracing::warn!(
            address = %self.name,
            delay_ms = self.delay.as_millis() as u64,
            "accepting pauses: {error}"
        );
        sleep(self.delay);
        self.delay = (self.delay * 2).min(MAX_DELAY);
    }
}

/// Whether what is listened on is broken.
pub(super) fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP)
    )
}

/// Whether a connection has died in the backlog: accept(2) reports its error, and the next one may
/// be well.
pub(super) fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::ENONET
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handler_that_is_refused_at_once_is_no_reason_for_a_second_pause() {
        let mut starter = Starter::new("test".to_owned());
        let nowhere = Builder::new().hub(usize::MAX);
        assert!(starter.start(nowhere, || ()).is_err());
        starter.look_back();
        assert_eq!(starter.delay, MIN_DELAY);
    }
}
