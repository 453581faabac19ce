//! Trees of arrays out of one item with fields: what was put comes out again.
//!
//! A [`Plan`] says of one dtype, and of one class that is wanted, which arrays there are and what holds them. It is made
//! once, and remembered by the ring: the next frame is a tree by so many arrays and containers, and nothing is read again.
//! Classes are remembered by weak references, because a class may keep the ring.

use std::sync::Arc;

use numpy::PyArrayDescr;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};

use crate::dtype::Dtype;
use crate::guard::{Guarded, Once};
use crate::ndarray::Operand;
use crate::tree::{Node, Parts};

/// How many plans are remembered.
const MOST_KNOWN: usize = 16;

/// How items of a dtype become trees.
struct Plan {
    /// Kept, so that no other dtype is where it is.
    dtype: Py<PyArrayDescr>,
    /// Where the class was that was wanted; none for a tree as it was put.
    kind: Option<usize>,
    /// That class, and those inside it.
    classes: Vec<Py<PyWeakrefReference>>,
    node: Node,
    wish: Option<Wish>,
}

/// What a level becomes, and what is in it. Without one they are dicts and tuples, as they were put.
struct Wish {
    how: How,
    inner: Vec<Option<Wish>>,
}

enum How {
    AsPut,
    Dict,
    /// The class of this number in the plan.
    Class(usize),
}

/// An item that becomes a tree.
struct Item<'a, 'py> {
    facts: Operand<'a>,
    /// Of arrays over its parts.
    class: Bound<'py, PyType>,
    /// Those of the plan.
    classes: Vec<Bound<'py, PyAny>>,
}

/// The fields of an array of one item as a tree; those of `kind`, if a class is wanted. Any other array is itself.
#[inline]
pub(crate) fn built<'py>(
    array: &Bound<'py, PyAny>,
    facts: Operand<'_>,
    kind: Option<&Bound<'py, PyAny>>,
    plans: Option<&Plans>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = Dtype::borrowed(array.py(), facts.descr);
    let is_level = facts.shape.is_empty() && dtype.has_fields();
    match kind {
        None if !is_level => return Ok(array.clone()),
        Some(kind) if !is_level => return Err(no_fields(array, kind)),
        _ => {}
    }
    let (plan, classes) = match plans.and_then(|plans| plans.find(&dtype, kind)) {
        Some(found) => found,
        None => learn(dtype, kind, plans)?,
    };
    let item = Item { facts, class: array.get_type(), classes };
    item.tree(&plan.node, plan.wish.as_ref())
}

/// A plan, and the classes in it.
type Found<'py> = (Arc<Plan>, Vec<Bound<'py, PyAny>>);

#[cold]
fn learn<'py>(dtype: Dtype<'py>, kind: Option<&Bound<'py, PyAny>>, plans: Option<&Plans>) -> PyResult<Found<'py>> {
    let (plan, classes) = Plan::of(dtype, kind)?;
    let plan = Arc::new(plan);
    if let Some(plans) = plans {
        plans.remember(plan.clone());
    }
    Ok((plan, classes))
}

/// Those that were made so far.
pub(crate) struct Plans(Guarded<Vec<Arc<Plan>>>);

impl Plans {
    pub(crate) const fn new() -> Self {
        Self(Guarded::new(Vec::new()))
    }

    /// The plan for a dtype and a class, if all its classes are still there.
    #[inline]
    fn find<'py>(&self, dtype: &Dtype<'py>, kind: Option<&Bound<'py, PyAny>>) -> Option<Found<'py>> {
        let wanted = (dtype.as_ptr() as usize, kind.map(|kind| kind.as_ptr() as usize));
        let plan = self.0.look(|list| list.iter().find(|plan| plan.place() == wanted).cloned())?;
        let classes = plan.classes.iter().map(|class| class.bind(dtype.as_any().py()).upgrade());
        let classes = classes.collect::<Option<Vec<_>>>()?;
        Some((plan, classes))
    }

    /// Has it found from now on, in the place of one whose classes are gone.
    fn remember(&self, plan: Arc<Plan>) {
        let mut list = self.0.look(Vec::clone);
        list.retain(|known| known.place() != plan.place());
        if list.len() == MOST_KNOWN {
            list.remove(0);
        }
        list.push(plan);
        // What another thread learned meanwhile is learned again.
        drop(self.0.replace(list));
    }
}

