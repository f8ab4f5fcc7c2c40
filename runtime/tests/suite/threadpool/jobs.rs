//! Jobs: their results, their ends, and who waits for them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use greenwood_runtime::net::getaddrinfo;
use greenwood_runtime::{
    Event, Hub, ThreadError, ThreadPool, iwait, joinall, local, sleep, spawn, threadpool, wait,
    with_timeout,
};

use super::{LONG, SHORT, busy};
use crate::support::{
    EVERYWHERE, OnDrop, any_hub, count, deadline, eventually, spawn_on, until_waits,
};

#[test]
fn jobs_run_on_threads_and_give_their_results() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = ThreadPool::new(2);
            let here = std::thread::current().id();
            let there = pool.spawn(|| std::thread::current().id());
            assert_ne!(there.join().unwrap(), here);
            assert_eq!(pool.apply(|| ("foo", 1)).unwrap(), ("foo", 1));
            assert_eq!(pool.apply(Hub::current).unwrap(), None);
        });
    }
}

#[test]
fn panics_are_errors_and_the_threads_go_on() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    pool.set_idle_timeout(LONG);
    for _ in 0..3 {
        let error = pool.apply(|| assert_eq!(1, 2, "expected")).unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("expected"));
        let ThreadError::Panicked { payload } = error else {
            panic!("it is a panic");
        };
        assert!(payload.into_inner().is::<String>());
    }
    assert_eq!((pool.size(), pool.len()), (1, 0));
}

#[test]
fn the_hub_goes_on_while_a_job_blocks() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    spawn_on(0, move || {
        let (end, job) = busy(&pool);
        let beside = spawn_on(0, move || end.send(()).unwrap());
        assert!(job.join().unwrap());
        beside.join().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn jobs_are_waitable() {
    let _deadline = deadline();
    let pool = ThreadPool::new(2);
    let (end, slow) = busy(&pool);
    let quick = pool.spawn(|| ());
    let event = Event::new();
    event.set();
    let mut order = iwait(&[&slow, &quick, &event], None);
    let mut first = [order.next().unwrap(), order.next().unwrap()];
    first.sort_unstable();
    assert_eq!(first, [1, 2]);
    drop(end);
    assert_eq!((order.next(), order.next()), (Some(0), None));
}

#[test]
fn jobs_may_use_their_own_pool() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let theirs = pool.clone();
    let inner = pool.apply(move || {
        let me = std::thread::current().id();
        let inner = theirs.apply(|| std::thread::current().id()).unwrap();
        assert_eq!(theirs.map(|n| n + 1, [1, 2]).unwrap(), [2, 3]);
        // It can't wait for its own place, so these are taken beyond the bound.
        let jobs: Vec<_> = (0..10).map(|n| theirs.spawn(move || n)).collect();
        assert!(!theirs.kill_timeout(LONG));
        (me == inner, jobs.len())
    });
    assert_eq!(inner.unwrap(), (true, 10));
    assert!(pool.join(None));
    let names = threadpool().apply(|| getaddrinfo("localhost", 1, None).map(|found| found.len()));
    assert!(names.unwrap().unwrap() > 0);
}

#[test]
fn jobs_may_use_what_greenlets_use() {
    let _deadline = deadline();
    let pool = ThreadPool::new(2);
    let result = pool.apply(|| {
        sleep(Duration::from_millis(1));
        spawn(|| 5).join().unwrap()
    });
    assert_eq!(result.unwrap(), 5);
}

#[test]
fn values_of_local_are_the_threads() {
    local! {
        static COUNT: Cell<u32> = Cell::new(0);
    }
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    pool.set_idle_timeout(LONG);
    let next = || COUNT.replace(COUNT.get() + 1);
    assert_eq!(
        [pool.apply(next).unwrap(), pool.apply(next).unwrap()],
        [0, 1]
    );
}

#[test]
fn a_job_that_has_not_begun_can_be_cancelled() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, first) = busy(&pool);
    let dropped = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&dropped);
    let count = OnDrop(move || {
        theirs.fetch_add(1, Ordering::SeqCst);
    });
    let second = pool.spawn(move || {
        let _count = count;
        panic!("unexpected: it was cancelled");
    });
    let theirs = pool.clone();
    let third = spawn(move || theirs.spawn(|| 3).join().unwrap());
    assert!(!first.cancel());
    assert!(second.cancel());
    assert!(!second.cancel());
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    let error: ThreadError = Result::<(), _>::unwrap_err(second.join());
    assert!(error.is_cancelled());
    // Its place was free for another at once.
    eventually("the third has it", || pool.len() == 2);
    drop(end);
    assert_eq!(third.join().unwrap(), 3);
    assert!(!first.join().unwrap());
    assert!(pool.join(None));
}

