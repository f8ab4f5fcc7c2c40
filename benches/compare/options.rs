//! The command line.

use std::time::Duration;

use crate::Result;
use crate::case::Case;
use crate::report::options::{Asked, Common, seconds};

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) common: Common<Case>,
    /// How long a parked process is watched.
    pub(crate) idle: Duration,
    /// What a process is given to put itself in order before it is looked at: one may give memory
    /// back only after a while.
    pub(crate) settle: Duration,
}

/// None if nothing is to be done.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut common = Common::new(Duration::from_millis(500));
    let (mut idle, mut settle) = (Duration::from_secs(10), Duration::from_secs(3));
    let asked = common.parse("compare", arguments, |option, value| {
        match option {
            "--idle-secs" => idle = seconds(&value()?)?,
            "--settle-secs" => settle = seconds(&value()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if idle.is_zero() {
        return Err("--idle-secs wants more than nothing".into());
    }
    match asked {
        Asked::Nothing => return Ok(None),
        Asked::Short => {
            common.rounds = 1;
            common.duration = Duration::from_millis(100);
            idle = Duration::from_secs(1);
            settle = Duration::from_secs(1);
        }
        Asked::AsTold => {}
    }
    Ok(Some(Options {
        common,
        idle,
        settle,
    }))
}
