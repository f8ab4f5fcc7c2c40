//! What an idle connection owns. In a binary of its own: the allocator is the process's.
#![cfg(feature = "io")]

#[path = "io_support/counting.rs"]
mod counting;
mod io_support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use counting::LIVE;
use greenwood_runtime::Hub;
use io_support::{
    BINARY, DEADLINE, PONG, Server, TEXT, binary, echo, frame, pattern, ping, serve, text,
};

const CONNECTIONS: usize = 300;

/// A connection that was busy with messages of all kinds. Only its socket is kept.
fn used(server: &Server, large: &[u8]) -> impl Sized + use<> {
    let mut peer = server.open();
    let batch: Vec<u8> = (0..50)
        .flat_map(|i| [text(format!("{i}")), ping("p")].concat())
        .collect();
    peer.write(batch);
    for i in 0..50 {
        peer.expect(TEXT, format!("{i}"));
        peer.expect(PONG, "p");
    }
    let (first, second) = large.split_at(60_000);
    peer.write(
        [
            frame(false, BINARY, first),
            ping("p"),
            frame(true, 0, second),
        ]
        .concat(),
    );
    peer.expect(PONG, "p");
    peer.expect(BINARY, large);
    peer.write(binary(&large[..5_000]));
    peer.expect(BINARY, &large[..5_000]);
    peer.stream
}

/// What has come to be owned since `before`, once it is less than `bound`: the last answers are out,
/// but their senders may still be on their way back to the wait.
fn grown_less_than(bound: usize, before: usize) -> usize {
    let began = Instant::now();
    loop {
        let grown = LIVE.load(Ordering::SeqCst).saturating_sub(before);
        if grown < bound {
            return grown;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{grown} bytes for {CONNECTIONS} idle connections, and not {bound}"
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

// One test: what another does at the same time would count too.
#[test]
fn idle_connection_owns_no_buffers() {
    let server = serve(echo);
    let large = pattern(100_000);
    // Buffers of the hubs, kept for all.
    let mut kept: Vec<_> = (0..40).map(|_| used(&server, &large)).collect();
    let before = LIVE.load(Ordering::SeqCst);
    kept.extend((0..CONNECTIONS).map(|_| used(&server, &large)));
    // The request's head and the connection's own state; and what a hub keeps for all.
    let hubs = Hub::count() * (512 << 10);
    grown_less_than(CONNECTIONS * 2048 + hubs, before);

    // The hubs have got all they keep by now, so these are the connections alone.
    let before = LIVE.load(Ordering::SeqCst);
    kept.extend((0..CONNECTIONS).map(|_| used(&server, &large)));
    grown_less_than(CONNECTIONS * 1920, before);
    drop(kept);
}
