//! Values as arrays, and arrays as values.
//!
//! A value is a whole block that nobody writes to any more. An array that lies alone in a block of the cache's arena
//! becomes one without a copy; everything else is copied into a block of its own.

use std::sync::Arc;

use ndshare::arena::Hold;
use ndshare::array::Description;
use ndshare::cache::{Cache, Found, Writers};
use ndshare::element::Element;
use ndshare::layout::{self, Layout};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::dtype::Dtype;
use crate::error::to_python;
use crate::guard::Guarded;
use crate::ndarray::{
    Facts, Operand, Order, array_over, array_owned_by, copy_into, described, freeze, npy_lengths, view_base,
};
use crate::owner;
use crate::shared::{block_under, final_block};
use crate::wait::{at_once, detached, interruptible, quick};

/// How many different layouts a cache remembers.
const MOST_LAYOUTS: usize = 64;

/// A layout that came with a value, and what it was made into, for the next value that says the same.
pub(crate) struct Known {
    bytes: Vec<u8>,
    layout: Layout,
    itemsize: usize,
    is_c: bool,
    dtype: Py<PyAny>,
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
        let Known { layout, itemsize, is_c, dtype, .. } = &*known;
        at_once(py, || layout.check_inside(found.offset, *itemsize, found.hold.len_bytes()))?;
        let data = found.hold.as_ptr().wrapping_add(found.offset as usize);
        let owner = Py::new(py, owner::Hold::of_value(found.hold))?.into_any();
        let dtype = Dtype::known(dtype.bind(py).clone());
        // NumPy takes an array without strides for an aligned one.
        let is_plain = *is_c && found.offset.is_multiple_of(64);
        let order = if is_plain { Order::C } else { Order::Strides(layout.strides()) };
        // SAFETY: every item lies in the block, as was just seen, which the owner keeps.
        unsafe { array_owned_by(py, owner, data, dtype, npy_lengths(layout.shape()), &order, false) }
    }
}

impl Known {
    fn of(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let Description { layout, element } = at_once(py, || Description::decode(bytes))?;
        let element =
            element.ok_or_else(|| PyValueError::new_err("expected a value that names its dtype, got none"))?;
        let dtype = Dtype::of_element(py, &element)?;
        let itemsize = dtype.itemsize();
        let is_c =
            layout::contiguous(layout.shape(), itemsize, false).is_ok_and(|(plain, _)| plain == layout.strides());
        Ok(Self { bytes: bytes.to_vec(), layout, itemsize, is_c, dtype: dtype.as_any().clone().unbind() })
    }
}

/// The value that an array becomes; none when the arena has no room for it.
///
/// `is_given`: the caller has no further use for the array, so it may turn read-only.
pub(super) fn value_of(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    is_given: bool,
) -> PyResult<Option<Found>> {
    let Some(facts) = Facts::of(array) else {
        return Err(PyValueError::new_err("expected a value that is an array, got another object"));
    };
    let dtype = Dtype::of(py, Some(Dtype::of_array(array)?.as_any()))?;
    let element = dtype.stored_element()?;
    let Some(hold) = adopted(py, cache, array, &facts, is_given)? else {
        return copied(py, cache, array, dtype, element);
    };
    freeze(array);
    let offset = (facts.data - hold.as_ptr() as usize) as u64;
    let view = described(facts.shape, facts.strides, Some(element)).encode();
    Ok(Some(Found { hold, offset, view }))
}

/// The block of an array that may become a value as it is.
fn adopted(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    facts: &Facts<'_>,
    is_given: bool,
) -> PyResult<Option<Hold>> {
    let Some(hold) = block_under(py, facts)? else { return Ok(None) };
    // A view may be read-only while what it is a view of is not.
    let is_frozen = || facts.readonly && view_base(array).is_none_or(|base| Facts::of(&base).is_none());
    let writers = match final_block(array, |_| ()) {
        Some(()) => Writers::Nobody,
        None if is_given || is_frozen() => Writers::Elsewhere,
        None => return Ok(None),
    };
    let len_bytes = facts.shape.iter().product::<usize>().saturating_mul(facts.itemsize);
    let is_adopted = detached(py, || cache.adopts(&hold, len_bytes, writers))?;
    Ok(is_adopted.then_some(hold))
}

/// The same items in a block of their own.
fn copied(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    dtype: Dtype<'_>,
    element: Element,
) -> PyResult<Option<Found>> {
    let plain = array.call_method1(intern!(py, "view"), (py.import("numpy")?.getattr("ndarray")?,))?;
    let Some(from) = Operand::of(&plain) else { return Ok(None) };
    let is_fortran = from.is_f && !from.is_c;
    let made = layout::contiguous(from.shape, from.itemsize, is_fortran);
    let (strides, len_bytes) = made.map_err(|error| to_python(py, &error))?;
    let quickly = quick(py, || cache.head().arena().alloc_quick(len_bytes.max(1), 64))?;
    let hold = match quickly {
        None => interruptible(py, |deadline| cache.room_for(len_bytes, deadline))?,
        found => found,
    };
    let Some(hold) = hold else { return Ok(None) };
    let order = if is_fortran { Order::Fortran } else { Order::C };
    // SAFETY: the block has room for a contiguous array of this shape, whose lengths are those of an array.
    let to = unsafe { array_over(py, hold.clone(), 0, dtype, npy_lengths(from.shape), &order, true)? };
    copy_into(&to, &plain)?;
    let view = described(from.shape, &strides, Some(element)).encode();
    Ok(Some(Found { hold, offset: 0, view }))
}
