"""One piece of memory, several meanings, one at a time: nobody's bytes change their meaning under a view."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import multiprocessing as mp
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import helpers
import lock_workers
import ndshare as nds
from helpers import HANG, ROUNDS, Child
from ndshare import _native

FLOATS: dict[str, Any] = {"A": ((3, 4), "f4"), "B": (5, "f8"), "C": ((), "f2")}
INTS: dict[str, Any] = {"D": (10, "i4"), "E": ((2, 2), "i8")}
POINTS: tuple[str, ...] = tuple(_native.KILL_POINTS)


def make() -> nds.Overlay:
    return nds.Overlay(floats=FLOATS, ints=INTS, chars={"text": (16, "S4")})


def begins(overlay: nds.Overlay, use: str) -> bool:
    """Return whether a use can begin, or go on. Somebody who gave up is waited for a moment longer."""
    with overlay.use(use, timeout=HANG):
        return True


def is_taken(overlay: nds.Overlay, use: str) -> bool:
    """Return whether a use has to wait for others."""
    with contextlib.suppress(nds.Timeout), overlay.use(use, timeout=0.3):
        return False
    return True


def words(overlay: nds.Overlay, use: str) -> tuple[int, int]:
    """Return since when a use is waited for, and when its waiters looked last (monotonic ns, 0 for never)."""
    head = overlay._head.view(np.uint64)  # pyright: ignore[reportPrivateUsage]
    place = 3 + 2 * list(overlay._plan).index(use)  # pyright: ignore[reportPrivateUsage]
    return int(head[place]), int(head[place + 1])


def wait_for_waiters(overlay: nds.Overlay, use: str) -> None:
    """Wait until somebody has looked from now on, and goes on waiting for the use."""
    now = time.monotonic_ns()
    assert helpers.wait_until(lambda: words(overlay, use)[0] > 0 and words(overlay, use)[1] > now, HANG)


def when_waited_for(overlay: nds.Overlay, use: str, what: Callable[[], object]) -> threading.Thread:
    """Do something in another thread as soon as somebody waits for the use."""

    def act() -> None:
        wait_for_waiters(overlay, use)
        what()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


# What the fields are


def test_a_field_is_asked_for_by_its_name() -> None:
    """A number told of `normalize() argument 2`."""
    with nds.Overlay(x={"A": (3, "f4")}).use("x") as v, pytest.raises(KeyError, match="expected a field of use 'x'"):
        v[0]


def test_floats_at_one_time_and_ints_at_another() -> None:
    overlay = make()
    with overlay.use("floats") as v:
        v.A[:], v.B[:], v.C[...] = 1, 2, 3
        first = v.A.__array_interface__["data"][0]
        assert (v.A.shape, v.A.dtype, v.C.shape) == ((3, 4), np.dtype("f4"), ())
        assert v["A"] is v.A
        assert type(v.A) is np.ndarray
        assert nds.is_shared(v.B)
        assert v.A.flags.c_contiguous
        assert v.A.flags.writeable
    with overlay.use("ints") as v:
        assert v.D.__array_interface__["data"][0] == first
        assert (v.D == 0x3F800000).all(), "what the last use left, read as ints"
        v.D[:] = 0
    with overlay.use("floats") as v:
        assert (v.A.ravel()[:10] == 0).all()
        assert (v.A.ravel()[10:] == 1).all()
        assert (v.B == 2).all()


def test_uses_share_their_bytes_and_fields_do_not() -> None:
    overlay = make()
    with overlay.use("floats") as v:
        data = overlay._data  # pyright: ignore[reportPrivateUsage]
        assert np.shares_memory(v.A, data)
        assert not np.shares_memory(v.A, v.B)
        assert not np.shares_memory(v.B, v.C)
        address = v.A.__array_interface__["data"][0]
    with overlay.use("ints") as v:
        assert v.D.__array_interface__["data"][0] == address


def test_fields_are_aligned_and_the_largest_use_decides_the_size() -> None:
    overlay = nds.Overlay(
        a={"x": (1, "u1"), "y": (100, "u1"), "z": (3, "f8")}, b={"w": (1000, "u1")}, c={"v": (0, "f8")}
    )
    with overlay.use("a") as v:
        addresses = [v[name].__array_interface__["data"][0] for name in "xyz"]
        assert [address % 64 for address in addresses] == [0, 0, 0]
        assert [address - addresses[0] for address in addresses] == [0, 64, 192]
    assert "1000 bytes" in repr(overlay)


def test_at_first_it_is_zero() -> None:
    for _ in range(3):
        overlay = nds.Overlay(a={"x": (1000, "u1")})
        with overlay.use("a") as v:
            assert not v.x.any()
            v.x[:] = 7


def test_many_uses() -> None:
    uses = {f"use{i}": {"x": (i + 1, "i4")} for i in range(_native.MAX_USES)}
    overlay = nds.Overlay(**uses)
    for i in range(_native.MAX_USES):
        with overlay.use(f"use{i}") as v:
            assert v.first
            v.x[:] = i
            assert v.x.size == i + 1
    with pytest.raises(ValueError, match="1 to"):
        nds.Overlay(**uses, another={"x": (1, "i4")})


def test_unusual_dtypes_and_shapes() -> None:
    pair = np.dtype([("a", "i4"), ("b", "f8", (2,))])
    overlay = nds.Overlay(u={"s": (3, pair), "e": ((0, 4), "f8"), "t": (2, "M8[ns]"), "c": ((2,), ("f4", (3,)))})
    with overlay.use("u") as v:
        v.s["b"] = 2.5
        assert v.s["b"].shape == (3, 2)
        assert v.e.shape == (0, 4)
        assert v.t.dtype == np.dtype("M8[ns]")
        assert v.c.shape == (2, 3)


def test_names_are_read_as_python_reads_them() -> None:
    overlay = nds.Overlay(
        u={"ﬁeld": (2, "f4"), "Ünïcode": (1, "i1"), "self": (1, "i1"), "match": (1, "i1")}, self={"x": (1, "i1")}
    )
    with overlay.use("u") as v:
        assert v.ﬁeld is v["field"]
        assert v.field is v["ﬁeld"]
        assert v.Ünïcode.size == v.self.size == v.match.size == 1
        assert dir(v) == ["field", "first", "match", "self", "Ünïcode"]
    with overlay.use("self") as v:
        assert v.x.size == 1


# What is refused, before anything is allocated


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (ValueError, {"first": (3, "f4")}),
        (ValueError, {"_A": (3, "f4")}),
        (ValueError, {"__len__": (3, "f4")}),
        (ValueError, {"a b": (3, "f4")}),
        (ValueError, {"": (3, "f4")}),
        (ValueError, {"1a": (3, "f4")}),
        (ValueError, {"class": (3, "f4")}),
        (ValueError, {"None": (3, "f4")}),
        (TypeError, {3: (3, "f4")}),
        (ValueError, {"A": (-1, "f4")}),
        (ValueError, {"A": ((3, -1), "f4")}),
        (ValueError, {"A": ((1 << 62, 4), "f8")}),
        (TypeError, {"A": ("3", "f4")}),
        (TypeError, {"A": (1.5, "f4")}),
        (TypeError, {"A": (3, "nonsense")}),
        (TypeError, {"A": (3, object)}),
        (TypeError, {"A": (3, np.dtypes.StringDType())}),
        (TypeError, {"A": (3, [("x", object)])}),
        (TypeError, {"A": 3}),
        (TypeError, {"A": "f4"}),
        (TypeError, {"A": (3,)}),
        (TypeError, {"A": (3, "f4", "C")}),
        (TypeError, 3),
        (ValueError, {}),
        (ValueError, [("A", (3, "f4")), ("A", (3, "i4"))]),
        (ValueError, {"ﬁ": (3, "f4"), "fi": (3, "f4")}),
    ],
)
def test_bad_fields_are_refused(error: type[Exception], fields: Any) -> None:
    before = helpers.held()
    with pytest.raises(error):
        nds.Overlay(good={"A": (3, "f4")}, bad=fields)
    assert helpers.held() <= before


def test_an_error_names_use_and_field() -> None:
    with pytest.raises(TypeError, match=r"use 'bad'.*\(shape, dtype\).*'A': 'f4'"):
        nds.Overlay(bad={"A": "f4"})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="field 'A' of use 'bad'"):
        nds.Overlay(bad={"A": (3, object)})
    with pytest.raises(ValueError, match=r"use 'bad'.*'first'"):
        nds.Overlay(bad={"first": (3, "f4")})
    with pytest.raises(ValueError, match="'A' twice"):
        nds.Overlay(bad=[("A", (3, "f4")), ("A", (3, "f4"))])


def test_one_use_at_least() -> None:
    with pytest.raises(ValueError, match="got 0"):
        nds.Overlay()
    with pytest.raises(TypeError):
        nds.Overlay({"A": (3, "f4")})  # type: ignore[call-arg]


def test_unknown_uses_and_wrong_timeouts_are_refused() -> None:
    overlay = make()
    with pytest.raises(ValueError, match="floats, ints, chars"):
        overlay.use("doubles")
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            overlay.use("ints", timeout=wrong)


def test_operators_work_in_place_and_a_field_is_not_replaced() -> None:
    overlay = make()
    with overlay.use("floats") as v:
        field = v.A
        v.A += 2  # Python stores the result under the name that it came from
        v["A"] *= 3
        v.C -= 1
        assert v.A is field
        assert (field == 6).all()
        assert v.C == -1
        with pytest.raises(TypeError, match=r"v\.A\[\.\.\.\] = values"):
            v.A = np.ones(3)
        with pytest.raises(TypeError, match="int"):
            v["A"] = 3
        with pytest.raises(AttributeError, match="A, B"):
            v.D = 3
        with pytest.raises(KeyError, match="A, B"):
            v["D"] = 3
        assert (field == 6).all()
    with pytest.raises(RuntimeError, match="ended"):
        v.A = field
    del field


def test_unknown_fields_are_refused() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        with pytest.raises(AttributeError, match="D, E"):
            v.A  # noqa: B018
        with pytest.raises(KeyError, match="D, E"):
            v["A"]
        assert not hasattr(v, "_private")


def test_too_large_an_overlay_is_arena_full() -> None:
    with pytest.raises(nds.ArenaFull):
        nds.Overlay(a={"x": (1 << 45, "u1")})


# Leaving, and what is left behind


def test_a_use_that_has_ended_gives_no_fields() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        assert "D, E" in repr(v)
    assert v.first
    assert "ended" in repr(v)
    with pytest.raises(RuntimeError, match="ended"):
        v.D  # noqa: B018
    with pytest.raises(RuntimeError, match="ended"):
        v["D"]
    with overlay.use("floats", timeout=0) as w:
        assert w.first


def test_arrays_handed_out_turn_read_only() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        d = v.D
        d.flags.writeable = False
        d.flags.writeable = True
        d[:] = 5
    assert not d.flags.writeable
    assert (d == 5).all()
    with pytest.raises(ValueError, match="read-only"):
        d[:] = 6
    with pytest.raises(ValueError, match="WRITEABLE"):
        d.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        d[1:].flags.writeable = True
    with pytest.raises((ValueError, BufferError)):
        np.frombuffer(d.base, "u1")[:] = 1


class Wrapper:
    """What offers the bytes of an array as NumPy's own helpers do."""

    def __init__(self, x: Any) -> None:
        self.__array_interface__ = x.__array_interface__
        self.kept = x


