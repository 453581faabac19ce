//! The control part of an arena in which a fuzzer has written over words, and files of arenas that it has changed or cut.

use super::patch::{arena_on_heap, patch_halves};
use crate::arena::{Arena, BlockId, Deadline, Hold, Look, Options, Reentry};
use crate::array::Array;
use crate::element::Number;
use crate::error::Result;
use crate::os::random_u64;
use crate::prim::Ordering::Relaxed;
use crate::registry;
use crate::ring::{Content, Format, Ring, RingOptions};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const NOW: Deadline<'static> = Deadline::now();
const FOREVER: Deadline<'static> = Deadline::never();
const PAGE: usize = 4096;

/// The tables of an arena: which halves of words are written over, behind a byte that says whether its peer dies first.
pub fn arena_tables(data: &[u8]) -> bool {
    let Some((dies, stores)) = data.split_first() else { return false };
    let (arena, heap) = arena_on_heap(4 << 20);
    let other = Arena::join_on_heap(&heap).expect("a place");
    let made: Result<Vec<Hold>> =
        [100, 70_000, 5000, 1 << 20].iter().map(|&len| arena.alloc(len, 64, true, &NOW)).collect();
    let mut holds = made.expect("blocks");
    holds.extend(other.take(holds[1].block()));
    let record = holds[0].adopt(&holds[2], &NOW).expect("a record");
    let ticket = holds[3].issue(&NOW).expect("a place for a ticket");
    let root = arena.root(4096, &NOW);
    if dies % 4 == 0 {
        heap.declare_dead(other.participant_slot());
    }
    patch_halves(&arena.ground().map(|(_, words)| words), stores);
    let is_whole = arena.findings().is_empty();
    for arena in [&arena, &other].into_iter().take(if dies % 4 == 0 { 1 } else { 2 }) {
        let names: Vec<BlockId> = holds.iter().map(Hold::block).collect();
        for len in [100, 5000, 300_000, 3 << 20] {
            holds.extend(arena.alloc(len, 64, true, &NOW));
        }
        for &name in &names {
            holds.extend(arena.take(name));
            let _ = (arena.is_live(name), arena.is_kept_by_others(name));
        }
        holds.extend(ticket.and_then(|ticket| arena.claim(names[3], ticket, &NOW).ok()));
        holds.iter().for_each(use_hold);
        let _ = (holds[0].children(), holds[0].disown(record, &NOW), holds[0].issue(&NOW));
        let _ = (arena.root(4096, &NOW), arena.stats(), arena.reclaim(Duration::ZERO, &NOW));
        let _ = (arena.sweep_the_dead(), arena.findings());
    }
    drop((holds, root));
    let _ = (arena.stats(), Arena::join_on_heap(&heap).map(|third| third.stats()));
    // One that was declared dead ends here too: as a process that goes on although the others think that it is dead.
    drop(other);
    is_whole
}

/// What a block says of itself stays inside of it.
fn use_hold(hold: &Hold) {
    assert_eq!(hold.words().len() * 8, hold.len_bytes());
    let ends = hold.words().first().into_iter().chain(hold.words().last());
    let _ = ends.fold(0_u64, |sum, word| sum.wrapping_add(word.load(Relaxed)));
    let arena = hold.arena();
    if arena.lock_block(hold, Reentry::Refuse, &NOW).is_ok() {
        let _ = arena.unlock_block(hold, true);
    }
    let _ = (arena.is_block_locked(hold), hold.is_private());
}

/// A file that a fuzzer changes, and its pages that are not zeros.
struct Image {
    len: u64,
    pages: Vec<(u64, Vec<u8>)>,
}

/// The file of one run; it goes with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let shm = PathBuf::from("/dev/shm");
        let folder = if shm.is_dir() { shm } else { std::env::temp_dir() };
        Self(folder.join(format!("ndshare-fuzz-{:016x}", random_u64())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The file of an arena with an array and a ring by names, which nobody has.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let place = Place::new();
        let options = Options { budget_bytes: Some(2 << 20), ..Options::default() };
        let arena = Arena::at(&place.0, &options, &FOREVER).expect("an arena in a file");
        let array = Array::from_slice(&arena, &[4, 4], &[7_u8; 16]).expect("an array");
        arena.publish("array", &array, false, &FOREVER).expect("a name");
        let ring = Ring::named(
            &arena,
            Format { name: Some("ring".into()), ..Format::new(&[64], Number::U8) },
            RingOptions::slots(2),
            &FOREVER,
        )
        .expect("a ring");
        ring.begin_own(&FOREVER).and_then(|mut frame| frame.publish(Content::default(), &FOREVER)).expect("a frame");
        drop((array, ring, arena));
        let bytes = fs::read(&place.0).expect("the file");
        let pages = bytes.chunks(PAGE).zip(0..).filter(|(page, _)| page.iter().any(|&byte| byte != 0));
        Image { len: bytes.len() as u64, pages: pages.map(|(page, at)| (at * PAGE as u64, page.to_vec())).collect() }
    })
}

/// The file of an arena: the first byte says whether it is cut, then come changes: a page of those that say anything in a byte,
/// a place in it in two, four bytes. Who looks and who opens it get what is there, or a typed error.
pub fn path_arena(data: &[u8]) -> bool {
    let Some((cut, changes)) = data.split_first() else { return false };
    let (image, place) = (image(), Place::new());
    let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&place.0);
    let file = options.expect("a file");
    let write = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).expect("a write");
    image.pages.iter().for_each(|(at, page)| write(page, *at));
    for change in changes.chunks_exact(7).take(64) {
        let at = usize::from(u16::from_le_bytes([change[1], change[2]])) % (PAGE - 3);
        write(&change[3..], image.pages[usize::from(change[0]) % image.pages.len()].0 + at as u64);
    }
    let len = match cut % 8 {
        7 => image.len / 256 * u64::from(cut / 8),
        6 => image.len + u64::from(cut / 8),
        _ => image.len,
    };
    file.set_len(len).expect("another length");
    look(&place);
    let opened = Arena::at(&place.0, &Options::default(), &NOW);
    opened.inspect(use_lasting).inspect(|_| look(&place)).is_ok()
}

/// The words of the pages that a change can reach.
#[cfg(test)]
pub(crate) fn words_of_file() -> Vec<Vec<u32>> {
    let words = |(_, page): &(u64, Vec<u8>)| {
        page.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect::<Vec<u32>>()
    };
    image().pages.iter().map(words).collect()
}

fn look(place: &Place) {
    let Ok(look) = Look::at_path(&place.0) else { return };
    let _ = (look.stats(), look.audit(Duration::ZERO), registry::names(&look), registry::audit(&look));
    for (_, kind) in registry::names(&look) {
        let _ = kind.name();
    }
}

fn use_lasting(arena: &Arc<Arena>) {
    let names = arena.names(&NOW).unwrap_or_default();
    for name in names.iter().map(|(name, _)| name.as_str()).chain(["array", "ring", "none"]) {
        let Ok(object) = arena.attach_name(name, &NOW) else { continue };
        if let Ok(array) = Array::try_from(object) {
            let _ = (array.len() < 1 << 16).then(|| array.to_bytes());
        }
    }
    let _ = (arena.stats(), arena.findings(), arena.alloc(2 << 20, 64, true, &NOW));
    let array = Array::from_slice(arena, &[100], &[1_u8; 100]);
    let _ = array.and_then(|array| arena.publish("new", &array, true, &NOW));
    let _ = (arena.unpublish("array", &NOW), arena.names(&NOW));
}
