"""Canvases: whatever was put there before, the result is NumPy's, and what stands is not touched again.

What was copied is seen through a second, writable view of the canvas, in which the tests leave marks: a mark that
survives a call shows that the call did not copy there. Nobody but a test has such a view.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import pickle
import random
import signal
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cache_workers as workers
import ndshare as nds
from helpers import HANG, wait_until
from ndshare import _native

Array = np.ndarray[Any, Any]
FORK = mp.get_context("fork")


def behind(canvas: nds.Canvas) -> Array:
    """Return a writable view of a canvas's bytes."""
    array = canvas.array
    raw = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
    return np.frombuffer(raw, array.dtype).reshape(array.shape)


def tiles(*numbers: int, shape: tuple[int, ...] = (2, 3), dtype: Any = np.uint8) -> list[Array]:
    return [np.full(shape, number, dtype) for number in numbers]


def cached(*numbers: int, shape: tuple[int, ...] = (2, 3)) -> tuple[nds.Cache, list[Array]]:
    """Return a cache that has a tile under each number, and the tiles."""
    cache = nds.Cache("16 MiB")  # several times what they take, so that all stay, whatever blocks are at hand
    for number in numbers:
        cache[number] = np.full(shape, number, np.uint8)
    return cache, [cache[number] for number in numbers]


def copied(canvas: nds.Canvas, call: Any, axis: int = 1, width: int = 3) -> list[int]:
    """Return the numbers of the tiles that a call copies."""
    view = np.moveaxis(behind(canvas), axis, 0)
    before = view.copy()
    view[...] = 255
    call()
    parts = [view[at : at + width] for at in range(0, len(view), width)]
    kept = [before[at : at + width] for at in range(0, len(view), width)]
    touched = [number for number, part in enumerate(parts) if not (part == 255).all()]
    for number in set(range(len(parts))) - set(touched):
        parts[number][...] = kept[number]
    return touched


# ---- the object -----------------------------------------------------------------------------------------------------


