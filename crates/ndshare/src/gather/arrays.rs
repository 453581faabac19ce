//! Arrays of an arena joined into one: `concatenate`, `stack`, `block` and `copy`.

use super::casting::{Casting, common_element, conversion};
use super::copies::Copies;
use super::joint::{Joint, Placement, broadcast};
use super::nested::Nested;
use super::settings::Settings;
use super::strided::Strided;
use crate::array::Array;
use crate::element::Element;
use crate::error::{Error, Kind, Result};
use crate::kernel::Cast;
use crate::layout::Layout;

/// How arrays are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Which conversions are allowed on the way into an array that is given.
    pub casting: Casting,
    /// Threads that copy, with the caller; none picks by size and CPUs.
    pub workers: Option<usize>,
}

/// Arrays, or lists of such, nested as in a drawing of the result.
#[derive(Debug, Clone)]
pub enum Blocks<'a> {
    /// One array.
    Array(&'a Array),
    /// Several, along one axis.
    List(Vec<Self>),
}

impl<'a> From<&'a Array> for Blocks<'a> {
    fn from(array: &'a Array) -> Self {
        Self::Array(array)
    }
}

impl<'a, B: Into<Blocks<'a>>> From<Vec<B>> for Blocks<'a> {
    fn from(parts: Vec<B>) -> Self {
        Self::List(parts.into_iter().map(Into::into).collect())
    }
}

impl<'a, B: Into<Blocks<'a>>, const COUNT: usize> From<[B; COUNT]> for Blocks<'a> {
    fn from(parts: [B; COUNT]) -> Self {
        Self::List(parts.into_iter().map(Into::into).collect())
    }
}

/// Joins arrays along an axis that they have; NumPy's `concatenate`. A negative axis counts from the end; without one
/// their items are joined in C order.
///
/// The result is `out`, or a new array in the arena of the first one. Large results are streamed past the cache by
/// several threads. What an array is still written to meanwhile may be copied in part.
///
/// ```
/// use ndshare::arena::{Arena, Options};
/// use ndshare::array::Array;
/// use ndshare::gather;
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let left = Array::from_slice(&arena, &[2, 2], &[1_u8, 2, 5, 6])?;
/// let right = Array::from_slice(&arena, &[2, 1], &[3_u8, 7])?;
/// let joined = gather::concatenate(&[&left, &right], 1, None)?;
/// assert_eq!(joined.shape(), [2, 3]);
/// assert_eq!(joined.to_vec::<u8>()?, [1, 2, 3, 5, 6, 7]);
/// // Over and over into the same memory, converted on the way:
/// let out = Array::zeros(&arena, &[2, 3], ndshare::element::Number::F32)?;
/// gather::concatenate(&[&left, &right], 1, Some(&out))?;
/// assert_eq!(out.to_vec::<f32>()?, [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]);
/// // Errors are NumPy's:
/// let error = gather::concatenate(&[&left, &right], 2, None).unwrap_err();
/// assert_eq!(error.to_string(), "axis 2 is out of bounds for array of dimension 2");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `InvalidValue`, in NumPy's words, for arrays that do not fit each other or `out`; `InvalidType` for items that have no
/// common type, or don't become those of `out`; `Misuse` for an `out` that may only be read; `ArenaFull`.
pub fn concatenate(arrays: &[&Array], axis: impl Into<Option<isize>>, out: Option<&Array>) -> Result<Array> {
    Options::default().concatenate(arrays, axis, out)
}

/// Joins arrays of one shape along a new axis; NumPy's `stack`.
///
/// ```
/// use ndshare::{Array, gather};
///
/// let arena = ndshare::session()?;
/// let (left, right) = (Array::from_slice(&arena, &[2], &[1_u8, 2])?, Array::from_slice(&arena, &[2], &[3_u8, 4])?);
/// let stacked = gather::stack(&[&left, &right], 1, None)?;
/// assert_eq!((stacked.shape(), stacked.to_vec::<u8>()?), (&[2, 2][..], vec![1, 3, 2, 4]));
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// As [`concatenate`].
pub fn stack(arrays: &[&Array], axis: isize, out: Option<&Array>) -> Result<Array> {
    Options::default().stack(arrays, axis, out)
}

