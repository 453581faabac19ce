//! Arrays joined into one, and canvases, against naive twins; errors in NumPy's words.

use super::*;
use crate::arena::{Arena, Deadline};
use crate::array::{Array, Item};
use crate::dice::Dice;
use crate::element::Number;
use crate::error::{Error, Kind, Result};
use crate::layout::Index;
use std::sync::Arc;

fn arena() -> Arc<Arena> {
    Arena::create_on_heap(16 << 20).unwrap().0
}

/// Items in C order: all that a twin knows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Naive {
    shape: Vec<usize>,
    items: Vec<u32>,
}

impl Naive {
    fn of(array: &Array) -> Self {
        Self { shape: array.shape().to_vec(), items: array.to_vec().unwrap() }
    }

    /// As rows of the items from `axis` on, one for each index of the axes before.
    fn rows(&self, axis: usize) -> impl Iterator<Item = &[u32]> {
        let row: usize = self.shape[axis..].iter().product();
        let rows: usize = self.shape[..axis].iter().product();
        (0..rows).map(move |i| &self.items[i * row..(i + 1) * row])
    }

    fn concatenate(parts: &[Self], axis: usize) -> Self {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let mut rows: Vec<_> = parts.iter().map(|part| part.rows(axis)).collect();
        let count: usize = shape[..axis].iter().product();
        let items = (0..count).flat_map(|_| rows.iter_mut().flat_map(|rows| rows.next().unwrap()).collect::<Vec<_>>());
        let items = items.copied().collect();
        Self { shape, items }
    }

    fn with_axis(mut self, axis: usize) -> Self {
        self.shape.insert(axis, 1);
        self
    }
}

/// An array of random numbers and random layout: axes in any order, turned, with gaps.
fn random(arena: &Arc<Arena>, dice: &mut Dice, shape: &[usize]) -> Array {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    (1..axes.len()).for_each(|i| axes.swap(i, dice.below(i + 1)));
    let mut back = vec![0; axes.len()];
    axes.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    let steps: Vec<isize> = axes.iter().map(|_| dice.pick(&[1, 1, 1, 2, -1, -2])).collect();
    let whole: Vec<usize> = axes.iter().zip(&steps).map(|(&axis, step)| shape[axis] * step.unsigned_abs()).collect();
    let items: Vec<u32> = (0..whole.iter().product::<usize>()).map(|_| dice.next() as u32).collect();
    let every = |&step: &isize| Index::Slice { start: None, stop: None, step };
    let index: Vec<Index> = steps.iter().map(every).collect();
    let array = Array::from_slice(arena, &whole, &items).unwrap();
    array.view(&index).unwrap().transpose(&back).unwrap()
}

fn random_shape(dice: &mut Dice, ndim: usize) -> Vec<usize> {
    (0..ndim).map(|_| dice.pick(&[0, 1, 1, 2, 3, 5, 9])).collect()
}

fn rounds(count: usize) -> usize {
    if cfg!(miri) { 5 } else { count }
}

/// Sometimes an array to write to.
fn random_out(arena: &Arc<Arena>, dice: &mut Dice, shape: &[usize]) -> Option<Array> {
    (dice.below(2) == 0).then(|| random(arena, dice, shape))
}

fn check(joined: Result<Array>, expected: &Naive, out: Option<&Array>) {
    let joined = joined.unwrap();
    assert_eq!(&Naive::of(&joined), expected);
    assert!(out.is_none_or(|out| out.as_ptr() == joined.as_ptr() && &Naive::of(out) == expected));
}

