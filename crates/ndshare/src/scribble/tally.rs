//! What victims asked, how it ended, and how long the longest took.

use crate::error::{Kind, Result};
use crate::prim::{AtomicU64, Ordering::Relaxed};
use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Every wait of a victim ends within milliseconds; what takes so long hangs.
const HANG: Duration = Duration::from_secs(60);

/// How it went for one victim.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub operations: u64,
    errors: HashMap<Kind, u64>,
    longest: (Duration, &'static str),
    /// Words that were written over.
    pub pokes: u64,
}

/// Goes on while victims do: operations of this process.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

impl Tally {
    /// Counts one operation. An error is an outcome as good as another, for it has a kind.
    pub(super) fn ask<T>(&mut self, what: &'static str, operation: impl FnOnce() -> Result<T>) -> Option<T> {
        let begun = Instant::now();
        let outcome = operation();
        let took = begun.elapsed();
        if took > self.longest.0 {
            self.longest = (took, what);
        }
        self.operations += 1;
        if self.operations.is_multiple_of(256) {
            PROGRESS.fetch_add(1, Relaxed);
        }
        outcome.inspect_err(|error| *self.errors.entry(error.kind()).or_default() += 1).ok()
    }

    /// The same of what gives no error.
    pub(super) fn look<T>(&mut self, what: &'static str, operation: impl FnOnce() -> T) {
        let _ = self.ask(what, || Ok(operation()));
    }

    pub(super) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.pokes += other.pokes;
        self.longest = self.longest.max(other.longest);
        other.errors.into_iter().for_each(|(kind, count)| *self.errors.entry(kind).or_default() += count);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, errors, longest: (longest, what), pokes } = self;
        let failed: u64 = errors.values().sum();
        let mut kinds: Vec<String> = errors.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        kinds.sort();
        let kinds = kinds.join(", ");
        let ms = longest.as_millis();
        write!(
            f,
            "{pokes} words written over, {operations} operations, {failed} typed errors ({kinds}), longest {ms} ms ({what})"
        )
    }
}

/// Runs `work` on a thread, and fails when it panics or stands still.
pub(super) fn watched<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (report, reports) = channel();
    let worker = std::thread::spawn(move || report.send(work()));
    let mut seen = (PROGRESS.load(Relaxed), Instant::now());
    loop {
        match reports.recv_timeout(Duration::from_millis(500)) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => panic!("{name}: a victim panicked ({})", worker.join().is_err()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = PROGRESS.load(Relaxed);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        assert!(seen.1.elapsed() < HANG, "{name}: a victim hangs");
    }
}

/// A number that a variable of the environment gives.
pub(super) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
