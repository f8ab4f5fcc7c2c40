//! Runs the example `echo` as a program of its own and looks at it from outside.
//!
//! `cargo test` builds the examples too; with `--test example_echo` it does not, so that one comes
//! after a `cargo build --example echo`.
#![expect(
    clippy::disallowed_types,
    reason = "plays the foreign side, without greenlets"
)]

mod running;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Output,
    time::{Duration, Instant},
};

use running::{DEADLINE, Server, example, wait};

/// The example's grace time.
const GRACE: Duration = Duration::from_secs(5);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[test]
fn page_is_served_whole_and_needs_nothing_else() {
    let server = Server::start(&["0"]);
    let response = server.request("GET / HTTP/1.1");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(response.header("cache-control"), "no-cache");
    assert!(
        response.body == include_bytes!("../examples/echo.html"),
        "the page is not examples/echo.html: was the example built before a change?"
    );
    let page = String::from_utf8(response.body).unwrap();
    // The policy lets the browser fetch nothing, so a reference would be dead at best.
    assert!(page.contains("default-src 'none'"));
    for reference in ["src=\"", "@import", "https://", "<link rel=\"stylesheet"] {
        assert!(!page.contains(reference), "the page has {reference:?}");
    }
}

#[test]
fn head_has_the_length_of_the_page_and_no_body() {
    let server = Server::start(&["0"]);
    let response = server.request("HEAD / HTTP/1.1");
    assert_eq!(response.status, 200);
    let length = include_bytes!("../examples/echo.html").len();
    assert_eq!(response.header("content-length"), length.to_string());
    assert_eq!(response.body, b"");
}

#[test]
fn unknown_paths_and_methods_are_refused_with_a_hint() {
    let server = Server::start(&["0"]);
    let response = server.request("GET /nowhere HTTP/1.1");
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert!(response.text().contains("/echo"));

    for (method, path, allowed) in [
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/echo", "GET, HEAD, POST"),
    ] {
        let response = server.request(&format!("{method} {path} HTTP/1.1\r\nContent-Length: 0"));
        assert_eq!(response.status, 405);
        assert_eq!(response.header("allow"), allowed);
    }

    let response = server.request("GET /echo HTTP/1.1");
    assert_eq!(response.status, 426);
    assert_eq!(response.header("upgrade"), "websocket");
    assert!(response.text().contains("WebSocket"));
}

#[test]
fn posted_body_comes_back() {
    let server = Server::start(&["0"]);
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
              Content-Type: text/html\r\nContent-Length: 5\r\n\r\nhello",
        )
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let response = Response::parse(&bytes);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "application/octet-stream");
    assert_eq!(response.body, b"hello");
}

#[test]
fn websocket_echoes_text_binary_and_pings() {
    let server = Server::start(&["0"]);
    let mut ws = server.websocket("/echo");
    for (opcode, payload) in [
        (TEXT, "grün wie der Wald".as_bytes()),
        (TEXT, b""),
        (BINARY, &[0, 255, 128]),
        (BINARY, &[7; 70_000]),
    ] {
        ws.send(opcode, payload);
        assert_eq!(ws.receive(), (opcode, payload.to_vec()));
    }
    ws.send(PING, b"are you there");
    assert_eq!(ws.receive(), (PONG, b"are you there".to_vec()));
    ws.send(CLOSE, &close(1000, "bye"));
    assert_eq!(code(&ws.receive()), 1000);
    ws.expect_end();
}

#[test]
fn websocket_elsewhere_is_closed_with_a_reason() {
    let server = Server::start(&["0"]);
    let mut ws = server.websocket("/");
    let frame = ws.receive();
    assert_eq!(code(&frame), 1008);
    assert_eq!(&frame.1[2..], b"the WebSocket is at /echo");
}

#[test]
fn interrupt_closes_websockets_with_1001_and_exits_0() {
    for signal in ["INT", "TERM"] {
        in_less_than_the_grace_time(|| {
            let mut server = Server::start(&["0"]);
            let mut ws = server.websocket("/echo");
            ws.send(TEXT, b"open");
            ws.receive();
            let _idle = server.idle();

            let began = Instant::now();
            server.signal(signal);
            let frame = ws.receive();
            assert_eq!(code(&frame), 1001, "SIG{signal}");
            ws.send(CLOSE, &frame.1);
            ws.expect_end();
            let (status, log) = server.wait();
            assert_eq!(status.code(), Some(0), "SIG{signal}");
            assert!(log.contains("open connections: 2 "), "{log}");
            began.elapsed()
        });
    }
}

/// Of a machine that is slow for a moment it is not asked at once.
#[track_caller]
fn in_less_than_the_grace_time(end: impl Fn() -> Duration) {
    let mut took = std::iter::repeat_with(end).take(3);
    assert!(took.any(|took| took < GRACE));
}

