//! Kills: whom they reach, and what they leave behind.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{
    Builder, Event, Hub, JoinError, Queue, Semaphore, getcurrent, is_interrupt, joinall, killall,
    sleep, spawn, with_timeout,
};

use crate::support::{
    EVERYWHERE, OnDrop, any_hub, deadline, deadline_of, eventually, spawn_on, until_waits,
};

#[test]
fn unstarted_greenlet_never_runs_and_its_closure_is_dropped() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for round in 0..50 {
            from.run(move || {
                let ran = Arc::new(AtomicBool::new(false));
                let dropped = Arc::new(AtomicBool::new(false));
                let (runs, drops) = (Arc::clone(&ran), Arc::clone(&dropped));
                let captured = OnDrop(move || drops.store(true, Ordering::SeqCst));
                // From a greenlet of the same hub it can't have started; from elsewhere it may
                // have.
                let hub = Hub::current().unwrap_or(any_hub(round));
                let sure = Hub::current().is_some();
                let greenlet = spawn_on(hub, move || {
                    let _captured = captured;
                    runs.store(sure, Ordering::SeqCst);
                });
                greenlet.kill();
                assert!(greenlet.ready());
                assert!(dropped.load(Ordering::SeqCst));
                assert!(!ran.load(Ordering::SeqCst));
                if sure {
                    assert!(greenlet.join().unwrap_err().is_killed());
                }
            });
        }
    }
}

#[test]
fn greenlet_of_spawn_later_is_killed_at_once() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for hub in 0..Hub::count() {
            from.run(move || {
                let dropped = Arc::new(AtomicBool::new(false));
                let drops = Arc::clone(&dropped);
                let captured = OnDrop(move || drops.store(true, Ordering::SeqCst));
                let greenlet = Builder::new()
                    .hub(hub)
                    .spawn_later(Duration::from_secs(3_600), move || drop(captured))
                    .unwrap();
                greenlet.kill();
                assert!(dropped.load(Ordering::SeqCst));
                assert!(greenlet.join().unwrap_err().is_killed());
            });
        }
    }
}

#[test]
fn kill_races_the_start_of_spawn_later() {
    let _deadline = deadline();
    for round in 0..2_000 {
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        let greenlet = Builder::new()
            .hub(any_hub(round))
            .spawn_later(Duration::from_micros(round as u64 % 100), move || {
                runs.store(true, Ordering::SeqCst);
            })
            .unwrap();
        greenlet.kill();
        assert_eq!(greenlet.join().is_ok(), ran.load(Ordering::SeqCst));
    }
}

#[test]
fn kill_is_idempotent_and_does_nothing_to_the_dead() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let unwound = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&unwound);
            let greenlet = spawn(move || {
                let _count = OnDrop(|| {
                    count.fetch_add(1, Ordering::SeqCst);
                });
                sleep(Duration::from_secs(3_600));
            });
            until_waits(greenlet.id());
            for _ in 0..10 {
                greenlet.kill_nowait();
            }
            greenlet.kill();
            greenlet.kill();
            assert!(greenlet.kill_timeout(Duration::ZERO));
            assert_eq!(unwound.load(Ordering::SeqCst), 1);
            assert!(greenlet.join().unwrap_err().is_killed());
            let fine = spawn(|| 8);
            assert!(fine.join_timeout(Duration::from_secs(30)));
            fine.kill();
            assert_eq!(fine.join().unwrap(), 8);
        });
    }
}

