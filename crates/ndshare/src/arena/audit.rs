//! The invariants of an arena's tables, checked on a picture of them: pure functions, which change nothing and trust nothing.
//!
//! They are those by which `spans`, `records` and `sweep` live: spans tile the data, lists and links say what the blocks say,
//! records are counted right, and nothing names a slot that nobody has.

use super::control::{NONE, Span};
use super::picture::{BlockCopy, Picture};
use super::spans::bin_of;
use super::word::State;
use std::fmt;

/// What must hold. The text says what it means when it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The arena is not poisoned.
    Sound,
    /// A block is in one of the states that there are.
    State,
    /// Spans lie inside the data, next to each other, without a hole or an overlap.
    Tiling,
    /// Neighbours in memory know each other.
    Neighbours,
    /// Lists have what belongs there, once.
    Lists,
    /// Sums are those of their parts.
    Sums,
    /// Records name blocks and parents that live, and blocks count their records.
    Records,
    /// Holds, owners and locks are those of processes that take part.
    Holds,
    /// A block that lives is held by a process, or has a record.
    Kept,
    /// The head of a ring, a cache or an overlay has sizes and a format that can be.
    Head,
    /// A ring's frames are blocks that its head keeps.
    Frames,
    /// A ring's entries bear numbers that were given, and lead to frames.
    Entries,
    /// Names lead to objects of their kind, which they keep in an arena that lasts.
    Names,
    /// Readers, groups and writers are at places to which the stream has come.
    Places,
    /// A cache's chains and queues have each entry once.
    Chains,
    /// A cache's totals are those of its entries.
    Totals,
}

impl Rule {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::State => "state",
            Self::Tiling => "tiling",
            Self::Neighbours => "neighbours",
            Self::Lists => "lists",
            Self::Sums => "sums",
            Self::Records => "records",
            Self::Holds => "holds",
            Self::Kept => "kept",
            Self::Head => "head",
            Self::Frames => "frames",
            Self::Entries => "entries",
            Self::Names => "names",
            Self::Places => "places",
            Self::Chains => "chains",
            Self::Totals => "totals",
        }
    }

    /// What it means when it does not hold.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Sound => {
                "a process found the tables contradicting themselves: nobody can use the arena any more; end its processes, and start anew"
            }
            Self::State => {
                "something wrote over a block's word: who has the block keeps it, and it may never come free"
            }
            Self::Tiling => {
                "two blocks may share bytes, or memory is lost: save what matters, and end the arena's processes"
            }
            Self::Neighbours => {
                "the next allocation or free beside this block poisons the arena, or gives memory out wrongly"
            }
            Self::Lists => "the next allocation of this size poisons the arena, or memory is not found again",
            Self::Sums => "the budget is reckoned wrongly: allocations fail too early, or too late",
            Self::Records => "a block is kept for ever, or goes while somebody counts on it",
            Self::Holds => "a block, or a lock, is kept for the sake of nobody, and never comes free",
            Self::Kept => {
                "nobody has the block any more, and nobody gives it back: its memory is lost until a process dies"
            }
            Self::Head => "nobody can open the object any more; who has it should make a new one",
            Self::Frames => "a writer cannot use this frame's memory again, or readers get what was not published",
            Self::Entries => "readers miss frames, or end with an error: make a new ring",
            Self::Names => {
                "an object is not found by its name, or goes although it has one: take the name away, and give it anew"
            }
            Self::Places => "a reader waits for ever, or writers wait for one that is not there: make it anew",
            Self::Chains => {
                "values are not found, or not evicted; the cache puts itself in order at its next turn if it notices"
            }
            Self::Totals => {
                "the cache takes more or less memory than it should; it puts itself in order at its next turn if it notices"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place where a rule does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// Where, such as "block 17".
    pub place: String,
    /// What is there, and what was expected.
    pub found: String,
}

impl Finding {
    /// A finding.
    pub(crate) fn new(rule: Rule, place: impl Into<String>, found: impl Into<String>) -> Self {
        Self { rule, place: place.into(), found: found.into() }
    }

    /// Whether another look has found the same.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.rule, &self.place) == (other.rule, &other.place)
    }
}

/// So many of one kind are told; one word written over can contradict all the others.
const TOLD: usize = 20;

/// All that contradicts itself in a picture.
pub(super) fn audit(picture: &Picture) -> Vec<Finding> {
    let all = [states(picture), map(picture).0, lists(picture), sums(picture), records(picture), holds(picture)];
    all.into_iter().flat_map(|findings| findings.into_iter().take(TOLD)).collect()
}

