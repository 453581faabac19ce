//! Who goes when room is needed: S3-FIFO (Yang, Qiu, Zhang, Yue and Rashmi, "FIFO queues are all you need for cache
//! eviction", SOSP 2023).
//!
//! New entries come into a small queue, a tenth of the cache. Whoever is used again before it reaches the tail moves to
//! the main queue; the others go, and their keys are remembered for a while as ghosts. A ghost that comes back goes to
//! the main queue at once. At its tail an entry that was used goes round again, with one use less. So a scan passes
//! through the small queue and leaves the rest alone, and a hit writes nothing but its count of uses.
//!
//! There are as many ghosts as entries, so that a loop over a little more than the cache holds finds its keys among
//! them. A ghost is half a hash and a number; that another key has the same costs it a turn in the small queue, no
//! more. They are never put in order after a death: at worst a few are forgotten.
//!
//! All of this happens under the lock of the cache. The queues are lists through the entries; they derive from the
//! stamps in the entries and are made anew when a process died among them, and when their links contradict each other.

use super::table::{CLOCK, DISORDER, Entry, GHOSTS, MOST_BYTES, Queue, Table, add, subtract};
use crate::arena::AnyBlock;
use crate::os::kill::{Point, point};
use crate::prim::{AtomicU64, Ordering::Relaxed, read};

/// Tags of the queues; 0: in none.
pub(super) const SMALL: u64 = 1;
pub(super) const MAIN: u64 = 2;
/// The small queue's share: one part in ten.
const SMALL_PART: u64 = 10;
/// Uses in the small queue that make an entry move to the main queue.
const PROMOTING_USES: u64 = 1;
/// Uses are counted up to here.
const MOST_USES: u64 = 3;

/// Notes that a value was found. It takes no lock: of two at once one may be lost.
#[inline]
pub(super) fn count_use(entry: Entry<'_>) {
    // RAW: compared before it is counted up.
    let uses = entry.uses().load(Relaxed);
    if uses < MOST_USES {
        entry.uses().store(uses + 1, Relaxed);
        point(Point::CacheQueued);
    }
}

impl<B: AnyBlock + Send + Sync> Table<B> {
    /// A new stamp, later than all before.
    fn stamp(&self) -> u64 {
        self.word(CLOCK).fetch_add(1, Relaxed).wrapping_add(1)
    }

    fn links(&self, entry: Entry<'_>) -> (Option<u32>, Option<u32>) {
        // RAW: each half of it is checked by `slot`.
        let links = entry.links().load(Relaxed);
        (self.slot(links >> 32), self.slot(links))
    }

    fn set_links(entry: Entry<'_>, (ahead, behind): (Option<u32>, Option<u32>)) {
        entry.links().store(link(ahead) << 32 | link(behind), Relaxed);
    }

