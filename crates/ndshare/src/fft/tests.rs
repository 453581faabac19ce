//! Plans against a naive twin: sums of products in double precision, one output at a time.

use super::*;
use crate::dice::Dice;
use crate::error::{Error, Kind, Result};
use crate::prim::{AtomicU32, Ordering};
use realfft::num_complex::Complex;
use std::f64::consts::TAU;

type Number = Complex<f64>;

fn calm() -> Result<()> {
    Ok(())
}

/// Items of an array with any strides, in a buffer of their own that is full of other bytes.
struct Buffer {
    bytes: Vec<u8>,
    first: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
    element: Element,
}

impl Buffer {
    /// Axes in any order, turned, with gaps, at any address.
    fn random(dice: &mut Dice, shape: &[usize], element: Element) -> Self {
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        (1..axes.len()).for_each(|i| axes.swap(i, dice.below(i + 1)));
        let (mut strides, mut step, mut first) = (vec![0; shape.len()], element.size(), 0);
        let start = dice.below(3);
        for &axis in &axes {
            step *= dice.pick(&[1, 1, 2]);
            let turned = dice.below(4) == 0;
            strides[axis] = if turned { -(step as isize) } else { step as isize };
            first += if turned { step * shape[axis].saturating_sub(1) } else { 0 };
            step = step * shape[axis].max(1) + dice.pick(&[0, 0, element.size(), 3]);
        }
        let bytes = (0..step + start).map(|_| dice.next() as u8).collect();
        Self { bytes, first: first + start, shape: shape.to_vec(), strides, element }
    }

