//! The command line.

use std::time::Duration;

use crate::Result;
use crate::case::{self, Case};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Run(Options),
    /// Called as a test, or for another benchmark's sake.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Options {
    /// Names and commands.
    pub(crate) peers: Vec<(String, String)>,
    /// The command of our server, if it is not the example.
    pub(crate) ours: Option<String>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) text: bool,
    pub(crate) json: Option<String>,
}

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Asked> {
    let mut options = Options {
        peers: Vec::new(),
        ours: None,
        cases: case::ALL.to_vec(),
        rounds: 5,
        duration: Duration::from_secs(2),
        text: false,
        json: None,
    };
    let (mut bench, mut any, mut wanted) = (false, false, true);
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let missing = || format!("{argument} wants a value");
            arguments.next().ok_or_else(missing)
        };
        match argument.as_str() {
            // `cargo bench` says so; `cargo test` does not.
            "--bench" => {
                bench = true;
                continue;
            }
            "--peer" => {
                let peer = value()?;
                let Some((name, command)) = peer.split_once('=') else {
                    return Err(format!("--peer wants NAME=COMMAND, not {peer:?}").into());
                };
                options.peers.push((name.to_owned(), command.to_owned()));
            }
            "--ours" => options.ours = Some(value()?),
            "--cases" => {
                options.cases = value()?
                    .split(',')
                    .map(|name| Case::named(name).ok_or_else(|| format!("no case {name:?}")))
                    .collect::<std::result::Result<_, _>>()?;
            }
            "--rounds" => options.rounds = value()?.parse()?,
            "--secs" => options.duration = Duration::try_from_secs_f64(value()?.parse()?)?,
            "--text" => options.text = true,
            "--json" => options.json = Some(value()?),
            // A name to choose benchmarks by, as Criterion takes it.
            name if !name.starts_with('-') => wanted &= "end_to_end".contains(name),
            _ => return Err(format!("unknown option {argument}").into()),
        }
        any = true;
    }
    if !bench && !any || !wanted {
        return Ok(Asked::Nothing);
    }
    if !any {
        options.rounds = 1;
        options.duration = Duration::from_millis(500);
    }
    if options.rounds == 0 || options.duration.is_zero() {
        return Err("--rounds and --secs want more than nothing".into());
    }
    Ok(Asked::Run(options))
}
