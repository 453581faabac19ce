//! A source: a ring or an array that is followed, whatever becomes of it.
//!
//! A thread follows it. It is one `latest` reader, however many look on, and takes a frame only when somebody asks for one; so
//! nobody who writes waits for it. What it shows is in the hands of those who look: a published frame, or a copy of an array.
//! When nobody else has the object any more, this process lets it go, too: the name is free then for a successor.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ndshare::arena::Look;
use ndshare::error::Kind;
use ndshare::os::monotonic;
use ndshare::os::thread::give_way;
use ndshare::ring::{Glance, Mode, Process, SeenFrame, Start, Stats};
use ndshare::{Array, Deadline, Error, Reader, Result, Ring};
use serde_json::{Value, json};

use super::bell::{Bell, locked};
use super::place::{Found, Place, SeenRing};
use super::shown::Shown;

/// How long one wait for a frame, or for somebody who wants one, takes.
const NAP: Duration = Duration::from_millis(25);
/// How often is looked whether others have the object still.
const CARE: Duration = Duration::from_millis(25);
/// How often counts are told, and a successor is looked for.
const TELL: Duration = Duration::from_millis(500);
/// How often is looked for what is not there.
const SEARCH: Duration = Duration::from_millis(100);
/// What takes a lock gives up after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// An array is looked at anew so often at the most, and for a share of the time that is one in so many.
const POLL: Duration = Duration::from_millis(40);
const POLL_SHARE: u32 = 20;
/// The same of a ring that is looked at from outside.
const SEEN_SHARE: u32 = 8;
/// Between two looks from outside.
const BRIEFLY: Duration = Duration::from_millis(5);

/// What is followed, and what of it is there now.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    place: Place,
    state: Mutex<State>,
    /// Somebody wants a newer frame.
    wanted: Condvar,
}

#[derive(Debug)]
struct State {
    shown: Option<Arc<Shown>>,
    /// When it was shown.
    since: Instant,
    is_wanted: bool,
    followed: Followed,
    kind: &'static str,
    status: Status,
    counts: Value,
    bells: Vec<Weak<Bell>>,
}

/// Where earlier frames are, if anywhere.
#[derive(Debug)]
enum Followed {
    Nothing,
    Ring(Weak<Ring>),
    /// From outside, with the numbers of the frames that there were when it was looked at.
    Seen(Weak<SeenRing>, Range<u64>),
}

/// How it is with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    /// Nobody has published it yet, or a successor is to come.
    Waiting(String),
    Live,
    Closed,
    /// The last writer died.
    Died(String),
    /// Whoever had it is gone, and there will be no other.
    Gone,
    Failed(String),
}

impl Status {
    fn told(&self) -> (&'static str, &str) {
        match self {
            Self::Waiting(why) => ("waiting", why),
            Self::Live => ("live", ""),
            Self::Closed => ("closed", "the ring was closed"),
            Self::Died(who) => ("died", who),
            Self::Gone => ("gone", "nobody has it any more"),
            Self::Failed(why) => ("failed", why),
        }
    }
}

impl Source {
    /// Follows what is at a place from now on, in a thread of its own.
    pub(super) fn follow(name: String, place: Place) -> std::io::Result<Arc<Self>> {
        let state = State {
            shown: None,
            since: Instant::now(),
            is_wanted: false,
            followed: Followed::Nothing,
            kind: "ring",
            status: Status::Waiting(String::new()),
            counts: Value::Null,
            bells: Vec::new(),
        };
        let source = Arc::new(Self { name, place, state: Mutex::new(state), wanted: Condvar::new() });
        let follower = source.clone();
        thread::Builder::new().name("ndshare-view".to_owned()).spawn(move || follower.run())?;
        Ok(source)
    }

    /// Has `bell` rung whenever there is something new.
    pub(super) fn tell(&self, bell: &Arc<Bell>) {
        let mut state = locked(&self.state);
        state.bells.retain(|bell| bell.strong_count() > 0);
        state.bells.push(Arc::downgrade(bell));
    }

