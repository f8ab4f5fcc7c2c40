//! [`Stream`].

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::TcpStream;
#[cfg(feature = "tls")]
use super::TlsStream;
#[cfg(feature = "tls")]
use crate::sys::fd;

/// A connection of whichever kind a server has accepted, with the calls that they share. A clone is
/// a second handle to the same connection, and costs no descriptor.
///
/// Each call does what the kind's own of that name does; the differences are told there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    #[cfg(feature = "tls")]
    Tls(TlsStream),
}

/// Calls the method of the same name of whichever kind it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($inner) => $call,
        }
    };
}

impl Stream {
    /// The TCP connection, also the one below another protocol.
    pub fn as_tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(tcp) => tcp,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.tcp(),
        }
    }

    /// The TLS connection, if it is one.
    #[cfg(feature = "tls")]
    pub fn as_tls(&self) -> Option<&TlsStream> {
        match self {
            Stream::Tls(tls) => Some(tls),
            Stream::Tcp(_) => None,
        }
    }

    /// How many of the bytes that the next write has to begin with are on their way already, though
    /// they were not reported as written: see [`TlsStream::try_write`]. None with TCP.
    #[inline]
    pub fn owed(&self) -> usize {
        match self {
            Stream::Tcp(_) => 0,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.owed(),
        }
    }

    /// As [`TcpStream::unregistered`]; a TLS connection stays as it is.
    #[must_use = "the handle is used up"]
    pub fn unregistered(self) -> Stream {
        match self {
            Stream::Tcp(tcp) => Stream::Tcp(tcp.unregistered()),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => Stream::Tls(tls),
        }
    }

    /// Whether a read that brings less than there was room for has brought all there is: true for
    /// TCP. TLS decrypts a few records at a time.
    pub fn is_drained_by_short_reads(&self) -> bool {
        match self {
            Stream::Tcp(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => false,
        }
    }

    /// Whether a read that brings nothing (`WouldBlock`) has left nothing. TLS also says so when
    /// what it has taken from the socket is no whole record, and there may be more in that. Asks
    /// the system.
    pub fn is_drained(&self) -> bool {
        match self {
            Stream::Tcp(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => !fd::poll(tls.as_fd(), false, Some(Duration::ZERO)).unwrap_or(true),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::peer_addr`].
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.as_tcp().peer_addr()
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.as_tcp().local_addr()
    }

    /// As [`TcpStream::set_nodelay`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.as_tcp().set_nodelay(on)
    }

    /// As [`TcpStream::set_keepalive`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        self.as_tcp().set_keepalive(idle)
    }

    /// As [`TcpStream::set_reset_on_close`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_reset_on_close(&self, on: bool) -> io::Result<()> {
        either!(self, inner => inner.set_reset_on_close(on))
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
        self.as_tcp().set_read_timeout(timeout)
    }

    /// The longest wait of one write; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.as_tcp().set_write_timeout(timeout)
    }

    /// The longest wait of one read.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.as_tcp().read_timeout()
    }

    /// The longest wait of one write.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.as_tcp().write_timeout()
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
        self.as_tcp().as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_tcp().as_raw_fd()
    }
}
