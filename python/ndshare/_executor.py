# pyright: reportPrivateUsage=false
"""concurrent.futures' process pool, with arrays by reference in and out.

Out: the worker runs each call inside `allocating`, so arrays that it makes are born shared, and multiprocessing's
pickler sends shared arrays by reference.

In: a call is pickled here, by a pickler of its own, when the pool gets round to sending it. Large ordinary arrays are
put into shared memory then, wherever in the arguments they are. They need no reference in flight: the executor keeps
the call until its result is there, and the call keeps its arrays. So nothing is left behind when a worker dies.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _dtypes, _native
from ._errors import Error
from ._travel import _open_array

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """concurrent.futures' ProcessPoolExecutor, whose calls take and return arrays by reference.

    Arguments and attributes are those of concurrent.futures, and `min_bytes`. Arrays in the arguments that have at
    least so many bytes are put into shared memory when the call is sent, unless they are shared already: then the
    worker gets the array itself, not a snapshot. The worker runs each call inside `allocating(min_bytes)`, so arrays
    of that size that it makes come back by reference. They are plain ndarrays on both sides.

    Raises what concurrent.futures raises, and ValueError or TypeError for a wrong `min_bytes`.

    >>> import ndshare as nds, numpy as np
    >>> with nds.ProcessPoolExecutor(1) as pool:
    ...     x = pool.submit(np.add, np.ones(10_000), 1).result()
    >>> nds.is_shared(x), x[-1]
    (True, np.float64(2.0))
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        min_bytes: int = 4096,
    ) -> None:
        self._min_bytes = _native.allocating(min_bytes).min_bytes
        super().__init__(max_workers, mp_context, initializer, initargs, max_tasks_per_child=max_tasks_per_child)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Let a worker call ``fn(*args, **kwargs)``; return a Future of the result, as concurrent.futures does."""
        return cast("Future[_T]", super().submit(_run, _Call((fn, args, kwargs), self._min_bytes)))


class _Call:
    """What to call, on its way to a worker: here the objects, there their pickle until it runs."""

    def __init__(self, parts: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]], min_bytes: int) -> None:
        self._parts = parts
        self._min_bytes = min_bytes
        self._kept: list[_native.Hold] = []

    def __reduce__(self) -> tuple[Any, ...]:
        lender = _Lender(self._min_bytes)
        pickled = lender.pickle(self._parts)
        self._kept = lender.kept
        return _Received, (pickled, self._min_bytes)


class _Received:
    """A call in the worker. It is unpickled when it runs, so that what goes wrong there is the call's own error."""

    def __init__(self, pickled: bytes, min_bytes: int) -> None:
        self._pickled = pickled
        self._min_bytes = min_bytes

    def __call__(self) -> Any:
        with _native.allocating(self._min_bytes):
            function, args, kwargs = pickle.loads(self._pickled)
            return function(*args, **kwargs)


def _run(call: Any) -> Any:
    return call()


class _Lender:
    """How a call's arrays are pickled. It is no part of the pickler, so that no cycle keeps what it keeps."""

    def __init__(self, min_bytes: int) -> None:
        self.kept: list[_native.Hold] = []
        self._min_bytes = min_bytes

    def pickle(self, thing: object) -> bytes:
        """Pickle as multiprocessing does, but for the arrays."""
        file = io.BytesIO()
        pickler = ForkingPickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table[np.ndarray] = self._lend
        pickler.dump(thing)
        return file.getvalue()

    def _lend(self, array: NDArray[Any]) -> Any:
        dtype = array.dtype
        if dtype.hasobject:
            return _native.reduce(array)
        text = _dtypes.to_whole_text(dtype)
        lent = _native.handle(array, text or "") or self._copy(array, text or "")
        if lent is None:
            return _native.reduce(array)
        token, hold = lent
        self.kept.append(hold)
        return _open_array, (token,) if text is not None else (token, dtype)

    def _copy(self, array: NDArray[Any], text: str) -> tuple[bytes, _native.Hold] | None:
        """Put an ordinary array into shared memory, if it is worth it and there is room."""
        if array.nbytes < self._min_bytes or _native.is_shared_at(array.__array_interface__["data"][0], 1):
            return None
        with contextlib.suppress(Error, TypeError):
            return _native.handle(_arrays.array(array), text)
        return None


ProcessPoolExecutor.__module__ = "ndshare"
