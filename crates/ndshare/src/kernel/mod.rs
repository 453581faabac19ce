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
mod items;
mod lines;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(test, not(loom)))]
mod tests;

pub use cast::Cast;

use crate::error::{Error, Result};
use crate::prim::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// Bytes of a cache line, the unit of streaming stores.
pub const LINE: usize = 64;

/// The kinds of CPU that there are shells for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Any CPU; it has no streaming stores.
    Scalar,
    /// ARM with NEON, which is every 64-bit ARM.
    Neon,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

const LEVELS: [(Level, &str); 4] =
    [(Level::Scalar, "scalar"), (Level::Neon, "neon"), (Level::Avx2, "avx2"), (Level::Avx512, "avx512")];

impl Level {
    /// The name that `NDSHARE_CPU` gives it.
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(level, _)| *level == self).map_or("scalar", |(_, name)| name)
    }
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stores {
    /// By vectors, into the cache.
    Vector,
    /// By the CPU's own string copy, into the cache; vectors where it is slow or missing.
    Text,
    /// Past the cache, in whole lines; vectors at the edges.
    Stream,
}

/// A kind of CPU that this machine is. Having one is the proof that its instructions exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cpu {
    level: Level,
    text: bool,
}

impl Cpu {
    /// This machine as `level`; none when it is not of that kind.
    pub fn of(level: Level) -> Option<Self> {
        is_present(level).then(|| Self { level, text: level != Level::Scalar && has_quick_strings() })
    }

    /// All that this machine can be, the best last.
    pub fn all() -> Vec<Self> {
        LEVELS.iter().filter_map(|&(level, _)| Self::of(level)).collect()
    }

    /// What this process uses: what [`force`] or `NDSHARE_CPU` says, else the best.
    ///
    /// # Errors
    /// `InvalidValue` when `NDSHARE_CPU` names what this machine is not.
    #[inline]
    pub fn chosen() -> Result<Self> {
        static DEFAULT: OnceLock<Result<Cpu>> = OnceLock::new();
        match FORCED.load(Ordering::Relaxed) {
            0 => DEFAULT.get_or_init(from_environment).clone(),
            place => Ok(Cpu::of(LEVELS[place as usize - 1].0).unwrap_or(SCALAR)),
        }
    }

    /// Which shell it takes.
    pub fn level(self) -> Level {
        self.level
    }

    /// Whether it has streaming stores.
    pub fn streams(self) -> bool {
        self.level != Level::Scalar
    }

    /// Whether [`Stores::Text`] is other than vectors.
    pub fn has_text(self) -> bool {
        self.text
    }
}

const SCALAR: Cpu = Cpu { level: Level::Scalar, text: false };

/// The place in `LEVELS` of a forced level, plus 1.
static FORCED: AtomicU32 = AtomicU32::new(0);

/// Makes this process use `name` from now on; none: what it would use by itself. For tests.
///
/// # Errors
/// `InvalidValue` when this machine is not of that kind.
pub fn force(name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        FORCED.store(0, Ordering::Relaxed);
        return Ok(());
    };
    let place = present(name)?;
    FORCED.store(place as u32 + 1, Ordering::Relaxed);
    Ok(())
}

fn from_environment() -> Result<Cpu> {
    match std::env::var("NDSHARE_CPU") {
        Ok(name) => present(&name).map(|place| Cpu::of(LEVELS[place].0).unwrap_or(SCALAR)),
        Err(_) => Ok(Cpu::all().pop().unwrap_or(SCALAR)),
    }
}

/// The place in `LEVELS` of a level that this machine has.
fn present(name: &str) -> Result<usize> {
    let place = LEVELS.iter().position(|&(level, known)| known == name && is_present(level));
    place.ok_or_else(|| {
        let names: Vec<_> = Cpu::all().iter().map(|cpu| cpu.level.name()).collect();
        Error::value(format!("expected NDSHARE_CPU to be one of {}, got {name:?}", names.join(", ")))
    })
}

#[cfg(target_arch = "x86_64")]
fn is_present(level: Level) -> bool {
    match level {
        Level::Scalar => true,
        Level::Neon => false,
        Level::Avx2 => std::is_x86_feature_detected!("avx2"),
        Level::Avx512 => x86::has_avx512(),
    }
}

#[cfg(target_arch = "aarch64")]
fn is_present(level: Level) -> bool {
    matches!(level, Level::Scalar | Level::Neon)
}

#[cfg(target_arch = "x86_64")]
fn has_quick_strings() -> bool {
    static QUICK: OnceLock<bool> = OnceLock::new();
    *QUICK.get_or_init(x86::has_quick_strings)
}

#[cfg(target_arch = "aarch64")]
fn has_quick_strings() -> bool {
    false
}

/// Finds out now what this CPU can do.
pub(crate) fn warm_up() {
    // A variable that says nonsense is an error of the first copy.
    let _ = Cpu::chosen();
    let _ = has_quick_strings();
}

/// Rows of contiguous bytes, each somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rows {
    /// How many rows.
    pub rows: usize,
    /// Bytes of a row.
    pub run: usize,
    /// Bytes from row to row.
    pub dst_row: isize,
    /// Bytes from row to row.
    pub src_row: isize,
}

/// Rows of items, each item somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Items {
    /// How many rows.
    pub rows: usize,
    /// How many items in a row.
    pub count: usize,
    /// Bytes of an item.
    pub size: usize,
    /// Bytes from row to row.
    pub dst_row: isize,
    /// Bytes from row to row.
    pub src_row: isize,
    /// Bytes from item to item.
    pub dst_step: isize,
    /// Bytes from item to item.
    pub src_step: isize,
}

/// The same three functions for every kind of CPU; `$call` names one.
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
    unsafe { dispatch!(cpu, copy_rows(stores, dst, src, rows)) }
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

/// Orders streaming stores before every later store. Call it before anything that was streamed is published.
#[inline]
pub fn fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    x86::fence();
    // STNP is weakly ordered, and a full fence is a DMB on ARM. Miri has no streaming stores and no SFENCE.
    #[cfg(any(target_arch = "aarch64", miri))]
    crate::prim::fence(Ordering::SeqCst);
}

/// The shell for any CPU.
mod scalar {
    use super::{Cast, Items, Rows, Stores, cast, items, lines};

    /// # Safety
    /// As [`super::copy_rows`].
    pub(super) unsafe fn copy_rows(stores: Stores, dst: *mut u8, src: *const u8, rows: &Rows) {
        // SAFETY: the caller vouches for the memory.
        unsafe { lines::rows::<lines::Plain>(stores, dst, src, rows) }
    }

    /// # Safety
    /// As [`super::copy_items`].
    pub(super) unsafe fn copy_items(dst: *mut u8, src: *const u8, items: &Items) {
        // SAFETY: the caller vouches for the memory.
        unsafe { items::items(dst, src, items) }
    }

    /// # Safety
    /// As [`super::convert`].
    pub(super) unsafe fn convert(cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
        // SAFETY: the caller vouches for the memory.
        unsafe { cast::convert(cast, dst, src, count) }
    }
}
