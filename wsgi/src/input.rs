//! `wsgi.input`: the body of a request.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use greenwood_runtime::net::Stream;

use crate::{
    pace::Pace,
    proto::{BodyDecoder, Framing, HttpError, LimitKind, Limits, PeerFault, RequestHead},
    received::Received,
};

/// The body of a request, without its framing. Reading ends at the end of the body.
///
/// A peer that waits for `100 Continue` gets it at the first read; if the application answers
/// without reading, the peer need not send the body at all. What the application leaves unread is
/// dropped after the response.
///
/// # Errors
///
/// A read fails if the body is malformed (400), too large (413), ends early (400), pauses for
/// longer than the server's body time-out or is slower than its minimum rate (408). The [`io::Error`] carries the
/// [`HttpError`], so an application that passes it on with `?` answers as fits.
pub struct Input {
    /// None: there is no connection, or no longer.
    stream: Option<Stream>,
    /// What was received behind the head.
    received: Received,
    decoder: BodyDecoder,
    /// `100 Continue` has yet to be sent, before anything can be expected to come. The flag says
    /// that the response has begun: then it is too late (RFC 9110 section 15.2).
    continue_due: Option<Arc<AtomicBool>>,
    /// Bytes that came over the connection, framing included, behind the head's buffer.
    came: u64,
    pace: Option<Pace>,
    /// When what is left of the body has to be there.
    deadline: Option<Instant>,
    failed: Option<Failure>,
}

/// Where a read put how many bytes.
enum Place {
    Out(usize),
    Buffer(usize),
}

/// Why nothing more can be read.
#[derive(Clone, Copy)]
enum Failure {
    Http(HttpError),
    Io(io::ErrorKind),
}

/// Reads of at least that size go past the buffer, where the framing allows it.
const DIRECT_SIZE: usize = 16 * 1024;

impl Input {
    /// The body of `head`, of which `received` is there already.
    pub(crate) fn new(
        stream: Option<Stream>,
        head: &RequestHead,
        received: Received,
        limits: &Limits,
        pace: Option<Pace>,
    ) -> Self {
        // RFC 9110 section 10.1.1: no need for a 100 when the body is on its way already.
        let continue_due =
            (head.expects_continue() && received.is_empty()).then(Arc::<AtomicBool>::default);
        let decoder = BodyDecoder::new(head.framing(), limits);
        Self {
            stream,
            received,
            decoder,
            continue_due,
            came: 0,
            pace,
            deadline: None,
            failed: None,
        }
    }

    /// To be set when the response begins, if that matters.
    pub(crate) fn too_late_to_continue(&self) -> Option<Arc<AtomicBool>> {
        self.continue_due.clone()
    }

