//! A peer that writes over the control part: the others get results or typed errors. No panic, no hang, no access
//! outside of the memory: an index that is out of a private table panics, and so does arithmetic that overflows.
//!
//! `NDSHARE_SCRIBBLE_ROUNDS` makes it longer, `NDSHARE_SCRIBBLE_SEED` another one.

use super::audit::{self, Rule};
use super::picture::Picture;
use super::*;
use crate::dice::Dice;
use crate::error::Result;
use crate::prim::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

const BUDGET: u64 = 8 << 20;
/// One round takes a millisecond; what takes so long hangs.
const HANG: Duration = Duration::from_secs(60);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits that a lock word naming somebody alive makes end.
fn short() -> Deadline<'static> {
    Deadline::new(Some(Duration::from_millis(2)), &|| Ok(()))
}

/// Runs `round` with the numbers of all rounds on a thread, and fails when one of them panics or takes too long.
fn watched(rounds: u64, round: impl Fn(u64, &Sender<String>) + Send + 'static) {
    let (report, reports) = channel::<String>();
    let worker = std::thread::spawn(move || {
        for number in 0..rounds {
            round(number, &report);
        }
    });
    let mut last = String::new();
    // BOUND: the reports of the rounds.
    loop {
        match reports.recv_timeout(HANG) {
            Ok(text) => last = text,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs after {last}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(worker.join().is_ok(), "it panicked after {last}");
}

/// Writes over one word of the control part.
fn scribble(arena: &Arena, dice: &mut Dice) -> String {
    let ground = arena.control.scribbling_ground();
    let region = dice.roll(ground.len() as u64) as usize;
    let words = ground[region];
    let index = dice.roll(words.len() as u64) as usize;
    let neighbour = words[(index + 1) % words.len()].load(Relaxed);
    let old = words[index].load(Relaxed);
    let some = dice.roll(1 << 32) as u32;
    let values =
        [0, u32::MAX, neighbour, some, old.wrapping_add(1), old.wrapping_sub(1), old ^ 1 << (some % 32), some % 64];
    let value = values[dice.roll(values.len() as u64) as usize];
    words[index].store(value, Relaxed);
    format!("word {index} of region {region}: {old:#x} became {value:#x}")
}

/// What there is before somebody scribbles: blocks of all kinds, tickets, a parent, a root.
struct Scene {
    holds: Vec<Hold>,
    parent: Hold,
    record: TicketId,
    ticket: Option<TicketId>,
}

impl Scene {
    fn of(arena: &Arc<Arena>) -> Result<Self> {
        let sizes = [100, 3000, 70_000, 1 << 20, 5000, 40_000];
        let holds: Vec<Hold> = sizes.iter().map(|&len| arena.alloc(len, 64, false, &short())).collect::<Result<_>>()?;
        drop(arena.alloc(300_000, 64, false, &short())?);
        let parent = arena.alloc(1000, 64, true, &short())?;
        let record = parent.adopt(&holds[2], &short())?;
        let ticket = holds[3].issue(&short())?;
        arena.root(4096, &short())?;
        Ok(Self { holds, parent, record, ticket })
    }
}

/// Everything that can be asked of an arena. Each outcome will do.
fn do_everything(arena: &Arc<Arena>, scene: Scene, dice: &mut Dice) {
    let names: Vec<BlockId> = scene.holds.iter().map(Hold::block).collect();
    let mut holds = scene.holds;
    for len in [100, 5000, 70_000, 300_000, 3 << 20] {
        if let Ok(hold) = arena.alloc(len, 64, len < 1 << 20, &short()) {
            write_to(&hold);
            holds.push(hold);
        }
    }
    for &name in &names {
        holds.extend(arena.take(name).ok());
        let _ = (arena.is_live(name), arena.is_kept_by_others(name), Hold::is_held(arena, name));
    }
    if let Some(ticket) = scene.ticket {
        holds.extend(arena.claim(names[3], ticket, &short()).ok());
    }
    for hold in &holds {
        if arena.lock_block(hold, Reentry::Refuse, &short()).is_ok() {
            let _ = arena.unlock_block(hold, true);
        }
        let _ = (arena.try_lock_block(hold), arena.is_block_locked(hold), hold.is_private());
        holds_words(hold);
    }
    let _ = holds[0].issue(&short());
    let _ = (scene.parent.children(), scene.parent.disown(scene.record, &short()));
    let _ = scene.parent.adopt(&holds[1], &short());
    drop(arena.root(4096, &short()));
    let _ = (arena.identity(), arena.is_identity_alive(dice.roll(1 << 40)), arena.stats());
    // In any order.
    while !holds.is_empty() {
        drop(holds.swap_remove(dice.roll(holds.len() as u64) as usize));
    }
    drop(scene.parent);
    let _ = Hold::recycle(arena, names[2]);
    let _ = arena.reclaim(Duration::ZERO, &short());
    let _ = arena.make_room(u64::MAX, &short());
    let _ = (arena.sweep_the_dead(), arena.stats());
}

/// A block may be written from its first byte to its last. What lies before and behind the arena is guarded, so some bytes
/// in between show as much as all of them.
fn write_to(hold: &Hold) {
    for at in (0..hold.len_bytes()).step_by(64 << 10).chain([hold.len_bytes() - 1]) {
        // SAFETY: the block is held and has more bytes than that.
        unsafe { hold.as_ptr().add(at).write_volatile(1) };
    }
}

/// The words of a held block are its own, whatever the tables say.
fn holds_words(hold: &Hold) {
    assert_eq!(hold.words().len() * 8, hold.len_bytes());
    // Some of them are enough to see a signal, with the last one.
    let words = hold.words().iter().step_by(8192).chain(hold.words().last());
    let _ = words.fold(0_u64, |sum, word| sum.wrapping_add(word.load(Relaxed)));
}

#[test]
fn a_word_that_a_peer_wrote_over_is_an_error_or_nothing() {
    let seed = number("NDSHARE_SCRIBBLE_SEED", 1);
    // One arena after the other in the same memory, whose pages go in between: to clear it byte by byte took ten times as long
    // as all the rest.
    let before = RefCell::new(None);
    watched(number("NDSHARE_SCRIBBLE_ROUNDS", 2500), move |round, report| {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(round).max(1));
        let (arena, heap) = Arena::create_small_on_heap(BUDGET, false, before.take()).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let (scene, theirs) = (Scene::of(&arena).unwrap(), Scene::of(&other));
        let dies = dice.roll(4) == 0;
        if dies {
            heap.declare_dead(other.participant_slot());
        }
        for _ in 0..1 + dice.roll(3) {
            let text = scribble(&arena, &mut dice);
            report.send(format!("round {round}: {text}")).unwrap();
        }
        do_everything(&arena, scene, &mut dice);
        if dies {
            std::mem::forget((theirs, other));
        } else if let Ok(theirs) = theirs {
            do_everything(&other, theirs, &mut dice);
        }
        drop((arena, Arena::join_on_heap(&heap)));
        before.replace(Some(heap));
    });
}

#[test]
fn a_peer_that_goes_on_writing_makes_errors_at_most() {
    let seed = number("NDSHARE_SCRIBBLE_SEED", 1);
    watched(number("NDSHARE_SCRIBBLE_ROUNDS", 2500) / 10, move |round, report| {
        let mut dice = Dice(seed.wrapping_mul(7919).wrapping_add(round).max(1));
        let (arena, heap) = Arena::create_on_heap(BUDGET).unwrap();
        let peer = Arena::join_on_heap(&heap).unwrap();
        let over = AtomicBool::new(false);
        report.send(format!("round {round} of a peer that goes on")).unwrap();
        std::thread::scope(|scope| {
            let mut theirs = Dice(dice.roll(1 << 40).max(1));
            let over = &over;
            scope.spawn(move || {
                // BOUND: the work of the other thread.
                while !over.load(SeqCst) {
                    scribble(&peer, &mut theirs);
                    // Sometimes it does not stop in between, so that a word changes between two looks.
                    if theirs.roll(2) == 0 {
                        std::thread::yield_now();
                    }
                }
                std::mem::forget(peer);
            });
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                if let Ok(scene) = Scene::of(&arena) {
                    do_everything(&arena, scene, &mut dice);
                }
            }));
            over.store(true, SeqCst);
            assert!(outcome.is_ok(), "it panicked in round {round}");
        });
    });
}

