//! How many greenlets may live: known before the system's limit is hit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::SpawnError;
use crate::sys::{limits as system, now_ns};

/// Mappings kept free for everybody else: the allocator, threads, files.
const RESERVE: usize = 1_024;

/// Mappings that one stack takes: itself and the guard page.
const PER_STACK: usize = 2;

/// Greenlets that live; each has a stack, or soon will.
static ALIVE: AtomicUsize = AtomicUsize::new(0);
/// Stacks that are mapped: those of greenlets, and those that wait for their next one.
static STACKS: AtomicUsize = AtomicUsize::new(0);
/// How many stacks there may be.
static ALLOWED: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How many there may be before the mappings are counted again.
static NEXT_COUNT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// From when on a refusal has the mappings counted anew; never, while somebody counts.
static NEXT_DOUBT: AtomicU64 = AtomicU64::new(0);

/// How long a refusal holds before the mappings are counted anew, at least: counting takes
/// milliseconds, and on a busy machine far more.
const DOUBT_NS: u64 = 100_000_000;
/// How many times as long as counting took it holds, up to [`MOST_DOUBT_NS`]: who is refused again
/// and again spends little of a hub's time on it.
const DOUBT_TIMES: u64 = 5;
const MOST_DOUBT_NS: u64 = 2_000_000_000;

pub(crate) fn start() {
    recount();
}

pub(crate) fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// How many greenlets may be alive at once, as far as is known now.
pub(crate) fn allowed() -> usize {
    ALLOWED.load(Ordering::Relaxed)
}

/// Makes room for one greenlet, which ends with [`release`].
pub(crate) fn reserve() -> Result<(), SpawnError> {
    let alive = ALIVE.fetch_add(1, Ordering::Relaxed) + 1;
    let enough = STACKS.load(Ordering::Relaxed) >= alive;
    if enough || is_allowed(alive) {
        return Ok(());
    }
    release();
    Err(too_many(alive - 1))
}

/// Counts one that needs no stack of its own, or runs nothing on it.
pub(crate) fn reserve_anyway() {
    ALIVE.fetch_add(1, Ordering::Relaxed);
}

/// Whether one more stack may be mapped, for a greenlet of a hub that has none left over.
pub(crate) fn check_stack() -> Result<(), SpawnError> {
    if is_allowed(STACKS.load(Ordering::Relaxed) + 1) {
        return Ok(());
    }
    Err(too_many(alive().saturating_sub(1)))
}

fn is_allowed(stacks: usize) -> bool {
    if stacks > NEXT_COUNT.load(Ordering::Relaxed) {
        recount();
    }
    if stacks <= ALLOWED.load(Ordering::Relaxed) {
        return true;
    }
    // Mappings may have been given back since, or the setting raised.
    let (begun, next) = (now_ns(), NEXT_DOUBT.load(Ordering::Relaxed));
    let mine = begun >= next
        && NEXT_DOUBT
            .compare_exchange(next, u64::MAX, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    if mine {
        recount();
        let ended = now_ns();
        let pause = (DOUBT_TIMES * (ended - begun)).clamp(DOUBT_NS, MOST_DOUBT_NS);
        NEXT_DOUBT.store(ended + pause, Ordering::Relaxed);
    }
    stacks <= ALLOWED.load(Ordering::Relaxed)
}

fn too_many(alive: usize) -> SpawnError {
    SpawnError::TooMany {
        alive,
        max_map_count: system::max_map_count(),
    }
}

pub(crate) fn release() {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
}

/// Counts a stack for as long as it is mapped.
pub(crate) struct Stack(());

impl Stack {
    pub(crate) fn new() -> Stack {
        STACKS.fetch_add(1, Ordering::Relaxed);
        Stack(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        STACKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the process's mappings. Others use them too, so the estimate is made anew each time that
/// half of what was left has been used: a few times on the way to the limit.
pub(crate) fn recount() {
    // Many a greenlet that lives has no stack yet: what is mapped is what counts.
    let stacks = STACKS.load(Ordering::Relaxed);
    let others = system::mappings().saturating_sub(stacks * PER_STACK);
    let allowed = system::max_map_count().saturating_sub(others + RESERVE) / PER_STACK;
    let used = ALIVE.load(Ordering::Relaxed).max(stacks);
    let more = allowed.saturating_sub(used);
    ALLOWED.store(allowed, Ordering::Relaxed);
    NEXT_COUNT.store(used + (more / 2).max(64), Ordering::Relaxed);
}
