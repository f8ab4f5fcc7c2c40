//! [`Process`]: a child and its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::event::Event;
use crate::greenlet::Builder;
use crate::net::socket::{Direction, Socket};
use crate::sys::process as sys;
use crate::task::lock;

/// A child process, shared by its handle and the greenlet that waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    state: Mutex<State>,
    pub(super) ended: Event,
    /// Readable once it has ended; none where there are no pidfds.
    pidfd: Option<Socket>,
    /// A thread waits for the end.
    has_thread: AtomicBool,
}

#[derive(Debug)]
struct State {
    child: Child,
    /// How it ended, or the error with which its status could not be had: from then on its number
    /// may be another's.
    outcome: Option<Result<ExitStatus, i32>>,
}

impl Process {
    /// Sees to it that the child's end is noticed.
    ///
    /// # Errors
    ///
    /// If there is neither a greenlet nor a thread to be had for that; the child has been killed
    /// then.
    pub(super) fn watched(child: Child) -> io::Result<Arc<Process>> {
        let pidfd = sys::pidfd(child.id()).ok();
        Process::watched_by(child, pidfd)
    }

    fn watched_by(child: Child, pidfd: Option<OwnedFd>) -> io::Result<Arc<Process>> {
        let process = Arc::new(Process {
            pid: child.id(),
            state: Mutex::new(State {
                child,
                outcome: None,
            }),
            ended: Event::new(),
            pidfd: pidfd.map(|fd| Socket::new(Socket::homed(fd))),
            has_thread: AtomicBool::new(false),
        });
        if let Err(error) = watch(&process) {
            let child = &mut lock(&process.state).child;
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    pub(super) fn poll(&self) -> Option<io::Result<ExitStatus>> {
        let outcome = {
            let mut state = lock(&self.state);
            if state.outcome.is_none() {
                state.outcome = match state.child.try_wait() {
                    Ok(None) => None,
                    Ok(Some(status)) => Some(Ok(status)),
                    Err(error) => Some(Err(error.raw_os_error().unwrap_or(libc::ECHILD))),
                };
            }
            state.outcome?
        };
        self.ended.set();
        Some(outcome.map_err(|code| {
            let error = io::Error::from_raw_os_error(code);
            let text = format!(
                "how process {} ended is not known: somebody else has waited for it, or SIGCHLD is \
                 ignored ({error})",
                self.pid
            );
            io::Error::new(error.kind(), text)
        }))
    }

    /// Sends a signal, unless it has ended.
    pub(super) fn send_signal(&self, signal: i32) -> io::Result<()> {
        if self.poll().is_some() {
            return Ok(());
        }
        let state = lock(&self.state);
        let sent = match &self.pidfd {
            Some(pidfd) => sys::pidfd_send_signal(pidfd.as_fd(), signal),
            // It is not waited for while the lock is held, so its number is still its own.
            None if state.outcome.is_none() => sys::kill(self.pid, signal),
            None => Ok(()),
        };
        match sent {
            // It ended at this moment.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }
}

/// Waits for the end elsewhere.
fn watch(process: &Arc<Process>) -> io::Result<()> {
    let name = name_for(process);
    if process.pidfd.is_some() {
        let watch = Watch(Arc::clone(process));
        let builder = Builder::new().name(&*name);
        if builder.spawn(move || watch.run()).is_ok() {
            return Ok(());
        }
        // What was to watch has seen to a thread, if there is one to be had.
    }
    watch_by_thread(process, name).map(drop)
}

/// The name of the greenlet or the thread that waits for it.
fn name_for(process: &Process) -> String {
    format!("subprocess {}", process.pid)
}

/// Has a thread wait for the end. False if one does already.
fn watch_by_thread(process: &Arc<Process>, name: String) -> io::Result<bool> {
    if process.has_thread.swap(true, Ordering::Relaxed) {
        return Ok(false);
    }
    let theirs = Arc::clone(process);
    let wait = move || {
        sys::await_end(theirs.pid).ok();
        theirs.poll();
    };
    match thread::Builder::new().name(name).spawn(wait) {
        Ok(_) => Ok(true),
        Err(error) => {
            process.has_thread.store(false, Ordering::Relaxed);
            Err(error)
        }
    }
}

/// What the greenlet does that waits for the end.
struct Watch(Arc<Process>);

impl Watch {
    fn run(&self) {
        let Some(pidfd) = &self.0.pidfd else { return };
        while self.0.poll().is_none() {
            if let Err(error) = pidfd.wait(Direction::Read, None) {
                tracing::error!("waiting for process {}: {error}", self.0.pid);
                return;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The greenlet was refused its stack, killed, or out of descriptors: the end must be
        // noticed all the same.
        if self.0.poll().is_none() {
            watch_by_thread(&self.0, name_for(&self.0)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    fn start(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).spawn().expect("there is sh")
    }

    #[test]
    fn a_process_ends_without_a_pidfd() {
        let process = Process::watched_by(start("exit 7"), None).unwrap();
        assert!(process.ended.wait_timeout(Duration::from_secs(30)));
        let status = process.poll().unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(process.send_signal(libc::SIGKILL).is_ok());
    }

    #[test]
    fn one_thread_waits_for_a_process() {
        let process = Process::watched_by(start("exec sleep 100"), None).unwrap();
        // As when a greenlet was refused, and what it was to run is dropped.
        drop(Watch(Arc::clone(&process)));
        assert!(!watch_by_thread(&process, name_for(&process)).unwrap());
        process.send_signal(libc::SIGKILL).unwrap();
        assert!(process.ended.wait_timeout(Duration::from_secs(30)));
    }

    #[test]
    fn a_process_gets_signals_without_a_pidfd() {
        let process = Process::watched_by(start("exec sleep 100"), None).unwrap();
        assert!(process.poll().is_none());
        process.send_signal(libc::SIGTERM).unwrap();
        assert!(process.ended.wait_timeout(Duration::from_secs(30)));
        let status = process.poll().unwrap().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGTERM)
        );
    }
}
