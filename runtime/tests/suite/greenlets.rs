//! Spawning, joining, and what a greenlet is.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    Builder, Event, Greenlet, Hub, JoinError, SpawnError, current_id, getcurrent, idle, joinall,
    run_in_greenlet, sleep, spawn, spawn_later, spawn_local,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, eventually, spawn_on};

#[test]
fn spawn_never_runs_inline() {
    let _deadline = deadline();
    spawn(|| {
        let ran = Rc::new(Cell::new(false));
        let theirs = Rc::clone(&ran);
        let greenlet = spawn_local(move || theirs.set(true));
        assert!(!ran.get() && !greenlet.ready());
        greenlet.join().unwrap();
        assert!(ran.get());
    })
    .join()
    .unwrap();
}

#[test]
fn greenlets_of_one_hub_start_in_the_order_of_their_spawns() {
    let _deadline = deadline();
    spawn(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        // More than a hub wakes between two polls.
        let greenlets: Vec<_> = (0..500)
            .map(|i| {
                let order = Rc::clone(&order);
                spawn_local(move || order.borrow_mut().push(i))
            })
            .collect();
        assert!(joinall(&greenlets, None));
        assert_eq!(*order.borrow(), (0..500).collect::<Vec<_>>());
    })
    .join()
    .unwrap();
}

#[test]
fn greenlet_belongs_to_the_hub_of_who_spawns_it() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let greenlet = spawn_on(hub, move || {
            assert_eq!(Hub::current(), Some(hub));
            let child = spawn(|| Hub::current().unwrap());
            assert_eq!(child.hub(), hub);
            child.join().unwrap()
        });
        assert_eq!(greenlet.hub(), hub);
        assert_eq!(greenlet.join().unwrap(), hub);
    }
    assert_eq!(Hub::current(), None);
}

#[test]
fn spawns_from_a_thread_take_the_hubs_in_turn() {
    let _deadline = deadline();
    let hubs = Hub::count();
    let mut used = vec![0; hubs];
    for _ in 0..hubs * 20 {
        used[spawn(|| ()).hub()] += 1;
    }
    // Other tests spawn at the same time, so the turns are not exact.
    assert!(used.iter().all(|&times| times > 0), "{used:?}");
}

#[test]
fn builder_gives_name_hub_and_stack_size() {
    let _deadline = deadline();
    let hub = Hub::count() - 1;
    let greenlet = Builder::new()
        .name("worker of µ")
        .hub(hub)
        .stack_size(1 << 20)
        .spawn(|| {
            // Would overflow a stack of the default size.
            let big = std::hint::black_box([1_u8; 300 * 1024]);
            let me = getcurrent().unwrap();
            assert_eq!(Some(me.id()), current_id());
            (me.name().to_owned(), me.hub(), usize::from(big[4_711]))
        })
        .unwrap();
    let id = greenlet.id();
    assert_eq!(greenlet.name(), "worker of µ");
    assert!(format!("{greenlet:?}").contains("worker of µ"));
    assert_eq!(greenlet.join().unwrap(), ("worker of µ".to_owned(), hub, 1));
    assert_eq!(spawn(|| ()).name().split('-').next(), Some("greenlet"));
    assert!(spawn(|| ()).id() > id);
}

#[test]
fn builder_refuses_what_cannot_be_had() {
    let _deadline = deadline();
    let hubs = Hub::count();
    let error = Builder::new().hub(hubs).spawn(|| ()).unwrap_err();
    assert!(matches!(error, SpawnError::NoSuchHub { .. }));
    assert!(
        error.to_string().contains(&format!("no hub {hubs}")),
        "{error}"
    );
    for size in [0, 1, 8 * 1024, usize::MAX, 1 << 40] {
        let error = Builder::new().stack_size(size).spawn(|| ()).unwrap_err();
        assert!(matches!(error, SpawnError::StackSize { .. }), "{error}");
        assert!(error.to_string().contains("16 KiB to 1 GiB"), "{error}");
    }
    // Rounded up to whole pages.
    let odd = Builder::new()
        .stack_size(64 * 1024 + 1)
        .spawn(|| 5)
        .unwrap();
    assert_eq!(odd.join().unwrap(), 5);
}

#[test]
fn smallest_stack_carries_a_greenlet_that_blocks_and_panics() {
    let _deadline = deadline();
    let size = greenwood_runtime::MIN_STACK_SIZE;
    let greenlet = Builder::new().stack_size(size).spawn(|| {
        sleep(Duration::from_millis(1));
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
        std::panic::resume_unwind(Box::new("small"));
    });
    let error = greenlet.unwrap().join().unwrap_err();
    assert!(error.is_panic());
    assert!(error.to_string().ends_with("small"), "{error}");
}

