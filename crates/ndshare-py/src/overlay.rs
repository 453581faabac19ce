//! What `Overlay` is made of: being inside a use, and the arrays over its fields.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndshare::arena::Hold;
use ndshare::element::{Element, Number};
use ndshare::overlay::{self, Overlay, Turns, Uses};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::arena::WorkArena;
use crate::dtype::Dtype;
use crate::lock::seconds;
use crate::ndarray::{
    Operand, Order, array_of_subclass, array_over, freeze, npy_lengths, plain_class, set_base, view_base,
};
use crate::owner;
use crate::shape::Shape;
use crate::shared::block_under;
use crate::travel::{opened, ticketed};
use crate::variables;
use crate::wait::{at_once, interruptible, interruptible_for};

/// What a table refers to by weak references, under `key`: `this` is put there unless what is there is alive. Returns
/// what is alive. It is one step of the interpreter, so that all threads get the same.
#[pyfunction]
pub(crate) fn first_referent<'py>(
    table: &Bound<'py, PyDict>,
    key: &Bound<'py, PyAny>,
    this: &Bound<'py, PyWeakrefReference>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    with_critical_section(table, || {
        let known = table.get_item(key)?.and_then(|known| known.cast_into::<PyWeakrefReference>().ok());
        if let Some(alive) = known.and_then(|known| known.upgrade()) {
            return Ok(Some(alive));
        }
        table.set_item(key, this)?;
        Ok(this.upgrade())
    })
}

/// Takes a weak reference out of such a table, if it is the one that is there.
#[pyfunction]
pub(crate) fn forget_reference(
    table: &Bound<'_, PyDict>,
    key: &Bound<'_, PyAny>,
    this: &Bound<'_, PyAny>,
) -> PyResult<()> {
    with_critical_section(table, || {
        if table.get_item(key)?.is_some_and(|known| known.is(this)) { table.del_item(key) } else { Ok(()) }
    })
}

/// Being inside a use. It ends with the last reference, of which each field's base has one.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Inside {
    inside: Arc<overlay::Inside>,
}

#[pymethods]
impl Inside {
    /// Whether nobody else was inside when this one entered.
    #[getter]
    fn first(&self) -> bool {
        self.inside.is_first()
    }
}

/// What keeps the bytes of a field's array. While it lives, this process is inside the use.
///
/// Between it and the array that is handed out is another array. NumPy makes that one the base of every view, so it
/// knows views from the array itself: at the end of the use the array gets another base, and the views stay with this.
#[pyclass(frozen, weakref, module = "ndshare._native")]
pub(crate) struct Field {
    // In this order: the memory goes before others may have it.
    hold: owner::Hold,
    _inside: Arc<overlay::Inside>,
    /// What has to know of this field as long as it lives.
    _memory: Py<PyAny>,
    start: usize,
    length: usize,
    /// Whether its use was left, so that the array cannot be made writable again.
    ended: AtomicBool,
    /// Whether something still looked at the bytes at the end of the use. It is false until that is settled, in the
    /// thread that ends the use: others that look meanwhile see a use that goes on.
    left: AtomicBool,
}

impl Field {
    fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed) && self.left.load(Ordering::Relaxed)
    }
}

#[pymethods]
impl Field {
    /// What is still there was left behind. For a forked child, which was never inside.
    fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    fn __len__(&self) -> usize {
        self.length
    }

    // NumPy asks for a writable buffer before it lets `a.flags.writeable` be turned on again.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let first = this.hold.inner().as_ptr().wrapping_add(this.start);
        let writable = !this.ended.load(Ordering::Relaxed) && !this.hold.inner().is_readonly();
        // SAFETY: the view is the caller's; the block lives as long as `slf`.
        unsafe { owner::fill_buffer(&slf, (first, this.length), writable, view, flags) }
    }
}

