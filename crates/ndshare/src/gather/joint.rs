//! How arrays fit together, and what goes where: the rules of `concatenate`, `stack`, `block` and broadcasting.
//!
//! A [`Joint`] is plain data: it is made of shapes alone, can be compared, and says the shape of the result before
//! there is any. For a result with given strides it then says of each array where it goes: a [`Placement`]. Errors are
//! in NumPy's words.

use super::nested::Nested;
use super::strided::Strided;
use crate::error::{Error, Result};
use crate::layout::{self, MAX_DIMS};
use std::slice::Iter;

/// How some arrays fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joint {
    /// The shape of the result.
    shape: Vec<usize>,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// One behind the other along an axis that they have.
    Along(usize),
    /// Beside each other along an axis that they have not.
    New(usize),
    /// Their items in C order, one array behind the other.
    Flat,
    /// In a grid: for each array its first item's index along each of the axes, of which there are as many as lists are
    /// nested.
    Grid { axes: Vec<usize>, starts: Vec<usize> },
}

/// Where one array goes in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement<'a> {
    /// Which array.
    pub number: usize,
    /// Bytes from the result's first item to that of this array.
    pub offset: isize,
    /// Bytes from item to item in the result, along each axis of the array.
    pub strides: &'a [isize],
}

impl Joint {
    /// Arrays one behind the other along `axis`, which counts from the end if it is negative; without an axis their
    /// items in C order.
    ///
    /// # Errors
    /// `InvalidValue`, in NumPy's words, when there is no array or no such axis, or they do not fit.
    pub fn concatenate<S: Strided>(arrays: &[S], axis: Option<isize>) -> Result<Self> {
        let first = arrays.first().ok_or_else(|| Error::value("need at least one array to concatenate"))?.shape();
        let Some(axis) = axis else {
            let total = arrays.iter().try_fold(0_usize, |sum, array| sum.checked_add(array.size()));
            return Ok(Self { shape: vec![total.ok_or_else(too_long)?], rule: Rule::Flat });
        };
        if first.is_empty() {
            return Err(Error::value("zero-dimensional arrays cannot be concatenated"));
        }
        let axis = axis_of(axis, first.len())?;
        if let Some(number) = arrays.iter().position(|array| !fits(first, array.shape(), axis)) {
            return Err(misfit(first, arrays[number].shape(), axis, number));
        }
        let mut shape = first.to_vec();
        let total = arrays.iter().try_fold(0_usize, |sum, array| sum.checked_add(array.shape()[axis]));
        shape[axis] = total.ok_or_else(too_long)?;
        Ok(Self { shape, rule: Rule::Along(axis) })
    }

    /// Arrays of one shape beside each other along a new axis, which becomes number `axis`.
    ///
    /// # Errors
    /// As [`Self::concatenate`].
    pub fn stack<S: Strided>(arrays: &[S], axis: isize) -> Result<Self> {
        let first = arrays.first().ok_or_else(|| Error::value("need at least one array to stack"))?.shape();
        if arrays.iter().any(|array| array.shape() != first) {
            return Err(Error::value("all input arrays must have the same shape"));
        }
        let axis = axis_of(axis, first.len() + 1)?;
        let mut shape = first.to_vec();
        shape.insert(axis, arrays.len());
        Ok(Self { shape, rule: Rule::New(axis) })
    }

    /// Arrays as nested lists have them: the innermost lists along the last axis, those around them along the one
    /// before, and so on. `arrays` are what the leaves of `nested` stand for.
    ///
    /// # Errors
    /// `InvalidValue`, in NumPy's words, when they do not fit, or there are not as many as leaves.
    pub fn block<T, S: Strided>(nested: &Nested<T>, arrays: &[S]) -> Result<Self> {
        Self::grid(nested, arrays, None)
    }

