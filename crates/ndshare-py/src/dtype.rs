//! Which dtypes may live in shared memory: those whose items are plain bytes, without pointers to anything.

use std::ptr::NonNull;

use ndshare::element::{Element, Field, Number, Order, Structure};
use numpy::npyffi::{
    _PyDataType_GET_ITEM_DATA, NPY_ITEM_IS_POINTER, NPY_ITEM_REFCOUNT, NPY_TYPES, NpyTypes, PyArray_Descr,
    PyDataType_ELSIZE, PyDataType_FLAGS, PyDataType_ISLEGACY, PyDataType_METADATA, get_type_object,
};
use numpy::{PyArrayDescr, PyArrayDescrMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::error::to_python;
use crate::guard::Once;

const STRING: i32 = NPY_TYPES::NPY_STRING as i32;
const UNICODE: i32 = NPY_TYPES::NPY_UNICODE as i32;
const OBJECT: i32 = NPY_TYPES::NPY_OBJECT as i32;
const VOID: i32 = NPY_TYPES::NPY_VOID as i32;
/// Deeper structures have no text, and go by pickle.
const MAX_NESTING: usize = 32;
const BUILTIN: i32 = NPY_TYPES::NPY_NTYPES_LEGACY as i32;

/// A dtype of plain bytes; one owned reference.
#[derive(Clone)]
pub(crate) struct Dtype<'py>(Bound<'py, PyArrayDescr>);

