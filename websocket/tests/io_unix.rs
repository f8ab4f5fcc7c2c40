//! WebSockets over Unix sockets: served in both styles, and as a client.
#![cfg(feature = "io")]

mod io_support;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenwood_runtime::{Hub, net::UnixStream, spawn};
use greenwood_websocket::{
    CloseCode, Connect, Message, Resource, Route, WebSocket, WebSocketApplication,
    WebSocketEnviron, WebSocketServer,
};
use greenwood_wsgi::{Body, Environ, Result, StartResponse};

use io_support::{DEADLINE, watchdog};

struct Echo;

impl WebSocketApplication for Echo {}

/// In the blocking style.
fn blocking(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let Some(ws) = environ.websocket() else {
        start_response("200 OK", &[])?;
        return Ok("plain".into());
    };
    assert!(ws.peer_addr().is_err());
    io_support::echo(ws)?;
    Ok(Body::empty())
}

fn path(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("greenwood-websocket-{test}-{}", std::process::id()))
}

/// One test at a time: they count greenlets and descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn started(server: WebSocketServer) -> WebSocketServer {
    server.start().unwrap();
    server
}

/// Both styles, at a path each.
fn servers(test: &str) -> [(PathBuf, WebSocketServer); 2] {
    let resource = Resource::new([("/", Route::websocket(|_| Echo))]).unwrap();
    let (one, other) = (path(test), path(&format!("{test}-parked")));
    let by_call = WebSocketServer::unix(&one, blocking);
    let parked = WebSocketServer::unix(&other, resource);
    [(one, started(by_call)), (other, started(parked))]
}

fn open(path: &PathBuf) -> WebSocket {
    let stream = UnixStream::connect(path).unwrap();
    Connect::to("ws://localhost/").connect_over(stream).unwrap()
}

fn check_echo(ws: &WebSocket, text: &str) {
    ws.send(text).unwrap();
    assert!(matches!(ws.receive().unwrap(), Some(Message::Text(got)) if got == text));
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        greenwood_runtime::sleep(Duration::from_millis(1));
    }
}

#[test]
fn messages_come_back_over_a_unix_socket() {
    let (_watchdog, _alone) = (watchdog(), alone());
    for (path, server) in servers("echo") {
        let ws = open(&path);
        let large = "0123456789abcdef".repeat(60_000);
        // Idle in between: a parked connection is called anew.
        for _ in 0..3 {
            check_echo(&ws, "hello");
            check_echo(&ws, &large);
            check_echo(&ws, "");
        }
        // In a row, so that one read brings several.
        let reading = ws.clone();
        let reader = spawn(move || {
            for i in 0..1_000 {
                let message = reading.receive().unwrap().expect("it is open");
                assert!(matches!(message, Message::Text(text) if text == i.to_string()));
            }
        });
        for i in 0..1_000 {
            ws.send(i.to_string()).unwrap();
        }
        reader.join().unwrap();
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert!(ws.receive().unwrap().is_none());
        server.stop(DEADLINE);
        assert!(!path.exists());
    }
}

#[test]
fn clients_of_a_unix_socket_are_told_apart() {
    let (_watchdog, _alone) = (watchdog(), alone());
    for (path, server) in servers("clients") {
        let opened: Vec<_> = (0..20).map(|_| open(&path)).collect();
        let clients = server.clients();
        eventually("all are in the list", || clients.len() == 20);
        for client in &clients {
            assert!(client.address().ip().is_unspecified());
            assert!(clients.get(&client.address()).unwrap() == client);
        }
        clients.broadcast("news");
        for ws in &opened {
            assert!(matches!(ws.receive().unwrap(), Some(Message::Text(text)) if text == "news"));
        }
        opened[0].close(CloseCode::NORMAL, "").unwrap();
        eventually("one has left", || clients.len() == 19);
        drop(opened);
        server.stop(DEADLINE);
        assert!(clients.is_empty());
    }
}

#[test]
fn stop_says_that_the_server_goes_away() {
    let (_watchdog, _alone) = (watchdog(), alone());
    for (path, server) in servers("stop") {
        let ws = open(&path);
        check_echo(&ws, "x");
        let receiving = ws.clone();
        let receiver = spawn(move || receiving.receive());
        server.stop(DEADLINE);
        assert!(receiver.join().unwrap().unwrap().is_none());
        let end = ws.disconnect().expect("it has ended");
        assert_eq!(end.close_code(), CloseCode::GOING_AWAY);
    }
}

#[test]
fn nothing_is_left_of_unix_connections() {
    let (_watchdog, _alone) = (watchdog(), alone());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        for (path, server) in servers("leaks") {
            let opened: Vec<_> = (0..50).map(|_| open(&path)).collect();
            for (i, ws) in opened.iter().enumerate() {
                check_echo(ws, "x");
                if i % 2 == 0 {
                    ws.close(CloseCode::NORMAL, "").unwrap();
                }
            }
            drop(opened);
            eventually("all have left", || server.handle().connections() == 0);
            server.stop(DEADLINE);
        }
    };
    // The first use starts the hubs.
    round();
    eventually("the first are gone", || Hub::greenlets() <= 4);
    let before = (Hub::greenlets(), descriptors());
    round();
    eventually("greenlets and descriptors are back", || {
        Hub::greenlets() <= before.0 && descriptors() <= before.1
    });
}
