//! Every vector against the definition of the transform, in double precision.

use super::*;
use crate::dice::Dice;
use crate::element::Number;
use crate::os::PAGE_BYTES;
use std::f64::consts::PI;

type Z = (f64, f64);

const NUMBERS: [Number; 9] = [
    Number::Bool,
    Number::U8,
    Number::I8,
    Number::U16,
    Number::I16,
    Number::F32,
    Number::F64,
    Number::C64,
    Number::C128,
];
const TRANSFORMS: [Transform; 4] = [Transform::R2C, Transform::C2R, Transform::Forward, Transform::Inverse];

fn calm() -> Result<()> {
    Ok(())
}

fn vectors() -> Vec<Vector> {
    [Vector::Scalar, Vector::Avx2, Vector::Avx512, Vector::Neon].into_iter().filter(|v| v.is_present()).collect()
}

/// A number from -1 to 1.
fn unit(dice: &mut Dice) -> f64 {
    dice.below(1 << 20) as f64 / f64::from(1 << 19) - 1.0
}

/// What an element of a type of number is when it is asked to be `x`.
fn rounded(number: Number, (re, im): Z) -> Z {
    let whole = |half: f64, middle: f64| ((re * half + middle).floor(), 0.0);
    match number {
        Number::Bool => (f64::from(re > 0.0), 0.0),
        Number::U8 => whole(127.0, 128.0),
        Number::I8 => whole(127.0, 0.0),
        Number::U16 => whole(32767.0, 32768.0),
        Number::I16 => whole(32767.0, 0.0),
        Number::F32 => (f64::from(re as f32), 0.0),
        Number::F64 => (re, 0.0),
        Number::C64 => (f64::from(re as f32), f64::from(im as f32)),
        Number::C128 => (re, im),
        _ => unreachable!("not read"),
    }
}

fn bytes_of(number: Number, (re, im): Z) -> Vec<u8> {
    match number {
        Number::Bool | Number::U8 => vec![re as u8],
        Number::I8 => (re as i8).to_ne_bytes().to_vec(),
        Number::U16 => (re as u16).to_ne_bytes().to_vec(),
        Number::I16 => (re as i16).to_ne_bytes().to_vec(),
        Number::F32 => (re as f32).to_ne_bytes().to_vec(),
        Number::F64 => re.to_ne_bytes().to_vec(),
        Number::C64 => [(re as f32).to_ne_bytes(), (im as f32).to_ne_bytes()].concat(),
        Number::C128 => [re.to_ne_bytes(), im.to_ne_bytes()].concat(),
        _ => unreachable!("not read"),
    }
}

fn value_of(number: Number, bytes: &[u8]) -> Z {
    let single = |at: usize| f64::from(f32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()));
    let double = |at: usize| f64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    match number {
        Number::F32 => (single(0), 0.0),
        Number::F64 => (double(0), 0.0),
        Number::C64 => (single(0), single(4)),
        Number::C128 => (double(0), double(8)),
        _ => unreachable!("no transform writes integers"),
    }
}

/// How an array lies in memory.
#[derive(Clone, Copy, Debug)]
enum Order {
    C,
    Fortran,
    /// With gaps, and from an odd address.
    Gaps,
    /// Backwards along both axes.
    Backwards,
    /// Rows one after another, each the next page's.
    Pages,
    /// The same from the last row to the first.
    PagesUpwards,
}

const ORDERS: [Order; 4] = [Order::C, Order::Fortran, Order::Gaps, Order::Backwards];

/// So many bytes, and what is missing to a whole page.
fn pages(bytes: usize) -> isize {
    bytes.next_multiple_of(PAGE_BYTES as usize) as isize
}

/// An array in memory of its own.
struct Array {
    bytes: Vec<u8>,
    number: Number,
    plane: Plane,
}

