//! Turns come in the order of wakes, whoever wakes, and whoever has resumed that one: `may`'s loop,
//! one of the hub's, or a greenlet that waits.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::net::UnixStream;
use greenwood_runtime::{
    Builder, Event, Greenlet, Hub, Semaphore, getcurrent, idle, joinall, sleep, spawn,
};

use crate::support::{OnDrop, deadline, eventually, spawn_on, until_waits};

/// Runs `test` in a greenlet of each hub, with each of the ways in which it may get its turn: a
/// function to be called just before what the test is about.
fn however_resumed(test: fn(fn())) {
    let _deadline = deadline();
    let by_an_event = || {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let writes = std::thread::spawn(move || there.write_all(&[1]).unwrap());
        here.read_exact(&mut [0]).unwrap();
        writes.join().unwrap();
        // Its end was waited for by a thread's means, so nothing has run since.
    };
    let by_a_greenlet = || {
        let event = Arc::new(Event::new());
        let theirs = Arc::clone(&event);
        spawn(move || theirs.set());
        event.wait();
    };
    let ways: [fn(); 6] = [
        || {},
        || sleep(Duration::from_millis(1)),
        || sleep(Duration::ZERO),
        idle,
        by_an_event,
        by_a_greenlet,
    ];
    for hub in 0..Hub::count() {
        for way in ways {
            spawn_on(hub, move || test(way)).join().unwrap();
            // By one that waits for it meanwhile.
            let nested = spawn_on(hub, move || spawn(move || test(way)).join());
            nested.join().unwrap().unwrap();
        }
    }
}

/// Also beyond the stacks that are kept: each of these needs one of its own.
#[test]
fn those_who_are_spawned_begin_one_behind_the_other() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        spawn_on(hub, || {
            let go = Arc::new(Event::new());
            let stop = Arc::new(Event::new());
            let others: Vec<_> = (0..100)
                .map(|_| {
                    let stop = Arc::clone(&stop);
                    spawn(move || {
                        while !stop.is_set() {
                            sleep(Duration::ZERO);
                        }
                    })
                })
                .collect();
            let begun = Arc::new(Mutex::new(0));
            let parked: Vec<_> = (0..1_000)
                .map(|_| {
                    let (go, begun) = (Arc::clone(&go), Arc::clone(&begun));
                    spawn(move || {
                        *begun.lock().unwrap() += 1;
                        go.wait();
                    })
                })
                .collect();
            // A few, as there are polls in between.
            let mut rounds = 0;
            while *begun.lock().unwrap() < 1_000 {
                sleep(Duration::ZERO);
                rounds += 1;
            }
            assert!(rounds < 100, "{rounds} rounds");
            go.set();
            stop.set();
            assert!(joinall(&parked, None) && joinall(&others, None));
        })
        .join()
        .unwrap();
    }
}

type Log = Arc<Mutex<Vec<usize>>>;

fn log() -> Log {
    Log::default()
}

/// A greenlet that notes in `log` when it has its turn.
struct Sleeper {
    greenlet: Greenlet<()>,
    event: Arc<Event>,
    semaphore: Arc<Semaphore>,
    _peer: UnixStream,
    number: usize,
}

impl Sleeper {
    /// By its number it waits in one of four ways.
    fn new(number: usize, log: &Log) -> Sleeper {
        let log = Arc::clone(log);
        let notes = OnDrop(move || log.lock().unwrap().push(number));
        let event = Arc::new(Event::new());
        let semaphore = Arc::new(Semaphore::new(0));
        let (mut here, peer) = UnixStream::pair().unwrap();
        let (its_event, its_semaphore) = (Arc::clone(&event), Arc::clone(&semaphore));
        let greenlet = spawn(move || {
            let _notes = notes;
            match number % 4 {
                0 => drop(its_event.wait()),
                1 => assert!(its_semaphore.acquire()),
                2 => drop(here.read_exact(&mut [0])),
                _ => sleep(Duration::MAX),
            }
        });
        Sleeper {
            greenlet,
            event,
            semaphore,
            _peer: peer,
            number,
        }
    }

    fn several(count: usize, log: &Log) -> Vec<Sleeper> {
        let sleepers: Vec<_> = (0..count).map(|it| Sleeper::new(it, log)).collect();
        for sleeper in &sleepers {
            until_waits(sleeper.greenlet.id());
        }
        sleepers
    }

    /// Ends its wait. Does not wait itself.
    fn wake(&self) {
        match self.number % 4 {
            0 => self.event.set(),
            1 => self.semaphore.release(),
            _ => self.greenlet.kill_nowait(),
        }
    }
}

