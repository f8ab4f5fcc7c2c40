//! Messages in parts over a real connection: readers, writers, and single frames.
#![cfg(feature = "io")]

mod io_support;

use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use greenwood_runtime::{self as runtime, Builder, Hub};
use greenwood_websocket::{
    CloseCode, Connect, Deflate, Disconnect, Frame, Message, OpCode, Topic, TopicPolicy, WebSocket,
    WebSocketConfig, WebSocketError, broadcast,
};
use greenwood_wsgi::Result;
use io_support::{
    BINARY, CLOSE, DEADLINE, PING, PONG, Peer, Server, TEXT, binary, close, echo, frame, news,
    pattern, ping, serve, serve_with, text,
};

fn client(server: &Server, config: WebSocketConfig) -> WebSocket {
    Connect::to(format!("ws://{}/", server.address))
        .config(config)
        .connect()
        .unwrap()
}

/// Echoes by a reader and a writer.
fn echo_in_parts(ws: WebSocket) -> Result<()> {
    while let Some(mut message) = ws.next_reader()? {
        let mut reply = match message.is_text() {
            true => ws.text_writer()?,
            false => ws.binary_writer()?,
        };
        while let Some(chunk) = message.chunk()? {
            reply.write_all(&chunk)?;
        }
        reply.finish()?;
    }
    Ok(())
}

/// The frames of one message: the first byte's upper half, the opcode, the length.
fn frames(peer: &mut Peer) -> Vec<(bool, u8, usize)> {
    let mut frames = Vec::new();
    loop {
        let frame = peer.frame();
        frames.push((frame.fin, frame.opcode, frame.payload.len()));
        if frame.fin {
            return frames;
        }
    }
}

#[test]
fn messages_pass_through_readers_and_writers() {
    for deflate in [
        None,
        Some(Deflate::default()),
        Some(Deflate::default().context_takeover(true, true)),
    ] {
        let mut config = WebSocketConfig::default();
        config.deflate = deflate;
        // Both sides' limit, which readers don't have.
        let server = serve_with(config.max_message_size(1000), echo_in_parts);
        let ws = client(&server, config.max_message_size(8 << 20));
        for len in [0, 1, 125, 5000, 16383, 16384, 300_000, 2 << 20] {
            let bytes = pattern(len);
            ws.send(&bytes).unwrap();
            assert!(
                ws.receive().unwrap() == Some(Message::Binary(bytes)),
                "{len}"
            );
            let text = "\u{e4}\u{20ac}\u{1f600}".repeat(len / 9);
            ws.send(&text).unwrap();
            assert!(ws.receive().unwrap() == Some(Message::Text(text)), "{len}");
        }
        ws.close(CloseCode::NORMAL, "").unwrap();
    }
}

#[test]
fn small_message_goes_out_as_one_frame_and_a_flush_makes_more() {
    let server = serve(|ws| {
        let mut small = ws.text_writer()?;
        small.write_all(b"small")?;
        small.finish()?;
        ws.binary_writer()?.finish()?;
        let mut flushed = ws.text_writer()?;
        flushed.write_all(b"ab")?;
        flushed.flush()?;
        // Nothing to flush is nothing to send.
        flushed.flush()?;
        flushed.write_all(b"c")?;
        flushed.finish()?;
        let mut large = ws.binary_writer()?;
        for _ in 0..4 {
            large.write_all(&[7; 10_000])?;
        }
        large.write_all(&[7; 300_000])?;
        large.finish()?;
        echo(ws)
    });
    let mut peer = server.open();
    peer.expect(TEXT, "small");
    peer.expect(BINARY, "");
    assert_eq!(frames(&mut peer), [(false, TEXT, 2), (true, 0, 1)]);
    let sizes = frames(&mut peer);
    let expected = [
        (false, BINARY, 20_000),
        (false, 0, 20_000),
        (false, 0, 256 * 1024),
        (false, 0, 300_000 - 256 * 1024),
        (true, 0, 0),
    ];
    assert_eq!(sizes, expected);
    peer.close();
}

