//! Engines for one line of one length, by rustfft and realfft, which know every length.
//!
//! Short lines in double precision have an engine that is more accurate (`short`).
//! Lengths with a large prime factor take a longer way (Rader, Bluestein) that costs accuracy in single precision.
//! They are transformed in double precision; what is read and written stays single.

use super::convert::{Scratch, Work};
use super::short::{self, Short};
use super::transform::Family;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftDirection, FftPlanner};
use std::sync::Arc;

/// From this prime factor on, single precision is transformed in double.
const LARGE_PRIME: usize = 11;

/// What an engine is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) family: Family,
    pub(super) forward: bool,
    /// The logical length: of the real line where one side is real.
    pub(super) length: usize,
    pub(super) double: bool,
}

/// An engine in the precision that it works in.
#[derive(Clone)]
pub(super) enum Line {
    Single(Arc<Engine<f32>>),
    Double(Arc<Engine<f64>>),
}

impl Line {
    /// Makes the engine for `key`.
    pub(super) fn plan(key: &Key) -> Self {
        if key.double || largest_prime(key.length) >= LARGE_PRIME {
            Self::Double(Arc::new(Engine::plan(key)))
        } else {
            Self::Single(Arc::new(Engine::plan(key)))
        }
    }
}

/// The largest prime factor; 1 for 1.
fn largest_prime(mut length: usize) -> usize {
    let (mut largest, mut factor) = (1, 2);
    while factor * factor <= length {
        if length.is_multiple_of(factor) {
            length /= factor;
            largest = factor;
        } else {
            factor += 1;
        }
    }
    largest.max(length)
}

/// What transforms one line in scratch memory.
pub(super) struct Engine<W: Work> {
    way: Way<W>,
    /// The real side has the other sign: the complex side is conjugated.
    pub(super) is_conjugate: bool,
    length: usize,
}

enum Way<W: Work> {
    Short(Short<W>, Family),
    Complex(Arc<dyn Fft<W>>),
    Three(FftDirection),
    ToHalf(Arc<dyn RealToComplex<W>>),
    ToReal(Arc<dyn ComplexToReal<W>>),
}

impl<W: Work> Engine<W> {
    fn plan(key: &Key) -> Self {
        let direction = if key.forward { FftDirection::Forward } else { FftDirection::Inverse };
        let is_short = size_of::<W>() == size_of::<f64>() && short::serves(key.length);
        let (way, is_conjugate) = match key.family {
            // Both halves of a Hermitian spectrum are made or used, in the direction that has no conjugates.
            Family::ToHalf if is_short => (Self::short(key, FftDirection::Forward), !key.forward),
            Family::ToReal if is_short => (Self::short(key, FftDirection::Inverse), key.forward),
            Family::Complex if is_short => (Self::short(key, direction), false),
            Family::Complex if key.length == 3 => (Way::Three(direction), false),
            Family::Complex => (Way::Complex(FftPlanner::new().plan_fft(key.length, direction)), false),
            Family::ToHalf => (Way::ToHalf(RealFftPlanner::new().plan_fft_forward(key.length)), !key.forward),
            Family::ToReal => (Way::ToReal(RealFftPlanner::new().plan_fft_inverse(key.length)), key.forward),
        };
        Self { way, is_conjugate, length: key.length }
    }

    fn short(key: &Key, direction: FftDirection) -> Way<W> {
        Way::Short(Short::new(key.length, direction), key.family)
    }

    /// Makes room for one tile of `lines` lines; returns how many numbers apart its lines are.
    ///
    /// Lines whose distance is a power of two would share few places of the cache.
    pub(super) fn prepare(&self, scratch: &mut Scratch<W>, lines: usize) -> usize {
        let pitch = self.length + 8;
        match &self.way {
            Way::Short(short, _) => scratch.reserve(lines * pitch, lines * pitch, short.scratch_len()),
            Way::Complex(fft) => scratch.reserve(lines * pitch, 0, fft.get_inplace_scratch_len()),
            Way::Three(_) => scratch.reserve(lines * pitch, 0, 0),
            Way::ToHalf(fft) => scratch.reserve(lines * pitch, lines * pitch, fft.get_scratch_len()),
            Way::ToReal(fft) => scratch.reserve(lines * pitch, lines * pitch, fft.get_scratch_len()),
        }
        pitch
    }

