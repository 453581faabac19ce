//! NumPy's array object: where its bytes are, and how one is made over a block.
//!
//! NumPy's header reads the fields of an array in place, and its table has no functions for them but one, from 2.5 on, which
//! says where they are: under the ABI for free-threaded interpreters (abi3t), where nobody may know how long the head of an
//! object is. [`fields_of`] is that function there, and elsewhere the field itself.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use ndshare::array::{Description, Layout};
use ndshare::element::Element;
use ndshare::layout;
use ndshare::ring::Writing;
use numpy::npyffi::{
    self, NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NpyTypes,
    PY_ARRAY_API, PyArray_Descr, PyArrayObject_fields, npy_intp,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::dtype::{Dtype, has_pointers, itemsize_of};
use crate::guard::Once;
use crate::owner::Hold;

/// Where an array's bytes are, and all else that a copy must know; borrowed from the array.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) data: usize,
    pub(crate) shape: &'a [usize],
    pub(crate) strides: &'a [isize],
    pub(crate) itemsize: usize,
    pub(crate) readonly: bool,
    /// Whether it is contiguous in C order, and in Fortran order.
    pub(crate) is_c: bool,
    pub(crate) is_f: bool,
    /// Its dtype.
    pub(crate) descr: NonNull<PyArray_Descr>,
    /// The array itself.
    pub(crate) object: NonNull<ffi::PyObject>,
    /// What keeps its bytes; null when it does so itself.
    base: *mut ffi::PyObject,
}

/// Refuses an array of a subclass whose items alone would mean something else: a masked one, or one with a unit.
///
/// # Errors
/// TypeError, which says what to do.
#[inline]
pub(crate) fn check_items(array: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached.
    let is_exact = unsafe { npyffi::PyArray_CheckExact(array.py(), array.as_ptr()) } != 0;
    if is_exact { Ok(()) } else { check_items_of(array) }
}

#[cold]
fn check_items_of(array: &Bound<'_, PyAny>) -> PyResult<()> {
    static CHECK: Once<Py<PyAny>> = Once::new();
    CHECK.import(array.py(), "ndshare._items", "check")?.call1((array,)).map(drop)
}

impl<'a> Operand<'a> {
    /// None for a subclass of ndarray and for anything else.
    #[inline]
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> Option<Operand<'a>> {
        // SAFETY: attached.
        let is_exact = unsafe { npyffi::PyArray_CheckExact(object.py(), object.as_ptr()) } != 0;
        // SAFETY: an array.
        if is_exact { unsafe { Self::of_array(object) } } else { None }
    }

    /// The same for a subclass, too: its items as those of a plain array.
    #[inline]
    pub(crate) fn of_any(object: &'a Bound<'_, PyAny>) -> Option<Operand<'a>> {
        // SAFETY: an array.
        if is_array(object) { unsafe { Self::of_array(object) } } else { None }
    }

    /// # Safety
    /// `object` is an array.
    #[inline]
    unsafe fn of_array(object: &'a Bound<'_, PyAny>) -> Option<Operand<'a>> {
        // SAFETY: it is an array, so it has these fields; shape and strides live as long as the array is not
        // resized, which needs the only reference to it.
        unsafe {
            let fields = &*fields_of(object);
            let ndim = usize::try_from(fields.nd).unwrap_or(0);
            let descr = NonNull::new(fields.descr)?;
            Some(Operand {
                data: fields.data as usize,
                shape: lengths(fields.dimensions.cast(), ndim),
                strides: lengths(fields.strides, ndim),
                itemsize: itemsize_of(object.py(), descr),
                readonly: fields.flags & NPY_ARRAY_WRITEABLE == 0,
                is_c: fields.flags & NPY_ARRAY_C_CONTIGUOUS != 0,
                is_f: fields.flags & NPY_ARRAY_F_CONTIGUOUS != 0,
                descr,
                object: NonNull::new(object.as_ptr())?,
                base: fields.base,
            })
        }
    }

    /// The first byte that the array reaches, and how many from there on; at least 1, so that an empty array has
    /// a place too.
    pub(crate) fn reach(&self) -> Option<(usize, usize)> {
        reach(self.data, self.shape, self.strides, self.itemsize)
    }

    /// Whether its items are, or have in them, pointers into this process: they mean nothing to another, wherever they lie.
    pub(crate) fn has_pointers(&self, py: Python<'_>) -> bool {
        has_pointers(py, self.descr)
    }

    /// Bytes of all its items.
    pub(crate) fn nbytes(&self) -> usize {
        self.size().saturating_mul(self.itemsize)
    }

    /// How many bytes from the start of a block its first item is.
    pub(crate) fn offset_in(&self, hold: &ndshare::arena::Hold) -> u64 {
        (self.data - hold.as_ptr() as usize) as u64
    }

    /// What it is, without where. NumPy's arrays have no more axes than a layout may.
    pub(crate) fn described(&self, element: Option<Element>) -> Description {
        let layout = Layout::new(self.shape.to_vec(), self.strides.to_vec()).unwrap_or_default();
        Description { layout, element }
    }

    /// One more reference to the array.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: attached; the array lives as long as what borrows from it.
        unsafe { Bound::from_borrowed_ptr(py, self.object.as_ptr()) }
    }

    /// The same array with other shape and strides.
    pub(crate) fn stretched<'b>(self, shape: &'b [usize], strides: &'b [isize]) -> Operand<'b>
    where
        'a: 'b,
    {
        Operand { shape, strides, is_c: false, is_f: false, ..self }
    }

    /// The bytes of the array that it is a view of; its own when it is none.
    pub(crate) fn whole_bytes(&self, py: Python<'_>) -> usize {
        // SAFETY: attached; the array that this is borrowed from keeps its base.
        let base = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.base) };
        let whole = base.as_ref().and_then(Operand::of_any).and_then(|base| base.reach());
        whole.map_or(self.size() * self.itemsize, |(_, length)| length)
    }

    /// How many items it has.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Items of an array that lie side by side, in the order of their indices; borrowed from the array.
