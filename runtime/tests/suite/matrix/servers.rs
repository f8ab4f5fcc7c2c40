//! Servers: until they stop, and stopping them.

use std::sync::{Arc, Mutex};

use greenwood_runtime::net::{TcpStream, UdpSocket};
use greenwood_runtime::{BackdoorServer, DatagramServer, Event, StreamServer};

use super::{LONG, play, row};

const LOCALHOST: &str = "127.0.0.1:0";

/// A server whose one connection lasts until the event.
struct Serving {
    server: StreamServer,
    over: Arc<Event>,
    client: Mutex<Option<TcpStream>>,
}

fn serving() -> Serving {
    let (inside, over) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (tell, wait) = (Arc::clone(&inside), Arc::clone(&over));
    let handle = move |_, _| {
        tell.set();
        wait.wait();
    };
    let server = StreamServer::new(LOCALHOST, handle).unwrap();
    server.start().unwrap();
    let client = TcpStream::connect(server.local_addr()).unwrap();
    // Who has a seat and is not yet in the handler would not be served any more.
    inside.wait();
    Serving {
        server,
        over,
        client: Mutex::new(Some(client)),
    }
}

#[test]
fn stream_servers() {
    play("matrix::servers::stream_servers", || {
        vec![
            row(
                "StreamServer join",
                || {
                    let server = StreamServer::new(LOCALHOST, |_, _| ()).unwrap();
                    server.start().unwrap();
                    server
                },
                |server, _| server.join().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            )
            .without_limit()
            .slower(4),
            row(
                "StreamServer serve_forever",
                || StreamServer::new(LOCALHOST, |_, _| ()).unwrap(),
                // One that was stopped before can't begin.
                |server, _| server.serve_forever().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            )
            .without_limit()
            .slower(4),
            // The connection ends by itself, or with the time that it is given.
            row(
                "StreamServer stop",
                serving,
                |it, limit| {
                    it.server.stop(limit.unwrap_or(LONG));
                    it.over.is_set()
                },
                |it| it.over.set(),
                |it, _| {
                    it.server.stop(LONG);
                    assert_eq!(it.server.connections(), 0);
                    it.client.lock().unwrap().take();
                },
            )
            .slower(10),
        ]
    });
}

/// A server whose one datagram is looked at until the event.
struct Looking {
    server: DatagramServer,
    over: Arc<Event>,
}

fn looking() -> Looking {
    let (inside, over) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (tell, wait) = (Arc::clone(&inside), Arc::clone(&over));
    let server = DatagramServer::new(LOCALHOST, move |_, _, _| {
        tell.set();
        wait.wait();
    });
    let server = server.unwrap();
    server.start().unwrap();
    let client = UdpSocket::bind(LOCALHOST).unwrap();
    client.try_send_to(b"x", server.local_addr()).unwrap();
    inside.wait();
    Looking { server, over }
}

#[test]
fn other_servers() {
    play("matrix::servers::other_servers", || {
        vec![
            row(
                "DatagramServer serve_forever",
                || DatagramServer::new(LOCALHOST, |_, _, _| ()).unwrap(),
                |server, _| server.serve_forever().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            )
            .without_limit()
            .slower(4),
            row(
                "DatagramServer stop",
                looking,
                |it, limit| {
                    it.server.stop(limit.unwrap_or(LONG));
                    it.over.is_set()
                },
                |it| it.over.set(),
                |it, _| {
                    it.server.stop(LONG);
                    assert_eq!(it.server.handlers(), 0);
                },
            )
            .slower(10),
            row(
                "BackdoorServer serve_forever",
                || BackdoorServer::tcp(LOCALHOST).unwrap(),
                |server, _| server.serve_forever().is_ok(),
                BackdoorServer::stop,
                |server, _| assert_eq!(server.connections(), 0),
            )
            .without_limit()
            .slower(4),
        ]
    });
}
