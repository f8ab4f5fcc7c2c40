//! From bytes to a [`RequestHead`], or to the reason why not.

use std::mem::MaybeUninit;

use super::{
    chars,
    connection::ConnectionOptions,
    error::{HttpError, LimitKind, PeerFault},
    framing::{Framing, FramingHeaders},
    head::{RequestHead, Span, Version},
    limits::Limits,
    target,
};

/// Recognizes one request head at the start of a growing buffer.
///
/// It is asked again, with the same bytes and more behind them, until it returns a head; it
/// remembers how far it looked, so a head that trickles in does not cost a parse per byte. Behind a
/// head it begins anew.
#[derive(Debug, Default)]
pub struct HeadParser {
    /// Length of the buffer at the last call.
    seen: usize,
}

/// Empty lines that may precede a request line (RFC 9112 section 2.2 asks for at least one).
const MAX_EMPTY_LINES: usize = 2;

/// Headers up to this number are parsed on the stack.
const STACK_HEADERS: usize = 100;

impl HeadParser {
    /// A parser for the next request.
    pub fn new() -> Self {
        Self::default()
    }

    /// The head at the start of `buffer` and the number of bytes it takes, or `None` if more bytes
    /// are needed.
    ///
    /// # Errors
    ///
    /// The peer's faults, and the limits on the request line (414), the headers and the head (431)
    /// and the announced body (413). A limit is reported as soon as it is passed, also when the
    /// head is not complete.
    pub fn parse(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
    ) -> Result<Option<(RequestHead, usize)>, HttpError> {
        let skipped = empty_lines(buffer);
        let bytes = &buffer[skipped..];
        let again = self.seen > 0;
        let new = &buffer[self.seen.min(buffer.len())..];
        self.seen = buffer.len();

        match bytes {
            // httparse would skip any number of these.
            [b'\r', ..] if skipped == 2 * MAX_EMPTY_LINES => {
                return Err(PeerFault::RequestLine.into());
            }
            [b'\n', ..] => return Err(PeerFault::LineEnd.into()),
            _ => {}
        }
        check_request_line(bytes, limits)?;
        // Places within a head are counted in 32 bits.
        let max_head_size = limits.max_head_size.min(u32::MAX as usize);
        let window = &bytes[..bytes.len().min(max_head_size)];
        // Nothing can have changed before another line has ended.
        if !again || new.contains(&b'\n') {
            let parsed = if limits.max_headers <= STACK_HEADERS {
                let mut headers = [const { MaybeUninit::uninit() }; STACK_HEADERS];
                parse(window, &mut headers[..limits.max_headers], limits)?
            } else {
                parse(
                    window,
                    &mut vec![MaybeUninit::uninit(); limits.max_headers],
                    limits,
                )?
            };
            if let Some(head) = parsed {
                let length = skipped + head.bytes.len();
                self.seen = 0;
                return Ok(Some((head, length)));
            }
        }
        if bytes.len() >= max_head_size {
            return Err(limit(LimitKind::HeadSize, max_head_size));
        }
        Ok(None)
    }
}

fn parse<'b>(
    bytes: &'b [u8],
    headers: &mut [MaybeUninit<httparse::Header<'b>>],
    limits: &Limits,
) -> Result<Option<RequestHead>, HttpError> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return malformed(error, bytes, limits),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Err(PeerFault::RequestLine.into());
    };
    // httparse takes a bare LF for a line end; CR it takes before LF only. So if there are as many
    // of either, each line ends in CRLF.
    let head = &bytes[..length];
    if chars::count(head, b'\n') != chars::count(head, b'\r') {
        return Err(PeerFault::LineEnd.into());
    }
    let version = if request.version == Some(0) {
        Version::Http10
    } else {
        Version::Http11
    };

    let place = Place {
        base: bytes.as_ptr() as usize,
    };
    let parts = target::split(method, target.as_bytes())?;
    let in_target = |range: std::ops::Range<usize>| place.of(&target.as_bytes()[range]);
    let facts = Facts::collect(request.headers, version, limits)?;
    Ok(Some(RequestHead {
        lines: (request.headers.iter())
            .map(|header| place.of(header.name.as_bytes()).start)
            .collect(),
        method: place.of(method.as_bytes()),
        target: place.of(target.as_bytes()),
        path: in_target(parts.path),
        query: parts.query.map(in_target),
        host: parts
            .authority
            .map(in_target)
            .or(facts.host.map(|host| place.of(host))),
        version,
        framing: facts.framing,
        connection: facts.connection,
        expects_continue: facts.expects_continue,
        bytes: head.into(),
    }))
}

