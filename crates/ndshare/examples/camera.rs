//! A camera in Rust whose frames Python reads: `camera PROGRAM ARGUMENTS…` starts a program with a reference to the ring
//! as its last argument (`nds.ref(text).open()` in Python), and writes a hundred frames.

use ndshare::ring::{Content, Format, RingOptions};
use ndshare::{Deadline, Number, Ring, session};
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (arguments, forever) = (std::env::args().collect::<Vec<_>>(), Deadline::never());
    let [_, program, rest @ ..] = &arguments[..] else { return Err("expected: PROGRAM ARGUMENTS…".into()) };
    let format = Format { name: Some("camera".into()), ..Format::new(&[480, 640], Number::U16) };
    let ring = Ring::new(&ndshare::session()?, format, RingOptions::slots(8), &forever)?;
    let (name, value) = session::environment()?;
    let mut reader = Command::new(program).args(rest).arg(ring.reference().to_string()).env(name, value).spawn()?;
    while ring.stats(&forever)?.readers.is_empty() && reader.try_wait()?.is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for number in 0..100_u16 {
        let mut frame = ring.begin_own(&forever)?;
        frame.array()?.fill(number)?;
        frame.publish(Content::default(), &forever)?;
    }
    ring.close(&forever)?;
    println!("{}", reader.wait()?);
    Ok(())
}
