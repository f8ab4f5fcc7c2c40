//! An item is in the queue, or with one.

use std::sync::Arc;
use std::time::Duration;

use super::Model;
use crate::queue::{Channel, GetError, PutError, Queue};
use crate::switch;

pub(super) const MODELS: &[Model] = &[
    ("an_item_goes_to_who_gets_it_in_time_or_stays", get_timeout),
    ("an_item_is_not_lost_with_who_is_killed", get_and_kill),
    (
        "an_item_is_put_or_stays_with_who_is_out_of_time",
        put_timeout,
    ),
    (
        "a_putter_that_is_killed_takes_its_item_along_or_not",
        put_and_kill,
    ),
    ("two_getters_have_one_item_each", two_getters),
    ("a_shutdown_ends_who_gets_and_who_puts", shutdown),
    ("an_item_goes_from_hand_to_hand", rendezvous),
    ("who_waits_for_the_work_goes_on_when_it_is_done", join),
];

fn get_timeout() {
    let queue = Arc::new(Queue::new(0));
    assert!(queue.is_empty());
    let theirs = Arc::clone(&queue);
    let getting = switch::spawn_thread(move || theirs.get_timeout(Duration::ZERO));
    queue.put(7).unwrap();
    match getting.join() {
        Ok(item) => assert!(item == 7 && queue.is_empty()),
        Err(error) => {
            assert_eq!(error, GetError::Empty);
            assert_eq!(queue.get_nowait(), Ok(7));
        }
    }
    assert_eq!(queue.unfinished_tasks(), 1);
}

fn get_and_kill() {
    let queue = Arc::new(Queue::new(0));
    assert!(queue.is_empty());
    let theirs = Arc::clone(&queue);
    let (victim, getting) = switch::spawn(move || theirs.get());
    let killer = switch::spawn_thread(move || victim.kill());
    queue.put(7).unwrap();
    killer.join();
    match getting.join() {
        Some(item) => assert!(item == Ok(7) && queue.is_empty()),
        None => assert_eq!(queue.get_nowait(), Ok(7)),
    }
}

fn put_timeout() {
    let queue = Arc::new(Queue::new(1));
    queue.put(1).unwrap();
    let theirs = Arc::clone(&queue);
    let putting = switch::spawn_thread(move || theirs.put_timeout(2, Duration::ZERO));
    assert_eq!(queue.get(), Ok(1));
    match putting.join() {
        Ok(()) => assert_eq!(queue.get_nowait(), Ok(2)),
        Err(error) => {
            assert_eq!(error, PutError::Full(2));
            assert_eq!(queue.get_nowait(), Err(GetError::Empty));
        }
    }
}

fn put_and_kill() {
    let queue = Arc::new(Queue::new(1));
    let item = Arc::new(());
    queue.put(Arc::default()).unwrap();
    let (theirs, put) = (Arc::clone(&queue), Arc::clone(&item));
    let (victim, putting) = switch::spawn(move || theirs.put(put));
    let killer = switch::spawn_thread(move || victim.kill());
    queue.get().unwrap();
    killer.join();
    let done = putting.join().is_some();
    let held = queue.get_nowait().is_ok();
    // A kill that came second leaves the item put.
    assert!(held || !done);
    assert_eq!(Arc::strong_count(&item), 1);
}

fn two_getters() {
    let queue = Arc::new(Queue::new(0));
    assert!(queue.is_empty());
    let theirs = Arc::clone(&queue);
    let (_, greenlet) = switch::spawn(move || theirs.get().unwrap());
    let theirs = Arc::clone(&queue);
    let thread = switch::spawn_thread(move || theirs.get().unwrap());
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    let got = (greenlet.join().unwrap(), thread.join());
    assert!(got == (1, 2) || got == (2, 1), "{got:?}");
}

fn shutdown() {
    let (empty, full) = (Arc::new(Queue::<u32>::new(0)), Arc::new(Queue::new(1)));
    assert!(empty.is_empty());
    full.put(1).unwrap();
    let theirs = Arc::clone(&empty);
    let (_, getting) = switch::spawn(move || theirs.get());
    let theirs = Arc::clone(&full);
    let putting = switch::spawn_thread(move || theirs.put(2));
    empty.shutdown(false);
    full.shutdown(false);
    assert_eq!(getting.join(), Some(Err(GetError::ShutDown)));
    assert_eq!(putting.join(), Err(PutError::ShutDown(2)));
    assert_eq!((full.get(), full.get()), (Ok(1), Err(GetError::ShutDown)));
}

fn rendezvous() {
    let channel = Arc::new(Channel::new());
    assert_eq!(channel.get_nowait(), Err(GetError::Empty));
    let theirs = Arc::clone(&channel);
    let putting = switch::spawn_thread(move || theirs.put_timeout(1, Duration::ZERO));
    let got = channel.get_timeout(Duration::ZERO);
    // Both, or neither.
    assert_eq!(putting.join().is_ok(), got == Ok(1));
}

fn join() {
    let queue = Arc::new(Queue::new(0));
    queue.put(1).unwrap();
    let theirs = Arc::clone(&queue);
    let worker = switch::spawn_thread(move || {
        theirs.get().unwrap();
        theirs.task_done();
    });
    assert!(queue.join());
    assert_eq!(queue.unfinished_tasks(), 0);
    worker.join();
}
