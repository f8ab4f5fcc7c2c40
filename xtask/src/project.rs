//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::step::{Failure, Result};

/// The root of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| Failure::new("start it by cargo: cargo xtask help"))?;
    match Path::new(&package).parent() {
        Some(root) => Ok(root.to_owned()),
        None => Err(Failure::new("the package xtask is at the root of all")),
    }
}

/// Cargo's target directory: this very program is in it, two levels down.
pub(crate) fn target() -> Result<PathBuf> {
    let program = env::current_exe()?;
    match program.ancestors().nth(2) {
        Some(target) => Ok(target.to_owned()),
        None => Err(Failure::new(format!("lost at {}", program.display()))),
    }
}

/// The program of an example, as built for release.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    Ok(target()?.join("release").join("examples").join(name))
}

/// Where the interop tests run, with what they need.
pub(crate) fn interop() -> Result<PathBuf> {
    Ok(target()?.join("interop"))
}

/// Where the conformance suite is installed, and reports.
pub(crate) fn conformance() -> Result<PathBuf> {
    Ok(target()?.join("conformance"))
}

/// `cargo` with these words, at the root.
pub(crate) fn cargo(words: &str) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?).args(words.split_whitespace());
    Ok(command)
}

/// The file of a program, if there is one in `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
