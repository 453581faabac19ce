//! Items of strided memory as complex or real numbers of the width that a transform works in, and back.
//!
//! Each function is compiled once for each type of item; the step between items is known at compile time where they
//! are dense, so that such loops become vector code.

use crate::element::Number;
use realfft::FftNum;
use realfft::num_complex::Complex;
use std::cell::RefCell;

/// Where lines are: bytes from one item of a line to the next, and from one line to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) item: isize,
    pub(super) line: isize,
}

/// The numbers that a transform works in.
pub(super) trait Work: FftNum + From<f32> {
    fn single(self) -> f32;
    fn double(self) -> f64;
    fn of_double(value: f64) -> Self;
    fn read<S: Source>(source: S) -> Complex<Self>;
    /// Gives `act` the scratch memory of this thread.
    fn with_scratch(act: impl FnOnce(&mut Scratch<Self>));
}

/// Memory of one thread in which lines are transformed. It is kept from call to call.
#[derive(Default)]
pub(super) struct Scratch<W> {
    pub(super) complex: Vec<Complex<W>>,
    pub(super) real: Vec<W>,
    pub(super) inner: Vec<Complex<W>>,
}

/// Scratch of more numbers than this goes back after use.
const KEEP: usize = 1 << 20;

impl<W: Work> Scratch<W> {
    const fn new() -> Self {
        Self { complex: Vec::new(), real: Vec::new(), inner: Vec::new() }
    }

    /// Makes room for at least so many numbers of each kind.
    pub(super) fn reserve(&mut self, complex: usize, real: usize, inner: usize) {
        let zero = W::of_double(0.0);
        let none = Complex::new(zero, zero);
        self.complex.resize(complex.max(self.complex.len()), none);
        self.real.resize(real.max(self.real.len()), zero);
        self.inner.resize(inner.max(self.inner.len()), none);
    }

    fn trim(&mut self) {
        if self.complex.len() + self.real.len() + self.inner.len() > KEEP {
            *self = Self::new();
        }
    }
}

macro_rules! work {
    ($type:ty, $take:ident) => {
        impl Work for $type {
            #[inline]
            fn single(self) -> f32 {
                self as f32
            }

            #[inline]
            fn double(self) -> f64 {
                f64::from(self)
            }

            #[inline]
            fn of_double(value: f64) -> Self {
                value as Self
            }

            #[inline]
            fn read<S: Source>(source: S) -> Complex<Self> {
                source.$take()
            }

            fn with_scratch(act: impl FnOnce(&mut Scratch<Self>)) {
                thread_local! {
                    static SCRATCH: RefCell<Scratch<$type>> = const { RefCell::new(Scratch::new()) };
                }
                SCRATCH.with_borrow_mut(|scratch| {
                    act(scratch);
                    scratch.trim();
                });
            }
        }
    };
}

work!(f32, single);
work!(f64, double);

/// A type of items that can be read.
pub(super) trait Source: Copy {
    fn single(self) -> Complex<f32>;
    fn double(self) -> Complex<f64>;
}

macro_rules! real_source {
    ($($type:ty)*) => {$(
        impl Source for $type {
            #[inline]
            fn single(self) -> Complex<f32> {
                Complex::new(self as f32, 0.0)
            }

            #[inline]
            fn double(self) -> Complex<f64> {
                Complex::new(self as f64, 0.0)
            }
        }
    )*};
}

real_source!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Source for Complex<f32> {
    #[inline]
    fn single(self) -> Complex<f32> {
        self
    }

    #[inline]
    fn double(self) -> Complex<f64> {
        Complex::new(f64::from(self.re), f64::from(self.im))
    }
}

impl Source for Complex<f64> {
    #[inline]
    fn single(self) -> Complex<f32> {
        Complex::new(self.re as f32, self.im as f32)
    }

    #[inline]
    fn double(self) -> Complex<f64> {
        self
    }
}

/// A type of items that can be written.
trait Sink: Copy {
    fn of<W: Work>(value: Complex<W>) -> Self;
}

impl Sink for f32 {
    #[inline]
    fn of<W: Work>(value: Complex<W>) -> Self {
        value.re.single()
    }
}

impl Sink for f64 {
    #[inline]
    fn of<W: Work>(value: Complex<W>) -> Self {
        value.re.double()
    }
}

impl Sink for Complex<f32> {
    #[inline]
    fn of<W: Work>(value: Complex<W>) -> Self {
        Complex::new(value.re.single(), value.im.single())
    }
}

impl Sink for Complex<f64> {
    #[inline]
    fn of<W: Work>(value: Complex<W>) -> Self {
        Complex::new(value.re.double(), value.im.double())
    }
}

/// What lines become in scratch memory: complex numbers, or real ones.
pub(super) trait Cell<W: Work>: Copy {
    fn from_complex(value: Complex<W>) -> Self;
    fn to_complex(self) -> Complex<W>;
}

impl<W: Work> Cell<W> for Complex<W> {
    #[inline]
    fn from_complex(value: Complex<W>) -> Self {
        value
    }

    #[inline]
    fn to_complex(self) -> Complex<W> {
        self
    }
}

impl<W: Work> Cell<W> for W {
    #[inline]
    fn from_complex(value: Complex<W>) -> Self {
        value.re
    }

    #[inline]
    fn to_complex(self) -> Complex<W> {
        Complex::new(self, W::of_double(0.0))
    }
}

/// The shape of a tile: so many lines of so many items, `pitch` numbers apart in scratch memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) lines: usize,
    pub(super) items: usize,
    pub(super) pitch: usize,
}