    /// What is shown now.
    pub(super) fn shown(&self) -> Option<Arc<Shown>> {
        locked(&self.state).shown.clone()
    }

    /// Asks for a newer one.
    pub(super) fn want(&self) {
        locked(&self.state).is_wanted = true;
        self.wanted.notify_all();
    }

    /// How it is, and counts.
    pub(super) fn told(&self) -> Value {
        let state = locked(&self.state);
        let (status, why) = state.status.told();
        let counts = &state.counts;
        json!({ "name": self.name, "kind": state.kind, "state": status, "text": why, "counts": counts })
    }

    /// A copy of the frame of `seq`, if the ring still keeps it.
    pub(super) fn kept(&self, seq: u64) -> Result<Option<Shown>> {
        let (ring, seen) = match &locked(&self.state).followed {
            Followed::Nothing => (None, None),
            Followed::Ring(ring) => (ring.upgrade(), None),
            Followed::Seen(ring, _) => (None, ring.upgrade()),
        };
        let frame = match (ring, seen) {
            (Some(ring), _) => {
                let look = Look::at(&ring.head().arena().locator())?;
                SeenFrame::of(&look, ring.head().block(), seq)?
            }
            (None, Some(seen)) => SeenFrame::of(&seen.look, seen.head, seq)?,
            (None, None) => None,
        };
        Ok(frame.map(own))
    }

    /// The numbers of the frames that the ring may still keep.
    pub(super) fn window(&self) -> Option<Range<u64>> {
        let ring = match &locked(&self.state).followed {
            Followed::Nothing => return None,
            Followed::Ring(ring) => ring.upgrade()?,
            Followed::Seen(_, window) => return Some(window.clone()),
        };
        let written = ring.written();
        Some(written.saturating_sub(ring.geometry().slots.into())..written)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = locked(&self.state);
        change(&mut state);
        state.bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }

    fn say(&self, status: Status) {
        if locked(&self.state).status != status {
            self.change(|state| state.status = status);
        }
    }

    fn show(&self, shown: Shown, status: Status) {
        self.change(|state| {
            (state.shown, state.since) = (Some(Arc::new(shown)), Instant::now());
            (state.is_wanted, state.status) = (false, status);
        });
    }

