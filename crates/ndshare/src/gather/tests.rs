//! Plans as data, and what they do against a naive twin.

use super::plan::Cut;
use super::*;
use crate::dice::Dice;
use crate::element::Number;
use crate::error::{Error, Kind, Result};
use crate::kernel::{Cast, Cpu, Stores};

fn calm() -> Result<()> {
    Ok(())
}

fn settings(stream_from: usize, workers: usize) -> Settings {
    Settings { cpu: Cpu::all().pop().unwrap(), stream_from, workers: Some(workers) }
}

/// An array in a buffer of its own: what a test needs to reach each of its items.
struct Array {
    bytes: Vec<u8>,
    first: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Array {
    /// An array of random layout: axes in any order, turned, with gaps, and, for sources, with steps of zero.
    fn random(dice: &mut Dice, shape: &[usize], size: usize, source: bool) -> Self {
        let mut strides = vec![0_isize; shape.len()];
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        (1..axes.len()).for_each(|i| axes.swap(i, dice.below(i + 1)));
        if dice.below(3) == 0 {
            axes = (0..shape.len()).rev().collect();
        }
        let mut step = size * dice.pick(&[1, 1, 1, 2, 3]);
        for &axis in &axes {
            strides[axis] = step as isize * dice.pick(&[1, 1, 1, -1]);
            step = step * shape[axis].max(1) + size * dice.pick(&[0, 0, 0, 1, 7]) + dice.pick(&[0, 0, 0, 1]);
            if source && dice.below(8) == 0 {
                strides[axis] = 0;
            }
        }
        Self::over(dice, shape, strides, size)
    }

    fn over(dice: &mut Dice, shape: &[usize], strides: Vec<isize>, size: usize) -> Self {
        let (low, high) = crate::layout::extent(shape, &strides, size).unwrap();
        let shift = dice.below(128);
        let bytes = (0..(high - low) as usize + shift + 64).map(|_| dice.next() as u8).collect();
        Self { bytes, first: shift + low.unsigned_abs(), shape: shape.to_vec(), strides }
    }

    /// The place of each item, in C order.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![self.first as isize];
        for (&len, &stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|&at| (0..len as isize).map(move |i| at + i * stride)).collect();
        }
        places.into_iter().map(|at| at as usize).collect()
    }

    fn ends(dst: &mut Self, src: &Self) -> Ends {
        Ends { dst: dst.bytes.as_mut_ptr().wrapping_add(dst.first), src: src.bytes.as_ptr().wrapping_add(src.first) }
    }
}

/// What the destination's buffer must be after the copy.
fn naive(dst: &Array, src: &Array, dst_size: usize, src_size: usize, convert: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = dst.bytes.clone();
    for (to, from) in dst.places().into_iter().zip(src.places()) {
        bytes[to..to + dst_size].copy_from_slice(&convert(&src.bytes[from..from + src_size]));
    }
    bytes
}

fn random_shape(dice: &mut Dice) -> Vec<usize> {
    let most = dice.pick(&[4, 9, 40]);
    let mut shape: Vec<usize> = (0..dice.below(5)).map(|_| dice.below(most) + usize::from(dice.below(9) > 0)).collect();
    while shape.iter().product::<usize>() > 60_000 {
        shape.pop();
    }
    shape
}

fn rounds(count: usize) -> usize {
    if cfg!(miri) { 3 } else { count }
}

#[test]
fn copies_are_what_the_twin_makes() {
    let mut dice = Dice(11);
    for round in 0..rounds(3000) {
        let size = dice.pick(&[1, 2, 3, 4, 6, 8, 12, 16, 20, 100]);
        let shape = random_shape(&mut dice);
        let mut dst = Array::random(&mut dice, &shape, size, false);
        let src = Array::random(&mut dice, &shape, size, true);
        let expected = naive(&dst, &src, size, size, <[u8]>::to_vec);
        let mut planner = Planner::new(size).unwrap();
        planner.tile(&shape, &dst.strides, &src.strides).unwrap();
        let mut settings = settings(dice.pick(&[0, usize::MAX]), dice.pick(&[1, 2, 3]));
        settings.cpu = dice.pick(&Cpu::all()).as_intels(dice.below(2) == 0);
        let plan = planner.finish(&settings);
        let ends = [Array::ends(&mut dst, &src)];
        // SAFETY: the arrays lie in buffers of their own, which outlive the call.
        unsafe { execute(&plan, &ends, &calm).unwrap() };
        assert!(dst.bytes == expected, "round {round} {plan:?}");
    }
}

