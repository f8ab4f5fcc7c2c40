//! [`StreamListener`] and [`Address`]: where servers listen whose kind is known only when they run.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::sync::Arc;

use socket2::{Domain, SockRef, Type};

use super::{TcpListener, UnixListener};

/// A listener of either kind, whose connections are [`Stream`](super::Stream)s: for a server that
/// is told only when it starts whether it serves a port or a path.
///
/// ```
/// use greenwood_runtime::{StreamServer, net::{StreamListener, TcpListener}};
///
/// let listener = StreamListener::from(TcpListener::bind("127.0.0.1:0")?);
/// let server = StreamServer::from_listener(listener, |_stream, peer| println!("{peer}"))?;
/// println!("listening on {}", server.local_addr());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamListener {
    /// By TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl StreamListener {
    /// A listener on a descriptor that listens already, by TCP or on a Unix socket: the system is
    /// asked which. It becomes non-blocking. What [`listen_fds`](super::listen_fds) gives can be
    /// used as it is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a descriptor that is no socket of such connections, or does not listen;
    /// what the system says.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> io::Result<StreamListener> {
        let fd = fd.into();
        let socket = SockRef::from(&fd);
        let listens = socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
            && socket.is_listener().unwrap_or(false);
        match socket.domain() {
            Ok(Domain::UNIX) if listens => UnixListener::from_fd(fd).map(StreamListener::Unix),
            Ok(Domain::IPV4 | Domain::IPV6) if listens => {
                TcpListener::from_fd(fd).map(StreamListener::Tcp)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "descriptor {} is no socket that listens for TCP or Unix connections",
                    fd.as_raw_fd()
                ),
            )),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            StreamListener::Tcp(listener) => listener.local_addr().map(Address::from),
            StreamListener::Unix(listener) => listener.local_addr().map(Address::from),
        }
    }
}

impl From<TcpListener> for StreamListener {
    fn from(listener: TcpListener) -> StreamListener {
        StreamListener::Tcp(listener)
    }
}

impl From<UnixListener> for StreamListener {
    fn from(listener: UnixListener) -> StreamListener {
        StreamListener::Unix(listener)
    }
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            StreamListener::Tcp(listener) => listener.as_fd(),
            StreamListener::Unix(listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for StreamListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// The address of one end of a connection, or of a listener, of either kind.
///
/// Shown it is `127.0.0.1:8000`, `unix:/run/service/socket`, `unix:@name` for an abstract name, and
/// `unix:` for a Unix socket that has none, as clients mostly are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Address {
    /// Of TCP.
    Internet(SocketAddr),
    /// Of a Unix socket. Shared, as it is much larger than the other kind.
    Unix(Arc<net::SocketAddr>),
}

impl Address {
    /// The internet address, if it is one.
    pub fn internet(&self) -> Option<SocketAddr> {
        match self {
            Address::Internet(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    /// The Unix socket's address, if it is one.
    pub fn unix(&self) -> Option<&net::SocketAddr> {
        match self {
            Address::Internet(_) => None,
            Address::Unix(address) => Some(address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Internet(address)
    }
}

impl From<net::SocketAddr> for Address {
    fn from(address: net::SocketAddr) -> Address {
        Address::Unix(Arc::new(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Internet(address) => address.fmt(f),
            Address::Unix(address) => unix_name(address).fmt(f),
        }
    }
}

/// A Unix address as `ss` and netstat show it: `unix:` and the path, or `@` and the abstract name.
pub(crate) fn unix_name(address: &net::SocketAddr) -> String {
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    match address.as_abstract_name() {
        Some(name) => format!("unix:@{}", String::from_utf8_lossy(name)),
        None => "unix:".to_owned(),
    }
}
