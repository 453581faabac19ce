//! Are the references to an array mere variables, or does something look at its bytes?
//!
//! A slice of an array refers to the array's base, and can be told from the array by that. But a memoryview, a DLPack
//! capsule, an instance of a subclass or an extension's object refers to the array itself, as a variable does, and says
//! so to nobody. So the variables are counted: names in the frames of this thread, and places in dicts, lists, tuples,
//! cells, generators and instances of ordinary classes. An array has views unless its variables are as many as its
//! references. What is not recognized counts as a view: the error is on the side of waiting.
//!
//! No Python code runs while it is counted, so nothing changes meanwhile.

use std::collections::HashSet;
use std::ffi::{c_int, c_void};

use crate::guard::Once;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyList, PyTuple, PyType, PyTypeMethods};

/// A container with more items is looked at only if the collector says that it refers to one of the arrays.
const SMALL: isize = 1000;
/// The part of an object's word of references in which every Python counts.
const COUNT: isize = u32::MAX as isize;
/// Locals of this kind of code are in the frame and not in a dict.
const CO_OPTIMIZED: u32 = 1;
/// What tells others where the bytes of an array are: who has one of these may have given the address away.
const INTERFACES: [&str; 7] = [
    "__array_interface__",
    "__array_struct__",
    "__array__",
    "__buffer__",
    "__cuda_array_interface__",
    "__dlpack__",
    "_as_parameter_",
];

/// For each value of `arrays`: whether all references to it, besides that of `arrays`, are variables.
pub(crate) fn are_only_variables<'py>(arrays: &Bound<'py, PyDict>) -> Vec<bool> {
    let mut count = Count::new(arrays);
    if tools(arrays.py()).is_ok_and(|tools| !tools.has_lock) {
        // Without the interpreter's lock references come and go meanwhile, and are counted in two places.
        return vec![false; count.arrays.len()];
    }
    let _quiet = Quiet::begin();
    if !count.is_complete() {
        count.look_at_frames(arrays.py());
    }
    if !count.is_complete() {
        // What can't be asked is not counted.
        let _ = count.ask_collector(arrays.py());
    }
    count.arrays.iter().map(One::is_complete).collect()
}

/// No cyclic collection, which runs finalizers, while this lives.
pub(crate) struct Quiet {
    was_on: bool,
}

impl Quiet {
    pub(crate) fn begin() -> Self {
        // SAFETY: attached.
        Self { was_on: unsafe { ffi::PyGC_Disable() } == 1 }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.was_on {
            // SAFETY: attached, as at the beginning; it is dropped where it was made.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// How many references there are to an object.
pub(crate) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: attached; a live object.
    let word = unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    // From Python 3.14 on the upper half of the word that older ones count in has flags.
    word & COUNT
}

struct One<'py> {
    array: Bound<'py, PyAny>,
    variables: isize,
}

impl One<'_> {
    fn is_complete(&self) -> bool {
        // One reference is the dict's, one is ours.
        references(&self.array) - 2 <= self.variables
    }
}

struct Count<'py> {
    arrays: Vec<One<'py>>,
    /// The containers that were looked at.
    seen: HashSet<*mut ffi::PyObject>,
}

impl<'py> Count<'py> {
    fn new(arrays: &Bound<'py, PyDict>) -> Self {
        let seen = HashSet::from([arrays.as_ptr()]);
        Self { arrays: arrays.iter().map(|(_, array)| One { array, variables: 0 }).collect(), seen }
    }

    fn is_complete(&self) -> bool {
        self.arrays.iter().all(One::is_complete)
    }

