//! Pings, their deadline, and the idle time-out.

mod io_support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use greenwood_runtime::sleep;
use greenwood_websocket::{Disconnect, WebSocketConfig, WebSocketError};
use io_support::*;

const SHORT: Duration = Duration::from_millis(60);

fn pinging(interval: Duration, timeout: Duration) -> WebSocketConfig {
    WebSocketConfig::default().ping(interval, timeout)
}

/// A server that echoes and tells how each WebSocket ended.
fn serve_and_tell(config: WebSocketConfig) -> (Server, mpsc::Receiver<Disconnect>) {
    let (ends, ended) = mpsc::channel();
    let server = serve_with(config, move |ws| {
        let result = echo(ws.clone());
        ends.send(ws.disconnect().expect("it has ended")).ok();
        result
    });
    (server, ended)
}

/// The next ping, answered.
fn answer_ping(peer: &mut Peer) -> Vec<u8> {
    let frame = peer.frame();
    assert_eq!(frame.opcode, PING);
    peer.write(io_support::frame(true, PONG, &frame.payload));
    frame.payload
}

#[test]
fn pings_come_by_interval_and_measure_the_way() {
    let (tell, told) = mpsc::channel();
    let server = serve_with(pinging(SHORT, NEVER), move |ws| {
        while let Some(message) = ws.receive()? {
            tell.send(ws.rtt()).unwrap();
            ws.send(message)?;
        }
        Ok(())
    });
    let mut peer = server.open();
    peer.write(text("before"));
    peer.expect(TEXT, "before");
    assert_eq!(told.recv().unwrap(), None);
    let began = Instant::now();
    let mut payloads: Vec<_> = (0..5).map(|_| answer_ping(&mut peer)).collect();
    assert!(began.elapsed() >= SHORT * 4, "{:?}", began.elapsed());
    peer.write(text("after"));
    loop {
        let frame = peer.frame();
        if frame.opcode == TEXT {
            break;
        }
    }
    let rtt = told.recv().unwrap().expect("pongs have come");
    assert!(rtt < DEADLINE);
    // Each is another, so that a late pong is not taken for the next one's.
    payloads.dedup();
    assert_eq!(payloads.len(), 5);
    peer.close_amid_pings();
}

#[test]
fn peer_that_answers_no_ping_is_cut() {
    let (server, ended) = serve_and_tell(pinging(SHORT, SHORT));
    let mut silent = server.open();
    let began = Instant::now();
    assert_eq!(silent.frame().opcode, PING);
    assert_eq!(silent.close_code(), 1011);
    assert!(began.elapsed() >= SHORT * 2 - Duration::from_millis(10));
    assert!(began.elapsed() < DEADLINE / 2);
    assert_eq!(ended.recv().unwrap(), Disconnect::PingTimeout);
    silent.expect_cut();
    // A pong of another ping is no answer, nor is a message.
    let mut chatty = server.open();
    chatty.write(frame(true, PONG, "x"));
    chatty.write(text("I talk"));
    assert_eq!(chatty.close_code(), 1011);
    assert_eq!(ended.recv().unwrap(), Disconnect::PingTimeout);
}

#[test]
fn peer_that_answers_lives_on() {
    let (server, ended) = serve_and_tell(pinging(SHORT / 3, SHORT));
    let mut peer = server.open();
    for _ in 0..30 {
        answer_ping(&mut peer);
    }
    assert!(ended.try_recv().is_err());
    peer.close_amid_pings();
    assert!(ended.recv().unwrap().is_clean());
}

/// Nobody sees the pongs then: they wait in the socket.
#[test]
fn application_that_does_not_receive_misses_no_pong() {
    let server = serve_with(pinging(SHORT / 3, SHORT / 3), |ws| {
        sleep(SHORT * 8);
        ws.send("done")?;
        echo(ws)
    });
    let mut peer = server.open();
    answer_ping(&mut peer);
    loop {
        let frame = peer.frame();
        match frame.opcode {
            PING => peer.write(io_support::frame(true, PONG, &frame.payload)),
            opcode => {
                assert_eq!((opcode, &*frame.payload), (TEXT, &b"done"[..]));
                break;
            }
        }
    }
    for _ in 0..5 {
        answer_ping(&mut peer);
    }
    peer.close_amid_pings();
}

#[test]
fn idle_connection_is_closed_with_1001() {
    let config = WebSocketConfig::default().idle_timeout(SHORT);
    let (server, ended) = serve_and_tell(config);
    let began = Instant::now();
    let mut idle = server.open();
    let mut pinging = server.open();
    assert_eq!(idle.close_code(), 1001);
    assert!(began.elapsed() >= SHORT - Duration::from_millis(10));
    assert_eq!(ended.recv().unwrap(), Disconnect::IdleTimeout);
    idle.write(close(1001));
    idle.expect_cut();
    // Pings are no messages.
    loop {
        if pinging.try_write(ping("here")).is_err() {
            break;
        }
        match pinging.try_frame() {
            Ok(Some(frame)) if frame.opcode == PONG => {}
            Ok(Some(frame)) => {
                assert_eq!(
                    (frame.opcode, &frame.payload[..2]),
                    (CLOSE, &[0x03, 0xe9][..])
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended.recv().unwrap(), Disconnect::IdleTimeout);
}

#[test]
fn messages_keep_a_connection_from_being_idle() {
    let config = WebSocketConfig::default().idle_timeout(SHORT * 3);
    let (server, ended) = serve_and_tell(config);
    let mut peer = server.open();
    for _ in 0..20 {
        sleep(SHORT / 2);
        peer.write(text("still here"));
        peer.expect(TEXT, "still here");
    }
    assert!(ended.try_recv().is_err());
    assert_eq!(peer.close_code(), 1001);
}

/// The wait of an application ends with the connection, also if it is not the one that reads.
#[test]
fn sender_learns_of_the_cut() {
    let (tell, told) = mpsc::channel();
    let server = serve_with(pinging(SHORT, SHORT), move |ws| {
        let error = ws.receive().unwrap_err();
        tell.send((error.to_string(), ws.send("more"))).unwrap();
        Err(error.into())
    });
    let mut peer = server.open();
    assert_eq!(peer.close_code(), 1011);
    let (error, sent) = told.recv().unwrap();
    assert!(error.contains("ping"), "{error}");
    assert!(matches!(sent, Err(WebSocketError::Closed)));
}
