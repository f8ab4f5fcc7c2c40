//! [`StreamServer`]: gevent's `StreamServer`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Spawn;
use super::accept::{Gate, Starter, Ticket, is_fatal, is_of_the_connection};
use super::base::{Base, OnUnwind};
use super::listener::Listener;
use super::seats::Seat;
use crate::error::SpawnError;
use crate::greenlet::Builder;
use crate::hub;
use crate::net::{self, TcpListener, TcpStream, ToSocketAddrs, UnixListener, UnixStream};
use crate::task::lock;

/// How many connections are taken before the hub's other greenlets get their turn: gevent's
/// `max_accept`.
const MAX_ACCEPT: usize = 100;

/// Accepts connections and runs a handler for each in a greenlet of its own: gevent's
/// `StreamServer`.
///
/// Connections go to the hubs by their descriptors' numbers, which are given out in turn. A handler
/// that panics ends its connection only. When descriptors or memory run out, accepting pauses (10
/// ms, doubled up to 1 s) and goes on; nobody who is connected notices.
///
/// It listens by TCP ([`new`](StreamServer::new)), TLS (`with_tls`), a Unix socket
/// ([`unix`](StreamServer::unix)), or on a listener that was made by the caller or inherited
/// ([`from_listener`](StreamServer::from_listener)), of either kind by a
/// [`StreamListener`](crate::net::StreamListener). A clone is a second handle to the same server,
/// to stop it from elsewhere.
///
/// ```no_run
/// use greenwood_runtime::StreamServer;
/// use std::io::{Read, Write};
///
/// let server = StreamServer::new("127.0.0.1:7000", |mut stream, _peer| {
///     let mut buffer = [0; 1024];
///     while let Ok(n) = stream.read(&mut buffer) {
///         if n == 0 || stream.write_all(&buffer[..n]).is_err() {
///             break;
///         }
///     }
/// })?;
/// server.serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServer<L: Listener = TcpListener> {
    inner: Arc<Inner<L>>,
}

type Handle<L> = dyn Fn(<L as Listener>::Stream, <L as Listener>::Address, Seat) + Send + Sync;

struct Inner<L: Listener> {
    base: Base<L>,
    address: L::Address,
    handle: Box<Handle<L>>,
    settings: Mutex<Settings>,
}

#[derive(Clone)]
struct Settings {
    spawn: Spawn,
    max_accept: usize,
}

impl StreamServer {
    /// Listens on `address`; connections wait in the backlog until [`start`](StreamServer::start).
    ///
    /// # Errors
    ///
    /// When the address can't be had, with the address.
    pub fn new<F>(address: impl ToSocketAddrs, handle: F) -> io::Result<StreamServer>
    where
        F: Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    {
        StreamServer::from_listener(TcpListener::bind(address)?, handle)
    }
}

impl StreamServer<UnixListener> {
    /// Listens on a Unix socket at `path`. A socket that was left behind there is replaced, one
    /// that somebody listens on is not ([`UnixListener::replace`]); the file goes with the server.
    ///
    /// # Errors
    ///
    /// When the path can't be had, with the path.
    ///
    /// ```no_run
    /// use greenwood_runtime::StreamServer;
    /// use std::io::Write;
    ///
    /// let server = StreamServer::unix("/run/service/socket", |mut stream, _peer| {
    ///     stream.write_all(b"hello\n").ok();
    /// })?;
    /// server.serve_forever()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unix<F>(path: impl AsRef<Path>, handle: F) -> io::Result<StreamServer<UnixListener>>
    where
        F: Fn(UnixStream, std::os::unix::net::SocketAddr) + Send + Sync + 'static,
    {
        StreamServer::from_listener(UnixListener::replace(path)?, handle)
    }
}

impl<L: Listener> StreamServer<L> {
    /// As [`new`](StreamServer::new), on a listener made by the caller.
    ///
    /// # Errors
    ///
    /// When the listener has no address of its kind.
    pub fn from_listener<F>(listener: L, handle: F) -> io::Result<StreamServer<L>>
    where
        F: Fn(L::Stream, L::Address) + Send + Sync + 'static,
    {
        StreamServer::with_seats(listener, move |stream, peer, _seat| handle(stream, peer))
    }

