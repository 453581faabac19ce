//! An array inside a block: where its first item is, its shape and strides, and how all that travels.
//!
//! A [`Handle`] is what a pickle or a string carries instead of the bytes. It is untrusted when it comes back:
//! decoding bounds every length, and [`Handle::check`] keeps the array inside its block.

use crate::arena::{BlockId, Locator, TicketId};
use crate::error::{Error, Result};
use crate::layout::{MAX_DIMS, extent};
use std::fmt;
use std::str::FromStr;

/// A reference to an array in a block, for another process or for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// Where the arena can be reached.
    pub locator: Locator,
    /// The block that has the array's bytes.
    pub block: BlockId,
    /// The ticket that keeps the block in flight, if any.
    pub ticket: Option<TicketId>,
    /// Whether the arena is the sender's session arena.
    pub session: bool,
    /// Whether the receiver may only read.
    pub readonly: bool,
    /// The place of the first item in the block, in bytes.
    pub offset: u64,
    /// Items along each axis.
    pub shape: Vec<usize>,
    /// Bytes from item to item along each axis.
    pub strides: Vec<isize>,
    /// What an item is, in the words of the caller.
    pub dtype: String,
}

const VERSION: u8 = 1;
const TICKET: u8 = 1;
const SESSION: u8 = 2;
const READONLY: u8 = 4;

impl Handle {
    /// The handle as bytes: a version, flags, numbers as LEB128 varints, then the dtype.
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.ticket.is_some(), TICKET) | flag(self.session, SESSION);
        let mut out = vec![VERSION, flags | flag(self.readonly, READONLY)];
        out.extend(self.locator.id.to_le_bytes());
        let ticket = self.ticket.iter().flat_map(|ticket| [u64::from(ticket.index), ticket.nonce]);
        let place = [
            self.locator.pid.into(),
            zigzag(self.locator.fd.into()),
            self.block.index.into(),
            self.block.generation.into(),
            self.offset,
            self.shape.len() as u64,
        ];
        let shape = self.shape.iter().map(|&length| length as u64);
        let strides = self.strides.iter().map(|&stride| zigzag(stride as i64));
        place.into_iter().chain(ticket).chain(shape).chain(strides).for_each(|number| push(&mut out, number));
        out.extend(self.dtype.as_bytes());
        out
    }

    /// The handle in `bytes`.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are no handle of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes };
        let handle = reader.handle().ok_or_else(|| {
            Error::value(format!(
                "expected a reference of version {VERSION} to a shared array, got {} other bytes: \
                 use one version of ndshare in all processes",
                bytes.len()
            ))
        })?;
        Ok(handle)
    }

    /// Checks that every byte of the array lies inside a block of `block_len` bytes.
    ///
    /// # Errors
    /// `InvalidValue` when one does not, or shape and strides contradict each other.
    pub fn check(&self, itemsize: usize, block_len: usize) -> Result<()> {
        check_inside(&self.shape, &self.strides, self.offset, itemsize, block_len)
    }
}

fn check_inside(shape: &[usize], strides: &[isize], offset: u64, itemsize: usize, block_len: usize) -> Result<()> {
    let inside = || {
        let (low, high) = extent(shape, strides, itemsize)?;
        let offset = isize::try_from(offset).ok()?;
        let (first, last) = (offset.checked_add(low)?, offset.checked_add(high)?);
        (first >= 0 && last <= isize::try_from(block_len).ok()?).then_some(())
    };
    let sound = shape.len() == strides.len() && shape.len() <= MAX_DIMS;
    if sound && inside().is_some() {
        return Ok(());
    }
    Err(Error::value(format!(
        "expected an array inside a block of {block_len} bytes, got shape {shape:?}, strides {strides:?}, offset \
         {offset} of {itemsize}-byte items: the reference is damaged"
    )))
}

/// How an array lies in a block, without where: it travels beside the block's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    /// Items along each axis.
    pub shape: Vec<usize>,
    /// Bytes from item to item along each axis.
    pub strides: Vec<isize>,
    /// What an item is, in the words of the caller.
    pub dtype: String,
}

impl Layout {
    /// The layout as bytes, never none: numbers as LEB128 varints, then the dtype.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + 5 * self.shape.len() + self.dtype.len());
        push(&mut out, self.shape.len() as u64);
        self.shape.iter().for_each(|&length| push(&mut out, length as u64));
        self.strides.iter().for_each(|&stride| push(&mut out, zigzag(stride as i64)));
        out.extend(self.dtype.as_bytes());
        out
    }

    /// The layout in `bytes`.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are no layout.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes };
        reader.layout().ok_or_else(|| Error::value(format!("expected a layout, got {} other bytes", bytes.len())))
    }

    /// Checks that every byte of an array that begins at `offset` lies inside a block of `block_len` bytes.
    ///
    /// # Errors
    /// `InvalidValue` when one does not, or shape and strides contradict each other.
    pub fn check(&self, offset: u64, itemsize: usize, block_len: usize) -> Result<()> {
        check_inside(&self.shape, &self.strides, offset, itemsize, block_len)
    }
}

