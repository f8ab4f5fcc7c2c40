//! `select` and `poll` on descriptors of others.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{Poll, PollEvents, Selected, select};
use greenwood_runtime::{Hub, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, any_hub, case, child_with_hubs, deadline, eventually, open_descriptors, spawn_on,
    until_waits,
};

const SHORT: Duration = Duration::from_millis(5);
const EBADF: i32 = 9;

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().unwrap()
}

/// A number that is no descriptor: far beyond those that are given out.
const NOBODY: i32 = 1 << 20;

#[test]
fn select_waits_for_what_is_asked() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (reader, mut writer) = pipe();
            let (read, write) = ([reader.as_raw_fd()], [writer.as_raw_fd()]);
            let found = select(&read, &write, &[], None).unwrap();
            assert_eq!((found.read, found.write), (vec![], write.to_vec()));
            let start = Instant::now();
            let nothing = select(&read, &[], &read, Some(SHORT)).unwrap();
            assert_eq!(nothing, Selected::default());
            assert!(start.elapsed() >= SHORT);
            assert_eq!(
                select(&read, &[], &[], Some(Duration::ZERO)).unwrap(),
                Selected::default()
            );
            let writing = std::thread::spawn(move || {
                writer.write_all(b"x").unwrap();
                writer
            });
            let found = select(&read, &[], &[], None).unwrap();
            assert_eq!(found.read, read);
            drop(writing.join().unwrap());
            // The end can be read, too; and nothing has been read so far.
            assert_eq!(select(&read, &[], &[], None).unwrap().read, read);
            let mut rest = String::new();
            (&reader).read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "x");
            assert_eq!(select(&read, &[], &[], None).unwrap().read, read);
        });
    }
}

#[test]
fn select_refuses_what_is_no_descriptor() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            for fd in [NOBODY, 1 << 19] {
                let error = select(&[fd], &[], &[], None).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(EBADF));
            }
            let nothing = select(&[], &[], &[], Some(SHORT)).unwrap();
            assert_eq!(nothing, Selected::default());
        });
    }
}

#[test]
fn regular_files_are_always_ready() {
    let _deadline = deadline();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let (reader, _writer) = pipe();
    let fds = [reader.as_raw_fd(), file.as_raw_fd()];
    for from in EVERYWHERE {
        let found = from.run(move || select(&fds, &[], &[], None).unwrap());
        assert_eq!(found.read, [fds[1]]);
    }
}

#[test]
fn same_descriptor_may_be_asked_for_twice() {
    let _deadline = deadline();
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"x").unwrap();
    let fd = [here.as_raw_fd(), here.as_raw_fd()];
    let found = select(&fd, &fd, &[], None).unwrap();
    assert_eq!((found.read, found.write), (fd.to_vec(), fd.to_vec()));
}

#[test]
fn flags_of_the_descriptors_stay() {
    let _deadline = deadline();
    let (reader, mut writer) = pipe();
    let fd = reader.as_raw_fd();
    let flags = move || std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    let before = flags();
    for hub in 0..Hub::count() {
        let found = spawn_on(hub, move || select(&[fd], &[], &[], Some(SHORT)).unwrap());
        assert!(found.join().unwrap().read.is_empty());
    }
    assert_eq!(flags(), before);
    let reading = std::thread::spawn(move || {
        let mut byte = [0];
        (&reader).read_exact(&mut byte).unwrap();
        byte[0]
    });
    writer.write_all(b"x").unwrap();
    assert_eq!(reading.join().unwrap(), b'x');
}

#[test]
fn poll_reports_by_number_and_forgets_what_is_taken_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (reader, mut writer) = pipe();
            let poll = Poll::new();
            assert!(poll.poll(Some(SHORT)).unwrap().is_empty());
            poll.register(&reader, PollEvents::IN);
            poll.register(&writer, PollEvents::OUT);
            let out = (writer.as_raw_fd(), PollEvents::OUT);
            assert_eq!(poll.poll(None).unwrap(), [out]);
            writer.write_all(b"x").unwrap();
            let input = (reader.as_raw_fd(), PollEvents::IN);
            let mut both = vec![input, out];
            both.sort_by_key(|(fd, _)| *fd);
            assert_eq!(poll.poll(None).unwrap(), both);
            poll.modify(&writer, PollEvents::default()).unwrap();
            assert_eq!(poll.poll(None).unwrap(), [input]);
            poll.unregister(&reader).unwrap();
            assert!(poll.poll(Some(SHORT)).unwrap().is_empty());
            assert_eq!(
                poll.unregister(&reader).unwrap_err().kind(),
                ErrorKind::NotFound
            );
            let error = poll.modify(&reader, PollEvents::IN).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            drop(reader);
            // A failure is told unasked.
            assert_eq!(
                poll.poll(None).unwrap(),
                [(writer.as_raw_fd(), PollEvents::ERR)]
            );
            poll.register(&NOBODY, PollEvents::IN);
            let (_, events) = poll.poll(None).unwrap()[1];
            assert_eq!(events, PollEvents::NVAL);
        });
    }
}

