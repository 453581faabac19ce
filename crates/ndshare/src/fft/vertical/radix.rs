//! One pass of a transform: butterflies of one radix over a line of vectors.
//!
//! A line of `n` complex elements is an array of blocks: the real parts of all lanes, and their imaginary parts. With
//! `s` the product of the radices that are done, and `m = n / (s * radix)`, a pass reads element
//! `(j * radix + r) * m + q` for r below the radix, turns it by the root `exp(-2 pi i r j / (s * radix))`, does the
//! small transform, and writes result k to `(j + s * k) * m + q`. After the last pass the elements are in their
//! natural order. No lane ever meets another one, so there are no shuffles.

use super::lanes::{Convert, Lanes, Real, Work};

/// The radices that there is a pass for.
pub(super) const RADICES: [usize; 15] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17];

/// A pass: what it does to the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub radix: usize,
    /// The product of the radices before.
    pub s: usize,
    /// The product of the radices after.
    pub m: usize,
    /// Where its twiddles begin.
    pub twiddles: usize,
}

/// Lines of blocks in memory: the first number, the numbers from block to block of a line and from line to line, and how
/// the parts of a block lie.
#[derive(Clone, Copy)]
pub(super) struct Line<R> {
    pub at: *mut R,
    pub step: usize,
    pub next: usize,
    pub parts: Parts,
}

/// How real and imaginary parts of a block lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// The imaginary ones so many numbers behind the real ones.
    Apart(usize),
    ByTurns,
    /// By turns, and each taken for the other.
    Exchanged,
    /// Integers of 16 bits, to be read only: the imaginary ones so many bytes behind the real ones.
    Integers(usize),
}

impl Parts {
    /// By turns, exchanged or not.
    #[inline(always)]
    pub(super) fn of_turns(exchanged: bool) -> Self {
        if exchanged { Self::Exchanged } else { Self::ByTurns }
    }
}

impl<R> Line<R> {
    /// So many lines side by side, with no gaps.
    #[inline(always)]
    pub(super) fn packed<V: Lanes<Real = R>>(at: *mut R, lines: usize) -> Self {
        Self { at, step: 2 * V::LANES * lines, next: 2 * V::LANES, parts: Parts::Apart(V::LANES) }
    }

    /// Whether the parts of a block do not overlap.
    pub(super) fn is_in_vectors<V: Lanes<Real = R>>(&self) -> bool {
        !matches!(self.parts, Parts::Apart(im) if im < V::LANES)
    }

    /// # Safety
    /// `at` must be a block of the line; so for the other.
    #[inline(always)]
    pub(super) unsafe fn load<V: Lanes<Real = R>>(&self, at: *const R) -> C<V> {
        // SAFETY: as the caller says; a block is two vectors.
        unsafe {
            match self.parts {
                Parts::Apart(im) => C::load(at, im),
                Parts::ByTurns => C::load_by_turns(at),
                Parts::Exchanged => C::load_by_turns(at).exchanged(),
                Parts::Integers(gap) => {
                    let at = at.cast::<u16>();
                    C { re: <V as Convert<u16>>::convert(at), im: <V as Convert<u16>>::convert(at.byte_add(gap)) }
                }
            }
        }
    }

    /// # Safety
    /// As above.
    #[inline(always)]
    pub(super) unsafe fn store<V: Lanes<Real = R>>(&self, at: *mut R, x: C<V>) {
        // SAFETY: as above.
        unsafe {
            match self.parts {
                Parts::Apart(im) => x.store(at, im),
                Parts::ByTurns => x.store_by_turns(at),
                Parts::Exchanged => x.exchanged().store_by_turns(at),
                Parts::Integers(_) => unreachable!("integers are only read"),
            }
        }
    }
}

/// What a pass reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Io<R> {
    pub from: Line<R>,
    pub to: Line<R>,
    /// How many lines.
    pub lines: usize,
    /// For each j from 1 on, and each r from 1 on, the root as real and imaginary part. For generic radices, before
    /// these, cosine and sine of all angles of the radix.
    pub twiddles: *const R,
    /// A factor for each element of the first pass, as real and imaginary part; null for none.
    pub factors: *const R,
    /// From the factors of a line to those of the next.
    pub next_factors: usize,
    /// The number of the pass's first j, which is where the lines begin.
    pub first_j: usize,
    /// What to ask for meanwhile: in the first pass, and in the second.
    pub ahead: [Ahead; 2],
}

