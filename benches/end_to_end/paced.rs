//! The open loop: messages become due at a given rate, whether the server keeps up or not, and
//! their latency counts from then. So a server that stalls is charged with all that should have
//! been sent in the meantime (no "coordinated omission").

use std::time::{Duration, Instant};

use crate::Result;
use crate::case::HALF;
use crate::connection::{Connection, Script};
use crate::histogram::Histogram;
use crate::load::{Loop, PATIENCE, WARM_UP};
use crate::options::Options;
use crate::report::system::Cpu;
use crate::sample::{self, Sample, micros};
use crate::server::Server;

/// At `rate` messages per second, over all connections in turn.
pub(crate) fn measure(server: &Server, rate: f64, options: &Options) -> Result<Sample> {
    let script = Script::new(HALF.size, options.text, server.kind);
    let mut run = OpenLoop {
        all: Loop::new(server.port, HALF.connections, &script)?,
        next: 0,
        pace: Pace::new(rate),
    };
    run.during(WARM_UP, &mut Histogram::new(), &mut Histogram::new())?;

    let (mut latencies, mut late) = (Histogram::new(), Histogram::new());
    let me = std::process::id();
    let (server_before, me_before) = (server.cpu()?, Cpu::of(me)?);
    let began = Instant::now();
    run.during(options.common.duration, &mut latencies, &mut late)?;
    Ok(sample::of_traffic(
        began.elapsed(),
        &latencies,
        &server.cpu()?.since(&server_before),
        &Cpu::of(me)?.since(&me_before),
    )
    .with(sample::LATE_P99_US, micros(late.quantile(0.99))))
}

struct OpenLoop<'a> {
    all: Loop<'a>,
    /// The connection whose turn it is.
    next: usize,
    pace: Pace,
}

impl OpenLoop<'_> {
    /// Sends what becomes due for so long, and then takes the echoes that are outstanding. It never
    /// waits in the kernel, as that would make it late.
    fn during(
        &mut self,
        duration: Duration,
        latencies: &mut Histogram,
        late: &mut Histogram,
    ) -> Result<()> {
        let began = Instant::now();
        let end = began + duration;
        let mut due = began + self.pace.interval();
        loop {
            let now = Instant::now();
            while due <= now && due < end {
                let connection = &mut self.all.connections[self.next];
                connection.due(self.all.script, due);
                connection.send(self.all.script)?;
                late.add(due.elapsed());
                self.next = (self.next + 1) % self.all.connections.len();
                due += self.pace.interval();
            }
            if due >= end && self.all.connections.iter().all(Connection::is_finished) {
                return Ok(());
            }
            if now > end + PATIENCE {
                return Err(format!("echoes are missing after {PATIENCE:?}").into());
            }
            self.all.turn(Duration::ZERO, latencies)?;
        }
    }
}

/// Random intervals, the same in each run: exponentially distributed, as those between the messages
/// of many clients who know nothing of each other.
#[derive(Debug)]
pub(crate) struct Pace {
    mean: f64,
    state: u64,
}

impl Pace {
    /// Of so many per second.
    pub(crate) fn new(rate: f64) -> Pace {
        Pace {
            mean: 1.0 / rate,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// To the next message.
    pub(crate) fn interval(&mut self) -> Duration {
        // Marsaglia's xorshift.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // In (0, 1]: never zero, whose logarithm has no end.
        let uniform = ((self.state >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}
