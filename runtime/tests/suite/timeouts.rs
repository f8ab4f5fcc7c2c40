//! [`Timeout`] and [`with_timeout`].

use std::cell::OnceCell;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::{
    AsyncResult, Event, JoinError, Queue, Timeout, idle, is_interrupt, sleep, spawn, spawn_later,
    spawn_local, with_timeout, with_timeout_or,
};

use crate::others::until_waits_or_ends;
use crate::support::{EVERYWHERE, OnDrop, deadline};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

/// Lets the time pass without a blocking call.
fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[test]
fn with_timeout_ends_a_wait_and_runs_destructors() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let dropped = AtomicBool::new(false);
            let start = Instant::now();
            let result = with_timeout(SHORT, || {
                let _drops = OnDrop(|| dropped.store(true, Ordering::SeqCst));
                sleep(LONG);
            });
            assert_eq!(result.unwrap_err().to_string(), "the time limit has passed");
            assert!(start.elapsed() >= SHORT);
            assert!(dropped.load(Ordering::SeqCst));
            // It is over: nothing of it is left for later calls.
            sleep(SHORT * 2);
            assert_eq!(with_timeout(LONG, || 1), Ok(1));
        });
    }
}

#[test]
fn zero_expires_at_the_first_blocking_call_and_not_before() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            assert_eq!(with_timeout(Duration::ZERO, || 1 + 1), Ok(2));
            assert!(with_timeout(Duration::ZERO, || sleep(Duration::ZERO)).is_err());
            let event = Event::new();
            event.set();
            assert!(with_timeout(Duration::ZERO, || event.wait()).is_err());
        });
    }
}

#[test]
fn endless_time_outs_never_expire() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            for endless in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
                assert_eq!(with_timeout(endless, || sleep(SHORT)), Ok(()));
                let timeout = Timeout::start_new(endless);
                sleep(Duration::from_millis(1));
                timeout.cancel();
                assert!(!timeout.pending());
            }
        });
    }
}

#[test]
fn inner_time_out_leaves_the_outer_one_in_force() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let outer = with_timeout(SHORT * 4, || {
                assert!(with_timeout(SHORT, || sleep(LONG)).is_err());
                sleep(LONG);
            });
            assert!(outer.is_err());
        });
    }
}

#[test]
fn outer_time_out_passes_through_the_inner_one() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut after_inner = false;
            let outer = with_timeout(SHORT, || {
                let _ = with_timeout(LONG, || sleep(LONG));
                after_inner = true;
            });
            assert!(outer.is_err());
            assert!(!after_inner);
        });
    }
}

#[test]
fn of_several_that_have_expired_the_earliest_is_raised() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            // The inner one expires first, both before the next blocking call. The outer one starts
            // later, as nobody knows how long it is until the inner one does.
            let limit = Timeout::new(SHORT);
            let outer = limit.catch(|| {
                let inner = with_timeout(Duration::from_millis(1), || {
                    limit.start();
                    spin(SHORT * 2);
                    sleep(LONG);
                });
                assert!(inner.is_err());
                "caught"
            });
            limit.cancel();
            assert_eq!(outer, Ok("caught"));
            // The outer one first.
            let outer = with_timeout(Duration::from_millis(1), || {
                let _ = with_timeout(SHORT, || {
                    spin(SHORT * 2);
                    sleep(LONG);
                });
                unreachable!("the outer one ends it");
            });
            assert!(outer.is_err());
        });
    }
}

#[test]
fn of_equal_deadlines_one_is_raised_and_the_other_can_still_be() {
    let _deadline = deadline();
    let outer = with_timeout(Duration::ZERO, || {
        with_timeout(Duration::ZERO, || sleep(LONG))
    });
    // Started one after the other, so the outer one is the earlier, or they are equal and the outer
    // one is raised.
    assert!(outer.is_err());
}

