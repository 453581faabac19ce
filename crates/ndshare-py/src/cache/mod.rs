//! `Cache`: the library's, with arrays for values and Python's own objects for keys. A hit takes no lock, makes no
//! system call and stays attached to the interpreter.

mod key;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ndshare::cache::{self as library, Fetch, Geometry, Key, Loading};
use ndshare::layout;
use pyo3::exceptions::{PyException, PyKeyError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyList, PyTuple};

use crate::arena::{Arena, work_arena};
use crate::described::Descriptions;
use crate::error::{load_failed, to_python};
use crate::frame::quoted;
use crate::guard::Once;
use crate::lock::seconds;
use crate::ndarray::make_readonly;
use crate::session;
use crate::shape::size_of;
use crate::travel::{opened, ticketed};
use crate::wait::{at_once, interruptible, interruptible_for, interruptible_unless, quick};
pub(crate) use key::encode;
use value::{array_of, value_of};

/// Arrays by key, in a bounded memory that processes share: ``Cache("2 GiB", load=read_tile)``.
///
/// ``cache[key]`` gives the value, and calls ``load(key)`` if it is not there; without `load` that is a KeyError. One
/// process loads a key, whoever else wants it waits. Values are read-only arrays; while a view of one lives, its
/// memory stays. They go, least used first, when there are more than `maxsize` bytes of them (an int, or a text such
/// as "2 GiB"), or more than `entries` (at most 131072, the default), or when something else needs memory and their
/// arena has none left. With `ttl`, a value counts for so many seconds, and is loaded again after that.
///
/// Keys are str, bytes, int, float, bool, None, slices, pathlib paths, enums, UUIDs, or tuples of these; those that a
/// dict takes for equal are one key. What `load` returns becomes the value without a copy where it is an
/// array of the cache's arena; nobody may write to it then. Everything else is copied.
///
/// With `name`, all processes of the session that give the same name have the same cache, for as long as one has it.
/// It goes to other processes through multiprocessing, by reference, and takes `load` along by pickle.
///
/// Raises ValueError for sizes that cannot work, and for a named cache of other sizes; ArenaFull when there is no
/// room for its tables.
///
/// >>> import ndshare as nds, numpy as np
/// >>> cache = nds.Cache("64 MiB", load=lambda key: np.full((2, 3), key))
/// >>> cache[7].sum(), 7 in cache, 8 in cache
/// (np.int64(42), True, False)
/// >>> cache["a"] = np.arange(3)
/// >>> cache.get("a"), len(cache), cache.info()["loads"]
/// (array([0, 1, 2]), 2, 1)
#[pyclass(frozen, mapping, weakref, module = "ndshare")]
pub(crate) struct Cache {
    pub(crate) cache: Arc<library::Cache>,
    /// What loads a key that is not there, or None.
    #[pyo3(get)]
    load: Option<Py<PyAny>>,
    /// The name it was given, or None.
    #[pyo3(get)]
    name: Option<String>,
    known: Descriptions,
}

impl Cache {
    pub(crate) fn over(
        cache: Arc<library::Cache>,
        load: Option<Bound<'_, PyAny>>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let load = load.filter(|load| !load.is_none());
        load.as_ref().map_or(Ok(()), check_load)?;
        Ok(Self { cache, load: load.map(Bound::unbind), name, known: Descriptions::new() })
    }

    /// The cache's arena, unless it is the session's.
    fn other_arena(&self) -> Option<Arena> {
        let arena = self.cache.head().arena();
        let is_session = session::known().is_some_and(|session| Arc::ptr_eq(session, arena));
        (!is_session).then(|| Arena::over(arena.clone()))
    }