#[test]
fn spawn_local_needs_a_hub_and_stays_on_it() {
    let _deadline = deadline();
    let error = Builder::new().spawn_local(|| ()).unwrap_err();
    assert!(matches!(error, SpawnError::NoHub));
    assert!(error.to_string().contains("outside a greenlet"), "{error}");
    assert!(catch_unwind(|| spawn_local(|| ())).is_err());
    if Hub::count() > 1 {
        let error = spawn_on(0, || {
            Builder::new()
                .hub(1)
                .spawn_local(|| ())
                .map(drop)
                .unwrap_err()
        });
        let error = error.join().unwrap().to_string();
        assert!(
            error.contains("spawn_local") && error.contains("hub 1"),
            "{error}"
        );
        assert!(!error.contains("there is no hub 1"), "{error}");
    }
}

#[test]
fn rc_and_thread_locals_behave_as_in_a_thread() {
    thread_local! {
        static COUNT: Cell<usize> = const { Cell::new(0) };
        static NAMES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    let _deadline = deadline();
    spawn(|| {
        let shared = Rc::new(Cell::new(0_usize));
        let greenlets: Vec<_> = (0..20)
            .map(|i| {
                let shared = Rc::clone(&shared);
                spawn_local(move || {
                    for round in 0..50 {
                        shared.set(shared.get() + 1);
                        COUNT.set(COUNT.get() + 1);
                        NAMES.with_borrow_mut(|names| names.push(i));
                        match round % 3 {
                            0 => sleep(Duration::ZERO),
                            1 => idle(),
                            _ => sleep(Duration::from_micros(50)),
                        }
                    }
                    Rc::strong_count(&shared)
                })
            })
            .collect();
        assert!(joinall(&greenlets, None));
        assert_eq!(shared.get(), 1_000);
        assert_eq!(COUNT.get(), 1_000);
        assert_eq!(NAMES.with_borrow(Vec::len), 1_000);
        drop(greenlets);
        assert_eq!(Rc::strong_count(&shared), 1);
    })
    .join()
    .unwrap();
}

#[test]
fn join_works_from_everywhere() {
    let _deadline = deadline();
    for joiner in EVERYWHERE {
        for hub in 0..Hub::count() {
            let ended = spawn_on(hub, || "at once");
            let later = spawn_on(hub, || {
                sleep(Duration::from_millis(2));
                "later"
            });
            let joined = joiner.run(move || (later.join().unwrap(), ended.join().unwrap()));
            assert_eq!(joined, ("later", "at once"));
        }
    }
}

#[test]
fn any_number_may_wait_for_one_end() {
    let _deadline = deadline();
    let go = Arc::new(Event::new());
    let theirs = Arc::clone(&go);
    let greenlet = Arc::new(spawn(move || theirs.wait()));
    let waiters: Vec<_> = EVERYWHERE
        .into_iter()
        .cycle()
        .take(30)
        .map(|from| {
            let greenlet = Arc::clone(&greenlet);
            from.start(move || greenlet.join_timeout(Duration::from_secs(30)))
        })
        .collect();
    assert!(!greenlet.join_timeout(Duration::from_millis(5)));
    go.set();
    for waiter in waiters {
        assert!(waiter());
    }
    assert!(Arc::into_inner(greenlet).unwrap().join().unwrap());
}

#[test]
fn join_timeout_gives_up_and_can_be_repeated() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let greenlet = spawn(|| sleep(Duration::from_secs(3_600)));
            for _ in 0..500 {
                assert!(!greenlet.join_timeout(Duration::from_nanos(1)));
            }
            let start = Instant::now();
            assert!(!greenlet.join_timeout(Duration::from_millis(10)));
            assert!(start.elapsed() >= Duration::from_millis(10));
            greenlet.kill();
            assert!(greenlet.ready() && greenlet.join_timeout(Duration::ZERO));
        });
    }
}

#[test]
fn joinall_shares_one_time_limit() {
    let _deadline = deadline();
    let short: Vec<_> = (0..10)
        .map(|_| spawn(|| sleep(Duration::from_millis(1))))
        .collect();
    assert!(joinall(&short, Some(Duration::from_secs(30))));
    assert!(short.iter().all(|greenlet| greenlet.ready()));
    let long: Vec<_> = (0..3)
        .map(|_| spawn(|| sleep(Duration::from_secs(3_600))))
        .collect();
    assert!(!joinall(&long, Some(Duration::from_millis(5))));
    assert!(greenwood_runtime::killall(&long, None));
    assert!(long.iter().all(|greenlet| greenlet.ready()));
}

