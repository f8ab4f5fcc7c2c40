//! The environ of a request (PEP 3333).

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, atomic::AtomicBool},
};

#[cfg(feature = "tls")]
use greenwood_runtime::net::TlsInfo;

use crate::{
    Input,
    extensions::Extensions,
    log::Peer,
    proto::{HeadParser, Headers, HttpError, Limits, PeerFault, RequestHead, Version},
    received::Received,
};

/// What is known of a request: the CGI variables by name, the same by typed accessors, the body,
/// and whatever a handler or a middleware adds for those below.
///
/// The variables are computed when they are asked for. There are `REQUEST_METHOD`, `SCRIPT_NAME`
/// (empty), `PATH_INFO`, `QUERY_STRING`, `CONTENT_TYPE` and `CONTENT_LENGTH` (if sent),
/// `SERVER_NAME`, `SERVER_PORT`, `SERVER_PROTOCOL`, `SERVER_SOFTWARE`, `REMOTE_ADDR`,
/// `REMOTE_PORT`, `GATEWAY_INTERFACE`, `wsgi.url_scheme`, and `HTTP_*` for the other headers.
/// A request that has come by a Unix socket has no `REMOTE_ADDR` and `REMOTE_PORT`, and an empty
/// `SERVER_NAME` and `SERVER_PORT`, as with pywsgi; a proxy in front tells who has asked by headers
/// of its own.
/// Repeated headers are joined with `,` (`Cookie` with `; `). Headers with `_` in their name are
/// left out, since they could pass for those with `-`; [`headers`](Self::headers) has them.
///
/// `PATH_INFO` is percent-decoded. Where text arrives as bytes (`PATH_INFO`, headers) it is taken
/// for UTF-8, and if it is not, each byte becomes the character of the same number (latin-1, as
/// WSGI has it for all text). [`target`](Self::target) and [`header_bytes`](Self::header_bytes)
/// have what was sent.
///
/// When printed, cookies and credentials are masked.
///
/// ```
/// use greenwood_wsgi::Environ;
///
/// let request = b"GET /caf%C3%A9?a=1 HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n";
/// let environ = Environ::from_bytes(request)?;
/// assert_eq!(environ.path(), "/café");
/// assert_eq!(environ.get("QUERY_STRING").as_deref(), Some("a=1"));
/// assert_eq!(environ.get("HTTP_ACCEPT").as_deref(), Some("*/*"));
/// assert_eq!(environ.header("accept"), Some("*/*"));
/// # Ok::<(), greenwood_wsgi::proto::HttpError>(())
/// ```
pub struct Environ {
    head: RequestHead,
    peers: Peers,
    input: Input,
    extensions: Extensions,
    /// Variables set by [`Environ::set`].
    own: Vec<(String, String)>,
}

/// What is the same for all requests of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// None for a Unix socket, as the next.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// `SERVER_NAME`, if it is not to be the local address.
    pub(crate) server_name: Option<Arc<str>>,
    /// What was agreed on, if TLS is spoken.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<TlsInfo>>,
}

impl Peers {
    /// The peer, in a log.
    pub(crate) fn logged(&self) -> Peer {
        Peer(self.remote.map(|address| address.ip()))
    }

    fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }
}

/// The address of a Unix socket's end, where one has to be told.
const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// `SERVER_SOFTWARE`, and the default of the `Server` header.
pub(crate) const SOFTWARE: &str = concat!("greenwood/", env!("CARGO_PKG_VERSION"));

const VARIABLES: [&str; 14] = [
    "GATEWAY_INTERFACE",
    "SERVER_SOFTWARE",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "wsgi.url_scheme",
];

impl Environ {
    pub(crate) fn new(head: RequestHead, peers: Peers, input: Input) -> Self {
        Self {
            head,
            peers,
            input,
            extensions: Extensions::default(),
            own: Vec::new(),
        }
    }

    /// The environ of a request that came over no connection: head and body in one piece. For
    /// tests, and for servers that read requests by themselves. Both addresses are 127.0.0.1:0.
    ///
    /// # Errors
    ///
    /// As [`HeadParser::parse`], with the default limits; an incomplete head is
    /// [`PeerFault::HeadTruncated`]. A body that ends early fails when it is read.
    pub fn from_bytes(request: &[u8]) -> Result<Self, HttpError> {
        let limits = Limits::default();
        let (head, used) = HeadParser::new()
            .parse(request, &limits)?
            .ok_or(PeerFault::HeadTruncated)?;
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peers = Peers {
            local: Some(nobody),
            remote: Some(nobody),
            server_name: None,
            #[cfg(feature = "tls")]
            tls: None,
        };
        let input = Input::new(
            None,
            &head,
            Received::new(request[used..].to_vec()),
            &limits,
            None,
        );
        Ok(Self::new(head, peers, input))
    }