#[derive(Clone, Copy)]
pub(crate) struct Items<'a> {
    data: usize,
    len: usize,
    array: PhantomData<&'a ()>,
}

impl<'a> Operand<'a> {
    /// Its items, if they lie so.
    #[inline]
    pub(crate) fn items(&self) -> Option<Items<'a>> {
        self.is_c.then(|| Items { data: self.data, len: self.nbytes(), array: PhantomData })
    }

    /// The arrays along its first axis, each with its items, if all of these lie so; none for an array without axes.
    pub(crate) fn rows(&self) -> Option<(Operand<'a>, impl Iterator<Item = Items<'a>> + use<'a>)> {
        let (&count, shape) = self.shape.split_first()?;
        let (&step, strides) = self.strides.split_first()?;
        let (plain, len) = layout::contiguous(shape, self.itemsize, false).ok()?;
        let lie_so =
            self.is_c || len == 0 || shape.iter().zip(strides).zip(&plain).all(|((&n, a), b)| n == 1 || a == b);
        let data = self.data;
        // An array of no rows at all has none to be read.
        let row = move |index| Items { data: data.wrapping_add_signed(step * index as isize), len, array: PhantomData };
        let one = Operand { shape, strides, is_c: true, is_f: false, ..*self };
        lie_so.then(|| (one, (0..count).map(row)))
    }
}

impl Items<'_> {
    /// How many bytes they are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Copies them into a frame that is being filled, as its first ones.
    ///
    /// # Errors
    /// `InvalidValue` for a frame that is smaller; `Misuse` for one that was published.
    #[inline]
    pub(crate) fn copy_to(self, writing: &Writing) -> ndshare::Result<()> {
        let hold = writing.hold()?;
        if self.len > hold.len_bytes() {
            let text = format!("expected a frame with room for {} bytes, got one of {}", self.len, hold.len_bytes());
            return Err(ndshare::Error::new(ndshare::Kind::InvalidValue, text));
        }
        // SAFETY: NumPy vouches for the items of an array, which cannot be resized while something borrows from it. The
        // block is one that only this writer holds, and has room; an array over it would be another holder.
        unsafe { ptr::copy_nonoverlapping(self.data as *const u8, hold.as_ptr(), self.len) };
        Ok(())
    }
}

/// The first byte that strided memory reaches, and how many from there on; at least 1.
pub(crate) fn reach(data: usize, shape: &[usize], strides: &[isize], itemsize: usize) -> Option<(usize, usize)> {
    let (low, high) = layout::extent(shape, strides, itemsize)?;
    let length = high.checked_sub(low)?;
    Some((data.checked_add_signed(low)?, usize::try_from(length).ok()?.max(1)))
}

/// NumPy leaves the pointers null or dangling for 0 dimensions.
///
/// # Safety
/// For `ndim > 0`, `first` points to `ndim` values that live as long as `'a`.
unsafe fn lengths<'a, T>(first: *const T, ndim: usize) -> &'a [T] {
    if ndim == 0 || first.is_null() {
        return &[];
    }
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(first, ndim) }
}

/// Lengths as NumPy's functions take them. No length of an array is beyond an `isize`.
pub(crate) fn npy_lengths(shape: &[usize]) -> &[npy_intp] {
    // SAFETY: both are integers of one size, of which any bytes are one.
    unsafe { std::slice::from_raw_parts(shape.as_ptr().cast(), shape.len()) }
}

/// How the items of a new array lie.
pub(crate) enum Order<'a> {
    C,
    Fortran,
    Strides(&'a [isize]),
}

/// Makes an ndarray over the block of `hold`, `offset` bytes from its start. The array keeps the hold.
///
/// # Safety
/// Every item of `lengths` and the order's strides lies inside the block, and no length is negative.
#[inline]
pub(crate) unsafe fn array_over<'py>(
    py: Python<'py>,
    hold: ndshare::arena::Hold,
    offset: usize,
    dtype: Dtype<'py>,
    lengths: &[npy_intp],
    order: &Order<'_>,
    writable: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (data, writable) = (hold.as_ptr().wrapping_add(offset), writable && !hold.is_readonly());
    let owner = Py::new(py, Hold::new(hold, writable))?.into_any();
    // SAFETY: the caller's; the owner keeps the block.
    unsafe { array_of_subclass(&plain_class(py), owner, data, dtype, lengths, order, writable) }
}