#[test]
fn concatenate_is_what_the_twin_makes() {
    let (arena, mut dice) = (arena(), Dice(21));
    for _ in 0..rounds(300) {
        let ndim = 1 + dice.below(4);
        let (axis, base) = (dice.below(ndim), random_shape(&mut dice, ndim));
        let shapes = (0..1 + dice.below(5)).map(|_| {
            let mut shape = base.clone();
            shape[axis] = dice.below(5);
            shape
        });
        let shapes: Vec<_> = shapes.collect();
        let arrays: Vec<_> = shapes.iter().map(|shape| random(&arena, &mut dice, shape)).collect();
        let (all, parts): (Vec<_>, Vec<_>) = (arrays.iter().collect(), arrays.iter().map(Naive::of).collect());
        let expected = Naive::concatenate(&parts, axis);
        let out = random_out(&arena, &mut dice, &expected.shape);
        let axis = axis as isize - dice.pick(&[0, ndim as isize]);
        check(concatenate(&all, axis, out.as_ref()), &expected, out.as_ref());
        let items: Vec<u32> = parts.into_iter().flat_map(|part| part.items).collect();
        let flat = Naive { shape: vec![items.len()], items };
        let out = random_out(&arena, &mut dice, &flat.shape);
        check(concatenate(&all, None, out.as_ref()), &flat, out.as_ref());
    }
}

#[test]
fn stack_is_what_the_twin_makes() {
    let (arena, mut dice) = (arena(), Dice(22));
    for _ in 0..rounds(200) {
        let ndim = dice.below(4);
        let (axis, shape) = (dice.below(ndim + 1), random_shape(&mut dice, ndim));
        let arrays: Vec<_> = (0..1 + dice.below(5)).map(|_| random(&arena, &mut dice, &shape)).collect();
        let parts: Vec<_> = arrays.iter().map(|array| Naive::of(array).with_axis(axis)).collect();
        let expected = Naive::concatenate(&parts, axis);
        let out = random_out(&arena, &mut dice, &expected.shape);
        check(stack(&arrays.iter().collect::<Vec<_>>(), axis as isize, out.as_ref()), &expected, out.as_ref());
    }
}

