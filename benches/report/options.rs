//! The part of the command line that the programs have in common.

use std::path::PathBuf;
use std::time::Duration;

use super::results::Measurable;
use crate::Result;

#[derive(Debug, Clone)]
pub(crate) struct Common<C> {
    /// Names and commands.
    pub(crate) peers: Vec<(String, String)>,
    pub(crate) cases: Vec<C>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) json: Option<PathBuf>,
    /// Results of earlier runs, in place of measuring.
    pub(crate) from: Vec<PathBuf>,
    /// Whether tables are for a page, not for a terminal.
    pub(crate) markdown: bool,
    /// The folder for plots.
    pub(crate) plots: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing: this is called as a test, or for another benchmark's sake.
    Nothing,
    /// A run without options, which only shows that it works.
    Short,
    AsTold,
}

impl<C: Measurable> Common<C> {
    pub(crate) fn new(duration: Duration) -> Self {
        Common {
            peers: Vec::new(),
            cases: C::ALL.to_vec(),
            rounds: 5,
            duration,
            json: None,
            from: Vec::new(),
            markdown: false,
            plots: None,
        }
    }

    /// Takes the options of the program of this name. It is asked about those that are not common:
    /// `own` gets the option and what fetches its value, and says whether there is such an option.
    pub(crate) fn parse(
        &mut self,
        program: &str,
        mut arguments: impl Iterator<Item = String>,
        mut own: impl FnMut(&str, &mut dyn FnMut() -> Result<String>) -> Result<bool>,
    ) -> Result<Asked> {
        let (mut bench, mut any, mut wanted) = (false, false, true);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || format!("{argument} wants a value").into();
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
                    self.peers.push((name.to_owned(), command.to_owned()));
                }
                "--cases" => {
                    self.cases = value()?
                        .split(',')
                        .map(|name| C::named(name).ok_or_else(|| format!("no case {name:?}")))
                        .collect::<std::result::Result<_, _>>()?;
                }
                "--rounds" => self.rounds = value()?.parse()?,
                "--secs" => self.duration = seconds(&value()?)?,
                "--json" => self.json = Some(value()?.into()),
                "--from" => self.from.push(value()?.into()),
                "--markdown" => self.markdown = true,
                "--plots" => self.plots = Some(value()?.into()),
                // A name to choose benchmarks by, as Criterion takes it.
                name if !name.starts_with('-') => wanted &= program.contains(name),
                option => {
                    if !own(option, &mut value)? {
                        return Err(format!("unknown option {option}").into());
                    }
                }
            }
            any = true;
        }
        if self.rounds == 0 || self.duration.is_zero() {
            return Err("--rounds and --secs want more than nothing".into());
        }
        Ok(match (bench || any) && wanted {
            false => Asked::Nothing,
            true if any => Asked::AsTold,
            true => Asked::Short,
        })
    }
}

/// A number of seconds, with decimals if need be.
pub(crate) fn seconds(value: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(value.parse()?)?)
}
