//! What can go wrong, by whose fault.

use std::fmt;

use super::{CloseCode, MAX_CLOSE_REASON, MAX_CONTROL_PAYLOAD, OpCode};

/// Whose fault a [`ProtocolError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The peer broke RFC 6455.
    Peer,
    /// The peer may be right, but a limit of this side was passed.
    Limit,
}

/// Why received bytes end the connection. [`close_code`](ProtocolError::close_code) is the answer
/// that fits; [`fault`](ProtocolError::fault) says whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set that no extension gave a meaning (5.2): RSV1 is 4, RSV2 is 2, RSV3 is
    /// 1.
    ReservedBits(u8),
    /// The opcode is reserved (5.2).
    ReservedOpCode(u8),
    /// A control frame without FIN (5.5).
    FragmentedControl(OpCode),
    /// A control frame with more than 125 bytes of payload (5.5).
    ControlTooLong(OpCode),
    /// The length would fit a shorter form (5.2).
    LengthNotMinimal(u64),
    /// The 64-bit length has its top bit set (5.2).
    LengthTopBit(u64),
    /// A client's frame without a mask (5.1).
    Unmasked,
    /// A server's frame with a mask (5.1).
    Masked,
    /// A continuation frame where no message is under way (5.4).
    UnexpectedContinuation,
    /// A new message before the last one was finished (5.4).
    UnfinishedMessage(OpCode),
    /// A text message that is not UTF-8 (8.1).
    InvalidText {
        /// How many bytes of the message are valid before the bad sequence.
        valid_up_to: u64,
    },
    /// A compressed message that is not DEFLATE data (RFC 7692, 7.2.2).
    InvalidDeflate,
    /// A close frame with one byte of payload (5.5.1).
    CloseTooShort,
    /// A close code that must not be sent (7.4).
    InvalidCloseCode(u16),
    /// A close reason that is not UTF-8 (5.5.1).
    InvalidCloseReason {
        /// How many bytes of the reason are valid before the bad sequence.
        valid_up_to: u8,
    },
    /// A frame longer than [`Limits::max_frame_size`](super::Limits::max_frame_size).
    FrameTooLarge {
        /// The announced length.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// A message longer than [`Limits::max_message_size`](super::Limits::max_message_size).
    MessageTooLarge {
        /// What was received and announced so far.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// There is no memory for the message.
    OutOfMemory {
        /// How many bytes could not be had.
        len: usize,
    },
}

impl ProtocolError {
    /// The code for the close frame that answers the error (RFC 6455, 7.4.1): 1002, 1007 or 1009.
    pub fn close_code(&self) -> CloseCode {
        match self {
            ProtocolError::InvalidText { .. }
            | ProtocolError::InvalidDeflate
            | ProtocolError::InvalidCloseReason { .. } => CloseCode::INVALID_PAYLOAD,
            ProtocolError::FrameTooLarge { .. }
            | ProtocolError::MessageTooLarge { .. }
            | ProtocolError::OutOfMemory { .. } => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ProtocolError::FrameTooLarge { .. }
            | ProtocolError::MessageTooLarge { .. }
            | ProtocolError::OutOfMemory { .. } => Fault::Limit,
            _ => Fault::Peer,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::ReservedBits(bits) => write!(f, "reserved bits {bits:03b} are set"),
            ProtocolError::ReservedOpCode(number) => write!(f, "opcode {number} is reserved"),
            ProtocolError::FragmentedControl(opcode) => {
                write!(f, "{} frame without FIN", name(*opcode))
            }
            ProtocolError::ControlTooLong(opcode) => {
                write!(
                    f,
                    "{} frame over {MAX_CONTROL_PAYLOAD} bytes",
                    name(*opcode)
                )
            }
            ProtocolError::LengthNotMinimal(len) => {
                write!(f, "length {len} is not in its shortest form")
            }
            ProtocolError::LengthTopBit(len) => write!(f, "length {len:#x} has its top bit set"),
            ProtocolError::Unmasked => f.write_str("frame of a client is not masked"),
            ProtocolError::Masked => f.write_str("frame of a server is masked"),
            ProtocolError::UnexpectedContinuation => {
                f.write_str("continuation frame, but no message is under way")
            }
            ProtocolError::UnfinishedMessage(opcode) => {
                write!(
                    f,
                    "{} frame, but the last message is unfinished",
                    name(*opcode)
                )
            }
            ProtocolError::InvalidText { valid_up_to } => {
                write!(f, "text message is not UTF-8 after {valid_up_to} bytes")
            }
            ProtocolError::InvalidDeflate => f.write_str("compressed message is no DEFLATE data"),
            ProtocolError::CloseTooShort => f.write_str("close frame with half a code"),
            ProtocolError::InvalidCloseCode(code) => write!(f, "close code {code} is not allowed"),
            ProtocolError::InvalidCloseReason { valid_up_to } => {
                write!(f, "close reason is not UTF-8 after {valid_up_to} bytes")
            }
            ProtocolError::FrameTooLarge { len, max } => {
                write!(f, "frame of {len} bytes, the limit is {max}")
            }
            ProtocolError::MessageTooLarge { len, max } => {
                write!(f, "message of {len} bytes or more, the limit is {max}")
            }
            ProtocolError::OutOfMemory { len } => {
                write!(f, "no memory for {len} more bytes of a message")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Why a frame can't be sent as asked: the caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The payload of a ping or pong is longer than [`MAX_CONTROL_PAYLOAD`].
    ControlTooLong(usize),
    /// The close code is not for the wire ([`CloseCode::is_allowed_on_wire`]).
    InvalidCloseCode(CloseCode),
    /// The close reason is longer than [`MAX_CLOSE_REASON`] bytes.
    ReasonTooLong(usize),
    /// The payload of a close frame is not a code and a reason.
    InvalidClosePayload,
    /// A control frame that is not a whole one: these are never fragmented.
    FragmentedControl(OpCode),
    /// A continuation, but no message is under way.
    UnexpectedContinuation,
    /// Text or binary while the last message is unfinished.
    UnfinishedMessage(OpCode),
    /// The text is not UTF-8.
    InvalidText {
        /// So many bytes of it are, from its start.
        valid_up_to: u64,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::ControlTooLong(len) => {
                write!(
                    f,
                    "control payload of {len} bytes, the limit is {MAX_CONTROL_PAYLOAD}"
                )
            }
            EncodeError::InvalidCloseCode(code) => {
                write!(f, "close code {} must not be sent", code.as_u16())
            }
            EncodeError::ReasonTooLong(len) => {
                write!(
                    f,
                    "close reason of {len} bytes, the limit is {MAX_CLOSE_REASON}"
                )
            }
            EncodeError::InvalidClosePayload => {
                f.write_str("close payload is not a code and a reason")
            }
            EncodeError::FragmentedControl(opcode) => {
                write!(f, "{} frames are never fragmented", name(*opcode))
            }
            EncodeError::UnexpectedContinuation => {
                f.write_str("continuation frame, but no message is under way")
            }
            EncodeError::UnfinishedMessage(opcode) => {
                write!(
                    f,
                    "{} frame, but the last message is unfinished",
                    name(*opcode)
                )
            }
            EncodeError::InvalidText { valid_up_to } => {
                write!(f, "text is not UTF-8 after {valid_up_to} bytes")
            }
        }
    }
}

impl std::error::Error for EncodeError {}

fn name(opcode: OpCode) -> &'static str {
    match opcode {
        OpCode::Continuation => "continuation",
        OpCode::Text => "text",
        OpCode::Binary => "binary",
        OpCode::Close => "close",
        OpCode::Ping => "ping",
        OpCode::Pong => "pong",
    }
}
