//! What every contender that is written in Rust does alike: it takes an order, repeats a piece of
//! work until its time is over, and reports what that took.
//!
//! Also a part of the peers in `benches/peers/runtimes`. `benches/peers/README.md` says what is
//! read and written.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// How many greenlets take turns in the work `yield`.
pub(crate) const TURNS: u64 = 1_000;

/// How many are spawned before they are joined, in the work `spawn1k`.
pub(crate) const BATCH: u64 = 1_000;

/// How many items a queue holds.
pub(crate) const ROOM: usize = 1_024;

/// The part of a stack that is used once, in bytes.
const USED: usize = 40 << 10;

/// The first of the sleeping greenlets is due so long after the start, and the last so much later.
const FIRST_DUE: Duration = Duration::from_millis(1_500);
const SPREAD: Duration = Duration::from_secs(3);

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) work: String,
    /// How many operations one pass has.
    pub(crate) count: u64,
    /// On how many threads.
    pub(crate) threads: usize,
    /// How long passes are repeated.
    time: Duration,
}

impl Order {
    /// WORK COUNT THREADS SECONDS.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Order {
        let mut word = || {
            words
                .next()
                .unwrap_or_else(|| cannot("WORK COUNT THREADS SECONDS are wanted"))
        };
        Order {
            work: word(),
            count: number(&word()),
            threads: number(&word()),
            time: Duration::from_secs_f64(number(&word())),
        }
    }

    /// Repeats passes, and measures them without the first, which warms up and has a tenth of the
    /// operations.
    pub(crate) fn passes(&self) -> Passes<'_> {
        Passes {
            order: self,
            passes: 0,
            lap: None,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    let Ok(number) = word.parse() else {
        cannot(format!("{word:?} is no number"));
    };
    number
}

/// Says that this contender does not do what is asked for, and ends the process.
pub(crate) fn cannot(why: impl std::fmt::Display) -> ! {
    println!("cannot {why}");
    std::process::exit(0);
}

/// Passes that are measured. See [`Order::passes`].
pub(crate) struct Passes<'a> {
    order: &'a Order,
    /// How many have begun.
    passes: u64,
    /// What the clocks said when the present one began.
    lap: Option<(Instant, Duration)>,
    elapsed: Duration,
    cpu: Duration,
}

impl Iterator for Passes<'_> {
    type Item = u64;

    /// The operations of the next pass. At the end it reports.
    fn next(&mut self) -> Option<u64> {
        self.done();
        self.passes += 1;
        if self.passes == 1 {
            return Some((self.order.count / 10).max(1));
        }
        if self.elapsed >= self.order.time {
            let operations = (self.passes - 2) * self.order.count;
            report(operations, self.elapsed, self.cpu);
            return None;
        }
        self.prepared();
        Some(self.order.count)
    }
}

impl Passes<'_> {
    /// The present pass begins now: what went before is not measured.
    pub(crate) fn prepared(&mut self) {
        if self.passes > 1 {
            self.lap = Some((Instant::now(), cpu()));
        }
    }

    /// The present pass has ended: what comes is not measured.
    pub(crate) fn done(&mut self) {
        if let Some((began, before)) = self.lap.take() {
            self.elapsed += began.elapsed();
            self.cpu += cpu().saturating_sub(before);
        }
    }
}

fn report(operations: u64, elapsed: Duration, cpu: Duration) {
    println!("operations {operations}");
    println!("elapsed_ns {}", elapsed.as_nanos());
    println!("cpu_ns {}", cpu.as_nanos());
}

/// The processor time of this process, the kernel's part included.
fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        cannot("getrusage fails");
    };
    let micros = usage.user_time() + usage.system_time();
    Duration::from_micros(micros.num_microseconds() as u64)
}

/// Says how far it is, and waits until whoever measures has had a look. Blocks the thread.
pub(crate) fn stage(name: &str) {
    println!("stage {name}");
    std::io::stdout().flush().ok();
    if !matches!(
        std::io::stdin().lock().read_line(&mut String::new()),
        Ok(1..)
    ) {
        cannot("nobody looks");
    }
}

/// Uses 40 KiB of the stack of whoever calls.
#[inline(never)]
pub(crate) fn use_stack() -> u64 {
    let mut area = [0u8; USED];
    black_box(&mut area).fill(1);
    black_box(&area).iter().map(|&byte| u64::from(byte)).sum()
}

/// What [`use_stack`] gives.
pub(crate) const STACK_USED: u64 = USED as u64;

/// When many sleepers are due, from one start on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    began: Instant,
    cpu: Duration,
}

/// What has passed from the start until all have slept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slept {
    elapsed: Duration,
    cpu: Duration,
}

impl Schedule {
    pub(crate) fn start() -> Schedule {
        Schedule {
            began: Instant::now(),
            cpu: cpu(),
        }
    }

    /// When this one is due: any moment, and the same for all contenders.
    pub(crate) fn due(&self, sleeper: u64) -> Instant {
        // Knuth's multiplicative hash.
        let part = (sleeper as u32).wrapping_mul(2_654_435_761);
        self.began + FIRST_DUE + SPREAD.mul_f64(f64::from(part) / f64::from(u32::MAX))
    }

    /// How late it is now, in nanoseconds.
    pub(crate) fn late(due: Instant) -> u64 {
        Instant::now().saturating_duration_since(due).as_nanos() as u64
    }

    /// All have slept.
    pub(crate) fn done(&self) -> Slept {
        Slept {
            elapsed: self.began.elapsed(),
            cpu: cpu().saturating_sub(self.cpu),
        }
    }
}

impl Slept {
    /// Says how late all have been.
    pub(crate) fn report(&self, mut late: Vec<u64>) {
        late.sort_unstable();
        let quantile = |part: f64| late[((late.len() - 1) as f64 * part) as usize];
        report(late.len() as u64, self.elapsed, self.cpu);
        println!("late_p50_ns {}", quantile(0.5));
        println!("late_p99_ns {}", quantile(0.99));
        println!("late_max_ns {}", quantile(1.0));
    }
}
