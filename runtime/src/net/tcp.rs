//! [`TcpStream`].

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use super::socket::{Direction, Socket};
use super::timed::{Timed, stream_calls, timed_calls};
use super::{ToSocketAddrs, connect};
use crate::switch;
use crate::sys::fd;
use crate::sys::shared_fd::SharedFd;

/// A TCP connection: gevent's `socket`. Calls block the greenlet (or the plain thread), never the
/// hub.
///
/// Reading and writing may be done by two greenlets at once, also of different hubs; two that wait
/// to read at the same time on one hub are refused (`ResourceBusy`).
/// [`try_clone`](TcpStream::try_clone) gives a second handle to the same socket, with the same
/// time-outs.
///
/// Urgent data (`MSG_OOB`) is not for use with it, as RFC 6093 advises anyway: the urgent byte is
/// left out, and what follows it may be given no sooner than something else comes.
///
/// The first greenlet that waits decides which hub the socket is registered with; each further hub
/// that waits for it takes one more descriptor.
#[derive(Debug, Clone)]
pub struct TcpStream {
    inner: SharedFd<Timed>,
}

impl TcpStream {
    /// Connects, to the first of the addresses that answers: [`create_connection`] without a time
    /// limit.
    ///
    /// # Errors
    ///
    /// What the system says of the last address; `InvalidInput` when there is none.
    ///
    /// [`create_connection`]: super::create_connection
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        super::create_connection(address, None, None)
    }

    /// Connects, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or what the system says.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        connect::connect_until(*address, None, switch::deadline(Some(timeout)))
    }

    /// A connection on a descriptor, which becomes non-blocking: one that was inherited or passed
    /// over, or `OwnedFd::from(stream)` of a std stream.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<TcpStream> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(TcpStream::from_nonblocking(fd))
    }

    /// As [`from_fd`](TcpStream::from_fd), for a descriptor that is non-blocking already.
    pub(crate) fn from_nonblocking(fd: OwnedFd) -> TcpStream {
        TcpStream {
            inner: SharedFd::new(Timed::new(Socket::new(fd))),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What the system says: the socket may not be connected any more.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(SockRef::from(&self.inner.socket).peer_addr()?)
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(SockRef::from(&self.inner.socket).local_addr()?)
    }

    /// Sends small pieces at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        SockRef::from(&self.inner.socket).set_tcp_nodelay(on)
    }

    /// Has the system ask a peer that has been silent for `idle` whether it is still there, three
    /// more times every quarter of that; without an answer the connection ends (`SO_KEEPALIVE`).
    /// Whole seconds; none switches it off.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        super::set_keepalive(&SockRef::from(&self.inner.socket), idle)
    }

    /// Closes with a reset instead of the usual end: what has not been sent is dropped at once
    /// (`SO_LINGER` of 0).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_reset_on_close(&self, on: bool) -> io::Result<()> {
        SockRef::from(&self.inner.socket).set_linger(on.then_some(Duration::ZERO))
    }

    /// Waits for one direction until a moment of the runtime's clock.
    pub(super) fn wait_until(&self, direction: Direction, until: Option<u64>) -> io::Result<()> {
        self.inner.socket.wait_until(direction, until)
    }

    #[cfg(feature = "tls")]
    pub(super) fn write_waiting(
        &self,
        write: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.inner.write_waiting(write)
    }
}

timed_calls!(TcpStream);
stream_calls!(TcpStream);

/// An address of a socket that is one of TCP or UDP.
pub(super) fn internet(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an internet address"))
}
