//! What rings and caches have done so far, and of two such samples what they do just now.

use std::path::Path;
use std::time::Instant;

use ndshare::arena::{BlockId, Look};
use ndshare::head::HeadKind;
use ndshare::names::{self, Listed};
use ndshare::ring::{self, ReaderStats, SeenNote};
use ndshare::{cache, session};
use serde_json::{Value, json};

use crate::note;
use crate::proc::{self, Place, Seen, path_value};

/// Longer notes are not read.
const MOST_NOTE: usize = 4096;

/// All arenas at one moment.
#[derive(Debug)]
pub(crate) struct Sample {
    at: Instant,
    arenas: Vec<Arena>,
}

#[derive(Debug)]
struct Arena {
    id: String,
    place: Option<Place>,
    sessions: Vec<String>,
    used_bytes: u64,
    budget_bytes: u64,
    rings: Vec<Ring>,
    caches: Vec<Cache>,
    /// Why there is no more to tell.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Ring {
    block: BlockId,
    name: String,
    seen: ring::Glance,
    note: Option<SeenNote>,
}

#[derive(Debug)]
struct Cache {
    block: BlockId,
    name: String,
    info: cache::Info,
}

impl Sample {
    /// Looks at every arena that a process we may look at has. None is joined, and nothing is written to one.
    pub(crate) fn take() -> Result<Self, Box<dyn std::error::Error>> {
        let seen = proc::arenas(Path::new("/proc"))
            .map_err(|error| format!("/proc could not be read: {error}; mount it to see arenas"))?;
        let (sessions, names) = (session::listed()?, names::listed()?);
        let arenas = seen.iter().map(|seen| {
            let here = seen.number();
            let sessions = sessions.iter().filter(|(_, place)| Some(place.id) == here);
            let names: Vec<&Listed> = names.iter().filter(|one| Some(one.locator.id) == here).collect();
            Arena::of(seen, sessions.map(|(name, _)| name.clone()).collect(), &names)
        });
        Ok(Self { at: Instant::now(), arenas: arenas.collect() })
    }
}

impl Arena {
    fn of(seen: &Seen, sessions: Vec<String>, names: &[&Listed]) -> Self {
        let mut arena = Self {
            id: seen.id.clone(),
            place: seen.place.clone(),
            sessions,
            used_bytes: 0,
            budget_bytes: 0,
            rings: Vec::new(),
            caches: Vec::new(),
            trouble: None,
        };
        match seen.look() {
            Ok(look) => arena.trouble = arena.fill(&look, names).err().map(|error| error.to_string()),
            Err(reason) => arena.trouble = Some(reason),
        }
        arena
    }

