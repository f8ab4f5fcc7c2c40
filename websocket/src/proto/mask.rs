//! Masking (RFC 6455, 5.3).

use super::simd;

/// Masks or unmasks `buf` in place (the operation is its own inverse). `offset` is the position of
/// `buf[0]` in the frame's payload, so that a payload may be treated in pieces.
#[inline]
pub fn apply_mask(buf: &mut [u8], key: [u8; 4], offset: usize) {
    simd::mask_in_place(buf, rotated(key, offset));
}

/// Appends `source` to `target` as [`apply_mask`] at offset 0 would leave it, in one pass. There is
/// room for it.
#[inline(always)]
pub(super) fn unmask_into(target: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    simd::unmask_into(target, source, key);
}

/// The key as it applies from `offset` on.
#[inline]
pub(super) fn rotated(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}
