//! Messages there and back: every size, every cut, pings in between, and in how many pieces the
//! answers leave.
#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_types,
    reason = "tungstenite is the foreign side, on a plain thread"
)]

mod io_support;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{self as runtime, Event};
use greenwood_websocket::{Message, WebSocketConfig};
use io_support::{
    BINARY, DEADLINE, PING, PONG, TEXT, announcement, binary, close, echo, frame, handshake, news,
    pattern, ping, serve, serve_with, text,
};
use tungstenite::protocol::WebSocketConfig as TheirConfig;

const SIZES: [usize; 17] = [
    0,
    1,
    2,
    124,
    125,
    126,
    127,
    4095,
    4096,
    4097,
    65535,
    65536,
    65537,
    131_072,
    1 << 20,
    5_000_001,
    16 << 20,
];

fn large() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(16 << 20)
}

#[test]
fn tungstenite_gets_its_messages_back() {
    let server = serve_with(large(), echo);
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = TheirConfig::default()
        .max_message_size(None)
        .max_frame_size(None);
    let url = format!("ws://{}/", server.address);
    let (mut client, response) =
        tungstenite::client::client_with_config(url, stream, Some(config)).unwrap();
    assert_eq!(response.status(), 101);
    for size in SIZES {
        let bytes = tungstenite::Message::binary(pattern(size));
        // A client that writes all before it reads needs a server that does not wait for it: sent
        // from a thread of its own.
        let mut writer = client.get_ref().try_clone().unwrap();
        let wire = binary(pattern(size));
        let sender = std::thread::spawn(move || writer.write_all(&wire).unwrap());
        assert!(client.read().unwrap() == bytes, "{size} bytes");
        sender.join().unwrap();
    }
    for size in [0, 1, 125, 126, 65535, 65536] {
        let text = tungstenite::Message::text("ü".repeat(size / 2) + &"a".repeat(size % 2));
        client.send(text.clone()).unwrap();
        assert!(client.read().unwrap() == text, "{size} bytes of text");
    }
    client
        .send(tungstenite::Message::Ping("ping".into()))
        .unwrap();
    assert_eq!(
        client.read().unwrap(),
        tungstenite::Message::Pong("ping".into())
    );
    client.close(None).unwrap();
    while client.read().is_ok() {}
}

#[test]
fn kinds_stay_apart_in_any_order() {
    let server = serve(echo);
    let mut peer = server.open();
    for size in [0, 1, 125, 126, 65535, 65536, 70_000] {
        let letters = "x".repeat(size);
        peer.write(text(&letters));
        peer.write(binary(&letters));
        peer.expect(TEXT, &letters);
        peer.expect(BINARY, &letters);
    }
    peer.close();
}

#[test]
fn frames_behind_the_handshake_are_not_lost() {
    let server = serve(echo);
    let mut peer = server.connect();
    let early = [
        handshake("").into_bytes(),
        text("1"),
        ping("p"),
        frame(false, TEXT, "2"),
        frame(true, 0, "3"),
        close(1000),
    ];
    peer.write(early.concat());
    peer.accepted();
    peer.expect(TEXT, "1");
    peer.expect(PONG, "p");
    peer.expect(TEXT, "23");
    assert_eq!(peer.close_code(), 1000);
    peer.expect_end();
}

#[test]
fn handshake_and_half_a_frame_in_one_segment() {
    let server = serve(echo);
    let mut peer = server.connect();
    let message = binary(pattern(200_000));
    let (first, rest) = message.split_at(7);
    peer.write([handshake("").as_bytes(), first].concat());
    peer.accepted();
    peer.write(rest);
    peer.expect(BINARY, pattern(200_000));
    peer.close();
}

#[test]
fn frames_come_byte_by_byte() {
    let server = serve(echo);
    let mut peer = server.open();
    let wire = [
        text("hello"),
        frame(false, TEXT, "ü"),
        ping("between"),
        frame(true, 0, "ö"),
        binary(pattern(300)),
        close(1001),
    ];
    for byte in wire.concat() {
        peer.write([byte]);
    }
    peer.expect(TEXT, "hello");
    peer.expect(PONG, "between");
    peer.expect(TEXT, "üö");
    peer.expect(BINARY, pattern(300));
    assert_eq!(peer.close_code(), 1001);
    peer.expect_end();
}

#[test]
fn fragments_become_one_message() {
    let server = serve(echo);
    let mut peer = server.open();
    let whole = pattern(600_000);
    let mut wire = Vec::new();
    for (i, piece) in whole.chunks(50_000).enumerate() {
        wire.extend(frame(false, if i == 0 { BINARY } else { 0 }, piece));
        wire.extend(ping(format!("{i}")));
        // An empty fragment is one too.
        wire.extend(frame(false, 0, ""));
    }
    wire.extend(frame(true, 0, ""));
    peer.write(wire);
    for i in 0..12 {
        peer.expect(PONG, format!("{i}"));
    }
    peer.expect(BINARY, whole);
    peer.close();
}

