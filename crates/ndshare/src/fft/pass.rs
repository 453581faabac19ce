//! One pass: all lines along one axis, from one array to another or in their places.
//!
//! Where lines lie across the memory, neighbours are read, transformed and written together, so that each cache line
//! is fetched once. A tile is read as a whole before any of it is written; so a pass may write where it reads, as
//! long as each line has the same place on both sides.

use super::convert::{Cell, Steps, Tile, Work, gather, scatter};
use super::line::{Engine, Line};
use super::transform::Family;
use crate::element::Number;
use crate::error::Result;
use crate::pool::{self, Check};
use std::fmt;

/// Neighbouring lines that are transformed together.
const TILE_LINES: usize = 16;
/// A tile shall fit the second-level cache.
const TILE_POINTS: usize = 1 << 15;
/// A piece of a run is about a millisecond of work or less.
const PIECE_POINTS: usize = 1 << 15;

/// What is the same in all runs of a pass.
pub(super) struct Pass {
    pub(super) axis: usize,
    pub(super) family: Family,
    pub(super) line: Line,
    /// How many lines there are along each axis; 1 along the pass's own.
    pub(super) extents: Vec<usize>,
    /// Items of a line that are there; the engine gets zeros for the rest.
    pub(super) items_in: usize,
    /// Items that a line gives.
    pub(super) items_out: usize,
    /// Items of a padded line, on the side that is read.
    pub(super) items_whole: usize,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = if matches!(self.line, Line::Double(_)) { "double" } else { "single" };
        write!(f, "axis {}: line by line, in {precision} precision", self.axis)
    }
}

/// Where a pass reads or writes.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) data: *mut u8,
    pub(super) strides: &'a [isize],
    pub(super) number: Number,
}

/// An axis across the lines.
#[derive(Clone, Copy)]
struct Across {
    length: usize,
    from: isize,
    into: isize,
}

/// One run of a pass: where each tile is.
struct Run<'a> {
    pass: &'a Pass,
    from: Side<'a>,
    into: Side<'a>,
    /// All axes across the lines but the tiles' own.
    outer: Vec<Across>,
    /// The axis along which neighbours make a tile.
    near: Across,
    tile_lines: usize,
    scale: f64,
}

// SAFETY: pieces write to places of their own, and the caller keeps both arrays; see `Pass::run`.
unsafe impl Sync for Run<'_> {}

impl Pass {
    /// Runs the pass.
    ///
    /// # Safety
    /// All items that the pass names are readable and writable on their sides, nobody else uses them meanwhile, and
    /// no item that it writes lies in an item that it reads, unless each line has the same place on both sides.
    pub(super) unsafe fn run(
        &self,
        from: Side<'_>,
        into: Side<'_>,
        scale: f64,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        if self.extents.contains(&0) {
            return Ok(());
        }
        let run = Run::new(self, from, into, scale);
        let tiles = run.tiles();
        let each = (PIECE_POINTS / (run.tile_lines * self.items_whole.max(self.items_out))).max(1);
        let work = |piece: usize| {
            let tiles = piece * each..((piece + 1) * each).min(tiles);
            // SAFETY: the caller's; each tile is in one piece.
            unsafe { run.run(tiles) };
        };
        pool::run(workers, tiles.div_ceil(each), &work, &|| (), check)
    }
}

impl<'a> Run<'a> {
    fn new(pass: &'a Pass, from: Side<'a>, into: Side<'a>, scale: f64) -> Self {
        let axes = (0..pass.extents.len()).filter(|&axis| pass.extents[axis] > 1);
        let across =
            |axis: usize| Across { length: pass.extents[axis], from: from.strides[axis], into: into.strides[axis] };
        let mut outer: Vec<Across> = axes.map(across).collect();
        let reach = |axis: &Across| axis.into.unsigned_abs().saturating_add(axis.from.unsigned_abs());
        let near = (0..outer.len()).min_by_key(|&place| reach(&outer[place]));
        let near = near.map_or(Across { length: 1, from: 0, into: 0 }, |place| outer.remove(place));
        let is_across = near.from.unsigned_abs() < from.strides[pass.axis].unsigned_abs()
            || near.into.unsigned_abs() < into.strides[pass.axis].unsigned_abs();
        let room = (TILE_POINTS / pass.items_whole.max(pass.items_out)).clamp(4, TILE_LINES);
        let tile_lines = if is_across { room.min(near.length) } else { 1 };
        Self { pass, from, into, outer, near, tile_lines, scale }
    }

