//! An array to put many others into, over and over, in which what stands is not copied again.

use super::arrays::{check_out, fill, whole_bytes};
use super::casting::{Casting, conversion};
use super::copies::Copies;
use super::joint::{Joint, Placement, axes_of, axis_of};
use super::montage::{self, Montage, Rows, Strip};
use super::nested::Nested;
use super::settings::Settings;
use super::strided::{Strided, View};
use super::surface::{Filling, Surface, head_of, open_head};
use super::tiles::{Draft, Mark, Tile};
use crate::arena::{Arena, BlockId, Deadline, Hold};
use crate::array::{ALIGN, Array, Description};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::kernel::Cast;
use crate::layout::Layout;
use crate::session::by_reference;
use std::sync::Arc;

/// An array to put many others into, over and over: arrays that stand where they belong already are not copied again.
///
/// Others read [`Canvas::array`], which can be sent to other processes, under its lock, so that they see no half of a
/// change. After an error in the middle of a copy its parts are of before and after.
///
/// ```
/// use ndshare::arena::{Arena, Options, Deadline};
/// use ndshare::array::Array;
/// use ndshare::element::Number;
/// use ndshare::gather::{Canvas, Source};
///
/// # fn main() -> ndshare::Result<()> {
/// let (arena, forever) = (Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?, Deadline::never());
/// let canvas = Canvas::new(&arena, &[2, 4], Number::U8)?;
/// let tiles = (0..4_u8).map(|i| Array::from_slice(&arena, &[2, 1], &[i, i])).collect::<ndshare::Result<Vec<_>>>()?;
/// // Nobody writes to these tiles any more.
/// let sources: Vec<Source> = tiles.iter().map(Source::fixed).collect();
/// assert_eq!(canvas.concatenate(&sources, 1, &forever)?, 4);
/// assert_eq!(canvas.array().to_vec::<u8>()?, [0, 1, 2, 3, 0, 1, 2, 3]);
/// // One is another one now: it alone is copied.
/// let sources = [sources[0], sources[1], sources[0], sources[3]];
/// assert_eq!(canvas.concatenate(&sources, 1, &forever)?, 1);
/// assert_eq!(canvas.array().to_vec::<u8>()?, [0, 1, 0, 3, 0, 1, 0, 3]);
/// # Ok(())
/// # }
/// ```
pub struct Canvas {
    head: Hold,
    surface: Surface<Fixed>,
    /// What the owner writes to.
    target: Array,
}

/// An array for a canvas, and whether anybody may still write to it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    array: &'a Array,
    is_fixed: bool,
}

impl<'a> Source<'a> {
    /// An array that nobody writes to any more, such as a frame of a ring or a value of a cache: copied once.
    pub fn fixed(array: &'a Array) -> Self {
        Self { array, is_fixed: true }
    }

    /// An array that somebody may write to: copied each time.
    pub fn changing(array: &'a Array) -> Self {
        Self { array, is_fixed: false }
    }
}

/// An array whose bytes never change any more, by name: not even another tenant of its block has the same.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    arena: u64,
    block: BlockId,
    offset: usize,
    strides: Box<[isize]>,
    element: Element,
}

impl Fixed {
    fn of(array: &Array) -> Self {
        Self {
            arena: array.hold().arena().id(),
            block: array.hold().block(),
            offset: array.offset(),
            strides: array.strides().into(),
            element: array.element().clone(),
        }
    }

    fn is(&self, array: &Array) -> bool {
        let hold = array.hold();
        (self.offset, &*self.strides, &self.element) == (array.offset(), array.strides(), array.element())
            && (self.arena, self.block) == (hold.arena().id(), hold.block())
    }
}

/// What stands or comes at one place.
enum Part<'a> {
    Comes(Source<'a>, Option<Mark>),
    Stands(Arc<Tile<Fixed>>),
}

impl Strided for Part<'_> {
    fn as_view(&self) -> View<'_> {
        match self {
            Self::Comes(source, _) => source.array.as_view(),
            Self::Stands(tile) => View {
                first: std::ptr::dangling_mut(),
                shape: tile.shape(),
                strides: tile.strides(),
                itemsize: 0,
                is_c: false,
                is_f: false,
            },
        }
    }
}

by_reference!(Canvas, Canvas, "canvas", Self);

