//! Numbers of one row, from a plane to arrays of the precision that is computed in, and back.
//!
//! What lies outside of an input plane is zero. Rows of neighbouring numbers go by vectors; all others one by one.

use super::lanes::{Convert, Lanes, Real, Work};
use super::problem::Plane;
use crate::element::Number;
use crate::kernel::LINE;

impl Plane {
    /// The address of an element. It may lie outside of the plane, and is then not to be used.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, column: usize) -> *mut u8 {
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

/// Rows to be read: `count` numbers of each from `column` on.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub plane: &'a Plane,
    pub row: usize,
    /// From row to row.
    pub step: usize,
    pub rows: usize,
    pub column: usize,
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// Whether all numbers are inside, and neighbours lie side by side.
    #[inline(always)]
    fn is_plain(&self, size: usize) -> bool {
        let Self { plane, row, step, rows, column, count } = *self;
        let inside = column + count <= plane.cols && rows > 0 && row + (rows - 1) * step < plane.rows;
        inside && plane.col_stride == size as isize
    }

    /// The first `count` numbers of one row.
    #[inline(always)]
    pub(super) fn one(plane: &'a Plane, row: usize, count: usize) -> Self {
        Self { plane, row, step: 1, rows: 1, column: 0, count }
    }
}

/// Reads rows: row i to the numbers from `i * to_step` on. Without `im` they are real. Real numbers are complex ones
/// where these are asked for.
pub(super) struct Read<'a, V: Lanes> {
    pub from: Rows<'a>,
    pub number: Number,
    pub re: *mut V::Real,
    pub im: Option<*mut V::Real>,
    pub to_step: usize,
    /// How many rows further on the next reading will be; 0 when that is not known.
    pub ahead: usize,
}

/// The numbers that are read, each said once: how, and of what type their parts are.
macro_rules! inputs {
    ($($number:ident $method:ident $type:ty;)*) => {
        /// Whether the engine reads such numbers.
        pub(in super::super) fn is_input(number: Number) -> bool {
            matches!(number, $(Number::$number)|*)
        }

        impl<V: Lanes> Work<V> for Read<'_, V> {
            type Out = ();
            #[inline(always)]
            unsafe fn run(self) {
                // SAFETY: as the caller says.
                unsafe {
                    match self.number {
                        $(Number::$number => self.$method::<$type>(),)*
                        _ => unreachable!("no plan has such input"),
                    }
                }
            }
        }
    };
}

inputs! {
    Bool real u8;
    U8 real u8;
    I8 real i8;
    U16 real u16;
    I16 real i16;
    F32 real f32;
    F64 real f64;
    C64 complex f32;
    C128 complex f64;
}

impl<V: Lanes> Read<'_, V> {
    /// Asks for what a later reading will want. No prefetcher of a CPU sees that, because the rows are pages apart.
    #[inline(always)]
    fn prefetch(&self, row: usize, bytes: usize) {
        if self.ahead > 0 {
            let at = self.from.plane.at(row, self.from.column);
            (0..bytes).step_by(LINE).for_each(|byte| V::prefetch(at.wrapping_add(byte)));
            V::prefetch(at.wrapping_add(bytes - 1));
        }
    }

    /// # Safety
    /// As [`read_real`], for each row.
    #[inline(always)]
    unsafe fn real<T: Copy + Into<f64>>(&self)
    where
        V: Convert<T>,
    {
        let Rows { plane, row, step, rows, column, count } = self.from;
        if count == 2 * V::LANES && self.im.is_none() && self.from.is_plain(size_of::<T>()) {
            // SAFETY: as the caller says.
            return unsafe { self.blocks::<T>() };
        }
        for i in 0..rows {
            self.prefetch(row + i * step + self.ahead, count * size_of::<T>());
            // SAFETY: as the caller says.
            unsafe { read_real::<V, T>(plane, row + i * step, column, count, self.re.add(i * self.to_step)) };
        }
        for im in self.im.iter().flat_map(|im| (0..rows).map(|i| im.wrapping_add(i * self.to_step))) {
            // SAFETY: as the caller says.
            (0..count).for_each(|place| unsafe { *im.add(place) = V::Real::ZERO });
        }
    }

    /// What strips of real columns are read by: two vectors of neighbours in each row.
    ///
    /// # Safety
    /// As [`read_real`], for each row; and all numbers must be inside.
    #[inline(always)]
    unsafe fn blocks<T: Copy + Into<f64>>(&self)
    where
        V: Convert<T>,
    {
        let Rows { plane, row, step, rows, column, .. } = self.from;
        debug_assert!(self.from.is_plain(size_of::<T>()), "all numbers are inside");
        let bytes = 2 * V::LANES * size_of::<T>();
        let (hop, ahead) = (step as isize * plane.row_stride, self.ahead as isize * plane.row_stride);
        let (mut from, mut to) = (plane.at(row, column), self.re);
        for _ in 0..rows {
            // No prefetcher of a CPU sees what comes next, because the rows are pages apart.
            let next = from.wrapping_offset(ahead);
            (0..bytes).step_by(LINE).for_each(|byte| V::prefetch(next.wrapping_add(byte)));
            V::prefetch(next.wrapping_add(bytes - 1));
            // SAFETY: as the caller says.
            unsafe {
                <V as Convert<T>>::convert(from.cast()).store(to);
                <V as Convert<T>>::convert(from.cast::<T>().add(V::LANES)).store(to.add(V::LANES));
            }
            (from, to) = (from.wrapping_offset(hop), to.wrapping_add(self.to_step));
        }
    }

    /// The same for strips of complex columns: one vector in each row.
    ///
    /// # Safety
    /// As [`read_complex`], for each row; and all numbers must be inside.
    #[inline(always)]
    unsafe fn complex_blocks<T: Copy + Into<f64>>(&self, im: *mut V::Real)
    where
        V: Convert<T>,
    {
        let Rows { plane, row, step, rows, column, .. } = self.from;
        debug_assert!(self.from.is_plain(2 * size_of::<T>()), "all numbers are inside");
        let bytes = 2 * V::LANES * size_of::<T>();
        let (hop, ahead) = (step as isize * plane.row_stride, self.ahead as isize * plane.row_stride);
        let (mut from, mut to) = (plane.at(row, column), 0);
        for _ in 0..rows {
            let next = from.wrapping_offset(ahead);
            (0..bytes).step_by(LINE).filter(|_| self.ahead > 0).for_each(|byte| V::prefetch(next.wrapping_add(byte)));
            // SAFETY: as the caller says.
            unsafe {
                let first = <V as Convert<T>>::convert(from.cast());
                let (even, odd) = first.deinterleave(<V as Convert<T>>::convert(from.cast::<T>().add(V::LANES)));
                even.store(self.re.add(to));
                odd.store(im.add(to));
            }
            (from, to) = (from.wrapping_offset(hop), to + self.to_step);
        }
    }

    /// # Safety
    /// As [`read_complex`], for each row.
    #[inline(always)]
    unsafe fn complex<T: Copy + Into<f64>>(&self)
    where
        V: Convert<T>,
    {
        let Rows { plane, row, step, rows, column, count } = self.from;
        let Some(im) = self.im else { return };
        if count == V::LANES && self.from.is_plain(2 * size_of::<T>()) {
            // SAFETY: as the caller says.
            return unsafe { self.complex_blocks::<T>(im) };
        }
        for i in 0..rows {
            self.prefetch(row + i * step + self.ahead, 2 * count * size_of::<T>());
            let to = i * self.to_step;
            // SAFETY: as the caller says.
            unsafe { read_complex::<V, T>(plane, row + i * step, column, count, self.re.add(to), im.add(to)) };
        }
    }
}

