//! How connections end: each way has one outcome, one code, and a time limit.
#![cfg(feature = "io")]

mod io_support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Event};
use greenwood_websocket::proto::ProtocolError;
use greenwood_websocket::{CloseCode, Disconnect, WebSocket, WebSocketConfig, WebSocketError};
use io_support::{
    BINARY, CLOSE, DEADLINE, NEVER, PONG, TEXT, announcement, binary, close, echo, frame, news,
    pattern, ping, serve, serve_with, text,
};

/// Long enough for a loaded machine to answer, short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

fn soon() -> WebSocketConfig {
    WebSocketConfig::default().close_timeout(SOON)
}

fn never() -> WebSocketConfig {
    WebSocketConfig::default().close_timeout(NEVER)
}

/// What a handle says at the end, as text that can be compared.
fn verdict(ws: &WebSocket) -> String {
    let received = match ws.receive() {
        Ok(None) => "clean".to_owned(),
        Ok(Some(message)) => format!("{message:?}"),
        Err(WebSocketError::Disconnected(disconnect)) => format!("{disconnect:?}"),
        Err(error) => format!("{error:?}"),
    };
    let Some(disconnect) = ws.disconnect() else {
        return format!("{received}, open");
    };
    format!(
        "{received}, {} {:?}",
        disconnect.close_code().as_u16(),
        disconnect.reason()
    )
}

#[test]
fn peers_close_is_echoed_and_clean() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        echo(ws.clone())?;
        told.send((ws.closed(), verdict(&ws))).unwrap();
        assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
        assert!(matches!(ws.ping(b"late"), Err(WebSocketError::Closed)));
        assert!(ws.close(CloseCode::NORMAL, "late").is_ok());
        Ok(())
    });
    for (payload, echoed, outcome) in [
        (&b"\x03\xe8bye"[..], &b"\x03\xe8"[..], "clean, 1000 \"bye\""),
        (b"\x0f\xa0", b"\x0f\xa0", "clean, 4000 \"\""),
        (b"", b"", "clean, 1005 \"\""),
    ] {
        let mut peer = server.open();
        peer.write(frame(true, CLOSE, payload));
        peer.expect(CLOSE, echoed);
        peer.expect_end();
        assert_eq!(heard.next(), (true, outcome.to_owned()));
    }
}

#[test]
fn application_that_returns_closes_with_1000() {
    let server = serve_with(never(), |ws| {
        let first = ws.receive()?.expect("a message");
        ws.send(first)?;
        Ok(())
    });
    let mut peer = server.open();
    // What the peer had sent before it saw the close frame is dropped.
    peer.write([text("first"), text("second")].concat());
    peer.expect(TEXT, "first");
    peer.expect(CLOSE, [0x03, 0xe8]);
    peer.write([binary(pattern(100_000)), ping("p"), close(1000)].concat());
    // RFC 6455, 5.5.2: a pong is due until the close frame has come.
    peer.expect(PONG, "p");
    peer.expect_end();
}

#[test]
fn close_of_the_handler_waits_for_the_answer() {
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        ws.close(CloseCode::POLICY_VIOLATION, "enough")?;
        told.send((ws.closed(), verdict(&ws), ws.send("late").is_err()))
            .unwrap();
        ws.close(CloseCode::NORMAL, "again")?;
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(CLOSE, b"\x03\xf0enough");
    assert!(heard.is_empty());
    peer.write(close(1008));
    assert_eq!(
        heard.next(),
        (true, "clean, 1008 \"enough\"".to_owned(), true)
    );
    peer.expect_end();
}

/// Has `closing` called while the handler waits in `receive`, and returns what both see.
fn closed_from_elsewhere(closing: impl Fn(WebSocket) + Send + Sync + 'static) -> [String; 2] {
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        ws.send("here")?;
        told.send((None, ws.clone())).unwrap();
        let seen = verdict(&ws);
        told.send((Some(seen), ws)).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "here");
    let (_, ws) = heard.next();
    let peers = thread::spawn(move || {
        assert_eq!(peer.close_code(), 4001);
        peer.write(close(4001));
        peer.expect_end();
    });
    closing(ws.clone());
    let (seen, _) = heard.next();
    peers.join().unwrap();
    [seen.unwrap(), verdict(&ws)]
}

