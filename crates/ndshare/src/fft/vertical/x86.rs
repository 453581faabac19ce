//! The registers of x86-64.

use super::lanes::{Convert, Lanes, Work};
use std::arch::x86_64::*;

/// Sixteen numbers in single precision.
#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);
/// Eight numbers in double precision.
#[derive(Clone, Copy)]
pub(super) struct F64x8(__m512d);
/// Eight numbers in single precision.
#[derive(Clone, Copy)]
pub(super) struct F32x8(__m256);
/// Four numbers in double precision.
#[derive(Clone, Copy)]
pub(super) struct F64x4(__m256d);

/// How a register is made from numbers; each by its own instructions.
macro_rules! conversions {
    ($name:ident: $($number:ty = $convert:expr;)*) => {
        $(impl Convert<$number> for $name {
            #[inline(always)]
            unsafe fn convert(from: *const $number) -> Self {
                // SAFETY: the caller says that a vector's worth of numbers is readable; this type is used only in
                // shells for CPUs that have the instructions.
                Self(unsafe { $convert(from) })
            }
        })*
    };
}

conversions! { F32x16:
    u8 = |p: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())));
    i8 = |p: *const i8| _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
    u16 = |p: *const u16| _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())));
    i16 = |p: *const i16| _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(p.cast())));
    f32 = |p: *const f32| _mm512_loadu_ps(p);
    f64 = |p: *const f64| {
        let halves = (_mm512_cvtpd_ps(_mm512_loadu_pd(p)), _mm512_cvtpd_ps(_mm512_loadu_pd(p.add(8))));
        _mm512_insertf32x8::<1>(_mm512_castps256_ps512(halves.0), halves.1)
    };
}

conversions! { F64x8:
    u8 = |p: *const u8| _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
    i8 = |p: *const i8| _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
    u16 = |p: *const u16| _mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())));
    i16 = |p: *const i16| _mm512_cvtepi32_pd(_mm256_cvtepi16_epi32(_mm_loadu_si128(p.cast())));
    f32 = |p: *const f32| _mm512_cvtps_pd(_mm256_loadu_ps(p));
    f64 = |p: *const f64| _mm512_loadu_pd(p);
}

conversions! { F32x8:
    u8 = |p: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
    i8 = |p: *const i8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
    u16 = |p: *const u16| _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())));
    i16 = |p: *const i16| _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(p.cast())));
    f32 = |p: *const f32| _mm256_loadu_ps(p);
    f64 = |p: *const f64| {
        _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(p.add(4))), _mm256_cvtpd_ps(_mm256_loadu_pd(p)))
    };
}

conversions! { F64x4:
    u8 = |p: *const u8| _mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned())));
    i8 = |p: *const i8| _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(p.cast::<i32>().read_unaligned())));
    u16 = |p: *const u16| _mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64(p.cast())));
    i16 = |p: *const i16| _mm256_cvtepi32_pd(_mm_cvtepi16_epi32(_mm_loadl_epi64(p.cast())));
    f32 = |p: *const f32| _mm256_cvtps_pd(_mm_loadu_ps(p));
    f64 = |p: *const f64| _mm256_loadu_pd(p);
}

macro_rules! register {
    ($name:ident: $real:ty, $lanes:literal, $features:literal, $set:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $fnma:ident, $fms:ident,
     $interleave:ident, $backwards:ident, $deinterleave:ident, $reverse:ident, $transpose:ident, $shell:ident) => {
        impl Lanes for $name {
            type Real = $real;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(x: $real) -> Self {
                // SAFETY: this type is used only in shells for CPUs that have the instruction.
                Self(unsafe { $set(x) })
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                // SAFETY: the caller says that a vector is readable; as above.
                Self(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                // SAFETY: the caller says that a vector is writable; as above.
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
                Self(unsafe { $fma(self.0, factor.0, addend.0) })
            }
            #[inline(always)]
            fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $fnma(self.0, factor.0, addend.0) })
            }
            #[inline(always)]
            fn mul_sub(self, factor: Self, less: Self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $fms(self.0, factor.0, less.0) })
            }
            #[inline(always)]
            fn interleave(self, im: Self) -> (Self, Self) {
                // SAFETY: as for splat.
                let (low, high) = unsafe { $interleave(self.0, im.0) };
                (Self(low), Self(high))
            }
            #[inline(always)]
            fn deinterleave(self, second: Self) -> (Self, Self) {
                // SAFETY: as for splat.
                let (even, odd) = unsafe { $deinterleave(self.0, second.0) };
                (Self(even), Self(odd))
            }
            #[inline(always)]
            fn interleave_reversed(self, im: Self) -> (Self, Self) {
                // SAFETY: as for splat.
                let (low, high) = unsafe { $backwards(self.0, im.0) };
                (Self(low), Self(high))
            }
            #[inline(always)]
            fn reverse(self) -> Self {
                // SAFETY: as for splat.
                Self(unsafe { $reverse(self.0) })
            }
            #[inline(always)]
            unsafe fn transpose(from: *const $real, from_step: usize, to: *mut $real, to_step: usize) {
                // SAFETY: the caller vouches for the memory; as for splat.
                unsafe { $transpose(from, from_step, to, to_step) }
            }
            #[inline(always)]
            fn prefetch(line: *const u8) {
                // SAFETY: a prefetch of any address does nothing that a program could see.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
            }
            #[inline(always)]
            unsafe fn shell<W: Work<Self>>(work: W) -> W::Out {
                // SAFETY: the caller vouches for the work; as for splat.
                unsafe { $shell(work) }
            }
        }

        /// # Safety
        /// As the work, on a CPU with these features.
        #[inline(never)]
        #[target_feature(enable = $features)]
        unsafe fn $shell<W: Work<$name>>(work: W) -> W::Out {
            // SAFETY: the caller vouches for the work.
            unsafe { work.run() }
        }
    };
}

