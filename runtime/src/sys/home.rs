//! [`Home`]: a value that belongs to one hub and is touched only on that hub's thread.

use std::cell::Cell;
use std::fmt;

/// No hub: the number that an ordinary OS thread has.
pub(crate) const NO_HUB: u32 = u32::MAX;

thread_local! {
    static THIS_HUB: Cell<u32> = const { Cell::new(NO_HUB) };
}

/// The number of the hub whose thread this is, or [`NO_HUB`].
#[inline]
pub(crate) fn this_hub() -> u32 {
    THIS_HUB.get()
}

/// Declares that the calling thread is the thread of `hub`, for ever.
///
/// # Panics
///
/// If the thread is a hub's already: a thread has one hub.
pub(crate) fn become_hub(hub: u32) {
    assert_eq!(THIS_HUB.get(), NO_HUB, "a thread has one hub");
    THIS_HUB.set(hub);
}

/// A value that only the thread of its hub may look at; handles to it may travel.
///
/// The check is made in every build: it is a load and a compare.
#[repr(C)]
pub(crate) struct Home<T> {
    hub: u32,
    value: T,
}

// SAFETY: a shared `Home<T>` gives access to its value only through `get`, which panics off the
// hub's thread, and `become_hub` makes one thread the hub's for ever (the runtime calls it once
// per hub). So two threads never see `&T` at the same time, and `T: Sync` is not needed. `T: Send`
// is, because the last handle may be dropped by any thread.
unsafe impl<T: Send> Sync for Home<T> {}

impl<T> Home<T> {
    pub(crate) const fn new(hub: u32, value: T) -> Home<T> {
        Home { hub, value }
    }

    /// The value.
    ///
    /// # Panics
    ///
    /// On any thread but the hub's: a greenlet has changed its thread, or code of one hub reaches
    /// into another.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        if this_hub() != self.hub {
            wrong_thread(self.hub);
        }
        &self.value
    }

    #[inline]
    pub(crate) fn hub(&self) -> u32 {
        self.hub
    }

    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        this_hub() == self.hub
    }
}

impl<T> fmt::Debug for Home<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

#[cold]
#[inline(never)]
fn wrong_thread(hub: u32) -> ! {
    panic!(
        "state of hub {hub} was touched from hub {}: a greenlet has left its thread",
        this_hub() as i32
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_refuses_every_other_thread() {
        let home = Home::new(7, Cell::new(1));
        assert!(!home.is_here());
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| home.get().get()));
        assert!(refused.is_err());
    }
}
