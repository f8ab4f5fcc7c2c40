//! This process's ends of a child's pipes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use socket2::SockRef;

use crate::net::socket::Socket;
use crate::sys::fd;

/// The end from which this process reads a child's output.
///
/// Reading puts the greenlet aside, and works from plain threads too. As `Stdio` it becomes the
/// stdin of another process.
#[derive(Debug)]
pub struct PipeReader {
    pipe: Pipe,
}

/// The end to which this process writes a child's input. Dropping it is the input's end.
///
/// Writing puts the greenlet aside while the pipe is full, and works from plain threads too.
/// `BrokenPipe` says that nobody reads any more. (The signal SIGPIPE, which would end the process,
/// is ignored in Rust's programs; in another one, as with a library of Rust in a program in C, it
/// has to be.)
#[derive(Debug)]
pub struct PipeWriter {
    pipe: Pipe,
}

#[derive(Debug)]
struct Pipe {
    socket: Socket,
    timeout: Option<Duration>,
}

impl Pipe {
    fn new(fd: OwnedFd) -> io::Result<Pipe> {
        let fd = Socket::homed(fd);
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(Pipe {
            socket: Socket::new(fd),
            timeout: None,
        })
    }

    /// The pipe as another process expects it.
    fn into_stdio(self) -> Stdio {
        let fd = self.socket.into_fd();
        // Fails for no valid descriptor.
        SockRef::from(&fd).set_nonblocking(false).ok();
        Stdio::from(fd)
    }
}

impl PipeReader {
    pub(super) fn new(fd: OwnedFd) -> io::Result<PipeReader> {
        let pipe = Pipe::new(fd)?;
        Ok(PipeReader { pipe })
    }

    /// How long one call may wait: then it fails with `TimedOut`. None, which is the default:
    /// without end.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.pipe.timeout = timeout;
    }

    /// Reads what there is; never waits. 0 is the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing yet.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = buffer.len();
        let read = |fd: BorrowedFd<'_>| fd::read(fd, buffer);
        self.pipe.socket.try_read(asked, read)
    }

    /// As [`try_read`](PipeReader::try_read), at most `max` bytes behind those in `buffer`.
    pub(super) fn try_read_vec(&self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let read = |fd: BorrowedFd<'_>| fd::read_into(fd, buffer, max);
        self.pipe.socket.try_read(max, read)
    }
}

impl PipeWriter {
    pub(super) fn new(fd: OwnedFd) -> io::Result<PipeWriter> {
        let pipe = Pipe::new(fd)?;
        Ok(PipeWriter { pipe })
    }

    /// As [`PipeReader::set_timeout`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.pipe.timeout = timeout;
    }

    /// Writes what the pipe takes; never waits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it takes nothing, `BrokenPipe` when nobody reads it any more.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.socket.try_write(|fd| fd::write(fd, bytes))
    }
}

impl Read for &PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Pipe { socket, timeout } = &self.pipe;
        socket.read_waiting(*timeout, || self.try_read(buffer))
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Pipe { socket, timeout } = &self.pipe;
        socket.write_waiting(*timeout, || self.try_write(bytes))
    }

    /// Does nothing: nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.socket.as_fd()
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.socket.as_fd()
    }
}

/// For a pipeline: the next command's stdin.
impl From<PipeReader> for Stdio {
    fn from(reader: PipeReader) -> Stdio {
        reader.pipe.into_stdio()
    }
}

/// For a pipeline: another command's stdout.
impl From<PipeWriter> for Stdio {
    fn from(writer: PipeWriter) -> Stdio {
        writer.pipe.into_stdio()
    }
}
