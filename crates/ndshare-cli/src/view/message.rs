//! A picture as a message: a head of 72 bytes, what is told of it as JSON, and its pixels. All numbers are little-endian.
//! `docs/view.md` says it byte by byte, and the page's `message.js` reads it.

use ndshare::Result;
use ndshare::element::Number;
use serde_json::Value;

use super::reduce::{Reducer, Region, Seen};

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
    /// The largest code that stands for a number.
    most: f32,
    flags: u32,
}

impl Scale {
    /// Small integers are codes as they are; with a limit the last codes have a meaning of their own.
    fn plain(number: Option<Number>, has_limit: bool) -> Option<Self> {
        let plain = |bytes, offset| {
            let (most, flags) = match (bytes, has_limit) {
                (1, _) => (f32::from(u8::MAX), 0),
                (_, false) => (f32::from(u16::MAX), 0),
                (_, true) => (MOST_CODE, HAS_OVER),
            };
            Some(Self { bytes, offset, scale: 1.0, most, flags })
        };
        match number? {
            Number::Bool | Number::U8 if !has_limit => plain(1, 0.0),
            Number::Bool | Number::U8 | Number::U16 => plain(2, 0.0),
            Number::I8 => plain(2, -128.0),
            Number::I16 => plain(2, -32_768.0),
            _ => None,
        }
    }

    /// Other numbers are spread over the codes that there are.
    fn spread(values: &[f32], has_limit: bool) -> Self {
        let (low, high) = range(values);
        let (low, range) = if high >= low { (f64::from(low), f64::from(high) - f64::from(low)) } else { (0.0, 0.0) };
        let scale = if range > 0.0 { range / f64::from(MOST_CODE) } else { 1.0 };
        let flags = HAS_NO_NUMBERS | if has_limit { HAS_OVER } else { 0 };
        Self { bytes: 2, offset: low, scale, most: MOST_CODE, flags }
    }

