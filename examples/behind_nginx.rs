//! A server behind nginx, which ends TLS: `nginx.conf` beside this file is the other side.
//!
//! ```text
//! cargo run --release --example behind_nginx -- [PORT|PATH] [PING_MS]
//! ```
//!
//! PORT is 8000 unless given; a PATH, with a slash in it, is that of a Unix socket, which nginx's
//! workers have to be able to write to. Idle WebSockets are pinged every 20 s, a third of nginx's
//! `proxy_read_timeout`; PING_MS is another interval in milliseconds, 0 for no pings. The WebSocket
//! at `/ws` echoes, `/whoami` says who asks, and a body posted to `/body` comes back.

use std::{error::Error, io::Read, process::ExitCode, time::Duration};

use greenwood::{
    Body, CloseCode, Deflate, Environ, Result, StartResponse, WebSocketConfig, WebSocketEnviron,
    WebSocketHandler, WsgiServer,
    signal::{SIGINT, SIGTERM, Signals},
};

const MAX_MESSAGE: usize = 16 << 20;

/// A client that answers no ping for so long is gone. With the interval it is less than nginx's
/// `proxy_read_timeout`, so that this end comes first, with a code.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// How long open connections get to end, once the server has been told to stop.
const GRACE: Duration = Duration::from_secs(5);

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        if environ.path() != "/ws" {
            ws.close(CloseCode::POLICY_VIOLATION, "the WebSocket is at /ws")?;
            return Ok(Body::empty());
        }
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        return Ok(Body::empty());
    }
    let text = [("Content-Type", "text/plain; charset=utf-8")];
    match (environ.method(), &*environ.path()) {
        ("GET" | "HEAD", "/whoami") => {
            let who = whoami(environ);
            start_response("200 OK", &text)?;
            Ok(who.into())
        }
        ("POST", "/body") => {
            let mut body = Vec::new();
            environ.input().read_to_end(&mut body)?;
            start_response("200 OK", &[("Content-Type", "application/octet-stream")])?;
            Ok(body.into())
        }
        _ => {
            start_response("404 Not Found", &text)?;
            Ok("there are /ws, /whoami and /body\n".into())
        }
    }
}

/// The client as nginx sees it. The peer of the connection is nginx, and nobody else: this server
/// listens on 127.0.0.1 or at a path, so the headers can be believed.
fn whoami(environ: &Environ) -> String {
    let header = |name| environ.header(name).unwrap_or("?");
    format!(
        "{} {} {}\n",
        header("x-forwarded-for"),
        header("x-forwarded-proto"),
        header("host")
    )
}

/// Whether a page may connect: one of this very host, or no page at all.
fn allowed(origin: Option<&str>, environ: &Environ) -> bool {
    let host = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
    match origin {
        None => true,
        Some(origin) => host(origin).as_deref() == environ.header("host"),
    }
}

fn serve(place: &str, ping: Duration) -> std::result::Result<(), Box<dyn Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut config = WebSocketConfig::default()
        .max_message_size(MAX_MESSAGE)
        .deflate(Deflate::default());
    if !ping.is_zero() {
        config = config.ping(ping, PONG_TIMEOUT);
    }
    let handler = WebSocketHandler::new().config(config).origin(allowed);
    let server = match place.contains('/') {
        true => WsgiServer::unix(place, app),
        false => {
            let neither = |_| format!("{place:?} is no port, nor a path with a slash in it");
            let port: u16 = place.parse().map_err(neither)?;
            WsgiServer::new(("127.0.0.1", port), app)
        }
    };
    let server = server.handler(handler);
    server.start()?;
    eprintln!("listening on {}", server.address()?);
    signals.next();
    server.stop(GRACE);
    Ok(())
}

fn run() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (place, ping) = match &arguments[..] {
        [] => ("8000", 20_000),
        [place] => (&**place, 20_000),
        [place, ping] => (&**place, ping.parse()?),
        _ => return Err("usage: behind_nginx [PORT|PATH] [PING_MS]".into()),
    };
    serve(place, Duration::from_millis(ping))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("behind_nginx: {error}");
            ExitCode::FAILURE
        }
    }
}
