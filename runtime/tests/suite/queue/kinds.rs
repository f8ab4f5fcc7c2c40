//! What the kinds of queues differ in, and what they share besides put and get.

use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{
    Channel, Event, GetError, LifoQueue, PriorityQueue, PutError, Queue, SimpleQueue, Waitable,
    iwait, spawn_local, wait, with_timeout,
};

use crate::support::{EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on};

#[test]
fn lifo_queue_gives_the_newest_first() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = LifoQueue::new(0);
            for i in 0..100 {
                queue.put(i).unwrap();
            }
            assert_eq!(queue.peek(), Ok(99));
            assert!((0..100).rev().all(|i| queue.get() == Ok(i)));
        });
    }
}

#[test]
fn simple_queue_gives_the_oldest_first() {
    let queue = SimpleQueue::new(2);
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!(queue.put_nowait(3), Err(PutError::Full(3)));
    assert_eq!((queue.get(), queue.get()), (Ok(1), Ok(2)));
    assert_eq!(queue.get_nowait(), Err(GetError::Empty));
}

/// Whether 666 can't be compared.
static REFUSES: AtomicBool = AtomicBool::new(true);

/// Ordered by its first field only.
#[derive(Clone, Debug)]
struct Job(u32, usize);

impl Ord for Job {
    fn cmp(&self, other: &Job) -> Ordering {
        let comparable = !REFUSES.load(Relaxed) || (self.0 != 666 && other.0 != 666);
        assert!(comparable, "this one can't be compared");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Job) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Job {}

#[test]
fn priority_queue_gives_the_smallest_first_and_equal_ones_in_the_order_of_coming() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let queue = PriorityQueue::new(0);
            let mut sorted = Vec::new();
            for i in 0..500 {
                let job = Job((i as u32 * 7919) % 13, i);
                sorted.push((job.0, job.1));
                queue.put(job).unwrap();
            }
            sorted.sort_unstable();
            assert_eq!(queue.peek().unwrap().1, sorted[0].1);
            let got: Vec<_> = (0..500)
                .map(|_| queue.get().map(|job| (job.0, job.1)).unwrap())
                .collect();
            assert_eq!(got, sorted);
        });
    }
    let largest_first = PriorityQueue::with_items(0, [Reverse(1), Reverse(3), Reverse(2)]);
    assert_eq!(largest_first.get(), Ok(Reverse(3)));
}

#[test]
fn priority_queue_lets_putters_in_in_the_order_in_which_they_came() {
    let _deadline = deadline();
    let queue = Arc::new(PriorityQueue::new(2));
    queue.put(50).unwrap();
    queue.put(60).unwrap();
    let putters: Vec<_> = [30, 10, 20]
        .into_iter()
        .enumerate()
        .map(|(i, item)| {
            let theirs = Arc::clone(&queue);
            let putter = EVERYWHERE[i % 3].start(move || theirs.put(item).unwrap());
            eventually("it waits", || count(&*queue, "putters") == i + 1);
            putter
        })
        .collect();
    // 10 is the smallest of all, but behind 30.
    let got: Vec<_> = (0..5).map(|_| queue.get().unwrap()).collect();
    assert_eq!(got, [50, 30, 10, 20, 60]);
    putters.into_iter().for_each(|putter| putter());
}

#[test]
fn priority_queue_survives_a_comparison_that_panics() {
    let queue = PriorityQueue::with_items(0, [Job(2, 0), Job(1, 1)]);
    let put = catch_unwind(AssertUnwindSafe(|| queue.put(Job(666, 2))));
    assert!(put.is_err());
    queue
        .put_nowait(Job(3, 3))
        .unwrap_or_else(|_| panic!("it takes more"));
    assert_eq!(queue.len(), 4);
}

#[test]
fn given_items_come_first_and_count_as_put() {
    let queue = Queue::with_items(2, [1, 2, 3]);
    assert_eq!((queue.len(), queue.unfinished_tasks()), (3, 3));
    assert!(queue.is_full());
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(queue.put_nowait(9), Err(PutError::Full(9)));
    assert_eq!(queue.get(), Ok(2));
    assert_eq!(queue.put_nowait(4), Ok(()));
    assert_eq!((queue.get(), queue.get()), (Ok(3), Ok(4)));
}

