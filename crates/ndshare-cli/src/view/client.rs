//! One page that looks on: what it asked for, and what it is sent.
//!
//! A picture is sent when the page has said that the last one arrived, and then the newest one: who is slow gets fewer, and
//! nothing piles up anywhere. A thread reads what the page says; this one makes pictures, and waits at a bell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ndshare::{Error, Result};
use serde_json::{Value, json};

use super::bell::{Bell, locked};
use super::field::{self, Chosen};
use super::measure;
use super::message::{self, Desk, Head, Kind};
use super::plane::{Part, Plane};
use super::reduce::{Region, Seen};
use super::shown::{MOST_COPY_BYTES, Shown};
use super::source::Source;
use super::spectrum;
use super::tiff;
use super::wish::{Ask, Format, MOST_PIXELS, Wish};
use crate::npy;

/// How often a page hears how its sources are, when nothing new happens.
const TELL: Duration = Duration::from_millis(500);
/// How often it is asked for a sign of life.
const PING: Duration = Duration::from_secs(5);
/// The same note is sent again after so long at the earliest.
const NOTE: Duration = Duration::from_secs(2);
/// A page gets a new frame so often at the most: no eye sees more, and a fast display would ask for more.
const PACE: Duration = Duration::from_millis(16);
/// A histogram and a spectrum are made so often at the most.
const HISTOGRAM: Duration = Duration::from_millis(200);
const SPECTRUM: Duration = Duration::from_millis(250);
/// More messages than these do not wait: who sends so many is no page of ours.
const MOST_ASKS: usize = 1000;
/// Memory for pictures is kept up to here: a window as large as the largest displays.
const MOST_DESK_BYTES: usize = 128 << 20;

/// What a page said, on its way from the thread that reads it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    asks: Mutex<(VecDeque<(usize, Ask)>, bool)>,
    pub(super) bell: Arc<Bell>,
}

impl Inbox {
    /// Whether there was room for it. A wish takes the place of the one before it: on a slow line they come faster than they
    /// are heeded, as with each move of the pointer.
    pub(super) fn put(&self, source: usize, ask: Ask) -> bool {
        let mut asks = locked(&self.asks);
        let is_wish = matches!(ask, Ask::Wish(_));
        if is_wish && asks.0.back().is_some_and(|(of, last)| *of == source && matches!(last, Ask::Wish(_))) {
            asks.0.pop_back();
        }
        let has_room = asks.0.len() < MOST_ASKS;
        if has_room {
            asks.0.push_back((source, ask));
        }
        drop(asks);
        self.bell.ring();
        has_room
    }

    /// The page is gone.
    pub(super) fn close(&self) {
        locked(&self.asks).1 = true;
        self.bell.ring();
    }

    fn is_closed(&self) -> bool {
        locked(&self.asks).1
    }
}

/// Where messages go.
pub(super) trait Out {
    /// What follows is text.
    fn text(&mut self, text: String) -> std::io::Result<()>;
    /// A picture or a file.
    fn binary(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// Asks the other side for a sign of life.
    fn ping(&mut self) -> std::io::Result<()>;
}

/// One source, as the page looks at it.
#[derive(Debug)]
struct Seat {
    source: Arc<Source>,
    wish: Option<Wish>,
    /// Whether the frame must be sent once more, because it is looked at otherwise.
    is_stale: bool,
    /// Messages that the page has not confirmed.
    in_flight: u32,
    /// Which frame was sent last. It is not kept: a page that is slow, or asleep, keeps nothing of the ring's.
    sent: Option<(u64, u64)>,
    /// Before then there is no newer one.
    next: Instant,
    /// The frame that stands still.
    held: Option<Arc<Shown>>,
    histogram: Instant,
    spectrum: Instant,
    told: Value,
    /// What was said last of a frame that cannot be shown, and when.
    noted: (String, Instant),
}

impl Seat {
    fn new(source: Arc<Source>) -> Self {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
        Self {
            source,
            wish: None,
            is_stale: false,
            in_flight: 0,
            sent: None,
            next: long_ago,
            held: None,
            histogram: long_ago,
            spectrum: long_ago,
            told: Value::Null,
            noted: (String::new(), long_ago),
        }
    }

