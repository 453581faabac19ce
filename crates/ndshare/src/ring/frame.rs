//! Frames as readers have them. An entry is read whole, and a hold is taken on the block of the generation that it names.
//! A writer makes a new generation of a block before it fills it, so a hold is on the frame that was published, and nobody
//! writes that any more.

use super::claim::{FrameClaim, Member};
use super::note::{Note, Told, read_tail};
use super::protocol;
use super::state::Ring;
use super::table::{EntryWords, SPACE};
use super::time::age_of;
use crate::arena::{BlockId, Hold};
use crate::array::{Array, Description};
use crate::error::{Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{Ordering::Relaxed, load_bytes};
use std::sync::Arc;
use std::time::Duration;

/// A published frame. Its bytes never change while it lives.
///
/// ```
/// use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
/// use ndshare::{Deadline, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4, 6], Number::U16), RingOptions::slots(8), &forever)?;
///
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
/// let mut writing = ring.begin_own(&forever)?;
/// writing.array()?.fill(7_u16)?;
/// writing.publish(Content::default(), &forever)?;
/// let frame = reader.get(&forever)?;
/// assert!(frame.seq == 0 && frame.time_ns > 0 && frame.meta().is_empty());
/// // Its array may outlive it, and the ring; it may only be read.
/// let array = frame.array()?;
/// drop((frame, reader, ring));
/// assert!(array.is_readonly());
/// assert_eq!(array.read::<u16>(&[3, 5])?, 7);
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug)]
pub struct Frame {
    hold: Option<Hold>,
    /// Its number.
    pub seq: u64,
    /// When it was made, as its writer says; else when it was published, on the monotonic clock.
    pub time_ns: u64,
    /// When it was published, on the monotonic clock, whatever the writer says.
    pub published_ns: u64,
    /// Where in the block the first item is.
    pub offset: u64,
    said: Said,
    ring: Arc<Ring>,
    reader: usize,
    incarnation: u64,
    /// The process that got it. A forked child has a copy, whose end says nothing.
    user: u64,
    /// The group, and the claim to be ended with this frame.
    claim: Option<(usize, FrameClaim)>,
}

/// View, note and meta of a frame; none when all are empty, as for most.
type Said = Option<Box<(Told, Vec<u8>)>>;

/// What an entry says, read whole.
pub(super) struct Snapshot {
    block: u64,
    time_ns: u64,
    published_ns: u64,
    offset: u64,
    said: Said,
}

