//! A hundred images of (256, 256, 4) bytes side by side in one of (256, 25600, 4), over and over, in safe Rust:
//! `montage [ROUNDS]` prints GB/s of each round's copy, and of a canvas that copies only what changed.

use ndshare::gather::{self, Source};
use ndshare::{Array, Canvas, Deadline, Number};
use std::time::{Duration, Instant};

const IMAGES: usize = 100;
const SHAPE: [usize; 3] = [256, 256, 4];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: u32 = std::env::args().nth(1).map_or(Ok(50), |rounds| rounds.parse())?;
    let arena = ndshare::session()?;
    let image = |number: usize| {
        let image = Array::empty(arena, &SHAPE, Number::U8)?;
        image.fill(number as u8).map(|()| image)
    };
    let images = (0..IMAGES).map(image).collect::<ndshare::Result<Vec<_>>>()?;
    let all: Vec<&Array> = images.iter().collect();
    let whole = [SHAPE[0], SHAPE[1] * IMAGES, SHAPE[2]];

    let out = Array::zeros(arena, &whole, Number::U8)?;
    let copied = best_of(rounds, |_| gather::concatenate(&all, 1, Some(&out)).map(drop))?;
    println!("concatenate   {:6.2} GB/s", out.len() as f64 / copied.as_secs_f64() / 1e9);

    let (canvas, forever) = (Canvas::new(arena, &whole, Number::U8)?, Deadline::never());
    let mut sources: Vec<Source<'_>> = images.iter().map(Source::fixed).collect();
    canvas.concatenate(&sources, 1, &forever)?;
    let one_changed = best_of(rounds, |round| {
        sources[round as usize % IMAGES] = Source::fixed(&images[(round as usize + 1) % IMAGES]);
        canvas.concatenate(&sources, 1, &forever).map(drop)
    })?;
    println!("canvas        {:6.1} µs with one image of {IMAGES} changed", one_changed.as_secs_f64() * 1e6);
    // What lies where, seen from both.
    assert_eq!(out.read::<u8>(&[7, 99 * 256, 0])?, 99);
    assert_eq!(canvas.array().read::<u8>(&[0, 0, 0])?, 1);
    Ok(())
}

/// How long the quickest of some rounds takes.
fn best_of(rounds: u32, mut work: impl FnMut(u32) -> ndshare::Result<()>) -> ndshare::Result<Duration> {
    let mut best = Duration::MAX;
    for round in 0..rounds.max(1) {
        let begin = Instant::now();
        work(round)?;
        best = best.min(begin.elapsed());
    }
    Ok(best)
}
