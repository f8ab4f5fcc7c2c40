//! Everything that a change has to pass.

use std::time::Duration;

use crate::{
    conformance, fuzz, interop, models, project,
    step::{Failure, Result, Steps, output_of},
};

/// For a step that compiles: far more than it takes, far less than for ever.
const LIMIT: Duration = Duration::from_secs(1200);

/// The number of hubs that all tests run with, that those run with besides that start hubs, and that
/// the packages' own run with when optimized. By default it is the number of cores.
const HUBS: &str = "2";
const ONE_HUB: &str = "1";
const MORE_HUBS: &str = "4";

pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    steps.call("cargo-deny is there", || {
        match output_of(&mut project::cargo("deny --version")?) {
            Some(_) => Ok(()),
            None => Err(Failure::new(
                "cargo-deny is not installed: run cargo install cargo-deny --locked",
            )),
        }
    })?;
    steps.run(
        "format",
        LIMIT,
        &mut project::cargo("fmt --all -- --check")?,
    )?;
    steps.run(
        "lints",
        LIMIT,
        &mut project::cargo("clippy --workspace --all-targets -- -D warnings")?,
    )?;
    for package in ["greenwood-websocket", "greenwood-wsgi"] {
        // The protocols alone, without the runtime.
        let words = format!("clippy --package {package} --no-default-features -- -D warnings");
        let name = format!("lints of {package} without default features");
        steps.run(&name, LIMIT, &mut project::cargo(&words)?)?;
    }
    let words = "clippy --workspace --all-features --all-targets -- -D warnings";
    steps.run(
        "lints with all features",
        LIMIT,
        &mut project::cargo(words)?,
    )?;
    let mut docs = project::cargo("doc --workspace --no-deps --all-features")?;
    steps.run("docs", LIMIT, docs.env("RUSTDOCFLAGS", "-D warnings"))?;
    // Not the advisories: their database comes from outside the package registries.
    steps.run(
        "licences and sources",
        LIMIT,
        &mut project::cargo("deny --log-level error check licenses bans sources")?,
    )?;
    fuzz::lints(steps)?;
    tests_debug(steps, Some(HUBS))?;
    // Of the whole workspace, as the features of dependencies would be others without it, and all
    // would be compiled once more: so it is said which tests start hubs.
    let mut tests = project::cargo(
        "test --workspace --lib --test suite --test churn --test traces --test server \
         --test https --test leaks --test access_log --test io_*",
    )?;
    let name = format!("tests with GREENWOOD_HUBS={ONE_HUB}");
    steps.run(&name, LIMIT, tests.env("GREENWOOD_HUBS", ONE_HUB))?;
    // Whole-program optimization moves code across switches of stacks: the runtime has to bear it.
    for (name, words) in [
        (
            "tests of the protocols, optimized",
            "test --package greenwood-wsgi --package greenwood-websocket \
             --profile release-test --lib --tests",
        ),
        (
            "tests of the runtime, optimized as a whole",
            "test --package greenwood-runtime --release --lib --tests",
        ),
    ] {
        let mut tests = project::cargo(words)?;
        steps.run(name, LIMIT, tests.env("GREENWOOD_HUBS", MORE_HUBS))?;
    }
    models::run(steps, None)?;
    fuzz::run(steps, &fuzz::Options::ci())?;
    interop::run(steps, None)?;
    conformance::run(steps, &conformance::Options::quick())
}

/// The workspace's own tests, doctests and examples included, with so many hubs.
pub(crate) fn tests_debug(steps: &mut Steps, hubs: Option<&str>) -> Result<()> {
    let mut tests = project::cargo("test --workspace")?;
    if let Some(hubs) = hubs {
        tests.env("GREENWOOD_HUBS", hubs);
    }
    steps.run("tests", LIMIT, &mut tests)?;
    let words = "test --package greenwood-wsgi --features minihttp --test minihttp";
    steps.run("tests of minihttp", LIMIT, &mut project::cargo(words)?)
}

/// The same with the optimizer on, in the profile `release-test`: whole-program optimization of
/// some thirty test programs would take longer than everything else.
pub(crate) fn tests_release(steps: &mut Steps) -> Result<()> {
    let mut tests = project::cargo("test --workspace --profile release-test")?;
    steps.run("tests of the release", LIMIT, &mut tests)
}
