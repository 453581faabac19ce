//! Copies of so few bytes that a plan would take longer than the copy.

use super::execute::Ends;
use crate::kernel::{Cast, Cpu, Items, Rows, Stores, convert, copy_items, copy_rows};
use std::ops::Range;

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
    /// As [`super::execute()`], for the arrays that begin at `ends`.
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

    /// Goes through the axes before `inner`, all but those that one call of a kernel does.
    ///
    /// # Safety
    /// As [`Self::copy_now`], for an array with items.
    unsafe fn copy_axes(&self, cpu: Cpu, ends: Ends, inner: usize, run: usize) {
        // Single items take two axes a call, runs one.
        let outer = inner.saturating_sub(if run == 1 && self.cast.is_none() { 2 } else { 1 });
        let mut digits = [0_usize; MAX_AXES];
        loop {
            let place = (0..outer).fold(ends, |place, axis| self.step(place, axis, digits[axis]));
            // SAFETY: the digits are below the lengths of their axes.
            unsafe { self.copy_inner(cpu, place, outer..inner, run) };
            let Some(axis) = (0..outer).rev().find(|&axis| digits[axis] + 1 < self.shape[axis]) else { return };
            digits[axis] += 1;
            digits[axis + 1..].fill(0);
        }
    }

    fn step(&self, place: Ends, axis: usize, count: usize) -> Ends {
        let count = count as isize;
        Ends {
            dst: place.dst.wrapping_offset(count * self.dst_strides[axis]),
            src: place.src.wrapping_offset(count * self.src_strides[axis]),
        }
    }

    /// Length and both strides of an axis; one step without one.
    fn axis(&self, axis: Option<usize>) -> (usize, isize, isize) {
        axis.map_or((1, 0, 0), |axis| (self.shape[axis], self.dst_strides[axis], self.src_strides[axis]))
    }

    /// Copies `run` items for each step along the last one or two of `axes`.
    ///
    /// # Safety
    /// As [`Self::copy_axes`].
    unsafe fn copy_inner(&self, cpu: Cpu, at: Ends, axes: Range<usize>, run: usize) {
        let (count, dst_step, src_step) = self.axis(axes.clone().next_back());
        let size = self.dst_size;
        // SAFETY: all items are the caller's.
        unsafe {
            match self.cast {
                Some(cast) => (0..count as isize).for_each(|i| {
                    let (dst, src) = (at.dst.wrapping_offset(i * dst_step), at.src.wrapping_offset(i * src_step));
                    convert(cpu, cast, dst, src, run);
                }),
                None if run == 1 => {
                    let (rows, dst_row, src_row) = self.axis(axes.rev().nth(1));
                    let items = Items { rows, count, size, dst_row, src_row, dst_step, src_step };
                    copy_items(cpu, at.dst, at.src, &items);
                }
                None => {
                    let rows = Rows { rows: count, run: run * size, dst_row: dst_step, src_row: src_step };
                    copy_rows(cpu, Stores::Vector, at.dst, at.src, &rows);
                }
            }
        }
    }
}
