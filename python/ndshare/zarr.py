# pyright: reportPrivateUsage=false
"""zarr 3: each chunk is read from its store once, for all processes that have the cache.

Open arrays with ``zarr.open_array(ndshare.zarr.cached(store, cache))`` in the place of ``zarr.open_array(store)``. The
cache is an `ndshare.Cache`, and keeps the bytes of chunks as they are stored: compressed ones stay so.
"""

# zarr is imported when `cached` is first called, so that this module can be imported without it.

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import _native
from ._cache import short
from ._errors import LoadError
from ._native import Cache
from ._ref import Ref, ref

__all__ = ["cached"]

_THREADS = 64  # zarr asks for no more at a time, unless its `async.concurrency` is changed: then some wait for others
# A thread that waits for a store looks so often (seconds) whether that can still answer.
_LOOK_EVERY = 0.1
# So long (seconds) the end of the process waits for loads that it called off.
_PATIENCE = 1.0


def cached(store: Any, cache: Cache | Ref[Cache], name: str | None = None) -> Any:
    """Return a store of zarr's that keeps in `cache` what it reads of another store, as a `zarr.abc.store.Store`.

    A value is read once for all processes that have the cache. Decoders get it as it lies there: read-only, and not
    copied. `name` tells several stores in one cache apart, ``str(store)`` by default, with the whole path of a folder.

    What is written or deleted through such a store is forgotten by the cache; what others write to the store beneath is
    not seen before its key is evicted, or has grown old by the cache's `ttl`. Parts of a value, as of shards, come from
    the store beneath unless the whole is there. Pickled by any library, it takes a reference to the cache along.

    Raises TypeError for what is no store or no cache, and ValueError for a store that is cached already.
    """
    if not isinstance(store, importlib.import_module("zarr.abc.store").Store):
        raise TypeError(f"expected a store of zarr's, as zarr.storage.LocalStore(folder), got {short(store)}")
    if any(isinstance(one, _Cached) for one in _layers(store)):
        raise ValueError(f"expected a store that no cache is in front of, got {short(store)}: one cache is enough")
    opened: Any = cache.open() if isinstance(cache, Ref) else cache
    if not isinstance(opened, Cache):
        raise TypeError(f'expected an ndshare.Cache, as nds.Cache("64 MiB"), got {short(opened)}')
    return _class()(store, opened, _name_of(store) if name is None else name)


def _layers(store: Any) -> Generator[Any, None, None]:
    """Go through a store and those that it wraps."""
    while store is not None:
        yield store
        store = getattr(store, "_store", None)


def _name_of(store: Any) -> str:
    """Return the text of a store, with the whole path where it has one: a relative one is another's elsewhere."""
    *_, last = _layers(store)
    path = getattr(last, "root", None) or getattr(last, "path", None)
    before, there, after = str(store).rpartition(path.as_posix()) if isinstance(path, Path) else ("", "", str(store))
    return before + Path(there).resolve().as_posix() + after if there else after


class _MissingError(Exception):
    """The store has no such key."""


class _CalledOffError(BaseException):
    """Nobody can answer, or wants to know, any more. It says nothing about the key, so whoever waits loads it."""


