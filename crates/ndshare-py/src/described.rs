//! What an array is, made ready for NumPy: of the frames of a ring, and of the values of a cache. The next one that says
//! the same is an array without anything being read again.

use std::sync::Arc;

use ndshare::arena::Hold;
use ndshare::array::Description;
use ndshare::element::Element;
use ndshare::layout::{self, Layout};
use ndshare::prim::SetOnce;
use numpy::PyArrayDescr;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::dtype::Dtype;
use crate::guard::Guarded;
use crate::ndarray::{Operand, Order, array_of_subclass, npy_lengths, plain_class};
use crate::owner;
use crate::wait::at_once;

/// A layout and a dtype.
pub(crate) struct Described {
    /// How the library says them; nothing where the context says so.
    said: Vec<u8>,
    layout: Layout,
    dtype: Py<PyArrayDescr>,
    itemsize: usize,
    len_bytes: usize,
    is_c: bool,
}

impl Described {
    /// A contiguous array of this shape, of which the context says all.
    pub(crate) fn contiguous(dtype: Dtype<'_>, shape: &[usize], is_fortran: bool) -> PyResult<Self> {
        let (py, itemsize) = (dtype.as_any().py(), dtype.itemsize());
        let (layout, len_bytes) = at_once(py, || {
            let (strides, len_bytes) = layout::contiguous(shape, itemsize, is_fortran)?;
            Ok((Layout::new(shape.to_vec(), strides)?, len_bytes))
        })?;
        let is_c = !is_fortran || layout.is_contiguous(itemsize);
        Ok(Self { said: Vec::new(), layout, dtype: dtype.unbind(), itemsize, len_bytes, is_c })
    }

    /// The same, which says itself what it is, but for the dtype where that is none.
    pub(crate) fn saying(mut self, element: Option<Element>) -> Self {
        self.said = Description { layout: self.layout.clone(), element }.encode();
        self
    }

    /// What bytes say; they may leave the dtype to the context.
    fn decode(py: Python<'_>, said: &[u8], usual: Option<&Py<PyArrayDescr>>) -> PyResult<Self> {
        let Description { layout, element } = at_once(py, || Description::decode(said))?;
        let dtype = match (element, usual) {
            (Some(element), _) => Dtype::of_element(py, &element)?,
            (None, Some(usual)) => Dtype::known(usual.bind(py).clone()),
            (None, None) => return Err(PyValueError::new_err("expected a value that names its dtype, got none")),
        };
        let itemsize = dtype.itemsize();
        let plain = layout::contiguous(layout.shape(), itemsize, false);
        let plain = plain.ok().filter(|(strides, _)| strides == layout.strides());
        let (is_c, len_bytes) = (plain.is_some(), plain.map_or(0, |(_, len_bytes)| len_bytes));
        Ok(Self { said: said.to_vec(), layout, dtype: dtype.unbind(), itemsize, len_bytes, is_c })
    }

