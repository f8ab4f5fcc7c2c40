//! [`connect`]: the client's side.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[cfg(feature = "tls")]
use greenwood_runtime::net::{ClientTls, TlsStream};
use greenwood_runtime::net::{Stream, TcpStream, create_connection};
use greenwood_wsgi::proto::{ChunkedDecoder, Limits};

use crate::config::WebSocketConfig;
use crate::connection::Connection;
use crate::proto::{
    ClientHandshake, Deflate, MAX_RESPONSE_HEAD, RequestError, ResponseError, ResponseHead, Role,
    Url, UrlError,
};
use crate::random;
use crate::socket::WebSocket;

/// Connects to a WebSocket server, with [`Connect`]'s defaults.
///
/// ```no_run
/// let ws = greenwood_websocket::connect("ws://127.0.0.1:8000/ws")?;
/// ws.send("hello")?;
/// while let Some(message) = ws.receive()? {
///     println!("{message}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// See [`ConnectError`].
pub fn connect(url: &str) -> Result<WebSocket, ConnectError> {
    Connect::to(url).connect()
}

/// How to connect to a WebSocket server.
///
/// It works in a greenlet and on a plain thread. Redirections are not followed: they come back as
/// [`ConnectError::Refused`], with the place where the server points to in its headers. A user and
/// a password in the URL are sent as Basic authorization. Of RFC 6455, 4.1, one thing is left to the
/// program: not to open many connections to one host at once. That rule restrains the pages in a
/// browser, and no other client for programs keeps it either.
///
/// ```no_run
/// use greenwood_websocket::{Connect, Deflate};
/// use std::time::Duration;
///
/// let ws = Connect::to("ws://127.0.0.1:8000/chat")
///     .subprotocols(["chat.v2", "chat.v1"])
///     .header("Authorization", "Bearer 5ecret")
///     .deflate(Deflate::default())
///     .timeout(Duration::from_secs(3))
///     .connect()?;
/// assert_eq!(ws.subprotocol(), Some("chat.v2"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Connect {
    url: String,
    subprotocols: Vec<String>,
    headers: Vec<(String, String)>,
    config: WebSocketConfig,
    timeout: Duration,
    source_address: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
}

