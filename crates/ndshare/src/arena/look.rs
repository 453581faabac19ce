//! A look at an arena from outside: without a slot, without a sweep, and without a store to shared memory.
//!
//! The file is mapped privately, so that whatever is written while looking stays in this process.

use super::audit::{Finding, Rule, audit, unkept};
use super::backing::Backing;
use super::control::Control;
use super::hold::Hold;
use super::ids::{BlockId, Locator, TicketId};
use super::lasting::open_to_look;
use super::lockword::LockWord;
use super::picture::{Picture, still};
use super::records::is_child;
use super::state::{file_name, find_file, pid_of, slot_in};
use super::tables::{Stats, Tables};
use crate::error::{Error, Kind, Result};
use crate::head::HeadKind;
use crate::os::fault::Guard;
use crate::os::file::MemFile;
use crate::os::memory::Mapping;
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
    read,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// An arena as somebody sees it who does not take part.
pub struct Look {
    // The order matters: the mapping goes last, and its guard before it.
    control: Control,
    file: MemFile,
    _guard: Option<Guard>,
    mapping: Mapping,
    id: u64,
}

impl Look {
    /// Looks at the arena that `locator` names. It works when all slots are taken, and when the arena is poisoned, too.
    ///
    /// # Errors
    /// As [`Arena::attach`](super::Arena::attach), but for the slot.
    pub fn at(locator: &Locator) -> Result<Self> {
        let look = Self::of(find_file(locator)?)?;
        match look.id {
            id if id == locator.id => Ok(look),
            id => Err(Error::attach(format!("expected arena {:016x}, got {id:016x}", locator.id))),
        }
    }

    /// Looks at the arena in the file at `path`, whether or not anybody has it.
    ///
    /// # Errors
    /// As [`Arena::at`](super::Arena::at), but for what only taking part needs.
    pub fn at_path(path: impl AsRef<Path>) -> Result<Self> {
        let (path, file, id) = open_to_look(path.as_ref())?;
        Self::of(MemFile::open_at(&path, &file, &file_name(id))?)
    }

    fn of(file: MemFile) -> Result<Self> {
        let mapping = Mapping::private(&file)?;
        // Nothing seals a file with a path: another program may cut it while somebody looks.
        let guard = file.path().map(|_| Guard::new(mapping.base().addr().get() as u64, mapping.len_bytes()));
        let guard = guard.transpose()?;
        // SAFETY: the mapping has that many bytes at a multiple of 2 MiB, and lives in the result beside the control, which
        // is dropped before it.
        let control = unsafe { Control::open(mapping.base(), mapping.len_bytes())? };
        // RAW: a name, which is compared.
        let id = control.header().id.load(Relaxed);
        Ok(Self { control, file, _guard: guard, mapping, id })
    }

    /// The arena's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Bytes of memory, or of a disk, behind it.
    pub fn committed_bytes(&self) -> u64 {
        self.file.committed_bytes().unwrap_or(0)
    }

    /// Whether any process takes part. Where that cannot be asked about, some may.
    pub fn has_anybody(&self) -> bool {
        Backing::has_anybody_in(&self.file, self.control.geometry().participants).unwrap_or(true)
    }

    /// Whether all of a file with a path is still there: what was cut off reads as zeros.
    ///
    /// # Errors
    /// `Poisoned` when another program has changed its length since the look began.
    pub fn check_len(&self) -> Result<()> {
        self.file.check_len()
    }

    /// A picture of the arena. Who has its lock is not told: that takes a try.
    ///
    /// # Errors
    /// `Poisoned` when the tables contradict themselves, or the file was cut.
    pub fn stats(&self) -> Result<Stats> {
        let tables = Tables { control: &self.control, me: None, is_alive: &|slot| self.lives(slot) };
        let stats = tables.stats(self.id, self.committed_bytes(), None);
        self.check_len().and(stats)
    }

    /// Whether the arena may be used.
    ///
    /// # Errors
    /// `Poisoned` when somebody found that its tables contradict themselves.
    pub fn check(&self) -> Result<()> {
        self.control.check_poison()
    }

