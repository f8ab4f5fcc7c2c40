//! Scopes: greenlets that borrow.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    Builder, Event, Hub, JoinError, current_id, is_kill, scope, sleep, spawn, spawn_local,
    with_timeout,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, case, child_with_hubs, deadline, spawn_on};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn greenlets_borrow_and_are_waited_for() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let numbers: Vec<usize> = (0..100).collect();
            let sum = AtomicUsize::new(0);
            let mut alone = 0;
            let returned = scope(|s| {
                s.spawn(|| alone = numbers.len());
                for (i, number) in numbers.iter().enumerate() {
                    let builder = Builder::new().hub(any_hub(i));
                    let sum = &sum;
                    // Dropping the handle lets it run on.
                    drop(s.spawn_with(builder, move || {
                        sleep(Duration::from_micros(*number as u64));
                        sum.fetch_add(*number, Ordering::Relaxed);
                    }));
                }
                "returned"
            });
            assert_eq!((returned, alone), ("returned", 100));
            assert_eq!(sum.into_inner(), 4_950);
        });
    }
}

#[test]
fn results_may_borrow() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let text = String::from("some words here");
            let lengths: Vec<usize> = scope(|s| {
                let words = s.spawn(|| text.split(' ').collect::<Vec<_>>());
                let words = words.join().unwrap();
                let greenlets: Vec<_> = words
                    .iter()
                    .map(|&word| s.spawn(move || word.len()))
                    .collect();
                greenlets.into_iter().map(|it| it.join().unwrap()).collect()
            });
            assert_eq!(lengths, [4, 5, 4]);
        });
    }
}

#[test]
fn local_greenlets_borrow_what_cannot_cross() {
    let _deadline = deadline();
    spawn(|| {
        let count = Cell::new(0);
        let order = RefCell::new(Vec::new());
        scope(|s| {
            for i in 0..10 {
                let (count, order) = (&count, &order);
                s.spawn_local(move || {
                    count.set(count.get() + 1);
                    sleep(Duration::ZERO);
                    order.borrow_mut().push(i);
                });
            }
            let last = s.spawn_local(|| &count);
            assert_eq!(last.join().unwrap().get(), 10);
        });
        assert_eq!(order.into_inner(), (0..10).collect::<Vec<_>>());
    })
    .join()
    .unwrap();
}

#[test]
fn greenlets_may_spawn_others_in_their_scope() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let count = AtomicUsize::new(0);
            scope(|s| {
                for i in 0..10 {
                    let count = &count;
                    s.spawn(move || {
                        sleep(Duration::from_micros(100));
                        for j in 0..10 {
                            let builder = Builder::new().hub(any_hub(i + j));
                            drop(s.spawn_with(builder, move || {
                                sleep(Duration::from_micros(100));
                                s.spawn(move || count.fetch_add(1, Ordering::Relaxed));
                            }));
                        }
                    });
                }
            });
            assert_eq!(count.into_inner(), 100);
        });
    }
}

#[test]
fn scopes_nest() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let outer = 1;
            let sum = scope(|s| {
                let greenlet = s.spawn(|| {
                    let inner = 2;
                    scope(|t| {
                        let greenlet = t.spawn(|| outer + inner);
                        greenlet.join().unwrap()
                    })
                });
                greenlet.join().unwrap()
            });
            assert_eq!(sum, 3);
        });
    }
}

/// Counts greenlets that are in the midst of borrowing.
struct Borrowed {
    begun: AtomicUsize,
    busy: AtomicUsize,
}

impl Borrowed {
    fn new() -> Borrowed {
        Borrowed {
            begun: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
        }
    }

    fn use_for(&self, duration: Duration) {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let _done = OnDrop(|| {
            self.busy.fetch_sub(1, Ordering::SeqCst);
        });
        self.begun.fetch_add(1, Ordering::SeqCst);
        sleep(duration);
    }

    fn wait_for(&self, count: usize) {
        crate::support::eventually("all have begun", || {
            self.begun.load(Ordering::SeqCst) == count
        });
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        assert_eq!(*self.busy.get_mut(), 0, "a greenlet outlives its scope");
    }
}

#[test]
fn panic_kills_the_greenlets_and_waits_for_them() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let borrowed = Borrowed::new();
            let payload = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    for i in 0..10 {
                        let (builder, borrowed) = (Builder::new().hub(any_hub(i)), &borrowed);
                        drop(s.spawn_with(builder, move || borrowed.use_for(LONG)));
                    }
                    borrowed.wait_for(10);
                    std::panic::resume_unwind(Box::new(5))
                })
            }));
            let payload: Result<(), _> = payload;
            assert_eq!(*payload.unwrap_err().downcast::<i32>().unwrap(), 5);
        });
    }
}

