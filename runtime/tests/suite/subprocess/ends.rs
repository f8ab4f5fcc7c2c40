//! Waiting for the end of a process, and bringing it about.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::signal::{SIGKILL, SIGTERM, SIGUSR1};
use greenwood_runtime::subprocess::{Popen, check_call, check_output, run};
use greenwood_runtime::{
    Event, Hub, kill_greenlet, killall, run_info, sleep, spawn, wait, with_timeout,
};

use super::{SHORT, piped, sh, zombies};
use crate::support::{
    EVERYWHERE, any_hub, case, child, deadline, eventually, open_descriptors, spawn_on,
};

#[test]
fn a_process_ends_with_its_code() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let process = Popen::new(&mut sh("exit 7")).unwrap();
            assert!(process.pid() > 0);
            assert_eq!(process.wait().unwrap().code(), Some(7));
            // As often as one likes.
            assert_eq!(process.wait().unwrap().code(), Some(7));
            assert_eq!(
                process.wait_timeout(SHORT).unwrap().unwrap().code(),
                Some(7)
            );
            assert_eq!(process.returncode(), Some(7));
            assert!(process.stdin.is_none() && process.stdout.is_none());
        });
    }
}

#[test]
fn a_process_that_runs_has_no_code_yet() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let process = Popen::new(Command::new("sleep").arg("100")).unwrap();
            assert_eq!(process.poll().unwrap(), None);
            assert_eq!(process.returncode(), None);
            assert_eq!(process.wait_timeout(SHORT).unwrap(), None);
            assert_eq!(process.wait_timeout(Duration::ZERO).unwrap(), None);
            process.terminate().unwrap();
            process.wait().unwrap();
            assert_eq!(process.returncode(), Some(-SIGTERM));
            // Too late, and no harm done.
            process.kill().unwrap();
            process.send_signal(SIGUSR1).unwrap();
            assert_eq!(process.returncode(), Some(-SIGTERM));
        });
    }
}

#[test]
fn signals_reach_the_process() {
    let _deadline = deadline();
    let mut process =
        piped("trap 'echo caught; exit 3' USR1; echo ready; while :; do read x; done");
    let mut ready = [0; 6];
    process
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    process.send_signal(SIGUSR1).unwrap();
    // Some shells look at their traps when the read is over, others end it for that, and may be
    // gone by now.
    process.stdin.as_mut().unwrap().write_all(b"\n").ok();
    let (output, _) = process.communicate(None, None).unwrap();
    assert_eq!(output, b"caught\n");
    assert_eq!(process.returncode(), Some(3));
    assert!(process.send_signal(4_096).is_ok(), "it has ended");

    let process = Popen::new(Command::new("sleep").arg("100")).unwrap();
    assert!(process.send_signal(4_096).is_err());
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(process.returncode(), Some(-SIGKILL));
}

#[test]
fn many_wait_for_one_process() {
    let _deadline = deadline();
    let process = Arc::new(piped("read x; exit 5"));
    let waiters: Vec<_> = (0..20)
        .map(|i| {
            let process = Arc::clone(&process);
            spawn_on(any_hub(i), move || process.wait().unwrap().code())
        })
        .collect();
    let theirs = Arc::clone(&process);
    let thread = std::thread::spawn(move || theirs.wait().unwrap().code());
    // Some of them give up.
    killall(&waiters[..5], None);
    let mut stdin = process.stdin.as_ref().unwrap();
    stdin.write_all(b"\n").unwrap();
    for waiter in waiters.into_iter().skip(5) {
        assert_eq!(waiter.join().unwrap(), Some(5));
    }
    assert_eq!(thread.join().unwrap(), Some(5));
}

#[test]
fn a_process_is_waited_for_among_other_things() {
    let _deadline = deadline();
    let never = Event::new();
    let quick = Popen::new(&mut Command::new("true")).unwrap();
    let slow = Popen::new(Command::new("sleep").arg("100")).unwrap();
    assert_eq!(wait(&[&never, &slow, &quick], None, Some(1)), [2]);
    slow.kill().unwrap();
    assert_eq!(wait(&[&never, &slow], None, Some(1)), [1]);
    assert_eq!(wait(&[&slow, &quick], None, None).len(), 2);
}