#[test]
fn greenlet_kills_itself() {
    let _deadline = deadline();
    let dropped = Arc::new(AtomicBool::new(false));
    let drops = Arc::clone(&dropped);
    let greenlet = spawn(move || {
        let _drops = OnDrop(|| drops.store(true, Ordering::SeqCst));
        getcurrent().unwrap().kill_nowait();
        unreachable!("killing oneself unwinds at once");
    });
    let error = greenlet.join().unwrap_err();
    assert!(matches!(error, JoinError::Killed { .. }), "{error}");
    assert!(error.to_string().ends_with("was killed"), "{error}");
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn killall_may_include_the_caller() {
    let _deadline = deadline();
    let greenlets = Arc::new(Queue::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let counts = || {
        let ended = Arc::clone(&ended);
        OnDrop(move || {
            ended.fetch_add(1, Ordering::SeqCst);
        })
    };
    let (theirs, count) = (Arc::clone(&greenlets), counts());
    let caller = spawn(move || {
        let _count = count;
        let all: Vec<greenwood_runtime::Greenlet<()>> = theirs.get().unwrap();
        killall(&all, None);
        unreachable!("it was among them");
    });
    let mut all = vec![caller];
    for _ in 0..3 {
        let count = counts();
        all.push(spawn(move || {
            let _count = count;
            sleep(Duration::from_secs(3_600));
        }));
    }
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    greenlets.put(all).unwrap();
    eventually("they have ended", || ended.load(Ordering::SeqCst) == 4);
}

#[test]
fn killall_ends_them_all() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let greenlets: Vec<_> = (0..100)
                .map(|i| spawn_on(any_hub(i), || sleep(Duration::from_secs(3_600))))
                .collect();
            assert!(killall(&greenlets, Some(Duration::from_secs(30))));
            for greenlet in greenlets {
                assert!(greenlet.join().unwrap_err().is_killed());
            }
        });
    }
}

#[test]
fn kill_timeout_gives_up_on_who_does_not_block() {
    let _deadline = deadline();
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let started = Arc::new(Event::new());
    let ready = Arc::clone(&started);
    let busy = spawn_on(Hub::count() - 1, move || {
        ready.set();
        while !theirs.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        "done"
    });
    started.wait();
    assert!(!busy.kill_timeout(Duration::from_millis(5)));
    stop.store(true, Ordering::SeqCst);
    assert!(busy.join_timeout(Duration::from_secs(30)));
}

#[test]
fn swallowed_kill_is_raised_again_by_the_next_blocking_call() {
    let _deadline = deadline();
    for killer in EVERYWHERE {
        let caught = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&caught);
        let started = Arc::new(Event::new());
        let ready = Arc::clone(&started);
        let stubborn = spawn_on(0, move || {
            ready.set();
            for _ in 0..3 {
                let result = catch_unwind(|| sleep(Duration::from_secs(3_600)));
                assert!(is_interrupt(&*result.unwrap_err()));
                count.fetch_add(1, Ordering::SeqCst);
            }
            let queue = Queue::<()>::new(0);
            queue.put(()).unwrap();
            unreachable!("a blocking call raises the kill, also when it need not wait");
        });
        started.wait();
        let stubborn = Arc::new(stubborn);
        let theirs = Arc::clone(&stubborn);
        killer.run(move || theirs.kill());
        assert_eq!(caught.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn kill_and_panic_payloads_are_told_apart() {
    let _deadline = deadline();
    let panic = catch_unwind(|| std::panic::resume_unwind(Box::new(1))).unwrap_err();
    assert!(!is_interrupt(&*panic));
    let expired = with_timeout(Duration::ZERO, || {
        let payload = catch_unwind(|| sleep(Duration::from_secs(1))).unwrap_err();
        assert!(is_interrupt(&*payload));
        std::panic::resume_unwind(payload)
    });
    let expired: Result<(), _> = expired;
    assert!(expired.is_err());
}

/// While a greenlet unwinds, its blocking calls act as with a time-out of zero, and destructors run
/// to their end.
#[test]
fn blocking_calls_in_destructors_return_at_once() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        for panics in [false, true] {
            let done = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&done);
            let sleeper = spawn(|| sleep(Duration::from_secs(3_600)));
            let started = Arc::new(Event::new());
            let ready = Arc::clone(&started);
            let greenlet = spawn_on(hub, move || {
                ready.set();
                let _check = OnDrop(move || {
                    sleep(Duration::from_secs(3_600));
                    sleep(Duration::ZERO);
                    greenwood_runtime::idle();
                    assert!(!Event::new().wait());
                    assert!(!Semaphore::new(0).acquire());
                    let queue = Queue::new(1);
                    assert!(queue.get().is_err());
                    // What need not wait is done.
                    assert_eq!(queue.put(1), Ok(()));
                    assert!(queue.put(2).is_err());
                    assert_eq!(queue.get(), Ok(1));
                    assert!(!sleeper.join_timeout(Duration::from_secs(3_600)));
                    assert!(!joinall([&sleeper], None));
                    // Told, but not waited for.
                    sleeper.kill();
                    // Others can be started, but not waited for.
                    let child = spawn(|| 1);
                    assert!(matches!(child.join(), Err(JoinError::Unwinding)));
                    told.store(true, Ordering::SeqCst);
                });
                if panics {
                    std::panic::resume_unwind(Box::new("x"));
                }
                sleep(Duration::from_secs(3_600));
            });
            started.wait();
            if !panics {
                greenlet.kill();
            }
            let error = greenlet.join().unwrap_err();
            assert_eq!(error.is_panic(), panics);
            assert!(done.load(Ordering::SeqCst));
        }
    }
}

