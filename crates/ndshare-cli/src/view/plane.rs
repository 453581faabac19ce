//! Which part of a frame is the picture: two of its axes, perhaps with colours, at one place of all others.

use std::ops::Range;

use ndshare::element::{Kind, Number};
use ndshare::{Element, Result};

use super::convert::{self, Convert, Parts};
use super::shown::{Shown, wrong};

/// What of complex numbers is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Magnitude,
    Phase,
    Real,
    Imaginary,
}

impl Part {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "magnitude" => Self::Magnitude,
            "phase" => Self::Phase,
            "real" => Self::Real,
            "imaginary" => Self::Imaginary,
            _ => return None,
        })
    }
}

/// A picture in a frame: rows of pixels, each of `channels` numbers.
#[derive(Debug)]
pub(super) struct Plane<'a> {
    shown: &'a Shown,
    /// The place along each axis before the picture's own.
    lead: Vec<usize>,
    pub(super) height: usize,
    pub(super) width: usize,
    /// How many colours a pixel has: 1, 3 or 4.
    pub(super) colours: usize,
    /// Which part of a complex number is shown; none for others.
    pub(super) part: Option<Part>,
    /// What all numbers are told as differences from: zero, but where they lie so close together that 32 bits could not tell
    /// them apart.
    pub(super) origin: f64,
    convert: Convert<f32>,
}

/// Where so many pixels, evenly over a picture, lie closer together than this share of what they are, the others may.
const SAMPLES: usize = 8;
const CLOSE: f64 = 1.0 / 4096.0;

impl<'a> Plane<'a> {
    /// The picture at `lead`, a place for each axis before the last two, or three where the last one is of colours.
    pub(super) fn of(shown: &'a Shown, lead: &[usize], may_be_colours: bool, part: Part) -> Result<Self> {
        let shape = &shown.shape;
        let colours = if may_be_colours { colours(shape, &shown.element) } else { 1 };
        let axes = if colours > 1 { &shape[..shape.len() - 1] } else { &shape[..] };
        let (leading, [height, width]) = match axes {
            [] => (&axes[..0], [1, 1]),
            [width] => (&axes[..0], [1, *width]),
            [leading @ .., height, width] => (leading, [*height, *width]),
        };
        // What is out of reach by now, because the frame has another shape, is at the end.
        let place =
            |(axis, &length): (usize, &usize)| lead.get(axis).copied().unwrap_or(0).min(length.saturating_sub(1));
        let lead: Vec<usize> = leading.iter().enumerate().map(place).collect();
        if leading.contains(&0) || height == 0 || width == 0 {
            return Err(wrong(format!("there is nothing to see: the frame has the shape {shape:?}")));
        }
        let part = (shown.element.kind() == Kind::Complex).then_some(part);
        let parts = if matches!(part, Some(Part::Magnitude)) { Parts::Magnitude } else { Parts::Both };
        let convert = convert::single(&shown.element, parts).ok_or_else(|| {
            let element = &shown.element;
            wrong(format!("items of {element} cannot be shown: expected bool, integers, or floats of at most 64 bits, also as complex numbers"))
        })?;
        let mut plane = Self { shown, lead, height, width, colours, part, origin: 0.0, convert };
        plane.origin = plane.middle()?.unwrap_or(0.0);
        Ok(plane)
    }

    /// A number in the middle of those that lie close together and have more bits than are counted with.
    fn middle(&self) -> Result<Option<f64>> {
        let is_long =
            matches!(self.number(), Some(Number::I32 | Number::U32 | Number::I64 | Number::U64 | Number::F64));
        let Some(double) = convert::double(self.element(), Parts::Both).filter(|_| is_long) else { return Ok(None) };
        let mut found = Vec::with_capacity(SAMPLES * SAMPLES);
        for y in (0..SAMPLES).map(|at| at * self.height / SAMPLES) {
            for x in (0..SAMPLES).map(|at| at * self.width / SAMPLES) {
                let mut number = [0.0];
                double(&self.bytes(y..y + 1, x..x + 1)?, &mut number);
                found.extend(number.into_iter().filter(|number| number.is_finite()));
            }
        }
        found.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (found.first(), found.last()) else { return Ok(None) };
        let middle = found[found.len() / 2];
        Ok((high - low < middle.abs() * CLOSE).then_some(middle))
    }

