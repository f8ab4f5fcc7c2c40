//! What a handle tells of a greenlet's life: states, results, kills with a payload, and who spawned
//! it.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    Builder, Event, Greenlet, Hub, JoinAll, JoinError, ResultError, SpawnError, current_id,
    getcurrent, is_interrupt, is_kill, killall_nowait, sleep, spawn, spawn_later, spawn_local,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, eventually, spawn_on};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

/// (started, dead, ready, successful, has a value, has an exception)
fn state<T: Sync>(greenlet: &Greenlet<T>) -> [bool; 6] {
    [
        greenlet.started(),
        greenlet.dead(),
        greenlet.ready(),
        greenlet.successful(),
        greenlet.value().is_some(),
        greenlet.exception().is_some(),
    ]
}

const UNSTARTED: [bool; 6] = [false; 6];
const STARTED: [bool; 6] = [true, false, false, false, false, false];
const RETURNED: [bool; 6] = [false, true, true, true, true, false];
const FAILED: [bool; 6] = [false, true, true, false, false, true];
// gevent: a GreenletExit is a success.
const KILLED: [bool; 6] = [false, true, true, true, false, false];

#[test]
fn states_of_a_greenlet_that_returns() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (running, go) = (Arc::new(Event::new()), Arc::new(Event::new()));
            let (set, wait) = (Arc::clone(&running), Arc::clone(&go));
            let greenlet = Greenlet::new(move || {
                set.set();
                wait.wait();
                5
            });
            assert_eq!(state(&greenlet), UNSTARTED);
            assert!(!running.wait_timeout(Duration::from_millis(1)));
            greenlet.start().unwrap();
            running.wait();
            assert_eq!(state(&greenlet), STARTED);
            assert_eq!(
                greenlet
                    .get_timeout(Duration::ZERO)
                    .unwrap_err()
                    .to_string(),
                "there was no result in time"
            );
            go.set();
            assert_eq!(greenlet.get().copied().unwrap(), 5);
            assert_eq!(state(&greenlet), RETURNED);
            assert_eq!(greenlet.get_timeout(Duration::ZERO).copied().unwrap(), 5);
            greenlet.start().unwrap();
            greenlet.kill();
            assert_eq!(greenlet.join().unwrap(), 5);
        });
    }
}

#[test]
fn states_of_a_greenlet_that_fails() {
    let _deadline = deadline();
    let greenlet: Greenlet<()> = spawn(|| std::panic::resume_unwind(Box::new("ouch")));
    assert!(greenlet.get().unwrap_err().is_panic());
    assert_eq!(state(&greenlet), FAILED);
    let error = greenlet.get_timeout(LONG).unwrap_err();
    assert!(matches!(error, ResultError::Exception(error) if error.is_panic()));
    assert!(greenlet.exception().unwrap().to_string().ends_with("ouch"));
}

/// gevent's TestKill: unstarted, started, to be started later, and running; with and without a
/// wait, alone and among others, with a payload and without.
#[test]
fn killed_greenlets_are_dead_and_never_run() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for stage in ["unstarted", "started", "later", "running"] {
            for way in ["block", "nowait", "killall", "with", "throw"] {
                from.run(move || check_kill(stage, way));
            }
        }
    }
}

fn check_kill(stage: &str, way: &str) {
    let ran = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(Event::new());
    let (runs, begins) = (Arc::clone(&ran), Arc::clone(&begun));
    // Of a hub that is not the caller's at times: it may begin before the kill if it is started.
    let greenlet = Greenlet::new(move || {
        begins.set();
        sleep(LONG);
        runs.store(true, Ordering::SeqCst);
    });
    match stage {
        "started" => greenlet.start().unwrap(),
        "later" => greenlet.start_later(LONG).unwrap(),
        "running" => {
            greenlet.start().unwrap();
            begun.wait();
        }
        _ => {}
    }
    for _ in 0..2 {
        match way {
            "block" => greenlet.kill(),
            "nowait" => greenlet.kill_nowait(),
            "killall" => killall_nowait([&greenlet]),
            "with" => greenlet.kill_with("reason"),
            _ => greenlet.throw("reason"),
        }
        // A second time does no harm.
        assert!(greenlet.join_timeout(LONG));
    }
    let payload = matches!(way, "with" | "throw");
    assert_eq!(state(&greenlet), if payload { FAILED } else { KILLED });
    greenlet.start().unwrap();
    assert!(!ran.load(Ordering::SeqCst), "{stage} {way}");
    let may_begin = matches!(stage, "started" | "running");
    assert!(may_begin || !begun.is_set(), "{stage} {way}");
    match greenlet.join().unwrap_err() {
        JoinError::Killed { .. } => assert!(!payload),
        error @ JoinError::KilledWith { .. } => {
            assert!(payload && error.is_killed() && !error.is_panic());
            assert!(error.to_string().ends_with("was killed: reason"), "{error}");
        }
        error => panic!("{error}"),
    }
}

