//! The thread's buffers: a connection has one only while there is something in it.

use std::cell::RefCell;

/// How many lie ready per thread: one for what comes in, one for what goes out, one to gather, and
/// one to spare.
const KEPT: usize = 4;

/// A larger one is freed.
const MAX_SIZE: usize = 128 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> Vec<u8> {
    BUFFERS
        .try_with(|buffers| buffers.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Gives a buffer to who needs one next.
pub(super) fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > MAX_SIZE {
        return;
    }
    buffer.clear();
    // Without the thread-local, at the thread's end, it is freed.
    BUFFERS
        .try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.len() < KEPT {
                buffers.push(buffer);
            }
        })
        .ok();
}