/// Writes rows, times a factor: those that [`Read`] would read.
pub(super) struct Write<'a, V: Lanes> {
    pub to: Rows<'a>,
    pub re: *const V::Real,
    /// None for real numbers.
    pub im: Option<*const V::Real>,
    pub from_step: usize,
    pub scale: V::Real,
}

impl<V: Lanes> Work<V> for Write<'_, V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Rows { plane, row, step, rows, column, count } = self.to;
        for i in 0..rows {
            let (row, from) = (row + i * step, i * self.from_step);
            // SAFETY: as the caller says.
            unsafe {
                match self.im {
                    None => write_real::<V>(plane, row, column, count, self.re.add(from), self.scale),
                    Some(im) => {
                        write_complex::<V>(plane, row, column, count, self.re.add(from), im.add(from), self.scale)
                    }
                }
            }
        }
    }
}

/// Writes the conjugates of `count` complex numbers, times a factor, to a row in reverse, the last one to `column`.
pub(super) struct Mirror<'a, V: Lanes> {
    pub plane: &'a Plane,
    pub row: usize,
    pub column: usize,
    pub count: usize,
    pub re: *const V::Real,
    pub im: *const V::Real,
    pub scale: V::Real,
}

impl<V: Lanes> Work<V> for Mirror<'_, V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { plane, row, column, count, re, im, scale } = self;
        // SAFETY: as the caller says.
        unsafe { write_mirrored::<V>(plane, row, column, count, re, im, scale) }
    }
}

/// Reads `count` real numbers of a row from `column` on.
///
/// # Safety
/// The plane must be readable, its numbers of type `T`; `to` must have room.
#[inline(always)]
unsafe fn read_real<V: Lanes + Convert<T>, T: Copy + Into<f64>>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    to: *mut V::Real,
) {
    let inside = plane.inside(row, column, count);
    debug_assert!(inside == 0 || !plane.data.is_null(), "a plane with numbers is somewhere");
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
unsafe fn read_complex<V: Lanes + Convert<T>, T: Copy + Into<f64>>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *mut V::Real,
    im: *mut V::Real,
) {
    let inside = plane.inside(row, column, count);
    debug_assert!(inside == 0 || !plane.data.is_null(), "a plane with numbers is somewhere");
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

/// Writes `count` real numbers, times `scale`, to a row from `column` on, as far as they are inside.
///
/// # Safety
/// The plane must be writable, its numbers of the vector's type; `from` must be readable.
#[inline(always)]
unsafe fn write_real<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    from: *const V::Real,
    scale: V::Real,
) {
    let inside = plane.inside(row, column, count);
    debug_assert!(inside == 0 || !plane.data.is_null(), "a plane with numbers is somewhere");
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
unsafe fn write_complex<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *const V::Real,
    im: *const V::Real,
    scale: V::Real,
) {
    let inside = plane.inside(row, column, count);
    debug_assert!(inside == 0 || !plane.data.is_null(), "a plane with numbers is somewhere");
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
unsafe fn write_mirrored<V: Lanes>(
    plane: &Plane,
    row: usize,
    column: usize,
    count: usize,
    re: *const V::Real,
    im: *const V::Real,
    scale: V::Real,
) {
    debug_assert!(row < plane.rows && column + count <= plane.cols, "all numbers are inside");
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
