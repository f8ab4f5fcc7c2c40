//! The bytes of a response: status line, headers, framed body.

use super::{
    chars,
    error::{ApplicationFault, HttpError},
    head::{RequestHead, Version},
    wire::{checked, status_code, write_decimal, write_header, write_hex, write_status_line},
};

/// Writes one response.
///
/// The calls come in this order: [`start`](Self::start), which may be repeated as PEP 3333's
/// `start_response` with `exc_info` may; [`head`](Self::head), once, when the first byte of the
/// body or its end is known; [`data`](Self::data) for the body, or [`begin`](Self::begin) and
/// [`end`](Self::end) around a payload that is sent without being copied; [`finish`](Self::finish).
///
/// No CR, LF or NUL gets out in a status or a header, whatever the application passes.
#[derive(Debug)]
pub struct ResponseEncoder {
    /// The request's method was HEAD: headers as for GET, but no body.
    to_head: bool,
    version: Version,
    /// Whether the connection persists after this response.
    keep_alive: bool,
    /// Where this response begins in the output.
    base: usize,
    status: u16,
    declared: Option<u64>,
    has_date: bool,
    has_server: bool,
    /// Options of the application's `Connection` headers other than `close` and `keep-alive`.
    options: String,
    /// The body ends with the connection.
    until_close: bool,
    phase: Phase,
}

/// What the server adds to a response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// The date and time in the format of RFC 9110 section 5.6.7.
    pub date: &'a str,
    /// The `Server` header; empty for none.
    pub server: &'a str,
    /// Whether the server, for its part, would keep the connection.
    pub keep_alive: bool,
}

/// What becomes of a piece of body after [`ResponseEncoder::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Send it.
    Send,
    /// Drop it: the response has no body, as the answer to HEAD.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing yet.
    New,
    /// Status and the application's headers are in the output.
    Started,
    /// No body follows: HEAD, 204, 304. `allowed` says that one is dropped rather than refused.
    NoBody {
        allowed: bool,
    },
    /// So many bytes of body are still to come.
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
    Finished,
}

impl ResponseEncoder {
    /// An encoder for the response to `request`.
    pub fn new(request: &RequestHead) -> Self {
        Self::with(
            request.method() == "HEAD",
            request.version(),
            request.keep_alive(),
        )
    }

    /// An encoder for the answer to a request that could not be read; the connection closes after
    /// it. `to_head`: whether the request's method was HEAD nevertheless.
    pub fn refusal(to_head: bool) -> Self {
        Self::with(to_head, Version::Http11, false)
    }

    fn with(to_head: bool, version: Version, keep_alive: bool) -> Self {
        Self {
            to_head,
            version,
            keep_alive,
            base: 0,
            status: 0,
            declared: None,
            has_date: false,
            has_server: false,
            options: String::new(),
            until_close: false,
            phase: Phase::New,
        }
    }

