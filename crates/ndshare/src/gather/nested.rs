//! Nested lists, flattened: the leaves, and for each list how many parts it has.

use crate::error::{Error, Result};
use std::slice::Iter;

/// Deeper lists are refused; NumPy has no more than 64 axes either.
const MAX_DEPTH: usize = 16;

/// Nested lists that are equally deep everywhere, and nowhere empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nested<T> {
    /// How many lists are around each leaf.
    depth: usize,
    /// How many parts each list has, parents before their children.
    counts: Vec<usize>,
    leaves: Vec<T>,
}

impl Nested<usize> {
    /// The numbers from 0 on in a list of lists, of which these are the lengths.
    ///
    /// # Errors
    /// `InvalidValue`, in NumPy's words, for lists that are empty.
    pub fn rows(counts: &[usize]) -> Result<Self> {
        if let Some(row) = counts.iter().position(|&count| count == 0) {
            return Err(Error::value(format!("List at {} cannot be empty", named(&[row]))));
        }
        if counts.is_empty() {
            return Err(Error::value(format!("List at {} cannot be empty", named(&[]))));
        }
        let leaves = (0..counts.iter().sum()).collect();
        Ok(Self { depth: 2, counts: std::iter::once(counts.len()).chain(counts.iter().copied()).collect(), leaves })
    }
}

impl<T> Nested<T> {
    /// Flattens `root`; `parts` gives the parts of what is a list, and none for a leaf.
    ///
    /// # Errors
    /// `InvalidValue`, in NumPy's words, for lists that are empty or not equally deep.
    pub fn of(root: T, parts: impl Fn(&T) -> Option<Vec<T>>) -> Result<Self> {
        let mut nested = Self { depth: 0, counts: vec![], leaves: vec![] };
        nested.flatten(root, &parts, &mut vec![])?;
        Ok(nested)
    }

    /// Adds what is found at `path`, the index in each list around it.
    fn flatten(&mut self, root: T, parts: &impl Fn(&T) -> Option<Vec<T>>, path: &mut Vec<usize>) -> Result<()> {
        let depth = path.len();
        let Some(list) = parts(&root) else { return self.leaf(root, path) };
        if list.is_empty() {
            return Err(Error::value(format!("List at {} cannot be empty", named(path))));
        }
        if depth == MAX_DEPTH {
            return Err(Error::value(format!("expected lists at most {MAX_DEPTH} deep, got one at {}", named(path))));
        }
        self.counts.push(list.len());
        path.push(0);
        for (index, part) in list.into_iter().enumerate() {
            path[depth] = index;
            self.flatten(part, parts, path)?;
        }
        path.pop();
        Ok(())
    }

    fn leaf(&mut self, leaf: T, path: &[usize]) -> Result<()> {
        let depth = path.len();
        if self.leaves.is_empty() {
            self.depth = depth;
        }
        if self.depth != depth {
            return Err(Error::value(format!(
                "List depths are mismatched. First element was at depth {}, but there is an element at depth {depth} \
                 ({})",
                self.depth,
                named(path)
            )));
        }
        self.leaves.push(leaf);
        Ok(())
    }

    /// What is in the innermost lists, in order.
    pub fn leaves(&self) -> &[T] {
        &self.leaves
    }

    /// How many lists are around each leaf.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How many parts each list has, parents before their children.
    pub(super) fn counts(&self) -> Iter<'_, usize> {
        self.counts.iter()
    }
}

/// A place in nested lists as NumPy writes it.
fn named(path: &[usize]) -> String {
    path.iter().fold("arrays".to_owned(), |text, index| format!("{text}[{index}]"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Tree {
        Leaf(u8),
        List(Vec<Self>),
    }
    use Tree::{Leaf, List};

    fn flat(root: Tree) -> Result<Nested<Tree>> {
        Nested::of(root, |node| match node {
            Leaf(_) => None,
            List(parts) => Some(parts.clone()),
        })
    }

    #[test]
    fn lists_are_flattened() {
        let nested = flat(List(vec![List(vec![Leaf(1), Leaf(2)]), List(vec![Leaf(3)])])).unwrap();
        assert_eq!((nested.depth(), nested.leaves()), (2, &[Leaf(1), Leaf(2), Leaf(3)][..]));
        assert!(nested.counts().eq(&[2, 2, 1]));
        assert_eq!(flat(Leaf(7)).unwrap(), Nested { depth: 0, counts: vec![], leaves: vec![Leaf(7)] });
    }

    #[test]
    fn rows_are_lists_in_a_list() {
        let nested = Nested::rows(&[2, 1]).unwrap();
        assert_eq!((nested.depth(), nested.leaves()), (2, &[0, 1, 2][..]));
        assert!(nested.counts().eq(&[2, 2, 1]));
        assert_eq!(Nested::rows(&[1, 0]).unwrap_err().to_string(), "List at arrays[1] cannot be empty");
        assert_eq!(Nested::rows(&[]).unwrap_err().to_string(), "List at arrays cannot be empty");
    }

    #[test]
    fn errors_are_numpys() {
        let error = |root| flat(root).unwrap_err().to_string();
        assert_eq!(error(List(vec![List(vec![Leaf(1)]), List(vec![])])), "List at arrays[1] cannot be empty");
        assert_eq!(
            error(List(vec![Leaf(1), List(vec![Leaf(2)])])),
            "List depths are mismatched. First element was at depth 1, but there is an element at depth 2 (arrays[1][0])"
        );
        let deep = (0..20).fold(Leaf(1), |inner, _| List(vec![inner]));
        assert!(error(deep).starts_with("expected lists at most 16 deep"));
    }
}
