//! An example as a program of its own, for the tests that look at it from outside.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Nothing here takes longer, unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The example, with pipes for its output and nothing to read.
pub(crate) fn example(name: &str) -> Command {
    // This test is TARGET/PROFILE/deps/NAME-HASH.
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: cargo build --example {name}",
        program.display()
    );
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

/// Waits for the end of the program.
pub(crate) fn wait(child: Child) -> Output {
    within_deadline(move || child.wait_with_output().unwrap())
}

/// The lines that the program prints, as they come.
pub(crate) fn lines(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            sender.send(line.unwrap()).ok();
        }
    });
    lines
}

/// An example that serves, running. It is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// What it writes to stderr.
    log: mpsc::Receiver<String>,
}

impl Server {
    /// Starts the example `name`, and waits until it says where it serves `scheme`.
    pub(crate) fn start_example(name: &str, scheme: &str, arguments: &[&str]) -> Server {
        let mut child = example(name).args(arguments).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let line = lines(child.stdout.take().unwrap()).recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("{name} {arguments:?} says nothing"));
        let address = line
            .strip_prefix(&format!("echo server on {scheme}://"))
            .and_then(|rest| rest.strip_suffix("/ (Ctrl-C to stop)"))
            .unwrap_or_else(|| panic!("{arguments:?}: unexpected first line {line:?}"));
        Server {
            child,
            address: address.parse().unwrap(),
            log,
        }
    }

    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        // The shell's own kill: a program of that name is not everywhere.
        let status = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for a line of the log.
    pub(crate) fn log_says(&self, what: &str) {
        loop {
            let line = self.log.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("the log does not say {what:?}"));
            if line.contains(what) {
                return;
            }
        }
    }

    /// Waits for the example to end; what it has logged since the last look comes along.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        loop {
            match self.log.recv_timeout(DEADLINE) {
                Ok(line) => log += &(line + "\n"),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the example does not end: {log}"),
            }
        }
        (self.child.wait().unwrap(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Runs `f` on a thread of its own; panics if it takes too long.
pub(crate) fn within_deadline<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(f()).ok());
    match receiver.recv_timeout(DEADLINE) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done within {DEADLINE:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}
