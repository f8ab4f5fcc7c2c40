//! `create_connection`: names, sources, and the race between several addresses (RFC 8305).

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream, create_connection};
use greenwood_runtime::{Hub, sleep, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, any_hub, case, child_with_hubs, deadline, deadline_of, eventually, fill,
    open_descriptors, refusing, spawn_on,
};

const SHORT: Duration = Duration::from_millis(5);

/// An address that does not answer: its backlog is full.
struct Silent {
    address: SocketAddr,
    _listener: socket2::Socket,
    _fillers: Vec<socket2::Socket>,
}

impl Silent {
    fn new() -> Silent {
        let tcp = || {
            let kind = socket2::Type::STREAM.nonblocking();
            socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap()
        };
        let listener = tcp();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let fillers = (0..4)
            .map(|_| {
                let filler = tcp();
                filler.connect(&address).ok();
                filler
            })
            .collect();
        Silent {
            address: address.as_socket().unwrap(),
            _listener: listener,
            _fillers: fillers,
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn connects_by_name_and_by_address() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (listener, address) = listener();
        from.run(move || {
            create_connection(address, None, None).unwrap();
            create_connection(("127.0.0.1", address.port()), None, None).unwrap();
            create_connection(("localhost", address.port()), None, None).unwrap();
            let text = format!("localhost:{}", address.port());
            TcpStream::connect(&*text).unwrap();
            TcpStream::connect(text).unwrap();
            for wrong in ["localhost", "localhost:x", "127.0.0.1"] {
                let error = TcpStream::connect(wrong).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            }
        });
        drop(listener);
    }
}

#[test]
fn silent_address_is_passed_by_after_a_quarter_of_a_second() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let silent = Silent::new();
        let (_listener, good) = listener();
        let all = [silent.address, good];
        let start = Instant::now();
        let stream = from.run(move || create_connection(&all[..], None, None).unwrap());
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(start.elapsed() >= Duration::from_millis(250));
    }
}

#[test]
fn refused_address_costs_no_time() {
    let _deadline = deadline();
    let (_listener, good) = listener();
    let mut all: Vec<_> = (0..20).map(|_| refusing()).collect();
    all.push(good);
    let stream = spawn(move || create_connection(&all[..], None, None).unwrap());
    assert_eq!(stream.join().unwrap().peer_addr().unwrap(), good);
    let all = [refusing(), refusing()];
    let error = create_connection(&all[..], None, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // It names the one that has failed last.
    assert!(
        error.to_string().starts_with(&format!("{}: ", all[1])),
        "{error}"
    );
}

#[test]
fn refusal_behind_a_silent_address_does_not_end_the_wait() {
    let _deadline = deadline();
    let (silent, other) = (Silent::new(), Silent::new());
    let all = [silent.address, refusing(), other.address];
    for from in EVERYWHERE {
        let start = Instant::now();
        let limit = Duration::from_millis(320);
        let error = from.run(move || create_connection(&all[..], Some(limit), None).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(start.elapsed() >= limit);
    }
}

#[test]
fn source_address_is_used_and_chooses_the_family() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (listener, address) = listener();
        from.run(move || {
            let source: SocketAddr = "127.0.0.9:0".parse().unwrap();
            let stream = create_connection(address, None, Some(source)).unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), source.ip());
            let all = ["[::1]:9".parse().unwrap(), address];
            let stream = create_connection(&all[..], None, Some(source)).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            let other: SocketAddr = "[::1]:0".parse().unwrap();
            let error = create_connection(address, None, Some(other)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let foreign: SocketAddr = "192.0.2.1:0".parse().unwrap();
            assert!(create_connection(address, None, Some(foreign)).is_err());
        });
        drop(listener);
    }
}

#[test]
fn connection_of_a_race_works_on_every_hub() {
    let _deadline = deadline();
    let (listener, good) = listener();
    let all = [refusing(), good];
    for hub in 0..Hub::count() {
        let mut stream = spawn_on(hub, move || {
            create_connection(&all[..], None, None).unwrap()
        })
        .join()
        .unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let echo = spawn_on(hub, move || {
            let mut buffer = [0; 4];
            peer.read_exact(&mut buffer).unwrap();
            peer.write_all(&buffer).unwrap();
        });
        let buffer = spawn_on(any_hub(hub + 1), move || {
            let mut buffer = [0; 4];
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut buffer).unwrap();
            buffer
        });
        assert_eq!(&buffer.join().unwrap(), b"ping");
        echo.join().unwrap();
    }
}

/// At whatever moment a race is killed or runs out of time, every socket of it is closed.
#[test]
fn races_that_are_killed_leave_nothing_behind() {
    let _deadline = deadline_of(Duration::from_secs(120));
    if case().is_none() {
        for hubs in [1, 2, 4] {
            let test = "connect::races_that_are_killed_leave_nothing_behind";
            child_with_hubs(test, "x", hubs).passed();
        }
        return;
    }
    let (first, second) = (Silent::new(), Silent::new());
    let all = [first.address, refusing(), second.address];
    let run = || {
        let racing: Vec<_> = (0..120)
            .map(|i| {
                spawn_on(any_hub(i), move || {
                    let race = || create_connection(&all[..], None, None);
                    match i % 3 {
                        0 => race().is_err(),
                        1 => with_timeout(Duration::from_millis(i as u64 * 3), race).is_err(),
                        _ => {
                            let limit = Duration::from_millis(1 + i as u64 * 3);
                            create_connection(&all[..], Some(limit), None).is_err()
                        }
                    }
                })
            })
            .collect();
        for (i, greenlet) in racing.into_iter().enumerate() {
            if i % 3 == 0 {
                sleep(SHORT);
                greenlet.kill();
                assert!(greenlet.join().unwrap_err().is_killed());
            } else {
                assert!(greenlet.join().unwrap());
            }
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}

#[test]
fn close_wakes_readers_writers_and_acceptors() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let (listener, address) = listener();
            let stream = TcpStream::connect(address).unwrap();
            let (_peer, _) = listener.accept().unwrap();
            fill(&stream);
            let listener = std::sync::Arc::new(listener);
            let accepts = std::sync::Arc::clone(&listener);
            let (reads, writes) = (stream.clone(), stream.clone());
            let waiting = [
                waiter.start_waiting(move || (&reads).read(&mut [0]).unwrap_err()),
                // A full socket may find room after all.
                waiter.start_waiting(move || {
                    loop {
                        if let Err(error) = (&writes).write(&[0; 9_000]) {
                            break error;
                        }
                    }
                }),
                waiter.start_waiting(move || accepts.accept().unwrap_err()),
            ];
            let ours = stream.clone();
            closer.run(move || {
                ours.close();
                listener.close();
            });
            for waiting in waiting {
                assert_eq!(waiting().raw_os_error(), Some(9));
            }
            assert_eq!(
                (&stream).read(&mut [0]).unwrap_err().raw_os_error(),
                Some(9)
            );
        }
    }
}

#[test]
fn accept_has_a_time_limit() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (listener, address) = listener();
        from.run(move || {
            let error = listener.accept_timeout(SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let _client = TcpStream::connect(address).unwrap();
            listener.accept_timeout(Duration::from_secs(30)).unwrap();
        });
    }
}
