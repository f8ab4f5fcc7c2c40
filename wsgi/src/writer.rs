//! Sending a response.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use greenwood_runtime::net::Stream;

use crate::{
    Body, Error, Result,
    body::{BodyWriter, Content},
    clock,
    pace::Pace,
    proto::{
        ApplicationFault, HttpError, Payload, RequestHead, ResponseContext, ResponseEncoder,
        encode_upgrade,
    },
    scratch,
};

/// One response on its way to the peer.
pub(crate) struct ResponseWriter {
    /// None once the connection was given away.
    stream: Option<Stream>,
    encoder: ResponseEncoder,
    /// Encoded and not yet sent.
    out: Vec<u8>,
    /// Bytes that the system has taken, of head and body.
    sent: u64,
    /// Nothing more can be sent.
    broken: bool,
    /// A piece of body was refused; none may come after it.
    fault: Option<HttpError>,
    pace: Pace,
    /// To be set before the first byte; see [`Input`](crate::Input).
    begun: Option<Arc<AtomicBool>>,
}

/// What the server has to say about a response.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) server: &'a str,
    pub(crate) keep_alive: bool,
}

/// Pieces of body up to this length are copied behind the head, to be sent with it by a plain
/// write; longer ones are sent from where they lie.
const COPY_LIMIT: usize = 8 * 1024;

impl ResponseWriter {
    pub(crate) fn new(
        stream: Stream,
        request: &RequestHead,
        pace: Pace,
        begun: Option<Arc<AtomicBool>>,
    ) -> Self {
        let mut writer = Self::with(stream, ResponseEncoder::new(request), pace);
        writer.begun = begun;
        writer
    }

    /// A writer for the answer to a request that could not be read.
    pub(crate) fn refusal(stream: Stream, to_head: bool, pace: Pace) -> Self {
        Self::with(stream, ResponseEncoder::refusal(to_head), pace)
    }

    fn with(stream: Stream, encoder: ResponseEncoder, pace: Pace) -> Self {
        let stream = Some(stream);
        Self {
            stream,
            encoder,
            out: Vec::new(),
            sent: 0,
            broken: false,
            fault: None,
            pace,
            begun: None,
        }
    }

    /// `start_response`.
    pub(crate) fn start(&mut self, status: &str, headers: &[(&str, &str)]) -> Result<()> {
        if self.out.capacity() == 0 {
            self.out = scratch::take();
        }
        self.encoder.start(&mut self.out, status, headers)?;
        self.fault = None;
        Ok(())
    }

    /// Sends head and body, whole.
    pub(crate) fn respond(&mut self, body: Body, terms: Terms<'_>) -> Result<()> {
        if !self.encoder.is_started() {
            let fault = match self.encoder.head_written() {
                true => ApplicationFault::HeadSent,
                false => ApplicationFault::NotStarted,
            };
            return Err(Error::Http(fault.into()));
        }
        let length = body.length();
        if let Some(bytes) = body.content.bytes() {
            self.head(length, terms)?;
            self.piece(bytes)?;
        } else if self.encoder.is_to_head() {
            // What would have been the body is of no interest.
            self.head(length, terms)?;
        } else {
            self.pieces(body.content, length, terms)?;
        }
        self.encoder.finish(&mut self.out)?;
        self.flush()
    }

