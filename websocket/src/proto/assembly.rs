//! The data message under assembly, over frames and between them, and how its memory grows.

use super::{Message, OpCode, ProtocolError, Utf8Error, Utf8Validator};

/// Up to this size a message is allocated in one step; larger ones start here. Small enough that a
/// peer gains little by announcing it and sending one byte, large enough that usual messages never
/// move.
pub(super) const FIRST_RESERVATION: usize = 16 << 10;

/// A message of which not all has arrived.
#[derive(Debug, Default)]
pub(super) enum Assembly {
    /// None is under way.
    #[default]
    None,
    Text {
        /// What is proven so far; an unfinished character waits in the validator.
        text: String,
        utf8: Utf8Validator,
    },
    Binary(Vec<u8>),
    /// Bytes exactly as they came, for those who want the frames: a character may be unfinished at
    /// the end.
    Raw {
        bytes: Vec<u8>,
        /// For text.
        utf8: Option<Utf8Validator>,
    },
}

/// What is known of the bytes to come, for a good guess at the capacity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// How many bytes of the frame have not been appended.
    pub(super) frame: usize,
    /// The frame is the message's last.
    pub(super) last: bool,
    /// The longest message that the limits allow.
    pub(super) max: usize,
}

impl Assembly {
    /// An empty message of this kind.
    pub(super) fn begin(opcode: OpCode) -> Assembly {
        match opcode {
            OpCode::Text => Assembly::Text {
                text: String::new(),
                utf8: Utf8Validator::new(),
            },
            _ => Assembly::Binary(Vec::new()),
        }
    }

