//! Plans against a naive twin: sums of products in double precision, one output at a time.

use super::*;
use crate::arena::Arena;
use crate::array::Array;
use crate::dice::Dice;
use crate::element::Number;
use crate::error::{Error, Kind, Result};
use crate::prim::{AtomicU32, Ordering};
use realfft::num_complex::Complex;
use std::f64::consts::TAU;

type Value = Complex<f64>;

fn calm() -> Result<()> {
    Ok(())
}

/// Items of an array with any strides, in a buffer of their own that is full of other bytes.
struct Buffer {
    bytes: Vec<u8>,
    first: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
    number: Number,
}

impl Buffer {
    /// Axes in any order, turned, with gaps, at any address.
    fn random(dice: &mut Dice, shape: &[usize], number: Number) -> Self {
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        (1..axes.len()).for_each(|i| axes.swap(i, dice.below(i + 1)));
        let (mut strides, mut step, mut first) = (vec![0; shape.len()], number.size(), 0);
        let start = dice.below(3);
        for &axis in &axes {
            step *= dice.pick(&[1, 1, 2]);
            let turned = dice.below(4) == 0;
            strides[axis] = if turned { -(step as isize) } else { step as isize };
            first += if turned { step * shape[axis].saturating_sub(1) } else { 0 };
            step = step * shape[axis].max(1) + dice.pick(&[0, 0, number.size(), 3]);
        }
        let bytes = (0..step + start).map(|_| dice.next() as u8).collect();
        Self { bytes, first: first + start, shape: shape.to_vec(), strides, number }
    }

