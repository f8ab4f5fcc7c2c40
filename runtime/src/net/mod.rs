//! Sockets for greenlets: gevent's `socket`, `ssl` and `select`.
//!
//! A socket may be used from any greenlet of any hub and from plain threads. Each hub that waits
//! for it has a registration of its own, so no wait is ever forwarded from one hub to another.

mod address;
mod any;
mod connect;
mod inherited;
pub(crate) mod listener;
pub mod parking;
mod resolve;
pub(crate) mod select;
pub(crate) mod socket;
mod stream;
mod tcp;
pub(crate) mod timed;
#[cfg(feature = "tls")]
mod tls;
mod udp;
mod unix;

pub use address::ToSocketAddrs;
pub(crate) use any::unix_name;
pub use any::{Address, StreamListener};
pub use connect::create_connection;
pub use inherited::{Inherited, listen_fds};
pub use listener::{ListenOptions, TcpListener};
pub use resolve::getaddrinfo;
pub use select::{Poll, PollEvents, Selected, select};
pub use stream::Stream;
pub use tcp::TcpStream;
#[cfg(feature = "tls")]
pub use tls::{
    ClientTls, ClientTlsBuilder, Identity, ServerTls, ServerTlsBuilder, TlsInfo, TlsStream,
};
pub use udp::UdpSocket;
pub(crate) use unix::SocketFile;
pub use unix::{UnixCredentials, UnixDatagram, UnixListener, UnixStream};

use std::io;
use std::time::Duration;

use crate::sys::limits as system;

/// As [`TcpStream::set_keepalive`].
fn set_keepalive(socket: &socket2::SockRef<'_>, idle: Option<Duration>) -> io::Result<()> {
    let Some(idle) = idle else {
        return socket.set_keepalive(false);
    };
    let second = Duration::from_secs(1);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(idle.max(second))
        .with_interval((idle / 4).max(second))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

/// An error of a call that opens a descriptor, with the limit that was reached and how to raise it.
pub(crate) fn explain(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EMFILE) => format!(
            "RLIMIT_NOFILE allows this process {} descriptors; raise it with ulimit -n",
            system::descriptors()
        ),
        Some(libc::ENFILE) => {
            "the system has no descriptors left; raise fs.file-max with sysctl".to_owned()
        }
        _ => return error,
    };
    io::Error::new(
        error.kind(),
        LimitReached {
            advice,
            source: error,
        },
    )
}

/// Whether an error says that descriptors or memory have run out: it passes when something is
/// closed.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let code = match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<LimitReached>())
    {
        Some(limit) => limit.source.raw_os_error(),
        None => error.raw_os_error(),
    };
    matches!(
        code,
        // ENOSPC: fs.epoll.max_user_watches
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ENOSPC)
    )
}

/// Whether a wait has ended without news: the time is up, or the caller unwinds.
pub(crate) fn is_late(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::TimedOut || kind == io::ErrorKind::WouldBlock
}

#[derive(Debug)]
struct LimitReached {
    advice: String,
    source: io::Error,
}

impl std::fmt::Display for LimitReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.source, self.advice)
    }
}

impl std::error::Error for LimitReached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