    #[inline]
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Assembly::None)
    }

    /// How many bytes have arrived.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Assembly::None => 0,
            Assembly::Text { text, utf8 } => text.len() + utf8.carried(),
            Assembly::Binary(bytes) | Assembly::Raw { bytes, .. } => bytes.len(),
        }
    }

    /// Adds unmasked payload; `expected` counts it in.
    pub(super) fn append(
        &mut self,
        payload: &[u8],
        expected: Expected,
    ) -> Result<(), ProtocolError> {
        match self {
            Assembly::None => unreachable!("a message begins with its first frame"),
            Assembly::Text { text, utf8 } => {
                let len = text.len() + utf8.carried();
                // The carried bytes are not in the string yet, but will be.
                let growth = growth(len, text.capacity(), payload.len(), expected) + utf8.carried();
                text.try_reserve_exact(growth)
                    .map_err(|_| ProtocolError::OutOfMemory { len: growth })?;
                let (first, rest) = utf8.split(payload).map_err(invalid_text)?;
                text.extend(first);
                text.push_str(rest);
            }
            Assembly::Raw {
                bytes,
                utf8: Some(utf8),
            } => {
                utf8.push(payload).map_err(invalid_text)?;
                append(bytes, payload, expected)?;
            }
            Assembly::Binary(bytes) | Assembly::Raw { bytes, .. } => {
                append(bytes, payload, expected)?;
            }
        }
        Ok(())
    }

    /// Adds decompressed payload, of a message of at most `max` bytes.
    pub(super) fn append_inflated(
        &mut self,
        piece: &[u8],
        max: usize,
    ) -> Result<(), ProtocolError> {
        let room = max.saturating_sub(self.len());
        if piece.len() > room {
            // What would have been taken by itself may be bad already.
            self.append_inflated(&piece[..room], max)?;
            // How much more it would have been nobody knows.
            let len = max as u64 + 1;
            return Err(ProtocolError::MessageTooLarge { len, max });
        }
        // How much is to come is not known.
        let expected = Expected {
            frame: piece.len(),
            last: false,
            max,
        };
        self.append(piece, expected)
    }

    /// The buffer of a binary message, with room for `room` more bytes.
    pub(super) fn buffer(&mut self, room: usize, expected: Expected) -> Option<&mut Vec<u8>> {
        let Assembly::Binary(bytes) = self else {
            return None;
        };
        let growth = growth(bytes.len(), bytes.capacity(), room, expected);
        bytes.try_reserve_exact(growth).ok()?;
        Some(bytes)
    }

    /// The message is complete.
    pub(super) fn finish(self) -> Result<Message, ProtocolError> {
        match self {
            Assembly::None => unreachable!("a message begins with its first frame"),
            Assembly::Text { text, mut utf8 } => {
                utf8.finish().map_err(invalid_text)?;
                Ok(Message::Text(text))
            }
            Assembly::Binary(bytes) => Ok(Message::Binary(bytes)),
            Assembly::Raw { .. } => unreachable!("what is raw is given in parts"),
        }
    }

    /// The same for those who want the frames.
    pub(super) fn into_raw(self) -> Assembly {
        match self {
            Assembly::Text { text, utf8 } => {
                let mut bytes = text.into_bytes();
                bytes.extend_from_slice(utf8.unfinished());
                Assembly::Raw {
                    bytes,
                    utf8: Some(utf8),
                }
            }
            Assembly::Binary(bytes) => Assembly::Raw { bytes, utf8: None },
            same => same,
        }
    }

    /// The same for those who don't.
    pub(super) fn into_message(self) -> Assembly {
        match self {
            Assembly::Raw {
                mut bytes,
                utf8: Some(utf8),
            } => {
                bytes.truncate(bytes.len().saturating_sub(utf8.carried()));
                Assembly::Text {
                    // The validator has proven it.
                    text: String::from_utf8(bytes).unwrap_or_default(),
                    utf8,
                }
            }
            Assembly::Raw { bytes, utf8: None } => Assembly::Binary(bytes),
            same => same,
        }
    }

    /// The opcode of the message's first frame.
    pub(super) fn opcode(&self) -> OpCode {
        match self {
            Assembly::Text { .. } | Assembly::Raw { utf8: Some(_), .. } => OpCode::Text,
            _ => OpCode::Binary,
        }
    }

    /// Whether anything has been gathered that can be given.
    pub(super) fn has_part(&self) -> bool {
        match self {
            Assembly::None => false,
            Assembly::Text { text, .. } => !text.is_empty(),
            Assembly::Binary(bytes) | Assembly::Raw { bytes, .. } => !bytes.is_empty(),
        }
    }

    /// Takes out what has been gathered.
    pub(super) fn take_part(&mut self) -> Vec<u8> {
        match self {
            Assembly::None => Vec::new(),
            Assembly::Text { text, .. } => std::mem::take(text).into_bytes(),
            Assembly::Binary(bytes) | Assembly::Raw { bytes, .. } => std::mem::take(bytes),
        }
    }

    /// Whether the message may end here.
    pub(super) fn check_end(&mut self) -> Result<(), ProtocolError> {
        match self {
            Assembly::Text { utf8, .. }
            | Assembly::Raw {
                utf8: Some(utf8), ..
            } => utf8.finish().map_err(invalid_text),
            _ => Ok(()),
        }
    }
}

fn append(bytes: &mut Vec<u8>, payload: &[u8], expected: Expected) -> Result<(), ProtocolError> {
    let growth = growth(bytes.len(), bytes.capacity(), payload.len(), expected);
    bytes
        .try_reserve_exact(growth)
        .map_err(|_| ProtocolError::OutOfMemory { len: growth })?;
    bytes.extend_from_slice(payload);
    Ok(())
}

/// By how much to grow a message beyond its length before `incoming` bytes are added: nothing if
/// there is room, else to twice what there is, but to no more than the message can need.
fn growth(len: usize, capacity: usize, incoming: usize, expected: Expected) -> usize {
    if len + incoming <= capacity {
        return 0;
    }
    let announced = len + expected.frame;
    let most = if expected.last {
        announced
    } else {
        expected.max
    };
    // The first step goes to the frame's end at once if that is near.
    let step = capacity
        .saturating_mul(2)
        .max(announced.min(FIRST_RESERVATION));
    step.min(most).max(len + incoming) - len
}

fn invalid_text(error: Utf8Error) -> ProtocolError {
    ProtocolError::InvalidText {
        valid_up_to: error.valid_up_to,
    }
}
