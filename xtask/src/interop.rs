//! The interop tests: clients that others wrote, against the examples as built for release.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    install, nginx, project,
    servers::Server,
    step::{Result, Steps},
};

/// For a whole script; each of its cases has a limit of its own.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// Installs what is missing, builds the servers, and runs all scripts of `interop/`.
pub(crate) fn run(steps: &mut Steps, screenshot: Option<&Path>) -> Result<()> {
    prepare(steps)?;
    let echo = Server::with_page("echo", "echo")?;
    let mut bench = Server::echo_bench()?;
    for (name, script, servers) in [
        ("interop: ws", "node_ws.mjs", 2),
        ("interop: node http", "node_http.mjs", 1),
        ("interop: websockets, blocking", "python_sync.py", 2),
        ("interop: websockets, asyncio", "python_asyncio.py", 2),
        ("interop: http.client", "python_http.py", 1),
    ] {
        let mut command = interpreter(script)?;
        command.args([&echo.address, &bench.address].into_iter().take(servers));
        steps.run(name, LIMIT, &mut command)?;
        bench.check_running()?;
    }
    steps.call("the servers end as they should", || {
        bench.kill()?;
        echo.interrupt()
    })?;

    let (certfile, keyfile) = certificate(steps, "cert", "CA:TRUE")?;
    let echo = Server::echo_tls(&certfile, &keyfile)?;
    for (name, script) in [
        ("interop: node tls", "node_tls.mjs"),
        ("interop: python tls", "python_tls.py"),
    ] {
        let mut command = interpreter(script)?;
        command.arg(&echo.address).arg(&certfile);
        steps.run(name, LIMIT, &mut command)?;
    }
    steps.call("the server with TLS ends as it should", || echo.interrupt())?;
    client(steps)?;
    nginx::run(steps)?;

    // Servers of their own, since the last case of each interrupts it.
    for (name, script, example) in [
        ("interop: browser", "browser.mjs", "echo"),
        ("interop: chat, two windows", "chat.mjs", "chat"),
        ("interop: ticker, two windows", "ticker.mjs", "broadcast"),
    ] {
        let server = Server::with_page(example, &format!("{example}_browser"))?;
        let mut command = interpreter(script)?;
        command.args([&server.address, &server.id().to_string()]);
        command.arg(install::chromium()?);
        command.args(screenshot.filter(|_| example == "echo"));
        steps.run(name, LIMIT, &mut command)?;
        steps.call("the interrupted server exits with 0", || server.ended())?;
    }
    if let Some(file) = screenshot {
        println!("the screenshot is {}", file.display());
    }
    Ok(())
}

/// Has the example `interop_client` start the servers of others, and try everything with them.
fn client(steps: &mut Steps) -> Result<()> {
    // rustls takes no CA's certificate for a server's.
    let (certfile, keyfile) = certificate(steps, "leaf", "CA:FALSE")?;
    for (name, script) in [
        ("interop: client to node's ws", "node_server.mjs"),
        ("interop: client to websockets", "python_server.py"),
    ] {
        let server = interpreter(script)?;
        let mut command = Command::new(project::example("interop_client")?);
        command.current_dir(project::interop()?).arg(&certfile);
        command.arg(server.get_program()).args(server.get_args());
        steps.run(name, LIMIT, command.args([&certfile, &keyfile]))?;
    }
    Ok(())
}

/// Has openssl make a certificate for `localhost` that signs itself, and its key.
fn certificate(steps: &mut Steps, name: &str, constraint: &str) -> Result<(PathBuf, PathBuf)> {
    let folder = project::interop()?;
    let (certfile, keyfile) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}.key.pem")),
    );
    let mut command = Command::new("openssl");
    let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
                 -addext subjectAltName=DNS:localhost -addext";
    command.args(words.split_whitespace());
    command.arg(format!("basicConstraints=critical,{constraint}"));
    command.arg("-out").arg(&certfile);
    command.arg("-keyout").arg(&keyfile);
    steps.run("make a certificate", LIMIT, &mut command)?;
    Ok((certfile, keyfile))
}

/// The same with the scripts that go through nginx alone.
pub(crate) fn through_nginx(steps: &mut Steps) -> Result<()> {
    prepare(steps)?;
    nginx::run(steps)
}

fn prepare(steps: &mut Steps) -> Result<()> {
    install::run(steps)?;
    let mut build = project::cargo("build --release --package greenwood --examples")?;
    steps.run("build the servers", BUILD_LIMIT, &mut build)?;
    steps.call("copy the scripts to their packages", copy_scripts)
}

/// Node.js finds packages only beside the script or above it.
fn copy_scripts() -> Result<()> {
    let to = project::interop()?;
    for entry in fs::read_dir(project::root()?.join("interop"))? {
        let from = entry?.path();
        let is_script = matches!(
            from.extension().and_then(OsStr::to_str),
            Some("mjs") | Some("py")
        );
        if let Some(name) = from.file_name().filter(|_| is_script) {
            fs::copy(&from, to.join(name))?;
        }
    }
    Ok(())
}

/// The command for a script of `interop/`.
pub(crate) fn interpreter(script: &str) -> Result<Command> {
    let mut command = if script.ends_with(".py") {
        let mut python = Command::new(install::python()?);
        python.args(["-W", "error"]);
        python
    } else {
        Command::new("node")
    };
    command.current_dir(project::interop()?).arg(script);
    Ok(command)
}
