//! Threads and places: when they are started, who gets them, and when they end.

use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use greenwood_runtime::net::getaddrinfo;
use greenwood_runtime::{DEFAULT_THREADPOOL_SIZE, Hub, ThreadError, ThreadPool, spawn, threadpool};

use super::{LONG, SHORT, busy};
use crate::others::with_little_memory;
use crate::support::{EVERYWHERE, case, child, count, deadline, eventually};

#[test]
fn threads_are_started_as_jobs_come_up_to_the_maximum() {
    let _deadline = deadline();
    let pool = ThreadPool::new(3);
    pool.set_idle_timeout(LONG);
    assert_eq!((pool.size(), pool.maxsize(), pool.len()), (0, 3, 0));
    let mut jobs = Vec::new();
    for i in 1..=3 {
        jobs.push(busy(&pool));
        assert_eq!((pool.size(), pool.len()), (i, i));
    }
    // One may wait for its turn.
    let fourth = pool.spawn_nowait(|| 4).unwrap();
    assert!(pool.spawn_nowait(|| 5).is_err());
    assert!(pool.spawn_timeout(SHORT, || 5).is_err());
    assert_eq!((pool.size(), pool.len()), (3, 4));
    assert!(!fourth.join_timeout(SHORT));
    drop(jobs);
    assert_eq!(fourth.join().unwrap(), 4);
    assert!(pool.join(None));
    assert_eq!((pool.size(), pool.len()), (3, 0));
}

#[test]
fn threads_are_used_again() {
    let _deadline = deadline();
    let pool = ThreadPool::new(10);
    pool.set_idle_timeout(LONG);
    let id = || std::thread::current().id();
    let first: ThreadId = pool.apply(id).unwrap();
    for _ in 0..200 {
        eventually("it waits for the next", || count(&pool, "idle") == 1);
        assert_eq!(pool.apply(id).unwrap(), first);
    }
    assert_eq!(pool.size(), 1);
}

#[test]
fn spawn_waits_in_a_full_pool() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let pool = ThreadPool::new(1);
        let (end, _) = busy(&pool);
        let second = pool.spawn(|| 2);
        let theirs = pool.clone();
        let third = from.start(move || theirs.spawn(|| 3).join().unwrap());
        eventually("it waits", || count(&pool, "spawners") == 1);
        drop(end);
        assert_eq!(third(), 3);
        assert_eq!(second.join().unwrap(), 2);
    }
}

#[test]
fn places_go_to_whoever_waits_longest() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _) = busy(&pool);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (gate, gated) = mpsc::channel::<()>();
    let gated = Arc::new(Mutex::new(gated));
    let mut spawners = Vec::new();
    for i in 0..9 {
        let (theirs, order, gated) = (pool.clone(), Arc::clone(&order), Arc::clone(&gated));
        spawners.push(EVERYWHERE[i % 3].start(move || {
            theirs.spawn(move || {
                order.lock().unwrap().push(i);
                gated.lock().unwrap().recv().unwrap();
            });
        }));
        eventually("it waits", || {
            pool.len() + count(&pool, "spawners") == i + 2
        });
    }
    drop(end);
    for i in 0..9 {
        // One after the other, so that only one place is free at a time.
        eventually("the next one runs", || order.lock().unwrap().len() == i + 1);
        gate.send(()).unwrap();
    }
    for spawner in spawners {
        spawner();
    }
    assert!(pool.join(None));
    assert_eq!(*order.lock().unwrap(), (0..9).collect::<Vec<_>>());
}

#[test]
fn idle_threads_end() {
    let _deadline = deadline();
    let pool = ThreadPool::new(4);
    pool.set_idle_timeout(LONG);
    let together = Arc::new(Barrier::new(4));
    let jobs: Vec<_> = (0..4)
        .map(|_| {
            let together = Arc::clone(&together);
            pool.spawn(move || together.wait().is_leader())
        })
        .collect();
    for job in jobs {
        job.join().unwrap();
    }
    assert_eq!(pool.size(), 4);
    pool.set_idle_timeout(Duration::from_millis(2));
    eventually("they have ended", || pool.size() == 0);
    assert_eq!(pool.apply(|| 1).unwrap(), 1);
}