    /// Counts the names of each frame of this thread, until all is explained.
    fn look_at_frames(&mut self, py: Python<'py>) {
        // SAFETY: attached; the frame that runs, or null.
        let first = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast()) };
        let mut next = first;
        while let Some(frame) = next.filter(|frame| !frame.is_none()) {
            // A frame that can't be asked leaves its names uncounted.
            let _ = self.look_at_frame(&frame);
            if self.is_complete() {
                return;
            }
            next = frame.getattr("f_back").ok();
        }
    }

    fn look_at_frame(&mut self, frame: &Bound<'py, PyAny>) -> PyResult<()> {
        let code = frame.getattr("f_code")?;
        let locals = frame.getattr("f_locals")?;
        if code.getattr("co_flags")?.extract::<u32>()? & CO_OPTIMIZED == 0 {
            self.look_at_namespace(&locals);
        } else {
            let names = code.getattr("co_varnames")?.cast_into::<PyTuple>()?;
            let cells = code.getattr("co_cellvars")?.cast_into::<PyTuple>()?;
            self.look_at_names(&names, &cells, &locals)?;
            forget_snapshot(&code, &locals)?;
        }
        self.look_at_namespace(&frame.getattr("f_globals")?);
        Ok(())
    }

    /// The names of a function that are no cells; those are found as cells.
    fn look_at_names(
        &mut self,
        names: &Bound<'py, PyTuple>,
        cells: &Bound<'py, PyTuple>,
        locals: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        for name in names {
            if cells.contains(&name)? {
                continue;
            }
            if let Ok(value) = locals.get_item(&name) {
                self.look_at(value.as_ptr(), true);
            }
        }
        Ok(())
    }

    /// A dict of names: of a module or a class.
    fn look_at_namespace(&mut self, names: &Bound<'py, PyAny>) {
        let Ok(names) = names.cast_exact::<PyDict>() else { return };
        if !self.seen.insert(names.as_ptr()) {
            return;
        }
        for (_, value) in names {
            self.look_at(value.as_ptr(), true);
        }
    }

    /// One place: it has an array, or if `deep` a small container that has some.
    fn look_at(&mut self, value: *mut ffi::PyObject, deep: bool) {
        if let Some(one) = self.arrays.iter_mut().find(|one| one.array.as_ptr() == value) {
            one.variables += 1;
        } else if deep && is_small(value) && !self.seen.contains(&value) && is_container(value) {
            self.look_into(value);
        }
    }

    fn look_into(&mut self, container: *mut ffi::PyObject) {
        if !self.seen.insert(container) {
            return;
        }
        // SAFETY: a live object, which the caller keeps; its class says how it is gone through, and what is called for
        // each object only counts.
        unsafe {
            if let Some(traverse) = traverse_of(ffi::Py_TYPE(container)) {
                traverse(container, count_one, std::ptr::from_mut(self).cast());
            }
        }
    }

    /// Counts the containers anywhere in the program; takes time, as a collection does.
    fn ask_collector(&mut self, py: Python<'py>) -> PyResult<()> {
        let left = self.arrays.iter().filter(|one| !one.is_complete()).map(|one| one.array.clone());
        let left = PyTuple::new(py, left.collect::<Vec<_>>())?;
        let found = tools(py)?.get_referrers.bind(py).call1(&left)?;
        // From Python 3.13 on it is among the containers that are found; it stays, so that none is in its place.
        self.seen.insert(left.as_ptr());
        for container in found.try_iter()? {
            let container = container?;
            if is_container(container.as_ptr()) {
                self.look_into(container.as_ptr());
            }
        }
        Ok(())
    }
}

