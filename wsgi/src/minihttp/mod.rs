//! The same applications on another server: `may_minihttp`.
//!
//! WSGI's point is that an application runs on any server. [`MiniHttpServer`] serves an
//! [`Application`] by `may_minihttp`, a small HTTP server on `may`, in the same process and on the
//! same hubs as everything else of Greenwood. The application runs in a greenlet, so it may block
//! as on a [`WsgiServer`](crate::WsgiServer).
//!
//! It is for comparison, and for services behind a server of one's own. `may_minihttp` has limits
//! that nobody can lift from outside:
//!
//! - There are **no time limits**: who sends a head or a body slowly, or does not read, holds a
//!   coroutine for ever. Don't open it to the internet.
//! - It can't be stopped, and its port can't be asked for: port 0 is of no use.
//! - Requests have at most 16 headers; with more the connection is closed. Bodies come with
//!   `Content-Length` (else 501), never after `Expect: 100-continue` (417), and are read whole
//!   before the application is called.
//! - Responses are built whole before they are sent, and have at most 16 headers besides the
//!   server's own. The answer to HEAD, and a 304, say `Content-Length: 0`.
//! - There is no upgrade, and so no WebSocket.
//!
//! What is ambiguous is refused as by [`WsgiServer`](crate::WsgiServer), with one exception: lines
//! may end in a bare LF. Behind a refusal the connection is closed, and nothing more of it reaches
//! the application. Where what follows makes no sense as a request, as the body of a refused one,
//! `may_minihttp` closes it without the answer.
//!
//! `may_minihttp` is used without its default features. They would switch on those of `may`, and
//! greenlets would change their threads: **no other crate of the program may ask for them**.

mod lines;

use std::{
    fmt,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    os::fd::RawFd,
    sync::Arc,
};

use greenwood_runtime::{Event, Hub, net::TcpListener, run_in_greenlet};
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};
use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, getsockname, shutdown};

use crate::{
    Application, Environ, Error, Input, Result, clock,
    environ::{Peers, SOFTWARE},
    log::{self, Access},
    proto::{
        ApplicationFault, Framing, HeadParser, HttpError, Limits, PeerFault, RequestHead,
        ResponseContext, ResponseEncoder, reason_phrase,
    },
    received::Received,
};

use lines::Lines;

/// Headers that `may_minihttp` has room for in a response.
const MAX_HEADERS: usize = 16;

/// Serves an [`Application`] by `may_minihttp`; see the [module](self) for what that can't do.
///
/// ```no_run
/// use greenwood_wsgi::minihttp::MiniHttpServer;
/// use greenwood_wsgi::{Environ, StartResponse};
///
/// let app = |environ: &mut Environ, start_response: StartResponse<'_>| {
///     start_response("200 OK", &[("Content-Type", "text/plain")])?;
///     Ok(format!("hello from {}\n", environ.path()).into())
/// };
/// MiniHttpServer::new("127.0.0.1:8000", app).serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct MiniHttpServer {
    addresses: io::Result<Vec<SocketAddr>>,
    shared: Shared,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    app: Arc<dyn Application>,
    limits: Limits,
}

impl MiniHttpServer {
    /// A server for `app` at `address`, with a fixed port.
    pub fn new(address: impl ToSocketAddrs, app: impl Application) -> Self {
        Self {
            addresses: address.to_socket_addrs().map(Iterator::collect),
            shared: Shared {
                app: Arc::new(app),
                limits: Limits::default(),
            },
        }
    }

    /// The limits on requests' sizes, as far as `may_minihttp` does not have narrower ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.shared.limits = limits;
        self
    }

    /// Starts serving, for the rest of the process, and returns.
    ///
    /// # Errors
    ///
    /// If the address can't be listened on, or the hubs can't start.
    pub fn start(self) -> io::Result<()> {
        // Before `may_minihttp` starts `may` with settings of its own.
        Hub::config().start().map_err(io::Error::other)?;
        let addresses = self.addresses?;
        // `may_minihttp` would share a port with whoever lets it.
        drop(TcpListener::bind(&*addresses)?);
        Factory(self.shared).start(&*addresses).map(drop)
    }

    /// Starts serving, and never returns but for an error.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn serve_forever(self) -> io::Result<()> {
        self.start()?;
        Event::new().wait();
        Ok(())
    }
}

impl fmt::Debug for MiniHttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniHttpServer")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Service`] for each connection, whose coroutine `may_minihttp` then starts on the hub
/// to which the descriptor's number belongs: there it stays.
struct Factory(Shared);

impl HttpServiceFactory for Factory {
    type Service = Service;

    // Not inlined, as `call`: this code must not be mixed with code that switches coroutines.
    #[inline(never)]
    fn new_service(&self, id: usize) -> Service {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let fd = id as RawFd;
        let address = |name: nix::Result<SockaddrStorage>| {
            name.ok()
                .and_then(|name| to_address(&name))
                .unwrap_or(nobody)
        };
        Service {
            fd,
            shared: self.0.clone(),
            peers: Peers {
                local: Some(address(getsockname(fd))),
                remote: Some(address(getpeername(fd))),
                server_name: None,
                #[cfg(feature = "tls")]
                tls: None,
            },
            lines: Lines::default(),
            over: false,
        }
    }
}

