//! What a plan is for, where its arrays are, and the kinds of vectors.

use crate::element::Number;
use crate::kernel::{Cpu, Level};
use std::fmt;

/// Which transform.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transform {
    /// Real to half-spectrum, with the forward sign.
    R2C,
    /// Half-spectrum to real, with the inverse sign.
    C2R,
    /// Complex to complex, with the forward sign.
    Forward,
    /// Complex to complex, with the inverse sign.
    Inverse,
}

/// What a plan is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Problem {
    /// Which transform.
    pub transform: Transform,
    /// What is read: integers of 8 or 16 bits, or numbers of single or double precision.
    pub input: Number,
    /// Double precision, computed in and written; else single.
    pub double: bool,
    /// The length along the first axis; for one axis only, the number of independent rows.
    pub rows: usize,
    /// The length along the last axis; for [`Transform::R2C`] and [`Transform::C2R`] that of the real rows.
    pub cols: usize,
    /// Both axes, or the last one only.
    pub both_axes: bool,
    /// With both axes: whether a half-spectrum is half of the first axis; else of the last one.
    pub half_first: bool,
}

/// A two-dimensional array somewhere in memory. An input may have fewer rows and columns than the problem, and the rest
/// is zero, or more, and these are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// The element (0, 0).
    pub data: *mut u8,
    /// How many rows there are.
    pub rows: usize,
    /// How many columns there are.
    pub cols: usize,
    /// Bytes from row to row.
    pub row_stride: isize,
    /// Bytes from column to column.
    pub col_stride: isize,
}

/// A kind of vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Vector {
    /// Any CPU.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

impl Problem {
    /// The same with its axes exchanged.
    pub fn transposed(&self) -> Self {
        let is_half = matches!(self.transform, Transform::R2C | Transform::C2R);
        Self { rows: self.cols, cols: self.rows, half_first: is_half && !self.half_first, ..*self }
    }
}

impl Plane {
    /// The same with its axes exchanged.
    pub fn transposed(&self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = *self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }
}

impl Vector {
    /// The best that this CPU has, or that `NDSHARE_CPU` allows.
    pub fn chosen() -> Self {
        let level = Cpu::chosen().map_or(Level::Scalar, Cpu::level);
        let vector = match level {
            Level::Scalar => Self::Scalar,
            Level::Neon => Self::Neon,
            Level::Avx2 => Self::Avx2,
            Level::Avx512 => Self::Avx512,
        };
        if vector.is_present() { vector } else { Self::Scalar }
    }

    /// Whether this CPU has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_present(self) -> bool {
        let fma = || std::is_x86_feature_detected!("fma");
        match self {
            Self::Scalar => true,
            Self::Avx2 => fma() && Cpu::of(Level::Avx2).is_some(),
            Self::Avx512 => fma() && Cpu::of(Level::Avx512).is_some(),
            Self::Neon => false,
        }
    }

    /// Whether this CPU has it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_present(self) -> bool {
        matches!(self, Self::Scalar | Self::Neon)
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "no vectors",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
            Self::Neon => "NEON",
        })
    }
}
