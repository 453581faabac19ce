//! How a reader waits: it looks for a while without giving the processor up, then it sleeps, and now and then it looks
//! whether the writers live. With `Spin::Auto` it sleeps first, and looks when the next frame is expected.

use super::doze::Doze;
use super::frame::Frame;
use super::look::Misses;
use super::pace::Step;
use super::policy::Mode;
use super::reader::Reader;
use super::table::{DEATHS, EVENT, LAST_LOST, WRITERS_LOST};
use crate::arena::Deadline;
use crate::error::{Error, Kind, Result, WriterDied};
use crate::os::{monotonic, thread};
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    fetch_to_write, read,
};
use std::time::Duration;

/// How long an idle reader sleeps before it looks anew: a writer may have died before it could wake anybody, and a
/// signal may have come just before the sleep. Short of 0.1 s, which is as long as a death may hold anybody up.
pub(super) const NAP: Duration = Duration::from_millis(80);
/// As long, in a group: a frame of a member that died wants another one, which takes a sweep as well.
const GROUP_NAP: Duration = Duration::from_millis(50);
/// How often it looks whether the writers live, which takes system calls.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(300);
/// After so long in vain a reader sleeps until somebody wakes it.
const DOZE_AFTER: Duration = Duration::from_secs(1);
/// After a wait shorter than so many spins, the next spin is so many times as long.
const KEEN: u32 = 5;

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

/// What a reader does that found nothing.
enum Plan {
    /// It looks for so long.
    Look(Duration),
    /// It sleeps, at most so long.
    Sleep(Duration),
}

impl Reader {
    /// The next frame, once there is one.
    ///
    /// # Errors
    /// `Empty` at the timeout; `Closed` when the ring was closed and is drained; `WriterDied`, once, when the last
    /// writer died; `Misuse` when another process uses this reader.
    pub fn get(&self, deadline: &Deadline) -> Result<Frame> {
        self.own()?;
        let mut misses = Misses::new(deadline);
        let mut found = self.look_and_settle(&mut misses)?;
        // Once in a wait: a nap that ended without news was a long one, and is followed by the next.
        let (mut wait, mut has_looked) = (None, false);
        // BOUND: the caller's deadline, looked at in each sleep, and now and then where news were none: another member got the
        // frame.
        loop {
            if let Some(frame) = found {
                return Ok(frame);
            }
            if self.is_over() && !self.is_ready() {
                return Err(self.end(deadline)?);
            }
            match self.plan(has_looked, deadline) {
                Plan::Look(longest) => has_looked = !self.spin(longest),
                Plan::Sleep(longest) => {
                    has_looked = true;
                    self.sleep(wait.get_or_insert_with(Wait::begin), deadline, longest)?;
                }
            }
            found = self.look_and_settle(&mut misses)?;
            if found.is_none() {
                self.look_again(&mut misses, None)?;
                if wait.is_none() {
                    self.check_place()?;
                }
            }
        }
    }

    /// The next frame, if there is one now or very soon: within `longest`, or the ring's spin if that is less.
    ///
    /// # Errors
    /// As [`Self::get`].
    #[doc(hidden)]
    pub fn get_soon(&self, longest: Duration) -> Result<Option<Frame>> {
        self.own()?;
        let none = Deadline::now();
        let mut misses = Misses::new(&none);
        let found = self.look_and_settle(&mut misses)?;
        if found.is_some() {
            return Ok(found);
        }
        if !self.spin_for(longest.min(self.ring.spin_time())) {
            return self.check_place().map(|()| None);
        }
        self.look_and_settle(&mut misses)
    }