#[test]
fn time_out_ends_a_scope_and_its_greenlets() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for inside in [false, true] {
            from.run(move || {
                let borrowed = Borrowed::new();
                let begun = Instant::now();
                let result = with_timeout(SHORT * 4, || {
                    scope(|s| {
                        for i in 0..10 {
                            let (builder, borrowed) = (Builder::new().hub(any_hub(i)), &borrowed);
                            drop(s.spawn_with(builder, move || borrowed.use_for(LONG)));
                        }
                        if inside {
                            sleep(LONG);
                        }
                    });
                });
                assert!(result.is_err() && begun.elapsed() >= SHORT);
            });
        }
    }
}

/// A kill of the waiting greenlet does not end the wait while a greenlet of its scope goes on.
#[test]
fn kill_of_the_caller_waits_for_greenlets_that_go_on() {
    let _deadline = deadline();
    for killer in EVERYWHERE {
        for hub in 0..Hub::count() {
            for inside in [false, true] {
                let [begun, swallowed, go] = [(); 3].map(|()| Arc::new(Event::new()));
                let ended = Arc::new(AtomicBool::new(false));
                let (begins, swallows) = (Arc::clone(&begun), Arc::clone(&swallowed));
                let (goes, ends) = (Arc::clone(&go), Arc::clone(&ended));
                let victim = spawn_on(0, move || {
                    let data = String::from("borrowed");
                    scope(|s| {
                        let builder = Builder::new().hub(hub);
                        let child = s.spawn_with(builder, || {
                            begins.set();
                            // Swallows the kill, as nobody should.
                            while !goes.is_set() {
                                if catch_unwind(|| sleep(LONG)).is_err() {
                                    swallows.set();
                                }
                            }
                            assert_eq!(data, "borrowed");
                            ends.store(true, Ordering::SeqCst);
                        });
                        if inside {
                            child.unwrap().join().unwrap();
                        }
                    });
                    unreachable!("it is killed");
                });
                begun.wait();
                let victim: Result<(), _> = killer.run(move || {
                    victim.kill_nowait();
                    victim.kill_nowait();
                    swallowed.wait();
                    assert!(!victim.join_timeout(SHORT * 2));
                    go.set();
                    victim.join()
                });
                assert!(victim.unwrap_err().is_killed());
                assert!(ended.load(Ordering::SeqCst));
            }
        }
    }
}

#[test]
fn killed_scope_starts_no_more() {
    let _deadline = deadline();
    let ran = Arc::new(AtomicBool::new(false));
    let runs = Arc::clone(&ran);
    let begun = Arc::new(Event::new());
    let begins = Arc::clone(&begun);
    let victim = spawn(move || {
        scope(|s| {
            s.spawn(|| {
                begins.set();
                let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
                assert!(is_kill(&*payload));
                for _ in 0..3 {
                    s.spawn(|| runs.store(true, Ordering::SeqCst));
                }
            });
        });
    });
    begun.wait();
    victim.kill();
    assert!(victim.join().unwrap_err().is_killed());
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn panic_that_nobody_has_seen_is_the_scope_s() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let panics = |text: &'static str| -> () { std::panic::resume_unwind(Box::new(text)) };
            // Seen by who joins.
            let error = scope(|s| s.spawn(move || panics("seen")).join().unwrap_err());
            assert!(error.to_string().ends_with("seen"));
            // Killed ones have not panicked.
            scope(|s| {
                let greenlet = s.spawn(|| sleep(LONG));
                greenlet.kill();
                assert!(greenlet.ready());
            });
        });
    }
    let begun = Instant::now();
    let other = AtomicBool::new(false);
    let unseen = catch_unwind(AssertUnwindSafe(|| {
        scope(|s| {
            drop(s.spawn(|| std::panic::resume_unwind(Box::new(1))));
            s.spawn(|| {
                sleep(SHORT);
                other.store(true, Ordering::SeqCst);
            });
        });
    }));
    let payload = unseen.unwrap_err();
    let text = payload.downcast_ref::<&str>().unwrap();
    assert_eq!(*text, "a greenlet of a scope has panicked");
    // The others were not killed.
    assert!(other.load(Ordering::SeqCst) && begun.elapsed() >= SHORT);
}

/// In a destructor nobody may wait: nothing is started there that borrows.
#[test]
fn scope_in_an_unwinding_greenlet_starts_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let seen = Arc::new(AtomicUsize::new(0));
            let sees = Arc::clone(&seen);
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _scopes = OnDrop(|| {
                    let value = 3;
                    let (refused, kept) = scope(|s| {
                        let greenlet = s.spawn(|| value);
                        assert!(greenlet.ready());
                        drop(s.spawn(|| value));
                        (greenlet.join(), &value)
                    });
                    assert!(matches!(refused, Err(JoinError::Unwinding)));
                    sees.store(*kept, Ordering::SeqCst);
                });
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(unwound.is_err());
            assert_eq!(seen.load(Ordering::SeqCst), 3);
        });
    }
}

