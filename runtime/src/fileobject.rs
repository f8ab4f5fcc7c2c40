//! [`FileObject`]: gevent's `fileobject`, for pipes, terminals and files.
//!
//! `O_NONBLOCK` belongs to an open file description, which other processes share: the shell has the
//! same terminal. So nothing is ever set on a descriptor that was handed over.
//!
//! - A pipe or a terminal is opened anew by `/proc`, which gives a description of our own.
//! - What can't be opened anew is waited for by [`wait_for`], and read and written by calls that
//!   don't block whatever the flags are, as far as the kernel has them.
//! - A regular file is always ready, and may block all the same. What the kernel has at hand is read
//!   at once; anything else is done by the thread pool.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Duration;

use crate::net::explain;
use crate::net::select::{entry, wait_for};
use crate::net::socket::Socket;
use crate::net::timed::TimeLimit;
use crate::sys::fd;
use crate::sys::home::{NO_HUB, this_hub};
use crate::threadpool::threadpool;
use crate::{Semaphore, switch};

/// The most bytes of one read or write that the thread pool does: they are copied.
const MAX_PIECE: usize = 1 << 20;

/// The most bytes of one write where the kernel has no call that does not block: what is written to
/// a pipe that has room does not block up to this (POSIX's least `PIPE_BUF`).
const MAX_BLIND_WRITE: usize = 512;

/// A file that is read and written by greenlets without blocking their hub: a pipe, a terminal, the
/// standard streams, a regular file; gevent's `FileObject`.
///
/// There is no buffer in it; std's `BufReader` and `BufWriter` are made for that. The descriptor
/// stays blocking for everybody else who has it.
///
/// Greenlets may share it: `Read` and `Write` are there for `&FileObject` too. Reads of a pipe by two
/// greenlets of a hub at the same time are refused (`ResourceBusy`).
///
/// Regular files are read and written at the position that they have in common with whoever shares
/// the descriptor. A read that is killed has read nothing; a write that is killed may still be made.
/// What the system has not at hand is done in the [thread pool](crate::threadpool), so the hub goes
/// on; with the pool, more than it has threads for waits.
///
/// ```
/// use greenwood_runtime::{spawn, FileObject};
/// use std::io::{Read, Write};
///
/// let (reader, writer) = std::io::pipe()?;
/// let (mut reader, mut writer) = (FileObject::new(reader)?, FileObject::new(writer)?);
/// let text = spawn(move || {
///     let mut text = String::new();
///     reader.read_to_string(&mut text).map(|_| text)
/// });
/// writer.write_all(b"hello")?;
/// drop(writer);
/// assert_eq!(text.join().unwrap()?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FileObject {
    kind: Kind,
    read_timeout: TimeLimit,
    write_timeout: TimeLimit,
}

enum Kind {
    /// A description of our own, which is non-blocking.
    Own(Socket),
    /// One that others share.
    Shared(Shared),
    Regular(Regular),
}

struct Shared {
    fd: OwnedFd,
    is_socket: bool,
    /// Whose turn it is where a call may block.
    reads: Semaphore,
    writes: Semaphore,
}

struct Regular {
    file: Arc<File>,
    /// One read or write at a time: they share the position.
    turn: Arc<Semaphore>,
}

impl FileObject {
    /// A file object for a descriptor, which it takes over.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be asked what it is.
    pub fn new(fd: impl Into<OwnedFd>) -> io::Result<FileObject> {
        let file = File::from(fd.into());
        let metadata = file.metadata()?;
        let kind = metadata.file_type();
        if kind.is_file() || kind.is_block_device() {
            return Ok(FileObject::of(Kind::Regular(Regular {
                file: Arc::new(file),
                turn: Arc::new(Semaphore::new(1)),
            })));
        }
        // Opening the master of a terminal makes a new terminal.
        let is_master = kind.is_char_device() && metadata.rdev() == libc::makedev(5, 2);
        if (kind.is_fifo() || (file.is_terminal() && !is_master))
            && let Ok(own) = reopen(file.as_fd())
            && is_hung_up(own.as_fd()) == is_hung_up(file.as_fd())
        {
            return Ok(FileObject::of(Kind::Own(Socket::endless(Socket::homed(
                own,
            )))));
        }
        Ok(FileObject::shared(file.into(), kind.is_socket()))
    }

    /// The standard input. What std's `stdin()` has read ahead is not seen.
    ///
    /// # Errors
    ///
    /// When it is closed, or there is no descriptor left.
    pub fn stdin() -> io::Result<FileObject> {
        FileObject::new(io::stdin().as_fd().try_clone_to_owned().map_err(explain)?)
    }

