//! [`wait`] and [`iwait`]: several things at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::{
    AsyncResult, CountDownLatch, Event, Greenlet, Pool, Queue, Waitable, iwait, joinall, scope,
    sleep, spawn, spawn_later, wait, with_timeout,
};

use crate::support::{EVERYWHERE, any_hub, deadline, spawn_on};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|_| Event::new()).collect()
}

fn waitables<W: Waitable>(objects: &[W]) -> Vec<&dyn Waitable> {
    objects
        .iter()
        .map(|object| object as &dyn Waitable)
        .collect()
}

#[test]
fn ready_ones_come_in_the_order_in_which_they_became_so() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (events, go) = (Arc::new(events(50)), Arc::new(Event::new()));
            let order: Vec<_> = (0..50).map(|i| i * 7 % 50).collect();
            let (theirs, sets) = (Arc::clone(&events), order[5..].to_vec());
            let told = Arc::clone(&go);
            let setter = spawn(move || {
                told.wait();
                for i in sets {
                    theirs[i].set();
                    if i % 3 == 0 {
                        sleep(Duration::ZERO);
                    }
                }
            });
            // Those that have been set before come first, by their places.
            order[..5].iter().rev().for_each(|&i| events[i].set());
            let ready = iwait(&waitables(&events), None);
            go.set();
            assert_eq!(order[..5], [0, 7, 14, 21, 28]);
            assert_eq!(ready.collect::<Vec<_>>(), order);
            setter.join().unwrap();
        });
    }
}

#[test]
fn kinds_may_be_mixed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let event = Arc::new(Event::new());
            let result = Arc::new(AsyncResult::<i32>::new());
            let latch = Arc::new(CountDownLatch::new(1));
            let greenlet = spawn(|| sleep(LONG));
            let objects: [&dyn Waitable; 4] = [&*event, &*result, &*latch, &greenlet];
            assert!(objects.iter().all(|object| !object.ready()));
            assert_eq!(wait(&objects, Some(Duration::ZERO), None), []);
            let mut ready = iwait(&objects, None);
            latch.count_down();
            assert_eq!(ready.next(), Some(2));
            greenlet.kill_nowait();
            assert_eq!(ready.next(), Some(3));
            result.set(1).unwrap();
            assert_eq!(ready.next(), Some(1));
            assert_eq!(ready.size_hint(), (0, Some(1)));
            event.set();
            assert_eq!(ready.next(), Some(0));
            assert_eq!((ready.next(), ready.next()), (None, None));
            drop(ready);
            assert!(objects.iter().all(|object| object.ready()));
            assert_eq!(wait(&objects, None, None), [0, 1, 2, 3]);
        });
    }
}

#[test]
fn members_and_greenlets_of_a_scope_can_be_waited_for() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (event, queue) = (Event::new(), Queue::default());
            let pool = Pool::new(1);
            pool.spawn(|| sleep(LONG));
            let member = pool.iter().next().unwrap();
            scope(|s| {
                let borrower = s.spawn(|| event.wait());
                let objects: [&dyn Waitable; 3] = [&borrower, &queue, &member];
                let mut ready = iwait(&objects, None);
                event.set();
                assert_eq!(ready.next(), Some(0));
                member.kill_nowait();
                assert_eq!(ready.next(), Some(2));
                queue.put(1).unwrap();
                assert_eq!(ready.next(), Some(1));
            });
            assert!(member.ready() && pool.is_empty());
        });
    }
}

#[test]
fn count_says_how_many() {
    let _deadline = deadline();
    let events = events(5);
    let objects = waitables(&events);
    assert_eq!(wait(&objects, None, Some(0)), []);
    events[3].set();
    events[1].set();
    assert_eq!(wait(&objects, None, Some(1)), [1]);
    assert_eq!(wait(&objects, None, Some(2)), [1, 3]);
    assert_eq!(wait(&objects, Some(SHORT), Some(3)), [1, 3]);
    // More than there are.
    events.iter().for_each(Event::set);
    assert_eq!(wait(&objects, None, Some(9)).len(), 5);
    assert_eq!(wait(&[], None, None), []);
    assert_eq!(iwait(&[], None).next(), None);
}

#[test]
fn time_limit_is_one_for_all() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let events = events(3);
            let objects = waitables(&events);
            let start = Instant::now();
            assert_eq!(wait(&objects, Some(SHORT), None), []);
            assert!(start.elapsed() >= SHORT);
            events[2].set();
            let mut ready = iwait(&objects, Some(SHORT));
            assert_eq!(ready.next(), Some(2));
            assert_eq!(ready.next(), None);
            // What comes after the time is not waited for, but not lost either.
            events[0].set();
            assert_eq!(ready.next(), Some(0));
            drop(ready);
            assert!(with_timeout(SHORT, || wait(&objects, None, None)).is_err());
            let limited = with_timeout(LONG, || wait(&objects, Some(SHORT), None));
            assert_eq!(limited.unwrap(), [0, 2]);
        });
    }
}

#[test]
fn one_may_be_given_more_than_once() {
    let _deadline = deadline();
    let event = Event::new();
    let greenlet = spawn(|| sleep(SHORT));
    let objects: [&dyn Waitable; 4] = [&greenlet, &event, &greenlet, &greenlet];
    assert_eq!(wait(&objects, None, Some(3)), [0, 2, 3]);
    event.set();
    assert_eq!(wait(&objects, None, None), [0, 1, 2, 3]);
    assert!(joinall([&greenlet, &greenlet, &greenlet], None));
}