    /// How the library says it.
    pub(crate) fn said(&self) -> &[u8] {
        &self.said
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    pub(crate) fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    pub(crate) fn dtype<'py>(&self, py: Python<'py>) -> Dtype<'py> {
        Dtype::known(self.dtype.bind(py).clone())
    }

    /// The same for the library, which has no word for each dtype.
    pub(crate) fn description(&self, py: Python<'_>) -> PyResult<Description> {
        Ok(Description { layout: self.layout.clone(), element: self.dtype(py).element()? })
    }

    /// Its bytes, when it is contiguous.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether the items of a contiguous array go in as they lie.
    #[inline]
    pub(crate) fn takes(&self, facts: &Operand<'_>) -> bool {
        self.is_c && facts.shape == self.shape() && facts.nbytes() == self.len_bytes
    }

    /// The address of the first item, `offset` bytes into a block. ValueError when an item does not lie inside.
    #[inline]
    pub(crate) fn place(&self, py: Python<'_>, hold: &Hold, offset: u64) -> PyResult<*mut u8> {
        self.place_in(py, (hold.as_ptr(), hold.len_bytes()), offset)
    }

    /// The same in other memory: its first byte, and how many it has.
    #[inline]
    pub(crate) fn place_in(&self, py: Python<'_>, (first, room): (*mut u8, usize), offset: u64) -> PyResult<*mut u8> {
        let is_inside = self.is_c && offset.checked_add(self.len_bytes as u64).is_some_and(|end| end <= room as u64);
        if !is_inside {
            at_once(py, || self.layout.check_inside(offset, self.itemsize, room))?;
        }
        Ok(first.wrapping_add(offset as usize))
    }

    /// Such an array, of the class `class`.
    ///
    /// # Safety
    /// `data` is what [`Self::place`] said of a block that `owner` keeps, and `class` is a subclass of ndarray that adds no
    /// fields of its own.
    #[inline]
    pub(crate) unsafe fn array<'py>(
        &self,
        class: &Bound<'py, PyType>,
        owner: Py<PyAny>,
        data: *mut u8,
        writable: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        // NumPy takes an array without strides for an aligned one.
        let is_plain = self.is_c && data.addr().is_multiple_of(64);
        let order = if is_plain { Order::C } else { Order::Strides(self.layout.strides()) };
        let (dtype, lengths) = (self.dtype(class.py()), npy_lengths(self.layout.shape()));
        // SAFETY: every item lies in the block, as `place` has seen, and the owner keeps that. The rest is the caller's.
        unsafe { array_of_subclass(class, owner, data, dtype, lengths, &order, writable) }
    }

    /// Such an array over the bytes of one item from a byte on, as NumPy's views of fields are; it keeps the array of that
    /// item, and is writable if that is. ValueError when it does not lie inside.
    #[inline]
    pub(crate) fn part_of<'py>(
        &self,
        whole: &Operand<'_>,
        class: &Bound<'py, PyType>,
        offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let room = if whole.shape.is_empty() { whole.itemsize } else { 0 };
        let data = self.place_in(class.py(), (whole.data as *mut u8, room), offset)?;
        let owner = whole.object(class.py()).unbind();
        // SAFETY: every item lies in the one item of an array, which stays where it is while this one keeps it; the class is
        // that of an array, and one that has fields of its own finds them empty, as in a view by NumPy.
        unsafe { self.array(class, owner, data, !whole.readonly) }
    }

    /// The array that begins a block of ours.
    pub(crate) fn over<'py>(&self, py: Python<'py>, hold: Hold, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        let data = self.place(py, &hold, 0)?;
        let writable = writable && !hold.is_readonly();
        let owner = Py::new(py, owner::Hold::new(hold, writable))?.into_any();
        // SAFETY: the owner keeps the block; NumPy's own class of arrays.
        unsafe { self.array(&plain_class(py), owner, data, writable) }
    }
}

/// How many different descriptions are found without a lock: the first ones.
const MOST_AT_ONCE: usize = 16;
/// How many more are remembered: the latest ones.
const MOST_KNOWN: usize = 64;

/// Those that were met so far.
pub(crate) struct Descriptions {
    first: [SetOnce<Arc<Described>>; MOST_AT_ONCE],
    others: Guarded<Vec<Arc<Described>>>,
}

impl Descriptions {
    pub(crate) const fn new() -> Self {
        Self { first: [const { SetOnce::new() }; MOST_AT_ONCE], others: Guarded::new(Vec::new()) }
    }

    /// What bytes say, if they are among the first that were met. It takes no lock and counts no reference.
    #[inline]
    pub(crate) fn glimpse(&self, said: &[u8]) -> Option<&Arc<Described>> {
        self.first.iter().map_while(SetOnce::get).find(|known| known.said == said)
    }

    /// What bytes say; `usual` is the dtype where they say none.
    #[inline]
    pub(crate) fn of(&self, py: Python<'_>, said: &[u8], usual: Option<&Py<PyArrayDescr>>) -> PyResult<Arc<Described>> {
        self.glimpse(said).cloned().map_or_else(|| self.find_or_learn(py, said, usual), Ok)
    }

    #[cold]
    fn find_or_learn(&self, py: Python<'_>, said: &[u8], usual: Option<&Py<PyArrayDescr>>) -> PyResult<Arc<Described>> {
        let found = self.others.look(|list| list.iter().find(|known| known.said == said).cloned());
        if let Some(found) = found {
            return Ok(found);
        }
        let fresh = Arc::new(Described::decode(py, said, usual)?);
        if let Some(place) = self.first.iter().find(|place| place.get().is_none()) {
            // Where another thread was faster, it is learned again.
            place.set(fresh.clone());
            return Ok(fresh);
        }
        let mut list = self.others.look(Vec::clone);
        if list.len() == MOST_KNOWN {
            list.remove(0);
        }
        list.push(fresh.clone());
        // What another thread learned meanwhile is learned again. What goes may end a dtype, which is Python's affair.
        drop(self.others.replace(list));
        Ok(fresh)
    }
}