/// Large binary messages are read straight to where they belong; the frames around them must not
/// get lost in that.
#[test]
fn large_and_small_messages_follow_each_other() {
    let server = serve_with(large(), echo);
    let mut peer = server.open();
    let mut writer = peer.stream.try_clone().unwrap();
    let sizes = [3, 200_000, 5, 16_500, 0, 1 << 20, 131_073, 7];
    let wire: Vec<u8> = sizes
        .iter()
        .flat_map(|&size| [binary(pattern(size)), text("t"), ping("p")].concat())
        .collect();
    let sender = std::thread::spawn(move || {
        for piece in wire.chunks(30_011) {
            writer.write_all(piece).unwrap();
        }
    });
    for size in sizes {
        peer.expect(BINARY, pattern(size));
        peer.expect(TEXT, "t");
        peer.expect(PONG, "p");
    }
    sender.join().unwrap();
    peer.close();
}

#[test]
fn thousands_of_pipelined_messages_come_back_in_order() {
    let server = serve(echo);
    let mut peer = server.open();
    let mut writer = peer.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let wire: Vec<u8> = (0..20_000).flat_map(|i| text(format!("{i}"))).collect();
        writer.write_all(&wire).unwrap();
    });
    for i in 0..20_000 {
        peer.expect(TEXT, format!("{i}"));
    }
    sender.join().unwrap();
    peer.close();
}

/// The answers to one segment leave in one.
#[test]
fn answers_to_a_batch_leave_together() {
    const DEPTH: usize = 16;
    const ROUNDS: usize = 50;
    let server = serve(echo);
    let mut peer = server.open();
    let batch: Vec<u8> = (0..DEPTH).flat_map(|i| text(format!("{i:02}"))).collect();
    peer.reads = 0;
    for _ in 0..ROUNDS {
        peer.write(&batch);
        for i in 0..DEPTH {
            peer.expect(TEXT, format!("{i:02}"));
        }
    }
    // One read each, if it were not for chance.
    assert!(peer.reads < 2 * ROUNDS, "{} reads", peer.reads);
    peer.close();
}

/// A handler that waits for what the peer does upon its answer: were the answer held back, both
/// would wait for ever.
#[test]
fn held_back_answers_leave_when_the_handler_blocks() {
    let seen = Arc::new(Event::new());
    let waits = Arc::clone(&seen);
    let server = serve(move |ws| {
        while let Some(message) = ws.receive()? {
            let first = message.as_text() == Some("first");
            ws.send(message)?;
            if first {
                assert!(waits.wait_timeout(DEADLINE));
            }
        }
        Ok(())
    });
    let mut peer = server.open();
    peer.write([text("first"), text("second"), text("third")].concat());
    peer.expect(TEXT, "first");
    seen.set();
    peer.expect(TEXT, "second");
    peer.expect(TEXT, "third");
    peer.close();
}

/// The same, blocking in everything else that blocks.
#[test]
fn held_back_answers_leave_before_any_kind_of_wait() {
    let (told, heard) = news();
    let queue = Arc::new(runtime::Queue::<()>::new(0));
    let wakes = Arc::clone(&queue);
    let server = serve(move |ws| {
        while let Some(message) = ws.receive()? {
            ws.send(format!("got {message}"))?;
            match message.as_text() {
                Some("sleep") => runtime::sleep(Duration::from_millis(1)),
                Some("join") => runtime::spawn(|| ()).join().unwrap(),
                Some("idle") => runtime::idle(),
                Some("queue") => drop(wakes.get()),
                _ => continue,
            }
            told.send(message.to_string()).unwrap();
        }
        Ok(())
    });
    let mut peer = server.open();
    for kind in ["sleep", "join", "idle", "queue"] {
        peer.write([text(kind), text("rest")].concat());
        peer.expect(TEXT, format!("got {kind}"));
        if kind == "queue" {
            queue.put(()).unwrap();
        }
        assert_eq!(heard.next(), kind);
        peer.expect(TEXT, "got rest");
    }
    peer.close();
}

/// What another greenlet or thread sends does not wait for the batch, nor overtakes it.
#[test]
fn others_do_not_wait_for_a_batch() {
    let server = serve(|ws| {
        while let Some(message) = ws.receive()? {
            let reply = message.to_string();
            ws.send(format!("{reply} 1"))?;
            let other = ws.clone();
            let thread = std::thread::spawn(move || other.send(format!("{reply} 2")));
            // Blocks the hub, and so does not count as a switch.
            thread.join().unwrap()?;
            ws.send(format!("{message} 3"))?;
        }
        Ok(())
    });
    let mut peer = server.open();
    peer.write([text("a"), text("b"), text("c")].concat());
    for name in ["a", "b", "c"] {
        for i in 1..=3 {
            peer.expect(TEXT, format!("{name} {i}"));
        }
    }
    peer.close();
}