class Named(np.ndarray):
    """A subclass; NumPy makes the array itself the base of its instances."""


def views(x: Any) -> dict[str, Any]:
    """Return things that look at the bytes of an array, in many ways."""
    return {
        "slice": x[1:],
        "other type": x.view(np.uint8),
        "memoryview": memoryview(x),
        "of a memoryview": np.frombuffer(memoryview(x), "u1"),
        "dlpack": np.from_dlpack(x),
        "iterator": iter(x),
        "flat": x.flat,
        "base": memoryview(x.base),
        "nested": [[x[2:][1:]]],
        "subclass": x.view(Named),
        "masked": np.ma.array(x, copy=False),
        "array interface": np.asarray(Wrapper(x)),
        "wrapper": Wrapper(x),
        "strides": np.lib.stride_tricks.as_strided(x, (4,), (4,)),
        "windows": np.lib.stride_tricks.sliding_window_view(x, 3),
        "broadcast": np.broadcast_to(x, (2, x.size)),
        "ctypes": x.ctypes,
        "pointer": x.ctypes.data_as(ctypes.POINTER(ctypes.c_int)),
        "ctypes array": (ctypes.c_int * 4).from_buffer(x),
        "iterator over many": np.nditer(x),
        "capsule": x.__dlpack__(),
        "frombuffer": np.frombuffer(x, "u1"),
        "made over it": np.ndarray(3, "i4", buffer=x),
        "map": map(abs, x),
    }