/// A destructor within the scope's closure unwinds, but the scope itself does not: what is spawned
/// there is killed and waited for.
#[test]
fn spawn_from_a_destructor_inside_is_waited_for() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let borrowed = Borrowed::new();
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    let _spawns = OnDrop(|| {
                        let greenlet = s.spawn(|| borrowed.use_for(LONG));
                        assert!(matches!(greenlet.join(), Err(JoinError::Unwinding)));
                    });
                    std::panic::resume_unwind(Box::new(()));
                });
            }));
            assert!(unwound.is_err());
        });
    }
}

#[test]
fn forgotten_handles_change_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let borrowed = Borrowed::new();
            let kept = Mutex::new(Vec::new());
            scope(|s| {
                for _ in 0..10 {
                    let greenlet = s.spawn(|| borrowed.use_for(Duration::from_millis(1)));
                    let _forgotten = std::mem::ManuallyDrop::new(greenlet);
                }
                let greenlet = s.spawn(|| borrowed.use_for(Duration::from_millis(1)));
                kept.lock().unwrap().push(greenlet.id());
            });
            assert_eq!(kept.into_inner().unwrap().len(), 1);
        });
    }
}

/// Kills and time-outs at every moment: no greenlet is left that borrows, and each result, closure
/// and handle is dropped once.
#[test]
fn no_greenlet_outlives_its_scope_in_thousands() {
    let _deadline = deadline();
    let rounds = 700;
    let dropped = Arc::new(AtomicUsize::new(0));
    let made = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let (drops, makes) = (Arc::clone(&dropped), Arc::clone(&made));
        let victim = spawn_on(any_hub(round), move || {
            let borrowed = Borrowed::new();
            let counted = || {
                makes.fetch_add(1, Ordering::SeqCst);
                OnDrop(|| {
                    drops.fetch_add(1, Ordering::SeqCst);
                })
            };
            let limit = Duration::from_micros(round as u64 % 400);
            with_timeout(limit, || {
                scope(|s| {
                    for i in 0..4 {
                        let (captured, borrowed) = (counted(), &borrowed);
                        let builder = Builder::new().hub(any_hub(i));
                        let child = s.spawn_with(builder, move || {
                            borrowed.use_for(Duration::from_micros(i as u64 * 80));
                            captured
                        });
                        if i == 3 && round % 2 == 0 {
                            drop(child.unwrap().join());
                        }
                    }
                });
            })
            .ok();
            drop(borrowed);
        });
        for _ in 0..round % 7 {
            sleep(Duration::from_micros(30));
        }
        if round % 3 != 0 {
            victim.kill();
        }
        if let Err(error) = victim.join() {
            assert!(error.is_killed(), "{error}");
        }
        assert_eq!(
            made.load(Ordering::SeqCst),
            dropped.load(Ordering::SeqCst),
            "in round {round}"
        );
    }
}

#[test]
fn many_greenlets_of_one_scope() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let sum = AtomicUsize::new(0);
            scope(|s| {
                for i in 0..3_000 {
                    let sum = &sum;
                    s.spawn(move || {
                        if i % 10 == 0 {
                            sleep(Duration::from_micros(3_000 - i as u64));
                        }
                        sum.fetch_add(i, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(sum.into_inner(), 3_000 * 2_999 / 2);
        });
    }
}

/// The caller's neighbours run while a scope waits, and other scopes of the hub too.
#[test]
fn scope_that_waits_holds_up_nobody() {
    let _deadline = deadline();
    spawn(|| {
        let order = RefCell::new(Vec::new());
        let (go, done) = (Event::new(), Event::new());
        let neighbour = spawn_local(current_id);
        scope(|s| {
            // While the other's scope waits, this one runs, and the other way round.
            s.spawn_local(|| {
                go.set();
                done.wait();
                order.borrow_mut().push(2);
            });
            s.spawn_local(|| {
                scope(|t| drop(t.spawn_local(|| go.wait())));
                order.borrow_mut().push(1);
                done.set();
            });
        });
        assert!(neighbour.ready());
        assert_eq!(order.into_inner(), [1, 2]);
    })
    .join()
    .unwrap();
}

/// A stack overflow in a scope is one as anywhere else.
#[test]
fn overflow_in_a_scope_ends_the_process() {
    #[expect(unconditional_recursion, reason = "to overflow the stack")]
    fn deep(level: usize) -> usize {
        std::hint::black_box(deep(std::hint::black_box(level + 1))) + 1
    }
    let _deadline = deadline();
    if case().is_some() {
        spawn(|| {
            let data = [1; 9];
            scope(|s| s.spawn(|| deep(data[3])).join().unwrap())
        })
        .join()
        .unwrap();
        return;
    }
    let child = child_with_hubs("scopes::overflow_in_a_scope_ends_the_process", "x", 1);
    child.died_of(6);
    child.said("overflow");
}