#[test]
fn time_outs_are_caught_by_the_limit_that_owns_them() {
    let _deadline = deadline();
    spawn(|| {
        let first = Timeout::start_new(SHORT);
        let second = Timeout::start_new(LONG);
        assert!(first.pending() && second.pending());
        let result = first.catch(|| {
            let inner = second.catch(|| sleep(LONG));
            unreachable!("not the second's: {inner:?}");
        });
        assert!(result.is_err());
        assert!(!first.pending() && second.pending());
        drop(second);
        sleep(SHORT);
    })
    .join()
    .unwrap();
}

#[test]
fn expired_limit_is_raised_again_until_it_is_dropped() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let timeout = Timeout::start_new(Duration::from_millis(1));
            for _ in 0..3 {
                let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
                assert!(is_interrupt(&*payload));
            }
            drop(timeout);
            sleep(Duration::from_millis(1));
        });
    }
}

#[test]
fn time_out_that_nobody_catches_ends_the_greenlet() {
    let _deadline = deadline();
    let greenlet = spawn(|| {
        let _timeout = Timeout::start_new(SHORT);
        sleep(LONG);
    });
    let error = greenlet.join().unwrap_err();
    assert!(matches!(error, JoinError::TimedOut { .. }), "{error}");
    assert!(!error.is_panic() && !error.is_killed());
    assert!(error.to_string().contains("nobody caught"), "{error}");
}

#[test]
fn limit_belongs_to_the_greenlet_that_started_it() {
    let _deadline = deadline();
    spawn(|| {
        let neighbour = spawn_local(|| {
            sleep(SHORT * 3);
            "unharmed"
        });
        assert!(with_timeout(SHORT, || sleep(LONG)).is_err());
        assert_eq!(neighbour.join().unwrap(), "unharmed");
    })
    .join()
    .unwrap();
}

#[test]
fn kill_goes_before_a_time_out() {
    let _deadline = deadline();
    let caught = Arc::new(AtomicBool::new(false));
    let catches = Arc::clone(&caught);
    let started = Arc::new(Event::new());
    let ready = Arc::clone(&started);
    let greenlet = spawn(move || {
        ready.set();
        if with_timeout(LONG, || sleep(LONG)).is_err() {
            catches.store(true, Ordering::SeqCst);
        }
    });
    started.wait();
    greenlet.kill();
    assert!(greenlet.join().unwrap_err().is_killed());
    assert!(!caught.load(Ordering::SeqCst));
}

#[test]
fn panics_and_values_pass_through() {
    let _deadline = deadline();
    let panicked = catch_unwind(|| with_timeout(LONG, || std::panic::resume_unwind(Box::new(3))));
    let panicked: Result<Result<(), _>, _> = panicked;
    assert_eq!(*panicked.unwrap_err().downcast::<i32>().unwrap(), 3);
    let error = std::io::Error::from(with_timeout(Duration::ZERO, || sleep(LONG)).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

/// A connection that sets a limit for each read leaves no timer behind: the time-outs of a greenlet
/// share one entry.
#[test]
fn many_short_lived_limits_expire_only_in_their_own_time() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let start = Instant::now();
            for i in 1..2_000_u64 {
                let limit = Duration::from_millis(20 + i % 7);
                let result = with_timeout(limit, || sleep(Duration::from_micros(1)));
                if result.is_err() {
                    // A loaded machine may be that slow, but never early.
                    assert!(start.elapsed() >= Duration::from_millis(20));
                }
            }
            assert_eq!(
                with_timeout(LONG, || sleep(Duration::from_millis(30))),
                Ok(())
            );
        });
    }
}

#[test]
fn time_out_moved_to_another_greenlet_ends_where_it_was_started() {
    let _deadline = deadline();
    spawn(|| {
        let timeout = Timeout::start_new(Duration::ZERO);
        let other = spawn_local(move || {
            assert!(timeout.pending());
            // Not this one's.
            sleep(Duration::from_millis(1));
            drop(timeout);
        });
        let mut raised = 0;
        while !other.ready() {
            raised += usize::from(catch_unwind(idle).is_err());
        }
        assert!(raised > 0);
        other.join().unwrap();
        sleep(Duration::from_millis(1));
    })
    .join()
    .unwrap();
}