#[test]
fn reader_gives_what_has_arrived() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        while let Some(mut message) = ws.next_reader()? {
            while let Some(chunk) = message.chunk()? {
                tell.send(String::from_utf8(chunk)).unwrap();
            }
        }
        Ok(())
    });
    let mut peer = server.open();
    let wire = frame(false, TEXT, "a\u{20ac}");
    // Without the last byte of the character.
    peer.write(&wire[..wire.len() - 1]);
    assert_eq!(told.next().unwrap(), "a");
    peer.write(&wire[wire.len() - 1..]);
    assert_eq!(told.next().unwrap(), "\u{20ac}");
    peer.write(ping("!"));
    peer.expect(PONG, "!");
    peer.write(frame(true, 0, "b"));
    assert_eq!(told.next().unwrap(), "b");
    peer.close();
}

#[test]
fn rest_of_a_dropped_reader_does_not_come() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut first = ws.next_reader()?.unwrap();
        let mut start = [0; 3];
        first.read_exact(&mut start)?;
        drop(first);
        tell.send(Message::from(&start)).unwrap();
        tell.send(ws.receive()?.unwrap()).unwrap();
        drop(ws.next_reader()?);
        let mut third = String::new();
        ws.next_reader()?.unwrap().read_to_string(&mut third)?;
        tell.send(Message::from(third)).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(frame(false, BINARY, pattern(100_000)));
    assert_eq!(told.next(), Message::from(&pattern(100_000)[..3]));
    peer.write(frame(true, 0, pattern(100_000)));
    peer.write(text("whole"));
    assert_eq!(told.next(), Message::from("whole"));
    peer.write(text("dropped"));
    peer.write(text("read"));
    assert_eq!(told.next(), Message::from("read"));
    assert_eq!(peer.close_code(), 1000);
}

#[test]
fn reader_tells_an_end_in_the_middle_of_a_message() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut message = ws.next_reader()?.unwrap();
        let error = message.read_to_end(&mut Vec::new()).unwrap_err();
        tell.send((error.kind(), ws.disconnect().unwrap().close_code()))
            .unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(frame(false, TEXT, "a"));
    peer.write(close(1001));
    assert_eq!(
        told.next(),
        (ErrorKind::ConnectionAborted, CloseCode::GOING_AWAY)
    );
    let mut peer = server.open();
    peer.write(frame(false, TEXT, "a"));
    drop(peer);
    assert_eq!(
        told.next(),
        (ErrorKind::ConnectionAborted, CloseCode::ABNORMAL)
    );
    let mut peer = server.open();
    peer.write(frame(false, TEXT, "a"));
    peer.write(frame(true, 0, b"\xff"));
    assert_eq!(peer.close_code(), 1007);
    assert_eq!(
        told.next(),
        (ErrorKind::ConnectionAborted, CloseCode::INVALID_PAYLOAD)
    );
}

#[test]
fn other_senders_come_behind_the_message() {
    let (begun, has_begun) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let server = serve(move |ws| {
        let mut message = ws.text_writer()?;
        message.write_all(b"one ")?;
        message.flush()?;
        begun.send(ws.clone()).unwrap();
        gone.lock().unwrap().recv().unwrap();
        message.write_all(b"message")?;
        message.finish()?;
        echo(ws)
    });
    let mut peer = server.open();
    let ws = has_begun.recv_timeout(DEADLINE).unwrap();
    // Those that never wait, and one that does.
    assert_eq!(broadcast([&ws], "broadcast").sent, 1);
    let topic = Topic::new(TopicPolicy::DropOldest { keep: 1 });
    let subscription = topic.subscribe(&ws);
    for i in 0..3 {
        topic.publish(format!("published {i}"));
    }
    assert_eq!(subscription.dropped(), 2);
    let sender = {
        let ws = ws.clone();
        thread::spawn(move || ws.send("sent"))
    };
    let writer = {
        let ws = ws.clone();
        runtime::spawn(move || {
            let mut message = ws.binary_writer()?;
            message.write_all(&[1]).unwrap();
            message.finish()
        })
    };
    // Control frames go between.
    ws.ping(b"between").unwrap();
    let first = peer.frame();
    assert_eq!(
        (first.fin, first.opcode, &first.payload[..]),
        (false, TEXT, &b"one "[..])
    );
    peer.expect(PING, "between");
    assert!(peer.is_silent(Duration::from_millis(50)));
    go.send(()).unwrap();
    let last = peer.frame();
    assert_eq!(
        (last.fin, last.opcode, &last.payload[..]),
        (true, 0, &b"message"[..])
    );
    peer.expect(TEXT, "broadcast");
    peer.expect(TEXT, "published 2");
    let mut rest = [peer.frame(), peer.frame()].map(|frame| frame.payload);
    rest.sort();
    assert_eq!(rest, [vec![1], b"sent".to_vec()]);
    sender.join().unwrap().unwrap();
    writer.join().unwrap().unwrap();
    peer.close();
}

