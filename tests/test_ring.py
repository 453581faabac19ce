"""Rings: what writers and readers see, who waits for whom, and what happens when somebody dies.

How long waits take is not asserted where a loaded machine would make it longer; what hangs is caught by a time limit.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing as mp
import os
import pickle
import queue
import random
import resource
import select
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ndshare as nds
import ring_workers as workers
from helpers import (
    HANG,
    ROUNDS,
    child,
    descriptors,
    held,
    note_pause,
    run,
    settle,
    wait_for_sleeper,
    wait_until,
    when_asleep,
)
from ndshare import _native

POINTS: tuple[str, ...] = tuple(_native.KILL_POINTS)
RING_POINTS = tuple(label for label in POINTS if label.startswith("ring:"))
FORK = mp.get_context("fork")
POLICIES = ("wait", "drop_oldest", "drop_newest")


def put_all(ring: nds.Ring, *numbers: int) -> list[int | None]:
    return [ring.put(np.full(ring.shape or 1, number, ring.dtype)) for number in numbers]


def firsts(frames: Any) -> list[int]:
    return [int(frame.flat[0]) for frame in frames]


# ---- frames ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    ring = nds.Ring((3, 4), np.uint16, slots=2, meta=[("exposure", "f8"), ("gain", "i4")])
    reader = ring.reader()
    before = time.monotonic_ns()
    with ring.write() as frame:
        assert (frame.shape, frame.dtype, frame.seq, frame.time_ns) == ((3, 4), np.uint16, None, None)
        frame[:] = np.arange(12).reshape(3, 4)
        frame.meta["exposure"] = 0.25
        frame.meta.gain = 7
    assert frame.seq == 0
    got = reader.get()
    assert type(got) is nds.Frame
    assert (got == np.arange(12).reshape(3, 4)).all()
    assert before <= got.time_ns <= time.monotonic_ns()
    assert (got.seq, got.meta.exposure, got.meta["gain"]) == (0, 0.25, 7)
    assert nds.is_shared(got)
    with ring.write():
        pass
    assert reader.get().meta.tolist() == (0.0, 0), "the meta of another frame shows through"


def test_a_frame_is_read_only_for_its_reader_and_after_it_was_written() -> None:
    ring = nds.Ring(8, np.uint8, slots=2, meta=[("n", "i4")])
    reader = ring.reader()
    with ring.write() as written:
        written[:] = 1
    got = reader.get()
    for frame in (written, got, got[2:]):
        with pytest.raises(ValueError, match="read-only"):
            frame[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            frame.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        got.meta["n"] = 3


def test_an_exception_throws_the_frame_away() -> None:
    ring = nds.Ring(8, np.uint8, slots=2)
    reader = ring.reader()
    for _ in range(20):
        with suppress(KeyError), ring.write() as frame:
            frame[:] = 9
            raise KeyError
        assert frame.seq is None
        assert not frame.flags.writeable
    assert put_all(ring, 5) == [0]
    assert firsts([reader.get()]) == [5]


def test_a_writing_is_entered_once() -> None:
    ring = nds.Ring(8, np.uint8, slots=2)
    writing = ring.write()
    with writing, pytest.raises(RuntimeError, match="of its own"), writing:
        pass
    assert ring.stats()["written"] == 1


def test_arithmetic_gives_ordinary_arrays() -> None:
    ring = nds.Ring((4, 4), np.float32, slots=2)
    reader = ring.reader()
    put_all(ring, 2)
    frame = reader.get()
    results = [
        frame + 1, 1 - frame, frame * frame, -frame, frame == 2, frame.sum(axis=0), frame.mean(axis=1),
        np.sqrt(frame), np.add(frame, frame), np.concatenate([frame, frame]), np.stack([frame, frame]), frame @ frame,
        np.dot(frame, frame), np.asarray(frame + 0), np.fft.rfft2(frame), np.where(frame > 1, frame, 0), frame.copy(),
        copy.copy(frame), copy.deepcopy(frame), np.split(frame, 2)[0], np.cumsum(frame, axis=0), np.squeeze(frame),
    ]  # fmt: skip
    assert {type(x) for x in results} == {np.ndarray}
    assert type(frame.sum()) is np.float32
    assert type(np.add.reduce(frame, axis=None)) is np.float32
    assert type(frame[1:, ::2]) is nds.Frame
    assert frame[1:, ::2].T.seq == 0
    out = np.empty((4, 4), np.float32)
    assert np.add(frame, frame, out=out) is out
    with pytest.raises(AttributeError, match="copy"):
        _ = frame[np.array([0, 1])].seq


def test_a_frame_pickles_as_an_ordinary_array_and_travels_by_reference() -> None:
    ring = nds.Ring((4, 4), np.int32, slots=2)
    reader = ring.reader()
    put_all(ring, 3)
    frame = reader.get()
    assert b"ndshare" not in pickle.dumps(frame)
    assert type(pickle.loads(pickle.dumps(frame))) is np.ndarray
    got = ForkingPickler.loads(ForkingPickler.dumps(frame[1:]))
    assert type(got) is np.ndarray
    assert np.shares_memory(got, frame)
    assert not got.flags.writeable


def test_a_frame_outlives_its_ring() -> None:
    ring = nds.Ring(1000, np.int64, slots=3)
    reader = ring.reader()
    put_all(ring, 11)
    view = reader.get()[10:20]
    del ring, reader
    assert (view == 11).all()


# ---- put ------------------------------------------------------------------------------------------------------------


ARRAYS = [
    np.arange(12).reshape(3, 4),
    np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.arange(24)[::-2],
    np.array(5.5),
    np.zeros((0, 3)),
    np.array([(1, 2.5)], [("a", "i2"), ("b", ">f8")]),
    np.array(["ab", "cde"]),
    np.array(["2020-01-01"], "M8[D]"),
    np.broadcast_to(np.arange(3), (4, 3)),
    np.ma.masked_array([1, 2], [0, 0]),
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("x", ARRAYS, ids=[f"{x.dtype.char}{x.shape}" for x in ARRAYS])
def test_arrays_of_all_kinds_pass(x: Any, shared: bool) -> None:
    ring = nds.Ring(slots=3)
    reader = ring.reader()
    x = nds.array(x) if shared else x
    for given in (x, x.T, x[..., ::-1] if x.ndim else x):
        ring.put(given)
        got = reader.get()
        assert (got.dtype, got.shape) == (given.dtype, given.shape)
        assert (np.asarray(got) == np.asarray(given)).all()


def test_a_shared_array_is_published_as_it_is() -> None:
    ring = nds.Ring((40, 50), np.float32, slots=3)
    reader = ring.reader()
    x = nds.full((40, 50), 2, np.float32)
    for given in (x, x[10:20, ::-5], x.T):
        ring.put(given)
        got = reader.get()
        assert got.ctypes.data == given.ctypes.data
        assert (got.shape, got.strides) == (given.shape, given.strides)
    with nds.Arena("64 MiB") as arena:
        other = nds.full((40, 50), 3, np.float32, arena=arena)
        ring.put(other)
    got = reader.get()
    assert not np.shares_memory(got, other)
    assert (got == 3).all()


@pytest.mark.parametrize("by_writer", [False, True], ids=["ring", "writer"])
def test_an_array_that_was_published_cannot_be_filled_again(by_writer: bool) -> None:
    """A camera filled one shared array again and again, and all frames that its reader kept became the last one."""
    ring = nds.Ring((2, 3), np.uint16, slots=4)
    reader = ring.reader()
    outlet = ring.writer() if by_writer else ring
    whole = nds.zeros((4, 2, 3), np.uint16)
    for number, part in enumerate(whole):
        part[:] = number
        outlet.put(part)
        with pytest.raises(ValueError, match="read-only"):
            part[:] = 9
    assert [int(frame[0, 0]) for frame in (reader.get(0) for _ in range(4))] == [0, 1, 2, 3]
    assert whole.flags.writeable


def test_an_array_that_was_not_published_stays_writable() -> None:
    ring = nds.Ring(3, np.uint8, slots=1, when_full="drop_newest")
    reader = ring.reader()
    first, second = nds.zeros(3, np.uint8), nds.zeros(3, np.uint8)
    ring.put(first)
    assert ring.put(second) is None
    second[:] = 1
    assert int(reader.get(0)[0]) == 0


def test_a_received_frame_is_put_into_another_ring_without_a_copy() -> None:
    rings = [nds.Ring((100, 100), np.uint8, slots=3) for _ in range(3)]
    readers = [ring.reader() for ring in rings]
    for number in range(50):
        put_all(rings[0], number)
        first = readers[0].get()
        rings[1].put(first)
        second = readers[1].get()
        rings[2].put(second[5:])
        third = readers[2].get()
        assert second.ctypes.data == first.ctypes.data
        assert third.ctypes.data == first[5:].ctypes.data
        assert (third == number).all()
        assert (first.seq, second.seq, third.seq) == (number,) * 3


def test_frames_of_other_shapes_and_dtypes_up_to_the_bytes_of_the_ring() -> None:
    ring = nds.Ring((4, 4), np.float64, slots=3)
    reader = ring.reader()
    for shape, dtype in [((2, 3), None), (None, np.int16), ((8, 16), np.uint8), ((), "f4"), (5, [("a", "u1")])]:
        with ring.write(shape, dtype) as frame:
            frame[...] = np.ones((), frame.dtype)
        got = reader.get()
        assert got.dtype == np.dtype(np.float64 if dtype is None else dtype)
        assert got.shape == ((4, 4) if shape is None else shape if isinstance(shape, tuple) else (shape,))
    with pytest.raises(ValueError, match="at most 128 bytes, got 136"), ring.write(17):
        pass
    with pytest.raises(ValueError, match="at most 128 bytes"):
        ring.put(nds.zeros(17))
    with pytest.raises(ValueError, match="at most 128 bytes"):
        ring.put(np.zeros(17))
    assert put_all(ring, 1) == [5]


def test_wrong_arguments_are_refused() -> None:
    bad: list[tuple[type[Exception], dict[str, Any]]] = [
        (ValueError, {"slots": 0}),
        (ValueError, {"slots": -1}),
        (ValueError, {"slots": 10**6}),
        (ValueError, {"slots": 2, "when_full": "explode"}),
        (ValueError, {"slots": 2, "shape": (-1,)}),
        (ValueError, {"slots": 2, "spin": -1.0}),
        (ValueError, {"slots": 2, "spin": "long"}),
        (TypeError, {"slots": 2, "dtype": object}),
        (TypeError, {"slots": 2, "meta": "f8"}),
        (TypeError, {"slots": 2, "meta": [("a", "O")]}),
        (ValueError, {"slots": 2, "meta": [("a", "V5000")]}),
        (TypeError, {}),
    ]
    for error, arguments in bad:
        with pytest.raises(error):
            nds.Ring(**arguments)
    ring = nds.Ring(slots=2)
    with pytest.raises(TypeError, match="takes any"):
        ring.write()
    with pytest.raises(TypeError, match="without meta"):
        ring.put([1], gain=2)
    with pytest.raises(TypeError, match="plain bytes"):
        ring.put(np.array([object()]))
    with pytest.raises(ValueError, match="choose one"):
        ring.reader(latest=True, group="g")
    with pytest.raises(ValueError, match="oldest"):
        ring.reader(start="middle")  # type: ignore[arg-type]
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            ring.reader().get(timeout)
    with pytest.raises(TypeError, match=r"meta, \('t',\), got .x."):
        nds.Ring(slots=2, meta=[("t", "f8")]).put([1], x=2)


def test_large_ints_of_python_pass_where_they_fit() -> None:
    """NumPy takes [2**63, 1] for floats, so it was refused by a ring of uint64."""
    ring = nds.Ring(2, np.uint64, slots=4)
    frames = ring.reader()
    ring.put([2**63, 2**64 - 1])
    ring.put([np.uint64(2**63), 1])
    assert [frames.get(timeout=5).tolist() for _ in range(2)] == [[2**63, 2**64 - 1], [2**63, 1]]
    for wrong in ([2**63, -1], [2**64, 1]):
        with pytest.raises(OverflowError, match="expected numbers that fit uint64"):
            ring.put(wrong)
    for wrong in ([2.0**63, 1], [2**63, 1.0], [2**64, None]):
        with pytest.raises(TypeError, match=r"float64|plain bytes"):
            ring.put(wrong)


def test_readers_and_groups_are_counted() -> None:
    ring = nds.Ring(4, slots=2)
    readers = [ring.reader() for _ in range(64)]
    with pytest.raises(RuntimeError, match="at most 64 readers"):
        ring.reader()
    readers.pop()
    readers.append(ring.reader())
    del readers
    for number in range(8):
        ring.reader(group=str(number))
    with pytest.raises(RuntimeError, match="at most 8 groups"):
        ring.reader(group="one more")


# ---- what does not fit ----------------------------------------------------------------------------------------------

META = [("json", "S8"), ("name", "U3"), ("raw", "V4"), ("n", "i2"), ("u", "u1"), ("x", "f4"), ("ok", "?"),
        ("t", "M8[s]"), ("xy", "f8", (2,)), ("pos", [("a", "i4"), ("b", "S2")])]  # fmt: skip
UNFIT: list[tuple[str, Any, type[Exception]]] = [
    ("json", b'{"a": 12345}', ValueError),
    ("json", "123456789", ValueError),
    ("json", np.bytes_(b"123456789"), ValueError),
    ("json", b"12345678\0", ValueError),
    ("json", 12, TypeError),
    ("name", "long", ValueError),
    ("raw", b"12345", ValueError),
    ("raw", np.void(b"12345"), ValueError),
    ("raw", 5, TypeError),
    ("n", 1 << 15, OverflowError),
    ("n", np.int64(1 << 15), OverflowError),
    ("n", 1.5, TypeError),
    ("n", "5", TypeError),
    ("u", -1, OverflowError),
    ("u", np.int8(-1), OverflowError),
    ("x", 1e300, OverflowError),
    ("x", 10**39, OverflowError),
    ("x", 1j, TypeError),
    ("ok", 2, OverflowError),
    ("t", "yesterday", ValueError),
    ("t", 3.5, TypeError),
    ("t", np.datetime64(10**17, "Y"), OverflowError),
    ("xy", [1, 2, 3], ValueError),
    ("xy", [[1, 2]], ValueError),
    ("xy", ["a", "b"], TypeError),
    ("pos", (1, b"abc"), ValueError),
    ("pos", (1,), ValueError),
    ("pos", {"a": 1.5}, TypeError),
    ("pos", {"c": 1}, TypeError),
    ("n", None, TypeError),
]


@pytest.mark.parametrize(("name", "value", "error"), UNFIT, ids=[f"{name}={value!r}" for name, value, _ in UNFIT])
def test_meta_that_does_not_fit_is_refused_by_name_on_every_way_and_changes_nothing(
    name: str, value: Any, error: type[Exception]
) -> None:
    """A text that is too long arrived cut, and a number out of range arrived wrapped, without a word."""
    ring = nds.Ring(1, np.uint8, slots=2, meta=META)
    reader = ring.reader()
    with pytest.raises(error, match=name):
        ring.put([1], **{name: value})
    with pytest.raises(error, match=name):
        ring.put([1], meta={name: value})
    with ring.write() as frame:
        frame.meta = {"json": b"ok", "n": 7}
        before = frame.meta.tobytes()
        with pytest.raises(error, match=name):
            frame.meta[name] = value
        with pytest.raises(error, match=name):
            setattr(frame.meta, name, value)
        with pytest.raises(error, match=name):
            frame.meta = {name: value}
        assert frame.meta.tobytes() == before
    got = reader.get(0)
    assert (got.seq, got.meta["json"], got.meta["n"]) == (0, b"ok", 7)
    assert ring.stats()["written"] == 1


FIT: list[tuple[str, Any, Any]] = [
    ("json", b"12345678", b"12345678"),
    ("json", "12345678", b"12345678"),
    ("name", "abc", "abc"),
    ("raw", b"1234", np.void(b"1234")),
    ("raw", b"12", np.void(b"12\0\0")),
    ("n", np.int64(-5), -5),
    ("n", True, 1),
    ("u", 255, 255),
    ("x", 3, 3.0),
    ("x", np.float64(0.5), 0.5),
    ("x", float("inf"), float("inf")),
    ("ok", 1, True),
    ("t", "2020-01-01", np.datetime64("2020-01-01T00:00:00")),
    ("xy", [1, 2], [1.0, 2.0]),
    ("xy", 5, [5.0, 5.0]),
    ("pos", (3, b"ab"), (3, b"ab")),
    ("pos", {"b": b"z"}, (0, b"z")),
]


@pytest.mark.parametrize(("name", "value", "expected"), FIT, ids=[f"{name}={value!r}" for name, value, _ in FIT])
def test_meta_that_fits_arrives_as_it_was(name: str, value: Any, expected: Any) -> None:
    ring = nds.Ring(1, np.uint8, slots=8, meta=META)
    reader = ring.reader()
    ring.put([1], **{name: value})
    ring.put([1], meta={name: value})
    for how in ("item", "attribute", "whole", "place"):
        with ring.write() as frame:
            if how == "item":
                frame.meta[name] = value
            elif how == "attribute":
                setattr(frame.meta, name, value)
            elif how == "place":
                frame.meta[frame.meta.dtype.names.index(name)] = value
            else:
                frame.meta = {name: value}
    ring.close()
    got = [frame.meta[name].tolist() for frame in reader]
    assert len(got) == 6
    expected = expected if isinstance(expected, tuple) else np.asarray(expected).tolist()
    assert all(value == expected for value in got), got


def test_fields_inside_a_field_are_checked_too() -> None:
    ring = nds.Ring(1, np.uint8, slots=2, meta=META)
    reader = ring.reader()
    with ring.write() as frame:
        for use in (
            lambda: frame.meta["pos"].__setitem__("b", b"long"),
            lambda: setattr(frame.meta.pos, "b", b"long"),
            lambda: frame.meta.__setitem__(["n", "u"], (1, 300)),
        ):
            with pytest.raises((ValueError, OverflowError)):
                use()
        with pytest.raises(KeyError, match="gain"):
            frame.meta["gain"] = 1
        with pytest.raises(TypeError, match="by name"):
            frame.meta.setfield(1, "i4", 0)
        frame.meta["pos"]["b"] = b"ok"
        frame.meta[["n", "u"]] = (1, 30)
    assert reader.get(0).meta[["n", "u", "pos"]].tolist() == (1, 30, (0, b"ok"))


def test_meta_is_set_as_a_whole() -> None:
    first = nds.Ring(1, np.uint8, slots=4, meta=[("n", "i4"), ("x", "f8")])
    second = nds.Ring(1, np.uint8, slots=8, meta=[("x", "f4"), ("n", "i4"), ("extra", "S3")])
    readers = first.reader(), second.reader()
    first.put([1], n=5, x=0.5)
    frame = readers[0].get(0)
    for meta in (
        frame.meta,
        {"n": 5, "x": 0.5},
        np.array((5, 0.5), frame.meta.dtype),
        np.void((5, 0.5), [("n", "i4"), ("x", "f8")]),
    ):
        second.put([2], meta=meta)
        with second.write() as written:
            written.meta["extra"] = b"old"
            written.meta = meta
        assert [frame.meta.tolist() for frame in (readers[1].get(0), readers[1].get(0))] == [(0.5, 5, b"")] * 2
    second.put([2], meta=frame.meta, n=6)
    assert readers[1].get(0).meta.tolist() == (0.5, 6, b"")
    with second.write() as written:
        written.meta = {"extra": b"abc"}
        for meta, error in (
            ({"none": 1}, TypeError),
            (5, TypeError),
            ([1, 2], TypeError),
            ({"extra": b"abcd"}, ValueError),
        ):
            with pytest.raises(error):
                written.meta = meta
            with pytest.raises(error):
                second.put([1], meta=meta)
        assert written.meta["extra"] == b"abc"
    with pytest.raises(TypeError, match=r"'x'.*got 'n'"):
        nds.Ring(1, np.uint8, slots=2, meta=[("x", "f8")]).put([1], meta=frame.meta)
    bare = nds.Ring(1, np.uint8, slots=2)
    bare.put([1], meta=None)
    with pytest.raises(TypeError, match="without meta"):
        bare.put([1], meta=frame.meta)
    with pytest.raises(TypeError, match="without meta"), bare.write() as written:
        written.meta = {"n": 1}
    for got in (frame, frame[:]):
        with pytest.raises(ValueError, match="read-only"):
            got.meta = {"n": 1}


def test_meta_is_read_only_once_the_frame_was_written() -> None:
    """What was set after the with block was lost without a word."""
    ring = nds.Ring(1, np.uint8, slots=4, meta=[("n", "i4")])
    reader = ring.reader()
    for fails in (False, True):
        with suppress(KeyError), ring.write() as frame:
            frame.meta["n"] = 1
            if fails:
                raise KeyError
        for use in (lambda: frame.meta.__setitem__("n", 2), lambda: setattr(frame, "meta", {"n": 2})):
            with pytest.raises(ValueError, match="read-only"):
                use()
        assert frame.meta["n"] == 1
    with ring.write() as frame:
        pass
    with pytest.raises(ValueError, match="read-only"):
        frame.meta = {"n": 2}
    assert [reader.get(0).meta["n"] for _ in range(2)] == [1, 0]


def test_a_frame_takes_its_meta_along_where_the_fields_fit() -> None:
    source = nds.Ring(4, np.uint8, slots=4, meta=[("n", "i4"), ("x", "f8"), ("s", "S4"), ("only", "i2")])
    target = nds.Ring(4, np.uint8, slots=8, meta=[("s", "S2"), ("x", "f4"), ("n", "i8"), ("new", "i2")])
    reader, there = source.reader(), target.reader()
    with source.write() as written:
        written.meta = {"n": 5, "x": 0.5, "s": b"ab", "only": 3}
    frame = reader.get(0)
    for given in (frame, frame[1:], written):
        target.put(given)
        # The texts of one do not always fit the other's, so they are left out, whatever this one is.
        assert there.get(0).meta.tolist() == (b"", 0.5, 5, 0)
    target.put(frame, n=6, new=1)
    target.put(frame, meta={"x": 2})
    assert [there.get(0).meta.tolist() for _ in range(2)] == [(b"", 0.5, 6, 1), (b"", 2.0, 5, 0)]
    target.put(frame + 1)
    assert there.get(0).meta.tolist() == (b"", 0, 0, 0)
    nds.Ring(4, np.uint8, slots=2).put(frame)
    twin = nds.Ring(4, np.uint8, slots=2, meta=source.meta)
    copies = twin.reader()
    twin.put(frame)
    assert copies.get(0).meta.tolist() == frame.meta.tolist()


def test_fields_of_meta_are_no_arguments_of_put() -> None:
    for name in ("timeout", "meta"):
        with pytest.raises(ValueError, match=name):
            nds.Ring(1, slots=2, meta=[(name, "f8")])


UNFIT_ARRAYS: list[tuple[Any, Any]] = [
    ("u2", np.full((2, 2), 0.5)),
    ("u2", [0.5]),
    ("u2", np.array([-1])),
    ("u2", nds.array([1.5, 2.5])),
    ("f4", np.array([1j])),
    ("i4", np.array(["1"])),
    ("S2", np.array([b"long"])),
    ("?", np.array([1])),
    ("f8", ["a"]),
    ("i8", np.array([0], "M8[s]")),
]


@pytest.mark.parametrize(("dtype", "x"), UNFIT_ARRAYS, ids=[f"{x!r} to {dtype}" for dtype, x in UNFIT_ARRAYS])
def test_an_array_of_another_kind_is_refused(dtype: Any, x: Any) -> None:
    """0.5 went into a ring of uint16 as a frame of float64, which its readers did not expect."""
    for ring in (nds.Ring(4, dtype, slots=2), nds.Ring(dtype=dtype, slots=2)):
        with pytest.raises(TypeError, match="the dtype of the ring"):
            ring.put(x)
        assert ring.stats()["written"] == 0
        twin = ForkingPickler.loads(ForkingPickler.dumps(ring))
        with pytest.raises(TypeError, match="the dtype of the ring"):
            twin.put(x)


def test_an_array_of_the_same_kind_is_cast_to_the_dtype_of_the_ring() -> None:
    for dtype, x in [("f8", np.arange(4)), ("f4", np.arange(4.0)), ("i4", np.arange(4)), ("i2", [1, -2, 3]),
                     ("u1", [0, 255]), ("f4", [0.5]), ("f8", nds.zeros(4, "f4")),
                     ("u1", []), ("S4", [b"ab"]), (">u2", np.arange(3, dtype="u2"))]:  # fmt: skip
        ring = nds.Ring(4, dtype, slots=2)
        reader = ring.reader()
        ring.put(x)
        got = reader.get(0)
        assert got.dtype == np.dtype(dtype)
        assert got.tolist() == np.asarray(x, dtype).tolist()
    ring = nds.Ring(4, np.uint8, slots=2)
    for numbers in ([256], [-1], [1 << 70]):
        with pytest.raises((OverflowError, TypeError)):
            ring.put(numbers)


def test_a_camera_of_16_bits_in_a_ring_of_8_is_refused_where_its_numbers_would_be_others() -> None:
    """300 was 44, without a word: what NumPy's casts do."""
    ring = nds.Ring(2, np.uint8, slots=2)
    with pytest.raises(OverflowError, match="got 5 to 300"):
        ring.put(np.array([300, 5], np.uint16))
    assert ring.put(np.array([255, 5], np.uint16)) == 0, "numbers that fit are the same there"
    fields = nds.Ring(fields={"a": (2, "i1")}, slots=2)
    with pytest.raises(OverflowError, match='field "a"'):
        fields.put({"a": np.array([1, 128])})
    assert fields.put({"a": np.array([1, 127])}) == 0


