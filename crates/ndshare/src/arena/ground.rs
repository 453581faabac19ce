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

    /// The same of what is in use, and a little beyond.
    #[cfg(test)]
    pub(crate) fn used_ground(&self) -> [(&'static str, &[AtomicU32]); 4] {
        let used = self.control.scribbling_ground();
        let mut parts = self.ground();
        parts.iter_mut().zip(used).for_each(|(part, words)| part.1 = words);
        parts
    }

    /// All that contradicts itself in the tables now.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        audit(&Picture::copy(&self.control))
    }
}