#[test]
fn close_from_a_thread_or_another_greenlet_ends_receive() {
    let code = CloseCode::from(4001);
    let clean = ["clean, 4001 \"\"", "clean, 4001 \"\""];
    assert_eq!(
        closed_from_elsewhere(move |ws| ws.close(code, "").unwrap()),
        clean
    );
    assert_eq!(
        closed_from_elsewhere(move |ws| ws.close_nowait(code, "").unwrap()),
        clean
    );
    assert_eq!(
        closed_from_elsewhere(move |ws| {
            runtime::spawn(move || ws.close(code, "").unwrap())
                .join()
                .unwrap();
        }),
        clean
    );
    // Several at once.
    assert_eq!(
        closed_from_elsewhere(move |ws| {
            let closing: Vec<_> = (0..4)
                .map(|i| {
                    let ws = ws.clone();
                    runtime::Builder::new()
                        .hub(i % runtime::Hub::count())
                        .spawn(move || ws.close(code, "").unwrap())
                        .unwrap()
                })
                .collect();
            ws.close(code, "").unwrap();
            assert!(runtime::joinall(&closing, Some(DEADLINE)));
        }),
        clean
    );
}

/// The handler is busy with a message when another closes: its next `receive` says so, and it is no
/// error.
#[test]
fn close_while_the_handler_is_busy_is_clean_for_both() {
    let (told, heard) = news();
    let closing = Arc::new(Event::new());
    let begun = Arc::clone(&closing);
    let server = serve_with(never(), move |ws| {
        let _ = ws.receive()?;
        told.send(Some(ws.clone())).unwrap();
        begun.wait();
        // What crossed the close frame is the handler's or dropped.
        while ws.receive()?.is_some() {}
        told.send(None).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(text("work"));
    let ws = heard.next().unwrap();
    let closer = thread::spawn(move || {
        ws.close(CloseCode::NORMAL, "").unwrap();
        verdict(&ws)
    });
    peer.expect(CLOSE, [0x03, 0xe8]);
    closing.set();
    // Both have gone to wait by the time of the answer, or will find it there.
    peer.is_silent(Duration::from_millis(50));
    peer.write([text("crossing"), close(1000)].concat());
    assert_eq!(closer.join().unwrap(), "clean, 1000 \"\"");
    assert!(heard.next().is_none());
    peer.expect_end();
}

/// The handler gets a message of the peer's while another closes, and is busy with it for a while:
/// that is no reason to cut.
#[test]
fn closer_is_patient_with_a_handler_that_is_busy() {
    let (told, heard) = news();
    let (resume, pause) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (resumed, paused) = (Arc::clone(&resume), Arc::clone(&pause));
    let server = serve_with(never(), move |ws| {
        told.send(ws.clone()).unwrap();
        while ws.receive()?.is_some() {
            paused.set();
            resumed.wait();
        }
        Ok(())
    });
    let mut peer = server.open();
    let ws = heard.next();
    let closer = thread::spawn(move || {
        ws.close(CloseCode::NORMAL, "").unwrap();
        verdict(&ws)
    });
    peer.expect(CLOSE, [0x03, 0xe8]);
    peer.write(text("crossing"));
    if !pause.wait_timeout(Duration::from_millis(100)) {
        // The closer has taken it, which is right too.
    }
    peer.write(close(1000));
    assert_eq!(closer.join().unwrap(), "clean, 1000 \"\"");
    resume.set();
    peer.expect_end();
}

#[test]
fn closes_that_cross_are_clean() {
    let (told, heard) = news();
    let go = Arc::new(Event::new());
    let gone = Arc::clone(&go);
    let server = serve_with(never(), move |ws| {
        gone.wait();
        ws.close(CloseCode::NORMAL, "ours")?;
        told.send(verdict(&ws)).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(close(4000));
    go.set();
    assert_eq!(peer.close_code(), 1000);
    peer.expect_end();
    assert_eq!(heard.next(), "clean, 1000 \"ours\"");
}

#[test]
fn peer_that_does_not_answer_is_cut_in_time() {
    let (told, heard) = news();
    let server = serve_with(soon(), move |ws| {
        match ws.receive()?.as_ref().and_then(|m| m.as_text()) {
            Some("close") => ws.close(CloseCode::NORMAL, "")?,
            Some("nowait") => ws.close_nowait(CloseCode::NORMAL, "")?,
            Some("thread") => {
                let other = ws.clone();
                drop(thread::spawn(move || other.close(CloseCode::NORMAL, "")));
            }
            Some("killed") => {
                let other = ws.clone();
                let closer = runtime::spawn(move || other.close(CloseCode::NORMAL, ""));
                while !ws.closed() {
                    runtime::sleep(Duration::from_millis(1));
                }
                closer.kill();
            }
            _ => {}
        }
        told.send(verdict(&ws)).unwrap();
        Ok(())
    });
    for way in ["close", "nowait", "thread", "killed"] {
        for noisy in [false, true] {
            let mut peer = server.open();
            peer.write(text(way));
            assert_eq!(peer.close_code(), 1000);
            let began = Instant::now();
            if noisy && way == "close" {
                // Data is no answer.
                while peer.try_write(text("more")).is_ok() {
                    assert!(began.elapsed() < DEADLINE);
                }
            }
            peer.expect_cut();
            assert_eq!(heard.next(), "CloseTimeout, 1006 \"\"", "{way}");
        }
    }
}

#[test]
fn codes_and_reasons_that_can_not_be_sent_leave_the_connection_open() {
    let server = serve(|ws| {
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            let code = CloseCode::from(code);
            let error = ws.close(code, "").unwrap_err();
            assert!(
                matches!(error, WebSocketError::Encode(_)),
                "{code:?}: {error:?}"
            );
            assert!(ws.close_nowait(code, "").is_err());
        }
        let long = "x".repeat(124);
        assert!(matches!(
            ws.close(CloseCode::NORMAL, &long),
            Err(WebSocketError::Encode(_))
        ));
        assert!(!ws.closed());
        ws.send("still open")?;
        echo(ws.clone())?;
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "still open");
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    peer.close();
}

#[test]
fn longest_reason_arrives() {
    let server = serve(|ws| Ok(ws.close(CloseCode::NORMAL, &"x".repeat(123))?));
    let mut peer = server.open();
    let payload = [b"\x03\xe8".to_vec(), vec![b'x'; 123]].concat();
    peer.expect(CLOSE, payload);
    peer.write(close(1000));
    peer.expect_end();
}

/// A server that tells what `receive` says at the end, twice.
fn witness() -> (io_support::Server, io_support::News<String>) {
    let (told, heard) = news();
    let server = serve_with(soon(), move |ws| {
        while let Ok(Some(message)) = ws.receive() {
            ws.send(message)?;
        }
        let first = verdict(&ws);
        assert_eq!(verdict(&ws), first);
        assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
        told.send(first).unwrap();
        Ok(())
    });
    (server, heard)
}

#[test]
fn end_without_a_close_frame_is_1006() {
    let (server, heard) = witness();
    for start in [vec![], text("x"), text("x")[..3].to_vec()] {
        let mut peer = server.open();
        peer.write(&start);
        peer.end_sending();
        peer.expect_cut();
        assert_eq!(heard.next(), "TransportEnd, 1006 \"\"");
    }
}

#[test]
fn reset_is_1006() {
    let (server, heard) = witness();
    let mut peer = server.open();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    peer.reset();
    assert_eq!(heard.next(), "TransportError, 1006 \"\"");
}

/// A peer that ends its side may still read: what was on its way to it is not dropped.
#[test]
fn peer_that_ends_its_side_gets_what_is_on_its_way() {
    let server = serve_with(
        WebSocketConfig::default()
            .max_message_size(32 << 20)
            .high_water(64 << 20),
        echo,
    );
    let mut peer = server.open();
    let message = pattern(16 << 20);
    peer.write(binary(&message));
    peer.write(text("last"));
    peer.end_sending();
    peer.expect(BINARY, message);
    peer.expect(TEXT, "last");
    peer.expect_end();
}

#[test]
fn peers_mistakes_are_named_to_it() {
    let (server, heard) = witness();
    let unmasked = vec![0x81, 0x01, b'x'];
    let masked = |payload: &[u8]| frame(true, CLOSE, payload);
    for (wire, code, outcome) in [
        (unmasked, 1002, "ProtocolError(Unmasked)"),
        (vec![0xc1, 0x80, 0, 0, 0, 0], 1002, "ProtocolError(Reserved"),
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002, "ProtocolError("),
        (frame(true, 0, "x"), 1002, "ProtocolError(Unexpected"),
        (
            [frame(false, TEXT, "x"), text("y")].concat(),
            1002,
            "ProtocolError(Unfinished",
        ),
        (frame(false, 9, "x"), 1002, "ProtocolError("),
        (frame(true, 9, [0; 126]), 1002, "ProtocolError("),
        (masked(&[3]), 1002, "ProtocolError("),
        (masked(&1005u16.to_be_bytes()), 1002, "ProtocolError("),
        (masked(b"\x03\xe8\xff"), 1007, "ProtocolError("),
        (text(b"\xff"), 1007, "ProtocolError(InvalidText"),
        (
            [frame(false, TEXT, b"\xc3"), frame(true, 0, "")].concat(),
            1007,
            "ProtocolError(",
        ),
        (
            announcement(true, BINARY, (1 << 20) + 1),
            1009,
            "LimitExceeded(",
        ),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1002, "ProtocolError("),
    ] {
        for before in ["", "x"] {
            let mut peer = server.open();
            // What was in order before is answered.
            let sent = [text(before), wire.clone(), text("ignored")].concat();
            peer.write(sent);
            peer.expect(TEXT, before);
            assert_eq!(peer.close_code(), code, "{wire:02x?}");
            peer.expect_end();
            let verdict = heard.next();
            assert!(verdict.starts_with(outcome), "{verdict}: {wire:02x?}");
            assert!(
                verdict.ends_with(&format!(", {code} \"\"")),
                "{verdict}: {wire:02x?}"
            );
        }
    }
}

#[test]
fn error_tells_the_application_whose_fault_it_was() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        let error = ws.receive().unwrap_err();
        told.send(error.close_code()).unwrap();
        let WebSocketError::Disconnected(Disconnect::ProtocolError(error)) = error else {
            panic!("{error:?}");
        };
        assert!(matches!(error, ProtocolError::InvalidText { .. }));
        Ok(())
    });
    let mut peer = server.open();
    peer.write(text(b"\xff"));
    assert_eq!(peer.close_code(), 1007);
    assert_eq!(heard.next(), CloseCode::INVALID_PAYLOAD);
}