/// NumPy's own class of arrays.
#[inline]
pub(crate) fn plain_class(py: Python<'_>) -> Borrowed<'static, '_, PyType> {
    // SAFETY: attached; the class is a type, and never freed.
    unsafe {
        let class = npyffi::get_type_object(py, NpyTypes::PyArray_Type);
        Borrowed::<PyAny>::from_ptr(py, class.cast()).cast_unchecked()
    }
}

/// The same with any owner, from the address `data` on, as an array of the class `class`.
///
/// # Safety
/// Every item of `lengths` and the order's strides lies in memory that lives as long as `owner`, and no length is negative.
/// `class` is ndarray or a subclass of it that adds no fields of its own.
#[inline]
pub(crate) unsafe fn array_of_subclass<'py>(
    class: &Bound<'py, PyType>,
    owner: Py<PyAny>,
    data: *mut u8,
    dtype: Dtype<'py>,
    lengths: &[npy_intp],
    order: &Order<'_>,
    writable: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let (layout_flags, strides) = match order {
        Order::C => (NPY_ARRAY_C_CONTIGUOUS, ptr::null_mut()),
        Order::Fortran => (NPY_ARRAY_F_CONTIGUOUS, ptr::null_mut()),
        Order::Strides(strides) => (0, strides.as_ptr().cast_mut()),
    };
    let access = if writable { NPY_ARRAY_WRITEABLE } else { 0 };
    // SAFETY: attached; NumPy copies shape and strides, and steals the dtype. The bytes live as long as the owner,
    // which becomes the array's base below.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            class.as_type_ptr(),
            dtype.into_ptr(),
            lengths.len() as c_int,
            // NumPy only reads them.
            lengths.as_ptr().cast_mut(),
            strides,
            data.cast(),
            layout_flags | NPY_ARRAY_ALIGNED | access,
            ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner.into_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}

/// Whether it is an ndarray or of a subclass.
#[inline]
fn is_array(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached.
    unsafe { npyffi::PyArray_Check(object.py(), object.as_ptr()) != 0 }
}

/// Where NumPy keeps what it knows of an array.
///
/// # Safety
/// `array` is an array.
#[inline]
unsafe fn fields_of(array: &Bound<'_, PyAny>) -> *mut PyArrayObject_fields {
    // SAFETY: attached; the caller's.
    unsafe { npyffi::_PyArray_GET_ITEM_DATA(array.as_ptr().cast()) }
}

/// Turns an array read-only.
pub(crate) fn make_readonly(array: &Bound<'_, PyAny>) {
    if is_array(array) {
        // SAFETY: attached; the flags of an array may be changed by whoever has the interpreter.
        unsafe { (*fields_of(array)).flags &= !NPY_ARRAY_WRITEABLE };
    }
}

/// Turns an array read-only, and every array that it is a view of.
pub(crate) fn freeze(array: &Bound<'_, PyAny>) {
    let mut object = array.clone();
    loop {
        make_readonly(&object);
        match view_base(&object) {
            Some(base) if Operand::of_any(&base).is_some() => object = base,
            _ => return,
        }
    }
}

/// Gives an array that does not own its bytes another base, and drops the one that it had.
///
/// # Safety
/// The new base keeps the bytes of the array.
pub(crate) unsafe fn set_base(array: &Bound<'_, PyAny>, base: Py<PyAny>) {
    // SAFETY: attached; an array owns the reference in its field. Nobody reads it while it changes, and the old base is
    // dropped when the array has the new one.
    unsafe {
        let field = &raw mut (*fields_of(array)).base;
        let before = Bound::from_owned_ptr_or_opt(array.py(), field.replace(base.into_ptr()));
        drop(before);
    }
}

/// What an array is a view of, or what keeps its bytes; None when it owns them, or is no array.
pub(crate) fn view_base<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if !is_array(array) {
        return None;
    }
    // SAFETY: attached; an array keeps its base, which is null or an object.
    unsafe {
        let base = (*fields_of(array)).base;
        Bound::from_borrowed_ptr_or_opt(array.py(), base)
    }
}

/// What is at the base of an array and of all that it is a view of; None when the array owns its bytes.
pub(crate) fn base_of<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let mut object = array.clone();
    while is_array(&object) {
        object = view_base(&object)?;
    }
    Some(object)
}

/// Copies the items of one array into another of the same shape and dtype. NumPy lets other threads run meanwhile.
pub(crate) fn copy_into(to: &Bound<'_, PyAny>, from: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached; both are arrays, which NumPy checks for overlap and shape.
    let done = unsafe { PY_ARRAY_API.PyArray_CopyInto(to.py(), to.as_ptr().cast(), from.as_ptr().cast()) };
    if done < 0 { Err(PyErr::fetch(to.py())) } else { Ok(()) }
}