class _Load(threading.Thread):
    """A load in a thread of its own, which keeps no process from ending. `outcome` is what it comes to.

    The store is asked in its own loop. That may stop, or be closed, or the task that waits may be cancelled; then the
    load is called off.
    """

    def __init__(self, cache: Cache, key: tuple[str, str], ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        super().__init__(name="ndshare zarr", daemon=True)
        self._cache, self._key, self._ask, self._loop = cache, key, ask, asyncio.get_running_loop()
        self.outcome: Future[Any] = Future()
        self.outcome.set_running_or_notify_cancel()
        self.off = _native.Stop()

    def run(self) -> None:
        _loads.add(self)
        try:
            self.outcome.set_result(self._cache._fetch_unless(self._key, self._read, None, self.off))
        except BaseException as error:
            self.outcome.set_exception(error)
        finally:
            _loads.discard(self)

    def _read(self, _: object) -> Any:
        if self._is_off():
            raise _CalledOffError
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        while not wait([asked], _LOOK_EVERY).done:
            if self._is_off():
                if not self._loop.is_closed():
                    asked.cancel()
                raise _CalledOffError
        if asked.cancelled():
            raise _CalledOffError
        if (found := asked.result()) is None:
            raise _MissingError
        return found.as_numpy_array()

    def _is_off(self) -> bool:
        return self.off.is_set() or not self._loop.is_running()


_loads: set[_Load] = set()


def _call_off() -> None:
    """Before the interpreter ends: a thread that comes back into it afterwards would end the process badly."""
    loads = _loads.copy()
    for load in loads:
        load.off.set()
    end = time.monotonic() + _PATIENCE
    for load in loads:
        load.join(max(0.0, end - time.monotonic()))


atexit.register(_call_off)


class _Cached:
    """What `cached` adds to zarr's store that wraps another."""

    def __init__(self, store: Any, cache: Cache, name: str) -> None:
        self._store, self._cache, self._name = store, cache, name
        # Of this store alone: loads of one must not wait for those of another, which may wait for them.
        self._turns: weakref.WeakKeyDictionary[Any, asyncio.Semaphore] = weakref.WeakKeyDictionary()

    def _with_store(self, store: Any) -> Any:
        return type(self)(store, self._cache, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return cached, (self._store, ref(self._cache), self._name)

    def __repr__(self) -> str:
        return f"CachedStore({self._store!r}, {self._cache!r}, {self._name!r})"

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        value = self._cache.get((self._name, key))
        if byte_range is not None and value is None:
            return await self._store.get(key, prototype, byte_range)
        if value is None:
            try:
                value = await self._load(key, prototype)
            except _MissingError:
                return None
            except (LoadError, _CalledOffError):
                # Another's; the store has an error of its own to tell, or none any more.
                return await self._store.get(key, prototype)
        whole = prototype.buffer.from_bytes(value)
        return whole if byte_range is None else _part(whole, byte_range)

    async def _load(self, key: str, prototype: Any) -> Any:
        """Have the cache read a value."""
        turns = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_THREADS))
        async with turns:
            load = _Load(self._cache, (self._name, key), lambda: self._store.get(key, prototype))
            load.start()
            try:
                return await asyncio.wrap_future(load.outcome)
            finally:
                load.off.set()

    async def set(self, key: str, value: Any) -> None:
        with self._forgetting(key):
            await self._store.set(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Any]]) -> None:
        await asyncio.gather(*(self.set(key, value) for key, value in values))

    async def delete(self, key: str) -> None:
        with self._forgetting(key):
            await self._store.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        keys = [key async for key in self._store.list_prefix(prefix)]
        with self._forgetting(*keys):
            await self._store.delete_dir(prefix)

    async def clear(self) -> None:
        keys = [key async for key in self._store.list()]
        with self._forgetting(*keys):
            await self._store.clear()

    @contextlib.contextmanager
    def _forgetting(self, *keys: str) -> Generator[None, None, None]:
        """Make the cache forget values that were written, or half of them, and what was being loaded meanwhile."""
        try:
            yield
        finally:
            for key in keys:
                with contextlib.suppress(KeyError):
                    del self._cache[self._name, key]


def _make_class() -> Any:
    return type(
        "CachedStore", (_Cached, importlib.import_module("zarr.storage").WrapperStore), {"__module__": __name__}
    )


# The class, which needs zarr's.
_class = lru_cache(1)(_make_class)


def _part(whole: Any, byte_range: Any) -> Any:
    """Cut what one of zarr's byte ranges says: `start` and `end`, an `offset`, or a `suffix`."""
    length = len(whole)
    if hasattr(byte_range, "suffix"):
        return whole[max(0, length - byte_range.suffix) :]
    if hasattr(byte_range, "offset"):
        return whole[byte_range.offset :]
    return whole[byte_range.start : byte_range.end]
