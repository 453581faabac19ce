//! Trees of arrays: what is put into a frame of several arrays is a tree of dicts, tuples, dataclasses and arrays; the frame
//! is one item with a field for each. A dict and a dataclass have their names as fields, a tuple its places: "0", "1".
//!
//! A [`Tree`] is such a dtype made ready: which arrays it wants, and where in the block each goes. A ring that was made with
//! fields has one; any other ring remembers the last one that was put.

use std::sync::Arc;

use numpy::PyArrayDescr;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple, PyType};

use crate::described::Described;
use crate::dtype::{Dtype, casts};
use crate::error::class_name;
use crate::guard::Once;
use crate::ndarray::{Operand, check_items};

/// What a frame of several arrays wants, and where it goes.
pub(crate) struct Tree {
    root: Node,
    /// The frame.
    pub(crate) frame: Arc<Described>,
    /// Whether the ring was made for such frames, so that arrays are cast; else they are as they are.
    is_firm: bool,
}

pub(crate) struct Node {
    /// The way to it, for messages: `cam.rgb`.
    path: String,
    /// Where it begins in the frame.
    offset: usize,
    array: Described,
    parts: Parts,
}

/// What is in a level: nothing where the node is an array.
pub(crate) enum Parts {
    Leaf,
    Named(Vec<(Py<PyString>, Node)>),
    Placed(Vec<Node>),
}

/// Why something that was put is no such tree.
enum Refused {
    /// It has another structure.
    Misfit(PyErr),
    Error(PyErr),
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self::Error(error)
    }
}

/// The arrays of a tree, each with its place.
type Leaves<'t, 'py> = Vec<(&'t Node, Bound<'py, PyAny>)>;

/// A tree whose arrays fit.
pub(crate) struct Fitting<'t, 'py>(Leaves<'t, 'py>);

impl Tree {
    /// The tree of the frames of a ring; none when they are no structures.
    pub(crate) fn of(py: Python<'_>, frame: &Arc<Described>, is_firm: bool) -> PyResult<Option<Self>> {
        let dtype = frame.dtype(py);
        if !frame.shape().is_empty() || !dtype.has_fields() {
            return Ok(None);
        }
        let root = Node::of(dtype, String::new(), 0)?;
        Ok(Some(Self { root, frame: frame.clone(), is_firm }))
    }

    /// The dtype of what is put, as an item with fields.
    pub(crate) fn dtype_of<'py>(x: &Bound<'py, PyAny>) -> PyResult<Dtype<'py>> {
        static DTYPE_OF: Once<Py<PyAny>> = Once::new();
        let dtype = DTYPE_OF.import(x.py(), "ndshare._fields", "dtype_of")?.call1((x,))?;
        Dtype::of(x.py(), Some(&dtype))
    }

    /// The arrays of what is put; none when it is another tree, and the ring takes any.
    pub(crate) fn fitting<'t, 'py>(&'t self, x: &Bound<'py, PyAny>) -> PyResult<Option<Fitting<'t, 'py>>> {
        let mut leaves = Vec::new();
        match self.root.collect(x, self.is_firm, &mut leaves) {
            Ok(()) => Ok(Some(Fitting(leaves))),
            Err(Refused::Misfit(_)) if !self.is_firm => Ok(None),
            Err(Refused::Misfit(error) | Refused::Error(error)) => Err(error),
        }
    }
}

impl Fitting<'_, '_> {
    /// Hands out each array with what it is in the frame, and at which byte.
    pub(crate) fn each(&self, take: impl Fn(&Described, u64, &Bound<'_, PyAny>) -> PyResult<()>) -> PyResult<()> {
        self.0.iter().try_for_each(|(node, array)| take(&node.array, node.offset as u64, array))
    }
}

impl Node {
    /// What a dtype says is at `offset` in the frame.
    pub(crate) fn of(dtype: Dtype<'_>, path: String, offset: usize) -> PyResult<Self> {
        let (dtype, shape) = dtype.parted();
        let is_level = shape.is_empty() && dtype.has_fields();
        let parts = if is_level { Self::parts_of(&dtype, &path, offset)? } else { Parts::Leaf };
        Ok(Self { array: Described::contiguous(dtype, &shape, false)?, path, offset, parts })
    }