/// After how long a silence the system asks the server whether it is there. It is given up within
/// twice that.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a connection may take to come about, unless it is said otherwise: what Python's
/// `websockets` allows.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Connect {
    /// To the server at a `ws` or `wss` URL.
    pub fn to(url: impl Into<String>) -> Connect {
        Connect {
            url: url.into(),
            subprotocols: Vec::new(),
            headers: Vec::new(),
            config: WebSocketConfig::default(),
            timeout: TIMEOUT,
            source_address: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Offers subprotocols, the preferred one first. [`WebSocket::subprotocol`] tells which of them
    /// the server has chosen; it may choose none.
    #[must_use]
    pub fn subprotocols<S: Into<String>>(
        mut self,
        subprotocols: impl IntoIterator<Item = S>,
    ) -> Connect {
        self.subprotocols = subprotocols.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header line to the request, `Origin` or `Cookie` for instance. `Host`,
    /// `Authorization` and `User-Agent` take the place of our own.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Connect {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Offers compression by permessage-deflate (RFC 7692). Default: none.
    #[must_use]
    pub fn deflate(mut self, deflate: Deflate) -> Connect {
        self.config.deflate = Some(deflate);
        self
    }

    /// How the connection behaves. A [`deflate`](Connect::deflate) from before stays, unless this
    /// has one too.
    #[must_use]
    pub fn config(mut self, config: WebSocketConfig) -> Connect {
        let deflate = self.config.deflate.take();
        self.config = config;
        self.config.deflate = self.config.deflate.or(deflate);
        self
    }

    /// Whom to trust, and who to be, where the URL is `wss`. Default: whom the system trusts, and
    /// nobody in particular.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Connect {
        self.tls = Some(tls);
        self
    }

    /// How long it may take in all until the connection can be used: looking up the name, TCP, TLS
    /// and the opening handshake. Default: 10 s.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        assert!(
            !timeout.is_zero(),
            "a time-out of zero: nothing could ever be reached"
        );
        self.timeout = timeout;
        self
    }

    /// The address to connect from; its port may be 0. Of the server's addresses only those of the
    /// same family are tried. Default: the system chooses.
    #[must_use]
    pub fn source_address(mut self, address: impl Into<SocketAddr>) -> Connect {
        self.source_address = Some(address.into());
        self
    }

    /// Connects: to the first of the server's addresses that answers
    /// ([`create_connection`](greenwood_runtime::net::create_connection), Happy Eyeballs).
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect(&self) -> Result<WebSocket, ConnectError> {
        let handshake = self.handshake()?;
        let deadline = Deadline::after(self.timeout);
        let (host, port) = (handshake.url().host(), handshake.url().port());
        let tcp = create_connection((host, port), Some(deadline.rest()?), self.source_address)
            .map_err(|error| deadline.judge(error))?;
        // Frames are sent whole; waiting for more to send would only hold them up.
        tcp.set_nodelay(true)?;
        tcp.set_keepalive(Some(TCP_KEEPALIVE))?;
        let stream = match handshake.url().is_secure() {
            true => self.secure(tcp, host, &deadline)?,
            false => tcp.into(),
        };
        self.open(stream, &handshake, &deadline)
    }

    /// Makes a WebSocket of a connection that exists already, through a proxy for instance: the URL
    /// says only what to ask the server for. Its read and write time-outs are not used.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub fn connect_over(&self, stream: impl Into<Stream>) -> Result<WebSocket, ConnectError> {
        let handshake = self.handshake()?;
        self.open(stream.into(), &handshake, &Deadline::after(self.timeout))
    }

    #[cfg(feature = "tls")]
    fn secure(
        &self,
        tcp: TcpStream,
        host: &str,
        deadline: &Deadline,
    ) -> Result<Stream, ConnectError> {
        let tls = match &self.tls {
            Some(tls) => tls,
            None => default_tls()?,
        };
        // All of what is left, also where the settings allow a handshake less.
        TlsStream::connect_timeout(tcp, host, tls, deadline.rest()?)
            .map(Stream::from)
            .map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => ConnectError::Timeout(deadline.limit),
                _ => ConnectError::Tls(error),
            })
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&self, _: TcpStream, _: &str, _: &Deadline) -> Result<Stream, ConnectError> {
        Err(ConnectError::Tls(io::Error::new(
            io::ErrorKind::Unsupported,
            "greenwood-websocket was built without its feature tls",
        )))
    }

    fn handshake(&self) -> Result<ClientHandshake, ConnectError> {
        let url = Url::parse(&self.url)?;
        let mut handshake = ClientHandshake::new(url, random::bytes()?);
        for name in &self.subprotocols {
            handshake.subprotocol(name)?;
        }
        for (name, value) in &self.headers {
            handshake.header(name, value)?;
        }
        if let Some(deflate) = self.config.deflate {
            handshake.deflate(deflate);
        }
        Ok(handshake)
    }

    fn open(
        &self,
        stream: Stream,
        handshake: &ClientHandshake,
        deadline: &Deadline,
    ) -> Result<WebSocket, ConnectError> {
        // A server that has enough of a request may answer and go before it has read all of it.
        let unsent = match send(&stream, &handshake.request(), deadline) {
            Err(ConnectError::Io(error)) => Some(error),
            sent => sent.map(|()| None)?,
        };
        let mut received = Vec::new();
        let head = answer(&stream, &mut received, deadline).map_err(|error| match error {
            ConnectError::Io(error) => ConnectError::Io(unsent.unwrap_or(error)),
            error => error,
        })?;
        let agreement = match handshake.check(&head) {
            Err(ResponseError::Status(_)) => {
                let body = body(&stream, &head, received, deadline);
                let refusal = Refusal { head, body };
                return Err(ConnectError::Refused(Box::new(refusal)));
            }
            checked => checked?,
        };
        let connection = Connection::new(
            Role::Client,
            stream,
            received,
            Arc::new(self.config),
            agreement.deflate.as_ref(),
        );
        Ok(WebSocket::of_client(
            connection,
            agreement.subprotocol.as_deref(),
        ))
    }
}