/// Addresses, `step` bytes apart, that will be read or written soon; with each also the one `gap` bytes behind it. A pass
/// asks for one with each block that it reads, because a CPU waits for so few lines of its cache at once that to ask for
/// many in a row would stop it.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Null for none.
    pub at: *const u8,
    pub step: isize,
    pub gap: isize,
}

impl Ahead {
    pub(super) const NOTHING: Self = Self { at: std::ptr::null(), step: 0, gap: 0 };

    /// The addresses alone, and those behind the gaps.
    #[inline(always)]
    pub(super) fn split(self) -> [Self; 2] {
        let of = |at| Self { at, gap: 0, ..self };
        if self.at.is_null() { [self; 2] } else { [self.at, self.at.wrapping_offset(self.gap)].map(of) }
    }

    /// What is left after so many blocks.
    #[inline(always)]
    pub(super) fn after(self, blocks: usize) -> Self {
        let at = self.at.wrapping_offset(self.step * blocks as isize);
        if self.at.is_null() { self } else { Self { at, ..self } }
    }

    /// Asks for the lines of so many blocks.
    #[inline(always)]
    pub(super) fn ask<V: Lanes>(self, blocks: usize) {
        if self.at.is_null() {
            return;
        }
        (0..blocks as isize).for_each(|block| V::prefetch(self.at.wrapping_offset(block * self.step)));
        if self.gap != 0 {
            let at = self.at.wrapping_offset(self.gap);
            (0..blocks as isize).for_each(|block| V::prefetch(at.wrapping_offset(block * self.step)));
        }
    }
}

/// A complex vector.
#[derive(Clone, Copy)]
pub(super) struct C<V> {
    pub re: V,
    pub im: V,
}