@pytest.mark.parametrize("way", list(views(np.frombuffer(bytearray(64), "i4"))))
def test_a_view_that_outlives_its_use_is_named(way: str) -> None:
    overlay = make()
    with overlay.use("ints") as v:
        left = views(v.D).pop(way)
    gc.collect()
    if way == "map":
        next(left)
    for _ in range(2):
        with pytest.raises(BufferError, match="'D' of use 'ints'") as caught, overlay.use("floats"):
            pass
    assert "'E'" not in str(caught.value)
    with overlay.use("ints", timeout=0) as v:
        assert not v.first, "this process is still inside"
    del left, caught
    with overlay.use("floats", timeout=0) as v:
        assert v.first


class Keeper:
    """An ordinary object with an array in an attribute."""

    array: Any = None


class Slotted:
    __slots__ = ("array",)


def in_a_local(x: Any, keep: list[Any]) -> Any:
    return x


def in_an_attribute(x: Any, keep: list[Any]) -> Any:
    keeper = Keeper()
    keeper.array = x
    return keeper


def in_a_slot(x: Any, keep: list[Any]) -> Any:
    keeper = Slotted()
    keeper.array = x
    return keeper


def in_a_closure(x: Any, keep: list[Any]) -> Any:
    return lambda: x


def in_a_generator(x: Any, keep: list[Any]) -> Any:
    def numbers() -> Iterator[int]:
        mine = x
        yield mine.size

    generator = numbers()
    next(generator)
    return generator