impl Canvas {
    /// A canvas of zeros.
    ///
    /// # Errors
    /// As [`Array::zeros`].
    pub fn new(arena: &Arc<Arena>, shape: &[usize], element: impl Into<Element>) -> Result<Self> {
        let element = element.into();
        let (layout, len_bytes) = Layout::contiguous(shape, element.size())?;
        let too_big = || Error::value(format!("array is too big: got shape {shape:?}"));
        let block_bytes = Surface::<Fixed>::block_bytes(len_bytes).ok_or_else(too_big)?;
        let hold = arena.alloc(block_bytes, ALIGN, true, &Deadline::never())?;
        let description = Description { layout, element: Some(element) };
        let head = head_of(&hold, &description, &Deadline::never())?;
        let target = Array::of_parts(hold.clone(), 0, description, false)?;
        Ok(Self { head, surface: Surface::new(hold, len_bytes)?, target })
    }

    /// The canvas whose head this is, as another process made it. What stands there is known to whom has put it: this
    /// process copies everything once.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a canvas, or one of another version; `Poisoned` and `InvalidValue` when it
    /// contradicts itself.
    pub fn open(head: Hold) -> Result<Self> {
        let (hold, description) = open_head(&head)?;
        let target = Array::of_parts(hold.clone(), 0, description, false)?;
        let (layout, len_bytes) = Layout::contiguous(target.shape(), target.element().size())?;
        if layout.strides() != target.strides() {
            return Err(Error::value(format!("expected a canvas in C order, got strides {:?}", target.strides())));
        }
        Ok(Self { head, surface: Surface::new(hold, len_bytes)?, target })
    }

    /// The block that says what the canvas is. It keeps the array's.
    pub fn head(&self) -> &Hold {
        &self.head
    }

    /// The canvas as an array that may only be read.
    pub fn array(&self) -> Array {
        self.target.clone().readonly()
    }

    /// Puts arrays side by side along `axis`, and says how many had to be copied.
    ///
    /// # Errors
    /// As [`super::concatenate`], and `InvalidValue` for an array of the canvas's own memory; `Timeout` at `deadline` while
    /// others have the lock.
    pub fn concatenate(&self, sources: &[Source<'_>], axis: isize, deadline: &Deadline<'_>) -> Result<usize> {
        let parts: Vec<_> = sources.iter().map(|&source| Part::Comes(source, None)).collect();
        let joint = Joint::concatenate(&parts, Some(axis))?;
        let filling = self.surface.begin(deadline)?;
        // SAFETY: the joint was made of these parts.
        let copied = unsafe { self.fill(&filling, &joint, &parts)? };
        filling.end()?;
        Ok(copied)
    }

    /// Puts values of a cache side by side along `axis`, and says how many had to be copied. Values that stand are neither
    /// copied nor loaded: `load` is asked for those of the keys with these numbers, once for each number, without the
    /// lock. Values may not be written to any more.
    ///
    /// # Errors
    /// What `load` says; `InvalidValue` for values that do not fit, or another number of them; as [`Self::concatenate`].
    pub fn montage(
        &self,
        marks: &[Mark],
        axis: isize,
        load: impl FnMut(&[usize]) -> Result<Vec<Array>>,
        deadline: &Deadline<'_>,
    ) -> Result<usize> {
        self.paint(marks, self.strip(axis_of(axis, self.target.ndim())?, None), load, deadline)
    }

    /// As [`Self::montage`], with values in rows: those of a row are side by side along the second of `axes`, and the rows
    /// follow each other along the first. `load` gets numbers that go on from row to row.
    ///
    /// # Errors
    /// As [`Self::montage`]; `InvalidValue` for a row without values, and for axes that are the same.
    pub fn mosaic(
        &self,
        rows: &[Vec<Mark>],
        axes: [isize; 2],
        load: impl FnMut(&[usize]) -> Result<Vec<Array>>,
        deadline: &Deadline<'_>,
    ) -> Result<usize> {
        let places = axes_of(&axes, axes.len(), self.target.ndim())?;
        let counts: Vec<usize> = rows.iter().map(Vec::len).collect();
        Nested::rows(&counts)?;
        let rows_are = Rows { axis: places[0], counts: &counts };
        self.paint(&rows.concat(), self.strip(places[1], Some(rows_are)), load, deadline)
    }

    fn strip<'a>(&'a self, axis: usize, rows: Option<Rows<'a>>) -> Strip<'a> {
        Strip { shape: self.target.shape(), strides: self.target.strides(), axis, rows }
    }

    fn paint(
        &self,
        marks: &[Mark],
        strip: Strip<'_>,
        mut load: impl FnMut(&[usize]) -> Result<Vec<Array>>,
        deadline: &Deadline<'_>,
    ) -> Result<usize> {
        let mut values: Vec<Option<Array>> = vec![None; marks.len()];
        // Each round has values that the round before had not.
        loop {
            let filling = self.surface.begin(deadline)?;
            let wanted = match self.missing(&filling, marks, &values, strip)? {
                Ok(parts) if parts.is_empty() => return filling.end().map(|()| 0),
                Ok(parts) => {
                    let joint = joint_of(strip, &parts)?;
                    // SAFETY: the joint was made of these parts.
                    let copied = unsafe { self.fill(&filling, &joint, &parts)? };
                    filling.end()?;
                    return Ok(copied);
                }
                Err(wanted) => wanted,
            };
            filling.end()?;
            let loaded = load(&wanted)?;
            if loaded.len() != wanted.len() {
                let (expected, got) = (wanted.len(), loaded.len());
                return Err(Error::value(format!("expected {expected} values, one for each number, got {got}")));
            }
            wanted.into_iter().zip(loaded).for_each(|(number, value)| values[number] = Some(value));
        }
    }

    /// The parts of a montage, or the numbers of those that must be loaded first.
    fn missing<'v>(
        &self,
        filling: &Filling<'_, Fixed>,
        marks: &[Mark],
        values: &'v [Option<Array>],
        strip: Strip<'_>,
    ) -> Result<std::result::Result<Vec<Part<'v>>, Vec<usize>>> {
        let shapes = values.iter().map(|value| value.as_ref().map(Array::shape));
        let name = |number: usize| String::from_utf8_lossy(&marks[number].key).into_owned();
        let montage = Montage::of(strip, filling.old(), marks, shapes, name)?;
        if !montage.wanted.is_empty() {
            return Ok(Err(montage.wanted));
        }
        montage.check_extent(strip)?;
        let part = |((part, value), mark): ((montage::Part<Fixed>, &'v Option<Array>), &Mark)| match (part, value) {
            (montage::Part::Comes(_), Some(value)) => Some(Part::Comes(Source::fixed(value), Some(mark.clone()))),
            (montage::Part::Comes(_), None) => None,
            (montage::Part::Stands(tile), _) => Some(Part::Stands(tile)),
        };
        Ok(Ok(montage.parts.into_iter().zip(values).zip(marks).filter_map(part).collect()))
    }

