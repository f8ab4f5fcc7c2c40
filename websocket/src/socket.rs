//! [`WebSocket`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::WebSocketError;
use crate::proto::{CloseCode, Disconnect, Message, Outgoing};

/// A WebSocket connection: gevent-websocket's `WebSocket`.
///
/// One greenlet receives; any greenlet of any hub, and any thread, may send. A clone is a second
/// handle to the same connection. While it waits for a message it owns no buffers.
///
/// A client's connection ([`connect`](crate::connect)) is closed with 1001 when its last handle is
/// dropped; that goes on behind the caller's back, and with the process it ends. A server's ends
/// with its application.
#[derive(Debug, Clone)]
pub struct WebSocket {
    connection: Arc<Connection>,
    subprotocol: Option<Arc<str>>,
    /// A client's.
    _end: Option<Arc<ClientEnd>>,
}

/// Closes a client's connection when its last handle is gone.
#[derive(Debug)]
struct ClientEnd(Arc<Connection>);

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl WebSocket {
    pub(crate) fn new(connection: Arc<Connection>, subprotocol: Option<&str>) -> WebSocket {
        WebSocket {
            connection,
            subprotocol: subprotocol.map(Arc::from),
            _end: None,
        }
    }

    /// The client's side of a connection.
    pub(crate) fn of_client(connection: Arc<Connection>, subprotocol: Option<&str>) -> WebSocket {
        WebSocket {
            _end: Some(Arc::new(ClientEnd(Arc::clone(&connection)))),
            ..WebSocket::new(connection, subprotocol)
        }
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Waits for the next message; `None` when the connection was closed by a closing handshake, of
    /// either side. Pings are answered on the way.
    ///
    /// A kill or a time-out while it waits loses nothing: the next call goes on where this one was.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Disconnected`] when the connection ended otherwise; every later call says
    /// the same. [`WebSocketError::Wait`] when another greenlet is receiving already.
    pub fn receive(&self) -> Result<Option<Message>, WebSocketError> {
        self.connection.receive()
    }

    /// Sends a message: text from `&str` and `String`, binary from bytes, or a [`Message`] as it
    /// is.
    ///
    /// It is written at once, or queued behind what the peer has not taken yet; when more than
    /// [`high_water`](crate::WebSocketConfig::high_water) bytes wait, the caller waits too. A kill
    /// or a time-out then ends the wait, not the message: it is sent whole.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Closed`] after the connection was closed, [`WebSocketError::Disconnected`]
    /// when it breaks in the write or while the caller waits, and at once when too much waits
    /// under [`SlowConsumer::Close`](crate::SlowConsumer::Close).
    pub fn send<'a>(&self, message: impl Into<Outgoing<'a>>) -> Result<(), WebSocketError> {
        self.connection.send(message.into())
    }

    /// Sends a ping with a payload of at most 125 bytes. The pong is taken in silently by
    /// [`receive`](WebSocket::receive).
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Encode`] when the payload is too long; else as [`send`](WebSocket::send).
    pub fn ping(&self, payload: &[u8]) -> Result<(), WebSocketError> {
        self.connection.ping(payload)
    }

    /// Closes the connection: sends a close frame and waits for the peer's, at most
    /// [`close_timeout`](crate::WebSocketConfig::close_timeout); then the connection is cut. Does
    /// nothing if it is closed.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Encode`] for a code that must not be on the wire (1005, for instance) or a
    /// reason of more than 123 bytes; the connection is then still open.
    pub fn close(&self, code: CloseCode, reason: &str) -> Result<(), WebSocketError> {
        self.connection.close(code, reason)
    }

    /// As [`close`](WebSocket::close), without waiting: the greenlet that receives sees the end,
    /// which comes in [`close_timeout`](crate::WebSocketConfig::close_timeout) at the latest.
    ///
    /// # Errors
    ///
    /// As [`close`](WebSocket::close).
    pub fn close_nowait(&self, code: CloseCode, reason: &str) -> Result<(), WebSocketError> {
        self.connection.close_nowait(code, reason)
    }

    /// Whether a close frame has been sent or received, or the connection is gone:
    /// gevent-websocket's `closed`.
    pub fn closed(&self) -> bool {
        !self.connection.is_open()
    }

    /// How the connection ended; `None` while it has not.
    pub fn disconnect(&self) -> Option<Disconnect> {
        self.connection.disconnect()
    }

    /// How long the last of the pings of
    /// [`ping_interval`](crate::WebSocketConfig::ping_interval) took to come back; `None` before
    /// that, and after the end of the connection.
    pub fn rtt(&self) -> Option<Duration> {
        self.connection.rtt()
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// What the system says, for instance when the peer is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.connection.peer_addr()
    }
}