def in_a_traceback(x: Any, keep: list[Any]) -> Any:
    def fail(mine: Any) -> None:
        raise OwnError

    try:
        fail(x)
    except OwnError as error:
        return error.__traceback__.tb_next  # type: ignore[union-attr]


def in_a_global(x: Any, keep: list[Any]) -> Any:
    globals()["_kept"] = x
    keep.append(lambda: globals().pop("_kept"))


VARIABLES = {
    "list": lambda x, _: [x],
    "long list": lambda x, _: [*range(5000), x],
    "tuple": lambda x, _: (x, x),
    "dict": lambda x, _: {"x": x},
    "dict with more": lambda x, _: {"x": x, "more": [1]},
    "deque": lambda x, _: deque([x]),
    **{f.__name__: f for f in (in_a_local, in_an_attribute, in_a_slot, in_a_closure, in_a_generator, in_a_traceback)},
    "in_a_global": in_a_global,
}


@pytest.mark.parametrize("place", list(VARIABLES))
def test_an_array_that_is_merely_in_a_variable_blocks_nothing(place: str) -> None:
    """``A = v.A``, as everybody writes. The block ends, another use begins in this process and in others.

    The array can be read as long as it is kept, also when the overlay is gone, and never be written again.
    """
    overlay, keep = make(), list[Any]()
    with overlay.use("ints") as v:
        v.D[:] = 1
        kept = VARIABLES[place](v.D, keep)
        array = weakref.ref(v.D)
    del v
    with Child(lock_workers.use_overlay, overlay, "floats", method="spawn") as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        one.tell()
        assert one.hear() == "outside"
    with overlay.use("floats", timeout=0) as w:
        assert w.first
        w.A[:] = 0
        found = array()
        assert found is not None
        assert (found == 0).all(), "it shows what the bytes are now"
        assert not found.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            found.flags.writeable = True
        later = found[2:]
        with pytest.raises(ValueError, match="WRITEABLE"):
            later.flags.writeable = True
    del w
    with overlay.use("chars", timeout=0) as w:
        assert w.first, "views that were made of it afterwards are read-only, too"
    address = found.__array_interface__["data"][0]
    del overlay, w
    gc.collect()
    assert nds.is_shared(found)
    assert address == found.__array_interface__["data"][0]
    assert not found.any()
    for forget in keep:
        forget()
    keep.clear()
    del kept, found, later


def test_every_kind_of_field_may_stay_in_a_variable() -> None:
    pair = np.dtype([("a", "i4"), ("b", "f8", (2,))])
    overlay = nds.Overlay(u={"s": (3, pair), "e": ((0, 4), "f8"), "z": ((), "f8"), "n": ((), pair)}, w={"x": (9, "u1")})
    with overlay.use("u") as v:
        s, e, z, n = v.s, v.e, v.z, v["n"]
        z[...] = 2
    with overlay.use("w", timeout=0) as w:
        assert w.first
    assert not any(x.flags.writeable for x in (s, e, z, n))
    for derive in (lambda v: v.s["a"], lambda v: v.s[0], lambda v: v.z.reshape(1), lambda v: v.n[()], lambda v: v.e.T):
        with overlay.use("u") as v:
            left = derive(v)
        with pytest.raises(BufferError, match="'u'"), overlay.use("w"):
            pass
        del left