    /// What is to be looked at: what stands still, or the newest.
    fn shown(&self) -> Option<Arc<Shown>> {
        self.held.clone().or_else(|| self.source.shown())
    }
}

/// Serves a page until it is gone.
pub(super) fn serve(sources: &[Arc<Source>], inbox: &Inbox, out: &mut dyn Out) -> std::io::Result<()> {
    let mut seats: Vec<Seat> = sources.iter().cloned().map(Seat::new).collect();
    let mut desk = Desk::default();
    seats.iter().for_each(|seat| seat.source.tell(&inbox.bell));
    let (mut heard, mut due, mut pinged) = (0, Instant::now(), Instant::now());
    out.text(json!({ "type": "hello", "sources": sources.len(), "version": env!("CARGO_PKG_VERSION") }).to_string())?;
    // BOUND: until the page is gone, which also a write tells.
    while !inbox.is_closed() {
        let asks = std::mem::take(&mut locked(&inbox.asks).0);
        for (index, ask) in asks {
            if let Some(seat) = seats.get_mut(index) {
                seat.hear(index, ask, out)?;
            }
        }
        for (index, seat) in seats.iter_mut().enumerate() {
            seat.send(index, &mut desk, out)?;
            seat.tell(index, Instant::now() >= due, out)?;
        }
        if Instant::now() >= due {
            due = Instant::now() + TELL;
        }
        if pinged.elapsed() >= PING {
            out.ping()?;
            pinged = Instant::now();
        }
        if desk.len_bytes() > MOST_DESK_BYTES {
            desk = Desk::default();
        }
        let now = Instant::now();
        let next = seats.iter().filter(|seat| seat.is_early(now)).map(|seat| seat.next).min();
        heard = inbox.bell.wait(heard, next.map_or(due, |next| next.min(due)).saturating_duration_since(now));
    }
    Ok(())
}

impl Seat {
    fn hear(&mut self, index: usize, ask: Ask, out: &mut dyn Out) -> std::io::Result<()> {
        match ask {
            Ask::Next => self.in_flight = self.in_flight.saturating_sub(1),
            Ask::Wish(wish) => (self.wish, self.is_stale) = (Some(*wish), true),
            Ask::Pause(false) => (self.held, self.is_stale) = (None, true),
            Ask::Pause(true) => {
                // A copy: what stands still may stand for hours, and nobody else is to miss its memory.
                let still = self.shown().map(|shown| shown.still());
                self.hold(still.transpose(), index, out)?;
            }
            Ask::Step(by) => {
                let step = self.step(by);
                self.hold(step, index, out)?;
            }
            Ask::Save(format) => self.save(index, format, out)?,
        }
        Ok(())
    }

    fn hold(&mut self, found: Result<Option<Shown>>, index: usize, out: &mut dyn Out) -> std::io::Result<()> {
        match found {
            Ok(Some(shown)) => (self.held, self.is_stale) = (Some(Arc::new(shown)), true),
            Ok(None) => return note(index, "the ring keeps no other frame in this direction", out),
            Err(error) => return note(index, &error.to_string(), out),
        }
        Ok(())
    }

    /// The frame that is so many on, or the next one in that direction that the ring still keeps.
    fn step(&self, by: i64) -> Result<Option<Shown>> {
        let (Some(shown), Some(window)) = (self.shown(), self.source.window()) else { return Ok(None) };
        let mut seq = shown.seq.checked_add_signed(by);
        // BOUND: the frames of the window.
        while let Some(wanted) = seq.filter(|seq| window.contains(seq)) {
            if let Some(found) = self.source.kept(wanted)? {
                return Ok(Some(found));
            }
            seq = wanted.checked_add_signed(if by < 0 { -1 } else { 1 });
        }
        Ok(None)
    }

    /// Whether it could have a newer frame, and is to wait for that.
    fn is_early(&self, now: Instant) -> bool {
        self.wish.is_some() && self.in_flight == 0 && self.held.is_none() && !self.is_stale && now < self.next
    }

    /// Sends a picture if the page may have one and there is one that it has not.
    fn send(&mut self, index: usize, desk: &mut Desk, out: &mut dyn Out) -> std::io::Result<()> {
        let (Some(wish), 0) = (&self.wish, self.in_flight) else { return Ok(()) };
        let now = Instant::now();
        if self.is_early(now) {
            return Ok(());
        }
        let is_paused = self.held.is_some();
        let shown = self.shown();
        let is_new = shown.as_ref().is_some_and(|shown| Some(shown.id()) != self.sent);
        let Some(shown) = shown.filter(|_| is_new || self.is_stale) else {
            if !is_paused {
                self.source.want();
            }
            return Ok(());
        };
        let wish = wish.clone();
        let has_spectrum = wish.spectrum.is_some() && (self.is_stale || is_new && self.spectrum.elapsed() >= SPECTRUM);
        let made = field::choose(&shown, wish.field.as_deref());
        let spectrum = made.as_ref().ok().filter(|_| has_spectrum).map(|chosen| {
            self.spectrum = now;
            spectrum_message(index, &chosen.shown, &wish, desk).map(<[u8]>::to_vec)
        });
        let made = made.and_then(|chosen| self.picture(index, &chosen, &wish, desk));
        (self.sent, self.is_stale, self.next) = (Some(shown.id()), false, now + PACE);
        // A page may take what it is sent for as long as it likes: the frame is not kept meanwhile.
        drop(shown);
        self.send_one(index, made, out)?;
        spectrum.map_or(Ok(()), |made| self.send_one(index, made.as_deref().map_err(Error::clone), out))
    }

