//! Handshakes: who is let in, what is agreed on, and how long it may take.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{ClientTls, ServerTls, TcpListener, TcpStream, TlsStream};
use greenwood_runtime::{Event, Hub, StreamServer, sleep, spawn, with_timeout};
use rcgen::date_time_ymd;

use super::{Authority, client, server, shake_hands, tcp_pair};
use crate::support::{
    EVERYWHERE, any_hub, case, child_with_hubs, deadline, eventually, open_descriptors, spawn_on,
    until_waits,
};

/// What the client has got wrong about the server.
#[track_caller]
fn refused(client: &ClientTls, server: &ServerTls, name: &str, why: &str) {
    let (here, there) = shake_hands(client, server, name);
    let error = here.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    // It was told so.
    let error = there.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn both_sides_know_what_was_agreed_on() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, mut there) = from.run(super::pair);
        for side in [&here, &there] {
            let info = side.info();
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
            assert_eq!(info.version, "TLSv1.3");
            assert!(info.cipher.starts_with("TLS_"), "{}", info.cipher);
            assert_eq!(info.alpn, None);
        }
        assert_eq!(here.info().peer_certificates.len(), 1);
        assert!(there.info().peer_certificates.is_empty());
        from.run(move || {
            here.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            there.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
            there.write_all(&buffer).unwrap();
            here.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
        });
    }
}

#[test]
fn client_refuses_a_certificate_for_another_name() {
    let _deadline = deadline();
    let (client, server) = (client().build().unwrap(), server().build().unwrap());
    refused(&client, &server, "example.org", "for another name");
    refused(&client, &server, "127.0.0.1", "for another name");
}

