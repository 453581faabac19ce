//! `allocating`: for a while, NumPy takes the memory of this thread's new arrays from an arena (NEP 49).
//!
//! NumPy asks a *handler* for the bytes of an array, and remembers with the array which one it was. The handler in use
//! is a context variable, so threads and asyncio tasks have their own. Ours asks a [`Scope`], which says what is a block and
//! what comes from the handlers outside of ours.
//!
//! NumPy holds the interpreter while it calls these functions, and does not expect that it is let go. Nothing can be
//! raised from here: Ctrl-C is answered as soon as NumPy returns.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use ndshare::arena::Arena;
use ndshare::malloc::{Counts, Malloc, Other, Scope};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::to_python;
use crate::guard::{Guarded, Once};
use crate::objects::has_objects;

/// What NumPy calls a handler's capsule.
const CAPSULE: &CStr = c"mem_handler";
/// What `numpy.core.multiarray.get_handler_name` answers.
const NAME: &[u8] = b"ndshare";
/// What it answers for NumPy's own handler, and the end of that.
const NUMPYS_NAME: &[u8] = b"default_allocator\0";
/// Where NumPy's table of functions has the two that change and tell the handler.
const SET_HANDLER: usize = 304;
const GET_HANDLER: usize = 305;
/// The least that is worth a block of its own.
const MIN_BYTES: usize = 4096;

// ---- what NumPy knows of a handler ----------------------------------------------------------------------------------

/// `PyDataMemAllocator`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Allocator {
    context: *mut c_void,
    malloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    calloc: unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void,
    realloc: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, *mut c_void, usize),
}

/// `PyDataMem_Handler`.
#[repr(C)]
struct Handler {
    name: [c_char; 127],
    version: u8,
    allocator: Allocator,
}

/// What a scope's handler works with, and its capsule points to; one for each time that the scope is entered. It lives
/// as long as the scope or any array that it made.
#[repr(C)]
struct Context {
    /// First, because NumPy takes the address of the whole for that of its handler.
    handler: Handler,
    /// It is open as long as the `with` block.
    scope: Scope<Allocator>,
    /// The handler that was in use before.
    outer: Py<PyAny>,
}

// ---- memory ---------------------------------------------------------------------------------------------------------

impl Allocator {
    const OURS: Self = Self { context: ptr::null_mut(), malloc, calloc, realloc, free };

    fn is_ours(&self) -> bool {
        ptr::fn_addr_eq(self.malloc, Self::OURS.malloc)
    }
}

impl Other for Allocator {
    #[inline]
    fn malloc(&self, len_bytes: usize) -> *mut u8 {
        // SAFETY: a handler's function with its own context, for NumPy's call, which holds the interpreter. The capsule
        // that keeps the handler is kept by the chain of outer ones.
        unsafe { (self.malloc)(self.context, len_bytes).cast() }
    }

    #[inline]
    fn calloc(&self, items: usize, item_bytes: usize) -> *mut u8 {
        // SAFETY: as in `malloc`.
        unsafe { (self.calloc)(self.context, items, item_bytes).cast() }
    }

    fn realloc(&self, old: *mut u8, len_bytes: usize) -> *mut u8 {
        // SAFETY: as in `malloc`; the memory is not ours, so it came from there.
        unsafe { (self.realloc)(self.context, old.cast(), len_bytes).cast() }
    }

    #[inline]
    fn free(&self, address: *mut u8, len_bytes: usize) {
        // SAFETY: as in `realloc`.
        unsafe { (self.free)(self.context, address.cast(), len_bytes) }
    }
}

// ---- what NumPy calls -----------------------------------------------------------------------------------------------

/// # Safety
/// `context` is that of a handler of ours.
#[inline]
unsafe fn context_at<'a>(address: *mut c_void) -> &'a Context {
    // SAFETY: the context of our handlers is a `Context`. The caller has the capsule that keeps it, or an array has it.
    unsafe { &*address.cast::<Context>() }
}

unsafe extern "C" fn malloc(context: *mut c_void, len_bytes: usize) -> *mut c_void {
    // SAFETY: called as a handler of ours.
    unsafe { context_at(context) }.scope.malloc(len_bytes).cast()
}

unsafe extern "C" fn calloc(context: *mut c_void, items: usize, item_bytes: usize) -> *mut c_void {
    // NumPy asks for zeros for arrays of objects, too, and does not say so. They are told by what is in them.
    // SAFETY: called as a handler of ours.
    unsafe { context_at(context) }.scope.calloc(items, item_bytes, has_objects).cast()
}

unsafe extern "C" fn realloc(context: *mut c_void, old: *mut c_void, len_bytes: usize) -> *mut c_void {
    // SAFETY: called as a handler of ours. NumPy resizes what a handler gave it: a block that begins here was given by this
    // one or by one of ours outside of it.
    unsafe { context_at(context).scope.realloc(old.cast(), len_bytes, has_objects).cast() }
}