#[test]
fn peer_that_does_not_answer_the_close_cannot_hold_the_exit_up() {
    let mut server = Server::start(&["0"]);
    let mut ws = server.websocket("/echo");
    server.signal("INT");
    assert_eq!(code(&ws.receive()), 1001);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn second_interrupt_exits_at_once() {
    let second_in_time = || {
        let mut server = Server::start(&["0"]);
        let mut ws = server.websocket("/echo");
        server.signal("INT");
        assert_eq!(code(&ws.receive()), 1001);
        server.signal("INT");
        server.wait().0.code()
    };
    // At the end of the grace time it would be 0.
    let mut codes = std::iter::repeat_with(second_in_time).take(3);
    assert!(codes.any(|code| code == Some(130)));
}

#[test]
fn requests_are_logged_to_stderr() {
    let mut server = Server::start(&["0"]);
    server.request("GET / HTTP/1.1");
    server.request("GET /nowhere HTTP/1.1");
    server.signal("INT");
    let (_, log) = server.wait();
    assert!(log.contains("127.0.0.1 - - ["), "{log}");
    assert!(log.contains("\"GET / HTTP/1.1\" 200 "), "{log}");
    assert!(log.contains("\"GET /nowhere HTTP/1.1\" 404 "), "{log}");
}

#[test]
fn address_and_port_are_taken_in_every_form() {
    for arguments in [
        &["127.0.0.1", "0"][..],
        &["127.0.0.1:0"],
        &["localhost:0"],
        &["0.0.0.0", "0"],
    ] {
        let server = Server::start(arguments);
        assert_ne!(server.address.port(), 0, "{arguments:?}");
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        for arguments in [&["::1", "0"][..], &["[::1]:0"], &["[::1]", "0"]] {
            let server = Server::start(arguments);
            assert!(server.address.is_ipv6(), "{arguments:?}");
            assert_eq!(server.request("GET / HTTP/1.1").status, 200);
        }
    }
}

#[test]
fn bad_arguments_print_the_usage() {
    for (arguments, message) in [
        (&["--verbose"][..], "unknown option \"--verbose\""),
        (&["127.0.0.1", "http"], "not a port"),
        (&["127.0.0.1", "+5"], "not a port"),
        (&["70000"], "not a port between 0 and 65535: \"70000\""),
        (&[":8000"], "the address is empty"),
        (&["a", "1", "b"], "too many arguments: 3"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(message), "{arguments:?}: {errors}");
        assert!(errors.contains("usage: cargo run"), "{arguments:?}");
    }
    let output = run(&["--help"]);
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"usage: "));
}

#[test]
fn address_that_cannot_be_had_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&[&address]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.starts_with(&format!("echo: can't listen on {address}: ")),
        "{errors}"
    );
    assert_eq!(errors.matches("can't listen").count(), 1, "{errors}");
    let output = run(&["no-such-host.invalid"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.starts_with("echo: can't listen on no-such-host.invalid: "),
        "{errors}"
    );
    if let Ok(_taken) = TcpListener::bind("[::1]:8000") {
        // The address alone, and the default port.
        let errors = String::from_utf8(run(&["[::1]"]).stderr).unwrap();
        assert!(
            errors.starts_with("echo: can't listen on [::1]:8000: "),
            "{errors}"
        );
    }
}

#[test]
fn stdout_that_takes_nothing_is_an_error() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = example("echo")
        .args(["127.0.0.1", "0"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.starts_with("echo: can't write to stdout: "),
        "{errors}"
    );
}

/// Runs the example to its end.
fn run(arguments: &[&str]) -> Output {
    wait(example("echo").args(arguments).spawn().unwrap())
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        Server::start_example("echo", "http", arguments)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends a request, on a connection of its own; `head` goes without the headers that all have.
    fn request(&self, head: &str) -> Response {
        let mut stream = self.connect();
        let address = self.address;
        write!(
            stream,
            "{head}\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Response::parse(&bytes)
    }

    /// A connection that has been served, and stays.
    fn idle(&self) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).unwrap();
        assert_eq!(Response::parse(&read_head(&mut stream)).status, 200);
        stream
    }

    fn websocket(&self, path: &str) -> WebSocket {
        let mut stream = self.connect();
        // Key and answer are those of RFC 6455, 1.3.
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        )
        .unwrap();
        let response = Response::parse(&read_head(&mut stream));
        assert_eq!(response.status, 101);
        assert_eq!(
            response.header("sec-websocket-accept"),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        WebSocket { stream }
    }
}

struct Response {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Response {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a whole head");
        let head = str::from_utf8(&bytes[..end]).unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        Response {
            status: line.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_owned(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.trim())
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// Reads up to the empty line, and nothing behind it.
fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    head
}

struct WebSocket {
    stream: TcpStream,
}

impl WebSocket {
    /// Sends one whole frame, masked as a client's has to be.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).unwrap();
    }

    /// The next frame's opcode and payload.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.bytes();
        assert_eq!(first & 0xf0, 0x80, "a whole message in one frame");
        let length = match second {
            126 => u16::from_be_bytes(self.bytes()).into(),
            127 => u64::from_be_bytes(self.bytes()) as usize,
            length => length.into(),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        (first & 0x0f, payload)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The code of a close frame.
fn code((opcode, payload): &(u8, Vec<u8>)) -> u16 {
    assert_eq!(*opcode, CLOSE);
    u16::from_be_bytes([payload[0], payload[1]])
}
