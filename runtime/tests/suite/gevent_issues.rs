//! What gevent's tests of its hub, its loop and its issues check, as far as it is to be had here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::signal::SIGINT;
use greenwood_runtime::{
    Event, FileObject, Greenlet, Hub, JoinError, RLock, Semaphore, WaitsFor, idle, is_kill, iwait,
    joinall, signal, sleep, spawn, spawn_later, subprocess, with_timeout,
};

use crate::support::{
    OnDrop, case, child, deadline, eventually, open_descriptors, spawn_on, until_waits_for,
};

/// test__issue330: `gevent.kill`, `Greenlet.kill` and `Greenlet.throw` before the first turn.
#[test]
fn greenlet_never_runs_that_is_killed_before_its_turn_in_whatever_way() {
    let _deadline = deadline();
    let ways: [fn(&Greenlet<()>); 5] = [
        Greenlet::kill_nowait,
        Greenlet::kill,
        |it| assert!(it.kill_timeout(Duration::from_secs(30))),
        |it| it.throw("payload"),
        |it| it.kill_with("payload"),
    ];
    for way in ways {
        let killed = spawn_on(0, move || {
            // It belongs to the caller's hub, and so has no turn before the caller waits.
            let greenlet = spawn(|| panic!("it never runs"));
            way(&greenlet);
            assert!(joinall([&greenlet], None));
            greenlet
        });
        let killed = killed.join().unwrap();
        assert!(killed.dead() && killed.value().is_none());
        let plain = killed.exception().is_none();
        assert_eq!(killed.successful(), plain);
        match killed.join().unwrap_err() {
            JoinError::Killed { .. } => assert!(plain),
            JoinError::KilledWith { payload, .. } => assert!(!plain && payload.is::<&str>()),
            other => panic!("{other}"),
        }
    }
}

/// test__issue330: who catches everything in a loop of `sleep(0)`. There a kill comes once, here
/// again.
#[test]
fn kill_with_a_payload_reaches_who_only_gives_way() {
    let _deadline = deadline();
    let caught = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&caught);
    let catcher = spawn(move || {
        for _ in 0..2 {
            let payload = catch_unwind(|| {
                loop {
                    sleep(Duration::ZERO);
                }
            });
            let payload: Box<dyn std::any::Any + Send> = payload.unwrap_err();
            assert!(is_kill(&*payload));
            theirs.fetch_add(1, Ordering::Relaxed);
        }
        "in the end it returns"
    });
    until_waits_for(catcher.id(), WaitsFor::Turn);
    catcher.kill_with("payload");
    assert_eq!(caught.load(Ordering::Relaxed), 2);
    assert_eq!(catcher.join().unwrap(), "in the end it returns");
}

/// test__issue467: one is done before, one fails, and who iterates waits for other things between.
#[test]
fn iwait_tells_of_each_though_the_caller_switches_in_between() {
    let _deadline = deadline();
    let worker = |i| {
        move || {
            if i == 2 {
                std::panic::resume_unwind(Box::new(i));
            }
            i
        }
    };
    let done = spawn(worker(9));
    assert!(joinall([&done], None));
    let mut workers: Vec<_> = (0..3).map(|i| spawn(worker(i))).collect();
    workers.push(done);
    let objects: Vec<_> = workers.iter().map(|it| it as _).collect();
    let mut places = Vec::new();
    for place in iwait(&objects, None) {
        places.push(place);
        sleep(Duration::from_millis(1));
    }
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3]);
    assert!(workers[2].exception().is_some_and(JoinError::is_panic));
}

/// test__issue6.
#[test]
fn standard_input_is_read_by_a_greenlet() {
    let _deadline = deadline();
    if case().is_some() {
        use std::io::BufRead;
        // The test's own harness has read nothing.
        let line = spawn(|| {
            let mut line = String::new();
            std::io::BufReader::new(FileObject::stdin()?).read_line(&mut line)?;
            Ok::<_, std::io::Error>(line)
        });
        eprintln!("{} chars.", line.join().unwrap().unwrap().trim_end().len());
        return;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "gevent_issues::standard_input_is_read_by_a_greenlet",
        ])
        .arg("--nocapture")
        .env("GREENWOOD_TEST_CASE", "x")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let done = subprocess::run(&mut command, Some(b"hello world\n"), None).unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.success() && said.contains("11 chars."),
        "{said}"
    );
}

/// test__issue639.
#[test]
fn giving_way_to_nobody_returns() {
    let _deadline = deadline();
    for _ in 0..3 {
        sleep(Duration::ZERO);
        idle();
    }
    spawn(|| {
        for _ in 0..3 {
            sleep(Duration::ZERO);
            idle();
        }
    })
    .join()
    .unwrap();
}

/// test__issues461_471: Ctrl-C while the main thread waits for a greenlet.
#[test]
fn process_that_waits_for_a_greenlet_dies_of_an_interrupt() {
    let _deadline = deadline();
    if case().is_some() {
        // Who started the tests may have them ignore it, as a shell does in the background.
        // SAFETY: the default action, which the test is about.
        unsafe { libc::signal(SIGINT, libc::SIG_DFL) };
        let sleeper = spawn(|| {
            // SAFETY: a plain system call.
            unsafe { libc::kill(libc::getpid(), SIGINT) };
            sleep(Duration::MAX);
        });
        sleeper.join().unwrap();
    }
    let test = "gevent_issues::process_that_waits_for_a_greenlet_dies_of_an_interrupt";
    child(test, "x", &[]).died_of(SIGINT);
}