    /// Begins the response with a status, for example `200 OK`, and the application's headers,
    /// appended to `out`. Called again before [`head`](Self::head) it takes back what it appended
    /// and begins anew; nothing else may have been appended meanwhile.
    ///
    /// A `Connection: close` among the headers closes the connection after the response. Text
    /// outside ASCII goes out as UTF-8. Values lose the white space around them.
    ///
    /// # Errors
    ///
    /// [`ApplicationFault::Status`], [`HeaderName`](ApplicationFault::HeaderName),
    /// [`HeaderValue`](ApplicationFault::HeaderValue), [`HopByHop`](ApplicationFault::HopByHop),
    /// [`ContentLength`](ApplicationFault::ContentLength), and
    /// [`HeadSent`](ApplicationFault::HeadSent) when it is too late. After any other than the
    /// last it is as if `start` had not been called.
    pub fn start<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        out: &mut Vec<u8>,
        status: &str,
        headers: &[(N, V)],
    ) -> Result<(), HttpError> {
        match self.phase {
            Phase::New => self.base = out.len(),
            Phase::Started => out.truncate(self.base),
            _ => return Err(ApplicationFault::HeadSent.into()),
        }
        self.phase = Phase::New;
        self.declared = None;
        self.has_date = false;
        self.has_server = false;
        self.options.clear();
        let result = self.write_start(out, status, headers);
        match result {
            Ok(()) => self.phase = Phase::Started,
            Err(_) => out.truncate(self.base),
        }
        result.map_err(HttpError::from)
    }

    fn write_start<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        out: &mut Vec<u8>,
        status: &str,
        headers: &[(N, V)],
    ) -> Result<(), ApplicationFault> {
        self.status = status_code(status).ok_or(ApplicationFault::Status)?;
        write_status_line(out, status);
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), checked(name.as_ref(), value.as_ref())?);
            match name.len() {
                4 if name.eq_ignore_ascii_case("date") => self.has_date = true,
                6 if name.eq_ignore_ascii_case("server") => self.has_server = true,
                10 if name.eq_ignore_ascii_case("connection") => {
                    self.connection(value);
                    continue;
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let length = chars::decimal(value.as_bytes());
                    if self.declared.is_some() || length.is_none() {
                        return Err(ApplicationFault::ContentLength);
                    }
                    self.declared = length;
                    continue;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    return Err(ApplicationFault::HopByHop);
                }
                _ => {}
            }
            write_header(out, name, value);
        }
        Ok(())
    }

    /// Completes the head in `out`. `length` is the length of the body if it is known; otherwise
    /// the body is chunked on HTTP/1.1 and ends with the connection on 1.0, unless the application
    /// has declared a `Content-Length`.
    ///
    /// # Errors
    ///
    /// [`ApplicationFault::NotStarted`]; [`BodyNotAllowed`](ApplicationFault::BodyNotAllowed) for
    /// a 204, 205 or 304 with a body; [`BodyTooLong`](ApplicationFault::BodyTooLong) and
    /// [`BodyTooShort`](ApplicationFault::BodyTooShort) if the length is known and contradicts the
    /// declared one; [`HeadSent`](ApplicationFault::HeadSent) if called twice. Nothing has to have
    /// been sent by then, so a 500 can still take the response's place (see
    /// [`refusal`](Self::refusal)).
    pub fn head(
        &mut self,
        out: &mut Vec<u8>,
        length: Option<u64>,
        context: &ResponseContext<'_>,
    ) -> Result<(), HttpError> {
        match self.phase {
            Phase::Started => {}
            Phase::New => return Err(ApplicationFault::NotStarted.into()),
            _ => return Err(ApplicationFault::HeadSent.into()),
        }
        let without_body = matches!(self.status, 204 | 304);
        if (without_body || self.status == 205) && length.is_some_and(|length| length > 0) {
            return Err(ApplicationFault::BodyNotAllowed.into());
        }
        // A HEAD-aware application declares a length and returns nothing.
        let announces_only = without_body || (self.to_head && length == Some(0));
        if let (Some(declared), Some(length), false) = (self.declared, length, announces_only)
            && length != declared
        {
            return Err(mismatch(length > declared).into());
        }
        // RFC 9110 sections 8.6 and 15.3.6.
        if matches!(self.status, 204 | 205) && self.declared.is_some_and(|length| length > 0) {
            return Err(ApplicationFault::ContentLength.into());
        }

        let announced = match (self.declared, length) {
            (Some(declared), _) => Some(declared),
            (None, _) if self.status == 205 => Some(0),
            // Nothing is said about what GET would have given.
            (None, _) if announces_only => None,
            (None, length) => length,
        };
        let body = match announced {
            Some(length) => Phase::Length(length),
            None if announces_only => Phase::NoBody { allowed: false },
            None if self.version == Version::Http11 => Phase::Chunked,
            None => Phase::UntilClose,
        };
        // RFC 9110 section 8.6: never in a 204.
        if let (Some(length), false) = (announced, self.status == 204) {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        if body == Phase::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        // The end of HEAD's answer is known whatever would have followed.
        let ends_itself = body != Phase::UntilClose || self.to_head;
        self.keep_alive &= context.keep_alive && ends_itself;
        self.write_context(out, context);
        self.until_close = body == Phase::UntilClose && !self.to_head;
        self.phase = if without_body {
            Phase::NoBody { allowed: false }
        } else if self.to_head {
            Phase::NoBody { allowed: true }
        } else {
            body
        };
        Ok(())
    }

    /// Appends a piece of body, framed, to `out`. An empty piece is nothing, not an end.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn data(&mut self, out: &mut Vec<u8>, piece: &[u8]) -> Result<(), HttpError> {
        if self.begin(out, piece.len())? == Payload::Send {
            out.extend_from_slice(piece);
            self.end(out);
        }
        Ok(())
    }

    /// Appends to `out` what precedes a piece of body of `length` bytes, for a caller that sends
    /// the piece itself from where it lies, and then calls [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// [`ApplicationFault::BodyTooLong`] if the piece is more than the announced length; none of
    /// it may be sent. [`BodyNotAllowed`](ApplicationFault::BodyNotAllowed) with 204 and 304;
    /// [`NotStarted`](ApplicationFault::NotStarted) before [`head`](Self::head).
    pub fn begin(&mut self, out: &mut Vec<u8>, length: usize) -> Result<Payload, HttpError> {
        match &mut self.phase {
            Phase::New | Phase::Started => Err(ApplicationFault::NotStarted.into()),
            _ if length == 0 => Ok(Payload::Drop),
            Phase::NoBody { allowed: true } => Ok(Payload::Drop),
            Phase::NoBody { allowed: false } => Err(ApplicationFault::BodyNotAllowed.into()),
            Phase::Length(left) => {
                *left = left
                    .checked_sub(length as u64)
                    .ok_or(ApplicationFault::BodyTooLong)?;
                Ok(Payload::Send)
            }
            Phase::Chunked => {
                write_hex(out, length);
                out.extend_from_slice(b"\r\n");
                Ok(Payload::Send)
            }
            Phase::UntilClose => Ok(Payload::Send),
            Phase::Finished => Err(ApplicationFault::BodyTooLong.into()),
        }
    }

    /// Appends to `out` what follows a piece of body that was [begun](Self::begin) and sent.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        if self.phase == Phase::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of the body to `out`.
    ///
    /// # Errors
    ///
    /// [`ApplicationFault::BodyTooShort`] if less than the announced length was sent: the
    /// connection has to be cut, for the peer would take the next response for the rest.
    /// [`NotStarted`](ApplicationFault::NotStarted) before [`head`](Self::head).
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), HttpError> {
        match self.phase {
            Phase::New | Phase::Started => return Err(ApplicationFault::NotStarted.into()),
            Phase::Length(left) if left > 0 => return Err(ApplicationFault::BodyTooShort.into()),
            Phase::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            _ => {}
        }
        self.phase = Phase::Finished;
        Ok(())
    }

    /// The status of the last [`start`](Self::start); 0 before it.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the request's method is HEAD, so that the response has no body.
    pub fn is_to_head(&self) -> bool {
        self.to_head
    }

    /// Whether the body ends with the connection, so that a peer cannot tell a response that was
    /// broken off from a whole one.
    pub fn ends_with_connection(&self) -> bool {
        self.until_close
    }

    /// Whether `start` was called and `head` was not.
    pub fn is_started(&self) -> bool {
        self.phase == Phase::Started
    }

    /// Whether [`head`](Self::head) was called: bytes may be on their way.
    pub fn head_written(&self) -> bool {
        !matches!(self.phase, Phase::New | Phase::Started)
    }

    /// Whether the response is complete.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether the connection persists after this response; final once `head` was called.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    fn connection(&mut self, value: &str) {
        for option in chars::list(value.as_bytes()) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            } else if chars::is_token(option) && !option.eq_ignore_ascii_case(b"keep-alive") {
                self.options.push_str(", ");
                self.options.extend(option.iter().map(|&b| b as char));
            }
        }
    }

    fn write_context(&self, out: &mut Vec<u8>, context: &ResponseContext<'_>) {
        if !self.has_date {
            write_header(out, "Date", context.date);
        }
        if !self.has_server && !context.server.is_empty() {
            write_header(out, "Server", context.server);
        }
        // RFC 9112 section 9.3: 1.1 persists unless told otherwise, 1.0 only if told so.
        let option = match (self.keep_alive, self.version) {
            (false, _) => "close",
            (true, Version::Http10) => "keep-alive",
            (true, Version::Http11) => "",
        };
        let options = match option {
            "" => self.options.strip_prefix(", ").unwrap_or_default(),
            _ => &self.options,
        };
        if !option.is_empty() || !options.is_empty() {
            out.extend_from_slice(b"Connection: ");
            out.extend_from_slice(option.as_bytes());
            out.extend_from_slice(options.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn mismatch(longer: bool) -> ApplicationFault {
    if longer {
        ApplicationFault::BodyTooLong
    } else {
        ApplicationFault::BodyTooShort
    }
}
