//! Kills and time-outs against every call of every kind of queue: each item is got exactly once, or
//! is still there, or has come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{
    Channel, GetError, Hub, LifoQueue, PriorityQueue, PutError, Queue, SimpleQueue, joinall,
    with_timeout,
};

use crate::support::{any_hub, count, deadline, eventually, spawn_on};

const ROUNDS: usize = 1_500;
const PAIRS: usize = 3;
/// How long those who exchange have at first.
const PATIENCE: Duration = Duration::from_micros(200);

trait Exchange: Send + Sync + 'static {
    fn put(&self, item: usize) -> Result<(), PutError<usize>>;
    fn put_timeout(&self, item: usize, limit: Duration) -> Result<(), PutError<usize>>;
    fn get(&self) -> Result<usize, GetError>;
    fn get_timeout(&self, limit: Duration) -> Result<usize, GetError>;
    fn get_nowait(&self) -> Result<usize, GetError>;
    fn debug(&self) -> String;
}

macro_rules! exchange {
    ($($kind:ident)+) => {$(
        impl Exchange for $kind<usize> {
            fn put(&self, item: usize) -> Result<(), PutError<usize>> {
                self.put(item)
            }
            fn put_timeout(&self, item: usize, limit: Duration) -> Result<(), PutError<usize>> {
                self.put_timeout(item, limit)
            }
            fn get(&self) -> Result<usize, GetError> {
                self.get()
            }
            fn get_timeout(&self, limit: Duration) -> Result<usize, GetError> {
                self.get_timeout(limit)
            }
            fn get_nowait(&self) -> Result<usize, GetError> {
                self.get_nowait()
            }
            fn debug(&self) -> String {
                format!("{self:?}")
            }
        }
    )+};
}

exchange!(Queue SimpleQueue LifoQueue PriorityQueue Channel);

/// What is known of an item: how its put ended, and how often it was got.
#[derive(Default)]
struct Fate {
    put: AtomicU8,
    got: AtomicUsize,
}

const PUT: u8 = 1;
const CAME_BACK: u8 = 2;

fn exchange_under_fire(make: fn() -> Arc<dyn Exchange>) {
    let _deadline = deadline();
    let (mut moved, mut rounds) = (0, 0);
    // Until enough has come across, however slow the machine is.
    let mut patience = PATIENCE;
    while rounds < ROUNDS || moved <= ROUNDS / 4 {
        let (round, before) = (rounds, moved);
        rounds += 1;
        let queue = make();
        let fates: Arc<[Fate; PAIRS]> = Arc::default();
        let brief = Duration::from_micros((round % 80) as u64);
        let mut greenlets = Vec::new();
        for i in 0..PAIRS {
            let (theirs, told) = (Arc::clone(&queue), Arc::clone(&fates));
            greenlets.push(spawn_on(any_hub(round + i), move || {
                let put = match (round + i) % 3 {
                    0 => theirs.put(i),
                    1 => theirs.put_timeout(i, brief),
                    _ => match with_timeout(brief, || theirs.put(i)) {
                        Ok(put) => put,
                        Err(_) => return,
                    },
                };
                let end = if put.is_ok() { PUT } else { CAME_BACK };
                told[i].put.store(end, Ordering::SeqCst);
            }));
            let (theirs, told) = (Arc::clone(&queue), Arc::clone(&fates));
            greenlets.push(spawn_on(any_hub(round / 2 + i), move || {
                let got = match (round + i) % 4 {
                    0 | 1 => theirs.get(),
                    2 => theirs.get_timeout(brief),
                    _ => match with_timeout(brief, || theirs.get()) {
                        Ok(got) => got,
                        Err(_) => return,
                    },
                };
                if let Ok(item) = got {
                    told[item].got.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        let (first, second) = (round % greenlets.len(), (round / 3 + 1) % greenlets.len());
        greenlets[first].kill_nowait();
        greenlets[second].kill_nowait();
        // Those whose partners were killed would wait for ever.
        joinall(&greenlets, Some(patience));
        greenlets.iter().for_each(|greenlet| greenlet.kill_nowait());
        assert!(joinall(&greenlets, None));
        while let Ok(item) = queue.get_nowait() {
            fates[item].got.fetch_add(1, Ordering::SeqCst);
        }
        for (item, fate) in fates.iter().enumerate() {
            let (put, got) = (
                fate.put.load(Ordering::SeqCst),
                fate.got.load(Ordering::SeqCst),
            );
            // What a put reported is there, once, and what it did not is not.
            let expected = usize::from(put == PUT);
            assert_eq!(
                got,
                expected,
                "item {item} of round {round}: {}",
                queue.debug()
            );
            moved += got;
        }
        for list in ["getters: 0", "putters: 0"] {
            assert!(queue.debug().contains(list), "{}", queue.debug());
        }
        patience = match moved > before {
            true => PATIENCE,
            false => (patience * 2).min(100 * PATIENCE),
        };
    }
}

#[test]
fn queue_loses_and_invents_nothing_under_fire() {
    exchange_under_fire(|| Arc::new(Queue::new(1)));
}

#[test]
fn simple_queue_loses_and_invents_nothing_under_fire() {
    exchange_under_fire(|| Arc::new(SimpleQueue::new(0)));
}

#[test]
fn lifo_queue_loses_and_invents_nothing_under_fire() {
    exchange_under_fire(|| Arc::new(LifoQueue::new(2)));
}

#[test]
fn priority_queue_loses_and_invents_nothing_under_fire() {
    exchange_under_fire(|| Arc::new(PriorityQueue::new(1)));
}

#[test]
fn channel_loses_and_invents_nothing_under_fire() {
    exchange_under_fire(|| Arc::new(Channel::new()));
}

#[test]
fn killed_and_timed_out_waiters_of_every_call_leave_nothing_behind() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let queue = Arc::new(Queue::new(1));
        let payload = Arc::new(());
        queue.put(Arc::clone(&payload)).unwrap();
        let empty = Arc::new(Queue::<Arc<()>>::new(1));
        for round in 0..100 {
            let (full, theirs, item) =
                (Arc::clone(&queue), Arc::clone(&empty), Arc::clone(&payload));
            let waiter = spawn_on(hub, move || match round % 4 {
                0 => drop(full.put(item)),
                1 => drop(theirs.get()),
                2 => drop(theirs.peek()),
                _ => drop(full.join()),
            });
            eventually("it waits or is about to", || {
                let waiting = count(&queue, "putters") + count(&empty, "getters");
                round % 4 == 3 || waiting == 1
            });
            waiter.kill();
            assert_eq!(Arc::strong_count(&payload), 2, "round {round}");
        }
        assert_eq!(count(&queue, "putters") + count(&empty, "getters"), 0);
    }
}