def test_a_ring_of_any_dtype_takes_what_numpy_makes_of_a_list() -> None:
    anything = nds.Ring(slots=2)
    reader = ForkingPickler.loads(ForkingPickler.dumps(anything)).reader()
    anything.put(np.array([1j]))
    assert reader.get(0).dtype == np.complex128


def test_a_wrong_argument_is_named() -> None:
    ring = nds.Ring(2, slots=2)
    for arguments in ({"group": 3}, {"group": b"g"}, {"start": 3}, {"latest": "yes"}):
        with pytest.raises(TypeError, match=next(iter(arguments))):
            ring.reader(**arguments)  # type: ignore[arg-type]
    for arguments in ({"when_full": 3}, {"slots": "many"}, {"name": 3}, {"spin": b"auto"}, {"arena": 3}):
        with pytest.raises(TypeError, match=next(iter(arguments))):
            nds.Ring(2, **({"slots": 2} | arguments))


# ---- who gets what --------------------------------------------------------------------------------------------------


def test_every_reader_gets_every_frame_from_its_creation_on() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    first = ring.reader()
    put_all(ring, 0, 1)
    second = ring.reader()
    oldest = ring.reader(start="oldest")
    put_all(ring, 2)
    ring.close()
    assert [firsts(reader) for reader in (first, second, oldest)] == [[0, 1, 2], [2], [0, 1, 2]]


