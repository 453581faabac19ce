//! Copies of so few bytes that a plan would take longer than the copy.

use super::execute::Ends;
use crate::kernel::{Cast, Cpu, Items, Rows, Stores, convert, copy_items, copy_rows};

/// Outputs of at most so many bytes are copied without a plan.
pub const SMALL_BYTES: usize = 4096;
/// More axes than this take a plan.
const MAX_AXES: usize = 8;

/// One pair of arrays of one shape, and what their items are.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Their shape.
    pub shape: &'a [usize],
    /// Bytes from item to item in the destination.
    pub dst_strides: &'a [isize],
    /// Bytes from item to item in the source.
    pub src_strides: &'a [isize],
    /// Bytes of an item in the destination.
    pub dst_size: usize,
    /// Bytes of an item in the source.
    pub src_size: usize,
    /// The conversion on the way, if any.
    pub cast: Option<Cast>,
}

impl Pair<'_> {
    /// Copies the pair right away; false, and nothing done, where it takes a plan.
    ///
    /// # Safety
    /// As [`super::execute`], for the arrays that begin at `ends`.
    pub unsafe fn copy_now(&self, cpu: Cpu, ends: Ends) -> bool {
        let axes = self.shape.len();
        if axes > MAX_AXES || self.dst_strides.len() != axes || self.src_strides.len() != axes {
            return false;
        }
        let (inner, run) = self.run();
        // A conversion needs its numbers side by side.
        if self.cast.is_some() && inner == axes && axes > 0 {
            return false;
        }
        if !self.shape.contains(&0) {
            // SAFETY: as the caller says; no axis is empty.
            unsafe { self.copy_axes(cpu, ends, inner, run) };
        }
        true
    }

    /// The axis from which on the items are contiguous on both sides, and how many items that makes.
    fn run(&self) -> (usize, usize) {
        let mut run = 1;
        for axis in (0..self.shape.len()).rev() {
            let (dst, src) = (run * self.dst_size, run * self.src_size);
            let follows = self.dst_strides[axis] == dst as isize && self.src_strides[axis] == src as isize;
            if !follows && self.shape[axis] != 1 {
                return (axis + 1, run);
            }
            run *= self.shape[axis];
        }
        (0, run)
    }

    /// Goes through the axes before `inner`, all but the last of them one by one.
    ///
    /// # Safety
    /// As [`Self::copy_now`], for an array with items.
    unsafe fn copy_axes(&self, cpu: Cpu, ends: Ends, inner: usize, run: usize) {
        let row = inner.checked_sub(1);
        let outer = row.unwrap_or(0);
        let mut digits = [0_usize; MAX_AXES];
        loop {
            let place = (0..outer).fold(ends, |place, axis| Ends {
                dst: place.dst.wrapping_offset(digits[axis] as isize * self.dst_strides[axis]),
                src: place.src.wrapping_offset(digits[axis] as isize * self.src_strides[axis]),
            });
            // SAFETY: the digits are below the lengths of their axes.
            unsafe { self.copy_rows(cpu, place, row, run) };
            let Some(axis) = (0..outer).rev().find(|&axis| digits[axis] + 1 < self.shape[axis]) else { return };
            digits[axis] += 1;
            digits[axis + 1..].fill(0);
        }
    }

    /// Copies `run` items for each step along the axis `row`; just once without one.
    ///
    /// # Safety
    /// As [`Self::copy_axes`].
    unsafe fn copy_rows(&self, cpu: Cpu, at: Ends, row: Option<usize>, run: usize) {
        let (rows, dst_row, src_row) =
            row.map_or((1, 0, 0), |axis| (self.shape[axis], self.dst_strides[axis], self.src_strides[axis]));
        let size = self.dst_size;
        // SAFETY: all items are the caller's.
        unsafe {
            match self.cast {
                Some(cast) => (0..rows as isize).for_each(|i| {
                    let (dst, src) = (at.dst.wrapping_offset(i * dst_row), at.src.wrapping_offset(i * src_row));
                    convert(cpu, cast, dst, src, run);
                }),
                None if run == 1 => {
                    let items = Items {
                        rows: 1,
                        count: rows,
                        size,
                        dst_row: 0,
                        src_row: 0,
                        dst_step: dst_row,
                        src_step: src_row,
                    };
                    copy_items(cpu, at.dst, at.src, &items);
                }
                None => {
                    let rows = Rows { rows, run: run * size, dst_row, src_row };
                    copy_rows(cpu, Stores::Vector, at.dst, at.src, &rows);
                }
            }
        }
    }
}
