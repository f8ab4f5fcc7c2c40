//! Masking (RFC 6455, 5.3).

use super::simd;

/// Masks or unmasks `buf` in place (the operation is its own inverse). `offset` is the position of
/// `buf[0]` in the frame's payload, so that a payload may be treated in pieces.
#[inline]
pub fn apply_mask(buf: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotated(key, offset);
    if buf.len() >= simd::WIDE_MIN {
        simd::mask_in_place(buf, key);
    } else {
        mask_short(buf, key);
    }
}

/// Appends `source` to `target` as [`apply_mask`] at offset 0 would leave it, a long one in one
/// pass. There is room for it.
#[inline(always)]
pub(super) fn unmask_into(target: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    if source.len() >= simd::WIDE_MIN {
        simd::unmask_into(target, source, key);
    } else {
        let start = target.len();
        target.extend_from_slice(source);
        mask_short(&mut target[start..], key);
    }
}

#[inline(always)]
fn mask_short(buf: &mut [u8], key: [u8; 4]) {
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

/// The key as it applies from `offset` on.
#[inline]
pub(super) fn rotated(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}
