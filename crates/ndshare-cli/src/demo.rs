//! `ndshare demo`: a camera that there is not, in a process of its own, and a reader of its frames.
//!
//! The camera is this command once more, with the reference of the ring. It ends when the ring is closed, or with this process:
//! the pipe that is its standard input tells it.

use std::error::Error;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ndshare::os::parent::end_with;
use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
use ndshare::{Deadline, Kind, Number, Reader, Ring, names};
use serde_json::json;

use crate::Outcome;
use crate::args::Demo;

const SHAPE: [usize; 2] = [1080, 1920];
const FRAME_BYTES: f64 = (SHAPE[0] * SHAPE[1] * 2) as f64;
const NAME: &str = "demo";
const PATIENCE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn run(wanted: &Demo, is_json: bool, out: &mut dyn Write) -> Outcome {
    if let Some(reference) = &wanted.camera {
        return film(reference, wanted.rate).map(|()| true);
    }
    let (forever, soon) = (Deadline::never(), Deadline::after(PATIENCE));
    let format = Format { name: Some(NAME.to_owned()), ..Format::new(&SHAPE, Number::U16) };
    let ring = Ring::new(ndshare::session()?, format, RingOptions::slots(8), &forever)?;
    names::publish(NAME, &ring, false, &soon)?;
    let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    let mut camera = start(&ring, wanted.rate)?;
    if !is_json {
        writeln!(out, "process {} writes frames to the ring \"{NAME}\"; see also: ndshare top", camera.id())?;
        out.flush()?;
    }
    let outcome = read(&reader, wanted.seconds, is_json, out);
    names::unpublish(NAME, &soon)?;
    ring.close(&soon)?;
    let status = camera.wait()?;
    outcome?;
    Ok(status.success())
}

/// This command, as the camera.
fn start(ring: &Ring, rate: f64) -> Result<Child, Box<dyn Error>> {
    // By way of Python there are words of Python's before the verb.
    let mut words = std::env::args_os().take_while(|word| word != "demo");
    let program = words.next().ok_or("expected the name of this program before its verb, got none")?;
    let (name, value) = ndshare::session()?.environment();
    let mut command = Command::new(program);
    command.args(words).args(["demo", "--rate", &rate.to_string(), "--camera", &ring.reference().to_string()]);
    Ok(command.env(name, value).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?)
}

/// Writes frames until the ring is closed.
fn film(reference: &str, rate: f64) -> Result<(), Box<dyn Error>> {
    end_with(parent_id(), 0)?;
    let forever = Deadline::never();
    let ring = Ring::open_reference(&reference.parse()?, &forever)?;
    let begun = Instant::now();
    for number in 0_u32.. {
        if rate > 0.0 {
            let due = Duration::from_secs_f64(f64::from(number) / rate);
            sleep(due.saturating_sub(begun.elapsed()));
        }
        match put(&ring, number as u16, &forever) {
            Err(error) if error.kind() == Kind::Closed => break,
            other => other?,
        }
    }
    Ok(())
}

fn put(ring: &Arc<Ring>, number: u16, deadline: &Deadline) -> ndshare::Result<()> {
    let mut frame = ring.begin_own(deadline)?;
    frame.array()?.fill(number)?;
    frame.publish(Content::default(), deadline).map(drop)
}

/// Takes frames as they come, and tells each second how many.
fn read(reader: &Reader, whole: Duration, is_json: bool, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + whole;
    // BOUND: `end`.
    while Instant::now() < end {
        let begun = Instant::now();
        let until = end.min(begun + SECOND);
        let mut frames = 0_u32;
        // BOUND: `until`.
        while Instant::now() < until {
            match reader.get(&Deadline::after(until.saturating_duration_since(Instant::now()))) {
                Ok(_) => frames += 1,
                Err(error) if error.kind() == Kind::Empty => break,
                Err(error) => return Err(error.into()),
            }
        }
        let per_s = f64::from(frames) / begun.elapsed().as_secs_f64();
        let (bytes_per_s, lag) = (per_s * FRAME_BYTES, reader.lag());
        match is_json {
            true => writeln!(out, "{}", json!({ "frames_per_s": per_s, "bytes_per_s": bytes_per_s, "lag": lag }))?,
            false => writeln!(out, "{per_s:7.1} frames/s {:7.3} GB/s, lag {lag}", bytes_per_s * 1e-9)?,
        }
        out.flush()?;
    }
    Ok(())
}
