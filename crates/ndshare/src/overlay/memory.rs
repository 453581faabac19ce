//! An overlay: its head, its bytes, and arrays over the fields of the use that goes on.

use super::turns::{HEAD_BYTES, Inside, Turns};
use super::uses::Uses;
use crate::arena::{Arena, Deadline, Hold};
use crate::array::{ALIGN, Array, KeptKind};
use crate::error::Result;
use crate::head::HeadKind;
use crate::session::by_reference;
use std::sync::Arc;

pub(super) const KEPT: KeptKind = KeptKind { kind: HeadKind::Overlay, version: 1, description_at: HEAD_BYTES / 8 };

/// Memory with several meanings, one at a time.
///
/// Threads and processes share a use; who wants another one waits until all have left, and is not overtaken. A process that
/// is killed inside has left.
///
/// ```
/// use ndshare::arena::{Arena, Deadline, Options};
/// use ndshare::element::Number;
/// use ndshare::overlay::{Overlay, Uses};
///
/// # fn main() -> ndshare::Result<()> {
/// let (arena, forever) = (Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?, Deadline::never());
/// let uses = Uses::default()
///     .with("floats", [("A", &[3, 4][..], Number::F32), ("B", &[4], Number::F64)])?
///     .with("ints", [("D", [10], Number::I32)])?;
/// let scratch = Overlay::new(&arena, uses, &forever)?;
/// let floats = scratch.enter("floats", &forever)?;
/// floats.array("A")?.fill(1.0_f32)?;
/// drop(floats);
/// // The same bytes as other numbers.
/// let ints = scratch.enter("ints", &forever)?;
/// assert!(ints.is_first());
/// assert_eq!(ints.array("D")?.read::<i32>(&[0])?, 0x3f80_0000);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Overlay {
    turns: Turns,
    data: Hold,
    uses: Arc<Uses>,
}

/// Being inside a use, with its arrays. Dropping it leaves. What is kept of an array after that means nothing: others give
/// its bytes another meaning.
#[derive(Debug)]
pub struct Entered {
    uses: Arc<Uses>,
    number: usize,
    /// As many as the use has fields.
    arrays: Vec<Array>,
    // Last: the arrays go before others may have the bytes.
    inside: Inside,
}

by_reference!(Overlay, Overlay, "overlay", Self);

impl Overlay {
    /// A new one, of zeros.
    ///
    /// # Errors
    /// `InvalidValue` without any use; `ArenaFull`; `Timeout` at `deadline`.
    pub fn new(arena: &Arc<Arena>, uses: Uses, deadline: &Deadline) -> Result<Self> {
        uses.check()?;
        let data = arena.alloc(uses.len_bytes().max(1), ALIGN, true, deadline)?;
        let head = KEPT.make(arena, &data, &uses.encode(), deadline)?;
        Ok(Self { turns: Turns::new(head), data, uses: Arc::new(uses) })
    }

    /// The overlay whose head this is, as another process made it.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of an overlay, or one of another version; `Poisoned` when it contradicts
    /// itself.
    pub fn open(head: Hold) -> Result<Self> {
        let (data, description) = KEPT.open(&head)?;
        match Uses::decode(&description) {
            Some(uses) if uses.len_bytes() <= data.len_bytes() => {
                Ok(Self { turns: Turns::new(head), data, uses: Arc::new(uses) })
            }
            _ => Err(KEPT.contradicts()),
        }
    }

    /// Its uses.
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// The block that says what it is, and whose turn. It keeps the bytes.
    pub fn head(&self) -> &Hold {
        self.turns.head()
    }

    /// The block that the fields are in.
    pub fn data(&self) -> &Hold {
        &self.data
    }

    /// Waits until the use of this name goes on, and enters it.
    ///
    /// # Errors
    /// `InvalidValue` for an unknown use; `ArenaFull` when there is no room to say who is inside; `Timeout`, with the
    /// processes that are inside another use, at `deadline`.
    pub fn enter(&self, name: &str, deadline: &Deadline) -> Result<Entered> {
        let (number, wanted) = self.uses.find(name)?;
        let inside = self.turns.enter(number, deadline)?;
        let arrays = wanted
            .fields()
            .iter()
            .map(|field| Array::of_parts(self.data.clone(), field.offset() as u64, field.description().clone(), false));
        Ok(Entered { arrays: arrays.collect::<Result<_>>()?, uses: self.uses.clone(), number, inside })
    }
}

