//! Pools of greenlets and of threads.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use greenwood_runtime::{Builder, Event, Greenlet, Pool, ThreadPool, ThreadResult, sleep, wait};

use super::{Call, LONG, Row, play, row};
use crate::support::eventually;

/// A full pool: its one member waits for the event.
struct Full {
    pool: Pool,
    event: Arc<Event>,
}

fn full() -> Full {
    let (pool, event) = (Pool::new(1), Arc::new(Event::new()));
    let theirs = Arc::clone(&event);
    pool.spawn(move || theirs.wait());
    Full { pool, event }
}

/// A pool with room whose members will wait for the event.
fn roomy() -> Full {
    Full {
        pool: Pool::new(3),
        event: Arc::new(Event::new()),
    }
}

impl Full {
    fn set(&self) {
        self.event.set();
    }

    /// All end, and each place is free, at once or as soon as a feeder of an `imap` has ended.
    fn settle(&self, _: bool) {
        assert!(self.pool.join(Some(LONG)));
        eventually("all places are free", || {
            (self.pool.len(), self.pool.free_count()) == (0, self.pool.size())
        });
    }

    /// A greenlet that nobody has started.
    fn unstarted(&self) -> Greenlet<u8> {
        Builder::new().unstarted(|| 3).unwrap()
    }
}

#[test]
fn pools() {
    play("matrix::pools::pools", || {
        let on = |name, scene: fn() -> Full, call: Call<Full>| {
            row(name, scene, call, Full::set, Full::settle)
        };
        vec![
            on("Pool spawn", full, |it, limit| match limit {
                Some(limit) => it.pool.spawn_timeout(limit, || 3).is_ok(),
                None => {
                    it.pool.spawn(|| 3);
                    true
                }
            }),
            on("Pool start", full, |it, limit| match limit {
                Some(limit) => it.pool.start_timeout(&it.unstarted(), limit).is_ok(),
                None => it.pool.start(&it.unstarted()).is_ok(),
            }),
            on("Pool add", full, |it, limit| {
                let greenlet = it.unstarted();
                let added = match limit {
                    Some(limit) => it.pool.add_timeout(&greenlet, limit).is_ok(),
                    None => it.pool.add(&greenlet).is_ok(),
                };
                // Else it would keep its place for ever.
                it.pool.discard(&greenlet);
                added
            }),
            on("Pool join", full, |it, limit| it.pool.join(limit)),
            on("Pool join_raise_error", full, |it, limit| {
                it.pool.join_raise_error(limit).unwrap()
            }),
            on("Pool wait_available", full, |it, limit| {
                it.pool.wait_available(limit) == 1
            }),
            on("Pool apply", roomy, |it, _| {
                let event = Arc::clone(&it.event);
                it.pool.apply(move || event.wait()).unwrap()
            })
            .without_limit(),
            on("Pool apply, where there is no room", full, |it, _| {
                it.pool.apply(|| true).unwrap()
            })
            .without_limit(),
            on("Pool map", roomy, |it, _| {
                let event = Arc::clone(&it.event);
                it.pool.map(move |_| event.wait(), 0..4).unwrap().len() == 4
            })
            .without_limit()
            .slower(3),
            on("Pool imap", roomy, |it, _| {
                let event = Arc::clone(&it.event);
                let mut all = it.pool.imap(move |i| event.wait() && i < 4, 0..4, 1);
                matches!(all.next(), Some(Ok(true)))
            })
            .without_limit()
            .slower(3),
            on("Pool imap_unordered", roomy, |it, _| {
                let event = Arc::clone(&it.event);
                let mut all = it.pool.imap_unordered(move |_| event.wait(), 0..4, 0);
                matches!(all.next(), Some(Ok(true)))
            })
            .without_limit()
            .slower(3),
        ]
    });
}

/// A pool of one that catches each kill until it is told to end.
struct Stubborn {
    pool: Pool,
    member: Greenlet<()>,
    stop: Arc<AtomicBool>,
}

fn stubborn() -> Stubborn {
    let (pool, stop) = (Pool::new(1), Arc::new(AtomicBool::new(false)));
    let (theirs, started) = (Arc::clone(&stop), Arc::new(Event::new()));
    let ready = Arc::clone(&started);
    let member = pool.spawn(move || {
        ready.set();
        while !theirs.load(Ordering::SeqCst) {
            drop(catch_unwind(|| sleep(Duration::from_micros(50))));
        }
    });
    started.wait();
    Stubborn { pool, member, stop }
}