#[test]
fn payload_comes_to_the_joiner_though_the_kill_is_swallowed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for hub in 0..Hub::count() {
            let begun = Arc::new(Event::new());
            let begins = Arc::clone(&begun);
            let greenlet = spawn_on(hub, move || {
                begins.set();
                for _ in 0..3 {
                    let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
                    assert!(is_interrupt(&*payload) && is_kill(&*payload));
                }
                sleep(LONG);
            });
            begun.wait();
            let error = from.run(move || {
                greenlet.throw(vec![1, 2]);
                // The first one decides.
                greenlet.throw("late");
                greenlet.kill();
                greenlet.kill_with("later");
                greenlet.join().unwrap_err()
            });
            let JoinError::KilledWith { payload, .. } = error else {
                panic!("{error}");
            };
            assert!(payload.is::<Vec<i32>>());
            let payload = payload.into_inner().downcast::<Vec<i32>>();
            assert_eq!(*payload.unwrap(), [1, 2]);
        }
    }
}

#[test]
fn payload_of_a_kill_that_comes_too_late_is_dropped() {
    let _deadline = deadline();
    let dropped = Arc::new(AtomicUsize::new(0));
    let payload = || {
        let dropped = Arc::clone(&dropped);
        OnDrop(move || {
            dropped.fetch_add(1, Ordering::SeqCst);
        })
    };
    let ended = spawn(|| 3);
    assert!(ended.join_timeout(LONG));
    ended.throw(payload());
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert_eq!(ended.join().unwrap(), 3);
    // One that does not block again returns its value.
    let (begun, go) = (Arc::new(Event::new()), Arc::new(AtomicBool::new(false)));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
    let busy = spawn(move || {
        begins.set();
        while !goes.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        4
    });
    begun.wait();
    busy.throw(payload());
    go.store(true, Ordering::SeqCst);
    assert_eq!(busy.join().unwrap(), 4);
    eventually("the payload is dropped", || {
        dropped.load(Ordering::SeqCst) == 2
    });
}

#[test]
fn greenlet_may_kill_itself_with_a_payload() {
    let _deadline = deadline();
    let handle: Arc<std::sync::Mutex<Option<Arc<Greenlet<()>>>>> = Arc::default();
    let mine = Arc::clone(&handle);
    let greenlet = Arc::new(Greenlet::new(move || {
        let me = mine.lock().unwrap().take().unwrap();
        me.throw(7);
        unreachable!("it unwinds at once");
    }));
    *handle.lock().unwrap() = Some(Arc::clone(&greenlet));
    greenlet.start().unwrap();
    assert!(greenlet.join_timeout(LONG));
    assert!(matches!(
        greenlet.exception(),
        Some(JoinError::KilledWith { payload, .. }) if payload.is::<i32>()
    ));
}

/// Kills with a payload at every moment of a greenlet's life: each payload is reported once.
#[test]
fn no_payload_is_lost() {
    let _deadline = deadline();
    let killers: Vec<_> = EVERYWHERE
        .into_iter()
        .map(|from| {
            from.start(|| {
                for round in 0..700 {
                    let greenlet = Arc::new(spawn_on(any_hub(round), move || match round % 3 {
                        0 => sleep(LONG),
                        1 => loop {
                            sleep(Duration::ZERO);
                        },
                        _ => drop(Event::new().wait()),
                    }));
                    for _ in 0..round % 4 {
                        sleep(Duration::ZERO);
                    }
                    let other = Arc::clone(&greenlet);
                    let second = spawn_on(any_hub(round + 1), move || other.kill_with(round));
                    greenlet.kill_with(round);
                    second.join().unwrap();
                    let greenlet = Arc::into_inner(greenlet).unwrap();
                    let JoinError::KilledWith { payload, .. } = greenlet.join().unwrap_err() else {
                        panic!("it was killed with a payload");
                    };
                    assert_eq!(*payload.into_inner().downcast::<usize>().unwrap(), round);
                }
            })
        })
        .collect();
    killers.into_iter().for_each(|killer| killer());
}

#[test]
fn start_later_waits_and_start_is_made_once() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Event::new()));
            let (counts, waits) = (Arc::clone(&runs), Arc::clone(&go));
            let begun = Instant::now();
            let greenlet = Greenlet::new(move || {
                let after = begun.elapsed();
                counts.fetch_add(1, Ordering::SeqCst);
                waits.wait();
                after
            });
            greenlet.start_later(SHORT).unwrap();
            greenlet.start().unwrap();
            assert!(greenlet.started());
            go.set();
            assert!(greenlet.join().unwrap() >= SHORT);
            assert_eq!(runs.load(Ordering::SeqCst), 1);
        });
    }
    // Many start it at the same moment.
    for _ in 0..200 {
        let greenlet = Arc::new(Greenlet::new(|| 1));
        for hub in 0..4 {
            let greenlet = Arc::clone(&greenlet);
            spawn_on(any_hub(hub), move || greenlet.start().unwrap());
        }
        assert_eq!(greenlet.get().copied().unwrap(), 1);
    }
}

