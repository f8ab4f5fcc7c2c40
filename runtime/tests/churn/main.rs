//! Hours of comings and goings, compressed: greenlets, kills, time-outs, queues, pools, locks,
//! sockets, TLS, servers, processes, threads and locals, all at once, again and again. When it is
//! quiet in between, nothing may be left: greenlets, timers, descriptors, threads, and memory that
//! grows.
//!
//! It takes ten seconds; `GREENWOOD_CHURN_SECS` has it go on for so many seconds, and
//! print what it has measured with `-- --nocapture`:
//!
//! ```sh
//! GREENWOOD_CHURN_SECS=600 cargo test -p greenwood-runtime --test churn -- --nocapture
//! ```

mod heap;
mod laps;
mod meter;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::{Builder, Hub, Queue, spawn, threadpool};
use meter::{Sample, check, settle};

/// How long it goes on.
const SECONDS: u64 = 10;
/// How much of that goes by before anything is measured: until all that is kept for the next is
/// there, such as stacks and buffers.
const WARM_UP: f64 = 0.4;
/// How long it goes on between two samples, at least.
const STRETCH: Duration = Duration::from_millis(400);

const CHILD: &str = "GREENWOOD_CHURN_CHILD";

#[test]
fn nothing_grows_however_long_it_goes_on() {
    if std::env::var_os(CHILD).is_some() {
        churn();
        return;
    }
    // In a process of its own with one arena: which thread takes whose memory would else decide
    // how much there is.
    let status = Command::new(std::env::current_exe().expect("the test knows its own program"))
        .args(std::env::args_os().skip(1))
        .env(CHILD, "1")
        .env("MALLOC_ARENA_MAX", "1")
        // Some of its greenlets panic, and what names a backtrace's lines is kept.
        .env("RUST_BACKTRACE", "0")
        .status()
        .expect("a child process can be started");
    assert!(status.success(), "{status}");
}

fn churn() {
    let seconds = std::env::var("GREENWOOD_CHURN_SECS").ok();
    let seconds = seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS);
    let whole = Duration::from_secs(seconds);
    threadpool().set_idle_timeout(Duration::from_millis(50));
    let (began, mut samples) = (Instant::now(), Vec::<Sample>::new());
    let mut laps = 0;
    while began.elapsed() < whole || samples.len() < 6 {
        laps += stretch((whole / 200).clamp(STRETCH, LIMIT / 4));
        settle();
        if began.elapsed().as_secs_f64() > whole.as_secs_f64() * WARM_UP {
            let sample = Sample::take(began.elapsed(), laps);
            println!("{sample}");
            samples.push(sample);
        }
    }
    check(&samples);
}

/// Runs laps on each hub and on a thread for a while; how many.
fn stretch(time: Duration) -> usize {
    let end = Instant::now() + time;
    let laps = move |seed: usize| {
        let mut laps = 0;
        while Instant::now() < end {
            laps::run(seed + laps);
            laps += 1;
        }
        laps
    };
    let done = Arc::new(Queue::new(0));
    let runners = 2 * Hub::count();
    for runner in 0..runners {
        let done = Arc::clone(&done);
        let hub = Builder::new().hub(runner % Hub::count());
        let lapping = hub.spawn(move || done.put(laps(runner * 7)));
        drop(lapping.expect("there is room"));
    }
    let thread = std::thread::spawn(move || laps(3));
    // Neither is lost when a lap panics.
    let in_greenlets = spawn(move || {
        (0..runners)
            .map(|_| done.get_timeout(LIMIT).unwrap())
            .sum::<usize>()
    });
    in_greenlets.join().expect("each lap passes") + thread.join().expect("each lap passes")
}

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);