impl Plan {
    fn of<'py>(dtype: Dtype<'py>, kind: Option<&Bound<'py, PyAny>>) -> PyResult<(Self, Vec<Bound<'py, PyAny>>)> {
        static WISH_OF: Once<Py<PyAny>> = Once::new();
        let py = dtype.as_any().py();
        let mut classes = Vec::new();
        let wish = match kind {
            Some(kind) => {
                let wish = WISH_OF.import(py, "ndshare._fields", "wish_of")?.call1((dtype.as_any(), kind))?;
                Wish::of(&wish, &mut classes)?
            }
            None => None,
        };
        let weak = |class: &Bound<'py, PyAny>| PyWeakrefReference::new(class).map(Bound::unbind);
        let weak = classes.iter().map(weak).collect::<PyResult<Vec<_>>>()?;
        let kind = kind.map(|kind| kind.as_ptr() as usize);
        let node = Node::of(dtype.clone(), String::new(), 0)?;
        Ok((Self { dtype: dtype.unbind(), kind, classes: weak, node, wish }, classes))
    }

    /// Of what it is.
    #[inline]
    fn place(&self) -> (usize, Option<usize>) {
        (self.dtype.as_ptr() as usize, self.kind)
    }
}

impl Wish {
    /// What Python says of a level: what it becomes, and what is wished of those in it. None for no wish.
    fn of<'py>(said: &Bound<'py, PyAny>, classes: &mut Vec<Bound<'py, PyAny>>) -> PyResult<Option<Self>> {
        if said.is_none() {
            return Ok(None);
        }
        let kind = said.getattr(intern!(said.py(), "kind"))?;
        let how = if kind.is_none() {
            How::AsPut
        } else if kind.is(said.py().get_type::<PyDict>()) {
            How::Dict
        } else {
            classes.push(kind);
            How::Class(classes.len() - 1)
        };
        let inner = said.getattr(intern!(said.py(), "inner"))?.try_iter()?;
        let inner = inner.map(|wish| Self::of(&wish?, classes)).collect::<PyResult<Vec<_>>>()?;
        Ok(Some(Self { how, inner }))
    }
}

impl<'py> Item<'_, 'py> {
    /// What there is at a node and below.
    fn tree(&self, node: &Node, wish: Option<&Wish>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.class.py();
        let inner = |place: usize| wish.and_then(|wish| wish.inner.get(place)?.as_ref());
        match (node.parts(), wish.map_or(&How::AsPut, |wish| &wish.how)) {
            (Parts::Leaf, _) => {
                let (array, offset) = node.array();
                array.part_of(&self.facts, &self.class, offset)
            }
            (Parts::Placed(parts), How::AsPut) => {
                let items = parts.iter().enumerate().map(|(place, node)| self.tree(node, inner(place)));
                let items = items.collect::<PyResult<Vec<_>>>()?;
                Ok(PyTuple::new(py, items)?.into_any())
            }
            (Parts::Placed(parts), how) => {
                let named = |(place, node): (usize, &Node)| -> PyResult<_> {
                    Ok((PyString::new(py, &place.to_string()), self.tree(node, inner(place))?))
                };
                self.held(how, parts.iter().enumerate().map(named))
            }
            (Parts::Named(parts), how) => {
                let named = |(place, (name, node)): (usize, &(Py<PyString>, Node))| -> PyResult<_> {
                    Ok((name.bind(py).clone(), self.tree(node, inner(place))?))
                };
                self.held(how, parts.iter().enumerate().map(named))
            }
        }
    }

    /// A level with these items: a dict, or an instance of a class.
    fn held(
        &self,
        how: &How,
        items: impl Iterator<Item = PyResult<(Bound<'py, PyString>, Bound<'py, PyAny>)>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.class.py());
        for item in items {
            let (name, item) = item?;
            dict.set_item(name, item)?;
        }
        match how {
            How::AsPut | How::Dict => Ok(dict.into_any()),
            How::Class(number) => self.classes[*number].call((), Some(&dict)),
        }
    }
}

/// What there is to say of a class that is wanted for an array that has no fields.
#[cold]
fn no_fields(array: &Bound<'_, PyAny>, kind: &Bound<'_, PyAny>) -> PyErr {
    static NO_FIELDS: Once<Py<PyAny>> = Once::new();
    let said = NO_FIELDS.import(array.py(), "ndshare._fields", "no_fields").and_then(|say| say.call1((array, kind)));
    said.map_or_else(|error| error, PyErr::from_value)
}