#[test]
fn dropped_handle_lets_the_greenlet_run_on() {
    let _deadline = deadline();
    let (go, done) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (waits, theirs) = (Arc::clone(&go), Arc::clone(&done));
    drop(spawn(move || {
        waits.wait();
        theirs.set();
    }));
    go.set();
    assert!(done.wait());
}

#[test]
fn result_that_nobody_takes_is_dropped() {
    let _deadline = deadline();
    let dropped = Arc::new(Event::new());
    for hub in 0..Hub::count() {
        // Handle gone first, then the greenlet's end; and the other way round.
        for wait_first in [false, true] {
            let (event, go) = (Arc::clone(&dropped), Arc::new(Event::new()));
            let waits = Arc::clone(&go);
            let greenlet = spawn_on(hub, move || {
                waits.wait();
                OnDrop(move || event.set())
            });
            if wait_first {
                go.set();
                assert!(greenlet.join_timeout(Duration::from_secs(30)));
                assert!(!dropped.is_set());
            }
            drop(greenlet);
            go.set();
            assert!(dropped.wait());
            dropped.clear();
        }
    }
}

#[test]
fn panic_is_carried_to_the_joiner() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let error = from.run(|| {
            let greenlet = Builder::new().name("doomed").spawn(|| {
                std::panic::resume_unwind(Box::new(String::from("ouch")));
            });
            greenlet.unwrap().join().unwrap_err()
        });
        assert!(error.is_panic() && !error.is_killed());
        assert_eq!(error.to_string(), "greenlet 'doomed' panicked: ouch");
        assert!(error.source().is_none());
        let JoinError::Panicked { name, payload } = error else {
            panic!("{error}");
        };
        assert_eq!(&*name, "doomed");
        assert_eq!(*payload.into_inner().downcast::<String>().unwrap(), "ouch");
    }
}

/// Panics when it is dropped, and its payload does so again.
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
            let again = Bomb(Arc::clone(&self.0));
            std::panic::resume_unwind(Box::new(again));
        }
    }
}

#[test]
fn destructors_that_panic_do_not_reach_the_hub() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let bombs: Vec<_> = (0..4).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let go = Arc::new(Event::new());
        // A result that nobody takes.
        let (bomb, wait) = (Bomb(Arc::clone(&bombs[0])), Arc::clone(&go));
        drop(spawn_on(hub, move || {
            wait.wait();
            bomb
        }));
        // A payload that nobody takes.
        let (bomb, wait) = (Bomb(Arc::clone(&bombs[1])), Arc::clone(&go));
        drop(spawn_on(hub, move || {
            wait.wait();
            std::panic::resume_unwind(Box::new(bomb))
        }));
        // The handles are gone: both end in their greenlets.
        go.set();
        // A closure that is never run.
        let bomb = Bomb(Arc::clone(&bombs[2]));
        let never = Builder::new()
            .hub(hub)
            .spawn_later(Duration::from_secs(3_600), move || drop(bomb));
        let never = never.unwrap();
        never.kill();
        assert!(never.join().unwrap_err().is_killed());
        // What a closure has captured.
        let bomb = Bomb(Arc::clone(&bombs[3]));
        let captured = spawn_on(hub, move || {
            let _bomb = &bomb;
            3
        });
        let error = captured.join().unwrap_err();
        assert!(error.is_panic());
        // The second bang is the caller's, who has asked for the payload.
        assert!(catch_unwind(AssertUnwindSafe(|| drop(error))).is_err());
        eventually("all bombs have gone off", || {
            bombs.iter().all(|bomb| bomb.load(Ordering::SeqCst) >= 1)
        });
        // The hub is well.
        assert_eq!(spawn_on(hub, || 4).join().unwrap(), 4);
        let timer = Builder::new()
            .hub(hub)
            .spawn_later(Duration::from_millis(1), || 5);
        assert_eq!(timer.unwrap().join().unwrap(), 5);
    }
}

#[test]
fn spawn_later_waits_for_its_time() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let start = Instant::now();
            let greenlet = spawn_later(Duration::from_millis(20), move || start.elapsed());
            assert!(greenlet.join().unwrap() >= Duration::from_millis(20));
            assert_eq!(spawn_later(Duration::ZERO, || 1).join().unwrap(), 1);
            // Never, which can be killed all the same.
            let never = spawn_later(Duration::MAX, || 1);
            assert!(!never.ready());
            assert!(!never.join_timeout(Duration::from_millis(2)));
            never.kill();
            assert!(never.join().unwrap_err().is_killed());
        });
    }
}

