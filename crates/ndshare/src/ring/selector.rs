//! What selectors wait on for a reader: one epoll set, with a pipe for news and the processes whose death somebody must
//! notice. Nothing of ours runs meanwhile. Where a process can't be watched (a kernel or a rule without pidfds, no
//! descriptor left, another pid namespace) a timer takes its place; then the descriptor is readable for nothing four
//! times a second.

use super::notify::Wish;
use crate::os::pipe::Pipe;
use crate::os::watch::{Ending, Ticks, Watch};
use crate::prim::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a process is looked at that can't be watched.
const TICK: Duration = Duration::from_millis(250);

/// Who waits on a reader's selector in this process.
#[derive(Debug)]
pub(super) struct Watchers {
    /// An event loop, which was given the descriptor and may have it for ever.
    pub has_loop: bool,
    /// Threads that doze.
    pub dozing: u32,
    /// The wish that was taken back last.
    pub last: Wish,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { has_loop: false, dozing: 0, last: Wish(0) }
    }
}

/// What selectors wait on.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) pipe: Pipe,
    /// For processes that can't be watched; made beforehand, because descriptors may be what is missing then.
    ticks: Ticks,
    pub(super) watch: Watch,
    is_blind: AtomicBool,
    watched: Mutex<Watched>,
}

/// The processes that were there at the last look, at most as many as a ring has writers and readers.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub known: Vec<u64>,
    /// Those of them that the kernel tells of.
    endings: Vec<(u64, Ending)>,
}

impl Selector {
    pub(super) fn new() -> Option<Self> {
        let pipe = Pipe::new()?;
        let ticks = Ticks::new()?;
        let watch = Watch::new(&pipe, &ticks)?;
        Some(Self { pipe, ticks, watch, is_blind: AtomicBool::new(false), watched: Mutex::default() })
    }

    /// Whether there is somebody whose death the kernel does not tell of.
    pub(super) fn is_blind(&self) -> bool {
        // RAW: a word of this process alone.
        self.is_blind.load(SeqCst)
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        // No Python and no wait for a shared lock happens under it.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches these processes and no others. `ending` gives the end of one, if this process can tell who it is.
    /// `is_blind`: there is somebody else whose death the kernel does not tell of.
    pub(super) fn rewatch(&self, wanted: &[u64], mut is_blind: bool, ending: &dyn Fn(u64) -> Option<Ending>) {
        let mut watched = self.watched();
        let (keep, go): (Vec<_>, Vec<_>) = std::mem::take(&mut watched.endings)
            .into_iter()
            .partition(|(identity, ending)| wanted.contains(identity) && !ending.has_ended());
        go.iter().for_each(|(_, ending)| self.watch.remove_ending(ending));
        watched.endings = keep;
        for &identity in wanted {
            if watched.endings.iter().any(|(known, _)| *known == identity) {
                continue;
            }
            // One that has ended by now and is still taken for alive is about to go: the timer sees to it.
            let ending = ending(identity).filter(|ending| !ending.has_ended());
            match ending.filter(|ending| self.watch.add_ending(ending)) {
                Some(ending) => watched.endings.push((identity, ending)),
                None => is_blind = true,
            }
        }
        self.is_blind.store(is_blind, SeqCst);
        self.ticks.set(if is_blind { TICK } else { Duration::ZERO });
        watched.known = wanted.to_vec();
    }
}
