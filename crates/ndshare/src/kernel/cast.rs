//! Numbers that become other numbers, where the result has no two opinions and no warning: integers to integers of
//! another size, integers to floats, `f32` to `f64`, and bfloat16 to both.
//!
//! Everything else (what may overflow, complex numbers, half floats, dates) is NumPy's, which warns as it is told to.

use super::lines::{Edges, Vector, each_row, short};
use super::moves::{LINE, Rows};
use crate::element::{Kind, Number};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use Number::{Bf16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};

/// The unsigned integer of the same size: what an integer is cast to does not depend on the sign of the target.
fn unsigned(number: Number) -> Number {
    match number {
        I8 => U8,
        I16 => U16,
        I32 => U32,
        I64 => U64,
        other => other,
    }
}

fn is_integer(number: Number) -> bool {
    matches!(number.kind(), Kind::Signed | Kind::Unsigned)
}

/// A conversion that there is a kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cast {
    from: Number,
    to: Number,
}

impl Cast {
    /// The conversion; none when it is NumPy's affair, or no conversion at all but a copy.
    pub fn new(from: Number, to: Number) -> Option<Self> {
        let to = unsigned(to);
        let known = match (from, to) {
            (from, to) if is_integer(from) && is_integer(to) => from.size() != to.size(),
            (from, F32 | F64) => is_integer(from) || from == Bf16 || (from == F32 && to == F64),
            _ => false,
        };
        known.then_some(Self { from, to })
    }

    /// Bytes of a number before.
    pub fn from_size(self) -> usize {
        self.from.size()
    }

    /// Bytes of a number after.
    pub fn to_size(self) -> usize {
        self.to.size()
    }
}

/// What is done with numbers once their types are known.
trait Visit {
    /// # Safety
    /// As the caller of [`with_types`] says, for these types.
    unsafe fn visit<S: Copy, T: Copy>(self, cast: impl Fn(S) -> T + Copy);
}

/// Calls `visit` with the types of a cast.
///
/// # Safety
/// The memory that `visit` knows has numbers of the cast's types.
#[inline(always)]
unsafe fn with_types(cast: Cast, visit: impl Visit) {
    /// An arm for each pair of types; the others cannot be in a `Cast`.
    macro_rules! arms {
        ($($from:ident $source:ty: $($to:ident $target:ty),*;)*) => {
            match (cast.from, cast.to) {
                // SAFETY: as the caller says; any bytes are a number.
                $($(($from, $to) => unsafe { visit.visit(|number: $source| number as $target) },)*)*
                // SAFETY: as above.
                (Bf16, F32) => unsafe { visit.visit(widened) },
                // SAFETY: as above.
                (Bf16, F64) => unsafe { visit.visit(|bits| f64::from(widened(bits))) },
                _ => {}
            }
        };
    }
    arms! {
        U8 u8: U16 u16, U32 u32, U64 u64, F32 f32, F64 f64;
        I8 i8: U16 u16, U32 u32, U64 u64, F32 f32, F64 f64;
        U16 u16: U8 u8, U32 u32, U64 u64, F32 f32, F64 f64;
        I16 i16: U8 u8, U32 u32, U64 u64, F32 f32, F64 f64;
        U32 u32: U8 u8, U16 u16, U64 u64, F32 f32, F64 f64;
        I32 i32: U8 u8, U16 u16, U64 u64, F32 f32, F64 f64;
        U64 u64: U8 u8, U16 u16, U32 u32, F32 f32, F64 f64;
        I64 i64: U8 u8, U16 u16, U32 u32, F32 f32, F64 f64;
        F32 f32: F64 f64;
    }
}

/// A bfloat16 is the upper half of a float.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// # Safety
/// As [`super::convert`].
#[inline(always)]
pub(super) unsafe fn convert(cast: Cast, dst: *mut u8, src: *const u8, count: usize) {
    // SAFETY: as the caller says.
    unsafe { with_types(cast, Run { dst, src, count }) }
}

/// Contiguous numbers.
struct Run {
    dst: *mut u8,
    src: *const u8,
    count: usize,
}

impl Visit for Run {
    #[inline(always)]
    unsafe fn visit<S: Copy, T: Copy>(self, cast: impl Fn(S) -> T + Copy) {
        // SAFETY: as the caller says.
        unsafe { each(self.dst, self.src, self.count, cast) }
    }
}

