//! A reader as a member of a group: it claims each frame that it gets, and ends the claim with the frame. A claim of a
//! member that died is as good as none.
//!
//! The hold on a frame comes before the claim. So a frame that a living member has claimed is one that it gets, and a
//! writer that passes the group over need not count it as missed. The other way round the frame's memory could be written
//! again between the two, and nobody had got the frame, and nobody had counted it.

use super::claim::{FrameClaim, Holder};
use super::frame::Frame;
use super::look::Misses;
use super::protocol;
use super::reader::Reader;
use super::table::SPACE;
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::SeqCst;

impl Reader {
    pub(super) fn look_for_unclaimed(&self, group: usize, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        // BOUND: `look_again`.
        loop {
            let Some((seq, seen)) = self.unclaimed(group) else { return Ok(None) };
            let claim = self.claim(seq);
            let found = self.ring.take(seq)?;
            let missed = found.is_none().then_some(seq);
            if let Some(found) = found
                && protocol::claim(&self.ring.table.entry(seq).claims[group], seen, claim)
            {
                point(Point::RingClaimed);
                return Ok(Some(self.frame(seq, found, Some((group, claim)))));
            }
            if !self.look_again(misses, missed)? {
                return Ok(None);
            }
        }
    }

    /// The first frame of a group that nobody alive has, and what its claim says.
    pub(super) fn unclaimed(&self, group: usize) -> Option<(u64, FrameClaim)> {
        let ring = &self.ring;
        ring.open_frames(group).find_map(|seq| {
            let entry = ring.table.entry(seq);
            let claim = FrameClaim::read(&entry.claims[group]);
            let is_mine = claim.holder(seq) == Holder::Member(self.member());
            (entry.seq.load(SeqCst) == seq && !is_mine && ring.is_free(seq, claim)).then_some((seq, claim))
        })
    }

    fn claim(&self, seq: u64) -> FrameClaim {
        FrameClaim::of(seq, self.member())
    }

    /// Counts as done what this reader got before and still holds. It waits for the next frame, as a loop does whose
    /// variable still has the last one; were that not done, the writers might wait for it for ever.
    pub(super) fn end_claims(&self, group: usize) -> Result<()> {
        let ring = &self.ring;
        for seq in ring.open_frames(group) {
            let claim = self.claim(seq);
            if FrameClaim::read(&ring.table.entry(seq).claims[group]) == claim {
                ring.end_claim(seq, group, claim);
            }
        }
        ring.announce_if_awaited(SPACE)
    }

    /// Whether another process has a frame of the group, and is not done with it.
    pub(super) fn others_have_some(&self, group: usize) -> bool {
        // RAW: a name, which is compared.
        let (ring, me) = (&self.ring, self.words().user.load(SeqCst));
        ring.open_frames(group).any(|seq| match ring.holder_of(seq, group) {
            Holder::Member(member) => ring.table.reader(member.reader).user.load(SeqCst) != me,
            Holder::Nobody | Holder::Done => false,
        })
    }
}
