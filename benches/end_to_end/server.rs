//! Servers under measurement: how they are started, and when they are ready.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::connection;
use crate::options::Options;
use crate::report::example::built;
use crate::report::process::{Running, pause};
use crate::report::results::Kind;
use crate::report::system::{Cores, Cpu};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);

/// The example that is our server, and the one that is the limit.
const OURS: &str = "echo_bench";
const FLOOR: &str = "floor";

/// A server's name, and its command with `{port}` in it.
#[derive(Debug, Clone)]
pub(crate) struct ServerCommand {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// How many cores it is bound to.
    pub(crate) cores: usize,
    words: Vec<String>,
}

/// All that are to be measured: ours, the peers as they were given, and what else is asked for.
pub(crate) fn commands(options: &Options) -> Result<Vec<ServerCommand>> {
    if let Some(hubs) = options.hubs {
        return [1, hubs].into_iter().map(with_hubs).collect();
    }
    let ours = match &options.ours {
        Some(command) => ServerCommand::new("ours", Kind::Ours, command)?,
        None => ServerCommand::example("ours", Kind::Ours, OURS, &["{port}", "1"])?,
    };
    let parked = options.parked.then(|| {
        let mut parked = ours.clone();
        parked.name = "parked".to_owned();
        parked.kind = Kind::Parked;
        parked.words.push("--parked".to_owned());
        parked
    });
    let mut commands = vec![ours];
    for (name, command) in &options.common.peers {
        commands.push(ServerCommand::new(name, Kind::Peer, command)?);
    }
    commands.extend(parked);
    if options.floor {
        let floor = ServerCommand::example("floor", Kind::Floor, FLOOR, &["{port}"])?;
        commands.push(floor);
    }
    Ok(commands)
}

/// Ours with so many hubs, on as many cores.
fn with_hubs(hubs: usize) -> Result<ServerCommand> {
    let name = match hubs {
        1 => "1 hub".to_owned(),
        _ => format!("{hubs} hubs"),
    };
    let arguments = ["{port}", &hubs.to_string()];
    let mut command = ServerCommand::example(&name, Kind::Hubs, OURS, &arguments)?;
    command.cores = hubs;
    Ok(command)
}

impl ServerCommand {
    pub(crate) fn new(name: &str, kind: Kind, command: &str) -> Result<ServerCommand> {
        let words: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
        if !words.iter().skip(1).any(|word| word.contains("{port}")) {
            return Err(format!("the command of {name} has no {{port}}: {command:?}").into());
        }
        Ok(ServerCommand {
            name: name.to_owned(),
            kind,
            cores: 1,
            words,
        })
    }

    fn example(name: &str, kind: Kind, example: &str, arguments: &[&str]) -> Result<ServerCommand> {
        let words = arguments.iter().map(|&word| word.to_owned());
        Ok(ServerCommand {
            name: name.to_owned(),
            kind,
            cores: 1,
            words: std::iter::once(built(example)?).chain(words).collect(),
        })
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    child: Running,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
}

impl Server {
    /// Starts it on its cores, and waits until it upgrades connections.
    pub(crate) fn start(command: &ServerCommand, cores: &Cores) -> Result<Server> {
        let port = connection::free_port()?;
        let mut words = command
            .words
            .iter()
            .map(|word| word.replace("{port}", &port.to_string()));
        let program = words.next().ok_or("an empty command")?;
        let child = cores.on_server(command.cores, || {
            Command::new(&program)
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
        })?;
        let child = child.map_err(|error| format!("{} ({program}): {error}", command.name))?;
        let kind = command.kind;
        let mut server = Server {
            child: Running(child),
            port,
            kind,
        };
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