#[test]
fn limit_cancelled_by_another_greenlet_does_not_end_a_wait() {
    let _deadline = deadline();
    let (limit, past) = (60 * SHORT, 80 * SHORT);
    spawn(move || {
        for own_limit in [past, LONG] {
            let limit = Rc::new(Timeout::new(limit));
            let theirs = Rc::clone(&limit);
            let waiter = spawn_local(move || {
                theirs.start();
                Event::new().wait_timeout(own_limit)
            });
            until_waits_or_ends(&waiter);
            limit.cancel();
            // A slow machine may have come here too late.
            let in_time = !waiter.ready();
            sleep(past);
            if own_limit == LONG {
                assert!(!in_time || !waiter.ready());
                waiter.kill();
            } else {
                let ended = waiter.join();
                assert!(!in_time || matches!(ended, Ok(false)), "{ended:?}");
            }
        }
    })
    .join()
    .unwrap();
}

#[test]
fn limit_is_not_in_force_before_its_start() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let timeout = Timeout::new(Duration::from_millis(1));
            assert!(!timeout.pending());
            assert_eq!(timeout.duration(), Some(Duration::from_millis(1)));
            assert_eq!(timeout.catch(|| sleep(SHORT)), Ok(()));
            timeout.start();
            assert!(timeout.pending());
            assert!(timeout.catch(|| sleep(LONG)).is_err());
            assert!(!timeout.pending());
        });
    }
}

#[test]
fn limit_can_be_started_again() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let timeout = Timeout::new(SHORT);
            for _ in 0..3 {
                let begun = Instant::now();
                timeout.start();
                assert!(timeout.catch(|| sleep(LONG)).is_err());
                assert!(begun.elapsed() >= SHORT);
            }
            // While it is in force, it starts anew: another limit, whose time was up later, is now
            // the earlier one.
            let timeout = Timeout::start_new(SHORT + Duration::from_millis(1));
            spin(Duration::from_millis(2));
            let other = Timeout::start_new(SHORT);
            timeout.start();
            assert!(timeout.pending() && other.pending());
            let ended = other.catch(|| timeout.catch(|| sleep(LONG)));
            assert!(ended.is_err());
            // And after it was cancelled.
            timeout.cancel();
            timeout.cancel();
            assert!(!timeout.pending());
            timeout.start();
            assert!(timeout.catch(|| sleep(LONG)).is_err());
        });
    }
}

#[test]
fn none_never_expires() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let timeout = Timeout::start_new(None);
            assert!(!timeout.pending() && timeout.duration().is_none());
            assert_eq!(timeout.catch(|| sleep(SHORT)), Ok(()));
            let timeout = Timeout::raising(None, || "never");
            timeout.start();
            sleep(SHORT);
        });
    }
}

#[test]
fn value_can_stand_for_a_time_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let slow = || {
                sleep(LONG);
                "slow"
            };
            assert_eq!(with_timeout_or(SHORT, "none", slow), "none");
            assert_eq!(with_timeout_or(LONG, "none", || "quick"), "quick");
            // Only its own is caught.
            let outer = with_timeout(SHORT, || with_timeout_or(LONG, "none", slow));
            assert!(outer.is_err());
        });
    }
}

#[derive(Debug, PartialEq)]
struct TooSlow(u32);

#[test]
fn limit_may_raise_an_error_of_its_own() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let timeout = Timeout::raising(SHORT, || TooSlow(7));
            timeout.start();
            let payload = catch_unwind(|| {
                // A limit around it, and its own `catch`, let it pass.
                let inner = with_timeout(LONG, || sleep(LONG));
                unreachable!("{inner:?}");
            });
            let payload = payload.unwrap_err();
            assert!(!is_interrupt(&*payload) && !timeout.has_raised(&*payload));
            assert_eq!(*payload.downcast::<TooSlow>().unwrap(), TooSlow(7));
            // Again, until it is cancelled.
            assert!(catch_unwind(|| sleep(LONG)).unwrap_err().is::<TooSlow>());
            timeout.cancel();
            sleep(Duration::from_millis(1));
            timeout.start();
            assert!(catch_unwind(|| sleep(LONG)).unwrap_err().is::<TooSlow>());
            drop(timeout);
            sleep(Duration::from_millis(1));
        });
    }
}