impl<V: Lanes> C<V> {
    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        Self { re: self.re.add(other.re), im: self.im.add(other.im) }
    }
    #[inline(always)]
    pub(super) fn sub(self, other: Self) -> Self {
        Self { re: self.re.sub(other.re), im: self.im.sub(other.im) }
    }
    /// `self - i * other`.
    #[inline(always)]
    fn sub_i(self, other: Self) -> Self {
        Self { re: self.re.add(other.im), im: self.im.sub(other.re) }
    }
    /// `self + i * other`.
    #[inline(always)]
    fn add_i(self, other: Self) -> Self {
        Self { re: self.re.sub(other.im), im: self.im.add(other.re) }
    }
    /// `self + factor * other`.
    #[inline(always)]
    fn plus(self, factor: V, other: Self) -> Self {
        Self { re: other.re.mul_add(factor, self.re), im: other.im.mul_add(factor, self.im) }
    }
    /// `self - factor * other`.
    #[inline(always)]
    fn minus(self, factor: V, other: Self) -> Self {
        Self { re: other.re.neg_mul_add(factor, self.re), im: other.im.neg_mul_add(factor, self.im) }
    }
    /// `self - i * factor * other`.
    #[inline(always)]
    fn minus_i(self, factor: V, other: Self) -> Self {
        Self { re: other.im.mul_add(factor, self.re), im: other.re.neg_mul_add(factor, self.im) }
    }
    /// `self + i * factor * other`.
    #[inline(always)]
    fn plus_i(self, factor: V, other: Self) -> Self {
        Self { re: other.im.neg_mul_add(factor, self.re), im: other.re.mul_add(factor, self.im) }
    }
    #[inline(always)]
    pub(super) fn scale(self, factor: V) -> Self {
        Self { re: self.re.mul(factor), im: self.im.mul(factor) }
    }
    #[inline(always)]
    pub(super) fn mul(self, w: Self) -> Self {
        Self { re: self.re.mul_sub(w.re, self.im.mul(w.im)), im: self.re.mul_add(w.im, self.im.mul(w.re)) }
    }
    /// # Safety
    /// A vector must be readable at `at` and at `im` numbers behind it.
    #[inline(always)]
    pub(super) unsafe fn load(at: *const V::Real, im: usize) -> Self {
        // SAFETY: as the caller says.
        unsafe { Self { re: V::load(at), im: V::load(at.add(im)) } }
    }
    /// # Safety
    /// A vector must be writable at `at` and at `im` numbers behind it.
    #[inline(always)]
    pub(super) unsafe fn store(self, at: *mut V::Real, im: usize) {
        // SAFETY: as the caller says.
        unsafe {
            self.re.store(at);
            self.im.store(at.add(im));
        }
    }
    /// # Safety
    /// Two vectors must be readable at `at`: real and imaginary parts by turns.
    #[inline(always)]
    pub(super) unsafe fn load_by_turns(at: *const V::Real) -> Self {
        // SAFETY: as the caller says.
        let (re, im) = unsafe { V::load(at).deinterleave(V::load(at.add(V::LANES))) };
        Self { re, im }
    }
    /// # Safety
    /// Two vectors must be writable at `at`.
    #[inline(always)]
    pub(super) unsafe fn store_by_turns(self, at: *mut V::Real) {
        let (first, second) = self.re.interleave(self.im);
        // SAFETY: as the caller says.
        unsafe {
            first.store(at);
            second.store(at.add(V::LANES));
        }
    }
    /// Each part taken for the other.
    #[inline(always)]
    pub(super) fn exchanged(self) -> Self {
        Self { re: self.im, im: self.re }
    }
    /// Twice the two spectra of which this one is the first plus i times the second, with what `mirror` has in the
    /// opposite place: the spectrum of real numbers is its own mirror image.
    #[inline(always)]
    pub(super) fn untangled(self, mirror: Self) -> (Self, Self) {
        let first = Self { re: self.re.add(mirror.re), im: self.im.sub(mirror.im) };
        (first, Self { re: self.im.add(mirror.im), im: mirror.re.sub(self.re) })
    }
    /// The same complex number in all lanes.
    ///
    /// # Safety
    /// Two numbers must be readable.
    #[inline(always)]
    unsafe fn root(at: *const V::Real) -> Self {
        // SAFETY: as the caller says.
        unsafe { Self { re: V::splat(*at), im: V::splat(*at.add(1)) } }
    }
}

#[inline(always)]
fn constant<V: Lanes>(x: f64) -> V {
    V::splat(V::Real::of(x))
}

#[inline(always)]
fn dft2<V: Lanes>(a: [C<V>; 2]) -> [C<V>; 2] {
    [a[0].add(a[1]), a[0].sub(a[1])]
}

#[inline(always)]
fn dft3<V: Lanes>(a: [C<V>; 3]) -> [C<V>; 3] {
    let (sum, difference) = (a[1].add(a[2]), a[1].sub(a[2]));
    let middle = a[0].minus(constant(0.5), sum);
    let s = constant::<V>(0.866_025_403_784_438_6);
    [a[0].add(sum), middle.minus_i(s, difference), middle.plus_i(s, difference)]
}

#[inline(always)]
fn dft4<V: Lanes>(a: [C<V>; 4]) -> [C<V>; 4] {
    let (even, even2) = (a[0].add(a[2]), a[0].sub(a[2]));
    let (odd, odd2) = (a[1].add(a[3]), a[1].sub(a[3]));
    [even.add(odd), even2.sub_i(odd2), even.sub(odd), even2.add_i(odd2)]
}

#[inline(always)]
fn dft5<V: Lanes>(a: [C<V>; 5]) -> [C<V>; 5] {
    let (c1, c2) = (constant(0.309_016_994_374_947_45), constant(0.809_016_994_374_947_5));
    let (s1, ratio) = (constant(0.951_056_516_295_153_5), constant(0.618_033_988_749_894_9));
    let (t1, t2) = (a[1].add(a[4]), a[2].add(a[3]));
    let (u1, u2) = (a[1].sub(a[4]), a[2].sub(a[3]));
    let (p1, p2) = (a[0].plus(c1, t1).minus(c2, t2), a[0].minus(c2, t1).plus(c1, t2));
    // The two sines have a constant ratio, so one multiplication by the larger one is left for the end.
    let (q1, q2) = (u1.plus(ratio, u2), C { re: u1.re.mul_sub(ratio, u2.re), im: u1.im.mul_sub(ratio, u2.im) });
    [a[0].add(t1).add(t2), p1.minus_i(s1, q1), p2.minus_i(s1, q2), p2.plus_i(s1, q2), p1.plus_i(s1, q1)]
}

