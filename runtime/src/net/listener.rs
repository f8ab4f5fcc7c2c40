//! [`TcpListener`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};

use super::socket::{Direction, Socket};
use super::{TcpStream, explain};
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
    ///
    /// # Errors
    ///
    /// What the system says of the last address, with the address; `InvalidInput` when there is
    /// none.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        TcpListener::bind_with_backlog(address, BACKLOG)
    }

    /// As [`bind`](TcpListener::bind), with another backlog. The system caps it at
    /// `net.core.somaxconn`.
    ///
    /// # Errors
    ///
    /// As [`bind`](TcpListener::bind).
    pub fn bind_with_backlog(address: impl ToSocketAddrs, backlog: i32) -> io::Result<TcpListener> {
        let mut last = None;
        for address in address.to_socket_addrs()? {
            match listen(address, backlog) {
                Ok(fd) => return TcpListener::from_fd(fd),
                Err(error) => {
                    last = Some(io::Error::new(
                        error.kind(),
                        format!("can't listen on {address}: {error}"),
                    ));
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name has no address to listen on",
            )
        }))
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
    /// setting.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        switch::check();
        loop {
            match self.try_accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.wait(Direction::Read, None)?;
                }
                Err(error) => return Err(error),
                Ok((fd, peer)) => {
                    // To the caller's hub, so that it needs no second descriptor there.
                    let fd = Socket::homed(fd);
                    return Ok((TcpStream::from_nonblocking(fd), peer));
                }
            }
        }
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
        let mut accepted = None;
        // A listener has no short reads: it is empty when it says so.
        self.socket
            .try_read(0, |listener| {
                accepted = Some(fd::accept(listener)?);
                Ok(0)
            })
            .map_err(explain)?;
        accepted.ok_or_else(|| io::ErrorKind::WouldBlock.into())
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

fn listen(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(explain)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
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
