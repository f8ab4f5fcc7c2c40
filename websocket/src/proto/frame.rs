//! The frame header (RFC 6455, 5.2).

use super::ProtocolError;

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a control frame (RFC 6455, 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The reserved bit that permessage-deflate uses, as [`FrameHeader::rsv`] has it.
pub(super) const RSV1: u8 = 4;

/// What a frame is (RFC 6455, 5.2 and 11.8). The reserved opcodes have no variant: they are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// The next fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The close frame.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or is a one-way heartbeat.
    Pong = 10,
}

impl OpCode {
    /// The opcode with this number; `None` for the reserved ones (3-7, 11-15) and for numbers over
    /// 15.
    #[inline]
    pub fn from_u8(number: u8) -> Option<OpCode> {
        Some(match number {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            8 => OpCode::Close,
            9 => OpCode::Ping,
            10 => OpCode::Pong,
            _ => return None,
        })
    }

    /// True for close, ping and pong (RFC 6455, 5.5).
    #[inline]
    pub fn is_control(self) -> bool {
        self as u8 & 0b1000 != 0
    }
}

/// A parsed frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// FIN: this is the last fragment of its message.
    pub fin: bool,
    /// The three reserved bits as on the wire: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub rsv: u8,
    /// What the frame is.
    pub opcode: OpCode,
    /// The masking key; `None` for an unmasked frame.
    pub mask: Option<[u8; 4]>,
    /// How many bytes of payload follow, at most 2^63 - 1.
    pub payload_len: u64,
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`; returns it with its own length, or `None` when
    /// more bytes are needed (never for [`MAX_HEADER`] bytes or more).
    ///
    /// The reserved bits and the presence of a mask are reported, not judged: what they should be
    /// depends on the connection.
    ///
    /// # Errors
    ///
    /// At the earliest byte that proves it: a reserved opcode or a fragmented control frame at the
    /// first byte, a control frame longer than [`MAX_CONTROL_PAYLOAD`] at the second, a length that
    /// is not in its shortest form or has its top bit set as soon as the length is there.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let start = FirstByte::parse(first)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let short = second & 0x7f;
        if start.opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(ProtocolError::ControlTooLong(start.opcode));
        }
        let (payload_len, mut end) = match short {
            126 => {
                let Some(wide) = array_at(bytes, 2) else {
                    return Ok(None);
                };
                let len = u64::from(u16::from_be_bytes(wide));
                // 5.2: "the minimal number of bytes MUST be used to encode the length".
                if len < 126 {
                    return Err(ProtocolError::LengthNotMinimal(len));
                }
                (len, 4)
            }
            127 => {
                let Some(wide) = array_at(bytes, 2) else {
                    return Ok(None);
                };
                let len = u64::from_be_bytes(wide);
                // 5.2: "the most significant bit MUST be 0".
                if len >> 63 != 0 {
                    return Err(ProtocolError::LengthTopBit(len));
                }
                if len <= u64::from(u16::MAX) {
                    return Err(ProtocolError::LengthNotMinimal(len));
                }
                (len, 10)
            }
            _ => (u64::from(short), 2),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            let Some(key) = array_at(bytes, end) else {
                return Ok(None);
            };
            mask = Some(key);
            end += 4;
        }
        let header = FrameHeader {
            fin: start.fin,
            rsv: start.rsv,
            opcode: start.opcode,
            mask,
            payload_len,
        };
        Ok(Some((header, end)))
    }

    /// The header as bytes, and how many of the [`MAX_HEADER`] are used. Lengths take their
    /// shortest form.
    #[inline]
    pub fn encode(&self) -> ([u8; MAX_HEADER], usize) {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = u8::from(self.fin) << 7 | (self.rsv & 0b111) << 4 | self.opcode as u8;
        let mut end = match self.payload_len {
            len @ 0..=125 => {
                bytes[1] = len as u8;
                2
            }
            len @ 126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                4
            }
            len => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&len.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[1] |= 0x80;
            bytes[end..end + 4].copy_from_slice(&key);
            end += 4;
        }
        (bytes, end)
    }
}

/// What the first byte of a header says.
pub(super) struct FirstByte {
    pub(super) fin: bool,
    pub(super) rsv: u8,
    pub(super) opcode: OpCode,
}

impl FirstByte {
    #[inline(always)]
    pub(super) fn parse(byte: u8) -> Result<FirstByte, ProtocolError> {
        let fin = byte & 0x80 != 0;
        let Some(opcode) = OpCode::from_u8(byte & 0x0f) else {
            return Err(ProtocolError::ReservedOpCode(byte & 0x0f));
        };
        // 5.5: "All control frames … MUST NOT be fragmented."
        if !fin && opcode.is_control() {
            return Err(ProtocolError::FragmentedControl(opcode));
        }
        Ok(FirstByte {
            fin,
            rsv: byte >> 4 & 0b111,
            opcode,
        })
    }
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