def test_what_a_canvas_is() -> None:
    canvas = nds.Canvas((2, 3), "uint16")
    assert (canvas.shape, canvas.dtype, canvas.nbytes) == ((2, 3), np.uint16, 12)
    assert repr(canvas) == "<Canvas (2, 3) uint16>"
    array = canvas.array
    assert array is canvas.array
    assert type(array) is np.ndarray
    assert nds.is_shared(array)
    assert not array.any()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_numpy_takes_a_canvas_for_its_array() -> None:
    canvas = nds.Canvas((2, 3), np.uint8)
    assert np.shares_memory(np.asarray(canvas), canvas.array)
    assert not np.asarray(canvas).flags.writeable
    assert not np.shares_memory(np.array(canvas), canvas.array)
    assert np.asarray(canvas, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(canvas, np.float32, copy=False)


def test_the_array_outlives_the_canvas() -> None:
    canvas = nds.Canvas(1000, "u1")
    nds.copyto(canvas, 7)
    array = canvas.array
    del canvas
    assert (array == 7).all()


def test_a_canvas_in_an_arena() -> None:
    with nds.Arena("16 MiB") as arena:
        canvas = nds.Canvas((4, 4), arena=arena)
        assert nds.stats(arena)["bytes"] > 0
        nds.copyto(canvas, 1.5)
        assert canvas.array.sum() == 24
        del canvas
    assert nds.Canvas(()).array.shape == ()
    assert nds.Canvas((0, 5)).array.size == 0


@pytest.mark.parametrize(
    ("args", "error"),
    [(((-1,),), ValueError), (((2,), object), TypeError), (((2,), "(2,)f4"), TypeError), ((1 << 50,), MemoryError)],
)
def test_bad_arguments(args: Any, error: Any) -> None:
    with pytest.raises(error):
        nds.Canvas(*args)


def test_a_canvas_is_not_sent() -> None:
    with pytest.raises(TypeError, match=r"canvas\.array"):
        pickle.dumps(nds.Canvas(3))


# ---- results --------------------------------------------------------------------------------------------------------


def test_every_function_fills_a_canvas() -> None:
    a, b = tiles(1, 2)
    canvas = nds.Canvas((2, 6), np.uint8)
    assert nds.concatenate([a, b], axis=1, out=canvas) is canvas
    assert (canvas.array == np.concatenate([a, b], axis=1)).all()
    assert nds.block([[b, a]], out=canvas) is canvas
    assert (canvas.array == np.block([[b, a]])).all()
    nds.copyto(canvas, np.arange(6, dtype=np.uint8))
    assert (canvas.array == np.arange(6)).all()
    stacked = nds.Canvas((2, 2, 3), np.uint8)
    assert nds.stack([a, b], axis=1, out=stacked) is stacked
    assert (stacked.array == np.stack([a, b], axis=1)).all()
    flat = nds.Canvas(12, np.uint8)
    assert nds.concatenate([a, b], axis=None, out=flat) is flat
    assert (flat.array == np.concatenate([a, b], axis=None)).all()
    nds.copyto(canvas, 9, where=np.arange(6) % 2 == 0)
    assert (canvas.array[0] == [9, 1, 9, 3, 9, 5]).all()


def test_what_only_numpy_does() -> None:
    canvas = nds.Canvas((2, 6), np.complex64)
    a, b = tiles(1, 2, dtype=np.float16)
    nds.concatenate([a, b], axis=1, out=canvas)
    assert (canvas.array == np.concatenate([a, b], axis=1)).all()
    nds.concatenate([[[1, 2, 3]] * 2, b], axis=1, out=canvas)
    assert (canvas.array[0] == [1, 2, 3, 2, 2, 2]).all()


def test_errors_are_numpys() -> None:
    canvas = nds.Canvas((2, 6), np.uint8)
    good = tiles(1, 2)
    nds.concatenate(good, axis=1, out=canvas)
    before = canvas.array.copy()
    with pytest.raises(ValueError, match="wrong shape"):
        nds.concatenate(tiles(1, 2, 3), axis=1, out=canvas)
    with pytest.raises(TypeError, match="Cannot cast"):
        nds.concatenate(tiles(1, 2, dtype=np.float32), axis=1, out=canvas)
    with pytest.raises(ValueError, match="workers"):
        nds.concatenate(good, axis=1, out=canvas, workers=0)
    assert (canvas.array == before).all()
    with nds.locked(canvas.array, timeout=0):
        pass


def test_a_source_may_be_the_canvas_itself() -> None:
    canvas = nds.Canvas((2, 6), np.uint8)
    nds.copyto(canvas, np.arange(6, dtype=np.uint8))
    plain = canvas.array.copy()
    np.concatenate([plain[:, 2:], plain[:, :2]], axis=1, out=plain)
    nds.concatenate([canvas.array[:, 2:], canvas.array[:, :2]], axis=1, out=canvas)
    assert (canvas.array == plain).all()


# ---- what stands ----------------------------------------------------------------------------------------------------


def test_values_of_a_cache_that_stand_are_not_copied() -> None:
    _, values = cached(1, 2, 3)
    canvas = nds.Canvas((2, 9), np.uint8)
    fill = lambda arrays: copied(canvas, lambda: nds.concatenate(arrays, axis=1, out=canvas))  # noqa: E731
    assert fill(values) == [0, 1, 2]
    assert fill(values) == []
    assert fill([values[0], values[0], values[2]]) == [1]
    assert fill(values[::-1]) == [0, 1, 2]
    assert (canvas.array == np.concatenate(values[::-1], axis=1)).all()


def test_ordinary_arrays_are_always_copied() -> None:
    canvas = nds.Canvas((2, 6), np.uint8)
    for make in (np.array, nds.array):
        arrays = [make(a) for a in tiles(1, 2)]
        for _ in range(2):
            arrays[0] += 1
            assert copied(canvas, lambda arrays=arrays: nds.concatenate(arrays, axis=1, out=canvas)) == [0, 1]
        assert (canvas.array == np.concatenate(arrays, axis=1)).all()


def test_read_only_arrays_are_no_promise() -> None:
    """Somebody else may write to what this view must not."""
    whole = nds.zeros((2, 3), np.uint8)
    view = whole[:]
    view.flags.writeable = False
    canvas = nds.Canvas((2, 3), np.uint8)
    nds.concatenate([view], out=canvas)
    whole[:] = 5
    nds.concatenate([view], out=canvas)
    assert (canvas.array == 5).all()


def test_frames_of_a_ring_stand() -> None:
    ring = nds.Ring((2, 3), np.uint8, slots=4)
    reader = ring.reader()
    for number in range(3):
        ring.put(np.full((2, 3), number, np.uint8))
    frames = [reader.get() for _ in range(3)]
    canvas = nds.Canvas((2, 9), np.uint8)
    views = [frame.view(np.ndarray) for frame in frames]
    fill = lambda: nds.concatenate(views, axis=1, out=canvas)  # noqa: E731
    assert copied(canvas, fill) == [0, 1, 2]
    assert copied(canvas, fill) == []
    assert (canvas.array[0] == [0, 0, 0, 1, 1, 1, 2, 2, 2]).all()


def test_a_frame_that_was_written_anew_is_copied_again() -> None:
    """The ring uses its blocks again; what stands is told by the block's generation, too."""
    ring = nds.Ring((2, 3), np.uint8, slots=1)
    reader = ring.reader()
    canvas = nds.Canvas((2, 3), np.uint8)
    for number in range(20):
        ring.put(np.full((2, 3), number, np.uint8))
        nds.concatenate([reader.get()], out=canvas)
        assert (canvas.array == number).all()


def test_a_view_of_a_value_is_another_source() -> None:
    _, (value,) = cached(1, shape=(6, 6))
    canvas = nds.Canvas((3, 3), np.uint8)
    for view in (value[:3, :3], value[3:, 3:], value[::2, ::2], value[:3, :3].T):
        for expected in ([0], []):
            call = lambda view=view: nds.concatenate([view], out=canvas)  # noqa: E731
            assert copied(canvas, call) == expected


def test_the_place_decides() -> None:
    """The same value at the same start is another tile when it lies differently."""
    _, (value,) = cached(1, shape=(2, 2))
    value = value.copy()
    value[:] = [[1, 2], [3, 4]]
    cache = nds.Cache("1 MiB")
    cache[0] = value
    value = cache[0]
    canvas = nds.Canvas((2, 2, 2), np.uint8)
    for axis in (0, 1, 2, 0, 2, 1):
        nds.stack([value, value], axis=axis, out=canvas)
        assert (canvas.array == np.stack([value, value], axis=axis)).all()


def test_a_copy_that_fails_is_put_right_by_the_next() -> None:
    """NumPy fails in the middle here."""
    _, values = cached(1, 2, 3)
    canvas = nds.Canvas((2, 9), np.uint8)
    nds.concatenate(values, axis=1, out=canvas)

    class Bad:
        def __array__(self, *_: Any, **__: Any) -> Array:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        nds.concatenate([values[0], Bad(), values[2]], axis=1, out=canvas)
    nds.concatenate(values[::-1], axis=1, out=canvas)
    assert (canvas.array == np.concatenate(values[::-1], axis=1)).all()


def test_a_copy_that_is_interrupted_is_put_right_by_the_next() -> None:
    """Signals come at any moment of a copy; whatever it left, the next call makes it NumPy's result."""
    _, values = cached(*range(8), shape=(1024, 512))
    canvas = nds.Canvas((1024, 8 * 512), np.uint8)
    interrupted = 0

    def strike(*_: Any) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(60):
            values = values[1:] + values[:1]
            with suppress(InterruptedError):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number + 1))
                    for _ in range(50):
                        nds.concatenate(values[::-1], axis=1, out=canvas)
                        nds.concatenate(values, axis=1, out=canvas)
                except InterruptedError:
                    interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            nds.concatenate(values, axis=1, out=canvas)
            assert (canvas.array[::1023, ::512] == [value[0, 0] for value in values]).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


