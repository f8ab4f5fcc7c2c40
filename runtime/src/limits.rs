//! How many greenlets may live: known before the system's limit is hit.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::SpawnError;
use crate::sys::limits as system;

/// Mappings kept free for everybody else: the allocator, threads, files.
const RESERVE: usize = 1_024;

/// Mappings that one greenlet takes: its stack and the guard page.
const PER_GREENLET: usize = 2;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static ALLOWED: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How many may be alive before the mappings are counted again.
static NEXT_COUNT: AtomicUsize = AtomicUsize::new(usize::MAX);

pub(crate) fn start() {
    recount(0);
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
    if alive > NEXT_COUNT.load(Ordering::Relaxed) {
        recount(alive);
    }
    if alive > ALLOWED.load(Ordering::Relaxed) {
        release();
        return Err(SpawnError::TooMany {
            alive: alive - 1,
            max_map_count: system::max_map_count(),
        });
    }
    Ok(())
}

pub(crate) fn release() {
    ALIVE.fetch_sub(1, Ordering::Relaxed);
}

/// Counts the process's mappings. Others use them too, so the estimate is made anew each time that half of what was
/// left has been used: a few times on the way to the limit.
fn recount(alive: usize) {
    let free = system::max_map_count().saturating_sub(system::mappings() + RESERVE);
    let more = free / PER_GREENLET;
    ALLOWED.store(alive + more, Ordering::Relaxed);
    NEXT_COUNT.store(alive + (more / 2).max(64), Ordering::Relaxed);
}
