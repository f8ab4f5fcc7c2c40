//! An echo server with a page to try it out: the page is at `/`, the WebSocket at `/echo`.
//!
//! ```text
//! cargo run --release --example echo [ADDRESS] [PORT]
//! ```
//!
//! Then open <http://127.0.0.1:8000/>. ADDRESS is 127.0.0.1 and PORT is 8000 unless given;
//! `ADDRESS:PORT` works too, and port 0 takes a free one. The access log goes to stderr.
//! Ctrl-C closes the open WebSockets with 1001 and ends the server; a second Ctrl-C does not wait.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::Ipv6Addr,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use greenwood::{
    Body, CloseCode, Deflate, Environ, Result, StartResponse, WebSocket, WebSocketEnviron,
    WebSocketHandler, WsgiServer,
    signal::{SIGINT, SIGTERM, Signals},
};

const PAGE: &str = include_str!("echo.html");

const USAGE: &str = "\
usage: cargo run --release --example echo [ADDRESS] [PORT]

  ADDRESS  where to listen, a name or an address (default: 127.0.0.1)
  PORT     the port, 0 for any free one (default: 8000)
";

/// How long open connections get to end, once the server has been told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The application. It is called for each request, in a greenlet of the connection's own, so it
/// may block as it likes.
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
    match (environ.method(), &*environ.path()) {
        ("GET" | "HEAD", "/") => page(start_response),
        ("POST", "/echo") => body(environ, start_response),
        ("GET" | "HEAD", "/echo") => text(
            start_response,
            "426 Upgrade Required",
            &[("Upgrade", "websocket")],
            "This is a WebSocket: connect with ws://, or open the page at / to try it.\n",
        ),
        (_, "/") => not_allowed("GET, HEAD", start_response),
        (_, "/echo") => not_allowed("GET, HEAD, POST", start_response),
        _ => text(
            start_response,
            "404 Not Found",
            &[],
            "There is a page at / and a WebSocket at /echo.\n",
        ),
    }
}

/// Sends back every message, text as text and binary as binary, until the peer closes.
fn echo(ws: &WebSocket) -> Result<Body> {
    while let Some(message) = ws.receive()? {
        ws.send(message)?;
    }
    Ok(Body::empty())
}

/// Sends back the body of a request, for those who have no WebSocket at hand.
fn body(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let mut body = Vec::new();
    environ.input().read_to_end(&mut body)?;
    // Never the type that it came with: a browser must not take it for a page of this server.
    start_response("200 OK", &[("Content-Type", "application/octet-stream")])?;
    Ok(body.into())
}

fn page(start_response: StartResponse<'_>) -> Result<Body> {
    start_response(
        "200 OK",
        &[
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
        ],
    )?;
    Ok(PAGE.into())
}

fn not_allowed(methods: &str, start_response: StartResponse<'_>) -> Result<Body> {
    text(
        start_response,
        "405 Method Not Allowed",
        &[("Allow", methods)],
        "There is nothing here for that method.\n",
    )
}

fn text(
    start_response: StartResponse<'_>,
    status: &str,
    headers: &[(&str, &str)],
    text: &'static str,
) -> Result<Body> {
    let content_type = ("Content-Type", "text/plain; charset=utf-8");
    start_response(status, &[&[content_type], headers].concat())?;
    Ok(text.into())
}

fn serve(address: &str, port: u16) -> std::result::Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = WsgiServer::new((address, port), app)
        .handler(WebSocketHandler::new().deflate(Deflate::default()));
    let local = match server.start().and_then(|()| server.local_addr()) {
        Ok(local) => local,
        Err(error) => {
            let text = error.to_string();
            // An address names itself; a name that could not be looked up does not.
            return Err(match text.starts_with("can't listen on") {
                true => text,
                false => format!("can't listen on {address}: {text}"),
            }
            .into());
        }
    };
    let line = format!("echo server on http://{local}/ (Ctrl-C to stop)\n");
    io::stdout()
        .write_all(line.as_bytes())
        .map_err(|error| format!("can't write to stdout: {error}"))?;

    // The greenlets do the work; this thread has only the signals to wait for.
    signals.next();
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
    match parse(&arguments) {
        Ok(Command::Serve { address, port }) => match serve(&address, port) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("echo: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Command::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("echo: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
enum Command {
    Serve { address: String, port: u16 },
    Help,
}

/// Reads `[ADDRESS] [PORT]`, `ADDRESS:PORT` or `PORT`.
fn parse(arguments: &[String]) -> std::result::Result<Command, String> {
    if arguments.iter().any(|a| a == "-h" || a == "--help") {
        return Ok(Command::Help);
    }
    if let Some(option) = arguments.iter().find(|a| a.starts_with('-')) {
        return Err(format!("unknown option {option:?}"));
    }
    let (address, port) = match arguments {
        [] => ("127.0.0.1", "8000"),
        [address, port] => (&**address, &**port),
        [one] if one.bytes().all(|b| b.is_ascii_digit()) => ("127.0.0.1", &**one),
        [one] => match one.rsplit_once(':') {
            Some((address, port)) if one.parse::<Ipv6Addr>().is_err() && !one.ends_with(']') => {
                (address, port)
            }
            _ => (&**one, "8000"),
        },
        _ => return Err(format!("too many arguments: {}", arguments.len())),
    };
    let port = port
        .parse()
        .ok()
        .filter(|_| port.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| format!("not a port between 0 and 65535: {port:?}"))?;
    // Brackets keep the colons of an IPv6 address apart from the port's.
    let address = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    if address.is_empty() {
        return Err("the address is empty".to_owned());
    }
    Ok(Command::Serve {
        address: address.to_owned(),
        port,
    })
}
