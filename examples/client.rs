//! A WebSocket client for the command line, like `python -m websockets` and `wscat`: each line of
//! stdin is sent as a text message, and what comes is printed.
//!
//! ```text
//! cargo run --release --example client -- ws://127.0.0.1:8000/echo
//! ```
//!
//! (with the example `echo` at that address). `--help` lists the options. Messages go to stdout,
//! text as it is and of binary ones the length and the first bytes; everything else goes to stderr.
//! The end of stdin (Ctrl-D) closes the connection with 1000, once what comes back has been quiet
//! for a moment. The exit code is 0 if the connection ended with a closing handshake by 1000 or 1001,
//! 1 if it ended otherwise or never came about, and 2 for wrong arguments.

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use greenwood::{
    CloseCode, Connect, ConnectError, Deflate, Message, WebSocket, WebSocketConfig, WebSocketError,
    runtime::net::ClientTls, sleep, spawn,
};

const USAGE: &str = "\
usage: cargo run --release --example client -- URL [OPTION]...

  URL                     ws://… or wss://…, with USER:PASSWORD@ for Basic authorization
  --subprotocol NAME      offer a subprotocol; the preferred one first
  --header 'NAME: VALUE'  add a header to the request
  --deflate               offer compression (permessage-deflate)
  --ca-file FILE          trust the certificates in FILE (PEM), and not the system's
  --insecure              take any certificate: who it is remains unknown
";

/// The longest message that is taken.
const MAX_MESSAGE: usize = 64 << 20;

/// How long it must have been quiet after the end of stdin.
const QUIET: Duration = Duration::from_millis(500);

/// So much of a binary message is shown.
const SHOWN: usize = 32;

/// What the arguments ask for.
fn parse(arguments: &[String]) -> Result<Connect, Box<dyn Error>> {
    let mut url = None;
    let mut subprotocols = Vec::new();
    let mut headers = Vec::new();
    let mut deflate = false;
    let (mut ca_file, mut insecure) = (None, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("{argument} lacks its value"))
        };
        match &**argument {
            "--subprotocol" => subprotocols.push(value()?.clone()),
            "--header" => {
                let line = value()?;
                let (name, value) = line
                    .split_once(':')
                    .ok_or_else(|| format!("not a header: {line:?}"))?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            "--deflate" => deflate = true,
            "--ca-file" => ca_file = Some(value()?.clone()),
            "--insecure" => insecure = true,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option:?}").into());
            }
            _ if url.is_none() => url = Some(argument.clone()),
            more => return Err(format!("one URL only: {more:?} is too much").into()),
        }
    }
    let config = WebSocketConfig::default().max_message_size(MAX_MESSAGE);
    let mut connect = Connect::to(url.ok_or("no URL")?)
        .subprotocols(subprotocols)
        .config(config);
    for (name, value) in headers {
        connect = connect.header(name, value);
    }
    if deflate {
        connect = connect.deflate(Deflate::default());
    }
    if ca_file.is_some() || insecure {
        let mut tls = ClientTls::builder();
        if let Some(file) = ca_file {
            tls = tls.system_roots(false).ca_certs(file);
        }
        if insecure {
            tls = tls.system_roots(false).dangerous_accept_any_certificate();
        }
        connect = connect.tls(tls.build()?);
    }
    Ok(connect)
}

/// Counts what has come, so that who waits for quiet can see that there is none.
#[derive(Default)]
struct Received {
    messages: AtomicU64,
    has_ended: AtomicBool,
}

/// Prints what comes until the connection ends.
fn receive(ws: &WebSocket, received: &Received) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut result = Ok(());
    loop {
        match ws.receive() {
            Ok(Some(message)) => {
                received.messages.fetch_add(1, Ordering::Relaxed);
                print(&message)?;
            }
            Ok(None) => break,
            Err(error) => {
                result = Err(error.into());
                break;
            }
        }
    }
    received.has_ended.store(true, Ordering::Relaxed);
    result
}

fn print(message: &Message) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match message {
        Message::Text(text) => writeln!(stdout, "{text}")?,
        Message::Binary(bytes) => {
            write!(stdout, "({} bytes:", bytes.len())?;
            for byte in bytes.iter().take(SHOWN) {
                write!(stdout, " {byte:02x}")?;
            }
            let more = if bytes.len() > SHOWN { " …" } else { "" };
            writeln!(stdout, "{more})")?;
        }
    }
    stdout.flush()
}

/// Sends the lines of stdin, and closes behind them. Reading a terminal or a pipe blocks, so this is
/// for a plain thread: a hub would stand still.
fn send_lines(ws: &WebSocket, received: &Received) -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lock().lines() {
        match ws.send(line?) {
            // The other side tells how it ended.
            Err(WebSocketError::Closed | WebSocketError::Disconnected(_)) => return Ok(()),
            sent => sent?,
        }
    }
    let mut before = None;
    loop {
        let now = received.messages.load(Ordering::Relaxed);
        if before == Some(now) || received.has_ended.load(Ordering::Relaxed) {
            break;
        }
        before = Some(now);
        sleep(QUIET);
    }
    Ok(ws.close(CloseCode::NORMAL, "")?)
}

fn run(connect: &Connect) -> Result<ExitCode, Box<dyn Error>> {
    let ws = connect.connect()?;
    match ws.subprotocol() {
        Some(name) => eprintln!("connected; subprotocol: {name}"),
        None => eprintln!("connected"),
    }
    let received = Arc::new(Received::default());
    let receiving = {
        let (ws, received) = (ws.clone(), Arc::clone(&received));
        spawn(move || receive(&ws, &received))
    };
    {
        let ws = ws.clone();
        // It can't be ended while it waits for a line: the process does not wait for it.
        thread::spawn(move || {
            if let Err(error) = send_lines(&ws, &received) {
                eprintln!("client: {error}");
                ws.close(CloseCode::GOING_AWAY, "").ok();
            }
        });
    }
    let result = receiving.join()?;
    let Some(end) = ws.disconnect() else {
        // Not what came, but stdout was the trouble.
        ws.close(CloseCode::GOING_AWAY, "").ok();
        result.map_err(|error| format!("{error}"))?;
        return Ok(ExitCode::FAILURE);
    };
    eprintln!("{end}");
    let code = end.close_code();
    let is_normal = matches!(code, CloseCode::NORMAL | CloseCode::GOING_AWAY);
    Ok(ExitCode::from(u8::from(!end.is_clean() || !is_normal)))
}

/// The error with its causes, and what a server says about a refusal.
fn explain(error: &(dyn Error + 'static)) {
    let mut line = format!("client: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    eprintln!("{line}");
    if let Some(ConnectError::Refused(refusal)) = error.downcast_ref() {
        let body = String::from_utf8_lossy(refusal.body());
        if !body.trim().is_empty() {
            eprintln!("{}", body.trim_end());
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "-h" || a == "--help") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let connect = match parse(&arguments) {
        Ok(connect) => connect,
        Err(error) => {
            eprint!("client: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    run(&connect).unwrap_or_else(|error| {
        explain(&*error);
        ExitCode::FAILURE
    })
}