    fn array(&mut self) -> Array<'_> {
        Array { data: self.bytes.as_mut_ptr().wrapping_add(self.first), strides: &self.strides }
    }

    fn place(&self, index: &[usize]) -> usize {
        let offset = index.iter().zip(&self.strides).map(|(&i, &stride)| i as isize * stride).sum::<isize>();
        self.first.checked_add_signed(offset).unwrap()
    }

    fn get(&self, index: &[usize]) -> Number {
        let at = &self.bytes[self.place(index)..];
        let single = |i: usize| f64::from(f32::from_ne_bytes(at[4 * i..4 * i + 4].try_into().unwrap()));
        let double = |i: usize| f64::from_ne_bytes(at[8 * i..8 * i + 8].try_into().unwrap());
        match self.element {
            Element::U8 => f64::from(at[0]).into(),
            Element::I8 => f64::from(at[0].cast_signed()).into(),
            Element::U16 => f64::from(u16::from_ne_bytes([at[0], at[1]])).into(),
            Element::I16 => f64::from(i16::from_ne_bytes([at[0], at[1]])).into(),
            Element::U32 => f64::from(u32::from_ne_bytes(at[..4].try_into().unwrap())).into(),
            Element::I32 => f64::from(i32::from_ne_bytes(at[..4].try_into().unwrap())).into(),
            Element::U64 => (u64::from_ne_bytes(at[..8].try_into().unwrap()) as f64).into(),
            Element::I64 => (i64::from_ne_bytes(at[..8].try_into().unwrap()) as f64).into(),
            Element::F32 => single(0).into(),
            Element::F64 => double(0).into(),
            Element::C64 => Complex::new(single(0), single(1)),
            Element::C128 => Complex::new(double(0), double(1)),
        }
    }

    /// Writes floats between -1 and 1; other items keep their random bytes.
    fn set_floats(&mut self, dice: &mut Dice) {
        let (element, parts) = (self.element, if self.element.is_complex() { 2 } else { 1 });
        for index in indices(&self.shape.clone()) {
            let place = self.place(&index);
            for part in 0..parts {
                let value = dice.next() as i32 as f64 / f64::from(1 << 30);
                match element {
                    Element::F32 | Element::C64 => {
                        self.bytes[place + 4 * part..][..4].copy_from_slice(&(value as f32).to_ne_bytes());
                    }
                    Element::F64 | Element::C128 => {
                        self.bytes[place + 8 * part..][..8].copy_from_slice(&value.to_ne_bytes());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// All indices of a shape, in C order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &length in shape {
        all = all.iter().flat_map(|head| (0..length).map(|i| [&head[..], &[i]].concat())).collect();
    }
    all
}

/// A whole array of numbers, for the twin.
#[derive(Clone)]
struct Grid {
    shape: Vec<usize>,
    numbers: Vec<Number>,
}

impl Grid {
    fn of(buffer: &Buffer) -> Self {
        let numbers = indices(&buffer.shape).iter().map(|index| buffer.get(index)).collect();
        Self { shape: buffer.shape.clone(), numbers }
    }

    fn get(&self, index: &[usize]) -> Number {
        let is_inside = index.iter().zip(&self.shape).all(|(i, length)| i < length);
        let place = index.iter().zip(&self.shape).fold(0, |place, (i, length)| place * length + i);
        if is_inside { self.numbers[place] } else { Complex::ZERO }
    }

    /// Transforms one axis to `kept` items, from whatever `item` says that a line's items are.
    fn transform(
        &self,
        axis: usize,
        length: usize,
        kept: usize,
        sign: f64,
        item: impl Fn(&dyn Fn(usize) -> Number, usize) -> Number,
    ) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = kept;
        let at = |index: &[usize], i: usize| self.get(&[&index[..axis], &[i], &index[axis + 1..]].concat());
        let places = indices(&shape);
        let numbers = places.iter().map(|index| {
            let turn = |i: usize| Complex::cis(sign * TAU * ((i * index[axis]) % length) as f64 / length as f64);
            let read = |i: usize| at(index, i);
            (0..length).map(|i| item(&read, i) * turn(i)).sum()
        });
        Self { numbers: numbers.collect(), shape }
    }
}

/// The naive twin.
fn twin(spec: &Spec, input: &Buffer, scale: f64) -> Grid {
    let sign = if spec.forward { -1.0 } else { 1.0 };
    let mut grid = Grid::of(input);
    let last = spec.axes.len() - 1;
    for place in 0..last {
        grid = grid.transform(spec.axes[place], spec.lengths[place], spec.lengths[place], sign, |read, i| read(i));
    }
    let (axis, length) = (spec.axes[last], spec.lengths[last]);
    let kept = if spec.family == Family::ToHalf { length / 2 + 1 } else { length };
    let is_real = spec.family == Family::ToReal;
    grid = grid.transform(axis, length, kept, sign, |read, i| hermitian(read, i, length, is_real));
    grid.numbers.iter_mut().for_each(|number| *number *= scale);
    if is_real {
        grid.numbers.iter_mut().for_each(|number| number.im = 0.0);
    }
    grid
}

fn hermitian(read: &dyn Fn(usize) -> Number, i: usize, length: usize, is_real: bool) -> Number {
    match i {
        _ if !is_real => read(i),
        0 => read(0).re.into(),
        _ if 2 * i == length => read(i).re.into(),
        _ if 2 * i < length => read(i),
        _ => read(length - i).conj(),
    }
}

fn norm(numbers: impl Iterator<Item = Number>) -> f64 {
    numbers.map(|number| number.norm_sqr()).sum::<f64>().sqrt()
}

/// Runs a spec on random arrays and compares with the twin.
fn compare(dice: &mut Dice, spec: &Spec, workers: usize) {
    let mut input = Buffer::random(dice, &spec.shape, spec.input);
    input.set_floats(dice);
    let mut output = Buffer::random(dice, &spec.result_shape(), spec.output());
    let scale = dice.pick(&[1.0, 0.25, 3.0]);
    let before = (input.bytes.clone(), output.bytes.clone());
    let plan = Plan::new(spec.clone()).unwrap();
    // SAFETY: both buffers have the shapes that the spec asks for, and nobody else has them.
    unsafe { plan.run(input.array(), output.array(), scale, Some(workers), &calm).unwrap() };
    let expected = twin(spec, &input, scale);
    let places = indices(&output.shape);
    let error = norm(places.iter().map(|index| output.get(index) - expected.get(index)));
    let size = norm(expected.numbers.iter().copied());
    let epsilon = if spec.double { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let bound = 4.0 * epsilon * (2.0 + (spec.points().max(1) as f64).log2());
    assert!(error <= bound * size, "{spec:?}: {error:e} of {size:e}");
    assert_eq!(input.bytes, before.0, "{spec:?} changed its input");
    untouched(&output, &before.1, &places);
}

/// Bytes beside the items are as they were.
fn untouched(output: &Buffer, before: &[u8], places: &[Vec<usize>]) {
    let mut expected = before.to_vec();
    for index in places {
        let bytes = output.place(index)..output.place(index) + output.element.size();
        expected[bytes.clone()].copy_from_slice(&output.bytes[bytes]);
    }
    assert!(output.bytes == expected, "bytes beside the result have changed");
}

const REAL: [Element; 10] = [
    Element::U8,
    Element::I8,
    Element::U16,
    Element::I16,
    Element::U32,
    Element::I32,
    Element::U64,
    Element::I64,
    Element::F32,
    Element::F64,
];
const ALL: [Element; 12] = [
    Element::U8,
    Element::I8,
    Element::U16,
    Element::I16,
    Element::U32,
    Element::I32,
    Element::U64,
    Element::I64,
    Element::F32,
    Element::F64,
    Element::C64,
    Element::C128,
];
const FAMILIES: [Family; 3] = [Family::Complex, Family::ToHalf, Family::ToReal];

#[test]
fn every_length_in_every_family() {
    let mut dice = Dice(1);
    for length in 1..=128 {
        for family in FAMILIES {
            for double in [false, true] {
                let forward = dice.below(2) == 0;
                let input = match family {
                    Family::Complex => dice.pick(&ALL),
                    Family::ToHalf => dice.pick(&REAL),
                    Family::ToReal => dice.pick(&[Element::C64, Element::C128, Element::F32]),
                };
                let there = if family == Family::ToReal { length / 2 + 1 } else { length };
                let shape = vec![dice.pick(&[1, 3, 17]), there];
                compare(
                    &mut dice,
                    &Spec { family, forward, input, double, shape, axes: vec![1], lengths: vec![length] },
                    1,
                );
            }
        }
    }
}

#[test]
fn any_rank_any_axes_any_padding() {
    let mut dice = Dice(2);
    for _ in 0..300 {
        let rank = 1 + dice.below(4);
        let shape: Vec<usize> = (0..rank).map(|_| 1 + dice.below(7)).collect();
        let mut axes: Vec<usize> = (0..rank).collect();
        (1..rank).for_each(|i| axes.swap(i, dice.below(i + 1)));
        axes.truncate(1 + dice.below(rank));
        let family = dice.pick(&FAMILIES);
        let lengths = axes.iter().map(|&axis| (shape[axis] + dice.below(5)).saturating_sub(2).max(1)).collect();
        let input = dice.pick(if family == Family::ToHalf { &REAL } else { &ALL[..] });
        let (forward, double) = (dice.below(2) == 0, dice.below(2) == 0);
        compare(&mut dice, &Spec { family, forward, input, double, shape, axes, lengths }, 1);
    }
}

#[test]
fn many_workers_and_tiles() {
    let mut dice = Dice(3);
    for axes in [vec![0], vec![1], vec![2], vec![2, 1], vec![0, 2]] {
        for family in FAMILIES {
            let shape = vec![33, 40, 35];
            let lengths = axes.iter().map(|&axis| shape[axis]).collect();
            let spec =
                Spec { family, forward: true, input: Element::F32, double: false, shape, axes: axes.clone(), lengths };
            compare(&mut dice, &spec, 3);
        }
    }
}

/// Planes that the vertical engine takes, with other axes before and after them, cropped and padded.
#[test]
fn planes_among_other_axes() {
    let mut dice = Dice(6);
    for _ in 0..60 {
        let shape = vec![1 + dice.below(3), 12 + dice.below(20), 1 + dice.below(2), 16 + dice.below(20)];
        let mut axes = dice.pick(&[[1, 3, 0], [3, 1, 0], [0, 1, 3], [0, 3, 1], [2, 1, 3]]).to_vec();
        axes.drain(..dice.below(2));
        let family = dice.pick(&FAMILIES);
        let lengths = axes.iter().map(|&axis| (shape[axis] + dice.below(9)).saturating_sub(4).max(1)).collect();
        let input = dice.pick(if family == Family::ToHalf { &REAL } else { &ALL[..] });
        let (forward, double) = (dice.below(2) == 0, dice.below(2) == 0);
        let workers = dice.pick(&[1, 3]);
        compare(&mut dice, &Spec { family, forward, input, double, shape, axes, lengths }, workers);
    }
}

#[test]
fn arrays_without_items() {
    let mut dice = Dice(4);
    let (family, forward, input, double) = (Family::Complex, true, Element::F64, true);
    let spec = Spec { family, forward, input, double, shape: vec![0, 4], axes: vec![1], lengths: vec![4] };
    compare(&mut dice, &spec, 2);
    // What is padded from nothing is zero.
    let spec = Spec { shape: vec![3, 0], axes: vec![1], ..spec };
    let mut output = Buffer::random(&mut dice, &[3, 4], Element::C128);
    let mut input = Buffer::random(&mut dice, &[3, 0], Element::F64);
    let plan = Plan::new(spec).unwrap();
    // SAFETY: as in `compare`.
    unsafe { plan.run(input.array(), output.array(), 1.0, None, &calm).unwrap() };
    assert!(indices(&[3, 4]).iter().all(|index| output.get(index) == Complex::ZERO));
}

#[test]
fn what_is_not_finite_stays_so() {
    for (length, family) in [(8, Family::Complex), (11, Family::ToHalf), (12, Family::ToReal)] {
        for bad in [f32::NAN, f32::INFINITY] {
            let there = if family == Family::ToReal { length / 2 + 1 } else { length };
            let spec = Spec {
                family,
                forward: true,
                input: Element::F32,
                double: false,
                shape: vec![there],
                axes: vec![0],
                lengths: vec![length],
            };
            let mut dice = Dice(5);
            let mut input = Buffer::random(&mut dice, &spec.shape, spec.input);
            input.set_floats(&mut dice);
            let place = input.place(&[2]);
            input.bytes[place..place + 4].copy_from_slice(&bad.to_ne_bytes());
            let mut output = Buffer::random(&mut dice, &spec.result_shape(), spec.output());
            let plan = Plan::new(spec).unwrap();
            // SAFETY: as in `compare`.
            unsafe { plan.run(input.array(), output.array(), 1.0, None, &calm).unwrap() };
            assert!(indices(&output.shape).iter().all(|index| !output.get(index).is_finite()));
        }
    }
}

#[test]
fn impossible_specs_are_refused() {
    let good = Spec {
        family: Family::ToHalf,
        forward: true,
        input: Element::U16,
        double: false,
        shape: vec![4, 6],
        axes: vec![0, 1],
        lengths: vec![4, 6],
    };
    assert!(Plan::new(good.clone()).is_ok());
    let bad = [
        Spec { axes: vec![0, 0], ..good.clone() },
        Spec { axes: vec![0, 2], ..good.clone() },
        Spec { axes: vec![], lengths: vec![], ..good.clone() },
        Spec { lengths: vec![4], ..good.clone() },
        Spec { lengths: vec![4, 0], ..good.clone() },
        Spec { input: Element::C64, ..good },
    ];
    for spec in bad {
        assert!(Plan::new(spec).is_err());
    }
}

#[test]
fn a_check_ends_a_transform() {
    let shape = vec![1 << 11, 1 << 12];
    let spec = Spec {
        family: Family::Complex,
        forward: true,
        input: Element::C128,
        double: true,
        shape: shape.clone(),
        axes: vec![0, 1],
        lengths: shape.clone(),
    };
    let plan = Plan::new(spec).unwrap();
    let mut memory = vec![0_u128; 1 << 23];
    let mut result = vec![0_u128; 1 << 23];
    let strides = [1 << 16, 16];
    let (from, into) = (memory.as_mut_ptr().cast(), result.as_mut_ptr().cast());
    let (from, into) = (Array { data: from, strides: &strides }, Array { data: into, strides: &strides });
    let looks = AtomicU32::new(0);
    let check = || {
        looks.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(Kind::Interrupted, "enough"))
    };
    // A look comes 50 ms after the beginning of a pass; one that was shorter needed none, and is done.
    for _ in 0..100 {
        // SAFETY: both buffers have the shape that the spec asks for.
        let done = unsafe { plan.run(from, into, 1.0, Some(2), &check) };
        if looks.load(Ordering::SeqCst) > 0 {
            assert_eq!(done.unwrap_err().kind(), Kind::Interrupted);
            return;
        }
        done.unwrap();
    }
    panic!("none of a hundred passes lasted 50 ms; make them larger");
}

#[test]
fn threads_transform_at_once() {
    std::thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let mut dice = Dice(seed);
                for length in [12, 30, 64] {
                    let (shape, axes, lengths) = (vec![20, length], vec![0, 1], vec![20, length]);
                    let (family, input) = (Family::ToHalf, Element::U16);
                    compare(&mut dice, &Spec { family, forward: true, input, double: false, shape, axes, lengths }, 3);
                }
            });
        }
    });
}
