//! [`Listener`]: on what a [`StreamServer`](super::StreamServer) listens.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;

use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// On what a [`StreamServer`](crate::StreamServer) listens: a [`TcpListener`] or a [`UnixListener`].
/// Sealed.
pub trait Listener: sealed::Listen {
    /// Its connections.
    type Stream: Send + 'static;
    /// Its own address, and those of its peers.
    type Address: Clone + Debug + Send + Sync + 'static;
}

pub(super) mod sealed {
    use super::*;

    /// What the server does with it.
    pub trait Listen: AsRawFd + Send + Sync + Sized + 'static {
        /// Takes a connection if one waits.
        fn try_accept(&self) -> io::Result<(OwnedFd, Address<Self>)>
        where
            Self: Listener;
        /// Waits until one can be taken.
        fn wait(&self) -> io::Result<()>;
        fn set_backlog(&self, backlog: i32) -> io::Result<()>;
        fn address(&self) -> io::Result<Address<Self>>
        where
            Self: Listener;
        /// The address in logs.
        fn name(address: &Address<Self>) -> String
        where
            Self: Listener;
        /// A connection on a descriptor that is non-blocking.
        fn stream(fd: OwnedFd) -> <Self as Listener>::Stream
        where
            Self: Listener;
    }

    pub(super) type Address<L> = <L as Listener>::Address;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;
}

impl sealed::Listen for TcpListener {
    fn try_accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        TcpListener::try_accept(self)
    }

    fn wait(&self) -> io::Result<()> {
        TcpListener::wait(self)
    }

    fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        TcpListener::set_backlog(self, backlog)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn name(address: &SocketAddr) -> String {
        address.to_string()
    }

    fn stream(fd: OwnedFd) -> TcpStream {
        TcpStream::from_nonblocking(fd)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Address = net::SocketAddr;
}

impl sealed::Listen for UnixListener {
    fn try_accept(&self) -> io::Result<(OwnedFd, net::SocketAddr)> {
        UnixListener::try_accept(self)
    }

    fn wait(&self) -> io::Result<()> {
        UnixListener::wait(self)
    }

    fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        UnixListener::set_backlog(self, backlog)
    }

    fn address(&self) -> io::Result<net::SocketAddr> {
        self.local_addr()
    }

    fn name(address: &net::SocketAddr) -> String {
        unix_name(address)
    }

    fn stream(fd: OwnedFd) -> UnixStream {
        UnixStream::from_nonblocking(fd)
    }
}

/// A Unix address as `ss` and netstat show it: `unix:` and the path, or `@` and the abstract name.
pub(super) fn unix_name(address: &net::SocketAddr) -> String {
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    match address.as_abstract_name() {
        Some(name) => format!("unix:@{}", String::from_utf8_lossy(name)),
        None => "unix:".to_owned(),
    }
}