    /// Sends what could be made, or says why it could not.
    fn send_one(&mut self, index: usize, made: Result<&[u8]>, out: &mut dyn Out) -> std::io::Result<()> {
        match made {
            Ok(message) => {
                self.in_flight += 1;
                out.binary(message)
            }
            Err(error) => self.note(index, error.to_string(), out),
        }
    }

    /// Says why a frame cannot be shown; of the frames behind it, which may be many, the same is not said again at once.
    fn note(&mut self, index: usize, text: String, out: &mut dyn Out) -> std::io::Result<()> {
        if text == self.noted.0 && self.noted.1.elapsed() < NOTE {
            return Ok(());
        }
        self.noted = (text, Instant::now());
        let text = &self.noted.0;
        out.text(json!({ "type": "note", "source": index, "text": text, "lasts": true }).to_string())
    }

    /// The picture of a frame.
    fn picture<'a>(&mut self, index: usize, chosen: &Chosen, wish: &Wish, desk: &'a mut Desk) -> Result<&'a [u8]> {
        let shown = &chosen.shown;
        let plane = Plane::of(shown, &wish.lead, wish.has_colours, wish.part)?;
        let region = region(&plane, wish.region);
        let mut told = self.told_of(&plane, shown, &region, wish)?;
        if let Some(name) = &chosen.name {
            (told["field"], told["fields"]) = (json!(name), json!(chosen.names));
        }
        let limit = wish.limit.map(|limit| plane.relative(limit));
        let seen = Seen { plane: &plane, region: &region, window: wish.window, limit };
        desk.picture(&Head { kind: Kind::Picture, source: index, seq: shown.seq, told: &told }, &seen)
    }

    /// What is said of a frame beside its picture.
    fn told_of(&mut self, plane: &Plane<'_>, shown: &Shown, region: &Region, wish: &Wish) -> Result<Value> {
        let mut told = about(plane, shown);
        told["paused"] = json!(self.held.is_some());
        if let Some(window) = self.source.window() {
            told["kept"] = json!([window.start, window.end]);
        }
        measure::values(plane, region, wish, &mut told)?;
        if self.is_stale || self.histogram.elapsed() >= HISTOGRAM {
            self.histogram = Instant::now();
            told["histogram"] = measure::histogram(plane, region)?;
        }
        if let Some(line) = wish.line {
            told["profile"] = measure::profile(plane, line)?;
        }
        if let Some(rectangle) = wish.rectangle {
            told["rectangle"] = measure::rectangle(plane, rectangle)?;
        }
        Ok(told)
    }

    fn save(&mut self, index: usize, format: Format, out: &mut dyn Out) -> std::io::Result<()> {
        match self.file(index, format) {
            Ok(message) => out.binary(&message),
            Err(why) => note(index, &why, out),
        }
    }

    /// What is seen, as the message of a file.
    fn file(&self, index: usize, format: Format) -> std::result::Result<Vec<u8>, String> {
        let shown = self.shown().ok_or("there is no frame to save yet")?;
        if shown.len_bytes() > MOST_COPY_BYTES {
            return Err("more than 1 GiB is saved by `ndshare dump --frames 1`, or by np.save".to_owned());
        }
        let wish = self.wish.clone().unwrap_or_default();
        let chosen = field::choose(&shown, wish.field.as_deref()).map_err(|error| error.to_string())?;
        let shown = &chosen.shown;
        let plane = Plane::of(shown, &wish.lead, wish.has_colours, wish.part).map_err(|error| error.to_string())?;
        let of = chosen.name.as_ref().map_or_else(String::new, |name| format!("-{}", file_name(name)));
        let stem = format!("{}{of}-{:010}", file_name(&self.source.name), shown.seq);
        let told = |ending: &str| json!({ "name": format!("{stem}.{ending}") });
        let head = |kind, told| Head { kind, source: index, seq: shown.seq, told };
        let whole = || plane.bytes(0..plane.height, 0..plane.width).map_err(|error| error.to_string());
        match format {
            Format::Npy => {
                let ranges: Vec<_> = shown.shape.iter().map(|&length| 0..length).collect();
                let items = shown.part(&ranges).map_err(|error| error.to_string())?;
                let contents = [npy::header(&shown.shape, &shown.element), items].concat();
                Ok(message::file(&head(Kind::File, &told("npy")), &contents))
            }
            Format::Tiff => {
                let contents = tiff::file(&shown.element, [plane.height, plane.width], plane.colours, &whole()?)?;
                Ok(message::file(&head(Kind::File, &told("tiff")), &contents))
            }
            Format::Picture => {
                let limit = wish.limit.map(|limit| plane.relative(limit));
                let (region, window) = (region(&plane, None), [MOST_PIXELS; 2]);
                let seen = Seen { plane: &plane, region: &region, window, limit };
                let mut desk = Desk::default();
                let message = desk.picture(&head(Kind::Print, &told("png")), &seen);
                message.map(<[u8]>::to_vec).map_err(|error| error.to_string())
            }
        }
    }

    /// Says how the source is, if that is new.
    fn tell(&mut self, index: usize, is_due: bool, out: &mut dyn Out) -> std::io::Result<()> {
        let mut told = self.source.told();
        // Counts alone are no news between two times.
        if !is_due && told["state"] == self.told["state"] && told["text"] == self.told["text"] {
            return Ok(());
        }
        if told == self.told {
            return Ok(());
        }
        self.told = told.clone();
        (told["type"], told["source"]) = (json!("status"), json!(index));
        out.text(told.to_string())
    }
}

