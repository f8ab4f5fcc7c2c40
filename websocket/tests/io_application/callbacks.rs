//! What the callbacks are told, and when.

use std::sync::Arc;
use std::time::Duration;

use crate::io_support::{DEADLINE, TEXT, close, handshake, text};
use crate::support::*;
use greenwood_runtime as runtime;
use greenwood_websocket::{CloseCode, Disconnect, Route, WebSocketConfig};

#[test]
fn callbacks_come_in_order_and_close_last() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peer = served.open("/");
    let count = 2_000;
    let mut wire: Vec<u8> = Vec::new();
    for i in 0..count {
        wire.extend(text(i.to_string()));
    }
    wire.extend(close(4000));
    peer.write(wire);
    assert_eq!(told.next(), Told::Open);
    for i in 0..count {
        assert_eq!(told.next(), Told::Message(i.to_string()));
    }
    assert_eq!(told.next(), Told::Close(peer_closed(4000)));
    assert_eq!(peer.close_code(), 4000);
    peer.expect_end();
    assert!(told.is_empty());
}

#[test]
fn messages_behind_the_handshake_are_not_forgotten() {
    let (served, told) = telling(|client, message| match message {
        "one" | "two" => Ok(client.send(message)?),
        _ => Ok(()),
    });
    let mut peer = served.connect();
    let mut wire = handshake("").into_bytes();
    wire.extend(text("one"));
    wire.extend(text("two"));
    peer.write(wire);
    peer.accepted();
    peer.expect(TEXT, "one");
    peer.expect(TEXT, "two");
    peer.close();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("one".into()));
    assert_eq!(told.next(), Told::Message("two".into()));
    assert_eq!(told.next(), Told::Close(peer_closed(1000)));
}

#[test]
fn transport_loss_is_told_as_such() {
    let (served, told) = telling(|_, _| Ok(()));
    let peer = served.open("/");
    assert_eq!(told.next(), Told::Open);
    drop(peer);
    assert_eq!(told.next(), Told::Close(Disconnect::TransportEnd));
    let peer = served.open("/");
    assert_eq!(told.next(), Told::Open);
    peer.reset();
    assert_eq!(told.next(), Told::Close(Disconnect::TransportError));
}

#[test]
fn half_closed_peer_still_gets_the_answers() {
    let (served, told) = telling(|client, message| match message {
        "open" | "close" => Ok(()),
        _ => Ok(client.send(message)?),
    });
    let mut peer = served.open("/");
    let mut wire = Vec::new();
    for i in 0..500 {
        wire.extend(text(i.to_string()));
    }
    peer.write(wire);
    peer.end_sending();
    for i in 0..500 {
        peer.expect(TEXT, i.to_string());
    }
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    for i in 0..500 {
        assert_eq!(told.next(), Told::Message(i.to_string()));
    }
    assert_eq!(told.next(), Told::Close(Disconnect::TransportEnd));
}

