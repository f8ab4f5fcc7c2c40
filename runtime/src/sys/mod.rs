//! The one module with `unsafe`: system calls, stacks, the current-greenlet pointer, and the cell
//! that only a hub's own thread may touch. Everything above it is safe code.

pub(crate) mod altstack;
pub(crate) mod coroutine;
pub(crate) mod current;
pub(crate) mod fd;
pub(crate) mod home;
pub(crate) mod limits;
pub(crate) mod overflow;
pub(crate) mod stack;

/// Nanoseconds of the monotonic clock. One vDSO call, no system call.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write to; CLOCK_MONOTONIC always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
