//! Arrays on their way to another process: a token says where the bytes are and what shape they have.
//!
//! A token is the library's, as bytes. It names the dtype where its element type says all of that. Other dtypes travel
//! beside it as pickled objects. Nothing is unpickled from a token.

use std::sync::atomic::{AtomicU64, Ordering};

use ndshare::arena::{Arena, BRIEFLY, Hold, is_inside};
use ndshare::array::Token;
use ndshare::element::Element;
use ndshare::session::reference_to;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::dtype::Dtype;
use crate::error::to_python;
use crate::guard::Once;
use crate::ndarray::{Operand, Order, array_over, npy_lengths};
use crate::outgoing::{issue, issue_once};
use crate::owner;
use crate::session;
use crate::shared::block_under;
use crate::wait::interruptible;

/// What multiprocessing's pickler makes of an array: a call that opens it in the receiver, when it is shared.
///
/// It issues a ticket, which keeps the block until the first receiver opens it. An array that is not in one shared
/// block travels by value, as NumPy pickles it; so does every array while all tickets are in flight, with a warning.
#[pyfunction]
pub(crate) fn reduce<'py>(py: Python<'py>, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let open =
        OPEN.get().ok_or_else(|| PyRuntimeError::new_err("ndshare was not imported: expected open_arrays_with"))?;
    match open_arguments(py, array)? {
        Some(arguments) => Ok((open, arguments).into_pyobject(py)?.into_any()),
        // Protocol 4 is one that every pickler here reads.
        None => array.call_method1(intern!(py, "__reduce_ex__"), (4,)),
    }
}

/// What pickles of arrays call in the receiver. A function of Python: pickle names those much faster than one of this
/// module.
static OPEN: Once<Py<PyAny>> = Once::new();

/// Says which function, with the arguments of `open_token`, the pickles of arrays are to name.
#[pyfunction]
pub(crate) fn open_arrays_with(function: Py<PyAny>) {
    OPEN.first(function);
}

/// How many arrays of this process went by value because all tickets were in flight.
static COPIED_BY_BOUND: AtomicU64 = AtomicU64::new(0);

pub(crate) fn copied_by_bound() -> u64 {
    COPIED_BY_BOUND.load(Ordering::Relaxed)
}

fn open_arguments<'py>(py: Python<'py>, array: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some((hold, facts)) = shared_facts(array)? else { return refuse_reaching(array).map(|()| None) };
    let dtype = Dtype::of_array(array)?;
    let element = dtype.element()?;
    let beside = element.is_none();
    let mut token = token_of(&hold, &facts, element);
    token.ticket = issue_once(py, &hold)?;
    if token.ticket.is_none() {
        return warn_of_copy(py, array).map(|()| None);
    }
    let token = to_bytes(py, &token);
    let args = if beside { (token, dtype.as_any()).into_pyobject(py) } else { (token,).into_pyobject(py) };
    args.map(Some)
}

/// Counts an array that goes by value for want of a ticket, and says so.
#[cold]
fn warn_of_copy(py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<()> {
    static WARN: Once<Py<PyAny>> = Once::new();
    COPIED_BY_BOUND.fetch_add(1, Ordering::Relaxed);
    WARN.import(py, "ndshare._copies", "warn_at_bound")?.call1((array,)).map(drop)
}

/// The token of a shared array for another process, with a ticket while there are any; ValueError for other arrays.
#[pyfunction]
pub(crate) fn ticket<'py>(py: Python<'py>, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let Some((hold, facts)) = shared_facts(array)? else {
        return Err(PyValueError::new_err("expected a shared array, got one in this process's own memory"));
    };
    let mut token = token_of(&hold, &facts, Dtype::of_array(array)?.element()?);
    token.ticket = issue(py, &hold, None)?;
    Ok(to_bytes(py, &token))
}

