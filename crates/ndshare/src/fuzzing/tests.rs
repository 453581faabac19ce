//! The bytes with which fuzzers begin, and small changes of them, through the same functions: so neither can rot.

use super::{TARGETS, Target};
use crate::dice::Dice;
use std::fs;
use std::path::PathBuf;

/// Bytes of a seed, at the most.
const MOST_BYTES: u64 = 4096;
const MOST_SEEDS: usize = 24;
/// Targets that make an arena for each run.
const SLOW: [&str; 6] = ["arena_tables", "cache_head", "kept_head", "path_arena", "registry", "ring_head"];

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fs::read_dir(corpus(name)).unwrap_or_else(|error| panic!("expected seeds for {name}: {error}"));
    let mut seeds: Vec<_> =
        folder.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    seeds.sort();
    seeds
}

/// Other bytes that are like a seed's.
fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + dice.below(3) {
        if bytes.is_empty() || dice.below(8) == 0 {
            bytes.insert(dice.below(bytes.len() + 1), dice.next() as u8);
        } else {
            let at = dice.below(bytes.len());
            match dice.below(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.truncate(at),
                2 => bytes[at] ^= 1 << dice.below(8),
                _ => bytes[at] = dice.pick(&[0, 1, 0x7f, 0x80, 0xff, dice.0 as u8]),
            }
        }
    }
    bytes
}

fn replay(name: &str, target: Target) -> [usize; 2] {
    let (seeds, mut dice) = (seeds(name), Dice(3));
    assert!(!seeds.is_empty() && seeds.len() <= MOST_SEEDS, "{name} has {} seeds", seeds.len());
    let (rounds, mut outcomes) = (if SLOW.contains(&name) { 6 } else { 100 }, [0, 0]);
    for (path, seed) in &seeds {
        assert!(seed.len() as u64 <= MOST_BYTES, "{} is too long", path.display());
        outcomes[usize::from(target(seed))] += 1;
        for _ in 0..rounds {
            target(&changed(seed, &mut dice));
        }
    }
    outcomes
}

/// Every target meets bytes that are whole and bytes that are not: a target that parses nothing any more finds nothing.
#[test]
fn every_seed_goes_through_its_target_and_some_are_whole() {
    for (name, target) in TARGETS {
        let [not_whole, whole] = replay(name, target);
        assert!(whole > 0 && not_whole > 0, "{name}: {whole} whole, {not_whole} not");
    }
}

#[test]
fn every_target_has_a_file_in_fuzz_and_the_other_way_round() {
    let folder = corpus("..").join("fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut names: Vec<String> =
        TARGETS.iter().map(|(name, _)| (*name).to_owned()).chain(["browser", "command"].map(str::to_owned)).collect();
    names.sort();
    assert_eq!(files, names);
}