/// Random arrays that fit together in a grid of lists, and what they are together.
fn random_grid(arena: &Arc<Arena>, dice: &mut Dice) -> (Vec<Vec<Array>>, Naive) {
    let ndim = 2 + dice.below(2);
    let (before, width) = (random_shape(dice, ndim - 2), 1 + dice.below(6));
    let (mut rows, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..1 + dice.below(3) {
        let (height, mut left, mut row) = (dice.below(4), width, Vec::new());
        while left > 0 {
            let length = 1 + dice.below(left);
            left -= length;
            row.push(random(arena, dice, &[before.as_slice(), &[height, length]].concat()));
        }
        parts.push(Naive::concatenate(&row.iter().map(Naive::of).collect::<Vec<_>>(), ndim - 1));
        rows.push(row);
    }
    (rows, Naive::concatenate(&parts, ndim - 2))
}

#[test]
fn block_is_what_the_twin_makes() {
    let (arena, mut dice) = (arena(), Dice(23));
    for _ in 0..rounds(200) {
        let (rows, expected) = random_grid(&arena, &mut dice);
        let blocks: Vec<Vec<&Array>> = rows.iter().map(|row| row.iter().collect()).collect();
        let out = random_out(&arena, &mut dice, &expected.shape);
        check(block(blocks, out.as_ref()), &expected, out.as_ref());
    }
    // Arrays of fewer axes than lists are deep get axes of one in front.
    let (row, rest) = (random(&arena, &mut dice, &[3]), random(&arena, &mut dice, &[2, 3]));
    let expected = Naive::concatenate(&[Naive::of(&row).with_axis(0), Naive::of(&rest)], 0);
    check(block([[&row], [&rest]], None), &expected, None);
}

#[test]
fn copies_are_stretched() {
    let (arena, mut dice) = (arena(), Dice(24));
    let (to, from) = (random(&arena, &mut dice, &[4, 2, 3]), random(&arena, &mut dice, &[1, 3]));
    copy(&to, &from).unwrap();
    assert_eq!(Naive::of(&to).items, Naive::of(&from).items.repeat(8));
    let error = copy(&to, &random(&arena, &mut dice, &[2])).unwrap_err();
    assert_eq!(error.to_string(), "could not broadcast input array from shape (2,) into shape (4,2,3)");
}

#[test]
fn an_output_may_overlap_its_inputs() {
    let (arena, mut dice) = (arena(), Dice(25));
    for _ in 0..rounds(50) {
        let whole = random(&arena, &mut dice, &[6, 4]);
        let (one, other) = (whole.view(&[(1..3).into()]).unwrap(), whole.view(&[(2..6).into()]).unwrap());
        let expected = Naive::concatenate(&[Naive::of(&one), Naive::of(&other)], 0);
        check(concatenate(&[&one, &other], 0, Some(&whole)), &expected, Some(&whole));
    }
}

#[test]
fn numbers_are_converted_as_numpy_converts_them() {
    let arena = arena();
    let small = Array::from_slice(&arena, &[2], &[1_u16, 65535]).unwrap();
    let large = Array::from_slice(&arena, &[1], &[-2_i32]).unwrap();
    let joined = concatenate(&[&small, &large], 0, None).unwrap();
    assert_eq!(joined.to_vec::<i32>().unwrap(), [1, 65535, -2]);
    let floats = Array::zeros(&arena, &[3], Number::F64).unwrap();
    concatenate(&[&small, &large], 0, Some(&floats)).unwrap();
    assert_eq!(floats.to_vec::<f64>().unwrap(), [1.0, 65535.0, -2.0]);
    let bytes = Array::zeros(&arena, &[3], Number::U8).unwrap();
    let error = concatenate(&[&small, &large], 0, Some(&bytes)).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidType);
    assert!(error.to_string().contains("dtype('int32') to dtype('uint8') according to the rule 'same_kind'"));
    let forced = Options { casting: Casting::Unsafe, workers: Some(1) };
    forced.concatenate(&[&small, &large], 0, Some(&bytes)).unwrap();
    assert_eq!(bytes.to_vec::<u8>().unwrap(), [1, 255, 254]);
    let safe = Options { casting: Casting::Safe, workers: None };
    assert!(
        safe.concatenate(&[&small, &small], None, Some(&Array::zeros(&arena, &[4], Number::I16).unwrap())).is_err()
    );
}

#[test]
fn memory_order_follows_the_inputs() {
    let arena = arena();
    let turned = Array::zeros(&arena, &[3, 2], Number::U8).unwrap().transpose(&[1, 0]).unwrap();
    let joined = concatenate(&[&turned, &turned], 1, None).unwrap();
    assert_eq!((joined.shape(), joined.strides()), (&[2, 6][..], &[1, 2][..]));
    let grid = block([[&turned, &turned]], None).unwrap();
    assert_eq!((grid.shape(), grid.strides()), (&[2, 6][..], &[1, 2][..]));
}

