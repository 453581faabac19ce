//! Claims: words by which one says that a thing is its own for now, a member of a group a frame, a writer a slot. They are
//! packed and unpacked here alone. Whatever stands in such a word reads as a claim that somebody may have made, or as
//! none, so that nobody acts on a reader or a role that there is not.

use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    Unchecked,
};

/// Readers that a claim can name: as many as `table` has slots for.
pub(super) const CLAIMANTS: usize = 64;
/// Groups that a ring can have: an entry has a claim of each.
pub const GROUPS: usize = 8;
/// The low half of a claim of a frame that is done.
const DONE: u64 = 0xffff_ffff;
/// The same of a frame that no member got, and that none gets any more.
const LOST: u64 = 0xffff_fffe;
const INCARNATION: u64 = 0xff_ffff;

// No claim of a member looks as if it were done or lost.
const _: () = assert!(CLAIMANTS + 1 < 0xfe);

/// A member of a group: a reader's slot, and which of the slot's readers it is, by the low 24 bits of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub reader: usize,
    incarnation: u64,
}

impl Member {
    /// `reader` is below [`CLAIMANTS`].
    #[inline]
    pub(super) fn new(reader: usize, incarnation: u64) -> Self {
        Self { reader, incarnation: incarnation & INCARNATION }
    }
}

/// Who has a frame of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    Member(Member),
    /// Nobody gets it any more.
    Done,
}

/// A group's claim of a frame: {low half of the frame's number: 32, incarnation: 24, reader + 1: 8}. The low half is all
/// ones when the frame is done, and one less when it is lost, and 0 while nobody has had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameClaim(u64);

impl FrameClaim {
    /// What a word says now.
    #[inline]
    pub(super) fn read(word: &AtomicU64) -> Self {
        // RAW: `holder` checks it; for an exchange it is only compared.
        Self(word.load(SeqCst))
    }

    /// What a frame begins with. It bears the frame's number, so that who has seen it never takes the entry's next frame for
    /// this one.
    #[inline]
    pub(super) fn nobodys(seq: u64) -> Self {
        Self(seq << 32)
    }

    /// The word that says so.
    #[inline]
    pub(super) fn pack(self) -> u64 {
        self.0
    }

    /// The claim of a member.
    #[inline]
    pub(super) fn of(seq: u64, member: Member) -> Self {
        Self(seq << 32 | member.incarnation << 8 | (member.reader as u64 + 1))
    }

    /// What a frame says that no member got, and that none gets any more.
    #[inline]
    pub(super) fn lost(seq: u64) -> Self {
        Self(seq << 32 | LOST)
    }

    /// The same claim once its frame is done.
    #[inline]
    pub(super) fn ended(self) -> Self {
        Self(self.0 | DONE)
    }

    /// Who has the frame of `seq`. A word that no member writes is the claim of nobody, and so is one of the frame that had
    /// the entry a lap before.
    #[inline]
    pub(super) fn holder(self, seq: u64) -> Holder {
        if self.0 >> 32 != seq & DONE {
            return Holder::Nobody;
        }
        if [DONE, LOST].contains(&(self.0 & DONE)) {
            return Holder::Done;
        }
        let reader = Unchecked::new(self.0 & 0xff).index(CLAIMANTS + 1).and_then(|slot| slot.checked_sub(1));
        reader.map_or(Holder::Nobody, |reader| Holder::Member(Member::new(reader, self.0 >> 8)))
    }

    /// Whether the frame of `seq` is done or lost, and not one that had its entry a lap before.
    #[inline]
    pub(super) fn is_over(self, seq: u64) -> bool {
        self.holder(seq) == Holder::Done
    }

    /// Whether the frame of `seq` is lost, and not one that had its entry a lap before.
    #[inline]
    pub(super) fn is_lost(self, seq: u64) -> bool {
        self == Self::lost(seq)
    }

    /// Puts another claim into its word, if that still says this one.
    #[inline]
    pub(super) fn replace(self, word: &AtomicU64, by: Self) -> bool {
        word.compare_exchange(self.0, by.0, SeqCst, Relaxed).is_ok()
    }
}

/// What kind of writer has a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Made = 1,
    Loose = 2,
    Entered = 3,
}

/// A writer's claim of a slot: {incarnation: 48, ended: 8, role: 8}. Role 0: the slot is free; the incarnation stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotClaim {
    pub incarnation: u64,
    pub role: Option<Role>,
    pub has_ended: bool,
}

impl SlotClaim {
    /// What a word says now.
    #[inline]
    pub(super) fn read(word: &AtomicU64) -> Self {
        // RAW: matched, whatever it is, and compared.
        Self::unpack(word.load(SeqCst))
    }

    pub(super) fn pack(self) -> u64 {
        self.incarnation << 16 | u64::from(self.has_ended) << 8 | self.role.map_or(0, |role| role as u64)
    }

    /// What no writer puts there reads as free.
    #[inline]
    fn unpack(bits: u64) -> Self {
        let role = match bits & 0xff {
            1 => Some(Role::Made),
            2 => Some(Role::Loose),
            3 => Some(Role::Entered),
            _ => None,
        };
        Self { incarnation: bits >> 16, role, has_ended: bits >> 8 & 0xff != 0 }
    }

    /// The claim of the slot's next writer.
    pub(super) fn next(self, role: Role) -> Self {
        let incarnation = self.incarnation.wrapping_add(1) & (u64::MAX >> 16);
        Self { incarnation, role: Some(role), has_ended: false }
    }

