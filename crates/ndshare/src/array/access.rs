//! Reading and writing items that other processes may be writing at the same time.
//!
//! No Rust reference to the bytes is ever made in safe code: items are moved by raw pointers, one by one as relaxed
//! atomics or in bulk by the byte movers. What is moved in bulk while somebody writes may be part old and part new; a
//! lock, a ring or a queue says when it is whole.

use super::item::Item;
use super::ndarray::Array;
use crate::arena::{Arena, Hold, no_memory};
use crate::element::Element;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, Cpu, Items, Rows, Stores};
use crate::layout::Layout;
use std::marker::PhantomData;
use std::sync::Arc;

impl Array {
    /// A new array with the items of a slice in C order.
    ///
    /// # Errors
    /// `ArenaFull`; `InvalidValue` when the shape has not as many items.
    pub fn from_slice<T: Item>(arena: &Arc<Arena>, shape: &[usize], items: &[T]) -> Result<Self> {
        check_count(shape, items.len())?;
        let array = Self::empty(arena, shape, T::NUMBER)?;
        array.copy_from_slice(items)?;
        Ok(array)
    }

    /// A new contiguous array that `make` fills. It begins as zeros, and nobody else has it yet, so that it is an
    /// ordinary slice inside.
    ///
    /// # Errors
    /// `ArenaFull`; `InvalidValue` for a shape that is too large.
    pub fn build<T: Item>(arena: &Arc<Arena>, shape: &[usize], make: impl FnOnce(&mut [T])) -> Result<Self> {
        let array = Self::zeros(arena, shape, T::NUMBER)?;
        // SAFETY: the block was allocated above with room for these items, all bytes of it are some number, and it is
        // aligned for them; until this function returns no other process and no other code has a name for it.
        make(unsafe { std::slice::from_raw_parts_mut(array.as_ptr().cast(), array.len()) });
        Ok(array)
    }

    /// The item at `index`.
    ///
    /// # Errors
    /// `InvalidValue` for an item that there is not; `InvalidType` when items are of another type.
    #[inline]
    pub fn read<T: Item>(&self, index: &[usize]) -> Result<T> {
        let at = self.address::<T>(index)?;
        if at.is_aligned() {
            // SAFETY: the item lies inside the block, as was checked when the array was made.
            return Ok(unsafe { T::load(at) });
        }
        // SAFETY: as above; any bytes are a number.
        Ok(unsafe { at.read_unaligned() })
    }

    /// Writes the item at `index`.
    ///
    /// # Errors
    /// As [`Self::read`]; `Misuse` when the array may only be read.
    #[inline]
    pub fn write<T: Item>(&self, index: &[usize], value: T) -> Result<()> {
        self.check_writable()?;
        let at = self.address::<T>(index)?;
        if at.is_aligned() {
            // SAFETY: as in `read`; and the block is writable.
            unsafe { T::store(at, value) };
        } else {
            // SAFETY: as above.
            unsafe { at.write_unaligned(value) };
        }
        Ok(())
    }

    #[inline]
    fn address<T: Item>(&self, index: &[usize]) -> Result<*mut T> {
        self.check_type::<T>()?;
        let offset = self.layout().offset_of(index).ok_or_else(|| {
            Error::value(format!("expected an index into an array of shape {:?}, got {index:?}", self.shape()))
        })?;
        Ok(self.as_ptr().wrapping_offset(offset).cast())
    }

    /// Writes `value` to every item.
    ///
    /// # Errors
    /// `InvalidType` when items are of another type; `Misuse` when the array may only be read.
    pub fn fill<T: Item>(&self, value: T) -> Result<()> {
        self.check_writable()?;
        self.check_type::<T>()?;
        // One item that stands at every index: all its strides are 0.
        let (shape, strides) = (self.shape().to_vec(), vec![0; self.ndim()]);
        let from = Side { first: (&raw const value).cast_mut().cast(), layout: &Layout::new(shape, strides)? };
        // SAFETY: every item of the array lies inside its block; the source is one live number of this frame.
        unsafe { copy(&self.side(), &from, self.element().size()) }
    }

