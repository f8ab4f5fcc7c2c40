//! [`StreamServer`].

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Event, Queue, StreamServer, sleep, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, From, OnDrop, case, child_with_hubs, deadline, deadline_of, eventually,
    open_descriptors,
};

const LONG: Duration = Duration::from_secs(3_600);

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

fn echo_server() -> StreamServer {
    let server = StreamServer::new("127.0.0.1:0", |stream, _| echo(stream)).unwrap();
    server.start().unwrap();
    server
}

fn check_echo(stream: &mut TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
}

/// Of an address that no other test uses, which could have got the port meanwhile. Not always at
/// once: a test that starts a child process has every descriptor open twice for a moment.
#[track_caller]
fn port_gets_free(address: SocketAddr) {
    eventually("the port is free", || TcpListener::bind(address).is_ok());
}

#[test]
fn serves_clients_of_every_kind() {
    let _deadline = deadline();
    let server = echo_server();
    let address = server.local_addr();
    let clients: Vec<_> = (0..60)
        .map(|i| {
            EVERYWHERE[i % 3].start(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                for _ in 0..50 {
                    check_echo(&mut stream);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client());
    server.stop(Duration::from_secs(30));
    assert_eq!(server.connections(), 0);
}

#[test]
fn serve_forever_returns_when_the_server_is_stopped() {
    let _deadline = deadline();
    for serves in EVERYWHERE {
        for stops in EVERYWHERE {
            let server = StreamServer::new("127.0.0.1:0", |stream, _| echo(stream)).unwrap();
            let theirs = server.clone();
            let serving = serves.start(move || theirs.serve_forever().unwrap());
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            check_echo(&mut stream);
            stops.run(move || server.stop(Duration::ZERO));
            serving();
        }
    }
}

#[test]
fn max_connections_bounds_and_resumes() {
    let _deadline = deadline();
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (now, top) = (Arc::clone(&inside), Arc::clone(&most));
    let server = StreamServer::new("127.0.0.1:0", move |mut stream, _| {
        top.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _leaves = OnDrop(|| {
            now.fetch_sub(1, Ordering::SeqCst);
        });
        stream.write_all(b"in").unwrap();
        stream.read_exact(&mut [0]).ok();
    })
    .unwrap()
    .max_connections(3)
    .backlog(50);
    server.start().unwrap();
    let address = server.local_addr();
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(30)))
            .unwrap();
        stream
    };
    let mut first: Vec<_> = (0..3).map(|_| connect()).collect();
    for stream in &mut first {
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
    }
    // The fourth waits in the backlog until one of the others leaves.
    let mut fourth = connect();
    assert_eq!(
        fourth.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(server.connections(), 3);
    first.pop();
    fourth.set_read_timeout(None).unwrap();
    fourth.read_exact(&mut [0; 2]).unwrap();
    drop((first, fourth));
    let many: Vec<_> = (0..30)
        .map(|_| {
            spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.read_exact(&mut [0; 2]).unwrap();
            })
        })
        .collect();
    for client in many {
        client.join().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    server.stop(Duration::ZERO);
    assert_eq!(inside.load(Ordering::SeqCst), 0);
}

#[test]
#[should_panic(expected = "max_connections is 0")]
fn zero_connections_are_refused() {
    let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
    drop(server.max_connections(0));
}

#[test]
fn handler_that_panics_ends_its_connection_only() {
    let _deadline = deadline();
    let server = StreamServer::new("127.0.0.1:0", |mut stream, _| {
        let mut buffer = [0];
        while stream.read_exact(&mut buffer).is_ok() {
            if &buffer == b"!" {
                std::panic::resume_unwind(Box::new("handler"));
            }
            stream.write_all(&buffer).unwrap();
        }
    })
    .unwrap()
    .max_connections(2);
    server.start().unwrap();
    let mut quiet = TcpStream::connect(server.local_addr()).unwrap();
    for _ in 0..20 {
        let mut doomed = TcpStream::connect(server.local_addr()).unwrap();
        doomed.write_all(b"!").unwrap();
        assert!(matches!(doomed.read(&mut [0]), Ok(0) | Err(_)));
    }
    check_echo(&mut quiet);
    server.stop(Duration::ZERO);
}

#[test]
fn stop_lets_handlers_finish_and_kills_the_rest() {
    let _deadline = deadline_of(Duration::from_secs(180));
    for stops in EVERYWHERE {
        // Those that finish need longer for that on a slow machine.
        let mut times = [200, 2_000, 20_000].map(Duration::from_millis).into_iter();
        let expected = ["finished", "finished", "killed", "killed"];
        assert!(times.any(|time| ends_of_a_stop(stops, time) == expected));
    }
}

