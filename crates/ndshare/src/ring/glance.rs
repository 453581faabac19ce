//! A ring told from outside: by a look at its arena, without joining it, and without a store to it.

use super::format::Format;
use super::protocol::read_entry;
use super::stats::{Stats, Who};
use super::table::{RingSizes, Table};
use crate::arena::{AnyBlock, BlockId, Look};
use crate::array::Description;
use crate::error::Result;
use crate::prim::{Ordering::Relaxed, load_bytes, read};

/// What a look tells of a ring. Nobody is swept for it: who died since is listed as dead.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// What its frames are.
    pub format: Format,
    /// Its sizes.
    pub sizes: RingSizes,
    /// Counts, readers and writers.
    pub stats: Stats,
    /// Bytes of the items of the last frame, or of the ring's own shape before there is one.
    pub frame_bytes: u64,
}

impl Glance {
    /// The ring whose head a block is.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a ring; `InvalidValue` for one that contradicts itself, or is gone.
    pub fn of(look: &Look, head: BlockId) -> Result<Self> {
        let table = Table::open(look.living(head)?)?;
        let who = Who {
            pid_of: &|user| look.pid_of(user),
            is_alive: &|user| Ok(look.is_identity_alive(user)),
            is_live: &|block| look.is_live(block),
        };
        let (format, stats) = (table.read_format()?, table.stats(&who)?);
        let frame_bytes = last_frame_bytes(&table, &format).unwrap_or(table.geometry.frame_bytes);
        Ok(Self { format, sizes: table.geometry, stats, frame_bytes })
    }
}

/// Bytes of the items of the last frame, if it says what it is.
fn last_frame_bytes<B: AnyBlock>(table: &Table<B>, format: &Format) -> Option<u64> {
    let seq = table.written().checked_sub(1)?;
    let entry = table.entry(seq);
    let view = read_entry(entry.seq, seq, || {
        let len = read(entry.view_len, Relaxed).capped(entry.view.len() as u64 * 8) as usize;
        load_bytes(entry.view, len)
    })?;
    let Description { layout, element } = Description::decode(&view).ok()?;
    let element = element.or_else(|| format.element.clone())?;
    let count = layout.shape().iter().try_fold(1_u64, |count, &length| count.checked_mul(length as u64))?;
    count.checked_mul(element.size() as u64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Content, Mode, Ring, RingOptions, Start};
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::{Array, Number};

    #[test]
    fn a_glance_tells_what_the_ring_tells_of_itself() {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let forever = Deadline::never();
        let ring = Ring::new(&arena, Format::new(&[10, 10], Number::U16), RingOptions::slots(4), &forever).unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &forever).unwrap();
        let writer = ring.writer(&forever).unwrap();
        let look = Look::at(&arena.locator()).unwrap();
        let head = ring.head().block();
        assert_eq!(Glance::of(&look, head).unwrap().frame_bytes, 200);
        for _ in 0..3 {
            let mut frame = writer.begin(200, &forever).unwrap();
            frame.publish(Content::default(), &forever).unwrap();
        }
        let seen = Glance::of(&look, head).unwrap();
        assert_eq!((seen.stats.written, seen.stats.readers[0].lag, seen.sizes.slots), (3, 3, 4));
        assert_eq!(seen.stats, ring.stats(&forever).unwrap());
        let small = Array::zeros(&arena, &[3], Number::U8).unwrap();
        assert!(Glance::of(&look, small.hold().block()).is_err(), "it is an array");
        drop(reader);
    }
}
