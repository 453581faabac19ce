//! When the next frame of a steady camera will come: a reader with `Spin::Auto` sleeps until shortly before that, and
//! looks then, so that it has the frame as soon as one that looks all the time and leaves the processor to others.
//!
//! An alpha-beta filter follows the moments at which frames were published, with the gains of T. R. Benedict and
//! G. W. Bordner (1962), which settle fast without following every jitter. The mean deviation from what was expected is
//! kept as the round trips of TCP are (RFC 6298). How late a sleep ends is the machine's doing, and is learnt as well.
//!
//! What looking costs is bounded whatever the camera does: time to look is saved up, a twenty-fifth of all time.
//!
//! Plain arithmetic, in nanoseconds. Nothing here waits, and no clock is asked.

/// How much of a surprise moves what is expected, and the period.
const ALPHA: f64 = 0.5;
const BETA: f64 = ALPHA * ALPHA / (2.0 - ALPHA);
/// How much of it counts for the mean deviation.
const GAMMA: f64 = 0.125;
/// Frames that must have come as expected before anything rests on it.
const PROVEN: u32 = 6;
/// After so many surprises in a row it is another pace.
const SURPRISES: u32 = 3;
/// What a sleep is expected to end late by before one was seen.
const USUALLY_LATE: f64 = 30_000.0;
/// So many mean deviations before and after the expected moment a frame may come.
const DEVIATIONS: f64 = 3.0;
/// A sleep may end so many times as late as the latest of the last ones.
const MARGIN: f64 = 1.5;
/// How fast it is forgotten that a sleep ended late.
const FORGET: f64 = 0.95;
/// The part of all time that may be spent looking.
const SHARE: f64 = 0.04;
/// The most time to look that is saved up.
const MOST_SAVED: f64 = 4_000_000.0;
/// Looking for less than this is not worth a wake-up.
const LEAST_LOOK: f64 = 5_000.0;

/// What a reader does next, at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Nothing is known: it waits as is usual.
    Usual,
    /// It sleeps so long, or until something comes.
    Sleep(f64),
    /// It looks so long.
    Look(f64),
}

/// The pace of the frames that one reader got.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Number and time of the last frame.
    last: Option<(u64, f64)>,
    /// When the next one is expected, how long after the one before, and how far off that was lately.
    expected: f64,
    period: f64,
    off: f64,
    proven: u32,
    surprises: u32,
    /// When the sleep that it ordered last should end.
    wake_at: Option<f64>,
    late: f64,
    saved: f64,
    saved_at: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            last: None,
            expected: 0.0,
            period: 0.0,
            off: 0.0,
            proven: 0,
            surprises: 0,
            wake_at: None,
            late: USUALLY_LATE,
            saved: 0.0,
            saved_at: f64::INFINITY,
        }
    }
}

impl Pace {
    /// The number of the last frame that it heard of.
    #[cfg(test)]
    pub(super) fn heard_of(&self) -> Option<u64> {
        self.last.map(|(seq, _)| seq)
    }

    /// Hears of a frame: its number, and when it was published.
    pub(super) fn hear(&mut self, seq: u64, published_ns: u64) {
        let at = published_ns as f64;
        // A sleep that a frame has ended says nothing of how late sleeps end.
        self.wake_at = None;
        let Some((before, since)) = self.last.replace((seq, at)) else { return };
        // Several readers' threads may tell of their frames out of order.
        let steps = seq.saturating_sub(before) as f64;
        if steps < 1.0 {
            return;
        }
        if self.period <= 0.0 {
            return self.begin(at, (at - since) / steps);
        }
        let expected = self.expected + (steps - 1.0) * self.period;
        let surprise = at - expected;
        if surprise.abs() > self.period / 2.0 {
            return self.wonder(at, (at - since) / steps);
        }
        (self.proven, self.surprises) = (self.proven.saturating_add(1), 0);
        self.off += GAMMA * (surprise.abs() - self.off);
        self.period += BETA * surprise / steps;
        self.expected = expected + ALPHA * surprise + self.period;
    }

    /// Begins anew with a first period.
    fn begin(&mut self, at: f64, period: f64) {
        (self.period, self.expected) = (period.max(0.0), at + period.max(0.0));
        (self.off, self.proven, self.surprises) = (period.max(0.0) / 8.0, 0, 0);
    }

    /// A frame came at another time than it should: after a pause, or at another pace from now on.
    fn wonder(&mut self, at: f64, period: f64) {
        self.surprises += 1;
        if self.surprises >= SURPRISES {
            return self.begin(at, period);
        }
        self.expected = at + self.period;
    }

    /// What to do at `now`, having found nothing.
    pub(super) fn step(&mut self, now: f64) -> Step {
        self.save(now);
        self.learn(now);
        if self.proven < PROVEN {
            return Step::Usual;
        }
        let ahead = (DEVIATIONS * self.off + MARGIN * self.late).min(self.saved);
        let (from, until) =
            (self.expected - ahead, (self.expected + DEVIATIONS * self.off + LEAST_LOOK).min(now + self.saved));
        if ahead < LEAST_LOOK || now >= until {
            return Step::Sleep(f64::INFINITY);
        }
        if now < from {
            self.wake_at = Some(from);
            return Step::Sleep(from - now);
        }
        Step::Look(until - now)
    }

