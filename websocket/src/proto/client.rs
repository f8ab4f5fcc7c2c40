//! The client's side of the opening handshake (RFC 6455, 4.1), without a socket.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::handshake::{accept_key, elements, is_token, shown};
use super::{Deflate, DeflateParams, Extension, Url};

/// The longest head of a response, in bytes, together with those that say that another is to come
/// (1xx): 64 KiB. Servers and proxies set cookies and policies generously, but not that much.
pub const MAX_RESPONSE_HEAD: usize = 64 << 10;

/// How many header lines a response may have.
const MAX_RESPONSE_HEADERS: usize = 128;

/// A client's request for a WebSocket, and its judgement of the answer.
///
/// ```
/// use greenwood_websocket::proto::{ClientHandshake, ResponseHead, Url};
///
/// let url = Url::parse("ws://localhost:8000/chat").unwrap();
/// // Sixteen random bytes, in earnest.
/// let handshake = ClientHandshake::new(url, *b"the sample nonce");
/// assert!(handshake.request().starts_with(b"GET /chat HTTP/1.1\r\nHost: localhost:8000\r\n"));
///
/// let response = b"HTTP/1.1 101 Switching Protocols\r\n\
///     Upgrade: websocket\r\n\
///     Connection: Upgrade\r\n\
///     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// let (response, used) = ResponseHead::parse(response).unwrap().unwrap();
/// assert!(handshake.check(&response).is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    url: Url,
    key: String,
    subprotocols: Vec<String>,
    deflate: Option<Deflate>,
    headers: Vec<(String, String)>,
}

impl ClientHandshake {
    /// A request for the WebSocket at `url`. The nonce is to be random (RFC 6455, 4.1).
    pub fn new(url: Url, nonce: [u8; 16]) -> ClientHandshake {
        ClientHandshake {
            url,
            key: STANDARD.encode(nonce),
            subprotocols: Vec::new(),
            deflate: None,
            headers: Vec::new(),
        }
    }

    /// Offers a further subprotocol, the preferred one first.
    ///
    /// # Errors
    ///
    /// It is not a token (RFC 9110, 5.6.2), or offered already.
    pub fn subprotocol(&mut self, name: &str) -> Result<(), RequestError> {
        if !is_token(name) || self.subprotocols.iter().any(|known| known == name) {
            return Err(RequestError::Subprotocol(name.to_owned()));
        }
        self.subprotocols.push(name.to_owned());
        Ok(())
    }

    /// Offers permessage-deflate.
    pub fn deflate(&mut self, settings: Deflate) {
        self.deflate = Some(settings);
    }

