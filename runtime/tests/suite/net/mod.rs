//! TCP: reading and writing at once, from everywhere, and every way a connection can end.

mod ends;
mod opening;
mod transfer;
mod waits;

use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

/// A connection and its other end.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, peer) = listener.accept().unwrap();
    assert_eq!(peer, here.local_addr().unwrap());
    (here, there)
}
