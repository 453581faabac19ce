//! Giving way: when an arena is short of memory, the caches in it end values that nobody looks at.
//!
//! A mark in the descriptor of its head's block says that a block is a cache, so whoever needs memory finds the caches
//! of an arena, also those that it has never opened. It takes the lock of one cache at a time, holds no other lock of
//! a cache then, and leaves out a cache whose lock it does not get soon: its owner may be stopped.

use super::state::Cache;
use super::table::{GIVEN_WAY, State, Table, add};
use super::turn::Turn;
use crate::arena::{Arena, BlockId, Deadline, Hold, MARK_CACHE, Shortage, on_shortage};
use crate::error::{Kind, Result};
use crate::layout::human;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::Relaxed;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long one cache's lock is waited for.
const WAIT: Duration = Duration::from_millis(100);
/// How many caches an error names.
const NAMED: usize = 3;

/// From now on the caches of an arena give way in this process before an allocation fails. Once is enough.
pub fn give_way_when_short() {
    on_shortage(Shortage { relieve, describe });
}

/// Marks the head of a cache for those who look for memory.
pub(super) fn mark(head: &Hold) -> Result<()> {
    head.mark(MARK_CACHE)
}

/// The caches of an arena, largest first.
fn caches(arena: &Arc<Arena>) -> Vec<Cache> {
    let open = |block: BlockId| Table::open(arena.take(block).ok()?).ok().map(|table| Cache { table });
    let mut caches: Vec<Cache> = arena.marked(MARK_CACHE).into_iter().filter_map(open).collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.used()));
    caches
}

/// Ends about `bytes` of values, in the largest caches first; says how many bytes went.
fn relieve(arena: &Arc<Arena>, bytes: u64, deadline: &Deadline) -> Result<u64> {
    let mut freed = 0;
    for cache in caches(arena) {
        if freed >= bytes {
            break;
        }
        match deadline.go_on("memory of the arena's caches") {
            // Who has no time left is told that the arena is full.
            Err(error) if error.kind() == Kind::Timeout => break,
            other => other?,
        }
        let check = || deadline.go_on("memory of the arena's caches");
        match cache.give_way(bytes - freed, &Deadline::new(Some(WAIT), &check)) {
            Ok(more) => freed += more,
            // Somebody is stopped in it, or it is broken: the others remain.
            Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Poisoned) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(freed)
}

/// A sentence about the caches of an arena, for the error; empty without any.
fn describe(arena: &Arc<Arena>) -> String {
    let caches = caches(arena);
    if caches.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = caches.iter().take(NAMED).map(Cache::line).collect();
    let more = caches.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!(". Caches: {}{more}", lines.join("; "))
}

impl Cache {
    /// Evicts about `bytes`, because the arena has no room for what is to come, and counts what went. Says how many
    /// bytes went.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn give_way(&self, bytes: u64, deadline: &Deadline) -> Result<u64> {
        self.locked(deadline, |turn| self.give_way_under_lock(bytes, turn))
    }

    fn give_way_under_lock(&self, bytes: u64, turn: &mut Turn) -> Result<u64> {
        let before = self.used();
        // BOUND: each round ends an entry.
        while before.saturating_sub(self.used()) < bytes {
            if !self.evict(turn)? {
                break;
            }
            add(self.table.word(GIVEN_WAY), 1);
            point(Point::CacheCounted);
        }
        Ok(before.saturating_sub(self.used()))
    }

    /// What an error says of this cache.
    fn line(&self) -> String {
        let (bytes, holders) = self.pinned();
        let name = match self.table.name() {
            name if name.is_empty() => "one without a name".to_owned(),
            name => format!("{name:?}"),
        };
        let processes = if holders == 1 { "process looks" } else { "processes look" };
        format!("{name} keeps {}, of which {holders} {processes} at {}", human(self.used()), human(bytes))
    }

    /// Bytes of values that somebody looks at, and by how many processes.
    fn pinned(&self) -> (u64, usize) {
        let (mut bytes, mut holders) = (0, HashSet::new());
        for slot in self.slots() {
            let entry = self.table.entry(slot);
            if entry.now().state() != State::Live || !self.is_pinned(slot) {
                continue;
            }
            bytes += entry.counted();
            // RAW: a name, which is looked up.
            if let Some(block) = BlockId::from_word(entry.value().block.load(Relaxed)) {
                holders.extend(self.arena().holders_of(block));
            }
        }
        (bytes, holders.len())
    }
}