#[test]
fn unfinished_writer_closes_with_1011_only_if_something_was_sent() {
    let server = serve(|ws| {
        drop(ws.text_writer()?);
        let mut unsent = ws.binary_writer()?;
        unsent.write_all(b"kept back")?;
        drop(unsent);
        ws.send("fine")?;
        let mut sent = ws.text_writer()?;
        sent.write_all(b"half a")?;
        sent.flush()?;
        drop(sent);
        assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
        assert_eq!(ws.disconnect(), Some(Disconnect::ApplicationError));
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "fine");
    assert_eq!(frames_until_close(&mut peer), (1, 1011));
}

/// How many frames come before the close frame, and its code.
fn frames_until_close(peer: &mut Peer) -> (usize, u16) {
    for count in 0.. {
        let frame = peer.frame();
        if frame.opcode == CLOSE {
            return (
                count,
                u16::from_be_bytes(frame.payload[..2].try_into().unwrap()),
            );
        }
    }
    unreachable!()
}

#[test]
fn killed_writer_closes_with_1011_and_lets_others_go() {
    let (begun, has_begun) = mpsc::channel();
    let server = serve(move |ws| {
        begun.send(ws.clone()).unwrap();
        while ws.receive()?.is_some() {}
        Ok(())
    });
    let mut peer = server.open();
    let ws = has_begun.recv_timeout(DEADLINE).unwrap();
    let (tell, told) = news();
    let writing = {
        let ws = ws.clone();
        runtime::spawn(move || {
            let mut message = ws.text_writer().unwrap();
            message.write_all(b"half").unwrap();
            message.flush().unwrap();
            tell.send(()).unwrap();
            runtime::sleep(io_support::NEVER);
        })
    };
    told.next();
    let waiting = {
        let ws = ws.clone();
        thread::spawn(move || ws.send("behind"))
    };
    writing.kill();
    assert!(waiting.join().unwrap().is_err());
    assert_eq!(frames_until_close(&mut peer), (1, 1011));
}

#[test]
fn end_of_the_connection_lets_waiting_senders_go() {
    let (begun, has_begun) = mpsc::channel();
    let server = serve(move |ws| {
        let mut message = ws.text_writer()?;
        message.write_all(b"half")?;
        message.flush()?;
        begun.send(ws.clone()).unwrap();
        // It never ends its message, but sees the end of the connection.
        while ws.receive()?.is_some() {}
        Ok(())
    });
    let mut peer = server.open();
    let ws = has_begun.recv_timeout(DEADLINE).unwrap();
    let waiting = thread::spawn(move || ws.send("behind"));
    peer.write(close(1000));
    assert!(matches!(
        waiting.join().unwrap(),
        Err(WebSocketError::Closed)
    ));
    assert_eq!(frames_until_close(&mut peer), (1, 1000));
}

#[test]
fn a_greenlet_does_not_wait_for_itself() {
    let server = serve(|ws| {
        let message = ws.text_writer()?;
        for error in [ws.send("x").unwrap_err(), ws.binary_writer().unwrap_err()] {
            let WebSocketError::Wait(error) = error else {
                panic!("{error:?}");
            };
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        }
        message.finish()?;
        ws.send("after").map_err(Into::into)
    });
    let mut peer = server.open();
    peer.expect(TEXT, "");
    peer.expect(TEXT, "after");
}

#[test]
fn text_that_is_none_is_refused() {
    let server = serve(|ws| {
        let mut message = ws.text_writer()?;
        message.write_all(b"a\xe2")?;
        let error = message.write(b"\xff").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        // As if it had not been tried.
        message.write_all(b"\x82\xac")?;
        message.finish()?;
        let mut cut = ws.text_writer()?;
        cut.write_all(b"b\xe2")?;
        let WebSocketError::Wait(error) = cut.finish().unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        ws.send("still open").map_err(Into::into)
    });
    let mut peer = server.open();
    peer.expect(TEXT, "a\u{20ac}");
    peer.expect(TEXT, "still open");
}

#[test]
fn slow_peer_holds_the_writer_back() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut message = ws.binary_writer()?;
        let mut sent = 0_usize;
        while sent < 64 << 20 {
            let wrote = runtime::with_timeout(Duration::from_millis(200), || {
                message.write_all(&[7; 100_000])
            });
            match wrote {
                Ok(wrote) => wrote?,
                Err(_) => break,
            }
            sent += 100_000;
        }
        tell.send(sent).unwrap();
        drop(message);
        Ok(())
    });
    let peer = server.open();
    // What the system takes, and little more.
    let sent = told.next();
    assert!(sent < 32 << 20, "{sent}");
    drop(peer);
}

