//! `block`: nested lists of arrays.
//!
//! The lists are flattened once: into the leaves, and for each list how many parts it has. What follows walks those
//! two, first to find the shape, then to add the pairs. All leaves must be equally deep, and have equally many
//! dimensions; everything else is NumPy's affair.

use std::slice::Iter;

use pyo3::prelude::*;
use pyo3::types::PyList;

use super::job::Job;
use super::sources::{Sources, facts_of};
use super::target::{Outcome, Wanted, reach};
use crate::make::empty_for;
use crate::ndarray::Operand;
use crate::shape::Shape;

/// Deeper lists are NumPy's affair.
const MAX_DEPTH: usize = 16;

/// `block` for ordinary arrays.
pub(super) fn block<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let Some(tree) = Tree::of(arrays) else { return Ok(Outcome::Unusual) };
    let Some(facts) = facts_of(&tree.leaves) else { return Ok(Outcome::Unusual) };
    let Some(blocks) = Blocks::of(&tree, &facts) else { return Ok(Outcome::Unusual) };
    let Some(shape) = blocks.shape() else { return Ok(Outcome::Unusual) };
    let order = blocks.order();
    let make = |dtype| {
        let known = Shape::known(&shape);
        known.map(|mut known| empty_for(py, &mut known, dtype, order.as_deref())).transpose()
    };
    let fill =
        |job: &mut Job<'_, '_>, out: &Operand<'_>| blocks.add(job, out.strides, &mut blocks.walk(), 0, 0).map(drop);
    reach(py, &facts, &shape, wanted, make, fill)
}

/// Nested lists, flattened.
struct Tree<'py> {
    /// How many lists are around each leaf.
    depth: usize,
    /// How many parts each list has, parents before their children.
    counts: Vec<usize>,
    leaves: Sources<'py>,
}

impl<'py> Tree<'py> {
    /// None for anything but lists that are equally deep everywhere, and nowhere empty.
    fn of(arrays: &Bound<'py, PyAny>) -> Option<Self> {
        let mut tree = Self { depth: 0, counts: vec![], leaves: vec![] };
        tree.flatten(arrays.cast_exact::<PyList>().ok()?, 1)?;
        Some(tree)
    }

    fn flatten(&mut self, list: &Bound<'py, PyList>, depth: usize) -> Option<()> {
        if list.is_empty() || depth > MAX_DEPTH {
            return None;
        }
        self.counts.push(list.len());
        for part in list {
            if let Ok(inner) = part.cast_exact::<PyList>() {
                self.flatten(inner, depth + 1)?;
                continue;
            }
            if self.leaves.is_empty() {
                self.depth = depth;
            }
            if self.depth != depth {
                return None;
            }
            self.leaves.push(part);
        }
        Some(())
    }
}

/// A walk through the tree: the next list, and the next leaf.
struct Walk<'a> {
    counts: Iter<'a, usize>,
    leaves: Iter<'a, Operand<'a>>,
}

/// The leaves as arrays of the result's dimensions.
struct Blocks<'a> {
    tree: &'a Tree<'a>,
    facts: &'a [Operand<'a>],
    ndim: usize,
}

impl<'a> Blocks<'a> {
    /// None when the leaves have not all the same number of dimensions.
    fn of(tree: &'a Tree<'a>, facts: &'a [Operand<'a>]) -> Option<Self> {
        let first = facts.first()?.shape.len();
        let even = facts.iter().all(|leaf| leaf.shape.len() == first);
        even.then_some(Self { tree, facts, ndim: first.max(tree.depth) })
    }

    fn walk(&self) -> Walk<'a> {
        Walk { counts: self.tree.counts.iter(), leaves: self.facts.iter() }
    }

    /// The axis along which lists of this level (0 for the outermost) put their parts.
    fn axis(&self, level: usize) -> usize {
        self.ndim - self.tree.depth + level
    }

    /// The length of a leaf along an axis of the result.
    fn length(&self, leaf: &Operand<'_>, axis: usize) -> usize {
        let missing = self.ndim - leaf.shape.len();
        axis.checked_sub(missing).map_or(1, |axis| leaf.shape[axis])
    }

    /// The shape of the result; None when the parts do not fit.
    fn shape(&self) -> Option<Vec<usize>> {
        let mut lengths = vec![vec![0; self.ndim]; self.tree.depth + 1];
        self.measure(&mut lengths, &mut self.walk(), 0)?;
        Some(lengths.swap_remove(0))
    }

    /// Finds the shape of the next part of this level, and leaves it in `lengths[level]`.
    fn measure(&self, lengths: &mut [Vec<usize>], walk: &mut Walk<'_>, level: usize) -> Option<()> {
        if level == self.tree.depth {
            let leaf = walk.leaves.next()?;
            let missing = self.ndim - leaf.shape.len();
            lengths[level][..missing].fill(1);
            lengths[level][missing..].copy_from_slice(leaf.shape);
            return Some(());
        }
        let axis = self.axis(level);
        for part in 0..*walk.counts.next()? {
            self.measure(lengths, walk, level + 1)?;
            let (outer, inner) = lengths.split_at_mut(level + 1);
            let (whole, new) = (&mut outer[level], &inner[0]);
            if part == 0 {
                whole.copy_from_slice(new);
                continue;
            }
            if whole[..axis] != new[..axis] || whole[axis + 1..] != new[axis + 1..] {
                return None;
            }
            whole[axis] = whole[axis].checked_add(new[axis])?;
        }
        Some(())
    }

    /// The axes of a new result from the outermost to the innermost; None for C order.
    fn order(&self) -> Option<Vec<usize>> {
        let is_c = self.facts.iter().all(|leaf| leaf.is_c);
        let is_f = self.facts.iter().all(|leaf| leaf.is_f);
        (is_f && !is_c).then(|| (0..self.ndim).rev().collect())
    }

    /// Adds the pairs of the next part of this level, which begins `offset` bytes into the result. Returns its first
    /// leaf: along the axes of outer levels all leaves of a part are as long as that.
    fn add<'w>(
        &self,
        job: &mut Job<'_, '_>,
        strides: &[isize],
        walk: &mut Walk<'w>,
        level: usize,
        offset: isize,
    ) -> Option<&'w Operand<'w>> {
        if level == self.tree.depth {
            let leaf = walk.leaves.next()?;
            // SAFETY: `into` has admitted all leaves; `measure` has seen that they tile the destination.
            unsafe { job.add(leaf, &strides[self.ndim - leaf.shape.len()..], offset)? };
            return Some(leaf);
        }
        let (axis, mut offset, mut first) = (self.axis(level), offset, None);
        for _ in 0..*walk.counts.next()? {
            let leaf = self.add(job, strides, walk, level + 1, offset)?;
            first = first.or(Some(leaf));
            offset += self.length(leaf, axis).cast_signed() * strides[axis];
        }
        first
    }
}