def test_without_readers_the_window_is_kept_for_one_that_starts_at_the_oldest() -> None:
    ring = nds.Ring(2, np.int64, slots=5)
    put_all(ring, *range(17))
    reader = ring.reader(start="oldest")
    ring.close()
    assert firsts(reader) == [12, 13, 14, 15, 16]


def test_the_latest_frame_only() -> None:
    ring = nds.Ring(2, np.int64, slots=3)
    latest = ring.reader(latest=True)
    for number in range(0, 30, 3):
        put_all(ring, number, number + 1, number + 2)
        assert firsts([latest.get()]) == [number + 2]
        with pytest.raises(nds.Empty):
            latest.get(timeout=0)


def test_a_group_shares_the_frames() -> None:
    ring = nds.Ring(2, np.int64, slots=64)
    members = [ring.reader(group="compute") for _ in range(3)]
    other = ring.reader(group="other")
    put_all(ring, *range(30))
    ring.close()
    got = [frame for member in members for frame in [member.get() for _ in range(10)]]
    assert sorted(frame.seq for frame in got) == list(range(30))
    del got
    assert [list(member) for member in members] == [[], [], []]
    assert firsts(other) == list(range(30))


def test_a_frame_of_a_killed_member_comes_again() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    members = [ring.reader(group="g") for _ in range(2)]
    mine, theirs = FORK.Pipe()
    put_all(ring, 1)
    with child(workers.hold_back, members.pop(), theirs) as process:
        assert mine.recv() == 0
        put_all(ring, 2)
        assert firsts([members[0].get()]) == [2]
        os.kill(process.pid, signal.SIGKILL)
        start = time.perf_counter()
        assert firsts([members[0].get(timeout=HANG)]) == [1]
        note_pause("a frame of a group's dead member", time.perf_counter() - start)


@contextmanager
def a_frame_in_hand() -> Iterator[tuple[nds.Ring, nds.Reader, Any]]:
    """Yield a ring, a member of a group, and the process of the other one, which has the only frame."""
    ring = nds.Ring(2, np.int64, slots=8)
    member, (mine, theirs) = ring.reader(group="g"), FORK.Pipe()
    put_all(ring, 1)
    with child(workers.hold_back, ring.reader(group="g", start="oldest"), theirs) as process:
        assert mine.recv() == 0
        yield ring, member, process


def test_a_frame_of_a_member_that_is_killed_after_the_end_comes_again() -> None:
    with a_frame_in_hand() as (ring, member, process):
        ring.close()
        with pytest.raises(nds.Empty):
            member.get(0.1)
        assert not is_readable(member)
        os.kill(process.pid, signal.SIGKILL)
        assert [frame.seq for frame in member] == [0]


def test_members_in_several_processes_come_to_the_end_with_frames_in_hand() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    pipes = [FORK.Pipe() for _ in range(3)]
    members = [ring.reader(group="g") for _ in range(4)]
    with ExitStack() as stack:
        for _, theirs in pipes:
            stack.enter_context(child(workers.read_all, members.pop(), theirs))
        put_all(ring, *range(40))
        ring.close()
        kept = list(members[0])
        got = [number for mine, _ in pipes for number, _ in mine.recv()]
    assert sorted(got + [frame.seq for frame in kept]) == list(range(40))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_slow_reader(policy: Any) -> None:
    """One that holds a view for three periods of the ring: the view never changes, and the books are right."""
    slots = 4
    ring = nds.Ring(5000, np.uint8, slots=slots, when_full=policy)
    reader = ring.reader()
    put_all(ring, 77)
    view = reader.get()[100:]
    digest = zlib.crc32(view)
    published = 0
    for number in range(3 * slots):
        try:
            published += ring.put(np.full(5000, number, np.uint8), timeout=0.01) is not None
        except nds.Full:
            assert policy == "wait"
        assert zlib.crc32(view) == digest
    stats = ring.stats()
    (books,) = stats["readers"]
    following = reader.get()
    if policy == "drop_oldest":
        assert published == 3 * slots
        assert (following.seq - view.seq - 1, stats["dropped"]) == (books["missed"], 0)
        assert books["missed"] == 2 * slots
    else:
        assert published == slots
        assert (following.seq, books["missed"]) == (1, 0)
        assert stats["dropped"] == (2 * slots if policy == "drop_newest" else 0)
    assert (books["lag"], books["held"], books["alive"]) == (slots, 1, True)
    assert zlib.crc32(view) == digest


def test_full_comes_at_the_timeout_and_space_wakes_the_writer() -> None:
    ring = nds.Ring(2, np.int64, slots=2)
    reader = ring.reader()
    put_all(ring, 0, 1)
    start = time.perf_counter()
    with pytest.raises(nds.Full) as caught, ring.write(timeout=0.1):
        pass
    assert time.perf_counter() - start >= 0.1
    assert isinstance(caught.value, (TimeoutError, queue.Full))
    thread = threading.Thread(target=lambda: put_all(ring, 2))
    thread.start()
    wait_for_sleeper(None, thread.native_id)
    assert firsts([reader.get()]) == [0]
    thread.join(HANG)
    assert firsts([reader.get(), reader.get()]) == [1, 2]


def test_the_ring_takes_another_block_while_all_are_held_and_says_when_there_is_none() -> None:
    with nds.Arena("8 MiB") as arena:
        ring = nds.Ring(1 << 20, np.uint8, slots=2, arena=arena)
        reader = ring.reader()
        frames = []
        with suppress(nds.ArenaFull):
            for number in range(20):
                put_all(ring, number)
                frames.append(reader.get())
        with pytest.raises(nds.ArenaFull):
            put_all(ring, 0)
        assert len(frames) >= 4
        assert firsts(frames) == list(range(len(frames)))
        frames.clear()
        put_all(ring, 99)
        assert firsts([reader.get()]) == [99]
        del ring, reader
        assert held(arena) == 0