# ---- keys -----------------------------------------------------------------------------------------------------------


class Loader:
    """Makes a tile of a key's version, and notes who asked."""

    def __init__(self, shape: tuple[int, ...] = (2, 3)) -> None:
        self.shape, self.versions, self.calls = shape, {}, list[Any]()

    def __call__(self, key: int) -> Array:
        self.calls.append(key)
        width = self.versions.get(("width", key), self.shape[1])
        return np.full((self.shape[0], width), (key * 7 + self.versions.get(key, 0)) % 250, np.uint8)

    def taken(self) -> list[Any]:
        calls, self.calls = sorted(self.calls), []
        return calls


def test_keys_that_stand_are_neither_loaded_nor_copied() -> None:
    load = Loader()
    cache = nds.Cache("4 MiB", load)
    canvas = nds.Canvas((2, 9), np.uint8)
    fill = lambda: cache.concatenate([0, 1, 2], axis=1, out=canvas)  # noqa: E731
    assert copied(canvas, fill) == [0, 1, 2]
    assert load.taken() == [0, 1, 2]
    assert copied(canvas, fill) == []
    load.versions[1] = 5
    del cache[1]
    assert copied(canvas, fill) == [1]
    assert load.taken() == [1]
    cache[2] = np.full((2, 3), 200, np.uint8)
    assert copied(canvas, fill) == [2]
    assert load.taken() == []
    assert (canvas.array[0] == [0, 0, 0, 12, 12, 12, 200, 200, 200]).all()
    cache.clear()
    assert copied(canvas, fill) == [0, 1, 2]


