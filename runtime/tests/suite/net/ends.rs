//! The ends of a connection: of one direction, of both, and of its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Hub, sleep, with_timeout};

use super::{LONG, pair};
use crate::support::{EVERYWHERE, deadline, fill, spawn_on};

#[test]
fn shutdown_wakes_who_reads_and_who_writes() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let (here, _there) = pair();
            fill(&here);
            let (reads, writes, closes) = (here.clone(), here.clone(), here);
            let reader = waiter.start_waiting(move || (&reads).read(&mut [0]));
            let writer = waiter.start_waiting(move || {
                loop {
                    if let Err(error) = (&writes).write(&[0]) {
                        return error.kind();
                    }
                }
            });
            closer.run(move || closes.shutdown(Shutdown::Both).unwrap());
            assert_eq!(reader().unwrap(), 0);
            assert_eq!(writer(), ErrorKind::BrokenPipe);
        }
    }
}

#[test]
fn half_closed_connection_still_carries_the_other_way() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, mut there) = pair();
        let client = from.start(move || {
            here.write_all(b"question").unwrap();
            here.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            here.read_to_string(&mut answer).unwrap();
            answer
        });
        let mut question = String::new();
        there.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        // The end stays readable, and much can still be written.
        assert_eq!(there.read(&mut [0]).unwrap(), 0);
        there.wait_readable().unwrap();
        for _ in 0..200 {
            there.write_all(&[b'a'; 20_000]).unwrap();
        }
        drop(there);
        assert_eq!(client().len(), 200 * 20_000);
    }
}

#[test]
fn reset_reaches_who_waits() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for full in [false, true] {
            let (here, there) = pair();
            if full {
                fill(&here);
            }
            let waiting = waiter.start_waiting(move || {
                // A full socket may find room after all.
                let result = if full {
                    std::iter::repeat_with(|| (&here).write(&[0; 9_000]))
                        .find(Result::is_err)
                        .expect("it does not end otherwise")
                } else {
                    (&here).read(&mut [0])
                };
                (result.unwrap_err().kind(), here)
            });
            there.set_reset_on_close(true).unwrap();
            drop(there);
            let (kind, here) = waiting();
            assert_eq!(kind, ErrorKind::ConnectionReset);
            // Later calls end too.
            assert!(matches!((&here).read(&mut [0]), Ok(0) | Err(_)));
            assert!((&here).write(&[0]).is_err());
        }
    }
}

/// A socket is dropped on another thread than the hub's that has waited for it, while its number is
/// used again at once.
#[test]
fn sockets_die_on_foreign_threads() {
    let _deadline = deadline();
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    for round in 0..300 {
        let mut client = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        let mut streams = Vec::new();
        for hub in 0..Hub::count() {
            let stream = stream.clone();
            streams.push(spawn_on(hub, move || {
                // Ready or not, the hub knows the socket from here on.
                assert!(with_timeout(LONG, || stream.wait_writable()).is_ok());
                stream
            }));
        }
        let streams: Vec<_> = streams.into_iter().map(|it| it.join().unwrap()).collect();
        drop(stream);
        EVERYWHERE[round % 3].run(move || drop(streams));
        // Closed: the peer sees its end (or a reset, as a byte was not read).
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn close_wakes_waiters_of_all_hubs_thousands_of_times() {
    let _deadline = deadline();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for round in 0..500 {
        let here = TcpStream::connect(address).unwrap();
        // Its number is another's as soon as it is dropped.
        let (there, _) = listener.accept().unwrap();
        let waiting: Vec<_> = (0..Hub::count())
            .map(|hub| {
                let theirs = here.clone();
                spawn_on(hub, move || theirs.wait_readable().unwrap_err())
            })
            .collect();
        if round % 3 == 0 {
            sleep(Duration::ZERO);
        }
        let closing = here.clone();
        EVERYWHERE[round % 3].run(move || closing.close());
        drop(here);
        for greenlet in waiting {
            assert_eq!(greenlet.join().unwrap().raw_os_error(), Some(9));
        }
        drop(there);
    }
}