def test_a_reader_that_never_reads_and_is_dropped_holds_nobody_back() -> None:
    ring = nds.Ring(2, np.int64, slots=2)
    for end in ("del", "close", "with"):
        reader = ring.reader()
        put_all(ring, 0, 1)
        with pytest.raises(nds.Full):
            ring.put([0, 0], timeout=0)
        thread = threading.Thread(target=lambda: put_all(ring, 2, 3, 4, 5))
        thread.start()
        if end == "close":
            reader.close()
        elif end == "with":
            with reader:
                pass
        del reader
        thread.join(HANG)
        assert not thread.is_alive()
    assert ring.stats()["readers"] == []


@pytest.mark.parametrize("policy", POLICIES)
def test_a_reader_that_is_killed_holds_nobody_back(policy: Any) -> None:
    ring = nds.Ring(2, np.int64, slots=2, when_full=policy)
    mine, theirs = FORK.Pipe()
    put_all(ring, 0)
    with child(workers.hold_back, ring.reader(start="oldest"), theirs) as process:
        assert mine.recv() == 0
        put_all(ring, 1, 2)
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
        start = time.perf_counter()
        assert [ring.put([n, n], timeout=HANG) for n in range(8)] == list(range(3, 11))
        note_pause(f"a killed reader, {policy}", time.perf_counter() - start)
    assert ring.stats()["readers"] == []


def test_a_million_small_frames_through_a_lapping_writer() -> None:
    count = 1_000_000
    ring = nds.Ring(8, np.uint64, slots=64, when_full="drop_oldest")
    reader = ring.reader()
    got = missed = torn = 0
    with child(workers.swift, ring, count):
        for frame in reader:
            missed += frame.seq - got - missed
            got += 1
            torn += frame[0] != frame.seq or frame[7] != frame.seq or bytes(frame[:4]) != bytes(frame[4:])
        (books,) = ring.stats()["readers"]
    assert torn == 0
    assert got + missed == count == ring.stats()["written"]
    assert books["missed"] == missed


# ---- waiting --------------------------------------------------------------------------------------------------------


class InterruptedWaitError(Exception):
    """Raised by the handler of a signal."""


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def handler(*_: object) -> None:
        raise InterruptedWaitError

    before = signal.signal(signal.SIGALRM, handler)
    try:
        # On a busy machine it may strike before the wait begins, or this function ends.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_waits_answer_signals_and_timeouts() -> None:
    ring = nds.Ring(2, slots=1)
    reader, member, latest = ring.reader(), ring.reader(group="g"), ring.reader(latest=True)

    def write() -> None:
        with ring.write():
            pass

    waits: list[Callable[[], object]] = [reader.get, member.get, latest.get, lambda: next(reader)]
    for number, wait in enumerate([*waits, write, lambda: ring.put([1, 2])]):
        if number == len(waits):
            put_all(ring, 1)
        start = time.perf_counter()
        with pytest.raises(InterruptedWaitError), interrupted_after(0.05):
            wait()
        note_pause("a signal in a wait", time.perf_counter() - start - 0.05)
    for one in (reader, member, latest):
        one.get()
    start = time.perf_counter()
    with pytest.raises(nds.Empty) as caught:
        reader.get(timeout=0.1)
    assert time.perf_counter() - start >= 0.1
    assert isinstance(caught.value, (TimeoutError, queue.Empty))


def test_waiting_lets_other_threads_run() -> None:
    ring = nds.Ring(2, np.int64, slots=4, spin=0.5)
    reader = ring.reader()
    thread = threading.Timer(0.05, lambda: put_all(ring, 4))  # while the reader spins, which nothing tells
    thread.start()
    assert firsts([reader.get(timeout=HANG)]) == [4]
    thread.join()


def _is_in_poll(thread: threading.Thread) -> bool:
    number = {"x86_64": 271, "aarch64": 73}[os.uname().machine]
    return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0] == str(number)


@contextmanager
def _dozing(reader: nds.Reader) -> Iterator[list[object]]:
    """Have a thread wait in `get` until the kernel alone watches for it; the list gets what came of that."""
    outcome: list[object] = []

    def wait() -> None:
        try:
            outcome.append(reader.get(timeout=HANG).seq)
        except Exception as error:
            outcome.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert wait_until(lambda: _is_in_poll(thread), HANG)
    yield outcome
    thread.join(HANG)


def is_readable_for_nothing(reader: nds.Reader) -> bool:
    with suppress(nds.Empty):
        reader.get(timeout=0)
    return bool(select.select([reader], [], [], 0)[0])


def test_a_writer_that_had_no_descriptor_left_tells_the_descriptor_next_time() -> None:
    """It wrote down that it had told: nobody told any more, and a window stood still for good."""
    ring = nds.Ring(2, np.int64, slots=4)
    reader, writer = ring.reader(), ring.writer()
    conn, theirs = FORK.Pipe()
    process = FORK.Process(target=workers.write_without_descriptors, args=(writer, theirs))
    watched = reader.fileno()
    process.start()
    del writer
    assert conn.recv() == 0
    assert firsts([reader.get(timeout=HANG)]) == [0]
    assert wait_until(lambda: not is_readable_for_nothing(reader), HANG)
    conn.send("write")
    assert conn.recv() == "written"
    assert select.select([watched], [], [], HANG)[0]
    assert firsts([reader.get(timeout=0), reader.get(timeout=0)]) == [1, 2]
    conn.send("end")
    process.join(HANG)


def test_who_has_waited_for_long_is_woken_by_a_frame_a_death_and_the_end() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader, writer = ring.reader(), ring.writer()
    ready, theirs = FORK.Pipe()
    process = FORK.Process(target=workers.write_when_told, args=(writer, theirs))
    process.start()
    del writer
    assert reader.get(timeout=HANG).seq == 0
    with _dozing(reader) as outcome:
        ready.send(1)
    assert outcome == [1]
    with _dozing(reader) as outcome:
        process.kill()
    assert outcome == [nds.WriterDied]
    process.join(HANG)
    process.close()
    ready.close()
    theirs.close()
    with _dozing(reader) as outcome:
        ring.close()
    assert outcome == [nds.Closed]
    other = nds.Ring(2, np.int64, slots=4).reader()
    with _dozing(other) as outcome:
        other.close()
    assert outcome == [nds.Closed]


@pytest.mark.parametrize("mode", [{}, {"latest": True}, {"group": "g"}])
def test_frames_that_are_expected_come_as_all_others_do(mode: dict[str, Any]) -> None:
    ring = nds.Ring(2, np.int64, slots=64, spin="auto")
    reader = ring.reader(**mode)
    camera = FORK.Process(target=workers.film, args=(ring.writer(), 60, 0.002))
    camera.start()
    seqs = [frame.seq for frame in reader]
    assert seqs == list(range(60)) if not mode.get("latest") else seqs[-1] == 59
    camera.join(HANG)
    with pytest.raises(nds.Closed):
        reader.get(timeout=0.01)


def test_who_expects_a_frame_hears_of_a_death_and_of_the_timeout() -> None:
    ring = nds.Ring(2, np.int64, slots=8, spin="auto")
    reader = ring.reader()
    camera = FORK.Process(target=workers.film, args=(ring.writer(), 10**6, 0.005))
    camera.start()
    for _ in range(20):
        reader.get(timeout=HANG)
    camera.kill()
    with pytest.raises(nds.WriterDied):
        list(reader)
    with pytest.raises(nds.Empty):
        reader.get(timeout=0.02)
    camera.join(HANG)


def test_an_idle_reader_takes_no_processor_time() -> None:
    ring = nds.Ring(2, slots=2)
    reader = ring.reader()
    before = resource.getrusage(resource.RUSAGE_THREAD)
    with pytest.raises(nds.Empty):
        reader.get(timeout=1)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.05


def is_readable(reader: nds.Reader, timeout: float = 0) -> bool:
    return bool(select.select([reader], [], [], timeout)[0])


def test_the_descriptor_is_readable_while_a_frame_is_ready() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    for arguments in ({}, {"latest": True}, {"group": "g"}):
        with ring.reader(**arguments) as reader:
            assert not is_readable(reader)
            for _ in range(5):
                put_all(ring, 1, 2)
                assert is_readable(reader)
                reader.get()
                if not arguments.get("latest"):
                    assert is_readable(reader)
                    reader.get()
                assert not is_readable(reader)
            thread = threading.Timer(0.05, lambda: put_all(ring, 3))  # selectors sleep in the kernel, on no word
            thread.start()
            assert is_readable(reader, HANG)
            assert firsts([reader.get(0)]) == [3]
            thread.join()
    with ring.reader() as reader:
        assert not is_readable(reader)
        ring.close()
        assert is_readable(reader, HANG)
        with pytest.raises(nds.Closed):
            reader.get(0)


def test_the_descriptor_is_told_by_another_process() -> None:
    gc.collect()
    before = descriptors()
    ring = nds.Ring(2, np.int64, slots=4)
    reader = ring.reader()
    assert not is_readable(reader)
    got: list[int] = []
    with child(workers.fill, ring, list(range(200))):
        with suppress(nds.Closed):
            while is_readable(reader, HANG):
                with suppress(nds.Empty):
                    got += firsts([reader.get(0)])
        assert got == list(range(200))
    reader.close()
    gc.collect()
    assert descriptors() == before


def test_asyncio() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    readers = [ring.reader(), ring.reader(latest=True)]

    async def collect(reader: nds.Reader) -> list[int]:
        return [frame.seq async for frame in reader]

    async def main() -> list[list[int]]:
        return await asyncio.wait_for(asyncio.gather(*map(collect, readers)), HANG)

    with child(workers.fill, ring, list(range(100))):
        every, latest = asyncio.run(main())
    assert every == list(range(100))
    assert latest == sorted(set(latest))
    assert latest[-1] == 99


def test_a_cancelled_task_loses_no_frame_and_leaves_nothing() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader = ring.reader()
    reader.fileno()
    before = descriptors()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        opened = descriptors()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(reader)), 0.02)
        tasks = [asyncio.ensure_future(anext(aiter(reader))) for _ in range(3)]
        while any(task._fut_waiter is None for task in tasks):  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert descriptors() == opened
        loop.call_later(0.02, lambda: put_all(ring, 8))
        frame = await anext(aiter(reader))
        return int(frame[0])

    assert asyncio.run(main()) == 8
    assert descriptors() == before
    put_all(ring, 9)
    assert firsts([reader.get(0)]) == [9]


def is_quiet(reader: nds.Reader) -> bool:
    """Tell whether the descriptor stays silent for longer than any timer of ours."""
    return not is_readable(reader, 0.4)


def hears(reader: nds.Reader) -> type[Exception] | None:
    """Wait until the descriptor is readable and `get` has something to say; return what it raised."""
    end = time.monotonic() + HANG
    while time.monotonic() < end:
        assert is_readable(reader, HANG), "nothing was heard"
        try:
            reader.get(timeout=0)
        except nds.Empty:
            continue
        except nds.Error as error:
            return type(error)
        return None
    raise AssertionError("readable for nothing again and again")


