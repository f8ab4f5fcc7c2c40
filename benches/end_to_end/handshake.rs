//! Connections that come and go: connect, upgrade, close, all over again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::Result;
use crate::case::HANDSHAKES_AT_ONCE;
use crate::connection::{ACCEPT, REQUEST};
use crate::histogram::Histogram;
use crate::load::{PATIENCE, WARM_UP};
use crate::options::Options;
use crate::report::results::Kind;
use crate::report::system::Cpu;
use crate::sample::{self, Sample};
use crate::server::Server;

/// A Close frame with 1000, masked. `benches/peers/floor.rs` knows it, too.
const CLOSE: &[u8] = &[0x88, 0x82, 0x9d, 0x31, 0x07, 0x5e, 0x9e, 0xd9];

/// What may come back: with the same code, or with none.
const CLOSED: [&[u8]; 2] = [&[0x88, 0x02, 0x03, 0xe8], &[0x88, 0x00]];

/// How often the loop looks at the clock at least.
const WATCH: Duration = Duration::from_secs(1);

/// Longer heads are refused.
const HEAD: usize = 4096;

pub(crate) fn measure(server: &Server, options: &Options) -> Result<Sample> {
    let mut run = Handshakes {
        port: server.port,
        kind: server.kind,
        request: format!("GET /{REQUEST}").into_bytes(),
        poll: Poll::new()?,
        events: Events::with_capacity(HANDSHAKES_AT_ONCE),
        clients: Vec::new(),
        latencies: Histogram::new(),
    };
    for i in 0..HANDSHAKES_AT_ONCE {
        run.clients.push(Some(Client::start(
            run.port,
            i,
            run.poll.registry(),
            &run.request,
        )?));
    }
    run.until(Instant::now() + WARM_UP)?;

    run.latencies.clear();
    let me = std::process::id();
    let (server_before, me_before) = (server.cpu()?, Cpu::of(me)?);
    let began = Instant::now();
    run.until(began + options.common.duration)?;
    let elapsed = began.elapsed();
    let sample = sample::of_traffic(
        elapsed,
        &run.latencies,
        &server.cpu()?.since(&server_before),
        &Cpu::of(me)?.since(&me_before),
    );
    run.finish()?;
    Ok(sample)
}

struct Handshakes {
    port: u16,
    kind: Kind,
    request: Vec<u8>,
    poll: Poll,
    events: Events,
    /// None when they are not to be replaced any more.
    clients: Vec<Option<Client>>,
    /// Of a whole life: from connecting to the server's end.
    latencies: Histogram,
}

struct Client {
    stream: TcpStream,
    began: Instant,
    stage: Stage,
    received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is sent yet.
    Connecting,
    /// The answer is missing.
    Upgrading,
    /// The server's Close frame is missing, or its end.
    Closing,
    Over,
}

impl Handshakes {
    fn until(&mut self, end: Instant) -> Result<()> {
        let mut seen = self.latencies.total();
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.turn((end - now).min(WATCH), true)?;
            if self.latencies.total() != seen {
                seen = self.latencies.total();
                last = now;
            } else if last.elapsed() > PATIENCE {
                return Err(format!("no handshake within {PATIENCE:?}").into());
            }
        }
    }

    /// Starts nothing new, and brings to an end what has begun.
    fn finish(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.clients.iter().any(Option::is_some) {
            if began.elapsed() > PATIENCE {
                return Err(format!("the last closes are missing after {PATIENCE:?}").into());
            }
            self.turn(WATCH, false)?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration, again: bool) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let place = event.token().0;
            // An event of a client that has been replaced since is no matter to its successor.
            let Some(client) = &mut self.clients[place] else {
                continue;
            };
            if client.stage == Stage::Connecting {
                client.upgrade(&self.request)?;
            }
            if event.is_readable() {
                client.receive(self.kind)?;
            }
            if client.stage == Stage::Over {
                self.latencies.add(client.began.elapsed());
                // The old one is closed first.
                self.clients[place] = None;
                if again {
                    let registry = self.poll.registry();
                    let client = Client::start(self.port, place, registry, &self.request)?;
                    self.clients[place] = Some(client);
                }
            }
        }
        Ok(())
    }
}

impl Client {
    /// Connects, and sends the request if that is done at once, as it mostly is on loopback.
    fn start(port: u16, place: usize, registry: &Registry, request: &[u8]) -> Result<Client> {
        let began = Instant::now();
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(place), interest)?;
        let mut client = Client {
            stream,
            began,
            stage: Stage::Connecting,
            received: Vec::new(),
        };
        client.upgrade(request)?;
        Ok(client)
    }

    /// Sends the request if the connection is there.
    fn upgrade(&mut self, request: &[u8]) -> Result<()> {
        match self.stream.write(request) {
            Ok(n) if n == request.len() => self.stage = Stage::Upgrading,
            Ok(_) => return Err("the socket takes no whole request".into()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::NotConnected
                ) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes what has come, and answers it.
    fn receive(&mut self, kind: Kind) -> Result<()> {
        let mut piece = [0; 1024];
        while self.stage != Stage::Over {
            match self.stream.read(&mut piece) {
                Ok(0) => return self.ended(kind),
                Ok(n) => self.received.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if self.stage == Stage::Upgrading && self.received.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received);
                if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
                    return Err(format!("the server does not upgrade: {head}").into());
                }
                self.received.clear();
                if self.stream.write(CLOSE)? < CLOSE.len() {
                    return Err("the socket takes no whole frame".into());
                }
                self.stage = Stage::Closing;
            }
            if self.received.len() > HEAD {
                return Err("the server says more than it should".into());
            }
        }
        Ok(())
    }

    /// The server closes, and has to have said so.
    fn ended(&mut self, kind: Kind) -> Result<()> {
        let closed = match kind {
            Kind::Floor => self.received == CLOSE,
            _ => CLOSED.contains(&&self.received[..]),
        };
        if self.stage != Stage::Closing || !closed {
            let received = &self.received;
            return Err(format!("the server does not close as it should: {received:?}").into());
        }
        self.stage = Stage::Over;
        Ok(())
    }
}
