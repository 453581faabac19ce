//! The first word of a block that is the head of something: whose it is, what it is the head of, in which version.
//!
//! ```text
//! bits   0..24   "nds"
//!       24..32   the kind
//!       32..64   the version of that kind's layout
//! ```
//!
//! So whoever has a block can tell what it is without being told, and a head of another version is an error that says
//! so.

use crate::error::{Error, Result};
use std::fmt;

/// So many words of a head say what it is, and which block it keeps if it keeps one alone.
pub(crate) const PREFIX_WORDS: usize = 2;
/// Which of them names that block.
pub(crate) const KEPT_AT: usize = 1;
const MAGIC: u64 = u32::from_le_bytes(*b"nds\0") as u64;

/// What a block is the head of. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeadKind {
    /// A ring of frames.
    Ring = 1,
    /// A cache of arrays.
    Cache = 2,
    /// An overlay of arrays.
    Overlay = 3,
    /// A canvas.
    Canvas = 4,
    /// A lock for its own sake.
    Lock = 5,
    /// A reader of a ring, on its way.
    Reader = 6,
    /// A writer of a ring, on its way.
    Writer = 7,
    /// An array that has a name.
    Array = 8,
}

impl HeadKind {
    const ALL: [Self; 8] =
        [Self::Ring, Self::Cache, Self::Overlay, Self::Canvas, Self::Lock, Self::Reader, Self::Writer, Self::Array];

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Cache => "cache",
            Self::Overlay => "overlay",
            Self::Canvas => "canvas",
            Self::Lock => "lock",
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Array => "array",
        }
    }

    /// The first word of such a head.
    pub const fn signature(self, version: u32) -> u64 {
        MAGIC | (self as u64) << 24 | (version as u64) << 32
    }

    /// What a first word says it is the head of, and in which version; none when it is no head's.
    pub fn of(word: u64) -> Option<(Self, u32)> {
        let kind = (word >> 24) as u8;
        let found = Self::ALL.into_iter().find(|&one| one as u8 == kind);
        found.filter(|_| word & 0xff_ffff == MAGIC).map(|found| (found, (word >> 32) as u32))
    }

    /// The word that names the one block which a head keeps, by its first words; none of heads that keep another number.
    pub(crate) fn kept_by(words: &[u64]) -> Option<u64> {
        let (kind, _) = Self::of(*words.first()?)?;
        let keeps_one = matches!(kind, Self::Array | Self::Overlay | Self::Canvas);
        words.get(KEPT_AT).copied().filter(|_| keeps_one)
    }

    /// Checks that a first word is of this kind and version.
    ///
    /// # Errors
    /// `WrongKind` when it is not; data and text have both.
    pub fn check(self, version: u32, word: u64) -> Result<()> {
        if word == self.signature(version) {
            return Ok(());
        }
        let found = Self::of(word);
        let got = match found {
            Some((kind, other)) if kind == self => {
                format!("one of version {other}: use one version of ndshare in all processes")
            }
            Some((kind, other)) => {
                let kind = a(kind.name());
                format!("{kind} of version {other}: open it as {kind}")
            }
            None => format!("a block that begins with {word:#x}, and is no head"),
        };
        let message = format!("expected {} of version {version}, got {got}", a(self.name()));
        Err(Error::wrong_kind(self.name(), found.map(|(kind, _)| kind.name()), message))
    }
}

/// A noun with its article.
pub(crate) fn a(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

impl fmt::Display for HeadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_it_is() {
        let word = HeadKind::Ring.signature(7);
        assert_eq!(&word.to_le_bytes()[..4], b"nds\x01");
        for kind in HeadKind::ALL {
            let word = kind.signature(7);
            assert_eq!(HeadKind::of(word), Some((kind, 7)));
            assert!(kind.check(7, word).is_ok());
            assert_eq!(HeadKind::ALL.into_iter().filter(|other| other.check(7, word).is_ok()).count(), 1);
        }
        let of_noise = |noise: u64| (HeadKind::of(noise), HeadKind::Ring.check(7, noise).is_ok());
        for other in [0, u64::MAX, word ^ 1, word ^ 0x80 << 24] {
            assert_eq!(of_noise(other), (None, false), "{other:#x}");
        }
    }

    #[test]
    fn what_is_something_else_is_an_error_that_shows_both() {
        let told = |word| match HeadKind::Ring.check(8, word).unwrap_err() {
            error @ Error::WrongKind(_) => {
                let text = error.to_string();
                let Error::WrongKind(wrong) = error else { unreachable!() };
                (wrong.expected, wrong.got, text)
            }
            other => panic!("{other:?}"),
        };
        let (expected, got, text) = told(HeadKind::Cache.signature(3));
        assert_eq!((expected.as_str(), got.as_deref()), ("ring", Some("cache")));
        assert_eq!(text, "expected a ring of version 8, got a cache of version 3: open it as a cache");
        let (_, got, text) = told(HeadKind::Ring.signature(7));
        assert!(got.as_deref() == Some("ring") && text.contains("version 8, got one of version 7"), "{text}");
        assert_eq!(told(5).1, None);
    }
}