def test_views_block_beside_the_variable_and_no_longer_than_they_live() -> None:
    """The variable stays. Another process gets the memory as soon as the last view is gone."""
    overlay = make()
    with overlay.use("ints") as v:
        kept = v.D
        row, tail = kept[1:4], kept[5:]
    with Child(lock_workers.use_overlay, overlay, "floats", method="spawn") as one:
        assert one.hear() == "waiting"
        wait_for_waiters(overlay, "floats")
        del row
        wait_for_waiters(overlay, "floats")
        assert not one.conn.poll()
        tail[:] = 7
        del tail
        assert one.hear() == "inside"
        one.tell()
        assert one.hear() == "outside"
    assert kept[5] == 7
    assert not kept.flags.writeable


def test_what_was_looked_at_for_a_moment_is_in_nobodys_way() -> None:
    """A memoryview lives at the exit, and is gone when another use is asked for. The array is still in a variable."""
    overlay = make()
    with overlay.use("ints") as v:
        kept = v.D
        look = memoryview(kept)
    with pytest.raises(BufferError, match="'D'"), overlay.use("floats"):
        pass
    del look
    with overlay.use("floats", timeout=0) as w:
        assert w.first
    assert not kept.flags.writeable


def test_counting_variables_leaves_no_trace_in_frames() -> None:
    """Asking a frame for its locals makes a dict of them, until Python 3.12; what is in it would live as long."""

    class Big:
        pass

    def work(overlay: nds.Overlay) -> bool:
        big = Big()
        gone = weakref.ref(big)
        with overlay.use("ints") as v:
            kept = v.D
        del big
        assert kept.size == 10
        return gone() is None

    assert work(make())


def test_a_dict_of_locals_that_the_user_has_stays_whole() -> None:
    def work(overlay: nds.Overlay) -> dict[str, Any]:
        with overlay.use("ints") as v:
            kept = v.D
            mine = locals()
            assert mine["kept"] is kept
        with overlay.use("floats", timeout=0):
            pass
        return mine

    mine = work(make())
    assert mine["kept"].size == 10


def test_a_field_on_its_way_through_a_queue() -> None:
    """It is a variable in the queue's buffer, then a message; what arrives is an array outside of any use."""
    overlay, queue = make(), mp.get_context("fork").Queue()
    with overlay.use("ints") as v:
        v.D[:] = 5
        queue.put(v.D)
    assert helpers.wait_until(queue._reader.poll)  # type: ignore[attr-defined]  # the sending thread has let go of it
    with overlay.use("floats", timeout=HANG) as w:
        assert w.first
    arrived = queue.get(timeout=HANG)
    assert (arrived == 5).all()
    assert nds.is_shared(arrived)
    queue.close()
    queue.join_thread()


def test_views_in_reference_cycles_are_nobodys() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        cycle: list[Any] = [v.D]
        cycle.append(cycle)
    del cycle
    with overlay.use("floats", timeout=0):
        pass


def test_leaving_never_raises() -> None:
    overlay = make()
    use = overlay.use("ints")
    use.__exit__(None, None, None)
    with use as v:
        v.D.flags.writeable = False
        use.__exit__(None, None, None)
    use.__exit__(None, None, None)
    with overlay.use("floats", timeout=0):
        pass


class OwnError(Exception):
    """A user's own exception."""


def test_the_users_exception_arrives_unchanged() -> None:
    overlay, error = make(), OwnError("x")
    kept: list[Any] = []

    def fail() -> None:
        with overlay.use("ints") as v:
            kept.append(v.D)
            raise error

    with pytest.raises(OwnError) as caught:
        fail()
    assert caught.value is error
    assert error.__context__ is None
    assert not kept[0].flags.writeable
    error.__traceback__ = None


def test_a_use_that_is_never_left_ends_with_its_fields() -> None:
    overlay = make()
    v = overlay.use("ints").__enter__()
    assert v.first
    left = v.D
    del v
    with pytest.raises(BufferError, match="'D'"), overlay.use("floats"):
        pass
    left[:] = 3  # nobody has turned it read-only
    del left
    with overlay.use("floats", timeout=0):
        pass


def test_a_view_keeps_the_memory_when_the_overlay_is_gone() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        v.D[:] = 9
        left = v.D
    del overlay, v
    gc.collect()
    assert (left == 9).all()


# Threads


