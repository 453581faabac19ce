//! A token: an array on its way to another process, as bytes or as text.
//!
//! It is untrusted when it comes back: decoding bounds every length, and opening keeps the array inside its block.

use super::description::{Description, push_element, push_layout, take_element, take_layout};
use super::ndarray::Array;
use crate::arena::{Arena, BlockId, Deadline, Hold, Locator, TicketId};
use crate::error::{Error, Kind, Result};
use crate::head::{HeadKind, a};
use crate::prim::Ordering::Acquire;
use crate::varint::{Reader, push, push_signed};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A reference to an array in a block, for another process or for later.
///
/// One with a ticket keeps the array until it is opened the first time; after that, and without a ticket, it opens
/// while anybody holds the array.
///
/// ```
/// use ndshare::arena::{Arena, Options, Deadline};
/// use ndshare::array::{Array, Token};
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let text = Array::from_slice(&arena, &[3], &[1.0_f32, 2.0, 3.0])?.token(&Deadline::never())?.to_string();
/// // The text goes to another process, which opens it:
/// let array = text.parse::<Token>()?.open(&Deadline::never())?;
/// assert_eq!(array.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the arena can be reached.
    pub locator: Locator,
    /// The block that has the array's bytes.
    pub block: BlockId,
    /// The ticket that keeps the block in flight, if any.
    pub ticket: Option<TicketId>,
    /// Whether the arena is the sender's session arena.
    pub is_session: bool,
    /// Whether the receiver may only read.
    pub is_readonly: bool,
    /// The place of the first item in the block, in bytes.
    pub offset: u64,
    /// How the items lie, and what they are; no element where that is told another way.
    pub description: Description,
}

const VERSION: u8 = 1;
const TICKET: u8 = 1;
const SESSION: u8 = 2;
const READONLY: u8 = 4;
/// The arena is joined to read only.
const VIEWED: u8 = 8;

impl Array {
    /// A token that keeps the array until it is opened.
    ///
    /// # Errors
    /// `ArenaFull` when as many tickets are in flight as can be; `Timeout` at `deadline`.
    pub fn token(&self, deadline: &Deadline<'_>) -> Result<Token> {
        let ticket = self.hold().issue(deadline)?.ok_or_else(|| {
            let text = "expected room for another reference in flight, got as many as can be: receive what was sent, or \
                        take back what nobody will receive";
            Error::new(Kind::ArenaFull, text)
        })?;
        Ok(Token { ticket: Some(ticket), ..self.bare_reference() })
    }

    /// A token that opens while anybody holds the array, any number of times; it does not say whether that is in a session.
    pub(crate) fn bare_reference(&self) -> Token {
        let (is_readonly, offset, description) = (self.is_readonly(), self.offset() as u64, self.description());
        Token { is_readonly, offset, description, ..Token::of(self.hold()) }
    }
}

impl Token {
    /// A token of a whole block that says itself what it is, such as the head of a ring.
    pub fn of(hold: &Hold) -> Self {
        Self {
            locator: hold.arena().locator(),
            block: hold.block(),
            ticket: None,
            is_session: false,
            is_readonly: false,
            offset: 0,
            description: Description::default(),
        }
    }

    /// The token as bytes: a version, flags, numbers as LEB128, then the element's text.
    pub fn encode(&self) -> Vec<u8> {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let place = flag(self.is_session, SESSION) | flag(self.locator.is_readonly, VIEWED);
        let array = flag(self.ticket.is_some(), TICKET) | flag(self.is_readonly, READONLY);
        let mut out = vec![VERSION, place | array];
        out.extend(self.locator.id.to_le_bytes());
        push(&mut out, self.locator.pid.into());
        push_signed(&mut out, self.locator.fd.into());
        push(&mut out, self.block.index.into());
        push(&mut out, self.block.generation.into());
        push(&mut out, self.offset);
        push(&mut out, self.description.layout.ndim() as u64);
        if let Some(ticket) = self.ticket {
            push(&mut out, ticket.index.into());
            push(&mut out, ticket.nonce);
        }
        push_layout(&mut out, &self.description.layout);
        push_element(&mut out, self.description.element.as_ref());
        out
    }