#[test]
fn errors_are_numpys() {
    let arena = arena();
    let zeros = |shape: &[usize]| Array::zeros(&arena, shape, Number::U8).unwrap();
    let (a, b, v, s) = (zeros(&[2, 2]), zeros(&[3, 3]), zeros(&[3]), zeros(&[]));
    let text = |outcome: Result<Array>| outcome.unwrap_err().to_string();
    assert_eq!(text(concatenate(&[], 0, None)), "need at least one array to concatenate");
    assert_eq!(text(concatenate(&[&s, &s], 0, None)), "zero-dimensional arrays cannot be concatenated");
    assert_eq!(text(concatenate(&[&a], -3, None)), "axis -3 is out of bounds for array of dimension 2");
    assert_eq!(
        text(concatenate(&[&a, &b], 0, None)),
        "all the input array dimensions except for the concatenation axis must match exactly, but along dimension 1, the \
         array at index 0 has size 2 and the array at index 1 has size 3"
    );
    assert_eq!(
        text(concatenate(&[&a, &v], 0, None)),
        "all the input arrays must have same number of dimensions, but the array at index 0 has 2 dimension(s) and the \
         array at index 1 has 1 dimension(s)"
    );
    assert!(text(concatenate(&[&a], 0, Some(&b))).starts_with("Output array is the wrong shape"));
    assert_eq!(text(concatenate(&[&a], 0, Some(&v))), "Output array has wrong dimensionality");
    assert_eq!(text(stack(&[], 0, None)), "need at least one array to stack");
    assert_eq!(text(stack(&[&a, &b], 0, None)), "all input arrays must have the same shape");
    assert_eq!(text(stack(&[&a], 3, None)), "axis 3 is out of bounds for array of dimension 3");
    assert_eq!(text(block([[&a, &b]], None)), "Mismatched array shapes in block along axis 1.");
    assert_eq!(text(block(Vec::<&Array>::new(), None)), "List at arrays cannot be empty");
    let readonly = concatenate(&[&a], 0, Some(&a.clone().readonly())).unwrap_err();
    assert_eq!(readonly.kind(), Kind::Misuse);
}

#[test]
fn a_joint_is_plain_data() {
    let arena = arena();
    let zeros = |shape: &[usize]| Array::zeros(&arena, shape, Number::U16).unwrap();
    let arrays = [zeros(&[2, 3]), zeros(&[2, 1])];
    let joint = Joint::concatenate(&arrays, Some(1)).unwrap();
    assert_eq!((joint.shape(), joint == Joint::concatenate(&arrays, Some(-1)).unwrap()), (&[2, 4][..], true));
    assert_ne!(joint, Joint::concatenate(&arrays[..1], Some(1)).unwrap());
    let mut offsets = Vec::new();
    let note = |_: &Array, at: Placement<'_>| {
        offsets.push((at.number, at.offset, at.strides.to_vec()));
        Ok(())
    };
    joint.each(&arrays, &[100, 2], note).unwrap();
    assert_eq!(offsets, [(0, 0, vec![100, 2]), (1, 6, vec![100, 2])]);
    assert!(joint.each(&arrays, &[100], |_, _| Ok(())).is_err());
}

// Canvases

fn tile<T: Item>(arena: &Arc<Arena>, width: usize, value: T) -> Array {
    let tile = Array::zeros(arena, &[2, width], Number::U8).unwrap();
    tile.fill(value).unwrap();
    tile
}

fn row(canvas: &Canvas) -> Vec<u8> {
    canvas.array().view(&[0.into()]).unwrap().to_vec().unwrap()
}

#[test]
fn what_stands_on_a_canvas_is_not_copied() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 6], Number::U8).unwrap();
    let tiles: Vec<_> = (1..=4_u8).map(|value| tile(&arena, 2, value)).collect();
    let put = |numbers: [usize; 3]| {
        canvas.concatenate(&numbers.map(|number| Source::fixed(&tiles[number])), 1, &forever).unwrap()
    };
    assert_eq!((put([0, 1, 2]), row(&canvas)), (3, vec![1, 1, 2, 2, 3, 3]));
    assert_eq!(put([0, 1, 2]), 0);
    assert_eq!((put([0, 3, 2]), row(&canvas)), (1, vec![1, 1, 4, 4, 3, 3]));
    let changing = tiles[..3].iter().map(Source::changing).collect::<Vec<_>>();
    assert_eq!(canvas.concatenate(&changing, 1, &forever).unwrap(), 3);
    assert_eq!(canvas.concatenate(&changing, 1, &forever).unwrap(), 3);
    assert!(canvas.array().is_readonly());
}

#[test]
fn a_block_that_was_used_again_is_another_source() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 2], Number::U8).unwrap();
    for value in 1..=9_u8 {
        // Each lies most likely where the one before lay.
        let tile = tile(&arena, 2, value);
        assert_eq!(canvas.concatenate(&[Source::fixed(&tile)], 1, &forever).unwrap(), 1);
        assert_eq!(row(&canvas), [value; 2]);
    }
}

