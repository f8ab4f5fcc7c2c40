//! The closed loop: edge-triggered epoll, frames prepared beforehand.

use std::io::ErrorKind;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::Result;
use crate::case::Echo;
use crate::connection::{Connection, Script};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::system::Cpu;
use crate::sample::{self, Sample};
use crate::server::Server;

/// How long the loop runs before it counts.
pub(crate) const WARM_UP: Duration = Duration::from_millis(400);

/// How long nothing may come back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often the loop looks at the clock at least.
const WATCH: Duration = Duration::from_secs(1);

const READ_BUFFER: usize = 256 << 10;

/// With so many threads, each with its part of the connections.
pub(crate) fn measure(
    server: &Server,
    case: &Echo,
    threads: usize,
    options: &Options,
) -> Result<Sample> {
    let script = Script::new(case.size, options.text, server.kind);
    let threads = threads.clamp(1, case.connections);
    // All begin to count, and this thread reads the processor times, at the same moments.
    let barrier = Barrier::new(threads + 1);
    let drive = |connections| -> std::result::Result<Histogram, String> {
        let mut steps = Steps {
            barrier: &barrier,
            left: 3,
        };
        closed_loop(server.port, connections, case, options, &script, &mut steps)
            .map_err(|error| error.to_string())
    };
    thread::scope(|scope| {
        let drivers: Vec<_> = (0..threads)
            .map(|i| {
                let connections =
                    case.connections * (i + 1) / threads - case.connections * i / threads;
                scope.spawn(move || drive(connections))
            })
            .collect();
        let me = std::process::id();
        let mut steps = Steps {
            barrier: &barrier,
            left: 3,
        };
        steps.next();
        let (server_before, me_before) = (server.cpu()?, Cpu::of(me)?);
        let began = Instant::now();
        steps.next();
        let elapsed = began.elapsed();
        let server_cpu = server.cpu()?.since(&server_before);
        let generator_cpu = Cpu::of(me)?.since(&me_before);
        steps.next();

        let mut latencies = Histogram::new();
        for driver in drivers {
            let part = driver.join().map_err(|_| "the generator panicked")??;
            latencies.merge(&part);
        }
        Ok(sample::of_traffic(
            elapsed,
            &latencies,
            &server_cpu,
            &generator_cpu,
        ))
    })
}

/// Where all threads meet. One that fails goes through the rest at once, so that none waits for it.
struct Steps<'a> {
    barrier: &'a Barrier,
    left: usize,
}

impl Steps<'_> {
    fn next(&mut self) {
        self.left -= 1;
        self.barrier.wait();
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        while self.left > 0 {
            self.next();
        }
    }
}

/// What one thread does.
fn closed_loop(
    port: u16,
    connections: usize,
    case: &Echo,
    options: &Options,
    script: &Script,
    steps: &mut Steps<'_>,
) -> Result<Histogram> {
    let mut latencies = Histogram::new();
    let mut run = Loop::new(port, connections, script)?;
    run.start(case.depth);
    run.until(Instant::now() + WARM_UP, &mut latencies)?;
    latencies.clear();
    steps.next();
    run.until(Instant::now() + options.common.duration, &mut latencies)?;
    steps.next();
    run.finish()?;
    steps.next();
    Ok(latencies)
}

/// Connections, and what waits for their events.
pub(crate) struct Loop<'a> {
    pub(crate) script: &'a Script,
    pub(crate) connections: Vec<Connection>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
}

impl<'a> Loop<'a> {
    /// Connects; nothing is sent yet.
    pub(crate) fn new(port: u16, connections: usize, script: &'a Script) -> Result<Loop<'a>> {
        let poll = Poll::new()?;
        let mut connections = (0..connections)
            .map(|_| Connection::open(port))
            .collect::<Result<Vec<_>>>()?;
        for (i, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            // That it is writable is the first event of each, which sets it going.
            poll.registry()
                .register(&mut connection.stream, Token(i), interest)?;
        }
        Ok(Loop {
            script,
            events: Events::with_capacity(connections.len()),
            connections,
            poll,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// From now on each connection has `depth` messages outstanding.
    fn start(&mut self, depth: usize) {
        let now = Instant::now();
        for connection in &mut self.connections {
            for _ in 0..depth {
                connection.due(self.script, now);
            }
            connection.repeat(true);
        }
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
    fn finish(&mut self) -> Result<()> {
        for connection in &mut self.connections {
            connection.repeat(false);
        }
        let mut uncounted = Histogram::new();
        let began = Instant::now();
        while !self.connections.iter().all(Connection::is_finished) {
            if began.elapsed() > PATIENCE {
                return Err(format!("the last echoes are missing after {PATIENCE:?}").into());
            }
            self.turn(WATCH, &mut uncounted)?;
        }
        Ok(())
    }

    /// Waits for events, and does what they ask for.
    pub(crate) fn turn(&mut self, timeout: Duration, latencies: &mut Histogram) -> Result<()> {
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
