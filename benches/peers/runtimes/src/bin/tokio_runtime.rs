//! The works of `benches/compare` on tokio: `tokio_runtime current|multi WORK COUNT THREADS
//! SECONDS`, on the current-thread runtime or the multi-thread one with THREADS workers.
//!
//! All runs in tasks, the main one too. A task that is parked has no stack, so using 40 KiB of one
//! uses the worker's.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{spawn_blocking, yield_now};

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

async fn turns(order: &Order) {
    let mut passes = order.passes();
    while let Some(count) = passes.next() {
        let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (arrived, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let turns = count / TURNS as u64;
        let tasks: Vec<_> = (0..TURNS)
            .map(|_| {
                let (first, second) = (Arc::clone(&first), Arc::clone(&second));
                let (arrived, done) = (Arc::clone(&arrived), Arc::clone(&done));
                tokio::spawn(async move {
                    arrived.add_permits(1);
                    take(&first).await;
                    let mut switches = 0;
                    while switches < turns {
                        yield_now().await;
                        switches += 1;
                    }
                    done.add_permits(1);
                    take(&second).await;
                    switches
                })
            })
            .collect();
        all_of(&arrived, TURNS as u64).await;
        passes.prepared();
        first.add_permits(TURNS);
        all_of(&done, TURNS as u64).await;
        passes.done();
        second.add_permits(TURNS);
        let mut switches = 0;
        for task in tasks {
            switches += task.await.expect("it ends");
        }
        assert_eq!(switches, count);
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
    let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (arrived, slept) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let tasks: Vec<_> = (0..count)
        .map(|i| {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            let (arrived, slept) = (Arc::clone(&arrived), Arc::clone(&slept));
            let schedule = Arc::clone(&schedule);
            tokio::spawn(async move {
                arrived.add_permits(1);
                take(&first).await;
                let due: Instant = schedule.get().expect("set before the start").due(i);
                tokio::time::sleep_until(due.into()).await;
                let late = Schedule::late(due);
                slept.add_permits(1);
                take(&second).await;
                late
            })
        })
        .collect();
    all_of(&arrived, count).await;
    let schedule = schedule.get_or_init(Schedule::start);
    first.add_permits(count as usize);
    all_of(&slept, count).await;
    let all = schedule.done();
    second.add_permits(count as usize);
    let mut late = Vec::new();
    for task in tasks {
        late.push(task.await.expect("it ends"));
    }
    all.report(late);
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
    let (first, second) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (arrived, used) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            let (arrived, used) = (Arc::clone(&arrived), Arc::clone(&used));
            tokio::spawn(async move {
                arrived.add_permits(1);
                take(&first).await;
                let bytes = use_stack();
                used.add_permits(1);
                take(&second).await;
                bytes
            })
        })
        .collect();
    all_of(&arrived, count).await;
    staged("parked").await;
    first.add_permits(count as usize);
    all_of(&used, count).await;
    staged("used").await;
    second.add_permits(count as usize);
    for task in tasks {
        assert_eq!(task.await.expect("it ends"), STACK_USED);
    }
    println!("operations {count}");
}
