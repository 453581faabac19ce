//! What a plan is made for: this CPU, its caches, and as many workers as the job is worth.

use super::recent;
use crate::error::{Error, Result};
use crate::kernel::{Cpu, Stores};
use crate::layout::parse_size;
use crate::os::cpu;
use crate::pool::MAX_WORKERS;
use crate::prim::{AtomicU64, Ordering};
use std::ops::Range;
use std::sync::OnceLock;

/// Less than this fits the first-level cache with its source, where vectors are quickest.
const TEXT_FROM: usize = 32 << 10;
/// A run must be this long before the CPU's string copy has got going.
pub(super) const TEXT_RUN: usize = 2048;
/// Smaller parts of large arrays are written into the cache.
const PART_FROM: usize = 256 << 10;
/// A second worker costs the time in which one moves about a megabyte.
const WORKER_BYTES: usize = 2 << 20;
/// More workers than this find no more memory bandwidth on any machine that we know.
const MOST_USEFUL_WORKERS: usize = 8;

/// How plans are made. The default is for this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The kernels.
    pub cpu: Cpu,
    /// Outputs of at least so many bytes are streamed past the cache.
    pub stream_from: usize,
    /// Threads with the caller; none picks by size and CPUs.
    pub workers: Option<usize>,
}

impl Settings {
    /// The settings of this process.
    ///
    /// # Errors
    /// `InvalidValue` when `NDSHARE_CPU` or `NDSHARE_STREAM_FROM` has a value that cannot work.
    pub fn of_this_process(workers: Option<usize>) -> Result<Self> {
        Ok(Self { cpu: Cpu::chosen()?, stream_from: stream_from()?, workers })
    }

    /// The same settings for an output of `bytes` that is part of an array of `whole` bytes.
    ///
    /// A part of an array that should be streamed as a whole is streamed as well, unless it is small, or was written a
    /// moment ago and so may still be in the cache. It is known again by `places`: the addresses of its pieces.
    #[must_use]
    pub fn for_part(mut self, places: impl IntoIterator<Item = Range<usize>>, bytes: usize, whole: usize) -> Self {
        let is_part = (PART_FROM..self.stream_from).contains(&bytes) && whole >= self.stream_from;
        if is_part && !recent::note(places, bytes, self.stream_from) {
            self.stream_from = PART_FROM;
        }
        self
    }

    /// The stores for an output of so many bytes.
    pub(super) fn stores(&self, bytes: usize) -> Stores {
        if bytes >= self.stream_from && self.cpu.streams() {
            Stores::Stream
        } else if bytes >= TEXT_FROM && self.cpu.has_text() {
            Stores::Text
        } else {
            Stores::Vector
        }
    }

    /// The workers for an output of so many bytes.
    pub(super) fn workers(&self, bytes: usize) -> usize {
        match self.workers {
            Some(workers) => workers.clamp(1, MAX_WORKERS),
            None if bytes < 2 * WORKER_BYTES => 1,
            None => cpu::available().min(bytes / WORKER_BYTES).min(MOST_USEFUL_WORKERS),
        }
    }
}

/// What [`set_stream_from`] said; the largest number for nothing.
static STREAM_FROM: AtomicU64 = AtomicU64::new(u64::MAX);

/// From how many bytes of output on streaming stores are used: what was set, else `NDSHARE_STREAM_FROM`, else three
/// quarters of the last-level cache.
///
/// # Errors
/// `InvalidValue` when the variable is no size.
#[inline]
pub fn stream_from() -> Result<usize> {
    static DEFAULT: OnceLock<Result<u64>> = OnceLock::new();
    let bytes = match STREAM_FROM.load(Ordering::Relaxed) {
        u64::MAX => DEFAULT.get_or_init(default_stream_from).clone()?,
        set => set,
    };
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Sets the bytes of output from which on streaming stores are used; none: what it would be by itself.
pub fn set_stream_from(bytes: Option<u64>) {
    STREAM_FROM.store(bytes.map_or(u64::MAX, |bytes| bytes.min(u64::MAX - 1)), Ordering::Relaxed);
}

fn default_stream_from() -> Result<u64> {
    match std::env::var("NDSHARE_STREAM_FROM") {
        Ok(text) => {
            let hint = |error: Error| Error::new(error.kind(), format!("NDSHARE_STREAM_FROM: {error}"));
            parse_size(&text).map_err(hint)
        }
        Err(_) => Ok(cpu::last_cache_bytes() as u64 / 4 * 3),
    }
}