    /// Whether the body has been read to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether the connection failed, rather than the body.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.failed, Some(Failure::Io(_)))
    }

    /// Whether this is what the server reads from, and not an input that was put in its place.
    pub(crate) fn is_attached(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether the connection can serve another request once what is left has been dropped, as far
    /// as is known.
    pub(crate) fn is_disposable(&self, max_discard: u64) -> bool {
        let waits = self.continue_due.is_some() && !self.is_done();
        self.failed.is_none()
            && !waits
            && self.decoder.direct().is_none_or(|left| left <= max_discard)
    }

    /// Drops what is left of the body. False if that is not worth it, takes longer than a read may,
    /// or fails.
    pub(crate) fn discard(&mut self, max: u64) -> bool {
        self.is_disposable(max) && self.drain(max).is_ok()
    }

    /// Reads what is left of the body and drops it, for who can't go on otherwise; in no more time
    /// than a read may take.
    ///
    /// # Errors
    ///
    /// As a read's; 413 when more than `max` bytes are left.
    pub(crate) fn drain(&mut self, max: u64) -> io::Result<()> {
        if self.is_done() {
            return Ok(());
        }
        if self.decoder.direct().is_some_and(|left| left > max) {
            return Err(self.fail(too_large(max)));
        }
        self.deadline = self.pace.map(|pace| Instant::now() + pace.timeout);
        let mut left = max;
        let mut scratch = [0; 2048];
        while !self.is_done() {
            let read = self.read(&mut scratch)? as u64;
            left = left
                .checked_sub(read)
                .ok_or_else(|| self.fail(too_large(max)))?;
        }
        Ok(())
    }

    /// Ends the reading: what was received behind the body. The input is at its end from now on.
    pub(crate) fn release(&mut self) -> Received {
        self.stream = None;
        self.decoder = BodyDecoder::new(Framing::None, &Limits::default());
        std::mem::take(&mut self.received)
    }

    fn fail(&mut self, error: impl Into<HttpError>) -> io::Error {
        let failure = Failure::Http(error.into());
        self.failed = Some(failure);
        failure.error()
    }

    fn too_slow(&mut self) -> io::Error {
        let max = self.pace.map_or(0, |pace| pace.timeout.as_millis() as u64);
        self.fail(HttpError::Limit {
            limit: LimitKind::BodyTime,
            max,
        })
    }

    fn send_continue(&mut self) -> io::Result<()> {
        if let Some(too_late) = self.continue_due.take()
            && !too_late.load(Ordering::Relaxed)
            && let Some(stream) = &mut self.stream
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    /// Reads more from the connection: into `out` if that is where the bytes belong as they are,
    /// else into the buffer, for which 0 is returned.
    fn receive(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.send_continue()?;
        let direct = self
            .decoder
            .direct()
            .and_then(|left| usize::try_from(left).ok());
        let began = Instant::now();
        let timeout = match (self.pace, self.deadline) {
            (Some(_), Some(deadline)) => Some(deadline.saturating_duration_since(began)),
            (Some(pace), None) => Some(pace.timeout),
            (None, _) => None,
        };
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(self.too_slow());
        }
        let Some(stream) = &mut self.stream else {
            return Err(self.fail(PeerFault::BodyTruncated));
        };
        stream.set_read_timeout(timeout)?;
        let result = match direct {
            Some(left) if out.len() >= left.min(DIRECT_SIZE) => {
                let length = out.len().min(left);
                stream.read(&mut out[..length]).map(Place::Out)
            }
            _ => fill(&mut self.received, stream).map(Place::Buffer),
        };
        if let Ok(Place::Out(read) | Place::Buffer(read)) = result {
            self.came += read as u64;
            if let Some(pace) = &mut self.pace
                && !pace.waited(began, self.came)
            {
                return Err(self.too_slow());
            }
        }
        match result {
            Ok(Place::Out(0) | Place::Buffer(0)) => Err(self.fail(PeerFault::BodyTruncated)),
            Ok(Place::Buffer(_)) => Ok(0),
            Ok(Place::Out(read)) => {
                self.decoder.skip(read);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(self.too_slow()),
            Err(error) => {
                self.failed = Some(Failure::Io(error.kind()));
                Err(error)
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if let Some(failure) = self.failed {
            return Err(failure.error());
        }
        loop {
            if self.decoder.is_done() {
                return Ok(0);
            }
            if !self.received.is_empty() {
                match self.decoder.decode(self.received.unread(), out) {
                    Ok(done) => {
                        self.received.consume(done.consumed);
                        if done.produced > 0 {
                            return Ok(done.produced);
                        }
                    }
                    Err(error) => return Err(self.fail(error)),
                }
                continue;
            }
            match self.receive(out)? {
                0 => {}
                read => return Ok(read),
            }
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("done", &self.is_done())
            .field("failed", &self.failed.is_some())
            .finish_non_exhaustive()
    }
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Self::Http(error) => {
                let kind = match error {
                    HttpError::Limit {
                        limit: LimitKind::BodyTime,
                        ..
                    } => io::ErrorKind::TimedOut,
                    HttpError::Peer(PeerFault::BodyTruncated) => io::ErrorKind::UnexpectedEof,
                    _ => io::ErrorKind::InvalidData,
                };
                io::Error::new(kind, error)
            }
            Self::Io(kind) => kind.into(),
        }
    }
}

fn too_large(max: u64) -> HttpError {
    HttpError::Limit {
        limit: LimitKind::BodySize,
        max,
    }
}

/// Waits for bytes and puts them behind those received.
fn fill(received: &mut Received, stream: &Stream) -> io::Result<usize> {
    loop {
        stream.wait_readable()?;
        match received.read_from(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}
