//! Servers of every kind: on Unix sockets, inherited and IPv6 listeners, with every `spawn`; the
//! behaviour that gevent's `test__server.py` checks.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::{
    ListenOptions, StreamListener, TcpListener, TcpStream, UnixListener, UnixStream, listen_fds,
};
use greenwood_runtime::{Event, Hub, Spawn, StreamServer, sleep, spawn, with_timeout};

use crate::support::{EVERYWHERE, case, child_with_hubs, deadline, eventually, open_descriptors};

const LONG: Duration = Duration::from_secs(3_600);

fn shout(mut stream: impl Read + Write) {
    let mut buffer = [0; 64];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n].to_ascii_uppercase()).is_err() {
            return;
        }
    }
}

fn check_shout(mut stream: impl Read + Write) {
    stream.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"HELLO");
}

fn abstract_name(test: &str) -> net::SocketAddr {
    net::SocketAddr::from_abstract_name(format!("greenwood-{test}-{}", std::process::id())).unwrap()
}

#[test]
fn unix_server_serves_and_removes_its_path() {
    let _deadline = deadline();
    let path = std::env::temp_dir().join(format!("greenwood-server-{}", std::process::id()));
    // What a process that was killed has left behind.
    drop(net::UnixListener::bind(&path).unwrap());
    for from in EVERYWHERE {
        let server = StreamServer::unix(&path, |stream, peer| {
            assert!(peer.is_unnamed());
            shout(stream);
        })
        .unwrap();
        assert_eq!(server.local_addr().as_pathname(), Some(&*path));
        // Somebody listens already.
        let error = StreamServer::unix(&path, |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        server.start().unwrap();
        let theirs = path.clone();
        from.run(move || check_shout(UnixStream::connect(theirs).unwrap()));
        server.stop(Duration::ZERO);
        assert!(!path.exists());
    }
}

#[test]
fn unix_server_on_an_abstract_name_stops_like_any_other() {
    let _deadline = deadline();
    let name = abstract_name("stops");
    let listener = UnixListener::bind_addr(&name).unwrap();
    let server = StreamServer::from_listener(listener, |_, _| sleep(LONG)).unwrap();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    let mut client = UnixStream::connect_addr(&name, None).unwrap();
    eventually("it is served", || server.connections() == 1);
    assert!(server.started() && !server.closed());
    server.stop(Duration::from_millis(5));
    assert!(!server.started() && server.closed());
    serving.join().unwrap().unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    let error = UnixStream::connect_addr(&name, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn accepting_may_be_suspended() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let server = StreamServer::new("127.0.0.1:0", |stream, _| shout(stream)).unwrap();
        let address = server.local_addr();
        for _ in 0..20 {
            server.start().unwrap();
            let theirs = server.clone();
            from.run(move || theirs.stop_accepting());
            assert!(!server.started() && !server.closed());
        }
        let waiting = TcpStream::connect(address).unwrap();
        waiting
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        (&waiting).write_all(b"x").unwrap();
        let error = (&waiting).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        server.start().unwrap();
        waiting.set_read_timeout(None).unwrap();
        assert_eq!((&waiting).read(&mut [0]).unwrap(), 1);
        // Who is connected is served on.
        server.stop_accepting();
        check_shout(waiting);
        server.stop(Duration::ZERO);
        assert!(server.start().is_err());
    }
}

#[test]
fn pool_lets_in_so_many() {
    let _deadline = deadline();
    let inside = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Event::new());
    let (counts, waits) = (Arc::clone(&inside), Arc::clone(&go));
    let server = StreamServer::new("127.0.0.1:0", move |mut stream, _| {
        assert!(counts.fetch_add(1, Ordering::SeqCst) < 2);
        stream.write_all(b"in").unwrap();
        waits.wait();
        counts.fetch_sub(1, Ordering::SeqCst);
    })
    .unwrap()
    .spawn(Spawn::Pool(2));
    server.start().unwrap();
    let address = server.local_addr();
    let clients: Vec<_> = (0..6)
        .map(|_| {
            spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.read_exact(&mut [0; 2]).unwrap();
            })
        })
        .collect();
    eventually("the pool is full", || inside.load(Ordering::SeqCst) == 2);
    assert!(clients.iter().filter(|client| !client.ready()).count() >= 4);
    go.set();
    for client in clients {
        client.join().unwrap();
    }
    server.stop(Duration::ZERO);
}

