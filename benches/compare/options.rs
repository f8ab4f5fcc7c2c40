//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::case::{self, Case};
use crate::report::results::Measurable;

#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Names and commands.
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    /// How long a parked process is watched.
    pub(crate) idle: Duration,
    /// What a process is given to put itself in order before it is looked at: one may give memory
    /// back only after a while.
    pub(crate) settle: Duration,
    pub(crate) json: Option<PathBuf>,
    /// Results of earlier runs, in place of measuring.
    pub(crate) from: Vec<PathBuf>,
    /// Whether tables are for a page, not for a terminal.
    pub(crate) markdown: bool,
    /// The folder for plots.
    pub(crate) plots: Option<PathBuf>,
}

/// None if nothing is to be done: this is called as a test, or for another benchmark's sake.
pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        peers: Vec::new(),
        cases: case::ALL.to_vec(),
        rounds: 5,
        duration: Duration::from_millis(500),
        idle: Duration::from_secs(10),
        settle: Duration::from_secs(3),
        json: None,
        from: Vec::new(),
        markdown: false,
        plots: None,
    };
    let (mut bench, mut any, mut wanted) = (false, false, true);
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
            "--cases" => {
                options.cases = value()?
                    .split(',')
                    .map(|name| Case::named(name).ok_or_else(|| format!("no case {name:?}")))
                    .collect::<std::result::Result<_, _>>()?;
            }
            "--rounds" => options.rounds = value()?.parse()?,
            "--secs" => options.duration = seconds(&value()?)?,
            "--idle-secs" => options.idle = seconds(&value()?)?,
            "--settle-secs" => options.settle = seconds(&value()?)?,
            "--json" => options.json = Some(value()?.into()),
            "--from" => options.from.push(value()?.into()),
            "--markdown" => options.markdown = true,
            "--plots" => options.plots = Some(value()?.into()),
            // A name to choose benchmarks by, as Criterion takes it.
            name if !name.starts_with('-') => wanted &= "compare".contains(name),
            _ => return Err(format!("unknown option {argument}").into()),
        }
        any = true;
    }
    if !bench && !any || !wanted {
        return Ok(None);
    }
    if !any {
        options.rounds = 1;
        options.duration = Duration::from_millis(100);
        options.idle = Duration::from_secs(1);
        options.settle = Duration::from_secs(1);
    }
    if options.rounds == 0 || options.duration.is_zero() || options.idle.is_zero() {
        return Err("--rounds, --secs and --idle-secs want more than nothing".into());
    }
    Ok(Some(options))
}

fn seconds(value: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(value.parse()?)?)
}
