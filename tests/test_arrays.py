"""A shared array is a plain ndarray that happens to live in an arena: NumPy itself is the reference.

Whatever can be asked of NumPy's function of the same name is asked of both, and the answers are compared: shape,
dtype, strides, flags, bytes and errors. What NumPy has no answer for (alignment, sharing, what a block costs) is
tested by itself.
"""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.recfunctions import repack_fields

import ndshare as nds
from helpers import HANG, MIB, environment, held, label, mappings, run

Array = np.ndarray[Any, Any]

STRUCT = np.dtype([("x", "<f4"), ("y", ">i2", (3,)), ("z", "S5")])
PADDED = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [3, 16], "itemsize": 40})
DTYPES = [
    "?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "g", "F", "D", "G",
    ">i4", ">f8", ">c16", ">u2", "S7", "U5", ">U3", "V9", "M8[ns]", "m8[us]", "M8[D]", ">M8[s]", "S0", "U0",
    STRUCT, PADDED, np.dtype([("nested", STRUCT), ("flag", "?")]), np.dtype([]), np.float16, np.complex256, float,
]  # fmt: skip
SHAPES: list[Any] = [(), 0, 5, (0,), (5, 0), (0, 5), (1,), (3, 4), (2, 3, 4), [6, 2], (1, 1, 1, 1, 7), np.int64(4)]
ORDERS = ["C", "F"]
LIKE_ORDERS = ["C", "F", "A", "K"]

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(min_len=1, max_len=9),
    hnp.unicode_string_dtypes(min_len=1, max_len=9),
    hnp.array_dtypes(),
    st.just(STRUCT),
    st.just(PADDED),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)


def fill(x: Array, seed: int = 1) -> Array:
    """Give every byte a value, whatever the dtype; sensible for bool and strings too."""
    if x.dtype.kind == "U":  # not every byte makes a character
        x[...] = "aé"
    elif x.nbytes:
        limit = 2 if x.dtype.kind == "b" or x.dtype.names else 96
        raw = (np.arange(x.nbytes) * 7 + seed) % limit
        x[...] = np.frombuffer(raw.astype(np.uint8).tobytes(), x.dtype).reshape(x.shape)
    return x


def same(ours: Array, theirs: Array, *, values: bool = True, strides: bool = True) -> None:
    """Insist that ours is a shared plain ndarray and otherwise NumPy's twin."""
    assert type(ours) is np.ndarray
    assert nds.is_shared(ours)
    assert ours.dtype == theirs.dtype
    assert ours.dtype.byteorder == theirs.dtype.byteorder
    assert ours.dtype.isalignedstruct == theirs.dtype.isalignedstruct
    assert ours.shape == theirs.shape
    for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE", "ALIGNED"):
        assert ours.flags[flag] == theirs.flags[flag], flag
    if strides and theirs.size:
        longer = [i for i, n in enumerate(theirs.shape) if n > 1]  # elsewhere a stride means nothing
        assert [ours.strides[i] for i in longer] == [theirs.strides[i] for i in longer]
    if values:
        assert unpadded(ours).tobytes() == unpadded(theirs).tobytes()


def unpadded(x: Array) -> Array:
    """Leave out the bytes between fields: NumPy does not copy them."""
    return repack_fields(x) if x.dtype.names else x


def address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


# ---- creation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_shape_is_numpys_twin(dtype: Any, shape: Any, order: Any) -> None:
    same(nds.empty(shape, dtype, order), np.empty(shape, dtype, order), values=False)
    same(nds.zeros(shape, dtype, order), np.zeros(shape, dtype, order))
    ours = fill(nds.zeros(shape, dtype, order))
    theirs = fill(np.zeros(shape, dtype, order))
    same(ours, theirs)


@given(shape=shapes, dtype=dtypes, order=st.sampled_from(ORDERS))
def test_zeros_and_empty_anywhere(shape: Any, dtype: Any, order: Any) -> None:
    same(nds.zeros(shape, dtype, order), np.zeros(shape, dtype, order))
    same(fill(nds.empty(shape, dtype, order)), fill(np.empty(shape, dtype, order)))