#[test]
fn conversions_are_what_the_twin_makes() {
    let mut dice = Dice(12);
    let cast = Cast::new(Number::U16, Number::F32).unwrap();
    let number = |bytes: &[u8]| f32::from(u16::from_le_bytes(bytes.try_into().unwrap())).to_le_bytes().to_vec();
    for round in 0..rounds(1500) {
        let shape = random_shape(&mut dice);
        let mut dst = Array::random(&mut dice, &shape, 4, false);
        let src = Array::random(&mut dice, &shape, 2, true);
        let expected = naive(&dst, &src, 4, 2, number);
        let mut planner = Planner::with_cast(cast);
        planner.tile(&shape, &dst.strides, &src.strides).unwrap();
        let plan = planner.finish(&settings(dice.pick(&[0, usize::MAX]), 2));
        let ends = [Array::ends(&mut dst, &src)];
        // SAFETY: the arrays lie in buffers of their own, which outlive the call.
        unsafe { execute(&plan, &ends, &calm).unwrap() };
        assert!(dst.bytes == expected, "round {round} {plan:?}");
    }
}

#[test]
fn small_copies_are_what_the_twin_makes() {
    let mut dice = Dice(14);
    let number = |bytes: &[u8]| f32::from(u16::from_le_bytes(bytes.try_into().unwrap())).to_le_bytes().to_vec();
    let mut done = 0;
    for round in 0..rounds(3000) {
        let cast = (dice.below(4) == 0).then(|| Cast::new(Number::U16, Number::F32).unwrap());
        let size = dice.pick(&[1, 2, 3, 4, 8, 16, 20]);
        let (dst_size, src_size) = cast.map_or((size, size), |cast| (cast.to_size(), cast.from_size()));
        let shape = random_shape(&mut dice);
        let mut dst = Array::random(&mut dice, &shape, dst_size, false);
        let src = Array::random(&mut dice, &shape, src_size, true);
        let before = dst.bytes.clone();
        let expected = match cast {
            Some(_) => naive(&dst, &src, dst_size, src_size, number),
            None => naive(&dst, &src, dst_size, src_size, <[u8]>::to_vec),
        };
        let ends = Array::ends(&mut dst, &src);
        let (dst_strides, src_strides) = (dst.strides.clone(), &src.strides);
        let pair = Pair { shape: &shape, dst_strides: &dst_strides, src_strides, dst_size, src_size, cast };
        // SAFETY: the arrays lie in buffers of their own, which outlive the call.
        let copied = unsafe { pair.copy_now(dice.pick(&Cpu::all()), ends) };
        assert!(dst.bytes == if copied { expected } else { before }, "round {round} {pair:?}");
        done += usize::from(copied);
    }
    assert!(done > rounds(3000) / 2);
}

