//! Groups: readers that share the frames, each of which goes to one of them. Here is what all processes see of a group:
//! its name, its place in the stream, and for each frame a claim that says which member has it or that it is done.

use super::claim::{FrameClaim, Holder, Member};
use super::protocol;
use super::state::Ring;
use super::table::{EVENT, GROUPS, GROUPS_IN_USE, NAME_BYTES};
use crate::arena::Deadline;
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    store_bytes,
};

impl Ring {
    /// The number of the group called `name`, which is made if there is none.
    ///
    /// # Errors
    /// `Misuse` when there are [`GROUPS`] others; `Timeout` at `deadline`.
    pub fn group(&self, name: &str, deadline: &Deadline) -> Result<usize> {
        let wanted = name_hash(name);
        self.locked(deadline, || {
            let names = || (0..GROUPS).map(|index| self.table.group(index).name);
            let found = names().position(|name| name.load(SeqCst) == wanted);
            let found = found.or_else(|| names().position(|name| name.load(SeqCst) == 0));
            let index = found.ok_or_else(|| {
                Error::new(
                    Kind::Misuse,
                    format!("expected at most {GROUPS} groups in a ring, got one more: use those that there are"),
                )
            })?;
            self.name_group(index, name, wanted);
            Ok(index)
        })
    }

    fn name_group(&self, index: usize, name: &str, hash: u64) {
        let words = self.table.group(index);
        if words.name.load(SeqCst) == 0 {
            let cut = (0..=NAME_BYTES.min(name.len())).rev().find(|&len| name.is_char_boundary(len)).unwrap_or(0);
            words.text.iter().for_each(|word| word.store(0, Relaxed));
            store_bytes(words.text, &name.as_bytes()[..cut]);
            words.name.store(hash, SeqCst);
            point(Point::RingNamed);
        }
    }

    /// Groups that had a member.
    #[inline]
    pub(super) fn groups_in_use(&self) -> impl Iterator<Item = usize> + use<> {
        // RAW: as many bits as there are groups are looked at.
        let bits = self.table.word(GROUPS_IN_USE).load(SeqCst);
        (0..if bits == 0 { 0 } else { GROUPS }).filter(move |group| bits >> group & 1 == 1)
    }

    /// The first member of a group says where it begins. Later ones go on where it is, also when it was empty for a
    /// while: what fell out of the window since is counted as missed by then.
    pub(super) fn found_group(&self, group: usize, from: u64) {
        let bit = 1 << group;
        if self.table.word(GROUPS_IN_USE).load(SeqCst) & bit == 0 {
            self.table.group(group).cursor.store(from, SeqCst);
            point(Point::RingNamed);
            self.table.word(GROUPS_IN_USE).fetch_or(bit, SeqCst);
            point(Point::RingNamed);
        } else {
            // Where there were too few frames for the whole window, some of it may have been written over.
            self.pass_group(group, self.oldest_whole());
        }
    }

    /// The frames that a group may not have done yet.
    pub(super) fn open_frames(&self, group: usize) -> std::ops::Range<u64> {
        let head = self.written();
        // RAW: a lap before the head at the least, as what lies before that is written over; beyond it there is none.
        let from = self.table.group(group).cursor.load(SeqCst).max(head.saturating_sub(self.table.entries()));
        from..head
    }

    /// Whether a member of a group lives.
    pub(super) fn is_member_alive(&self, member: Member) -> bool {
        // RAW: only compared.
        let incarnation = self.table.reader(member.reader).incarnation.load(SeqCst);
        Member::new(member.reader, incarnation) == member && self.is_reader_live(member.reader)
    }

    /// Marks a frame as done by its group, and moves the group's cursor over all that are.
    pub(super) fn end_claim(&self, seq: u64, group: usize, claim: FrameClaim) {
        protocol::end_claim(&self.table.entry(seq).claims[group], claim);
        point(Point::RingDone);
        self.pass_done(group);
        if self.is_closed() {
            // The other members may wait for just this, to see that nothing comes any more.
            let _ = self.announce_if_awaited(EVENT);
            self.tell_pipes();
        }
    }

    /// Moves a group's cursor over all frames that are done.
    fn pass_done(&self, group: usize) {
        // BOUND: a lap. More than that is done only when numbers were scribbled on.
        let left = std::cell::Cell::new(self.table.entries() + 1);
        protocol::pass_done(self.table.group(group).cursor, |next| {
            let entry = self.table.entry(next);
            left.set(left.get().saturating_sub(1));
            (left.get() > 0 && next < self.written()).then_some((entry.seq, &entry.claims[group]))
        });
        point(Point::RingDone);
    }

    /// Asks members whose frames in hand keep the ring full to come for the next one, by which they have done with those.
    /// Who waits in `get` has come already; who waits on a descriptor may have its last frame in a variable only, and
    /// would not hear of anything.
    #[cold]
    pub(super) fn ask_members(&self) {
        for group in self.groups_in_use() {
            // A member may have died after it was done and before it moved the cursor on.
            self.pass_done(group);
            if let Some(member) = self.who_holds_back(group).filter(|&member| self.is_member_alive(member)) {
                self.ask_pipe(member.reader);
            }
        }
    }

    /// The member of a group whose frame in hand keeps the window full.
    pub(super) fn who_holds_back(&self, group: usize) -> Option<Member> {
        let first = self.open_frames(group).next().filter(|&seq| self.is_full(Some(seq)))?;
        match self.holder_of(first, group) {
            Holder::Member(member) => Some(member),
            Holder::Nobody | Holder::Done => None,
        }
    }

    /// Tells the others of a group if a member that has left leaves them frames that it had in hand.
    pub(super) fn hand_over(&self, group: usize, left: Member) {
        if self.open_frames(group).any(|seq| self.holder_of(seq, group) == Holder::Member(left)) {
            let _ = self.announce_if_awaited(EVENT);
            self.tell_wishes();
        }
    }

    /// Who of a group has a frame.
    pub(super) fn holder_of(&self, seq: u64, group: usize) -> Holder {
        FrameClaim::read(&self.table.entry(seq).claims[group]).holder(seq)
    }

    /// Whether a claim leaves the frame of `seq` to whoever comes: no member has it who lives, and it is not done.
    pub(super) fn is_free(&self, seq: u64, claim: FrameClaim) -> bool {
        match claim.holder(seq) {
            Holder::Nobody => true,
            Holder::Member(member) => !self.is_member_alive(member),
            Holder::Done => false,
        }
    }
}

/// FNV-1a, never 0.
fn name_hash(name: &str) -> u64 {
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash | 1
}
