"""concatenate, stack, block and copyto: NumPy's functions are the reference, for results as for errors.

Random cases are drawn from a seeded generator: arrays of any layout in buffers of their own, at any misalignment. NumPy
works on a copy of the same buffers, and afterwards every byte must be equal, also the bytes around the arrays.
"""

from __future__ import annotations

import itertools
import multiprocessing as mp
import re
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import ndshare as nds
import workers
from helpers import HANG, environment, run
from ndshare import _native

Array = np.ndarray[Any, Any]
Rng = np.random.Generator

STRUCT = np.dtype([("x", "<f4"), ("y", ">i2", (3,)), ("z", "S5")])
PADDED = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [3, 16], "itemsize": 40})
NUMBERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
DTYPES = [
    *NUMBERS, "?", "f2", "g", "F", "D", "G", "q", "Q", ">i4", ">f8", ">u2", "S7", "U5", ">U3", "V9", "M8[ns]",
    "m8[us]", ">M8[s]", STRUCT, PADDED,
]  # fmt: skip
RULES = ["no", "equiv", "safe", "same_kind", "unsafe"]


@pytest.fixture(params=_native.cpus())
def cpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of kernels in turn."""
    _native.force_cpu(request.param)
    yield request.param
    _native.force_cpu()


@pytest.fixture(params=["ordinary", "streaming"])
def stores(request: pytest.FixtureRequest) -> Iterator[str]:
    """Ordinary stores, then streaming ones, whatever the size."""
    _native.set_stream_from(1 if request.param == "streaming" else 1 << 60)
    yield request.param
    _native.set_stream_from()


# ---- random arrays --------------------------------------------------------------------------------------------------


def content(rng: Rng, count: int, dtype: np.dtype[Any]) -> bytes:
    """Return bytes that are `count` valid items: any for numbers, letters for strings, 0 and 1 for truth values."""
    size = count * dtype.itemsize
    if dtype.kind == "U":
        return np.frombuffer(rng.choice(list("aé€z"), size // 4), "U1").astype(dtype.newbyteorder()).tobytes()[:size]
    if dtype.kind == "b":
        return rng.integers(0, 2, size, np.uint8).tobytes()
    if dtype.kind in "fcV" and dtype != np.dtype("V9"):
        small = rng.integers(0, 100, size, np.uint8).tobytes()
        return rng.random(count).astype(dtype).tobytes() if dtype.kind in "fc" else small
    return rng.integers(0, 256, size, np.uint8).tobytes()


def buffer_for(rng: Rng, count: int, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Return bytes with room for `count` items, and where the items begin: anywhere between two lines."""
    shift = int(rng.integers(0, 128))
    raw = np.empty(count * dtype.itemsize + 256, np.uint8)
    raw[:] = 7
    raw[shift : shift + count * dtype.itemsize] = np.frombuffer(content(rng, count, dtype), np.uint8)
    return raw, shift


def random_array(rng: Rng, shape: tuple[int, ...], dtype: Any, *, source: bool = True) -> tuple[Array, Array]:
    """Return an array of random layout, and the buffer that it lies in."""
    dtype = np.dtype(dtype)
    steps = [int(rng.choice([1, 1, 1, 2, 3])) for _ in shape]
    flat = [source and n > 0 and rng.random() < 0.06 for n in shape]
    room = [
        1 if zero else max(n * step + int(rng.integers(0, 2)), 1)
        for n, step, zero in zip(shape, steps, flat, strict=True)
    ]
    axes = list(range(len(shape)))
    if rng.random() < 0.5:
        rng.shuffle(axes)
    elif rng.random() < 0.4:
        axes.reverse()
    count = int(np.prod(room))
    raw, shift = buffer_for(rng, count, dtype)
    whole = np.ndarray([room[axis] for axis in axes], dtype, raw.data, shift)
    whole = whole.transpose(np.argsort(axes)) if shape else whole
    picks = [slice(None, n * step, step) for n, step in zip(shape, steps, strict=True)]
    array = whole[tuple(slice(None) if zero else pick for zero, pick in zip(flat, picks, strict=True))]
    array = np.broadcast_to(array, shape) if any(flat) else array
    for axis in range(len(shape)):
        if rng.random() < 0.2:
            array = np.flip(array, axis)
    assert array.shape == shape
    return array, raw


