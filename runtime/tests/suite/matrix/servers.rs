//! Servers: until they stop, and stopping them.

use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{TcpStream, UdpSocket};
use greenwood_runtime::{BackdoorServer, DatagramServer, Event, StreamServer};

use super::{Call, LONG, Row, play, row};

const LOCALHOST: &str = "127.0.0.1:0";

/// A server with something to do until the event.
struct Busy<S> {
    server: S,
    over: Arc<Event>,
    _client: Option<TcpStream>,
}

/// What the two kinds of servers have alike.
trait Stops: Send + Sync + 'static {
    fn stop(&self, time: Duration);

    /// How many connections or handlers there are.
    fn left(&self) -> usize;
}

impl Stops for StreamServer {
    fn stop(&self, time: Duration) {
        StreamServer::stop(self, time);
    }

    fn left(&self) -> usize {
        self.connections()
    }
}

impl Stops for DatagramServer {
    fn stop(&self, time: Duration) {
        DatagramServer::stop(self, time);
    }

    fn left(&self) -> usize {
        self.handlers()
    }
}

/// A server whose handler is at it until the event. `begin` starts the server with that handler and
/// has it called, which sets the event that it is given.
fn busy<S: Stops>(
    begin: impl FnOnce(Box<dyn Fn() + Send + Sync>, &Event) -> (S, Option<TcpStream>),
) -> Busy<S> {
    let (inside, over) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (tell, wait) = (Arc::clone(&inside), Arc::clone(&over));
    let handle = move || {
        tell.set();
        wait.wait();
    };
    let (server, _client) = begin(Box::new(handle), &inside);
    Busy {
        server,
        over,
        _client,
    }
}

fn serving() -> Busy<StreamServer> {
    busy(|handle, inside| {
        let server = StreamServer::new(LOCALHOST, move |_, _| handle()).unwrap();
        server.start().unwrap();
        let client = TcpStream::connect(server.local_addr()).unwrap();
        // Who has a seat and is not yet in the handler would not be served any more.
        inside.wait();
        (server, Some(client))
    })
}

fn looking() -> Busy<DatagramServer> {
    busy(|handle, inside| {
        let server = DatagramServer::new(LOCALHOST, move |_, _, _| handle()).unwrap();
        server.start().unwrap();
        let client = UdpSocket::bind(LOCALHOST).unwrap();
        client.try_send_to(b"x", server.local_addr()).unwrap();
        inside.wait();
        (server, None)
    })
}

/// What is under way ends by itself, or with the time that it is given.
fn stop<S: Stops>(name: &'static str, scene: fn() -> Busy<S>) -> Row {
    row(
        name,
        scene,
        |it, limit| {
            it.server.stop(limit.unwrap_or(LONG));
            it.over.is_set()
        },
        |it| it.over.set(),
        |it, _| {
            it.server.stop(LONG);
            assert_eq!(it.server.left(), 0);
        },
    )
    .slower(10)
}

/// As [`row`], for what lasts until a server is stopped.
fn until_stopped<S: Send + Sync + 'static>(
    name: &'static str,
    scene: fn() -> S,
    call: Call<S>,
    stop: fn(&S),
    settle: fn(&S, bool),
) -> Row {
    row(name, scene, call, stop, settle)
        .without_limit()
        .slower(4)
}

#[test]
fn stream_servers() {
    play("matrix::servers::stream_servers", || {
        vec![
            until_stopped(
                "StreamServer join",
                || {
                    let server = StreamServer::new(LOCALHOST, |_, _| ()).unwrap();
                    server.start().unwrap();
                    server
                },
                |server, _| server.join().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            ),
            // One that was stopped before can't begin.
            until_stopped(
                "StreamServer serve_forever",
                || StreamServer::new(LOCALHOST, |_, _| ()).unwrap(),
                |server, _| server.serve_forever().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            ),
            stop("StreamServer stop", serving),
        ]
    });
}

#[test]
fn other_servers() {
    play("matrix::servers::other_servers", || {
        vec![
            until_stopped(
                "DatagramServer serve_forever",
                || DatagramServer::new(LOCALHOST, |_, _, _| ()).unwrap(),
                |server, _| server.serve_forever().is_ok(),
                |server| server.stop(LONG),
                |server, _| assert!(server.closed()),
            ),
            until_stopped(
                "BackdoorServer serve_forever",
                || BackdoorServer::tcp(LOCALHOST).unwrap(),
                |server, _| server.serve_forever().is_ok(),
                BackdoorServer::stop,
                |server, _| assert_eq!(server.connections(), 0),
            ),
            stop("DatagramServer stop", looking),
        ]
    });
}