#[test]
fn waits_are_killed_and_timed_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (reader, _writer) = pipe();
            let fds = [reader.as_raw_fd()];
            assert!(with_timeout(SHORT, || select(&fds, &[], &[], None)).is_err());
            let poll = Poll::new();
            poll.register(&reader, PollEvents::IN);
            assert!(with_timeout(SHORT, || poll.poll(None)).is_err());
        });
    }
    for hub in 0..Hub::count() {
        let (reader, _writer) = pipe();
        let fd = reader.as_raw_fd();
        let waiting = spawn_on(hub, move || select(&[fd], &[], &[], None));
        until_waits(waiting.id());
        waiting.kill();
        assert!(waiting.join().unwrap_err().is_killed());
    }
}

#[test]
fn many_wait_for_the_same_descriptor() {
    let _deadline = deadline();
    let (reader, mut writer) = pipe();
    let fd = reader.as_raw_fd();
    let waiting: Vec<_> = (0..40)
        .map(|i| spawn_on(any_hub(i), move || select(&[fd], &[], &[], None).unwrap()))
        .collect();
    for greenlet in &waiting {
        until_waits(greenlet.id());
    }
    writer.write_all(b"x").unwrap();
    for greenlet in waiting {
        assert_eq!(greenlet.join().unwrap().read, [fd]);
    }
}

/// What made the descriptor ready is taken away again and again before the waiter looks.
#[test]
fn waiter_that_comes_too_late_waits_on() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let (seen, done) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (sees, over) = (Arc::clone(&seen), Arc::clone(&done));
        let waiting = from.start(move || {
            while !over.load(Ordering::SeqCst) {
                let found = select(&[fd], &[], &[], Some(SHORT)).unwrap();
                sees.fetch_add(found.read.len(), Ordering::SeqCst);
            }
        });
        for _ in 0..2_000 {
            writer.write_all(b"x").unwrap();
            (&reader).read_exact(&mut [0]).unwrap();
        }
        let before = seen.load(Ordering::SeqCst);
        writer.write_all(b"x").unwrap();
        eventually("it sees what stays", || {
            seen.load(Ordering::SeqCst) > before
        });
        done.store(true, Ordering::SeqCst);
        waiting();
    }
}

#[test]
fn descriptors_live_on_and_nothing_is_left_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            let test = "select::descriptors_live_on_and_nothing_is_left_behind";
            child_with_hubs(test, "x", hubs).passed();
        }
        return;
    }
    let (reader, mut writer) = pipe();
    let fd = reader.as_raw_fd();
    let run = |writer: &mut PipeWriter| {
        for i in 0..500 {
            let waiting = spawn_on(any_hub(i), move || select(&[fd], &[], &[], None));
            match i % 3 {
                0 => waiting.kill(),
                1 => {
                    writer.write_all(b"x").unwrap();
                    assert!(waiting.join().unwrap().is_ok());
                    (&reader).read_exact(&mut [0]).unwrap();
                }
                _ => {
                    let limited = spawn_on(any_hub(i), move || {
                        with_timeout(Duration::from_micros(200), || {
                            select(&[fd], &[], &[], None).map(drop)
                        })
                        .is_err()
                    });
                    assert!(limited.join().unwrap());
                    waiting.kill();
                }
            }
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run(&mut writer);
    let before = open_descriptors();
    run(&mut writer);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn no_descriptor_left_is_an_error_with_advice() {
    let _deadline = deadline();
    if case().is_none() {
        child_with_hubs("select::no_descriptor_left_is_an_error_with_advice", "x", 1).passed();
        return;
    }
    let (reader, _writer) = pipe();
    let fd = reader.as_raw_fd();
    // The hubs have theirs.
    spawn(|| ()).join().unwrap();
    let mut all: Vec<OwnedFd> = Vec::new();
    while let Ok(one) = reader.try_clone() {
        all.push(one.into());
    }
    let error = spawn(move || select(&[fd], &[], &[], None).unwrap_err())
        .join()
        .unwrap();
    assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    // What is ready needs none.
    drop(all);
}

#[test]
fn negative_numbers_are_no_descriptors() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (reader, _writer) = pipe();
            for timeout in [Some(Duration::ZERO), Some(SHORT), None] {
                for fds in [vec![-1], vec![reader.as_raw_fd(), -7]] {
                    let error = select(&fds, &[], &[], timeout).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(EBADF));
                }
                let poll = Poll::new();
                poll.register(&-1, PollEvents::IN);
                poll.register(&reader, PollEvents::IN);
                assert_eq!(poll.poll(timeout).unwrap(), [(-1, PollEvents::NVAL)]);
            }
        });
    }
}

#[test]
fn number_that_is_anothers_by_now_does_not_hold_the_hub() {
    let _deadline = deadline();
    const NAME: &str = "select::number_that_is_anothers_by_now_does_not_hold_the_hub";
    // Alone, so that the number is not taken by another test.
    if case().is_none() {
        for hubs in [1, 2] {
            child_with_hubs(NAME, "x", hubs).passed();
        }
        return;
    }
    for from in EVERYWHERE {
        let (reader, mut writer) = pipe();
        let fd = reader.as_raw_fd();
        let limit = Some(Duration::from_millis(50));
        let waiting = from.start_waiting(move || select(&[fd], &[], &[], limit).unwrap());
        // What was waited for lives on under another number.
        let kept = reader.try_clone().unwrap();
        drop(reader);
        let (other, _other_end) = pipe();
        assert_eq!(other.as_raw_fd(), fd);
        writer.write_all(b"x").unwrap();
        assert_eq!(waiting(), Selected::default());
        drop(kept);
    }
}
