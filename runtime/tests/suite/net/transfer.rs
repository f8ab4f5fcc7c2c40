//! Bytes arrive whole and in order, whoever reads and writes them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Event, Greenlet, Hub, joinall, spawn_local};

use super::pair;
use crate::others::wander;
use crate::support::{EVERYWHERE, any_hub, deadline, deadline_of, spawn_on};

#[test]
fn big_transfers_both_ways_at_once_arrive_whole() {
    let _deadline = deadline_of(Duration::from_secs(120));
    let total = 6 << 20;
    for reader in EVERYWHERE {
        for writer in EVERYWHERE {
            let (here, there) = pair();
            let ends = [(here.clone(), there.clone()), (there, here)];
            let mut running = Vec::new();
            for (i, (from, to)) in ends.into_iter().enumerate() {
                running.push(writer.start(move || send_all(&from, total, 7 + i as u64)));
                running.push(reader.start(move || receive_all(&to, total, 99 + i as u64)));
            }
            running.into_iter().for_each(|part| part());
        }
    }
}

#[test]
fn socket_may_wander_from_hub_to_hub() {
    let _deadline = deadline();
    let (here, there) = pair();
    wander(here, there);
}

#[test]
fn full_duplex_greenlets_on_one_socket_make_progress() {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let (here, there) = pair();
        // Both sides write before they read: with one waiter per socket this would hang.
        let sides: Vec<Greenlet<()>> = [here, there]
            .into_iter()
            .map(|stream| {
                spawn_on(hub, move || {
                    let writing = stream.clone();
                    let writer = spawn_local(move || send_all(&writing, 3 << 20, 5));
                    receive_all(&stream, 3 << 20, 11);
                    writer.join().unwrap();
                })
            })
            .collect();
        for side in sides {
            side.join().unwrap();
        }
    }
}

#[test]
fn two_thousand_sockets_wait_at_once() {
    let _deadline = deadline_of(Duration::from_secs(120));
    let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 1_000).unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Event::new());
    let clients: Vec<_> = (0..1_000)
        .map(|i| {
            let go = Arc::clone(&go);
            spawn_on(any_hub(i), move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let mut buffer = [0; 8];
                go.wait();
                stream.write_all(&(i as u64).to_le_bytes()).unwrap();
                stream.read_exact(&mut buffer).unwrap();
                assert_eq!(u64::from_le_bytes(buffer), i as u64);
            })
        })
        .collect();
    let servers: Vec<_> = (0..1_000)
        .map(|i| {
            let (mut stream, _) = listener.accept().unwrap();
            spawn_on(any_hub(i / 7), move || {
                let mut buffer = [0; 8];
                stream.read_exact(&mut buffer).unwrap();
                stream.write_all(&buffer).unwrap();
            })
        })
        .collect();
    go.set();
    assert!(joinall(&servers, None));
    for client in clients {
        client.join().unwrap();
    }
}

fn send_all(mut stream: &TcpStream, total: usize, seed: u64) {
    let mut random = Random(seed);
    let mut sent = 0;
    while sent < total {
        let size = (1 + random.next(60_000)).min(total - sent);
        let chunk: Vec<_> = (sent..sent + size).map(byte_at).collect();
        stream.write_all(&chunk).unwrap();
        sent += size;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn receive_all(mut stream: &TcpStream, total: usize, seed: u64) {
    let mut random = Random(seed);
    let mut buffer = vec![0; 60_000];
    let mut received = 0;
    loop {
        let size = 1 + random.next(60_000);
        let n = stream.read(&mut buffer[..size]).unwrap();
        if n == 0 {
            break;
        }
        for (i, &byte) in buffer[..n].iter().enumerate() {
            assert_eq!(byte, byte_at(received + i), "at {}", received + i);
        }
        received += n;
    }
    assert_eq!(received, total);
}

/// The byte at a place of the stream that the tests send.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(0x9E37_79B1) >> 13) as u8
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}
