//! Parked connections: they wait to be read without a greenlet.
//!
//! A connection that is served by callbacks needs a stack only while one of them runs. Between
//! messages it is an object ([`Parked`]) and an entry in its hub's epoll set. One greenlet per hub,
//! the *leader*, waits for the set and runs what is ready, one connection after the other, on its
//! own stack. Before it would block in one of them, another greenlet takes over the lead: so a
//! callback may block and holds nobody up, and one that does not costs no spawn.
//!
//! The greenlets are there as long as something is parked.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::TcpStream;
use super::socket::{Direction, Socket};
use crate::greenlet::Builder;
use crate::panics::drop_caught;
use crate::sys::home::{Home, this_hub};
use crate::sys::{coarse_now_ns, current, fd};
use crate::task::{Task, lock};
use crate::{hub, switch};

/// How many steps a connection may take before the others have their turn.
const MAX_STEPS: u32 = 64;

/// Fewer of them when they take long.
const MAX_TIME_NS: u64 = 2_000_000;

/// How long the leader pauses when it can't wait for the set: memory has run out.
const PAUSE: Duration = Duration::from_millis(10);

/// What is done with a connection when it can be read.
///
/// It is told once of everything that arrives: it reads until there is nothing more, or asks to be
/// called again.
pub trait Parked: Send + Sync + 'static {
    /// Something has arrived: data, the end, or an error. Never called by two greenlets at a time.
    /// It may block; it should not unwind.
    fn ready(&self, burst: &Burst) -> Then;
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
    began: u64,
}

impl Burst {
    /// The peer has closed its side, or the connection has failed, or that can't be told: there is
    /// no further call when it is overlooked, so the connection must be read until there is
    /// nothing or the end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counts a step, as a message; false when it is time to let others have their turn
    /// ([`Then::Again`]): after 64 steps, or 2 ms.
    #[inline]
    pub fn may_go_on(&self) -> bool {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        steps < MAX_STEPS && coarse_now_ns().saturating_sub(self.began) < MAX_TIME_NS
    }

    fn new(closed: bool) -> Burst {
        Burst {
            closed,
            steps: Cell::new(0),
            began: coarse_now_ns(),
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
    stream: TcpStream,
}

impl Place {
    /// Reserves a place for a connection.
    ///
    /// # Errors
    ///
    /// When the hub's epoll set can't be made.
    pub fn reserve(stream: &TcpStream) -> io::Result<Place> {
        let hubs = hub::try_runtime().map_err(io::Error::other)?.hubs();
        let lot = &lots()[stream.as_raw_fd() as usize % hubs];
        let key = lock(&lot.shared).reserve(lot.hub, hubs)?;
        Ok(Place {
            lot,
            key,
            stream: stream.clone(),
        })
    }

    /// Parks the connection: from now on `parked` is called on its hub whenever something arrives,
    /// and at once if something has.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says; when the greenlet that leads can't be started. Then nothing is
    /// parked.
    pub fn park(&self, parked: Arc<dyn Parked>) -> io::Result<()> {
        self.lot.ensure_leader()?;
        let mut shared = lock(&self.lot.shared);
        let set = shared.set.clone();
        let (Some(set), Some(slot)) = (set, shared.slot(self.key)) else {
            return Err(io::Error::other("the place has been left"));
        };
        slot.parked = Some(Arc::clone(&parked));
        slot.running = false;
        // Under the lock, so that the first event finds the place taken.
        let added = fd::epoll_add(set.as_fd(), self.stream.as_fd(), self.key);
        if added.is_err()
            && let Some(slot) = shared.slot(self.key)
        {
            slot.parked = None;
        }
        drop(shared);
        added
    }

    /// Leaves the place: what is parked there is called no more and forgotten. If it is being
    /// called now, that call still ends.
    pub fn leave(&self) {
        let left = self.lot.leave(self.key);
        if left.parked.is_some()
            && let Some(set) = left.set
        {
            fd::epoll_remove(set.as_fd(), self.stream.as_fd());
        }
        if let Some(leader) = left.leader {
            hub::kill(&leader);
        }
        drop_caught(left.parked);
    }

    /// Has the connection called although nothing has arrived.
    ///
    /// # Errors
    ///
    /// When no greenlet can be started for it.
    pub fn wake(&self) -> io::Result<()> {
        let (lot, key) = (self.lot, self.key);
        let run = move || {
            let task = current::get().expect("this is a greenlet");
            // What it may have been told of the end before, and could not look at, is not known.
            lot.serve(&task, Ready::new(key, true), false);
        };
        let hub = lot.hub as usize;
        Builder::new()
            .hub(hub)
            .spawn(run)
            .map(drop)
            .map_err(io::Error::other)
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

/// The parked connections of a hub.
struct Lot {
    hub: u32,
    shared: Mutex<Shared>,
    /// The leader is about to wait, or does.
    waiting: AtomicBool,
    local: Home<Local>,
}

struct Shared {
    /// The epoll set; there as long as a place is reserved.
    set: Option<Arc<Socket>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    reserved: usize,
    generation: u32,
    leader: Leader,
    /// Greenlets that are no leaders any more (or never were) and run a connection.
    strays: HashMap<u64, Arc<Task>>,
}

enum Leader {
    None,
    Starting,
    Greenlet(Arc<Task>),
}

#[derive(Default)]
struct Slot {
    parked: Option<Arc<dyn Parked>>,
    /// Tells this reservation from others of the same slot; 0 for none.
    generation: u32,
    running: bool,
    /// Something has arrived while it was running, and whether that was the end.
    again: Option<bool>,
    /// A greenlet that runs it is to be killed before it switches.
    killed: bool,
}

/// What only the hub's own greenlets reach.
#[derive(Default)]
struct Local {
    ready: RefCell<VecDeque<Ready>>,
    /// What the leader runs, while it does.
    running: Cell<u64>,
}

/// What remains of a reservation.
#[derive(Default)]
struct Left {
    parked: Option<Arc<dyn Parked>>,
    /// The set that it may be in.
    set: Option<Arc<Socket>>,
    /// Who waits for nobody any more, and is to end.
    leader: Option<Arc<Task>>,
}

/// A connection that is to be called.
#[derive(Clone, Copy)]
struct Ready {
    key: u64,
    closed: bool,
    /// It counts as running already.
    begun: bool,
}

impl Ready {
    fn new(key: u64, closed: bool) -> Ready {
        Ready {
            key,
            closed,
            begun: false,
        }
    }
}

fn lots() -> &'static [Lot] {
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
                strays: HashMap::new(),
            }),
            waiting: AtomicBool::new(false),
            local: Home::new(hub, Local::default()),
        };
        (0..hub::runtime().hubs() as u32).map(lot).collect()
    })
}

