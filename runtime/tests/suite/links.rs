//! Links: what is called when a greenlet has ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    AsyncResult, Event, Greenlet, Hub, JoinError, Queue, current_id, getcurrent, sleep, spawn,
    spawn_local,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, eventually, spawn_on};

const LONG: Duration = Duration::from_secs(3_600);

/// A greenlet that ends when the event is set, with this result.
fn ending_with<T: Send + 'static>(
    hub: usize,
    f: impl FnOnce() -> T + Send + 'static,
) -> (Arc<Event>, Greenlet<T>) {
    let go = Arc::new(Event::new());
    let theirs = Arc::clone(&go);
    let greenlet = spawn_on(hub, move || {
        theirs.wait();
        f()
    });
    (go, greenlet)
}

fn panics<T>() -> T {
    std::panic::resume_unwind(Box::new("ouch"))
}

type Log = Arc<Mutex<Vec<usize>>>;

fn append(log: &Log, number: usize) -> impl FnOnce(Option<JoinError>) + Send + use<> {
    let log = Arc::clone(log);
    move |_| log.lock().unwrap().push(number)
}

#[test]
fn links_are_called_in_order_before_join_returns() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for count in [1, 3, 1_000] {
            from.run(move || {
                let log = Log::default();
                let (go, greenlet) = ending_with(any_hub(count), || ());
                for i in 0..count {
                    greenlet.rawlink(append(&log, i));
                }
                assert_eq!(greenlet.links(), count);
                go.set();
                assert!(greenlet.join_timeout(LONG));
                assert_eq!(*log.lock().unwrap(), (0..count).collect::<Vec<_>>());
                assert_eq!(greenlet.links(), 0);
                greenlet.join().unwrap();
            });
        }
    }
}

#[test]
fn link_sees_a_greenlet_that_has_ended_and_is_another_one_of_its_hub() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let (go, greenlet) = ending_with(hub, || 5);
        let greenlet = Arc::new(greenlet);
        let seen = Arc::new(AsyncResult::<_, ()>::new());
        let (theirs, ended) = (Arc::clone(&seen), Arc::clone(&greenlet));
        greenlet.rawlink(move |error| {
            let seen = (
                error.is_none() && ended.ready() && ended.dead() && ended.successful(),
                ended.value().copied(),
                ended.get().copied().unwrap(),
                Hub::current(),
                current_id() != Some(ended.id()),
                getcurrent().unwrap().name().to_owned(),
            );
            theirs.set(seen).unwrap();
        });
        go.set();
        let name = format!("links of {}", greenlet.name());
        let expected = (true, Some(5), 5, Some(hub), true, name);
        assert_eq!(*seen.get().unwrap(), expected);
    }
}

#[test]
fn late_link_is_called_soon_and_not_inline() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for hub in 0..Hub::count() {
            from.run(move || {
                let greenlet = spawn_on(hub, || 7);
                assert!(greenlet.join_timeout(LONG));
                let log = Log::default();
                for i in 0..100 {
                    greenlet.rawlink(append(&log, i));
                }
                if Hub::current() == Some(hub) {
                    assert!(log.lock().unwrap().is_empty());
                }
                let result = Arc::new(AsyncResult::new());
                greenlet.link(result.setter());
                assert_eq!(result.get().copied().unwrap(), 7);
                assert_eq!(*log.lock().unwrap(), (0..100).collect::<Vec<_>>());
                eventually("all are called", || greenlet.links() == 0);
                assert_eq!(greenlet.join().unwrap(), 7);
            });
        }
    }
}

/// What each kind of link is called for: (link, link_value, link_exception, rawlink).
fn called(make: impl Fn() -> (Arc<Event>, Greenlet<i32>), kill: bool, late: bool) -> [usize; 4] {
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    let count = |kind: usize| {
        let counts = Arc::clone(&counts);
        move || {
            counts[kind].fetch_add(1, Ordering::SeqCst);
        }
    };
    let (go, greenlet) = make();
    let end = |greenlet: &Greenlet<i32>| {
        if kill {
            greenlet.kill();
        }
        go.set();
        assert!(greenlet.join_timeout(LONG));
    };
    if late {
        end(&greenlet);
    }
    let (link, value, exception, raw) = (count(0), count(1), count(2), count(3));
    let last = Arc::new(Event::new());
    let set = Arc::clone(&last);
    greenlet.link(move |_| link());
    greenlet.link_value(move |_| value());
    greenlet.link_exception(move |_| exception());
    greenlet.rawlink(move |_| raw());
    greenlet.rawlink(move |_| set.set());
    if !late {
        end(&greenlet);
    }
    last.wait();
    std::array::from_fn(|kind| counts[kind].load(Ordering::SeqCst))
}

