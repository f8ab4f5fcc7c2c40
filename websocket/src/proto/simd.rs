//! Masking with the widest vectors that the processor has, and asking it for memory ahead: the one
//! place of this package with `unsafe`.
//!
//! The loops are plain Rust; what is unsafe is calling them compiled for AVX2, and saying how much
//! of a vector has been written. `benches/protocol.rs` shows the need: for 16 KiB, unmasking into a
//! new vector takes half the time of unmasking in place and copying, no more than a bare copy; and
//! for 64 B the call of a copy takes as long as the copy.
#![allow(unsafe_code, reason = "a benchmark proves the need; see above")]

use std::mem::MaybeUninit;

/// From this length on wide vectors are worth the call.
const WIDE_MIN: usize = 256;

/// The key, repeated over a word.
#[inline(always)]
fn repeated(key: [u8; 4]) -> u64 {
    let key = u64::from(u32::from_ne_bytes(key));
    key << 32 | key
}

/// Has the processor fetch the `lines` lines of memory from `place` on. Nothing is read: the place may
/// be anywhere.
#[cfg(feature = "io")]
#[inline(always)]
pub(crate) fn prefetch<T>(place: *const T, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = place.cast::<[i8; 64]>().wrapping_add(line).cast();
        // SAFETY: a prefetch of any address whatsoever has no effect that can be seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, lines);
}

/// Masks or unmasks in place; `key` applies from the first byte on.
#[inline]
pub(super) fn mask_in_place(bytes: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= WIDE_MIN && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { in_place_avx2(bytes, repeated(key)) };
        return;
    }
    in_place(bytes, repeated(key));
}

/// Appends `source`, unmasked by `key`, to `target`, which has room for it.
///
/// # Panics
///
/// If it has not.
#[inline(always)]
pub(super) fn unmask_into(target: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    let room = &mut target.spare_capacity_mut()[..source.len()];
    #[cfg(target_arch = "x86_64")]
    let done = source.len() >= WIDE_MIN && is_x86_feature_detected!("avx2") && {
        // SAFETY: the processor has AVX2.
        unsafe { copy_avx2(room, source, repeated(key)) };
        true
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = false;
    if !done {
        copy(room, source, repeated(key));
    }
    // SAFETY: `copy` has written every one of the `source.len()` bytes behind the old length, and
    // the slice above proves that the capacity holds them.
    unsafe { target.set_len(target.len() + source.len()) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn in_place_avx2(bytes: &mut [u8], key: u64) {
    in_place(bytes, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn copy_avx2(target: &mut [MaybeUninit<u8>], source: &[u8], key: u64) {
    copy(target, source, key);
}

#[inline(always)]
fn in_place(bytes: &mut [u8], key: u64) {
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// Writes all of `target`, which is as long as `source`.
#[inline(always)]
fn copy(target: &mut [MaybeUninit<u8>], source: &[u8], key: u64) {
    assert_eq!(target.len(), source.len());
    let (words, tail) = source.as_chunks::<8>();
    let (target_words, target_tail) = target.as_chunks_mut::<8>();
    for (target, word) in target_words.iter_mut().zip(words) {
        target.write_copy_of_slice(&(u64::from_ne_bytes(*word) ^ key).to_ne_bytes());
    }
    for ((target, byte), key) in target_tail.iter_mut().zip(tail).zip(key.to_ne_bytes()) {
        target.write(byte ^ key);
    }
}
