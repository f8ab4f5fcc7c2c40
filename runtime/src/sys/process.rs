//! Child processes: waiting for their end without taking it, and signals to them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A descriptor that is readable once the process has ended.
///
/// `pid` must be a child that nobody has waited for yet: its number may be another's else.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.3, `EPERM` in some sandboxes, a limit of descriptors.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; a descriptor that it returns is new and ours. It is close-on-exec.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal to the process of a pidfd, and to no other that has got its number since.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo, the kernel makes one as for kill(2).
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    })
    .map(drop)
}

/// Sends a signal to a child that nobody has waited for yet.
pub(crate) fn kill(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(libc::c_long::from(unsafe {
        libc::kill(pid as libc::pid_t, signal)
    }))
    .map(drop)
}

/// Blocks the *thread* until a child has ended, and leaves its status for who asks.
pub(crate) fn await_end(pid: u32) -> io::Result<()> {
    loop {
        // SAFETY: siginfo_t is plain data, for which all-zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` is writable.
        match check(libc::c_long::from(unsafe {
            libc::waitid(libc::P_PID, pid, &mut info, options)
        })) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            waited => return waited.map(drop),
        }
    }
}
