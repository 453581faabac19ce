//! One short line in double precision, as accurately as its numbers allow.
//!
//! rustfft goes the long way for most primes from 13 on, by way of a longer transform, and its constants are rounded
//! angles: in short lines what it loses is more than what sums of so few numbers lose anyway. Here a line is cut into
//! its factors, two fours and all primes, and each factor is done by its definition, with two numbers at a time where
//! they share a cosine. All constants are the doubles nearest to what they stand for, so a cosine of 1/2 is 1/2, and
//! what cancels, cancels to zero.

use super::convert::Work;
use realfft::num_complex::Complex;
use rustfft::FftDirection;

/// The longest line that is done here. The definition of a prime takes its square in steps.
const LONGEST: usize = 64;

/// Whether lines of this length are done here. For powers of two rustfft is as accurate, and quicker.
pub(super) fn serves(length: usize) -> bool {
    length <= LONGEST && !length.is_power_of_two()
}

/// A factor of the length.
#[derive(Clone, Copy)]
struct Step {
    radix: usize,
    /// The product of the factors before.
    before: usize,
    /// The product of those after.
    after: usize,
}

/// What transforms lines of one length in one direction.
pub(super) struct Short<W> {
    steps: Vec<Step>,
    /// The powers of the root of unity, with the direction's sign: one for each point.
    roots: Vec<Complex<W>>,
    forward: bool,
}

impl<W: Work> Short<W> {
    pub(super) fn new(length: usize, direction: FftDirection) -> Self {
        let forward = direction == FftDirection::Forward;
        let of = |number: f64| W::of_double(number);
        let roots = (0..length).map(|k| {
            let (cosine, sine) = cosine_sine(k, length);
            Complex::new(of(cosine), of(if forward { -sine } else { sine }))
        });
        Self { steps: steps(length), roots: roots.collect(), forward }
    }

    /// The numbers that [`Self::run`] needs beside the line.
    pub(super) fn scratch_len(&self) -> usize {
        self.roots.len()
    }

    /// Transforms a line, which is as long as the scratch beside it.
    pub(super) fn run(&self, line: &mut [Complex<W>], scratch: &mut [Complex<W>]) {
        for (number, step) in self.steps.iter().enumerate() {
            if number.is_multiple_of(2) {
                self.step(*step, line, scratch);
            } else {
                self.step(*step, scratch, line);
            }
        }
        if !self.steps.len().is_multiple_of(2) {
            line.copy_from_slice(scratch);
        }
    }

    /// One factor, for all points: from numbers whose later factors are transformed to some that have this one, too.
    fn step(&self, Step { radix, before, after }: Step, from: &[Complex<W>], into: &mut [Complex<W>]) {
        let mut points = [Complex::new(W::of_double(0.0), W::of_double(0.0)); LONGEST];
        let points = &mut points[..radix];
        for k in 0..before {
            for i in 0..after {
                let picked = from[i + after * radix * k..].iter().step_by(after);
                points.iter_mut().zip(picked).for_each(|(point, number)| *point = *number);
                self.transform(points);
                into[i + after * k] = points[0];
                for m in 1..radix {
                    let turned = if i == 0 { points[m] } else { points[m] * self.roots[before * m * i] };
                    into[i + after * (k + before * m)] = turned;
                }
            }
        }
    }

    /// Transforms as many points as a factor is.
    fn transform(&self, points: &mut [Complex<W>]) {
        match *points {
            [a, b] => points.copy_from_slice(&[a + b, a - b]),
            [a, b, c, d] => {
                let (even, odd) = (a + c, b + d);
                let (low, high) = (a - c, self.quarter(b - d));
                points.copy_from_slice(&[even + odd, low + high, even - odd, low - high]);
            }
            _ => self.transform_odd(points),
        }
    }

