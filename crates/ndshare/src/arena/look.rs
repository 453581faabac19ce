//! A look at an arena from outside: without a slot, without a sweep, and without a store to shared memory.
//!
//! The file is mapped privately, so that whatever is written while looking stays in this process.

use super::control::Control;
use super::ids::{BlockId, Locator};
use super::state::file_name;
use super::tables::{Stats, Tables};
use crate::error::{Error, Result};
use crate::os::file::MemFile;
use crate::os::memory::Mapping;
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

/// An arena as somebody sees it who does not take part.
pub struct Look {
    // The order matters: the mapping goes last.
    control: Control,
    file: MemFile,
    mapping: Mapping,
    id: u64,
}

impl Look {
    /// Looks at the arena that `locator` names. It works when all slots are taken, and when the arena is poisoned, too.
    ///
    /// # Errors
    /// As [`Arena::attach`](super::Arena::attach), but for the slot.
    pub fn at(locator: &Locator) -> Result<Self> {
        let file = MemFile::find(&file_name(locator.id), locator.pid, locator.fd)?;
        let mapping = Mapping::private(&file)?;
        // SAFETY: the mapping has that many bytes at a multiple of 2 MiB, and lives in the result beside the control, which
        // is dropped before it.
        let control = unsafe { Control::open(mapping.base(), mapping.len_bytes())? };
        // RAW: a name, which is compared.
        let id = control.header().id.load(Relaxed);
        if id != locator.id {
            return Err(Error::attach(format!("expected arena {:016x}, got {id:016x}", locator.id)));
        }
        Ok(Self { control, file, mapping, id })
    }

    /// A picture of the arena. Who has its lock is not told: that takes a try.
    ///
    /// # Errors
    /// `Poisoned` when the tables contradict themselves.
    pub fn stats(&self) -> Result<Stats> {
        // Who cannot be asked about may live.
        let is_alive = |slot: u32| self.file.is_locked(slot.into()..u64::from(slot) + 1).unwrap_or(true);
        let tables = Tables { control: &self.control, me: None, is_alive: &is_alive };
        tables.stats(self.id, self.file.committed_bytes().unwrap_or(0), None)
    }

    /// Whether the arena may be used.
    ///
    /// # Errors
    /// `Poisoned` when somebody found that its tables contradict themselves.
    pub fn check(&self) -> Result<()> {
        self.control.check_poison()
    }

    /// Whether a block is alive.
    pub fn is_live(&self, block: BlockId) -> bool {
        self.control.block_quietly(block.index).is_some_and(|shared| shared.words().load().is_live(block.generation))
    }

    /// The words of the arena's root, as they are now; none when it has no root.
    pub(crate) fn root(&self) -> Option<Vec<u64>> {
        // RAW: a name, which is looked up.
        let root = BlockId::from_word(self.control.header().root.load(Acquire)).filter(|&root| self.is_live(root))?;
        let span = self.control.sane_span(self.control.block_quietly(root.index)?)?;
        let offset = self.control.file_offset(span.start) as usize;
        let count = span.len_bytes() as usize / size_of::<AtomicU64>();
        // SAFETY: a sane span lies inside the data part, all of which is mapped for as long as `self` lives, and begins at a
        // granule.
        let first = unsafe { self.mapping.base().add(offset) }.cast::<AtomicU64>();
        // SAFETY: as above; peers reach these bytes by atomics alone.
        let words = unsafe { std::slice::from_raw_parts(first.as_ptr(), count) };
        // RAW: whoever asks checks what they say.
        Some(words.iter().map(|word| word.load(Acquire)).collect())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Arena;
    use crate::arena::{Deadline, Options};

    #[test]
    fn a_look_sees_what_is_there_and_whatever_it_does_stays_with_it() {
        let options = Options { budget_bytes: Some(8 << 20), ..Options::default() };
        let arena = Arena::create(&options).unwrap();
        let held = arena.alloc(5000, 64, true, &Deadline::never()).unwrap();
        assert!(Look::at(&arena.locator()).unwrap().root().is_none());
        let root = arena.root(64, &Deadline::never()).unwrap();
        root.word(1).unwrap().store(7, Relaxed);
        let look = Look::at(&arena.locator()).unwrap();
        let (seen, known) = (look.stats().unwrap(), arena.stats().unwrap());
        assert_eq!((seen.id, seen.used_bytes, seen.blocks), (known.id, known.used_bytes, known.blocks));
        assert_eq!(known.participants.len(), 1, "nobody has joined");
        assert!(seen.participants[0].alive && !seen.participants[0].me && seen.participants[0].blocks == 2);
        assert!(look.root().unwrap().starts_with(&[0, 7]));
        assert!(look.is_live(held.block()));
        let _ = look.control.poison("only seen here");
        assert!(look.check().is_err() && arena.stats().is_ok());
        let block = held.block();
        drop(held);
        assert!(!Look::at(&arena.locator()).unwrap().is_live(block));
    }
}
