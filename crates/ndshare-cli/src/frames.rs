//! `ndshare cat` and `ndshare dump`: the frames of a ring, as bytes or as files.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndshare::registry::{self, ObjectKind, Wanted};
use ndshare::ring::{Mode, Start};
use ndshare::{Arena, Array, Deadline, Frame, Kind, Reader, Ring, names, session};
use serde_json::json;

use crate::Outcome;
use crate::args::{Cat, Dump, Frames};
use crate::npy;

/// Whether a frame was written.
type Taken = Result<(), Box<dyn Error>>;

/// How often a session is looked at for the name of a ring.
const NAP: Duration = Duration::from_millis(20);

pub(crate) fn cat(wanted: &Cat, out: &mut dyn Write) -> Outcome {
    each(&wanted.frames, &mut |frame| {
        let array = frame.array()?;
        if wanted.npy {
            out.write_all(&npy::header(&array))?;
        }
        out.write_all(&array.to_bytes()?)?;
        // Whoever reads is to have it now.
        Ok(out.flush()?)
    })
}

pub(crate) fn dump(wanted: &Dump, is_json: bool, out: &mut dyn Write) -> Outcome {
    let directory = &wanted.directory;
    fs::create_dir_all(directory).map_err(|error| format!("making {} failed: {error}", directory.display()))?;
    each(&wanted.frames, &mut |frame| {
        let array = frame.array()?;
        let path = directory.join(format!("frame-{:010}.npy", frame.seq));
        save(&array, &path).map_err(|error| format!("writing {} failed: {error}", path.display()))?;
        match is_json {
            true => writeln!(out, "{}", told(frame, &array, &path.display().to_string()))?,
            false => writeln!(out, "{}", path.display())?,
        }
        Ok(out.flush()?)
    })
}

fn told(frame: &Frame, array: &Array, path: &str) -> serde_json::Value {
    let (shape, dtype) = (array.shape(), array.element().to_string());
    json!({ "path": path, "seq": frame.seq, "time_ns": frame.time_ns, "shape": shape, "dtype": dtype })
}

/// Writes a file that has its name only when it is whole.
fn save(array: &Array, path: &Path) -> Taken {
    let part = path.with_extension("npy.part");
    let mut file = fs::File::create(&part)?;
    file.write_all(&npy::header(array))?;
    file.write_all(&array.to_bytes()?)?;
    Ok(fs::rename(&part, path)?)
}

/// Hands out the frames that are wanted, until there are no more.
fn each(wanted: &Frames, take: &mut dyn FnMut(&Frame) -> Taken) -> Outcome {
    let ring = find(wanted)?;
    let mode = if wanted.latest { Mode::Latest } else { Mode::Every };
    let reader = ring.reader(mode, wanted.start.parse::<Start>()?, &Deadline::never())?;
    let end = wanted.seconds.and_then(|seconds| Instant::now().checked_add(seconds));
    // Once the time is over, what was published by then still counts, and no more: the stream may be fast.
    let mut bound = None;
    for _ in 0..wanted.frames.unwrap_or(u64::MAX) {
        if bound.is_none() && end.is_some_and(|end| Instant::now() >= end) {
            bound = Some(ring.written());
        }
        match next(&reader, end)? {
            Some(frame) if bound.is_none_or(|bound| frame.seq < bound) => take(&frame)?,
            _ => break,
        }
    }
    if reader.missed() > 0 && !wanted.latest {
        writeln!(io::stderr(), "ndshare: {} frames went before they could be read", reader.missed())?;
    }
    reader.close()?;
    Ok(true)
}

/// The next frame; none when the stream or the time is over.
fn next(reader: &Reader, end: Option<Instant>) -> ndshare::Result<Option<Frame>> {
    let rest = end.map(|end| end.saturating_duration_since(Instant::now()));
    match reader.get(&rest.map_or(Deadline::never(), Deadline::after)) {
        Ok(frame) => Ok(Some(frame)),
        Err(error) if matches!(error.kind(), Kind::Closed | Kind::Empty) => Ok(None),
        Err(error) => Err(error),
    }
}

fn find(wanted: &Frames) -> Result<Arc<Ring>, Box<dyn Error>> {
    let deadline = Deadline::after(wanted.wait);
    match &wanted.session {
        None => Ok(names::attach_readonly(&wanted.ring, &deadline)?.try_into()?),
        Some(session) => {
            let wanted = &wanted.ring;
            let missing = || format!("expected a ring {wanted:?} in a session {session:?}, got none: see ndshare ls");
            // BOUND: until there is such a ring, or `deadline` ends.
            loop {
                if let Some(ring) = find_in(session, wanted)? {
                    return Ok(ring);
                }
                deadline.go_on("a ring").map_err(|_| missing())?;
                std::thread::sleep(NAP);
            }
        }
    }
}

/// The ring of a name in the session of a name, which this process joins for that.
fn find_in(session: &str, ring: &str) -> ndshare::Result<Option<Arc<Ring>>> {
    let Some((_, place)) = session::listed()?.into_iter().find(|(name, _)| name == session) else { return Ok(None) };
    let arena = match Arena::attach_as(&place, true) {
        // It ended, and its entry is still there.
        Err(error) if error.kind() == Kind::Unreachable => return Ok(None),
        other => other?,
    };
    registry::find(&arena, &Wanted::new(ObjectKind::Ring, ring), &Deadline::never())?.map(Ring::open).transpose()
}