/// Reads a tile of items of one type.
type Gather<C> = unsafe fn(*const u8, Steps, Tile, &mut [C]);

/// What reads items of a type; none for those that are not transformed. Booleans are bytes.
#[inline]
fn gather_of<W: Work, C: Cell<W>>(number: Number) -> Option<Gather<C>> {
    Some(match number {
        Number::Bool | Number::U8 => gather_as::<u8, W, C>,
        Number::I8 => gather_as::<i8, W, C>,
        Number::U16 => gather_as::<u16, W, C>,
        Number::I16 => gather_as::<i16, W, C>,
        Number::U32 => gather_as::<u32, W, C>,
        Number::I32 => gather_as::<i32, W, C>,
        Number::U64 => gather_as::<u64, W, C>,
        Number::I64 => gather_as::<i64, W, C>,
        Number::F32 => gather_as::<f32, W, C>,
        Number::F64 => gather_as::<f64, W, C>,
        Number::C64 => gather_as::<Complex<f32>, W, C>,
        Number::C128 => gather_as::<Complex<f64>, W, C>,
        Number::F16 | Number::Bf16 | Number::F128 | Number::C256 => return None,
    })
}

/// Whether transforms read such items. Others are to be converted first.
pub fn is_readable(number: Number) -> bool {
    gather_of::<f64, Complex<f64>>(number).is_some()
}

/// Reads a tile into scratch memory.
///
/// # Safety
/// Items are readable ones, as [`is_readable`] says; every item of the tile, `steps` apart from `from` on, can be read;
/// nobody writes it meanwhile.
pub(super) unsafe fn gather<W: Work, C: Cell<W>>(
    number: Number,
    from: *const u8,
    steps: Steps,
    tile: Tile,
    to: &mut [C],
) {
    let Some(gather) = gather_of::<W, C>(number) else { unreachable!("no spec has such input") };
    // SAFETY: the caller's.
    unsafe { gather(from, steps, tile, to) }
}

/// # Safety
/// As [`gather`], for items of type `S`.
unsafe fn gather_as<S: Source, W: Work, C: Cell<W>>(from: *const u8, steps: Steps, tile: Tile, to: &mut [C]) {
    let Tile { lines, items, pitch } = tile;
    let item = |line: usize, i: usize, step: isize| {
        let at = from.wrapping_offset(line as isize * steps.line + i as isize * step);
        // SAFETY: the item `i` of a line of the tile, which the caller vouches for.
        C::from_complex(W::read(unsafe { at.cast::<S>().read_unaligned() }))
    };
    if lines > 1 && steps.line.unsigned_abs() < steps.item.unsigned_abs() {
        for i in 0..items {
            (0..lines).for_each(|line| to[line * pitch + i] = item(line, i, steps.item));
        }
        return;
    }
    let dense = size_of::<S>() as isize;
    for (line, to) in to.chunks_mut(pitch).take(lines).enumerate() {
        let to = &mut to[..items];
        if steps.item == dense {
            to.iter_mut().enumerate().for_each(|(i, to)| *to = item(line, i, dense));
        } else {
            to.iter_mut().enumerate().for_each(|(i, to)| *to = item(line, i, steps.item));
        }
    }
}

/// Writes a tile from scratch memory, real parts times the first of `factors`, imaginary parts times the second.
///
/// # Safety
/// Every item of the tile, `steps` apart from `to` on, is writable as a `number`, and nobody else uses it meanwhile.
pub(super) unsafe fn scatter<W: Work, C: Cell<W>>(
    number: Number,
    to: *mut u8,
    steps: Steps,
    tile: Tile,
    from: &[C],
    factors: [W; 2],
) {
    // SAFETY: the caller's.
    unsafe {
        match number {
            Number::F32 => scatter_as::<f32, W, C>(to, steps, tile, from, factors),
            Number::F64 => scatter_as::<f64, W, C>(to, steps, tile, from, factors),
            Number::C64 => scatter_as::<Complex<f32>, W, C>(to, steps, tile, from, factors),
            Number::C128 => scatter_as::<Complex<f64>, W, C>(to, steps, tile, from, factors),
            _ => unreachable!("results are floats"),
        }
    }
}

/// # Safety
/// As [`scatter`], for items of type `S`.
unsafe fn scatter_as<S: Sink, W: Work, C: Cell<W>>(to: *mut u8, steps: Steps, tile: Tile, from: &[C], factors: [W; 2]) {
    let Tile { lines, items, pitch } = tile;
    let put = |line: usize, i: usize, step: isize, value: C| {
        let value = value.to_complex();
        let value = Complex::new(value.re * factors[0], value.im * factors[1]);
        let at = to.wrapping_offset(line as isize * steps.line + i as isize * step);
        // SAFETY: the item `i` of a line of the tile, which the caller vouches for.
        unsafe { at.cast::<S>().write_unaligned(S::of(value)) };
    };
    if lines > 1 && steps.line.unsigned_abs() < steps.item.unsigned_abs() {
        for i in 0..items {
            (0..lines).for_each(|line| put(line, i, steps.item, from[line * pitch + i]));
        }
        return;
    }
    let dense = size_of::<S>() as isize;
    for (line, from) in from.chunks(pitch).take(lines).enumerate() {
        let from = &from[..items];
        if steps.item == dense {
            from.iter().enumerate().for_each(|(i, &value)| put(line, i, dense, value));
        } else {
            from.iter().enumerate().for_each(|(i, &value)| put(line, i, steps.item, value));
        }
    }
}