#[test]
fn each_kind_of_link_is_called_for_its_kind_of_end() {
    let _deadline = deadline();
    for late in [false, true] {
        for hub in 0..Hub::count() {
            let value = called(|| ending_with(hub, || 1), false, late);
            assert_eq!(value, [1, 1, 0, 1]);
            let panic = called(|| ending_with(hub, panics), false, late);
            assert_eq!(panic, [1, 0, 1, 1]);
            // gevent: a GreenletExit is no exception.
            let kill = called(|| ending_with(hub, || 1), true, late);
            assert_eq!(kill, [1, 0, 0, 1]);
        }
    }
}

#[test]
fn links_get_copies_and_join_gets_the_value() {
    let _deadline = deadline();
    let (go, greenlet) = ending_with(0, || String::from("x"));
    let results: Vec<_> = (0..10)
        .map(|_| {
            let result = Arc::new(AsyncResult::new());
            greenlet.link(result.setter());
            result
        })
        .collect();
    go.set();
    assert_eq!(greenlet.join().unwrap(), "x");
    assert!(results.iter().all(|result| result.get().unwrap() == "x"));

    let (go, greenlet) = ending_with(0, panics::<()>);
    let results: Vec<_> = (0..3)
        .map(|_| {
            let result = Arc::new(AsyncResult::new());
            greenlet.link(result.setter());
            result
        })
        .collect();
    go.set();
    for result in results {
        let error = result.get().unwrap_err().into_exception().unwrap();
        assert!(error.is_panic() && error.to_string().ends_with("ouch"));
    }
    // One of those who share it has the payload, whoever asks first.
    let JoinError::Panicked { payload, .. } = greenlet.join().unwrap_err() else {
        panic!("it has panicked");
    };
    assert_eq!(*payload.into_inner().downcast::<&str>().unwrap(), "ouch");
}

#[test]
fn link_that_panics_harms_nobody() {
    let _deadline = deadline();
    for late in [false, true] {
        let (go, greenlet) = ending_with(Hub::count() - 1, || ());
        let log = Log::default();
        if late {
            go.set();
            assert!(greenlet.join_timeout(LONG));
        }
        let last = Arc::new(Event::new());
        let set = Arc::clone(&last);
        greenlet.rawlink(append(&log, 1));
        greenlet.rawlink(|_| panics());
        greenlet.rawlink(append(&log, 2));
        // Nor does one that kills the greenlet that it runs in.
        greenlet.rawlink(|_| getcurrent().unwrap().kill_nowait());
        greenlet.rawlink(|_| sleep(Duration::from_micros(10)));
        greenlet.rawlink(append(&log, 3));
        greenlet.rawlink(move |_| set.set());
        go.set();
        last.wait();
        greenlet.join().unwrap();
        assert_eq!(*log.lock().unwrap(), [1, 2, 3]);
    }
}

#[test]
fn unlinked_is_not_called_even_when_the_calls_have_begun() {
    let _deadline = deadline();
    let (go, greenlet) = ending_with(0, || ());
    let greenlet = Arc::new(greenlet);
    let log = Log::default();
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&dropped);
    let owned = OnDrop(move || {
        drops.fetch_add(1, Ordering::SeqCst);
    });
    let first = greenlet.rawlink(append(&log, 0));
    let owner = greenlet.rawlink(move |_| drop(owned));
    assert!(greenlet.unlink(owner) && !greenlet.unlink(owner));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    assert!(greenlet.unlink(first));

    // Two that take each other back: only one is called.
    let others: Arc<Mutex<Vec<_>>> = Arc::default();
    for i in 0..2 {
        let (log, both) = (append(&log, 5), Arc::clone(&others));
        let linked = Arc::clone(&greenlet);
        let link = greenlet.rawlink(move |_| {
            let other = both.lock().unwrap()[1 - i];
            assert!(linked.unlink(other));
            log(None);
        });
        others.lock().unwrap().push(link);
    }
    go.set();
    greenlet.join_timeout(LONG);
    assert_eq!(*log.lock().unwrap(), [5]);

    let (go, greenlet) = ending_with(0, || ());
    for i in 0..10 {
        greenlet.rawlink(append(&log, i));
    }
    greenlet.unlink_all();
    assert_eq!(greenlet.links(), 0);
    go.set();
    greenlet.join().unwrap();
    assert_eq!(*log.lock().unwrap(), [5]);
}