def random_shape(rng: Rng) -> tuple[int, ...]:
    """Return a shape of one to four axes, of at most some ten thousand items, sometimes with zeros and ones."""
    ndim = int(rng.integers(1, 5))
    most = {1: 3000, 2: 150, 3: 24, 4: 9}[ndim]
    return tuple(int(rng.choice([0, 1, 2])) if rng.random() < 0.12 else int(rng.integers(1, most)) for _ in range(ndim))


def split(rng: Rng, shape: tuple[int, ...], axis: int) -> list[tuple[int, ...]]:
    """Return one to five shapes that make `shape` along an axis."""
    cuts = sorted(int(rng.integers(0, shape[axis] + 1)) for _ in range(int(rng.integers(0, 5))))
    ends = [*cuts, shape[axis]]
    lengths = [end - start for start, end in zip([0, *cuts], ends, strict=True)]
    return [(*shape[:axis], length, *shape[axis + 1 :]) for length in lengths]


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a function returns or raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def same(ours: Any, theirs: Any) -> None:
    """Insist on equal type, dtype, shape, memory order and bytes, or on an equal error."""
    assert type(ours) is type(theirs), f"{ours!r} is not {theirs!r}"
    if isinstance(theirs, Exception):
        assert str(ours) == str(theirs)
        return
    if theirs is None:
        return
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    longer = [axis for axis, length in enumerate(theirs.shape) if length > 1]
    if theirs.size:
        assert [ours.strides[axis] for axis in longer] == [theirs.strides[axis] for axis in longer]
    if theirs.dtype.hasobject:
        assert ours.tolist() == theirs.tolist()
    else:
        assert ours.tobytes() == theirs.tobytes()


def twin(array: Array, raw: Array) -> tuple[Array, Array]:
    """Return the same array in a copy of its buffer."""
    copy = raw.copy()
    offset = array.__array_interface__["data"][0] - raw.__array_interface__["data"][0]
    return np.ndarray(array.shape, array.dtype, copy.data, offset, array.strides), copy


# ---- equal to NumPy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_concatenate_is_numpys(seed: int, cpu: str, stores: str) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(150):
        dtype, shape = rng.choice(np.array(DTYPES, object)), random_shape(rng)
        axis = int(rng.integers(0, len(shape)))
        arrays = [random_array(rng, part, dtype)[0] for part in split(rng, shape, axis)]
        axis = axis - len(shape) if rng.random() < 0.5 else axis
        given = None if rng.random() < 0.15 else axis
        ours = nds.concatenate(arrays, given, workers=int(rng.integers(1, 4)))
        same(ours, np.concatenate(arrays, given))
        assert nds.is_shared(ours)


@pytest.mark.parametrize("seed", range(3))
def test_concatenate_into_any_layout_is_numpys(seed: int, cpu: str, stores: str) -> None:
    rng = np.random.default_rng(10 + seed)
    for _ in range(150):
        dtype, shape = rng.choice(np.array(DTYPES, object)), random_shape(rng)
        axis = int(rng.integers(0, len(shape)))
        arrays = [random_array(rng, part, dtype)[0] for part in split(rng, shape, axis)]
        given = [axis, axis - len(shape), None][int(rng.choice([0, 0, 1, 1, 2]))]
        shape = shape if given is not None else (int(np.prod(shape)),)
        out, raw = random_array(rng, shape, dtype, source=False)
        theirs, expected = twin(out, raw)
        assert nds.concatenate(arrays, given, out, workers=int(rng.integers(1, 4))) is out
        np.concatenate(arrays, given, theirs)
        assert np.array_equal(raw, expected)


@pytest.mark.parametrize("seed", range(3))
def test_stack_is_numpys(seed: int, cpu: str, stores: str) -> None:
    rng = np.random.default_rng(20 + seed)
    for _ in range(100):
        dtype, shape = rng.choice(np.array(DTYPES, object)), random_shape(rng)
        arrays = [random_array(rng, shape, dtype)[0] for _ in range(int(rng.integers(1, 5)))]
        axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
        theirs = np.stack(arrays, axis)
        same(nds.stack(arrays, axis), theirs)
        out, raw = random_array(rng, theirs.shape, dtype, source=False)
        twin_out, expected = twin(out, raw)
        nds.stack(arrays, axis, out=out, workers=2)
        np.stack(arrays, axis, out=twin_out)
        assert np.array_equal(raw, expected)