def test_an_evicted_tile_that_stands_is_not_loaded_again() -> None:
    load = Loader((64, 1024))
    cache = nds.Cache(4 * 64 * 1024, load)  # room for four
    canvas = nds.Canvas((64, 16 * 1024), np.uint8)
    keys = list(range(16))
    cache.concatenate(keys, axis=1, out=canvas)
    assert sorted(set(load.taken())) == keys
    assert 0 < len(cache) <= 4
    kept = next(iter(cache))  # which ones stay depends on which thread was faster
    del cache[kept]
    assert copied(canvas, lambda: cache.concatenate(keys, axis=1, out=canvas), width=1024) == [kept]
    assert load.taken() == [kept]


def test_when_an_extent_changes_what_follows_moves() -> None:
    load = Loader()
    cache = nds.Cache("4 MiB", load)
    canvas = nds.Canvas((2, 12), np.uint8)
    keys = [0, 1, 2, 3]
    cache.concatenate(keys, axis=1, out=canvas)
    load.taken()
    load.versions[("width", 1)], load.versions[("width", 3)] = 2, 4
    del cache[1], cache[3]
    cache.clear()
    cache.concatenate(keys, axis=1, out=canvas)
    assert (canvas.array == np.concatenate([cache[key] for key in keys], axis=1)).all()
    load.taken()
    load.versions[("width", 0)], load.versions[("width", 1)] = 2, 3
    del cache[0], cache[1]
    cache.concatenate(keys, axis=1, out=canvas)
    assert load.taken() == [0, 1], "what stands where it stood is not asked for"
    assert (canvas.array == np.concatenate([cache[key] for key in keys], axis=1)).all()


def test_other_outputs() -> None:
    cache = nds.Cache("4 MiB", Loader())
    want = np.concatenate([cache[key] for key in (1, 2)])
    assert (cache.concatenate([1, 2]) == want).all()
    assert nds.is_shared(cache.concatenate([1, 2]))
    out = np.empty((4, 3), np.uint8)
    assert cache.concatenate((key for key in (1, 2)), 0, out) is out
    assert (out == want).all()
    canvas = nds.Canvas((4, 3), np.uint8)
    assert cache.concatenate([1, 2], -2, canvas) is canvas
    assert (canvas.array == want).all()
    flat = nds.Canvas(12, np.uint8)
    assert cache.concatenate([1, 2], None, flat) is flat
    assert (flat.array == want.ravel()).all()
    real = nds.Canvas((4, 3), np.float32)
    double = nds.Canvas((4, 3), np.complex128)
    for _ in range(2):
        assert (cache.concatenate([1, 2], out=real).array == want).all()
        assert (cache.concatenate([1, 2], out=double).array == want).all()


def test_the_same_key_twice_and_no_keys() -> None:
    load = Loader()
    cache = nds.Cache("4 MiB", load)
    canvas = nds.Canvas((2, 9), np.uint8)
    cache.concatenate([4, 4, 4], axis=1, out=canvas)
    assert load.taken() == [4]
    assert (canvas.array == 28).all()
    nothing = nds.Canvas((2, 0), np.uint8)
    assert cache.concatenate([], axis=1, out=nothing) is nothing
    with pytest.raises(ValueError, match="wrong shape"):
        cache.concatenate([], axis=1, out=canvas)


def test_bad_montages() -> None:
    cache = nds.Cache("4 MiB", Loader())
    canvas = nds.Canvas((2, 9), np.uint8)
    with pytest.raises(ValueError, match="wrong shape"):
        cache.concatenate([1, 2], axis=1, out=canvas)
    with pytest.raises(ValueError, match="for the key 1"):
        cache.concatenate([1, 2], axis=0, out=canvas)
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        cache.concatenate([1], axis=2, out=canvas)
    with pytest.raises(TypeError, match="expected a key"):
        cache.concatenate([1j], axis=1, out=canvas)
    with pytest.raises(ValueError, match="workers"):
        cache.concatenate([1, 2, 3], axis=1, out=canvas, workers=0)
    with pytest.raises(ValueError, match="timeout"):
        cache.concatenate([1, 2, 3], axis=1, out=canvas, timeout=-1)
    with pytest.raises(KeyError):
        nds.Cache("1 MiB").concatenate([1, 2, 3], axis=1, out=canvas)
    cache.concatenate([1, 2, 3], axis=1, out=canvas)
    assert (canvas.array[0] == [7, 7, 7, 14, 14, 14, 21, 21, 21]).all()
    floats = nds.Cache("1 MiB", lambda _: np.full((2, 3), 0.5))
    with pytest.raises(TypeError, match="Cannot cast"):
        floats.concatenate([1, 2, 3], axis=1, out=canvas)


