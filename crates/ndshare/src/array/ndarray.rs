//! An array: a hold on a block, where in it the first item is, how the items lie, and what they are.

use super::description::Description;
use crate::arena::{Arena, Deadline, Hold};
use crate::element::Element;
use crate::error::{Error, Kind, Result};
use crate::layout::{Index, Layout};
use std::fmt;
use std::sync::Arc;

/// What addresses of new arrays are multiples of: a cache line, which is more than any vector of today wants.
pub const ALIGN: usize = 64;

/// An array in shared memory. A clone is another reference to the same bytes.
///
/// The bytes stay while any process has the array, a view of it, or a token in flight. Other processes may write to
/// them at any time, so they are reached by functions that copy, or as cells; see [`Array::cells`].
///
/// ```
/// use ndshare::arena::{Arena, Options};
/// use ndshare::array::Array;
/// use ndshare::element::Number;
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let image = Array::zeros(&arena, &[1200, 16], Number::U16)?;
/// image.write(&[3, 4], 500_u16)?;
/// let row = image.view(&[3.into(), (2..6).into()])?;
/// assert_eq!(row.to_vec::<u16>()?, [0, 0, 500, 0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Array {
    hold: Hold,
    offset: usize,
    layout: Layout,
    element: Element,
    is_readonly: bool,
}

impl Array {
    /// A new array of zeros, contiguous, aligned to [`ALIGN`] bytes.
    ///
    /// # Errors
    /// `ArenaFull`, naming who holds the memory; `InvalidValue` for a shape that is too large.
    pub fn zeros(arena: &Arc<Arena>, shape: &[usize], element: impl Into<Element>) -> Result<Self> {
        Self::alloc(arena, shape, element.into(), true)
    }

    /// The same with any contents.
    ///
    /// # Errors
    /// As [`Self::zeros`].
    pub fn empty(arena: &Arc<Arena>, shape: &[usize], element: impl Into<Element>) -> Result<Self> {
        Self::alloc(arena, shape, element.into(), false)
    }

    fn alloc(arena: &Arc<Arena>, shape: &[usize], element: Element, is_zero: bool) -> Result<Self> {
        let (layout, len_bytes) = Layout::contiguous(shape, element.size())?;
        let hold = arena.alloc(len_bytes, ALIGN, is_zero, &Deadline::never())?;
        Self::of_parts(hold, 0, Description { layout, element: Some(element) }, false)
    }

    /// The array that a description says is in a block, from the byte `offset` on.
    ///
    /// # Errors
    /// `InvalidValue` when a byte of it does not lie inside the block, or the description names no element.
    pub fn of_parts(hold: Hold, offset: u64, description: Description, is_readonly: bool) -> Result<Self> {
        let Description { layout, element } = description;
        let element = element.ok_or_else(|| Error::value("expected an array whose element type is known, got none"))?;
        layout.check_inside(offset, element.size(), hold.len_bytes())?;
        let is_readonly = is_readonly || hold.is_readonly();
        Ok(Self { hold, offset: offset as usize, layout, element, is_readonly })
    }

