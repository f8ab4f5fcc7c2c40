//! [`Event`].

use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{Event, joinall, spawn_local};

use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, waiting};

#[test]
fn wait_returns_at_once_when_the_event_is_set() {
    let _deadline = deadline();
    let event = Event::new();
    event.set();
    assert!(event.wait());
    assert!(event.wait_timeout(Duration::ZERO));
    assert!(event.is_set());
}

#[test]
fn wait_times_out_when_nobody_sets_it() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let event = Event::new();
            assert!(!event.wait_timeout(Duration::from_millis(5)));
            assert!(!event.wait_timeout(Duration::ZERO));
        });
    }
}

#[test]
fn set_wakes_greenlets_of_every_hub_and_threads() {
    let _deadline = deadline();
    for setter in EVERYWHERE {
        let event = Arc::new(Event::new());
        let waiters: Vec<_> = EVERYWHERE
            .into_iter()
            .cycle()
            .take(9)
            .map(|from| {
                let event = Arc::clone(&event);
                from.start(move || event.wait())
            })
            .collect();
        eventually("all wait", || waiting(&event) == 9);
        setter.run(move || event.set());
        for waiter in waiters {
            assert!(waiter());
        }
    }
}

#[test]
fn who_was_woken_returns_although_the_event_is_cleared_at_once() {
    let _deadline = deadline();
    for round in 0..200 {
        let event = Arc::new(Event::new());
        let theirs = Arc::clone(&event);
        let waiter = spawn_on(any_hub(round), move || theirs.wait());
        eventually("it waits", || waiting(&event) == 1);
        event.set();
        event.clear();
        assert!(waiter.join().unwrap());
        assert!(!event.is_set());
    }
}

#[test]
fn cleared_event_blocks_again() {
    let _deadline = deadline();
    let event = Event::new();
    event.set();
    event.clear();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::from_millis(1)));
}

#[test]
fn waiters_of_one_hub_go_on_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let event = Arc::new(Event::new());
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let waiters: Vec<_> = (0..50)
        .map(|i| {
            let (theirs, order) = (Arc::clone(&event), Arc::clone(&order));
            let waiter = spawn_on(0, move || {
                theirs.wait();
                order.lock().unwrap().push(i);
            });
            eventually("it waits", || waiting(&event) == i + 1);
            waiter
        })
        .collect();
    spawn_on(0, move || event.set()).join().unwrap();
    assert!(joinall(&waiters, None));
    assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
}

#[test]
fn those_who_gave_up_are_forgotten() {
    let _deadline = deadline();
    let event = Event::new();
    for _ in 0..10_000 {
        assert!(!event.wait_timeout(Duration::from_nanos(1)));
    }
    assert_eq!(waiting(&event), 0);
    event.set();
    assert!(event.wait());
}

/// gevent's TestEvent_SetThenClear.
#[test]
fn set_that_is_taken_back_at_once_wakes_all_who_waited() {
    let _deadline = deadline();
    for count in [1, 100, 1_000] {
        let event = Arc::new(Event::new());
        let waiters: Vec<_> = (0..count)
            .map(|i| {
                let event = Arc::clone(&event);
                spawn_on(any_hub(i), move || event.wait())
            })
            .collect();
        eventually("all wait", || waiting(&event) == count);
        event.set();
        event.clear();
        for waiter in waiters {
            assert!(waiter.join().unwrap());
        }
    }
}

/// gevent's issue 1520: who waits for an event that is set goes on at once, and those who were
/// woken by the set go on in their order.
#[test]
fn wait_for_a_set_event_does_not_switch() {
    let _deadline = deadline();
    spawn_on(0, || {
        let goes_on_at_once = || {
            let event = Arc::new(Event::new());
            let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let waiters: Vec<_> = (1..=2)
                .map(|i| {
                    let (theirs, order) = (Arc::clone(&event), std::rc::Rc::clone(&order));
                    let waiter = spawn_local(move || {
                        theirs.wait();
                        order.borrow_mut().push(i);
                    });
                    eventually("it waits", || waiting(&event) == i);
                    waiter
                })
                .collect();
            event.set();
            assert!(event.wait());
            order.borrow_mut().push(0);
            assert!(joinall(&waiters, None));
            order.take() == [0, 1, 2]
        };
        // Unless a poll is due, which any blocking call sees to.
        eventually("it goes on at once", goes_on_at_once);
    })
    .join()
    .unwrap();
}
