//! A picture as a message: a head of 72 bytes, what is told of it as JSON, and its pixels. All numbers are little-endian.
//! `docs/view.md` says it byte by byte, and the page's `message.js` reads it.

use ndshare::element::Number;
use serde_json::Value;

use super::reduce::{Grid, Region};

const MAGIC: &[u8; 4] = b"NDSV";
const VERSION: u8 = 1;
pub(super) const HEAD_BYTES: usize = 72;
/// Pixels begin at a multiple of this.
const ALIGNMENT: usize = 8;

/// The codes above this one have meanings of their own, where the flags say so.
const MOST_CODE: f32 = 65_533.0;
const NO_NUMBER: u16 = 65_534;
const OVER: u16 = 65_535;
/// From here to its double a float has no fraction.
const WHOLE_FROM: f32 = 8_388_608.0;
const HAS_NO_NUMBERS: u32 = 1;
const HAS_OVER: u32 = 2;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Picture = 1,
    Spectrum = 2,
    /// Bytes of a file.
    File = 3,
    /// A picture in full, of which the page makes a file.
    Print = 4,
}

/// What a message says of itself.
pub(super) struct Head<'a> {
    pub(super) kind: Kind,
    pub(super) source: usize,
    pub(super) seq: u64,
    pub(super) told: &'a Value,
}

/// How numbers become codes: a code stands for `offset + scale * code`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    bytes: u8,
    offset: f64,
    scale: f64,
}

impl Scale {
    /// Small integers are codes as they are; other numbers are spread over those that there are.
    fn of(number: Option<Number>, grid: &Grid) -> Self {
        let plain = |bytes, offset| Self { bytes, offset, scale: 1.0 };
        match number {
            Some(Number::Bool | Number::U8) if grid.is_over.is_none() => plain(1, 0.0),
            Some(Number::Bool | Number::U8 | Number::U16) => plain(2, 0.0),
            Some(Number::I8) => plain(2, -128.0),
            Some(Number::I16) => plain(2, -32_768.0),
            _ => Self::spread(&grid.values),
        }
    }

    fn spread(values: &[f32]) -> Self {
        let (low, high) = range(values);
        let (low, range) = if high >= low { (f64::from(low), f64::from(high) - f64::from(low)) } else { (0.0, 0.0) };
        let scale = if range > 0.0 { range / f64::from(MOST_CODE) } else { 1.0 };
        Self { bytes: 2, offset: low, scale }
    }
}

/// The least and the most of all finite numbers; the other way round where there is none. Sixteen at a time: the compiler makes
/// vectors of these.
fn range(values: &[f32]) -> (f32, f32) {
    let (many, rest) = values.as_chunks::<16>();
    let (mut low, mut high) = ([f32::MAX; 16], [f32::MIN; 16]);
    let mut take = |lane: usize, value: f32| {
        let is_finite = value.abs() <= f32::MAX;
        low[lane] = if is_finite && value < low[lane] { value } else { low[lane] };
        high[lane] = if is_finite && value > high[lane] { value } else { high[lane] };
    };
    for few in many {
        for (lane, &value) in few.iter().enumerate() {
            take(lane, value);
        }
    }
    rest.iter().for_each(|&value| take(0, value));
    (low.into_iter().fold(f32::MAX, f32::min), high.into_iter().fold(f32::MIN, f32::max))
}

/// The message of a picture, of which `number` is the type of the items.
pub(super) fn picture(
    head: &Head<'_>,
    region: &Region,
    colours: usize,
    number: Option<Number>,
    grid: &Grid,
) -> Vec<u8> {
    let scale = Scale::of(number, grid);
    let is_whole = matches!(number, Some(Number::Bool | Number::U8 | Number::U16 | Number::I8 | Number::I16));
    let flags = if is_whole { 0 } else { HAS_NO_NUMBERS } | if grid.is_over.is_some() { HAS_OVER } else { 0 };
    let json = head.told.to_string();
    let padding = (HEAD_BYTES + json.len()).next_multiple_of(ALIGNMENT) - HEAD_BYTES - json.len();
    let len = HEAD_BYTES + json.len() + padding + grid.values.len() * usize::from(scale.bytes);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(MAGIC);
    bytes.extend([VERSION, head.kind as u8, scale.bytes, colours as u8]);
    for word in [head.source, flags as usize, grid.width, grid.height] {
        bytes.extend((word as u32).to_le_bytes());
    }
    for edge in [region.xs.start, region.ys.start, region.xs.end, region.ys.end] {
        bytes.extend((edge as u32).to_le_bytes());
    }
    bytes.extend(head.seq.to_le_bytes());
    bytes.extend(scale.offset.to_le_bytes());
    bytes.extend(scale.scale.to_le_bytes());
    bytes.extend(((json.len() + padding) as u32).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + padding, b' ');
    append(&mut bytes, grid, scale, flags, colours);
    bytes
}

