//! The client against a server that others wrote: starts it, checks everything, and kills it.
//!
//! ```text
//! cargo run --release --example interop_client -- CERTFILE COMMAND…
//! ```
//!
//! COMMAND runs one of the servers of `interop/`, whose first line has its URLs: `plain` without
//! compression, `deflate` with it, `small` with the smallest windows, and `secure` by TLS with the
//! certificate in CERTFILE. `cargo xtask interop` does that for all of them.

use std::{
    error::Error,
    fmt::Debug,
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitCode, Stdio, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use greenwood::{
    CloseCode, Connect, ConnectError, Deflate, Message, Refusal, WebSocket, WebSocketConfig,
    runtime::net::ClientTls,
    sleep, spawn,
    websocket::{Disconnect, Frame, OpCode},
};

type Checked = Result<(), Box<dyn Error>>;

/// For one case.
const LIMIT: Duration = Duration::from_secs(60);

const MIB: usize = 1 << 20;

/// How long the message is that is made, and received, in parts; and how much memory that may take.
const STREAM: usize = 256 * MIB;
const STREAM_MEMORY: usize = 16 * MIB;

/// The lengths at which frames change their form, and some beyond what is read or written at once.
const SIZES: [usize; 12] = [
    0,
    1,
    125,
    126,
    127,
    4097,
    65_535,
    65_536,
    65_537,
    MIB,
    3 * MIB + 1,
    8 * MIB,
];

/// Where the server is, and whom to trust.
struct Foreign {
    child: Child,
    urls: Vec<(String, String)>,
    tls: ClientTls,
}

impl Foreign {
    fn start(certfile: &str, command: &[String]) -> Result<Foreign, Box<dyn Error>> {
        let (program, arguments) = command.split_first().ok_or("no COMMAND")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let urls = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(name, url)| (name.to_owned(), url.to_owned()));
        Ok(Foreign {
            child,
            urls: urls.collect(),
            tls: ClientTls::builder()
                .system_roots(false)
                .ca_certs(certfile)
                .build()?,
        })
    }

    fn url(&self, kind: &str, path: &str) -> String {
        let url = self.urls.iter().find(|(name, _)| name == kind);
        let (_, base) =
            url.unwrap_or_else(|| panic!("the server has no {kind} in {:?}", self.urls));
        format!("{base}{path}")
    }

    /// How to connect to a path of one of its ports; compression is offered where it is about that.
    fn at(&self, kind: &str, path: &str) -> Connect {
        let config = WebSocketConfig::default().max_message_size(64 * MIB);
        let connect = Connect::to(self.url(kind, path))
            .tls(self.tls.clone())
            .config(config);
        match kind {
            "plain" => connect,
            _ => connect.deflate(Deflate::default().context_takeover(true, true)),
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What both sides make and expect: `length` bytes that no shift leaves the same.
fn pattern(length: usize) -> Vec<u8> {
    (0..251).cycle().take(length).collect()
}

fn same<T: PartialEq + Debug>(actual: T, expected: T, what: &str) -> Checked {
    match actual == expected {
        true => Ok(()),
        // Some are megabytes.
        false => Err(format!("{what} is {actual:.200?}, and not {expected:.200?}").into()),
    }
}

fn text(ws: &WebSocket) -> Result<String, Box<dyn Error>> {
    match ws.receive()? {
        Some(Message::Text(text)) => Ok(text),
        other => Err(format!("no text, but {other:?}").into()),
    }
}

/// Closes, and has it end cleanly.
fn close(ws: &WebSocket) -> Checked {
    ws.close(CloseCode::NORMAL, "done")?;
    match ws.disconnect() {
        Some(Disconnect::LocalClosed(frame)) if frame.reason == "done" => Ok(()),
        other => Err(format!("closed otherwise: {other:?}").into()),
    }
}

fn refused(connect: &Connect) -> Result<Box<Refusal>, Box<dyn Error>> {
    match connect.connect() {
        Err(ConnectError::Refused(refusal)) => Ok(refusal),
        Err(error) => Err(error.into()),
        Ok(_) => Err("it was not refused".into()),
    }
}

fn echo(foreign: &Foreign, kind: &str) -> Checked {
    let ws = foreign.at(kind, "/echo").connect()?;
    // Twice, for the sake of what compression remembers.
    for length in SIZES.into_iter().chain(SIZES) {
        let bytes = pattern(length);
        ws.send(&bytes)?;
        let what = format!("binary of {length} bytes");
        same(ws.receive()?, Some(Message::Binary(bytes)), &what)?;
        let long = "\u{e4}\u{20ac}\u{1f600}".repeat(length / 9);
        ws.send(&long)?;
        same(ws.receive()?, Some(Message::Text(long)), &what)?;
    }
    // Many at once, so that both sides' buffers hold parts of frames.
    for i in 0..1000 {
        ws.send(format!("message {i} {}", "x".repeat(i)))?;
    }
    for i in 0..1000 {
        let expected = format!("message {i} {}", "x".repeat(i));
        same(text(&ws)?, expected, "one of many messages")?;
    }
    close(&ws)
}

fn echo_in_fragments(foreign: &Foreign, kind: &str) -> Checked {
    let ws = foreign.at(kind, "/echo").connect()?;
    for length in [0, 1, 1000, 100_000, 3 * MIB] {
        let bytes = pattern(length);
        let mut message = ws.binary_writer()?;
        for piece in bytes.chunks(length / 7 + 1) {
            message.write_all(piece)?;
            message.flush()?;
            ws.ping(b"in between")?;
        }
        message.finish()?;
        let mut received = Vec::new();
        let mut message = ws.next_reader()?.ok_or("closed")?;
        message.read_to_end(&mut received)?;
        same(received, bytes, "a message in fragments")?;
    }
    // Frame by frame, a character cut in two.
    for frame in [
        Frame::more(OpCode::Text, b"gr\xc3"),
        Frame::more(OpCode::Continuation, ""),
        Frame::of(OpCode::Continuation, b"\xbcn"),
    ] {
        ws.send_frame(frame)?;
    }
    same(text(&ws)?, "gr\u{fc}n".to_owned(), "text in frames")?;
    close(&ws)
}

fn fragments_of_the_server(foreign: &Foreign, kind: &str) -> Checked {
    let ws = foreign.at(kind, "/fragments").connect()?;
    same(text(&ws)?, "one two three".to_owned(), "the text")?;
    let expected = Message::Binary(pattern(300_000));
    same(ws.receive()?, Some(expected), "the binary")?;
    same(text(&ws)?, "whole".to_owned(), "the message behind them")?;
    close(&ws)
}

fn pings(foreign: &Foreign, kind: &str) -> Checked {
    let ws = foreign.at(kind, "/ping").connect()?;
    // Its ping is answered while this waits.
    same(text(&ws)?, "pong: are you there".to_owned(), "the answer")?;
    let interval = Duration::from_millis(10);
    let config = WebSocketConfig::default().ping(interval, LIMIT);
    let pinging = foreign.at(kind, "/echo").config(config).connect()?;
    let began = Instant::now();
    while pinging.rtt().is_none() && began.elapsed() < LIMIT {
        pinging.send("round")?;
        same(text(&pinging)?, "round".to_owned(), "the echo")?;
    }
    pinging.rtt().ok_or("the server's pongs are not seen")?;
    close(&pinging)?;
    // And as frames.
    let raw = foreign.at("plain", "/echo").connect()?;
    raw.ping(b"payload")?;
    same(
        raw.receive_frame()?,
        Some(Frame::of(OpCode::Pong, "payload")),
        "the pong",
    )?;
    close(&ws)
}

fn closing(foreign: &Foreign, kind: &str) -> Checked {
    for (code, reason) in [
        (1000, ""),
        (1001, "going"),
        (4999, "gr\u{fc}n"),
        (1011, "x"),
    ] {
        // The server first.
        let path = format!("/close?{code},{}", reason.replace('\u{fc}', "%C3%BC"));
        let ws = foreign.at(kind, &path).connect()?;
        same(ws.receive()?, None, "the end")?;
        let Some(Disconnect::PeerClosed(Some(frame))) = ws.disconnect() else {
            return Err(format!("closed otherwise: {:?}", ws.disconnect()).into());
        };
        same(frame.code.as_u16(), code, "the code")?;
        same(&*frame.reason, reason, "the reason")?;
        // The client first.
        let ws = foreign.at(kind, "/closed").connect()?;
        let code = CloseCode::from(code);
        ws.close(code, reason)?;
        match ws.disconnect() {
            Some(Disconnect::LocalClosed(frame)) if frame.code == code => {}
            other => return Err(format!("closed otherwise: {other:?}").into()),
        }
        let expected = format!("{} {reason}", code.as_u16());
        same(
            last_close(foreign, kind, &expected)?,
            expected,
            "what the server saw",
        )?;
    }
    // By the last handle's drop.
    drop(foreign.at(kind, "/closed").connect()?);
    same(
        last_close(foreign, kind, "1001 ")?,
        "1001 ".to_owned(),
        "what the server saw",
    )
}

/// How the last connection to `/closed` ended, as the server sees it. It may see it a moment later.
fn last_close(foreign: &Foreign, kind: &str, expected: &str) -> Result<String, Box<dyn Error>> {
    let began = Instant::now();
    loop {
        let last = text(&foreign.at(kind, "/last").connect()?)?;
        if last == expected || began.elapsed() > Duration::from_secs(5) {
            return Ok(last);
        }
    }
}

fn request(foreign: &Foreign, kind: &str) -> Checked {
    let large = "x".repeat(6000);
    let ws = foreign
        .at(kind, "/headers?a=b%20c")
        .subprotocols(["unknown", "chat.v2", "chat.v1"])
        .header("X-Custom", "gr\u{fc}n")
        .header("Cookie", "a=b; c=d")
        .header("Origin", "http://example.org")
        .header("X-Large", &large)
        .connect()?;
    same(ws.subprotocol(), Some("chat.v2"), "the subprotocol")?;
    let seen = text(&ws)?;
    for line in [
        "target: /headers?a=b%20c",
        "cookie: a=b; c=d",
        "origin: http://example.org",
        &format!("x-large: {large}"),
        "upgrade: websocket",
        "sec-websocket-version: 13",
    ] {
        if !seen.lines().any(|seen| seen == line) {
            return Err(format!("the server has not seen {line:.80}").into());
        }
    }
    close(&ws)?;
    let ws = foreign.at(kind, "/headers").connect()?;
    same(ws.subprotocol(), None, "no subprotocol")?;
    close(&ws)
}

fn refusals(foreign: &Foreign, kind: &str) -> Checked {
    for (path, status, body) in [
        ("/auth", 401, "who are you"),
        ("/forbidden", 403, "not you"),
        ("/nowhere", 404, "nothing here"),
        ("/chunked", 503, "come back later"),
    ] {
        let began = Instant::now();
        let refusal = refused(&foreign.at(kind, path))?;
        same(refusal.status(), status, path)?;
        same(refusal.body(), body.as_bytes(), path)?;
        if began.elapsed() > Duration::from_secs(5) {
            return Err(format!("{path} took {:?}", began.elapsed()).into());
        }
    }
    let refusal = refused(&foreign.at(kind, "/moved"))?;
    same(refusal.status(), 302, "the redirection")?;
    let to = refusal.head().header_values("location").next();
    same(to, Some(&b"/echo"[..]), "its place")?;
    let url = foreign
        .url(kind, "/auth")
        .replace("://", "://me:5ec%20ret@");
    let known = Connect::to(url).tls(foreign.tls.clone()).connect()?;
    same(text(&known)?, "welcome".to_owned(), "the greeting")?;
    close(&known)
}

fn frames_behind_the_handshake(foreign: &Foreign, kind: &str) -> Checked {
    for _ in 0..50 {
        let ws = foreign.at(kind, "/greet").connect()?;
        same(text(&ws)?, "first".to_owned(), "the first")?;
        same(text(&ws)?, "second".to_owned(), "the second")?;
        same(ws.receive()?, None, "the end")?;
    }
    Ok(())
}

fn streams(foreign: &Foreign, kind: &str) -> Checked {
    // It begins anew with each piece of this length; and is longer than any part that comes.
    let period = pattern(251 * 512);
    let before = peak()?;
    let ws = foreign.at(kind, "/count").connect()?;
    let mut message = ws.binary_writer()?;
    let mut left = STREAM;
    while left > 0 {
        let piece = &period[..period.len().min(left)];
        message.write_all(piece)?;
        left -= piece.len();
    }
    message.finish()?;
    same(text(&ws)?, format!("{STREAM} true"), "what the server got")?;
    close(&ws)?;
    let sent = peak()?;

    let ws = foreign.at(kind, &format!("/stream?{STREAM}")).connect()?;
    let mut message = ws.next_reader()?.ok_or("closed")?;
    let mut received = 0;
    while let Some(chunk) = message.chunk()? {
        let at = received % 251;
        same(&chunk[..], &period[at..at + chunk.len()], "a part")?;
        received += chunk.len();
    }
    same(received, STREAM, "the length")?;
    close(&ws)?;
    let after = peak()?;
    println!(
        "        {} MiB each way: the most memory was {} KiB before, {} behind the sending, {} behind \
         the receiving",
        STREAM / MIB,
        before >> 10,
        sent >> 10,
        after >> 10
    );
    match after - before > STREAM_MEMORY {
        true => Err(format!("it took {} bytes of memory", after - before).into()),
        false => Ok(()),
    }
}

/// The most memory that this process has had at a time, in bytes.
fn peak() -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmHWM")?.parse::<usize>()? << 10)
}

fn certificates(foreign: &Foreign, kind: &str) -> Checked {
    let url = foreign.url(kind, "/echo");
    // A name that is not in the certificate, and a certificate that nobody trusts.
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let elsewhere = Connect::to(elsewhere).tls(foreign.tls.clone());
    for connect in [elsewhere, Connect::to(&url)] {
        match connect.connect() {
            Err(ConnectError::Tls(_)) => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    // And TLS to who speaks none.
    let plain = foreign.url("plain", "/echo").replace("ws://", "wss://");
    match Connect::to(plain).tls(foreign.tls.clone()).connect() {
        Err(ConnectError::Tls(_) | ConnectError::Io(_)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// The last case: the server dies while a client waits, and another is about to connect.
fn vanishing(mut foreign: Foreign) -> Checked {
    let (plain, secure) = (
        foreign.at("plain", "/echo").connect()?,
        foreign.at("secure", "/echo").connect()?,
    );
    let waiting: Vec<_> = [plain.clone(), secure.clone()]
        .map(|ws| spawn(move || ws.receive().map(|_| ()).map_err(|error| error.to_string())))
        .into();
    foreign.child.kill()?;
    foreign.child.wait()?;
    for waiting in waiting {
        match waiting.join() {
            Ok(Err(_)) => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    for ws in [&plain, &secure] {
        same(
            ws.disconnect().map(|end| end.close_code().as_u16()),
            Some(1006),
            "the code",
        )?;
    }
    match foreign.at("plain", "/echo").connect() {
        Err(ConnectError::Io(_)) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Runs a case; the process ends if it takes too long.
fn case(name: &str, body: impl FnOnce() -> Checked) -> bool {
    let began = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let (watched, late) = (
        Arc::clone(&done),
        format!("FAILED  {name}: not within {LIMIT:?}"),
    );
    thread::spawn(move || {
        sleep(LIMIT);
        if !watched.load(Ordering::Relaxed) {
            println!("{late}");
            exit(1);
        }
    });
    let result = body();
    done.store(true, Ordering::Relaxed);
    match &result {
        Ok(()) => println!("ok      {name} ({} ms)", began.elapsed().as_millis()),
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            println!(
                "FAILED  {name}: {error:.1000} {}",
                cause.unwrap_or_default()
            );
        }
    }
    result.is_ok()
}

type Case = fn(&Foreign, &str) -> Checked;

const CASES: [(&str, Case, &[&str]); 10] = [
    // First, as the others raise the most memory that the process has had.
    ("streams in bounded memory", streams, &["plain"]),
    (
        "messages of all sizes",
        echo,
        &["plain", "deflate", "small", "secure"],
    ),
    (
        "fragments there",
        echo_in_fragments,
        &["plain", "deflate", "small", "secure"],
    ),
    (
        "fragments back",
        fragments_of_the_server,
        &["plain", "deflate", "secure"],
    ),
    ("pings both ways", pings, &["plain", "secure"]),
    ("closing, by either side", closing, &["plain", "secure"]),
    (
        "headers and subprotocols",
        request,
        &["plain", "deflate", "secure"],
    ),
    ("refusals", refusals, &["plain", "secure"]),
    (
        "frames behind the handshake",
        frames_behind_the_handshake,
        &["plain", "secure"],
    ),
    ("certificates", certificates, &["secure"]),
];

fn run(certfile: &str, command: &[String]) -> Result<(usize, usize), Box<dyn Error>> {
    let foreign = Arc::new(Foreign::start(certfile, command)?);
    let (mut passed, mut failed) = (0, 0);
    let mut count = |ok: bool| if ok { passed += 1 } else { failed += 1 };
    for (name, body, kinds) in CASES {
        for kind in kinds {
            // On a plain thread, and then in a greenlet.
            count(case(&format!("{name}, {kind}, thread"), || {
                body(&foreign, kind)
            }));
            let foreign = Arc::clone(&foreign);
            count(case(&format!("{name}, {kind}, greenlet"), move || {
                let greenlet = spawn(move || body(&foreign, kind).map_err(|e| e.to_string()));
                Ok(greenlet.join()??)
            }));
        }
    }
    let foreign = Arc::into_inner(foreign).ok_or("a case goes on")?;
    count(case("server that vanishes", || vanishing(foreign)));
    Ok((passed, failed))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((certfile, command)) = arguments.split_first() else {
        eprintln!("usage: interop_client CERTFILE COMMAND…");
        return ExitCode::from(2);
    };
    match run(certfile, command) {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            ExitCode::from(u8::from(failed > 0))
        }
        Err(error) => {
            eprintln!("interop_client: {error}");
            ExitCode::FAILURE
        }
    }
}