/// Tiles side by side in one destination, large enough for several pieces.
fn montage(dice: &mut Dice, tiles: usize, rows: usize, row: usize, workers: usize, stream_from: usize) {
    let mut dst = vec![0_u8; rows * row * tiles + 64];
    let shift = dice.below(64);
    let sources: Vec<Vec<u8>> = (0..tiles).map(|_| (0..rows * row).map(|_| dice.next() as u8).collect()).collect();
    let mut planner = Planner::new(1).unwrap();
    let mut ends = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        planner.tile(&[rows, row], &[(row * tiles) as isize, 1], &[row as isize, 1]).unwrap();
        ends.push(Ends { dst: dst.as_mut_ptr().wrapping_add(shift + i * row), src: source.as_ptr() });
    }
    let plan = planner.finish(&settings(stream_from, workers));
    assert_eq!(plan.nests.len(), 1, "one shape, one nest");
    // SAFETY: the tiles lie side by side in one buffer, the sources in buffers of their own.
    unsafe { execute(&plan, &ends, &calm).unwrap() };
    for (i, source) in sources.iter().enumerate() {
        for (r, expected) in source.chunks_exact(row).enumerate() {
            let at = shift + r * row * tiles + i * row;
            assert!(&dst[at..at + row] == expected, "tile {i} row {r}");
        }
    }
}