    /// Transforms the first lines in scratch memory, `pitch` numbers apart, each from its side to the other.
    pub(super) fn run(&self, scratch: &mut Scratch<W>, lines: usize, pitch: usize) {
        let half = self.length / 2 + 1;
        let Scratch { complex, real, inner } = scratch;
        for (complex, start) in complex.chunks_mut(pitch).take(lines).zip((0..).step_by(pitch)) {
            match &self.way {
                Way::Short(short, family) => {
                    let (line, inner) = (&mut complex[..self.length], &mut inner[..short.scratch_len()]);
                    self.run_short(short, *family, line, &mut real[start..start + self.length], inner);
                }
                Way::Complex(fft) => {
                    fft.process_with_scratch(&mut complex[..self.length], &mut inner[..fft.get_inplace_scratch_len()]);
                }
                Way::Three(direction) => three(complex, *direction),
                Way::ToHalf(fft) => {
                    let real = &mut real[start..start + self.length];
                    let inner = &mut inner[..fft.get_scratch_len()];
                    let done = fft.process_with_scratch(real, &mut complex[..half], inner);
                    debug_assert!(done.is_ok(), "{done:?}");
                }
                Way::ToReal(fft) => {
                    let real = &mut real[start..start + self.length];
                    self.make_hermitian(&mut complex[..half]);
                    let inner = &mut inner[..fft.get_scratch_len()];
                    let done = fft.process_with_scratch(&mut complex[..half], real, inner);
                    debug_assert!(done.is_ok(), "{done:?}");
                }
            }
        }
    }

    fn run_short(
        &self,
        short: &Short<W>,
        family: Family,
        line: &mut [Complex<W>],
        real: &mut [W],
        inner: &mut [Complex<W>],
    ) {
        let (length, half) = (self.length, self.length / 2 + 1);
        let zero = W::of_double(0.0);
        match family {
            Family::Complex => short.run(line, inner),
            Family::ToHalf => {
                line.iter_mut().zip(real).for_each(|(number, real)| *number = Complex::new(*real, zero));
                short.run(line, inner);
                line[0].im = zero;
                if length.is_multiple_of(2) {
                    line[half - 1].im = zero;
                }
            }
            Family::ToReal => {
                self.make_hermitian(&mut line[..half]);
                (half..length).for_each(|place| line[place] = line[length - place].conj());
                short.run(line, inner);
                real.iter_mut().zip(line).for_each(|(real, number)| *real = number.re);
            }
        }
    }

    /// The ends of a half-spectrum count as real.
    fn make_hermitian(&self, half: &mut [Complex<W>]) {
        let zero = W::of_double(0.0);
        half[0].im = zero;
        if self.length.is_multiple_of(2) {
            half[self.length / 2].im = zero;
        }
        if self.is_conjugate {
            half.iter_mut().for_each(|number| number.im = -number.im);
        }
    }
}

/// Three points with a cosine that is exactly -1/2, which rustfft's is not: what cancels, cancels to zero.
fn three<W: Work>(line: &mut [Complex<W>], direction: FftDirection) {
    let [a, b, c] = [line[0], line[1], line[2]];
    let sine = W::of_double(if direction == FftDirection::Forward { -0.75_f64.sqrt() } else { 0.75_f64.sqrt() });
    let (sum, difference) = (b + c, b - c);
    let even = a - sum * W::of_double(0.5);
    let odd = Complex::new(-difference.im * sine, difference.re * sine);
    line[..3].copy_from_slice(&[a + sum, even + odd, even - odd]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_primes() {
        let found: Vec<usize> = [1, 2, 12, 17, 49, 1088, 2011, 1 << 20].map(largest_prime).to_vec();
        assert_eq!(found, [1, 2, 3, 17, 7, 17, 2011, 2]);
    }
}
