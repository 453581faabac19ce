//! The memory of a canvas, its lock, and what this process knows to stand there.
//!
//! A call that fills a canvas has the canvas's lock, so that whoever reads under that lock sees no half, and it finds
//! the tiles of the call before. A word behind the canvas's bytes, the epoch, counts the calls that wrote. A process that
//! finds it changed by another one, a forked child for instance, or by a death in the middle, forgets its tiles.

use super::tiles::{Draft, Tile, Tiles};
use crate::arena::{Deadline, Hold};
use crate::array::{Description, KeptKind, OWN_WORDS_AT};
use crate::error::{Error, Result};
use crate::head::HeadKind;
use crate::lock::{Death, Locked};
use crate::os::kill::{Point, point};
use crate::prim::{AtomicU64, Ordering::Relaxed, SpinLock};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// A block that is filled over and over, and the tiles that stand in it.
pub struct Surface<S> {
    hold: Hold,
    /// Bytes of the items; the epoch lies behind them.
    len_bytes: usize,
    /// None while a call fills it.
    known: SpinLock<Option<Known<S>>>,
}

/// What stands in a canvas as far as this process knows.
struct Known<S> {
    tiles: Vec<Arc<Tile<S>>>,
    epoch: u64,
}

const KEPT: KeptKind = KeptKind { kind: HeadKind::Canvas, version: 1, description_at: OWN_WORDS_AT };

/// A head for the block of a canvas, which says what its array is and keeps the block.
///
/// # Errors
/// `ArenaFull`; `Timeout` at `deadline`.
pub fn head_of(hold: &Hold, array: &Description, deadline: &Deadline) -> Result<Hold> {
    KEPT.make(hold.arena(), hold, &array.encode(), deadline)
}

/// The block of a canvas, and what its array is, as its head says.
///
/// # Errors
/// `WrongKind` when the block is no head of a canvas, or one of another version; `Poisoned` and `InvalidValue` when it
/// contradicts itself.
pub(super) fn open_head(head: &Hold) -> Result<(Hold, Description)> {
    let (hold, description) = KEPT.open(head)?;
    Ok((hold, Description::decode(&description)?))
}

impl<S> Surface<S> {
    /// Bytes of the block for a canvas whose items have `len_bytes`; none when there is no such block.
    pub fn block_bytes(len_bytes: usize) -> Option<usize> {
        len_bytes.checked_next_multiple_of(8)?.checked_add(8)
    }

    /// Over a block of zeros that has [`Self::block_bytes`].
    ///
    /// # Errors
    /// `InvalidValue` when the block is smaller.
    pub fn new(hold: Hold, len_bytes: usize) -> Result<Self> {
        if Self::block_bytes(len_bytes).is_none_or(|needed| needed > hold.len_bytes()) {
            let got = hold.len_bytes();
            return Err(Error::value(format!("expected a block of {len_bytes} bytes and 8 more, got {got}")));
        }
        Ok(Self { hold, len_bytes, known: SpinLock::new(None) })
    }

    /// The block.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Bytes of the items.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// How often the canvas was written to, by whomever.
    fn epoch(&self) -> Result<&AtomicU64> {
        self.hold.word(self.len_bytes.div_ceil(8))
    }

    /// Waits for the lock, and takes up what stands here.
    ///
    /// # Errors
    /// `Misuse` when this thread fills it already; `Timeout` at `deadline`.
    pub fn begin(&self, deadline: &Deadline<'_>) -> Result<Filling<'_, S>> {
        self.hold.arena().check_writable("the canvas")?;
        // Only fillers write, and a death among them is seen by the epoch.
        let locked = Locked::acquire(vec![self.hold.clone()], Death::Recover, deadline)?;
        // RAW: only compared.
        let epoch = self.epoch()?.load(Relaxed);
        let known = self.replace(None).filter(|known| known.epoch == epoch);
        let old = Tiles::new(known.map(|known| known.tiles).unwrap_or_default());
        Ok(Filling { surface: self, locked: Some(locked), old, new: RefCell::new(None), touched: Cell::new(false) })
    }

    /// Puts something into the place of what was known, which ends outside of the lock.
    fn replace(&self, known: Option<Known<S>>) -> Option<Known<S>> {
        std::mem::replace(&mut *self.known.lock(), known)
    }
}

/// One call that fills a canvas, under its lock. Dropping it gives the lock back.
pub struct Filling<'a, S> {
    surface: &'a Surface<S>,
    locked: Option<Locked>,
    old: Tiles<S>,
    /// What stands there now, if that is known.
    new: RefCell<Option<Vec<Arc<Tile<S>>>>>,
    touched: Cell<bool>,
}

impl<S> Filling<'_, S> {
    /// What stood there before.
    pub fn old(&self) -> &Tiles<S> {
        &self.old
    }

    /// Says that bytes are about to change. What stands where is unknown then, until [`Self::carry_out`] has noted it.
    pub fn touch(&self) {
        if !self.touched.replace(true)
            && let Ok(epoch) = self.surface.epoch()
        {
            // Before the first byte, so that nobody trusts tiles that a death left half-way.
            epoch.fetch_add(1, Relaxed);
            point(Point::CanvasTouched);
        }
    }

    /// Runs the copies of a draft, and notes what stands after them.
    ///
    /// # Errors
    /// What `copy` says.
    pub fn carry_out<E>(
        &self,
        draft: Draft<'_, S>,
        copy: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if draft.has_new() {
            self.touch();
        }
        let outcome = copy();
        *self.new.borrow_mut() = Some(draft.end(outcome.is_ok()));
        outcome
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// `Misuse` in another process than the one that has it.
    pub fn end(mut self) -> Result<()> {
        self.hand_back();
        self.locked.take().map_or(Ok(()), |locked| locked.release(true))
    }

    fn hand_back(&mut self) {
        let old = std::mem::replace(&mut self.old, Tiles::new(vec![])).into_list();
        let tiles = self.new.take().unwrap_or(if self.touched.get() { vec![] } else { old });
        let known = self.surface.epoch().ok().map(|epoch| Known { tiles, epoch: epoch.load(Relaxed) });
        drop(self.surface.replace(known));
    }
}

impl<S> Drop for Filling<'_, S> {
    fn drop(&mut self) {
        if self.locked.is_some() {
            self.hand_back();
        }
    }
}
