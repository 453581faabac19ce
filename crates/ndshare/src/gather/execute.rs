//! Doing what a plan says.
//!
//! Blocks whose bytes must change or move apart on the way go through a small buffer in the first-level cache, so
//! that only whole rows meet the destination, and streaming stores find whole lines.

use super::plan::{Axis, Block, CopyPlan, Mover, Nest};
use crate::error::Result;
use crate::kernel::{
    Cast, Cpu, Items, LINE, Rows, Stores, convert, copy_items, copy_rows, fence, stream_converted, stream_tiles,
};
use crate::pool::{self, Check};
use std::mem::MaybeUninit;

/// Bytes of the buffer; two of them and what they are filled from fit the smallest first-level cache.
const BUFFER_BYTES: usize = 8 << 10;

/// Where the first items of a pair of arrays are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// In the destination.
    pub dst: *mut u8,
    /// In the source.
    pub src: *const u8,
}

// SAFETY: two addresses; whoever uses them vouches for the memory.
unsafe impl Send for Ends {}
// SAFETY: as above.
unsafe impl Sync for Ends {}

/// Copies all tiles of `plan`, whose arrays begin at `ends`.
///
/// When this returns, every byte is where whoever is told of it by an ordinary release will find it. After an error
/// some parts are copied and others are not.
///
/// # Errors
/// What `check` says, which runs on the calling thread about every 50 ms.
///
/// # Panics
/// When there are not as many `ends` as tiles.
///
/// # Safety
/// For each tile, all items that its shape and strides reach from its ends must be readable and writable until this
/// returns, no written byte may be read, and no byte be written twice.
pub unsafe fn execute(plan: &CopyPlan, ends: &[Ends], check: Check<'_>) -> Result<()> {
    assert_eq!(plan.tiles.len(), ends.len(), "a pair of addresses for each tile");
    // SAFETY: as the caller says.
    let work = |piece| unsafe { run_piece(plan, ends, piece) };
    // Whoever hears of the end must find the bytes. A fence waits for the memory, so there is one for each worker
    // and not for each piece.
    let leave = || {
        if plan.streams() {
            fence();
        }
    };
    if plan.pieces() == 1 {
        work(0);
        leave();
        return Ok(());
    }
    pool::run(plan.workers, plan.pieces(), &work, &leave, check)
}

/// # Safety
/// As [`execute`].
unsafe fn run_piece(plan: &CopyPlan, ends: &[Ends], piece: usize) {
    let (first, last) = (plan.cuts[piece], plan.cuts[piece + 1]);
    let mut tile = first.tile;
    while tile < ends.len().min(last.tile + 1) {
        let from = if tile == first.tile { first.unit } else { 0 };
        // Those before the last one are whole.
        if from == 0
            && tile + 4 <= last.tile
            && let Some(nest) = four_alike(plan, tile)
        {
            // SAFETY: as the caller says; no byte of one tile is in another.
            unsafe { run_four(plan, nest, &ends[tile..tile + 4]) };
            tile += 4;
            continue;
        }
        let nest = &plan.nests[plan.tiles[tile] as usize];
        let to = if tile == last.tile { last.unit } else { nest.units };
        if from < to {
            // SAFETY: as the caller says; the shifts go to items of the arrays.
            unsafe { run_units(plan, nest, ends[tile], from, to) };
        }
        tile += 1;
    }
}

/// The nest of four tiles that are best copied together: short rows past the cache.
#[inline]
fn four_alike(plan: &CopyPlan, tile: usize) -> Option<&Nest> {
    let place = plan.tiles[tile];
    let nest = plan.nests.get(place as usize).filter(|nest| plan.cpu.is_intels() && nest.is_short_and_streamed())?;
    plan.tiles[tile..tile + 4].iter().all(|&other| other == place).then_some(nest)
}

/// # Safety
/// As [`execute`], for these four tiles.
unsafe fn run_four(plan: &CopyPlan, nest: &Nest, ends: &[Ends]) {
    let Block { row, item, .. } = nest.block;
    let rows = Rows { rows: row.len, run: item.len, dst_row: row.dst, src_row: row.src };
    let dst = std::array::from_fn(|path| ends[path].dst.wrapping_offset(nest.dst_shift));
    let src = std::array::from_fn(|path| ends[path].src.wrapping_offset(nest.src_shift));
    // SAFETY: as the caller says; the nest is this one block.
    unsafe { stream_tiles(plan.cpu, dst, src, &rows) }
}

