//! What the tests of the blocking layer share: a server that stops with its test, and a peer on
//! std's sockets that knows frames only as bytes.
#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(
    clippy::disallowed_types,
    reason = "the peer is the foreign side, on a plain thread"
)]

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime::{Hub, State, run_info};
use greenwood_websocket::{WebSocket, WebSocketConfig, WebSocketEnviron, WebSocketHandler};
use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse, WsgiServer};

/// No answer takes that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Time limits within which the peer has to do something: of a slow machine it may miss the first.
pub(crate) const LIMITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// Far more than any test may take: what waits for it fails.
pub(crate) const NEVER: Duration = Duration::from_secs(600);

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The example of RFC 6455, 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Ends the process when a test has hung.
pub(crate) struct Watchdog(#[allow(dead_code)] mpsc::Sender<()>);

pub(crate) fn watchdog() -> Watchdog {
    watchdog_of(Duration::from_secs(240))
}

pub(crate) fn watchdog_of(limit: Duration) -> Watchdog {
    let (alive, ended) = mpsc::channel();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} has hung");
            std::process::abort();
        }
    });
    Watchdog(alive)
}

/// A server that stops when its test ends.
pub(crate) struct Server {
    pub(crate) server: WsgiServer,
    pub(crate) address: SocketAddr,
    _watchdog: Watchdog,
}

pub(crate) fn serve_app(handler: WebSocketHandler, app: impl Application) -> Server {
    let watchdog = watchdog();
    let server = WsgiServer::new("127.0.0.1:0", app).handler(handler);
    server.start().unwrap();
    let address = server.local_addr().unwrap();
    Server {
        server,
        address,
        _watchdog: watchdog,
    }
}

/// A server whose WebSockets are given to `serve`; other requests get "plain".
pub(crate) fn serve_with(
    config: WebSocketConfig,
    serve: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static,
) -> Server {
    let app = move |environ: &mut Environ, start_response: StartResponse<'_>| {
        if let Some(ws) = environ.websocket() {
            serve(ws)?;
            return Ok(Body::empty());
        }
        start_response("200 OK", &[])?;
        Ok("plain".into())
    };
    serve_app(WebSocketHandler::new().config(config), app)
}

pub(crate) fn serve(serve: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static) -> Server {
    serve_with(WebSocketConfig::default(), serve)
}

pub(crate) fn echo(ws: WebSocket) -> Result<()> {
    while let Some(message) = ws.receive()? {
        ws.send(message)?;
    }
    Ok(())
}

impl Server {
    /// A WebSocket to the server.
    pub(crate) fn open(&self) -> Peer {
        let mut peer = self.connect();
        peer.write(handshake(""));
        peer.accepted();
        peer
    }

