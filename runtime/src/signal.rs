//! Signals for greenlets: gevent's `signal_handler`, and an iterator of signals.
//!
//! A signal may come at any instruction of any thread, where next to nothing is allowed. So what is
//! done there is to leave a note; a greenlet that waits for the note does the rest, and may do
//! anything. The notes are left by `signal-hook`, so this goes together with every other user of
//! that crate in the process, and with a handler that was installed before: all of them see the
//! signal.
//!
//! A server that ends in order is gevent's three lines:
//!
//! ```no_run
//! use greenwood_runtime::StreamServer;
//! use greenwood_runtime::signal::{SIGINT, SIGTERM, signal_handler};
//! use std::time::Duration;
//!
//! let server = StreamServer::new("127.0.0.1:7000", |_stream, _peer| ())?;
//! for signal in [SIGINT, SIGTERM] {
//!     let stopping = server.clone();
//!     signal_handler(signal, move || {
//!         stopping.stop(Duration::from_secs(5));
//!     })?;
//! }
//! server.serve_forever()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::SigId;
use signal_hook::low_level::{self, signal_name};

pub use signal_hook::consts::signal::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGKILL,
    SIGPIPE, SIGPROF, SIGQUIT, SIGSEGV, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

use crate::greenlet::{Builder, Greenlet};
use crate::net::socket::{Direction, Socket};
use crate::net::{explain, is_late};
use crate::sys::{fd, now_ns};
use crate::{sleep, switch};

/// Those whose handler the system does not call (SIGKILL, SIGSTOP), and those by which the process
/// learns that its own last instruction could not be done: going on is not possible, and whoever
/// has to know (the guard against stack overflows) has a handler already.
const REFUSED: [i32; 6] = [SIGKILL, SIGSTOP, SIGILL, SIGFPE, SIGSEGV, SIGBUS];

/// How often one looks for signals while they can't be waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Has `handler` run in a new greenlet for each signal of that number: gevent's `signal_handler`.
///
/// The greenlets belong to the caller's hub; from a plain thread, to one of the hubs. Handlers for
/// the same signal are all called, and so are those that other code has installed. As in the
/// system, signals of one number that come faster than they are looked after are one. The signal's
/// default action, as ending the process, does not take place any more.
///
/// Dropping what is returned lets the handler go on. It takes a greenlet, which waits, and two
/// descriptors.
///
/// # Errors
///
/// `InvalidInput` for a number that is no signal's, and for the signals that can't be handled:
/// SIGKILL, SIGSTOP, SIGILL, SIGFPE, SIGSEGV and SIGBUS. A limit of descriptors, or of greenlets.
///
/// ```
/// use greenwood_runtime::{Event, signal};
/// use std::sync::Arc;
///
/// let seen = Arc::new(Event::new());
/// let event = Arc::clone(&seen);
/// let handler = signal::signal_handler(signal::SIGUSR1, move || event.set())?;
/// signal::raise(signal::SIGUSR1)?;
/// seen.wait();
/// handler.cancel();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn signal_handler(
    signal: i32,
    handler: impl Fn() + Send + Sync + 'static,
) -> io::Result<SignalHandler> {
    let signals = Signals::new([signal])?;
    let name = format!("signal_handler {}", name_of(signal));
    let cancelled = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&cancelled);
    let handler = Arc::new(handler);
    let listener = Builder::new().name(&*name).spawn(move || {
        for _ in signals {
            let (handler, over) = (Arc::clone(&handler), Arc::clone(&over));
            let call = move || {
                if !over.load(Ordering::Acquire) {
                    handler();
                }
            };
            if let Err(error) = Builder::new().name(&*name).spawn(call) {
                tracing::error!("the handler of {} can't run: {error}", name_of(signal));
            }
        }
    });
    Ok(SignalHandler {
        signal,
        cancelled,
        listener: listener.map_err(io::Error::other)?,
    })
}

/// A handler in force. From [`signal_handler`].
pub struct SignalHandler {
    signal: i32,
    cancelled: Arc<AtomicBool>,
    listener: Greenlet<()>,
}

impl SignalHandler {
    /// Ends it: from now on the handler is not called any more. Those that run go on.
    ///
    /// The signal's default action does not come back: when the last handler has gone, the signal
    /// does nothing.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.listener.kill_nowait();
    }

    /// The signal.
    pub fn signal(&self) -> i32 {
        self.signal
    }
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalHandler")
            .field("signal", &name_of(self.signal))
            .field("cancelled", &self.cancelled)
            .field("over", &self.listener.ready())
            .finish()
    }
}