extern "C" fn count_one(object: *mut ffi::PyObject, count: *mut c_void) -> c_int {
    // SAFETY: `look_into` passes its own exclusive reference, and does nothing else with it meanwhile.
    let count = unsafe { &mut *count.cast::<Count<'_>>() };
    count.look_at(object, false);
    0
}

/// What counting needs of Python. It is looked up once, because an import may run Python code.
struct Tools {
    get_referrers: Py<PyAny>,
    get_trace: Py<PyAny>,
    /// Classes of the interpreter whose instances have nothing but places for variables.
    places: Vec<Py<PyAny>>,
    /// Classes of what pauses, and what their instances are asked whether they run.
    paused: Vec<(Py<PyAny>, &'static str)>,
    /// What says which names a class has itself, whatever its metaclass would say.
    names: Py<PyAny>,
    /// Whether this is an interpreter in which one thread runs at a time.
    has_lock: bool,
    /// How an instance of a class written in Python is gone through.
    traverse: Option<ffi::traverseproc>,
}

fn tools(py: Python<'_>) -> PyResult<&Tools> {
    static FOUND: Once<Tools> = Once::new();
    FOUND.get_or_make(|| {
        let ordinary = py.get_type::<PyType>().call1(("Ordinary", PyTuple::empty(py), PyDict::new(py)))?;
        let (types, deque) = (py.import("types")?, py.import("collections")?.getattr("deque")?);
        let class = |name: &str| types.getattr(name).map(Bound::unbind);
        let builtins = [py.get_type::<PyList>(), py.get_type::<PyTuple>()].map(|class| class.into_any().unbind());
        let more = [class("CellType")?, class("FrameType")?, deque.unbind()];
        Ok(Tools {
            get_referrers: py.import("gc")?.getattr("get_referrers")?.unbind(),
            get_trace: py.import("sys")?.getattr("gettrace")?.unbind(),
            has_lock: !py.import("sys")?.getattr("abiflags")?.extract::<String>()?.contains('t'),
            places: builtins.into_iter().chain(more).collect(),
            paused: vec![
                (class("GeneratorType")?, "gi_running"),
                (class("CoroutineType")?, "cr_running"),
                (class("AsyncGeneratorType")?, "ag_running"),
            ],
            names: py.get_type::<PyType>().getattr("__dict__")?.get_item("__dict__")?.getattr("__get__")?.unbind(),
            // SAFETY: attached; a class that lives.
            traverse: unsafe { traverse_of(ordinary.as_ptr().cast()) },
        })
    })
}

/// How a class goes through an instance.
///
/// # Safety
/// Attached; a live class.
unsafe fn traverse_of(class: *mut ffi::PyTypeObject) -> Option<ffi::traverseproc> {
    // SAFETY: the caller's; what is in this slot is such a function, or null.
    unsafe {
        let slot = ffi::PyType_GetSlot(class, ffi::Py_tp_traverse);
        std::mem::transmute::<*mut c_void, Option<ffi::traverseproc>>(slot)
    }
}

/// Looks up what counting needs.
pub(crate) fn bind(py: Python<'_>) -> PyResult<()> {
    tools(py).map(|_| ())
}

/// Until Python 3.12 a frame keeps the dict of its locals that was asked for, and so what they refer to.
fn forget_snapshot(code: &Bound<'_, PyAny>, locals: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = code.py();
    let Ok(snapshot) = locals.cast_exact::<PyDict>() else { return Ok(()) };
    // Somebody else has it, who called `locals()`; or a debugger may write it back into the frame.
    let is_ours = references(snapshot) <= 2;
    if !is_ours || !tools(py)?.get_trace.bind(py).call0()?.is_none() {
        return Ok(());
    }
    for kind in ["co_varnames", "co_cellvars", "co_freevars"] {
        for name in code.getattr(kind)?.cast_into::<PyTuple>()? {
            // Unset names are not in it.
            let _ = snapshot.del_item(name);
        }
    }
    Ok(())
}

/// Whether references from this object are places for variables, and nothing else.
fn is_container(object: *mut ffi::PyObject) -> bool {
    // SAFETY: attached, a live object; classes live as long as their instances.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if std::ptr::eq(class, &raw mut ffi::PyDict_Type) {
            return INTERFACES.iter().all(|name| !has_key(object, name));
        }
        let Ok(tools) = tools(Python::assume_attached()) else { return false };
        let is_plain = tools.places.iter().any(|place| std::ptr::eq(place.as_ptr(), class.cast()));
        is_plain || is_paused(tools, object) || is_ordinary(tools, object)
    }
}

