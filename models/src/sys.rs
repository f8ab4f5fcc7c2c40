//! The clock stands still: a deadline is past, or never comes.

/// A deadline that is past.
pub(crate) const PAST: u64 = 1;

pub(crate) fn now_ns() -> u64 {
    PAST + 1
}

pub(crate) mod coroutine {
    /// Of coroutines that are no greenlets, which are not here.
    #[derive(Debug)]
    pub(crate) enum ForeignParker {}
}
