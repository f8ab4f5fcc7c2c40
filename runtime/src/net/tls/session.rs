//! [`Session`]: the state of one TLS connection, between a socket and plaintext.
//!
//! It uses rustls' interface without buffers of its own, so that an idle connection has none.
//! Nothing here waits.

use std::io::{self, IoSlice};
use std::net::Shutdown;

use rustls::CommonState;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedConnectionCommon,
    UnbufferedStatus, WriteTraffic,
};

use super::buffers;
use super::error::{failed, no_tls, truncated};
use crate::net::TcpStream;

/// How much is encrypted in one go, and so the most that a connection keeps for a peer that does
/// not read: four records.
const PIECE: usize = 64 * 1024;

/// What a record may add to its plaintext: header, content type, tag, and the nonce of TLS 1.2.
const RECORD_OVERHEAD: usize = 32;
const MAX_RECORD: usize = 16 * 1024;

/// Reads from the socket are at least that large, a full record, and at most that of four.
const MIN_READ: usize = MAX_RECORD + 512;
const MAX_READ: usize = 4 * MIN_READ;

/// How much of an incomplete record or handshake message is kept. rustls takes messages of up to 64
/// KiB, in records of up to 18 KiB.
const MAX_INCOMPLETE: usize = 96 * 1024;

pub(super) struct Session {
    side: Side,
    /// The incomplete record at the end of what was received.
    incoming: Vec<u8>,
    /// Decrypted and not read yet, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Records that the socket has not taken yet, from `out_at` on.
    outgoing: Vec<u8>,
    out_at: usize,
    /// Bytes that are in `outgoing` and were not reported to the writer yet. At least one as long
    /// as anything of the writer's is in there.
    owed: usize,
    /// The peer has sent its close_notify.
    ended: bool,
    /// Ours has been sent.
    closed: bool,
    /// The socket is to be shut down for writing once `outgoing` is empty.
    pub(super) fin_due: bool,
    /// Our side does not want to read any more.
    pub(super) deaf: bool,
    /// Something has come since the stack was trimmed.
    pub(super) busy: bool,
    /// Closing is to look like a failure.
    pub(super) reset: bool,
    failure: Option<rustls::Error>,
}

// Neither is small, and most connections of a process are of one kind.
#[allow(clippy::large_enum_variant, reason = "lives in an Arc")]
pub(super) enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do where the connection can send.
enum Wish<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    CloseNotify,
}

/// Where plaintext goes.
pub(super) enum Sink<'a> {
    Slice(&'a mut [u8]),
    Vec(&'a mut Vec<u8>, usize),
    /// Nobody reads yet.
    None,
}

impl Sink<'_> {
    /// How much there is room for.
    fn room(&self) -> usize {
        match self {
            Sink::Slice(slice) => slice.len(),
            Sink::Vec(_, room) => *room,
            Sink::None => 0,
        }
    }

    /// Takes what there is room for.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room());
        let bytes = &bytes[..taken];
        match self {
            Sink::Slice(slice) => {
                let (head, tail) = std::mem::take(slice).split_at_mut(taken);
                head.copy_from_slice(bytes);
                *slice = tail;
            }
            Sink::Vec(vec, room) => {
                vec.try_reserve(taken)
                    .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
                vec.extend_from_slice(bytes);
                *room -= taken;
            }
            Sink::None => {}
        }
        Ok(taken)
    }
}

impl Session {
    pub(super) fn new(side: Side) -> Session {
        Session {
            side,
            incoming: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            outgoing: Vec::new(),
            out_at: 0,
            owed: 0,
            ended: false,
            closed: false,
            fin_due: false,
            deaf: false,
            busy: false,
            reset: false,
            failure: None,
        }
    }

