//! What is told of a frame beside its picture: the values of pixels, a histogram, a profile, a rectangle. All of it is of the
//! frame's own pixels, not of what was made small.

use ndshare::Result;
use ndshare::element::Kind;
use serde_json::{Value, json};

use super::plane::Plane;
use super::reduce::Region;
use super::wish::Wish;

/// How many pixels a histogram is made of at the most; it is told of how many it was.
const MOST_SAMPLES: usize = 1 << 16;
/// Bars of a histogram at the most.
const BINS: usize = 256;
/// So few pixels have their values told.
const MOST_VALUES: usize = 1024;
/// So many points of a profile.
const MOST_POINTS: f64 = 4096.0;
/// Numbers of a rectangle that are read at a time.
const MOST_NUMBERS: usize = 32 << 10;
/// Sums that are made beside each other.
const LANES: usize = 8;

/// The values of the pixel under the cursor, and of all if they are few.
pub(super) fn values(plane: &Plane<'_>, region: &Region, wish: &Wish, to: &mut Value) -> Result<()> {
    if let Some([x, y]) = wish.cursor.filter(|&[x, y]| x < plane.width && y < plane.height) {
        to["cursor"] = json!({ "x": x, "y": y, "text": plane.text(y, x)? });
    }
    if wish.has_values && region.ys.len() * region.xs.len() <= MOST_VALUES {
        let row = |y| region.xs.clone().map(|x| plane.text(y, x)).collect::<Result<Vec<_>>>();
        to["values"] = json!(region.ys.clone().map(row).collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

/// How often each value is in a region, between the least and the most.
pub(super) fn histogram(plane: &Plane<'_>, region: &Region) -> Result<Value> {
    let (values, step) = samples(plane, region)?;
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (low, range) = if low > high { (0.0, 0.0) } else { (f64::from(low), f64::from(high) - f64::from(low)) };
    let is_whole = matches!(plane.element().kind(), Kind::Bool | Kind::Signed | Kind::Unsigned);
    // Each bar of whole numbers has as many of them: others would stand out.
    let width = if is_whole { ((range + 1.0) / BINS as f64).ceil() } else { range / BINS as f64 };
    let count = if is_whole { ((range + 1.0) / width).ceil() as usize } else { BINS };
    let mut bins = vec![0_u32; count.max(1)];
    // Half a number further on, so that no whole number is at an edge, where a product may differ from a quotient.
    let (first, per_width) = (low - if is_whole { 0.5 } else { 0.0 }, if width > 0.0 { 1.0 / width } else { 0.0 });
    for value in finite() {
        let bin = ((f64::from(value) - first) * per_width) as u32 as usize;
        bins[bin.min(count - 1)] += 1;
    }
    let (low, high) = (plane.origin + low, plane.origin + low + width * count as f64);
    Ok(json!({ "low": low, "high": high, "whole": is_whole, "bins": bins, "samples": values.len(), "step": step }))
}

/// Values of a region, all or in rows and columns so far apart that they are not too many.
fn samples(plane: &Plane<'_>, region: &Region) -> Result<(Vec<f32>, usize)> {
    let pixels = region.ys.len() * region.xs.len();
    let step = ((pixels as f64 / MOST_SAMPLES as f64).sqrt().ceil() as usize).max(1);
    let mut values = Vec::with_capacity(pixels / step);
    for y in region.ys.clone().step_by(step) {
        let row = plane.values(y..y + 1, region.xs.clone())?;
        match row.len() / region.xs.len().max(1) {
            0 | 1 => values.extend(row.iter().step_by(step)),
            colours => row.chunks_exact(colours).step_by(step).for_each(|pixel| values.extend_from_slice(pixel)),
        }
    }
    Ok((values, step))
}

/// Mean and standard deviation of a rectangle, over all colours.
pub(super) fn rectangle(plane: &Plane<'_>, [left, top, right, bottom]: [usize; 4]) -> Result<Value> {
    let (xs, ys) = (left.min(plane.width)..right.min(plane.width), top.min(plane.height)..bottom.min(plane.height));
    if xs.is_empty() || ys.is_empty() {
        return Ok(Value::Null);
    }
    let mut moments: Option<Moments> = None;
    let rows = (MOST_NUMBERS / xs.len()).max(1);
    for top in ys.clone().step_by(rows) {
        let values = plane.values(top..ys.end.min(top + rows), xs.clone())?;
        let first = || values.iter().copied().find(|value| value.is_finite());
        if let Some(moments) = moments.as_mut() {
            moments.take(&values);
        } else if let Some(origin) = first() {
            moments.insert(Moments::around(origin)).take(&values);
        }
    }
    Ok(moments.map_or(Value::Null, |moments| moments.told(plane)))
}

/// Sums of finite numbers and of their squares, around one of them: squares of large numbers would leave nothing of small
/// deviations. In lanes, of which the compiler makes vectors.
struct Moments {
    origin: f64,
    count: [u32; LANES],
    sum: [f64; LANES],
    squares: [f64; LANES],
    low: [f32; LANES],
    high: [f32; LANES],
}

impl Moments {
    fn around(origin: f32) -> Self {
        let none = [0.0; LANES];
        let (low, high) = ([origin; LANES], [origin; LANES]);
        Self { origin: f64::from(origin), count: [0; LANES], sum: none, squares: none, low, high }
    }

    fn take(&mut self, values: &[f32]) {
        let (many, rest) = values.as_chunks::<LANES>();
        for few in many {
            (0..LANES).for_each(|lane| self.take_one(lane, few[lane]));
        }
        rest.iter().for_each(|&value| self.take_one(0, value));
    }

    fn take_one(&mut self, lane: usize, value: f32) {
        let is_finite = value.abs() <= f32::MAX;
        let value = if is_finite { value } else { self.low[lane] };
        let from = if is_finite { f64::from(value) - self.origin } else { 0.0 };
        self.count[lane] += u32::from(is_finite);
        self.sum[lane] += from;
        self.squares[lane] += from * from;
        self.low[lane] = if value < self.low[lane] { value } else { self.low[lane] };
        self.high[lane] = if value > self.high[lane] { value } else { self.high[lane] };
    }

    fn told(&self, plane: &Plane<'_>) -> Value {
        let count = self.count.iter().map(|&count| u64::from(count)).sum::<u64>();
        let [sum, squares] = [&self.sum, &self.squares].map(|lanes| lanes.iter().sum::<f64>() / count as f64);
        let (low, high) = (self.low.into_iter().reduce(f32::min), self.high.into_iter().reduce(f32::max));
        let [low, high] = [low, high].map(|value| value.map(|value| plane.whole(value)));
        let deviation = (squares - sum * sum).max(0.0).sqrt();
        json!({ "mean": plane.origin + sum + self.origin, "deviation": deviation, "low": low, "high": high, "pixels": count })
    }
}

/// The values along a line, of the pixels that are nearest; of colours their mean. Outside of the frame there is none.
pub(super) fn profile(plane: &Plane<'_>, [x0, y0, x1, y1]: [f64; 4]) -> Result<Value> {
    let length = (x1 - x0).hypot(y1 - y0);
    let count = length.ceil().clamp(1.0, MOST_POINTS);
    let point = |index: usize| {
        let part = index as f64 / count;
        let (x, y) = ((x0 + (x1 - x0) * part).floor(), (y0 + (y1 - y0) * part).floor());
        let is_inside = x >= 0.0 && y >= 0.0 && x < plane.width as f64 && y < plane.height as f64;
        is_inside.then_some((y as usize, x as usize))
    };
    let points: Vec<_> = (0..=count as usize).map(point).collect();
    let mut values = Vec::with_capacity(points.len());
    // Those of one row are read at once.
    for points in points.chunk_by(|a, b| a.map(|(y, _)| y) == b.map(|(y, _)| y)) {
        values.extend(values_at(plane, points)?);
    }
    Ok(json!({ "length": length, "values": values }))
}

/// The values at points of one row, none for those that are outside.
fn values_at(plane: &Plane<'_>, points: &[Option<(usize, usize)>]) -> Result<Vec<Option<f64>>> {
    let xs = || points.iter().flatten().map(|(_, x)| *x);
    let (Some(Some((y, _))), Some(left), Some(right)) = (points.first(), xs().min(), xs().max()) else {
        return Ok(vec![None; points.len()]);
    };
    let row = plane.values(*y..y + 1, left..right + 1)?;
    let colours = row.len() / (right + 1 - left);
    let mean = |x: usize| row[(x - left) * colours..][..colours].iter().sum::<f32>() / colours as f32;
    Ok(xs().map(|x| Some(plane.whole(mean(x)))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::plane::Part;
    use super::super::shown::Shown;
    use super::*;

    fn shown() -> Shown {
        let items = (0..20 * 30_u16).flat_map(|item| (60_000 + item % 7).to_le_bytes());
        Shown::own(0, 0, vec![20, 30], "<u2".parse().unwrap(), items.collect())
    }

    #[test]
    fn a_histogram_counts_every_pixel_of_a_small_frame() {
        let shown = shown();
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let told = histogram(&plane, &Region { ys: 0..20, xs: 0..30 }).unwrap();
        assert_eq!((&told["low"], &told["high"], &told["step"]), (&json!(60_000.0), &json!(60_007.0), &json!(1)));
        assert_eq!(told["bins"], json!([86, 86, 86, 86, 86, 85, 85]));
        let floats = (0..1000).flat_map(|item| (item as f32).to_le_bytes()).chain(f32::NAN.to_le_bytes()).collect();
        let shown = Shown::own(0, 0, vec![1001], "<f4".parse().unwrap(), floats);
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let told = histogram(&plane, &Region { ys: 0..1, xs: 0..1001 }).unwrap();
        assert_eq!(
            (&told["low"], &told["high"], told["bins"].as_array().unwrap().len()),
            (&json!(0.0), &json!(999.0), BINS)
        );
        assert_eq!(told["bins"].as_array().unwrap().iter().map(|bin| bin.as_u64().unwrap()).sum::<u64>(), 1000);
    }

    #[test]
    fn a_rectangle_has_mean_and_deviation() {
        let shown = shown();
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let told = rectangle(&plane, [0, 0, 7, 20]).unwrap();
        assert_eq!(
            (told["mean"].as_f64(), told["deviation"].as_f64(), told["pixels"].as_u64()),
            (Some(60_003.0), Some(2.0), Some(140))
        );
        let odd = [f32::NAN, 5.0, f32::INFINITY, 7.0, f32::NEG_INFINITY].iter().flat_map(|item| item.to_le_bytes());
        let odd = Shown::own(0, 0, vec![1, 5], "<f4".parse().unwrap(), odd.collect());
        let odd = Plane::of(&odd, &[], true, Part::Magnitude).unwrap();
        assert_eq!(
            rectangle(&odd, [0, 0, 5, 1]).unwrap(),
            json!({ "mean": 6.0, "deviation": 1.0, "low": 5.0, "high": 7.0, "pixels": 2 })
        );
        assert_eq!(rectangle(&odd, [0, 0, 1, 1]).unwrap(), Value::Null, "no number at all");
        assert_eq!(rectangle(&plane, [30, 0, 40, 20]).unwrap(), Value::Null);
        assert_eq!(rectangle(&plane, [5, 5, 4, 9]).unwrap(), Value::Null);
        assert_eq!(rectangle(&plane, [28, 19, 99, 99]).unwrap()["pixels"], 2);
    }

    #[test]
    fn a_profile_goes_from_end_to_end() {
        let shown = shown();
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let told = profile(&plane, [0.5, 0.5, 6.5, 0.5]).unwrap();
        assert_eq!(
            told,
            json!({ "length": 6.0, "values": [60000.0, 60001.0, 60002.0, 60003.0, 60004.0, 60005.0, 60006.0] })
        );
        assert_eq!(profile(&plane, [-1.0, 0.5, 1.0, 0.5]).unwrap()["values"], json!([null, 60000.0, 60001.0]));
        assert_eq!(profile(&plane, [2.5, 0.5, 2.5, 0.5]).unwrap()["values"], json!([60002.0, 60002.0]));
    }

    #[test]
    fn values_are_told_where_they_are_few() {
        let shown = shown();
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let wish = Wish { cursor: Some([3, 0]), has_values: true, ..Wish::default() };
        let mut told = json!({});
        values(&plane, &Region { ys: 0..2, xs: 5..8 }, &wish, &mut told).unwrap();
        let expected = json!([["60005", "60006", "60000"], ["60000", "60001", "60002"]]);
        assert_eq!(told, json!({ "cursor": { "x": 3, "y": 0, "text": "60003" }, "values": expected }));
    }

    /// Numbers that look like none, some of which are none.
    fn scattered(count: usize, has_odd: bool) -> Vec<f32> {
        let number = |index: usize| ((index as u64).wrapping_mul(2_654_435_761) >> 7) as u16;
        let odd = |index: usize| has_odd && index.is_multiple_of(11);
        (0..count).map(|index| if odd(index) { f32::NAN } else { f32::from(number(index)) / 3.0 + 1e4 }).collect()
    }

    #[test]
    fn what_is_told_is_what_one_would_compute_pixel_by_pixel() {
        let (height, width) = (170, 403);
        for has_odd in [false, true] {
            let items = scattered(height * width, has_odd);
            let bytes = items.iter().flat_map(|item| item.to_le_bytes()).collect();
            let shown = Shown::own(0, 0, vec![height, width], "<f4".parse().unwrap(), bytes);
            let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
            for [left, top, right, bottom] in [[0, 0, 403, 170], [5, 3, 6, 4], [1, 2, 398, 169], [390, 160, 999, 999]] {
                let rows = items.chunks(width).take(bottom).skip(top);
                let inside = rows.flat_map(|row| &row[left..right.min(width)]).filter(|item| item.is_finite());
                let inside: Vec<f64> = inside.copied().map(f64::from).collect();
                let told = rectangle(&plane, [left, top, right, bottom]).unwrap();
                let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                let squares = inside.iter().map(|item| (item - mean).powi(2)).sum::<f64>();
                assert_eq!(told["pixels"], inside.len());
                assert!((told["mean"].as_f64().unwrap() - mean).abs() < 1e-9 * mean);
                let deviation = (squares / inside.len() as f64).sqrt();
                assert!((told["deviation"].as_f64().unwrap() - deviation).abs() < 1e-6 * mean);
                assert_eq!(told["low"].as_f64(), inside.iter().copied().reduce(f64::min));
                assert_eq!(told["high"].as_f64(), inside.iter().copied().reduce(f64::max));
            }
            for line in
                [[-3.0, -2.0, 410.0, 180.0], [400.0, 5.5, 2.0, 5.5], [7.5, 169.0, 7.5, -4.0], [-9.0, -9.0, -1.0, -1.0]]
            {
                let told = profile(&plane, line).unwrap();
                let values = told["values"].as_array().unwrap();
                for (index, value) in values.iter().enumerate() {
                    let part = index as f64 / (values.len() - 1) as f64;
                    let [x, y] = [0, 1].map(|axis| (line[axis] + (line[axis + 2] - line[axis]) * part).floor());
                    let is_inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
                    let expected = is_inside.then(|| items[y as usize * width + x as usize]);
                    assert_eq!(value, &json!(expected), "{line:?} {index}");
                }
            }
        }
    }

    #[test]
    fn a_bar_has_what_is_between_its_limits() {
        for (element, from) in [("<u2", 0_i64), ("<u2", 60_000), ("<i4", -1_000_000), ("|u1", 3)] {
            let step = if element == "<i4" { 997 } else { 1 };
            let items: Vec<i64> = (0..250).map(|index| from + index * index % 231 * step).collect();
            let element: ndshare::Element = element.parse().unwrap();
            let bytes = items.iter().flat_map(|item| item.to_le_bytes()[..element.size()].to_vec()).collect();
            let shown = Shown::own(0, 0, vec![10, 25], element, bytes);
            let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
            let told = histogram(&plane, &Region { ys: 0..10, xs: 0..25 }).unwrap();
            let bins = told["bins"].as_array().unwrap();
            let (low, high) = (told["low"].as_f64().unwrap(), told["high"].as_f64().unwrap());
            let width = (high - low) / bins.len() as f64;
            for (index, bin) in bins.iter().enumerate() {
                let (from, to) = (low + width * index as f64, low + width * (index + 1) as f64);
                let count = items.iter().filter(|item| from <= **item as f64 && (**item as f64) < to).count();
                assert_eq!(bin, count, "{from} to {to}");
            }
        }
    }
}
