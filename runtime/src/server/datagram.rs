//! [`DatagramServer`]: gevent's `DatagramServer`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Spawn;
use super::accept::{Gate, Starter, is_fatal};
use super::base::{Base, OnUnwind};
use crate::greenlet::Builder;
use crate::net::{ToSocketAddrs, UdpSocket, UnixDatagram, unix_name};
use crate::task::lock;

/// The most bytes of a datagram, if nothing else is said: gevent's.
const RECV_SIZE: usize = 8192;

/// Receives datagrams and runs a handler for each in a greenlet of its own: gevent's
/// `DatagramServer`.
///
/// The handler gets the server, to answer by [`sendto`](DatagramServer::sendto), the datagram, and
/// its sender. Handlers run on the socket's own hub; where one hub is too little, several servers
/// can share the port (`SO_REUSEPORT`, [`from_socket`](DatagramServer::from_socket)). While as many
/// run as [may](DatagramServer::spawn), nothing is received: what comes waits in the socket's
/// buffer, and by UDP is lost when that is full. A handler that panics ends itself only.
///
/// A clone is a second handle to the same server.
///
/// ```no_run
/// use greenwood_runtime::DatagramServer;
///
/// let server = DatagramServer::new("127.0.0.1:9000", |server, datagram, peer| {
///     server.sendto(&datagram, &peer).ok();
/// })?;
/// server.serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramServer<S: DatagramSocket = UdpSocket> {
    inner: Arc<Inner<S>>,
}

/// A socket of which a [`DatagramServer`] receives: a [`UdpSocket`] or a [`UnixDatagram`]. Sealed.
pub trait DatagramSocket: sealed::Receive {
    /// Its own address, and those of its peers.
    type Address: Clone + fmt::Debug + Send + Sync + 'static;
}

mod sealed {
    use super::*;

    /// What the server does with it.
    pub trait Receive: AsRawFd + Clone + Send + Sync + Sized + 'static {
        /// Waits until there is something to receive.
        fn wait(&self) -> io::Result<()>;
        /// Receives a datagram if one waits.
        fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Address<Self>)>
        where
            Self: DatagramSocket;
        fn send(&self, bytes: &[u8], address: &Address<Self>) -> io::Result<usize>
        where
            Self: DatagramSocket;
        fn address(&self) -> io::Result<Address<Self>>
        where
            Self: DatagramSocket;
        /// The address in logs.
        fn name(address: &Address<Self>) -> String
        where
            Self: DatagramSocket;
    }

    pub(super) type Address<S> = <S as DatagramSocket>::Address;
}

type Handle<S> = dyn Fn(&DatagramServer<S>, Vec<u8>, <S as DatagramSocket>::Address) + Send + Sync;

struct Inner<S: DatagramSocket> {
    base: Base<S>,
    address: S::Address,
    /// For answers, also while the last handlers finish.
    socket: Mutex<Option<S>>,
    handle: Box<Handle<S>>,
    settings: Mutex<Settings>,
}

#[derive(Clone)]
struct Settings {
    spawn: Spawn,
    recv_size: usize,
}

impl DatagramServer {
    /// A server on a UDP address. Datagrams wait in the socket's buffer until the
    /// [`start`](DatagramServer::start).
    ///
    /// # Errors
    ///
    /// When the address can't be had, with the address.
    pub fn new<F>(address: impl ToSocketAddrs, handle: F) -> io::Result<DatagramServer>
    where
        F: Fn(&DatagramServer, Vec<u8>, SocketAddr) + Send + Sync + 'static,
    {
        DatagramServer::from_socket(UdpSocket::bind(address)?, handle)
    }
}

impl<S: DatagramSocket> DatagramServer<S> {
    /// A server on a socket made by the caller or inherited.
    ///
    /// # Errors
    ///
    /// When the socket has no address of its kind.
    pub fn from_socket<F>(socket: S, handle: F) -> io::Result<DatagramServer<S>>
    where
        F: Fn(&DatagramServer<S>, Vec<u8>, S::Address) + Send + Sync + 'static,
    {
        let address = socket.address()?;
        let inner = Inner {
            base: Base::new(socket.clone(), S::name(&address)),
            address,
            socket: Mutex::new(Some(socket)),
            handle: Box::new(handle),
            settings: Mutex::new(Settings {
                spawn: Spawn::Greenlet,
                recv_size: RECV_SIZE,
            }),
        };
        Ok(DatagramServer {
            inner: Arc::new(inner),
        })
    }

