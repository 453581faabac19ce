//! `ndshare bench`: a few seconds' measurement of this machine. Each figure is the median of many rounds.

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndshare::arena::Options;
use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
use ndshare::{Arena, Array, Deadline, Number, Reader, Ring, fft, gather};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::Bench;

const SHAPE: [usize; 2] = [1080, 1920];
const FRAME_BYTES: usize = SHAPE[0] * SHAPE[1] * 2;
/// Larger than the processor's caches, mostly.
const COPIED_BYTES: usize = 64 << 20;
const PARTS: usize = 32;
const BUDGET: u64 = 1 << 30;
/// A median needs so many rounds at the least.
const LEAST_ROUNDS: usize = 5;

/// What one round of it takes, and how many bytes it moves; 0: that is not the point.
struct Figure {
    name: &'static str,
    what: &'static str,
    median: Duration,
    bytes: usize,
}

pub(crate) fn run(wanted: &Bench, is_json: bool, out: &mut dyn Write) -> Outcome {
    let arena = Arena::create(&Options { budget_bytes: Some(BUDGET), ..Options::default() })?;
    // Pages come at the first round, which no median sees.
    let each = wanted.seconds / 5;
    let figures = [
        memory_copy(each)?,
        hand_over(&arena, each)?,
        put(&arena, each)?,
        joined(&arena, each)?,
        transformed(&arena, each)?,
    ];
    let (cpu, cpus) = (cpu_name(), ndshare::os::cpu::available());
    if is_json {
        let figures: Vec<Value> = figures.iter().map(Figure::value).collect();
        writeln!(out, "{:#}", json!({ "cpu": cpu, "cpus": cpus, "figures": figures }))?;
        return Ok(true);
    }
    writeln!(out, "{cpu}, {cpus} processors for this process")?;
    figures.iter().try_for_each(|figure| writeln!(out, "{}", figure.line()))?;
    Ok(true)
}

impl Figure {
    fn gb_per_s(&self) -> Option<f64> {
        (self.bytes > 0 && !self.median.is_zero()).then(|| self.bytes as f64 / self.median.as_secs_f64() / 1e9)
    }

    fn value(&self) -> Value {
        json!({ "name": self.name, "what": self.what, "median_s": self.median.as_secs_f64(), "gb_per_s": self.gb_per_s() })
    }

    fn line(&self) -> String {
        let speed = self.gb_per_s().map_or(String::new(), |speed| format!("{speed:8.2} GB/s"));
        format!("{:10} {:12.2} µs {speed:13}  {}", self.name, self.median.as_secs_f64() * 1e6, self.what)
    }
}

/// The median of rounds over a time.
fn median(time: Duration, mut round: impl FnMut() -> ndshare::Result<()>) -> ndshare::Result<Duration> {
    let begun = Instant::now();
    round()?;
    let mut rounds = Vec::new();
    // BOUND: the time, and a few rounds.
    while begun.elapsed() < time || rounds.len() < LEAST_ROUNDS {
        let start = Instant::now();
        round()?;
        rounds.push(start.elapsed());
    }
    rounds.sort_unstable();
    Ok(rounds[rounds.len() / 2])
}

fn memory_copy(time: Duration) -> ndshare::Result<Figure> {
    let (from, mut to) = (vec![1_u8; COPIED_BYTES], vec![0_u8; COPIED_BYTES]);
    let median = median(time, || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        Ok(())
    })?;
    let what = "64 MiB from memory to memory by one thread: the limit of what fits no cache";
    Ok(Figure { name: "copy", what, median, bytes: COPIED_BYTES })
}

/// A ring with one reader of every frame.
fn ring(arena: &Arc<Arena>) -> ndshare::Result<(Arc<Ring>, Reader)> {
    let forever = Deadline::never();
    let ring = Ring::new(arena, Format::new(&SHAPE, Number::U16), RingOptions::slots(4), &forever)?;
    let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    Ok((ring, reader))
}

fn hand_over(arena: &Arc<Arena>, time: Duration) -> ndshare::Result<Figure> {
    let (forever, (ring, reader)) = (Deadline::never(), ring(arena)?);
    let median = median(time, || {
        ring.begin_own(&forever)?.publish(Content::default(), &forever)?;
        reader.get(&forever).map(drop)
    })?;
    let what = "a frame of a ring is begun, published and got, without its bytes";
    Ok(Figure { name: "hand over", what, median, bytes: 0 })
}

fn put(arena: &Arc<Arena>, time: Duration) -> ndshare::Result<Figure> {
    let (forever, (ring, reader)) = (Deadline::never(), ring(arena)?);
    let pixels = vec![7_u16; SHAPE[0] * SHAPE[1]];
    let median = median(time, || {
        let mut frame = ring.begin_own(&forever)?;
        frame.array()?.copy_from_slice(&pixels)?;
        frame.publish(Content::default(), &forever)?;
        reader.get(&forever).map(drop)
    })?;
    let what = "a frame of 1080 x 1920 uint16 is copied into a ring, and got";
    Ok(Figure { name: "put", what, median, bytes: FRAME_BYTES })
}

fn joined(arena: &Arc<Arena>, time: Duration) -> ndshare::Result<Figure> {
    let part = |_| Array::zeros(arena, &[512, 1024], Number::U16);
    let parts = (0..PARTS).map(part).collect::<ndshare::Result<Vec<_>>>()?;
    let (all, out) = (parts.iter().collect::<Vec<_>>(), Array::zeros(arena, &[512, 1024 * PARTS], Number::U16)?);
    let median = median(time, || gather::concatenate(&all, 1, Some(&out)).map(drop))?;
    let what = "32 images of 1 MiB become one, side by side";
    Ok(Figure { name: "gather", what, median, bytes: PARTS << 20 })
}

fn transformed(arena: &Arc<Arena>, time: Duration) -> ndshare::Result<Figure> {
    let frame = Array::zeros(arena, &SHAPE, Number::F32)?;
    let median = median(time, || fft::rfft2(&frame).map(drop))?;
    let what = "the real Fourier transform of a frame of 1080 x 1920 float32";
    Ok(Figure { name: "rfft2", what, median, bytes: 0 })
}

/// What the system calls the processor.
fn cpu_name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name") || line.starts_with("CPU part"));
    line.and_then(|line| line.split(": ").nth(1)).unwrap_or("an unknown processor").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_of_the_rounds_after_the_first() {
        let mut rounds = 0;
        let found = median(Duration::ZERO, || {
            rounds += 1;
            if rounds == 1 {
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        });
        assert!(found.unwrap() < Duration::from_millis(100));
        assert_eq!(rounds, 1 + LEAST_ROUNDS);
    }

    #[test]
    fn figures_have_a_speed_where_bytes_move() {
        let figure = |bytes| Figure { name: "x", what: "y", median: Duration::from_millis(1), bytes };
        assert_eq!((figure(1 << 20).gb_per_s(), figure(0).gb_per_s()), (Some(1.048_576), None));
        assert!(figure(0).line().contains("1000.00 µs"));
    }
}
