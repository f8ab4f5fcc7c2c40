//! After everything, greenlets and descriptors are back where they started. In a binary of its
//! own: both are the process's.

#[path = "client/mod.rs"]
mod client;

use std::{
    fs,
    time::{Duration, Instant},
};

use client::{DEADLINE, echo, post, serve, serve_with};
use greenwood_runtime::Hub;

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn round() {
    let server = serve_with(echo, |server| {
        server.head_timeout(Duration::from_millis(50))
    });
    let clients: Vec<_> = (0..50)
        .map(|i| {
            let mut client = server.connect();
            let sent = match i % 5 {
                0 => client.try_send(post("", "hello")),
                1 => client.try_send("GET / HT"),
                2 => client.try_send("bad\r\n\r\n"),
                3 => client.try_send(&post("", "hello")[..50]),
                _ => Ok(()),
            };
            // It is given up before it has said anything, on a slow machine.
            sent.ok();
            if i % 2 == 0 {
                drop(client);
                return None;
            }
            Some(client)
        })
        .collect();
    for mut client in clients.into_iter().flatten() {
        client.end_sending();
        client.rest_or_reset();
    }
    server.server.stop(DEADLINE);
    assert_eq!(server.server.handle().connections(), 0);
}

#[test]
fn nothing_is_left_of_a_server() {
    // The first use starts the hubs.
    let server = serve(echo);
    server.get("/", "");
    drop(server);
    let before = (Hub::greenlets(), descriptors());
    for _ in 0..3 {
        round();
    }
    assert_eq!(settled(before.0, before.1), before.0);
    assert!(
        descriptors() <= before.1,
        "{} descriptors, before {}",
        descriptors(),
        before.1
    );
}

/// The number of greenlets, once those that were ending have ended.
fn settled(greenlets: usize, fds: usize) -> usize {
    let began = Instant::now();
    while (Hub::greenlets() > greenlets || descriptors() > fds) && began.elapsed() < DEADLINE {
        std::thread::yield_now();
    }
    Hub::greenlets()
}
