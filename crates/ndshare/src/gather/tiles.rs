//! What stands where: the tiles that one call put into a canvas, so that the next need not copy them again.
//!
//! Each array of a call is a tile: a place, and what was copied there. The tiles of one call cover the canvas without
//! overlapping. So a tile of the last call whose place and source are those of a new array stands, whatever became of
//! the others. A [`Draft`] collects the tiles of a call and says of each whether it must be copied.

use super::joint::Placement;
use crate::arena::BlockId;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A part of a canvas, and what was copied there. `S` names the source: an array whose bytes never change any more.
#[derive(Debug)]
pub struct Tile<S> {
    place: TileLayout,
    /// None for an array that somebody may still write to.
    source: Option<S>,
    mark: Option<Mark>,
}

/// Where a tile lies in a canvas.
#[derive(Debug, PartialEq, Eq)]
struct TileLayout {
    /// Bytes from the start of the canvas.
    offset: isize,
    shape: Box<[usize]>,
    strides: Box<[isize]>,
}

/// Which value of a cache something is: whose, under which key, and how often that key had been stored or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The arena of the cache, and the block of its head.
    pub cache: (u64, BlockId),
    /// The key's bytes.
    pub key: Vec<u8>,
    /// What the cache calls the generation of the key.
    pub generation: u64,
}

impl<S> Tile<S> {
    /// Items along each axis.
    pub fn shape(&self) -> &[usize] {
        &self.place.shape
    }

    /// Bytes from item to item in the canvas.
    pub fn strides(&self) -> &[isize] {
        &self.place.strides
    }

    /// Which value of a cache it is; none when it was no such value.
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }
}

/// The tiles of the call before.
#[derive(Debug)]
pub struct Tiles<S> {
    tiles: Vec<Arc<Tile<S>>>,
    /// Which tile begins at which offset; made when it is needed.
    by_offset: OnceCell<HashMap<isize, usize>>,
}

impl<S> Tiles<S> {
    pub(super) fn new(tiles: Vec<Arc<Tile<S>>>) -> Self {
        Self { tiles, by_offset: OnceCell::new() }
    }

    /// The tile with this number.
    pub fn nth(&self, number: usize) -> Option<&Arc<Tile<S>>> {
        self.tiles.get(number)
    }

    /// The tile that begins at an offset; most likely the one with this number.
    pub fn at(&self, number: usize, offset: isize) -> Option<&Arc<Tile<S>>> {
        if let Some(tile) = self.tiles.get(number).filter(|tile| tile.place.offset == offset) {
            return Some(tile);
        }
        let list = || self.tiles.iter().enumerate().map(|(number, tile)| (tile.place.offset, number)).collect();
        self.by_offset.get_or_init(list).get(&offset).map(|&number| &self.tiles[number])
    }

    pub(super) fn into_list(self) -> Vec<Arc<Tile<S>>> {
        self.tiles
    }
}

/// The tiles of a call in the making.
#[derive(Debug)]
pub struct Draft<'a, S> {
    old: &'a Tiles<S>,
    /// With each, whether it still has to be copied.
    tiles: Vec<(Arc<Tile<S>>, bool)>,
}

impl<'a, S> Draft<'a, S> {
    /// Of the tiles of the call before.
    pub fn new(old: &'a Tiles<S>) -> Self {
        Self { old, tiles: vec![] }
    }

    /// Notes a tile that stands.
    pub fn stands(&mut self, tile: Arc<Tile<S>>) {
        self.tiles.push((tile, false));
    }

    /// Notes an array of this shape at a place. False: it stands there already.
    ///
    /// `is_it` says whether a known source is this array; `source` names the array if nobody writes to it any more;
    /// `mark` is which value of a cache it is.
    pub fn must_copy(
        &mut self,
        shape: &[usize],
        at: Placement<'_>,
        mark: Option<Mark>,
        is_it: impl FnOnce(&S) -> bool,
        source: impl FnOnce() -> Option<S>,
    ) -> bool {
        let same_place = |tile: &&Arc<Tile<S>>| *tile.place.shape == *shape && *tile.place.strides == *at.strides;
        let old = self.old.at(self.tiles.len(), at.offset).filter(same_place);
        let same = old.filter(|tile| tile.source.as_ref().is_some_and(is_it));
        if let Some(tile) = same.filter(|tile| mark.is_none() || tile.mark == mark) {
            self.tiles.push((tile.clone(), false));
            return false;
        }
        let place = TileLayout { offset: at.offset, shape: shape.into(), strides: at.strides.into() };
        let is_new = same.is_none();
        self.tiles.push((Arc::new(Tile { place, source: source(), mark }), is_new));
        is_new
    }

