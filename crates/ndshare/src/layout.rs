//! Pure arithmetic of shapes, strides and sizes. Nothing here touches memory.

use crate::error::{Error, Result};
use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

/// The most dimensions an array can have, as in NumPy 2.
pub const MAX_DIMS: usize = 64;

/// Strides (bytes) and length (bytes) of a contiguous array; `fortran` puts the first axis innermost.
///
/// A shape with a zero has length 0. Strides follow NumPy: they are those of the shape with its zeros as ones.
///
/// # Errors
/// `InvalidValue` when the length in bytes or that of an axis does not fit `isize`, or there are more than [`MAX_DIMS`]
/// dimensions.
pub fn contiguous(shape: &[usize], itemsize: usize, fortran: bool) -> Result<(Vec<isize>, usize)> {
    if shape.len() > MAX_DIMS {
        return Err(Error::value(format!(
            "expected at most {MAX_DIMS} dimensions, got {}: reshape the array to fewer",
            shape.len()
        )));
    }
    let mut strides = vec![0_isize; shape.len()];
    let mut step = itemsize;
    for i in 0..shape.len() {
        let axis = if fortran { i } else { shape.len() - 1 - i };
        strides[axis] = isize::try_from(step).map_err(|_| too_big(shape, itemsize))?;
        step = step
            .checked_mul(shape[axis].max(1))
            .filter(|&bytes| isize::try_from(bytes.max(shape[axis])).is_ok())
            .ok_or_else(|| too_big(shape, itemsize))?;
    }
    let len_bytes = if shape.contains(&0) { 0 } else { step };
    Ok((strides, len_bytes))
}

/// Strides of an array whose axes lie in memory in the order `axes`, the outermost first. A length of 0 counts as 1, as in
/// NumPy. The shape is one that [`contiguous`] takes.
///
/// # Errors
/// `InvalidValue` when `axes` does not name each axis once.
pub fn in_order(shape: &[usize], itemsize: usize, axes: &[usize]) -> Result<Vec<isize>> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len()) {
        return Err(Error::value(format!("expected a permutation of {} axes, got {axes:?}", shape.len())));
    }
    let (mut strides, mut step) = (vec![0; shape.len()], itemsize.cast_signed());
    for &axis in axes.iter().rev() {
        strides[axis] = step;
        step = step.saturating_mul(shape[axis].max(1).cast_signed());
    }
    Ok(strides)
}

fn too_big(shape: &[usize], itemsize: usize) -> Error {
    Error::value(format!(
        "array is too big: expected at most {} bytes, got shape {shape:?} of {itemsize}-byte items",
        isize::MAX
    ))
}

/// The bytes that an array reaches, as (low, high) offsets from its first item; high is exclusive.
///
/// `None` when they do not fit `isize`; (0, 0) for an array without items.
pub fn extent(shape: &[usize], strides: &[isize], itemsize: usize) -> Option<(isize, isize)> {
    if shape.contains(&0) {
        return Some((0, 0));
    }
    let (mut low, mut high) = (0_isize, isize::try_from(itemsize).ok()?);
    for (&length, &stride) in shape.iter().zip(strides) {
        let reach = isize::try_from(length - 1).ok()?.checked_mul(stride)?;
        if reach < 0 {
            low = low.checked_add(reach)?;
        } else {
            high = high.checked_add(reach)?;
        }
    }
    Some((low, high))
}

/// How the items of an array lie: how many along each axis, and bytes from item to item along each.
///
/// Both have the same number of axes, at most 64, as in NumPy 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Layout {
    shape: Vec<usize>,
    strides: Vec<isize>,
}

/// What is taken along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// One item, and the axis goes; a negative number counts from the end.
    At(isize),
    /// The items from `start` on, each `step`th, until `stop`, as in Python; none: from one end, or to the other.
    Slice {
        /// The first; a negative number counts from the end.
        start: Option<isize>,
        /// The first that is not taken any more; a negative number counts from the end.
        stop: Option<isize>,
        /// From each to the next; not 0.
        step: isize,
    },
}

