//! [`Topic`]: messages for whoever is subscribed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::connection::{Connection, Shared};
use crate::fanout::{Behind, Delivery};
use crate::members::{Member, Members};
use crate::proto::{Disconnect, Outgoing};
use crate::shared::SharedMessage;
use crate::socket::WebSocket;

/// So many members ahead a connection's memory is fetched: while the system writes to the ones before
/// it. The connections of a large topic are in none of the processor's caches.
const AHEAD: usize = 2;

/// What [`publish`](Topic::publish) does about a subscriber that reads more slowly than it is sent
/// to. None of these holds up the other subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicPolicy {
    /// The publisher waits, after all others have got the message, until no more than
    /// [`high_water`](crate::WebSocketConfig::high_water) bytes wait for the subscriber: for
    /// messages of which none may be missing. One that is still behind after its
    /// [`write_timeout`](crate::WebSocketConfig::write_timeout) is closed with 1013.
    Block,
    /// Of the topic's messages at most `keep` wait for the subscriber, besides one that is on its way
    /// already: older ones are dropped. For volatile data, as prices or positions, where the newest
    /// counts. The publisher never waits.
    ///
    /// `keep` messages should be well below `high_water`, as other senders to the connection wait
    /// for room below that. A subscriber that takes nothing at all is cut after its
    /// `write_timeout`.
    DropOldest {
        /// How many messages may wait, at least one.
        keep: usize,
    },
    /// The subscriber is closed with 1013, "try again later", when more than `high_water` bytes wait
    /// for it: for messages of which none may be missing, where clients know how to catch up. The
    /// close frame comes behind what waits.
    Disconnect,
}

/// Hands messages to all WebSockets that are subscribed. A clone is a second handle to the same
/// topic.
///
/// A message is encoded once, and once more for each different compression among the subscribers;
/// what waits for a slow one refers to the same bytes. (With
/// [context takeover](crate::Deflate::compress_with_context) each connection has to compress by
/// itself. There, what may be dropped is sent uncompressed while anything waits.)
///
/// Everything may be called from any greenlet of any hub and from any thread, also at the same time.
/// Messages that are published one after the other arrive in that order everywhere. Of two that are
/// published at the same time, one subscriber may get the one first and another the other.
///
/// ```no_run
/// use greenwood_websocket::{Topic, TopicPolicy, WebSocketEnviron};
/// use greenwood_wsgi::{Body, Environ, Result, StartResponse};
///
/// let room = Topic::new(TopicPolicy::Disconnect);
/// let app = move |environ: &mut Environ, _start_response: StartResponse<'_>| -> Result<Body> {
///     if let Some(ws) = environ.websocket() {
///         let _subscription = room.subscribe(&ws);
///         while let Some(message) = ws.receive()? {
///             room.publish(message);
///         }
///     }
///     Ok(Body::empty())
/// };
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct Topic {
    inner: Arc<Inner>,
}

struct Inner {
    policy: TopicPolicy,
    /// By this its messages are known among those that wait for a subscriber.
    number: u64,
    /// Not held while anything is sent: who publishes goes through the list as it was.
    members: Mutex<Members<Connection>>,
    dropped: AtomicU64,
}

impl Topic {
    /// A topic without subscribers.
    ///
    /// # Panics
    ///
    /// For [`TopicPolicy::DropOldest`] with nothing to keep.
    pub fn new(policy: TopicPolicy) -> Topic {
        assert!(
            policy != TopicPolicy::DropOldest { keep: 0 },
            "a topic that keeps no message: a subscriber that is slow for a moment would never get any"
        );
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Topic {
            inner: Arc::new(Inner {
                policy,
                number: NUMBERS.fetch_add(1, Ordering::Relaxed),
                members: Mutex::default(),
                dropped: AtomicU64::new(0),
            }),
        }
    }

