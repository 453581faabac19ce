"""Caches: keys, values, loads by one and waits by others, what is kept, what goes, and what deaths leave."""

from __future__ import annotations

import collections
import copy
import enum
import gc
import multiprocessing as mp
import os
import pickle
import random
import signal
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import cache_workers as workers
import ndshare as nds
from helpers import HANG, ROUNDS, Puppet, child, held, note_pause, run, settle, wait_until
from ndshare import _cache, _native

Array = np.ndarray[Any, Any]
POINTS: tuple[str, ...] = tuple(p for p in _native.KILL_POINTS if p.startswith(("cache:", "name:", "root:")))
FORK = mp.get_context("fork")
KIB = 1 << 10


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def tile(number: int, size: int = KIB) -> Array:
    return np.full(size, number % 251, np.uint8)


# ---- a mapping ------------------------------------------------------------------------------------------------------


def test_a_mapping() -> None:
    cache = nds.Cache("1 MiB")
    cache["a"] = [1, 2, 3]
    cache["b"] = np.eye(2)
    assert (cache["a"] == [1, 2, 3]).all()
    assert ("a" in cache, "c" in cache, len(cache), sorted(cache)) == (True, False, 2, ["a", "b"])
    assert cache.get("c") is None
    assert cache.get("c", 7) == 7
    assert cache.get("b", 7).shape == (2, 2)
    del cache["a"]
    for call in (lambda: cache["a"], lambda: cache.__delitem__("a"), lambda: cache.fetch(("x", 1))):
        with pytest.raises(KeyError) as raised:
            call()
    assert raised.value.args == (("x", 1),)
    cache.clear()
    assert (len(cache), list(cache), bool(cache)) == (0, [], False)


def test_what_a_cache_is() -> None:
    cache = nds.Cache(1 << 20, len, entries=300)
    assert (cache.maxsize, cache.load, cache.name) == (1 << 20, len, None)
    assert repr(cache) == "<Cache 0 values, 0 B of 1 MiB, 0 pinned>"
    cache[1] = np.zeros(2000, np.uint8)
    kept = cache[1]
    assert repr(cache) == "<Cache 1 value, 2 KiB of 1 MiB, 1 pinned>"
    del kept
    names = (
        "hits misses loads failures waits evictions uncached given_way expired entries pinned bytes table_bytes maxsize"
    )
    assert list(cache.info()) == names.split()
    assert type(cache.info()) is dict


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((0,), ValueError), ((-1,), ValueError), (("much",), ValueError), ((1.5,), TypeError), ((None,), TypeError),
        ((1 << 70,), ValueError), ((1000, 5), TypeError), (("1 TiB", None, "odd"), TypeError),
    ],
)  # fmt: skip
def test_bad_arguments(args: Any, error: Any) -> None:
    with pytest.raises(error):
        nds.Cache(*args)


@pytest.mark.parametrize("entries", [0, -1, 1 << 40])
def test_bad_numbers_of_entries(entries: int) -> None:
    with pytest.raises(ValueError, match="entries"):
        nds.Cache("1 MiB", entries=entries)


# ---- keys -----------------------------------------------------------------------------------------------------------


class Colour(enum.IntEnum):
    RED = 1


class Side(enum.Enum):
    LEFT = 1
    RIGHT = "right"


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Open(enum.Flag, boundary=enum.KEEP):
    READ = enum.auto()


class Word(str):
    __slots__ = ()


Point = collections.namedtuple("Point", "x y")

LEAVES = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.booleans(),
    st.integers(0, 255).map(np.uint8),
    st.integers(-5, 5).map(np.int64),
    st.booleans().map(np.bool_),
    st.floats(allow_nan=False),
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False, width=32).map(np.float32),
    st.none(),
    st.just(...),
    st.uuids(),
    st.sampled_from([*Colour, *Side, *Access, Access.READ | Access.WRITE]),
    st.text("ab/.", max_size=5).map(Path),
    # Of a share's name without the share pathlib forgets a backslash: the key is refused.
    st.text("aB\\\\:", max_size=5).map(PureWindowsPath).filter(lambda path: PureWindowsPath(str(path)) == path),
)
ANY_KEY = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)


@given(st.lists(st.tuples(ANY_KEY, st.integers(0, 250)), max_size=20))
def test_keys_are_equal_when_those_of_a_dict_are(items: list[tuple[Any, int]]) -> None:
    cache, twin = nds.Cache("1 MiB"), {}
    for key, number in items:
        cache[key] = np.uint8(number)
        twin[key] = number
    assert {key: int(cache[key]) for key in cache} == twin
    assert all(int(cache[key]) == twin[key] for key, _ in items)


def test_a_span_of_time_is_no_key() -> None:
    """It passed for an integer of NumPy's, and was an AttributeError."""
    cache = nds.Cache("1 MiB")
    for key in (np.timedelta64(1, "D"), (1, np.timedelta64(1, "s"))):
        with pytest.raises(TypeError):
            cache[key] = np.uint8(1)
        with pytest.raises(TypeError):
            cache.get(key)


def test_a_path_that_is_another_one_when_it_is_read_again_is_no_key() -> None:
    """It was stored, and what came out of iteration was not the key that had been stored."""
    path = PureWindowsPath("\\\\a\\")
    if PureWindowsPath(str(path)) == path:
        pytest.skip("this Python's pathlib reads it back")
    cache = nds.Cache("1 MiB")
    with pytest.raises(TypeError, match="read from its text"):
        cache[path] = np.uint8(1)
    assert len(cache) == 0


def test_odd_keys() -> None:
    cache = nds.Cache("1 MiB")
    pairs = [
        (True, 1), (Colour.RED, 1), (Word("a"), "a"), (np.str_("a"), "a"), (np.bytes_(b"a"), b"a"),
        (Point(1, "b"), (1, "b")), ("\ud800", "\ud800"), (2**63, np.uint64(2**63)), (-(2**63), np.int64(-(2**63))),
        (1.0, 1), (-0.0, 0), (1e300, int(1e300)), (np.float32(0.1), float(np.float32(0.1))), (np.float64(2.5), 2.5),
        (Path("a/b"), PurePosixPath("a/b")), (PureWindowsPath("A"), PureWindowsPath("a")),
        (Path("\ud800"), Path("\ud800")), (uuid.UUID(int=5), uuid.UUID(int=5)),
    ]  # fmt: skip
    for number, (one, other) in enumerate(pairs):
        cache[one] = number
        assert cache[other] == number
    different = ["1", b"1", 1, ("1",), ((1,),), (), ((),), ("", ""), ("a", "b"), ("ab",), ("a", ("b",)), "", b"", 2**64]
    different += [
        None,
        ...,
        1.5,
        float("inf"),
        -float("inf"),
        (None,),
        Path("1"),
        PureWindowsPath("1"),
        Side.LEFT,
        Side.RIGHT,
    ]
    different += [
        uuid.UUID(int=1),
        uuid.UUID(int=1).bytes,
        str(uuid.UUID(int=1)),
        Access.READ,
        Access.READ | Access.WRITE,
    ]
    cache.clear()
    for number, key in enumerate(different):
        cache[key] = number
    assert [int(cache[key]) for key in different] == list(range(len(different)))