    /// Copies a slice into the array, in C order.
    ///
    /// # Errors
    /// `InvalidValue` when it has not as many items; as [`Self::fill`].
    pub fn copy_from_slice<T: Item>(&self, items: &[T]) -> Result<()> {
        self.check_writable()?;
        self.check_type::<T>()?;
        check_count(self.shape(), items.len())?;
        let (layout, _) = Layout::contiguous(self.shape(), size_of::<T>())?;
        let from = Side { first: items.as_ptr().cast_mut().cast(), layout: &layout };
        // SAFETY: every item of the array lies inside its block, and the slice has one for each. A slice of private
        // memory shares no byte with the block, and nothing else can be had as a slice without unsafe code.
        unsafe { copy(&self.side(), &from, size_of::<T>()) }
    }

    /// Copies the items into a slice, in C order.
    ///
    /// # Errors
    /// `InvalidValue` when it has not as many items; `InvalidType` when they are of another type.
    pub fn copy_to_slice<T: Item>(&self, items: &mut [T]) -> Result<()> {
        self.check_type::<T>()?;
        check_count(self.shape(), items.len())?;
        let (layout, _) = Layout::contiguous(self.shape(), size_of::<T>())?;
        let to = Side { first: items.as_mut_ptr().cast(), layout: &layout };
        // SAFETY: as in `copy_from_slice`; any bytes are a number.
        unsafe { copy(&to, &self.side(), size_of::<T>()) }
    }

    /// The items in C order.
    ///
    /// # Errors
    /// `InvalidType` when they are of another type; `InvalidValue` when they are too many for a contiguous array;
    /// `ArenaFull` when there is no memory for them.
    pub fn to_vec<T: Item>(&self) -> Result<Vec<T>> {
        self.check_type::<T>()?;
        let (layout, _) = Layout::contiguous(self.shape(), size_of::<T>())?;
        let mut items = room_for::<T>(self.len())?;
        let to = Side { first: items.as_mut_ptr().cast(), layout: &layout };
        // SAFETY: the vector has room for every item; each is written by the copy, and any bytes are a number.
        unsafe {
            copy(&to, &self.side(), size_of::<T>())?;
            items.set_len(self.len());
        }
        Ok(items)
    }

