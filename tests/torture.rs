//! 10,000 connections are open and echo, while 1,000 more connect and vanish without a close, and
//! 1,000 send garbage. No connection of the first group loses a message; afterwards the server's
//! greenlets and descriptors are back where they started.
//!
//! Three processes, each this test binary: the one that the harness starts raises the limit on
//! descriptors, the clients run in its child, and the server in theirs. The server tells what it
//! has over its standard output.
#![expect(
    clippy::disallowed_types,
    reason = "the clients are the foreign side, on plain threads"
)]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenwood::{
    Body, Environ, Hub, Result, StartResponse, WebSocketEnviron, WebSocketHandler, WsgiServer,
};

const TEST: &str = "ten_thousand_echo_while_others_vanish_and_lie";

/// Says which of the three processes this is.
const ROLE: &str = "GREENWOOD_TORTURE";

/// What the server's lines begin with: the harness writes to the same output.
const MARK: &str = "torture: ";

const CONNECTIONS: usize = 10_000;
const VANISHING: usize = 1_000;
const LYING: usize = 1_000;

/// Client threads, each with its share of the connections.
const THREADS: usize = 8;

/// Everybody echoes at least so many times.
const ROUNDS: usize = 3;

/// Several times what it takes on two busy cores.
const DEADLINE: Duration = Duration::from_secs(600);

#[test]
fn ten_thousand_echo_while_others_vanish_and_lie() {
    match env::var(ROLE).as_deref() {
        Err(_) => raise_the_limit(),
        Ok("clients") => clients(),
        Ok(_) => server(),
    }
}

fn this_test(role: &str, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env(ROLE, role);
    command
}

fn arguments() -> [&'static str; 4] {
    [TEST, "--exact", "--nocapture", "--test-threads=1"]
}

fn raise_the_limit() {
    let mut shell = this_test("clients", "sh");
    shell
        .args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(arguments());
    let status = shell.status().unwrap();
    assert!(status.success(), "{status}");
}

// ---- the server ----

fn echo(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(ws) = environ.websocket() {
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        return Ok(Body::empty());
    }
    start_response("200 OK", &[])?;
    Ok(Body::empty())
}

/// Serves; answers each line of the input with the numbers of greenlets and descriptors, and stops
/// at its end.
fn server() {
    let server = WsgiServer::new("0.0.0.0:0", echo)
        .handler(WebSocketHandler::new())
        .backlog(4096);
    server.start().unwrap();
    println!("\n{MARK}{}", server.local_addr().unwrap().port());
    for line in io::stdin().lines() {
        line.unwrap();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        println!("{MARK}{} {descriptors}", Hub::greenlets());
    }
    server.stop(Duration::from_secs(5));
}

struct Server {
    child: Child,
    /// Closed when dropped: then the server stops.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start() -> (Server, u16) {
        let program = env::current_exe().unwrap();
        let mut child = this_test("server", program.to_str().unwrap())
            .args(arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Server {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        let port = server.line().parse().unwrap();
        (server, port)
    }

    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "the server has ended"
            );
            if let Some(rest) = line.trim_end().strip_prefix(MARK) {
                return rest.to_owned();
            }
        }
    }

    /// How many greenlets are alive, and descriptors open.
    fn state(&mut self) -> (usize, usize) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        let line = self.line();
        let (greenlets, descriptors) = line.split_once(' ').unwrap();
        (greenlets.parse().unwrap(), descriptors.parse().unwrap())
    }

    fn stop(mut self) {
        drop(self.input.take());
        io::copy(&mut self.output, &mut io::sink()).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

// ---- the clients ----

/// How many of the connections this machine has descriptors for.
fn affordable() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let limit = line.split_whitespace().nth(3).unwrap();
    let limit = limit.parse().unwrap_or(usize::MAX);
    let room = limit.saturating_sub(VANISHING + LYING + 500);
    if room < CONNECTIONS {
        eprintln!(
            "\n*** SCALED DOWN: {room} connections instead of {CONNECTIONS}, as a process may have {limit} \
             descriptors only; raise the hard limit (ulimit -Hn) ***\n"
        );
    }
    assert!(room > 0, "{limit} descriptors are too few for anything");
    room.min(CONNECTIONS)
}

fn clients() {
    let began = Instant::now();
    thread::spawn(|| {
        thread::park_timeout(DEADLINE);
        eprintln!("torture has hung");
        std::process::abort();
    });
    let connections = affordable();
    let (mut server, port) = Server::start();
    // The first connection is the one that starts things.
    Client::open(0, port).echo(0).close();
    let start = settled(&mut server, (1, usize::MAX));

    let open = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let echoing: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (open, over) = (Arc::clone(&open), Arc::clone(&over));
            let mine = (thread..connections).step_by(THREADS);
            thread::spawn(move || echo_all(mine, port, connections, &open, &over))
        })
        .collect();
    let hostile: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                for i in (thread..VANISHING.max(LYING)).step_by(THREADS) {
                    if i < VANISHING {
                        vanish(i, port);
                    }
                    if i < LYING {
                        lie(i, port);
                    }
                }
            })
        })
        .collect();
    for thread in hostile {
        thread.join().unwrap();
    }
    while open.load(Ordering::SeqCst) < connections {
        assert!(
            !echoing.iter().any(thread::JoinHandle::is_finished),
            "a client has failed"
        );
        thread::yield_now();
    }
    let most = server.state();
    assert!(
        most.0 >= start.0 + connections && most.1 >= start.1 + connections,
        "{most:?}"
    );
    over.store(true, Ordering::SeqCst);
    let echoes: usize = echoing.into_iter().map(|all| all.join().unwrap()).sum();

    let end = settled(&mut server, start);
    println!(
        "{connections} connections, {echoes} echoes; greenlets and descriptors {start:?}, {most:?}, {end:?}; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    server.stop();
}

