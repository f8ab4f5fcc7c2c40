//! Listening, accepting and connecting, and what a connection is set to.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Hub, with_timeout};

use super::{LONG, pair};
use crate::others::LongTurns;
use crate::support::{EVERYWHERE, deadline, refusing, spawn_on};

#[test]
fn connect_reports_refusal_and_time_out() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let address = refusing();
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
fn connection_that_is_accepted_as_the_time_runs_out_is_not_lost() {
    const CLIENTS: usize = 300;
    let _deadline = deadline();
    let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 1_000).unwrap();
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Each turn of this one is longer than the time for one connection.
    let _slow = LongTurns::start();
    let accepted = spawn_on(0, move || {
        let (mut accepted, mut in_vain) = (0, 0);
        while accepted < CLIENTS && in_vain < 2_000 {
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
    drop(clients);
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