#[test]
fn unstarted_greenlet_takes_what_the_builder_says() {
    let _deadline = deadline();
    let hub = Hub::count() - 1;
    let builder = Builder::new().name("later").hub(hub).stack_size(1 << 20);
    let greenlet = builder.unstarted(|| {
        let big = std::hint::black_box([1_u8; 300 * 1024]);
        (Hub::current().unwrap(), usize::from(big[4_711]))
    });
    let greenlet = greenlet.unwrap();
    assert_eq!((greenlet.name(), greenlet.hub()), ("later", hub));
    greenlet.start().unwrap();
    assert_eq!(greenlet.join().unwrap(), (hub, 1));
    let error = Builder::new()
        .hub(Hub::count())
        .unstarted(|| ())
        .unwrap_err();
    assert!(matches!(error, SpawnError::NoSuchHub { .. }));
    // Never started, its closure goes with the handle.
    let dropped = Arc::new(AtomicBool::new(false));
    let drops = Arc::clone(&dropped);
    let owned = OnDrop(move || drops.store(true, Ordering::SeqCst));
    let alive = Greenlet::new(move || drop(owned));
    assert!(!alive.join_timeout(Duration::from_millis(1)));
    drop(alive);
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn idents_are_small_and_come_back() {
    let _deadline = deadline();
    let greenlets: Vec<_> = (0..5).map(|_| spawn(|| ())).collect();
    let mut idents: Vec<_> = greenlets.iter().map(Greenlet::minimal_ident).collect();
    assert_eq!(idents[0], greenlets[0].minimal_ident());
    idents.sort_unstable();
    idents.dedup();
    assert_eq!(idents.len(), 5);
    // Other tests' greenlets have some too, but not many.
    assert!(idents.iter().all(|&ident| ident < 50), "{idents:?}");
    assert!(greenlets.iter().all(|greenlet| greenlet.join_timeout(LONG)));
    drop(greenlets);
    for _ in 0..200 {
        let greenlet = spawn(|| ());
        assert!(greenlet.minimal_ident() < 50);
        greenlet.join().unwrap();
    }
}

#[test]
fn greenlet_knows_who_spawned_it_and_where() {
    let _deadline = deadline();
    let line = line!() + 1;
    let greenlet = spawn(|| {
        let me = current_id();
        let current = getcurrent().unwrap();
        let children = [
            spawn(|| ()),
            spawn_later(Duration::ZERO, || ()),
            spawn_local(|| ()),
            Builder::new().hub(Hub::count() - 1).spawn(|| ()).unwrap(),
            Greenlet::new(|| ()),
        ];
        for child in &children {
            assert_eq!(child.spawning_greenlet(), me);
            assert!(child.spawning_site().file().ends_with("life.rs"));
        }
        let lines = children.map(|child| child.spawning_site().line());
        assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1));
        (current.spawning_greenlet(), current.spawning_site().line())
    });
    assert_eq!(greenlet.spawning_greenlet(), None);
    assert_eq!(greenlet.spawning_site().line(), line);
    assert_eq!(greenlet.join().unwrap(), (None, line));
}

#[test]
fn joinall_tells_which_have_ended_in_their_order() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let gates: Vec<_> = (0..4).map(|_| Arc::new(Event::new())).collect();
            let greenlets: Vec<_> = gates
                .iter()
                .map(|gate| {
                    let gate = Arc::clone(gate);
                    spawn(move || gate.wait())
                })
                .collect();
            let places = |finished: Vec<&Greenlet<bool>>| -> Vec<_> {
                let place = |it: &Greenlet<bool>| {
                    (greenlets.iter().position(|other| other.id() == it.id())).unwrap()
                };
                finished.into_iter().map(place).collect()
            };
            let all = || JoinAll::new(&greenlets);
            assert_eq!(places(all().timeout(SHORT).wait()), []);
            gates[2].set();
            assert_eq!(places(all().count(1).wait()), [2]);
            gates[0].set();
            assert_eq!(places(all().count(2).wait()).len(), 2);
            assert_eq!(places(all().timeout(SHORT).wait()), [0, 2]);
            gates.iter().for_each(|gate| gate.set());
            assert_eq!(all().wait().len(), 4);
            assert_eq!(all().raise_error().unwrap().len(), 4);
            let twice = JoinAll::new(greenlets.iter().chain(&greenlets));
            assert_eq!(twice.wait().len(), 8);
        });
    }
}

#[test]
fn joinall_raises_the_earliest_error() {
    let _deadline = deadline();
    let panics = |text: &'static str| -> () { std::panic::resume_unwind(Box::new(text)) };
    let go = Arc::new(Event::new());
    let waits = Arc::clone(&go);
    let greenlets = [
        spawn(|| sleep(LONG)),
        spawn(move || {
            waits.wait();
            panics("first")
        }),
        spawn(move || panics("second")),
    ];
    let error = JoinAll::new(&greenlets).raise_error().unwrap_err();
    assert!(error.to_string().ends_with("second"), "{error}");
    go.set();
    assert!(greenlets[1].join_timeout(LONG));
    // Without it they count like the others.
    assert_eq!(JoinAll::new(&greenlets).count(2).wait().len(), 2);
    // A kill is no error.
    greenlets[0].kill();
    assert_eq!(
        JoinAll::new(&greenlets[..1]).raise_error().unwrap().len(),
        1
    );
}
