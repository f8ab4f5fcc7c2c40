//! [`HubStats`]: what the hubs count.
//!
//! Each number is written by its hub's thread alone, by a plain load and store, and may be read by
//! any thread at any time: also while the hub is blocked, which is when one wants to know.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::MAX_HUBS;
use crate::sys::coarse_now_ns;

/// The counters of one hub, in cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Counters {
    /// The greenlet that runs; 0: none.
    running: AtomicU64,
    switches: AtomicU64,
    /// When the hub looked at the clock last, in [ticks](Ticks).
    clock: AtomicTicks,
    /// The monitor wants to know who runs.
    watched: AtomicBool,
    /// A pass over the stacks of those who wait has been asked for.
    trims_later: AtomicBool,
    polls: AtomicU64,
    accepted: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    ready: AtomicU64,
    timers: AtomicU64,
    latency: AtomicU64,
    max_latency: AtomicU64,
}

static COUNTERS: [Counters; MAX_HUBS] = [const { Counters::new() }; MAX_HUBS];

/// A moment, in units of 16.8 ms, so that each greenlet can remember one in four bytes. They come
/// round after two years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ticks(u32);

impl Ticks {
    const SHIFT: u32 = 24;

    /// One tick.
    pub(crate) const UNIT: Duration = Duration::from_nanos(1 << Ticks::SHIFT);

    fn at(ns: u64) -> Ticks {
        Ticks((ns >> Ticks::SHIFT) as u32)
    }

    /// How long ago it was, `now_ns` being the coarse clock's present time.
    pub(crate) fn ago(self, now_ns: u64) -> Duration {
        let ticks = Ticks::at(now_ns).0.wrapping_sub(self.0);
        // The present may be in an earlier tick than the last look of another thread.
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        Duration::from_nanos(u64::from(ticks) << Ticks::SHIFT)
    }
}

/// [`Ticks`] that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct AtomicTicks(AtomicU32);

