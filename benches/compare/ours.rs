//! The works of `benches/compare`, done by greenlets: our side.
//!
//! ```text
//! cargo run --release --example runtime_works -- WORK COUNT THREADS SECONDS
//! ```
//!
//! `benches/peers/README.md` says what is written and read.
#![forbid(unsafe_code)]

mod contender;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use greenwood::runtime::CountDownLatch;
use greenwood::{Builder, Event, Greenlet, Hub, Queue, Semaphore, sleep};

use contender::{BATCH, Order, ROOM, STACK_USED, Schedule, TURNS, cannot, stage, use_stack};

fn main() {
    let order = Order::parse(std::env::args().skip(1));
    if order.work == "version" {
        println!("version {}", env!("CARGO_PKG_VERSION"));
        return;
    }
    if let Err(error) = Hub::config().hubs(order.threads).start() {
        cannot(error);
    }
    match order.work.as_str() {
        "parked" => parked(order.count),
        work => {
            let work: fn(Order) = match work {
                "spawn" => |order| order.passes().for_each(one_by_one),
                "spawn1k" => |order| order.passes().for_each(in_batches),
                "spawnall" => |order| order.passes().for_each(all_at_once),
                "yield" => |order| turns(&order),
                "pingpong" => |order| order.passes().for_each(ping_pong),
                "queue" => |order| order.passes().for_each(|count| queue(count, 0)),
                "queue2" => |order| order.passes().for_each(|count| queue(count, 1)),
                "roundtrip" => |order| order.passes().for_each(round_trips),
                "timers" => |order| timers(order.count),
                _ => cannot("unknown work"),
            };
            start(0, move || work(order)).join().expect("it ends");
        }
    }
}

fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Greenlet<T> {
    start(0, f)
}

fn start<T: Send + 'static>(hub: usize, f: impl FnOnce() -> T + Send + 'static) -> Greenlet<T> {
    match Builder::new().hub(hub).spawn(f) {
        Ok(greenlet) => greenlet,
        Err(error) => cannot(error),
    }
}

fn join<T: Send + 'static>(greenlet: Greenlet<T>) -> T {
    greenlet.join().expect("it ends with a value")
}

fn one_by_one(count: u64) {
    let sum: u64 = (0..count).map(|i| join(spawn(move || i))).sum();
    assert_eq!(sum, (0..count).sum::<u64>());
}

fn in_batches(count: u64) {
    for _ in 0..count / BATCH {
        all_at_once(BATCH);
    }
}

fn all_at_once(count: u64) {
    let greenlets: Vec<_> = (0..count).map(|i| spawn(move || i)).collect();
    let sum: u64 = greenlets.into_iter().map(join).sum();
    assert_eq!(sum, (0..count).sum::<u64>());
}

/// Greenlets that wait until they are told to act, and again, when all have acted, to end.
struct Crowd<T> {
    gates: Arc<Gates>,
    greenlets: Vec<Greenlet<T>>,
}

struct Gates {
    first: Event,
    second: Event,
    arrived: CountDownLatch,
    done: CountDownLatch,
}

impl<T: Send + 'static> Crowd<T> {
    /// Starts so many, and returns when all wait. Each is given its number to act.
    fn gather(count: u64, act: impl Fn(u64) -> T + Clone + Send + 'static) -> Crowd<T> {
        let gates = Arc::new(Gates {
            first: Event::new(),
            second: Event::new(),
            arrived: CountDownLatch::new(count as usize),
            done: CountDownLatch::new(count as usize),
        });
        let greenlets = (0..count)
            .map(|i| {
                let (gates, act) = (Arc::clone(&gates), act.clone());
                spawn(move || {
                    gates.arrived.count_down();
                    assert!(gates.first.wait());
                    let result = act(i);
                    gates.done.count_down();
                    assert!(gates.second.wait());
                    result
                })
            })
            .collect();
        assert!(gates.arrived.wait());
        Crowd { gates, greenlets }
    }

    /// Returns when all have acted.
    fn act(&self) {
        self.gates.first.set();
        assert!(self.gates.done.wait());
    }

    /// What each has returned.
    fn end(self) -> impl Iterator<Item = T> {
        self.gates.second.set();
        self.greenlets.into_iter().map(join)
    }
}

fn turns(order: &Order) {
    let mut passes = order.passes();
    while let Some(count) = passes.next() {
        let turns = count / TURNS;
        let crowd = Crowd::gather(TURNS, move |_| {
            let mut switches = 0;
            while switches < turns {
                sleep(Duration::ZERO);
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
    let (there, back) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = spawn(move || {
        for _ in 0..count {
            assert!(their_there.acquire());
            their_back.release();
        }
    });
    for _ in 0..count {
        there.release();
        assert!(back.acquire());
    }
    join(other);
}

/// From a greenlet of hub 0 to one of `hub`.
fn queue(count: u64, hub: usize) {
    let queue = Arc::new(Queue::new(ROOM));
    let theirs = Arc::clone(&queue);
    let other = start(hub, move || {
        let items = (0..count).map(|_| theirs.get().expect("there is one more"));
        items.sum::<u64>()
    });
    for i in 0..count {
        queue.put(i).expect("it is open");
    }
    assert_eq!(join(other), (0..count).sum::<u64>());
}

fn round_trips(count: u64) {
    let (there, back) = (Arc::new(Queue::new(ROOM)), Arc::new(Queue::new(ROOM)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = spawn(move || {
        for _ in 0..count {
            let number: u64 = their_there.get().expect("there is one more");
            their_back.put(number).expect("it is open");
        }
    });
    for i in 0..count {
        there.put(i).expect("it is open");
        assert_eq!(back.get(), Ok(i));
    }
    join(other);
}

fn timers(count: u64) {
    let schedule = Arc::new(OnceLock::<Schedule>::new());
    let theirs = Arc::clone(&schedule);
    let crowd = Crowd::gather(count, move |i| {
        let due = theirs.get().expect("set before the start").due(i);
        sleep(due.saturating_duration_since(Instant::now()));
        Schedule::late(due)
    });
    let schedule = schedule.get_or_init(Schedule::start);
    crowd.act();
    let slept = schedule.done();
    slept.report(crowd.end().collect());
}

fn parked(count: u64) {
    // What is made once is not the greenlets'.
    join(spawn(use_stack));
    stage("ready");
    let crowd = Crowd::gather(count, |_| use_stack());
    stage("parked");
    crowd.act();
    stage("used");
    assert!(crowd.end().all(|bytes| bytes == STACK_USED));
    println!("operations {count}");
}