/// Headers may be secrets: their names are all that is shown.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Connect")
            .field("url", &Url::parse(&self.url))
            .field("subprotocols", &self.subprotocols)
            .field("headers", &names)
            .field("config", &self.config)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is none of a WebSocket.
    Url(UrlError),
    /// A subprotocol or header that can't be sent.
    Request(RequestError),
    /// The name has no address, nobody listens there, or the connection broke.
    Io(io::Error),
    /// The TLS handshake failed: the server's certificate is for another name or not to be trusted,
    /// or it speaks no TLS.
    Tls(io::Error),
    /// It took too long.
    Timeout(Duration),
    /// The server answered, but did not agree: a redirection, a demand for authorization, or any
    /// other status than 101.
    Refused(Box<Refusal>),
    /// The server agreed in a way that no server may: it does not speak WebSocket.
    Handshake(ResponseError),
}

/// A server's answer that did not agree to a WebSocket.
#[derive(Debug)]
pub struct Refusal {
    head: ResponseHead,
    body: Vec<u8>,
}

impl Refusal {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The status and the headers.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// What the server says about it: the first 8 KiB of the body, as far as they came in time.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Url(error) => error.fmt(f),
            ConnectError::Request(error) => error.fmt(f),
            ConnectError::Io(_) => f.write_str("can't connect"),
            ConnectError::Tls(_) => f.write_str("can't connect by TLS"),
            ConnectError::Timeout(limit) => write!(f, "can't connect: not done in {limit:?}"),
            ConnectError::Refused(refusal) => {
                ResponseError::Status(refusal.status()).fmt(f)?;
                let mut location = refusal.head.header_values("location");
                match (refusal.status(), location.next()) {
                    (300..400, Some(location)) => {
                        write!(f, "; it points to {}", location.escape_ascii())
                    }
                    _ => Ok(()),
                }
            }
            ConnectError::Handshake(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Io(source) | ConnectError::Tls(source) => Some(source),
            _ => None,
        }
    }
}

impl From<UrlError> for ConnectError {
    fn from(error: UrlError) -> ConnectError {
        ConnectError::Url(error)
    }
}

impl From<RequestError> for ConnectError {
    fn from(error: RequestError) -> ConnectError {
        ConnectError::Request(error)
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Io(error)
    }
}

impl From<ResponseError> for ConnectError {
    fn from(error: ResponseError) -> ConnectError {
        ConnectError::Handshake(error)
    }
}

/// So that an application may use `?`.
impl From<ConnectError> for greenwood_wsgi::Error {
    fn from(error: ConnectError) -> greenwood_wsgi::Error {
        greenwood_wsgi::Error::application(error)
    }
}

/// The system's roots, read once.
#[cfg(feature = "tls")]
fn default_tls() -> Result<&'static ClientTls, ConnectError> {
    static TLS: OnceLock<ClientTls> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls);
    }
    // An error is not kept: the next call may find what is missing.
    let tls = ClientTls::builder()
        .alpn(["http/1.1"])
        .build()
        .map_err(ConnectError::Tls)?;
    Ok(TLS.get_or_init(|| tls))
}

/// When all has to be done.
struct Deadline {
    /// None: beyond the clock's range.
    at: Option<Instant>,
    limit: Duration,
}

impl Deadline {
    fn after(limit: Duration) -> Deadline {
        Deadline {
            at: Instant::now().checked_add(limit),
            limit,
        }
    }