    /// The standard output. It is written at once, also what is no whole line.
    ///
    /// # Errors
    ///
    /// As [`stdin`](FileObject::stdin).
    pub fn stdout() -> io::Result<FileObject> {
        FileObject::new(io::stdout().as_fd().try_clone_to_owned().map_err(explain)?)
    }

    /// The standard error stream.
    ///
    /// # Errors
    ///
    /// As [`stdin`](FileObject::stdin).
    pub fn stderr() -> io::Result<FileObject> {
        FileObject::new(io::stderr().as_fd().try_clone_to_owned().map_err(explain)?)
    }

    /// The longest wait of one read; none by default. Has no effect on regular files.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(timeout)
    }

    /// The longest wait of one write; none by default. Has no effect on regular files.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time-out of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(timeout)
    }

    fn shared(fd: OwnedFd, is_socket: bool) -> FileObject {
        FileObject::of(Kind::Shared(Shared::new(fd, is_socket)))
    }

    fn of(kind: Kind) -> FileObject {
        FileObject {
            kind,
            read_timeout: TimeLimit::none(),
            write_timeout: TimeLimit::none(),
        }
    }
}

/// The same pipe or terminal by a description of our own, which is non-blocking.
fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mode = fd::status_flags(fd)? & libc::O_ACCMODE;
    OpenOptions::new()
        .read(mode != libc::O_WRONLY)
        .write(mode != libc::O_RDONLY)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map(OwnedFd::from)
}

/// Whether there is nobody at the other end. Of a FIFO without writers, a description that was opened
/// when they had gone does not say so, as it waits for the first one to come: there the descriptor
/// that was handed over knows better.
fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut entry = [entry(fd.as_raw_fd(), 0)];
    fd::poll_all(&mut entry, Some(Duration::ZERO)).is_ok() && entry[0].revents & libc::POLLHUP != 0
}

impl Shared {
    fn new(fd: OwnedFd, is_socket: bool) -> Shared {
        Shared {
            fd,
            is_socket,
            reads: Semaphore::new(1),
            writes: Semaphore::new(1),
        }
    }

    fn read(&self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        let until = switch::deadline(timeout);
        self.attempt(libc::POLLIN, until, || {
            if self.is_socket {
                return fd::receive(fd, buffer);
            }
            match fd::read_nowait(fd, buffer) {
                Err(error) if is_unsupported(&error) => {
                    self.blindly(&self.reads, libc::POLLIN, until, || fd::read(fd, buffer))
                }
                result => result,
            }
        })
    }

    fn write(&self, bytes: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        let fd = self.fd.as_fd();
        let until = switch::deadline(timeout);
        self.attempt(libc::POLLOUT, until, || {
            if self.is_socket {
                return fd::send(fd, bytes);
            }
            match fd::write_nowait(fd, bytes) {
                Err(error) if is_unsupported(&error) => {
                    let piece = &bytes[..bytes.len().min(MAX_BLIND_WRITE)];
                    self.blindly(&self.writes, libc::POLLOUT, until, || fd::write(fd, piece))
                }
                result => result,
            }
        })
    }

    /// Attempts it when the descriptor is ready, until that does not have to wait any more.
    fn attempt(
        &self,
        events: libc::c_short,
        until: Option<u64>,
        mut attempt: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            if wait_for(&mut [entry(self.fd.as_raw_fd(), events)], until)? == 0 {
                return Err(late());
            }
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && switch::may_wait() => {}
                result => return result,
            }
        }
    }

    /// Does what may block if the descriptor is not ready: by one at a time, else the second of those
    /// who have been told that it is would block a hub.
    fn blindly(
        &self,
        turn: &Semaphore,
        events: libc::c_short,
        until: Option<u64>,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let _turn = turn.permit_until(until).map_err(|_| late())?;
        let mut entry = [entry(self.fd.as_raw_fd(), events)];
        match fd::poll_all(&mut entry, Some(Duration::ZERO))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => call(),
        }
    }
}

/// Why a wait has ended without what was waited for.
fn late() -> io::Error {
    match switch::may_wait() {
        true => io::Error::new(io::ErrorKind::TimedOut, "the file's time limit has passed"),
        false => io::ErrorKind::WouldBlock.into(),
    }
}

/// Whether the kernel can't promise for this file that it does not block.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS | libc::ESPIPE)
    )
}