/// The server's state, once it is no more than `bound`.
fn settled(server: &mut Server, bound: (usize, usize)) -> (usize, usize) {
    loop {
        let state = server.state();
        if state.0 <= bound.0 && state.1 <= bound.1 {
            return state;
        }
        // The watchdog ends it.
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Opens the connections, echoes over all of them again and again until all is over, and closes
/// them. How many echoes came.
fn echo_all(
    numbers: impl Iterator<Item = usize>,
    port: u16,
    connections: usize,
    open: &AtomicUsize,
    over: &AtomicBool,
) -> usize {
    let mut clients: Vec<Client> = numbers
        .map(|number| {
            let client = Client::open(number, port).echo(0);
            open.fetch_add(1, Ordering::SeqCst);
            client
        })
        .collect();
    let mut rounds = 1;
    while rounds < ROUNDS
        || !over.load(Ordering::SeqCst)
        || open.load(Ordering::SeqCst) < connections
    {
        for client in &mut clients {
            client.send(rounds);
        }
        for client in &mut clients {
            client.expect(rounds);
        }
        rounds += 1;
    }
    let echoes = rounds * clients.len();
    clients.into_iter().for_each(Client::close);
    echoes
}

/// Goes without a close, at all stages.
fn vanish(i: usize, port: u16) {
    match i % 5 {
        0 => drop(Client::open(i, port)),
        1 => drop(Client::open(i, port).echo(0)),
        // With an answer unread: that is a reset.
        2 => Client::open(i, port).send(0),
        3 => Client::open(i, port).write(&frame(1, b"half of a frame")[..9]),
        _ => Client::connect(i, port).write(&HANDSHAKE.as_bytes()[..40]),
    }
}

/// Sends what is no WebSocket, at all stages, and goes when the server has had enough, or sooner.
fn lie(i: usize, port: u16) {
    let mut garbage = vec![0; 200];
    let mut state = i as u32 | 1;
    garbage.fill_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let mut client = match i % 5 {
        0 => Client::connect(i, port),
        _ => Client::open(i, port),
    };
    match i % 5 {
        // Reserved bits, or an opcode that there is not.
        1 => garbage[0] |= 0x73,
        // No mask.
        2 => garbage[..2].copy_from_slice(&[0x81, 0x05]),
        // No UTF-8.
        3 => garbage = frame(1, &[0xff; 20]),
        // Too big.
        4 => garbage[..10].copy_from_slice(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0]),
        _ => garbage.extend_from_slice(b"\r\n\r\n"),
    }
    client.write(&garbage);
    if i.is_multiple_of(2) {
        io::copy(&mut client.stream, &mut io::sink()).ok();
    }
}

struct Client {
    number: usize,
    stream: TcpStream,
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Client {
    fn connect(number: usize, port: u16) -> Client {
        // Several addresses of the one server: ports do not run short then.
        let address = Ipv4Addr::new(127, 0, 0, 1 + (number % 8) as u8);
        let stream = TcpStream::connect(SocketAddr::from((address, port))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { number, stream }
    }

    fn open(number: usize, port: u16) -> Client {
        let mut client = Client::connect(number, port);
        client.write(HANDSHAKE.as_bytes());
        let mut head = Vec::new();
        // The server says nothing unasked, so there is nothing behind the head.
        while !head.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 512];
            let read = client.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "refused");
            head.extend_from_slice(&bytes[..read]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        // Who lies may be cut off in the middle of it.
        self.stream.write_all(bytes).ok();
    }

    /// The message of a round: unlike any other.
    fn message(&self, round: usize) -> String {
        let fill = (self.number * 31 + round * 7) % 200;
        format!("{} {round} {}", self.number, "x".repeat(fill))
    }

    fn send(&mut self, round: usize) {
        let message = frame(1, self.message(round).as_bytes());
        self.stream.write_all(&message).unwrap();
    }

    fn expect(&mut self, round: usize) {
        let message = self.message(round);
        let mut expected = vec![0x81];
        match message.len() {
            len @ 0..126 => expected.push(len as u8),
            len => {
                expected.push(126);
                expected.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        expected.extend_from_slice(message.as_bytes());
        let mut received = vec![0; expected.len()];
        self.stream.read_exact(&mut received).unwrap();
        assert!(
            received == expected,
            "{:?} instead of {message:?}",
            String::from_utf8_lossy(&received)
        );
    }

    fn echo(mut self, round: usize) -> Client {
        self.send(round);
        self.expect(round);
        self
    }

    /// The closing handshake, and the end of the transport.
    fn close(mut self) {
        self.stream.write_all(&frame(8, &[0x03, 0xe8])).unwrap();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [0x88, 0x02, 0x03, 0xe8]);
    }
}

/// A masked frame of at most 65,535 bytes.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut wire = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => wire.push(0x80 | len as u8),
        len => {
            wire.push(0x80 | 126);
            wire.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    wire.extend_from_slice(&key);
    wire.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    wire
}
