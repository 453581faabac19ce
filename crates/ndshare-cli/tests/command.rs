//! The command as users run it, beside an arena that is alive.

use std::process::{Command, Output};

use ndshare::arena::{Arena, Options};

fn ndshare(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ndshare")).args(arguments).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the command writes UTF-8")
}

#[test]
fn ls_shows_an_arena_that_lives_and_none_that_is_gone() {
    let options = Options { budget_bytes: Some(64 << 20), ..Options::default() };
    let arena = Arena::create(&options).expect("an arena");
    let id = format!("{:016x}", arena.id());
    let listing = text(&ndshare(&["ls"]).stdout);
    let row = listing.lines().find(|line| line.starts_with(&id)).expect("a row for the arena");
    assert!(row.contains(&std::process::id().to_string()), "{row}");
    assert!(!row.contains('?'), "{row}");
    drop(arena);
    assert!(!text(&ndshare(&["ls"]).stdout).contains(&id));
}

#[test]
fn doctor_finds_nothing_broken_where_the_tests_run() {
    let output = ndshare(&["doctor"]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("trial"));
}

#[test]
fn an_unknown_verb_is_refused_with_the_usage() {
    let output = ndshare(&["rename"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Usage"));
}
