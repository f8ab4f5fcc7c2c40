//! Errors of the runtime.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::StartError;
use crate::panics;
use crate::task::lock;

/// Why a greenlet could not be started.
///
/// It names the limit that was reached and the setting to change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SpawnError {
    /// As many greenlets are alive as the process may have mappings for: each needs two,
    /// its stack and the guard below it.
    TooMany {
        /// How many greenlets are alive.
        alive: usize,
        /// The present value of `vm.max_map_count`.
        max_map_count: usize,
    },
    /// The system gave no memory for the stack.
    Stack {
        /// The size that was asked for, in bytes.
        size: usize,
        /// What the system said, where it said something.
        source: Option<Arc<io::Error>>,
    },
    /// [`spawn_local`](crate::spawn_local) was called outside a greenlet: this thread has no hub.
    NoHub,
    /// [`spawn_local`](crate::spawn_local) was asked for another hub than the caller's.
    NotThisHub {
        /// The hub that was asked for.
        hub: usize,
        /// The caller's hub.
        current: usize,
    },
    /// The hub that was asked for does not exist.
    NoSuchHub {
        /// The hub that was asked for.
        hub: usize,
        /// How many hubs there are.
        hubs: usize,
    },
    /// A stack size that can't be used.
    StackSize {
        /// The size that was asked for, in bytes.
        size: usize,
    },
    /// A stack size above the hard limit of RLIMIT_STACK.
    StackLimit {
        /// The size that was asked for, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// It was to be the first greenlet, and the hubs can't start.
    NotStarted(Arc<StartError>),
}

impl SpawnError {
    pub(crate) fn stack(size: usize, source: Option<io::Error>) -> SpawnError {
        SpawnError::Stack {
            size,
            source: source.map(Arc::new),
        }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::TooMany {
                alive,
                max_map_count,
            } => write!(
                f,
                "no room for another greenlet: {alive} are alive and vm.max_map_count is \
                 {max_map_count} (each takes two mappings); raise it: sysctl -w \
                 vm.max_map_count={}",
                max_map_count * 4
            ),
            SpawnError::Stack { size, .. } => write!(
                f,
                "the system gave no memory for a greenlet's stack of {} KiB; raise \
                 vm.max_map_count or the memory limit, or lower the stack size",
                size / 1024
            ),
            SpawnError::NoHub => f.write_str(
                "spawn_local outside a greenlet: this thread has no hub; call it from a greenlet, \
                 or use spawn",
            ),
            SpawnError::NotThisHub { hub, current } => write!(
                f,
                "spawn_local on hub {hub} from hub {current}: it starts greenlets on the caller's \
                 own hub only; use spawn"
            ),
            SpawnError::NoSuchHub { hub, hubs } => {
                write!(
                    f,
                    "there is no hub {hub}: hubs are numbered 0 to {}",
                    hubs - 1
                )
            }
            SpawnError::StackSize { size } => write!(
                f,
                "a stack of {size} bytes can't be used: it must be from {} KiB to 1 GiB",
                crate::config::MIN_STACK_SIZE / 1024
            ),
            SpawnError::StackLimit { size, limit } => write!(
                f,
                "a stack of {size} bytes is above the hard limit of RLIMIT_STACK ({limit} bytes): \
                 lower the stack size or raise the limit (ulimit -Hs)"
            ),
            SpawnError::NotStarted(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SpawnError::Stack {
                source: Some(source),
                ..
            } => Some(source),
            SpawnError::NotStarted(error) => error.source(),
            _ => None,
        }
    }
}

impl From<StartError> for SpawnError {
    fn from(error: StartError) -> SpawnError {
        SpawnError::NotStarted(Arc::new(error))
    }
}

/// Why a greenlet has no result. Clones share what it panicked with.
#[derive(Clone)]
#[non_exhaustive]
pub enum JoinError {
    /// It was killed, perhaps before it started: gevent's `GreenletExit`.
    Killed {
        /// The greenlet's name.
        name: Box<str>,
    },
    /// It was killed with a payload, by [`kill_with`](crate::Greenlet::kill_with) or
    /// [`throw`](crate::Greenlet::throw): gevent's `kill(exception)`.
    KilledWith {
        /// The greenlet's name.
        name: Box<str>,
        /// What it was killed with.
        payload: Payload,
    },
    /// A [`Timeout`](crate::Timeout) expired that nobody caught.
    TimedOut {
        /// The greenlet's name.
        name: Box<str>,
    },
    /// It panicked.
    Panicked {
        /// The greenlet's name.
        name: Box<str>,
        /// What it panicked with.
        payload: Payload,
    },
    /// It could not be started.
    Refused {
        /// The greenlet's name.
        name: Box<str>,
        /// Why.
        source: SpawnError,
    },
    /// The caller unwinds (it panics or is killed) and may not wait.
    Unwinding,
}