    /// So long was spent looking.
    pub(super) fn spend(&mut self, looked: f64) {
        self.saved -= looked;
    }

    fn save(&mut self, now: f64) {
        self.saved = (self.saved + SHARE * (now - self.saved_at).max(0.0)).min(MOST_SAVED);
        self.saved_at = now;
    }

    fn learn(&mut self, now: f64) {
        let Some(wake_at) = self.wake_at.filter(|&at| now >= at) else { return };
        self.wake_at = None;
        // The worst of late, slowly forgotten; a pause of the whole machine is no measure.
        self.late = (now - wake_at).min(self.period / 4.0).max(self.late * FORGET);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A camera and a reader on paper: how often the reader was looking when a frame came, and the part of the time that
    /// it looked. A sleep ends `late` too late; `jitter` is added to each moment.
    fn play(period: f64, late: f64, frames: u64, jitter: impl Fn(u64) -> f64) -> (f64, f64) {
        let (mut pace, mut now, mut caught, mut looked) = (Pace::default(), 0.0, 0, 0.0);
        let moment = |seq: u64| 1e9 + seq as f64 * period + jitter(seq);
        for seq in 0..frames {
            let at = moment(seq);
            loop {
                match pace.step(now) {
                    Step::Look(longest) if now + longest >= at => {
                        (caught, looked) = (caught + 1, looked + at - now);
                        pace.spend(at - now);
                        break;
                    }
                    Step::Look(longest) => {
                        pace.spend(longest);
                        (looked, now) = (looked + longest, now + longest);
                    }
                    Step::Sleep(longest) if now + longest < at => now = (now + longest + late).min(at),
                    Step::Sleep(_) | Step::Usual => break,
                }
                if now >= at {
                    break;
                }
            }
            now = at;
            pace.hear(seq, at as u64);
        }
        (f64::from(caught) / frames as f64, looked / (now - 1e9))
    }

    /// Noise between -1 and 1, the same each time.
    fn noise(seq: u64) -> f64 {
        let mixed = (seq + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as f64 / u64::MAX as f64 * 2.0 - 1.0
    }

    #[test]
    fn frames_of_a_steady_camera_are_awaited_awake() {
        for rate in [10.0, 30.0, 100.0, 500.0] {
            let (caught, share) = play(1e9 / rate, 20_000.0, 2000, |_| 0.0);
            assert!(caught > 0.97 && share < 0.05, "{rate}/s: {caught}, {share}");
        }
    }

    #[test]
    fn jitter_is_looked_through_as_far_as_the_time_allows() {
        for (rate, jitter, least) in [(10.0, 1e6, 0.9), (30.0, 3e5, 0.9), (100.0, 5e4, 0.9), (1000.0, 1e4, 0.3)] {
            let (caught, share) = play(1e9 / rate, 20_000.0, 4000, |seq| jitter * noise(seq));
            assert!(caught > least && share < 0.05, "{rate}/s: {caught}, {share}");
        }
    }

    #[test]
    fn looking_is_bounded_where_nothing_can_be_expected() {
        for rate in [10.0, 100.0, 1000.0, 20_000.0] {
            let period = 1e9 / rate;
            let (_, share) = play(period, 20_000.0, 20_000, |seq| 0.45 * period * noise(seq));
            assert!(share < 0.05, "{rate}/s: {share}");
        }
    }

    #[test]
    fn another_pace_is_learnt_and_a_pause_is_not_taken_for_one() {
        let mut pace = Pace::default();
        let (mut at, mut seq) = (0_u64, 0_u64);
        let mut frames = |pace: &mut Pace, count: u64, period: u64| {
            for _ in 0..count {
                (at, seq) = (at + period, seq + 1);
                pace.hear(seq, at);
            }
            at as f64
        };
        frames(&mut pace, 20, 10_000_000);
        assert!((pace.period - 1e7).abs() < 1.0);
        frames(&mut pace, 1, 500_000_000);
        assert!((pace.period - 1e7).abs() < 1.0, "one pause");
        frames(&mut pace, 20, 2_000_000);
        assert!((pace.period - 2e6).abs() < 1e4, "another pace: {}", pace.period);
        let now = frames(&mut pace, 1, 2_000_000);
        pace.save(now);
        pace.save(now + 1e9);
        assert!(matches!(pace.step(now + 1e4), Step::Sleep(long) if long < 2e6));
    }

    #[test]
    fn frames_that_were_dropped_are_steps_of_the_same_pace() {
        let mut pace = Pace::default();
        for seq in (0..60).step_by(3) {
            pace.hear(seq, seq * 1_000_000);
        }
        assert!((pace.period - 1e6).abs() < 1.0);
        pace.hear(57, 57_000_000);
        assert!((pace.period - 1e6).abs() < 1.0, "an older frame says nothing");
    }
}
