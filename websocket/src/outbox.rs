//! [`Outbox`]: what waits to be written to one connection.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use greenwood_runtime::net::TcpStream;

use crate::proto::{OpCode, encode_frame, frame_header};
use crate::scratch;

/// Up to this payload size a frame is copied behind its header; a longer one is sent from where it lies.
const COPY_MAX: usize = 4 * 1024;

/// Frames are gathered in one piece up to this size.
const PIECE: usize = 64 * 1024;

/// How many pieces go out in one call.
const PIECES: usize = 64;

/// Bytes in order, in pieces. Owns nothing when empty.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// How much of the first piece has gone.
    at: usize,
    len: usize,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// More frames may be put behind: it is not a message's own memory.
    open: bool,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self) {
        *self = Outbox::default();
    }

    /// Puts a frame behind what waits.
    pub(crate) fn push(&mut self, opcode: OpCode, payload: Cow<'_, [u8]>) {
        let small = payload.len() <= COPY_MAX;
        let room = match self.pieces.back() {
            Some(last) => last.open && last.bytes.len() < PIECE,
            None => false,
        };
        if !room {
            let bytes = scratch::take();
            self.pieces.push_back(Piece { bytes, open: true });
        }
        let Some(last) = self.pieces.back_mut() else {
            return;
        };
        let before = last.bytes.len();
        if small {
            encode_frame(&mut last.bytes, true, opcode, &payload, None);
            self.len += last.bytes.len() - before;
        } else {
            let (header, used) = frame_header(true, opcode, payload.len(), None);
            last.bytes.extend_from_slice(&header[..used]);
            self.len += used + payload.len();
            self.pieces.push_back(Piece {
                bytes: payload.into_owned(),
                open: false,
            });
        }
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.is_empty() {
            let written = match self.pieces.len() {
                1 => stream.try_write(&self.pieces[0].bytes[self.at..]),
                _ => {
                    let mut slices = [IoSlice::new(&[]); PIECES];
                    let mut count = 0;
                    for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                        *slice = IoSlice::new(&piece.bytes[if count == 0 { self.at } else { 0 }..]);
                        count += 1;
                    }
                    stream.try_write_vectored(&slices[..count])
                }
            };
            match written {
                Ok(n) => self.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // Empty: it owns nothing any more.
        self.pieces = VecDeque::new();
        Ok(())
    }

    /// Sends a frame at once if nothing waits; what the socket does not take waits.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    pub(crate) fn send(
        &mut self,
        stream: &TcpStream,
        opcode: OpCode,
        payload: Cow<'_, [u8]>,
    ) -> io::Result<()> {
        if !self.is_empty() {
            self.push(opcode, payload);
            return Ok(());
        }
        if payload.len() <= COPY_MAX {
            let mut bytes = scratch::take();
            encode_frame(&mut bytes, true, opcode, &payload, None);
            let written = taken(stream.try_write(&bytes))?;
            if written == bytes.len() {
                scratch::give(bytes);
            } else {
                self.at = written;
                self.len = bytes.len() - written;
                self.pieces.push_back(Piece { bytes, open: true });
            }
            return Ok(());
        }
        let (header, used) = frame_header(true, opcode, payload.len(), None);
        let header = &header[..used];
        let written =
            taken(stream.try_write_vectored(&[IoSlice::new(header), IoSlice::new(&payload)]))?;
        let whole = used + payload.len();
        if written < whole {
            self.len = whole - written;
            if written < used {
                let mut bytes = scratch::take();
                bytes.extend_from_slice(&header[written..]);
                self.pieces.push_back(Piece { bytes, open: false });
                self.at = 0;
            } else {
                self.at = written - used;
            }
            self.pieces.push_back(Piece {
                bytes: payload.into_owned(),
                open: false,
            });
        }
        Ok(())
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(first) = self.pieces.front() {
            let rest = first.bytes.len() - self.at;
            if n < rest {
                self.at += n;
                return;
            }
            n -= rest;
            self.at = 0;
            if let Some(piece) = self.pieces.pop_front()
                && piece.open
            {
                scratch::give(piece.bytes);
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