    /// A variable by its name.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        if let Some(value) = self.own(key) {
            return Some(value.into());
        }
        Some(match key {
            "REQUEST_METHOD" => self.head.method().into(),
            "PATH_INFO" => decode_path(self.head.path()),
            "QUERY_STRING" => self.head.query().unwrap_or_default().into(),
            "SCRIPT_NAME" => "".into(),
            "SERVER_PROTOCOL" => match self.head.version() {
                Version::Http10 => "HTTP/1.0".into(),
                Version::Http11 => "HTTP/1.1".into(),
            },
            "SERVER_NAME" => match &self.peers.server_name {
                Some(name) => (&**name).into(),
                None => match self.peers.local {
                    Some(address) => address.ip().to_string().into(),
                    None => "".into(),
                },
            },
            "SERVER_PORT" => match self.peers.local {
                Some(address) => address.port().to_string().into(),
                None => "".into(),
            },
            "SERVER_SOFTWARE" => SOFTWARE.into(),
            "REMOTE_ADDR" => self.peers.remote?.ip().to_string().into(),
            "REMOTE_PORT" => self.peers.remote?.port().to_string().into(),
            "GATEWAY_INTERFACE" => "CGI/1.1".into(),
            "wsgi.url_scheme" => self.peers.scheme().into(),
            "CONTENT_TYPE" => return self.joined(|name| name.eq_ignore_ascii_case("content-type")),
            "CONTENT_LENGTH" => {
                return self.joined(|name| name.eq_ignore_ascii_case("content-length"));
            }
            // An absolute target outweighs the header (RFC 9112 section 3.2.2).
            "HTTP_HOST" => self.head.host()?.into(),
            _ => {
                let wanted = key
                    .strip_prefix("HTTP_")
                    .filter(|wanted| !has_own_variable(wanted))?;
                return self.joined(|name| is_variable(name, wanted));
            }
        })
    }

    /// Sets a variable, for the applications below a middleware: `SCRIPT_NAME` and `PATH_INFO`
    /// for instance. The accessors of the same meaning follow.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.own.iter_mut().find(|(own, _)| *own == key) {
            Some((_, old)) => *old = value,
            None => self.own.push((key, value)),
        }
    }

    /// All variables with their values, each once.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let mut keys: Vec<Cow<'_, str>> = VARIABLES.into_iter().map(Cow::from).collect();
        keys.extend(self.head.host().map(|_| "HTTP_HOST".into()));
        for (name, _) in self.head.headers().filter(|(name, _)| !name.contains('_')) {
            let variable = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
            if !has_own_variable(&variable["HTTP_".len()..]) && !keys.iter().any(|k| *k == variable)
            {
                keys.push(variable.into());
            }
        }
        for (own, _) in &self.own {
            if !keys.iter().any(|key| key == own) {
                keys.push(own.into());
            }
        }
        keys.into_iter().filter_map(|key| {
            let value = self.get(&key)?;
            Some((key, value))
        })
    }

    /// The method, for example `GET`: `REQUEST_METHOD`.
    pub fn method(&self) -> &str {
        self.own("REQUEST_METHOD")
            .unwrap_or_else(|| self.head.method())
    }

    /// The path, percent-decoded: `PATH_INFO`.
    pub fn path(&self) -> Cow<'_, str> {
        match self.own("PATH_INFO") {
            Some(path) => path.into(),
            None => decode_path(self.head.path()),
        }
    }

    /// Where the application is mounted: `SCRIPT_NAME`, empty for the root.
    pub fn script_name(&self) -> &str {
        self.own("SCRIPT_NAME").unwrap_or_default()
    }

    /// The query without its `?`, not decoded: `QUERY_STRING`.
    pub fn query_string(&self) -> &str {
        self.own("QUERY_STRING")
            .unwrap_or_else(|| self.head.query().unwrap_or_default())
    }

    /// The target of the request line as sent.
    pub fn target(&self) -> &str {
        self.head.target()
    }

    /// The version of the request: `SERVER_PROTOCOL`.
    pub fn version(&self) -> Version {
        self.head.version()
    }

    /// The host that is asked for, with its port if any: `HTTP_HOST`. HTTP/1.0 may have none.
    pub fn host(&self) -> Option<&str> {
        self.own("HTTP_HOST").or_else(|| self.head.host())
    }

    /// The first header of that name, in any case; `None` also if it is not UTF-8. For repeated
    /// headers see [`get`](Self::get), which joins them, and [`headers`](Self::headers).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first header of that name, in any case, as sent.
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// All headers in the order they were sent.
    pub fn headers(&self) -> Headers<'_> {
        self.head.headers()
    }

    /// The media type of the body: `CONTENT_TYPE`.
    pub fn content_type(&self) -> Option<Cow<'_, str>> {
        self.get("CONTENT_TYPE")
    }

    /// The announced length of the body in bytes; none if there is no body or it is chunked.
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing() {
            crate::proto::Framing::Length(length) => Some(length),
            _ => None,
        }
    }

    /// The peer's address: `REMOTE_ADDR` and `REMOTE_PORT`. 0.0.0.0:0, which nobody has, for one
    /// that has come by a Unix socket.
    pub fn remote_addr(&self) -> SocketAddr {
        self.peers.remote.unwrap_or(NOBODY)
    }

    /// The address that the peer connected to: `SERVER_PORT`, and `SERVER_NAME` unless the server
    /// has been given a name. 0.0.0.0:0 for a Unix socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.peers.local.unwrap_or(NOBODY)
    }

    /// The peer, in a log.
    pub(crate) fn logged_peer(&self) -> Peer {
        self.peers.logged()
    }

    /// What was agreed on by TLS, the client's certificate among it; none for plain HTTP, also
    /// behind a proxy that speaks TLS. `wsgi.url_scheme` is `https` if there is something.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.peers.tls.as_deref()
    }

    /// The head of the request as it was parsed.
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The body: `wsgi.input`.
    pub fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    pub(crate) fn too_late_to_continue(&self) -> Option<Arc<AtomicBool>> {
        self.input.too_late_to_continue()
    }

    /// Puts a value into the environ, found again by its type; the earlier value of that type is
    /// returned.
    pub fn insert<T: Any + Send>(&mut self, value: T) -> Option<T> {
        self.extensions.insert(value)
    }

    /// The value of that type.
    pub fn extension<T: Any + Send>(&self) -> Option<&T> {
        self.extensions.extension()
    }

    /// The value of that type, to be changed.
    pub fn extension_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.extensions.extension_mut()
    }

    /// Takes the value of that type out.
    pub fn remove<T: Any + Send>(&mut self) -> Option<T> {
        self.extensions.remove()
    }

    fn own(&self, key: &str) -> Option<&str> {
        self.own
            .iter()
            .find(|(own, _)| own == key)
            .map(|(_, value)| value.as_str())
    }

    /// The values of all headers that are meant, joined.
    fn joined(&self, is_meant: impl Fn(&str) -> bool) -> Option<Cow<'_, str>> {
        let mut headers = self.head.headers().filter(|(name, _)| is_meant(name));
        let (name, first) = headers.next()?;
        let mut value = text(first);
        let separator = if name.eq_ignore_ascii_case("cookie") {
            "; "
        } else {
            ","
        };
        for (_, next) in headers {
            let joined = value.to_mut();
            joined.push_str(separator);
            joined.push_str(&text(next));
        }
        Some(value)
    }
}