    /// Subscribes a WebSocket until the [`Subscription`] is dropped, or the connection is closed: the
    /// topic does not keep it. A WebSocket that is subscribed twice gets each message once, until
    /// both subscriptions are dropped.
    pub fn subscribe(&self, websocket: &WebSocket) -> Subscription {
        let connection = websocket.connection();
        let dropped = self.inner.members.lock().add(connection);
        Subscription {
            topic: self.clone(),
            connection: Arc::downgrade(connection),
            dropped,
        }
    }

    /// Sends a message to all who are subscribed. What happens where one is slow is for the
    /// [`TopicPolicy`] to say; all others have been served by then.
    ///
    /// The message is on its way to everybody even if the caller is killed or out of time while it
    /// waits, which it does under [`TopicPolicy::Block`] only. The others of the calling greenlet's
    /// hub have to wait for the writing, some microseconds for each subscriber.
    pub fn publish<'m>(&self, message: impl Into<Outgoing<'m>>) -> Delivery {
        let topic = &*self.inner;
        let (volatile, keep) = match topic.policy {
            TopicPolicy::DropOldest { keep } => (topic.number, keep),
            _ => (0, usize::MAX),
        };
        let mut message = SharedMessage::new(message.into(), volatile);
        let mut delivery = Delivery::default();
        let mut behind = Behind::default();
        let mut gone = Vec::new();
        let list = topic.members.lock().snapshot();
        let mut ahead = list.iter().flat_map(|piece| piece.iter()).skip(AHEAD);
        for member in list.iter().flat_map(|piece| piece.iter()) {
            if let Some(member) = ahead.next() {
                Connection::prefetch(member.connection.as_ptr());
            }
            let Some(connection) = member.connection.upgrade() else {
                gone.push(Weak::clone(&member.connection));
                delivery.closed += 1;
                continue;
            };
            match connection.share(&mut message, keep) {
                Shared::Sent => delivery.sent += 1,
                Shared::InPlaceOf(dropped) => {
                    member.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
                    delivery.dropped += dropped;
                    delivery.sent += 1;
                }
                Shared::Behind => match topic.policy {
                    TopicPolicy::Block => behind.add(connection),
                    TopicPolicy::DropOldest { .. } => delivery.sent += 1,
                    TopicPolicy::Disconnect => {
                        connection.end_behind(Disconnect::SlowSubscriber);
                        gone.push(Weak::clone(&member.connection));
                        delivery.slow += 1;
                    }
                },
                Shared::Closed => {
                    gone.push(Weak::clone(&member.connection));
                    delivery.closed += 1;
                }
            }
        }
        drop(list);
        if !gone.is_empty() {
            let mut members = topic.members.lock();
            for connection in &gone {
                members.forget(connection);
            }
        }
        if delivery.dropped > 0 {
            let dropped = delivery.dropped as u64;
            topic.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        behind.wait(Disconnect::SlowSubscriber, &mut delivery);
        delivery
    }

    /// How many open WebSockets are subscribed. Looks at each of them.
    pub fn len(&self) -> usize {
        let list = self.inner.members.lock().snapshot();
        let is_open = |member: &&Member<Connection>| {
            let connection = member.connection.upgrade();
            connection.is_some_and(|connection| connection.is_open())
        };
        list.iter()
            .flat_map(|piece| piece.iter())
            .filter(is_open)
            .count()
    }

    /// Whether no open WebSocket is subscribed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happens to slow subscribers.
    pub fn policy(&self) -> TopicPolicy {
        self.inner.policy
    }

    /// How many messages have been dropped so far because newer ones came, over all subscribers.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic")
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}

/// A WebSocket's place in a [`Topic`]. Dropping it unsubscribes: what is published from then on does
/// not go there any more.
#[must_use = "the WebSocket is unsubscribed when this is dropped"]
pub struct Subscription {
    topic: Topic,
    connection: Weak<Connection>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// How many messages this subscriber has not got because newer ones came.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.inner.members.lock().remove(&self.connection);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