unsafe extern "C" fn free(context: *mut c_void, address: *mut c_void, len_bytes: usize) {
    // SAFETY: as in `realloc`, and NumPy frees it once.
    unsafe { context_at(context).scope.free(address.cast(), len_bytes) };
}

// ---- handlers as Python objects -------------------------------------------------------------------------------------

/// The handler of a capsule.
fn handler_of<'a>(capsule: &'a Bound<'_, PyAny>) -> PyResult<&'a Handler> {
    // SAFETY: attached; NumPy lets nothing but a capsule of this name be a handler.
    let handler = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), CAPSULE.as_ptr()) };
    // SAFETY: such a capsule points to a handler as long as it lives.
    unsafe { handler.cast::<Handler>().as_ref() }.ok_or_else(|| PyErr::fetch(capsule.py()))
}

/// What a handler's capsule offers.
fn allocator_of(capsule: &Bound<'_, PyAny>) -> PyResult<Allocator> {
    handler_of(capsule).map(|handler| handler.allocator)
}

fn is_numpys_own(capsule: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = &handler_of(capsule)?.name;
    Ok(name.iter().zip(NUMPYS_NAME).all(|(&found, &wanted)| found as u8 == wanted))
}

/// The context of a handler of ours.
fn context_of<'a>(capsule: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a Context>> {
    let allocator = allocator_of(capsule)?;
    // SAFETY: the capsule keeps the context of a handler of ours.
    Ok(allocator.is_ours().then(|| unsafe { context_at(allocator.context) }))
}

impl Context {
    /// A new context outside of which `outer` is in use, as a capsule.
    fn capsule<'py>(scope: &Allocating, arena: Arc<Arena>, outer: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = outer.py();
        let (memory, beside) = (Malloc::new(arena, scope.counts.clone()), allocator_of(&outer)?);
        let scope = match context_of(&outer)? {
            Some(context) => Scope::within(memory, scope.min_bytes, beside, &context.scope),
            None => Scope::new(memory, scope.min_bytes, beside, !is_numpys_own(&outer)?),
        };
        let mut name = [0; 127];
        name.iter_mut().zip(NAME).for_each(|(to, &from)| *to = from as c_char);
        let context = Box::into_raw(Box::new(Self {
            handler: Handler { name, version: 1, allocator: Allocator::OURS },
            scope,
            outer: outer.unbind(),
        }));
        // SAFETY: attached; the box is valid, nobody else knows of it yet, and the capsule gives it to `destroy` once.
        unsafe {
            (*context).handler.allocator.context = context.cast();
            let capsule = ffi::PyCapsule_New(context.cast(), CAPSULE.as_ptr(), Some(destroy));
            if capsule.is_null() {
                drop(Box::from_raw(context));
            }
            Bound::from_owned_ptr_or_err(py, capsule)
        }
    }
}

unsafe extern "C" fn destroy(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this once, with a capsule of ours that nobody has any more.
    let context = unsafe { ffi::PyCapsule_GetPointer(capsule, CAPSULE.as_ptr()) };
    if !context.is_null() {
        // SAFETY: as above; it came from a box.
        let context = unsafe { Box::from_raw(context.cast::<Context>()) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(context)));
    }
}

/// A function of NumPy's table. rust-numpy does not offer the two that we need.
fn function_at(py: Python<'_>, index: usize) -> PyResult<*const c_void> {
    static TABLE: Once<Py<PyAny>> = Once::new();
    let table = TABLE.import(py, "numpy._core._multiarray_umath", "_ARRAY_API")?;
    // SAFETY: attached; NumPy's capsule has no name, and its table is never freed. Since version 1.22 it has more
    // entries than those that we ask for, and we are never imported without NumPy 2.
    unsafe {
        let first = ffi::PyCapsule_GetPointer(table.as_ptr(), ptr::null()).cast::<*const c_void>();
        if first.is_null() { Err(PyErr::fetch(py)) } else { Ok(first.add(index).read()) }
    }
}

/// The handler in use in this context.
fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    type Get = unsafe extern "C" fn() -> *mut ffi::PyObject;
    // SAFETY: attached; this is `PyDataMem_GetHandler`, which returns a new reference.
    unsafe {
        let get = std::mem::transmute::<*const c_void, Get>(function_at(py, GET_HANDLER)?);
        Bound::from_owned_ptr_or_err(py, get())
    }
}

/// Makes `capsule` the handler of this context.
fn put_in_use(capsule: &Bound<'_, PyAny>) -> PyResult<()> {
    type Set = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;
    let py = capsule.py();
    // SAFETY: attached; this is `PyDataMem_SetHandler`, which returns a new reference to the last one.
    unsafe {
        let set = std::mem::transmute::<*const c_void, Set>(function_at(py, SET_HANDLER)?);
        Bound::from_owned_ptr_or_err(py, set(capsule.as_ptr())).map(drop)
    }
}

// ---- the scope ------------------------------------------------------------------------------------------------------

