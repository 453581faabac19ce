//! Byte movers on raw pointers: rows of contiguous bytes, items with steps, numbers that become wider.
//!
//! Each mover is written once, for any vector, and compiled once for each kind of CPU in a thin shell; the best that
//! this machine has is chosen at run time. Three kinds of stores exist because no one is best everywhere: vectors
//! for what stays in the first-level cache, the CPU's own string copy up to the last level, and streaming stores
//! beyond it, which write whole lines to memory without reading them first.
//!
//! The memory may be shared with other processes, so it is reached by raw pointers alone, and no Rust reference to
//! it ever exists.

#[cfg(target_arch = "aarch64")]
mod arm;
mod cast;
mod cpu;
mod four;
mod items;
mod lines;
mod moves;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(test, not(loom)))]
mod tests;

pub use cast::Cast;
pub(crate) use cpu::warm_up;
pub use cpu::{Cpu, Level, force};
pub use moves::{Items, LINE, Rows, Stores};

/// The same functions for every kind of CPU; `$call` names one.
macro_rules! dispatch {
    ($cpu:expr, $call:ident ( $($argument:expr),* )) => {
        match $cpu.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::avx512::$call($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::avx2::$call($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => arm::$call($($argument),*),
            _ => scalar::$call($($argument),*),
        }
    };
}

/// Copies rows. After [`Stores::Stream`] a [`fence`] must come before anybody else is told.
///
/// # Safety
/// Every row must be readable at `src` and writable at `dst`, and no written byte may be a read one.
#[inline]
pub unsafe fn copy_rows(cpu: Cpu, stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
    let stores = if stores == Stores::Text && !cpu.text { Stores::Vector } else { stores };
    // SAFETY: the caller vouches for the memory; `cpu` exists only where its instructions do.
    unsafe {
        if stores == Stores::Stream && cpu.intels {
            return dispatch!(cpu, stream_rows(dst, src, rows));
        }
        dispatch!(cpu, copy_rows(stores, dst, src, rows))
    }
}

/// Copies the rows of four tiles past the cache, a few lines of each in turn. A [`fence`] must come before anybody else is
/// told.
///
/// # Safety
/// As [`copy_rows`], for each of the four; and no byte that is written of one may be read or written of another.
#[inline]
pub unsafe fn stream_tiles(cpu: Cpu, dst: [*mut u8; 4], src: [*const u8; 4], rows: &Rows) {
    // SAFETY: as above.
    unsafe { dispatch!(cpu, stream_tiles(dst, src, rows)) }
}

/// Copies items one by one.
///
/// # Safety
/// Every item must be readable at `src` and writable at `dst`, and no written byte may be a read one.
#[inline]
pub unsafe fn copy_items(cpu: Cpu, dst: *mut u8, src: *const u8, items: &Items) {
    // SAFETY: as above.
    unsafe { dispatch!(cpu, copy_items(dst, src, items)) }
}

/// Converts `count` contiguous numbers.
///
/// # Safety
/// `count` numbers of the cast's types must be readable at `src` and writable at `dst`, and the two must not overlap.
#[inline]
pub unsafe fn convert(cpu: Cpu, cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
    // SAFETY: as above.
    unsafe { dispatch!(cpu, convert(cast, dst, src, count)) }
}

/// Converts rows of contiguous numbers, whose lengths `rows` counts in numbers, and writes them past the cache in the same
/// visit. A [`fence`] must come before anybody else is told.
///
/// # Safety
/// Every row must have so many numbers of the cast's types, readable at `src` and writable at `dst`, and no written byte
/// may be a read one.
#[inline]
pub unsafe fn stream_converted(cpu: Cpu, cast: Cast, dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: as above.
    unsafe { dispatch!(cpu, stream_converted(cast, dst, src, rows)) }
}

/// Orders streaming stores before every later store. Call it before anything that was streamed is published.
#[inline]
pub fn fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    x86::fence();
    // STNP is weakly ordered, and a full fence is a DMB on ARM. Miri has no streaming stores and no SFENCE.
    #[cfg(any(target_arch = "aarch64", miri))]
    crate::prim::fence(crate::prim::Ordering::SeqCst);
}