def test_progress_tells_of_what_was_had() -> None:
    cache = nds.Cache("4 MiB", Loader())
    canvas = nds.Canvas((2, 12), np.uint8)
    seen: list[tuple[int, int]] = []
    tell = lambda done, total: seen.append((done, total))  # noqa: E731
    cache.concatenate(range(4), axis=1, out=canvas, progress=tell)
    assert seen[-1] == (4, 4)
    seen.clear()
    cache.concatenate(range(4), axis=1, out=canvas, progress=tell)
    assert seen == []
    del cache[1]
    cache.concatenate(range(4), axis=1, out=canvas, progress=tell)
    assert seen == [(1, 1)]


# ---- any sequence ---------------------------------------------------------------------------------------------------

KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keys"), st.lists(KEYS, min_size=4, max_size=4), st.integers(0, 1)),
        st.tuples(st.just("values"), st.lists(KEYS, min_size=4, max_size=4), st.integers(0, 1)),
        st.tuples(st.just("mixed"), st.lists(KEYS, min_size=4, max_size=4), st.integers(0, 1)),
        st.tuples(st.just("block"), st.lists(KEYS, min_size=4, max_size=4), st.just(0)),
        st.tuples(st.just("stack"), st.lists(KEYS, min_size=4, max_size=4), st.integers(0, 1)),
        st.tuples(st.just("copyto"), st.lists(KEYS, min_size=1, max_size=1), st.just(0)),
        st.tuples(st.just("numpy"), st.lists(KEYS, min_size=4, max_size=4), st.integers(0, 1)),
        st.tuples(st.just("store"), st.lists(KEYS, min_size=1, max_size=1), st.integers(0, 250)),
        st.tuples(st.just("drop"), st.lists(KEYS, min_size=1, max_size=1), st.integers(0, 250)),
        st.tuples(st.just("evict"), st.just([]), st.just(0)),
    ),
    max_size=25,
)
SIDE = 16  # every tile is as large as its four neighbours need, so that any axis fits


@given(STEPS)
def test_any_sequence_equals_numpys(steps: list[tuple[str, list[int], int]]) -> None:
    state = {key: key * 40 for key in range(6)}
    load = lambda key: np.full((SIDE, SIDE), state[key], np.uint8)  # noqa: E731
    cache = nds.Cache(5 << 10, load)
    canvases = {
        0: nds.Canvas((4 * SIDE, SIDE), np.uint8),
        1: nds.Canvas((SIDE, 4 * SIDE), np.uint8),
        "block": nds.Canvas((2 * SIDE, 2 * SIDE), np.uint8),
    }
    for what, keys, axis in steps:
        if what == "store":
            state[keys[0]] = axis
            cache[keys[0]] = load(keys[0])
        elif what == "drop":
            state[keys[0]] = axis
            cache.fetch(keys[0])
            del cache[keys[0]]
        elif what == "evict":
            cache.fetch_many([("junk", n) for n in range(8)], lambda _: np.zeros(1000, np.uint8))
        else:
            _fill(cache, canvases, what, keys, axis, state)


def _fill(  # noqa: PLR0917
    cache: nds.Cache, canvases: dict[Any, nds.Canvas], what: str, keys: list[int], axis: int, state: Any
) -> None:
    canvas = canvases["block" if what in {"block", "copyto"} else axis]
    arrays = [np.full((SIDE, SIDE), state[key], np.uint8) for key in keys]
    if what == "keys":
        cache.concatenate(keys, axis=axis, out=canvas)
    elif what == "values":
        nds.concatenate([cache[key] for key in keys], axis=axis, out=canvas)
    elif what == "mixed":
        nds.concatenate(
            [cache[key] if key % 2 else array for key, array in zip(keys, arrays, strict=True)], axis, canvas
        )
    elif what == "numpy":
        nds.concatenate([array.tolist() for array in arrays], axis=axis, out=canvas, casting="unsafe")
    elif what == "block":
        some = [cache[key] for key in keys]
        nds.block([some[:2], some[2:]], out=canvas)
        assert (canvas.array == np.block([arrays[:2], arrays[2:]])).all()
        return
    elif what == "stack":
        some = [cache[key][0] for key in keys for _ in range(SIDE)]
        plain = [array[0] for array in arrays for _ in range(SIDE)]
        if axis == 0:
            nds.stack(some, axis=0, out=canvas)
            assert (canvas.array == np.stack(plain)).all()
        return
    else:
        nds.copyto(canvas, cache[keys[0]][:1].repeat(2, axis=1))
        assert (canvas.array == state[keys[0]]).all()
        return
    assert (canvas.array == np.concatenate(arrays, axis=axis)).all()