    /// In what handlers run: gevent's `spawn`. To be set before the start. Default: as many
    /// greenlets as the process may have.
    ///
    /// # Panics
    ///
    /// For a pool of 0: the server could never serve.
    pub fn spawn(self, spawn: impl Into<Spawn>) -> DatagramServer<S> {
        let spawn = spawn.into();
        assert!(
            spawn.has_room(),
            "a pool of 0: the server could never receive"
        );
        lock(&self.inner.settings).spawn = spawn;
        self
    }

    /// The most bytes of a datagram: longer ones lose their rest. Default 8192, as in gevent; 65,535
    /// holds every UDP datagram. A handler has a copy of its datagram's length only. To be set before
    /// the start.
    pub fn recv_size(self, bytes: usize) -> DatagramServer<S> {
        lock(&self.inner.settings).recv_size = bytes;
        self
    }

    /// Sends a datagram by the server's socket, waiting while the system takes none: gevent's
    /// `sendto`.
    ///
    /// # Errors
    ///
    /// What the system says; `NotConnected` after the server has been stopped.
    pub fn sendto(&self, bytes: &[u8], address: &S::Address) -> io::Result<usize> {
        let socket = lock(&self.inner.socket).clone();
        match socket {
            Some(socket) => socket.send(bytes, address),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the server has been stopped",
            )),
        }
    }

    /// The address that it receives on.
    pub fn local_addr(&self) -> S::Address {
        self.inner.address.clone()
    }

    /// How many handlers are running.
    pub fn handlers(&self) -> usize {
        self.inner.base.seats.count()
    }

    /// Whether it has been started and not stopped since: gevent's `started`.
    pub fn started(&self) -> bool {
        self.inner.base.has_started()
    }

    /// Whether it has been closed, by a stop or because it can't receive any more: gevent's
    /// `closed`.
    pub fn closed(&self) -> bool {
        !self.inner.base.is_open()
    }

    /// Starts receiving, and returns. Does nothing if it has started.
    ///
    /// # Errors
    ///
    /// When it has been stopped, or its greenlet or the hubs can't be started.
    pub fn start(&self) -> io::Result<()> {
        let inner = &self.inner;
        inner.base.start(
            inner,
            |inner| &inner.base,
            |socket| {
                let Settings { spawn, recv_size } = lock(&inner.settings).clone();
                let receiver = Receiver {
                    server: self.clone(),
                    socket,
                    gate: inner.base.gate(spawn, false),
                    starter: Starter::new(inner.base.name.clone()),
                    recv_size,
                };
                move || receiver.run()
            },
        )
    }

    /// Receives no more for the time being: gevent's `stop_accepting`. What comes waits in the
    /// socket's buffer. The [`start`](DatagramServer::start) goes on receiving: gevent's
    /// `start_accepting`.
    pub fn stop_accepting(&self) {
        self.inner.base.stop_accepting();
    }

    /// Starts receiving and waits until the server is stopped, by another handle to it. A kill or a
    /// time-out that ends the wait [closes](DatagramServer::close) the server.
    ///
    /// # Errors
    ///
    /// As [`start`](DatagramServer::start); what the system said of a socket that can't receive.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let _closed = OnUnwind(|| self.close());
        self.join()
    }

    /// Waits until the server has been stopped, and all its handlers have ended.
    ///
    /// # Errors
    ///
    /// What the system said of a socket that can't receive.
    pub fn join(&self) -> io::Result<()> {
        self.inner.base.join()
    }

    /// Stops: receives no more, gives the handlers that run `timeout` to finish, then kills them;
    /// they can answer until then. gevent's default is 1 s. Returns when all have ended, however long
    /// that takes, and the port is free. The caller's own greenlet is left alone.
    pub fn stop(&self, timeout: Duration) {
        let _freed = OnUnwind(|| self.free());
        self.inner.base.stop(timeout);
        self.free();
    }

    /// The first half of [`stop`](DatagramServer::stop): nothing more is received. The port is free
    /// when the last handler has ended.
    pub fn close(&self) {
        self.inner.base.close();
        self.free_if_idle();
    }

    /// The second half of [`stop`](DatagramServer::stop).
    pub fn finish(&self, timeout: Duration) {
        let _freed = OnUnwind(|| self.free());
        self.inner.base.finish(timeout);
        self.free();
    }

    fn free(&self) {
        let socket = lock(&self.inner.socket).take();
        drop(socket);
    }

    fn free_if_idle(&self) {
        if self.closed() && self.handlers() == 0 {
            self.free();
        }
    }
}