@pytest.mark.parametrize(
    "key", [[1], bytearray(b"x"), {1}, object(), ("a", 1j), np.longdouble(1), 1j, ([],), slice([], None), range(3)]
)
def test_wrong_keys(key: Any) -> None:
    cache = nds.Cache("1 MiB", lambda _: np.zeros(1))
    calls = [cache.__getitem__, cache.get, cache.fetch, cache.__contains__, cache.__delitem__]
    for call in [*calls, lambda key: cache.__setitem__(key, 1), lambda key: cache.fetch_many([1, key])]:
        with pytest.raises(TypeError, match="expected a key"):
            call(key)
    assert cache.info()["misses"] == 0


def test_nan_is_no_key() -> None:
    cache = nds.Cache("1 MiB", np.zeros)
    for key in (float("nan"), ("a", np.float32("nan"))):
        with pytest.raises(ValueError, match="NaN"):
            cache[key]


def test_slices_are_keys_also_where_they_have_no_hash() -> None:
    """What one writes in brackets: rows and columns of a large image."""
    cache = nds.Cache("1 MiB", lambda key: np.zeros((key[0].stop - key[0].start, 3), np.uint8))
    assert cache[0:5, ...].shape == (5, 3)
    assert cache[0:5, ...].base is not None
    assert cache.info()["loads"] == 1
    assert cache[0:5:2, ...].shape == (5, 3)
    assert cache.info()["loads"] == 2
    keys = list(cache)
    assert sorted(map(repr, keys)) == ["(slice(0, 5, 2), Ellipsis)", "(slice(0, 5, None), Ellipsis)"]
    many = cache.fetch_many([(slice(0, 2), 1), (slice(0, 2), 1), (slice(0, 3), 1)])
    assert [len(array) for array in many] == [2, 2, 3]
    assert cache.info()["loads"] == 4


def test_an_enum_of_a_function_has_no_name_for_others() -> None:
    class Local(enum.Enum):
        A = 1

    with pytest.raises(TypeError, match="move its class to a module"):
        nds.Cache("1 MiB")[Local.A] = 1


def test_keys_of_an_enum_that_is_not_there_are_an_error_and_no_import() -> None:
    for parts in [
        ("no.such.module", "A", "B"),
        ("os", "environ", "B"),
        ("os", "path.join", "x"),
        (__name__, "Side", "UP"),
    ]:
        with pytest.raises((ValueError, KeyError)):
            _cache.key_of(ord("e"), parts)
    assert "no.such.module" not in sys.modules


