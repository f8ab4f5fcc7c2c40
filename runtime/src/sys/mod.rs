//! The one module with `unsafe`: system calls, stacks, the current-greenlet pointer, and the cell
//! that only a hub's own thread may touch. Everything above it is safe code.

pub(crate) mod altstack;
pub(crate) mod coroutine;
pub(crate) mod current;
pub(crate) mod fd;
pub(crate) mod home;
pub(crate) mod limits;
pub(crate) mod overflow;
pub(crate) mod process;
pub(crate) mod roster;
pub(crate) mod scope;
pub(crate) mod shared_fd;
pub(crate) mod slot;
pub(crate) mod stack;
mod turns;

/// Nanoseconds of the monotonic clock. One vDSO call, no system call.
#[inline]
pub(crate) fn now_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// The same clock as of the last tick, at most a few milliseconds ago: a fraction of the cost.
#[inline]
pub(crate) fn coarse_now_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write to; both clocks always exist on Linux.
    unsafe { libc::clock_gettime(id, &mut now) };
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
