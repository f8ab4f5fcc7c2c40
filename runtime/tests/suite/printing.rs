//! Printing something keeps nobody from using it: what is printed to may wait, as a connection does.

use std::fmt::{self, Debug, Display, Write};
use std::time::Duration;

use greenwood_runtime::net::{Poll, PollEvents};
use greenwood_runtime::{
    AsyncResult, Channel, Condvar, Event, Group, JoinError, Pool, Queue, RLock, Semaphore,
    ThreadPool, scope, sleep, spawn,
};

use crate::support::deadline;

/// What is printed to. With each piece somebody uses what is printed.
struct Sink<F>(F);

impl<F: Fn()> Write for Sink<F> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        self.0();
        Ok(())
    }
}

fn debug(object: &impl Debug, used: impl Fn()) {
    write!(Sink(used), "{object:?}").unwrap();
}

fn display(object: &impl Display, used: impl Fn()) {
    write!(Sink(used), "{object}").unwrap();
}

#[test]
fn what_is_waited_for_can_be_used_while_it_is_printed() {
    let _deadline = deadline();
    let event = Event::new();
    debug(&event, || event.set());
    let result = AsyncResult::<u8>::new();
    debug(&result, || assert!(!result.wait_timeout(Duration::ZERO)));
    let condvar = Condvar::new();
    debug(&condvar, || condvar.notify_all());
    let semaphore = Semaphore::new(1);
    debug(&semaphore, || drop(semaphore.permit().unwrap()));
    let lock = RLock::new();
    debug(&lock, || drop(lock.lock().unwrap()));
    let (poll, stdin) = (Poll::new(), std::io::stdin());
    debug(&poll, || poll.register(&stdin, PollEvents::IN));
}

#[test]
fn queues_can_be_used_while_they_are_printed() {
    let _deadline = deadline();
    let (queue, channel) = (Queue::new(0), Channel::<u8>::new());
    debug(&queue, || {
        queue.put(1).unwrap();
        assert_eq!(queue.get(), Ok(1));
    });
    debug(&channel, || assert!(channel.get_nowait().is_err()));
}

#[test]
fn groups_and_pools_can_be_used_while_they_are_printed() {
    let _deadline = deadline();
    let (group, pool) = (Group::new(), Pool::new(1));
    debug(&group, || group.spawn(|| ()).join().unwrap());
    debug(&pool, || pool.spawn(|| ()).join().unwrap());
    scope(|s| debug(s, || s.spawn(|| ()).join().unwrap()));
    let threads = ThreadPool::new(1);
    debug(&threads, || threads.spawn(|| ()).join().unwrap());
    let job = threads.spawn(|| ());
    debug(&job, || assert!(job.join_timeout(Duration::from_secs(30))));
}

#[test]
fn an_imap_goes_on_while_it_is_printed() {
    let _deadline = deadline();
    // On one hub, where the feeder has its turns when who prints waits.
    let printing = spawn(|| {
        let items = (0..20).inspect(|_| sleep(Duration::from_millis(1)));
        let results = Group::new().imap(|n| n, items, 0);
        debug(&results, || sleep(Duration::from_millis(2)));
        assert_eq!(results.count(), 20);
    });
    printing.join().unwrap();
}

#[test]
fn what_a_greenlet_failed_with_can_be_looked_at_while_it_is_printed() {
    let _deadline = deadline();
    let killed = spawn(|| Event::new().wait());
    killed.throw("killed");
    let panicked = spawn(|| std::panic::resume_unwind(Box::new("panicked")));
    let errors: [JoinError; 2] = [killed.join().unwrap_err(), {
        let result: Result<(), _> = panicked.join();
        result.unwrap_err()
    }];
    for error in errors {
        let clone = error.clone();
        display(&error, || assert!(clone.to_string().contains("ed: ")));
        debug(&error, || assert!(format!("{clone:?}").contains("payload")));
    }
}
