# pyright: reportPrivateUsage=false
"""What Python adds to caches and canvases: how loaders run, many keys at a time, and how caches travel."""

from __future__ import annotations

import enum
import os
import queue
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _items, _native
from ._errors import Timeout
from ._generic import shown_in_notebooks, subscriptable
from ._native import Arena, Cache, Canvas
from ._waiting import LOOK_EVERY, slices

Array = np.ndarray[Any, np.dtype[Any]]
Load = Callable[[Any], ArrayLike]
Progress = Callable[[int, int], object] | bool | None


def run(load: Load, key: Any, arena: Arena | None) -> Array:
    """Return what a loader makes of a key, as an array. What NumPy allocates meanwhile is shared from the start."""
    with _native.allocating(arena=arena):
        return _array_of(load(key), lambda: f"load({short(key)}) to return")


def _array_of(value: Any, what: Callable[[], str]) -> Array:
    """Return a value as an array; `what` begins the error for one that cannot be."""
    if isinstance(value, np.ndarray):
        found = _items.beside(cast("Array", value))
        if found is not None:
            raise TypeError(f"expected {what()} an array that its items say all of, got {found}")
    try:
        array: Array = np.asarray(cast("Any", value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected {what()} an array of plain bytes, got {short(value)}: {error}") from error
    if array.dtype.hasobject:
        got = f"an array of {array.dtype!r}" if isinstance(value, np.ndarray) else short(value)
        hint = "raise an exception where there is no value" if value is None else "processes cannot share objects"
        raise TypeError(f"expected {what()} an array of plain bytes, got {got}: {hint}")
    return array


def short(value: Any) -> str:
    """Return the repr of an object, of bounded length, whatever the object does."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= _REPR else f"{text[: _REPR - 3]}..."


_REPR = 100
# How many keys an error names.
_TOLD = 3


# Keys that are known by a name


_POSIX_PATH, _WINDOWS_PATH, _ENUM, _UUID = map(ord, "pweu")


def key_parts(key: Any) -> tuple[int, Any] | None:
    """Return which kind of key an object is, and what names it; None for what is none."""
    if isinstance(key, enum.Enum):
        cls = type(key)
        if "<locals>" in cls.__qualname__:
            raise TypeError(f"expected a key that other processes can name, got {key!r}: move its class to a module")
        module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
        return _ENUM, (module, cls.__qualname__, cast("str | None", key.name) or key.value)
    # Which would be a tenth of importing ndshare.
    import pathlib
    import uuid

    if isinstance(key, uuid.UUID):
        return _UUID, key.bytes
    if isinstance(key, pathlib.PurePosixPath):
        return _POSIX_PATH, str(key)
    if isinstance(key, pathlib.PureWindowsPath):
        # Two that differ in case are equal.
        text = str(key).lower()
        if pathlib.PureWindowsPath(text) != key:
            raise TypeError(
                f"expected a key that is the same when it is read from its text, got {key!r}: pass the text"
            )
        return _WINDOWS_PATH, text
    return None


def key_of(kind: int, parts: Any) -> Any:
    """Return the key of such parts. They come from shared memory: nothing is imported and no code of theirs runs."""
    import pathlib
    import uuid

    if kind == _UUID:
        return uuid.UUID(bytes=parts)
    if kind == _POSIX_PATH:
        return pathlib.PurePosixPath(parts) if os.name == "nt" else pathlib.Path(parts)
    if kind == _WINDOWS_PATH:
        return pathlib.PureWindowsPath(parts)
    return _enum_member(parts)


def _enum_member(parts: Any) -> enum.Enum:
    module, path, name = parts
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    if not (isinstance(found, type) and issubclass(found, enum.Enum)):
        raise ValueError(
            f"expected the enum {path} of {module}, a key of this cache, to be there: import {module} first"
        )
    if isinstance(name, str) and name in found.__members__:
        return found.__members__[name]
    if isinstance(name, str) and issubclass(found, enum.Flag):
        whole = found(0)
        for part in name.split("|"):
            # Bits that no member has are in the name as a number.
            whole |= found(int(part, 0)) if part[:1].isdecimal() else found[part]
        return whole
    return found(name)


# Keys of files


def file_key(path: str | os.PathLike[str], *more: Any) -> tuple[Any, ...]:
    """Return a key for what a file has now: another one when the file is written, replaced or touched.

    It is (path, mtime_ns, size, inode, *more): the path as text, absolute but with symbolic links as they are, and the
    facts of the file that it leads to. `more` is what else tells values apart, as a page or a scale. The loader gets
    the key, and reads ``key[0]``. A file that changes keeps its old value under its old key, which nobody asks for any
    more, and which goes by its turn.

    One look at the file system, some microseconds. A file that is written a second time within one tick of its file
    system's clock (1 to 10 ms) and stays as long, in place, has the same key: there is nothing to tell it by.

    Raises FileNotFoundError where there is no file, and whatever else `os.stat` raises.

    >>> import ndshare as nds, numpy as np, pathlib, tempfile
    >>> cache = nds.Cache("64 MiB", load=lambda key: np.load(key[0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "a.npy"
    ...     np.save(path, np.arange(3))
    ...     before = cache[nds.file_key(path)]
    ...     np.save(path, np.arange(4))
    ...     before, cache[nds.file_key(path)], cache.info()["loads"]
    (array([0, 1, 2]), array([0, 1, 2, 3]), 2)
    """
    facts = os.stat(path)
    text: str = os.path.abspath(os.fspath(path))
    return (text, facts.st_mtime_ns, facts.st_size, facts.st_ino, *more)


file_key.__module__ = "ndshare"

subscriptable(Cache, Canvas)
shown_in_notebooks(Cache, Arena)


# Many keys


class _Job:
    """Keys to be had by several threads, which the caller waits for."""

    def __init__(self, cache: Cache, load: Load | None, timeout: float | None) -> None:
        self._cache, self._load = cache, load
        self._end = _end(timeout)
        self._stop = _native.Stop()
        self._keys: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._missing: dict[bytes, Any] = {}
        self._outcomes: queue.SimpleQueue[tuple[bytes, Array | BaseException]] = queue.SimpleQueue()

    def _have(self, key: Any) -> Array:
        return self._cache._fetch_unless(key, self._load, _left(self._end), self._stop)

    def run(self, keys: dict[bytes, Any], workers: int, tell: Callable[[bytes, Array], None]) -> None:
        """Have all keys, which have names, and tell of each in the caller's thread."""
        if workers == 1:
            for name, key in keys.items():
                tell(name, self._have(key))
            return
        self._missing = dict(keys)
        for item in keys.items():
            self._keys.put(item)
        threads = [threading.Thread(target=self._work, name=f"ndshare load {number}") for number in range(workers)]
        try:
            with _uninterrupted():
                for thread in threads:
                    thread.start()
            for _ in keys:
                tell(*self._next())
        except Timeout:
            # A loader that is running cannot be ended. What it makes goes into the cache.
            raise
        except Exception:
            self._stop.set()
            _join(threads)
            raise
        finally:
            self._stop.set()
        _join(threads)

    def _next(self) -> tuple[bytes, Array]:
        for seconds in slices(_left(self._end)):
            with suppress(queue.Empty):
                name, outcome = self._outcomes.get(timeout=seconds)
                if isinstance(outcome, BaseException):
                    raise outcome
                del self._missing[name]
                return name, outcome
        shown = ", ".join(short(key) for key in islice(self._missing.values(), _TOLD))
        more = f" and {len(self._missing) - _TOLD} more" if len(self._missing) > _TOLD else ""
        raise Timeout(
            f"not all keys were loaded before the timeout, which process {os.getpid()} loads or waits for: missing are "
            f"{shown}{more}; wait longer, or look at the loader"
        )

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                name, key = self._keys.get_nowait()
            except queue.Empty:
                return
            try:
                self._outcomes.put((name, self._have(key)))
            except BaseException as error:
                self._outcomes.put((name, error))
                # Only the first counts.
                self._stop.set()


@contextmanager
def _uninterrupted() -> Generator[None, None, None]:
    """Put Ctrl-C off until the end of the block.

    Python does not start threads safely: a Ctrl-C in the midst may leave a lock taken that the new thread needs, which
    then never runs, and the program never ends.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(signal.getsignal(signal.SIGINT)):
        yield
        return
    caught: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        signal.raise_signal(signal.SIGINT)


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(LOOK_EVERY)


def fetch_many(  # noqa: PLR0917
    self: Cache,
    keys: Iterable[Any],
    load: Load | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress = None,
) -> list[Array]:
    """Return the values of many keys, as a list in their order. What is missing is loaded by several threads.

    `workers` is the number of threads, by default that of the CPUs. `progress(done, total)` is called in this thread
    after each value; True shows a bar where stderr is a terminal or in a notebook. `timeout` is for all together.
    Raises what `fetch` raises; then no further load begins.

    >>> import ndshare as nds, numpy as np
    >>> cache = nds.Cache("64 MiB", load=np.arange)
    >>> [len(a) for a in cache.fetch_many([3, 1, 2])]
    [3, 1, 2]
    """
    _check(workers, timeout, progress)
    if progress is True:
        with _bar() as tell_bar:
            return fetch_many(self, keys, load, workers, timeout, tell_bar)
    wanted = list(keys)
    values = self._find_many(wanted)
    # By name: not every key has a hash.
    missing: dict[bytes, list[int]] = {}
    for place, value in enumerate(values):
        if value is None:
            missing.setdefault(_native.key_bytes(wanted[place]), []).append(place)
    done = len(wanted) - sum(map(len, missing.values()))
    show = None if progress is False else progress
    if show is not None and done:
        show(done, len(wanted))

    def tell(name: bytes, value: Array) -> None:
        nonlocal done
        for place in missing[name]:
            values[place] = value
        done += len(missing[name])
        if show is not None:
            show(done, len(wanted))

    if missing:
        keys = {name: wanted[places[0]] for name, places in missing.items()}
        _Job(self, load, timeout).run(keys, min(len(missing), workers or _cpus()), tell)
    return cast("list[Array]", values)


def concatenate(
    self: Cache,
    keys: Iterable[Any],
    axis: int | None = 0,
    out: Any = None,
    *,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress = None,
) -> Any:
    """Join the values of keys along an axis; NumPy's `concatenate` otherwise. Several threads load what is missing.

    Where `out` is a `Canvas`, a value that stands at its place already is neither loaded nor copied, until somebody
    stores or deletes its key. The result is `out`; without it, a new shared array. `workers`, `timeout` and `progress`
    are those of `fetch_many`, and `workers` threads copy. Raises what both raise.

    >>> import ndshare as nds, numpy as np
    >>> cache = nds.Cache("64 MiB", load=lambda key: np.full((2, 2), key, np.uint8))
    >>> canvas = nds.Canvas((2, 6), np.uint8)
    >>> cache.concatenate([1, 2, 3], axis=1, out=canvas).array[0]
    array([1, 1, 2, 2, 3, 3], dtype=uint8)
    """
    _check(workers, timeout, progress)
    if progress is True:
        with _bar() as tell_bar:
            return concatenate(self, keys, axis, out, workers=workers, timeout=timeout, progress=tell_bar)
    end = _end(timeout)
    wanted = list(keys)
    if not isinstance(out, Canvas) or axis is None:
        values = fetch_many(self, wanted, None, workers, timeout, progress)
        return _native.concatenate(values, axis, cast("Any", out), workers=workers)
    canvas = cast("Canvas", out)
    return _painted(self, canvas, _native.Montage(canvas, self, wanted, axis), wanted, (workers, end, progress))


def _painted(
    cache: Cache, canvas: Canvas, montage: _native.Montage, wanted: list[Any], how: tuple[Any, float | None, Progress]
) -> Canvas:
    """Have what the canvas lacks loaded, and copied."""
    workers, end, progress = how
    while numbers := montage.paint(workers, _left(end)):
        some = [wanted[number] for number in numbers]
        montage.give(numbers, fetch_many(cache, some, None, workers, _left(end), progress))
    return canvas


def mosaic(
    self: Cache,
    keys: Iterable[Iterable[Any]],
    out: Any = None,
    *,
    axes: tuple[int, int] = (0, 1),
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress = None,
) -> Any:
    """Join the values of keys in a grid: rows of keys, as NumPy's `block` has rows of arrays. Loads what is missing.

    `keys` are rows: lists in a list, or an array of keys with two axes. The values of a row stand side by side along
    ``axes[1]``, and are equally long along ``axes[0]``, along which the rows follow each other. So images with
    channels, (rows, columns, channels), need nothing more. `out`, `workers`, `timeout` and `progress` are those of
    `concatenate`: on a `Canvas` a value that stands at its place is neither loaded nor copied.

    Raises ValueError, with the key, its row and its column, for a value that does not fit the others, and for a row
    without keys; else what `concatenate` raises.

    >>> import ndshare as nds, numpy as np
    >>> cache = nds.Cache("64 MiB", load=lambda key: np.full((2, 2, 3), 10 * key[0] + key[1], np.uint8))
    >>> canvas = nds.Canvas((4, 6, 3), np.uint8)
    >>> cache.mosaic([[(row, column) for column in range(3)] for row in range(2)], out=canvas).array[::2, ::2, 0]
    array([[ 0,  1,  2],
           [10, 11, 12]], dtype=uint8)
    """
    _check(workers, timeout, progress)
    if progress is True:
        with _bar() as tell_bar:
            return mosaic(self, keys, out, axes=axes, workers=workers, timeout=timeout, progress=tell_bar)
    end = _end(timeout)
    rows = _rows(keys)
    wanted = [key for row in rows for key in row]
    down, along = axes
    if isinstance(out, Canvas):
        canvas = cast("Canvas", out)
        montage = _native.Montage(canvas, self, wanted, along, down, [len(row) for row in rows])
        return _painted(self, canvas, montage, wanted, (workers, end, progress))
    values = iter(fetch_many(self, wanted, None, workers, timeout, progress))
    grid = [[next(values) for _ in row] for row in rows]
    _check_grid(rows, grid, (down, along))
    return _native.block(grid, axes=(down, along), out=out, workers=workers)


def _rows(keys: Iterable[Iterable[Any]]) -> list[list[Any]]:
    """Return rows of keys. A row that is itself a key would be taken apart into characters or items in silence."""
    rows: list[list[Any]] = []
    for number, row in enumerate(keys):
        given: Any = row
        if not isinstance(given, list | np.ndarray | range) or getattr(cast("Any", given), "ndim", 1) != 1:
            raise TypeError(
                f"expected rows of keys, each a list, as in [[a, b], [c, d]], got {short(row)} as row {number}: a row "
                "of one key is a list, too"
            )
        rows.append(list(row))
    if not all(rows) or not rows:
        raise ValueError(f"expected at least one key in each row, got rows of {[len(row) for row in rows]} keys")
    return rows


def _check_grid(rows: list[list[Any]], grid: list[list[Array]], axes: tuple[int, int]) -> None:
    """Raise ValueError for values that do not fit, with the key."""
    first = grid[0][0]
    for axis in axes:
        if not -first.ndim <= axis < first.ndim:
            raise ValueError(f"axis {axis} is out of bounds for array of dimension {first.ndim}")
    down, along = (axis % first.ndim for axis in axes)
    if down == along:
        raise ValueError(f"expected axes that differ, got {axes}")
    free = {down, along}
    for number, (keys, values) in enumerate(zip(rows, grid, strict=True)):
        for column, (key, value) in enumerate(zip(keys, values, strict=True)):
            height = values[0].shape[down] if values[0].ndim == first.ndim else None
            fits = value.ndim == first.ndim and value.shape[down] == height
            if not fits or any(value.shape[at] != first.shape[at] for at in range(first.ndim) if at not in free):
                raise ValueError(
                    f"expected values that fit each other: {first.ndim} axes, as in {first.shape}, the same but along "
                    f"axes {down} and {along}, and equally long along axis {down} in a row, got {value.shape} for the "
                    f"key {short(key)} in row {number}, column {column}"
                )
        width = sum(value.shape[along] for value in values)
        if width != (wanted := sum(value.shape[along] for value in grid[0])):
            raise ValueError(
                f"expected rows that are equally long, got {wanted} items along axis {along} in row 0, and {width} in "
                f"row {number}, which begins with the key {short(keys[0])}"
            )


def _end(timeout: float | None) -> float | None:
    """Return when a timeout ends; what no clock holds is for ever."""
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else time.monotonic() + timeout


def _left(end: float | None) -> float | None:
    """Return how many seconds are left until then."""
    return None if end is None else max(0.0, end - time.monotonic())


def _bar() -> AbstractContextManager[Callable[[int, int], None]]:
    # Few programs show one, and what draws it takes longer to import than this package.
    from ._progress import shown

    return shown("values")


def _check(workers: int | None, timeout: float | None, progress: Progress) -> None:
    if workers is not None and workers < 1:
        raise ValueError(f"expected workers to be at least 1, got {workers}; leave it out for one for each CPU")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"expected progress to be True, or a function of (done, total), got {short(progress)}")


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


# What of a cache is written in Python


def _setitem(self: Cache, key: Any, value: ArrayLike, /) -> None:
    """Make an array the value of a key."""
    self._store(key, _array_of(value, lambda: f"the value of {short(key)} to be"))


def _iter(self: Cache) -> Iterator[Any]:
    """Go through the keys that have values now, in no order."""
    return iter(self._keys(key_of))


def _as_array(self: Canvas, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
    """Return `array` to NumPy: as it is, without a lock, or as a copy where that is asked."""
    return np.array(self.array, dtype=dtype, copy=cast("Any", copy))


def _add_method(name: str, method: types.FunctionType, cls: type = Cache) -> None:
    method.__name__, method.__qualname__, method.__module__ = name, f"{cls.__name__}.{name}", "ndshare"
    setattr(cls, name, method)


for _name, _method in {
    "fetch_many": fetch_many,
    "concatenate": concatenate,
    "mosaic": mosaic,
    "__setitem__": _setitem,
    "__iter__": _iter,
}.items():
    _add_method(_name, cast("types.FunctionType", _method))
_add_method("__array__", cast("types.FunctionType", _as_array), Canvas)


# How caches travel


def _reduce_cache(cache: Cache) -> tuple[Any, ...]:
    return _native.open_cache, cache._parts()


def register() -> None:
    """Make multiprocessing send caches this way."""
    ForkingPickler.register(Cache, _reduce_cache)
