//! Servers: gevent's `baseserver` and `server`.
//!
//! [`StreamServer`] accepts connections, [`DatagramServer`] receives datagrams; each runs a handler
//! in a greenlet. What they have in common, gevent's `BaseServer`, is [`base`]: the life from the
//! start to the end. [`seats`] knows who is being served.

mod accept;
mod base;
mod datagram;
mod listener;
mod seats;
mod stream;

pub use datagram::{DatagramServer, DatagramSocket};
pub use listener::Listener;
pub use seats::{Detached, Seat};
pub use stream::StreamServer;

/// In what a server's handlers run: gevent's `spawn`.
///
/// ```
/// use greenwood_runtime::{Spawn, StreamServer};
/// let server = StreamServer::new("127.0.0.1:0", |_stream, _peer| ())?.spawn(Spawn::Pool(1000));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spawn {
    /// Each in a greenlet of its own; as many as the process may have, further connections wait in
    /// the backlog. The default.
    #[default]
    Greenlet,
    /// As `Greenlet`, but no more than so many at a time: gevent's `spawn=100` or a `Pool`. More
    /// than none.
    Pool(usize),
    /// Each in a greenlet that the server forgets: it does not count, and a stop neither waits for
    /// it nor kills it. gevent's `spawn="raw"`.
    Raw,
}
