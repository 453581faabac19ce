//! The pairs of one call: checked, planned, and run without the interpreter.

use std::ptr::NonNull;

use ndshare::gather::{Ends, Pair, Planner, SMALL_BYTES, Settings, execute};
use ndshare::kernel::Cast;
use ndshare::layout;
use numpy::npyffi::{NPY_CASTING, PY_ARRAY_API, PyArray_Descr};
use pyo3::prelude::*;

use super::canvas::{Draft, Sitting};
use crate::dtype::Meaning;
use crate::error::to_python;
use crate::ndarray::Operand;
use crate::wait::moving;

/// Copying more than this takes longer than letting another thread have the interpreter.
const QUICK_BYTES: usize = 64 << 10;

/// Lists of more different dtypes than this are NumPy's affair.
const MOST_DTYPES: usize = 64;

/// Copies from many arrays into parts of one, in the making.
pub(super) struct Job<'a, 'py> {
    py: Python<'py>,
    /// Where the destination begins.
    data: usize,
    /// The first byte that it reaches, and the first beyond.
    reach: (usize, usize),
    descr: NonNull<PyArray_Descr>,
    itemsize: usize,
    casting: NPY_CASTING,
    settings: Settings,
    /// The destination is so small that pairs are copied as they come.
    is_small: bool,
    /// The dtypes of the sources; most lists have one.
    dtypes: Vec<(NonNull<PyArray_Descr>, Option<Cast>)>,
    /// What is planned for each of them.
    groups: Vec<Group>,
    /// The place of the latest source's dtype.
    latest: usize,
    /// What is noted for a canvas, if the destination is one.
    draft: Option<Draft<'a>>,
}

/// The planned sources of one dtype.
struct Group {
    planner: Planner,
    ends: Vec<Ends>,
}

impl<'a, 'py> Job<'a, 'py> {
    /// Into `out`; None when it is read-only, its items share bytes, or are not plain bytes.
    pub(super) fn new(
        py: Python<'py>,
        out: &Operand<'_>,
        casting: NPY_CASTING,
        workers: Option<usize>,
        sitting: Option<&'a Sitting>,
    ) -> PyResult<Option<Self>> {
        let settings = Settings::of_this_process(workers).map_err(|error| to_python(py, &error))?;
        let meaning = Meaning::of(py, out.descr);
        let is_apart = out.is_c || layout::is_apart(out.shape, out.strides, out.itemsize);
        if out.readonly || !meaning.is_solid || !is_apart || out.itemsize == 0 {
            return Ok(None);
        }
        let Some(reach) = span(out) else { return Ok(None) };
        let settings = settings.for_part(reach.0..reach.1, out.whole_bytes(py));
        Ok(Some(Self {
            py,
            data: out.data,
            reach,
            descr: out.descr,
            itemsize: out.itemsize,
            casting,
            settings,
            is_small: sitting.is_none() && out.size() * out.itemsize <= SMALL_BYTES,
            dtypes: vec![],
            groups: vec![],
            latest: 0,
            draft: sitting.map(Draft::new),
        }))
    }

    /// Whether `source` can be copied here. Else the whole call is NumPy's affair: it overlaps the destination, or
    /// there is no kernel for the cast.
    #[inline]
    pub(super) fn admits(&mut self, source: &Operand<'_>) -> bool {
        let Some((first, end)) = span(source) else { return false };
        let overlaps = first < self.reach.1 && self.reach.0 < end;
        !overlaps && self.find(source.descr).is_some()
    }

    /// The conversion from this dtype; None when there is none.
    #[inline]
    fn find(&mut self, descr: NonNull<PyArray_Descr>) -> Option<Option<Cast>> {
        match self.dtypes.get(self.latest) {
            Some(&(known, cast)) if known == descr => Some(cast),
            _ => self.find_or_add(descr),
        }
    }