#[test]
fn what_makes_the_error_may_block() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let made = Arc::new(Queue::new(1));
            let theirs = Arc::clone(&made);
            let timeout = Timeout::raising(SHORT, move || {
                theirs.put("made").unwrap();
                sleep(Duration::from_millis(1));
                TooSlow(1)
            });
            timeout.start();
            for _ in 0..2 {
                let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
                assert!(payload.is::<TooSlow>());
                assert!(timeout.pending());
                assert_eq!(made.get_nowait(), Ok("made"));
            }
            timeout.cancel();
            sleep(Duration::from_millis(1));
            assert!(!timeout.pending() && made.is_empty());
        });
    }
}

#[test]
fn limit_cancelled_by_what_makes_its_error_stays_cancelled() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let slot = Rc::new(OnceCell::<Timeout>::new());
            let theirs = Rc::downgrade(&slot);
            let timeout = Timeout::raising(SHORT, move || {
                theirs.upgrade().unwrap().get().unwrap().cancel();
                TooSlow(1)
            });
            timeout.start();
            slot.set(timeout).unwrap();
            let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
            assert!(payload.is::<TooSlow>());
            assert!(!slot.get().unwrap().pending());
            sleep(Duration::from_millis(1));
        });
    }
}

#[test]
fn error_that_nobody_catches_is_the_greenlet_s() {
    let _deadline = deadline();
    let greenlet = spawn(|| {
        let _timeout = Timeout::raising(SHORT, || TooSlow(3));
        _timeout.start();
        sleep(LONG);
    });
    let JoinError::Panicked { payload, .. } = greenlet.join().unwrap_err() else {
        panic!("it ends as by a panic");
    };
    assert_eq!(
        *payload.into_inner().downcast::<TooSlow>().unwrap(),
        TooSlow(3)
    );
}

#[test]
fn what_makes_the_error_is_dropped_with_the_limit() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let dropped = Arc::new(AtomicBool::new(false));
            let drops = Arc::clone(&dropped);
            let owned = OnDrop(move || drops.store(true, Ordering::SeqCst));
            let timeout = Timeout::raising(LONG, move || {
                let _owned = &owned;
            });
            timeout.start();
            assert!(!dropped.load(Ordering::SeqCst));
            drop(timeout);
            assert!(dropped.load(Ordering::SeqCst));
        });
    }
}

#[test]
fn limit_tells_its_own_payload_from_another_s() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (first, second) = (Timeout::start_new(SHORT), Timeout::start_new(LONG));
            let payload = catch_unwind(|| sleep(LONG)).unwrap_err();
            assert!(first.has_raised(&*payload) && !second.has_raised(&*payload));
            assert!(first.pending() && second.pending());
        });
    }
}

/// gevent's test_set: of an event and a time-out of zero, the time-out is first.
#[test]
fn zero_goes_before_a_value_that_comes_later() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let result = Arc::new(AsyncResult::<i32, ()>::new());
            let sets = Arc::clone(&result);
            let setter = spawn_later(Duration::from_millis(2), move || sets.set(1));
            let timeout = Timeout::raising(Duration::ZERO, || TooSlow(0));
            timeout.start();
            let theirs = std::panic::AssertUnwindSafe(&result);
            let payload = catch_unwind(|| theirs.get().is_ok()).unwrap_err();
            assert!(payload.is::<TooSlow>());
            drop(timeout);
            assert_eq!(result.get(), Ok(&1));
            setter.join().unwrap().unwrap();
        });
    }
}