fn note(index: usize, text: &str, out: &mut dyn Out) -> std::io::Result<()> {
    out.text(json!({ "type": "note", "source": index, "text": text }).to_string())
}

/// The spectrum of what is seen of a frame, as a message.
fn spectrum_message<'a>(index: usize, shown: &Shown, wish: &Wish, desk: &'a mut Desk) -> Result<&'a [u8]> {
    let plane = Plane::of(shown, &wish.lead, wish.has_colours, wish.part)?;
    let (spectrum, of) = spectrum::of(&plane, &region(&plane, wish.region))?;
    let plane = Plane::of(&spectrum, &[], false, Part::Magnitude)?;
    let whole = region(&plane, None);
    let window = wish.spectrum.unwrap_or(wish.window);
    let seen = Seen { plane: &plane, region: &whole, window, limit: None };
    let told =
        json!({ "rows": plane.height, "columns": plane.width, "of": [of.xs.start, of.ys.start, of.xs.end, of.ys.end] });
    desk.picture(&Head { kind: Kind::Spectrum, source: index, seq: shown.seq, told: &told }, &seen)
}

/// What a frame is.
fn about(plane: &Plane<'_>, shown: &Shown) -> Value {
    let age = ndshare::os::monotonic().as_nanos() as u64;
    json!({
        "shape": shown.shape,
        "dtype": shown.element.name(),
        "bytes": shown.len_bytes(),
        "rows": plane.height,
        "columns": plane.width,
        "lead": plane.lead(),
        "stack": shown.shape[..plane.lead().len()],
        "complex": plane.part.is_some(),
        "age_ms": age.saturating_sub(shown.time_ns) as f64 * 1e-6,
    })
}

/// The part of a picture that is seen: as asked for, as far as there is such a part.
fn region(plane: &Plane<'_>, wanted: Option<[usize; 4]>) -> Region {
    let whole = Region { ys: 0..plane.height, xs: 0..plane.width };
    let Some([left, top, right, bottom]) = wanted else { return whole };
    let (xs, ys) = (left..right.min(plane.width), top..bottom.min(plane.height));
    if xs.is_empty() || ys.is_empty() { whole } else { Region { ys, xs } }
}

/// A name for a file: no slash, nothing hidden.
fn file_name(name: &str) -> String {
    let plain = |char: char| if char.is_alphanumeric() || "-_".contains(char) { char } else { '_' };
    name.chars().take(60).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_takes_the_place_of_the_one_before_it_and_others_are_bounded() {
        let inbox = Inbox::default();
        let wish = |at| Ask::Wish(Box::new(Wish { cursor: Some([at, 0]), ..Wish::default() }));
        assert!((0..5000).all(|at| inbox.put(0, wish(at))));
        assert!(inbox.put(1, wish(1)) && inbox.put(0, Ask::Next) && inbox.put(0, wish(7)));
        let asks = Vec::from(std::mem::take(&mut locked(&inbox.asks).0));
        assert_eq!(asks, [(0, wish(4999)), (1, wish(1)), (0, Ask::Next), (0, wish(7))]);
        assert!((0..MOST_ASKS).all(|_| inbox.put(0, Ask::Next)) && !inbox.put(0, Ask::Next));
    }
}
