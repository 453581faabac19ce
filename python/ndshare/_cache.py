# pyright: reportPrivateUsage=false
"""What Python adds to caches: how loaders run, many keys at a time, and how caches travel."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._errors import Timeout
from ._native import Arena, Cache, Canvas

Array = NDArray[Any]
Load = Callable[[Any], ArrayLike]
Progress = Callable[[int, int], object]


def run(load: Load, key: Any, arena: Arena | None) -> Array:
    """Return what a loader makes of a key, as an array. What NumPy allocates meanwhile is shared from the start."""
    with _native.allocating(arena=arena):
        return np.asarray(load(key))


def as_array(value: ArrayLike) -> Array:
    """Return a value that somebody stores, as an array."""
    return np.asarray(value)


# Many keys


class _Job:
    """Keys to be had by several threads, which the caller waits for."""

    def __init__(self, cache: Cache, load: Load | None, timeout: float | None) -> None:
        self._cache, self._load = cache, load
        self._end = _end(timeout)
        self._stop = _native.Stop()
        self._keys: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[Any, Array | BaseException]] = queue.SimpleQueue()

    def _have(self, key: Any) -> Array:
        return _native.fetch_unless(self._cache, key, self._load, _left(self._end), self._stop)

    def run(self, keys: list[Any], workers: int, tell: Callable[[Any, Array], None]) -> None:
        """Have all keys, and tell of each in the caller's thread."""
        if workers == 1:
            for key in keys:
                tell(key, self._have(key))
            return
        for key in keys:
            self._keys.put(key)
        threads = [threading.Thread(target=self._work, name=f"ndshare load {number}") for number in range(workers)]
        try:
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

    def _next(self) -> tuple[Any, Array]:
        try:
            key, outcome = self._outcomes.get(timeout=_left(self._end))
        except queue.Empty:
            raise Timeout("not all keys were loaded before the timeout: wait longer, or look at the loader") from None
        if isinstance(outcome, BaseException):
            raise outcome
        return key, outcome

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                key = self._keys.get_nowait()
            except queue.Empty:
                return
            try:
                self._outcomes.put((key, self._have(key)))
            except BaseException as error:
                self._outcomes.put((key, error))
                # Only the first counts.
                self._stop.set()


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def fetch_many(  # noqa: PLR0917
    cache: Cache,
    keys: Iterable[Any],
    load: Load | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> list[Array]:
    """Return the values of many keys; see `Cache.fetch_many`."""
    _check(workers, timeout)
    wanted = list(keys)
    values = _native.find_many(cache, wanted)
    missing: dict[Hashable, list[int]] = {}
    for place, value in enumerate(values):
        if value is None:
            missing.setdefault(wanted[place], []).append(place)
    done = len(wanted) - sum(map(len, missing.values()))
    if progress is not None and done:
        progress(done, len(wanted))

    def tell(key: Any, value: Array) -> None:
        nonlocal done
        for place in missing[key]:
            values[place] = value
        done += len(missing[key])
        if progress is not None:
            progress(done, len(wanted))

    if missing:
        _Job(cache, load, timeout).run(list(missing), min(len(missing), workers or _cpus()), tell)
    return cast("list[Array]", values)


def concatenate(  # noqa: PLR0917
    cache: Cache,
    keys: Iterable[Any],
    axis: int | None = 0,
    out: Any = None,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Any:
    """Join the values of keys; see `Cache.concatenate`."""
    _check(workers, timeout)
    end = _end(timeout)
    wanted = list(keys)
    if not isinstance(out, Canvas) or axis is None:
        values = fetch_many(cache, wanted, None, workers, timeout, progress)
        return _native.concatenate(values, axis, out, workers=workers)
    montage = _native.Montage(out, cache, wanted, axis)
    while numbers := montage.paint(workers, _left(end)):
        some = [wanted[number] for number in numbers]
        montage.give(numbers, fetch_many(cache, some, None, workers, _left(end), progress))
    return out


def _end(timeout: float | None) -> float | None:
    """Return when a timeout ends; what no clock holds is for ever."""
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else time.monotonic() + timeout


def _left(end: float | None) -> float | None:
    """Return how many seconds are left until then."""
    return None if end is None else max(0.0, end - time.monotonic())


def _check(workers: int | None, timeout: float | None) -> None:
    if workers is not None and workers < 1:
        raise ValueError(f"expected workers to be at least 1, got {workers}; leave it out for one for each CPU")
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"expected a timeout in seconds, 0 or more, or None, got {timeout}")


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


# How caches travel


def _reduce_cache(cache: Cache) -> tuple[Any, ...]:
    return _native.open_cache, _native.cache_parts(cache)


def register() -> None:
    """Make multiprocessing send caches this way."""
    ForkingPickler.register(Cache, _reduce_cache)
