//! Parked connections: they wait to be read without a greenlet.
//!
//! A connection that is served by callbacks needs a stack only while one of them runs. Between
//! messages it is an object ([`Parked`]) and an entry in its hub's epoll set. One greenlet per hub,
//! the *leader*, waits for the set and runs what is ready, one connection after the other, on its
//! own stack. Before it would block in one of them, another greenlet takes over the lead: so a
//! callback may block and holds nobody up, and one that does not costs no spawn.
//!
//! The greenlets are there as long as something is parked.

mod lead;
mod lot;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::Stream;
use crate::hub;
use crate::panics::drop_caught;
use crate::sys::{coarse_now_ns, current, fd};
use crate::task::lock;

pub(crate) use lead::hand_over;
use lot::{Lot, lots};

/// How many steps a connection may take before the others have their turn.
const MAX_STEPS: u32 = 64;

/// Fewer of them when they take long.
const MAX_TIME_NS: u64 = 2_000_000;

/// After the first of them, the clock is looked at every so many.
const STEPS_PER_LOOK: u32 = 4;

/// What is done with a connection when it can be read.
///
/// It is told once of everything that arrives: it reads until there is nothing more, or asks to be
/// called again.
pub trait Parked: Send + 'static {
    /// Something has arrived: data, the end, or an error. Never called by two greenlets at a time,
    /// and always on the hub to which the descriptor belongs. It may block; it should not unwind.
    /// What it leaves behind in its greenlet, as a time-out in force, ends with the call.
    fn ready(&mut self, burst: &Burst) -> Then;
}

/// What is to happen to a connection after [`Parked::ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It has read all there is, and waits for more.
    Wait,
    /// It has more to do: it is called again after the others.
    Again,
}

/// One call of [`Parked::ready`].
#[derive(Debug)]
pub struct Burst {
    closed: bool,
    steps: Cell<u32>,
    /// When the first step had been made.
    began: Cell<u64>,
}

impl Burst {
    /// The peer has closed its side, or the connection has failed, or that can't be told: there is
    /// no further call when it is overlooked, so the connection must be read until there is
    /// nothing or the end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counts a step, as a message; false when it is time to let others have their turn
    /// ([`Then::Again`]): after 64 steps, or 2 ms, which is looked at after steps 1, 2 and 4 and
    /// then after every fourth.
    #[inline]
    pub fn may_go_on(&self) -> bool {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        match steps {
            1 => self.began.set(coarse_now_ns()),
            2 => return self.is_in_time(),
            MAX_STEPS.. => return false,
            steps if steps % STEPS_PER_LOOK == 0 => return self.is_in_time(),
            _ => {}
        }
        true
    }

    fn is_in_time(&self) -> bool {
        coarse_now_ns().saturating_sub(self.began.get()) < MAX_TIME_NS
    }

    fn new(closed: bool) -> Burst {
        Burst {
            closed,
            steps: Cell::new(0),
            began: Cell::new(0),
        }
    }
}

/// A connection's place among the parked ones of its hub, the one to which its descriptor belongs.
///
/// The place is [reserved](Place::reserve) first, so that what is parked can keep it, and has to be
/// [left](Place::leave) by whoever knows that the connection is over.
pub struct Place {
    lot: &'static Lot,
    key: u64,
    stream: Stream,
}

/// Nothing was parked: why, and what is to be served otherwise. From [`Place::park`].
pub struct Unparked<P> {
    /// Why.
    pub error: io::Error,
    /// What was to be parked.
    pub parked: Box<P>,
}

impl Place {
    /// Reserves a place for a connection, of whichever kind.
    ///
    /// # Errors
    ///
    /// When the hub's epoll set can't be made.
    pub fn reserve<S: Clone + Into<Stream>>(stream: &S) -> io::Result<Place> {
        let stream = stream.clone().into().into_transport();
        let hubs = hub::try_runtime().map_err(io::Error::other)?.hubs();
        let lot = &lots()[stream.as_raw_fd() as usize % hubs];
        let key = lock(&lot.shared).reserve(lot.hub, hubs)?;
        Ok(Place { lot, key, stream })
    }

    /// Parks the connection: from now on `parked` is called on its hub whenever something arrives,
    /// and at once if something has.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says; when the greenlet that leads can't be started. Then nothing is
    /// parked.
    pub fn park<P: Parked>(&self, parked: Box<P>) -> Result<(), Unparked<P>> {
        if let Err(error) = self.lot.ensure_leader() {
            return Err(Unparked { error, parked });
        }
        let mut shared = lock(&self.lot.shared);
        let set = shared.set.clone();
        let (Some(set), Some(slot)) = (set, shared.slot(self.key)) else {
            let error = io::Error::other("the place has been left");
            return Err(Unparked { error, parked });
        };
        // Under the lock, so that the first event finds the place taken.
        if let Err(error) = fd::epoll_add(set.as_fd(), self.stream.as_fd(), self.key) {
            return Err(Unparked { error, parked });
        }
        slot.put(parked);
        // Somebody may have asked for a call before there was anybody to call.
        let is_called = slot.again.take().is_some() && shared.call(self.key);
        drop(shared);
        if is_called {
            set.ring();
        }
        Ok(())
    }

    /// Leaves the place: what is parked there is called no more and forgotten. If it is being
    /// called now, that call still ends.
    pub fn leave(&self) {
        let left = self.lot.leave(self.key);
        if let Some(set) = left.set {
            fd::epoll_remove(set.as_fd(), self.stream.as_fd());
        }
        drop_caught(left.parked);
    }

    /// Has the connection called although nothing has arrived. Needs no greenlet beside the one
    /// that leads.
    ///
    /// # Errors
    ///
    /// When nobody leads, and no greenlet can be started for that. Then the connection is called as
    /// soon as somebody does.
    pub fn wake(&self) -> io::Result<()> {
        let set = {
            let mut shared = lock(&self.lot.shared);
            if !shared.call(self.key) {
                return Ok(());
            }
            shared.set.clone()
        };
        if let Some(set) = set {
            set.ring();
        }
        self.lot.ensure_leader()
    }

    /// Kills the greenlet in which the connection is being called, at its next blocking call, if it
    /// is not back by then; and in each call that still comes, up to the [end](Place::leave): a
    /// call that tells of the kill must not block for ever either. Other connections' calls are
    /// left alone.
    pub fn kill(&self) {
        let stray = {
            let mut shared = lock(&self.lot.shared);
            if let Some(slot) = shared.slot(self.key) {
                slot.killed = true;
            }
            shared.strays.get(&self.key).cloned()
        };
        if let Some(task) = stray {
            task.mark_killed();
            hub::kill(&task);
        }
    }

    /// Whether the caller is the greenlet in which the connection is being called.
    pub fn is_current(&self) -> bool {
        current::with(|task| {
            let Some(task) = task else { return false };
            if task.hub() != self.lot.hub {
                return false;
            }
            if task.local().frame.in_burst.get() {
                return self.lot.local.get().running.get() == self.key;
            }
            let shared = lock(&self.lot.shared);
            let stray = shared.strays.get(&self.key);
            stray.is_some_and(|stray| stray.id() == task.id())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("hub", &self.lot.hub)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Unparked<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparked")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<P> From<Unparked<P>> for io::Error {
    fn from(unparked: Unparked<P>) -> io::Error {
        unparked.error
    }
}