def test_axes_in_turn_on_a_square() -> None:
    """Tiles of both axes begin at the same places."""
    load = Loader((6, 3))
    cache = nds.Cache("1 MiB", load)
    wide = nds.Cache("1 MiB", lambda key: load(key).T.copy())
    canvas = nds.Canvas((6, 6), np.uint8)
    rng = random.Random(4)
    for _ in range(60):
        keys = [rng.randrange(3) for _ in range(2)]
        if rng.random() < 0.5:
            cache.concatenate(keys, axis=1, out=canvas)
            assert (canvas.array == np.concatenate([cache[k] for k in keys], axis=1)).all()
        else:
            wide.concatenate(keys, axis=0, out=canvas)
            assert (canvas.array == np.concatenate([wide[k] for k in keys], axis=0)).all()


# ---- others ---------------------------------------------------------------------------------------------------------


def test_threads_share_a_canvas() -> None:
    cache = nds.Cache("4 MiB", lambda key: np.full((8, 64), key, np.uint8))
    canvas = nds.Canvas((8, 256), np.uint8)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(150):
            cache.concatenate([rng.randrange(20) for _ in range(4)], axis=1, out=canvas)
            with nds.locked(canvas.array):
                rows = canvas.array.reshape(8, 4, 64)
                if (rows != rows[:1, :, :1]).any():
                    wrong.append(canvas.array.copy())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    keys = [1, 2, 3, 4]
    cache.concatenate(keys, axis=1, out=canvas)
    assert (canvas.array[0, ::64] == keys).all()


def test_a_canvas_is_not_filled_under_ones_own_lock() -> None:
    canvas = nds.Canvas((2, 3), np.uint8)
    with nds.locked(canvas.array), pytest.raises(RuntimeError, match="lock"):
        nds.copyto(canvas, 1)
    nds.copyto(canvas, 1)
    assert canvas.array.all()


def test_the_timeout_of_a_montage_is_also_for_the_lock() -> None:
    cache = nds.Cache("4 MiB", Loader())
    canvas = nds.Canvas((2, 3), np.uint8)
    done = threading.Event()

    def hold() -> None:
        with nds.locked(canvas.array):
            held.set()
            done.wait(HANG)

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(HANG)
    try:
        with pytest.raises(nds.Timeout):
            cache.concatenate([1], out=canvas, timeout=0.01)
    finally:
        done.set()
        thread.join()
    cache.concatenate([1], out=canvas, timeout=HANG)
    assert (canvas.array == 7).all()


def test_a_viewer_never_sees_a_half(method: str) -> None:
    """Every filling puts one number everywhere; a viewer under the lock sees one number."""
    context = mp.get_context(method)
    cache = nds.Cache("16 MiB")
    canvas = nds.Canvas((64, 8 * 512), np.uint8)
    stop = nds.zeros(1, np.uint8)
    mine, theirs = context.Pipe()
    viewer = context.Process(target=workers.view, args=(canvas.array, stop, theirs), daemon=True)
    viewer.start()
    theirs.close()
    try:
        assert mine.poll(HANG)
        assert mine.recv() == "ready"
        for number in range(1, 200):
            for key in range(8):
                cache[key] = np.full((64, 512), number, np.uint8)
            cache.concatenate(range(8), axis=1, out=canvas)
        stop[0] = 1
        assert mine.poll(HANG)
        looks, halves = mine.recv()
        assert looks > 0
        assert halves == 0
    finally:
        viewer.kill()
        viewer.join(HANG)
        viewer.close()
        mine.close()