def test_a_flag_with_bits_that_no_member_has_comes_back() -> None:
    """The keys of such a cache could not be gone through: KeyError '8'."""
    cache = nds.Cache("1 MiB")
    cache[Open(9)] = np.zeros(1)
    assert list(cache) == [Open(9)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_names_of_keys_are_the_same_in_another_process(method: str) -> None:
    keys = [None, True, 2.5, Side.LEFT, Path("a"), uuid.UUID(int=3), (slice(1, None), ...), Access.READ | Access.WRITE]
    cache = nds.Cache("1 MiB", np.zeros)
    for number, key in enumerate(keys):
        cache[key] = number
    context = mp.get_context(method)
    mine, theirs = context.Pipe()
    process = context.Process(target=workers.find_all, args=(cache, keys, theirs))
    process.start()
    assert mine.poll(HANG)
    assert mine.recv() == list(range(len(keys)))
    process.join(HANG)


def test_long_keys() -> None:
    cache = nds.Cache("1 MiB")
    long, longer = "x" * 5000, "x" * 4999 + "y"
    cache[long], cache[longer] = 1, 2
    assert (cache[long], cache[longer], set(cache)) == (1, 2, {long, longer})
    with pytest.raises(ValueError, match="digest"):
        cache["x" * 70000] = 1
    nested: Any = ()
    for _ in range(60):
        nested = (nested,)
    cache[nested] = 3
    assert cache[nested] == 3
    with pytest.raises(ValueError, match="tuples"):
        cache[(((((nested,),),),),)]


# ---- values ---------------------------------------------------------------------------------------------------------

STRUCT = np.dtype([("x", "<f4"), ("y", ">i2", (3,)), ("z", "S5")])
MANY = np.dtype([(f"a field with a long name {number}", "<f8") for number in range(30)])
VALUES = [
    np.arange(12).reshape(3, 4), np.asfortranarray(np.arange(12).reshape(3, 4)), np.float32(2.5), np.zeros((0, 3)),
    np.arange(10)[::-2], np.array(["a", "bcd"]), np.array([b"a", b"bcd"]), np.zeros(3, STRUCT), np.zeros(2, MANY),
    np.array(["2020-01-01"], "M8[D]"), np.arange(6, dtype=">i4"), np.broadcast_to(np.arange(3), (4, 3)),
    np.array([True, False]), np.zeros((2,) * 20), np.array([1 + 2j]), np.zeros(3, "V7"),
]  # fmt: skip


@pytest.mark.parametrize("way", ["store", "load"])
@pytest.mark.parametrize("value", VALUES, ids=[f"{v.dtype.kind}{v.shape}" for v in VALUES])
def test_values_come_back_as_they_are(value: Any, way: str) -> None:
    cache = nds.Cache("1 MiB", lambda _: value)
    if way == "store":
        cache[1] = value
    for _ in range(2):
        got = cache[1]
        assert type(got) is np.ndarray
        assert (got.dtype, got.shape) == (value.dtype, value.shape)
        assert np.array_equal(got, value)
        assert nds.is_shared(got)
        assert not got.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            got.flags.writeable = True
    assert np.asarray(value).flags.f_contiguous <= got.flags.f_contiguous


def test_subclasses_become_plain() -> None:
    cache = nds.Cache("1 MiB", lambda _: np.ma.masked_array([1, 2], [0, 0]))
    assert type(cache[1]) is np.ndarray
    cache[2] = np.array([(1,)], [("a", "i4")]).view(np.recarray)
    assert type(cache[2]) is np.ndarray
    assert cache[2]["a"] == 1


# ---- keys of files --------------------------------------------------------------------------------------------------


def test_a_key_of_a_file_changes_with_the_file(tmp_path: Path) -> None:
    cache = nds.Cache("1 MiB", load=lambda key: np.frombuffer(Path(key[0]).read_bytes(), np.uint8))
    path = tmp_path / "image"
    path.write_bytes(b"abc")
    key = nds.file_key(path)
    assert key == nds.file_key(str(path)) == nds.file_key(os.path.relpath(path))
    assert (key[0], nds.file_key(path, 3, "page")) == (str(path), (*key, 3, "page"))
    assert bytes(cache[key]) == bytes(cache[nds.file_key(path)]) == b"abc"
    assert cache.info()["loads"] == 1
    facts = path.stat()
    # Of the same time, but longer.
    path.write_bytes(b"abcd")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert bytes(cache[nds.file_key(path)]) == b"abcd"
    # As long, and later.
    path.write_bytes(b"abce")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert bytes(cache[nds.file_key(path)]) == b"abce"
    # Replaced by another file of the same time and length.
    other = tmp_path / "other"
    other.write_bytes(b"abcf")
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    other.replace(path)
    assert bytes(cache[nds.file_key(path)]) == b"abcf"
    assert cache.info()["loads"] == 4
    path.unlink()
    with pytest.raises(FileNotFoundError):
        nds.file_key(path)


@pytest.mark.parametrize("bad", [np.array([object()]), np.array(["a"], np.dtypes.StringDType()), [1, "a", None]])
def test_what_cannot_be_shared(bad: Any) -> None:
    cache = nds.Cache("1 MiB", lambda _: bad)
    with pytest.raises(TypeError, match="plain bytes"):
        cache[1]
    with pytest.raises(TypeError, match="plain bytes"):
        cache[1] = bad
    assert (cache.info()["failures"], len(cache)) == (1, 0)


@pytest.mark.parametrize(
    ("value", "got"), [(None, "None"), ([object()], "object"), ([[1], [1, 2]], r"\[\[1\], \[1, 2\]\]")]
)
def test_what_a_loader_returned_is_named_with_the_key(value: Any, got: str) -> None:
    """A loader returned None, because there was no such file, and the error spoke of dtype('O')."""
    cache = nds.Cache("1 MiB", lambda _: value)
    for call in (
        lambda: cache["tile 7"],
        lambda: cache.fetch_many(["tile 7"]),
        lambda: cache.__setitem__("tile 7", value),
    ):
        with pytest.raises(TypeError, match=f"tile 7.*{got}"):
            call()
    with pytest.raises(TypeError) as raised:
        cache["x" * 5000]
    assert len(str(raised.value)) < 1000
    assert "tile 7" not in cache


def test_those_who_wait_hear_which_key_had_no_value() -> None:
    cache = nds.Cache("1 MiB")
    told: list[BaseException] = []

    def load(_: Any) -> Any:
        wait_until(lambda: cache.info()["waits"] > 0)

    def ask() -> None:
        try:
            cache.fetch(("tile", 7), load)
        except Exception as error:
            told.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert sorted(type(error).__name__ for error in told) == ["LoadError", "TypeError"]
    assert all("('tile', 7)" in str(error) and "None" in str(error) for error in told)


def test_a_loaders_array_is_taken_without_a_copy() -> None:
    made: list[int] = []

    def load(key: int) -> Array:
        array = {0: np.empty, 1: nds.zeros, 2: lambda n, t: nds.empty((n // 8, 8), t, "F")}[key](8192, np.uint8)
        array[...] = key
        made.append(address(array))
        return array if key != 1 else array.reshape(2, -1)

    cache = nds.Cache("1 MiB", load)
    assert [address(cache[key]) for key in range(3)] == made
    assert [address(cache[key]) for key in range(3)] == made
    # A block that is used again, after other tests, is up to a quarter larger than what it is used for.
    assert 3 * 8192 <= cache.info()["bytes"] <= 3 * 8192 * 5 // 4


def test_a_loaders_array_turns_read_only() -> None:
    kept: list[Array] = []

    def load(_: int) -> Array:
        kept.append(nds.zeros(4096))
        return kept[0][:]

    cache = nds.Cache("1 MiB", load)
    value = cache[1]
    assert address(value) == address(kept[0])
    assert not kept[0].flags.writeable


def test_what_others_may_write_to_is_copied() -> None:
    """Another process, or another value: a block becomes a value only if nobody else has it."""
    shared = nds.zeros(4096, np.uint8)
    with child(workers.keep, shared):
        cache = nds.Cache("1 MiB", lambda _: shared)
        assert wait_until(lambda: any(p["pid"] != os.getpid() and p["bytes"] for p in nds.stats()["participants"]))
        assert address(cache[1]) != address(shared)
    assert shared.flags.writeable
    assert wait_until(lambda: not _others_hold())
    assert address(cache[2]) == address(shared)
    assert address(cache[3]) != address(shared), "it is a value already"


def _others_hold() -> bool:
    return any(p["pid"] != os.getpid() and p["bytes"] for p in nds.stats()["participants"])


def test_views_are_copied_and_bytes_are_real() -> None:
    large = nds.zeros((100, 1000), np.uint8)
    cache = nds.Cache("1 MiB", lambda key: large[key : key + 1])
    cache["stored"] = large[5:6]
    assert not np.shares_memory(cache[7], large)
    assert not np.shares_memory(cache["stored"], large)
    assert cache.info()["bytes"] == 2 * KIB
    assert large.flags.writeable
    cache["base"] = np.zeros(100_000, np.uint8)[:50]
    assert cache.info()["bytes"] == 3 * KIB


def test_what_stays_writable_is_copied_when_stored() -> None:
    cache = nds.Cache("1 MiB")
    own = nds.zeros(4096, np.uint8)
    cache[1] = own
    own[:] = 1
    assert not cache[1].any()
    view = own[:]
    view.flags.writeable = False
    cache[2] = view
    own[:] = 2
    assert (cache[2] == 1).all()
    own.flags.writeable = False
    cache[3] = own
    assert np.shares_memory(cache[3], own)
    cache[4] = cache[3]
    assert np.shares_memory(cache[4], own)
    cache[5] = cache[3][:100]
    assert not np.shares_memory(cache[5], own)


def test_frames_of_a_ring_become_values_as_they_are() -> None:
    ring = nds.Ring((64, 64), np.uint16, slots=2)
    reader = ring.reader()
    cache = nds.Cache("1 MiB")
    for number in range(20):
        with ring.write() as frame:
            frame[:] = number
        frame = reader.get()
        cache[number] = frame
        assert np.shares_memory(cache[number], frame)
        assert type(cache[number]) is np.ndarray
    assert [int(cache[number][0, 0]) for number in range(20)] == list(range(20))


def test_values_travel_by_reference() -> None:
    cache = nds.Cache("1 MiB")
    cache[1] = np.arange(1000)
    value = cache[1]
    sent = ForkingPickler.loads(ForkingPickler.dumps(value))
    assert np.shares_memory(sent, value)
    assert not sent.flags.writeable


def test_a_cache_in_an_arena() -> None:
    with nds.Arena("64 MiB") as arena:
        cache = nds.Cache("1 MiB", lambda key: np.full(8192, key), arena=arena)
        before = nds.stats()["bytes"]
        value = cache[5]
        assert nds.stats(arena)["bytes"] >= 65536
        assert nds.stats()["bytes"] == before
        cache[6] = nds.full(8192, 6.0)
        assert (cache[6] == 6).all()
        del value, cache
    assert settle(before) <= before


# ---- what is kept ---------------------------------------------------------------------------------------------------


def test_bytes_are_bounded() -> None:
    cache = nds.Cache(16 * KIB, tile)
    for number in range(100):
        assert (cache[number] == number).all()
        info = cache.info()
        assert info["bytes"] <= 16 * KIB
        assert info["bytes"] == KIB * info["entries"] == KIB * len(cache)
    assert info["evictions"] == 84


def test_a_value_that_somebody_looks_at_stays_as_it_is() -> None:
    cache = nds.Cache(8 * KIB, tile)
    pinned = [cache[number][100:] for number in range(4)]
    for number in range(4, 200):
        cache[number]
    assert cache.info()["pinned"] == 4
    assert all((view == number).all() for number, view in enumerate(pinned))
    assert all(np.shares_memory(cache.get(number), view) for number, view in enumerate(pinned))
    cache.clear()
    for number in range(300, 400):
        cache[number]
    assert all((view == number).all() for number, view in enumerate(pinned))
    pinned.clear()
    assert cache.info()["pinned"] == 0


def test_when_all_is_pinned_values_are_not_kept() -> None:
    cache = nds.Cache(4 * KIB, tile)
    pinned = [cache[number] for number in range(4)]
    for number in range(4, 8):
        assert (cache[number] == number).all()
        assert number not in cache
    cache["stored"] = tile(1)
    assert "stored" not in cache
    assert (cache.info()["uncached"], cache.info()["evictions"]) == (5, 0)
    del pinned
    assert (cache[9] == 9).all()
    assert 9 in cache


def test_what_is_too_large_is_not_kept() -> None:
    cache = nds.Cache(4 * KIB, lambda key: tile(key, 5 * KIB))
    cache[1] = tile(1)
    assert (cache[2] == 2).all()
    cache[1] = tile(1, 5 * KIB)
    assert (len(cache), cache.info()["uncached"]) == (0, 2)


def test_without_room_in_the_arena_values_are_not_kept() -> None:
    with nds.Arena("8 MiB") as arena:
        cache = nds.Cache("1 GiB", lambda key: np.full(1 << 20, key, np.uint8), entries=100, arena=arena)
        for number in range(40):
            assert (cache[number] == number).all()
            cache[-1 - number] = np.full(1 << 20, number, np.uint8)
        assert cache.info()["entries"] > 0
        kept = [cache[number] for number in range(40)]
        assert all((value == number).all() for number, value in enumerate(kept))
        assert cache.info()["uncached"] >= 32
        cache[3] = np.zeros(1 << 20, np.uint8)
        assert 3 not in cache, "the old value is not the key's any more"
        del kept, cache


def test_a_cache_gives_way_to_whoever_needs_memory() -> None:
    """A cache that was larger than its arena filled it, and everything else got ArenaFull."""
    with nds.Arena("64 MiB") as arena:
        cache = nds.Cache("1 GiB", lambda key: np.full(1 << 19, key % 251, np.uint8), name="tiles", arena=arena)
        work: dict[str, Callable[[], Any]] = {
            "zeros": lambda: nds.zeros(24 << 20, np.uint8, arena=arena),
            "ring": lambda: nds.Ring(4 << 20, "u1", slots=4, arena=arena).put(np.zeros(4 << 20, np.uint8)),
            "cache": lambda: nds.Cache("8 MiB", np.ones, arena=arena)[1 << 18],
        }
        for name, need in work.items():
            for number in range(150):
                assert (cache[number] == number).all()
            before = cache.info()
            assert before["uncached"] == 0
            held = need()
            assert cache.info()["given_way"] > before["given_way"], name
            del held
        pinned = [cache[number] for number in range(100)]
        with pytest.raises(nds.ArenaFull, match=r'"tiles" keeps .* of which 1 process looks at'):
            nds.zeros(40 << 20, np.uint8, arena=arena)
        assert all((array == number).all() for number, array in enumerate(pinned))
        assert (cache[7] == 7).all()
        del pinned, cache, work


def test_a_process_that_never_opened_the_cache_has_it_give_way() -> None:
    with nds.Arena("32 MiB") as arena:
        cache = nds.Cache("1 GiB", lambda _: np.zeros(1 << 19, np.uint8), arena=arena)
        for number in range(80):
            cache[number]
        mine, theirs = mp.get_context("spawn").Pipe()
        process = mp.get_context("spawn").Process(target=workers.allocate, args=(arena, 20 << 20, theirs))
        process.start()
        assert mine.poll(HANG)
        assert mine.recv() == 20 << 20
        assert cache.info()["given_way"] > 0
        process.join(HANG)
        del cache


def test_small_values_fill_the_budget() -> None:
    """There was a place for each 16 KiB only, so a cache of smaller values stayed half empty."""
    cache = nds.Cache("2 MiB", lambda _: np.zeros(4096, np.uint8))
    for number in range(2000):
        cache[number]
    info = cache.info()
    assert info["bytes"] >= 0.9 * info["maxsize"]
    assert info["bytes"] + info["table_bytes"] <= 1.07 * info["maxsize"]


def test_when_all_entries_are_pinned_values_are_not_kept() -> None:
    cache = nds.Cache("1 MiB", tile, entries=4)
    pinned = [cache[number] for number in range(4)]
    assert (cache[9] == 9).all()
    assert not cache[9].flags.writeable
    assert (9 in cache, cache.info()["uncached"]) == (False, 2)
    del pinned
    assert (cache[9] == 9).all()
    assert 9 in cache


# ---- values that grow old -------------------------------------------------------------------------------------------


def test_a_value_that_is_too_old_is_loaded_again() -> None:
    made = []

    def load(key: int) -> Array:
        made.append(key)
        return tile(len(made))

    cache = nds.Cache("1 MiB", load, ttl=0.2)
    assert cache.ttl == 0.2
    view = cache[1]
    wait_until(lambda: 1 not in cache)
    assert (len(cache), list(cache), cache.get(1)) == (0, [], None)
    with pytest.raises(KeyError):
        cache.age(1)
    assert (view == 1).all()
    assert (cache[1] == 2).all()
    assert (made, cache.info()["expired"]) == ([1, 1], 1)
    assert (view == 1).all(), "a view outlives its value"


def test_how_old_a_value_is() -> None:
    cache = nds.Cache("1 MiB", tile)
    assert cache.ttl is None
    with pytest.raises(KeyError) as raised:
        cache.age(("a", 1))
    assert raised.value.args == (("a", 1),)
    before = time.monotonic()
    cache[1]
    wait_until(lambda: cache.age(1) > 0.05)
    assert cache.age(1) <= time.monotonic() - before
    old = cache.age(1)
    cache[1] = tile(2)
    assert cache.age(1) < max(old, time.monotonic() - before)


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_bad_times_to_live(ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl"):
        nds.Cache("1 MiB", ttl=ttl)


def test_named_caches_have_one_ttl() -> None:
    cache = nds.Cache("1 MiB", ttl=5, name="fresh")
    assert nds.Cache("1 MiB", ttl=5.0, name="fresh").ttl == 5
    with pytest.raises(ValueError, match="a ttl of 5 s"):
        nds.Cache("1 MiB", name="fresh")
    assert nds.Cache("1 MiB", ttl=float("inf")).ttl is None
    del cache


def test_files_that_change(tmp_path: Path) -> None:
    """The idiom of the docs: the key of a file has its time and size."""
    path = tmp_path / "a.npy"

    def key_of(path: Path) -> tuple[Any, ...]:
        stat = path.stat()
        return path, stat.st_mtime_ns, stat.st_size

    cache = nds.Cache("1 MiB", lambda key: np.load(key[0]))
    np.save(path, np.arange(3))
    assert (cache[key_of(path)] == [0, 1, 2]).all()
    assert (cache[key_of(path)] == [0, 1, 2]).all()
    np.save(path, np.arange(4))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert (cache[key_of(path)] == [0, 1, 2, 3]).all()
    assert cache.info()["loads"] == 2


def test_entries_are_bounded_too() -> None:
    cache = nds.Cache("1 MiB", tile, entries=10)
    for number in range(50):
        cache[number]
    assert len(cache) == 10


def test_a_scan_leaves_the_hot_set() -> None:
    cache = nds.Cache(100 * KIB, tile)
    rng = np.random.default_rng(1)
    hot = lambda: int(rng.integers(60))  # noqa: E731

    def ratio(count: int) -> float:
        before = cache.info()
        for _ in range(count):
            cache[hot()]
        after = cache.info()
        hits, misses = (after[name] - before[name] for name in ("hits", "misses"))
        return hits / (hits + misses)

    ratio(2000)
    before = ratio(2000)
    for number in range(1000):
        cache["scan", number] = tile(number)
        for _ in range(2):
            cache[hot()]
    assert ratio(2000) >= before - 0.05


def test_memory_comes_back() -> None:
    before = held()
    cache = nds.Cache("4 MiB", tile)
    kept = cache[1]
    for number in range(500):
        cache[number]
    del cache
    assert (kept == 1).all()
    del kept
    assert settle(before) <= before


def test_a_loader_that_knows_its_cache_is_no_leak() -> None:
    before = held()

    class Reader:
        def __init__(self) -> None:
            self.cache = nds.Cache("1 MiB", self.load)

        def load(self, key: int) -> Array:
            return tile(key)

    reader = Reader()
    gone = weakref.ref(reader.cache)
    reader.cache[1]
    del reader
    gc.collect()
    assert gone() is None
    assert settle(before) <= before


# ---- loads ----------------------------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work in several threads; return what each returned or raised."""
    results: list[Any] = [None] * count

    def call(number: int) -> None:
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    return results


def test_one_loads_and_the_others_wait() -> None:
    calls: list[int] = []
    cache = nds.Cache("1 MiB")

    def load(key: int) -> Array:
        calls.append(key)
        assert wait_until(lambda: cache.info()["waits"] >= 5)
        return tile(key)

    results = in_threads(6, lambda _: cache.fetch(3, load))
    assert calls == [3]
    assert len({address(result) for result in results}) == 1
    info = cache.info()
    assert (info["loads"], info["misses"], info["waits"]) == (1, 1, 5)


def test_which_loader_is_asked() -> None:
    cache = nds.Cache("1 MiB", lambda key: np.array([key, 0]))
    assert cache.fetch(1)[1] == 0
    assert cache.fetch(2, lambda key: np.array([key, 1]))[1] == 1
    assert cache.fetch(1, lambda _: pytest.fail("it is there"))[1] == 0
    with pytest.raises(TypeError, match="function of a key"):
        cache.fetch(9, 5)
    key = ("a", np.int64(3))
    assert cache.fetch(key, lambda got: np.array(got is key))


def test_get_never_loads() -> None:
    cache = nds.Cache("1 MiB", lambda _: pytest.fail("loaded"))
    assert cache.get(1) is None
    assert 1 not in cache


def test_a_loader_that_raises() -> None:
    cache = nds.Cache("1 MiB")

    def load(_: Any) -> Array:
        assert wait_until(lambda: cache.info()["waits"] == 3)
        raise FileNotFoundError(2, "no such tile")

    results = in_threads(4, lambda _: cache.fetch("x", load))
    kinds = collections.Counter(type(result) for result in results)
    assert kinds == {FileNotFoundError: 1, nds.LoadError: 3}
    error = next(result for result in results if isinstance(result, nds.LoadError))
    assert (error.type_name, error.text) == ("FileNotFoundError", "[Errno 2] no such tile")
    assert isinstance(error, (nds.Error, RuntimeError))
    assert str(error).count("no such tile") == 1
    again = pickle.loads(pickle.dumps(error))
    assert (again.type_name, again.text, str(again)) == (error.type_name, error.text, str(error))
    assert cache.fetch("x", lambda _: np.ones(1)) == 1
    assert cache.info()["failures"] == 1


def test_odd_exceptions() -> None:
    cache = nds.Cache("1 MiB")

    class OddError(Exception):
        def __str__(self) -> str:
            raise InterruptedError

    def load(_: Any) -> Array:
        assert wait_until(lambda: cache.info()["waits"] == 1)
        raise OddError

    results = in_threads(2, lambda _: cache.fetch("x", load))
    assert {type(result) for result in results} == {OddError, nds.LoadError}
    (told,) = [result for result in results if isinstance(result, nds.LoadError)]
    assert told.type_name.endswith("OddError")
    long = nds.Cache("1 MiB", lambda _: (_ for _ in ()).throw(ValueError("é" * 5000)))
    with pytest.raises(ValueError, match="éééé"):
        long[1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_load_that_is_broken_off_is_taken_over(kind: type[BaseException]) -> None:
    cache = nds.Cache("1 MiB")
    first = threading.Event()

    def load(_: Any) -> Array:
        if first.is_set():
            return tile(1)
        first.set()
        assert wait_until(lambda: cache.info()["waits"] >= 2)
        raise kind

    results = in_threads(3, lambda _: cache.fetch("x", load))
    assert sorted(type(result).__name__ for result in results) == sorted([kind.__name__, "ndarray", "ndarray"])
    assert cache.info()["failures"] == 0


def test_a_load_inside_its_own_load() -> None:
    cache = nds.Cache("1 MiB")

    def load(key: int) -> Array:
        return cache.fetch(key + 1, load) + 1 if key < 3 else np.zeros(1) + cache.fetch(0, load)

    with pytest.raises(RuntimeError, match="loading the key already"):
        cache.fetch(0, load)
    assert len(cache) == 0
    deep = nds.Cache("1 MiB", lambda key: np.array(0 if key == 0 else deep[key - 1] + 1))
    assert deep[30] == 30


def test_a_load_that_is_overtaken() -> None:
    """Whoever stores meanwhile has the last word; the loader's caller gets what was loaded."""
    cache = nds.Cache("1 MiB")

    def load(_: Any) -> Array:
        cache["x"] = np.array([2])
        return np.array([1])

    assert cache.fetch("x", load) == 1
    assert cache["x"] == 2


def test_timeouts() -> None:
    cache = nds.Cache("1 MiB")
    go, begun = threading.Event(), threading.Event()

    def load(_: Any) -> Array:
        begun.set()
        go.wait(HANG)
        return tile(1)

    thread = threading.Thread(target=cache.fetch, args=("x", load))
    thread.start()
    begun.wait(HANG)
    try:
        for call in (
            lambda: cache.fetch("x", load, timeout=0),
            lambda: cache.fetch("x", load, timeout=0.01),
            lambda: cache.fetch_many(["x", "y"], lambda _: tile(2), timeout=0.05),
            lambda: cache.fetch_many(["x"], load, timeout=0.01),
        ):
            with pytest.raises(nds.Timeout, match=rf"is loaded by pid {os.getpid()} \(|not all keys were loaded"):
                call()
        assert cache.get("x") is None, "get waits for nobody"
    finally:
        go.set()
        thread.join(HANG)
    assert (cache.fetch("x", timeout=0) == 1).all()
    assert (cache.fetch("y", lambda _: tile(2), timeout=float("inf")) == 2).all()
    assert len(cache.fetch_many(range(3), tile, workers=2, timeout=1e30)) == 3
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            cache.fetch("x", timeout=bad)
        with pytest.raises(ValueError, match="timeout"):
            cache.fetch_many("x", timeout=bad)


def test_loaders_in_the_middle_of_allocating() -> None:
    """A loader's own scope is inside that of the cache."""

    def load(_: Any) -> Array:
        with nds.allocating(min_bytes=1):
            small = np.zeros(10)
        assert nds.is_shared(small)
        assert nds.is_shared(np.zeros(4096))
        return np.zeros(4096)

    cache = nds.Cache("1 MiB", load)
    assert nds.is_shared(cache[1])
    assert not nds.is_shared(np.zeros(4096))


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np, ndshare as nds
import cache_workers as workers
import helpers
import multiprocessing as mp

cache = nds.Cache("1 MiB")
loading = mp.get_context("fork").Process(target=workers.load_for_ever, args=(cache, "x"), daemon=True)
loading.start()
while cache.info()["misses"] == 0: time.sleep(0.001)

def strike():
    while cache.info()["waits"] == 0: time.sleep(0.001)
    # Where several threads load, one of them sleeps.
    while not any(helpers.sleeps(None, int(thread)) for thread in os.listdir("/proc/self/task")): time.sleep(0.001)
    global struck
    struck = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
try:
    CALL
except KeyboardInterrupt:
    print("interrupted")
loading.kill()
loading.join()
"""


@pytest.mark.parametrize(
    "call",
    [
        "cache.fetch('x', np.zeros)", "cache.fetch_many(['x', 'x'], np.zeros)",
        "cache.fetch_many(['x', 'y', 'z'], lambda _: np.zeros(3))",
    ],
)  # fmt: skip
def test_ctrl_c_ends_a_wait(call: str) -> None:
    assert run(INTERRUPTED.replace("CALL", call)).clean().strip() == "interrupted"


def test_ctrl_c_waits_until_the_threads_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python's Thread.start is not safe against it: a lock that the new thread needs may stay taken, and a program then
    # waits for that thread at its end. The test above hung once, with nothing printed.
    start, started = threading.Thread.start, list[threading.Thread]()

    def interrupted_start(thread: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(thread)
        started.append(thread)

    cache, handler = nds.Cache("1 MiB", tile), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        cache.fetch_many(range(6), workers=3)
    assert len(started) == 3
    assert signal.getsignal(signal.SIGINT) is handler
    for thread in started:
        thread.join()


# ---- many keys ------------------------------------------------------------------------------------------------------


def test_many_keys_come_in_their_order() -> None:
    calls: list[int] = []
    cache = nds.Cache("1 MiB", lambda key: calls.append(key) or tile(key))
    cache[5]
    keys = [9, 5, 3, 9, np.int64(3), 1, True]
    for workers_ in (None, 1, 3):
        values = cache.fetch_many(iter(keys), workers=workers_)
        assert [int(value[0]) for value in values] == keys
    assert sorted(calls) == [1, 3, 5, 9]
    assert cache.fetch_many([]) == []
    with pytest.raises(ValueError, match="workers"):
        cache.fetch_many([1], workers=0)


def test_many_keys_are_loaded_by_several_threads() -> None:
    barrier = threading.Barrier(3)
    seen: set[int] = set()

    def load(key: int) -> Array:
        barrier.wait(HANG)
        seen.add(threading.get_ident())
        return tile(key)

    cache = nds.Cache("1 MiB", load)
    before = threading.active_count()
    assert len(cache.fetch_many(range(6), workers=3)) == 6
    assert len(seen) == 3
    assert threading.active_count() == before


def test_progress() -> None:
    cache = nds.Cache("1 MiB", tile)
    cache[1]
    told: list[Any] = []
    cache.fetch_many([1, 2, 2, 3], progress=lambda *said: told.append((*said, threading.get_ident())))
    assert told[0][:2] == (1, 4)
    assert told[-1][:2] == (4, 4)
    assert [done for done, *_ in told] == sorted({done for done, *_ in told})
    assert {thread for *_, thread in told} == {threading.get_ident()}

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise InterruptedError

    for count in (1, 2):
        with pytest.raises(InterruptedError):
            cache.fetch_many(range(10 * count, 10 * count + 9), workers=count, progress=stop)


@pytest.mark.parametrize("count", [1, 2])
def test_one_of_many_fails(count: int) -> None:
    calls: list[int] = []

    def load(key: int) -> Array:
        calls.append(key)
        if key == 3:
            raise ValueError("three")
        return tile(key)

    cache = nds.Cache("1 MiB")
    before = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        cache.fetch_many(range(100), load, workers=count)
    assert len(calls) < 100
    assert threading.active_count() == before
    with pytest.raises(KeyError):
        cache.fetch_many([1, "no"], workers=count)


# ---- other processes ------------------------------------------------------------------------------------------------


def test_a_cache_goes_to_a_process(method: str) -> None:
    context = mp.get_context(method)
    cache = nds.Cache("1 MiB", workers.load)
    cache["mine"] = np.arange(10)
    mine, theirs = context.Pipe()
    with child(workers.use, cache, theirs, context=context):
        theirs.close()
        assert mine.poll(HANG)
        assert mine.recv() == (45, 70, 2)
        assert (cache["loaded there"] == 7).all()
        assert cache.info()["loads"] == 1
        mine.send("end")
    mine.close()


def test_a_cache_in_a_queue_and_back() -> None:
    nds.reclaim()
    cache = nds.Cache("1 MiB", workers.load, name="sent")
    same = ForkingPickler.loads(ForkingPickler.dumps(cache))
    assert (same.load, same.name, same.maxsize) == (workers.load, "sent", 1 << 20)
    same[1] = np.arange(3)
    assert (cache[1] == [0, 1, 2]).all()
    assert np.shares_memory(cache[1], same[1])
    with pytest.raises((pickle.PicklingError, AttributeError)):
        ForkingPickler.dumps(nds.Cache("1 MiB", lambda _: None))
    for other in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="shared memory"):
            other(cache)
    assert nds.reclaim() == 0, "a message that failed holds nothing"


def test_named_caches() -> None:
    before = held()
    first = nds.Cache("1 MiB", name="tiles")
    second = nds.Cache("1 MiB", workers.load, name="tiles")
    other = nds.Cache("1 MiB", name="others")
    first[1] = np.arange(5)
    assert (second[1] == np.arange(5)).all()
    assert 1 not in other
    assert repr(first).startswith("<Cache 'tiles' ")
    with pytest.raises(ValueError, match="there already"):
        nds.Cache("2 MiB", name="tiles")
    with pytest.raises(ValueError, match="name"):
        nds.Cache("1 MiB", name="")
    del first
    assert 1 in nds.Cache("1 MiB", name="tiles")
    del second
    assert 1 not in nds.Cache("2 MiB", name="tiles"), "a name lives while somebody has the cache"
    del other
    # What finds names stays.
    assert settle(before + (1 << 17)) <= before + (1 << 17)


def test_a_named_cache_is_found_by_another_process(method: str) -> None:
    context = mp.get_context(method)
    cache = nds.Cache("1 MiB", name="common")
    cache["sent"] = np.arange(7)
    mine, theirs = context.Pipe()
    with child(workers.find, "common", theirs, context=context):
        theirs.close()
        assert mine.poll(HANG)
        assert mine.recv() == 21
    mine.close()


def test_others_get_load_error(method: str) -> None:
    context = mp.get_context(method)
    cache = nds.Cache("1 MiB")
    mine, theirs = context.Pipe()
    with child(workers.fail_when_awaited, cache, theirs, context=context):
        theirs.close()
        assert mine.poll(HANG)
        assert mine.recv() == "loading"
        with pytest.raises(nds.LoadError) as raised:
            cache.fetch("x", workers.load)
        assert (raised.value.type_name, raised.value.text) == ("ZeroDivisionError", "by intent")
        assert mine.poll(HANG)
        assert mine.recv() == "ZeroDivisionError('by intent')"
    assert (cache.fetch("x", workers.load) == 7).all()
    mine.close()


def test_load_error_names_the_process() -> None:
    context = mp.get_context("fork")
    cache = nds.Cache("1 MiB")
    mine, theirs = context.Pipe()
    with child(workers.fail_when_awaited, cache, theirs, context=context) as process:
        theirs.close()
        assert mine.poll(HANG)
        assert mine.recv() == "loading"
        with pytest.raises(nds.LoadError) as raised:
            cache.fetch("x", workers.load)
        assert raised.value.pid == process.pid
        assert pickle.loads(pickle.dumps(raised.value)).pid == process.pid
    mine.close()


def test_a_load_is_the_parents_in_a_forked_child() -> None:
    """What a child does with its copy of a load under way is no business of those who wait."""
    cache = nds.Cache("1 MiB")

    def load(_: Any) -> Array:
        if (pid := os.fork()) == 0:
            with suppress(BaseException):
                workers.end_by_itself()
                raise_in_child()
            os._exit(0)
        os.waitpid(pid, 0)
        return tile(5)

    def raise_in_child() -> None:
        cache["other"] = tile(6)
        os._exit(7)

    assert (cache.fetch("x", load) == 5).all()
    assert (cache["other"] == 6).all()


def test_a_loader_is_killed_and_another_takes_over() -> None:
    cache = nds.Cache("1 MiB")
    mine, theirs = FORK.Pipe()
    with child(workers.load_for_ever, cache, "x", theirs) as process:
        assert mine.poll(HANG)
        mine.recv()
        results: list[Array] = []
        thread = threading.Thread(target=lambda: results.append(cache.fetch("x", tile_of)))
        thread.start()
        assert wait_until(lambda: cache.info()["waits"] == 1)
        start = time.perf_counter()
        os.kill(process.pid, signal.SIGKILL)
        thread.join(HANG)
        note_pause("a loader was killed", time.perf_counter() - start)
    assert (results[0] == 9).all()
    mine.close(), theirs.close()


def tile_of(_: Any) -> Array:
    return tile(9)


# ---- images ---------------------------------------------------------------------------------------------------------

IMAGES = 1024
SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real PNG files; each says its number in its first row."""
    from PIL import Image

    path = tmp_path_factory.mktemp("images")
    base = np.add.outer(np.arange(SIDE), np.arange(4 * SIDE)).astype(np.uint8).reshape(SIDE, SIDE, 4)
    for number in range(IMAGES):
        base[0] = number % 256, number // 256, 0, 255
        Image.fromarray(base).save(path / f"{number}.png", compress_level=1)
    return path


@pytest.mark.timeout(240)
def test_eight_processes_share_what_they_decode(folder: Path) -> None:
    """Four times more images than room, keys by Zipf: each miss is decoded once, and memory stays in its bounds.

    Beyond the budget there are eight images that are being decoded, and the tables of cache and arena.
    """
    size = SIDE * SIDE * 4
    with nds.Arena("128 MiB") as arena:
        cache = nds.Cache(IMAGES // 4 * size, arena=arena)
        log = nds.zeros((8, 4000, 3), np.int64)
        go = nds.zeros(1, np.uint8)
        pipes = [FORK.Pipe() for _ in range(8)]
        processes = [
            FORK.Process(target=workers.decode_many, args=(cache, folder, place, log[place], go, pipes[place][1]))
            for place in range(8)
        ]
        for process in processes:
            process.start()
        for mine, _ in pipes:
            assert mine.poll(HANG)
            assert mine.recv() == "ready"
        go[0] = 1
        told = []
        for mine, _ in pipes:
            assert mine.poll(180)
            told.append(mine.recv())
        pss = sum(workers.pss_of(process.pid, arena.id) for process in processes) + workers.pss_of(
            os.getpid(), arena.id
        )
        go[0] = 2
        for process in processes:
            process.join(HANG)
            assert process.exitcode == 0
        assert {wrong for _, wrong in told} == {0}
        info = cache.info()
        decodes = log[log[..., 2] > 0]
        assert len(decodes) == info["misses"] == info["loads"] + info["uncached"]
        assert info["bytes"] <= info["maxsize"]
        assert pss <= 1.05 * info["maxsize"], f"{pss} bytes of memory for {info['maxsize']}"
        assert overlaps(decodes) == 0
        for mine, theirs in pipes:
            mine.close(), theirs.close()
        del cache


def overlaps(decodes: Array) -> int:
    """Return how often one key was decoded twice at one time."""
    twice = 0
    for key in np.unique(decodes[:, 0]):
        times = np.sort(decodes[decodes[:, 0] == key][:, 1:], axis=0)
        twice += int((times[1:, 0] < times[:-1, 1]).sum())
    return twice


# ---- deaths ---------------------------------------------------------------------------------------------------------

needs_points = pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")


class Survivor:
    """A cache that others die in, and what must hold afterwards."""

    def __init__(self) -> None:
        self.arena = nds.Arena("64 MiB")
        self.cache = nds.Cache(64 * KIB, entries=64, arena=self.arena)
        self.base = held(self.arena)

    def go_on(self, label: str) -> None:
        """Do at once what a program would do next, and note how long that took."""
        start = time.perf_counter()
        assert workers.is_whole(7, self.cache.fetch(7, workers.content, timeout=HANG))
        note_pause(label, time.perf_counter() - start)

    def check(self) -> None:
        """Insist that the cache says one thing, whomever one asks, and that no byte is lost."""
        for key in (1, 7, 1001):
            assert workers.is_whole(key, self.cache.fetch(key, workers.content, timeout=HANG))
        keys = list(self.cache)
        assert len(keys) == len(set(keys)) == len(self.cache) == self.cache.info()["entries"]
        values = {key: self.cache.get(key) for key in keys}
        assert all(value is not None for value in values.values())
        assert all(workers.is_whole(key, value) for key, value in values.items() if isinstance(key, int))
        assert self.cache.info()["bytes"] >= sum(len(value.base) for value in values.values())
        assert self.cache.info()["bytes"] <= self.cache.maxsize
        values.clear()
        # What is counted is there: all room can be used.
        for key in range(2000, 2100):
            self.cache.fetch(key, workers.content)
        assert self.cache.info()["bytes"] >= self.cache.maxsize - 8 * KIB
        self.cache.clear()
        assert (len(self.cache), list(self.cache), self.cache.info()["bytes"]) == (0, [], 0)
        assert wait_until(lambda: held(self.arena) <= self.base), f"lost bytes: {nds.stats(self.arena)}"


@pytest.fixture(scope="module")
def survivor() -> Iterator[Survivor]:
    one = Survivor()
    yield one
    del one.cache
    one.arena.close()


@needs_points
@pytest.mark.crash
@pytest.mark.parametrize("nth", range(1, ROUNDS + 1))
@pytest.mark.parametrize("label", POINTS)
def test_killed_at(label: str, nth: int, survivor: Survivor) -> None:
    for key in range(40):
        survivor.cache.fetch(key, workers.content)
    with nds.Arena("16 MiB") as fresh:
        with child(workers.tour_and_die, survivor.cache, fresh, label, nth) as process:
            process.join(HANG)
            assert process.exitcode == -signal.SIGKILL or nth > 1, f"nothing passes {label}: lead the tour there"
        survivor.go_on(label)
        named = [nds.Cache("64 KiB", name="on tour", arena=fresh) for _ in range(2)]
        named[0][1] = workers.content(1)
        assert workers.is_whole(1, named[1][1])
        named.clear()
    survivor.check()


@pytest.mark.crash
def test_a_key_is_loaded_by_another_soon_after_a_death(survivor: Survivor) -> None:
    for number in range(20 * ROUNDS):
        key = ("dies", number)
        with child(workers.die_loading, survivor.cache, key) as process:
            results = in_threads(2, lambda _, key=key: (process.join(HANG), survivor.cache.fetch(key, tile_of)))
        assert all((value == 9).all() for _, value in results)
        results.clear()
    start = time.perf_counter()
    survivor.cache.fetch("next", tile_of)
    note_pause("after loaders died", time.perf_counter() - start)
    survivor.cache.clear()
    survivor.check()


@pytest.mark.crash
def test_loads_of_the_dead_keep_no_room(survivor: Survivor) -> None:
    """Nobody asked for their keys any more, so an eighth of the cache was kept free for what they would have stored."""
    for number in range(8):
        with child(workers.die_loading, survivor.cache, ("dies", number)) as process:
            process.join(HANG)
    survivor.check()


@needs_points
@pytest.mark.crash
@pytest.mark.timeout(120 + 120 * ROUNDS)
def test_a_storm_on_a_cache(survivor: Survivor) -> None:
    """Processes load, store, delete and look at random, and die at random or at a kill point. 2000 in `make crash`."""
    wanted = 60 if ROUNDS == 1 else 1000 * ROUNDS
    rng, seeds = random.Random(5), iter(range(1 << 30))
    crew: list[Any] = []
    kept: list[Any] = []
    deaths, slowest = 0, 0.0

    def begin() -> Any:
        label = rng.choice(POINTS) if rng.random() < 0.8 else None
        args = (survivor.cache, next(seeds), label, rng.randint(1, 30))
        process = FORK.Process(target=workers.storm, args=args, daemon=True)
        process.start()
        return process, time.monotonic() + rng.random() * (0.05 if label is None else 2)

    try:
        while deaths < wanted:
            crew += [begin() for _ in range(5 - len(crew))]
            start = time.perf_counter()
            workers.storm_once(survivor.cache, rng, kept)
            slowest = max(slowest, time.perf_counter() - start)
            for process, end in list(crew):
                if process.exitcode is None and time.monotonic() < end:
                    continue
                process.kill()
                process.join(HANG)
                assert process.exitcode == -signal.SIGKILL, f"exit status {process.exitcode}"
                process.close()
                crew.remove((process, end))
                deaths += 1
    finally:
        for process, _ in crew:
            process.kill()
            process.join(HANG)
    note_pause("a storm on a cache", slowest)
    kept.clear()
    survivor.check()


# ---- a plain dict ---------------------------------------------------------------------------------------------------


class AgainstADict(RuleBasedStateMachine):
    """A cache forgets what it likes, but only beyond its budget; what it says is what a dict would say."""

    keys = Bundle("keys")
    pins = Bundle("pins")
    SIZE = 16 * KIB

    def __init__(self) -> None:
        super().__init__()
        self.cache = nds.Cache(self.SIZE)
        self.other = ForkingPickler.loads(ForkingPickler.dumps(self.cache))
        self.twin: dict[Any, tuple[int, int]] = {}
        self.pinned: list[tuple[Array, int]] = []
        self.overflowed = False

    @rule(target=keys, key=st.one_of(st.integers(0, 8), st.sampled_from(["a", b"a", ("a", 1)])))
    def choose(self, key: Any) -> Any:
        return key

    def note(self, key: Any, number: int, size: int) -> None:
        self.twin[key] = (number, size)
        # Blocks are a little larger than what is in them.
        self.overflowed |= sum(size * 5 // 4 + KIB for _, size in self.twin.values()) > self.SIZE

    @rule(key=keys, number=st.integers(0, 250), size=st.integers(1, 4 * KIB), there=st.booleans())
    def store(self, key: Any, number: int, size: int, there: bool) -> None:
        (self.other if there else self.cache)[key] = tile(number, size)
        self.note(key, number, size)

    @rule(key=keys, number=st.integers(0, 250), size=st.integers(1, 14 * KIB))
    def load(self, key: Any, number: int, size: int) -> None:
        asked: list[Any] = []
        value = self.cache.fetch(key, lambda key: asked.append(key) or tile(number, size))
        if asked:
            assert self.overflowed or key not in self.twin
            self.note(key, number, size)
        number, size = self.twin[key]
        assert (value == number).all()
        assert value.size == size

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        found = key in self.cache
        assert self.overflowed or found == (key in self.twin)
        if found:
            del self.cache[key]
        else:
            with pytest.raises(KeyError):
                del self.cache[key]
        self.twin.pop(key, None)

    @rule()
    def clear(self) -> None:
        self.other.clear()
        self.twin.clear()
        self.overflowed = any(True for _ in self.pinned)

    @rule(target=pins, key=keys)
    def pin(self, key: Any) -> int:
        value = self.cache.get(key)
        if value is not None:
            assert (value == self.twin[key][0]).all()
            self.pinned.append((value[::2], self.twin[key][0]))
            # What is pinned may outlive its entry and keep others out.
            self.overflowed = True
        return 0

    @rule(pin=consumes(pins))
    def unpin(self, pin: int) -> None:
        if self.pinned:
            self.pinned.pop(pin)

    @invariant()
    def pinned_values_never_change(self) -> None:
        assert all((view == number).all() for view, number in self.pinned)

    @invariant()
    def it_says_what_the_dict_says(self) -> None:
        there = set(self.cache)
        assert there <= set(self.twin)
        assert self.overflowed or there == set(self.twin)
        info = self.cache.info()
        assert info["entries"] == len(there) == len(self.other)
        total = 0
        for key in there:
            number, size = self.twin[key]
            value = self.other.get(key)
            assert (value == number).all()
            assert value.size == size
            total += len(value.base)
        assert info["bytes"] == total <= self.SIZE

    def teardown(self) -> None:
        nds.reclaim()


AgainstADict.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestAgainstADict = AgainstADict.TestCase


def kibibyte(key: int) -> Array:
    return np.full(KIB, key, np.uint8)


def test_a_cache_is_resized_while_others_use_it() -> None:
    cache = nds.Cache("64 KiB", name="resized", load=kibibyte)
    for key in range(40):
        cache[key]
    kept = cache[39]
    with Puppet("spawn") as other:
        other.do("keep", "cache", cache)
        cache.resize("8 KiB")
        assert cache.maxsize == 8 * KIB
        assert cache.info()["bytes"] <= 8 * KIB
        assert nds.Cache("8 KiB", name="resized").maxsize == 8 * KIB
        with pytest.raises(ValueError, match=r'"resized".*8192 bytes.*got 65536 bytes'):
            nds.Cache("64 KiB", name="resized")
        cache.resize(1 << 20)
        for key in range(100):
            assert (cache[key] == key).all()
        assert cache.info()["entries"] <= 64, "the number of entries stays"
    assert (kept == 39).all()
    for bad in (0, -1, "much"):
        with pytest.raises(ValueError, match=r"size|byte"):
            cache.resize(bad)