impl AtomicTicks {
    #[inline]
    pub(crate) fn set(&self, ticks: Ticks) {
        self.0.store(ticks.0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> Ticks {
        Ticks(self.0.load(Ordering::Relaxed))
    }
}

/// The counters of this hub.
#[inline]
pub(crate) fn of(hub: u32) -> &'static Counters {
    &COUNTERS[hub as usize % MAX_HUBS]
}

/// Adds one: by the hub's thread alone.
#[inline]
fn bump(counter: &AtomicU64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

impl Counters {
    const fn new() -> Counters {
        Counters {
            running: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            clock: AtomicTicks(AtomicU32::new(0)),
            watched: AtomicBool::new(false),
            trims_later: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            timers: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            max_latency: AtomicU64::new(0),
        }
    }

    /// A greenlet begins, or comes back.
    #[inline]
    pub(crate) fn switched_to(&self, greenlet: u64) {
        self.running.store(greenlet, Ordering::Relaxed);
        bump(&self.switches);
    }

    /// How many times greenlets have begun or come back.
    pub(crate) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    /// The greenlet that ran is put aside, or ends.
    #[inline]
    pub(crate) fn switched_away(&self) -> Ticks {
        self.running.store(0, Ordering::Relaxed);
        self.clock.get()
    }

    /// Whether the monitor wants to know who runs.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Whether a pass over the stacks of those who wait has been asked for.
    #[inline]
    pub(crate) fn is_to_trim(&self) -> bool {
        self.trims_later.load(Ordering::Relaxed)
    }

    pub(crate) fn trims_later(&self, later: bool) {
        self.trims_later.store(later, Ordering::Relaxed);
    }

    pub(crate) fn watch(&self, watch: bool) {
        self.watched.store(watch, Ordering::Relaxed);
    }

    pub(crate) fn running(&self) -> Option<u64> {
        Some(self.running.load(Ordering::Relaxed)).filter(|&id| id != 0)
    }

    /// The hub has looked at its descriptors.
    #[inline]
    pub(crate) fn polled(&self) {
        bump(&self.polls);
        self.looked_at_the_clock(coarse_now_ns());
    }

    #[inline]
    pub(crate) fn looked_at_the_clock(&self, now_ns: u64) {
        self.clock.set(Ticks::at(now_ns));
    }

    /// A greenlet waits for its first turn.
    #[inline]
    pub(crate) fn accepted(&self) {
        bump(&self.accepted);
    }

    /// One that was accepted will not have its turn.
    pub(crate) fn refused(&self) {
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.accepted
            .store(accepted.wrapping_sub(1), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn begun(&self) {
        bump(&self.begun);
    }

    #[inline]
    pub(crate) fn ended(&self) {
        bump(&self.ended);
    }

    /// So many have been woken and wait for their turn.
    #[inline]
    pub(crate) fn ready(&self, count: usize) {
        self.ready.store(count as u64, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn timers(&self, count: usize) {
        self.timers.store(count as u64, Ordering::Relaxed);
    }

    /// Timers have fired, the first of them so much after its time.
    pub(crate) fn late(&self, ns: u64) {
        self.latency.store(ns, Ordering::Relaxed);
        if ns > self.max_latency.load(Ordering::Relaxed) {
            self.max_latency.store(ns, Ordering::Relaxed);
        }
    }
}

/// What a hub has counted. From [`Hub::stats`](crate::Hub::stats).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubStats {
    /// The hub.
    pub hub: usize,
    /// Greenlets that have begun and not ended.
    pub greenlets: usize,
    /// Greenlets that wait for their first turn.
    pub starting: usize,
    /// Greenlets that another greenlet, a deadline or a message has woken, and that wait for their
    /// turn. Those whose descriptor has become ready are not among them: nobody counts these before
    /// the hub has looked.
    pub ready: usize,
    /// Greenlets that have begun, in all.
    pub spawned: u64,
    /// How many times a greenlet was switched to.
    pub switches: u64,
    /// How many times the hub has looked at its descriptors because of what somebody waited for.
    pub polls: u64,
    /// Deadlines and greenlets that wait for their time.
    pub timers: usize,
    /// Messages from other hubs and threads that wait to be looked at.
    pub inbox: usize,
    /// By how much the timer that fired last was late: how long the hub takes to get round to
    /// things. Zero before the first.
    pub latency: Duration,
    /// The greatest of them since the start.
    pub max_latency: Duration,
    /// The greenlet that runs at this moment.
    pub running: Option<u64>,
}

impl HubStats {
    pub(crate) fn of(hub: usize, inbox: usize) -> HubStats {
        let counters = of(hub as u32);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // In this order, so that no difference is less than nothing.
        let ended = read(&counters.ended);
        let begun = read(&counters.begun);
        HubStats {
            hub,
            greenlets: begun.saturating_sub(ended) as usize,
            starting: read(&counters.accepted).saturating_sub(begun) as usize,
            ready: read(&counters.ready) as usize,
            spawned: begun,
            switches: read(&counters.switches),
            polls: read(&counters.polls),
            timers: read(&counters.timers) as usize,
            inbox,
            latency: Duration::from_nanos(read(&counters.latency)),
            max_latency: Duration::from_nanos(read(&counters.max_latency)),
            running: counters.running(),
        }
    }

    /// Tells `tracing` of it, at the level of information, with the target
    /// `greenwood_runtime::stats`.
    pub fn trace(&self) {
        tracing::info!(
            hub = self.hub,
            greenlets = self.greenlets,
            starting = self.starting,
            ready = self.ready,
            spawned = self.spawned,
            switches = self.switches,
            polls = self.polls,
            timers = self.timers,
            inbox = self.inbox,
            latency_us = self.latency.as_micros() as u64,
            max_latency_us = self.max_latency.as_micros() as u64,
            "hub"
        );
    }
}

impl fmt::Display for HubStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hub {}: {} greenlets, {} starting, {} ready, {} spawned, {} switches, {} polls, {} timers, \
             {} in the inbox, latency {:?} (at most {:?})",
            self.hub,
            self.greenlets,
            self.starting,
            self.ready,
            self.spawned,
            self.switches,
            self.polls,
            self.timers,
            self.inbox,
            self.latency,
            self.max_latency
        )?;
        match self.running {
            Some(id) => write!(f, ", runs greenlet {id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_count_across_their_end() {
        let tick = 1u64 << Ticks::SHIFT;
        let before = Ticks::at(tick * u64::from(u32::MAX));
        assert_eq!(
            before.ago(tick * (u64::from(u32::MAX) + 3)),
            Duration::from_nanos(3 * tick)
        );
        assert_eq!(before.ago(tick * u64::from(u32::MAX - 1)), Duration::ZERO);
    }
}