/// The gaps, and what contradicts itself among spans and neighbours.
pub(super) fn map(picture: &Picture) -> (Vec<Finding>, Vec<Span>) {
    let mut spans: Vec<(Span, u32, bool)> = Vec::new();
    let mut findings = Vec::new();
    for (block, index) in picture.blocks.iter().zip(0..).filter(|(block, _)| !block.is_unused()) {
        if block.span.granules == 0 || block.span.end() > picture.granules {
            findings.push(of_block(Rule::Tiling, index, format!("its span {:?} lies outside the data", block.span)));
            continue;
        }
        spans.push((block.span, index, block.word().state == State::Free));
    }
    spans.sort_unstable();
    let (mut position, mut last, mut was_gap) = (0, NONE, false);
    for &(span, index, is_gap) in &spans {
        if span.start != position {
            let found = format!("it begins at granule {}, its neighbour ends at {position}", span.start);
            findings.push(of_block(Rule::Tiling, index, found));
        }
        if is_gap && was_gap {
            findings.push(of_block(Rule::Tiling, index, "two gaps beside each other were not merged"));
        }
        let (block, left) = (&picture.blocks[index as usize], picture.blocks.get(last as usize));
        if block.before != last || left.is_some_and(|left| left.after != index) {
            findings.push(of_block(Rule::Neighbours, index, format!("it and block {last} do not know each other")));
        }
        (position, last, was_gap) = (span.end(), index, is_gap);
    }
    if position != picture.granules {
        let found = format!("the last span ends at granule {position} of {}", picture.granules);
        findings.push(Finding::new(Rule::Tiling, "the data", found));
    }
    (findings, spans.into_iter().filter(|one| one.2).map(|one| one.0).collect())
}

fn of_block(rule: Rule, index: u32, found: impl Into<String>) -> Finding {
    Finding::new(rule, format!("block {index}"), found)
}

fn states(picture: &Picture) -> Vec<Finding> {
    let is_wrong = |block: &BlockCopy| block.word().state == State::Free && block.bits & 15 != State::Free as u64;
    let wrong = picture.blocks.iter().zip(0..).filter(|(block, _)| is_wrong(block));
    let slots = picture.slots.iter().zip(0..).filter(|&(&state, _)| state > 2);
    let of_slot =
        |(state, slot): (&u32, u32)| Finding::new(Rule::State, format!("slot {slot}"), format!("state {state}"));
    let of_wrong =
        |(block, index): (&BlockCopy, u32)| of_block(Rule::State, index, format!("state {}", block.bits & 15));
    wrong.map(of_wrong).chain(slots.map(of_slot)).collect()
}

fn lists(picture: &Picture) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = vec![0_u32; picture.blocks.len()];
    let gaps = picture.gap_bins.iter().zip(0..).map(|(&first, bin)| (first, bin, State::Free));
    let warm = picture.warm_bins.iter().zip(0..).map(|(&first, bin)| (first, bin, State::Warm));
    for (first, bin, state) in gaps.chain(warm) {
        let belongs = |block: &BlockCopy| {
            block.word().state == state && block.span.granules > 0 && bin_of(block.span.granules) == bin
        };
        follow(picture, first, &format!("the list {bin} of {state:?} blocks"), &belongs, &mut listed, &mut findings);
    }
    follow(
        picture,
        picture.unused,
        "the list of unused descriptors",
        &BlockCopy::is_unused,
        &mut listed,
        &mut findings,
    );
    let is_to_list = |block: &BlockCopy| matches!(block.word().state, State::Free | State::Warm);
    for ((block, count), index) in picture.blocks.iter().zip(listed).zip(0..) {
        if u32::from(is_to_list(block)) != count {
            let found = format!("it stands in {count} lists, and is {:?}", block.word().state);
            findings.push(of_block(Rule::Lists, index, found));
        }
    }
    findings
}

/// Goes along a list, as far as it leads.
fn follow(
    picture: &Picture,
    first: u32,
    name: &str,
    belongs: &dyn Fn(&BlockCopy) -> bool,
    listed: &mut [u32],
    findings: &mut Vec<Finding>,
) {
    let (mut index, mut before) = (first, NONE);
    for _ in 0..=picture.blocks.len() {
        if index == NONE {
            return;
        }
        let Some(block) = picture.blocks.get(index as usize) else {
            let found = format!("it leads to block {index} of {}", picture.blocks.len());
            return findings.push(Finding::new(Rule::Lists, name, found));
        };
        listed[index as usize] += 1;
        if !belongs(block) {
            let found = format!("block {index} does not belong there: {:?}, {:?}", block.word().state, block.span);
            return findings.push(Finding::new(Rule::Lists, name, found));
        }
        if !block.is_unused() && block.list_before != before {
            findings.push(Finding::new(
                Rule::Lists,
                name,
                format!("blocks {before} and {index} do not know each other"),
            ));
        }
        (before, index) = (index, block.list_after);
    }
    findings.push(Finding::new(Rule::Lists, name, "it runs in a circle"));
}

