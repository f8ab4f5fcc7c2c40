//! One message to many, by `broadcast`.
#![cfg(feature = "io")]

mod io_support;

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime as runtime;
use greenwood_websocket::proto::{Decoder, Event, Extension, Limits, OpCode, Role, encode_frame};
use greenwood_websocket::{
    CloseCode, Connect, Deflate, Disconnect, Message, Outgoing, SlowConsumer, WebSocket,
    WebSocketConfig, broadcast, connect,
};
use io_support::{
    BINARY, News, Peer, Server, TEXT, close, echo, handshake, news, pattern, serve, serve_with,
    text,
};

/// A server that hands its WebSockets to the test, and receives until their end.
fn meeting(config: WebSocketConfig) -> (Server, News<WebSocket>) {
    let (told, heard) = news();
    let server = serve_with(config, move |ws| {
        told.send(ws.clone()).unwrap();
        while ws.receive()?.is_some() {}
        Ok(())
    });
    (server, heard)
}

/// Peers with their server's sides.
fn join(server: &Server, heard: &News<WebSocket>, count: usize) -> (Vec<Peer>, Vec<WebSocket>) {
    (0..count).map(|_| (server.open(), heard.next())).unzip()
}

#[test]
fn shared_frame_is_the_same_as_a_sent_one() {
    let (server, heard) = meeting(WebSocketConfig::default());
    let (mut peers, sockets) = join(&server, &heard, 3);
    for size in [0, 1, 125, 126, 4_096, 5_000, 65_535, 65_536, 1 << 20] {
        let bytes = pattern(size);
        let words = "é".repeat(size / 2);
        let messages = [
            (OpCode::Binary, Outgoing::from(&bytes)),
            (OpCode::Text, Outgoing::from(&words)),
        ];
        for (opcode, message) in messages {
            let mut wire = Vec::new();
            encode_frame(&mut wire, true, opcode, message.as_bytes(), None);
            let sender = {
                let (sockets, message) = (sockets.clone(), message.into_vec());
                thread::spawn(move || match opcode {
                    OpCode::Text => broadcast(&sockets, String::from_utf8(message).unwrap()),
                    _ => broadcast(&sockets, message),
                })
            };
            for peer in &mut peers {
                assert!(peer.exactly(wire.len()) == wire, "{size} bytes");
            }
            let delivery = sender.join().unwrap();
            assert_eq!((delivery.sent, delivery.closed, delivery.slow), (3, 0, 0));
        }
    }
    for peer in peers {
        peer.close();
    }
}

/// A connection with compression, as `offer` has it, and what decodes it.
fn packed(server: &Server, offer: &Deflate) -> (Peer, Decoder) {
    let mut peer = server.connect();
    let line = format!("Sec-WebSocket-Extensions: {}\r\n", offer.offer());
    peer.write(handshake(&line));
    let head = peer.accepted();
    let answer = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .unwrap_or_else(|| panic!("no extension in {head}"));
    let answer = Extension::parse_list(answer.as_bytes()).unwrap();
    let params = offer.accepted(&answer[0]).unwrap();
    let inflater = params.inflater(Role::Client);
    let decoder = Decoder::new(Role::Client, Limits::default()).with_deflate(inflater);
    (peer, decoder)
}

/// The bytes of the next frame, of less than 64 KiB.
fn frame_bytes(peer: &mut Peer) -> Vec<u8> {
    let mut wire = peer.exactly(2);
    let len = match wire[1] {
        126 => {
            wire.extend(peer.exactly(2));
            usize::from(u16::from_be_bytes([wire[2], wire[3]]))
        }
        len => len.into(),
    };
    wire.extend(peer.exactly(len));
    wire
}

