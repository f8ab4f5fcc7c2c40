//! Descriptors: the system calls that std has no safe name for, or not without a copy.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockAddr;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn check_size(result: isize) -> io::Result<usize> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as usize)
    }
}

/// A non-blocking eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; a descriptor that it returns is new and ours.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an eventfd readable. Never blocks: the counter would have to reach 2^64 - 1.
pub(crate) fn notify(fd: &OwnedFd) {
    let one = 1u64;
    // SAFETY: `one` is eight readable bytes.
    unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// A non-blocking timerfd on the monotonic clock, disarmed.
pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
    // SAFETY: takes no pointer; a descriptor that it returns is new and ours.
    let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Arms a timerfd for a moment of [`now_ns`](super::now_ns)'s clock; a moment in the past fires at
/// once.
pub(crate) fn arm(fd: &OwnedFd, at_ns: u64) {
    // All zero would disarm it.
    let at_ns = at_ns.max(1);
    let value = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
        },
    };
    // SAFETY: `value` is a valid itimerspec; the old value is not asked for.
    unsafe {
        libc::timerfd_settime(
            fd.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &value,
            std::ptr::null_mut(),
        )
    };
}

/// An epoll set, as a descriptor that is readable while something in it is.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; a descriptor that it returns is new and ours.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `fd` into an epoll set, edge-triggered for reading; its events carry `key`. What is there
/// already is reported at once.
pub(crate) fn epoll_add(set: BorrowedFd<'_>, fd: BorrowedFd<'_>, key: u64) -> io::Result<()> {
    epoll_add_for(set, fd, key, libc::EPOLLIN | libc::EPOLLRDHUP)
}

/// As [`epoll_add`], for writing.
pub(crate) fn epoll_add_writer(
    set: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    key: u64,
) -> io::Result<()> {
    epoll_add_for(set, fd, key, libc::EPOLLOUT)
}

fn epoll_add_for(
    set: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    key: u64,
    events: libc::c_int,
) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: (events | libc::EPOLLET) as u32,
        u64: key,
    };
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: `event` is a valid epoll_event.
    check(unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
}

/// Takes `fd` out of an epoll set, if it is in it.
pub(crate) fn epoll_remove(set: BorrowedFd<'_>, fd: BorrowedFd<'_>) {
    let (set, fd) = (set.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: no event is needed to delete one.
    unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
}

/// How many events are taken out of an epoll set at once.
pub(crate) const EPOLL_BATCH: usize = 128;

/// Takes the next events of an epoll set, at most [`EPOLL_BATCH`], and gives each to `take`: its
/// key, and whether the peer has closed its side or the connection has failed. Never blocks.
pub(crate) fn epoll_take(
    set: BorrowedFd<'_>,
    mut take: impl FnMut(u64, bool),
) -> io::Result<usize> {
    const CLOSED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; EPOLL_BATCH];
    // SAFETY: `events` has room for as many as are asked for.
    let n = check(unsafe {
        libc::epoll_wait(
            set.as_raw_fd(),
            events.as_mut_ptr(),
            EPOLL_BATCH as libc::c_int,
            0,
        )
    })? as usize;
    for event in &events[..n] {
        take(event.u64, event.events & CLOSED != 0);
    }
    Ok(n)
}

/// A duplicate of `fd` whose number is `hub` modulo `hubs`: the number decides which hub's epoll
/// set it goes to.
pub(crate) fn duplicate_for(fd: BorrowedFd<'_>, hub: u32, hubs: usize) -> io::Result<OwnedFd> {
    let mut lowest: RawFd = 3;
    // Duplicates with wrong numbers are kept until the right one is found: a lower number would
    // come back.
    let mut wrong = Vec::new();
    loop {
        // SAFETY: takes no pointer; a descriptor that it returns is new and ours.
        let number = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) })
            .map_err(|error| match error.raw_os_error() {
            // From a number at the limit on, the system calls the number invalid. No other
            // argument can be: the process is out of descriptors.
            Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::EMFILE),
            _ => error,
        })?;
        // SAFETY: as above.
        let duplicate = unsafe { OwnedFd::from_raw_fd(number) };
        if number as usize % hubs == hub as usize {
            return Ok(duplicate);
        }
        lowest = number + 1;
        wrong.push(duplicate);
    }
}

