//! The client as the target of the Autobahn test suite: runs all cases of a `fuzzingserver`, echoing
//! text as text and binary as binary, and has it write its report.
//!
//! ```text
//! cargo run --release --example autobahn_client -- HOST:PORT
//! ```
//!
//! `cargo xtask conformance --client` starts the suite's server at a free port and judges. `config`
//! is all that the client grants the suite: the sizes that group 9 asks for, and
//! `permessage-deflate`, which groups 12 and 13 are about.

use std::process::ExitCode;

use greenwood::{CloseCode, Connect, Deflate, Message, WebSocket, WebSocketConfig, WebSocketError};

type Failure = Box<dyn std::error::Error>;

/// Group 9 goes up to 16 MiB in one message; the defaults end at 1 MiB.
const MAX_MESSAGE: usize = 64 << 20;

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(MAX_MESSAGE)
        .deflate(Deflate::default())
}

fn connect(server: &str, path: &str) -> Result<WebSocket, Failure> {
    let url = format!("ws://{server}{path}");
    Ok(Connect::to(url).config(config()).connect()?)
}

/// Echoes until the server has done what the case is about: most of them are about how it ends.
fn echo(ws: &WebSocket) -> Result<(), WebSocketError> {
    while let Some(message) = ws.receive()? {
        ws.send(message)?;
    }
    Ok(())
}

fn run() -> Result<(), Failure> {
    let server = std::env::args()
        .nth(1)
        .ok_or("usage: autobahn_client HOST:PORT")?;
    let ws = connect(&server, "/getCaseCount")?;
    let count = ws.receive()?;
    let cases: usize = count
        .as_ref()
        .and_then(Message::as_text)
        .ok_or("the server does not say how many cases it has")?
        .trim()
        .parse()?;
    ws.close(CloseCode::NORMAL, "")?;
    for case in 1..=cases {
        let ws = connect(&server, &format!("/runCase?case={case}&agent=greenwood"))?;
        echo(&ws).ok();
        ws.close(CloseCode::NORMAL, "")?;
    }
    let ws = connect(&server, "/updateReports?agent=greenwood")?;
    // The suite may end the transport without a close frame.
    while let Ok(Some(_)) = ws.receive() {}
    println!("{cases} cases");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_client: {error}");
            ExitCode::FAILURE
        }
    }
}