    /// What was agreed on.
    pub(super) fn common(&self) -> &CommonState {
        self.side.common()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    /// Whether a read has an answer without the socket.
    pub(super) fn has_answer(&self) -> bool {
        self.plain_at < self.plain.len() || self.ended || self.failure.is_some()
    }

    /// Whether records wait for the socket.
    pub(super) fn has_outgoing(&self) -> bool {
        self.out_at < self.outgoing.len()
    }

    /// Reads what there is; never waits. 0 is the end.
    pub(super) fn read(&mut self, tcp: &TcpStream, mut sink: Sink<'_>) -> io::Result<usize> {
        let room = sink.room();
        // Errors of sending are the sender's; what has come can be read all the same.
        self.send(tcp).ok();
        if self.plain_at < self.plain.len() {
            self.take_plain(&mut sink)?;
            return Ok(room - sink.room());
        }
        if !self.has_answer() {
            self.receive(tcp, &mut sink)?;
        }
        match room - sink.room() {
            0 if self.ended => Ok(0),
            0 => match &self.failure {
                Some(failure) => Err(failed(failure)),
                None => Err(io::ErrorKind::WouldBlock.into()),
            },
            read => Ok(read),
        }
    }

    fn take_plain(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        self.plain_at += sink.put(&self.plain[self.plain_at..])?;
        if self.plain_at == self.plain.len() {
            buffers::give(std::mem::take(&mut self.plain));
            self.plain_at = 0;
        }
        Ok(())
    }

    /// Receives once, and decrypts the whole records.
    ///
    /// # Errors
    ///
    /// What the socket says, and that the peer has ended the connection without saying so by TLS. A
    /// failure of TLS is kept for later: records may have come before it.
    pub(super) fn receive(&mut self, tcp: &TcpStream, sink: &mut Sink<'_>) -> io::Result<()> {
        let mut buffer = buffers::take();
        buffer.extend_from_slice(&self.incoming);
        let asked = sink.room().clamp(MIN_READ, MAX_READ);
        let received = tcp.try_read_vec(&mut buffer, asked);
        let result = match received {
            Ok(0) if self.deaf => {
                self.ended = true;
                Ok(())
            }
            Ok(0) => Err(truncated()),
            // Records begin with a small number (RFC 8446 section 5.1).
            Ok(_) if self.is_handshaking() && buffer[0] >= b' ' => Err(no_tls()),
            Ok(_) => {
                self.busy = true;
                let used = self.decrypt(&mut buffer, sink);
                self.keep(&buffer[used..]);
                Ok(())
            }
            Err(error) => Err(error),
        };
        buffers::give(buffer);
        if self.has_outgoing() {
            // An alert, or the next part of a handshake.
            self.send(tcp).ok();
        }
        result
    }

    /// Keeps an incomplete record, in memory of its size: a peer that dawdles must not hold a large
    /// buffer.
    fn keep(&mut self, rest: &[u8]) {
        self.incoming = match self.failure.is_some() || self.ended {
            true => Vec::new(),
            false => rest.to_vec(),
        };
        if rest.len() > MAX_INCOMPLETE && self.failure.is_none() {
            self.failure = Some(rustls::Error::General(
                "a handshake message of the peer's is too large".to_owned(),
            ));
        }
    }

    /// Decrypts the whole records in `input`. Plaintext for which there is no room in `sink` is
    /// kept. Returns how many bytes of the input are used up.
    fn decrypt(&mut self, input: &mut [u8], sink: &mut Sink<'_>) -> usize {
        let plain = &mut self.plain;
        let outcome = self.side.advance(
            input,
            Wish::Nothing,
            &mut self.outgoing,
            &mut self.ended,
            &mut |payload| {
                // Without memory it fails at the next read, which finds it here.
                let taken = sink.put(payload).unwrap_or(0);
                if taken < payload.len() {
                    if plain.is_empty() {
                        *plain = buffers::take();
                    }
                    plain.extend_from_slice(&payload[taken..]);
                }
            },
        );
        if let Err(failure) = outcome.result {
            self.failure = Some(failure);
        }
        outcome.used
    }

    /// Begins a client's handshake, by putting its first message into what is to be sent.
    pub(super) fn begin(&mut self) {
        self.decrypt(&mut [], &mut Sink::None);
    }

    /// The failure of TLS, if there is one.
    pub(super) fn failure(&self) -> Option<&rustls::Error> {
        self.failure.as_ref()
    }

    /// Hands records to the socket. True if none is left.
    pub(super) fn send(&mut self, tcp: &TcpStream) -> io::Result<bool> {
        while self.has_outgoing() {
            match tcp.try_write(&self.outgoing[self.out_at..]) {
                Ok(sent) => self.out_at += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.out_at > 0 {
            buffers::give(std::mem::take(&mut self.outgoing));
            self.out_at = 0;
        }
        if self.fin_due {
            self.fin_due = false;
            tcp.shutdown(Shutdown::Write).ok();
        }
        Ok(true)
    }

    /// Writes what is taken; never waits. See [`TlsStream::try_write`](super::TlsStream::try_write)
    /// for what the caller has to keep to.
    pub(super) fn write(&mut self, tcp: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let total = pieces.iter().map(|piece| piece.len()).sum();
        let mut reported = 0;
        if total > 0 && self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            let all = self.send(tcp)?;
            let settled = match all {
                true => self.owed,
                // Part of it has gone. One byte stays owed until everything has: what was reported
                // whole is not left behind here.
                false => {
                    let left = self.outgoing.len() - self.out_at;
                    self.owed - self.owed.min(left)
                }
            };
            let settled = settled.min(total - reported);
            self.owed -= settled;
            reported += settled;
            if reported == total {
                return Ok(reported);
            }
            if !all {
                break;
            }
            if let Some(failure) = &self.failure {
                return Err(failed(failure));
            }
            self.encrypt_from(pieces, reported, total)?;
        }
        match reported {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            reported => Ok(reported),
        }
    }

    /// How many of the bytes to be written next are encrypted already.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// Encrypts the next piece of what is to be written.
    fn encrypt_from(
        &mut self,
        pieces: &[IoSlice<'_>],
        mut skip: usize,
        total: usize,
    ) -> io::Result<()> {
        let wanted = (total - skip).min(PIECE);
        let mut gathered = Vec::new();
        for piece in pieces {
            if piece.len() <= skip {
                skip -= piece.len();
                continue;
            }
            let rest = &piece[std::mem::take(&mut skip)..];
            if gathered.is_empty() {
                if rest.len() >= wanted {
                    return self.encrypt(&rest[..wanted]);
                }
                gathered = buffers::take();
            }
            let room = wanted - gathered.len();
            gathered.extend_from_slice(&rest[..rest.len().min(room)]);
            if gathered.len() == wanted {
                break;
            }
        }
        let result = self.encrypt(&gathered);
        buffers::give(gathered);
        result
    }

    fn encrypt(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.command(Wish::Encrypt(bytes)).map_err(|e| failed(&e))?;
        self.owed = bytes.len();
        Ok(())
    }

    /// Puts our close_notify behind what is to be sent, once, unless that would end in the middle
    /// of a message of the writer's: then the peer must not take the end for a clean one. True if
    /// it has been put.
    pub(super) fn close(&mut self) -> bool {
        let whole = self.owed == 0 && self.failure.is_none() && !self.is_handshaking();
        let first = !std::mem::replace(&mut self.closed, true);
        first && whole && self.command(Wish::CloseNotify).is_ok()
    }

    fn command(&mut self, wish: Wish<'_>) -> Result<(), rustls::Error> {
        if self.outgoing.is_empty() {
            self.outgoing = buffers::take();
        }
        let plain = &mut self.plain;
        let outcome = self.side.advance(
            &mut self.incoming,
            wish,
            &mut self.outgoing,
            &mut self.ended,
            // Whole records were decrypted when they came.
            &mut |payload| plain.extend_from_slice(payload),
        );
        self.incoming.drain(..outcome.used);
        outcome
            .result
            .inspect_err(|failure| self.failure = Some(failure.clone()))
    }
}

/// What became of some input.
struct Outcome {
    used: usize,
    result: Result<(), rustls::Error>,
}

/// What a state of rustls asked for.
struct Step {
    discard: usize,
    next: Result<Next, rustls::Error>,
}

enum Next {
    /// There may be more.
    Again,
    /// Input is needed, or nothing is to be done.
    Stop,
}

impl Side {
    /// Lets rustls work on the input until it needs more, and then fulfils the wish if it can.
    fn advance(
        &mut self,
        input: &mut [u8],
        wish: Wish<'_>,
        outgoing: &mut Vec<u8>,
        ended: &mut bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Outcome {
        let mut used = 0;
        let mut failure = None;
        // After a failure only what it has queued goes on, up to the alert that tells the peer.
        while failure.is_none() || self.wants_write() {
            let input = &mut input[used..];
            let wish = match &failure {
                None => &wish,
                Some(_) => &Wish::Nothing,
            };
            let step = match self {
                Side::Client(side) => side.step(input, wish, outgoing, ended, sink),
                Side::Server(side) => side.step(input, wish, outgoing, ended, sink),
            };
            used += step.discard;
            match step.next {
                Ok(Next::Again) => {}
                Ok(Next::Stop) => break,
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Outcome {
            used,
            result: failure.map_or(Ok(()), Err),
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Side::Client(side) => side,
            Side::Server(side) => side,
        }
    }

    fn wants_write(&self) -> bool {
        self.common().wants_write()
    }
}

/// What clients and servers have in common.
trait Steps {
    fn step(
        &mut self,
        input: &mut [u8],
        wish: &Wish<'_>,
        outgoing: &mut Vec<u8>,
        ended: &mut bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Step;
}

impl Steps for UnbufferedConnectionCommon<ClientConnectionData> {
    fn step(
        &mut self,
        input: &mut [u8],
        wish: &Wish<'_>,
        outgoing: &mut Vec<u8>,
        ended: &mut bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Step {
        answer(self.process_tls_records(input), wish, outgoing, ended, sink)
    }
}

impl Steps for UnbufferedConnectionCommon<ServerConnectionData> {
    fn step(
        &mut self,
        input: &mut [u8],
        wish: &Wish<'_>,
        outgoing: &mut Vec<u8>,
        ended: &mut bool,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Step {
        answer(self.process_tls_records(input), wish, outgoing, ended, sink)
    }
}

/// Does what a state asks for.
fn answer<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    wish: &Wish<'_>,
    outgoing: &mut Vec<u8>,
    ended: &mut bool,
    sink: &mut dyn FnMut(&[u8]),
) -> Step {
    let mut discard = status.discard;
    let next = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                sink(record.payload);
            }
            Ok(Next::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            append(outgoing, 0, |room| match data.encode(room) {
                Ok(size) => Ok(size),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            })?;
            Ok(Next::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is in `outgoing`, and leaves in order.
            data.done();
            Ok(Next::Again)
        }
        ConnectionState::PeerClosed => {
            *ended = true;
            Ok(Next::Again)
        }
        ConnectionState::WriteTraffic(traffic) => grant(traffic, wish, outgoing),
        // Early data is not asked for; a handshake waits for the peer.
        _ => match wish {
            Wish::Nothing => Ok(Next::Stop),
            _ => Err(rustls::Error::HandshakeNotComplete),
        },
    });
    Step { discard, next }
}

fn grant<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    wish: &Wish<'_>,
    outgoing: &mut Vec<u8>,
) -> Result<Next, rustls::Error> {
    let insufficient = |error| match error {
        EncryptError::InsufficientSize(size) => Some(size),
        EncryptError::EncryptExhausted => None,
    };
    match wish {
        Wish::Nothing => {}
        Wish::Encrypt(bytes) => {
            let records = bytes.len().div_ceil(MAX_RECORD);
            let size = bytes.len() + records * RECORD_OVERHEAD;
            append(outgoing, size, |room| {
                traffic.encrypt(bytes, room).map_err(insufficient)
            })?;
        }
        Wish::CloseNotify => append(outgoing, 64, |room| {
            traffic.queue_close_notify(room).map_err(insufficient)
        })?,
    }
    Ok(Next::Stop)
}

/// Has `write` fill room behind `outgoing`: `guess` bytes, or as many as it asks for.
fn append(
    outgoing: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), rustls::Error> {
    let start = outgoing.len();
    outgoing.resize(start + guess, 0);
    let mut written = write(&mut outgoing[start..]);
    if let Err(Some(InsufficientSizeError { required_size })) = written {
        outgoing.resize(start + required_size, 0);
        written = write(&mut outgoing[start..]);
    }
    outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(drop).map_err(|_| rustls::Error::EncryptError)
}
