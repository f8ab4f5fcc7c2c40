//! [`TcpListener`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::address::first_of;
use super::socket::{Direction, Socket};
use super::tcp::internet;
use super::{TcpStream, ToSocketAddrs, explain};
use crate::switch;
use crate::sys::fd;

/// How many connections may wait to be accepted: gevent's default, 128.
pub(crate) const BACKLOG: i32 = 128;

/// A TCP socket that listens.
#[derive(Debug)]
pub struct TcpListener {
    socket: Socket,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be had, with `SO_REUSEADDR` and a backlog
    /// of 128. Port 0 takes a free one ([`local_addr`](TcpListener::local_addr) tells).
    /// [`ListenOptions`] has more to choose from.
    ///
    /// # Errors
    ///
    /// What the system says of the last address, with the address; `InvalidInput` when there is
    /// none.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        ListenOptions::new().listen(address)
    }

    /// As [`bind`](TcpListener::bind), with another backlog. The system caps it at
    /// `net.core.somaxconn`.
    ///
    /// # Errors
    ///
    /// As [`bind`](TcpListener::bind).
    pub fn bind_with_backlog(address: impl ToSocketAddrs, backlog: i32) -> io::Result<TcpListener> {
        ListenOptions::new().backlog(backlog).listen(address)
    }

    /// A listener on a descriptor that listens already, as one that was inherited. It becomes
    /// non-blocking.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<TcpListener> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(TcpListener {
            socket: Socket::new(fd),
        })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What the system says; where a limit is reached (`EMFILE`), the error names it and the
    /// setting. `EBADF` after [`close`](TcpListener::close).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_until(None)
    }

    /// Waits for a connection, no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and as [`accept`](TcpListener::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_until(switch::deadline(Some(timeout)))
    }

    fn accept_until(&self, until: Option<u64>) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = accept_waiting(&self.socket, until)?;
        Ok((TcpStream::from_nonblocking(fd), internet(peer)?))
    }

    /// Stops listening, for whoever has the listener: a greenlet that accepts gets `EBADF`, as
    /// every later call. The port is free once the listener is dropped.
    pub fn close(&self) {
        self.socket.close();
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(&self.socket)
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an internet address"))
    }

    /// As [`TcpStream::set_nodelay`], for all connections that come from now on: they inherit it,
    /// which saves a call for each.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        SockRef::from(&self.socket).set_tcp_nodelay(on)
    }

    /// As [`TcpStream::set_keepalive`], for all connections that come from now on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        super::set_keepalive(&SockRef::from(&self.socket), idle)
    }

    /// Takes a connection if one waits, under whatever number it gets.
    pub(crate) fn try_accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let (fd, peer) = try_accept(&self.socket)?;
        Ok((fd, internet(peer)?))
    }

    /// Changes the backlog.
    pub(crate) fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        SockRef::from(&self.socket).listen(backlog)
    }

    /// Waits until a connection can be taken.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.socket.wait(Direction::Read, None)
    }
}

/// How to listen on an address: gevent's `backlog` and `reuse_addr`, and what IPv6 and several
/// listeners on a port need.
///
/// ```
/// use greenwood_runtime::net::ListenOptions;
/// // Both IPv4 and IPv6, whatever the system's default is.
/// let listener = ListenOptions::new().backlog(1024).only_v6(false).listen("[::]:0");
/// # if listener.is_err() { return Ok(()); } // a machine without IPv6
/// assert!(listener?.local_addr()?.is_ipv6());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "options do nothing until `listen`"]
pub struct ListenOptions {
    backlog: i32,
    reuse_addr: bool,
    reuse_port: bool,
    only_v6: Option<bool>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: BACKLOG,
            reuse_addr: true,
            reuse_port: false,
            only_v6: None,
        }
    }
}

impl ListenOptions {
    /// The defaults.
    pub fn new() -> ListenOptions {
        ListenOptions::default()
    }

    /// How many connections may wait to be accepted. Default 128; the system caps it at
    /// `net.core.somaxconn`.
    pub fn backlog(mut self, connections: i32) -> ListenOptions {
        self.backlog = connections;
        self
    }

    /// Whether the port may be taken while connections of a listener that has ended are still
    /// closing (`SO_REUSEADDR`): gevent's `reuse_addr`. Default true, so that a server can be
    /// started again at once.
    pub fn reuse_addr(mut self, on: bool) -> ListenOptions {
        self.reuse_addr = on;
        self
    }

    /// Whether several listeners, also of several processes of the same user, may share the port
    /// (`SO_REUSEPORT`): the system spreads connections over them. Default false.
    pub fn reuse_port(mut self, on: bool) -> ListenOptions {
        self.reuse_port = on;
        self
    }

    /// Whether an IPv6 listener leaves IPv4 to others (`IPV6_V6ONLY`). With false, `[::]` takes both,
    /// and IPv4 peers have addresses like `::ffff:192.0.2.1`. Default: the system's
    /// (`net.ipv6.bindv6only`, mostly false). Without effect on IPv4 addresses.
    pub fn only_v6(mut self, on: bool) -> ListenOptions {
        self.only_v6 = Some(on);
        self
    }

    /// Listens on the first of the addresses that can be had.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    pub fn listen(self, address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        first_of(address, |address| {
            self.listen_on(address).map_err(|error| {
                io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
            })
        })
    }

    fn listen_on(self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .map_err(explain)?;
        socket.set_reuse_address(self.reuse_addr)?;
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if let Some(only_v6) = self.only_v6
            && address.is_ipv6()
        {
            socket.set_only_v6(only_v6)?;
        }
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        TcpListener::from_fd(socket.into())
    }
}

/// Takes a connection if one waits, under whatever number it gets.
pub(super) fn try_accept(socket: &Socket) -> io::Result<(OwnedFd, SockAddr)> {
    socket.try_take(fd::accept).map_err(explain)
}

/// Waits for a connection.
pub(crate) fn accept_waiting(
    socket: &Socket,
    until: Option<u64>,
) -> io::Result<(OwnedFd, SockAddr)> {
    switch::check();
    // A backlog that is never empty is no reason to keep the hub for oneself. Before a connection
    // is taken: it may raise a kill, and the connection would be lost.
    switch::share();
    loop {
        match try_accept(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.wait_until(Direction::Read, until)?;
            }
            Err(error) => return Err(error),
            // To the caller's hub, so that it needs no second descriptor there.
            Ok((fd, peer)) => return Ok((Socket::homed(fd), peer)),
        }
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
