//! A vector of numbers, one per line of the transform.
//!
//! Everything above is written once for [`Lanes`]. What a vector can do beyond arithmetic (conversion, transposition,
//! the order of complex numbers) has a plain version here, through memory, which a register type may better.

/// The numbers that are computed with.
pub(super) trait Real: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// Rounds once.
    fn of(x: f64) -> Self;
    fn times(self, other: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
}

macro_rules! real {
    ($real:ty) => {
        impl Real for $real {
            const ZERO: Self = 0.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $real
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self - other
            }
        }
    };
}

real!(f32);
real!(f64);

/// A vector that can be made from numbers of type `T`.
pub(super) trait Convert<T>: Copy {
    /// # Safety
    /// A vector's worth of numbers must be readable, at any address.
    unsafe fn convert(from: *const T) -> Self;
}

/// [`Convert::convert`] one by one.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn convert_plainly<V: Lanes, T: Copy + Into<f64>>(from: *const T) -> V {
    let mut lanes = [V::Real::ZERO; MOST_LANES];
    for (lane, number) in lanes.iter_mut().enumerate().take(V::LANES) {
        // SAFETY: the caller says that so many are readable.
        *number = V::Real::of(unsafe { from.add(lane).read_unaligned() }.into());
    }
    // SAFETY: no vector has more lanes.
    unsafe { V::load(lanes.as_ptr()) }
}

/// The most lanes of any vector.
pub(super) const MOST_LANES: usize = 16;

/// A vector register.
pub(super) trait Lanes:
    Copy + Convert<u8> + Convert<i8> + Convert<u16> + Convert<i16> + Convert<f32> + Convert<f64>
{
    type Real: Real;
    const LANES: usize;

    fn splat(x: Self::Real) -> Self;
    /// # Safety
    /// `LANES` numbers must be readable, at any address.
    unsafe fn load(from: *const Self::Real) -> Self;
    /// # Safety
    /// `LANES` numbers must be writable, at any address.
    unsafe fn store(self, to: *mut Self::Real);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + addend`.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `addend - self * factor`.
    fn neg_mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self * factor - less`.
    fn mul_sub(self, factor: Self, less: Self) -> Self;

    /// The lanes of `self` and `im` by turns.
    #[inline(always)]
    fn interleave(self, im: Self) -> (Self, Self) {
        let (re, im) = (Spill::of(self), Spill::of(im));
        let mut both = [Self::Real::ZERO; 2 * MOST_LANES];
        for lane in 0..Self::LANES {
            (both[2 * lane], both[2 * lane + 1]) = (re.0[lane], im.0[lane]);
        }
        // SAFETY: the array holds two vectors.
        unsafe { (Self::load(both.as_ptr()), Self::load(both.as_ptr().add(Self::LANES))) }
    }

    /// The even lanes of two vectors, and the odd ones.
    #[inline(always)]
    fn deinterleave(self, second: Self) -> (Self, Self) {
        let mut both = [Self::Real::ZERO; 2 * MOST_LANES];
        // SAFETY: the array holds two vectors.
        unsafe {
            self.store(both.as_mut_ptr());
            second.store(both.as_mut_ptr().add(Self::LANES));
        }
        let (mut re, mut im) = ([Self::Real::ZERO; MOST_LANES], [Self::Real::ZERO; MOST_LANES]);
        for lane in 0..Self::LANES {
            (re[lane], im[lane]) = (both[2 * lane], both[2 * lane + 1]);
        }
        // SAFETY: the arrays hold a vector each.
        unsafe { (Self::load(re.as_ptr()), Self::load(im.as_ptr())) }
    }

    /// As [`Self::interleave`], with the last lanes first.
    #[inline(always)]
    fn interleave_reversed(self, im: Self) -> (Self, Self) {
        self.reverse().interleave(im.reverse())
    }

    /// The last lane first.
    #[inline(always)]
    fn reverse(self) -> Self {
        let mut lanes = Spill::of(self);
        lanes.0[..Self::LANES].reverse();
        // SAFETY: the array holds a vector.
        unsafe { Self::load(lanes.0.as_ptr()) }
    }

    /// Transposes `LANES` rows of `LANES` numbers.
    ///
    /// # Safety
    /// Rows of a vector each must be readable every `from_step` numbers and writable every `to_step` numbers, and the
    /// two must not overlap.
    #[inline(always)]
    unsafe fn transpose(from: *const Self::Real, from_step: usize, to: *mut Self::Real, to_step: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: both are inside of the rows that the caller vouches for.
                unsafe { *to.add(column * to_step + row) = *from.add(row * from_step + column) };
            }
        }
    }

    /// Asks for a line that will be read soon, for the second-level cache; the first has no room. Any address is allowed.
    #[inline(always)]
    fn prefetch(_line: *const u8) {}

    /// Runs a piece of work in a function that is compiled for this vector's instructions.
    ///
    /// # Safety
    /// As the work.
    unsafe fn shell<W: Work<Self>>(work: W) -> W::Out;
}

/// Something that is compiled for each kind of vector. `run` is always inlined into a shell.
pub(super) trait Work<V: Lanes> {
    type Out;
    /// # Safety
    /// The CPU must have the vector's instructions; and what the work says by itself.
    unsafe fn run(self) -> Self::Out;
}

/// A vector in memory.
struct Spill<R>([R; MOST_LANES]);

impl<R: Real> Spill<R> {
    #[inline(always)]
    fn of<V: Lanes<Real = R>>(vector: V) -> Self {
        let mut lanes = [R::ZERO; MOST_LANES];
        // SAFETY: no vector has more lanes.
        unsafe { vector.store(lanes.as_mut_ptr()) };
        Self(lanes)
    }
}

/// Four numbers in whatever registers the CPU has.
#[derive(Clone, Copy)]
pub(super) struct Plain<R>([R; 4]);

macro_rules! plain_conversions {
    ($vector:ty: $($number:ty)*) => {
        $(impl Convert<$number> for $vector {
            #[inline(always)]
            unsafe fn convert(from: *const $number) -> Self {
                // SAFETY: as the caller says.
                unsafe { convert_plainly::<Self, $number>(from) }
            }
        })*
    };
}

#[allow(unused_imports)]
pub(super) use plain_conversions;

macro_rules! plain {
    ($real:ty) => {
        plain_conversions!(Plain<$real>: u8 i8 u16 i16 f32 f64);

        impl Lanes for Plain<$real> {
            type Real = $real;
            const LANES: usize = 4;

            #[inline(always)]
            fn splat(x: $real) -> Self {
                Self([x; 4])
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                // SAFETY: the caller says that four numbers are readable.
                Self(unsafe { from.cast::<[$real; 4]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                // SAFETY: the caller says that four numbers are writable.
                unsafe { to.cast::<[$real; 4]>().write_unaligned(self.0) }
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                let (a, b) = (self.0, other.0);
                Self([a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]])
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                let (a, b) = (self.0, other.0);
                Self([a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]])
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                let (a, b) = (self.0, other.0);
                Self([a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]])
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                self.mul(factor).add(addend)
            }
            #[inline(always)]
            fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                addend.sub(self.mul(factor))
            }
            #[inline(always)]
            fn mul_sub(self, factor: Self, less: Self) -> Self {
                self.mul(factor).sub(less)
            }
            #[inline(never)]
            unsafe fn shell<W: Work<Self>>(work: W) -> W::Out {
                // SAFETY: the caller vouches for the work; every CPU can do this.
                unsafe { work.run() }
            }
        }
    };
}

plain!(f32);
plain!(f64);
