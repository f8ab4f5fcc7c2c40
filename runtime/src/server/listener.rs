//! [`Listener`]: on what a [`StreamServer`](super::StreamServer) listens.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net;

use crate::net::{
    Address, Stream, StreamListener, TcpListener, TcpStream, UnixListener, UnixStream, unix_name,
};

/// On what a [`StreamServer`](crate::StreamServer) listens: a [`TcpListener`], a [`UnixListener`],
/// or a [`StreamListener`], which is either. Sealed.
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
        fn try_accept(&self) -> io::Result<(OwnedFd, AddressOf<Self>)>
        where
            Self: Listener;
        /// Waits until one can be taken.
        fn wait(&self) -> io::Result<()>;
        fn set_backlog(&self, backlog: i32) -> io::Result<()>;
        fn address(&self) -> io::Result<AddressOf<Self>>
        where
            Self: Listener;
        /// The address in logs.
        fn name(address: &AddressOf<Self>) -> String
        where
            Self: Listener;
        /// A connection of this listener, on a descriptor that is non-blocking.
        fn stream(&self, fd: OwnedFd) -> <Self as Listener>::Stream
        where
            Self: Listener;
    }

    pub(super) type AddressOf<L> = <L as Listener>::Address;
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

    fn stream(&self, fd: OwnedFd) -> TcpStream {
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

    fn stream(&self, fd: OwnedFd) -> UnixStream {
        UnixStream::from_nonblocking(fd)
    }
}

impl Listener for StreamListener {
    type Stream = Stream;
    type Address = Address;
}

impl sealed::Listen for StreamListener {
    fn try_accept(&self) -> io::Result<(OwnedFd, Address)> {
        Ok(match self {
            StreamListener::Tcp(listener) => {
                let (fd, peer) = listener.try_accept()?;
                (fd, peer.into())
            }
            StreamListener::Unix(listener) => {
                let (fd, peer) = listener.try_accept()?;
                (fd, peer.into())
            }
        })
    }

    fn wait(&self) -> io::Result<()> {
        match self {
            StreamListener::Tcp(listener) => listener.wait(),
            StreamListener::Unix(listener) => listener.wait(),
        }
    }

    fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        match self {
            StreamListener::Tcp(listener) => listener.set_backlog(backlog),
            StreamListener::Unix(listener) => listener.set_backlog(backlog),
        }
    }

    fn address(&self) -> io::Result<Address> {
        self.local_addr()
    }

    fn name(address: &Address) -> String {
        address.to_string()
    }

    fn stream(&self, fd: OwnedFd) -> Stream {
        match self {
            StreamListener::Tcp(listener) => sealed::Listen::stream(listener, fd).into(),
            StreamListener::Unix(listener) => sealed::Listen::stream(listener, fd).into(),
        }
    }
}
