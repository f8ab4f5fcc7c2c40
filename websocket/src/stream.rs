//! [`MessageReader`] and [`MessageWriter`]: messages of any length.

use std::fmt;
use std::io::{self, Read, Write};

use crate::error::WebSocketError;
use crate::proto::{Disconnect, OpCode, Part, Utf8Error, Utf8Validator};
use crate::socket::WebSocket;

/// A message that is received as it arrives: [`WebSocket::next_reader`].
///
/// It is read by [`chunk`](MessageReader::chunk) or by [`Read`]. Dropped before its end, the rest of
/// the message is dropped as it arrives.
pub struct MessageReader<'w> {
    websocket: &'w WebSocket,
    /// Which of the messages that came in parts it is.
    serial: u32,
    is_text: bool,
    /// What has been received but not been read.
    chunk: Vec<u8>,
    at: usize,
    is_last: bool,
}

impl<'w> MessageReader<'w> {
    pub(crate) fn new(websocket: &'w WebSocket, first: Part, serial: u32) -> MessageReader<'w> {
        MessageReader {
            websocket,
            serial,
            is_text: first.opcode == OpCode::Text,
            chunk: first.payload,
            at: 0,
            is_last: first.fin,
        }
    }

    /// Whether it is a text message. Else it is binary.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    /// The next bytes of the message, waiting for them; `None` at its end. Text has been validated,
    /// and is cut between characters. No more than some 80 KiB at a time.
    ///
    /// A kill or a time-out while it waits loses nothing.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::receive`]; also when the connection is closed in the middle of the message.
    /// `InvalidInput` within [`WebSocketError::Wait`] when somebody has received from the WebSocket
    /// since the message began: the rest of it was dropped.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, WebSocketError> {
        loop {
            let mut chunk = std::mem::take(&mut self.chunk);
            chunk.drain(..std::mem::take(&mut self.at));
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            if self.is_last {
                return Ok(None);
            }
            self.advance()?;
        }
    }

    fn advance(&mut self) -> Result<(), WebSocketError> {
        let part = self.websocket.connection().receive_rest(self.serial)?;
        let Some(part) = part else {
            // A closing handshake in the middle of a message.
            let cause = self.websocket.disconnect();
            return Err(WebSocketError::Disconnected(
                cause.unwrap_or(Disconnect::TransportEnd),
            ));
        };
        self.chunk = part.payload;
        self.at = 0;
        self.is_last = part.fin;
        Ok(())
    }
}

impl Read for MessageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.is_last || buffer.is_empty() {
                return Ok(0);
            }
            self.advance().map_err(as_io)?;
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl fmt::Debug for MessageReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader")
            .field("is_text", &self.is_text)
            .field("is_last", &self.is_last)
            .finish_non_exhaustive()
    }
}

/// So much is gathered before it is sent.
const FRAGMENT: usize = 16 * 1024;

/// And so much is sent at most in one fragment, but for what a flush leaves.
const LARGEST: usize = 256 * 1024;

/// A message that is sent while it is made: [`WebSocket::text_writer`] and
/// [`WebSocket::binary_writer`].
///
/// What is written goes out in fragments of 16 to 272 KiB, and at each [`flush`](Write::flush);
/// other senders wait for the end of the message, broadcasts come behind it.
/// [`finish`](MessageWriter::finish) ends the message. Dropped without that, what the peer has got
/// can't be told from a whole message otherwise, so the connection is closed with 1011; if nothing
/// has been sent, nothing happens.
///
/// A time-out (or a kill) in one of its calls ends the wait for a slow peer, not the message: what
/// the call was about to send is on its way, and the writer goes on behind it.
#[must_use = "a message that is not finished is not sent"]
pub struct MessageWriter<'w> {
    websocket: &'w WebSocket,
    /// That of the first fragment, and then continuation.
    opcode: OpCode,
    utf8: Option<Utf8Validator>,
    buffer: Vec<u8>,
    is_over: bool,
}

impl<'w> MessageWriter<'w> {
    pub(crate) fn begin(
        websocket: &'w WebSocket,
        opcode: OpCode,
    ) -> Result<MessageWriter<'w>, WebSocketError> {
        websocket.connection().begin_message()?;
        Ok(MessageWriter {
            websocket,
            opcode,
            utf8: (opcode == OpCode::Text).then(Utf8Validator::new),
            buffer: Vec::new(),
            is_over: false,
        })
    }

    /// Ends the message with what has been written. One that has fitted into the first fragment goes
    /// out as an ordinary message.
    ///
    /// # Errors
    ///
    /// As [`WebSocket::send`]; `InvalidData` within [`WebSocketError::Wait`] when text ends in the
    /// middle of a character: then the connection is closed as if the writer had been dropped.
    pub fn finish(mut self) -> Result<(), WebSocketError> {
        if let Some(utf8) = &mut self.utf8 {
            utf8.finish()
                .map_err(|error| WebSocketError::Wait(invalid(error)))?;
        }
        self.send(true)
    }

    fn send(&mut self, fin: bool) -> Result<(), WebSocketError> {
        let opcode = std::mem::replace(&mut self.opcode, OpCode::Continuation);
        // Whatever becomes of the call: the fragment is on its way.
        self.is_over = fin;
        // Nor is it sent again: the call may be unwound by a time-out that the writer outlives.
        let mut fragment = std::mem::take(&mut self.buffer);
        let connection = self.websocket.connection();
        let sent = connection.send_fragment(opcode, fin, &fragment);
        fragment.clear();
        self.buffer = fragment;
        sent
    }
}

impl Write for MessageWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What waits for a slow peer is copied, so one call takes only so much.
        let bytes = &bytes[..bytes.len().min(LARGEST)];
        if let Some(utf8) = &mut self.utf8 {
            utf8.push(bytes).map_err(invalid)?;
        }
        if self.buffer.is_empty() && bytes.len() >= FRAGMENT {
            // No copy for what is large already.
            let opcode = std::mem::replace(&mut self.opcode, OpCode::Continuation);
            let connection = self.websocket.connection();
            connection
                .send_fragment(opcode, false, bytes)
                .map_err(as_io)?;
            return Ok(bytes.len());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= FRAGMENT {
            self.send(false).map_err(as_io)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(false).map_err(as_io),
        }
    }
}

impl Drop for MessageWriter<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let has_begun = self.opcode == OpCode::Continuation;
            self.websocket.connection().abandon_message(has_begun);
        }
    }
}

impl fmt::Debug for MessageWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter")
            .field("opcode", &self.opcode)
            .finish_non_exhaustive()
    }
}

fn invalid(error: Utf8Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn as_io(error: WebSocketError) -> io::Error {
    let kind = match &error {
        WebSocketError::Closed => io::ErrorKind::BrokenPipe,
        WebSocketError::Disconnected(_) => io::ErrorKind::ConnectionAborted,
        WebSocketError::Encode(_) => io::ErrorKind::InvalidInput,
        WebSocketError::Wait(wait) => wait.kind(),
    };
    io::Error::new(kind, error)
}
