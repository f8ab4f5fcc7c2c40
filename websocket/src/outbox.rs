//! [`Outbox`]: what waits to be written to one connection.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use greenwood_runtime::net::Stream;

use crate::proto::spare;
use crate::proto::{
    MAX_HEADER, OpCode, apply_mask, compressed_frame_header, encode_compressed_frame, encode_frame,
    frame_header,
};
use crate::scratch;

/// Up to this payload size a frame is copied behind its header; a longer one is sent from where it
/// lies.
pub(crate) const COPY_MAX: usize = 4 * 1024;

/// Frames are gathered in one piece up to this size.
const PIECE: usize = 64 * 1024;

/// How many pieces go out in one call.
const PIECES: usize = 64;

/// Up to this size a shared frame that has to wait is copied: a place of its own among the pieces
/// would take as much.
const SMALL: usize = 64;

/// What a frame is: its opcode, whether it ends its message, whether its payload begins a compressed
/// message, and a client's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) opcode: OpCode,
    pub(crate) fin: bool,
    pub(crate) compressed: bool,
    pub(crate) mask: Option<[u8; 4]>,
}

impl From<OpCode> for Kind {
    fn from(opcode: OpCode) -> Kind {
        Kind {
            opcode,
            fin: true,
            compressed: false,
            mask: None,
        }
    }
}

impl Kind {
    fn header(self, len: usize) -> ([u8; MAX_HEADER], usize) {
        match self.compressed {
            false => frame_header(self.fin, self.opcode, len, self.mask),
            true => compressed_frame_header(self.fin, self.opcode, len, self.mask),
        }
    }

    /// Appends the frame.
    #[inline]
    fn encode(self, out: &mut Vec<u8>, payload: &[u8]) {
        match self.compressed {
            false => encode_frame(out, self.fin, self.opcode, payload, self.mask),
            true => encode_compressed_frame(out, self.fin, self.opcode, payload, self.mask),
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
#[repr(C)]
pub(crate) struct Outbox {
    len: usize,
    first: Piece,
    /// How much of the first piece has gone.
    at: usize,
    more: VecDeque<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// Frames, behind which more may be put.
    Open(Vec<u8>),
    /// A message's own memory.
    Own(Vec<u8>),
    /// A frame that others send too.
    Shared(SharedFrame),
}

/// A whole frame that many connections send.
#[derive(Debug, Clone)]
pub(crate) struct SharedFrame {
    pub(crate) bytes: Arc<[u8]>,
    /// Where only the newest frames of a kind are of interest, the kind; else 0. Such a frame may be
    /// dropped as long as nothing of it has gone.
    pub(crate) volatile: u64,
}

impl Default for Piece {
    fn default() -> Piece {
        Piece::Open(Vec::new())
    }
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Open(bytes) | Piece::Own(bytes) => bytes,
            Piece::Shared(frame) => &frame.bytes,
        }
    }

    /// The memory, if there is room for more frames.
    fn room(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Piece::Open(bytes) if bytes.len() < PIECE => Some(bytes),
            _ => None,
        }
    }

    fn is_volatile(&self, kind: u64) -> bool {
        matches!(self, Piece::Shared(frame) if frame.volatile == kind)
    }