/// What a greenlet panicked with, or was killed with.
#[derive(Clone)]
pub struct Payload(Arc<Mutex<Box<dyn Any + Send>>>);

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Payload {
        Payload(Arc::new(Mutex::new(payload)))
    }

    /// The payload, as [`std::thread::Result`] has it: to be looked at or resumed. Of several
    /// clones the first to ask gets it; the others get its text, as a `String`.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        match Arc::try_unwrap(self.0) {
            Ok(payload) => payload.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(shared) => {
                let mut payload = lock(&shared);
                let text = panics::message(&**payload).unwrap_or("a panic").to_owned();
                std::mem::replace(&mut *payload, Box::new(text))
            }
        }
    }

    /// Whether the payload is a `P`.
    pub fn is<P: Any>(&self) -> bool {
        lock(&self.0).is::<P>()
    }
}

impl Payload {
    /// A copy of its text, if it has one: who prints it must not keep the lock.
    pub(crate) fn text(&self) -> Option<String> {
        let payload = lock(&self.0);
        panics::message(&**payload).map(str::to_owned)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(message) => write!(f, "{message:?}"),
            None => f.write_str("Any { .. }"),
        }
    }
}

impl JoinError {
    /// Whether the greenlet was killed, with a payload or without.
    pub fn is_killed(&self) -> bool {
        matches!(
            self,
            JoinError::Killed { .. } | JoinError::KilledWith { .. }
        )
    }

    /// Whether it is what gevent counts as a success: a `GreenletExit`.
    pub(crate) fn is_exit(&self) -> bool {
        matches!(self, JoinError::Killed { .. })
    }

    /// Whether the greenlet panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, JoinError::Panicked { .. })
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed { name } => f.debug_struct("Killed").field("name", name).finish(),
            JoinError::KilledWith { name, payload } => f
                .debug_struct("KilledWith")
                .field("name", name)
                .field("payload", payload)
                .finish(),
            JoinError::TimedOut { name } => f.debug_struct("TimedOut").field("name", name).finish(),
            JoinError::Panicked { name, payload } => f
                .debug_struct("Panicked")
                .field("name", name)
                .field("payload", payload)
                .finish(),
            JoinError::Refused { name, source } => f
                .debug_struct("Refused")
                .field("name", name)
                .field("source", source)
                .finish(),
            JoinError::Unwinding => f.write_str("Unwinding"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed { name } => write!(f, "greenlet '{name}' was killed"),
            JoinError::KilledWith { name, payload } => match payload.text() {
                Some(message) => write!(f, "greenlet '{name}' was killed: {message}"),
                None => write!(f, "greenlet '{name}' was killed"),
            },
            JoinError::TimedOut { name } => {
                write!(
                    f,
                    "greenlet '{name}' ended by a time-out that nobody caught"
                )
            }
            JoinError::Panicked { name, payload } => match payload.text() {
                Some(message) => write!(f, "greenlet '{name}' panicked: {message}"),
                None => write!(f, "greenlet '{name}' panicked"),
            },
            JoinError::Refused { name, .. } => write!(f, "greenlet '{name}' could not be started"),
            JoinError::Unwinding => f.write_str("the caller unwinds and may not wait"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::Refused { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a [`get`](crate::AsyncResult::get) has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultError<E> {
    /// It came to an error: what gevent's `get` raises.
    Exception(E),
    /// Nothing had come in the time given: gevent's `get` raises `Timeout`.
    Timeout,
}

impl<E> ResultError<E> {
    /// The error that it came to, if it was not the time that was up.
    pub fn into_exception(self) -> Option<E> {
        match self {
            ResultError::Exception(error) => Some(error),
            ResultError::Timeout => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for ResultError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Exception(error) => error.fmt(f),
            ResultError::Timeout => f.write_str("there was no result in time"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for ResultError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResultError::Exception(error) => error.source(),
            ResultError::Timeout => None,
        }
    }
}

/// A time limit has passed: gevent's `Timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are returned by value, and `Ok` beside them is mostly small.
    #[test]
    fn errors_are_small() {
        assert!(size_of::<SpawnError>() <= 32);
        assert!(size_of::<JoinError>() <= 56);
        assert!(size_of::<StartError>() <= 40);
    }
}
