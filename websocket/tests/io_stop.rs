//! Connections that the server's stop, or a kill, ends.
#![cfg(feature = "io")]

mod io_support;

use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Event};
use greenwood_websocket::{WebSocketConfig, WebSocketError};
use io_support::{DEADLINE, NEVER, TEXT, close, echo, news, serve_with, text};

/// Long enough for a loaded machine to answer, short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

fn soon() -> WebSocketConfig {
    WebSocketConfig::default().close_timeout(SOON)
}

fn never() -> WebSocketConfig {
    WebSocketConfig::default().close_timeout(NEVER)
}

#[test]
fn stop_closes_all_with_1001_and_returns_when_they_answer() {
    let server = serve_with(never(), echo);
    let mut peers: Vec<_> = (0..50).map(|_| server.open()).collect();
    for peer in &mut peers {
        peer.write(text("x"));
        peer.expect(TEXT, "x");
    }
    let handle = server.server.handle();
    let stopping = thread::spawn(move || {
        let began = Instant::now();
        handle.stop(NEVER);
        began.elapsed()
    });
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
    }
    // They answer, and leave their sides of the transport open.
    for peer in &mut peers {
        peer.write(close(1001));
    }
    let elapsed = stopping.join().unwrap();
    for peer in &mut peers {
        peer.expect_end();
    }
    assert!(elapsed < DEADLINE, "{elapsed:?}");
}

#[test]
fn stop_gives_those_who_do_not_answer_the_close_timeout() {
    let server = serve_with(soon(), echo);
    let mut peers: Vec<_> = (0..10).map(|_| server.open()).collect();
    for peer in &mut peers {
        peer.write(text("x"));
        peer.expect(TEXT, "x");
    }
    let began = Instant::now();
    server.server.stop(NEVER);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
        peer.expect_cut();
    }
}

#[test]
fn stop_kills_what_neither_answers_nor_ends() {
    let server = serve_with(never(), |ws| {
        ws.send("busy")?;
        Event::new().wait();
        Ok(())
    });
    let mut busy = server.open();
    busy.expect(TEXT, "busy");
    let began = Instant::now();
    server.server.stop(Duration::from_millis(50));
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(busy.close_code(), 1001);
    busy.expect_cut();
}

#[test]
fn killed_application_ends_its_connection() {
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        told.send((runtime::getcurrent().unwrap(), ws.clone()))
            .unwrap();
        echo(ws)
    });
    let mut peer = server.open();
    let (greenlet, ws) = heard.next();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    greenlet.kill_nowait();
    assert_eq!(peer.close_code(), 1001);
    peer.expect_cut();
    assert!(ws.closed());
    assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
    assert!(ws.receive().is_err());
}

/// A kill reaches it in the middle of its close: that is the end too, although somebody holds a
/// handle.
#[test]
fn kill_while_closing_ends_the_connection() {
    let (told, heard) = news();
    let server = serve_with(never(), move |ws| {
        told.send((runtime::getcurrent().unwrap(), ws)).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    let (greenlet, _ws) = heard.next();
    assert_eq!(peer.close_code(), 1000);
    greenlet.kill_nowait();
    peer.expect_cut();
}