fn sums(picture: &Picture) -> Vec<Finding> {
    let (mut used, mut warm) = (0_u64, 0_u64);
    for block in &picture.blocks {
        match block.word().state {
            State::Free => {}
            State::Warm => warm += u64::from(block.span.granules),
            State::Reserved | State::Live | State::Freeing => used += u64::from(block.span.granules),
        }
    }
    let told = [("granules in use", picture.used, used), ("granules kept warm", picture.warm, warm)];
    let wrong = told.into_iter().filter(|(_, counted, sum)| counted != sum);
    wrong
        .map(|(place, counted, sum)| Finding::new(Rule::Sums, place, format!("{counted} are counted, {sum} are there")))
        .collect()
}

fn records(picture: &Picture) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut counts = vec![0_u32; picture.blocks.len()];
    for record in &picture.records {
        let mut report = |found: String| {
            findings.push(Finding::new(Rule::Records, format!("record {}", record.index), found));
        };
        match picture.blocks.get(record.block as usize) {
            None => report(format!("it names block {} of {}", record.block, picture.blocks.len())),
            Some(block) => {
                counts[record.block as usize] += 1;
                if block.word().state != State::Live {
                    report(format!("it keeps block {}, which is {:?}", record.block, block.word().state));
                }
            }
        }
        if let Some((parent, generation)) = record.parent {
            let is_there = |block: &BlockCopy| {
                block.is_parent
                    && u64::from(block.word().generation) == generation
                    && matches!(block.word().state, State::Live | State::Freeing)
            };
            if !picture.blocks.get(parent as usize).is_some_and(is_there) {
                report(format!("block {parent} of generation {generation} is no parent any more"));
            }
        }
    }
    for ((block, count), index) in
        picture.blocks.iter().zip(counts).zip(0..).filter(|((block, count), _)| block.records != *count)
    {
        findings.push(of_block(Rule::Records, index, format!("it counts {} records, {count} name it", block.records)));
    }
    let tickets = picture.records.iter().filter(|record| record.parent.is_none()).count();
    if picture.tickets as usize != tickets {
        let found = format!("{} are counted, {tickets} are there", picture.tickets);
        findings.push(Finding::new(Rule::Records, "references in flight", found));
    }
    findings
}

/// Live blocks that nobody keeps, while nobody has said that there may be some. For a moment each block is one, before it is
/// given back. So are those of a process that died, until somebody sweeps up: whoever knows of a death does not ask.
pub(super) fn unkept(picture: &Picture) -> Vec<Finding> {
    let is_unkept = |block: &BlockCopy| {
        block.word().state == State::Live && block.records == 0 && block.holders.iter().all(|&bits| bits == 0)
    };
    let found = picture.blocks.iter().zip(0..).filter(|(block, _)| !picture.is_left_over && is_unkept(block));
    let told = found.map(|(block, index)| {
        // With the tenant's number: the next one in the same place is another block.
        let place = format!("block {index} of generation {}", block.word().generation);
        Finding::new(Rule::Kept, place, format!("no process and no record keeps its {} KiB", block.span.granules))
    });
    told.take(TOLD).collect()
}

fn holds(picture: &Picture) -> Vec<Finding> {
    let is_there = |slot: u32| picture.slots.get(slot as usize).is_some_and(|&state| state != 0);
    let mut findings = Vec::new();
    for (block, index) in picture.blocks.iter().zip(0..) {
        let held = (0..block.holders.len() as u32 * 64)
            .filter(|slot| block.holders[*slot as usize / 64] >> (slot % 64) & 1 == 1);
        findings.extend(
            held.filter(|&slot| !is_there(slot))
                .map(|slot| of_block(Rule::Holds, index, format!("it is held by slot {slot}, which nobody has"))),
        );
        let word = block.word();
        if matches!(word.state, State::Reserved | State::Freeing) && !is_there(word.low) {
            let found = format!("it is {:?} by slot {}, which nobody has", word.state, word.low);
            findings.push(of_block(Rule::Holds, index, found));
        }
        if let Some(slot) = block.lock_owner.filter(|&slot| !is_there(slot)) {
            findings.push(of_block(Rule::Holds, index, format!("its lock is slot {slot}'s, which nobody has")));
        }
    }
    findings
}