#[test]
fn a_result_that_nobody_wants_is_dropped() {
    let _deadline = deadline();
    let pool = ThreadPool::new(2);
    let alive = Arc::new(AtomicUsize::new(0));
    for i in 0..300 {
        let alive = Arc::clone(&alive);
        let make = move || {
            alive.fetch_add(1, Ordering::SeqCst);
            OnDrop(move || {
                alive.fetch_sub(1, Ordering::SeqCst);
            })
        };
        match i % 3 {
            0 => drop(pool.spawn(make)),
            1 => drop(pool.spawn(make).join()),
            _ => {
                let theirs = pool.clone();
                let waits = spawn(move || drop(theirs.apply(make)));
                if i % 2 == 0 {
                    sleep(Duration::ZERO);
                }
                waits.kill();
            }
        }
    }
    assert!(pool.join(None));
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    // Destructors that panic end neither thread nor pool.
    let (end, ended) = mpsc::channel::<()>();
    let panics = pool.spawn(move || {
        ended.recv().ok();
        OnDrop(|| panic!("expected: a destructor"))
    });
    drop(panics);
    drop(end);
    assert!(pool.join(None));
    assert_eq!(pool.apply(|| 1).unwrap(), 1);
}

#[test]
fn who_waits_for_a_job_can_be_killed_and_run_out_of_time() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = ThreadPool::new(1);
            let (end, job) = busy(&pool);
            assert!(!job.join_timeout(SHORT));
            assert!(!job.join_timeout(Duration::ZERO));
            assert!(with_timeout(SHORT, || pool.join(None)).is_err());
            assert!(with_timeout(SHORT, || pool.apply(|| ())).is_err());
            assert!(with_timeout(SHORT, || pool.map(|n| n, [1, 2, 3])).is_err());
            assert!(!pool.join(Some(SHORT)));
            // What was given up is not in the way.
            assert_eq!(pool.len(), 1);
            let ready = wait(&[&job], Some(SHORT), None);
            assert!(ready.is_empty());
            end.send(()).unwrap();
            assert_eq!(wait(&[&job], None, None), [0]);
            assert!(job.ready() && job.join().unwrap());
        });
    }
}

#[test]
fn who_unwinds_does_not_wait() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _job) = busy(&pool);
    let _second = pool.spawn(|| ());
    let ran = Arc::new(AtomicUsize::new(0));
    let (theirs, runs) = (pool.clone(), Arc::clone(&ran));
    let killed = spawn(move || {
        let _last = OnDrop(move || {
            let runs = Arc::clone(&runs);
            assert!(theirs.apply(|| ()).is_err());
            assert!(theirs.spawn_timeout(LONG, || ()).is_err());
            assert!(!theirs.join(None));
            theirs.spawn(move || runs.fetch_add(1, Ordering::SeqCst));
        });
        sleep(LONG);
    });
    until_waits(killed.id());
    killed.kill();
    drop(end);
    assert!(pool.join(None));
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn nothing_is_lost_when_those_who_wait_are_killed_or_run_out_of_time() {
    let _deadline = deadline();
    let pool = ThreadPool::new(2);
    let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for round in 0..600_u64 {
        let users: Vec<_> = (0..6)
            .map(|i| {
                let (pool, begun, dropped) =
                    (pool.clone(), Arc::clone(&begun), Arc::clone(&dropped));
                begun.fetch_add(1, Ordering::SeqCst);
                let held = OnDrop(move || {
                    dropped.fetch_add(1, Ordering::SeqCst);
                });
                let job = move || drop(held);
                spawn_on(any_hub(i), move || match i {
                    0 | 1 => drop(pool.apply(job)),
                    2 => drop(pool.spawn_timeout(Duration::from_micros(round % 90), job)),
                    3 => drop(
                        pool.spawn(job)
                            .join_timeout(Duration::from_micros(round % 50)),
                    ),
                    4 => {
                        pool.spawn(job).cancel();
                    }
                    _ => drop(pool.spawn(job)),
                })
            })
            .collect();
        if round % 3 == 0 {
            sleep(Duration::ZERO);
        }
        users[round as usize % 6].kill_nowait();
        users[(round as usize + 1) % 6].kill_nowait();
        assert!(joinall(&users, None));
    }
    assert!(pool.join(None));
    assert_eq!(begun.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst));
    assert_eq!((pool.len(), count(&pool, "spawners")), (0, 0));
    assert!(pool.size() <= 2);
}
