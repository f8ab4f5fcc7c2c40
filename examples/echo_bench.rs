//! The target of measurements: echoes text and binary messages of up to 64 MiB on every path,
//! without a page and without a log. At `/fanout` each message goes to all who are connected there.
//! `GET /plaintext` answers `Hello, World!`.
//!
//! ```text
//! cargo run --release --example echo_bench -- PORT [HUBS]
//! ```

use std::process::ExitCode;
use std::sync::LazyLock;

use greenwood::{
    Body, Environ, Hub, Result, StartResponse, Topic, TopicPolicy, WebSocketConfig,
    WebSocketEnviron, WebSocketHandler, WsgiServer,
};

const MAX_MESSAGE: usize = 64 << 20;

static ROOM: LazyLock<Topic> = LazyLock::new(|| Topic::new(TopicPolicy::Block));

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        if environ.path() == "/fanout" {
            let _subscription = ROOM.subscribe(&ws);
            while let Some(message) = ws.receive()? {
                ROOM.publish(message);
            }
            return Ok(Body::empty());
        }
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        return Ok(Body::empty());
    }
    if environ.path() == "/plaintext" {
        start_response("200 OK", &[("Content-Type", "text/plain")])?;
        return Ok("Hello, World!".into());
    }
    start_response("404 Not Found", &[("Content-Type", "text/plain")])?;
    Ok("this server echoes WebSocket messages\n".into())
}

fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments
        .next()
        .ok_or("usage: echo_bench PORT [HUBS]")?
        .parse()?;
    if let Some(hubs) = arguments.next() {
        Hub::config().hubs(hubs.parse()?).start()?;
    }
    let config = WebSocketConfig::default().max_message_size(MAX_MESSAGE);
    WsgiServer::new(("127.0.0.1", port), app)
        .handler(WebSocketHandler::new().config(config))
        .access_log(false)
        .backlog(1024)
        .serve_forever()?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_bench: {error}");
            ExitCode::FAILURE
        }
    }
}
