//! The shells for x86-64.

use super::lines::Vector;
use std::arch::x86_64::*;

/// Orders streaming stores before every later store.
#[cfg_attr(miri, allow(dead_code))]
pub(super) fn fence() {
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() }
}

/// # Safety
/// As [`Vector::text`].
#[inline(always)]
unsafe fn rep_movsb(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the instruction reads and writes just these bytes; the ABI leaves the direction flag clear.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rdi") dst => _,
            inout("rsi") src => _,
            inout("rcx") len => _,
            options(nostack, preserves_flags)
        );
    }
}

/// One register type and the functions that are compiled for it.
macro_rules! shell {
    ($name:ident, $register:ty, $bytes:literal, $features:literal, $load:ident, $store:ident, $stream:ident) => {
        pub(super) mod $name {
            use super::*;
            use crate::kernel::cast::Cast;
            use crate::kernel::moves::{Items, Rows, Stores};
            use crate::kernel::{cast, four, items, lines};

            #[derive(Clone, Copy)]
            struct Register($register);

            impl Vector for Register {
                const BYTES: usize = $bytes;

                #[inline(always)]
                unsafe fn load(from: *const u8) -> Self {
                    // SAFETY: the caller says that the bytes are readable; this shell runs only where the
                    // instruction exists.
                    Self(unsafe { $load(from.cast()) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut u8) {
                    // SAFETY: the caller says that the bytes are writable; as above.
                    unsafe { $store(to.cast(), self.0) }
                }

                #[inline(always)]
                unsafe fn stream(self, to: *mut u8) {
                    // SAFETY: the caller says that the bytes are writable and aligned; as above.
                    unsafe { $stream(to.cast(), self.0) }
                }

                #[inline(always)]
                unsafe fn text(dst: *mut u8, src: *const u8, len: usize) {
                    // SAFETY: as the caller says.
                    unsafe { rep_movsb(dst, src, len) }
                }

                #[inline(always)]
                fn prefetch(line: *const u8) {
                    // SAFETY: a prefetch of any address does nothing that a program could see.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
                }

                #[inline(always)]
                fn foresee(line: *const u8) {
                    // SAFETY: as above.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
                }

                #[inline(always)]
                fn claim(line: *const u8) {
                    // SAFETY: as above; CPUs that do not know the instruction take it for none at all.
                    unsafe { std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly)) }
                }
            }

            /// # Safety
            /// As [`crate::kernel::copy_rows`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn copy_rows(stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
                // SAFETY: the caller vouches for the memory.
                unsafe { lines::rows::<Register>(stores, dst, src, rows) }
            }

            /// # Safety
            /// As [`crate::kernel::copy_rows`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn stream_rows(dst: *mut u8, src: *const u8, rows: &Rows) {
                // SAFETY: the caller vouches for the memory.
                unsafe { four::rows::<Register>(dst, src, rows) }
            }

            /// # Safety
            /// As [`crate::kernel::stream_tiles`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn stream_tiles(dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows) {
                // SAFETY: the caller vouches for the memory.
                unsafe { four::tiles::<Register>(dst, src, rows) }
            }

            /// # Safety
            /// As [`crate::kernel::copy_items`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn copy_items(dst: *mut u8, src: *const u8, items: &Items) {
                // SAFETY: the caller vouches for the memory.
                unsafe { items::items(dst, src, items) }
            }

            /// # Safety
            /// As [`crate::kernel::convert`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn convert(cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
                // SAFETY: the caller vouches for the memory.
                unsafe { cast::convert(cast, dst, src, count) }
            }

            /// # Safety
            /// As [`crate::kernel::stream_converted`], on a CPU with these features.
            #[target_feature(enable = $features)]
            pub(in crate::kernel) unsafe fn stream_converted(cast: Cast, dst: *mut u8, src: *const u8, rows: &Rows) {
                // SAFETY: the caller vouches for the memory.
                unsafe { cast::stream_converted::<Register>(cast, dst, src, rows) }
            }
        }
    };
}

shell!(avx2, __m256i, 32, "avx2", _mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256);
shell!(
    avx512,
    __m512i,
    64,
    "avx512f,avx512bw,avx512dq,avx512vl",
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    _mm512_stream_si512
);
