//! [`UnixDatagram`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockRef, Type};

use super::rights::{self, passing_calls};
use super::{from_system, retry, to_system};
use crate::net::explain;
use crate::net::socket::{Direction, Socket};
use crate::net::timed::{Timed, timed_calls};
use crate::sys::fd;
use crate::sys::shared_fd::SharedFd;

/// A Unix socket of datagrams: gevent's `socket` of the family `AF_UNIX` and type `SOCK_DGRAM`. None
/// is lost or overtaken: who sends to a full queue waits. A clone is a second handle to the same
/// socket.
///
/// The file of a path that it was bound to stays: who made it removes it.
///
/// ```
/// use greenwood_runtime::net::UnixDatagram;
/// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
///
/// let name = SocketAddr::from_abstract_name(format!("example-{}", std::process::id()))?;
/// let here = UnixDatagram::bind_addr(&name)?;
/// UnixDatagram::unbound()?.send_to_addr(b"hello", &name)?;
/// assert_eq!(here.recv(&mut [0; 9])?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UnixDatagram {
    inner: SharedFd<Timed>,
}

impl UnixDatagram {
    /// A socket at a path.
    ///
    /// # Errors
    ///
    /// What the system says: `AddrInUse` if there is anything at the path; `InvalidInput` for a path
    /// of more than 107 bytes.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// A socket at an address, for instance an abstract name.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        let address = to_system(address)?;
        let socket = UnixDatagram::unbound()?;
        SockRef::from(&*socket.inner).bind(&address)?;
        Ok(socket)
    }

    /// A socket without an address: it sends, and nobody can answer.
    ///
    /// # Errors
    ///
    /// What the system says; where a limit is reached (`EMFILE`), the error names it.
    pub fn unbound() -> io::Result<UnixDatagram> {
        let socket =
            socket2::Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None).map_err(explain)?;
        Ok(UnixDatagram::from_nonblocking(Socket::homed(socket.into())))
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// As [`unbound`](UnixDatagram::unbound).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (here, there) = socket2::Socket::pair(Domain::UNIX, Type::DGRAM.nonblocking(), None)
            .map_err(explain)?;
        let home =
            |socket: socket2::Socket| UnixDatagram::from_nonblocking(Socket::homed(socket.into()));
        Ok((home(here), home(there)))
    }

    /// A socket on a descriptor, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<UnixDatagram> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(UnixDatagram::from_nonblocking(fd))
    }

    fn from_nonblocking(fd: OwnedFd) -> UnixDatagram {
        UnixDatagram {
            inner: SharedFd::new(Timed::new(Socket::endless(fd))),
        }
    }

    /// Chooses the peer of [`send`](UnixDatagram::send), the socket at a path.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// As [`connect`](UnixDatagram::connect), for any address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        SockRef::from(&*self.inner).connect(&to_system(address)?)
    }

    /// Sends a datagram to the socket at a path.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the write time-out; what the system says: `NotFound` without such a path,
    /// `ConnectionRefused` when nobody has it any more.
    pub fn send_to(&self, bytes: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(bytes, &SocketAddr::from_pathname(path)?)
    }

    /// As [`send_to`](UnixDatagram::send_to), for any address.
    ///
    /// The kernel does not tell when the queue of a socket that one is not connected with has room
    /// again: one looks every 1 to 50 ms.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to).
    pub fn send_to_addr(&self, bytes: &[u8], address: &SocketAddr) -> io::Result<usize> {
        let address = to_system(address)?;
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        retry(self.write_timeout(), || {
            self.inner
                .socket
                .try_write(|fd| SockRef::from(&fd).send_to_with_flags(bytes, &address, flags))
        })
    }

    /// Waits for a datagram; its length, and who has sent it.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the read time-out; `ResourceBusy` when another greenlet of the hub waits
    /// to read; what the system says.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buffer, false)
    }

    /// As [`recv_from`](UnixDatagram::recv_from), and the datagram stays.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receive(buffer, true)
    }

    fn receive(&self, buffer: &mut [u8], peek: bool) -> io::Result<(usize, SocketAddr)> {
        let socket = &self.inner.socket;
        let (n, sender) = self
            .inner
            .read_waiting(|| socket.try_take(|fd| fd::receive_from(fd, buffer, peek)))?;
        Ok((n, from_system(&sender)?))
    }

    /// Sends a datagram to the peer, waiting while its queue is full.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to); `NotConnected` without a peer.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let socket = &self.inner.socket;
        self.inner
            .write_waiting(|| socket.try_write(|fd| fd::send(fd, bytes)))
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](UnixDatagram::recv_from).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let socket = &self.inner.socket;
        self.inner
            .read_waiting(|| socket.try_take(|fd| fd::receive(fd, buffer)))
    }

    /// Receives a datagram if there is one; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none; what the system says.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (n, sender) = self
            .inner
            .socket
            .try_take(|fd| fd::receive_from(fd, buffer, false))?;
        Ok((n, from_system(&sender)?))
    }

    /// A second handle to the same socket. Costs no descriptor.
    ///
    /// # Errors
    ///
    /// None; the type is std's.
    pub fn try_clone(&self) -> io::Result<UnixDatagram> {
        Ok(self.clone())
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_system(&SockRef::from(&*self.inner).local_addr()?)
    }

    /// The address of the peer of [`connect`](UnixDatagram::connect).
    ///
    /// # Errors
    ///
    /// What the system says: `NotConnected` when there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        from_system(&SockRef::from(&*self.inner).peer_addr()?)
    }
}

timed_calls!(UnixDatagram);
passing_calls!(UnixDatagram, is stream: false);