    fn parts_of(dtype: &Dtype<'_>, path: &str, offset: usize) -> PyResult<Parts> {
        let py = dtype.as_any().py();
        let table = dtype.as_any().getattr(intern!(py, "fields"))?;
        let mut parts = Vec::new();
        for name in dtype.as_any().getattr(intern!(py, "names"))?.try_iter()? {
            let name = name?.cast_into::<PyString>()?;
            let field = table.get_item(&name)?.cast_into::<PyTuple>()?;
            let inner = Dtype::known(field.get_item(0)?.cast_into::<PyArrayDescr>()?);
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let node = Self::of(inner, path, offset + field.get_item(1)?.extract::<usize>()?)?;
            parts.push((name.unbind(), node));
        }
        let is_placed = parts.iter().enumerate().all(|(place, (name, _))| name.bind(py) == place.to_string().as_str());
        Ok(match is_placed && !parts.is_empty() {
            true => Parts::Placed(parts.into_iter().map(|(_, node)| node).collect()),
            false => Parts::Named(parts),
        })
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What is there, and at which byte of the frame.
    pub(crate) fn array(&self) -> (&Described, u64) {
        (&self.array, self.offset as u64)
    }

    /// Collects the arrays of `x` that go here and below.
    fn collect<'t, 'py>(
        &'t self,
        x: &Bound<'py, PyAny>,
        is_firm: bool,
        leaves: &mut Leaves<'t, 'py>,
    ) -> Result<(), Refused> {
        match &self.parts {
            Parts::Leaf => {
                leaves.push((self, self.leaf(x, is_firm)?));
                Ok(())
            }
            Parts::Named(parts) => self.collect_named(parts, x, is_firm, leaves),
            Parts::Placed(parts) => self.collect_placed(parts, x, is_firm, leaves),
        }
    }

    fn collect_named<'t, 'py>(
        &'t self,
        parts: &'t [(Py<PyString>, Node)],
        x: &Bound<'py, PyAny>,
        is_firm: bool,
        leaves: &mut Leaves<'t, 'py>,
    ) -> Result<(), Refused> {
        if let Ok(dict) = x.cast_exact::<PyDict>() {
            if dict.len() == parts.len() {
                for (name, part) in parts {
                    let Some(item) = dict.get_item(name)? else { return Err(self.misnamed(x)) };
                    part.collect(&item, is_firm, leaves)?;
                }
                return Ok(());
            }
            return Err(self.misnamed(x));
        }
        if let Some(fields) = dataclass_fields(x)? {
            if fields.len()? != parts.len() {
                return Err(self.misnamed(x));
            }
            for (name, part) in parts {
                let Some(item) = x.getattr_opt(name)? else { return Err(self.misnamed(x)) };
                part.collect(&item, is_firm, leaves)?;
            }
            return Ok(());
        }
        let Some(items) = self.by_name(x)? else {
            let names = parts.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ");
            return Err(self.misfit(x, &format!("a mapping, a dataclass or an item with the fields {names}")));
        };
        for (name, part) in parts {
            let item = match items.get_item(name) {
                Ok(item) => item,
                Err(error) if is_of_name(x.py(), &error) => return Err(self.misnamed(x)),
                Err(error) => return Err(error.into()),
            };
            part.collect(&item, is_firm, leaves)?;
        }
        Ok(())
    }

    fn collect_placed<'t, 'py>(
        &'t self,
        parts: &'t [Node],
        x: &Bound<'py, PyAny>,
        is_firm: bool,
        leaves: &mut Leaves<'t, 'py>,
    ) -> Result<(), Refused> {
        let items = if let Ok(tuple) = x.cast::<PyTuple>() {
            tuple.iter().collect::<Vec<_>>()
        } else if let Some(list) = x.cast::<PyList>().ok().filter(|_| is_firm) {
            list.iter().collect()
        } else if let Some(item) = self.by_name(x)?.filter(|item| Operand::of_any(item).is_some()) {
            (0..parts.len()).filter_map(|place| item.get_item(place.to_string()).ok()).collect()
        } else {
            return Err(self.misfit(x, &format!("a tuple of {}", parts.len())));
        };
        if items.len() != parts.len() {
            return Err(self.misfit(x, &format!("a tuple of {}", parts.len())));
        }
        parts.iter().zip(&items).try_for_each(|(part, item)| part.collect(item, is_firm, leaves))
    }

    /// What has items by name: a mapping with as many as there are parts, or one item with fields.
    fn by_name<'py>(&self, x: &Bound<'py, PyAny>) -> Result<Option<Bound<'py, PyAny>>, Refused> {
        let count = match &self.parts {
            Parts::Leaf => return Ok(None),
            Parts::Named(parts) => parts.len(),
            Parts::Placed(parts) => parts.len(),
        };
        if let Ok(mapping) = x.cast::<PyMapping>() {
            return if mapping.len()? == count { Ok(Some(x.clone())) } else { Err(self.misnamed(x)) };
        }
        let Some(dtype) = x.getattr_opt(intern!(x.py(), "dtype"))? else { return Ok(None) };
        let Some(names) = dtype.getattr_opt(intern!(x.py(), "names"))?.filter(|names| !names.is_none()) else {
            return Ok(None);
        };
        if names.len()? != count {
            return Err(self.misnamed(x));
        }
        let item = if Operand::of_any(x).is_some() { x.clone() } else { as_array(x, None)? };
        Ok(Some(item).filter(|item| Operand::of_any(item).is_some_and(|facts| facts.shape.is_empty())))
    }