fn append(bytes: &mut Vec<u8>, grid: &Grid, scale: Scale, flags: u32, colours: usize) {
    let (offset, step) = (scale.offset as f32, (1.0 / scale.scale) as f32);
    let most = match (scale.bytes, flags) {
        (1, _) => f32::from(u8::MAX),
        (_, 0) => f32::from(u16::MAX),
        _ => MOST_CODE,
    };
    // Whole numbers are the low bits of a float from here on, rounded: that goes in vectors, unlike a conversion.
    let bits = |value: f32| (((value - offset) * step).max(0.0).min(most) + WHOLE_FROM).to_bits();
    let begin = bytes.len();
    bytes.resize(begin + grid.values.len() * usize::from(scale.bytes), 0);
    let codes = &mut bytes[begin..];
    if scale.bytes == 1 {
        codes.iter_mut().zip(&grid.values).for_each(|(to, &value)| *to = bits(value) as u8);
        return;
    }
    let codes = codes.as_chunks_mut::<2>().0;
    codes.iter_mut().zip(&grid.values).for_each(|(to, &value)| *to = (bits(value) as u16).to_le_bytes());
    let has_odd = || grid.values.iter().fold(false, |odd, value| odd | !value.is_finite());
    if flags & HAS_NO_NUMBERS != 0 && has_odd() {
        let odd = codes.iter_mut().zip(&grid.values).filter(|(_, value)| !value.is_finite());
        odd.for_each(|(to, _)| *to = NO_NUMBER.to_le_bytes());
    }
    let over = grid.is_over.iter().flatten().enumerate().filter(|(_, is_over)| **is_over);
    over.for_each(|(pixel, _)| codes[pixel * colours..][..colours].fill(OVER.to_le_bytes()));
}

/// The message of a file: its name is told, and its bytes stand in the place of pixels.
pub(super) fn file(head: &Head<'_>, contents: &[u8]) -> Vec<u8> {
    let empty = Grid { height: 0, width: 0, values: Vec::new(), is_over: None };
    let mut bytes = picture(head, &Region { ys: 0..0, xs: 0..0 }, 1, Some(Number::U8), &empty);
    bytes.extend(contents);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grid(values: &[f32], is_over: Option<Vec<bool>>) -> Grid {
        Grid { height: 1, width: values.len(), values: values.to_vec(), is_over }
    }

    fn message(number: Option<Number>, grid: &Grid) -> Vec<u8> {
        let told = json!({ "a": 1 });
        let head = Head { kind: Kind::Picture, source: 3, seq: 0x0102_0304_0506_0708, told: &told };
        picture(&head, &Region { ys: 20..21, xs: 10..13 }, 1, number, grid)
    }

    /// The numbers that the pixels of a message stand for, by its own words; the codes of those that stand for none.
    fn read(bytes: &[u8]) -> Vec<Result<f64, u16>> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let float = |at: usize| f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let pixels = &bytes[HEAD_BYTES + word(64) as usize..];
        let codes = pixels
            .chunks(bytes[6].into())
            .map(|code| code.iter().rev().fold(0, |sum, &byte| sum << 8 | u16::from(byte)));
        let is_odd = |code| word(12) & 2 != 0 && code == OVER || word(12) & 1 != 0 && code == NO_NUMBER;
        codes.map(|code| if is_odd(code) { Err(code) } else { Ok(float(48) + float(56) * f64::from(code)) }).collect()
    }

    #[test]
    fn a_message_is_what_the_page_says() {
        let bytes = message(Some(Number::U16), &grid(&[1.0, 2.4, 65_535.0], None));
        let expected = [
            &b"NDSV\x01\x01\x02\x01"[..],
            &[3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0],
            &[10, 0, 0, 0, 20, 0, 0, 0, 13, 0, 0, 0, 21, 0, 0, 0],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &0_f64.to_le_bytes(),
            &1_f64.to_le_bytes(),
            &[8, 0, 0, 0, 0, 0, 0, 0],
            br#"{"a":1} "#,
            &[1, 0, 2, 0, 255, 255],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn numbers_survive_as_codes() {
        assert_eq!(read(&message(Some(Number::U8), &grid(&[0.0, 254.6, 3.0], None))), [Ok(0.0), Ok(255.0), Ok(3.0)]);
        let values = [-32_768.0, 0.0, 32_767.0];
        assert_eq!(read(&message(Some(Number::I16), &grid(&values, None))), values.map(|value| Ok(f64::from(value))));
        let values = [-1.5, f32::NAN, 1e6, f32::INFINITY, 0.0];
        let told = read(&message(Some(Number::F32), &grid(&values, None)));
        assert_eq!((told[1], told[3]), (Err(NO_NUMBER), Err(NO_NUMBER)));
        for index in [0, 2, 4] {
            assert!((told[index].unwrap() - f64::from(values[index])).abs() < 16.0, "{told:?}");
        }
        assert_eq!(read(&message(Some(Number::F64), &grid(&[7.0; 3], None))), [Ok(7.0); 3]);
        assert_eq!(read(&message(Some(Number::F64), &grid(&[f32::NAN; 2], None))), [Err(NO_NUMBER); 2]);
        let over = Some(vec![false, true, false]);
        assert_eq!(
            read(&message(Some(Number::U8), &grid(&[1.0, 2.0, 3.0], over.clone()))),
            [Ok(1.0), Err(OVER), Ok(3.0)]
        );
        assert_eq!(
            read(&message(Some(Number::U16), &grid(&[1.0, 2.0, 65_535.0], over))),
            [Ok(1.0), Err(OVER), Ok(65_533.0)]
        );
    }
}