@pytest.mark.parametrize("early", [True, False])
def test_the_descriptor_hears_that_the_last_writer_was_killed(method: str, early: bool) -> None:
    """A GUI waits for `fileno()`; its camera is killed. The descriptor stayed silent, and the picture froze."""
    context = mp.get_context(method)
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    if early:
        assert not is_readable(reader)
    mine, theirs = context.Pipe()
    with child(workers.write_and_wait, ring, 2, theirs, context=context) as process:
        assert mine.recv() == 2
        assert [reader.get(0).seq for _ in range(2)] == [0, 1]
        with suppress(nds.Empty):
            reader.fileno()
            reader.get(0)
        assert is_quiet(reader), "a writer that lives is no news"
        os.kill(process.pid, signal.SIGKILL)
        assert hears(reader) is nds.WriterDied
        assert is_quiet(reader), "it is told once"
    with child(workers.fill, ring, [5], context=context):
        assert hears(reader) is None
        assert hears(reader) is nds.Closed


def test_the_descriptor_hears_of_a_writer_that_died_before_its_first_frame() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    assert not is_readable(reader)
    mine, theirs = FORK.Pipe()
    with child(workers.enter_and_wait, ring, theirs) as process:
        assert mine.recv() == "inside"
        os.kill(process.pid, signal.SIGKILL)
        assert hears(reader) is nds.WriterDied
        assert is_quiet(reader)


def test_the_descriptor_hears_of_a_writer_that_was_lost_before_anybody_used_it() -> None:
    """It has no process that the kernel could tell of; so the descriptor looks now and then while there is one."""
    ring = nds.Ring(2, np.int64, slots=8)
    reader, writer = ring.reader(), ring.writer()
    assert not is_readable(reader)
    with child(workers.keep, writer) as process:
        del writer
        with pytest.raises(nds.Empty):
            reader.get(0)
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
        assert hears(reader) is nds.WriterDied
        assert is_quiet(reader)


def test_the_descriptor_hears_of_the_last_of_several_writers_only() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    readers = [ring.reader(), ring.reader(latest=True), ring.reader(group="g")]
    assert not any(map(is_readable, readers))
    pipes = [FORK.Pipe() for _ in range(2)]
    with ExitStack() as stack:
        processes = [stack.enter_context(child(workers.write_and_wait, ring, 1, theirs)) for _, theirs in pipes]
        assert [mine.recv() for mine, _ in pipes] == [1, 1]
        for reader in readers:
            with suppress(nds.Empty):
                while True:
                    reader.get(0)
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].join(HANG)
        for reader in readers:
            # Readable or not: there is nothing to tell, and it is quiet once somebody has looked.
            with pytest.raises(nds.Empty):
                reader.get(0)
            assert is_quiet(reader)
        os.kill(processes[1].pid, signal.SIGKILL)
        assert [hears(reader) for reader in readers] == [nds.WriterDied] * 3
        assert all(map(is_quiet, readers))


def test_poll_and_asyncio_hear_of_the_death_of_the_last_writer() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    poll = select.poll()
    poll.register(reader, select.POLLIN)

    async def heard() -> None:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(reader.fileno(), news.set)
        await asyncio.wait_for(news.wait(), HANG)
        loop.remove_reader(reader.fileno())

    for wait in (lambda: poll.poll(HANG * 1000), lambda: asyncio.run(heard())):
        mine, theirs = FORK.Pipe()
        with child(workers.write_and_wait, ring, 1, theirs) as process:
            assert mine.recv() == 1
            assert hears(reader) is None
            with suppress(nds.Empty):
                reader.get(0)
            assert is_quiet(reader)
            os.kill(process.pid, signal.SIGKILL)
            wait()
            assert hears(reader) is nds.WriterDied
    poll.unregister(reader)


def test_the_descriptor_hears_that_a_frame_of_a_dead_member_is_there_again() -> None:
    with a_frame_in_hand() as (_, member, process):
        with suppress(nds.Empty):
            member.fileno()
            member.get(0)
        assert is_quiet(member)
        os.kill(process.pid, signal.SIGKILL)
        assert hears(member) is None
        assert is_quiet(member)


def test_the_descriptor_is_quiet_once_a_frame_of_a_dead_member_was_got() -> None:
    """`fileno` itself may be the first to see the death. The frame came, and the pipe kept its byte for nobody."""
    with a_frame_in_hand() as (_, member, process):
        assert is_quiet(member)
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
        assert is_readable(member)
        assert member.get(0).seq == 0
        assert is_quiet(member)


@pytest.mark.parametrize("are_members_left", [True, False])
def test_a_frame_that_is_dropped_after_its_reader_was_closed_is_the_groups_again(are_members_left: bool) -> None:
    """The variable of a loop in `with reader` ends after the reader. That drop counted as done: the frame was lost."""
    ring = nds.Ring(2, np.int64, slots=8)
    member, others = ring.reader(group="g"), [ring.reader(group="g")] if are_members_left else []
    ring.put([7, 7])
    with member:
        frame = member.get(timeout=HANG)
    del frame
    other = others[0] if others else ring.reader(group="g")
    assert other.get(timeout=HANG)[0] == 7
    del other
    assert ring.stats()["missed"] == 0


@pytest.mark.parametrize("is_own", [True, False])
def test_poll_hears_of_a_frame_that_a_member_leaves_to_the_others(is_own: bool) -> None:
    """A member that lives on closes its reader with a frame in hand. `get` gave it to the others, no wake-up came."""
    ring = nds.Ring(2, np.int64, slots=8)
    member, poll = ring.reader(group="g"), select.poll()
    other = ring.reader(group="g", start="oldest")
    put_all(ring, 1)
    with ExitStack() as stack:
        if is_own:
            frame, leave = other.get(0), other.close
        else:
            mine, theirs = FORK.Pipe()
            stack.enter_context(child(workers.close_holding, other, theirs))
            frame, leave = mine.recv(), lambda: mine.send("close")
        poll.register(member, select.POLLIN)
        with pytest.raises(nds.Empty):
            member.get(0)
        assert not poll.poll(400)
        leave()
        assert poll.poll(HANG * 1000)
        assert hears(member) is None
        assert is_quiet(member)
    del frame


@pytest.mark.parametrize("policy", ["wait", "drop_newest"])
def test_a_full_ring_asks_for_the_frame_that_a_member_has_in_a_variable(policy: Any) -> None:
    """A loop over select keeps its last frame in a variable. Such frames held a full ring for ever."""
    ring = nds.Ring(2, np.int64, slots=2, when_full=policy)
    members = [ring.reader(group="g") for _ in range(2)]
    put_all(ring, 1, 2)
    frames = [member.get(0) for member in members]
    assert all(map(is_quiet, members)), "nobody waits for room"
    for _ in range(2):
        with suppress(nds.Full):
            assert ring.put([3, 3], timeout=0) is None
        assert is_readable(members[0])
        assert is_quiet(members[1]), "room for one is wanted"
    with pytest.raises(nds.Empty):
        members[0].get(0)
    assert all(map(is_quiet, members))
    assert ring.put([3, 3], timeout=HANG) == 2
    assert all(map(is_readable, members))
    frames += [members[0].get(0)]
    assert all(map(is_quiet, members)), "what is in hand is no concern of a writer that has gone on"
    assert firsts(frames) == [1, 2, 3]


def test_a_member_that_was_asked_and_has_dropped_its_frame_is_left_alone() -> None:
    ring = nds.Ring(2, np.int64, slots=1)
    member = ring.reader(group="g")
    put_all(ring, 1)
    frame = member.get(0)
    assert not is_readable(member)
    with pytest.raises(nds.Full):
        ring.put([2, 2], timeout=0)
    assert is_readable(member)
    del frame
    assert is_quiet(member)


@pytest.mark.parametrize(("members", "slots"), [(2, 2), (5, 2), (5, 1)])
def test_members_on_descriptors_with_frames_in_variables_get_them_all(members: int, slots: int) -> None:
    """Of 30 streams 5 stood still with `Full` at the writers, and the descriptors silent."""
    ring, count = nds.Ring(2, np.int64, slots=slots), 200
    results: Any = FORK.Queue()
    with ExitStack() as stack:
        for reader in [ring.reader(group="g") for _ in range(members)]:
            stack.enter_context(child(workers.select_and_keep, reader, results))
        del reader
        for writer in [ring.writer() for _ in range(2)]:
            stack.enter_context(child(workers.write_as, writer, list(range(count)), "close"))
        del writer
        got = [results.get(timeout=HANG) for _ in range(members)]
    assert sorted(number for each in got for number in each) == sorted([*range(count)] * 2)
    assert ring.stats()["missed"] == 0


def test_without_pidfds_the_descriptor_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pidfd can be had, as with an older kernel or in a sandbox; the death is heard all the same."""
    monkeypatch.setenv("NDSHARE_NO_PIDFD", "1")
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    assert is_quiet(reader)
    mine, theirs = FORK.Pipe()
    with child(workers.write_and_wait, ring, 1, theirs) as process:
        assert mine.recv() == 1
        assert hears(reader) is None
        for _ in range(3):
            with pytest.raises(nds.Empty):
                reader.get(0)
            assert is_readable(reader, HANG), "now and then it is readable for nothing"
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
        assert hears(reader) is nds.WriterDied
        assert is_quiet(reader)


STRANGER = """
import os, sys
pairs = [os.pipe() for _ in range(60)]
for r, _ in pairs: os.set_blocking(r, False)
print("ready", flush=True)
sys.stdin.readline()
stray = 0
for r, _ in pairs:
    try: stray += len(os.read(r, 10))
    except BlockingIOError: pass
