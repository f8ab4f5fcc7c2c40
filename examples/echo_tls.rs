//! The echo server by TLS: the page is at `https://…/`, the WebSocket at `wss://…/echo`.
//!
//! ```text
//! cargo run --release --example echo_tls [ADDRESS] [PORT] [CERTFILE KEYFILE]
//! ```
//!
//! Then open <https://localhost:8443/>. ADDRESS is 127.0.0.1 and PORT is 8443 unless given; port 0
//! takes a free one. CERTFILE has the certificate in PEM, followed by those in between it and the
//! root, and KEYFILE its key. Without them a certificate for `localhost` is made at the start, which
//! signs itself: a browser asks before it goes on, and `curl` wants `--insecure`.
//!
//! SIGHUP (`kill -HUP`) reads both files again: new connections get the new certificate, those that
//! exist go on. Ctrl-C closes the open WebSockets with 1001 and ends the server; a second Ctrl-C
//! does not wait. The access log goes to stderr.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use greenwood::{
    Body, CloseCode, Deflate, Environ, Result, StartResponse, WebSocket, WebSocketEnviron,
    WebSocketHandler, WsgiServer,
    runtime::{
        net::{Identity, ServerTls},
        signal::{SIGHUP, SIGINT, SIGTERM, Signals},
    },
};

/// It finds out by itself that it came by TLS.
const PAGE: &str = include_str!("echo.html");

const USAGE: &str = "\
usage: cargo run --release --example echo_tls [ADDRESS] [PORT] [CERTFILE KEYFILE]

  ADDRESS   where to listen, a name or an address (default: 127.0.0.1)
  PORT      the port, 0 for any free one (default: 8443)
  CERTFILE  the certificate (PEM), followed by those in between it and the root
  KEYFILE   its key (PEM)

Without CERTFILE and KEYFILE a certificate is made that signs itself.
";

/// How long open connections get to end, once the server has been told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The application, which has nothing to do with TLS but to tell of it.
fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        return match &*environ.path() {
            "/echo" => echo(&ws),
            _ => {
                ws.close(CloseCode::POLICY_VIOLATION, "the WebSocket is at /echo")?;
                Ok(Body::empty())
            }
        };
    }
    let html = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let text = ("Content-Type", "text/plain; charset=utf-8");
    match (environ.method(), &*environ.path()) {
        ("GET" | "HEAD", "/") => {
            start_response("200 OK", &html)?;
            Ok(PAGE.into())
        }
        ("POST", "/echo") => {
            let mut body = Vec::new();
            environ.input().read_to_end(&mut body)?;
            start_response("200 OK", &[("Content-Type", "application/octet-stream")])?;
            Ok(body.into())
        }
        ("GET" | "HEAD", "/tls") => {
            start_response("200 OK", &[text])?;
            Ok(agreed(environ).into())
        }
        _ => {
            start_response("404 Not Found", &[text])?;
            Ok(
                "There is a page at /, a WebSocket at /echo, and what TLS is spoken at /tls.\n"
                    .into(),
            )
        }
    }
}

/// Sends back every message, text as text and binary as binary, until the peer closes.
fn echo(ws: &WebSocket) -> Result<Body> {
    while let Some(message) = ws.receive()? {
        ws.send(message)?;
    }
    Ok(Body::empty())
}

/// What the two sides have agreed on.
fn agreed(environ: &Environ) -> String {
    let Some(tls) = environ.tls() else {
        return "no TLS\n".to_owned();
    };
    let alpn = tls.alpn.as_deref().map(String::from_utf8_lossy);
    format!(
        "{} {}, name {}, protocol {}, scheme {}\n",
        tls.version,
        tls.cipher,
        tls.server_name.as_deref().unwrap_or("not asked for"),
        alpn.as_deref().unwrap_or("not asked for"),
        environ.get("wsgi.url_scheme").unwrap_or_default(),
    )
}

/// A certificate for this machine that nobody else has signed, and its key.
fn self_signed(address: &str) -> std::result::Result<Identity, Box<dyn Error>> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if !names.iter().any(|name| name == address) {
        names.push(address.to_owned());
    }
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(Identity::pem(
        made.cert.pem(),
        made.signing_key.serialize_pem(),
    ))
}

fn serve(command: &Serve) -> std::result::Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let identity = match &command.files {
        Some((certfile, keyfile)) => Identity::files(certfile, keyfile),
        None => self_signed(&command.address)?,
    };
    let tls = ServerTls::builder(identity).alpn(["http/1.1"]).build()?;
    let server = WsgiServer::new((&*command.address, command.port), app)
        .tls(tls.clone())
        .handler(WebSocketHandler::new().deflate(Deflate::default()));
    let local = server.start().and_then(|()| server.local_addr())?;
    let line = format!("echo server on https://{local}/ (Ctrl-C to stop)\n");
    io::stdout()
        .write_all(line.as_bytes())
        .map_err(|error| format!("can't write to stdout: {error}"))?;

    // The greenlets do the work; this thread has only the signals to wait for.
    while let Some(SIGHUP) = signals.next() {
        match tls.reload() {
            Ok(()) => eprintln!("the certificate was read again"),
            // The old one stays in use.
            Err(error) => eprintln!("the certificate was not read again: {error}"),
        }
    }
    exit_on_next(signals);
    let open = server.handle().connections();
    eprintln!("stopping; open connections: {open} (Ctrl-C again to exit at once)");
    server.stop(GRACE);
    Ok(())
}

/// From now on, a signal ends the process where it stands: on a thread, so that a hub that is held up
/// does not hold it up.
fn exit_on_next(mut signals: Signals) {
    thread::spawn(move || {
        if let Some(signal) = signals.next() {
            process::exit(128 + signal);
        }
    });
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .without_time() // the access log's lines have their own
        .with_target(false)
        .init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "-h" || a == "--help") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let command = match parse(&arguments) {
        Ok(command) => command,
        Err(error) => {
            eprint!("echo_tls: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_tls: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the arguments ask for.
struct Serve {
    address: String,
    port: u16,
    /// CERTFILE and KEYFILE.
    files: Option<(String, String)>,
}

/// Reads `[ADDRESS] [PORT] [CERTFILE KEYFILE]`.
fn parse(arguments: &[String]) -> std::result::Result<Serve, String> {
    if let Some(option) = arguments.iter().find(|a| a.starts_with('-')) {
        return Err(format!("unknown option {option:?}"));
    }
    let is_port = |text: &String| text.bytes().all(|b| b.is_ascii_digit());
    let (address, rest) = match arguments.split_first() {
        Some((first, rest)) if !is_port(first) && !first.is_empty() => (&**first, rest),
        _ => ("127.0.0.1", arguments),
    };
    let (port, rest) = match rest.split_first() {
        Some((first, rest)) => (&**first, rest),
        None => ("8443", rest),
    };
    let files = match rest {
        [] => None,
        [certfile, keyfile] => Some((certfile.clone(), keyfile.clone())),
        [_] => return Err("a CERTFILE without a KEYFILE".to_owned()),
        _ => return Err(format!("too many arguments: {}", arguments.len())),
    };
    Ok(Serve {
        address: address.to_owned(),
        port: port
            .parse()
            .map_err(|_| format!("not a port between 0 and 65535: {port:?}"))?,
        files,
    })
}
