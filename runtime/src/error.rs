//! Errors of the runtime.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Mutex;

use crate::config::StartError;
use crate::panics;

/// Why a greenlet could not be started.
///
/// It names the limit that was reached and the setting to change.
#[derive(Debug)]
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
        source: Option<Box<io::Error>>,
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
    NotStarted(Box<StartError>),
}

impl SpawnError {
    pub(crate) fn stack(size: usize, source: Option<io::Error>) -> SpawnError {
        SpawnError::Stack {
            size,
            source: source.map(Box::new),
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
        SpawnError::NotStarted(Box::new(error))
    }
}

/// Why a greenlet has no result.
#[non_exhaustive]
pub enum JoinError {
    /// It was killed, perhaps before it started: gevent's `GreenletExit`.
    Killed {
        /// The greenlet's name.
        name: Box<str>,
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

/// What a greenlet panicked with.
pub struct Payload(Mutex<Box<dyn Any + Send>>);

impl Payload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Payload {
        Payload(Mutex::new(payload))
    }

    /// The payload, as [`std::thread::Result`] has it: to be looked at or resumed.
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.0
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = crate::task::lock(&self.0);
        match panics::message(&**payload) {
            Some(message) => write!(f, "{message:?}"),
            None => f.write_str("Any { .. }"),
        }
    }
}

impl JoinError {
    /// Whether the greenlet was killed.
    pub fn is_killed(&self) -> bool {
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
            JoinError::TimedOut { name } => {
                write!(
                    f,
                    "greenlet '{name}' ended by a time-out that nobody caught"
                )
            }
            JoinError::Panicked { name, payload } => {
                let payload = crate::task::lock(&payload.0);
                match panics::message(&**payload) {
                    Some(message) => write!(f, "greenlet '{name}' panicked: {message}"),
                    None => write!(f, "greenlet '{name}' panicked"),
                }
            }
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