    /// A connection without a word.
    pub(crate) fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

/// A request for a WebSocket, with further header lines.
pub(crate) fn handshake(headers: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

/// The client's side, by hand.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// How many reads have brought something.
    pub(crate) reads: usize,
}

/// A frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// A masked frame.
pub(crate) fn frame(fin: bool, opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut wire = announcement(fin, opcode, payload.len());
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let start = wire.len();
    wire.extend_from_slice(payload);
    for (i, byte) in wire[start..].iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
    wire
}

/// The header of a masked frame.
pub(crate) fn announcement(fin: bool, opcode: u8, len: usize) -> Vec<u8> {
    let mut wire = vec![u8::from(fin) << 7 | opcode];
    match len {
        0..126 => wire.push(0x80 | len as u8),
        126..65536 => {
            wire.push(0x80 | 126);
            wire.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            wire.push(0x80 | 127);
            wire.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    wire.extend_from_slice(&[0x37, 0xfa, 0x21, 0x3d]);
    wire
}

pub(crate) fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(true, TEXT, payload)
}

pub(crate) fn binary(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(true, BINARY, payload)
}

pub(crate) fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(true, PING, payload)
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(true, CLOSE, code.to_be_bytes())
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            buffer: Vec::new(),
            reads: 0,
        }
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the server may refuse to take.
    pub(crate) fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads the response that grants the WebSocket.
    pub(crate) fn accepted(&mut self) -> String {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")),
            "{head}"
        );
        head
    }

    /// The head of a response.
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().unwrap(), "ended within a head");
        }
    }

    /// A whole response with a Content-Length: head and body.
    pub(crate) fn response(&mut self) -> (String, String) {
        let head = self.head();
        let length = head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok())
            .unwrap_or_else(|| panic!("no Content-Length in {head}"));
        let body = self.exactly(length);
        (head, String::from_utf8(body).unwrap())
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(
                self.more().unwrap(),
                "ended at {} of {length}",
                self.buffer.len()
            );
        }
        self.buffer.drain(..length).collect()
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Frame {
        self.try_frame().unwrap().expect("the connection has ended")
    }

    /// The next frame; none at the end of the connection.
    pub(crate) fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((used, frame)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return Ok(Some(frame));
            }
            if !self.more()? {
                assert!(self.buffer.is_empty(), "ended within a frame");
                return Ok(None);
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        let frame = self.frame();
        let payload = payload.as_ref();
        assert!(frame.fin);
        assert_eq!(frame.opcode, opcode, "{:?}", short(&frame.payload));
        assert!(
            frame.payload == payload,
            "{} bytes {:?} instead of {} bytes {:?}",
            frame.payload.len(),
            short(&frame.payload),
            payload.len(),
            short(payload)
        );
    }

    /// Waits for a close frame, dropping what comes before it; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame();
            if frame.opcode == CLOSE {
                return u16::from_be_bytes(frame.payload[..2].try_into().unwrap());
            }
        }
    }

    /// Sends a close frame, and waits for the server's answer and end.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.write(close(1000));
        assert_eq!(self.close_code(), 1000);
        self.expect_end();
    }

    /// As [`close`](Self::close), where pings may come in between.
    #[track_caller]
    pub(crate) fn close_amid_pings(mut self) {
        self.write(close(1000));
        assert_eq!(self.close_code(), 1000);
        self.expect_cut();
    }

    /// As [`close_amid_pings`](Self::close_amid_pings), where the server may have closed before:
    /// whether it has not.
    pub(crate) fn closes_well(&mut self) -> bool {
        self.try_write(close(1000)).ok();
        loop {
            match self.try_frame() {
                Ok(Some(frame)) if frame.opcode == CLOSE => {
                    return frame.payload == 1000_u16.to_be_bytes();
                }
                Ok(Some(_)) => {}
                _ => return false,
            }
        }
    }

    /// The connection ends in an orderly way, with nothing more.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        match self.try_frame() {
            Ok(None) => {}
            other => panic!("{other:?} instead of the end"),
        }
    }

    /// The connection ends, be it by a reset.
    #[track_caller]
    pub(crate) fn expect_cut(&mut self) {
        loop {
            match self.more() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    assert!(
                        !matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                        ),
                        "still open"
                    );
                    return;
                }
            }
        }
    }

    /// Whether nothing arrives for a while.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let result = self.more();
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        matches!(result, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Waits until the server can't have anything more to send at once.
    pub(crate) fn stream_pause(&mut self) {
        let began = Instant::now();
        let mut last = (0, Instant::now());
        let mut bytes = vec![0; 16 << 20];
        while last.1.elapsed() < Duration::from_millis(100) && began.elapsed() < DEADLINE {
            match self.stream.peek(&mut bytes) {
                Ok(waiting) if waiting == last.0 => {}
                Ok(waiting) => last = (waiting, Instant::now()),
                // As in `more`.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
            thread::yield_now();
        }
    }

    pub(crate) fn end_sending(&self) {
        // Unless the server has been first.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    pub(crate) fn more(&mut self) -> io::Result<bool> {
        let start = self.buffer.len();
        self.buffer.resize(start + 256 * 1024, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                // With a time limit it ends when the process is stopped and goes on (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer
            .truncate(start + read.as_ref().copied().unwrap_or(0));
        let read = read?;
        self.reads += usize::from(read > 0);
        Ok(read > 0)
    }
}

fn parse(bytes: &[u8]) -> Option<(usize, Frame)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (start, len) = match second {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize,
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(start..start + len)?.to_vec();
    let frame = Frame {
        fin: first & 0x80 != 0,
        opcode: first & 0x0f,
        payload,
    };
    Some((start + len, frame))
}

fn short(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned()
}

/// News from an application, in order.
pub(crate) fn news<T: Send>() -> (mpsc::Sender<T>, News<T>) {
    let (sender, receiver) = mpsc::channel();
    (sender, News(receiver))
}

pub(crate) struct News<T>(mpsc::Receiver<T>);

impl<T: Debug> News<T> {
    #[track_caller]
    pub(crate) fn next(&self) -> T {
        self.0.recv_timeout(DEADLINE).expect("no news")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until the greenlet has begun to wait.
#[track_caller]
pub(crate) fn until_waits(id: u64) {
    let began = Instant::now();
    let waits = || {
        let all = run_info().greenlets;
        all.iter()
            .any(|it| it.id == id && matches!(it.state, State::Waiting { .. }))
    };
    while !waits() {
        assert!(began.elapsed() < DEADLINE, "it does not wait");
        greenwood_runtime::sleep(Duration::from_millis(1));
    }
}

/// Waits until greenlets and descriptors are no more than these.
#[track_caller]
pub(crate) fn settle(greenlets: usize, fds: usize) {
    let began = Instant::now();
    while Hub::greenlets() > greenlets || descriptors() > fds {
        assert!(
            began.elapsed() < DEADLINE,
            "{} greenlets, before {greenlets}; {} descriptors, before {fds}",
            Hub::greenlets(),
            descriptors()
        );
        thread::yield_now();
    }
}

/// Bytes that repeat late.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = len as u32 | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}
