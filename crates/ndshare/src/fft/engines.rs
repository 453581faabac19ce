//! Engines that were used lately, for all plans of the process.

use super::cache::Cache;
use super::line::{Key, Line};
use super::vertical::{Problem, Vector, Vertical};
use crate::os::fork;
use std::sync::{Arc, OnceLock};

/// Engines that were used lately. A weight is a length: an engine needs a few numbers for each point of its line.
static LINES: Cache<Key, Line> = Cache::new(64, 1 << 21);

/// Engines that were used lately, or that there are none. A weight is the sum of both lengths.
static VERTICALS: Cache<(Problem, Vector), Option<Arc<Vertical>>> = Cache::new(64, 1 << 21);

extern "C" fn before_fork() {
    LINES.hold();
    VERTICALS.hold();
}

extern "C" fn after_fork() {
    VERTICALS.let_go();
    LINES.let_go();
}

/// Has the locks of both caches held across every fork from now on.
pub(super) fn watch_forks() {
    static HANDLERS: OnceLock<()> = OnceLock::new();
    HANDLERS.get_or_init(|| {
        // Without memory for a handler there is none for a fork either.
        let _ = fork::at_fork(before_fork, after_fork, after_fork);
    });
}

/// The engine for one line, from the cache if it was used lately.
pub(super) fn line(key: Key) -> Line {
    watch_forks();
    LINES.get(key, |key| (Line::plan(key), key.length))
}

/// The vertical engine for a problem; none for lengths that it has no passes for.
pub(super) fn vertical(problem: Problem) -> Option<Arc<Vertical>> {
    watch_forks();
    VERTICALS.get((problem, Vector::chosen()), |(problem, vector)| {
        let made = Vertical::with_vector(problem, *vector).map(Arc::new);
        (made, problem.rows.saturating_add(problem.cols))
    })
}

#[cfg(test)]
mod tests {
    use super::super::transform::Family;
    use super::*;

    #[test]
    fn the_cache_is_bounded() {
        for length in 1..400 {
            let _ = line(Key { family: Family::Complex, forward: true, length, double: true });
            assert!(LINES.len() <= 64);
        }
    }
}
