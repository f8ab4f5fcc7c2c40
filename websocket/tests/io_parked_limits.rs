//! No greenlet can be had to lead the parked connections: those who come meanwhile keep the greenlet
//! of their handshake, and are served and killed there. In a binary of its own: it uses up the
//! process's greenlets.
#![cfg(feature = "io")]

mod io_support;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::{self as runtime, Builder, Event, Hub};
use greenwood_websocket::{
    Client, Disconnect, Message, Resource, Route, WebSocketApplication, WebSocketServer,
};
use greenwood_wsgi::Result;
use io_support::{NEVER, Peer, TEXT, handshake, news, text, watchdog};

struct App {
    full: Arc<Event>,
    told: Sender<String>,
}

impl WebSocketApplication for App {
    fn on_open(&mut self, _: &Client) -> Result<()> {
        self.told.send("open".into()).unwrap();
        self.full.wait();
        Ok(())
    }

    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        client.send(message)?;
        runtime::sleep(NEVER);
        Ok(())
    }

    fn on_close(&mut self, _: &Client, reason: &Disconnect) {
        self.told.send(format!("{reason:?}")).unwrap();
    }
}

#[test]
fn stop_kills_a_callback_of_a_connection_that_could_not_be_parked() {
    if Hub::limits().max_map_count > 300_000 {
        // A system whose limit is far away, as some distributions set it.
        return;
    }
    let _watchdog = watchdog();
    let (told, heard) = news();
    let full = Arc::new(Event::new());
    let theirs = (Arc::clone(&full), Mutex::new(told));
    let route = Route::websocket(move |_| App {
        full: Arc::clone(&theirs.0),
        told: theirs.1.lock().unwrap().clone(),
    });
    let server = WebSocketServer::new("127.0.0.1:0", Resource::new([("/", route)]).unwrap());
    server.start().unwrap();
    #[expect(
        clippy::disallowed_types,
        reason = "the peer is the foreign side, on a plain thread"
    )]
    let stream = std::net::TcpStream::connect(server.local_addr().unwrap());
    let mut peer = Peer::new(stream.unwrap());
    peer.write(handshake(""));
    peer.accepted();
    assert_eq!(heard.next(), "open");
    let mut greenlets = Vec::new();
    while let Ok(greenlet) = Builder::new().spawn_later(NEVER, || ()) {
        greenlets.push(greenlet);
    }
    full.set();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    for greenlet in &greenlets {
        greenlet.kill_nowait();
    }
    server.stop(Duration::from_millis(100));
    assert_eq!(heard.next(), "TransportEnd");
    assert_eq!(server.handle().connections(), 0);
    assert_eq!(peer.close_code(), 1001);
    peer.expect_cut();
}
