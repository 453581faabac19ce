//! The data of errors, against facts: each error is provoked, and what it carries is compared with what the test knows.
#![cfg(not(loom))]

use ndshare::arena::{Locator, Options};
use ndshare::error::{Error, Full, Timeout};
use ndshare::lock::{Death, Locked};
use ndshare::ring::{Content, Format, Mode, RingOptions, Start, WhenFull};
use ndshare::{Arena, Array, Deadline, Kind, Number, Result, Ring};
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

const FOREVER: Deadline<'static> = Deadline::never();
const SHORT: Duration = Duration::from_millis(30);

fn soon() -> Deadline<'static> {
    Deadline::after(SHORT)
}

fn arena(budget_bytes: u64) -> Arc<Arena> {
    Arena::create(&Options { budget_bytes: Some(budget_bytes), ..Options::default() }).unwrap()
}

fn timeout(result: Result<impl std::fmt::Debug>) -> Box<Timeout> {
    match result.unwrap_err() {
        Error::Timeout(timeout) => timeout,
        other => panic!("expected a timeout, got {other:?}"),
    }
}

fn full(result: Result<impl std::fmt::Debug>) -> Box<Full> {
    match result.unwrap_err() {
        Error::Full(full) => full,
        other => panic!("expected a full ring, got {other:?}"),
    }
}

#[test]
fn a_full_arena_says_who_needs_what_and_who_holds_how_much() {
    let arena = arena(4 << 20);
    let image = Array::zeros(&arena, &[3 << 20], Number::U8).unwrap();
    for (len, fits_the_budget) in [(2_usize << 20, true), (5 << 20, false)] {
        let error = Array::zeros(&arena, &[len], Number::U8).unwrap_err();
        let Error::ArenaFull(full) = &error else { panic!("{error:?}") };
        assert_eq!((full.needed_bytes, full.limit_bytes), (Some(len as u64), Some(4 << 20)));
        assert_eq!((full.free_bytes, full.limit.as_str()), (Some(1 << 20), "the budget given at creation"));
        let [holder] = &full.holders[..] else { panic!("{:?}", full.holders) };
        assert_eq!((holder.pid, holder.bytes, holder.blocks, holder.is_me), (std::process::id(), 3 << 20, 1, true));
        assert_eq!(error.to_string().contains("the whole budget"), !fits_the_budget, "{error}");
        assert!(error.to_string().contains(&format!("pid {}, this process: 3 MiB in 1 blocks", holder.pid)), "{error}");
    }
    drop(image);
}

#[test]
fn a_wait_for_a_lock_says_how_long_it_was_and_for_whom() {
    let hold = arena(1 << 20).alloc(100, 64, true, &FOREVER).unwrap();
    let mine = Locked::acquire(vec![hold.clone()], Death::Report, &FOREVER).unwrap();
    let wait = |longest| {
        let other = || Locked::acquire(vec![hold.clone()], Death::Report, &Deadline::after(longest));
        std::thread::scope(|scope| timeout(scope.spawn(other).join().unwrap()))
    };
    // Who does not wait at all is told nothing: to ask for the name costs more than the look at the lock.
    assert!(wait(Duration::ZERO).on.is_empty());
    let told = wait(SHORT);
    assert!(told.what == "the lock" && told.waited.unwrap() >= SHORT, "{told:?}");
    assert_eq!(told.on.iter().map(|process| process.pid).collect::<Vec<_>>(), [std::process::id()]);
    assert!(!told.on[0].is_stopped && !told.on[0].name.is_empty());
    mine.release(true).unwrap();
}

#[test]
fn a_full_ring_says_who_is_behind_and_by_how_much() {
    let ring = ring(WhenFull::Wait);
    let fresh = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let used = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    assert_eq!(used.get(&soon()).unwrap_err().kind(), Kind::Empty);
    let put = || ring.begin_own(&soon())?.publish(Content::default(), &soon());
    (0..2).for_each(|_| assert!(put().is_ok()));
    let told = full(put());
    assert!(told.waited.unwrap() >= SHORT, "{told:?}");
    let mut behind: Vec<_> = told.behind.iter().map(|one| (one.lag, one.process.as_ref().map(|one| one.pid))).collect();
    behind.sort_unstable();
    assert_eq!(behind, [(2, None), (2, Some(std::process::id()))]);
    drop((fresh, used));
}

#[test]
fn an_empty_ring_says_how_long_and_how_many_could_have_written() {
    let ring = ring(WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let empty = || match reader.get(&soon()) {
        Err(Error::Empty(empty)) => empty,
        other => panic!("expected no frame, got {other:?}"),
    };
    let told = empty();
    assert!(told.waited.unwrap() >= SHORT && told.writers == 0, "{told:?}");
    let _made = ring.writer(&FOREVER).unwrap();
    let told = empty();
    assert!(told.waited.unwrap() >= SHORT && told.writers == 1, "{told:?}");
}

#[test]
fn a_block_that_is_gone_is_named() {
    let arena = arena(1 << 20);
    let hold = arena.alloc(100 << 10, 64, false, &FOREVER).unwrap();
    let block = hold.block();
    drop(hold);
    let error = arena.take(block).unwrap_err();
    let Error::Stale(stale) = &error else { panic!("{error:?}") };
    assert_eq!((stale.index, stale.generation), (Some(block.index), Some(block.generation)));
}

#[test]
fn an_arena_that_nobody_has_names_the_process_that_had_it() {
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    let error = Arena::attach(&Locator { id: 1, pid, fd: 3, is_readonly: false }).unwrap_err();
    let Error::Unreachable(unreachable) = &error else { panic!("{error:?}") };
    assert_eq!(unreachable.pid, Some(pid));
    assert!(error.source().is_none());
}

fn ring(when_full: WhenFull) -> Arc<Ring> {
    Ring::new(
        &arena(1 << 20),
        Format::new(&[8, 8], Number::U8),
        RingOptions { when_full, ..RingOptions::slots(2) },
        &FOREVER,
    )
    .unwrap()
}

#[test]
fn kinds_have_the_names_that_they_are_written_by() {
    let kinds = [Kind::ArenaFull, Kind::Closed, Kind::Misuse, Kind::WriterDied, Kind::Os];
    assert_eq!(kinds.map(Kind::name), ["ArenaFull", "Closed", "Misuse", "WriterDied", "Os"]);
}