    fn find_or_add(&mut self, descr: NonNull<PyArray_Descr>) -> Option<Option<Cast>> {
        self.latest = match self.dtypes.iter().position(|(known, _)| *known == descr) {
            Some(place) => place,
            None if self.dtypes.len() == MOST_DTYPES => return None,
            None => {
                let cast = way(self.py, descr, self.descr, self.casting)?;
                self.dtypes.push((descr, cast));
                self.dtypes.len() - 1
            }
        };
        Some(self.dtypes[self.latest].1)
    }

    /// What is noted for the canvas.
    pub(super) fn draft(&mut self) -> Option<&mut Draft<'a>> {
        self.draft.as_mut()
    }

    /// Copies `source`, or plans to, into the part of the destination that begins `offset` bytes from its start, with
    /// these strides. None, perhaps with a part copied, where it is NumPy's affair.
    ///
    /// # Safety
    /// All sources were admitted, and lie in parts of the destination; the caller holds both.
    #[inline]
    pub(super) unsafe fn add(&mut self, source: &Operand<'_>, strides: &[isize], offset: isize) -> Option<()> {
        let cast = self.find(source.descr)?;
        if let Some(draft) = &mut self.draft
            && !draft.must_copy(self.py, source, strides, offset)
        {
            return Some(());
        }
        let dst = self.data.wrapping_add_signed(offset);
        let ends = Ends { dst: dst as *mut u8, src: source.data as *const u8 };
        if self.is_small {
            let (dst_size, src_size) = (self.itemsize, source.itemsize);
            let (shape, src_strides) = (source.shape, source.strides);
            let pair = Pair { shape, dst_strides: strides, src_strides, dst_size, src_size, cast };
            // SAFETY: as the caller says; NumPy vouches for the items of arrays that live.
            if unsafe { pair.copy_now(self.settings.cpu, ends) } {
                return Some(());
            }
        }
        while self.groups.len() <= self.latest {
            let cast = self.dtypes[self.groups.len()].1;
            let planner =
                cast.map_or_else(|| Planner::new(self.itemsize).ok(), |cast| Some(Planner::with_cast(cast)))?;
            self.groups.push(Group { planner, ends: vec![] });
        }
        let group = &mut self.groups[self.latest];
        group.planner.tile(source.shape, strides, source.strides).ok()?;
        group.ends.push(ends);
        Some(())
    }

    /// Copies what is planned. A signal handler that raises ends it half-way.
    ///
    /// # Safety
    /// As [`Self::add`].
    pub(super) unsafe fn run(mut self) -> PyResult<()> {
        let draft = self.draft.take();
        draft.iter().for_each(Draft::begin);
        // SAFETY: the caller's.
        let outcome = unsafe { self.copy() };
        draft.into_iter().for_each(|draft| draft.end(outcome.is_ok()));
        outcome
    }

    /// # Safety
    /// As [`Self::add`].
    unsafe fn copy(self) -> PyResult<()> {
        let py = self.py;
        for Group { planner, ends } in self.groups {
            let plan = planner.finish(&self.settings);
            // SAFETY: NumPy vouches for the items of arrays that live; `admits` has seen that no source shares bytes
            // with the destination, and `new` that no two items of that do.
            let work = |check: &dyn Fn() -> ndshare::Result<()>| unsafe { execute(&plan, &ends, check) };
            if plan.bytes > QUICK_BYTES {
                moving(py, work)?;
            } else {
                crate::wait::quick(py, || work(&|| Ok(())))?.map_err(|error| to_python(py, &error))?;
            }
        }
        Ok(())
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

/// The first byte that an array reaches, and the first beyond; equal when it has no items.
#[inline]
fn span(array: &Operand<'_>) -> Option<(usize, usize)> {
    if array.is_c {
        return Some((array.data, array.data.checked_add(array.size() * array.itemsize)?));
    }
    let (low, high) = layout::extent(array.shape, array.strides, array.itemsize)?;
    Some((array.data.checked_add_signed(low)?, array.data.checked_add_signed(high)?))
}
