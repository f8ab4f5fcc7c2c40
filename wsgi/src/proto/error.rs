//! What can go wrong in HTTP, by whose fault, and the status that answers it.

use std::fmt;

/// Why a request or a response was refused.
///
/// The variant says whose fault it is, [`status_hint`](Self::status_hint) what to answer. After any
/// of them the connection has to be closed, since where the next request begins is not known.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The peer broke the protocol, or asked for what is not implemented.
    Peer(PeerFault),
    /// The peer passed a limit of [`Limits`](super::Limits), or of time.
    Limit {
        /// Which limit was passed.
        limit: LimitKind,
        /// Its value: bytes, a number of headers, or milliseconds.
        max: u64,
    },
    /// The application asked for a response that HTTP does not allow.
    Application(ApplicationFault),
}

/// How the peer broke the protocol.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// The request line is not `method SP target SP version` (RFC 9112 section 3).
    RequestLine,
    /// The target has none of the forms of RFC 9112 section 3.2 that fit the method.
    Target,
    /// The version is well-formed and neither 1.0 nor 1.1.
    Version,
    /// `CONNECT` asks for a tunnel, which an origin server does not offer.
    Connect,
    /// A header line without a colon, with a space before it, folded (`obs-fold`), or with a name
    /// that is no token (RFC 9112 section 5).
    HeaderLine,
    /// A control character in a header's value.
    HeaderValue,
    /// A line that ends in a bare LF, or a CR that ends none (RFC 9112 section 2.2).
    LineEnd,
    /// HTTP/1.1 without `Host` (RFC 9112 section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` is not a host with an optional port.
    HostInvalid,
    /// `Content-Length` is not a plain decimal number.
    ContentLength,
    /// More than one `Content-Length`, equal or not.
    ContentLengthRepeated,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 section 6.1).
    LengthAndCoding,
    /// `Transfer-Encoding` is malformed, or `chunked` is not its last and only use.
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    TransferCodingUnknown,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    TransferEncodingOnOldVersion,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// The chunk size is not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// A chunk extension with a control character in it.
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    ChunkEnd,
    /// A malformed trailer field.
    Trailer,
    /// The connection ended within the head.
    HeadTruncated,
    /// The connection ended within the body.
    BodyTruncated,
}

/// Which limit the peer passed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// [`Limits::max_request_line`](super::Limits::max_request_line).
    RequestLine,
    /// [`Limits::max_headers`](super::Limits::max_headers).
    HeaderCount,
    /// [`Limits::max_head_size`](super::Limits::max_head_size).
    HeadSize,
    /// [`Limits::max_body_size`](super::Limits::max_body_size).
    BodySize,
    /// [`Limits::max_chunk_extensions`](super::Limits::max_chunk_extensions).
    ChunkExtensions,
    /// [`Limits::max_trailers`](super::Limits::max_trailers).
    Trailers,
    /// The time for the head, in milliseconds.
    HeadTime,
    /// The time for the body, in milliseconds: for a pause in it, and beyond the minimum rate.
    BodyTime,
}

/// What the application did that a response cannot express.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplicationFault {
    /// The status is not three digits of 200 to 599 with an optional reason phrase, or has a
    /// control character in it.
    Status,
    /// A header's name is not a token.
    HeaderName,
    /// A header's value has a CR, LF, NUL or another control character in it.
    HeaderValue,
    /// `Transfer-Encoding` is the server's to set (PEP 3333, hop-by-hop headers).
    HopByHop,
    /// `Content-Length` is not a number, was given twice, or contradicts the status.
    ContentLength,
    /// The body is longer than the announced length.
    BodyTooLong,
    /// The body ended before the announced length.
    BodyTooShort,
    /// A body for a status that has none (204, 205, 304).
    BodyNotAllowed,
    /// The body began, or the call ended, before `start_response` was called.
    NotStarted,
    /// `start_response` was called after the head had gone out.
    HeadSent,
}

