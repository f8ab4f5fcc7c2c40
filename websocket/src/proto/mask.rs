//! Masking (RFC 6455, 5.3).

use super::simd;

/// From this length on wide vectors are worth the call.
const WIDE_MIN: usize = 256;

/// Masks or unmasks `buf` in place (the operation is its own inverse). `offset` is the position of
/// `buf[0]` in the frame's payload, so that a payload may be treated in pieces.
#[inline]
pub fn apply_mask(buf: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotated(key, offset);
    if buf.len() >= WIDE_MIN {
        simd::mask_in_place(buf, key);
        return;
    }
    let [a, b, c, d] = key;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = buf.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// Appends `source` to `target` as [`apply_mask`] at offset 0 would leave it, in one pass. There is room for it.
#[inline]
pub(super) fn unmask_into(target: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    simd::unmask_into(target, source, key);
}

/// The key as it applies from `offset` on.
#[inline]
pub(super) fn rotated(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}
