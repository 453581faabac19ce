//! Names for objects, for all processes of an arena.
//!
//! A name stands for one object, of one kind, by the block that keeps it. It is weak: it finds a block that somebody
//! holds, and is free again once nobody does. So nothing that only has a name stays behind. The table of names is itself
//! such a block: the arena's root, which every block that has a name keeps as its child.
//!
//! In an arena that lasts (a file with a path) it is the other way round: the table stays, and a name keeps its object, by a
//! record of the table's. A record is made before its entry and ends after it. So a death leaves at most a record without an
//! entry, which goes at the next look. An entry whose block does not live is what no death leaves: somebody wrote over the
//! file. Who asks for that name is told so, the entry stays until the name is taken away, and until then no record ends that may be
//! its.
//!
//! ```text
//! table: 256 entries of 32 words, as the arena knows them (`ROOT_ENTRY_WORDS`)
//! word 0       the block {index + 1: 32, generation: 32}; 0: free
//! word 1       length of the name in bytes {32, low}, what it names {32}
//! words 2..32  the name
//! ```

use crate::arena::{
    Arena, BlockId, Deadline, Finding, Hold, Locator, Look, Options, ROOT_ENTRY_WORDS as ENTRY_WORDS, Rule,
};
use crate::error::{Error, Kind, Result};
use crate::head::{self, HeadKind};
use crate::lock::{Entered, Lock};
use crate::os::kill::{Point, point};
use crate::os::proc;
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    equal_bytes, store_bytes,
};
use std::sync::Arc;

/// What can have a name. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ObjectKind {
    /// An array.
    Array = 0,
    /// A ring of frames.
    Ring = 1,
    /// A cache.
    Cache = 2,
    /// An overlay.
    Overlay = 3,
    /// A lock for its own sake.
    Lock = 5,
    /// An arena.
    Arena = 8,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Array, Self::Ring, Self::Cache, Self::Overlay, Self::Lock, Self::Arena];

    /// What its block is the head of; none when that says nothing of it, as of arrays.
    pub const fn head(self) -> Option<HeadKind> {
        match self {
            Self::Array | Self::Arena => None,
            Self::Ring => Some(HeadKind::Ring),
            Self::Cache => Some(HeadKind::Cache),
            Self::Overlay => Some(HeadKind::Overlay),
            Self::Lock => Some(HeadKind::Lock),
        }
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Array => "array",
            Self::Ring => "ring",
            Self::Cache => "cache",
            Self::Overlay => "overlay",
            Self::Lock => "lock",
            Self::Arena => "arena",
        }
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Who looks for a name: for what, and which object is not it although it has the name.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What it should be.
    pub kind: ObjectKind,
    /// Its name.
    pub name: &'a str,
    /// Whether the object of a block is over, so that another one may have its name.
    pub is_over: &'a dyn Fn(&Hold) -> bool,
}

impl<'a> Wanted<'a> {
    /// An object that is never over while somebody has it.
    pub fn new(kind: ObjectKind, name: &'a str) -> Self {
        Self { kind, name, is_over: &|_| false }
    }
}

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 240;
const NAMES: usize = 256;
pub(crate) const TABLE_BYTES: usize = NAMES * ENTRY_WORDS * 8;

/// The block of a name; made by `make` when there is none. Only one of those who ask at once makes it.
///
/// # Errors
/// `InvalidValue` for an empty or too long name, and when it names something else; `Misuse` when all names are taken;
/// `Timeout` at `deadline`; what `make` says.
pub fn find_or_make(
    arena: &Arc<Arena>,
    wanted: &Wanted,
    make: &mut dyn FnMut() -> Result<Hold>,
    deadline: &Deadline,
) -> Result<Hold> {
    check_len(wanted.name)?;
    in_table(arena, deadline, |table| find_or_enter(table, wanted, make, deadline))
}

/// Does something with the table of names, under its lock. No code of users runs meanwhile: a signal handler that asked for
/// a name would wait for its own thread.
fn in_table<T>(arena: &Arc<Arena>, deadline: &Deadline, act: impl FnOnce(&Hold) -> Result<T>) -> Result<T> {
    let table = arena.root(TABLE_BYTES, deadline)?;
    // Whoever died in here left at most an entry whose block is not named yet, or one that is: nothing to put in order.
    let (entered, _) = Entered::enter(&table, deadline)?;
    let before = named_in(&table);
    let done = act(&table).and_then(|done| end_nameless(&table, &before, deadline).map(|()| done));
    entered.leave()?;
    done
}

fn check_len(name: &str) -> Result<()> {
    match name.len() {
        1..=MAX_NAME_BYTES => Ok(()),
        len => Err(Error::value(format!("expected a name of 1 to {MAX_NAME_BYTES} bytes, got {len} bytes"))),
    }
}