/// Three and two have no common factor, so no roots stand between them.
#[inline(always)]
fn dft6<V: Lanes>(a: [C<V>; 6]) -> [C<V>; 6] {
    let (x, y) = (dft3([a[0], a[2], a[4]]), dft3([a[3], a[5], a[1]]));
    let (b0, b1, b2) = (dft2([x[0], y[0]]), dft2([x[1], y[1]]), dft2([x[2], y[2]]));
    [b0[0], b1[1], b2[0], b0[1], b1[0], b2[1]]
}

/// The two odd roots of the eighth order cost one constant.
#[inline(always)]
fn dft8<V: Lanes>(a: [C<V>; 8]) -> [C<V>; 8] {
    let even = dft4([a[0], a[2], a[4], a[6]]);
    let odd = dft4([a[1], a[3], a[5], a[7]]);
    let h = constant::<V>(std::f64::consts::FRAC_1_SQRT_2);
    // (1 - i) / sqrt 2 and (-1 - i) / sqrt 2, but for the constant.
    let turned = C { re: odd[1].re.add(odd[1].im), im: odd[1].im.sub(odd[1].re) };
    // The second, times i: what is real in it comes from the imaginary part.
    let turned3 = C { re: odd[3].re.add(odd[3].im), im: odd[3].im.sub(odd[3].re) };
    [
        even[0].add(odd[0]),
        even[1].plus(h, turned),
        even[2].sub_i(odd[2]),
        even[3].minus_i(h, turned3),
        even[0].sub(odd[0]),
        even[1].minus(h, turned),
        even[2].add_i(odd[2]),
        even[3].plus_i(h, turned3),
    ]
}

/// Three times three.
#[inline(always)]
fn dft9<V: Lanes>(a: [C<V>; 9]) -> [C<V>; 9] {
    let x0 = dft3([a[0], a[3], a[6]]);
    let x1 = dft3([a[1], a[4], a[7]]);
    let x2 = dft3([a[2], a[5], a[8]]);
    let (c1, s1) = (0.766_044_443_118_978_1, 0.642_787_609_686_539_3);
    let (c2, s2) = (0.173_648_177_666_930_35, 0.984_807_753_012_208_1);
    let (c4, s4) = (-0.939_692_620_785_908_4, 0.342_020_143_325_668_7);
    let y0 = dft3([x0[0], x1[0], x2[0]]);
    let y1 = dft3([x0[1], turn(x1[1], c1, s1), turn(x2[1], c2, s2)]);
    let y2 = dft3([x0[2], turn(x1[2], c2, s2), turn(x2[2], c4, s4)]);
    [y0[0], y1[0], y2[0], y0[1], y1[1], y2[1], y0[2], y1[2], y2[2]]
}

/// Two and five have no common factor either.
#[inline(always)]
fn dft10<V: Lanes>(a: [C<V>; 10]) -> [C<V>; 10] {
    let (x, y) = (dft5([a[0], a[2], a[4], a[6], a[8]]), dft5([a[5], a[7], a[9], a[1], a[3]]));
    let (b0, b1, b2) = (dft2([x[0], y[0]]), dft2([x[1], y[1]]), dft2([x[2], y[2]]));
    let (b3, b4) = (dft2([x[3], y[3]]), dft2([x[4], y[4]]));
    [b0[0], b1[1], b2[0], b3[1], b4[0], b0[1], b1[0], b2[1], b3[0], b4[1]]
}

