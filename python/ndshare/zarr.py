"""zarr 3: the stored bytes of chunks in one cache for all processes.

zarr is imported when `cached` is first called, so this module needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import LoadError
from ._native import Cache
from ._ref import Ref, ref

_THREADS = 64  # zarr asks for no more at a time, unless its `async.concurrency` is changed: then some wait for others


def cached(store: Any, cache: Cache | Ref[Cache], name: str | None = None) -> Any:
    """Return a store of zarr's that keeps in `cache` what it reads of another store, as a `zarr.abc.store.Store`.

    A value is read once for all processes that have the cache. Decoders get it as it lies there: read-only, and not
    copied. `name` tells several stores in one cache apart, ``str(store)`` by default.

    What is written or deleted through such a store is forgotten by the cache; what others write to the store beneath is
    not seen before its key is evicted, or has grown old by the cache's `ttl`. Parts of a value, as of shards, come from
    the store beneath unless the whole is there. Pickled by any library, it takes a reference to the cache along.
    """
    opened = cache.open() if isinstance(cache, Ref) else cache
    return _class()(store, opened, str(store) if name is None else name)


class _MissingError(Exception):
    """The store has no such key."""


def _make_threads(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "ndshare zarr")


# The threads of a process that wait for others' loads; a forked child has none of its parent's.
_threads = lru_cache(1)(_make_threads)


class _Cached:
    """What `cached` adds to zarr's store that wraps another."""

    def __init__(self, store: Any, cache: Cache, name: str) -> None:
        self._store, self._cache, self._name = store, cache, name

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
            loop = asyncio.get_running_loop()
            try:
                value = await loop.run_in_executor(_threads(os.getpid()), self._load, key, prototype, loop)
            except _MissingError:
                return None
            except LoadError:
                # Another's; the store has an error of its own to tell, or none any more.
                return await self._store.get(key, prototype)
        whole = prototype.buffer.from_bytes(value)
        return whole if byte_range is None else _part(whole, byte_range)

    def _load(self, key: str, prototype: Any, loop: asyncio.AbstractEventLoop) -> NDArray[Any]:
        """Have the cache read a value; the store is asked in its own loop."""

        def read(_: object) -> NDArray[np.uint8]:
            found = asyncio.run_coroutine_threadsafe(self._store.get(key, prototype), loop).result()
            if found is None:
                raise _MissingError
            return found.as_numpy_array()

        return self._cache.fetch((self._name, key), read)

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
