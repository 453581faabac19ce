//! What Zenoh brings: samples, questions and replies.

use pyo3::prelude::*;
use zenoh::{Wait, query::Query as TheirQuery};

use crate::{
    kept::{Kept, asked, dropped},
    payload::{ZBytes, if_given, of_python},
};

/// Make an enum of Zenoh one of Python.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident of $theirs:path: $($variant:ident),*) => {
        $(#[$doc])*
        #[pyclass(frozen, eq, eq_int, from_py_object, module = "ndshare_zenoh", rename_all = "SCREAMING_SNAKE_CASE")]
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),* }

        impl From<$name> for $theirs {
            fn from(ours: $name) -> Self {
                match ours { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

mirror!(
    /// Which message goes first.
    Priority of zenoh::qos::Priority: RealTime, InteractiveHigh, InteractiveLow, DataHigh, Data, DataLow, Background
);
mirror!(
    /// What becomes of a message where the network is full.
    CongestionControl of zenoh::qos::CongestionControl: Drop, Block
);
mirror!(
    /// Whether a message is sent by a link that loses none.
    Reliability of zenoh::qos::Reliability: BestEffort, Reliable
);
mirror!(
    /// Who is asked.
    QueryTarget of zenoh::query::QueryTarget: BestMatching, All, AllComplete
);
mirror!(
    /// Which replies to one key are passed on.
    ConsolidationMode of zenoh::query::ConsolidationMode: Auto, None, Monotonic, Latest
);

/// Whether something was put or deleted.
#[pyclass(frozen, eq, eq_int, module = "ndshare_zenoh", rename_all = "SCREAMING_SNAKE_CASE")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleKind {
    Put,
    Delete,
}

/// A message under a key.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Sample(pub(crate) zenoh::sample::Sample);

#[pymethods]
impl Sample {
    #[getter]
    fn key_expr(&self) -> &str {
        self.0.key_expr().as_str()
    }

    #[getter]
    fn payload(&self) -> ZBytes {
        ZBytes(self.0.payload().clone())
    }

    #[getter]
    fn attachment(&self) -> Option<ZBytes> {
        self.0.attachment().cloned().map(ZBytes)
    }

    #[getter]
    fn kind(&self) -> SampleKind {
        match self.0.kind() {
            zenoh::sample::SampleKind::Put => SampleKind::Put,
            zenoh::sample::SampleKind::Delete => SampleKind::Delete,
        }
    }
}

/// Why there is no answer.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct ReplyError(zenoh::query::ReplyError);

#[pymethods]
impl ReplyError {
    #[getter]
    fn payload(&self) -> ZBytes {
        ZBytes(self.0.payload().clone())
    }
}

/// An answer.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Reply(pub(crate) zenoh::query::Reply);

#[pymethods]
impl Reply {
    #[getter]
    fn ok(&self) -> Option<Sample> {
        self.0.result().ok().cloned().map(Sample)
    }

    #[getter]
    fn err(&self) -> Option<ReplyError> {
        self.0.result().err().cloned().map(ReplyError)
    }
}

/// A question. Whoever asked waits until it is dropped.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Query(Kept<TheirQuery>);

impl Query {
    pub(crate) fn new(theirs: TheirQuery) -> Self {
        Self(Kept::new(theirs))
    }
}

#[pymethods]
impl Query {
    #[getter]
    fn key_expr(&self) -> PyResult<String> {
        self.0.look(|query| query.key_expr().to_string())
    }

    #[getter]
    fn parameters(&self) -> PyResult<String> {
        self.0.look(|query| query.parameters().to_string())
    }

    #[getter]
    fn payload(&self) -> PyResult<Option<ZBytes>> {
        self.0.look(|query| query.payload().cloned().map(ZBytes))
    }

    #[getter]
    fn attachment(&self) -> PyResult<Option<ZBytes>> {
        self.0.look(|query| query.attachment().cloned().map(ZBytes))
    }

    /// Answer with a value.
    #[pyo3(signature = (key_expr, payload, *, attachment=None))]
    fn reply(
        &self,
        py: Python<'_>,
        key_expr: String,
        payload: &Bound<'_, PyAny>,
        attachment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (query, payload, attachment) = (self.0.get()?, of_python(payload)?, if_given(attachment)?);
        asked(py, move || query.reply(key_expr, payload).attachment(attachment).wait())
    }

    /// Answer with an error.
    fn reply_err(&self, py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<()> {
        let (query, payload) = (self.0.get()?, of_python(payload)?);
        asked(py, move || query.reply_err(payload).wait())
    }

    /// Say that no answer comes any more.
    fn drop(&self, py: Python<'_>) -> PyResult<()> {
        dropped(py, self.0.take())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.drop(py)
    }
}
