//! The shell for 64-bit ARM, where NEON always is.

use super::cast::Cast;
use super::lines::Vector;
use super::moves::{Items, Rows, Stores};
use super::{cast, four, items, lines};
use std::arch::aarch64::{uint8x16_t, vld1q_u8, vst1q_u8};
use std::arch::asm;

/// Two registers, because STNP stores a pair.
#[derive(Clone, Copy)]
struct Pair(uint8x16_t, uint8x16_t);

impl Vector for Pair {
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller says that the bytes are readable; NEON is part of the base architecture.
        unsafe { Self(vld1q_u8(from), vld1q_u8(from.add(16))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller says that the bytes are writable.
        unsafe {
            vst1q_u8(to, self.0);
            vst1q_u8(to.add(16), self.1);
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut u8) {
        // SAFETY: the instruction writes just these 32 bytes.
        unsafe {
            asm!(
                "stnp {first:q}, {second:q}, [{to}]",
                to = in(reg) to,
                first = in(vreg) self.0,
                second = in(vreg) self.1,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    unsafe fn text(dst: *mut u8, src: *const u8, len: usize) {
        // SAFETY: as the caller says.
        unsafe { std::ptr::copy_nonoverlapping(src, dst, len) }
    }

    #[inline(always)]
    fn prefetch(line: *const u8) {
        // SAFETY: a prefetch of any address does nothing that a program could see.
        unsafe {
            asm!("prfm pldl1strm, [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn foresee(line: *const u8) {
        // SAFETY: as above.
        unsafe {
            asm!("prfm pldl2strm, [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn claim(line: *const u8) {
        // SAFETY: as above.
        unsafe {
            asm!("prfm pstl1keep, [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
        }
    }
}

/// # Safety
/// As [`super::copy_rows`].
pub(super) unsafe fn copy_rows(stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { lines::rows::<Pair>(stores, dst, src, rows) }
}

/// # Safety
/// As [`super::copy_rows`].
pub(super) unsafe fn stream_rows(dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { four::rows::<Pair>(dst, src, rows) }
}

/// # Safety
/// As [`super::stream_tiles`].
pub(super) unsafe fn stream_tiles(dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { four::tiles::<Pair>(dst, src, rows) }
}

/// # Safety
/// As [`super::copy_items`].
pub(super) unsafe fn copy_items(dst: *mut u8, src: *const u8, items: &Items) {
    // SAFETY: the caller vouches for the memory.
    unsafe { items::items(dst, src, items) }
}

/// # Safety
/// As [`super::convert`].
pub(super) unsafe fn convert(cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
    // SAFETY: the caller vouches for the memory.
    unsafe { cast::convert(cast, dst, src, count) }
}

/// # Safety
/// As [`super::stream_converted`].
pub(super) unsafe fn stream_converted(cast: Cast, dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { cast::stream_converted::<Pair>(cast, dst, src, rows) }
}
