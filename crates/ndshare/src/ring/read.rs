//! The reading side. A reader takes no lock: it reads an entry whole, and takes a hold on the block of the generation
//! that the entry names. A writer makes a new generation of a block before it fills it, so a hold is on the frame that
//! was published, and nobody writes that any more.

use super::protocol::{self, is_done};
use super::selector::Selector;
use super::table::{
    DEATHS, EVENT, EntryWords, GROUPS, GROUPS_IN_USE, NAME_BYTES, READERS, READERS_IN_USE, SPACE, VIEW_BYTES,
    WRITERS_LOST,
};
use super::{MOST_WRITTEN, Ring, on_timeout};
use crate::arena::{BlockId, Hold, Patience};
use crate::array::{Array, Description};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, SeqCst},
    Unchecked, fetch_to_write, load_bytes, read, store_bytes,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long an idle reader sleeps before it looks anew: a writer may have died before it could wake anybody, and a
/// signal may have come just before the sleep. Short of 0.1 s, which is as long as a death may hold anybody up.
const NAP: Duration = Duration::from_millis(80);
/// As long, in a group: a frame of a member that died wants another one, which takes a sweep as well.
const GROUP_NAP: Duration = Duration::from_millis(50);
/// How often it looks whether the writers live, which takes system calls.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// After a wait shorter than so many spins, the next spin is so many times as long.
const KEEN: u32 = 5;
/// So many looks at one entry that never settles mean that the head was scribbled on.
const PATIENT_LOOKS: u32 = 1_000_000;

/// Which frames a reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every one.
    Every,
    /// The newest only; it holds nobody back.
    Latest,
    /// Each goes to one of the group's readers, and to another if that one dies holding it.
    Group(usize),
}

impl Mode {
    fn pack(self) -> u64 {
        match self {
            Mode::Every => 0,
            Mode::Latest => 1,
            Mode::Group(group) => 2 + group as u64,
        }
    }

    pub(super) fn unpack(bits: u64) -> Self {
        match bits {
            0 => Mode::Every,
            1 => Mode::Latest,
            group => Mode::Group((group - 2) as usize % GROUPS),
        }
    }
}

/// From where a reader counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The next frame that is published.
    Next,
    /// The oldest that is still whole.
    Oldest,
}

/// One reader of a ring. It lives as long as its token.
#[derive(Debug)]
pub struct Reader {
    pub(super) ring: Arc<Ring>,
    pub(super) index: usize,
    incarnation: u64,
    mode: Mode,
    token: Option<Hold>,
    /// Deaths of writers that this reader has been told of.
    told: AtomicU64,
    /// The same, of made ones.
    told_of_made: AtomicU64,
    /// Whether the last wait was a short one.
    keen: AtomicBool,
    /// What selectors wait on, once somebody asked for it.
    pub(super) selector: OnceLock<Selector>,
    /// Whether it is to end: other threads may still wait in it.
    is_closing: AtomicBool,
}

/// A published frame. Its bytes never change while it lives.
#[derive(Debug)]
pub struct Frame {
    hold: Option<Hold>,
    /// Its number.
    pub seq: u64,
    /// When it was published, on the monotonic clock.
    pub time_ns: u64,
    /// Where in the block the first item is.
    pub offset: u64,
    said: Said,
    ring: Arc<Ring>,
    reader: usize,
    incarnation: u64,
    /// The process that got it. A forked child has a copy, whose end says nothing.
    user: u64,
    /// The group, and the claim to be ended with this frame.
    claim: Option<(usize, u64)>,
}

/// How long a wait for a frame lasts by now.
struct Wait {
    since: Duration,
    /// When it was last looked whether the writers live.
    looked: Option<Duration>,
}

impl Wait {
    fn begin() -> Self {
        Self { since: monotonic(), looked: None }
    }
}

/// View and meta of a frame; none when both are empty, as for most.
type Said = Option<Box<(Vec<u8>, Vec<u8>)>>;

/// What an entry says, read whole.
struct Snapshot {
    block: u64,
    time_ns: u64,
    offset: u64,
    said: Said,
}