    /// All that contradicts itself in the tables; what others change meanwhile does not count. A block that nobody keeps
    /// ([`Rule::Kept`]) may be on its way to being free: what another look finds, too, is so.
    ///
    /// # Errors
    /// `Timeout` when the tables were never still for as long as `patience`: it says who has the arena's lock. `Poisoned`
    /// when the file was cut.
    pub fn audit(&self, patience: Duration) -> Result<Vec<Finding>> {
        let poisoned = self.check().err().map(|error| Finding::new(Rule::Sound, "the arena", error.to_string()));
        let picture = soon(patience, || Picture::take(&self.control)).ok_or_else(|| self.never_still())?;
        self.check_len()?;
        // Where somebody has died, a sweep is due, which looks for blocks that nobody keeps. Nobody: the next one mends.
        let tenants: Vec<u32> =
            (0..).zip(&picture.slots).filter(|(_, state)| **state != 0).map(|(slot, _)| slot).collect();
        let is_in_use = !tenants.is_empty() && tenants.iter().all(|&slot| self.lives(slot));
        let unkept = if is_in_use { unkept(&picture) } else { Vec::new() };
        Ok(poisoned.into_iter().chain(audit(&picture)).chain(unkept).collect())
    }

    #[cold]
    fn never_still(&self) -> Error {
        let owner = LockWord(&self.control.header().lock.0).owner();
        let pid = owner
            .filter(|&slot| slot < self.control.geometry().participants)
            .and_then(|slot| self.control.pid(slot).ok());
        let who = match (owner, pid) {
            (None, _) => "processes allocate and hand over all the time".to_owned(),
            (Some(slot), None) => format!("its lock is slot {slot}'s, and there is no such slot"),
            (Some(slot), Some(pid)) => {
                let lives = if self.lives(slot) { "" } else { ", which is dead: its next use sweeps up" };
                format!("process {pid} has its lock{lives}")
            }
        };
        Error::new(
            Kind::Timeout,
            format!("expected the arena's tables to be still for a moment, and they never were: {who}"),
        )
    }

    /// What `read` makes of the words that the lock of a block guards, at a moment when nobody has that lock. `tags` gives
    /// what all work under it changes for good. None: there was no such moment.
    pub(crate) fn still<T, G: PartialEq>(
        &self,
        block: BlockId,
        tags: impl Fn() -> G,
        read: impl Fn() -> T,
    ) -> Option<T> {
        let lock = LockWord(&self.control.block_quietly(block.index)?.lock);
        soon(BRIEFLY, || still(lock, &tags, &read))
    }

    /// The block that a record keeps, if it is the one that a name means and its parent is `parent`.
    pub(crate) fn child_of(&self, parent: BlockId, record: TicketId) -> Option<u32> {
        let found = self.control.record_quietly(record.index)?;
        let is_it = record.nonce != 0 && found.nonce.load(Acquire) == record.nonce && is_child(found, parent);
        // RAW: a name, which is compared.
        is_it.then(|| found.block.load(Relaxed))
    }

    /// Whether any record of `parent` keeps a block.
    pub(crate) fn keeps(&self, parent: BlockId, block: u32) -> bool {
        let records = (0..self.control.records_ready()).filter_map(|index| self.control.record_quietly(index));
        let mut there = records.filter(|record| record.nonce.load(Acquire) != 0 && is_child(record, parent));
        // RAW: only compared.
        there.any(|record| record.block.load(Relaxed) == block)
    }

    /// Whether names in it keep what they name.
    pub(crate) fn is_lasting(&self) -> bool {
        self.file.path().is_some()
    }

    /// Whether an identity may be a participant's.
    pub(crate) fn is_identity(&self, identity: u64) -> bool {
        slot_in(&self.control, identity).is_some()
    }

    /// Whether a block is alive.
    pub fn is_live(&self, block: BlockId) -> bool {
        self.control.block_quietly(block.index).is_some_and(|shared| shared.words().load().is_live(block.generation))
    }

    /// Whether the tenant of a slot lives. Who cannot be asked about may live.
    fn lives(&self, slot: u32) -> bool {
        self.file.is_locked(slot.into()..u64::from(slot) + 1).unwrap_or(true)
    }