print(stray, flush=True)
"""


@pytest.mark.parametrize("way", ["write", "put", "close", "begin"])
def test_a_program_in_the_place_of_a_reader_gets_no_byte(way: str) -> None:
    """A process that waited on `fileno()` became another program by exec, whose own pipe got the wake-up bytes."""
    ring = nds.Ring(4, np.uint8, slots=4, when_full="drop_oldest")
    ends = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            reader = ring.reader()
            select.select([reader], [], [], 0)
            os.dup2(ends[0][0], 0)
            os.dup2(ends[1][1], 1)
            os.execv(sys.executable, [sys.executable, "-c", STRANGER])
        os._exit(1)
    with os.fdopen(ends[0][1], "w") as into, os.fdopen(ends[1][0]) as out:
        os.close(ends[0][0])
        os.close(ends[1][1])
        assert out.readline() == "ready\n"
        if way == "write":
            for _ in range(20):
                with ring.write() as frame:
                    frame[:] = 1
        elif way == "put":
            put_all(ring, *range(20))
        elif way == "begin":
            with ring:
                pass
        else:
            ring.close()
        print("go", file=into, flush=True)
        stray = int(out.readline())
    os.waitpid(pid, 0)
    assert stray == 0


def test_a_reader_that_arrives_twice_is_one_reader() -> None:
    """Sent to two threads of a process, say. Dropping one of the objects closed the other."""
    ring = nds.Ring(4, np.uint8, slots=8)
    for used in (False, True):
        reader = ring.reader()
        wires = [bytes(ForkingPickler.dumps(reader)) for _ in range(2)]
        put_all(ring, 1, 2, 3)
        if used:
            assert firsts([reader.get(0)]) == [1]
        others = [pickle.loads(wire) for wire in wires]
        assert firsts(other.get(0) for other in [others[0]]) == [2 if used else 1]
        assert is_readable(others[1])
        del others[0]
        gc.collect()
        assert firsts([reader.get(0)]) == [3 if used else 2]
        others[0].close()
        assert reader.closed
        with pytest.raises(nds.Closed):
            reader.get(0)
        assert ring.stats()["readers"] == []
    data = ForkingPickler.dumps(closed := ring.reader())
    closed.close()
    put_all(ring, 9)
    assert firsts([pickle.loads(data).get(0)]) == [9], "the sender may close its own"


def test_one_large_frame_long_ago_is_given_back() -> None:
    """A ring without a shape carried one frame of 64 MiB, and kept it for ever."""
    with nds.Arena("256 MiB") as arena:
        ring = nds.Ring(slots=4, arena=arena)
        reader = ring.reader()
        for size in (1 << 26, *[10] * 200):
            ring.put(np.zeros(size, np.uint8))
            reader.get(0)
        assert held(arena) < 1 << 20
        # The block of a frame that is published as it is; it was the newest frame at each turn of a period.
        ring.put(nds.zeros(1 << 26, np.uint8, arena=arena)[:10])
        reader.get(0)
        for _ in range(500):
            ring.put(np.zeros(10, np.uint8))
            reader.get(0)
        assert held(arena) < 1 << 20


# ---- the end --------------------------------------------------------------------------------------------------------


def test_closing_drains_and_then_ends() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader, idle = ring.reader(), ring.reader()
    put_all(ring, 0, 1)
    with pytest.raises(nds.Closed), ring.write() as frame:
        ring.close()
    assert frame.seq is None
    assert ring.closed
    assert firsts(reader) == [0, 1]
    assert list(reader) == []
    with pytest.raises(nds.Closed):
        reader.get()
    for use in (ring.write().__enter__, lambda: ring.put([1, 2]), lambda: ring.put(nds.zeros(2, np.int64))):
        with pytest.raises(nds.Closed, match="closed"):
            use()
    ring.close()
    idle.close()
    with pytest.raises(nds.Closed, match="reader was closed"):
        idle.get()
    with pytest.raises(nds.Closed):
        idle.fileno()
    assert list(idle) == []


def test_a_waiting_reader_hears_of_the_end() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader = ring.reader()
    thread = when_asleep(ring.close)
    assert list(reader) == []
    thread.join()


def test_a_waiting_writer_hears_of_the_end() -> None:
    ring = nds.Ring(2, np.int64, slots=1)
    _reader = ring.reader()
    put_all(ring, 1)
    thread = when_asleep(ring.close)
    with pytest.raises(nds.Closed):
        put_all(ring, 2)
    thread.join()


def test_the_last_of_several_writers_ends_the_stream() -> None:
    ring = nds.Ring(2, np.int64, slots=64)
    reader = ring.reader()
    with ring:
        with ring:
            put_all(ring, 1)
        assert not ring.closed
        process = FORK.Process(target=workers.fill, args=(ring, [2, 3]))
        process.start()
        process.join(HANG)
        assert process.exitcode == 0
        assert not ring.closed, "this process is still a writer"
    assert ring.closed
    assert firsts(reader) == [1, 2, 3]


def test_the_last_writer_is_killed_and_a_successor_goes_on() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    reader, member = ring.reader(), ring.reader(group="g")
    mine, theirs = FORK.Pipe()
    with child(workers.write_and_wait, ring, 3, theirs) as process:
        assert mine.recv() == 3
        os.kill(process.pid, signal.SIGKILL)
        start = time.perf_counter()
        assert [reader.get().seq for _ in range(3)] == [0, 1, 2]
        with pytest.raises(nds.WriterDied, match="without closing"):
            next(reader)
        note_pause("WriterDied", time.perf_counter() - start)
    with pytest.raises(nds.Empty):
        reader.get(timeout=0.15)
    with child(workers.fill, ring, [5, 6]):
        assert [frame.seq for frame in reader] == [3, 4]
    with suppress(nds.WriterDied):
        member.get(HANG)
    assert [frame.seq for frame in member] == [1, 2, 3, 4]


@pytest.mark.parametrize("made", [True, False])
def test_writer_died_names_the_process(made: bool) -> None:
    """A `Writer` that a process was sent, or a process that writes through the ring itself."""
    ring = nds.Ring(2, np.int64, slots=8)
    reader, (mine, theirs) = ring.reader(), FORK.Pipe()
    with child(workers.write_and_wait, ring.writer() if made else ring, 3, theirs) as process:
        assert mine.recv() == 3
        pid = process.pid
        os.kill(pid, signal.SIGKILL)
        process.join(HANG)
    assert [reader.get().seq for _ in range(3)] == [0, 1, 2]
    with pytest.raises(nds.WriterDied, match=rf"\(process {pid}\)") as caught:
        reader.get(HANG)
    assert caught.value.pid == pid
    assert pickle.loads(pickle.dumps(caught.value)).pid == pid
    assert nds.WriterDied("text").pid is None


@pytest.mark.thread_unsafe(reason="a name is one ring for all threads")
def test_a_reader_and_a_writer_are_opened_by_a_reference() -> None:
    """As a program in Rust gives them to one in Python: the token says of which ring they are."""
    ring = nds.Ring((2, 3), np.uint16, slots=4, name="cam0")
    frames, writer = ring.reader(), ring.writer()
    sent = (_native.reader_parts(frames), _native.writer_parts(writer))
    texts = [_native.to_text(token) for _, token, _ in sent]
    for parts, _, _ in sent:
        _native.open_ring(*parts)  # it is in flight, too, and nobody needs it
    its_frames, its_writer = (nds.ref(text).open() for text in texts)
    assert (type(its_frames), type(its_writer)) == (nds.Reader, nds.Writer)
    with its_writer:
        its_writer.put(np.full((2, 3), 7, np.uint16))
    writer.close()
    (frame,) = its_frames
    assert (frame.dtype, frame.tolist()) == (np.uint16, [[7] * 3] * 2)
    assert (its_writer.ring.name, its_writer.ring.shape) == ("cam0", (2, 3))


def test_numbers_that_cannot_be_are_told() -> None:
    for keep in (-1, 21):
        with pytest.raises(ValueError, match=f"got {keep}"):
            nds.Ring(2, slots=20, keep=keep)
    for slots in (-1, 0, 65537):
        with pytest.raises(ValueError, match=f"got {slots}"):
            nds.Ring(2, slots=slots)


def test_asyncio_hears_of_the_death_of_the_last_writer() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    mine, theirs = FORK.Pipe()

    async def main(pid: int) -> list[int]:
        stream = aiter(reader)
        seen = [(await anext(stream)).seq for _ in range(2)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(nds.WriterDied):
            await anext(stream)
        return seen

    with child(workers.write_and_wait, ring, 2, theirs) as process:
        assert mine.recv() == 2
        assert asyncio.run(asyncio.wait_for(main(process.pid), HANG)) == [0, 1]


# ---- travel ---------------------------------------------------------------------------------------------------------


SNIPPET = """
import multiprocessing as mp, signal, sys
import numpy as np
import ndshare as nds
signal.alarm(60)

class Camera:
    taken = 0
    @property
    def running(self): return self.taken < 10
    def read_into(self, frame):
        frame[:] = self.taken
        self.taken += 1
camera = Camera()

def acquire(ring):
    with ring:                                              # leaving it ends the stream
        while camera.running:
            with ring.write() as frame: camera.read_into(frame)
if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    ring = nds.Ring((1200, 1600), np.uint16, slots=32, when_full="drop_oldest")
    frames = ring.reader()                                  # counts from here on
    mp.Process(target=acquire, args=(ring,)).start()
    spectrum = nds.empty((1200, 801), np.complex64)
    for frame in frames: np.copyto(spectrum, np.fft.rfft2(frame), casting="unsafe"); print(int(spectrum[0, 0].real))
