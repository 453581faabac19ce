//! Pictures made as small as the window that shows them: each pixel of the window is the mean of the area that it covers.
//!
//! First the rows, then the columns: both are sums with weights. Those of rows are plain loops over a row. Those of columns
//! take from places that are not evenly apart; so a few rows are laid beside each other, and one vector has the same column of
//! each. The compiler makes vectors of all these loops. Rows are handed on as they come to be, and the memory between them is
//! kept for the next picture: new memory would cost as much as the sums.

use std::ops::Range;

use ndshare::Result;
use ndshare::element::Kind;

use super::plane::Plane;

/// Numbers that are read at a time: they stay in the second-level cache.
const BAND: usize = 32 << 10;
/// Rows that lie beside each other: one vector of every CPU.
const LANES: usize = 4;
type Lanes = [f32; LANES];

/// A part of a picture, in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) ys: Range<usize>,
    pub(super) xs: Range<usize>,
}

/// What is seen of a picture: a part, in at most as many rows and columns as the window has.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) plane: &'a Plane<'a>,
    pub(super) region: &'a Region,
    pub(super) window: [usize; 2],
    /// From which number on a pixel is over; none where nobody asks.
    pub(super) limit: Option<f32>,
}

impl Seen<'_> {
    /// Rows and columns of what is made of it.
    pub(super) fn size(&self) -> [usize; 2] {
        let Region { ys, xs } = self.region;
        [ys.len().min(self.window[0]).max(1), xs.len().min(self.window[1]).max(1)]
    }
}

/// The sums with weights that make few numbers of many: for each the first that it takes, and as many weights for all.
#[derive(Debug, Default)]
struct Sums {
    from: usize,
    to: usize,
    count: usize,
    starts: Vec<usize>,
    weights: Vec<f32>,
}

impl Sums {
    /// So many numbers become so few, each the mean of its part.
    fn new(from: usize, to: usize) -> Self {
        let edge = |index: usize| index as f64 * from as f64 / to as f64;
        let first = |index: usize| index * from / to;
        let end = |index: usize| ((index + 1) * from).div_ceil(to);
        let count = (0..to).map(|index| end(index) - first(index)).max().unwrap_or(0);
        // Who has fewer than others begins earlier at the end: no sum reaches behind it.
        let start = |index: usize| first(index).min(from - count);
        let share = from as f64 / to as f64;
        let weight = |index: usize, tap: usize| {
            let (low, high) = ((start(index) + tap) as f64, (start(index) + tap + 1) as f64);
            ((high.min(edge(index + 1)) - low.max(edge(index))).max(0.0) / share) as f32
        };
        let weights = (0..to).flat_map(|index| (0..count).map(move |tap| weight(index, tap))).collect();
        Self { from, to, count, starts: (0..to).map(start).collect(), weights }
    }

    /// The same for other numbers, if they are others.
    fn set(&mut self, from: usize, to: usize) {
        if (self.from, self.to) != (from, to) {
            *self = Self::new(from, to);
        }
    }

    fn weights(&self, index: usize) -> &[f32] {
        &self.weights[index * self.count..][..self.count]
    }

    /// The first that counts, and the weights of all that do.
    fn taps(&self, index: usize) -> (usize, &[f32]) {
        let weights = self.weights(index);
        let before = weights.iter().take_while(|weight| **weight == 0.0).count();
        let behind = weights[before..].iter().rev().take_while(|weight| **weight == 0.0).count();
        (self.starts[index] + before, &weights[before..weights.len() - behind])
    }
}

/// What makes pictures small, with the memory that it needs for that.
#[derive(Debug, Default)]
pub(super) struct Reducer {
    down: Sums,
    across: Sums,
    band: Band,
    /// Sums of rows: as many rows as there are lanes.
    rows: Vec<f32>,
    /// The largest numbers of these rows, of one after the other.
    most: Vec<f32>,
    /// Whether pixels are over, of as many rows.
    is_over: Vec<bool>,
    beside: Vec<Lanes>,
    small: Vec<Lanes>,
    made: Vec<f32>,
}

