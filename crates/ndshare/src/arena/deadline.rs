//! How long a wait may last, and what may end it early.

use crate::error::{Error, Result, Timeout};
use crate::os::monotonic;
use std::time::Duration;

/// How long a waiter sleeps before it asks whether the owner lives.
pub(super) const NAP: Duration = Duration::from_millis(20);

/// Who gives up after this learns whom it has waited for.
const LONG_WAIT: Duration = Duration::from_millis(1);

/// Whether a wait was so long that the names of processes are looked up for its error. That takes some 50 us for each, which who
/// asks again and again without waiting is spared. None: it is not known how long it was.
pub(crate) fn is_worth_a_look(waited: Option<Duration>) -> bool {
    waited.is_none_or(|waited| waited >= LONG_WAIT)
}

/// How long a wait may last, and what may end it early. A wait that it ends is a `Timeout`, or the error of its check.
///
/// ```
/// use ndshare::ring::{Format, Mode, RingOptions, Start};
/// use ndshare::{Deadline, Error, Kind, Number, Ring};
/// use std::cell::Cell;
/// use std::time::Duration;
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
/// let brief = Deadline::after(Duration::from_millis(1));
/// assert_eq!(reader.get(&brief).unwrap_err().kind(), Kind::Empty);
/// // A check ends a wait early, by an error of its own; here after it was asked three times.
/// let asked = Cell::new(0);
/// let check = || match asked.replace(asked.get() + 1) {
///     3.. => Err(Error::new(Kind::Interrupted, "the user pressed a key")),
///     _ => Ok(()),
/// };
/// assert_eq!(reader.get(&Deadline::new(None, &check)).unwrap_err().kind(), Kind::Interrupted);
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    end: Option<Duration>,
    /// How long that was when it began; none without an end.
    timeout: Option<Duration>,
    check: Option<&'a dyn Fn() -> Result<()>>,
    /// Whether there is any wait at all.
    waits: bool,
}

impl<'a> Deadline<'a> {
    /// Waits at most `timeout` (none: for ever), and runs `check` about every 20 ms; its error ends the wait.
    pub fn new(timeout: Option<Duration>, check: &'a dyn Fn() -> Result<()>) -> Self {
        // A timeout beyond what the clock holds is no timeout.
        let end = timeout.and_then(|timeout| monotonic().checked_add(timeout));
        Self { end, timeout, check: Some(check), waits: true }
    }

    /// Waits at most `timeout`, without a check.
    pub fn after(timeout: Duration) -> Self {
        Self { check: None, ..Self::new(Some(timeout), &|| Ok(())) }
    }

    /// Waits for ever, without a check.
    pub const fn never() -> Self {
        Self { end: None, timeout: None, check: None, waits: true }
    }

    /// Does not wait: what is not free at once, or soon enough to spin for it, is a `Timeout`. No system call is made, so
    /// a dead owner is not found out either.
    pub const fn now() -> Self {
        Self { end: None, timeout: None, check: None, waits: false }
    }

    /// Whether there is any wait.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Runs the check and looks at the clock.
    ///
    /// # Errors
    /// What the check says; `Timeout`, naming `what` was waited for.
    pub fn go_on(&self, what: &str) -> Result<()> {
        if !self.waits {
            return Err(busy(what, Some(Duration::ZERO)));
        }
        self.check.map_or(Ok(()), |check| check())?;
        match self.end {
            Some(end) => self.look(end, monotonic(), what),
            None => Ok(()),
        }
    }

    /// Runs the check alone: for who has much to do and does not wait.
    ///
    /// # Errors
    /// What the check says.
    pub(crate) fn ask(&self) -> Result<()> {
        self.check.map_or(Ok(()), |check| check())
    }

    fn look(&self, end: Duration, now: Duration, what: &str) -> Result<()> {
        let late = now.checked_sub(end);
        late.map_or(Ok(()), |late| Err(busy(what, self.timeout.map(|timeout| timeout.saturating_add(late)))))
    }

    /// As [`Self::go_on`], but the check runs only if it has not since `looked`, about a nap ago.
    pub(super) fn go_on_since(&self, looked: &mut Duration, what: &str) -> Result<()> {
        let now = monotonic();
        let is_over = self.end.is_some_and(|end| now >= end);
        if !is_over && now.saturating_sub(*looked) < NAP {
            return Ok(());
        }
        *looked = now;
        self.go_on(what)
    }

    /// A sleep of at most `longest` that does not miss the end.
    pub fn nap(&self, longest: Duration) -> Duration {
        if !self.waits {
            return Duration::ZERO;
        }
        self.end.map_or(longest, |end| end.saturating_sub(monotonic()).min(longest))
    }
}

#[cold]
pub(super) fn busy(what: &str, waited: Option<Duration>) -> Error {
    let message = format!("{what} was not free before the timeout: wait longer, or find out who holds it");
    Timeout { what: what.trim_end_matches(',').to_owned(), waited, on: Vec::new(), message: message.into() }.into()
}
