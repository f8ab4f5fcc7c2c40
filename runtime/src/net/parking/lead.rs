//! The greenlet that leads: it waits for a hub's parked connections, and calls those that are
//! ready.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{io, mem};

use super::lot::{Call, Ended, Leader, Local, Lot, Ready, Set, lots};
use super::{Burst, Then};
use crate::greenlet::Builder;
use crate::net::socket::Direction;
use crate::panics::drop_caught;
use crate::run_info::WaitsFor;
use crate::sys::current;
use crate::sys::home::this_hub;
use crate::task::{Task, lock};
use crate::{hub, switch};

/// How long the leader pauses when it can't wait for the set, and how long nobody leads when nobody
/// can: memory has run out.
const PAUSE: Duration = Duration::from_millis(10);

/// The name of greenlets that lead.
const NAME: &str = "parked connections";

impl Lot {
    /// Starts the greenlet that leads, if there is none.
    pub(super) fn ensure_leader(&'static self) -> io::Result<()> {
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
            .name(NAME)
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

    /// Has somebody lead in a little while. On the hub's own thread.
    fn lead_later(&'static self) {
        if lock(&self.shared).retries {
            return;
        }
        let retrying = Retrying { lot: self };
        let later = Builder::new()
            .name(NAME)
            .hub(self.hub as usize)
            .spawn_later(PAUSE, move || retrying.run());
        match later {
            // Nothing has become of it yet: that is for this very thread.
            Ok(_) => lock(&self.shared).retries = true,
            Err(error) => tracing::error!("parked connections are held up: {error}"),
        }
    }

    /// Waits for the connections, and calls those that are ready, until there are none or another
    /// greenlet leads.
    fn lead(&'static self, leading: Leading) {
        let task = current::get().expect("this is a greenlet");
        lock(&self.shared).leader = Leader::Greenlet(Arc::clone(&task));
        let local = self.local.get();
        loop {
            if !self.serve_round(&task, local) {
                leading.end();
                return;
            }
            if task.is_killed() {
                return;
            }
            let set = {
                let mut shared = lock(&self.shared);
                let Some(set) = shared.set.clone() else {
                    shared.leader = Leader::None;
                    drop(shared);
                    leading.end();
                    return;
                };
                self.waiting.store(true, Ordering::SeqCst);
                set
            };
            let waited = if local.ready.borrow().is_empty() {
                set.socket.wait(Direction::Read, None)
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
    fn take(&self, set: &Set, local: &Local) -> io::Result<()> {
        let mut ready = local.ready.borrow_mut();
        let known = ready.len();
        let rung = set.take(&mut ready)?;
        let mut shared = lock(&self.shared);
        shared.join(&mut ready, known);
        if rung {
            shared.take_called(&mut ready);
        }
        Ok(())
    }

    /// Calls those that are ready, each once: those who come again meanwhile wait for the next
    /// round. Whether the greenlet still leads.
    fn serve_round(&'static self, task: &Arc<Task>, local: &Local) -> bool {
        // Put back together with the next one's turn: one lock for each.
        let mut call = None;
        let round = local.ready.borrow().len();
        for _ in 0..round {
            if task.is_killed() {
                break;
            }
            let Some(ready) = local.ready.borrow_mut().pop_front() else {
                break;
            };
            if let Some(gone) = self.turn(local, &mut call, Some(ready))
                && !self.bury(task, gone)
            {
                return false;
            }
            let Some(called) = &mut call else { continue };
            if !self.call(task, called, true) {
                if let Some(called) = call.take() {
                    self.go_on(task, called);
                }
                if !self.lead_again(task) {
                    return false;
                }
            }
            if !hub::local().may_run_on() {
                if !self.end_turns(task, local, &mut call) {
                    return false;
                }
                switch::pass(true);
            }
        }
        self.end_turns(task, local, &mut call)
    }

    /// Puts back who has been called. Whether the greenlet still leads.
    fn end_turns(&'static self, task: &Arc<Task>, local: &Local, call: &mut Option<Call>) -> bool {
        match self.turn(local, call, None) {
            Some(gone) => self.bury(task, gone),
            None => true,
        }
    }

    /// Puts back who has been called, and takes out who is next. If the place of the first has been
    /// left, that is returned, and the other has to wait.
    #[inline]
    fn turn(&self, local: &Local, call: &mut Option<Call>, next: Option<Ready>) -> Option<Call> {
        let called = call.take();
        if called.is_none() && next.is_none() {
            return None;
        }
        let mut shared = lock(&self.shared);
        if let Some(called) = called {
            match shared.end(called) {
                Ended::Parked => {}
                Ended::Again(ready) => local.ready.borrow_mut().push_back(ready),
                Ended::Gone(gone) => {
                    if let Some(next) = next {
                        local.ready.borrow_mut().push_front(next);
                    }
                    return Some(gone);
                }
            }
        }
        if let Some(next) = next {
            *call = shared.begin(next);
        }
        None
    }

    /// Drops one whose place has been left, which may block as a call may. Whether the greenlet
    /// still leads.
    #[cold]
    fn bury(&'static self, task: &Arc<Task>, gone: Call) -> bool {
        let Call { ready, parked, .. } = gone;
        let (_, leads) = self.run(task, ready.key, true, || drop_caught(parked));
        if leads {
            return true;
        }
        lock(&self.shared).strays.remove(&ready.key);
        self.lead_again(task)
    }

    /// Calls a connection, in the greenlet that leads or in another. Whether it leads still.
    fn call(&self, task: &Arc<Task>, call: &mut Call, leads: bool) -> bool {
        let burst = Burst::new(call.ready.closed);
        let Call { ready, parked, .. } = call;
        let (called, leads) = self.run(task, ready.key, leads, || parked.ready(&burst));
        call.then = called.unwrap_or_else(|payload| {
            // It has lost what it had in hand.
            tracing::error!("a parked connection has panicked and is forgotten");
            drop_caught(payload);
            self.leave(ready.key);
            Then::Wait
        });
        leads
    }

    /// Runs what may block, for a connection; also says whether the greenlet leads still.
    #[inline]
    fn run<R>(
        &self,
        task: &Arc<Task>,
        key: u64,
        mut leads: bool,
        f: impl FnOnce() -> R,
    ) -> (std::thread::Result<R>, bool) {
        let frame = &task.local().frame;
        if leads {
            self.local.get().running.set(key);
            frame.in_burst.set(true);
        }
        let result = catch_unwind(AssertUnwindSafe(f));
        // What was held back leaves: the next connection has its own.
        if let Err(payload) = switch::run_hook(task) {
            drop_caught(payload);
        }
        // A time-out whose guard was leaked must not hit others.
        frame.end_timeouts();
        if leads {
            leads = frame.in_burst.take();
        }
        (result, leads)
    }

    /// Goes on with a connection in a greenlet that has handed over the lead, until it waits.
    fn go_on(&self, task: &Arc<Task>, mut call: Call) {
        let key = call.ready.key;
        loop {
            let next = {
                let mut shared = lock(&self.shared);
                match shared.end(call) {
                    Ended::Again(ready) => Ok(shared.begin(ready)),
                    Ended::Parked => Ok(None),
                    Ended::Gone(call) => Err(call),
                }
            };
            match next {
                Ok(Some(again)) => call = again,
                Ok(None) => break,
                Err(gone) => {
                    drop_caught(gone.parked);
                    break;
                }
            }
            if !hub::local().may_run_on() {
                hub::local().wake_after_poll(task);
                task.local().frame.waits_for.set(WaitsFor::Turn);
                // A kill is for what is called to notice.
                switch::park(None);
            }
            self.call(task, &mut call, false);
        }
        lock(&self.shared).strays.remove(&key);
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
        // The others wait until this one is back, or there is room again.
        tracing::warn!(hub = this_hub(), "parked connections are held up: {error}");
        lot.lead_later();
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
        let _kept = mem::ManuallyDrop::new(self);
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
        if reserved == 0 {
            return;
        }
        if !self.begun {
            // It had no stack. Who wanted it has been told, unless that was on another hub.
            if self.lot.local.is_here() {
                self.lot.lead_later();
            }
        } else if let Err(error) = self.lot.ensure_leader() {
            tracing::error!("parked connections are held up: {error}");
            self.lot.lead_later();
        }
    }
}

/// A second attempt to lead, and if need be another.
struct Retrying {
    lot: &'static Lot,
}

impl Retrying {
    fn run(self) {
        let lot = self.lot;
        {
            let mut shared = lock(&lot.shared);
            shared.retries = false;
            if !matches!(shared.leader, Leader::None) || shared.reserved == 0 {
                return;
            }
            shared.leader = Leader::Starting;
        }
        lot.lead(Leading { lot, begun: true });
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        let refused = {
            let mut shared = lock(&self.lot.shared);
            mem::take(&mut shared.retries) && shared.reserved > 0
        };
        if refused {
            self.lot.lead_later();
        }
    }
}
