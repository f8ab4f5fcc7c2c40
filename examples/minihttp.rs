//! One application on both servers: Greenwood's own, and `may_minihttp`.
//!
//! ```text
//! cargo run --release --features minihttp --example minihttp [PORT]
//! ```
//!
//! Greenwood's server listens on 127.0.0.1 at PORT (8000 unless given), `may_minihttp` at the port
//! behind it. `GET /plaintext` answers `Hello, World!` on both, and `GET /sleep` takes its time and
//! nobody else's. Ctrl-C ends the process.

use std::{env, io, process::ExitCode, time::Duration};

use greenwood::{
    Body, Environ, Result, StartResponse, WsgiServer, sleep, wsgi::minihttp::MiniHttpServer,
};

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let text = match &*environ.path() {
        "/plaintext" => "Hello, World!",
        "/sleep" => {
            sleep(Duration::from_secs(1));
            "slept for a second\n"
        }
        _ => {
            start_response("404 Not Found", &[("Content-Type", "text/plain")])?;
            return Ok("there are /plaintext and /sleep\n".into());
        }
    };
    start_response("200 OK", &[("Content-Type", "text/plain")])?;
    Ok(text.into())
}

fn serve(port: u16) -> io::Result<()> {
    let next = port
        .checked_add(1)
        .filter(|_| port != 0)
        .ok_or_else(|| io::Error::other("the port has to be from 1 to 65534"))?;
    MiniHttpServer::new(("127.0.0.1", next), app).start()?;
    let server = WsgiServer::new(("127.0.0.1", port), app);
    server.start()?;
    println!("greenwood on http://127.0.0.1:{port}/, may_minihttp on http://127.0.0.1:{next}/");
    server.serve_forever()
}

fn main() -> ExitCode {
    let port = match env::args().nth(1).map(|port| port.parse()) {
        None => 8000,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            eprintln!("usage: cargo run --release --features minihttp --example minihttp [PORT]");
            return ExitCode::from(2);
        }
    };
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minihttp: {error}");
            ExitCode::FAILURE
        }
    }
}
