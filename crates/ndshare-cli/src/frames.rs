//! `ndshare cat` and `ndshare dump`: the frames of a ring, as bytes or as files.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ndshare::arena::{BlockId, Look};
use ndshare::names::Object;
use ndshare::registry::{self, ObjectKind, Wanted};
use ndshare::ring::{Glance, Mode, SeenFrame, Start};
use ndshare::{Arena, Deadline, Frame, Kind, Reader, Ring, names, session};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Cat, Dump, Frames};
use crate::{note, npy};

/// Whether a frame was written.
type Taken = Result<(), Box<dyn Error>>;

/// How often a session or an arena is looked at for the name of a ring, or for frames.
const NAP: Duration = Duration::from_millis(20);

pub(crate) fn cat(wanted: &Cat, out: &mut dyn Write) -> Outcome {
    each(&wanted.frames, &mut |frame| {
        if wanted.notes {
            writeln!(out, "{}", noted(frame)?)?;
            return Ok(out.flush()?);
        }
        if wanted.npy {
            out.write_all(&npy::header(&frame.shape, &frame.element))?;
        }
        out.write_all(&frame.bytes)?;
        // Whoever reads is to have it now.
        Ok(out.flush()?)
    })
}

pub(crate) fn dump(wanted: &Dump, is_json: bool, out: &mut dyn Write) -> Outcome {
    let directory = &wanted.directory;
    fs::create_dir_all(directory).map_err(|error| format!("making {} failed: {error}", directory.display()))?;
    each(&wanted.frames, &mut |frame| {
        let path = directory.join(format!("frame-{:010}.npy", frame.seq));
        save(frame, &path).map_err(|error| format!("writing {} failed: {error}", path.display()))?;
        match is_json {
            true => writeln!(out, "{}", told(frame, &path.display().to_string())?)?,
            false => writeln!(out, "{}", path.display())?,
        }
        Ok(out.flush()?)
    })
}

/// What there is to say of a frame that was written to a file.
fn told(frame: &SeenFrame, path: &str) -> ndshare::Result<Value> {
    let mut told = noted(frame)?;
    told["path"] = json!(path);
    told["shape"] = json!(frame.shape);
    told["dtype"] = json!(frame.element.to_string());
    Ok(told)
}

/// Number, times and note of a frame.
fn noted(frame: &SeenFrame) -> ndshare::Result<Value> {
    let SeenFrame { seq, time_ns, published_ns, .. } = frame;
    let note = frame.note.as_ref().map_err(Clone::clone)?.as_ref();
    let (kind, value) = (note.map(note::kind), note.map(note::value));
    Ok(json!({ "seq": seq, "time_ns": time_ns, "published_ns": published_ns, "note_kind": kind, "note": value }))
}

/// Writes a file that has its name only when it is whole.
fn save(frame: &SeenFrame, path: &Path) -> Taken {
    let part = path.with_extension("npy.part");
    let written = write(frame, &part).and_then(|()| fs::rename(&part, path));
    written.inspect_err(|_| _ = fs::remove_file(&part))?;
    Ok(())
}

fn write(frame: &SeenFrame, path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&npy::header(&frame.shape, &frame.element))?;
    file.write_all(&frame.bytes)
}

/// What to do with a name of something that has no frames.
#[cold]
fn no_ring(name: &str, kind: ObjectKind, arena: Option<&Path>) -> String {
    let (ring, attach) = match arena {
        Some(path) => ("a ring", format!("nds.Arena(path={path:?}).attach({name:?})")),
        None => ("a name of kind ring", format!("nds.attach({name:?})")),
    };
    let instead = match kind {
        ObjectKind::Array => format!("an array is saved in Python by nds.save(\"x.npy\", {attach})"),
        _ => "only rings have frames, see ndshare ls".to_owned(),
    };
    format!("expected {name:?} to be {ring}, got one of kind {kind}: {instead}")
}

/// Hands out the frames that are wanted, until there are no more.
fn each(wanted: &Frames, take: &mut dyn FnMut(&SeenFrame) -> Taken) -> Outcome {
    let mut taken = 0_u64;
    let take = &mut |frame: &SeenFrame| {
        taken += 1;
        take(frame)
    };
    let missed = match &wanted.arena {
        Some(path) => each_seen(path, wanted, take)?,
        None => each_read(wanted, take)?,
    };
    if taken == 0 && wanted.start != "oldest" {
        writeln!(io::stderr(), "ndshare: no frame came; --start oldest takes those that are there")?;
    }
    if missed > 0 && !wanted.latest {
        writeln!(io::stderr(), "ndshare: {missed} frames went before they could be read")?;
    }
    Ok(true)
}

/// As a reader of the ring; how many frames it missed.
fn each_read(wanted: &Frames, take: &mut dyn FnMut(&SeenFrame) -> Taken) -> Result<u64, Box<dyn Error>> {
    let ring = find(wanted)?;
    let mode = if wanted.latest { Mode::Latest } else { Mode::Every };
    let reader = ring.reader(mode, wanted.start.parse::<Start>()?, &Deadline::never())?;
    let end = End::of(wanted);
    // Once the time is over, what was published by then still counts, and no more: the stream may be fast.
    let mut bound = None;
    for _ in 0..wanted.frames.unwrap_or(u64::MAX) {
        if bound.is_none() && end.is_there() {
            bound = Some(ring.written());
        }
        match next(&reader, end.0)? {
            Some(frame) if bound.is_none_or(|bound| frame.seq < bound) => take(&copied(&frame)?)?,
            _ => break,
        }
    }
    let missed = reader.missed();
    reader.close()?;
    Ok(missed)
}