@given(shape=shapes, dtype=hnp.scalar_dtypes(), order=st.sampled_from(ORDERS))
def test_ones(shape: Any, dtype: Any, order: Any) -> None:
    try:
        theirs = np.ones(shape, dtype, order)
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            nds.ones(shape, dtype, order)
        return
    same(nds.ones(shape, dtype, order), theirs)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, None), (2.5, None), (True, None), (1j, None), ("abc", None), (b"abc", None), (np.float32(2), None),
        (np.datetime64("2020-01-01"), None), (300, "u2"), (-1, ">i8"), (7, "f2"), ([1, 2, 3, 4], None),
        ([[1.5], [2.5], [3.5]], "f4"), (np.longdouble(2), None), (2**63, None),
    ],
    ids=label,
)  # fmt: skip
@pytest.mark.parametrize("order", ORDERS)
def test_full_takes_what_numpy_takes(value: Any, dtype: Any, order: Any) -> None:
    same(nds.full((3, 4), value, dtype, order), np.full((3, 4), value, dtype, order))


def test_full_refuses_what_numpy_refuses() -> None:
    cases: list[tuple[Any, Any, Any]] = [((3,), [1, 2], None), ((2,), "x", "f8")]
    if not np.__version__.startswith("2.0."):  # which makes 44 of 300
        cases.append(((2,), 300, "u1"))
    for shape, value, dtype in cases:
        with pytest.raises((ValueError, OverflowError)) as theirs:
            np.full(shape, value, dtype)
        with pytest.raises(theirs.type):
            nds.full(shape, value, dtype)


def test_defaults_are_numpys() -> None:
    assert nds.empty(3).dtype == nds.zeros(3).dtype == nds.ones(3).dtype == np.float64
    assert nds.full(3, 1).dtype == np.full(3, 1).dtype
    assert type(nds.zeros(3)) is np.ndarray
    assert nds.zeros(shape=(2, 3), dtype="i4", order="F").flags.f_contiguous
    assert nds.ones(3, None).dtype == np.float64


def test_shapes_may_be_anything_with_an_index() -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    assert nds.zeros(Three()).shape == (3,)  # type: ignore[arg-type]
    assert nds.zeros([Three(), 2]).shape == (3, 2)  # type: ignore[list-item]
    assert nds.zeros(np.array([2, 3])).shape == (2, 3)  # type: ignore[arg-type]
    for bad in (2.5, "3", (2, 1.0), {1: 2}):
        with pytest.raises(TypeError):
            nds.zeros(bad)  # type: ignore[arg-type]


def test_sixty_four_dimensions_are_numpys_limit_and_ours() -> None:
    same(nds.zeros((1,) * 64), np.zeros((1,) * 64))
    with pytest.raises(ValueError, match="64"):
        nds.zeros((1,) * 65)


@pytest.mark.parametrize("order", ["X", "", "CF", 3, "A", "K", None])
def test_bad_orders_are_numpys_errors(order: Any) -> None:
    try:
        theirs = np.empty((2, 3), order=order)
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)):
            nds.empty((2, 3), order=order)
    else:
        same(nds.empty((2, 3), order=order), theirs, values=False)


@pytest.mark.parametrize("kind", ["empty", "zeros", "ones", "full"])
@pytest.mark.parametrize("order", LIKE_ORDERS)
@given(data=st.data())
def test_like_functions_follow_the_layout(kind: str, order: Any, data: st.DataObject) -> None:
    base = fill(
        np.zeros(data.draw(hnp.array_shapes(max_dims=4, max_side=5)), data.draw(st.sampled_from(["f4", ">i2"])))
    )
    view = base.transpose(data.draw(st.permutations(range(base.ndim))))
    view = np.asarray(view[data.draw(hnp.basic_indices(view.shape, allow_newaxis=True))])
    extra = (5,) if kind == "full" else ()
    for changes in ({}, {"dtype": "u2"}, {"shape": (2, 3)}, {"shape": 4, "dtype": "f8"}):
        theirs = getattr(np, f"{kind}_like")(view, *extra, order=order, **changes)
        ours = getattr(nds, f"{kind}_like")(view, *extra, order=order, **changes)
        same(ours, theirs, values=kind != "empty")


def test_like_of_subclasses_and_lists_is_a_plain_array() -> None:
    masked = np.ma.masked_array([1, 2, 3], [0, 1, 0])
    assert type(nds.zeros_like(masked)) is np.ndarray
    assert type(nds.empty_like(np.zeros(3).view(np.recarray), subok=False)) is np.ndarray
    same(nds.ones_like([[1, 2], [3, 4]]), np.ones_like([[1, 2], [3, 4]]))
    same(nds.full_like(7, 3), np.full_like(7, 3))


# ---- array, asarray -------------------------------------------------------------------------------------------------

