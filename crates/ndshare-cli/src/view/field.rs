//! Which array is looked at where a frame has several: a field of it that is of numbers.

use std::sync::Arc;

use ndshare::element::Field;
use ndshare::{Element, Result};

use super::convert::{self, Parts};
use super::shown::{Shown, wrong};

/// An array of a frame, or the frame itself where it is one array.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) shown: Arc<Shown>,
    /// Which of the names it is; none where there are none.
    pub(super) name: Option<String>,
    /// What there is to choose from: those of inner levels behind a dot.
    pub(super) names: Vec<String>,
}

/// A field that can be shown.
struct Leaf<'a> {
    path: Vec<&'a str>,
    is_picture: bool,
}

impl Leaf<'_> {
    fn name(&self) -> String {
        self.path.join(".")
    }
}

/// The array of this name. Without one, or when there is none of it any more: the first that has rows and columns, or the first.
pub(super) fn choose(shown: &Arc<Shown>, wanted: Option<&str>) -> Result<Chosen> {
    if !matches!(shown.element, Element::Structure(_)) {
        return Ok(Chosen { shown: shown.clone(), name: None, names: Vec::new() });
    }
    let mut leaves = Vec::new();
    collect(&shown.element, &mut Vec::new(), shown.shape.len(), &mut leaves);
    let named = leaves.iter().find(|leaf| wanted == Some(leaf.name().as_str()));
    let found = named.or_else(|| leaves.iter().find(|leaf| leaf.is_picture)).or(leaves.first());
    let Some(leaf) = found else {
        return Err(wrong(
            "none of the fields can be shown: expected one of bool, integers or floats of at most 64 bits",
        ));
    };
    let mut array = shown.clone();
    for name in &leaf.path {
        array = Arc::new(array.field(name)?);
    }
    Ok(Chosen { shown: array, name: Some(leaf.name()), names: leaves.iter().map(Leaf::name).collect() })
}

/// The fields of numbers, level by level; `axes` come before those of the fields.
fn collect<'a>(element: &'a Element, path: &mut Vec<&'a str>, axes: usize, to: &mut Vec<Leaf<'a>>) {
    let Element::Structure(structure) = element else {
        return;
    };
    for Field { name, element, shape, .. } in structure.fields() {
        path.push(name);
        let is_long = shape.iter().filter(|&&length| length > 1).count() + axes >= 2;
        if convert::single(element, Parts::Both).is_some() {
            to.push(Leaf { path: path.clone(), is_picture: is_long });
        }
        collect(element, path, axes + shape.len(), to);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_chosen_by_its_name_or_because_it_looks_like_a_picture() {
        let element = "[('gain', '<f4'), ('id', '|S3'), ('left', [('depth', '<u2', (2, 3)), ('mask', '|u1', (2, 3))])]";
        let bytes: Vec<u8> = (0..50).collect();
        let two = Arc::new(Shown::own(5, 7, vec![2], element.parse().unwrap(), bytes));
        let chosen = |wanted| choose(&two, wanted).unwrap();
        let one = chosen(None);
        assert_eq!(one.names, ["gain", "left.depth", "left.mask"]);
        assert_eq!((one.name.as_deref(), &one.shown.shape[..]), (Some("left.depth"), &[2, 2, 3][..]));
        assert_eq!(one.shown.part(&[1..2, 0..1, 0..2]).unwrap(), [32, 33, 34, 35]);
        assert_eq!(chosen(Some("gone")).name.as_deref(), Some("left.depth"));
        let one = chosen(Some("left.mask"));
        assert_eq!((one.shown.seq, one.shown.part(&[0..2, 1..2, 2..3]).unwrap()), (5, vec![24, 49]));
        assert_eq!(chosen(Some("gain")).shown.shape, [2]);
        let none = Arc::new(Shown::own(0, 0, vec![], "[('id', '|S3')]".parse().unwrap(), vec![0; 3]));
        assert!(choose(&none, None).unwrap_err().to_string().contains("none of the fields"));
        let plain = Arc::new(Shown::own(0, 0, vec![], "|u1".parse().unwrap(), vec![0]));
        assert!(choose(&plain, Some("x")).unwrap().name.is_none());
    }
}