/// A machine that holds up the hub for milliseconds has some of them put off until after a poll.
#[track_caller]
fn in_order(what: &str, order: impl Fn() -> (Vec<usize>, Vec<usize>)) {
    eventually(what, || {
        let (found, expected) = order();
        assert_eq!(found.len(), expected.len());
        found == expected
    });
}

#[test]
fn turns_come_in_the_order_of_wakes() {
    however_resumed(|has_its_turn| {
        in_order("the order of the wakes", || {
            let log = log();
            let sleepers = Sleeper::several(24, &log);
            let order: Vec<_> = (0..24).map(|i| i * 7 % 24).collect();
            has_its_turn();
            for &number in &order {
                sleepers[number].wake();
            }
            for sleeper in sleepers {
                sleeper.greenlet.join().ok();
            }
            let found = log.lock().unwrap().clone();
            (found, order)
        });
    });
}

#[test]
fn who_passes_comes_behind_those_who_can_run() {
    however_resumed(|has_its_turn| {
        in_order("the one who passes is last", || {
            let log = log();
            let sleepers = Sleeper::several(5, &log);
            has_its_turn();
            for sleeper in &sleepers {
                sleeper.wake();
            }
            sleep(Duration::ZERO);
            log.lock().unwrap().push(9);
            for sleeper in sleepers {
                sleeper.greenlet.join().ok();
            }
            let found = log.lock().unwrap().clone();
            (found, vec![0, 1, 2, 3, 4, 9])
        });
    });
}

#[test]
fn who_has_others_run_is_killed_by_one_of_them() {
    however_resumed(|has_its_turn| {
        let waits = spawn(move || {
            has_its_turn();
            let current = getcurrent().expect("a greenlet");
            spawn(move || current.kill_nowait());
            Event::new().wait();
        });
        assert!(waits.join().unwrap_err().is_killed());
    });
}

#[test]
fn what_a_greenlet_wakes_runs_when_it_waits_for_a_descriptor() {
    however_resumed(|has_its_turn| {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let event = Arc::new(Event::new());
        let theirs = Arc::clone(&event);
        let writes = spawn(move || {
            theirs.wait();
            there.write_all(&[1]).unwrap();
        });
        until_waits(writes.id());
        has_its_turn();
        event.set();
        here.read_exact(&mut [0]).unwrap();
        writes.join().unwrap();
    });
}

/// Nothing of ours is called then.
#[test]
fn what_a_greenlet_wakes_runs_when_it_leaves_in_mays_way() {
    however_resumed(|has_its_turn| {
        let log = log();
        let sleepers = Sleeper::several(8, &log);
        has_its_turn();
        for sleeper in &sleepers {
            sleeper.wake();
        }
        while log.lock().unwrap().len() < 8 {
            may::coroutine::yield_now();
        }
        for sleeper in sleepers {
            sleeper.greenlet.join().ok();
        }
    });
}

#[test]
fn what_a_greenlet_wakes_runs_when_it_ends() {
    however_resumed(|has_its_turn| {
        let log = log();
        let sleepers = Sleeper::several(3, &log);
        let wakes = spawn(move || {
            has_its_turn();
            for sleeper in &sleepers {
                sleeper.wake();
            }
            sleepers
        });
        for sleeper in wakes.join().unwrap() {
            sleeper.greenlet.join().ok();
        }
        assert_eq!(log.lock().unwrap().len(), 3);
    });
}

/// A greenlet that waits has others run on top of its own stack, but those have nobody on theirs.
#[test]
fn stacks_are_not_piled_up() {
    however_resumed(|has_its_turn| {
        fn chain(length: usize) -> usize {
            if length == 0 {
                return 0;
            }
            let small = Builder::new().stack_size(64 << 10);
            let next = small.spawn(move || chain(length - 1)).unwrap();
            next.join().unwrap() + 1
        }
        has_its_turn();
        assert_eq!(chain(300), 300);
    });
}

#[test]
fn those_that_have_been_woken_are_counted() {
    however_resumed(|turn_before| {
        let event = Arc::new(Event::new());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let event = Arc::clone(&event);
                let waiting = spawn(move || event.wait());
                until_waits(waiting.id());
                waiting
            })
            .collect();
        turn_before();
        let hub = getcurrent().expect("in a greenlet").hub();
        let ready = || Hub::stats()[hub].ready;
        let before = ready();
        event.set();
        assert_eq!(ready(), before + 3);
        waiting.into_iter().for_each(|greenlet| {
            greenlet.join().unwrap();
        });
    });
}
