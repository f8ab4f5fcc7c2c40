//! [`Once`] and [`OnceCell`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{Event, Once, OnceCell, Timeout, WaitsFor, sleep, with_timeout};

use super::in_unwinding;
use crate::support::{
    EVERYWHERE, any_hub, deadline, eventually, spawn_on, until_waits_for, waiting,
};

const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn it_is_done_once_and_all_who_ask_wait_for_it() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let once = Arc::new(Once::new());
        let (calls, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Event::new()));
        let all: Vec<_> = (0..12)
            .map(|i| {
                let (once, calls, go_on) =
                    (Arc::clone(&once), Arc::clone(&calls), Arc::clone(&go_on));
                let ask = move || {
                    let done = once.call_once(|| {
                        go_on.wait();
                        calls.fetch_add(1, Ordering::SeqCst);
                    });
                    done && calls.load(Ordering::SeqCst) == 1
                };
                if i == 0 {
                    from.start(ask)
                } else {
                    EVERYWHERE[i % 3].start(ask)
                }
            })
            .collect();
        eventually("the others wait", || waiting(&*once) == 11);
        assert!(!once.is_completed());
        go_on.set();
        assert!(all.into_iter().all(|ask| ask()));
        assert!(once.is_completed());
        assert!(once.call_once(|| panic!("not again")));
    }
}

#[test]
fn after_a_panic_a_kill_or_a_time_out_the_next_one_tries() {
    let _deadline = deadline();
    let once = Arc::new(Once::new());
    let made_by = Arc::new(AtomicUsize::new(0));
    let attempts: Vec<_> = (1..=5)
        .map(|i| {
            let (theirs, made_by) = (Arc::clone(&once), Arc::clone(&made_by));
            let attempt = spawn_on(any_hub(i), move || {
                // From when its turn comes.
                let limit = Timeout::new(Duration::from_millis(2));
                let attempt = || {
                    theirs.call_once(|| {
                        match i {
                            // Once all wait.
                            1 => eventually("all wait", || waiting(&*theirs) == 4),
                            2 => sleep(LONG),
                            3 => {
                                limit.start();
                                sleep(LONG);
                            }
                            _ => {}
                        }
                        assert_ne!(i, 1, "the first fails");
                        made_by.store(i, Ordering::SeqCst);
                    })
                };
                limit.catch(attempt).is_ok_and(|done| done)
            });
            eventually("it tries or waits", || {
                let text = format!("{once:?}");
                text.contains("permits: 0") && waiting(&*once) + 1 >= i.min(4)
            });
            attempt
        })
        .collect();
    eventually("the first has failed", || attempts[0].ready());
    until_waits_for(attempts[1].id(), WaitsFor::Sleep);
    attempts[1].kill();
    let ends: Vec<_> = attempts
        .into_iter()
        .map(|attempt| attempt.join().ok())
        .collect();
    assert_eq!(ends, [None, None, Some(false), Some(true), Some(true)]);
    assert_eq!(made_by.load(Ordering::SeqCst), 4);
}

#[test]
fn waiting_for_it_ends_with_a_kill_or_a_time_out() {
    let _deadline = deadline();
    let (once, go_on) = (Arc::new(Once::new()), Arc::new(Event::new()));
    let (theirs, told) = (Arc::clone(&once), Arc::clone(&go_on));
    let maker = spawn_on(0, move || theirs.call_once(|| assert!(told.wait())));
    eventually("it is at it", || format!("{once:?}").contains("permits: 0"));
    let theirs = Arc::clone(&once);
    let killed = spawn_on(any_hub(1), move || theirs.call_once(|| ()));
    eventually("it waits", || waiting(&*once) == 1);
    killed.kill();
    for from in EVERYWHERE {
        let theirs = Arc::clone(&once);
        let limit = Duration::from_millis(2);
        assert!(from.run(move || with_timeout(limit, || theirs.call_once(|| ())).is_err()));
    }
    let theirs = Arc::clone(&once);
    assert!(in_unwinding(0, move || !theirs.call_once(|| ())));
    go_on.set();
    assert!(maker.join().unwrap());
}

#[test]
fn calling_it_in_its_own_function_panics() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let once = Arc::new(Once::new());
        let theirs = Arc::clone(&once);
        let panics = from.run(move || {
            let again = std::panic::AssertUnwindSafe(|| {
                theirs.call_once(|| {
                    theirs.call_once(|| ());
                })
            });
            std::panic::catch_unwind(again).is_err()
        });
        assert!(panics && !once.is_completed());
        assert!(once.call_once(|| ()));
    }
}

#[test]
fn cell_keeps_the_first_value() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut cell = OnceCell::new();
            assert_eq!(
                (cell.get(), format!("{cell:?}")),
                (None, "OnceCell(<unset>)".into())
            );
            assert_eq!(cell.get_or_init(|| 1), Ok(&1));
            assert_eq!(cell.get_or_init(|| 2), Ok(&1));
            assert_eq!(cell.set(3), Err(3));
            *cell.get_mut().unwrap() += 1;
            assert_eq!(cell.into_inner(), Some(2));
            let cell = OnceCell::from("given");
            assert_eq!(cell.get_or_init(|| "other"), Ok(&"given"));
            let cell = OnceCell::default();
            assert_eq!((cell.set(1), cell.get()), (Ok(()), Some(&1)));
        });
    }
}

#[test]
fn all_get_the_same_value() {
    let _deadline = deadline();
    let cell = Arc::new(OnceCell::new());
    let all: Vec<_> = (0..30)
        .map(|i| {
            let cell = Arc::clone(&cell);
            EVERYWHERE[i % 3].start(move || {
                *cell
                    .get_or_init(|| {
                        sleep(Duration::from_millis(2));
                        i
                    })
                    .unwrap()
            })
        })
        .collect();
    let values: Vec<_> = all.into_iter().map(|one| one()).collect();
    assert!(values.iter().all(|&value| value == values[0]));
}
