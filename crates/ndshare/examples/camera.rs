//! A camera in Rust whose frames Python reads: `camera PROGRAM ARGUMENTS…` starts a program with a reference to a reader of
//! the ring as its last argument (`nds.ref(text).open()` in Python), and writes a hundred frames.

use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
use ndshare::{Deadline, Number, Ring};
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (arguments, forever) = (std::env::args().collect::<Vec<_>>(), Deadline::never());
    let [_, program, rest @ ..] = &arguments[..] else { return Err("expected: PROGRAM ARGUMENTS…".into()) };
    let format = Format { name: Some("camera".into()), ..Format::new(&[480, 640], Number::U16) };
    let ring = Ring::new(ndshare::session()?, format, RingOptions::slots(8), &forever)?;
    // Made before the first frame: it counts from here on, however long the other program takes to begin.
    let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    let (name, value) = ndshare::session()?.environment();
    let mut viewer = Command::new(program).args(rest).arg(reader.reference()?.to_string()).env(name, value).spawn()?;
    for number in 0..100_u16 {
        let mut frame = ring.begin_own(&forever)?;
        frame.array()?.fill(number)?;
        frame.publish(Content::default(), &forever)?;
    }
    ring.close(&forever)?;
    println!("{}", viewer.wait()?);
    Ok(())
}
