//! What is left when it is quiet.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use greenwood_runtime::{Hub, sleep};

use crate::heap::allocated;

/// What the process has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    at: Duration,
    laps: usize,
    /// Resident, in KiB.
    memory: usize,
    /// What is allocated, in blocks and bytes.
    heap: (isize, isize),
    descriptors: usize,
    threads: usize,
    mappings: usize,
    /// Switches so far, to see how much has been done.
    switches: u64,
}

impl Sample {
    pub(crate) fn take(at: Duration, laps: usize) -> Sample {
        let count = |folder| fs::read_dir(folder).expect("/proc is mounted").count();
        let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        Sample {
            at,
            laps,
            memory: memory.expect("VmRSS is a number of kB"),
            heap: allocated(),
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mappings: maps.lines().count(),
            switches: Hub::stats().iter().map(|hub| hub.switches).sum(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6.1} s: {:6} laps, {:9} switches, {:6} KiB, {} blocks of {} bytes, \
             {} descriptors, {} threads, {} mappings",
            self.at.as_secs_f64(),
            self.laps,
            self.switches,
            self.memory,
            self.heap.0,
            self.heap.1,
            self.descriptors,
            self.threads,
            self.mappings,
        )
    }
}

/// Waits until no greenlet, timer or message is left, and the thread pools' threads have ended.
pub(crate) fn settle() {
    let quiet = || {
        let stats = Hub::stats();
        let hubs = stats
            .iter()
            .all(|hub| hub.greenlets + hub.starting + hub.timers + hub.inbox == 0);
        hubs && Hub::greenlets() == 0 && threads_of_pools() == 0
    };
    let began = Instant::now();
    while !quiet() {
        assert!(
            began.elapsed() < super::LIMIT,
            "{} greenlets are left, {} threads, {:?}",
            Hub::greenlets(),
            threads_of_pools(),
            Hub::stats()
        );
        sleep(Duration::from_millis(2));
    }
}

fn threads_of_pools() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.ok()?));
    names.filter(|name| name.trim() == "threadpool").count()
}

/// Of the samples, all of them after the warm-up, the last must be as the first.
pub(crate) fn check(samples: &[Sample]) {
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    // The least of a third of them: what comes and goes is not what grows.
    let third = samples.len().div_ceil(3);
    let (early, late) = (&samples[..third], &samples[samples.len() - third..]);
    let grows = |what: &str, of: fn(&Sample) -> usize, allowed: usize| {
        let least = |samples: &[Sample]| samples.iter().map(of).min().unwrap_or(0);
        let (early, late) = (least(early), least(late));
        let laps = last.laps - first.laps;
        assert!(
            late <= early + allowed,
            "{what} have grown from {early} to {late} in {laps} laps"
        );
    };
    // A thread that has been joined may be listed for another moment.
    grows("threads", |it| it.threads, 0);
    grows("descriptors", |it| it.descriptors, 0);
    // A hub keeps the coroutines of as many greenlets as it had at once, which may be a few more
    // each time that all come together, of some nine blocks each. One block for each lap would be
    // thousands.
    grows("blocks", |it| it.heap.0 as usize, 400);
    grows("bytes", |it| it.heap.1 as usize, 100_000);
    // Those coroutines' stacks, and what the allocator has free, which takes long to find its size.
    grows("KiB of memory", |it| it.memory, early[0].memory / 8);
    grows("mappings", |it| it.mappings, 100);
}