    fn fill(&mut self, look: &Look, names: &[&Listed]) -> ndshare::Result<()> {
        look.check()?;
        let stats = look.stats()?;
        (self.used_bytes, self.budget_bytes) = (stats.used_bytes, stats.budget_bytes);
        for block in look.blocks() {
            let published = names.iter().find(|one| one.block == block).map(|one| one.name.clone());
            let name = |own: Option<String>, kind| {
                let own = own.filter(|name| !name.is_empty());
                published.clone().or(own).unwrap_or_else(|| format!("{kind} {}", block.index))
            };
            // What cannot be read has just gone, or is an array that looks like a head.
            match look.head_kind(block) {
                Some(HeadKind::Ring) => self.rings.extend(ring::Glance::of(look, block).ok().map(|seen| {
                    let name = name(seen.format.name.clone(), "ring");
                    // One that is gone by now has none.
                    let note = SeenNote::of_newest(look, block, MOST_NOTE).ok().flatten();
                    Ring { block, name, seen, note }
                })),
                Some(HeadKind::Cache) => self.caches.extend(cache::Glance::of(look, block).ok().map(|seen| {
                    let name = name(Some(seen.name), "cache");
                    Cache { block, name, info: seen.info }
                })),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What goes on between two samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rates {
    pub(crate) seconds: f64,
    pub(crate) arenas: Vec<ArenaRates>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ArenaRates {
    pub(crate) id: String,
    pub(crate) place: Option<Place>,
    pub(crate) sessions: Vec<String>,
    pub(crate) used_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) rings: Vec<RingRates>,
    pub(crate) caches: Vec<CacheRates>,
    pub(crate) trouble: Option<String>,
}

/// A rate is none where the object was not there at the first sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RingRates {
    pub(crate) name: String,
    pub(crate) frames_per_s: Option<f64>,
    pub(crate) bytes_per_s: Option<f64>,
    pub(crate) written: u64,
    pub(crate) slots: u32,
    pub(crate) closed: bool,
    /// That of the newest frame.
    pub(crate) note: Option<SeenNote>,
    pub(crate) writers: Vec<(u32, String)>,
    pub(crate) readers: Vec<ReaderRates>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReaderRates {
    /// The process that uses it; none while nobody has.
    pub(crate) process: Option<(u32, String)>,
    pub(crate) mode: &'static str,
    pub(crate) group: Option<String>,
    pub(crate) lag: u64,
    pub(crate) missed: u64,
    pub(crate) alive: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CacheRates {
    pub(crate) name: String,
    /// Of the look-ups between the samples; none when there were none.
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) lookups_per_s: Option<f64>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) maxsize: u64,
}

impl Rates {
    /// What went on from one sample to the next.
    pub(crate) fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let arenas = now.arenas.iter().map(|arena| {
            let then = before.arenas.iter().find(|other| other.id == arena.id);
            ArenaRates::between(then, arena, seconds)
        });
        Self { seconds, arenas: arenas.collect() }
    }

    /// One line of JSON.
    pub(crate) fn value(&self) -> Value {
        let arenas: Vec<Value> = self.arenas.iter().map(ArenaRates::value).collect();
        json!({ "interval_s": self.seconds, "arenas": arenas })
    }
}

impl ArenaRates {
    fn between(then: Option<&Arena>, now: &Arena, seconds: f64) -> Self {
        let rings = now.rings.iter().map(|ring| {
            let before = then.and_then(|then| then.rings.iter().find(|other| other.block == ring.block));
            RingRates::between(before, ring, seconds)
        });
        let caches = now.caches.iter().map(|cache| {
            let before = then.and_then(|then| then.caches.iter().find(|other| other.block == cache.block));
            CacheRates::between(before, cache, seconds)
        });
        Self {
            id: now.id.clone(),
            place: now.place.clone(),
            sessions: now.sessions.clone(),
            used_bytes: now.used_bytes,
            budget_bytes: now.budget_bytes,
            rings: rings.collect(),
            caches: caches.collect(),
            trouble: now.trouble.clone(),
        }
    }

    fn value(&self) -> Value {
        json!({
            "id": self.id,
            "path": path_value(self.place.as_ref()),
            "sessions": self.sessions,
            "used_bytes": self.used_bytes,
            "budget_bytes": self.budget_bytes,
            "rings": self.rings.iter().map(RingRates::value).collect::<Vec<_>>(),
            "caches": self.caches.iter().map(CacheRates::value).collect::<Vec<_>>(),
            "unreadable": self.trouble,
        })
    }
}

/// How fast a count grew; none without a time.
fn rate(before: u64, now: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
}

impl RingRates {
    fn between(before: Option<&Ring>, now: &Ring, seconds: f64) -> Self {
        let stats = &now.seen.stats;
        let frames_per_s = before.and_then(|before| rate(before.seen.stats.written, stats.written, seconds));
        let process = |one: &ring::Process| (one.pid, one.name.clone());
        Self {
            name: now.name.clone(),
            frames_per_s,
            bytes_per_s: frames_per_s.map(|frames| frames * now.seen.frame_bytes as f64),
            written: stats.written,
            slots: now.seen.sizes.slots,
            closed: stats.closed,
            note: now.note.clone(),
            writers: stats.writers.iter().filter_map(|writer| writer.user.as_ref().map(process)).collect(),
            readers: stats.readers.iter().map(ReaderRates::of).collect(),
        }
    }

    fn value(&self) -> Value {
        let process = |(pid, name): &(u32, String)| json!({ "pid": pid, "name": name });
        let note = self.note.as_ref().and_then(|seen| seen.note.as_ref());
        json!({
            "name": self.name,
            "frames_per_s": self.frames_per_s,
            "bytes_per_s": self.bytes_per_s,
            "written": self.written,
            "slots": self.slots,
            "closed": self.closed,
            "note_kind": note.map(note::kind),
            "note_bytes": self.note.as_ref().map(|seen| seen.len_bytes),
            "note": note.map(note::value),
            "writers": self.writers.iter().map(process).collect::<Vec<_>>(),
            "readers": self.readers.iter().map(ReaderRates::value).collect::<Vec<_>>(),
        })
    }
}

impl ReaderRates {
    fn of(reader: &ReaderStats) -> Self {
        Self {
            process: reader.user.as_ref().map(|one| (one.pid, one.name.clone())),
            mode: match reader.mode {
                ring::Mode::Every => "every",
                ring::Mode::Latest => "latest",
                ring::Mode::Group(_) => "group",
            },
            group: reader.group.clone(),
            lag: reader.lag,
            missed: reader.missed,
            alive: reader.alive,
        }
    }

    fn value(&self) -> Value {
        json!({
            "pid": self.process.as_ref().map(|one| one.0),
            "name": self.process.as_ref().map(|one| &one.1),
            "mode": self.mode,
            "group": self.group,
            "lag": self.lag,
            "missed": self.missed,
            "alive": self.alive,
        })
    }
}

impl CacheRates {
    fn between(before: Option<&Cache>, now: &Cache, seconds: f64) -> Self {
        let looked_up = |info: &cache::Info| info.hits.saturating_add(info.misses);
        let lookups = before.map(|before| looked_up(&now.info).saturating_sub(looked_up(&before.info)));
        let hits = before.map_or(0, |before| now.info.hits.saturating_sub(before.info.hits));
        Self {
            name: now.name.clone(),
            hit_ratio: lookups.filter(|&lookups| lookups > 0).map(|lookups| hits as f64 / lookups as f64),
            lookups_per_s: lookups.and_then(|lookups| rate(0, lookups, seconds)),
            entries: now.info.entries,
            bytes: now.info.bytes,
            maxsize: now.info.maxsize,
        }
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "hit_ratio": self.hit_ratio,
            "lookups_per_s": self.lookups_per_s,
            "entries": self.entries,
            "bytes": self.bytes,
            "maxsize": self.maxsize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndshare::arena::Options;
    use ndshare::ring::{Content, Format, Mode, Note, RingOptions, Start};
    use ndshare::{Deadline, Number};
    use std::time::Duration;

    fn sampled(arena: &ndshare::Arena, at: Instant) -> Sample {
        let mut sample = Arena {
            id: "here".to_owned(),
            place: None,
            sessions: Vec::new(),
            used_bytes: 0,
            budget_bytes: 0,
            rings: Vec::new(),
            caches: Vec::new(),
            trouble: None,
        };
        sample.fill(&Look::at(&arena.locator()).unwrap(), &[]).unwrap();
        Sample { at, arenas: vec![sample] }
    }

    #[test]
    fn two_samples_make_rates() {
        let arena = ndshare::Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let (forever, start) = (Deadline::never(), Instant::now());
        let format = Format { name: Some("camera".to_owned()), ..Format::new(&[1000], Number::U16) };
        let ring = ndshare::Ring::new(&arena, format, RingOptions::slots(8), &forever).unwrap();
        let sizes = cache::Geometry::new(1 << 20, None).unwrap();
        let tiles = ndshare::Cache::named(&arena, "tiles", sizes, &forever).unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &forever).unwrap();
        let before = sampled(&arena, start);
        for _ in 0..4 {
            let mut frame = ring.begin_own(&forever).unwrap();
            frame.publish(Content { note: Some(&Note::text("out of focus")), ..Content::default() }, &forever).unwrap();
        }
        drop(reader.get(&forever).unwrap());
        let key = cache::Key::of(&1).unwrap();
        let value = || ndshare::Array::zeros(&arena, &[10], Number::U8);
        (0..4).for_each(|_| drop(tiles.fetch(&key, &forever, |_| value()).unwrap()));
        let rates = Rates::between(&before, &sampled(&arena, start + Duration::from_secs(2)));
        let (ring, tiles) = (&rates.arenas[0].rings[0], &rates.arenas[0].caches[0]);
        assert_eq!((ring.name.as_str(), ring.written, ring.slots), ("camera", 4, 8));
        assert_eq!((ring.frames_per_s, ring.bytes_per_s), (Some(2.0), Some(4000.0)));
        let mine = &ring.readers[0];
        assert_eq!((mine.lag, mine.missed, mine.mode, mine.alive), (3, 0, "every", true));
        assert_eq!(mine.process.as_ref().map(|one| one.0), Some(std::process::id()));
        assert_eq!((tiles.name.as_str(), tiles.entries, tiles.hit_ratio), ("tiles", 1, Some(0.75)));
        let told = &rates.value()["arenas"][0]["rings"][0];
        assert_eq!((&told["frames_per_s"], &told["note"]), (&json!(2.0), &json!("out of focus")));
        assert_eq!((&told["note_kind"], &told["note_bytes"]), (&json!("text"), &json!(12)));
    }

    #[test]
    fn what_was_not_there_before_has_no_rate() {
        let arena = ndshare::Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let (forever, start) = (Deadline::never(), Instant::now());
        let before = sampled(&arena, start);
        let format = Format::new(&[10], Number::U8);
        let ring = ndshare::Ring::new(&arena, format, RingOptions::slots(2), &forever).unwrap();
        let rates = Rates::between(&before, &sampled(&arena, start + Duration::from_secs(1)));
        let seen = &rates.arenas[0].rings[0];
        assert_eq!((seen.frames_per_s, seen.name.clone()), (None, format!("ring {}", ring.head().block().index)));
        let still = Rates::between(&before, &sampled(&arena, start));
        assert_eq!(still.seconds, 0.0);
    }
}
