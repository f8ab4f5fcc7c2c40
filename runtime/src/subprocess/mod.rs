//! Child processes: gevent's `subprocess`.
//!
//! The command is `std`'s; [`Popen`] starts it, and what would block a thread there (waiting for
//! the end, reading and writing pipes) blocks a greenlet here. The end of a process is learnt from a
//! *pidfd*, by a greenlet that takes the process's status as soon as there is one: a zombie is left
//! neither by a handle that is dropped nor by one that nobody asks. Where there are no pidfds
//! (before Linux 5.3, or forbidden in a sandbox), a thread for each process waits instead.
//!
//! Starting a process is the one thing that blocks the hub, until the program has been found and
//! loaded: about 0.1 ms, however large this process is, if the program is in the page cache, and as
//! long as the disk takes if it is not. With what `posix_spawn` can't do (`pre_exec`, another user)
//! this process is forked, which takes longer the larger it is. Who can't have that calls it on a
//! thread.
//!
//! ```
//! use greenwood_runtime::subprocess::check_output;
//! use std::process::Command;
//!
//! let text = check_output(Command::new("echo").arg("hello"), None, None)?;
//! assert_eq!(text, b"hello\n");
//! # Ok::<(), greenwood_runtime::subprocess::SubprocessError>(())
//! ```

mod communicate;
mod error;
mod pipe;
mod popen;
mod process;

pub use communicate::DEFAULT_MAX_OUTPUT;
pub use error::SubprocessError;
pub use pipe::{PipeReader, PipeWriter};
pub use popen::Popen;

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A process that has ended, and what it wrote: Python's `CompletedProcess`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletedProcess {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its stdout, if that was `Stdio::piped()`.
    pub stdout: Vec<u8>,
    /// What it wrote to its stderr, if that was `Stdio::piped()`.
    pub stderr: Vec<u8>,
}

/// Runs a command to its end: gevent's `subprocess.run`.
///
/// `input` is what it reads from its stdin, which becomes a pipe. Its stdout and stderr are those of
/// this process, unless the command says `Stdio::piped()`: then they are returned. After `timeout`
/// (none: without end) it is killed, as it is when the caller is killed or a time-out of the
/// caller's expires.
///
/// # Errors
///
/// [`SubprocessError::Io`] when it can't be started, [`SubprocessError::TimeoutExpired`], with what
/// it has written until then, [`SubprocessError::OutputTooLarge`]. That it has failed is no error:
/// see [`check_output`].
///
/// ```
/// use greenwood_runtime::subprocess::run;
/// use std::process::{Command, Stdio};
///
/// let done = run(Command::new("cat").stdout(Stdio::piped()), Some(b"text"), None)?;
/// assert!(done.status.success());
/// assert_eq!(done.stdout, b"text");
/// # Ok::<(), greenwood_runtime::subprocess::SubprocessError>(())
/// ```
pub fn run(
    command: &mut Command,
    input: Option<&[u8]>,
    timeout: Option<Duration>,
) -> Result<CompletedProcess, SubprocessError> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut process = KilledOnDrop(Popen::new(command)?);
    let (stdout, stderr) = process.0.communicate(input, timeout)?;
    let status = process.0.wait()?;
    Ok(CompletedProcess {
        status,
        stdout,
        stderr,
    })
}

/// Runs a command to its end; how it ended: gevent's `subprocess.call`. As [`run`] without input.
///
/// # Errors
///
/// As [`run`].
pub fn call(
    command: &mut Command,
    timeout: Option<Duration>,
) -> Result<ExitStatus, SubprocessError> {
    run(command, None, timeout).map(|done| done.status)
}

/// Runs a command to its end: gevent's `subprocess.check_call`. As [`run`] without input.
///
/// # Errors
///
/// As [`run`], and [`SubprocessError::CalledProcess`] when it does not end with code 0.
pub fn check_call(command: &mut Command, timeout: Option<Duration>) -> Result<(), SubprocessError> {
    let done = run(command, None, timeout)?;
    check(command, done).map(drop)
}

/// Runs a command to its end; what it wrote to its stdout: gevent's `subprocess.check_output`. As
/// [`run`], with a stdout that is a pipe.
///
/// # Errors
///
/// As [`run`], and [`SubprocessError::CalledProcess`] when it does not end with code 0.
pub fn check_output(
    command: &mut Command,
    input: Option<&[u8]>,
    timeout: Option<Duration>,
) -> Result<Vec<u8>, SubprocessError> {
    command.stdout(Stdio::piped());
    let done = run(command, input, timeout)?;
    check(command, done).map(|done| done.stdout)
}

fn check(command: &Command, done: CompletedProcess) -> Result<CompletedProcess, SubprocessError> {
    if done.status.success() {
        return Ok(done);
    }
    Err(SubprocessError::CalledProcess {
        // Not the arguments: they may be secrets.
        program: command.get_program().to_string_lossy().into_owned(),
        completed: done,
    })
}

/// A process that does not outlive its caller.
struct KilledOnDrop(Popen);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // It may have ended by now.
        self.0.kill().ok();
    }
}