#[test]
fn sleep_is_never_too_short() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            for micros in [1, 50, 700, 3_000] {
                let duration = Duration::from_micros(micros);
                let start = Instant::now();
                sleep(duration);
                assert!(start.elapsed() >= duration);
            }
        });
    }
}

#[test]
fn ten_thousand_sleepers_wake_each_in_its_time() {
    let _deadline = deadline();
    let woken = Arc::new(Mutex::new(Vec::new()));
    let greenlets: Vec<_> = (0..10_000_usize)
        .map(|i| {
            let woken = Arc::clone(&woken);
            spawn_on(any_hub(i), move || {
                let duration = Duration::from_millis((i * 7 % 50) as u64);
                let start = Instant::now();
                sleep(duration);
                assert!(start.elapsed() >= duration);
                woken.lock().unwrap().push(i);
            })
        })
        .collect();
    for greenlet in greenlets {
        greenlet.join().unwrap();
    }
    assert_eq!(woken.lock().unwrap().len(), 10_000);
}

#[test]
fn sleep_of_zero_lets_every_other_greenlet_run_once() {
    let _deadline = deadline();
    spawn(|| {
        let take_turns = || {
            let turns = Rc::new(RefCell::new(Vec::new()));
            let greenlets: Vec<_> = (0..3)
                .map(|i| {
                    let turns = Rc::clone(&turns);
                    spawn_local(move || {
                        for _ in 0..4 {
                            turns.borrow_mut().push(i);
                            sleep(Duration::ZERO);
                        }
                    })
                })
                .collect();
            assert!(joinall(&greenlets, None));
            let counts: Vec<_> = (0..3)
                .map(|i| turns.borrow().iter().filter(|&&turn| turn == i).count())
                .collect();
            assert_eq!(counts, [4, 4, 4]);
            turns.take()
        };
        // Unless a poll that was due comes in between.
        eventually("in turn", || take_turns()[..3] == [0, 1, 2]);
    })
    .join()
    .unwrap();
}

#[test]
fn idle_lets_everybody_run_who_can() {
    let _deadline = deadline();
    spawn(|| {
        let all_run = || {
            let ran = Rc::new(Cell::new(0));
            for _ in 0..50 {
                let ran = Rc::clone(&ran);
                spawn_local(move || ran.set(ran.get() + 1));
            }
            idle();
            ran.get() == 50
        };
        // Some may be put off behind a poll that was due already.
        for _ in 0..20 {
            eventually("all have run", all_run);
        }
    })
    .join()
    .unwrap();
    idle();
}

#[test]
fn greenlet_that_fails_leaves_its_neighbours_alone() {
    let _deadline = deadline();
    let quiet = Arc::new(AtomicBool::new(true));
    let neighbours: Vec<_> = (0..Hub::count() * 4)
        .map(|i| {
            let quiet = Arc::clone(&quiet);
            spawn_on(any_hub(i), move || {
                while quiet.load(Ordering::SeqCst) {
                    assert!(!std::thread::panicking());
                    sleep(Duration::ZERO);
                }
            })
        })
        .collect();
    // A few at a time: to join each by itself takes long where the neighbours keep all processors.
    for _ in 0..10 {
        let fail = |i| {
            spawn_on(any_hub(i), move || {
                // Would switch while the panic is under way, if that were allowed.
                let _sleeps = OnDrop(|| sleep(Duration::from_micros(1)));
                sleep(Duration::from_micros(1));
                std::panic::resume_unwind(Box::new(i));
            })
        };
        let failing: Vec<Greenlet<()>> = (0..20).map(fail).collect();
        for greenlet in failing {
            assert!(greenlet.join().unwrap_err().is_panic());
        }
    }
    quiet.store(false, Ordering::SeqCst);
    for neighbour in neighbours {
        neighbour.join().unwrap();
    }
}

#[test]
fn call_runs_in_a_greenlet_wherever_it_comes_from() {
    let _deadline = deadline();
    for caller in EVERYWHERE {
        caller.run(|| {
            let outside = current_id();
            let inside = run_in_greenlet(|| {
                sleep(Duration::from_millis(1));
                current_id()
            });
            let inside = inside.unwrap();
            assert!(inside.is_some() && inside != outside);
            let panicked = run_in_greenlet(|| std::panic::resume_unwind(Box::new(1)));
            assert!(matches!(panicked, Err::<(), _>(error) if error.is_panic()));
        });
    }
}