    /// Copies what does not stand, and says how many that were.
    ///
    /// # Safety
    /// The joint was made of `parts`.
    unsafe fn fill<'p>(&self, filling: &Filling<'_, Fixed>, joint: &Joint, parts: &[Part<'p>]) -> Result<usize> {
        let target = &self.target;
        check_out(joint, target)?;
        let casts = parts.iter().map(|part| self.cast(part)).collect::<Result<Vec<_>>>()?;
        let copies = Copies::onto(target, whole_bytes(target), Settings::of_this_process(None)?, true);
        let (mut draft, mut is_new) = (Draft::new(filling.old()), Vec::with_capacity(parts.len()));
        joint.each(parts, target.strides(), |part, at| {
            is_new.push(note(&mut draft, part, at));
            Ok(())
        })?;
        let array_of = |part: &Part<'p>, at: Placement<'_>| match part {
            Part::Comes(source, _) if is_new[at.number] => Some((source.array, casts[at.number])),
            _ => None,
        };
        filling.carry_out(draft, || match copies {
            // SAFETY: the caller's; shapes, conversions and overlap were looked at.
            Some(copies) => unsafe { fill(copies, joint, parts, target, array_of) },
            None => Ok(()),
        })?;
        Ok(is_new.iter().filter(|&&is_new| is_new).count())
    }

    /// The conversion of a part's items to the canvas's.
    ///
    /// # Errors
    /// `InvalidType` when there is none; `InvalidValue` for the canvas's own memory.
    fn cast(&self, part: &Part<'_>) -> Result<Option<Cast>> {
        let Part::Comes(source, _) = part else { return Ok(None) };
        if source.array.may_overlap(&self.target) {
            return Err(Error::value("expected arrays beside the canvas, got a part of it: copy it first"));
        }
        conversion(source.array.element(), self.target.element(), Casting::SameKind)
    }
}

/// How the values of a strip fit together.
fn joint_of(strip: Strip<'_>, parts: &[Part<'_>]) -> Result<Joint> {
    let axis = strip.axis.cast_signed();
    match strip.rows {
        None => Joint::concatenate(parts, Some(axis)),
        Some(rows) => Joint::block_along(&Nested::rows(rows.counts)?, parts, &[rows.axis.cast_signed(), axis]),
    }
}

/// Notes a part, and says whether it must be copied.
fn note(draft: &mut Draft<'_, Fixed>, part: &Part<'_>, at: Placement<'_>) -> bool {
    match part {
        Part::Stands(tile) => {
            draft.stands(tile.clone());
            false
        }
        Part::Comes(Source { array, is_fixed }, mark) => {
            let source = || is_fixed.then(|| Fixed::of(array));
            draft.must_copy(array.shape(), at, mark.clone(), |known| *is_fixed && known.is(array), source)
        }
    }
}
