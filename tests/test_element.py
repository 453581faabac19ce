"""What items are: every dtype that NumPy has of its own, and bfloat16, keep their meaning wherever arrays go."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import ndshare as nds
from helpers import Puppet

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

DTYPES = [
    *(np.dtype(code) for code in "?bBhHiIlLqQefdgFDG"),
    *(np.dtype(code).newbyteorder() for code in "hHiIlLefdgFDG"),
    *map(np.dtype, ["S5", "U3", ">U3", "V7", "M8[ns]", ">M8[25s]", "m8[D]", "M8"]),
    np.dtype([("time", "i8"), ("gain", "f4", (3, 2)), ("nested", [("x", "u1"), ("y", ">i2")])]),
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
    np.dtype({"names": ["a", "b"], "formats": ["u4", "u2"], "offsets": [0, 2], "itemsize": 12}),
    np.dtype([(("a title", "it's"), "f4"), ("\u00e9\n", "S3")]),
    BFLOAT16,
    np.dtype([("a", BFLOAT16), ("b", "f4")]),
]


def filled(dtype: np.dtype[Any], shape: tuple[int, ...] = (3, 4)) -> np.ndarray[Any, Any]:
    """Return a shared array with bytes that are all different; every one is a valid item."""
    a = nds.zeros(shape, dtype)
    raw = a.reshape(-1).view("u1")
    raw[...] = np.arange(raw.size) % 2 if dtype.kind in "?U" else np.arange(raw.size) % 100
    return a


def contents(a: np.ndarray[Any, Any]) -> list[bytes]:
    """Return the bytes of all items, but for the holes of a structure, which a copy need not keep."""
    if a.dtype.names is None:
        return [a.tobytes()]
    return [part for name in a.dtype.names for part in contents(a[name])]


def through_multiprocessing(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return ForkingPickler.loads(bytes(ForkingPickler.dumps(a)))


def through_a_text(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return nds.ref(str(nds.ref(a))).open()


def through_a_ring(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    ring = nds.Ring(slots=2)
    reader = ring.reader()
    ring.put(a)
    return reader.get(timeout=5).view(np.ndarray)


def through_a_ring_of_its_own(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    ring = nds.Ring(a.shape, a.dtype, slots=2)
    reader = ring.reader()
    ring.put(a)
    return reader.get(timeout=5).view(np.ndarray)


def through_a_cache(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    cache = nds.Cache("4 MiB")
    cache["a"] = a
    return cache["a"]


WAYS = [through_multiprocessing, through_a_text, through_a_ring, through_a_ring_of_its_own, through_a_cache]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_keeps_its_meaning(way: Any, dtype: np.dtype[Any]) -> None:
    a = filled(dtype)
    got = way(a)
    assert (got.dtype, got.shape) == (dtype, a.shape)
    assert got.dtype.isalignedstruct == dtype.isalignedstruct
    assert contents(got) == contents(a)
    assert nds.is_shared(got)


def test_bfloat16_is_opened_by_another_process() -> None:
    a = filled(BFLOAT16)
    with Puppet() as puppet:
        back = puppet.do("echo", a)
    assert (back.dtype, back.tobytes()) == (BFLOAT16, a.tobytes())
    assert np.shares_memory(back, a)


@pytest.mark.parametrize("other", [BFLOAT16, np.dtype("f4"), np.dtype("f8")], ids=str)
def test_bfloat16_is_gathered_as_numpy_gathers_it(other: np.dtype[Any]) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(64, 33)).astype(BFLOAT16)
    b = rng.normal(size=(64, 20)).astype(other)
    expected = np.concatenate([a, b], axis=1)
    got = nds.concatenate([a, b], axis=1)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    out = nds.empty(expected.shape, np.float64)
    np.testing.assert_array_equal(nds.concatenate([a, b], axis=1, out=out), expected.astype(float))


def test_every_bfloat16_becomes_the_same_float() -> None:
    a = np.arange(1 << 16, dtype=np.uint16).view(BFLOAT16)
    out = nds.empty(a.shape, np.float32)
    nds.copyto(out, a)
    np.testing.assert_array_equal(out, a.astype(np.float32))


def test_bfloat16_without_its_library_is_an_error_that_names_it() -> None:
    a = filled(BFLOAT16)
    data = bytes(ForkingPickler.dumps(a))
    code = "import sys, pickle; sys.modules['ml_dtypes'] = None; pickle.loads(bytes.fromhex(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ml_dtypes" in done.stderr.splitlines()[-1]


def test_numbers_are_cast_into_a_bfloat16_ring_as_into_one_of_floats() -> None:
    ring = nds.Ring((3,), BFLOAT16, slots=2)
    reader = ring.reader()
    for numbers in ([1, 2, 3], np.array([1, 2, 3], "f8")):
        ring.put(numbers)
        assert reader.get(timeout=5).astype(float).tolist() == [1, 2, 3]


def test_a_number_with_fields_keeps_them_or_is_refused() -> None:
    """Its fields were lost on the way, which nobody was told."""
    both = np.dtype(("i4", [("low", "u2"), ("high", "u2")]))
    a = nds.zeros(3, both)
    assert through_multiprocessing(a).dtype.names == ("low", "high")
    for way in (through_a_text, through_a_cache):
        with pytest.raises(TypeError, match="both"):
            way(a)


# ---- rings that say themselves what they carry ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_ring_opened_by_its_head_alone_is_the_same(dtype: np.dtype[Any]) -> None:
    ring = nds.Ring((3, 4), dtype, slots=2, name="cam", meta=[("gain", "f4"), ("said", "S5")])
    text = str(nds.ref(ring))
    same = nds.ref(text).open()
    assert (repr(same), same.shape, same.dtype) == (repr(ring), (3, 4), dtype)
    assert same.dtype.isalignedstruct == dtype.isalignedstruct
    reader = same.reader()
    a = filled(dtype)
    ring.put(a, gain=2.5, said=b"x")
    frame = reader.get(timeout=5)
    assert (contents(frame.view(np.ndarray)), frame.meta.gain, frame.meta.said) == (contents(a), 2.5, b"x")


def test_a_shapeless_ring_opened_by_its_head_takes_anything() -> None:
    same = nds.ref(str(nds.ref(ring := nds.Ring(slots=2)))).open()
    reader = same.reader()
    for a in (filled(BFLOAT16), filled(DTYPES[-2], (2,))):
        ring.put(a)
        assert reader.get(timeout=5).tobytes() == a.tobytes()


def test_a_reference_to_a_ring_is_stale_when_nobody_has_it() -> None:
    reference = nds.ref(nds.Ring((2,), np.uint8, slots=2))
    text = str(reference)
    assert repr(reference).startswith("<Ref ring, block ")
    assert isinstance(nds.ref(text).open(), nds.Ring)
    del reference
    with pytest.raises(nds.Stale):
        nds.ref(text).open()


def test_a_dtype_that_a_head_cannot_keep_goes_by_multiprocessing_alone() -> None:
    noted = np.dtype("f4", metadata={"unit": "V"})
    ring = nds.Ring((2,), noted, slots=2)
    with pytest.raises(TypeError, match="metadata"):
        nds.ref(ring)
    same = ForkingPickler.loads(bytes(ForkingPickler.dumps(ring)))
    assert same.dtype.metadata == {"unit": "V"}


def test_a_name_is_bounded() -> None:
    assert nds.ref(str(nds.ref(ring := nds.Ring(slots=1, name="\u00e9" * 120)))).open().name == ring.name
    with pytest.raises(ValueError, match="240 bytes"):
        nds.Ring(slots=1, name="\u00e9" * 121)
