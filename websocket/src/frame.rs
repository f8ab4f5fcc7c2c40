//! [`Frame`].

use crate::proto::OpCode;

/// One frame, for those who look below the messages: proxies and tests. Masks and compression are
/// the connection's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: OpCode,
    /// It is the last of its message. Always so for control frames.
    pub fin: bool,
    /// What is in it; for text, a character may be cut by its end.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame that is the last, and may be the only one, of its message.
    pub fn of(opcode: OpCode, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            opcode,
            fin: true,
            payload: payload.into(),
        }
    }

    /// A frame with more of its message to come.
    pub fn more(opcode: OpCode, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            fin: false,
            ..Frame::of(opcode, payload)
        }
    }
}
