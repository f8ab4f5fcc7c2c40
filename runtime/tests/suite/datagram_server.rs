//! [`DatagramServer`].

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{UdpSocket, UnixDatagram};
use greenwood_runtime::{DatagramServer, Event, Hub, Queue, Spawn, sleep, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, From, OnDrop, case, child_with_hubs, deadline, deadline_of, eventually,
    open_descriptors, waiting,
};

const LONG: Duration = Duration::from_secs(3_600);

fn echo_server() -> DatagramServer {
    let server = DatagramServer::new("127.0.0.1:0", |server, datagram, peer| {
        server.sendto(&datagram, &peer).unwrap();
    })
    .unwrap();
    server.start().unwrap();
    server
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    client
}

#[track_caller]
fn port_gets_free(server: &DatagramServer) {
    eventually("the port is free", || {
        UdpSocket::bind(server.local_addr()).is_ok()
    });
}

#[test]
fn datagrams_are_answered_from_everywhere() {
    let _deadline = deadline();
    let server = echo_server();
    let address = server.local_addr();
    let clients: Vec<_> = (0..12)
        .map(|i| {
            EVERYWHERE[i % 3].start(move || {
                let client = client();
                let mut buffer = [0; 64];
                for round in 0..30_u8 {
                    client.send_to(&[round; 20], address).unwrap();
                    assert_eq!(client.recv_from(&mut buffer).unwrap(), (20, address));
                    assert_eq!(buffer[..20], [round; 20]);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client());
    assert!(server.started() && !server.closed());
    server.stop(Duration::from_secs(30));
    assert!(!server.started() && server.closed());
    port_gets_free(&server);
    assert!(server.start().is_err());
    assert!(server.sendto(b"x", &address).is_err());
}

#[test]
fn long_datagrams_are_cut_and_empty_ones_come() {
    let _deadline = deadline();
    let sizes = Arc::new(Queue::new(0));
    for (limit, expected) in [(None, 8192), (Some(100), 100), (Some(65_535), 20_000)] {
        let told = Arc::clone(&sizes);
        let mut server = DatagramServer::new("127.0.0.1:0", move |_, datagram, _| {
            told.put(datagram.len()).unwrap();
        })
        .unwrap();
        if let Some(limit) = limit {
            server = server.recv_size(limit);
        }
        // What comes before the start waits.
        let client = client();
        client.send_to(&[0; 20_000], server.local_addr()).unwrap();
        server.start().unwrap();
        assert_eq!(sizes.get().unwrap(), expected);
        client.send_to(&[], server.local_addr()).unwrap();
        assert_eq!(sizes.get().unwrap(), 0);
        server.stop(Duration::ZERO);
    }
}

#[test]
fn pool_receives_no_more_than_it_can_serve() {
    let _deadline = deadline();
    let inside = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Event::new());
    let (counts, waits) = (Arc::clone(&inside), Arc::clone(&go));
    let server = DatagramServer::new("127.0.0.1:0", move |server, datagram, peer| {
        assert!(counts.fetch_add(1, Ordering::SeqCst) < 3);
        waits.wait();
        counts.fetch_sub(1, Ordering::SeqCst);
        server.sendto(&datagram, &peer).unwrap();
    })
    .unwrap()
    .spawn(Spawn::Pool(3));
    server.start().unwrap();
    let client = client();
    for i in 0..20_u8 {
        client.send_to(&[i], server.local_addr()).unwrap();
    }
    eventually("the pool is full", || waiting(&*go) == 3);
    assert_eq!(server.handlers(), 3);
    go.set();
    let mut sum = 0;
    for _ in 0..20 {
        let mut byte = [0];
        client.recv_from(&mut byte).unwrap();
        sum += u32::from(byte[0]);
    }
    assert_eq!(sum, 190);
    server.stop(Duration::ZERO);
}

#[test]
fn handlers_finish_and_answer_or_are_killed() {
    let _deadline = deadline_of(Duration::from_secs(180));
    for stops in EVERYWHERE {
        // Those that finish need longer for that on a slow machine.
        let mut times = [200, 2_000, 20_000].map(Duration::from_millis).into_iter();
        assert!(
            times.any(|time| ends_of_a_stop(stops, time) == ["finished", "finished", "killed"])
        );
    }
}

/// What becomes of two handlers that finish once the server is stopped, and one that does not.
fn ends_of_a_stop(stops: From, time: Duration) -> Vec<&'static str> {
    let (ends, started) = (Arc::new(Queue::new(0)), Arc::new(AtomicUsize::new(0)));
    let (told, counts) = (Arc::clone(&ends), Arc::clone(&started));
    let server = DatagramServer::new("127.0.0.7:0", move |server, datagram, peer| {
        counts.fetch_add(1, Ordering::SeqCst);
        let how = std::cell::Cell::new("killed");
        let _tells = OnDrop(|| told.put_nowait(how.get()).unwrap());
        if datagram != b"short" {
            sleep(LONG);
        }
        // A closed server still answers.
        eventually("the server is closed", || server.closed());
        server.sendto(&datagram, &peer).unwrap();
        how.set("finished");
    })
    .unwrap();
    server.start().unwrap();
    let client = client();
    for kind in ["short", "long", "short"] {
        client
            .send_to(kind.as_bytes(), server.local_addr())
            .unwrap();
    }
    eventually("all are served", || started.load(Ordering::SeqCst) == 3);
    let theirs = server.clone();
    let start = Instant::now();
    stops.run(move || theirs.stop(time));
    assert!(start.elapsed() >= time);
    let mut ended: Vec<_> = (0..3).map(|_| ends.get_nowait().unwrap()).collect();
    ended.sort_unstable();
    for _ in ended.iter().filter(|how| **how == "finished") {
        assert_eq!(client.recv_from(&mut [0; 9]).unwrap().0, 5);
    }
    port_gets_free(&server);
    ended
}

#[test]
fn handler_that_panics_ends_alone() {
    let _deadline = deadline();
    for mode in [Spawn::Greenlet, Spawn::Pool(1), Spawn::Raw] {
        let server = DatagramServer::new("127.0.0.1:0", |server, datagram, peer| {
            if datagram == b"!" {
                std::panic::resume_unwind(Box::new("handler"));
            }
            server.sendto(&datagram, &peer).unwrap();
        })
        .unwrap()
        .spawn(mode);
        server.start().unwrap();
        let client = client();
        for _ in 0..10 {
            client.send_to(b"!", server.local_addr()).unwrap();
            client.send_to(b".", server.local_addr()).unwrap();
            assert_eq!(client.recv_from(&mut [0]).unwrap().0, 1);
        }
        server.stop(Duration::from_secs(30));
    }
}

#[test]
fn serve_forever_ends_by_stop_kill_and_time_out() {
    let _deadline = deadline();
    for serves in EVERYWHERE {
        for stops in EVERYWHERE {
            let server = DatagramServer::new("127.0.0.1:0", |_, _, _| ()).unwrap();
            let theirs = server.clone();
            let serving = serves.start(move || theirs.serve_forever().unwrap());
            eventually("it has started", || server.started());
            stops.run(move || server.stop(Duration::ZERO));
            serving();
        }
    }
    let server = DatagramServer::new("127.0.0.8:0", |_, _, _| ()).unwrap();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    eventually("it has started", || server.started());
    serving.kill();
    port_gets_free(&server);
    let limited = DatagramServer::new("127.0.0.8:0", |_, _, _| ()).unwrap();
    assert!(with_timeout(Duration::from_millis(5), || limited.serve_forever()).is_err());
    port_gets_free(&limited);
}

#[test]
fn handler_may_stop_its_own_server() {
    let _deadline = deadline();
    let server = DatagramServer::new("127.0.0.1:0", |server, _, peer| {
        server.close();
        server.sendto(b"bye", &peer).unwrap();
        server.stop(Duration::ZERO);
        assert!(server.sendto(b"bye", &peer).is_err());
    })
    .unwrap();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    let client = client();
    client.send_to(b"stop", server.local_addr()).unwrap();
    assert_eq!(client.recv_from(&mut [0; 9]).unwrap().0, 3);
    serving.join().unwrap().unwrap();
}

#[test]
fn receiving_may_be_suspended() {
    let _deadline = deadline();
    let server = echo_server();
    let client = client();
    for _ in 0..20 {
        server.stop_accepting();
        client.send_to(b"x", server.local_addr()).unwrap();
        let late = with_timeout(Duration::from_millis(2), || client.recv_from(&mut [0]));
        assert!(late.is_err());
        server.start().unwrap();
        assert_eq!(client.recv_from(&mut [0]).unwrap().0, 1);
    }
    server.stop(Duration::ZERO);
}

#[test]
fn unix_datagrams_are_served_and_none_is_lost() {
    let _deadline = deadline();
    let name = |which: &str| {
        let name = format!("greenwood-datagram-{which}-{}", std::process::id());
        net::SocketAddr::from_abstract_name(name).unwrap()
    };
    let socket = UnixDatagram::bind_addr(&name("server")).unwrap();
    let server = DatagramServer::from_socket(socket, |server, datagram, peer| {
        server.sendto(&datagram, &peer).unwrap();
    })
    .unwrap();
    server.start().unwrap();
    let client = UnixDatagram::bind_addr(&name("client")).unwrap();
    let (sends, to) = (client.clone(), server.local_addr());
    let sending = spawn(move || {
        for i in 0..300_u64 {
            sends.send_to_addr(&i.to_le_bytes(), &to).unwrap();
        }
    });
    let (mut sum, mut buffer) = (0, [0; 8]);
    for _ in 0..300 {
        client.recv(&mut buffer).unwrap();
        sum += u64::from_le_bytes(buffer);
    }
    assert_eq!(sum, 300 * 299 / 2);
    sending.join().unwrap();
    server.stop(Duration::ZERO);
}

#[test]
fn broken_socket_ends_the_server() {
    let _deadline = deadline();
    let (reader, _writer) = std::io::pipe().unwrap();
    // A pipe is no socket, and has no address.
    let socket = UdpSocket::from_fd(OwnedFd::from(reader)).unwrap();
    assert!(DatagramServer::from_socket(socket, |_, _, _| ()).is_err());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = DatagramServer::from_socket(socket.clone(), |_, _, _| ()).unwrap();
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    eventually("it has started", || server.started());
    socket.close();
    let error = serving.join().unwrap().unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
    assert!(server.closed());
}

#[test]
fn nothing_is_left_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs("datagram_server::nothing_is_left_behind", "x", hubs).passed();
        }
        return;
    }
    let run = || {
        for round in 0..30 {
            let server = echo_server();
            let client = client();
            for _ in 0..20 {
                client.send_to(b"x", server.local_addr()).unwrap();
            }
            if round % 2 == 0 {
                client.recv_from(&mut [0]).unwrap();
            }
            match round % 3 {
                0 => server.stop(Duration::ZERO),
                1 => {
                    server.close();
                    server.finish(LONG);
                }
                _ => server.close(),
            }
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}
