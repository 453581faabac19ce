//! From shapes and strides to what a kernel can do.

use super::settings::{Settings, TEXT_RUN};
use crate::error::{Error, Result};
use crate::kernel::{Cast, Cpu, LINE, Stores};

/// A piece of a job is about this many bytes: a fraction of a millisecond, so that a job can be shared evenly and
/// stopped at once.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of a page.
const PAGE_BYTES: usize = 4096;
/// Tiles of at most this are short: a few pages.
const SHORT_TILE: usize = 16 * PAGE_BYTES;
/// Runs of at most this are items: one load and one store each.
const ITEM_BYTES: usize = 16;
/// Runs shorter than this are all edges, or lines too few for streaming to be worth its edges.
const STREAM_RUN: usize = 2 * LINE;

/// One axis of a copy: how many steps, and how far each goes on both sides, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axis {
    /// How many items, or blocks of items.
    pub len: usize,
    /// Bytes from one to the next in the destination.
    pub dst: isize,
    /// Bytes from one to the next in the source.
    pub src: isize,
}

/// What moves a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mover {
    /// Rows of contiguous bytes: a row is `count` times `size` bytes on both sides.
    Rows(Stores),
    /// Items one by one.
    Items,
    /// The same value many times: a buffer is filled with it, and copied as rows.
    Fill(Stores),
    /// Items into a buffer, and from there by these stores.
    Staged(Stores),
}

/// The two innermost axes, which one call of a kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// What moves it.
    pub mover: Mover,
    /// The axis of the rows.
    pub row: Axis,
    /// The axis along a row.
    pub item: Axis,
    /// Bytes of an item in the destination.
    pub size: usize,
    /// Bytes of an item in the source.
    pub src_size: usize,
}

/// The loops that copy one array into another of its shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nest {
    /// Axes around the block, the outermost first.
    pub outer: Vec<Axis>,
    /// What one call of a kernel does.
    pub block: Block,
    /// Bytes from the array's first item to the loops' first in the destination: not 0 where an axis was turned.
    pub dst_shift: isize,
    /// The same in the source.
    pub src_shift: isize,
    /// Items of a row that make a unit of work; all of them unless rows are very long.
    pub unit_items: usize,
    /// Units of work in the nest.
    pub units: usize,
    /// Bytes of a unit in the destination.
    pub unit_bytes: usize,
}

/// A place in the sequence of all units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cut {
    /// Which tile.
    pub tile: usize,
    /// Which unit of the tile.
    pub unit: usize,
}

/// How to copy a list of arrays; see the module. Everything in it is plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPlan {
    /// The kernels.
    pub cpu: Cpu,
    /// The conversion on the way, if any.
    pub cast: Option<Cast>,
    /// The different loops that the tiles need; most lists need one or two.
    pub nests: Vec<Nest>,
    /// For each tile which nest it takes.
    pub tiles: Vec<u32>,
    /// Where pieces begin and end; one more than there are pieces.
    pub cuts: Vec<Cut>,
    /// Threads with the caller.
    pub workers: usize,
    /// Bytes of all destinations together.
    pub bytes: usize,
}

impl CopyPlan {
    /// How many pieces the work is cut into.
    pub fn pieces(&self) -> usize {
        self.cuts.len().saturating_sub(1)
    }

    /// Whether any part is streamed, so that a fence is due at its end.
    pub fn streams(&self) -> bool {
        self.nests.iter().any(|nest| nest.block.mover.streams())
    }
}

impl Nest {
    /// Whether it is one block of short rows that go past the cache, and in few pages of the source.
    pub(super) fn is_short_and_streamed(&self) -> bool {
        self.block.mover == Mover::Rows(Stores::Stream)
            && self.outer.is_empty()
            && self.unit_bytes == self.block.item.len
            && self.unit_bytes < PAGE_BYTES
            && self.units * self.unit_bytes <= SHORT_TILE
    }
}

impl Mover {
    fn streams(self) -> bool {
        matches!(self, Self::Rows(Stores::Stream) | Self::Fill(Stores::Stream) | Self::Staged(Stores::Stream))
    }
}

/// Makes a [`CopyPlan`], tile by tile.
///
/// A list of many tiles has few different shapes, and neighbours mostly have the same, so a tile costs a comparison.
#[derive(Debug)]
pub struct Planner {
    dst_size: usize,
    src_size: usize,
    cast: Option<Cast>,
    geometries: Vec<TileShape>,
    tiles: Vec<u32>,
    bytes: usize,
}

/// Shape and strides as they were given.
#[derive(Debug, PartialEq, Eq)]
struct TileShape {
    shape: Vec<usize>,
    dst_strides: Vec<isize>,
    src_strides: Vec<isize>,
    /// Bytes in the destination.
    bytes: usize,
}

/// The same as `==`, without the call into the C library that this makes: the lists have two or three numbers.
#[inline]
fn equal<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one == other)
}