    /// By the definition. Points as far from the first as from the last have the same cosine and opposite sines.
    fn transform_odd(&self, points: &mut [Complex<W>]) {
        let (radix, half) = (points.len(), points.len() / 2);
        let turn = self.roots.len() / radix;
        let first = points[0];
        for j in 1..=half {
            let (a, b) = (points[j], points[radix - j]);
            points[j] = a + b;
            points[radix - j] = a - b;
        }
        let mut results = [first; LONGEST];
        for m in 1..=half {
            let (mut even, mut odd) = (first, Complex::new(W::of_double(0.0), W::of_double(0.0)));
            let mut power = 0;
            for j in 1..=half {
                power = if power + m < radix { power + m } else { power + m - radix };
                let root = self.roots[turn * power];
                even = even + points[j] * root.re;
                odd = odd + points[radix - j] * root.im;
            }
            let odd = Complex::new(-odd.im, odd.re);
            results[m] = even + odd;
            results[radix - m] = even - odd;
        }
        results[0] = points[1..=half].iter().fold(first, |sum, point| sum + *point);
        points.copy_from_slice(&results[..radix]);
    }

    /// A number times the root of a quarter.
    fn quarter(&self, number: Complex<W>) -> Complex<W> {
        if self.forward { Complex::new(number.im, -number.re) } else { Complex::new(-number.im, number.re) }
    }
}

/// Fours first, then a two, then the odd primes from below.
fn steps(length: usize) -> Vec<Step> {
    let (mut found, mut after) = (Vec::new(), length);
    for radix in [4, 2].into_iter().chain((3..=length).step_by(2)) {
        while after.is_multiple_of(radix) {
            let before = length / after;
            after /= radix;
            found.push(Step { radix, before, after });
        }
    }
    found
}

/// Bits after the point of the numbers in which sines are computed.
const BITS: u32 = 62;
/// Pi in such numbers.
const PI: i128 = 0xC90F_DAA2_2168_C235;

/// Cosine and sine of `k` parts of a turn that has `parts`, each the nearest double but for one in some hundreds.
fn cosine_sine(k: usize, parts: usize) -> (f64, f64) {
    let (k, parts) = (k as i128, parts as i128);
    // The nearest quarter, and what is left: an eighth of a turn at most, where both series are short.
    let quarter = (8 * k + parts) / (2 * parts);
    let rest = 4 * k - quarter * parts;
    let angle = rounded(PI * rest, 2 * parts);
    let (cosine, sine) = (series(1 << BITS, 1, angle), series(angle, 2, angle));
    match quarter % 4 {
        0 => (cosine, sine),
        1 => (-sine, cosine),
        2 => (-cosine, -sine),
        _ => (sine, -cosine),
    }
}

/// The series of cosine or sine: `term` is its first, and the next is divided by `number` and the one above.
fn series(mut term: i128, mut number: i128, angle: i128) -> f64 {
    let square = rounded(angle * angle, 1 << BITS);
    let mut sum = 0;
    while term != 0 {
        sum += term;
        term = -rounded(rounded(term * square, 1 << BITS), number * (number + 1));
        number += 2;
    }
    sum as f64 / (1_u64 << BITS) as f64
}

