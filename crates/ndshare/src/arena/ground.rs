//! All words of an arena's control part, for tests and fuzzers that write over them, and its invariants at this moment.

use super::audit::{Finding, audit};
use super::picture::Picture;
use super::state::Arena;
use crate::prim::AtomicU32;

impl Arena {
    /// Every word of the control part, by what it is a part of. Not the sizes, which are read only when an arena is joined.
    pub(crate) fn ground(&self) -> [(&'static str, &[AtomicU32]); 4] {
        let [header, participants, records, blocks] = self.control.whole_ground();
        [("header", header), ("participants", participants), ("records", records), ("blocks", blocks)]
    }

    /// How many descriptors of blocks were ever in use.
    pub(crate) fn high_blocks(&self) -> u32 {
        self.control.high()
    }

    /// All that contradicts itself in the tables now.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        audit(&Picture::copy(&self.control))
    }
}
