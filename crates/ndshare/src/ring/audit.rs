//! The invariants of a ring, looked at from outside.
//!
//! What the ring's lock guards (frames and entries) is read at a moment when nobody has it. Cursors move without the lock,
//! but only on: each is read before the number of frames, and may not be beyond it by more than the frame that is just being
//! published.

use super::claim::SlotClaim;
use super::note::MOST_VIEW_BYTES;
use super::policy::{Mode, WhenFull};
use super::protocol::BUSY;
use super::table::{GROUPS, NEVER, POLICY, Table, WRITERS};
use crate::arena::{AnyBlock, BlockId, Finding, Look, Rule, TicketId};
use crate::prim::{AtomicU64, Ordering::SeqCst};

/// All that contradicts itself in the ring whose head a block is; and whether all of it was looked at, which takes a moment
/// in which nobody works with it. Nothing, when it is gone.
pub fn audit(look: &Look, head: BlockId) -> (Vec<Finding>, bool) {
    let Some(block) = look.block(head) else { return (Vec::new(), true) };
    let table = match Table::open(block) {
        Ok(table) => table,
        Err(error) => return (gone_or(look, head, &error.to_string()), true),
    };
    let policy = WhenFull::unpack(read(table.word(POLICY))).map(drop);
    let mut findings = Vec::new();
    for told in [policy.err(), table.read_format().err()].into_iter().flatten() {
        findings.extend(gone_or(look, head, &told.to_string()));
    }
    let tags = || (read(table.word(super::table::HEAD)), names_of_frames(&table));
    let guarded = look.still(head, tags, || [frames(&table, look), entries(&table)].concat());
    let was_still = guarded.is_some();
    findings.extend(guarded.unwrap_or_default());
    findings.extend(places(&table, look));
    if look.is_live(head) { (findings, was_still) } else { (Vec::new(), true) }
}

fn gone_or(look: &Look, head: BlockId, found: &str) -> Vec<Finding> {
    let finding = Finding::new(Rule::Head, format!("ring in block {}", head.index), found);
    if look.is_live(head) { vec![finding] } else { Vec::new() }
}

/// A word as it is: it is checked here, or compared.
fn read(word: &AtomicU64) -> u64 {
    // RAW: whoever asks checks it.
    word.load(SeqCst)
}

fn names_of_frames<B: AnyBlock>(table: &Table<B>) -> Vec<(u64, u64)> {
    let frames = (0..table.geometry.frames).map(|index| table.frame(index));
    frames.map(|frame| (read(frame.block), read(frame.last))).collect()
}

fn at<B: AnyBlock>(table: &Table<B>, rule: Rule, what: &str, index: impl std::fmt::Display, found: String) -> Finding {
    Finding::new(rule, format!("ring in block {}, {what} {index}", table.head.block().index), found)
}

fn frames<B: AnyBlock>(table: &Table<B>, look: &Look) -> Vec<Finding> {
    let (mut findings, written) = (Vec::new(), table.written());
    for index in 0..table.geometry.frames {
        let frame = table.frame(index);
        let mut report = |found| findings.push(at(table, Rule::Frames, "frame", index, found));
        let last = read(frame.last);
        if last >= written && last != NEVER && last != BUSY {
            report(format!("it was published as {last}, and {written} frames were"));
        }
        let Some(block) = BlockId::from_word(read(frame.block)) else { continue };
        if !look.is_live(block) {
            report(format!("block {} of generation {} does not live", block.index, block.generation));
        }
        let record = TicketId { index: read(frame.record) as u32, nonce: read(frame.nonce) };
        if look.child_of(table.head.block(), record) != Some(block.index) {
            report(format!("no record of the ring keeps block {}", block.index));
        }
    }
    findings
}

fn entries<B: AnyBlock>(table: &Table<B>) -> Vec<Finding> {
    let (mut findings, written) = (Vec::new(), table.written());
    for index in 0..table.entries() {
        let entry = table.entry(index);
        let mut report = |found| findings.push(at(table, Rule::Entries, "entry", index, found));
        let seq = read(entry.seq);
        if seq == BUSY {
            continue;
        }
        if seq >= written || seq & (table.entries() - 1) != index {
            report(format!("it bears number {seq}, and {written} frames were published"));
            continue;
        }
        if table.frame_index(&entry).is_none() {
            report(format!("it names frame {} of {}", read(entry.frame), table.geometry.frames));
        }
        if read(entry.view_len) > MOST_VIEW_BYTES as u64 {
            report(format!("it has a description of {} bytes", read(entry.view_len)));
        }
    }
    // The newest frame is in its entry whatever readers do.
    if let Some(newest) = written.checked_sub(1)
        && read(table.entry(newest).seq) != newest
    {
        findings.push(at(table, Rule::Entries, "number", newest, "the newest frame is not in its entry".to_owned()));
    }
    findings
}