    /// The same along other axes: the outermost list goes along the first one. A negative axis counts from the end.
    ///
    /// # Errors
    /// As [`Self::block`]; `InvalidValue` when there are not as many axes as lists are nested, or two are the same.
    pub fn block_along<T, S: Strided>(nested: &Nested<T>, arrays: &[S], axes: &[isize]) -> Result<Self> {
        Self::grid(nested, arrays, Some(axes))
    }

    fn grid<T, S: Strided>(nested: &Nested<T>, arrays: &[S], axes: Option<&[isize]>) -> Result<Self> {
        if arrays.len() != nested.leaves().len() {
            let (expected, got) = (nested.leaves().len(), arrays.len());
            return Err(Error::value(format!("expected {expected} arrays, one for each leaf, got {got}")));
        }
        let depth = nested.depth();
        let ndim = arrays.iter().map(|array| array.shape().len()).fold(depth, usize::max);
        let axes = axes.map_or_else(|| Ok((ndim - depth..ndim).collect()), |axes| axes_of(axes, depth, ndim))?;
        let walk = Walk { counts: nested.counts(), arrays: arrays.iter() };
        let mut grid = Grid {
            walk,
            axes: &axes,
            ndim,
            lengths: vec![0; ndim * (depth + 1)],
            start: vec![0; depth],
            starts: Vec::with_capacity(arrays.len() * depth),
        };
        grid.measure(0)?;
        let Grid { mut lengths, starts, .. } = grid;
        lengths.truncate(ndim);
        Ok(Self { shape: lengths, rule: Rule::Grid { axes, starts } })
    }

    /// The shape of the result.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The axes of a new result from the outermost to the innermost, as NumPy picks them; none for C order.
    pub fn order<S: Strided>(&self, arrays: &[S]) -> Option<Vec<usize>> {
        let ndim = self.shape.len();
        if arrays.iter().all(S::is_c) {
            return None;
        }
        match self.rule {
            Rule::Flat => None,
            Rule::Along(_) => {
                Some(layout::common_order(ndim, arrays.iter().map(|array| (array.shape(), array.strides()))))
            }
            Rule::New(axis) => {
                // The new axis has one item in each array.
                let longer = |array: &S| (with(array.shape(), axis, 1), with(array.strides(), axis, 0));
                let longer: Vec<_> = arrays.iter().map(longer).collect();
                Some(layout::common_order(ndim, longer.iter().map(|(shape, strides)| (&shape[..], &strides[..]))))
            }
            Rule::Grid { ref axes, .. } => {
                (!axes.is_empty() && arrays.iter().all(S::is_f)).then(|| (0..ndim).rev().collect())
            }
        }
    }

