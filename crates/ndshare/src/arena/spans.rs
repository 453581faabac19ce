//! The free map: which granules of the data part belong to which block, and which are gaps.
//!
//! Every span, block or gap, has a descriptor; neighbours in address order are linked, so that a freed block merges
//! with the gaps beside it. Gaps and warm blocks stand in lists by size (two-level segregated fit, Masmano et al.,
//! 2004). Only state and span of the blocks count: everything else here is derived from them, and
//! [`Spans::rebuild`] makes it anew after a death in the middle.
//!
//! All of it happens under the arena lock. Invariant: the whole pages of a gap are not committed.

use super::control::{Block, Control, GRANULE_BYTES, NONE, Span, SpanHeader};
use super::private::Mine;
use super::word::{State, Word};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::os::{HUGE_BYTES, PAGE_BYTES};
use crate::prim::{
    AtomicU32,
    Ordering::{Relaxed, Release, SeqCst},
};

const PAGE_GRANULES: u32 = (PAGE_BYTES / GRANULE_BYTES) as u32;
const HUGE_GRANULES: u32 = (HUGE_BYTES / GRANULE_BYTES) as u32;
/// How many entries of one list are looked at before the next list is tried.
const LIST_LOOKS: usize = 16;

/// A request in granules: parsed once at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub granules: u32,
    pub align_granules: u32,
}

impl Need {
    /// What `len_bytes` at `align` takes. At most a quarter of a block above 4 KiB is rounding: small sizes go up to
    /// the next eighth of a power of two, large ones to 2 MiB where that costs at most an eighth.
    pub(super) fn new(len_bytes: u64, align: u64) -> Option<Self> {
        let exact = u32::try_from(len_bytes.div_ceil(GRANULE_BYTES).max(1)).ok()?;
        let granules = round_up(exact)?;
        let natural = match granules {
            n if n >= HUGE_GRANULES => HUGE_GRANULES,
            n if n >= 8 * PAGE_GRANULES => PAGE_GRANULES,
            _ => 1,
        };
        let align_granules = u32::try_from(align.div_ceil(GRANULE_BYTES)).ok()?.max(natural);
        Some(Self { granules, align_granules })
    }

    pub(super) fn len_bytes(self) -> u64 {
        u64::from(self.granules) * GRANULE_BYTES
    }

    fn fits_at(self, start: u32) -> bool {
        start.is_multiple_of(self.align_granules)
    }
}

fn round_up(exact: u32) -> Option<u32> {
    if exact <= 8 {
        return Some(exact);
    }
    if exact >= HUGE_GRANULES {
        let huge = exact.checked_next_multiple_of(HUGE_GRANULES)?;
        let waste = huge - exact;
        return if waste <= exact / 8 { Some(huge) } else { exact.checked_next_multiple_of(64) };
    }
    exact.checked_next_multiple_of(1 << (exact.ilog2() - 3))
}

/// The list for spans of `granules`: exact below 8, then four lists for each power of two.
pub(super) fn bin_of(granules: u32) -> usize {
    if granules < 8 {
        return granules as usize;
    }
    let power = granules.ilog2();
    ((power - 3) * 4 + 8 + (granules >> (power - 2) & 3)) as usize
}

/// What an attempt to reserve came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A block, reserved; warm if its pages are committed already.
    Got { index: u32, span: Span, warm: bool },
    /// The budget is short by so many bytes.
    OverBudget { by_bytes: u64 },
    /// No gap is large enough.
    NoGap,
    /// The table of blocks must be committed further first.
    NeedsTable,
}

/// The free map, for the holder of the arena lock.
pub(super) struct Spans<'a> {
    control: &'a Control,
    head: &'a SpanHeader,
}

#[derive(Clone, Copy)]
enum List {
    Gaps,
    Warm,
}

impl List {
    /// What every entry of the list is.
    fn state(self) -> State {
        match self {
            List::Gaps => State::Free,
            List::Warm => State::Warm,
        }
    }
}

impl<'a> Spans<'a> {
    /// The caller holds the arena lock for as long as this lives.
    pub(super) fn new(control: &'a Control) -> Self {
        Self { control, head: control.span_header() }
    }