/// What becomes of two handlers that finish once the server is stopped, and two that do not.
fn ends_of_a_stop(stops: From, time: Duration) -> Vec<&'static str> {
    let (ends, stopping) = (Arc::new(Queue::new(0)), Arc::new(Event::new()));
    let started = Arc::new(AtomicUsize::new(0));
    let (told, counts, finish) = (
        Arc::clone(&ends),
        Arc::clone(&started),
        Arc::clone(&stopping),
    );
    let server = StreamServer::new("127.0.0.3:0", move |mut stream, _| {
        let mut buffer = [0];
        stream.read_exact(&mut buffer).unwrap();
        counts.fetch_add(1, Ordering::SeqCst);
        let told = Arc::clone(&told);
        let how = Cell::new("killed");
        let _tells = OnDrop(|| told.put_nowait(how.get()).unwrap());
        if &buffer == b"s" {
            finish.wait();
        } else {
            sleep(LONG);
        }
        how.set("finished");
    })
    .unwrap();
    server.start().unwrap();
    let clients: Vec<_> = [b"s", b"l", b"s", b"l"]
        .into_iter()
        .map(|kind| {
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            stream.write_all(kind).unwrap();
            stream
        })
        .collect();
    eventually("all are served", || started.load(Ordering::SeqCst) == 4);
    let theirs = server.clone();
    let start = Instant::now();
    let stop = stops.start(move || theirs.stop(time));
    eventually("it is stopped", || server.closed());
    stopping.set();
    stop();
    assert!(start.elapsed() >= time);
    let mut ended: Vec<_> = (0..4).map(|_| ends.get_nowait().unwrap()).collect();
    ended.sort_unstable();
    // The connections are closed and the port is free.
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    port_gets_free(server.local_addr());
    let error = server.start().unwrap_err();
    assert!(error.to_string().contains("has been stopped"), "{error}");
    server.stop(Duration::ZERO);
    ended
}

#[test]
fn stop_waits_no_longer_than_its_handlers_do() {
    let _deadline = deadline();
    let server = echo_server();
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    check_echo(&mut stream);
    drop(stream);
    server.stop(LONG);
}

#[test]
fn handler_may_stop_its_own_server() {
    let _deadline = deadline();
    let (sender, receiver) = std::sync::mpsc::channel::<StreamServer>();
    let receiver = std::sync::Mutex::new(receiver);
    let server = StreamServer::new("127.0.0.1:0", move |mut stream, _| {
        let mut buffer = [0];
        stream.read_exact(&mut buffer).unwrap();
        if &buffer == b"q" {
            let server = receiver.lock().unwrap().recv().unwrap();
            server.stop(Duration::from_millis(5));
            // It is left alone by its own stop.
            stream.write_all(b"stopped").unwrap();
        }
        sleep(if &buffer == b"q" {
            Duration::ZERO
        } else {
            LONG
        });
    })
    .unwrap();
    sender.send(server.clone()).unwrap();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    let mut idle = TcpStream::connect(server.local_addr()).unwrap();
    idle.write_all(b"x").unwrap();
    let mut quits = TcpStream::connect(server.local_addr()).unwrap();
    quits.write_all(b"q").unwrap();
    let mut answer = String::new();
    quits.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "stopped");
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    serving.join().unwrap().unwrap();
}

#[test]
fn start_and_stop_may_be_repeated_and_race() {
    let _deadline = deadline();
    for round in 0..100 {
        let server = StreamServer::new("127.0.0.2:0", |stream, _| echo(stream)).unwrap();
        let address = server.local_addr();
        let parts: Vec<_> = (0..4)
            .map(|i| {
                let server = server.clone();
                EVERYWHERE[(round + i) % 3].start(move || match i {
                    0 | 1 => drop(server.start()),
                    2 => server.stop(Duration::ZERO),
                    _ => drop(TcpStream::connect(address)),
                })
            })
            .collect();
        parts.into_iter().for_each(|part| part());
        server.stop(Duration::ZERO);
        assert!(server.start().is_err());
        port_gets_free(address);
    }
    let server = echo_server();
    server.start().unwrap();
    server.start().unwrap();
    check_echo(&mut TcpStream::connect(server.local_addr()).unwrap());
    server.stop(Duration::ZERO);
    server.stop(Duration::ZERO);
    // Stopped before it was ever started.
    let never = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
    never.stop(LONG);
    assert!(never.serve_forever().is_err());
}

#[test]
fn connections_accepted_just_before_the_stop_are_closed() {
    let _deadline = deadline();
    for round in 0..60 {
        let server = echo_server();
        let address = server.local_addr();
        let clients: Vec<_> = (0..8)
            .map(|i| {
                EVERYWHERE[i % 3].start(move || {
                    let Ok(mut stream) = TcpStream::connect(address) else {
                        return;
                    };
                    stream
                        .set_read_timeout(Some(Duration::from_secs(30)))
                        .unwrap();
                    stream.write_all(b"x").ok();
                    // Served or not, it ends.
                    while matches!(stream.read(&mut [0]), Ok(1)) {}
                })
            })
            .collect();
        if round % 2 == 0 {
            sleep(Duration::from_micros(round * 10));
        }
        server.stop(Duration::ZERO);
        clients.into_iter().for_each(|client| client());
    }
}

