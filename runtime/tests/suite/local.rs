//! [`local!`]: greenlet-local values.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{
    AccessError, Event, before_switch, joinall, local, sleep, spawn, spawn_later,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, deadline, spawn_on};

local! {
    static NUMBER: Cell<u32> = Cell::new(1);
    static WORDS: RefCell<Vec<String>> = RefCell::default();
    /// Not `Send`.
    static SHARED: Rc<Cell<u32>> = Rc::new(Cell::new(0));
}

#[test]
fn each_greenlet_and_thread_has_its_own() {
    let _deadline = deadline();
    NUMBER.set(5);
    let greenlets: Vec<_> = (0..40)
        .map(|i| {
            spawn_on(any_hub(i), move || {
                assert_eq!(NUMBER.get(), 1);
                NUMBER.set(i as u32);
                WORDS.with_borrow_mut(|words| words.push(i.to_string()));
                sleep(Duration::from_micros(100));
                assert_eq!(NUMBER.replace(0), i as u32);
                assert_eq!(WORDS.take(), [i.to_string()]);
                SHARED.with(Rc::strong_count)
            })
        })
        .collect();
    for greenlet in greenlets {
        assert_eq!(greenlet.join().unwrap(), 1);
    }
    assert_eq!(NUMBER.get(), 5);
    std::thread::spawn(|| assert_eq!(NUMBER.get(), 1))
        .join()
        .unwrap();
}

#[test]
fn values_are_made_when_first_asked_for_and_set_makes_none() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    local! {
        static COUNTED: Cell<usize> = Cell::new(MADE.fetch_add(1, Ordering::SeqCst));
        static COUNTED_TOO: RefCell<usize> = RefCell::new(MADE.fetch_add(1, Ordering::SeqCst));
    }
    for from in EVERYWHERE {
        from.run(|| {
            COUNTED.set(7);
            COUNTED_TOO.set(8);
            COUNTED.set(9);
            assert_eq!((COUNTED.get(), COUNTED_TOO.replace(0)), (9, 8));
        });
    }
    assert_eq!(MADE.load(Ordering::SeqCst), 0);
    spawn(|| (COUNTED.get(), COUNTED.get())).join().unwrap();
    assert_eq!(MADE.load(Ordering::SeqCst), 1);
}

/// A value that says when it is dropped, and whether it can still be had then.
struct Told {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
    ask: fn() -> String,
}

impl Drop for Told {
    fn drop(&mut self) {
        let line = format!("{} {}", self.name, (self.ask)());
        self.log.lock().unwrap().push(line);
    }
}

fn shown(result: Result<u32, AccessError>) -> String {
    result.map_or_else(|_| "gone".to_owned(), |number| number.to_string())
}

local! {
    static FIRST: RefCell<Option<Told>> = RefCell::new(None);
    static PLAIN: Cell<u32> = Cell::new(1);
    static SECOND: RefCell<Option<Told>> = RefCell::new(None);
    static LATE: RefCell<Option<Told>> = RefCell::new(None);
}

#[test]
fn the_last_made_is_dropped_first_and_may_use_the_others() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let log = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&log);
        from.run(move || {
            let told = |name, ask| Told {
                name,
                log: Arc::clone(&theirs),
                ask,
            };
            FIRST.set(Some(told("first", || shown(PLAIN.try_with(Cell::get)))));
            PLAIN.set(2);
            let makes_another = told("second", || {
                let itself = SECOND.try_with(|_| 0);
                LATE.with_borrow(|late| assert!(late.is_none()));
                format!("{} {}", shown(itself), shown(PLAIN.try_with(Cell::get)))
            });
            SECOND.set(Some(makes_another));
        });
        assert_eq!(*log.lock().unwrap(), ["second gone 2", "first gone"]);
    }
}

#[test]
fn values_made_at_the_end_are_dropped_too() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let log = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&log);
        from.run(move || {
            let late = Arc::clone(&theirs);
            SECOND.set(Some(Told {
                name: "second",
                log: theirs,
                ask: || "made late".to_owned(),
            }));
            let makes = OnDrop(move || {
                LATE.set(Some(Told {
                    name: "late",
                    log: Arc::clone(&late),
                    ask: String::new,
                }));
            });
            ON_DROP.set(Some(Box::new(makes)));
        });
        assert_eq!(*log.lock().unwrap(), ["late ", "second made late"]);
    }
}

local! {
    static ON_DROP: RefCell<Option<Box<dyn std::any::Any>>> = RefCell::new(None);
}

#[test]
fn values_are_dropped_before_anybody_learns_of_the_end() {
    let _deadline = deadline();
    let dropped = Arc::new(AtomicUsize::new(0));
    for i in 0..500 {
        let begun = Arc::new(Event::new());
        let (theirs, told) = (Arc::clone(&dropped), Arc::clone(&begun));
        let greenlet = spawn_on(any_hub(i), move || {
            let count = OnDrop(move || {
                theirs.fetch_add(1, Ordering::SeqCst);
            });
            ON_DROP.set(Some(Box::new(count)));
            told.set();
            match i % 3 {
                0 => {}
                1 => std::panic::resume_unwind(Box::new("expected")),
                _ => sleep(Duration::from_secs(600)),
            }
        });
        begun.wait();
        if i % 3 == 2 {
            greenlet.kill();
        }
        assert_eq!(greenlet.join().is_ok(), i % 3 == 0);
        assert_eq!(dropped.load(Ordering::SeqCst), i + 1);
    }
}

