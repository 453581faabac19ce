//! Pictures made as small as the window that shows them: each pixel of the window is the mean of the area that it covers.
//!
//! First the rows, then the columns: both are sums with weights, and those of the rows, which are most of the work, are plain
//! loops over a row that the compiler turns into vectors.

use std::ops::Range;

use ndshare::Result;

use super::plane::Plane;

/// Numbers that are read at a time: they stay in the second-level cache.
const BAND: usize = 32 << 10;

/// A part of a picture, in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) ys: Range<usize>,
    pub(super) xs: Range<usize>,
}

/// A picture made small.
#[derive(Debug, PartialEq)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Row by row; of each pixel all channels.
    pub(super) values: Vec<f32>,
    /// Whether a pixel covers one that reaches the limit, if a limit was given.
    pub(super) is_over: Option<Vec<bool>>,
}

/// The sums with weights that make few numbers of many: for each the first that it takes, and as many weights for all.
#[derive(Debug)]
struct Sums {
    count: usize,
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Sums {
    /// So many numbers become so few, each the mean of its part.
    fn new(from: usize, to: usize) -> Self {
        let edge = |index: usize| index as f64 * from as f64 / to as f64;
        let start = |index: usize| index * from / to;
        let end = |index: usize| ((index + 1) * from).div_ceil(to);
        let count = (0..to).map(|index| end(index) - start(index)).max().unwrap_or(0);
        let share = from as f64 / to as f64;
        let weight = |index: usize, tap: usize| {
            let (low, high) = ((start(index) + tap) as f64, (start(index) + tap + 1) as f64);
            ((high.min(edge(index + 1)) - low.max(edge(index))).max(0.0) / share) as f32
        };
        let weights = (0..to).flat_map(|index| (0..count).map(move |tap| weight(index, tap))).collect();
        Self { count, starts: (0..to).map(start).collect(), weights }
    }

    fn weights(&self, index: usize) -> &[f32] {
        &self.weights[index * self.count..][..self.count]
    }
}

/// The part of a picture that a window shows, as at most so many rows and columns. With `limit` it is told which pixels cover
/// one that reaches it.
pub(super) fn reduce(plane: &Plane<'_>, region: &Region, window: [usize; 2], limit: Option<f32>) -> Result<Grid> {
    let channels = plane.channels();
    let (height, width) = (region.ys.len().min(window[0]).max(1), region.xs.len().min(window[1]).max(1));
    let (down, across) = (Sums::new(region.ys.len(), height), Sums::new(region.xs.len(), width));
    let mut rows = Rows::new(plane, region);
    let len = region.xs.len() * channels;
    // The weights behind the end are zero, and so are the numbers there.
    let mut sum = vec![0.0; len + across.count * channels];
    let mut values = vec![0.0; height * width * channels];
    let mut most = limit.map(|_| vec![f32::MIN; sum.len()]);
    let mut is_over = limit.map(|_| Vec::with_capacity(height * width));
    let mut shares = vec![0.0; width * channels];
    for (index, to) in values.chunks_exact_mut(width * channels).enumerate() {
        sum[..len].fill(0.0);
        most.iter_mut().for_each(|most| most.fill(f32::MIN));
        let taps = down.weights(index).iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        for (tap, &weight) in taps {
            let row = rows.get(down.starts[index] + tap)?;
            add(&mut sum, row, weight);
            if let Some(most) = &mut most {
                raise(most, row);
            }
        }
        across.apply(&sum, channels, to);
        if let (Some(most), Some(is_over), Some(limit)) = (&mut most, &mut is_over, limit) {
            // Who covers a part of what is over has a share in it. Of most rows it is known at once that nobody has.
            let has_any = mark(most, limit);
            shares.fill(0.0);
            if has_any {
                across.apply(most, channels, &mut shares);
            }
            is_over.extend(shares.chunks_exact(channels).map(|pixel| pixel.iter().any(|&share| share > 0.0)));
        }
    }
    let values = plane.told(values);
    Ok(Grid { height, width, values, is_over })
}

fn add(sum: &mut [f32], row: &[f32], weight: f32) {
    for (sum, &value) in sum.iter_mut().zip(row) {
        *sum += weight * value;
    }
}

fn raise(most: &mut [f32], row: &[f32]) {
    for (most, &value) in most.iter_mut().zip(row) {
        *most = if value > *most { value } else { *most };
    }
}

/// Makes ones of what reaches the limit, and zeros of all else; whether there is a one.
fn mark(most: &mut [f32], limit: f32) -> bool {
    let mut has_any = false;
    for value in most {
        let is_over = *value >= limit;
        has_any |= is_over;
        *value = f32::from(u8::from(is_over));
    }
    has_any
}

impl Sums {
    /// The columns of one row.
    fn apply(&self, row: &[f32], channels: usize, to: &mut [f32]) {
        match (channels, self.count) {
            (1, 1) => self.apply_few::<1>(row, to),
            (1, 2) => self.apply_few::<2>(row, to),
            (1, 3) => self.apply_few::<3>(row, to),
            (1, 4) => self.apply_few::<4>(row, to),
            _ => self.apply_many(row, channels, to),
        }
    }

    /// A number of weights that the compiler knows, so that there is no inner loop.
    fn apply_few<const N: usize>(&self, row: &[f32], to: &mut [f32]) {
        let weights = self.weights.as_chunks::<N>().0;
        for ((to, &start), weights) in to.iter_mut().zip(&self.starts).zip(weights) {
            let values: &[f32; N] = row[start..start + N].try_into().expect("it is a slice of N items");
            *to = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
        }
    }