    /// The codes of a row of pixels.
    fn write(&self, row: &[f32], is_over: Option<&[bool]>, colours: usize, to: &mut [u8]) {
        let (offset, step, most) = (self.offset as f32, (1.0 / self.scale) as f32, self.most);
        let bits = |value: f32| {
            let code = (value - offset) * step;
            // In these words, and not as `max` and `min`, it is one instruction each: nobody asks here for what is no number.
            let code = if code > 0.0 { code } else { 0.0 };
            let code = if code < most { code } else { most };
            // Whole numbers are the low bits of a float from here on, rounded: that goes in vectors, unlike a conversion.
            (code + WHOLE_FROM).to_bits()
        };
        if self.bytes == 1 {
            to.iter_mut().zip(row).for_each(|(to, &value)| *to = bits(value) as u8);
            return;
        }
        let codes = to.as_chunks_mut::<2>().0;
        codes.iter_mut().zip(row).for_each(|(to, &value)| *to = (bits(value) as u16).to_le_bytes());
        let has_odd = || row.iter().fold(false, |odd, value| odd | !value.is_finite());
        if self.flags & HAS_NO_NUMBERS != 0 && has_odd() {
            let odd = codes.iter_mut().zip(row).filter(|(_, value)| !value.is_finite());
            odd.for_each(|(to, _)| *to = NO_NUMBER.to_le_bytes());
        }
        let over = is_over.unwrap_or_default().iter().enumerate().filter(|(_, is_over)| **is_over);
        over.for_each(|(pixel, _)| codes[pixel * colours..][..colours].fill(OVER.to_le_bytes()));
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

/// Messages of pictures are made here, one after the other in the same memory.
#[derive(Debug, Default)]
pub(super) struct Desk {
    reducer: Reducer,
    /// What is seen as numbers, where codes depend on all of them.
    values: Vec<f32>,
    is_over: Vec<bool>,
    message: Vec<u8>,
}

impl Desk {
    /// The message of what is seen.
    pub(super) fn picture(&mut self, head: &Head<'_>, seen: &Seen<'_>) -> Result<&[u8]> {
        let number = seen.plane.number().filter(|_| seen.plane.part.is_none());
        match Scale::plain(number, seen.limit.is_some()) {
            Some(scale) => self.at_once(head, seen, scale)?,
            None => self.at_last(head, seen)?,
        }
        Ok(&self.message)
    }

    /// Bytes of memory that it keeps.
    pub(super) fn len_bytes(&self) -> usize {
        self.message.capacity() + self.values.capacity() * size_of::<f32>()
    }

    /// Each row becomes codes when it is made.
    fn at_once(&mut self, head: &Head<'_>, seen: &Seen<'_>, scale: Scale) -> Result<()> {
        let mut at = start(&mut self.message, head, seen, scale);
        let message = &mut self.message;
        self.reducer.reduce(seen, &mut |row, is_over| {
            let len = row.len() * usize::from(scale.bytes);
            scale.write(row, is_over, seen.plane.colours, &mut message[at..at + len]);
            at += len;
        })
    }

    /// All rows are made first, and are looked at as a whole.
    fn at_last(&mut self, head: &Head<'_>, seen: &Seen<'_>) -> Result<()> {
        let (values, all_over) = (&mut self.values, &mut self.is_over);
        values.clear();
        all_over.clear();
        self.reducer.reduce(seen, &mut |row, is_over| {
            values.extend_from_slice(row);
            all_over.extend_from_slice(is_over.unwrap_or_default());
        })?;
        let scale = Scale::spread(values, seen.limit.is_some());
        let whole = Scale { offset: seen.plane.origin + scale.offset, ..scale };
        let at = start(&mut self.message, head, seen, whole);
        let is_over = seen.limit.map(|_| &self.is_over[..]);
        scale.write(&self.values, is_over, seen.plane.colours, &mut self.message[at..]);
        Ok(())
    }
}

/// Makes a message as long as it will be, with all that stands before the pixels; where they begin.
fn start(to: &mut Vec<u8>, head: &Head<'_>, seen: &Seen<'_>, scale: Scale) -> usize {
    let [height, width] = seen.size();
    let colours = seen.plane.colours;
    let head = head_bytes(head, seen.region, [height, width], colours, scale);
    to.resize(head.len() + height * width * colours * usize::from(scale.bytes), 0);
    to[..head.len()].copy_from_slice(&head);
    head.len()
}

/// What stands before the pixels.
fn head_bytes(head: &Head<'_>, region: &Region, [height, width]: [usize; 2], colours: usize, scale: Scale) -> Vec<u8> {
    let json = head.told.to_string();
    let padding = (HEAD_BYTES + json.len()).next_multiple_of(ALIGNMENT) - HEAD_BYTES - json.len();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + json.len() + padding);
    bytes.extend(MAGIC);
    bytes.extend([VERSION, head.kind as u8, scale.bytes, colours as u8]);
    for word in [head.source, scale.flags as usize, width, height] {
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
    bytes
}

/// The message of a file: its name is told, and its bytes stand in the place of pixels.
pub(super) fn file(head: &Head<'_>, contents: &[u8]) -> Vec<u8> {
    let bytes = Scale { bytes: 1, offset: 0.0, scale: 1.0, most: f32::from(u8::MAX), flags: 0 };
    [&head_bytes(head, &Region { ys: 0..0, xs: 0..0 }, [0, 0], 1, bytes), contents].concat()
}

#[cfg(test)]
mod tests {
    use super::super::plane::{Part, Plane};
    use super::super::shown::Shown;
    use super::*;
    use serde_json::json;

    /// The message of one row of such items, of which those from a limit on are saturated.
    fn message<const N: usize>(element: &str, items: &[[u8; N]], limit: Option<f32>) -> Vec<u8> {
        let told = json!({ "a": 1 });
        let head = Head { kind: Kind::Picture, source: 3, seq: 0x0102_0304_0506_0708, told: &told };
        // The row is not the first of its frame.
        let shape = vec![21, items.len()];
        let bytes = [vec![0; 20 * items.len() * N], items.concat()].concat();
        let shown = Shown::own(0, 0, shape, element.parse().unwrap(), bytes);
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let region = Region { ys: 20..21, xs: 0..items.len() };
        let seen = Seen { plane: &plane, region: &region, window: [9, 9], limit };
        let mut desk = Desk::default();
        let message = desk.picture(&head, &seen).unwrap().to_vec();
        assert_eq!(desk.picture(&head, &seen).unwrap(), message, "it is the same in memory that was used before");
        message
    }

    /// The numbers that the pixels of a message stand for, by its own words; the codes of those that stand for none.
    fn read(bytes: &[u8]) -> Vec<std::result::Result<f64, u16>> {
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
        let bytes = message("<u2", &[1_u16, 2, 65_535].map(u16::to_le_bytes), None);
        let expected = [
            &b"NDSV\x01\x01\x02\x01"[..],
            &[3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0],
            &[0, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 21, 0, 0, 0],
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
        assert_eq!(read(&message("|u1", &[[0], [254], [3]], None)), [Ok(0.0), Ok(254.0), Ok(3.0)]);
        assert_eq!(read(&message("|b1", &[[0], [1], [7]], None)), [Ok(0.0), Ok(1.0), Ok(1.0)]);
        let values = [-32_768_i16, 0, 32_767];
        assert_eq!(
            read(&message(">i2", &values.map(i16::to_be_bytes), None)),
            values.map(|value| Ok(f64::from(value)))
        );
        assert_eq!(read(&message("|i1", &[[0x80], [0x7f]], Some(127.0))), [Ok(-128.0), Err(OVER)]);
        let values = [-1.5_f32, f32::NAN, 1e6, f32::INFINITY, 0.0];
        let told = read(&message("<f4", &values.map(f32::to_le_bytes), None));
        assert_eq!((told[1], told[3]), (Err(NO_NUMBER), Err(NO_NUMBER)));
        for index in [0, 2, 4] {
            assert!((told[index].unwrap() - f64::from(values[index])).abs() < 16.0, "{told:?}");
        }
        let told = read(&message("<f4", &[0.0_f32, f32::NAN, 1.0].map(f32::to_le_bytes), Some(1.0)));
        assert_eq!(told, [Ok(0.0), Err(NO_NUMBER), Err(OVER)]);
        assert_eq!(read(&message("<f8", &[7_f64; 3].map(f64::to_le_bytes), None)), [Ok(7.0); 3]);
        assert_eq!(read(&message("<f8", &[f64::NAN; 2].map(f64::to_le_bytes), None)), [Err(NO_NUMBER); 2]);
        assert_eq!(read(&message("|u1", &[[1], [2], [3]], Some(3.0))), [Ok(1.0), Ok(2.0), Err(OVER)]);
        let values = [1_u16, 2, 65_535].map(u16::to_le_bytes);
        assert_eq!(read(&message("<u2", &values, Some(70_000.0))), [Ok(1.0), Ok(2.0), Ok(65_533.0)]);
        assert_eq!(read(&message("<u2", &values, Some(2.0))), [Ok(1.0), Err(OVER), Err(OVER)]);
    }

    #[test]
    fn all_of_a_colour_is_saturated() {
        let told = read(&message_of_colours(&[[1, 2, 3], [4, 200, 6]], 200.0));
        assert_eq!(told, [Ok(1.0), Ok(2.0), Ok(3.0), Err(OVER), Err(OVER), Err(OVER)]);
    }

    fn message_of_colours(pixels: &[[u8; 3]], limit: f32) -> Vec<u8> {
        let shown = Shown::own(0, 0, vec![1, pixels.len(), 3], "|u1".parse().unwrap(), pixels.concat());
        let plane = Plane::of(&shown, &[], true, Part::Magnitude).unwrap();
        let region = Region { ys: 0..1, xs: 0..pixels.len() };
        let seen = Seen { plane: &plane, region: &region, window: [9, 9], limit: Some(limit) };
        let head = Head { kind: Kind::Picture, source: 0, seq: 0, told: &json!({}) };
        Desk::default().picture(&head, &seen).unwrap().to_vec()
    }
}