    /// Adds a header line. A Host, an Authorization or a User-Agent takes the place of our own.
    ///
    /// # Errors
    ///
    /// The name is not a token or one of the handshake's own, or the value has control characters
    /// or blanks at its ends: it would not arrive as it is.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), RequestError> {
        let is_own = name
            .get(..OWN_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
            || OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        let is_plain = value.trim_ascii() == value
            && value
                .bytes()
                .all(|byte| byte == b'\t' || !byte.is_ascii_control());
        if !is_token(name) || is_own || !is_plain {
            return Err(RequestError::Header {
                name: name.to_owned(),
                is_own,
            });
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The request as bytes.
    pub fn request(&self) -> Vec<u8> {
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut request = format!("GET {} HTTP/1.1\r\n", self.url.target());
        let mut line = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        if !given("host") {
            line("Host", self.url.host_header());
        }
        line("Upgrade", "websocket");
        line("Connection", "Upgrade");
        line("Sec-WebSocket-Version", "13");
        line("Sec-WebSocket-Key", &self.key);
        if !self.subprotocols.is_empty() {
            line("Sec-WebSocket-Protocol", &self.subprotocols.join(", "));
        }
        if let Some(deflate) = &self.deflate {
            line("Sec-WebSocket-Extensions", &deflate.offer());
        }
        if let Some(authorization) = self.url.authorization()
            && !given("authorization")
        {
            line("Authorization", authorization);
        }
        if !given("user-agent") {
            line("User-Agent", USER_AGENT);
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// Judges the answer by RFC 6455, 4.1.
    ///
    /// # Errors
    ///
    /// The server did not agree ([`ResponseError::Status`]), or answered what no server may: then
    /// the connection is not a WebSocket, and is to be closed.
    pub fn check(&self, response: &ResponseHead) -> Result<Agreement, ResponseError> {
        if response.status != 101 {
            return Err(ResponseError::Status(response.status));
        }
        // RFC 9110, 7.8: HTTP/1.0 has no Upgrade.
        if response.version != (1, 1) {
            return Err(ResponseError::HttpVersion(
                response.version.0,
                response.version.1,
            ));
        }
        // "contains a value that is not an ASCII case-insensitive match for the value
        // "websocket"": one, and no other.
        let mut upgrade = response.list("upgrade");
        if !(upgrade
            .next()
            .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            && upgrade.next().is_none())
        {
            return Err(ResponseError::Upgrade);
        }
        if !response
            .list("connection")
            .any(|value| value.eq_ignore_ascii_case(b"upgrade"))
        {
            return Err(ResponseError::Connection);
        }
        let mut accept = response.header_values("sec-websocket-accept");
        if accept.next().map(<[u8]>::trim_ascii) != Some(accept_key(&self.key).as_bytes())
            || accept.next().is_some()
        {
            return Err(ResponseError::Accept);
        }
        Ok(Agreement {
            subprotocol: self.agreed_subprotocol(response)?,
            deflate: self.agreed_deflate(response)?,
        })
    }

    fn agreed_subprotocol(&self, response: &ResponseHead) -> Result<Option<String>, ResponseError> {
        // 11.3.4: not more than once in a response, and then it is one.
        let mut values = response.header_values("sec-websocket-protocol");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let offered = self
            .subprotocols
            .iter()
            .find(|name| name.as_bytes() == value.trim_ascii());
        match (offered, values.next()) {
            (Some(name), None) => Ok(Some(name.clone())),
            _ => Err(ResponseError::Subprotocol(shown(value))),
        }
    }

    fn agreed_deflate(
        &self,
        response: &ResponseHead,
    ) -> Result<Option<DeflateParams>, ResponseError> {
        let mut agreed = None;
        for line in response.header_values("sec-websocket-extensions") {
            let error = || ResponseError::Extension(shown(line));
            for extension in Extension::parse_list(line).map_err(|_| error())? {
                // "an extension that was not present in the client's handshake", or in an
                // impossible way, or twice.
                let params = self
                    .deflate
                    .and_then(|settings| settings.accepted(&extension))
                    .filter(|_| agreed.is_none());
                agreed = Some(params.ok_or_else(error)?);
            }
        }
        Ok(agreed)
    }
}

/// The value of User-Agent, where none is given.
const USER_AGENT: &str = concat!("greenwood/", env!("CARGO_PKG_VERSION"));

/// Headers that belong to the handshake, or would give the request a body.
const OWN: [&str; 5] = [
    "Upgrade",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
];
const OWN_PREFIX: &str = "Sec-WebSocket-";

/// What client and server have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreement {
    /// The subprotocol that the server has chosen of those offered; none: none.
    pub subprotocol: Option<String>,
    /// What was agreed on for permessage-deflate; none: no compression.
    pub deflate: Option<DeflateParams>,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    status: u16,
    reason: String,
    version: (u8, u8),
    headers: Vec<(String, Vec<u8>)>,
}

impl ResponseHead {
    /// Reads the head of the final response at the front of `bytes`; returns it with the length of
    /// what came before its body, or `None` when more bytes are needed. Responses that say that
    /// another is to come (1xx but 101) are passed over.
    ///
    /// # Errors
    ///
    /// It is no HTTP/1 response, or longer than [`MAX_RESPONSE_HEAD`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        let mut at = 0;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_RESPONSE_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = httparse::ParserConfig::default()
                .allow_obsolete_multiline_headers_in_responses(true)
                .parse_response(&mut response, &bytes[at..])
                .map_err(|error| ResponseError::Malformed(error.to_string()))?;
            let used = match parsed {
                httparse::Status::Complete(used) => at + used,
                httparse::Status::Partial => bytes.len(),
            };
            if used > MAX_RESPONSE_HEAD {
                return Err(ResponseError::TooLong);
            }
            if parsed.is_partial() {
                return Ok(None);
            }
            let status = response.code.unwrap_or_default();
            // RFC 9110, 15.2: "A client MUST be able to parse one or more 1xx responses received
            // prior to a final response".
            if (100..200).contains(&status) && status != 101 {
                at = used;
                continue;
            }
            let headers = response
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), unfolded(header.value)));
            let head = ResponseHead {
                status,
                reason: response.reason.unwrap_or_default().to_owned(),
                version: (1, response.version.unwrap_or_default()),
                headers: headers.collect(),
            };
            return Ok(Some((head, used)));
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The text behind the status code; it may be empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The headers in the order of the response.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The values of all header lines of this name, of any case.
    pub fn header_values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        self.headers()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        self.header_values(name).flat_map(elements)
    }
}

