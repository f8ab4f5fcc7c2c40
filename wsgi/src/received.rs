//! Bytes that were received and not yet used.

use std::io;

use greenwood_runtime::net::Stream;

use crate::scratch;

/// What has come over a connection and is still to be looked at. It has a buffer only as long as
/// there is something in it; the buffer is the thread's [scratch].
#[derive(Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    /// How much of the front is used up: moving the rest for each request of a pipeline would cost
    /// more than parsing it.
    at: usize,
}

/// Bytes to ask the connection for at a time.
const READ_SIZE: usize = 16 * 1024;

impl Received {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The bytes.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unread().is_empty()
    }

    /// Takes `length` bytes off the front.
    pub(crate) fn consume(&mut self, length: usize) {
        self.at += length;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.at = 0;
        scratch::put_back(std::mem::take(&mut self.bytes));
    }

    /// Reads what there is behind what is left, without waiting. 0 is the end.
    pub(crate) fn read_from(&mut self, stream: &Stream) -> io::Result<usize> {
        if self.bytes.capacity() == 0 {
            self.bytes = scratch::take();
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        let result = stream.try_read_vec(&mut self.bytes, READ_SIZE);
        if self.bytes.is_empty() {
            self.clear();
        }
        result
    }

    /// The bytes, in a buffer of their own.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.unread().to_vec()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.clear();
    }
}
