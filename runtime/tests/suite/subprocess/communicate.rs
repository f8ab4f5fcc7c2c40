//! `communicate`, and `run` and its kin on top of it.

use std::io;
use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use greenwood_runtime::subprocess::{
    CompletedProcess, Popen, SubprocessError, call, check_call, check_output, run,
};
use greenwood_runtime::{spawn, with_timeout};

use super::{LONG, SHORT, piped, sh};
use crate::support::{EVERYWHERE, deadline};

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
    // Not more than the pipes hold: on a slow machine each time may be over before a byte is read.
    let text = b"0123456789".repeat(6_000);
    for piece in text.chunks(300) {
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
    // Long enough for it to begin, on a slow machine too.
    let limits = [200, 2_000, 20_000].map(Duration::from_millis);
    let has_begun = limits.into_iter().any(|limit| {
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
        stdout.starts_with(b"y\ny\n")
    });
    assert!(has_begun);
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
        sh("echo ready >&2; exec sleep 1000").stderr(writer),
        Some(SHORT),
    );
    assert!(matches!(
        result,
        Err(SubprocessError::TimeoutExpired { .. })
    ));
    reader.read_to_end(&mut Vec::new()).unwrap();

    let (mut reader, writer) = io::pipe().unwrap();
    let caller = spawn(move || call(sh("echo ready >&2; exec sleep 1000").stderr(writer), None));
    reader.read_exact(&mut [0; 6]).unwrap();
    caller.kill();
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert!(caller.join().is_err());
}

/// Calls `communicate` with short time limits until what has been read is as expected.
fn eventually_late(
    process: &mut Popen,
    mut input: Option<&[u8]>,
    mut expected: impl FnMut(&[u8], &[u8]) -> bool,
) {
    loop {
        match process.communicate(input.take(), Some(SHORT)) {
            Err(SubprocessError::TimeoutExpired { stdout, stderr, .. }) => {
                if expected(&stdout, &stderr) {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
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
