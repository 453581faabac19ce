//! Transforms of arrays in shared memory: shapes, items and overlap are looked at here, so callers need no `unsafe`.

use super::filter::Filter;
use super::plan::{Plan, RawArray};
use super::spec::{Options, Spec};
use super::transform::Transform;
use crate::array::Array;
use crate::element::{Element, Number, Order};
use crate::error::{Error, Kind, Result};
use crate::layout;
use crate::pool::Check;

macro_rules! functions {
    ($($name:ident $transform:ident;)*) => {$(
        #[doc = concat!("[`Transform::", stringify!($transform), "`] along the axes of its name, with the default options.")]
        ///
        /// The result is a new array in the arena of `array`.
        ///
        /// # Errors
        /// As [`Options::transform`].
        pub fn $name(array: &Array) -> Result<Array> {
            Options::default().transform(Transform::$transform, array)
        }
    )*};
}

functions! {
    fft Fft;
    ifft Ifft;
    rfft Rfft;
    irfft Irfft;
    hfft Hfft;
    ihfft Ihfft;
    fft2 Fft2;
    ifft2 Ifft2;
    rfft2 Rfft2;
    irfft2 Irfft2;
    hfft2 Hfft2;
    ihfft2 Ihfft2;
    fftn Fftn;
    ifftn Ifftn;
    rfftn Rfftn;
    irfftn Irfftn;
    hfftn Hfftn;
    ihfftn Ihfftn;
}

impl Options<'_> {
    /// A transform of an array, as a new array in the same arena.
    ///
    /// # Errors
    /// As [`Spec::new`]; `InvalidType` for items that are no numbers in this machine's byte order; `ArenaFull`.
    pub fn transform(&self, transform: Transform, array: &Array) -> Result<Array> {
        let Some(number) = number_of(array) else {
            let message = format!("expected an array of numbers in this machine's byte order, got {array:?}");
            return Err(Error::new(Kind::InvalidType, message));
        };
        let spec = Spec::new(transform, array.shape(), number, self)?;
        // Before the plan, which needs memory of its own for each length: what is too large is an error here.
        let into = Array::empty(array.hold().arena(), &spec.result_shape(), spec.output())?;
        Plan::new(spec).run(array, &into)?;
        Ok(into)
    }
}

impl Plan {
    /// The transform of `from`, as a new array in the same arena.
    ///
    /// # Errors
    /// `InvalidValue` for an array of another shape than the spec's, `InvalidType` for other items; `ArenaFull`.
    pub fn apply(&self, from: &Array) -> Result<Array> {
        let into = Array::empty(from.hold().arena(), &self.spec().result_shape(), self.spec().output())?;
        self.run(from, &into)?;
        Ok(into)
    }

    /// Writes the transform of `from` to `into`, on as many threads as pay. What overlaps goes by way of other memory.
    /// What is still written to meanwhile may be transformed in part.
    ///
    /// # Errors
    /// `InvalidValue` for arrays of other shapes than the spec's and its result's, `InvalidType` for other items;
    /// `Misuse` where `into` may only be read. Then `into` is as it was. `ArenaFull`, after which it may be half-made.
    pub fn run(&self, from: &Array, into: &Array) -> Result<()> {
        self.run_with(from, into, None, &|| Ok(()))
    }

    /// The same on `workers` threads; none picks by size and CPUs.
    ///
    /// # Errors
    /// As [`Self::run`]; and what `check` says, which runs on the calling thread about every 50 ms. The result is
    /// half-made then.
    pub fn run_with(&self, from: &Array, into: &Array, workers: Option<usize>, check: Check<'_>) -> Result<()> {
        let spec = self.spec();
        check_input(from, spec.shape(), |number| spec.reads(number), spec.input())?;
        check_output(into, &spec.result_shape(), spec.output())?;
        write_apart(&[from], into, |into| {
            // SAFETY: shapes and items were looked at above; items of an array lie inside of its block, which lives as
            // long as the array; `write_apart` hands over an array whose items share no bytes with each other or `from`.
            unsafe { self.run_raw(raw(from), raw(into), workers, check) }
        })
    }
}

impl Filter {
    /// Writes `from`, filtered by `spectrum`, to `into`: the circular convolution with what `spectrum` is the transform
    /// of. What overlaps goes by way of other memory.
    ///
    /// # Errors
    /// `InvalidValue` for arrays of other shapes than the spec's, its result's, and the spec's again; `InvalidType` for
    /// other items; `Misuse` where `into` may only be read. Then `into` is as it was. `ArenaFull`, after which it may be
    /// half-made.
    pub fn run(&self, from: &Array, spectrum: &Array, into: &Array) -> Result<()> {
        self.run_with(from, spectrum, into, None, &|| Ok(()))
    }