#[test]
fn copy_goes_its_own_way() {
    let queue = PriorityQueue::with_items(7, [3, 1, 2]);
    queue.get().unwrap();
    queue.shutdown(false);
    let copy = queue.copy();
    assert_eq!((copy.maxsize(), copy.unfinished_tasks()), (7, 3));
    copy.put(0).unwrap();
    assert_eq!((copy.get(), copy.get(), copy.len()), (Ok(0), Ok(2), 1));
    assert_eq!((queue.get(), queue.get()), (Ok(2), Ok(3)));
}

#[test]
fn higher_bound_lets_in_those_who_wait() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(1));
    queue.put(0).unwrap();
    let putters: Vec<_> = (1..=3)
        .map(|i| {
            let theirs = Arc::clone(&queue);
            let putter = EVERYWHERE[i % 3].start(move || theirs.put(i).unwrap());
            eventually("it waits", || count(&queue, "putters") == i);
            putter
        })
        .collect();
    queue.set_maxsize(3);
    assert_eq!((queue.len(), count(&queue, "putters")), (3, 1));
    queue.set_maxsize(1);
    assert_eq!(queue.get(), Ok(0));
    assert_eq!(queue.get(), Ok(1));
    // It holds as many as it may: the last one waits on.
    assert_eq!(count(&queue, "putters"), 1);
    queue.set_maxsize(0);
    assert_eq!((queue.get(), queue.get()), (Ok(2), Ok(3)));
    putters.into_iter().for_each(|putter| putter());
    assert_eq!(queue.maxsize(), 0);
}

#[test]
fn iteration_ends_with_the_shutdown() {
    let _deadline = deadline();
    for putter in EVERYWHERE {
        for taker in EVERYWHERE {
            let queue = Arc::new(Queue::new(2));
            let channel = Arc::new(Channel::new());
            let (their_queue, their_channel) = (Arc::clone(&queue), Arc::clone(&channel));
            let taken = taker.start(move || {
                let first: Vec<_> = their_queue.iter().collect();
                let mut second = Vec::new();
                for item in &*their_channel {
                    second.push(item);
                }
                (first, second)
            });
            putter.run(move || {
                (0..20).for_each(|i| queue.put(i).unwrap());
                queue.shutdown(false);
                (0..20).for_each(|i| channel.put(i).unwrap());
                channel.shutdown();
            });
            let all: Vec<_> = (0..20).collect();
            assert_eq!(taken(), (all.clone(), all));
        }
    }
}

#[test]
fn items_need_not_be_send_on_one_hub() {
    let _deadline = deadline();
    spawn_on(0, || {
        let queue = Rc::new(Queue::new(1));
        let theirs = Rc::clone(&queue);
        let getter = spawn_local(move || {
            let cell: Rc<RefCell<u32>> = theirs.get().unwrap();
            *cell.borrow_mut() += 1;
        });
        let cell = Rc::new(RefCell::new(1));
        queue.put(Rc::clone(&cell)).unwrap();
        getter.join().unwrap();
        assert_eq!(*cell.borrow(), 2);
    })
    .join()
    .unwrap();
}

#[test]
fn queues_can_be_waited_for_together() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for putter in EVERYWHERE {
            let queues = Arc::new((Queue::new(1), PriorityQueue::new(0), Channel::new()));
            let go_on = Arc::new(Event::new());
            let (theirs, told) = (Arc::clone(&queues), Arc::clone(&go_on));
            let waits = from.start(move || {
                let (queue, priority, channel) = &*theirs;
                let brief = Some(Duration::from_millis(1));
                let all: [&dyn Waitable; 3] = [queue, priority, channel];
                assert_eq!(wait(&all, brief, None), []);
                told.set();
                for place in iwait(&all, None) {
                    match place {
                        0 => assert_eq!(queue.get_nowait(), Ok(1)),
                        1 => assert_eq!(priority.get_nowait(), Ok(2)),
                        _ => assert_eq!(channel.get_nowait(), Ok(3)),
                    }
                }
                assert!(all.iter().all(|queue| !queue.ready()));
            });
            putter.run(move || {
                assert!(go_on.wait());
                queues.1.put(2).unwrap();
                queues.2.put(3).unwrap();
                queues.0.put(1).unwrap();
            });
            waits();
        }
    }
}