/// Runs some units of one tile.
///
/// # Safety
/// As [`execute`], for this tile.
unsafe fn run_units(plan: &CopyPlan, nest: &Nest, ends: Ends, from: usize, to: usize) {
    let place = Ends { dst: ends.dst.wrapping_offset(nest.dst_shift), src: ends.src.wrapping_offset(nest.src_shift) };
    let Block { row, item, .. } = nest.block;
    let parts = item.len.div_ceil(nest.unit_items);
    let block_units = parts * row.len;
    let mut outer = Odometer::at(nest, place, from / block_units);
    let mut unit = from;
    while unit < to {
        let (first_row, first_item) = (unit % block_units / parts, unit % parts * nest.unit_items);
        // As many whole rows as this piece has of this block, or a part of one row.
        let rows = if parts == 1 { (to - unit).min(row.len - first_row) } else { 1 };
        let count = nest.unit_items.min(item.len - first_item);
        let at = step(step(outer.place, row, first_row), item, first_item);
        let part = Part { plan, block: nest.block, rows, count };
        // SAFETY: the part lies inside the tile's arrays, as the caller says.
        unsafe { part.run(at) };
        unit += rows;
        if unit.is_multiple_of(block_units) {
            outer.advance();
        }
    }
}

/// The place `count` steps along an axis.
#[inline]
fn step(place: Ends, axis: Axis, count: usize) -> Ends {
    let count = count as isize;
    // A place after the last is computed, too, and never used.
    Ends {
        dst: place.dst.wrapping_offset(count.wrapping_mul(axis.dst)),
        src: place.src.wrapping_offset(count.wrapping_mul(axis.src)),
    }
}

/// Goes through the outer axes, the last one fastest. Most tiles have none, and then it costs nothing.
struct Odometer<'a> {
    axes: &'a [Axis],
    digits: Vec<usize>,
    place: Ends,
}

impl<'a> Odometer<'a> {
    /// At the `index`th block.
    fn at(nest: &'a Nest, place: Ends, mut index: usize) -> Self {
        let mut made = Self { axes: &nest.outer, digits: vec![0; nest.outer.len()], place };
        for (axis, digit) in made.axes.iter().zip(&mut made.digits).rev() {
            *digit = index % axis.len;
            index /= axis.len;
            made.place = step(made.place, *axis, *digit);
        }
        made
    }

    fn advance(&mut self) {
        for (axis, digit) in self.axes.iter().zip(&mut self.digits).rev() {
            *digit += 1;
            self.place = step(self.place, *axis, 1);
            if *digit < axis.len {
                return;
            }
            let back = Axis { dst: -axis.dst, src: -axis.src, ..*axis };
            self.place = step(self.place, back, axis.len);
            *digit = 0;
        }
    }
}

/// Some rows of a block, or a part of one row.
struct Part<'a> {
    plan: &'a CopyPlan,
    block: Block,
    rows: usize,
    count: usize,
}

/// A buffer on the stack that starts at a cache line.
#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; BUFFER_BYTES]>);

impl Buffer {
    #[inline(always)]
    fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Part<'_> {
    /// # Safety
    /// As [`execute`], for this part, which starts at `at`.
    unsafe fn run(&self, at: Ends) {
        // SAFETY: as the caller says.
        unsafe {
            match self.block.mover {
                Mover::Rows(stores) => self.rows(at, stores),
                Mover::Items => copy_items(self.plan.cpu, at.dst, at.src, &self.items(self.rows, self.count)),
                Mover::Fill(stores) => self.fill(at, stores),
                Mover::Staged(stores) => match self.plan.cast {
                    Some(cast) => self.convert(at, cast, stores),
                    None => self.stage(at, stores),
                },
            }
        }
    }

    fn cpu(&self) -> Cpu {
        self.plan.cpu
    }

    /// # Safety
    /// As [`Self::run`].
    unsafe fn rows(&self, at: Ends, stores: Stores) {
        let row = self.block.row;
        let rows = Rows { rows: self.rows, run: self.count, dst_row: row.dst, src_row: row.src };
        // SAFETY: as the caller says.
        unsafe { copy_rows(self.cpu(), stores, at.dst, at.src, &rows) }
    }

    fn items(&self, rows: usize, count: usize) -> Items {
        let Block { row, item, size, .. } = self.block;
        Items { rows, count, size, dst_row: row.dst, src_row: row.src, dst_step: item.dst, src_step: item.src }
    }

