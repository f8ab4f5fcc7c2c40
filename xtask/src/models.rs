//! The models of the runtime's protocols between threads, which loom checks.

use std::time::Duration;

use crate::{
    project,
    step::{Result, Steps},
};

/// They take seconds, and loom some more to be compiled.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs those with `filter` in their names. In the profile of the tests of the release: loom takes
/// five times as long without the optimizer.
pub(crate) fn run(steps: &mut Steps, filter: Option<&str>) -> Result<()> {
    let words = "run --quiet --package greenwood-models --features loom --profile release-test --";
    let mut models = project::cargo(words)?;
    steps.run("models", LIMIT, models.args(filter))
}
