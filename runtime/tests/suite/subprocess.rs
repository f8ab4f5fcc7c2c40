//! Child processes, with real ones: `sh`, `cat`, `sleep`, `true`.

use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::net;
use greenwood_runtime::signal::{SIGKILL, SIGPIPE, SIGTERM, SIGUSR1, Signals};
use greenwood_runtime::subprocess::{
    CompletedProcess, Popen, SubprocessError, call, check_call, check_output, run,
};
use greenwood_runtime::{
    BackdoorServer, Event, FileObject, Hub, kill_greenlet, killall, run_info, sleep, spawn, wait,
    with_timeout,
};

use crate::support::{
    EVERYWHERE, any_hub, case, child, deadline, eventually, open_descriptors, spawn_on,
};

const LONG: Duration = Duration::from_secs(40);
const SHORT: Duration = Duration::from_millis(20);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn piped(script: &str) -> Popen {
    Popen::new(
        sh(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .unwrap()
}

/// The states of this process's children that have ended and nobody has waited for.
fn zombies() -> usize {
    let me = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| {
            // "pid (name) state ppid ..."; the name may have spaces.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let mut fields = rest.split_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(&me)
        })
        .count()
}

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
fn an_error_of_starting_names_the_program() {
    let _deadline = deadline();
    let error = Popen::new(&mut Command::new("/no/such/program")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = check_call(&mut Command::new("/dev/null"), None).unwrap_err();
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

#[test]
fn what_cannot_be_started_is_an_error() {
    let _deadline = deadline();
    let error = Popen::new(&mut Command::new("/nowhere/to/be/found")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Popen::new(&mut Command::new("/")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(
        check_output(&mut Command::new("/nowhere/to/be/found"), None, None),
        Err(SubprocessError::Io(error)) if error.kind() == ErrorKind::NotFound
    ));
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
fn communicate_writes_and_reads_more_than_pipes_hold() {
    let _deadline = deadline();
    let input: Vec<u8> = (0..2_000_000u32).map(|i| i as u8).collect();
    for from in EVERYWHERE {
        let input = input.clone();
        from.run(move || {
            let mut process = piped("tee /dev/stderr");
            let (output, errors) = process.communicate(Some(&input), Some(LONG)).unwrap();
            assert!(output == input);
            assert!(errors == input);
            assert_eq!(process.returncode(), Some(0));
            assert!(process.stdin.is_none() && process.stdout.is_none());
        });
    }
}

#[test]
fn communicate_does_not_mind_a_process_that_reads_no_input() {
    let _deadline = deadline();
    let mut process = piped("exec <&-; echo done");
    let (output, _) = process
        .communicate(Some(&[0; 1 << 20]), Some(LONG))
        .unwrap();
    assert_eq!(output, b"done\n");
}

#[test]
fn communicate_takes_input_once_and_only_with_a_pipe() {
    let _deadline = deadline();
    let invalid = |result: Result<_, SubprocessError>| matches!(result, Err(SubprocessError::Io(error)) if error.kind() == ErrorKind::InvalidInput);
    let mut process = Popen::new(sh("exec sleep 100").stdout(Stdio::piped())).unwrap();
    assert!(invalid(process.communicate(Some(b"text"), None)));
    process.kill().unwrap();
    let mut process = piped("cat; read x < /dev/tty; exec sleep 100");
    assert!(process.communicate(Some(b"text"), Some(SHORT)).is_err());
    assert!(invalid(process.communicate(Some(b"more"), None)));
    process.kill().unwrap();
}

#[test]
fn a_time_out_of_communicate_loses_nothing() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let gate = Gate::new();
            let mut process = piped(&format!(
                "echo first; echo error >&2; cat; read x < {}; echo last",
                gate.path
            ));
            let mut seen = Vec::new();
            eventually_late(&mut process, Some(b"input\n"), |stdout, stderr| {
                seen = stdout.to_vec();
                stdout == b"first\ninput\n" && stderr == b"error\n"
            });
            assert_eq!(seen, b"first\ninput\n");
            gate.open();
            let (output, errors) = process.communicate(None, Some(LONG)).unwrap();
            assert_eq!(output, b"first\ninput\nlast\n");
            assert_eq!(errors, b"error\n");
            // All has been handed over.
            let again = process.communicate(None, Some(LONG)).unwrap();
            assert_eq!(again, (Vec::new(), Vec::new()));
        });
    }
}

#[test]
fn a_kill_of_who_communicates_loses_nothing() {
    let _deadline = deadline();
    let mut process = piped("cat; echo end");
    let mut stdin = process.stdin.take();
    let mut rounds = 0;
    let text = b"0123456789".repeat(20_000);
    for piece in text.chunks(1_000) {
        stdin.as_mut().unwrap().write_all(piece).unwrap();
        rounds += 1;
        let limit = Duration::from_micros(rounds % 7 * 50);
        let result = with_timeout(limit, || process.communicate(None, None));
        assert!(result.is_err());
    }
    stdin = None;
    let (output, _) = process.communicate(None, Some(LONG)).unwrap();
    assert!(output == [&*text, b"end\n"].concat());
    assert!(stdin.is_none());
}

#[test]
fn a_process_that_closes_its_pipes_is_waited_for() {
    let _deadline = deadline();
    let gate = Gate::new();
    let mut process = piped(&format!(
        "exec >&- 2>&- <&-; read x < {}; exit 9",
        gate.path
    ));
    eventually_late(&mut process, None, |_, _| true);
    assert!(process.stdout.is_some() || process.poll().unwrap().is_none());
    gate.open();
    process.communicate(None, Some(LONG)).unwrap();
    assert_eq!(process.returncode(), Some(9));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_is_waited_for_by_communicate_alone() {
    let _deadline = deadline();
    let gate = Gate::new();
    let mut process = piped(&format!(
        "(read x < {}; echo grandchild) & echo child; exit 4",
        gate.path
    ));
    assert_eq!(process.wait().unwrap().code(), Some(4));
    eventually_late(&mut process, None, |stdout, _| stdout == b"child\n");
    gate.open();
    let (output, _) = process.communicate(None, Some(LONG)).unwrap();
    assert_eq!(output, b"child\ngrandchild\n");
}

#[test]
fn output_has_a_limit() {
    let _deadline = deadline();
    let mut process = Popen::new(Command::new("yes").stdout(Stdio::piped())).unwrap();
    process.max_output(1 << 20);
    let result = process.communicate(None, Some(LONG));
    assert!(matches!(
        result,
        Err(SubprocessError::OutputTooLarge { limit: 1_048_576 })
    ));
    process.kill().unwrap();
    let mut process = piped("printf 12345");
    process.max_output(5);
    assert_eq!(process.communicate(None, Some(LONG)).unwrap().0, b"12345");
}

#[test]
fn an_endless_output_is_cut_by_the_time_limit() {
    let _deadline = deadline();
    let start = Instant::now();
    // Long enough for it to begin.
    let limit = 25 * SHORT;
    let result = run(
        sh("while echo y; do sleep 0.01; done").stdout(Stdio::piped()),
        None,
        Some(limit),
    );
    let Err(SubprocessError::TimeoutExpired {
        timeout, stdout, ..
    }) = result
    else {
        panic!("{result:?}");
    };
    assert_eq!(timeout, limit);
    assert!(stdout.starts_with(b"y\ny\n"));
    assert!(start.elapsed() < LONG);
}

#[test]
fn pipes_are_streams() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut process = piped("cat; echo error >&2");
            let mut stdin = process.stdin.take().unwrap();
            let mut stdout = process.stdout.take().unwrap();
            stdout.set_timeout(Some(SHORT));
            let mut buffer = [0; 16];
            let error = stdout.read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let error = stdout.try_read(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            stdout.set_timeout(None);
            for i in 0..100 {
                let line = format!("line {i}\n");
                stdin.write_all(line.as_bytes()).unwrap();
                stdout.read_exact(&mut buffer[..line.len()]).unwrap();
                assert_eq!(&buffer[..line.len()], line.as_bytes());
            }
            drop(stdin);
            assert_eq!(stdout.read(&mut buffer).unwrap(), 0);
            let mut errors = String::new();
            process
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            assert_eq!(errors, "error\n");
            assert!(process.wait().unwrap().success());
        });
    }
}

