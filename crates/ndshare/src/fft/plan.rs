//! How what is asked for is done: a list of passes.

use super::engines;
use super::fast::Fast;
use super::line::Key;
use super::pass::{Middle, Pass, Side};
use super::spec::{Spec, result_number};
use super::transform::Family;
use crate::error::{Error, Kind, Result};
use crate::os::cpu;
use crate::pool::{Check, MAX_WORKERS};
use std::fmt;

/// An array as bytes: where its first item is, and the distances (bytes) between items.
#[derive(Debug, Clone, Copy)]
pub struct RawArray<'a> {
    /// Its first item.
    pub data: *mut u8,
    /// One stride for each axis.
    pub strides: &'a [isize],
}

// SAFETY: it names memory and does nothing; whoever uses it vouches for what it does.
unsafe impl Send for RawArray<'_> {}

/// A spec, and all that is needed to carry it out. Any number of threads may use it at once.
///
/// ```
/// use ndshare::arena::{Arena, Options};
/// use ndshare::array::Array;
/// use ndshare::element::Number;
/// use ndshare::fft::{self, Plan, Spec, Transform};
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let options = fft::Options { result: Some(Number::C64), ..fft::Options::default() };
/// let plan = Plan::new(Spec::new(Transform::Rfft2, &[4, 6], Number::U16, &options)?);
/// let frame = Array::zeros(&arena, &[4, 6], Number::U16)?;
/// let spectrum = Array::empty(&arena, &plan.spec().result_shape(), plan.spec().output())?;
/// // Over and over into the same memory:
/// for value in [1_u16, 2, 3] {
///     frame.fill(value)?;
///     plan.run(&frame, &spectrum)?;
/// }
/// // The sum of all items, as real and imaginary part.
/// let sum = spectrum.view(&[0.into(), 0.into()])?.to_bytes()?;
/// assert_eq!(sum, [72_f32.to_ne_bytes(), 0_f32.to_ne_bytes()].concat());
/// # Ok(())
/// # }
/// ```
pub struct Plan {
    spec: Spec,
    steps: Vec<Step>,
    /// The shape of what lies between the passes where it cannot lie in the result.
    middle: Option<Vec<usize>>,
}

/// One pass over an array.
enum Step {
    Lines(Pass),
    Fast(Fast),
}

/// One more worker pays from so many points on.
const WORKER_POINTS: usize = 1 << 15;
/// More workers than this find no more memory bandwidth on any machine that we know.
const MOST_USEFUL_WORKERS: usize = 8;

impl Plan {
    /// Plans a transform. Nothing is timed; engines come from a cache.
    pub fn new(spec: Spec) -> Self {
        let mut made = Self { steps: Vec::with_capacity(spec.axes.len()), spec, middle: None };
        made.add_steps();
        made
    }

    /// What it does.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// A halved axis comes first or last, as only its other side is complex, and with it another one where both can
    /// be had at once. The rest follow in their order.
    fn add_steps(&mut self) {
        // What is there of each axis: less than the result has before an axis was padded.
        let mut extents = self.spec.shape.clone();
        let count = self.spec.axes.len();
        for at in 0..count {
            extents[self.spec.axes[at]] = extents[self.spec.axes[at]].min(self.whole(at));
        }
        if self.spec.family == Family::ToReal {
            self.add_steps_to_real(extents);
            return;
        }
        let done = self.add_fast(&mut extents);
        if done == 0 && self.spec.family == Family::ToHalf {
            self.add_pass(count - 1, &mut extents);
        }
        let done = done.max(usize::from(self.spec.family == Family::ToHalf));
        (0..count - done).for_each(|at| self.add_pass(at, &mut extents));
    }

    fn add_steps_to_real(&mut self, mut extents: Vec<usize>) {
        let count = self.spec.axes.len();
        // The last two at once: what they find there is what the others leave.
        let mut left = extents.clone();
        (0..count.saturating_sub(2)).for_each(|at| left[self.spec.axes[at]] = self.spec.lengths[at]);
        let last = Fast::plane(&self.spec, &left).or_else(|| Fast::lines(&self.spec, &left));
        let alone = if last.is_some() { count.min(2) } else { 1 };
        (0..count - alone).for_each(|at| self.add_pass(at, &mut extents));
        self.middle = (count > alone).then(|| extents.clone());
        match last {
            Some(last) => self.steps.push(Step::Fast(last)),
            None => self.add_pass(count - 1, &mut extents),
        }
    }

    /// Adds a step of the vertical engine if it takes the last two axes, or the only one; returns how many.
    fn add_fast(&mut self, extents: &mut [usize]) -> usize {
        let fast = Fast::plane(&self.spec, extents).or_else(|| Fast::lines(&self.spec, extents));
        let Some(fast) = fast else { return 0 };
        fast.leave(extents);
        self.steps.push(Step::Fast(fast));
        self.spec.axes.len().min(2)
    }