    fn block(&self, index: u32) -> Result<&'a Block> {
        self.control.block(index)
    }

    /// Makes the whole data part one gap. For a new arena, with at least one descriptor committed.
    pub(super) fn format(&self) -> Result<()> {
        self.head.unused.store(NONE, Relaxed);
        self.head.gap_bins.iter().chain(&self.head.warm_bins).for_each(|bin| bin.store(NONE, Relaxed));
        let whole = Span::new(0, self.control.geometry().data_granules());
        let first = self.take_unused()?;
        self.place_gap(first, whole, NONE, NONE)
    }

    // ---- reserving

    /// Reserves a block for `slot`: a warm one of about the size, else a new one out of a gap.
    pub(super) fn reserve(&self, need: Need, slot: u32) -> Result<Outcome> {
        if let Some((index, span)) = self.find_warm(need)? {
            self.reuse(index, span, slot)?;
            return Ok(Outcome::Got { index, span, warm: true });
        }
        let kept = self.control.sum(&self.head.used).saturating_add(self.control.sum(&self.head.warm));
        let wanted = kept.saturating_mul(GRANULE_BYTES).saturating_add(need.len_bytes());
        let by_bytes = wanted.saturating_sub(self.control.geometry().budget);
        if by_bytes > 0 {
            return Ok(Outcome::OverBudget { by_bytes });
        }
        if !self.has_unused(2)? {
            return Ok(Outcome::NeedsTable);
        }
        let Some((gap, whole, start)) = self.find_gap(need)? else { return Ok(Outcome::NoGap) };
        let span = Span { start, granules: need.granules };
        let index = self.split(gap, whole, span, slot)?;
        Ok(Outcome::Got { index, span, warm: false })
    }

    /// A warm block of the size or up to a quarter larger.
    fn find_warm(&self, need: Need) -> Result<Option<(u32, Span)>> {
        if self.control.sum(&self.head.warm) < u64::from(need.granules) {
            return Ok(None);
        }
        let most = need.granules.saturating_add(need.granules / 4);
        for bin in bin_of(need.granules)..=bin_of(most) {
            let suits = |span: Span| (need.granules..=most).contains(&span.granules) && need.fits_at(span.start);
            let found = self.look(List::Warm, &self.head.warm_bins[bin], suits, LIST_LOOKS)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A gap, its span, and where in it the block shall start.
    fn find_gap(&self, need: Need) -> Result<Option<(u32, Span, u32)>> {
        let suits = |span: Span| place(span, need).is_some();
        // The first pass takes what a short look finds; the second, before giving up, looks at every gap.
        for looks in [LIST_LOOKS, usize::MAX] {
            for bin in &self.head.gap_bins[bin_of(need.granules)..] {
                if let Some((gap, span)) = self.look(List::Gaps, bin, suits, looks)? {
                    return Ok(place(span, need).map(|start| (gap, span, start)));
                }
            }
        }
        Ok(None)
    }

    /// The first entry of a list whose span suits.
    fn look(
        &self,
        list: List,
        bin: &AtomicU32,
        suits: impl Fn(Span) -> bool,
        looks: usize,
    ) -> Result<Option<(u32, Span)>> {
        let mut index = self.control.link(bin)?;
        for _ in 0..looks.min(self.control.geometry().blocks as usize) {
            if index == NONE {
                return Ok(None);
            }
            let (block, span) = self.entry(list, index)?;
            if suits(span) {
                return Ok(Some((index, span)));
            }
            index = self.control.link(&block.list_after)?;
        }
        if index != NONE && looks == usize::MAX {
            return Err(self.control.poison("a list runs in a circle"));
        }
        Ok(None)
    }

    /// An entry of a list, with its span.
    fn entry(&self, list: List, index: u32) -> Result<(&'a Block, Span)> {
        let block = self.block(index)?;
        if block.words().load().state != list.state() {
            return Err(self.control.poison("a list has a block that does not belong there"));
        }
        Ok((block, self.control.checked_span(block)?))
    }

    fn reuse(&self, index: u32, span: Span, slot: u32) -> Result<()> {
        let granules = u64::from(span.granules);
        self.unlink(index, span, List::Warm)?;
        point(Point::WarmUnlinked);
        self.own(index, slot, State::Reserved)?;
        point(Point::WarmReserved);
        self.control.lower(&self.head.warm, granules)?;
        self.control.raise(&self.head.used, granules);
        point(Point::WarmCounted);
        Ok(())
    }

    fn own(&self, index: u32, slot: u32, state: State) -> Result<()> {
        let block = self.block(index)?;
        let generation = block.words().load().generation;
        block.word.store(Word::new(generation, slot, state).pack(), SeqCst);
        Ok(())
    }

    /// Cuts `wanted` out of a gap, which is `whole`, and reserves it for `slot`; what is left before and behind stays
    /// gap.
    fn split(&self, gap: u32, whole: Span, wanted: Span, slot: u32) -> Result<u32> {
        let (before, after) = self.neighbours(self.block(gap)?)?;
        let index = self.take_unused()?;
        self.unlink(gap, whole, List::Gaps)?;
        point(Point::SplitUnlinked);
        let left = if wanted.start > whole.start {
            self.place_gap(gap, Span::new(whole.start, wanted.start), before, index)?;
            gap
        } else {
            before
        };
        point(Point::SplitFront);
        let right = if whole.end() > wanted.end() {
            let rest = self.take_unused()?;
            self.place_gap(rest, Span::new(wanted.end(), whole.end()), index, after)?;
            rest
        } else {
            after
        };
        point(Point::SplitBack);
        if left != gap {
            self.retire(gap)?;
        }
        self.join(left, index)?;
        self.join(index, right)?;
        let block = self.block(index)?;
        block.set_span(wanted);
        point(Point::SplitSpan);
        // The one store that makes it a block: before it the span is a gap's, whatever the links say.
        self.own(index, slot, State::Reserved)?;
        point(Point::SplitReserved);
        self.control.raise(&self.head.used, u64::from(wanted.granules));
        point(Point::SplitCounted);
        Ok(index)
    }

    // ---- giving back

    /// Turns a block that the caller owns as `Freeing` into a warm one, if the cap allows.
    pub(super) fn keep_warm(&self, index: u32) -> Result<bool> {
        let block = self.block(index)?;
        let span = self.control.checked_span(block)?;
        let granules = u64::from(span.granules);
        let warm = self.control.sum(&self.head.warm).saturating_add(granules);
        let warm_bytes = warm.saturating_mul(GRANULE_BYTES);
        if warm_bytes > self.control.geometry().warm_cap {
            return Ok(false);
        }
        let generation = block.words().load().generation.wrapping_add(1);
        block.word.store(Word::new(generation, 0, State::Warm).pack(), SeqCst);
        point(Point::WarmKept);
        self.push(index, span, List::Warm)?;
        point(Point::WarmLinked);
        self.control.lower(&self.head.used, granules)?;
        self.control.raise(&self.head.warm, granules);
        point(Point::WarmLinked);
        Ok(true)
    }

    /// Takes a warm block out for `slot` to give back; the largest first.
    pub(super) fn trim(&self, slot: u32) -> Result<Option<Mine>> {
        for bin in self.head.warm_bins.iter().rev() {
            let index = self.control.link(bin)?;
            if index == NONE {
                continue;
            }
            let (_, span) = self.entry(List::Warm, index)?;
            self.unlink(index, span, List::Warm)?;
            self.own(index, slot, State::Freeing)?;
            point(Point::WarmTrimmed);
            self.control.lower(&self.head.warm, span.granules.into())?;
            self.control.raise(&self.head.used, span.granules.into());
            point(Point::WarmTrimmed);
            return Ok(Some(Mine { index, span }));
        }
        Ok(None)
    }

    /// Grows a block that the caller owns as `Freeing` into the gaps beside it, up to whole pages, and returns the
    /// whole pages of it in granules: those it must give back to the machine before it becomes a gap.
    ///
    /// A page that two blocks share is thus given back by the later of them.
    pub(super) fn grow_to_pages(&self, index: u32) -> Result<Span> {
        let block = self.block(index)?;
        let span = self.control.checked_span(block)?;
        let (mut start, mut end) = (span.start, span.end());
        let (before, after) = self.neighbours(block)?;
        let wanted_start = start / PAGE_GRANULES * PAGE_GRANULES;
        if wanted_start < start
            && let Some(gap) = self.gap_at(before)?
            && self.touch(gap, span)?
            && gap.start <= wanted_start
        {
            self.shrink(before, gap, Span::new(gap.start, wanted_start), index)?;
            start = wanted_start;
        }
        let wanted_end = end.next_multiple_of(PAGE_GRANULES);
        if wanted_end > end
            && let Some(gap) = self.gap_at(after)?
            && self.touch(span, gap)?
            && gap.end() >= wanted_end
        {
            self.shrink(after, gap, Span::new(wanted_end, gap.end()), index)?;
            end = wanted_end;
        }
        if (start, end) != (span.start, span.end()) {
            block.set_span(Span::new(start, end));
            point(Point::FreeGrown);
            self.control.raise(&self.head.used, u64::from(end - start - span.granules));
            point(Point::FreeGrown);
        }
        let (first, last) = (start.next_multiple_of(PAGE_GRANULES), end / PAGE_GRANULES * PAGE_GRANULES);
        Ok(Span::new(first, last.max(first)))
    }

    /// Makes a gap smaller for the sake of its neighbour `by`; an empty one goes.
    fn shrink(&self, gap: u32, old: Span, new: Span, by: u32) -> Result<()> {
        let (before, after) = self.neighbours(self.block(gap)?)?;
        self.unlink(gap, old, List::Gaps)?;
        if new.granules > 0 {
            return self.place_gap(gap, new, before, after);
        }
        // What gives up its end lies before its neighbour.
        let (left, right) = if new.start == old.start { (before, by) } else { (by, after) };
        self.join(left, right)?;
        self.retire(gap)
    }

    /// Turns a block that the caller owns as `Freeing`, whose pages are given back, into a gap.
    pub(super) fn release(&self, index: u32) -> Result<()> {
        let block = self.block(index)?;
        let mut span = self.control.checked_span(block)?;
        let granules = u64::from(span.granules);
        let generation = block.words().load().generation.wrapping_add(1);
        block.word.store(Word::new(generation, 0, State::Free).pack(), SeqCst);
        point(Point::FreeWord);
        let (mut before, mut after) = self.neighbours(block)?;
        if let Some(gap) = self.gap_at(before)? {
            span = self.merged(gap, span)?;
            self.unlink(before, gap, List::Gaps)?;
            let (outer, _) = self.neighbours(self.block(before)?)?;
            self.retire(before)?;
            before = outer;
        }
        if let Some(gap) = self.gap_at(after)? {
            span = self.merged(span, gap)?;
            self.unlink(after, gap, List::Gaps)?;
            let (_, outer) = self.neighbours(self.block(after)?)?;
            self.retire(after)?;
            after = outer;
        }
        point(Point::FreeMerged);
        self.place_gap(index, span, before, after)?;
        self.control.lower(&self.head.used, granules)?;
        point(Point::FreeCounted);
        Ok(())
    }

    fn merged(&self, left: Span, right: Span) -> Result<Span> {
        self.touch(left, right)?;
        Ok(Span::new(left.start, right.end()))
    }

    /// True; the arena is poisoned if the spans are no neighbours.
    fn touch(&self, left: Span, right: Span) -> Result<bool> {
        if left.end() != right.start {
            return Err(self.control.poison("neighbours in the list are none in memory"));
        }
        Ok(true)
    }

    /// The neighbours of a span in address order; either may be [`NONE`].
    fn neighbours(&self, block: &Block) -> Result<(u32, u32)> {
        Ok((self.control.link(&block.before)?, self.control.link(&block.after)?))
    }

    // ---- lists and links

    fn gap_at(&self, index: u32) -> Result<Option<Span>> {
        if index == NONE {
            return Ok(None);
        }
        let block = self.block(index)?;
        if block.words().load().state != State::Free {
            return Ok(None);
        }
        self.control.checked_span(block).map(Some)
    }

    /// Makes descriptor `index` the gap `span` between its neighbours, and lists it.
    fn place_gap(&self, index: u32, span: Span, before: u32, after: u32) -> Result<()> {
        self.block(index)?.set_span(span);
        point(Point::ListLinked);
        self.join(before, index)?;
        self.join(index, after)?;
        self.push(index, span, List::Gaps)
    }

    /// Links two neighbours in address order; either may be [`NONE`].
    fn join(&self, left: u32, right: u32) -> Result<()> {
        if left != NONE {
            self.block(left)?.after.store(right, Relaxed);
            point(Point::ListLinked);
        }
        if right != NONE {
            self.block(right)?.before.store(left, Relaxed);
            point(Point::ListLinked);
        }
        Ok(())
    }

    fn bin(&self, list: List, span: Span) -> &'a AtomicU32 {
        let bins = match list {
            List::Gaps => &self.head.gap_bins,
            List::Warm => &self.head.warm_bins,
        };
        &bins[bin_of(span.granules)]
    }

    fn push(&self, index: u32, span: Span, list: List) -> Result<()> {
        let block = self.block(index)?;
        let bin = self.bin(list, span);
        let head = self.control.link(bin)?;
        block.list_before.store(NONE, Relaxed);
        block.list_after.store(head, Relaxed);
        if head != NONE {
            self.block(head)?.list_before.store(index, Relaxed);
            point(Point::ListLinked);
        }
        bin.store(index, Relaxed);
        point(Point::ListLinked);
        Ok(())
    }

    fn unlink(&self, index: u32, span: Span, list: List) -> Result<()> {
        let block = self.block(index)?;
        let bin = self.bin(list, span);
        let (before, after) = (self.control.link(&block.list_before)?, self.control.link(&block.list_after)?);
        if before == NONE {
            if self.control.link(bin)? != index {
                return Err(self.control.poison("a list does not start where its first entry says"));
            }
            bin.store(after, Relaxed);
            point(Point::ListLinked);
        } else {
            self.relay(&self.block(before)?.list_after, index, after)?;
        }
        if after != NONE {
            self.relay(&self.block(after)?.list_before, index, before)?;
        }
        Ok(())
    }

    /// Changes a link of a list that must lead to `old`.
    fn relay(&self, link: &AtomicU32, old: u32, new: u32) -> Result<()> {
        if self.control.link(link)? != old {
            return Err(self.control.poison("neighbours in a list do not know each other"));
        }
        link.store(new, Relaxed);
        point(Point::ListLinked);
        Ok(())
    }

    /// Whether `count` descriptors can be taken without committing more of their table.
    fn has_unused(&self, count: u32) -> Result<bool> {
        let mut found = self.control.blocks_ready().saturating_sub(self.control.high());
        let mut index = self.control.link(&self.head.unused)?;
        // BOUND: `count`, which is 2.
        while found < count && index != NONE {
            found += 1;
            index = self.control.link(&self.block(index)?.list_after)?;
        }
        Ok(found >= count)
    }

    /// A descriptor that nobody uses. The caller has checked [`Self::has_unused`].
    fn take_unused(&self) -> Result<u32> {
        let index = self.control.link(&self.head.unused)?;
        if index != NONE {
            let block = self.block(index)?;
            if !self.control.is_unused(block) {
                return Err(self.control.poison("the list of unused blocks has one that is used"));
            }
            self.head.unused.store(self.control.link(&block.list_after)?, Relaxed);
            point(Point::ListLinked);
            return Ok(index);
        }
        let index = self.control.high();
        if index >= self.control.blocks_ready() {
            return Err(self.control.poison("the list of unused blocks ended early"));
        }
        self.head.high.store(index + 1, Release);
        point(Point::ListLinked);
        Ok(index)
    }

    fn retire(&self, index: u32) -> Result<()> {
        let block = self.block(index)?;
        block.set_span(Span::default());
        point(Point::ListLinked);
        block.list_after.store(self.control.link(&self.head.unused)?, Relaxed);
        self.head.unused.store(index, Relaxed);
        point(Point::ListLinked);
        Ok(())
    }

    // ---- after a crash

    /// Makes lists, links and sums anew from state and span of the blocks. `scratch` should have room for
    /// [`Control::high`] entries, so that nothing is allocated under the lock.
    pub(super) fn rebuild(&self, scratch: &mut Vec<(Span, u32)>) -> Result<()> {
        self.head.gap_bins.iter().chain(&self.head.warm_bins).for_each(|bin| bin.store(NONE, Relaxed));
        self.head.unused.store(NONE, Relaxed);
        point(Point::SweepRebuilding);
        self.collect(scratch)?;
        scratch.sort_unstable();
        self.relink(scratch)?;
        self.recount(scratch)
    }

    /// Fills `used` with all spans in use, and retires every other descriptor.
    fn collect(&self, used: &mut Vec<(Span, u32)>) -> Result<()> {
        used.clear();
        // From the end, so that the list of unused ones starts with the lowest.
        for index in (0..self.control.high()).rev() {
            let block = self.block(index)?;
            if block.words().load().state == State::Free {
                self.retire(index)?;
            } else {
                used.push((self.control.checked_span(block)?, index));
            }
        }
        Ok(())
    }

    fn relink(&self, used: &[(Span, u32)]) -> Result<()> {
        let (mut position, mut last) = (0, NONE);
        let end = (Span { start: self.control.geometry().data_granules(), granules: 0 }, NONE);
        for &(span, index) in used.iter().chain([&end]) {
            if span.start < position {
                return Err(self.control.poison("two blocks overlap"));
            }
            if span.start > position {
                let gap = self.take_unused()?;
                self.place_gap(gap, Span::new(position, span.start), last, NONE)?;
                last = gap;
            }
            self.join(last, index)?;
            (position, last) = (span.end(), index);
        }
        Ok(())
    }

    fn recount(&self, used: &[(Span, u32)]) -> Result<()> {
        let (mut in_use, mut warm) = (0_u64, 0_u64);
        for &(span, index) in used {
            if self.block(index)?.words().load().state == State::Warm {
                self.push(index, span, List::Warm)?;
                warm += u64::from(span.granules);
            } else {
                in_use += u64::from(span.granules);
            }
        }
        self.head.used.store(in_use, Relaxed);
        self.head.warm.store(warm, Relaxed);
        point(Point::SweepRebuilding);
        Ok(())
    }
}

