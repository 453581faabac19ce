//! Each word in turn, and words at random by a live peer: a thread of this process, and another process.

use super::tally::{Tally, number, watched};
use super::victim::{is_poisoned, use_all};
use super::world::{Ground, Structure, Word, World, ground_of, wild};
use crate::arena::{BlockId, Locator};
use crate::dice::Dice;
use crate::fuzzing::{path_arena, words_of_file};
use crate::prim::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a test with a live peer takes.
fn how_long(default_ms: u64) -> Duration {
    let seconds = number("NDSHARE_SCRIBBLE_SECONDS", 0);
    if seconds > 0 { Duration::from_secs(seconds) } else { Duration::from_millis(default_ms) }
}

fn dice(salt: u64) -> Dice {
    Dice(number("NDSHARE_SCRIBBLE_SEED", 1).wrapping_mul(1_000_003).wrapping_add(salt))
}

fn report(name: &str, tally: &Tally) {
    println!("{name:<28} {tally}");
    assert!(tally.operations > 0 && tally.pokes > 0, "{name} did nothing");
}

/// Of all words one in so many is written over with each value in turn; a new world for each value, unless nothing has used
/// the word.
fn in_turn(ground: Ground, every: u64) -> Vec<(&'static str, Tally)> {
    let (mut dice, mut tallies) = (dice(5), Vec::<(&'static str, Tally)>::new());
    let mut world = World::new(ground, &mut dice, None);
    let sizes: Vec<usize> = world.structures(true).iter().map(|one| one.words.len()).collect();
    for (part, &size) in sizes.iter().enumerate() {
        let mut tally = Tally::default();
        let name = world.structures(true)[part].name;
        // The first words are those in use; of the rest fewer are enough where not all are asked for.
        let mut at = dice.roll(every.min(size as u64)) as usize;
        while at < size {
            for value in 0..4 {
                world.is_sure = name == "cache";
                poke_once(&world, part, at, value, &mut tally, &mut dice);
                let before = world.heap.clone();
                drop(world);
                world = World::new(ground, &mut dice, before);
            }
            at += 1 + dice.roll(2 * every - 1) as usize;
        }
        tallies.push((name, tally));
    }
    tallies
}

fn poke_once(world: &World, part: usize, at: usize, value: usize, tally: &mut Tally, dice: &mut Dice) {
    let structures = world.structures(true);
    // A head may be longer in one world than in another.
    let Some(&word) = structures[part].words.get(at) else { return };
    let value = wild(&structures[part].words, at, dice)[value];
    word.write(value);
    tally.pokes += 1;
    use_all(world, tally, dice);
    // Once more: what was found by the first may be put in order now.
    use_all(world, tally, dice);
}

#[test]
fn every_word_in_turn_may_be_anything() {
    let every = number("NDSHARE_SCRIBBLE_EVERY", 1500);
    for ground in [Ground::Heap, Ground::Lasting] {
        let tallies = watched("every word in turn", move || in_turn(ground, every));
        tallies.iter().for_each(|(name, tally)| report(&format!("in turn, {ground:?}, {name}"), tally));
    }
}

/// The same of the file of an arena that nobody has: it is looked at and opened with each value in each word.
fn in_a_file(every: u64) -> Tally {
    let (mut dice, mut tally) = (dice(6), Tally::default());
    for (page, words) in words_of_file().iter().enumerate() {
        let mut at = dice.roll(every.min(words.len() as u64)) as usize;
        while at < words.len() {
            for value in [0, u32::MAX, words[(at + 1) % words.len()], dice.next() as u32] {
                let change = [&[0, page as u8][..], &(4 * at as u16).to_le_bytes(), &value.to_le_bytes()].concat();
                tally.look("open a file", || path_arena(&change));
                tally.pokes += 1;
            }
            at += 1 + dice.roll(2 * every - 1) as usize;
        }
    }
    tally
}

#[test]
fn every_word_of_a_file_in_turn_may_be_anything() {
    let every = number("NDSHARE_SCRIBBLE_EVERY", 1500);
    report("in turn, a file", &watched("every word of a file", move || in_a_file(every)));
}

/// Writes over words until `over`, with pauses that are shorter than a look and longer than one.
fn scribble(structures: &[Structure<'_>], over: &AtomicBool, poked: &AtomicU64, dice: &mut Dice) {
    while !over.load(Relaxed) {
        let structure = &structures[dice.below(structures.len())];
        let at = dice.below(structure.words.len());
        let old = structure.words[at].read();
        let values = wild(&structure.words, at, dice);
        let near = [old.wrapping_add(1), old.wrapping_sub(1), old ^ 1 << dice.below(64)];
        let value = if dice.below(2) == 0 { dice.pick(&values) } else { dice.pick(&near) };
        structure.words[at].write(value);
        poked.fetch_add(1, Relaxed);
        // Most faults are put right again, so that others are reached as well.
        if dice.below(4) > 0 {
            (0..dice.below(4000)).for_each(|_| std::hint::spin_loop());
            structure.words[at].write(old);
        }
    }
}

/// A world is used by two threads while a third writes over the words of one kind, or of all.
fn live(ground: Ground, kind: Option<&'static str>, time: Duration) -> Tally {
    let (mut dice, mut tally) = (dice(7), Tally::default());
    let (begun, mut before) = (Instant::now(), None);
    while begun.elapsed() < time {
        let mut world = World::new(ground, &mut dice, before.take());
        world.is_sure = kind == Some("cache");
        let (over, poked) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut seeds = [(); 3].map(|()| Dice(dice.next()));
        let structures: Vec<_> =
            world.structures(false).into_iter().filter(|one| kind.is_none_or(|kind| kind == one.name)).collect();
        std::thread::scope(|scope| {
            let [scribbler, victims @ ..] = &mut seeds;
            let (world, over, poked, structures) = (&world, &over, &poked, &structures);
            scope.spawn(move || scribble(structures, over, poked, scribbler));
            let victims = victims.each_mut().map(|dice| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for round in 0..200 {
                        use_all(world, &mut tally, dice);
                        if begun.elapsed() >= time || (round % 8 == 7 && is_poisoned(&world.arena)) {
                            break;
                        }
                    }
                    tally
                })
            });
            let outcomes = victims.map(std::thread::ScopedJoinHandle::join);
            over.store(true, SeqCst);
            outcomes.into_iter().for_each(|outcome| tally.add(outcome.expect("a victim panicked")));
        });
        tally.pokes += poked.load(Relaxed);
        drop(structures);
        before = world.heap.clone();
    }
    tally
}