    /// Calls `place` for each of the arrays that the joint was made of, in order, until it says an error. The result has
    /// the joint's shape, and `strides`.
    ///
    /// # Errors
    /// `InvalidValue` when the result has not as many strides as axes, or is larger than an address space; what `place`
    /// says.
    #[inline]
    pub fn each<S: Strided>(
        &self,
        arrays: &[S],
        strides: &[isize],
        place: impl FnMut(&S, Placement<'_>) -> Result<()>,
    ) -> Result<()> {
        if strides.len() != self.shape.len() {
            let (expected, got) = (self.shape.len(), strides.len());
            return Err(Error::value(format!("expected {expected} strides, got {got}")));
        }
        match &self.rule {
            Rule::Along(axis) => each_along(arrays, strides, strides[*axis], |array| array.shape()[*axis], place),
            Rule::New(axis) => each_along(arrays, &without(strides, *axis), strides[*axis], |_| 1, place),
            Rule::Flat => each_flat(arrays, strides[0], place),
            Rule::Grid { axes, starts } => each_in_grid(arrays, strides, axes, starts, place),
        }
    }
}

#[inline]
fn each_along<S: Strided>(
    arrays: &[S],
    strides: &[isize],
    step: isize,
    steps: impl Fn(&S) -> usize,
    mut place: impl FnMut(&S, Placement<'_>) -> Result<()>,
) -> Result<()> {
    let mut offset = 0_isize;
    for (number, array) in arrays.iter().enumerate() {
        place(array, Placement { number, offset, strides })?;
        let next = step.checked_mul(steps(array).cast_signed()).and_then(|bytes| offset.checked_add(bytes));
        offset = next.ok_or_else(too_long)?;
    }
    Ok(())
}

fn each_flat<S: Strided>(
    arrays: &[S],
    step: isize,
    mut place: impl FnMut(&S, Placement<'_>) -> Result<()>,
) -> Result<()> {
    let (mut offset, mut strides) = (0_isize, [0_isize; MAX_DIMS]);
    for (number, array) in arrays.iter().enumerate() {
        let strides = strides.get_mut(..array.shape().len()).ok_or_else(too_long)?;
        let items = flat_strides(array.shape(), step, strides);
        place(array, Placement { number, offset, strides })?;
        offset = offset.checked_add(items).ok_or_else(too_long)?;
    }
    Ok(())
}

/// The strides of an array of this shape whose items follow each other in C order, `step` bytes apart; and the bytes
/// from its first item to what follows.
fn flat_strides(shape: &[usize], step: isize, strides: &mut [isize]) -> isize {
    let mut step = step;
    for (stride, &length) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.wrapping_mul(length.cast_signed());
    }
    step
}

fn each_in_grid<S: Strided>(
    arrays: &[S],
    strides: &[isize],
    axes: &[usize],
    starts: &[usize],
    mut place: impl FnMut(&S, Placement<'_>) -> Result<()>,
) -> Result<()> {
    let depth = axes.len();
    for (number, array) in arrays.iter().enumerate() {
        let start = starts[number * depth..(number + 1) * depth].iter().zip(axes);
        let offset = start.map(|(&at, &axis)| at.cast_signed().wrapping_mul(strides[axis])).sum();
        place(array, Placement { number, offset, strides: &strides[strides.len() - array.shape().len()..] })?;
    }
    Ok(())
}

/// The next list, and the next leaf.
struct Walk<'a, S> {
    counts: Iter<'a, usize>,
    arrays: Iter<'a, S>,
}

/// The shape of nested lists in the making.
struct Grid<'a, S> {
    walk: Walk<'a, S>,
    /// Along which axis the lists of each level go.
    axes: &'a [usize],
    ndim: usize,
    /// For each level the lengths of the list that is being measured, the outermost first; last those of the leaf.
    lengths: Vec<usize>,
    /// For each level where the part begins that is being measured.
    start: Vec<usize>,
    starts: Vec<usize>,
}

impl<S: Strided> Grid<'_, S> {
    /// Finds the lengths of the next part of this level.
    fn measure(&mut self, level: usize) -> Result<()> {
        let ndim = self.ndim;
        if level == self.axes.len() {
            let shape = self.walk.arrays.next().ok_or_else(too_long)?.shape();
            let (missing, lengths) = (ndim - shape.len(), &mut self.lengths[level * ndim..]);
            lengths[..missing].fill(1);
            lengths[missing..].copy_from_slice(shape);
            self.starts.extend_from_slice(&self.start);
            return Ok(());
        }
        let axis = self.axes[level];
        self.start[level] = 0;
        for part in 0..*self.walk.counts.next().ok_or_else(too_long)? {
            self.measure(level + 1)?;
            let (outer, inner) = self.lengths.split_at_mut((level + 1) * ndim);
            let (whole, new) = (&mut outer[level * ndim..], &inner[..ndim]);
            if part == 0 {
                whole.copy_from_slice(new);
            } else if fits(whole, new, axis) {
                whole[axis] = whole[axis].checked_add(new[axis]).ok_or_else(too_long)?;
            } else {
                return Err(Error::value(format!("Mismatched array shapes in block along axis {axis}.")));
            }
            self.start[level] = whole[axis];
        }
        Ok(())
    }
}

