//! The transforms as objects, each made once by the Python module that has the functions.

use ndshare::fft::{Axes, Transform};
use pyo3::prelude::*;

use crate::error::to_python;

/// One of SciPy's transforms, by name.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct FftTransform(pub(super) Transform);

#[pymethods]
impl FftTransform {
    #[new]
    #[pyo3(signature = (name, /))]
    fn new(py: Python<'_>, name: &str) -> PyResult<Self> {
        name.parse().map(Self).map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }

    /// "complex", "to half" or "to real".
    #[getter]
    fn family(&self) -> &'static str {
        self.0.family().name()
    }

    /// Whether the sign of the exponent is negative.
    #[getter]
    fn is_forward(&self) -> bool {
        self.0.is_forward()
    }

    /// Whether it has one axis.
    #[getter]
    fn is_single(&self) -> bool {
        self.0.is_single()
    }

    /// The axes, the lengths along them and the shape of the result, by SciPy's rules and with its errors.
    #[pyo3(signature = (shape, s, axes, /))]
    #[allow(clippy::type_complexity)]
    fn extent(
        &self,
        py: Python<'_>,
        shape: Vec<usize>,
        s: Option<Vec<isize>>,
        axes: Option<Vec<isize>>,
    ) -> PyResult<(Vec<usize>, Vec<usize>, Vec<usize>)> {
        let given = axes.as_deref().map_or(Axes::All, Axes::These);
        let (axes, lengths) = self.0.extent(&shape, given, s.as_deref()).map_err(|error| to_python(py, &error))?;
        let result = self.0.family().result_shape(&shape, &axes, &lengths);
        Ok((axes, lengths, result))
    }
}