impl Entered {
    /// The array of a field.
    ///
    /// # Errors
    /// `InvalidValue`, with the fields that there are.
    pub fn array(&self, field: &str) -> Result<&Array> {
        let (index, _) = self.uses.all()[self.number].find(field)?;
        Ok(&self.arrays[index])
    }

    /// Whether nobody else was inside at entry.
    pub fn is_first(&self) -> bool {
        self.inside.is_first()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::element::Number::{F64, I32, U8};
    use crate::error::Kind;
    use std::time::Duration;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn uses() -> Uses {
        let floats = Uses::default().with("floats", [("A", &[3, 4][..], F64), ("B", &[2], F64)]);
        floats.and_then(|uses| uses.with("bytes", [("C", [144], U8)])).unwrap()
    }

    fn at_once(overlay: &Overlay, name: &str) -> Result<Entered> {
        overlay.enter(name, &Deadline::new(Some(Duration::ZERO), &|| Ok(())))
    }

    #[test]
    fn each_use_sees_the_bytes_of_the_last() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let mine = Overlay::new(&arena, uses(), &FOREVER).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let theirs = Overlay::open(other.take(mine.head().block()).unwrap()).unwrap();
        assert_eq!(theirs.uses(), &uses());
        let inside = at_once(&mine, "floats").unwrap();
        assert_eq!(inside.array("B").unwrap().shape(), [2]);
        inside.array("B").unwrap().fill(1.0_f64).unwrap();
        let shared = at_once(&theirs, "floats").unwrap();
        assert!(inside.is_first() && !shared.is_first());
        assert_eq!(shared.array("B").unwrap().to_vec::<f64>().unwrap(), [1.0, 1.0]);
        assert_eq!(at_once(&theirs, "bytes").unwrap_err().kind(), Kind::Timeout);
        drop((inside, shared));
        let bytes = at_once(&theirs, "bytes").unwrap().array("C").unwrap().to_vec::<u8>().unwrap();
        // B begins behind the 96 bytes of A, at the next cache line.
        assert_eq!(bytes[128..], [1.0_f64.to_le_bytes(), 1.0_f64.to_le_bytes()].concat());
        assert!(bytes[..128].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let kind = |outcome: Result<Overlay>| outcome.unwrap_err().kind();
        let (small, large) = (arena.alloc(1000, ALIGN, true, &FOREVER).unwrap(), [("x", [1 << 16], I32)]);
        let large = Uses::default().with("u", large).unwrap().encode();
        let head = KEPT.make(&arena, &small, &large, &FOREVER).unwrap();
        assert_eq!(kind(Overlay::open(head)), Kind::Poisoned, "it has more bytes than there are");
        assert_eq!(kind(Overlay::open(KEPT.make(&arena, &small, b"noise", &FOREVER).unwrap())), Kind::Poisoned);
        assert_eq!(kind(Overlay::open(small)), Kind::WrongKind);
        assert_eq!(kind(Overlay::new(&arena, Uses::default(), &FOREVER)), Kind::InvalidValue);
        let huge = Uses::default().with("u", [("x", [1 << 30], U8)]).unwrap();
        assert_eq!(kind(Overlay::new(&arena, huge, &FOREVER)), Kind::ArenaFull);
        assert_eq!(arena.stats().unwrap().used_bytes, 0, "nothing stays behind");
        let overlay = Overlay::new(&arena, uses(), &FOREVER).unwrap();
        assert_eq!(at_once(&overlay, "ints").unwrap_err().kind(), Kind::InvalidValue);
        let inside = at_once(&overlay, "bytes").unwrap();
        assert!(inside.array("A").unwrap_err().to_string().contains("use 'bytes' (C), got 'A'"));
    }
}
