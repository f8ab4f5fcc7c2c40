//! Ends: announced ones, cut ones, and those that have to wait.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use greenwood_runtime::net::{Stream, TlsStream};
use greenwood_runtime::{Event, spawn};
use socket2::SockRef;

use super::pair;
use crate::support::{EVERYWHERE, deadline};

/// What is left to read, and how it ends.
fn rest(stream: &mut TlsStream) -> (usize, Result<(), ErrorKind>) {
    let (mut total, mut buffer) = (0, [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, Ok(())),
            Ok(n) => total += n,
            Err(error) => return (total, Err(error.kind())),
        }
    }
}

#[test]
fn end_of_writing_is_the_peers_end_of_reading() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (mut here, mut there) = pair();
        from.run(move || {
            here.write_all(b"last words").unwrap();
            here.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut there), (10, Ok(())));
            assert_eq!(rest(&mut there), (0, Ok(())));
            let error = here.write(b"more").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
            // The other direction goes on.
            there.write_all(b"answer").unwrap();
            drop(there);
            assert_eq!(rest(&mut here), (6, Ok(())));
        });
    }
}

#[test]
fn dropping_the_last_handle_announces_the_end() {
    let _deadline = deadline();
    let (mut there, mut here) = pair();
    let second = here.try_clone().unwrap();
    here.write_all(b"x").unwrap();
    drop(here);
    there.read_exact(&mut [0]).unwrap();
    assert_eq!(
        there.try_read(&mut [0]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    drop(second);
    assert_eq!(rest(&mut there), (0, Ok(())));
}

#[test]
fn cut_connection_is_told_from_an_ended_one() {
    let _deadline = deadline();
    let (mut here, mut there) = pair();
    here.write_all(b"half a").unwrap();
    here.tcp().shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut there), (6, Err(ErrorKind::UnexpectedEof)));
    assert_eq!(rest(&mut there), (0, Err(ErrorKind::UnexpectedEof)));
}

#[test]
fn what_a_panic_or_a_reset_drops_is_not_taken_for_whole() {
    let _deadline = deadline();
    // The server's side: a client that goes has mostly not read the tickets for the next time, and
    // that resets the connection anyway.
    let (mut there, mut here) = pair();
    let broken = spawn(move || {
        here.write_all(b"half a").unwrap();
        std::panic::resume_unwind(Box::new(1));
    });
    broken.join().unwrap_err();
    assert_eq!(rest(&mut there), (6, Err(ErrorKind::UnexpectedEof)));

    let (mut here, mut there) = pair();
    here.write_all(b"half a").unwrap();
    there.read_exact(&mut [0; 6]).unwrap();
    Stream::from(here).set_reset_on_close(true).unwrap();
    assert_eq!(rest(&mut there), (0, Err(ErrorKind::ConnectionReset)));
}

#[test]
fn end_of_reading_wakes_who_reads() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (here, _there) = pair();
        let mut reader = here.clone();
        let started = Arc::new(Event::new());
        let begun = Arc::clone(&started);
        let reading = from.start(move || {
            begun.set();
            rest(&mut reader)
        });
        started.wait();
        here.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reading(), (0, Ok(())));
    }
}

/// The end may have to wait for room in the socket: a greenlet of its own sees to it.
#[test]
fn end_behind_a_full_socket_arrives_all_the_same() {
    let _deadline = deadline();
    for how in [Shutdown::Write, Shutdown::Both] {
        // One record more each time, until the socket is full: so it was just full once before.
        for records in 1.. {
            assert!(records < 2_000, "the socket is never full");
            let (here, mut there) = pair();
            for tcp in [here.tcp(), there.tcp()] {
                SockRef::from(tcp).set_send_buffer_size(1).unwrap();
                SockRef::from(tcp).set_recv_buffer_size(1).unwrap();
            }
            let written = (0..records).take_while(|_| matches!(here.try_write(&[7; 512]), Ok(512)));
            if written.count() < records {
                break;
            }
            here.shutdown(how).unwrap();
            assert_eq!(rest(&mut there), (records * 512, Ok(())));
        }
    }
}

/// Half a record is in the socket, and its writer has given up: the peer must not take that for a
/// whole message.
#[test]
fn end_in_the_middle_of_a_write_is_no_announced_one() {
    let _deadline = deadline();
    let (here, mut there) = pair();
    let mut written = 0;
    while let Ok(n) = here.try_write(&[7; 60_000]) {
        written += n;
    }
    here.shutdown(Shutdown::Write).unwrap();
    let (read, end) = rest(&mut there);
    assert!(read <= written, "{read} of {written}");
    assert_eq!(end, Err(ErrorKind::UnexpectedEof));
}