OBJECTS: list[Any] = [
    3, 2.5, True, 1j, "text", b"bytes", [], [1, 2], [[1, 2], [3, 4]], (1.5, 2), [[]], [True, 2, 3.0], range(5),
    np.float32(1), np.arange(12).reshape(3, 4).T, np.arange(6)[::-2], np.zeros((2, 0)), memoryview(b"abcdef"),
    bytearray(b"xyz"), [np.arange(3), np.arange(3)], np.array("2020-02-02", "M8[D]"), ["ab", "c"], [b"a", b"bcd"],
    np.broadcast_to(np.arange(3), (4, 3)), np.ma.masked_array([1, 2], [0, 0]), np.zeros(2, STRUCT),
    np.asfortranarray(np.arange(24).reshape(2, 3, 4))[:, ::-1],
]  # fmt: skip


@pytest.mark.parametrize("thing", OBJECTS, ids=label)
@pytest.mark.parametrize("order", LIKE_ORDERS)
@pytest.mark.parametrize("ndmin", [0, 2])
def test_array_is_numpys(thing: Any, order: Any, ndmin: int) -> None:
    same(nds.array(thing, order=order, ndmin=ndmin), np.array(thing, order=order, ndmin=ndmin))


class Metres(np.ndarray):  # as the quantities of astropy and unyt are
    unit = "m"


MORE_THAN_ITEMS: list[tuple[Any, str]] = [
    (np.ma.masked_array([1, 2, 3], [0, 1, 1]), r"a masked array, 2 of whose items are masked, .* x\.filled\(value\)"),
    (np.ma.masked_array(np.zeros(2, STRUCT), mask=True), "a masked array"),
    (np.ma.masked_array(5, mask=True), "1 of whose items"),
    (np.arange(3).view(Metres), "Metres in m, and the unit would be lost"),
]


@pytest.mark.parametrize(("thing", "told"), MORE_THAN_ITEMS)
def test_what_its_items_do_not_say_is_not_lost_in_silence(thing: Any, told: str) -> None:
    """NumPy drops a mask without a word where it makes plain arrays; memory that others read has no place for one."""
    ring, cache = nds.Ring(slots=4), nds.Cache("1 MiB", load=lambda _: thing)
    fields = nds.Ring(fields={"a": (thing.shape, thing.dtype)}, slots=4)
    made = [
        nds.array,
        nds.asarray,
        ring.put,
        ring.writer().put,
        lambda x: fields.put({"a": x}),
        lambda x: ring.put((x, x)),
    ]
    made += [lambda x: ring.put_many([x]), lambda _: cache["key"], lambda x: cache.__setitem__("key", x)]
    for call in made + ([ring.put_many] if thing.ndim else []):
        with pytest.raises(TypeError, match=told):
            call(thing)
    assert (ring.stats()["written"], fields.stats()["written"], len(cache)) == (0, 0, 0)
    with pytest.raises(TypeError, match=told):
        nds.publish("masked", thing)


def test_classes_whose_items_say_all_are_taken() -> None:
    ring = nds.Ring(slots=8)
    frames = ring.reader()
    records = np.array([(1, 2)], [("unit", "i4"), ("mask", "i4")]).view(np.recarray)
    matrix: Any = np.array([[1, 2]]).view(np.matrix)
    for thing in (np.ma.masked_array([1, 2]), np.ma.masked_array([1, 2], [0, 0]), matrix, records):
        ring.put(thing)
        for taken in (frames.get(timeout=HANG), nds.asarray(thing)):
            assert taken.dtype == np.asarray(thing).dtype
            assert np.array_equal(np.asarray(taken), np.asarray(thing))
    ring.put(records[:1].view(np.ndarray))
    assert ring.put(frames.get(timeout=HANG)) == 5


@pytest.mark.parametrize("thing", [[1, 2.7], np.arange(4), [True], np.zeros((2, 3), order="F")], ids=repr)
@pytest.mark.parametrize("dtype", ["i4", ">f8", "c8", "S3", "?", "u1"])
def test_array_converts_as_numpy_does(thing: Any, dtype: str) -> None:
    same(nds.array(thing, dtype), np.array(thing, dtype))
    same(nds.asarray(thing, dtype), np.asarray(thing, dtype))


@given(data=st.data())
def test_array_of_any_view(data: st.DataObject) -> None:
    base = fill(np.zeros(data.draw(shapes), data.draw(dtypes)))
    view = np.asarray(base[data.draw(hnp.basic_indices(base.shape, allow_newaxis=True))])
    order = data.draw(st.sampled_from(LIKE_ORDERS))
    theirs = np.array(view, order=order)
    same(nds.array(view, order=order), theirs)
    again = nds.array(nds.array(view), order=order)
    assert unpadded(again).tobytes() == unpadded(view).tobytes()