    pub(super) fn lead(&self) -> &[usize] {
        &self.lead
    }

    /// Numbers for each pixel as they are read: the colours, or the parts of a complex number.
    pub(super) fn channels(&self) -> usize {
        match self.part {
            None => self.colours,
            Some(Part::Magnitude) => 1,
            Some(_) => 2,
        }
    }

    /// The items of a part of the picture as they lie in memory.
    pub(super) fn bytes(&self, ys: Range<usize>, xs: Range<usize>) -> Result<Vec<u8>> {
        let mut ranges: Vec<_> = self.lead.iter().map(|&at| at..at + 1).collect();
        let axes = self.shown.shape.len() - usize::from(self.colours > 1);
        ranges.extend([ys, xs].into_iter().skip(2_usize.saturating_sub(axes)));
        ranges.extend((self.colours > 1).then_some(0..self.colours));
        self.shown.part(&ranges)
    }

    /// The numbers of a part of the picture, row by row, in `to`, as differences from `origin`.
    pub(super) fn read(&self, ys: Range<usize>, xs: Range<usize>, to: &mut Vec<f32>) -> Result<()> {
        to.resize(ys.len() * xs.len() * self.channels(), 0.0);
        let bytes = self.bytes(ys, xs)?;
        match convert::double(self.element(), Parts::Both).filter(|_| self.origin != 0.0) {
            None => (self.convert)(&bytes, to),
            Some(double) => {
                let mut exact = vec![0.0; to.len()];
                double(&bytes, &mut exact);
                to.iter_mut().zip(exact).for_each(|(to, number)| *to = (number - self.origin) as f32);
            }
        }
        Ok(())
    }

    /// Such a difference as the number that it is of.
    pub(super) fn whole(&self, difference: f32) -> f64 {
        self.origin + f64::from(difference)
    }

    /// A limit as such a difference.
    pub(super) fn relative(&self, limit: f64) -> f32 {
        (limit - self.origin) as f32
    }

    /// The same, also as differences, of whatever part is shown: one number for each pixel, or one for each colour.
    pub(super) fn values(&self, ys: Range<usize>, xs: Range<usize>) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.read(ys, xs, &mut values)?;
        Ok(self.told(values))
    }

    /// Makes of the two numbers of each pixel the part that is shown, where there are two.
    pub(super) fn told(&self, values: Vec<f32>) -> Vec<f32> {
        let of: fn(&[f32; 2]) -> f32 = match self.part {
            None | Some(Part::Magnitude) => return values,
            Some(Part::Phase) => |[re, im]| im.atan2(*re),
            Some(Part::Real) => |[re, _]| *re,
            Some(Part::Imaginary) => |[_, im]| *im,
        };
        values.as_chunks::<2>().0.iter().map(of).collect()
    }

    /// One pixel as text, with all digits.
    pub(super) fn text(&self, y: usize, x: usize) -> Result<String> {
        let item = self.bytes(y..y + 1, x..x + 1)?;
        let texts = item.chunks_exact(self.element().size().max(1)).map(|item| convert::text(self.element(), item));
        Ok(texts.flatten().collect::<Vec<_>>().join(", "))
    }

    pub(super) fn element(&self) -> &Element {
        &self.shown.element
    }

    pub(super) fn number(&self) -> Option<Number> {
        match self.shown.element {
            Element::Number(number, _) => Some(number),
            _ => None,
        }
    }
}

