//! The spectrum of what is seen: how strong each spatial frequency is, as a logarithm, with the slow ones in the middle.

use std::sync::{Arc, OnceLock};

use ndshare::arena::Options as ArenaOptions;
use ndshare::fft::{Options, Plan, Spec, Transform};
use ndshare::{Arena, Array, Number, Result};

use super::plane::Plane;
use super::reduce::Region;
use super::shown::{Shown, wrong};

/// The longest side that is transformed: of more the middle.
const MOST: usize = 2048;

/// What all spectra that are made at once may take.
const BUDGET: u64 = 1 << 30;

/// An arena of this process alone: who only looks takes no memory of others.
fn arena() -> Result<&'static Arc<Arena>> {
    static ARENA: OnceLock<Arc<Arena>> = OnceLock::new();
    if ARENA.get().is_none() {
        // Another thread may be faster; then this one is dropped.
        let _ = ARENA.set(Arena::create(&ArenaOptions { budget_bytes: Some(BUDGET), ..ArenaOptions::default() })?);
    }
    Ok(ARENA.get().expect("it was set above"))
}

/// The spectrum of a region as a frame of its own, and of which region it is. The mean is taken away first, which would
/// outshine everything else.
pub(super) fn of(plane: &Plane<'_>, region: &Region) -> Result<(Shown, Region)> {
    let middle = |range: &std::ops::Range<usize>| {
        let len = range.len().min(MOST);
        let start = range.start + (range.len() - len) / 2;
        start..start + len
    };
    let region = Region { ys: middle(&region.ys), xs: middle(&region.xs) };
    if plane.colours > 1 {
        return Err(wrong("expected a picture without colours for a spectrum, got one with: they are no one signal"));
    }
    let values = plane.values(region.ys.clone(), region.xs.clone())?;
    let (sum, count) = values
        .iter()
        .filter(|value| value.is_finite())
        .fold((0.0, 0_usize), |(sum, count), &value| (sum + f64::from(value), count + 1));
    let mean = (sum / count.max(1) as f64) as f32;
    let shape = [region.ys.len(), region.xs.len()];
    // What is no number is as the mean: it has no frequency.
    let flat: Vec<f32> = values.iter().map(|value| if value.is_finite() { value - mean } else { 0.0 }).collect();
    let power = transformed(&flat, shape)?;
    let bytes = centred(&power, shape).into_iter().flat_map(f32::to_le_bytes).collect();
    Ok((Shown::own(0, 0, shape.to_vec(), "<f4".parse()?, bytes), region))
}

/// The logarithm of the power of each frequency, of half of them: the other half is the same.
fn transformed(values: &[f32], shape: [usize; 2]) -> Result<Vec<f32>> {
    let from = Array::from_slice(arena()?, &shape, values)?;
    let options = Options { result: Some(Number::C64), ..Options::default() };
    let spectrum = Plan::new(Spec::new(Transform::Rfft2, &shape, Number::F32, &options)?).apply(&from)?;
    let bytes = spectrum.to_bytes()?;
    let power = |item: &[u8; 8]| {
        let [re, im] = [0, 4].map(|at| f32::from_ne_bytes([item[at], item[at + 1], item[at + 2], item[at + 3]]));
        (re * re + im * im + 1e-20).log10()
    };
    Ok(bytes.as_chunks::<8>().0.iter().map(power).collect())
}

/// All frequencies, with zero in the middle, from the half of them.
fn centred(half: &[f32], [height, width]: [usize; 2]) -> Vec<f32> {
    let columns = width / 2 + 1;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let at = |(y, x): (usize, usize)| {
        let (y, x) = ((y + height - height / 2) % height, (x + width - width / 2) % width);
        if x < columns { half[y * columns + x] } else { half[(height - y) % height * columns + width - x] }
    };
    pixels.map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frequency_has_its_place() {
        for (height, width) in [(4, 6), (5, 7), (1, 4), (6, 5)] {
            // Of a frequency its number; negative ones are those of their opposite.
            let signed =
                |k: usize, n: usize| if k > (n - 1) / 2 && k * 2 != n { k as i64 - n as i64 } else { k as i64 };
            let half: Vec<f32> = (0..height)
                .flat_map(|y| (0..width / 2 + 1).map(move |x| (signed(y, height) * 100 + x as i64) as f32))
                .collect();
            let all = centred(&half, [height, width]);
            assert_eq!(all[height / 2 * width + width / 2], 0.0, "zero is in the middle");
            if width > 3 {
                assert_eq!(all[height / 2 * width + width / 2 + 1], 1.0);
                assert_eq!(all[height / 2 * width + width / 2 - 1], 1.0);
            }
        }
    }
}