#[test]
fn queue_is_ready_after_its_shutdown() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::<u32>::new(0));
    let theirs = Arc::clone(&queue);
    let waits = spawn_on(any_hub(1), move || wait(&[&*theirs], None, None));
    assert!(!queue.ready());
    queue.shutdown(false);
    assert_eq!(waits.join().unwrap(), [0]);
    assert!(queue.ready());
}

#[test]
fn item_for_a_getter_makes_a_queue_ready_for_nobody_else() {
    let _deadline = deadline();
    let queue = Arc::new(Queue::new(0));
    let theirs = Arc::clone(&queue);
    let getter = spawn_on(any_hub(1), move || theirs.get());
    eventually("it waits", || count(&queue, "getters") == 1);
    let ready = iwait(&[&*queue], Some(Duration::from_millis(2)));
    queue.put(1).unwrap();
    assert_eq!(ready.count(), 0);
    assert_eq!(getter.join().unwrap(), Ok(1));
}

macro_rules! waiters_give_up {
    ($queue:expr) => {
        for from in EVERYWHERE {
            let queue = Arc::new($queue);
            let theirs = Arc::clone(&queue);
            let gave_up = from.run(move || with_timeout(Duration::ZERO, || theirs.get()).is_err());
            assert!(gave_up);
            let theirs = Arc::clone(&queue);
            let other = from.start(move || theirs.get());
            eventually("the other waits", || count(&*queue, "getters") == 1);
            let theirs = Arc::clone(&queue);
            from.run(move || {
                assert!(with_timeout(Duration::ZERO, || theirs.get()).is_err());
                theirs.put(7).unwrap();
                assert_eq!(theirs.get_nowait(), Err(GetError::Empty));
            });
            assert_eq!(other(), Ok(7));
        }
    };
}

#[test]
fn who_gives_up_takes_nothing_from_the_others() {
    let _deadline = deadline();
    waiters_give_up!(Queue::new(1));
    waiters_give_up!(SimpleQueue::new(0));
    waiters_give_up!(LifoQueue::new(0));
    waiters_give_up!(PriorityQueue::new(1));
    waiters_give_up!(Channel::new());
}

#[test]
fn calls_in_a_greenlet_that_unwinds_do_not_wait() {
    let _deadline = deadline();
    let (queue, channel) = (Arc::new(Queue::new(1)), Arc::new(Channel::new()));
    let (answers, begun) = (Arc::new(Mutex::new(None)), Arc::new(Event::new()));
    let their_begin = Arc::clone(&begun);
    let (theirs, their_channel, told) = (
        Arc::clone(&queue),
        Arc::clone(&channel),
        Arc::clone(&answers),
    );
    let greenlet = spawn_on(any_hub(1), move || {
        let _at_the_end = OnDrop(|| {
            let puts = (theirs.put(1), theirs.put(2), their_channel.put(3));
            let gets = (
                theirs.peek(),
                theirs.get(),
                theirs.get(),
                their_channel.get(),
            );
            let ends = (theirs.join(), theirs.iter().count());
            *told.lock().unwrap() = Some((puts, gets, ends));
        });
        their_begin.set();
        Event::new().wait();
    });
    assert!(begun.wait());
    greenlet.kill();
    let empty = Err(GetError::Empty);
    assert_eq!(
        answers.lock().unwrap().take(),
        Some((
            (Ok(()), Err(PutError::Full(2)), Err(PutError::Full(3))),
            (Ok(1), Ok(1), empty, empty),
            (false, 0),
        ))
    );
}