/// A generator, or a coroutine, that does not run: one that runs is among the frames.
fn is_paused(tools: &Tools, object: *mut ffi::PyObject) -> bool {
    // SAFETY: attached, a live object.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    let class = object.get_type();
    let kind = tools.paused.iter().find(|(kind, _)| class.is(kind));
    kind.is_some_and(|(_, name)| object.getattr(*name).and_then(|runs| runs.extract()).is_ok_and(|runs: bool| !runs))
}

/// An instance of a class that was written in Python from nothing but such classes, and that offers no bytes.
fn is_ordinary(tools: &Tools, object: *mut ffi::PyObject) -> bool {
    // SAFETY: attached, a live object; its class lives as it does.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    // An attribute that no such class has is looked up in the instance alone, which runs no Python code.
    is_plainly_derived(tools, object.get_type())
        && is_written_in_python(tools, &object)
        && INTERFACES.iter().all(|name| !has_attribute(&object, name))
}

/// Whether a class and all that it is made from have one base each, `object` at last, and no name that offers bytes.
fn is_plainly_derived(tools: &Tools, mut class: Bound<'_, PyType>) -> bool {
    let py = class.py();
    // SAFETY: attached; a live class.
    while unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) } & ffi::Py_TPFLAGS_HEAPTYPE != 0 {
        let Ok(names) = tools.names.bind(py).call1((&class,)) else { return false };
        if INTERFACES.iter().any(|name| names.contains(name).unwrap_or(true)) {
            return false;
        }
        let Some(base) = only_base(&class) else { return false };
        class = base;
    }
    class.is(py.get_type::<PyAny>())
}

/// The base of a class that has one, without asking its metaclass.
fn only_base<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyType>> {
    // SAFETY: attached; a live class keeps the tuple of its bases, which is what is in this slot.
    let bases = unsafe {
        let slot = ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_bases);
        Bound::from_borrowed_ptr_or_opt(class.py(), slot.cast())?
    };
    let bases = bases.cast_into::<PyTuple>().ok().filter(|bases| bases.len() == 1)?;
    bases.get_item(0).ok()?.cast_into().ok()
}

/// Extensions make classes on the heap, too; theirs have other ways to go through an instance.
fn is_written_in_python(tools: &Tools, object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached; a live object has a class.
    let own = unsafe { traverse_of(ffi::Py_TYPE(object.as_ptr())) };
    matches!((own, tools.traverse), (Some(own), Some(ordinary)) if std::ptr::fn_addr_eq(own, ordinary))
}

fn has_attribute(object: &Bound<'_, PyAny>, name: &str) -> bool {
    let name = pyo3::types::PyString::intern(object.py(), name);
    // SAFETY: attached; live objects. The result is owned.
    let found = unsafe {
        let found = ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr());
        Bound::from_owned_ptr_or_err(object.py(), found)
    };
    found.is_ok()
}

/// Whether an exact dict has a key.
///
/// # Safety
/// Attached; a live dict.
unsafe fn has_key(dict: *mut ffi::PyObject, name: &str) -> bool {
    // SAFETY: the caller's.
    let dict = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), dict) };
    dict.cast_into::<PyDict>().is_ok_and(|dict| dict.contains(name).unwrap_or(true))
}

/// Whether a container has few places.
fn is_small(object: *mut ffi::PyObject) -> bool {
    // SAFETY: attached, a live object; the length of a built-in container runs no Python code.
    unsafe {
        if ffi::PyDict_CheckExact(object) != 0 {
            return ffi::PyDict_Size(object) <= SMALL;
        }
        let is_listed = ffi::PyList_CheckExact(object) != 0 || ffi::PyTuple_CheckExact(object) != 0;
        !is_listed || ffi::PyObject_Size(object) <= SMALL
    }
}
