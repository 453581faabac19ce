//! Numbers that become other numbers, where the result has no two opinions and no warning: integers to integers of
//! another size, integers to floats, and `f32` to `f64`.
//!
//! Everything else (what may overflow, complex numbers, half floats, dates) is NumPy's, which warns as it is told to.

/// A type of number, in the machine's byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Number {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

use Number::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

impl Number {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            U8 | I8 => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, F32 | F64)
    }

    /// The unsigned integer of the same size: what an integer is cast to does not depend on the sign of the target.
    fn unsigned(self) -> Self {
        match self {
            I8 => U8,
            I16 => U16,
            I32 => U32,
            I64 => U64,
            other => other,
        }
    }
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
        let to = to.unsigned();
        let known = match (from.is_float(), to.is_float()) {
            (false, false) => from.size() != to.size(),
            (false, true) => true,
            (true, true) => from == F32 && to == F64,
            (true, false) => false,
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
                $($(($from, $to) => {
                    for i in 0..count {
                        // SAFETY: number i is one of those that the caller vouches for; neither side need be
                        // aligned, and any bytes are a number.
                        unsafe {
                            let number = src.cast::<$source>().add(i).read_unaligned();
                            dst.cast::<$target>().add(i).write_unaligned(number as $target);
                        }
                    }
                })*)*
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