impl Ring {
    /// A new reader.
    ///
    /// # Errors
    /// `Misuse` when all places are taken; `ArenaFull`; what `patience` says.
    pub fn reader(self: &Arc<Self>, mode: Mode, start: Start, patience: &Patience) -> Result<Reader> {
        let token = self.arena().alloc(1, 64, false, patience)?;
        self.prune(patience)?;
        let index = self.locked(patience, || self.enter_reader(mode, start, &token))?;
        Reader::open(self.clone(), index, token)
    }

    /// The number of the group called `name`, which is made if there is none.
    ///
    /// # Errors
    /// `Misuse` when there are [`GROUPS`] others; what `patience` says.
    pub fn group(&self, name: &str, patience: &Patience) -> Result<usize> {
        let wanted = name_hash(name);
        self.locked(patience, || {
            let names = || (0..GROUPS).map(|index| self.table.group(index).name);
            let found = names().position(|name| name.load(SeqCst) == wanted);
            let found = found.or_else(|| names().position(|name| name.load(SeqCst) == 0));
            let index = found.ok_or_else(|| Error::new(Kind::Misuse, format!("expected at most {GROUPS} groups")))?;
            self.name_group(index, name, wanted);
            Ok(index)
        })
    }

    fn name_group(&self, index: usize, name: &str, hash: u64) {
        let words = self.table.group(index);
        if words.name.load(SeqCst) == 0 {
            let cut = (0..=NAME_BYTES.min(name.len())).rev().find(|&len| name.is_char_boundary(len)).unwrap_or(0);
            words.text.iter().for_each(|word| word.store(0, Relaxed));
            store_bytes(words.text, &name.as_bytes()[..cut]);
            words.name.store(hash, SeqCst);
            point(Point::RingNamed);
        }
    }

    /// The name of a group, cut to what fits.
    pub(super) fn group_name(&self, index: usize) -> String {
        let bytes = load_bytes(self.table.group(index).text, NAME_BYTES);
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    fn enter_reader(&self, mode: Mode, start: Start, token: &Hold) -> Result<usize> {
        let free = (0..READERS).find(|&index| !self.is_reader_live(index));
        let index = free.ok_or_else(|| {
            Error::new(Kind::Misuse, format!("expected at most {READERS} readers at a time, got one more"))
        })?;
        let from = if start == Start::Next { self.written() } else { self.oldest_whole() };
        if let Mode::Group(group) = mode {
            self.found_group(group, from);
        }
        let words = self.table.reader(index);
        words.kind.store(mode.pack(), SeqCst);
        words.cursor.store(from, SeqCst);
        // RAW: only taken from a later count, and told.
        words.missed_before.store(words.missed.load(SeqCst), SeqCst);
        [words.user, words.held, words.pipe].iter().for_each(|word| word.store(0, SeqCst));
        words.incarnation.fetch_add(1, SeqCst);
        words.token.store(token.block().to_word(), SeqCst);
        self.table.word(READERS_IN_USE).fetch_or(1 << index, SeqCst);
        point(Point::RingJoined);
        Ok(index)
    }

    /// The first member of a group says where it begins. Later ones go on where it is, also when it was empty for a
    /// while: what fell out of the window since is counted as missed by then.
    fn found_group(&self, group: usize, from: u64) {
        let bit = 1 << group;
        if self.table.word(GROUPS_IN_USE).load(SeqCst) & bit == 0 {
            self.table.group(group).cursor.store(from, SeqCst);
            self.table.word(GROUPS_IN_USE).fetch_or(bit, SeqCst);
        } else {
            // Where there were too few frames for the whole window, some of it may have been written over.
            let lost = self.pass_over(group, self.oldest_whole());
            self.table.group(group).missed.fetch_add(lost, SeqCst);
        }
    }

    /// The least number from which on every entry and its frame are still there.
    fn oldest_whole(&self) -> u64 {
        let head = self.written();
        let window = head.saturating_sub(u64::from(self.table.geometry.slots))..head;
        let whole = |&seq: &u64| {
            let entry = self.table.entry(seq);
            let its = |frame: u32| self.table.frame(frame).last.load(SeqCst) == seq;
            self.table.frame_index(&entry).is_some_and(its) && entry.seq.load(SeqCst) == seq
        };
        head - window.rev().take_while(whole).count() as u64
    }
}

impl Reader {
    /// The reader at a place of a ring, whose token this process holds.
    ///
    /// # Errors
    /// `Stale` when the place has another reader by now.
    pub fn open(ring: Arc<Ring>, index: usize, token: Hold) -> Result<Self> {
        if index >= READERS || ring.table.reader(index).token.load(SeqCst) != token.block().to_word() {
            return Err(Error::new(
                Kind::Stale,
                "expected a reader of this ring, got one that is gone: make a new one",
            ));
        }
        let words = ring.table.reader(index);
        // RAW: a kind that is matched whatever it is, and numbers that are only compared.
        let (mode, incarnation) = (Mode::unpack(words.kind.load(SeqCst)), words.incarnation.load(SeqCst));
        // RAW: only compared with what they are later.
        let [told, told_of_made] =
            [DEATHS, WRITERS_LOST].map(|index| AtomicU64::new(ring.table.word(index).load(SeqCst)));
        let (keen, selector, is_closing) = (AtomicBool::new(false), OnceLock::new(), AtomicBool::new(false));
        Ok(Self { ring, index, incarnation, mode, token: Some(token), told, told_of_made, keen, selector, is_closing })
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Its place among the ring's readers, by which another process opens it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The block that keeps it.
    pub fn token(&self) -> &Hold {
        self.token.as_ref().expect("a reader has its token until it is dropped")
    }

    /// Which frames it gets.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How many published frames it has not taken yet.
    pub fn lag(&self) -> u64 {
        self.ring.books_of(self.index, self.ring.written()).0
    }

    /// How many frames it never got, because it was lapped; of a group, what none of its members got.
    pub fn missed(&self) -> u64 {
        self.ring.books_of(self.index, self.ring.written()).1
    }

    pub(super) fn words(&self) -> super::table::ReaderWords<'_> {
        self.ring.table.reader(self.index)
    }

