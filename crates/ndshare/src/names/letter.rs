//! What goes over a connection between who offers an object and another user who reads it: one letter, and at the end a
//! farewell ([byte by byte](docs/arena.md#offers)).
//!
//! Whoever gets a letter trusts nothing in it: it is a few numbers, which are checked against the file that came along.

use crate::error::{Error, Result};
use crate::registry::ObjectKind;

/// What a letter begins with, before the name and the description.
const FIXED_BYTES: usize = 64;
/// More than any letter has.
pub(super) const MOST_BYTES: usize = 64 << 10;
const MAGIC: [u8; 8] = *b"ndsoffer";
const VERSION: u32 = 1;
/// Names of files have to fit into the address of a socket, behind a path to their directory.
const MOST_FILE_BYTES: usize = 64;
/// How much of a long name its file shows.
const SHOWN_BYTES: usize = 40;
const PREFIX: &str = "offer-";

/// What is said to who connects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Letter {
    /// Here it is; a file with the data comes along.
    Offered(Description),
    /// Not for you.
    Refused,
    /// There are too many readers.
    Busy,
}

/// Where in the data an object is, and what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    pub name: String,
    pub kind: ObjectKind,
    /// Bytes of the data.
    pub data_len: u64,
    /// Where its block begins, and how long that is.
    pub place: u64,
    pub block_len: u64,
    /// Where in the block an array's first item is.
    pub offset: u64,
    /// An array's layout and element; of a ring nothing, for its head says that.
    pub description: Vec<u8>,
}

const OFFERED: u32 = 0;
const REFUSED: u32 = 1;
const BUSY: u32 = 2;

impl Letter {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let what = match self {
            Self::Offered(_) => OFFERED,
            Self::Refused => REFUSED,
            Self::Busy => BUSY,
        };
        let mut out = Vec::with_capacity(FIXED_BYTES);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(what.to_le_bytes());
        let Self::Offered(Description { name, kind, data_len, place, block_len, offset, description }) = self else {
            out.resize(FIXED_BYTES, 0);
            return out;
        };
        [data_len, place, block_len, offset].iter().for_each(|number| out.extend(number.to_le_bytes()));
        let lengths = [*kind as usize, name.len(), description.len(), 0];
        lengths.iter().for_each(|&number| out.extend((number as u32).to_le_bytes()));
        out.extend(name.as_bytes());
        out.extend(description);
        out
    }

    /// The letter in `bytes`.
    ///
    /// # Errors
    /// `Attach` when they are none, or one of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let half = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if !bytes.starts_with(&MAGIC) || half(8) != Some(VERSION) || bytes.len() < FIXED_BYTES {
            return Err(no_letter(bytes.len()));
        }
        let parse = || {
            let kind = half(48)?;
            let kind = ObjectKind::ALL.into_iter().find(|&one| one as u32 == kind)?;
            let (name, rest) = bytes.get(FIXED_BYTES..)?.split_at_checked(half(52)? as usize)?;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let description = rest.to_vec();
            let (data_len, place, block_len, offset) = (word(16)?, word(24)?, word(32)?, word(40)?);
            let is_whole = description.len() == half(56)? as usize;
            is_whole.then_some(Description { name, kind, data_len, place, block_len, offset, description })
        };
        let letter = match half(12) {
            Some(OFFERED) => parse().map(Self::Offered),
            Some(REFUSED) => Some(Self::Refused),
            Some(BUSY) => Some(Self::Busy),
            _ => None,
        };
        letter.ok_or_else(|| no_letter(bytes.len()))
    }
}

#[cold]
fn no_letter(len: usize) -> Error {
    Error::attach(format!(
        "expected an offer of version {VERSION}, got {len} other bytes: use one version of ndshare in all processes"
    ))
}

/// The file of a name: the name itself, or as much of it as fits, and a hash of all of it.
pub(super) fn file_of(name: &str) -> String {
    if name.len() <= MOST_FILE_BYTES {
        return format!("{PREFIX}{name}");
    }
    let shown: String = name.char_indices().take_while(|(at, _)| *at < SHOWN_BYTES).map(|(_, char)| char).collect();
    format!("{PREFIX}{shown}~{:016x}", hash_of(name))
}

/// FNV-1a. Who chooses names has all of them for itself, and the letter says the whole name.
fn hash_of(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn letters_survive_bytes_and_noise_is_no_panic() {
        let description = Description {
            name: "caméra".into(),
            kind: ObjectKind::Ring,
            data_len: 1 << 40,
            place: 1024,
            block_len: 1 << 20,
            offset: 8,
            description: vec![1, 2, 3],
        };
        for letter in [Letter::Offered(description), Letter::Refused, Letter::Busy] {
            let bytes = letter.encode();
            assert_eq!(Letter::decode(&bytes).unwrap(), letter);
            for len in 0..bytes.len() {
                assert!(Letter::decode(&bytes[..len]).is_err(), "{len}");
            }
            for (at, noise) in (0..bytes.len()).flat_map(|at| (0..=255).map(move |noise| (at, noise))) {
                let mut bytes = bytes.clone();
                bytes[at] = noise;
                let _ = Letter::decode(&bytes);
            }
        }
    }

    #[test]
    fn each_name_has_a_file_that_a_socket_can_have() {
        let long = "é".repeat(100);
        let files = ["camera", " ", &"x".repeat(64), &"x".repeat(65), &long, &long[2..]].map(file_of);
        let mut apart = files.to_vec();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), files.len());
        assert!(files.iter().all(|file| file.len() <= 70 && file.starts_with(PREFIX)), "{files:?}");
    }
}
