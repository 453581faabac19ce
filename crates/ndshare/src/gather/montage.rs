//! Which values of a cache a canvas lacks.
//!
//! A tile stands if the last call put the value of the same key of the same cache at the same place, and nobody has
//! stored or deleted that key since, which its generation tells. So nothing need be known of the value itself: it may
//! have been evicted. Where a tile lies depends on the extents of all before it; that of a standing tile is known from
//! its place, that of a missing one only when it has been loaded.
//!
//! Values stand in one row, side by side along an axis, or in several rows, one behind the other along a second axis.

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
    /// How they are shared out to rows; none: there is one row, all across the canvas.
    pub rows: Option<Rows<'a>>,
}

/// Rows of values, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows<'a> {
    /// Rows follow each other along this axis, and the values of one are equally long there.
    pub axis: usize,
    /// How many values each row has.
    pub counts: &'a [usize],
}

/// Where a value begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Start {
    /// Items along the axis of the strip.
    pub along: usize,
    /// Items along the axis of the rows.
    pub across: usize,
}

/// What a canvas lacks.
#[derive(Debug)]
pub struct Montage<S> {
    /// One for each value, if none is wanted.
    pub parts: Vec<Part<S>>,
    /// The numbers of the keys whose values must be had.
    pub wanted: Vec<usize>,
    /// How many items each row is along the axis, if none is wanted.
    extents: Vec<usize>,
    /// How many items all rows are along theirs.
    depth: usize,
}

