//! How a hub is reached, and how a thread is woken.

use std::sync::Arc;

use super::{Model, Told};
use crate::inbox::Inbox;
use crate::switch;
use crate::thread_parker::ThreadParker;

pub(super) const MODELS: &[Model] = &[
    (
        "no_message_is_left_in_the_inbox_of_a_hub_that_sleeps",
        inbox,
    ),
    ("a_hub_that_asks_for_a_turn_has_it", turn),
    ("a_kill_reaches_who_is_about_to_park", kill),
    ("an_unpark_is_not_lost", unpark),
    ("who_parks_again_is_woken_again", unpark_twice),
];

/// A hub, and how it is signalled.
struct Hub {
    inbox: Inbox<(usize, u32)>,
    event: ThreadParker,
}

impl Hub {
    fn new() -> Arc<Hub> {
        let hub = Hub {
            inbox: Inbox::new(),
            event: ThreadParker::default(),
        };
        Arc::new(hub)
    }

    fn post(&self, message: (usize, u32)) {
        if self.inbox.post(message) {
            self.event.unpark();
        }
    }
}

/// Two others post, each in its own order, and the hub sleeps whenever it may. A message that is
/// left would have it sleep for ever.
fn inbox() {
    const EACH: [u32; 2] = [2, 1];
    let hub = Hub::new();
    // What is posted before the hub first looks is there, too.
    for (poster, count) in EACH.into_iter().enumerate() {
        let hub = Arc::clone(&hub);
        switch::spawn_thread(move || (0..count).for_each(|number| hub.post((poster, number))));
    }
    let (mut next, mut taken) = ([0; 2], Vec::new());
    while next != EACH {
        hub.event.park(None);
        hub.inbox.take(&mut taken);
        for (poster, number) in taken.drain(..) {
            assert_eq!(number, next[poster], "in order, and once");
            next[poster] += 1;
        }
    }
    assert_eq!(hub.inbox.len(), 0);
}

/// As when a greenlet is to be woken after the next poll, which is noted on the hub itself.
fn turn() {
    let hub = Hub::new();
    let theirs = Arc::clone(&hub);
    switch::spawn_thread(move || theirs.post((0, 0)));
    let (mut turns, mut messages, mut taken) = (0, 0, Vec::new());
    for _ in 0..2 {
        if hub.inbox.ask() {
            hub.event.unpark();
        }
        hub.event.park(None);
        turns += 1;
        hub.inbox.take(&mut taken);
        messages += taken.drain(..).count();
    }
    while messages == 0 {
        hub.event.park(None);
        hub.inbox.take(&mut taken);
        messages += taken.drain(..).count();
    }
    assert_eq!((turns, messages), (2, 1));
}

/// Wherever the kill comes: before the greenlet looks, between that and its park, or after.
fn kill() {
    let (task, greenlet) = switch::spawn(|| {
        loop {
            match switch::park(None) {
                switch::Parked::Interrupted(interrupt) => switch::raise(interrupt),
                // It was a wake of which nobody knows any more.
                switch::Parked::Woken | switch::Parked::Expired => {}
            }
        }
    });
    task.kill();
    let ended: Option<()> = greenlet.join();
    assert!(ended.is_none());
}

fn unpark() {
    let (parker, told) = (Arc::new(ThreadParker::default()), Told::default());
    let (theirs, tells) = (Arc::clone(&parker), told.clone());
    switch::spawn_thread(move || {
        tells.set(1);
        theirs.unpark();
    });
    parker.park(None);
    assert_eq!(told.get(), 1);
}

/// Two wakes may count as one, but not one that comes after the park's end.
fn unpark_twice() {
    let (parker, told) = (Arc::new(ThreadParker::default()), Told::default());
    for number in [1, 2] {
        let (theirs, tells) = (Arc::clone(&parker), told.clone());
        let waker = switch::spawn_thread(move || {
            tells.set(number);
            theirs.unpark();
        });
        while told.get() != number {
            parker.park(None);
        }
        waker.join();
    }
}
