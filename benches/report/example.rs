//! Examples of this project that are measured as programs.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;

/// Where an example is, up to date if cargo is there to see to it.
pub(crate) fn built(example: &str) -> Result<String> {
    // This is TARGET/PROFILE/deps/BENCH-HASH.
    let this = env::current_exe()?;
    let profile = this.ancestors().nth(2).ok_or("not built by cargo")?;
    let path: PathBuf = profile.join("examples").join(example);
    if let (Some(cargo), Some(target)) = (env::var_os("CARGO"), profile.parent()) {
        let built = Command::new(&cargo)
            .args(["build", "--quiet", "--release", "--example", example])
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()
            .map_err(|error| format!("{}: {error}", cargo.display()))?;
        if !built.success() {
            return Err(format!("the example {example} can't be built").into());
        }
    }
    if !path.exists() {
        return Err(format!("build it first: cargo build --release --example {example}").into());
    }
    Ok(path.display().to_string())
}