/// Waits at most `timeout` seconds (None: for ever) until use number `use` of the overlay with this head goes on, and
/// enters it. Raises Timeout.
#[pyfunction]
#[pyo3(signature = (head, number, timeout=None))]
pub(crate) fn enter_use(
    py: Python<'_>,
    head: &Bound<'_, PyAny>,
    number: usize,
    timeout: Option<f64>,
) -> PyResult<Inside> {
    let (turns, timeout) = (Turns::new(block_of(head)?), seconds(timeout)?);
    let inside = interruptible_for(py, timeout, |deadline| turns.enter(number, deadline))?;
    Ok(Inside { inside: Arc::new(inside) })
}

/// A contiguous array over the bytes of `data` from `offset` on, which keeps `inside` and `memory`.
///
/// Raises ValueError when it does not fit there.
#[pyfunction]
pub(crate) fn view_field<'py>(
    py: Python<'py>,
    inside: &Bound<'py, Inside>,
    data: &Bound<'py, PyAny>,
    offset: usize,
    shape: &Bound<'py, PyAny>,
    dtype: &Bound<'py, PyAny>,
    memory: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (hold, dtype, shape) = (block_of(data)?, Dtype::of_new(py, Some(dtype))?, Shape::of(shape)?);
    let length = shape.len_bytes(dtype.itemsize())?;
    let room = hold.len_bytes();
    if offset.checked_add(length).is_none_or(|end| end > room) {
        let text = format!("expected a field inside {room} bytes, got {length} bytes from {offset} on");
        return Err(PyValueError::new_err(text));
    }
    let (first, writable) = (hold.as_ptr().wrapping_add(offset), !hold.is_readonly());
    let owner = Field {
        hold: owner::Hold::new(hold, true),
        _inside: inside.get().inside.clone(),
        _memory: memory,
        start: offset,
        length,
        ended: AtomicBool::new(false),
        left: AtomicBool::new(false),
    };
    let owner = Py::new(py, owner)?.into_any();
    let make = |owner| {
        let dtype = Dtype::of_new(py, Some(dtype.as_any()))?;
        // SAFETY: the field lies inside the block, which the owner keeps; no length is negative.
        unsafe { array_of_subclass(&plain_class(py), owner, first, dtype, shape.lengths(), &Order::C, writable) }
    };
    let base = make(owner)?;
    make(base.unbind())
}

/// The `Field` under an array of `view_field`, as long as the array has not been let go.
#[pyfunction]
pub(crate) fn field_under<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, Field>> {
    view_base(&view_base(array)?)?.cast_into().ok()
}

/// Ends the use of these arrays of `view_field`: they turn read-only for good, and those to which nothing but variables
/// refers no longer keep this process inside the use. Others are `left` from then on.
#[pyfunction]
pub(crate) fn let_go(py: Python<'_>, arrays: &Bound<'_, PyDict>) {
    for array in arrays.values() {
        if let Some(field) = field_under(&array) {
            field.get().ended.store(true, Ordering::Relaxed);
        }
        freeze(&array);
    }
    let free = variables::are_only_variables(arrays);
    for (array, is_free) in arrays.values().iter().zip(free) {
        if let Some(field) = field_under(&array) {
            let is_left =
                !is_free || rest_on_block(py, &array, field.get()).is_err() || variables::references(&field) > 1;
            field.get().left.store(is_left, Ordering::Relaxed);
        }
    }
}

/// Lets go of those of these arrays (weak references) that were left and that nothing looks at any more.
///
/// It is one step of the interpreter: a thread that does the same never meets the references that this one takes.
#[pyfunction]
pub(crate) fn let_go_of_left(py: Python<'_>, arrays: Vec<Bound<'_, PyWeakrefReference>>) -> PyResult<()> {
    let _quiet = variables::Quiet::begin();
    let left = PyDict::new(py);
    for (number, array) in arrays.iter().enumerate() {
        let is_over = |field: Bound<'_, Field>| field.get().is_over();
        if let Some(array) = array.upgrade().filter(|array| field_under(array).is_some_and(is_over)) {
            left.set_item(number, array)?;
        }
    }
    let_go(py, &left);
    Ok(())
}