impl Array {
    fn new(number: Number, rows: usize, cols: usize, order: Order) -> Self {
        let item = bytes_of(number, (0.0, 0.0)).len();
        let (rows_i, cols_i, size) = (rows as isize, cols as isize, item as isize);
        let (row_stride, col_stride, offset) = match order {
            Order::C => (cols_i * size, size, 0),
            Order::Fortran => (size, rows_i * size, 0),
            Order::Gaps => ((2 * cols_i + 1) * size + 3, 2 * size, 1),
            Order::Backwards => (-cols_i * size, -size, (rows_i * cols_i - 1) * size),
            Order::Pages => (pages(cols * item), size, 0),
            Order::PagesUpwards => (-pages(cols * item), size, (rows_i - 1) * pages(cols * item)),
        };
        // Dirty, so that nobody takes it for zeros.
        let mut bytes = vec![0xa5_u8; rows * row_stride.unsigned_abs().max(2 * cols * item) + 64];
        let data = bytes.as_mut_ptr().wrapping_offset(offset);
        Self { bytes, number, plane: Plane { data, rows, cols, row_stride, col_stride } }
    }

    fn place(&self, row: usize, column: usize) -> usize {
        let start = self.plane.data as usize - self.bytes.as_ptr() as usize;
        let offset = row as isize * self.plane.row_stride + column as isize * self.plane.col_stride;
        (start as isize + offset) as usize
    }

    fn set(&mut self, row: usize, column: usize, value: Z) {
        let (place, bytes) = (self.place(row, column), bytes_of(self.number, value));
        // SAFETY: inside of the array; by the plane's pointer, because a reference would end its life.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.plane.data.offset(place as isize - self.place(0, 0) as isize),
                bytes.len(),
            )
        }
    }

    /// Fills it with numbers that look random; what lies in so many rows and columns, and zeros where it has none.
    fn fill(&mut self, rows: usize, cols: usize, dice: &mut Dice) -> Vec<Vec<Z>> {
        let mut all = vec![vec![(0.0, 0.0); cols]; rows];
        let have = (self.plane.rows, self.plane.cols);
        for (row, column) in (0..have.0).flat_map(|row| (0..have.1).map(move |column| (row, column))) {
            let value = rounded(self.number, (unit(dice), unit(dice)));
            self.set(row, column, value);
            if row < rows && column < cols {
                all[row][column] = value;
            }
        }
        all
    }

    fn get(&self, row: usize, column: usize) -> Z {
        value_of(self.number, &self.bytes[self.place(row, column)..])
    }
}

/// The transform of a line by its definition.
fn dft(line: &[Z], sign: f64) -> Vec<Z> {
    let n = line.len();
    let roots: Vec<Z> = (0..n).map(|k| 2.0 * PI * k as f64 / n as f64).map(|a| (a.cos(), sign * a.sin())).collect();
    let term = |i: usize, k: usize| {
        let (x, w) = (line[i], roots[i * k % n]);
        (x.0 * w.0 - x.1 * w.1, x.0 * w.1 + x.1 * w.0)
    };
    let plus = |a: Z, b: Z| (a.0 + b.0, a.1 + b.1);
    // In parts, because the rounding of a long sum would be larger than that of the transform.
    let part = |start: usize, k: usize| (start..(start + 32).min(n)).map(|i| term(i, k)).fold((0.0, 0.0), plus);
    let sum = |k: usize| (0..n).step_by(32).map(|start| part(start, k)).fold((0.0, 0.0), plus);
    (0..n).map(sum).collect()
}

fn by_columns(rows: &[Vec<Z>], sign: f64) -> Vec<Vec<Z>> {
    let columns: Vec<Vec<Z>> =
        (0..rows[0].len()).map(|c| dft(&rows.iter().map(|row| row[c]).collect::<Vec<_>>(), sign)).collect();
    (0..rows.len()).map(|r| columns.iter().map(|column| column[r]).collect()).collect()
}

/// The result that a problem must have, of an input with exactly its shape.
fn expected(problem: &Problem, input: &[Vec<Z>]) -> Vec<Vec<Z>> {
    let sign = if matches!(problem.transform, Transform::R2C | Transform::Forward) { -1.0 } else { 1.0 };
    let first = if problem.both_axes { by_columns(input, sign) } else { input.to_vec() };
    let n = problem.cols;
    first
        .iter()
        .map(|row| match problem.transform {
            Transform::C2R => {
                let whole = |k: usize| if k <= n / 2 { row[k] } else { (row[n - k].0, -row[n - k].1) };
                let mut whole: Vec<Z> = (0..n).map(whole).collect();
                whole[0].1 = 0.0;
                if n.is_multiple_of(2) {
                    whole[n / 2].1 = 0.0;
                }
                dft(&whole, sign).into_iter().map(|z| (z.0, 0.0)).collect()
            }
            _ => {
                let mut line = dft(row, sign);
                line.truncate(output_shape(problem).1);
                line
            }
        })
        .collect()
}