/// Joins arrays as nested lists have them; NumPy's `block`: `block([[&a, &b], [&c, &d]], None)`.
///
/// ```
/// use ndshare::{Array, gather};
///
/// let arena = ndshare::session()?;
/// let (left, right) = (Array::from_slice(&arena, &[2], &[1_u8, 2])?, Array::from_slice(&arena, &[2], &[3_u8, 4])?);
/// let drawn = gather::block([[&left, &right], [&right, &left]], None)?;
/// assert_eq!((drawn.shape(), drawn.to_vec::<u8>()?), (&[2, 4][..], vec![1, 2, 3, 4, 3, 4, 1, 2]));
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// As [`concatenate`].
pub fn block<'a>(blocks: impl Into<Blocks<'a>>, out: Option<&Array>) -> Result<Array> {
    Options::default().block(blocks, out)
}

/// Joins arrays as [`block`] does, along other axes than the last ones: the outermost list goes along the first of `axes`.
/// So images with channels, `(rows, columns, channels)`, become one by `block_along([[&a, &b], [&c, &d]], &[0, 1], None)`.
///
/// ```
/// use ndshare::{Array, gather};
///
/// let arena = ndshare::session()?;
/// let pixel = |value: u8| Array::from_slice(&arena, &[1, 1, 2], &[value, value]);
/// let (a, b) = (pixel(1)?, pixel(2)?);
/// let image = gather::block_along([[&a, &b], [&b, &a]], &[0, 1], None)?;
/// assert_eq!((image.shape(), image.to_vec::<u8>()?), (&[2, 2, 2][..], vec![1, 1, 2, 2, 2, 2, 1, 1]));
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// As [`concatenate`]; `InvalidValue` when there are not as many axes as lists are nested, or two are the same.
pub fn block_along<'a>(blocks: impl Into<Blocks<'a>>, axes: &[isize], out: Option<&Array>) -> Result<Array> {
    Options::default().block_along(blocks, axes, out)
}

/// Copies one array into another, which it is stretched to; NumPy's `copyto`.
///
/// ```
/// use ndshare::{Array, Number, gather};
///
/// let arena = ndshare::session()?;
/// let (left, grid) = (Array::from_slice(&arena, &[2], &[1_u8, 2])?, Array::zeros(&arena, &[3, 2], Number::F32)?);
/// gather::copy(&grid, &left)?;
/// assert_eq!(grid.to_vec::<f32>()?, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
/// # Ok::<(), ndshare::Error>(())
/// ```
///
/// # Errors
/// As [`concatenate`].
pub fn copy(to: &Array, from: &Array) -> Result<()> {
    Options::default().copy(to, from)
}

impl Options {
    /// [`concatenate`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn concatenate(&self, arrays: &[&Array], axis: impl Into<Option<isize>>, out: Option<&Array>) -> Result<Array> {
        self.join(&Joint::concatenate(arrays, axis.into())?, arrays, out)
    }

    /// [`stack`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn stack(&self, arrays: &[&Array], axis: isize, out: Option<&Array>) -> Result<Array> {
        self.join(&Joint::stack(arrays, axis)?, arrays, out)
    }

    /// [`block`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn block<'a>(&self, blocks: impl Into<Blocks<'a>>, out: Option<&Array>) -> Result<Array> {
        self.grid(blocks.into(), None, out)
    }

    /// [`block_along`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn block_along<'a>(&self, blocks: impl Into<Blocks<'a>>, axes: &[isize], out: Option<&Array>) -> Result<Array> {
        self.grid(blocks.into(), Some(axes), out)
    }

    fn grid(&self, blocks: Blocks<'_>, axes: Option<&[isize]>, out: Option<&Array>) -> Result<Array> {
        let nested = Nested::of(blocks, |blocks| match blocks {
            Blocks::Array(_) => None,
            Blocks::List(parts) => Some(parts.clone()),
        })?;
        let array = |leaf| match leaf {
            &Blocks::Array(array) => Some(array),
            Blocks::List(_) => None,
        };
        let arrays: Vec<&Array> = nested.leaves().iter().filter_map(array).collect();
        let joint = match axes {
            None => Joint::block(&nested, &arrays)?,
            Some(axes) => Joint::block_along(&nested, &arrays, axes)?,
        };
        self.join(&joint, &arrays, out)
    }

    /// [`copy()`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn copy(&self, to: &Array, from: &Array) -> Result<()> {
        let layout = Layout::new(to.shape().to_vec(), broadcast(from, to.shape())?)?;
        let whole = Array::of_parts(
            from.hold().clone(),
            from.offset() as u64,
            crate::array::Description { layout, element: Some(from.element().clone()) },
            true,
        )?;
        self.join(&Joint::block(&Nested::of((), |()| None)?, &[&whole])?, &[&whole], Some(to)).map(drop)
    }

    /// Joins arrays as a joint of theirs says.
    fn join(&self, joint: &Joint, arrays: &[&Array], out: Option<&Array>) -> Result<Array> {
        if let Some(out) = out {
            check_out(joint, out)?;
            let casts = casts_of(arrays, out.element(), self.casting)?;
            let copies = Copies::onto(out, whole_bytes(out), Settings::of_this_process(self.workers)?, true);
            match copies.filter(|_| !arrays.iter().any(|array| array.may_overlap(out))) {
                // SAFETY: the callers make the joint of these arrays; shape, conversions and overlap were looked at.
                Some(copies) => unsafe {
                    fill(copies, joint, arrays, out, |array, at| Some((array, casts[at.number])))?;
                },
                // What overlaps goes by way of other memory.
                None => out.copy_from(&self.joined(joint, arrays, out.element())?)?,
            }
            return Ok(out.clone());
        }
        self.joined(joint, arrays, &common_element(arrays.iter().map(|array| array.element()))?)
    }

    fn joined(&self, joint: &Joint, arrays: &[&Array], element: &Element) -> Result<Array> {
        let casts = casts_of(arrays, element, Casting::Unsafe)?;
        let out = new_in_order(joint, arrays, element)?;
        let settings = Settings::of_this_process(self.workers)?;
        if let Some(copies) = Copies::onto(&out, whole_bytes(&out), settings, true) {
            // SAFETY: the callers make the joint of these arrays; nobody else has the new array.
            unsafe { fill(copies, joint, arrays, &out, |array, at| Some((array, casts[at.number])))? };
        }
        Ok(out)
    }
}

