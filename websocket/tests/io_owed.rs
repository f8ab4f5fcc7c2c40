//! The rest of a refused frame: by all ways to be served. `io_close` has the plain one.
#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_types,
    reason = "the peer is the foreign side, on a plain thread"
)]

mod io_support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Hub};
use greenwood_websocket::{
    Resource, Route, WebSocketApplication, WebSocketConfig, WebSocketEnviron, WebSocketServer,
};
use greenwood_wsgi::{Body, Environ, Result, StartResponse};

use io_support::{
    BINARY, DEADLINE, NEVER, TEXT, Watchdog, announcement, descriptors, handshake, settle, watchdog,
};

struct Echo;

impl WebSocketApplication for Echo {}

fn blocking(environ: &mut Environ, _: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        io_support::echo(ws)?;
    }
    Ok(Body::empty())
}

fn parked() -> Resource {
    Resource::new([("/ws", Route::websocket(|_| Echo))]).unwrap()
}

/// One test at a time: greenlets and descriptors are the process's.
struct Alone {
    greenlets: usize,
    fds: usize,
    _alone: MutexGuard<'static, ()>,
    _watchdog: Watchdog,
}

fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The first use starts the hubs.
    runtime::spawn(|| {}).join().unwrap();
    settle(0, usize::MAX);
    Alone {
        greenlets: Hub::greenlets(),
        fds: descriptors(),
        _alone: alone,
        _watchdog: watchdog(),
    }
}

impl Alone {
    /// Nothing is left.
    fn end(self) {
        settle(self.greenlets, self.fds);
    }
}

fn path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("greenwood-owed-{test}-{}", std::process::id()))
}

/// The foreign side of a connection.
trait Peer: Read + Write {
    fn patience(&self, time: Duration);

    fn end_sending(&self);

    /// Reads a byte; a process that is halted meanwhile reads again.
    fn next(&mut self) -> io::Result<usize> {
        loop {
            match self.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Whether nothing comes, not even the end.
    fn is_silent(&mut self) -> bool {
        self.patience(Duration::from_millis(100));
        let result = self.next();
        self.patience(DEADLINE);
        matches!(result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Sends the start of a frame, and sees it refused.
    fn refused(&mut self, start: &[u8], code: u16) {
        self.write_all(start).unwrap();
        let mut close = [0; 4];
        self.read_exact(&mut close).unwrap();
        let [high, low] = code.to_be_bytes();
        assert_eq!(close, [0x88, 2, high, low]);
    }

    fn expect_end(&mut self) {
        assert_eq!(self.next().unwrap(), 0);
    }
}

impl Peer for TcpStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }

    fn end_sending(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Peer for UnixStream {
    fn patience(&self, time: Duration) {
        self.set_read_timeout(Some(time)).unwrap();
    }

    fn end_sending(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

fn open(mut peer: impl Peer + 'static) -> Box<dyn Peer> {
    peer.patience(DEADLINE);
    peer.write_all(handshake("").as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    Box::new(peer)
}

/// Opens a WebSocket to a server.
type Open = Box<dyn Fn() -> Box<dyn Peer>>;

/// Servers of all kinds, which wait that long for an end.
fn servers(test: &str, close_timeout: Duration) -> Vec<(WebSocketServer, Open)> {
    let config = WebSocketConfig::default().close_timeout(close_timeout);
    let started = move |server: WebSocketServer| {
        let server = server.config(config);
        server.start().unwrap();
        server
    };
    let by_port = |server| {
        let server = started(server);
        let address = server.local_addr().unwrap();
        let connect: Open = Box::new(move || open(TcpStream::connect(address).unwrap()));
        (server, connect)
    };
    let by_path = |path: PathBuf, server| {
        let connect: Open = Box::new(move || open(UnixStream::connect(&path).unwrap()));
        (started(server), connect)
    };
    let (one, other) = (path(test), path(&format!("{test}-parked")));
    vec![
        by_port(WebSocketServer::new("127.0.0.1:0", blocking)),
        by_port(WebSocketServer::new("127.0.0.1:0", parked())),
        by_path(one.clone(), WebSocketServer::unix(one, blocking)),
        by_path(other.clone(), WebSocketServer::unix(other, parked())),
    ]
}

#[test]
fn end_comes_behind_the_rest_of_a_refused_frame() {
    let alone = alone();
    let bad_text = [announcement(true, TEXT, 300_000), vec![0xc8]].concat();
    for (server, open) in servers("rest", NEVER) {
        for (start, rest, code) in [
            (&announcement(true, BINARY, 2 << 20), 2 << 20, 1009),
            (&bad_text, 299_999, 1007),
        ] {
            let mut peer = open();
            peer.refused(start, code);
            peer.write_all(&vec![0; rest - 1]).unwrap();
            assert!(peer.is_silent());
            peer.write_all(&[0]).unwrap();
            peer.expect_end();
        }
        server.stop(DEADLINE);
    }
    alone.end();
}

#[test]
fn peer_that_ends_in_a_refused_frame_is_not_waited_for() {
    let alone = alone();
    for (server, open) in servers("ends", NEVER) {
        let mut peer = open();
        peer.refused(&announcement(true, BINARY, 2 << 20), 1009);
        peer.end_sending();
        peer.expect_end();
        server.stop(DEADLINE);
    }
    alone.end();
}

#[test]
fn peer_that_dribbles_a_refused_frame_is_cut_in_time() {
    let alone = alone();
    let all = servers("dribble", Duration::from_millis(500));
    // It takes seconds: one of each kind.
    for (_, open) in all.iter().step_by(3) {
        let mut peer = open();
        peer.refused(&announcement(true, BINARY, 30 << 20), 1009);
        let began = Instant::now();
        while peer.write_all(&[0]).is_ok() {
            assert!(began.elapsed() < DEADLINE, "still open");
            peer.is_silent();
        }
    }
    for (server, _) in all {
        server.stop(DEADLINE);
    }
    alone.end();
}

#[test]
fn more_than_is_ever_awaited_is_not_awaited_at_all() {
    let alone = alone();
    for (server, open) in servers("more", NEVER) {
        let mut peer = open();
        peer.refused(&announcement(true, BINARY, 1 << 40), 1009);
        peer.expect_end();
        drop(peer);
        server.stop(DEADLINE);
    }
    alone.end();
}

#[test]
fn stop_does_not_wait_for_the_rest_of_a_refused_frame() {
    let alone = alone();
    for (server, open) in servers("stop", NEVER) {
        let mut peer = open();
        peer.refused(&announcement(true, BINARY, 2 << 20), 1009);
        server.stop(Duration::from_millis(10));
        assert_eq!(server.handle().connections(), 0);
        // A reset, where the rest had begun to come.
        assert!(matches!(peer.next(), Ok(0) | Err(_)));
        assert!(!peer.is_silent());
    }
    alone.end();
}
