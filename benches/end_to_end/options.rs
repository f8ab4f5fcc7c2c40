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
    /// The command of our server, if it is not the example.
    pub(crate) ours: Option<String>,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) text: bool,
    /// Whether ours is measured in the parked style, too.
    pub(crate) parked: bool,
    /// Whether the limit is measured, too.
    pub(crate) floor: bool,
    /// Ours on so many hubs, against one.
    pub(crate) hubs: Option<usize>,
    /// Messages per second of the open loop, if it is not to be found out.
    pub(crate) rate: Option<f64>,
    pub(crate) json: Option<PathBuf>,
    /// Results of earlier runs, in place of measuring.
    pub(crate) from: Vec<PathBuf>,
    /// Whether tables are for a page, not for a terminal.
    pub(crate) markdown: bool,
    /// The folder for plots.
    pub(crate) plots: Option<PathBuf>,
}

/// None if nothing is to be done: this is called as a test, or for another benchmark's sake.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut options = Options {
        peers: Vec::new(),
        ours: None,
        cases: case::ALL.to_vec(),
        rounds: 5,
        duration: Duration::from_secs(2),
        text: false,
        parked: false,
        floor: false,
        hubs: None,
        rate: None,
        json: None,
        from: Vec::new(),
        markdown: false,
        plots: None,
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
            "--parked" => options.parked = true,
            "--floor" => options.floor = true,
            "--hubs" => options.hubs = Some(value()?.parse()?),
            "--rate" => options.rate = Some(value()?.parse()?),
            "--json" => options.json = Some(value()?.into()),
            "--from" => options.from.push(value()?.into()),
            "--markdown" => options.markdown = true,
            "--plots" => options.plots = Some(value()?.into()),
            // A name to choose benchmarks by, as Criterion takes it.
            name if !name.starts_with('-') => wanted &= "end_to_end".contains(name),
            _ => return Err(format!("unknown option {argument}").into()),
        }
        any = true;
    }
    if !bench && !any || !wanted {
        return Ok(None);
    }
    if !any {
        options.rounds = 1;
        options.duration = Duration::from_millis(500);
    }
    check(&options)?;
    complete(&mut options.cases, options.rate);
    Ok(Some(options))
}

fn check(options: &Options) -> Result<()> {
    if options.rounds == 0 || options.duration.is_zero() {
        return Err("--rounds and --secs want more than nothing".into());
    }
    if options
        .rate
        .is_some_and(|rate| !rate.is_finite() || rate <= 0.0)
    {
        return Err("--rate wants messages per second".into());
    }
    if let Some(hubs) = options.hubs {
        if hubs < 2 {
            return Err("--hubs wants two or more, to compare with one".into());
        }
        if !options.peers.is_empty() || options.ours.is_some() || options.floor || options.parked {
            return Err("--hubs compares our server with itself alone".into());
        }
        if let Some(case) = options
            .cases
            .iter()
            .find(|case| !matches!(case, Case::Echo(_)))
        {
            let name = case.name();
            return Err(format!("--hubs is for echoes, not for {name}: give --cases").into());
        }
    }
    Ok(())
}

/// Half of the highest rate wants the highest first.
fn complete(cases: &mut Vec<Case>, rate: Option<f64>) {
    let Some(half) = cases.iter().position(|&case| case == Case::Half) else {
        return;
    };
    let whole = Case::Echo(case::HALF);
    if rate.is_none() && !cases[..half].contains(&whole) {
        cases.retain(|&case| case != whole);
        cases.insert(0, whole);
    }
}
