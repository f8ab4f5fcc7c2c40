//! [`Socket`]: a descriptor and the hubs that wait for it.
//!
//! `may` resumes a coroutine that waits for a descriptor on the hub `fd % hubs`, so a hub waits for
//! a number that is its own: the descriptor itself if it fits, else a duplicate. Registrations are
//! edge-triggered and report reading and writing at once; of a reader and a writer that wait at the
//! same time, one (the *leader*) waits for the events of both.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use socket2::SockRef;

use crate::hub;
use crate::run_info::WaitsFor;
use crate::seldom::Seldom;
use crate::switch::{self, Parked};
use crate::sys::coroutine::Registration;
use crate::sys::home::{Home, NO_HUB, this_hub};
use crate::sys::{current, fd, now_ns};
use crate::task::{Task, lock};

/// What one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A descriptor that greenlets wait for. Non-blocking.
pub(crate) struct Socket {
    // Registrations go first: a descriptor is taken out of its epoll set before it is closed.
    first: OnceLock<Arc<Endpoint>>,
    more: Mutex<Seldom<Arc<Endpoint>>>,
    fd: OwnedFd,
    /// Whether there are any among `more`, for who would lock it to find nothing. Whose own hub's
    /// registration is there put it there on the same thread, and so sees that there are.
    has_more: AtomicBool,
    /// All registrations are among `more`, from where they can be dropped again.
    is_transient: bool,
    /// A hang-up or an error is the end, of which the kernel tells once.
    ends: bool,
    /// A read that brings less than there was room for has brought all there is.
    drains: bool,
    /// Every further call is refused.
    closed: AtomicBool,
}

/// A socket's registration with one hub.
pub(crate) struct Endpoint {
    // Dropped before the duplicate is closed, for the same reason.
    registration: Registration,
    readiness: Home<Readiness>,
    _duplicate: Option<OwnedFd>,
}

struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The peer has closed its side, or the connection is broken: no more edges come.
    closed: Cell<bool>,
    /// Whether a hang-up or an error says so.
    ends: bool,
    /// What the greenlet waits for that waits for the registration's events, on behalf of both.
    leader: Cell<Option<Direction>>,
    /// Who waits beside the leader, and for what: the other direction. One at most, as each has
    /// one that waits for it, and who comes when nobody leads does so.
    follower: RefCell<Option<Arc<Task>>>,
    followed_for: Cell<Option<Direction>>,
}

const READABLE: usize =
    (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as usize;
const WRITABLE: usize = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as usize;
const CLOSED: usize = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as usize;

impl From<Direction> for WaitsFor {
    fn from(direction: Direction) -> WaitsFor {
        match direction {
            Direction::Read => WaitsFor::Read,
            Direction::Write => WaitsFor::Write,
        }
    }
}

impl Endpoint {
    /// The descriptor that is registered: the socket's own or a duplicate.
    pub(crate) fn number(&self) -> RawFd {
        self.registration.fd()
    }

    /// Ends the wait of the leader.
    pub(crate) fn wake(&self) {
        self.registration.wake();
    }
}

impl Readiness {
    fn is(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable.get(),
            Direction::Write => self.writable.get(),
        }
    }

    fn apply(&self, events: usize) {
        if events & READABLE != 0 {
            self.readable.set(true);
        }
        if events & WRITABLE != 0 {
            self.writable.set(true);
        }
        if events & CLOSED != 0 && self.ends {
            self.closed.set(true);
        }
    }

    fn is_awaited(&self, direction: Direction) -> bool {
        [self.leader.get(), self.followed_for.get()].contains(&Some(direction))
    }
}