    /// Sends a body that comes in pieces, and the head with the first of them.
    fn pieces(&mut self, content: Content, length: Option<u64>, terms: Terms<'_>) -> Result<()> {
        match content {
            Content::Chunks(chunks) => {
                let mut chunks = chunks.filter(|chunk| !chunk.is_empty()).peekable();
                // PEP 3333: the length of a list of one is known.
                let first = chunks.peek().map_or(0, |chunk| chunk.len() as u64);
                let only = matches!(chunks.size_hint(), (_, Some(0 | 1)));
                self.head(length.or(only.then_some(first)), terms)?;
                for chunk in chunks {
                    self.piece(&chunk)?;
                    self.flush()?;
                }
            }
            Content::Stream(write) => {
                let mut sink = |piece: &[u8]| {
                    if !self.encoder.head_written() {
                        self.head(length, terms)?;
                    }
                    self.piece(piece)?;
                    self.flush()
                };
                write(&mut BodyWriter::new(&mut sink))?;
                // What the function did not want to know.
                self.check()?;
                if !self.encoder.head_written() {
                    // It has ended without a byte.
                    self.head(Some(0), terms)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends a whole response of the server's own in place of whatever was begun and not sent.
    pub(crate) fn replace(
        &mut self,
        status: &str,
        body: String,
        to_head: bool,
        terms: Terms<'_>,
    ) -> Result<()> {
        self.out.clear();
        self.encoder = ResponseEncoder::refusal(to_head);
        self.fault = None;
        self.start(status, &[("Content-Type", "text/plain; charset=utf-8")])?;
        self.respond(body.into(), terms)
    }

    /// Sends `101 Switching Protocols` instead of a response, and lets go of the connection.
    pub(crate) fn upgrade(&mut self, headers: &[(&str, &str)]) -> Result<()> {
        self.out.clear();
        encode_upgrade(&mut self.out, headers)?;
        self.flush()?;
        self.stream = None;
        scratch::put_back(std::mem::take(&mut self.out));
        Ok(())
    }

    /// Bytes that have been sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether another response can take the place of this one.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.sent == 0 && !self.broken
    }

    /// Whether the connection failed, rather than the response.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn encoder(&self) -> &ResponseEncoder {
        &self.encoder
    }

    fn head(&mut self, length: Option<u64>, terms: Terms<'_>) -> Result<()> {
        self.check()?;
        let Terms { server, keep_alive } = terms;
        let Self { encoder, out, .. } = self;
        let written = clock::with_http_date(|date| {
            encoder.head(
                out,
                length,
                &ResponseContext {
                    date,
                    server,
                    keep_alive,
                },
            )
        });
        Ok(written.inspect_err(|&fault| self.fault = Some(fault))?)
    }

    fn piece(&mut self, piece: &[u8]) -> Result<()> {
        self.check()?;
        let begun = self.encoder.begin(&mut self.out, piece.len());
        let payload = begun.inspect_err(|&fault| self.fault = Some(fault))?;
        if payload == Payload::Drop {
            return Ok(());
        }
        if piece.len() <= COPY_LIMIT {
            self.out.extend_from_slice(piece);
            self.encoder.end(&mut self.out);
            return Ok(());
        }
        let before = self.out.len();
        self.encoder.end(&mut self.out);
        self.flush_around(before, piece)
    }

    /// Sends what is encoded.
    fn flush(&mut self) -> Result<()> {
        self.flush_around(self.out.len(), &[])
    }

    /// Sends what is encoded, with `piece` put in at `at`.
    fn flush_around(&mut self, at: usize, piece: &[u8]) -> Result<()> {
        self.check()?;
        let Some(stream) = &self.stream else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        if let Some(begun) = &self.begun {
            begun.store(true, Ordering::Relaxed);
        }
        // Until all is out, also if this greenlet is killed meanwhile.
        self.broken = true;
        let (before, after) = self.out.split_at(at);
        let slices = &mut [
            IoSlice::new(before),
            IoSlice::new(piece),
            IoSlice::new(after),
        ];
        write_all(stream, slices, &mut self.sent, &mut self.pace)?;
        self.broken = false;
        self.out.clear();
        Ok(())
    }

    /// Whether more can be sent.
    fn check(&self) -> Result<()> {
        match self.fault {
            Some(fault) => Err(fault.into()),
            None if self.broken => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            None => Ok(()),
        }
    }
}

impl Drop for ResponseWriter {
    fn drop(&mut self) {
        // However it was broken off (an error, a panic, a kill), the peer must not take what it has
        // got for the whole.
        let cut = self.broken || (self.sent > 0 && !self.encoder.is_finished());
        if cut
            && self.encoder.ends_with_connection()
            && let Some(stream) = &self.stream
        {
            stream.set_reset_on_close(true).ok();
        }
        scratch::put_back(std::mem::take(&mut self.out));
    }
}

fn write_all(
    stream: &Stream,
    mut slices: &mut [IoSlice<'_>],
    sent: &mut u64,
    pace: &mut Pace,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let result = match &*slices {
            // What is empty behind it does not count; in front of it was skipped.
            [single] | [single, ..] if slices[1..].iter().all(|s| s.is_empty()) => {
                stream.try_write(single)
            }
            slices => stream.try_write_vectored(slices),
        };
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *sent += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let began = Instant::now();
                stream.wait_writable()?;
                if !pace.waited(began, *sent) {
                    let reason = "the peer reads more slowly than the minimum rate";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