def test_a_forked_child_that_fills_it_is_noticed() -> None:
    _, values = cached(1, 2)
    canvas = nds.Canvas((2, 6), np.uint8)
    nds.concatenate(values, axis=1, out=canvas)
    child = FORK.Process(target=workers.fill_reversed, args=(canvas, values))
    child.start()
    child.join(HANG)
    assert child.exitcode == 0
    assert (canvas.array[0] == [2, 2, 2, 1, 1, 1]).all()
    nds.concatenate(values, axis=1, out=canvas)
    assert (canvas.array[0] == [1, 1, 1, 2, 2, 2]).all()
    child.close()


@pytest.mark.skipif(not _native.KILL_POINTS, reason="this build has no kill points")
def test_a_filler_that_is_killed_before_its_first_byte() -> None:
    """What it said of the tiles is gone, so the next one copies them all."""
    _, values = cached(1, 2, shape=(64, 1024))
    canvas = nds.Canvas((64, 2048), np.uint8)
    nds.concatenate(values, axis=1, out=canvas)
    child = FORK.Process(target=workers.fill_and_be_killed_at, args=("canvas:touched", canvas, values[::-1]))
    child.start()
    child.join(HANG)
    assert child.exitcode == -signal.SIGKILL
    child.close()
    nds.concatenate(values[::-1], axis=1, out=canvas)
    assert (canvas.array == np.concatenate(values[::-1], axis=1)).all()
    with nds.locked(canvas.array, timeout=HANG):
        pass


def test_a_filler_that_is_killed_in_the_middle() -> None:
    cache, values = cached(1, 2, shape=(64, 1024))
    canvas = nds.Canvas((64, 2048), np.uint8)
    nds.concatenate(values, axis=1, out=canvas)
    child = FORK.Process(target=workers.fill_and_be_killed, args=(canvas, values))
    child.start()
    child.join(HANG)
    child.close()
    with pytest.raises(nds.OwnerDied), nds.locked(canvas.array, timeout=HANG):
        pass
    nds.concatenate(values, axis=1, out=canvas)
    assert (canvas.array == np.concatenate(values, axis=1)).all()
    with nds.locked(canvas.array, timeout=HANG):
        pass
    assert wait_until(lambda: cache.info()["pinned"] == 2)


# ---- mosaics --------------------------------------------------------------------------------------------------------


