//! Buffers that the greenlets of a hub share.
//!
//! A greenlet never changes its thread, and code that holds one of these never switches: so one per
//! thread is enough, and no connection owns any.

use std::cell::RefCell;

/// How much is read at a time.
const READ: usize = 128 * 1024;

/// Spare buffers are kept up to this size, and so many of them.
const LARGEST_SPARE: usize = 128 * 1024;
const SPARES: usize = 4;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with the thread's read buffer. `f` must not block.
pub(crate) fn with_read_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    READ_BUFFER.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        if buffer.is_empty() {
            buffer.resize(READ, 0);
        }
        f(&mut buffer)
    })
}

/// Calls `f` with the thread's write buffer, which is empty. `f` must not block.
pub(crate) fn with_write_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    WRITE_BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        f(buffer)
    })
}

/// An empty buffer, to be given back by [`give`].
pub(crate) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer for the next [`take`] on this thread.
pub(crate) fn give(mut buffer: Vec<u8>) {
    if (1..=LARGEST_SPARE).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                buffer.clear();
                spare.push(buffer);
            }
        });
    }
}
