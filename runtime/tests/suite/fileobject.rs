//! `FileObject`: pipes, files, standard streams, and what stays as it was.

use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::{Event, FileObject, Hub, joinall, sleep, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, OnDrop, any_hub, case, child_with_hubs, deadline, eventually, open_descriptors,
    spawn_on, until_waits,
};

const SHORT: Duration = Duration::from_millis(5);

fn pipe() -> (FileObject, FileObject) {
    let (reader, writer) = std::io::pipe().unwrap();
    (
        FileObject::new(reader).unwrap(),
        FileObject::new(writer).unwrap(),
    )
}

/// A file without a name.
fn scratch() -> std::fs::File {
    let path = std::env::temp_dir().join(format!(
        "greenwood-file-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

#[test]
fn pipe_carries_much_between_all_kinds_of_callers() {
    let _deadline = deadline();
    for reads in EVERYWHERE {
        for writes in EVERYWHERE {
            let (mut reader, mut writer) = pipe();
            let reading = reads.start(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                all
            });
            let bytes: Vec<_> = (0..600_000_u32).map(|i| (i >> 3) as u8).collect();
            let sent = bytes.clone();
            writes.run(move || writer.write_all(&sent).unwrap());
            assert_eq!(reading(), bytes);
        }
    }
}

#[test]
fn reads_and_writes_of_a_pipe_time_out_and_are_killed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (mut reader, mut writer) = pipe();
            reader.set_read_timeout(Some(SHORT)).unwrap();
            let start = Instant::now();
            let error = reader.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= SHORT);
            writer.set_write_timeout(Some(SHORT)).unwrap();
            let error = writer.write_all(&vec![0; 1 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            writer.set_write_timeout(None).unwrap();
            assert!(with_timeout(SHORT, || writer.write(&[0])).is_err());
            // Once there is room it goes on.
            reader.read_exact(&mut vec![0; 65_536]).unwrap();
            assert_eq!(writer.write(&[0]).unwrap(), 1);
            let error = reader.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    }
    for hub in 0..Hub::count() {
        let (mut reader, mut writer) = pipe();
        let reading = spawn_on(hub, move || reader.read(&mut [0]));
        until_waits(reading.id());
        reading.kill();
        assert!(reading.join().unwrap_err().is_killed());
        // The reader is gone.
        let error = writer.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}

#[test]
fn time_limits_are_shown_as_such() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let reader = FileObject::new(reader).unwrap();
    reader
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let text = format!("{reader:?}");
    assert!(
        text.contains("read_timeout: Some(3s), write_timeout: None"),
        "{text}"
    );
}

#[test]
fn second_reader_of_a_hub_is_refused() {
    let _deadline = deadline();
    let (reader, mut writer) = pipe();
    let reader = Arc::new(reader);
    let theirs = Arc::clone(&reader);
    let first = spawn_on(0, move || (&*theirs).read(&mut [0; 9]).unwrap());
    until_waits(first.id());
    let second = spawn_on(0, move || (&*reader).read(&mut [0; 9]).unwrap_err().kind());
    assert_eq!(second.join().unwrap(), ErrorKind::ResourceBusy);
    writer.write_all(b"x").unwrap();
    assert_eq!(first.join().unwrap(), 1);
}

/// O_NONBLOCK belongs to what all who have the descriptor share.
#[test]
fn flags_that_others_share_stay() {
    let _deadline = deadline();
    let (reader, writer) = std::io::pipe().unwrap();
    let (theirs, mut writers) = (reader.try_clone().unwrap(), writer.try_clone().unwrap());
    let flags = |fd: &dyn AsFd| {
        let number = fd.as_fd().as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        info.lines()
            .find(|line| line.starts_with("flags"))
            .unwrap()
            .to_owned()
    };
    let before = (flags(&theirs), flags(&writers));
    let mut here = FileObject::new(reader).unwrap();
    let there = FileObject::new(writer).unwrap();
    let reading = spawn(move || {
        let mut buffer = [0; 5];
        here.read_exact(&mut buffer).unwrap();
        (buffer, here)
    });
    spawn(move || (&there).write_all(b"he").unwrap())
        .join()
        .unwrap();
    writers.write_all(b"llo").unwrap();
    let (buffer, _here) = reading.join().unwrap();
    assert_eq!(&buffer, b"hello");
    assert_eq!((flags(&theirs), flags(&writers)), before);
    // The description that others have still blocks.
    let blocked = std::thread::spawn(move || (&theirs).read(&mut [0]).unwrap());
    writers.write_all(b"x").unwrap();
    assert_eq!(blocked.join().unwrap(), 1);
}

#[test]
fn fifo_is_read_on_when_another_writer_comes() {
    let _deadline = deadline();
    // The reader keeps its end while the writers come and go.
    let (reader, writer) = std::io::pipe().unwrap();
    let again = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let mut reader = FileObject::new(reader.try_clone().unwrap())
        .map(BufReader::new)
        .unwrap();
    drop(writer);
    spawn(move || {
        let mut line = String::new();
        for i in 0..3 {
            assert_eq!(reader.read_line(&mut line).unwrap(), 0);
            let mut writer = std::fs::OpenOptions::new()
                .write(true)
                .open(&again)
                .unwrap();
            // There is a writer again, and nothing to read: this must wait, not spin or end.
            let waits = with_timeout(SHORT, || reader.read_line(&mut String::new()));
            assert!(waits.is_err(), "round {i}");
            writeln!(writer, "line").unwrap();
            assert_eq!(reader.read_line(&mut line).unwrap(), 5);
            line.clear();
        }
    })
    .join()
    .unwrap();
}

/// A reader of a FIFO with a name, whose only writer has left these bytes and gone.
fn left_by_writer(bytes: &'static [u8]) -> std::fs::File {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("greenwood-fifo-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let writer = path.clone();
    let writer = std::thread::spawn(move || {
        let mut writer = std::fs::OpenOptions::new().write(true).open(writer);
        writer.as_mut().unwrap().write_all(bytes).unwrap();
    });
    let reader = std::fs::File::open(&path).unwrap();
    writer.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    reader
}

#[test]
fn fifo_whose_writers_have_gone_is_read_to_its_end() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        for bytes in [b"".as_slice(), b"hello"] {
            let reader = left_by_writer(bytes);
            from.run(move || {
                let mut reader = FileObject::new(reader).unwrap();
                let again = format!("/proc/self/fd/{}", reader.as_fd().as_raw_fd());
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                assert_eq!(all, bytes);
                // Another writer comes, and goes.
                let mut writer = std::fs::OpenOptions::new().write(true).open(again).unwrap();
                assert!(with_timeout(SHORT, || reader.read(&mut [0])).is_err());
                writer.write_all(b"more").unwrap();
                drop(writer);
                reader.read_to_end(&mut all).unwrap();
                assert_eq!(all, [bytes, b"more"].concat());
            });
        }
    }
}