#[test]
fn the_size_can_be_changed() {
    let _deadline = deadline();
    let pool = ThreadPool::new(0);
    let first = pool.spawn(|| 1);
    assert!(pool.spawn_nowait(|| ()).is_err());
    let theirs = pool.clone();
    let second = spawn(move || theirs.spawn(|| 2).join().unwrap());
    assert!(!first.join_timeout(SHORT));
    pool.set_maxsize(1);
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (1, 2));
    pool.set_maxsize(3);
    let jobs: Vec<_> = (0..3).map(|_| busy(&pool)).collect();
    assert_eq!(pool.size(), 3);
    pool.set_maxsize(1);
    drop(jobs);
    eventually("those above it have ended", || pool.size() <= 1);
    assert_eq!(pool.apply(|| 3).unwrap(), 3);
    pool.set_maxsize(0);
    eventually("all have ended", || pool.size() == 0);
}

#[test]
fn kill_cancels_what_has_not_begun_and_ends_the_threads() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = ThreadPool::new(2);
            let (end, running) = busy(&pool);
            let (also, _job) = busy(&pool);
            let waits = pool.spawn(|| ());
            assert!(!pool.kill_timeout(SHORT));
            assert!(waits.join().unwrap_err().is_cancelled());
            end.send(()).unwrap();
            drop(also);
            pool.kill();
            assert_eq!((pool.size(), pool.len()), (0, 0));
            assert!(running.join().unwrap());
            // It can be used on.
            assert_eq!(pool.apply(|| 1).unwrap(), 1);
        });
    }
}

#[test]
fn a_pool_without_handles_does_its_jobs_and_ends() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, first) = busy(&pool);
    let second = pool.spawn(|| 2);
    drop(pool);
    end.send(()).unwrap();
    assert!(first.join().unwrap());
    assert_eq!(second.join().unwrap(), 2);
    let never = ThreadPool::new(0).spawn(|| ());
    assert!(never.join().unwrap_err().is_cancelled());
}

#[test]
fn settings_hold_for_the_global_pool() {
    let here = "threadpool::threads::settings_hold_for_the_global_pool";
    match case().as_deref() {
        None => {
            assert_eq!(Hub::threadpool().maxsize(), DEFAULT_THREADPOOL_SIZE);
            let three = [("GREENWOOD_THREADPOOL_SIZE", "3")];
            child(here, "environment", &three).passed();
            child(here, "config", &three).passed();
            child(here, "wrong", &[("GREENWOOD_THREADPOOL_SIZE", "0")]).passed();
        }
        Some("environment") => assert_eq!(threadpool().maxsize(), 3),
        Some("config") => {
            Hub::config().threadpool_size(4).start().unwrap();
            assert_eq!(threadpool().maxsize(), 4);
            assert!(Hub::config().threadpool_size(0).start().is_err());
        }
        Some(_) => {
            let error = Hub::config().start().unwrap_err();
            assert!(error.to_string().contains("1 to 1024"), "{error}");
        }
    }
}

#[test]
fn without_a_thread_jobs_fail_or_wait_for_those_that_there_are() {
    let here = "threadpool::threads::without_a_thread_jobs_fail_or_wait_for_those_that_there_are";
    if case().is_none() {
        return child(here, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let pool = ThreadPool::new(4);
    Hub::count();
    without_threads(|| {
        let error = pool.apply(|| ()).unwrap_err();
        assert!(matches!(error, ThreadError::NoThread(_)), "{error:?}");
        assert_eq!((pool.size(), pool.len()), (0, 0));
        let error = getaddrinfo("localhost", 1, None).unwrap_err();
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
        let cause = std::error::Error::source(&error).expect("it has a cause");
        assert!(cause.to_string().contains("os error"), "{cause}");
    });
    let (end, _job) = busy(&pool);
    let second = without_threads(|| pool.spawn(|| 2));
    assert!(!second.join_timeout(SHORT));
    assert_eq!(pool.size(), 1);
    drop(end);
    assert_eq!(second.join().unwrap(), 2);
}

/// Leaves no memory for another thread's stack, which takes 2 MiB, while `f` runs.
fn without_threads<R>(f: impl FnOnce() -> R) -> R {
    with_little_memory(1 << 20, f)
}