/// The signals of some numbers, one after the other: for a greenlet or thread that has nothing else
/// to do.
///
/// Its [`next`](Iterator::next) waits; there is no last one. Signals of one number that come before
/// they are looked after are one. Nothing is lost between two calls. When it is dropped, the
/// signals do nothing, unless there are other handlers.
///
/// ```no_run
/// use greenwood_runtime::signal::{SIGHUP, SIGINT, SIGTERM, Signals};
///
/// let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
/// while let Some(SIGHUP) = signals.next() {
///     println!("reading the settings anew");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Signals {
    // Unregistered first: what signals write to is closed by that.
    registered: Vec<Registered>,
    notes: Socket,
    /// Without signals nobody else keeps the other end open.
    _writer: Option<UnixStream>,
}

/// One signal of them.
struct Registered {
    signal: i32,
    has_come: Arc<AtomicBool>,
    actions: Vec<SigId>,
}

impl Signals {
    /// Notes these signals from now on.
    ///
    /// # Errors
    ///
    /// As [`signal_handler`].
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let (notes, writer) = UnixStream::pair().map_err(explain)?;
        notes.set_nonblocking(true)?;
        let mut all = Signals {
            registered: Vec::new(),
            notes: Socket::new(Socket::homed(notes.into())),
            _writer: None,
        };
        for signal in signals {
            if REFUSED.contains(&signal) {
                return Err(refused(signal, "it can't be handled"));
            }
            let mut registered = Registered {
                signal,
                has_come: Arc::default(),
                actions: Vec::new(),
            };
            let writer = writer.try_clone().map_err(explain)?;
            // Actions are called in this order, so the flag is set when the note is read.
            let flag = Arc::clone(&registered.has_come);
            for action in [
                signal_hook::flag::register(signal, flag),
                low_level::pipe::register(signal, writer),
            ] {
                let action = action.map_err(|error| match error.raw_os_error() {
                    Some(libc::EINVAL) => refused(signal, "there is no such signal"),
                    _ => error,
                })?;
                registered.actions.push(action);
            }
            all.registered.push(registered);
        }
        if all.registered.is_empty() {
            all._writer = Some(writer);
        }
        Ok(all)
    }

    /// Waits for the next signal, no longer than `timeout`.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<i32> {
        self.next_until(switch::deadline(Some(timeout)))
    }

    fn next_until(&mut self, deadline: Option<u64>) -> Option<i32> {
        switch::check();
        // Before a signal is taken: it may raise a kill.
        switch::share();
        loop {
            let come = |it: &&Registered| it.has_come.swap(false, Ordering::AcqRel);
            if let Some(registered) = self.registered.iter().find(come) {
                return Some(registered.signal);
            }
            let mut notes = [0; 64];
            let read = self
                .notes
                .try_read(notes.len(), |socket| fd::receive(socket, &mut notes));
            if read.is_ok_and(|n| n > 0) {
                continue;
            }
            match self.notes.wait_until(Direction::Read, deadline) {
                Ok(()) => {}
                Err(error) if is_late(&error) => return None,
                // No descriptor is left to wait with on this hub. Signals must get through all the
                // same, as the one that ends the process in order.
                Err(error) => {
                    tracing::debug!("waiting for signals by looking: {error}");
                    if deadline.is_some_and(|deadline| now_ns() >= deadline) {
                        return None;
                    }
                    sleep(LOOK);
                }
            }
        }
    }
}

impl Iterator for Signals {
    type Item = i32;

    /// Waits for the next signal. None only in a greenlet that unwinds, and would have to wait.
    fn next(&mut self) -> Option<i32> {
        self.next_until(None)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        for action in self.actions.drain(..) {
            low_level::unregister(action);
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.registered.iter().map(|it| name_of(it.signal));
        f.debug_tuple("Signals")
            .field(&names.collect::<Vec<_>>())
            .finish()
    }
}

/// Sends a signal to the calling thread, as Python's `signal.raise_signal`.
///
/// # Errors
///
/// `InvalidInput` for a number that is no signal's.
pub fn raise(signal: i32) -> io::Result<()> {
    low_level::raise(signal)
}

fn refused(signal: i32, why: &str) -> io::Error {
    let text = format!("signal {} has no handler: {why}", name_of(signal));
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn name_of(signal: i32) -> String {
    signal_name(signal).map_or_else(|| signal.to_string(), str::to_owned)
}
