//! Masking with the widest vectors that the processor has, and asking it for memory ahead: the one
//! place of this package with `unsafe`.
//!
//! The loops are plain Rust; what is unsafe is calling them compiled for AVX2, and saying how much
//! of a vector has been written. `benches/protocol.rs` shows the need: for 16 KiB, unmasking into a
//! new vector takes half the time of unmasking in place and copying, no more than a bare copy. The
//! plain version in `mask` is the tests' judge.
#![allow(unsafe_code, reason = "a benchmark proves the need; see above")]

use std::mem::MaybeUninit;

/// From this length on wide vectors are worth the call.
pub(super) const WIDE_MIN: usize = 256;

/// The key, repeated over a vector register.
type Wide = [u8; 32];

fn widen(key: [u8; 4]) -> Wide {
    let mut wide = [0; 32];
    for (byte, key) in wide.iter_mut().zip(key.iter().cycle()) {
        *byte = *key;
    }
    wide
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
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { in_place_avx2(bytes, widen(key)) };
        return;
    }
    in_place(bytes, widen(key));
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
    let done = is_x86_feature_detected!("avx2") && {
        // SAFETY: the processor has AVX2.
        unsafe { copy_avx2(room, source, widen(key)) };
        true
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = false;
    if !done {
        copy(room, source, widen(key));
    }
    // SAFETY: `copy` has written every one of the `source.len()` bytes behind the old length, and
    // the slice above proves that the capacity holds them.
    unsafe { target.set_len(target.len() + source.len()) };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn in_place_avx2(bytes: &mut [u8], key: Wide) {
    in_place(bytes, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn copy_avx2(target: &mut [MaybeUninit<u8>], source: &[u8], key: Wide) {
    copy(target, source, key);
}

#[inline(always)]
fn in_place(bytes: &mut [u8], key: Wide) {
    let (blocks, tail) = bytes.as_chunks_mut::<32>();
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in tail.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Writes all of `target`, which is as long as `source`.
#[inline(always)]
fn copy(target: &mut [MaybeUninit<u8>], source: &[u8], key: Wide) {
    assert_eq!(target.len(), source.len());
    let (blocks, tail) = source.as_chunks::<32>();
    let (target_blocks, target_tail) = target.as_chunks_mut::<32>();
    for (target, source) in target_blocks.iter_mut().zip(blocks) {
        for i in 0..32 {
            target[i].write(source[i] ^ key[i]);
        }
    }
    for (i, (target, source)) in target_tail.iter_mut().zip(tail).enumerate() {
        target.write(source ^ key[i]);
    }
}