register!(F32x16: f32, 16, "avx512f,avx512bw,avx512dq,avx512vl,fma", _mm512_set1_ps, _mm512_loadu_ps,
    _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_fmsub_ps, interleave_512, backwards_512, deinterleave_512, reverse_512, transpose_512, shell_512);
register!(F64x8: f64, 8, "avx512f,avx512bw,avx512dq,avx512vl,fma", _mm512_set1_pd, _mm512_loadu_pd,
    _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, _mm512_fnmadd_pd,
    _mm512_fmsub_pd, interleave_512d, backwards_512d, deinterleave_512d, reverse_512d, transpose_512d, shell_512d);
register!(F32x8: f32, 8, "avx2,fma", _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps,
    _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_fmsub_ps, interleave_256, backwards_256, deinterleave_256, reverse_256, transpose_256, shell_256);
register!(F64x4: f64, 4, "avx2,fma", _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd,
    _mm256_sub_pd, _mm256_mul_pd, _mm256_fmadd_pd, _mm256_fnmadd_pd, _mm256_fmsub_pd, interleave_256d, backwards_256d, deinterleave_256d, reverse_256d, transpose_256d, shell_256d);

/// # Safety
/// The CPU must have the instructions; so for each function below.
#[inline(always)]
unsafe fn interleave_512(a: __m512, b: __m512) -> (__m512, __m512) {
    // SAFETY: as the caller says.
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn backwards_512(a: __m512, b: __m512) -> (__m512, __m512) {
    // SAFETY: as the caller says.
    unsafe {
        let low = _mm512_setr_epi32(15, 31, 14, 30, 13, 29, 12, 28, 11, 27, 10, 26, 9, 25, 8, 24);
        let high = _mm512_setr_epi32(7, 23, 6, 22, 5, 21, 4, 20, 3, 19, 2, 18, 1, 17, 0, 16);
        (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn backwards_512d(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    // SAFETY: as the caller says.
    unsafe {
        let low = _mm512_setr_epi64(7, 15, 6, 14, 5, 13, 4, 12);
        let high = _mm512_setr_epi64(3, 11, 2, 10, 1, 9, 0, 8);
        (_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn backwards_256(a: __m256, b: __m256) -> (__m256, __m256) {
    // SAFETY: as the caller says.
    unsafe { interleave_256(reverse_256(a), reverse_256(b)) }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn backwards_256d(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    // SAFETY: as the caller says.
    unsafe { interleave_256d(reverse_256d(a), reverse_256d(b)) }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn deinterleave_512(a: __m512, b: __m512) -> (__m512, __m512) {
    // SAFETY: as the caller says.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn reverse_512(a: __m512) -> __m512 {
    // SAFETY: as the caller says.
    unsafe { _mm512_permutexvar_ps(_mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), a) }
}

/// Two vectors and how they are joined: [`transpose_512`] in four rounds.
macro_rules! join {
    (ps $a:expr, $b:expr) => {
        (_mm512_unpacklo_ps($a, $b), _mm512_unpackhi_ps($a, $b))
    };
    (pd $a:expr, $b:expr) => {{
        let (a, b) = (_mm512_castps_pd($a), _mm512_castps_pd($b));
        (_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
    }};
    (quarters $a:expr, $b:expr) => {
        (_mm512_shuffle_f32x4::<0x88>($a, $b), _mm512_shuffle_f32x4::<0xdd>($a, $b))
    };
}

/// Transposes 4 by 4 in each quarter of four vectors.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn quarters_512(from: *const f32, step: usize) -> [__m512; 4] {
    // SAFETY: as the caller says.
    unsafe {
        let row = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(step))];
        let row2 = [_mm512_loadu_ps(from.add(2 * step)), _mm512_loadu_ps(from.add(3 * step))];
        let (a, b) = join!(ps row[0], row[1]);
        let (c, d) = join!(ps row2[0], row2[1]);
        let ((x, y), (z, w)) = (join!(pd a, c), join!(pd b, d));
        [x, y, z, w]
    }
}

/// # Safety
/// As above, and as [`Lanes::transpose`].
#[inline(always)]
unsafe fn transpose_512(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    // SAFETY: as the caller says. Quarters are transposed first, and then exchanged.
    unsafe {
        let a = quarters_512(from, from_step);
        let b = quarters_512(from.add(4 * from_step), from_step);
        let c = quarters_512(from.add(8 * from_step), from_step);
        let d = quarters_512(from.add(12 * from_step), from_step);
        for column in 0..4 {
            let (ab, ab2) = join!(quarters a[column], b[column]);
            let (cd, cd2) = join!(quarters c[column], d[column]);
            let ((first, third), (second, fourth)) = (join!(quarters ab, cd), join!(quarters ab2, cd2));
            _mm512_storeu_ps(to.add(column * to_step), first);
            _mm512_storeu_ps(to.add((4 + column) * to_step), second);
            _mm512_storeu_ps(to.add((8 + column) * to_step), third);
            _mm512_storeu_ps(to.add((12 + column) * to_step), fourth);
        }
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn interleave_512d(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    // SAFETY: as the caller says.
    unsafe {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        (_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn deinterleave_512d(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    // SAFETY: as the caller says.
    unsafe {
        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
        (_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn reverse_512d(a: __m512d) -> __m512d {
    // SAFETY: as the caller says.
    unsafe { _mm512_permutexvar_pd(_mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0), a) }
}

/// # Safety
/// As above, and as [`Lanes::transpose`].
#[inline(always)]
unsafe fn transpose_512d(from: *const f64, from_step: usize, to: *mut f64, to_step: usize) {
    // SAFETY: as the caller says. Pairs of four rows are put together at the load.
    unsafe {
        for pair in 0..4 {
            let gather = |row: usize| {
                let part = |block: usize| _mm_loadu_pd(from.add((row + 2 * block) * from_step + 2 * pair));
                let vector = _mm512_insertf64x2::<1>(_mm512_castpd128_pd512(part(0)), part(1));
                let vector = _mm512_insertf64x2::<2>(vector, part(2));
                _mm512_insertf64x2::<3>(vector, part(3))
            };
            let (a, b) = (gather(0), gather(1));
            _mm512_storeu_pd(to.add(2 * pair * to_step), _mm512_unpacklo_pd(a, b));
            _mm512_storeu_pd(to.add((2 * pair + 1) * to_step), _mm512_unpackhi_pd(a, b));
        }
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn interleave_256(a: __m256, b: __m256) -> (__m256, __m256) {
    // SAFETY: as the caller says.
    unsafe {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn deinterleave_256(a: __m256, b: __m256) -> (__m256, __m256) {
    // SAFETY: as the caller says.
    unsafe {
        let (low, high) = (_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
        (_mm256_shuffle_ps::<0x88>(low, high), _mm256_shuffle_ps::<0xdd>(low, high))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn reverse_256(a: __m256) -> __m256 {
    // SAFETY: as the caller says.
    unsafe { _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0)) }
}

/// # Safety
/// As above, and as [`Lanes::transpose`].
#[inline(always)]
unsafe fn transpose_256(from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
    // SAFETY: as the caller says. Halves of two rows are put together at the load.
    unsafe {
        for half in 0..2 {
            let gather = |row: usize| {
                let part = |block: usize| _mm_loadu_ps(from.add((row + 4 * block) * from_step + 4 * half));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(part(0)), part(1))
            };
            let (a, b, c, d) = (gather(0), gather(1), gather(2), gather(3));
            let (ab, ab2) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd, cd2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let to = to.add(4 * half * to_step);
            _mm256_storeu_ps(to, _mm256_shuffle_ps::<0x44>(ab, cd));
            _mm256_storeu_ps(to.add(to_step), _mm256_shuffle_ps::<0xee>(ab, cd));
            _mm256_storeu_ps(to.add(2 * to_step), _mm256_shuffle_ps::<0x44>(ab2, cd2));
            _mm256_storeu_ps(to.add(3 * to_step), _mm256_shuffle_ps::<0xee>(ab2, cd2));
        }
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn interleave_256d(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    // SAFETY: as the caller says.
    unsafe {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn deinterleave_256d(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    // SAFETY: as the caller says.
    unsafe {
        let (low, high) = (_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b));
        (_mm256_unpacklo_pd(low, high), _mm256_unpackhi_pd(low, high))
    }
}

/// # Safety
/// As above.
#[inline(always)]
unsafe fn reverse_256d(a: __m256d) -> __m256d {
    // SAFETY: as the caller says.
    unsafe { _mm256_permute4x64_pd::<0x1b>(a) }
}

/// # Safety
/// As above, and as [`Lanes::transpose`].
#[inline(always)]
unsafe fn transpose_256d(from: *const f64, from_step: usize, to: *mut f64, to_step: usize) {
    // SAFETY: as the caller says. Halves of two rows are put together at the load.
    unsafe {
        for half in 0..2 {
            let gather = |row: usize| {
                let part = |block: usize| _mm_loadu_pd(from.add((row + 2 * block) * from_step + 2 * half));
                _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(part(0)), part(1))
            };
            let (a, b) = (gather(0), gather(1));
            _mm256_storeu_pd(to.add(2 * half * to_step), _mm256_unpacklo_pd(a, b));
            _mm256_storeu_pd(to.add((2 * half + 1) * to_step), _mm256_unpackhi_pd(a, b));
        }
    }
}
