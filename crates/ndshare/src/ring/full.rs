//! What a writer does while there is no room: it waits for the slowest reader, or for another writer to end what it fills.
//! The error at its timeout names who is behind.

use super::notify::go_on;
use super::policy::Mode;
use super::protocol::BUSY;
use super::state::Ring;
use super::stats::{ReaderStats, Who};
use super::table::{EVENT, SPACE};
use crate::arena::{BlockId, Deadline, is_worth_a_look};
use crate::error::{Behind, Error, Full, Process, Result, Timeout};
use crate::prim::Ordering::SeqCst;
use std::time::Duration;

/// How many readers that are behind an error names.
const NAMED: usize = 3;
/// At how many frames an error looks for those who fill them.
const LOOKED_AT: usize = 64;
const NAP: Duration = Duration::from_millis(20);
/// Nobody announces a frame that was thrown away.
const SHORT_NAP: Duration = Duration::from_millis(2);

impl Ring {
    pub(super) fn wait_for_space(&self, deadline: &Deadline) -> Result<()> {
        self.prune(deadline).map_err(as_full)?;
        self.ask_members();
        let ready = || !self.is_full(self.least_cursor()) || self.is_closed();
        self.sleep(SPACE, ready, deadline, NAP)?;
        go_on(deadline, |waited| {
            let readers = self.readers_behind();
            let message = format!(
                "the ring is full: expected a free slot before the timeout, but {}; read faster, close readers that \
                 nobody reads, or make the ring with a policy that drops frames (drop_oldest, drop_newest)",
                who_is_behind(&readers)
            );
            let behind =
                readers.into_iter().map(|reader| Behind { process: reader.user.map(Process::from), lag: reader.lag });
            Full { waited, behind: behind.collect(), ..Full::saying(message) }.into()
        })
    }

    /// The readers that keep the window full.
    fn readers_behind(&self) -> Vec<ReaderStats> {
        let (written, slots) = (self.written(), u64::from(self.table.geometry.slots));
        let readers = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        self.with_who(|who| {
            // Nobody is swept for the sake of an error.
            let who = Who { is_alive: &|_| Ok(true), ..*who };
            let readers = readers.filter_map(|index| self.table.reader_stats(index, written, &who).ok());
            readers.filter(|reader| reader.mode != Mode::Latest && reader.lag >= slots).collect()
        })
    }

    /// Waits a little for another writer to publish what it fills, or to throw it away.
    pub(super) fn wait_for_idle(&self, deadline: &Deadline) -> Result<()> {
        self.sleep(EVENT, || false, deadline, SHORT_NAP)?;
        go_on(deadline, |waited| {
            let message = "every frame of the ring is being filled: expected an idle one before the timeout; publish or \
                           drop those that were begun";
            let full: Error = Full { waited, ..Full::saying(message) }.into();
            if is_worth_a_look(waited) { full.said_of("They are filled", self.who_fills()) } else { full }
        })
    }

    /// The processes that fill frames; at most a few.
    fn who_fills(&self) -> Vec<Process> {
        let frames = (0..self.table.geometry.frames).map(|frame| self.table.frame(frame));
        // RAW: only compared.
        let filled = frames.filter(|words| words.last.load(SeqCst) == BUSY);
        // RAW: names, which are looked up.
        let blocks = filled.filter_map(|words| BlockId::from_word(words.block.load(SeqCst))).take(LOOKED_AT);
        let mut those: Vec<Process> = Vec::new();
        for process in blocks.flat_map(|block| self.arena().glimpse_holders(block)) {
            if those.len() < NAMED && !those.contains(&process) {
                those.push(process);
            }
        }
        those
    }
}

/// The readers that keep the window full, in words.
fn who_is_behind(readers: &[ReaderStats]) -> String {
    let behind: Vec<String> = readers.iter().map(ToString::to_string).collect();
    match behind.len() {
        0 => "the readers that were behind have just gone on".to_owned(),
        count @ 1..=NAMED => format!("behind {} {}", if count == 1 { "is" } else { "are" }, behind.join(", ")),
        count => format!("behind are {} and {} more", behind[..NAMED].join(", "), count - NAMED),
    }
}

/// A writer's timeout is `Full` whatever it waited for; the text says what that was, and who has it.
pub(super) fn as_full(error: Error) -> Error {
    match error {
        Error::Timeout(timeout) => {
            let Timeout { waited, on, message, .. } = *timeout;
            Full { waited, on, message, behind: Vec::new() }.into()
        }
        other => other,
    }
}
