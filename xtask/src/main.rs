//! The project's own commands: `cargo xtask help` lists them.
#![forbid(unsafe_code)]

mod ci;
mod conformance;
mod fuzz;
mod install;
mod interop;
mod models;
mod nginx;
mod project;
mod servers;
mod step;

use std::{path::PathBuf, process::ExitCode};

use step::{Result, Steps};

const HELP: &str = "\
usage: cargo xtask COMMAND

  test     all tests: the workspace's own, in debug and in release (the profile release-test,
           which is release without LTO), and those with real clients
  interop  only those with real clients: npm's ws, Python's websockets, http.client and ssl, Node's
           fetch, https and tls, openssl, headless Chromium, and through nginx
             --nginx            only those through nginx
             --screenshot FILE  also saves a picture of the example's page as PNG
  conformance
           the Autobahn test suite, against our server, in the blocking style and with parked
           connections, and our client, held against interop/autobahn/expected.json
             --server       only the server in the blocking style
             --parked       only the server with parked connections
             --client       only the client
             --cases LIST   only these, such as 1-7,10 or 6.4,7.1.5 or * (all, the default)
             --report DIR   the report goes there, not to conformance/report in the target directory
             --quick        by another runner, which needs no Python 2.7 and is more lenient;
                            the default is --cases 1-7,10 then
  fuzz     the fuzz targets of fuzz/, one after the other, on the stable toolchain
             TARGET         only this one
             --seconds N    so long each (60 is the default)
             --input FILE   only this input, such as one that failed
  models   the models of the runtime's protocols between threads, by loom: models/
             NAME           only those with that in their names
  ci       everything that a change has to pass: format, lints, docs, all tests, licences,
           models, conformance --quick, and a few seconds of each fuzz target
  help     this

What the clients need is installed into the target directory, except for Node.js, Python and
Chromium: those are Debian packages, which are installed if they are missing and this is root. No
package has Python 2.7, which conformance needs without --quick: it says where to get it.
";

enum Command {
    Test,
    Interop { screenshot: Option<PathBuf> },
    Nginx,
    Conformance(conformance::Options),
    Fuzz(fuzz::Options),
    Models { filter: Option<String> },
    Ci,
    Help,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let command = match parse(&arguments) {
        Ok(command) => command,
        Err(error) => {
            eprint!("xtask: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let mut steps = Steps::default();
    let result = match command {
        Command::Test => test(&mut steps),
        Command::Interop { screenshot } => interop::run(&mut steps, screenshot.as_deref()),
        Command::Nginx => interop::through_nginx(&mut steps),
        Command::Conformance(options) => conformance::run(&mut steps, &options),
        Command::Fuzz(options) => fuzz::run(&mut steps, &options),
        Command::Models { filter } => models::run(&mut steps, filter.as_deref()),
        Command::Ci => ci::run(&mut steps),
        Command::Help => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
    };
    steps.report(result)
}

fn parse(arguments: &[&str]) -> std::result::Result<Command, String> {
    match arguments {
        ["test"] => Ok(Command::Test),
        ["interop"] => Ok(Command::Interop { screenshot: None }),
        ["interop", "--nginx"] => Ok(Command::Nginx),
        ["interop", "--screenshot", file] => {
            // The scripts run in another directory.
            let file = std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?;
            Ok(Command::Interop {
                screenshot: Some(file),
            })
        }
        ["conformance", options @ ..] => {
            conformance::Options::parse(options).map(Command::Conformance)
        }
        ["fuzz", options @ ..] => fuzz::Options::parse(options).map(Command::Fuzz),
        ["models"] => Ok(Command::Models { filter: None }),
        ["models", filter] => Ok(Command::Models {
            filter: Some((*filter).to_owned()),
        }),
        ["ci"] => Ok(Command::Ci),
        ["help" | "--help" | "-h"] => Ok(Command::Help),
        [] => Err("which command?".to_owned()),
        other => Err(format!("unknown command: {}", other.join(" "))),
    }
}

fn test(steps: &mut Steps) -> Result<()> {
    install::run(steps)?;
    ci::tests_debug(steps, None)?;
    ci::tests_release(steps)?;
    interop::run(steps, None)
}