@pytest.mark.parametrize("seed", range(3))
def test_block_is_numpys(seed: int, cpu: str, stores: str) -> None:
    rng = np.random.default_rng(30 + seed)
    for _ in range(60):
        dtype, depth = rng.choice(np.array(DTYPES, object)), int(rng.integers(1, 4))
        ndim = int(rng.integers(1, 4))
        tree = random_tree(rng, random_shape_of(rng, max(ndim, depth)), dtype, depth, ndim)
        theirs = np.block(tree)
        ours = nds.block(tree)
        same_values(ours, theirs)
        assert nds.is_shared(ours)
        out, raw = random_array(rng, theirs.shape, theirs.dtype, source=False)
        twin_out, expected = twin(out, raw)
        assert nds.block(tree, out=out, workers=2) is out
        np.copyto(twin_out, theirs)
        assert np.array_equal(raw, expected)


def random_shape_of(rng: Rng, ndim: int) -> tuple[int, ...]:
    most = {1: 900, 2: 60, 3: 20}[ndim]
    return tuple(int(rng.integers(1, most)) for _ in range(ndim))


def random_tree(rng: Rng, shape: tuple[int, ...], dtype: Any, depth: int, ndim: int) -> Any:
    """Return nested lists of arrays that `block` makes into `shape`; leading axes of one may be left out."""
    if depth == 0:
        leading = len(shape) - ndim
        cut = leading if leading > 0 and all(n == 1 for n in shape[:leading]) else 0
        return random_array(rng, shape[cut:], dtype)[0]
    parts = split(rng, shape, len(shape) - depth)
    return [random_tree(rng, part, dtype, depth - 1, ndim) for part in parts]


