//! What the examples with a page share: arguments, signals, and the answers to plain requests.

use std::{
    env, io,
    io::Write,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use greenwood::{
    Application, Body, Environ, Result, StartResponse, WebSocketHandler, WsgiServer,
    signal::{SIGINT, SIGTERM, Signals},
};

/// How long open connections get to end, once the server has been told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves at the address of the first argument (default: 127.0.0.1:8000) until Ctrl-C.
pub(crate) fn main(name: &str, handler: WebSocketHandler, app: impl Application) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .without_time() // the access log's lines have their own
        .with_target(false)
        .init();
    let mut arguments = env::args().skip(1);
    let address = arguments.next();
    let address = address.as_deref().unwrap_or("127.0.0.1:8000");
    if arguments.next().is_some() || address.starts_with('-') {
        eprintln!("usage: cargo run --release --example {name} [ADDRESS:PORT]");
        return ExitCode::from(2);
    }
    match serve(name, address, handler, app) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(
    name: &str,
    address: &str,
    handler: WebSocketHandler,
    app: impl Application,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = WsgiServer::new(address, app).handler(handler);
    server.start()?;
    let local = server.local_addr()?;
    writeln!(
        io::stdout(),
        "{name} server on http://{local}/ (Ctrl-C to stop)"
    )?;

    // The greenlets do the work; this thread has only the signals to wait for.
    signals.next();
    // A second signal ends the process where it stands: on a thread, so that a hub that is held up
    // does not hold it up.
    thread::spawn(move || {
        if let Some(signal) = signals.next() {
            process::exit(128 + signal);
        }
    });
    server.stop(GRACE);
    Ok(())
}

/// Answers a request that asks for no WebSocket: the page at `/`, and nothing else.
pub(crate) fn answer(
    environ: &Environ,
    start_response: StartResponse<'_>,
    page: &'static str,
) -> Result<Body> {
    match (environ.method(), &*environ.path()) {
        ("GET" | "HEAD", "/") => {
            let headers = [
                ("Content-Type", "text/html; charset=utf-8"),
                ("Cache-Control", "no-cache"),
                ("X-Content-Type-Options", "nosniff"),
            ];
            start_response("200 OK", &headers)?;
            Ok(page.into())
        }
        (_, "/") => {
            start_response("405 Method Not Allowed", &[("Allow", "GET, HEAD")])?;
            Ok(Body::empty())
        }
        _ => {
            let content_type = ("Content-Type", "text/plain; charset=utf-8");
            start_response("404 Not Found", &[content_type])?;
            Ok("There is a page at /.\n".into())
        }
    }
}
