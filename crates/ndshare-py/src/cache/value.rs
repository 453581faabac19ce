//! Values as arrays, and arrays as values.
//!
//! A value is a whole block that nobody writes to any more. An array that lies alone in a block of the cache's arena
//! becomes one without a copy; everything else is copied into a block of its own.

use std::sync::Arc;

use ndshare::arena::{Arena, Hold};
use ndshare::array::Description;
use ndshare::cache::{self as library, Found};
use ndshare::element::Element;
use ndshare::{Error, Kind, Result};
use numpy::npyffi::npy_intp;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::dtype::Dtype;
use crate::error::to_python;
use crate::guard::Guarded;
use crate::ndarray::{Facts, Operand, Order, array_over, array_owned_by, copy_into, described, freeze, view_base};
use crate::owner;
use crate::shared::{block_under, final_block};
use crate::wait::{detached, interruptible, quick};

/// How many different layouts a cache remembers.
const MOST_LAYOUTS: usize = 64;

/// A layout that came with a value, and what it was made into, for the next value that says the same.
pub(crate) struct Known {
    bytes: Vec<u8>,
    lengths: Vec<npy_intp>,
    strides: Vec<isize>,
    is_c: bool,
    dtype: Py<PyAny>,
    /// The first byte that the items reach, from the first item on, and the first beyond.
    reach: (isize, isize),
}

/// The layouts that were seen so far.
pub(crate) struct Layouts(Guarded<Vec<Arc<Known>>>);

impl Layouts {
    pub(crate) const fn new() -> Self {
        Self(Guarded::new(Vec::new()))
    }

    #[inline]
    fn known(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Arc<Known>> {
        let found = self.0.look(|list| list.iter().find(|known| known.bytes == bytes).cloned());
        found.map_or_else(|| self.learn(py, bytes), Ok)
    }

    #[cold]
    fn learn(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<Arc<Known>> {
        let known = Arc::new(Known::of(py, bytes)?);
        let mut list = self.0.look(Vec::clone);
        if list.len() == MOST_LAYOUTS {
            list.remove(0);
        }
        list.push(known.clone());
        // What another thread learned meanwhile is learned again. What goes may end a dtype, which is Python's affair.
        drop(self.0.replace(list));
        Ok(known)
    }

    /// The array of a value. It is read-only and keeps the value.
    #[inline]
    pub(crate) fn array<'py>(&self, py: Python<'py>, found: Found) -> PyResult<Bound<'py, PyAny>> {
        let known = self.known(py, &found.view)?;
        let offset = isize::try_from(found.offset).unwrap_or(isize::MAX);
        let (first, end) = (offset.checked_add(known.reach.0), offset.checked_add(known.reach.1));
        let len = isize::try_from(found.hold.len_bytes()).unwrap_or(isize::MAX);
        if first.is_none_or(|first| first < 0) || end.is_none_or(|end| end > len) {
            return Err(bad_value("it reaches out of its block"));
        }
        let data = found.hold.as_ptr().wrapping_offset(offset);
        let owner = Py::new(py, owner::Hold::of_value(found.hold))?.into_any();
        let dtype = Dtype::known(known.dtype.bind(py).clone());
        // NumPy takes an array without strides for an aligned one.
        let is_plain = known.is_c && found.offset.is_multiple_of(64);
        let order = if is_plain { Order::C } else { Order::Strides(&known.strides) };
        // SAFETY: every item lies in the block, as was just seen, which the owner keeps; no length is negative.
        unsafe { array_owned_by(py, owner, data, dtype, &known.lengths, &order, false) }
    }
}

impl Known {
    fn of(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let Description { layout, element } = Description::decode(bytes).map_err(|e| to_python(py, &e))?;
        let dtype = dtype_of(py, element.as_ref())?;
        let reach = layout.extent(dtype.itemsize()).ok_or_else(|| bad_value("its shape is too large"))?;
        let (shape, strides) = (layout.shape(), layout.strides().to_vec());
        let lengths = shape.iter().map(|&length| npy_intp::try_from(length));
        let lengths = lengths.collect::<std::result::Result<_, _>>().map_err(|_| bad_value("a length is too large"))?;
        let plain = ndshare::layout::contiguous(shape, dtype.itemsize(), false);
        let is_c = plain.is_ok_and(|(plain, _)| plain == strides);
        Ok(Self { bytes: bytes.to_vec(), lengths, strides, is_c, dtype: dtype.as_any().clone().unbind(), reach })
    }
}

fn dtype_of<'py>(py: Python<'py>, element: Option<&Element>) -> PyResult<Dtype<'py>> {
    let element = element.ok_or_else(|| bad_value("it says nothing of its dtype"))?;
    Dtype::of_element(py, element)
}

