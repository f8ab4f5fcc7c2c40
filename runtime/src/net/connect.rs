//! [`create_connection`]: connecting to one of several addresses.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};

use super::address::no_address;
use super::select::{entry, wait_for};
use super::socket::{Direction, Socket};
use super::{TcpStream, ToSocketAddrs, explain};
use crate::switch;
use crate::sys::now_ns;

/// How long an address has to itself before the next one is tried beside it: the Connection Attempt
/// Delay of RFC 8305, section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried: so many sockets may be open at a time, and who serves
/// the name says how many it has.
const MAX_ADDRESSES: usize = 32;

/// Connects to a host, waiting no longer than `timeout` (none: as long as the system does): gevent's
/// `create_connection`.
///
/// Of several addresses the first that answers is taken (Happy Eyeballs, RFC 8305): they are tried
/// in the order in which the resolver gives them, the families in turn; the next one when the one
/// before has failed, or has not answered for 250 ms, and then beside it. The others are closed.
/// At most 32 are tried. The system's resolver answers for both families at once, so there is no
/// Resolution Delay to wait for (section 3).
///
/// `source_address` is the address to connect from; its port may be 0. Addresses of the other
/// family are left out then.
///
/// The time limit is for the whole call, the lookup of a name included; in gevent it is for each
/// address anew, and stays with the socket.
///
/// # Errors
///
/// What the system says of the address that has failed last, with the address; `TimedOut`;
/// `InvalidInput` when there is no address, or none of the source's family; what the lookup says.
///
/// ```no_run
/// use greenwood_runtime::net::create_connection;
/// use std::time::Duration;
///
/// let stream = create_connection(("example.com", 80), Some(Duration::from_secs(10)), None)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn create_connection(
    address: impl ToSocketAddrs,
    timeout: Option<Duration>,
    source_address: Option<SocketAddr>,
) -> io::Result<TcpStream> {
    let until = switch::deadline(timeout);
    let mut addresses = address.addresses(timeout)?;
    if let Some(source) = source_address {
        addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
    }
    let mut addresses = interleaved(addresses);
    addresses.truncate(MAX_ADDRESSES);
    match (addresses.pop_front(), addresses.is_empty()) {
        (None, _) => Err(no_address()),
        (Some(only), true) => connect_until(only, source_address, until),
        (Some(first), false) => {
            addresses.push_front(first);
            connect_to_first(addresses, source_address, until)
        }
    }
}

/// Connects to one address.
pub(super) fn connect_until(
    address: SocketAddr,
    source: Option<SocketAddr>,
    until: Option<u64>,
) -> io::Result<TcpStream> {
    let (fd, is_connected) = begin(address, source)?;
    let stream = TcpStream::from_nonblocking(fd);
    if is_connected {
        return Ok(stream);
    }
    stream
        .wait_until(Direction::Write, until)
        .map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => late(address),
            _ => error,
        })?;
    match stream.take_error()? {
        None => Ok(stream),
        Some(error) => Err(told(address, error)),
    }
}

/// Connects to the first address that answers. Whoever is left is closed by being dropped, also when
/// a kill or a time-out ends the wait.
fn connect_to_first(
    mut addresses: VecDeque<SocketAddr>,
    source: Option<SocketAddr>,
    until: Option<u64>,
) -> io::Result<TcpStream> {
    let mut pending: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut last = None;
    // When the next address is tried, if those that have been are silent until then.
    let mut next = 0;
    loop {
        if pending.is_empty() || now_ns() >= next {
            match addresses.pop_front() {
                Some(address) => {
                    match begin(address, source) {
                        Ok((fd, true)) => return Ok(TcpStream::from_nonblocking(fd)),
                        Ok((fd, false)) => {
                            pending.push((fd, address));
                            next = switch::deadline(Some(ATTEMPT_DELAY)).unwrap_or(u64::MAX);
                        }
                        Err(error) => {
                            last = Some(error);
                            next = 0;
                        }
                    }
                    continue;
                }
                None if pending.is_empty() => return Err(last.unwrap_or_else(no_address)),
                None => next = u64::MAX,
            }
        }
        let mut entries: Vec<_> = pending
            .iter()
            .map(|(fd, _)| entry(fd.as_raw_fd(), libc::POLLOUT))
            .collect();
        let wait_until = match (until, addresses.is_empty()) {
            (until, true) => until,
            (until, false) => Some(until.map_or(next, |until| until.min(next))),
        };
        if wait_for(&mut entries, wait_until)? == 0 {
            if !switch::may_wait() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if until.is_some_and(|until| now_ns() >= until) {
                return Err(late(pending[0].1));
            }
            continue;
        }
        let mut entries = entries.into_iter();
        let mut silent = Vec::new();
        for (fd, address) in pending {
            let is_silent = entries.next().is_none_or(|entry| entry.revents == 0);
            if is_silent {
                silent.push((fd, address));
                continue;
            }
            match SockRef::from(&fd).take_error()? {
                None => return Ok(TcpStream::from_nonblocking(fd)),
                Some(error) => {
                    last = Some(told(address, error));
                    next = 0;
                }
            }
        }
        pending = silent;
    }
}

/// A socket that connects, and whether it has.
fn begin(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<(OwnedFd, bool)> {
    // What fails at once, again and again, is no reason to keep the hub for oneself.
    switch::share();
    switch::check();
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(explain)?;
    if let Some(source) = source {
        // Several may be connecting from the same port.
        socket.set_reuse_address(source.port() != 0)?;
        let bound = socket.bind(&source.into());
        bound.map_err(|error| told(source, error))?;
    }
    // To the caller's hub, so that it needs no second descriptor there.
    let fd = Socket::homed(socket.into());
    match SockRef::from(&fd).connect(&address.into()) {
        Ok(()) => Ok((fd, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((fd, false)),
        Err(error) => Err(told(address, error)),
    }
}

/// What the system says of an address, with the address.
fn told(address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Told { address, error })
}

#[derive(Debug)]
struct Told {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

impl std::error::Error for Told {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The addresses with the families in turn, beginning with that of the first: RFC 8305, section 4.
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = VecDeque::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

fn late(address: SocketAddr) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("connect to {address}: no answer in time"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let order = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| text.parse().unwrap()).collect();
            let all: Vec<_> = interleaved(parsed)
                .iter()
                .map(SocketAddr::to_string)
                .collect();
            all.join(" ")
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]),
            "[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"
        );
        assert_eq!(order(&["1.1.1.1:1", "[::1]:1"]), "1.1.1.1:1 [::1]:1");
        assert_eq!(order(&["1.1.1.1:1", "2.2.2.2:1"]), "1.1.1.1:1 2.2.2.2:1");
        assert_eq!(order(&[]), "");
    }
}