/// How many colours a pixel of such frames has.
fn colours(shape: &[usize], element: &Element) -> usize {
    match (shape, element.kind()) {
        ([.., _, _, count @ (3 | 4)], Kind::Unsigned | Kind::Float) => *count,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shape: &[usize], element: &str, bytes: Vec<u8>) -> Shown {
        Shown::own(0, 0, shape.to_vec(), element.parse().unwrap(), bytes)
    }

    #[test]
    fn axes_are_rows_columns_and_colours() {
        let told = |shape: &[usize], element: &str| {
            let element: Element = element.parse().unwrap();
            let len = shape.iter().product::<usize>() * element.size();
            let shown = Shown::own(0, 0, shape.to_vec(), element, vec![1; len]);
            Plane::of(&shown, &[9], true, Part::Magnitude)
                .map(|plane| (plane.lead().to_vec(), plane.height, plane.width, plane.colours))
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(&[], "u1"), Ok((vec![], 1, 1, 1)));
        assert_eq!(told(&[7], "u1"), Ok((vec![], 1, 7, 1)));
        assert_eq!(told(&[5, 7], "<f4"), Ok((vec![], 5, 7, 1)));
        assert_eq!(told(&[5, 7, 3], "u1"), Ok((vec![], 5, 7, 3)));
        assert_eq!(told(&[5, 7, 3], "<i2"), Ok((vec![4], 7, 3, 1)), "signed numbers are no colours");
        assert_eq!(told(&[2, 5, 7], "<u2"), Ok((vec![1], 5, 7, 1)), "a place that is out of reach is the last");
        assert_eq!(told(&[6, 2, 5, 7, 4], "u1"), Ok((vec![5, 0], 5, 7, 4)));
        assert!(told(&[0, 7], "u1").unwrap_err().contains("nothing to see"));
        assert!(told(&[2, 2], "|S3").unwrap_err().contains("cannot be shown"));
    }

    #[test]
    fn numbers_that_lie_close_together_are_told_apart() {
        let of = |element: &str, items: &[[u8; 8]]| {
            let shown = shown(&[2, items.len() / 2], element, items.concat());
            let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
            let values = plane.values(0..2, 0..items.len() / 2).unwrap();
            (plane.origin, values.into_iter().map(|value| plane.whole(value)).collect::<Vec<_>>(), plane.relative(1e15))
        };
        let close: Vec<_> = (0..20_u64).map(|item| (1_000_000_000_000_000 + item).to_le_bytes()).collect();
        let (origin, values, limit) = of("<u8", &close);
        assert_eq!(values, (0..20).map(|item| 1e15 + f64::from(item)).collect::<Vec<_>>());
        assert_eq!(f64::from(limit), 1e15 - origin);
        let close: Vec<_> = (0..20).map(|item| (1e9 + f64::from(item) / 64.0).to_be_bytes()).collect();
        assert_eq!(of(">f8", &close).1, (0..20).map(|item| 1e9 + f64::from(item) / 64.0).collect::<Vec<_>>());
        let apart: Vec<_> = (0..20).map(|item| (1e15 * f64::from(item)).to_le_bytes()).collect();
        assert_eq!(of("<f8", &apart).0, 0.0, "far apart they are told as they are");
        assert_eq!(of("<f8", &[f64::NAN.to_le_bytes(); 2]).0, 0.0);
    }

    #[test]
    fn pixels_are_told_as_numbers_and_as_text() {
        let numbers = shown(&[2, 2, 3], "u1", (0..12).collect());
        let plane = Plane::of(&numbers, &[], true, Part::Magnitude).unwrap();
        assert_eq!(plane.values(1..2, 0..2).unwrap(), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(plane.text(1, 1).unwrap(), "9, 10, 11");
        let complex = [3_f32, -4.0].iter().flat_map(|part| part.to_le_bytes()).collect();
        let complex = shown(&[1, 1], "<c8", complex);
        for (part, value) in
            [(Part::Magnitude, 5.0), (Part::Phase, (-4_f32).atan2(3.0)), (Part::Real, 3.0), (Part::Imaginary, -4.0)]
        {
            let plane = Plane::of(&complex, &[], true, part).unwrap();
            assert_eq!(
                (plane.values(0..1, 0..1).unwrap(), plane.text(0, 0).unwrap()),
                (vec![value], "3.0-4.0j".into())
            );
        }
    }
}