#[test]
fn terminal_is_read_by_many_without_blocking_a_hub() {
    let _deadline = deadline();
    // The system has no read of it that does not block, and whoever is told that there is something
    // may come second. It echoes what is written.
    let open = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/ptmx");
    let terminal = Arc::new(FileObject::new(open.unwrap()).unwrap());
    terminal.set_read_timeout(Some(SHORT)).unwrap();
    let (read, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(Event::new()));
    let readers: Vec<_> = EVERYWHERE
        .into_iter()
        .map(|from| {
            let (terminal, read, over) =
                (Arc::clone(&terminal), Arc::clone(&read), Arc::clone(&over));
            from.start(move || {
                while !over.is_set() {
                    match (&*terminal).read(&mut [0; 8]) {
                        Ok(n) => drop(read.fetch_add(n, Ordering::SeqCst)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                    }
                }
            })
        })
        .collect();
    for round in 1..=1_000 {
        (&*terminal).write_all(b"x").unwrap();
        eventually("it is read", || read.load(Ordering::SeqCst) == round);
        for hub in 0..Hub::count() {
            let answers = spawn_on(hub, || ()).join_timeout(Duration::from_secs(30));
            assert!(answers, "hub {hub} is blocked in round {round}");
        }
    }
    over.set();
    for reader in readers {
        reader();
    }
}

#[test]
fn socket_and_device_are_files_too() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
            let (mut here, mut there) = (
                FileObject::new(here).unwrap(),
                FileObject::new(there).unwrap(),
            );
            assert!(with_timeout(SHORT, || here.read(&mut [0])).is_err());
            there.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            here.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
            drop(there);
            assert_eq!(here.read(&mut buffer).unwrap(), 0);
            let zero = std::fs::File::open("/dev/zero").unwrap();
            FileObject::new(zero)
                .unwrap()
                .read_exact(&mut buffer)
                .unwrap();
            assert_eq!(buffer, [0; 5]);
            let null = std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/null")
                .unwrap();
            FileObject::new(null).unwrap().write_all(&buffer).unwrap();
            let error = here.seek(SeekFrom::Start(0)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotSeekable);
        });
    }
}

#[test]
fn regular_file_is_written_and_read_back() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let mut file = FileObject::new(scratch()).unwrap();
            let bytes: Vec<_> = (0..3_000_000_u32).map(|i| (i >> 5) as u8).collect();
            file.write_all(&bytes).unwrap();
            assert_eq!(file.read(&mut [0]).unwrap(), 0);
            file.rewind().unwrap();
            let mut back = Vec::new();
            file.read_to_end(&mut back).unwrap();
            assert!(back == bytes);
            assert_eq!(file.seek(SeekFrom::Start(64)).unwrap(), 64);
            let mut byte = [0];
            file.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [2]);
        });
    }
}