impl Index {
    /// All items.
    pub const ALL: Self = Self::Slice { start: None, stop: None, step: 1 };
}

impl From<isize> for Index {
    fn from(at: isize) -> Self {
        Self::At(at)
    }
}

impl From<Range<isize>> for Index {
    fn from(range: Range<isize>) -> Self {
        Self::Slice { start: Some(range.start), stop: Some(range.end), step: 1 }
    }
}

impl From<RangeFrom<isize>> for Index {
    fn from(range: RangeFrom<isize>) -> Self {
        Self::Slice { start: Some(range.start), stop: None, step: 1 }
    }
}

impl From<RangeTo<isize>> for Index {
    fn from(range: RangeTo<isize>) -> Self {
        Self::Slice { start: None, stop: Some(range.end), step: 1 }
    }
}

impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Self {
        Self::ALL
    }
}

impl Layout {
    /// A layout of these lengths and strides.
    ///
    /// # Errors
    /// `InvalidValue` when there are not as many strides as lengths, or too many of them.
    pub fn new(shape: Vec<usize>, strides: Vec<isize>) -> Result<Self> {
        if shape.len() == strides.len() && shape.len() <= MAX_DIMS {
            return Ok(Self { shape, strides });
        }
        Err(Error::value(format!(
            "expected as many strides as lengths, at most {MAX_DIMS}, got {} and {}",
            strides.len(),
            shape.len()
        )))
    }

    /// The layout of a contiguous array in C order, and its length in bytes.
    ///
    /// # Errors
    /// `InvalidValue` when the length does not fit `isize`, or there are too many axes.
    pub fn contiguous(shape: &[usize], itemsize: usize) -> Result<(Self, usize)> {
        let (strides, len_bytes) = contiguous(shape, itemsize, false)?;
        Ok((Self { shape: shape.to_vec(), strides }, len_bytes))
    }

