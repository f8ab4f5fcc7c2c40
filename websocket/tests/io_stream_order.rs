//! Readers and writers that are interrupted, or used out of turn.
#![cfg(feature = "io")]

mod io_support;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime as runtime;
use greenwood_runtime::Event;
use greenwood_websocket::{
    CloseCode, MessageReader, MessageWriter, SlowConsumer, WebSocket, WebSocketConfig,
    WebSocketError, broadcast,
};
use greenwood_wsgi::Result;
use io_support::{
    BINARY, CLOSE, DEADLINE, NEVER, PING, TEXT, close, frame, news, serve, serve_with, text,
    until_waits,
};

/// Why a reader fails.
fn failure(reader: &mut MessageReader<'_>) -> ErrorKind {
    match reader.chunk() {
        Err(WebSocketError::Wait(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn writer_that_was_interrupted_repeats_nothing() {
    const PIECE: usize = 10_000;
    let piece = |i: u32| i.to_be_bytes().repeat(PIECE / 4);
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut message = ws.binary_writer()?;
        let mut i = 0;
        // Until the peer, which does not read, holds it up. What was written last is on its way.
        // The time is for the writing to begin: else the last piece would not be.
        while runtime::with_timeout(Duration::from_secs(3), || {
            message.write_all(&piece(i)).unwrap();
        })
        .is_ok()
        {
            i += 1;
        }
        tell.send(i + 1).unwrap();
        message.write_all(&piece(i + 1))?;
        message.finish()?;
        Ok(())
    });
    let mut peer = server.open();
    let interrupted = told.next();
    let mut received = Vec::new();
    loop {
        let frame = peer.frame();
        received.extend_from_slice(&frame.payload);
        if frame.fin {
            break;
        }
    }
    assert_eq!(received.len(), (interrupted as usize + 1) * PIECE);
    for i in 0..=interrupted {
        let at = i as usize * PIECE;
        assert!(
            received[at..at + PIECE] == piece(i),
            "piece {i} of {interrupted}"
        );
    }
    peer.close();
}

#[test]
fn receiving_out_of_turn_does_not_touch_a_readers_message() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut message = ws.next_reader()?.unwrap();
        let mut whole = [0; 4];
        message.read_exact(&mut whole)?;
        tell.send("begun".to_owned()).unwrap();
        let other = ws.clone();
        let tell_refused = tell.clone();
        // Tries while the reader waits, in all ways.
        let intruder = runtime::spawn_local(move || {
            for refused in [
                other.receive().map(|_| ()),
                other.next_reader().map(|_| ()),
                other.receive_frame().map(|_| ()),
            ] {
                match refused {
                    Err(WebSocketError::Wait(error)) => {
                        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
                    }
                    other => panic!("{other:?}"),
                }
            }
            tell_refused.send("refused".to_owned()).unwrap();
        });
        let mut rest = String::new();
        message.read_to_string(&mut rest)?;
        tell.send(rest).unwrap();
        intruder.join().unwrap();
        tell.send(ws.receive()?.unwrap().to_string()).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(frame(false, TEXT, "one "));
    assert_eq!(told.next(), "begun");
    assert_eq!(told.next(), "refused");
    peer.write(frame(true, 0, "message"));
    assert_eq!(told.next(), "message");
    peer.write(text("another"));
    assert_eq!(told.next(), "another");
    peer.close();
}

#[test]
fn reader_whose_message_was_dropped_gives_no_others_bytes() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let mut first = ws.next_reader()?.unwrap();
        assert_eq!(first.chunk()?.unwrap(), b"1");
        // Asked for meanwhile, as a whole, in parts, and frame by frame.
        assert_eq!(ws.receive()?, Some("2".into()));
        assert_eq!(failure(&mut first), ErrorKind::InvalidInput);
        let mut third = ws.next_reader()?.unwrap();
        assert_eq!(third.chunk()?.unwrap(), b"3");
        assert_eq!(failure(&mut first), ErrorKind::InvalidInput);
        assert_eq!(third.chunk()?.unwrap(), b"three");
        assert_eq!(&ws.receive_frame()?.unwrap().payload, b"drei");
        assert_eq!(failure(&mut third), ErrorKind::InvalidInput);
        assert_eq!(ws.receive()?, Some("4".into()));
        tell.send(()).unwrap();
        while ws.receive()?.is_some() {}
        // The end of the connection is no affair of turns.
        let ended = first.chunk();
        assert!(
            matches!(ended, Err(WebSocketError::Disconnected(_))),
            "{ended:?}"
        );
        tell.send(()).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(frame(false, BINARY, "1"));
    peer.write(frame(true, 0, "one"));
    peer.write(text("2"));
    peer.write(frame(false, TEXT, "3"));
    peer.write(frame(false, 0, "three"));
    peer.write(frame(false, 0, "drei"));
    peer.write(frame(true, 0, "trois"));
    peer.write(text("4"));
    told.next();
    peer.close();
    told.next();
}