#[test]
fn link_that_blocks_keeps_no_joiner() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let (go, greenlet) = ending_with(hub, || 3);
        let gate = Arc::new(Event::new());
        let theirs = Arc::clone(&gate);
        let full = Arc::new(Queue::new(1));
        let (puts, linked) = (Arc::clone(&full), Arc::new(Event::new()));
        greenlet.link(move |result| {
            theirs.wait();
            puts.put(result.unwrap()).unwrap();
        });
        let set = Arc::clone(&linked);
        greenlet.rawlink(move |_| set.set());
        go.set();
        assert_eq!(greenlet.join().unwrap(), 3);
        assert!(!linked.is_set());
        gate.set();
        assert_eq!(full.get(), Ok(3));
        linked.wait();
    }
}

#[test]
fn joiner_that_comes_during_the_links_waits_for_them() {
    let _deadline = deadline();
    for _ in 0..20 {
        let (go, greenlet) = ending_with(0, || ());
        let log = Log::default();
        let append = append(&log, 1);
        greenlet.rawlink(|error| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            append(error);
        });
        go.set();
        while !greenlet.ready() {
            std::thread::yield_now();
        }
        assert!(greenlet.join_timeout(LONG));
        assert_eq!(*log.lock().unwrap(), [1]);
    }
}

#[test]
fn link_may_join_its_own_greenlet() {
    let _deadline = deadline();
    let (go, greenlet) = ending_with(0, || ());
    let greenlet = Arc::new(greenlet);
    let (joined, done) = (Arc::clone(&greenlet), Arc::new(Event::new()));
    let set = Arc::clone(&done);
    greenlet.rawlink(move |_| {
        assert!(joined.join_timeout(LONG));
        joined.kill();
        set.set();
    });
    go.set();
    done.wait();
}

#[test]
fn killed_before_its_start_its_links_are_called() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            for later in [false, true] {
                let greenlet = Greenlet::new(|| unreachable!("it never runs"));
                if later {
                    greenlet.start_later(LONG).unwrap();
                }
                let linked = Arc::new(Event::new());
                let set = Arc::clone(&linked);
                greenlet.rawlink(move |error| {
                    assert!(error.unwrap().is_killed());
                    set.set();
                });
                greenlet.kill_nowait();
                linked.wait();
                let error: Result<(), _> = greenlet.join();
                assert!(error.unwrap_err().is_killed());
            }
        });
    }
}

#[test]
fn greenlet_of_what_cannot_cross_can_be_linked() {
    let _deadline = deadline();
    spawn(|| {
        let greenlet = spawn_local(|| std::rc::Rc::new(5));
        let linked = Arc::new(Event::new());
        let set = Arc::clone(&linked);
        greenlet.link_exception(|error| panic!("{error}"));
        greenlet.rawlink(move |_| set.set());
        linked.wait();
        assert!(greenlet.successful() && greenlet.exception().is_none());
        assert_eq!(*greenlet.join().unwrap(), 5);
    })
    .join()
    .unwrap();
}

/// Links made at every moment around the end are called once each, and after it.
#[test]
fn no_link_is_lost_around_the_end() {
    let _deadline = deadline();
    let rounds = 300;
    let linkers: Vec<_> = EVERYWHERE
        .into_iter()
        .map(|from| {
            from.start(move || {
                let calls = Arc::new(AtomicUsize::new(0));
                for round in 0..rounds {
                    let greenlet = Arc::new(spawn_on(any_hub(round), move || {
                        for _ in 0..round % 3 {
                            sleep(Duration::ZERO);
                        }
                        round
                    }));
                    for i in 0..10 {
                        let calls = Arc::clone(&calls);
                        let linked = Arc::clone(&greenlet);
                        greenlet.link_value(move |value| {
                            assert!(linked.ready() && value == round);
                            calls.fetch_add(1, Ordering::SeqCst);
                        });
                        if i % 4 == 3 {
                            sleep(Duration::ZERO);
                        }
                    }
                }
                eventually("all links are called", || {
                    calls.load(Ordering::SeqCst) == rounds * 10
                });
            })
        })
        .collect();
    linkers.into_iter().for_each(|linker| linker());
}