/// Columns of a problem's input.
fn input_cols(problem: &Problem) -> usize {
    if problem.transform == Transform::C2R { problem.cols / 2 + 1 } else { problem.cols }
}

fn output_number(problem: &Problem) -> Number {
    match (problem.transform == Transform::C2R, problem.double) {
        (true, false) => Number::F32,
        (true, true) => Number::F64,
        (false, false) => Number::C64,
        (false, true) => Number::C128,
    }
}

/// How one case is run.
#[derive(Clone, Copy, Debug)]
struct Manner {
    from: Order,
    into: Order,
    /// Rows and columns that the input has more or less than the problem.
    more: (isize, isize),
    workers: usize,
}

const PLAIN: Manner = Manner { from: Order::C, into: Order::C, more: (0, 0), workers: 1 };

/// Runs a problem on numbers that look random, and compares.
fn check(vector: Vector, problem: &Problem, manner: Manner, dice: &mut Dice) {
    let (rows, cols) = (problem.rows, input_cols(problem));
    let have = |n: usize, more: isize| n.saturating_add_signed(more);
    let mut from = Array::new(problem.input, have(rows, manner.more.0), have(cols, manner.more.1), manner.from);
    let input = from.fill(rows, cols, dice);
    let shape = output_shape(problem);
    let (want, scale) = (expected(problem, &input), 0.375);
    let sizes: Vec<f64> = input.iter().map(|row| largest(problem, energy(row)) * scale * scale).collect();
    for &order in orders(problem) {
        let into = Array::new(output_number(problem), shape.0, shape.1, manner.into);
        let plan = Vertical::with_order(problem, vector, order).expect("a plan");
        // SAFETY: both arrays live, and have the numbers that the problem says.
        unsafe { plan.run(from.plane, into.plane, scale, manner.workers, &calm).unwrap() };
        compare(&want, &into, scale, &sizes, problem, &format!("{vector:?} {order:?} {problem:?} {manner:?}"));
    }
    if problem.both_axes {
        let into = Array::new(output_number(problem), shape.0, shape.1, manner.into);
        let plan = Vertical::with_vector(&problem.transposed(), vector).expect("a plan");
        let (from, to) = (from.plane.transposed(), into.plane.transposed());
        // SAFETY: as above.
        unsafe { plan.run(from, to, scale, manner.workers, &calm).unwrap() };
        compare(&want, &into, scale, &sizes, problem, &format!("{vector:?} transposed {problem:?} {manner:?}"));
    }
}

/// The orders that make a difference.
fn orders(problem: &Problem) -> &'static [AxisOrder] {
    if problem.both_axes { &[AxisOrder::RowsFirst, AxisOrder::ColumnsFirst] } else { &[AxisOrder::RowsFirst] }
}

fn energy(row: &[Z]) -> f64 {
    row.iter().map(|z| z.0 * z.0 + z.1 * z.1).sum()
}

fn points(problem: &Problem) -> f64 {
    (problem.cols * if problem.both_axes { problem.rows } else { 1 }) as f64
}

/// How much energy a result can have, by Parseval. Half a spectrum stands for twice as much.
fn largest(problem: &Problem, energy: f64) -> f64 {
    energy * points(problem) * if problem.transform == Transform::C2R { 2.0 } else { 1.0 }
}

/// The error may be a few times the rounding of what goes in, for each line or plane as a whole. What comes out may be
/// much smaller, where numbers cancel or a part of them does not count; `sizes` are the energies that rows can have.
fn compare(want: &[Vec<Z>], got: &Array, scale: f64, sizes: &[f64], problem: &Problem, what: &str) {
    let (mut error, mut size) = (0.0, 0.0);
    for (r, row) in want.iter().enumerate() {
        let (mut row_error, row_size) = (0.0, sizes[r]);
        for (c, z) in row.iter().enumerate() {
            let g = got.get(r, c);
            let d = (g.0 - z.0 * scale, g.1 - z.1 * scale);
            row_error += d.0 * d.0 + d.1 * d.1;
        }
        if !problem.both_axes {
            judge(row_error, row_size, problem, what);
        }
        (error, size) = (error + row_error, size + row_size);
    }
    judge(error, size, problem, what);
}