/// A peer that sends a message that is too big, all of it, before it looks at what came: it must
/// find the reason, not a reset.
#[test]
fn peer_in_full_spate_still_sees_the_reason() {
    let (server, heard) = witness();
    let mut peer = server.open();
    peer.write(announcement(true, BINARY, 16 << 20));
    for _ in 0..16 {
        peer.write(vec![0; 1 << 20]);
    }
    assert_eq!(peer.close_code(), 1009);
    peer.expect_end();
    assert!(heard.next().starts_with("LimitExceeded"));
}

/// A proxy passes the end of our side on at once, to a peer that has not yet sent all of the message:
/// the end must not come before that.
#[test]
fn transport_stays_open_until_a_refused_frame_is_over() {
    // A peer that is held up is waited for.
    let server = serve_with(WebSocketConfig::default().close_timeout(NEVER), echo);
    for (start, rest, code) in [
        (announcement(true, BINARY, 2 << 20), 2 << 20, 1009),
        // The first byte is no text; the rest of the frame is owed all the same.
        (
            [announcement(true, TEXT, 300_000), vec![0xc8]].concat(),
            299_999,
            1007,
        ),
        // A reserved bit.
        (
            [
                vec![0xc2, 0xff],
                300_000u64.to_be_bytes().to_vec(),
                vec![0; 4],
            ]
            .concat(),
            300_000,
            1002,
        ),
    ] {
        let mut peer = server.open();
        peer.write(start);
        assert_eq!(peer.close_code(), code);
        peer.write(vec![0; rest - 1]);
        assert!(peer.is_silent(Duration::from_millis(300)));
        peer.write([0]);
        peer.expect_end();
    }
}

