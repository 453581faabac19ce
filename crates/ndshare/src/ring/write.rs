//! The writing side: taking a frame to fill, and publishing it.
//!
//! A publication is a seqlock write of one entry under the head's lock: the entry is marked busy, filled, and bears
//! its number last. Numbers are given at publication, so they are dense whatever writers do or die of.

use super::protocol::{self, BUSY};
use super::table::{CLOSED, DROPPED, EVENT, HEAD, NEVER, SPACE, VIEW_BYTES};
use super::writers::{Pen, Role};
use super::{Floors, MOST_WRITTEN, Mode, Ring, WhenFull, on_timeout};
use crate::arena::{BlockId, Hold, Patience, TicketId};
use crate::array::Array;
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    store_bytes,
};
use std::sync::Arc;
use std::time::Duration;

/// How many of the frames consumed last are tried before all are.
const LOOKS: u64 = 8;
/// How many readers that are behind an error names.
const NAMED: usize = 3;
const NAP: Duration = Duration::from_millis(20);
/// Nobody announces a frame that was thrown away.
const SHORT_NAP: Duration = Duration::from_millis(2);

/// What is published of a frame beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of the caller for dtype, shape and strides; empty for the ring's own.
    pub view: &'a [u8],
    /// The meta of the frame.
    pub meta: &'a [u8],
}

/// A frame being filled. Dropping it throws the content away.
#[derive(Debug)]
pub struct Writing {
    ring: Arc<Ring>,
    hold: Hold,
    place: Place,
    pen: Pen,
    /// The number at which there was room for the frame; none when nobody looked.
    room_at: Option<u64>,
}

/// Where a frame that is being filled stands among the ring's frames.
#[derive(Debug, Clone, Copy)]
struct Place {
    frame: u32,
    block: BlockId,
    /// The process that began it.
    writer: u64,
}

impl Writing {
    /// Its items in the ring's own shape. Write to them before the frame is published, and not after.
    ///
    /// # Errors
    /// `InvalidValue` when the ring has no shape of its own.
    pub fn array(&self) -> Result<Array> {
        let description = self.ring.format().description().ok_or_else(|| {
            Error::value("expected a ring whose frames have a shape, got one of any: describe the array in the content")
        })?;
        Array::of_parts(self.hold.clone(), 0, description, false)
    }

    /// The frame's block, for the writer to fill.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Publishes the frame and returns its number; none when it was dropped because the ring is full.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`; the frame is thrown away then. `InvalidValue` for too long a view or meta.
    pub fn publish(self, content: Content<'_>, patience: &Patience) -> Result<Option<u64>> {
        let Self { ring, hold, place, pen, room_at } = self;
        ring.check_content(content)?;
        let mut hold = Some(hold);
        ring.publish(patience, pen, room_at, &|| ring.supply(place), &mut hold, content)
    }