impl<'py> Dtype<'py> {
    /// What NumPy makes of `object` (`None` is float64), if it may be shared.
    #[inline]
    pub(crate) fn of(py: Python<'py>, object: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let dtype = match object.filter(|object| !object.is_none()) {
            Some(object) => PyArrayDescr::new(py, object)?,
            None => numpy::dtype::<f64>(py),
        };
        let dtype = Self(dtype);
        dtype.refuse_pointers()?;
        Ok(dtype)
    }

    /// The same for an array that is made anew: NumPy makes "S1" and "U1" of lengths that are not given.
    #[inline]
    pub(crate) fn of_new(py: Python<'py>, object: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let dtype = Self::of(py, object)?;
        if dtype.itemsize() == 0 && matches!(dtype.0.num(), STRING | UNICODE) {
            return Self::of_array(&py.import("numpy")?.call_method1("empty", (0, &dtype.0))?);
        }
        Ok(dtype)
    }

    /// A dtype that was made by this type before.
    #[inline]
    pub(crate) fn known(dtype: Bound<'py, PyArrayDescr>) -> Self {
        Self(dtype)
    }

    /// The dtype of an array, whatever it is.
    pub(crate) fn of_array(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        Ok(Self(array.getattr(intern!(array.py(), "dtype"))?.cast_into()?))
    }

    /// One more reference to the dtype of an array.
    #[inline]
    pub(crate) fn borrowed(py: Python<'py>, descr: NonNull<PyArray_Descr>) -> Self {
        // SAFETY: the array that the caller holds keeps its dtype alive.
        Self(unsafe { Bound::from_borrowed_ptr(py, descr.as_ptr().cast()).cast_into_unchecked() })
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut PyArray_Descr {
        self.0.as_dtype_ptr()
    }

    /// Gives the reference away, to a function that steals it.
    #[inline]
    pub(crate) fn into_ptr(self) -> *mut PyArray_Descr {
        self.0.into_dtype_ptr()
    }

    pub(crate) fn as_any(&self) -> &Bound<'py, PyAny> {
        &self.0
    }

    /// The object, to be kept.
    pub(crate) fn unbind(self) -> Py<PyArrayDescr> {
        self.0.unbind()
    }

    /// Bytes of one item; 0 for "V0".
    #[inline]
    pub(crate) fn itemsize(&self) -> usize {
        self.0.itemsize()
    }

    /// Whether this is a subarray dtype, whose arrays have more dimensions and another dtype.
    pub(crate) fn is_subarray(&self) -> bool {
        self.0.has_subarray()
    }

    /// Whether its items have fields.
    pub(crate) fn has_fields(&self) -> bool {
        self.0.has_fields()
    }

    /// The dtype and the shape of a field: a subarray of subarrays is one of more axes.
    pub(crate) fn parted(self) -> (Self, Vec<usize>) {
        let (mut dtype, mut shape) = (self, Vec::new());
        while dtype.is_subarray() {
            shape.extend(dtype.0.shape());
            dtype = Self(dtype.0.base());
        }
        (dtype, shape)
    }

    /// Whether NumPy takes both for one.
    #[inline]
    pub(crate) fn is_like(&self, other: &Self) -> PyResult<bool> {
        Ok(self.0.is(&other.0) || self.0.eq(&other.0)?)
    }

    /// Itself, for frames and canvases; a subarray is a TypeError.
    pub(crate) fn refuse_subarray(self) -> PyResult<Self> {
        if self.is_subarray() {
            return Err(PyTypeError::new_err("expected a dtype that is no subarray: put its shape into shape="));
        }
        Ok(self)
    }

    /// What the library calls it; none when that would not keep the dtype whole: it has metadata or a class of its own,
    /// or a library registered it with NumPy.
    pub(crate) fn element(&self) -> PyResult<Option<Element>> {
        match self.told(MAX_NESTING) {
            Ok((element, is_whole)) => Ok(is_whole.then_some(element)),
            Err(error) if error.is_instance_of::<PyTypeError>(self.0.py()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same without what is not kept; TypeError for dtypes that a library registered with NumPy.
    pub(crate) fn stored_element(&self) -> PyResult<Element> {
        self.told(MAX_NESTING).map(|(element, _)| element)
    }

    /// What the library calls it, and whether that keeps all of it. TypeError where it has no word for it.
    fn told(&self, nesting: usize) -> PyResult<(Element, bool)> {
        let py = self.0.py();
        if !self.is_builtin() {
            return if self.is_bfloat16()? { Ok((Element::of(Number::Bf16), true)) } else { Err(self.foreign()) };
        }
        // SAFETY: attached; a dtype object is a PyArray_Descr.
        let (is_bare, is_void) = unsafe {
            let is_void = (*_PyDataType_GET_ITEM_DATA(self.as_ptr())).typeobj
                == get_type_object(py, NpyTypes::PyVoidArrType_Type);
            (PyDataType_METADATA(py, self.as_ptr()).is_null(), is_void)
        };
        let has_fields = self.0.has_fields();
        if self.0.num() != VOID {
            // Numbers may have fields, too: parts of their bytes by name.
            return if has_fields { Err(self.foreign()) } else { Ok((self.unnamed()?, is_bare)) };
        }
        if !has_fields {
            return Ok((self.unnamed()?, is_bare && is_void && !self.is_subarray()));
        }
        let (structure, is_whole) = self.structure(nesting)?;
        Ok((Element::Structure(structure.into()), is_bare && is_void && is_whole))
    }

    /// What it is called when it has no fields.
    fn unnamed(&self) -> PyResult<Element> {
        let py = self.0.py();
        if let Some(number) = NonNull::new(self.as_ptr()).and_then(|descr| number_of(py, descr)) {
            return Ok(Element::of(number));
        }
        let text: String = self.0.getattr(intern!(py, "str"))?.extract()?;
        text.parse().map_err(|_| self.foreign())
    }

    fn structure(&self, nesting: usize) -> PyResult<(Structure, bool)> {
        let (py, mut is_whole) = (self.0.py(), true);
        let nesting = nesting.checked_sub(1).ok_or_else(|| self.foreign())?;
        let table = self.0.getattr(intern!(py, "fields"))?;
        let mut fields = Vec::new();
        for name in self.0.getattr(intern!(py, "names"))?.try_iter()? {
            let name = name?;
            let field = table.get_item(&name)?.cast_into::<PyTuple>()?;
            let (dtype, shape) = Self(field.get_item(0)?.cast_into()?).parted();
            // NumPy takes any object for a title.
            let title = field.get_item(2).ok().map(|title| title.extract()).transpose()?;
            let (element, is_kept) = dtype.told(nesting)?;
            is_whole &= is_kept;
            fields.push(Field { name: name.extract()?, title, offset: field.get_item(1)?.extract()?, element, shape });
        }
        let structure = Structure::new(fields, self.itemsize(), self.0.is_aligned_struct());
        Ok((structure.map_err(|_| self.foreign())?, is_whole))
    }

    /// The dtype of what the library calls so. Raises ImportError where it is a library's that is not installed.
    pub(crate) fn of_element(py: Python<'py>, element: &Element) -> PyResult<Self> {
        match element {
            Element::Number(number, Order::NATIVE) => Self::of_number(py, *number),
            Element::Structure(structure) => Self::of_structure(py, structure),
            other => Self::of(py, Some(PyString::new(py, &other.to_string()).as_any())),
        }
    }

    fn of_number(py: Python<'py>, number: Number) -> PyResult<Self> {
        static DTYPES: [Once<Py<PyArrayDescr>>; Number::ALL.len()] = [const { Once::new() }; Number::ALL.len()];
        let make = || {
            let name = PyString::new(py, number.name()).into_any();
            // NumPy knows this name only once its library was imported.
            let class = || py.import("ml_dtypes")?.getattr(name.cast::<PyString>()?);
            let object = if number == Number::Bf16 { class()? } else { name.clone() };
            Self::of(py, Some(&object)).map(|dtype| dtype.0.unbind())
        };
        Ok(Self(DTYPES[number as usize].get_or_make(make)?.bind(py).clone()))
    }

    fn of_structure(py: Python<'py>, structure: &Structure) -> PyResult<Self> {
        let format = |field: &Field| -> PyResult<Bound<'py, PyAny>> {
            let dtype = Self::of_element(py, &field.element)?.0;
            if field.shape.is_empty() {
                return Ok(dtype.into_any());
            }
            Ok((dtype, PyTuple::new(py, &field.shape)?).into_pyobject(py)?.into_any())
        };
        let fields = structure.fields();
        let formats = fields.iter().map(format).collect::<PyResult<Vec<_>>>()?;
        let said = dict!(py, {
            "names": fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
            "formats": formats,
            "offsets": fields.iter().map(|field| field.offset).collect::<Vec<_>>(),
            "titles": fields.iter().map(|field| field.title.as_deref()).collect::<Vec<_>>(),
            "itemsize": structure.size(),
            "aligned": structure.is_aligned(),
        })?;
        Self::of(py, Some(said.as_any()))
    }

    /// Whether it is the one that `ml_dtypes` registers, of that name.
    fn is_bfloat16(&self) -> PyResult<bool> {
        if self.is_builtin() || self.itemsize() != 2 {
            return Ok(false);
        }
        let class = self.0.getattr(intern!(self.0.py(), "type"))?;
        let name = |attribute| class.getattr(attribute)?.extract::<String>();
        Ok(name("__name__")? == Number::Bf16.name() && name("__module__")? == "ml_dtypes")
    }

    /// Whether it is one of NumPy's own C types.
    #[inline]
    fn is_builtin(&self) -> bool {
        (0..BUILTIN).contains(&self.0.num())
    }

    #[inline]
    fn refuse_pointers(&self) -> PyResult<()> {
        match self.0.num() {
            VOID => self.refuse_pointers_in_void(),
            OBJECT => Err(self.refusal()),
            _ if self.is_builtin() || self.is_bytes() => Ok(()),
            _ => Err(self.refusal()),
        }
    }

    /// Whether items are plain bytes by NumPy's flags.
    fn is_bytes(&self) -> bool {
        NonNull::new(self.as_ptr()).is_some_and(|descr| !has_pointers(self.0.py(), descr))
    }

    fn refuse_pointers_in_void(&self) -> PyResult<()> {
        let py = self.0.py();
        if !self.is_bytes() {
            return Err(self.refusal());
        }
        if self.is_subarray() {
            return Self(self.0.base()).refuse_pointers();
        }
        let fields = self.0.getattr(intern!(py, "fields"))?;
        if fields.is_none() {
            return Ok(());
        }
        let fields = fields.call_method0(intern!(py, "values"))?;
        fields.try_iter()?.try_for_each(|field| Self(field?.get_item(0)?.cast_into()?).refuse_pointers())
    }

    #[cold]
    fn refusal(&self) -> PyErr {
        PyTypeError::new_err(format!(
            "expected a dtype of plain bytes, got {:?}: its items point into this process and mean nothing to \
             another; convert to a fixed-size dtype (numbers, 'S<n>', 'U<n>', structured) first",
            self.0
        ))
    }

    #[cold]
    fn foreign(&self) -> PyErr {
        PyTypeError::new_err(format!(
            "expected a dtype that NumPy itself knows, a number or a structure and not both, got {:?}: send the array \
             through multiprocessing, or a view of it with such a dtype",
            self.0
        ))
    }
}

/// Whether the items of an array go into a ring's or a field's dtype; else the rule by which they do not. Numbers go within
/// their kind. Texts go only into those as long or longer, which `same_kind` would cut.
pub(crate) fn casts(py: Python<'_>, dtype: &Dtype<'_>, own: &Dtype<'_>) -> PyResult<Result<(), &'static str>> {
    static CAN_CAST: Once<Py<PyAny>> = Once::new();
    // A bfloat16 is a number, whatever its kind says.
    let is_number = own.element()? == Some(Element::of(Number::Bf16));
    let is_text = !is_number && matches!(own.0.getattr(intern!(py, "kind"))?.extract::<char>()?, 'S' | 'U' | 'V');
    let casting = if is_text { "safe" } else { "same_kind" };
    let can_cast = CAN_CAST.import(py, "numpy", "can_cast")?.call1((dtype.as_any(), own.as_any(), casting))?;
    Ok(if can_cast.is_truthy()? { Ok(()) } else { Err(casting) })
}

/// A dtype as text, which says all of it; None where no text does: it has metadata, or is of a library's own.
#[pyfunction]
pub(crate) fn dtype_text(dtype: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let element = Dtype::of(dtype.py(), Some(dtype))?.refuse_subarray()?.element()?;
    Ok(element.map(|element| element.to_string()))
}

/// The dtype of such a text, whoever wrote it. Raises ValueError for other texts.
#[pyfunction]
pub(crate) fn dtype_of_text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let element: Element = text.parse().map_err(|e| to_python(py, &e))?;
    Ok(Dtype::of_element(py, &element)?.0.into_any())
}

/// What a dtype means to a copy; borrowed from an array.
#[derive(Clone, Copy)]
pub(crate) struct Meaning {
    /// Items are plain bytes without holes: copying them copies everything, and nothing else.
    pub(crate) is_solid: bool,
    /// One of NumPy's own C types, without metadata: dtypes alone decide what it is promoted to.
    pub(crate) is_plain: bool,
    /// It is promoted to itself: plain, no structure, and in this machine's order.
    pub(crate) is_simple: bool,
    /// NumPy's letter for what kind it is; a bfloat16 is a float.
    pub(crate) kind: u8,
    /// The number that it is, if there may be a kernel for it.
    pub(crate) number: Option<Number>,
}

impl Meaning {
    pub(crate) fn of(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> Self {
        // SAFETY: attached; a dtype object is a PyArray_Descr, and the array that the caller holds keeps it.
        let (type_num, kind, order, is_bare) = unsafe {
            let fields = &*_PyDataType_GET_ITEM_DATA(descr.as_ptr());
            let is_bare = PyDataType_METADATA(py, descr.as_ptr()).is_null();
            (fields.type_num, fields.kind as u8, fields.byteorder as u8, is_bare)
        };
        let number = number_of(py, descr);
        let is_builtin = (number == Some(Number::Bf16) || (0..BUILTIN).contains(&type_num)) && type_num != OBJECT;
        let is_native = matches!(order, b'=' | b'|');
        let is_plain = is_builtin && is_bare;
        Self {
            is_solid: is_builtin
                && (type_num != VOID
                    || Dtype::borrowed(py, descr).stored_element().is_ok_and(|element| element.is_solid())),
            is_plain,
            is_simple: is_plain && is_native && type_num != VOID,
            kind: number.map_or(kind, |number| number.kind().letter() as u8),
            number,
        }
    }
}

/// The number that a dtype is in this machine's order; None for others.
#[inline]
pub(crate) fn number_of(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> Option<Number> {
    // SAFETY: attached; a dtype object is a PyArray_Descr, and what the caller holds keeps it.
    let fields = unsafe { &*_PyDataType_GET_ITEM_DATA(descr.as_ptr()) };
    if !(0..BUILTIN).contains(&fields.type_num) {
        return Dtype::borrowed(py, descr).is_bfloat16().unwrap_or(false).then_some(Number::Bf16);
    }
    let is_native = matches!(fields.byteorder as u8, b'=' | b'|');
    let number = || Number::of_kind((fields.kind as u8).into(), itemsize_of(py, descr));
    is_native.then(number).flatten()
}

/// The dtype of an array without taking a reference; for the fast questions of `ndarray`.
#[inline]
pub(crate) fn itemsize_of(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> usize {
    // SAFETY: attached; the array that the caller holds keeps its dtype.
    usize::try_from(unsafe { PyDataType_ELSIZE(py, descr.as_ptr()) }).unwrap_or(0)
}

/// Whether items point into this process, as objects and strings of any length do. Dtypes that are not registered with
/// NumPy's C types keep data elsewhere (StringDType does), whatever the flags say.
#[inline]
pub(crate) fn has_pointers(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> bool {
    // SAFETY: as above.
    unsafe {
        let flags = PyDataType_FLAGS(py, descr.as_ptr());
        !PyDataType_ISLEGACY(descr.as_ptr()) || flags & (NPY_ITEM_REFCOUNT | NPY_ITEM_IS_POINTER) != 0
    }
}
