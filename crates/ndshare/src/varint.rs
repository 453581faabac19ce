//! Numbers as bytes, small ones in few: LEB128, with the sign folded in where there is one.
//!
//! Source: the variable-length quantities of DWARF (section 7.6) and the zigzag encoding of protocol buffers.

/// Adds a number to `out`.
#[inline]
pub fn push(out: &mut impl Extend<u8>, mut number: u64) {
    // BOUND: a number has ten groups of seven bits at most.
    while number >= 0x80 {
        out.extend([number as u8 | 0x80]);
        number >>= 7;
    }
    out.extend([number as u8]);
}

/// Adds a text: its length in bytes, then UTF-8.
pub fn push_text(out: &mut impl Extend<u8>, text: &str) {
    push(out, text.len() as u64);
    out.extend(text.bytes());
}

/// Adds a number that may be negative.
#[inline]
pub fn push_signed(out: &mut impl Extend<u8>, number: i64) {
    push(out, zigzag(number));
}

/// Small numbers of either sign as small numbers without one.
#[inline]
pub fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The number that [`zigzag`] folded.
pub fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Takes numbers and bytes from the front of some bytes. None: they are no such thing.
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    /// The next number, if it fits a `u64`.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// The next text.
    pub fn text(&mut self) -> Option<&'a str> {
        let len = self.small()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    /// The next number, if it fits a `T`.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    /// The next number that may be negative, if it fits a `T`.
    pub fn signed<T: TryFrom<i64>>(&mut self) -> Option<T> {
        T::try_from(unzigzag(self.number()?)).ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_small_ones_are_short() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push(&mut out, number);
            assert_eq!(out.len(), number.checked_ilog2().map_or(1, |bits| bits as usize / 7 + 1));
            let mut reader = Reader::new(&out);
            assert_eq!((reader.number(), reader.rest()), (Some(number), &[][..]));
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            push_signed(&mut out, number);
            assert_eq!(Reader::new(&out).signed::<i64>(), Some(number));
        }
    }

    #[test]
    fn other_bytes_are_none() {
        assert_eq!(Reader::new(&[]).number(), None);
        assert_eq!(Reader::new(&[0x80]).number(), None);
        assert_eq!(Reader::new(&[0xff; 11]).number(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number(), None);
        assert_eq!(Reader::new(&[0x80, 2]).small::<u8>(), None);
        assert_eq!(Reader::new(&[1, 2]).take(3), None);
        assert_eq!(Reader::new(&[2, b'a']).text(), None);
        assert_eq!(Reader::new(&[1, 0xff]).text(), None);
        let mut out = Vec::new();
        push_text(&mut out, "é");
        assert_eq!((out.len(), Reader::new(&out).text()), (3, Some("é")));
    }
}
