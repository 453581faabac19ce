//! Programs that nobody started together find each other by name.
//!
//! ```text
//! names camera NAME   publishes a ring of 16-bit images (480, 640) under a name, waits for a reader, writes 100 frames
//! names view NAME     waits 10 s for a ring of this name, and prints number and sum of each of its frames
//! names list          prints what is published
//! ```
//!
//! In Python the camera is `ring = nds.Ring((480, 640), "uint16", slots=8); nds.publish(name, ring)`, and the viewer
//! `for frame in nds.attach(name, timeout=10, readonly=True).reader(): …`.

use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
use ndshare::{Deadline, Kind, Ring, names};
use std::env;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const FOREVER: Deadline = Deadline::never();

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["camera", name] => camera(name),
        ["view", name] => view(name),
        ["list"] => list(),
        _ => Err("expected: camera NAME, view NAME, or list".into()),
    }
}

fn camera(name: &str) -> Outcome {
    let format = Format::new(&[480, 640], ndshare::Number::U16);
    let ring = Ring::new(ndshare::session()?, format, RingOptions::slots(8), &FOREVER)?;
    names::publish(name, &ring, false, &FOREVER)?;
    while ring.stats(&FOREVER)?.readers.is_empty() {
        sleep(Duration::from_millis(10));
    }
    for number in 0..100_u16 {
        let mut frame = ring.begin_own(&FOREVER)?;
        frame.array()?.fill(number)?;
        frame.publish(Content::default(), &FOREVER)?;
    }
    ring.close(&FOREVER)?;
    names::unpublish(name, &FOREVER)?;
    Ok(())
}

fn view(name: &str) -> Outcome {
    let soon = Deadline::new(Some(Duration::from_secs(10)), &|| Ok(()));
    // It only looks: no bug here could damage the camera's frames.
    let ring: Arc<Ring> = names::attach_readonly(name, &soon)?.try_into()?;
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER)?;
    loop {
        match reader.get(&FOREVER) {
            Ok(frame) => {
                let sum: u64 = frame.array()?.to_vec::<u16>()?.into_iter().map(u64::from).sum();
                println!("{} {sum}", frame.seq);
            }
            Err(error) if error.kind() == Kind::Closed => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn list() -> Outcome {
    for (name, kind) in names::names()? {
        println!("{kind} {name}");
    }
    Ok(())
}
