//! What the programs do around their measuring.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::options::Common;
use super::results::{Measurable, Results};
use crate::Result;

/// Takes the options and does what they ask for, or says what is wrong. `source` is the program's
/// `main.rs`, whose head comment is the help; `run` says whether all went well.
pub(crate) fn main<O>(
    program: &str,
    source: &str,
    parse: impl FnOnce(std::iter::Skip<env::Args>) -> Result<Option<O>>,
    run: impl FnOnce(&O) -> Result<bool>,
) -> ExitCode {
    if env::args().any(|argument| argument == "--help") {
        print!("{}", head(source));
        return ExitCode::SUCCESS;
    }
    let options = match parse(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}; --help tells the options");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The comment at the head of a file.
fn head(source: &str) -> String {
    let comment = source.lines().map_while(|line| line.strip_prefix("//!"));
    comment
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect()
}

/// Measures, or shows what earlier runs have written, and writes the files that are asked for.
pub(crate) fn results<C: Measurable>(
    options: &Common<C>,
    measure: impl FnOnce() -> Result<Results<C>>,
    show: impl FnOnce(&Results<C>),
    plots: impl FnOnce(&Results<C>) -> Vec<(&'static str, String)>,
) -> Result<Results<C>> {
    // Before an hour of measuring, not after it.
    let folders = [
        options.json.as_deref().and_then(Path::parent),
        options.plots.as_deref(),
    ];
    for folder in folders.into_iter().flatten() {
        fs::create_dir_all(folder)?;
    }
    let results = if options.from.is_empty() {
        measure()?
    } else {
        let results = Results::from_files(&options.from)?;
        show(&results);
        results
    };
    if let Some(file) = &options.json {
        fs::write(file, results.to_json()?)?;
    }
    if let Some(folder) = &options.plots {
        for (name, svg) in plots(&results) {
            fs::write(folder.join(name), svg)?;
        }
    }
    Ok(results)
}