#[test]
fn peer_that_stops_in_a_refused_frame_is_not_waited_for_long() {
    let (server, _heard) = witness();
    let mut peer = server.open();
    peer.write(announcement(true, BINARY, 2 << 20));
    assert_eq!(peer.close_code(), 1009);
    peer.expect_end();
}

#[test]
fn what_follows_a_close_frame_is_ignored() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        while let Some(message) = ws.receive()? {
            told.send(message.to_string()).unwrap();
        }
        told.send("end".to_owned()).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write([text("before"), close(1000), text("after"), vec![0xff; 500]].concat());
    peer.expect(CLOSE, [0x03, 0xe8]);
    peer.expect_end();
    assert_eq!(heard.next(), "before");
    assert_eq!(heard.next(), "end");
}

#[test]
fn second_receiver_is_refused_and_the_first_goes_on() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        let other = ws.clone();
        let told = told.clone();
        let second = runtime::spawn_local(move || {
            // It runs when the first waits.
            let error = other.receive().unwrap_err();
            assert!(matches!(error, WebSocketError::Wait(_)), "{error:?}");
            told.send(()).unwrap();
        });
        let result = echo(ws);
        second.join().unwrap();
        result
    });
    let mut peer = server.open();
    heard.next();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    peer.close();
}

#[test]
fn clones_are_the_same_connection() {
    let server = serve(|ws| {
        let (first, second) = (ws.clone(), ws);
        let message = first.receive()?.expect("a message");
        drop(first);
        second.send(message)?;
        second.clone().close(CloseCode::NORMAL, "")?;
        assert!(second.closed());
        Ok(())
    });
    let mut peer = server.open();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    assert_eq!(peer.close_code(), 1000);
    peer.write(close(1000));
    peer.expect_end();
}