    /// Whether anything must be copied.
    pub fn has_new(&self) -> bool {
        self.tiles.iter().any(|(_, is_new)| *is_new)
    }

    /// What stands after the copies: all tiles, or, when they failed, those that stood before.
    pub fn end(self, is_done: bool) -> Vec<Arc<Tile<S>>> {
        let stands = self.tiles.into_iter().filter(|(_, is_new)| is_done || !is_new);
        stands.map(|(tile, _)| tile).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(offset: isize) -> Placement<'static> {
        Placement { number: 0, offset, strides: &[8, 1] }
    }

    /// The tiles of a call: `(offset, source)` each, all of one shape.
    fn call(old: &Tiles<u32>, wanted: &[(isize, u32)], is_done: bool) -> (Vec<bool>, Tiles<u32>) {
        let mut draft = Draft::new(old);
        let copied = wanted.iter().map(|&(offset, source)| {
            draft.must_copy(&[2, 3], at(offset), None, |known| *known == source, || (source > 0).then_some(source))
        });
        let copied = copied.collect::<Vec<_>>();
        assert_eq!(draft.has_new(), copied.contains(&true));
        (copied, Tiles::new(draft.end(is_done)))
    }

    #[test]
    fn only_what_changed_is_copied() {
        let (copied, tiles) = call(&Tiles::new(vec![]), &[(0, 1), (3, 2), (6, 3)], true);
        assert_eq!(copied, [true; 3]);
        let (copied, tiles) = call(&tiles, &[(0, 1), (3, 4), (6, 3)], true);
        assert_eq!(copied, [false, true, false]);
        // The order of a call does not matter, the place does.
        let (copied, tiles) = call(&tiles, &[(6, 3), (0, 4), (3, 1)], true);
        assert_eq!(copied, [false, true, true]);
        assert_eq!(call(&tiles, &[(0, 4), (3, 1), (6, 3)], true).0, [false; 3]);
    }

    #[test]
    fn what_may_change_never_stands() {
        let (_, tiles) = call(&Tiles::new(vec![]), &[(0, 0)], true);
        assert_eq!(call(&tiles, &[(0, 0)], true).0, [true]);
    }

    #[test]
    fn a_failed_copy_leaves_what_stood_before() {
        let (_, tiles) = call(&Tiles::new(vec![]), &[(0, 1), (3, 2)], true);
        let (_, tiles) = call(&tiles, &[(0, 1), (3, 5)], false);
        assert_eq!(call(&tiles, &[(0, 1), (3, 2)], true).0, [false, true]);
    }

    #[test]
    fn another_shape_is_another_tile() {
        let (_, tiles) = call(&Tiles::new(vec![]), &[(0, 1)], true);
        let mut draft = Draft::new(&tiles);
        assert!(draft.must_copy(&[2, 4], at(0), None, |_| true, || Some(1)));
    }

    #[test]
    fn the_same_bytes_under_another_key_are_noted_and_not_copied() {
        let mark =
            |generation| Some(Mark { cache: (1, BlockId { index: 1, generation: 1 }), key: vec![7], generation });
        let none = Tiles::new(vec![]);
        let mut draft = Draft::new(&none);
        assert!(draft.must_copy(&[2, 3], at(0), mark(1), |known: &u32| *known == 1, || Some(1)));
        let tiles = Tiles::new(draft.end(true));
        let mut draft = Draft::new(&tiles);
        assert!(!draft.must_copy(&[2, 3], at(0), mark(2), |known| *known == 1, || Some(1)));
        assert_eq!(draft.end(true)[0].mark(), mark(2).as_ref());
    }
}