/// # Safety
/// As [`super::convert`], for these types.
#[inline(always)]
unsafe fn each<S: Copy, T>(dst: *mut u8, src: *const u8, count: usize, cast: impl Fn(S) -> T) {
    for i in 0..count {
        // SAFETY: number i is one of those that the caller vouches for; neither side need be aligned.
        unsafe { dst.cast::<T>().add(i).write_unaligned(cast(src.cast::<S>().add(i).read_unaligned())) }
    }
}

/// # Safety
/// As [`super::stream_converted`].
#[inline(always)]
pub(super) unsafe fn stream_converted<V: Vector>(cast: Cast, dst: *mut u8, src: *const u8, rows: &Rows) {
    // SAFETY: as the caller says.
    unsafe { with_types(cast, Streamed { dst, src, rows, vector: PhantomData::<V> }) }
}

/// Rows of numbers, which go past the cache as soon as they are converted.
struct Streamed<'a, V> {
    dst: *mut u8,
    src: *const u8,
    rows: &'a Rows,
    vector: PhantomData<V>,
}

impl<V: Vector> Visit for Streamed<'_, V> {
    #[inline(always)]
    unsafe fn visit<S: Copy, T: Copy>(self, cast: impl Fn(S) -> T + Copy) {
        let count = self.rows.run;
        // What is never at a line has none to stream.
        let is_whole = |dst: *mut u8| dst.addr().is_multiple_of(size_of::<T>()) && count >= 2 * LINE / size_of::<T>();
        let edges = Edges::new(self.rows, count * size_of::<T>());
        each_row(self.dst, self.src, self.rows, |row, dst, src| {
            edges.claim::<V>(row, dst);
            // SAFETY: the row is one of those that the caller vouches for.
            unsafe {
                if is_whole(dst) {
                    stream_row::<V, S, T>(dst, src, count, cast);
                } else {
                    each(dst, src, count, cast);
                }
            }
        });
    }
}

/// A line of converted numbers, on its way from one register to another.
#[repr(align(64))]
struct Line(MaybeUninit<[u8; LINE]>);

impl Line {
    /// # Safety
    /// A line's worth of numbers must be readable.
    #[inline(always)]
    unsafe fn of<S: Copy, T>(src: *const u8, cast: impl Fn(S) -> T) -> Self {
        let mut line = Self(MaybeUninit::uninit());
        // SAFETY: as the caller says; so many numbers are a line.
        unsafe { each(line.0.as_mut_ptr().cast(), src, LINE / size_of::<T>(), cast) };
        line
    }

    #[inline(always)]
    fn start(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

/// # Safety
/// As [`super::convert`], for these types, with `dst` at a multiple of a number's size and at least two lines of numbers.
#[inline(always)]
unsafe fn stream_row<V: Vector, S: Copy, T: Copy>(
    dst: *mut u8,
    src: *const u8,
    count: usize,
    cast: impl Fn(S) -> T + Copy,
) {
    let (size, in_line) = (size_of::<T>(), LINE / size_of::<T>());
    let head = dst.addr().wrapping_neg() % LINE / size;
    let end = head + (count - head) / in_line * in_line;
    // SAFETY: both edges are less than a line of the row, which has two; every other line lies between them, and starts
    // at one of the destination's.
    unsafe {
        if head > 0 {
            short(dst, Line::of(src, cast).start(), head * size);
        }
        let mut at = head;
        while at < end {
            stream_line::<V>(dst.add(at * size), Line::of(src.add(at * size_of::<S>()), cast).start());
            at += in_line;
        }
        if end < count {
            let last = Line::of(src.add((count - in_line) * size_of::<S>()), cast);
            let rest = (count - end) * size;
            short(dst.add(end * size), last.start().add(LINE - rest), rest);
        }
    }
}

/// # Safety
/// A line must be readable, and writable at a multiple of one.
#[inline(always)]
unsafe fn stream_line<V: Vector>(dst: *mut u8, src: *const u8) {
    for at in (0..LINE).step_by(V::BYTES) {
        // SAFETY: as the caller says; a line is a few vectors.
        unsafe { V::load(src.add(at)).stream(dst.add(at)) };
    }
}
