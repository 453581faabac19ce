//! What this process has open of rings, so that it can end it in order when it ends itself: the writers that it has, and
//! the rings that it has entered.

use crate::arena::Deadline;
use crate::error::Result;
use crate::os::fork::between_forks;
use crate::prim::SpinLock;
use std::sync::{Arc, Weak};

/// What this process is to end in order.
pub(super) trait Open: Send + Sync {
    fn end_in_order(&self, deadline: &Deadline) -> Result<()>;
}

/// What may still be there. Locked between forks alone, so that no forked child finds it so.
struct AllOpen(SpinLock<Vec<Weak<dyn Open>>>);

static ALL_OPEN: AllOpen = AllOpen::new();

impl AllOpen {
    const fn new() -> Self {
        Self(SpinLock::new(Vec::new()))
    }

    fn push(&self, one: Weak<dyn Open>) {
        between_forks(|| {
            let mut all = self.0.lock();
            // Now and then, so that the list stays short.
            if all.len() >= 64 && all.len().is_power_of_two() {
                all.retain(|other| other.strong_count() > 0);
            }
            all.push(one);
        });
    }

    fn end_in_order(&self, deadline: &Deadline) {
        let all = between_forks(|| std::mem::take(&mut *self.0.lock()));
        for one in all.iter().filter_map(Weak::upgrade) {
            // Nobody is left who could use an error.
            let _ = one.end_in_order(deadline);
        }
    }
}

pub(super) fn remember<T: Open + 'static>(one: &Arc<T>) {
    ALL_OPEN.push(Arc::<T>::downgrade(one));
}

/// Closes the writers that this process has, and leaves the rings that it has entered, as a process does that ends in
/// order: without it, readers take the end for a death. Python calls it by itself; a Rust program calls it at the end of
/// `main`, where it does not drop its writers.
///
/// What does not come to an end before `deadline` is settled by whoever reads.
///
/// ```
/// use ndshare::ring::{Format, RingOptions, leave_all};
/// use ndshare::{Deadline, Kind, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
/// let writer = ring.writer(&forever)?;
/// leave_all(&forever);
/// assert_eq!(writer.check().unwrap_err().kind(), Kind::Closed);
/// # Ok::<(), ndshare::Error>(())
/// ```
pub fn leave_all(deadline: &Deadline) {
    ALL_OPEN.end_in_order(deadline);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::prim::{AtomicU64, Ordering::Relaxed};

    #[derive(Default)]
    struct Once(AtomicU64);

    impl Open for Once {
        fn end_in_order(&self, _: &Deadline) -> Result<()> {
            self.0.fetch_add(1, Relaxed);
            Err(crate::Error::new(Kind::Timeout, "an error of one is no obstacle to the next"))
        }
    }

    #[test]
    fn all_that_is_left_ends_once_however_many_are_gone() {
        let (all, first, last) = (AllOpen::new(), Arc::new(Once::default()), Arc::new(Once::default()));
        let push = |one: &Arc<Once>| all.push(Arc::<Once>::downgrade(one));
        push(&first);
        (0..300).for_each(|_| push(&Arc::default()));
        assert!(all.0.lock().len() <= 128, "those that are gone leave the list now and then");
        push(&last);
        for _ in 0..2 {
            all.end_in_order(&Deadline::never());
            assert_eq!([&first, &last].map(|one| one.0.load(Relaxed)), [1, 1]);
        }
    }
}