/// Where in `gap` a block for `need` starts: small ones at the front, those of 2 MiB and more at the back, so that
/// the two kinds seldom share a huge page.
fn place(gap: Span, need: Need) -> Option<u32> {
    let last = gap.end().checked_sub(need.granules)?;
    let start = if need.granules >= HUGE_GRANULES {
        last / need.align_granules * need.align_granules
    } else {
        gap.start.checked_next_multiple_of(need.align_granules)?
    };
    (gap.start..=last).contains(&start).then_some(start)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::control::BINS;
    use super::*;

    #[test]
    fn rounding_wastes_at_most_a_quarter_above_a_page() {
        for len in (4097..1 << 20).step_by(97).chain((1 << 20..1 << 28).step_by(99_991)) {
            let bytes = Need::new(len, 64).unwrap().len_bytes();
            assert!(bytes >= len && (bytes - len) * 4 <= len, "{len} takes {bytes}");
        }
        assert_eq!(Need::new(0, 64).unwrap().granules, 1);
        assert_eq!(Need::new(1 << 60, 64), None);
    }

    #[test]
    fn bins_are_monotonic_and_in_range() {
        let sizes = (1..5000).chain((0..32).map(|power| 1 << power)).chain([u32::MAX]);
        let mut sizes: Vec<u32> = sizes.collect();
        sizes.sort_unstable();
        assert!(sizes.windows(2).all(|pair| bin_of(pair[0]) <= bin_of(pair[1])));
        assert!(bin_of(u32::MAX) < BINS);
    }

    #[test]
    fn places_are_aligned_and_inside() {
        let need = Need { granules: 5, align_granules: 8 };
        assert_eq!(place(Span { start: 3, granules: 10 }, need), Some(8));
        assert_eq!(place(Span { start: 3, granules: 9 }, need), None);
        let large = Need { granules: 3000, align_granules: HUGE_GRANULES };
        assert_eq!(place(Span { start: 1, granules: 8200 }, large), Some(4096));
    }
}