    /// What is left; never zero.
    fn rest(&self) -> Result<Duration, ConnectError> {
        let Some(at) = self.at else {
            return Ok(self.limit);
        };
        let rest = at.saturating_duration_since(Instant::now());
        match rest.is_zero() {
            true => Err(ConnectError::Timeout(self.limit)),
            false => Ok(rest),
        }
    }

    /// A failed call, that may have failed as it was too late.
    fn judge(&self, error: io::Error) -> ConnectError {
        match error.kind() == io::ErrorKind::TimedOut && self.rest().is_err() {
            true => ConnectError::Timeout(self.limit),
            false => ConnectError::Io(error),
        }
    }
}

fn send(stream: &Stream, mut bytes: &[u8], deadline: &Deadline) -> Result<(), ConnectError> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream
                .wait_writable_timeout(Some(deadline.rest()?))
                .map_err(|error| deadline.judge(error))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// So much is read at a time.
const READ: usize = 4096;

/// Reads more of what the server says; false at the end.
fn receive(
    stream: &Stream,
    received: &mut Vec<u8>,
    deadline: &Deadline,
) -> Result<bool, ConnectError> {
    loop {
        stream
            .wait_readable_timeout(Some(deadline.rest()?))
            .map_err(|error| deadline.judge(error))?;
        match stream.try_read_vec(received, READ) {
            Ok(n) => return Ok(n > 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the head of the answer, and leaves what came behind it.
fn answer(
    stream: &Stream,
    received: &mut Vec<u8>,
    deadline: &Deadline,
) -> Result<ResponseHead, ConnectError> {
    loop {
        let before = received.len();
        if !receive(stream, received, deadline)? {
            return Err(ConnectError::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server has closed the connection instead of an answer",
            )));
        }
        // A head ends with a line, and what is none shows at its start. Who sends it drop by drop
        // does not have all of it looked at with each.
        let is_worth_it = before == 0
            || received[before..].contains(&b'\n')
            || received.len() > MAX_RESPONSE_HEAD;
        if is_worth_it && let Some((head, used)) = ResponseHead::parse(received)? {
            received.drain(..used);
            return Ok(head);
        }
    }
}

/// How much of a refusal's body is kept: enough for a sentence, and for most pages about errors.
const BODY: usize = 8 * 1024;

/// The start of a refusal's body, as far as it comes (RFC 9112, 6.3). The server may keep the
/// connection open behind it: there is nothing to wait for then.
fn body(stream: &Stream, head: &ResponseHead, mut start: Vec<u8>, deadline: &Deadline) -> Vec<u8> {
    if matches!(head.status(), 204 | 304) {
        return Vec::new();
    }
    let coding = head.header_values("transfer-encoding").last();
    let last = coding.and_then(|coding| coding.rsplit(|byte| *byte == b',').next());
    if last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return chunked_body(stream, start, deadline);
    }
    let length = head
        .header_values("content-length")
        .next()
        .and_then(|value| str::from_utf8(value.trim_ascii()).ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(BODY);
    let length = length.min(BODY);
    while start.len() < length && receive(stream, &mut start, deadline).is_ok_and(|more| more) {}
    start.truncate(length);
    start
}

fn chunked_body(stream: &Stream, mut start: Vec<u8>, deadline: &Deadline) -> Vec<u8> {
    // Of what follows no more is kept anyway.
    let limits = Limits::default().max_body_size(u64::MAX);
    let mut decoder = ChunkedDecoder::new(&limits);
    let mut body = vec![0; BODY];
    let mut len = 0;
    'body: loop {
        // One by one, so that what came before a broken chunk is not lost with it.
        for byte in start.drain(..) {
            match decoder.decode(&[byte], &mut body[len..]) {
                Ok(done) => len += done.produced,
                Err(_) => break 'body,
            }
            if decoder.is_done() || len == BODY {
                break 'body;
            }
        }
        if !receive(stream, &mut start, deadline).is_ok_and(|more| more) {
            break;
        }
    }
    body.truncate(len);
    body
}