    /// The process id of the participant with this identity, while it takes part.
    pub(crate) fn pid_of(&self, identity: u64) -> Option<u32> {
        pid_of(&self.control, identity)
    }

    /// Whether the participant with this identity lives, or may live.
    pub(crate) fn is_identity_alive(&self, identity: u64) -> bool {
        self.pid_of(identity).is_some() && slot_in(&self.control, identity).is_some_and(|slot| self.lives(slot))
    }

    /// The blocks that live now.
    pub fn blocks(&self) -> impl Iterator<Item = BlockId> {
        let name = |index| {
            let word = self.control.block_quietly(index)?.words().load();
            Some(BlockId { index, generation: word.generation }).filter(|&block| word.is_live(block.generation))
        };
        (0..self.control.high()).filter_map(name)
    }

    /// What a block that lives is the head of, if its first word says that it is one.
    pub fn head_kind(&self, block: BlockId) -> Option<HeadKind> {
        let word = read(self.block(block)?.words().first()?, Acquire).capped(u64::MAX);
        HeadKind::of(word).map(|(kind, _)| kind)
    }

    /// The block of the arena's root, which may be gone.
    pub(crate) fn root_block(&self) -> Option<BlockId> {
        // RAW: a name, which is looked up.
        BlockId::from_word(self.control.header().root.load(Acquire))
    }

    /// The words of the arena's root, as they are now; none when it has no root.
    pub(crate) fn root(&self) -> Option<Vec<u64>> {
        let root = self.block(self.root_block()?)?;
        // RAW: whoever asks checks what they say.
        Some(root.words().iter().map(|word| word.load(Acquire)).collect())
    }

    /// The same, or an error that says that there is none.
    ///
    /// # Errors
    /// `InvalidValue` when it is gone.
    pub(crate) fn living(&self, id: BlockId) -> Result<SeenBlock<'_>> {
        self.block(id).ok_or_else(|| Error::value(format!("expected block {} to live, but it is gone", id.index)))
    }

    /// A block, if it lives now. What stands there when it is gone is any bytes.
    pub(crate) fn block(&self, id: BlockId) -> Option<SeenBlock<'_>> {
        let span = self.control.sane_span(self.control.block_quietly(id.index)?).filter(|_| self.is_live(id))?;
        let offset = self.control.file_offset(span.start) as usize;
        let count = span.len_bytes() as usize / size_of::<AtomicU64>();
        // SAFETY: a sane span lies inside the data part, all of which is mapped for as long as `self` lives, and begins at a
        // granule.
        let first = unsafe { self.mapping.base().add(offset) }.cast::<AtomicU64>();
        // SAFETY: as above; peers reach these bytes by atomics alone.
        let words = unsafe { std::slice::from_raw_parts(first.as_ptr(), count) };
        Some(SeenBlock { look: self, id, words })
    }
}

/// How long a ring or a cache may take to be still.
const BRIEFLY: Duration = Duration::from_millis(100);

/// What `attempt` gives, as soon as it gives something.
fn soon<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    // BOUND: `patience`.
    loop {
        let found = attempt();
        if found.is_some() || begun.elapsed() > patience {
            return found;
        }
        std::thread::yield_now();
    }
}

/// A block whose words can be read: one that this process holds, or one that a look sees.
pub trait AnyBlock: Sized {
    /// All of it, as words that others may write.
    fn words(&self) -> &[AtomicU64];
    /// Its name.
    fn block(&self) -> BlockId;
    /// Another block of the same arena, if it lives.
    fn sibling(&self, block: BlockId) -> Option<Self>;
}

impl AnyBlock for Hold {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        Hold::words(self)
    }

    fn block(&self) -> BlockId {
        Hold::block(self)
    }

    fn sibling(&self, block: BlockId) -> Option<Self> {
        self.arena().take(block).ok()
    }
}

/// A block as a look sees it: it may be gone at any moment, and then its bytes are others'.
#[derive(Clone, Copy)]
pub struct SeenBlock<'a> {
    look: &'a Look,
    id: BlockId,
    words: &'a [AtomicU64],
}

