//! The bounds of a coroutine's stack, its sentinel, and giving untouched pages back.
//!
//! `generator` (under `may`) maps `size` bytes above one guard page, writes eight sentinel words at
//! the low end, and ends the process with status 1 when the lowest of them is gone as the coroutine
//! ends. A frame may use the whole stack legitimately, and [`trim`](StackBounds::trim) drops the
//! lowest page, so the words are put back before a coroutine ends.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The word that `generator` 0.8.12 fills the low end of a stack with.
const SENTINEL: usize = 0xDEAD_BEEF;
/// How many of them.
const SENTINEL_WORDS: usize = 8;

/// The page size; Linux on x86_64 and most others. Checked against the system at start.
pub(crate) const PAGE: usize = 4096;

/// What [`StackBounds::trim`] leaves below its caller's frame.
const MARGIN: usize = 512;

/// How far below the frame of who [parks](crate::switch) the stack is in use while it does: may's
/// frames, whose sizes are the build's. Learned when the hubs start; 0: not yet.
static MARGIN_OF_PARK: AtomicUsize = AtomicUsize::new(0);

/// What is added to what was learned: our own frames in between, and what may differ between two
/// ways to park.
const MORE_MARGIN: usize = if cfg!(debug_assertions) { 2_048 } else { 1_024 };

/// An address in the caller's frame, or just below.
#[inline]
pub(crate) fn here() -> usize {
    let marker = 0u8;
    std::ptr::from_ref(std::hint::black_box(&marker)).addr()
}

/// Calls `f` somewhat deeper in the stack, by the colour: eight of them, a cache line apart.
///
/// Stacks begin at the same place in a page, so the lines in use of all of them would fall into the
/// same few sets of the processor's caches, and a thousand greenlets that take turns would drive each
/// other's out.
pub(crate) fn coloured(colour: u8, f: impl FnOnce()) {
    #[inline(never)]
    fn below<const SIZE: usize>(f: impl FnOnce()) {
        let room = [const { MaybeUninit::<u8>::uninit() }; SIZE];
        std::hint::black_box(&room);
        f();
        // Not a call in the end, which would leave the frame first.
        std::hint::black_box(&room);
    }
    match colour % 8 {
        0 => f(),
        1 => below::<64>(f),
        2 => below::<128>(f),
        3 => below::<192>(f),
        4 => below::<256>(f),
        5 => below::<320>(f),
        6 => below::<384>(f),
        _ => below::<448>(f),
    }
}

/// Learns how far below `marker` a stack is in use on which somebody has parked, and has done
/// nothing else before. The stack has just been made, so what was never in use is zero.
///
/// # Safety
///
/// `marker` is an address in the stack of a suspended coroutine, and the page below its own is part
/// of that stack, too.
pub(crate) unsafe fn learn_margin(marker: usize) {
    let marker = marker & !(size_of::<usize>() - 1);
    let low = (marker & !(PAGE - 1)) - PAGE;
    let is_used = |&address: &usize| {
        let word = std::ptr::with_exposed_provenance::<usize>(address);
        // SAFETY: mapped memory, as the caller says, which nobody writes to meanwhile.
        unsafe { word.read_volatile() != 0 }
    };
    let lowest = (low..marker).step_by(size_of::<usize>()).find(is_used);
    let reach = marker - lowest.unwrap_or(marker);
    MARGIN_OF_PARK.fetch_max(reach + MORE_MARGIN, Ordering::Relaxed);
}

/// Where a stack lies: `low..high` is usable, the page below `low` is the guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StackBounds {
    pub(crate) low: usize,
    pub(crate) high: usize,
}

impl StackBounds {
    /// The bounds of the stack of the coroutine that calls this, whose size is `size` bytes
    /// (a multiple of the page size).
    ///
    /// To be called near the coroutine's entry: the address of a local is then in the topmost page,
    /// because `may` puts only its own small frame (about 1 KiB) above.
    #[inline(never)]
    pub(crate) fn of_this_coroutine(size: usize) -> StackBounds {
        let marker = 0u8;
        let here = std::ptr::from_ref(std::hint::black_box(&marker)).addr();
        let high = (here | (PAGE - 1)) + 1;
        StackBounds {
            low: high - size,
            high,
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.high - self.low
    }

    /// Whether a fault at `address` is this stack running over: the guard page, or just below it
    /// (frames are probed page by page, but C code is not).
    pub(crate) fn is_overflow(&self, address: usize) -> bool {
        self.low != 0 && address < self.low && address >= self.low - 4 * PAGE
    }

    /// Gives back the pages of the stack of a suspended coroutine, which has noted at its park that
    /// so many bytes were in use [there](here).
    pub(crate) fn trim_below(&self, depth: usize) {
        let margin = MARGIN_OF_PARK.load(Ordering::Relaxed);
        let end = self.high.saturating_sub(depth + margin) & !(PAGE - 1);
        if margin == 0 || end <= self.low {
            return;
        }
        // SAFETY: all frames lie above `end`: the stack is suspended where it was noted, and what is
        // in use below that is less than the margin. The sentinel is restored before the end.
        unsafe { self.give_back(end) };
    }

    /// Gives back the pages up to `end`, which come back as zeroes.
    ///
    /// # Safety
    ///
    /// The bounds are those of a mapped stack, `end` is in it or its top, and what lies below that is
    /// dead, save the sentinel.
    // Always inlined: a frame of its own would be below that of `trim`, whose margin is small.
    #[inline(always)]
    unsafe fn give_back(&self, end: usize) {
        // SAFETY: low..end is part of the private anonymous mapping of a stack, whose contents are
        // dead, as the caller says.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(self.low),
                end - self.low,
                libc::MADV_DONTNEED,
            )
        };
    }

    /// Puts the sentinel words back.
    ///
    /// To be called on the stack itself, whose coroutine is about to end.
    pub(crate) fn restore_sentinel(&self) {
        let low = std::ptr::with_exposed_provenance_mut::<usize>(self.low);
        for i in 0..SENTINEL_WORDS {
            // SAFETY: `low` is the lowest address of the mapped, writable stack that this code
            // runs on, whose topmost frames are thousands of words above.
            unsafe { low.add(i).write(SENTINEL) };
        }
    }

    /// Gives the lowest page back, whose words are put [back](StackBounds::restore_sentinel) in the
    /// end. A stack that has just been made then takes one page instead of two.
    ///
    /// To be called on the stack itself, near its top.
    pub(crate) fn drop_lowest_page(&self) {
        if self.size() <= 2 * PAGE {
            return;
        }
        // SAFETY: the lowest page of this very stack, whose live frames are in the topmost; there
        // is nothing in it but the sentinel.
        unsafe { self.give_back(self.low + PAGE) };
    }

    /// Gives the pages below the frame of the caller back to the system: a parked greenlet then
    /// keeps only what it uses. They come back as zeroes when the stack grows into them.
    #[inline(never)]
    pub(crate) fn trim(&self) {
        let marker = 0u8;
        let here = std::ptr::from_ref(std::hint::black_box(&marker)).addr();
        if here <= self.low || here >= self.high {
            return;
        }
        // The frame of this function and the call to madvise stay well inside the margin; signal
        // handlers that matter run on the alternate stack.
        let end = here.saturating_sub(MARGIN) & !(PAGE - 1);
        if end <= self.low {
            return;
        }
        // SAFETY: of this very stack, below every live frame; the sentinel is restored before the
        // end.
        unsafe { self.give_back(end) };
    }
}