/// Small numbers of either sign as small numbers without one.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn push(out: &mut Vec<u8>, mut number: u64) {
    // BOUND: a number has ten groups of seven bits at most.
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u64> {
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

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn signed<T: TryFrom<i64>>(&mut self) -> Option<T> {
        T::try_from(unzigzag(self.number()?)).ok()
    }

    fn id(&mut self) -> Option<u64> {
        let (id, rest) = self.bytes.split_first_chunk::<8>()?;
        self.bytes = rest;
        Some(u64::from_le_bytes(*id))
    }

    fn layout(&mut self) -> Option<Layout> {
        let dims = self.small::<usize>().filter(|&dims| dims <= MAX_DIMS)?;
        let shape = (0..dims).map(|_| self.small()).collect::<Option<_>>()?;
        let strides = (0..dims).map(|_| self.signed()).collect::<Option<_>>()?;
        let dtype = String::from_utf8(self.bytes.to_vec()).ok()?;
        Some(Layout { shape, strides, dtype })
    }

    fn handle(&mut self) -> Option<Handle> {
        if self.byte()? != VERSION {
            return None;
        }
        let flags = self.byte()?;
        let locator = Locator { id: self.id()?, pid: self.small()?, fd: self.signed()? };
        let block = BlockId { index: self.small()?, generation: self.small()? };
        let offset = self.number()?;
        let dims = self.small::<usize>().filter(|&dims| dims <= MAX_DIMS)?;
        let ticket = match flags & TICKET {
            0 => None,
            _ => Some(TicketId { index: self.small()?, nonce: self.number()? }),
        };
        let shape = (0..dims).map(|_| self.small()).collect::<Option<_>>()?;
        let strides = (0..dims).map(|_| self.signed()).collect::<Option<_>>()?;
        let dtype = String::from_utf8(self.bytes.to_vec()).ok()?;
        let (session, readonly) = (flags & SESSION != 0, flags & READONLY != 0);
        Some(Handle { locator, block, ticket, session, readonly, offset, shape, strides, dtype })
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nds1:")?;
        self.encode().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.trim().strip_prefix("nds1:").and_then(unhex);
        Self::decode(&bytes.ok_or_else(|| {
            let start: String = text.chars().take(20).collect();
            Error::value(format!("expected the text of a Ref, \"nds1:\" and hexadecimal digits, got {start:?}"))
        })?)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn handle() -> Handle {
        Handle {
            locator: Locator { id: 0x0123_4567_89ab_cdef, pid: 4_000_000, fd: 1000 },
            block: BlockId { index: 99_999, generation: u32::MAX },
            ticket: Some(TicketId { index: 65_535, nonce: u64::MAX }),
            session: true,
            readonly: true,
            offset: 1 << 40,
            shape: vec![0, 1, usize::MAX >> 1],
            strides: vec![isize::MIN, -8, isize::MAX],
            dtype: "<u2 'é'".into(),
        }
    }

    #[test]
    fn handles_survive_bytes_and_text() {
        let bare = Handle { ticket: None, readonly: false, session: false, shape: vec![], strides: vec![], ..handle() };
        for handle in [handle(), bare] {
            assert_eq!(Handle::decode(&handle.encode()).unwrap(), handle);
            assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
        }
    }

    #[test]
    fn layouts_survive_bytes_and_noise_is_no_panic() {
        let layout = Layout { shape: vec![0, 7, 1 << 40], strides: vec![-2, 8, 0], dtype: "<u2".into() };
        let bytes = layout.encode();
        assert_eq!(Layout::decode(&bytes).unwrap(), layout);
        assert_eq!(Layout::decode(&Layout::default().encode()).unwrap(), Layout::default());
        (0..bytes.len() - 3).for_each(|len| assert!(Layout::decode(&bytes[..len]).is_err(), "{len}"));
        let flat = Layout { shape: vec![16, 32], strides: vec![64, 2], ..layout };
        assert!(flat.check(0, 2, 1024).is_ok() && flat.check(2, 2, 1024).is_err());
    }

    #[test]
    fn no_prefix_of_a_handle_and_no_noise_is_a_panic() {
        let bytes = Handle { dtype: String::new(), ..handle() }.encode();
        for len in 0..bytes.len() {
            assert!(Handle::decode(&bytes[..len]).is_err(), "{len}");
        }
        for seed in 0..20_000_u64 {
            let noise: Vec<u8> = (0..40).map(|i| (seed.wrapping_mul(0x9e37_79b9) >> (i % 32)) as u8).collect();
            let _ = Handle::decode(&[&[VERSION], &noise[..]].concat());
        }
        for text in ["", "nds1:", "nds1:0", "nds1:zz", "nds2:00", "nds1:é"] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
    }

    #[test]
    fn arrays_must_lie_inside_their_block() {
        let view = |offset, shape: &[usize], strides: &[isize]| {
            let (shape, strides) = (shape.to_vec(), strides.to_vec());
            Handle { offset, shape, strides, ..handle() }.check(2, 1024)
        };
        view(0, &[16, 32], &[64, 2]).unwrap();
        view(1022, &[512], &[-2]).unwrap();
        view(1024, &[0], &[2]).unwrap();
        for (offset, shape, strides) in [
            (2, vec![16, 32], vec![64, 2]),
            (1020, vec![512], vec![-2]),
            (u64::MAX, vec![1], vec![2]),
            (0, vec![usize::MAX >> 1], vec![isize::MAX]),
            (0, vec![4], vec![]),
        ] {
            assert!(view(offset, &shape, &strides).is_err(), "{shape:?}");
        }
    }
}
