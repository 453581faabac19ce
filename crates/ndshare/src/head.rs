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

const MAGIC: u64 = u32::from_le_bytes(*b"nds\0") as u64;

/// What a block is the head of. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeadKind {
    /// A ring of frames.
    Ring = 1,
}

impl HeadKind {
    const ALL: [Self; 1] = [Self::Ring];

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

    /// Checks that a first word is of this kind and version.
    ///
    /// # Errors
    /// `InvalidValue` when it is not; the text has both.
    pub fn check(self, version: u32, word: u64) -> Result<()> {
        if word == self.signature(version) {
            return Ok(());
        }
        let got = match Self::of(word) {
            Some((kind, other)) => {
                format!("a {kind:?} of version {other}: use one version of ndshare in all processes")
            }
            None => format!("a block that begins with {word:#x}"),
        };
        Err(Error::value(format!("expected the head of a {self:?} of version {version}, got {got}")))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_it_is() {
        let word = HeadKind::Ring.signature(7);
        assert_eq!(&word.to_le_bytes()[..4], b"nds\x01");
        assert_eq!(HeadKind::of(word), Some((HeadKind::Ring, 7)));
        assert!(HeadKind::Ring.check(7, word).is_ok());
        let text = HeadKind::Ring.check(8, word).unwrap_err().to_string();
        assert!(text.contains("version 8") && text.contains("version 7"), "{text}");
        for other in [0, u64::MAX, word ^ 1, word ^ 2 << 24] {
            assert!(HeadKind::of(other).is_none() && HeadKind::Ring.check(7, other).is_err(), "{other:#x}");
        }
    }
}
