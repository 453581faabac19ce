//! The shell for any CPU.

use super::cast::Cast;
use super::moves::{Items, Rows, Stores};
use super::{cast, four, items, lines};

/// # Safety
/// As [`super::copy_rows`].
pub(super) unsafe fn copy_rows(stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { lines::rows::<lines::Plain>(stores, dst, src, rows) }
}

/// # Safety
/// As [`super::copy_rows`].
pub(super) unsafe fn stream_rows(dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { four::rows::<lines::Plain>(dst, src, rows) }
}

/// # Safety
/// As [`super::stream_tiles`].
pub(super) unsafe fn stream_tiles(dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows) {
    // SAFETY: the caller vouches for the memory.
    unsafe { four::tiles::<lines::Plain>(dst, src, rows) }
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
    unsafe { cast::stream_converted::<lines::Plain>(cast, dst, src, rows) }
}
