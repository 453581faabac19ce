//! Times the vertical engine: for each line of its input, `transform input precision rows cols workers [vector]`, where
//! a transform whose name ends with `-lines` is along the rows only, and one with `-first` has the half of the first axis, it prints the microseconds of one transform: the best and the median of many calls back to back, and the medians of the
//! first and the second call after 64 MiB of other data.
//!
//! ```text
//! r2c u16 single 1080 1920 1
//! forward c128 double 1024 2048 2 avx2
//! forward-lines c64 single 1 65536 1
//! ```

use ndshare::arena::{Arena, Deadline, Hold, Options};
use ndshare::element::Number;
use ndshare::fft::vertical::{Plane, Problem, Transform, Vector, Vertical};
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

/// How long one line of input may take.
const LEAST_TIME: Duration = Duration::from_millis(700);
/// More than any cache keeps.
const OTHER_BYTES: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [best, median, first, second, planning] = time(&words)?;
        println!("{line}: {best:.0} {median:.0} us, cold {first:.0} {second:.0} us, planned in {planning:.1} us");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn time(words: &[&str]) -> Result<[f64; 5], Box<dyn Error>> {
    let [transform, input, precision, rows, cols, workers, ref rest @ ..] = *words else {
        return Err("expected transform, input, precision, rows, cols, workers".into());
    };
    let (transform, both_axes) = transform.strip_suffix("-lines").map_or((transform, true), |name| (name, false));
    let (transform, half_first) = transform.strip_suffix("-first").map_or((transform, false), |name| (name, true));
    let problem = Problem {
        transform: transform_of(transform)?,
        input: number_of(input)?,
        double: precision == "double",
        rows: rows.parse()?,
        cols: cols.parse()?,
        both_axes,
        half_first,
    };
    let vector = rest.first().map_or(Ok(Vector::chosen()), |name| vector_of(name))?;
    let start = Instant::now();
    let plan = Vertical::with_vector(&problem, vector).ok_or("no plan for this problem")?;
    let planning = start.elapsed().as_secs_f64() * 1e6;
    let [mut warm, mut first, mut second] = runs(&plan, &problem, workers.parse()?)?;
    [&mut warm, &mut first, &mut second].into_iter().for_each(|runs| runs.sort_by(f64::total_cmp));
    let median = |runs: &[f64]| runs[runs.len() / 2];
    Ok([warm[0], median(&warm), median(&first), median(&second), planning])
}

fn runs(plan: &Vertical, problem: &Problem, workers: usize) -> Result<[Vec<f64>; 3], Box<dyn Error>> {
    let (rows, cols) = (problem.rows, problem.cols);
    let (real, complex) = if problem.double { (Number::F64, Number::C128) } else { (Number::F32, Number::C64) };
    let (cols_in, cols_out, result) = match problem.transform {
        Transform::R2C if problem.half_first => (cols, cols, complex),
        Transform::C2R if problem.half_first => (cols, cols, real),
        Transform::R2C => (cols, cols / 2 + 1, complex),
        Transform::C2R => (cols / 2 + 1, cols, real),
        _ => (cols, cols, complex),
    };
    let rows_out = if problem.half_first && problem.transform == Transform::R2C { rows / 2 + 1 } else { rows };
    let arena = Arena::create(&Options { budget_bytes: Some(512 << 20), ..Options::default() })?;
    let hold = |bytes: usize| arena.alloc(bytes, 64, true, &Deadline::never());
    let (from, into) = (hold(rows * cols_in * problem.input.size())?, hold(rows_out * cols_out * result.size())?);
    let (from, into) = (plane(&from, rows, cols_in, problem.input), plane(&into, rows_out, cols_out, result));
    let run = || -> Result<f64, Box<dyn Error>> {
        let run = Instant::now();
        // SAFETY: both planes live until the end of this function, and any bytes are numbers.
        unsafe { plan.run(from, into, 1.0, workers, &|| Ok(()))? };
        Ok(run.elapsed().as_secs_f64() * 1e6)
    };
    let (mut warm, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < LEAST_TIME || warm.len() < 5 {
        warm.push(run()?);
    }
    let other = vec![1_u8; OTHER_BYTES];
    let start = Instant::now();
    while start.elapsed() < LEAST_TIME || first.len() < 5 {
        std::hint::black_box(other.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        first.push(run()?);
        second.push(run()?);
    }
    Ok([warm, first, second])
}

/// A block of the arena, as the arrays of this library are. Small whole numbers of the type: bytes taken for floats would
/// be subnormal numbers here and there, which take a hundred times as long.
fn plane(hold: &Hold, rows: usize, cols: usize, number: Number) -> Plane {
    let (data, item) = (hold.as_ptr(), number.size());
    for i in 0..rows * cols * item {
        let (at, small) = (data.wrapping_add(i), (i * 7 % 61) as u8);
        // SAFETY: the block is ours alone, begins at a page, and is so long: items of either size are inside.
        unsafe {
            match number {
                Number::F32 | Number::C64 if i % 4 == 0 => at.cast::<f32>().write(f32::from(small)),
                Number::F64 | Number::C128 if i % 8 == 0 => at.cast::<f64>().write(f64::from(small)),
                Number::U8 | Number::U16 => at.write(small),
                _ => (),
            }
        }
    }
    Plane { data, rows, cols, row_stride: (cols * item) as isize, col_stride: item as isize }
}

fn transform_of(name: &str) -> Result<Transform, Box<dyn Error>> {
    match name {
        "r2c" => Ok(Transform::R2C),
        "c2r" => Ok(Transform::C2R),
        "forward" => Ok(Transform::Forward),
        "inverse" => Ok(Transform::Inverse),
        _ => Err(format!("expected r2c, c2r, forward or inverse, got {name}").into()),
    }
}

fn number_of(name: &str) -> Result<Number, Box<dyn Error>> {
    match name {
        "u8" => Ok(Number::U8),
        "u16" => Ok(Number::U16),
        "f32" => Ok(Number::F32),
        "f64" => Ok(Number::F64),
        "c64" => Ok(Number::C64),
        "c128" => Ok(Number::C128),
        _ => Err(format!("expected u8, u16, f32, f64, c64 or c128, got {name}").into()),
    }
}

fn vector_of(name: &str) -> Result<Vector, Box<dyn Error>> {
    match name {
        "scalar" => Ok(Vector::Scalar),
        "avx2" => Ok(Vector::Avx2),
        "avx512" => Ok(Vector::Avx512),
        "neon" => Ok(Vector::Neon),
        _ => Err(format!("expected scalar, avx2, avx512 or neon, got {name}").into()),
    }
}
