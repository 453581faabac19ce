//! `Overlay`: being inside a use, the arrays over its fields, and which of them have views.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndshare::arena::Hold;
use ndshare::element::{Element, Number};
use ndshare::overlay::{self as library, Entered, Use, Uses};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::arena::work_arena;
use crate::described::Described;
use crate::dtype::Dtype;
use crate::guard::Once;
use crate::lock::{only_multiprocessing, seconds};
use crate::ndarray::{freeze, plain_class, set_base, view_base};
use crate::owner;
use crate::shape::Shape;
use crate::travel::{opened, ticketed};
use crate::variables;
use crate::wait::{at_once, interruptible, interruptible_for};

/// Memory with several meanings, one at a time: ``Overlay(use={field: (shape, dtype), ...}, ...)``.
///
/// Its size is that of the largest use; fields start at multiples of 64 bytes. ``with overlay.use(name) as v`` gives
/// the fields of one use as plain arrays, ``v.field`` or ``v["field"]``, with the bytes that the last use left. At
/// first they are zero. Processes and threads share a use; who wants another one waits, and is not overtaken.
///
/// With ``name="text"``, all processes of the session that give the same name have the same overlay, for as long as one
/// has it; ValueError when it has other uses. `arena` is another arena than the session's; a use may be called
/// ``arena``, too.
///
/// Send an overlay through multiprocessing, in whatever way; a plain pickle raises TypeError. A process that is killed
/// inside a use has left it.
///
/// Raises ValueError or TypeError for names, shapes and dtypes that cannot work, before it allocates: a field's name
/// is an identifier without a leading underscore, no keyword, and not ``first``.
///
/// >>> import ndshare as nds
/// >>> scratch = nds.Overlay(floats={"A": ((3, 4), "f4"), "B": (4, "f8")}, ints={"D": (10, "i4")})
/// >>> with scratch.use("floats", timeout=5) as v:
/// ...     v.A[:] = 1
/// >>> with scratch.use("ints") as v:
/// ...     hex(v.D[0]), v.first
/// ('0x3f800000', True)
#[pyclass(frozen, subclass, weakref, module = "ndshare")]
pub(crate) struct Overlay {
    pub(crate) overlay: library::Overlay,
    /// Where the fields of each use lie, as {use: {field: (shape, dtype, offset)}}: the library has no word for each dtype.
    #[pyo3(get, name = "_plan")]
    plan: Py<PyDict>,
}

impl Overlay {
    /// The overlay with this head as it says itself. Fields of dtypes that the library has no word for are bytes.
    pub(crate) fn of_head(py: Python<'_>, head: Hold) -> PyResult<Self> {
        let (overlay, plan) = (at_once(py, || library::Overlay::open(head))?, PyDict::new(py));
        for one in overlay.uses().all() {
            let what = |field: &library::Field| {
                let said = field.description();
                let element = said.element.clone().unwrap_or_else(|| Element::of(Number::U8));
                Ok((PyTuple::new(py, said.layout.shape())?, Dtype::of_element(py, &element)?.as_any().clone()))
            };
            lay_out(&plan, one, one.fields().iter().map(what).collect::<PyResult<_>>()?)?;
        }
        Ok(Self { overlay, plan: plan.unbind() })
    }
}

#[pymethods]
impl Overlay {
    #[new]
    #[pyo3(signature = (*, name=None, arena=None, **uses))]
    fn new(
        py: Python<'_>,
        name: Option<&Bound<'_, PyAny>>,
        arena: Option<&Bound<'_, PyAny>>,
        uses: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        static SAID: Once<Py<PyAny>> = Once::new();
        let said = SAID.import(py, "ndshare._overlay", "said")?.call1((name, arena, uses))?;
        let (said, name, arena): Told<'_> = said.extract()?;
        let (mut uses, plan) = (Uses::default(), PyDict::new(py));
        for (one, said) in &said {
            let measured = said.iter().map(|field| measured(field).map_err(|error| in_field(py, one, &field.0, error)));
            let (what, words): (Vec<_>, Vec<_>) = measured.collect::<PyResult<Vec<_>>>()?.into_iter().unzip();
            let fields = said.iter().zip(words).map(|((field, ..), (shape, element))| (field, shape, element));
            uses = at_once(py, || uses.with(one, fields))?;
            lay_out(&plan, at_once(py, || uses.find(one))?.1, what)?;
        }
        at_once(py, || uses.check())?;
        let arena = work_arena(py, arena.as_ref())?;
        let overlay = interruptible(py, |deadline| match name {
            Some(name) => library::Overlay::named(&arena, &name, uses, deadline),
            None => library::Overlay::new(&arena, uses, deadline),
        })?;
        Ok(Self { overlay, plan: plan.unbind() })
    }

