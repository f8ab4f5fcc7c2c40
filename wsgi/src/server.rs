//! The server.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[cfg(feature = "tls")]
use std::path::PathBuf;

#[cfg(feature = "tls")]
use greenwood_runtime::net::ServerTls;
use greenwood_runtime::{
    Event, Spawn, StreamServer,
    net::{Address, Stream, StreamListener, TcpListener, ToSocketAddrs, UnixListener},
};

#[cfg(feature = "tls")]
use crate::tls;
use crate::{Application, Handler, connection, options::Shared, proto::Limits, registry::Registry};

/// An HTTP/1.1 server for an [`Application`], as gevent's `pywsgi.WSGIServer`. Each connection is
/// served by a greenlet of its own.
///
/// ```no_run
/// use greenwood_wsgi::{Environ, StartResponse, WsgiServer};
///
/// let app = |environ: &mut Environ, start_response: StartResponse<'_>| {
///     start_response("200 OK", &[("Content-Type", "text/plain")])?;
///     Ok(format!("hello from {}\n", environ.path()).into())
/// };
/// WsgiServer::new("127.0.0.1:8000", app).serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The access log goes to [`tracing`] with the target `greenwood::access` at level `INFO`, a line
/// per request, with the time in UTC:
/// `127.0.0.1 - - [2026-11-22 14:35:38] "GET /x HTTP/1.1" 200 701 0.000411`, with `-` for the
/// address of a peer that has come by a Unix socket. Failures of the
/// application go to the target `greenwood::wsgi` at `ERROR`, refused requests and broken
/// connections at `DEBUG`.
pub struct WsgiServer {
    shared: Shared,
    spawn: Spawn,
    backlog: Option<u16>,
    #[cfg(feature = "tls")]
    tls: tls::Settings,
    handle: ServerHandle,
}

/// A second handle to a [`WsgiServer`], to stop it from elsewhere: another greenlet, or a thread
/// that waits for signals.
#[derive(Clone)]
pub struct ServerHandle {
    control: Arc<Control>,
}

struct Control {
    registry: Arc<Registry>,
    /// Where the server listens, or why it does not.
    address: Result<Address, (io::ErrorKind, String)>,
    state: Mutex<State>,
    /// Set by the start.
    #[cfg(feature = "tls")]
    tls: Mutex<Option<ServerTls>>,
    /// It has started, or never will.
    started: Event,
    stopped: Event,
}

enum State {
    /// Not started; there is no listener if it could not be had.
    New(Option<StreamListener>),
    Running(StreamServer<StreamListener>),
    /// Or being stopped.
    Stopped(Option<StreamServer<StreamListener>>),
}

/// After how long a silence the system asks a peer whether it is there. It is given up within twice
/// that.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

impl WsgiServer {
    /// A server for `app` at `address`, where it listens from now on; an error in that comes out
    /// at [`start`](Self::start), [`serve_forever`](Self::serve_forever) or
    /// [`local_addr`](Self::local_addr). Connections are accepted once it has started.
    pub fn new(address: impl ToSocketAddrs, app: impl Application) -> Self {
        Self::listening(TcpListener::bind(address).map(StreamListener::from), app)
    }

