//! What the tests share: deadlines, child processes, and waiting for a condition.

use std::fmt::Debug;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use greenwood_runtime::net::TcpStream;
use greenwood_runtime::{Builder, Greenlet, Hub, RunInfo, State, WaitsFor, run_info, sleep};

/// The variable that tells a child process which part of its test it plays.
const CASE: &str = "GREENWOOD_TEST_CASE";

/// Ends the process when a test takes too long. From [`deadline`].
pub(crate) struct Deadline {
    _done: Sender<()>,
}

/// Gives the calling test two minutes: a hang is then a failure with the test's name. No test takes
/// more than seconds; the rest is for a machine that has much else to do.
pub(crate) fn deadline() -> Deadline {
    deadline_of(Duration::from_secs(120))
}

/// As [`deadline`], for a test that takes longer.
pub(crate) fn deadline_of(limit: Duration) -> Deadline {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let (done, over) = channel::<()>();
    let (begun, beginning) = channel();
    std::thread::spawn(move || {
        begun.send(()).ok();
        if over.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let message = format!(
                "test {test} hangs: it has taken {limit:?}; {} greenlets are alive\n",
                Hub::greenlets()
            );
            // Past the harness, which would keep it to itself.
            std::io::stderr().write_all(message.as_bytes()).ok();
            std::process::abort();
        }
    });
    // A thread takes memory as it begins, which some tests will not let it have.
    beginning.recv().expect("the thread begins");
    Deadline { _done: done }
}

/// The part that this process plays, if it is a test's child.
pub(crate) fn case() -> Option<String> {
    std::env::var(CASE).ok()
}

/// What became of a child process.
pub(crate) struct Child {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Child {
    /// Asserts that its test has passed.
    #[track_caller]
    pub(crate) fn passed(&self) {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
    }

    /// Asserts that a signal has ended it.
    #[track_caller]
    pub(crate) fn died_of(&self, signal: i32) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            self.status.signal(),
            Some(signal),
            "{}: {}",
            self.status,
            self.stderr
        );
    }

    /// Asserts that it has said so on stderr.
    #[track_caller]
    pub(crate) fn said(&self, text: &str) {
        assert!(
            self.stderr.contains(text),
            "{text:?} is not in: {}",
            self.stderr
        );
    }

    /// Asserts that it has not said so on stderr.
    #[track_caller]
    pub(crate) fn did_not_say(&self, text: &str) {
        assert!(
            !self.stderr.contains(text),
            "{text:?} is in: {}",
            self.stderr
        );
    }
}

