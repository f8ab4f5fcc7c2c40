//! The works of `benches/compare` on `may` as its documentation has it, with its default features:
//! `may_runtime WORK COUNT THREADS SECONDS`, with THREADS workers.
//!
//! Its channels have no bound, so a sender never waits; stacks have the size of Greenwood's.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use may::coroutine::{self, JoinHandle, yield_now};
use may::sync::{Semphore, SyncFlag, mpsc};

#[expect(dead_code, reason = "its queues have no bound")]
#[path = "../../../../compare/contender.rs"]
mod contender;

use contender::{BATCH, Order, STACK_USED, Schedule, TURNS, cannot, stage, use_stack};

/// 256 KiB, in words.
const STACK_SIZE: usize = (256 << 10) / 8;

/// Stack and guard page.
const MAPPINGS: u64 = 2;

fn main() {
    let order = Order::parse(std::env::args().skip(1));
    if order.work == "version" {
        println!("version 0.3.51");
        return;
    }
    let at_once = matches!(order.work.as_str(), "spawnall" | "timers" | "parked");
    if at_once && order.count * MAPPINGS > mappings() {
        // It would panic, or end in a failing allocation.
        cannot("vm.max_map_count is too low");
    }
    may::config()
        .set_workers(order.threads)
        .set_stack_size(STACK_SIZE)
        .set_worker_pin(false);
    if order.work == "parked" {
        parked(order.count);
        return;
    }
    join(spawn(move || {
        match order.work.as_str() {
            "timers" => return timers(order.count),
            "yield" => return turns(&order),
            _ => {}
        }
        for count in order.passes() {
            match order.work.as_str() {
                "spawn" => one_by_one(count),
                "spawn1k" => in_batches(count),
                "spawnall" => all_at_once(count),
                "pingpong" => ping_pong(count),
                "queue" | "queue2" => queue(count),
                "roundtrip" => round_trips(count),
                _ => cannot("unknown work"),
            }
        }
    }));
}

fn mappings() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(u64::MAX)
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    // SAFETY: nothing here keeps a thread-local over a switch, and the stack suffices.
    unsafe { coroutine::spawn(f) }
}

fn join<T>(coroutine: JoinHandle<T>) -> T {
    coroutine.join().expect("it ends with a value")
}

fn one_by_one(count: u64) {
    let sum: u64 = (0..count).map(|i| join(spawn(move || i))).sum();
    assert_eq!(sum, (0..count).sum());
}

fn in_batches(count: u64) {
    for _ in 0..count / BATCH {
        all_at_once(BATCH);
    }
}

fn all_at_once(count: u64) {
    let coroutines: Vec<_> = (0..count).map(|i| spawn(move || i)).collect();
    let sum: u64 = coroutines.into_iter().map(join).sum();
    assert_eq!(sum, (0..count).sum());
}

/// Coroutines that wait until they are told to act, and again, when all have acted, to end.
struct Crowd<T> {
    gates: Arc<Gates>,
    coroutines: Vec<JoinHandle<T>>,
}

struct Gates {
    first: SyncFlag,
    second: SyncFlag,
    arrived: Semphore,
    done: Semphore,
}

impl<T: Send + 'static> Crowd<T> {
    /// Starts so many, and returns when all wait. Each is given its number to act.
    fn gather(count: u64, act: impl Fn(u64) -> T + Clone + Send + 'static) -> Crowd<T> {
        let gates = Arc::new(Gates {
            first: SyncFlag::new(),
            second: SyncFlag::new(),
            arrived: Semphore::new(0),
            done: Semphore::new(0),
        });
        let coroutines = (0..count)
            .map(|i| {
                let (gates, act) = (Arc::clone(&gates), act.clone());
                spawn(move || {
                    gates.arrived.post();
                    gates.first.wait();
                    let result = act(i);
                    gates.done.post();
                    gates.second.wait();
                    result
                })
            })
            .collect();
        (0..count).for_each(|_| gates.arrived.wait());
        Crowd { gates, coroutines }
    }

    /// Returns when all have acted.
    fn act(&self) {
        self.gates.first.fire();
        (0..self.coroutines.len()).for_each(|_| self.gates.done.wait());
    }

    /// What each has returned.
    fn end(self) -> impl Iterator<Item = T> {
        self.gates.second.fire();
        self.coroutines.into_iter().map(join)
    }
}

fn turns(order: &Order) {
    let mut passes = order.passes();
    while let Some(count) = passes.next() {
        let turns = count / TURNS;
        let crowd = Crowd::gather(TURNS, move |_| {
            let mut switches = 0;
            while switches < turns {
                yield_now();
                switches += 1;
            }
            switches
        });
        passes.prepared();
        crowd.act();
        passes.done();
        assert_eq!(crowd.end().sum::<u64>(), count);
    }
}

fn ping_pong(count: u64) {
    let (there, back) = (Arc::new(Semphore::new(0)), Arc::new(Semphore::new(0)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = spawn(move || {
        for _ in 0..count {
            their_there.wait();
            their_back.post();
        }
    });
    for _ in 0..count {
        there.post();
        back.wait();
    }
    join(other);
}

fn queue(count: u64) {
    let (sender, receiver) = mpsc::channel();
    let other = spawn(move || {
        let items = (0..count).map(|_| receiver.recv().expect("there is one more"));
        items.sum::<u64>()
    });
    for i in 0..count {
        sender.send(i).expect("it is open");
    }
    assert_eq!(join(other), (0..count).sum());
}

fn round_trips(count: u64) {
    let (there, their_there) = mpsc::channel::<u64>();
    let (their_back, back) = mpsc::channel();
    let other = spawn(move || {
        for _ in 0..count {
            let number = their_there.recv().expect("there is one more");
            their_back.send(number).expect("it is open");
        }
    });
    for i in 0..count {
        there.send(i).expect("it is open");
        assert_eq!(back.recv(), Ok(i));
    }
    join(other);
}

fn timers(count: u64) {
    let schedule = Arc::new(OnceLock::<Schedule>::new());
    let theirs = Arc::clone(&schedule);
    let crowd = Crowd::gather(count, move |i| {
        let due = theirs.get().expect("set before the start").due(i);
        coroutine::sleep(due.saturating_duration_since(Instant::now()));
        Schedule::late(due)
    });
    let schedule = schedule.get_or_init(Schedule::start);
    crowd.act();
    let slept = schedule.done();
    slept.report(crowd.end().collect());
}

fn parked(count: u64) {
    join(spawn(use_stack));
    stage("ready");
    let crowd = Crowd::gather(count, |_| use_stack());
    stage("parked");
    crowd.act();
    stage("used");
    assert!(crowd.end().all(|bytes| bytes == STACK_USED));
    println!("operations {count}");
}