def test_one_thread_is_in_one_use_at_a_time() -> None:
    overlay = make()
    with overlay.use("ints") as outer:
        with pytest.raises(RuntimeError, match="'ints'"), overlay.use("floats"):
            pass
        with overlay.use("ints", timeout=0) as inner:
            assert not inner.first
            inner.D[:] = 3
            assert (outer.D == 3).all()
        outer.D[:] = 4
        with pytest.raises(RuntimeError, match="'ints'"), overlay.use("floats", timeout=0):
            pass
    with overlay.use("floats", timeout=0):
        pass


def test_a_nested_use_does_not_wait_for_who_waits_for_it() -> None:
    overlay = make()
    outer = overlay.use("ints")
    with outer, Child(lock_workers.use_overlay, overlay, "floats") as other:
        assert other.hear() == "waiting"
        wait_for_waiters(overlay, "floats")
        with overlay.use("ints", timeout=HANG):
            pass
        outer.__exit__(None, None, None)
        assert other.hear() == "inside"
        other.tell()
        assert other.hear() == "outside"


def test_threads_share_a_use_and_wait_for_another() -> None:
    overlay = make()
    both, done = threading.Barrier(3), threading.Event()
    firsts: list[bool] = []
    leaving: list[int] = []

    def same() -> None:
        with overlay.use("ints") as v:
            firsts.append(v.first)
            both.wait(HANG)
            assert done.wait(HANG)
            wait_for_waiters(overlay, "floats")
            leaving.append(threading.get_ident())

    threads = [threading.Thread(target=same) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait(HANG)
    with pytest.raises(nds.Timeout, match=rf"Inside is pid {os.getpid()} \("), overlay.use("floats", timeout=0.05):
        pass
    done.set()
    with overlay.use("floats") as v:
        assert v.first
        assert len(leaving) == 2, "it began while a thread was in the other use"
    assert sorted(firsts) == [False, True]
    for thread in threads:
        thread.join(HANG)


def test_a_view_left_by_another_thread_is_named_while_one_waits() -> None:
    overlay = make()
    left: list[Any] = []
    inside, go = threading.Event(), threading.Event()

    def leave_one() -> None:
        with overlay.use("ints") as v:
            inside.set()
            go.wait(HANG)
            left.append(v.E[:1])

    thread = threading.Thread(target=leave_one)
    thread.start()
    assert inside.wait(HANG)
    other = when_waited_for(overlay, "floats", go.set)
    with pytest.raises(BufferError, match="'E'"), overlay.use("floats", timeout=HANG):
        pass
    thread.join(HANG)
    other.join(HANG)
    left.clear()


def test_a_use_object_may_be_entered_by_threads() -> None:
    overlay = make()
    use = overlay.use("ints")

    def work() -> None:
        for _ in range(100):
            with use as v:
                assert v.D.size == 10

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert begins(overlay, "floats")


# Processes


def test_processes_share_a_use_and_wait_for_another(method: str) -> None:
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints", method=method) as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        with overlay.use("ints", timeout=HANG) as v:
            assert not v.first
            with Child(lock_workers.use_overlay, overlay, "floats", method=method) as two:
                assert two.hear() == "waiting"
                one.tell()
                assert one.hear() == "outside"
                wait_for_waiters(overlay, "floats")
                assert not two.conn.poll(), "this process is inside still"
                v.D[:] = 0x3F800000
                w = v
                del v
                w._end()  # pyright: ignore[reportPrivateUsage]
                assert two.hear() == "inside"
                assert is_taken(overlay, "ints")
                two.tell()
                assert two.hear() == "outside"
    assert begins(overlay, "ints")


def test_contents_are_seen_by_another_process(method: str) -> None:
    overlay = make()
    with overlay.use("floats") as v:
        v.A[:] = 1
    with Child(lock_workers.read_ints, overlay, method=method) as one:
        assert one.hear() == [0x3F800000] * 10


def test_two_waiting_uses_both_get_their_turn() -> None:
    """Four processes in two uses come again and again; a third use gets its turns between them."""
    overlay = make()
    children = [Child(lock_workers.come_again, overlay, use) for use in ("ints", "ints", "floats", "floats")]
    longest = 0.0
    for one in children:
        assert one.hear() == "started"
    for _ in range(10):
        start = time.perf_counter()
        with overlay.use("chars", timeout=HANG) as v:
            v.text[:] = b"mine"
            longest = max(longest, time.perf_counter() - start)
            wait_for_waiters(overlay, "ints")  # they have come meanwhile, and were not let in
            assert (v.text == b"mine").all()
    for one in children:
        one.tell()
    turns = [one.hear() for one in children]
    for one in children:
        one.end()
    assert min(turns) > 0
    print(f"longest wait beside four who come again and again: {1000 * longest:.1f} ms; their turns: {turns}")


def test_two_objects_of_one_memory_are_one() -> None:
    queue = mp.SimpleQueue()
    overlay = make()
    queue.put(overlay)
    again = queue.get()
    with overlay.use("ints") as v, pytest.raises(RuntimeError), again.use("floats"):
        pass
    with overlay.use("ints") as v:
        left = v.D[1:]
    with pytest.raises(BufferError, match="'D'"), again.use("floats"):
        pass
    del overlay, v
    gc.collect()
    with pytest.raises(BufferError, match="'D'"), again.use("floats"):
        pass
    del left
    with again.use("floats", timeout=0):
        pass
    queue.close()


def test_an_overlay_travels_through_pools(method: str) -> None:
    overlay = make()
    with ProcessPoolExecutor(2, mp_context=mp.get_context(method)) as pool:
        list(pool.map(lock_workers.add_in_use, [(overlay, "ints", "D")] * 10 + [(overlay, "chars", "text")] * 3))
    with overlay.use("ints") as v:
        assert v.E.shape == (2, 2)


@pytest.mark.parametrize("refuse", [pickle.dumps, copy.copy, copy.deepcopy])
def test_other_picklers_refuse_an_overlay(refuse: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="multiprocessing"):
        refuse(make())


def test_another_process_waits_for_a_view_left_behind() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        left = v.D[2:]
    # A forked child would have the view, too.
    with Child(lock_workers.use_overlay, overlay, "floats", method="spawn") as one:
        assert one.hear() == "waiting"
        wait_for_waiters(overlay, "floats")
        assert not one.conn.poll()
        del left, v
        assert one.hear() == "inside"
        one.tell()
        assert one.hear() == "outside"


def test_a_forked_child_is_not_inside_for_its_parent() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        v.D[:] = 1
        with Child(lock_workers.use_overlay, overlay, "floats") as one:
            assert one.hear() == "waiting"
            wait_for_waiters(overlay, "floats")
            assert not one.conn.poll()
            v._end()  # pyright: ignore[reportPrivateUsage]
            assert one.hear() == "inside"
            one.tell()
            assert one.hear() == "outside"


def test_a_forked_child_keeps_the_views_that_it_has() -> None:
    overlay = make()
    with overlay.use("ints") as v:
        one = Child(lock_workers.keep_array, v.D)
        assert one.hear() == "kept"
    del v
    with pytest.raises(nds.Timeout), overlay.use("floats", timeout=0.2):
        pass
    one.tell()
    one.end()
    with overlay.use("floats", timeout=HANG):
        pass


# Deaths


@pytest.mark.crash
def test_a_killed_user_is_gone() -> None:
    overlay = make()
    for _ in range(5):
        with Child(lock_workers.use_overlay, overlay, "ints") as one:
            assert [one.hear(), one.hear()] == ["waiting", "inside"]
            assert is_taken(overlay, "floats")
            killed = one.kill()
            with overlay.use("floats", timeout=HANG) as v:
                assert v.first
            print(f"from kill to the next use: {1000 * (time.monotonic() - killed):.1f} ms")
        with overlay.use("ints") as v:
            assert v.first


@pytest.mark.crash
def test_a_stopped_user_is_not_robbed() -> None:
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints") as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        os.kill(one.pid, signal.SIGSTOP)
        assert is_taken(overlay, "floats")
        os.kill(one.pid, signal.SIGCONT)
        one.tell()
        assert one.hear() == "outside"


@pytest.mark.crash
@pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")
@pytest.mark.timeout(600)
def test_killed_at_every_step() -> None:
    """Nobody is locked out, whichever step of entering and leaving a user died at."""
    overlay, struck = make(), list[str]()
    slowest = 0.0
    for label in POINTS:
        for nth in (1, 2) if ROUNDS == 1 else range(1, 20):
            with Child(lock_workers.strike_in_use, label, nth, overlay) as one:
                try:
                    assert one.hear() == "survived"
                except (EOFError, ConnectionResetError):
                    struck.append(label)
            start = time.monotonic()
            for use in ("chars", "ints", "floats"):
                with overlay.use(use, timeout=HANG):
                    pass
            slowest = max(slowest, time.monotonic() - start)
    assert {"overlay:begun", "overlay:left"} <= set(struck)
    sys.__stderr__.write(
        f"\n{len(struck)} users were killed at kill points; three uses later took {1000 * slowest:.1f} ms\n"
    )


@pytest.mark.crash
@pytest.mark.skipif(not POINTS, reason="this build has no kill points; build with --features killpoints")
def test_who_dies_waiting_keeps_nobody_out() -> None:
    """What it noted of its wait ends with it: others need not let it go first."""
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints") as inside:
        assert [inside.hear(), inside.hear()] == ["waiting", "inside"]
        for use in ("ints", "floats"):  # to share the use, and to wait for another one
            with Child(lock_workers.strike_before_a_use, "overlay:waited", overlay, use) as one:
                one.process.join(HANG)
                assert one.process.exitcode == -signal.SIGKILL
        inside.tell()
        assert inside.hear() == "outside"
    for use in ("ints", "chars"):
        with overlay.use(use, timeout=HANG) as v:
            assert v.first


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_a_storm_of_kills() -> None:
    """Users are killed at random; two uses never go on at once."""
    overlay, x = make(), nds.zeros((2, 512), np.int64)
    crew = [Child(lock_workers.check_uses, overlay, x, seed) for seed in range(3)]
    for kill in range(60 if ROUNDS == 1 else 2000):
        time.sleep(0.004)  # no condition: whatever they do by then is what they are killed at
        victim = kill % len(crew)
        crew[victim].kill()
        crew[victim].conn.close()
        crew[victim] = Child(lock_workers.check_uses, overlay, x, 100 + kill)
        assert all(one.process.is_alive() or one.process.exitcode == -signal.SIGKILL for one in crew)
    for one in crew:
        assert one.process.is_alive(), "two uses went on at once"
        one.kill()
        one.conn.close()
    for use in ("ints", "floats", "chars"):
        with overlay.use(use, timeout=HANG) as v:
            assert v.first


# Waiting


@pytest.mark.parametrize("timeout", [0.0, 0.05, 0.25, 0.5])
def test_timeouts_last_as_long_as_they_say(timeout: float) -> None:
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints") as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        start = time.monotonic()
        with pytest.raises(nds.Timeout) as caught, overlay.use("floats", timeout=timeout):
            pass
        took = time.monotonic() - start
        assert f"Inside is pid {one.pid} (" in str(caught.value)
    assert took >= timeout
    assert isinstance(caught.value, TimeoutError)
    print(f"beyond a timeout of {timeout} s: {1000 * (took - timeout):.2f} ms")


def test_an_interrupt_ends_a_wait() -> None:
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints") as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        struck: list[float] = []

        def strike() -> None:
            struck.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        other = when_waited_for(overlay, "floats", strike)
        with pytest.raises(KeyboardInterrupt), overlay.use("floats"):
            pass
        print(f"a wait ended {1000 * (time.monotonic() - struck[0]):.1f} ms after Ctrl-C")
        other.join(HANG)
        one.tell()
        assert one.hear() == "outside"
    assert begins(overlay, "floats")


def test_a_repr_is_one_line_and_does_not_wait() -> None:
    overlay = make()
    with Child(lock_workers.use_overlay, overlay, "ints") as one:
        assert [one.hear(), one.hear()] == ["waiting", "inside"]
        assert repr(overlay) == "<Overlay floats(A, B, C), ints(D, E), chars(text), 130 bytes>"
        assert "\n" not in repr(overlay.use("floats"))


def test_nothing_is_held_afterwards() -> None:
    before = helpers.held()
    overlay = make()
    with overlay.use("ints") as v:
        v.D[:] = 1
    del overlay, v
    assert helpers.settle(before) == before


SENT = """
import multiprocessing as mp
import ndshare as nds

def other(overlay):
    with overlay.use("floats", timeout=60) as v:
        v.A[:] = 1

if __name__ == "__main__":
    mp.set_start_method("spawn")
    overlay = nds.Overlay(floats={"A": (10, "f4")})
    process = mp.Process(target=other, args=(overlay,))
    process.start()
    process.join()
    with overlay.use("floats") as v:
        print(v.A.sum())
"""


def test_a_process_that_has_an_overlay_ends_without_a_word() -> None:
    """At the end of the interpreter a callback of the module found the module's names gone, and said so on stderr."""
    assert helpers.run(SENT).clean() == "10.0\n"
