//! Descriptors that are passed over Unix sockets.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{UnixDatagram, UnixStream};
use greenwood_runtime::{sleep, spawn, with_timeout};

use crate::support::{EVERYWHERE, any_hub, deadline, spawn_on};

/// Reads to the end what came by a pipe that was passed.
fn read_pipe(fd: OwnedFd) -> String {
    std::io::read_to_string(PipeReader::from(fd)).unwrap()
}

/// The reading end of a pipe with a text in it.
fn pipe_with(text: &str) -> PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    reader
}

fn is_closed_on_exec(fd: BorrowedFd<'_>) -> bool {
    let name = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let info = std::fs::read_to_string(name).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    u32::from_str_radix(flags.unwrap().trim(), 8).unwrap() & libc::O_CLOEXEC as u32 != 0
}

#[test]
fn descriptors_arrive_with_their_bytes() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (here, there) = UnixStream::pair().unwrap();
        let receiving = from.start(move || {
            let mut buffer = [0; 64];
            let mut texts = Vec::new();
            loop {
                let (n, fds) = there.recv_fds(&mut buffer, 3).unwrap();
                if n == 0 {
                    return texts;
                }
                assert!(fds.iter().all(|fd| is_closed_on_exec(fd.as_fd())));
                let fds: Vec<_> = fds.into_iter().map(read_pipe).collect();
                texts.push((String::from_utf8(buffer[..n].to_vec()).unwrap(), fds));
            }
        });
        for round in 0..10 {
            let pipes = [pipe_with("one"), pipe_with("two"), pipe_with("")];
            let fds: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
            let number = round % 4;
            assert_eq!(here.send_fds(b"x", &fds[..number]).unwrap(), 1);
        }
        drop(here);
        let texts = receiving();
        let passed: Vec<_> = texts.iter().filter(|(_, fds)| !fds.is_empty()).collect();
        let numbers: Vec<_> = passed.iter().map(|(_, fds)| fds.len()).collect();
        assert_eq!(numbers, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(passed[2].1, ["one", "two", ""]);
        assert_eq!(texts.iter().map(|(text, _)| text.len()).sum::<usize>(), 10);
    }
}

/// A read ends where descriptors were passed, and there is no further event for what is behind.
#[test]
fn reads_go_on_behind_descriptors_that_were_passed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (here, there) = UnixStream::pair().unwrap();
        let pipe = pipe_with("");
        here.send_fds(b"a", &[pipe.as_fd()]).unwrap();
        here.send_fds(b"b", &[pipe.as_fd()]).unwrap();
        (&here).write_all(b"c").unwrap();
        let text = from.run(move || {
            let mut text = Vec::new();
            let mut buffer = [0; 64];
            while text.len() < 3 {
                let n = (&there).read(&mut buffer).unwrap();
                text.extend_from_slice(&buffer[..n]);
            }
            text
        });
        assert_eq!(text, b"abc");
        drop(here);
    }
}

#[test]
fn datagrams_take_descriptors_along() {
    let _deadline = deadline();
    let (here, there) = UnixDatagram::pair().unwrap();
    let pipe = pipe_with("hello");
    here.send_fds(b"", &[pipe.as_fd()]).unwrap();
    here.send_fds(b"none", &[]).unwrap();
    drop(pipe);
    let mut buffer = [0; 8];
    let (n, mut fds) = there.recv_fds(&mut buffer, 8).unwrap();
    assert_eq!((n, fds.len()), (0, 1));
    assert_eq!(read_pipe(fds.remove(0)), "hello");
    let (n, fds) = there.recv_fds(&mut buffer, 8).unwrap();
    assert_eq!((&buffer[..n], fds.len()), (&b"none"[..], 0));
}

#[test]
fn what_can_not_be_passed_is_refused() {
    let _deadline = deadline();
    let (here, there) = UnixStream::pair().unwrap();
    let pipe = pipe_with("");
    let error = here.send_fds(b"", &[pipe.as_fd()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = here.send_fds(b"x", &[pipe.as_fd(); 254]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(here.send_fds(b"x", &[pipe.as_fd(); 253]).unwrap(), 1);
    assert_eq!(there.recv_fds(&mut [0], 253).unwrap().1.len(), 253);
}

#[test]
fn more_than_was_asked_for_is_an_error_and_closed() {
    let _deadline = deadline();
    let (here, there) = UnixStream::pair().unwrap();
    let (pipe, mut writer) = std::io::pipe().unwrap();
    for (passed, max) in [(1, 0), (2, 1), (3, 1), (9, 3)] {
        here.send_fds(b"x", &vec![pipe.as_fd(); passed]).unwrap();
        let error = there.recv_fds(&mut [0], max).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{passed} {max}");
    }
    here.send_fds(b"y", &[pipe.as_fd()]).unwrap();
    let (n, fds) = there.recv_fds(&mut [0; 2], 1).unwrap();
    assert_eq!((n, fds.len()), (1, 1));
    writer.write_all(b"x").unwrap();
    // Nobody has it any more.
    drop((fds, pipe));
    let error = writer.write(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn who_waits_for_descriptors_can_be_killed_and_run_out_of_time() {
    let _deadline = deadline();
    let (here, there) = UnixStream::pair().unwrap();
    let there = Arc::new(there);
    let pipe = pipe_with("");
    for round in 0..200 {
        let theirs = Arc::clone(&there);
        let receiving = spawn_on(any_hub(round), move || {
            let short = Duration::from_micros(50);
            match round % 3 {
                0 => with_timeout(short, || theirs.recv_fds(&mut [0], 1)).ok(),
                _ => Some(theirs.recv_fds(&mut [0], 1)),
            }
        });
        if round % 2 == 0 {
            sleep(Duration::ZERO);
        }
        if round % 3 == 1 {
            receiving.kill_nowait();
        }
        here.send_fds(b"x", &[pipe.as_fd()]).unwrap();
        // Either it has them, or they are still there.
        let got = receiving.join().ok().flatten();
        let (n, fds) = match got {
            Some(received) => received.unwrap(),
            None => there.recv_fds(&mut [0], 1).unwrap(),
        };
        assert_eq!((n, fds.len()), (1, 1));
    }
    there
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let late = spawn(move || there.recv_fds(&mut [0], 1).unwrap_err().kind());
    assert_eq!(late.join().unwrap(), ErrorKind::TimedOut);
}