def grid_of(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    return [[(row, column) for column in range(columns)] for row in range(rows)]


def shaded(key: tuple[int, int]) -> Array:
    """Return a tile whose extents depend on its place: rows of one height, columns of several widths."""
    row, column = key
    rng = np.random.default_rng(10 * row + column)
    return rng.integers(0, 255, (2 + row, 3 + (column + row) % 3, 2), np.uint8)


def test_a_mosaic_is_numpys_block() -> None:
    cache = nds.Cache("4 MiB", load=shaded)
    keys = grid_of(3, 3)
    # The channels last, where block takes the last axes: first, as its twin has them.
    expected = np.moveaxis(np.block([[np.moveaxis(shaded(key), -1, 0) for key in row] for row in keys]), 0, -1)
    made = cache.mosaic(keys)
    assert nds.is_shared(made)
    assert np.array_equal(made, expected)
    out, canvas = nds.zeros(expected.shape, np.uint16), nds.Canvas(expected.shape, np.uint8)
    cache.clear()
    told: list[tuple[int, int]] = []
    assert cache.mosaic(keys, out, workers=2, progress=lambda *now: told.append(now)) is out
    assert told[-1] == (9, 9)
    assert cache.mosaic(keys, out=canvas, timeout=HANG) is canvas
    as_objects = np.empty((3, 3), object)
    for row, column in np.ndindex(3, 3):
        as_objects[row, column] = (row, column)
    assert np.array_equal(cache.mosaic(as_objects), expected)
    for joined in (out, canvas.array):
        assert np.array_equal(joined, expected)
    assert cache.info()["loads"] == 18
    # Of arrays without channels it is block itself; other axes, too.
    flat = nds.Cache("1 MiB", load=lambda key: shaded(key)[..., 0])
    plain = np.block([[shaded(key)[..., 0] for key in row] for row in keys])
    assert np.array_equal(flat.mosaic(keys), plain)
    turned = nds.Cache("1 MiB", load=lambda key: shaded(key).T)
    assert np.array_equal(turned.mosaic(keys, axes=(2, 1)), expected.T)
    across = nds.Canvas(expected.T.shape, np.float32)
    assert np.array_equal(turned.mosaic(keys, out=across, axes=(-1, -2)).array, expected.T)


def test_a_mosaic_copies_what_changed() -> None:
    cache = nds.Cache("4 MiB", load=lambda key: np.full((2, 3), 10 * key[0] + key[1], np.uint8))
    keys = grid_of(2, 3)
    canvas = nds.Canvas((4, 9), np.uint8)
    expected = np.block([[np.full((2, 3), 10 * row + column, np.uint8) for row, column in line] for line in keys])
    cache.mosaic(keys, out=canvas)
    assert np.array_equal(canvas.array, expected)
    cache[1, 1] = np.full((2, 3), 77, np.uint8)
    expected[2:, 3:6] = 77
    behind(canvas)[:] = 200
    cache.mosaic(keys, out=canvas)
    now = canvas.array
    assert (now[2:, 3:6] == 77).all()
    assert (np.delete(now[2:], range(3, 6), 1) == 200).all()
    assert (now[:2] == 200).all()
    # What stands is not loaded, though it was evicted meanwhile; and a row that moves is copied.
    loads = cache.info()["loads"]
    cache.mosaic(keys, out=canvas)
    assert cache.info()["loads"] == loads
    cache.mosaic(keys[::-1], out=canvas)
    assert np.array_equal(canvas.array, np.concatenate((expected[2:], expected[:2])))


def test_a_mosaic_that_does_not_fit_says_which_key_is_where() -> None:
    shapes = {"a": (2, 3), "b": (2, 4), "c": (3, 3), "d": (2, 4, 1), "e": (2, 2)}
    cache = nds.Cache("4 MiB", load=lambda key: np.zeros(shapes[key], np.uint8))
    canvas = nds.Canvas((4, 7), np.uint8)
    for out in (None, canvas):
        for keys, where in (
            ([["a", "b"], ["a", "c"]], r"'c' in row 1, column 1"),
            ([["a", "d"], ["a", "b"]], r"'d' in row 0, column 1"),
            ([["a", "b"], ["a", "e"]], r"row 1"),
        ):
            with pytest.raises(ValueError, match=where):
                cache.mosaic(keys, out=out)
        with pytest.raises(ValueError, match="at least one key in each row"):
            cache.mosaic([["a"], []], out=out)
        with pytest.raises(TypeError, match=r"expected rows of keys, .*, got 'ab' as row 0"):
            cache.mosaic(["ab", "ab"], out=out)
        with pytest.raises(KeyError):
            cache.mosaic([["a", "nothing"]], out=out)
        with pytest.raises(ValueError, match="axis 2 is out of bounds"):
            cache.mosaic([["a", "b"]], out=out, axes=(0, 2))
        with pytest.raises(ValueError, match="expected axes that differ"):
            cache.mosaic([["a", "b"]], out=out, axes=(1, -1))
    with pytest.raises(ValueError, match="wrong shape"):
        cache.mosaic([["a", "b"]], out=canvas)
    assert not canvas.array.any()


def test_a_filler_of_a_mosaic_that_is_killed_in_the_middle() -> None:
    """The next one copies everything, and who reads under the lock is told."""
    cache = nds.Cache("1 MiB", load=lambda key: np.full((64, 256), 10 * key[0] + key[1], np.uint8))
    keys, canvas = grid_of(2, 4), nds.Canvas((128, 1024), np.uint8)
    cache.mosaic(keys, out=canvas)
    expected = canvas.array.copy()
    child = FORK.Process(target=workers.fill_and_be_killed, args=(canvas, [canvas.array.copy()]))
    child.start()
    child.join(HANG)
    assert child.exitcode == -signal.SIGKILL
    child.close()
    with pytest.raises(nds.OwnerDied), nds.locked(canvas.array, timeout=HANG):
        pass
    behind(canvas)[:] = 99
    cache.mosaic(keys, out=canvas)
    assert np.array_equal(canvas.array, expected)
    with nds.locked(canvas.array, timeout=HANG):
        pass


def test_a_mosaic_that_waits_names_what_is_missing() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(key: int) -> Array:
        if key == 3:
            begun.set()
            go_on.wait(HANG)
        return np.full((1, 2), key, np.uint8)

    cache = nds.Cache("1 MiB", load=load)
    try:
        with pytest.raises(nds.Timeout, match=r"missing are 3; wait longer"):
            cache.mosaic([[1, 2], [3, 4]], timeout=0.3, workers=4)
        assert begun.is_set()
    finally:
        go_on.set()
    assert cache.mosaic([[1, 2], [3, 4]], timeout=HANG).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
