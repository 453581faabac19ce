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

    /// Notes that a part of so many bytes is written, and says whether some of it was within the last `within` bytes.
    fn note(&mut self, part: Range<usize>, bytes: usize, within: usize) -> bool {
        let since = |before: u64| self.written - before <= within as u64;
        let touches = |other: &Range<usize>| other.start < part.end && part.start < other.end;
        let again = self.parts.iter().any(|(other, before)| touches(other) && since(*before));
        self.written += bytes as u64;
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

/// Notes that a part of some memory is being written, `bytes` in the pieces `places`, and says whether some of it was within
/// the last `within` bytes of such writes. Of many pieces the first ones stand for all. Only speed depends on the answer, so
/// nobody waits for it, and a fork need not care who is inside.
pub(super) fn note(places: impl IntoIterator<Item = Range<usize>>, bytes: usize, within: usize) -> bool {
    let Some(mut recent) = RECENT.try_lock() else { return false };
    let mut left = bytes;
    let mut again = false;
    for place in places.into_iter().take(PLACES) {
        // All of the bytes count once.
        again |= recent.note(place, std::mem::take(&mut left), within);
    }
    again
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_recent_until_enough_else_was_written() {
        let mut recent = Recent::new();
        let mut note = |part: Range<usize>| recent.note(part.clone(), part.len(), 250);
        assert!(!note(0..100));
        assert!(note(50..150));
        assert!(note(0..100));
        assert!(!note(200..300));
        assert!(!note(300..400));
        assert!(!note(400..500));
        assert!(!note(0..100), "300 bytes later");
        (0..1000).for_each(|i| assert!(!note(1000 + i * 100..1100 + i * 100)));
    }
}