    /// Items along each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes from item to item along each axis.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// How many axes.
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// How many items; none when that is more than a `usize` holds.
    pub fn items(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1_usize, |items, &length| items.checked_mul(length))
    }

    /// Whether the items follow each other in C order without gaps.
    pub fn is_contiguous(&self, itemsize: usize) -> bool {
        is_dense(self.shape.iter().zip(&self.strides).rev(), itemsize)
    }

    /// Whether the items follow each other in Fortran order without gaps.
    pub fn is_fortran(&self, itemsize: usize) -> bool {
        is_dense(self.shape.iter().zip(&self.strides), itemsize)
    }

    /// The bytes that the items reach, as offsets from the first one: the lowest, and one behind the highest.
    pub fn extent(&self, itemsize: usize) -> Option<(isize, isize)> {
        extent(&self.shape, &self.strides, itemsize)
    }

    /// Checks that every byte of an array that begins at `offset` lies inside a block of `block_len` bytes.
    ///
    /// # Errors
    /// `InvalidValue` when one does not.
    pub fn check_inside(&self, offset: u64, itemsize: usize, block_len: usize) -> Result<()> {
        let inside = || {
            let (low, high) = self.extent(itemsize)?;
            let offset = isize::try_from(offset).ok()?;
            let (first, last) = (offset.checked_add(low)?, offset.checked_add(high)?);
            (first >= 0 && last <= isize::try_from(block_len).ok()?).then_some(())
        };
        let fits = |count: &usize| isize::try_from(*count).is_ok();
        let is_counted = || self.items().as_ref().is_some_and(fits) && self.shape.iter().all(fits);
        if inside().is_some() && is_counted() {
            return Ok(());
        }
        let (shape, strides) = (&self.shape, &self.strides);
        Err(Error::value(format!(
            "expected an array inside a block of {block_len} bytes, got shape {shape:?}, strides {strides:?}, offset \
             {offset} of {itemsize}-byte items: the reference is damaged"
        )))
    }

    /// The bytes from the first item to the one at `index`; none when there is no such item.
    #[inline]
    pub fn offset_of(&self, index: &[usize]) -> Option<isize> {
        if index.len() != self.shape.len() || index.iter().zip(&self.shape).any(|(&at, &length)| at >= length) {
            return None;
        }
        // Every item lies inside a block, so neither a product nor the sum is beyond an isize.
        Some(index.iter().zip(&self.strides).map(|(&at, &stride)| (at as isize).wrapping_mul(stride)).sum())
    }

    /// The part that `index` takes, an axis each, and the bytes from the first item to the part's; axes that are not
    /// named are taken whole.
    ///
    /// # Errors
    /// `InvalidValue` for an item that there is not, a step of 0, and more indices than axes.
    pub fn part(&self, index: &[Index]) -> Result<(Self, isize)> {
        if index.len() > self.ndim() {
            return Err(Error::value(format!(
                "expected at most {} indices for shape {:?}, got {}",
                self.ndim(),
                self.shape,
                index.len()
            )));
        }
        let (mut part, mut offset) = (Self::default(), 0_isize);
        for (axis, (&length, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            match index.get(axis).copied().unwrap_or(Index::ALL) {
                Index::At(at) => {
                    let at = wrapped(at, length).ok_or_else(|| self.no_item(at, axis))?;
                    offset = offset.wrapping_add((at as isize).wrapping_mul(stride));
                }
                Index::Slice { step: 0, .. } => return Err(Error::value("expected a step other than 0, got 0")),
                Index::Slice { start, stop, step } => {
                    let (first, count) = sliced(start, stop, step, length);
                    part.shape.push(count);
                    part.strides.push(stride.saturating_mul(step));
                    if count > 0 {
                        offset = offset.wrapping_add((first as isize).wrapping_mul(stride));
                    }
                }
            }
        }
        // A part without items is nowhere; where its steps would lead may be outside of the array.
        Ok(if part.shape.contains(&0) { (part, 0) } else { (part, offset) })
    }

    /// The same items with their axes in another order: axis `i` is the old `axes[i]`.
    ///
    /// # Errors
    /// `InvalidValue` when `axes` does not name each axis once.
    pub fn transposed(&self, axes: &[usize]) -> Result<Self> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.ndim()) {
            return Err(Error::value(format!("expected each of {} axes once, got {axes:?}", self.ndim())));
        }
        let (shape, strides) = (&self.shape, &self.strides);
        Ok(Self {
            shape: axes.iter().map(|&axis| shape[axis]).collect(),
            strides: axes.iter().map(|&axis| strides[axis]).collect(),
        })
    }

    fn no_item(&self, at: isize, axis: usize) -> Error {
        Error::value(format!("index {at} is out of bounds for axis {axis} of shape {:?}", self.shape))
    }
}

/// Whether items follow each other without gaps; `axes` are lengths and strides, the innermost first.
fn is_dense<'a>(axes: impl Iterator<Item = (&'a usize, &'a isize)> + Clone, itemsize: usize) -> bool {
    let mut step = itemsize;
    let mut follows = |(&length, &stride): (&usize, &isize)| {
        let follows = length == 1 || usize::try_from(stride) == Ok(step);
        step = step.saturating_mul(length);
        follows
    };
    axes.clone().any(|(&length, _)| length == 0) || axes.into_iter().all(&mut follows)
}

/// An index from either end as one from the beginning.
fn wrapped(at: isize, length: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add_unsigned(length)? } else { at };
    usize::try_from(at).ok().filter(|&at| at < length)
}

/// The first item and the number of items of a slice, as Python's `slice.indices` gives them. `step` is not 0.
fn sliced(start: Option<isize>, stop: Option<isize>, step: isize, length: usize) -> (usize, usize) {
    let length = length.cast_signed();
    let (lowest, highest) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let clamp = |at: isize| if at < 0 { at.saturating_add(length).max(lowest) } else { at.min(highest) };
    let (first, last) = if step < 0 { (highest, lowest) } else { (lowest, highest) };
    let (start, stop) = (start.map_or(first, clamp), stop.map_or(last, clamp));
    let distance = if step < 0 { start - stop } else { stop - start };
    if distance <= 0 {
        return (0, 0);
    }
    (start.unsigned_abs(), (distance - 1).unsigned_abs() / step.unsigned_abs() + 1)
}