    fn tiles(&self) -> usize {
        self.near.length.div_ceil(self.tile_lines) * self.outer.iter().map(|axis| axis.length).product::<usize>()
    }

    /// Transforms some tiles.
    ///
    /// # Safety
    /// As [`Pass::run`], for these tiles.
    unsafe fn run(&self, tiles: std::ops::Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            match &self.pass.line {
                Line::Single(engine) => self.run_in::<f32>(engine, tiles),
                Line::Double(engine) => self.run_in::<f64>(engine, tiles),
            }
        }
    }

    /// # Safety
    /// As [`Self::run`].
    unsafe fn run_in<W: Work>(&self, engine: &Engine<W>, tiles: std::ops::Range<usize>) {
        W::with_scratch(|scratch| {
            let pitch = engine.prepare(scratch, self.tile_lines);
            for tile in tiles {
                let (from, into, lines) = self.place(tile);
                // SAFETY: the caller's; `place` stays inside of the extents.
                unsafe {
                    match self.pass.family {
                        Family::ToHalf => self.read::<W, W>(from, lines, pitch, &mut scratch.real),
                        _ => self.read::<W, _>(from, lines, pitch, &mut scratch.complex),
                    }
                    engine.run(scratch, lines, pitch);
                    match self.pass.family {
                        Family::ToReal => self.write::<W, W>(engine, into, lines, pitch, &scratch.real),
                        _ => self.write::<W, _>(engine, into, lines, pitch, &scratch.complex),
                    }
                }
            }
        });
    }

    /// Where a tile begins on both sides, in bytes, and how many lines it has.
    fn place(&self, tile: usize) -> (isize, isize, usize) {
        let chunks = self.near.length.div_ceil(self.tile_lines);
        let first = tile % chunks * self.tile_lines;
        let lines = self.tile_lines.min(self.near.length - first);
        let (mut from, mut into) = (first as isize * self.near.from, first as isize * self.near.into);
        let mut rest = tile / chunks;
        for axis in self.outer.iter().rev() {
            let index = (rest % axis.length) as isize;
            rest /= axis.length;
            (from, into) = (from + index * axis.from, into + index * axis.into);
        }
        (from, into, lines)
    }

    /// # Safety
    /// As [`Self::run`], for the tile that begins `offset` bytes into the array.
    unsafe fn read<W: Work, C: Cell<W>>(&self, offset: isize, lines: usize, pitch: usize, to: &mut [C]) {
        let Pass { axis, items_in, items_whole, .. } = *self.pass;
        let steps = Steps { item: self.from.strides[axis], line: self.near.from };
        let tile = Tile { lines, items: items_in, pitch };
        let data = self.from.data.wrapping_offset(offset);
        // SAFETY: the caller's.
        unsafe { gather(self.from.number, data, steps, tile, to) };
        if items_in < items_whole {
            let zero = C::from_complex(W::read(0.0_f32));
            to.chunks_mut(pitch).take(lines).for_each(|line| line[items_in..items_whole].fill(zero));
        }
    }

    /// # Safety
    /// As [`Self::run`], for the tile that begins `offset` bytes into the array.
    unsafe fn write<W: Work, C: Cell<W>>(
        &self,
        engine: &Engine<W>,
        offset: isize,
        lines: usize,
        pitch: usize,
        from: &[C],
    ) {
        let Pass { axis, items_out, family, .. } = *self.pass;
        let steps = Steps { item: self.into.strides[axis], line: self.near.into };
        let tile = Tile { lines, items: items_out, pitch };
        let scale = W::of_double(self.scale);
        let turned = engine.is_conjugate && family == Family::ToHalf;
        let factors = [scale, if turned { -scale } else { scale }];
        let data = self.into.data.wrapping_offset(offset);
        // SAFETY: the caller's.
        unsafe { scatter(self.into.number, data, steps, tile, from, factors) };
    }
}

/// Private memory between two passes, for results that are not complex.
pub(super) struct Middle {
    memory: Vec<u128>,
    pub(super) strides: Vec<isize>,
}

impl Middle {
    /// Room for complex numbers; none where there is no memory for it.
    pub(super) fn new(shape: &[usize], double: bool) -> Option<Self> {
        let (strides, bytes) = crate::layout::contiguous(shape, if double { 16 } else { 8 }, false).ok()?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes.div_ceil(size_of::<u128>())).ok()?;
        Some(Self { memory, strides })
    }

    pub(super) fn data(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr().cast()
    }
}