impl Lock {
    /// The lock of this name, which all processes of the arena share that ask for it; made if there is none. It lasts as
    /// long as somebody has it.
    ///
    /// # Errors
    /// `InvalidValue` for a name that is empty or longer than 240 bytes, and when it is another object's; `Misuse` when all
    /// names are taken; as [`Lock::new`].
    pub fn named(arena: &Arc<Arena>, name: &str, deadline: &Deadline) -> Result<Self> {
        let mut make = || Self::new(arena, deadline).map(|lock| lock.head().clone());
        Self::open(find_or_make(arena, &Wanted::new(ObjectKind::Lock, name), &mut make, deadline)?)
    }
}

/// The block of a name, if somebody has it.
///
/// # Errors
/// `InvalidValue` when it names something else; `Poisoned`; `Timeout` at `deadline`.
pub fn find(arena: &Arc<Arena>, wanted: &Wanted, deadline: &Deadline) -> Result<Option<Hold>> {
    in_table(arena, deadline, |table| find_alive(table, wanted))
}

/// Gives a name of a lasting arena to a block of it, which it keeps from then on. With `replace` it takes the name from
/// what has it.
///
/// # Errors
/// `InvalidValue` for an empty or too long name; `Misuse` when something else has the name, or all names are taken;
/// `Timeout` at `deadline`.
pub(crate) fn put(
    arena: &Arc<Arena>,
    (kind, name): (ObjectKind, &str),
    block: &Hold,
    replace: bool,
    deadline: &Deadline,
) -> Result<()> {
    check_len(name)?;
    in_table(arena, deadline, |table| {
        let there = if replace { None } else { entry_of(table, name)? };
        if let Some((_, kind)) = there.filter(|(hold, _)| hold.block() != block.block()) {
            return Err(Error::new(
                Kind::Misuse,
                format!(
                    "expected {name:?} to be free in this arena, got {}: choose another name, unpublish that one, or replace \
                     it (replace=True)",
                    kind_name(kind)
                ),
            ));
        }
        let free = || entries(table).find(|entry| is_free(arena, entry));
        enter(table, find_entry(table, name).or_else(free).ok_or_else(too_many)?, (kind, name), block, deadline)
    })
}

/// The block that has a name in an arena, and what it is; none when nothing has.
///
/// # Errors
/// As [`find`].
pub(crate) fn get(arena: &Arc<Arena>, name: &str, deadline: &Deadline) -> Result<Option<(ObjectKind, Hold)>> {
    check_len(name)?;
    let found = in_table(arena, deadline, |table| entry_of(table, name))?;
    Ok(found.and_then(|(hold, kind)| Some((kind_of(kind)?, hold))))
}

/// Takes a name away; says whether there was one.
///
/// # Errors
/// As [`find`].
pub(crate) fn remove(arena: &Arc<Arena>, name: &str, deadline: &Deadline) -> Result<bool> {
    check_len(name)?;
    in_table(arena, deadline, |table| Ok(forget(table, name)))
}