/// gevent's servers treat these as fatal: trying again would spin.
#[test]
fn broken_listener_ends_accepting() {
    let _deadline = deadline();
    let plain = |kind| -> OwnedFd {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&address.into()).unwrap();
        socket.into()
    };
    for kind in [socket2::Type::DGRAM, socket2::Type::STREAM] {
        let listener = TcpListener::from_fd(plain(kind)).unwrap();
        let server = StreamServer::from_listener(listener, |_, _| ()).unwrap();
        let error = server.serve_forever().unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
        assert!(server.start().is_err());
    }
}

#[test]
fn kill_of_serve_forever_stops_accepting() {
    let _deadline = deadline();
    let server = StreamServer::new("127.0.0.4:0", |stream, _| echo(stream)).unwrap();
    let address = server.local_addr();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    let mut stream = TcpStream::connect(address).unwrap();
    check_echo(&mut stream);
    serving.kill();
    port_gets_free(address);
    // Who is connected is served on, until the stop.
    check_echo(&mut stream);
    server.stop(Duration::ZERO);
    let limited = StreamServer::new("127.0.0.4:0", |_, _| ()).unwrap();
    assert!(with_timeout(Duration::from_millis(5), || limited.serve_forever()).is_err());
    port_gets_free(limited.local_addr());
}

#[test]
fn server_that_is_stopped_before_it_accepts_ends_well() {
    let _deadline = deadline();
    for i in 0..300 {
        let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
        server.start().unwrap();
        if i % 2 == 0 {
            server.stop(Duration::ZERO);
        } else {
            let theirs = server.clone();
            spawn(move || theirs.stop(Duration::ZERO)).join().unwrap();
        }
        server.join().unwrap();
        assert!(server.start().unwrap_err().to_string().contains("stopped"));
    }
}

/// Who stops and can't wait to the end still ends what is being served, and who waits for it.
#[test]
fn interrupted_stop_ends_the_connections() {
    let _deadline = deadline();
    for killed in [false, true] {
        let server = StreamServer::new("127.0.0.1:0", |_, _| sleep(LONG)).unwrap();
        let theirs = server.clone();
        let serving = std::thread::spawn(move || theirs.serve_forever());
        let _client = TcpStream::connect(server.local_addr()).unwrap();
        eventually("it is served", || server.connections() == 1);
        let theirs = server.clone();
        if killed {
            let stopping = spawn(move || theirs.stop(LONG));
            eventually("it has closed", || server.start().is_err());
            stopping.kill();
        } else {
            let limited =
                spawn(move || with_timeout(Duration::from_millis(20), || theirs.stop(LONG)));
            assert!(limited.join().unwrap().is_err());
        }
        serving.join().unwrap().unwrap();
        eventually("they have ended", || server.connections() == 0);
    }
}

#[test]
fn handlers_that_stop_their_server_at_once_do_not_hang_it() {
    let _deadline = deadline();
    for _ in 0..50 {
        let (ready, go) = (Arc::new(Queue::new(0)), Arc::new(Event::new()));
        let servers: Arc<Queue<StreamServer>> = Arc::new(Queue::new(0));
        let (theirs, start, given) = (Arc::clone(&ready), Arc::clone(&go), Arc::clone(&servers));
        let server = StreamServer::new("127.0.0.1:0", move |_, _| {
            let server = given.get().unwrap();
            theirs.put(()).unwrap();
            start.wait();
            server.stop(Duration::ZERO);
        })
        .unwrap();
        let theirs = server.clone();
        let serving = std::thread::spawn(move || theirs.serve_forever());
        let _clients: Vec<_> = (0..8)
            .map(|_| {
                servers.put(server.clone()).unwrap();
                TcpStream::connect(server.local_addr()).unwrap()
            })
            .collect();
        for _ in 0..8 {
            ready.get().unwrap();
        }
        go.set();
        serving.join().unwrap().unwrap();
    }
}

/// Everything at once, again and again: descriptors and live greenlets return to the start.
#[test]
fn nothing_is_left_behind() {
    let _deadline = deadline_of(Duration::from_secs(120));
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs("server::nothing_is_left_behind", "x", hubs).passed();
        }
        return;
    }
    let run = |round: usize| {
        let server = echo_server();
        let address = server.local_addr();
        let go = Arc::new(Event::new());
        let served = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..40)
            .map(|i| {
                let (go, served) = (Arc::clone(&go), Arc::clone(&served));
                EVERYWHERE[i % 3].start(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    check_echo(&mut stream);
                    served.fetch_add(1, Ordering::SeqCst);
                    go.wait();
                    if i % 2 == 0 {
                        stream.set_reset_on_close(true).unwrap();
                    }
                })
            })
            .collect();
        if round.is_multiple_of(2) {
            eventually("all have had their echo", || {
                served.load(Ordering::SeqCst) == 40
            });
            server.stop(Duration::ZERO);
            go.set();
        } else {
            go.set();
        }
        clients.into_iter().for_each(|client| client());
        server.stop(LONG);
    };
    run(0);
    run(1);
    eventually("all has ended", || greenwood_runtime::Hub::greenlets() == 0);
    let before = open_descriptors();
    for round in 0..10 {
        run(round);
    }
    eventually("no greenlet is left", || {
        greenwood_runtime::Hub::greenlets() == 0
    });
    assert_eq!(open_descriptors(), before);
}