fn to_address(name: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = name.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| name.as_sockaddr_in6().map(|&v6| SocketAddr::V6(v6.into())))
}

/// One connection.
struct Service {
    fd: RawFd,
    shared: Shared,
    peers: Peers,
    lines: Lines,
    /// The connection closes behind the last response. What else has come over it is no request
    /// that anybody may trust.
    over: bool,
}

/// A response, whole.
struct Answer {
    /// Up to the empty line, as [`ResponseEncoder`] writes it.
    head: Vec<u8>,
    body: Vec<u8>,
    keep_alive: bool,
}

impl HttpService for Service {
    #[inline(never)]
    fn call(
        &mut self,
        request: Request<'_, '_, '_>,
        response: &mut Response<'_>,
    ) -> io::Result<()> {
        if self.over {
            response.status_code(503, "Service Unavailable");
            return Ok(());
        }
        let access = Access::begin(true);
        let peer = self.peers.logged();
        let line = format!(
            "{} {} HTTP/1.{}",
            request.method(),
            request.path(),
            request.version()
        );
        let answer = match self.accept(request)? {
            Ok((head, body)) => self.ask(head, body),
            Err(error) => {
                let error = Error::Http(error);
                log::failure(&error, false, line.as_bytes(), peer);
                refusal(&error)
            }
        };
        if !answer.keep_alive {
            self.over = true;
            // Its next read finds the end.
            shutdown(self.fd, Shutdown::Read).ok();
        }
        let bytes = (answer.head.len() + answer.body.len()) as u64;
        let status = self.lines.put_on(response, &answer.head);
        response.body_vec(answer.body);
        if let Some(access) = access {
            access.finish(peer, line.as_bytes(), status, bytes);
        }
        Ok(())
    }
}

impl Service {
    /// Reads the request again, strictly, and its body.
    fn accept(
        &self,
        request: Request<'_, '_, '_>,
    ) -> io::Result<Result<(RequestHead, Vec<u8>), HttpError>> {
        let parsed = HeadParser::new().parse(&head_of(&request), &self.shared.limits);
        let head = match parsed {
            Ok(Some((head, _))) => head,
            Ok(None) => return Ok(Err(PeerFault::HeadTruncated.into())),
            Err(error) => return Ok(Err(error)),
        };
        if head.expects_continue() {
            return Ok(Err(PeerFault::Expectation.into()));
        }
        let length = match head.framing() {
            Framing::None | Framing::Length(0) => return Ok(Ok((head, Vec::new()))),
            Framing::Chunked => return Ok(Err(PeerFault::TransferCodingUnknown.into())),
            Framing::Length(length) => length,
        };
        let mut body = Vec::new();
        request.body().take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Ok(Err(PeerFault::BodyTruncated.into()));
        }
        Ok(Ok((head, body)))
    }

    /// Calls the application, in a greenlet.
    fn ask(&self, head: RequestHead, body: Vec<u8>) -> Answer {
        let line = head.request_line().to_owned();
        let input = Input::new(None, &head, Received::new(body), &self.shared.limits, None);
        let mut environ = Environ::new(head, self.peers.clone(), input);
        let app = Arc::clone(&self.shared.app);
        let asked = run_in_greenlet(move || call(&*app, &mut environ));
        let peer = self.peers.logged();
        match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                log::failure(&error, false, line.as_bytes(), peer);
                refusal(&error)
            }
            Err(error) => {
                let error = Error::application(error.to_string());
                log::failure(&error, false, line.as_bytes(), peer);
                refusal(&error)
            }
        }
    }
}

/// The head of a request as text again.
fn head_of(request: &Request<'_, '_, '_>) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.{}\r\n",
        request.method(),
        request.path(),
        request.version()
    )
    .into_bytes();
    for header in request.headers() {
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn call(app: &dyn Application, environ: &mut Environ) -> Result<Answer> {
    let mut encoder = ResponseEncoder::new(environ.head());
    let mut head = Vec::new();
    let body = app.call(environ, &mut |status, headers| {
        Ok(encoder.start(&mut head, status, headers)?)
    })?;
    if !encoder.is_started() {
        return Err(Error::Http(ApplicationFault::NotStarted.into()));
    }
    let mut body = body.into_bytes()?;
    let length = Some(body.len() as u64);
    clock::with_http_date(|date| encoder.head(&mut head, length, &context(date, true)))?;
    if lines::count(&head) > MAX_HEADERS {
        return Err(Error::application(
            "more headers than may_minihttp has room for",
        ));
    }
    if encoder.is_to_head() {
        body.clear();
    }
    Ok(Answer {
        head,
        body,
        keep_alive: encoder.keep_alive(),
    })
}

/// What an error hints at, and the end of the connection.
fn refusal(error: &Error) -> Answer {
    let code = error.status_hint();
    let body = error.answer().into_bytes();
    let head = format!(
        "HTTP/1.1 {code} {}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n",
        reason_phrase(code)
    );
    Answer {
        head: head.into_bytes(),
        body,
        keep_alive: false,
    }
}

fn context(date: &str, keep_alive: bool) -> ResponseContext<'_> {
    ResponseContext {
        date,
        server: SOFTWARE,
        keep_alive,
    }
}