/// The names in an arena whose objects live, in order, and what they are. In an arena that lasts that is all that has a name.
///
/// # Errors
/// As [`find`].
pub(crate) fn list(arena: &Arc<Arena>, deadline: &Deadline) -> Result<Vec<(String, ObjectKind)>> {
    let is_live = |block: BlockId| arena.is_lasting() || arena.is_live(block);
    // RAW: looked up, and checked as text.
    let words = |entry: &[AtomicU64]| entry.iter().map(|word| word.load(Acquire)).collect::<Vec<_>>();
    let mut names = in_table(arena, deadline, |table| {
        Ok(entries(table).filter_map(|entry| name_in(&is_live, &words(entry))).collect::<Vec<_>>())
    })?;
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The names of objects that live in an arena, in order, told from outside. A name that is being made may be missing.
pub fn names(look: &Look) -> Vec<(String, ObjectKind)> {
    let mut names: Vec<_> = seen(look).into_iter().map(|(name, kind, _)| (name, kind)).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    names
}

/// What has a name in an arena, and its block, told from outside.
pub fn find_seen(look: &Look, name: &str) -> Option<(ObjectKind, BlockId)> {
    seen(look).into_iter().find(|one| one.0 == name).map(|(_, kind, block)| (kind, block))
}

fn seen(look: &Look) -> Vec<(String, ObjectKind, BlockId)> {
    let table = look.root().unwrap_or_default();
    let named = table.chunks_exact(ENTRY_WORDS).take(NAMES).filter_map(|entry| {
        let (name, kind) = name_in(&|block| look.is_live(block), entry)?;
        Some((name, kind, BlockId::from_word(entry[0])?))
    });
    named.collect()
}

/// All that contradicts itself in the table of names, told from outside.
pub fn audit(look: &Look) -> Vec<Finding> {
    let (Some(root), Some(table)) = (look.root_block(), look.root()) else { return Vec::new() };
    if table.len() * 8 < TABLE_BYTES {
        return vec![Finding::new(Rule::Names, "the table of names", format!("it has only {} bytes", table.len() * 8))];
    }
    let entries = table.chunks_exact(ENTRY_WORDS).take(NAMES).zip(0..);
    let wrong = entries.filter_map(|(entry, index)| {
        let found = match BlockId::from_word(entry[0]).filter(|&block| look.is_live(block)) {
            Some(block) => contradiction(look, root, block, entry).filter(|_| look.is_live(block)),
            None => gone(look, entry, index),
        };
        found.map(|found| Finding::new(Rule::Names, format!("entry {index} of the names"), found))
    });
    wrong.collect()
}

/// What is wrong with an entry whose block does not live: in an arena that lasts an entry ends before its block does.
fn gone(look: &Look, entry: &[u64], index: usize) -> Option<String> {
    if !look.is_lasting() || entry[0] == 0 {
        return None;
    }
    let now = look.root()?;
    let name = name_in(&|_| true, entry).map_or_else(|| "something".to_owned(), |(name, _)| format!("{name:?}"));
    (now.get(index * ENTRY_WORDS) == Some(&entry[0])).then(|| format!("{name} has the name of a block that is gone"))
}

/// What is wrong with an entry whose block lives.
fn contradiction(look: &Look, root: BlockId, block: BlockId, entry: &[u64]) -> Option<String> {
    let len = split(entry[1]).0;
    let named = name_in(&|_| true, entry).filter(|_| (1..=MAX_NAME_BYTES as u64).contains(&len));
    let Some((name, kind)) = named else { return Some("it has no name, or that of no kind that there is".to_owned()) };
    let head = if kind == ObjectKind::Array { Some(HeadKind::Array) } else { kind.head() };
    if head.is_some() && look.head_kind(block) != head {
        return Some(format!("{name:?} is the name of a kind {kind}, and block {} is none", block.index));
    }
    let is_lost = look.is_lasting() && !look.keeps(root, block.index);
    is_lost.then(|| format!("no record keeps block {} for the name {name:?}", block.index))
}

/// The name of a block in its arena, told from outside.
pub fn name_of(look: &Look, block: BlockId) -> Option<String> {
    seen(look).into_iter().find(|one| one.2 == block).map(|one| one.0)
}

/// Name and kind in an entry whose block lives.
fn name_in(is_live: &dyn Fn(BlockId) -> bool, entry: &[u64]) -> Option<(String, ObjectKind)> {
    let _ = BlockId::from_word(entry[0]).filter(|&block| is_live(block))?;
    let (len, kind) = split(entry[1]);
    let bytes: Vec<u8> = entry[2..].iter().flat_map(|word| word.to_le_bytes()).take(len as usize).collect();
    Some((String::from_utf8(bytes).ok()?, kind_of(kind)?))
}

fn kind_of(number: u64) -> Option<ObjectKind> {
    ObjectKind::ALL.into_iter().find(|&one| one as u64 == number)
}

fn kind_name(number: u64) -> String {
    kind_of(number).map_or_else(|| number.to_string(), |kind| kind.to_string())
}

fn entries(table: &Hold) -> impl Iterator<Item = &[AtomicU64]> {
    table.words().chunks_exact(ENTRY_WORDS).take(NAMES)
}

/// The block that the table has under a name.
fn find_alive(table: &Hold, wanted: &Wanted) -> Result<Option<Hold>> {
    let found = entry_of(table, wanted.name)?;
    let found = found.filter(|(hold, _)| !(wanted.is_over)(hold));
    found.map_or(Ok(None), |(hold, kind)| match kind == wanted.kind as u64 {
        true => Ok(Some(hold)),
        false => Err(other_kind(wanted, kind)),
    })
}

/// The block that the table has under a name, whatever it is, and the number of its kind.
fn entry_of(table: &Hold, name: &str) -> Result<Option<(Hold, u64)>> {
    find_entry(table, name).map_or(Ok(None), |entry| alive(table.arena(), entry, name))
}

/// The entry that has a name.
fn find_entry<'a>(table: &'a Hold, name: &str) -> Option<&'a [AtomicU64]> {
    entries(table).find(|entry| {
        // RAW: only compared.
        let len = split(entry[1].load(Relaxed)).0;
        len == name.len() as u64 && equal_bytes(&entry[2..], name.as_bytes()) && !is_free(table.arena(), entry)
    })
}

