//! Looking at an item without taking it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenwood_runtime::{GetError, Queue, with_timeout};

use crate::support::{EVERYWHERE, any_hub, count, deadline, eventually, spawn_on};

#[test]
fn peek_leaves_the_item() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = Queue::with_items(0, ["a", "b"]);
            assert_eq!((queue.peek(), queue.peek_nowait()), (Ok("a"), Ok("a")));
            assert_eq!(queue.get(), Ok("a"));
            assert_eq!(queue.peek_timeout(Duration::ZERO), Ok("b"));
            assert_eq!(queue.unfinished_tasks(), 2);
        });
    }
}

#[test]
fn peek_of_an_empty_queue_times_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = Queue::<u32>::new(0);
            assert_eq!(queue.peek_nowait(), Err(GetError::Empty));
            let peeked = queue.peek_timeout(Duration::from_millis(2));
            assert_eq!(peeked, Err(GetError::Empty));
            assert!(with_timeout(Duration::from_millis(2), || queue.peek()).is_err());
            assert_eq!(count(&queue, "getters"), 0);
        });
    }
}

#[test]
fn everybody_who_peeks_before_a_getter_sees_its_item() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(0));
    let mut waiters = Vec::new();
    for i in 0..12 {
        let theirs = Arc::clone(&queue);
        waiters.push(EVERYWHERE[i % 3].start(move || match i % 4 {
            3 => theirs.get().unwrap(),
            _ => theirs.peek().unwrap(),
        }));
        eventually("the next one waits", || count(&queue, "getters") == i + 1);
    }
    for i in 0..3 {
        queue.put(i).unwrap();
        assert!(queue.is_empty());
    }
    for (i, waiter) in waiters.into_iter().enumerate() {
        assert_eq!(waiter(), i / 4);
    }
}

#[test]
fn item_stays_when_only_peekers_wait() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(1));
    let start = |i: usize| {
        let theirs = Arc::clone(&queue);
        let peeker = spawn_on(any_hub(i), move || theirs.peek());
        eventually("it waits", || count(&queue, "getters") == i + 1);
        peeker
    };
    let (killed, peeker) = (start(0), start(1));
    killed.kill();
    queue.put(5).unwrap();
    assert_eq!(peeker.join().unwrap(), Ok(5));
    assert!(queue.is_full());
    assert_eq!(queue.get(), Ok(5));
}

#[test]
fn copy_that_panics_hits_who_puts_and_the_peeker_waits_on() {
    struct Item<'a>(u32, &'a AtomicBool);
    impl Clone for Item<'_> {
        fn clone(&self) -> Self {
            assert!(!self.1.load(Ordering::SeqCst), "no copies today");
            Item(self.0, self.1)
        }
    }
    static REFUSES: AtomicBool = AtomicBool::new(true);
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(0));
    let theirs = Arc::clone(&queue);
    let peeker = spawn_on(any_hub(1), move || {
        theirs.peek().map(|item: Item<'_>| item.0)
    });
    eventually("it waits", || count(&queue, "getters") == 1);
    let theirs = Arc::clone(&queue);
    let putter = spawn_on(0, move || theirs.put(Item(1, &REFUSES)));
    assert!(putter.join().unwrap_err().is_panic());
    REFUSES.store(false, Ordering::SeqCst);
    assert!(queue.put(Item(2, &REFUSES)).is_ok());
    assert_eq!(peeker.join().unwrap(), Ok(2));
    assert_eq!(queue.get().map(|item| item.0), Ok(2));
}
