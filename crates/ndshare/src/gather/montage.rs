//! Which values of a cache a canvas lacks.
//!
//! A tile stands if the last call put the value of the same key of the same cache at the same place, and nobody has
//! stored or deleted that key since, which its generation tells. So nothing need be known of the value itself: it may
//! have been evicted. Where a tile lies depends on the extents of all before it; that of a standing tile is known from
//! its place, that of a missing one only when it has been loaded.

use super::joint::{Placement, fits};
use super::tiles::{Draft, Mark, Tile, Tiles};
use crate::error::{Error, Result};
use std::sync::Arc;

/// The shape of a canvas, and along which of its axes values stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strip<'a> {
    /// Items along each axis.
    pub shape: &'a [usize],
    /// Bytes from item to item.
    pub strides: &'a [isize],
    /// Values follow each other along this one.
    pub axis: usize,
}

/// What a canvas lacks.
#[derive(Debug)]
pub struct Montage<S> {
    /// One for each value, if none is wanted.
    pub parts: Vec<Part<S>>,
    /// The numbers of the keys whose values must be had.
    pub wanted: Vec<usize>,
    /// How many items all are along the axis, if none is wanted.
    extent: usize,
}

/// One tile of a montage.
#[derive(Debug)]
pub enum Part<S> {
    /// It is there already.
    Stands(Arc<Tile<S>>),
    /// Its value is to be copied to this index along the axis.
    Comes(usize),
}

impl<S> Montage<S> {
    /// Finds out what stands, what comes, and what is wanted. For each of the keys that `marks` name, `shapes` has the
    /// shape of its value if that is here; `name` is the key in words.
    ///
    /// # Errors
    /// `InvalidValue` for a value that does not fit.
    pub fn of<'v>(
        strip: Strip<'_>,
        old: &Tiles<S>,
        marks: &[Mark],
        shapes: impl IntoIterator<Item = Option<&'v [usize]>>,
        name: impl Fn(usize) -> String,
    ) -> Result<Self> {
        let step = strip.strides[strip.axis];
        let mut plan = Self { parts: Vec::with_capacity(marks.len()), wanted: vec![], extent: 0 };
        for (number, (mark, shape)) in marks.iter().zip(shapes).enumerate() {
            if let Some(shape) = shape {
                strip.check(shape, || name(number))?;
                plan.parts.push(Part::Comes(plan.extent));
                plan.extent = plan.extent.saturating_add(shape[strip.axis]);
                continue;
            }
            let offset = plan.extent.cast_signed().wrapping_mul(step);
            // Behind a value that is still wanted no place is sure; the next round looks again.
            let is_sure = plan.wanted.is_empty();
            let tile = if is_sure { old.at(number, offset) } else { old.nth(number) };
            match tile.filter(|tile| strip.has(tile, mark)) {
                Some(tile) => {
                    plan.extent = plan.extent.saturating_add(tile.shape()[strip.axis]);
                    plan.parts.push(Part::Stands(tile.clone()));
                }
                None => plan.wanted.push(number),
            }
        }
        Ok(plan)
    }

    /// Notes what stands, and returns number and index along the axis of each value that comes and that `must_copy`, which
    /// notes it, says is to be copied.
    pub fn note<'a>(
        self,
        strip: Strip<'a>,
        draft: &mut Draft<'_, S>,
        must_copy: impl Fn(&mut Draft<'_, S>, Placement<'a>) -> bool,
    ) -> Vec<(usize, usize)> {
        let mut coming = Vec::new();
        for (number, part) in self.parts.into_iter().enumerate() {
            match part {
                Part::Stands(tile) => draft.stands(tile),
                Part::Comes(index) if must_copy(draft, strip.placement(number, index)) => coming.push((number, index)),
                Part::Comes(_) => {}
            }
        }
        coming
    }

    /// Complains when the values together are not as long as the canvas.
    ///
    /// # Errors
    /// `InvalidValue`.
    pub fn check_extent(&self, strip: Strip<'_>) -> Result<()> {
        let Strip { shape, axis, .. } = strip;
        if shape[axis] == self.extent {
            return Ok(());
        }
        Err(Error::value(format!(
            "Output array is the wrong shape: the values are {} long along axis {axis}, and the canvas has shape \
             {shape:?}",
            self.extent
        )))
    }
}

