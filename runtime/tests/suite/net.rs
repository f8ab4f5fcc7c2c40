//! TCP: reading and writing at once, from everywhere, and every way a connection can end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Event, Greenlet, Hub, joinall, sleep, spawn, spawn_local, with_timeout};

use crate::support::{
    EVERYWHERE, OnDrop, any_hub, deadline, deadline_of, eventually, fill, spawn_on,
};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

/// A connection and its other end.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, peer) = listener.accept().unwrap();
    assert_eq!(peer, here.local_addr().unwrap());
    (here, there)
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// The byte at a place of the stream that the tests send.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(0x9E37_79B1) >> 13) as u8
}

fn send_all(mut stream: &TcpStream, total: usize, seed: u64) {
    let mut random = Random(seed);
    let mut sent = 0;
    while sent < total {
        let size = (1 + random.next(60_000)).min(total - sent);
        let chunk: Vec<_> = (sent..sent + size).map(byte_at).collect();
        stream.write_all(&chunk).unwrap();
        sent += size;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn receive_all(mut stream: &TcpStream, total: usize, seed: u64) {
    let mut random = Random(seed);
    let mut buffer = vec![0; 60_000];
    let mut received = 0;
    loop {
        let size = 1 + random.next(60_000);
        let n = stream.read(&mut buffer[..size]).unwrap();
        if n == 0 {
            break;
        }
        for (i, &byte) in buffer[..n].iter().enumerate() {
            assert_eq!(byte, byte_at(received + i), "at {}", received + i);
        }
        received += n;
    }
    assert_eq!(received, total);
}

#[test]
fn big_transfers_both_ways_at_once_arrive_whole() {
    let _deadline = deadline_of(Duration::from_secs(120));
    let total = 6 << 20;
    for reader in EVERYWHERE {
        for writer in EVERYWHERE {
            let (here, there) = pair();
            let ends = [(here.clone(), there.clone()), (there, here)];
            let mut running = Vec::new();
            for (i, (from, to)) in ends.into_iter().enumerate() {
                running.push(writer.start(move || send_all(&from, total, 7 + i as u64)));
                running.push(reader.start(move || receive_all(&to, total, 99 + i as u64)));
            }
            running.into_iter().for_each(|part| part());
        }
    }
}

#[test]
fn socket_may_wander_from_hub_to_hub() {
    let _deadline = deadline();
    let (mut here, mut there) = pair();
    for round in 0..40_u8 {
        let reader = EVERYWHERE[usize::from(round) % 3].start(move || {
            let mut buffer = [0];
            there.read_exact(&mut buffer).unwrap();
            (buffer[0], there)
        });
        sleep(Duration::from_micros(300));
        here = EVERYWHERE[usize::from(round) / 3 % 3].run(move || {
            here.write_all(&[round]).unwrap();
            here
        });
        let (byte, stream) = reader();
        assert_eq!(byte, round);
        there = stream;
    }
}

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
fn connect_reports_refusal_and_time_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let address = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let error = TcpStream::connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            let error = TcpStream::connect_timeout(&address, LONG).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            let none: &[std::net::SocketAddr] = &[];
            assert_eq!(
                TcpStream::connect(none).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            assert_eq!(
                TcpListener::bind(none).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let error = TcpListener::bind(taken.local_addr().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert!(
                error.to_string().contains("can't listen on 127.0.0.1"),
                "{error}"
            );
            // The first that answers of several.
            let both = [address, taken.local_addr().unwrap()];
            let stream = TcpStream::connect(&both[..]).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), both[1]);
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
            sleep(Duration::ZERO);
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
    let mut shown = 0;
    for round in 0..60 {
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
        sleep(Duration::from_micros(500));
        assert!(!reader.ready());
        if writer.ready() {
            // The system has found room after all, as it does when one of its own timers is late.
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
    assert!(shown > 20, "{shown} rounds of 60");
}

#[test]
fn full_duplex_greenlets_on_one_socket_make_progress() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let (here, there) = pair();
        // Both sides write before they read: with one waiter per socket this would hang.
        let sides: Vec<Greenlet<()>> = [here, there]
            .into_iter()
            .map(|stream| {
                spawn_on(hub, move || {
                    let writing = stream.clone();
                    let writer = spawn_local(move || send_all(&writing, 3 << 20, 5));
                    receive_all(&stream, 3 << 20, 11);
                    writer.join().unwrap();
                })
            })
            .collect();
        for side in sides {
            side.join().unwrap();
        }
    }
}

#[test]
fn shutdown_wakes_who_reads_and_who_writes() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let (here, _there) = pair();
            fill(&here);
            let (reads, writes, closes) = (here.clone(), here.clone(), here);
            let reader = waiter.start(move || (&reads).read(&mut [0]));
            let writer = waiter.start(move || {
                loop {
                    if let Err(error) = (&writes).write(&[0]) {
                        return error.kind();
                    }
                }
            });
            sleep(Duration::from_millis(2));
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
            let waiting = waiter.start(move || {
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
            sleep(Duration::from_millis(2));
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

#[test]
fn peer_that_says_nothing_is_given_up_on_time_only() {
    let _deadline = deadline();
    let (here, _there) = pair();
    let waiting = spawn(move || with_timeout(SHORT, || (&here).read(&mut [0])).is_err());
    assert!(waiting.join().unwrap());
}

#[test]
fn listener_serves_acceptors_of_all_hubs_and_threads() {
    let _deadline = deadline();
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let acceptors: Vec<_> = EVERYWHERE
        .into_iter()
        .take(if Hub::count() > 1 { 2 } else { 1 })
        .map(|from| {
            let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
            from.start(move || {
                while accepted.load(Ordering::SeqCst) < 100 {
                    let Ok(result) = with_timeout(Duration::from_millis(20), || listener.accept())
                    else {
                        continue;
                    };
                    result.unwrap().0.write_all(b"!").unwrap();
                    accepted.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for i in 0..100 {
        let byte = EVERYWHERE[i % 3].run(move || {
            let mut buffer = [0];
            let mut stream = TcpStream::connect(address).unwrap();
            stream.read_exact(&mut buffer).unwrap();
            buffer[0]
        });
        assert_eq!(byte, b'!');
    }
    acceptors.into_iter().for_each(|acceptor| acceptor());
}

#[test]
fn two_thousand_sockets_wait_at_once() {
    let _deadline = deadline_of(Duration::from_secs(120));
    let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 1_000).unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Event::new());
    let clients: Vec<_> = (0..1_000)
        .map(|i| {
            let go = Arc::clone(&go);
            spawn_on(any_hub(i), move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let mut buffer = [0; 8];
                go.wait();
                stream.write_all(&(i as u64).to_le_bytes()).unwrap();
                stream.read_exact(&mut buffer).unwrap();
                assert_eq!(u64::from_le_bytes(buffer), i as u64);
            })
        })
        .collect();
    let servers: Vec<_> = (0..1_000)
        .map(|i| {
            let (mut stream, _) = listener.accept().unwrap();
            spawn_on(any_hub(i / 7), move || {
                let mut buffer = [0; 8];
                stream.read_exact(&mut buffer).unwrap();
                stream.write_all(&buffer).unwrap();
            })
        })
        .collect();
    go.set();
    assert!(joinall(&servers, None));
    for client in clients {
        client.join().unwrap();
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

#[test]
fn keepalive_is_the_systems() {
    let _deadline = deadline();
    let (ours, _theirs) = pair();
    let socket = socket2::SockRef::from(&ours);
    assert!(!socket.keepalive().unwrap());
    ours.set_keepalive(Some(Duration::from_secs(60))).unwrap();
    assert!(socket.keepalive().unwrap());
    assert_eq!(
        socket.tcp_keepalive_time().unwrap(),
        Duration::from_secs(60)
    );
    assert_eq!(
        socket.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(15)
    );
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
    ours.set_keepalive(Some(Duration::ZERO)).unwrap();
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(1));
    ours.set_keepalive(None).unwrap();
    assert!(!socket.keepalive().unwrap());
}

#[test]
fn connection_that_is_accepted_as_the_time_runs_out_is_not_lost() {
    const CLIENTS: usize = 300;
    let _deadline = deadline();
    let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 1_000).unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&over);
    // Each turn of this one is longer than the time for one connection.
    let slow = spawn_on(0, move || {
        while !theirs.load(Ordering::Relaxed) {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            sleep(Duration::ZERO);
        }
    });
    let accepted = spawn_on(0, move || {
        let (mut accepted, mut in_vain) = (0, 0);
        while accepted < CLIENTS && in_vain < 100 {
            let limit = Duration::from_micros(500);
            match with_timeout(limit, || listener.accept()) {
                Ok(connection) => {
                    connection.unwrap();
                    (accepted, in_vain) = (accepted + 1, 0);
                }
                Err(_) => in_vain += 1,
            }
        }
        accepted
    });
    assert_eq!(accepted.join().unwrap(), CLIENTS);
    over.store(true, Ordering::Relaxed);
    slow.join().unwrap();
    drop(clients);
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