/// Nor have three and four.
#[inline(always)]
fn dft12<V: Lanes>(a: [C<V>; 12]) -> [C<V>; 12] {
    let x = dft4([a[0], a[3], a[6], a[9]]);
    let y = dft4([a[4], a[7], a[10], a[1]]);
    let z = dft4([a[8], a[11], a[2], a[5]]);
    let (b0, b1) = (dft3([x[0], y[0], z[0]]), dft3([x[1], y[1], z[1]]));
    let (b2, b3) = (dft3([x[2], y[2], z[2]]), dft3([x[3], y[3], z[3]]));
    [b0[0], b1[1], b2[2], b3[0], b0[1], b1[2], b2[0], b3[1], b0[2], b1[0], b2[1], b3[2]]
}

/// Nor have three and five.
#[inline(always)]
fn dft15<V: Lanes>(a: [C<V>; 15]) -> [C<V>; 15] {
    let x = dft5([a[0], a[3], a[6], a[9], a[12]]);
    let y = dft5([a[5], a[8], a[11], a[14], a[2]]);
    let z = dft5([a[10], a[13], a[1], a[4], a[7]]);
    let (b0, b1) = (dft3([x[0], y[0], z[0]]), dft3([x[1], y[1], z[1]]));
    let (b2, b3, b4) = (dft3([x[2], y[2], z[2]]), dft3([x[3], y[3], z[3]]), dft3([x[4], y[4], z[4]]));
    [b0[0], b1[1], b2[2], b3[0], b4[1], b0[2], b1[0], b2[1], b3[2], b4[0], b0[1], b1[2], b2[0], b3[1], b4[2]]
}

/// Four times four.
#[inline(always)]
fn dft16<V: Lanes>(a: [C<V>; 16]) -> [C<V>; 16] {
    let (c, s) = (0.923_879_532_511_286_7, 0.382_683_432_365_089_8);
    let x0 = dft4([a[0], a[4], a[8], a[12]]);
    let x1 = dft4([a[1], a[5], a[9], a[13]]);
    let x2 = dft4([a[2], a[6], a[10], a[14]]);
    let x3 = dft4([a[3], a[7], a[11], a[15]]);
    let y0 = dft4([x0[0], x1[0], x2[0], x3[0]]);
    let y1 = dft4([x0[1], turn(x1[1], c, s), turn2(x2[1]), turn(x3[1], s, c)]);
    let y2 = dft4_turned([x0[2], turn2(x1[2]), x2[2], turn6(x3[2])]);
    let y3 = dft4([x0[3], turn(x1[3], s, c), turn6(x2[3]), turn(x3[3], -c, -s)]);
    [y0[0], y1[0], y2[0], y3[0], y0[1], y1[1], y2[1], y3[1], y0[2], y1[2], y2[2], y3[2], y0[3], y1[3], y2[3], y3[3]]
}

/// Times `c - i s`.
#[inline(always)]
fn turn<V: Lanes>(x: C<V>, c: f64, s: f64) -> C<V> {
    let (c, s) = (constant::<V>(c), constant::<V>(s));
    C { re: x.re.mul_add(c, x.im.mul(s)), im: x.im.mul_sub(c, x.re.mul(s)) }
}

/// Times `(1 - i) / sqrt 2`.
#[inline(always)]
fn turn2<V: Lanes>(x: C<V>) -> C<V> {
    C { re: x.re.add(x.im), im: x.im.sub(x.re) }.scale(constant(std::f64::consts::FRAC_1_SQRT_2))
}

/// Times `(-1 - i) / sqrt 2`.
#[inline(always)]
fn turn6<V: Lanes>(x: C<V>) -> C<V> {
    let h = std::f64::consts::FRAC_1_SQRT_2;
    C { re: x.im.sub(x.re).mul(constant(h)), im: x.im.add(x.re).mul(constant(-h)) }
}

/// [`dft4`] of elements of which the third is still to be multiplied by -i.
#[inline(always)]
fn dft4_turned<V: Lanes>(a: [C<V>; 4]) -> [C<V>; 4] {
    let (even, even2) = (a[0].sub_i(a[2]), a[0].add_i(a[2]));
    let (odd, odd2) = (a[1].add(a[3]), a[1].sub(a[3]));
    [even.add(odd), even2.sub_i(odd2), even.sub(odd), even2.add_i(odd2)]
}

