//! Waits for a connection: time limits, kills, two at once, and calls that never wait.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::net::TcpStream;
use greenwood_runtime::{Event, Hub, sleep, spawn, spawn_local, with_timeout};

use super::{LONG, SHORT, pair};
use crate::others::until_waits_or_ends;
use crate::support::{
    EVERYWHERE, OnDrop, any_hub, deadline, eventually, fill, spawn_on, until_waits,
};

#[test]
fn read_times_out_and_goes_on_afterwards() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, mut there) = pair();
        from.run(move || {
            assert_eq!(here.read_timeout(), None);
            here.set_read_timeout(Some(SHORT)).unwrap();
            assert_eq!(here.read_timeout(), Some(SHORT));
            for _ in 0..3 {
                let start = Instant::now();
                let error = here.read(&mut [0]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                assert!(start.elapsed() >= SHORT);
            }
            there.write_all(b"x").unwrap();
            here.set_read_timeout(None).unwrap();
            assert_eq!(here.read(&mut [0; 9]).unwrap(), 1);
            let error = here.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            // Beyond the clock's range: none.
            here.set_read_timeout(Some(Duration::MAX)).unwrap();
            assert!(with_timeout(SHORT, || here.read(&mut [0])).is_err());
        });
    }
}

#[test]
fn write_times_out_when_the_peer_does_not_read() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, there) = pair();
        from.run(move || {
            here.set_write_timeout(Some(SHORT)).unwrap();
            let chunk = vec![0; 1 << 20];
            let error = loop {
                if let Err(error) = here.write_all(&chunk) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            // As soon as the peer reads, it goes on.
            let reader = std::thread::spawn(move || {
                let mut there = there;
                let mut buffer = vec![0; 1 << 20];
                while there.read(&mut buffer).unwrap() > 0 {}
            });
            here.set_write_timeout(None).unwrap();
            here.write_all(&chunk).unwrap();
            drop(here);
            reader.join().unwrap();
        });
    }
}

#[test]
fn second_reader_on_a_hub_is_refused_and_the_first_unharmed() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let (here, mut there) = pair();
        let greenlet = spawn_on(hub, move || {
            let first = here.clone();
            let reader = spawn_local(move || {
                let mut buffer = [0; 4];
                (&first).read_exact(&mut buffer).unwrap();
                buffer
            });
            until_waits(reader.id());
            let error = (&here).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
            // Another one may write, at the same time.
            (&here).write_all(b"ping").unwrap();
            reader.join().unwrap()
        });
        let mut buffer = [0; 4];
        there.read_exact(&mut buffer).unwrap();
        there.write_all(&buffer).unwrap();
        assert_eq!(&greenlet.join().unwrap(), b"ping");
    }
}

/// Of a reader and a writer that wait on one socket, one is killed or runs out of time: the other
/// does not notice.
#[test]
fn reader_and_writer_that_wait_at_once_are_independent() {
    let _deadline = deadline();
    // In some rounds the system finds room after all, as it does when one of its own timers is late.
    let (mut round, mut shown) = (0, 0);
    while shown < 40 {
        round += 1;
        let (here, there) = pair();
        fill(&here);
        let (for_reader, for_writer) = (here.clone(), here);
        let read = move || (&for_reader).read(&mut [0; 9]);
        let write = move || (&for_writer).write(b"x");
        let hub = any_hub(round);
        let (reader, writer);
        if round % 2 == 0 {
            reader = spawn_on(hub, read);
            writer = spawn_on(any_hub(round / 2), write);
        } else {
            writer = spawn_on(any_hub(round / 2), write);
            reader = spawn_on(hub, read);
        }
        until_waits(reader.id());
        until_waits_or_ends(&writer);
        if writer.ready() {
            reader.kill();
            continue;
        }
        shown += 1;
        let drain = |there: &TcpStream| {
            let mut buffer = vec![0; 65_536];
            while !writer.ready() {
                there.try_read(&mut buffer).ok();
                sleep(Duration::from_micros(100));
            }
        };
        match round % 4 {
            0 | 1 => {
                reader.kill();
                drain(&there);
                assert_eq!(writer.join().unwrap().unwrap(), 1);
            }
            _ => {
                writer.kill();
                assert!(!reader.ready());
                (&there).write_all(b"abc").unwrap();
                assert_eq!(reader.join().unwrap().unwrap(), 3);
            }
        }
    }
}