impl AnyBlock for SeenBlock<'_> {
    fn words(&self) -> &[AtomicU64] {
        self.words
    }

    fn block(&self) -> BlockId {
        self.id
    }

    fn sibling(&self, block: BlockId) -> Option<Self> {
        self.look.block(block)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Arena;
    use crate::arena::{Deadline, Options};
    use crate::dice::Dice;
    use crate::prim::AtomicBool;

    #[test]
    fn work_that_goes_on_is_no_finding() {
        let options = Options { budget_bytes: Some(32 << 20), ..Options::default() };
        let (arena, over) = (Arena::create(&options).unwrap(), AtomicBool::new(false));
        const FOREVER: Deadline<'static> = Deadline::never();
        std::thread::scope(|scope| {
            for seed in 1..=2 {
                let (arena, over) = (&arena, &over);
                scope.spawn(move || {
                    let (mut dice, mut held) = (Dice(seed), Vec::new());
                    // BOUND: the looks of the test.
                    while !over.load(Relaxed) {
                        held.push(arena.alloc(1 + dice.roll(200_000) as usize, 64, false, &FOREVER).unwrap());
                        let newest = &held[held.len() - 1];
                        let ticket = newest.issue(&FOREVER).unwrap().unwrap();
                        drop(arena.claim(newest.block(), ticket, &FOREVER).unwrap());
                        if held.len() > 20 {
                            held.swap_remove(dice.roll(20) as usize);
                        }
                        // A moment in which nobody works.
                        std::thread::sleep(Duration::from_micros(dice.roll(50)));
                    }
                });
            }
            let look = Look::at(&arena.locator()).unwrap();
            let looks: Vec<_> = (0..80).map(|_| look.audit(Duration::from_secs(20))).collect();
            over.store(true, Relaxed);
            // Nobody keeps a block from the moment in which its last holder lets go of it until it is free.
            let is_none = |finding: &Finding| finding.rule == Rule::Kept;
            assert!(looks.iter().all(|found| found.as_ref().is_ok_and(|found| found.iter().all(is_none))), "{looks:?}");
        });
        assert_eq!(Look::at(&arena.locator()).unwrap().audit(Duration::from_secs(20)).unwrap(), []);
        assert_eq!(arena.stats().unwrap().participants.len(), 1);
    }

    #[test]
    fn a_block_that_nobody_keeps_is_told_unless_somebody_will_free_it() {
        let arena = Arena::create(&Options { budget_bytes: Some(8 << 20), ..Options::default() }).unwrap();
        let held = arena.alloc(5000, 64, true, &Deadline::never()).unwrap();
        let look = Look::at(&arena.locator()).unwrap();
        let found = || look.audit(Duration::from_secs(20)).unwrap();
        assert_eq!(found(), []);
        let shared = arena.control.block(held.block().index).unwrap();
        let bits = shared.holders[0].swap(0, Relaxed);
        let told = found();
        assert_eq!(told.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Rule::Kept]);
        let BlockId { index, generation } = held.block();
        assert_eq!(told[0].place, format!("block {index} of generation {generation}"));
        // Left over, for who needs memory: somebody has said so.
        let unkept = &arena.control.header().unkept;
        unkept.store(1, Relaxed);
        assert_eq!(found(), []);
        unkept.store(0, Relaxed);
        shared.holders[0].store(bits, Relaxed);
        // Of a process that is gone: the next sweep looks for it.
        let other = arena.control.participant(7).unwrap();
        other.state.store(1, Relaxed);
        shared.holders[0].store(0, Relaxed);
        assert_eq!(found(), []);
        other.state.store(0, Relaxed);
        shared.holders[0].store(bits, Relaxed);
        assert_eq!(found(), []);
    }

    #[test]
    fn a_lock_that_stays_taken_is_told_after_a_while() {
        let arena = Arena::create(&Options { budget_bytes: Some(8 << 20), ..Options::default() }).unwrap();
        let look = Look::at(&arena.locator()).unwrap();
        let lock = arena.lock(&Deadline::never()).unwrap();
        let error = look.audit(Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(error.to_string().contains(&format!("process {} has its lock", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(look.audit(Duration::ZERO).unwrap(), []);
    }

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
