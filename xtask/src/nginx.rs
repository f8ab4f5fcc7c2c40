//! The interop tests through a real nginx, with `examples/nginx.conf` as it is, but for its ports,
//! its certificate and its patience.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use crate::{
    install,
    interop::{LIMIT, interpreter},
    project,
    servers::{Place, Server, free_addresses},
    step::{Failure, Result, Steps},
};

/// nginx's proxy_read_timeout: short, so that a case can outlive it.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The server's interval of pings: a third of that or less, as by default.
const PING: Duration = Duration::from_millis(500);

/// Starts nginx in front of the example `behind_nginx`, at a port and at a Unix socket, and lets the
/// clients loose on it.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let program = install::nginx(steps)?;
    install::openssl(steps)?;
    let directory = project::interop()?.join("nginx");
    fs::create_dir_all(&directory)?;
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    steps.run(
        "make a certificate",
        LIMIT,
        &mut openssl(&certificate, &key),
    )?;
    let [http, https, backend] = free_addresses()?;
    let mut settings = Settings {
        http,
        https,
        backend: Place::Port(backend),
        certificate,
        key,
    };
    let nginx = steps.call("nginx listens", || settings.start(&program, &directory))?;
    clients(steps, &settings, "nginx")?;

    // At the same place, so that nginx finds it again.
    let server = Server::behind_nginx(&settings.backend, Duration::ZERO)?;
    let mut silent = interpreter("python_nginx_silent.py")?;
    silent.arg(https.to_string()).arg(&settings.certificate);
    silent.arg(milliseconds(READ_TIMEOUT));
    steps.run("interop: nginx, a server without pings", LIMIT, &mut silent)?;
    steps.call("the servers end as they should", || {
        server.interrupt()?;
        nginx.interrupt()
    })?;

    // Not in the target directory, whose path may be too long for a socket's.
    let socket = env::temp_dir().join(format!("greenwood-{}.socket", process::id()));
    settings.backend = Place::Socket(socket);
    let name = "nginx by a Unix socket";
    let nginx = steps.call("nginx listens", || settings.start(&program, &directory))?;
    clients(steps, &settings, name)?;
    steps.call("nginx ends as it should", || nginx.interrupt())
}

/// Starts the server where nginx looks for it, and lets the clients loose on nginx. The last of them
/// interrupts the server.
fn clients(steps: &mut Steps, settings: &Settings, name: &str) -> Result<()> {
    let server = Server::behind_nginx(&settings.backend, PING)?;
    let addresses = [settings.http, settings.https].map(|address| address.to_string());
    let mut python = interpreter("python_nginx.py")?;
    python.args(&addresses).arg(&settings.certificate);
    steps.run(
        &format!("interop: {name}, websockets and http.client"),
        LIMIT,
        &mut python,
    )?;
    let mut node = interpreter("node_nginx.mjs")?;
    node.args(&addresses).arg(&settings.certificate);
    node.args([server.id().to_string(), milliseconds(READ_TIMEOUT)]);
    let script = format!("interop: {name}, ws and https");
    steps.run(&script, LIMIT, &mut node)?;
    steps.call("the interrupted server exits with 0", || server.ended())
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

/// A certificate for this machine that vouches for itself.
fn openssl(certificate: &Path, key: &Path) -> Command {
    let mut command = Command::new("openssl");
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost";
    command.args(words.split_whitespace());
    command.arg("-keyout").arg(key).arg("-out").arg(certificate);
    command
}

/// What the example's configuration is adapted to.
struct Settings {
    http: SocketAddr,
    https: SocketAddr,
    backend: Place,
    certificate: PathBuf,
    key: PathBuf,
}

impl Settings {
    fn start(&self, program: &Path, directory: &Path) -> Result<Server> {
        let example = fs::read_to_string(project::root()?.join("examples/nginx.conf"))?;
        fs::write(directory.join("site.conf"), self.adapt(&example)?)?;
        fs::write(directory.join("main.conf"), main(install::is_root()))?;
        let mut command = Command::new(program);
        // Errors before the configuration is read go to stderr as well.
        command.args(["-e", "stderr", "-c", "main.conf", "-p"]);
        command.arg(format!("{}/", directory.display()));
        let log = directory.join("nginx.log");
        Server::start(command, &Place::Port(self.https), log)
    }

    /// The example's configuration with these settings.
    fn adapt(&self, example: &str) -> Result<String> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let seconds = READ_TIMEOUT.as_secs();
        let mut text = example.to_owned();
        for (from, to) in [
            ("listen 80;", format!("listen {};", self.http)),
            ("listen 443 ssl;", format!("listen {} ssl;", self.https)),
            (
                "server 127.0.0.1:8000;",
                format!("server {};", self.backend),
            ),
            (
                "ssl_certificate /etc/ssl/example.org/fullchain.pem;",
                format!("ssl_certificate \"{certificate}\";"),
            ),
            (
                "ssl_certificate_key /etc/ssl/example.org/privkey.pem;",
                format!("ssl_certificate_key \"{key}\";"),
            ),
            (
                "proxy_read_timeout 60s;",
                format!("proxy_read_timeout {seconds}s;"),
            ),
        ] {
            if text.matches(from).count() != 1 {
                return Err(Failure::new(format!(
                    "examples/nginx.conf should have {from:?} once"
                )));
            }
            text = text.replace(from, &to);
        }
        Ok(text)
    }
}

/// What is around the example's configuration: everything stays in one directory.
fn main(root: bool) -> String {
    // Its workers would not get into root's directories otherwise.
    let user = if root { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {what}_temp;\n"))
        .concat();
    format!(
        "{user}daemon off;\npid nginx.pid;\nerror_log stderr warn;\nworker_processes 1;\n\
         events {{\n    worker_connections 1024;\n}}\n\
         http {{\n    access_log off;\n{temporary}    include site.conf;\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_can_be_adapted() {
        let example = project::root().unwrap().join("examples/nginx.conf");
        let example = fs::read_to_string(example).unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let settings = Settings {
            http: address(1),
            https: address(2),
            backend: Place::Port(address(3)),
            certificate: "/c".into(),
            key: "/k".into(),
        };
        let adapted = settings.adapt(&example).unwrap();
        assert!(
            adapted.contains("    listen 127.0.0.1:1;\n    "),
            "{adapted}"
        );
        assert!(adapted.contains("server 127.0.0.1:3;\n"));
        assert!(!adapted.contains("/etc/ssl/"));
        assert!(settings.adapt(&adapted).is_err());

        let backend = Place::Socket("/run/socket".into());
        let adapted = Settings {
            backend,
            ..settings
        }
        .adapt(&example)
        .unwrap();
        assert!(adapted.contains("    server unix:/run/socket;\n"));
    }
}
