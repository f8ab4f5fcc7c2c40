//! What the foreign clients need: programs from Debian, packages from npm and PyPI.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    project::{self, program},
    step::{Failure, Result, Steps, output_of},
};

const LIMIT: Duration = Duration::from_secs(600);

/// What playwright-core asks for, and Debian 12 has.
const NODE_MAJOR: u32 = 18;

/// What websockets asks for, and Debian 12 has.
const PYTHON: (u32, u32) = (3, 11);

/// Installs what the interop tests miss.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let mut missing = missing_browser_and_node();
    missing.extend(missing_python());
    debian(steps, &missing)?;
    steps.call("node is recent enough", check_node)?;
    steps.call("python is recent enough", check_python)?;
    npm(steps)?;
    let (requirements, to) = (project::root()?.join("interop/requirements.txt"), venv()?);
    environment(steps, &to, &requirements, &mut python_venv(&to))
}

/// Installs Python 3 if it is missing, and with it the packages of a file of requirements in a
/// virtual environment.
pub(crate) fn run_python(steps: &mut Steps, to: &Path, requirements: &Path) -> Result<()> {
    debian(steps, &missing_python())?;
    steps.call("python is recent enough", check_python)?;
    environment(steps, to, requirements, &mut python_venv(to))
}

/// Chromium's program.
pub(crate) fn chromium() -> Result<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(program)
        .ok_or_else(|| Failure::new("there is no chromium in PATH"))
}

/// The Python that has the packages.
pub(crate) fn python() -> Result<PathBuf> {
    Ok(venv()?.join("bin/python"))
}

/// nginx's program. If there is none in `PATH` it is taken out of Debian's package and put with the
/// other things of the tests: installed, it would be started, here and now, at port 80.
pub(crate) fn nginx(steps: &mut Steps) -> Result<PathBuf> {
    if let Some(nginx) = program("nginx") {
        return Ok(nginx);
    }
    let to = project::interop()?.join("nginx-package");
    let nginx = to.join("usr/sbin/nginx");
    if nginx.exists() {
        return Ok(nginx);
    }
    if program("apt-get").is_none() {
        return Err(Failure::new(
            "there is no nginx in PATH: put one there\n  \
             The tests that need none of that: cargo test --workspace",
        ));
    }
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    fs::create_dir_all(&to)?;
    if is_root() {
        steps.run("apt-get update", LIMIT, &mut apt("update -q"))?;
    }
    let mut download = apt("download -q nginx");
    steps.run("download nginx", LIMIT, download.current_dir(&to))?;
    let mut unpack = Command::new("sh");
    unpack.args(["-c", "dpkg-deb --extract nginx_*.deb ."]);
    steps.run("unpack nginx", LIMIT, unpack.current_dir(&to))?;
    match output_of(Command::new(&nginx).arg("-v")) {
        Some(_) => Ok(nginx),
        None => {
            // So that the next run does not take it for good.
            fs::remove_dir_all(&to)?;
            Err(Failure::new(
                "Debian's nginx lacks libraries: apt-get install nginx",
            ))
        }
    }
}

/// Installs openssl if it is missing.
pub(crate) fn openssl(steps: &mut Steps) -> Result<()> {
    match program("openssl") {
        Some(_) => Ok(()),
        None => debian(steps, &["openssl"]),
    }
}

fn venv() -> Result<PathBuf> {
    Ok(project::interop()?.join("venv"))
}

fn debian(steps: &mut Steps, missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() || program("apt-get").is_none() {
        return Err(Failure::new(format!(
            "the foreign clients need more programs.\n  \
             On Debian, as root: apt-get install {packages}\n  \
             Elsewhere: what these packages are called there\n  \
             The tests that need none of them: cargo test --workspace"
        )));
    }
    steps.run("apt-get update", LIMIT, &mut apt("update -q"))?;
    let install = format!("install -q -y --no-install-recommends {packages}");
    steps.run("apt-get install", LIMIT, &mut apt(&install))
}

fn apt(words: &str) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(words.split_whitespace());
    command
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    output_of(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}

/// The Debian packages of what is not there.
fn missing_browser_and_node() -> Vec<&'static str> {
    let mut packages = Vec::new();
    for (name, package) in [("node", "nodejs"), ("npm", "npm"), ("openssl", "openssl")] {
        if program(name).is_none() {
            packages.push(package);
        }
    }
    if chromium().is_err() {
        packages.extend(["chromium", "fonts-dejavu-core"]);
    }
    packages
}

/// The same of Python.
fn missing_python() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if program("python3").is_none() {
        packages.push("python3");
    }
    // Debian has the module that fills a venv in a package of its own.
    let with_venv = output_of(Command::new("python3").args(["-c", "import venv, ensurepip"]));
    if with_venv.is_none() {
        packages.push("python3-venv");
    }
    packages
}

fn check_node() -> Result<()> {
    let version = output_of(Command::new("node").arg("--version"))
        .ok_or_else(|| Failure::new("node --version fails"))?;
    let major = version.trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= NODE_MAJOR => Ok(()),
        _ => Err(Failure::new(format!(
            "this is Node.js {version}; playwright-core needs {NODE_MAJOR} or newer: put one first \
             in PATH"
        ))),
    }
}

fn check_python() -> Result<()> {
    let asked = format!("import sys; sys.exit(sys.version_info < {PYTHON:?})");
    if output_of(Command::new("python3").args(["-c", &asked])).is_some() {
        return Ok(());
    }
    let version = output_of(Command::new("python3").arg("--version")).unwrap_or_default();
    let (major, minor) = PYTHON;
    Err(Failure::new(format!(
        "this is {version}; websockets needs Python {major}.{minor} or newer: put one first in PATH"
    )))
}

fn npm(steps: &mut Steps) -> Result<()> {
    let (from, to) = (project::root()?.join("interop"), project::interop()?);
    let stamp = to.join("npm.stamp");
    let lock = from.join("package-lock.json");
    if is_same(&stamp, &lock) && to.join("node_modules/ws").exists() {
        return Ok(());
    }
    fs::create_dir_all(&to)?;
    forget(&stamp)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), to.join(name))?;
    }
    let mut command = Command::new("npm");
    command.current_dir(&to);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    steps.run("npm ci", LIMIT, &mut command)?;
    fs::copy(lock, stamp)?;
    Ok(())
}

/// The command for an empty virtual environment of Python 3.
fn python_venv(to: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "venv", "--clear"]).arg(to);
    command
}

/// Fills a virtual environment with the packages of a file of requirements, unless it has them.
/// `make` makes it empty, in the place of what may be there.
pub(crate) fn environment(
    steps: &mut Steps,
    to: &Path,
    requirements: &Path,
    make: &mut Command,
) -> Result<()> {
    let (stamp, python) = (to.with_extension("stamp"), to.join("bin/python"));
    if is_same(&stamp, requirements) && python.exists() {
        return Ok(());
    }
    forget(&stamp)?;
    steps.run("make a virtual environment", LIMIT, make)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--requirement"]);
    pip.arg(requirements);
    steps.run("pip install", LIMIT, &mut pip)?;
    fs::copy(requirements, stamp)?;
    Ok(())
}

/// Removes a stamp before what it vouches for changes.
fn forget(stamp: &Path) -> Result<()> {
    match fs::remove_file(stamp) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether both files are there and have the same content.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}