    #[inline]
    fn find<'py>(&self, py: Python<'py>, key: &Key) -> PyResult<Option<Bound<'py, PyAny>>> {
        match at_once(py, || self.cache.find(key))? {
            Some(found) => array_of(py, &self.known, found).map(Some),
            None => Ok(None),
        }
    }

    fn look<'py>(&self, py: Python<'py>, key: &Key, timeout: Option<Duration>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = interruptible_for(py, timeout, |deadline| self.cache.get_block(key, deadline))?;
        found.map(|found| array_of(py, &self.known, found)).transpose()
    }

    #[inline]
    fn have<'py>(&self, key: &Bound<'py, PyAny>, way: &Way<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = encode(key)?;
        match self.find(key.py(), &name)? {
            Some(array) => Ok(array),
            None => self.obtain(key, &name, way),
        }
    }

    /// The value of a key that a first look did not find.
    fn obtain<'py>(&self, key: &Bound<'py, PyAny>, name: &Key, way: &Way<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let Some(load) = way.load.or(self.load.as_ref().map(|load| load.bind(py))) else {
            let found = self.look(py, name, way.timeout)?;
            return found.ok_or_else(|| no_value(key));
        };
        check_load(load)?;
        let stop = way.stop;
        let is_off = move || stop.is_some_and(|stop| stop.0.load(Relaxed));
        match interruptible_unless(py, way.timeout, &is_off, |deadline| self.cache.fetch_block(name, deadline))? {
            Fetch::Found(found) => array_of(py, &self.known, found),
            Fetch::Failed(failure) => Err(load_failed(py, failure)),
            Fetch::Load(loading) => self.load(loading, load, key),
            Fetch::Unkept => {
                let array = self.run(load, key)?;
                make_readonly(&array);
                Ok(array)
            }
        }
    }

    /// What a loader makes of a key, as an array.
    fn run<'py>(&self, load: &Bound<'py, PyAny>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static RUN: Once<Py<PyAny>> = Once::new();
        RUN.import(key.py(), "ndshare._cache", "run")?.call1((load, key, self.other_arena()))
    }

    fn load<'py>(
        &self,
        loading: Loading,
        load: &Bound<'py, PyAny>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let made = self.run(load, key);
        let made = made.and_then(|array| Ok((value_of(py, &self.cache, &array, true)?, array)));
        match made {
            Ok((Some(value), _)) => {
                interruptible(py, |deadline| loading.finish_in_room(value.value(), deadline))?;
                array_of(py, &self.known, value)
            }
            Ok((None, array)) => {
                interruptible(py, |deadline| loading.forgo(deadline))?;
                make_readonly(&array);
                Ok(array)
            }
            Err(error) => Err(give_up(py, loading, error)),
        }
    }
}

fn check_load(load: &Bound<'_, PyAny>) -> PyResult<()> {
    if load.is_callable() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("expected load to be a function of a key, got {}", load.repr()?)))
}

fn no_value(key: &Bound<'_, PyAny>) -> PyErr {
    // In a tuple, because a key that is one would be taken for several arguments.
    PyKeyError::new_err((key.clone().unbind(),))
}

/// Ends a load that failed, and returns the exception to be raised.
fn give_up(py: Python<'_>, loading: Loading, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyException>(py) {
        // Ctrl-C and the like say nothing about the key: one of those who wait tries next.
        py.detach(|| drop(loading));
        return error;
    }
    let (type_name, text) = described(py, &error);
    match interruptible(py, |deadline| loading.fail(&type_name, &text, deadline)) {
        Err(other) if !other.is_instance_of::<PyException>(py) => other,
        _ => error,
    }
}

/// The name of an exception's type, as tracebacks have it, and its text.
fn described(py: Python<'_>, error: &PyErr) -> (String, String) {
    let class = error.get_type(py);
    let name = class.fully_qualified_name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
    let text = error.value(py).str().map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned());
    (name, text)
}

/// How a value is to be had.
struct Way<'a, 'py> {
    load: Option<&'a Bound<'py, PyAny>>,
    timeout: Option<Duration>,
    stop: Option<&'a Stop>,
}

