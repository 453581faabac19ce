//! The bytes of keys: one form for all things that are one key, and no form for two.
//!
//! ```text
//! item       letter, number: LEB128, then what the number says
//! int        i  zigzag of the int                for those that fit 64 bits
//!            I  length, two's complement bytes   for others, little-endian, the fewest that hold the sign
//! float      f  8, IEEE 754 double               little-endian; one that is a whole number is an int
//! text       s  length, UTF-8                    surrogates, which texts of Python may have, as three bytes each
//! bytes      b  length, bytes
//! tuple      t  length, items
//! None       n  0
//! Ellipsis   .  0
//! slice      l  0, start, stop, step             three items
//! enum       e  0, module, class, member         three items: two texts, and the member's name
//! UUID       u  16, bytes
//! path       p  length, text of a POSIX path     normal form: no empty parts, no "."
//!            w  length, text of a Windows path   in lower case
//! ```
//!
//! A boolean is the int 0 or 1. NaN, which equals nothing, has no form. Items lie in each other 64 deep at the most.

use super::key::{Key, KeyBytes};
use crate::error::{Error, Kind, Result};
use crate::varint;
use std::borrow::Cow;
use std::fmt;

pub(super) const SMALL: u8 = b'i';
pub(super) const LARGE: u8 = b'I';
pub(super) const TEXT: u8 = b's';
pub(super) const BYTES: u8 = b'b';
pub(super) const TUPLE: u8 = b't';
pub(super) const NONE: u8 = b'n';
pub(super) const ELLIPSIS: u8 = b'.';
pub(super) const FLOAT: u8 = b'f';
pub(super) const SLICE: u8 = b'l';
pub(super) const POSIX_PATH: u8 = b'p';
pub(super) const WINDOWS_PATH: u8 = b'w';
pub(super) const ENUM: u8 = b'e';
pub(super) const UUID: u8 = b'u';

/// How deep items lie in each other, at the most.
pub(super) const MAX_DEPTH: usize = 64;
/// Bytes of the largest float that is a whole number, with its sign.
const WHOLE_BYTES: usize = 129;