/// recv(2) without glibc's wrapper: in a process with threads that marks a cancellation point
/// around each call, which costs as much as the rest of our own work for a small message.
/// Cancelling threads is no concept of Rust's.
///
/// # Safety
///
/// `buffer` must be writable for `len` bytes.
#[inline]
unsafe fn recv(fd: RawFd, buffer: *mut u8, len: usize) -> io::Result<usize> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: recvfrom(2) with the caller's buffer, and nowhere to put an address.
    check_size(unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            fd,
            buffer,
            len,
            libc::MSG_DONTWAIT,
            null,
            null,
        )
    } as isize)
}

/// Receives into `buffer`; never blocks.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is writable for its length.
    unsafe { recv(fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) }
}

/// Receives at most `max` bytes behind what `buffer` holds, without filling the room with zeroes
/// first; never blocks.
pub(crate) fn receive_into(
    fd: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    max: usize,
) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < max {
        buffer
            .try_reserve(max)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    }
    let room: &mut [MaybeUninit<u8>] = &mut buffer.spare_capacity_mut()[..max];
    // SAFETY: `room` is writable for its length; the kernel reads nothing of it.
    let n = unsafe { recv(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) }?;
    // SAFETY: the kernel has initialised `n` bytes behind the old length, within the capacity.
    unsafe { buffer.set_len(buffer.len() + n) };
    Ok(n)
}

/// Sends; never blocks, never raises SIGPIPE.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: sendto(2) without an address, for the reason given at `recv`; `bytes` is readable for
    // its length.
    check_size(unsafe {
        libc::syscall(
            libc::SYS_sendto,
            fd.as_raw_fd(),
            bytes.as_ptr(),
            bytes.len(),
            flags,
            null,
            0,
        )
    } as isize)
}

/// Sends several pieces in one call; never blocks, never raises SIGPIPE.
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: msghdr is plain data for which all-zero is valid: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len().min(libc::UIO_MAXIOV as usize) as _;
    // SAFETY: IoSlice has the layout of iovec by std's promise; the pieces are readable for their
    // lengths and sendmsg does not write to them.
    check_size(unsafe {
        libc::sendmsg(
            fd.as_raw_fd(),
            &message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
}

/// Accepts a connection as a non-blocking descriptor, with the peer's address; never blocks when
/// the listener doesn't.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the closure hands accept4 a place for an address and its size, and fails when accept4
    // does.
    let (fd, address) = unsafe {
        SockAddr::try_init(|address, length| {
            check(libc::accept4(
                listener.as_raw_fd(),
                address.cast(),
                length,
                flags,
            ))
        })
    }?;
    // SAFETY: accept4 returned a descriptor that is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((fd, address))
}

/// Receives a datagram and its sender's address; never blocks. What `buffer` has no room for is
/// lost. With `peek` the datagram stays.
pub(crate) fn receive_from(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    peek: bool,
) -> io::Result<(usize, SockAddr)> {
    // SAFETY: `buffer` is writable for its length; the closure hands recvfrom a place for an
    // address and its size, and fails when recvfrom does.
    unsafe {
        SockAddr::try_init(|address, length| {
            check_size(libc::recvfrom(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                peeking(peek),
                address.cast(),
                length,
            ))
        })
    }
}

/// As [`receive`], and what was received can be received again.
pub(crate) fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is writable for its length.
    check_size(unsafe {
        libc::recv(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            peeking(true),
        )
    })
}

