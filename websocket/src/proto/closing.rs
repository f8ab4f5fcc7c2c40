//! The closing handshake (RFC 6455, 1.4, 5.5.1, 7.1) without sockets and clocks.

use std::fmt;

use super::{CloseCode, CloseFrame, EncodeError, Fault, ProtocolError};

/// How far the closing handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseState {
    /// Nobody has closed.
    Open,
    /// This side has sent its close frame and waits for the peer's.
    CloseSent,
    /// The peer closed first and the reply was handed out: it is left to flush it.
    CloseReceived,
    /// It is over: both close frames went their way, the connection was failed, or the transport
    /// ended.
    Closed,
}

/// How a connection ended. Each has one close code: what the application sees, as a browser's
/// `CloseEvent.code` (not always what was on the wire: 1005 and 1006 never are).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer closed, with this frame. Its code, or 1005 if it had none.
    PeerClosed(Option<CloseFrame>),
    /// This side closed, with this frame, and the peer answered. The code that was sent.
    LocalClosed(CloseFrame),
    /// The peer broke the protocol. 1002 or 1007.
    ProtocolError(ProtocolError),
    /// The peer passed a limit. 1009.
    LimitExceeded(ProtocolError),
    /// The transport ended without a close frame. 1006.
    TransportEnd,
    /// The transport failed. 1006.
    TransportError,
    /// The peer did not answer this side's close frame in time. 1006.
    CloseTimeout,
    /// The peer did not answer a ping in time. 1011, as in Python's websockets.
    PingTimeout,
    /// Nothing was received for too long. 1001.
    IdleTimeout,
    /// The peer reads too slowly and the output queue is full. 1008.
    SlowConsumer,
    /// The peer reads too slowly for what it is subscribed to, and may come back later. 1013.
    SlowSubscriber,
    /// The application failed. 1011.
    ApplicationError,
}

impl Disconnect {
    /// The close code of this end.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Disconnect::PeerClosed(frame) => frame
                .as_ref()
                .map_or(CloseCode::NO_STATUS, |frame| frame.code),
            Disconnect::LocalClosed(frame) => frame.code,
            Disconnect::ProtocolError(error) | Disconnect::LimitExceeded(error) => {
                error.close_code()
            }
            Disconnect::TransportEnd | Disconnect::TransportError | Disconnect::CloseTimeout => {
                CloseCode::ABNORMAL
            }
            Disconnect::PingTimeout | Disconnect::ApplicationError => CloseCode::INTERNAL_ERROR,
            Disconnect::IdleTimeout => CloseCode::GOING_AWAY,
            Disconnect::SlowConsumer => CloseCode::POLICY_VIOLATION,
            Disconnect::SlowSubscriber => CloseCode::TRY_AGAIN_LATER,
        }
    }

    /// The reason the closing side gave; empty if none.
    pub fn reason(&self) -> &str {
        match self {
            Disconnect::PeerClosed(Some(frame)) | Disconnect::LocalClosed(frame) => &frame.reason,
            _ => "",
        }
    }

    /// True if the closing handshake was completed (`CloseEvent.wasClean` in a browser).
    pub fn is_clean(&self) -> bool {
        matches!(self, Disconnect::PeerClosed(_) | Disconnect::LocalClosed(_))
    }
}

impl From<ProtocolError> for Disconnect {
    fn from(error: ProtocolError) -> Disconnect {
        match error.fault() {
            Fault::Limit => Disconnect::LimitExceeded(error),
            _ => Disconnect::ProtocolError(error),
        }
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disconnect::PeerClosed(Some(frame)) => write!(f, "closed by the peer, {frame}"),
            Disconnect::PeerClosed(None) => f.write_str("closed by the peer without a code"),
            Disconnect::LocalClosed(frame) => write!(f, "closed by this side, {frame}"),
            Disconnect::ProtocolError(error) => write!(f, "protocol error by the peer: {error}"),
            Disconnect::LimitExceeded(error) => write!(f, "limit exceeded by the peer: {error}"),
            Disconnect::TransportEnd => f.write_str("transport ended without a close frame"),
            Disconnect::TransportError => f.write_str("transport failed"),
            Disconnect::CloseTimeout => f.write_str("peer did not answer the close frame in time"),
            Disconnect::PingTimeout => f.write_str("peer did not answer a ping in time"),
            Disconnect::IdleTimeout => f.write_str("nothing received for too long"),
            Disconnect::SlowConsumer => f.write_str("peer reads too slowly"),
            Disconnect::SlowSubscriber => {
                f.write_str("peer reads too slowly for what it is subscribed to")
            }
            Disconnect::ApplicationError => f.write_str("application failed"),
        }
    }
}

