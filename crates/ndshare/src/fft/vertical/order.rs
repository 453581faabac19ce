//! Which way a plane is transformed first.
//!
//! Rows first, the input is read and the output written as they lie, and columns are transformed where the rows have
//! been written: what is not in the cache is met in the best order. Columns first, a third of the numbers is never
//! written, because half of the rows between the phases follows from the other half; but a plane that is not in the cache
//! is met column by column. So small planes go columns first.

use super::problem::{Problem, Transform};
use crate::error::{Error, Result};
use crate::os::PAGE_BYTES;
use crate::os::cpu::second_cache_bytes;
use std::sync::OnceLock;

/// Which way a plane is transformed first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AxisOrder {
    /// Along the rows.
    RowsFirst,
    /// Along the columns.
    ColumnsFirst,
}

impl AxisOrder {
    /// What `NDSHARE_FFT` asks for; none where it is not set.
    ///
    /// # Errors
    /// `InvalidValue` when it is no order.
    pub fn asked() -> Result<Option<Self>> {
        static ASKED: OnceLock<std::result::Result<Option<AxisOrder>, String>> = OnceLock::new();
        let asked = || match std::env::var("NDSHARE_FFT").ok().as_deref() {
            None => Ok(None),
            Some("rows_first") => Ok(Some(Self::RowsFirst)),
            Some("columns_first") => Ok(Some(Self::ColumnsFirst)),
            Some(other) => {
                Err(format!("expected NDSHARE_FFT to be rows_first or columns_first, got {other:?}: unset it"))
            }
        };
        ASKED.get_or_init(asked).clone().map_err(Error::value)
    }

    /// What `NDSHARE_FFT` asks for, else what is quicker on this machine.
    pub(super) fn chosen(problem: &Problem) -> Self {
        let asked = Self::asked().ok().flatten();
        asked.unwrap_or_else(|| Self::quicker(problem, second_cache_bytes()))
    }

    /// What is quicker with a second-level cache of so many bytes. Measured on Emerald Rapids; `fft_bench` repeats it.
    fn quicker(problem: &Problem, cache_bytes: usize) -> Self {
        let item = if problem.double { 16 } else { 8 };
        let is_large = |cols: usize, cache_bytes: usize| problem.rows * cols * item > cache_bytes;
        let is_rows_first = match problem.transform {
            Transform::C2R => true,
            Transform::R2C => is_large(problem.cols / 2 + 1, cache_bytes / 4),
            // Columns of rows that are whole pages apart go by way of a stage, which pays for larger ones only.
            _ if is_whole_pages((problem.cols * item) as isize) => is_large(problem.cols, 4 * cache_bytes),
            _ => is_large(problem.cols, cache_bytes),
        };
        if is_rows_first { Self::RowsFirst } else { Self::ColumnsFirst }
    }
}

/// Whether rows so many bytes apart are whole pages apart: then all rows of a column fall on the same few lines of the
/// cache.
pub(super) fn is_whole_pages(stride: isize) -> bool {
    stride % PAGE_BYTES as isize == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Number;

    #[test]
    fn frames_go_rows_first_and_small_planes_columns_first() {
        let frame = Problem {
            transform: Transform::R2C,
            input: Number::U16,
            double: false,
            rows: 1080,
            cols: 1920,
            both_axes: true,
            half_first: false,
        };
        let order = |problem: Problem| AxisOrder::quicker(&problem, 2 << 20);
        assert_eq!(order(frame), AxisOrder::RowsFirst);
        assert_eq!(order(Problem { rows: 256, cols: 256, ..frame }), AxisOrder::ColumnsFirst);
        assert_eq!(order(Problem { transform: Transform::C2R, rows: 256, cols: 256, ..frame }), AxisOrder::RowsFirst);
        let complex = Problem { transform: Transform::Forward, input: Number::C64, ..frame };
        assert_eq!(order(complex), AxisOrder::RowsFirst);
        assert_eq!(order(Problem { rows: 512, cols: 2048, ..complex }), AxisOrder::ColumnsFirst);
        assert_eq!(order(Problem { rows: 2048, cols: 2048, ..complex }), AxisOrder::RowsFirst);
    }
}