/// The bytes of the block that an array lies in.
pub(super) fn whole_bytes(array: &Array) -> usize {
    array.hold().len_bytes()
}

/// The conversion of each array's items to `element`.
fn casts_of(arrays: &[&Array], element: &Element, casting: Casting) -> Result<Vec<Option<Cast>>> {
    arrays.iter().map(|array| conversion(array.element(), element, casting)).collect()
}

/// A new array for the result, in the memory order that NumPy picks.
fn new_in_order(joint: &Joint, arrays: &[&Array], element: &Element) -> Result<Array> {
    let arena = arrays.first().ok_or_else(|| Error::value("need at least one array to concatenate"))?.hold().arena();
    let Some(order) = joint.order(arrays) else { return Array::empty(arena, joint.shape(), element.clone()) };
    let outermost_first: Vec<usize> = order.iter().map(|&axis| joint.shape()[axis]).collect();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    Array::empty(arena, &outermost_first, element.clone())?.transpose(&back)
}

/// Complains about an array that the result does not go into.
pub(super) fn check_out(joint: &Joint, out: &Array) -> Result<()> {
    if out.is_readonly() {
        return Err(Error::new(Kind::Misuse, format!("expected a writable array, got {out:?}: give one of your own")));
    }
    if out.ndim() != joint.shape().len() {
        return Err(Error::value("Output array has wrong dimensionality"));
    }
    if out.shape() != joint.shape() {
        let (expected, got) = (joint.shape(), out.shape());
        return Err(Error::value(format!("Output array is the wrong shape: expected {expected:?}, got {got:?}")));
    }
    Ok(())
}

/// Copies the arrays among `parts` that `array_of` picks, each to the place that the joint gives it.
///
/// # Safety
/// The joint was made of `parts`, and has the shape of `out`, for whose memory `copies` were begun. No array that is
/// picked reaches a byte of `out`, and the conversion beside it is that of its items to those of `out`.
pub(super) unsafe fn fill<'a, S: Strided>(
    copies: Copies,
    joint: &Joint,
    parts: &[S],
    out: &Array,
    mut array_of: impl FnMut(&S, Placement<'_>) -> Option<(&'a Array, Option<Cast>)>,
) -> Result<()> {
    let mut copies = copies;
    joint.each(parts, out.strides(), |part, at| match array_of(part, at) {
        // SAFETY: the items of an array lie in its block, which the caller holds; the rest is as the caller says.
        Some((array, cast)) => unsafe { copies.add(array, cast, at) },
        None => Ok(()),
    })?;
    // SAFETY: as above; the caller holds all arrays.
    copies.finish().try_for_each(|batch| unsafe { batch.run(&|| Ok(())) })
}