#[test]
fn frames_come_as_they_are() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        while let Some(frame) = ws.receive_frame()? {
            tell.send(frame).unwrap();
        }
        tell.send(Frame::of(OpCode::Text, "over")).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(frame(false, TEXT, b"\xe2"));
    peer.write(ping("?"));
    peer.write(frame(true, PONG, "!"));
    peer.write(frame(true, 0, b"\x82\xac"));
    peer.write(binary(""));
    peer.write(close(1000));
    for expected in [
        Frame::more(OpCode::Text, b"\xe2"),
        Frame::of(OpCode::Ping, "?"),
        Frame::of(OpCode::Pong, "!"),
        Frame::of(OpCode::Continuation, b"\x82\xac"),
        Frame::of(OpCode::Binary, ""),
        Frame::of(OpCode::Close, 1000_u16.to_be_bytes()),
        Frame::of(OpCode::Text, "over"),
    ] {
        assert_eq!(told.next(), expected);
    }
    // The ping was not answered, the close frame was.
    assert_eq!(frames_until_close(&mut peer), (0, 1000));
}

#[test]
fn frames_are_checked_as_messages_are() {
    let wrong: [(Vec<u8>, u16); 6] = [
        (frame(true, 0, "no message"), 1002),
        ([frame(false, TEXT, "a"), text("b")].concat(), 1002),
        (frame(false, PING, "half"), 1002),
        (
            [frame(false, TEXT, "a"), frame(true, 0, b"\xff")].concat(),
            1007,
        ),
        (close(1005), 1002),
        (binary(vec![0; 2000]), 1009),
    ];
    for (wire, code) in wrong {
        let config = WebSocketConfig::default().max_message_size(1000);
        let server = serve_with(config, |ws| {
            while ws.receive_frame()?.is_some() {}
            Ok(())
        });
        let mut peer = server.open();
        peer.write(wire);
        assert_eq!(peer.close_code(), code);
    }
}

#[test]
fn pongs_to_own_pings_are_no_business_of_the_frames() {
    let (tell, told) = news();
    let config = WebSocketConfig::default().ping(Duration::from_millis(20), DEADLINE);
    let server = serve_with(config, move |ws| {
        while let Some(frame) = ws.receive_frame()? {
            tell.send((frame, ws.rtt().is_some())).unwrap();
        }
        Ok(())
    });
    let mut peer = server.open();
    let pinged = peer.frame();
    assert_eq!(pinged.opcode, PING);
    peer.write(frame(true, PONG, pinged.payload));
    peer.write(text("x"));
    assert_eq!(told.next(), (Frame::of(OpCode::Text, "x"), true));
    peer.close_amid_pings();
}