    /// The same slot with no writer in it.
    pub(super) fn freed(self) -> Self {
        Self { role: None, has_ended: false, ..self }
    }

    /// Puts another claim into its word, if that still says this one.
    pub(super) fn replace(self, word: &AtomicU64, by: Self) -> bool {
        word.compare_exchange(self.pack(), by.pack(), SeqCst, Relaxed).is_ok()
    }

    /// Marks the writer of one incarnation as ended, without the ring's lock; says whether it had not ended yet. The next
    /// writer in its slot, should there be one by now, goes on.
    pub(super) fn end(word: &AtomicU64, incarnation: u64) -> bool {
        let seen = Self::read(word);
        seen.incarnation == incarnation && seen.writes() && seen.replace(word, Self { has_ended: true, ..seen })
    }

    /// Whether a writer has the slot and goes on.
    pub(super) fn writes(self) -> bool {
        self.role.is_some() && !self.has_ended
    }

    pub(super) fn is_to_settle(self) -> bool {
        self.role.is_some() && self.has_ended
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_claim_of_a_frame_says_who_has_it_until_it_is_done() {
        for (seq, reader, incarnation) in [(0, 0, 0), (7, CLAIMANTS - 1, INCARNATION), (u64::MAX >> 2, 3, 1 << 40 | 5)]
        {
            let member = Member::new(reader, incarnation);
            let claim = FrameClaim::of(seq, member);
            assert_eq!((claim.holder(seq), claim.holder(seq + 1)), (Holder::Member(member), Holder::Nobody));
            for done in [claim.ended(), FrameClaim::lost(seq)] {
                assert_eq!((done.holder(seq), done.holder(seq + 1)), (Holder::Done, Holder::Nobody));
                assert_eq!((done.is_over(seq), done.is_over(seq + 1)), (true, false));
            }
            let [done, lost] = [claim.ended(), FrameClaim::lost(seq)];
            assert_eq!((done.is_lost(seq), lost.is_lost(seq), lost.is_lost(seq + 1)), (false, true, false));
            let word = AtomicU64::new(claim.0);
            assert!(!done.replace(&word, claim), "somebody else's claim");
            assert!(claim.replace(&word, claim.ended()) && FrameClaim::read(&word) == done);
        }
    }

    #[test]
    fn a_word_that_no_member_writes_is_the_claim_of_nobody() {
        for bits in [0, 1 << 32, 0xff_ff00, CLAIMANTS as u64 + 1, 0xfe, u64::MAX << 8] {
            assert_eq!(FrameClaim(bits).holder(bits >> 32), Holder::Nobody, "{bits:#x}");
        }
    }

    #[test]
    fn a_claim_of_a_slot_survives_its_word_and_what_no_writer_writes_is_free() {
        let free = SlotClaim::unpack(0);
        assert!(!free.writes() && !free.is_to_settle());
        for role in [Role::Made, Role::Loose, Role::Entered] {
            let claim = free.next(role);
            let ended = SlotClaim { has_ended: true, ..claim };
            assert_eq!(
                [claim, ended, claim.freed()],
                [claim, ended, claim.freed()].map(|c| SlotClaim::unpack(c.pack()))
            );
            assert_eq!([claim.writes(), ended.writes(), claim.freed().writes()], [true, false, false]);
            assert_eq!(
                [claim.is_to_settle(), ended.is_to_settle(), ended.freed().is_to_settle()],
                [false, true, false]
            );
            assert_eq!(claim.incarnation, free.incarnation + 1);
        }
        let last = SlotClaim { incarnation: u64::MAX >> 16, ..free };
        assert_eq!(last.next(Role::Made).incarnation, 0);
        for bits in [4, 0xff, u64::MAX] {
            assert_eq!(SlotClaim::unpack(bits).role, None);
        }
    }
}

/// A model of a slot whose writer ends while it is given to the next one, run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::check;
    use crate::prim::Ordering::SeqCst;
    use loom::sync::Arc;
    use loom::thread;

    /// Who has the ring's lock frees the slot of a writer that ended or died, and gives it away.
    fn settle(word: &AtomicU64, is_dead: bool) -> bool {
        let seen = SlotClaim::read(word);
        let is_gone = seen.is_to_settle() || is_dead;
        if is_gone {
            // Stores where it ships. To loom a store and an exchange at the same time may come in either order, and both.
            word.swap(seen.freed().pack(), SeqCst);
            word.swap(seen.freed().next(Role::Loose).pack(), SeqCst);
        }
        is_gone
    }

    #[test]
    fn the_end_of_a_writer_is_not_that_of_the_next_one_in_its_slot() {
        for is_dead in [false, true] {
            check(move || {
                let free = SlotClaim::unpack(0);
                let word = Arc::new(AtomicU64::new(free.next(Role::Made).pack()));
                let enders = [(); 2].map(|()| {
                    let word = word.clone();
                    thread::spawn(move || SlotClaim::end(&word, 1))
                });
                let is_given_away = settle(&word, is_dead);
                let ended = enders.map(|ender| ender.join().unwrap()).into_iter().filter(|&ended| ended).count();
                let last = SlotClaim::read(&word);
                assert!(ended <= 1, "ended twice");
                assert!(is_dead || ended == 1, "it ended, and nobody said so");
                assert_eq!((last.incarnation, last.has_ended), if is_given_away { (2, false) } else { (1, true) });
            });
        }
    }
}