    /// The next frame, if there is one now. Who waits on [`Self::descriptor`] hears of the end and of deaths by it, too.
    /// If there is none, a member of a group has done with the frames that it got before, as in [`Self::get`].
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn try_get(&self) -> Result<Option<Frame>> {
        let found = self.get_soon(Duration::ZERO)?;
        if found.is_some() {
            return Ok(found);
        }
        if let Mode::Group(group) = self.mode {
            self.end_claims(group)?;
        }
        if !self.is_watched() {
            return Ok(None);
        }
        // A death keeps the descriptor readable until somebody has looked at it.
        match self.get(&Deadline::now()) {
            Err(Error::Empty(_)) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    #[inline]
    fn look_and_settle(&self, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        let found = self.look(misses);
        if let (Some(pace), Ok(Some(frame))) = (&self.pace, &found)
            && let Some(mut pace) = pace.try_lock()
        {
            pace.hear(frame.seq, frame.published_ns);
        }
        if self.is_watched() {
            self.settle_pipe();
        }
        found
    }

    /// What a reader gets who has read everything.
    fn end(&self, deadline: &Deadline) -> Result<Error> {
        if let Mode::Group(group) = self.mode {
            self.end_claims(group)?;
        }
        self.check_place()?;
        self.ring.settle_writers(deadline)?;
        // RAW: only compared with what it was.
        let lost = self.ring.table.word(WRITERS_LOST).load(SeqCst);
        if self.told_of_made.swap(lost, SeqCst) != lost {
            return Ok(self.writer_died(
                "the stream has ended, and one of its writers died without closing",
                "frames of it may be missing; call get again for the end",
            ));
        }
        Ok(Error::new(Kind::Closed, "the ring was closed, and every frame of it was read"))
    }

    /// What to do after a look that found nothing.
    fn plan(&self, has_looked: bool, deadline: &Deadline) -> Plan {
        // Where another thread has the pace in hand, this one waits as is usual.
        let step = self.pace.as_ref().and_then(|pace| Some(pace.try_lock()?.step(nanoseconds(monotonic()))));
        let plan = match step.unwrap_or(Step::Usual) {
            Step::Usual if has_looked || self.ring.spin_time().is_zero() => Plan::Sleep(Duration::MAX),
            Step::Usual => Plan::Look(self.usual_spin()),
            Step::Look(longest) => Plan::Look(duration(longest)),
            Step::Sleep(longest) => Plan::Sleep(duration(longest)),
        };
        match plan {
            // A sleep also asks whether the caller still waits.
            Plan::Look(longest) if deadline.nap(longest) < longest => Plan::Sleep(Duration::MAX),
            plan => plan,
        }
    }

    /// How long it looks at the begin of a wait.
    fn usual_spin(&self) -> Duration {
        // When both sides of an exchange have fallen asleep, each wakes too late for the other's usual spin. A longer
        // one after a short wait brings them back.
        // RAW: a word of this process alone.
        let times = if self.keen.load(Relaxed) { KEEN } else { 1 };
        self.ring.spin_time().saturating_mul(times)
    }

    /// One nap of a wait, of `longest` at the most, and now and then a look at whether the writers live.
    fn sleep(&self, wait: &mut Wait, deadline: &Deadline, longest: Duration) -> Result<()> {
        self.check_place()?;
        let (nap, look_every) = match self.mode {
            Mode::Group(group) => {
                self.end_claims(group)?;
                (GROUP_NAP, Duration::ZERO)
            }
            Mode::Every | Mode::Latest => (NAP, LOOK_EVERY),
        };
        // A sleep that was to be short is followed by a look, and that by a long one.
        let is_short = longest < nap && deadline.nap(longest) == longest;
        let doze = if monotonic() - wait.since < DOZE_AFTER { Doze::Refused } else { self.doze(deadline, longest) };
        match doze {
            Doze::Refused => self.nap(deadline, nap, longest)?,
            Doze::Slept => {}
            // By a frame, or by a death that is to be looked for now.
            Doze::Woken => wait.looked = None,
        }
        self.check_open()?;
        let now = monotonic();
        self.keen.store(now - wait.since < self.ring.spin_time().saturating_mul(KEEN), Relaxed);
        if self.has_news() || is_short {
            return Ok(());
        }
        let outcome = self.go_on(deadline);
        // Also at the end of the wait, so that a timeout never hides a death.
        let is_over = outcome.as_ref().is_err_and(|error| error.kind() == Kind::Empty);
        if is_over || wait.looked.is_none_or(|looked| now - looked >= look_every) {
            wait.looked = Some(now);
            self.hear_of_deaths(deadline, || self.has_news())?;
        }
        outcome
    }

    fn nap(&self, deadline: &Deadline, nap: Duration, longest: Duration) -> Result<()> {
        let sleep = |nap| self.ring.sleep(EVENT, || self.has_news() || self.check_open().is_err(), deadline, nap);
        // The system lets sleeps last 50 us longer than they should, unless it is told that it matters.
        if longest < nap { thread::on_time(|| sleep(longest)) } else { sleep(nap) }
    }

    /// Looks whether the writers live, which takes system calls. Where `has_news` after all, a death waits: what was
    /// published before it comes first.
    ///
    /// # Errors
    /// `WriterDied`, once, when the last writer died.
    pub(super) fn hear_of_deaths(&self, deadline: &Deadline, has_news: impl Fn() -> bool) -> Result<()> {
        let told = match self.check_writers(deadline, has_news) {
            // What it waited for is the lock; the frame is what the caller asked for.
            Err(error) if error.kind() == Kind::Timeout => Ok(()),
            looked => looked,
        };
        self.settle_whole()?;
        told
    }

    /// Looks for a while without giving the processor up; says whether something came.
    fn spin(&self, longest: Duration) -> bool {
        let Some(pace) = &self.pace else {
            let came = self.spin_for(longest);
            // RAW: a word of this process alone. Not written where it says so already: a locked write would be a part of the
            // hand-over.
            if came && !self.keen.load(Relaxed) {
                self.keen.store(true, Relaxed);
            }
            return came;
        };
        let since = monotonic();
        let came = self.spin_for(longest);
        if let Some(mut pace) = pace.try_lock() {
            pace.spend(nanoseconds(monotonic() - since));
        }
        came
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

    /// # Errors
    /// `WriterDied` for a death that this reader was not told of; `Timeout` where the ring's lock is not free.
    fn check_writers(&self, deadline: &Deadline, has_news: impl Fn() -> bool) -> Result<()> {
        if let Mode::Group(_) = self.mode {
            // A member that died holding a frame gives it back by its sweep.
            self.ring.prune(deadline)?;
        }
        let left = self.ring.settle_writers(deadline)?;
        // RAW: only compared with what it was.
        let deaths = self.ring.table.word(DEATHS).load(SeqCst);
        // Asked when the writer is known to be dead: it may have published since this reader looked.
        if left || self.ring.is_closed() || has_news() || self.told.swap(deaths, SeqCst) == deaths {
            return Ok(());
        }
        // RAW: only compared with what it is later.
        self.told_of_made.store(self.ring.table.word(WRITERS_LOST).load(SeqCst), SeqCst);
        Err(self
            .writer_died("the ring's last writer ended without closing it", "call get again to wait for another one"))
    }

    /// `what` became of the writer that died last, and what to do.
    #[cold]
    fn writer_died(&self, what: &str, advice: &str) -> Error {
        let pid = read(self.ring.table.word(LAST_LOST), SeqCst).at_most(u64::from(u32::MAX)).filter(|&pid| pid != 0);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
        WriterDied { pid, ..WriterDied::saying(format!("{what}{who}: {advice}")) }.into()
    }
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// As long as there is, where that is for ever.
fn duration(nanoseconds: f64) -> Duration {
    Duration::try_from_secs_f64(nanoseconds / 1e9).unwrap_or(Duration::MAX)
}