    /// An array that goes here.
    fn leaf<'py>(&self, x: &Bound<'py, PyAny>, is_firm: bool) -> Result<Bound<'py, PyAny>, Refused> {
        let py = x.py();
        let own = self.array.dtype(py);
        let array = match Operand::of_any(x) {
            Some(_) => check_items(x).map(|()| x.clone()).map_err(|error| self.named(py, error))?,
            // A ring of any frames has another tree then, and no array of arrays.
            None if !is_firm && is_level(x)? => return Err(self.misfit(x, "an array")),
            None => as_array(x, is_firm.then_some(&own)).map_err(|error| self.named(py, error))?,
        };
        let Some(facts) = Operand::of_any(&array) else { return Err(self.misfit(x, "an array")) };
        if facts.shape != self.array.shape() {
            let (wanted, got) = (shape_text(self.array.shape()), shape_text(facts.shape));
            let text = format!("field {:?}: expected an array of shape {wanted}, got one of shape {got}", self.path);
            return Err(Refused::Misfit(PyValueError::new_err(text)));
        }
        let dtype = Dtype::borrowed(py, facts.descr);
        if own.is_like(&dtype)? {
            return Ok(array);
        }
        if !is_firm {
            let text = format!("field {:?} has another dtype", self.path);
            return Err(Refused::Misfit(PyTypeError::new_err(text)));
        }
        match casts(py, &dtype, &own)? {
            Ok(()) => {
                check_fits(&array, &own).map_err(|error| self.named(py, error))?;
                Ok(array)
            }
            Err(casting) => {
                let (own, got) = (own.as_any().str()?.to_string(), dtype.as_any().str()?);
                let text = format!(
                    "field {:?}: expected an array that casts to {own} by the rule {casting:?}, got {got}: convert it with \
                     astype({own:?}), or make the ring with its dtype",
                    self.path
                );
                Err(Refused::Error(PyTypeError::new_err(text)))
            }
        }
    }

    /// An error that says of which field it is.
    fn named(&self, py: Python<'_>, error: PyErr) -> PyErr {
        let text = format!("field {:?}: {}", self.path, error.value(py));
        let named = PyErr::from_type(error.get_type(py), (text,));
        named.set_cause(py, Some(error));
        named
    }

    fn whose(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("field {:?}: ", self.path) }
    }

    #[cold]
    fn misfit(&self, x: &Bound<'_, PyAny>, wanted: &str) -> Refused {
        let got = class_name(x);
        Refused::Misfit(PyTypeError::new_err(format!("{}expected {wanted}, got {got}", self.whose())))
    }

    /// What is put has other names: which are missing, and which are not known.
    #[cold]
    fn misnamed(&self, x: &Bound<'_, PyAny>) -> Refused {
        static MISNAMED: Once<Py<PyAny>> = Once::new();
        let say = || {
            let dtype = self.array.dtype(x.py());
            let names = dtype.as_any().getattr("names")?;
            let say = MISNAMED.import(x.py(), "ndshare._fields", "misnamed")?;
            say.call1((self.whose(), names, x))?.extract::<String>()
        };
        match say() {
            Ok(text) => Refused::Misfit(PyTypeError::new_err(text)),
            Err(error) => Refused::Error(error),
        }
    }
}