impl Socket {
    /// A socket on `fd`, which is non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Socket {
        Socket {
            first: OnceLock::new(),
            more: Mutex::default(),
            has_more: AtomicBool::new(false),
            fd,
            is_transient: false,
            ends: true,
            drains: true,
            closed: AtomicBool::new(false),
        }
    }

    /// As [`new`](Socket::new), for what may bring less than it has, as a Unix socket does where
    /// descriptors were passed.
    pub(crate) fn in_pieces(fd: OwnedFd) -> Socket {
        Socket {
            drains: false,
            ..Socket::new(fd)
        }
    }

    /// As [`new`](Socket::new), for what may be well again after a hang-up or an error, as a socket
    /// of datagrams or a FIFO. It has to be read until it has nothing: a short read is no sign.
    pub(crate) fn endless(fd: OwnedFd) -> Socket {
        Socket {
            ends: false,
            ..Socket::new(fd)
        }
    }

    /// The same in no hub's epoll set, and its registrations can be dropped by
    /// [`unregister`](Socket::unregister): waits for it are rare, and a registration takes more
    /// memory than the socket.
    pub(crate) fn into_transient(self) -> Socket {
        let Socket { ends, drains, .. } = self;
        Socket {
            is_transient: true,
            ends,
            drains,
            ..Socket::new(self.into_fd())
        }
    }

    /// Drops the registrations for which nobody waits, if they are transient.
    pub(crate) fn unregister(&self) {
        if self.is_transient {
            // Who is about to wait has got its own handle under the lock.
            let mut more = lock(&self.more);
            let unused: Vec<_> = more
                .as_mut()
                .extract_if(.., |endpoint| Arc::strong_count(endpoint) == 1)
                .collect();
            let has_more = !more.as_slice().is_empty();
            self.has_more.store(has_more, Ordering::Relaxed);
            drop(more);
            drop(unused);
        }
    }

    /// Ends the socket for all who have it: who waits is woken, and every call fails with `EBADF`.
    /// The descriptor stays until the socket is dropped, so that its number is nobody else's.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Also one that is not connected wakes its waiters, and only then says that it is not.
        SockRef::from(self).shutdown(Shutdown::Both).ok();
    }

    #[inline]
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The descriptor, in no hub's epoll set any more.
    pub(crate) fn into_fd(self) -> OwnedFd {
        let Socket {
            first, more, fd, ..
        } = self;
        drop((first, more));
        fd
    }

    /// A new descriptor moved to a number of the caller's hub, so that it needs no duplicate. To be
    /// used while nobody else has the descriptor. When there are too few left for that, it
    /// stays as it is: a connection that has been accepted is not given up for it.
    pub(crate) fn homed(fd: OwnedFd) -> OwnedFd {
        let hub = this_hub();
        if hub == NO_HUB || fd.as_raw_fd() as usize % hub::runtime().hubs() == hub as usize {
            return fd;
        }
        fd::duplicate_for(fd.as_fd(), hub, hub::runtime().hubs()).unwrap_or(fd)
    }

    /// The registration with the caller's hub, made if there is none.
    fn endpoint(&self) -> io::Result<Arc<Endpoint>> {
        if let Some(endpoint) = self.known_endpoint() {
            return Ok(endpoint);
        }
        let endpoint = self.register(this_hub())?;
        if self.is_transient {
            self.add(Arc::clone(&endpoint));
            return Ok(endpoint);
        }
        // Where another hub has been first, this one is put with the rest.
        if let Err(endpoint) = self.first.set(Arc::clone(&endpoint)) {
            self.add(endpoint);
        }
        Ok(endpoint)
    }

    fn add(&self, endpoint: Arc<Endpoint>) {
        let mut more = lock(&self.more);
        let more = more.as_mut();
        more.push(endpoint);
        self.has_more.store(true, Ordering::Relaxed);
    }

    /// The registration with the caller's hub, if it has waited before.
    fn known_endpoint(&self) -> Option<Arc<Endpoint>> {
        match self.first.get() {
            Some(first) if first.readiness.is_here() => return Some(Arc::clone(first)),
            None if !self.is_transient => return None,
            _ => {}
        }
        if !self.has_more.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.more)
            .as_slice()
            .iter()
            .find(|endpoint| endpoint.readiness.is_here())
            .map(Arc::clone)
    }

    // Neither this nor the other rare cases are inlined into the wait, whose frame is there as long as
    // a connection is idle.
    #[inline(never)]
    fn register(&self, hub: u32) -> io::Result<Arc<Endpoint>> {
        let hubs = hub::runtime().hubs();
        let duplicate = if self.fd.as_raw_fd() as usize % hubs == hub as usize {
            None
        } else {
            Some(fd::duplicate_for(self.fd.as_fd(), hub, hubs).map_err(super::explain)?)
        };
        let number = duplicate
            .as_ref()
            .map_or(self.fd.as_raw_fd(), AsRawFd::as_raw_fd);
        Ok(Arc::new(Endpoint {
            registration: Registration::new(number)?,
            readiness: Home::new(
                hub,
                Readiness {
                    // The first event, which comes at once, tells what is ready already.
                    readable: Cell::new(false),
                    writable: Cell::new(false),
                    closed: Cell::new(false),
                    ends: self.ends,
                    leader: Cell::new(None),
                    follower: RefCell::new(None),
                    followed_for: Cell::new(None),
                },
            ),
            _duplicate: duplicate,
        }))
    }

    /// Notes that a call has emptied (or filled) the socket: whoever waits now waits for an event.
    ///
    /// Only on a hub's own thread: events are applied there too, so none is lost in between.
    fn drained(&self, direction: Direction) {
        let note = |endpoint: &Endpoint| {
            let readiness = endpoint.readiness.get();
            match direction {
                // After the peer's close there is no further edge, and the end is still to be read.
                Direction::Read => readiness.readable.set(readiness.closed.get()),
                Direction::Write => readiness.writable.set(false),
            }
        };
        match self.first.get() {
            Some(first) if first.readiness.is_here() => note(first),
            known if (known.is_some() || self.is_transient) && this_hub() != NO_HUB => {
                if let Some(endpoint) = self.known_endpoint() {
                    note(&endpoint);
                }
            }
            _ => {}
        }
    }

    /// Runs a read that never blocks; `asked` is how many bytes there is room for.
    pub(crate) fn try_read(
        &self,
        asked: usize,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.is_closed() {
            return Err(closed());
        }
        let result = read(self.fd.as_fd());
        let drained = match &result {
            // Closed meanwhile: the system only says that it was shut down.
            Ok(0) | Err(_) if self.is_closed() => return Err(closed()),
            // Less than there is room for: all of it has been read. 0 is the end, which stays
            // readable.
            Ok(n) => *n < asked && *n > 0 && self.drains,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if drained {
            self.drained(Direction::Read);
        }
        result
    }

    /// As [`try_read`](Socket::try_read), for what comes in pieces of its own, as datagrams and
    /// connections: there is nothing more only when the socket says so.
    pub(crate) fn try_take<T>(
        &self,
        take: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut taken = None;
        self.try_read(0, |fd| {
            taken = Some(take(fd)?);
            // Something, be it an empty datagram.
            Ok(1)
        })?;
        taken.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Runs a write that never blocks.
    pub(crate) fn try_write(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        write(self.fd.as_fd()).map_err(|error| self.unwritten(error))
    }

    /// Notes why a write that never blocks has failed.
    pub(crate) fn unwritten(&self, error: io::Error) -> io::Error {
        if self.is_closed() {
            // The system only says that it was shut down.
            return closed();
        }
        if error.kind() == io::ErrorKind::WouldBlock {
            self.drained(Direction::Write);
        }
        error
    }

    /// Waits until the socket may be read or written without blocking, no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// `TimedOut`; `ResourceBusy` when another greenlet of the hub waits for the same already
    /// (gevent's `ConcurrentObjectUseError`); `WouldBlock` in a greenlet that unwinds; `EBADF` when
    /// the socket has been closed.
    pub(crate) fn wait(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_until(direction, switch::deadline(timeout))
    }

    pub(crate) fn wait_until(&self, direction: Direction, until: Option<u64>) -> io::Result<()> {
        switch::check();
        if !switch::may_wait() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        current::with(|task| match task {
            Some(task) => self.wait_as_greenlet(task, direction, until),
            None => self.wait_as_thread(direction, until),
        })?;
        match self.is_closed() {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    fn wait_as_greenlet(
        &self,
        task: &Task,
        direction: Direction,
        until: Option<u64>,
    ) -> io::Result<()> {
        let held;
        let endpoint = match self.first.get() {
            // Mostly: it lives as long as the socket, and needs no handle.
            Some(first) if first.readiness.is_here() => first,
            _ => {
                held = self.endpoint()?;
                &held
            }
        };
        let readiness = endpoint.readiness.get();
        if readiness.is(direction) {
            // Always ready is no reason to keep the hub for oneself.
            if !hub::local().may_run_on() {
                switch::pass(true);
            }
            return Ok(());
        }
        if readiness.is_awaited(direction) {
            return Err(busy());
        }
        while !readiness.is(direction) {
            let parked = if readiness.leader.get().is_some() {
                follow(readiness, direction, until)
            } else {
                lead(endpoint, task, direction, until)
            };
            match parked {
                Parked::Woken => {}
                // What came at the last moment counts.
                _ if readiness.is(direction) => {}
                Parked::Expired => return Err(timed_out()),
                Parked::Interrupted(interrupt) => switch::raise(interrupt),
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn wait_as_thread(&self, direction: Direction, until: Option<u64>) -> io::Result<()> {
        switch::check_thread();
        loop {
            let rest = switch::rest_of_thread(until);
            if fd::poll(self.fd.as_fd(), direction == Direction::Write, rest)? {
                return Ok(());
            }
            switch::check();
            if until.is_some_and(|until| now_ns() >= until) {
                return Err(timed_out());
            }
        }
    }
}

/// Waits for the registration's events, and passes them on to who follows.
fn lead(endpoint: &Arc<Endpoint>, task: &Task, direction: Direction, until: Option<u64>) -> Parked {
    let readiness = endpoint.readiness.get();
    readiness.leader.set(Some(direction));
    let local = task.local();
    *local.io.borrow_mut() = Some(Arc::clone(endpoint));
    local.frame.waits_for.set(direction.into());
    let mut events = 0;
    let parked = switch::switch(task, until, || events = endpoint.registration.wait());
    local.io.borrow_mut().take();
    readiness.leader.set(None);
    readiness.apply(events);
    if events & (READABLE | WRITABLE) != 0 {
        hub::local().polled();
    }
    // Its event may have come, or it is to lead from now on.
    if let Some(follower) = &*readiness.follower.borrow() {
        follower.wake_here();
    }
    parked
}

/// Waits beside the leader, who waits for the other direction.
#[inline(never)]
fn follow(readiness: &Readiness, direction: Direction, until: Option<u64>) -> Parked {
    readiness.follower.replace(current::get());
    readiness.followed_for.set(Some(direction));
    switch::waits_for(direction.into());
    let parked = switch::park(until);
    readiness.followed_for.set(None);
    readiness.follower.take();
    parked
}

#[cold]
#[inline(never)]
fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

#[cold]
#[inline(never)]
fn busy() -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        "another greenlet waits for the same direction of this socket",
    )
}

#[cold]
#[inline(never)]
fn timed_out() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "the socket's time limit has passed",
    )
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.fd).finish()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("registration", &self.registration)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    /// A thread may be held up between its look whether the socket is closed and its call.
    #[test]
    fn close_in_the_middle_of_a_call_is_told_as_one_before_it() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let socket = Socket::new(here.into());
        let reads = |fd: BorrowedFd<'_>| {
            socket.close();
            fd::receive(fd, &mut [0])
        };
        let error = socket.try_read(1, reads).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        drop(there);

        let name = format!("greenwood-closed-{}", std::process::id());
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = Socket::new(listener.into());
        let accepts = |fd: BorrowedFd<'_>| {
            socket.close();
            fd::accept(fd)
        };
        let error = socket.try_take(accepts).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn what_has_been_read_when_the_socket_is_closed_is_not_lost() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let socket = Socket::new(here.into());
        fd::send(there.as_fd(), b"x").unwrap();
        let read = socket.try_read(9, |fd| {
            let result = fd::receive(fd, &mut [0; 9]);
            socket.close();
            result
        });
        assert_eq!(read.unwrap(), 1);
        let late = socket.try_take(|fd| fd::receive(fd, &mut [0])).unwrap_err();
        assert_eq!(late.raw_os_error(), Some(libc::EBADF));
    }
}