    fn apply_many(&self, row: &[f32], channels: usize, to: &mut [f32]) {
        for (x, to) in to.chunks_exact_mut(channels).enumerate() {
            let values = row[self.starts[x] * channels..].chunks_exact(channels);
            to.fill(0.0);
            for (values, &weight) in values.zip(self.weights(x)) {
                add(to, values, weight);
            }
        }
    }
}

/// Rows of a region as numbers, read some at a time, from the first on.
struct Rows<'a> {
    plane: &'a Plane<'a>,
    region: &'a Region,
    band: Vec<f32>,
    /// Which rows of the region are in it.
    there: Range<usize>,
    len: usize,
}

impl<'a> Rows<'a> {
    fn new(plane: &'a Plane<'a>, region: &'a Region) -> Self {
        let len = region.xs.len() * plane.channels();
        Self { plane, region, band: Vec::new(), there: 0..0, len }
    }

    fn get(&mut self, index: usize) -> Result<&[f32]> {
        if !self.there.contains(&index) {
            let end = (index + (BAND / self.len.max(1)).max(1)).min(self.region.ys.len());
            let first = self.region.ys.start;
            self.plane.read(first + index..first + end, self.region.xs.clone(), &mut self.band)?;
            self.there = index..end;
        }
        Ok(&self.band[(index - self.there.start) * self.len..][..self.len])
    }
}

#[cfg(test)]
mod tests {
    use super::super::plane::Part;
    use super::super::shown::Shown;
    use super::*;

    /// Numbers that look like none.
    fn scattered(count: usize) -> Vec<u16> {
        (0..count as u64).map(|index| (index.wrapping_mul(2_654_435_761) >> 7) as u16).collect()
    }

    /// The mean of the area that a pixel covers, as one would say it.
    fn naive(items: &[u16], shape: [usize; 3], region: &Region, [height, width]: [usize; 2]) -> Vec<f64> {
        let share = |from: &Range<usize>, to: usize, index: usize, at: usize| {
            let step = from.len() as f64 / to as f64;
            let (low, high) = (index as f64 * step, (index + 1) as f64 * step);
            let at = (at - from.start) as f64;
            ((at + 1.0).min(high) - at.max(low)).max(0.0) / step
        };
        let mut means = Vec::new();
        for (i, j, c) in (0..height).flat_map(|i| (0..width).flat_map(move |j| (0..shape[2]).map(move |c| (i, j, c)))) {
            let mut mean = 0.0;
            for (y, x) in region.ys.clone().flat_map(|y| region.xs.clone().map(move |x| (y, x))) {
                let weight = share(&region.ys, height, i, y) * share(&region.xs, width, j, x);
                mean += weight * f64::from(items[(y * shape[1] + x) * shape[2] + c]);
            }
            means.push(mean);
        }
        means
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_area() {
        for (shape, window, ys, xs) in [
            ([20, 30, 1], [20, 30], 0..20, 0..30),
            ([20, 30, 1], [10, 10], 0..20, 0..30),
            ([23, 31, 1], [17, 22], 0..23, 0..31),
            ([23, 31, 1], [7, 6], 3..20, 5..30),
            ([23, 31, 3], [9, 12], 1..22, 0..31),
            ([40, 50, 4], [1, 1], 0..40, 0..50),
            ([5, 6, 1], [50, 60], 1..3, 2..6),
        ] {
            let items = scattered(shape.iter().product());
            let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
            let lengths = if shape[2] == 1 { shape[..2].to_vec() } else { shape.to_vec() };
            let shown = Shown::own(0, 0, lengths, "<u2".parse().unwrap(), bytes);
            let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
            let region = Region { ys, xs };
            let limit = 60_000.0;
            let grid = reduce(&plane, &region, window, Some(limit)).unwrap();
            let means = naive(&items, shape, &region, [grid.height, grid.width]);
            assert!(grid.height <= window[0] && grid.width <= window[1]);
            assert_eq!(grid.values.len(), means.len());
            let worst = grid.values.iter().zip(&means).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 0.05, "{shape:?} {window:?}: off by {worst}");
            let covered: Vec<f64> = items.iter().map(|&item| f64::from(u8::from(f32::from(item) >= limit))).collect();
            let over = naive(
                &covered.iter().map(|&one| one as u16).collect::<Vec<_>>(),
                shape,
                &region,
                [grid.height, grid.width],
            );
            let is_over: Vec<bool> =
                over.chunks(shape[2]).map(|colours| colours.iter().any(|&share| share > 1e-9)).collect();
            assert_eq!(grid.is_over, Some(is_over));
            assert_eq!(reduce(&plane, &region, window, None).unwrap().is_over, None);
        }
    }

    #[test]
    fn the_phase_is_that_of_the_mean() {
        let items = [1_f32, 0.1, 1.0, -0.1, -1.0, 0.1, -1.0, -0.1];
        let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
        let shown = Shown::own(0, 0, vec![1, 4], "<c8".parse().unwrap(), bytes);
        let plane = Plane::of(&shown, &[], true, Part::Phase).unwrap();
        let grid = reduce(&plane, &Region { ys: 0..1, xs: 0..4 }, [1, 2], None).unwrap();
        assert_eq!(grid.values, [0.0, std::f32::consts::PI]);
    }
}
