//! The copies of one call: the library's, with what only Python knows: dtypes, and the interpreter.

use std::ptr::NonNull;

use ndshare::Error;
use ndshare::gather::{Batch, Copies, Draft, Placement, Settings, Strided, View};
use ndshare::kernel::Cast;
use numpy::npyffi::{NPY_CASTING, PY_ARRAY_API, PyArray_Descr};
use pyo3::prelude::*;

use super::canvas::{Filling, Source};
use crate::dtype::Meaning;
use crate::error::to_python;
use crate::ndarray::Operand;
use crate::wait::{at_once, moving};

/// Copying more than this takes longer than letting another thread have the interpreter.
const QUICK_BYTES: usize = 64 << 10;

/// Lists of more different dtypes than this are NumPy's affair.
const MOST_DTYPES: usize = 64;

impl Strided for Operand<'_> {
    #[inline]
    fn as_view(&self) -> View<'_> {
        let Self { data, shape, strides, itemsize, is_c, is_f, .. } = *self;
        View { first: data as *mut u8, shape, strides, itemsize, is_c, is_f }
    }
}

/// Copies from many arrays into parts of one, in the making.
pub(super) struct Copying<'a, 'py> {
    py: Python<'py>,
    copies: Copies,
    descr: NonNull<PyArray_Descr>,
    casting: NPY_CASTING,
    /// The dtypes of the sources.
    dtypes: Vec<(NonNull<PyArray_Descr>, Option<Cast>)>,
    /// The canvas, if the destination is one, and what is noted for it.
    canvas: Option<(&'a Filling<'a>, Draft<'a, Source>)>,
}

impl<'a, 'py> Copying<'a, 'py> {
    /// Into `out`; None when it is read-only, its items share bytes, or are not plain bytes.
    pub(super) fn new(
        py: Python<'py>,
        out: &Operand<'_>,
        casting: NPY_CASTING,
        workers: Option<usize>,
        filling: Option<&'a Filling<'a>>,
    ) -> PyResult<Option<Self>> {
        let settings = Settings::of_this_process(workers).map_err(|error| to_python(py, &error))?;
        if out.readonly || !Meaning::of(py, out.descr).is_solid {
            return Ok(None);
        }
        // A canvas is touched when it is known what must be copied.
        let copies = Copies::onto(out, out.whole_bytes(py), settings, filling.is_some());
        let canvas = filling.map(|filling| (filling, Draft::new(filling.old())));
        let descr = out.descr;
        Ok(copies.map(|copies| Self { py, copies, descr, casting, dtypes: vec![], canvas }))
    }

    /// Whether `source` can be copied here. Else the whole call is NumPy's affair: it overlaps the destination, or
    /// there is no kernel for the cast.
    #[inline]
    pub(super) fn admits(&mut self, source: &Operand<'_>) -> bool {
        self.copies.is_apart_from(source) && self.find(source.descr).is_some()
    }

    /// The conversion from this dtype; None when there is none.
    #[inline]
    fn find(&mut self, descr: NonNull<PyArray_Descr>) -> Option<Option<Cast>> {
        // Most lists have one dtype, so this is the first look.
        if let Some((_, cast)) = self.dtypes.iter().find(|(known, _)| *known == descr) {
            return Some(*cast);
        }
        let cast = way(self.py, descr, self.descr, self.casting)?;
        (self.dtypes.len() < MOST_DTYPES).then(|| self.dtypes.push((descr, cast)))?;
        Some(cast)
    }

    /// Copies `source`, or plans to, into its place in the destination. After an error, perhaps with a part copied, it is
    /// NumPy's affair.
    ///
    /// # Safety
    /// All sources were admitted, and their places lie apart in the destination; the caller holds both.
    #[inline]
    pub(super) unsafe fn add(&mut self, source: &Operand<'_>, at: Placement<'_>) -> Result<(), Error> {
        let unknown = || Error::new(ndshare::Kind::InvalidType, "expected a dtype that was admitted");
        let cast = self.find(source.descr).ok_or_else(unknown)?;
        if let Some((_, draft)) = &mut self.canvas
            && !Source::must_copy(self.py, draft, source, at, None)
        {
            return Ok(());
        }
        // SAFETY: as the caller says; NumPy vouches for the items of arrays that live.
        unsafe { self.copies.add(source, cast, at) }
    }

    /// Copies what is planned. A signal handler that raises ends it half-way.
    ///
    /// # Safety
    /// As [`Self::add`].
    pub(super) unsafe fn run(self) -> PyResult<()> {
        let (py, copies) = (self.py, self.copies);
        // SAFETY: the caller's.
        let copy = || copies.finish().try_for_each(|batch| unsafe { copy(py, &batch) });
        match self.canvas {
            Some((filling, draft)) => filling.carry_out(draft, copy),
            None => copy(),
        }
    }
}

/// # Safety
/// As [`Copying::add`].
unsafe fn copy(py: Python<'_>, batch: &Batch) -> PyResult<()> {
    if batch.bytes() > QUICK_BYTES {
        // SAFETY: NumPy vouches for the items of arrays that live; the rest is as the caller says.
        moving(py, |check| unsafe { batch.run(check) })
    } else {
        // SAFETY: as above.
        at_once(py, || unsafe { batch.run(&|| Ok(())) })
    }
}

/// How items of one dtype become items of another: as they are, or by a kernel. None where it is NumPy's affair.
fn way(
    py: Python<'_>,
    from: NonNull<PyArray_Descr>,
    to: NonNull<PyArray_Descr>,
    casting: NPY_CASTING,
) -> Option<Option<Cast>> {
    // SAFETY: attached; the caller holds what keeps both dtypes.
    let is_same = from == to || unsafe { PY_ARRAY_API.PyArray_EquivTypes(py, from.as_ptr(), to.as_ptr()) != 0 };
    if is_same {
        return Some(None);
    }
    let cast = Cast::new(Meaning::of(py, from).number?, Meaning::of(py, to).number?)?;
    // SAFETY: as above.
    let may = unsafe { PY_ARRAY_API.PyArray_CanCastTypeTo(py, from.as_ptr(), to.as_ptr(), casting) != 0 };
    may.then_some(Some(cast))
}
