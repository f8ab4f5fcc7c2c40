//! The fuzz targets of `fuzz/`, built and run by the stable toolchain.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    project,
    step::{Failure, Result, Steps, output_of},
};

/// What `cargo fuzz` gives the compiler with `--sanitizer none`: counters that libFuzzer reads, and
/// comparisons that it sees. None of it needs a nightly toolchain.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg",
    "fuzzing",
];

const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// For each target, unless told otherwise.
const SECONDS: u64 = 60;

/// The same in CI: there the targets are a watchdog, and what is new is found in longer runs.
const CI_SECONDS: u64 = 2;

/// How much longer than asked for a run may take: it begins with all that was found before.
const GRACE: Duration = Duration::from_secs(600);

/// No input takes that long, even on a loaded machine, nor that much memory.
const INPUT_LIMITS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=1024"];

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// All, if none.
    target: Option<String>,
    seconds: u64,
    /// One input, instead of ever new ones.
    input: Option<PathBuf>,
    /// Begins with the seeds alone, and keeps nothing of what is found but failures.
    fresh: bool,
}

impl Options {
    /// The words after `fuzz`.
    pub(crate) fn parse(words: &[&str]) -> std::result::Result<Options, String> {
        let mut options = Options {
            target: None,
            seconds: SECONDS,
            input: None,
            fresh: false,
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "--seconds" => {
                    let value = value()?;
                    let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                    options.seconds = seconds.ok_or_else(|| format!("{value} is no time"))?;
                }
                "--input" => options.input = Some(PathBuf::from(value()?)),
                other if other.starts_with('-') => return Err(format!("unknown option: {other}")),
                target if options.target.is_none() => options.target = Some(target.to_owned()),
                other => return Err(format!("one target or all, not {other} too")),
            }
        }
        if options.input.is_some() && options.target.is_none() {
            return Err("--input needs a target".to_owned());
        }
        Ok(options)
    }

    /// The run that is part of CI: as long on a machine that has fuzzed for days as on a new one.
    pub(crate) fn ci() -> Options {
        Options {
            target: None,
            seconds: CI_SECONDS,
            input: None,
            fresh: true,
        }
    }
}

/// What CI checks of the package itself: it is no member of the workspace.
pub(crate) fn lints(steps: &mut Steps) -> Result<()> {
    let words = "fmt --manifest-path fuzz/Cargo.toml -- --check";
    steps.run(
        "format of the fuzz targets",
        BUILD_LIMIT,
        &mut project::cargo(words)?,
    )?;
    let mut clippy = cargo("clippy")?;
    clippy.args(["--", "-D", "warnings"]);
    steps.run("lints of the fuzz targets", BUILD_LIMIT, &mut clippy)?;
    let words = "deny --manifest-path fuzz/Cargo.toml --log-level error --config deny.toml check \
                 licenses bans sources";
    steps.run(
        "licences and sources of the fuzz targets",
        BUILD_LIMIT,
        &mut project::cargo(words)?,
    )
}

/// Builds the targets and runs them, each for its time or until an input fails.
pub(crate) fn run(steps: &mut Steps, options: &Options) -> Result<()> {
    let all = targets()?;
    let chosen: Vec<&String> = match &options.target {
        None => all.iter().collect(),
        Some(asked) => match all.get(asked) {
            Some(target) => vec![target],
            None => {
                let all: Vec<_> = all.iter().map(String::as_str).collect();
                let all = all.join(", ");
                return Err(Failure::new(format!(
                    "there is no target {asked}: they are {all}"
                )));
            }
        },
    };
    steps.run("build the fuzz targets", BUILD_LIMIT, &mut cargo("build")?)?;
    for target in chosen {
        match &options.input {
            Some(input) => again(steps, target, input)?,
            None => fuzz(steps, target, options)?,
        }
    }
    Ok(())
}