def test_array_always_copies_unless_told_otherwise() -> None:
    shared = nds.array([1, 2, 3])
    copy = nds.array(shared)
    copy[0] = 9
    assert shared[0] == 1
    assert not np.shares_memory(copy, shared)
    assert np.shares_memory(nds.array(shared, copy=False), shared)
    assert np.shares_memory(nds.array(shared, copy=None), shared)
    with pytest.raises(ValueError, match=r"(?i)cop"):
        nds.array(shared, "f4", copy=False)
    with pytest.raises(ValueError, match=r"(?i)cop"):
        nds.array(np.arange(3), copy=False)
    assert nds.is_shared(nds.array(np.arange(3), copy=None))


def test_asarray_returns_what_is_shared_and_aligned_already() -> None:
    x = nds.zeros((4, 6))
    assert nds.asarray(x) is x
    assert nds.asarray(x, "f8", "C") is x
    view = x.T
    assert nds.asarray(view) is view
    ours = nds.asarray(np.arange(5))
    same(ours, np.arange(5))
    assert nds.asarray(x, "f4").dtype == np.float32
    assert nds.asarray(x, order="F").flags.f_contiguous


def test_asarray_looks_at_the_alignment() -> None:
    x = nds.zeros(1 << 12, np.uint8, align=4096)
    assert nds.asarray(x, align=4096) is x
    shifted = x[1:]
    moved = nds.asarray(shifted, align=64)
    assert address(moved) % 64 == 0
    assert not np.shares_memory(moved, x)
    assert address(nds.asarray(x, align=1 << 20)) % (1 << 20) == 0


def test_asarray_of_a_subclass_is_a_plain_shared_array() -> None:
    record = np.zeros(3, STRUCT).view(np.recarray)
    assert type(nds.asarray(record)) is np.ndarray
    assert nds.is_shared(nds.asarray(record))


# ---- alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [1 << k for k in range(22)])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 1000, 5000, 100_000, 3 * MIB])
def test_alignment_from_64_bytes_to_2_mib(align: int, n: int) -> None:
    x, y = nds.empty(n, np.uint8, align=align), nds.zeros(n, np.uint8, align=align)
    assert address(x) % max(align, 64) == 0
    assert address(y) % max(align, 64) == 0
    assert not y.any()


@pytest.mark.parametrize("align", [0, -1, -64, 3, 65, 96, 1000, 4 * MIB, 1 << 40, 1 << 70, -(1 << 70)])
def test_bad_alignments_are_value_errors(align: int) -> None:
    for make in (nds.empty, nds.zeros, nds.ones, nds.asarray, nds.array, nds.empty_like):
        before = held()
        with pytest.raises(ValueError, match="align"):
            make(np.zeros(3) if make in (nds.asarray, nds.array, nds.empty_like) else 3, align=align)  # type: ignore[operator]
        assert held() == before


def test_alignments_that_are_no_numbers_are_type_errors() -> None:
    for align in ("64", 64.0, [64]):
        with pytest.raises(TypeError):
            nds.empty(3, align=align)  # type: ignore[arg-type]


# ---- what is refused ------------------------------------------------------------------------------------------------

REFUSED: list[Any] = ["O", object, [("a", "f4"), ("b", "O")], [("a", [("b", object)])], ("O", (3,))]
if hasattr(np.dtypes, "StringDType"):
    REFUSED.append(np.dtypes.StringDType())


@pytest.mark.parametrize("dtype", REFUSED, ids=str)
def test_pointers_are_refused_before_anything_is_allocated(dtype: Any) -> None:
    before = nds.stats()
    calls: list[Callable[[], Any]] = [
        lambda: nds.empty(10**4, dtype),
        lambda: nds.zeros((5, 10**4), dtype),
        lambda: nds.ones(10**4, dtype),
        lambda: nds.full(10**4, 1, dtype),
        lambda: nds.array([1] * 10**4, dtype),
        lambda: nds.asarray([1] * 10**4, dtype),
        lambda: nds.empty_like(np.zeros(10**4), dtype),
        lambda: nds.zeros_like(np.zeros(10**4), dtype),
        lambda: nds.full_like(np.zeros(10**4), 1, dtype),
    ]
    for call in calls:
        with pytest.raises(TypeError) as error:
            call()
        assert len(str(error.value)) > 20, "the message says what to do instead"
    after = nds.stats()
    assert (after["bytes"], after["blocks"], after["warm"]) == (before["bytes"], before["blocks"], before["warm"])


