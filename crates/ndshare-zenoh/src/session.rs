//! Sessions, their configuration, and what is declared in them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pyo3::{exceptions::PyValueError, prelude::*};
use zenoh::{Session as TheirSession, Wait};

use crate::{
    kept::{Handler, Keeper, Kept, Undeclare, ZError, asked, dropped},
    message::{CongestionControl, ConsolidationMode, Priority, Query, QueryTarget, Reliability, Reply, Sample},
    payload::{if_given, of_python},
};

fn refused(error: zenoh::Error) -> PyErr {
    ZError::new_err(error.to_string())
}

/// How a session is to be.
#[pyclass(module = "ndshare_zenoh")]
#[derive(Clone, Default)]
pub(crate) struct Config(zenoh::Config);

#[pymethods]
impl Config {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[staticmethod]
    fn from_json5(json: &str) -> PyResult<Self> {
        zenoh::Config::from_json5(json).map(Self).map_err(refused)
    }

    #[staticmethod]
    fn from_file(path: PathBuf) -> PyResult<Self> {
        zenoh::Config::from_file(path).map(Self).map_err(refused)
    }

    /// Set what is at a path of the configuration.
    fn insert_json5(&mut self, key: &str, value: &str) -> PyResult<()> {
        self.0.insert_json5(key, value).map_err(refused)
    }

    /// Return what is at a path of the configuration, as JSON.
    fn get_json(&self, key: &str) -> PyResult<String> {
        self.0.get_json(key).map_err(refused)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }
}

/// Open a session.
#[pyfunction]
pub(crate) fn open(py: Python<'_>, config: &Bound<'_, Config>) -> PyResult<Session> {
    let config = config.borrow().0.clone();
    let session = asked(py, move || zenoh::open(config).wait())?;
    Ok(Session { session: Kept::new(session), keeper: Keeper::default() })
}

/// What was declared with a callback.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Declared(Arc<Kept<Undeclare>>);

#[pymethods]
impl Declared {
    /// Take it back.
    fn undeclare(&self, py: Python<'_>) -> PyResult<()> {
        match self.0.take() {
            Some(undeclare) => asked(py, undeclare),
            None => Ok(()),
        }
    }
}

/// A token that says that this session lives.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct LivelinessToken(Kept<zenoh::liveliness::LivelinessToken>);

#[pymethods]
impl LivelinessToken {
    /// Take it back.
    fn undeclare(&self, py: Python<'_>) -> PyResult<()> {
        match self.0.take() {
            Some(token) => asked(py, move || token.undeclare().wait()),
            None => Ok(()),
        }
    }
}

/// Whether somebody listens.
#[pyclass(frozen, get_all, module = "ndshare_zenoh")]
pub(crate) struct MatchingStatus {
    matching: bool,
}

/// What sends messages under one key.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Publisher(Kept<Arc<zenoh::pubsub::Publisher<'static>>>);

#[pymethods]
impl Publisher {
    /// Send a payload: a buffer that nobody may write to goes into the network without another copy.
    #[pyo3(signature = (payload, *, attachment=None))]
    fn put(&self, py: Python<'_>, payload: &Bound<'_, PyAny>, attachment: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (publisher, payload, attachment) = (self.0.get()?, of_python(payload)?, if_given(attachment)?);
        asked(py, move || publisher.put(payload).attachment(attachment).wait())
    }

    #[getter]
    fn matching_status(&self, py: Python<'_>) -> PyResult<MatchingStatus> {
        let publisher = self.0.get()?;
        let matching = asked(py, move || Ok(publisher.matching_status().wait()?.matching()))?;
        Ok(MatchingStatus { matching })
    }
}

/// A session of this process.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Session {
    session: Kept<TheirSession>,
    keeper: Keeper,
}

#[pymethods]
impl Session {
    /// Send a message.
    #[pyo3(signature = (key_expr, payload, *, attachment=None))]
    fn put(
        &self,
        py: Python<'_>,
        key_expr: String,
        payload: &Bound<'_, PyAny>,
        attachment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (session, payload, attachment) = (self.session.get()?, of_python(payload)?, if_given(attachment)?);
        asked(py, move || session.put(key_expr, payload).attachment(attachment).wait())
    }

    /// Make what sends messages under a key.
    #[pyo3(signature = (key_expr, *, congestion_control=CongestionControl::Drop, reliability=Reliability::Reliable))]
    fn declare_publisher(
        &self,
        py: Python<'_>,
        key_expr: String,
        congestion_control: CongestionControl,
        reliability: Reliability,
    ) -> PyResult<Publisher> {
        let session = self.session.get()?;
        let publisher = asked(py, move || {
            let builder = session.declare_publisher(key_expr).congestion_control(congestion_control.into());
            builder.reliability(reliability.into()).wait()
        })?;
        Ok(Publisher(Kept::new(Arc::new(publisher))))
    }

    /// Have the messages under a key passed to a handler.
    fn declare_subscriber(&self, py: Python<'_>, key_expr: String, handler: &Bound<'_, PyAny>) -> PyResult<Declared> {
        let (session, handler) = (self.session.get()?, Handler::of(handler));
        let subscriber = asked(py, move || {
            session.declare_subscriber(key_expr).callback(move |sample| handler.call(Sample(sample))).wait()
        })?;
        Ok(Declared(self.keeper.keep(Box::new(move || subscriber.undeclare().wait()))))
    }

