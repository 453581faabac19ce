//! The copies of one call: many sources into parts of one target, planned as they come, then run.
//!
//! Sources of one conversion share a plan. A target that is small takes its sources at once, without a plan.

use super::execute::{Ends, execute};
use super::joint::Placement;
use super::plan::{CopyPlan, Planner};
use super::settings::Settings;
use super::small::{Pair, SMALL_BYTES};
use super::strided::{Strided, View};
use crate::error::Result;
use crate::kernel::{Cast, LINE};
use crate::layout;
use crate::pool::Check;
use std::ops::Range;

/// Copies from many arrays into parts of one, in the making.
#[derive(Debug)]
pub struct Copies {
    /// Where the target begins.
    first: *mut u8,
    /// The first byte that it reaches, and the first beyond.
    reach: (usize, usize),
    itemsize: usize,
    /// Bytes of the target.
    bytes: usize,
    settings: Settings,
    /// The target is so small that sources are copied as they come.
    is_small: bool,
    /// What is planned, by conversion; most calls have one.
    groups: Vec<Group>,
    /// The group of the latest source.
    latest: usize,
}

#[derive(Debug)]
struct Group {
    cast: Option<Cast>,
    planner: Planner,
    ends: Vec<Ends>,
}

/// Planned copies of one conversion.
#[derive(Debug)]
pub struct Batch {
    plan: CopyPlan,
    ends: Vec<Ends>,
}

impl Copies {
    /// Copies into `target`, which is part of an array of `whole_bytes`; none where two of its items share a byte, or
    /// have no bytes. `is_lazy`: nothing is copied before the end, however small the target is.
    pub fn onto<S: Strided>(target: &S, whole_bytes: usize, settings: Settings, is_lazy: bool) -> Option<Self> {
        let (View { first, shape, strides, itemsize, is_c, .. }, reach) = (target.as_view(), target.span()?);
        let is_apart = is_c || layout::is_apart(shape, strides, itemsize);
        (is_apart && itemsize > 0).then(|| Self {
            first,
            reach,
            itemsize,
            settings: settings.for_part([footprint(target, reach)], target.size() * itemsize, whole_bytes),
            bytes: target.size() * itemsize,
            is_small: !is_lazy && target.size() * itemsize <= SMALL_BYTES,
            groups: vec![],
            latest: 0,
        })
    }

    /// Whether a source reaches none of the bytes that the target reaches.
    #[inline]
    pub fn is_apart_from<S: Strided>(&self, source: &S) -> bool {
        source.span().is_some_and(|(first, end)| first >= self.reach.1 || self.reach.0 >= end)
    }

    /// Copies `source`, or plans to, into its place in the target.
    ///
    /// # Errors
    /// `InvalidValue` for more bytes than an address space has.
    ///
    /// # Safety
    /// The source's items are readable, and the target's writable, until the copies are run. All places lie inside the
    /// target, and none in another's; no source reaches a byte of the target. The items are as large as the conversion,
    /// or the target, says.
    #[inline]
    pub unsafe fn add<S: Strided>(&mut self, source: &S, cast: Option<Cast>, at: Placement<'_>) -> Result<()> {
        let View { first, shape, strides, itemsize, .. } = source.as_view();
        debug_assert_eq!(itemsize, cast.map_or(self.itemsize, Cast::from_size));
        debug_assert_eq!(shape.len(), at.strides.len());
        let ends = Ends { dst: self.first.wrapping_offset(at.offset), src: first };
        if self.is_small {
            let (dst_strides, dst_size) = (at.strides, self.itemsize);
            let pair = Pair { shape, dst_strides, src_strides: strides, dst_size, src_size: itemsize, cast };
            // SAFETY: as the caller says.
            if unsafe { pair.copy_now(self.settings.cpu, ends) } {
                return Ok(());
            }
        }
        let group = match self.groups.get(self.latest) {
            Some(group) if group.cast == cast => &mut self.groups[self.latest],
            _ => self.find_or_add(cast)?,
        };
        group.planner.tile(shape, at.strides, strides)?;
        group.ends.push(ends);
        Ok(())
    }

    #[cold]
    fn find_or_add(&mut self, cast: Option<Cast>) -> Result<&mut Group> {
        self.latest = match self.groups.iter().position(|group| group.cast == cast) {
            Some(place) => place,
            None => {
                let planner = cast.map_or_else(|| Planner::new(self.itemsize), |cast| Ok(Planner::with_cast(cast)))?;
                self.groups.push(Group { cast, planner, ends: vec![] });
                self.groups.len() - 1
            }
        };
        Ok(&mut self.groups[self.latest])
    }

    /// The plans for what is to be copied yet.
    pub fn finish(self) -> impl Iterator<Item = Batch> {
        let (settings, bytes) = (self.settings, self.bytes);
        self.groups.into_iter().map(move |group| group.finish(&settings, bytes))
    }
}

impl Group {
    /// The plan for copies into a target of `target_bytes`. A few tiles of a large canvas are a part of it.
    fn finish(self, settings: &Settings, target_bytes: usize) -> Batch {
        let tiles = self.ends.iter().map(|ends| ends.dst.addr()..ends.dst.addr() + LINE);
        let settings = if target_bytes >= settings.stream_from {
            settings.for_part(tiles, self.planner.bytes(), target_bytes)
        } else {
            *settings
        };
        Batch { plan: self.planner.finish(&settings), ends: self.ends }
    }
}

/// What stands for a target when it is written again: all of it, or, where its rows lie apart, the first one. Others may lie
/// between its rows.
fn footprint<S: Strided>(target: &S, (first, end): (usize, usize)) -> Range<usize> {
    let View { first: item, shape, itemsize, is_c, is_f, .. } = target.as_view();
    if is_c || is_f {
        return first..end;
    }
    item.addr()..item.addr() + shape.last().unwrap_or(&1) * itemsize
}

impl Batch {
    /// Bytes of all parts together.
    pub fn bytes(&self) -> usize {
        self.plan.bytes
    }

    /// Copies; an error of `check` ends it half-way.
    ///
    /// # Errors
    /// What `check` says, which runs on the calling thread about every 50 ms.
    ///
    /// # Safety
    /// As [`Copies::add`], until this returns.
    pub unsafe fn run(&self, check: Check<'_>) -> Result<()> {
        // SAFETY: as the caller says; `Copies::onto` has seen that no two items of the target share a byte.
        unsafe { execute(&self.plan, &self.ends, check) }
    }
}
