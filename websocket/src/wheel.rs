//! When to look after which connection: one timer wheel per hub.
//!
//! Pings, the idle time-out and the deadline of a closing handshake all mean "look at this
//! connection at that time". A timer for each would cost as much as the connections themselves; in
//! a wheel an entry is a pointer in a slot, and one greenlet per hub goes round, as long as there
//! is something in it.

use std::cell::Cell;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use greenwood_runtime::{Builder, Event, Hub};
use parking_lot::Mutex;

use crate::connection::Connection;

/// Times are rounded up to multiples of this.
const TICK: Duration = Duration::from_millis(10);

/// One turn of the wheel is 5 s. What is due later stays in its slot for more turns.
const SLOTS: u64 = 512;

struct Wheel {
    state: Mutex<State>,
    /// Set when there is something earlier to do than the greenlet knows of.
    changed: Event,
}

struct State {
    slots: Vec<Vec<Entry>>,
    entries: usize,
    /// All slots up to this tick have been looked through.
    done: u64,
    /// The greenlet runs, and wakes at this tick.
    wakes: Option<u64>,
}

struct Entry {
    due: u64,
    connection: Weak<Connection>,
}

/// Has `connection` looked after at `at`, on its hub. False if there is nobody to do it: no greenlet
/// can be started.
pub(crate) fn add(hub: usize, at: Instant, connection: &Arc<Connection>) -> bool {
    let wheel = &wheels()[hub];
    let start = {
        let mut state = wheel.state.lock();
        // A tick that is over would not be looked at for a whole turn.
        let due = tick(at).max(state.done + 1);
        state.slots[(due % SLOTS) as usize].push(Entry {
            due,
            connection: Arc::downgrade(connection),
        });
        state.entries += 1;
        match state.wakes {
            Some(wakes) if wakes <= due => return true,
            Some(_) => false,
            None => {
                state.wakes = Some(due);
                true
            }
        }
    };
    if !start {
        wheel.changed.set();
        return true;
    }
    let turning = Turning {
        wheel,
        ended: Cell::new(false),
    };
    let greenlet = Builder::new()
        .name("websocket timers")
        .hub(hub)
        .spawn(move || turning.turn());
    match greenlet {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!("nobody looks after websockets' time limits: {error}");
            false
        }
    }
}

/// Forgets `connection`.
pub(crate) fn remove(hub: usize, at: Instant, connection: &Connection) {
    let wheel = &wheels()[hub];
    let empty = {
        let mut state = wheel.state.lock();
        // Nearly always there; an entry that was late is in a later slot, and stays.
        let slot = &mut state.slots[(tick(at) % SLOTS) as usize];
        let place = slot
            .iter()
            .position(|entry| std::ptr::eq(entry.connection.as_ptr(), connection));
        let Some(place) = place else { return };
        slot.swap_remove(place);
        if slot.is_empty() {
            *slot = Vec::new();
        }
        state.entries -= 1;
        state.entries == 0
    };
    if empty {
        wheel.changed.set();
    }
}

fn wheels() -> &'static [Wheel] {
    static WHEELS: OnceLock<Vec<Wheel>> = OnceLock::new();
    WHEELS.get_or_init(|| {
        let wheel = |_| Wheel {
            state: Mutex::new(State {
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                entries: 0,
                done: tick(Instant::now()),
                wakes: None,
            }),
            changed: Event::new(),
        };
        (0..Hub::count()).map(wheel).collect()
    })
}

/// The moment that is `time` after another; one that no connection lives to see, where the clock
/// can't count so far.
pub(crate) fn after(from: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    from + time.min(CENTURY)
}

/// The tick at which `at` is over.
fn tick(at: Instant) -> u64 {
    let since = at.saturating_duration_since(epoch());
    (since.as_nanos().div_ceil(TICK.as_nanos())) as u64
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

impl State {
    /// The next tick with something to do.
    fn next(&self) -> u64 {
        let turn = self.done + 1..=self.done + SLOTS;
        turn.clone()
            .find(|&tick| {
                let slot = &self.slots[(tick % SLOTS) as usize];
                slot.iter().any(|entry| entry.due <= tick)
            })
            .unwrap_or(*turn.end())
    }

    /// Takes out what is due at `now`.
    fn take_due(&mut self, now: u64) -> Vec<Entry> {
        let mut due = Vec::new();
        let last = now.min(self.done + SLOTS);
        for tick in self.done + 1..=last {
            let slot = &mut self.slots[(tick % SLOTS) as usize];
            due.extend(slot.extract_if(.., |entry| entry.due <= now));
            if slot.is_empty() {
                *slot = Vec::new();
            }
        }
        self.entries -= due.len();
        self.done = self.done.max(now);
        due
    }
}

/// The greenlet of a wheel.
struct Turning {
    wheel: &'static Wheel,
    ended: Cell<bool>,
}

impl Turning {
    fn turn(&self) {
        loop {
            let now = Instant::now();
            let (due, wakes) = {
                let mut state = self.wheel.state.lock();
                // The tick that `now` is in is not over.
                let due = state.take_due(tick(now).saturating_sub(1));
                if due.is_empty() && state.entries == 0 {
                    // Under the lock: the next entry starts another.
                    state.wakes = None;
                    self.ended.set(true);
                    return;
                }
                let wakes = state.next();
                state.wakes = Some(wakes);
                (due, wakes)
            };
            for entry in due {
                if let Some(connection) = entry.connection.upgrade() {
                    connection.look_after();
                }
            }
            // What was due may have been the last, and then there is nothing to wait for.
            if self.wheel.state.lock().entries == 0 {
                continue;
            }
            let at = epoch() + Duration::from_millis(wakes * TICK.as_millis() as u64);
            let rest = at.saturating_duration_since(Instant::now());
            if self.wheel.changed.wait_timeout(rest) {
                self.wheel.changed.clear();
            }
        }
    }
}

impl Drop for Turning {
    /// Killed, or never started: the next entry starts another.
    fn drop(&mut self) {
        if !self.ended.get() {
            self.wheel.state.lock().wakes = None;
        }
    }
}