    /// As [`from_listener`](StreamServer::from_listener), for handlers whose connections may go on
    /// after they have returned, without a greenlet: as long as they keep the [`Seat`].
    ///
    /// # Errors
    ///
    /// When the listener has no address of its kind.
    pub fn with_seats<F>(listener: L, handle: F) -> io::Result<StreamServer<L>>
    where
        F: Fn(L::Stream, L::Address, Seat) + Send + Sync + 'static,
    {
        let address = listener.address()?;
        let inner = Inner {
            base: Base::new(listener, L::name(&address)),
            address,
            handle: Box::new(handle),
            settings: Mutex::new(Settings {
                spawn: Spawn::Greenlet,
                max_accept: MAX_ACCEPT,
            }),
        };
        Ok(StreamServer {
            inner: Arc::new(inner),
        })
    }

    /// The most connections at a time: further ones wait in the backlog. Default: what descriptors
    /// and greenlets allow ([`Hub::limits`](crate::Hub::limits)), less 64 descriptors; those that
    /// are [detached](Seat::detach) need no greenlet.
    ///
    /// # Panics
    ///
    /// If it is 0: the server could never serve.
    pub fn max_connections(self, connections: usize) -> StreamServer<L> {
        assert!(
            connections > 0,
            "max_connections is 0: the server could never accept"
        );
        self.spawn(Spawn::Pool(connections))
    }

    /// In what handlers run: gevent's `spawn`. To be set before the start.
    ///
    /// # Panics
    ///
    /// For a pool of 0: the server could never serve.
    pub fn spawn(self, spawn: impl Into<Spawn>) -> StreamServer<L> {
        let spawn = spawn.into();
        assert!(
            spawn.has_room(),
            "a pool of 0: the server could never accept"
        );
        lock(&self.inner.settings).spawn = spawn;
        self
    }

    /// How many connections are taken in a row before the other greenlets of the hub that accepts
    /// have their turn: gevent's `max_accept`. Default 100. Lower it if accepting a burst holds up
    /// those who are connected. To be set before the start.
    ///
    /// # Panics
    ///
    /// If it is 0.
    pub fn max_accept(self, connections: usize) -> StreamServer<L> {
        assert!(
            connections > 0,
            "max_accept is 0: the server could never accept"
        );
        lock(&self.inner.settings).max_accept = connections;
        self
    }

    /// How many connections the system holds before they are accepted. Default: 128; capped by
    /// `net.core.somaxconn`.
    pub fn backlog(self, backlog: u16) -> StreamServer<L> {
        if let Some(listener) = self.inner.base.source() {
            // Fails only for a socket that does not listen.
            listener.set_backlog(backlog.into()).ok();
        }
        self
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> L::Address {
        self.inner.address.clone()
    }

    /// How many connections are being served.
    pub fn connections(&self) -> usize {
        self.inner.base.seats.count()
    }

    /// Whether it has been started and not stopped since: gevent's `started`.
    pub fn started(&self) -> bool {
        self.inner.base.has_started()
    }

    /// Whether it has been closed, by a stop or because it can't accept any more: gevent's
    /// `closed`.
    pub fn closed(&self) -> bool {
        !self.inner.base.is_open()
    }

    /// Starts accepting, and returns. Does nothing if it has started.
    ///
    /// # Errors
    ///
    /// When it has been stopped, or its greenlet or the hubs can't be started.
    pub fn start(&self) -> io::Result<()> {
        let inner = &self.inner;
        inner.base.start(
            inner,
            |inner| &inner.base,
            |listener| {
                let Settings { spawn, max_accept } = lock(&inner.settings).clone();
                let acceptor = Acceptor {
                    inner: Arc::clone(inner),
                    listener,
                    gate: inner.base.gate(spawn, true),
                    starter: Starter::new(inner.base.name.clone()),
                    max_accept,
                };
                move || acceptor.run()
            },
        )
    }

    /// Accepts no more for the time being: gevent's `stop_accepting`. Who comes waits in the backlog;
    /// who is connected is served on. The [`start`](StreamServer::start) goes on accepting: gevent's
    /// `start_accepting`.
    pub fn stop_accepting(&self) {
        self.inner.base.stop_accepting();
    }

    /// Starts accepting and waits until the server is stopped, by another handle to it. A kill or a
    /// time-out that ends the wait [closes](StreamServer::close) the server.
    ///
    /// # Errors
    ///
    /// As [`start`](StreamServer::start); what the system said of a listener that can't accept.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let _closed = OnUnwind(|| self.close());
        self.join()
    }

