//! Waiting until the work behind the items is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::{JoinableQueue, LifoQueue, PriorityQueue, Queue, joinall};

use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on};

#[test]
fn join_returns_at_once_when_nothing_was_put() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            assert!(Queue::<u32>::new(0).join());
            assert!(LifoQueue::<u32>::new(0).join());
            assert!(PriorityQueue::<u32>::new(0).join_timeout(Duration::ZERO));
        });
    }
}

#[test]
fn join_waits_until_all_is_done() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let queue = Arc::new(JoinableQueue::new(3));
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..4)
            .map(|i| {
                let (queue, done) = (Arc::clone(&queue), Arc::clone(&done));
                spawn_on(any_hub(i), move || {
                    for job in &*queue {
                        done.fetch_add(job, Ordering::SeqCst);
                        queue.task_done();
                    }
                })
            })
            .collect();
        let (theirs, seen) = (Arc::clone(&queue), Arc::clone(&done));
        from.run(move || {
            for _ in 0..20 {
                for _ in 0..10 {
                    theirs.put(1).unwrap();
                }
                assert!(theirs.join());
                assert_eq!(seen.load(Ordering::SeqCst) % 10, 0);
                assert_eq!(theirs.unfinished_tasks(), 0);
            }
            theirs.shutdown(false);
        });
        assert!(joinall(&workers, None));
        assert_eq!(done.load(Ordering::SeqCst), 200);
    }
}

#[test]
fn join_times_out_while_work_is_left() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = Queue::with_items(0, [1]);
            queue.get().unwrap();
            assert!(!queue.join_timeout(Duration::from_millis(2)));
            queue.task_done();
            assert!(queue.join_timeout(Duration::from_millis(2)));
        });
    }
}

#[test]
fn all_who_join_go_on_and_one_who_was_killed_is_passed_over() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::with_items(0, [1]));
    let started = Arc::new(AtomicUsize::new(0));
    let joiners: Vec<_> = (0..10)
        .map(|i| {
            let (theirs, started) = (Arc::clone(&queue), Arc::clone(&started));
            spawn_on(any_hub(i), move || {
                started.fetch_add(1, Ordering::SeqCst);
                theirs.join()
            })
        })
        .collect();
    eventually("all have begun", || started.load(Ordering::SeqCst) == 10);
    joiners[3].kill();
    queue.task_done();
    for (i, joiner) in joiners.into_iter().enumerate() {
        assert_eq!(joiner.join().is_ok_and(|done| done), i != 3);
    }
}

#[test]
fn item_counts_from_when_it_is_let_in() {
    let _deadline = deadline();
    let queue = Queue::new(1);
    queue.put(1).unwrap();
    assert!(queue.put_timeout(2, Duration::from_millis(1)).is_err());
    assert_eq!(queue.unfinished_tasks(), 1);
}

#[test]
#[should_panic(expected = "task_done called more often")]
fn task_done_without_a_task_panics() {
    let queue = Queue::new(0);
    queue.put(1).unwrap();
    queue.task_done();
    queue.task_done();
}
