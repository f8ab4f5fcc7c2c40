//! [`broadcast`]: one message to many WebSockets.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Instant;

use crate::config::SlowConsumer;
use crate::connection::{Connection, Shared};
use crate::proto::{Disconnect, Outgoing};
use crate::shared::SharedMessage;
use crate::socket::WebSocket;

/// Sends one message to many WebSockets. It is encoded once, and once more for each different
/// compression among them; what a peer does not take at once refers to the same bytes.
///
/// Nobody waits for a slow peer before all the others have been served. What becomes of it then is
/// for its own [`slow_consumer`](crate::WebSocketConfig::slow_consumer) to say: either the caller
/// waits until no more than [`high_water`](crate::WebSocketConfig::high_water) bytes wait for it, at
/// most its [`write_timeout`](crate::WebSocketConfig::write_timeout) (slow ones are waited for at the
/// same time), or the peer is closed with 1008 at once. A peer that is still behind after that time
/// is closed with 1008 too. A kill or a time-out ends the wait; by then the message is on its way to
/// all.
///
/// A WebSocket that is given twice gets the message twice. The others of the calling greenlet's hub
/// have to wait for the writing, some microseconds for each WebSocket.
///
/// For a group that changes, or whose slow members are to be treated otherwise, there is
/// [`Topic`](crate::Topic).
///
/// ```no_run
/// # fn f(websockets: Vec<greenwood_websocket::WebSocket>) {
/// use greenwood_websocket::broadcast;
///
/// let delivery = broadcast(&websockets, "the shop closes in ten minutes");
/// println!("{} were told, {} had left", delivery.sent, delivery.closed);
/// # }
/// ```
pub fn broadcast<'m, W: Borrow<WebSocket>>(
    websockets: impl IntoIterator<Item = W>,
    message: impl Into<Outgoing<'m>>,
) -> Delivery {
    let mut message = SharedMessage::new(message.into(), 0);
    let mut delivery = Delivery::default();
    let mut behind = Behind::default();
    let mut websockets = websockets.into_iter().peekable();
    while let Some(websocket) = websockets.next() {
        if let Some(next) = websockets.peek() {
            Connection::prefetch(Arc::as_ptr(next.borrow().connection()));
        }
        let connection = websocket.borrow().connection();
        match connection.share(&mut message, usize::MAX) {
            Shared::Closed => delivery.closed += 1,
            Shared::Behind if connection.config().slow_consumer == SlowConsumer::Close => {
                connection.end_behind(Disconnect::SlowConsumer);
                delivery.slow += 1;
            }
            Shared::Behind => behind.add(Arc::clone(connection)),
            _ => delivery.sent += 1,
        }
    }
    behind.wait(Disconnect::SlowConsumer, &mut delivery);
    delivery
}

/// What became of one message for many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// To so many connections the message was written, or it waits to be.
    pub sent: usize,
    /// So many were closed before, or broke in the write.
    pub closed: usize,
    /// So many are closed now, as they read too slowly.
    pub slow: usize,
    /// So many older messages, over all connections, were dropped in favour of this one:
    /// [`TopicPolicy::DropOldest`](crate::TopicPolicy::DropOldest).
    pub dropped: usize,
}

/// Connections for which more waits than should.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    connections: Vec<Arc<Connection>>,
}

impl Behind {
    #[cold]
    pub(crate) fn add(&mut self, connection: Arc<Connection>) {
        self.connections.push(connection);
    }

    /// Waits for all of them at the same time, and ends those that don't catch up.
    pub(crate) fn wait(self, cause: Disconnect, delivery: &mut Delivery) {
        let began = Instant::now();
        for connection in self.connections {
            if connection.await_room(began + connection.config().write_timeout) {
                delivery.sent += 1;
                continue;
            }
            connection.end_behind(cause.clone());
            match connection.disconnect() {
                Some(Disconnect::SlowConsumer | Disconnect::SlowSubscriber) => delivery.slow += 1,
                _ => delivery.closed += 1,
            }
        }
    }
}
