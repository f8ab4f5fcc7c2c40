//! TLS: handshakes, reads and writes.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use greenwood_runtime::net::{TcpStream, TlsStream};

use super::sockets::at_least_a_microsecond;
use super::{Call, LONG, play, row};
use crate::tls::{pair, settings, tcp_pair};

/// Two ends of a connection without TLS, each for who wants it.
type Ends = (Mutex<Option<TcpStream>>, Mutex<Option<TcpStream>>);

fn ends() -> Ends {
    let (here, there) = tcp_pair();
    (Mutex::new(Some(here)), Mutex::new(Some(there)))
}

/// The end, if the other one's has not been given up before this one's began.
fn take(end: &Mutex<Option<TcpStream>>) -> Option<TcpStream> {
    end.lock().unwrap().take()
}

fn connect(here: &Mutex<Option<TcpStream>>, limit: Option<Duration>) -> bool {
    let (tls, Some(here)) = (&settings().0, take(here)) else {
        return false;
    };
    match limit {
        Some(limit) => TlsStream::connect_timeout(here, "localhost", tls, limit).is_ok(),
        None => TlsStream::connect(here, "localhost", tls).is_ok(),
    }
}

fn accept(there: &Mutex<Option<TcpStream>>) -> bool {
    take(there).is_some_and(|there| TlsStream::accept(there, &settings().1).is_ok())
}

#[test]
fn handshakes() {
    play("matrix::tls::handshakes", || {
        vec![
            row(
                "TlsStream connect",
                ends,
                |(here, _), limit| connect(here, limit),
                |(here, there)| {
                    // Else the other side would wait for one who never comes.
                    drop(take(here));
                    accept(there);
                },
                |_, _| {},
            )
            .slower(40),
            row(
                "TlsStream accept",
                ends,
                |(_, there), _| accept(there),
                |(here, there)| {
                    drop(take(there));
                    connect(here, None);
                },
                |_, _| {},
            )
            .without_limit()
            .slower(40),
        ]
    });
}

type Pair = (TlsStream, TlsStream);

#[test]
fn streams() {
    play("matrix::tls::streams", || {
        let reading = |name, call: Call<Pair>| {
            row(
                name,
                pair,
                call,
                |(_, there)| assert_eq!({ there }.write(b"x").unwrap(), 1),
                |(here, _), read| {
                    here.set_read_timeout(Some(LONG)).unwrap();
                    assert!(read || { here }.read(&mut [0; 9]).unwrap() == 1);
                    assert!(here.try_read(&mut [0; 9]).is_err());
                },
            )
            .slower(20)
        };
        vec![
            reading("TlsStream read", |(here, _), limit| {
                here.set_read_timeout(limit.map(at_least_a_microsecond))
                    .unwrap();
                { here }.read(&mut [0; 9]).is_ok()
            }),
            reading("TlsStream wait_readable", |(here, _), limit| {
                // What comes need not be data.
                while here.wait_readable_timeout(limit.or(Some(LONG))).is_ok() {
                    if here.try_read(&mut [0; 9]).is_ok() {
                        return true;
                    }
                }
                false
            }),
            // What was said to be written comes, and nothing of it twice or out of order.
            row(
                "TlsStream write",
                || {
                    let (here, there) = pair();
                    let mut filled = 0;
                    while let Ok(n) = here.try_write(&[0; 65_536]) {
                        filled += n;
                    }
                    (here, there, filled)
                },
                |(here, _, _), limit| {
                    here.set_write_timeout(limit.map(at_least_a_microsecond))
                        .unwrap();
                    // The kernel may find room for some more by itself.
                    { here }.write_all(&[1; 8 << 20]).is_ok()
                },
                |(_, there, _)| {
                    let mut buffer = vec![0; 1 << 20];
                    let mut last = 0;
                    while let Ok(n) = there.try_read(&mut buffer) {
                        assert!(buffer[..n].is_sorted() && buffer[0] >= last);
                        last = buffer[n - 1];
                    }
                },
                |_, _| {},
            )
            .slower(100),
        ]
    });
}