#[test]
fn a_canvas_that_somebody_else_wrote_to_is_filled_anew() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 2], Number::U8).unwrap();
    let tile = tile(&arena, 2, 5_u8);
    let put = || canvas.concatenate(&[Source::fixed(&tile)], 1, &forever).unwrap();
    assert_eq!((put(), put()), (1, 0));
    // As a forked child has it: the same block, and tiles of its own.
    let hold = canvas.array().hold().clone();
    let other = Surface::<()>::new(hold, 4).unwrap();
    let filling = other.begin(&forever).unwrap();
    filling.touch();
    filling.end().unwrap();
    assert_eq!((put(), put()), (1, 0));
    other.begin(&forever).unwrap().end().unwrap();
    assert_eq!(put(), 0, "it wrote nothing");
}

#[test]
fn a_canvas_is_opened_by_its_head_and_nothing_else_is_one() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 2], Number::U8).unwrap();
    let same = Canvas::open(canvas.head().clone()).unwrap();
    assert_eq!((same.array().shape(), same.array().hold().block()), (&[2, 2][..], canvas.array().hold().block()));
    let tile = tile(&arena, 2, 5_u8);
    let put = |canvas: &Canvas| canvas.concatenate(&[Source::fixed(&tile)], 1, &forever).unwrap();
    // Each knows that the other wrote.
    assert_eq!((put(&canvas), put(&canvas), put(&same), put(&same), put(&canvas)), (1, 0, 1, 0, 1));
    assert_eq!(row(&same), [5, 5]);
    let error = Canvas::open(canvas.array().hold().clone()).err().unwrap();
    assert!(
        matches!(&error, Error::WrongKind(wrong) if wrong.expected == "canvas" && wrong.got.is_none()),
        "{error:?}"
    );
    let (array, block) = (canvas.array(), canvas.array().hold().block());
    drop((canvas, same));
    assert_eq!(array.read::<u8>(&[1, 1]).unwrap(), 5);
    drop(array);
    assert_eq!(arena.take(block).unwrap_err().kind(), Kind::Stale, "it goes with the canvas");
}

#[test]
fn a_canvas_refuses_what_does_not_fit_and_keeps_what_stands() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 4], Number::U8).unwrap();
    let tiles = [tile(&arena, 1, 1_u8), tile(&arena, 3, 2_u8)];
    let good = [Source::fixed(&tiles[0]), Source::fixed(&tiles[1])];
    assert_eq!(canvas.concatenate(&good, 1, &forever).unwrap(), 2);
    let error = |sources: &[Source<'_>]| canvas.concatenate(sources, 1, &forever).unwrap_err();
    assert!(error(&good[..1]).to_string().starts_with("Output array is the wrong shape"));
    let floats = Array::zeros(&arena, &[2, 4], Number::F32).unwrap();
    assert_eq!(error(&[Source::fixed(&floats)]).kind(), Kind::InvalidType);
    assert_eq!(error(&[Source::fixed(&canvas.array())]).kind(), Kind::InvalidValue);
    assert_eq!((canvas.concatenate(&good, 1, &forever).unwrap(), row(&canvas)), (0, vec![1, 2, 2, 2]));
    assert_eq!(canvas.array().copy_from(&floats).unwrap_err().kind(), Kind::Misuse);
}

