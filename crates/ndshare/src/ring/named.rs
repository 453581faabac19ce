//! Rings by name: found or made.

use super::format::Format;
use super::policy::{RingOptions, WhenFull};
use super::state::Ring;
use super::table::RingSizes;
use crate::arena::{Arena, Deadline, Hold};
use crate::error::{Error, Result};
use crate::registry::{ObjectKind, Wanted, find_or_make};
use std::sync::Arc;

impl Ring {
    /// The ring of the name that `format` has, which all processes of the arena share that ask for it; made if there is
    /// none, as by [`Ring::new`]. It lasts as long as somebody has it. One that was closed gives its name up.
    ///
    /// ```
    /// use ndshare::ring::{Format, RingOptions, WhenFull};
    /// use ndshare::{Deadline, Number, Ring};
    ///
    /// let (arena, forever) = (ndshare::session()?, Deadline::never());
    /// let format = Format { name: Some("camera".into()), ..Format::new(&[480, 640], Number::U16) };
    /// let options = RingOptions { when_full: WhenFull::DropOldest, ..RingOptions::slots(8) };
    /// let ring = Ring::named(&arena, format.clone(), options, &forever)?;
    /// // In Python: nds.Ring((480, 640), "uint16", slots=8, when_full="drop_oldest", name="camera")
    /// let same = Ring::named(&arena, format, options, &forever)?;
    /// assert_eq!(same.head().block(), ring.head().block());
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidValue` without a name, for one that is empty or longer than 240 bytes, and when the name is another
    /// object's or that of a ring that differs, with both; `Misuse` when all names are taken; as [`Ring::new`].
    pub fn named(arena: &Arc<Arena>, format: Format, options: RingOptions, deadline: &Deadline) -> Result<Arc<Self>> {
        let name = format.name.clone().ok_or_else(|| Error::value("expected a format with a name, got none"))?;
        let sizes = RingSizes::new(options.slots, format.frame_bytes()?, format.meta_bytes())?.keeping(options.keep)?;
        let asked = told(&format, &sizes, options.when_full);
        let wanted = Wanted { is_over: &is_over, ..Wanted::new(ObjectKind::Ring, &name) };
        let mut make = || {
            let ring = Self::new(arena, format.clone(), options, deadline)?;
            Ok(ring.head().clone())
        };
        let ring = Self::open(find_or_make(arena, &wanted, &mut make, deadline)?)?;
        let there = told(ring.format(), ring.geometry(), ring.when_full());
        if there == asked {
            return Ok(ring);
        }
        Err(Error::value(format!(
            "expected the ring {name:?} that is there already, of {there}, got {asked}: give the same, or choose another name"
        )))
    }
}

/// What must agree, in words.
fn told(format: &Format, sizes: &RingSizes, when_full: WhenFull) -> String {
    let shape = format.shape.as_ref().map_or_else(|| "any shape".to_owned(), |shape| format!("shape {shape:?}"));
    let text = |element: &Option<_>| element.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
    let (element, meta) =
        (text(&format.element), format.meta.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string));
    let (slots, keep, when_full) = (sizes.slots, sizes.keep, when_full.name());
    format!("{shape}, dtype {element}, meta {meta}, slots {slots}, keep {keep}, when_full {when_full}")
}

fn is_over(head: &Hold) -> bool {
    Ring::open(head.clone()).is_ok_and(|ring| ring.is_closed())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::element::Number;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn format(name: Option<&str>) -> Format {
        Format { name: name.map(str::to_owned), ..Format::new(&[2, 3], Number::U16) }
    }

    #[test]
    fn a_name_finds_the_ring_that_agrees_until_it_is_closed() {
        let (arena, heap) = Arena::create_on_heap(8 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let ask = |arena: &Arc<Arena>, format, slots, keep, when_full| {
            Ring::named(arena, format, RingOptions { slots, keep, when_full }, &FOREVER)
        };
        let mine = ask(&arena, format(Some("cam")), 4, 1, WhenFull::Wait).unwrap();
        let theirs = ask(&other, format(Some("cam")), 4, 1, WhenFull::Wait).unwrap();
        assert_eq!(theirs.head().block(), mine.head().block());
        let differing = [
            (Format { element: Some(Number::I16.into()), ..format(Some("cam")) }, 4, 1, WhenFull::Wait, "dtype <i2"),
            (Format { shape: Some(vec![3, 2]), ..format(Some("cam")) }, 4, 1, WhenFull::Wait, "[3, 2]"),
            (Format { meta: Some(Number::U8.into()), ..format(Some("cam")) }, 4, 1, WhenFull::Wait, "meta |u1"),
            (format(Some("cam")), 5, 1, WhenFull::Wait, "slots 5"),
            (format(Some("cam")), 4, 0, WhenFull::Wait, "keep 0"),
            (format(Some("cam")), 4, 1, WhenFull::DropOldest, "drop_oldest"),
        ];
        for (format, slots, keep, when_full, shown) in differing {
            let text = ask(&other, format, slots, keep, when_full).unwrap_err().to_string();
            assert!(text.contains(shown) && text.contains("slots 4, keep 1, when_full wait"), "{shown}: {text}");
        }
        assert!(ask(&arena, format(None), 4, 0, WhenFull::Wait).is_err());
        mine.close(&FOREVER).unwrap();
        let next = ask(&other, format(Some("cam")), 5, 0, WhenFull::Wait).unwrap();
        assert!(next.head().block() != mine.head().block() && !next.is_closed());
        drop((mine, theirs, next));
        assert_eq!(arena.stats().unwrap().used_bytes, 0);
    }
}
