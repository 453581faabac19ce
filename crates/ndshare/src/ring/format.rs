//! What a ring says of itself in its head, so that whoever opens it knows what its frames are.

use crate::array::Description;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::layout::{Layout, MAX_DIMS};
use crate::varint::{Reader, push, push_text};

/// The most bytes of a ring's name.
pub const MOST_NAME_BYTES: usize = 255;
/// The most bytes that a format takes in a head.
pub(super) const MOST_FORMAT_BYTES: usize = 1 << 16;

/// How readers look for a frame before they sleep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spin {
    /// For so many seconds at the begin of each wait; 0: not at all.
    For(f64),
    /// From shortly before the next frame of a steady camera is expected, for at most a twenty-fifth of all time. A reader
    /// that has seen no pace yet waits as is usual.
    Auto,
}

/// What every frame of a ring is unless it says otherwise, and what goes with each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Format {
    /// The shape of every frame, which is contiguous in C order; none: frames have any shape.
    pub shape: Option<Vec<usize>>,
    /// What the items of every frame are; none: anything.
    pub element: Option<Element>,
    /// A structure that goes with each frame; none: nothing does.
    pub meta: Option<Element>,
    /// The ring's name, for people.
    pub name: Option<String>,
    /// How its readers look before they sleep; none: as is usual.
    pub spin: Option<Spin>,
}

const SHAPE: u8 = 1;
const ELEMENT: u8 = 2;
const META: u8 = 4;
const NAME: u8 = 8;
const SPIN: u8 = 16;
const SPIN_AUTO: u8 = 32;

impl Format {
    /// Frames of one shape and type.
    pub fn new(shape: &[usize], element: impl Into<Element>) -> Self {
        Self { shape: Some(shape.to_vec()), element: Some(element.into()), ..Self::default() }
    }

    /// Bytes that a frame of the ring's own shape is made for, at least one; 0 when frames have any.
    ///
    /// # Errors
    /// `InvalidValue` for a shape that is too large, or that has no element type.
    pub fn frame_bytes(&self) -> Result<u64> {
        let Some(shape) = &self.shape else { return Ok(0) };
        let element = self.element.as_ref().ok_or_else(|| Error::value("expected an element type with a shape"))?;
        Ok(Layout::contiguous(shape, element.size())?.1.max(1) as u64)
    }

    /// Bytes of meta.
    pub fn meta_bytes(&self) -> usize {
        self.meta.as_ref().map_or(0, Element::size)
    }

    /// What an array of the ring's own shape is; none when frames have any.
    pub fn description(&self) -> Option<Description> {
        let (shape, element) = (self.shape.as_ref()?, self.element.as_ref()?);
        let (layout, _) = Layout::contiguous(shape, element.size()).ok()?;
        Some(Description { layout, element: Some(element.clone()) })
    }

    /// The format as bytes: which parts there are, then the parts, each with its length.
    ///
    /// # Errors
    /// `InvalidValue` for a name of more than 255 bytes, a shape of too many axes, and a format that is too long.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        self.frame_bytes()?;
        let flag = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        let mut out = vec![
            flag(self.shape.is_some(), SHAPE)
                | flag(self.element.is_some(), ELEMENT)
                | flag(self.meta.is_some(), META)
                | flag(self.name.is_some(), NAME)
                | flag(matches!(self.spin, Some(Spin::For(_))), SPIN)
                | flag(self.spin == Some(Spin::Auto), SPIN_AUTO),
        ];
        if let Some(shape) = &self.shape {
            push(&mut out, shape.len() as u64);
            shape.iter().for_each(|&length| push(&mut out, length as u64));
        }
        for element in self.element.iter().chain(&self.meta) {
            push_text(&mut out, &element.to_string());
        }
        if let Some(name) = &self.name {
            if name.len() > MOST_NAME_BYTES {
                let text = format!("expected a name of at most {MOST_NAME_BYTES} bytes, got one of {}", name.len());
                return Err(Error::value(text));
            }
            push_text(&mut out, name);
        }
        if let Some(Spin::For(seconds)) = self.spin {
            out.extend(seconds.to_bits().to_le_bytes());
        }
        if out.len() <= MOST_FORMAT_BYTES {
            return Ok(out);
        }
        Err(Error::value(format!("expected a dtype and meta that are told in {MOST_FORMAT_BYTES} bytes")))
    }

    /// The format in `bytes`.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are none.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let format = parse(&mut Reader::new(bytes)).filter(|format| format.frame_bytes().is_ok());
        format.ok_or_else(|| Error::value(format!("expected the format of a ring, got {} other bytes", bytes.len())))
    }
}

fn parse(reader: &mut Reader<'_>) -> Option<Format> {
    let flags = reader.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let mut format = Format::default();
    if has(SHAPE) {
        let ndim = reader.small::<usize>().filter(|&ndim| ndim <= MAX_DIMS)?;
        format.shape = Some((0..ndim).map(|_| reader.small()).collect::<Option<_>>()?);
    }
    if has(ELEMENT) {
        format.element = Some(reader.text()?.parse().ok()?);
    }
    if has(META) {
        format.meta = Some(reader.text()?.parse().ok()?);
    }
    if has(NAME) {
        format.name = Some(reader.text().filter(|name| name.len() <= MOST_NAME_BYTES)?.to_owned());
    }
    if has(SPIN) {
        format.spin = Some(Spin::For(f64::from_bits(u64::from_le_bytes(*reader.take(8)?.first_chunk()?))));
    } else if has(SPIN_AUTO) {
        format.spin = Some(Spin::Auto);
    }
    reader.rest().is_empty().then_some(format)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::element::Number;

    fn format() -> Format {
        Format {
            meta: "[('exposure', '<f8'), ('é', '|S3')]".parse().ok(),
            name: Some("cam é".to_owned()),
            spin: Some(Spin::For(0.25)),
            ..Format::new(&[1200, 1600], Number::U16)
        }
    }

    #[test]
    fn formats_survive_bytes() {
        let some = Format { shape: None, ..format() };
        let auto = Format { spin: Some(Spin::Auto), ..format() };
        for format in [format(), some, auto, Format::default(), Format::new(&[], Number::C64)] {
            assert_eq!(Format::decode(&format.encode().unwrap()).unwrap(), format);
        }
        assert_eq!((format().frame_bytes().unwrap(), format().meta_bytes()), (1200 * 1600 * 2, 11));
    }

    #[test]
    fn no_prefix_is_a_format_and_no_noise_is_a_panic() {
        let bytes = format().encode().unwrap();
        (0..bytes.len()).for_each(|len| assert!(Format::decode(&bytes[..len]).is_err(), "{len}"));
        for (at, noise) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |noise| (at, noise))) {
            let mut bytes = bytes.clone();
            bytes[at] = noise;
            let _ = Format::decode(&bytes);
        }
    }

    #[test]
    fn what_cannot_be_a_format_is_an_error() {
        let bad = [
            Format { name: Some("x".repeat(256)), ..format() },
            Format { element: None, ..format() },
            Format::new(&[usize::MAX, 2], Number::U16),
            Format::new(&[1; 65], Number::U16),
        ];
        bad.iter().for_each(|format| assert!(format.encode().is_err(), "{format:?}"));
    }
}
