//! No greenlet can be had for what is left to write, or to look at the clock: the connection ends,
//! nobody waits for ever. In a binary of its own: it uses up the process's greenlets.
#![cfg(feature = "io")]

mod io_support;

use std::sync::Arc;

use greenwood_runtime::{Builder, Event, Hub};
use greenwood_websocket::{CloseCode, WebSocketConfig};
use io_support::{NEVER, TEXT, news, serve_with, text};

#[test]
fn connection_that_can_have_no_greenlet_is_cut() {
    if Hub::limits().max_map_count > 300_000 {
        // A system whose limit is far away, as some distributions set it.
        return;
    }
    let (told, heard) = news();
    let (full, over) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (filled, ended) = (Arc::clone(&full), Arc::clone(&over));
    let config = WebSocketConfig::default().close_timeout(NEVER);
    let server = serve_with(config, move |ws| {
        let way = ws.receive()?.expect("a message");
        ws.send("ready")?;
        filled.wait();
        let result = if way.as_text() == Some("send") {
            ws.send(vec![0; 32 << 20])
        } else {
            ws.close_nowait(CloseCode::NORMAL, "")?;
            ws.receive().map(drop)
        };
        told.send(format!("{result:?}, {:?}", ws.disconnect()))
            .unwrap();
        // Its end would make room.
        ended.wait();
        Ok(())
    });
    let peers = ["send", "close"].map(|way| {
        let mut peer = server.open();
        peer.write(text(way));
        peer.expect(TEXT, "ready");
        peer
    });
    let mut greenlets = Vec::new();
    while let Ok(greenlet) = Builder::new().spawn_later(NEVER, || ()) {
        greenlets.push(greenlet);
    }
    full.set();
    let mut ends = [heard.next(), heard.next()];
    ends.sort();
    assert_eq!(
        ends,
        [
            "Err(Disconnected(CloseTimeout)), Some(CloseTimeout)",
            "Err(Disconnected(TransportError)), Some(TransportError)",
        ]
    );
    for mut peer in peers {
        peer.expect_cut();
    }
    over.set();
    for greenlet in &greenlets {
        greenlet.kill_nowait();
    }
}