    /// The same for who goes on looking at the frame.
    ///
    /// # Errors
    /// As [`Self::publish`]; then the frame can still be published.
    pub fn publish_kept(&self, content: Content<'_>, patience: &Patience) -> Result<Option<u64>> {
        self.ring.check_content(content)?;
        let supply = || self.ring.supply(self.place);
        self.ring.publish(patience, self.pen, self.room_at, &supply, &mut None, content)
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::publish_kept`].
    pub fn publish_kept_quick(&self, content: Content<'_>) -> Result<Option<Option<u64>>> {
        self.ring.publish_quick(self.pen, self.room_at, self.place, &mut None, content)
    }

    /// As [`Self::publish`] if that needs no waiting; else the frame itself, to be published by that.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_quick(self, content: Content<'_>) -> Result<std::result::Result<Option<u64>, Self>> {
        let Self { ring, hold, place, pen, room_at } = self;
        let mut hold = Some(hold);
        let outcome = ring.publish_quick(pen, room_at, place, &mut hold, content)?;
        match (outcome, hold) {
            (None, Some(hold)) => Ok(Err(Self { ring, hold, place, pen, room_at })),
            (outcome, _) => Ok(Ok(outcome.flatten())),
        }
    }
}

impl Ring {
    /// A frame to fill, of the ring's own shape.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_own(self: &Arc<Self>, patience: &Patience) -> Result<Writing> {
        self.begin(self.geometry().frame_bytes, patience)
    }

    /// A frame of at least `len_bytes` to fill.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`, `ArenaFull`; `InvalidValue` when the ring's frames are smaller.
    pub fn begin(self: &Arc<Self>, len_bytes: u64, patience: &Patience) -> Result<Writing> {
        self.parse_need(len_bytes)?;
        let pen = self.own_pen(Role::Loose, patience).map_err(as_full)?;
        self.begin_as(pen, len_bytes, patience)
    }

    pub(super) fn begin_as(self: &Arc<Self>, pen: Pen, len_bytes: u64, patience: &Patience) -> Result<Writing> {
        let need = self.parse_need(len_bytes)?;
        self.turn_period(patience).map_err(as_full)?;
        let mut spare = None;
        // BOUND: the caller's patience, asked by each wait; a spare block is asked for once between two of them.
        loop {
            let picked = self.locked(patience, || self.pick_under_lock(pen, need, spare.take(), patience));
            let picked = picked.map_err(as_full)?;
            match picked {
                Pick::Got(picked) => return self.writing(pen, picked),
                // Nothing is allocated under the lock.
                Pick::NeedsBlock => spare = Some(self.arena().alloc(need, 64, false, patience).map_err(as_full)?),
                Pick::Full => self.wait_for_space(patience)?,
                Pick::NoneIdle => self.wait_for_idle(patience)?,
            }
        }
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_quick(self: &Arc<Self>, len_bytes: u64) -> Result<Option<Writing>> {
        self.parse_need(len_bytes)?;
        match self.find_pen()? {
            Some(pen) => self.begin_quick_as(pen, len_bytes),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn begin_quick_as(self: &Arc<Self>, pen: Pen, len_bytes: u64) -> Result<Option<Writing>> {
        let need = self.parse_need(len_bytes)?;
        if self.is_period_over() {
            return Ok(None);
        }
        match self.locked_quick(|| self.pick_under_lock(pen, need, None, &Patience::none()))? {
            Some(Pick::Got(picked)) => self.writing(pen, picked).map(Some),
            _ => Ok(None),
        }
    }

    fn writing(self: &Arc<Self>, pen: Pen, (hold, frame, room_at): Picked) -> Result<Writing> {
        point(Point::RingPicked);
        let place = Place { frame, block: hold.block(), writer: self.arena().identity()? };
        Ok(Writing { ring: self.clone(), hold, place, pen, room_at })
    }

    /// Publishes a block that exists, of which the frame uses `len_bytes`, without a copy: it takes a place among the
    /// ring's frames.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Writing::publish`]; `InvalidValue` for a block of another arena.
    pub fn publish_block(
        &self,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        patience: &Patience,
    ) -> Result<Option<u64>> {
        self.check_block(hold, len_bytes, content)?;
        let pen = self.own_pen(Role::Loose, patience).map_err(as_full)?;
        self.publish_block_as(pen, hold, len_bytes, content, patience)
    }

    fn check_block(&self, hold: &Hold, len_bytes: u64, content: Content<'_>) -> Result<()> {
        self.parse_need(len_bytes)?;
        self.check_content(content)?;
        if !Arc::ptr_eq(hold.arena(), self.arena()) {
            return Err(Error::value("expected a block of the ring's own arena: copy it into a frame instead"));
        }
        Ok(())
    }

    pub(super) fn publish_block_as(
        &self,
        pen: Pen,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        patience: &Patience,
    ) -> Result<Option<u64>> {
        self.check_block(hold, len_bytes, content)?;
        self.turn_period(patience).map_err(as_full)?;
        let supply = || {
            self.note_size(usize::try_from(len_bytes).unwrap_or(usize::MAX));
            let floors = self.floors(self.least_cursor());
            let victim = self.victim(floors.wished).or_else(|| self.victim(floors.firm));
            let Some(victim) = victim else { return Ok(None) };
            self.replace(victim, hold, patience)?;
            Ok(Some((victim, hold.block())))
        };
        self.publish(patience, pen, None, &supply, &mut None, content)
    }

    fn parse_need(&self, len_bytes: u64) -> Result<usize> {
        let most = self.table.geometry.frame_bytes;
        if most > 0 && len_bytes > most {
            return Err(Error::value(format!(
                "expected a frame of at most {most} bytes, got {len_bytes}: make the ring with a larger shape, or \
                 without one"
            )));
        }
        usize::try_from(len_bytes.max(most).max(1)).map_err(|_| Error::value("a frame is too large"))
    }

    fn check_content(&self, content: Content<'_>) -> Result<()> {
        let (view, meta) = (content.view.len(), content.meta.len());
        if view > VIEW_BYTES {
            return Err(Error::value(format!(
                "expected a frame whose shape, strides and dtype are told in {VIEW_BYTES} bytes, got {view}: make the \
                 ring with this dtype, or choose shorter names of fields"
            )));
        }
        let most = self.table.geometry.meta_bytes;
        if meta > most as usize {
            return Err(Error::value(format!("expected at most {most} bytes of meta, got {meta}")));
        }
        Ok(())
    }

    pub(super) fn check_open(&self) -> Result<()> {
        // RAW: 0 or not.
        match self.table.word(CLOSED).load(SeqCst) {
            0 => Ok(()),
            _ => {
                Err(Error::new(Kind::Closed, "the ring was closed: expected an open one to write to; make a new ring"))
            }
        }
    }

    // ---- picking a frame

    fn pick_under_lock(&self, pen: Pen, need: usize, spare: Option<Hold>, patience: &Patience) -> Result<Pick> {
        self.check_open()?;
        self.check_pen(pen)?;
        self.note_size(need);
        let least = self.least_cursor();
        if self.when_full == WhenFull::Wait && self.is_full(least) {
            return Ok(Pick::Full);
        }
        // Others may publish meanwhile, and readers only go on.
        let room_at = (self.when_full == WhenFull::Wait).then(|| self.written());
        let floors = self.floors(least);
        if let Some((hold, frame)) = self.pick(need, floors)? {
            return Ok(Pick::Got((hold, frame, room_at)));
        }
        let Some(victim) = self.victim(floors.wished) else {
            // Nobody holds the ring back: rather a part of the window than none.
            let found = self.first_idle(floors.wished..floors.firm, need)?;
            return Ok(found.map_or(Pick::NoneIdle, |(hold, frame)| Pick::Got((hold, frame, room_at))));
        };
        let Some(hold) = spare else { return Ok(Pick::NeedsBlock) };
        self.replace(victim, &hold, patience)?;
        point(Point::RingReplaced);
        Ok(Pick::Got((hold, victim, room_at)))
    }

    /// A frame that nobody wants or looks at: with readers that hold the ring back the one consumed last, which is still
    /// in the cache; without any the oldest, so that the window stays for a reader to come.
    fn pick(&self, need: usize, floors: Floors) -> Result<Option<(Hold, u32)>> {
        let Floors { wished, firm, recent_first } = floors;
        let oldest = self.written().saturating_sub(self.table.entries());
        let found = if recent_first {
            let recent = (oldest..firm).rev();
            let quick = self.first_idle(recent.clone().take(LOOKS as usize), need)?;
            if quick.is_some() {
                return Ok(quick);
            }
            self.unused(need)?.map_or_else(|| self.first_idle(recent.skip(LOOKS as usize), need), |got| Ok(Some(got)))
        } else {
            self.first_idle(oldest..wished, need)
        }?;
        found.map_or_else(|| self.unused(need), |got| Ok(Some(got)))
    }

    fn first_idle(&self, numbers: impl Iterator<Item = u64>, need: usize) -> Result<Option<(Hold, u32)>> {
        for seq in numbers {
            let entry = self.table.entry(seq);
            let Some(frame) = self.table.frame_index(&entry) else { continue };
            let is_its = entry.seq.load(SeqCst) == seq && self.table.frame(frame).last.load(SeqCst) == seq;
            if is_its && let Some(hold) = self.renew(frame, need)? {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    /// A frame that was never published, or whose writer threw it away or died.
    fn unused(&self, need: usize) -> Result<Option<(Hold, u32)>> {
        for frame in 0..self.table.geometry.frames {
            if self.table.frame(frame).last.load(SeqCst) >= BUSY
                && let Some(hold) = self.renew(frame, need)?
            {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    fn renew(&self, frame: u32, need: usize) -> Result<Option<Hold>> {
        let words = self.table.frame(frame);
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(words.block.load(SeqCst)) else { return Ok(None) };
        let Some(hold) = Hold::recycle(self.arena(), block)? else { return Ok(None) };
        // All of a frame's words are read and written under the lock.
        words.block.store(hold.block().to_word(), Relaxed);
        words.last.store(BUSY, Relaxed);
        // Too small a block stays without content until its place gets another one.
        Ok((hold.len_bytes() >= need).then_some(hold))
    }

    /// A place among the frames whose block can be replaced: nobody waits for its content, and nobody fills it.
    ///
    /// Places without content come first, then the content published longest ago.
    fn victim(&self, floor: u64) -> Option<u32> {
        let rank = |frame: u32| {
            let words = self.table.frame(frame);
            let filled_by_nobody = || {
                // RAW: a name, which is looked up.
                let block = BlockId::from_word(words.block.load(SeqCst));
                block.is_none_or(|block| !Hold::is_held(self.arena(), block))
            };
            // RAW: only compared: with a floor, and then with others below it.
            match words.last.load(SeqCst) {
                BUSY => filled_by_nobody().then_some(0),
                NEVER => Some(0),
                last => (last < floor).then_some(last + 1),
            }
        };
        let ranked = (0..self.table.geometry.frames).filter_map(|frame| Some((rank(frame)?, frame)));
        ranked.min().map(|(_, frame)| frame)
    }

    /// Puts another block into a place among the frames, under the lock. If the wait for the arena lock is cut short,
    /// nothing has changed. A death on the way leaves a record too many, which `recover` ends.
    fn replace(&self, frame: u32, hold: &Hold, patience: &Patience) -> Result<()> {
        let words = self.table.frame(frame);
        // RAW: names, which are looked up.
        let old = TicketId { index: words.record.load(SeqCst) as u32, nonce: words.nonce.load(SeqCst) };
        let new = self.table.head.adopt(hold, patience)?;
        point(Point::RingAdopted);
        words.last.store(BUSY, SeqCst);
        words.block.store(hold.block().to_word(), SeqCst);
        words.record.store(new.index.into(), SeqCst);
        words.nonce.store(new.nonce, SeqCst);
        if old.nonce == 0 {
            return Ok(());
        }
        self.end_record(old, patience)?.map_or(Ok(()), |block| self.arena().free_unkept(block))
    }

    // ---- publishing

    /// Publishes the frame and block that `supply` names, once there is room; `hold` is let go of then.
    fn publish(
        &self,
        patience: &Patience,
        pen: Pen,
        room_at: Option<u64>,
        supply: Supply<'_>,
        hold: &mut Option<Hold>,
        content: Content<'_>,
    ) -> Result<Option<u64>> {
        let mut pruned = false;
        // BOUND: the caller's patience, asked by each wait; the others come once.
        loop {
            let outcome = self.locked(patience, || self.publish_under_lock(pen, room_at, supply, hold, content));
            match outcome.map_err(as_full)? {
                Outcome::Published(seq) => return self.tell(seq),
                // It may be full only for the sake of a reader that died.
                Outcome::Full if self.when_full == WhenFull::DropNewest && !pruned => {
                    self.prune(patience).map_err(as_full)?;
                }
                Outcome::Full if self.when_full == WhenFull::DropNewest => {
                    self.table.word(DROPPED).fetch_add(1, SeqCst);
                    return Ok(None);
                }
                Outcome::Full => self.wait_for_space(patience)?,
                Outcome::NoneIdle => self.wait_for_idle(patience)?,
            }
            pruned = true;
        }
    }

    /// The same if that needs no waiting; else none.
    fn publish_quick(
        &self,
        pen: Pen,
        room_at: Option<u64>,
        place: Place,
        hold: &mut Option<Hold>,
        content: Content<'_>,
    ) -> Result<Option<Option<u64>>> {
        self.check_content(content)?;
        let supply = || self.supply(place);
        let outcome = self.locked_quick(|| self.publish_under_lock(pen, room_at, &supply, hold, content))?;
        match outcome {
            Some(Outcome::Published(seq)) => self.tell(seq).map(Some),
            _ => Ok(None),
        }
    }

    /// Names a frame that is being filled, for publication.
    fn supply(&self, place: Place) -> Result<Option<(u32, BlockId)>> {
        let words = self.table.frame(place.frame);
        if self.arena().identity()? != place.writer {
            return Err(Error::new(
                Kind::Misuse,
                "a frame is published by the process that began it: begin another one after a fork",
            ));
        }
        if words.last.load(SeqCst) != BUSY || words.block.load(SeqCst) != place.block.to_word() {
            return Err(Error::new(Kind::Misuse, "a frame is published once: begin another one"));
        }
        Ok(Some((place.frame, place.block)))
    }

    fn publish_under_lock(
        &self,
        pen: Pen,
        room_at: Option<u64>,
        supply: Supply<'_>,
        hold: &mut Option<Hold>,
        content: Content<'_>,
    ) -> Result<Outcome> {
        self.check_open()?;
        self.check_pen(pen)?;
        if self.written() >= MOST_WRITTEN {
            return Err(no_number_left());
        }
        let has_room = room_at == Some(self.written());
        if !has_room && self.is_full(self.least_cursor()) && !self.make_room() {
            return Ok(Outcome::Full);
        }
        let Some((frame, block)) = supply()? else { return Ok(Outcome::NoneIdle) };
        self.table.frame(frame).last.store(self.written(), Relaxed);
        // The ring's record keeps the block, and nobody takes it for idle under the lock. Now and not later: readers
        // want the block's words as soon as they see the number.
        drop(hold.take());
        self.pass_over_lost();
        let seq = self.write_entry(frame, block.to_word(), content);
        self.count_frame(pen);
        Ok(Outcome::Published(seq))
    }

    /// Tells sleeping readers of a new frame.
    fn tell(&self, seq: u64) -> Result<Option<u64>> {
        self.announce_if_awaited(EVENT)?;
        self.tell_wishes();
        Ok(Some(seq))
    }

    fn write_entry(&self, frame: u32, block: u64, content: Content<'_>) -> u64 {
        let seq = self.written();
        let entry = self.table.entry(seq);
        // Beforehand: readers look at the entry, and what is written to it in one go travels in one go.
        let time_ns = monotonic().as_nanos() as u64;
        protocol::open_entry(entry.seq);
        point(Point::RingBusy);
        entry.block.store(block, Relaxed);
        entry.frame.store(frame.into(), Relaxed);
        entry.time_ns.store(time_ns, Relaxed);
        entry.offset.store(content.offset, Relaxed);
        entry.view_len.store(content.view.len() as u64, Relaxed);
        store_bytes(entry.view, content.view);
        store_bytes(entry.meta, content.meta);
        entry.meta[content.meta.len().div_ceil(8)..].iter().for_each(|word| word.store(0, Relaxed));
        entry.claims.iter().for_each(|claim| claim.store(0, Relaxed));
        point(Point::RingFilled);
        protocol::seal_entry(entry.seq, seq);
        point(Point::RingSequenced);
        self.table.word(HEAD).store(seq + 1, SeqCst);
        point(Point::RingHead);
        seq
    }

    /// Moves the cursors of the slowest readers on, if that is the policy.
    fn make_room(&self) -> bool {
        if self.when_full != WhenFull::DropOldest {
            return false;
        }
        let least = self.written() + 1 - u64::from(self.table.geometry.slots).min(self.written() + 1);
        for index in self.readers_in_use() {
            let reader = self.table.reader(index);
            // RAW: a kind, which is matched whatever it is.
            let (lost, missed) = match Mode::unpack(reader.kind.load(SeqCst)) {
                Mode::Every => (protocol::push_on(reader.cursor, least), reader.missed),
                Mode::Group(group) => (self.pass_over(group, least), self.table.group(group).missed),
                Mode::Latest => continue,
            };
            missed.fetch_add(lost, SeqCst);
            point(Point::RingMoved);
        }
        true
    }

    /// Moves groups without members on that fall out of the window with the next frame: what nobody had is missed.
    fn pass_over_lost(&self) {
        let least = (self.written() + 1).saturating_sub(self.table.geometry.slots.into());
        for group in self.groups_in_use() {
            let words = self.table.group(group);
            if words.cursor.load(SeqCst) < least {
                let lost = self.pass_over(group, least);
                words.missed.fetch_add(lost, SeqCst);
                point(Point::RingPassed);
            }
        }
    }

    /// Moves a group's cursor on; returns how many frames are lost to it by that. Those that a member has are not.
    pub(super) fn pass_over(&self, group: usize, least: u64) -> u64 {
        let passed = protocol::push_on(self.table.group(group).cursor, least);
        // More than there are entries would be nonsense in shared memory.
        let from = least - passed.min(self.table.entries());
        (from..least).filter(|&seq| self.is_lost(group, seq)).count() as u64
    }

    /// Gives up a frame that no member has who lives; says whether that is so.
    fn is_lost(&self, group: usize, seq: u64) -> bool {
        let word = &self.table.entry(seq).claims[group];
        // RAW: the place in it is checked, and the rest compared.
        let seen = word.load(SeqCst);
        let is_free = seen == 0 || !protocol::is_done(seen) && !self.is_claimant_alive(seen);
        is_free && protocol::give_up(word, seen, seq)
    }

    fn wait_for_space(&self, patience: &Patience) -> Result<()> {
        self.prune(patience).map_err(as_full)?;
        let ready = || self.when_full != WhenFull::Wait || !self.is_full(self.least_cursor()) || self.is_closed();
        self.sleep(SPACE, ready, patience, NAP)?;
        let text = || {
            let behind = self.who_is_behind();
            format!(
                "the ring is full: expected a free slot before the timeout, but {behind}; read faster, close readers \
                 that nobody reads, or choose what to drop with when_full="
            )
        };
        patience.go_on("the ring").map_err(|error| on_timeout(error, Kind::Full, text))
    }

    /// The readers that keep the window full, in words.
    fn who_is_behind(&self) -> String {
        let (written, slots) = (self.written(), u64::from(self.table.geometry.slots));
        let readers = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        let readers = readers.filter_map(|index| self.reader_stats(index, written, &|_| Ok(true)).ok());
        let behind: Vec<String> = readers
            .filter(|reader| reader.mode != Mode::Latest && reader.lag >= slots)
            .map(|reader| reader.to_string())
            .collect();
        match behind.len() {
            0 => "the readers that were behind have just gone on".to_owned(),
            count @ 1..=NAMED => format!("behind {} {}", if count == 1 { "is" } else { "are" }, behind.join(", ")),
            count => format!("behind are {} and {} more", behind[..NAMED].join(", "), count - NAMED),
        }
    }

    /// Waits a little for another writer to publish what it fills, or to throw it away.
    fn wait_for_idle(&self, patience: &Patience) -> Result<()> {
        self.sleep(EVENT, || false, patience, SHORT_NAP)?;
        let text = || {
            "every frame of the ring is being filled: expected an idle one before the timeout; publish those that were \
             begun, or leave their with blocks"
                .to_owned()
        };
        patience.go_on("the ring").map_err(|error| on_timeout(error, Kind::Full, text))
    }
}

/// A writer's timeout is `Full` whatever it waited for; the text says what that was, and who has it.
fn as_full(error: Error) -> Error {
    if error.kind() == Kind::Timeout { Error::new(Kind::Full, error.to_string()) } else { error }
}

/// No ring comes to that many frames: all that followed would bear one number, and readers of the newest would see none.
#[cold]
fn no_number_left() -> Error {
    Error::new(Kind::Poisoned, "the ring has no number left for a frame: its head was written over; make a new ring")
}

/// Names the frame and block that are to be published; none when there is none now.
type Supply<'a> = &'a dyn Fn() -> Result<Option<(u32, BlockId)>>;

/// A frame's block, its place, and the number at which there was room for it.
type Picked = (Hold, u32, Option<u64>);

enum Pick {
    Got(Picked),
    /// There is an idle place among the frames, but its block is held or too small.
    NeedsBlock,
    /// The window is full.
    Full,
    /// Every frame waits in the window or is being filled.
    NoneIdle,
}

enum Outcome {
    Published(u64),
    Full,
    NoneIdle,
}