/// Takes a row: its numbers, and whether each pixel covers one that reaches the limit.
type EachRow<'a> = dyn FnMut(&[f32], Option<&[bool]>) + 'a;

impl Reducer {
    /// Hands on row by row what is seen: of each pixel all channels, and where a limit is given whether it covers a pixel that
    /// reaches it.
    pub(super) fn reduce(&mut self, seen: &Seen<'_>, each: &mut EachRow<'_>) -> Result<()> {
        let channels = seen.plane.channels();
        let ([height, width], len) = (seen.size(), seen.region.xs.len() * channels);
        self.down.set(seen.region.ys.len(), height);
        self.across.set(seen.region.xs.len(), width);
        self.band.clear(len);
        self.rows.resize(LANES * len, 0.0);
        self.is_over.resize(LANES * width, false);
        for top in (0..height).step_by(LANES) {
            let lanes = LANES.min(height - top);
            for lane in 0..lanes {
                self.sum_rows(seen, top + lane, lane)?;
            }
            self.columns(seen, width);
            let made = if self.across.count == 1 { &self.rows } else { &self.made };
            for (row, is_over) in made.chunks_exact(width * channels).zip(self.is_over.chunks_exact(width)).take(lanes)
            {
                match seen.plane.part {
                    None => each(row, seen.limit.map(|_| is_over)),
                    Some(_) => each(&seen.plane.told(row.to_vec()), seen.limit.map(|_| is_over)),
                }
            }
        }
        Ok(())
    }

    /// The sum of all rows of the frame that a row of the window covers.
    fn sum_rows(&mut self, seen: &Seen<'_>, y: usize, lane: usize) -> Result<()> {
        let (len, width) = (self.band.len, self.across.to);
        let sum = &mut self.rows[lane * len..][..len];
        let (mut at, weights) = self.down.taps(y);
        let (first, end) = (at, at + weights.len());
        self.most.clear();
        self.most.resize(if seen.limit.is_some() { len } else { 0 }, f32::MIN);
        // BOUND: each turn takes a row at least.
        while at < end {
            let rows = self.band.rows(seen, at..end)?;
            let count = rows.len() / len;
            weigh(sum, rows, &weights[at - first..][..count], at == first);
            if seen.limit.is_some() {
                rows.chunks_exact(len).for_each(|row| raise(&mut self.most, row));
            }
            at += count;
        }
        if let Some(limit) = seen.limit {
            self.across.mark(&self.most, limit, &mut self.is_over[lane * width..][..width]);
        }
        Ok(())
    }

    /// Makes of sums of rows the rows of the window, where these have fewer columns.
    fn columns(&mut self, seen: &Seen<'_>, width: usize) {
        if self.across.count == 1 {
            return;
        }
        let (len, channels) = (self.band.len, seen.plane.channels());
        self.beside.resize(len, [0.0; LANES]);
        self.small.resize(width * channels, [0.0; LANES]);
        self.made.resize(LANES * width * channels, 0.0);
        lay_beside(&self.rows, &mut self.beside);
        self.across.apply(&self.beside, channels, &mut self.small);
        lay_apart(&self.small, &mut self.made);
        if !matches!(seen.plane.element().kind(), Kind::Bool | Kind::Unsigned | Kind::Signed) {
            let lanes = self.made.chunks_exact_mut(width * channels).zip(self.rows.chunks_exact(len));
            lanes.for_each(|(to, row)| self.across.mend(row, channels, to));
        }
    }
}

