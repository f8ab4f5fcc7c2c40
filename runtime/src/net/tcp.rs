//! [`TcpStream`].

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};

use super::explain;
use super::socket::{Direction, Socket};
use crate::switch;
use crate::sys::fd;
use crate::sys::shared_fd::{OwnsFd, SharedFd};

/// A TCP connection: gevent's `socket`. Calls block the greenlet (or the plain thread), never the
/// hub.
///
/// Reading and writing may be done by two greenlets at once, also of different hubs; two that wait
/// to read at the same time on one hub are refused (`ResourceBusy`).
/// [`try_clone`](TcpStream::try_clone) gives a second handle to the same socket, with the same
/// time-outs.
///
/// The first greenlet that waits decides which hub the socket is registered with; each further hub
/// that waits for it takes one more descriptor.
#[derive(Debug, Clone)]
pub struct TcpStream {
    inner: SharedFd<Inner>,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    read_timeout: TimeLimit,
    write_timeout: TimeLimit,
}

/// A time-out in nanoseconds; `u64::MAX` is none.
#[derive(Debug)]
struct TimeLimit(AtomicU64);

impl TimeLimit {
    const fn none() -> TimeLimit {
        TimeLimit(AtomicU64::new(u64::MAX))
    }

    fn set(&self, limit: Option<Duration>) -> io::Result<()> {
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a time-out of zero: use None for no time-out",
            ));
        }
        let nanoseconds = limit.map_or(u64::MAX, |limit| {
            u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)
        });
        self.0.store(nanoseconds, Ordering::Relaxed);
        Ok(())
    }

    fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

impl TcpStream {
    /// Connects, to the first of the addresses that answers. Waits as long as the system does; see
    /// [`connect_timeout`](TcpStream::connect_timeout).
    ///
    /// A host *name* is looked up by the system's resolver, which blocks the hub for as long as it
    /// takes: pass an address where that matters.
    ///
    /// # Errors
    ///
    /// What the system says of the last address; `InvalidInput` when there is none.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let mut last = None;
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_until(address, None) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the name has no address")
        }))
    }

    /// Connects, waiting no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or what the system says.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_until(*address, switch::deadline(Some(timeout)))
    }

    fn connect_until(address: SocketAddr, until: Option<u64>) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .map_err(explain)?;
        let stream = TcpStream::from_fd(Socket::homed(socket.into()))?;
        let connecting = SockRef::from(&stream.inner.socket);
        match connecting.connect(&address.into()) {
            Ok(()) => return Ok(stream),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        stream
            .inner
            .socket
            .wait_until(Direction::Write, until)
            .map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("connect to {address}: no answer in time"),
                ),
                _ => error,
            })?;
        match connecting.take_error()? {
            None => Ok(stream),
            Some(error) => Err(error),
        }
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
            inner: SharedFd::new(Inner {
                socket: Socket::new(fd),
                read_timeout: TimeLimit::none(),
                write_timeout: TimeLimit::none(),
            }),
        }
    }

    /// The same connection, no longer registered with any hub: for a connection that is going to be
    /// [parked](super::parking), which would otherwise be told of everything twice. Does nothing
    /// while there are other handles to it.
    #[must_use = "the handle is used up"]
    pub fn unregistered(self) -> TcpStream {
        match self.inner.try_unwrap() {
            Ok(inner) => TcpStream {
                inner: SharedFd::new(Inner {
                    socket: Socket::transient(inner.socket.into_fd()),
                    read_timeout: inner.read_timeout,
                    write_timeout: inner.write_timeout,
                }),
            },
            Err(inner) => TcpStream { inner },
        }
    }

    /// Takes the connection out of the hubs' registrations again, if it is one that was
    /// [`unregistered`](TcpStream::unregistered) and nobody waits for it. The next wait registers
    /// it.
    pub fn unregister(&self) {
        self.inner.socket.unregister();
    }

    /// A second handle to the same socket. Costs no descriptor.
    ///
    /// # Errors
    ///
    /// None; the type is std's.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(self.clone())
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

    /// Ends one or both directions. Greenlets that wait for them are woken.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&self.inner.socket).shutdown(how)
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

    /// The longest wait of one read; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.read_timeout.set(timeout)
    }

    /// The longest wait of one write; none by default.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.write_timeout.set(timeout)
    }

    /// The longest wait of one read.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.inner.read_timeout.get()
    }

    /// The longest wait of one write.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.inner.write_timeout.get()
    }

    /// Waits until there is something to read, or the end: then no buffer is needed while one
    /// waits. May return although there is nothing.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the read time-out; `ResourceBusy` when another greenlet of the hub waits to
    /// read; `WouldBlock` in a greenlet that unwinds.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.inner.socket.wait(Direction::Read, self.read_timeout())
    }

    /// As [`wait_readable`](TcpStream::wait_readable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](TcpStream::wait_readable).
    pub fn wait_readable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.socket.wait(Direction::Read, timeout)
    }

    /// Waits until something can be written. May return although nothing can.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](TcpStream::wait_readable), for writing.
    pub fn wait_writable(&self) -> io::Result<()> {
        self.inner
            .socket
            .wait(Direction::Write, self.write_timeout())
    }

    /// As [`wait_writable`](TcpStream::wait_writable), with a time-out of its own.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](TcpStream::wait_readable), for writing.
    pub fn wait_writable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.socket.wait(Direction::Write, timeout)
    }

    /// Reads what there is; never waits. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet; what the system says.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        self.inner
            .socket
            .try_read(asked, |fd| fd::receive(fd, buffer))
    }

    /// Reads at most `max` bytes of what there is behind the contents of `buffer`, which grows if
    /// need be; never waits. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet; `OutOfMemory`; what the system says.
    pub fn try_read_vec(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        self.inner
            .socket
            .try_read(max, |fd| fd::receive_into(fd, buffer, max))
    }

    /// Writes what the system takes; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing; what the system says.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = fd::send(self.as_fd(), bytes);
        if let Err(error) = &sent {
            self.inner.socket.note_unwritten(error);
        }
        sent
    }

    /// Writes of several pieces what the system takes, in one call; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing; what the system says.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner
            .socket
            .try_write(|fd| fd::send_vectored(fd, pieces))
    }

    /// Waits for one direction until a moment of the runtime's clock.
    #[cfg(feature = "tls")]
    pub(super) fn wait_until(&self, direction: Direction, until: Option<u64>) -> io::Result<()> {
        self.inner.socket.wait_until(direction, until)
    }

    fn read_waiting(&self, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        // One limit for the whole call, also when what made it ready is gone again.
        let until = switch::deadline(self.read_timeout());
        if !switch::may_wait() {
            return read();
        }
        loop {
            self.inner.socket.wait_until(Direction::Read, until)?;
            match read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    pub(super) fn write_waiting(
        &self,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        // A peer that takes everything at once is no reason to keep the hub for oneself.
        switch::share();
        let mut until = None;
        loop {
            switch::check();
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until =
                        *until.get_or_insert_with(|| switch::deadline(self.write_timeout()));
                    self.inner.socket.wait_until(Direction::Write, until)?;
                }
                result => return result,
            }
        }
    }
}

fn internet(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an internet address"))
}

impl Read for &TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = *self;
        if buffer.is_empty() {
            return Ok(0);
        }
        stream.read_waiting(|| stream.try_read(buffer))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_waiting(|| self.try_write(bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_waiting(|| self.try_write_vectored(pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpStream {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsFd for Inner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

// A socket has one descriptor, and gives it away only with itself.
impl OwnsFd for Inner {}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
