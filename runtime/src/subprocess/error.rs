//! [`SubprocessError`].

use std::fmt;
use std::io;
use std::time::Duration;

use super::CompletedProcess;

/// Why a child process did not do what it was to do: gevent's `SubprocessError` and its kin.
#[derive(Debug)]
#[non_exhaustive]
pub enum SubprocessError {
    /// It could not be started, or its pipes or its end could not be waited for.
    Io(io::Error),
    /// It has not ended in time: gevent's `TimeoutExpired`.
    TimeoutExpired {
        /// The time that it had.
        timeout: Duration,
        /// What it has written to its stdout so far.
        stdout: Vec<u8>,
        /// What it has written to its stderr so far.
        stderr: Vec<u8>,
    },
    /// It has failed: gevent's `CalledProcessError`.
    CalledProcess {
        /// The program, without its arguments.
        program: String,
        /// How it ended, and what it wrote.
        completed: CompletedProcess,
    },
    /// It has written more than was allowed, and has not been read any further.
    OutputTooLarge {
        /// What is allowed for each of stdout and stderr, in bytes.
        limit: usize,
    },
}

impl fmt::Display for SubprocessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubprocessError::Io(error) => write!(f, "{error}"),
            SubprocessError::TimeoutExpired { timeout, .. } => {
                write!(f, "the process has not ended within {timeout:?}")
            }
            SubprocessError::CalledProcess { program, completed } => {
                write!(f, "{program} has failed: {}", completed.status)
            }
            SubprocessError::OutputTooLarge { limit } => write!(
                f,
                "the process writes more than {limit} bytes: raise Popen::max_output or read from \
                 its pipe"
            ),
        }
    }
}

impl std::error::Error for SubprocessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SubprocessError::Io(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for SubprocessError {
    fn from(error: io::Error) -> SubprocessError {
        SubprocessError::Io(error)
    }
}