/// Each word of the tables in turn, and values that mean something there.
#[test]
fn an_audit_bears_any_word_that_was_written_over() {
    let (arena, _heap) = Arena::create_on_heap(BUDGET).unwrap();
    let _scene = Scene::of(&arena).unwrap();
    let findings = || audit::audit(&Picture::copy(&arena.control));
    assert_eq!(findings(), []);
    let (mut tried, mut found) = (0_u32, 0_u32);
    for words in arena.control.scribbling_ground() {
        // Descriptors far beyond those in use are as good as those before.
        for word in words.iter().take(2000) {
            let old = word.load(Relaxed);
            for value in [0, 1, u32::MAX, u32::MAX - 1, old.wrapping_add(1), old ^ 1 << 31] {
                word.store(value, Relaxed);
                tried += u32::from(value != old);
                found += u32::from(!findings().is_empty());
            }
            word.store(old, Relaxed);
        }
    }
    assert_eq!(findings(), []);
    assert!(found * 4 > tried, "{found} of {tried} were found");
}

#[test]
fn what_contradicts_itself_is_found_and_named() {
    let (arena, _heap) = Arena::create_on_heap(BUDGET).unwrap();
    let scene = Scene::of(&arena).unwrap();
    let [held, adopted] = [0, 2].map(|at: usize| arena.control.block(scene.holds[at].block().index).unwrap());
    let (head, record) = (arena.control.span_header(), arena.control.record(scene.record.index).unwrap());
    let gap = head.gap_bins.iter().find(|bin| bin.load(Relaxed) != u32::MAX).unwrap();
    let halves: [(&AtomicU32, u32, Rule); 10] = [
        (&held.records, 1, Rule::Records),
        (&adopted.records, 0, Rule::Records),
        (&record.block, 4000, Rule::Records),
        (&record.origin, 0, Rule::Records),
        (&arena.control.header().ticket_count, 7, Rule::Records),
        (&held.before, 3000, Rule::Neighbours),
        (&held.after, 1, Rule::Neighbours),
        (gap, u32::MAX, Rule::Lists),
        (&head.unused, scene.holds[0].block().index, Rule::Lists),
        (&held.lock, 70, Rule::Holds),
    ];
    let wholes: [(&AtomicU64, u64, Rule); 6] = [
        (&head.used, 1, Rule::Sums),
        (&head.warm, 1 << 40, Rule::Sums),
        (&held.span, 5, Rule::Tiling),
        (&held.span, u64::MAX, Rule::Tiling),
        (&held.word, 9, Rule::State),
        (&held.holders[1], 1 << 9, Rule::Holds),
    ];
    let rules = || audit::audit(&Picture::copy(&arena.control)).into_iter().map(|one| one.rule).collect::<Vec<_>>();
    for (word, value, rule) in halves {
        let old = word.swap(value, Relaxed);
        assert!(rules().contains(&rule), "{rule}: {:?}", rules());
        word.store(old, Relaxed);
    }
    for (word, value, rule) in wholes {
        let old = word.swap(value, Relaxed);
        assert!(rules().contains(&rule), "{rule}: {:?}", rules());
        word.store(old, Relaxed);
    }
    assert_eq!(rules(), []);
}

#[test]
fn real_memory_bears_a_scribbler() {
    let seed = number("NDSHARE_SCRIBBLE_SEED", 1);
    watched(number("NDSHARE_SCRIBBLE_ROUNDS", 2500) / 10, move |round, report| {
        let mut dice = Dice(seed.wrapping_mul(104_729).wrapping_add(round).max(1));
        let options = Options { budget_bytes: Some(BUDGET), ..Options::default() };
        let arena = Arena::create(&options).unwrap();
        let scene = Scene::of(&arena).unwrap();
        for _ in 0..1 + dice.roll(3) {
            let text = scribble(&arena, &mut dice);
            report.send(format!("round {round} in real memory: {text}")).unwrap();
        }
        do_everything(&arena, scene, &mut dice);
    });
}
