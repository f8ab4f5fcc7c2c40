//! Pings, their deadline, and the idle time-out.

mod io_support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use greenwood_runtime::sleep;
use greenwood_websocket::{CloseCode, Disconnect, WebSocketConfig, WebSocketError};
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

/// Answers the next frame if it is a ping; whether it is one.
fn try_to_answer_ping(peer: &mut Peer) -> bool {
    match peer.try_frame() {
        Ok(Some(ping)) if ping.opcode == PING => {
            peer.try_write(frame(true, PONG, &ping.payload)).is_ok()
        }
        _ => false,
    }
}

/// Beyond what the clock can count.
#[test]
fn time_limits_may_be_as_good_as_none() {
    let config = |interval| {
        pinging(interval, Duration::MAX)
            .idle_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
            .close_timeout(Duration::MAX)
    };
    for interval in [SHORT, Duration::MAX] {
        let (server, ended) = serve_and_tell(config(interval));
        let mut peer = server.open();
        if interval == SHORT {
            answer_ping(&mut peer);
            answer_ping(&mut peer);
        }
        peer.write(text("hello"));
        while peer.frame().payload != b"hello" {}
        peer.close_amid_pings();
        assert!(matches!(ended.recv().unwrap(), Disconnect::PeerClosed(_)));
        // The rest of a frame that is refused is read before the end.
        let mut peer = server.open();
        peer.write(announcement(true, 3, 100));
        assert_eq!(peer.close_code(), 1002);
        peer.write([0; 100]);
        peer.expect_cut();
        // Who closes waits for the answer.
        let server = serve_with(config(interval), |ws| Ok(ws.close(CloseCode::NORMAL, "")?));
        assert!(server.open().closes_well());
    }
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
    let began = Instant::now();
    let mut peer = server.open();
    peer.write(text("before"));
    // On a slow machine the first pings may come before that.
    let mut early = Vec::new();
    loop {
        let frame = peer.frame();
        if frame.opcode == TEXT {
            break;
        }
        early.push(frame.payload);
    }
    assert_eq!(told.recv().unwrap(), None);
    for payload in &early {
        peer.write(frame(true, PONG, payload));
    }
    let later = early.len()..5;
    let mut payloads = early;
    payloads.extend(later.map(|_| answer_ping(&mut peer)));
    assert!(began.elapsed() >= SHORT * 5, "{:?}", began.elapsed());
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
    assert!(payloads.len() >= 5);
    peer.close_amid_pings();
}

#[test]
fn peer_that_answers_no_ping_is_cut() {
    let (server, ended) = serve_and_tell(pinging(SHORT, SHORT));
    let began = Instant::now();
    let mut silent = server.open();
    assert_eq!(silent.frame().opcode, PING);
    assert_eq!(silent.close_code(), 1011);
    assert!(began.elapsed() >= SHORT * 2 - Duration::from_millis(10));
    assert_eq!(ended.recv().unwrap(), Disconnect::PingTimeout);
    silent.expect_cut();
    // A pong of another ping is no answer, nor is a message.
    let mut chatty = server.open();
    chatty.try_write(frame(true, PONG, "x")).ok();
    chatty.try_write(text("I talk")).ok();
    assert_eq!(chatty.close_code(), 1011);
    assert_eq!(ended.recv().unwrap(), Disconnect::PingTimeout);
}

#[test]
fn peer_that_answers_lives_on() {
    let lives_on = LIMITS.into_iter().any(|limit| {
        let (server, ended) = serve_and_tell(pinging(SHORT / 3, limit));
        let mut peer = server.open();
        let began = Instant::now();
        while began.elapsed() < 3 * limit {
            if !try_to_answer_ping(&mut peer) {
                return false;
            }
        }
        peer.closes_well() && ended.recv_timeout(DEADLINE).unwrap().is_clean()
    });
    assert!(lives_on);
}

/// A frame that takes longer than the deadline, piece by piece. The pong can only come behind it.
/// It may: RFC 6455, 5.5.3.
#[test]
fn peer_that_answers_only_the_latest_ping_lives_on() {
    let lives_on = LIMITS.into_iter().any(|limit| {
        let server = serve_with(pinging(limit, limit), |ws| {
            while ws.receive()?.is_some() {
                ws.ping(b"of the application")?;
            }
            Ok(())
        });
        let mut peer = server.open();
        assert_eq!(peer.frame().opcode, PING);
        if peer.try_write(text("another, please")).is_err() {
            return false;
        }
        let began = Instant::now();
        while began.elapsed() < 4 * limit {
            match peer.try_frame() {
                Ok(Some(ping)) if ping.opcode == PING => {}
                _ => return false,
            }
            let pong = frame(true, PONG, "of the application");
            if peer.try_write(text("another, please")).is_err() || peer.try_write(pong).is_err() {
                return false;
            }
        }
        true
    });
    assert!(lives_on);
}

fn upload_outlives_the_deadline(limit: Duration, size: usize) -> bool {
    let config = pinging(SHORT / 3, limit)
        .idle_timeout(limit)
        .max_message_size(1 << 20);
    let (server, ended) = serve_and_tell(config);
    let mut peer = server.open();
    let message = frame(true, BINARY, vec![7; size]);
    let (first, rest) = message.split_at(100);
    peer.write(first);
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < 4 * limit {
        if peer.try_write(&rest[sent..=sent]).is_err() {
            return false;
        }
        sent += 1;
        sleep(limit / 100);
    }
    if peer.try_write(&rest[sent..]).is_err() {
        return false;
    }
    loop {
        match peer.try_frame() {
            Ok(Some(ping)) if ping.opcode == PING => {
                peer.try_write(frame(true, PONG, &ping.payload)).ok();
            }
            Ok(Some(echoed)) if echoed.opcode == BINARY => {
                assert_eq!(echoed.payload.len(), size);
                break;
            }
            _ => return false,
        }
    }
    peer.closes_well() && ended.recv_timeout(DEADLINE).unwrap().is_clean()
}