#[test]
fn a_canvas_is_not_filled_while_it_is_filled() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 2], Number::U8).unwrap();
    let key = Mark { cache: (0, canvas.array().hold().block()), key: b"k".to_vec(), generation: 0 };
    let tile = tile(&arena, 2, 5_u8);
    // Loading happens outside of the lock, so a loader may look at the canvas, and even fill it.
    let load = |wanted: &[usize]| {
        assert_eq!(wanted, [0]);
        canvas.concatenate(&[Source::fixed(&tile)], 1, &forever)?;
        Ok(vec![tile.clone()])
    };
    assert_eq!(canvas.montage(std::slice::from_ref(&key), 1, load, &forever).unwrap(), 0, "it stood there already");
    let surface = Surface::<()>::new(canvas.array().hold().clone(), 4).unwrap();
    let filling = surface.begin(&forever).unwrap();
    assert_eq!(canvas.concatenate(&[Source::fixed(&tile)], 1, &forever).unwrap_err().kind(), Kind::Misuse);
    drop(filling);
    assert_eq!(canvas.concatenate(&[Source::fixed(&tile)], 1, &forever).unwrap(), 0);
}

#[test]
fn a_montage_loads_only_what_does_not_stand() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 6], Number::U8).unwrap();
    let cache = (7, canvas.array().hold().block());
    // The value of a key is as wide as its generation says, and shows key and generation.
    let key = |key: u8, generation: u64| Mark { cache, key: vec![key], generation };
    let put = |marks: &[Mark]| {
        let mut loaded = Vec::new();
        let load = |wanted: &[usize]| {
            loaded.extend_from_slice(wanted);
            let value = |&number: &usize| {
                let Mark { key, generation, .. } = &marks[number];
                tile(&arena, *generation as usize, 10 * key[0] + *generation as u8)
            };
            Ok(wanted.iter().map(value).collect())
        };
        canvas.montage(marks, 1, load, &forever).map(|copied| (copied, loaded, row(&canvas)))
    };
    let all = |copied, loaded: &[usize], row: &[u8]| Ok((copied, loaded.to_vec(), row.to_vec()));
    assert_eq!(put(&[key(1, 2), key(2, 2), key(3, 2)]), all(3, &[0, 1, 2], &[12, 12, 22, 22, 32, 32]));
    assert_eq!(put(&[key(1, 2), key(2, 2), key(3, 2)]), all(0, &[], &[12, 12, 22, 22, 32, 32]));
    // What follows another extent moved; that is known only when what stands before it is here.
    let moved = [key(4, 1), key(2, 2), key(3, 2), key(5, 1)];
    assert_eq!(put(&moved), all(4, &[0, 3, 1, 2], &[41, 22, 22, 32, 32, 51]));
    assert_eq!(put(&[key(1, 1), key(2, 3), key(3, 2)]), all(3, &[0, 1, 2], &[11, 23, 23, 23, 32, 32]));
    assert_eq!(put(&[key(1, 1), key(2, 3), key(4, 2)]), all(1, &[2], &[11, 23, 23, 23, 42, 42]));
    let error = put(&[key(1, 1), key(2, 3)]).unwrap_err();
    assert!(error.to_string().contains("the values are 4 long along axis 1"));
    assert_eq!(put(&[key(1, 1), key(2, 3), key(4, 2)]), all(0, &[], &[11, 23, 23, 23, 42, 42]));
    let failed = canvas.montage(&[key(9, 6)], 1, |_| Err(Error::new(Kind::Stale, "gone")), &forever);
    assert_eq!(failed.unwrap_err().kind(), Kind::Stale);
    let short = canvas.montage(&[key(9, 6)], 1, |_| Ok(vec![]), &forever);
    assert!(short.unwrap_err().to_string().contains("one for each number"));
    assert!(canvas.montage(&[], 2, |_| Ok(vec![]), &forever).unwrap_err().to_string().contains("axis 2"));
}

#[test]
fn an_empty_montage_is_that_of_an_empty_canvas() {
    let (arena, forever) = (arena(), Deadline::never());
    let canvas = Canvas::new(&arena, &[2, 0], Number::U8).unwrap();
    assert_eq!(canvas.montage(&[], 1, |_| Ok(vec![]), &forever), Ok(0));
}
