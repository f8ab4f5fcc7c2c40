//! Plain OS threads that end: their destructors may use everything.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{Event, Queue, sleep, spawn, with_timeout};

use crate::support::{OnDrop, case, child, deadline, eventually};

type AtExit = OnDrop<Box<dyn FnMut()>>;

thread_local! {
    static EARLY: RefCell<Option<AtExit>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<AtExit>> = const { RefCell::new(None) };
}

/// A thread's last words: the runtime's own thread-locals may be gone when they are spoken, and
/// must not be missed.
#[test]
fn destructors_of_a_thread_may_block() {
    let _deadline = deadline();
    // A child: what goes wrong in such a destructor ends the process.
    if case().is_none() {
        return child("threads::destructors_of_a_thread_may_block", "x", &[]).passed();
    }
    let words = Arc::new(Queue::new(0));
    let thread = {
        let words = Arc::clone(&words);
        std::thread::spawn(move || {
            let last_words = |word: &'static str| -> AtExit {
                let words = Arc::clone(&words);
                OnDrop(Box::new(move || {
                    let greenlet = spawn(|| sleep(Duration::from_millis(3)));
                    assert!(greenlet.join().is_ok());
                    sleep(Duration::from_millis(2));
                    assert!(!Event::new().wait_timeout(Duration::from_millis(1)));
                    assert!(with_timeout(Duration::from_secs(60), || words.put(word)).is_ok());
                }))
            };
            // Destructors run in the reverse order of first use, or the same: one of the two is
            // after the runtime's.
            EARLY.set(Some(last_words("early")));
            sleep(Duration::from_millis(1));
            assert!(with_timeout(Duration::ZERO, || sleep(Duration::MAX)).is_err());
            LATE.set(Some(last_words("late")));
        })
    };
    thread.join().unwrap();
    eventually("both were spoken", || words.len() == 2);
}