    /// As [`new`](Self::new), on a Unix socket at `path`. A socket that was left behind there is
    /// replaced, one that somebody listens on is not ([`UnixListener::replace`]); the file goes with
    /// the server. Who may write to it may connect: it is made with the process's umask, and its
    /// mode can be changed from here on.
    ///
    /// There is no TLS on it. Behind nginx: `proxy_pass http://unix:/run/service/socket;`.
    ///
    /// ```no_run
    /// # use greenwood_wsgi::{Body, Environ, Result, StartResponse, WsgiServer};
    /// # fn app(_: &mut Environ, _: StartResponse<'_>) -> Result<Body> { Ok(Body::empty()) }
    /// WsgiServer::unix("/run/service/socket", app).serve_forever()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unix(path: impl AsRef<Path>, app: impl Application) -> Self {
        Self::listening(UnixListener::replace(path).map(StreamListener::from), app)
    }

    /// As [`new`](Self::new), on a listener of one's own: with other
    /// [options](greenwood_runtime::net::ListenOptions), or inherited.
    ///
    /// ```no_run
    /// # use greenwood_wsgi::{Body, Environ, Result, StartResponse, WsgiServer};
    /// # fn app(_: &mut Environ, _: StartResponse<'_>) -> Result<Body> { Ok(Body::empty()) }
    /// use greenwood_runtime::net::{StreamListener, listen_fds};
    ///
    /// // By systemd's socket activation, whether it is a port or a path.
    /// let server = match listen_fds().into_iter().next() {
    ///     Some(inherited) => WsgiServer::from_listener(StreamListener::from_fd(inherited)?, app),
    ///     None => WsgiServer::new("127.0.0.1:8000", app),
    /// };
    /// server.serve_forever()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_listener(listener: impl Into<StreamListener>, app: impl Application) -> Self {
        Self::listening(Ok(listener.into()), app)
    }

    fn listening(listener: io::Result<StreamListener>, app: impl Application) -> Self {
        let listening = listener.and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = match listening {
            Ok((listener, address)) => (Some(listener), Ok(address)),
            Err(error) => (None, Err((error.kind(), error.to_string()))),
        };
        let registry = Arc::<Registry>::default();
        let control = Control {
            registry: Arc::clone(&registry),
            address,
            state: Mutex::new(State::New(listener)),
            #[cfg(feature = "tls")]
            tls: Mutex::default(),
            started: Event::new(),
            stopped: Event::new(),
        };
        Self {
            shared: Shared::new(Arc::new(app), registry),
            spawn: Spawn::default(),
            backlog: None,
            #[cfg(feature = "tls")]
            tls: tls::Settings::default(),
            handle: ServerHandle {
                control: Arc::new(control),
            },
        }
    }

    /// Serves requests by `handler` instead of [`HttpHandler`](crate::HttpHandler).
    #[must_use]
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.shared.handler = Arc::new(handler);
        self
    }

    /// The limits on requests' sizes; see [`Limits`] for the defaults.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.shared.limits = limits;
        self
    }

    /// How long a request's head may take from its first byte, and a new connection to send that;
    /// past it 408, or for a connection without a byte the end. Default 10 s: a browser sends a
    /// head at once, and who sends it byte by byte holds a greenlet.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.shared.head_timeout = positive(timeout);
        self
    }

    /// How long a read of a request's body waits for the next bytes; past it the read fails with
    /// 408. Default 30 s: a mobile client may be out of reach for a while in an upload.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.shared.body_timeout = positive(timeout);
        self
    }

    /// How long a connection may be idle between two requests; past it it is closed without a word.
    /// Default 75 s. An idle connection costs a greenlet; lower it where they are scarce.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.shared.keep_alive_timeout = positive(timeout);
        self
    }

    /// How long a write waits for a peer that does not read; past it the connection is cut.
    /// Default 30 s, as for the body; what waits to be written takes memory.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.shared.write_timeout = positive(timeout);
        self
    }

    /// How many bytes per second a peer has to send of a request's body, and to take of a
    /// response, on an average over the body; 0: any. Only the time in which the server waits for
    /// the peer counts, and [`body_timeout`](Self::body_timeout) or
    /// [`write_timeout`](Self::write_timeout) is allowed on top of it. Past it a read fails with
    /// 408, and a response is cut. Default 240, what a modem of 2,400 baud brings: without it a
    /// byte now and then would hold a greenlet for ever. Set it to 0 for requests that are streams
    /// of rare events.
    #[must_use]
    pub fn min_data_rate(mut self, bytes_per_second: u32) -> Self {
        self.shared.min_data_rate = bytes_per_second;
        self
    }

    /// Speaks TLS (`https`, `wss`) with the certificate in this PEM file, followed by those in
    /// between it and the root: gevent's `certfile`. Offers `http/1.1` by ALPN. The file is read at
    /// the [`start`](Self::start), and again by
    /// [`reload_certificates`](ServerHandle::reload_certificates). For more settings see
    /// [`tls`](Self::tls).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.certfile(file.into());
        self
    }

    /// The PEM file of the certificate's key: gevent's `keyfile`. Default: it is in the
    /// [`certfile`](Self::certfile) too.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.keyfile(file.into());
        self
    }

    /// Speaks TLS with settings of one's own: several certificates, clients' certificates, other
    /// protocols by ALPN (`http/1.1` is the one to offer). The handshake is made in the
    /// connection's own greenlet, within the settings' time limit; failures go to the log at
    /// `DEBUG`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls.tls = Some(tls);
        self
    }

    /// How many connections are served at a time; more wait in the backlog. Default: as many as
    /// the process may have descriptors and greenlets.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        assert!(
            connections > 0,
            "max_connections is 0: the server could never accept"
        );
        self.spawn(connections)
    }

    /// In what connections are served: gevent's `spawn`, as for a
    /// [`StreamServer`](greenwood_runtime::StreamServer::spawn). A
    /// [`Pool`](greenwood_runtime::Pool) may be shared by several servers. Takes the place of
    /// [`max_connections`](Self::max_connections). A stop knows nothing of what was spawned
    /// [`Raw`](Spawn::Raw).
    ///
    /// # Panics
    ///
    /// At the start, for a pool of 0.
    #[must_use]
    pub fn spawn(mut self, spawn: impl Into<Spawn>) -> Self {
        self.spawn = spawn.into();
        self
    }

    /// How many connections the system holds before they are accepted. Default 128.
    #[must_use]
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// `SERVER_NAME` in the environ. Default: the address that the peer connected to.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.shared.server_name = Some(name.into().into());
        self
    }

    /// The `Server` header of responses that have none; empty for no such header. Default
    /// `greenwood/` and the version.
    ///
    /// # Panics
    ///
    /// If it has control characters in it.
    #[must_use]
    pub fn server_header(mut self, value: impl Into<String>) -> Self {
        let value = value.into();
        assert!(
            !value.contains(|c: char| c.is_ascii_control()),
            "control character in {value:?}"
        );
        self.shared.server_header = value.into();
        self
    }

    /// Whether requests are logged. Default true; it costs little as long as no subscriber of
    /// [`tracing`] wants the lines.
    #[must_use]
    pub fn access_log(mut self, on: bool) -> Self {
        self.shared.access_log = on;
        self
    }

    /// The internet address that the server listens on: with its real port, if it was asked for
    /// port 0.
    ///
    /// # Errors
    ///
    /// Why it could not listen; `Unsupported` if it listens on a Unix socket, see
    /// [`address`](Self::address).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.handle.local_addr()
    }

    /// Where the server listens, of whichever kind that is: gevent's `address`.
    ///
    /// # Errors
    ///
    /// Why it could not listen.
    pub fn address(&self) -> io::Result<Address> {
        self.handle.address()
    }

    /// A handle to stop the server from elsewhere. It may be taken before the start.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Starts accepting connections, and returns. Does nothing if it has started.
    ///
    /// # Errors
    ///
    /// If the address could not be listened on, if the server has been stopped, if no greenlet can
    /// be started, or if the files with the certificate and its key can't be used.
    pub fn start(&self) -> io::Result<()> {
        let local = self.address()?.internet();
        #[cfg(feature = "tls")]
        let tls = self.tls.resolve()?;
        #[cfg(feature = "tls")]
        if tls.is_some() && local.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS is spoken by TCP only: leave it to the proxy in front of a Unix socket",
            ));
        }
        let mut state = self.handle.control.lock();
        let listener = match &mut *state {
            State::New(listener) => listener.take(),
            State::Running(_) => return Ok(()),
            State::Stopped(_) => None,
        };
        let Some(listener) = listener else {
            return Err(io::Error::other(
                "the server has been stopped: make a new one",
            ));
        };
        let mut shared = self.shared.clone();
        #[cfg(feature = "tls")]
        {
            *self
                .handle
                .control
                .tls
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = tls.clone();
            shared.tls = tls;
        }
        // Inherited by the connections. Small responses leave at once, and a peer that has vanished
        // without a word is found out, which costs the process nothing.
        if let StreamListener::Tcp(listener) = &listener {
            listener.set_nodelay(true)?;
            listener.set_keepalive(Some(TCP_KEEPALIVE))?;
        }
        shared.local = local.filter(|local| !local.ip().is_unspecified());
        let shared = Arc::new(shared);
        let serve = move |stream: Stream, peer, seat| {
            connection::serve(&shared, stream, peer, seat);
        };
        let mut server = StreamServer::with_seats(listener, serve)?.spawn(self.spawn.clone());
        if let Some(backlog) = self.backlog {
            server = server.backlog(backlog);
        }
        server.start()?;
        *state = State::Running(server);
        self.handle.control.started.set();
        Ok(())
    }

    /// Starts, and serves until the server is stopped from elsewhere by a
    /// [`handle`](Self::handle). A kill or a time-out that ends the wait frees the port; who is
    /// connected is served until the [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); what the system said of a listener that can't accept.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let _closed = CloseOnUnwind(&self.handle);
        self.handle.join()
    }

    /// Stops the server; see [`ServerHandle::stop`].
    pub fn stop(&self, timeout: Duration) {
        self.handle.stop(timeout);
    }
}