#[test]
fn failed_application_closes_with_1011() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        told.send(ws.clone()).unwrap();
        match ws.receive()?.as_ref().and_then(|m| m.as_text()) {
            Some("error") => Err("on purpose".into()),
            Some("encode") => Ok(ws.close(CloseCode::NO_STATUS, "")?),
            Some("late") => {
                let _limit = runtime::Timeout::start_new(Duration::from_millis(5));
                runtime::sleep(NEVER);
                Ok(())
            }
            _ => panic!("on purpose"),
        }
    });
    for way in ["error", "encode", "late", "panic"] {
        let mut peer = server.open();
        peer.write(text(way));
        assert_eq!(peer.close_code(), 1011, "{way}");
        peer.write(close(1011));
        peer.expect_end();
        let ws = heard.next();
        assert_eq!(ws.disconnect(), Some(Disconnect::ApplicationError), "{way}");
        assert!(verdict(&ws).ends_with("1011 \"\""), "{way}");
    }
}

/// What was answered before the failure is not dropped with it, nor the close frame.
#[test]
fn panic_within_a_batch_loses_nothing() {
    let server = serve(|ws| {
        while let Some(message) = ws.receive()? {
            if message.as_text() == Some("panic") {
                panic!("on purpose");
            }
            ws.send(message)?;
        }
        Ok(())
    });
    let mut peer = server.open();
    peer.write([text("1"), text("2"), text("panic"), text("3")].concat());
    peer.expect(TEXT, "1");
    peer.expect(TEXT, "2");
    assert_eq!(peer.close_code(), 1011);
    peer.expect_end();
}

#[test]
fn handle_that_outlives_its_application_is_closed() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&kept);
    let server = serve(move |ws| {
        keeping.lock().unwrap().push(ws.clone());
        ws.send("kept")?;
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "kept");
    assert_eq!(peer.close_code(), 1000);
    peer.write(close(1000));
    peer.expect_end();
    let ws = kept.lock().unwrap().pop().unwrap();
    assert!(ws.closed());
    assert_eq!(verdict(&ws), "clean, 1000 \"\"");
    assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
    ws.close(CloseCode::NORMAL, "").unwrap();
}

