//! Items with steps between them, one by one.
//!
//! The sizes that dtypes have are compiled each for itself, and so are the steps that occur often (backwards, every
//! second, third and fourth item), which the compiler turns into shuffles. Where one side runs along the rows and the
//! other across them, as in a transposition, small squares keep the lines of both in the first-level cache.

use super::moves::{Items, LINE};
use std::mem::MaybeUninit;

/// # Safety
/// As [`super::copy_items`].
#[inline(always)]
pub(super) unsafe fn items(dst: *mut u8, src: *const u8, items: &Items) {
    // SAFETY: the caller vouches for each item, and N is their size.
    unsafe {
        match items.size {
            1 => sized::<1>(dst, src, items),
            2 => sized::<2>(dst, src, items),
            3 => sized::<3>(dst, src, items),
            4 => sized::<4>(dst, src, items),
            8 => sized::<8>(dst, src, items),
            12 => sized::<12>(dst, src, items),
            16 => sized::<16>(dst, src, items),
            _ => any(dst, src, items),
        }
    }
}

/// # Safety
/// As [`items`], for items of N bytes.
#[inline(always)]
unsafe fn sized<const N: usize>(dst: *mut u8, src: *const u8, items: &Items) {
    if runs_across(items) {
        // SAFETY: as the caller says.
        return unsafe { squares::<N>(dst, src, items) };
    }
    for row in 0..items.rows as isize {
        let (dst, src) = (dst.wrapping_offset(row * items.dst_row), src.wrapping_offset(row * items.src_row));
        // SAFETY: the row is one of those that the caller vouches for.
        unsafe { line::<N>(dst, src, items) }
    }
}

/// Whether the source is denser along the rows' axis than along the items', and the destination is not.
fn runs_across(items: &Items) -> bool {
    items.rows > 1
        && items.src_row.unsigned_abs() < items.src_step.unsigned_abs()
        && items.dst_step.unsigned_abs() <= items.dst_row.unsigned_abs()
}

/// # Safety
/// As [`sized`], for the items of one row.
#[inline(always)]
unsafe fn line<const N: usize>(dst: *mut u8, src: *const u8, items: &Items) {
    let (size, count) = (N as isize, items.count);
    // SAFETY: the constants are the steps; the items are those that the caller vouches for.
    unsafe {
        if items.dst_step != size {
            return step::<N>(dst, src, count, items.dst_step, items.src_step);
        }
        match items.src_step {
            s if s == -size => step::<N>(dst, src, count, size, -size),
            s if s == 2 * size => step::<N>(dst, src, count, size, 2 * size),
            s if s == 3 * size => step::<N>(dst, src, count, size, 3 * size),
            s if s == 4 * size => step::<N>(dst, src, count, size, 4 * size),
            s => step::<N>(dst, src, count, size, s),
        }
    }
}

/// # Safety
/// As [`sized`], for `count` items with these steps.
#[inline(always)]
unsafe fn step<const N: usize>(dst: *mut u8, src: *const u8, count: usize, dst_step: isize, src_step: isize) {
    for i in 0..count as isize {
        // SAFETY: item i is one that the caller vouches for; bytes have no alignment.
        unsafe { dst.offset(i * dst_step).cast::<[u8; N]>().write(src.offset(i * src_step).cast::<[u8; N]>().read()) }
    }
}

/// Goes through the block in squares whose sides are a cache line on both sides.
///
/// # Safety
/// As [`sized`].
#[inline(always)]
unsafe fn squares<const N: usize>(dst: *mut u8, src: *const u8, items: &Items) {
    let side = LINE / N;
    for first_row in (0..items.rows).step_by(side) {
        for first in (0..items.count).step_by(side) {
            let (row, item) = (first_row as isize, first as isize);
            let dst = dst.wrapping_offset(row * items.dst_row + item * items.dst_step);
            let src = src.wrapping_offset(row * items.src_row + item * items.src_step);
            let (rows, count) = (side.min(items.rows - first_row), side.min(items.count - first));
            // SAFETY: the square lies inside the rows and items that the caller vouches for.
            unsafe { square::<N>(dst, src, &Items { rows, count, ..*items }) }
        }
    }
}

/// Copies a square of at most a line each way. Its lines are collected side by side first: where they are, with a
/// power of two between them, they would drive each other out of the cache.
///
/// # Safety
/// As [`sized`], for at most `LINE / N` rows and as many items.
#[inline(always)]
unsafe fn square<const N: usize>(dst: *mut u8, src: *const u8, items: &Items) {
    let mut lines = [MaybeUninit::<[u8; LINE]>::uninit(); LINE];
    let lines: *mut u8 = lines.as_mut_ptr().cast();
    let size = N as isize;
    for i in 0..items.count {
        let (line, src) = (lines.wrapping_add(i * LINE), src.wrapping_offset(i as isize * items.src_step));
        // SAFETY: a line has room for the rows; the items are those that the caller vouches for.
        unsafe {
            if items.src_row == size {
                step::<N>(line, src, items.rows, size, size);
            } else {
                step::<N>(line, src, items.rows, size, items.src_row);
            }
        }
    }
    for row in 0..items.rows {
        let (dst, src) = (dst.wrapping_offset(row as isize * items.dst_row), lines.wrapping_add(row * N));
        // SAFETY: every line that is read was filled above; the items are those that the caller vouches for.
        unsafe {
            if items.dst_step == size {
                step::<N>(dst, src, items.count, size, LINE as isize);
            } else {
                step::<N>(dst, src, items.count, items.dst_step, LINE as isize);
            }
        }
    }
}

/// # Safety
/// As [`items`].
#[inline(always)]
unsafe fn any(dst: *mut u8, src: *const u8, items: &Items) {
    for row in 0..items.rows as isize {
        let (dst, src) = (dst.wrapping_offset(row * items.dst_row), src.wrapping_offset(row * items.src_row));
        for i in 0..items.count as isize {
            let (dst, src) = (dst.wrapping_offset(i * items.dst_step), src.wrapping_offset(i * items.src_step));
            // SAFETY: the item is one of those that the caller vouches for.
            unsafe { std::ptr::copy_nonoverlapping(src, dst, items.size) }
        }
    }
}
