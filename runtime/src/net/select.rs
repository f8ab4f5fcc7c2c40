//! [`select`] and [`Poll`]: waiting for descriptors that belong to somebody else.
//!
//! The runtime's own registrations make a descriptor non-blocking, and there is one per number. So
//! these are waited for by an epoll set of their own, which lives as long as the wait: nothing of the
//! descriptors is changed, and nothing is left behind.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

use super::explain;
use super::socket::{Direction, Socket};
use crate::switch;
use crate::sys::{current, fd, now_ns};
use crate::task::lock;

/// What [`select`] has found: descriptors in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selected {
    /// Those that can be read without blocking.
    pub read: Vec<RawFd>,
    /// Those that can be written.
    pub write: Vec<RawFd>,
    /// Those with something exceptional, as urgent data.
    pub except: Vec<RawFd>,
}

/// Waits until one of the descriptors can be read, written, or has something exceptional, no longer
/// than `timeout` (none: without end; zero: only looks): gevent's `select.select`. All are empty when
/// the time is up.
///
/// It is meant for descriptors of a C library, or of code that is not Greenwood's. They stay
/// somebody else's: nothing about them is changed. One that has failed or was hung up counts as
/// ready for whatever was asked. Who closes a descriptor does not end the wait for it.
///
/// Any number of greenlets and threads may wait for the same descriptor. A wait takes one descriptor
/// and some ten system calls; the sockets of this module wait for themselves at a fraction of that.
///
/// # Errors
///
/// `EBADF` for a number that is no descriptor; `EMFILE` and its kin, with the limit.
///
/// ```
/// use greenwood_runtime::net::select;
/// use std::{io::Write, os::fd::AsRawFd, time::Duration};
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let fds = [reader.as_raw_fd()];
/// assert!(select(&fds, &[], &[], Some(Duration::from_millis(1)))?.read.is_empty());
/// writer.write_all(b"x")?;
/// assert_eq!(select(&fds, &[], &[], None)?.read, fds);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn select(
    read: &[RawFd],
    write: &[RawFd],
    except: &[RawFd],
    timeout: Option<Duration>,
) -> io::Result<Selected> {
    let mut wanted: BTreeMap<RawFd, PollEvents> = BTreeMap::new();
    for (fds, events) in [
        (read, PollEvents::IN),
        (write, PollEvents::OUT),
        (except, PollEvents::PRI),
    ] {
        for &fd in fds {
            *wanted.entry(fd).or_default() |= events;
        }
    }
    let found: BTreeMap<_, _> = wait(&wanted, timeout)?.into_iter().collect();
    if found
        .values()
        .any(|events| events.contains(PollEvents::NVAL))
    {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let of = |fds: &[RawFd], events: PollEvents| {
        let events = events | PollEvents::ERR | PollEvents::HUP;
        let is_ready = |fd: &RawFd| found.get(fd).is_some_and(|it| it.intersects(events));
        fds.iter().copied().filter(is_ready).collect()
    };
    Ok(Selected {
        read: of(read, PollEvents::IN),
        write: of(write, PollEvents::OUT),
        except: of(except, PollEvents::PRI),
    })
}

/// A list of descriptors to wait for: gevent's `select.poll`. They stay somebody else's; what is
/// said at [`select`] holds here too.
///
/// ```
/// use greenwood_runtime::net::{Poll, PollEvents};
/// use std::os::fd::AsRawFd;
///
/// let (reader, writer) = std::io::pipe()?;
/// let poll = Poll::new();
/// poll.register(&reader, PollEvents::IN);
/// poll.register(&writer, PollEvents::OUT);
/// assert_eq!(poll.poll(None)?, [(writer.as_raw_fd(), PollEvents::OUT)]);
/// poll.unregister(&writer)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
pub struct Poll {
    wanted: Mutex<BTreeMap<RawFd, PollEvents>>,
}

impl Poll {
    /// A list without descriptors.
    pub const fn new() -> Poll {
        Poll {
            wanted: Mutex::new(BTreeMap::new()),
        }
    }

    /// Adds a descriptor, or changes what is awaited of it. [`ERR`](PollEvents::ERR),
    /// [`HUP`](PollEvents::HUP) and [`NVAL`](PollEvents::NVAL) are reported in any case.
    ///
    /// A [`poll`](Poll::poll) that is under way does not notice.
    pub fn register(&self, fd: &impl AsRawFd, events: PollEvents) {
        lock(&self.wanted).insert(fd.as_raw_fd(), events);
    }

    /// Changes what is awaited of a descriptor.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not in the list.
    pub fn modify(&self, fd: &impl AsRawFd, events: PollEvents) -> io::Result<()> {
        match lock(&self.wanted).get_mut(&fd.as_raw_fd()) {
            Some(wanted) => {
                *wanted = events;
                Ok(())
            }
            None => Err(not_registered(fd.as_raw_fd())),
        }
    }

    /// Takes a descriptor out of the list.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not in it.
    pub fn unregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        match lock(&self.wanted).remove(&fd.as_raw_fd()) {
            Some(_) => Ok(()),
            None => Err(not_registered(fd.as_raw_fd())),
        }
    }

    /// Waits until there is something to tell of a descriptor, no longer than `timeout` (none:
    /// without end; zero: only looks), and returns what, in the order of the numbers. Nothing when
    /// the time is up.
    ///
    /// # Errors
    ///
    /// `EMFILE` and its kin, with the limit. A number that is no descriptor is no error: it is
    /// reported with [`NVAL`](PollEvents::NVAL).
    pub fn poll(&self, timeout: Option<Duration>) -> io::Result<Vec<(RawFd, PollEvents)>> {
        let wanted = lock(&self.wanted).clone();
        wait(&wanted, timeout)
    }
}

