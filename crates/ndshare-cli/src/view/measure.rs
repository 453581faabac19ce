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
    for value in finite() {
        let bin = if width > 0.0 { ((f64::from(value) - low) / width) as usize } else { 0 };
        bins[bin.min(count - 1)] += 1;
    }
    let high = low + width * count as f64;
    Ok(json!({ "low": low, "high": high, "whole": is_whole, "bins": bins, "samples": values.len(), "step": step }))
}

/// Values of a region, all or in rows and columns so far apart that they are not too many.
fn samples(plane: &Plane<'_>, region: &Region) -> Result<(Vec<f32>, usize)> {
    let pixels = region.ys.len() * region.xs.len();
    let step = ((pixels as f64 / MOST_SAMPLES as f64).sqrt().ceil() as usize).max(1);
    let mut values = Vec::with_capacity(pixels / step);
    for y in region.ys.clone().step_by(step) {
        let row = plane.values(y..y + 1, region.xs.clone())?;
        let colours = row.len() / region.xs.len().max(1);
        values.extend(row.chunks_exact(colours.max(1)).step_by(step).flatten());
    }
    Ok((values, step))
}

/// Mean and standard deviation of a rectangle, over all colours.
pub(super) fn rectangle(plane: &Plane<'_>, [left, top, right, bottom]: [usize; 4]) -> Result<Value> {
    let (xs, ys) = (left.min(plane.width)..right.min(plane.width), top.min(plane.height)..bottom.min(plane.height));
    if xs.is_empty() || ys.is_empty() {
        return Ok(Value::Null);
    }
    // Around the first value: squares of large numbers would leave nothing of small deviations.
    let (mut origin, mut count, mut sum, mut squares) = (None, 0_u64, 0.0, 0.0);
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    for y in ys {
        let row = plane.values(y..y + 1, xs.clone())?;
        let origin = *origin.get_or_insert(f64::from(row[0]));
        for &value in row.iter().filter(|value| value.is_finite()) {
            let from = f64::from(value) - origin;
            (count, sum, squares) = (count + 1, sum + from, squares + from * from);
            (low, high) = (low.min(value), high.max(value));
        }
    }
    if count == 0 {
        return Ok(Value::Null);
    }
    let mean = sum / count as f64;
    let deviation = (squares / count as f64 - mean * mean).max(0.0).sqrt();
    let mean = mean + origin.unwrap_or(0.0);
    Ok(json!({ "mean": mean, "deviation": deviation, "low": low, "high": high, "pixels": count }))
}

/// The values along a line, of the pixels that are nearest; of colours their mean. Outside of the frame there is none.
pub(super) fn profile(plane: &Plane<'_>, [x0, y0, x1, y1]: [f64; 4]) -> Result<Value> {
    let length = (x1 - x0).hypot(y1 - y0);
    let count = length.ceil().clamp(1.0, MOST_POINTS);
    let points = (0..=count as usize).map(|index| {
        let part = index as f64 / count;
        let (x, y) = ((x0 + (x1 - x0) * part).floor(), (y0 + (y1 - y0) * part).floor());
        if x < 0.0 || y < 0.0 || x >= plane.width as f64 || y >= plane.height as f64 {
            return Ok(None);
        }
        let values = plane.values(y as usize..y as usize + 1, x as usize..x as usize + 1)?;
        Ok(Some(values.iter().sum::<f32>() / values.len() as f32))
    });
    Ok(json!({ "length": length, "values": points.collect::<Result<Vec<_>>>()? }))
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
}