#[test]
#[should_panic(expected = "a pool of 0")]
fn empty_pool_is_refused() {
    let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
    drop(server.spawn(Spawn::Pool(0)));
}

#[test]
fn raw_handlers_are_nobodys_business() {
    let _deadline = deadline();
    let go = Arc::new(Event::new());
    let waits = Arc::clone(&go);
    let server = StreamServer::new("127.0.0.1:0", move |mut stream, _| {
        stream.write_all(b"in").unwrap();
        waits.wait();
        stream.write_all(b"out").unwrap();
    })
    .unwrap()
    .spawn(Spawn::Raw);
    server.start().unwrap();
    let mut client = TcpStream::connect(server.local_addr()).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(server.connections(), 0);
    // Neither waits for it nor kills it.
    server.stop(LONG);
    go.set();
    client.read_exact(&mut [0; 3]).unwrap();
}

#[test]
fn every_spawn_survives_a_panic_and_serves_many() {
    let _deadline = deadline();
    for mode in [Spawn::Greenlet, Spawn::Pool(2), Spawn::Raw] {
        let server = StreamServer::new("127.0.0.1:0", |mut stream, _| {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            if &byte == b"!" {
                std::panic::resume_unwind(Box::new("handler"));
            }
            stream.write_all(&byte).unwrap();
        })
        .unwrap()
        .spawn(mode)
        .max_accept(1);
        server.start().unwrap();
        let address = server.local_addr();
        let clients: Vec<_> = (0..30)
            .map(|i| {
                EVERYWHERE[i % 3].start(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream
                        .write_all(if i % 5 == 0 { b"!" } else { b"." })
                        .unwrap();
                    let read = stream.read(&mut [0]);
                    assert_eq!(matches!(read, Ok(1)), i % 5 != 0);
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client());
        server.stop(Duration::from_secs(20));
    }
}

#[test]
fn ipv6_listener_takes_ipv4_or_leaves_it() {
    let _deadline = deadline();
    let Ok(both) = ListenOptions::new().only_v6(false).listen("[::]:0") else {
        eprintln!("no IPv6 here");
        return;
    };
    let port = both.local_addr().unwrap().port();
    let server = StreamServer::from_listener(both, |mut stream, peer| {
        write!(stream, "{}", peer.ip()).unwrap();
    })
    .unwrap();
    server.start().unwrap();
    for (to, from) in [("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")] {
        let mut stream = TcpStream::connect((to, port)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, from);
    }
    server.stop(Duration::ZERO);
    let only = ListenOptions::new().only_v6(true).listen("[::]:0").unwrap();
    let port = only.local_addr().unwrap().port();
    // The port is free for IPv4: at an address that no other test uses, for any of their sockets
    // may have it at the others.
    let error = TcpStream::connect(("127.0.0.5", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    TcpListener::bind(("127.0.0.5", port)).unwrap();
}

#[test]
fn listeners_may_share_a_port_only_if_both_want() {
    let _deadline = deadline();
    let shared = ListenOptions::new().reuse_port(true);
    let first = shared.listen("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap();
    let second = shared.listen(address).unwrap();
    assert_eq!(
        TcpListener::bind(address).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    let alone = ListenOptions::new().reuse_addr(false).backlog(3);
    let alone = alone.listen("127.0.0.1:0").unwrap();
    assert!(!socket2::SockRef::from(&alone).reuse_address().unwrap());
    drop((first, second));
}

#[test]
fn inherited_listener_is_served() {
    let _deadline = deadline();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let inherited: OwnedFd = listener.as_fd().try_clone_to_owned().unwrap();
    drop(listener);
    let listener = TcpListener::from_fd(inherited).unwrap();
    let server = StreamServer::from_listener(listener, |stream, _| shout(stream)).unwrap();
    assert_eq!(server.local_addr(), address);
    server.start().unwrap();
    check_shout(TcpStream::connect(address).unwrap());
    server.stop(Duration::ZERO);
}

/// In a family that is neither, where the system has one.
#[test]
fn listeners_of_other_families_are_refused() {
    let listening = || {
        let other = socket2::Socket::new(socket2::Domain::VSOCK, socket2::Type::STREAM, None)?;
        // Any address and any port.
        other.bind(&socket2::SockAddr::vsock(u32::MAX, u32::MAX))?;
        other.listen(1)?;
        std::io::Result::Ok(other)
    };
    let Ok(other) = listening() else {
        eprintln!("no VSOCK here");
        return;
    };
    let error = StreamListener::from_fd(other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TCP or Unix"), "{error}");
}

/// As systemd starts a service: with descriptors from 3 on and variables that tell of them.
#[test]
fn sockets_of_a_service_manager_are_found_once() {
    let _deadline = deadline();
    if case().is_some() {
        let mut found = listen_fds();
        assert!(listen_fds().is_empty());
        assert_eq!(found.len(), 2);
        let names: Vec<_> = found.iter().map(|it| it.name.as_deref()).collect();
        assert_eq!(names, [Some("web"), Some("other")]);
        let listener = TcpListener::from_fd(found.swap_remove(0).fd).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"activated").unwrap();
        return;
    }
    // Nobody's manager has started this process.
    assert!(listen_fds().is_empty());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let test = "server_kinds::sockets_of_a_service_manager_are_found_once";
    let mut child = Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ exec \"$0\" --exact \"$1\" --nocapture 3<&0 4<&0",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("GREENWOOD_TEST_CASE", "x")
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "web:other")
        .stdin(Stdio::from(listener.as_fd().try_clone_to_owned().unwrap()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(listener);
    let mut text = String::new();
    TcpStream::connect(address)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "activated");
    assert!(child.wait().unwrap().success());
}

#[test]
fn unix_servers_leave_nothing_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            let test = "server_kinds::unix_servers_leave_nothing_behind";
            child_with_hubs(test, "x", hubs).passed();
        }
        return;
    }
    let name = abstract_name("leaves");
    let run = || {
        for round in 0..20 {
            let listener = UnixListener::bind_addr(&name).unwrap();
            let server = StreamServer::from_listener(listener, |stream, _| shout(stream)).unwrap();
            server.start().unwrap();
            let clients: Vec<_> = (0..6)
                .map(|i| {
                    let name = name.clone();
                    EVERYWHERE[i % 3].start(move || {
                        check_shout(UnixStream::connect_addr(&name, None).unwrap());
                    })
                })
                .collect();
            if round % 2 == 0 {
                let idle = UnixStream::connect_addr(&name, None).unwrap();
                assert!(with_timeout(Duration::from_millis(1), || (&idle).read(&mut [0])).is_err());
            }
            clients.into_iter().for_each(|client| client());
            server.stop(Duration::ZERO);
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}

#[test]
fn pool_is_the_same_after_accepting_was_suspended() {
    let _deadline = deadline();
    let inside = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Event::new());
    let (counts, waits) = (Arc::clone(&inside), Arc::clone(&go));
    let server = StreamServer::new("127.0.0.1:0", move |_stream, _| {
        counts.fetch_add(1, Ordering::SeqCst);
        waits.wait();
    })
    .unwrap()
    .spawn(Spawn::Pool(2));
    server.start().unwrap();
    let connect = || TcpStream::connect(server.local_addr()).unwrap();
    let _first = [connect(), connect()];
    eventually("two are served", || inside.load(Ordering::SeqCst) == 2);
    server.stop_accepting();
    server.start().unwrap();
    let _waiting = [connect(), connect()];
    sleep(Duration::from_millis(30));
    assert_eq!(inside.load(Ordering::SeqCst), 2);
    go.set();
    eventually("the others are served", || {
        inside.load(Ordering::SeqCst) == 4
    });
    server.stop(LONG);
}

#[test]
fn descriptors_of_this_process_are_no_service_managers() {
    let _deadline = deadline();
    if case().is_some() {
        // Its own: it is closed on exec, so nobody can have passed it on.
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let own = std::fs::File::open("/dev/null").unwrap();
        sleep(Duration::from_millis(1));
        assert_eq!(listen_fds().len(), 1);
        there.write_all(b"x").unwrap();
        assert_eq!(here.read(&mut [0]).unwrap(), 1);
        assert_eq!(spawn(|| 7).join().unwrap(), 7);
        assert!(own.metadata().is_ok());
        return;
    }
    for count in ["50", "4294967295"] {
        let ended = Command::new("sh")
            .args([
                "-c",
                "LISTEN_PID=$$ exec \"$0\" --exact \"$1\" --nocapture 3<&0",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg("server_kinds::descriptors_of_this_process_are_no_service_managers")
            .env("GREENWOOD_TEST_CASE", "x")
            .env("LISTEN_FDS", count)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{}: {text}", ended.status);
    }
}