/// Calls loads in other threads off.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Stop(AtomicBool);

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// From now on waits end with an exception.
    fn set(&self) {
        self.0.store(true, Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[pymethods]
impl Cache {
    #[new]
    #[pyo3(signature = (maxsize, load=None, *, name=None, entries=None, ttl=None, arena=None))]
    fn new(
        py: Python<'_>,
        maxsize: &Bound<'_, PyAny>,
        load: Option<Bound<'_, PyAny>>,
        name: Option<String>,
        entries: Option<i64>,
        ttl: Option<f64>,
        arena: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let entries = entries.map(|entries| usize::try_from(entries).unwrap_or(0));
        let maxsize = size_of(maxsize, "a size", "2 GiB", i64::MIN, "below 2**63 bytes")?;
        let geometry = at_once(py, || Geometry::new(maxsize, entries)?.with_ttl_s(ttl))?;
        let arena = work_arena(py, arena)?;
        let cache = interruptible(py, |deadline| match &name {
            Some(name) => library::Cache::named(&arena, name, geometry, deadline),
            None => library::Cache::create(&arena, geometry, deadline),
        })?;
        Self::over(cache, load, name)
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.have(key, &Way { load: None, timeout: None, stop: None })
    }

    /// The value of a key if it is there, else `default`. Never loads.
    ///
    /// >>> import ndshare as nds
    /// >>> cache = nds.Cache("1 MiB")
    /// >>> cache["a"] = [1, 2]
    /// >>> cache.get("a"), cache.get("b", 0)
    /// (array([1, 2]), 0)
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (py, name) = (key.py(), encode(key)?);
        let found = match self.find(py, &name)? {
            Some(array) => Some(array),
            None => self.look(py, &name, None)?,
        };
        Ok(found.or(default))
    }

    /// The value of a key, loaded by `load(key)` if it is not there (None: by the cache's own).
    ///
    /// Waits while another process or thread loads it. Raises Timeout when that takes more than `timeout` seconds;
    /// what the loader raises; LoadError when the one who was loading it failed; RuntimeError when this thread is
    /// loading the same key already; KeyError without any `load`.
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> nds.Cache("1 MiB").fetch(3, np.arange, timeout=1)
    /// array([0, 1, 2])
    #[pyo3(signature = (key, load=None, timeout=None))]
    fn fetch<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        load: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.have(key, &Way { load, timeout: seconds(timeout)?, stop: None })
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = encode(key)?;
        if interruptible(key.py(), |deadline| self.cache.remove(&name, deadline))? {
            return Ok(());
        }
        Err(no_value(key))
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let name = encode(key)?;
        interruptible(key.py(), |deadline| self.cache.contains(&name, deadline))
    }

    /// How many seconds ago the value of a key was stored or loaded. Raises KeyError when there is none.
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> cache = nds.Cache("1 MiB", load=np.zeros)
    /// >>> cache[3].shape, 0 <= cache.age(3) < 60
    /// ((3,), True)
    fn age(&self, key: &Bound<'_, PyAny>) -> PyResult<f64> {
        let name = encode(key)?;
        let age = interruptible(key.py(), |deadline| self.cache.age(&name, deadline))?;
        age.map(|age| age.as_secs_f64()).ok_or_else(|| no_value(key))
    }

    fn __len__(&self) -> usize {
        self.cache.len()
    }

    /// End all values. Arrays that somebody has stay as they are.
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> cache = nds.Cache("1 MiB", load=np.arange)
    /// >>> cache[3].shape, cache.clear(), 3 in cache
    /// ((3,), None, False)
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        interruptible(py, |deadline| self.cache.clear(deadline))
    }

    /// Change how many bytes its values may take, for all processes that have it. What is too much now goes, least used
    /// first, but for what somebody has: that goes later. The number of entries stays as it was.
    ///
    /// Raises ValueError for what is no size.
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> cache = nds.Cache("4 MiB", load=lambda key: np.zeros(1 << 17))
    /// >>> for key in range(4):
    /// ...     shape = cache[key].shape
    /// >>> cache.resize("2 MiB")
    /// >>> cache.maxsize, cache.info()["bytes"] <= 2 << 20
    /// (2097152, True)
    fn resize(&self, py: Python<'_>, maxsize: &Bound<'_, PyAny>) -> PyResult<()> {
        let maxsize = size_of(maxsize, "a size", "2 GiB", i64::MIN, "below 2**63 bytes")?;
        interruptible(py, |deadline| self.cache.resize(maxsize, deadline))
    }

    /// Figures of the cache, for all processes, as a plain dict.
    ///
    /// Counts so far: "hits", "misses", "loads", "failures" of loads, "waits" for another's load, "evictions", and
    /// values that were "uncached", because all else was pinned, or they were too large; evictions for the sake of
    /// others' memory ("given_way"), and values that were too old ("expired"). As it is now: "entries", how many of
    /// them are "pinned" by views, their "bytes", the "table_bytes", and "maxsize".
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> cache = nds.Cache("1 MiB", load=np.arange)
    /// >>> [len(cache[3]) for _ in range(2)], cache.info()["hits"], cache.info()["misses"]
    /// ([3, 3], 1, 1)
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let info = interruptible(py, |deadline| self.cache.info(deadline))?;
        info.figures().into_py_dict(py)
    }

    /// The most bytes that its values take.
    #[getter]
    fn maxsize(&self) -> u64 {
        self.cache.maxsize()
    }

    /// How many seconds a value counts, or None.
    #[getter]
    fn ttl(&self) -> Option<f64> {
        self.cache.geometry().ttl().map(|ttl| ttl.as_secs_f64())
    }

    /// What a first look finds of many keys: an array or None for each. It never waits.
    fn _find_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let found = PyList::empty(py);
        for key in keys {
            found.append(self.find(py, &encode(&key)?)?)?;
        }
        Ok(found)
    }

    /// The value of a key as `fetch` gives it, unless `stop` is set while it waits.
    fn _fetch_unless<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        load: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
        stop: &Bound<'py, Stop>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let way = Way { load, timeout: seconds(timeout)?, stop: Some(stop.get()) };
        self.obtain(key, &encode(key)?, &way)
    }

    /// Makes an array the value of a key; see `__setitem__`.
    fn _store(&self, key: &Bound<'_, PyAny>, array: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, cache, name) = (key.py(), &self.cache, encode(key)?);
        match value_of(py, cache, array, false)? {
            Some(value) => interruptible(py, |deadline| cache.store_block(&name, value.value(), deadline)).map(drop),
            None => interruptible(py, |deadline| cache.forgo(&name, deadline)),
        }
    }

    /// The keys that have values now, in no order. `key_of` makes those of kinds that are told by name.
    fn _keys<'py>(&self, key_of: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let keys = interruptible(key_of.py(), |deadline| self.cache.keys(deadline))?;
        keys.iter().map(|name| key::decode(key_of, name)).collect()
    }

    /// What multiprocessing sends of a cache: (token, load, name). The token has a ticket.
    fn _parts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (ticketed(py, self.cache.head())?, &self.load, &self.name).into_pyobject(py)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a cache lives in shared memory: expected multiprocessing (a Process's arguments, a Queue, a Pipe) to \
             send it, or a name= by which other processes find it, got another pickler",
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.load.as_ref().map_or(Ok(()), |load| visit.call(load))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let info = quick(py, || self.cache.glance())?;
        let (bytes, maxsize) = (layout::human(info.bytes), layout::human(info.maxsize));
        let values = if info.entries == 1 { "1 value".to_owned() } else { format!("{} values", info.entries) };
        let pinned = info.pinned;
        Ok(format!("<Cache{} {values}, {bytes} of {maxsize}, {pinned} pinned>", quoted(py, self.name.as_deref())?))
    }
}

/// What names a key: equal for keys that are one, also where a key has no hash.
#[pyfunction]
pub(crate) fn key_bytes<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(key.py(), encode(key)?.bytes()))
}

/// The key that `key_bytes` wrote, whoever sent the bytes. `key_of` makes those of kinds that are told by name. Raises
/// ValueError for other bytes.
#[pyfunction]
pub(crate) fn key_of_bytes<'py>(key_of: &Bound<'py, PyAny>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    key::decode_bytes(key_of, data)
}

/// The cache of the parts that multiprocessing sends.
#[pyfunction]
pub(crate) fn open_cache(
    py: Python<'_>,
    token: &[u8],
    load: Option<Bound<'_, PyAny>>,
    name: Option<String>,
) -> PyResult<Cache> {
    let cache = library::Cache::open(opened(py, token)?).map_err(|error| to_python(py, &error))?;
    Cache::over(cache, load, name)
}
