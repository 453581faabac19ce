//! Which parts of large arrays were written lately, and so may still be in the cache.
//!
//! One call may write a strip of a picture that is larger than the cache, the next call the next strip. Each is small,
//! but the line that it writes will be gone before anybody reads it, as if one call wrote it all. A strip that is
//! written again and again is another matter: it stays in the cache, and streaming stores would drive it out.

use crate::prim::SpinLock;
use std::ops::Range;

/// How many parts are remembered.
const PLACES: usize = 32;

struct Recent {
    /// Addresses of parts, and how many bytes had been written before each.
    parts: [(Range<usize>, u64); PLACES],
    /// Bytes written to parts so far.
    written: u64,
    /// The place that is taken next.
    next: usize,
}

static RECENT: SpinLock<Recent> = SpinLock::new(Recent::new());

impl Recent {
    const fn new() -> Self {
        Self { parts: [const { (0..0, 0) }; PLACES], written: 0, next: 0 }
    }

    /// Notes that a part is written, and says whether some of it was within the last `bytes`.
    fn note(&mut self, part: Range<usize>, bytes: usize) -> bool {
        let since = |before: u64| self.written - before <= bytes as u64;
        let touches = |other: &Range<usize>| other.start < part.end && part.start < other.end;
        let again = self.parts.iter().any(|(other, before)| touches(other) && since(*before));
        self.written += part.len() as u64;
        match self.parts.iter_mut().find(|(other, _)| *other == part) {
            Some((_, before)) => *before = self.written,
            None => {
                self.parts[self.next] = (part, self.written);
                self.next = (self.next + 1) % PLACES;
            }
        }
        again
    }
}

/// Notes that the part of memory `part` is being written, and says whether it was within the last `bytes` of such
/// writes. Only speed depends on the answer, so nobody waits for it, and a fork need not care who is inside.
pub(super) fn note(part: Range<usize>, bytes: usize) -> bool {
    RECENT.try_lock().is_some_and(|mut recent| recent.note(part, bytes))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_recent_until_enough_else_was_written() {
        let mut recent = Recent::new();
        assert!(!recent.note(0..100, 250));
        assert!(recent.note(50..150, 250));
        assert!(recent.note(0..100, 250));
        assert!(!recent.note(200..300, 250));
        assert!(!recent.note(300..400, 250));
        assert!(!recent.note(400..500, 250));
        assert!(!recent.note(0..100, 250), "300 bytes later");
        (0..1000).for_each(|i| assert!(!recent.note(1000 + i * 100..1100 + i * 100, 250)));
    }
}
