//! Columns of a plane whose rows are whole pages apart.
//!
//! All numbers of such a column fall on the same few lines of the cache, and on the same few places of the table of pages
//! that the CPU remembers. So neighbouring strips are copied, row by row, to a stage, whose rows are an odd number of lines
//! apart. They are transformed there and copied back, while the next ones are brought from the same pages.

use super::lanes::Lanes;
use super::problem::Plane;
use crate::kernel::LINE;
use crate::os::cpu::second_cache_bytes;
use std::ops::Range;

/// The stage is this part of the second-level cache, if so much is as wide as one strip.
const PART_OF_CACHE: usize = 2;
/// More strips at once gain nothing.
const MOST_STRIPS: usize = 4;
/// So many rows ahead are asked for.
const ROWS_AHEAD: usize = 8;

/// A stage for some columns of a plane of complex numbers, which lie side by side in its rows.
pub(super) struct Stage {
    plane: Plane,
    at: *mut u8,
    /// Bytes from row to row.
    pitch: usize,
}

/// How many strips, of so many bytes a row, are on the stage at once.
pub(super) fn strips_at_once(rows: usize, strip_bytes: usize) -> usize {
    (second_cache_bytes() / PART_OF_CACHE / (rows * strip_bytes)).clamp(1, MOST_STRIPS)
}

/// Bytes of a stage with rows of so many bytes.
pub(super) fn stage_bytes(rows: usize, row_bytes: usize) -> usize {
    rows * pitch(row_bytes)
}

fn pitch(row_bytes: usize) -> usize {
    (row_bytes.div_ceil(LINE) | 1) * LINE
}

impl Stage {
    /// A stage at `at`, which has room for [`stage_bytes`].
    pub(super) fn new(plane: Plane, at: *mut u8, row_bytes: usize) -> Self {
        Self { plane, at, pitch: pitch(row_bytes) }
    }

    /// What is on the stage, columns from `first` on, in the place of its plane.
    pub(super) fn plane(&self, first: usize) -> Plane {
        let data = self.at.wrapping_sub(self.bytes_of(first));
        Plane { data, row_stride: self.pitch as isize, ..self.plane }
    }

    /// Copies some columns from the stage back to the plane, and then others to the stage.
    ///
    /// # Safety
    /// The plane must be writable, have those columns, and a stage must have room for either; nobody else uses the stage.
    #[inline(always)]
    pub(super) unsafe fn exchange<V: Lanes>(&self, back: Range<usize>, next: Range<usize>) {
        let both = if back.is_empty() { next.clone() } else { back.start..next.end.max(back.end) };
        debug_assert!(both.end <= self.plane.cols, "columns {both:?} of {}", self.plane.cols);
        let [asked, back_bytes, next_bytes] = [&both, &back, &next].map(|columns| self.bytes_of(columns.len()));
        debug_assert!(back_bytes.max(next_bytes) <= self.pitch, "columns {back:?} and {next:?} on the stage");
        for row in 0..self.plane.rows {
            let ahead = self.plane.at(row + ROWS_AHEAD, both.start);
            (0..asked).step_by(LINE).for_each(|byte| V::prefetch(ahead.wrapping_add(byte)));
            let here = self.at.wrapping_add(row * self.pitch);
            // SAFETY: as the caller says; a row of the stage has room for those of either.
            unsafe {
                here.copy_to_nonoverlapping(self.plane.at(row, back.start), back_bytes);
                here.copy_from_nonoverlapping(self.plane.at(row, next.start), next_bytes);
            }
        }
    }

    fn bytes_of(&self, columns: usize) -> usize {
        columns * self.plane.col_stride.unsigned_abs()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::lanes::Plain;
    use super::*;

    #[test]
    fn columns_go_to_the_stage_and_back_as_they_are() {
        let (rows, cols, item) = (11, 24, 8);
        let mut bytes: Vec<u8> = (0..rows * cols * item).map(|i| (i % 251) as u8).collect();
        let was = bytes.clone();
        let row_stride = -((cols * item) as isize);
        // Rows from the last to the first: a stride may be negative.
        let data = bytes.as_mut_ptr().wrapping_add((rows - 1) * cols * item);
        let plane = Plane { data, rows, cols, row_stride, col_stride: item as isize };
        let mut there = vec![0_u8; stage_bytes(rows, 10 * item)];
        let stage = Stage::new(plane, there.as_mut_ptr(), 10 * item);
        let mut done = 0..0;
        for first in [0, 10, 20] {
            let columns = first..(first + 10).min(cols);
            // SAFETY: plane and stage are as large as said above, and ours.
            unsafe { stage.exchange::<Plain<f32>>(done, columns.clone()) };
            let staged = stage.plane(first);
            for (row, column) in (0..rows).flat_map(|row| columns.clone().map(move |column| (row, column))) {
                // SAFETY: both are there.
                unsafe {
                    assert_eq!(*staged.at(row, column), *plane.at(row, column), "row {row}, column {column}");
                    *staged.at(row, column) ^= 0xFF;
                }
            }
            done = columns;
        }
        // SAFETY: as above.
        unsafe { stage.exchange::<Plain<f32>>(done, 0..0) };
        let turned = |i: usize| if i.is_multiple_of(item) { was[i] ^ 0xFF } else { was[i] };
        assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == turned(i)), "each number came back once");
    }

    #[test]
    fn a_stage_is_half_of_the_cache_at_the_most_and_a_strip_at_the_least() {
        assert_eq!(strips_at_once(64, 128), MOST_STRIPS);
        assert_eq!(strips_at_once(1 << 20, 128), 1);
        assert!(stage_bytes(2048, 512).is_multiple_of(LINE) && (stage_bytes(1, 512) / LINE) % 2 == 1);
    }
}