"""


def test_the_acquisition_snippet(method: str) -> None:
    out = run(SNIPPET, method).clean()
    assert list(map(int, out.split())) == [number * 1200 * 1600 for number in range(10)]


def test_a_reader_made_here_and_used_there(method: str) -> None:
    context = mp.get_context(method)
    ring = nds.Ring(2, np.int64, slots=64)
    for drop in (True, False):
        mine, theirs = context.Pipe()
        reader = ring.reader()
        start = ring.stats()["written"]
        put_all(ring, 7, 8)
        with child(workers.read_all, reader, theirs, context=context) as process:
            if drop:
                reader.close()
                del reader
            put_all(ring, 9)
            if drop:
                assert wait_until(lambda: ring.stats()["readers"][0]["lag"] == 0)
                os.kill(process.pid, signal.SIGKILL)
            else:
                ring.close()
                assert mine.recv() == [(start, 7), (start + 1, 8), (start + 2, 9)]
                with pytest.raises((RuntimeError, nds.Closed)):
                    reader.get(0)


def test_a_reader_belongs_to_who_uses_it_first() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    data = ForkingPickler.dumps(reader)
    mine, theirs = FORK.Pipe()
    put_all(ring, 1)
    with child(workers.hold_back, reader, theirs):
        assert mine.recv() == 0
        for use in (reader.get, reader.fileno, reader.__next__):
            with pytest.raises(RuntimeError, match="another process"):
                use()
        with pytest.raises(RuntimeError, match="nobody has used"):
            ForkingPickler.dumps(reader)
        reader.close()
        assert len(ring.stats()["readers"]) == 1, "closing one's own does not end the other's"
    del reader
    assert ring.stats()["readers"] == []
    with pytest.raises(nds.Stale):
        ForkingPickler.loads(data)


def in_a_fork(work: Callable[[], object]) -> int:
    """Do the work in a forked child; return its exit status: 0 if it did, 7 for a RuntimeError."""
    pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(BaseException):
            try:
                work()
                status = 0
            except RuntimeError:
                status = 7
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("arguments", [{}, {"group": "g"}])
def test_a_forked_child_drops_copies_of_frames_without_an_effect(arguments: Any) -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader, other = ring.reader(**arguments), ring.reader(**arguments)
    put_all(ring, 1)
    frames = [reader.get()]
    for _ in range(2):
        assert in_a_fork(frames.clear) == 0
    assert ring.stats()["readers"][0]["held"] == 1
    frames.clear()
    assert ring.stats()["readers"][0]["held"] == 0
    if arguments:
        with pytest.raises(nds.Empty):
            other.get(0)


def test_a_frame_that_a_forked_child_dropped_still_comes_again() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    member, other = ring.reader(group="g"), ring.reader(group="g")
    put_all(ring, 1)
    frames = [member.get()]
    assert in_a_fork(frames.clear) == 0
    member.close()
    assert firsts([other.get(HANG)]) == [1]


def test_a_frame_is_published_by_the_process_that_began_it() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    reader, writing = ring.reader(), ring.write()
    with writing as frame:
        frame[:] = 5
        assert in_a_fork(lambda: writing.__exit__(None, None, None)) == 7
        assert ring.stats()["written"] == 0
    assert firsts([reader.get(0)]) == [5]


def test_closing_a_reader_ends_the_waits_of_other_threads_and_leaves_the_next_reader_alone() -> None:
    ring = nds.Ring(2, np.int64, slots=4)
    for wait in (nds.Reader.get, next):
        reader, ends, begun = ring.reader(), queue.SimpleQueue[type](), threading.Barrier(4)

        def read(reader: nds.Reader, wait: Any = wait, ends: Any = ends, begun: Any = begun) -> None:
            begun.wait(HANG)
            try:
                wait(reader)
            except (nds.Closed, StopIteration) as error:
                ends.put(type(error))

        threads = [threading.Thread(target=read, args=(reader,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(HANG)
        time.sleep(0.02)  # most of them wait by then; it must work either way
        reader.close()
        following = ring.reader()
        put_all(ring, 3, 4)
        for thread in threads:
            thread.join(HANG)
        assert [ends.get(timeout=0) for _ in threads] == [nds.Closed if wait is nds.Reader.get else StopIteration] * 3
        assert firsts([following.get(0), following.get(0)]) == [3, 4]


def test_threads_share_a_reader() -> None:
    ring = nds.Ring(2, np.int64, slots=3)
    reader, got = ring.reader(), queue.SimpleQueue[int]()

    def write() -> None:
        put_all(ring, *range(1000))

    def read() -> None:
        for frame in reader:
            got.put(frame.seq)

    writers, readers = ([threading.Thread(target=target) for _ in range(3)] for target in (write, read))
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join(HANG)
    ring.close()
    for thread in readers:
        thread.join(HANG)
    assert sorted(got.get() for _ in range(got.qsize())) == list(range(3000))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stopped_reader(policy: Any) -> None:
    """One that is stopped is alive: it holds writers back as the policy says, and goes on where it was."""
    ring = nds.Ring(2, np.int64, slots=4, when_full=policy)
    mine, theirs = FORK.Pipe()
    with child(workers.read_all, ring.reader(), theirs) as process:
        assert wait_until(lambda: _state(process.pid) == "S")
        os.kill(process.pid, signal.SIGSTOP)
        assert wait_until(lambda: _state(process.pid) == "T")
        published = 0
        for number in range(12):
            with suppress(nds.Full):
                published += ring.put([number] * 2, timeout=0.01) is not None
        assert ring.stats()["readers"][0]["alive"]
        os.kill(process.pid, signal.SIGCONT)
        ring.close()
        got = [number for number, _ in mine.recv()]
    assert published == (12 if policy == "drop_oldest" else 4)
    assert got == list(range(published - 4, published))


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_ring_used_by_a_signal_handler_inside_its_own_calls() -> None:
    ring = nds.Ring(1000, np.int64, slots=4)
    reader, calls = ring.reader(), 0

    def use(number: int, timeout: float) -> None:
        with suppress(nds.Full):
            ring.put(np.full(1000, number), timeout=timeout)
        with suppress(nds.Empty):
            assert len(set(reader.get(timeout).tolist())) == 1

    def handler(*_: object) -> None:
        nonlocal calls
        calls += 1
        use(-1, 0)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        number = 0
        while calls < 200:
            use(number, 0.002)
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_many_frames_are_begun_at_once() -> None:
    ring = nds.Ring(2, np.int64, slots=2)
    with ring.write() as first, ring.write() as second, ring.write() as third:
        for number, frame in enumerate((first, second, third)):
            frame[:] = number
    assert (third.seq, second.seq, first.seq) == (0, 1, 2)
    assert firsts(frame for frame in [ring.reader(start="oldest").get(0)]) == [1]
    ring = nds.Ring(2, np.int64, slots=2)
    with ExitStack() as stack:
        for _ in range(10):  # two slots and eight spare frames
            stack.enter_context(ring.write())
        with pytest.raises(nds.Full, match=rf"being filled.* They are filled by pid {os.getpid()} \("):
            ring.put([0, 0], timeout=0.01)


def test_dtypes_with_many_fields_pass_and_too_long_ones_say_what_to_do() -> None:
    ring = nds.Ring(slots=2)
    reader = ring.reader()
    dtype = np.dtype([(f"field{n}", "<f8") for n in range(20)])
    ring.put(np.zeros(3, dtype))
    assert reader.get(0).dtype == dtype
    long = np.dtype([(f"a field with a long name {n}", "<f8") for n in range(20)])
    ring.put(np.zeros(3, long))
    assert reader.get(0).dtype == long
    with pytest.raises(ValueError, match="make the ring with this dtype"):
        ring.put(np.zeros(3, [(f"a field with a long name {n}", "<f8") for n in range(3000)]))
    ring = nds.Ring(slots=2, dtype=long)
    reader = ring.reader()
    ring.put(np.zeros((1,) * 60, long))
    assert reader.get(0).dtype == long


def test_a_reader_in_flight_outlives_its_sender() -> None:
    ring = nds.Ring(2, np.int64, slots=8)
    data = ForkingPickler.dumps(ring.reader())
    gc.collect()
    put_all(ring, 4)
    reader = ForkingPickler.loads(data)
    assert firsts([reader.get(0)]) == [4]


def test_rings_travel_by_reference_only_through_multiprocessing(method: str) -> None:
    context = mp.get_context(method)
    ring = nds.Ring(2, np.int64, slots=8, meta=[("n", "i4")], name="cam0", when_full="drop_newest", spin=0.0)
    twin = ForkingPickler.loads(ForkingPickler.dumps(ring))
    for name in ("shape", "dtype", "meta", "slots", "when_full", "name"):
        assert getattr(twin, name) == getattr(ring, name), name
    reader = twin.reader()
    with child(workers.fill, ring, [3, 4], context=context):
        assert firsts(reader) == [3, 4]
    for x in (ring, reader):
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="multiprocessing"):
                refused(x)


def test_shared_arrays_of_another_process_are_published_as_they_are() -> None:
    ring = nds.Ring(slots=8)
    reader = ring.reader()
    arrays = [nds.full(1000 + n, n, np.int16) for n in range(5)]
    with child(workers.put_arrays, ring, arrays):
        for x, frame in zip(arrays, reader, strict=True):
            assert frame.ctypes.data == x.ctypes.data


# ---- looks ----------------------------------------------------------------------------------------------------------


@pytest.mark.thread_unsafe(reason="a name is one ring for all threads")
def test_reprs() -> None:
    ring = nds.Ring((1200, 1600), np.uint16, slots=32, name="cam0")
    assert repr(ring) == "<Ring 'cam0' (1200, 1600) uint16 0/32 slots, no readers>"
    first, _second = ring.reader(), ring.reader()
    ring.put(np.zeros((1200, 1600), np.uint16))
    frame = first.get()
    assert repr(ring) == "<Ring 'cam0' (1200, 1600) uint16 2/32 slots, 2 readers, lag 1>"
    assert repr(first) == "<Reader of ring 'cam0', every frame, lag 0>"
    del frame
    first.close()
    ring.close()
    assert repr(ring) == "<Ring 'cam0' (1200, 1600) uint16 1/32 slots, 1 reader, lag 1, closed>"
    assert repr(first) == "<Reader, closed>"
    assert repr(nds.Ring(slots=4)) == "<Ring any shape 0/4 slots, no readers>"


def test_stats_are_plain() -> None:
    ring = nds.Ring(2, slots=4)
    assert ring.stats() == {"written": 0, "dropped": 0, "missed": 0, "lost": 0, "readers": [], "writers": []}
    reader = ring.reader(group="g")
    put_all(ring, 1, 2)
    books = {"lag": 2, "missed": 0, "held": 0, "alive": True, "pid": None, "name": None, "mode": "group", "group": "g"}
    me = {"pid": os.getpid(), "name": Path("/proc/self/comm").read_text().strip()}
    writer = {**me, "alive": True, "written": 2}
    assert ring.stats() == {
        "written": 2, "dropped": 0, "missed": 0, "lost": 0, "readers": [books], "writers": [writer],
    }  # fmt: skip
    reader.get()
    assert (reader.lag, reader.missed) == (1, 0)
    assert ring.stats()["readers"] == [{**books, **me, "lag": 1}]
    reader.close()
    with pytest.raises(nds.Closed):
        _ = reader.lag


def test_full_says_who_is_behind_and_empty_who_writes() -> None:
    ring = nds.Ring(2, slots=1)
    with ring.reader() as first, pytest.raises(nds.Empty, match="no writer is there"):
        first.get(timeout=0)
    reader = ring.reader()
    put_all(ring, 1)
    with pytest.raises(nds.Full, match="reader of every frame that no process has used yet, lag 1"):
        ring.put([0, 0], timeout=0)
    reader.get()
    put_all(ring, 1)
    with pytest.raises(nds.Full, match=rf"reader of every frame in process {os.getpid()} \(.+\), lag 1"):
        ring.put([0, 0], timeout=0)
    reader.get()
    _writers = ring.writer(), ring.writer()
    with pytest.raises(nds.Empty, match="2 that no process has used yet"):
        reader.get(timeout=0)


# ---- writers made beforehand ----------------------------------------------------------------------------------------


def test_the_stream_ends_when_all_writers_that_were_made_are_closed(method: str) -> None:
    """The first to leave ended the stream for those that began later."""
    context = mp.get_context(method)
    ring = nds.Ring(2, np.int64, slots=32)
    reader, writers = ring.reader(), [ring.writer() for _ in range(3)]
    for number, end in enumerate(("close", "with", "exit")):
        with child(workers.write_as, writers.pop(), [number] * 2, end, context=context) as process:
            process.join(HANG)
            assert process.exitcode == 0
        assert ring.closed == (number == 2)
    assert firsts(reader) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("is_made", [True, False])
def test_a_process_ends_after_its_threads(method: str, is_made: bool) -> None:
    """The target of a process has returned, and a thread of it still writes: it got `Closed`, but not under spawn."""
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    with child(
        workers.write_at_the_end, ring.writer() if is_made else ring, 7, context=mp.get_context(method)
    ) as process:
        assert firsts(reader) == [7]
        process.join(HANG)
        assert process.exitcode == 0


LATE = """
import multiprocessing as mp, sys
def write(text):
    import ndshare as nds
    global kept
    kept = nds.ref(text).open().writer()
    kept.put([7, 7])
if __name__ == "__main__":
    process = mp.get_context(sys.argv[1]).Process(target=write, args=(sys.argv[2],))
    process.start()
    process.join()
    assert "ndshare" not in sys.modules
