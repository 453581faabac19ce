//! Numbers that become other numbers, where the result has no two opinions and no warning: integers to integers of
//! another size, integers to floats, `f32` to `f64`, and bfloat16 to both.
//!
//! Everything else (what may overflow, complex numbers, half floats, dates) is NumPy's, which warns as it is told to.

use crate::element::{Kind, Number};

use Number::{Bf16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

/// The unsigned integer of the same size: what an integer is cast to does not depend on the sign of the target.
fn unsigned(number: Number) -> Number {
    match number {
        I8 => U8,
        I16 => U16,
        I32 => U32,
        I64 => U64,
        other => other,
    }
}

fn is_integer(number: Number) -> bool {
    matches!(number.kind(), Kind::Signed | Kind::Unsigned)
}

/// A conversion that there is a kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cast {
    from: Number,
    to: Number,
}

impl Cast {
    /// The conversion; none when it is NumPy's affair, or no conversion at all but a copy.
    pub fn new(from: Number, to: Number) -> Option<Self> {
        let to = unsigned(to);
        let known = match (from, to) {
            (from, to) if is_integer(from) && is_integer(to) => from.size() != to.size(),
            (from, F32 | F64) => is_integer(from) || from == Bf16 || (from == F32 && to == F64),
            _ => false,
        };
        known.then_some(Self { from, to })
    }

    /// Bytes of a number before.
    pub fn from_size(self) -> usize {
        self.from.size()
    }

    /// Bytes of a number after.
    pub fn to_size(self) -> usize {
        self.to.size()
    }
}

/// # Safety
/// As [`super::convert`].
#[inline(always)]
pub(super) unsafe fn convert(cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
    /// A loop for each pair of types; the others cannot be in a `Cast`.
    macro_rules! loops {
        ($($from:ident $source:ty: $($to:ident $target:ty),*;)*) => {
            match (cast.from, cast.to) {
                // SAFETY: as the caller says; any bytes are a number.
                $($(($from, $to) => unsafe { each(dst, src, count, |number: $source| number as $target) },)*)*
                // SAFETY: as above.
                (Bf16, F32) => unsafe { each(dst, src, count, widened) },
                // SAFETY: as above.
                (Bf16, F64) => unsafe { each(dst, src, count, |bits| f64::from(widened(bits))) },
                _ => {}
            }
        };
    }
    loops! {
        U8 u8: U16 u16, U32 u32, U64 u64, F32 f32, F64 f64;
        I8 i8: U16 u16, U32 u32, U64 u64, F32 f32, F64 f64;
        U16 u16: U8 u8, U32 u32, U64 u64, F32 f32, F64 f64;
        I16 i16: U8 u8, U32 u32, U64 u64, F32 f32, F64 f64;
        U32 u32: U8 u8, U16 u16, U64 u64, F32 f32, F64 f64;
        I32 i32: U8 u8, U16 u16, U64 u64, F32 f32, F64 f64;
        U64 u64: U8 u8, U16 u16, U32 u32, F32 f32, F64 f64;
        I64 i64: U8 u8, U16 u16, U32 u32, F32 f32, F64 f64;
        F32 f32: F64 f64;
    }
}

/// A bfloat16 is the upper half of a float.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// # Safety
/// As [`super::convert`], for these types.
#[inline(always)]
unsafe fn each<S: Copy, T>(dst: *mut u8, src: *const u8, count: usize, cast: impl Fn(S) -> T) {
    for i in 0..count {
        // SAFETY: number i is one of those that the caller vouches for; neither side need be aligned.
        unsafe { dst.cast::<T>().add(i).write_unaligned(cast(src.cast::<S>().add(i).read_unaligned())) }
    }
}