impl Regular {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let turn = Turn::wait(&self.turn)?;
        let must_wait =
            |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock || is_unsupported(error);
        match fd::read_nowait(self.file.as_fd(), buffer) {
            Err(error) if must_wait(&error) => {}
            result => return result,
        }
        // The position moves when the bytes are delivered, so that a kill loses none.
        let position = (&*self.file).stream_position()?;
        let (file, len) = (Arc::clone(&self.file), buffer.len().min(MAX_PIECE));
        let bytes = off_the_hub(move || {
            let mut bytes = vec![0; len];
            let n = file.read_at(&mut bytes, position)?;
            bytes.truncate(n);
            Ok(bytes)
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        (&*self.file).seek(SeekFrom::Start(position + bytes.len() as u64))?;
        drop(turn);
        Ok(bytes.len())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let turn = Turn::wait(&self.turn)?;
        match fd::write_nowait(self.file.as_fd(), bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_unsupported(&error) => {}
            result => return result,
        }
        let file = Arc::clone(&self.file);
        let bytes = bytes[..bytes.len().min(MAX_PIECE)].to_vec();
        off_the_hub(move || {
            // Until it is written, also if nobody waits for it any more: the next comes behind it.
            let _turn = turn;
            (&*file).write(&bytes)
        })
    }
}

/// The right to use a file's position.
struct Turn(Arc<Semaphore>);

impl Turn {
    fn wait(turn: &Arc<Semaphore>) -> io::Result<Turn> {
        // A file that is always at hand is no reason to keep the hub for oneself.
        switch::share();
        if !turn.acquire() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Turn(Arc::clone(turn)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Does work that blocks: in the thread pool, if the caller runs on a hub. What has not begun when the
/// caller is killed is not done.
fn off_the_hub<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if this_hub() == NO_HUB {
        return work();
    }
    if !switch::may_wait() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    threadpool().apply(work)?
}

impl Read for &FileObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let timeout = self.read_timeout.get();
        match &self.kind {
            Kind::Own(socket) => {
                socket.read_waiting(timeout, || socket.try_read(0, |fd| fd::read(fd, buffer)))
            }
            Kind::Shared(shared) => shared.read(buffer, timeout),
            Kind::Regular(file) => file.read(buffer),
        }
    }
}

impl Write for &FileObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let timeout = self.write_timeout.get();
        match &self.kind {
            Kind::Own(socket) => {
                socket.write_waiting(timeout, || socket.try_write(|fd| fd::write(fd, bytes)))
            }
            Kind::Shared(shared) => shared.write(bytes, timeout),
            Kind::Regular(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of regular files; anything else is `NotSeekable`.
impl Seek for &FileObject {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match &self.kind {
            Kind::Regular(regular) => {
                let _turn = Turn::wait(&regular.turn)?;
                (&*regular.file).seek(position)
            }
            Kind::Own(_) | Kind::Shared(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

impl Read for FileObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for FileObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for FileObject {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        (&*self).seek(position)
    }
}

impl AsFd for FileObject {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Own(socket) => socket.as_fd(),
            Kind::Shared(shared) => shared.fd.as_fd(),
            Kind::Regular(regular) => regular.file.as_fd(),
        }
    }
}

impl AsRawFd for FileObject {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, fd) = match self {
            Kind::Own(socket) => ("Own", socket.as_fd()),
            Kind::Shared(shared) => ("Shared", shared.fd.as_fd()),
            Kind::Regular(regular) => ("Regular", regular.file.as_fd()),
        };
        f.debug_tuple(name).field(&fd.as_raw_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{Event, spawn, with_timeout};

    /// Where a pipe can't be opened anew, as without /proc.
    #[test]
    fn shared_pipe_waits_and_keeps_its_flags() {
        let (reader, writer) = io::pipe().unwrap();
        let flags = fd::status_flags(reader.as_fd()).unwrap();
        let reader = FileObject::shared(reader.into(), false);
        let writer = FileObject::shared(writer.into(), false);
        let waited = Arc::new(Event::new());
        let has_waited = Arc::clone(&waited);
        let reading = spawn(move || {
            let late = with_timeout(Duration::from_millis(5), || (&reader).read(&mut [0]));
            assert!(late.is_err());
            let limit = Some(Duration::from_millis(5));
            reader.set_read_timeout(limit).unwrap();
            let late = (&reader).read(&mut [0]).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
            reader.set_read_timeout(None).unwrap();
            has_waited.set();
            let mut all = Vec::new();
            (&reader).read_to_end(&mut all).unwrap();
            (all, fd::status_flags(reader.as_fd()).unwrap())
        });
        let writing = spawn(move || {
            waited.wait();
            (&writer).write_all(&[7; 300_000]).unwrap();
        });
        writing.join().unwrap();
        assert_eq!(reading.join().unwrap(), (vec![7; 300_000], flags));
    }

    #[test]
    fn work_off_the_hub_is_the_thread_pools() {
        let me = || Ok(thread::current().name().unwrap_or_default().to_owned());
        assert_eq!(off_the_hub(me).unwrap(), me().unwrap());
        let there = spawn(move || off_the_hub(me).unwrap()).join().unwrap();
        assert_eq!(there, "threadpool");
        let error = spawn(|| off_the_hub(|| -> io::Result<()> { panic!("expected") }));
        let error = error.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("expected"), "{error}");
    }
}
