//! The server's side of the opening handshake (RFC 6455, 4.2), over any HTTP request.

use std::borrow::Cow;
use std::fmt;

use super::{Deflate, DeflateParams, Extension};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// What the handshake asks of an HTTP request.
pub trait RequestView {
    /// The method, as "GET".
    fn method(&self) -> &str;
    /// The HTTP version: `(1, 1)` for HTTP/1.1.
    fn version(&self) -> (u8, u8);
    /// The values of all header lines of this name (of any case), in the order of the request.
    fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]>;
}

/// Judges requests.
#[derive(Debug, Clone, Copy)]
pub struct ServerHandshake;

impl ServerHandshake {
    /// True if the request asks for a WebSocket: a GET with "websocket" in Upgrade and "upgrade" in
    /// Connection, of any case, anywhere in the comma-separated lists of one or more lines. Any
    /// other request is one for the plain application.
    ///
    /// In HTTP/1.0 an Upgrade must be ignored (RFC 9110, 7.8), but a client that sends a WebSocket's
    /// handshake has to get an error (RFC 6455, 4.2.1), and wants to know why: mostly it is behind
    /// a proxy that speaks 1.0. So there it takes a Sec-WebSocket-Key, too, to be for a WebSocket.
    pub fn is_upgrade_request(request: &impl RequestView) -> bool {
        request.method() == "GET"
            && has_token(request, "upgrade", b"websocket")
            && has_token(request, "connection", b"upgrade")
            && (request.version() >= (1, 1)
                || request.header_values("sec-websocket-key").next().is_some())
    }

    /// Judges a request by RFC 6455, 4.2.1. No extension is agreed on but by
    /// [`Upgrade::accept_deflate`]. Whether the Host, the Origin and the path are right is for HTTP and the application to say.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::NotWebSocket`] if the plain application should serve the request; any
    /// other error is to be answered with its status, headers and text.
    pub fn check(request: &impl RequestView) -> Result<Upgrade, HandshakeError> {
        if !ServerHandshake::is_upgrade_request(request) {
            return Err(HandshakeError::NotWebSocket);
        }
        // 4.2.1, 1: "An HTTP/1.1 or higher GET request". HTTP/2 has no Upgrade (RFC 8441).
        let (major, minor) = request.version();
        if (major, minor) < (1, 1) {
            return Err(HandshakeError::HttpVersion(major, minor));
        }
        check_version(request)?;
        let key = check_key(request)?;
        Ok(Upgrade {
            accept: accept_key(key),
            subprotocols: subprotocols(request)?,
            extensions: extensions(request)?,
            deflate: None,
        })
    }
}

/// A request that may be answered with 101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The value of Sec-WebSocket-Accept.
    pub accept: String,
    /// The subprotocols that the client offers, the preferred one first.
    pub subprotocols: Vec<String>,
    /// The extensions that the client offers, in its order.
    pub extensions: Vec<Extension>,
    /// What was agreed on for permessage-deflate; none: no compression.
    pub deflate: Option<DeflateParams>,
}

impl Upgrade {
    /// Agrees on permessage-deflate, if the client offers it in a way that `settings` allow.
    pub fn accept_deflate(&mut self, settings: &Deflate) {
        self.deflate = settings.accept(&self.extensions);
    }