#[test]
fn thread_may_receive() {
    let server = serve(|ws| {
        let (done, told) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let tell = Arc::clone(&told);
        let theirs = ws.clone();
        let wait = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let result = echo(theirs);
            tell.set();
            wait.wait_timeout(DEADLINE);
            result
        });
        told.wait();
        done.set();
        thread.join().unwrap()
    });
    let mut peer = server.open();
    for size in [1, 70_000, 300_000] {
        peer.write([binary(pattern(size)), text("t")].concat());
        peer.expect(BINARY, pattern(size));
        peer.expect(TEXT, "t");
    }
    peer.close();
}

/// An application that returns, or fails, while a thread of its own receives: the thread sees the
/// end.
#[test]
fn receiver_that_outlives_its_application_sees_the_end() {
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        let fails = ws.receive()?.expect("a message").as_text() == Some("fail");
        let (theirs, told) = (ws.clone(), told.clone());
        drop(thread::spawn(move || {
            let verdict = loop {
                let verdict = verdict(&theirs);
                if !verdict.starts_with("Wait") {
                    break verdict;
                }
            };
            told.send(verdict).unwrap();
        }));
        // Until the thread has the place.
        while !matches!(
            runtime::with_timeout(Duration::ZERO, || ws.receive()),
            Ok(Err(WebSocketError::Wait(_)))
        ) {
            runtime::sleep(Duration::from_millis(1));
        }
        if fails {
            return Err("on purpose".into());
        }
        Ok(())
    });
    for (way, code, verdict) in [
        ("return", 1000, "clean, 1000 \"\""),
        ("fail", 1011, "ApplicationError, 1011 \"\""),
    ] {
        let mut peer = server.open();
        peer.write(text(way));
        assert_eq!(peer.close_code(), code);
        if code == 1000 {
            peer.write(close(code));
        }
        assert_eq!(heard.next(), verdict);
        peer.expect_end();
    }
}

#[test]
fn time_out_and_kill_of_a_receiver_lose_nothing() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        ws.send("ready")?;
        let elapsed = runtime::with_timeout(Duration::from_millis(20), || ws.receive());
        assert!(elapsed.is_err(), "{elapsed:?}");
        told.send("timed out").unwrap();
        // In the middle of a message as well.
        while let Err(_elapsed) = runtime::with_timeout(Duration::from_millis(10), || {
            let message = ws.receive().unwrap().unwrap();
            assert_eq!(message.into_bytes(), pattern(100_000));
        }) {}
        let other = ws.clone();
        let receiver = runtime::spawn(move || other.receive());
        told.send("killing").unwrap();
        io_support::until_waits(receiver.id());
        receiver.kill();
        told.send("killed").unwrap();
        echo(ws)
    });
    let mut peer = server.open();
    peer.expect(TEXT, "ready");
    assert_eq!(heard.next(), "timed out");
    let wire = binary(pattern(100_000));
    for piece in wire.chunks(9_999) {
        peer.write(piece);
        peer.is_silent(Duration::from_millis(5));
    }
    assert_eq!(heard.next(), "killing");
    peer.write(&text("whole")[..4]);
    assert_eq!(heard.next(), "killed");
    peer.write(&text("whole")[4..]);
    peer.expect(TEXT, "whole");
    peer.close();
}

/// A destructor that closes, in a greenlet that unwinds: it may not wait, and must not spin either.
#[test]
fn close_in_a_destructor_does_not_wait() {
    struct Closes(WebSocket, std::sync::mpsc::Sender<()>);
    impl Drop for Closes {
        fn drop(&mut self) {
            self.0.close(CloseCode::GOING_AWAY, "").unwrap();
            self.1.send(()).unwrap();
        }
    }
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        let mut receiver = None;
        if ws.receive()?.expect("a message").as_text() == Some("receiver") {
            // Somebody else is in receive meanwhile.
            let other = ws.clone();
            receiver = Some(runtime::spawn_local(move || other.receive().map(drop)));
            io_support::until_waits(receiver.as_ref().unwrap().id());
        }
        let _closes = Closes(ws, told.clone());
        let _receiver = receiver;
        panic!("on purpose");
    });
    for way in ["alone", "receiver"] {
        let mut peer = server.open();
        peer.write(text(way));
        assert_eq!(peer.close_code(), 1001, "{way}");
        heard.next();
        peer.write(close(1001));
        peer.expect_end();
    }
}
