//! A greenlet that runs over its stack ends the process with a message, as a Rust thread does.
//!
//! `generator` installs a handler that switches away from the overflown stack: locks stay held and
//! it allocates in the handler, so the process hangs or dies silently. Ours is installed over it.
//! It uses async-signal-safe calls only.

use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use super::current;

struct Previous([MaybeUninit<libc::sigaction>; 2]);

static mut PREVIOUS: Previous = Previous([MaybeUninit::zeroed(), MaybeUninit::zeroed()]);
static HAVE_PREVIOUS: AtomicBool = AtomicBool::new(false);

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Remembers the handlers in force: to be called before `may`'s first coroutine, which replaces
/// them.
pub(crate) fn remember() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (i, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: asks for the present handler; `PREVIOUS` is written only here, under `Once`,
            // before `HAVE_PREVIOUS` lets a handler read it.
            unsafe {
                let previous = &raw mut PREVIOUS;
                libc::sigaction(signal, std::ptr::null(), (*previous).0[i].as_mut_ptr());
            }
        }
        HAVE_PREVIOUS.store(true, Ordering::Release);
    });
}

/// Installs the handler: to be called after `may`'s first coroutine.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in SIGNALS {
            // SAFETY: `action` is fully initialised; the handler has the three-argument form that
            // SA_SIGINFO asks for and is async-signal-safe.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as libc::sighandler_t;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigemptyset(&mut action.sa_mask);
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    });
}

unsafe extern "C" fn handler(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands a SA_SIGINFO handler a valid siginfo_t.
    let address = unsafe { (*info).si_addr() }.addr();
    current::with_owner_of_stack(|task| {
        if let Some(task) = task
            && task.stack().is_overflow(address)
        {
            report(task.known_name(), task.id(), task.stack().size());
        }
    });
    // SAFETY: called with the kernel's own arguments.
    unsafe { chain(signal, info, context) }
}

/// Writes the message and aborts. Formats by hand: nothing here may allocate or lock.
fn report(name: Option<&str>, id: u64, size: usize) -> ! {
    let mut message = Message {
        bytes: [0; 512],
        len: 0,
    };
    message.text("\ngreenlet ");
    match name {
        Some(name) => {
            message.text("'");
            message.text(&name[..name.floor_char_boundary(120)]);
            message.text("' (id ");
            message.number(id);
            message.text(")");
        }
        None => {
            message.text("'greenlet-");
            message.number(id);
            message.text("'");
        }
    }
    message.text(" has overflowed its stack of ");
    message.number((size / 1024) as u64);
    message.text(
        " KiB\nraise the size with Builder::stack_size, or for every greenlet with \
         Hub::config().stack_size, or GREENWOOD_STACK_SIZE (bytes)\nfatal runtime error: stack overflow, aborting\n",
    );
    let mut rest = &message.bytes[..message.len];
    while !rest.is_empty() {
        // SAFETY: `rest` is valid memory of that length; write(2) is async-signal-safe.
        let n = unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
        if n <= 0 {
            break;
        }
        rest = &rest[n as usize..];
    }
    // SAFETY: abort(3) is async-signal-safe and takes nothing.
    unsafe { libc::abort() }
}

struct Message {
    bytes: [u8; 512],
    len: usize,
}

impl Message {
    fn text(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            if self.len < self.bytes.len() {
                self.bytes[self.len] = byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, mut n: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        for &digit in &digits[at..] {
            if self.len < self.bytes.len() {
                self.bytes[self.len] = digit;
                self.len += 1;
            }
        }
    }
}

/// Not a greenlet's overflow: what was installed before `may` decides.
///
/// # Safety
///
/// The arguments must be those that the kernel gave the handler.
unsafe fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let slot = usize::from(signal != SIGNALS[0]);
    if HAVE_PREVIOUS.load(Ordering::Acquire) {
        // SAFETY: written once before HAVE_PREVIOUS was set, never again.
        let previous = unsafe { PREVIOUS.0[slot].assume_init() };
        let function = previous.sa_sigaction;
        if function != libc::SIG_DFL && function != libc::SIG_IGN {
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: a handler with SA_SIGINFO has this signature.
                let function: unsafe extern "C" fn(
                    libc::c_int,
                    *mut libc::siginfo_t,
                    *mut libc::c_void,
                ) = unsafe { std::mem::transmute(function) };
                // SAFETY: the kernel's own arguments are passed on.
                unsafe { function(signal, info, context) };
            } else {
                // SAFETY: a handler without SA_SIGINFO has this signature.
                let function: unsafe extern "C" fn(libc::c_int) =
                    unsafe { std::mem::transmute(function) };
                // SAFETY: as above.
                unsafe { function(signal) };
            }
            return;
        }
    }
    // SAFETY: puts the default action back; the instruction faults again and the kernel ends the
    // process.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &default, std::ptr::null_mut());
    }
}