    /// The client's favourite among the subprotocols that the server supports.
    pub fn select_subprotocol<'s>(&self, supported: &[&'s str]) -> Option<&'s str> {
        select_subprotocol(self.subprotocols.iter().map(String::as_str), supported)
    }

    /// The headers of the 101 response.
    ///
    /// # Errors
    ///
    /// The subprotocol was not offered: a client has to drop such a connection (RFC 6455, 4.1).
    pub fn response_headers(
        &self,
        subprotocol: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, HandshakeError> {
        let mut headers = vec![
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Accept", self.accept.clone()),
        ];
        if let Some(subprotocol) = subprotocol {
            if !self
                .subprotocols
                .iter()
                .any(|offered| offered == subprotocol)
            {
                return Err(HandshakeError::SubprotocolNotOffered(
                    subprotocol.to_owned(),
                ));
            }
            headers.push(("Sec-WebSocket-Protocol", subprotocol.to_owned()));
        }
        if let Some(deflate) = &self.deflate {
            headers.push(("Sec-WebSocket-Extensions", deflate.answer()));
        }
        Ok(headers)
    }

    /// The head of the 101 response as bytes, with the empty line.
    ///
    /// # Errors
    ///
    /// As [`response_headers`](Upgrade::response_headers).
    pub fn response_head(&self, subprotocol: Option<&str>) -> Result<Vec<u8>, HandshakeError> {
        let mut head = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        for (name, value) in self.response_headers(subprotocol)? {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Ok(head)
    }
}

/// The first of `offered` (the client's order) that is among `supported`. Names are compared
/// exactly.
pub fn select_subprotocol<'o, 's>(
    offered: impl IntoIterator<Item = &'o str>,
    supported: &[&'s str],
) -> Option<&'s str> {
    offered
        .into_iter()
        .find_map(|name| supported.iter().copied().find(|known| *known == name))
}

/// The Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    let mut sha1 = sha1_smol::Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(GUID);
    STANDARD.encode(sha1.digest().bytes())
}

/// Why a request can't become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It does not ask for one; the plain application serves it.
    NotWebSocket,
    /// The HTTP version, major and minor, is below 1.1.
    HttpVersion(u8, u8),
    /// No Sec-WebSocket-Version.
    VersionMissing,
    /// Another Sec-WebSocket-Version than 13, the only one there ever was.
    VersionUnsupported(String),
    /// No Sec-WebSocket-Key.
    KeyMissing,
    /// More than one Sec-WebSocket-Key.
    KeyRepeated,
    /// The Sec-WebSocket-Key is not base64 of 16 bytes.
    KeyInvalid(String),
    /// An element of Sec-WebSocket-Protocol is not a token.
    SubprotocolInvalid(String),
    /// Sec-WebSocket-Extensions does not follow its grammar.
    ExtensionsInvalid(String),
    /// The server's fault: it chose a subprotocol that the client did not offer.
    SubprotocolNotOffered(String),
}

impl HandshakeError {
    /// The status of the answer: 426 about versions, 500 about the server's own mistake, else 400.
    pub fn status_hint(&self) -> u16 {
        match self {
            HandshakeError::NotWebSocket
            | HandshakeError::VersionMissing
            | HandshakeError::VersionUnsupported(_) => 426,
            HandshakeError::SubprotocolNotOffered(_) => 500,
            _ => 400,
        }
    }

    /// Headers that belong to the answer, beside those of every answer.
    ///
    /// A refused handshake ends the connection. Its client may have sent frames behind it already,
    /// and a proxy that does not look at the status may believe in the WebSocket: what comes next
    /// must not be read as requests (smuggling).
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            // RFC 9110, 15.5.22: a 426 has an Upgrade. It asks for no more than that: the request
            // was none for a WebSocket, and what follows is HTTP.
            HandshakeError::NotWebSocket => &[
                ("Sec-WebSocket-Version", "13"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
            ],
            // 4.4: the versions this server speaks.
            HandshakeError::VersionMissing | HandshakeError::VersionUnsupported(_) => &[
                ("Sec-WebSocket-Version", "13"),
                ("Upgrade", "websocket"),
                ("Connection", "close, Upgrade"),
            ],
            _ => &[("Connection", "close")],
        }
    }

    /// The text of the answer, naming the cause: one line of printable ASCII.
    pub fn body(&self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::NotWebSocket => f.write_str("not a WebSocket request"),
            HandshakeError::HttpVersion(major, minor) => {
                write!(f, "WebSocket needs HTTP/1.1, not HTTP/{major}.{minor}")
            }
            HandshakeError::VersionMissing => f.write_str("no Sec-WebSocket-Version, 13 is needed"),
            HandshakeError::VersionUnsupported(value) => {
                write!(f, "Sec-WebSocket-Version \"{value}\" is not 13")
            }
            HandshakeError::KeyMissing => f.write_str("no Sec-WebSocket-Key"),
            HandshakeError::KeyRepeated => f.write_str("more than one Sec-WebSocket-Key"),
            HandshakeError::KeyInvalid(value) => {
                write!(f, "Sec-WebSocket-Key \"{value}\" is not base64 of 16 bytes")
            }
            HandshakeError::SubprotocolInvalid(value) => {
                write!(f, "Sec-WebSocket-Protocol \"{value}\" is not a token")
            }
            HandshakeError::ExtensionsInvalid(value) => {
                write!(f, "Sec-WebSocket-Extensions \"{value}\" is malformed")
            }
            HandshakeError::SubprotocolNotOffered(value) => {
                write!(f, "subprotocol {value:?} was not offered by the client")
            }
        }
    }
}