/// The same for a whole block.
pub(crate) fn ticketed<'py>(py: Python<'py>, hold: &Hold) -> PyResult<Bound<'py, PyBytes>> {
    let ticket = issue(py, hold, None)?;
    Ok(to_bytes(py, &Token { ticket, ..reference_to(hold) }))
}

/// The same; none when no ticket is to be had soon, because somebody has the arena's lock.
pub(crate) fn ticketed_soon<'py>(py: Python<'py>, hold: &Hold) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let ticket = issue(py, hold, Some(BRIEFLY))?;
    Ok(ticket.map(|ticket| to_bytes(py, &Token { ticket: Some(ticket), ..reference_to(hold) })))
}

/// The block that a token names. The first opening takes the ticket back, as in `open_token`.
pub(crate) fn opened(py: Python<'_>, token: &[u8]) -> PyResult<Hold> {
    hold_of(py, &parse(py, token)?)
}

/// An array that begins in shared memory and is in no block of it reaches out of one, by `as_strided` or the like.
/// Reading it for its value could end the process, so that is an error.
fn refuse_reaching(array: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(facts) = Operand::of_any(array) else { return Ok(()) };
    if facts.has_pointers(array.py()) || facts.shape.contains(&0) || !is_inside(facts.data) {
        return Ok(());
    }
    Err(PyValueError::new_err(
        "expected a view inside one shared array, got one that reaches beyond its memory: send the array, or make the \
         view anew in the receiver",
    ))
}

/// The block that a lent token names, and what the token says of it.
pub(crate) fn borrowed(py: Python<'_>, token: &[u8]) -> PyResult<(Token, Hold)> {
    let token = parse(py, token)?;
    let hold = hold_of(py, &token)?;
    Ok((token, hold))
}

type Lent<'py> = (Bound<'py, PyBytes>, owner::Hold, bool);

/// (token, Hold, whether the token says all of the dtype) of a shared array, or None when it is not shared.
///
/// The token issues no ticket: it opens while somebody holds the block. Where it does not say all of the dtype, that must go
/// beside the token. `alone`: it says what can be said of the dtype, all but its metadata; TypeError for dtypes that a library
/// registered with NumPy.
#[pyfunction]
#[pyo3(signature = (array, alone=false))]
pub(crate) fn lend<'py>(py: Python<'py>, array: &Bound<'py, PyAny>, alone: bool) -> PyResult<Option<Lent<'py>>> {
    let Some((hold, facts)) = shared_facts(array)? else { return Ok(None) };
    let dtype = Dtype::of_array(array)?;
    let element = if alone { Some(dtype.stored_element()?) } else { dtype.element()? };
    let is_whole = element.is_some();
    let token = to_bytes(py, &token_of(&hold, &facts, element));
    Ok(Some((token, owner::Hold::new(hold, !facts.readonly), is_whole)))
}

/// The array of a token. The first opening takes the ticket back; later ones need somebody who holds the block.
///
/// Raises Stale when the block is gone, AttachError when its arena cannot be reached, and ValueError for a token
/// that contradicts itself.
#[pyfunction]
#[pyo3(signature = (token, dtype=None))]
pub(crate) fn open_token<'py>(
    py: Python<'py>,
    token: &[u8],
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let token = parse(py, token)?;
    // First of all: a dtype that is not known here must not leave the array in flight for ever.
    let hold = hold_of(py, &token)?;
    array_of_token(py, &token, hold, dtype)
}

/// The array that a token says is in a block.
pub(crate) fn array_of_token<'py>(
    py: Python<'py>,
    token: &Token,
    hold: Hold,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = dtype_of(py, token, dtype)?;
    let layout = &token.description.layout;
    layout.check_inside(token.offset, dtype.itemsize(), hold.len_bytes()).map_err(|e| to_python(py, &e))?;
    let offset = usize::try_from(token.offset).map_err(|_| bad_token("its offset is too large"))?;
    let (lengths, order) = (npy_lengths(layout.shape()), Order::Strides(layout.strides()));
    // SAFETY: every item lies inside the block, as was just checked, and no length is negative.
    unsafe { array_over(py, hold, offset, dtype, lengths, &order, !token.is_readonly) }
}

