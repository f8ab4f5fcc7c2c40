//! Servers under measurement: how they are started, and when they are ready.

use std::env;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::connection;
use crate::options::Options;
use crate::system::{Cores, Cpu};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);

/// The example that is our server.
const EXAMPLE: &str = "echo_bench";

/// A server's name, and its command with `{port}` in it.
#[derive(Debug, Clone)]
pub(crate) struct ServerCommand {
    pub(crate) name: String,
    words: Vec<String>,
}

/// All that are to be measured: ours, then the peers as they were given.
pub(crate) fn commands(options: &Options) -> Result<Vec<ServerCommand>> {
    let mut commands = vec![match &options.ours {
        Some(command) => ServerCommand::new("ours", command)?,
        None => ServerCommand {
            name: "ours".to_owned(),
            words: vec![example()?, "{port}".to_owned(), "1".to_owned()],
        },
    }];
    for (name, command) in &options.peers {
        commands.push(ServerCommand::new(name, command)?);
    }
    Ok(commands)
}

impl ServerCommand {
    fn new(name: &str, command: &str) -> Result<ServerCommand> {
        let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
        if !words.iter().skip(1).any(|word| word.contains("{port}")) {
            return Err(format!("the command of {name} has no {{port}}: {command:?}").into());
        }
        Ok(ServerCommand {
            name: name.to_owned(),
            words,
        })
    }
}

/// Where our example is, up to date if cargo is there to see to it.
fn example() -> Result<String> {
    // This is TARGET/PROFILE/deps/end_to_end-HASH.
    let this = env::current_exe()?;
    let profile = this.ancestors().nth(2).ok_or("not built by cargo")?;
    let path: PathBuf = profile.join("examples").join(EXAMPLE);
    if let (Some(cargo), Some(target)) = (env::var_os("CARGO"), profile.parent()) {
        let built = Command::new(&cargo)
            .args(["build", "--quiet", "--release", "--example", EXAMPLE])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()
            .map_err(|error| format!("{}: {error}", cargo.display()))?;
        if !built.success() {
            return Err(format!("the example {EXAMPLE} can't be built").into());
        }
    }
    if !path.exists() {
        return Err(format!("build it first: cargo build --release --example {EXAMPLE}").into());
    }
    Ok(path.display().to_string())
}

/// A server that runs. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts it on the servers' core, and waits until it upgrades connections.
    pub(crate) fn start(command: &ServerCommand, cores: &Cores) -> Result<Server> {
        let port = connection::free_port()?;
        let mut words = command
            .words
            .iter()
            .map(|word| word.replace("{port}", &port.to_string()));
        let program = words.next().ok_or("an empty command")?;
        let child = cores.on_server(|| {
            Command::new(&program)
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
        })?;
        let child = child.map_err(|error| format!("{} ({program}): {error}", command.name))?;
        let mut server = Server { child, port };
        let began = Instant::now();
        while let Err(error) = connection::open(port) {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{} has ended: {status}", command.name).into());
            }
            if began.elapsed() > START {
                return Err(format!("{} does not get ready: {error}", command.name).into());
            }
            pause(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its processor time up to now.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu::of(self.process())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is a plain thread: there is no hub to be blocked"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
