//! The invariants of a cache, looked at from outside, at a moment when nobody has its lock.

use super::policy::{MAIN, SMALL};
use super::table::{DISORDER, FREE, HIGH, LIVE, LOADING, State, Table, USED};
use crate::arena::{AnyBlock, BlockId, Finding, Look, Rule};
use crate::prim::{AtomicU64, Ordering::Acquire};

/// All that contradicts itself in the cache whose head a block is; and whether it was looked at, which takes a moment in which
/// nobody has its lock. Nothing, when it is gone, or knows that it has to put itself in order.
pub fn audit(look: &Look, head: BlockId) -> (Vec<Finding>, bool) {
    let Some(block) = look.block(head) else { return (Vec::new(), true) };
    let name = format!("cache in block {}", head.index);
    let findings = match Table::open(block).and_then(|table| table.check_segments().map(|()| table)) {
        Ok(table) => look.still(head, || tags(&table), || contradictions(&table, &name)),
        Err(error) => Some(vec![Finding::new(Rule::Head, name, error.to_string())]),
    };
    let was_still = findings.is_some();
    if look.is_live(head) { (findings.unwrap_or_default(), was_still) } else { (Vec::new(), true) }
}

/// A word as it is: it is checked here, or compared.
fn read(word: &AtomicU64) -> u64 {
    // RAW: whoever asks checks it.
    word.load(Acquire)
}

/// What all work under the lock changes for good: entries count their changes, and a move in a queue has a new stamp.
fn tags<B: AnyBlock + Send + Sync>(table: &Table<B>) -> Vec<u64> {
    let entries = slots(table).map(|slot| read(table.entry(slot).word()));
    let heads = [super::table::CLOCK, HIGH, DISORDER].map(|index| read(table.word(index)));
    entries.chain(heads).collect()
}

/// All slots that were ever in use.
fn slots<B: AnyBlock + Send + Sync>(table: &Table<B>) -> impl Iterator<Item = u32> {
    // BOUND: there are not more slots.
    (1..=read(table.word(HIGH)).min(table.geometry.slots().into())).map_while(|link| table.slot(link))
}

fn contradictions<B: AnyBlock + Send + Sync>(table: &Table<B>, name: &str) -> Vec<Finding> {
    if read(table.word(DISORDER)) != 0 {
        return Vec::new();
    }
    [chains(table, name), queues(table, name), totals(table, name)].concat()
}

/// Each entry stands in the chain of its bucket, or in the list of free slots, once.
fn chains<B: AnyBlock + Send + Sync>(table: &Table<B>, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = vec![0_u32; table.geometry.slots() as usize];
    let mut follow = |first: u64, belongs: &dyn Fn(u32) -> bool, place: String| {
        let mut link = first;
        for _ in 0..=table.geometry.slots() {
            let Some(slot) = table.slot(link) else { return };
            seen[slot as usize] += 1;
            if !belongs(slot) {
                let found = format!("entry {slot} does not belong there: {:?}", table.entry(slot).now().state());
                return findings.push(Finding::new(Rule::Chains, place, found));
            }
            link = read(table.entry(slot).chain());
        }
        findings.push(Finding::new(Rule::Chains, place, "it runs in a circle"));
    };
    for (bucket, index) in table.buckets().iter().zip(0..) {
        let belongs = |slot: u32| {
            let entry = table.entry(slot);
            entry.now().state() != State::Empty && std::ptr::eq(table.bucket(read(entry.hash())), bucket)
        };
        follow(read(bucket), &belongs, format!("{name}, bucket {index}"));
    }
    let is_free = |slot: u32| table.entry(slot).now().state() == State::Empty;
    follow(read(table.word(FREE)), &is_free, format!("{name}, the free entries"));
    findings.extend(slots(table).filter(|&slot| seen[slot as usize] != 1).map(|slot| {
        let found =
            format!("it stands in {} chains, and is {:?}", seen[slot as usize], table.entry(slot).now().state());
        Finding::new(Rule::Chains, format!("{name}, entry {slot}"), found)
    }));
    findings
}

/// Each value stands in the queue that it says, and neighbours know each other.
fn queues<B: AnyBlock + Send + Sync>(table: &Table<B>, name: &str) -> Vec<Finding> {
    let (mut findings, mut queued) = (Vec::new(), 0);
    for tag in [SMALL, MAIN] {
        let (queue, mut ahead) = (table.queue(tag), None);
        let mut report =
            |found: String| findings.push(Finding::new(Rule::Chains, format!("{name}, queue {tag}"), found));
        let (mut next, mut count, mut bytes) = (table.slot(read(queue.head)), 0_u64, 0_u64);
        // BOUND: no queue is longer than there are slots.
        while let Some(slot) = next.filter(|_| count <= table.geometry.slots().into()) {
            let entry = table.entry(slot);
            (count, bytes) = (count + 1, bytes.saturating_add(entry.counted()));
            if read(entry.order()) & 3 != tag || table.slot(read(entry.links()) >> 32) != ahead {
                report(format!("entry {slot} does not know that it is there"));
                break;
            }
            (ahead, next) = (Some(slot), table.slot(read(entry.links())));
        }
        if (read(queue.count), read(queue.bytes), table.slot(read(queue.tail))) != (count, bytes, ahead) {
            report(format!(
                "{} entries of {} bytes are counted, {count} of {bytes} are there",
                read(queue.count),
                read(queue.bytes)
            ));
        }
        queued += count;
    }
    let has_value = |&slot: &u32| matches!(table.entry(slot).now().state(), State::Live | State::Failed);
    let values = slots(table).filter(has_value).count() as u64;
    if findings.is_empty() && queued != values {
        findings.push(Finding::new(
            Rule::Chains,
            format!("{name}, the queues"),
            format!("{queued} entries are in them, {values} have values"),
        ));
    }
    findings
}

