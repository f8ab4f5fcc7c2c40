//! [`getaddrinfo`].

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Queue, Semaphore};

/// How many names are looked up at a time: as many threads as gevent's pool has. More wait.
const LOOKUPS: usize = 10;

/// The addresses of a host, a name or an address, with the port: gevent's `socket.getaddrinfo`.
///
/// A name is looked up by the system's resolver on a thread of its own, ten at a time, so the hub
/// goes on. A lookup that nobody waits for any more ends in its own time.
///
/// # Errors
///
/// `TimedOut`; `InvalidInput` if the name has no address; what the resolver says.
pub fn getaddrinfo(
    host: &str,
    port: u16,
    timeout: Option<Duration>,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let late = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("looking up {host}: no answer in time"),
        )
    };
    let begun = Instant::now();
    let places = places();
    let has_place = match timeout {
        None => places.acquire(),
        Some(timeout) => places.acquire_timeout(timeout),
    };
    if !has_place {
        return Err(late());
    }
    let place = Place(places);
    let found = Arc::new(Queue::new(0));
    let finder = Arc::clone(&found);
    let name = host.to_owned();
    thread::Builder::new()
        .name("getaddrinfo".to_owned())
        .spawn(move || {
            let addresses = (name.as_str(), port).to_socket_addrs();
            drop(place);
            // Room for everything: it does not wait.
            finder.put(addresses).ok();
        })?;
    let answer = match timeout {
        None => found.get(),
        Some(timeout) => found.get_timeout(timeout.saturating_sub(begun.elapsed())),
    };
    let addresses: Vec<SocketAddr> = answer.map_err(|_| late())??.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host} has no address"),
        ));
    }
    Ok(addresses)
}

fn places() -> &'static Semaphore {
    static PLACES: OnceLock<Semaphore> = OnceLock::new();
    PLACES.get_or_init(|| Semaphore::new(LOOKUPS))
}

/// The right to a thread.
struct Place(&'static Semaphore);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}
