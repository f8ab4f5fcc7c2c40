//! [`UnixListener`].

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Type};

use super::{UnixStream, from_system, to_system};
use crate::net::explain;
use crate::net::listener::{BACKLOG, accept_waiting, try_accept};
use crate::net::socket::{Direction, Socket};
use crate::switch;
use crate::sys::now_ns;

/// How long one waits for others that replace a socket in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a socket has to refuse connections before it is taken for one that was left behind.
const GRACE: Duration = Duration::from_millis(5);

/// A Unix socket that listens.
///
/// The file of a path that it has [bound](UnixListener::bind) is removed when it is dropped, if it
/// is still this listener's.
///
/// ```no_run
/// use greenwood_runtime::net::UnixListener;
///
/// let listener = UnixListener::replace("/run/service/socket")?;
/// let (stream, _peer) = listener.accept()?;
/// println!("{:?}", stream.peer_credentials()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixListener {
    socket: Socket,
    /// What is to be removed at the end.
    _file: Option<SocketFile>,
}

impl UnixListener {
    /// Listens at a path, with a backlog of 128. The file is made with the process's umask: who may
    /// write to it may connect.
    ///
    /// # Errors
    ///
    /// What the system says, with the path: `AddrInUse` if there is anything at the path, also a
    /// file that a process has left behind. [`replace`](UnixListener::replace) removes such a one.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let path = path.as_ref();
        UnixListener::bind_path(path, None).map_err(|error| cannot_listen(path, &error))
    }

    /// As [`bind`](UnixListener::bind), and a socket at the path that nobody listens on any more is
    /// replaced. One that is in use, and anything that is no socket, stays.
    ///
    /// Of several that replace the same path at the same moment one has it, also of several
    /// processes: they take turns by a lock on the directory (flock(2)), if that can be read.
    ///
    /// # Errors
    ///
    /// What the system says, with the path: `AddrInUse` if somebody listens there, or there is
    /// something else than a socket.
    pub fn replace(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::replace_with_mode(path.as_ref(), None)
    }

    /// As [`replace`](UnixListener::replace), for the owner alone: mode 0600, from the first moment
    /// on.
    pub(crate) fn replace_private(path: &Path) -> io::Result<UnixListener> {
        UnixListener::replace_with_mode(path, Some(0o600))
    }

    fn replace_with_mode(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
        let _turn = turn_to_replace(path);
        let listener = match UnixListener::bind_path(path, mode) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                remove_stale(path).and_then(|()| UnixListener::bind_path(path, mode))
            }
            listener => listener,
        };
        listener.map_err(|error| cannot_listen(path, &error))
    }

    /// Listens at an address, for instance an abstract name.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        match address.as_pathname() {
            Some(path) => UnixListener::bind(path),
            None => Ok(UnixListener {
                socket: listen(address, None)?,
                _file: None,
            }),
        }
    }

    /// A listener on a descriptor that listens already, as one that was inherited. It becomes
    /// non-blocking. Its file, if it has one, stays.
    ///
    /// # Errors
    ///
    /// When the descriptor can't be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> io::Result<UnixListener> {
        SockRef::from(&fd).set_nonblocking(true)?;
        Ok(UnixListener {
            socket: Socket::new(fd),
            _file: None,
        })
    }

    fn bind_path(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
        let socket = listen(&SocketAddr::from_pathname(path)?, mode)?;
        Ok(UnixListener {
            socket,
            _file: SocketFile::of(path),
        })
    }

    /// The socket, and its file, which is removed when that is dropped.
    pub(crate) fn into_parts(self) -> (Socket, Option<SocketFile>) {
        (self.socket, self._file)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// What the system says; where a limit is reached (`EMFILE`), the error names it and the
    /// setting. `EBADF` after [`close`](UnixListener::close).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.accept_until(None)
    }

    /// Waits for a connection, no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, and as [`accept`](UnixListener::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<(UnixStream, SocketAddr)> {
        self.accept_until(switch::deadline(Some(timeout)))
    }

    fn accept_until(&self, until: Option<u64>) -> io::Result<(UnixStream, SocketAddr)> {
        let (fd, peer) = accept_waiting(&self.socket, until)?;
        Ok((UnixStream::from_nonblocking(fd), from_system(&peer)?))
    }

    /// Stops listening, for whoever has the listener: a greenlet that accepts gets `EBADF`, as
    /// every later call.
    pub fn close(&self) {
        self.socket.close();
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        from_system(&SockRef::from(&self.socket).local_addr()?)
    }

    /// Takes a connection if one waits, under whatever number it gets.
    pub(crate) fn try_accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let (fd, peer) = try_accept(&self.socket)?;
        Ok((fd, from_system(&peer)?))
    }

    /// Changes the backlog.
    pub(crate) fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        SockRef::from(&self.socket).listen(backlog)
    }

    /// Waits until a connection can be taken.
    pub(crate) fn wait(&self) -> io::Result<()> {
        self.socket.wait(Direction::Read, None)
    }
}