fn places<B: AnyBlock>(table: &Table<B>, look: &Look) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_user = |user: u64| user == 0 || look.is_identity(user);
    for index in table.readers_in_use().filter(|&index| table.is_reader_live(index, |token| look.is_live(token))) {
        let words = table.reader(index);
        let (mode, user) = (Mode::unpack(read(words.kind)), read(words.user));
        beyond(table, "reader", index, table.place_of(index, mode), &mut findings);
        if !is_user(user) {
            findings.push(at(
                table,
                Rule::Places,
                "reader",
                index,
                format!("its user is {user:#x}, which is no slot's"),
            ));
        }
    }
    for index in (0..GROUPS).filter(|&index| read(table.group(index).name) != 0) {
        beyond(table, "group", index, read(table.group(index).cursor), &mut findings);
    }
    for index in (0..WRITERS).filter(|&index| SlotClaim::read(table.writer(index).state).writes()) {
        let words = table.writer(index);
        let user = read(words.user);
        beyond(table, "writer", index, read(words.written), &mut findings);
        if !is_user(user) {
            findings.push(at(
                table,
                Rule::Places,
                "writer",
                index,
                format!("its user is {user:#x}, which is no slot's"),
            ));
        }
    }
    findings
}

/// A count that was read just now is beyond what was published since: a frame can be taken before the head counts it.
fn beyond<B: AnyBlock>(table: &Table<B>, what: &str, index: usize, count: u64, findings: &mut Vec<Finding>) {
    let written = table.written();
    if count > written + 1 {
        let found = format!("it is at frame {count}, and {written} were published");
        findings.push(at(table, Rule::Places, what, index, found));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Content, Format, Mode, Ring, RingOptions, Start};
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::{Kind, Number};
    use std::sync::Arc;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn ring(slots: usize) -> (Arc<Arena>, Arc<Ring>) {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let ring = Ring::new(&arena, Format::new(&[100], Number::U8), RingOptions::slots(slots), &FOREVER).unwrap();
        (arena, ring)
    }

    fn put(ring: &Arc<Ring>, count: usize) {
        for _ in 0..count {
            let mut frame = ring.begin_own(&FOREVER).unwrap();
            frame.publish(Content::default(), &FOREVER).unwrap();
        }
    }

    #[test]
    fn frames_that_come_and_go_are_no_finding() {
        let (arena, ring) = ring(4);
        let look = Look::at(&arena.locator()).unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    put(&ring, 10);
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
                ring.close(&FOREVER).unwrap();
            });
            let reading = scope.spawn(|| {
                let taken = (0..).find_map(|_| reader.get(&FOREVER).err().map(|error| error.kind()));
                assert_eq!(taken, Some(Kind::Closed));
            });
            // BOUND: the frames of the writer.
            while !reading.is_finished() {
                assert_eq!(audit(&look, ring.head().block()).0, []);
            }
        });
        assert_eq!(audit(&look, ring.head().block()).0, []);
    }

    /// Each word of the head in turn: never a panic, and nothing is found once it stands there again.
    #[test]
    fn any_word_that_was_written_over_is_borne() {
        let (arena, ring) = ring(3);
        let look = Look::at(&arena.locator()).unwrap();
        let _reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let _writer = ring.writer(&FOREVER).unwrap();
        put(&ring, 2);
        let head = ring.head().block();
        for word in ring.head().words() {
            let old = word.load(SeqCst);
            for value in [u64::MAX, u64::MAX - 1, old ^ 1, old.wrapping_add(1 << 32), 7] {
                word.store(value, SeqCst);
                let _ = audit(&look, head);
            }
            word.store(old, SeqCst);
        }
        assert_eq!(audit(&look, head).0, []);
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let (arena, ring) = ring(3);
        let look = Look::at(&arena.locator()).unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        put(&ring, 2);
        let table = &ring.table;
        let wrong: [(&AtomicU64, u64, Rule); 8] = [
            (&ring.head().words()[0], 3, Rule::Head),
            (table.word(POLICY), 9, Rule::Head),
            (table.frame(0).block, 1 << 40, Rule::Frames),
            (table.frame(0).nonce, 5, Rule::Frames),
            (table.frame(1).last, 77, Rule::Frames),
            (table.entry(0).seq, 1, Rule::Entries),
            (table.entry(1).frame, 99, Rule::Entries),
            (table.reader(0).cursor, 1000, Rule::Places),
        ];
        for (word, value, rule) in wrong {
            let old = word.swap(value, SeqCst);
            let (found, _) = audit(&look, ring.head().block());
            assert!(found.iter().any(|finding| finding.rule == rule), "{rule}: {found:?}");
            word.store(old, SeqCst);
        }
        assert_eq!(audit(&look, ring.head().block()).0, []);
        let head = ring.head().block();
        drop((reader, ring));
        assert_eq!(audit(&look, head).0, [], "it is gone");
    }
}