#[test]
fn kills_of_pools() {
    play("matrix::pools::kills_of_pools", || {
        let on = |name, call: Call<Stubborn>| {
            row(
                name,
                stubborn,
                call,
                |it| it.stop.store(true, Ordering::SeqCst),
                |it, _| {
                    assert!(it.pool.join(Some(LONG)));
                    assert_eq!(it.pool.free_count(), 1);
                },
            )
            .slower(5)
        };
        vec![
            on("Pool kill", |it, limit| match limit {
                Some(limit) => it.pool.kill_timeout(limit),
                None => {
                    it.pool.kill();
                    true
                }
            }),
            on("Pool killone", |it, _| it.pool.killone(&it.member)).without_limit(),
        ]
    });
}

/// A thread pool with a job that ends when told.
struct Busy {
    pool: ThreadPool,
    job: Mutex<Option<ThreadResult<()>>>,
    end: Mutex<Option<mpsc::Sender<()>>>,
}

/// `jobs` of them, the first of which waits for the end, and the others for the first.
fn busy(jobs: usize) -> Busy {
    let pool = ThreadPool::new(1);
    let (end, ended) = mpsc::channel::<()>();
    let begun = Arc::new(Event::new());
    let begins = Arc::clone(&begun);
    let job = pool.spawn(move || {
        begins.set();
        ended.recv().ok();
    });
    // Else a kill of the pool would end it before.
    begun.wait();
    for _ in 1..jobs {
        pool.spawn_nowait(|| {}).unwrap();
    }
    Busy {
        pool,
        job: Mutex::new(Some(job)),
        end: Mutex::new(Some(end)),
    }
}

impl Busy {
    fn job(&self) -> ThreadResult<()> {
        let job = self.job.lock().unwrap().take();
        job.expect("asked for once")
    }

    fn end(&self) {
        self.end.lock().unwrap().take();
    }

    /// All jobs end, and so do the threads.
    fn settle(&self, _: bool) {
        assert!(self.pool.join(Some(LONG)));
        assert_eq!(self.pool.len(), 0);
        assert_eq!(self.pool.apply(|| 1).unwrap(), 1);
        assert!(self.pool.kill_timeout(LONG));
        assert_eq!(self.pool.size(), 0);
    }
}

fn on_busy(name: &'static str, scene: fn() -> Busy, call: Call<Busy>) -> Row {
    row(name, scene, call, Busy::end, Busy::settle).slower(4)
}

#[test]
fn thread_pools() {
    play("matrix::pools::thread_pools", || {
        vec![
            on_busy(
                "ThreadPool spawn",
                || busy(2),
                |it, limit| match limit {
                    Some(limit) => it.pool.spawn_timeout(limit, || {}).is_ok(),
                    None => {
                        it.pool.spawn(|| {});
                        true
                    }
                },
            ),
            on_busy(
                "ThreadPool apply",
                || busy(1),
                |it, _| it.pool.apply(|| true).unwrap(),
            )
            .without_limit(),
            on_busy(
                "ThreadPool map",
                || busy(1),
                |it, _| it.pool.map(|i| i, 0..3).unwrap() == [0, 1, 2],
            )
            .without_limit(),
            on_busy(
                "ThreadPool imap",
                || busy(1),
                |it, _| matches!(it.pool.imap(|i| i, 0..3, 1).next(), Some(Ok(0))),
            )
            .without_limit(),
            on_busy(
                "ThreadPool imap_unordered",
                || busy(1),
                |it, _| matches!(it.pool.imap_unordered(|i| i, 0..3, 1).next(), Some(Ok(_))),
            )
            .without_limit(),
            on_busy(
                "ThreadPool join",
                || busy(2),
                |it, limit| it.pool.join(limit),
            ),
            on_busy(
                "ThreadPool kill",
                || busy(1),
                |it, limit| match limit {
                    Some(limit) => it.pool.kill_timeout(limit),
                    None => {
                        it.pool.kill();
                        true
                    }
                },
            ),
        ]
    });
}

#[test]
fn results_of_threads() {
    play("matrix::pools::results_of_threads", || {
        vec![
            on_busy(
                "ThreadResult join_timeout",
                || busy(1),
                |it, limit| it.job().join_timeout(limit.unwrap_or(LONG)),
            ),
            on_busy(
                "ThreadResult join",
                || busy(1),
                |it, _| it.job().join().is_ok(),
            )
            .without_limit(),
            on_busy(
                "wait for a ThreadResult",
                || busy(1),
                |it, limit| wait(&[&it.job()], limit, None) == [0],
            ),
        ]
    });
}
