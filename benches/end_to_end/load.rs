//! The closed loop: one thread, edge-triggered epoll, frames prepared beforehand.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::case::Echo;
use crate::connection::{Connection, Script};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::{EchoSample, Sample};
use crate::server::Server;
use crate::system::Cpu;

/// How long the loop runs before it counts.
const WARM_UP: Duration = Duration::from_millis(400);

/// How long nothing may come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the loop looks at the clock at least.
const WATCH: Duration = Duration::from_secs(1);

const READ_BUFFER: usize = 256 << 10;

pub(crate) fn measure(server: &Server, case: &Echo, options: &Options) -> Result<Sample> {
    let script = Script::new(case, options.text);
    let mut latencies = Histogram::new();
    let mut run = Loop::new(server.port, case, &script)?;
    run.until(Instant::now() + WARM_UP, &mut latencies)?;

    latencies.clear();
    let me = std::process::id();
    let (server_before, me_before) = (server.cpu()?, Cpu::of(me)?);
    let began = Instant::now();
    run.until(began + options.duration, &mut latencies)?;
    let elapsed = began.elapsed();
    let server_cpu = server.cpu()?.since(server_before);
    let generator_cpu = Cpu::of(me)?.since(me_before);
    run.finish(&mut Histogram::new())?;
    Ok(Sample::Echo(EchoSample::new(
        elapsed,
        &latencies,
        server_cpu,
        generator_cpu,
    )))
}

struct Loop<'a> {
    script: &'a Script,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

impl<'a> Loop<'a> {
    /// Connects; nothing is sent yet.
    fn new(port: u16, case: &Echo, script: &'a Script) -> Result<Loop<'a>> {
        let poll = Poll::new()?;
        let mut connections = (0..case.connections)
            .map(|_| Connection::open(port, script))
            .collect::<Result<Vec<_>>>()?;
        for (i, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            // That it is writable is the first event of each, which sets it going.
            poll.registry()
                .register(&mut connection.stream, Token(i), interest)?;
        }
        Ok(Loop {
            script,
            poll,
            events: Events::with_capacity(case.connections),
            connections,
            buffer: vec![0; READ_BUFFER],
        })
    }

    fn until(&mut self, end: Instant, latencies: &mut Histogram) -> Result<()> {
        let mut seen = latencies.total();
        let mut last = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.turn((end - now).min(WATCH), latencies)?;
            if latencies.total() != seen {
                seen = latencies.total();
                last = now;
            } else if last.elapsed() > PATIENCE {
                return Err(format!("no echo within {PATIENCE:?}").into());
            }
        }
    }

    /// Sends nothing new, and takes the echoes that are outstanding: the next measurement is to
    /// find the server at rest.
    fn finish(&mut self, latencies: &mut Histogram) -> Result<()> {
        for connection in &mut self.connections {
            connection.finish();
        }
        let began = Instant::now();
        while !self.connections.iter().all(Connection::is_finished) {
            if began.elapsed() > PATIENCE {
                return Err(format!("the last echoes are missing after {PATIENCE:?}").into());
            }
            self.turn(WATCH, latencies)?;
        }
        Ok(())
    }

    /// Waits for events, and does what they ask for.
    fn turn(&mut self, timeout: Duration, latencies: &mut Histogram) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let connection = &mut self.connections[event.token().0];
            if event.is_readable() {
                connection.receive(self.script, &mut self.buffer, latencies)?;
            }
            connection.send(self.script)?;
        }
        Ok(())
    }
}