/// An odd radix by its definition, with conjugate pairs put together. `angles` are cosine and sine of all its angles.
///
/// # Safety
/// `2 * N` numbers must be readable at `angles`.
#[inline(always)]
unsafe fn dft_odd<V: Lanes, const N: usize>(a: [C<V>; N], angles: *const V::Real) -> [C<V>; N] {
    let (mut sums, mut differences, mut out) = (a, a, a);
    for n in 1..=N / 2 {
        (sums[n], differences[n]) = (a[n].add(a[N - n]), a[n].sub(a[N - n]));
        out[0] = out[0].add(sums[n]);
    }
    for k in 1..=N / 2 {
        let mut even = a[0];
        let mut odd = C { re: constant::<V>(0.0), im: constant::<V>(0.0) };
        for n in 1..=N / 2 {
            // SAFETY: the angle is below N.
            let angle = unsafe { C::<V>::root(angles.add(k * n % N * 2)) };
            even = even.plus(angle.re, sums[n]);
            odd = odd.plus(angle.im, differences[n]);
        }
        (out[k], out[N - k]) = (even.sub_i(odd), even.add_i(odd));
    }
    out
}

/// Where the elements of [`dft_of_lanes`] come from and go to. Not closures: these would not always be inlined, and
/// outside of a shell a vector is no register.
pub(super) trait Ends<V: Lanes> {
    /// # Safety
    /// The element must be there; so for the other.
    unsafe fn load(&self, element: usize) -> C<V>;
    /// # Safety
    /// As above.
    unsafe fn store(&self, element: usize, x: C<V>);
}

/// The transform of as many elements as a vector has lanes.
///
/// # Safety
/// All elements must be there.
#[inline(always)]
pub(super) unsafe fn dft_of_lanes<V: Lanes>(ends: &impl Ends<V>) {
    macro_rules! with {
        ($dft:ident: $($k:literal)*) => {{
            // SAFETY: as the caller says.
            let b = unsafe { $dft([$(ends.load($k)),*]) };
            // SAFETY: as the caller says.
            unsafe { $(ends.store($k, b[$k]);)* }
        }};
    }
    match V::LANES {
        2 => with!(dft2: 0 1),
        4 => with!(dft4: 0 1 2 3),
        8 => with!(dft8: 0 1 2 3 4 5 6 7),
        _ => with!(dft16: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15),
    }
}

/// How the elements of a butterfly are turned.
enum Turn {
    Not,
    /// By the roots of this j.
    Roots,
    /// By a factor for each element.
    Factors,
}

/// Whether the pass of a radix reads cosines and sines of all angles of the radix before its roots.
pub(super) fn has_angles(radix: usize) -> bool {
    matches!(radix, 7 | 11 | 13 | 17)
}

/// One pass, compiled once for each vector and radix.
struct Butterflies<'a, V: Lanes, const RADIX: usize> {
    pass: &'a Pass,
    io: &'a Io<V::Real>,
}

/// What butterflies of a radix do.
trait Radix {
    /// The butterflies of one j.
    ///
    /// # Safety
    /// As [`pass`].
    unsafe fn of(&self, j: usize, turn: Turn);
}

impl<V: Lanes, const RADIX: usize> Work<V> for Butterflies<'_, V, RADIX>
where
    Self: Radix,
{
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let first = usize::from(self.io.first_j == 0);
        // SAFETY: as the caller says. Without factors the first j needs no turn.
        unsafe {
            if first > 0 && self.io.factors.is_null() {
                self.of(0, Turn::Not);
            } else if first > 0 {
                self.of(0, Turn::Factors);
            }
            for j in first..self.pass.s {
                self.of(j, Turn::Roots);
            }
        }
    }
}

