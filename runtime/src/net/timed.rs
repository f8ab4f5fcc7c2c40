//! [`Timed`]: a socket and the time limits of its calls. What all kinds of sockets share.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::socket::{Direction, Socket};
use crate::switch;
use crate::sys::shared_fd::OwnsFd;

#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) socket: Socket,
    pub(crate) read_timeout: TimeLimit,
    pub(crate) write_timeout: TimeLimit,
}

/// A time-out in nanoseconds; `u64::MAX` is none.
pub(crate) struct TimeLimit(AtomicU64);

impl fmt::Debug for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl TimeLimit {
    pub(crate) const fn none() -> TimeLimit {
        TimeLimit(AtomicU64::new(u64::MAX))
    }

    pub(crate) fn set(&self, limit: Option<Duration>) -> io::Result<()> {
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

    pub(crate) fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

impl Timed {
    pub(crate) fn new(socket: Socket) -> Timed {
        Timed {
            socket,
            read_timeout: TimeLimit::none(),
            write_timeout: TimeLimit::none(),
        }
    }

    /// As [`Socket::into_transient`].
    pub(crate) fn into_transient(self) -> Timed {
        Timed {
            socket: self.socket.into_transient(),
            ..self
        }
    }

    /// Reads by `read`, waiting as long as there is nothing.
    #[inline]
    pub(crate) fn read_waiting<T>(&self, read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.socket.read_waiting(self.read_timeout.get(), read)
    }

    /// Writes by `write`, waiting as long as nothing is taken.
    #[inline]
    pub(crate) fn write_waiting(
        &self,
        write: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.socket.write_waiting(self.write_timeout.get(), write)
    }
}

/// Reading and writing under a time limit.
impl Socket {
    /// Reads by `read`, waiting as long as there is nothing, no longer than `timeout`.
    #[inline]
    pub(crate) fn read_waiting<T>(
        &self,
        timeout: Option<Duration>,
        mut read: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        // One limit for the whole call, also when what made it ready is gone again.
        let until = switch::deadline(timeout);
        if !switch::may_wait() {
            return read();
        }
        loop {
            self.wait_until(Direction::Read, until)?;
            match read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes by `write`, waiting as long as nothing is taken, no longer than `timeout`.
    #[inline]
    pub(crate) fn write_waiting(
        &self,
        timeout: Option<Duration>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        // A peer that takes everything at once is no reason to keep the hub for oneself.
        switch::share();
        let mut until = None;
        loop {
            switch::check();
            match write() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = *until.get_or_insert_with(|| switch::deadline(timeout));
                    self.wait_until(Direction::Write, until)?;
                }
                result => return result,
            }
        }
    }
}

// A socket has one descriptor, and gives it away only with itself.
impl OwnsFd for Timed {}

impl AsFd for Timed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What every kind of socket with an `inner: SharedFd<Timed>` has.
macro_rules! timed_calls {
    ($socket:ident) => {
        /// Time limits, waits and the end.
        impl $socket {
            /// Closes the socket for every handle to it: gevent's `close`. Who waits for it is
            /// woken, and each of their calls fails with `EBADF`, as every later one. The
            /// descriptor itself is given back with the last handle.
            pub fn close(&self) {
                self.inner.socket.close();
            }

            /// The longest wait of one read and of one write; none by default: gevent's
            /// `settimeout`.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for a time-out of zero: calls that never wait have names of their
            /// own.
            pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.set_read_timeout(timeout)?;
                self.set_write_timeout(timeout)
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

            /// Waits until there is something to read, or the end: then no buffer is needed while
            /// one waits. May return although there is nothing.
            ///
            /// # Errors
            ///
            /// `TimedOut` after the read time-out; `ResourceBusy` when another greenlet of the hub
            /// waits to read; `WouldBlock` in a greenlet that unwinds; `EBADF` after
            /// [`close`](Self::close).
            pub fn wait_readable(&self) -> io::Result<()> {
                self.inner.socket.wait(Direction::Read, self.read_timeout())
            }

            /// As [`wait_readable`](Self::wait_readable), with a time-out of its own.
            ///
            /// # Errors
            ///
            /// As [`wait_readable`](Self::wait_readable).
            pub fn wait_readable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.inner.socket.wait(Direction::Read, timeout)
            }

            /// Waits until something can be written. May return although nothing can.
            ///
            /// # Errors
            ///
            /// As [`wait_readable`](Self::wait_readable), for writing.
            pub fn wait_writable(&self) -> io::Result<()> {
                self.inner
                    .socket
                    .wait(Direction::Write, self.write_timeout())
            }

            /// As [`wait_writable`](Self::wait_writable), with a time-out of its own.
            ///
            /// # Errors
            ///
            /// As [`wait_readable`](Self::wait_readable), for writing.
            pub fn wait_writable_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.inner.socket.wait(Direction::Write, timeout)
            }

            /// The error that the system keeps for the socket, which is forgotten by this call.
            ///
            /// # Errors
            ///
            /// What the system says of the question.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                socket2::SockRef::from(&*self.inner).take_error()
            }
        }

