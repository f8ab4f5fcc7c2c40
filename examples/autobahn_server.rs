//! The target of the Autobahn test suite: echoes text as text and binary as binary on every path,
//! in messages and frames of up to 64 MiB and any number of fragments.
//!
//! ```text
//! cargo run --release --example autobahn_server -- PORT [--parked]
//! ```
//!
//! With `--parked` the connections are served by callbacks, and hold no greenlet between messages.
//!
//! `cargo xtask conformance` starts it at a free port, runs the suite and judges. By hand: any
//! client of the suite, with `ws://127.0.0.1:PORT/` as the server.
//!
//! `config` is all that the server grants the suite: the sizes that group 9 asks for, and
//! `permessage-deflate`, which groups 12 and 13 are about.

use std::process::ExitCode;

use greenwood::{
    Body, Deflate, Environ, Resource, Result, Route, StartResponse, WebSocketApplication,
    WebSocketConfig, WebSocketEnviron, WebSocketHandler, WsgiServer,
};

/// Group 9 goes up to 16 MiB in one message; the defaults end at 1 MiB.
const MAX_MESSAGE: usize = 64 << 20;

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(MAX_MESSAGE)
        .deflate(Deflate::default())
}

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        return Ok(Body::empty());
    }
    start_response("404 Not Found", &[("Content-Type", "text/plain")])?;
    Ok("this server echoes WebSocket messages\n".into())
}

struct Echo;

// By default every message is sent back.
impl WebSocketApplication for Echo {}

fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments
        .next()
        .ok_or("usage: autobahn_server PORT [--parked]")?
        .parse()?;
    let address = ("127.0.0.1", port);
    let server = match arguments.next().as_deref() {
        None => WsgiServer::new(address, app),
        Some("--parked") => {
            WsgiServer::new(address, Resource::new([("/", Route::websocket(|_| Echo))])?)
        }
        Some(other) => return Err(format!("unknown option {other}").into()),
    };
    server
        .handler(WebSocketHandler::new().config(config()))
        .access_log(false)
        .serve_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_server: {error}");
            ExitCode::FAILURE
        }
    }
}