#[test]
fn a_full_pipe_puts_the_writer_aside() {
    let _deadline = deadline();
    let process = piped("exec sleep 20");
    let stdin = process.stdin.as_ref().unwrap();
    while stdin.try_write(&[b'x'; 4_096]).is_ok() {}
    while stdin.try_write(b"x").is_ok() {}
    let mut stdin = stdin;
    let late = with_timeout(SHORT, || stdin.write(b"more"));
    assert!(late.is_err());
    process.kill().unwrap();
    process.wait().unwrap();
    let error = stdin.write(b"more").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn an_output_is_the_next_ones_input() {
    let _deadline = deadline();
    let mut first = piped("cat");
    let mut stdin = first.stdin.take().unwrap();
    let mut stdout = first.stdout.take().unwrap();
    // Used here before.
    stdin.write_all(b"x").unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let mut second = Popen::new(
        Command::new("tr")
            .args(["a-z", "A-Z"])
            .stdin(stdout)
            .stdout(Stdio::piped()),
    )
    .unwrap();
    stdin.write_all(b"through two").unwrap();
    drop(stdin);
    let (output, _) = second.communicate(None, Some(LONG)).unwrap();
    assert_eq!(output, b"THROUGH TWO");
}

#[test]
fn run_and_its_kin_do_as_pythons() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let done = run(
                sh("cat; echo error >&2; exit 2")
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped()),
                Some(b"input"),
                None,
            );
            let CompletedProcess {
                status,
                stdout,
                stderr,
                ..
            } = done.unwrap();
            assert_eq!(
                (status.code(), &*stdout, &*stderr),
                (Some(2), &b"input"[..], &b"error\n"[..])
            );

            assert_eq!(call(&mut sh("exit 3"), None).unwrap().code(), Some(3));
            check_call(&mut Command::new("true"), None).unwrap();
            let error = check_call(Command::new("false").arg("secret"), None).unwrap_err();
            assert_eq!(error.to_string(), "false has failed: exit status: 1");

            let output = check_output(&mut Command::new("cat"), Some(b"text"), None).unwrap();
            assert_eq!(output, b"text");
            match check_output(&mut sh("echo text; exit 6"), None, None) {
                Err(SubprocessError::CalledProcess { program, completed }) => {
                    assert_eq!(program, "sh");
                    assert_eq!(completed.stdout, b"text\n");
                    assert_eq!(completed.status.code(), Some(6));
                }
                other => panic!("{other:?}"),
            }
            // No input is an empty one.
            assert_eq!(
                check_output(&mut Command::new("cat"), Some(b""), None).unwrap(),
                b""
            );
        });
    }
}