/// Whether no two items share a byte, as far as sorted strides tell: each must reach beyond all smaller ones.
///
/// False also for odd arrays whose items interleave without touching.
pub fn is_apart(shape: &[usize], strides: &[isize], itemsize: usize) -> bool {
    let mut axes: Vec<_> = shape.iter().zip(strides).filter(|&(&length, _)| length != 1).collect();
    axes.sort_by_key(|(_, stride)| stride.unsigned_abs());
    let mut reach = itemsize;
    axes.into_iter().all(|(&length, stride)| {
        let is_beyond = stride.unsigned_abs() >= reach;
        reach = reach.saturating_add(length.saturating_sub(1).saturating_mul(stride.unsigned_abs()));
        is_beyond || length == 0
    }) || shape.contains(&0)
}

/// The axes from the outermost to the innermost of an array that takes its memory order from several, as NumPy
/// orders the result of `concatenate`: by strides, and where the arrays disagree or say nothing, as in C.
///
/// Each item of `arrays` is a shape and its strides; all have `ndim` axes.
pub fn common_order<'a>(ndim: usize, arrays: impl Iterator<Item = (&'a [usize], &'a [isize])> + Clone) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..ndim).collect();
    for place in 1..ndim {
        let axis = axes[place];
        let mut insert = place;
        for before in (0..place).rev() {
            match goes_before(axis, axes[before], arrays.clone()) {
                None => {}
                Some(true) => insert = before,
                Some(false) => break,
            }
        }
        axes[insert..=place].rotate_right(1);
    }
    axes
}

/// Whether the arrays want `axis` outside of `other`; none when no array says.
fn goes_before<'a>(
    axis: usize,
    other: usize,
    arrays: impl Iterator<Item = (&'a [usize], &'a [isize])>,
) -> Option<bool> {
    let speaking = arrays.filter(|(shape, _)| shape[axis] != 1 && shape[other] != 1);
    let wishes = speaking.map(|(_, strides)| strides[axis].unsigned_abs() > strides[other].unsigned_abs());
    wishes.reduce(|all, this| all && this)
}