    /// Writes the same item many times.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn fill(&self, at: Ends, stores: Stores) {
        let Block { row, item, size, .. } = self.block;
        let mut buffer = Buffer::new();
        let most = (BUFFER_BYTES / size).min(self.count);
        let one_row = Items { dst_step: size as isize, src_step: 0, ..self.items(1, most) };
        for index in 0..self.rows {
            let at = step(at, row, index);
            // SAFETY: `most` items fit the buffer; the rest is as the caller says.
            unsafe {
                if index == 0 || row.src != 0 {
                    copy_items(self.cpu(), buffer.start(), at.src, &one_row);
                }
                self.spread(at.dst, &mut buffer, most, stores);
            }
        }
        debug_assert_eq!(item.dst, size as isize, "a fill is dense");
    }

    /// Copies the buffer of `most` equal items over one row.
    ///
    /// # Safety
    /// The row must be writable, and the buffer hold that many items.
    unsafe fn spread(&self, dst: *mut u8, buffer: &mut Buffer, most: usize, stores: Stores) {
        let size = self.block.size;
        let mut done = 0;
        while done < self.count {
            let to = dst.wrapping_add(done * size);
            let chunk = chunk(to, size, most).min(self.count - done);
            // SAFETY: the chunk lies inside the row and the buffer.
            unsafe { copy_rows(self.cpu(), stores, to, buffer.start(), &one_run(chunk * size)) };
            done += chunk;
        }
    }

    /// Collects items that lie apart, then writes them in whole lines.
    ///
    /// # Safety
    /// As [`Self::run`], for a dense destination.
    unsafe fn stage(&self, at: Ends, stores: Stores) {
        let Block { row, item, size, .. } = self.block;
        let mut buffer = Buffer::new();
        let most = BUFFER_BYTES / size;
        for index in 0..self.rows {
            let mut done = 0;
            while done < self.count {
                let at = step(step(at, row, index), item, done);
                let chunk = chunk(at.dst, size, most).min(self.count - done);
                let items = Items { dst_step: size as isize, ..self.items(1, chunk) };
                // SAFETY: the chunk lies inside the row and the buffer.
                unsafe {
                    copy_items(self.cpu(), buffer.start(), at.src, &items);
                    copy_rows(self.cpu(), stores, at.dst, buffer.start(), &one_run(chunk * size));
                }
                done += chunk;
            }
        }
    }

    /// Converts numbers; those that lie apart are collected first and spread afterwards.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn convert(&self, at: Ends, cast: Cast, stores: Stores) {
        let Block { row, item, size, src_size, .. } = self.block;
        if stores == Stores::Stream && item.dst == size as isize && item.src == src_size as isize {
            let rows = Rows { rows: self.rows, run: self.count, dst_row: row.dst, src_row: row.src };
            // SAFETY: as the caller says.
            return unsafe { stream_converted(self.cpu(), cast, at.dst, at.src, &rows) };
        }
        let most = BUFFER_BYTES / size.max(src_size);
        // Short rows that follow each other in the source are converted together.
        let follows = item.src == src_size as isize && row.src == (self.count * src_size) as isize;
        let batch = if follows { (most / self.count).max(1) } else { 1 };
        for index in (0..self.rows).step_by(batch) {
            let rows = batch.min(self.rows - index);
            let mut done = 0;
            while done < self.count {
                let at = step(step(at, row, index), item, done);
                let chunk = if rows > 1 { self.count } else { chunk(at.dst, size, most).min(self.count - done) };
                // SAFETY: the chunk lies inside the row, and fits the buffers.
                unsafe { self.convert_chunk(at, cast, stores, rows, chunk) };
                done += chunk;
            }
        }
    }

    /// # Safety
    /// As [`Self::run`], for `rows` rows of `count` numbers, which fit a buffer; several follow each other in the
    /// source.
    unsafe fn convert_chunk(&self, at: Ends, cast: Cast, stores: Stores, rows: usize, count: usize) {
        let Block { row, item, size, src_size, .. } = self.block;
        let (mut collected, mut converted) = (Buffer::new(), Buffer::new());
        let is_dense = item.dst == size as isize;
        // SAFETY: as the caller says.
        unsafe {
            let mut from = at.src;
            if item.src != src_size as isize && count > 1 {
                let items = Items { size: src_size, dst_step: src_size as isize, ..self.items(1, count) };
                copy_items(self.cpu(), collected.start(), from, &items);
                from = collected.start();
            }
            if is_dense && rows == 1 && stores != Stores::Stream {
                return convert(self.cpu(), cast, at.dst, from, count);
            }
            convert(self.cpu(), cast, converted.start(), from, rows * count);
            let src_row = (count * size) as isize;
            if is_dense {
                let rows = Rows { rows, run: count * size, dst_row: row.dst, src_row };
                copy_rows(self.cpu(), stores, at.dst, converted.start(), &rows);
            } else {
                let items = Items { src_row, src_step: size as isize, ..self.items(rows, count) };
                copy_items(self.cpu(), at.dst, converted.start(), &items);
            }
        }
    }
}

fn one_run(run: usize) -> Rows {
    Rows { rows: 1, run, dst_row: 0, src_row: 0 }
}

/// How many items to take next: `most`, or fewer when that lets the next chunk start at a cache line.
#[inline]
fn chunk(dst: *mut u8, size: usize, most: usize) -> usize {
    let to_line = dst.addr().wrapping_neg() % LINE;
    let (head, line) = (to_line / size, LINE / size);
    if !to_line.is_multiple_of(size) || !LINE.is_multiple_of(size) || most < head + line {
        return most;
    }
    head + (most - head) / line * line
}