def same_values(ours: Array, theirs: Array) -> None:
    """Insist on all but the memory order, which NumPy itself makes depend on the size here."""
    assert (type(ours), ours.dtype, ours.shape) == (type(theirs), theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_copyto_is_numpys(seed: int, cpu: str, stores: str) -> None:
    rng = np.random.default_rng(40 + seed)
    for _ in range(200):
        dtype, shape = rng.choice(np.array(DTYPES, object)), random_shape(rng)
        out, raw = random_array(rng, shape, dtype, source=False)
        thin = tuple(1 if rng.random() < 0.2 else length for length in shape)
        thin = thin[int(rng.integers(0, len(thin))) :] if rng.random() < 0.3 else thin
        source, _ = random_array(rng, thin, dtype)
        theirs, expected = twin(out, raw)
        nds.copyto(out, source, workers=int(rng.integers(1, 4)))
        np.copyto(theirs, source)
        assert np.array_equal(raw, expected)


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_casts_are_numpys(kind: str, cpu: str) -> None:
    rng = np.random.default_rng(50)
    targets = [*NUMBERS, "?", "f2", "F", ">i4", "S5", "O"]
    for target, rule in itertools.product(targets, RULES):
        source, _ = random_array(rng, (13, 31, 5), kind)
        out = np.zeros((13, 31, 5), target)
        theirs = out.copy()
        with np.errstate(all="ignore"):
            ours = outcome(nds.copyto, out, source, casting=rule, workers=2)
            same(ours, outcome(np.copyto, theirs, source, casting=rule))
            same(out, theirs)
            both = [source, source[:3]]
            ours = outcome(nds.concatenate, both, dtype=target, casting=rule)
            same(ours, outcome(np.concatenate, both, dtype=target, casting=rule))


def test_casts_warn_as_numpy_is_told_to() -> None:
    big, out = np.full(5000, 1e300), np.empty(5000, np.float32)
    for call in (np.copyto, nds.copyto):
        with pytest.warns(RuntimeWarning, match="overflow"):
            call(out, big)
        with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
            call(out, big)


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_mixed_dtypes_are_promoted_as_numpy_promotes_them() -> None:
    rng = np.random.default_rng(60)
    for _ in range(300):
        kinds = [str(kind) for kind in rng.choice([*NUMBERS, "?", "f2", "F", ">i4", "S3", "U4"], rng.integers(1, 5))]
        arrays = [random_array(rng, (int(rng.integers(0, 30)), 7), kind)[0] for kind in kinds]
        with np.errstate(all="ignore"):
            same(outcome(nds.concatenate, arrays), outcome(np.concatenate, arrays))
            even = [array[:1] for array in arrays if len(array)]
            same(outcome(nds.stack, even), outcome(np.stack, even))
            same(outcome(nds.block, [even]), outcome(np.block, [even]))
            kind = str(rng.choice(DTYPES[:12]))
            for rule in ("unsafe", str(rng.choice(RULES))):
                ours = outcome(nds.concatenate, arrays, None, dtype=kind, casting=rule)
                same(ours, outcome(np.concatenate, arrays, None, dtype=kind, casting=rule))
                ours = outcome(nds.stack, even, -1, dtype=kind, casting=rule)
                same(ours, outcome(np.stack, even, -1, dtype=kind, casting=rule))


def test_structures_and_strings_become_what_numpy_makes_them() -> None:
    aligned = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    titled = np.dtype([(("title", "a"), "i4"), ("b", "f4")])
    for dtype in (STRUCT, PADDED, aligned, titled, ">i4", "S3", ">U2", "V5", np.dtype("f8", metadata={"unit": "m"})):
        for count in (1, 2, 3):
            arrays = [np.zeros(5, dtype) for _ in range(count)]
            ours, theirs = nds.concatenate(arrays), np.concatenate(arrays)
            assert ours.dtype == theirs.dtype
            assert ours.dtype.itemsize == theirs.dtype.itemsize
            assert ours.dtype.isalignedstruct == theirs.dtype.isalignedstruct
            assert ours.dtype.metadata == theirs.dtype.metadata
            assert nds.is_shared(ours)
    dates = [np.zeros(3, "M8[s]"), np.zeros(3, "M8[ms]")]
    for kwargs in ({}, {"dtype": "M8"}, {"dtype": "S"}, {"dtype": "S", "casting": "unsafe"}):
        same(outcome(nds.concatenate, dates, **kwargs), outcome(np.concatenate, dates, **kwargs))


def test_many_kinds_of_input_go_into_one_output() -> None:
    rng = np.random.default_rng(61)
    arrays = [random_array(rng, (40, 9), kind)[0] for kind in ("u1", "i2", "u2", "f4", "u1", "i4", "f8")]
    out = np.empty((280, 9))
    theirs = np.concatenate(arrays, out=out.copy())
    assert np.array_equal(nds.concatenate(arrays, out=out, workers=2), theirs)


# ---- overlap --------------------------------------------------------------------------------------------------------


def test_outputs_that_overlap_inputs_are_numpys() -> None:
    rng = np.random.default_rng(70)
    for _ in range(400):
        raw = rng.integers(0, 256, 4000, np.uint8)
        length = int(rng.integers(1, 400))

        def view(raw: Array, start: int, step: int, n: int) -> Array:
            return as_strided(raw[start:], (n,), (step,))

        places = [(int(rng.integers(0, 1500)), int(rng.choice([1, 1, 2])), length) for _ in range(3)]
        out_place = (int(rng.integers(0, 1500)), int(rng.choice([1, 1, 2])), 3 * length)
        expected = raw.copy()
        nds.concatenate([view(raw, *place) for place in places], out=view(raw, *out_place))
        np.concatenate([view(expected, *place) for place in places], out=view(expected, *out_place))
        assert np.array_equal(raw, expected)
        nds.copyto(view(raw, *places[0]), view(raw, *places[1]))
        np.copyto(view(expected, *places[0]), view(expected, *places[1]))
        assert np.array_equal(raw, expected)


def test_an_output_may_overlap_itself_and_inputs_each_other() -> None:
    sliding = as_strided(np.arange(50, dtype=np.int32), (10, 20), (4, 4))
    same(nds.concatenate([sliding, sliding[::-1]]), np.concatenate([sliding, sliding[::-1]]))
    ours, theirs = np.zeros(50, np.int32), np.zeros(50, np.int32)
    for function, raw in ((nds.copyto, ours), (np.copyto, theirs)):
        function(as_strided(raw, (10, 20), (4, 4)), np.arange(200, dtype=np.int32).reshape(10, 20))
    assert np.array_equal(ours, theirs)


def test_fields_that_are_not_named_keep_their_bytes() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "f8"), ("c", "i4")])
    ours, theirs = np.ones(300, dtype), np.ones(300, dtype)
    source = np.zeros(300, dtype)
    for function, array in ((nds.copyto, ours), (np.copyto, theirs)):
        function(array[["a", "c"]], source[["a", "c"]])
    assert np.array_equal(ours, theirs)
    assert (ours["b"] == 1).all()


# ---- what can't be shared, and what is no array ----------------------------------------------------------------------