#[cold]
fn other_kind(wanted: &Wanted, kind: u64) -> Error {
    let found = kind_name(kind);
    Error::value(format!(
        "expected {:?} to be a name of kind {} here, or free, got one of kind {found}: choose another name",
        wanted.name, wanted.kind
    ))
}

/// The block that an entry gives this name to, if it lives, and the number of its kind.
///
/// # Errors
/// `Poisoned` when it does not, in an arena that lasts.
fn alive(arena: &Arc<Arena>, entry: &[AtomicU64], name: &str) -> Result<Option<(Hold, u64)>> {
    // RAW: one of those that there are, or an error.
    let kind = split(entry[1].load(Relaxed)).1;
    // RAW: a name, which is looked up.
    let block = BlockId::from_word(entry[0].load(Acquire));
    // Sweeps the dead; what they alone held is gone then.
    let taken = block.map(|block| arena.is_kept_by_others(block).and_then(|_| arena.take(block)));
    match taken {
        Some(Ok(hold)) if !arena.is_lasting() || has_what_it_keeps(&hold) => Ok(Some((hold, kind))),
        _ if !arena.is_lasting() => Ok(None),
        Some(Err(error)) if error.kind() != Kind::Stale => Err(error),
        _ => Err(lost(arena, name)),
    }
}

/// Whether the one block lives that some heads keep.
fn has_what_it_keeps(head: &Hold) -> bool {
    // RAW: names, which are looked up.
    let words: Vec<u64> = head.words().iter().take(head::PREFIX_WORDS).map(|word| word.load(Acquire)).collect();
    HeadKind::kept_by(&words).is_none_or(|kept| BlockId::from_word(kept).is_some_and(|kept| head.arena().is_live(kept)))
}

#[cold]
fn lost(arena: &Arc<Arena>, name: &str) -> Error {
    let message = format!(
        "what has the name {name:?} in {arena:?} is gone, and nobody took the name away: the file was written over. Take it \
         from a copy of the file, or give the name up: unpublish it, or replace it (replace=True)"
    );
    Error::written_over("a name in the arena", message)
}

/// Length and kind of a name.
fn split(word: u64) -> (u64, u64) {
    (word & u64::from(u32::MAX), word >> 32)
}

fn find_or_enter(
    table: &Hold,
    wanted: &Wanted,
    make: &mut dyn FnMut() -> Result<Hold>,
    deadline: &Deadline,
) -> Result<Hold> {
    if let Some(hold) = find_alive(table, wanted)? {
        return Ok(hold);
    }
    // An object that is over gives its name up, though somebody has it still.
    forget(table, wanted.name);
    let entry = entries(table).find(|entry| is_free(table.arena(), entry)).ok_or_else(too_many)?;
    let hold = make()?;
    enter(table, entry, (wanted.kind, wanted.name), &hold, deadline).map(|()| hold)
}

fn is_free(arena: &Arena, entry: &[AtomicU64]) -> bool {
    // RAW: a name, which is looked up.
    let word = entry[0].load(Relaxed);
    word == 0 || !arena.is_lasting() && !names_a_live_block(arena, word)
}

fn names_a_live_block(arena: &Arena, word: u64) -> bool {
    BlockId::from_word(word).is_some_and(|block| arena.is_live(block))
}

#[cold]
fn too_many() -> Error {
    Error::new(Kind::Misuse, format!("expected at most {NAMES} names at a time, got one more: drop named objects"))
}

fn enter(
    table: &Hold,
    entry: &[AtomicU64],
    (kind, name): (ObjectKind, &str),
    block: &Hold,
    deadline: &Deadline,
) -> Result<()> {
    // A wait that ends early leaves the entry as it was.
    if table.arena().is_lasting() { table.adopt(block, deadline) } else { block.adopt(table, deadline) }?;
    entry[0].store(0, Relaxed);
    point(Point::NameCleared);
    entry[1].store(name.len() as u64 | (kind as u64) << 32, Relaxed);
    store_bytes(&entry[2..], name.as_bytes());
    point(Point::NameWritten);
    // The one store that makes the name: a death before it leaves a free entry.
    entry[0].store(block.block().to_word(), Release);
    point(Point::NameMade);
    Ok(())
}

/// Takes a name from the object that has it; says whether one had.
fn forget(table: &Hold, name: &str) -> bool {
    let found = find_entry(table, name);
    if let Some(entry) = found {
        entry[0].store(0, Relaxed);
        point(Point::NameCleared);
    }
    found.is_some()
}

