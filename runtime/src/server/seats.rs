//! Who is being served: [`Seat`].

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::event::Event;
use crate::greenlet::{Current, await_end, getcurrent};
use crate::semaphore::Semaphore;
use crate::task::lock;

/// Those whom a server serves.
#[derive(Default)]
pub(super) struct Seats {
    list: Mutex<List>,
    /// The time to finish is over: whoever is left is killed.
    killing: AtomicBool,
}

#[derive(Default)]
struct List {
    /// By the number of the greenlet with which they began.
    seated: HashMap<u64, Seated>,
    /// Who waits until no more than so many are left.
    waiters: Vec<(usize, Arc<Event>)>,
}

#[derive(Clone)]
enum Seated {
    /// Its handler runs in this greenlet.
    Greenlet(Current),
    Detached(Arc<dyn Detached>),
}

/// A connection that is served without a greenlet of its own: see [`Seat::detach`].
pub trait Detached: Send + Sync + 'static {
    /// The server stops and the connection's time is over: it is to end at once, as a greenlet that
    /// is killed. Must not block.
    fn kill(&self);

    /// Whether the caller is at work on this very connection: then a stop that it calls does not
    /// wait for it.
    fn is_current(&self) -> bool;
}

/// A connection's place among those that a [`StreamServer`](crate::StreamServer) serves: it counts
/// as served as long as there is a seat, and the stop waits for it. Dropping it gives it up.
///
/// From [`StreamServer::with_seats`](crate::StreamServer::with_seats).
pub struct Seat {
    seats: Arc<Seats>,
    /// That of the greenlet with which it began; [`UNTRACKED`] if it is in no list.
    id: u64,
    admission: Admission,
}

/// No greenlet has this number. The server keeps no account of who has it
/// ([`Spawn::Raw`](super::Spawn::Raw)).
const UNTRACKED: u64 = 0;

/// What somebody was let in with.
#[derive(Default)]
pub(super) struct Admission {
    pub(super) _slot: Option<Slot>,
    /// Given back when a connection goes on without a greenlet.
    pub(super) stack: Mutex<Option<Slot>>,
}

/// A place among those that are served at a time, or among those with a greenlet.
pub(super) struct Slot(Arc<Semaphore>);

impl Slot {
    /// Waits for a place; none if the caller unwinds.
    pub(super) fn wait(semaphore: &Arc<Semaphore>) -> Option<Slot> {
        semaphore.acquire().then(|| Slot(Arc::clone(semaphore)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Seat {
    /// Says that the connection goes on without the greenlet that it began with: that may end, and
    /// the server turns to `detached` from now on.
    pub fn detach(&self, detached: Arc<dyn Detached>) {
        if self.id == UNTRACKED {
            return;
        }
        {
            let mut list = lock(&self.seats.list);
            let seated = Seated::Detached(Arc::clone(&detached));
            list.seated.insert(self.id, seated);
        }
        // A stack for another connection.
        drop(lock(&self.admission.stack).take());
        // Set before those who are left are looked at: one of the two sees the other.
        if self.seats.killing.load(Ordering::SeqCst) {
            detached.kill();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.id == UNTRACKED {
            return;
        }
        let (seated, waiters) = {
            let mut list = lock(&self.seats.list);
            let List { seated, waiters } = &mut *list;
            let left = seated.remove(&self.id);
            // A burst must not keep its room for ever.
            if seated.capacity() > 64 && seated.len() * 8 < seated.capacity() {
                seated.shrink_to_fit();
            }
            let count = seated.len();
            let waiters: Vec<_> = waiters.extract_if(.., |(few, _)| count <= *few).collect();
            (left, waiters)
        };
        // What was detached is the user's, and dropped without the lock.
        drop(seated);
        for (_, waiter) in waiters {
            waiter.set();
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Seated {
    fn is_current(&self, greenlet: Option<u64>) -> bool {
        match self {
            Seated::Greenlet(current) => Some(current.id()) == greenlet,
            Seated::Detached(detached) => detached.is_current(),
        }
    }

    fn kill(&self) {
        match self {
            Seated::Greenlet(current) => current.kill_nowait(),
            Seated::Detached(detached) => detached.kill(),
        }
    }
}

impl Seats {
    /// Seats the calling greenlet.
    pub(super) fn take(self: &Arc<Self>, admission: Admission) -> Seat {
        let current = getcurrent().expect("handlers run in greenlets");
        let id = current.id();
        let seated = Seated::Greenlet(current);
        lock(&self.list).seated.insert(id, seated);
        Seat {
            seats: Arc::clone(self),
            id,
            admission,
        }
    }

    /// A seat that is in no list.
    pub(super) fn untracked(self: &Arc<Self>) -> Seat {
        Seat {
            seats: Arc::clone(self),
            id: UNTRACKED,
            admission: Admission::default(),
        }
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.list).seated.len()
    }

    /// Waits until all have ended but the caller, kills those that are left at the deadline, and
    /// waits for them.
    pub(super) fn finish_until(&self, deadline: Option<u64>) {
        let (others, _) = self.others();
        self.await_others(deadline);
        self.killing.store(true, Ordering::SeqCst);
        for connection in self.others().0 {
            connection.kill();
        }
        self.await_others(None);
        // A greenlet ends a little after it has given up its seat.
        for connection in others {
            if let Seated::Greenlet(greenlet) = connection {
                await_end(greenlet.task(), None);
            }
        }
    }

    /// Those who are served, and how many of them are left out: the caller's own connection.
    fn others(&self) -> (Vec<Seated>, usize) {
        let mut seated: Vec<Seated> = lock(&self.list).seated.values().cloned().collect();
        let all = seated.len();
        let myself = getcurrent().map(|current| current.id());
        seated.retain(|it| !it.is_current(myself));
        let mine = all - seated.len();
        (seated, mine)
    }

    /// Waits until only the caller's own connection is left, no longer than `deadline`.
    fn await_others(&self, deadline: Option<u64>) {
        let (_, mine) = self.others();
        let few = {
            let mut list = lock(&self.list);
            if list.seated.len() <= mine {
                return;
            }
            let few = Arc::new(Event::new());
            list.waiters.push((mine, Arc::clone(&few)));
            few
        };
        few.wait_until(deadline);
    }
}
