//! Rows past the cache, four at a time.
//!
//! A core can have more lines under way than one stream asks for: within a page the CPU looks ahead by itself, but not
//! beyond. So lines are read from four places in turn, in different pages where that goes, and those that come next at each
//! place are asked for. On an Intel Emerald Rapids a copy takes a tenth to a sixth less time.

use super::lines::{self, Vector, all_lines, each_row};
use super::moves::{LINE, PAGE, Rows, Stores};

/// So many bytes of a place are copied before it is the next one's turn.
const TURN: usize = 4 * LINE;
/// How far ahead the lines of short rows are asked for.
const AHEAD: usize = PAGE / 2;

/// # Safety
/// As [`super::copy_rows`].
#[inline(always)]
pub(super) unsafe fn rows<V: Vector>(dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: the pages of a row, and what is left of it, are the row.
    unsafe {
        if !all_lines(dst, rows) {
            return lines::rows::<V>(Stores::Stream, dst, src, rows);
        }
        if rows.run < 4 * PAGE {
            return side_by_side::<V>(dst, src, rows);
        }
        let pages = Rows { rows: rows.run / PAGE, run: PAGE, dst_row: PAGE as isize, src_row: PAGE as isize };
        let whole = pages.rows * PAGE;
        let rest = Rows { rows: 1, run: rows.run - whole, dst_row: 0, src_row: 0 };
        each_row(dst, src, rows, |_, dst, src| {
            side_by_side::<V>(dst, src, &pages);
            lines::rows::<V>(Stores::Stream, dst.wrapping_add(whole), src.wrapping_add(whole), &rest);
        });
    }
}

/// # Safety
/// As [`super::copy_rows`], for rows of whole lines.
#[inline(always)]
unsafe fn side_by_side<V: Vector>(dst: *mut u8, src: *const u8, rows: &Rows) {
    let Some(Paths { apart, each, ahead }) = Paths::of(rows) else {
        // SAFETY: as the caller says.
        return unsafe { lines::rows::<V>(Stores::Stream, dst, src, rows) };
    };
    let dst_at = |row: usize| dst.wrapping_offset(row as isize * rows.dst_row);
    let src_at = |row: usize| src.wrapping_offset(row as isize * rows.src_row);
    let done = 4 * each.rows;
    let rest = Rows { rows: rows.rows - done, ..*rows };
    // SAFETY: the rows of the four paths are the first rows, and the rest is left.
    unsafe {
        four::<V>(
            [0, 1, 2, 3].map(|path| dst_at(path * apart)),
            [0, 1, 2, 3].map(|path| src_at(path * apart)),
            &each,
            ahead,
        );
        lines::rows::<V>(Stores::Stream, dst_at(done), src_at(done), &rest);
    }
}

/// Four ways through the rows of a block.
struct Paths {
    /// How many rows lie between the first ones of two paths.
    apart: usize,
    /// The rows of a path.
    each: Rows,
    /// From a line to the one that is asked for.
    ahead: isize,
}

impl Paths {
    /// None for so few bytes that the paths would be in the same pages.
    #[inline(always)]
    fn of(rows: &Rows) -> Option<Self> {
        let count = rows.rows / 4;
        if count == 0 || count * rows.run < PAGE {
            return None;
        }
        if rows.run < PAGE {
            return Some(Self { apart: count, each: Rows { rows: count, ..*rows }, ahead: ahead(rows) });
        }
        let (dst_row, src_row) = (rows.dst_row.wrapping_mul(4), rows.src_row.wrapping_mul(4));
        Some(Self { apart: 1, each: Rows { rows: count, dst_row, src_row, ..*rows }, ahead: src_row })
    }
}

/// From a line of short rows to the one that is asked for.
#[inline(always)]
fn ahead(rows: &Rows) -> isize {
    if rows.src_row == rows.run as isize {
        return AHEAD as isize;
    }
    ((AHEAD / rows.run.max(1)).max(1) as isize).wrapping_mul(rows.src_row)
}

/// # Safety
/// As [`super::stream_tiles`].
#[inline(always)]
pub(super) unsafe fn tiles<V: Vector>(dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows) {
    // SAFETY: as the caller says.
    unsafe {
        if dst.iter().all(|&dst| all_lines(dst, rows)) {
            return four::<V>(dst, src, rows, ahead(rows));
        }
        dst.into_iter().zip(src).for_each(|(dst, src)| lines::rows::<V>(Stores::Stream, dst, src, rows));
    }
}

/// # Safety
/// As [`super::copy_rows`], for each of the four, whose rows are whole lines.
#[inline(always)]
unsafe fn four<V: Vector>(dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows, ahead: isize) {
    for row in 0..rows.rows as isize {
        let (dst_row, src_row) = (row * rows.dst_row, row * rows.src_row);
        for first in (0..rows.run).step_by(TURN) {
            let len = TURN.min(rows.run - first);
            for path in 0..4 {
                let dst = dst[path].wrapping_offset(dst_row).wrapping_add(first);
                let src = src[path].wrapping_offset(src_row).wrapping_add(first);
                // SAFETY: so many bytes of the row are left, which are whole lines.
                unsafe { turn::<V>(dst, src, len, ahead) };
            }
        }
    }
}

/// # Safety
/// `len` bytes, which are whole lines of `dst`, must be readable and writable, and the two must not overlap.
#[inline(always)]
unsafe fn turn<V: Vector>(dst: *mut u8, src: *const u8, len: usize, ahead: isize) {
    for line in (0..len).step_by(LINE) {
        V::foresee(src.wrapping_add(line).wrapping_offset(ahead));
        for at in (line..line + LINE).step_by(V::BYTES) {
            // SAFETY: every offset plus a vector's bytes is at most `len`, and a multiple of those bytes.
            unsafe { V::load(src.add(at)).stream(dst.add(at)) };
        }
    }
}