/// What the entries of a table name.
fn named_in(table: &Hold) -> Vec<u64> {
    // RAW: names of blocks, which are compared and looked up.
    entries(table).map(|entry| entry[0].load(Relaxed)).filter(|&word| word != 0).collect()
}

/// Ends the records of a lasting table for which no entry stands any more.
fn end_nameless(table: &Hold, before: &[u64], deadline: &Deadline) -> Result<()> {
    if !table.arena().is_lasting() {
        return Ok(());
    }
    let mut named = named_in(table);
    // A record may be that of an entry that was written over. Then only those end that an entry has just stood for.
    let is_whole = named.iter().all(|&word| names_a_live_block(table.arena(), word));
    named.push(table.block().to_word());
    for (record, block) in table.children()? {
        match named.iter().position(|&word| word == block.to_word()) {
            Some(at) => drop(named.swap_remove(at)),
            None if is_whole || before.contains(&block.to_word()) => table.disown(record, deadline)?,
            None => {}
        }
    }
    Ok(())
}

/// The arena of a name, which lives as long as somebody holds the returned block of `session`; made with `options` if
/// there is none.
///
/// # Errors
/// `InvalidValue` when the arena of this name has another budget or another mode; as [`find_or_make`], `Arena::create` and `Arena::attach`.
pub fn find_or_make_arena(
    session: &Arc<Arena>,
    name: &str,
    options: &Options,
    deadline: &Deadline,
) -> Result<(Arc<Arena>, Hold)> {
    // Not by who holds the card: others may have it in hand just to look, and find as little.
    let is_gone = |card: &Hold| read_card(card).is_ok_and(|(at, numbering)| Arena::is_gone(&at, numbering));
    let wanted = Wanted { is_over: &is_gone, ..Wanted::new(ObjectKind::Arena, name) };
    for _ in 0..CARD_ROUNDS {
        let mut made = None;
        let mut make = || {
            let arena = Arena::create(options)?;
            let card = write_card(session, arena.locator(), deadline)?;
            made = Some(arena);
            Ok(card)
        };
        let card = find_or_make(session, &wanted, &mut make, deadline)?;
        if let Some(arena) = made {
            return Ok((arena, card));
        }
        match Arena::attach_as(&read_card(&card)?.0, false) {
            // Whoever had it may have ended since.
            Err(error) if error.kind() == Kind::Unreachable && is_gone(&card) => {}
            other => return check_options(other?, name, options).map(|arena| (arena, card)),
        }
    }
    Err(Error::new(Kind::Misuse, format!("the arena {name:?} goes away again and again: keep it in some process")))
}

/// How often the holders of an arena may end just while it is looked for.
const CARD_ROUNDS: u32 = 10;
const CARD_BYTES: usize = 32;

/// A block that says where an arena is, and by whose numbers of processes.
fn write_card(session: &Arc<Arena>, at: Locator, deadline: &Deadline) -> Result<Hold> {
    let card = session.alloc(CARD_BYTES, 64, true, deadline)?;
    let numbering = proc::pid_namespace().unwrap_or(0);
    // NO POINT: nobody else has the name of this block yet; with its maker it goes.
    for (index, value) in [at.id, u64::from(at.pid), at.fd as u64, numbering].into_iter().enumerate() {
        card.word(index)?.store(value, Relaxed);
    }
    Ok(card)
}

fn read_card(card: &Hold) -> Result<(Locator, u64)> {
    // RAW: a name, which is looked up.
    let word = |index| card.word(index).map(|word| word.load(Relaxed));
    let locator = Locator { id: word(0)?, pid: word(1)? as u32, fd: word(2)? as i32, is_readonly: false };
    Ok((locator, word(3)?))
}

