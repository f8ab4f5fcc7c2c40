//! [`ThreadError`].

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::{JoinError, Payload};

/// Why a job of a [`ThreadPool`](super::ThreadPool) has no result.
#[non_exhaustive]
pub enum ThreadError {
    /// It panicked.
    Panicked {
        /// What it panicked with.
        payload: Payload,
    },
    /// It was cancelled before it began, or its pool was killed.
    Cancelled,
    /// There was no thread for it, and none could be started.
    NoThread(Arc<io::Error>),
    /// What gave an [`imap`](super::ThreadPool::imap) its items has panicked, or could not be
    /// started.
    Feeder(Box<JoinError>),
    /// The caller unwinds (it panics or is killed) and may not wait.
    Unwinding,
}

impl ThreadError {
    /// Whether the job panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, ThreadError::Panicked { .. })
    }

    /// Whether the job never began.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, ThreadError::Cancelled)
    }
}

impl From<JoinError> for ThreadError {
    fn from(error: JoinError) -> ThreadError {
        ThreadError::Feeder(Box::new(error))
    }
}

/// So that what does I/O in a job may use `?` twice.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use greenwood_runtime::threadpool;
/// let text = threadpool().apply(|| std::fs::read_to_string("/proc/self/comm"))??;
/// # assert!(!text.is_empty());
/// # Ok(())
/// # }
/// ```
impl From<ThreadError> for io::Error {
    fn from(error: ThreadError) -> io::Error {
        let kind = match &error {
            ThreadError::NoThread(source) => source.kind(),
            ThreadError::Unwinding => io::ErrorKind::WouldBlock,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl fmt::Debug for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadError::Panicked { payload } => f
                .debug_struct("Panicked")
                .field("payload", payload)
                .finish(),
            ThreadError::Cancelled => f.write_str("Cancelled"),
            ThreadError::NoThread(error) => f.debug_tuple("NoThread").field(error).finish(),
            ThreadError::Feeder(error) => f.debug_tuple("Feeder").field(error).finish(),
            ThreadError::Unwinding => f.write_str("Unwinding"),
        }
    }
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadError::Panicked { payload } => match payload.text() {
                Some(text) => write!(f, "a thread pool's job panicked: {text}"),
                None => f.write_str("a thread pool's job panicked"),
            },
            ThreadError::Cancelled => f.write_str("the thread pool's job was cancelled"),
            ThreadError::NoThread(_) => f.write_str(
                "no thread could be started for the thread pool; raise RLIMIT_NPROC (ulimit -u) or \
                 the memory limit",
            ),
            ThreadError::Feeder(_) => f.write_str("there are no more items"),
            ThreadError::Unwinding => f.write_str("the caller unwinds and may not wait"),
        }
    }
}

impl std::error::Error for ThreadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ThreadError::NoThread(error) => Some(error),
            ThreadError::Feeder(error) => Some(error),
            _ => None,
        }
    }
}
