//! The target of measurements: echoes text and binary messages of up to 64 MiB on every path,
//! without a page and without a log. At `/fanout` each message goes to all who are connected there.
//! `GET /plaintext` answers `Hello, World!`.
//!
//! ```text
//! cargo run --release --example echo_bench -- PORT [HUBS] [--parked]
//! ```
//!
//! With `--parked` the connections are served by callbacks, and hold no greenlet between messages.

use std::process::ExitCode;
use std::sync::LazyLock;

use greenwood::{
    Body, Environ, Hub, Resource, Result, Route, StartResponse, Topic, TopicPolicy, WebSocket,
    WebSocketApplication, WebSocketConfig, WebSocketEnviron, WebSocketHandler, WsgiServer,
};

const MAX_MESSAGE: usize = 64 << 20;

static ROOM: LazyLock<Topic> = LazyLock::new(|| Topic::new(TopicPolicy::Block));

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        if environ.path() == "/fanout" {
            return fan_out(&ws);
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

// Not inlined: its stack frame would be there for every connection.
#[inline(never)]
fn fan_out(ws: &WebSocket) -> Result<Body> {
    let _subscription = ROOM.subscribe(ws);
    while let Some(message) = ws.receive()? {
        ROOM.publish(message);
    }
    Ok(Body::empty())
}

struct Echo;

// By default every message is sent back.
impl WebSocketApplication for Echo {}

fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (options, arguments): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|it| it.starts_with("--"));
    let parked = match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--parked"] => true,
        _ => return Err("the only option is --parked".into()),
    };
    let mut arguments = arguments.into_iter();
    let port: u16 = arguments
        .next()
        .ok_or("usage: echo_bench PORT [HUBS] [--parked]")?
        .parse()?;
    if let Some(hubs) = arguments.next() {
        Hub::config().hubs(hubs.parse()?).start()?;
    }
    let config = WebSocketConfig::default().max_message_size(MAX_MESSAGE);
    let address = ("127.0.0.1", port);
    let server = if parked {
        let routes = [
            ("/", Route::websocket(|_| Echo)),
            ("/", Route::application(app)),
        ];
        WsgiServer::new(address, Resource::new(routes)?)
    } else {
        WsgiServer::new(address, app)
    };
    server
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