/// The place of `axis` among `ndim`.
///
/// # Errors
/// `InvalidValue`, in NumPy's words, when there is none.
pub fn axis_of(axis: isize, ndim: usize) -> Result<usize> {
    let place = if axis < 0 { axis.checked_add_unsigned(ndim) } else { Some(axis) };
    let place = place.and_then(|place| usize::try_from(place).ok()).filter(|&place| place < ndim);
    place.ok_or_else(|| Error::value(format!("axis {axis} is out of bounds for array of dimension {ndim}")))
}

/// The places of as many axes as lists are nested.
///
/// # Errors
/// `InvalidValue` when there are more or fewer, or two are the same; as [`axis_of`].
pub fn axes_of(axes: &[isize], depth: usize, ndim: usize) -> Result<Vec<usize>> {
    if axes.len() != depth {
        return Err(Error::value(format!("expected {depth} axes, one for each level of the lists, got {axes:?}")));
    }
    let places = axes.iter().map(|&axis| axis_of(axis, ndim)).collect::<Result<Vec<_>>>()?;
    match (1..depth).any(|at| places[..at].contains(&places[at])) {
        true => Err(Error::value(format!("expected axes that differ, got {axes:?}"))),
        false => Ok(places),
    }
}

/// Whether two shapes are the same but for one axis.
#[inline]
pub(super) fn fits(one: &[usize], other: &[usize], axis: usize) -> bool {
    one.len() == other.len() && one[..axis] == other[..axis] && one[axis + 1..] == other[axis + 1..]
}

/// The strides of an array that is stretched to `shape`: 0 along the axes that it has not, or has one item of.
///
/// # Errors
/// `InvalidValue`, in NumPy's words, when it does not stretch so.
pub fn broadcast<S: Strided>(array: &S, shape: &[usize]) -> Result<Vec<isize>> {
    // Leading axes of one are left out, as NumPy does for copyto.
    let extra = array.shape().len().saturating_sub(shape.len());
    let missing = shape.len().saturating_sub(array.shape().len());
    let own = array.shape()[extra..].iter().zip(&array.strides()[extra..]);
    let stretched = own.zip(&shape[missing..]).map(|((&length, &stride), &wanted)| match length {
        _ if length == wanted => Some(stride),
        1 => Some(0),
        _ => None,
    });
    let strides = std::iter::repeat_n(Some(0), missing).chain(stretched).collect::<Option<_>>();
    strides.filter(|_| array.shape()[..extra].iter().all(|&length| length == 1)).ok_or_else(|| {
        let (from, to) = (tuple(array.shape()), tuple(shape));
        Error::value(format!("could not broadcast input array from shape {from} into shape {to}"))
    })
}

/// A shape as Python writes a tuple, but without blanks.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [only] => format!("({only},)"),
        shape => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
    }
}

#[cold]
fn misfit(first: &[usize], other: &[usize], axis: usize, number: usize) -> Error {
    if first.len() != other.len() {
        return Error::value(format!(
            "all the input arrays must have same number of dimensions, but the array at index 0 has {} dimension(s) \
             and the array at index {number} has {} dimension(s)",
            first.len(),
            other.len()
        ));
    }
    let at = (0..first.len()).find(|&at| at != axis && first[at] != other[at]).unwrap_or(axis);
    Error::value(format!(
        "all the input array dimensions except for the concatenation axis must match exactly, but along dimension {at}, \
         the array at index 0 has size {} and the array at index {number} has size {}",
        first[at], other[at]
    ))
}

#[cold]
fn too_long() -> Error {
    Error::value(format!("expected arrays of at most {} bytes together, got more", isize::MAX))
}

fn with<T: Copy>(list: &[T], place: usize, value: T) -> Vec<T> {
    let mut longer = list.to_vec();
    longer.insert(place, value);
    longer
}

fn without<T: Copy>(list: &[T], place: usize) -> Vec<T> {
    let mut shorter = list.to_vec();
    shorter.remove(place);
    shorter
}
