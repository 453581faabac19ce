//! Names: of a block, of a reference in flight, and of an arena.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Names a block for as long as it lives: its index in the table, and which of the index's tenants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Place in the table.
    pub index: u32,
    /// Which tenant of the index.
    pub generation: u32,
}

impl BlockId {
    /// The name as one word that is never 0.
    pub fn to_word(self) -> u64 {
        u64::from(self.index.wrapping_add(1)) << 32 | u64::from(self.generation)
    }

    /// The name in a word; none for 0.
    #[inline]
    pub fn from_word(word: u64) -> Option<Self> {
        let index = ((word >> 32) as u32).checked_sub(1)?;
        Some(Self { index, generation: word as u32 })
    }
}

/// Names a reference in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketId {
    /// Place in the table.
    pub index: u32,
    /// Not 0, and different for each ticket.
    pub nonce: u64,
}

/// Where an arena can be reached: its id, and a process that has it open under a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The arena's id.
    pub id: u64,
    /// A process that takes part.
    pub pid: u32,
    /// The descriptor of the memory file in that process.
    pub fd: i32,
    /// Whether whoever joins by it may only read arrays, as the process may that named it.
    pub is_readonly: bool,
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.is_readonly { "r" } else { "" };
        write!(f, "nds1-{:016x}-{}-{}{access}", self.id, self.pid, self.fd)
    }
}

impl FromStr for Locator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let bare = text.strip_suffix('r');
            let mut parts = bare.unwrap_or(text).strip_prefix("nds1-")?.splitn(3, '-');
            let id = u64::from_str_radix(parts.next()?, 16).ok()?;
            let (pid, fd) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { id, pid, fd, is_readonly: bare.is_some() })
        };
        parse().ok_or_else(|| Error::value(format!("expected a locator such as nds1-<id>-<pid>-<fd>, got {text:?}")))
    }
}