    /// What keeps its bytes.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The first item's place in the block, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How its items lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What an item is.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// Items along each axis.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// Bytes from item to item along each axis.
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// How many axes.
    pub fn ndim(&self) -> usize {
        self.layout.ndim()
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.layout.items().unwrap_or(usize::MAX)
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it may only be read through this reference.
    pub fn is_readonly(&self) -> bool {
        self.is_readonly
    }

    /// The same bytes, to be read only.
    #[must_use]
    pub fn readonly(mut self) -> Self {
        self.is_readonly = true;
        self
    }

    /// The address of the first item in this process. Reading or writing there is the caller's affair.
    pub fn as_ptr(&self) -> *mut u8 {
        self.hold.as_ptr().wrapping_add(self.offset)
    }

    /// The description that makes it an array again, with block and offset.
    pub fn description(&self) -> Description {
        Description { layout: self.layout.clone(), element: Some(self.element.clone()) }
    }

    /// A view of a part, as NumPy's basic indexing gives it.
    ///
    /// # Errors
    /// `InvalidValue` for an item that there is not.
    pub fn view(&self, index: &[Index]) -> Result<Self> {
        let (layout, step) = self.layout.part(index)?;
        let offset = self.offset.wrapping_add_signed(step);
        layout.check_inside(offset as u64, self.element.size(), self.hold.len_bytes())?;
        Ok(Self { offset, layout, ..self.clone() })
    }

    /// A view with the axes in another order: axis `i` is the old `axes[i]`.
    ///
    /// # Errors
    /// `InvalidValue` when `axes` does not name each axis once.
    pub fn transpose(&self, axes: &[usize]) -> Result<Self> {
        Ok(Self { layout: self.layout.transposed(axes)?, ..self.clone() })
    }

    /// A view of the same bytes as items of another type of the same size.
    ///
    /// # Errors
    /// `InvalidType` when the sizes differ.
    pub fn view_as(&self, element: impl Into<Element>) -> Result<Self> {
        let element = element.into();
        if element.size() == self.element.size() {
            return Ok(Self { element, ..self.clone() });
        }
        Err(Error::new(
            Kind::InvalidType,
            format!(
                "expected an element type of {} bytes as {} is, got {} of {} bytes",
                self.element.size(),
                self.element,
                element,
                element.size()
            ),
        ))
    }

    /// A view of one field of the items, which are structures. The axes of the field come behind those of the array; so a
    /// frame of several arrays, whose shape has no axes, gives each of them as it is.
    ///
    /// ```
    /// use ndshare::{Array, Element};
    ///
    /// let element: Element = "[('rgb', '|u1', (4, 6, 3)), ('depth', '<u2', (4, 6))]".parse()?;
    /// let frame = Array::zeros(ndshare::session()?, &[], element)?;
    /// let depth = frame.field("depth")?;
    /// depth.write(&[3, 5], 7_u16)?;
    /// assert_eq!((frame.field("rgb")?.shape(), depth.shape()), (&[4, 6, 3][..], &[4, 6][..]));
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidType` when items are no structures; `InvalidValue` for a field that there is not.
    pub fn field(&self, name: &str) -> Result<Self> {
        let Element::Structure(structure) = &self.element else {
            let text = format!("expected items with fields, got {} where {name:?} was asked for", self.element);
            return Err(Error::new(Kind::InvalidType, text));
        };
        let field = structure.field(name).ok_or_else(|| {
            let names: Vec<_> = structure.fields().iter().map(|field| field.name.as_str()).collect();
            Error::value(format!("expected one of the fields {}, got {name:?}", names.join(", ")))
        })?;
        let (inner, _) = Layout::contiguous(&field.shape, field.element.size())?;
        let shape = [self.shape(), inner.shape()].concat();
        let layout = Layout::new(shape, [self.strides(), inner.strides()].concat())?;
        let (offset, element) = (self.offset.saturating_add(field.offset), field.element.clone());
        layout.check_inside(offset as u64, element.size(), self.hold.len_bytes())?;
        Ok(Self { offset, layout, element, ..self.clone() })
    }

    /// # Errors
    /// `Misuse` for an array that may only be read.
    pub(super) fn check_writable(&self) -> Result<()> {
        if !self.is_readonly {
            return Ok(());
        }
        Err(Error::new(Kind::Misuse, format!("expected a writable array, got {self:?}: copy it into one of your own")))
    }

    /// Whether two arrays may share a byte, as far as the bytes that they reach tell.
    pub fn may_overlap(&self, other: &Self) -> bool {
        let reach = |array: &Self| {
            let (low, high) = array.layout.extent(array.element.size()).unwrap_or((0, 0));
            (array.offset.wrapping_add_signed(low), array.offset.wrapping_add_signed(high))
        };
        let is_same = self.hold.arena().id() == other.hold.arena().id() && self.hold.block() == other.hold.block();
        let ((low, high), (from, to)) = (reach(self), reach(other));
        is_same && low < to && from < high
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readonly = if self.is_readonly { ", read-only" } else { "" };
        write!(f, "<Array {:?} {}{readonly}>", self.shape(), self.element.name())
    }
}