    /// Waits until the server has been stopped, and all its connections have ended. A kill or a
    /// time-out that ends the wait does nothing to the server.
    ///
    /// # Errors
    ///
    /// What the system said of a listener that can't accept: then connections may be left, until
    /// the [`stop`](StreamServer::stop).
    pub fn join(&self) -> io::Result<()> {
        self.inner.base.join()
    }

    /// Stops: closes the listener, gives those who are being served `timeout` to finish, then kills
    /// them. gevent's default is 1 s. The caller's own greenlet is left alone. A kill or a time-out
    /// that ends the wait ends the time to finish as well.
    ///
    /// Returns when all have ended, however long one takes to clean up, or not to notice the kill
    /// (gevent waits for a second, and for those of a pool only); [`with_timeout`](crate::with_timeout)
    /// is the way to wait no longer than so.
    pub fn stop(&self, timeout: Duration) {
        self.inner.base.stop(timeout);
    }

    /// The first half of [`stop`](StreamServer::stop): no more connections are accepted, and the
    /// port is free.
    pub fn close(&self) {
        self.inner.base.close();
    }

    /// The second half of [`stop`](StreamServer::stop).
    pub fn finish(&self, timeout: Duration) {
        self.inner.base.finish(timeout);
    }
}

impl<L: Listener> Clone for StreamServer<L> {
    fn clone(&self) -> Self {
        StreamServer {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<L: Listener> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("address", &self.inner.address)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

struct Acceptor<L: Listener> {
    inner: Arc<Inner<L>>,
    listener: Arc<L>,
    gate: Arc<Gate>,
    starter: Starter,
    max_accept: usize,
}

impl<L: Listener> Acceptor<L> {
    fn run(mut self) {
        let mut in_a_row = 0;
        loop {
            self.starter.look_back();
            // The room first: a connection that can't be served yet stays in the backlog.
            let Some(ticket) = self.gate.admit() else {
                return;
            };
            match self.listener.try_accept() {
                Ok((fd, peer)) => {
                    if let Err(error) = self.serve(fd, peer, ticket) {
                        self.starter.pause(&error);
                    }
                    in_a_row += 1;
                    if in_a_row >= self.max_accept {
                        in_a_row = 0;
                        crate::idle();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(ticket);
                    in_a_row = 0;
                    match self.listener.wait() {
                        Ok(()) => {}
                        Err(error) if net::is_exhaustion(&error) => self.starter.pause(&error),
                        Err(error) => return self.inner.base.fail(&error),
                    }
                }
                Err(error) if net::is_exhaustion(&error) => {
                    drop(ticket);
                    self.starter.pause(&error);
                }
                Err(error) if is_fatal(&error) => return self.inner.base.fail(&error),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    drop(ticket);
                    self.starter.pause(&error);
                }
            }
        }
    }

    fn serve(&self, fd: OwnedFd, peer: L::Address, ticket: Ticket) -> Result<(), SpawnError> {
        // The hub to which the descriptor's number belongs: it is waited for without a duplicate.
        let hub = fd.as_raw_fd() as usize % hub::runtime().hubs();
        let stream = self.listener.stream(fd);
        let inner = Arc::clone(&self.inner);
        self.starter.start(Builder::new().hub(hub), move || {
            let seat = ticket.seat(&inner.base.seats);
            // Accepted just before the server stopped: it is not among those that stop waits for.
            if inner.base.is_open() {
                (inner.handle)(stream, peer, seat);
            }
        })
    }
}