    /// The items that a transform wants to read along an axis.
    fn whole(&self, at: usize) -> usize {
        let is_half = self.spec.family == Family::ToReal && at + 1 == self.spec.axes.len();
        let length = self.spec.lengths[at];
        if is_half { length / 2 + 1 } else { length }
    }

    fn add_pass(&mut self, at: usize, extents: &mut [usize]) {
        let spec = &self.spec;
        let (axis, length) = (spec.axes[at], spec.lengths[at]);
        let family = if at + 1 == spec.axes.len() { spec.family } else { Family::Complex };
        // The conjugate of a half-spectrum belongs to the other sign along all axes.
        let line = engines::line(Key { family, forward: spec.forward, length, double: spec.double });
        let (items_in, items_whole) = (extents[axis], self.whole(at));
        let items_out = if family == Family::ToHalf { length / 2 + 1 } else { length };
        extents[axis] = items_out;
        let mut across = extents.to_vec();
        across[axis] = 1;
        let pass = Pass { axis, family, line, extents: across, items_in, items_out, items_whole };
        self.steps.push(Step::Lines(pass));
    }

    /// Transforms `from` into `into`, on `workers` threads; none picks by size and CPUs. For arrays that are none of this
    /// library's, as the Python binding has them; all others go by [`Plan::run`].
    ///
    /// # Errors
    /// What `check` says, which runs on the calling thread about every 50 ms; the result is half-made then.
    /// `InvalidValue` when `NDSHARE_FFT` names no order of axes. `ArenaFull` when there is no memory for what lies between
    /// the passes, or for their scratch.
    ///
    /// # Safety
    /// `from` has the spec's shape and items, `into` the result's; all items are readable and writable, nobody else
    /// writes them meanwhile, no two items of `into` share bytes, and none shares bytes with `from`.
    pub unsafe fn run_raw(
        &self,
        from: RawArray<'_>,
        into: RawArray<'_>,
        workers: Option<usize>,
        check: Check<'_>,
    ) -> Result<()> {
        let ndim = self.spec.shape.len();
        debug_assert!(from.strides.len() == ndim && into.strides.len() == ndim, "a stride for each axis");
        let mut middle = self.middle()?;
        let source = Side { data: from.data, strides: from.strides, number: self.spec.input };
        let result = Side { data: into.data, strides: into.strides, number: self.spec.output() };
        let between = middle.as_mut().map_or(result, |middle| {
            let data = middle.data();
            Side { data, strides: &middle.strides, number: result_number(true, self.spec.double) }
        });
        let workers = workers_for(&self.spec, workers);
        for (number, step) in self.steps.iter().enumerate() {
            let (is_first, is_last) = (number == 0, number + 1 == self.steps.len());
            let (from, into) = (if is_first { source } else { between }, if is_last { result } else { between });
            let scale = if is_first { self.spec.scale() } else { 1.0 };
            // SAFETY: the caller's. A pass along one axis leaves each line where it is, and a fast one stands first or
            // last where the sides are different arrays; the extents of each step are those of the items that the
            // steps before have written, or of the input.
            unsafe {
                match step {
                    Step::Lines(pass) => pass.run(from, into, scale, workers, check)?,
                    Step::Fast(fast) => fast.run(from, into, scale, workers, check)?,
                }
            }
        }
        Ok(())
    }

    fn middle(&self) -> Result<Option<Middle>> {
        let Some(shape) = &self.middle else { return Ok(None) };
        let middle = Middle::new(shape, self.spec.double);
        let refusal = || {
            let message = format!("no memory for a half-spectrum of shape {shape:?}: transform fewer planes at a time");
            Error::new(Kind::ArenaFull, message)
        };
        middle.map(Some).ok_or_else(refusal)
    }
}

/// What is done, a line for each pass over the array: by which vectors, in which order of axes, and how each length is
/// factored. For those who measure; the words are not promised.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            f.write_str(if number > 0 { "\n" } else { "" })?;
            match step {
                Step::Lines(pass) => pass.fmt(f)?,
                Step::Fast(fast) => fast.fmt(f)?,
            }
        }
        Ok(())
    }
}

/// The workers for a call that asks for `workers`, or leaves it to us.
pub(super) fn workers_for(spec: &Spec, workers: Option<usize>) -> usize {
    if let Some(workers) = workers {
        return workers.clamp(1, MAX_WORKERS);
    }
    let worth = spec.points() / WORKER_POINTS;
    if worth < 2 { 1 } else { cpu::available().min(worth).min(MOST_USEFUL_WORKERS) }
}