#[test]
fn joiner_that_is_killed_leaves_the_other_alone() {
    let _deadline = deadline();
    let go = Arc::new(Event::new());
    let theirs = Arc::clone(&go);
    let other = Arc::new(spawn(move || theirs.wait()));
    let joined = Arc::clone(&other);
    let joiner = spawn(move || joined.join_timeout(Duration::from_secs(3_600)));
    until_waits(joiner.id());
    joiner.kill();
    assert!(!other.ready());
    go.set();
    assert!(other.join_timeout(Duration::from_secs(30)));
}

/// Kills at every moment of a greenlet's life, from every hub and from threads: each one ends, with
/// its destructors run once.
#[test]
fn no_kill_is_lost_in_a_hundred_thousand() {
    let _deadline = deadline_of(Duration::from_secs(240));
    let rounds = if cfg!(debug_assertions) {
        20_000
    } else {
        100_000
    };
    let killers: Vec<_> = EVERYWHERE
        .into_iter()
        .map(|killer| {
            killer.start(move || {
                for round in 0..rounds / 3 {
                    let unwound = Arc::new(AtomicUsize::new(0));
                    let count = Arc::clone(&unwound);
                    let victim = spawn_on(any_hub(round), move || {
                        let _count = OnDrop(|| {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                        match round % 5 {
                            0 => sleep(Duration::from_secs(3_600)),
                            1 => drop(Event::new().wait()),
                            2 => drop(Queue::<()>::new(0).get()),
                            3 => loop {
                                sleep(Duration::ZERO);
                            },
                            _ => loop {
                                sleep(Duration::from_micros(20));
                            },
                        }
                    });
                    for _ in 0..round % 4 {
                        sleep(Duration::ZERO);
                    }
                    victim.kill();
                    assert!(victim.ready());
                    assert!(unwound.load(Ordering::SeqCst) <= 1);
                    let error = victim.join().unwrap_err();
                    assert!(error.is_killed(), "{error}");
                }
            })
        })
        .collect();
    killers.into_iter().for_each(|killer| killer());
}

#[test]
fn closures_of_killed_greenlets_may_block_as_they_are_dropped() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let dropped = Arc::new(AtomicBool::new(false));
        let drops = Arc::clone(&dropped);
        let captured = OnDrop(move || {
            drops.store(true, Ordering::SeqCst);
            // It is killed, so this raises; nothing of it may reach the hub.
            sleep(Duration::from_millis(1));
        });
        let greenlet = Builder::new()
            .hub(hub)
            .spawn_later(Duration::from_secs(3_600), move || drop(captured))
            .unwrap();
        greenlet.kill();
        assert!(dropped.load(Ordering::SeqCst));
        assert_eq!(spawn_on(hub, || 1).join().unwrap(), 1);
    }
}