#[test]
fn a_live_peer_may_write_over_one_kind_of_words_at_a_time() {
    let kinds: Vec<&str> =
        World::new(Ground::Heap, &mut dice(1), None).structures(false).iter().map(|one| one.name).collect();
    for kind in kinds {
        report(&format!("live, {kind}"), &watched(kind, move || live(Ground::Heap, Some(kind), how_long(60))));
    }
}

#[test]
fn a_live_peer_may_write_over_all_words() {
    for ground in [Ground::Heap, Ground::Lasting] {
        report(&format!("live, all, {ground:?}"), &watched("all", move || live(ground, None, how_long(200))));
    }
}

// ---- another process

const ARENA: &str = "NDSHARE_SCRIBBLE_ARENA";
const PLACES: &str = "NDSHARE_SCRIBBLE_PLACES";

/// Another process that writes over the words of a world until its input ends.
struct Peer(Child);

impl Peer {
    fn of(world: &World) -> Self {
        let places: Vec<String> = world.places().iter().map(|place| place.to_word().to_string()).collect();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "scribble::tests::the_other_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(ARENA, world.arena.locator().to_string())
            .env(PLACES, places.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// Ends it, and returns how many words it wrote over: it ends as it should, without a signal.
    fn end(mut self) -> u64 {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{} {told}", output.status);
        told.lines().find_map(|line| line.strip_prefix("poked ")).and_then(|count| count.trim().parse().ok()).unwrap()
    }
}

/// Not a test of its own: the other process of `another_process_may_write_over_all_words`.
#[test]
#[ignore = "the other process of another test"]
fn the_other_process() {
    let (Ok(arena), Ok(places)) = (std::env::var(ARENA), std::env::var(PLACES)) else { return };
    let locator: Locator = arena.parse().unwrap();
    let places: Vec<BlockId> =
        places.split(',').map(|place| BlockId::from_word(place.parse().unwrap()).unwrap()).collect();
    let (arena, heads) = ground_of(&locator, &places).unwrap();
    let tables =
        arena.used_ground().map(|(name, words)| Structure { name, words: words.iter().map(Word::Half).collect() });
    let heads = heads.iter().map(|head| Structure { name: "", words: head.words().iter().map(Word::Whole).collect() });
    let structures: Vec<Structure<'_>> = tables.into_iter().chain(heads).collect();
    let (over, poked) = (AtomicBool::new(false), AtomicU64::new(0));
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| scribble(&structures, &over, &poked, &mut Dice(u64::from(std::process::id()))));
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        over.store(true, SeqCst);
    });
    println!("poked {}", poked.load(Relaxed));
    // What it holds there is nobody's any more: it ends without leaving.
    std::process::exit(0);
}

fn beside_another_process(time: Duration) -> Tally {
    let (mut dice, mut tally, begun) = (dice(11), Tally::default(), Instant::now());
    while tally.pokes == 0 || begun.elapsed() < time {
        let world = World::new(Ground::Shared, &mut dice, None);
        let peer = Peer::of(&world);
        for round in 0..400 {
            use_all(&world, &mut tally, &mut dice);
            if round % 8 == 7 && is_poisoned(&world.arena) {
                break;
            }
        }
        tally.pokes += peer.end();
    }
    tally
}

#[test]
fn another_process_may_write_over_all_words() {
    let tally = watched("another process", move || beside_another_process(how_long(100)));
    report("live, another process", &tally);
}