type Described<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyAny>>, u32, Bound<'py, PyBytes>);

/// (shape, dtype, block number, key) of a token; the dtype is None where the block says itself what it is. Equal arrays
/// of one block have equal keys.
#[pyfunction]
pub(crate) fn describe<'py>(py: Python<'py>, token: &[u8]) -> PyResult<Described<'py>> {
    let token = parse(py, token)?;
    let dtype = token.description.element.as_ref().map(|_| dtype_of(py, &token, None)).transpose()?;
    let shape = PyTuple::new(py, token.description.layout.shape())?;
    Ok((shape, dtype.map(|dtype| dtype.as_any().clone()), token.block.index, PyBytes::new(py, &token.key())))
}

/// A token as text, for command lines and files.
#[pyfunction]
pub(crate) fn to_text(py: Python<'_>, token: &[u8]) -> PyResult<String> {
    Ok(parse(py, token)?.to_string())
}

/// The token of a text that `to_text` made; ValueError for other texts.
#[pyfunction]
pub(crate) fn from_text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyBytes>> {
    let token: Token = text.parse().map_err(|e| to_python(py, &e))?;
    Ok(to_bytes(py, &token))
}

/// The token of a shared array, which says all of the dtype but its metadata, and a hold; none when it is not shared.
pub(crate) fn token_of_array(array: &Bound<'_, PyAny>) -> PyResult<Option<(Token, Hold)>> {
    let Some((hold, facts)) = shared_facts(array)? else { return Ok(None) };
    let element = Dtype::of_array(array)?.stored_element()?;
    Ok(Some((token_of(&hold, &facts, Some(element)), hold)))
}

fn shared_facts<'a>(array: &'a Bound<'_, PyAny>) -> PyResult<Option<(Hold, Operand<'a>)>> {
    let Some(facts) = Operand::of_any(array) else { return Ok(None) };
    Ok(block_under(array.py(), &facts)?.map(|hold| (hold, facts)))
}

fn token_of(hold: &Hold, facts: &Operand<'_>, element: Option<Element>) -> Token {
    let (is_readonly, offset, description) = (facts.readonly, facts.offset_in(hold), facts.described(element));
    Token { is_readonly, offset, description, ..reference_to(hold) }
}

fn to_bytes<'py>(py: Python<'py>, token: &Token) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &token.encode())
}

fn parse(py: Python<'_>, token: &[u8]) -> PyResult<Token> {
    Token::decode(token).map_err(|e| to_python(py, &e))
}

fn dtype_of<'py>(py: Python<'py>, token: &Token, dtype: Option<&Bound<'py, PyAny>>) -> PyResult<Dtype<'py>> {
    let dtype = match (dtype, &token.description.element) {
        (Some(dtype), _) => Dtype::of(py, Some(dtype))?,
        (None, Some(element)) => Dtype::of_element(py, element)?,
        (None, None) => return Err(bad_token("it says nothing of its dtype")),
    };
    if dtype.is_subarray() { Err(bad_token("its dtype is a subarray")) } else { Ok(dtype) }
}

fn hold_of(py: Python<'_>, token: &Token) -> PyResult<Hold> {
    if token.is_session {
        session::adopt(py, &token.locator)?;
    }
    let session = session::known().filter(|session| session.id() == token.locator.id);
    interruptible(py, |deadline| {
        let arena = session.map_or_else(|| Arena::attach(&token.locator), |session| Ok(session.arena().clone()))?;
        token.claim(&arena, deadline)
    })
}

#[cold]
fn bad_token(why: &str) -> PyErr {
    PyValueError::new_err(format!("expected a reference to an array, got bytes that are none: {why}"))
}
