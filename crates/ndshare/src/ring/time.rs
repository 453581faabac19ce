//! When frames were made, and what that is in UTC.
//!
//! A frame has two times. `published_ns` is the ring's: the monotonic clock, read under the ring's lock. `time_ns` is the
//! writer's, if it knows better when the frame was made (a stamp of the camera), else the same. What asks how old a frame
//! is goes by the first, so a stamp of another clock never makes a frame look fresh, or stale.

use super::state::Ring;
use super::writers::Pen;
use crate::error::{Error, Result};
use crate::os::{monotonic, realtime};
use crate::prim::Ordering::Relaxed;
use std::time::Duration;

/// The times of a frame that is published.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub time_ns: u64,
    pub published_ns: u64,
}

/// # Errors
/// `InvalidValue` for a time that a signed number of 64 bits cannot hold, as those of other programs are.
pub(super) fn check(time_ns: Option<u64>) -> Result<()> {
    match time_ns {
        Some(given) if i64::try_from(given).is_err() => Err(Error::value(format!(
            "expected time_ns to be nanoseconds below 2**63, which are 292 years, got {given}"
        ))),
        _ => Ok(()),
    }
}

/// How long ago something was published. Nothing, for a word that somebody wrote over with the future.
pub fn age_of(published_ns: u64) -> Duration {
    monotonic().saturating_sub(Duration::from_nanos(published_ns))
}

impl Ring {
    /// The times of a writer's next frame, under the lock.
    ///
    /// # Errors
    /// `InvalidValue` for one that is earlier than that of the same writer's last frame.
    #[inline]
    pub(super) fn times(&self, pen: Pen, given: Option<u64>) -> Result<Times> {
        let published_ns = monotonic().as_nanos() as u64;
        let time_ns = given.unwrap_or(published_ns);
        let words = self.table.writer(pen.index);
        // RAW: only compared, and told.
        let last_ns = words.last_time_ns.load(Relaxed);
        if time_ns < last_ns && words.look().incarnation == pen.incarnation {
            return Err(went_back(given, time_ns, last_ns));
        }
        Ok(Times { time_ns, published_ns })
    }

    /// The offset between the clock of frames and UTC, as it is now.
    ///
    /// ```
    /// use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
    /// use ndshare::{Deadline, Number, Ring};
    ///
    /// let forever = Deadline::never();
    /// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
    /// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    /// ring.begin_own(&forever)?.publish(Content::default(), &forever)?;
    /// let (frame, clock) = (reader.get(&forever)?, ring.clock());
    /// let utc_ns = clock.utc_ns(frame.time_ns);
    /// assert!(utc_ns > 1_700_000_000_000_000_000);
    /// assert_eq!(clock.monotonic_ns(utc_ns), i64::try_from(frame.time_ns).unwrap());
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    pub fn clock(&self) -> Clock {
        Clock::measure()
    }
}

#[cold]
fn went_back(given: Option<u64>, time_ns: u64, last_ns: u64) -> Error {
    let what = match given {
        Some(_) => format!("got time_ns={time_ns}: give the frames in the order in which they were made"),
        None => format!(
            "got a frame without one, which would be {time_ns} on the monotonic clock: give each frame of a writer a \
             time_ns, or none"
        ),
    };
    Error::value(format!("expected a frame no earlier than the last one of the same writer, time_ns={last_ns}, {what}"))
}

/// The offset between the monotonic clock and UTC, as it was when this was measured. It stays the same: a step of the wall
/// clock, or a suspension of the machine, shows in the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What is to be added to a time of the monotonic clock, in nanoseconds, to get UTC since 1970.
    pub offset_ns: i64,
    /// By how much the offset may be wrong at the most.
    pub uncertainty_ns: u64,
}

/// So often the clocks are read; the reading counts that was disturbed least.
const READINGS: usize = 5;

impl Clock {
    /// Reads both clocks.
    pub fn measure() -> Self {
        let readings = (0..READINGS).map(|_| {
            // UTC was read at some time in between.
            let (before, utc, after) = (monotonic(), realtime(), monotonic());
            let half = (after - before).as_nanos().div_ceil(2) as u64;
            let middle = before.as_nanos() as i64 + half as i64;
            Self { offset_ns: utc.as_nanos() as i64 - middle, uncertainty_ns: half + 1 }
        });
        readings.min_by_key(|reading| reading.uncertainty_ns).expect("there are readings")
    }

    /// UTC of a time on the monotonic clock, in nanoseconds since 1970.
    pub fn utc_ns(&self, time_ns: u64) -> i64 {
        i64::try_from(time_ns).unwrap_or(i64::MAX).saturating_add(self.offset_ns)
    }

    /// The time on the monotonic clock of one in UTC: of a camera that is set by PTP, say.
    pub fn monotonic_ns(&self, utc_ns: i64) -> i64 {
        utc_ns.saturating_sub(self.offset_ns)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Content, Format, Mode, RingOptions, Start};
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::{Kind, Number};

    #[test]
    fn the_clock_is_that_of_the_system() {
        let clock = Clock::measure();
        let (before, utc, after) = (monotonic(), realtime(), monotonic());
        let [least, most] = [before, after].map(|time| clock.utc_ns(time.as_nanos() as u64));
        let slack = clock.uncertainty_ns as i64 + 1_000_000;
        let utc = utc.as_nanos() as i64;
        assert!(least - slack <= utc && utc <= most + slack, "{clock:?} {least} {utc} {most}");
        assert!(clock.uncertainty_ns < 1_000_000_000);
    }

    #[test]
    fn times_of_one_writer_do_not_go_back_and_a_refused_frame_changes_nothing() {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let forever = Deadline::never();
        let ring = super::super::Ring::new(&arena, Format::new(&[4], Number::U8), RingOptions::slots(8), &forever);
        let ring = ring.unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &forever).unwrap();
        let (first, second) = (ring.writer(&forever).unwrap(), ring.writer(&forever).unwrap());
        let put = |writer: &super::super::Writer, time_ns| {
            let mut frame = writer.begin(4, &forever)?;
            frame.publish(Content { time_ns, ..Content::default() }, &forever)
        };
        put(&first, Some(100)).unwrap();
        put(&first, Some(100)).unwrap();
        let error = put(&first, Some(99)).unwrap_err();
        assert!(error.kind() == Kind::InvalidValue && error.to_string().contains("time_ns=100"), "{error}");
        assert_eq!(ring.written(), 2);
        put(&second, Some(7)).unwrap();
        assert!(put(&second, Some(u64::MAX)).is_err());
        put(&first, Some(1 << 62)).unwrap();
        assert!(put(&first, None).unwrap_err().to_string().contains("or none"));
        let times: Vec<_> =
            (0..4).map(|_| reader.get(&forever).unwrap()).map(|f| (f.time_ns, f.published_ns)).collect();
        assert_eq!(times.iter().map(|time| time.0).collect::<Vec<_>>(), [100, 100, 7, 1 << 62]);
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        // Whoever has the slot next is another writer.
        first.close(&forever).unwrap();
        put(&ring.writer(&forever).unwrap(), Some(5)).unwrap();
    }
}