impl fmt::Debug for Environ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = [
            "HTTP_AUTHORIZATION",
            "HTTP_COOKIE",
            "HTTP_PROXY_AUTHORIZATION",
        ];
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(key, value)| match secret.contains(&&*key) {
                        true => (key, "<masked>".into()),
                        false => (key, value),
                    }),
            )
            .finish()
    }
}

/// `CONTENT_TYPE` and `CONTENT_LENGTH` come without `HTTP_`.
fn has_own_variable(name: &str) -> bool {
    matches!(name, "CONTENT_TYPE" | "CONTENT_LENGTH")
}

/// Whether a header is the one of a variable `HTTP_` + `wanted`.
fn is_variable(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len()
        && name
            .bytes()
            .zip(wanted.bytes())
            .all(|(name, wanted)| match name {
                b'-' => wanted == b'_',
                b'_' => false,
                name => name.to_ascii_uppercase() == wanted,
            })
}

/// UTF-8 if it is, else latin-1.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes
            .iter()
            .map(|&byte| char::from(byte))
            .collect::<String>()
            .into(),
    }
}

/// Decodes `%XX`; a `%` without two hexadecimal digits stays.
fn decode_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, tail @ ..] = rest {
        let digits = tail
            .first_chunk()
            .filter(|_| *byte == b'%')
            .and_then(|[high, low]| {
                let digit = |b: u8| char::from(b).to_digit(16);
                Some(digit(*high)? << 4 | digit(*low)?)
            });
        match digits {
            Some(value) => {
                bytes.push(value as u8);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(path) => path.into(),
        Err(error) => text(error.as_bytes()).into_owned().into(),
    }
}

#[cfg(test)]
mod tests;
