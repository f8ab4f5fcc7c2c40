//! [`Outbox`]: what waits to be written to one connection.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use greenwood_runtime::net::Stream;

use crate::proto::spare;
use crate::proto::{
    MAX_HEADER, OpCode, apply_mask, compressed_frame_header, encode_compressed_frame, encode_frame,
    frame_header,
};
use crate::scratch;

/// Up to this payload size a frame is copied behind its header; a longer one is sent from where it
/// lies.
const COPY_MAX: usize = 4 * 1024;

/// Frames are gathered in one piece up to this size.
const PIECE: usize = 64 * 1024;

/// How many pieces go out in one call.
const PIECES: usize = 64;

/// What a frame is: its opcode, whether its payload is a compressed message, and a client's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) opcode: OpCode,
    pub(crate) compressed: bool,
    pub(crate) mask: Option<[u8; 4]>,
}

impl From<OpCode> for Kind {
    fn from(opcode: OpCode) -> Kind {
        Kind {
            opcode,
            compressed: false,
            mask: None,
        }
    }
}

impl Kind {
    fn header(self, len: usize) -> ([u8; MAX_HEADER], usize) {
        match self.compressed {
            false => frame_header(true, self.opcode, len, self.mask),
            true => compressed_frame_header(true, self.opcode, len, self.mask),
        }
    }

    /// A payload that is sent from where it lies, as it goes out.
    fn masked(self, mut payload: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        if let Some(key) = self.mask {
            apply_mask(payload.to_mut(), key, 0);
        }
        payload
    }
}

/// Bytes in order: a first piece, mostly the only one, and more behind it. Owns nothing when empty.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    first: Piece,
    /// How much of the first piece has gone.
    at: usize,
    more: VecDeque<Piece>,
    len: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// More frames may be put behind: it is not a message's own memory.
    open: bool,
}

impl Default for Piece {
    fn default() -> Piece {
        Piece {
            bytes: Vec::new(),
            open: true,
        }
    }
}

impl Piece {
    /// Gives the memory to whoever needs some next.
    fn recycle(self) {
        if self.open {
            scratch::give(self.bytes);
        }
    }
}

impl Outbox {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes wait.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self) {
        *self = Outbox::default();
    }

    /// Puts a frame behind what waits.
    pub(crate) fn push(&mut self, kind: Kind, payload: Cow<'_, [u8]>) {
        let last = self.last_open();
        let before = last.len();
        if payload.len() <= COPY_MAX {
            match kind.compressed {
                false => encode_frame(last, true, kind.opcode, &payload, kind.mask),
                true => encode_compressed_frame(last, true, kind.opcode, &payload, kind.mask),
            }
            self.len += last.len() - before;
            if let Cow::Owned(payload) = payload {
                spare::give(payload);
            }
        } else {
            let (header, used) = kind.header(payload.len());
            last.extend_from_slice(&header[..used]);
            self.len += used + payload.len();
            self.more.push_back(Piece {
                bytes: kind.masked(payload).into_owned(),
                open: false,
            });
        }
    }

    /// The last piece, or a new one if it is full or a message's own.
    fn last_open(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.first = Piece {
                bytes: scratch::take(),
                open: true,
            };
        } else {
            let last = self.more.back().unwrap_or(&self.first);
            if !last.open || last.bytes.len() >= PIECE {
                self.more.push_back(Piece {
                    bytes: scratch::take(),
                    open: true,
                });
            }
        }
        match self.more.back_mut() {
            Some(last) => &mut last.bytes,
            None => &mut self.first.bytes,
        }
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    pub(crate) fn flush(&mut self, stream: &Stream) -> io::Result<()> {
        while !self.is_empty() {
            let written = if self.more.is_empty() {
                stream.try_write(&self.first.bytes[self.at..])
            } else {
                self.write_pieces(stream)
            };
            match written {
                Ok(n) => self.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    // Apart, as the usual frame should not have room for all the slices.
    #[inline(never)]
    fn write_pieces(&self, stream: &Stream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES];
        slices[0] = IoSlice::new(&self.first.bytes[self.at..]);
        let mut count = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(&self.more) {
            *slice = IoSlice::new(&piece.bytes);
            count += 1;
        }
        stream.try_write_vectored(&slices[..count])
    }

    /// Sends a frame at once if nothing waits; what the socket does not take waits.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    pub(crate) fn send(
        &mut self,
        stream: &Stream,
        kind: Kind,
        payload: Cow<'_, [u8]>,
    ) -> io::Result<()> {
        if !self.is_empty() {
            self.push(kind, payload);
            return Ok(());
        }
        if payload.len() <= COPY_MAX {
            self.push(kind, payload);
            return self.flush(stream);
        }
        let (header, used) = kind.header(payload.len());
        let header = &header[..used];
        let payload = kind.masked(payload);
        let written =
            taken(stream.try_write_vectored(&[IoSlice::new(header), IoSlice::new(&payload)]))?;
        let whole = used + payload.len();
        if written == whole {
            return Ok(());
        }
        self.len = whole - written;
        let payload = Piece {
            bytes: payload.into_owned(),
            open: false,
        };
        if written < used {
            let mut bytes = scratch::take();
            bytes.extend_from_slice(&header[written..]);
            self.first = Piece { bytes, open: true };
            self.at = 0;
            self.more.push_back(payload);
        } else {
            self.first = payload;
            self.at = written - used;
        }
        Ok(())
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        loop {
            let rest = self.first.bytes.len() - self.at;
            if n < rest {
                self.at += n;
                return;
            }
            n -= rest;
            self.at = 0;
            match self.more.pop_front() {
                Some(next) => std::mem::replace(&mut self.first, next).recycle(),
                None => {
                    // Empty: it owns nothing any more.
                    std::mem::take(&mut self.first).recycle();
                    self.more = VecDeque::new();
                    return;
                }
            }
        }
    }
}

/// What was written; nothing if the socket is full.
fn taken(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
