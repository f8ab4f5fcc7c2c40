//! [`ThreadPool`].

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::ThreadId;
use std::time::Duration;

use greenwood_runtime::net::getaddrinfo;
use greenwood_runtime::{
    DEFAULT_THREADPOOL_SIZE, Event, Hub, ThreadError, ThreadPool, ThreadResult, iwait, joinall,
    local, sleep, spawn, threadpool, wait, with_timeout,
};

use crate::support::{
    EVERYWHERE, OnDrop, any_hub, case, child, count, deadline, eventually, spawn_on,
};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(600);

/// A job that goes on until it is told to end, by a message or by the sender's end.
fn busy(pool: &ThreadPool) -> (mpsc::Sender<()>, ThreadResult<bool>) {
    let (end, ended) = mpsc::channel();
    let told = Arc::new(Event::new());
    let begins = Arc::clone(&told);
    let job = pool.spawn(move || {
        begins.set();
        ended.recv().is_ok()
    });
    told.wait();
    (end, job)
}

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
fn threads_are_started_as_jobs_come_up_to_the_maximum() {
    let _deadline = deadline();
    let pool = ThreadPool::new(3);
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
fn map_and_imap_give_results_in_order() {
    let _deadline = deadline();
    for size in [1, 3, 10] {
        let pool = ThreadPool::new(size);
        for from in EVERYWHERE {
            let theirs = pool.clone();
            from.run(move || {
                let square = |n: u64| n * n;
                let expected: Vec<_> = (0..100).map(square).collect();
                assert_eq!(theirs.map(square, 0..100).unwrap(), expected);
                assert_eq!(theirs.map(square, []).unwrap(), []);
                for maxsize in [0, 1, 5] {
                    let ordered = theirs.imap(square, 0..100, maxsize);
                    assert!(ordered.map(Result::unwrap).eq(expected.iter().copied()));
                    let unordered = theirs.imap_unordered(square, 0..100, maxsize);
                    let mut unordered: Vec<_> = unordered.map(Result::unwrap).collect();
                    unordered.sort_unstable();
                    assert_eq!(unordered, expected);
                }
            });
        }
    }
}

#[test]
fn errors_come_at_their_items() {
    let _deadline = deadline();
    let pool = ThreadPool::new(3);
    let half = |n: u32| 100 / n;
    assert!(pool.map(half, [1, 0, 2]).unwrap_err().is_panic());
    let mut results = pool.imap(half, [1, 0, 2], 0);
    assert_eq!(results.next().unwrap().unwrap(), 100);
    assert!(results.next().unwrap().unwrap_err().is_panic());
    assert_eq!(results.next().unwrap().unwrap(), 50);
    assert!(results.next().is_none());
    let failing = (0..5).inspect(|&n| assert!(n < 2, "expected: the iterator"));
    let last = pool.imap_unordered(|n| n, failing, 0).last().unwrap();
    assert!(matches!(last, Err(ThreadError::Feeder(_))));
}

#[test]
fn dropping_an_imap_gives_up_what_has_not_begun() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _job) = busy(&pool);
    let ran = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&ran);
    let results = pool.imap(move |_: u32| theirs.fetch_add(1, Ordering::SeqCst), 0.., 0);
    eventually("the feeder waits", || count(&pool, "spawners") == 1);
    drop(results);
    eventually("they are gone", || pool.len() == 1);
    drop(end);
    assert!(pool.join(None));
    assert_eq!(ran.load(Ordering::SeqCst), 0);
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
    let next = || COUNT.replace(COUNT.get() + 1);
    assert_eq!(
        [pool.apply(next).unwrap(), pool.apply(next).unwrap()],
        [0, 1]
    );
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
fn a_map_ends_when_its_pool_is_killed() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, _job) = busy(&pool);
    let theirs = pool.clone();
    let map = spawn(move || theirs.map(|n| n, 0..10));
    eventually("it waits", || count(&pool, "spawners") == 1);
    assert!(!pool.kill_timeout(SHORT));
    drop(end);
    assert!(map.join().unwrap().unwrap_err().is_cancelled());
    pool.kill();
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
    sleep(SHORT);
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

#[test]
fn settings_hold_for_the_global_pool() {
    let here = "threadpool::settings_hold_for_the_global_pool";
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
    let here = "threadpool::without_a_thread_jobs_fail_or_wait_for_those_that_there_are";
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

/// Leaves no memory for another thread's stack while `f` runs.
fn without_threads<R>(f: impl FnOnce() -> R) -> R {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let limit = |bytes| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    };
    // A stack takes 2 MiB.
    limit(pages * 4096 + (1 << 20));
    let result = f();
    limit(libc::RLIM_INFINITY);
    result
}
