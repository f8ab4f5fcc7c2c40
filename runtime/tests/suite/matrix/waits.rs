//! Sleeps, greenlets' ends, events, results, latches, and several of them.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{
    AsyncResult, CountDownLatch, Event, Greenlet, JoinAll, Semaphore, idle, iwait, joinall,
    killall, run_in_greenlet, scope, sleep, spawn, wait,
};

use super::{Call, LONG, play, row};
use crate::support::waiting;

/// A greenlet that comes to 7 when the event is set.
struct Target {
    event: Arc<Event>,
    greenlet: Greenlet<u8>,
}

fn target() -> Target {
    let event = Arc::new(Event::new());
    let theirs = Arc::clone(&event);
    let greenlet = spawn(move || {
        theirs.wait();
        7
    });
    Target { event, greenlet }
}

impl Target {
    fn set(&self) {
        self.event.set();
    }

    fn settle(&self, _: bool) {
        assert_eq!(self.greenlet.get().unwrap(), &7);
        assert_eq!(waiting(&*self.event), 0);
    }
}

/// One that catches each kill, until it is told to end.
struct Stubborn {
    stop: Arc<AtomicBool>,
    greenlet: Greenlet<()>,
}

fn stubborn() -> Stubborn {
    let (stop, started) = (Arc::new(AtomicBool::new(false)), Arc::new(Event::new()));
    let (theirs, ready) = (Arc::clone(&stop), Arc::clone(&started));
    let greenlet = spawn(move || {
        ready.set();
        while !theirs.load(Ordering::SeqCst) {
            drop(catch_unwind(|| sleep(Duration::from_micros(50))));
        }
    });
    // Else a kill would end it before it has begun.
    started.wait();
    Stubborn { stop, greenlet }
}

impl Stubborn {
    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn settle(&self, _: bool) {
        assert!(self.greenlet.join_timeout(LONG));
    }
}

#[test]
fn sleeps() {
    play("matrix::waits::sleeps", || {
        vec![
            row(
                "sleep",
                || (),
                |_, limit| {
                    sleep(limit.unwrap_or(LONG));
                    false
                },
                |_| {},
                |_, _| {},
            ),
            row(
                "sleep, in turns",
                || AtomicBool::new(false),
                |stop, _| {
                    while !stop.load(Ordering::SeqCst) {
                        sleep(Duration::ZERO);
                    }
                    true
                },
                |stop| stop.store(true, Ordering::SeqCst),
                |_, _| {},
            )
            .without_limit(),
            row(
                "idle, in turns",
                || AtomicBool::new(false),
                |stop, _| {
                    while !stop.load(Ordering::SeqCst) {
                        idle();
                    }
                    true
                },
                |stop| stop.store(true, Ordering::SeqCst),
                |_, _| {},
            )
            .without_limit(),
        ]
    });
}

#[test]
fn ends_of_greenlets() {
    play("matrix::waits::ends_of_greenlets", || {
        let on_target =
            |name, call: Call<Target>| row(name, target, call, Target::set, Target::settle);
        let on_stubborn = |name, call: Call<Stubborn>| {
            row(name, stubborn, call, Stubborn::stop, Stubborn::settle).slower(5)
        };
        vec![
            on_target("join_timeout", |it, limit| {
                it.greenlet.join_timeout(limit.unwrap_or(LONG))
            }),
            on_target("get", |it, limit| match limit {
                Some(limit) => it.greenlet.get_timeout(limit).is_ok(),
                None => it.greenlet.get().is_ok(),
            }),
            on_target("joinall", |it, limit| joinall([&it.greenlet], limit)),
            on_target("JoinAll", |it, limit| {
                let all = JoinAll::new([&it.greenlet]).timeout(limit.unwrap_or(LONG));
                all.raise_error().unwrap().len() == 1
            }),
            on_target("wait for a greenlet", |it, limit| {
                wait(&[&it.greenlet], limit, None) == [0]
            }),
            row(
                "join",
                || {
                    let Target { event, greenlet } = target();
                    (event, Mutex::new(Some(greenlet)))
                },
                |(_, greenlet), _| {
                    let greenlet = greenlet.lock().unwrap().take().unwrap();
                    greenlet.join().unwrap() == 7
                },
                |(event, _)| event.set(),
                |_, _| {},
            )
            .without_limit(),
            on_stubborn("kill", |it, limit| match limit {
                Some(limit) => it.greenlet.kill_timeout(limit),
                None => {
                    it.greenlet.kill();
                    true
                }
            }),
            on_stubborn("kill_with", |it, _| {
                it.greenlet.kill_with(1);
                true
            })
            .without_limit(),
            on_stubborn("killall", |it, limit| killall([&it.greenlet], limit)),
            row(
                "scope",
                Event::new,
                |event, _| scope(|s| s.spawn(|| event.wait()).join().unwrap_or(false)),
                Event::set,
                |event, _| assert_eq!(waiting(event), 0),
            )
            .without_limit(),
            row(
                "scope, at its end",
                Event::new,
                |event, _| {
                    scope(|s| drop(s.spawn(|| event.wait())));
                    true
                },
                Event::set,
                |event, _| assert_eq!(waiting(event), 0),
            )
            .without_limit(),
            row(
                "run_in_greenlet",
                || Arc::new(Event::new()),
                |event, _| {
                    let event = Arc::clone(event);
                    run_in_greenlet(move || event.wait()).unwrap()
                },
                |event| event.set(),
                |_, _| {},
            )
            .without_limit(),
        ]
    });
}

#[test]
fn events_results_and_latches() {
    play("matrix::waits::events_results_and_latches", || {
        vec![
            row(
                "event",
                Event::new,
                |event, limit| match limit {
                    Some(limit) => event.wait_timeout(limit),
                    None => event.wait(),
                },
                Event::set,
                |event, _| assert_eq!((event.is_set(), waiting(event)), (true, 0)),
            ),
            row(
                "result get",
                AsyncResult::<u8, ()>::new,
                |result, limit| match limit {
                    Some(limit) => result.get_timeout(limit) == Ok(&7),
                    None => result.get() == Ok(&7),
                },
                |result| result.set(7).unwrap(),
                |result, _| assert_eq!((result.value(), waiting(result)), (Some(&7), 0)),
            ),
            row(
                "result wait",
                AsyncResult::<u8, ()>::new,
                |result, limit| match limit {
                    Some(limit) => result.wait_timeout(limit),
                    None => result.wait(),
                },
                |result| result.set_exception(()).unwrap(),
                |result, _| assert_eq!((result.exception(), waiting(result)), (Some(&()), 0)),
            ),
            row(
                "latch",
                || CountDownLatch::new(1),
                |latch, limit| match limit {
                    Some(limit) => latch.wait_timeout(limit),
                    None => latch.wait(),
                },
                |latch| assert!(latch.count_down()),
                |latch, _| assert_eq!((latch.count(), waiting(latch)), (0, 0)),
            ),
            row(
                "wait",
                || (Event::new(), Semaphore::new(0)),
                |(event, semaphore), limit| wait(&[semaphore, event], limit, Some(1)) == [1],
                |(event, _)| event.set(),
                |(event, semaphore), _| {
                    assert_eq!((waiting(event), waiting(semaphore)), (0, 0));
                },
            ),
            row(
                "iwait",
                || (Event::new(), Semaphore::new(0)),
                |(event, semaphore), limit| iwait(&[semaphore, event], limit).next() == Some(0),
                |(_, semaphore)| semaphore.release(),
                |(_, semaphore), _| assert_eq!(semaphore.counter(), 1),
            ),
        ]
    });
}