#[test]
fn tiles_come_out_side_by_side() {
    let mut dice = Dice(13);
    for workers in [1, 2, 3] {
        for stream_from in [0, usize::MAX] {
            montage(&mut dice, 7, 33, 100 + workers, workers, stream_from);
            if !cfg!(miri) {
                montage(&mut dice, 3, 600, 1000 + workers, workers, stream_from);
                montage(&mut dice, 2, 2, 700_000, workers, stream_from);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no streaming stores")]
fn a_plan_is_plain_data() {
    let plan = |stream_from| {
        let mut planner = Planner::new(4).unwrap();
        // Two pictures of 1024 x 1024 pixels of 4 bytes, side by side in one.
        (0..2).for_each(|_| planner.tile(&[1024, 1024], &[8192, 4], &[4096, 4]).unwrap());
        planner.finish(&settings(stream_from, 1))
    };
    let streamed = plan(0);
    assert_eq!(streamed, plan(0));
    assert_ne!(streamed, plan(usize::MAX));
    let block = streamed.nests[0].block;
    assert_eq!(block.mover, Mover::Rows(Stores::Stream));
    assert_eq!((block.row, block.item.len), (Axis { len: 1024, dst: 8192, src: 4096 }, 4096));
    assert_eq!((streamed.nests[0].units, streamed.nests[0].unit_bytes), (1024, 4096));
    assert_eq!((streamed.tiles.as_slice(), streamed.bytes), ([0, 0].as_slice(), 8 << 20));
    assert_eq!(streamed.pieces(), 8);
    assert_eq!(streamed.cuts[4], Cut { tile: 1, unit: 0 });
}

#[test]
fn axes_are_merged_turned_and_left_out() {
    let nest = |shape: &[usize], dst: &[isize], src: &[isize], size| {
        let mut planner = Planner::new(size).unwrap();
        planner.tile(shape, dst, src).unwrap();
        planner.finish(&settings(usize::MAX, 1)).nests.remove(0)
    };
    let flat = nest(&[3, 1, 4, 5], &[160, 999, 40, 8], &[160, 7, 40, 8], 8);
    assert_eq!((flat.outer.len(), flat.block.row.len, flat.block.item.len), (0, 1, 480));
    let turned = nest(&[3, 1000], &[-1000, 1], &[1000, 1], 1);
    assert_eq!((turned.dst_shift, turned.src_shift, turned.block.row.src), (-2000, 2000, -1000));
    let pixels = nest(&[100, 3], &[3, 1], &[4, 1], 1);
    assert_eq!((pixels.block.mover, pixels.block.size, pixels.block.item.len), (Mover::Items, 3, 100));
    let fill = nest(&[100], &[4], &[0], 4);
    assert_eq!(fill.block.mover, Mover::Fill(Stores::Vector));
    assert_eq!(nest(&[4, 0, 3], &[0, 12, 4], &[0, 12, 4], 4).units, 0);
    // From C order to Fortran order: the rows run where the source is dense.
    let across = nest(&[10, 20, 30], &[1, 10, 200], &[600, 30, 1], 1);
    assert_eq!((across.block.mover, across.block.row.src), (Mover::Items, 1));
}

#[test]
fn geometry_is_checked() {
    let mut planner = Planner::new(8).unwrap();
    assert_eq!(planner.tile(&[2], &[8, 8], &[8]).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(planner.tile(&[1 << 40, 1 << 30], &[8, 8], &[8, 8]).unwrap_err().kind(), Kind::InvalidValue);
    assert!(Planner::new(0).is_err());
}

#[test]
fn nothing_to_do_is_done() {
    let plan = Planner::new(8).unwrap().finish(&settings(0, 4));
    // SAFETY: there is no tile.
    unsafe { execute(&plan, &[], &calm).unwrap() };
    let mut planner = Planner::new(8).unwrap();
    planner.tile(&[0, 5], &[40, 8], &[40, 8]).unwrap();
    let plan = planner.finish(&settings(0, 4));
    let nowhere = Ends { dst: std::ptr::dangling_mut(), src: std::ptr::dangling() };
    // SAFETY: the tile has no items.
    unsafe { execute(&plan, &[nowhere], &calm).unwrap() };
}

#[test]
fn a_check_ends_a_copy_early() {
    let len = if cfg!(miri) { 1 << 10 } else { 256 << 20 };
    let mut dst = vec![0_u8; len];
    let mut planner = Planner::new(1).unwrap();
    let sources = [1_u8; 1];
    for _ in 0..8 {
        planner.tile(&[len], &[1], &[0]).unwrap();
    }
    let plan = planner.finish(&settings(usize::MAX, 1));
    let ends = [Ends { dst: dst.as_mut_ptr(), src: sources.as_ptr() }; 8];
    let stop = || Err(Error::new(Kind::Interrupted, "enough"));
    // SAFETY: one worker writes the same bytes again and again; nobody else has the buffers.
    let outcome = unsafe { execute(&plan, &ends, &stop) };
    assert!(cfg!(miri) || outcome.is_err());
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no streaming stores")]
fn parts_of_large_outputs_are_streamed_once() {
    let settings = settings(24 << 20, 1);
    let part = 1 << 40..(1 << 40) + (1 << 20);
    let stores =
        |part: &std::ops::Range<usize>, whole| settings.for_part([part.clone()], part.len(), whole).stores(part.len());
    assert_ne!(stores(&part, 1 << 20), Stores::Stream, "not part of anything large");
    assert_ne!(stores(&(part.start..part.start + 100), 1 << 30), Stores::Stream, "a small part");
    assert_eq!(stores(&part, 1 << 30), Stores::Stream);
    assert_ne!(stores(&part, 1 << 30), Stores::Stream, "written a moment ago");
    // A few tiles of a large output are a part of it, whose columns lie between those of others.
    let tiles = |places: &[usize]| {
        let places = places.iter().map(|&place| (2 << 40) + place * 4096..(2 << 40) + place * 4096 + 64);
        settings.for_part(places, 4 << 20, 1 << 30).stores(4 << 20)
    };
    assert_eq!(tiles(&[1, 2, 3]), Stores::Stream);
    assert_eq!(tiles(&[4, 5]), Stores::Stream);
    assert_ne!(tiles(&[9, 2]), Stores::Stream, "one of them was written a moment ago");
    (100..110).for_each(|place| assert_eq!(tiles(&[place]), Stores::Stream));
    assert_eq!(tiles(&[2]), Stores::Stream, "a while ago");
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no streaming stores")]
fn sizes_and_workers_follow_the_output() {
    let settings = Settings { workers: None, ..settings(24 << 20, 1) };
    assert_eq!(settings.workers(1 << 20), 1);
    assert!(settings.workers(1 << 30) <= crate::os::cpu::available());
    assert_eq!(Settings { workers: Some(5), ..settings }.workers(10), 5);
    assert_eq!(settings.stores(1000), Stores::Vector);
    assert_eq!(settings.stores(24 << 20), Stores::Stream);
    set_stream_from(Some(77));
    assert_eq!(stream_from(), Ok(77));
    set_stream_from(None);
    assert!(stream_from().unwrap() > 1000);
}
