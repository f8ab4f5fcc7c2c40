//! [`Reception`]: who waits for the peer, and whether there is anything left to wait for.

use super::atomic::{AtomicBool, AtomicU8, Ordering};

/// Receives messages.
pub(crate) const RECEIVER: u8 = 1;
/// Waits for the peer's close frame.
pub(crate) const CLOSER: u8 = 2;
const NOBODY: u8 = 0;
/// Somebody waits until whoever waits for the peer is done: added to the others.
const WAITED: u8 = 4;
/// The parked connection is to be called when whoever waits for the peer is done: likewise.
const PARKED: u8 = 8;

/// The place of the one who waits for the peer, and the end of the connection.
///
/// Who is about to wait takes the place and then looks whether it is the end. Who ends the
/// connection says so and then looks whether somebody has the place, who has to be woken. So one of
/// them sees the other, without a lock: each is a store followed by a load of the other, in the one
/// order that all such have.
pub(crate) struct Reception {
    holder: AtomicU8,
    finished: AtomicBool,
}

/// What whoever waited for the peer has to do when it leaves its place.
pub(crate) struct Left {
    pub(crate) waited: bool,
    pub(crate) parked: bool,
}

impl Reception {
    pub(crate) fn new() -> Reception {
        Reception {
            holder: AtomicU8::new(NOBODY),
            finished: AtomicBool::new(false),
        }
    }

    /// Takes the place.
    ///
    /// # Errors
    ///
    /// Who has it.
    pub(crate) fn take(&self, who: u8) -> Result<(), u8> {
        match self
            .holder
            .compare_exchange(NOBODY, who, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => Ok(()),
            Err(holder) => Err(holder & !(WAITED | PARKED)),
        }
    }

    /// Takes the place for the parked connection, or has it called by who has it. Whether it has
    /// been taken.
    pub(crate) fn take_for_parked(&self) -> bool {
        let taken = self
            .holder
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |holder| match holder {
                NOBODY => Some(RECEIVER),
                holder => Some(holder | PARKED),
            });
        taken == Ok(NOBODY)
    }

    pub(crate) fn leave(&self) -> Left {
        let holder = self.holder.swap(NOBODY, Ordering::SeqCst);
        Left {
            waited: holder & WAITED != 0,
            parked: holder & PARKED != 0,
        }
    }

    /// Asks to be told when the place is left; false, and nothing, if nobody has it.
    pub(crate) fn await_leave(&self) -> bool {
        self.holder
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |holder| {
                (holder != NOBODY).then_some(holder | WAITED)
            })
            .is_ok()
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.holder.load(Ordering::SeqCst) != NOBODY
    }

    /// Nothing more is to come.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }
}
