//! How a reader sleeps that has waited for long: on its selector, which readers also give to event loops. Writers put a
//! byte into its pipe, and the kernel itself tells of their deaths; so it need not wake again and again to look for them.
//!
//! It is a second best: the byte costs the writer a few microseconds. So a reader begins with it only after a second, and
//! takes its wish back when it wakes. Where somebody's death would not be told, and where a byte did not come that should
//! have (from a process that cannot open this one's pipe), it naps on the futex as before.

use super::policy::Mode;
use super::reader::Reader;
use super::selector::Watchers;
use crate::arena::Deadline;
use crate::error::Result;
use crate::prim::Ordering::Relaxed;
use std::time::Duration;

/// How long a doze lasts at the most: a signal may have come just before it.
const LONGEST: Duration = Duration::from_secs(1);
/// So long a byte may take that is on its way.
const GRACE: Duration = Duration::from_millis(50);

/// What became of a doze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doze {
    /// It is not to be had here.
    Refused,
    /// Nobody woke it.
    Slept,
    /// Something came, or somebody may have died.
    Woken,
}

impl Reader {
    /// Sleeps until there is something to get, a process died whose death concerns this reader, or for `longest`.
    pub(super) fn doze(&self, deadline: &Deadline, longest: Duration) -> Doze {
        // RAW: a word of this process alone.
        if self.is_deaf.load(Relaxed) || matches!(self.mode, Mode::Group(_)) {
            return Doze::Refused;
        }
        let Ok(dozing) = Dozing::begin(self) else {
            self.is_deaf.store(true, Relaxed);
            return Doze::Refused;
        };
        let Some(selector) = self.selector.get() else { return Doze::Refused };
        if self.settle_whole().is_err() || selector.is_blind() {
            return Doze::Refused;
        }
        let is_woken = selector.watch.wait(deadline.nap(longest.min(LONGEST)));
        if !is_woken && self.has_news() && !selector.watch.wait(GRACE) {
            self.is_deaf.store(true, Relaxed);
        }
        drop(dozing);
        if is_woken { Doze::Woken } else { Doze::Slept }
    }
}

/// A wish of a reader that dozes; the last one takes it back, unless an event loop has it as well.
struct Dozing<'a>(&'a Reader);

impl<'a> Dozing<'a> {
    fn begin(reader: &'a Reader) -> Result<Self> {
        reader.wish(|watchers| watchers.dozing += 1)?;
        Ok(Self(reader))
    }
}

impl Drop for Dozing<'_> {
    fn drop(&mut self) {
        self.0.unwish(|watchers: &mut Watchers| watchers.dozing -= 1);
    }
}
