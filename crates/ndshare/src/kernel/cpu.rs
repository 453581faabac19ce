//! Which kinds of CPU there are shells for, and which of them this machine is.

use crate::error::{Error, Result};
use crate::prim::{AtomicU32, Ordering};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

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

/// A kind of CPU that this machine is. Having one is the proof that its instructions exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cpu {
    pub(super) level: Level,
    pub(super) text: bool,
    /// Whether it is one by Intel, with vectors.
    pub(super) intels: bool,
}

impl Cpu {
    /// This machine as `level`; none when it is not of that kind.
    pub fn of(level: Level) -> Option<Self> {
        let vectors = level != Level::Scalar;
        is_present(level).then(|| Self {
            level,
            text: vectors && has_quick_strings(),
            intels: vectors && is_by_intel(),
        })
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
            index => Ok(Cpu::of(LEVELS[index as usize - 1].0).unwrap_or(SCALAR)),
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

    /// Whether it is one by Intel: there rows past the cache are taken four at a time.
    pub fn is_intels(self) -> bool {
        self.intels
    }

    /// The same, or not. For tests.
    #[cfg(test)]
    pub(crate) fn as_intels(self, intels: bool) -> Self {
        Self { intels: intels && self.streams(), ..self }
    }

    /// Whether [`Stores::Text`](super::Stores::Text) is other than vectors.
    pub fn has_text(self) -> bool {
        self.text
    }
}

const SCALAR: Cpu = Cpu { level: Level::Scalar, text: false, intels: false };

/// The index in `LEVELS` of a forced level, plus 1.
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
    let index = present(name)?;
    FORCED.store(index as u32 + 1, Ordering::Relaxed);
    Ok(())
}

fn from_environment() -> Result<Cpu> {
    match std::env::var("NDSHARE_CPU") {
        Ok(name) => present(&name).map(|index| Cpu::of(LEVELS[index].0).unwrap_or(SCALAR)),
        Err(_) => Ok(Cpu::all().pop().unwrap_or(SCALAR)),
    }
}

/// The index in `LEVELS` of a level that this machine has.
pub(super) fn present(name: &str) -> Result<usize> {
    let index = LEVELS.iter().position(|&(level, known)| known == name && is_present(level));
    index.ok_or_else(|| {
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
        Level::Avx512 => has_avx512(),
    }
}

#[cfg(target_arch = "aarch64")]
fn is_present(level: Level) -> bool {
    matches!(level, Level::Scalar | Level::Neon)
}

/// Whether this CPU and its system have what the AVX-512 shell is compiled for.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn has_quick_strings() -> bool {
    static QUICK: OnceLock<bool> = OnceLock::new();
    *QUICK.get_or_init(copies_strings_quickly)
}

#[cfg(target_arch = "aarch64")]
fn has_quick_strings() -> bool {
    false
}

/// Whether `rep movsb` is quick: enhanced (ERMS), and not of a family whose copies stumble over aliased pages.
#[cfg(target_arch = "x86_64")]
fn copies_strings_quickly() -> bool {
    const ERMS: u32 = 1 << 9;
    const AMD: u32 = u32::from_le_bytes(*b"Auth");
    let first = __cpuid(0);
    if first.eax < 7 {
        return false;
    }
    let signature = __cpuid(1).eax;
    let family = (signature >> 8 & 15) + (signature >> 20 & 255);
    let stumbles = first.ebx == AMD && family < 0x1a;
    __cpuid_count(7, 0).ebx & ERMS != 0 && !stumbles
}

/// Whether this is a CPU by Intel.
#[cfg(target_arch = "x86_64")]
fn is_by_intel() -> bool {
    static INTELS: OnceLock<bool> = OnceLock::new();
    const INTEL: u32 = u32::from_le_bytes(*b"Genu");
    *INTELS.get_or_init(|| __cpuid(0).ebx == INTEL)
}

#[cfg(target_arch = "aarch64")]
fn is_by_intel() -> bool {
    false
}

/// Finds out now what this CPU can do.
pub(crate) fn warm_up() {
    // A variable that says nonsense is an error of the first copy.
    let _ = Cpu::chosen();
    let _ = (has_quick_strings(), is_by_intel());
}