/// The integer nearest to a fraction.
fn rounded(number: i128, divisor: i128) -> i128 {
    (2 * number + divisor).div_euclid(2 * divisor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const DIRECTIONS: [FftDirection; 2] = [FftDirection::Forward, FftDirection::Inverse];

    /// The naive twin: sums of products, each with twice the digits of a double.
    fn twin(line: &[Complex<f64>], direction: FftDirection) -> Vec<Complex<f64>> {
        let length = line.len();
        let unit = |number: f64| (number * 2_f64.powi(40)) as i128;
        let result = (0..length).map(|m| {
            let (mut re, mut im) = (0, 0);
            for (j, point) in line.iter().enumerate() {
                let (cosine, sine) = fixed(m * j % length, length);
                let sine = if direction == FftDirection::Forward { -sine } else { sine };
                re += unit(point.re) * cosine - unit(point.im) * sine;
                im += unit(point.re) * sine + unit(point.im) * cosine;
            }
            Complex::new(re as f64, im as f64) / 2_f64.powi(120)
        });
        result.collect()
    }

    /// Cosine and sine in units of 2^-80, by adding the angle up: the square of the half, again and again.
    fn fixed(k: usize, parts: usize) -> (i128, i128) {
        const PI_80: i128 = 0x3_243F_6A88_85A3_08D3_1319;
        let times = |a: i128, b: i128| {
            // 160 bits do not fit: the halves of `b` one after another.
            let (high, low) = (b >> 40, b & ((1 << 40) - 1));
            ((a * high) >> 40) + ((a * low) >> 80)
        };
        let halvings = 6;
        let angle = (2 * PI_80 * k as i128 / parts as i128) >> halvings;
        let (mut cosine, mut sine, mut term) = (0, 0, 1_i128 << 80);
        for number in 1..40 {
            match number % 4 {
                1 => cosine += term,
                2 => sine += term,
                3 => cosine -= term,
                _ => sine -= term,
            }
            term = times(term, angle) / number;
        }
        for _ in 0..halvings {
            (cosine, sine) = (times(cosine, cosine) - times(sine, sine), 2 * times(cosine, sine));
        }
        (cosine, sine)
    }

    #[test]
    fn constants_are_the_nearest() {
        for parts in 1..=LONGEST {
            for k in 0..parts {
                let (cosine, sine) = cosine_sine(k, parts);
                let exact = fixed(k, parts);
                for (found, exact) in [(cosine, exact.0), (sine, exact.1)] {
                    let error = (found * 2_f64.powi(80)) as i128 - exact;
                    let spacing = (found.abs().max(2_f64.powi(-20)) * f64::EPSILON * 2_f64.powi(80)) as i128;
                    assert!(error.abs() <= spacing / 2 + (1 << 20), "{k} of {parts}: {found}, {error}");
                }
            }
        }
        assert_eq!(cosine_sine(1, 3).0, -0.5);
        assert_eq!(cosine_sine(3, 12), (0.0, 1.0));
        assert_eq!(cosine_sine(5, 6).0, 0.5);
        assert_eq!(cosine_sine(7, 28), (0.0, 1.0));
    }

    #[test]
    fn every_length_is_as_accurate_as_its_sums() {
        let mut dice = Dice(9);
        for length in (1..=LONGEST).filter(|&length| serves(length)) {
            for direction in DIRECTIONS {
                let short = Short::<f64>::new(length, direction);
                let (mut error, mut whole) = (0.0, 0.0);
                for _ in 0..20 {
                    let mut number = || (dice.next() as i32 >> 8) as f64 / 2_f64.powi(23);
                    let mut line: Vec<_> = (0..length).map(|_| Complex::new(number(), number())).collect();
                    let expected = twin(&line, direction);
                    short.run(&mut line, &mut vec![Complex::ZERO; short.scratch_len()]);
                    whole += expected.iter().map(Complex::norm_sqr).sum::<f64>();
                    error += line.iter().zip(&expected).map(|(a, b)| (a - b).norm_sqr()).sum::<f64>();
                }
                let error = (error / whole).sqrt() / f64::EPSILON;
                assert!(error < 1.1, "{length} points: an error of {error} eps");
            }
        }
    }

    #[test]
    fn what_cancels_is_zero() {
        for length in (1..=LONGEST).filter(|&length| serves(length)) {
            let short = Short::<f64>::new(length, FftDirection::Forward);
            let mut line = vec![Complex::new(0.0, 0.0); length];
            line[0] = Complex::new(0.1, 0.2);
            short.run(&mut line, &mut vec![Complex::ZERO; length]);
            assert!(line.iter().all(|&number| number == Complex::new(0.1, 0.2)), "{line:?}");
        }
    }
}
