//! The works of `benches/compare` on tokio: `tokio_runtime current|multi WORK COUNT THREADS
//! SECONDS`, on the current-thread runtime or the multi-thread one with THREADS workers.
//!
//! All runs in tasks, the main one too. A task that is parked has no stack, so using 40 KiB of one
//! uses the worker's.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};

#[path = "../../../../compare/contender.rs"]
mod contender;

use contender::{BATCH, Order, ROOM, STACK_USED, Schedule, TURNS, cannot, stage, use_stack};

fn main() {
    let mut words = std::env::args().skip(1);
    let current = match words.next().as_deref() {
        Some("current") => true,
        Some("multi") => false,
        _ => cannot("current or multi is wanted"),
    };
    let order = Order::parse(words);
    if order.work == "version" {
        println!("version 1.54.1");
        return;
    }
    if current && order.threads > 1 {
        cannot("it has one thread");
    }
    let runtime = if current {
        Builder::new_current_thread().enable_time().build()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(order.threads).enable_time().build()
    };
    match runtime {
        Ok(runtime) => run(&runtime, order),
        Err(error) => cannot(error),
    }
}

fn run(runtime: &Runtime, order: Order) {
    let main = runtime.spawn(async move {
        match order.work.as_str() {
            "timers" => return timers(order.count).await,
            "parked" => return parked(order.count).await,
            "yield" => return turns(&order).await,
            _ => {}
        }
        for count in order.passes() {
            match order.work.as_str() {
                "spawn" => one_by_one(count).await,
                "spawn1k" => in_batches(count).await,
                "spawnall" => all_at_once(count).await,
                "pingpong" => ping_pong(count).await,
                "queue" | "queue2" => queue(count).await,
                "roundtrip" => round_trips(count).await,
                _ => cannot("unknown work"),
            }
        }
    });
    runtime.block_on(main).expect("it ends");
}

async fn one_by_one(count: u64) {
    let mut sum = 0;
    for i in 0..count {
        sum += tokio::spawn(async move { i }).await.expect("it ends");
    }
    assert_eq!(sum, (0..count).sum());
}

async fn in_batches(count: u64) {
    for _ in 0..count / BATCH {
        all_at_once(BATCH).await;
    }
}

async fn all_at_once(count: u64) {
    let tasks: Vec<_> = (0..count).map(|i| tokio::spawn(async move { i })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.expect("it ends");
    }
    assert_eq!(sum, (0..count).sum());
}

/// Tasks that wait until they are told to act, and again, when all have acted, to end.
struct Crowd<T> {
    gates: Arc<Gates>,
    tasks: Vec<JoinHandle<T>>,
}

struct Gates {
    first: Semaphore,
    second: Semaphore,
    arrived: Semaphore,
    done: Semaphore,
}

impl<T: Send + 'static> Crowd<T> {
    /// Starts so many, and returns when all wait. Each is given its number to act.
    async fn gather<F>(count: u64, act: impl Fn(u64) -> F) -> Crowd<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let gates = Arc::new(Gates {
            first: Semaphore::new(0),
            second: Semaphore::new(0),
            arrived: Semaphore::new(0),
            done: Semaphore::new(0),
        });
        let tasks = (0..count)
            .map(|i| {
                let (gates, act) = (Arc::clone(&gates), act(i));
                tokio::spawn(async move {
                    gates.arrived.add_permits(1);
                    take(&gates.first).await;
                    let result = act.await;
                    gates.done.add_permits(1);
                    take(&gates.second).await;
                    result
                })
            })
            .collect();
        all_of(&gates.arrived, count).await;
        Crowd { gates, tasks }
    }

    /// Returns when all have acted.
    async fn act(&self) {
        self.gates.first.add_permits(self.tasks.len());
        all_of(&self.gates.done, self.tasks.len() as u64).await;
    }

    /// What each has returned.
    async fn end(self) -> Vec<T> {
        self.gates.second.add_permits(self.tasks.len());
        let mut results = Vec::with_capacity(self.tasks.len());
        for task in self.tasks {
            results.push(task.await.expect("it ends"));
        }
        results
    }
}

async fn turns(order: &Order) {
    let mut passes = order.passes();
    while let Some(count) = passes.next() {
        let turns = count / TURNS;
        let crowd = Crowd::gather(TURNS, |_| async move {
            let mut switches = 0;
            while switches < turns {
                yield_now().await;
                switches += 1;
            }
            switches
        })
        .await;
        passes.prepared();
        crowd.act().await;
        passes.done();
        assert_eq!(crowd.end().await.iter().sum::<u64>(), count);
    }
}

async fn take(semaphore: &Semaphore) {
    semaphore.acquire().await.expect("it is open").forget();
}

async fn ping_pong(count: u64) {
    let (there, back) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = tokio::spawn(async move {
        for _ in 0..count {
            take(&their_there).await;
            their_back.add_permits(1);
        }
    });
    for _ in 0..count {
        there.add_permits(1);
        take(&back).await;
    }
    other.await.expect("it ends");
}

async fn queue(count: u64) {
    let (sender, mut receiver) = mpsc::channel(ROOM);
    let other = tokio::spawn(async move {
        let mut sum = 0;
        for _ in 0..count {
            sum += receiver.recv().await.expect("there is one more");
        }
        sum
    });
    for i in 0..count {
        sender.send(i).await.expect("it is open");
    }
    assert_eq!(other.await.expect("it ends"), (0..count).sum::<u64>());
}

async fn round_trips(count: u64) {
    let (there, mut their_there) = mpsc::channel::<u64>(ROOM);
    let (their_back, mut back) = mpsc::channel(ROOM);
    let other = tokio::spawn(async move {
        for _ in 0..count {
            let number = their_there.recv().await.expect("there is one more");
            their_back.send(number).await.expect("it is open");
        }
    });
    for i in 0..count {
        there.send(i).await.expect("it is open");
        assert_eq!(back.recv().await, Some(i));
    }
    other.await.expect("it ends");
}

async fn timers(count: u64) {
    let schedule = Arc::new(OnceLock::<Schedule>::new());
    let crowd = Crowd::gather(count, |i| {
        let schedule = Arc::clone(&schedule);
        async move {
            let due: Instant = schedule.get().expect("set before the start").due(i);
            tokio::time::sleep_until(due.into()).await;
            Schedule::late(due)
        }
    })
    .await;
    let schedule = schedule.get_or_init(Schedule::start);
    crowd.act().await;
    let slept = schedule.done();
    slept.report(crowd.end().await);
}

async fn all_of(ready: &Semaphore, count: u64) {
    let count = u32::try_from(count).expect("not that many");
    ready
        .acquire_many(count)
        .await
        .expect("it is open")
        .forget();
}

async fn parked(count: u64) {
    let staged = async |name| spawn_blocking(move || stage(name)).await.expect("it ends");
    tokio::spawn(async { use_stack() }).await.expect("it ends");
    staged("ready").await;
    let crowd = Crowd::gather(count, |_| async { use_stack() }).await;
    staged("parked").await;
    crowd.act().await;
    staged("used").await;
    assert!(crowd.end().await.iter().all(|&bytes| bytes == STACK_USED));
    println!("operations {count}");
}