impl<'a> Strip<'a> {
    /// Where the value of a number lies that begins at `index` along the axis.
    pub fn placement(&self, number: usize, index: usize) -> Placement<'a> {
        let Self { strides, axis, .. } = *self;
        Placement { number, offset: index.cast_signed() * strides[axis], strides }
    }

    /// Whether a tile is the value of a key, all across the canvas.
    fn has<S>(&self, tile: &Tile<S>, mark: &Mark) -> bool {
        tile.mark() == Some(mark) && *tile.strides() == *self.strides && fits(self.shape, tile.shape(), self.axis)
    }

    fn check(&self, shape: &[usize], name: impl FnOnce() -> String) -> Result<()> {
        let Strip { shape: whole, axis, .. } = *self;
        if fits(whole, shape, axis) {
            return Ok(());
        }
        Err(Error::value(format!(
            "expected values that fit a canvas of shape {whole:?} in all but axis {axis}, got {shape:?} for the key {}",
            name()
        )))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::BlockId;

    const STRIP: Strip<'static> = Strip { shape: &[2, 6], strides: &[6, 1], axis: 1 };

    fn mark(key: u8, generation: u64) -> Mark {
        Mark { cache: (1, BlockId { index: 1, generation: 1 }), key: vec![key], generation }
    }

    /// A canvas in which the keys 1, 2 and 3 stand, two items wide each.
    fn standing() -> Tiles<()> {
        let none = Tiles::new(vec![]);
        let mut draft = Draft::new(&none);
        for key in 1..=3_u8 {
            let at = Placement { number: 0, offset: 2 * (isize::from(key) - 1), strides: STRIP.strides };
            draft.must_copy(&[2, 2], at, Some(mark(key, 0)), |()| false, || None);
        }
        Tiles::new(draft.end(true))
    }

    fn wanted(marks: &[Mark], shapes: &[Option<&[usize]>]) -> (Vec<usize>, Vec<Option<usize>>) {
        let plan = Montage::of(STRIP, &standing(), marks, shapes.iter().copied(), |_| String::new()).unwrap();
        let comes = |part: &Part<()>| match part {
            Part::Stands(_) => None,
            Part::Comes(at) => Some(*at),
        };
        (plan.wanted, plan.parts.iter().map(comes).collect())
    }

    #[test]
    fn keys_that_stand_are_not_wanted() {
        assert_eq!(wanted(&[mark(1, 0), mark(2, 0), mark(3, 0)], &[None; 3]), (vec![], vec![None; 3]));
        assert_eq!(wanted(&[mark(1, 0), mark(2, 1), mark(3, 0)], &[None; 3]).0, [1], "another generation");
        assert_eq!(wanted(&[mark(2, 0), mark(1, 0), mark(3, 0)], &[None; 3]).0, [0, 1], "other places");
    }

    #[test]
    fn what_follows_another_extent_moves() {
        let marks = [mark(1, 0), mark(2, 1), mark(3, 0)];
        assert_eq!(wanted(&marks, &[None, Some(&[2, 2]), None]), (vec![], vec![None, Some(2), None]));
        assert_eq!(wanted(&marks, &[None, Some(&[2, 1]), None]).0, [2]);
        assert_eq!(wanted(&marks, &[None, Some(&[2, 1]), Some(&[2, 3])]).1, [None, Some(2), Some(3)]);
    }

    #[test]
    fn what_comes_is_copied_unless_it_stands_after_all() {
        let (old, marks) = (standing(), [mark(1, 0), mark(2, 1), mark(3, 0)]);
        let shapes: [Option<&[usize]>; 3] = [None, Some(&[2, 2]), Some(&[2, 2])];
        let montage = || Montage::of(STRIP, &old, &marks, shapes, |_| String::new()).unwrap();
        let noted = |stands: usize| {
            let mut draft = Draft::new(&old);
            let coming = montage().note(STRIP, &mut draft, |draft, at| {
                let shape = shapes[at.number].unwrap();
                draft.must_copy(shape, at, Some(marks[at.number].clone()), |()| false, || None);
                at.number != stands
            });
            (coming, draft.end(true).len())
        };
        assert_eq!(noted(9), (vec![(1, 2), (2, 4)], 3));
        assert_eq!(noted(2), (vec![(1, 2)], 3));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let marks = [mark(9, 0)];
        let plan =
            |shape: &'static [usize]| Montage::of(STRIP, &standing(), &marks, [Some(shape)], |_| "'k'".to_owned());
        assert_eq!(
            plan(&[3, 6]).unwrap_err().to_string(),
            "expected values that fit a canvas of shape [2, 6] in all but axis 1, got [3, 6] for the key 'k'"
        );
        assert!(
            plan(&[2, 5]).unwrap().check_extent(STRIP).unwrap_err().to_string().contains("are 5 long along axis 1")
        );
        assert!(plan(&[2, 6]).unwrap().check_extent(STRIP).is_ok());
    }
}