    /// The token in `bytes`.
    ///
    /// # Errors
    /// `InvalidValue` when the bytes are no token of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        parse(&mut Reader::new(bytes)).ok_or_else(|| {
            Error::value(format!(
                "expected a reference of version {VERSION} to a shared array, got {} other bytes: \
                 use one version of ndshare in all processes",
                bytes.len()
            ))
        })
    }

    /// The array. The first opening takes the ticket back; later ones need somebody who holds the array.
    ///
    /// # Errors
    /// `Stale` when the array is gone; `Unreachable` when nobody is found who has its arena; `InvalidValue` for a token
    /// that contradicts itself; `Timeout` at `deadline`.
    pub fn open(&self, deadline: &Deadline<'_>) -> Result<Array> {
        self.open_in(&Arena::attach(&self.locator)?, deadline)
    }

    /// The same in an arena that this process has already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(&self, arena: &Arc<Arena>, deadline: &Deadline<'_>) -> Result<Array> {
        self.array_in(self.claim(arena, deadline)?)
    }

    /// The array of this token, in its block.
    ///
    /// # Errors
    /// `WrongKind` for a token of something else; `InvalidValue` for one that contradicts itself.
    pub(crate) fn array_in(&self, hold: Hold) -> Result<Array> {
        if !self.is_array() {
            // RAW: matched.
            let kind = HeadKind::of(hold.word(0)?.load(Acquire)).map_or("block", |(kind, _)| kind.name());
            return Err(other_reference("array", kind));
        }
        Array::of_parts(hold, self.offset, self.description.clone(), self.is_readonly)
    }

    /// Whether it names an array. Of everything else the block says itself what it is.
    pub fn is_array(&self) -> bool {
        self.description.element.is_some()
    }

    /// Checks that it may name something of this kind, which the block says then.
    ///
    /// # Errors
    /// `WrongKind` for a token of an array.
    pub(crate) fn check_head(&self, kind: HeadKind) -> Result<()> {
        if self.is_array() { Err(other_reference(kind.name(), "array")) } else { Ok(()) }
    }

    /// The block of the array, whatever the array is.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn claim(&self, arena: &Arc<Arena>, deadline: &Deadline<'_>) -> Result<Hold> {
        match self.ticket {
            Some(ticket) => arena.claim(self.block, ticket, deadline),
            None => arena.take(self.block),
        }
    }

    /// The bytes that tokens of the same array have in common: whom to ask for the arena, and the ticket, are left out.
    pub fn key(&self) -> Vec<u8> {
        let locator = Locator { id: self.locator.id, pid: 0, fd: 0, is_readonly: false };
        Self { locator, ticket: None, ..self.clone() }.encode()
    }
}

#[cold]
fn other_reference(expected: &str, got: &str) -> Error {
    let message = format!("expected {}'s reference, got {}'s: open it as {}", a(expected), a(got), a(got));
    Error::wrong_kind(expected, Some(got), message)
}

fn parse(reader: &mut Reader<'_>) -> Option<Token> {
    if reader.byte()? != VERSION {
        return None;
    }
    let flags = reader.byte()?;
    let id = u64::from_le_bytes(*reader.take(8)?.first_chunk()?);
    let locator = Locator { id, pid: reader.small()?, fd: reader.signed()?, is_readonly: flags & VIEWED != 0 };
    let block = BlockId { index: reader.small()?, generation: reader.small()? };
    let (offset, ndim) = (reader.number()?, reader.small()?);
    let ticket = match flags & TICKET {
        0 => None,
        _ => Some(TicketId { index: reader.small()?, nonce: reader.number()? }),
    };
    let description = Description { layout: take_layout(reader, ndim)?, element: take_element(reader)? };
    let (is_session, is_readonly) = (flags & SESSION != 0, flags & READONLY != 0);
    Some(Token { locator, block, ticket, is_session, is_readonly, offset, description })
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nds1:")?;
        self.encode().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.trim().strip_prefix("nds1:").and_then(unhex);
        Self::decode(&bytes.ok_or_else(|| {
            let start: String = text.chars().take(20).collect();
            Error::value(format!("expected the text of a reference, \"nds1:\" and hexadecimal digits, got {start:?}"))
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
    use crate::element::{Element, Number};
    use crate::layout::Layout;

    fn token() -> Token {
        let layout = Layout::new(vec![0, 1, usize::MAX >> 1], vec![isize::MIN, -8, isize::MAX]).unwrap();
        Token {
            locator: Locator { id: 0x0123_4567_89ab_cdef, pid: 4_000_000, fd: 1000, is_readonly: true },
            block: BlockId { index: 99_999, generation: u32::MAX },
            ticket: Some(TicketId { index: 65_535, nonce: u64::MAX }),
            is_session: true,
            is_readonly: true,
            offset: 1 << 40,
            description: Description { layout, element: "[('é', '<u2')]".parse().ok() },
        }
    }

    #[test]
    fn tokens_survive_bytes_and_text() {
        let bare = Token {
            ticket: None,
            is_readonly: false,
            is_session: false,
            description: Description { layout: Layout::default(), element: Some(Element::of(Number::U16)) },
            ..token()
        };
        let unnamed = Token { description: Description { element: None, ..token().description }, ..token() };
        for token in [token(), bare, unnamed] {
            assert_eq!(Token::decode(&token.encode()).unwrap(), token);
            assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
            let elsewhere = Token {
                locator: Locator { pid: 7, fd: 9, is_readonly: false, ..token.locator },
                ticket: None,
                ..token.clone()
            };
            assert_eq!(elsewhere.key(), token.key());
        }
    }

    #[test]
    fn no_prefix_of_a_token_and_no_noise_is_a_panic() {
        let bytes = Token { description: Description { element: None, ..token().description }, ..token() }.encode();
        for len in 0..bytes.len() {
            assert!(Token::decode(&bytes[..len]).is_err(), "{len}");
        }
        for seed in 0..20_000_u64 {
            let noise: Vec<u8> = (0..40).map(|i| (seed.wrapping_mul(0x9e37_79b9) >> (i % 32)) as u8).collect();
            let _ = Token::decode(&[&[VERSION], &noise[..]].concat());
        }
        for text in ["", "nds1:", "nds1:0", "nds1:zz", "nds2:00", "nds1:é"] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }
}
