//! One greenlet per hub looks after all connections' time limits. In a binary of its own: it counts
//! greenlets.

mod io_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::{Hub, sleep};
use greenwood_websocket::WebSocketConfig;
use io_support::*;

#[test]
fn connections_share_their_timers() {
    pinged_connections();
    stopped_connections();
}

/// The greenlet lives only as long as there are any.
fn pinged_connections() {
    const PEERS: usize = 200;
    let server = serve_with(
        WebSocketConfig::default().ping(Duration::from_millis(120), DEADLINE),
        echo,
    );
    let start = Hub::greenlets();
    let mut peers: Vec<_> = (0..PEERS).map(|_| server.open()).collect();
    for _ in 0..2 {
        for peer in &mut peers {
            let frame = peer.frame();
            assert_eq!(frame.opcode, PING);
            peer.write(io_support::frame(true, PONG, &frame.payload));
        }
    }
    let most = start + PEERS + Hub::count();
    assert!(Hub::greenlets() <= most, "{}", Hub::greenlets());
    for peer in peers {
        peer.close_amid_pings();
    }
    let began = Instant::now();
    while Hub::greenlets() > start {
        assert!(began.elapsed() < DEADLINE, "{} are left", Hub::greenlets());
        sleep(Duration::from_millis(5));
    }
}

/// Closing many at once costs no greenlet each for the deadline, and all are told.
fn stopped_connections() {
    const PEERS: usize = 300;
    let server = Arc::new(serve(echo));
    let mut peers: Vec<_> = (0..PEERS).map(|_| server.open()).collect();
    let stopping = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.server.stop(NEVER))
    };
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
        let most = PEERS + Hub::count() + 3;
        assert!(Hub::greenlets() <= most, "{}", Hub::greenlets());
        peer.write(close(1001));
    }
    stopping.join().unwrap();
}