/// The same with a handler, by which the process ends in order.
#[test]
fn handler_of_an_interrupt_kills_whom_the_main_thread_waits_for() {
    let _deadline = deadline();
    if case().is_some() {
        let sleeper = Arc::new(spawn(|| sleep(Duration::MAX)));
        let theirs = Arc::clone(&sleeper);
        let handler = signal::signal_handler(SIGINT, move || theirs.kill()).unwrap();
        // SAFETY: a plain system call.
        unsafe { libc::kill(libc::getpid(), SIGINT) };
        assert!(sleeper.join_timeout(Duration::from_secs(60)));
        handler.cancel();
        eprintln!("ended in order");
        return;
    }
    let test = "gevent_issues::handler_of_an_interrupt_kills_whom_the_main_thread_waits_for";
    let ended = child(test, "x", &[]);
    ended.passed();
    ended.said("ended in order");
}

/// test__hub, TestExceptionInMainloop.
#[test]
fn timer_whose_greenlet_panics_leaves_the_other_timers_alone() {
    let _deadline = deadline();
    spawn_on(0, || {
        let fails = spawn_later(Duration::from_millis(1), || {
            std::panic::resume_unwind(Box::new("expected"))
        });
        let late = spawn_later(Duration::from_millis(3), || 3);
        sleep(Duration::from_millis(2));
        let fails: Result<(), JoinError> = fails.join();
        assert!(fails.unwrap_err().is_panic());
        assert_eq!(late.join().unwrap(), 3);
        sleep(Duration::from_millis(1));
    })
    .join()
    .unwrap();
}

/// test__hub_join, issue 1601: threads of the program's own.
#[test]
fn threads_that_come_and_go_leave_nothing_behind() {
    let _deadline = deadline();
    let test = "gevent_issues::threads_that_come_and_go_leave_nothing_behind";
    if case().is_none() {
        return child(test, "x", &[]).passed();
    }
    let come_and_go = || {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(|| {
                    let greenlet = Greenlet::new(|| 0);
                    greenlet.start().unwrap();
                    assert!(greenlet.join_timeout(Duration::from_secs(30)));
                    assert!(
                        with_timeout(Duration::from_millis(1), || Event::new().wait()).is_err()
                    );
                    assert_eq!(greenlet.join().unwrap(), 0);
                })
            })
            .collect();
        threads.into_iter().for_each(|it| it.join().unwrap());
    };
    come_and_go();
    let (greenlets, descriptors) = (Hub::greenlets(), open_descriptors());
    (0..10).for_each(|_| come_and_go());
    eventually("all have ended", || Hub::greenlets() == greenlets);
    assert_eq!(open_descriptors(), descriptors);
}

/// test__sleep0.
#[test]
fn time_limit_ends_a_loop_that_only_gives_way() {
    let _deadline = deadline();
    let forever = || -> () {
        loop {
            sleep(Duration::ZERO);
        }
    };
    let limit = Duration::from_millis(5);
    assert!(with_timeout(limit, forever).is_err());
    spawn(move || assert!(with_timeout(limit, forever).is_err()))
        .join()
        .unwrap();
}

/// test__joinall.
#[test]
fn joinall_takes_the_same_greenlet_twice() {
    let _deadline = deadline();
    let (a, b) = (spawn(|| ()), spawn(|| ()));
    assert!(joinall([&a, &b, &a], None));
}

/// test__exc_info: whoever handles one failure is nothing to the greenlets that it starts.
#[test]
fn greenlet_of_one_who_unwinds_does_not_unwind_itself() {
    let _deadline = deadline();
    let unwinds = spawn(|| {
        let started = Mutex::new(None);
        let payload = catch_unwind(AssertUnwindSafe(|| {
            let _started = OnDrop(|| {
                assert!(std::thread::panicking());
                *started.lock().unwrap() = Some(spawn(|| {
                    let before = std::thread::panicking();
                    sleep(Duration::from_millis(1));
                    (before, std::thread::panicking())
                }));
            });
            std::panic::resume_unwind(Box::new("mine"));
        }))
        .unwrap_err();
        // It is not poisoned, as a panic that was there before is no panic under the lock.
        let started = started.into_inner().unwrap().unwrap();
        assert_eq!(started.join().unwrap(), (false, false));
        *payload.downcast::<&str>().unwrap()
    });
    assert_eq!(unwinds.join().unwrap(), "mine");
}

/// lock_tests, test_acquire_destroy.
#[test]
fn lock_that_is_held_can_be_dropped() {
    let _deadline = deadline();
    spawn(|| {
        let (lock, semaphore) = (RLock::new(), Semaphore::new(1));
        assert!(lock.acquire() && semaphore.acquire());
        drop((lock, semaphore));
    })
    .join()
    .unwrap();
}

/// lock_tests, RLockTests.test__is_owned and test_different_thread; also of one who has ended.
#[test]
fn lock_belongs_to_who_took_it_even_after_his_end() {
    let _deadline = deadline();
    let lock = Arc::new(RLock::new());
    for thread in [false, true] {
        assert!(!lock.is_owned() && lock.acquire() && lock.is_owned());
        let theirs = Arc::clone(&lock);
        let look = move || (theirs.is_owned(), theirs.try_acquire());
        let seen = match thread {
            true => std::thread::spawn(look).join().unwrap(),
            false => spawn(look).join().unwrap(),
        };
        assert_eq!(seen, (false, false));
        lock.release();
        assert!(!lock.is_owned());
    }
    let theirs = Arc::clone(&lock);
    assert!(spawn(move || theirs.acquire()).join().unwrap());
    assert!(lock.locked() && !lock.is_owned() && !lock.try_acquire());
    let release = catch_unwind(AssertUnwindSafe(|| lock.release()));
    assert!(release.is_err() && lock.locked());
}
