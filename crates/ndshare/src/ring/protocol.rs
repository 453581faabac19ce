//! The steps of a ring that several processes take at once.
//!
//! The functions take their words by reference, so that a loom model runs the same code. Three orders matter: who
//! sees the number of an entry sees its words; who moves a cursor never moves it back; and who marks an event before
//! it sleeps, and who looks for marks after it has changed something, cannot both miss the other.

use crate::prim::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// An entry that is being written.
pub(super) const BUSY: u64 = u64::MAX - 1;
/// Somebody sleeps on the event or the space word.
pub(super) const WAITER: u32 = 1;
/// The low half of a claim of a frame that its reader has dropped.
pub(super) const DONE: u64 = 0xffff_ffff;

// ---- entries

/// Begins to write an entry.
#[inline]
pub(super) fn open_entry(number: &AtomicU64) {
    number.store(BUSY, Relaxed);
    // Pairs with the fence in `read_entry`: who reads a word of what follows sees that the entry is busy.
    fence(Release);
}

/// Ends the writing of an entry: it bears its number from now on.
#[inline]
pub(super) fn seal_entry(number: &AtomicU64, seq: u64) {
    // Pairs with the Acquire in `read_entry`: who sees the number sees the entry and the frame's bytes.
    number.store(seq, Release);
}

/// What `read` finds in the entry of `seq`; none when the entry bore another number at any time meanwhile.
#[inline]
pub(super) fn read_entry<T>(number: &AtomicU64, seq: u64, read: impl FnOnce() -> T) -> Option<T> {
    if number.load(Acquire) != seq {
        return None;
    }
    let found = read();
    // Pairs with the fence in `open_entry`: had a word been of the next writer, this would not be `seq`.
    fence(Acquire);
    (number.load(Relaxed) == seq).then_some(found)
}

/// Whether an entry still bears its number. Asked with the hold on its block in hand: from here on the frame stays.
#[inline]
pub(super) fn still_bears(number: &AtomicU64, seq: u64) -> bool {
    number.load(SeqCst) == seq
}

// ---- cursors

/// Takes the frame at a cursor. False: somebody moved the cursor meanwhile.
#[inline]
pub(super) fn advance(cursor: &AtomicU64, seq: u64) -> bool {
    cursor.compare_exchange(seq, seq + 1, SeqCst, SeqCst).is_ok()
}

/// Moves a cursor on to `least` if it is behind; returns how many frames its reader loses by that.
#[inline]
pub(super) fn push_on(cursor: &AtomicU64, least: u64) -> u64 {
    least.saturating_sub(cursor.fetch_max(least, SeqCst))
}

// ---- groups

/// Claims a frame for one member of a group, if its claim still says what was seen.
#[inline]
pub(super) fn claim(word: &AtomicU64, seen: u64, mine: u64) -> bool {
    word.compare_exchange(seen, mine, SeqCst, SeqCst).is_ok()
}

/// Marks a claimed frame as done, unless it was given to another member.
#[inline]
pub(super) fn end_claim(word: &AtomicU64, mine: u64) {
    let _ = word.compare_exchange(mine, mine | DONE, SeqCst, SeqCst);
}

/// Whether a claim says that the frame is done.
#[inline]
pub(super) fn is_done(claim: u64) -> bool {
    claim & DONE == DONE
}

/// Moves a group's cursor over all frames that are done. `entry` gives number and claim of a published frame.
#[inline]
pub(super) fn pass_done<'a>(cursor: &AtomicU64, entry: impl Fn(u64) -> Option<(&'a AtomicU64, &'a AtomicU64)>) {
    loop {
        let next = cursor.load(SeqCst);
        let Some((number, claim)) = entry(next) else { return };
        let claim = claim.load(SeqCst);
        // The high half of a claim is the low half of its number: it is not that of a frame a lap before.
        if number.load(SeqCst) != next || !is_done(claim) || claim >> 32 != next & 0xffff_ffff {
            return;
        }
        let _ = advance(cursor, next);
    }
}

// ---- events

/// Whether somebody sleeps on an event. Asked after what it sleeps for has changed.
#[inline]
pub(super) fn is_awaited(event: &AtomicU32) -> bool {
    in_one_order();
    event.load(SeqCst) & WAITER != 0
}

/// Counts an event up and takes the mark away; says whether there was one, and sleepers are to be woken.
#[inline]
pub(super) fn announce(event: &AtomicU32) -> bool {
    let mut seen = event.load(Relaxed);
    while let Err(now) = event.compare_exchange(seen, (seen & !WAITER).wrapping_add(2), SeqCst, Relaxed) {
        seen = now;
    }
    seen & WAITER != 0
}

/// Marks an event before a sleep; gives the value to sleep on, or none when there is no need to: the event has counted
/// up, or `ready` says so.
#[inline]
pub(super) fn mark(event: &AtomicU32, ready: impl Fn() -> bool) -> Option<u32> {
    let seen = event.load(SeqCst);
    let marked = seen | WAITER;
    if seen != marked && event.compare_exchange(seen, marked, SeqCst, Relaxed).is_err() {
        return None;
    }
    in_one_order();
    if ready() { None } else { Some(marked) }
}

/// `SeqCst` accesses have one order, which is what events rest on. loom knows that only of fences.
#[inline]
fn in_one_order() {
    #[cfg(loom)]
    fence(SeqCst);
}