/// The names of the targets, which are those of their files.
fn targets() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(project::root()?.join("fuzz/targets"))? {
        let file = entry?.path();
        if let Some(name) = file.file_stem().and_then(|name| name.to_str()) {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// `cargo` with this command for the package of the targets, instrumented.
fn cargo(command: &str) -> Result<Command> {
    let mut cargo = project::cargo(command)?;
    cargo.args(["--locked", "--release", "--manifest-path"]);
    cargo.arg("fuzz/Cargo.toml");
    // With a target named, build scripts are spared the flags.
    cargo.args(["--target", &host()?, "--target-dir"]);
    cargo.arg(directory()?);
    cargo.env("RUSTFLAGS", FLAGS.join(" "));
    Ok(cargo)
}

fn host() -> Result<String> {
    let version = output_of(Command::new("rustc").arg("-vV"))
        .ok_or_else(|| Failure::new("rustc -vV fails"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc -vV names no host"))
}

/// Everything about fuzzing that is no source: programs, what was found, logs.
fn directory() -> Result<PathBuf> {
    Ok(project::target()?.join("fuzz"))
}

fn program(target: &str) -> Result<Command> {
    let file = directory()?.join(host()?).join("release").join(target);
    let mut command = Command::new(file);
    command.args(INPUT_LIMITS);
    Ok(command)
}

fn fuzz(steps: &mut Steps, target: &str, options: &Options) -> Result<()> {
    let directory = directory()?;
    // What is found goes to the first of the folders, the seeds are only read.
    let corpus = if options.fresh {
        let corpus = directory.join("fresh-corpus").join(target);
        if corpus.exists() {
            fs::remove_dir_all(&corpus)?;
        }
        corpus
    } else {
        directory.join("corpus").join(target)
    };
    let seeds = project::root()?.join("fuzz/corpus").join(target);
    let artifacts = directory.join("artifacts").join(target);
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory)?;
    }
    let log = directory.join(format!("{target}.log"));
    let file = File::create(&log)?;
    let known = files(&artifacts)?;

    let mut command = program(target)?;
    command.arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg("-print_final_stats=1");
    command.args([&corpus, &seeds]);
    command.stdout(file.try_clone()?).stderr(file);
    let limit = Duration::from_secs(options.seconds) + GRACE;
    let result = steps.run(&format!("fuzz {target}"), limit, &mut command);
    let said = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    match result {
        Ok(()) => {
            let runs = said
                .lines()
                .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
            println!("    {} inputs\n", runs.unwrap_or(" ?").trim());
            Ok(())
        }
        Err(failure) => {
            let mut why = failure.to_string();
            for line in complaint(&said) {
                why += &format!("\n  | {line}");
            }
            for file in files(&artifacts)?.difference(&known) {
                let file = file.display();
                why += &format!("\n  the input is {file}");
                why += &format!("\n  again: cargo xtask fuzz {target} --input {file}");
            }
            why += &format!("\n  the log is {}", log.display());
            Err(Failure::new(why))
        }
    }
}

/// What a log says about the failure, without the thousands of lines about the time before.
fn complaint(log: &str) -> impl Iterator<Item = &str> {
    log.lines()
        .skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR: libFuzzer"))
        .take_while(|line| !line.starts_with("stack backtrace"))
        .take(6)
}

fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error.into()),
    }
}

/// Runs one input, in view.
fn again(steps: &mut Steps, target: &str, input: &Path) -> Result<()> {
    let input = std::path::absolute(input)?;
    let mut command = program(target)?;
    command.arg(input);
    steps.run(&format!("{target} with one input"), GRACE, &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_in_any_order() {
        let options = Options::parse(&["--seconds", "5", "close"]).unwrap();
        assert_eq!(
            (options.seconds, options.target.as_deref()),
            (5, Some("close"))
        );
        let options = Options::parse(&["close", "--input", "file"]).unwrap();
        assert_eq!(options.input, Some(PathBuf::from("file")));
        let options = Options::parse(&[]).unwrap();
        assert!(options.target.is_none() && options.seconds == SECONDS);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for words in [
            &["--fast"][..],
            &["--seconds"],
            &["--seconds", "0"],
            &["--seconds", "soon"],
            &["--input", "file"],
            &["a", "b"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }

    /// A target that is not in the manifest is not built, one without seeds finds little.
    #[test]
    fn every_target_is_in_the_manifest_and_has_seeds() {
        let root = project::root().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let targets = targets().unwrap();
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
        for target in targets {
            let path = format!("path = \"targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{target}");
            let seeds = files(&root.join("fuzz/corpus").join(&target)).unwrap();
            assert!(seeds.len() >= 5, "{target} has {} seeds", seeds.len());
        }
    }

    #[test]
    fn complaint_is_what_the_target_panicked_with() {
        let log = "#1 INITED\n\nthread '<unnamed>' panicked at src/a.rs:1:2:\nleft is not right\n\
                   stack backtrace:\n   0: x\n";
        let lines: Vec<_> = complaint(log).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1], "left is not right");
        assert_eq!(complaint("#1 INITED\nDone 5 runs\n").count(), 0);
    }
}
