"""Inside `allocating`, what NumPy and others make is born shared, and outside nothing has changed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import os
import threading
import tracemalloc
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndshare as nds
from helpers import METHODS, MIB, Puppet, held, pattern, run, settle

handler_name = np._core.multiarray.get_handler_name
Array = np.ndarray[Any, Any]


def is_ours() -> bool:
    """Say whether the handler of this context is ours."""
    return handler_name() == "ndshare"


# ---- what is born shared --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.empty(10_000),
        lambda: np.zeros(10_000),
        lambda: np.ones((100, 100), np.float32),
        lambda: np.full(10_000, 3),
        lambda: np.arange(10_000) + 1,
        lambda: np.frombuffer(bytes(10_000), np.uint8).copy(),
        lambda: np.array(memoryview(bytes(10_000))),
        lambda: np.array([*range(5000)]),
        lambda: np.concatenate([np.ones(5000), np.ones(5000)]),
        lambda: np.sort(np.arange(10_000)[::-1]),
        lambda: np.arange(10_000).astype(np.float32),
        lambda: np.zeros(1000, [("a", "i4"), ("b", "f8")]),
        lambda: np.full(1000, "text"),
        lambda: np.asfortranarray(np.ones((100, 100))),
        lambda: np.random.default_rng(1).random(10_000),
    ],
)
def test_what_numpy_makes_is_shared(make: Any) -> None:
    expected = make()
    with nds.allocating() as scope:
        x = make()
    assert not nds.is_shared(expected)
    assert nds.is_shared(x)
    assert type(x) is np.ndarray
    assert x.flags.owndata
    assert x.flags.writeable
    assert handler_name(x) == "ndshare"
    assert np._core.multiarray.get_handler_version(x) == 1
    assert x.ctypes.data % 64 == 0
    assert scope.arrays >= 1
    assert scope.fallbacks == 0
    if "empty" not in str(make.__code__.co_names):
        np.testing.assert_array_equal(x, expected)


def test_files_are_read_into_shared_memory(tmp_path: Path) -> None:
    x = pattern((100, 100), 3)
    np.save(tmp_path / "a.npy", x)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    x.tofile(tmp_path / "a.raw")
    with nds.allocating():
        loaded = np.load(tmp_path / "a.npy")
        with np.load(tmp_path / "a.npz") as archive:
            unpacked = archive["x"]
        raw = np.fromfile(tmp_path / "a.raw", x.dtype)
    assert all(map(nds.is_shared, (loaded, unpacked, raw)))
    assert (loaded == x).all()
    assert (unpacked == x).all()
    assert (raw == x.ravel()).all()


def test_pictures_are_decoded_into_shared_memory() -> None:
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    x = pattern((64, 64, 3), 5, np.uint8)
    image.fromarray(x).save(file, "PNG")
    with nds.allocating():
        decoded = np.array(image.open(io.BytesIO(file.getvalue())))
    assert nds.is_shared(decoded)
    assert (decoded == x).all()


def test_opencv_decodes_into_shared_memory() -> None:
    cv2 = pytest.importorskip("cv2")
    x = pattern((64, 64, 3), 5, np.uint8)
    _, file = cv2.imencode(".png", x)
    with nds.allocating():
        decoded = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert nds.is_shared(decoded)
    assert (decoded == x).all()


def test_results_of_scipy_are_shared() -> None:
    fft, ndimage = pytest.importorskip("scipy.fft"), pytest.importorskip("scipy.ndimage")
    x = pattern((64, 64), 7, np.float64)
    with nds.allocating():
        spectrum, smooth = fft.rfft2(x), ndimage.gaussian_filter(x, 2)
    assert nds.is_shared(spectrum)
    assert nds.is_shared(smooth)
    np.testing.assert_array_equal(spectrum, fft.rfft2(x))
    np.testing.assert_array_equal(smooth, ndimage.gaussian_filter(x, 2))


def test_zeros_are_zeros_also_where_something_was() -> None:
    with nds.allocating():
        for size in (4096, 5000, 70_000, 3 * MIB):
            for _ in range(3):
                np.empty(size, np.uint8).fill(255)
                assert not np.zeros(size, np.uint8).any()


def test_small_arrays_are_numpys_own() -> None:
    with nds.allocating(min_bytes=1000) as scope:
        assert not nds.is_shared(np.empty(999, np.uint8))
        assert nds.is_shared(np.empty(1000, np.uint8))
    assert (scope.arrays, scope.bytes, scope.fallbacks, scope.fallback_bytes) == (1, 1000, 0, 0)
    with nds.allocating(0):
        assert nds.is_shared(np.empty(0))
        assert nds.is_shared(np.array(1.0))


@given(st.integers(0, 20_000), st.integers(0, 20_000))
def test_the_size_decides(min_bytes: int, size: int) -> None:
    with nds.allocating(min_bytes):
        assert nds.is_shared(np.empty(size, np.uint8)) == (max(size, 1) >= min_bytes)
        assert nds.is_shared(np.zeros(size, np.uint8)) == (max(size, 1) >= min_bytes)


def test_another_arena_may_be_named() -> None:
    with nds.Arena("16 MiB") as arena:
        with nds.allocating(arena=arena):
            x = np.ones(10_000)
            with nds.allocating():
                y = x + 1
            z = y + 1
        assert nds.asarray(x, arena=arena) is x
        assert nds.asarray(z, arena=arena) is z
        assert nds.asarray(y) is y
        assert nds.asarray(y, arena=arena) is not y
    del arena
    assert z.sum() == 30_000


# ---- where it holds -------------------------------------------------------------------------------------------------


def test_it_ends_with_the_block_also_by_an_exception() -> None:
    with pytest.raises(KeyError, match="True"), nds.allocating():
        raise KeyError(is_ours())
    assert not is_ours()
    assert not nds.is_shared(np.ones(10_000))


def test_scopes_nest_and_the_innermost_counts() -> None:
    with nds.allocating(1000) as outer:
        with nds.allocating(100_000) as inner:
            assert not nds.is_shared(np.empty(5000, np.uint8))
            assert nds.is_shared(np.empty(200_000, np.uint8))
            with nds.allocating(10):
                assert nds.is_shared(np.empty(10, np.uint8))
            assert not nds.is_shared(np.empty(5000, np.uint8))
        assert nds.is_shared(np.empty(5000, np.uint8))
    assert not is_ours()
    assert (outer.arrays, inner.arrays) == (1, 1)


def test_arrays_may_outlive_their_scope_in_any_order() -> None:
    before = held()
    with nds.allocating(1000):
        a = np.ones(1000)
        with nds.allocating(5000), nds.Arena("16 MiB") as arena, nds.allocating(5000, arena=arena):
            b, c = np.ones(1000), np.ones(10)
    assert held() > before
    del a
    assert b.sum() == 1000
    del b, c
    assert held() == before


def test_a_scope_can_be_entered_again_but_not_twice_at_once() -> None:
    scope = nds.allocating()
    for _ in range(2):
        with scope as entered:
            assert entered is scope
            np.ones(1000)
            with pytest.raises(RuntimeError, match="make another"):
                scope.__enter__()
    assert scope.arrays == 2
    assert not is_ours()
    with pytest.raises(RuntimeError, match="is not"):
        scope.__exit__()


def test_another_thread_is_not_affected() -> None:
    made: list[Array] = []
    with nds.allocating():
        thread = threading.Thread(target=contextvars.Context().run, args=(lambda: made.append(np.ones(1000)),))
        thread.start()
        thread.join()
        assert nds.is_shared(np.ones(1000))
    assert not nds.is_shared(made[0])


def test_threads_have_scopes_of_their_own() -> None:
    barrier, wrong = threading.Barrier(4), list[int]()

    def work(i: int) -> None:
        for _ in range(50):
            barrier.wait()
            with nds.allocating(1000 * i) if i % 2 else nds.Arena("8 MiB"):
                barrier.wait()
                x = np.full(500 * (i + 1), i, np.uint8)
                if nds.is_shared(x) != (i % 2 == 1 and x.size >= 1000 * i) or x[-1] != i:
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_array_may_be_freed_on_another_thread() -> None:
    before, box = held(), list[Array]()
    with nds.allocating():
        box.append(np.ones(100_000))
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert held() == before


def test_tasks_have_scopes_of_their_own() -> None:
    async def inside() -> bool:
        with nds.allocating():
            await asyncio.sleep(0)
            x = np.ones(1000)
            await asyncio.sleep(0)
        return nds.is_shared(x) and not is_ours()

    async def outside() -> bool:
        found = list[bool]()
        for _ in range(4):
            await asyncio.sleep(0)
            found.append(nds.is_shared(np.ones(1000)))
        return not any(found)

    async def both() -> list[bool]:
        return await asyncio.gather(inside(), outside(), inside(), outside())

    assert all(asyncio.run(both()))
    assert not is_ours()


def test_a_task_made_inside_does_not_stay_inside() -> None:
    async def late(event: asyncio.Event) -> tuple[bool, bool]:
        first = nds.is_shared(np.ones(1000))
        await event.wait()
        return first, nds.is_shared(np.ones(1000))

    async def main() -> tuple[bool, bool]:
        event = asyncio.Event()
        with nds.allocating():
            task = asyncio.create_task(late(event))
            await asyncio.sleep(0)
        event.set()
        return await task

    assert asyncio.run(main()) == (True, False)


def test_generators_may_be_left_in_any_order() -> None:
    def arrays(min_bytes: int) -> Iterator[Array]:
        with nds.allocating(min_bytes):
            while True:
                yield np.ones(10_000, np.uint8)

    first, second = arrays(1000), arrays(2000)
    assert nds.is_shared(next(first))
    assert nds.is_shared(next(second))
    first.close()
    assert is_ours()
    assert nds.is_shared(np.ones(10_000))
    second.close()
    assert not is_ours()
    third = arrays(1000)
    x = next(third)
    thread = threading.Thread(target=third.close)
    thread.start()
    thread.join()
    assert not nds.is_shared(np.ones(10_000))  # the handler is here still, and passes on
    with nds.allocating():
        y = np.ones(10_000)
    assert nds.is_shared(y)
    assert x.sum() == 10_000
    contextvars.copy_context()
    _reset()
    assert not is_ours()


def _reset() -> None:
    """Leave what a generator left behind in this thread: entering and leaving does it."""
    with nds.allocating():
        pass


# ---- sizes change ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_resizing_keeps_the_contents(zero: bool, late: bool) -> None:
    rng = np.random.default_rng(3)
    sizes = [5000, 4097, 6000, 100, 8000, 100_000, 3 * MIB, 50_000, 1, 9000]
    with nds.allocating():
        x = (np.zeros if zero else np.empty)(sizes[0], np.uint8)
        x[:] = expected = rng.integers(0, 255, sizes[0], np.uint8)
        if not late:
            _resize_all(x, expected, sizes)
    if late:
        _resize_all(x, expected, sizes)


def _resize_all(x: Array, expected: Array, sizes: list[int]) -> None:
    for size in sizes:
        was = nds.is_shared(x)
        x.resize(size, refcheck=False)
        expected = np.resize(expected, size) if size <= expected.size else np.pad(expected, (0, size - expected.size))
        np.testing.assert_array_equal(x, expected)
        assert was or not nds.is_shared(x)


def test_resizing_leaves_what_others_hold_alone() -> None:
    with nds.allocating():
        x = np.arange(10_000)
    token = ForkingPickler.dumps(x)
    x.resize(1_000_000, refcheck=False)
    x[:] = 0
    assert (ForkingPickler.loads(token) == np.arange(10_000)).all()


def test_what_grows_while_it_is_read_is_right() -> None:
    text = "\n".join(map(str, range(50_000)))
    with nds.allocating():
        grown = np.fromiter(range(50_000), np.int64)
        loaded = np.loadtxt(io.StringIO(text), np.int64)
        parsed = np.fromstring(text, np.int64, sep="\n")
    for x in (grown, loaded, parsed):
        np.testing.assert_array_equal(x, np.arange(50_000))


# ---- when there is no room ------------------------------------------------------------------------------------------


def test_a_full_arena_is_no_error() -> None:
    with nds.Arena("4 MiB") as arena, nds.allocating(arena=arena) as scope:
        arrays = [np.full(MIB, i, np.uint8) for i in range(8)]
        shared = [nds.is_shared(x) for x in arrays]
        arrays[7].resize(2 * MIB, refcheck=False)
        arrays[0].resize(2 * MIB, refcheck=False)
        huge = np.zeros(64 * MIB, np.uint8)
    assert shared == [True] * 4 + [False] * 4
    assert not nds.is_shared(huge)
    assert not nds.is_shared(arrays[0])
    assert all(x[0] == x[MIB - 1] == i for i, x in enumerate(arrays))
    assert (scope.arrays, scope.bytes) == (4, 4 * MIB)
    assert (scope.fallbacks, scope.fallback_bytes) == (6, (4 + 2 + 64) * MIB)
    assert "6 fallbacks" in repr(scope)


def test_room_that_comes_free_is_used() -> None:
    with nds.Arena("4 MiB") as arena, nds.allocating(arena=arena):
        x = np.empty(4 * MIB, np.uint8)
        y = np.empty(4 * MIB, np.uint8)
        del x
        x = np.empty(4 * MIB, np.uint8)
    assert nds.is_shared(x)
    assert not nds.is_shared(y)


def test_what_numpy_refuses_it_refuses_still() -> None:
    with nds.allocating():
        with pytest.raises(MemoryError):
            np.empty(1 << 60, np.uint8)
        with pytest.raises(ValueError, match=r"too big|too large|exceed"):
            np.empty((1 << 40, 1 << 40), np.uint8)
        x = np.ones(1000)
        with pytest.raises(MemoryError):
            x.resize(1 << 57, refcheck=False)
        assert x.sum() == 1000


@pytest.mark.parametrize("wrong", [-1, 1 << 64, "4096", 1.5, b""])
def test_a_wrong_least_size_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="min_bytes"):
        nds.allocating(wrong)


def test_a_wrong_arena_is_refused() -> None:
    with pytest.raises(TypeError, match="arena"):
        nds.allocating(arena="8 GiB")  # type: ignore[arg-type]
    arena = nds.Arena("4 MiB")
    arena.close()
    with pytest.raises(ValueError, match="closed"):
        nds.allocating(arena=arena)


# ---- pointers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("o", object)], np.dtypes.StringDType()])
def test_arrays_of_pointers_are_never_called_shared(dtype: Any) -> None:
    with nds.allocating():
        x = np.zeros(10_000, dtype)
        y = np.full(10_000, 1 if x.dtype.names else "text, and more of it than fits", dtype)
    for array in (x, y):
        assert not nds.is_shared(array)
        assert len(ForkingPickler.dumps(array)) > 10_000
        back = ForkingPickler.loads(ForkingPickler.dumps(array))
        assert (back == array).all()
        with pytest.raises(TypeError):
            nds.asarray(array)
        with pytest.raises(ValueError, match="shared"):
            nds.locked(array)


POINTERS = """
    import gc, os
    import numpy as np
    import ndshare as nds

    n = 5000
    with nds.allocating():
        texts = np.array([f"text {i}" for i in range(n)], object)
        grown = np.array([f"text {i}" for i in range(n)], object)
        grown.resize(3 * n, refcheck=False)
        empty = np.empty(n, object)
        records = np.zeros(n, [("a", "i4"), ("o", object), ("b", "i4")])
        late = np.zeros(n, [("wide", "f8", 1000), ("o", object)])
        numbers = np.zeros(n)
    records["o"] = texts
    there, here = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.read(there[0], 1)                  # the parent has changed its own
        good = texts[0] == "text 0" and records["o"][7] == "text 7" and numbers[1] == 1
        texts[:] = grown[:] = "child"
        numbers[2] = 2
        del texts, grown, empty, records, late
        gc.collect()
        os.write(here[1], b"x")
        if not os.fork():
            os._exit(0 if good and not nds.stats()["blocks"] > 5 else 1)
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    texts[0] = records["o"][7] = empty[3] = late["o"][-1] = "parent " * 3
    numbers[1] = 1
    os.write(there[1], b"x")
    os.read(here[0], 1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    assert texts[0] == "parent " * 3 and texts[1] == "text 1" and texts[-1] == f"text {n - 1}"
    assert grown[1] == "text 1" and grown[-1] == 0
    assert records["o"][7] == empty[3] == late["o"][-1] == "parent " * 3 and records["o"][8] == "text 8"
    assert numbers[2] == 2 and nds.is_shared(numbers)
    if not os.fork():                         # once more, with the same
        del texts, grown, empty, records, late
        os._exit(0)
    assert os.wait()[1] == 0 and texts[1] == "text 1" and records["o"][8] == "text 8"
    place, size = texts.ctypes.data, nds.stats()["bytes"]
    del texts, grown, empty, records, late, numbers
    gc.collect()
    assert nds.stats()["blocks"] == 0, nds.stats()
    with nds.allocating():
        again = [np.ones(n * 8 // 8) for _ in range(20)]      # the same memory is shared again
    assert place in [x.ctypes.data for x in again]
    if not os.fork():
        for x in again:
            x[:] = 7
        os._exit(0)
    os.wait()
    print([x.sum() for x in again] == [7.0 * n] * 20)
"""


def test_a_fork_copies_pointers_and_shares_numbers() -> None:
    assert run(POINTERS).clean() == "True\n"


def test_numbers_that_look_like_pointers_are_right_after_a_fork() -> None:
    objects = [object() for _ in range(1000)]
    with nds.allocating():
        x = np.zeros(1000, np.intp)
    x[:] = [id(one) for one in objects]
    if not os.fork():
        x[:] = 0
        os._exit(0)
    os.wait()
    assert (x == [id(one) for one in objects]).all()
    assert not nds.is_shared(x)
    assert (ForkingPickler.loads(ForkingPickler.dumps(x)) == x).all()
    assert nds.is_shared(nds.asarray(x))


# ---- handlers of other libraries ------------------------------------------------------------------------------------

FOREIGN = """
    import ctypes as c, gc
    import numpy as np
    import ndshare as nds

    M = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_size_t)
    C = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_size_t, c.c_size_t)
    R = c.PYFUNCTYPE(c.c_void_p, c.c_void_p, c.c_void_p, c.c_size_t)
    F = c.PYFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_size_t)

    class Handler(c.Structure):
        _fields_ = [("name", c.c_char * 127), ("version", c.c_uint8), ("context", c.c_void_p),
                    ("malloc", M), ("calloc", C), ("realloc", R), ("free", F)]

    api = c.pythonapi
    api.PyCapsule_New.restype, api.PyCapsule_New.argtypes = c.py_object, [c.c_void_p, c.c_char_p, c.c_void_p]
    api.PyCapsule_GetPointer.restype = c.c_void_p
    api.PyCapsule_GetPointer.argtypes = [c.py_object, c.c_char_p]
    table = c.cast(api.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None), c.POINTER(c.c_void_p))
    put = c.PYFUNCTYPE(c.py_object, c.py_object)(table[304])
    get = c.PYFUNCTYPE(c.py_object)(table[305])
    kept, books = [], []

    def foreign(header):                       # takes from the handler in use, keeps books, and maybe a header
        inner = get()
        h = Handler.from_address(api.PyCapsule_GetPointer(inner, b"mem_handler"))
        live = {}
        books.append(live)
        def malloc(_, n):
            p = h.malloc(h.context, n + header)
            live[p + header] = n
            return p + header
        def calloc(_, n, m):
            p = h.calloc(h.context, n * m + header, 1)
            live[p + header] = n * m
            return p + header
        def realloc(_, p, n):
            del live[p]
            q = h.realloc(h.context, p - header, n + header)
            live[q + header] = n
            return q + header
        def free(_, p, n):
            del live[p]
            h.free(h.context, p - header, n + header)
        mine = Handler(b"foreign", 1, None, M(malloc), C(calloc), R(realloc), F(free))
        kept.extend([mine, inner])
        return api.PyCapsule_New(c.addressof(mine), b"mem_handler", None)

    def work(expected):
        for n in (10, 700, 5000, 100_000):
            x, z = np.arange(n), np.zeros(n)
            assert x[-1] == n - 1 and not z.any()
            assert nds.is_shared(x) == expected(x.nbytes), (n, nds.is_shared(x))
            arrays.append(x)
            y = x.copy()
            for m in (3 * n, n // 2, 9 * n):
                y.resize(m, refcheck=False)
                assert (y[: n // 2] == x[: n // 2]).all()
            arrays.append(y)

    for header in (0, 64):
        arrays = []
        default = get()
        old = put(foreign(header))             # outside of ours
        work(lambda n: False)
        with nds.allocating(5000) as outer:
            work(lambda n: n >= 5000)
            before = put(foreign(header))      # inside
            work(lambda n: n + header >= 5000)
            with nds.allocating(50_000):       # and ours in it
                work(lambda n: n >= 50_000)
            put(before)
            work(lambda n: n >= 5000)
        work(lambda n: False)
        put(default)
        work(lambda n: False)
        assert all(books[-2:])
        if header:
            arrays.reverse()
        arrays.clear()
        gc.collect()
        print(sum(map(len, books)), nds.stats()["blocks"])
"""


def test_handlers_of_others_inside_and_outside() -> None:
    assert run(FOREIGN).clean() == "0 0\n0 0\n"


def test_many_threads_make_resize_and_drop_while_others_fork() -> None:
    before, wrong = held(), list[str]()
    pool: list[Array] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(400):
            with nds.allocating(1000):
                n = int(rng.integers(1, 60_000))
                x = np.full(n, seed, np.uint8) if n % 2 else np.zeros(n, np.uint8) + np.uint8(seed)
                x.resize(n + int(rng.integers(-n // 2, n)), refcheck=False)
            with lock:
                pool.append(x)
                y = pool.pop(int(rng.integers(len(pool)))) if len(pool) > 20 else x
            if y.size and y[0] not in range(4):
                wrong.append(f"{y[0]}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        if not os.fork():
            pool.clear()
            os._exit(0 if (np.ones(10_000) == 1).all() else 1)
        if os.wait()[1]:
            wrong.append("child")
    for thread in threads:
        thread.join()
    assert not wrong
    del threads
    pool.clear()
    assert settle(before) <= before


# ---- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_they_travel_by_reference(method: str) -> None:
    with nds.allocating():
        x = np.arange(1_000_000)
        z = np.zeros((100, 1000))
    with Puppet(method) as puppet:
        assert len(ForkingPickler.dumps(x[::3])) < 256
        nds.reclaim()
        assert puppet.do("describe", x[:10])["shared"]
        puppet.do("store", x, 5, -7)
        assert x[5] == -7
        puppet.do("store", z, (3, 4), 2.5)
        assert z[3, 4] == 2.5


@pytest.mark.parametrize("method", METHODS)
def test_they_outlive_their_maker(method: str) -> None:
    before = held()
    with Puppet(method) as puppet:
        x = puppet.do("allocate", 1_000_000)
    assert nds.is_shared(x)
    assert x[-1] == 999_999
    del x
    assert settle(before) <= before


def test_a_forked_child_has_a_hold_of_its_own() -> None:
    with nds.allocating():
        x = np.arange(100_000)
        size = held()
        with Puppet("fork") as puppet:
            puppet.do("keep", "x", None)
            pid = os.fork()
            if not pid:
                x[0] = 9
                y = x + 1
                good = nds.is_shared(y) and y[-1] == 100_000
                del x, y
                gc.collect()
                os._exit(0 if good else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert held() >= size
            assert x[0] == 9
            assert x[-1] == 99_999


FORKED = """
    import os, sys
    import numpy as np
    import ndshare as nds

    with nds.allocating():
        x = np.arange(100_000)
    there, here = os.pipe(), os.pipe()
    if not os.fork():
        os.read(there[0], 1)     # the parent has dropped its own
        good = x[-1] == 99_999 and nds.stats()["blocks"] == 1
        del x
        os.write(here[1], bytes([good and nds.stats()["blocks"] == 0]))
        os._exit(0)
    del x
    os.write(there[1], b"x")
    print(os.read(here[0], 1) == b"\\x01", os.wait()[1], nds.stats()["blocks"])
"""


def test_a_forked_child_drops_its_hold_once() -> None:
    assert run(FORKED).clean() == "True 0 0\n"


EXITING = """
    import sys
    import numpy as np
    import ndshare as nds

    if sys.argv[1] == "open":
        nds.allocating().__enter__()
    with nds.allocating() as scope:
        kept = [np.arange(100_000) for _ in range(10)]
    class Late:
        array = kept[0]
        def __del__(self):
            with nds.allocating():
                self.array = self.array + 1
    late = Late()
    cycle = [kept[1]]
    cycle.append(cycle)
    sys.modules["late"] = late
    print("good")
"""


@pytest.mark.parametrize("how", ["open", "left"])
def test_an_interpreter_may_exit_with_them(how: str) -> None:
    before = held()
    assert run(EXITING, how).clean() == "good\n"
    assert held() == before


JOINING = """
    import multiprocessing as mp
    import numpy as np
    import ndshare as nds
    import workers

    if __name__ == "__main__":
        with nds.allocating():
            q = mp.get_context("spawn").Queue()
            p = mp.get_context("spawn").Process(target=workers.exit_with_arrays, args=(q,))
            p.start()
            x = q.get()
            p.join()
        print(p.exitcode, nds.is_shared(x), int(x.sum()), len(nds.stats()["participants"]))
        del x
        print(nds.stats()["bytes"])
"""


def test_a_process_that_exits_with_arrays_in_its_globals_leaks_nothing() -> None:
    assert run(JOINING).clean() == "0 True 4950 1\n0\n"


# ---- nothing leaks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 5000, 100_000, 3 * MIB])
def test_many_arrays_leak_nothing(size: int) -> None:
    before, blocks = held(), nds.stats()["blocks"]
    times = 100_000 if size <= 5000 else 2000
    with nds.allocating(1000) as scope:
        for _ in range(times):
            np.empty(size, np.uint8)
    assert (held(), nds.stats()["blocks"]) == (before, blocks)
    assert scope.arrays == (times if size >= 1000 else 0)


def test_scopes_leak_nothing() -> None:
    with nds.allocating():
        outer = handler_name()
        for _ in range(10_000):
            with nds.allocating():
                pass
        gc.collect()
        count = len(gc.get_objects())
        for _ in range(10_000):
            with nds.allocating():
                pass
        gc.collect()
        assert len(gc.get_objects()) <= count + 10
        assert handler_name() == outer


def test_tracemalloc_sees_them() -> None:
    tracemalloc.start()
    try:
        with nds.allocating():
            before = tracemalloc.get_traced_memory()[0]
            x = np.ones(MIB, np.uint8)
            assert tracemalloc.get_traced_memory()[0] - before >= MIB
            x.resize(2 * MIB, refcheck=False)
            assert tracemalloc.get_traced_memory()[0] - before >= 2 * MIB
            del x
            assert tracemalloc.get_traced_memory()[0] - before < MIB
    finally:
        tracemalloc.stop()
