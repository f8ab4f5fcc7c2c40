//! The head of a request: request line and headers.

use std::{fmt, iter, str};

use super::{chars, connection::ConnectionOptions, framing::Framing};

/// The version of a request. Others are refused with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}

/// A request's head, checked and in one buffer of its own.
///
/// [`HeadParser`](super::HeadParser) makes it. It owns the head's bytes, in exactly one allocation,
/// and where the headers' lines begin in them, in another.
pub struct RequestHead {
    /// With the empty line behind the headers. All lines end in CRLF.
    pub(super) bytes: Box<[u8]>,
    // No more than that: the head of an upgraded request lives as long as the connection.
    pub(super) lines: Box<[u32]>,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    /// The authority: out of an absolute-form target, else the value of `Host`.
    pub(super) host: Option<Span>,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) connection: ConnectionOptions,
    pub(super) expects_continue: bool,
}

/// A part of a head's bytes. `u32` because `Limits::max_head_size` is at most that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

/// The headers of a request in the order they came: name as sent, and value without the white
/// space around it.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    lines: &'a [u32],
}

impl RequestHead {
    /// The method as sent, for example `GET`. Methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The target as sent.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The path of the target, not decoded. It begins with `/`, or is `*` for a request that
    /// concerns the whole server (`OPTIONS *`).
    pub fn path(&self) -> &str {
        match self.text(self.path) {
            // Absolute-form without a path (RFC 9112 sections 3.2.1 and 3.2.4).
            "" if self.method() == "OPTIONS" && self.query.is_none() => "*",
            "" => "/",
            path => path,
        }
    }

    /// The query of the target: what follows the first `?`, not decoded.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// The host with its port if any: of the target if that is in absolute form (RFC 9112 section
    /// 3.2.2), else of the `Host` header. `None` only in HTTP/1.0; it may be empty.
    pub fn host(&self) -> Option<&str> {
        self.host.map(|span| self.text(span))
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body is delimited.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The options of all `Connection` headers.
    pub fn connection(&self) -> ConnectionOptions {
        self.connection
    }

    /// Whether the peer wants the connection to persist (RFC 9112 section 9.3): in 1.1 unless it
    /// says `close`, in 1.0 if it says `keep-alive` and not `close`.
    pub fn keep_alive(&self) -> bool {
        !self.connection.close && (self.version == Version::Http11 || self.connection.keep_alive)
    }

    /// Whether the peer waits for `100 Continue` before it sends the body (RFC 9110 section
    /// 10.1.1). Never in HTTP/1.0, and never without a body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// All headers.
    pub fn headers(&self) -> Headers<'_> {
        Headers {
            bytes: &self.bytes,
            lines: &self.lines,
        }
    }

    /// The value of the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        // It is no name, and could be found in a line with another colon in its value.
        if name.contains(':') {
            return None;
        }
        let line = self.headers().lines().find(|line| {
            line.get(name.len()) == Some(&b':')
                && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(chars::trim(&line[name.len() + 1..]))
    }

    /// The request line as sent, without its CRLF.
    pub fn request_line(&self) -> &str {
        let end = self
            .bytes
            .iter()
            .position(|&b| b == b'\r')
            .unwrap_or(self.bytes.len());
        ascii(&self.bytes[..end])
    }

    fn text(&self, span: Span) -> &str {
        ascii(span.of(&self.bytes))
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("headers", &self.lines.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.next_line()?;
        // httparse takes no other: the name ends at the first colon, and has no space behind it.
        let colon = line.iter().position(|&b| b == b':')?;
        Some((ascii(&line[..colon]), chars::trim(&line[colon + 1..])))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.lines.len(), Some(self.lines.len()))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl<'a> Headers<'a> {
    /// The next header as sent, without its CRLF.
    fn next_line(&mut self) -> Option<&'a [u8]> {
        let (&start, rest) = self.lines.split_first()?;
        self.lines = rest;
        // The empty line is two bytes.
        let end = rest
            .first()
            .map_or(self.bytes.len() - 2, |&next| next as usize);
        Some(&self.bytes[start as usize..end - 2])
    }

    fn lines(mut self) -> impl Iterator<Item = &'a [u8]> {
        iter::from_fn(move || self.next_line())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        })
    }
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..self.length as usize]
    }
}

/// Text that the parser found to be ASCII.
fn ascii(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}