fn peeking(peek: bool) -> libc::c_int {
    libc::MSG_DONTWAIT | if peek { libc::MSG_PEEK } else { 0 }
}

/// Who has made the other end of a Unix connection: SO_PEERCRED.
pub(crate) fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option's value is a ucred, for which there is room, and its size is said.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &mut size,
        )
    })?;
    Ok(credentials)
}

/// read(2): blocks if the descriptor does.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` is writable for its length.
    check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// write(2): blocks if the descriptor does.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` is readable for its length.
    check_size(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// As [`read`] at the present position, and never blocks, whatever the descriptor's flags are.
/// Fails with `EOPNOTSUPP` where the kernel can't promise that.
pub(crate) fn read_nowait(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let piece = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: one valid iovec of writable bytes.
    check_size(unsafe { libc::preadv2(fd.as_raw_fd(), &piece, 1, -1, libc::RWF_NOWAIT) })
}

/// As [`write`], and never blocks: see [`read_nowait`].
pub(crate) fn write_nowait(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: one valid iovec of readable bytes, to which pwritev2 does not write.
    check_size(unsafe { libc::pwritev2(fd.as_raw_fd(), &piece, 1, -1, libc::RWF_NOWAIT) })
}

/// How a descriptor was opened: the flags of its open file description.
pub(crate) fn status_flags(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// Takes over a descriptor that this process was started with, and closes it on exec from now on;
/// none if there is none of that number, or it is closed on exec already: then this process has
/// opened it itself.
///
/// To be called once for each number, and only for one that the process's parent said to be ours.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: takes no pointer.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFD) }).ok()?;
    if flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, and by what the parent has said nobody else's.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts a descriptor of somebody else into an epoll set, level-triggered for the events of poll(2)
/// in `events`, which have the same numbers.
pub(crate) fn epoll_watch(set: BorrowedFd<'_>, fd: RawFd, events: libc::c_short) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: u32::from(events.cast_unsigned()),
        u64: 0,
    };
    // SAFETY: `event` is a valid epoll_event.
    check(unsafe { libc::epoll_ctl(set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })
        .map(drop)
}

/// Blocks the *thread* until the descriptor can be read (or written); false when the time is up, or
/// a signal has ended the wait: the caller looks at the clock and polls again.
pub(crate) fn poll(
    fd: BorrowedFd<'_>,
    for_writing: bool,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let events = if for_writing {
        libc::POLLOUT
    } else {
        libc::POLLIN
    };
    let entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    Ok(poll_all(&mut [entry], timeout)? > 0)
}

/// poll(2): blocks the *thread* until something is reported of one of the descriptors; 0 when the
/// time is up, or a signal has ended the wait.
pub(crate) fn poll_all(
    entries: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let milliseconds = match timeout {
        // Rounded up, so that a wait of less than a millisecond is one.
        Some(timeout) => timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32,
        None => -1,
    };
    // SAFETY: so many valid pollfds.
    let ready = check(unsafe {
        libc::poll(
            entries.as_mut_ptr(),
            entries.len() as libc::nfds_t,
            milliseconds,
        )
    });
    match ready {
        Ok(ready) => Ok(ready as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            // What the kernel has left there is no news.
            for entry in entries {
                entry.revents = 0;
            }
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Reads at most `max` bytes behind what `buffer` holds; never blocks when the descriptor doesn't.
pub(crate) fn read_into(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    buffer
        .try_reserve(max)
        .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    let room: &mut [MaybeUninit<u8>] = &mut buffer.spare_capacity_mut()[..max];
    // SAFETY: `room` is writable for its length; the kernel reads nothing of it.
    let n = check_size(unsafe { libc::read(fd.as_raw_fd(), room.as_mut_ptr().cast(), max) })?;
    // SAFETY: the kernel has initialised `n` bytes behind the old length, within the capacity.
    unsafe { buffer.set_len(buffer.len() + n) };
    Ok(n)
}