@pytest.mark.parametrize("thing", [object(), [None, 1], {"a": 1}, [1, "a", None], np.array([1, None])], ids=label)
def test_objects_are_refused_by_what_they_are(thing: Any) -> None:
    before = held()
    for call in (nds.array, nds.asarray, nds.zeros_like, lambda x: nds.full(3, x)):
        with pytest.raises(TypeError):
            call(thing)
    assert held() == before


def test_ragged_lists_are_numpys_value_error() -> None:
    with pytest.raises(ValueError, match="inhomogeneous"):
        nds.array([[1], [2, 3]])


@pytest.mark.parametrize(
    "shape",
    [
        -1, (-1,), (3, -2), (2**62,), (2**31, 2**31, 2**31), (2**63,), 2**64, (2**32, 2**32), (-(2**70),),
        (2**62, 0, 2**62), (1 << 61, 1 << 10), 10**30,
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "f8", STRUCT], ids=str)
def test_impossible_shapes_are_value_errors(shape: Any, dtype: Any) -> None:
    before = held()
    try:
        theirs: Any = np.empty(shape, dtype)
    except (ValueError, MemoryError) as error:
        theirs = error
    for make in (nds.empty, nds.zeros, nds.ones if dtype != STRUCT else nds.empty):
        if isinstance(theirs, np.ndarray):
            assert make(shape, dtype).shape == theirs.shape
        elif isinstance(theirs, ValueError):
            with pytest.raises(ValueError, match=r".{15,}"):
                make(shape, dtype)
        else:  # NumPy only lacks the memory
            with pytest.raises((ValueError, nds.ArenaFull)):
                make(shape, dtype)
    assert held() == before


def test_more_than_there_is_says_so() -> None:
    with pytest.raises(nds.ArenaFull) as error:
        nds.empty(1 << 50, np.uint8)
    assert isinstance(error.value, MemoryError)
    assert isinstance(error.value, nds.Error)


def test_dtypes_that_are_no_dtypes() -> None:
    for bad in ("nonsense", 3, ["f4", 3]):
        with pytest.raises(TypeError):
            nds.empty(3, bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "full", "array", "asarray"])
