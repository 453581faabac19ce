//! Numbers of one row, from a plane to arrays of the precision that is computed in, and back.
//!
//! What lies outside of an input plane is zero. Rows of neighbouring numbers go by vectors; all others one by one.

use super::lanes::{Convert, Lanes, Real};
use super::{Number, Plane};

/// Calls something with the type of a real number, or of the parts of a complex one.
macro_rules! with_number {
    ($number:expr, $call:ident::<$v:ty, _>($($argument:expr),*)) => {
        match $number {
            Number::U8 => $call::<$v, u8>($($argument),*),
            Number::I8 => $call::<$v, i8>($($argument),*),
            Number::U16 => $call::<$v, u16>($($argument),*),
            Number::I16 => $call::<$v, i16>($($argument),*),
            Number::F32 | Number::C64 => $call::<$v, f32>($($argument),*),
            Number::F64 | Number::C128 => $call::<$v, f64>($($argument),*),
        }
    };
}
pub(super) use with_number;

impl Plane {
    /// The address of an element. It may lie outside of the plane, and is then not to be used.
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *mut u8 {
        let offset =
            (row as isize).wrapping_mul(self.row_stride).wrapping_add((column as isize).wrapping_mul(self.col_stride));
        self.data.wrapping_offset(offset)
    }

    /// How many of the elements from `column` on are inside, `count` at most.
    #[inline(always)]
    fn inside(&self, row: usize, column: usize, count: usize) -> usize {
        if row < self.rows { self.cols.saturating_sub(column).min(count) } else { 0 }
    }
}

/// Reads `count` real numbers of a row from `column` on.
///
/// # Safety
/// The plane must be readable, its numbers of type `T`; `to` must have room.
#[inline(always)]
pub(super) unsafe fn read_real<V: Lanes + Convert<T>, T: Copy + Into<f64>>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    to: *mut V::Real,
) {
    let inside = plane.inside(row, column, count);
    let from = plane.at(row, column).cast::<T>();
    let mut done = 0;
    // SAFETY: `inside` elements are in the plane, and `done` never exceeds `count`.
    unsafe {
        if plane.col_stride == size_of::<T>() as isize {
            while done + V::LANES <= inside {
                <V as Convert<T>>::convert(from.add(done)).store(to.add(done));
                done += V::LANES;
            }
        }
        for place in done..inside {
            let number = plane.at(row, column + place).cast::<T>().read_unaligned();
            *to.add(place) = V::Real::of(number.into());
        }
        for place in inside..count {
            *to.add(place) = V::Real::ZERO;
        }
    }
}

/// Reads `count` complex numbers of a row from `column` on.
///
/// # Safety
/// The plane must be readable, its numbers complex with parts of type `T`; `re` and `im` must have room.
#[inline(always)]
pub(super) unsafe fn read_complex<V: Lanes + Convert<T>, T: Copy + Into<f64>>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *mut V::Real,
    im: *mut V::Real,
) {
    let inside = plane.inside(row, column, count);
    let from = plane.at(row, column).cast::<T>();
    let mut done = 0;
    // SAFETY: as above; an element is two parts.
    unsafe {
        if plane.col_stride == 2 * size_of::<T>() as isize {
            while done + V::LANES <= inside {
                let first = <V as Convert<T>>::convert(from.add(2 * done));
                let second = <V as Convert<T>>::convert(from.add(2 * done + V::LANES));
                let (even, odd) = first.deinterleave(second);
                even.store(re.add(done));
                odd.store(im.add(done));
                done += V::LANES;
            }
        }
        for place in done..inside {
            let [a, b] = plane.at(row, column + place).cast::<[T; 2]>().read_unaligned();
            (*re.add(place), *im.add(place)) = (V::Real::of(a.into()), V::Real::of(b.into()));
        }
        for place in inside..count {
            (*re.add(place), *im.add(place)) = (V::Real::ZERO, V::Real::ZERO);
        }
    }
}

