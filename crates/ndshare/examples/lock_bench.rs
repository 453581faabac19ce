//! Times lock and unlock of one block beside a pair of exchanges on a word of the same shared memory.
//!
//! For each line of its input, `lock` or `exchange`, it does the pair many times and prints the nanoseconds of one:
//! the best of many short runs, because other programs can only make it slower.

use ndshare::arena::{Arena, Deadline, Hold, Options};
use ndshare::lock::{self, Death};
use ndshare::prim::Ordering::{Acquire, Relaxed, Release};
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

const RUNS: u32 = 100;
const TIMES: u32 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::create(&Options { budget_bytes: Some(64 << 20), ..Options::default() })?;
    let hold = arena.alloc(1024, 64, true, &Deadline::never())?;
    for line in std::io::stdin().lock().lines() {
        let took = match line?.as_str() {
            "lock" => best(|| lock_pair(&hold))?,
            "exchange" => best(|| exchange_pair(&hold))?,
            other => return Err(format!("expected lock or exchange, got {other:?}").into()),
        };
        println!("{took}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn best(run: impl Fn() -> ndshare::Result<f64>) -> ndshare::Result<f64> {
    (0..RUNS).try_fold(f64::INFINITY, |best, _| Ok(best.min(run()?)))
}

fn lock_pair(hold: &Hold) -> ndshare::Result<f64> {
    let start = Instant::now();
    for _ in 0..TIMES {
        lock::acquire(black_box(hold), Death::Report, &Deadline::never())?;
        lock::release(black_box(hold))?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(TIMES))
}

fn exchange_pair(hold: &Hold) -> ndshare::Result<f64> {
    let word = hold.word(0)?;
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(word.compare_exchange(0, 1, Acquire, Relaxed)).map_err(|_| misread())?;
        black_box(word.compare_exchange(1, 0, Release, Relaxed)).map_err(|_| misread())?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(TIMES))
}

fn misread() -> ndshare::Error {
    ndshare::Error::new(ndshare::Kind::Misuse, "expected nobody else to write the word")
}