impl Shared {
    fn reserve(&mut self, hub: u32, hubs: usize) -> io::Result<u64> {
        if self.set.is_none() {
            let set = fd::epoll().map_err(super::explain)?;
            let set = fd::duplicate_for(set.as_fd(), hub, hubs).map_err(super::explain)?;
            self.set = Some(Arc::new(Socket::new(set)));
        }
        // Zero is nobody's.
        self.generation = self.generation.wrapping_add(1).max(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[index as usize] = Slot {
            generation: self.generation,
            // Nobody calls it before it is parked.
            running: true,
            ..Slot::default()
        };
        self.reserved += 1;
        Ok(u64::from(self.generation) << 32 | u64::from(index))
    }

    /// The slot of a reservation, if that has not been given up.
    #[inline]
    fn slot(&mut self, key: u64) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key as u32 as usize)?;
        (slot.generation == (key >> 32) as u32).then_some(slot)
    }

    /// Marks a connection as running; none if it is, and then it will run again.
    #[inline]
    fn begin(&mut self, ready: Ready) -> Option<Arc<dyn Parked>> {
        let slot = self.slot(ready.key)?;
        if slot.running && !ready.begun {
            slot.again = Some(ready.closed || slot.again == Some(true));
            return None;
        }
        slot.running = true;
        slot.parked.clone()
    }

    /// Marks a connection as waiting, unless it has to run again.
    #[inline]
    fn end(&mut self, ready: Ready, then: Then) -> Option<Ready> {
        let slot = self.slot(ready.key)?;
        let again = match (slot.again.take(), then) {
            (None, Then::Wait) => {
                slot.running = false;
                return None;
            }
            (again, _) => again,
        };
        Some(Ready {
            // Who has not read all has not come to the end either.
            closed: ready.closed || again == Some(true),
            begun: true,
            ..ready
        })
    }
}

impl Lot {
    /// Gives up a reservation.
    fn leave(&self, key: u64) -> Left {
        let mut shared = lock(&self.shared);
        let set = shared.set.clone();
        let Some(slot) = shared.slot(key) else {
            return Left::default();
        };
        let parked = std::mem::take(slot).parked;
        shared.free.push(key as u32);
        shared.reserved -= 1;
        let mut leader = None;
        if shared.reserved == 0 {
            shared.slots = Vec::new();
            shared.free = Vec::new();
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
            set,
            leader,
        }
    }

