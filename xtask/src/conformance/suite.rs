//! The runners of the suite, installed into the target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    install, project,
    step::{Failure, Result, Steps, output_of},
};

/// The original runner, in an environment of Python 2.7.
pub(crate) fn wstest(steps: &mut Steps) -> Result<PathBuf> {
    // Before anything is installed for it.
    let python = python2().ok_or_else(|| {
        Failure::new(
            "the Autobahn test suite runs on Python 2.7 only, and there is none.\n  \
             With pyenv: pyenv install 2.7.18\n  \
             Otherwise: put a python2.7 in PATH, from wherever your system has one\n  \
             In a container: see \"Conformance\" in CONTRIBUTING.md\n  \
             A runner that needs none: cargo xtask conformance --quick",
        )
    })?;
    let virtualenv = python3(steps)?.join("virtualenv");
    let environment = project::conformance()?.join("python2");
    let mut make = Command::new(virtualenv);
    // It keeps the pip that it puts in, and would do so in the home directory.
    make.arg("--app-data");
    make.arg(project::conformance()?.join("virtualenv"));
    make.args(["--clear", "--quiet", "--python"]).arg(python);
    make.arg(&environment);
    let requirements = requirements("requirements.txt")?;
    install::environment(steps, &environment, &requirements, &mut make)?;
    Ok(environment.join("bin/wstest"))
}

/// The quick runner.
pub(crate) fn kosoku(steps: &mut Steps) -> Result<PathBuf> {
    Ok(python3(steps)?.join("kosoku"))
}

/// Where the programs are that run on Python 3.
fn python3(steps: &mut Steps) -> Result<PathBuf> {
    let environment = project::conformance()?.join("python3");
    install::run_python(steps, &environment, &requirements("requirements3.txt")?)?;
    Ok(environment.join("bin"))
}

fn requirements(name: &str) -> Result<PathBuf> {
    Ok(project::root()?.join("interop/autobahn").join(name))
}

/// A Python 2.7: pyenv's, or the one in `PATH`.
fn python2() -> Option<PathBuf> {
    let pyenv = output_of(Command::new("pyenv").args(["prefix", "2.7.18"]));
    let pyenv = pyenv.map(|prefix| Path::new(&prefix).join("bin/python2.7"));
    let in_path = Some(PathBuf::from("python2.7"));
    // pyenv's programs in `PATH` are there even if it is told to use other versions, and fail.
    [pyenv, in_path].into_iter().flatten().find_map(|python| {
        let asked = "import sys; assert sys.version_info[:2] == (2, 7); print(sys.executable)";
        output_of(Command::new(python).args(["-c", asked])).map(PathBuf::from)
    })
}
