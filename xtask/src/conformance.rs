//! The conformance run: the Autobahn test suite against the example `autobahn_server`, held against
//! what `interop/autobahn/expected.json` expects of each case.

mod cases;
mod page;
mod results;
mod suite;

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use cases::Selection;
use results::{Results, Run};

use crate::{
    project,
    servers::Server,
    step::{Failure, Result, Steps},
};

/// What a quick run takes without `--cases`: all that neither takes its time nor is about
/// compression, which the quick runner can't judge.
const QUICK: &str = "1-7,10";

const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// For a whole run: 12 min, nearly all of them for the compression of the original, and up to 43 with
/// other servers.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// For a quick run: 4 s, unless many cases wait in vain.
const QUICK_LIMIT: Duration = Duration::from_secs(900);

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    cases: Option<Selection>,
    report: Option<PathBuf>,
    quick: bool,
}

impl Options {
    /// The words after `conformance`.
    pub(crate) fn parse(words: &[&str]) -> std::result::Result<Options, String> {
        let mut options = Options {
            cases: None,
            report: None,
            quick: false,
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--cases" => options.cases = Some(value()?.parse()?),
                "--report" => {
                    let directory = value()?;
                    let absolute = std::path::absolute(directory)
                        .map_err(|error| format!("{directory}: {error}"))?;
                    options.report = Some(absolute);
                }
                "--quick" => options.quick = true,
                other => return Err(format!("unknown option: {other}")),
            }
        }
        Ok(options)
    }

    /// The run that is part of CI.
    pub(crate) fn quick() -> Options {
        Options {
            cases: None,
            report: None,
            quick: true,
        }
    }

    fn selection(&self) -> Result<Selection> {
        let default = if self.quick { QUICK } else { "*" };
        match &self.cases {
            Some(selection) => Ok(selection.clone()),
            None => default.parse().map_err(Failure::new),
        }
    }
}

/// Installs the suite if it is missing, runs it, reports, and fails unless each case went as
/// expected.
pub(crate) fn run(steps: &mut Steps, options: &Options) -> Result<()> {
    let selection = options.selection()?;
    let expected = expected()?;
    let patterns = selection.patterns(expected.cases()).map_err(Failure::new)?;
    let report = prepare(options.report.as_deref())?;
    let program = if options.quick {
        suite::kosoku(steps)?
    } else {
        suite::wstest(steps)?
    };
    let words = "build --release --package greenwood --example autobahn_server";
    steps.run("build the server", BUILD_LIMIT, &mut project::cargo(words)?)?;

    let server = Server::autobahn()?;
    let (mut suite, limit) = if options.quick {
        let command = kosoku(&program, &server.address, &patterns, &report);
        (command, QUICK_LIMIT)
    } else {
        let command = wstest(&program, &server.address, &patterns, &report)?;
        (command, LIMIT)
    };
    let log = report.join("suite.log");
    let file = File::create(&log)?;
    suite.stdout(file.try_clone()?).stderr(file);
    println!("what the suite says goes to {}\n", log.display());
    // kosoku exits with 1 for an UNIMPLEMENTED too: the verdicts decide, and that they are there.
    steps.run_to_end("the suite", limit, &mut suite)?;
    steps.call("the server is still there", || server.kill())?;
    steps.call("the results are as expected", || {
        let index = report.join(SUITE).join("index.json");
        let run = fs::read_to_string(&index)
            .map_err(|error| error.to_string())
            .and_then(|text| Run::parse(&text))
            .map_err(|why| {
                let (index, log) = (index.display(), log.display());
                Failure::new(format!("{index}: {why}\n  the suite's log is {log}"))
            })?;
        judge(&run, &expected, &selection, &report)
    })
}

/// The directory in the report that has the suite's own, with what went over the wire.
const SUITE: &str = "suite";

fn expected() -> Result<Results> {
    let file = project::root()?.join("interop/autobahn/expected.json");
    fs::read_to_string(&file)
        .map_err(|error| error.to_string())
        .and_then(|text| Results::parse(&text))
        .map_err(|why| Failure::new(format!("{}: {why}", file.display())))
}