fn check_options(arena: Arc<Arena>, name: &str, options: &Options) -> Result<Arc<Arena>> {
    if options.mode != arena.mode() {
        let [there, wanted] =
            [arena.mode(), options.mode].map(|mode| mode.map_or("none".into(), |mode| format!("{mode:#o}")));
        return Err(Error::value(format!(
            "expected the mode of the arena {name:?} that is there already, {there}, got {wanted}: give the same, or choose another name"
        )));
    }
    match options.budget_bytes {
        Some(wanted) if wanted != arena.budget_bytes() => Err(Error::value(format!(
            "expected the budget of the arena {name:?} that is there already, {} bytes, got {wanted}: give the same, or choose another name",
            arena.budget_bytes()
        ))),
        _ => Ok(arena),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    use crate::dice::Dice;
    use crate::lock;
    use crate::prim::Ordering::SeqCst;
    use std::time::Duration;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn named(arena: &Arc<Arena>, name: &str) -> (Hold, bool) {
        let mut made = false;
        let mut make = || {
            made = true;
            arena.alloc(100, 64, true, &FOREVER)
        };
        let hold = find_or_make(arena, &cache(name), &mut make, &FOREVER).unwrap();
        (hold, made)
    }

    fn cache(name: &str) -> Wanted<'_> {
        Wanted::new(ObjectKind::Cache, name)
    }

    #[test]
    fn no_code_of_users_runs_under_the_lock_of_the_table() {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let mut make = || {
            assert!(lock::is_quiet());
            arena.alloc(100, 64, true, &FOREVER)
        };
        let made = find_or_make(&arena, &cache("tiles"), &mut make, &FOREVER).unwrap();
        assert!(!lock::is_quiet());
        // The lock is had from the first look on, also by who makes nothing, puts a name or takes one away.
        let looked = Wanted { is_over: &|_| !lock::is_quiet(), ..cache("tiles") };
        assert_eq!(find(&arena, &looked, &FOREVER).unwrap().unwrap().block(), made.block());
        assert!(!lock::is_quiet());
    }

    /// The table was locked for ever.
    #[test]
    fn a_panic_while_a_name_is_made_leaves_the_table_open() {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let make = || find_or_make(&arena, &cache("tiles"), &mut || panic!("a bug"), &FOREVER).map(drop);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).is_err());
        assert!(!lock::is_quiet());
        let soon = Deadline::after(Duration::from_secs(5));
        assert!(find(&arena, &cache("tiles"), &soon).unwrap().is_none());
    }

    #[test]
    fn a_name_finds_what_somebody_holds() {
        let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let (mine, made) = named(&arena, "tiles");
        let (theirs, again) = named(&other, "tiles");
        assert!(made && !again && mine.block() == theirs.block());
        assert_ne!(named(&other, "tile").0.block(), mine.block());
        drop(mine);
        assert!(find(&arena, &cache("tiles"), &FOREVER).unwrap().is_some(), "another still holds it");
        drop(theirs);
        assert!(find(&arena, &cache("tiles"), &FOREVER).unwrap().is_none());
        assert!(named(&arena, "tiles").1, "it is made anew");
    }

    #[test]
    fn a_name_is_of_one_kind_and_free_again_when_its_object_is_over() {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let (tiles, _) = named(&arena, "tiles");
        let lock = Wanted::new(ObjectKind::Lock, "tiles");
        for refused in
            [find_or_make(&arena, &lock, &mut || panic!("not made"), &FOREVER).map(Some), find(&arena, &lock, &FOREVER)]
        {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("kind lock") && text.contains("kind cache"), "{text}");
        }
        let over = Wanted { is_over: &|hold| hold.block() == tiles.block(), ..cache("tiles") };
        assert!(find(&arena, &over, &FOREVER).unwrap().is_none());
        let next = find_or_make(&arena, &over, &mut || arena.alloc(100, 64, true, &FOREVER), &FOREVER).unwrap();
        assert_ne!(next.block(), tiles.block());
        assert_eq!(find(&arena, &over, &FOREVER).unwrap().unwrap().block(), next.block());
        assert_eq!(named(&arena, "tiles").0.block(), next.block(), "whoever else asks finds the new one");
    }

    #[test]
    fn the_table_lives_as_long_as_a_block_with_a_name() {
        let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let maker = Arena::join_on_heap(&heap).unwrap();
        let block = named(&maker, "tiles").0.block();
        let still_there = arena.take(block);
        assert_eq!(still_there.unwrap_err().kind(), Kind::Stale, "nobody held it");
        let theirs = named(&maker, "tiles").0;
        let kept = arena.take(theirs.block()).unwrap();
        drop((theirs, maker));
        assert_eq!(named(&arena, "tiles").0.block(), kept.block());
        drop(kept);
        assert_eq!(arena.stats().unwrap().used_bytes, 0);
    }

    #[test]
    fn a_table_that_was_written_over_is_a_finding_and_its_use_is_none() {
        let arena = Arena::create(&Options { budget_bytes: Some(8 << 20), ..Options::default() }).unwrap();
        let lock = Lock::named(&arena, "door", &FOREVER).unwrap();
        let look = Look::at(&arena.locator()).unwrap();
        assert_eq!(audit(&look), []);
        assert_eq!(name_of(&look, lock.head().block()).as_deref(), Some("door"));
        let other = arena.alloc(100, 64, true, &FOREVER).unwrap();
        let table = arena.root(TABLE_BYTES, &FOREVER).unwrap();
        for (at, value) in [(0, other.block().to_word()), (1, 0), (1, 500), (1, 99 << 32 | 4), (2, u64::MAX)] {
            let old = table.words()[at].swap(value, SeqCst);
            let found = audit(&look);
            assert!(found.len() == 1 && found[0].rule == Rule::Names, "word {at}, {value:#x}: {found:?}");
            table.words()[at].store(old, SeqCst);
        }
        assert_eq!(audit(&look), []);
        drop(lock);
        assert_eq!(audit(&look), [], "the name of what is gone");
    }

    #[test]
    fn a_name_whose_block_is_gone_is_an_error_until_it_is_taken_away_and_the_others_stay() {
        let (arena, _heap) = Arena::create_lasting_on_heap(4 << 20).unwrap();
        let (tiles, _) = named(&arena, "tiles");
        let (other, _) = named(&arena, "other");
        let table = arena.root(TABLE_BYTES, &FOREVER).unwrap();
        let entry = find_entry(&table, "tiles").unwrap();
        for word in [tiles.block().to_word() ^ 1 << 40, 1 << 63, 77] {
            entry[0].store(word, SeqCst);
            let asked = [
                find(&arena, &cache("tiles"), &FOREVER).map(drop),
                get(&arena, "tiles", &FOREVER).map(drop),
                find_or_make(&arena, &cache("tiles"), &mut || panic!("not made"), &FOREVER).map(drop),
                put(&arena, (ObjectKind::Cache, "tiles"), &other, false, &FOREVER),
            ];
            for error in asked.map(Result::unwrap_err) {
                assert!(error.kind() == Kind::Poisoned && error.to_string().contains("\"tiles\""), "{error}");
            }
            assert_eq!(find(&arena, &cache("other"), &FOREVER).unwrap().unwrap().block(), other.block());
        }
        assert_eq!(list(&arena, &FOREVER).unwrap().len(), 1, "77 is no block's name");
        entry[0].store(1 << 40 | 3, SeqCst);
        assert_eq!(list(&arena, &FOREVER).unwrap().len(), 2);
        // Its record may be what the entry said: nothing is given back before somebody had a look.
        let (block, kept) = (tiles.block(), other.block());
        drop((tiles, other));
        assert!(arena.is_live(block));
        let third = named(&arena, "third").0.block();
        assert!(remove(&arena, "third", &FOREVER).unwrap());
        assert!(arena.is_live(block) && !arena.is_live(third), "what was named goes as ever");
        assert!(remove(&arena, "tiles", &FOREVER).unwrap());
        assert!(arena.is_live(kept) && !arena.is_live(block));
        assert!(named(&arena, "tiles").1, "it is made anew");
    }

    #[test]
    fn names_of_the_dead_are_free_again() {
        let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let victim = Arena::join_on_heap(&heap).unwrap();
        let theirs = named(&victim, "tiles").0;
        heap.declare_dead(victim.participant_slot());
        std::mem::forget((theirs, victim));
        assert!(named(&arena, "tiles").1, "neither the name nor the table outlives its only holder");
    }

    #[test]
    fn names_are_bounded_and_come_back() {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let held: Vec<Hold> = (0..NAMES).map(|i| named(&arena, &format!("name {i}")).0).collect();
        let one_more = find_or_make(&arena, &cache("one more"), &mut || arena.alloc(1, 64, true, &FOREVER), &FOREVER);
        assert_eq!(one_more.unwrap_err().kind(), Kind::Misuse);
        drop(held);
        assert!(named(&arena, "one more").1);
        for bad in [String::new(), "x".repeat(MAX_NAME_BYTES + 1)] {
            let refused = find_or_make(&arena, &cache(&bad), &mut || panic!("not made"), &FOREVER);
            assert_eq!(refused.unwrap_err().kind(), Kind::InvalidValue);
        }
    }

    #[test]
    fn of_those_who_ask_at_once_one_makes() {
        let (arena, heap) = Arena::create_on_heap(8 << 20).unwrap();
        let made = AtomicU64::new(0);
        let ready = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = Arena::join_on_heap(&heap).unwrap();
                    ready.wait();
                    let (hold, fresh) = named(&mine, "tiles");
                    made.fetch_add(u64::from(fresh), Relaxed);
                    ready.wait();
                    drop(hold);
                });
            }
        });
        assert_eq!(made.load(Relaxed), 1);
        drop(arena);
    }

    #[test]
    fn an_arena_that_is_gone_gives_its_name_up_though_others_look_at_its_card() {
        let (session, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let options = Options { budget_bytes: Some(1 << 20), ..Options::default() };
        let (first, card) = find_or_make_arena(&session, "a", &options, &FOREVER).unwrap();
        let id = first.id();
        let looked_at = find(&other, &Wanted::new(ObjectKind::Arena, "a"), &FOREVER).unwrap().unwrap();
        drop((first, card));
        let (next, _card) = find_or_make_arena(&session, "a", &options, &FOREVER).unwrap();
        let (same, _theirs) = find_or_make_arena(&other, "a", &options, &FOREVER).unwrap();
        assert!(next.id() != id && same.id() == next.id());
        drop(looked_at);
    }

    #[cfg(feature = "killpoints")]
    #[test]
    fn a_death_at_any_point_leaves_a_name_that_can_be_had() {
        use crate::os::kill::{KILL_POINTS, armed::stops_at};
        for &label in KILL_POINTS.iter().filter(|label| label.starts_with("name:") || label.starts_with("root:")) {
            let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
            let victim = Arena::join_on_heap(&heap).unwrap();
            let slot = victim.participant_slot();
            assert!(stops_at(label, 1, move || drop(named(&victim, "tiles"))));
            heap.declare_dead(slot);
            let (mine, made) = named(&arena, "tiles");
            assert!(made, "{label}");
            drop(mine);
            assert_eq!(arena.stats().unwrap().used_bytes, 0, "{label}");
        }
    }

    // ---- a table that was scribbled on

    fn briefly() -> Deadline<'static> {
        Deadline::new(Some(Duration::from_millis(1)), &|| Ok(()))
    }

    /// What every victim does. Each call gives a block, none, or an error.
    fn use_it(arena: &Arc<Arena>) {
        for name in ["tiles", "x", &"y".repeat(MAX_NAME_BYTES)] {
            let made = find_or_make(arena, &cache(name), &mut || arena.alloc(100, 64, true, &briefly()), &briefly());
            let found = find(arena, &cache(name), &briefly());
            if let Ok(hold) = &made {
                assert!(hold.words().iter().all(|word| word.load(Relaxed) != 1 << 63), "all of it can be read");
            }
            drop((made, found));
        }
        assert_eq!(find(arena, &cache("none has this name"), &briefly()).ok().flatten().map(|hold| hold.block()), None);
    }

    /// A word of the table, and what a fault might put there.
    fn scribble(dice: &mut Dice, table: &Hold, blocks: &[u64]) {
        let words = table.words();
        // The first entries are the ones in use.
        let most = if dice.below(4) == 0 { words.len() } else { 4 * ENTRY_WORDS };
        let at = dice.below(most);
        let at = if dice.below(2) == 0 { at / ENTRY_WORDS * ENTRY_WORDS + dice.below(2) } else { at };
        let wild = [0, 1, u64::MAX, u64::MAX - 1, 1 << 32, MAX_NAME_BYTES as u64, 5, dice.next()];
        let value = dice.below(wild.len() + blocks.len());
        words[at].store(*wild.iter().chain(blocks).nth(value).unwrap(), SeqCst);
    }

    /// Whatever stands in any word of the table, who asks for a name gets a block or a typed error, and a table that
    /// is put right serves again.
    #[test]
    fn whatever_stands_in_the_table_nobody_panics_hangs_or_reads_outside() {
        let mut dice = Dice(13);
        for _ in 0..10 {
            let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
            let other = Arena::join_on_heap(&heap).unwrap();
            let held: Vec<Hold> = ["tiles", "a", "b"].iter().map(|name| named(&arena, name).0).collect();
            let table = arena.root(TABLE_BYTES, &FOREVER).unwrap();
            let blocks = [table.block().to_word(), held[0].block().to_word(), held[2].block().to_word()];
            for _ in 0..60 {
                scribble(&mut dice, &table, &blocks);
                use_it(&arena);
                use_it(&other);
            }
            table.words().iter().for_each(|word| word.store(0, SeqCst));
            assert!(named(&other, "tiles").1, "nothing private was damaged");
            drop((held, table));
            assert_eq!(arena.stats().unwrap().used_bytes, 0, "no block stays behind");
        }
    }

    #[test]
    fn the_table_may_be_scribbled_on_while_it_is_used() {
        let (arena, heap) = Arena::create_on_heap(4 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let held = named(&arena, "tiles").0;
        let table = arena.root(TABLE_BYTES, &FOREVER).unwrap();
        let blocks = [table.block().to_word(), held.block().to_word()];
        std::thread::scope(|scope| {
            let victim = scope.spawn(|| (0..100).for_each(|_| use_it(&other)));
            let mut dice = Dice(14);
            while !victim.is_finished() {
                scribble(&mut dice, &table, &blocks);
                std::thread::yield_now();
            }
        });
        table.words().iter().for_each(|word| word.store(0, SeqCst));
        assert!(named(&arena, "tiles").1);
    }
}
