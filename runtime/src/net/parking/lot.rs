//! [`Lot`]: the places of a hub, and what of them other threads reach.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Parked, Then};
use crate::hub;
use crate::net::explain;
use crate::net::socket::Socket;
use crate::sys::fd;
use crate::sys::home::Home;
use crate::task::{Task, lock};

/// The parked connections of a hub.
pub(super) struct Lot {
    pub(super) hub: u32,
    pub(super) shared: Mutex<Shared>,
    /// The leader is about to wait, or does.
    pub(super) waiting: AtomicBool,
    pub(super) local: Home<Local>,
}

/// What everybody reaches.
pub(super) struct Shared {
    /// There as long as a place is reserved.
    pub(super) set: Option<Arc<Set>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    pub(super) reserved: usize,
    generation: u32,
    pub(super) leader: Leader,
    /// The lead is to be taken a little later, as it could not be at once.
    pub(super) retries: bool,
    /// Greenlets that lead no more and run a connection.
    pub(super) strays: HashMap<u64, Arc<Task>>,
    /// Who is to be called although nothing has arrived, each once.
    called: Vec<u64>,
}

/// The epoll set of a hub's parked connections.
pub(super) struct Set {
    pub(super) socket: Socket,
    /// An eventfd among them, with the key of nobody: who is to be called is in `called`.
    bell: OwnedFd,
}

pub(super) enum Leader {
    None,
    Starting,
    Greenlet(Arc<Task>),
}

/// One place.
#[derive(Default)]
pub(super) struct Slot {
    /// None while it runs, and before it is parked.
    parked: Option<Box<dyn Parked>>,
    /// It is in the epoll set.
    is_in_set: bool,
    /// Tells this reservation from others of the same slot; 0 for none.
    generation: u32,
    /// It is to be called again: something has arrived while it could not be; and whether that
    /// was the end.
    pub(super) again: Option<bool>,
    /// It is among the ready ones; and whether the end has come since it was put there. A second
    /// entry of one that always comes again would never go: others would wait for each of them.
    queued: Option<bool>,
    /// It is among those who are to be called.
    called: bool,
    /// A greenlet that runs it is to be killed before it switches.
    pub(super) killed: bool,
}

/// What only the hub's own greenlets reach.
#[derive(Default)]
pub(super) struct Local {
    pub(super) ready: RefCell<VecDeque<Ready>>,
    /// What the leader runs, while it does.
    pub(super) running: Cell<u64>,
}

/// A connection that is to be called.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) key: u64,
    pub(super) closed: bool,
}

/// A connection that is being called. Nobody else has it meanwhile.
pub(super) struct Call {
    pub(super) ready: Ready,
    pub(super) parked: Box<dyn Parked>,
    /// What is to happen after the call.
    pub(super) then: Then,
}

/// What becomes of a connection that has been called.
pub(super) enum Ended {
    /// It waits, or is among the ready ones.
    Parked,
    /// It is back in its place, and is to be called again.
    Again(Ready),
    /// Its place has been left.
    Gone(Call),
}

/// What remains of a reservation.
#[derive(Default)]
pub(super) struct Left {
    pub(super) parked: Option<Box<dyn Parked>>,
    /// The set that it is in.
    pub(super) set: Option<Arc<Set>>,
}

/// The key that is nobody's.
const BELL: u64 = 0;

pub(super) fn lots() -> &'static [Lot] {
    static LOTS: OnceLock<Vec<Lot>> = OnceLock::new();
    LOTS.get_or_init(|| {
        let lot = |hub| Lot {
            hub,
            shared: Mutex::new(Shared {
                set: None,
                slots: Vec::new(),
                free: Vec::new(),
                reserved: 0,
                generation: 0,
                leader: Leader::None,
                retries: false,
                strays: HashMap::new(),
                called: Vec::new(),
            }),
            waiting: AtomicBool::new(false),
            local: Home::new(hub, Local::default()),
        };
        (0..hub::runtime().hubs() as u32).map(lot).collect()
    })
}

impl Set {
    fn new(hub: u32, hubs: usize) -> io::Result<Set> {
        let set = fd::epoll()?;
        let set = fd::duplicate_for(set.as_fd(), hub, hubs)?;
        let bell = fd::eventfd()?;
        fd::epoll_add(set.as_fd(), bell.as_fd(), BELL)?;
        Ok(Set {
            socket: Socket::new(set),
            bell,
        })
    }

    /// Has the leader look who is to be called.
    pub(super) fn ring(&self) {
        // Edge-triggered: each write is an event, and nobody need read.
        fd::notify(&self.bell);
    }

    /// Takes the events that have come; whether the bell was among them.
    pub(super) fn take(&self, ready: &mut VecDeque<Ready>) -> io::Result<bool> {
        let mut rung = false;
        let taken = self.socket.try_read(fd::EPOLL_BATCH, |set| {
            let push = |key, closed| match key {
                BELL => rung = true,
                key => ready.push_back(Ready { key, closed }),
            };
            match fd::epoll_take(set, push) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                taken => taken,
            }
        });
        match taken {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(rung),
        }
    }
}

