//! The pipes of a process, one by one.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use greenwood_runtime::subprocess::Popen;
use greenwood_runtime::with_timeout;

use super::{LONG, SHORT, piped};
use crate::support::{EVERYWHERE, deadline};

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
    let process = piped("exec sleep 1000");
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
fn output_is_read_in_pieces_of_any_size_while_the_process_lives() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut process = Popen::new(
                Command::new("sh")
                    .args(["-c", "printf hello; exec sleep 1000"])
                    .stdout(Stdio::piped()),
            )
            .unwrap();
            let mut stdout = process.stdout.take().unwrap();
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
