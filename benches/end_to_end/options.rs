//! The command line.

use std::time::Duration;

use crate::Result;
use crate::case::{self, Case};
use crate::report::options::{Asked, Common};
use crate::report::results::Measurable;

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) common: Common<Case>,
    /// The command of our server, if it is not the example.
    pub(crate) ours: Option<String>,
    pub(crate) text: bool,
    /// Whether ours is measured in the parked style, too.
    pub(crate) parked: bool,
    /// Whether the limit is measured, too.
    pub(crate) floor: bool,
    /// Ours on so many hubs, against one.
    pub(crate) hubs: Option<usize>,
    /// Messages per second of the open loop, if it is not to be found out.
    pub(crate) rate: Option<f64>,
}

/// None if nothing is to be done.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut common = Common::new(Duration::from_secs(2));
    let (mut ours, mut hubs, mut rate) = (None, None, None);
    let (mut text, mut parked, mut floor) = (false, false, false);
    let asked = common.parse("end_to_end", arguments, |option, value| {
        match option {
            "--ours" => ours = Some(value()?),
            "--text" => text = true,
            "--parked" => parked = true,
            "--floor" => floor = true,
            "--hubs" => hubs = Some(value()?.parse()?),
            "--rate" => rate = Some(value()?.parse()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match asked {
        Asked::Nothing => return Ok(None),
        Asked::Short => {
            common.rounds = 1;
            common.duration = Duration::from_millis(500);
        }
        Asked::AsTold => {}
    }
    let mut options = Options {
        common,
        ours,
        text,
        parked,
        floor,
        hubs,
        rate,
    };
    check(&options)?;
    complete(&mut options.common.cases, rate);
    Ok(Some(options))
}

fn check(options: &Options) -> Result<()> {
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
        let others = !options.common.peers.is_empty() || options.ours.is_some();
        if others || options.floor || options.parked {
            return Err("--hubs compares our server with itself alone".into());
        }
        let mut cases = options.common.cases.iter();
        if let Some(case) = cases.find(|case| !matches!(case, Case::Echo(_))) {
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
