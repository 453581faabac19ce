//! The newest frame, again and again, for displays and control loops. Nothing is taken: no cursor moves, no claim is made or
//! ended, so it is the same whatever kind of reader asks, how far it is behind, and what other threads of it do.

use super::frame::Frame;
use super::look::Misses;
use super::notify::go_on;
use super::reader::Reader;
use super::table::EVENT;
use super::wait::{LOOK_EVERY, NAP};
use crate::arena::Deadline;
use crate::error::{Empty, Error, Kind, Result};
use crate::os::monotonic;
use std::time::Duration;

impl Reader {
    /// The newest frame of the ring, which is not taken: the next call, and the next [`Self::get`], may give it again. If it
    /// was published longer than `max_age` ago, this waits for a newer one. Its age is by the monotonic clock, whatever
    /// clock its writer stamps frames by ([`Frame::age`]).
    ///
    /// ```
    /// use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
    /// use ndshare::{Deadline, Number, Ring};
    /// use std::time::Duration;
    ///
    /// let forever = Deadline::never();
    /// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(8), &forever)?;
    /// let reader = ring.reader(Mode::Latest, Start::Next, &forever)?;
    /// for _ in 0..3 {
    ///     ring.begin_own(&forever)?.publish(Content::default(), &forever)?;
    /// }
    /// assert_eq!((reader.newest(None, &forever)?.seq, reader.newest(None, &forever)?.seq), (2, 2));
    /// std::thread::sleep(Duration::from_millis(2));
    /// let stale = reader.newest(Some(Duration::from_millis(1)), &Deadline::now()).unwrap_err();
    /// assert!(stale.to_string().contains("frame 2"));
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Empty` at the timeout; `Closed` when the ring was closed and has no frame so young; `WriterDied`, once, when the last
    /// writer died and it would have to wait; `Misuse` when another process uses this reader.
    pub fn newest(&self, max_age: Option<Duration>, deadline: &Deadline) -> Result<Frame> {
        self.own()?;
        let mut misses = Misses::new(deadline);
        let mut looked = monotonic();
        // BOUND: the caller's deadline, looked at in each sleep.
        loop {
            // Before the look: what was published before it was closed is there.
            let (closed, written) = (self.ring.is_closed(), self.ring.written());
            let newest = self.look_at_newest(&mut misses)?;
            if let Some(frame) = newest.as_ref()
                && is_young(frame, max_age)
            {
                return Ok(newest.expect("it is there"));
            }
            let told = newest.map(|frame| (frame.seq, frame.age()));
            if closed {
                return Err(is_over(told));
            }
            let is_due = monotonic().saturating_sub(looked) >= LOOK_EVERY;
            self.wait_for_newer(written, deadline, is_due, told)?;
            if is_due {
                looked = monotonic();
            }
        }
    }

    /// The same if it is there now; else none, also where the ring is closed.
    ///
    /// # Errors
    /// `Misuse` when another process uses this reader; `Closed` when this reader was closed.
    #[doc(hidden)]
    pub fn newest_now(&self, max_age: Option<Duration>) -> Result<Option<Frame>> {
        self.own()?;
        let none = Deadline::now();
        let newest = self.look_at_newest(&mut Misses::new(&none))?;
        Ok(newest.filter(|frame| is_young(frame, max_age)))
    }

    /// The newest frame as it is, if there is one.
    fn look_at_newest(&self, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        // BOUND: `look_again`.
        loop {
            let Some(seq) = self.published().checked_sub(1) else { return Ok(None) };
            if let Some(found) = self.ring.take(seq)? {
                return Ok(Some(self.frame(seq, found, None)));
            }
            if !self.look_again(misses, Some(seq))? {
                return Ok(None);
            }
        }
    }

    /// Sleeps until there are more frames than `written`, and asks whether the caller still waits. `is_due`: it is time to
    /// look whether the writers live.
    fn wait_for_newer(
        &self,
        written: u64,
        deadline: &Deadline,
        is_due: bool,
        newest: Option<(u64, Duration)>,
    ) -> Result<()> {
        let has_news = || self.ring.written() != written || self.ring.is_closed() || self.check_open().is_err();
        self.ring.sleep(EVENT, has_news, deadline, NAP)?;
        self.check_open()?;
        if has_news() {
            return Ok(());
        }
        let outcome = go_on(deadline, |waited| self.too_old(newest, waited));
        // Also at the end of the wait, so that a timeout never hides a death.
        let is_late = outcome.as_ref().is_err_and(|error| error.kind() == Kind::Empty);
        if is_due || is_late {
            self.hear_of_deaths(deadline, has_news)?;
        }
        outcome
    }

    #[cold]
    fn too_old(&self, newest: Option<(u64, Duration)>, waited: Option<Duration>) -> Error {
        let (counts, who) = (self.ring.writer_counts(), self.ring.writers_in_words(waited));
        let found = told(newest);
        let message = format!(
            "no newer frame came: expected a young enough one before the timeout, but {found}, and {counts}{who}; wait longer, \
             allow a larger max_age, or see what the writers do"
        );
        Empty { waited, writers: counts.writing + counts.unused, ..Empty::saying(message) }.into()
    }
}

fn is_young(frame: &Frame, max_age: Option<Duration>) -> bool {
    max_age.is_none_or(|most| frame.age() <= most)
}

fn told(newest: Option<(u64, Duration)>) -> String {
    newest.map_or_else(
        || "there is none yet".to_owned(),
        |(seq, age)| format!("the newest, frame {seq}, is {:.3} s old", age.as_secs_f64()),
    )
}

#[cold]
fn is_over(newest: Option<(u64, Duration)>) -> Error {
    Error::new(Kind::Closed, format!("the ring was closed, and no newer frame comes: {}", told(newest)))
}