        impl AsFd for $socket {
            #[inline]
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.inner.as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    };
}

/// What every kind of connection with an `inner: SharedFd<Timed>` has.
macro_rules! stream_calls {
    ($stream:ident) => {
        /// Reading and writing what there is.
        impl $stream {
            /// Reads what there is; never waits. 0 is the end.
            ///
            /// # Errors
            ///
            /// `WouldBlock` when there is nothing yet; what the system says.
            pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.inner
                    .socket
                    .try_read(buffer.len(), |fd| fd::receive(fd, buffer))
            }

            /// Reads at most `max` bytes of what there is behind the contents of `buffer`, which
            /// grows if need be; never waits. 0 is the end.
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
                // By the handle's own copy of the number: see `SharedFd`.
                fd::send(self.as_fd(), bytes).map_err(|error| self.inner.socket.unwritten(error))
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

            /// Waits for something to read, and reads it; it can be read again.
            ///
            /// # Errors
            ///
            /// As [`wait_readable`](Self::wait_readable); what the system says.
            pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.inner
                    .read_waiting(|| self.inner.socket.try_read(0, |fd| fd::peek(fd, buffer)))
            }

            /// Ends one or both directions. Greenlets that wait for them are woken.
            ///
            /// # Errors
            ///
            /// What the system says.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                socket2::SockRef::from(&*self.inner).shutdown(how)
            }

            /// The same connection, no longer registered with any hub: for a connection that is
            /// going to be [parked](crate::net::parking), which would otherwise be told of
            /// everything twice. Does nothing while there are other handles to it.
            #[must_use = "the handle is used up"]
            pub fn unregistered(self) -> $stream {
                match self.inner.try_unwrap() {
                    Ok(inner) => $stream {
                        inner: SharedFd::new(inner.into_transient()),
                    },
                    Err(inner) => $stream { inner },
                }
            }

            /// Takes the connection out of the hubs' registrations again, if it is one that was
            /// [`unregistered`](Self::unregistered) and nobody waits for it. The next wait
            /// registers it.
            pub fn unregister(&self) {
                self.inner.socket.unregister();
            }

            /// A second handle to the same socket. Costs no descriptor.
            ///
            /// # Errors
            ///
            /// None; the type is std's.
            pub fn try_clone(&self) -> io::Result<$stream> {
                Ok(self.clone())
            }
        }

        impl Read for &$stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let stream = *self;
                if buffer.is_empty() {
                    return Ok(0);
                }
                stream.inner.read_waiting(|| stream.try_read(buffer))
            }
        }

        impl Write for &$stream {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.inner.write_waiting(|| self.try_write(bytes))
            }

            fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
                self.inner.write_waiting(|| self.try_write_vectored(pieces))
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Read for $stream {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }
        }

        impl Write for $stream {
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
    };
}

pub(super) use {stream_calls, timed_calls};