impl ServerHandle {
    /// As [`WsgiServer::local_addr`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.address()?;
        address.internet().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the server listens on {address}, which is no internet address"),
            )
        })
    }

    /// As [`WsgiServer::address`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn address(&self) -> io::Result<Address> {
        self.control
            .address
            .clone()
            .map_err(|(kind, message)| io::Error::new(kind, message))
    }

    /// Stops the server: the port is freed, idle connections are closed, and what registered by
    /// [`Exchange::on_stop`](crate::Exchange::on_stop) is told. Requests that are being served get
    /// `timeout` to finish and are told to close; then their greenlets are killed. Returns when
    /// all have ended, except for the caller's own greenlet. A second call waits for the end of the
    /// first. A kill or a time-out that ends the wait ends the time to finish with it.
    pub fn stop(&self, timeout: Duration) {
        let control = &self.control;
        let server = {
            let mut state = control.lock();
            let server = match &*state {
                State::Running(server) => Some(server.clone()),
                State::New(_) => None,
                State::Stopped(_) => {
                    drop(state);
                    control.stopped.wait();
                    return;
                }
            };
            *state = State::Stopped(server.clone());
            server
        };
        let Some(server) = server else {
            control.started.set();
            return control.stopped.set();
        };
        let stopping = Stopping {
            control,
            server: &server,
        };
        server.close();
        control.registry.stop();
        server.finish(timeout);
        drop(stopping);
    }

    /// Waits until the server has been stopped, and all its connections have ended. It may be
    /// called before the start.
    ///
    /// # Errors
    ///
    /// What the system said of a listener that can't accept: then connections may be left, until
    /// the [`stop`](Self::stop).
    pub fn join(&self) -> io::Result<()> {
        self.control.started.wait();
        let running = match &*self.control.lock() {
            State::Running(server) => Some(server.clone()),
            State::New(_) | State::Stopped(_) => None,
        };
        match running {
            Some(server) => server.join(),
            // It is being stopped.
            None => {
                self.control.stopped.wait();
                Ok(())
            }
        }
    }

    /// Reads the files with certificates and keys again, after they have been renewed:
    /// [`ServerTls::reload`]. New connections get what they say now; those that exist go on.
    ///
    /// # Errors
    ///
    /// Files that can't be used, which changes nothing; a server that has not started yet or does
    /// not speak TLS.
    #[cfg(feature = "tls")]
    pub fn reload_certificates(&self) -> io::Result<()> {
        let tls = self
            .control
            .tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match tls {
            Some(tls) => tls.reload(),
            None => Err(io::Error::other(
                "the server has no certificates to reload: it has not started, or has no certfile",
            )),
        }
    }

    /// How many connections are being served.
    pub fn connections(&self) -> usize {
        match &*self.control.lock() {
            State::Running(server) | State::Stopped(Some(server)) => server.connections(),
            State::New(_) | State::Stopped(None) => 0,
        }
    }
}

/// A stop that has begun: whoever waits for its end is told of it, also when a kill or a time-out ends
/// its own wait. There is no other stop.
struct Stopping<'a> {
    control: &'a Control,
    server: &'a StreamServer<StreamListener>,
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Who unwinds does not wait: the connections are killed.
            self.server.finish(Duration::ZERO);
        }
        self.control.stopped.set();
    }
}

/// Frees the port when the wait of `serve_forever` is ended by a kill or a time-out.
struct CloseOnUnwind<'a>(&'a ServerHandle);

impl Drop for CloseOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let State::Running(server) = &*self.0.control.lock()
        {
            server.close();
        }
    }
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WsgiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsgiServer")
            .field("address", &self.handle.control.address)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("address", &self.control.address)
            .finish_non_exhaustive()
    }
}

/// One that is longer than the clock can count is one that no server lives to see.
fn positive(timeout: Duration) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    assert!(!timeout.is_zero(), "a time-out of zero");
    timeout.min(CENTURY)
}