fn copied(frame: &Frame) -> ndshare::Result<SeenFrame> {
    let array = frame.array()?;
    let (shape, element, bytes) = (array.shape().to_vec(), array.element().clone(), array.to_bytes()?);
    let Frame { seq, time_ns, published_ns, .. } = *frame;
    Ok(SeenFrame { seq, time_ns, published_ns, shape, element, bytes, note: frame.note() })
}

/// When the time is over; never, if none was named.
struct End(Option<Instant>);

impl End {
    fn of(wanted: &Frames) -> Self {
        Self(wanted.seconds.and_then(|seconds| Instant::now().checked_add(seconds)))
    }

    fn is_there(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// From outside, without a reader; how many frames went before they were read.
fn each_seen(path: &Path, wanted: &Frames, take: &mut dyn FnMut(&SeenFrame) -> Taken) -> Result<u64, Box<dyn Error>> {
    let (look, head) = find_seen(path, wanted)?;
    let glance = Glance::of(&look, head)?;
    let oldest = |written: u64| written.saturating_sub(glance.sizes.slots.into());
    let mut is_begun = wanted.start.parse::<Start>()? == Start::Next;
    let mut seq = if is_begun { glance.stats.written } else { oldest(glance.stats.written) };
    let (end, mut left, mut missed) = (End::of(wanted), wanted.frames.unwrap_or(u64::MAX), 0);
    // BOUND: the frames and the time that are wanted, the end of the stream, or that of whoever has the arena.
    while left > 0 {
        // Asked before the frames are counted, so that the last ones are among them.
        let is_last = end.is_there() || !look.has_anybody();
        look.check_len()?;
        let Ok(Glance { stats, .. }) = Glance::of(&look, head) else { break };
        let least = if wanted.latest { stats.written.saturating_sub(1) } else { oldest(stats.written) };
        missed += if is_begun { least.saturating_sub(seq) } else { 0 };
        seq = seq.max(least);
        while seq < stats.written && left > 0 {
            let frame = SeenFrame::of(&look, head, seq)?;
            look.check_len()?;
            match &frame {
                Some(frame) => take(frame)?,
                None => missed += u64::from(is_begun),
            }
            (is_begun, left) = (is_begun || frame.is_some(), left - u64::from(frame.is_some()));
            seq += 1;
        }
        if is_last || stats.closed {
            break;
        }
        std::thread::sleep(NAP);
    }
    Ok(missed)
}

/// The ring of a name in the arena at a path, from outside.
fn find_seen(path: &Path, wanted: &Frames) -> Result<(Look, BlockId), Box<dyn Error>> {
    let deadline = Deadline::after(wanted.wait);
    // BOUND: until there is such a ring, or `deadline` ends.
    loop {
        let found = Look::at_path(path).map(|look| (registry::find_seen(&look, &wanted.ring), look));
        let missing = match found {
            Ok((Some((ObjectKind::Ring, head)), look)) => return Ok((look, head)),
            Ok((Some((kind, _)), _)) => {
                return Err(no_ring(&wanted.ring, kind, Some(path)).into());
            }
            Ok((None, look)) => {
                look.check_len()?;
                format!("expected a ring {:?} in {}, got none: see ndshare ls", wanted.ring, path.display())
            }
            Err(error) => error.to_string(),
        };
        deadline.go_on("a ring").map_err(|_| missing)?;
        std::thread::sleep(NAP);
    }
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
        None => match names::attach_readonly(&wanted.ring, &deadline)? {
            Object::Ring(ring) => Ok(ring),
            other => Err(no_ring(&wanted.ring, other.kind(), None).into()),
        },
        Some(session) => {
            let wanted = &wanted.ring;
            let missing = || format!("expected a ring {wanted:?} in a session {session:?}, got none: see ndshare ls");
            // BOUND: until there is such a ring, or `deadline` ends.
            loop {
                if let Some(ring) = ring_in_session(session, wanted)? {
                    return Ok(ring);
                }
                deadline.go_on("a ring").map_err(|_| missing())?;
                std::thread::sleep(NAP);
            }
        }
    }
}

/// The ring of a name in the session of a name, which this process joins for that, to look; none where there is no such
/// session, or no such ring in it.
///
/// # Errors
/// What is no session or no ring any more, and a registry that is not to be trusted.
pub fn ring_in_session(session: &str, ring: &str) -> ndshare::Result<Option<Arc<Ring>>> {
    let Some((_, place)) = session::listed()?.into_iter().find(|(name, _)| name == session) else { return Ok(None) };
    let arena = match Arena::attach_as(&place, true) {
        // It ended, and its entry is still there.
        Err(error) if error.kind() == Kind::Unreachable => return Ok(None),
        other => other?,
    };
    registry::find(&arena, &Wanted::new(ObjectKind::Ring, ring), &Deadline::never())?.map(Ring::open).transpose()
}
