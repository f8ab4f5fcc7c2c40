//! What one connection says goes to all: who has it, and what it costs the server.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use greenwood::websocket::proto::{OpCode, encode_frame};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::case::{FAN_OUT_CONNECTIONS, FanOut};
use crate::connection;
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::results::Kind;
use crate::report::system::{self, Cpu};
use crate::sample::{self, Sample};
use crate::server::Server;

/// So many messages come before it counts.
const WARM_UP: usize = 10;

/// How long a message may take to be everywhere.
const PATIENCE: Duration = Duration::from_secs(20);

const KEY: [u8; 4] = [0x9d, 0x31, 0x07, 0x5e];

/// More than a message: less than that has emptied the socket.
const SPARE: usize = 1024;

pub(crate) fn measure(server: &Server, case: &FanOut, options: &Options) -> Result<Sample> {
    let mut audience = Audience::gather(server, case, options.text)?;
    let mut latencies = Histogram::new();
    for _ in 0..WARM_UP {
        audience.publish(&mut latencies)?;
    }

    latencies.clear();
    let me = std::process::id();
    let (server_before, me_before) = (server.cpu()?, Cpu::of(me)?);
    let began = Instant::now();
    while began.elapsed() < options.common.duration {
        audience.publish(&mut latencies)?;
    }
    let elapsed = began.elapsed();
    Ok(sample::of_traffic(
        elapsed,
        &latencies,
        &server.cpu()?.since(&server_before),
        &Cpu::of(me)?.since(&me_before),
    ))
}

struct Audience {
    poll: Poll,
    events: Events,
    /// With how much of the message has come.
    members: Vec<(TcpStream, usize)>,
    /// Different each time.
    payload: Vec<u8>,
    opcode: OpCode,
    kind: Kind,
    published: u64,
    buffer: Vec<u8>,
}

impl Audience {
    fn gather(server: &Server, case: &FanOut, text: bool) -> Result<Audience> {
        let poll = Poll::new()?;
        let count = system::connections(FAN_OUT_CONNECTIONS);
        let mut members = Vec::with_capacity(count);
        for i in 0..count {
            let stream = connection::open_at(server.port, "/fanout")?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(i), Interest::READABLE)?;
            members.push((stream, 0));
        }
        Ok(Audience {
            poll,
            events: Events::with_capacity(1024),
            members,
            payload: (0..case.size).map(|i| b'a' + (i % 26) as u8).collect(),
            opcode: if text { OpCode::Text } else { OpCode::Binary },
            kind: server.kind,
            published: 0,
            buffer: vec![0; case.size + SPARE],
        })
    }

    /// Has one member say something, and waits until all have heard it.
    fn publish(&mut self, latencies: &mut Histogram) -> Result<()> {
        let number = format!("{:010}", self.published);
        self.payload[..number.len()].copy_from_slice(number.as_bytes());
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        let key = Some(KEY);
        // The floor sends the very same bytes.
        let echo_key = key.filter(|_| self.kind == Kind::Floor);
        encode_frame(&mut said, true, self.opcode, &self.payload, key);
        encode_frame(&mut heard, true, self.opcode, &self.payload, echo_key);

        let speaker = self.published as usize % self.members.len();
        let began = Instant::now();
        // The socket is empty: it takes the whole message.
        if self.members[speaker].0.write(&said)? < said.len() {
            return Err("the socket takes no whole message".into());
        }
        self.published += 1;
        let mut missing = self.members.len();
        while missing > 0 {
            let rest = PATIENCE.saturating_sub(began.elapsed());
            if rest.is_zero() {
                let all = self.members.len();
                return Err(format!("{missing} of {all} have not got a message").into());
            }
            match self.poll.poll(&mut self.events, Some(rest)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &self.events {
                let (stream, at) = &mut self.members[event.token().0];
                if receive(stream, at, &heard, &mut self.buffer)? {
                    latencies.add(began.elapsed());
                    missing -= 1;
                }
            }
        }
        for (_, at) in &mut self.members {
            *at = 0;
        }
        Ok(())
    }
}

/// Takes what has come; whether the message is whole now.
fn receive(
    stream: &mut TcpStream,
    at: &mut usize,
    heard: &[u8],
    buffer: &mut [u8],
) -> Result<bool> {
    let begun = *at;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err("the server closes the connection".into()),
            Ok(n) => {
                if heard.get(*at..*at + n) != Some(&buffer[..n]) {
                    return Err("the server sends something else than it was sent".into());
                }
                *at += n;
                // A short read has emptied the socket, and what comes later is another edge.
                if n < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(begun < heard.len() && *at == heard.len())
}
