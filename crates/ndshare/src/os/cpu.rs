//! The CPUs: which of them a thread may run on, and how large their caches are.

use crate::error::{Error, Result};
use crate::prim::{AtomicU64, Ordering};
use std::fs::read_to_string;
use std::num::NonZero;
use std::sync::OnceLock;

/// A set of CPUs.
#[derive(Clone, Copy)]
pub struct Cpus(libc::cpu_set_t);

impl Cpus {
    /// Those that the calling thread may run on; none when the system does not say.
    pub fn of_this_thread() -> Option<Self> {
        // SAFETY: a set of plain bits; zeros are the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a live set of this frame, which the call fills; 0 is the calling thread.
        let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0;
        (!failed).then_some(Self(set))
    }

    /// Lets the calling thread run on these CPUs only.
    ///
    /// # Errors
    /// `Os` when the system refuses, for one when all of these CPUs are forbidden to it.
    pub fn apply(&self) -> Result<()> {
        // SAFETY: `self` is a live set; 0 is the calling thread.
        match unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &self.0) } {
            0 => Ok(()),
            _ => Err(Error::last_os("sched_setaffinity")),
        }
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        // SAFETY: `self` is a live set, which is only read.
        usize::try_from(unsafe { libc::CPU_COUNT(&self.0) }).unwrap_or(1).max(1)
    }
}

impl PartialEq for Cpus {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: both are live sets, which are only read.
        unsafe { libc::CPU_EQUAL(&self.0, &other.0) }
    }
}

/// How many CPUs the calling thread may keep busy: by its affinity, and by the cgroup's quota.
pub fn available() -> usize {
    // The quota takes a walk through /sys, so it is read anew only when the affinity has another size.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let allowed = Cpus::of_this_thread().map_or(1, |cpus| cpus.count()) as u64;
    let known = KNOWN.load(Ordering::Relaxed);
    if known >> 32 == allowed {
        return (known & u64::from(u32::MAX)) as usize;
    }
    let usable = std::thread::available_parallelism().map_or(1, NonZero::get);
    KNOWN.store(allowed << 32 | usable as u64 & u64::from(u32::MAX), Ordering::Relaxed);
    usable
}

/// What a machine that does not say is taken to have: as its last cache, as its second, and as its first.
const USUAL_CACHE_BYTES: usize = 16 << 20;
const USUAL_SECOND_BYTES: usize = 1 << 20;
const USUAL_FIRST_BYTES: usize = 32 << 10;
/// What Linux says of the caches of CPU 0.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";

/// More of a last-level cache than any kind of CPU has for each of those that share it.
const MOST_OF_ONE_CPU: usize = 16 << 20;

/// Bytes of the last-level cache that CPU 0 uses; 16 MiB where the system does not say.
///
/// A virtual machine may say that its few CPUs have all of the cache of a large one, which they share with others: it counts
/// for as much as CPUs have.
pub fn last_cache_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    let all = || largest_cache(CACHES, None).unwrap_or(USUAL_CACHE_BYTES);
    *BYTES.get_or_init(|| all().min(MOST_OF_ONE_CPU.saturating_mul(most_that_share(CACHES))))
}

/// Bytes of the second-level cache that CPU 0 uses; 1 MiB where the system does not say.
pub fn second_cache_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| largest_cache(CACHES, Some(2)).unwrap_or(USUAL_SECOND_BYTES))
}

/// Bytes of the first-level cache for data that CPU 0 uses; 32 KiB where the system does not say.
pub fn first_cache_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| largest_cache(CACHES, Some(1)).unwrap_or(USUAL_FIRST_BYTES))
}

/// The largest cache for data, of one level or of any, that a folder of sysfs describes.
fn largest_cache(folder: &str, level: Option<u32>) -> Option<usize> {
    let size = |index: usize| {
        let read = |name: &str| read_to_string(format!("{folder}/index{index}/{name}")).ok();
        let is_data = read("type")?.trim() != "Instruction";
        let is_of_level = level.is_none_or(|level| read("level").is_some_and(|text| text.trim().parse() == Ok(level)));
        (is_data && is_of_level).then(|| parse_cache_size(&read("size")?)).flatten()
    };
    (0..8).filter_map(size).max()
}

/// How many CPUs share a cache that a folder of sysfs describes, at the most; as many as can be where it does not say.
fn most_that_share(folder: &str) -> usize {
    let of = |index: usize| read_to_string(format!("{folder}/index{index}/shared_cpu_list")).ok();
    (0..8).filter_map(|index| parse_cpu_list(&of(index)?)).max().unwrap_or(usize::MAX)
}

/// How many CPUs a text such as `0-3,8` names.
fn parse_cpu_list(text: &str) -> Option<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.trim().split(',').map(range).try_fold(0, |sum: usize, count| sum.checked_add(count?))
}

/// Bytes from a text such as `32768K`.
fn parse_cache_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, shift) = match text.strip_suffix('K') {
        Some(number) => (number, 10),
        None => text.strip_suffix('M').map_or((text, 0), |number| (number, 20)),
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_parse() {
        assert_eq!(parse_cache_size("32768K\n"), Some(32 << 20));
        assert_eq!(parse_cache_size("2M"), Some(2 << 20));
        for text in ["", "K", "0K", "many", "-1K"] {
            assert_eq!(parse_cache_size(text), None, "{text}");
        }
        assert_eq!(largest_cache("/no/such/folder", None), None);
        assert_eq!(["0", "0-1\n", "0-3,8,10-11"].map(parse_cpu_list), [Some(1), Some(2), Some(7)]);
        assert_eq!(["", "0-", "3-1", "a,1"].map(parse_cpu_list), [None; 4]);
        assert_eq!(most_that_share("/no/such/folder"), usize::MAX);
    }

    #[test]
    fn a_thread_knows_and_chooses_its_cpus() {
        let all = Cpus::of_this_thread().unwrap();
        assert!((1..=all.count()).contains(&available()));
        assert!((1 << 15..=last_cache_bytes()).contains(&second_cache_bytes()));
        assert!((1 << 13..=second_cache_bytes()).contains(&first_cache_bytes()));
        all.apply().unwrap();
        assert!(all == Cpus::of_this_thread().unwrap());
    }
}