fn judge(error: f64, size: f64, problem: &Problem, what: &str) {
    let unit = if problem.double { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let bound = unit * (1.5 + 0.5 * points(problem).log2());
    let relative = (error / size.max(f64::MIN_POSITIVE)).sqrt();
    assert!(relative <= bound, "{what}: relative error {relative:e}, at most {bound:e}");
}

fn smooth(most: usize) -> impl Iterator<Item = usize> {
    (1..=most).filter(|&n| steps::is_smooth(n))
}

/// All that a transform reads.
fn inputs(transform: Transform) -> impl Iterator<Item = Number> {
    NUMBERS.into_iter().filter(move |number| transform != Transform::R2C || !number.is_complex())
}

#[test]
fn every_length_along_rows() {
    let mut dice = Dice(1);
    for vector in vectors() {
        for cols in smooth(128) {
            for transform in TRANSFORMS {
                for double in [false, true] {
                    let input = dice.pick(&inputs(transform).collect::<Vec<_>>());
                    let problem = Problem {
                        transform,
                        input,
                        double,
                        rows: 1 + dice.below(19),
                        cols,
                        both_axes: false,
                        half_first: false,
                    };
                    check(vector, &problem, PLAIN, &mut dice);
                }
            }
        }
    }
}

#[test]
fn every_length_along_columns() {
    let mut dice = Dice(2);
    for vector in vectors() {
        for rows in smooth(128) {
            for transform in TRANSFORMS {
                for double in [false, true] {
                    let input = dice.pick(&inputs(transform).collect::<Vec<_>>());
                    let cols = dice.pick(&[1, 2, 3, 5, 8, 15, 32, 33]);
                    let problem = Problem { transform, input, double, rows, cols, both_axes: true, half_first: false };
                    check(vector, &problem, PLAIN, &mut dice);
                }
            }
        }
    }
}

#[test]
fn every_input_order_and_shape() {
    let mut dice = Dice(3);
    let numbers = TRANSFORMS.into_iter().flat_map(|t| inputs(t).map(move |number| (t, number)));
    for (transform, input) in numbers {
        for vector in vectors() {
            for both_axes in [false, true] {
                let (rows, cols) = (dice.pick(&[1, 6, 16, 35, 64]), dice.pick(&[1, 2, 9, 32, 48, 64, 160, 255]));
                let problem =
                    Problem { transform, input, double: dice.below(2) == 1, rows, cols, both_axes, half_first: false };
                let more = || [-40, -3, -1, 0, 0, 1, 5];
                let manner = Manner {
                    from: dice.pick(&ORDERS),
                    into: dice.pick(&ORDERS),
                    more: (dice.pick(&more()), dice.pick(&more())),
                    workers: dice.pick(&[1, 3]),
                };
                check(vector, &problem, manner, &mut dice);
            }
        }
    }
}

#[test]
fn rows_that_go_across_and_columns_in_two_steps() {
    let mut dice = Dice(4);
    for vector in vectors() {
        // Rows of 512 complex numbers are whole pages.
        for (rows, cols) in [(51, 256), (80, 320), (34, 288), (96, 512), (1, 1024), (7, 1020)] {
            for transform in TRANSFORMS {
                let double = dice.below(2) == 1;
                let input = dice.pick(&inputs(transform).collect::<Vec<_>>());
                let problem = Problem { transform, input, double, rows, cols, both_axes: true, half_first: false };
                check(vector, &problem, Manner { workers: 3, ..PLAIN }, &mut dice);
            }
        }
    }
}

/// Columns of such rows go by way of a stage, as many strips at once as it has room for, and the next ones are brought
/// when these go back.
#[test]
fn rows_that_are_whole_pages_apart() {
    let mut dice = Dice(9);
    for vector in vectors() {
        for (into, workers) in [(Order::Pages, 1), (Order::PagesUpwards, 1), (Order::Pages, 2)] {
            for transform in [Transform::R2C, Transform::Forward, Transform::Inverse] {
                let (double, cols) = (dice.below(2) == 1, dice.pick(&[150, 256, 510]));
                let input = dice.pick(&inputs(transform).collect::<Vec<_>>());
                let rows = dice.pick(&[12, 40]);
                let problem = Problem { transform, input, double, rows, cols, both_axes: true, half_first: false };
                check(vector, &problem, Manner { into, workers, ..PLAIN }, &mut dice);
            }
        }
    }
}

/// Rows of which a usual first-level cache does not hold two: vectors of any kind have passes that are joined to the tiles.
#[test]
fn long_rows_that_go_across() {
    let mut dice = Dice(8);
    for vector in vectors() {
        for (double, cols) in [(true, 1920), (false, 3072)] {
            let transform = dice.pick(&TRANSFORMS);
            // A sum of so many numbers above zero is rounded by more in the definition than in the transform.
            let input = if transform == Transform::R2C { Number::F64 } else { Number::C128 };
            let problem =
                Problem { transform, input, double, rows: 2, cols, both_axes: dice.below(2) == 1, half_first: false };
            check(vector, &problem, PLAIN, &mut dice);
        }
    }
}

#[test]
fn one_long_line_is_transformed_as_a_plane() {
    let mut dice = Dice(7);
    for vector in vectors() {
        // Rows and columns do not fill vectors.
        for cols in [17 * 17 * 17, 4 * 9 * 125, 5 * 7 * 11 * 13] {
            for transform in [Transform::Forward, Transform::Inverse] {
                let double = dice.below(2) == 1;
                // A sum of so many numbers above zero is rounded by more in the definition than in the transform.
                let input = dice.pick(if double { &NUMBERS[5..] } else { &NUMBERS });
                let problem = Problem { transform, input, double, rows: 1, cols, both_axes: false, half_first: false };
                let manner = Manner {
                    from: dice.pick(&ORDERS),
                    into: dice.pick(&ORDERS),
                    more: (dice.pick(&[-1, 0, 0, 1]), dice.pick(&[-40, 0, 0, 3])),
                    workers: dice.pick(&[1, 3]),
                };
                let is_plain = transform == Transform::Forward;
                check(vector, &problem, if is_plain { PLAIN } else { manner }, &mut dice);
            }
        }
    }
}

#[test]
fn a_filter_is_two_transforms_and_a_product() {
    let mut dice = Dice(5);
    for vector in vectors() {
        for (rows, cols) in [(1, 1), (1, 2), (2, 1), (5, 7), (12, 10), (36, 256), (40, 45)] {
            for double in [false, true] {
                let input = dice.pick(&[Number::U16, Number::F32, Number::U8]);
                let problem = Problem {
                    transform: Transform::R2C,
                    input,
                    double,
                    rows,
                    cols,
                    both_axes: true,
                    half_first: false,
                };
                check_filter(vector, &problem, &mut dice);
            }
        }
    }
}

/// The filter's spectrum is of no real plane, so that its redundant columns must be treated as the inverse does.
fn check_filter(vector: Vector, problem: &Problem, dice: &mut Dice) {
    let (rows, cols, half) = (problem.rows, problem.cols, problem.cols / 2 + 1);
    let complex = output_number(problem);
    let back = Problem { transform: Transform::C2R, ..*problem };
    let mut from = Array::new(problem.input, rows, cols, Order::Gaps);
    let mut spectrum = Array::new(complex, rows, half, Order::C);
    let input = from.fill(rows, cols, dice);
    let filter = spectrum.fill(rows, half, dice);
    let times = |(x, y): (&Z, &Z)| (x.0 * y.0 - x.1 * y.1, x.0 * y.1 + x.1 * y.0);
    let product: Vec<Vec<Z>> = (expected(problem, &input).iter().zip(&filter))
        .map(|(row, filter)| row.iter().zip(filter).map(times).collect())
        .collect();
    // A number of the spectrum is off by the rounding of all of them, whatever it is multiplied by.
    let strongest = filter.iter().flatten().map(|z| z.0 * z.0 + z.1 * z.1).fold(0.0, f64::max);
    let sizes: Vec<f64> =
        input.iter().map(|row| largest(problem, energy(row)) * strongest * points(&back) * 0.25 * 0.25).collect();
    let want = expected(&back, &product);
    for &order in orders(problem) {
        let into = Array::new(output_number(&back), rows, cols, Order::C);
        let plan = Convolution::with_order(problem, vector, order).expect("a plan");
        // SAFETY: the arrays live, and have the numbers that the problem says.
        unsafe { plan.run(from.plane, (spectrum.plane, None), into.plane, 0.25, 2, &calm).unwrap() };
        let what = format!("{vector:?} {order:?} filter {problem:?}");
        compare(&want, &into, 0.25, &sizes, &back, &what);
        let (again, kept) =
            (Array::new(output_number(&back), rows, cols, Order::C), Array::new(complex, rows, half, Order::Gaps));
        // SAFETY: as above.
        let outcome = unsafe { plan.run(from.plane, (spectrum.plane, Some(kept.plane)), again.plane, 0.25, 2, &calm) };
        assert_eq!(outcome.is_ok(), order == AxisOrder::RowsFirst, "{what}");
        if outcome.is_ok() {
            let places = (0..rows).flat_map(|row| (0..cols).map(move |column| (row, column)));
            assert!(places.into_iter().all(|(row, column)| again.get(row, column) == into.get(row, column)), "{what}");
            let sizes: Vec<f64> = input.iter().map(|row| largest(problem, energy(row))).collect();
            compare(&expected(problem, &input), &kept, 1.0, &sizes, problem, &format!("{what}, what is kept"));
        }
    }
}

#[test]
fn a_row_does_not_spoil_its_neighbours() {
    for vector in vectors() {
        for transform in TRANSFORMS {
            for cols in [30, 45, 512] {
                let input = if transform == Transform::R2C { Number::F64 } else { Number::C128 };
                let problem =
                    Problem { transform, input, double: true, rows: 5, cols, both_axes: false, half_first: false };
                let mut from = Array::new(input, 5, input_cols(&problem), Order::C);
                (0..5).for_each(|row| (0..input_cols(&problem)).for_each(|column| from.set(row, column, (1.0, 0.0))));
                from.set(2, 1, (f64::NAN, 0.0));
                from.set(3, 2, (f64::INFINITY, 0.0));
                let shape = output_shape(&problem);
                let into = Array::new(output_number(&problem), shape.0, shape.1, Order::C);
                let plan = Vertical::with_vector(&problem, vector).unwrap();
                // SAFETY: the arrays live, and have the numbers that the problem says.
                unsafe { plan.run(from.plane, into.plane, 1.0, 1, &calm).unwrap() };
                for (row, column) in (0..shape.0).flat_map(|row| (0..shape.1).map(move |column| (row, column))) {
                    let finite = into.get(row, column).0.is_finite();
                    assert_eq!(finite, !(2..4).contains(&row), "{vector:?} {problem:?} row {row}");
                }
            }
        }
    }
}

#[test]
fn what_it_cannot_do_has_no_plan() {
    let problem = Problem {
        transform: Transform::R2C,
        input: Number::U8,
        double: false,
        rows: 4,
        cols: 4,
        both_axes: true,
        half_first: false,
    };
    assert!(Vertical::new(&problem).is_some());
    for impossible in [
        Problem { cols: 19, ..problem },
        Problem { rows: 2 * 23, ..problem },
        Problem { rows: 0, ..problem },
        Problem { cols: 0, ..problem },
        Problem { input: Number::C64, ..problem },
        Problem { input: Number::U32, ..problem },
        Problem { input: Number::F16, ..problem },
    ] {
        assert!(Vertical::new(&impossible).is_none(), "{impossible:?}");
    }
    assert!(Vertical::new(&Problem { rows: 23, both_axes: false, ..problem }).is_some());
    assert!(Convolution::new(&Problem { transform: Transform::C2R, ..problem }, Vector::Scalar).is_none());
}

#[test]
fn a_wrong_output_is_refused() {
    let problem = Problem {
        transform: Transform::R2C,
        input: Number::U8,
        double: false,
        rows: 4,
        cols: 6,
        both_axes: true,
        half_first: false,
    };
    let (from, into) = (Array::new(Number::U8, 4, 6, Order::C), Array::new(Number::C64, 4, 6, Order::C));
    let plan = Vertical::new(&problem).unwrap();
    // SAFETY: refused before anything is read.
    let error = unsafe { plan.run(from.plane, into.plane, 1.0, 1, &calm) }.unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::InvalidValue);
}