/// Whether views of this field (a weak reference) are alive, though its use has ended, or nobody `is_known` to end it.
///
/// It is one step of the interpreter: no other thread meets the reference that it takes.
#[pyfunction]
pub(crate) fn is_left_behind(field: &Bound<'_, PyWeakrefReference>, is_known: bool) -> PyResult<bool> {
    let field = field.upgrade_as::<Field>()?;
    Ok(field.is_some_and(|field| {
        let field = field.get();
        field.left.load(Ordering::Relaxed) || (!is_known && !field.ended.load(Ordering::Relaxed))
    }))
}

/// Whether the object of a weak reference is no more. It is one step of the interpreter, too.
#[pyfunction]
pub(crate) fn is_gone(reference: &Bound<'_, PyWeakrefReference>) -> bool {
    reference.upgrade().is_none()
}

/// Gives an array another base, which keeps its bytes and nothing else.
fn rest_on_block(py: Python<'_>, array: &Bound<'_, PyAny>, field: &Field) -> PyResult<()> {
    let rest = Py::new(py, owner::Hold::new(field.hold.inner().clone(), false))?;
    // SAFETY: the new base keeps the block, in which the array lies.
    unsafe { set_base(array, rest.into_any()) };
    Ok(())
}

/// A field as the caller says it: its name, shape and dtype.
type Said<'py> = (String, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// Where the fields of each use lie, as {use: {field: (shape, dtype, offset)}}, and head and bytes of an overlay.
type Parts<'py> = (Bound<'py, PyDict>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// An overlay in the session or another arena, found by its name or new: where the fields of each use lie, as
/// {use: {field: (shape, dtype, offset)}}, and its head and its bytes as arrays.
///
/// Raises ValueError for uses and names that cannot work, and when an overlay of this name has other uses; and what making
/// the arrays would raise.
#[pyfunction]
#[pyo3(signature = (uses, name=None, arena=None))]
pub(crate) fn make_overlay<'py>(
    py: Python<'py>,
    uses: Vec<(String, Vec<Said<'py>>)>,
    name: Option<&str>,
    arena: Option<&Bound<'py, PyAny>>,
) -> PyResult<Parts<'py>> {
    let (mut all, plan) = (Uses::default(), PyDict::new(py));
    for (name, said) in &uses {
        let measured = said.iter().map(|field| measured(field).map_err(|error| in_field(py, name, &field.0, error)));
        let measured = measured.collect::<PyResult<Vec<_>>>()?;
        let fields =
            said.iter().zip(&measured).map(|((field, ..), (.., shape, element))| (field, shape, element.clone()));
        all = at_once(py, || all.with(name, fields))?;
        let laid = PyDict::new(py);
        for (field, (shape, dtype, ..)) in at_once(py, || all.find(name))?.1.fields().iter().zip(measured) {
            laid.set_item(field.name(), (shape, dtype, field.offset()))?;
        }
        plan.set_item(name, laid)?;
    }
    at_once(py, || all.check())?;
    let arena = WorkArena::of(py, arena)?;
    let overlay = interruptible(py, |deadline| match name {
        Some(name) => Overlay::named(&arena, name, all, deadline),
        None => Overlay::new(&arena, all, deadline),
    })?;
    let (head, data) = blocks(py, &overlay)?;
    Ok((plan, head, data))
}

