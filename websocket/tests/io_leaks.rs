//! After everything, greenlets and descriptors are back where they started. In a binary of its own:
//! both are the process's.
#![cfg(feature = "io")]

mod io_support;

use std::thread;
use std::time::Duration;

use greenwood_runtime::{self as runtime, Hub};
use greenwood_websocket::{CloseCode, SlowConsumer, WebSocket, WebSocketConfig};
use greenwood_wsgi::Result;
use io_support::{
    DEADLINE, Peer, Server, announcement, binary, close, descriptors, pattern, ping, serve_with,
    settle, text,
};

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .close_timeout(Duration::from_millis(200))
        .write_timeout(Duration::from_millis(200))
}

fn app(ws: WebSocket) -> Result<()> {
    while let Some(message) = ws.receive()? {
        let other = ws.clone();
        match message.as_text() {
            Some("error") => return Err("on purpose".into()),
            Some("panic") => panic!("on purpose"),
            Some("close") => ws.close(CloseCode::NORMAL, "")?,
            Some("nowait") => ws.close_nowait(CloseCode::NORMAL, "")?,
            Some("thread") => drop(thread::spawn(move || other.close(CloseCode::NORMAL, ""))),
            Some("greenlet") => {
                drop(runtime::spawn(move || other.close(CloseCode::NORMAL, "")));
            }
            Some("receiver") => {
                // On another hub, so that it has a descriptor of its own.
                let hub = (Hub::current().unwrap() + 1) % Hub::count();
                let builder = runtime::Builder::new().hub(hub);
                return builder
                    .spawn(move || other.receive())
                    .unwrap()
                    .join()
                    .unwrap()
                    .map(drop)
                    .map_err(Into::into);
            }
            Some("flood") => ws.send(vec![0; 16 << 20])?,
            Some("return") => return Ok(()),
            Some("kill") => runtime::getcurrent().unwrap().kill_nowait(),
            _ => ws.send(message)?,
        }
    }
    Ok(())
}

const WAYS: [&str; 13] = [
    "error", "panic", "close", "nowait", "thread", "greenlet", "receiver", "flood", "return",
    "kill", "echo", "flood", "echo",
];

fn round(config: WebSocketConfig) {
    let server: Server = serve_with(config, app);
    let mut peers: Vec<Peer> = Vec::new();
    for (i, way) in WAYS.iter().cycle().take(WAYS.len() * 9).enumerate() {
        let mut peer = server.open();
        peer.write(text(way));
        match i / WAYS.len() {
            // Stays, and is silent.
            0 | 1 => peers.push(peer),
            2 => drop(peer),
            3 => peer.reset(),
            4 => {
                peer.try_write(close(1000)).ok();
                peers.push(peer);
            }
            5 => {
                peer.try_write([0xff; 30]).ok();
                peers.push(peer);
            }
            6 => {
                peer.try_write(&binary(pattern(50_000))[..40_000]).ok();
                drop(peer);
            }
            7 => {
                peer.try_write(announcement(true, 2, 1_000_000)).ok();
                peer.try_write(vec![0; 200_000]).ok();
                peers.push(peer);
            }
            _ => {
                for _ in 0..100 {
                    peer.try_write(ping("p")).ok();
                }
                peers.push(peer);
            }
        }
    }
    let mut idle = server.connect();
    idle.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(idle.head().contains(" 200 "));
    peers.push(idle);
    server.server.stop(DEADLINE);
    assert_eq!(server.server.handle().connections(), 0);
    for mut peer in peers {
        peer.expect_cut();
    }
}

#[test]
fn nothing_is_left_of_a_server() {
    // The first use starts the hubs.
    let server = serve_with(config(), app);
    server.open().close();
    drop(server);
    settle(0, usize::MAX);
    let (greenlets, fds) = (Hub::greenlets(), descriptors());
    for round_number in 0..4 {
        round(match round_number % 2 {
            0 => config(),
            _ => config().slow_consumer(SlowConsumer::Close),
        });
        settle(greenlets, fds);
    }
}