#[test]
fn client_refuses_a_certificate_that_has_expired() {
    let _deadline = deadline();
    let (certificate, key) = Authority::trusted().certify_with(&["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let identity = greenwood_runtime::net::Identity::pem(certificate, key);
    let server = ServerTls::builder(identity).build().unwrap();
    refused(&client().build().unwrap(), &server, "localhost", "expired");
}

#[test]
fn client_refuses_an_authority_that_it_does_not_know() {
    let _deadline = deadline();
    let stranger = Authority::new("somebody else");
    let server = ServerTls::builder(stranger.identity(&["localhost"]))
        .build()
        .unwrap();
    refused(
        &client().build().unwrap(),
        &server,
        "localhost",
        "not accepted",
    );
    // Where nothing is checked, all of it goes.
    let blind = client().dangerous_accept_any_certificate().build().unwrap();
    let (here, there) = shake_hands(&blind, &server, "example.org");
    assert!(here.is_ok() && there.is_ok(), "{here:?} {there:?}");
}

#[test]
fn addresses_are_names_too() {
    let _deadline = deadline();
    let identity = Authority::trusted().identity(&["127.0.0.1", "::1"]);
    let server = ServerTls::builder(identity).build().unwrap();
    let client = client().build().unwrap();
    for name in ["127.0.0.1", "::1", "[::1]"] {
        let (here, there) = shake_hands(&client, &server, name);
        assert!(here.is_ok(), "{here:?}");
        assert_eq!(there.unwrap().info().server_name, None);
    }
    let (here, _there) = tcp_pair();
    let error = TlsStream::connect(here, "no name", &client).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn protocols_are_agreed_on_by_alpn() {
    let _deadline = deadline();
    let server = server().alpn(["http/1.1"]).build().unwrap();
    let agreed = |offered: &[&str]| {
        let client = client().alpn(offered.iter().copied()).build().unwrap();
        shake_hands(&client, &server, "localhost")
    };
    let (here, there) = agreed(&["h2", "http/1.1"]);
    assert_eq!(here.unwrap().info().alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(
        there.unwrap().info().alpn.as_deref(),
        Some(&b"http/1.1"[..])
    );
    let (here, there) = agreed(&[]);
    assert_eq!(here.unwrap().info().alpn, None);
    assert_eq!(there.unwrap().info().alpn, None);

    let (here, there) = agreed(&["h2"]);
    let (here, there) = (here.unwrap_err(), there.unwrap_err());
    assert_eq!(here.kind(), ErrorKind::ConnectionAborted, "{here}");
    assert!(here.to_string().contains("ALPN"), "{here}");
    assert_eq!(there.kind(), ErrorKind::InvalidData, "{there}");
    assert!(there.to_string().contains("ALPN"), "{there}");
}

#[test]
fn client_without_a_required_certificate_is_refused() {
    let _deadline = deadline();
    let authority = Authority::trusted();
    let server = server()
        .require_client_cert_pem(&*authority.pem)
        .build()
        .unwrap();

    let (here, there) = shake_hands(&client().build().unwrap(), &server, "localhost");
    let error = there.unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
    // In TLS 1.3 the client is done before the server has judged it, and hears of it by reading.
    let error = here.unwrap().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");

    let stranger = Authority::new("somebody else").identity(&["me"]);
    let wrong = client().identity(stranger).build().unwrap();
    let (_, there) = shake_hands(&wrong, &server, "localhost");
    let error = there.unwrap_err();
    assert!(error.to_string().contains("not accepted"), "{error}");

    let known = client()
        .identity(authority.identity(&["me"]))
        .build()
        .unwrap();
    let (here, there) = shake_hands(&known, &server, "localhost");
    assert_eq!(there.unwrap().info().peer_certificates.len(), 1);
    drop(here.unwrap());
}

#[test]
fn client_without_a_requested_certificate_gets_in() {
    let _deadline = deadline();
    let authority = Authority::trusted();
    let server = server()
        .request_client_cert_pem(&*authority.pem)
        .build()
        .unwrap();
    let (here, there) = shake_hands(&client().build().unwrap(), &server, "localhost");
    assert!(there.unwrap().info().peer_certificates.is_empty());
    drop(here.unwrap());
    let known = client()
        .identity(authority.identity(&["me"]))
        .build()
        .unwrap();
    let (here, there) = shake_hands(&known, &server, "localhost");
    assert_eq!(there.unwrap().info().peer_certificates.len(), 1);
    drop(here.unwrap());
}

#[test]
fn plain_http_is_recognised_as_such() {
    let _deadline = deadline();
    let (mut here, there) = tcp_pair();
    here.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let error = TlsStream::accept(there, &server().build().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("plain HTTP"), "{error}");

    // And a server that speaks none.
    let (here, mut there) = tcp_pair();
    there.write_all(b"220 mail.example.org\r\n").unwrap();
    let error = TlsStream::connect(here, "localhost", &client().build().unwrap()).unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
}

#[test]
fn garbage_fails_the_handshake() {
    let _deadline = deadline();
    let server = server().build().unwrap();
    for garbage in [
        &[0x16, 3, 1, 0xff, 0xff][..],
        &[0; 100],
        &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff, 0x16, 3, 1, 0, 1, 0],
    ] {
        let (mut here, there) = tcp_pair();
        here.write_all(garbage).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        let error = TlsStream::accept(there, &server).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ),
            "{error}"
        );
    }
}

const LIMIT: Duration = Duration::from_millis(150);

#[test]
fn silent_peer_is_given_up_after_the_time_limit() {
    let _deadline = deadline();
    let server = server().handshake_timeout(LIMIT).build().unwrap();
    let client = client().handshake_timeout(LIMIT).build().unwrap();
    for from in EVERYWHERE {
        let (server, client) = (server.clone(), client.clone());
        from.run(move || {
            let (here, there) = tcp_pair();
            let start = Instant::now();
            let error = TlsStream::accept(there, &server).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains("150ms"), "{error}");
            assert!(start.elapsed() >= LIMIT);
            drop(here);

            let (here, _there) = tcp_pair();
            let error = TlsStream::connect(here, "localhost", &client).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        });
    }
}

/// Copies what comes to `to`, so many bytes at a time.
fn relay(mut from: TcpStream, mut to: TcpStream, pause: Option<Duration>) {
    let mut byte = [0];
    while let Ok(1) = from.read(&mut byte) {
        if let Some(pause) = pause {
            sleep(pause);
        }
        if to.write_all(&byte).is_err() {
            return;
        }
    }
    to.shutdown(std::net::Shutdown::Write).ok();
}

/// Two ends of a connection that passes bytes on one by one.
fn dripping(pause: Option<Duration>) -> (TcpStream, TcpStream) {
    let (here, near) = tcp_pair();
    let (far, there) = tcp_pair();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (near_too, far_too) = (near.clone(), far.clone());
    spawn_on(any_hub(0), move || relay(near, far, pause));
    spawn_on(any_hub(1), move || relay(far_too, near_too, None));
    (here, there)
}

#[test]
fn handshake_succeeds_byte_by_byte() {
    let _deadline = deadline();
    let (here, there) = dripping(None);
    let (client, server) = (client().build().unwrap(), server().build().unwrap());
    let accepting = spawn(move || {
        let mut there = TlsStream::accept(there, &server).unwrap();
        let mut received = Vec::new();
        there.read_to_end(&mut received).unwrap();
        received
    });
    let mut here = TlsStream::connect(here, "localhost", &client).unwrap();
    here.write_all(b"one by one").unwrap();
    // Not dropped yet: what the server says behind the handshake is still on its way, and a socket
    // that is closed before it has been read resets the connection.
    here.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(accepting.join().unwrap(), b"one by one");
}