/// The overlay with this head as it says itself. Fields of dtypes that the library has no word for are bytes.
pub(crate) fn overlay_of_head<'py>(py: Python<'py>, head: Hold) -> PyResult<Parts<'py>> {
    let (overlay, plan) = (at_once(py, || Overlay::open(head))?, PyDict::new(py));
    for one in overlay.uses().all() {
        let laid = PyDict::new(py);
        for field in one.fields() {
            let said = field.description();
            let element = said.element.clone().unwrap_or_else(|| Element::of(Number::U8));
            let (shape, dtype) = (PyTuple::new(py, said.layout.shape())?, Dtype::of_element(py, &element)?);
            laid.set_item(field.name(), (shape, dtype.as_any(), field.offset()))?;
        }
        plan.set_item(one.name(), laid)?;
    }
    let (head, data) = blocks(py, &overlay)?;
    Ok((plan, head, data))
}

/// What multiprocessing sends of the overlay with this head, beside what NumPy knows of its fields.
#[pyfunction]
pub(crate) fn overlay_token<'py>(py: Python<'py>, head: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    ticketed(py, &block_of(head)?)
}

/// Head and bytes of the overlay of a token.
///
/// Raises Stale when nobody held it any more, AttachError when it cannot be reached, and ValueError when it is something
/// else.
#[pyfunction]
pub(crate) fn open_overlay<'py>(py: Python<'py>, token: &[u8]) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let head = opened(py, token)?;
    blocks(py, &at_once(py, || Overlay::open(head))?)
}

/// Head and bytes of an overlay as arrays.
fn blocks<'py>(py: Python<'py>, overlay: &Overlay) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let bytes = |hold: &Hold, len_bytes: usize| {
        let dtype = Dtype::of_element(py, &Element::of(Number::U8))?;
        // SAFETY: the block has so many bytes, and no length is negative.
        unsafe { array_over(py, hold.clone(), 0, dtype, npy_lengths(&[len_bytes]), &Order::C, true) }
    };
    let (head, data) = (overlay.head(), overlay.data());
    Ok((bytes(head, head.len_bytes())?, bytes(data, overlay.uses().len_bytes())?))
}

type Measured<'py> = (Bound<'py, PyTuple>, Bound<'py, PyAny>, Vec<usize>, Element);

/// Shape and dtype of a field, and both as the library says them: it has no word for each dtype, and calls the others
/// bytes.
fn measured<'py>((_, shape, dtype): &Said<'py>) -> PyResult<Measured<'py>> {
    let py = shape.py();
    let (dtype, shape) = (Dtype::of_new(py, Some(dtype))?, Shape::of(shape)?);
    let length = shape.len_bytes(dtype.itemsize())?;
    let element = dtype.element()?.filter(|element| length > 0 && element.size() == dtype.itemsize());
    let (lengths, element) = match element {
        Some(element) => (shape.lengths().iter().map(|&length| length as usize).collect(), element),
        None => (vec![length], Element::of(Number::U8)),
    };
    Ok((PyTuple::new(py, shape.lengths())?, dtype.as_any().clone(), lengths, element))
}

/// An error that says which field it is about.
fn in_field(py: Python<'_>, name: &str, field: &str, error: PyErr) -> PyErr {
    let text = format!("field '{field}' of use '{name}': {}", error.value(py));
    if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(text)
    } else if error.is_instance_of::<PyValueError>(py) {
        PyValueError::new_err(text)
    } else {
        error
    }
}

/// (arena, place, generation, whether it may only be read) of the block under a shared array: equal for all that look at the
/// same one in the same way.
#[pyfunction]
pub(crate) fn place_of(array: &Bound<'_, PyAny>) -> PyResult<(u64, u32, u32, bool)> {
    let hold = block_of(array)?;
    Ok((hold.arena().id(), hold.block().index, hold.block().generation, hold.is_readonly()))
}

/// The block under a shared array.
pub(crate) fn block_of(array: &Bound<'_, PyAny>) -> PyResult<Hold> {
    let hold = Operand::of_any(array).map(|facts| block_under(array.py(), &facts)).transpose()?.flatten();
    hold.ok_or_else(|| PyValueError::new_err("expected a shared array, got something else"))
}