#[test]
fn the_hub_goes_on_while_a_process_is_waited_for() {
    let _deadline = deadline();
    spawn(|| {
        let mut process = piped("read x; echo $x");
        // Nobody else could write while a blocking wait held the hub.
        let mut stdin = process.stdin.take().unwrap();
        let writer = greenwood_runtime::spawn_local(move || stdin.write_all(b"from the hub\n"));
        let (output, _) = process.communicate(None, None).unwrap();
        assert_eq!(output, b"from the hub\n");
        writer.join().unwrap().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_dropped_handle_leaves_no_zombie() {
    const NAME: &str = "subprocess::ends::a_dropped_handle_leaves_no_zombie";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            drop(Popen::new(&mut Command::new("true")).unwrap());
            drop(Popen::new(&mut sh("exec sleep 0.05")).unwrap());
            // Never asked, and not dropped either.
            let kept = Popen::new(&mut Command::new("true")).unwrap();
            eventually("no greenlet waits any more", || {
                Hub::greenlets() <= usize::from(Hub::current().is_some())
            });
            assert_eq!(zombies(), 0);
            drop(kept);
        });
    }
}

#[test]
fn thousands_of_short_processes_leave_nothing() {
    const NAME: &str = "subprocess::ends::thousands_of_short_processes_leave_nothing";
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    let _deadline = deadline();
    let round = |processes: usize| {
        let greenlets: Vec<_> = (0..10)
            .map(|i| {
                spawn_on(any_hub(i), move || {
                    for n in 0..processes / 10 {
                        let mut command = Command::new("true");
                        match n % 4 {
                            0 => check_call(&mut command, None).unwrap(),
                            1 => drop(check_output(&mut command, Some(b"x"), None).unwrap()),
                            2 => drop(Popen::new(command.stdout(Stdio::piped())).unwrap()),
                            _ => Popen::new(&mut command).unwrap().kill().unwrap(),
                        }
                    }
                })
            })
            .collect();
        greenlets
            .into_iter()
            .for_each(|greenlet| greenlet.join().unwrap());
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    round(40);
    let before = open_descriptors();
    round(1_000);
    assert_eq!(open_descriptors(), before);
    assert_eq!(zombies(), 0);
}

#[test]
fn waits_are_killed_and_timed_out_thousands_of_times() {
    let _deadline = deadline();
    let process = Arc::new(Popen::new(Command::new("sleep").arg("1000")).unwrap());
    for i in 0..2_000 {
        let theirs = Arc::clone(&process);
        let greenlet = spawn_on(any_hub(i), move || match i % 3 {
            0 => theirs.wait().map(Some),
            1 => theirs.wait_timeout(Duration::from_micros(50)),
            _ => with_timeout(Duration::from_micros(50), || theirs.wait())
                .map_or(Ok(None), |status| status.map(Some)),
        });
        if i % 2 == 0 {
            sleep(Duration::ZERO);
        }
        if i % 3 == 0 {
            greenlet.kill();
            assert!(greenlet.join().is_err());
        } else {
            assert_eq!(greenlet.join().unwrap().unwrap(), None);
        }
    }
    process.kill().unwrap();
    assert!(process.wait().is_ok());
}

#[test]
fn who_waits_for_the_end_may_be_killed_itself() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let process = Popen::new(Command::new("sleep").arg("1000")).unwrap();
            let name = format!("subprocess {}", process.pid());
            let watcher = || {
                let info = run_info();
                info.greenlets
                    .iter()
                    .find(|it| it.name == name)
                    .map(|it| it.id)
            };
            eventually("somebody waits for the end", || watcher().is_some());
            assert!(kill_greenlet(watcher().unwrap()));
            eventually("it has been killed", || watcher().is_none());
            process.kill().unwrap();
            assert_eq!(process.wait().unwrap().code(), None);
            assert_eq!(process.returncode(), Some(-SIGKILL));
        });
    }
}

/// A process inherits from who started it that SIGCHLD is ignored. Then the system keeps no status.
#[test]
fn an_end_of_which_the_system_keeps_no_status_is_noticed() {
    const NAME: &str = "subprocess::ends::an_end_of_which_the_system_keeps_no_status_is_noticed";
    if case().is_none() {
        let mut command = Command::new("env");
        command.arg("--ignore-signal=CHLD");
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]);
        command
            .env("GREENWOOD_TEST_CASE", "alone")
            .stdout(Stdio::piped());
        let done = run(command.stderr(Stdio::piped()), None, None).unwrap();
        let text = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{text}");
        assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
        return;
    }
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let process = Popen::new(Command::new("true").stdout(Stdio::null())).unwrap();
            let error = process.wait().unwrap_err();
            assert!(error.to_string().contains("SIGCHLD is ignored"), "{error}");
            assert!(process.poll().is_err());
            assert_eq!(process.returncode(), None);
            process.kill().unwrap();
        });
    }
}