    /// The queue that an entry is in.
    pub(super) fn queue_of(&self, slot: u32) -> Option<Queue<'_>> {
        // RAW: two bits of it, which are matched.
        match self.entry(slot).order().load(Relaxed) & 3 {
            tag @ (SMALL | MAIN) => Some(self.queue(tag)),
            _ => None,
        }
    }

    /// Puts an entry at the head of a queue, with a new stamp.
    pub(super) fn enqueue(&self, slot: u32, tag: u64) {
        self.entry(slot).order().store(self.stamp() << 2 | tag, Relaxed);
        point(Point::CacheQueued);
        self.link_at_head(slot, tag);
    }

    /// Puts an entry at the head of the queue that its stamp names.
    pub(super) fn link_at_head(&self, slot: u32, tag: u64) {
        let (queue, entry) = (self.queue(tag), self.entry(slot));
        // RAW: checked by `slot`.
        let before = self.slot(queue.head.load(Relaxed));
        Self::set_links(entry, (None, before));
        match before {
            Some(old) => {
                let (_, behind) = self.links(self.entry(old));
                Self::set_links(self.entry(old), (Some(slot), behind));
            }
            None => queue.tail.store(link(Some(slot)), Relaxed),
        }
        queue.head.store(link(Some(slot)), Relaxed);
        point(Point::CacheQueued);
        add(queue.bytes, entry.counted());
        add(queue.count, 1);
        point(Point::CacheQueued);
    }

    /// Takes an entry out of its queue, if it is in one.
    pub(super) fn unlink(&self, slot: u32) {
        let Some(queue) = self.queue_of(slot) else { return };
        let entry = self.entry(slot);
        let (ahead, behind) = self.links(entry);
        if !self.is_linked(slot, queue, (ahead, behind)) {
            // It stays where it is until all is put in order, with its stamp gone.
            self.word(DISORDER).store(1, Relaxed);
            entry.order().store(0, Relaxed);
            return point(Point::CacheQueued);
        }
        match ahead {
            Some(other) => Self::set_links(self.entry(other), (self.links(self.entry(other)).0, behind)),
            None => queue.head.store(link(behind), Relaxed),
        }
        match behind {
            Some(other) => Self::set_links(self.entry(other), (ahead, self.links(self.entry(other)).1)),
            None => queue.tail.store(link(ahead), Relaxed),
        }
        point(Point::CacheQueued);
        subtract(queue.bytes, entry.counted());
        subtract(queue.count, 1);
        entry.order().store(0, Relaxed);
        point(Point::CacheQueued);
    }

    /// Whether the neighbours of an entry know it, and the queue's ends do where it has none.
    fn is_linked(&self, slot: u32, queue: Queue<'_>, (ahead, behind): (Option<u32>, Option<u32>)) -> bool {
        let before = match ahead {
            Some(other) => self.links(self.entry(other)).1,
            // RAW: checked by `slot`.
            None => self.slot(queue.head.load(Relaxed)),
        };
        let after = match behind {
            Some(other) => self.links(self.entry(other)).0,
            // RAW: checked by `slot`.
            None => self.slot(queue.tail.load(Relaxed)),
        };
        before == Some(slot) && after == Some(slot)
    }

    /// Empties the queues, to be filled by [`Self::requeue`].
    pub(super) fn forget_queues(&self) {
        for queue in [SMALL, MAIN].map(|tag| self.queue(tag)) {
            [queue.head, queue.tail, queue.bytes, queue.count].iter().for_each(|word| word.store(0, Relaxed));
        }
    }

    /// Puts an entry back into its queue, where `order` is what it says of itself.
    pub(super) fn requeue(&self, slot: u32, order: u64) {
        match order & 3 {
            tag @ (SMALL | MAIN) => self.enqueue(slot, tag),
            // It came to life, and its process died before it was queued.
            _ => self.enqueue(slot, SMALL),
        }
    }

    /// How many entries the queues have; bounded, whatever the words say.
    pub(super) fn queued(&self) -> u64 {
        let count = |tag| read(self.queue(tag).count, Relaxed).capped(self.geometry.slots().into());
        count(SMALL) + count(MAIN)
    }

    /// What the entries of the queues count for.
    pub(super) fn queued_bytes(&self) -> u64 {
        let bytes = |tag| read(self.queue(tag).bytes, Relaxed).capped(MOST_BYTES);
        bytes(SMALL) + bytes(MAIN)
    }

    /// The queue for a new entry.
    pub(super) fn queue_for(&self, hash: u64) -> u64 {
        if self.take_ghost(hash) { MAIN } else { SMALL }
    }

    /// The next entry to go, out of its queue; `is_pinned` ones stay. None when all are pinned.
    pub(super) fn next_victim(&self, is_pinned: &dyn Fn(u32) -> bool) -> Option<u32> {
        // How many pinned ones each queue has passed over.
        let mut skipped = [0; 2];
        // BOUND: each look ends here, or moves an entry: to the main queue once, round there for each use, or aside.
        for _ in 0..self.queued() * 6 + 8 {
            let queue = self.next_queue(skipped)?;
            let Some(slot) = self.last_of(queue) else {
                self.word(DISORDER).store(1, Relaxed);
                point(Point::CacheQueued);
                return None;
            };
            match self.fate(slot, queue.tag) {
                Fate::Promote => self.pass(slot, MAIN),
                Fate::Evict if is_pinned(slot) => {
                    skipped[queue.tag as usize - 1] += 1;
                    self.pass(slot, queue.tag);
                }
                Fate::Evict => {
                    self.unlink(slot);
                    if queue.tag == SMALL {
                        // RAW: any number is a hash.
                        self.put_ghost(self.entry(slot).hash().load(Relaxed));
                    }
                    return Some(slot);
                }
            }
        }
        None
    }

    /// The entry at the tail of a queue; none when the tail names no entry of the queue.
    fn last_of(&self, queue: Queue<'_>) -> Option<u32> {
        // RAW: checked by `slot`.
        let slot = self.slot(queue.tail.load(Relaxed))?;
        self.queue_of(slot).filter(|of| of.tag == queue.tag).map(|_| slot)
    }

    /// The queue that has to give one; none when all that are left in both are pinned.
    fn next_queue(&self, skipped: [u64; 2]) -> Option<Queue<'_>> {
        let (small, main) = (self.queue(SMALL), self.queue(MAIN));
        let has = |queue: Queue<'_>, skipped| queue.count.load(Relaxed) > skipped;
        let (small_has, main_has) = (has(small, skipped[0]), has(main, skipped[1]));
        let is_over = read(small.bytes, Relaxed).capped(MOST_BYTES) * SMALL_PART >= self.whole();
        match (small_has, main_has) {
            (true, true) => Some(if is_over { small } else { main }),
            (true, false) => Some(small),
            (false, true) => Some(main),
            (false, false) => None,
        }
    }

    /// The bytes of which the small queue has its share: those of the cache when it is about full, else those that are
    /// there, for the number of entries or the arena may be what bounds it.
    fn whole(&self) -> u64 {
        let (full, there) = (self.value_bytes(), self.queued_bytes());
        if there >= full / 8 * 7 { full } else { there }
    }

    /// What becomes of the entry at the tail of a queue. Its uses are counted down.
    fn fate(&self, slot: u32, tag: u64) -> Fate {
        let uses = self.entry(slot).uses();
        // RAW: compared, and capped before it is counted down.
        let seen = uses.load(Relaxed);
        if tag == SMALL && seen >= PROMOTING_USES {
            uses.store(0, Relaxed);
            point(Point::CacheQueued);
            return Fate::Promote;
        }
        if tag == MAIN && seen > 0 {
            uses.store(seen.min(MOST_USES) - 1, Relaxed);
            point(Point::CacheQueued);
            return Fate::Promote;
        }
        Fate::Evict
    }

    fn pass(&self, slot: u32, tag: u64) {
        self.unlink(slot);
        self.enqueue(slot, tag);
    }

    // ---- ghosts

    /// As many ghosts are remembered as there are entries.
    fn ghost_life(&self) -> u64 {
        self.queued().max(1)
    }

    fn put_ghost(&self, hash: u64) {
        let Some(ghosts) = self.ghosts(hash >> 32) else { return };
        let now = self.word(GHOSTS).fetch_add(1, Relaxed).wrapping_add(1);
        // RAW: an age on a circle, which is compared with others.
        let age = |word: &&AtomicU64| now.wrapping_sub(word.load(Relaxed) & 0xffff_ffff) & 0xffff_ffff;
        let is_none = |word: &&AtomicU64| word.load(Relaxed) == 0;
        let ghost = hash & !0xffff_ffff | now & 0xffff_ffff;
        let slot = ghosts.iter().find(is_none).or_else(|| ghosts.iter().max_by_key(age));
        slot.inspect(|word| word.store(ghost, Relaxed));
        point(Point::CacheQueued);
    }

    /// Whether a key is remembered; then it is no longer.
    fn take_ghost(&self, hash: u64) -> bool {
        // RAW: a place on a circle.
        let now = self.word(GHOSTS).load(Relaxed);
        let is_it = |word: &&AtomicU64| {
            // RAW: half of it is compared, the other is a place on a circle.
            let ghost = word.load(Relaxed);
            let age = now.wrapping_sub(ghost) & 0xffff_ffff;
            ghost != 0 && ghost >> 32 == hash >> 32 && age < self.ghost_life()
        };
        let found = self.ghosts(hash >> 32).and_then(|ghosts| ghosts.iter().find(is_it));
        found.inspect(|word| word.store(0, Relaxed)).inspect(|_| point(Point::CacheQueued)).is_some()
    }
}

/// What becomes of an entry at the tail.
enum Fate {
    Evict,
    /// To the main queue, or round it once more.
    Promote,
}

fn link(slot: Option<u32>) -> u64 {
    slot.map_or(0, |slot| u64::from(slot) + 1)
}