#[test]
fn peer_that_says_nothing_is_given_up_on_time_only() {
    let _deadline = deadline();
    let (here, _there) = pair();
    let waiting = spawn(move || with_timeout(SHORT, || (&here).read(&mut [0])).is_err());
    assert!(waiting.join().unwrap());
}

#[test]
fn time_limit_of_a_read_holds_although_others_take_the_bytes() {
    let _deadline = deadline();
    // Two readers on two hubs (or a hub and a thread): each byte wakes both and goes to one.
    let (here, there) = pair();
    let (stop, stopped) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (greedy, told, end) = (here.clone(), Arc::clone(&stop), Arc::clone(&stopped));
    let thief = std::thread::spawn(move || {
        while !told.is_set() {
            greedy.try_read(&mut [0; 64]).ok();
        }
        end.set();
    });
    let feeder = spawn_on(any_hub(1), move || {
        while !stopped.is_set() {
            (&there).write_all(b"x").unwrap();
            sleep(Duration::from_micros(500));
        }
    });
    let reader = spawn_on(0, move || {
        here.set_read_timeout(Some(Duration::from_millis(30)))
            .unwrap();
        let start = Instant::now();
        // It may win a byte now and then.
        while (&here).read(&mut [0]).is_ok() {
            if start.elapsed() > Duration::from_secs(5) {
                return;
            }
        }
    });
    assert!(reader.join_timeout(Duration::from_secs(30)));
    stop.set();
    thief.join().unwrap();
    feeder.join().unwrap();
    eventually("both are gone", || reader.ready());
}

#[test]
fn try_calls_never_wait() {
    let _deadline = deadline();
    let (here, there) = pair();
    let mut buffer = Vec::new();
    assert_eq!(
        here.try_read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(
        here.try_read_vec(&mut buffer, 10).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert_eq!(there.try_write(b"abcdef").unwrap(), 6);
    here.wait_readable().unwrap();
    assert_eq!(here.try_read_vec(&mut buffer, 4).unwrap(), 4);
    assert_eq!(here.try_read_vec(&mut buffer, 4).unwrap(), 2);
    assert_eq!(buffer, b"abcdef");
    drop(there);
    here.wait_readable_timeout(Some(LONG)).unwrap();
    assert_eq!(here.try_read_vec(&mut buffer, 4).unwrap(), 0);
}

#[test]
fn read_into_nothing_returns_at_once() {
    let _deadline = deadline();
    let (mut ours, _theirs) = pair();
    assert_eq!(ours.read(&mut []).unwrap(), 0);
    assert_eq!(
        spawn(move || ours.read(&mut []).unwrap()).join().unwrap(),
        0
    );
}

/// A destructor can't wait, but takes what is there.
#[test]
fn greenlet_that_unwinds_reads_what_there_is() {
    let _deadline = deadline();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"hello").unwrap();
    ours.wait_readable().unwrap();
    let (reads, read) = std::sync::mpsc::channel();
    let (starts, started) = std::sync::mpsc::channel();
    let greenlet = spawn(move || {
        let _last = OnDrop(|| {
            let mut buffer = [0; 9];
            let first = (&ours).read(&mut buffer);
            let second = (&ours).read(&mut buffer).map_err(|error| error.kind());
            reads.send((first.unwrap(), second)).unwrap();
        });
        starts.send(()).unwrap();
        sleep(Duration::MAX);
    });
    started.recv().unwrap();
    greenlet.kill();
    assert_eq!(read.recv().unwrap(), (5, Err(ErrorKind::WouldBlock)));
}