    /// Gives the memory to whoever needs some next.
    fn recycle(self) {
        if let Piece::Open(bytes) = self {
            scratch::give(bytes);
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

    /// Puts a server's whole message behind what waits, as [`push`](Self::push) would: the short
    /// way for the messages of a batch. It is at most [`COPY_MAX`] bytes long.
    #[inline]
    pub(crate) fn push_short(&mut self, opcode: OpCode, payload: Cow<'_, [u8]>) {
        let last = self.last_open();
        let before = last.len();
        encode_frame(last, true, opcode, &payload, None);
        self.len += last.len() - before;
        if let Cow::Owned(payload) = payload {
            spare::give(payload);
        }
    }

    /// Puts a frame behind what waits.
    pub(crate) fn push(&mut self, kind: Kind, payload: Cow<'_, [u8]>) {
        let last = self.last_open();
        let before = last.len();
        if payload.len() <= COPY_MAX {
            kind.encode(last, &payload);
            self.len += last.len() - before;
            if let Cow::Owned(payload) = payload {
                spare::give(payload);
            }
        } else {
            let (header, used) = kind.header(payload.len());
            last.extend_from_slice(&header[..used]);
            self.len += used + payload.len();
            self.more
                .push_back(Piece::Own(kind.masked(payload).into_owned()));
        }
    }

    /// The last piece, or a new one if it is full or has no room for others' frames.
    #[inline]
    fn last_open(&mut self) -> &mut Vec<u8> {
        let has_room = matches!(&self.first, Piece::Open(bytes) if bytes.len() < PIECE);
        if self.len == 0 || !self.more.is_empty() || !has_room {
            return self.new_last();
        }
        match &mut self.first {
            Piece::Open(bytes) => bytes,
            _ => unreachable!("just made sure of"),
        }
    }

    fn new_last(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.first = Piece::Open(scratch::take());
        } else {
            let last = self.more.back_mut().unwrap_or(&mut self.first);
            if last.room().is_none() {
                self.more.push_back(Piece::Open(scratch::take()));
            }
        }
        let last = self.more.back_mut().unwrap_or(&mut self.first);
        match last {
            Piece::Open(bytes) => bytes,
            _ => unreachable!("just made sure of"),
        }
    }

    /// Puts a frame that others send too behind what waits.
    pub(crate) fn push_shared(&mut self, frame: &SharedFrame) {
        if frame.volatile == 0 && frame.bytes.len() <= SMALL {
            let last = self.last_open();
            last.extend_from_slice(&frame.bytes);
        } else if self.is_empty() {
            self.first = Piece::Shared(frame.clone());
        } else {
            self.more.push_back(Piece::Shared(frame.clone()));
        }
        self.len += frame.bytes.len();
    }

    /// Drops the oldest frames of this volatile kind until no more than `keep` wait that have not
    /// begun to go, with the `coming` ones behind these; how many were dropped. The first `owed`
    /// bytes are on their way already.
    pub(crate) fn drop_oldest(
        &mut self,
        kind: u64,
        keep: usize,
        coming: usize,
        owed: usize,
    ) -> usize {
        // What is left of the first piece, and where those behind it begin.
        let first = self.first.bytes().len() - self.at;
        let has_begun = self.at > 0 || owed > 0;
        let mut begin = first;
        let droppable = self.more.iter().filter(|piece| {
            let is_free = begin >= owed;
            begin += piece.bytes().len();
            is_free && piece.is_volatile(kind)
        });
        let count = droppable.count() + usize::from(!has_begun && self.first.is_volatile(kind));
        let excess = (count + coming).saturating_sub(keep).min(count);
        let mut left = excess;
        let mut dropped = 0;
        begin = first;
        if left > 0 {
            let begins_free = !has_begun && self.first.is_volatile(kind);
            left -= usize::from(begins_free);
            self.more.retain(|piece| {
                let len = piece.bytes().len();
                let drop = left > 0 && begin >= owed && piece.is_volatile(kind);
                begin += len;
                if drop {
                    left -= 1;
                    dropped += len;
                }
                !drop
            });
            self.len -= dropped;
            if begins_free {
                self.advance(first);
            }
        }
        excess
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    pub(crate) fn flush(&mut self, stream: &Stream) -> io::Result<()> {
        while !self.is_empty() {
            let written = if self.more.is_empty() {
                stream.try_write(&self.first.bytes()[self.at..])
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
        slices[0] = IoSlice::new(&self.first.bytes()[self.at..]);
        let mut count = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(&self.more) {
            *slice = IoSlice::new(piece.bytes());
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
            return self.send_short(stream, kind, payload);
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
        let payload = Piece::Own(payload.into_owned());
        if written < used {
            let mut bytes = scratch::take();
            bytes.extend_from_slice(&header[written..]);
            self.first = Piece::Open(bytes);
            self.at = 0;
            self.more.push_back(payload);
        } else {
            self.first = payload;
            self.at = written - used;
        }
        Ok(())
    }

    /// The frame is made in the thread's memory: the outbox has none but for what has to wait.
    fn send_short(
        &mut self,
        stream: &Stream,
        kind: Kind,
        payload: Cow<'_, [u8]>,
    ) -> io::Result<()> {
        scratch::with_write_buffer(|frame| {
            kind.encode(frame, &payload);
            if let Cow::Owned(payload) = payload {
                spare::give(payload);
            }
            let written = taken(stream.try_write(frame))?;
            if written < frame.len() {
                let mut rest = scratch::take();
                rest.extend_from_slice(&frame[written..]);
                self.len = rest.len();
                self.first = Piece::Open(rest);
            }
            Ok(())
        })
    }

    /// As [`send`](Self::send), of a frame that others send too: what waits refers to it.
    ///
    /// # Errors
    ///
    /// What the socket says; not `WouldBlock`.
    #[inline]
    pub(crate) fn send_shared(&mut self, stream: &Stream, frame: &SharedFrame) -> io::Result<()> {
        if !self.is_empty() {
            self.push_shared(frame);
            return Ok(());
        }
        let written = taken(stream.try_write(&frame.bytes))?;
        if written < frame.bytes.len() {
            self.first = Piece::Shared(frame.clone());
            self.at = written;
            self.len = frame.bytes.len() - written;
        }
        Ok(())
    }

    fn advance(&mut self, mut n: usize) {
        self.len -= n;
        loop {
            let rest = self.first.bytes().len() - self.at;
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