    /// Whether some process has used it.
    pub fn is_used(&self) -> bool {
        self.words().user.load(SeqCst) != 0
    }

    /// Makes it this process's, if nobody has used it before.
    #[inline]
    pub(super) fn own(&self) -> Result<()> {
        let me = self.ring.arena().identity()?;
        let words = self.words();
        self.check_open()?;
        if words.token.load(Relaxed) != self.token().block().to_word() {
            return Err(was_closed());
        }
        if words.user.load(Relaxed) == me {
            return Ok(());
        }
        match words.user.compare_exchange(0, me, SeqCst, SeqCst) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                Kind::Misuse,
                "the reader belongs to another process, which used it first: make one for each process",
            )),
        }
    }

    /// The next frame, once there is one.
    ///
    /// # Errors
    /// `Empty` at the timeout; `Closed` when the ring was closed and is drained; `WriterDied`, once, when the last
    /// writer died; `Misuse` when another process uses this reader.
    pub fn get(&self, patience: &Patience) -> Result<Frame> {
        self.own()?;
        let mut found = self.look_and_settle()?;
        let mut wait = None;
        // BOUND: the caller's patience, asked in each sleep; news that were none are another's who got the frame, or an
        // error.
        loop {
            if let Some(frame) = found {
                return Ok(frame);
            }
            if self.is_over() && !self.is_ready() {
                return Err(self.end(patience)?);
            }
            // Once in a wait: a nap that ended without news was a long one, and is followed by the next.
            if wait.is_none() && self.spin(patience) {
                self.keen.store(true, Relaxed);
            } else {
                self.sleep(wait.get_or_insert_with(Wait::begin), patience)?;
            }
            found = self.look_and_settle()?;
            if found.is_none() && wait.is_none() {
                self.check_place()?;
            }
        }
    }

    /// What a reader gets who has read everything.
    fn end(&self, patience: &Patience) -> Result<Error> {
        if let Mode::Group(group) = self.mode {
            self.end_claims(group)?;
        }
        self.check_place()?;
        self.ring.settle_writers(patience)?;
        // RAW: only compared with what it was.
        let lost = self.ring.table.word(WRITERS_LOST).load(SeqCst);
        if self.told_of_made.swap(lost, SeqCst) != lost {
            return Ok(Error::new(
                Kind::WriterDied,
                "the stream has ended, and one of its writers died without closing: frames of it may be missing; call \
                 get again for the end",
            ));
        }
        Ok(Error::new(Kind::Closed, "the ring was closed, and every frame of it was read"))
    }

    /// One nap of a wait, and now and then a look at whether the writers live.
    fn sleep(&self, wait: &mut Wait, patience: &Patience) -> Result<()> {
        self.check_place()?;
        let (nap, look_every) = match self.mode {
            Mode::Group(group) => {
                self.end_claims(group)?;
                (GROUP_NAP, Duration::ZERO)
            }
            Mode::Every | Mode::Latest => (NAP, LOOK_EVERY),
        };
        self.ring.sleep(EVENT, || self.has_news() || self.check_open().is_err(), patience, nap)?;
        self.check_open()?;
        let now = monotonic();
        self.keen.store(now - wait.since < self.ring.spin_time().saturating_mul(KEEN), Relaxed);
        if self.has_news() {
            return Ok(());
        }
        let text = || {
            let writers = self.ring.writer_counts();
            format!("no frame came: expected one before the timeout, but {writers}; wait longer, or see what they do")
        };
        let outcome = patience.go_on("the ring").map_err(|error| on_timeout(error, Kind::Empty, text));
        // Also at the end of the wait, so that a timeout never hides a death.
        let is_over = outcome.as_ref().is_err_and(|error| error.kind() == Kind::Empty);
        if is_over || wait.looked.is_none_or(|looked| now - looked >= look_every) {
            wait.looked = Some(now);
            let told = match self.check_writers(patience) {
                // What it waited for is the lock; the frame is what the caller asked for.
                Err(error) if error.kind() == Kind::Timeout => Ok(()),
                looked => looked,
            };
            self.settle_whole()?;
            told?;
        }
        outcome
    }

    /// The next frame, if there is one now or very soon: within `longest`, or the ring's spin if that is less.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_soon(&self, longest: Duration) -> Result<Option<Frame>> {
        self.own()?;
        let found = self.look_and_settle()?;
        if found.is_some() {
            return Ok(found);
        }
        if !self.spin_for(longest.min(self.ring.spin_time())) {
            return self.check_place().map(|()| None);
        }
        self.look_and_settle()
    }

    /// The next frame, if there is one now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn try_get(&self) -> Result<Option<Frame>> {
        self.own()?;
        let found = self.look_and_settle()?;
        if found.is_none() {
            self.check_place()?;
        }
        Ok(found)
    }

    #[inline]
    fn look_and_settle(&self) -> Result<Option<Frame>> {
        let found = self.look();
        if self.selector.get().is_some() {
            self.settle_pipe();
        }
        found
    }

    fn look(&self) -> Result<Option<Frame>> {
        match self.mode {
            Mode::Every => self.look_for_next(),
            Mode::Latest => self.look_for_newest(),
            Mode::Group(group) => self.look_for_unclaimed(group),
        }
    }

    /// Whether a look would find something.
    pub fn is_ready(&self) -> bool {
        match self.mode {
            Mode::Every | Mode::Latest => self.words().cursor.load(SeqCst) < self.ring.written(),
            Mode::Group(group) => self.unclaimed(group).is_some(),
        }
    }

    /// Ends with an error where the place in the stream that this reader has, or its group, is one to which the stream
    /// has not come, or one whose entry says that it is another's: it would wait for ever, or skip what it never saw.
    /// Asked whenever a look finds nothing and there is time: the head is in a line that the next publication needs.
    pub(super) fn check_place(&self) -> Result<()> {
        let cursor = match self.mode {
            Mode::Every | Mode::Latest => self.words().cursor,
            Mode::Group(group) => self.ring.table.group(group).cursor,
        };
        // The cursor first: the head only goes on. A frame can be taken before the head counts it, one at the most.
        let (seen, head) = (read(cursor, SeqCst), self.ring.written());
        let place = seen.at_most(head + 1).ok_or_else(|| self.never_settles())?;
        // The cursor again, last of all: before an entry is written anew, those who still want it are moved on.
        let is_lost = self.mode != Mode::Latest
            && place < head
            && self.ring.table.entry(place).seq.load(SeqCst) != place
            && read(cursor, SeqCst).is(place);
        if is_lost { Err(self.never_settles()) } else { Ok(()) }
    }

    /// Whether the frame of `seq` is in its entry. It counts as published from then on.
    #[inline]
    fn is_there(&self, seq: u64) -> bool {
        self.ring.table.entry(seq).seq.load(Acquire) == seq
    }

    /// Whether nothing was published under `seq` yet. The head is in a line that the next publication needs: it is asked
    /// only when the entry of `seq` does not say that it still has an older number.
    #[inline]
    fn is_to_come(&self, seq: u64) -> bool {
        // RAW: only compared.
        let number = self.ring.table.entry(seq).seq.load(Acquire);
        number != seq && (number < seq || seq >= self.ring.written())
    }

    /// As [`Self::has_news`], by the words that a look needs anyway. Not to fall asleep by.
    #[inline]
    fn has_news_soon(&self) -> bool {
        match self.mode {
            // RAW: a mask makes the number an index, and all of it is compared.
            Mode::Every => self.is_there(self.words().cursor.load(Acquire)) || self.ring.is_closed(),
            Mode::Latest | Mode::Group(_) => self.has_news(),
        }
    }

    /// Whether there is something to get, be it the end.
    pub(super) fn has_news(&self) -> bool {
        self.is_ready() || self.is_over()
    }

    /// Whether no frame comes any more. In a group one does if the process dies that has it.
    fn is_over(&self) -> bool {
        self.ring.is_closed()
            && match self.mode {
                Mode::Every | Mode::Latest => true,
                Mode::Group(group) => !self.others_have_some(group),
            }
    }

    /// Whether another process has a frame of the group, and is not done with it.
    fn others_have_some(&self, group: usize) -> bool {
        // RAW: a name, which is compared.
        let (ring, me) = (&self.ring, self.words().user.load(SeqCst));
        ring.open_frames(group).any(|seq| {
            // RAW: the place in it is checked, and the rest compared.
            let claim = ring.table.entry(seq).claims[group].load(SeqCst);
            let place = claimant(claim).filter(|_| !is_done(claim));
            place.is_some_and(|index| ring.table.reader(index).user.load(SeqCst) != me)
        })
    }

    fn look_for_next(&self) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        for _ in 0..PATIENT_LOOKS {
            // What no frame was ever published under: nothing would come, or an entry that is just being written.
            let Some(seq) = read(cursor, SeqCst).at_most(MOST_WRITTEN) else { break };
            if self.is_to_come(seq) {
                return Ok(None);
            }
            // A writer that drops the oldest moves the cursor; then this look begins again.
            if let Some((hold, snapshot)) = self.take(seq)?
                && protocol::advance(cursor, seq)
            {
                point(Point::RingTaken);
                self.ring.announce_if_awaited(SPACE)?;
                return Ok(Some(self.frame(seq, hold, snapshot, None)));
            }
            std::hint::spin_loop();
        }
        Err(self.never_settles())
    }

    fn look_for_newest(&self) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        for _ in 0..PATIENT_LOOKS {
            let head = self.ring.written();
            if cursor.load(SeqCst) >= head {
                return Ok(None);
            }
            if let Some((hold, snapshot)) = self.take(head - 1)? {
                cursor.store(head, SeqCst);
                point(Point::RingTaken);
                return Ok(Some(self.frame(head - 1, hold, snapshot, None)));
            }
            std::hint::spin_loop();
        }
        Err(self.never_settles())
    }

    fn look_for_unclaimed(&self, group: usize) -> Result<Option<Frame>> {
        for _ in 0..PATIENT_LOOKS {
            let Some((seq, seen)) = self.unclaimed(group) else { return Ok(None) };
            let claim = self.claim(seq);
            let word = &self.ring.table.entry(seq).claims[group];
            if !protocol::claim(word, seen, claim) {
                continue;
            }
            point(Point::RingClaimed);
            match self.take(seq)? {
                Some((hold, snapshot)) => return Ok(Some(self.frame(seq, hold, snapshot, Some((group, claim))))),
                // Lapped in between; the entry has another number by now, and its claims are new.
                None => {
                    protocol::claim(word, claim, seen);
                }
            }
        }
        Err(self.never_settles())
    }

    /// The first frame of a group that nobody alive has, and what its claim says.
    fn unclaimed(&self, group: usize) -> Option<(u64, u64)> {
        let ring = &self.ring;
        ring.open_frames(group).find_map(|seq| {
            let entry = ring.table.entry(seq);
            // RAW: the place in it is checked, and the rest compared.
            let claim = entry.claims[group].load(SeqCst);
            let free =
                entry.seq.load(SeqCst) == seq && (claim == 0 || !is_done(claim) && !self.is_claimant_alive(claim));
            free.then_some((seq, claim))
        })
    }

    /// {the number's low half: 32, incarnation: 24, place + 1: 8}.
    fn claim(&self, seq: u64) -> u64 {
        seq << 32 | (self.incarnation & 0xff_ffff) << 8 | (self.index as u64 + 1)
    }

    /// Counts as done what this reader got before and still holds. It waits for the next frame, as a loop does whose
    /// variable still has the last one; were that not done, the writers might wait for it for ever.
    fn end_claims(&self, group: usize) -> Result<()> {
        let ring = &self.ring;
        for seq in ring.open_frames(group) {
            let claim = self.claim(seq);
            if ring.table.entry(seq).claims[group].load(SeqCst) == claim {
                ring.end_claim(seq, group, claim);
            }
        }
        ring.announce_if_awaited(SPACE)
    }

    fn is_claimant_alive(&self, claim: u64) -> bool {
        claim == self.claim(claim >> 32) || self.ring.is_claimant_alive(claim)
    }

    /// A hold on the frame of `seq` and what its entry says; none when the entry is another's by now.
    fn take(&self, seq: u64) -> Result<Option<(Hold, Snapshot)>> {
        let entry = self.ring.table.entry(seq);
        let Some(snapshot) = self.snapshot(&entry, seq) else { return Ok(None) };
        let Some(block) = BlockId::from_word(snapshot.block) else { return Ok(None) };
        match self.ring.arena().take(block) {
            Ok(hold) => Ok(Some((hold, snapshot))),
            Err(error) if error.kind() == Kind::Stale => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn snapshot(&self, entry: &EntryWords<'_>, seq: u64) -> Option<Snapshot> {
        protocol::read_entry(entry.seq, seq, || Snapshot {
            // RAW: a name, which is looked up; a time, which is told; an offset, which is checked against the block when
            // an array is made of it.
            block: entry.block.load(Relaxed),
            time_ns: entry.time_ns.load(Relaxed),
            offset: entry.offset.load(Relaxed),
            said: said(entry, self.ring.table.geometry.meta_bytes as usize),
        })
    }

    fn frame(&self, seq: u64, hold: Hold, from: Snapshot, claim: Option<(usize, u64)>) -> Frame {
        let words = self.words();
        words.held.fetch_add(1, Relaxed);
        // RAW: a name, which is compared.
        let user = words.user.load(Relaxed);
        let Snapshot { time_ns, offset, said, .. } = from;
        let (ring, reader, incarnation) = (self.ring.clone(), self.index, self.incarnation);
        Frame { hold: Some(hold), seq, time_ns, offset, said, ring, reader, incarnation, user, claim }
    }

    fn never_settles(&self) -> Error {
        Error::new(Kind::Poisoned, "an entry of the ring never settles: its head was written over; make a new ring")
    }

    // ---- waiting

    /// Looks for a while without giving the processor up; says whether something came.
    fn spin(&self, patience: &Patience) -> bool {
        // When both sides of an exchange have fallen asleep, each wakes too late for the other's usual spin. A longer
        // one after a short wait brings them back.
        // RAW: a word of this process alone.
        let times = if self.keen.load(Relaxed) { KEEN } else { 1 };
        self.spin_for(patience.nap(self.ring.spin_time().saturating_mul(times)))
    }

    fn spin_for(&self, longest: Duration) -> bool {
        if longest.is_zero() {
            return false;
        }
        let mut end = None;
        // A writer that looked at the cursor has it in its cache.
        fetch_to_write(self.words().cursor);
        // BOUND: the time.
        loop {
            for _ in 0..64 {
                if self.has_news_soon() {
                    return true;
                }
                std::hint::spin_loop();
            }
            // The clock is asked only now: it takes as long as a good part of a hand-over.
            let now = monotonic();
            if now >= *end.get_or_insert(now.saturating_add(longest)) || self.check_open().is_err() {
                return false;
            }
        }
    }

    /// Whether this reader was told of so many deaths of last writers.
    pub(super) fn was_told_of(&self, deaths: u64) -> bool {
        self.told.load(SeqCst) == deaths
    }

    fn check_writers(&self, patience: &Patience) -> Result<()> {
        if let Mode::Group(_) = self.mode {
            // A member that died holding a frame gives it back by its sweep.
            self.ring.prune(patience)?;
        }
        let left = self.ring.settle_writers(patience)?;
        // RAW: only compared with what it was.
        let deaths = self.ring.table.word(DEATHS).load(SeqCst);
        if left || self.ring.is_closed() || self.told.swap(deaths, SeqCst) == deaths {
            return Ok(());
        }
        // RAW: only compared with what it is later.
        self.told_of_made.store(self.ring.table.word(WRITERS_LOST).load(SeqCst), SeqCst);
        Err(Error::new(
            Kind::WriterDied,
            "the ring's last writer ended without closing it: call get again to wait for another one",
        ))
    }

    #[inline]
    fn check_open(&self) -> Result<()> {
        // RAW: a word of this process alone.
        if self.is_closing.load(SeqCst) { Err(was_closed()) } else { Ok(()) }
    }

    /// Has every thread that waits in this reader, or comes to it, get `Closed`. When all have let go of it, it is
    /// dropped; only then may another reader have its place.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn close(&self) -> Result<()> {
        self.is_closing.store(true, SeqCst);
        self.ring.announce_if_awaited(EVENT)
    }

    /// Gives the place up if this process uses it: it holds nobody back from now on. One that nobody has used yet lives
    /// on while somebody else has its token.
    fn leave(&mut self) {
        let Some(token) = self.token.take() else { return };
        let (arena, name) = (self.ring.arena().clone(), token.block());
        drop(token);
        let words = self.words();
        let is_mine = arena.identity().is_ok_and(|me| words.user.load(SeqCst) == me);
        // Another object of this process may have it as well: then it lives on in that.
        if is_mine && !arena.has(name) && words.token.load(SeqCst) == name.to_word() {
            // No lock: whoever makes a reader, and writers that wait, tidy up the place.
            words.pipe.store(0, SeqCst);
            let _ = words.token.compare_exchange(name.to_word(), 0, SeqCst, SeqCst);
            point(Point::RingLeft);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The last token ends a reader that nobody has used; writers that wait may go on.
        self.leave();
        let _ = self.ring.announce_if_awaited(SPACE);
    }
}

impl Frame {
    /// The block that has the bytes.
    pub fn hold(&self) -> &Hold {
        self.hold.as_ref().expect("a frame has its hold until it is dropped")
    }

    /// Its items, to be read only. While the array lives, they never change.
    ///
    /// # Errors
    /// `InvalidValue` when the ring says nothing of them, and when what it says does not lie inside the frame.
    pub fn array(&self) -> Result<Array> {
        let description = if self.view().is_empty() { self.ring.format().description() } else { None };
        let mut description = match description {
            Some(own) => own,
            None => Description::decode(self.view())?,
        };
        description.element = description.element.or_else(|| self.ring.format().element.clone());
        Array::of_parts(self.hold().clone(), self.offset, description, true)
    }

    /// What the writer said of dtype, shape and strides; empty for the ring's own.
    #[inline]
    pub fn view(&self) -> &[u8] {
        self.said.as_deref().map_or(&[], |(view, _)| view)
    }

    /// What the writer said beside it; empty when the ring has no meta.
    pub fn meta(&self) -> &[u8] {
        self.said.as_deref().map_or(&[], |(_, meta)| meta)
    }

    /// The ring that it came through.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

impl Frame {
    /// Takes it off its reader's books, and ends its claim.
    fn let_go(&self) {
        let words = self.ring.table.reader(self.reader);
        if words.incarnation.load(Relaxed) == self.incarnation {
            // Never below nothing: the count says only what others are told.
            let _ = words.held.fetch_update(Relaxed, Relaxed, |held| held.checked_sub(1));
        }
        if let Some((group, claim)) = self.claim {
            self.ring.end_claim(self.seq, group, claim);
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // The hold goes first: who sees the claim ended or the space finds the frame idle.
        drop(self.hold.take());
        if self.ring.arena().identity().is_ok_and(|me| me == self.user) {
            self.let_go();
        }
        let _ = self.ring.announce_if_awaited(SPACE);
    }
}

#[inline]
fn said(entry: &EntryWords<'_>, meta_bytes: usize) -> Said {
    let view_len = read(entry.view_len, Relaxed).capped(VIEW_BYTES as u64) as usize;
    let is_silent = view_len == 0 && meta_bytes == 0;
    (!is_silent).then(|| Box::new((load_bytes(entry.view, view_len), load_bytes(entry.meta, meta_bytes))))
}

impl Ring {
    /// The frames that a group may not have done yet.
    fn open_frames(&self, group: usize) -> std::ops::Range<u64> {
        let head = self.written();
        // RAW: a lap before the head at the least, as what lies before that is written over; beyond it there is none.
        let from = self.table.group(group).cursor.load(SeqCst).max(head.saturating_sub(self.table.entries()));
        from..head
    }

    /// Whether the member of a group that claimed a frame lives.
    pub(super) fn is_claimant_alive(&self, claim: u64) -> bool {
        claimant(claim).is_some_and(|index| {
            let same = self.table.reader(index).incarnation.load(SeqCst) & 0xff_ffff == claim >> 8 & 0xff_ffff;
            same && self.is_reader_live(index)
        })
    }

    /// Marks a frame as done by its group, and moves the group's cursor over all that are.
    fn end_claim(&self, seq: u64, group: usize, claim: u64) {
        protocol::end_claim(&self.table.entry(seq).claims[group], claim);
        point(Point::RingDone);
        // BOUND: a lap. More than that is done only when numbers were scribbled on.
        let left = std::cell::Cell::new(self.table.entries() + 1);
        protocol::pass_done(self.table.group(group).cursor, |next| {
            let entry = self.table.entry(next);
            left.set(left.get().saturating_sub(1));
            (left.get() > 0 && next < self.written()).then_some((entry.seq, &entry.claims[group]))
        });
        if self.is_closed() {
            // The other members may wait for just this, to see that nothing comes any more.
            let _ = self.announce_if_awaited(EVENT);
            self.tell_pipes();
        }
    }
}

/// The place of the reader that a claim names.
fn claimant(claim: u64) -> Option<usize> {
    Unchecked::new(claim & 0xff).index(READERS + 1)?.checked_sub(1)
}

#[cold]
fn was_closed() -> Error {
    Error::new(Kind::Closed, "the reader was closed: expected an open one; make a new one")
}

/// FNV-1a, never 0.
fn name_hash(name: &str) -> u64 {
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash | 1
}