def test_arguments_after_the_star_have_names(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(nds, name)(3, 3, None, "C", 64, None, 1, 1)


@pytest.mark.parametrize("wrong", [3, "arena", object()])
def test_an_arena_is_an_arena(wrong: Any) -> None:
    with pytest.raises(TypeError):
        nds.empty(3, arena=wrong)


def test_errors_have_the_built_in_bases() -> None:
    for error, base in (
        (nds.ArenaFull, MemoryError),
        (nds.Stale, ReferenceError),
        (nds.AttachError, ConnectionError),
        (nds.AttachError, OSError),
        (nds.Timeout, TimeoutError),
        (nds.Poisoned, RuntimeError),
    ):
        assert issubclass(error, nds.Error)
        assert issubclass(error, base)
        again = pickle.loads(pickle.dumps(error("what happened")))
        assert type(again) is error
        assert str(again) == str(error("what happened"))
    assert nds.Error.__mro__[1] is Exception


# ---- other eyes on the same bytes -----------------------------------------------------------------------------------


def test_is_shared_looks_at_the_address() -> None:
    x = nds.zeros((10, 20), np.int32)
    views: list[Any] = [
        x, x[3], x[::-1], x[:, 5:7], x.T, x.reshape(-1), x.view(np.uint8), x.astype("i4", copy=False), x[0, :1],
        np.asarray(x), np.broadcast_to(x[0], (5, 20)), memoryview(x), memoryview(x)[2:4], x.data, np.from_dlpack(x),
        np.frombuffer(memoryview(x).cast("B"), np.int8), np.lib.stride_tricks.sliding_window_view(x, (3, 3)),
        x.view(np.recarray), np.ma.masked_array(x), x.real, np.diagonal(x), np.ndarray((2,), "u1", x.data.cast("B")),
        x[...], x[None], np.ascontiguousarray(x),
    ]  # fmt: skip
    for view in views:
        assert nds.is_shared(view), repr(view)[:60]


def test_is_shared_says_no() -> None:
    x = nds.zeros(1000)
    things: list[Any] = [
        x.copy(), x + 1, np.zeros(1000), x[[1, 2, 3]], b"bytes", bytearray(10), memoryview(b"abc"), x.tobytes(),
        np.empty(0), x.astype("f4"), np.array(3.0),
    ]  # fmt: skip
    for thing in things:
        assert not nds.is_shared(thing), repr(thing)[:60]
    for stranger in (None, 3, "text", [1, 2], object()):
        assert nds.is_shared(stranger) is False


def test_is_shared_says_no_to_a_view_that_leaves_its_block() -> None:
    x = nds.zeros(64, np.uint8)
    reaching = np.lib.stride_tricks.as_strided(x, (64 * MIB,), (1,))
    assert not nds.is_shared(reaching)


def test_other_libraries_see_the_same_bytes() -> None:
    x = nds.array(np.arange(12.0).reshape(3, 4))
    assert np.asarray(x) is x
    assert np.shares_memory(np.from_dlpack(x), x)
    view = memoryview(x)
    assert view.shape == (3, 4)
    assert view.format == "d"
    assert not view.readonly
    assert view.obj is x
    np.frombuffer(view.cast("B"), "f8")[0] = 42
    assert x[0, 0] == 42
    assert np.shares_memory(np.ctypeslib.as_array(np.ctypeslib.as_ctypes(x)), x)
    import array

    values = array.array("d", [0]) * 4
    memoryview(values).cast("B")[:] = view[1:2].cast("B")
    assert list(values) == [4, 5, 6, 7]


def test_torch_without_a_copy() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = nds.array(np.arange(12.0).reshape(3, 4))
    for tensor in (torch.from_numpy(x), torch.from_dlpack(x), torch.as_tensor(x)):
        tensor[0, 0] += 1
        assert nds.is_shared(tensor)
        assert nds.is_shared(tensor[1])
        assert x[0, 0] == float(tensor[0, 0])
    assert x[0, 0] == 3
    assert not nds.is_shared(torch.zeros(3))
    back = torch.from_numpy(x).numpy()
    assert nds.is_shared(back)
    assert np.shares_memory(back, x)


def test_pandas_without_a_copy() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    x = nds.array(np.arange(12.0).reshape(4, 3))
    frame = pd.DataFrame(x, columns=list("abc"), copy=False)
    assert nds.is_shared(frame.to_numpy())
    assert np.shares_memory(frame.to_numpy(), x)
    x[0, 0] = 77
    assert frame.loc[0, "a"] == 77
    series = pd.Series(x[:, 1], copy=False)
    assert nds.is_shared(series.to_numpy())
    assert nds.asarray(frame.to_numpy()) is not None


def test_numba_in_place() -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit  # type: ignore[misc]
    def double(x):  # type: ignore[no-untyped-def]
        for i in range(x.shape[0]):
            x[i] *= 2
        return x

    x = nds.array(np.arange(1000.0))
    result = double(x)
    assert (x == np.arange(1000.0) * 2).all()
    assert nds.is_shared(result)
    assert np.shares_memory(result, x)


def test_arithmetic_gives_ordinary_arrays() -> None:
    x = nds.ones((3, 4))
    for result in (x + x, np.sqrt(x), x.copy(), x @ x.T, np.concatenate([x, x])):
        assert type(result) is np.ndarray
        assert not nds.is_shared(result)
    np.add(x, x, out=x)
    assert (x == 2).all()


def test_writeable_flag_goes_off_and_on_as_numpys_does() -> None:
    x = nds.zeros(5)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    x.flags.writeable = True
    x[0] = 1
    view = x[1:]
    view.setflags(write=False)
    assert x.flags.writeable
    view.setflags(write=True)
    view[0] = 2
    assert x[1] == 2


def test_arrays_do_what_arrays_do() -> None:
    x = nds.array(np.arange(10))
    assert x.base is not None
    assert not x.flags.owndata
    with pytest.raises(ValueError, match=r"resize|own"):
        x.resize(20)
    x.sort()
    x[::2].fill(3)
    assert repr(x) == repr(np.array(x))
    assert str(x) == str(np.array(x))
    assert sys.getsizeof(x) < 1000
    assert nds.is_shared(x.view().reshape(2, 5))


def test_reprs_are_one_line() -> None:
    x = nds.zeros(3)
    for thing in (x.base, nds.ref(x), nds.Arena("1 MiB")):
        assert "\n" not in repr(thing)
        assert "object at 0x" not in repr(thing)


# ---- blocks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def arena() -> nds.Arena:
    return nds.Arena("512 MiB")


def test_classes_waste_at_most_a_quarter(arena: nds.Arena) -> None:
    sizes = {4097, 5000, 65537, MIB, MIB + 1, 2 * MIB + 1, 3 * MIB + 5, 40 * MIB + 1}
    sizes |= {int(4097 * 1.037**k) for k in range(270)}
    worst = 0.0
    for n in sorted(sizes):
        before = held(arena)
        x = nds.empty(n, np.uint8, arena=arena)
        cost = nds.stats(arena)["bytes"] - before
        assert cost >= n
        worst = max(worst, cost / n)
        del x
    assert worst <= 1.25, f"a block costs {worst:.3f} times its bytes"


def test_small_blocks_are_small(arena: nds.Arena) -> None:
    for n in (0, 1, 64, 65, 300, 1024, 4096):
        before = held(arena)
        x = nds.empty(n, np.uint8, arena=arena)
        assert nds.stats(arena)["bytes"] - before <= max(1024, 2 * n)
        del x


def test_bytes_and_blocks_are_counted(arena: nds.Arena) -> None:
    assert nds.stats(arena)["bytes"] == nds.stats(arena)["blocks"] == 0
    arrays = [nds.empty(10_000, np.uint8, arena=arena) for _ in range(10)]
    now = nds.stats(arena)
    assert now["blocks"] == 10
    assert 100_000 <= now["bytes"] <= 125_000
    views = [x[1:] for x in arrays]
    assert nds.stats(arena)["blocks"] == 10
    del arrays
    assert held(arena) == now["bytes"]
    me = [p for p in nds.stats(arena)["participants"] if p["me"]]
    assert len(me) == 1
    assert me[0]["blocks"] == 10
    assert me[0]["bytes"] == now["bytes"]
    assert me[0]["alive"]
    del views
    assert held(arena) == 0


def test_stats_say_what_the_page_promises(arena: nds.Arena) -> None:
    stats = nds.stats(arena)
    assert type(stats) is dict
    for name, kind in (
        ("id", str), ("budget", int), ("capacity", int), ("bytes", int), ("warm", int), ("blocks", int),
        ("participants", list), ("tickets", list), ("ticket_budget", int), ("limit", str),
    ):  # fmt: skip
        assert type(stats[name]) is kind, name
    assert stats["budget"] == arena.budget == 512 * MIB
    assert stats["id"] == arena.id != nds.stats()["id"]
    assert pickle.loads(pickle.dumps(stats)) == stats


def test_warm_blocks_are_used_again(arena: nds.Arena) -> None:
    x = nds.full(4 * MIB, 1, np.uint8, arena=arena)
    places = {address(x)}
    del x
    assert nds.stats(arena)["warm"] >= 4 * MIB
    for _ in range(20):
        x = nds.empty(4 * MIB, np.uint8, arena=arena)
        places.add(address(x))
        del x
    assert len(places) <= 2, "a block that was just dropped is the best one to take"


@given(st.lists(st.tuples(st.integers(0, 400_000), st.booleans()), max_size=30))
def test_zeros_are_zero_however_warm_the_block(steps: list[tuple[int, bool]]) -> None:
    alive = []
    for n, keep in steps:
        x = nds.zeros(n, np.uint8)
        assert not x.any()
        x.fill(255)
        if keep:
            alive.append(x)


def test_live_blocks_never_overlap(arena: nds.Arena) -> None:
    rng = np.random.default_rng(5)
    alive: list[Array] = []
    for step in range(3000):
        x = nds.empty(int(2 ** rng.uniform(0, 20)), np.uint8, arena=arena, align=1 << int(rng.integers(0, 14)))
        x.fill(step % 251)
        alive.append(x)
        if len(alive) > 100:
            old = alive.pop(int(rng.integers(100)))
            assert (old == old[0]).all()
    spans = sorted((address(x), address(x) + x.nbytes) for x in alive)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    for x in alive:
        assert (x == x[0]).all()


def test_pages_go_back_beyond_what_is_kept_warm() -> None:
    arena = nds.Arena("2 GiB")
    x = nds.zeros(1 << 30, np.uint8, arena=arena)
    x.fill(1)
    del x
    warm = nds.stats(arena)["warm"]
    inside = [m for m in mappings() if m.size >= nds.stats(arena)["budget"]]
    assert warm < 1 << 30
    assert min(m.rss for m in inside) <= warm + 64 * MIB


def test_a_hundred_thousand_blocks(arena: nds.Arena) -> None:
    arrays = [nds.empty(16, np.uint8, arena=arena) for _ in range(100_000)]
    assert nds.stats(arena)["blocks"] == 100_000
    for i, x in enumerate(arrays):
        x[:] = i % 256
    assert all(x[7] == i % 256 for i, x in enumerate(arrays))
    del arrays, x
    assert held(arena) == 0
    assert nds.empty(16, arena=arena) is not None


def test_fragments_are_no_limit() -> None:
    arena = nds.Arena("128 MiB")
    pieces = [nds.empty(MIB, np.uint8, arena=arena) for _ in range(100)]
    del pieces[::2]
    big = nds.zeros(64 * MIB, np.uint8, arena=arena)
    assert big.size == 64 * MIB
    assert len(pieces) == 50


def test_threads_allocate_and_drop_together(arena: nds.Arena) -> None:
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        alive: list[Array] = []
        for _ in range(1500):
            x = nds.empty(int(rng.integers(1, 50_000)), np.uint8, arena=arena)
            x.fill(seed)
            alive.append(x)
            if len(alive) > 20:
                old = alive.pop(int(rng.integers(20)))
                if not (old == seed).all():
                    wrong.append("two threads got one block")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert held(arena) == 0


def test_views_may_die_in_any_thread(arena: nds.Arena) -> None:
    boxes: list[list[Array]] = [[nds.zeros(1000, arena=arena)[i:] for i in range(100)] for _ in range(8)]
    threads = [threading.Thread(target=box.clear) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(arena) == 0


def test_nothing_leaks_on_pythons_side() -> None:
    def once() -> None:
        for _ in range(2000):
            x = nds.zeros((3, 4), np.int16, align=128)
            nds.asarray(x), nds.is_shared(x), x[1:].T

    once()
    gc.collect()
    tracemalloc.start()
    once()
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    once()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    assert grown < 20_000


def test_a_failed_construction_gives_its_block_back() -> None:
    class Bad:
        def __array__(self, *args: Any, **kwargs: Any) -> Array:
            raise RuntimeError("no")

    before = held()
    for call in (lambda: nds.full(10**6, "x", "f8"), lambda: nds.array(Bad()), lambda: nds.full((2, 3), [1] * 5)):
        with pytest.raises((ValueError, RuntimeError)):
            call()
    assert held() == before


# ---- arenas ---------------------------------------------------------------------------------------------------------


def test_an_arena_of_ones_own() -> None:
    with nds.Arena("64 MiB") as arena:
        assert arena.budget == 64 * MIB
        assert not arena.closed
        x = nds.ones(1000, arena=arena)
        assert nds.is_shared(x)
        assert nds.stats(arena)["blocks"] == 1
        for make in (nds.zeros_like, nds.ones_like, nds.empty_like, nds.array, nds.asarray):
            before = nds.stats(arena)["blocks"]
            y = make(np.zeros(5), arena=arena)
            assert nds.stats(arena)["blocks"] == before + 1
            del y
    assert arena.closed
    assert (x == 1).all()


@pytest.mark.parametrize(("text", "size"), [("8 MiB", 8 * MIB), ("16MB", 16_000_000), ("8388608", 8 * MIB)])
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert nds.Arena(text).budget == size
    assert nds.Arena(size).budget == size


@pytest.mark.parametrize("size", ["", "lots", "-1", "8 XiB", 0, -5, "1e400 GiB"])
def test_bad_sizes_are_value_errors(size: Any) -> None:
    with pytest.raises(ValueError, match=r".{15,}"):
        nds.Arena(size)


def test_the_budget_of_the_session_comes_from_the_environment() -> None:
    source = "import ndshare as nds; print(nds.stats()['budget'], nds.stats()['limit'])"
    out = run(source, env=environment(NDSHARE_BUDGET="100 MiB")).clean().split()
    assert int(out[0]) == 100 * MIB
    assert "NDSHARE_BUDGET" in " ".join(out[1:])


@pytest.mark.parametrize("first", ["import ndshare", "import numpy"])
def test_subinterpreters_are_refused(first: str) -> None:
    source = f"""
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        import _interpreters as interpreters
    {first}
    one = interpreters.create()
    code = (
        "try:\\n    import ndshare\\n"
        "except ImportError as error:\\n    print('ImportError')\\n"
        "else:\\n    print('imported')\\n"
    )
    interpreters.run_string(one, code)
    interpreters.destroy(one)
    """
    assert run(source).out.split() == ["ImportError"]