#[test]
fn greenlets_share_a_file_position_without_losing_bytes() {
    let _deadline = deadline();
    let mut file = scratch();
    let total = 400_000_usize;
    let bytes: Vec<_> = (0..total).map(|i| i as u8).collect();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    let file = Arc::new(FileObject::new(file).unwrap());
    let readers: Vec<_> = (0..8)
        .map(|i| {
            let file = Arc::clone(&file);
            spawn_on(any_hub(i), move || {
                let (mut sum, mut count, mut buffer) = (0, 0, [0; 100]);
                loop {
                    let n = (&*file).read(&mut buffer).unwrap();
                    if n == 0 {
                        return (sum, count);
                    }
                    count += n;
                    sum += buffer[..n].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                }
            })
        })
        .collect();
    let (mut sum, mut count) = (0, 0);
    for reader in readers {
        let (theirs, read) = reader.join().unwrap();
        sum += theirs;
        count += read;
    }
    assert_eq!(count, total);
    assert_eq!(sum, bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
}

#[test]
fn killed_reads_of_a_file_lose_nothing() {
    let _deadline = deadline();
    let mut file = scratch();
    let bytes: Vec<_> = (0..200_000_u32).map(|i| (i >> 8) as u8).collect();
    file.write_all(&bytes).unwrap();
    file.rewind().unwrap();
    let file = Arc::new(FileObject::new(file).unwrap());
    let mut all = Vec::new();
    for i in 0..200 {
        let theirs = Arc::clone(&file);
        let reading = spawn_on(any_hub(i), move || {
            let mut buffer = vec![0; 1_000];
            let n = (&*theirs).read(&mut buffer).unwrap();
            buffer.truncate(n);
            buffer
        });
        if i % 2 == 0 {
            reading.kill_nowait();
        }
        match reading.join() {
            Ok(piece) => all.extend(piece),
            Err(error) => assert!(error.is_killed()),
        }
    }
    (&*file).read_to_end(&mut all).unwrap();
    assert!(all == bytes);
}

#[test]
fn hub_goes_on_while_files_are_written() {
    let _deadline = deadline();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let mut file = FileObject::new(scratch()).unwrap();
            spawn_on(0, move || {
                for _ in 0..20 {
                    file.write_all(&[1; 100_000]).unwrap();
                }
            })
        })
        .collect();
    let beside = spawn_on(0, || 1);
    assert_eq!(beside.join().unwrap(), 1);
    assert!(joinall(&writers, None));
}

#[test]
fn destructor_writes_what_needs_no_wait() {
    let _deadline = deadline();
    let (mut reader, writer) = pipe();
    let begun = Arc::new(Event::new());
    let begins = Arc::clone(&begun);
    let greenlet = spawn(move || {
        let _last = OnDrop(|| (&writer).write_all(b"bye").unwrap());
        begins.set();
        sleep(Duration::MAX);
    });
    begun.wait();
    greenlet.kill();
    let mut buffer = [0; 3];
    reader
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    reader.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"bye");
}

/// The standard streams of a child process: a pipe, a file, a socket and nothing.
#[test]
fn standard_streams_are_read_and_written() {
    let _deadline = deadline();
    if case().is_some() {
        let copying = spawn(|| {
            let mut text = String::new();
            FileObject::stdin()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            FileObject::stderr()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        });
        copying.join().unwrap();
        return;
    }
    let run = |stdin: Stdio, text: Option<&[u8]>| {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program)
            .args([
                "--exact",
                "fileobject::standard_streams_are_read_and_written",
                "--nocapture",
            ])
            .env("GREENWOOD_TEST_CASE", "x")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(text) = text {
            child.stdin.take().unwrap().write_all(text).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let piped = "by a pipe".repeat(20_000);
    assert_eq!(run(Stdio::piped(), Some(piped.as_bytes())), piped);
    let mut file = scratch();
    file.write_all(b"from a file").unwrap();
    file.rewind().unwrap();
    assert_eq!(run(OwnedFd::from(file).into(), None), "from a file");
    let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
    there.write_all(b"by a socket").unwrap();
    drop(there);
    assert_eq!(run(OwnedFd::from(here).into(), None), "by a socket");
    assert_eq!(run(Stdio::null(), None), "");
}

#[test]
fn nothing_is_left_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs("fileobject::nothing_is_left_behind", "x", hubs).passed();
        }
        return;
    }
    let run = || {
        for i in 0..200 {
            let (mut reader, mut writer) = pipe();
            let reading = spawn_on(any_hub(i), move || reader.read(&mut [0]));
            match i % 3 {
                0 => reading.kill(),
                1 => assert_eq!(writer.write(b"x").unwrap(), 1),
                _ => drop(writer),
            }
            drop(reading.join());
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}