/// One tile of a montage.
#[derive(Debug)]
pub enum Part<S> {
    /// It is there already.
    Stands(Arc<Tile<S>>),
    /// Its value is to be copied to where it begins.
    Comes(Start),
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
        let mut plan = Self { parts: Vec::with_capacity(marks.len()), wanted: vec![], extents: vec![], depth: 0 };
        let all = [marks.len()];
        let mut values = marks.iter().zip(shapes).enumerate();
        for (row, &count) in strip.rows.map_or(&all[..], |rows| rows.counts).iter().enumerate() {
            let mut line =
                Line { row, across: plan.depth, first: plan.parts.len() + plan.wanted.len(), along: 0, height: None };
            for (number, (mark, shape)) in values.by_ref().take(count) {
                plan.place(strip, old, &mut line, (number, mark, shape), &name)?;
            }
            plan.extents.push(line.along);
            plan.depth = plan.depth.saturating_add(line.height.unwrap_or(0));
        }
        Ok(plan)
    }

    /// Finds out of one value whether it stands, comes or is wanted.
    fn place(
        &mut self,
        strip: Strip<'_>,
        old: &Tiles<S>,
        line: &mut Line,
        (number, mark, shape): (usize, &Mark, Option<&[usize]>),
        name: impl Fn(usize) -> String,
    ) -> Result<()> {
        if let Some(shape) = shape {
            strip.check(shape, line, || name(number), number)?;
            self.parts.push(Part::Comes(line.start()));
            line.pass(strip, shape);
            return Ok(());
        }
        // Behind a value that is still wanted no place is sure; the next round looks again.
        let is_sure = self.wanted.is_empty();
        let tile = if is_sure { old.at(number, strip.offset(line.start())) } else { old.nth(number) };
        match tile.filter(|tile| strip.has(tile, mark, line.height)) {
            Some(tile) => {
                line.pass(strip, tile.shape());
                self.parts.push(Part::Stands(tile.clone()));
            }
            None => self.wanted.push(number),
        }
        Ok(())
    }

    /// Notes what stands, and returns number and beginning of each value that comes and that `must_copy`, which notes it, says
    /// is to be copied.
    pub fn note<'a>(
        self,
        strip: Strip<'a>,
        draft: &mut Draft<'_, S>,
        must_copy: impl Fn(&mut Draft<'_, S>, Placement<'a>) -> bool,
    ) -> Vec<(usize, Start)> {
        let mut coming = Vec::new();
        for (number, part) in self.parts.into_iter().enumerate() {
            match part {
                Part::Stands(tile) => draft.stands(tile),
                Part::Comes(start) if must_copy(draft, strip.placement(number, start)) => coming.push((number, start)),
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
        let Strip { shape, axis, rows, .. } = strip;
        let wrong = |which: String, long: usize, axis: usize| {
            Err(Error::value(format!(
                "Output array is the wrong shape: {which} are {long} long along axis {axis}, and the canvas has shape {shape:?}"
            )))
        };
        if let Some((row, &long)) = self.extents.iter().enumerate().find(|&(_, &extent)| extent != shape[axis]) {
            let which = rows.map_or_else(|| "the values".to_owned(), |_| format!("the values of row {row}"));
            return wrong(which, long, axis);
        }
        match rows {
            Some(rows) if shape[rows.axis] != self.depth => wrong("the rows".to_owned(), self.depth, rows.axis),
            _ => Ok(()),
        }
    }
}

/// A row while its values are gone through.
struct Line {
    row: usize,
    /// Where it begins along the axis of the rows.
    across: usize,
    /// The number of its first value.
    first: usize,
    /// Where the next value begins.
    along: usize,
    /// How long its values are along the axis of the rows, once one of them is known.
    height: Option<usize>,
}

impl Line {
    fn start(&self) -> Start {
        Start { along: self.along, across: self.across }
    }

    /// Goes on behind a value.
    fn pass(&mut self, strip: Strip<'_>, shape: &[usize]) {
        self.along = self.along.saturating_add(shape[strip.axis]);
        self.height = self.height.or(strip.rows.map(|rows| shape[rows.axis]));
    }
}

impl<'a> Strip<'a> {
    /// Where the value of a number lies that begins there.
    pub fn placement(&self, number: usize, start: Start) -> Placement<'a> {
        Placement { number, offset: self.offset(start), strides: self.strides }
    }

    /// Bytes from the first item of the canvas to what begins there.
    fn offset(&self, start: Start) -> isize {
        let along = start.along.cast_signed().wrapping_mul(self.strides[self.axis]);
        let across = self.rows.map_or(0, |rows| start.across.cast_signed().wrapping_mul(self.strides[rows.axis]));
        along.wrapping_add(across)
    }

    /// Whether a tile is the value of a key, in a row of this height.
    fn has<S>(&self, tile: &Tile<S>, mark: &Mark, height: Option<usize>) -> bool {
        tile.mark() == Some(mark) && *tile.strides() == *self.strides && self.fits(tile.shape(), height)
    }

    /// Whether a value is as long as the canvas along all axes but its own, and as the row along that of the rows.
    fn fits(&self, shape: &[usize], height: Option<usize>) -> bool {
        let Some(rows) = self.rows else { return fits(self.shape, shape, self.axis) };
        let wanted = |axis: usize| if axis == rows.axis { height } else { Some(self.shape[axis]) };
        let is_right = |axis: usize| axis == self.axis || wanted(axis).is_none_or(|wanted| wanted == shape[axis]);
        shape.len() == self.shape.len() && (0..shape.len()).all(is_right)
    }

    fn check(&self, shape: &[usize], line: &Line, name: impl FnOnce() -> String, number: usize) -> Result<()> {
        if self.fits(shape, line.height) {
            return Ok(());
        }
        let Strip { shape: whole, axis, .. } = *self;
        let Some(rows) = self.rows else {
            return Err(Error::value(format!(
                "expected values that fit a canvas of shape {whole:?} in all but axis {axis}, got {shape:?} for the key {}",
                name()
            )));
        };
        let (row, column, down) = (line.row, number - line.first, rows.axis);
        let long = line.height.map_or_else(String::new, |height| {
            format!(", {height} long along axis {down} as the values before it in its row")
        });
        Err(Error::value(format!(
            "expected values that fit a canvas of shape {whole:?} in all but axes {down} and {axis}{long}, got {shape:?} for the \
             key {} in row {row}, column {column}",
            name()
        )))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::BlockId;

    const STRIP: Strip<'static> = Strip { shape: &[2, 6], strides: &[6, 1], axis: 1, rows: None };

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
            Part::Comes(at) => Some(at.along),
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
            let coming: Vec<_> = coming.into_iter().map(|(number, start)| (number, start.along)).collect();
            (coming, draft.end(true).len())
        };
        assert_eq!(noted(9), (vec![(1, 2), (2, 4)], 3));
        assert_eq!(noted(2), (vec![(1, 2)], 3));
    }

    #[test]
    fn rows_stand_one_behind_the_other() {
        // Rows of two and three values, one and two items high.
        let rows = Rows { axis: 0, counts: &[2, 3] };
        let grid = Strip { shape: &[3, 6], rows: Some(rows), ..STRIP };
        let (marks, none) = ([1_u8, 2, 3, 4, 5].map(|key| mark(key, 0)), Tiles::<()>::new(vec![]));
        let shapes: [&[usize]; 5] = [&[1, 4], &[1, 2], &[2, 1], &[2, 2], &[2, 3]];
        let of = |tiles: &Tiles<()>, marks: &[Mark], known: &[Option<&[usize]>]| {
            Montage::of(grid, tiles, marks, known.iter().copied(), |number| number.to_string())
        };
        assert_eq!(of(&none, &marks, &[None; 5]).unwrap().wanted, [0, 1, 2, 3, 4]);
        let plan = of(&none, &marks, &shapes.map(Some)).unwrap();
        plan.check_extent(grid).unwrap();
        let mut draft = Draft::new(&none);
        let coming = plan.note(grid, &mut draft, |draft, at| {
            draft.must_copy(shapes[at.number], at, Some(marks[at.number].clone()), |()| false, || None)
        });
        let starts: Vec<_> = coming.iter().map(|(_, start)| (start.across, start.along)).collect();
        assert_eq!(starts, [(0, 0), (0, 4), (1, 0), (1, 1), (1, 3)]);
        let tiles = Tiles::new(draft.end(true));
        assert!(of(&tiles, &marks, &[None; 5]).unwrap().wanted.is_empty());
        // Another generation of one of them, which is as large: nothing else is wanted.
        let changed = [1_u8, 2, 3, 4, 5].map(|key| mark(key, u64::from(key == 3)));
        assert_eq!(of(&tiles, &changed, &[None; 5]).unwrap().wanted, [2]);
        let again = of(&tiles, &changed, &[None, None, Some(shapes[2]), None, None]).unwrap();
        assert!(again.wanted.is_empty() && again.check_extent(grid).is_ok());
        // Errors say where.
        let error = of(&none, &marks, &[Some(&[1, 4]), Some(&[2, 2]), None, None, None]).unwrap_err().to_string();
        assert!(error.contains("1 long along axis 0") && error.ends_with("the key 1 in row 0, column 1"), "{error}");
        let short = of(
            &none,
            &marks,
            &[&[1, 4], &[1, 1], &[2, 1], &[2, 2], &[2, 3]].map(|shape: &[usize; 2]| Some(&shape[..])),
        );
        let error = short.unwrap().check_extent(grid).unwrap_err().to_string();
        assert!(error.contains("the values of row 0 are 5 long along axis 1"), "{error}");
        let low = of(
            &none,
            &marks,
            &[&[1, 4], &[1, 2], &[1, 1], &[1, 2], &[1, 3]].map(|shape: &[usize; 2]| Some(&shape[..])),
        );
        let error = low.unwrap().check_extent(grid).unwrap_err().to_string();
        assert!(error.contains("the rows are 2 long along axis 0"), "{error}");
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