impl TileShape {
    #[inline]
    fn is(&self, shape: &[usize], dst_strides: &[isize], src_strides: &[isize]) -> bool {
        equal(&self.shape, shape) && equal(&self.dst_strides, dst_strides) && equal(&self.src_strides, src_strides)
    }
}

impl Planner {
    /// For items of `size` bytes.
    ///
    /// # Errors
    /// `InvalidValue` for a size of 0.
    pub fn new(size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::value("expected items of at least one byte, got 0: there is nothing to copy"));
        }
        Ok(Self { dst_size: size, src_size: size, cast: None, geometries: vec![], tiles: vec![], bytes: 0 })
    }

    /// For numbers that are converted on the way.
    pub fn with_cast(cast: Cast) -> Self {
        let (dst_size, src_size) = (cast.to_size(), cast.from_size());
        Self { dst_size, src_size, cast: Some(cast), geometries: vec![], tiles: vec![], bytes: 0 }
    }

    /// Room for so many more tiles.
    pub fn reserve(&mut self, tiles: usize) {
        self.tiles.reserve(tiles);
    }

    /// Adds a pair of arrays of one shape, with their strides in bytes.
    ///
    /// # Errors
    /// `InvalidValue` when there are not as many strides as axes, or more bytes than an address space has.
    #[inline]
    pub fn tile(&mut self, shape: &[usize], dst_strides: &[isize], src_strides: &[isize]) -> Result<()> {
        let last = self.tiles.last().map(|&last| last as usize);
        let same = last.filter(|&last| self.geometries[last].is(shape, dst_strides, src_strides));
        let place = match same {
            Some(place) => place,
            None => self.find_or_add(shape, dst_strides, src_strides)?,
        };
        let bytes = self.bytes.checked_add(self.geometries[place].bytes);
        self.bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(too_big)?;
        self.tiles.push(place as u32);
        Ok(())
    }

    #[cold]
    fn find_or_add(&mut self, shape: &[usize], dst_strides: &[isize], src_strides: &[isize]) -> Result<usize> {
        if shape.len() != dst_strides.len() || shape.len() != src_strides.len() {
            return Err(Error::value(format!(
                "expected {} strides on both sides, got {} and {}",
                shape.len(),
                dst_strides.len(),
                src_strides.len()
            )));
        }
        // A list of pictures of many sizes may have thousands; only the latest are worth a look.
        let latest = self.geometries.len().saturating_sub(8)..self.geometries.len();
        if let Some(place) = latest.rev().find(|&i| self.geometries[i].is(shape, dst_strides, src_strides)) {
            return Ok(place);
        }
        let size = self.dst_size.max(self.src_size);
        let most = shape.iter().try_fold(size, |bytes, &len| bytes.checked_mul(len)).ok_or_else(too_big)?;
        let (dst_strides, src_strides) = (dst_strides.to_vec(), src_strides.to_vec());
        let bytes = most / size * self.dst_size;
        self.geometries.push(TileShape { shape: shape.to_vec(), dst_strides, src_strides, bytes });
        Ok(self.geometries.len() - 1)
    }

    /// Bytes of all destinations so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The plan for all tiles so far.
    pub fn finish(self, settings: &Settings) -> CopyPlan {
        let stores = settings.stores(self.bytes);
        let sizes = Sizes { dst: self.dst_size, src: self.src_size, cast: self.cast.is_some() };
        let nests: Vec<_> = self.geometries.iter().map(|geometry| nest(geometry, sizes, stores)).collect();
        let cuts = cut(&nests, &self.tiles);
        let workers = settings.workers(self.bytes).min(cuts.len().saturating_sub(1)).max(1);
        let Self { cast, tiles, bytes, .. } = self;
        CopyPlan { cpu: settings.cpu, cast, nests, tiles, cuts, workers, bytes }
    }
}

fn too_big() -> Error {
    Error::value(format!("expected arrays of at most {} bytes together, got more", isize::MAX))
}

/// Bytes of an item on both sides, and whether it is converted.
#[derive(Clone, Copy)]
struct Sizes {
    dst: usize,
    src: usize,
    cast: bool,
}

/// An axis of one: what is left out of shapes.
const ONE: Axis = Axis { len: 1, dst: 0, src: 0 };

fn nest(geometry: &TileShape, sizes: Sizes, stores: Stores) -> Nest {
    let (mut axes, dst_shift, src_shift) = forward(geometry);
    axes.sort_by_key(|axis| std::cmp::Reverse((axis.dst, axis.src.unsigned_abs())));
    merge(&mut axes);
    let item = axes.pop().unwrap_or(ONE);
    let is_run = item.len == 1 || item.dst == sizes.dst as isize && item.src == sizes.src as isize;
    let mut block = if is_run && !sizes.cast {
        run_block(&mut axes, item.len * sizes.dst, stores)
    } else if sizes.dst > ITEM_BYTES {
        // An item so long is a run of its own.
        axes.push(item);
        run_block(&mut axes, sizes.dst, stores)
    } else {
        item_block(&mut axes, item, sizes, stores)
    };
    if geometry.bytes == 0 {
        block.row.len = 0;
    }
    units(Nest { outer: axes, block, dst_shift, src_shift, unit_items: 0, units: 0, unit_bytes: 0 })
}