fn decoded(decoder: &mut Decoder, wire: &[u8]) -> Message {
    match decoder.decode(&mut wire.to_vec()) {
        (used, Ok(Some(Event::Message(message)))) if used == wire.len() => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_compression_gets_its_own_edition() {
    let settings = Deflate::default()
        .threshold(100)
        .context_takeover(true, true);
    let (server, heard) = meeting(WebSocketConfig::default().deflate(settings));
    let plain_offer = Deflate::default();
    let offers = [
        plain_offer,
        plain_offer,
        plain_offer.window_bits(15, 9),
        plain_offer.context_takeover(true, true),
        plain_offer.context_takeover(true, true),
    ];
    let mut peers = Vec::new();
    let mut sockets = Vec::new();
    for offer in &offers {
        peers.push(packed(&server, offer));
        sockets.push(heard.next());
    }
    let mut plain = server.open();
    sockets.push(heard.next());
    for round in 0..4 {
        let long: String = (0..400).map(|i| format!("{round} {} ", i * i)).collect();
        for sent in ["short", long.as_str()] {
            assert_eq!(broadcast(&sockets, sent).sent, 6);
            plain.expect(TEXT, sent);
            let wires: Vec<_> = peers
                .iter_mut()
                .map(|(peer, decoder)| {
                    let wire = frame_bytes(peer);
                    assert_eq!(decoded(decoder, &wire), Message::from(sent));
                    assert_eq!(wire[0] & 0x40 != 0, sent.len() >= 100);
                    wire
                })
                .collect();
            assert!(wires[0] == wires[1]);
            if sent.len() >= 100 {
                assert!(wires[2] != wires[0] && wires[0].len() < sent.len());
                assert!(wires[3] == wires[4]);
            }
            // And the same as if it had been sent to one alone.
            for i in [0, 2] {
                sockets[i].send(sent).unwrap();
                assert!(frame_bytes(&mut peers[i].0) == wires[i]);
            }
        }
    }
}

#[test]
fn closed_ones_are_counted_and_left_out() {
    let (server, heard) = meeting(WebSocketConfig::default());
    let (mut peers, sockets) = join(&server, &heard, 4);
    peers.remove(1).close();
    sockets[2].close_nowait(CloseCode::NORMAL, "").unwrap();
    let delivery = broadcast(&sockets, "hello");
    assert_eq!((delivery.sent, delivery.closed), (2, 2));
    peers[0].expect(TEXT, "hello");
    peers[2].expect(TEXT, "hello");
    assert_eq!(peers[1].close_code(), 1000);
    // Whatever gives WebSockets will do.
    let some = sockets.iter().skip(3).chain([&sockets[0]]);
    assert_eq!(broadcast(some, &b"bytes"[..]).sent, 2);
    assert_eq!(broadcast(Vec::<WebSocket>::new(), "nobody").sent, 0);
    peers[0].expect(BINARY, b"bytes");
    peers[2].expect(BINARY, b"bytes");
}

/// More than both sides' systems take for a peer that does not read.
const LARGE: usize = 16 << 20;

#[test]
fn slow_one_is_waited_for_after_all_others_have_got_it() {
    let (server, heard) = meeting(WebSocketConfig::default());
    let (mut peers, sockets) = join(&server, &heard, 5);
    let (told, finished) = news();
    let theirs = sockets.clone();
    let sender = runtime::spawn(move || {
        broadcast(&theirs[..1], pattern(LARGE));
        let delivery = broadcast(&theirs, "all");
        told.send(delivery.sent).unwrap();
    });
    // The first does not read; its large message is on the way, and "all" behind it.
    peers[0].stream_pause();
    assert!(finished.is_empty());
    peers[0].expect(BINARY, pattern(LARGE));
    for peer in &mut peers {
        peer.expect(TEXT, "all");
    }
    assert_eq!(finished.next(), 5);
    sender.join().unwrap();

    // Now with all of them in one.
    let (told, finished) = news();
    let theirs = sockets.clone();
    runtime::spawn(move || told.send(broadcast(&theirs, pattern(LARGE))).unwrap());
    for peer in &mut peers[1..] {
        peer.expect(BINARY, pattern(LARGE));
    }
    assert!(finished.is_empty(), "the first has not read a byte");
    peers[0].expect(BINARY, pattern(LARGE));
    assert_eq!(finished.next().sent, 5);
    drop(sockets);
}

#[test]
fn slow_one_that_takes_nothing_is_given_up_after_its_write_timeout() {
    // Time enough for the one that reads, on a slow machine too.
    let limit = Duration::from_secs(5);
    let (server, heard) = meeting(WebSocketConfig::default().write_timeout(limit));
    let (mut peers, sockets) = join(&server, &heard, 6);
    let message = pattern(LARGE);
    let began = Instant::now();
    let (theirs, sent) = (sockets.clone(), message.clone());
    let sender = runtime::spawn(move || broadcast(&theirs, sent));
    peers[5].expect(BINARY, message);
    let delivery = sender.join().unwrap();
    assert_eq!((delivery.sent, delivery.slow), (1, 5));
    // All at the same time, not one after the other.
    assert!(began.elapsed() < 4 * limit);
    assert_eq!(sockets[0].disconnect(), Some(Disconnect::SlowConsumer));
    for peer in &mut peers[..5] {
        peer.expect_cut();
    }
}

#[test]
fn slow_one_may_be_closed_at_once() {
    let config = WebSocketConfig::default().slow_consumer(SlowConsumer::Close);
    let (server, heard) = meeting(config);
    let (mut peers, sockets) = join(&server, &heard, 2);
    let message = pattern(100_000);
    let mut count = 0;
    loop {
        let delivery = broadcast(&sockets, &message);
        count += 1;
        if delivery.slow == 1 {
            assert_eq!(delivery.sent, 1);
            break;
        }
        assert_eq!(delivery.sent, 2);
        peers[1].expect(BINARY, &message);
    }
    assert_eq!(sockets[0].disconnect(), Some(Disconnect::SlowConsumer));
    peers[1].expect(BINARY, &message);
    for _ in 0..count {
        peers[0].expect(BINARY, &message);
    }
    assert_eq!(peers[0].close_code(), 1008);
    assert_eq!(broadcast(&sockets, "left").closed, 1);
    peers[1].expect(TEXT, "left");
}

/// By then the message is on its way to all.
#[test]
fn killed_while_it_waits_it_has_sent_to_all() {
    let (server, heard) = meeting(WebSocketConfig::default());
    let (mut peers, sockets) = join(&server, &heard, 3);
    let theirs = sockets.clone();
    let timed = runtime::spawn(move || {
        runtime::with_timeout(Duration::from_millis(50), || {
            broadcast(&theirs, pattern(LARGE))
        })
        .is_err()
    });
    assert!(
        timed.join().unwrap(),
        "nobody reads: it must be out of time"
    );
    let theirs = sockets.clone();
    let (begin, begun) = news();
    let killed = runtime::spawn(move || {
        begin.send(()).unwrap();
        broadcast(&theirs, "behind it")
    });
    // A kill before its start would keep it from starting.
    begun.next();
    killed.kill();
    for peer in &mut peers {
        peer.expect(BINARY, pattern(LARGE));
        peer.expect(TEXT, "behind it");
    }
}

/// Also where what the reading greenlet sends is held back, to leave in one piece.
#[test]
fn shared_frames_keep_their_place_among_others() {
    const ROUNDS: usize = 300;
    let listening = OnceLock::new();
    let server = serve(move |ws| {
        if let Some(first) = ws.receive()?
            && first.as_text() == Some("listen")
        {
            listening.set(ws.clone()).unwrap();
            ws.send("listening")?;
            return echo(ws);
        }
        let both = [ws.clone(), listening.get().unwrap().clone()];
        while let Some(message) = ws.receive()? {
            ws.send(format!("{message} before"))?;
            broadcast(&both, message);
            ws.ping(b"")?;
            both[1].send("after")?;
        }
        Ok(())
    });
    let mut listener = server.open();
    listener.write(text("listen"));
    listener.expect(TEXT, "listening");
    let mut speaker = server.open();
    let wire: Vec<u8> = (0..=ROUNDS).flat_map(|i| text(i.to_string())).collect();
    speaker.write(wire);
    for i in 1..=ROUNDS {
        speaker.expect(TEXT, format!("{i} before"));
        speaker.expect(TEXT, i.to_string());
        speaker.expect(io_support::PING, "");
        listener.expect(TEXT, i.to_string());
        listener.expect(TEXT, "after");
    }
    speaker.write(close(1000));
    assert_eq!(speaker.close_code(), 1000);
}

/// Frames of a client have a key each.
#[test]
fn client_connections_take_part() {
    let settings = Deflate::default();
    let config = WebSocketConfig::default().deflate(settings);
    let echoing = serve_with(config, echo);
    let (server, heard) = meeting(WebSocketConfig::default());
    let (mut peers, mut sockets) = join(&server, &heard, 1);
    let url = format!("ws://{}/ws", echoing.address);
    let plain = connect(&url).unwrap();
    let packed = Connect::to(&url).config(config).connect().unwrap();
    sockets.extend([plain.clone(), packed.clone()]);
    for message in [String::new(), "short".to_owned(), "long ".repeat(5_000)] {
        assert_eq!(broadcast(&sockets, &message).sent, 3);
        peers[0].expect(TEXT, &message);
        for client in [&plain, &packed] {
            assert_eq!(
                client.receive().unwrap(),
                Some(Message::from(message.as_str()))
            );
        }
    }
    plain.close(CloseCode::NORMAL, "").unwrap();
    packed.close(CloseCode::NORMAL, "").unwrap();
}