#[test]
fn what_is_put_off_behind_an_open_message_is_bounded() {
    let (tell, told) = news();
    let config = WebSocketConfig::default()
        .high_water(64 * 1024)
        .write_timeout(Duration::from_millis(100));
    let server = serve_with(config, move |ws| {
        let mut message = ws.text_writer()?;
        message.write_all(b"begun")?;
        message.flush()?;
        for _ in 0..3 {
            let delivery = broadcast([&ws], &[7; 40_000][..]);
            tell.send((delivery.sent, delivery.slow, delivery.closed))
                .unwrap();
        }
        assert!(
            message
                .write_all(b"late")
                .and_then(|()| message.flush())
                .is_err()
        );
        Ok(())
    });
    let mut peer = server.open();
    // Past the mark the peer counts as too slow: it can't be told from one that does not read.
    for expected in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        assert_eq!(told.next(), expected);
    }
    let begun = peer.frame();
    assert_eq!((begun.fin, &begun.payload[..]), (false, &b"begun"[..]));
    assert_eq!(peer.close_code(), 1008);
}

/// A message that has begun, and to how many another was sent that is put off behind it.
fn with_something_put_off(ws: &WebSocket) -> Result<(MessageWriter<'_>, usize)> {
    let mut message = ws.text_writer()?;
    message.write_all(b"begun")?;
    message.flush()?;
    Ok((message, broadcast([ws], "put off").sent))
}

#[test]
fn nothing_that_was_put_off_follows_the_close_frame() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let (message, sent) = with_something_put_off(&ws)?;
        tell.send(sent).unwrap();
        // Without its end: the connection is failed.
        drop(message);
        Ok(())
    });
    let mut peer = server.open();
    assert_eq!(told.next(), 1);
    let begun = peer.frame();
    assert_eq!((begun.fin, &begun.payload[..]), (false, &b"begun"[..]));
    assert_eq!(peer.frame().opcode, CLOSE);
    peer.expect_end();
}

#[test]
fn nothing_that_was_put_off_follows_a_close_frame_of_the_peer() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        let (message, sent) = with_something_put_off(&ws)?;
        tell.send(sent).unwrap();
        while ws.receive()?.is_some() {}
        drop(message);
        Ok(())
    });
    let mut peer = server.open();
    assert_eq!(told.next(), 1);
    assert_eq!(peer.frame().payload, b"begun");
    peer.write(close(1000));
    assert_eq!(peer.close_code(), 1000);
    peer.expect_end();
}

#[test]
fn close_frame_of_a_slow_one_leaves_with_what_its_own_batch_held_back() {
    let (tell, told) = news();
    let close_seen = Arc::new(Event::new());
    let seen = Arc::clone(&close_seen);
    let config = WebSocketConfig::default()
        .high_water(64 * 1024)
        .slow_consumer(SlowConsumer::Close);
    let server = serve_with(config, move |ws| {
        let (begun, ended) = (Event::new(), Event::new());
        runtime::scope(|scope| -> Result<()> {
            // Another has a message under way: what is sent to many is put off behind it.
            scope.spawn_local(|| {
                let mut message = ws.text_writer().unwrap();
                message.write_all(b"begun").unwrap();
                message.flush().unwrap();
                begun.set();
                ended.wait();
            });
            begun.wait();
            tell.send(0).unwrap();
            assert_eq!(ws.receive()?, Some("go".into()));
            ws.ping(b"held back")?;
            tell.send(broadcast([&ws], &[7; 100_000][..]).slow).unwrap();
            // It waits for something else: what was held back leaves nevertheless.
            seen.wait();
            ended.set();
            Ok(())
        })
    });
    let mut peer = server.open();
    assert_eq!(told.next(), 0);
    // More input at hand: what is sent meanwhile is held back.
    peer.write([text("go"), text("more")].concat());
    assert_eq!(told.next(), 1);
    assert_eq!(peer.frame().payload, b"begun");
    peer.expect(PING, "held back");
    assert_eq!(peer.close_code(), 1008);
    close_seen.set();
}

/// However the connection ends, and although nobody receives.
#[test]
fn no_end_of_the_connection_keeps_senders_behind_an_open_message() {
    let patient = || WebSocketConfig::default().close_timeout(NEVER);
    let ends: [(_, fn(&WebSocket)); 3] = [
        (patient().idle_timeout(Duration::from_millis(300)), |_| {}),
        (patient(), |ws| {
            ws.close_nowait(CloseCode::GOING_AWAY, "").unwrap();
        }),
        (patient().slow_consumer(SlowConsumer::Close), |ws| {
            assert_eq!(broadcast([ws], &[7; 100_000][..]).slow, 1);
        }),
    ];
    for (number, (config, end)) in ends.into_iter().enumerate() {
        let (tell, told) = news();
        let gone_on = Arc::new(Event::new());
        let go_on = Arc::clone(&gone_on);
        let server = serve_with(config, move |ws| {
            let mut message = ws.text_writer()?;
            message.write_all(b"begun")?;
            message.flush()?;
            tell.send(ws.clone()).unwrap();
            go_on.wait();
            Ok(())
        });
        let mut peer = server.open();
        let ws = told.next();
        assert_eq!(peer.frame().payload, b"begun");
        let behind = ws.clone();
        let sender = runtime::spawn(move || behind.send("behind"));
        if number > 0 {
            until_waits(sender.id());
        }
        end(&ws);
        let ended = sender.get_timeout(DEADLINE);
        assert!(
            matches!(ended, Ok(Err(WebSocketError::Closed))),
            "{number}: {ended:?}"
        );
        peer.write(close(1000));
        gone_on.set();
    }
}
