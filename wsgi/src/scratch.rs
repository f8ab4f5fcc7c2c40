//! Buffers that the connections of a thread share.
//!
//! A connection takes one only while it has something to put into it, so an idle connection owns
//! none. Taking is a real taking: nothing is borrowed while a greenlet waits, and a second one that
//! takes meanwhile gets another buffer. Greenlets never change their thread, so a buffer comes back
//! to where it was taken.

use std::cell::RefCell;

/// Buffers kept per thread.
const KEPT: usize = 8;

/// A buffer that has grown past this is not kept.
const MAX_CAPACITY: usize = 64 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, most likely with some capacity.
pub(crate) fn take() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back.
pub(crate) fn put_back(mut buffer: Vec<u8>) {
    if (1..=MAX_CAPACITY).contains(&buffer.capacity()) {
        buffer.clear();
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < KEPT {
                buffers.push(buffer);
            }
        });
    }
}
