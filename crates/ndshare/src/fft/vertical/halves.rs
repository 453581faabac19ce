//! Two real rows as one complex row: the rows are its real and its imaginary part.
//!
//! The spectrum of a real row is its own mirror image. So with the transform Z of `a + i b`, of length n, the spectra
//! of the two rows are `(Z[k] + conj Z[n - k]) / 2` and `(Z[k] - conj Z[n - k]) / 2 i`: they come apart by one look at
//! either end of the row, and go together the same way.

use super::lanes::{Lanes, Real, Work};
use super::radix::C;

/// Where the spectra of two rows are put.
pub(super) trait Halves<V: Lanes> {
    /// Takes a vector of either spectrum, from number k on.
    ///
    /// # Safety
    /// Both spectra must have room for a vector from number k on.
    unsafe fn put(&self, k: usize, a: C<V>, b: C<V>);
}

/// The spectra as complex numbers one after another, times a factor.
pub(super) struct ByTurns<R> {
    pub a: *mut R,
    pub b: *mut R,
    pub scale: R,
}

/// The spectra with real and imaginary parts apart.
pub(super) struct Apart<R> {
    pub a: *mut R,
    pub b: *mut R,
    pub im: usize,
}

impl<V: Lanes> Halves<V> for ByTurns<V::Real> {
    #[inline(always)]
    unsafe fn put(&self, k: usize, a: C<V>, b: C<V>) {
        let factor = V::splat(self.scale);
        // SAFETY: as the caller says; a complex number is two.
        unsafe {
            a.scale(factor).store_by_turns(self.a.add(2 * k));
            b.scale(factor).store_by_turns(self.b.add(2 * k));
        }
    }
}

impl<V: Lanes> Halves<V> for Apart<V::Real> {
    #[inline(always)]
    unsafe fn put(&self, k: usize, a: C<V>, b: C<V>) {
        // SAFETY: as the caller says.
        unsafe {
            a.store(self.a.add(k), self.im);
            b.store(self.b.add(k), self.im);
        }
    }
}

/// Takes the transform of two real rows of n numbers apart, as far as the middle: twice the spectrum of either. The last
/// vector overlaps the one before, so that no number is written beyond the middle where that is a vector away.
///
/// `row` must be n complex numbers, the imaginary parts `im` numbers behind the real ones, with room for a vector before
/// the first and behind the last of each; and `to` must have room for `n / 2 + 1` numbers, a vector at least.
pub(super) struct Untangle<'a, V: Lanes, T> {
    pub row: *mut V::Real,
    pub im: usize,
    pub n: usize,
    pub to: &'a T,
}

impl<V: Lanes, T: Halves<V>> Work<V> for Untangle<'_, V, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { row, im, n, to } = self;
        let kept = n / 2 + 1;
        debug_assert!(im >= n + V::LANES, "room between the parts of a row of {n}");
        // SAFETY: as the caller says. The row goes on periodically, so number n is number 0.
        unsafe {
            (*row.add(n), *row.add(im + n)) = (*row, *row.add(im));
            for k in (0..kept).step_by(V::LANES) {
                let k = k.min(kept.saturating_sub(V::LANES));
                let (a, b) = C::<V>::load(row.add(k), im).untangled(mirrored(row, im, n, k));
                to.put(k, a, b);
            }
        }
    }
}

/// Where the numbers n - k, n - k - 1 and so on of a row of n end. The last lanes of a short row lie before its beginning.
#[inline(always)]
fn mirror<V: Lanes>(row: *const V::Real, n: usize, k: usize) -> *const V::Real {
    row.wrapping_add(n + 1).wrapping_sub(k + V::LANES)
}

/// The numbers n - k, n - k - 1 and so on.
///
/// # Safety
/// As [`Untangle`].
#[inline(always)]
pub(super) unsafe fn mirrored<V: Lanes>(row: *const V::Real, im: usize, n: usize, k: usize) -> C<V> {
    let at = mirror::<V>(row, n, k);
    // SAFETY: as the caller says.
    unsafe { C { re: V::load(at).reverse(), im: V::load(at.wrapping_add(im)).reverse() } }
}

/// Puts two half-spectra of `n / 2 + 1` numbers together to the whole row of which the real and the imaginary part are
/// their real rows, with its parts exchanged. What cannot be in the spectrum of a real row, the imaginary parts of the
/// first number and of the middle one, counts as zero.
///
/// `a` and `b` must be half-spectra with exchanged parts, their real parts `from_im` numbers behind the others; `to` must
/// have room as a row of [`Untangle`] has.
pub(super) struct Tangle<V: Lanes> {
    pub a: *const V::Real,
    pub b: *const V::Real,
    pub from_im: usize,
    pub to: *mut V::Real,
    pub im: usize,
    pub n: usize,
}

impl<V: Lanes> Work<V> for Tangle<V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Self { a, b, from_im, to, im, n } = self;
        let kept = n / 2 + 1;
        debug_assert!(im >= n + V::LANES && from_im >= kept, "room between the parts of a row of {n}");
        // SAFETY: as the caller says. Below a vector's worth numbers go one by one; else the last vector overlaps the one
        // before, so that none beyond the middle is looked at.
        unsafe {
            if kept < V::LANES {
                (0..kept).for_each(|k| tangle_one(a.add(k), b.add(k), from_im, (to.add(k), to.add(n - k)), im));
            } else {
                for k in (0..kept).step_by(V::LANES) {
                    let k = k.min(kept - V::LANES);
                    // What is called `re` here is the imaginary part.
                    let (a, b) = (C::<V>::load(a.add(k), from_im), C::<V>::load(b.add(k), from_im));
                    C { re: a.re.add(b.im), im: a.im.sub(b.re) }.store(to.add(k), im);
                    let at = mirror::<V>(to, n, k).cast_mut();
                    C { re: b.im.sub(a.re).reverse(), im: a.im.add(b.re).reverse() }.store(at, im);
                }
            }
            for k in [0, n / 2].into_iter().filter(|k| 2 * k % n == 0) {
                (*to.add(k), *to.add(im + k)) = (*b.add(from_im + k), *a.add(from_im + k));
            }
        }
    }
}

/// As [`Tangle`] for one number and its mirror image.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn tangle_one<R: Real>(a: *const R, b: *const R, from_im: usize, (to, mirror): (*mut R, *mut R), im: usize) {
    // SAFETY: as the caller says.
    unsafe {
        let ((a_im, a), (b_im, b)) = ((*a, *a.add(from_im)), (*b, *b.add(from_im)));
        (*to, *to.add(im)) = (a_im.plus(b), a.minus(b_im));
        (*mirror, *mirror.add(im)) = (b.minus(a_im), a.plus(b_im));
    }
}
