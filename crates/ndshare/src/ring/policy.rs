//! What whoever makes a ring or a reader may choose: what writers do when it is full, which frames a reader gets, and
//! where it begins. Each choice is one word in shared memory, and is matched when it is read.

use super::table::GROUPS;
use crate::error::{Error, Result};
use std::str::FromStr;

/// What whoever makes a ring chooses beside what its frames are.
///
/// ```
/// use ndshare::ring::{RingOptions, WhenFull};
///
/// let live = RingOptions { when_full: WhenFull::DropOldest, keep: 2, ..RingOptions::slots(8) };
/// assert_eq!((live.slots, RingOptions::slots(8).when_full), (8, WhenFull::Wait));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// How many published frames wait for readers at the most, 1 to 65536.
    pub slots: usize,
    /// How many of the last frames stay whatever readers do, for one that comes late; at most `slots`.
    pub keep: usize,
    /// What a writer does when all slots wait for a reader.
    pub when_full: WhenFull,
}

impl RingOptions {
    /// So many slots. Nothing is kept beyond what readers want, and a writer waits for the slowest of them.
    pub const fn slots(slots: usize) -> Self {
        Self { slots, keep: 0, when_full: WhenFull::Wait }
    }
}

/// What a writer does when the window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for the slowest of the readers that there are; without any it goes on, and nobody gets the frames. Make
    /// the readers beforehand, as the [first page](crate#who-comes-first) shows.
    Wait,
    /// The slowest readers lose their oldest frame.
    DropOldest,
    /// The new frame is dropped, and counted.
    DropNewest,
}

impl WhenFull {
    /// Whether a writer begins a frame only when there is room for it.
    #[inline]
    pub(super) fn begins_with_room(self) -> bool {
        match self {
            WhenFull::Wait => true,
            WhenFull::DropOldest | WhenFull::DropNewest => false,
        }
    }

    pub(super) fn pack(self) -> u64 {
        match self {
            WhenFull::Wait => 0,
            WhenFull::DropOldest => 1,
            WhenFull::DropNewest => 2,
        }
    }

    /// # Errors
    /// `InvalidValue` for a word that no ring has.
    pub(super) fn unpack(bits: u64) -> Result<Self> {
        match bits {
            0 => Ok(WhenFull::Wait),
            1 => Ok(WhenFull::DropOldest),
            2 => Ok(WhenFull::DropNewest),
            other => Err(Error::value(format!("expected a policy of a ring, got {other}"))),
        }
    }
}

impl WhenFull {
    /// All of them, by the names that users write.
    const NAMES: [(&'static str, Self); 3] =
        [("wait", Self::Wait), ("drop_oldest", Self::DropOldest), ("drop_newest", Self::DropNewest)];

    /// The name that users write.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for WhenFull {
    type Err = Error;

    /// # Errors
    /// `InvalidValue` for any other text.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, policy)| *policy);
        found.ok_or_else(|| {
            Error::value(format!("expected when_full to be 'wait', 'drop_oldest' or 'drop_newest', got {text:?}"))
        })
    }
}

/// Which frames a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every one.
    Every,
    /// The newest only; it holds nobody back.
    Latest,
    /// Each goes to one of the group's readers, and to another if that one dies holding it.
    Group(usize),
}

impl Mode {
    /// Its name in statistics.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Every => "every",
            Mode::Latest => "latest",
            Mode::Group(_) => "group",
        }
    }

    pub(super) fn pack(self) -> u64 {
        match self {
            Mode::Every => 0,
            Mode::Latest => 1,
            Mode::Group(group) => 2 + group as u64,
        }
    }

    pub(super) fn unpack(bits: u64) -> Self {
        match bits {
            0 => Mode::Every,
            1 => Mode::Latest,
            group => Mode::Group((group - 2) as usize % GROUPS),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Every => "every frame",
            Mode::Latest => "the latest frame",
            Mode::Group(_) => "the frames of a group",
        })
    }
}

/// From where a reader counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The next frame that is published.
    Next,
    /// The oldest that is still whole.
    Oldest,
}

impl FromStr for Start {
    type Err = Error;

    /// # Errors
    /// `InvalidValue` for any text but "next" and "oldest".
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "next" => Ok(Start::Next),
            "oldest" => Ok(Start::Oldest),
            other => Err(Error::value(format!("expected start to be 'next' or 'oldest', got {other:?}"))),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn policies_and_starts_are_known_by_name() {
        for policy in [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest] {
            assert_eq!(policy.name().parse::<WhenFull>().unwrap(), policy);
            assert_eq!(WhenFull::unpack(policy.pack()).unwrap(), policy);
        }
        assert_eq!(
            ("next".parse::<Start>().unwrap(), "oldest".parse::<Start>().unwrap()),
            (Start::Next, Start::Oldest)
        );
        for text in ["", "Wait", "drop"] {
            assert!(text.parse::<WhenFull>().is_err() && text.parse::<Start>().is_err(), "{text}");
        }
    }
}
