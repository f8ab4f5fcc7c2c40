//! One wait is ended by one thing, and what comes with that is seen.

use std::sync::Arc;
use std::time::Duration;

use super::{Model, Told};
use crate::async_result::AsyncResult;
use crate::event::Event;
use crate::latch::CountDownLatch;
use crate::run_info::WaitsFor;
use crate::switch;
use crate::sys::PAST;
use crate::wait::wait;
use crate::waiter::{Stop, Waiter};

pub(super) const MODELS: &[Model] = &[
    (
        "a_wait_ends_by_one_of_two_notifications_and_a_deadline",
        deadline,
    ),
    ("a_wait_ends_by_a_notification_or_a_kill", kill),
    ("a_claim_tells_what_was_done_before_it", claim),
    ("an_event_wakes_all_who_wait", event),
    (
        "an_event_of_which_one_gives_up_wakes_the_other",
        event_and_kill,
    ),
    ("a_latch_opens_once_and_tells_what_all_have_done", latch),
    ("a_result_comes_once_and_to_all", result),
    ("who_waits_for_several_things_hears_of_each", several),
];

fn deadline() {
    let (ours, theirs) = (
        Arc::new(loom::sync::Mutex::new(None)),
        Arc::new(Event::new()),
    );
    let (publish, known) = (Arc::clone(&ours), Arc::clone(&theirs));
    let waiting = switch::spawn_thread(move || {
        let waiter = Waiter::new();
        *publish.lock().unwrap() = Some(Arc::clone(&waiter));
        known.set();
        match waiter.wait_for(WaitsFor::Event, Some(PAST)) {
            Ok(()) => 0,
            Err(Stop::Deadline) => 1,
            Err(Stop::Interrupt(_)) => unreachable!("nobody kills"),
        }
    });
    theirs.wait();
    let waiter = ours.lock().unwrap().clone().unwrap();
    let other = Arc::clone(&waiter);
    let notifier = switch::spawn_thread(move || u32::from(other.notify()));
    let notified = u32::from(waiter.notify());
    assert_eq!(notified + notifier.join() + waiting.join(), 1);
}

fn kill() {
    let place = Arc::new(loom::sync::Mutex::new(None));
    let known = Arc::new(Event::new());
    let (publish, published) = (Arc::clone(&place), Arc::clone(&known));
    let (task, greenlet) = switch::spawn(move || {
        let waiter = Waiter::new();
        *publish.lock().unwrap() = Some(Arc::clone(&waiter));
        published.set();
        let notified = match waiter.wait_for(WaitsFor::Event, None) {
            Ok(()) => 1,
            Err(Stop::Interrupt(_)) => 0,
            Err(Stop::Deadline) => unreachable!("there is none"),
        };
        // A kill that came second is raised by the next call.
        *publish.lock().unwrap() = None;
        notified
    });
    known.wait();
    let waiter = place.lock().unwrap().clone().unwrap();
    let killer = switch::spawn_thread(move || task.kill());
    let notified = u32::from(waiter.notify());
    killer.join();
    assert_eq!(greenlet.join(), Some(notified));
    assert!(place.lock().unwrap().is_none());
}

/// Also if who waits sees it before it is woken.
fn claim() {
    let (told, tells) = (Told::default(), Told::default());
    let waiter = Waiter::new();
    let (other, tells) = (Arc::clone(&waiter), {
        drop(tells);
        told.clone()
    });
    switch::spawn_thread(move || {
        tells.set(1);
        assert!(other.notify());
    });
    waiter.wait_for(WaitsFor::Event, None).unwrap();
    assert_eq!(told.get(), 1);
}

fn event() {
    let (event, told) = (Arc::new(Event::new()), Told::default());
    assert!(!event.is_set());
    let waits = |event: &Arc<Event>| {
        let (event, told) = (Arc::clone(event), told.clone());
        move || {
            assert!(event.wait());
            assert_eq!(told.get(), 1);
        }
    };
    let (_, greenlet) = switch::spawn(waits(&event));
    let thread = switch::spawn_thread(waits(&event));
    told.set(1);
    event.set();
    assert!(greenlet.join().is_some());
    thread.join();
}

fn event_and_kill() {
    let event = Arc::new(Event::new());
    assert!(!event.is_set());
    let (killed, kept) = (Arc::clone(&event), Arc::clone(&event));
    let (victim, one) = switch::spawn(move || killed.wait());
    let (_, other) = switch::spawn(move || kept.wait());
    victim.kill();
    event.set();
    // It was set, or not seen.
    assert!(one.join().unwrap_or(true));
    assert_eq!(other.join(), Some(true));
}

fn latch() {
    let latch = Arc::new(CountDownLatch::new(2));
    assert_eq!(latch.count(), 2);
    let told = [Told::default(), Told::default()];
    let counting = told.clone().map(|told| {
        let latch = Arc::clone(&latch);
        switch::spawn_thread(move || {
            told.set(1);
            latch.count_down()
        })
    });
    assert!(latch.wait());
    assert!(told.iter().all(|told| told.get() == 1));
    let last = counting.map(|it| u32::from(it.join()));
    assert_eq!(last.iter().sum::<u32>(), 1);
}

fn result() {
    let result = Arc::new(AsyncResult::<u32, ()>::new());
    assert!(!result.ready());
    let setting = [1, 2].map(|number| {
        let result = Arc::clone(&result);
        switch::spawn_thread(move || result.set(number).is_ok())
    });
    let first = *result.get().unwrap();
    assert_eq!(setting.map(|it| it.join()), [first == 1, first == 2]);
    assert_eq!(result.get_timeout(Duration::ZERO), Ok(&first));
}

fn several() {
    let events = [Arc::new(Event::new()), Arc::new(Event::new())];
    assert!(!events[0].is_set() && !events[1].is_set());
    for event in &events {
        let event = Arc::clone(event);
        switch::spawn_thread(move || event.set());
    }
    let mut ready = wait(&[&*events[0], &*events[1]], None, None);
    ready.sort_unstable();
    assert_eq!(ready, [0, 1]);
}
