//! The alternate signal stack: without one, a handler can't run after a stack overflow.

const SIZE: usize = 64 * 1024;

/// Gives the calling thread an alternate signal stack if it has none.
///
/// Rust gives one to its own threads, but not when the program's `main` is not Rust's.
pub(crate) fn ensure() {
    let mut old = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: asks for the present setting only; `old` is a valid place for it.
    let asked = unsafe { libc::sigaltstack(std::ptr::null(), old.as_mut_ptr()) };
    // SAFETY: all-zero is a valid stack_t, and the call above can only have filled it in.
    let old = unsafe { old.assume_init() };
    if asked != 0 || old.ss_flags & libc::SS_DISABLE == 0 {
        return;
    }
    // SAFETY: a fresh private mapping; it is never unmapped, as the hub's thread lives for ever.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return;
    }
    let stack = libc::stack_t {
        ss_sp: memory,
        ss_flags: 0,
        ss_size: SIZE,
    };
    // SAFETY: `stack` describes the mapping made above, used for nothing else.
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
}