#[test]
fn destructors_may_block_and_panic() {
    let _deadline = deadline();
    let event = Arc::new(Event::new());
    let waits = Arc::clone(&event);
    let greenlet = spawn(move || {
        ON_DROP.set(Some(Box::new(OnDrop(|| panic!("expected: a destructor")))));
        LATE_DROP.set(Some(Box::new(OnDrop(move || {
            assert!(waits.wait());
        }))));
        3
    });
    assert!(!greenlet.join_timeout(Duration::from_millis(5)));
    event.set();
    assert_eq!(greenlet.join().unwrap(), 3);
}

local! {
    static LATE_DROP: RefCell<Option<Box<dyn std::any::Any>>> = RefCell::new(None);
}

#[test]
fn who_waits_in_a_destructor_can_be_killed() {
    let _deadline = deadline();
    let started = Arc::new(Event::new());
    let told = Arc::clone(&started);
    let greenlet = spawn(move || {
        ON_DROP.set(Some(Box::new(OnDrop(move || {
            told.set();
            sleep(Duration::from_secs(600));
        }))));
    });
    started.wait();
    greenlet.kill();
    // It had its result before.
    greenlet.join().unwrap();
}

#[test]
fn values_survive_switches_while_they_are_borrowed() {
    let _deadline = deadline();
    let greenlets: Vec<_> = (0..20)
        .map(|i| {
            spawn_on(any_hub(i), move || {
                NUMBER.with(|number| {
                    number.set(i as u32);
                    WORDS.with_borrow_mut(|words| words.push("while borrowed".to_owned()));
                    sleep(Duration::from_millis(1));
                    number.get() == i as u32
                })
            })
        })
        .collect();
    for greenlet in greenlets {
        assert!(greenlet.join().unwrap());
    }
}

#[test]
fn making_a_value_may_block_and_ask_for_itself() {
    local! {
        static SLOW: u32 = {
            sleep(Duration::from_millis(1));
            9
        };
        static OF_ITSELF: Cell<u32> = {
            if !ASKED.replace(true) {
                OF_ITSELF.set(4);
            }
            Cell::new(5)
        };
        static ASKED: Cell<bool> = Cell::new(false);
    }
    for from in EVERYWHERE {
        from.run(|| {
            assert_eq!(SLOW.with(|&number| number), 9);
            assert_eq!(OF_ITSELF.get(), 4);
        });
    }
}

#[test]
fn a_panic_while_a_value_is_made_leaves_none() {
    local! {
        static ONCE_ONLY: u32 = {
            assert!(TRIED.replace(true), "expected: the first try fails");
            6
        };
        static TRIED: Cell<bool> = Cell::new(false);
    }
    let made = spawn(|| {
        assert!(std::panic::catch_unwind(|| ONCE_ONLY.with(|&number| number)).is_err());
        ONCE_ONLY.with(|&number| number)
    });
    assert_eq!(made.join().unwrap(), 6);
}

#[test]
fn hooks_at_the_end_find_values_or_an_error() {
    struct Hook(Arc<Mutex<Vec<String>>>);
    impl greenwood_runtime::BeforeSwitch for Hook {
        fn before_switch(self: Arc<Self>) {
            let found = shown(NUMBER.try_with(Cell::get));
            self.0.lock().unwrap().push(found);
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    for used in [true, false] {
        let hook = Arc::new(Hook(Arc::clone(&log)));
        spawn(move || {
            if used {
                NUMBER.set(3);
            }
            before_switch(&hook)
        })
        .join()
        .unwrap();
    }
    // Made and dropped before the hook; made by the hook.
    assert_eq!(*log.lock().unwrap(), ["gone", "1"]);
}

#[test]
fn no_value_is_left_of_many_greenlets() {
    let _deadline = deadline();
    let alive = Arc::new(AtomicUsize::new(0));
    let greenlets: Vec<_> = (0..3_000)
        .map(|i| {
            let alive = Arc::clone(&alive);
            let body = move || {
                alive.fetch_add(1, Ordering::SeqCst);
                let count = OnDrop(move || {
                    alive.fetch_sub(1, Ordering::SeqCst);
                });
                ON_DROP.set(Some(Box::new(count)));
                NUMBER.set(7);
            };
            match i % 2 {
                0 => spawn_on(any_hub(i), body),
                _ => spawn_later(Duration::from_micros(50), body),
            }
        })
        .collect();
    for greenlet in greenlets.iter().step_by(3) {
        greenlet.kill_nowait();
    }
    assert!(joinall(&greenlets, None));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