"""


def test_a_process_that_imports_ndshare_late_ends_in_order(method: str) -> None:
    """Its parent does not know of ndshare. It ended by itself, and was taken for dead."""
    ring = nds.Ring(2, np.int64, slots=8)
    reader = ring.reader()
    run(LATE, method, str(nds.ref(ring))).clean()
    assert firsts(reader) == [7]


def test_a_writer_that_is_killed_is_told_once(method: str) -> None:
    context = mp.get_context(method)
    ring = nds.Ring(2, np.int64, slots=32)
    reader, writer = ring.reader(), ring.writer()
    mine, theirs = context.Pipe()
    with child(workers.write_as_and_wait, writer, theirs, context=context) as process:
        del writer
        assert mine.recv() == 0
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
        assert reader.get(HANG).seq == 0
        with pytest.raises(nds.WriterDied):
            reader.get(HANG)
        with pytest.raises(nds.Empty):
            reader.get(0)
    with ring.writer() as successor:
        successor.put([3, 3])
    assert firsts(reader) == [3]


@pytest.mark.thread_unsafe(reason="a name is one ring for all threads")
def test_a_writer_belongs_to_who_uses_it_first_and_is_closed_once() -> None:
    ring = nds.Ring(2, np.int64, slots=8, name="cam")
    writer = ring.writer()
    assert repr(writer) == "<Writer of ring 'cam', 0 written>"
    with writer as same, same.write() as frame:
        frame[:] = 1
    assert repr(writer) == "<Writer, closed>"
    assert ring.closed
    for use in (lambda: writer.put([1, 2]), writer.write, writer.__enter__, ring.writer):
        with pytest.raises(nds.Closed):
            use()
    writer.close()
    ring = nds.Ring(2, np.int64, slots=8)
    writer = ring.writer()
    writer.put([1, 2])
    with pytest.raises(RuntimeError, match="nobody has used"):
        ForkingPickler.dumps(writer)
    assert in_a_fork(lambda: writer.put([3, 4])) == 7
    for refused in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="multiprocessing"):
            refused(writer)


# ---- what stays -----------------------------------------------------------------------------------------------------


def test_the_last_frames_stay_beside_a_viewer_and_a_reader_that_is_gone() -> None:
    ring = nds.Ring(2, np.int64, slots=20, keep=10)
    assert ring.keep == 10
    viewer, gone = ring.reader(latest=True), ring.reader()
    for number in range(100):
        put_all(ring, number)
        if number < 50:
            gone.get()
        else:
            gone.close()
        if number % 7 == 0:
            viewer.get()
    late = ring.reader(start="oldest")
    ring.close()
    assert firsts(late)[-10:] == list(range(90, 100))
    for keep in (-1, 21):
        with pytest.raises(ValueError, match="to keep at most"):
            nds.Ring(2, slots=20, keep=keep)


def test_a_group_goes_on_where_its_last_member_was_killed() -> None:
    ring = nds.Ring(2, np.int64, slots=64)
    mine, theirs = FORK.Pipe()
    with child(workers.hold_back, ring.reader(group="work"), theirs) as process:
        put_all(ring, *range(5))
        assert mine.recv() == 0
        os.kill(process.pid, signal.SIGKILL)
        process.join(HANG)
    put_all(ring, 5, 6)
    successor = ring.reader(group="work")
    assert firsts([successor.get(HANG) for _ in range(7)]) == list(range(7))


def test_losses_of_readers_that_are_gone_are_counted() -> None:
    ring = nds.Ring(2, np.int64, slots=4, when_full="drop_oldest")
    reader = ring.reader()
    put_all(ring, *range(30))
    reader.get()
    assert reader.missed == 26
    reader.close()
    assert ring.stats()["missed"] == 26


# ---- the long ones --------------------------------------------------------------------------------------------------


def test_nothing_is_allocated_or_first_touched_per_frame() -> None:
    """Neither by the writer nor by readers of each kind in another process, once all frames have gone round."""
    ring = nds.Ring((600, 800), np.uint16, slots=8, meta=[("n", "i8")])
    readers = [ring.reader(), ring.reader(latest=True), ring.reader(group="g")]
    mine, theirs = FORK.Pipe()
    image, places = np.ones((600, 800), np.uint16), set[int]()

    def steps(count: int) -> tuple[int, int]:
        """Pass frames; return the page faults here and there."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        mine.send(2 * count)
        for number in range(count):
            with ring.write() as frame:
                frame[:] = image
                frame.meta["n"] = number
            places.add(frame.ctypes.data)
            ring.put(image, n=number)
        there = mine.recv()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, there

    with child(workers.count_faults, readers, theirs):
        readers.clear()
        steps(200)
        rounds = []
        # A frame that was spare so far is touched for the first time in one of them: so often at most as there are
        # frames.
        for _ in range(24):
            gc.collect()
            before, blocks = nds.stats(), sys.getallocatedblocks()
            faults = steps(100)
            blocks = sys.getallocatedblocks() - blocks
            rounds.append((*faults, blocks, abs(nds.stats()["bytes"] - before["bytes"])))
            if max(rounds[-1]) < 20:
                break
    assert min(map(max, rounds)) < 20, f"page faults here and there, more Python objects, bytes: {rounds}"
    assert len(places) <= 20, "other frames than the ring's own"


def _camera(seconds: float) -> tuple[list[int], list[int], float]:
    """Return the numbers that one reader and a group got, and by how much the frames were late in all."""
    period = 0.005
    count = round(seconds / period)
    ring = nds.Ring((1200, 1600), np.uint16, slots=32, meta=[("number", "i8"), ("sum", "u8")], name="camera")
    readers = [ring.reader(), ring.reader(group="compute"), ring.reader(group="compute")]
    latest = ring.reader(latest=True)
    pipes = [FORK.Pipe(duplex=False) for _ in readers]
    processes = [
        FORK.Process(target=workers.watch, args=(r, w), daemon=True) for r, (_, w) in zip(readers, pipes, strict=True)
    ]
    processes.append(FORK.Process(target=workers.camera, args=(ring, count, period), daemon=True))
    for process in processes:
        process.start()
    readers.clear()
    shown = []
    for frame in latest:
        shown.append(frame.seq)
        time.sleep(0.02)  # no condition: a viewer that is slower than the camera
    results = [conn.recv() for conn, _ in pipes]
    for process in processes:
        process.join(HANG)
        assert process.exitcode == 0
    assert [torn for _, _, torn in results] == [0, 0, 0]
    assert shown == sorted(set(shown))
    times = results[0][1]
    late = (times[-1] - times[0]) / 1e9 - (count - 1) * period
    assert results[0][0] == list(range(count))
    return results[0][0], sorted(results[1][0] + results[2][0]), late


def test_a_camera_for_a_moment() -> None:
    every, group, _ = _camera(2)
    assert group == every


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.skipif(ROUNDS == 1, reason="10 seconds on a machine of its own: make crash runs it")
def test_a_camera_for_ten_seconds() -> None:
    every, group, late = _camera(10)
    assert group == every
    assert late < 0.1, f"{1000 * late:.1f} ms late in all"


KILLS = 60 if ROUNDS == 1 else 1000 * ROUNDS


@pytest.mark.crash
@pytest.mark.timeout(120 + KILLS)
@pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")
def test_a_storm_on_a_ring() -> None:
    """Four writers and four readers at random, killed at labelled points and at random instants."""
    storm = Storm(kills=KILLS)
    storm.blow()
    if ROUNDS > 1:
        # The crew neither makes nor closes readers, and nobody is lapped.
        missed = set(RING_POINTS) - storm.struck - {"ring:joined", "ring:left", "ring:moved"}
        assert not missed, f"nobody died at {missed}"


class Storm:
    """A ring, two processes that watch it to the end, and a crew that dies and is replaced."""

    def __init__(self, kills: int) -> None:
        self.kills, self.rng = kills, random.Random(5)
        self.arena = nds.Arena("256 MiB")
        self.ring = nds.Ring(slots=16, dtype=np.uint64, meta=[("stamp", "u8")], arena=self.arena)
        self.seen: list[Any] = []  # by each reader that died
        self.struck: set[str] = set()  # labels at which somebody died
        life = 120 + kills
        self.watchers = [self.watcher(life), self.watcher(life, group="g")]
        self.slowest = nds.zeros(1)
        self.writer = self.begin(workers.steady_writer, self.ring, self.slowest, life)

    def watcher(self, life: int, **arguments: Any) -> tuple[Any, workers.Log]:
        log = workers.Log(1_000_000 + 3000 * self.kills)
        keeps = "group" not in arguments
        return self.begin(workers.storm_reader, self.ring.reader(**arguments), keeps, log, 1, None, 1, life), log

    def begin(self, target: Any, *args: Any) -> Any:
        process = FORK.Process(target=target, args=args, daemon=True)
        process.start()
        return process

    def recruit(self, place: int) -> Recruit:
        """Start one more: a writer in the first four places, else a reader of some kind."""
        seed, nth = self.rng.getrandbits(32), round(2 ** self.rng.uniform(0, 9))
        label = self.rng.choice(RING_POINTS if self.rng.random() < 0.5 else POINTS) if self.rng.random() < 0.8 else None
        end = time.monotonic() + self.rng.uniform(0.005, 0.15)
        if place < 4:
            return Recruit(self.begin(workers.storm_writer, self.ring, seed, label, nth, self.arena), end, label)
        kinds: list[dict[str, Any]] = [{}, {"latest": True}, {"group": "g"}, {"group": "g"}]
        log = workers.Log(20_000)
        reader = self.ring.reader(**kinds[place - 4])
        process = self.begin(workers.storm_reader, reader, place < 6, log, seed, label, nth)
        return Recruit(process, end, label, log)

    def bury(self, one: Recruit) -> None:
        """Kill one that is not dead yet, and keep what it saw."""
        if one.label and not one.process.is_alive():
            self.struck.add(one.label)
        one.process.kill()
        one.process.join(HANG)
        assert one.process.exitcode == -signal.SIGKILL, f"exit status {one.process.exitcode}"
        one.process.close()
        if one.log:
            self.seen.append(one.log.all())

    def blow(self) -> None:
        crew = [self.recruit(place) for place in range(8)]
        killed, limit = 0, time.monotonic() + 60 + self.kills / 4
        while killed < self.kills:
            for place, one in enumerate(crew):
                if one.process.is_alive() and time.monotonic() < one.end:
                    continue
                self.bury(one)
                killed += 1
                crew[place] = self.recruit(place)
            assert all(process.is_alive() for process, _ in self.watchers), "a watcher found something wrong"
            assert time.monotonic() < limit, "hardly anything moves"
            time.sleep(0.001)
        for one in crew:
            self.bury(one)
        self.check()

    def check(self) -> None:
        note_pause("a storm on a ring", float(self.slowest[0]))
        self.ring.close()
        for process in (self.writer, *(process for process, _ in self.watchers)):
            process.join(HANG)
            assert process.exitcode == 0, f"exit status {process.exitcode}"
        written = self.ring.stats()["written"]
        every, member = (log.all() for _, log in self.watchers)
        assert (every == np.arange(written)).all(), "one reader gets every frame once, in order"
        for numbers in [*self.seen, member]:
            assert len(np.unique(numbers)) == len(numbers), "a reader got a frame twice"
        assert written > self.kills
        assert len(np.unique(np.concatenate([member, *self.seen]))) == written, "a group lost a frame"
        assert self.ring.stats()["readers"] == []
        del self.ring
        assert settle(0, self.arena) == 0, "frames come back"
        assert wait_until(lambda: len(nds.stats(self.arena)["participants"]) == 1), "places of processes come back"


@dataclass(frozen=True)
class Recruit:
    """A process that is to die: at its label, or at the end of its time (seconds, monotonic)."""

    process: Any
    end: float
    label: str | None
    log: workers.Log | None = None