    /// Waits at most `timeout` seconds (None: for ever) until this use goes on, and enters it. Raises Timeout.
    fn _enter(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<Inside> {
        let inside = interruptible_for(py, seconds(timeout)?, |deadline| self.overlay.enter(name, deadline))?;
        Ok(Inside { inside: Arc::new(inside) })
    }

    /// A contiguous array over the bytes of a field, which keeps `inside` and `memory`.
    ///
    /// Raises ValueError when it does not fit there.
    fn _view<'py>(
        &self,
        inside: &Bound<'py, Inside>,
        place: (Bound<'py, PyAny>, Bound<'py, PyAny>, usize),
        memory: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, hold, (shape, dtype, offset)) = (inside.py(), self.overlay.data().clone(), place);
        let described = Shape::of(&shape)?.contiguous(Dtype::of_new(py, Some(&dtype))?)?;
        let (first, writable) = (described.place(py, &hold, offset as u64)?, !hold.is_readonly());
        let owner = Field {
            hold: owner::Hold::new(hold, true),
            _inside: inside.get().inside.clone(),
            _memory: memory,
            start: offset,
            length: described.len_bytes(),
            ended: AtomicBool::new(false),
            left: AtomicBool::new(false),
        };
        // SAFETY: the owner keeps the block; NumPy's own class of arrays.
        let make = |owner| unsafe { described.array(&plain_class(py), owner, first, writable) };
        let base = make(Py::new(py, owner)?.into_any())?;
        make(base.unbind())
    }

    /// (arena, block, generation, whether it may only be read): equal for all that look at the same memory in the same way.
    #[getter(_place)]
    fn place(&self) -> (u64, u32, u32, bool) {
        let head = self.overlay.head();
        (head.arena().id(), head.block().index, head.block().generation, head.is_readonly())
    }

    /// Its head, for tests.
    #[getter(_head)]
    fn head<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let head = self.overlay.head();
        bytes(py, head, head.len_bytes())
    }

    /// The bytes under all uses, for tests.
    #[getter(_data)]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        bytes(py, self.overlay.data(), self.overlay.uses().len_bytes())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(only_multiprocessing("Overlay"))
    }

    fn __repr__(&self) -> String {
        let uses = self.overlay.uses();
        format!("<Overlay {uses}, {} bytes>", uses.len_bytes())
    }
}

/// What multiprocessing sends of an overlay: (token, what NumPy knows of its fields). The token has a ticket.
#[pyfunction]
pub(crate) fn overlay_parts<'py>(
    py: Python<'py>,
    overlay: &Bound<'py, Overlay>,
) -> PyResult<(Bound<'py, PyBytes>, Py<PyDict>)> {
    let Overlay { overlay, plan } = overlay.get();
    Ok((ticketed(py, overlay.head())?, plan.clone_ref(py)))
}

/// The overlay of such parts.
///
/// Raises Stale when nobody held it any more, AttachError when it cannot be reached, and ValueError when it is something
/// else.
#[pyfunction]
#[pyo3(signature = (token, plan=None))]
pub(crate) fn open_overlay(py: Python<'_>, token: &[u8], plan: Option<Py<PyDict>>) -> PyResult<Overlay> {
    let opened = Overlay::of_head(py, opened(py, token)?)?;
    Ok(Overlay { plan: plan.unwrap_or(opened.plan), ..opened })
}

/// The bytes of a block as an array.
fn bytes<'py>(py: Python<'py>, hold: &Hold, len_bytes: usize) -> PyResult<Bound<'py, PyAny>> {
    let dtype = Dtype::of_element(py, &Element::of(Number::U8))?;
    Described::contiguous(dtype, &[len_bytes], false)?.over(py, hold.clone(), true)
}

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
    inside: Arc<Entered>,
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
    _inside: Arc<Entered>,
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

/// The `Field` under an array of `Overlay._view`, as long as the array has not been let go.
#[pyfunction]
pub(crate) fn field_under<'py>(array: &Bound<'py, PyAny>) -> Option<Bound<'py, Field>> {
    view_base(&view_base(array)?)?.cast_into().ok()
}

/// Ends the use of these arrays of `Overlay._view`: they turn read-only for good, and those to which nothing but variables
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

/// What an overlay was told: its uses with their fields, its name, its arena.
type Told<'py> = (Vec<(String, Vec<Said<'py>>)>, Option<String>, Option<Bound<'py, PyAny>>);

/// What a field is for NumPy: its shape and dtype.
type What<'py> = (Bound<'py, PyTuple>, Bound<'py, PyAny>);

/// Notes what the fields of a use are, and where.
fn lay_out<'py>(plan: &Bound<'py, PyDict>, one: &Use, what: Vec<What<'py>>) -> PyResult<()> {
    let fields = one.fields().iter().zip(what);
    let laid = fields.map(|(field, (shape, dtype))| (field.name(), (shape, dtype, field.offset())));
    plan.set_item(one.name(), laid.into_py_dict(plan.py())?)
}

/// Shape and dtype of a field, and both as the library says them: it has no word for each dtype, and calls the others
/// bytes.
fn measured<'py>((_, shape, dtype): &Said<'py>) -> PyResult<(What<'py>, (Vec<usize>, Element))> {
    let py = shape.py();
    let (dtype, shape) = (Dtype::of_new(py, Some(dtype))?, Shape::of(shape)?);
    let length = shape.len_bytes(dtype.itemsize())?;
    let element = dtype.element()?.filter(|element| length > 0 && element.size() == dtype.itemsize());
    let words = match element {
        Some(element) => (shape.unsigned().to_vec(), element),
        None => (vec![length], Element::of(Number::U8)),
    };
    Ok(((PyTuple::new(py, shape.lengths())?, dtype.as_any().clone()), words))
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
