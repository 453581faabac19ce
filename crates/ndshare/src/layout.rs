//! Pure arithmetic of shapes, strides and sizes. Nothing here touches memory.

use crate::error::{Error, Result};

/// The most dimensions an array can have, as in NumPy 2.
pub const MAX_DIMS: usize = 64;

/// Strides (bytes) and length (bytes) of a contiguous array; `fortran` puts the first axis innermost.
///
/// A shape with a zero has length 0. Strides follow NumPy: they are those of the shape with its zeros as ones.
///
/// # Errors
/// `InvalidValue` when the length does not fit `isize`, or there are more than [`MAX_DIMS`] dimensions.
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
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| too_big(shape, itemsize))?;
    }
    let len_bytes = if shape.contains(&0) { 0 } else { step };
    Ok((strides, len_bytes))
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
/// `InvalidValue` for anything else, for zero, and for more than `u64` holds.
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
    }
}