/// The sum of rows that lie one behind the other, each with its weight; behind the first ones it is added to what is there.
fn weigh(sum: &mut [f32], rows: &[f32], weights: &[f32], is_first: bool) {
    let mut is_first = is_first;
    for (rows, weights) in rows.chunks(4 * sum.len()).zip(weights.chunks(4)) {
        match *weights {
            [a] => weigh_few(sum, rows, [a], is_first),
            [a, b] => weigh_few(sum, rows, [a, b], is_first),
            [a, b, c] => weigh_few(sum, rows, [a, b, c], is_first),
            [a, b, c, d] => weigh_few(sum, rows, [a, b, c, d], is_first),
            _ => unreachable!("there are one to four"),
        }
        is_first = false;
    }
}

fn weigh_few<const N: usize>(sum: &mut [f32], rows: &[f32], weights: [f32; N], is_first: bool) {
    let len = sum.len();
    let rows: [&[f32]; N] = std::array::from_fn(|row| &rows[row * len..][..len]);
    let of = |x: usize| (1..N).fold(weights[0] * rows[0][x], |sum, row| sum + weights[row] * rows[row][x]);
    if is_first {
        (0..len).for_each(|x| sum[x] = of(x));
    } else {
        (0..len).for_each(|x| sum[x] += of(x));
    }
}

fn raise(most: &mut [f32], row: &[f32]) {
    for (most, &value) in most.iter_mut().zip(row) {
        *most = if value > *most { value } else { *most };
    }
}

/// Four rows of four as four columns.
fn turned(block: [Lanes; LANES]) -> [Lanes; LANES] {
    std::array::from_fn(|row| std::array::from_fn(|column| block[column][row]))
}

/// Lays rows so that the same column of all is one vector: four columns at a time.
fn lay_beside(rows: &[f32], to: &mut [Lanes]) {
    let len = to.len();
    let rows: [&[f32]; LANES] = std::array::from_fn(|lane| &rows[lane * len..][..len]);
    let (many, rest) = to.as_chunks_mut::<LANES>();
    let [a, b, c, d] = rows.map(|row| row.as_chunks::<LANES>().0);
    for ((((a, b), c), d), to) in a.iter().zip(b).zip(c).zip(d).zip(many) {
        *to = turned([*a, *b, *c, *d]);
    }
    let first = len - rest.len();
    rest.iter_mut().enumerate().for_each(|(x, to)| *to = rows.map(|row| row[first + x]));
}

/// The other way round.
fn lay_apart(from: &[Lanes], rows: &mut [f32]) {
    let (many, rest) = from.as_chunks::<LANES>();
    let first = from.len() - rest.len();
    for (lane, row) in rows.chunks_exact_mut(from.len()).enumerate() {
        row[first..].iter_mut().zip(rest).for_each(|(to, from)| *to = from[lane]);
    }
    let (ab, cd) = rows.split_at_mut(2 * from.len());
    let ((a, b), (c, d)) = (ab.split_at_mut(from.len()), cd.split_at_mut(from.len()));
    let [a, b, c, d] = [a, b, c, d].map(|row| row.as_chunks_mut::<LANES>().0);
    for ((((a, b), c), d), from) in a.iter_mut().zip(b).zip(c).zip(d).zip(many) {
        [*a, *b, *c, *d] = turned(*from);
    }
}

fn add(sum: &mut Lanes, values: &Lanes, weight: f32) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

impl Sums {
    /// The columns of rows that lie beside each other.
    fn apply(&self, from: &[Lanes], channels: usize, to: &mut [Lanes]) {
        match (channels, self.count) {
            (1, 2) => self.apply_few::<2>(from, to),
            (1, 3) => self.apply_few::<3>(from, to),
            (1, 4) => self.apply_few::<4>(from, to),
            _ => self.apply_many(from, channels, to),
        }
    }

