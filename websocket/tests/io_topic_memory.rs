//! What slow subscribers and dead ones hold. In a binary of its own: the allocator, greenlets and
//! descriptors are the process's.
#![cfg(feature = "io")]

#[path = "io_support/counting.rs"]
mod counting;
mod io_support;

use std::sync::atomic::Ordering;
use std::time::Instant;

use counting::LIVE;
use greenwood_runtime::Hub;
use greenwood_websocket::{Subscription, Topic, TopicPolicy, WebSocket};
use io_support::{DEADLINE, News, Peer, Server, TEXT, descriptors, news, pattern, serve, settle};

const SLOW: usize = 12;
const SIZE: usize = 100_000;
const KEEP: usize = 20;

/// Peers that don't read, subscribed; nothing else keeps the server's side.
fn subscribed(
    server: &Server,
    heard: &News<WebSocket>,
    topic: &Topic,
) -> (Vec<Peer>, Vec<Subscription>) {
    (0..SLOW)
        .map(|_| {
            let mut peer = server.open();
            let ws = heard.next();
            let subscription = topic.subscribe(&ws);
            ws.send("welcome").unwrap();
            peer.expect(TEXT, "welcome");
            (peer, subscription)
        })
        .unzip()
}

// One test: what another does at the same time would count too.
#[test]
fn slow_and_dead_subscribers_hold_no_more_than_is_bounded() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        told.send(ws.clone()).unwrap();
        while ws.receive()?.is_some() {}
        Ok(())
    });
    server.open().close();
    drop(heard.next());
    settle(server_greenlets(), usize::MAX);
    let (greenlets, fds) = (Hub::greenlets(), descriptors());

    let topic = Topic::new(TopicPolicy::DropOldest { keep: KEEP });
    let (peers, subscriptions) = subscribed(&server, &heard, &topic);
    let before = LIVE.load(Ordering::Relaxed);
    while subscriptions
        .iter()
        .any(|subscription| subscription.dropped() < 5 * KEEP as u64)
    {
        topic.publish(pattern(SIZE));
    }
    // The newest are the same for all; each has begun with one of its own.
    let held = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    let bound = (KEEP + SLOW) * (SIZE + 1_000) + 500_000;
    assert!(
        held < bound && held > KEEP * SIZE,
        "{held} bytes, where copies would take {}",
        SLOW * KEEP * SIZE
    );

    // The peers vanish. The topic and the subscriptions are still there, and keep none of it.
    for peer in peers {
        peer.reset();
    }
    let began = Instant::now();
    while !topic.is_empty() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    settle(greenlets, fds);
    let left = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left < 300_000, "{left} bytes");
    assert_eq!(topic.publish("anybody there?").sent, 0);
    drop(subscriptions);

    // Where the publisher waits, no more than one message passes the high-water mark.
    let topic = Topic::new(TopicPolicy::Block);
    let (peers, subscriptions) = subscribed(&server, &heard, &topic);
    let before = LIVE.load(Ordering::Relaxed);
    let theirs = topic.clone();
    let publisher = greenwood_runtime::spawn(move || {
        let mut count = 0;
        while theirs.publish(pattern(SIZE)).sent == SLOW {
            count += 1;
        }
        count
    });
    let mut last = (0, Instant::now());
    let mut highest = 0;
    while last.1.elapsed().as_millis() < 300 {
        let now = LIVE.load(Ordering::Relaxed).saturating_sub(before);
        highest = highest.max(now);
        if now != last.0 {
            last = (now, Instant::now());
        }
        assert!(
            highest < (SLOW + 2) * (SIZE + 1_000) + 700_000,
            "{highest} bytes"
        );
        std::thread::yield_now();
    }
    for peer in peers {
        peer.reset();
    }
    assert!(publisher.join().unwrap() > 10);
    drop(subscriptions);
    settle(greenlets, fds);
}

/// Those of the server itself.
fn server_greenlets() -> usize {
    Hub::count()
}