#[test]
fn long_frame_on_its_way_is_no_missing_pong_and_not_idle() {
    for size in [1_000, 500_000] {
        let outlives = |limit| upload_outlives_the_deadline(limit, size);
        assert!(LIMITS.into_iter().any(outlives), "{size} bytes");
    }
}

#[test]
fn peer_that_stops_in_the_middle_of_a_frame_is_cut() {
    let (server, ended) = serve_and_tell(pinging(SHORT, SHORT));
    let mut peer = server.open();
    peer.write(announcement(true, BINARY, 100_000));
    peer.write([0; 40_000]);
    assert_eq!(peer.close_code(), 1011);
    assert_eq!(ended.recv().unwrap(), Disconnect::PingTimeout);
}

/// Nobody sees the pongs then: they wait in the socket.
#[test]
fn application_that_does_not_receive_misses_no_pong() {
    let lives_on = LIMITS.into_iter().any(|limit| {
        let server = serve_with(pinging(SHORT / 3, limit), move |ws| {
            sleep(3 * limit);
            ws.send("done")?;
            echo(ws)
        });
        let mut peer = server.open();
        // The greeting is the one frame that is no ping.
        while try_to_answer_ping(&mut peer) {}
        (0..5).all(|_| try_to_answer_ping(&mut peer))
    });
    assert!(lives_on);
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
    let kept = LIMITS.into_iter().any(|limit| {
        let config = WebSocketConfig::default().idle_timeout(limit);
        let (server, ended) = serve_and_tell(config);
        let mut peer = server.open();
        let began = Instant::now();
        while began.elapsed() < 3 * limit {
            sleep(limit / 8);
            let echoed = peer.try_write(text("still here")).is_ok()
                && matches!(peer.try_frame(), Ok(Some(frame)) if frame.opcode == TEXT);
            if !echoed {
                return false;
            }
        }
        assert_eq!(peer.close_code(), 1001);
        ended.recv_timeout(DEADLINE).unwrap() == Disconnect::IdleTimeout
    });
    assert!(kept);
}

#[test]
fn message_that_comes_in_slow_fragments_is_not_idle() {
    let whole = LIMITS.into_iter().any(|limit| {
        let config = WebSocketConfig::default().idle_timeout(limit);
        let (server, ended) = serve_and_tell(config);
        let mut peer = server.open();
        let began = Instant::now();
        let mut opcode = TEXT;
        while began.elapsed() < 3 * limit {
            if peer.try_write(frame(false, opcode, "x")).is_err() {
                return false;
            }
            opcode = 0;
            sleep(limit / 8);
        }
        peer.try_write(frame(true, opcode, "")).is_ok()
            && matches!(peer.try_frame(), Ok(Some(echoed)) if echoed.opcode == TEXT)
            && peer.closes_well()
            && ended.recv_timeout(DEADLINE).unwrap().is_clean()
    });
    assert!(whole);
}

/// What it has sent waits in the socket then, unseen.
#[test]
fn peer_that_talks_to_a_busy_application_is_not_idle() {
    let kept = LIMITS.into_iter().any(|limit| {
        let config = WebSocketConfig::default().idle_timeout(limit);
        let server = serve_with(config, move |ws| {
            ws.receive()?;
            sleep(3 * limit);
            echo(ws)
        });
        let mut peer = server.open();
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < 3 * limit {
            if peer.try_write(text("still here")).is_err() {
                return false;
            }
            sent += 1;
            sleep(limit / 8);
        }
        let is_echo =
            |peer: &mut Peer| matches!(peer.try_frame(), Ok(Some(frame)) if frame.opcode == TEXT);
        (1..sent).all(|_| is_echo(&mut peer)) && peer.closes_well()
    });
    assert!(kept);
}

#[test]
fn silent_peer_of_a_busy_application_is_idle() {
    let config = WebSocketConfig::default().idle_timeout(SHORT);
    let (tell, told) = mpsc::channel();
    let server = serve_with(config, move |ws| {
        while !ws.closed() {
            sleep(SHORT / 10);
        }
        tell.send(ws.disconnect()).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    // One message, and no more.
    peer.write(text("never read"));
    assert_eq!(peer.close_code(), 1001);
    assert_eq!(told.recv().unwrap(), Some(Disconnect::IdleTimeout));
}

/// It has a time limit of its own.
#[test]
fn closing_handshake_is_neither_idle_nor_late_with_a_pong() {
    let in_time = LIMITS.into_iter().any(|limit| {
        let config = pinging(limit, limit).idle_timeout(limit);
        let (tell, told) = mpsc::channel();
        let server = serve_with(config, move |ws| {
            ws.receive()?;
            ws.close(CloseCode::NORMAL, "")?;
            tell.send(ws.disconnect()).unwrap();
            Ok(())
        });
        let mut peer = server.open();
        sleep(limit / 2);
        if peer.try_write(text("close")).is_err() {
            return false;
        }
        // Perhaps behind a ping.
        while !matches!(peer.try_frame(), Ok(Some(frame)) if frame.opcode == CLOSE) {}
        sleep(4 * limit);
        let answered = peer.try_write(close(1000)).is_ok();
        let disconnect = told.recv().unwrap();
        answered && disconnect.is_some_and(|it| it.is_clean())
    });
    assert!(in_time);
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
