//! Rust's types for items. Any bytes are one of these numbers, so that what others wrote is never wrong in itself.

use crate::element::Number;
use crate::prim::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use rustfft::num_complex::Complex;

/// A number that items of an array may be read and written as: integers, floats, and complex numbers of two floats.
pub trait Item: sealed::Item {}

pub(super) mod sealed {
    use super::Number;

    pub trait Item: Copy + Send + Sync + 'static {
        /// What it is called.
        const NUMBER: Number;

        /// Reads one that others may be writing. Real numbers are never torn.
        ///
        /// # Safety
        /// `from` is aligned, and readable for the whole number.
        unsafe fn load(from: *const Self) -> Self;

        /// Writes one that others may be reading.
        ///
        /// # Safety
        /// `to` is aligned, and writable for the whole number.
        unsafe fn store(to: *mut Self, value: Self);
    }
}

/// Numbers that one atomic word holds.
macro_rules! words {
    ($($type:ident $number:ident $atomic:ident $to:expr, $from:expr;)*) => {
        $(
            impl Item for $type {}

            impl sealed::Item for $type {
                const NUMBER: Number = Number::$number;

                #[inline(always)]
                unsafe fn load(from: *const Self) -> Self {
                    // SAFETY: the caller vouches for the memory, and an atomic of the same size is aligned as the number.
                    // RAW: any bytes are a number, and it is the caller's affair.
                    $from(unsafe { $atomic::from_ptr(from.cast_mut().cast()) }.load(Relaxed))
                }

                #[inline(always)]
                unsafe fn store(to: *mut Self, value: Self) {
                    // SAFETY: as above.
                    unsafe { $atomic::from_ptr(to.cast()) }.store($to(value), Relaxed);
                }
            }
        )*
    };
}

words! {
    u8 U8 AtomicU8 std::convert::identity, std::convert::identity;
    i8 I8 AtomicU8 i8::cast_unsigned, u8::cast_signed;
    u16 U16 AtomicU16 std::convert::identity, std::convert::identity;
    i16 I16 AtomicU16 i16::cast_unsigned, u16::cast_signed;
    u32 U32 AtomicU32 std::convert::identity, std::convert::identity;
    i32 I32 AtomicU32 i32::cast_unsigned, u32::cast_signed;
    u64 U64 AtomicU64 std::convert::identity, std::convert::identity;
    i64 I64 AtomicU64 i64::cast_unsigned, u64::cast_signed;
    f32 F32 AtomicU32 f32::to_bits, f32::from_bits;
    f64 F64 AtomicU64 f64::to_bits, f64::from_bits;
}

/// Numbers of two parts; each part is whole, but the two may be of different moments.
macro_rules! pairs {
    ($($part:ident $number:ident;)*) => {
        $(
            impl Item for Complex<$part> {}

            impl sealed::Item for Complex<$part> {
                const NUMBER: Number = Number::$number;

                #[inline(always)]
                unsafe fn load(from: *const Self) -> Self {
                    let from = from.cast::<$part>();
                    // SAFETY: a complex number is two of its parts (it is `repr(C)`), for which the caller vouches.
                    unsafe { Self::new(sealed::Item::load(from), sealed::Item::load(from.add(1))) }
                }

                #[inline(always)]
                unsafe fn store(to: *mut Self, value: Self) {
                    let to = to.cast::<$part>();
                    // SAFETY: as above.
                    unsafe {
                        sealed::Item::store(to, value.re);
                        sealed::Item::store(to.add(1), value.im);
                    }
                }
            }
        )*
    };
}

pairs! {
    f32 C64;
    f64 C128;
}