    /// Waits for somebody who wants a frame; whether there is one.
    fn is_wanted(&self, longest: Duration) -> bool {
        let state = locked(&self.state);
        let waited = self.wanted.wait_timeout_while(state, longest, |state| !state.is_wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_wanted
    }

    fn run(&self) {
        give_way();
        // BOUND: the end of the process, or of what a reference names.
        loop {
            match self.place.find() {
                Ok(found) => {
                    self.watch(&found);
                    self.let_go();
                }
                Err(error) if error.kind() == Kind::Timeout => self.say_missing(),
                Err(error) => self.say(Status::Failed(error.to_string())),
            }
            if !self.place.may_have_successor() {
                return;
            }
            thread::sleep(SEARCH);
        }
    }

    /// Nothing is there; what was said of its end stands.
    fn say_missing(&self) {
        if !matches!(&locked(&self.state).status, Status::Waiting(why) if !why.is_empty()) {
            self.say(Status::Waiting(format!("nobody has published {:?} yet", self.name)));
        }
    }

    /// Follows what was found, until it is nobody's any more, or another has its place.
    fn watch(&self, found: &Found) {
        let kind = if matches!(found, Found::Array(_)) { "array" } else { "ring" };
        self.change(|state| (state.kind, state.status, state.is_wanted) = (kind, Status::Live, true));
        let outcome = match found {
            Found::Ring(ring) => self.watch_ring(ring, found),
            Found::Array(array) => self.watch_array(array, found),
            Found::Seen(ring) => self.watch_seen(ring, found),
        };
        match outcome {
            Ok(()) if self.place.may_have_successor() => {
                self.say(Status::Waiting(
                    "whoever had it is gone; a successor of the same name is waited for".to_owned(),
                ));
            }
            Ok(()) => self.say(Status::Gone),
            Err(error) => self.say(Status::Failed(error.to_string())),
        }
    }

    /// Keeps what was shown last, as a copy: nothing of others is held any more.
    fn let_go(&self) {
        let last = self.shown().and_then(|shown| shown.still().ok());
        self.change(|state| {
            (state.shown, state.followed, state.counts) = (last.map(Arc::new), Followed::Nothing, Value::Null);
        });
    }

    fn watch_ring(&self, ring: &Arc<Ring>, found: &Found) -> Result<()> {
        let reader = ring.reader(Mode::Latest, Start::Oldest, &Deadline::after(PATIENCE))?;
        locked(&self.state).followed = Followed::Ring(Arc::downgrade(ring));
        let mut care = Care::new(self, found);
        let mut counts = Counts::new(ring.written());
        // BOUND: the ring is nobody's any more, another has its place, or it cannot be read.
        loop {
            if self.is_wanted(NAP) {
                self.take(&reader)?;
            }
            if care.is_over() {
                return Ok(());
            }
            self.keep_no_frame();
            if counts.are_due() {
                match ring.stats(&Deadline::after(PATIENCE)) {
                    Ok(stats) => {
                        let told = counts.told(&stats, self.shown().map_or(0, |shown| shown.len_bytes()));
                        self.change(|state| state.counts = told);
                    }
                    Err(error) if error.kind() == Kind::Timeout => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// A ring in a file, from outside: nobody there knows of it, so it is looked at now and then.
    fn watch_seen(&self, ring: &Arc<SeenRing>, found: &Found) -> Result<()> {
        let mut care = Care::new(self, found);
        let (mut counts, mut last, mut due) = (Counts::new(0), None, Instant::now());
        // BOUND: as in `watch_ring`.
        while !care.is_over() {
            let is_due = self.is_wanted(NAP) && Instant::now() >= due;
            ring.look.check_len()?;
            let glance = Glance::of(&ring.look, ring.head)?;
            let status = self.follow_seen(ring, &glance, &mut counts);
            let newest = glance.stats.written.checked_sub(1).filter(|newest| is_due && last != Some(*newest));
            let begun = Instant::now();
            // None: it was written over meanwhile.
            match newest.map(|seq| SeenFrame::of(&ring.look, ring.head, seq)).transpose()?.flatten() {
                Some(frame) => {
                    last = Some(frame.seq);
                    self.show(own(frame), status);
                    due = begun + POLL.max(begun.elapsed() * SEEN_SHARE);
                }
                None => thread::sleep(BRIEFLY),
            }
        }
        Ok(())
    }

    /// How it is with a ring that is looked at, and what it counts.
    fn follow_seen(&self, ring: &Arc<SeenRing>, glance: &Glance, counts: &mut Counts) -> Status {
        let Glance { stats, sizes, .. } = glance;
        let window = stats.written.saturating_sub(sizes.slots.into())..stats.written;
        locked(&self.state).followed = Followed::Seen(Arc::downgrade(ring), window);
        let status = match stats.closed {
            true => Status::Closed,
            false if ring.look.has_anybody() => Status::Live,
            false => Status::Waiting("nobody has the arena; what the ring keeps is shown".to_owned()),
        };
        self.say(status.clone());
        if counts.are_due() {
            let told = counts.told(stats, glance.frame_bytes);
            self.change(|state| state.counts = told);
        }
        status
    }

    /// A frame that nobody has asked for a while to be followed by another is kept as a copy: its memory is the ring's.
    fn keep_no_frame(&self) {
        let mut state = locked(&self.state);
        let old = state.shown.as_ref().filter(|shown| shown.is_shared() && state.since.elapsed() > PATIENCE);
        if let Some(copy) = old.and_then(|shown| shown.copied().ok()) {
            state.shown = Some(Arc::new(copy));
        }
    }

    /// Shows the newest frame, if there is one soon.
    fn take(&self, reader: &Reader) -> Result<()> {
        match reader.get(&Deadline::after(NAP)) {
            // What cannot be shown may be followed by what can.
            Ok(frame) => match frame.array() {
                Ok(array) => self.show(Shown::shared(frame.seq, frame.published_ns, array), Status::Live),
                Err(error) => self.say(Status::Failed(error.to_string())),
            },
            Err(Error::WriterDied(death)) => {
                let who = death.pid.map_or(String::new(), |pid| format!(", process {pid},"));
                self.say(Status::Died(format!(
                    "the last writer{who} died without closing the ring; another one is waited for"
                )));
            }
            Err(error) if error.kind() == Kind::Empty => {}
            Err(error) if error.kind() == Kind::Closed => {
                self.say(Status::Closed);
                thread::sleep(NAP);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn watch_array(&self, array: &Array, found: &Found) -> Result<()> {
        let mut care = Care::new(self, found);
        let (mut last, mut changes, mut due) = (None, 0, Instant::now());
        // BOUND: as in `watch_ring`.
        while !care.is_over() {
            if !self.is_wanted(NAP) || Instant::now() < due {
                thread::sleep(due.saturating_duration_since(Instant::now()).min(NAP));
                continue;
            }
            let begun = Instant::now();
            // Of the array itself, not of a copy: it may be larger than the memory that is left.
            let shown = Shown::shared(changes, monotonic().as_nanos() as u64, array.clone());
            let print = Some(shown.fingerprint()?);
            if print != last {
                last = print;
                self.show(shown, Status::Live);
                changes += 1;
            }
            due = begun + POLL.max(begun.elapsed() * POLL_SHARE);
        }
        Ok(())
    }
}

/// A frame that was read from outside.
fn own(SeenFrame { seq, published_ns, shape, element, bytes, .. }: SeenFrame) -> Shown {
    Shown::own(seq, published_ns, shape, element, bytes)
}

/// Looks now and then whether what is followed is still worth it.
struct Care<'a> {
    source: &'a Source,
    found: &'a Found,
    looked: Instant,
    searched: Instant,
}

impl<'a> Care<'a> {
    fn new(source: &'a Source, found: &'a Found) -> Self {
        Self { source, found, looked: Instant::now(), searched: Instant::now() }
    }

    fn is_over(&mut self) -> bool {
        if is_due(&mut self.looked, CARE) && !self.found.is_kept_by_others() {
            return true;
        }
        is_due(&mut self.searched, TELL) && self.source.place.has_other(self.found)
    }
}

/// Whether so much time is over; it begins anew then.
fn is_due(since: &mut Instant, after: Duration) -> bool {
    let is_due = since.elapsed() >= after;
    if is_due {
        *since = Instant::now();
    }
    is_due
}

/// What a ring counts, told now and then, with rates.
struct Counts {
    written: u64,
    at: Instant,
    is_first: bool,
}

impl Counts {
    fn new(written: u64) -> Self {
        Self { written, at: Instant::now(), is_first: true }
    }

    fn are_due(&self) -> bool {
        self.is_first || self.at.elapsed() >= TELL
    }

    fn told(&mut self, stats: &Stats, frame_bytes: u64) -> Value {
        let elapsed = self.at.elapsed();
        let per_s = stats.written.saturating_sub(self.written) as f64 / elapsed.as_secs_f64().max(1e-3);
        let per_s = (!self.is_first).then_some(per_s);
        (self.written, self.at, self.is_first) = (stats.written, Instant::now(), false);
        let process = |user: &Option<Process>| user.as_ref().map(|one| json!({ "pid": one.pid, "name": one.name }));
        let readers = stats.readers.iter().map(|one| {
            json!({
                "process": process(&one.user),
                "mode": one.mode.name(),
                "lag": one.lag,
                "missed": one.missed,
                "is_me": one.user.as_ref().is_some_and(|user| user.pid == std::process::id()),
            })
        });
        let writers = stats.writers.iter().map(|one| json!({ "process": process(&one.user), "written": one.written }));
        json!({
            "frames_per_s": per_s,
            "bytes_per_s": per_s.map(|per_s| per_s * frame_bytes as f64),
            "written": stats.written,
            "dropped": stats.dropped,
            "missed": stats.missed,
            "lost": stats.lost,
            "readers": readers.collect::<Vec<_>>(),
            "writers": writers.collect::<Vec<_>>(),
        })
    }
}