fn not_registered(fd: RawFd) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("the descriptor {fd} is not registered"),
    )
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = lock(&self.wanted).clone();
        f.debug_tuple("Poll").field(&wanted).finish()
    }
}

/// What may be awaited or reported of a descriptor: the bits of poll(2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PollEvents(libc::c_short);

impl PollEvents {
    /// There is something to read, or the end.
    pub const IN: PollEvents = PollEvents(libc::POLLIN);
    /// There is something exceptional, as urgent data.
    pub const PRI: PollEvents = PollEvents(libc::POLLPRI);
    /// It can be written.
    pub const OUT: PollEvents = PollEvents(libc::POLLOUT);
    /// The peer has closed its side.
    pub const RDHUP: PollEvents = PollEvents(libc::POLLRDHUP);
    /// It has failed. Only reported.
    pub const ERR: PollEvents = PollEvents(libc::POLLERR);
    /// It was hung up. Only reported.
    pub const HUP: PollEvents = PollEvents(libc::POLLHUP);
    /// The number is no descriptor. Only reported.
    pub const NVAL: PollEvents = PollEvents(libc::POLLNVAL);

    /// Events by their bits in poll(2).
    pub const fn from_bits(bits: i16) -> PollEvents {
        PollEvents(bits)
    }

    /// The bits of poll(2).
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: PollEvents) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: PollEvents) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for PollEvents {
    type Output = PollEvents;

    fn bitor(self, other: PollEvents) -> PollEvents {
        PollEvents(self.0 | other.0)
    }
}

impl BitOrAssign for PollEvents {
    fn bitor_assign(&mut self, other: PollEvents) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for PollEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (PollEvents::IN, "IN"),
            (PollEvents::PRI, "PRI"),
            (PollEvents::OUT, "OUT"),
            (PollEvents::RDHUP, "RDHUP"),
            (PollEvents::ERR, "ERR"),
            (PollEvents::HUP, "HUP"),
            (PollEvents::NVAL, "NVAL"),
        ];
        let named: Vec<_> = names
            .into_iter()
            .filter(|(events, _)| self.contains(*events))
            .map(|(_, name)| name)
            .collect();
        write!(f, "PollEvents({})", named.join(" | "))
    }
}

fn wait(
    wanted: &BTreeMap<RawFd, PollEvents>,
    timeout: Option<Duration>,
) -> io::Result<Vec<(RawFd, PollEvents)>> {
    // poll(2) passes over negative numbers, as if they were not in the list.
    let negative = wanted.range(..0).map(|(&fd, _)| (fd, PollEvents::NVAL));
    let mut found: Vec<_> = negative.collect();
    let mut entries: Vec<_> = wanted
        .range(0..)
        .map(|(&fd, &events)| entry(fd, events.0))
        .collect();
    let until = match found.is_empty() {
        true => switch::deadline(timeout),
        false => Some(0),
    };
    wait_for(&mut entries, until)?;
    let reported = entries.into_iter().filter(|entry| entry.revents != 0);
    found.extend(reported.map(|entry| (entry.fd, PollEvents(entry.revents))));
    Ok(found)
}

pub(crate) fn entry(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits until poll(2) reports something of one of the entries, of which no two are of the same
/// descriptor; of how many it does. 0 when the deadline has passed, or in a greenlet that unwinds.
pub(crate) fn wait_for(entries: &mut [libc::pollfd], until: Option<u64>) -> io::Result<usize> {
    switch::share();
    switch::check();
    let ready = fd::poll_all(entries, Some(Duration::ZERO))?;
    let in_time = until.is_none_or(|until| now_ns() < until);
    if ready > 0 || !in_time || !switch::may_wait() {
        return Ok(ready);
    }
    if current::with(|task| task.is_some()) {
        wait_as_greenlet(entries, until)
    } else {
        wait_as_thread(entries, until)
    }
}

fn wait_as_greenlet(entries: &mut [libc::pollfd], until: Option<u64>) -> io::Result<usize> {
    loop {
        let Some(set) = set_of(entries)? else {
            return fd::poll_all(entries, Some(Duration::ZERO));
        };
        let waited = set.wait_until(Direction::Read, until);
        let ready = fd::poll_all(entries, Some(Duration::ZERO))?;
        match waited {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
            // Somebody else was quicker; or a descriptor was closed, what it stood for is open by
            // another number and ready, and its own number is another's. So the set is made anew.
            Ok(()) if ready == 0 => {}
            _ => return Ok(ready),
        }
    }
}

/// An epoll set of the descriptors; none if one of them has been closed meanwhile, which poll(2)
/// tells.
fn set_of(entries: &[libc::pollfd]) -> io::Result<Option<Socket>> {
    let set = Socket::endless(Socket::homed(fd::epoll().map_err(explain)?));
    for entry in entries {
        match fd::epoll_watch(set.as_fd(), entry.fd, entry.events) {
            // A regular file: epoll takes none, as there is nothing to wait for.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Ok(None),
            added => added.map_err(explain)?,
        }
    }
    Ok(Some(set))
}

fn wait_as_thread(entries: &mut [libc::pollfd], until: Option<u64>) -> io::Result<usize> {
    switch::check_thread();
    loop {
        let ready = fd::poll_all(entries, switch::rest_of_thread(until))?;
        if ready > 0 {
            return Ok(ready);
        }
        switch::check();
        if until.is_some_and(|until| now_ns() >= until) {
            return Ok(0);
        }
    }
}