    fn array(&mut self) -> RawArray<'_> {
        RawArray { data: self.bytes.as_mut_ptr().wrapping_add(self.first), strides: &self.strides }
    }

    fn place(&self, index: &[usize]) -> usize {
        let offset = index.iter().zip(&self.strides).map(|(&i, &stride)| i as isize * stride).sum::<isize>();
        self.first.checked_add_signed(offset).unwrap()
    }

    fn get(&self, index: &[usize]) -> Value {
        let at = &self.bytes[self.place(index)..];
        let single = |i: usize| f64::from(f32::from_ne_bytes(at[4 * i..4 * i + 4].try_into().unwrap()));
        let double = |i: usize| f64::from_ne_bytes(at[8 * i..8 * i + 8].try_into().unwrap());
        match self.number {
            Number::Bool | Number::U8 => f64::from(at[0]).into(),
            Number::I8 => f64::from(at[0].cast_signed()).into(),
            Number::U16 => f64::from(u16::from_ne_bytes([at[0], at[1]])).into(),
            Number::I16 => f64::from(i16::from_ne_bytes([at[0], at[1]])).into(),
            Number::U32 => f64::from(u32::from_ne_bytes(at[..4].try_into().unwrap())).into(),
            Number::I32 => f64::from(i32::from_ne_bytes(at[..4].try_into().unwrap())).into(),
            Number::U64 => (u64::from_ne_bytes(at[..8].try_into().unwrap()) as f64).into(),
            Number::I64 => (i64::from_ne_bytes(at[..8].try_into().unwrap()) as f64).into(),
            Number::F32 => single(0).into(),
            Number::F64 => double(0).into(),
            Number::C64 => Complex::new(single(0), single(1)),
            Number::C128 => Complex::new(double(0), double(1)),
            _ => unreachable!("not read"),
        }
    }

    /// Writes floats between -1 and 1; other items keep their random bytes.
    fn set_floats(&mut self, dice: &mut Dice) {
        let (number, parts) = (self.number, if self.number.is_complex() { 2 } else { 1 });
        for index in indices(&self.shape.clone()) {
            let place = self.place(&index);
            for part in 0..parts {
                let value = dice.next() as i32 as f64 / f64::from(1 << 30);
                match number {
                    Number::F32 | Number::C64 => {
                        self.bytes[place + 4 * part..][..4].copy_from_slice(&(value as f32).to_ne_bytes());
                    }
                    Number::F64 | Number::C128 => {
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
    numbers: Vec<Value>,
}

impl Grid {
    fn of(buffer: &Buffer) -> Self {
        let numbers = indices(&buffer.shape).iter().map(|index| buffer.get(index)).collect();
        Self { shape: buffer.shape.clone(), numbers }
    }

    fn get(&self, index: &[usize]) -> Value {
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
        item: impl Fn(&dyn Fn(usize) -> Value, usize) -> Value,
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

fn hermitian(read: &dyn Fn(usize) -> Value, i: usize, length: usize, is_real: bool) -> Value {
    match i {
        _ if !is_real => read(i),
        0 => read(0).re.into(),
        _ if 2 * i == length => read(i).re.into(),
        _ if 2 * i < length => read(i),
        _ => read(length - i).conj(),
    }
}

fn magnitude(numbers: impl Iterator<Item = Value>) -> f64 {
    numbers.map(|number| number.norm_sqr()).sum::<f64>().sqrt()
}

/// The transform of several axes of a family.
fn transform_of(family: Family, is_forward: bool) -> Transform {
    let is_it = |transform: &&Transform| {
        (transform.family(), transform.is_forward()) == (family, is_forward) && transform.name().ends_with('n')
    };
    *Transform::ALL.iter().find(is_it).unwrap()
}

fn spec_of(
    (family, forward): (Family, bool),
    input: Number,
    double: bool,
    shape: &[usize],
    axes: &[usize],
    lengths: &[usize],
) -> Spec {
    let result = match (family == Family::ToReal, double) {
        (false, false) => Number::C64,
        (false, true) => Number::C128,
        (true, false) => Number::F32,
        (true, true) => Number::F64,
    };
    let [axes, lengths] = [axes, lengths].map(|list| list.iter().map(|item| item.cast_signed()).collect::<Vec<_>>());
    let options =
        Options { axes: Axes::These(&axes), lengths: Some(&lengths), result: Some(result), ..Options::default() };
    Spec::new(transform_of(family, forward), shape, input, &options).unwrap()
}

/// Runs a spec, scaled in some way, on random arrays and compares with the twin.
fn compare(dice: &mut Dice, spec: &Spec, workers: usize) {
    let norm = dice.pick(&[Norm::Backward, Norm::Ortho, Norm::Forward]);
    let points: f64 = spec.lengths.iter().map(|&length| length as f64).product();
    let scale = match norm {
        Norm::Ortho => points.sqrt().recip(),
        _ if (norm == Norm::Forward) == spec.forward => points.recip(),
        _ => 1.0,
    };
    let spec = &Spec { norm, ..spec.clone() };
    let mut input = Buffer::random(dice, &spec.shape, spec.input);
    input.set_floats(dice);
    let mut output = Buffer::random(dice, &spec.result_shape(), spec.output());
    let before = (input.bytes.clone(), output.bytes.clone());
    let plan = Plan::new(spec.clone());
    // SAFETY: both buffers have the shapes that the spec asks for, and nobody else has them.
    unsafe { plan.run_raw(input.array(), output.array(), Some(workers), &calm).unwrap() };
    let expected = twin(spec, &input, scale);
    let places = indices(&output.shape);
    let error = magnitude(places.iter().map(|index| output.get(index) - expected.get(index)));
    let size = magnitude(expected.numbers.iter().copied());
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
        let bytes = output.place(index)..output.place(index) + output.number.size();
        expected[bytes.clone()].copy_from_slice(&output.bytes[bytes]);
    }
    assert!(output.bytes == expected, "bytes beside the result have changed");
}

const REAL: [Number; 11] = [
    Number::Bool,
    Number::U8,
    Number::I8,
    Number::U16,
    Number::I16,
    Number::U32,
    Number::I32,
    Number::U64,
    Number::I64,
    Number::F32,
    Number::F64,
];
/// All that is transformed.
fn readable() -> Vec<Number> {
    [&REAL[..], &[Number::C64, Number::C128]].concat()
}

const FAMILIES: [Family; 3] = [Family::Complex, Family::ToHalf, Family::ToReal];

#[test]
fn every_length_in_every_family() {
    let mut dice = Dice(1);
    for length in 1..=128 {
        for family in FAMILIES {
            for double in [false, true] {
                let forward = dice.below(2) == 0;
                let input = match family {
                    Family::Complex => dice.pick(&readable()),
                    Family::ToHalf => dice.pick(&REAL),
                    Family::ToReal => dice.pick(&[Number::C64, Number::C128, Number::F32]),
                };
                let there = if family == Family::ToReal { length / 2 + 1 } else { length };
                let shape = vec![dice.pick(&[1, 3, 17]), there];
                compare(&mut dice, &spec_of((family, forward), input, double, &shape, &[1], &[length]), 1);
            }
        }
    }
}

#[test]
fn few_lines_that_are_not_short() {
    let mut dice = Dice(8);
    // Whole rows by vectors, and what remains to lines of one number after another.
    for length in [255, 256, 300, 768] {
        for family in FAMILIES {
            for double in [false, true] {
                // Numbers of either sign: a long sum of others is rounded by more in the twin.
                let input = dice.pick(if family == Family::ToReal { &[Number::C64, Number::C128] } else { &REAL[9..] });
                let whole = if family == Family::ToReal { length / 2 + 1 } else { length };
                let there = whole - dice.pick(&[0, 0, 0, 7]);
                let shapes = [vec![there], vec![3, there], vec![there, 1], vec![there, 2]];
                let shape = &shapes[dice.below(4)];
                let axis = shape.iter().position(|&extent| extent == there).unwrap();
                let spec = spec_of((family, dice.below(2) == 0), input, double, shape, &[axis], &[length]);
                let workers = dice.pick(&[1, 2]);
                compare(&mut dice, &spec, workers);
            }
        }
    }
    let long = spec_of((Family::Complex, false), Number::C64, false, &[4900], &[0], &[4913]);
    compare(&mut dice, &long, 2);
    let told = |length: usize| {
        Plan::new(spec_of((Family::Complex, true), Number::C64, false, &[3, length], &[1], &[length])).to_string()
    };
    assert!(told(4913).contains("one long line as a plane"), "{}", told(4913));
    assert!(told(2048).contains("one row at once"), "{}", told(2048));
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
        let lengths: Vec<_> = axes.iter().map(|&axis| (shape[axis] + dice.below(5)).saturating_sub(2).max(1)).collect();
        let input = dice.pick(&if family == Family::ToHalf { REAL.to_vec() } else { readable() });
        let (forward, double) = (dice.below(2) == 0, dice.below(2) == 0);
        compare(&mut dice, &spec_of((family, forward), input, double, &shape, &axes, &lengths), 1);
    }
}

#[test]
fn many_workers_and_tiles() {
    let mut dice = Dice(3);
    for axes in [vec![0], vec![1], vec![2], vec![2, 1], vec![0, 2]] {
        for family in FAMILIES {
            let shape = vec![33, 40, 35];
            let lengths: Vec<_> = axes.iter().map(|&axis| shape[axis]).collect();
            compare(&mut dice, &spec_of((family, true), Number::F32, false, &shape, &axes, &lengths), 3);
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
        let lengths: Vec<_> = axes.iter().map(|&axis| (shape[axis] + dice.below(9)).saturating_sub(4).max(1)).collect();
        let input = dice.pick(&if family == Family::ToHalf { REAL.to_vec() } else { readable() });
        let (forward, double) = (dice.below(2) == 0, dice.below(2) == 0);
        let workers = dice.pick(&[1, 3]);
        compare(&mut dice, &spec_of((family, forward), input, double, &shape, &axes, &lengths), workers);
    }
}

#[test]
fn arrays_without_items() {
    let mut dice = Dice(4);
    let spec = |shape: &[usize]| spec_of((Family::Complex, true), Number::F64, true, shape, &[1], &[4]);
    compare(&mut dice, &spec(&[0, 4]), 2);
    // What is padded from nothing is zero.
    let mut output = Buffer::random(&mut dice, &[3, 4], Number::C128);
    let mut input = Buffer::random(&mut dice, &[3, 0], Number::F64);
    let plan = Plan::new(spec(&[3, 0]));
    // SAFETY: as in `compare`.
    unsafe { plan.run_raw(input.array(), output.array(), None, &calm).unwrap() };
    assert!(indices(&[3, 4]).iter().all(|index| output.get(index) == Complex::ZERO));
}

/// The engines of planes and of lines, where an array has nothing of what a plan pads.
#[test]
fn what_is_padded_from_nothing_is_zero_in_every_engine() {
    let mut dice = Dice(11);
    for family in FAMILIES {
        for (shape, axes, lengths) in [
            (vec![0, 32], vec![0, 1], vec![32, 32]),
            (vec![32, 0], vec![0, 1], vec![32, 32]),
            (vec![3, 0, 5], vec![1, 2], vec![20, 24]),
            (vec![16, 0], vec![1], vec![128]),
            (vec![0], vec![0], vec![4913]),
        ] {
            let spec = spec_of((family, family != Family::ToReal), Number::F32, false, &shape, &axes, &lengths);
            let mut input = Buffer::random(&mut dice, &shape, Number::F32);
            let mut output = Buffer::random(&mut dice, &spec.result_shape(), spec.output());
            // SAFETY: as in `compare`.
            unsafe { Plan::new(spec).run_raw(input.array(), output.array(), Some(2), &calm).unwrap() };
            let is_zero = |index: &Vec<usize>| output.get(index) == Complex::ZERO;
            assert!(indices(&output.shape).iter().all(is_zero), "{family:?} {shape:?}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for (length, family) in [(8, Family::Complex), (11, Family::ToHalf), (12, Family::ToReal)] {
        for bad in [f32::NAN, f32::INFINITY] {
            let there = if family == Family::ToReal { length / 2 + 1 } else { length };
            let spec = spec_of((family, true), Number::F32, false, &[there], &[0], &[length]);
            let mut dice = Dice(5);
            let mut input = Buffer::random(&mut dice, &spec.shape, spec.input);
            input.set_floats(&mut dice);
            let place = input.place(&[2]);
            input.bytes[place..place + 4].copy_from_slice(&bad.to_ne_bytes());
            let mut output = Buffer::random(&mut dice, &spec.result_shape(), spec.output());
            let plan = Plan::new(spec);
            // SAFETY: as in `compare`.
            unsafe { plan.run_raw(input.array(), output.array(), None, &calm).unwrap() };
            assert!(indices(&output.shape).iter().all(|index| !output.get(index).is_finite()));
        }
    }
}

#[test]
fn a_check_ends_a_transform() {
    let shape = vec![1 << 11, 1 << 12];
    let spec = spec_of((Family::Complex, true), Number::C128, true, &shape, &[0, 1], &shape);
    let plan = Plan::new(spec);
    let mut memory = vec![0_u128; 1 << 23];
    let mut result = vec![0_u128; 1 << 23];
    let strides = [1 << 16, 16];
    let (from, into) = (memory.as_mut_ptr().cast(), result.as_mut_ptr().cast());
    let (from, into) = (RawArray { data: from, strides: &strides }, RawArray { data: into, strides: &strides });
    let looks = AtomicU32::new(0);
    let check = || {
        looks.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(Kind::Interrupted, "enough"))
    };
    // A look comes 50 ms after the beginning of a pass; one that was shorter needed none, and is done.
    for _ in 0..100 {
        // SAFETY: both buffers have the shape that the spec asks for.
        let done = unsafe { plan.run_raw(from, into, Some(2), &check) };
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
                    let (family, shape) = ((Family::ToHalf, true), [20, length]);
                    compare(&mut dice, &spec_of(family, Number::U16, false, &shape, &[0, 1], &shape), 3);
                }
            });
        }
    });
}

// ---- axes, lengths, norm ----

#[test]
fn axes_and_lengths_follow_scipys_rules() {
    use Axes::{All, These, Usual};
    type Expected = std::result::Result<(&'static [usize], &'static [usize]), &'static str>;
    let there: Expected = Err("axes exceeds dimensionality of input");
    let same_length: Expected = Err("when given, axes and shape arguments have to be of the same length");
    type Case = (Transform, &'static [usize], Axes<'static>, Option<&'static [isize]>, Expected);
    let cases: &[Case] = &[
        (Transform::Fft, &[4, 6], Usual, None, Ok((&[1], &[6]))),
        (Transform::Fft, &[4, 6], These(&[-2]), Some(&[9]), Ok((&[0], &[9]))),
        (Transform::Fft, &[4, 6], These(&[2]), None, there),
        (Transform::Fft, &[4, 6], These(&[isize::MIN]), None, there),
        (Transform::Fft, &[], Usual, None, there),
        (Transform::Fft, &[4], Usual, Some(&[-1]), Err("invalid number of data points (-1) specified")),
        (Transform::Fft, &[4], These(&[7]), Some(&[0]), Err("invalid number of data points (0) specified")),
        (Transform::Fft, &[4, 6], These(&[0, 1]), None, Err("expected one axis for fft, got [0, 1]")),
        (Transform::Fft, &[4], Usual, Some(&[1, 2]), Err("expected one length for fft, got [1, 2]")),
        (Transform::Irfft, &[4, 6], Usual, None, Ok((&[1], &[10]))),
        (Transform::Irfft, &[4, 1], Usual, None, Err("Invalid number of data points (0) specified")),
        (Transform::Hfft, &[4, 1], Usual, Some(&[0]), Ok((&[1], &[1]))),
        (Transform::Hfft, &[4, 1], Usual, Some(&[-1]), Err("invalid number of data points (0) specified")),
        (Transform::Rfft2, &[3, 4, 6], Usual, None, Ok((&[1, 2], &[4, 6]))),
        (Transform::Rfft2, &[3, 4, 6], All, None, Ok((&[0, 1, 2], &[3, 4, 6]))),
        (Transform::Rfft2, &[6], Usual, None, there),
        (Transform::Rfft2, &[3, 4, 6], Usual, Some(&[5]), same_length),
        (Transform::Irfft2, &[3, 4, 6], These(&[2, 0]), None, Ok((&[2, 0], &[6, 4]))),
        (Transform::Irfft2, &[4, 1], Usual, None, Ok((&[0, 1], &[4, 1]))),
        (Transform::Fftn, &[3, 4, 6], Usual, Some(&[5, -1]), Ok((&[1, 2], &[5, 6]))),
        (Transform::Fftn, &[3, 4], Usual, Some(&[5, 5, 5]), Err("shape requires more axes than are present")),
        (Transform::Fftn, &[3, 4], Usual, Some(&[5, -2]), Err("invalid number of data points ([5, -2]) specified")),
        (Transform::Fftn, &[3, 0], Usual, None, Err("invalid number of data points ([3, 0]) specified")),
        (Transform::Irfftn, &[3, 0], Usual, None, Err("invalid number of data points ([3, 0]) specified")),
        (Transform::Fftn, &[3, 4], These(&[1, -1]), None, Err("all axes must be unique")),
        (Transform::Fftn, &[3, 4], These(&[]), Some(&[5]), Ok((&[], &[]))),
        (Transform::Fftn, &[], Usual, None, Ok((&[], &[]))),
    ];
    for &(transform, shape, axes, lengths, expected) in cases {
        let found = transform.extent(shape, axes, lengths);
        let found = found.as_ref().map(|(axes, lengths)| (&axes[..], &lengths[..])).map_err(ToString::to_string);
        assert_eq!(found, expected.map_err(str::to_owned), "{transform} {shape:?} {axes:?} {lengths:?}");
    }
}

#[test]
fn impossible_specs_are_refused() {
    let usual = Options::default();
    let refused = |transform, shape: &[usize], input, options: &Options<'_>| {
        let error = Spec::new(transform, shape, input, options).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, text) = refused(Transform::Rfft2, &[4, 6], Number::C64, &usual);
    assert_eq!((kind, text.as_str()), (Kind::InvalidType, "x must be a real sequence"));
    for unread in [Number::F16, Number::Bf16, Number::F128, Number::C256] {
        let (kind, text) = refused(Transform::Fft, &[4], unread, &usual);
        assert_eq!(kind, Kind::InvalidType);
        assert!(text.contains(unread.name()), "{text}");
    }
    for (transform, wrong) in
        [(Transform::Rfft, Number::F64), (Transform::Irfft, Number::C128), (Transform::Fft, Number::I8)]
    {
        let options = Options { result: Some(wrong), ..usual };
        let (kind, text) = refused(transform, &[4], Number::F32, &options);
        assert_eq!(kind, Kind::InvalidType);
        assert!(text.contains(wrong.name()) && text.contains(transform.name()), "{text}");
    }
    let (kind, text) = refused(Transform::Fftn, &[], Number::F64, &usual);
    assert_eq!((kind, text.as_str()), (Kind::InvalidValue, "at least 1 axis must be transformed"));
}

#[test]
fn the_precision_is_that_of_the_input_unless_asked_for() {
    for number in readable() {
        let spec = |transform| Spec::new(transform, &[4], number, &Options::default()).unwrap();
        let is_single = matches!(number, Number::F32 | Number::C64);
        let (complex, real) = if is_single { (Number::C64, Number::F32) } else { (Number::C128, Number::F64) };
        assert_eq!((spec(Transform::Fft).output(), spec(Transform::Irfft).output()), (complex, real));
        let options = Options { result: Some(Number::C64), ..Options::default() };
        assert_eq!(Spec::new(Transform::Fft, &[4], number, &options).unwrap().output(), Number::C64);
    }
}

#[test]
fn a_plan_tells_how_it_is_done() {
    let told = |transform, shape: &[usize], input| {
        let options = Options { result: Some(Number::C64), ..Options::default() };
        Plan::new(Spec::new(transform, shape, input, &options).unwrap()).to_string()
    };
    let frame = told(Transform::Rfft2, &[1080, 1920], Number::U16);
    let product = |after: &str| -> usize {
        let rest = frame.split_once(after).unwrap_or_else(|| panic!("{after:?} in {frame:?}")).1;
        rest.split(" (").next().unwrap().split(" x ").map(|factor| factor.parse::<usize>().unwrap()).product()
    };
    assert!(frame.starts_with("axes 0 and 1: "), "{frame}");
    assert_eq!((product("at once: "), product("a piece: ")), (1920, 1080), "{frame}");
    let stack = told(Transform::Fftn, &[3, 1013, 32], Number::C64);
    let words = "line by line, in";
    let lines =
        [format!("axis 2: {words} single"), format!("axis 0: {words} single"), format!("axis 1: {words} double")];
    assert!(lines.iter().all(|line| stack.contains(&format!("{line} precision"))), "{stack}");
}

#[test]
fn names_are_names_of_just_one() {
    for &transform in Transform::ALL {
        assert_eq!(transform.name().parse::<Transform>().unwrap(), transform);
    }
    for norm in [Norm::Backward, Norm::Ortho, Norm::Forward] {
        assert_eq!(norm.name().parse::<Norm>().unwrap(), norm);
    }
    assert!("FFT".parse::<Transform>().is_err());
    assert!("".parse::<Norm>().is_err());
}

// ---- arrays ----

fn arena() -> std::sync::Arc<Arena> {
    let options = crate::arena::Options { budget_bytes: Some(4 << 20), ..Default::default() };
    Arena::create(&options).unwrap()
}

/// What rustfft makes of a line.
fn rustfft_line(line: &mut [Value], is_forward: bool) {
    let mut planner = rustfft::FftPlanner::new();
    let fft = if is_forward { planner.plan_fft_forward(line.len()) } else { planner.plan_fft_inverse(line.len()) };
    fft.process(line);
}

/// Transforms the rows, or the columns, of a plane.
fn rustfft_plane(plane: &mut [Value], cols: usize, across: bool, is_forward: bool) {
    let rows = plane.len() / cols;
    let (lines, length) = if across { (cols, rows) } else { (rows, cols) };
    for number in 0..lines {
        let at = |i: usize| if across { i * cols + number } else { number * cols + i };
        let mut line: Vec<Value> = (0..length).map(|i| plane[at(i)]).collect();
        rustfft_line(&mut line, is_forward);
        line.into_iter().enumerate().for_each(|(i, value)| plane[at(i)] = value);
    }
}

/// The transform of a plane with the usual axes and norm, by rustfft; and the columns of its result.
fn by_rustfft(transform: Transform, plane: &[Value], cols: usize) -> (Vec<Value>, usize) {
    let (rows, is_forward) = (plane.len() / cols, transform.is_forward());
    let mut plane = plane.to_vec();
    if !transform.is_single() {
        rustfft_plane(&mut plane, cols, true, is_forward);
    }
    let mut whole = cols;
    if transform.family() == Family::ToReal {
        whole = 2 * (cols - 1);
        let rows = plane.chunks(cols);
        plane = rows
            .flat_map(|row| (0..whole).map(|i| hermitian(&|i| row[i], i, whole, true)).collect::<Vec<_>>())
            .collect();
    }
    rustfft_plane(&mut plane, whole, false, is_forward);
    let points = if transform.is_single() { whole } else { whole * rows };
    let scale = if is_forward { 1.0 } else { 1.0 / points as f64 };
    let kept = if transform.family() == Family::ToHalf { whole / 2 + 1 } else { whole };
    let is_real = transform.family() == Family::ToReal;
    let value = |value: &Value| if is_real { (value.re * scale).into() } else { value * scale };
    (plane.chunks(whole).flat_map(|row| row[..kept].iter().map(value)).collect(), kept)
}

fn values_of(array: &Array) -> Vec<Value> {
    match array.element().name().as_str() {
        "float64" => array.to_vec::<f64>().unwrap().into_iter().map(Value::from).collect(),
        _ => array.to_vec::<Value>().unwrap(),
    }
}

fn random_array(dice: &mut Dice, arena: &std::sync::Arc<Arena>, shape: &[usize], is_real: bool) -> Array {
    let items: usize = shape.iter().product();
    let mut number = || dice.next() as i32 as f64 / f64::from(1 << 30);
    if is_real {
        return Array::from_slice(arena, shape, &(0..items).map(|_| number()).collect::<Vec<f64>>()).unwrap();
    }
    Array::from_slice(arena, shape, &(0..items).map(|_| Complex::new(number(), number())).collect::<Vec<Value>>())
        .unwrap()
}

/// Every function of the library on arrays, without any `unsafe`, against rustfft.
#[test]
fn functions_of_arrays_do_what_rustfft_does() {
    type Function = fn(&Array) -> Result<Array>;
    let functions: [(Transform, Function); 18] = [
        (Transform::Fft, fft),
        (Transform::Ifft, ifft),
        (Transform::Rfft, rfft),
        (Transform::Irfft, irfft),
        (Transform::Hfft, hfft),
        (Transform::Ihfft, ihfft),
        (Transform::Fft2, fft2),
        (Transform::Ifft2, ifft2),
        (Transform::Rfft2, rfft2),
        (Transform::Irfft2, irfft2),
        (Transform::Hfft2, hfft2),
        (Transform::Ihfft2, ihfft2),
        (Transform::Fftn, fftn),
        (Transform::Ifftn, ifftn),
        (Transform::Rfftn, rfftn),
        (Transform::Irfftn, irfftn),
        (Transform::Hfftn, hfftn),
        (Transform::Ihfftn, ihfftn),
    ];
    assert_eq!(functions.map(|(transform, _)| transform)[..], *Transform::ALL);
    let (mut dice, arena) = (Dice(8), arena());
    for (rows, cols) in [(1, 2), (6, 10), (20, 23), (32, 48)] {
        for (transform, function) in functions {
            let array = random_array(&mut dice, &arena, &[cols, rows], transform.family() == Family::ToHalf);
            // Across the memory, to look at strides as well.
            let array = array.transpose(&[1, 0]).unwrap();
            let result = function(&array).unwrap();
            let (expected, kept) = by_rustfft(transform, &values_of(&array), cols);
            assert_eq!(result.shape(), [rows, kept], "{transform}");
            let found = values_of(&result);
            let error = magnitude(found.iter().zip(&expected).map(|(found, expected)| found - expected));
            assert!(error <= 1e-13 * magnitude(expected.iter().copied()), "{transform} {rows} {cols}: {error:e}");
        }
    }
}

#[test]
fn a_plan_refuses_arrays_that_are_not_its_own_and_changes_nothing() {
    let arena = arena();
    let plan = Plan::new(Spec::new(Transform::Rfft2, &[4, 6], Number::U16, &Options::default()).unwrap());
    let array = |shape: &[usize], number| Array::zeros(&arena, shape, number).unwrap();
    let (frame, result) = (array(&[4, 6], Number::U16), array(&[4, 4], Number::C128));
    frame.fill(1_u16).unwrap();
    let other_order = crate::element::Order::NATIVE == crate::element::Order::Little;
    let foreign =
        frame.view_as(if other_order { ">u2" } else { "<u2" }.parse::<crate::array::Element>().unwrap()).unwrap();
    let cases = [
        (array(&[4, 7], Number::U16), result.clone(), Kind::InvalidValue),
        (array(&[4, 6, 1], Number::U16), result.clone(), Kind::InvalidValue),
        (array(&[4, 6], Number::I16), result.clone(), Kind::InvalidType),
        (foreign, result.clone(), Kind::InvalidType),
        (frame.clone(), array(&[4, 6], Number::C128), Kind::InvalidValue),
        (frame.clone(), array(&[4, 4], Number::C64), Kind::InvalidType),
        (frame.clone(), result.clone().readonly(), Kind::Misuse),
    ];
    for (from, into, kind) in cases {
        assert_eq!(plan.run(&from, &into).unwrap_err().kind(), kind, "{from:?} {into:?}");
        assert!(into.to_bytes().unwrap().iter().all(|&byte| byte == 0));
    }
    let error = plan.run(&array(&[4, 7], Number::U16), &result).unwrap_err().to_string();
    assert!(error.contains("[4, 6]") && error.contains("[4, 7]"), "{error}");
    plan.run(&frame.readonly(), &result).unwrap();
    assert_eq!(result.read::<Value>(&[0, 0]).unwrap(), Complex::new(24.0, 0.0));
}

/// The engine would ask for more memory than there is, which ended the process.
#[test]
fn a_result_without_room_is_an_error_before_anything_is_planned() {
    let array = Array::zeros(&arena(), &[4], Number::F64).unwrap();
    for length in [1 << 40, isize::MAX] {
        let options = Options { lengths: Some(&[length]), ..Options::default() };
        let kind = options.transform(Transform::Fft, &array).unwrap_err().kind();
        assert!(matches!(kind, Kind::ArenaFull | Kind::InvalidValue), "{kind:?}");
    }
}

/// Each plane of a stack was left as it was, without a word.
#[test]
#[cfg_attr(miri, ignore = "Miri starts no other process")]
fn a_wrong_order_of_axes_is_an_error_of_a_stack_as_well() {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "fft::tests::a_stack_in_a_wrong_order", "--ignored", "--test-threads=1"];
    let done = std::process::Command::new(program).args(arguments).env("NDSHARE_FFT", "both").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
#[ignore = "the other process of another test"]
fn a_stack_in_a_wrong_order() {
    let stack = Array::zeros(&arena(), &[10, 32, 32], Number::F32).unwrap();
    let error = fft2(&stack).unwrap_err();
    assert!(error.kind() == Kind::InvalidValue && error.to_string().contains("NDSHARE_FFT"), "{error}");
}

/// In the raw engine that would read what it has written.
#[test]
fn what_overlaps_goes_by_way_of_other_memory() {
    let (mut dice, arena) = (Dice(9), arena());
    let plan = Plan::new(Spec::new(Transform::Fft2, &[8, 12], Number::C128, &Options::default()).unwrap());
    let whole = random_array(&mut dice, &arena, &[9, 12], false);
    let from = whole.view(&[(1..9).into()]).unwrap();
    let expected = plan.apply(&from).unwrap().to_vec::<Value>().unwrap();
    let into = whole.view(&[(0..8).into()]).unwrap();
    plan.run(&from, &into).unwrap();
    assert_eq!(into.to_vec::<Value>().unwrap(), expected);
    // In its own place, turned around.
    let from = random_array(&mut dice, &arena, &[8, 12], false);
    let expected = plan.apply(&from).unwrap().to_vec::<Value>().unwrap();
    plan.run(&from, &from).unwrap();
    assert_eq!(from.to_vec::<Value>().unwrap(), expected);
}

#[test]
fn a_filter_of_arrays_is_two_transforms_and_a_product() {
    let (mut dice, arena) = (Dice(10), arena());
    let spec = Spec::new(Transform::Rfft2, &[12, 20], Number::F64, &Options::default()).unwrap();
    let filter = Filter::new(&spec).unwrap();
    let frame = random_array(&mut dice, &arena, &[12, 20], true);
    let spectrum = rfft2(&random_array(&mut dice, &arena, &[12, 20], true)).unwrap();
    let halves = values_of(&rfft2(&frame).unwrap()).into_iter().zip(values_of(&spectrum));
    let product: Vec<Value> = halves.map(|(a, b)| a * b).collect();
    let expected = values_of(&irfft2(&Array::from_slice(&arena, &[12, 11], &product).unwrap()).unwrap());
    // Into its own place, too.
    for into in [Array::zeros(&arena, &[12, 20], Number::F64).unwrap(), frame.clone()] {
        filter.run(&frame, &spectrum, &into).unwrap();
        let error = magnitude(values_of(&into).iter().zip(&expected).map(|(found, expected)| found - expected));
        assert!(error <= 1e-13 * magnitude(expected.iter().copied()), "{error:e}");
    }
    let frame = random_array(&mut dice, &arena, &[12, 20], true);
    let [into, again] = [(); 2].map(|()| Array::zeros(&arena, &[12, 20], Number::F64).unwrap());
    let kept = Array::zeros(&arena, &[12, 11], Number::C128).unwrap();
    filter.run_keeping(&frame, &spectrum, &into, &kept).unwrap();
    filter.run(&frame, &spectrum, &again).unwrap();
    for (found, expected) in [(&into, values_of(&again)), (&kept, values_of(&rfft2(&frame).unwrap()))] {
        let error = magnitude(values_of(found).iter().zip(&expected).map(|(found, expected)| found - expected));
        assert!(error <= 1e-14 * magnitude(expected.iter().copied()), "{error:e}");
    }
    let shared = [&spectrum, &kept.view(&[(0..6).into()]).unwrap(), &kept.clone().readonly()];
    for refused in shared {
        assert!(filter.run_keeping(&frame, &spectrum, &into, refused).is_err(), "{refused:?}");
    }
    let wrong = Array::zeros(&arena, &[12, 20], Number::C128).unwrap();
    assert_eq!(filter.run(&frame, &wrong, &frame).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(filter.run(&frame, &spectrum, &wrong).unwrap_err().kind(), Kind::InvalidType);
    for options in [
        Options { norm: Norm::Ortho, ..Options::default() },
        Options { lengths: Some(&[12, 18]), ..Options::default() },
    ] {
        assert!(Filter::new(&Spec::new(Transform::Rfft2, &[12, 20], Number::F64, &options).unwrap()).is_none());
    }
}