    /// The bytes of the items in C order, whatever they are.
    ///
    /// # Errors
    /// `InvalidValue` when they are too many for a contiguous array; `ArenaFull` when there is no memory for them.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let size = self.element().size();
        let (layout, len_bytes) = Layout::contiguous(self.shape(), size)?;
        let mut bytes = room_for(len_bytes)?;
        let to = Side { first: bytes.as_mut_ptr(), layout: &layout };
        // SAFETY: as in `to_vec`.
        unsafe {
            copy(&to, &self.side(), size)?;
            bytes.set_len(len_bytes);
        }
        Ok(bytes)
    }

    /// Copies bytes into the items in C order, whatever they are.
    ///
    /// # Errors
    /// `InvalidValue` when they are not as many; `Misuse` when the array may only be read.
    pub fn copy_from_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.check_writable()?;
        let size = self.element().size();
        let (layout, len_bytes) = Layout::contiguous(self.shape(), size)?;
        if bytes.len() != len_bytes {
            return Err(Error::value(format!("expected {len_bytes} bytes for {self:?}, got {}", bytes.len())));
        }
        let from = Side { first: bytes.as_ptr().cast_mut(), layout: &layout };
        // SAFETY: as in `copy_from_slice`.
        unsafe { copy(&self.side(), &from, size) }
    }

    /// Copies the items of another array of the same shape and type. The two may overlap.
    ///
    /// # Errors
    /// `InvalidValue` for another shape; `InvalidType` for another type; `Misuse` when the array may only be read.
    pub fn copy_from(&self, other: &Self) -> Result<()> {
        self.check_writable()?;
        if self.element() != other.element() {
            let (ours, theirs) = (self.element(), other.element());
            return Err(Error::new(Kind::InvalidType, format!("expected items of type {ours}, got {theirs}")));
        }
        if self.shape() != other.shape() {
            let (ours, theirs) = (self.shape(), other.shape());
            return Err(Error::value(format!("expected an array of shape {ours:?}, got {theirs:?}")));
        }
        if self.may_overlap(other) {
            return self.copy_from_bytes(&other.to_bytes()?);
        }
        // SAFETY: every item of both lies inside its block, and the two share no byte.
        unsafe { copy(&self.side(), &other.side(), self.element().size()) }
    }

    /// The items as cells, which may be read and written while others do so, too.
    ///
    /// # Errors
    /// `InvalidType` when items are of another type; `InvalidValue` when they do not follow each other in C order, or
    /// are not aligned.
    pub fn cells<T: Item>(&self) -> Result<Cells<'_, T>> {
        let first = self.contiguous::<T>()?;
        Ok(Cells { first, len: self.len(), is_readonly: self.is_readonly(), array: PhantomData })
    }

    /// The items as a slice.
    ///
    /// # Errors
    /// As [`Self::cells`].
    ///
    /// # Safety
    /// Nobody, in no process, writes to the items while the slice lives. A published frame of a ring and a value of a
    /// cache are never written again, by processes that use this library.
    pub unsafe fn as_slice<T: Item>(&self) -> Result<&[T]> {
        let first = self.contiguous::<T>()?;
        // SAFETY: the items lie inside the block, which this array holds, aligned and without gaps; any bytes are a
        // number; the caller says that nobody writes.
        Ok(unsafe { std::slice::from_raw_parts(first, self.len()) })
    }

    fn contiguous<T: Item>(&self) -> Result<*mut T> {
        self.check_type::<T>()?;
        let first = self.as_ptr().cast::<T>();
        if self.layout().is_contiguous(size_of::<T>()) && first.is_aligned() {
            return Ok(first);
        }
        Err(Error::value(format!(
            "expected items that follow each other in C order, got shape {:?} with strides {:?}: copy them first",
            self.shape(),
            self.strides()
        )))
    }

    fn check_type<T: Item>(&self) -> Result<()> {
        check_type::<T>(self.element())
    }

    fn side(&self) -> Side<'_> {
        debug_assert!(is_inside(self.hold(), self.offset(), self.layout(), self.element().size()));
        Side { first: self.as_ptr(), layout: self.layout() }
    }
}

/// The items in C order of an array whose bytes are a copy of this process's own.
///
/// # Errors
/// `InvalidType` when they are of another type; `InvalidValue` for an array that does not lie inside, and for one of too
/// many items; `ArenaFull` when there is no memory for them.
pub(crate) fn items_in<T: Item>(bytes: &[u8], first: usize, layout: &Layout, element: &Element) -> Result<Vec<T>> {
    check_type::<T>(element)?;
    layout.check_inside(first as u64, size_of::<T>(), bytes.len())?;
    let count = layout.items().unwrap_or(0);
    let (plain, _) = Layout::contiguous(layout.shape(), size_of::<T>())?;
    let mut items = room_for::<T>(count)?;
    let to = Side { first: items.as_mut_ptr().cast(), layout: &plain };
    let from = Side { first: bytes.as_ptr().cast_mut().wrapping_add(first), layout };
    // SAFETY: the vector has room for every item, each of which is written by the copy, and any bytes are a number; the
    // other side, which is only read, lies inside `bytes`, as just checked.
    unsafe {
        copy(&to, &from, size_of::<T>())?;
        items.set_len(count);
    }
    Ok(items)
}

/// Room for items of which strides of 0 may make more than there is memory for.
fn room_for<T>(count: usize) -> Result<Vec<T>> {
    let mut items = Vec::new();
    items.try_reserve_exact(count).map_err(|_| no_memory(count.saturating_mul(size_of::<T>())))?;
    Ok(items)
}

fn check_type<T: Item>(element: &Element) -> Result<()> {
    if element.number() == Some(T::NUMBER) {
        return Ok(());
    }
    let wanted = Element::of(T::NUMBER);
    Err(Error::new(Kind::InvalidType, format!("expected items of type {wanted}, got {element}")))
}

fn is_inside(hold: &Hold, offset: usize, layout: &Layout, itemsize: usize) -> bool {
    layout.check_inside(offset as u64, itemsize, hold.len_bytes()).is_ok()
}

