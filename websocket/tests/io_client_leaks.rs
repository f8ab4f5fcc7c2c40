//! However a client ends, greenlets and descriptors are back where they started. In a binary of its
//! own: both are the process's.
#![cfg(feature = "io")]

mod io_support;

use std::time::Duration;

use greenwood_runtime::{self as runtime, Hub};
use greenwood_websocket::{CloseCode, Connect, Message, WebSocketConfig};
use io_support::{descriptors, echo, serve_with, settle};

fn round(address: std::net::SocketAddr, ways: usize) {
    let config = WebSocketConfig::default().close_timeout(Duration::from_millis(200));
    for way in 0..ways {
        let client = Connect::to(format!("ws://{address}/")).config(config);
        let ws = client.connect().unwrap();
        ws.send("x").unwrap();
        match way % 6 {
            0 => ws.close(CloseCode::NORMAL, "").unwrap(),
            1 => assert_eq!(ws.receive().unwrap(), Some(Message::from("x"))),
            2 => ws.close_nowait(CloseCode::NORMAL, "").unwrap(),
            3 => {
                let receiving = runtime::spawn(move || while ws.receive().is_ok() {});
                receiving.kill();
            }
            4 => {
                let connecting = runtime::spawn(move || client.connect().map(drop));
                connecting.kill();
            }
            _ => {}
        }
    }
}

#[test]
fn nothing_is_left_of_clients() {
    let server = serve_with(WebSocketConfig::default(), echo);
    // Connects in greenlets of every hub, which are kept for the next ones.
    let clients = |rounds: usize| {
        let greenlets: Vec<_> = (0..rounds)
            .map(|_| {
                let address = server.address;
                runtime::spawn(move || round(address, 12))
            })
            .collect();
        for greenlet in greenlets {
            greenlet.join().unwrap();
        }
    };
    clients(2 * Hub::count());
    // The acceptor is the only one that stays.
    settle(1, usize::MAX);
    let before = descriptors();
    clients(20);
    settle(1, before);
}