impl AsFd for Set {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Shared {
    pub(super) fn reserve(&mut self, hub: u32, hubs: usize) -> io::Result<u64> {
        if self.set.is_none() {
            self.set = Some(Arc::new(Set::new(hub, hubs).map_err(explain)?));
        }
        // Zero is nobody's.
        self.generation = self.generation.wrapping_add(1).max(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Slot {
            generation: self.generation,
            ..Slot::default()
        };
        self.reserved += 1;
        Ok(u64::from(self.generation) << 32 | u64::from(index))
    }

    /// The slot of a reservation, if that has not been given up.
    #[inline]
    pub(super) fn slot(&mut self, key: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key as u32 as usize)?;
        (slot.generation == (key >> 32) as u32).then_some(slot)
    }

    /// Has a connection called; whether the bell is to be rung for it.
    pub(super) fn call(&mut self, key: u64) -> bool {
        let Some(slot) = self.slot(key) else {
            return false;
        };
        let is_first = !std::mem::replace(&mut slot.called, true);
        if is_first {
            self.called.push(key);
        }
        // Also for who is there already: who was to ring may not have got to it yet.
        true
    }

    /// Takes out of the ready ones, of whom the first `known` were there before, who is among them
    /// already, or gone.
    pub(super) fn join(&mut self, ready: &mut VecDeque<Ready>, known: usize) {
        let mut kept = known;
        for at in known..ready.len() {
            let new = ready[at];
            if let Some(slot) = self.slot(new.key)
                && slot.queue(new.closed)
            {
                ready[kept] = new;
                kept += 1;
            }
        }
        ready.truncate(kept);
    }

    /// Takes those who are to be called.
    pub(super) fn take_called(&mut self, ready: &mut VecDeque<Ready>) {
        for key in std::mem::take(&mut self.called) {
            if let Some(slot) = self.slot(key) {
                slot.called = false;
                // What it may have been told of the end before, and could not look at, is not
                // known.
                let closed = true;
                if slot.queue(closed) {
                    ready.push_back(Ready { key, closed });
                }
            }
        }
    }

    /// Takes a connection out of its place, to be called; none if it is not there: then it will be
    /// called again.
    #[inline]
    pub(super) fn begin(&mut self, mut ready: Ready) -> Option<Call> {
        let slot = self.slot(ready.key)?;
        ready.closed |= slot.queued.take() == Some(true);
        match slot.parked.take() {
            Some(parked) => Some(Call {
                ready,
                parked,
                then: Then::Wait,
            }),
            None => {
                slot.again = Some(ready.closed || slot.again == Some(true));
                None
            }
        }
    }

    /// Puts a connection that has been called back in its place.
    #[inline]
    pub(super) fn end(&mut self, call: Call) -> Ended {
        let Ready { key, closed } = call.ready;
        let Some(slot) = self.slot(key) else {
            return Ended::Gone(call);
        };
        slot.parked = Some(call.parked);
        match (slot.again.take(), call.then) {
            (None, Then::Wait) => Ended::Parked,
            // Who has not read all has not come to the end either.
            (again, _) => {
                let closed = closed || again == Some(true);
                match slot.queue(closed) {
                    true => Ended::Again(Ready { key, closed }),
                    false => Ended::Parked,
                }
            }
        }
    }
}

impl Slot {
    /// Says that it is to be among the ready ones; false if it is there already, and is told there
    /// of the end.
    #[inline]
    fn queue(&mut self, closed: bool) -> bool {
        match &mut self.queued {
            Some(end) => *end |= closed,
            None => {
                self.queued = Some(false);
                return true;
            }
        }
        false
    }

    /// Parks a connection that is in the set.
    pub(super) fn put(&mut self, parked: Box<dyn Parked>) {
        self.parked = Some(parked);
        self.is_in_set = true;
    }
}

impl Lot {
    /// Gives up a reservation.
    pub(super) fn leave(&self, key: u64) -> Left {
        let mut leader = None;
        let left = {
            let mut shared = lock(&self.shared);
            let set = shared.set.clone();
            let Some(slot) = shared.slot(key) else {
                return Left::default();
            };
            let Slot {
                parked, is_in_set, ..
            } = std::mem::take(slot);
            shared.free.push(key as u32);
            shared.reserved -= 1;
            if shared.reserved == 0 {
                shared.slots = Vec::new();
                shared.free = Vec::new();
                shared.called = Vec::new();
                shared.set = None;
                // Marked under the lock: whoever is parked next finds it killed, or not waiting.
                if let Leader::Greenlet(task) = &shared.leader
                    && self.waiting.load(Ordering::SeqCst)
                {
                    task.mark_killed();
                    leader = Some(Arc::clone(task));
                }
            }
            Left {
                parked,
                set: set.filter(|_| is_in_set),
            }
        };
        // Who waits for nobody any more is to end.
        if let Some(leader) = leader {
            hub::kill(&leader);
        }
        left
    }
}