/// Reads complex numbers from a row of complex ones, or of real ones.
///
/// # Safety
/// As [`read_complex`], with numbers of the type that `number` says.
#[inline(always)]
pub(super) unsafe fn read_any<V: Lanes>(
    plane: &Plane,
    number: Number,
    row: usize,
    column: usize,
    count: usize,
    re: *mut V::Real,
    im: *mut V::Real,
) {
    // SAFETY: as the caller says.
    unsafe {
        if number.is_complex() {
            return with_number!(number, read_complex::<V, _>(plane, row, column, count, re, im));
        }
        with_number!(number, read_real::<V, _>(plane, row, column, count, re));
        (0..count).for_each(|place| *im.add(place) = V::Real::ZERO);
    }
}

/// Writes `count` real numbers, times `scale`, to a row from `column` on, as far as they are inside.
///
/// # Safety
/// The plane must be writable, its numbers of the vector's type; `from` must be readable.
#[inline(always)]
pub(super) unsafe fn write_real<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    from: *const V::Real,
    scale: V::Real,
) {
    let inside = plane.inside(row, column, count);
    let to = plane.at(row, column).cast::<V::Real>();
    let factor = V::splat(scale);
    let mut done = 0;
    // SAFETY: `inside` elements are in the plane.
    unsafe {
        if plane.col_stride == size_of::<V::Real>() as isize {
            while done + V::LANES <= inside {
                V::load(from.add(done)).mul(factor).store(to.add(done));
                done += V::LANES;
            }
        }
        for place in done..inside {
            let to = plane.at(row, column + place).cast::<V::Real>();
            to.write_unaligned((*from.add(place)).times(scale));
        }
    }
}

/// Writes `count` complex numbers, times `scale`, to a row from `column` on, as far as they are inside.
///
/// # Safety
/// The plane must be writable, its numbers complex with parts of the vector's type; `re` and `im` must be readable.
#[inline(always)]
pub(super) unsafe fn write_complex<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *const V::Real,
    im: *const V::Real,
    scale: V::Real,
) {
    let inside = plane.inside(row, column, count);
    let to = plane.at(row, column).cast::<V::Real>();
    let factor = V::splat(scale);
    let mut done = 0;
    // SAFETY: as above; an element is two parts.
    unsafe {
        if plane.col_stride == 2 * size_of::<V::Real>() as isize {
            while done + V::LANES <= inside {
                let (first, second) = V::load(re.add(done)).mul(factor).interleave(V::load(im.add(done)).mul(factor));
                first.store(to.add(2 * done));
                second.store(to.add(2 * done + V::LANES));
                done += V::LANES;
            }
        }
        for place in done..inside {
            let pair = [(*re.add(place)).times(scale), (*im.add(place)).times(scale)];
            plane.at(row, column + place).cast::<[V::Real; 2]>().write_unaligned(pair);
        }
    }
}

/// Writes complex numbers in reverse: the conjugate of number `place` of `count` goes to `column + count - 1 - place`.
///
/// # Safety
/// As [`write_complex`].
#[inline(always)]
pub(super) unsafe fn write_mirrored<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *const V::Real,
    im: *const V::Real,
    scale: V::Real,
) {
    let (plus, minus) = (V::splat(scale), V::splat(V::Real::ZERO.minus(scale)));
    let mut left = count;
    // SAFETY: `left` elements of the source from its beginning, and as many places from `column` on backwards, are
    // still to do; the caller vouches that all of these are inside.
    unsafe {
        if plane.col_stride == 2 * size_of::<V::Real>() as isize {
            while left >= V::LANES {
                let from = left - V::LANES;
                let to = plane.at(row, column + count - left).cast::<V::Real>();
                let (re, im) = (V::load(re.add(from)).mul(plus).reverse(), V::load(im.add(from)).mul(minus).reverse());
                let (first, second) = re.interleave(im);
                first.store(to);
                second.store(to.add(V::LANES));
                left = from;
            }
        }
        while left > 0 {
            let from = left - 1;
            let pair = [(*re.add(from)).times(scale), V::Real::ZERO.minus((*im.add(from)).times(scale))];
            plane.at(row, column + count - left).cast::<[V::Real; 2]>().write_unaligned(pair);
            left = from;
        }
    }
}