    /// A number of weights that the compiler knows, so that there is no inner loop.
    fn apply_few<const N: usize>(&self, from: &[Lanes], to: &mut [Lanes]) {
        let weights = self.weights.as_chunks::<N>().0;
        for ((to, &start), weights) in to.iter_mut().zip(&self.starts).zip(weights) {
            let mut sum = [0.0; LANES];
            from[start..start + N].iter().zip(weights).for_each(|(values, &weight)| add(&mut sum, values, weight));
            *to = sum;
        }
    }

    fn apply_many(&self, from: &[Lanes], channels: usize, to: &mut [Lanes]) {
        for (index, to) in to.chunks_exact_mut(channels).enumerate() {
            let from = &from[self.starts[index] * channels..];
            for (channel, to) in to.iter_mut().enumerate() {
                let mut sum = [0.0; LANES];
                let values = from[channel..].iter().step_by(channels);
                values.zip(self.weights(index)).for_each(|(values, &weight)| add(&mut sum, values, weight));
                *to = sum;
            }
        }
    }

    /// Says which pixels cover one that reaches the limit. Of most rows it is known at once that none does.
    fn mark(&self, most: &[f32], limit: f32, is_over: &mut [bool]) {
        is_over.fill(false);
        if !most.iter().fold(false, |has_any, value| has_any | (*value >= limit)) {
            return;
        }
        let channels = most.len() / self.from;
        for (index, is_over) in is_over.iter_mut().enumerate() {
            let (start, weights) = self.taps(index);
            *is_over = most[start * channels..][..weights.len() * channels].iter().any(|value| *value >= limit);
        }
    }

    /// Makes anew what is no number: beside one that is none there was a sum with a weight of zero.
    fn mend(&self, row: &[f32], channels: usize, to: &mut [f32]) {
        if to.iter().fold(true, |are_finite, value| are_finite & value.is_finite()) {
            return;
        }
        for (at, to) in to.iter_mut().enumerate().filter(|(_, value)| !value.is_finite()) {
            let (start, weights) = self.taps(at / channels);
            let values = row[start * channels + at % channels..].iter().step_by(channels);
            *to = values.zip(weights).map(|(value, weight)| value * weight).sum();
        }
    }
}

/// Rows of a region as numbers, read some at a time, from the first on.
#[derive(Debug, Default)]
struct Band {
    numbers: Vec<f32>,
    /// Which rows of the region are in it.
    there: Range<usize>,
    /// Numbers of a row, one at least.
    len: usize,
}

impl Band {
    fn clear(&mut self, len: usize) {
        (self.there, self.len) = (0..0, len.max(1));
    }