def test_results_without_out_are_shared_where_they_can_be() -> None:
    a = np.arange(6.0).reshape(2, 3)
    for result in (nds.concatenate([a, a]), nds.stack([a, a]), nds.block([a, a]), nds.block([[1, 2], [3, 4]])):
        assert type(result) is np.ndarray
        assert nds.is_shared(result)
    for listed in ([[1, 2], [3]], ([1.5], [2]), [a.tolist(), a]):
        same(nds.concatenate(listed, axis=None), np.concatenate(listed, axis=None))
        assert nds.is_shared(nds.concatenate(listed, axis=None))
    assert nds.is_shared(nds.block(a))
    assert nds.is_shared(nds.concatenate([np.zeros(3, STRUCT), np.zeros(2, STRUCT)]))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_objects_strings_and_subclasses_come_out_as_numpy_makes_them() -> None:
    things: list[Any] = [
        [np.array([1, None], object), np.array(["x"], object)],
        [np.array(["a", "bc"], np.dtypes.StringDType()), np.array(["d" * 50], np.dtypes.StringDType())],
        [np.matrix([[1, 2]]), np.matrix([[3, 4]])],
        [np.ma.masked_array([1, 2], [True, False]), np.ma.masked_array([3])],
        [np.rec.array([(1, 2.0)]), np.rec.array([(3, 4.0)])],
    ]
    for arrays in things:
        ours, theirs = nds.concatenate(arrays), np.concatenate(arrays)
        assert type(ours) is type(theirs)
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()
        assert type(ours) is np.ndarray or not nds.is_shared(ours)


def test_a_list_may_be_anything_that_numpy_takes() -> None:
    a = np.arange(4)
    for arrays in (np.eye(3), (a, a), [a, [1, 2]], [a, (3,)], range(0)):
        same(outcome(nds.concatenate, arrays), outcome(np.concatenate, arrays))
    same(outcome(nds.stack, (x for x in (a, a))), outcome(np.stack, (x for x in (a, a))))

    class Array(np.lib.mixins.NDArrayOperatorsMixin):
        def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> str:
            return f"mine: {func.__name__}"

    assert nds.concatenate([Array()]) == "mine: concatenate"
    assert nds.stack([Array()]) == "mine: stack"
    assert nds.block([[Array()]]) == "mine: block"


def test_memory_order_follows_the_inputs() -> None:
    c, f = np.zeros((4, 5, 6)), np.zeros((4, 5, 6), order="F")
    odd = np.zeros((5, 6, 4)).transpose(2, 0, 1)
    for arrays in ([c, c], [f, f], [c, f], [f, c], [odd, odd], [odd, f], [f, f[:, :, ::-1]]):
        for axis in range(3):
            same(nds.concatenate(arrays, axis), np.concatenate(arrays, axis))
            same(nds.stack(arrays, axis), np.stack(arrays, axis))
    leaf = np.zeros((4, 5), order="F")
    same(nds.block([[leaf, leaf]]), np.block([[leaf, leaf]]))


# ---- errors ---------------------------------------------------------------------------------------------------------

A34, A43 = np.zeros((3, 4)), np.zeros((4, 3))
READONLY = np.zeros(8)
READONLY.flags.writeable = False
BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("concatenate", ([],), {}),
    ("concatenate", (5,), {}),
    ("concatenate", ([A34, A43],), {}),
    ("concatenate", ([A34, A34[0]],), {}),
    ("concatenate", ([np.float64(1), np.float64(2)],), {}),
    ("concatenate", ([A34, A34], 2), {}),
    ("concatenate", ([A34, A34], -3), {}),
    ("concatenate", ([A34, A34], 1.0), {}),
    ("concatenate", ([A34, A34], "x"), {}),
    ("concatenate", ([A34, A34],), {"out": np.zeros((3, 8))}),
    ("concatenate", ([A34, A34],), {"out": np.zeros(24)}),
    ("concatenate", ([A34, A34],), {"out": [1, 2]}),
    ("concatenate", ([A34, A34],), {"out": np.zeros((6, 4), np.uint8)}),
    ("concatenate", ([A34, A34],), {"out": np.zeros((6, 4)), "dtype": "f8"}),
    ("concatenate", ([A34, A34],), {"dtype": "i4", "casting": "safe"}),
    ("concatenate", ([A34, A34],), {"dtype": "nonsense"}),
    ("concatenate", ([A34, A34],), {"casting": "nonsense"}),
    ("concatenate", ([A34, A34],), {"casting": None}),
    ("stack", ([A34, A34],), {"casting": None}),
    ("copyto", (np.zeros(3), np.zeros(3), None), {}),
    ("concatenate", ([A34[0], A34[1]],), {"out": READONLY}),
    ("concatenate", ([np.zeros(2, "M8[s]"), np.zeros(2)],), {}),
    ("stack", ([],), {}),
    ("stack", (5,), {}),
    ("stack", ([A34, A43],), {}),
    ("stack", ([A34, A34], 3), {}),
    ("stack", ([A34, A34], None), {}),
    ("stack", ([A34, A34],), {"out": np.zeros((3, 8))}),
    ("stack", ([A34, A34],), {"dtype": "u1", "casting": "no"}),
    ("block", ([],), {}),
    ("block", ([[A34], []],), {}),
    ("block", ([[A34], A34],), {}),
    ("block", ((A34, A34),), {}),
    ("block", ([A34, (A34,)],), {}),
    ("block", ([[A34, A43]],), {}),
    ("copyto", (A34.copy(), A43), {}),
    ("copyto", (A34.copy(), np.zeros((2, 3, 4))), {}),
    ("copyto", ([1], [2]), {}),
    ("copyto", (np.zeros(3, "u1"), np.zeros(3)), {}),
    ("copyto", (np.zeros(3, "f4"), np.zeros(3)), {"casting": "safe"}),
    ("copyto", (np.zeros(3), np.zeros(3)), {"casting": "nonsense"}),
    ("copyto", (READONLY, np.zeros(8)), {}),
    ("copyto", (np.zeros(3), np.zeros(3)), {"where": [True, False]}),
]


