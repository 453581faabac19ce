//! What whoever makes a ring or a reader may choose: what writers do when it is full, which frames a reader gets, and
//! where it begins. Each choice is one word in shared memory, and is matched when it is read.

use super::table::GROUPS;
use crate::error::{Error, Result};

/// What a writer does when the window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for the slowest reader.
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

/// From where a reader counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The next frame that is published.
    Next,
    /// The oldest that is still whole.
    Oldest,
}
