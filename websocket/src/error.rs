//! [`WebSocketError`].

use std::fmt;
use std::io;

use crate::proto::{CloseCode, Disconnect, EncodeError};

/// Why a call on a [`WebSocket`](crate::WebSocket) failed. gevent-websocket's `WebSocketError`.
#[derive(Debug)]
#[non_exhaustive]
pub enum WebSocketError {
    /// The connection has been closed, by either side: nothing can be sent any more.
    Closed,
    /// The connection ended otherwise than by a closing handshake; how.
    Disconnected(Disconnect),
    /// The caller asked for a frame that can't be sent: a control frame that is too long, a close
    /// code that must not be on the wire.
    Encode(EncodeError),
    /// The wait itself failed: another greenlet receives already, or the caller unwinds.
    Wait(io::Error),
}

impl WebSocketError {
    /// The close code that describes the error; 1006 where there was none.
    pub fn close_code(&self) -> CloseCode {
        match self {
            WebSocketError::Disconnected(disconnect) => disconnect.close_code(),
            WebSocketError::Encode(_) => CloseCode::INTERNAL_ERROR,
            WebSocketError::Closed | WebSocketError::Wait(_) => CloseCode::ABNORMAL,
        }
    }
}

impl fmt::Display for WebSocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WebSocketError::Closed => f.write_str("the websocket is closed"),
            WebSocketError::Disconnected(disconnect) => write!(f, "{disconnect}"),
            WebSocketError::Encode(_) => f.write_str("the frame can't be sent"),
            WebSocketError::Wait(_) => f.write_str("waiting for the websocket failed"),
        }
    }
}

impl std::error::Error for WebSocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WebSocketError::Encode(source) => Some(source),
            WebSocketError::Wait(source) => Some(source),
            _ => None,
        }
    }
}

impl From<EncodeError> for WebSocketError {
    fn from(source: EncodeError) -> WebSocketError {
        WebSocketError::Encode(source)
    }
}

/// So that an application may use `?`.
impl From<WebSocketError> for greenwood_wsgi::Error {
    fn from(error: WebSocketError) -> greenwood_wsgi::Error {
        greenwood_wsgi::Error::application(error)
    }
}