impl Ring {
    /// A hold on the frame of `seq` and what its entry says; none when the entry is another's by now.
    pub(super) fn take(&self, seq: u64) -> Result<Option<(Hold, Snapshot)>> {
        let entry = self.table.entry(seq);
        let Some(mut snapshot) = self.snapshot(&entry, seq) else { return Ok(None) };
        let Some(block) = BlockId::from_word(snapshot.block) else { return Ok(None) };
        match self.arena().take(block) {
            Ok(hold) => {
                if let Some(said) = &mut snapshot.said {
                    said.0.read_view(|at, len| read_tail(&hold, at, len));
                }
                Ok(Some((hold, snapshot)))
            }
            Err(error) if error.kind() == Kind::Stale => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the processor fetch what a hold on the block of frame `seq` writes to. Nothing else happens.
    #[inline]
    pub(super) fn fetch_block(&self, seq: u64) {
        // RAW: a name, which is looked up.
        if let Some(block) = BlockId::from_word(self.table.entry(seq).block.load(Relaxed)) {
            self.arena().fetch_to_hold(block);
        }
    }

    fn snapshot(&self, entry: &EntryWords<'_>, seq: u64) -> Option<Snapshot> {
        protocol::read_entry(entry.seq, seq, || Snapshot {
            // RAW: a name, which is looked up; a time, which is told; an offset, which is checked against the block when
            // an array is made of it.
            block: entry.block.load(Relaxed),
            time_ns: entry.time_ns.load(Relaxed),
            // RAW: a time, which is told.
            published_ns: entry.published_ns.load(Relaxed),
            offset: entry.offset.load(Relaxed),
            said: said(entry, self.table.geometry.meta_bytes as usize),
        })
    }
}

impl Frame {
    /// The frame of `seq` for a reader of this process, which is the slot and the incarnation of that.
    pub(super) fn new(
        ring: &Arc<Ring>,
        (reader, incarnation): (usize, u64),
        seq: u64,
        (hold, from): (Hold, Snapshot),
        claim: Option<(usize, FrameClaim)>,
    ) -> Self {
        let words = ring.table.reader(reader);
        words.held.fetch_add(1, Relaxed);
        point(Point::RingTaken);
        // RAW: a name, which is compared.
        let user = words.user.load(Relaxed);
        let Snapshot { time_ns, published_ns, offset, said, .. } = from;
        let (hold, ring) = (Some(hold), ring.clone());
        Self { hold, seq, time_ns, published_ns, offset, said, ring, reader, incarnation, user, claim }
    }

    /// How long ago it was published, by the monotonic clock.
    pub fn age(&self) -> Duration {
        age_of(self.published_ns)
    }

    /// The block that has the bytes.
    pub fn hold(&self) -> &Hold {
        self.hold.as_ref().expect("a frame has its hold until it is dropped")
    }

    /// Its items, to be read only. While the array lives, they never change.
    ///
    /// # Errors
    /// `InvalidValue` when the ring says nothing of them, and when what it says does not lie inside the frame.
    pub fn array(&self) -> Result<Array> {
        let description = if self.view().is_empty() { self.ring.format().description() } else { None };
        let mut description = match description {
            Some(own) => own,
            None => Description::decode(self.view())?,
        };
        description.element = description.element.or_else(|| self.ring.format().element.clone());
        Array::of_parts(self.hold().clone(), self.offset, description, true)
    }

    /// What the writer said of dtype, shape and strides; empty for the ring's own.
    #[inline]
    pub fn view(&self) -> &[u8] {
        self.said.as_deref().map_or(&[], |(told, _)| &told.view)
    }

    /// What the writer said beside it; empty when the ring has no meta.
    pub fn meta(&self) -> &[u8] {
        self.said.as_deref().map_or(&[], |(_, meta)| meta)
    }

    /// Text, JSON or bytes that the writer put beside it; none when there are none.
    ///
    /// # Errors
    /// `InvalidValue` when what the ring says of it does not lie inside the frame, or is no text where it should be one.
    pub fn note(&self) -> Result<Option<Note<'static>>> {
        let Some((told, _)) = self.said.as_deref() else { return Ok(None) };
        told.note(|at, len| read_tail(self.hold(), at, len))
    }

    /// One of the arrays of a frame of several: see [`Array::field`].
    ///
    /// # Errors
    /// As [`Self::array`] and there.
    pub fn field(&self, name: &str) -> Result<Array> {
        self.array()?.field(name)
    }

    /// The ring that it came through.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Takes it off its reader's books, and ends its claim.
    fn let_go(&self) {
        let words = self.ring.table.reader(self.reader);
        if words.incarnation.load(Relaxed) == self.incarnation {
            // Never below nothing: the count says only what others are told.
            // BOUND: a round is lost to a thread of this process that gets or drops a frame.
            let _ = words.held.fetch_update(Relaxed, Relaxed, |held| held.checked_sub(1));
            point(Point::RingTaken);
        }
        if let Some((group, claim)) = self.claim {
            // A member that has left its group with a frame in hand has left the frame to the others.
            if self.ring.is_member_alive(Member::new(self.reader, self.incarnation)) {
                self.ring.end_claim(self.seq, group, claim);
            }
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // The hold goes first: who sees the claim ended or the space finds the frame idle.
        drop(self.hold.take());
        if self.ring.arena().identity().is_ok_and(|me| me == self.user) {
            self.let_go();
        }
        let _ = self.ring.announce_if_awaited(SPACE);
    }
}

#[inline]
fn said(entry: &EntryWords<'_>, meta_bytes: usize) -> Said {
    let is_silent = meta_bytes == 0 && Told::is_silent(entry);
    (!is_silent).then(|| Box::new((Told::of(entry), load_bytes(entry.meta, meta_bytes))))
}
