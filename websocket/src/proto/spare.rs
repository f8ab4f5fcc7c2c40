//! The memory of the last message, for the next one.
//!
//! Who answers each message with one of the same size allocates and frees the same few bytes over
//! and over. That is little, but at a million messages a second it is an eighth of the work.

use std::cell::Cell;

/// Longer ones are left to the allocator: there the copying is what takes time.
const LARGEST: usize = 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty vector with room for `len` bytes, and not for many more.
#[inline(always)]
pub(crate) fn take(len: usize) -> Vec<u8> {
    if len <= LARGEST {
        let spare = SPARE.try_with(Cell::take).unwrap_or_default();
        if spare.capacity() >= len && spare.capacity() / 2 <= len {
            return spare;
        }
    }
    Vec::with_capacity(len)
}

/// Keeps the memory of a vector that is not needed any more.
#[cfg(any(feature = "io", test))]
#[inline]
pub(crate) fn give(mut vector: Vec<u8>) {
    if (1..=LARGEST).contains(&vector.capacity()) {
        vector.clear();
        // As the thread ends it is simply freed.
        SPARE.try_with(|spare| spare.set(vector)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_fits() {
        let mut first = Vec::with_capacity(64);
        first.extend_from_slice(&[1; 64]);
        let place = first.as_ptr();
        give(first);
        let second = take(60);
        assert!(second.is_empty() && second.capacity() == 64);
        assert_eq!(second.as_ptr(), place);
        // Too large or too small for what comes next.
        give(Vec::with_capacity(1_000));
        assert!(take(10).capacity() < 1_000);
        give(second);
        assert!(take(65).capacity() >= 65);
        give(Vec::with_capacity(LARGEST + 1));
        assert_eq!(SPARE.take().capacity(), 0);
    }
}