#[test]
fn run_kills_a_process_whose_time_is_over_or_whose_caller_is_killed() {
    let _deadline = deadline();
    // The other end tells when the process has gone.
    let (mut reader, writer) = io::pipe().unwrap();
    let result = call(
        sh("echo ready >&2; exec sleep 20").stderr(writer),
        Some(SHORT),
    );
    assert!(matches!(
        result,
        Err(SubprocessError::TimeoutExpired { .. })
    ));
    reader.read_to_end(&mut Vec::new()).unwrap();

    let (mut reader, writer) = io::pipe().unwrap();
    let caller = spawn(move || call(sh("echo ready >&2; exec sleep 20").stderr(writer), None));
    reader.read_exact(&mut [0; 6]).unwrap();
    caller.kill();
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert!(caller.join().is_err());
}

#[test]
fn a_dropped_handle_leaves_no_zombie() {
    const NAME: &str = "subprocess::a_dropped_handle_leaves_no_zombie";
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
    const NAME: &str = "subprocess::thousands_of_short_processes_leave_nothing";
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

/// Calls `communicate` with short time limits until what has been read is as expected.
fn eventually_late(
    process: &mut Popen,
    mut input: Option<&[u8]>,
    mut expected: impl FnMut(&[u8], &[u8]) -> bool,
) {
    let start = Instant::now();
    loop {
        match process.communicate(input.take(), Some(SHORT)) {
            Err(SubprocessError::TimeoutExpired { stdout, stderr, .. }) => {
                if expected(&stdout, &stderr) {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < LONG);
    }
}

/// A fifo: what a process reads from it comes when the test says so.
struct Gate {
    path: String,
}

impl Gate {
    fn new() -> Gate {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenwood-{}-{number}.fifo", std::process::id());
        let path = std::env::temp_dir().join(name);
        let path = path.to_str().expect("a path in ASCII").to_owned();
        check_call(Command::new("mkfifo").arg(&path), None).unwrap();
        Gate { path }
    }

    /// Lets go on who reads, or will.
    fn open(&self) {
        let path = self.path.clone();
        std::thread::spawn(move || -> io::Result<()> {
            std::fs::OpenOptions::new()
                .write(true)
                .open(path)?
                .write_all(b"\n")
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
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
    const NAME: &str = "subprocess::an_end_of_which_the_system_keeps_no_status_is_noticed";
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

#[test]
fn without_descriptors_a_process_is_refused_or_ends_in_order() {
    const NAME: &str = "subprocess::without_descriptors_a_process_is_refused_or_ends_in_order";
    if case().is_none() {
        for hubs in [1, 2] {
            let program = std::env::current_exe().unwrap();
            let script = format!("ulimit -n 64; exec '{}' --exact {NAME}", program.display());
            let mut command = sh(&script);
            command.env("GREENWOOD_TEST_CASE", "alone");
            command
                .env("GREENWOOD_HUBS", hubs.to_string())
                .stdout(Stdio::piped());
            let done = run(command.stderr(Stdio::piped()), None, None).unwrap();
            let text = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{text}");
        }
        return;
    }
    let _deadline = deadline();
    spawn(|| ()).join().unwrap();
    let (mut refused, mut done) = (0, 0);
    for left in 0..30 {
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - left);
        let output = spawn(|| check_output(&mut Command::new("cat"), Some(b"text"), None));
        match output.join().unwrap() {
            Ok(output) => {
                assert_eq!(output, b"text");
                done += 1;
            }
            Err(error) => {
                let SubprocessError::Io(error) = error else {
                    panic!("{error}");
                };
                let text = error.to_string();
                let limit = text.contains("RLIMIT_NOFILE") || text.contains("Too many open files");
                assert!(limit, "{text}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
    eventually("all are waited for", || zombies() == 0);
}

#[test]
fn output_is_read_in_pieces_of_any_size_while_the_process_lives() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut process = Popen::new(
                Command::new("sh")
                    .args(["-c", "printf hello; exec sleep 20"])
                    .stdout(Stdio::piped()),
            )
            .unwrap();
            let mut stdout = process.stdout.take().unwrap();
            stdout.set_timeout(Some(Duration::from_secs(10)));
            let mut text = Vec::new();
            while text.len() < 5 {
                let mut buffer = [0; 2];
                let n = stdout.read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..n]);
            }
            assert_eq!(text, b"hello");
            process.kill().unwrap();
            process.wait().unwrap();
        });
    }
}

/// The signals in a line of a /proc/PID/status, without those that glibc has for itself.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let mask = line.split_whitespace().last().unwrap();
    u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff
}

#[test]
fn a_process_inherits_nothing_of_the_runtimes() {
    const NAME: &str = "subprocess::a_process_inherits_nothing_of_the_runtimes";
    let _deadline = deadline();
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    // Those that this process has inherited itself.
    let inherited: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // What it was started with; Rust ignores SIGPIPE, of which its children know nothing.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let masks = [
        ("SigBlk", mask(&status, "SigBlk")),
        ("SigIgn", mask(&status, "SigIgn") & !(1 << (SIGPIPE - 1))),
    ];
    // Of every kind that the runtime opens.
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_there, _) = listener.accept().unwrap();
    let (unix, _other) = net::UnixStream::pair().unwrap();
    let udp = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let _file = FileObject::stdin().unwrap();
    let _signals = Signals::new([SIGUSR1]).unwrap();
    let _backdoor = BackdoorServer::tcp("127.0.0.1:0").unwrap();
    for from in EVERYWHERE {
        let (here, unix, udp) = (here.clone(), unix.clone(), udp.clone());
        let inherited = inherited.clone();
        from.run(move || {
            // Registered with the hub.
            let soon = Some(Duration::from_millis(1));
            here.wait_readable_timeout(soon).unwrap_err();
            unix.wait_readable_timeout(soon).unwrap_err();
            udp.wait_readable_timeout(soon).unwrap_err();
            let _another = piped("exec cat");
            let text = |command: &mut Command| {
                let text = check_output(command.stdin(Stdio::null()), None, None).unwrap();
                String::from_utf8(text).unwrap()
            };
            let fds = text(&mut sh("ls /proc/$$/fd"));
            assert!(
                fds.lines().all(|fd| inherited.iter().any(|it| it == fd)),
                "{fds}, and not only {inherited:?}"
            );
            // Not of a shell, which blocks signals now and then.
            let status = text(Command::new("cat").arg("/proc/self/status"));
            for (what, expected) in masks {
                assert_eq!(mask(&status, what), expected, "{what}");
            }
        });
    }
}