/// The axes of more than one item, all turned so that the destination goes forward.
fn forward(geometry: &TileShape) -> (Vec<Axis>, isize, isize) {
    let (mut dst_shift, mut src_shift) = (0, 0);
    let strides = geometry.dst_strides.iter().zip(&geometry.src_strides);
    let long = geometry.shape.iter().zip(strides).filter(|&(&len, _)| len > 1);
    let axes = long.map(|(&len, (&dst, &src))| {
        if dst >= 0 {
            return Axis { len, dst, src };
        }
        let steps = len as isize - 1;
        dst_shift += steps * dst;
        src_shift += steps * src;
        Axis { len, dst: -dst, src: -src }
    });
    (axes.collect(), dst_shift, src_shift)
}

/// Joins neighbours that are one axis on both sides.
fn merge(axes: &mut Vec<Axis>) {
    axes.dedup_by(|inner, outer| {
        let len = inner.len as isize;
        let joins = inner.dst.checked_mul(len) == Some(outer.dst) && inner.src.checked_mul(len) == Some(outer.src);
        if joins {
            *outer = Axis { len: outer.len * inner.len, ..*inner };
        }
        joins
    });
}

/// The block for runs of bytes that are contiguous on both sides.
fn run_block(axes: &mut Vec<Axis>, run: usize, stores: Stores) -> Block {
    let bytes = |len| Axis { len, dst: 1, src: 1 };
    match axes.pop() {
        // Very short runs are items of a larger size.
        Some(item) if run <= ITEM_BYTES => {
            let sizes = Sizes { dst: run, src: run, cast: false };
            item_block(axes, item, sizes, stores)
        }
        row => {
            let mover = Mover::Rows(stores_for(run, stores));
            Block { mover, row: row.unwrap_or(ONE), item: bytes(run), size: 1, src_size: 1 }
        }
    }
}

/// The stores for rows of `run` bytes, when `stores` suit the whole output.
fn stores_for(run: usize, stores: Stores) -> Stores {
    match stores {
        Stores::Stream if run < STREAM_RUN => Stores::Vector,
        Stores::Text if run < TEXT_RUN => Stores::Vector,
        stores => stores,
    }
}

/// The block for items with steps between them.
fn item_block(axes: &mut Vec<Axis>, item: Axis, sizes: Sizes, stores: Stores) -> Block {
    let is_dense = item.dst == sizes.dst as isize;
    let dense = stores_for(item.len * sizes.dst, stores);
    let row = densest(axes, item).map_or(ONE, |place| axes.remove(place));
    let is_turned = row.src.unsigned_abs() < item.src.unsigned_abs() && row.len > 1;
    let mover = match () {
        () if sizes.cast => Mover::Staged(if is_dense { dense } else { Stores::Vector }),
        () if is_dense && item.src == 0 => Mover::Fill(dense),
        () if is_dense && !is_turned && dense == Stores::Stream => Mover::Staged(dense),
        () => Mover::Items,
    };
    Block { mover, row, item, size: sizes.dst, src_size: sizes.src }
}

/// The axis to take as rows: the last one, unless the source is denser along another than along the items.
fn densest(axes: &[Axis], item: Axis) -> Option<usize> {
    let last = axes.len().checked_sub(1)?;
    let place = (0..=last).rev().min_by_key(|&place| axes[place].src.unsigned_abs())?;
    Some(if axes[place].src.unsigned_abs() < item.src.unsigned_abs() { place } else { last })
}

/// Says what a unit of work is: a row, or a part of a very long one.
fn units(mut nest: Nest) -> Nest {
    let Block { row, item, size, .. } = nest.block;
    let most = (PIECE_BYTES / size).max(1);
    nest.unit_items = item.len.min(most);
    nest.unit_bytes = nest.unit_items * size;
    let outer: usize = nest.outer.iter().map(|axis| axis.len).product();
    nest.units = outer * row.len * item.len.div_ceil(nest.unit_items.max(1));
    nest
}

/// Cuts the sequence of all units into pieces of about [`PIECE_BYTES`].
fn cut(nests: &[Nest], tiles: &[u32]) -> Vec<Cut> {
    let mut cuts = vec![Cut { tile: 0, unit: 0 }];
    let mut room = PIECE_BYTES;
    for (tile, &nest) in tiles.iter().enumerate() {
        let Nest { units, unit_bytes, .. } = nests[nest as usize];
        let mut unit = 0;
        while unit < units {
            let fitting = room.div_ceil(unit_bytes);
            if units - unit < fitting {
                room -= (units - unit) * unit_bytes;
                break;
            }
            unit += fitting;
            room = PIECE_BYTES;
            cuts.push(if unit == units { Cut { tile: tile + 1, unit: 0 } } else { Cut { tile, unit } });
        }
    }
    let end = Cut { tile: tiles.len(), unit: 0 };
    if cuts.last() != Some(&end) {
        cuts.push(end);
    }
    cuts
}