/// What the headers that concern the protocol itself say.
struct Facts<'b> {
    host: Option<&'b [u8]>,
    framing: Framing,
    connection: ConnectionOptions,
    expects_continue: bool,
}

impl<'b> Facts<'b> {
    fn collect(
        headers: &[httparse::Header<'b>],
        version: Version,
        limits: &Limits,
    ) -> Result<Self, HttpError> {
        let mut host = None;
        let mut framing = FramingHeaders::default();
        let mut connection = ConnectionOptions::default();
        let mut expects = false;
        for &httparse::Header { name, value } in headers {
            // The length first: it tells most names apart.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    if host.replace(value).is_some() {
                        return Err(PeerFault::HostRepeated.into());
                    }
                    if !target::is_host(value) {
                        return Err(PeerFault::HostInvalid.into());
                    }
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(PeerFault::Expectation.into());
                    }
                    expects = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => connection.add(value),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    framing.content_length(value)?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    framing.transfer_encoding(value);
                }
                _ => {}
            }
        }
        // RFC 9112 section 3.2.
        if host.is_none() && version == Version::Http11 {
            return Err(PeerFault::HostMissing.into());
        }
        let framing = framing.decide(version, limits.max_body_size)?;
        // RFC 9110 section 10.1.1: no 100 for HTTP/1.0, and none where no body comes.
        let expects_continue = expects
            && version == Version::Http11
            && !matches!(framing, Framing::None | Framing::Length(0));
        Ok(Self {
            host,
            framing,
            connection,
            expects_continue,
        })
    }
}

/// Turns a part of the parsed bytes into its place.
#[derive(Clone, Copy)]
struct Place {
    base: usize,
}

impl Place {
    fn of(self, part: &[u8]) -> Span {
        // Within the longest head, which fits.
        Span {
            start: (part.as_ptr() as usize - self.base) as u32,
            length: part.len() as u32,
        }
    }
}

fn malformed(
    error: httparse::Error,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Option<RequestHead>, HttpError> {
    Err(match error {
        httparse::Error::TooManyHeaders => limit(LimitKind::HeaderCount, limits.max_headers),
        httparse::Error::Version => {
            let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
                return Ok(None); // The rest of the line tells 505 from 400.
            };
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            let mut parts = line.split(|&b| b == b' ').skip(2);
            match (parts.next(), parts.next()) {
                (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    PeerFault::Version.into()
                }
                _ => PeerFault::RequestLine.into(),
            }
        }
        httparse::Error::Token | httparse::Error::Status => PeerFault::RequestLine.into(),
        httparse::Error::HeaderName => PeerFault::HeaderLine.into(),
        httparse::Error::HeaderValue => PeerFault::HeaderValue.into(),
        httparse::Error::NewLine => PeerFault::LineEnd.into(),
    })
}

/// Bytes of empty lines to skip before the request line.
fn empty_lines(buffer: &[u8]) -> usize {
    let lines = buffer
        .chunks_exact(2)
        .take(MAX_EMPTY_LINES)
        .take_while(|c| *c == b"\r\n");
    2 * lines.count()
}

fn check_request_line(bytes: &[u8], limits: &Limits) -> Result<(), HttpError> {
    // The longest line allowed, with its CRLF.
    let longest = limits.max_request_line.saturating_add(2);
    if bytes.len() >= longest && !bytes[..longest].contains(&b'\n') {
        return Err(limit(LimitKind::RequestLine, limits.max_request_line));
    }
    Ok(())
}

fn limit(limit: LimitKind, max: usize) -> HttpError {
    HttpError::Limit {
        limit,
        max: max as u64,
    }
}