/// Whether there is no item of a name: mappings say so by the one, NumPy by the other.
fn is_of_name(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyError>(py) || error.is_instance_of::<PyValueError>(py)
}

/// The most tuples inside each other: the stack is no larger.
const MOST_LEVELS: usize = 64;

/// Whether what is put into a ring that takes frames of any kind is a tree: a mapping, a dataclass, or a tuple with an array
/// or a tree in it.
#[inline]
pub(crate) fn is_tree(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    if Operand::of_any(x).is_some() || x.is_exact_instance_of::<PyList>() {
        return Ok(false);
    }
    is_level(x)
}

fn is_level(x: &Bound<'_, PyAny>) -> PyResult<bool> {
    is_level_at(x, 0)
}

fn is_level_at(x: &Bound<'_, PyAny>, depth: usize) -> PyResult<bool> {
    if let Ok(tuple) = x.cast::<PyTuple>() {
        if depth == MOST_LEVELS {
            return Err(PyValueError::new_err(format!(
                "expected at most {MOST_LEVELS} tuples inside each other, got more: put their arrays into fewer"
            )));
        }
        for item in tuple {
            if Operand::of_any(&item).is_some() || is_level_at(&item, depth + 1)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    Ok(x.is_instance_of::<PyDict>() || dataclass_fields(x)?.is_some() || x.cast::<PyMapping>().is_ok())
}

/// The fields of an instance of a dataclass, by name.
fn dataclass_fields<'py>(x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if x.is_instance_of::<PyType>() {
        return Ok(None);
    }
    x.get_type().getattr_opt(intern!(x.py(), "__dataclass_fields__"))
}

/// # Errors
/// OverflowError for integers that would be others in a ring's or a field's dtype.
pub(crate) fn check_fits(array: &Bound<'_, PyAny>, own: &Dtype<'_>) -> PyResult<()> {
    static CHECK_FITS: Once<Py<PyAny>> = Once::new();
    CHECK_FITS.import(array.py(), "ndshare._ring", "check_fits")?.call1((array, own.as_any())).map(drop)
}

fn as_array<'py>(x: &Bound<'py, PyAny>, dtype: Option<&Dtype<'py>>) -> PyResult<Bound<'py, PyAny>> {
    static AS_ARRAY: Once<Py<PyAny>> = Once::new();
    AS_ARRAY.import(x.py(), "ndshare._ring", "as_array")?.call1((x, dtype.map(Dtype::as_any)))
}

fn shape_text(shape: &[usize]) -> String {
    match shape {
        [only] => format!("({only},)"),
        _ => format!("({})", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}