/// An empty directory for the report. One that was asked for has to be so already.
fn prepare(asked: Option<&Path>) -> Result<PathBuf> {
    let directory = match asked {
        Some(directory) => directory.to_owned(),
        None => {
            let directory = project::conformance()?.join("report");
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => directory,
            }
        }
    };
    fs::create_dir_all(&directory)?;
    if fs::read_dir(&directory)?.next().is_some() {
        let directory = directory.display();
        return Err(Failure::new(format!(
            "{directory} is not empty: --report wants a new directory"
        )));
    }
    Ok(directory)
}

fn wstest(program: &Path, address: &str, patterns: &[String], report: &Path) -> Result<Command> {
    let spec = serde_json::json!({
        "outdir": report.join(SUITE),
        "servers": [{ "agent": "greenwood", "url": format!("ws://{address}/") }],
        "cases": patterns,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = report.join("spec.json");
    fs::write(&file, format!("{spec:#}\n"))?;
    let mut command = Command::new(program);
    // Unbuffered, so that the log shows how far it is.
    command.env("PYTHONUNBUFFERED", "1");
    command.args(["--mode", "fuzzingclient", "--spec"]);
    command.arg(file);
    Ok(command)
}

fn kosoku(program: &Path, address: &str, patterns: &[String], report: &Path) -> Command {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(program);
    command.arg(format!("ws://{address}/"));
    command.args(["--parallelism", &jobs.to_string(), "--outdir"]);
    command.arg(report.join(SUITE));
    for pattern in patterns {
        command.args(["--include", pattern]);
    }
    command
}

/// Writes the report, says how it went, and fails if anything deviates.
fn judge(run: &Run, expected: &Results, selection: &Selection, report: &Path) -> Result<()> {
    let deviations = results::compare(&run.results, expected, selection);
    fs::write(report.join("results.json"), run.results.to_json())?;
    fs::write(
        report.join("index.html"),
        page::render(run, &deviations, SUITE),
    )?;
    println!("    {}", run.results.summary());
    println!("    the report is {}", report.join("index.html").display());
    if deviations.is_empty() {
        return Ok(());
    }
    let mut why = format!("deviations: {}", deviations.len());
    for deviation in &deviations {
        why += &format!("\n  {deviation}");
    }
    why += &format!(
        "\n  what went over the wire is in {}",
        report.join(SUITE).display()
    );
    Err(Failure::new(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> std::result::Result<Options, String> {
        Options::parse(words)
    }

    #[test]
    fn options_come_in_any_order() {
        let options = parse(&["--report", "/a", "--quick", "--cases", "1"]).unwrap();
        assert!(options.quick);
        assert_eq!(options.report.as_deref(), Some(Path::new("/a")));
        assert_eq!(options.selection().unwrap(), "1".parse().unwrap());
    }

    #[test]
    fn the_original_runs_all_cases_unless_told_otherwise() {
        let options = parse(&[]).unwrap();
        assert!(!options.quick && options.report.is_none());
        assert_eq!(options.selection().unwrap(), "*".parse().unwrap());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        assert_eq!(parse(&["--fast"]).unwrap_err(), "unknown option: --fast");
        assert_eq!(parse(&["--cases"]).unwrap_err(), "--cases needs a value");
        assert!(parse(&["--cases", "7-1"]).is_err());
    }

    /// The three can be nothing but INFORMATIONAL: whatever the server does is right.
    #[test]
    fn expectation_excuses_nothing() {
        let expected = expected().unwrap();
        let informational = ["7.1.6", "7.13.1", "7.13.2"];
        for (case, verdict) in expected.iter() {
            let right = if informational.contains(&case.to_string().as_str()) {
                "INFORMATIONAL"
            } else {
                "OK"
            };
            assert_eq!(verdict.to_string(), right, "{case}");
        }
    }

    #[test]
    fn expectation_is_written_as_results_are() {
        let file = project::root()
            .unwrap()
            .join("interop/autobahn/expected.json");
        let text = fs::read_to_string(file).unwrap();
        assert!(
            expected().unwrap().to_json() == text,
            "copy a results.json over it"
        );
    }
}
