//! Unix sockets: connections and datagrams within a machine.
//!
//! An address is std's [`SocketAddr`](std::os::unix::net::SocketAddr): a path in the file system, a
//! Linux *abstract* name (which no file stands for, and which goes with its socket), or none. A peer
//! whose path takes all 108 bytes that the system has for one, where std has 107, counts as one
//! without an address.

mod datagram;
mod listener;
mod rights;
mod stream;

pub use datagram::UnixDatagram;
pub(crate) use listener::SocketFile;
pub use listener::UnixListener;
pub use stream::{UnixCredentials, UnixStream};

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use socket2::SockAddr;

use crate::run_info::WaitsFor;
use crate::switch;
use crate::sys::now_ns;
use crate::waiter::{Stop, Waiter};

/// How long one waits for what the kernel tells nobody of: a Unix socket whose queue is full. From
/// the first to the last, doubled each time.
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(50);

fn to_system(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    let Some(name) = address.as_abstract_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a Unix address without a path or a name",
        ));
    };
    let mut bytes = vec![0];
    bytes.extend_from_slice(name);
    SockAddr::unix(OsString::from_vec(bytes))
}

fn from_system(address: &SockAddr) -> io::Result<SocketAddr> {
    // The kernel gives no address at all for the sender of a datagram that has none.
    if address.len() == 0 || address.is_unnamed() {
        // What std makes of it too.
        return SocketAddr::from_pathname("");
    }
    if let Some(name) = address.as_abstract_namespace() {
        return SocketAddr::from_abstract_name(name);
    }
    let Some(path) = address.as_pathname() else {
        let error = "no address of a Unix socket";
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    };
    // The system takes paths of 108 bytes, one more than std. A peer may have one.
    SocketAddr::from_pathname(path).or_else(|_| SocketAddr::from_pathname(""))
}

/// Calls `attempt` until it does not say `WouldBlock`, with pauses, no longer than `timeout`.
fn retry<T>(
    timeout: Option<Duration>,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let until = switch::deadline(timeout);
    switch::share();
    switch::check();
    let mut pause = MIN_PAUSE;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && switch::may_wait() => {}
            result => return result,
        }
        let rest = until.map(|until| Duration::from_nanos(until.saturating_sub(now_ns())));
        if rest == Some(Duration::ZERO) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the other side's queue is full, and the time limit has passed",
            ));
        }
        let pause_over = switch::deadline(Some(rest.map_or(pause, |rest| rest.min(pause))));
        // Nobody notifies it.
        let paused = Waiter::new().wait(WaitsFor::Write, pause_over);
        if let Err(Stop::Interrupt(interrupt)) = paused {
            switch::raise(interrupt);
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
