//! [`Ring`]: a ring as one process has it. How it is made and opened, what its head says, and how far its stream is.

use super::format::{Format, Spin};
use super::idle::Idle;
use super::policy::{RingOptions, WhenFull};
use super::table::{CLOSED, POLICY, RingSizes, Table};
use crate::arena::{Arena, Deadline, Hold};
use crate::error::{Error, Kind, Result};
use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    SpinLock,
};
use crate::session::by_reference;
use std::sync::Arc;
use std::time::Duration;

/// A ring, as one process has it.
///
/// ```
/// use ndshare::ring::{Content, Format, Mode, RingOptions, Start, WhenFull};
/// use ndshare::{Deadline, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4, 6], Number::U16), RingOptions::slots(8), &forever)?;
///
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
/// let mut frame = ring.begin_own(&forever)?;
/// frame.array()?.fill(7_u16)?;
/// frame.publish(Content::default(), &forever)?;
/// assert_eq!(reader.get(&forever)?.array()?.read::<u16>(&[3, 5])?, 7);
/// // Another process opens it by its reference, a text:
/// let text = ring.reference().to_string();
/// let same = Ring::open_reference(&text.parse()?, &forever)?;
/// assert_eq!((same.format().shape.as_deref(), same.written()), (Some(&[4, 6][..]), 1));
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug)]
pub struct Ring {
    pub(super) table: Table,
    format: Format,
    pub(super) when_full: WhenFull,
    spin_ns: AtomicU64,
    /// Where this process writes through the ring itself, one more than its slot; a hint.
    pub(super) own_writer: AtomicU64,
    /// How often a process has entered it as a writer and not left it again, below the number of that process: a forked
    /// child has a copy.
    pub(super) entered: AtomicU64,
    /// Which frames may be idle. Only who has the ring's lock looks, so no thread waits for another.
    pub(super) idle: SpinLock<Idle>,
}

by_reference!(Ring, Ring, "ring", Arc<Self>);

impl Ring {
    /// A new ring of frames of this format in `arena`.
    ///
    /// ```
    /// use ndshare::arena::{Arena, Options};
    /// use ndshare::ring::{Content, Format, Mode, Ring, RingOptions, Start};
    /// use ndshare::{Deadline, Number};
    ///
    /// # fn main() -> ndshare::Result<()> {
    /// let (arena, forever) = (Arena::create(&Options { budget_bytes: Some(1 << 24), ..Options::default() })?, Deadline::never());
    /// let ring = Ring::new(&arena, Format::new(&[4, 6], Number::U16), RingOptions::slots(8), &forever)?;
    /// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    /// let mut frame = ring.begin_own(&forever)?;
    /// frame.array()?.fill(7_u16)?;
    /// frame.publish(Content::default(), &forever)?;
    /// assert_eq!(reader.get(&forever)?.array()?.to_vec::<u16>()?, [7; 24]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidValue` for a format, slots or frames to keep that cannot be; `ArenaFull`; `Timeout` at `deadline`.
    pub fn new(arena: &Arc<Arena>, format: Format, options: RingOptions, deadline: &Deadline) -> Result<Arc<Self>> {
        let RingOptions { slots, keep, when_full } = options;
        let geometry = RingSizes::new(slots, format.frame_bytes()?, format.meta_bytes())?.keeping(keep)?;
        Self::of_sizes(arena, geometry, format, when_full, deadline)
    }

    /// A new ring of frames of which nothing is said but their size.
    ///
    /// # Errors
    /// `ArenaFull`; `Timeout` at `deadline`.
    #[cfg(test)]
    pub(crate) fn create(
        arena: &Arc<Arena>,
        geometry: RingSizes,
        when_full: WhenFull,
        deadline: &Deadline,
    ) -> Result<Arc<Self>> {
        let meta = (geometry.meta_bytes > 0).then_some(crate::element::Element::Void(geometry.meta_bytes));
        Self::of_sizes(arena, geometry, Format { meta, ..Format::default() }, when_full, deadline)
    }

    fn of_sizes(
        arena: &Arc<Arena>,
        geometry: RingSizes,
        format: Format,
        when_full: WhenFull,
        deadline: &Deadline,
    ) -> Result<Arc<Self>> {
        let bytes = format.encode()?;
        let head = arena.alloc(geometry.head_bytes() + bytes.len().next_multiple_of(8), 64, true, deadline)?;
        let table = Table::format(head, geometry, &bytes);
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        table.word(POLICY).store(when_full.pack(), SeqCst);
        Ok(Self::over(table, format, when_full))
    }

    /// The ring whose head this is.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a ring, or one of another version; `InvalidValue` for one that contradicts
    /// itself.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
        let table = Table::open(head)?;
        // RAW: matched.
        let when_full = WhenFull::unpack(table.word(POLICY).load(SeqCst))?;
        let format = table.read_format()?;
        Ok(Self::over(table, format, when_full))
    }

    fn over(table: Table, format: Format, when_full: WhenFull) -> Arc<Self> {
        let [spin_ns, own_writer, entered] = [default_spin_ns(), 0, 0].map(AtomicU64::new);
        let idle = SpinLock::new(Idle::default());
        let ring = Self { table, format, when_full, spin_ns, own_writer, entered, idle };
        if let Some(Spin::For(seconds)) = ring.format.spin
            && let Ok(spin) = Duration::try_from_secs_f64(seconds)
        {
            ring.set_spin(spin);
        }
        Arc::new(ring)
    }

    /// What its frames are, as its head says.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// How long readers of this object look without giving the processor up, before they sleep. By default 20 µs
    /// where there are two processors or more, else not at all.
    #[doc(hidden)]
    pub fn set_spin(&self, spin: Duration) {
        self.spin_ns.store(u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn spin_time(&self) -> Duration {
        // RAW: a word of this process alone.
        Duration::from_nanos(self.spin_ns.load(Relaxed))
    }

    /// The block that names the ring.
    pub fn head(&self) -> &Hold {
        &self.table.head
    }

    /// Its sizes.
    pub fn geometry(&self) -> &RingSizes {
        &self.table.geometry
    }

    /// What its writers do when it is full.
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    pub(super) fn arena(&self) -> &Arc<Arena> {
        self.table.head.arena()
    }

    /// How many frames have been published.
    #[inline]
    pub fn written(&self) -> u64 {
        self.table.written()
    }

    /// Whether it was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.table.word(CLOSED).load(SeqCst) != 0
    }

    /// # Errors
    /// `ReadOnly`.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.arena().check_writable("the ring")
    }

    /// # Errors
    /// `Closed`.
    pub(super) fn check_open(&self) -> Result<()> {
        // RAW: 0 or not.
        match self.table.word(CLOSED).load(SeqCst) {
            0 => Ok(()),
            _ => {
                Err(Error::new(Kind::Closed, "the ring was closed: expected an open one to write to; make a new ring"))
            }
        }
    }
}

/// Spinning pays only where the other side has a processor of its own.
fn default_spin_ns() -> u64 {
    if crate::os::processors() > 1 { 20_000 } else { 0 }
}
