//! Giving back the stacks of greenlets that wait for long.
//!
//! What a greenlet has once used of its stack stays resident, although most of it is needed for a
//! moment only. Nobody knows at a switch whether the wait will be long, and giving pages back costs
//! a system call: so the hub looks, from time to time and only if there has been a switch, who has
//! been waiting for a while, and gives back what lies below their frames. Who is woken again and
//! again and needs the pages again is left alone for twice as long each time.

use std::cell::Cell;
use std::time::Duration;

use super::HubLocal;
use crate::stats::Ticks;
use crate::sys::{coarse_now_ns, now_ns};
use crate::task::Task;

/// How long a greenlet waits before its stack is given back for the first time.
const FIRST_NS: u64 = 250_000_000;

/// How many times that is doubled at most: to 64 s.
const MOST_DOUBLINGS: u8 = 8;

/// How long the hub trims without a break, and how long the break is.
const SLICE_NS: u64 = 200_000;
const BREAK_NS: u64 = 500_000;

/// How many stacks are trimmed, and how many greenlets looked at, from one look at the clock to the
/// next.
const TRIMS_PER_LOOK: usize = 16;
const TASKS_PER_LOOK: usize = 4_096;

/// How far the hub has got.
#[derive(Default)]
pub(super) struct Trim {
    /// The place in the roster where it goes on.
    place: Cell<usize>,
    /// When the first of those is due that have been looked at in this pass.
    next: Cell<Option<u64>>,
}

impl HubLocal {
    /// Says that a greenlet has been put aside, and that nobody is going to look at it yet.
    #[cold]
    #[inline(never)]
    pub(crate) fn trim_later(&self) {
        self.counters.trims_later(true);
        self.timers.trim_at(coarse_now_ns() + FIRST_NS);
    }

    /// Trims the stacks of those who have waited long enough, or some of them, and says when to go
    /// on.
    pub(super) fn trim_stacks(&self) {
        let now = coarse_now_ns();
        let begun = now_ns();
        let (mut trims, mut looks) = (0, 0);
        if self.trim.place.get() == 0 {
            // From now on whoever is put aside asks for another pass.
            self.counters.trims_later(false);
            self.trim.next.set(None);
        }
        let left_off = self.roster.visit(self.trim.place.get(), |task| {
            looks += 1;
            match trim_if_due(task, now) {
                Looked::Trimmed => trims += 1,
                Looked::Due(at) => {
                    let next = self.trim.next.get().map_or(at, |next| next.min(at));
                    self.trim.next.set(Some(next));
                }
                Looked::Nothing => {}
            }
            if trims < TRIMS_PER_LOOK && looks < TASKS_PER_LOOK {
                return true;
            }
            (trims, looks) = (0, 0);
            now_ns() - begun < SLICE_NS
        });
        self.trim.place.set(left_off.unwrap_or(0));
        if left_off.is_some() {
            self.timers.trim_at(now_ns() + BREAK_NS);
            return;
        }
        if let Some(next) = self.trim.next.get() {
            self.timers.trim_at(next.max(now + FIRST_NS));
        }
        if self.counters.is_to_trim() {
            // Of those put aside during the pass some have not been looked at.
            self.timers.trim_at(now + FIRST_NS);
        }
    }
}

enum Looked {
    Trimmed,
    /// It waits, and is to be trimmed then.
    Due(u64),
    Nothing,
}

fn trim_if_due(task: &Task, now: u64) -> Looked {
    if !task.can_be_trimmed() {
        return Looked::Nothing;
    }
    let doublings = task.trims();
    let rest = Duration::from_nanos(FIRST_NS << doublings);
    let waited = task.since.get().ago(now);
    if waited + Ticks::UNIT < rest {
        return Looked::Due(now + (rest - waited).as_nanos() as u64);
    }
    task.trim((doublings + 1).min(MOST_DOUBLINGS));
    Looked::Trimmed
}