#[test]
fn frames_that_no_peer_would_take_are_not_sent() {
    let server = serve(|ws| {
        let wrong = |frame: Frame| {
            let error = ws.send_frame(frame.clone()).unwrap_err();
            assert!(
                matches!(error, WebSocketError::Encode(_)),
                "{frame:?}: {error:?}"
            );
        };
        wrong(Frame::of(OpCode::Continuation, "no message"));
        wrong(Frame::more(OpCode::Ping, ""));
        wrong(Frame::of(OpCode::Pong, vec![0; 126]));
        wrong(Frame::of(OpCode::Close, [3]));
        wrong(Frame::of(OpCode::Close, 1005_u16.to_be_bytes()));
        wrong(Frame::of(OpCode::Close, vec![0; 126]));
        wrong(Frame::of(OpCode::Text, b"\xff"));
        wrong(Frame::more(OpCode::Text, b"\xff"));
        ws.send_frame(Frame::more(OpCode::Text, b"a\xe2"))?;
        wrong(Frame::of(OpCode::Binary, "another"));
        wrong(Frame::of(OpCode::Continuation, b"\x82"));
        wrong(Frame::of(OpCode::Continuation, b"\x82\xff"));
        ws.send_frame(Frame::of(OpCode::Ping, "between"))?;
        ws.send_frame(Frame::of(OpCode::Continuation, b"\x82\xac"))?;
        ws.send_frame(Frame::of(OpCode::Binary, [1, 2]))?;
        ws.send("message")?;
        ws.send_frame(Frame::of(OpCode::Close, b"\x0f\xa0bye"))?;
        let late = ws.send_frame(Frame::of(OpCode::Text, "late"));
        assert!(matches!(late, Err(WebSocketError::Closed)));
        while ws.receive()?.is_some() {}
        assert_eq!(ws.disconnect().unwrap().close_code().as_u16(), 4000);
        Ok(())
    });
    let mut peer = server.open();
    let first = peer.frame();
    assert_eq!((first.fin, &first.payload[..]), (false, &b"a\xe2"[..]));
    peer.expect(PING, "between");
    peer.expect(0, b"\x82\xac");
    peer.expect(BINARY, [1, 2]);
    peer.expect(TEXT, "message");
    peer.expect(CLOSE, b"\x0f\xa0bye");
    peer.write(close(4000));
    peer.expect_end();
}

/// A proxy of frames, between clients and an echo server.
#[test]
fn proxy_of_frames_is_not_seen() {
    let back = serve_with(WebSocketConfig::default().deflate(Deflate::default()), echo);
    let url = format!("ws://{}/", back.address);
    let front = serve_with(
        WebSocketConfig::default().deflate(Deflate::default()),
        move |client| {
            let server = Connect::to(&url).deflate(Deflate::default()).connect()?;
            let pass = |from: WebSocket, to: WebSocket| {
                move || -> std::result::Result<(), WebSocketError> {
                    while let Some(frame) = from.receive_frame()? {
                        to.send_frame(frame)?;
                    }
                    Ok(())
                }
            };
            let hub = Hub::current().unwrap();
            let up = Builder::new()
                .hub(hub)
                .spawn(pass(client.clone(), server.clone()))
                .unwrap();
            pass(server, client)().ok();
            up.join().ok();
            Ok(())
        },
    );
    let ws = Connect::to(format!("ws://{}/", front.address))
        .deflate(Deflate::default())
        .connect()
        .unwrap();
    for len in [0, 10, 2000, 70_000, 500_000] {
        let bytes = pattern(len);
        ws.send(&bytes).unwrap();
        assert!(
            ws.receive().unwrap() == Some(Message::Binary(bytes)),
            "{len}"
        );
        let text = "\u{20ac}".repeat(len / 3);
        let mut message = ws.text_writer().unwrap();
        message.write_all(text.as_bytes()).unwrap();
        message.flush().unwrap();
        message.finish().unwrap();
        assert!(ws.receive().unwrap() == Some(Message::Text(text)), "{len}");
    }
    ws.close(CloseCode::NORMAL, "").unwrap();
    assert!(ws.disconnect().unwrap().is_clean());
}