/// One greenlet that serves two connections has one hook only.
#[test]
fn batches_of_two_connections_in_one_greenlet() {
    let first = Arc::new(std::sync::Mutex::new(None));
    let done = Arc::new(Event::new());
    let server = serve(move |ws| {
        let Some(other) = first.lock().unwrap().take() else {
            *first.lock().unwrap() = Some(ws.clone());
            ws.send("first")?;
            done.wait();
            return Ok(());
        };
        let other: greenwood_websocket::WebSocket = other;
        while let Some(message) = ws.receive()? {
            ws.send(message.clone())?;
            other.send(message)?;
        }
        done.set();
        Ok(())
    });
    let mut left = server.open();
    left.expect(TEXT, "first");
    let mut right = server.open();
    for _ in 0..20 {
        right.write([text("1"), text("2"), text("3")].concat());
        for i in 1..=3 {
            right.expect(TEXT, format!("{i}"));
            left.expect(TEXT, format!("{i}"));
        }
    }
    right.close();
    assert_eq!(left.close_code(), 1000);
}

#[test]
fn pings_of_both_sides_are_answered() {
    let server = serve(|ws| {
        ws.ping(b"are you there")?;
        assert!(ws.ping(&[0; 125]).is_ok());
        assert!(matches!(
            ws.ping(&[0; 126]),
            Err(greenwood_websocket::WebSocketError::Encode(_))
        ));
        echo(ws)
    });
    let mut peer = server.open();
    peer.expect(PING, "are you there");
    peer.expect(PING, [0; 125]);
    peer.write(frame(true, PONG, "are you there"));
    peer.write(frame(true, PONG, "unasked"));
    peer.write(ping(""));
    peer.expect(PONG, "");
    peer.write(ping([7; 125]));
    peer.expect(PONG, [7; 125]);
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    peer.close();
}

#[test]
fn everything_that_can_be_sent_is() {
    let server = serve(|ws| {
        ws.send("str")?;
        ws.send(String::from("string"))?;
        ws.send(b"bytes")?;
        ws.send(vec![0, 1])?;
        ws.send(Message::from("message"))?;
        let empty = Message::Binary(vec![]);
        ws.send(&empty)?;
        ws.send(empty)?;
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "str");
    peer.expect(TEXT, "string");
    peer.expect(BINARY, "bytes");
    peer.expect(BINARY, [0, 1]);
    peer.expect(TEXT, "message");
    peer.expect(BINARY, "");
    peer.expect(BINARY, "");
    assert_eq!(peer.close_code(), 1000);
}

#[test]
fn handles_know_their_peer() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        told.send((ws.peer_addr()?, ws.closed(), ws.disconnect(), ws.clone()))
            .unwrap();
        echo(ws)
    });
    let peer = server.open();
    let (address, closed, disconnect, clone) = heard.next();
    assert_eq!(address, peer.stream.local_addr().unwrap());
    assert_eq!((closed, disconnect), (false, None));
    assert!(format!("{clone:?}").contains("WebSocket"));
    peer.close();
}

/// A header alone costs nothing: announced and not sent.
#[test]
fn announced_messages_wait_for_their_bytes() {
    let server = serve(echo);
    let mut peer = server.open();
    peer.write(announcement(true, BINARY, 100_000));
    assert!(peer.is_silent(Duration::from_millis(20)));
    let wire = binary(pattern(100_000));
    peer.write(&wire[announcement(true, BINARY, 100_000).len()..]);
    peer.expect(BINARY, pattern(100_000));
    peer.close();
}

/// Two that receive at once is a mistake, but no message may be garbled or lost by it.
#[test]
fn receivers_at_once_never_garble() {
    const COUNT: usize = 5_000;
    let (told, heard) = news();
    let server = serve(move |ws| {
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let (ws, told) = (ws.clone(), told.clone());
                std::thread::spawn(move || {
                    loop {
                        match ws.receive() {
                            Ok(Some(message)) => told.send(Some(message.len())).unwrap(),
                            Ok(None) => return,
                            Err(greenwood_websocket::WebSocketError::Wait(_)) => {
                                std::thread::yield_now();
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                })
            })
            .collect();
        for receiver in receivers {
            if receiver.join().is_err() {
                told.send(None).unwrap();
            }
        }
        Ok(())
    });
    let mut peer = server.open();
    let sizes = (0..COUNT).map(|i| i * 37 % 3000);
    for size in sizes.clone() {
        peer.write(binary(pattern(size)));
    }
    let mut received: Vec<usize> = (0..COUNT)
        .map(|_| heard.next().expect("a receiver failed"))
        .collect();
    received.sort_unstable();
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    assert_eq!(received, sizes);
    peer.close();
}