@pytest.mark.parametrize("call", BAD_CALLS, ids=lambda call: call[0])
def test_errors_are_numpys(call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> None:
    name, args, kwargs = call
    theirs = outcome(getattr(np, name), *args, **kwargs)
    assert isinstance(theirs, Exception)
    same(outcome(getattr(nds, name), *args, **kwargs), theirs)


@pytest.mark.parametrize("workers", [0, -1, -(1 << 70), 1 << 70])
def test_workers_must_be_a_number_that_can_work(workers: int) -> None:
    for call in (nds.concatenate, nds.stack, nds.block):
        with pytest.raises(ValueError, match=f"expected workers to be at least 1, got {workers}"):
            call([A34, A34], workers=workers)
    with pytest.raises(ValueError, match="leave it out"):
        nds.copyto(A34.copy(), A34, workers=workers)
    with pytest.raises(TypeError):
        nds.concatenate([A34, A34], workers="2")  # type: ignore[arg-type]


def test_blocks_along_other_axes_are_blocks_turned() -> None:
    rng = np.random.default_rng(4)
    tiles: Any = [[rng.integers(0, 99, (2 + row, 3 + column, 2)) for column in range(3)] for row in range(2)]
    expected = np.moveaxis(np.block([[np.moveaxis(tile, -1, 0) for tile in row] for row in tiles]), 0, -1)
    out = np.zeros(expected.shape, np.float64)
    assert nds.block(tiles, axes=(0, 1), out=out) is out
    for made in (nds.block(tiles, axes=(0, 1)), nds.block(tiles, axes=[-3, -2], workers=2), out):
        assert np.array_equal(made, expected)
    # What only NumPy does.
    listed = [[tile.tolist() for tile in row] for row in tiles]
    assert np.array_equal(nds.block([[tile.astype("O") for tile in row] for row in tiles], axes=(0, 1)), expected)
    assert np.array_equal(nds.block(tiles[0], axes=(1,)), np.concatenate(tiles[0], axis=1))
    for axes, told in (((0,), "expected"), ((0, 1, 2), "expected"), ((0, 3), "out of bounds")):
        with pytest.raises(ValueError, match=told):
            nds.block(tiles, axes=axes)
    with pytest.raises(ValueError, match="expected"):
        nds.block(listed, axes=(0, 1))
    with pytest.raises(ValueError, match="must match exactly"):
        nds.block([[A34, A34], [A34, A43]], axes=(0, 1))


def test_blocks_need_an_output_of_their_shape() -> None:
    with pytest.raises(ValueError, match=re.escape("expected (3, 8), got (8, 3)")):
        nds.block([A34, A34], out=np.zeros((8, 3)))
    with pytest.raises(TypeError, match="expected out to be an ndarray, got list"):
        nds.block([A34, A34], out=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Cannot cast"):
        nds.block([A34, A34], out=np.zeros((3, 8), np.int16))
    out = np.zeros((1, 5))
    assert nds.block([[A34[:1] + 1, 2]], out=out) is out
    assert out.sum() == 6


def test_where_is_numpys() -> None:
    ours, theirs = np.zeros((20, 30)), np.zeros((20, 30))
    where = np.arange(30) % 3 == 0
    nds.copyto(ours, np.arange(30), where=where)
    np.copyto(theirs, np.arange(30), where=where)
    assert np.array_equal(ours, theirs)
    nds.copyto(ours, 5, "same_kind", True)
    assert (ours == 5).all()
    for nowhere in (None, False, np.False_, 0):
        nds.copyto(ours, 6, where=nowhere)  # type: ignore[arg-type]
        assert (ours == 5).all()


# ---- large ones -----------------------------------------------------------------------------------------------------


def test_a_montage_is_right_with_every_number_of_workers(cpu: str, stores: str) -> None:
    images = [np.full((256, 300, 4), i, np.uint8) for i in range(20)]
    for workers_ in (None, 1, 2, 3, 7):
        out = nds.zeros((256, 6000, 4), np.uint8)
        nds.concatenate(images, axis=1, out=out, workers=workers_)
        assert (out == np.repeat(np.arange(20, dtype=np.uint8), 300)[None, :, None]).all()


def test_detector_frames_are_cast_into_one_image_with_gaps(cpu: str, stores: str) -> None:
    rng = np.random.default_rng(80)
    modules = rng.integers(0, 1 << 16, (4, 6, 64, 32), np.uint16)
    out, expected = np.full((6, 150, 90), -1, np.float32), np.full((6, 150, 90), -1, np.float32)
    for i, module in enumerate(modules):
        y, x = i // 2 * 70, i % 2 * 45
        nds.copyto(out[:, y : y + 64, x : x + 32], module, workers=2)
        expected[:, y : y + 64, x : x + 32] = module
    assert np.array_equal(out, expected)


def test_nothing_is_allocated_when_the_output_is_reused() -> None:
    modules = np.ones((16, 8, 512, 128), np.uint16)
    out = np.zeros((8, 1300, 1300), np.float32)
    images = [np.zeros((64, 64, 4), np.uint8) for _ in range(50)]
    strip = np.zeros((64, 64 * 50, 4), np.uint8)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for module in modules:
            nds.copyto(out[:, 100:612, 3:131], module)
        nds.concatenate(images, axis=1, out=strip)
        assert tracemalloc.get_traced_memory()[1] - before < 16 << 10
    finally:
        tracemalloc.stop()


def test_ten_thousand_tiles_make_a_grid(stores: str) -> None:
    tiles = [[np.full((8, 8), (i + j) % 251, np.uint8) for j in range(100)] for i in range(100)]
    out = nds.zeros((800, 800), np.uint8)
    assert np.array_equal(nds.block(tiles, out=out), np.block(tiles))


# ---- threads, processes, signals ------------------------------------------------------------------------------------


def test_n_workers_are_n_threads() -> None:
    out = run(
        """
        import os, numpy as np, ndshare as nds
        a, out = np.ones((64, 1 << 20), np.uint8), np.zeros((1 << 20, 64), np.uint8)
        count = lambda: len(os.listdir("/proc/self/task"))
        before = count()
        nds.copyto(out.T, a, workers=1)
        assert count() == before
        nds.copyto(out.T[:, :1000], a[:, :1000])  # small: stays here
        assert count() == before
        nds.copyto(out.T, a, workers=4)
        assert count() == before + 3, count()
        assert (out == 1).all()
        """
    )
    out.clean()


def test_threads_call_it_at_once() -> None:
    rng = np.random.default_rng(90)
    images = [rng.integers(0, 256, (300, 400, 3), np.uint8) for _ in range(8)]
    expected = np.concatenate(images, axis=1)
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(15):
            if not np.array_equal(nds.concatenate(images, axis=1, workers=1 + (number + i) % 4), expected):
                wrong.append(number)

    crew = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert wrong == []


def test_a_fork_between_calls_leaves_both_usable_and_warns_nobody() -> None:
    done = run(
        """
        import os, numpy as np, ndshare as nds
        a = np.arange(3 << 20, dtype=np.uint8).reshape(3, -1)
        def ok():
            return np.array_equal(nds.concatenate([a, a], axis=1, workers=3), np.concatenate([a, a], axis=1))
        for round in range(20):
            assert ok()
            assert len(os.listdir("/proc/self/task")) > 1
            pid = os.fork()
            if pid == 0:
                os._exit(0 if ok() and ok() else 1)
            assert ok()
            assert os.waitpid(pid, 0)[1] == 0, round
        """,
        flags=("-W", "error"),
    )
    done.clean()


def test_a_fork_during_calls_of_other_threads_leaves_both_usable() -> None:
    done = run(
        """
        import os, threading, warnings, numpy as np, ndshare as nds
        warnings.simplefilter("ignore")  # Python's own threads are reason enough for a warning
        a = np.arange(3 << 20, dtype=np.uint8).reshape(3, -1)
        expected = np.concatenate([a, a], axis=1)
        stop, wrong = False, []
        def ok():
            return np.array_equal(nds.concatenate([a, a], axis=1, workers=3), expected)
        def busy():
            while not stop:
                if not ok():
                    wrong.append(1)
        crew = [threading.Thread(target=busy) for _ in range(3)]
        for thread in crew:
            thread.start()
        for round in range(40):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if ok() and ok() else 1)
            assert os.waitpid(pid, 0)[1] == 0, round
            assert ok()
        stop = True
        for thread in crew:
            thread.join()
        assert wrong == []
        """
    )
    done.clean()


def test_ctrl_c_ends_a_long_copy_and_leaves_the_pool_usable() -> None:
    done = run(
        """
        import signal, time, numpy as np, ndshare as nds
        a = np.broadcast_to(np.arange(1 << 16, dtype=np.uint8)[:, None], (1 << 16, 1 << 14))
        out = np.empty((1 << 14, 1 << 16), np.uint8).T  # 1 GiB, never touched: slow
        for workers in (1, 2, 2):
            signal.signal(signal.SIGALRM, lambda *_: (globals().update(at=time.process_time()), signal.raise_signal(2)))
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                nds.copyto(out[::-1, ::-1], a, workers=workers)
            except KeyboardInterrupt:
                print(time.process_time() - at)
            b = np.ones((3, 1 << 20))
            assert (nds.concatenate([b, b], workers=3) == 1).all()
        """
    )
    # Processor time, which does not pass while others are at work: how much was done after the key was struck.
    waits = [float(line) for line in done.clean().split()]
    assert len(waits) == 3
    assert max(waits) < 1.0


def test_an_exception_leaves_the_pool_usable() -> None:
    b = np.ones((3, 1 << 20))
    for _ in range(3):
        with pytest.raises(ValueError, match="must match exactly"):
            nds.concatenate([b, b[:, :5]], workers=2)
        assert (nds.concatenate([b, b], workers=2) == 1).all()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("look", ["look_at_canvas", "look_at_locked_canvas"])
def test_a_reader_never_sees_an_old_byte_of_a_finished_canvas(look: str) -> None:
    """The reader waits for a word that is stored right after the call, or for a lock: the bytes must be there."""
    rounds = 10_000
    canvas, clock = nds.zeros((64, 4096), np.uint8), nds.zeros(2, np.int64)
    tiles = nds.zeros((4, 64, 1024), np.uint8)
    reader = mp.get_context("fork").Process(target=getattr(workers, look), args=(canvas, clock, rounds))
    reader.start()
    _native.set_stream_from(1)
    try:
        for i in range(1, rounds + 1):
            tiles[:] = i % 251
            with nds.locked(canvas) if "locked" in look else nullcontext():
                nds.concatenate(list(tiles), axis=1, out=canvas, workers=1 + i % 2)
                clock[0] = i
            while clock[1] != i and reader.is_alive() and "locked" not in look:
                time.sleep(0)
    finally:
        _native.set_stream_from()
    reader.join(HANG)
    assert reader.exitcode == 0
    assert clock[1] == rounds


# ---- settings -------------------------------------------------------------------------------------------------------


def test_the_cpu_and_the_threshold_can_be_set_from_outside() -> None:
    source = """
        import numpy as np, ndshare as nds
        from ndshare import _native
        a = np.arange(100_000.0)
        assert (nds.concatenate([a, a])[100_000:] == a).all()
        print(_native.stream_from())
    """
    for name in _native.cpus():
        done = run(source, env=environment(NDSHARE_CPU=name, NDSHARE_STREAM_FROM="12 MiB"))
        assert done.clean() == f"{12 << 20}\n"
    done = run(source, env=environment(NDSHARE_CPU="quantum"))
    assert done.code == 1
    assert "expected NDSHARE_CPU to be one of scalar" in done.err
    done = run(source, env=environment(NDSHARE_STREAM_FROM="much"))
    assert "NDSHARE_STREAM_FROM: expected a size" in done.err


def test_the_threshold_follows_the_cache() -> None:
    assert 1 << 15 <= _native.stream_from() <= 1 << 31
    _native.set_stream_from(5)
    assert _native.stream_from() == 5
    _native.set_stream_from()
    assert _native.stream_from() > 5
    with pytest.raises(ValueError, match="expected NDSHARE_CPU"):
        _native.force_cpu("z80")
