//! The two-dimensional transforms of zaft and oxifft as C functions, so that `bench/alone.py` times them as it times others.
//!
//! A plan is made once, and boxed; each run reads `rows * cols` floats and writes `rows * (cols / 2 + 1)` complex numbers.

use std::slice;
use std::sync::Arc;

use num_complex::Complex;
use oxifft::{Flags, RealPlan2D};
use zaft::{TwoDimensionalExecutorR2C, Zaft};

/// One library's plan.
enum Library {
    Zaft(Arc<dyn TwoDimensionalExecutorR2C<f32> + Send + Sync>, Vec<Complex<f32>>),
    Oxifft(RealPlan2D<f32>),
}

/// A plan with the lengths that it was made for.
pub struct Plan {
    library: Library,
    real: usize,
    complex: usize,
}

/// Returns a plan of zaft, or null if it makes none.
#[unsafe(no_mangle)]
pub extern "C" fn plan_zaft(rows: usize, cols: usize, threads: usize) -> *mut Plan {
    let plan = Zaft::make_2d_r2c_fft_f32(cols, rows, threads).ok().map(|plan| {
        let scratch = vec![Complex::default(); plan.scratch_length()];
        Library::Zaft(plan, scratch)
    });
    boxed(plan, rows, cols)
}

/// Returns a plan of oxifft, which has one thread, or null if it makes none.
#[unsafe(no_mangle)]
pub extern "C" fn plan_oxifft(rows: usize, cols: usize, _threads: usize) -> *mut Plan {
    boxed(RealPlan2D::r2c(rows, cols, Flags::MEASURE).map(Library::Oxifft), rows, cols)
}

fn boxed(library: Option<Library>, rows: usize, cols: usize) -> *mut Plan {
    let (real, complex) = (rows * cols, rows * (cols / 2 + 1));
    library.map_or(std::ptr::null_mut(), |library| Box::into_raw(Box::new(Plan { library, real, complex })))
}

/// Transforms, and says whether that was done.
///
/// # Safety
/// `plan` comes from one of the functions above, `source` and `out` are as long as it says, and nobody else uses any of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run(plan: *mut Plan, source: *const f32, out: *mut Complex<f32>) -> bool {
    // SAFETY: the caller's promise, above.
    let plan = unsafe { &mut *plan };
    // SAFETY: the same.
    let (source, out) =
        unsafe { (slice::from_raw_parts(source, plan.real), slice::from_raw_parts_mut(out, plan.complex)) };
    match &mut plan.library {
        Library::Zaft(zaft, scratch) => zaft.execute_with_scratch(source, out, scratch).is_ok(),
        Library::Oxifft(oxifft) => {
            // SAFETY: both are two floats, `repr(C)`, real part first.
            let out = unsafe { slice::from_raw_parts_mut(out.as_mut_ptr().cast(), out.len()) };
            oxifft.execute_r2c(source, out);
            true
        }
    }
}
