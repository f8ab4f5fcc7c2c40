//! [`Stream`].

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

#[cfg(feature = "tls")]
use super::TlsStream;
use super::{TcpStream, UnixStream};
#[cfg(feature = "tls")]
use crate::sys::fd;

/// A connection of whichever kind a server has accepted, with the calls that they share. A clone is
/// a second handle to the same connection, and costs no descriptor.
///
/// Each call does what the kind's own of that name does; the differences are told there. What only
/// TCP has, as delays and keep-alive, is nothing to be done with a Unix socket, and no error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls(TlsStream),
}

/// Calls the method of the same name of whichever kind it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($inner) => $call,
        }
    };
}

/// Calls the method of the same name of the socket, also of the one below TLS.
macro_rules! socket {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let $inner = tls.tcp();
                $call
            }
        }
    };
}

impl Stream {
    /// The TCP connection, also the one below another protocol; none for a Unix socket.
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(tcp) => Some(tcp),
            Stream::Unix(_) => None,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Some(tls.tcp()),
        }
    }

    /// The connection by a Unix socket, if it is one: its
    /// [credentials](UnixStream::peer_credentials) say who is at the other end.
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match self {
            Stream::Unix(unix) => Some(unix),
            _ => None,
        }
    }

    /// The TLS connection, if it is one.
    #[cfg(feature = "tls")]
    pub fn as_tls(&self) -> Option<&TlsStream> {
        match self {
            Stream::Tls(tls) => Some(tls),
            _ => None,
        }
    }

    /// How many of the bytes that the next write has to begin with are on their way already, though
    /// they were not reported as written: see [`TlsStream::try_write`]. None without TLS.
    #[inline]
    pub fn owed(&self) -> usize {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => 0,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.owed(),
        }
    }

    /// As [`TcpStream::unregistered`]; a TLS connection stays as it is.
    #[must_use = "the handle is used up"]
    pub fn unregistered(self) -> Stream {
        match self {
            Stream::Tcp(tcp) => Stream::Tcp(tcp.unregistered()),
            Stream::Unix(unix) => Stream::Unix(unix.unregistered()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Stream::Tls(tls),
        }
    }

    /// As [`TcpStream::unregister`].
    pub fn unregister(&self) {
        socket!(self, inner => inner.unregister());
    }

    /// The connection that lies below: itself without TLS.
    pub(crate) fn into_transport(self) -> Stream {
        match self {
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Stream::Tcp(tls.tcp().clone()),
            plain => plain,
        }
    }

    /// Whether a read that brings less than there was room for has brought all there is: true for
    /// TCP. TLS decrypts a few records at a time; a Unix socket ends a read where descriptors were
    /// passed.
    pub fn is_drained_by_short_reads(&self) -> bool {
        match self {
            Stream::Tcp(_) => true,
            Stream::Unix(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => false,
        }
    }

    /// Whether a read that brings nothing (`WouldBlock`) has left nothing. TLS also says so when
    /// what it has taken from the socket is no whole record, and there may be more in that. Asks
    /// the system.
    pub fn is_drained(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => !fd::poll(tls.as_fd(), false, Some(Duration::ZERO)).unwrap_or(true),
        }
    }

    /// How many bytes have arrived that nobody has taken from the system yet, before TLS decrypts
    /// them. 0 also where the system does not tell.
    pub fn unread(&self) -> usize {
        let unread = rustix::io::ioctl_fionread(self).unwrap_or(0);
        usize::try_from(unread).unwrap_or(usize::MAX)
    }

    /// The peer's internet address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::peer_addr`]; `Unsupported` for a Unix socket, which has none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.internet()?.peer_addr()
    }

    /// Our own internet address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::local_addr`]; `Unsupported` for a Unix socket, which has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.internet()?.local_addr()
    }

    fn internet(&self) -> io::Result<&TcpStream> {
        self.as_tcp().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "a Unix socket has no internet address",
            )
        })
    }

    /// As [`TcpStream::set_nodelay`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        match self.as_tcp() {
            Some(tcp) => tcp.set_nodelay(on),
            None => Ok(()),
        }
    }

    /// As [`TcpStream::set_keepalive`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        match self.as_tcp() {
            Some(tcp) => tcp.set_keepalive(idle),
            None => Ok(()),
        }
    }

    /// As [`TcpStream::set_reset_on_close`]. A Unix socket knows no reset, and drops nothing that
    /// was sent.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_reset_on_close(&self, on: bool) -> io::Result<()> {
        match self {
            Stream::Tcp(tcp) => tcp.set_reset_on_close(on),
            Stream::Unix(_) => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.set_reset_on_close(on),
        }
    }

    /// Ends one or both directions. Greenlets that wait for them are woken.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        either!(self, inner => inner.shutdown(how))
    }

    /// The longest wait of one read; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        socket!(self, inner => inner.set_read_timeout(timeout))
    }

    /// The longest wait of one write; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        socket!(self, inner => inner.set_write_timeout(timeout))
    }

    /// The longest wait of one read.
    pub fn read_timeout(&self) -> Option<Duration> {
        socket!(self, inner => inner.read_timeout())
    }

    /// The longest wait of one write.
    pub fn write_timeout(&self) -> Option<Duration> {
        socket!(self, inner => inner.write_timeout())
    }

    /// Waits until there is something to read, or the end: then no buffer is needed while one
    /// waits. May return although there is nothing.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_readable`].
    #[inline]
    pub fn wait_readable(&self) -> io::Result<()> {
        either!(self, inner => inner.wait_readable())
    }

    /// As [`wait_readable`](Stream::wait_readable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_readable`].
    #[inline]
    pub fn wait_readable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, inner => inner.wait_readable_timeout(timeout))
    }

    /// Waits until something can be written. May return although nothing can.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_writable`].
    #[inline]
    pub fn wait_writable(&self) -> io::Result<()> {
        either!(self, inner => inner.wait_writable())
    }

    /// As [`wait_writable`](Stream::wait_writable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::wait_writable`].
    #[inline]
    pub fn wait_writable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, inner => inner.wait_writable_timeout(timeout))
    }

    /// Reads what there is; never waits. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet; what the system says.
    #[inline]
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, inner => inner.try_read(buffer))
    }

    /// Reads at most `max` bytes of what there is behind the contents of `buffer`, which grows if
    /// need be; never waits. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet; `OutOfMemory`; what the system says.
    #[inline]
    pub fn try_read_vec(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        either!(self, inner => inner.try_read_vec(buffer, max))
    }

    /// Writes what is taken of it; never waits. The next call has to go on with the bytes that
    /// follow those that were reported as written: TLS can't take back what it has encrypted.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is taken; what the system says.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, inner => inner.try_write(bytes))
    }

    /// As [`try_write`](Stream::try_write), of several pieces.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is taken; what the system says.
    #[inline]
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, inner => inner.try_write_vectored(pieces))
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Stream::Tcp(tcp)
    }
}

impl From<UnixStream> for Stream {
    fn from(unix: UnixStream) -> Stream {
        Stream::Unix(unix)
    }
}

#[cfg(feature = "tls")]
impl From<TlsStream> for Stream {
    fn from(tls: TlsStream) -> Stream {
        Stream::Tls(tls)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(*self, inner => { let mut inner = inner; inner.read(buffer) })
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(*self, inner => { let mut inner = inner; inner.write(bytes) })
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(*self, inner => { let mut inner = inner; inner.write_vectored(pieces) })
    }

    fn flush(&mut self) -> io::Result<()> {
        either!(*self, inner => { let mut inner = inner; inner.flush() })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        socket!(self, inner => inner.as_fd())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        socket!(self, inner => inner.as_raw_fd())
    }
}