fn check_count(shape: &[usize], count: usize) -> Result<()> {
    if Layout::contiguous(shape, 1)?.0.items() == Some(count) {
        return Ok(());
    }
    Err(Error::value(format!("expected as many items as shape {shape:?} has, got {count}")))
}

/// The items of a contiguous array, each of which any process may write at any time.
///
/// Each read and each write is of one whole number (of one part, for complex numbers), in no order with others.
pub struct Cells<'a, T> {
    first: *mut T,
    len: usize,
    is_readonly: bool,
    array: PhantomData<&'a Array>,
}

// SAFETY: the cells are reached by atomics alone, and the array that is borrowed keeps their memory.
unsafe impl<T: Item> Send for Cells<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Item> Sync for Cells<'_, T> {}

impl<T: Item> Cells<'_, T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number in a cell; none behind the last.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: the cell is one of those that the array has, aligned.
        (index < self.len).then(|| unsafe { T::load(self.first.add(index)) })
    }

    /// Puts a number into a cell, and says whether that was done: there is no cell behind the last, and none to write to
    /// in an array that may only be read.
    #[inline]
    pub fn set(&self, index: usize, value: T) -> bool {
        let is_there = index < self.len && !self.is_readonly;
        if is_there {
            // SAFETY: as in `get`; and the block is writable.
            unsafe { T::store(self.first.add(index), value) };
        }
        is_there
    }

    /// All numbers, each read when it is asked for.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).filter_map(|index| self.get(index))
    }
}

/// One side of a copy.
struct Side<'a> {
    first: *mut u8,
    layout: &'a Layout,
}

/// Copies items, whatever lies between them.
///
/// # Safety
/// Both sides have the same shape; every item of `size` bytes is readable on one and writable on the other; no written
/// byte is a read one.
unsafe fn copy(to: &Side<'_>, from: &Side<'_>, size: usize) -> Result<()> {
    debug_assert_eq!(to.layout.shape(), from.layout.shape());
    let cpu = Cpu::chosen()?;
    if to.layout.items() == Some(0) || size == 0 {
        return Ok(());
    }
    if to.layout.is_contiguous(size) && from.layout.is_contiguous(size) {
        let run = to.layout.items().unwrap_or(0) * size;
        let rows = Rows { rows: 1, run, dst_row: 0, src_row: 0 };
        // SAFETY: contiguous items are one row, for which the caller vouches.
        unsafe { kernel::copy_rows(cpu, Stores::Text, to.first, from.first, &rows) };
        return Ok(());
    }
    // SAFETY: as the caller says.
    unsafe { copy_axis(cpu, to, from, size, 0, (0, 0)) };
    Ok(())
}

/// Copies what lies behind one index of each axis before `axis`; `at` is where, on both sides.
///
/// # Safety
/// As [`copy`]; no length is 0.
unsafe fn copy_axis(cpu: Cpu, to: &Side<'_>, from: &Side<'_>, size: usize, axis: usize, at: (isize, isize)) {
    let (shape, ndim) = (to.layout.shape(), to.layout.ndim());
    let steps = |axis: usize| (to.layout.strides()[axis], from.layout.strides()[axis]);
    if axis + 2 < ndim {
        let (dst, src) = steps(axis);
        for i in 0..shape[axis].cast_signed() {
            // SAFETY: as the caller says, one index further.
            unsafe { copy_axis(cpu, to, from, size, axis + 1, (at.0 + i * dst, at.1 + i * src)) };
        }
        return;
    }
    let (rows, (dst_row, src_row)) = if axis + 1 < ndim { (shape[axis], steps(axis)) } else { (1, (0, 0)) };
    let (count, (dst_step, src_step)) = if ndim > 0 { (shape[ndim - 1], steps(ndim - 1)) } else { (1, (0, 0)) };
    let items = Items { rows, count, size, dst_row, src_row, dst_step, src_step };
    // SAFETY: these are the items of the last two axes, for which the caller vouches.
    unsafe { kernel::copy_items(cpu, to.first.wrapping_offset(at.0), from.first.wrapping_offset(at.1), &items) }
}