macro_rules! butterflies {
    ($radix:literal, [$($r:literal)*], |$a:ident, $angles:ident| $dft:expr) => {
        impl<V: Lanes> Radix for Butterflies<'_, V, $radix> {
        #[inline(always)]
        unsafe fn of(&self, j: usize, turn: Turn) {
            let (pass, io, skip) = (self.pass, self.io, if has_angles($radix) { 2 * $radix } else { 0 });
            // SAFETY: the elements lie inside of the two lines, and the twiddles inside of their table, by the
            // definition of a pass.
            unsafe {
                let $angles = io.twiddles;
                let roots = io.twiddles.add(skip + (io.first_j + j).saturating_sub(1) * 2 * ($radix - 1));
                let from = io.from.at.add(j * $radix * pass.m * io.from.step);
                let to = io.to.at.add(j * pass.m * io.to.step);
                let (read, write) = (pass.m * io.from.step, pass.s * pass.m * io.to.step);
                for q in 0..pass.m {
                    for line in 0..io.lines {
                    io.ahead[0].after($radix * ((j * pass.m + q) * io.lines + line)).ask::<V>($radix);
                    let from = from.add(q * io.from.step + line * io.from.next);
                    let $a = [$({
                        let x = io.from.load::<V>(from.add($r * read));
                        match turn {
                            Turn::Roots if $r > 0 => x.mul(C::root(roots.add(2 * ($r as usize).saturating_sub(1)))),
                            Turn::Factors => {
                                let place = 2 * ($r * pass.m + q) + line * io.next_factors;
                                x.mul(C::root(io.factors.add(place)))
                            }
                            _ => x,
                        }
                    }),*];
                    let b = $dft;
                    let to = to.add(q * io.to.step + line * io.to.next);
                    $(io.to.store::<V>(to.add($r * write), b[$r]);)*
                    }
                }
            }
        }
        }
    };
}

butterflies!(2, [0 1], |a, _angles| dft2(a));
butterflies!(3, [0 1 2], |a, _angles| dft3(a));
butterflies!(4, [0 1 2 3], |a, _angles| dft4(a));
butterflies!(5, [0 1 2 3 4], |a, _angles| dft5(a));
butterflies!(6, [0 1 2 3 4 5], |a, _angles| dft6(a));
butterflies!(7, [0 1 2 3 4 5 6], |a, angles| dft_odd::<V, 7>(a, angles));
butterflies!(8, [0 1 2 3 4 5 6 7], |a, _angles| dft8(a));
butterflies!(9, [0 1 2 3 4 5 6 7 8], |a, _angles| dft9(a));
butterflies!(10, [0 1 2 3 4 5 6 7 8 9], |a, _angles| dft10(a));
butterflies!(12, [0 1 2 3 4 5 6 7 8 9 10 11], |a, _angles| dft12(a));
butterflies!(11, [0 1 2 3 4 5 6 7 8 9 10], |a, angles| dft_odd::<V, 11>(a, angles));
butterflies!(13, [0 1 2 3 4 5 6 7 8 9 10 11 12], |a, angles| dft_odd::<V, 13>(a, angles));
butterflies!(15, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14], |a, _angles| dft15(a));
butterflies!(16, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15], |a, _angles| dft16(a));
butterflies!(17, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16], |a, angles| dft_odd::<V, 17>(a, angles));

/// Does one pass. In place is allowed when there is one butterfly only.
///
/// # Safety
/// `s * radix * m` blocks of each line must be readable and writable, on lines which do not overlap; the twiddles must be
/// those of the pass; factors come with a first pass only. The CPU must have the vector's instructions.
pub(super) unsafe fn pass<V: Lanes>(pass: &Pass, io: &Io<V::Real>) {
    debug_assert!(pass.s > 0 && pass.m > 0 && io.lines > 0, "a pass has butterflies");
    debug_assert!(io.factors.is_null() || pass.s == 1, "factors come with a first pass only");
    debug_assert!([io.from, io.to].iter().all(Line::is_in_vectors::<V>), "the parts of a block are vectors");
    macro_rules! by_radix {
        ($($radix:literal)*) => {
            match pass.radix {
                // SAFETY: as the caller says.
                $($radix => unsafe { V::shell(Butterflies::<V, $radix> { pass, io }) },)*
                _ => unreachable!("there is no pass of radix {}", pass.radix),
            }
        };
    }
    by_radix!(2 3 4 5 6 7 8 9 10 11 12 13 15 16 17);
}
