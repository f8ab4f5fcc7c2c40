//! Messages: whole, as the application sees them.

use std::borrow::Cow;
use std::fmt;

use super::OpCode;

/// A received message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text; it was valid UTF-8 on the wire.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The length of the payload in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// True if there is no payload.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True for text, also if empty.
    #[inline]
    pub fn is_text(&self) -> bool {
        matches!(self, Message::Text(_))
    }

    /// True for bytes, also if empty.
    #[inline]
    pub fn is_binary(&self) -> bool {
        matches!(self, Message::Binary(_))
    }

    /// The payload, for text its UTF-8 bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The text; `None` for a binary message.
    #[inline]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// The text; `None` for a binary message.
    #[inline]
    pub fn into_text(self) -> Option<String> {
        match self {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
        }
    }

    /// The payload, for text its UTF-8 bytes.
    #[inline]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// How much of a message `Debug` shows: enough to know it in a log.
const DEBUG_BYTES: usize = 64;

impl fmt::Debug for Message {
    /// The kind, the length, and at most the first 64 bytes, so that a log line stays a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, shown): (_, &dyn fmt::Debug) = match self {
            Message::Text(text) => ("Text", &&text[..text.floor_char_boundary(DEBUG_BYTES)]),
            Message::Binary(bytes) => ("Binary", &&bytes[..bytes.len().min(DEBUG_BYTES)]),
        };
        write!(f, "{kind}({} bytes, ", self.len())?;
        shown.fmt(f)?;
        f.write_str(if self.len() > DEBUG_BYTES {
            "…)"
        } else {
            ")"
        })
    }
}

impl fmt::Display for Message {
    /// The text itself; for bytes only their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Text(text) => f.write_str(text),
            Message::Binary(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Message {
        Message::Binary(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::Binary(bytes)
    }
}

/// A message to send: owned or borrowed, whatever the caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Binary(Cow<'a, [u8]>),
}

impl<'a> Outgoing<'a> {
    /// The opcode of its first frame.
    #[inline]
    pub fn opcode(&self) -> OpCode {
        match self {
            Outgoing::Text(_) => OpCode::Text,
            Outgoing::Binary(_) => OpCode::Binary,
        }
    }

    /// The payload, for text its UTF-8 bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Outgoing::Text(text) => text.as_bytes(),
            Outgoing::Binary(bytes) => bytes,
        }
    }

    /// The payload, borrowed or owned as it was given.
    #[inline]
    pub fn into_cow(self) -> Cow<'a, [u8]> {
        match self {
            Outgoing::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Outgoing::Text(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            Outgoing::Binary(bytes) => bytes,
        }
    }

    /// The payload as a vector; copies only what is borrowed.
    #[inline]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Outgoing::Text(text) => text.into_owned().into_bytes(),
            Outgoing::Binary(bytes) => bytes.into_owned(),
        }
    }
}

impl<'a> From<&'a str> for Outgoing<'a> {
    fn from(text: &'a str) -> Outgoing<'a> {
        Outgoing::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Outgoing<'_> {
    fn from(text: String) -> Self {
        Outgoing::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a String> for Outgoing<'a> {
    fn from(text: &'a String) -> Outgoing<'a> {
        Outgoing::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a [u8]> for Outgoing<'a> {
    fn from(bytes: &'a [u8]) -> Outgoing<'a> {
        Outgoing::Binary(Cow::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    fn from(bytes: &'a [u8; N]) -> Outgoing<'a> {
        Outgoing::Binary(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Outgoing<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Outgoing::Binary(Cow::Owned(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Outgoing<'a> {
    fn from(bytes: &'a Vec<u8>) -> Outgoing<'a> {
        Outgoing::Binary(Cow::Borrowed(bytes))
    }
}

impl From<Message> for Outgoing<'_> {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Outgoing::from(text),
            Message::Binary(bytes) => Outgoing::from(bytes),
        }
    }
}

impl<'a> From<&'a Message> for Outgoing<'a> {
    fn from(message: &'a Message) -> Outgoing<'a> {
        match message {
            Message::Text(text) => Outgoing::from(text),
            Message::Binary(bytes) => Outgoing::from(bytes),
        }
    }
}