impl std::error::Error for HandshakeError {}

fn check_version(request: &impl RequestView) -> Result<(), HandshakeError> {
    let mut values = request.header_values("sec-websocket-version");
    let Some(value) = values.next() else {
        return Err(HandshakeError::VersionMissing);
    };
    // 11.3.5: not more than once in a request. A list is as wrong as another number.
    let value = match values.next() {
        Some(second) => Cow::Owned([value, b", ", second].concat()),
        None => Cow::Borrowed(value),
    };
    if value.trim_ascii() != b"13" {
        return Err(HandshakeError::VersionUnsupported(shown(&value)));
    }
    Ok(())
}

fn check_key(request: &impl RequestView) -> Result<&str, HandshakeError> {
    let mut values = request.header_values("sec-websocket-key");
    let Some(value) = values.next() else {
        return Err(HandshakeError::KeyMissing);
    };
    // 11.3.1: not more than once in a request.
    if values.next().is_some() {
        return Err(HandshakeError::KeyRepeated);
    }
    let key = std::str::from_utf8(value.trim_ascii()).ok();
    key.filter(|key| KEY.decode(key).is_ok_and(|nonce| nonce.len() == 16))
        .ok_or_else(|| HandshakeError::KeyInvalid(shown(value)))
}

fn subprotocols(request: &impl RequestView) -> Result<Vec<String>, HandshakeError> {
    request
        .header_values("sec-websocket-protocol")
        .flat_map(elements)
        .map(|name| match std::str::from_utf8(name) {
            Ok(text) if name.iter().copied().all(is_token_byte) => Ok(text.to_owned()),
            _ => Err(HandshakeError::SubprotocolInvalid(shown(name))),
        })
        .collect()
}

/// "If a value is received ... that does not conform to the ABNF below, the recipient of such
/// malformed data MUST immediately _Fail the WebSocket Connection_" (RFC 6455, 9.1).
fn extensions(request: &impl RequestView) -> Result<Vec<Extension>, HandshakeError> {
    let mut all = Vec::new();
    for line in request.header_values("sec-websocket-extensions") {
        let list = Extension::parse_list(line)
            .map_err(|_| HandshakeError::ExtensionsInvalid(shown(line)))?;
        all.extend(list);
    }
    Ok(all)
}

fn has_token(request: &impl RequestView, name: &str, token: &[u8]) -> bool {
    request
        .header_values(name)
        .flat_map(elements)
        .any(|value| value.eq_ignore_ascii_case(token))
}

/// The elements of a comma-separated list; empty ones do not count (RFC 9110, 5.6.1.2).
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|value| !value.is_empty())
}

/// RFC 9110, 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A value of the peer's for an error: printable and not long.
pub(super) fn shown(value: &[u8]) -> String {
    value[..value.len().min(SHOWN_MAX)]
        .escape_ascii()
        .to_string()
}

/// How much of a bad value an error shows: more than any good value has.
const SHOWN_MAX: usize = 64;

/// RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 that does not look at the four unused bits of the last character: the key is hashed as
/// text, its bytes mean nothing, and clients exist that pick 22 characters at random.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
