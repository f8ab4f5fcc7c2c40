//! [`listen_fds`]: sockets that the service manager has opened.

use std::env;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::fd;

/// The first descriptor of the protocol: sd_listen_fds(3), `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// A descriptor that was inherited. From [`listen_fds`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Inherited {
    /// The name of its socket unit (`FileDescriptorName=`), if there is one.
    pub name: Option<String>,
    /// The descriptor: for [`TcpListener::from_fd`](super::TcpListener::from_fd) and its like.
    pub fd: OwnedFd,
}

impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> OwnedFd {
        inherited.fd
    }
}

/// The sockets that systemd (or whoever speaks its protocol) has opened for this process, in the
/// order of the configuration: socket activation, sd_listen_fds(3). None without such a manager, and
/// at every call but the first, as they belong to the caller from then on.
///
/// They are closed on exec. A descriptor that is so already has been opened by this process and is
/// not taken, nor is any behind it, should `LISTEN_FDS` say more than there are. The variables
/// (`LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`) stay in the environment; a child process is not
/// meant by them.
///
/// ```no_run
/// use greenwood_runtime::{StreamServer, net};
///
/// let listener = match net::listen_fds().into_iter().next() {
///     Some(inherited) => net::TcpListener::from_fd(inherited.fd)?,
///     None => net::TcpListener::bind("127.0.0.1:7000")?,
/// };
/// StreamServer::from_listener(listener, |_stream, _peer| ())?.serve_forever()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen_fds() -> Vec<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    // Another number, or none: they are meant for another process, or nobody.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let numbers = (FIRST..).take(count as usize);
    numbers
        .map_while(fd::inherited)
        .map(|fd| Inherited {
            name: names
                .next()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            fd,
        })
        .collect()
}