/// A value in one line: "A user agent that receives an obs-fold in a response message ... MUST replace
/// each received obs-fold with one or more SP octets" (RFC 9112, 5.2).
fn unfolded(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(&b' ')
}

/// The caller's mistake: a request that can't be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// A subprotocol that is not a token, or is offered twice.
    Subprotocol(String),
    /// A header that can't be sent.
    Header {
        /// Its name.
        name: String,
        /// It belongs to the handshake: there are other ways to ask for it, if any.
        is_own: bool,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Subprotocol(name) => {
                write!(
                    f,
                    "the subprotocol {name:?} is not a token, or offered twice"
                )
            }
            RequestError::Header { name, is_own: true } => {
                write!(f, "the header {name:?} belongs to the handshake itself")
            }
            // The value may be a secret.
            RequestError::Header { name, .. } => {
                write!(
                    f,
                    "the header {name:?} can't be sent: its name is not a token, or its value has control characters or outer blanks"
                )
            }
        }
    }
}

impl std::error::Error for RequestError {}

/// Why an answer does not make a connection a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// It is no HTTP/1 response; why.
    Malformed(String),
    /// Its head is longer than [`MAX_RESPONSE_HEAD`].
    TooLong,
    /// The server did not agree: another status than 101. Redirections are not followed.
    Status(u16),
    /// The HTTP version, major and minor, is not 1.1.
    HttpVersion(u8, u8),
    /// Upgrade is not "websocket".
    Upgrade,
    /// Connection does not have "upgrade".
    Connection,
    /// Sec-WebSocket-Accept is missing, repeated, or not the one that belongs to the key: the
    /// server does not speak WebSocket, or a cache has answered.
    Accept,
    /// The server chose a subprotocol that was not offered, or more than one.
    Subprotocol(String),
    /// The server uses an extension that was not offered, or in a way that was not.
    Extension(String),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseError::Malformed(why) => write!(f, "the answer is not HTTP: {why}"),
            ResponseError::TooLong => {
                write!(
                    f,
                    "the answer's head is longer than {MAX_RESPONSE_HEAD} bytes"
                )
            }
            ResponseError::Status(status @ 300..400) => {
                write!(
                    f,
                    "the server answered {status}: redirections are not followed"
                )
            }
            ResponseError::Status(status) => write!(f, "the server answered {status}, not 101"),
            ResponseError::HttpVersion(major, minor) => {
                write!(
                    f,
                    "the server switches protocols in HTTP/{major}.{minor}, which has no Upgrade"
                )
            }
            ResponseError::Upgrade => f.write_str("the answer's Upgrade is not websocket"),
            ResponseError::Connection => f.write_str("the answer's Connection has no upgrade"),
            ResponseError::Accept => {
                f.write_str("the answer's Sec-WebSocket-Accept does not belong to the key")
            }
            ResponseError::Subprotocol(value) => {
                write!(
                    f,
                    "the server chose the subprotocol \"{value}\", which was not offered"
                )
            }
            ResponseError::Extension(value) => {
                write!(
                    f,
                    "the server's extensions \"{value}\" are not what was offered"
                )
            }
        }
    }
}

impl std::error::Error for ResponseError {}
