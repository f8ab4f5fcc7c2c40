//! [`WebSocket`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::WebSocketError;
use crate::frame::Frame;
use crate::proto::{CloseCode, Disconnect, Message, OpCode, Outgoing};
use crate::stream::{MessageReader, MessageWriter};

/// A WebSocket connection: gevent-websocket's `WebSocket`.
///
/// One greenlet receives; any greenlet of any hub, and any thread, may send. A clone is a second
/// handle to the same connection. While it waits for a message it owns no buffers.
///
/// A client's connection ([`connect`](crate::connect)) is closed with 1001 when its last handle is
/// dropped; that goes on behind the caller's back, and with the process it ends. When it has been
/// closed by the server, its socket goes with the last handle too, or by a call of
/// [`close`](WebSocket::close). A server's ends with its application.
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
    pub(crate) fn new(connection: Arc<Connection>, subprotocol: Option<Arc<str>>) -> WebSocket {
        WebSocket {
            connection,
            subprotocol,
            _end: None,
        }
    }

    /// The client's side of a connection.
    pub(crate) fn of_client(connection: Arc<Connection>, subprotocol: Option<&str>) -> WebSocket {
        WebSocket {
            _end: Some(Arc::new(ClientEnd(Arc::clone(&connection)))),
            ..WebSocket::new(connection, subprotocol.map(Arc::from))
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
        self.connection.send_control(OpCode::Ping, payload)
    }

    /// Waits for the next message, and gives it as it arrives, of whatever length: the limits on
    /// messages and frames do not count. `None` as for [`receive`](WebSocket::receive). Go's
    /// `NextReader` (gorilla).
    ///
    /// What has not been read of the message before is dropped as it arrives.
    ///
    /// ```no_run
    /// # fn f(ws: greenwood_websocket::WebSocket) -> Result<(), Box<dyn std::error::Error>> {
    /// while let Some(mut message) = ws.next_reader()? {
    ///     let bytes = std::io::copy(&mut message, &mut std::io::sink())?;
    ///     println!("a message of {bytes} bytes");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`receive`](WebSocket::receive).
    pub fn next_reader(&self) -> Result<Option<MessageReader<'_>>, WebSocketError> {
        let first = self.connection.receive_first()?;
        Ok(first.map(|(first, serial)| MessageReader::new(self, first, serial)))
    }

    /// Begins a text message that is sent while it is made, in fragments. Waits until no other such
    /// message is under way. Go's `NextWriter` (gorilla).
    ///
    /// ```no_run
    /// # fn f(ws: greenwood_websocket::WebSocket) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    ///
    /// let mut message = ws.text_writer()?;
    /// for i in 0..1_000_000 {
    ///     writeln!(message, "{i}")?;
    /// }
    /// message.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Closed`]; [`WebSocketError::Wait`] when this greenlet (or thread) has not
    /// finished its last message.
    pub fn text_writer(&self) -> Result<MessageWriter<'_>, WebSocketError> {
        MessageWriter::begin(self, OpCode::Text)
    }

    /// As [`text_writer`](WebSocket::text_writer), of a binary message.
    ///
    /// # Errors
    ///
    /// As [`text_writer`](WebSocket::text_writer).
    pub fn binary_writer(&self) -> Result<MessageWriter<'_>, WebSocketError> {
        MessageWriter::begin(self, OpCode::Binary)
    }

    /// Waits for the next frame, whatever it is: gevent-websocket's `read_frame`, for proxies and
    /// tests. `None` when the connection is over.
    ///
    /// The checks are those of [`receive`](WebSocket::receive): masks, reserved bits, opcodes,
    /// UTF-8 over fragments, close codes, the limit on frames (that on messages does not count).
    /// Payloads are unmasked and decompressed. Pings are given and *not* answered; pongs are given,
    /// but for those to [`ping_interval`](crate::WebSocketConfig::ping_interval). A close frame is
    /// given, and has been answered by then.
    ///
    /// In the middle of a message the rest of it comes so too, and not as a message.
    ///
    /// # Errors
    ///
    /// As [`receive`](WebSocket::receive).
    pub fn receive_frame(&self) -> Result<Option<Frame>, WebSocketError> {
        self.connection.receive_frame()
    }

    /// Sends a frame as it is, uncompressed: gevent-websocket's `send_frame`, for proxies and tests.
    /// Waits as [`send`](WebSocket::send) does. Other senders wait for the end of a message that is
    /// begun so; any caller may go on with it.
    ///
    /// A close frame closes as [`close_nowait`](WebSocket::close_nowait) does.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::Encode`] for a frame that no peer would take here: a control frame that is
    /// fragmented or too long, a continuation without a message, a message in the middle of
    /// another, text that is not UTF-8, a close payload that is none. Nothing is sent then, and the
    /// message goes on. Else as [`send`](WebSocket::send).
    pub fn send_frame(&self, frame: Frame) -> Result<(), WebSocketError> {
        self.connection.send_raw(frame)
    }

    /// Closes the connection: sends a close frame and waits for the peer's, at most
    /// [`close_timeout`](crate::WebSocketConfig::close_timeout); then the connection is cut. A client
    /// that has been answered also waits for the server to end the transport (RFC 6455, 7.1.1), at
    /// most 2 s. Does nothing if it is closed.
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
    /// What the system says, for instance when the peer is gone; `Unsupported` for one that has come
    /// by a Unix socket, which has none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.connection.peer_addr()
    }
}