/// A text as Python has them: UTF-8, in which each half of a surrogate pair may stand alone as three bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// The text in `bytes`, as Python's `text.encode("utf-8", "surrogatepass")` gives them.
    ///
    /// # Errors
    /// `InvalidValue` for bytes that are no text.
    pub fn with_surrogates(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        if is_text(&bytes) {
            return Ok(Self(bytes));
        }
        Err(Error::value(format!("expected a text in UTF-8, surrogates allowed, got {} other bytes", bytes.len())))
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, unless it has surrogates.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl<'a> From<&'a str> for Text<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Whether bytes are UTF-8 once surrogates are taken out, whose first two bytes no other character has.
fn is_text(mut bytes: &[u8]) -> bool {
    let is_surrogate = |three: &[u8]| matches!(three, [0xed, 0xa0..=0xbf, 0x80..=0xbf]);
    // BOUND: each round takes three bytes.
    while let Some(at) = bytes.windows(3).position(is_surrogate) {
        if std::str::from_utf8(&bytes[..at]).is_err() {
            return false;
        }
        bytes = &bytes[at + 3..];
    }
    std::str::from_utf8(bytes).is_ok()
}

/// Writes a key, item by item. Short keys take no memory but that of the writer.
///
/// ```
/// use ndshare::cache::{Key, KeyWriter};
///
/// # fn main() -> ndshare::Result<()> {
/// let mut writer = KeyWriter::new();
/// writer.begin_tuple(2)?;
/// writer.text("tile");
/// writer.int(3);
/// writer.end();
/// assert_eq!(writer.finish()?, Key::of(&("tile", 3))?);
/// # Ok(())
/// # }
/// ```
pub struct KeyWriter {
    bytes: KeyBytes,
    /// Items that are still to come.
    missing: u64,
    depth: usize,
    /// More items came than were announced.
    is_overfull: bool,
}

impl Default for KeyWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyWriter {
    /// Begins a key.
    #[inline]
    pub const fn new() -> Self {
        Self { bytes: KeyBytes::new(), missing: 1, depth: 0, is_overfull: false }
    }

    #[inline]
    fn item(&mut self, letter: u8, number: u64, children: u64) {
        match self.missing.checked_sub(1) {
            Some(missing) => self.missing = missing.saturating_add(children),
            None => self.is_overfull = true,
        }
        self.bytes.push(&[letter]);
        varint::push(&mut self.bytes, number);
    }

    #[inline]
    fn item_of(&mut self, letter: u8, bytes: &[u8]) {
        self.item(letter, bytes.len() as u64, 0);
        self.bytes.push(bytes);
    }

    #[inline]
    fn begin(&mut self, letter: u8, number: u64, children: u64) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.depth += 1;
        self.item(letter, number, children);
        Ok(())
    }

    /// Python's `None`.
    pub fn none(&mut self) {
        self.item(NONE, 0, 0);
    }

    /// Python's `...`.
    pub fn ellipsis(&mut self) {
        self.item(ELLIPSIS, 0, 0);
    }

    /// An int, or a boolean as 0 or 1.
    #[inline]
    pub fn int(&mut self, number: i64) {
        self.item(SMALL, varint::zigzag(number), 0);
    }

    /// An int of any size, as little-endian bytes in two's complement.
    pub fn large_int(&mut self, bytes: &[u8]) {
        let bytes = without_repeated_sign(bytes);
        if bytes.len() > 8 {
            return self.item_of(LARGE, bytes);
        }
        let mut whole = [sign_of(is_negative(bytes)); 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        self.int(i64::from_le_bytes(whole));
    }

    /// A float. One that is a whole number is that int.
    ///
    /// # Errors
    /// `InvalidValue` for NaN, which equals nothing.
    pub fn float(&mut self, number: f64) -> Result<()> {
        if number.is_nan() {
            return Err(Error::value("expected a key that is equal to itself, got NaN: use None, or a text"));
        }
        if number.is_finite() && number.fract() == 0.0 {
            self.large_int(&whole_bytes(number));
        } else {
            self.item_of(FLOAT, &number.to_le_bytes());
        }
        Ok(())
    }

    /// A text.
    #[inline]
    pub fn text<'a>(&mut self, text: impl Into<Text<'a>>) {
        self.item_of(TEXT, text.into().as_bytes());
    }

    /// Bytes, which are another key than the text that they may be.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.item_of(BYTES, bytes);
    }

    /// The text of a POSIX path in the normal form of Python's `pathlib`: no empty parts and no "." but a lone one.
    pub fn posix_path<'a>(&mut self, text: impl Into<Text<'a>>) {
        self.item_of(POSIX_PATH, text.into().as_bytes());
    }

    /// The text of a Windows path in the normal form of Python's `pathlib`, in lower case.
    pub fn windows_path<'a>(&mut self, text: impl Into<Text<'a>>) {
        self.item_of(WINDOWS_PATH, text.into().as_bytes());
    }

    /// A UUID.
    pub fn uuid(&mut self, bytes: &[u8; 16]) {
        self.item_of(UUID, bytes);
    }

    /// A tuple of `len` items: they come next, and then [`Self::end`].
    ///
    /// # Errors
    /// `InvalidValue` for more than 64 items in each other.
    #[inline]
    pub fn begin_tuple(&mut self, len: usize) -> Result<()> {
        self.begin(TUPLE, len as u64, len as u64)
    }

    /// A slice: start, stop and step come next, and then [`Self::end`].
    ///
    /// # Errors
    /// As [`Self::begin_tuple`].
    pub fn begin_slice(&mut self) -> Result<()> {
        self.begin(SLICE, 0, 3)
    }

    /// A member of an enum: the texts of module and class, and the member's name or value come next, and then
    /// [`Self::end`].
    ///
    /// # Errors
    /// As [`Self::begin_tuple`].
    pub fn begin_enum(&mut self) -> Result<()> {
        self.begin(ENUM, 0, 3)
    }

    /// Ends what was begun last.
    #[inline]
    pub fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The key.
    ///
    /// # Errors
    /// `InvalidValue` for more than [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES) bytes; `Misuse` when items are missing, or
    /// more came than were announced.
    #[inline]
    pub fn finish(self) -> Result<Key> {
        if self.missing > 0 || self.is_overfull {
            return Err(unfinished(self.missing));
        }
        Key::new(self.bytes)
    }
}

#[cold]
fn too_deep() -> Error {
    Error::value(format!("expected a key of at most {MAX_DEPTH} tuples in each other, got more"))
}

#[cold]
fn unfinished(missing: u64) -> Error {
    let got = if missing > 0 { format!("{missing} less") } else { "more".to_owned() };
    Error::new(Kind::Misuse, format!("expected as many items of a key as were announced, got {got}"))
}

/// The byte by which a number in two's complement is made longer.
pub(super) fn sign_of(is_negative: bool) -> u8 {
    if is_negative { 0xff } else { 0 }
}

pub(super) fn is_negative(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|&last| last >= 0x80)
}

/// The fewest bytes that have the same sign.
fn without_repeated_sign(mut bytes: &[u8]) -> &[u8] {
    // BOUND: each round takes a byte.
    while let [front @ .., last] = bytes
        && *last == sign_of(is_negative(front))
        && !front.is_empty()
    {
        bytes = front;
    }
    bytes
}

/// A float that is a whole number, as an int.
fn whole_bytes(number: f64) -> [u8; WHOLE_BYTES] {
    let mut bytes = [0; WHOLE_BYTES];
    let bits = number.abs().to_bits();
    let (exponent, mantissa) = ((bits >> 52) as usize, bits & ((1 << 52) - 1) | 1 << 52);
    match exponent.checked_sub(1075) {
        Some(shift) => {
            let whole = u128::from(mantissa) << (shift % 8);
            let room = &mut bytes[shift / 8..];
            let len = room.len().min(16);
            room[..len].copy_from_slice(&whole.to_le_bytes()[..len]);
        }
        None => bytes[..8].copy_from_slice(&(number.abs() as u64).to_le_bytes()),
    }
    if number < 0.0 {
        negate(&mut bytes);
    }
    bytes
}

/// Changes the sign of an int, in place.
pub(super) fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        (*byte, carry) = (!*byte).overflowing_add(carry.into());
    }
}