#[test]
fn protocol_error_of_the_peer_is_told() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peer = served.open("/");
    peer.write([0x81, 0x01, b'x']);
    assert_eq!(peer.close_code(), 1002);
    assert_eq!(told.next(), Told::Open);
    match told.next() {
        Told::Close(Disconnect::ProtocolError(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn failing_callback_closes_with_1011() {
    let (served, told) = telling(|_, message| match message {
        "error" => Err("on purpose".into()),
        "panic" => panic!("on purpose"),
        _ => Ok(()),
    });
    for way in ["error", "panic"] {
        let mut peer = served.open("/");
        peer.write(text(way));
        assert_eq!(peer.close_code(), 1011);
        peer.write(close(1011));
        peer.expect_end();
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Message(way.into()));
        assert_eq!(told.next(), Told::Close(Disconnect::ApplicationError));
    }
    assert!(told.is_empty());
}

#[test]
fn failing_on_open_closes_with_1011_and_is_told_of_the_end() {
    let (served, told) = telling(|_, message| match message {
        "open" => Err("on purpose".into()),
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    assert_eq!(peer.close_code(), 1011);
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Close(Disconnect::ApplicationError));
}

#[test]
fn panicking_factory_closes_with_1011() {
    let factory = |_: &greenwood_websocket::Opening<'_>| -> Echo { panic!("on purpose") };
    let served = serve([("/", Route::websocket(factory))]);
    let mut peer = served.open("/");
    assert_eq!(peer.close_code(), 1011);
    peer.write(close(1011));
    peer.expect_end();
    nobody_is_left(&served);
}

#[test]
fn panic_in_on_close_harms_nobody() {
    let (served, told) = telling(|_, message| match message {
        "close" => panic!("on purpose"),
        _ => Ok(()),
    });
    for _ in 0..2 {
        let peer = served.open("/");
        peer.close();
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Close(peer_closed(1000)));
    }
}

#[test]
fn send_to_a_connection_that_has_gone_is_no_failure() {
    let (served, told) = telling(|client, message| match message {
        "first" => {
            client.ws().close_nowait(CloseCode::from(4001), "")?;
            client.send("too late")?;
            Ok(())
        }
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    peer.write(text("first"));
    assert_eq!(peer.close_code(), 4001);
    peer.write(close(4001));
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("first".into()));
    assert_eq!(told.next(), Told::Close(local(4001)));
}

#[test]
fn close_inside_a_callback_waits_for_the_peer() {
    let (served, told) = telling(|client, message| match message {
        "bye" => {
            client.ws().close(CloseCode::from(4002), "")?;
            assert!(client.ws().disconnect().is_some());
            Ok(())
        }
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    peer.write(text("bye"));
    assert_eq!(peer.close_code(), 4002);
    peer.write(close(4002));
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("bye".into()));
    assert_eq!(told.next(), Told::Close(local(4002)));
}

#[test]
fn close_from_elsewhere_wakes_a_parked_connection() {
    let (served, told) = telling(|_, _| Ok(()));
    for _ in 0..20 {
        let mut peer = served.open("/");
        assert_eq!(told.next(), Told::Open);
        let client = served.clients().iter().next().unwrap();
        let closer = std::thread::spawn(move || client.ws().close(CloseCode::from(4003), ""));
        assert_eq!(peer.close_code(), 4003);
        peer.write(close(4003));
        peer.expect_end();
        closer.join().unwrap().unwrap();
        assert_eq!(told.next(), Told::Close(local(4003)));
    }
}

#[test]
fn close_from_elsewhere_during_a_callback_comes_to_its_end() {
    let go_on = Arc::new(runtime::Event::new());
    let theirs = Arc::clone(&go_on);
    let (served, told) = telling(move |_, message| {
        if message == "wait" {
            assert!(theirs.wait_timeout(DEADLINE));
            theirs.clear();
        }
        Ok(())
    });
    for round in 0..40 {
        let mut peer = served.open("/");
        peer.write(text("wait"));
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Message("wait".into()));
        let client = served.clients().iter().next().unwrap();
        let close_it = move || client.ws().close(CloseCode::from(4003), "");
        let closer = std::thread::spawn(move || match round % 2 {
            0 => close_it(),
            _ => runtime::spawn(close_it).join().unwrap(),
        });
        assert_eq!(peer.close_code(), 4003);
        // The one who closes and the one who receives then come in any order.
        if round % 4 < 2 {
            go_on.set();
            peer.write(close(4003));
        } else {
            peer.write(close(4003));
            go_on.set();
        }
        peer.expect_end();
        closer.join().unwrap().unwrap();
        assert_eq!(told.next(), Told::Close(local(4003)));
    }
}

#[test]
fn unanswered_close_is_cut_in_time() {
    let config = WebSocketConfig::default().close_timeout(Duration::from_millis(50));
    let (served, told) = telling_with(
        |client, message| match message {
            "bye" => Ok(client.ws().close_nowait(CloseCode::from(4004), "")?),
            _ => Ok(()),
        },
        |server| server.config(config),
    );
    let mut peer = served.open("/");
    peer.write(text("bye"));
    assert_eq!(peer.close_code(), 4004);
    peer.expect_cut();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("bye".into()));
    assert_eq!(told.next(), Told::Close(Disconnect::CloseTimeout));
}

#[test]
fn what_a_callback_has_read_but_not_received_is_given_to_the_next() {
    let (served, told) = telling(|client, event| {
        if event == "ask" {
            client.send("what else?")?;
            let answer = client.ws().receive()?.unwrap();
            client.send(format!("answer: {answer}"))?;
        }
        Ok(())
    });
    let mut peer = served.open("/");
    assert_eq!(told.next(), Told::Open);
    for round in 0..20 {
        peer.write(text("ask"));
        assert_eq!(told.next(), Told::Message("ask".into()));
        peer.expect(TEXT, "what else?");
        // In one segment: the callback reads both, and takes the first.
        peer.write([text("this"), text(format!("and {round}"))].concat());
        peer.expect(TEXT, "answer: this");
        assert_eq!(told.next(), Told::Message(format!("and {round}")));
    }
    peer.close();
    assert_eq!(told.next(), Told::Close(peer_closed(1000)));
}