/// gevent's issue 771: who waits from within a notification waits for the next set.
#[test]
fn wait_after_a_clear_waits_for_the_next_set() {
    let _deadline = deadline();
    let event = Arc::new(Event::new());
    let theirs = Arc::clone(&event);
    spawn(move || {
        let sets = Arc::clone(&theirs);
        let setter = spawn(move || sets.set());
        assert_eq!(wait(&[&*theirs], None, None), [0]);
        setter.join().unwrap();
        theirs.clear();
        assert_eq!(wait(&[&*theirs], Some(SHORT), None), []);
        assert!(!theirs.is_set());
    })
    .join()
    .unwrap();
    event.set();
    for _ in 0..2 {
        assert_eq!(wait(&[&*event], None, None), [0]);
    }
}

#[test]
fn killed_waiter_leaves_the_objects_alone() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let event = Arc::new(Event::new());
        let started = Arc::new(Event::new());
        let (theirs, ready) = (Arc::clone(&event), Arc::clone(&started));
        let greenlet = Arc::new(spawn(move || theirs.wait()));
        let (waited, theirs) = (Arc::clone(&greenlet), Arc::clone(&event));
        let waiter = spawn_on(0, move || {
            ready.set();
            wait(&[&*theirs, &*waited], None, None)
        });
        started.wait();
        from.run(move || waiter.kill());
        assert!(!greenlet.ready());
        event.set();
        assert_eq!(wait(&[&*event, &*greenlet], None, None), [0, 1]);
    }
}

#[test]
fn thousands_are_waited_for() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let greenlets: Vec<Greenlet<usize>> = (0..3_000)
                .map(|i| {
                    spawn_on(any_hub(i), move || {
                        if i % 5 == 0 {
                            sleep(Duration::from_micros(i as u64));
                        }
                        i
                    })
                })
                .collect();
            let mut seen = vec![false; greenlets.len()];
            for place in iwait(&waitables(&greenlets), None) {
                assert!(greenlets[place].ready());
                assert!(!std::mem::replace(&mut seen[place], true));
            }
            assert!(seen.into_iter().all(|seen| seen));
        });
    }
}

#[test]
fn waits_given_up_leave_nothing_behind() {
    let _deadline = deadline();
    let event = Arc::new(Event::new());
    let kept = Arc::new(());
    let mut waiters = Vec::new();
    for i in 0..2_000 {
        let (theirs, kept) = (Arc::clone(&event), Arc::clone(&kept));
        let waiter = spawn_on(any_hub(i), move || {
            let _kept = kept;
            let silent = Event::new();
            if i % 2 == 0 {
                let limit = Some(Duration::from_micros(1));
                assert_eq!(wait(&[&*theirs, &silent], limit, None), []);
            } else {
                wait(&[&*theirs, &silent], None, None);
            }
        });
        if i % 2 == 1 {
            waiter.kill();
        }
        waiters.push(waiter);
    }
    // The greenlets are gone, with all that they waited by.
    assert!(joinall(&waiters, None));
    assert_eq!(Arc::strong_count(&kept), 1);
    drop(waiters);
    event.set();
    assert_eq!(wait(&[&*event], None, None), [0]);
}

#[test]
fn iterator_begun_and_dropped_is_told_nothing() {
    let _deadline = deadline();
    let (first, second) = (Arc::new(Event::new()), Event::new());
    let theirs = Arc::clone(&first);
    spawn_later(Duration::from_millis(1), move || theirs.set());
    let mut ready = iwait(&[&*first, &second], None);
    assert_eq!(ready.next(), Some(0));
    drop(ready);
    second.set();
    assert!(second.wait());
}

#[test]
fn who_unwinds_takes_what_is_ready_and_does_not_wait() {
    let _deadline = deadline();
    let unwinds = spawn(|| {
        let event = Event::new();
        let set = Event::new();
        set.set();
        let _looks = crate::support::OnDrop(|| {
            assert_eq!(wait(&[&event, &set], None, None), [1]);
        });
        std::panic::resume_unwind(Box::new("as asked"))
    });
    let error: Result<(), _> = unwinds.join();
    assert!(error.unwrap_err().to_string().ends_with("as asked"));
}

#[test]
fn what_is_ready_as_the_time_runs_out_is_not_lost() {
    const EVENTS: usize = 3_000;
    let _deadline = deadline();
    let over = Arc::new(Event::new());
    let theirs = Arc::clone(&over);
    // Each turn of this one is longer than the time for one event.
    let slow = spawn_on(0, move || {
        while !theirs.is_set() {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(300) {
                std::hint::spin_loop();
            }
            sleep(Duration::ZERO);
        }
    });
    let found = spawn_on(0, || {
        let events = events(EVENTS);
        events.iter().for_each(Event::set);
        let mut ready = iwait(&waitables(&events), None);
        let (mut found, mut in_vain) = (0, 0);
        while found < EVENTS && in_vain < 100 {
            match with_timeout(Duration::from_micros(100), || ready.next()) {
                Ok(Some(_)) => (found, in_vain) = (found + 1, 0),
                Ok(None) => break,
                Err(_) => in_vain += 1,
            }
        }
        found
    });
    assert_eq!(found.join().unwrap(), EVENTS);
    over.set();
    slow.join().unwrap();
}