fn listen(address: &SocketAddr, mode: Option<u32>) -> io::Result<Socket> {
    let path = address.as_pathname();
    let address = to_system(address)?;
    let socket =
        socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(explain)?;
    let socket = File::from(OwnedFd::from(socket));
    if let Some(mode) = mode {
        // Before it has a name, so that nobody else can connect in between: the file gets the mode
        // of the descriptor.
        socket.set_permissions(Permissions::from_mode(mode))?;
    }
    SockRef::from(&socket).bind(&address)?;
    if let (Some(mode), Some(path)) = (mode, path) {
        // Whoever may have changed the mode on the way: it must be right before it is listened to.
        let given = fs::metadata(path)?.permissions().mode() & 0o777;
        if given & !mode != 0 {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
    }
    SockRef::from(&socket).listen(BACKLOG)?;
    Ok(Socket::new(OwnedFd::from(socket)))
}

fn cannot_listen(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("can't listen on {}: {error}", path.display()),
    )
}

/// The right to replace a socket in the directory of `path`, as long as the file is open. None
/// without a permission for it, or if somebody keeps it to himself.
fn turn_to_replace(path: &Path) -> Option<File> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = File::open(directory).ok()?;
    let until = switch::later(PATIENCE);
    while let Err(TryLockError::WouldBlock) = directory.try_lock() {
        if !switch::may_wait() || now_ns() >= until {
            return None;
        }
        crate::sleep(Duration::from_millis(1));
    }
    Some(directory)
}

/// Whether there is a socket that nobody listens on, nor begins to.
fn is_stale(path: &Path) -> bool {
    is_refused(path) && {
        // Somebody may have bound it and not got to listening.
        crate::sleep(GRACE);
        is_refused(path)
    }
}

/// Whether there is a socket that takes no connections.
fn is_refused(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if !is_socket {
        return false;
    }
    let refused = || -> io::Result<()> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&to_system(&SocketAddr::from_pathname(path)?)?)
    };
    matches!(refused(), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes a socket that nobody listens on. Somebody else may replace it by one in use at the same
/// moment: so it is put aside first, and looked at again.
fn remove_stale(path: &Path) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = path.parent().unwrap_or(Path::new(""));
    let aside = directory.join(format!(".{}-{number}", std::process::id()));
    match fs::rename(path, &aside) {
        // Somebody else has done so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if !is_refused(&aside) {
        fs::hard_link(&aside, path).ok();
    }
    fs::remove_file(&aside)
}

/// The file of a listener.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> Option<SocketFile> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(SocketFile {
            // The process may be in another directory at the end.
            path: std::path::absolute(path).ok()?,
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|it| (it.dev(), it.ino()) == (self.device, self.inode));
        if is_ours {
            fs::remove_file(&self.path).ok();
        }
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UnixListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