/// Keeps account of the closing handshake: which close frame is to be sent, whether data may still
/// be, when the connection is over, and how it ended. At most one close frame is ever handed out.
///
/// What it hands out is the *payload* of a close frame, to be sent with
/// [`OpCode::Close`](super::OpCode::Close).
///
/// ```
/// use greenwood_websocket::proto::{CloseCode, CloseFrame, CloseHandshake};
///
/// let mut closing = CloseHandshake::new();
/// let reply = closing.on_close_received(Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
/// assert_eq!(reply, Some(vec![0x03, 0xe8]));
/// assert!(closing.is_finished());
/// assert_eq!(closing.disconnect().unwrap().close_code(), CloseCode::NORMAL);
/// ```
#[derive(Debug)]
pub struct CloseHandshake {
    state: CloseState,
    /// The frame this side closed with; moves to `disconnect` when the peer answers.
    sent: Option<CloseFrame>,
    disconnect: Option<Disconnect>,
}

impl Default for CloseHandshake {
    fn default() -> CloseHandshake {
        CloseHandshake::new()
    }
}

impl CloseHandshake {
    /// An open connection.
    pub const fn new() -> CloseHandshake {
        CloseHandshake {
            state: CloseState::Open,
            sent: None,
            disconnect: None,
        }
    }

    /// How far it is.
    #[inline]
    pub fn state(&self) -> CloseState {
        self.state
    }

    /// True until a close frame was handed out or the connection ended: after its close frame an
    /// endpoint sends nothing more (RFC 6455, 5.5.1).
    #[inline]
    pub fn may_send_data(&self) -> bool {
        self.state == CloseState::Open
    }

    /// True when nothing more is awaited from the peer: what was handed out is to be flushed, then
    /// the transport is closed (by the server first: RFC 6455, 7.1.1).
    #[inline]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, CloseState::CloseReceived | CloseState::Closed)
    }

    /// How the connection ended; `None` while it has not. The first cause stands.
    pub fn disconnect(&self) -> Option<&Disconnect> {
        self.disconnect.as_ref()
    }

    /// This side closes: the close frame to send, or `None` if one was sent already or it is too
    /// late.
    ///
    /// # Errors
    ///
    /// As [`CloseFrame::encode`]; nothing has changed then.
    pub fn start_close(
        &mut self,
        code: CloseCode,
        reason: &str,
    ) -> Result<Option<Vec<u8>>, EncodeError> {
        self.start_close_with(Some(CloseFrame::new(code, reason)))
    }

    /// As [`start_close`](CloseHandshake::start_close), with any close frame, that without a code
    /// included. (The end is then told as the peer's answer.)
    ///
    /// # Errors
    ///
    /// As [`CloseFrame::encode`]; nothing has changed then.
    pub fn start_close_with(
        &mut self,
        frame: Option<CloseFrame>,
    ) -> Result<Option<Vec<u8>>, EncodeError> {
        let payload = frame.as_ref().map_or(Ok(Vec::new()), CloseFrame::encode)?;
        if self.state != CloseState::Open {
            return Ok(None);
        }
        self.state = CloseState::CloseSent;
        self.sent = frame;
        Ok(Some(payload))
    }

    /// The peer's close frame came: the reply to send, or `None` if this side had closed before.
    pub fn on_close_received(&mut self, frame: Option<CloseFrame>) -> Option<Vec<u8>> {
        match self.state {
            CloseState::Open => {
                // 5.5.1: the reply "typically echos the status code". Not the reason: it is the
                // peer's.
                let reply = frame.as_ref().map(|frame| CloseFrame::new(frame.code, ""));
                self.state = CloseState::CloseReceived;
                self.disconnect = Some(Disconnect::PeerClosed(frame));
                // A code that could be received may be sent.
                Some(
                    reply
                        .and_then(|reply| reply.encode().ok())
                        .unwrap_or_default(),
                )
            }
            CloseState::CloseSent => {
                let sent = self.sent.take();
                self.end(sent.map_or(Disconnect::PeerClosed(frame), Disconnect::LocalClosed));
                None
            }
            CloseState::CloseReceived | CloseState::Closed => None,
        }
    }

    /// The decoder gave an error: the close frame to send, or `None` if one was sent already. The
    /// connection is failed (RFC 6455, 7.1.7): flush, close the transport, read no more.
    pub fn on_protocol_error(&mut self, error: &ProtocolError) -> Option<Vec<u8>> {
        self.fail(Disconnect::from(*error))
    }

    /// Ends the connection for this cause without waiting for the peer: the close frame to send
    /// first, or `None` if one was sent already or the cause leaves nobody to send it to
    /// (1006).
    pub fn fail(&mut self, cause: Disconnect) -> Option<Vec<u8>> {
        let open = self.state == CloseState::Open;
        let frame = CloseFrame::new(cause.close_code(), cause.reason());
        self.end(cause);
        if open { frame.encode().ok() } else { None }
    }

    /// The transport ended or failed. Keeps the cause that is already known, if there is one: an
    /// end after both close frames is the clean one.
    pub fn on_transport_end(&mut self, cause: Disconnect) {
        self.end(cause);
    }

    fn end(&mut self, cause: Disconnect) {
        self.state = CloseState::Closed;
        self.disconnect.get_or_insert(cause);
    }
}