    /// Have the questions under a key passed to a handler.
    fn declare_queryable(&self, py: Python<'_>, key_expr: String, handler: &Bound<'_, PyAny>) -> PyResult<Declared> {
        let (session, handler) = (self.session.get()?, Handler::of(handler));
        let queryable = asked(py, move || {
            session.declare_queryable(key_expr).callback(move |query| handler.call(Query::new(query))).wait()
        })?;
        Ok(Declared(self.keeper.keep(Box::new(move || queryable.undeclare().wait()))))
    }

    /// Ask a question; the replies are passed to a handler, whose `drop` is called after the last.
    #[pyo3(signature = (selector, handler, *, target=QueryTarget::BestMatching, consolidation=ConsolidationMode::Auto,
        timeout=10.0, congestion_control=CongestionControl::Block, priority=Priority::Data, payload=None, attachment=None))]
    #[expect(clippy::too_many_arguments, reason = "these are the keywords of eclipse-zenoh")]
    fn get(
        &self,
        py: Python<'_>,
        selector: String,
        handler: &Bound<'_, PyAny>,
        target: QueryTarget,
        consolidation: ConsolidationMode,
        timeout: f64,
        congestion_control: CongestionControl,
        priority: Priority,
        payload: Option<&Bound<'_, PyAny>>,
        attachment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (session, handler, timeout) = (self.session.get()?, Handler::of(handler), seconds(timeout)?);
        let (payload, attachment) = (if_given(payload)?, if_given(attachment)?);
        asked(py, move || {
            let mut builder = session.get(selector).callback(move |reply| handler.call(Reply(reply)));
            builder = builder.target(target.into()).timeout(timeout).priority(priority.into());
            builder = builder.congestion_control(congestion_control.into()).attachment(attachment);
            builder = builder.consolidation(zenoh::query::ConsolidationMode::from(consolidation));
            match payload {
                Some(payload) => builder.payload(payload).wait(),
                None => builder.wait(),
            }
        })
    }

    /// Tokens of sessions that live.
    fn liveliness(slf: Py<Self>) -> Liveliness {
        Liveliness(slf)
    }

    #[getter]
    fn info(slf: Py<Self>) -> SessionInfo {
        SessionInfo(slf)
    }

    /// Close it; what was declared in it ends.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let session = self.session.get()?;
        asked(py, move || session.close().wait())?;
        dropped(py, self.keeper.take())
    }
}

fn seconds(timeout: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(timeout)
        .map_err(|error| PyValueError::new_err(format!("expected a timeout in seconds, got {timeout}: {error}")))
}

/// Whom a session is connected to.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct SessionInfo(Py<Session>);

#[pymethods]
impl SessionInfo {
    /// Return the peers.
    fn peers_zid(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let session = self.0.get().session.get()?;
        asked(py, move || Ok(session.info().peers_zid().wait().map(|zid| zid.to_string()).collect()))
    }

    /// Return the routers.
    fn routers_zid(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let session = self.0.get().session.get()?;
        asked(py, move || Ok(session.info().routers_zid().wait().map(|zid| zid.to_string()).collect()))
    }
}

/// Tokens of sessions that live.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct Liveliness(Py<Session>);

#[pymethods]
impl Liveliness {
    /// Set a token, until it is taken back or the session ends.
    fn declare_token(&self, py: Python<'_>, key_expr: String) -> PyResult<LivelinessToken> {
        let session = self.0.get().session.get()?;
        let token = asked(py, move || session.liveliness().declare_token(key_expr).wait())?;
        Ok(LivelinessToken(Kept::new(token)))
    }

    /// Have a handler told of tokens that come and go; with `history`, of those that are there, too.
    #[pyo3(signature = (key_expr, handler, *, history=false))]
    fn declare_subscriber(
        &self,
        py: Python<'_>,
        key_expr: String,
        handler: &Bound<'_, PyAny>,
        history: bool,
    ) -> PyResult<Declared> {
        let (session, handler) = (self.0.get().session.get()?, Handler::of(handler));
        let subscriber = asked(py, move || {
            let liveliness = session.liveliness();
            let builder = liveliness.declare_subscriber(key_expr).history(history);
            builder.callback(move |sample| handler.call(Sample(sample))).wait()
        })?;
        Ok(Declared(self.0.get().keeper.keep(Box::new(move || subscriber.undeclare().wait()))))
    }

    /// Have the tokens that are there passed to a handler, whose `drop` is called after the last.
    #[pyo3(signature = (key_expr, handler, *, timeout=10.0))]
    fn get(&self, py: Python<'_>, key_expr: String, handler: &Bound<'_, PyAny>, timeout: f64) -> PyResult<()> {
        let (session, handler, timeout) = (self.0.get().session.get()?, Handler::of(handler), seconds(timeout)?);
        asked(py, move || {
            let liveliness = session.liveliness();
            liveliness.get(key_expr).timeout(timeout).callback(move |reply| handler.call(Reply(reply))).wait()
        })
    }
}
