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

use crate::pool::{Group, Pool};

/// In what a server's handlers run: gevent's `spawn`. A number and a [`Pool`] become one by
/// themselves where it is asked for.
///
/// ```
/// use greenwood_runtime::{Pool, StreamServer};
/// // A thousand at a time by both together.
/// let pool = Pool::new(1000);
/// let server = StreamServer::new("127.0.0.1:0", |_stream, _peer| ())?.spawn(&pool);
/// let other = StreamServer::new("127.0.0.1:0", |_stream, _peer| ())?.spawn(&pool);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Spawn {
    /// Each in a greenlet of its own; as many as the process may have, further connections wait in
    /// the backlog. The default.
    #[default]
    Greenlet,
    /// As `Greenlet`, but no more than so many at a time: gevent's `spawn=100`. More than none.
    Pool(usize),
    /// Each in a greenlet that is a member of this pool (or group), which bounds them together with
    /// whatever else runs in it, other servers for instance: gevent's `spawn=pool`. While the pool is
    /// full, who wants to be served waits as with `Pool`, and gets a place in the order of all who
    /// wait for one.
    ///
    /// A stop of the server waits for its own handlers and kills no others, where gevent kills all
    /// that is in the pool. A connection that goes on [without a greenlet](Seat::detach) is no
    /// member any more; [`Pool`](Spawn::Pool) counts it.
    In(Group),
    /// Each in a greenlet that the server forgets: it does not count, and a stop neither waits for
    /// it nor kills it. gevent's `spawn="raw"`.
    Raw,
}

impl Spawn {
    /// Whether a handler could ever be started.
    fn has_room(&self) -> bool {
        match self {
            Spawn::Pool(size) => *size > 0,
            Spawn::In(group) => group.is_of_some_size(),
            Spawn::Greenlet | Spawn::Raw => true,
        }
    }

    fn is_same(&self, other: &Spawn) -> bool {
        match (self, other) {
            (Spawn::Pool(size), Spawn::Pool(other)) => size == other,
            (Spawn::In(group), Spawn::In(other)) => group.is_same(other),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl From<usize> for Spawn {
    fn from(size: usize) -> Spawn {
        Spawn::Pool(size)
    }
}

impl From<&Pool> for Spawn {
    fn from(pool: &Pool) -> Spawn {
        Spawn::In(Group::clone(pool))
    }
}

impl From<Pool> for Spawn {
    fn from(pool: Pool) -> Spawn {
        Spawn::from(&pool)
    }
}

impl From<&Group> for Spawn {
    fn from(group: &Group) -> Spawn {
        Spawn::In(group.clone())
    }
}

impl From<Group> for Spawn {
    fn from(group: Group) -> Spawn {
        Spawn::In(group)
    }
}