    /// Starts the greenlet that leads, if there is none.
    fn ensure_leader(&'static self) -> io::Result<()> {
        {
            let mut shared = lock(&self.shared);
            if !matches!(shared.leader, Leader::None) {
                return Ok(());
            }
            shared.leader = Leader::Starting;
        }
        let mut leading = Leading {
            lot: self,
            begun: false,
        };
        let started = Builder::new()
            .name("parked connections")
            .hub(self.hub as usize)
            .spawn(move || {
                leading.begun = true;
                self.lead(leading);
            });
        match started {
            // On the caller's own hub a refusal may come at once.
            Ok(leader) if !leader.ready() => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Waits for the connections, and runs those that are ready, until there are none or another
    /// greenlet leads.
    fn lead(&'static self, leading: Leading) {
        let task = current::get().expect("this is a greenlet");
        lock(&self.shared).leader = Leader::Greenlet(Arc::clone(&task));
        let local = self.local.get();
        loop {
            // Those who come again meanwhile wait for the next round.
            let round = local.ready.borrow().len();
            for _ in 0..round {
                if task.is_killed() {
                    return;
                }
                let Some(ready) = local.ready.borrow_mut().pop_front() else {
                    break;
                };
                if !self.serve(&task, ready, true) && !self.lead_again(&task) {
                    leading.end();
                    return;
                }
                if !hub::local().may_run_on() {
                    switch::pass(true);
                }
            }
            self.waiting.store(true, Ordering::SeqCst);
            let set = {
                let mut shared = lock(&self.shared);
                let Some(set) = shared.set.clone() else {
                    self.waiting.store(false, Ordering::SeqCst);
                    shared.leader = Leader::None;
                    drop(shared);
                    leading.end();
                    return;
                };
                set
            };
            let waited = if local.ready.borrow().is_empty() {
                set.wait(Direction::Read, None)
            } else {
                Ok(())
            };
            self.waiting.store(false, Ordering::SeqCst);
            if let Err(error) = waited.and_then(|()| self.take(&set, local)) {
                tracing::error!("parked connections are held up: {error}");
                crate::sleep(PAUSE);
            }
        }
    }

    /// Takes the events that have come.
    fn take(&self, set: &Socket, local: &Local) -> io::Result<()> {
        let mut ready = local.ready.borrow_mut();
        let taken = set.try_read(fd::EPOLL_BATCH, |set| {
            let push = |key, closed| ready.push_back(Ready::new(key, closed));
            match fd::epoll_take(set, push) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                taken => taken,
            }
        });
        match taken {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls a connection, in the greenlet that leads or in another; whether the greenlet still
    /// leads.
    fn serve(&'static self, task: &Arc<Task>, mut ready: Ready, mut leads: bool) -> bool {
        let Some(parked) = lock(&self.shared).begin(ready) else {
            return leads;
        };
        let local = self.local.get();
        let frame = &task.local().frame;
        let key = ready.key;
        if !leads {
            self.stray(key, task);
        }
        loop {
            if leads {
                local.running.set(key);
                frame.in_burst.set(true);
            }
            let burst = Burst::new(ready.closed);
            let called = catch_unwind(AssertUnwindSafe(|| parked.ready(&burst)));
            // What was held back leaves: the next connection has its own.
            if let Err(payload) = switch::run_hook(task) {
                drop_caught(payload);
            }
            if leads {
                leads = frame.in_burst.take();
            }
            let again = match called {
                Ok(then) => lock(&self.shared).end(ready, then),
                Err(payload) => {
                    // It has lost what it had in hand.
                    tracing::error!("a parked connection has panicked and is forgotten");
                    drop_caught(payload);
                    let left = self.leave(key);
                    drop_caught(left.parked);
                    None
                }
            };
            match again {
                None => break,
                Some(again) if leads => {
                    local.ready.borrow_mut().push_back(again);
                    break;
                }
                Some(again) => ready = again,
            }
            if !hub::local().may_run_on() {
                hub::local().wake_after_poll(task);
                // A kill is for what is called to notice.
                switch::park(None);
            }
        }
        if !leads {
            lock(&self.shared).strays.remove(&key);
        }
        drop_caught(parked);
        leads
    }

    /// Notes that `task` runs a connection and does not lead.
    fn stray(&self, key: u64, task: &Arc<Task>) {
        let mut shared = lock(&self.shared);
        shared.strays.insert(key, Arc::clone(task));
        if shared.slot(key).is_some_and(|slot| slot.killed) {
            task.mark_killed();
        }
    }

    /// Takes the lead back where nobody else could take it.
    fn lead_again(&self, task: &Arc<Task>) -> bool {
        let mut shared = lock(&self.shared);
        let vacant = matches!(shared.leader, Leader::None) && shared.reserved > 0;
        if vacant {
            shared.leader = Leader::Greenlet(Arc::clone(task));
        }
        vacant
    }
}

/// Has another greenlet lead: `task` does, and is about to switch in the middle of a connection.
#[cold]
pub(crate) fn hand_over(task: &Task) {
    let lot = &lots()[task.hub() as usize];
    let key = lot.local.get().running.get();
    let myself = current::get().expect("the greenlet that switches is the current one");
    lot.stray(key, &myself);
    lock(&lot.shared).leader = Leader::None;
    if let Err(error) = lot.ensure_leader() {
        // The others wait until this one is back.
        tracing::warn!(hub = this_hub(), "parked connections are held up: {error}");
    }
}

/// What the leader owns. When it is killed, another one has to lead.
struct Leading {
    lot: &'static Lot,
    begun: bool,
}

impl Leading {
    /// There is nobody to lead any more, or another one leads.
    fn end(self) {
        let _kept = std::mem::ManuallyDrop::new(self);
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        let reserved = {
            let mut shared = lock(&self.lot.shared);
            shared.leader = Leader::None;
            self.lot.waiting.store(false, Ordering::SeqCst);
            shared.reserved
        };
        if self.begun
            && reserved > 0
            && let Err(error) = self.lot.ensure_leader()
        {
            tracing::error!("parked connections are held up: {error}");
        }
    }
}
