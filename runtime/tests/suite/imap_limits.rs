//! `imap` under time limits: a `next` that ends by one has taken nothing.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::{
    Event, Group, JoinError, ThreadPool, WaitsFor, current_id, run_info, sleep, spawn, spawn_local,
    with_timeout,
};

use crate::support::{deadline, eventually, spawn_on, until_waits, waits_for};

const LIMIT: Duration = Duration::from_millis(100);

/// Holds the hub until `moment` is past, whoever is woken meanwhile.
fn hold_until(moment: Instant) {
    while Instant::now() <= moment {
        std::hint::spin_loop();
    }
}

/// Asks the results of `imap` for the next under a limit, and then for all that are left.
///
/// Once the caller waits for `what`, which is the first result's end, the event is set that the
/// items' work waits for, and its hub is held up until the time is up, too: so the two come together.
/// On a machine that is too slow for it the time is up before, which does no harm.
fn all_by_limited_next<I: Iterator>(
    what: WaitsFor,
    imap: impl FnOnce(Arc<Event>) -> I,
) -> Vec<I::Item> {
    let begins = Arc::new(Event::new());
    let mut results = imap(Arc::clone(&begins));
    let (me, over) = (current_id().unwrap(), Instant::now() + LIMIT * 2);
    let holder = spawn_local(move || {
        while waits_for(me) != Some(what) && Instant::now() < over {
            sleep(Duration::ZERO);
        }
        begins.set();
        hold_until(over);
    });
    let first = with_timeout(LIMIT, || results.next());
    let mut all: Vec<_> = first.ok().flatten().into_iter().collect();
    holder.join().unwrap();
    all.extend(results);
    all
}

/// An `imap` that doubles the first three numbers gives all.
fn loses_nothing<I, E>(what: WaitsFor, imap: impl FnOnce(Arc<Event>) -> I + Send + 'static)
where
    I: Iterator<Item = Result<u32, E>>,
    E: Debug + Send + Sync + 'static,
{
    let _deadline = deadline();
    let all = spawn_on(0, move || all_by_limited_next(what, imap));
    let all = all.join().unwrap().into_iter().map(Result::unwrap);
    assert!(all.eq([2, 4, 6]));
}

fn doubled(begins: &Event, n: u32) -> u32 {
    begins.wait();
    2 * n
}

#[test]
fn an_imap_loses_no_result_to_a_time_limit() {
    loses_nothing(WaitsFor::Greenlet, |begins| {
        Group::new().imap(move |n| doubled(&begins, n), [1, 2, 3], 0)
    });
}

#[test]
fn an_unordered_imap_loses_no_result_to_a_time_limit() {
    loses_nothing(WaitsFor::Several, |begins| {
        Group::new().imap_unordered(move |n| doubled(&begins, n), [1, 2, 3], 0)
    });
}

#[test]
fn an_imap_of_threads_loses_no_result_to_a_time_limit() {
    loses_nothing(WaitsFor::Thread, |begins| {
        ThreadPool::new(1).imap(move |n| doubled(&begins, n), [1, 2, 3], 0)
    });
}

#[test]
fn an_imap_loses_no_error_of_its_items_to_a_time_limit() {
    let _deadline = deadline();
    let all = spawn_on(0, || {
        all_by_limited_next(WaitsFor::Several, |begins| {
            let items = std::iter::from_fn(move || -> Option<u32> {
                begins.wait();
                panic!("expected: there are no more items")
            });
            Group::new().imap(|n| n, items, 0)
        })
    });
    let all = all.join().unwrap();
    assert_eq!(all.len(), 1);
    assert!(all[0].as_ref().is_err_and(JoinError::is_panic));
}

#[test]
fn an_imap_that_is_killed_while_it_waits_lets_its_members_run() {
    let _deadline = deadline();
    let (go, group) = (Arc::new(Event::new()), Group::new());
    let (theirs, its) = (Arc::clone(&go), group.clone());
    let taker = spawn(move || {
        let wait = move |_| theirs.wait();
        its.imap(wait, 0..2, 0).next()
    });
    until_waits(taker.id());
    eventually("both have begun", || group.len() == 2);
    taker.kill();
    assert_eq!(group.len(), 2);
    go.set();
    assert!(group.join(Some(Duration::from_secs(30))));
}

/// Where the greenlet was spawned that feeds an `imap` made on this line of this file.
fn site_of_feeder(line: u32) -> bool {
    let info = run_info();
    let mut feeders = info.greenlets.iter().filter(|it| it.name == "imap");
    feeders.any(|it| (it.spawned_at.file(), it.spawned_at.line()) == (file!(), line))
}

#[test]
fn the_feeder_of_an_imap_is_known_by_where_the_imap_was_made() {
    let _deadline = deadline();
    let (group, threads) = (Group::new(), ThreadPool::new(1));
    let never = || std::iter::from_fn(|| Event::new().wait().then_some(1));
    let (_results, line) = (group.imap(|n| n, never(), 0), line!());
    eventually("it is known", || site_of_feeder(line));
    let (_results, line) = (threads.imap(|n| n, never(), 0), line!());
    eventually("it is known", || site_of_feeder(line));
    let (_results, line) = (threads.imap_unordered(|n| n, never(), 0), line!());
    eventually("it is known", || site_of_feeder(line));
}