fn totals<B: AnyBlock + Send + Sync>(table: &Table<B>, name: &str) -> Vec<Finding> {
    let of = |state: State| slots(table).filter(move |&slot| table.entry(slot).now().state() == state);
    let bytes = of(State::Live).chain(of(State::Failed)).map(|slot| table.entry(slot).counted());
    let told = [
        ("bytes", USED, bytes.fold(0, u64::saturating_add)),
        ("values", LIVE, of(State::Live).count() as u64),
        ("loads", LOADING, of(State::Loading).count() as u64),
    ];
    let wrong = told.into_iter().filter(|&(_, word, sum)| read(table.word(word)) != sum);
    let finding = |(what, word, sum): (&str, usize, u64)| {
        Finding::new(
            Rule::Totals,
            format!("{name}, {what}"),
            format!("{} are counted, {sum} are there", read(table.word(word))),
        )
    };
    wrong.map(finding).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::table::CLOCK;
    use super::super::{Cache, Geometry, Key};
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::dice::Dice;
    use crate::prim::Ordering::SeqCst;
    use crate::{Array, Number};
    use std::sync::Arc;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn cache() -> (Arc<Arena>, Arc<Cache>) {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let cache = Cache::named(&arena, "tiles", Geometry::new(64 << 10, None).unwrap(), &FOREVER).unwrap();
        (arena, cache)
    }

    fn fetch(arena: &Arc<Arena>, cache: &Arc<Cache>, key: u64) {
        let make = |_: &Key| Array::zeros(arena, &[1000], Number::U8);
        drop(cache.fetch(&Key::of(&key).unwrap(), &FOREVER, make).unwrap());
    }

    #[test]
    fn values_that_come_and_go_are_no_finding() {
        let (arena, cache) = cache();
        let look = Look::at(&arena.locator()).unwrap();
        let head = cache.head().block();
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let mut dice = Dice(3);
                for round in 0..3000 {
                    fetch(&arena, &cache, dice.roll(150));
                    if round % 10 == 0 {
                        std::thread::sleep(std::time::Duration::from_micros(50));
                    }
                }
            });
            // BOUND: the rounds above.
            while !working.is_finished() {
                assert_eq!(audit(&look, head).0, []);
            }
        });
        assert!(cache.info(&FOREVER).unwrap().evictions > 0);
        assert_eq!(audit(&look, head).0, []);
    }

    #[test]
    fn any_word_that_was_written_over_is_borne_and_links_and_totals_are_checked() {
        let (arena, cache) = cache();
        let look = Look::at(&arena.locator()).unwrap();
        let head = cache.head().block();
        (0..100).for_each(|key| fetch(&arena, &cache, key));
        assert_eq!(audit(&look, head).0, []);
        let (mut tried, mut found) = (0, 0);
        let segment = cache.table.word_at(0).0;
        let words = cache.head().words().iter().take(700).chain(segment.words().iter().skip(130).take(500));
        for word in words {
            let old = word.load(SeqCst);
            for value in [u64::MAX, old ^ 1, old.wrapping_add(1), 0] {
                word.store(value, SeqCst);
                tried += u32::from(value != old);
                found += u32::from(!audit(&look, head).0.is_empty());
            }
            word.store(old, SeqCst);
        }
        assert!(found > tried / 50, "{found} of {tried}");
        let rule_of = |word: &AtomicU64, value| {
            let old = word.swap(value, SeqCst);
            let (found, _) = audit(&look, head);
            word.store(old, SeqCst);
            found.first().map(|finding| finding.rule)
        };
        let table = &cache.table;
        assert_eq!(rule_of(table.word(USED), 1), Some(Rule::Totals));
        assert_eq!(rule_of(table.word(FREE), 1), Some(Rule::Chains));
        assert_eq!(rule_of(table.entry(1).links(), 0), Some(Rule::Chains));
        assert_eq!(rule_of(table.word(0), 0), Some(Rule::Head));
        assert_eq!(rule_of(table.word(CLOCK), 0), None);
        assert_eq!(audit(&look, head).0, []);
    }
}
