//! The registers of 64-bit ARM, where NEON always is.

use super::lanes::{Convert, Lanes, Work, convert_plainly, plain_conversions};
use std::arch::aarch64::*;

/// Four numbers in single precision.
#[derive(Clone, Copy)]
pub(super) struct F32x4(float32x4_t);
/// Two numbers in double precision.
#[derive(Clone, Copy)]
pub(super) struct F64x2(float64x2_t);

macro_rules! register {
    ($name:ident: $real:ty, $lanes:literal, $set:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident,
     $fma:ident, $fms:ident, $neg:ident, $zip:ident, $zip2:ident, $unzip:ident, $unzip2:ident) => {
        plain_conversions!($name: u8 i8 u16 i16 f32 f64);

        impl Lanes for $name {
            type Real = $real;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(x: $real) -> Self {
                // SAFETY: NEON is part of the base architecture; so for all of these.
                Self(unsafe { $set(x) })
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                // SAFETY: the caller says that a vector is readable.
                Self(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                // SAFETY: the caller says that a vector is writable.
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $mul(self.0, other.0) })
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $fma(addend.0, self.0, factor.0) })
            }
            #[inline(always)]
            fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $fms(addend.0, self.0, factor.0) })
            }
            #[inline(always)]
            fn mul_sub(self, factor: Self, less: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $fma($neg(less.0), self.0, factor.0) })
            }
            #[inline(always)]
            fn interleave(self, im: Self) -> (Self, Self) {
                // SAFETY: as for splat.
                unsafe { (Self($zip(self.0, im.0)), Self($zip2(self.0, im.0))) }
            }
            #[inline(always)]
            fn deinterleave(self, second: Self) -> (Self, Self) {
                // SAFETY: as for splat.
                unsafe { (Self($unzip(self.0, second.0)), Self($unzip2(self.0, second.0))) }
            }
            #[inline(never)]
            unsafe fn shell<W: Work<Self>>(work: W) -> W::Out {
                // SAFETY: the caller vouches for the work.
                unsafe { work.run() }
            }
        }
    };
}

register!(F32x4: f32, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, vaddq_f32, vsubq_f32, vmulq_f32, vfmaq_f32, vfmsq_f32,
    vnegq_f32, vzip1q_f32, vzip2q_f32, vuzp1q_f32, vuzp2q_f32);
register!(F64x2: f64, 2, vdupq_n_f64, vld1q_f64, vst1q_f64, vaddq_f64, vsubq_f64, vmulq_f64, vfmaq_f64, vfmsq_f64,
    vnegq_f64, vzip1q_f64, vzip2q_f64, vuzp1q_f64, vuzp2q_f64);
