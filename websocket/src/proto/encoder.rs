//! Frames to bytes.

use super::{
    CloseFrame, EncodeError, FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode, apply_mask,
    frame::RSV1,
};

/// Appends a frame to `out`. A client passes a fresh, unpredictable `mask` for each frame (RFC
/// 6455, 5.3), a server `None`.
///
/// What is legal in a sequence of frames is the caller's part: text that is UTF-8, control frames
/// that are short and not fragmented (see [`ping`], [`pong`], [`close`]).
#[inline]
pub fn encode_frame(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: OpCode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    debug_assert!(
        !opcode.is_control() || fin && payload.len() <= MAX_CONTROL_PAYLOAD,
        "control frames are whole and short (RFC 6455, 5.5)"
    );
    let len = payload.len();
    out.reserve(MAX_HEADER + len);
    match mask {
        // Most frames by far: the header is put with copies of a fixed size, which take no call.
        None if len < 126 => out.extend_from_slice(&[u8::from(fin) << 7 | opcode as u8, len as u8]),
        _ => {
            let (header, header_len) = frame_header(fin, opcode, len, mask);
            out.extend_from_slice(&header[..header_len]);
        }
    }
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// The header of a frame with `len` bytes of payload, for payloads that are sent from where they
/// lie: the bytes, and how many of them are used.
#[inline]
pub fn frame_header(
    fin: bool,
    opcode: OpCode,
    len: usize,
    mask: Option<[u8; 4]>,
) -> ([u8; MAX_HEADER], usize) {
    FrameHeader {
        fin,
        rsv: 0,
        opcode,
        mask,
        payload_len: len as u64,
    }
    .encode()
}

/// As [`encode_frame`], with the payload of a message that permessage-deflate has compressed: the
/// first frame of one, with RSV1 set (RFC 7692, 6).
pub fn encode_compressed_frame(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: OpCode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let start = out.len();
    encode_frame(out, fin, opcode, payload, mask);
    out[start] |= RSV1 << 4;
}

/// As [`frame_header`], with RSV1 set: the first frame of a compressed message (RFC 7692, 6).
pub fn compressed_frame_header(
    fin: bool,
    opcode: OpCode,
    len: usize,
    mask: Option<[u8; 4]>,
) -> ([u8; MAX_HEADER], usize) {
    let (mut header, used) = frame_header(fin, opcode, len, mask);
    header[0] |= RSV1 << 4;
    (header, used)
}

/// Appends a ping to `out`.
///
/// # Errors
///
/// The payload is longer than [`MAX_CONTROL_PAYLOAD`]; `out` is then unchanged.
pub fn ping(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) -> Result<(), EncodeError> {
    control(out, OpCode::Ping, payload, mask)
}

/// Appends a pong to `out`. An answer to a ping carries the ping's payload (RFC 6455, 5.5.3).
///
/// # Errors
///
/// The payload is longer than [`MAX_CONTROL_PAYLOAD`]; `out` is then unchanged.
pub fn pong(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) -> Result<(), EncodeError> {
    control(out, OpCode::Pong, payload, mask)
}

/// Appends a close frame to `out`; `None` has no code.
///
/// # Errors
///
/// As [`CloseFrame::encode`]; `out` is then unchanged.
pub fn close(
    out: &mut Vec<u8>,
    frame: Option<&CloseFrame>,
    mask: Option<[u8; 4]>,
) -> Result<(), EncodeError> {
    let payload = frame.map_or(Ok(Vec::new()), CloseFrame::encode)?;
    control(out, OpCode::Close, &payload, mask)
}

fn control(
    out: &mut Vec<u8>,
    opcode: OpCode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> Result<(), EncodeError> {
    if payload.len() > MAX_CONTROL_PAYLOAD {
        return Err(EncodeError::ControlTooLong(payload.len()));
    }
    encode_frame(out, true, opcode, payload, mask);
    Ok(())
}
