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

fn turns(order: &Order) {
    let mut passes = order.passes();
    while let Some(count) = passes.next() {
        let (first, second) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let arrived = Arc::new(CountDownLatch::new(TURNS));
        let done = Arc::new(CountDownLatch::new(TURNS));
        let turns = count / TURNS as u64;
        let greenlets: Vec<_> = (0..TURNS)
            .map(|_| {
                let (first, second) = (Arc::clone(&first), Arc::clone(&second));
                let (arrived, done) = (Arc::clone(&arrived), Arc::clone(&done));
                spawn(move || {
                    arrived.count_down();
                    assert!(first.wait());
                    let mut switches = 0;
                    while switches < turns {
                        sleep(Duration::ZERO);
                        switches += 1;
                    }
                    done.count_down();
                    assert!(second.wait());
                    switches
                })
            })
            .collect();
        assert!(arrived.wait());
        passes.prepared();
        first.set();
        assert!(done.wait());
        passes.done();
        second.set();
        let switches: u64 = greenlets.into_iter().map(join).sum();
        assert_eq!(switches, count);
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
    let (first, second) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let arrived = Arc::new(CountDownLatch::new(count as usize));
    let slept = Arc::new(CountDownLatch::new(count as usize));
    let greenlets: Vec<_> = (0..count)
        .map(|i| {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            let (arrived, slept) = (Arc::clone(&arrived), Arc::clone(&slept));
            let schedule = Arc::clone(&schedule);
            spawn(move || {
                arrived.count_down();
                assert!(first.wait());
                let due = schedule.get().expect("set before the start").due(i);
                sleep(due.saturating_duration_since(Instant::now()));
                let late = Schedule::late(due);
                slept.count_down();
                assert!(second.wait());
                late
            })
        })
        .collect();
    assert!(arrived.wait());
    let schedule = schedule.get_or_init(Schedule::start);
    first.set();
    assert!(slept.wait());
    let all = schedule.done();
    second.set();
    all.report(greenlets.into_iter().map(join).collect());
}

fn parked(count: u64) {
    // What is made once is not the greenlets'.
    join(spawn(use_stack));
    stage("ready");
    let (first, second) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let arrived = Arc::new(CountDownLatch::new(count as usize));
    let used = Arc::new(CountDownLatch::new(count as usize));
    let greenlets: Vec<_> = (0..count)
        .map(|_| {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            let (arrived, used) = (Arc::clone(&arrived), Arc::clone(&used));
            spawn(move || {
                arrived.count_down();
                assert!(first.wait());
                let bytes = use_stack();
                used.count_down();
                assert!(second.wait());
                bytes
            })
        })
        .collect();
    assert!(arrived.wait());
    stage("parked");
    first.set();
    assert!(used.wait());
    stage("used");
    second.set();
    assert!(
        greenlets
            .into_iter()
            .map(join)
            .all(|bytes| bytes == STACK_USED)
    );
    println!("operations {count}");
}
