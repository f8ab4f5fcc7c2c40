//! The conformance run: the Autobahn test suite against the examples `autobahn_server` and
//! `autobahn_client`, held against what `interop/autobahn/expected.json` expects of each case, on
//! either side.

#![expect(
    clippy::disallowed_methods,
    reason = "this runs on threads: there is no hub to be blocked"
)]

mod cases;
mod page;
mod results;
mod suite;

use std::{
    fmt,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use cases::Selection;
use results::{Results, Run};

use crate::{
    project,
    servers::{self, Place, Server},
    step::{Failure, Result, Steps},
};

/// What a quick run takes without `--cases`: all that neither takes its time nor is about
/// compression, which the quick runner can't judge.
const QUICK: &str = "1-7,10";

const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// For a whole run of one side: 12 min, nearly all of them for the compression of the original, and
/// up to 43 with other servers.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// For a quick run: 4 s, unless many cases wait in vain.
const QUICK_LIMIT: Duration = Duration::from_secs(900);

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    cases: Option<Selection>,
    report: Option<PathBuf>,
    quick: bool,
    /// Only this one.
    side: Option<Side>,
}

/// Which of ours the suite is let loose on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    /// The server, with connections that are served by callbacks.
    Parked,
    Client,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Server => "server",
            Side::Parked => "parked",
            Side::Client => "client",
        })
    }
}

impl Options {
    /// The words after `conformance`.
    pub(crate) fn parse(words: &[&str]) -> std::result::Result<Options, String> {
        let mut options = Options {
            cases: None,
            report: None,
            quick: false,
            side: None,
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
                "--server" => options.side = Some(Side::Server),
                "--parked" => options.side = Some(Side::Parked),
                "--client" => options.side = Some(Side::Client),
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
            side: None,
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
    let words = "build --release --package greenwood --example autobahn_server \
                 --example autobahn_client";
    steps.run(
        "build the examples",
        BUILD_LIMIT,
        &mut project::cargo(words)?,
    )?;
    let run = OneRun {
        options,
        program,
        patterns,
    };
    for side in [Side::Server, Side::Parked, Side::Client] {
        if options.side.is_some_and(|only| only != side) {
            continue;
        }
        let report = report.join(side.to_string());
        fs::create_dir(&report)?;
        println!(
            "what the suite says goes to {}\n",
            report.join(LOG).display()
        );
        match side {
            Side::Server => run.server(steps, &[], &report)?,
            Side::Parked => run.server(steps, &["--parked"], &report)?,
            Side::Client => run.client(steps, &report)?,
        }
        steps.call(&format!("{side}: the results are as expected"), || {
            let run = read(&report)?;
            judge(&run, &expected, &selection, &report)
        })?;
    }
    Ok(())
}

/// What both sides' runs have in common.
struct OneRun<'o> {
    options: &'o Options,
    program: PathBuf,
    patterns: Vec<String>,
}

impl OneRun<'_> {
    /// The suite as the client of our server.
    fn server(&self, steps: &mut Steps, options: &[&str], report: &Path) -> Result<()> {
        let server = Server::autobahn(options)?;
        let url = format!("ws://{}/", server.address);
        let mut suite = if self.options.quick {
            let jobs = thread::available_parallelism().map_or(1, usize::from);
            let mut suite = self.kosoku(report);
            suite.arg(url).args(["--parallelism", &jobs.to_string()]);
            suite
        } else {
            self.wstest(
                "fuzzingclient",
                "servers",
                serde_json::json!([{ "agent": "greenwood", "url": url }]),
                report,
            )?
        };
        let log = File::create(report.join(LOG))?;
        suite.stdout(log.try_clone()?).stderr(log);
        // kosoku exits with 1 for an UNIMPLEMENTED too: the verdicts decide, and that they are
        // there.
        steps.run_to_end("the suite, our server", self.limit(), &mut suite)?;
        steps.call("the server is still there", || server.kill())
    }

    /// The suite as the server of our client.
    fn client(&self, steps: &mut Steps, report: &Path) -> Result<()> {
        let [address] = servers::free_addresses()?;
        let suite = if self.options.quick {
            let mut suite = self.kosoku(report);
            suite.args(["--mode", "fuzzingserver"]);
            suite.arg(address.to_string());
            suite
        } else {
            let url = serde_json::json!(format!("ws://{address}"));
            self.wstest("fuzzingserver", "url", url, report)?
        };
        let _suite = Server::start(suite, &Place::Port(address), report.join(LOG))?;
        let mut client = Command::new(project::example("autobahn_client")?);
        client.arg(address.to_string());
        steps.run("the suite, our client", self.limit(), &mut client)?;
        // The suite writes its report behind the client's back.
        let began = Instant::now();
        while read(report).is_err() && began.elapsed() < REPORT_LIMIT {
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn limit(&self) -> Duration {
        match self.options.quick {
            true => QUICK_LIMIT,
            false => LIMIT,
        }
    }

    /// The original in one of its modes, for which `peer` says where the other side is.
    fn wstest(
        &self,
        mode: &str,
        peer: &str,
        place: serde_json::Value,
        report: &Path,
    ) -> Result<Command> {
        let mut spec = serde_json::json!({
            "outdir": report.join(SUITE),
            "cases": self.patterns,
            "exclude-cases": [],
            "exclude-agent-cases": {},
            // A page about itself that nobody asked for, of the server only.
            "webport": 0,
        });
        spec[peer] = place;
        let file = report.join("spec.json");
        fs::write(&file, format!("{spec:#}\n"))?;
        let mut command = Command::new(&self.program);
        // Unbuffered, so that the log shows how far it is.
        command.env("PYTHONUNBUFFERED", "1");
        command.args(["--mode", mode, "--spec"]).arg(file);
        Ok(command)
    }

    fn kosoku(&self, report: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--outdir").arg(report.join(SUITE));
        for pattern in &self.patterns {
            command.args(["--include", pattern]);
        }
        command
    }
}

/// What the suite says, in the report.
const LOG: &str = "suite.log";

/// How long the suite may take to write its report, once its client has gone.
const REPORT_LIMIT: Duration = Duration::from_secs(60);

/// What the suite says of the cases.
fn read(report: &Path) -> Result<Run> {
    let index = report.join(SUITE).join("index.json");
    fs::read_to_string(&index)
        .map_err(|error| error.to_string())
        .and_then(|text| Run::parse(&text))
        .map_err(|why| {
            let (index, log) = (index.display(), report.join(LOG));
            let log = log.display();
            Failure::new(format!("{index}: {why}\n  the suite's log is {log}"))
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
        let options = parse(&["--report", "/a", "--client", "--quick", "--cases", "1"]).unwrap();
        assert!(options.quick);
        assert_eq!(options.side, Some(Side::Client));
        assert_eq!(options.report.as_deref(), Some(Path::new("/a")));
        assert_eq!(options.selection().unwrap(), "1".parse().unwrap());
    }

    #[test]
    fn the_original_runs_all_cases_unless_told_otherwise() {
        let options = parse(&[]).unwrap();
        assert!(!options.quick && options.report.is_none() && options.side.is_none());
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