/// Bytes from a text such as `"8 GiB"`, `"512MB"`, `"1.5G"` or `"1048576"`.
///
/// `K`, `M`, `G`, `T`, alone or with `iB`, are powers of 1024; with `B` they are powers of 1000.
///
/// # Errors
/// `InvalidValue` for anything else, for less than a byte, and for 9.2e18 bytes or more.
pub fn parse_size(text: &str) -> Result<u64> {
    let bad =
        || Error::value(format!("expected a size such as \"8 GiB\", \"512MB\" or a number of bytes, got {text:?}"));
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.replace('_', "").parse().map_err(|_| bad())?;
    let bytes = number * unit_bytes(unit.trim()).ok_or_else(bad)?;
    // 2^63 bytes is beyond any address space; the comparison also refuses infinity.
    if (1.0..9.2e18).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

fn unit_bytes(unit: &str) -> Option<f64> {
    let unit = unit.to_ascii_lowercase();
    let (letter, base) = match unit.as_str() {
        "" | "b" => return Some(1.0),
        u if u.ends_with("ib") => (u.strip_suffix("ib")?, 1024.0_f64),
        u if u.ends_with('b') => (u.strip_suffix('b')?, 1000.0),
        u => (u, 1024.0),
    };
    let power = ["k", "m", "g", "t"].iter().position(|&l| l == letter)? as i32 + 1;
    Some(base.powi(power))
}

/// A length for people: `"7.9 MiB"`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // Just below the next unit is not that unit, and 1024 of this one would be.
    if unit > 0 && unit + 1 < UNITS.len() {
        value = value.min(1023.9);
    }
    if unit == 0 || value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn contiguous_strides_are_numpys() {
        assert_eq!(contiguous(&[2, 3, 4], 8, false).unwrap(), (vec![96, 32, 8], 192));
        assert_eq!(contiguous(&[2, 3, 4], 8, true).unwrap(), (vec![8, 16, 48], 192));
        assert_eq!(contiguous(&[], 8, false).unwrap(), (vec![], 8));
        assert_eq!(contiguous(&[5, 0], 2, false).unwrap(), (vec![2, 2], 0));
    }

    #[test]
    fn axes_lie_in_the_order_that_is_asked_for() {
        assert_eq!(in_order(&[2, 3, 4], 8, &[0, 1, 2]).unwrap(), contiguous(&[2, 3, 4], 8, false).unwrap().0);
        assert_eq!(in_order(&[2, 3, 4], 8, &[1, 2, 0]).unwrap(), [8, 64, 16]);
        assert_eq!(in_order(&[5, 0], 2, &[1, 0]).unwrap(), [2, 10]);
        for axes in [&[0][..], &[0, 0], &[1, 2]] {
            assert!(in_order(&[2, 3], 8, axes).is_err(), "{axes:?}");
        }
    }

    #[test]
    fn lengths_beyond_isize_are_no_array() {
        let inside = |length| Layout::new(vec![0, length], vec![0, 0]).unwrap().check_inside(0, 1, 64).is_ok();
        assert!(inside(usize::MAX >> 1) && !inside(usize::MAX));
        assert!(Layout::contiguous(&[usize::MAX >> 1], 0).is_ok() && Layout::contiguous(&[usize::MAX], 0).is_err());
    }

    #[test]
    fn overflow_is_an_error_also_beside_a_zero() {
        for shape in [vec![1 << 62, 4], vec![usize::MAX], vec![0, 1 << 40, 1 << 40], vec![1; 65]] {
            assert!(contiguous(&shape, 2, false).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn extent_follows_the_signs() {
        assert_eq!(extent(&[3, 4], &[-16, 4], 4), Some((-32, 16)));
        assert_eq!(extent(&[3, 0], &[-16, 4], 4), Some((0, 0)));
        assert_eq!(extent(&[5], &[0], 2), Some((0, 2)));
        assert_eq!(extent(&[3], &[isize::MAX], 1), None);
    }

    #[test]
    fn items_that_share_bytes_are_seen() {
        assert!(is_apart(&[3, 4], &[16, 4], 4));
        assert!(is_apart(&[4, 3], &[4, -16], 4));
        assert!(is_apart(&[3, 1, 0], &[0, 0, 0], 4));
        assert!(is_apart(&[], &[], 4));
        assert!(!is_apart(&[3], &[2], 4));
        assert!(!is_apart(&[3, 4], &[12, 4], 4));
        assert!(!is_apart(&[2], &[0], 1));
    }

    #[test]
    fn several_arrays_find_one_order() {
        type Geometry = (&'static [usize], &'static [isize]);
        let order = |arrays: &[Geometry]| common_order(arrays[0].0.len(), arrays.iter().copied());
        let (c, f): (Geometry, Geometry) = ((&[3, 4], &[32, 8]), (&[3, 4], &[8, 24]));
        assert_eq!(order(&[c, c]), [0, 1]);
        assert_eq!(order(&[f, f]), [1, 0]);
        assert_eq!(order(&[c, f]), [0, 1]);
        assert_eq!(order(&[f, c]), [0, 1]);
        assert_eq!(order(&[(&[2, 3, 4], &[8, 64, 16])]), [1, 2, 0]);
        assert_eq!(order(&[(&[2, 1, 4], &[8, 0, 16])]), [2, 0, 1]);
    }

    #[test]
    fn sizes_parse() {
        let good = [("8 GiB", 8 << 30), ("512MB", 512_000_000), ("1.5g", 3 << 29), ("42", 42), ("1_000 b", 1000)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GiB", "-1", "0", "1 XB", "1e400", "9999999999 TiB", "1..5 G", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_read_sizes() {
        assert_eq!(human(4096), "4 KiB");
        assert_eq!(human(1500 << 10), "1.5 MiB");
        assert_eq!(human(17), "17 B");
        assert_eq!((human(1023), human((1 << 20) - 1)), ("1023 B".into(), "1023.9 KiB".into()));
    }

    #[test]
    fn parts_are_pythons() {
        let (layout, _) = Layout::contiguous(&[10], 2).unwrap();
        let slice = |start, stop, step| layout.part(&[Index::Slice { start, stop, step }]).unwrap();
        // As `range(10)[start:stop:step]` has them: the first item, how many, and bytes from each to the next.
        let cases = [
            ((None, None, 1), (0, 10, 2)),
            ((Some(2), Some(-2), 1), (2, 6, 2)),
            ((None, None, -1), (9, 10, -2)),
            ((Some(-3), None, -2), (7, 4, -4)),
            ((Some(1), Some(100), 4), (1, 3, 8)),
            ((Some(8), Some(2), 1), (0, 0, 2)),
            ((Some(100), None, 1), (0, 0, 2)),
            ((Some(2), Some(-100), -1), (2, 3, -2)),
            ((Some(-100), None, 3), (0, 4, 6)),
            ((None, None, isize::MAX), (0, 1, isize::MAX)),
            ((None, None, isize::MIN), (9, 1, isize::MIN)),
        ];
        for ((start, stop, step), (first, count, stride)) in cases {
            let (part, offset) = slice(start, stop, step);
            assert_eq!((part.shape(), offset), (&[count][..], first * 2), "{start:?} {stop:?} {step}");
            assert_eq!(part.strides(), &[stride], "{start:?} {stop:?} {step}");
        }
        let (matrix, _) = Layout::contiguous(&[3, 4], 8).unwrap();
        let (column, offset) = matrix.part(&[Index::ALL, Index::At(-1)]).unwrap();
        assert_eq!((column.shape(), column.strides(), offset), (&[3][..], &[32][..], 24));
        // A turned axis beside one without items once led out of the array.
        let (none, _) = Layout::contiguous(&[9, 0], 8).unwrap();
        let turned = Index::Slice { start: None, stop: None, step: -1 };
        assert_eq!(none.part(&[turned]).unwrap().1, 0);
        assert!(matrix.part(&[Index::At(3)]).is_err() && matrix.part(&[Index::At(-4)]).is_err());
        assert!(matrix.part(&[Index::Slice { start: None, stop: None, step: 0 }]).is_err());
        assert!(matrix.part(&[Index::ALL; 3]).is_err());
    }

    #[test]
    fn layouts_turn_and_count() {
        let (layout, len_bytes) = Layout::contiguous(&[2, 3, 4], 8).unwrap();
        assert_eq!((len_bytes, layout.items(), layout.is_contiguous(8)), (192, Some(24), true));
        let turned = layout.transposed(&[2, 0, 1]).unwrap();
        assert_eq!((turned.shape(), turned.strides()), (&[4, 2, 3][..], &[8, 96, 32][..]));
        assert!(!turned.is_contiguous(8));
        let fortran = layout.transposed(&[2, 1, 0]).unwrap();
        assert_eq!((fortran.is_contiguous(8), fortran.is_fortran(8), layout.is_fortran(8)), (false, true, false));
        assert!(Layout::new(vec![4], vec![8]).unwrap().is_fortran(8) && !turned.is_fortran(8));
        assert_eq!((layout.offset_of(&[1, 2, 3]), layout.offset_of(&[1, 3, 0])), (Some(184), None));
        for axes in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3]] {
            assert!(layout.transposed(axes).is_err());
        }
        // Strides of an axis of one item, or of no items at all, mean nothing.
        assert!(Layout::new(vec![1, 4], vec![-7, 8]).unwrap().is_contiguous(8));
        assert!(Layout::new(vec![0, 4], vec![-7, 9]).unwrap().is_contiguous(8));
        assert!(Layout::new(vec![1], vec![]).is_err());
        let huge = Layout::new(vec![usize::MAX, usize::MAX], vec![0, 0]).unwrap();
        assert!(huge.items().is_none() && huge.check_inside(0, 1, 1).is_err());
    }
}