#[cold]
fn bad_value(why: &str) -> PyErr {
    PyValueError::new_err(format!("expected a value of this cache, got one that contradicts it: {why}"))
}

/// A value that is to be kept.
pub(crate) struct Offer {
    pub(crate) hold: Hold,
    offset: u64,
    view: Vec<u8>,
}

impl Offer {
    pub(crate) fn value(&self) -> library::Value<'_> {
        library::Value { hold: &self.hold, offset: self.offset, view: &self.view }
    }

    pub(crate) fn found(self) -> Found {
        Found { hold: self.hold, offset: self.offset, view: self.view }
    }

    /// The value that an array becomes; none when the arena has no room for it.
    ///
    /// `is_given`: the caller has no further use for the array, so it may turn read-only.
    pub(crate) fn of(
        py: Python<'_>,
        cache: &library::Cache,
        array: &Bound<'_, PyAny>,
        is_given: bool,
    ) -> PyResult<Option<Self>> {
        let Some(facts) = Facts::of(array) else { return Err(bad_value("it is no array")) };
        let dtype = Dtype::of(py, Some(Dtype::of_array(array)?.as_any()))?;
        let element = dtype.stored_element()?;
        let adopted = adoptable(py, cache.head().arena(), array, &facts, is_given)?;
        let Some(hold) = adopted else { return Self::copy_of(py, cache, array, dtype, element) };
        freeze(array);
        let offset = (facts.data - hold.as_ptr() as usize) as u64;
        let view = described(facts.shape, facts.strides, Some(element)).encode();
        Ok(Some(Self { hold, offset, view }))
    }

    fn copy_of(
        py: Python<'_>,
        cache: &library::Cache,
        array: &Bound<'_, PyAny>,
        dtype: Dtype<'_>,
        element: Element,
    ) -> PyResult<Option<Self>> {
        let plain = array.call_method1(intern!(py, "view"), (py.import("numpy")?.getattr("ndarray")?,))?;
        let Some(from) = Operand::of(&plain) else { return Err(bad_value("it is no array")) };
        let is_fortran = from.is_f && !from.is_c;
        let made = ndshare::layout::contiguous(from.shape, from.itemsize, is_fortran);
        let (strides, len_bytes) = made.map_err(|error| to_python(py, &error))?;
        let Some(hold) = room(py, cache, len_bytes.max(1))? else { return Ok(None) };
        let lengths: Vec<npy_intp> = from.shape.iter().map(|&length| length.cast_signed()).collect();
        let order = if is_fortran { Order::Fortran } else { Order::C };
        // SAFETY: the block has room for a contiguous array of this shape, whose lengths are those of an array.
        let to = unsafe { array_over(py, hold.clone(), 0, dtype, &lengths, &order, true)? };
        copy_into(&to, &plain)?;
        let view = described(from.shape, &strides, Some(element)).encode();
        Ok(Some(Self { hold, offset: 0, view }))
    }
}

/// The block of an array that may become a value as it is.
fn adoptable(
    py: Python<'_>,
    arena: &Arc<Arena>,
    array: &Bound<'_, PyAny>,
    facts: &Facts<'_>,
    is_given: bool,
) -> PyResult<Option<Hold>> {
    let Some(hold) = block_under(py, facts)?.filter(|hold| hold.arena().id() == arena.id()) else { return Ok(None) };
    let len_bytes = facts.shape.iter().product::<usize>().saturating_mul(facts.itemsize);
    // What a view leaves out would be kept for nothing.
    if len_bytes < hold.len_bytes() / 4 * 3 {
        return Ok(None);
    }
    if final_block(array, |_| ()).is_some() {
        return Ok(Some(hold));
    }
    // A view may be read-only while what it is a view of is not.
    let is_given = is_given || (facts.readonly && view_base(array).is_none_or(|base| Facts::of(&base).is_none()));
    let is_private = is_given && detached(py, || hold.is_private())?;
    Ok(is_private.then_some(hold))
}

/// A block of the cache's arena; its caches make room if need be. None when there is none.
fn room(py: Python<'_>, cache: &library::Cache, len_bytes: usize) -> PyResult<Option<Hold>> {
    let arena = cache.head().arena();
    if let Some(hold) = quick(py, || arena.alloc_quick(len_bytes, 64))? {
        return Ok(Some(hold));
    }
    // The caches of the arena give way before this is an error.
    interruptible(py, |deadline| in_room(arena.alloc(len_bytes, 64, false, deadline)))
}

/// A full arena is no error here.
pub(crate) fn in_room<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if is_full(&error) => Ok(None),
        other => other.map(Some),
    }
}

fn is_full(error: &Error) -> bool {
    error.kind() == Kind::ArenaFull
}