impl HttpError {
    /// The status to answer with, as far as an answer can still be sent.
    ///
    /// 400, 408, 413, 414, 417, 431, 501 and 505 for the peer's faults, 500 for the application's.
    pub fn status_hint(&self) -> u16 {
        match self {
            Self::Peer(fault) => match fault {
                PeerFault::Version => 505,
                PeerFault::Connect | PeerFault::TransferCodingUnknown => 501,
                PeerFault::Expectation => 417,
                _ => 400,
            },
            Self::Limit { limit, .. } => match limit {
                LimitKind::RequestLine => 414,
                LimitKind::HeaderCount | LimitKind::HeadSize => 431,
                LimitKind::BodySize => 413,
                LimitKind::ChunkExtensions | LimitKind::Trailers => 400,
                LimitKind::HeadTime | LimitKind::BodyTime => 408,
            },
            Self::Application(_) => 500,
        }
    }

    /// The cause in a few lower-case words, without anything the peer sent.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Peer(fault) => fault.reason(),
            Self::Limit { limit, .. } => limit.reason(),
            Self::Application(fault) => fault.reason(),
        }
    }

    /// Whether the peer is to blame, rather than the application.
    pub fn is_peer_fault(&self) -> bool {
        !matches!(self, Self::Application(_))
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        match self {
            Self::Limit { limit, max } => write!(f, " of {max} {}", limit.unit()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<PeerFault> for HttpError {
    fn from(fault: PeerFault) -> Self {
        Self::Peer(fault)
    }
}

impl From<ApplicationFault> for HttpError {
    fn from(fault: ApplicationFault) -> Self {
        Self::Application(fault)
    }
}

impl PeerFault {
    fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "malformed request line",
            Self::Target => "request target does not fit the method",
            Self::Version => "http version not supported",
            Self::Connect => "connect is not implemented",
            Self::HeaderLine => "malformed header line",
            Self::HeaderValue => "control character in a header value",
            Self::LineEnd => "line does not end in crlf",
            Self::HostMissing => "host header missing",
            Self::HostRepeated => "host header repeated",
            Self::HostInvalid => "host header invalid",
            Self::ContentLength => "content-length is not a number",
            Self::ContentLengthRepeated => "content-length repeated",
            Self::LengthAndCoding => "both content-length and transfer-encoding",
            Self::TransferEncoding => "transfer-encoding malformed or chunked not last",
            Self::TransferCodingUnknown => "transfer coding not implemented",
            Self::TransferEncodingOnOldVersion => "transfer-encoding in http/1.0",
            Self::Expectation => "expectation other than 100-continue",
            Self::ChunkSize => "invalid chunk size",
            Self::ChunkExtension => "invalid chunk extension",
            Self::ChunkEnd => "chunk data not followed by crlf",
            Self::Trailer => "malformed trailer field",
            Self::HeadTruncated => "connection ended within the head",
            Self::BodyTruncated => "connection ended within the body",
        }
    }
}

impl LimitKind {
    fn reason(self) -> &'static str {
        match self {
            Self::RequestLine => "request line over the limit",
            Self::HeaderCount => "number of headers over the limit",
            Self::HeadSize => "request head over the limit",
            Self::BodySize => "request body over the limit",
            Self::ChunkExtensions => "chunk extensions over the limit",
            Self::Trailers => "trailers over the limit",
            Self::HeadTime => "request head not received within the limit",
            Self::BodyTime => "request body not received within the limit",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::HeaderCount => "headers",
            Self::HeadTime | Self::BodyTime => "ms",
            _ => "bytes",
        }
    }
}

impl ApplicationFault {
    fn reason(self) -> &'static str {
        match self {
            Self::Status => "invalid response status",
            Self::HeaderName => "invalid response header name",
            Self::HeaderValue => "control character in a response header value",
            Self::HopByHop => "transfer-encoding set by the application",
            Self::ContentLength => "invalid content-length in the response",
            Self::BodyTooLong => "response body longer than its content-length",
            Self::BodyTooShort => "response body shorter than its content-length",
            Self::BodyNotAllowed => "response body for a status that has none",
            Self::NotStarted => "start_response was not called",
            Self::HeadSent => "start_response called after the head was sent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small() {
        assert!(size_of::<HttpError>() <= 16);
    }

    #[test]
    fn display_is_lower_case_and_names_the_limit() {
        let error = HttpError::Limit {
            limit: LimitKind::RequestLine,
            max: 8192,
        };
        assert_eq!(
            error.to_string(),
            "request line over the limit of 8192 bytes"
        );
        let error = HttpError::from(PeerFault::HostMissing);
        assert_eq!(error.to_string(), "host header missing");
        assert_eq!(error.to_string(), error.to_string().to_lowercase());
    }
}