impl<S: DatagramSocket> Clone for DatagramServer<S> {
    fn clone(&self) -> Self {
        DatagramServer {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: DatagramSocket> fmt::Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramServer")
            .field("address", &self.inner.address)
            .field("handlers", &self.handlers())
            .finish_non_exhaustive()
    }
}

struct Receiver<S: DatagramSocket> {
    server: DatagramServer<S>,
    socket: Arc<S>,
    gate: Arc<Gate>,
    starter: Starter,
    recv_size: usize,
}

impl<S: DatagramSocket> Receiver<S> {
    fn run(mut self) {
        let mut buffer = vec![0; self.recv_size];
        loop {
            self.starter.look_back();
            // Lets the others of the hub have their turn by itself, now and then.
            let received = self.socket.wait().map(|()| {
                // Who receives nothing takes no room from those who share it. But that comes before
                // the datagram: one that can't be served yet stays in the socket's buffer.
                let ticket = self.gate.admit()?;
                let received = self.socket.try_receive(&mut buffer);
                Some(received.map(|received| (received, ticket)))
            });
            let ((n, peer), ticket) = match received.transpose() {
                None => return,
                Some(Ok(Ok(received))) => received,
                Some(Err(error) | Ok(Err(error))) => match error.kind() {
                    // Another server that shares the socket was quicker; a time limit that the
                    // socket was given.
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => continue,
                    _ if is_fatal(&error) => return self.server.inner.base.fail(&error),
                    _ => {
                        self.starter.pause(&error);
                        continue;
                    }
                },
            };
            let datagram = buffer[..n].to_vec();
            let server = self.server.clone();
            let started = self.starter.start(Builder::new(), move || {
                let last = FreeIfIdle(server);
                let server = &last.0;
                let base = &server.inner.base;
                let _seat = ticket.seat(&base.seats);
                if base.is_open() {
                    (server.inner.handle)(server, datagram, peer);
                }
            });
            if let Err(error) = started {
                self.starter.pause(&error);
            }
        }
    }
}

/// Frees the port behind the last handler of a server that was closed.
struct FreeIfIdle<S: DatagramSocket>(DatagramServer<S>);

impl<S: DatagramSocket> Drop for FreeIfIdle<S> {
    fn drop(&mut self) {
        self.0.free_if_idle();
    }
}

impl DatagramSocket for UdpSocket {
    type Address = SocketAddr;
}

impl sealed::Receive for UdpSocket {
    fn wait(&self) -> io::Result<()> {
        self.wait_readable()
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.try_recv_from(buffer)
    }

    fn send(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.send_to(bytes, address)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn name(address: &SocketAddr) -> String {
        format!("udp:{address}")
    }
}

impl DatagramSocket for UnixDatagram {
    type Address = net::SocketAddr;
}

impl sealed::Receive for UnixDatagram {
    fn wait(&self) -> io::Result<()> {
        self.wait_readable()
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, net::SocketAddr)> {
        self.try_recv_from(buffer)
    }

    fn send(&self, bytes: &[u8], address: &net::SocketAddr) -> io::Result<usize> {
        self.send_to_addr(bytes, address)
    }

    fn address(&self) -> io::Result<net::SocketAddr> {
        self.local_addr()
    }

    fn name(address: &net::SocketAddr) -> String {
        unix_name(address)
    }
}