    /// The same, and the transform of `from`, which is made on the way, goes to `kept`: as [`super::Plan::run`] has
    /// it, but for rounding.
    ///
    /// # Errors
    /// As [`Self::run`], also for a `kept` of another shape than the spec's result, or other items; `InvalidValue` where `kept`
    /// overlaps another of these arrays.
    pub fn run_keeping(&self, from: &Array, spectrum: &Array, into: &Array, kept: &Array) -> Result<()> {
        self.carry_out(from, (spectrum, Some(kept)), into, None, &|| Ok(()))
    }

    /// The same as [`Self::run`] on `workers` threads; none picks by size and CPUs.
    ///
    /// # Errors
    /// As [`Self::run`]; and what `check` says, which runs on the calling thread about every 50 ms. The result is
    /// half-made then.
    pub fn run_with(
        &self,
        from: &Array,
        spectrum: &Array,
        into: &Array,
        workers: Option<usize>,
        check: Check<'_>,
    ) -> Result<()> {
        self.carry_out(from, (spectrum, None), into, workers, check)
    }

    fn carry_out(
        &self,
        from: &Array,
        (spectrum, kept): (&Array, Option<&Array>),
        into: &Array,
        workers: Option<usize>,
        check: Check<'_>,
    ) -> Result<()> {
        let spec = self.spec();
        if let Some(kept) = kept {
            check_output(kept, &spec.result_shape(), spec.output())?;
            let is_apart = layout::is_apart(kept.shape(), kept.strides(), kept.element().size());
            if !is_apart || [from, spectrum, into].iter().any(|other| kept.may_overlap(other)) {
                return Err(Error::value("expected an array for the spectrum that overlaps no other one of the call"));
            }
        }
        check_input(from, spec.shape(), |number| spec.reads(number), spec.input())?;
        check_input(spectrum, &spec.result_shape(), |number| number == spec.output(), spec.output())?;
        check_output(into, spec.shape(), self.output())?;
        write_apart(&[from, spectrum], into, |into| {
            // SAFETY: as in `Plan::run_with`; and the spectrum was looked at as well.
            unsafe { self.run_raw(raw(from), (raw(spectrum), kept.map(raw)), raw(into), workers, check) }
        })
    }
}

/// Has `write` write to `into`, or by way of other memory where that overlaps what is read, or itself.
fn write_apart(from: &[&Array], into: &Array, write: impl FnOnce(&Array) -> Result<()>) -> Result<()> {
    let is_apart = layout::is_apart(into.shape(), into.strides(), into.element().size());
    if is_apart && !from.iter().any(|from| into.may_overlap(from)) {
        return write(into);
    }
    let other = Array::empty(into.hold().arena(), into.shape(), into.element().clone())?;
    write(&other)?;
    into.copy_from(&other)
}

fn raw(array: &Array) -> RawArray<'_> {
    RawArray { data: array.as_ptr(), strides: array.strides() }
}

/// What the items are, if they are numbers in this machine's byte order.
fn number_of(array: &Array) -> Option<Number> {
    match *array.element() {
        Element::Number(number, Order::NATIVE) => Some(number),
        _ => None,
    }
}

fn check_input(array: &Array, shape: &[usize], reads: impl Fn(Number) -> bool, expected: Number) -> Result<()> {
    if !number_of(array).is_some_and(reads) {
        let message = format!("expected an array of {}, got {array:?}: make a plan for those", expected.name());
        return Err(Error::new(Kind::InvalidType, message));
    }
    if array.shape() != shape {
        return Err(Error::value(format!(
            "expected an array of shape {shape:?}, got {array:?}: make a plan for those"
        )));
    }
    Ok(())
}

fn check_output(array: &Array, shape: &[usize], number: Number) -> Result<()> {
    if array.is_readonly() {
        return Err(Error::new(Kind::Misuse, format!("expected a writable array for the result, got {array:?}")));
    }
    if *array.element() != Element::of(number) {
        let message = format!("expected an array of {} for the result, got {array:?}", number.name());
        return Err(Error::new(Kind::InvalidType, message));
    }
    if array.shape() != shape {
        return Err(Error::value(format!("expected an array of shape {shape:?} for the result, got {array:?}")));
    }
    Ok(())
}