    /// Some of these rows, beginning with the first.
    fn rows(&mut self, seen: &Seen<'_>, wanted: Range<usize>) -> Result<&[f32]> {
        let most = (BAND / self.len).max(1);
        let is_there = self.there.contains(&wanted.start) && wanted.end.min(wanted.start + most) <= self.there.end;
        if !is_there {
            let there = wanted.start..(wanted.start + most).min(seen.region.ys.len());
            let first = seen.region.ys.start;
            seen.plane.read(first + there.start..first + there.end, seen.region.xs.clone(), &mut self.numbers)?;
            self.there = there;
        }
        let (start, end) = (wanted.start - self.there.start, wanted.end.min(self.there.end) - self.there.start);
        Ok(&self.numbers[start * self.len..end * self.len])
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

    /// All rows of what is seen, and all that is said of them.
    fn reduced(reducer: &mut Reducer, seen: &Seen<'_>) -> (Vec<f32>, Vec<bool>) {
        let (mut values, mut marked) = (Vec::new(), Vec::new());
        let each = &mut |row: &[f32], is_over: Option<&[bool]>| {
            values.extend(row);
            marked.extend(is_over.unwrap_or_default());
        };
        reducer.reduce(seen, each).unwrap();
        (values, marked)
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_area() {
        let mut reducer = Reducer::default();
        for (shape, window, ys, xs) in [
            ([20, 30, 1], [20, 30], 0..20, 0..30),
            ([20, 30, 1], [10, 10], 0..20, 0..30),
            ([23, 31, 1], [17, 22], 0..23, 0..31),
            ([23, 31, 1], [7, 6], 3..20, 5..30),
            ([23, 31, 3], [9, 12], 1..22, 0..31),
            ([40, 50, 4], [1, 1], 0..40, 0..50),
            ([5, 6, 1], [50, 60], 1..3, 2..6),
            // Many rows and columns in each pixel, and rows longer than what is read at a time.
            ([41, 47, 1], [3, 4], 0..41, 0..47),
            ([3, 40_000, 1], [2, 9], 0..3, 0..40_000),
        ] {
            let items = scattered(shape.iter().product());
            let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
            let lengths = if shape[2] == 1 { shape[..2].to_vec() } else { shape.to_vec() };
            let shown = Shown::own(0, 0, lengths, "<u2".parse().unwrap(), bytes);
            let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
            let region = Region { ys, xs };
            let limit = 60_000.0;
            let seen = Seen { plane: &plane, region: &region, window, limit: Some(limit) };
            let size = seen.size();
            let (values, marked) = reduced(&mut reducer, &seen);
            let means = naive(&items, shape, &region, size);
            assert!(size[0] <= window[0] && size[1] <= window[1]);
            assert_eq!(values.len(), means.len());
            let worst = values.iter().zip(&means).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            let most = if region.xs.len() > 1000 { 0.3 } else { 0.05 };
            assert!(worst < most, "{shape:?} {window:?}: off by {worst}");
            let covered: Vec<f64> = items.iter().map(|&item| f64::from(u8::from(f32::from(item) >= limit))).collect();
            let over = naive(&covered.iter().map(|&one| one as u16).collect::<Vec<_>>(), shape, &region, size);
            let is_over: Vec<bool> =
                over.chunks(shape[2]).map(|colours| colours.iter().any(|&share| share > 1e-9)).collect();
            assert_eq!(marked, is_over);
            assert_eq!(reduced(&mut reducer, &Seen { limit: None, ..seen }), (values, vec![]));
        }
    }

    #[test]
    fn the_phase_is_that_of_the_mean() {
        let items = [1_f32, 0.1, 1.0, -0.1, -1.0, 0.1, -1.0, -0.1];
        let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
        let shown = Shown::own(0, 0, vec![1, 4], "<c8".parse().unwrap(), bytes);
        let plane = Plane::of(&shown, &[], true, Part::Phase).unwrap();
        let region = Region { ys: 0..1, xs: 0..4 };
        let seen = Seen { plane: &plane, region: &region, window: [1, 2], limit: None };
        assert_eq!(reduced(&mut Reducer::default(), &seen).0, [0.0, std::f32::consts::PI]);
    }

    #[test]
    fn what_is_no_number_is_no_number_in_its_own_pixels_alone() {
        let mut reducer = Reducer::default();
        for odd in [f32::NAN, f32::INFINITY] {
            for at in 0..8 * 8 {
                let mut items = [1_f32; 8 * 8];
                items[at] = odd;
                let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
                let shown = Shown::own(0, 0, vec![8, 8], "<f4".parse().unwrap(), bytes);
                let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
                let region = Region { ys: 0..8, xs: 0..8 };
                let seen = Seen { plane: &plane, region: &region, window: [5, 5], limit: None };
                let covers = |pixel: usize, at: usize| pixel * 8 < (at + 1) * 5 && at * 5 < (pixel + 1) * 8;
                let is_odd = |pixel: usize| covers(pixel / 5, at / 8) && covers(pixel % 5, at % 8);
                for (pixel, value) in reduced(&mut reducer, &seen).0.iter().enumerate() {
                    assert_eq!(value.is_finite(), !is_odd(pixel), "{odd} at {at}, pixel {pixel}");
                    assert!(is_odd(pixel) || (value - 1.0).abs() < 1e-6);
                }
            }
        }
    }
}