/// Runs `test` of this binary once more, alone in a process of its own, which finds `part` in
/// [`case`].
pub(crate) fn child(test: &str, part: &str, environment: &[(&str, &str)]) -> Child {
    let program = std::env::current_exe().expect("the test knows its own program");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(CASE, part)
        .env_remove("RUST_BACKTRACE")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("a child process can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        stdout.contains("running 1 test"),
        "there is no test {test}: {stdout}"
    );
    Child {
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// As [`child`], with so many hubs.
pub(crate) fn child_with_hubs(test: &str, part: &str, hubs: usize) -> Child {
    child(test, part, &[("GREENWOOD_HUBS", &hubs.to_string())])
}

/// An address at which nobody listens. Its socket is kept, so that it is nobody else's either.
pub(crate) fn refusing() -> SocketAddr {
    static KEPT: OnceLock<socket2::Socket> = OnceLock::new();
    let socket = KEPT.get_or_init(|| {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        socket
    });
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// Waits until `condition` holds: for what has no event of its own.
///
/// Also for what holds each time unless the machine holds up a hub in the midst: what is tried again
/// then does not depend on how fast it is.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        sleep(Duration::from_millis(1));
    }
}

/// Waits until the greenlet has begun to wait, for whatever it is but its next turn: on a slow
/// machine it lets others have theirs on its way.
#[track_caller]
pub(crate) fn until_waits(id: u64) {
    eventually("it waits", || {
        waits_for(id).is_some_and(|what| what != WaitsFor::Turn)
    });
}

/// Waits until the greenlet waits for that.
#[track_caller]
pub(crate) fn until_waits_for(id: u64, what: WaitsFor) {
    eventually(what.as_str(), || waits_for(id) == Some(what));
}

/// [`run_info`] of all hubs: also a hub that the machine has held up for a second does not answer.
#[track_caller]
pub(crate) fn run_info_of_all() -> RunInfo {
    let whole = std::cell::OnceCell::new();
    eventually("all hubs answer", || {
        let info = run_info();
        let all = info.hubs.iter().all(|hub| hub.answers);
        all && whole.set(info).is_ok()
    });
    whole.into_inner().expect("it was set")
}

/// For what a greenlet waits, if it does.
pub(crate) fn waits_for(id: u64) -> Option<WaitsFor> {
    let info = run_info();
    let greenlet = info.greenlets.into_iter().find(|it| it.id == id)?;
    match greenlet.state {
        State::Waiting { what, .. } => Some(what),
        _ => None,
    }
}

/// How many wait for an event or a semaphore, as its debug text tells.
pub(crate) fn waiting(primitive: &impl Debug) -> usize {
    count(primitive, "waiters")
}

/// The number behind `field` in a debug text.
pub(crate) fn count(primitive: &impl Debug, field: &str) -> usize {
    let text = format!("{primitive:?}");
    let (_, number) = text
        .split_once(&format!("{field}: "))
        .unwrap_or_else(|| panic!("no {field} in {text}"));
    let digits = number.find(|c: char| !c.is_ascii_digit());
    number[..digits.unwrap_or(number.len())]
        .parse()
        .unwrap_or_else(|_| panic!("no number behind {field} in {text}"))
}

/// Writes until nothing more fits: into the send buffer and the peer's receive buffer, which the
/// kernel fills by and by.
pub(crate) fn fill(stream: &TcpStream) {
    let mut refused = 0;
    while refused < 8 {
        match stream.try_write(&[0; 65_536]) {
            Ok(_) => refused = 0,
            Err(_) => {
                refused += 1;
                sleep(Duration::from_millis(2));
            }
        }
    }
}

/// How many descriptors the process has open.
pub(crate) fn open_descriptors() -> usize {
    // One of them is the directory's own.
    std::fs::read_dir("/proc/self/fd")
        .expect("/proc is mounted")
        .count()
        - 1
}

/// The hub to use for the `i`-th of several greenlets.
pub(crate) fn any_hub(i: usize) -> usize {
    i % Hub::count()
}

/// Starts a greenlet on the given hub.
pub(crate) fn spawn_on<T: Send + 'static>(
    hub: usize,
    f: impl FnOnce() -> T + Send + 'static,
) -> Greenlet<T> {
    Builder::new().hub(hub).spawn(f).expect("there is room")
}

/// From which kind of caller something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A greenlet of hub 0.
    SameHub,
    /// A greenlet of the last hub, which is hub 0 when there is one only.
    OtherHub,
    Thread,
}

pub(crate) const EVERYWHERE: [From; 3] = [From::SameHub, From::OtherHub, From::Thread];

impl From {
    /// Runs `f` there and waits for it.
    pub(crate) fn run<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(f)()
    }

    /// Runs `f` there; what it returns is got by calling the answer.
    pub(crate) fn start<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Box<dyn FnOnce() -> T> {
        let hub = match self {
            From::Thread => {
                let thread = std::thread::spawn(f);
                return Box::new(|| thread.join().expect("the thread does not panic"));
            }
            From::SameHub => 0,
            From::OtherHub => Hub::count() - 1,
        };
        let greenlet = spawn_on(hub, f);
        Box::new(|| greenlet.join().expect("the greenlet does not panic"))
    }
}

/// Sets a flag when dropped: to see that destructors run.
pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