/// Makes NumPy allocate in shared memory: `with nds.allocating(min_bytes=4096):`.
///
/// Inside, arrays of at least `min_bytes` bytes that this thread (or asyncio task) makes with whatever library are
/// born shared: they can be sent by reference as they are. `arena` is an `Arena`, or None for the session's. Smaller
/// arrays are NumPy's own, and so are those that the arena has no room for; nothing fails that would not fail without
/// ndshare. Scopes nest, the innermost counts. One may be entered again after it was left; `arrays`, `bytes`,
/// `fallbacks` and `fallback_bytes` go on counting.
///
/// Raises ValueError for a negative `min_bytes`, TypeError for what is no number, and on entry RuntimeError when this
/// scope is entered already, and ArenaFull when the session cannot be made.
///
/// >>> import ndshare as nds, numpy as np
/// >>> with nds.allocating() as scope:
/// ...     a = np.arange(1000) * 2.0
/// >>> nds.is_shared(a), scope.fallbacks
/// (True, 0)
#[pyclass(frozen, weakref, name = "allocating", module = "ndshare")]
pub(crate) struct Allocating {
    /// How many bytes an array has at least that is made in shared memory.
    #[pyo3(get)]
    min_bytes: usize,
    named: Option<Arc<Arena>>,
    counts: Arc<Counts>,
    /// The handler of the `with` block that is open.
    entered: Guarded<Option<Py<PyAny>>>,
}

impl Allocating {
    fn arena(&self, py: Python<'_>) -> PyResult<Arc<Arena>> {
        self.named.clone().map_or_else(|| crate::session::session(py).cloned(), Ok)
    }
}

#[pymethods]
impl Allocating {
    #[new]
    #[pyo3(signature = (min_bytes=None, *, arena=None), text_signature = "(min_bytes=4096, *, arena=None)")]
    fn new(py: Python<'_>, min_bytes: Option<&Bound<'_, PyAny>>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let named = arena.filter(|arena| !arena.is_none()).map(crate::arena::named).transpose()?;
        if let Some(Err(error)) = named.as_ref().map(|arena| arena.check_writable("NumPy's allocations")) {
            return Err(to_python(py, &error));
        }
        let min_bytes = min_bytes.map_or(Ok(MIN_BYTES), parse_min_bytes)?;
        Ok(Self { min_bytes, named, counts: Arc::default(), entered: Guarded::new(None) })
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let (py, this) = (slf.py(), slf.get());
        let context = Context::capsule(this, this.arena(py)?, current(py)?)?;
        if this.entered.fill(context.clone().unbind()).is_some() {
            return Err(PyRuntimeError::new_err(
                "expected a scope that is not entered, got one that is: make another one with nds.allocating()",
            ));
        }
        put_in_use(&context)?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        let Some(entered) = self.entered.take() else {
            return Err(PyRuntimeError::new_err(
                "expected a scope that is entered, got one that is not: enter it first, or leave it once less",
            ));
        };
        let entered = entered.into_bound(py);
        let Some(context) = context_of(&entered)? else { return Ok(()) };
        context.scope.close();
        // A generator may be left in another context, or while scopes that it does not know of are open. Then the
        // handler stays where it is, and passes everything on.
        if !current(py)?.is(&entered) {
            return Ok(());
        }
        put_in_use(&open_outside(context.outer.bind(py).clone())?)
    }

    /// How many pieces of memory were taken from the arena. NumPy takes some for itself and gives them back.
    #[getter]
    fn arrays(&self) -> u64 {
        self.counts.given().0
    }

    /// How many bytes these had.
    #[getter]
    fn bytes(&self) -> u64 {
        self.counts.given().1
    }

    /// How many pieces were large enough, but the arena could not give them.
    #[getter]
    fn fallbacks(&self) -> u64 {
        self.counts.refused().0
    }

    /// How many bytes those had.
    #[getter]
    fn fallback_bytes(&self) -> u64 {
        self.counts.refused().1
    }

    fn __repr__(&self) -> String {
        let state = if self.entered.is_some() { "entered" } else { "not entered" };
        let (min, arrays, fallbacks) = (self.min_bytes, self.arrays(), self.fallbacks());
        format!("<{state} ndshare.allocating min_bytes={min}, {arrays} arrays, {fallbacks} fallbacks>")
    }
}

/// The nearest handler from `capsule` outwards that is not the rest of a scope that was left.
fn open_outside(mut capsule: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = capsule.py();
    loop {
        let next = match context_of(&capsule)? {
            Some(context) if !context.scope.is_open() => context.outer.bind(py).clone(),
            _ => return Ok(capsule),
        };
        capsule = next;
    }
}

fn parse_min_bytes(min_bytes: &Bound<'_, PyAny>) -> PyResult<usize> {
    min_bytes.extract::<usize>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(min_bytes.py()) {
            let got = min_bytes.get_type();
            return PyTypeError::new_err(format!("expected min_bytes to be a number of bytes, got {got}"));
        }
        PyValueError::new_err(format!("expected min_bytes of at least 0, below 2**64, got {min_bytes}"))
    })
}
