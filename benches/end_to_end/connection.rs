//! A client's connection: the handshake, and the state of its closed loop.
#![expect(
    clippy::disallowed_types,
    reason = "the foreign side runs on a plain thread: there is no hub to be blocked"
)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use greenwood::websocket::proto::{OpCode, encode_frame};

use crate::Result;
use crate::histogram::Histogram;
use crate::report::results::Kind;

/// Behind the path, with the key and the answer of RFC 6455, 1.3.
pub(crate) const REQUEST: &str = " HTTP/1.1\r\n\
    Host: 127.0.0.1\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A port of loopback that nobody listens on.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Connects to that port of loopback and upgrades. The stream still blocks.
pub(crate) fn open(port: u16) -> Result<TcpStream> {
    open_at(port, "/")
}

pub(crate) fn open_at(port: u16, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path}{REQUEST}").as_bytes())?;
    // The server has nothing to say before it is spoken to, so no read goes beyond the head.
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Err("the server closes instead of upgrading".into()),
            n => head.extend_from_slice(&piece[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
        return Err(format!("the server does not upgrade: {head}").into());
    }
    Ok(stream)
}

/// What all connections say and want to hear: a ring of different messages, as bytes on the wire.
#[derive(Debug)]
pub(crate) struct Script {
    /// Masked frames, one behind the other.
    frames: Vec<u8>,
    frame_len: usize,
    /// Their echoes, in the shortest form, which every server sends that does not fragment.
    echoes: Vec<u8>,
    echo_len: usize,
}

/// How many bytes of different messages there are at most; one message may be longer.
const SCRIPT: usize = 64 << 10;

impl Script {
    /// Of messages with so many bytes of payload. From the floor the very same bytes come back.
    pub(crate) fn new(size: usize, text: bool, kind: Kind) -> Script {
        let opcode = if text { OpCode::Text } else { OpCode::Binary };
        let (mut frames, mut echoes) = (Vec::new(), Vec::new());
        let messages = (SCRIPT / size).clamp(1, 64);
        for number in 0..messages {
            let payload: Vec<u8> = (0..size)
                .map(|i| b' ' + ((i * 7 + i / 95 + number * 31) % 95) as u8)
                .collect();
            let key = [0x9d, 0x31, number as u8, 0x5e];
            encode_frame(&mut frames, true, opcode, &payload, Some(key));
            let key = (kind == Kind::Floor).then_some(key);
            encode_frame(&mut echoes, true, opcode, &payload, key);
        }
        Script {
            frame_len: frames.len() / messages,
            frames,
            echo_len: echoes.len() / messages,
            echoes,
        }
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: mio::net::TcpStream,
    /// Where in the script's frames the next byte to send is.
    send_at: usize,
    /// How many bytes may be sent now.
    to_send: usize,
    /// Where in the script's echoes the next byte to receive is.
    receive_at: usize,
    /// How many bytes of echoes are outstanding.
    to_receive: usize,
    /// When the outstanding messages became due.
    sent: VecDeque<Instant>,
    /// Whether the next message is due when an echo has come back.
    repeats: bool,
}

impl Connection {
    pub(crate) fn open(port: u16) -> Result<Connection> {
        let stream = open(port)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream: mio::net::TcpStream::from_std(stream),
            send_at: 0,
            to_send: 0,
            receive_at: 0,
            to_receive: 0,
            sent: VecDeque::new(),
            repeats: false,
        })
    }

    /// One more message may be sent, since `now`.
    pub(crate) fn due(&mut self, script: &Script, now: Instant) {
        self.to_send += script.frame_len;
        self.to_receive += script.echo_len;
        self.sent.push_back(now);
    }

    /// From now on each echo that comes back makes the next message due, or none.
    pub(crate) fn repeat(&mut self, repeats: bool) {
        self.repeats = repeats;
    }

    /// Whether nothing is outstanding.
    pub(crate) fn is_finished(&self) -> bool {
        self.sent.is_empty()
    }

    /// Sends what is due, as far as the socket takes it.
    pub(crate) fn send(&mut self, script: &Script) -> Result<()> {
        while self.to_send > 0 {
            let end = script.frames.len().min(self.send_at + self.to_send);
            match self.stream.write(&script.frames[self.send_at..end]) {
                Ok(n) => {
                    self.to_send -= n;
                    self.send_at = (self.send_at + n) % script.frames.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives and checks what has come. How many echoes came back whole is seen in `latencies`.
    pub(crate) fn receive(
        &mut self,
        script: &Script,
        buffer: &mut [u8],
        latencies: &mut Histogram,
    ) -> Result<()> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closes the connection".into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.check(script, &buffer[..n])?;
            let begun = self.receive_at % script.echo_len;
            self.receive_at = (self.receive_at + n) % script.echoes.len();
            let now = Instant::now();
            for _ in 0..(begun + n) / script.echo_len {
                let sent = self.sent.pop_front();
                latencies.add(now - sent.ok_or("an echo of nothing")?);
                if self.repeats {
                    self.due(script, now);
                }
            }
            // A short read has emptied the socket, and what comes later is another edge.
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    fn check(&mut self, script: &Script, mut received: &[u8]) -> Result<()> {
        let Some(to_receive) = self.to_receive.checked_sub(received.len()) else {
            return Err("the server sends more than it was sent".into());
        };
        self.to_receive = to_receive;
        let mut at = self.receive_at;
        while !received.is_empty() {
            let (now, rest) = received.split_at(received.len().min(script.echoes.len() - at));
            if now != &script.echoes[at..at + now.len()] {
                return Err("the server sends something else than it was sent".into());
            }
            received = rest;
            at = 0;
        }
        Ok(())
    }
}