#[test]
fn dripping_peer_is_cut_at_the_time_limit() {
    let _deadline = deadline();
    let (here, there) = dripping(Some(Duration::from_millis(5)));
    let client = client().build().unwrap();
    let server = server().handshake_timeout(LIMIT).build().unwrap();
    let connecting = spawn(move || TlsStream::connect(here, "localhost", &client));
    let error = TlsStream::accept(there, &server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(connecting.join().unwrap().is_err());
}

#[test]
fn handshake_can_be_killed_and_timed_out() {
    if case().is_none() {
        for hubs in [1, 2] {
            child_with_hubs(
                "tls::handshake::handshake_can_be_killed_and_timed_out",
                "alone",
                hubs,
            )
            .passed();
        }
        return;
    }
    let _deadline = deadline();
    let server = server().build().unwrap();
    let client = client().build().unwrap();
    drop(super::pair());
    eventually("no greenlet", || Hub::greenlets() == 0);
    let before = open_descriptors();
    for round in 0..50 {
        let (here, there) = tcp_pair();
        let (server, client) = (server.clone(), client.clone());
        let accepting = spawn_on(any_hub(round), move || TlsStream::accept(there, &server));
        if round % 2 == 0 {
            until_waits(accepting.id());
        }
        accepting.kill();
        assert!(accepting.join().unwrap_err().is_killed());
        let connecting = spawn_on(any_hub(round), move || {
            with_timeout(Duration::from_millis(1), || {
                TlsStream::connect(here, "localhost", &client)
            })
        });
        // The other end is gone, or nobody answers: either is an end.
        match connecting.join().unwrap() {
            Ok(result) => drop(result.unwrap_err()),
            Err(_elapsed) => {}
        }
    }
    eventually("no greenlet", || Hub::greenlets() == 0);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn handshake_fits_a_stack_of_128_kib() {
    let _deadline = deadline();
    let (here, there) = tcp_pair();
    let authority = Authority::trusted();
    let server = server()
        .require_client_cert_pem(&*authority.pem)
        .build()
        .unwrap();
    let client = client()
        .identity(authority.identity(&["me"]))
        .build()
        .unwrap();
    let small = || greenwood_runtime::Builder::new().stack_size(128 * 1024);
    let accepting = small().spawn(move || TlsStream::accept(there, &server));
    let connecting = small().spawn(move || TlsStream::connect(here, "localhost", &client));
    assert!(accepting.unwrap().join().unwrap().is_ok());
    assert!(connecting.unwrap().join().unwrap().is_ok());
}

#[test]
fn stream_server_serves_tls_and_survives_bad_handshakes() {
    let _deadline = deadline();
    let handle = |mut stream: TlsStream, _| {
        let mut buffer = [0; 100];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    };
    let tls = server().build().unwrap();
    let server = StreamServer::with_tls("127.0.0.1:0", tls, handle).unwrap();
    server.start().unwrap();
    let address = server.local_addr();
    let client = client().build().unwrap();
    for _ in 0..5 {
        let mut plain = TcpStream::connect(address).unwrap();
        plain.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        // Closed, with or without a reset.
        assert!(!matches!(plain.read(&mut [0]), Ok(1..)));
        let tcp = TcpStream::connect(address).unwrap();
        let mut stream = TlsStream::connect(tcp, "localhost", &client).unwrap();
        stream.write_all(b"echo").unwrap();
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"echo");
    }
    // Half a handshake is no reason to wait for.
    let _half = TcpStream::connect(address).unwrap();
    server.stop(Duration::ZERO);
}

#[test]
fn handshakes_leave_nothing_behind() {
    if case().is_none() {
        child_with_hubs(
            "tls::handshake::handshakes_leave_nothing_behind",
            "alone",
            2,
        )
        .passed();
        return;
    }
    let _deadline = deadline();
    drop(super::pair());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    eventually("no greenlet", || Hub::greenlets() == 0);
    let before = open_descriptors();
    for _ in 0..50 {
        let (mut here, mut there) = super::pair();
        here.write_all(b"x").unwrap();
        there.read_exact(&mut [0]).unwrap();
        let done = Event::new();
        drop((here, there, done));
    }
    eventually("no greenlet", || Hub::greenlets() == 0);
    assert_eq!(open_descriptors(), before);
    drop(listener);
}
