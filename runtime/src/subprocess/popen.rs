//! [`Popen`].

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use super::communicate::{Communication, DEFAULT_MAX_OUTPUT};
use super::process::Process;
use super::{PipeReader, PipeWriter, SubprocessError};
use crate::net::explain;
use crate::signal::{SIGKILL, SIGTERM};
use crate::waitable::sealed::Sealed;
use crate::waitable::{Waitable, Watcher};
use crate::{hub, switch};

/// A child process: gevent's `Popen`.
///
/// Dropping it closes this process's ends of the pipes and lets the child run on; its status is
/// taken when it ends, so it leaves no zombie. It can be waited for, from any greenlets and threads,
/// alone or among [other things](crate::wait).
///
/// ```
/// use greenwood_runtime::subprocess::Popen;
/// use std::io::{Read, Write};
/// use std::process::{Command, Stdio};
///
/// let mut upper = Popen::new(
///     Command::new("tr").args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped()),
/// )?;
/// // Dropped at once: the end of the input.
/// upper.stdin.take().expect("it is piped").write_all(b"text")?;
/// let mut text = String::new();
/// upper.stdout.take().expect("it is piped").read_to_string(&mut text)?;
/// assert_eq!(text, "TEXT");
/// assert!(upper.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Popen {
    /// Its input, if that is `Stdio::piped()`. Dropping it is the input's end.
    pub stdin: Option<PipeWriter>,
    /// What it writes to its stdout, if that is `Stdio::piped()`.
    pub stdout: Option<PipeReader>,
    /// What it writes to its stderr, if that is `Stdio::piped()`.
    pub stderr: Option<PipeReader>,
    process: Arc<Process>,
    communication: Option<Communication>,
    max_output: usize,
}

impl Popen {
    /// Starts a process. Where it begins, as which user, with which environment: all that is the
    /// command's. Blocks the hub until the program has been found and loaded.
    ///
    /// # Errors
    ///
    /// What [`Command::spawn`] says, with the program: there is no such program, it may not be run,
    /// a limit is reached.
    pub fn new(command: &mut Command) -> io::Result<Popen> {
        // What fails at once, again and again, is no reason to keep the hub for oneself.
        switch::share();
        switch::check();
        // Before there is a process that nobody could wait for.
        hub::try_runtime().map_err(io::Error::other)?;
        let spawned = command.spawn().map_err(explain);
        let mut child = spawned.map_err(|error| {
            let program = command.get_program().display();
            io::Error::new(error.kind(), format!("can't start {program}: {error}"))
        })?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let process = Process::watched(child)?;
        Ok(Popen {
            stdin: stdin.map(PipeWriter::new).transpose()?,
            stdout: stdout.map(PipeReader::new).transpose()?,
            stderr: stderr.map(PipeReader::new).transpose()?,
            process,
            communication: None,
            max_output: DEFAULT_MAX_OUTPUT,
        })
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How it has ended; none as long as it runs.
    ///
    /// # Errors
    ///
    /// If that can't be known: somebody else has waited for it, or SIGCHLD is ignored.
    pub fn poll(&self) -> io::Result<Option<ExitStatus>> {
        self.process.poll().transpose()
    }

    /// Its exit code, or the negative number of the signal that has ended it: gevent's
    /// `returncode`. None as long as it runs, and if it can't be known.
    pub fn returncode(&self) -> Option<i32> {
        let status = self.poll().ok()??;
        status
            .code()
            .or_else(|| status.signal().map(|signal| -signal))
    }

    /// Waits for its end; how it ended.
    ///
    /// Does not read from its pipes: a child that writes more than they hold (64 KiB) waits for a
    /// reader, and then does not end. [`communicate`](Popen::communicate) does both.
    ///
    /// # Errors
    ///
    /// As [`poll`](Popen::poll); `WouldBlock` in a greenlet that unwinds.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let status = self.wait_until(None)?;
        status.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Waits for its end, no longer than `timeout`: none if it still runs then.
    ///
    /// # Errors
    ///
    /// As [`poll`](Popen::poll).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.wait_until(switch::deadline(Some(timeout)))
    }

    fn wait_until(&self, deadline: Option<u64>) -> io::Result<Option<ExitStatus>> {
        self.process.ended.wait_until(deadline);
        self.poll()
    }

    /// Writes `input` to its stdin and closes that, reads its stdout and stderr to their ends, and
    /// waits for it: gevent's `communicate`. Returns what it wrote to its stdout and its stderr; what
    /// is no pipe is left alone.
    ///
    /// Its output ends when all who have it have closed it, so a process that it has started and
    /// that lives on, with the same stdout, is waited for. `timeout` is for all together (none:
    /// without end). After a time-out, or when it has been unwound by a kill, it can be called again
    /// without input, and goes on where it was: nothing is lost.
    ///
    /// # Errors
    ///
    /// [`SubprocessError::TimeoutExpired`], with a copy of what has been read; the process lives.
    /// [`SubprocessError::OutputTooLarge`]. `InvalidInput` when there is input without a pipe for
    /// it, or for the second time. That the process does not read its input is no error.
    pub fn communicate(
        &mut self,
        input: Option<&[u8]>,
        timeout: Option<Duration>,
    ) -> Result<(Vec<u8>, Vec<u8>), SubprocessError> {
        let until = switch::deadline(timeout);
        switch::check();
        if input.is_some() && (self.stdin.is_none() || self.communication.is_some()) {
            let error = "there is no pipe for input, or its input has been given before";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
        }
        let communication = match &mut self.communication {
            Some(communication) => communication,
            unstarted => unstarted.insert(Communication::new(
                input.unwrap_or_default(),
                &self.stdin,
                [&self.stdout, &self.stderr],
            )?),
        };
        let done = communication.go_on(
            &mut self.stdin,
            [&mut self.stdout, &mut self.stderr],
            self.max_output,
            until,
        )?;
        if !(done && self.process.ended.wait_until(until)) {
            let (stdout, stderr) = communication.output();
            return Err(SubprocessError::TimeoutExpired {
                timeout: timeout.unwrap_or_default(),
                stdout: stdout.clone(),
                stderr: stderr.clone(),
            });
        }
        let (stdout, stderr) = communication.output();
        Ok((std::mem::take(stdout), std::mem::take(stderr)))
    }

    /// How much [`communicate`](Popen::communicate) reads of each of stdout and stderr, in bytes.
    /// Default: [`DEFAULT_MAX_OUTPUT`].
    pub fn max_output(&mut self, bytes: usize) {
        self.max_output = bytes;
    }

    /// Sends it a signal. Does nothing when it has ended.
    ///
    /// # Errors
    ///
    /// What the system says: there is no such signal, or the process is another user's by now.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.process.send_signal(signal)
    }

    /// Asks it to end: SIGTERM. Does nothing when it has ended.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Popen::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(SIGTERM)
    }

    /// Ends it: SIGKILL. Does not wait for its end, nor end the processes that it has started. Does
    /// nothing when it has ended.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Popen::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(SIGKILL)
    }
}

impl Sealed for Popen {}

/// Ready when the process has ended.
impl Waitable for Popen {
    fn ready(&self) -> bool {
        self.process.poll().is_some()
    }

    fn watch(&self, watcher: Watcher) -> bool {
        self.process.ended.watch(watcher)
    }
}

impl fmt::Debug for Popen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Popen")
            .field("pid", &self.pid())
            .field("returncode", &self.returncode())
            .finish_non_exhaustive()
    }
}
