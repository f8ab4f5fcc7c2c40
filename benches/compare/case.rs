//! What can be measured.

use crate::report::results::{Kind, Measurable};

/// One of the cases that the head comment of the program describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What the contender is asked to do.
    pub(crate) work: &'static str,
    /// How many operations one pass has, or how many greenlets there are.
    pub(crate) count: u64,
    /// On how many cores, with a hub on each.
    pub(crate) threads: usize,
    pub(crate) measure: Measure,
    /// What it is, in a line.
    pub(crate) describe: &'static str,
    /// The same for a plot.
    pub(crate) label: &'static str,
}

/// What is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// The time of an operation.
    Time,
    /// How late sleepers wake, and the processor time of each.
    Lateness,
    /// Memory of a parked greenlet.
    Memory,
    /// Processor time of a process whose greenlets are parked.
    Idle,
}

const fn time(name: &'static str, count: u64, describe: &'static str, label: &'static str) -> Case {
    Case {
        name,
        work: name,
        count,
        threads: 1,
        measure: Measure::Time,
        describe,
        label,
    }
}

const fn other(
    measure: Measure,
    name: &'static str,
    work: &'static str,
    count: u64,
    describe: &'static str,
    label: &'static str,
) -> Case {
    Case {
        work,
        measure,
        ..time(name, count, describe, label)
    }
}

pub(crate) const ALL: [Case; 13] = [
    time(
        "spawn",
        100_000,
        "spawn and join, one by one, per greenlet",
        "spawn + join",
    ),
    time(
        "spawn1k",
        100_000,
        "spawn 1,000, then join them, per greenlet",
        "spawn 1,000, then join",
    ),
    time(
        "spawnall",
        100_000,
        "spawn 100,000, then join them, per greenlet",
        "spawn 100,000, then join",
    ),
    time(
        "yield",
        1_000_000,
        "a switch by sleep(0), 1,000 greenlets",
        "switch by sleep(0)",
    ),
    time(
        "pingpong",
        50_000,
        "round trip of a wake through two semaphores",
        "semaphore, round trip",
    ),
    time(
        "roundtrip",
        50_000,
        "round trip of a number through two queues",
        "queue, round trip",
    ),
    time(
        "queue",
        100_000,
        "an item through a queue for 1,024",
        "queue, an item",
    ),
    Case {
        threads: 2,
        ..time(
            "queue2",
            100_000,
            "an item through a queue for 1,024, two hubs on two cores",
            "queue, an item, two cores",
        )
    },
    other(
        Measure::Lateness,
        "timers",
        "timers",
        100_000,
        "100,000 sleeping greenlets, due within three seconds",
        "100,000 sleep",
    ),
    other(
        Measure::Lateness,
        "timers30k",
        "timers",
        30_000,
        "30,000 sleeping greenlets, due within three seconds",
        "30,000 sleep",
    ),
    other(
        Measure::Memory,
        "parked10k",
        "parked",
        10_000,
        "resident memory of a parked greenlet, of 10,000",
        "10,000 parked",
    ),
    other(
        Measure::Memory,
        "parked100k",
        "parked",
        100_000,
        "resident memory of a parked greenlet, of 100,000",
        "100,000 parked",
    ),
    other(
        Measure::Idle,
        "idle",
        "parked",
        10_000,
        "processor time of a process with 10,000 parked greenlets",
        "10,000 parked, idle",
    ),
];

impl Measurable for Case {
    const ALL: &[Case] = &ALL;
    const BASE: Kind = Kind::Ours;

    fn name(self) -> &'static str {
        self.name
    }
}
