//! Plaintext through small sockets, both ways at once, from everywhere.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use greenwood_runtime::net::{Stream, TcpStream, TlsStream};
use greenwood_runtime::{sleep, spawn};
use socket2::SockRef;

use super::{pair, tcp_pair};
use crate::others::wander;
use crate::support::{EVERYWHERE, deadline, deadline_of};

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

/// The byte at a place of the stream that the tests send.
fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(0x9E37_79B1) >> 13) as u8
}

fn bytes(from: usize, size: usize) -> Vec<u8> {
    (from..from + size).map(byte_at).collect()
}

/// Smaller than a record. With the least that the system knows, it would wait for its own
/// acknowledgements most of the time.
const SMALL: usize = 8 * 1024;

fn shrink(tcp: &TcpStream) {
    SockRef::from(tcp).set_send_buffer_size(SMALL).unwrap();
    SockRef::from(tcp).set_recv_buffer_size(SMALL).unwrap();
}

fn send_all(mut stream: &Stream, total: usize, seed: u64) {
    let mut random = Random(seed);
    let mut sent = 0;
    while sent < total {
        let size = (1 + random.next(90_000)).min(total - sent);
        stream.write_all(&bytes(sent, size)).unwrap();
        sent += size;
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

fn receive_all(mut stream: &Stream, total: usize, seed: u64) {
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

#[test]
fn big_transfers_both_ways_at_once_arrive_whole() {
    let _deadline = deadline_of(Duration::from_secs(240));
    let total = 1 << 19;
    for reader in EVERYWHERE {
        for writer in EVERYWHERE {
            for small in [false, true] {
                let (here, there) = pair();
                if small {
                    shrink(here.tcp());
                    shrink(there.tcp());
                }
                let total = if small { total / 8 } else { total };
                let (here, there) = (Stream::from(here), Stream::from(there));
                let ends = [(here.clone(), there.clone()), (there, here)];
                let mut running = Vec::new();
                for (i, (from, to)) in ends.into_iter().enumerate() {
                    let seed = 7 + i as u64;
                    running.push(writer.start(move || send_all(&from, total, seed)));
                    running.push(reader.start(move || receive_all(&to, total, seed + 90)));
                }
                running.into_iter().for_each(|part| part());
            }
        }
    }
}

/// What is reported is what arrives, in whatever pieces it is offered, and nothing is left behind
/// when all was reported.
#[test]
fn writes_that_never_wait_report_what_arrives() {
    let _deadline = deadline_of(Duration::from_secs(120));
    for seed in 1..=12 {
        let mut random = Random(seed * 7_919);
        let (here, there) = pair();
        shrink(here.tcp());
        shrink(there.tcp());
        let total = 1 + random.next(300_000);
        let all = bytes(0, total);
        let mut received = Vec::new();
        let mut sent = 0;
        let mut took = Vec::new();
        while received.len() < total {
            let mut offer = &all[sent..];
            let mut pieces = Vec::new();
            while !offer.is_empty() && pieces.len() < 9 {
                let (piece, rest) = offer.split_at(random.next(offer.len().min(40_000)) + 1);
                pieces.push(IoSlice::new(piece));
                pieces.push(IoSlice::new(&[]));
                offer = rest;
            }
            // Never less than was offered before: what was encrypted is not taken back.
            pieces.push(IoSlice::new(offer));
            match here.try_write_vectored(&pieces) {
                Ok(n) => {
                    sent += n;
                    took.push(n);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let size = 1 + random.next(50_000);
            let before = received.len();
            match there.try_read_vec(&mut received, size) {
                Ok(n) => assert!(n > 0 && n <= size && received.len() == before + n),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(sent, total);
        assert_eq!(received, all);
        assert!(total < 100_000 || took.len() > 1, "it went all at once");
        assert_eq!(here.try_write(&[]).unwrap(), 0);
    }
}

/// A slow reader is seen to read: a server tells it from one that has stopped by that.
#[test]
fn progress_is_reported_in_less_than_a_piece() {
    let _deadline = deadline();
    let (here, there) = pair();
    shrink(here.tcp());
    shrink(there.tcp());
    let all = bytes(0, 60_000);
    let mut sent = 0;
    let mut steps = 0;
    let mut sink = vec![0; 1_000];
    while sent < all.len() {
        match here.try_write(&all[sent..]) {
            Ok(n) => {
                sent += n;
                steps += 1;
            }
            Err(_) => match there.try_read(&mut sink) {
                Ok(_) => {}
                Err(_) => sleep(Duration::from_micros(100)),
            },
        }
    }
    assert!(steps >= 2, "{steps}");
}

#[test]
fn wait_ends_at_once_when_plaintext_is_left() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, there) = pair();
        here.write_all(&bytes(0, 100)).unwrap();
        from.run(move || {
            for i in 0..100 {
                // There is no event of the socket's behind the first read.
                there
                    .wait_readable_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                let mut byte = [0];
                assert_eq!(there.try_read(&mut byte).unwrap(), 1);
                assert_eq!(byte[0], byte_at(i));
            }
            let error = there
                .wait_readable_timeout(Some(Duration::from_millis(5)))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        });
    }
}

#[test]
fn records_that_come_together_are_read_one_by_one() {
    let _deadline = deadline();
    let (mut here, mut there) = pair();
    for i in 0..2_000 {
        here.write_all(&bytes(i * 3, 3)).unwrap();
    }
    here.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    there.read_to_end(&mut received).unwrap();
    assert_eq!(received, bytes(0, 6_000));
}

#[test]
fn connection_may_wander_from_hub_to_hub() {
    let _deadline = deadline();
    let (here, there) = pair();
    wander(here, there);
}

#[test]
fn time_limits_hold_for_tls_too() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (here, _there) = pair();
        from.run(move || {
            let mut here = Stream::from(here);
            here.set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            here.set_write_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            let error = here.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            let error = here.write_all(&vec![0; 32 << 20]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        });
    }
}

/// The handle of either kind does what its own does.
#[test]
fn stream_is_used_alike_with_and_without_tls() {
    let _deadline = deadline();
    let (here, there) = tcp_pair();
    let (tls_here, tls_there): (TlsStream, TlsStream) = pair();
    for (mut here, mut there) in [
        (Stream::from(here), Stream::from(there)),
        (Stream::from(tls_here), Stream::from(tls_there)),
    ] {
        assert_eq!(here.peer_addr().unwrap(), there.local_addr().unwrap());
        here.set_nodelay(true).unwrap();
        here.set_keepalive(Some(Duration::from_secs(60))).unwrap();
        let reading = spawn(move || {
            let mut text = String::new();
            there.read_to_string(&mut text).unwrap();
            text
        });
        here.write_all(b"one ").unwrap();
        let pieces = [IoSlice::new(b"two "), IoSlice::new(b"three")];
        assert_eq!(here.write_vectored(&pieces).unwrap(), 9);
        here.flush().unwrap();
        here.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reading.join().unwrap(), "one two three");
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
}
