//! [`UnixStream`].

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockRef, Type};

use super::rights::{self, passing_calls};
use super::{from_system, retry, to_system};
use crate::net::explain;
use crate::net::socket::{Direction, Socket};
use crate::net::timed::{Timed, stream_calls, timed_calls};
use crate::sys::fd;
use crate::sys::shared_fd::SharedFd;

/// A connection by a Unix socket: gevent's `socket` of the family `AF_UNIX`. What is said of
/// [`TcpStream`](crate::net::TcpStream) holds here too.
///
/// ```
/// use greenwood_runtime::{net::UnixStream, spawn};
/// use std::io::{Read, Write};
///
/// let (mut here, mut there) = UnixStream::pair()?;
/// let greenlet = spawn(move || there.write_all(b"hello"));
/// let mut buffer = [0; 5];
/// here.read_exact(&mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// assert_eq!(here.peer_credentials()?.pid as u32, std::process::id());
/// # greenlet.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct UnixStream {
    inner: SharedFd<Timed>,
}

/// Who was at the other end of a [`UnixStream`] when it was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixCredentials {
    /// The number of the process.
    pub pid: i32,
    /// The number of its user.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl UnixStream {
    /// Connects to the socket at a path. Waits while its backlog is full; see
    /// [`connect_timeout`](UnixStream::connect_timeout).
    ///
    /// # Errors
    ///
    /// What the system says: `NotFound` without such a path, `ConnectionRefused` when nobody
    /// listens; `InvalidInput` for a path of more than 107 bytes.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?, None)
    }

    /// Connects to the socket at a path, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and as [`connect`](UnixStream::connect).
    pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?, Some(timeout))
    }

    /// Connects to an address, for instance an abstract name, waiting no longer than `timeout`
    /// (none: without end).
    ///
    /// The kernel does not tell when a full backlog has room again: one looks every 1 to 50 ms.
    ///
    /// # Errors
    ///
    /// As [`connect_timeout`](UnixStream::connect_timeout).
    pub fn connect_addr(address: &SocketAddr, timeout: Option<Duration>) -> io::Result<UnixStream> {
        let address = to_system(address)?;
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
            .map_err(explain)?;
        let stream = UnixStream::from_nonblocking(Socket::homed(socket.into()));
        retry(timeout, || SockRef::from(&*stream.inner).connect(&address))?;
        Ok(stream)
    }

    /// Two ends of a new connection.
    ///
    /// # Errors
    ///
    /// What the system says; where a limit is reached (`EMFILE`), the error names it.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (here, there) = socket2::Socket::pair(Domain::UNIX, Type::STREAM.nonblocking(), None)
            .map_err(explain)?;
        let home =
            |socket: socket2::Socket| UnixStream::from_nonblocking(Socket::homed(socket.into()));
        Ok((home(here), home(there)))
    }

    /// A connection on a descriptor, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<UnixStream> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(UnixStream::from_nonblocking(fd))
    }

    /// As [`from_fd`](UnixStream::from_fd), for a descriptor that is non-blocking already.
    pub(crate) fn from_nonblocking(fd: OwnedFd) -> UnixStream {
        UnixStream {
            inner: SharedFd::new(Timed::new(Socket::in_pieces(fd))),
        }
    }

    /// The peer's address; mostly without a name.
    ///
    /// # Errors
    ///
    /// What the system says: the socket may not be connected any more.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        from_system(&SockRef::from(&*self.inner).peer_addr()?)
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_system(&SockRef::from(&*self.inner).local_addr()?)
    }

    /// Which process, user and group the other end belonged to when it was connected
    /// (`SO_PEERCRED`). The kernel vouches for it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn peer_credentials(&self) -> io::Result<UnixCredentials> {
        let credentials = fd::peer_credentials(self.as_fd())?;
        Ok(UnixCredentials {
            pid: credentials.pid,
            uid: credentials.uid,
            gid: credentials.gid,
        })
    }
}

timed_calls!(UnixStream);
// A read ends where descriptors were passed (`SCM_RIGHTS`), though more has arrived.
stream_calls!(UnixStream);
passing_calls!(UnixStream, is stream: true);
