//! The examples, running as servers for the clients of others.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this runs on threads: there is no hub to be blocked"
)]

use std::{
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    project,
    step::{self, Failure, Result, signal, wait},
};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);

/// How long it may take to end, once it is interrupted: the example's grace time, and then some.
const STOP: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Port(SocketAddr),
    /// A Unix socket, by its path.
    Socket(PathBuf),
}

/// A running server. It is killed if it is dropped before it has ended.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    log: PathBuf,
    /// Host and port.
    pub(crate) address: String,
}

impl Server {
    /// Starts an example that has a page, at a free port. The name is its log's.
    pub(crate) fn with_page(example: &str, name: &str) -> Result<Server> {
        let mut command = Command::new(project::example(example)?);
        command.arg("127.0.0.1:0");
        Server::that_says_where(command, log(name)?)
    }

    /// Starts the example `echo_tls` at a free port, with a certificate and its key.
    pub(crate) fn echo_tls(certfile: &Path, keyfile: &Path) -> Result<Server> {
        let mut command = Command::new(project::example("echo_tls")?);
        command.args(["127.0.0.1", "0"]).args([certfile, keyfile]);
        Server::that_says_where(command, log("echo_tls")?)
    }

    /// Starts a program whose first line has its URL.
    fn that_says_where(mut command: Command, log: PathBuf) -> Result<Server> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| {
                let program = command.get_program().display();
                Failure::new(format!("{program} can't be started: {error}"))
            })?;
        let stdout = child.stdout.take();
        let mut server = Server {
            child: Some(child),
            log,
            address: String::new(),
        };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let line = stdout.and_then(|stdout| BufReader::new(stdout).lines().next());
            sender.send(line).ok();
        });
        let line = match receiver.recv_timeout(START) {
            Ok(Some(line)) => line?,
            _ => return Err(server.failure("does not say where it listens")),
        };
        let address = line
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'));
        match address {
            Some((address, _)) => server.address = address.to_owned(),
            None => return Err(server.failure(&format!("says {line:?}"))),
        }
        Ok(server)
    }

    /// Starts the example `echo_bench`.
    pub(crate) fn echo_bench() -> Result<Server> {
        Server::at_free_port("echo_bench", &[], log("echo_bench")?)
    }

    /// Starts the example `autobahn_server`.
    pub(crate) fn autobahn(options: &[&str]) -> Result<Server> {
        let log = project::conformance()?.join("server.log");
        Server::at_free_port("autobahn_server", options, log)
    }

    /// Starts the example `behind_nginx` there, with pings by this interval.
    pub(crate) fn behind_nginx(place: &Place, ping: Duration) -> Result<Server> {
        let mut command = Command::new(project::example("behind_nginx")?);
        match place {
            Place::Port(address) => command.arg(address.port().to_string()),
            Place::Socket(path) => command.arg(path),
        };
        command.arg(ping.as_millis().to_string());
        Server::start(command, place, log("behind_nginx")?)
    }

    /// Starts an example that prints no port, so that it is given one that was free a moment ago.
    fn at_free_port(example: &str, options: &[&str], log: PathBuf) -> Result<Server> {
        let [address] = free_addresses()?;
        let mut command = Command::new(project::example(example)?);
        command.arg(address.port().to_string()).args(options);
        Server::start(command, &Place::Port(address), log)
    }

    /// Starts a program that will listen at `place`, and waits until it does. What it says goes to
    /// the log.
    pub(crate) fn start(mut command: Command, place: &Place, log: PathBuf) -> Result<Server> {
        let file = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| {
                let program = command.get_program().display();
                Failure::new(format!("{program} can't be started: {error}"))
            })?;
        let mut server = Server {
            child: Some(child),
            log,
            address: place.to_string(),
        };
        let began = Instant::now();
        while !place.answers() {
            server.check_running()?;
            if began.elapsed() > START {
                return Err(server.failure("does not listen"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Fails if the server has ended.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        let status = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => return Ok(()),
        };
        match status {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended by itself: {status}"))),
        }
    }

    /// Interrupts the server; see [`ended`](Self::ended).
    pub(crate) fn interrupt(self) -> Result<()> {
        signal("INT", &[self.id()])?;
        self.ended()
    }

    /// Fails unless the server, which was interrupted, exits with 0 in time and has nothing
    /// alarming in its log.
    pub(crate) fn ended(mut self) -> Result<()> {
        if let Some(child) = self.child.take() {
            let status = wait(child, STOP)?;
            if !status.success() {
                return Err(self.failure(&format!("did not exit with 0, but with {status}")));
            }
        }
        self.check_log()
    }

    /// Kills a server that knows no signals, and looks into its log.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.check_running()?;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.check_log()
    }

    fn check_log(&self) -> Result<()> {
        let log = fs::read_to_string(&self.log)?;
        match log
            .lines()
            .find(|line| line.contains("ERROR") || line.contains("panicked"))
        {
            None => Ok(()),
            Some(line) => Err(self.failure(&format!("complained: {line}"))),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!(
            "the server {what}\n  its log is {}",
            self.log.display()
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // nginx has workers. It may have ended by itself.
            step::kill(&step::with_descendants(child.id()));
            child.wait().ok();
        }
    }
}

impl Place {
    fn answers(&self) -> bool {
        match self {
            // A port that nobody listens at may be given to the one who asks, who then meets itself.
            Place::Port(address) => TcpStream::connect(address)
                .and_then(|stream| stream.local_addr())
                .is_ok_and(|local| local != *address),
            Place::Socket(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

/// As nginx has it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Port(address) => address.fmt(f),
            Place::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Addresses that nobody listened at a moment ago, each another.
pub(crate) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    // All are taken before the first is given back.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut addresses = [SocketAddr::from(([0; 4], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(listeners) {
        *address = listener?.local_addr()?;
    }
    Ok(addresses)
}

fn log(name: &str) -> Result<PathBuf> {
    Ok(project::interop()?.join(format!("{name}.log")))
}
