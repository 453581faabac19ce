# pyright: reportPrivateUsage=false
"""concurrent.futures' process pool, with arrays by reference in and out.

Out: the worker runs each call inside `allocating`, so arrays that it makes are born shared, and multiprocessing's
pickler sends shared arrays by reference.

In: a call is pickled here, by a pickler of its own, when the pool gets round to sending it. Large ordinary arrays are
put into shared memory then, wherever in the arguments they are. They need no reference in flight: the executor keeps
the call until its result is there, and the call keeps its arrays. So nothing is left behind when a worker dies.

Worker and pool end together: a worker's death breaks the pool, as in concurrent.futures; and a worker watches the
process that has the pool, because the pipes between them stay open as long as any fork of that process lives.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import io
import itertools
import multiprocessing
import os
import pickle
import struct
import termios
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from multiprocessing import connection, queues
from multiprocessing.context import BaseContext
from multiprocessing.process import parent_process
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _native
from ._errors import Error
from ._travel import _open_array
from ._waiting import slices

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Calls of a `map` for each worker that are submitted and not taken: one at hand, and one to go on with.
_AHEAD = 2
# What has all its items already, so that a `map` over it may take them all at once.
_CONTAINERS = (list, tuple, range, set, frozenset, dict, deque, str, bytes, np.ndarray)


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """concurrent.futures' ProcessPoolExecutor, whose calls take and return arrays by reference.

    Arguments and attributes are those of concurrent.futures, and `min_bytes`; `map` works on streams. Arrays in the
    arguments that have at least so many bytes are put into shared memory when the call is sent, unless they are shared
    already: then the worker gets the array itself, not a snapshot. The worker runs each call inside
    `allocating(min_bytes)`, so arrays of that size that it makes come back by reference. They are plain ndarrays on
    both sides.

    Workers end when this process does, in whatever way. Where the system has no POSIX semaphores (a /dev/shm that is
    missing or read-only), the pool's queues do without.

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
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        begin = functools.partial(
            super().__init__,
            max_workers,
            initializer=_begin_worker,
            initargs=(initializer, initargs),
            max_tasks_per_child=max_tasks_per_child,
        )
        try:
            begin(mp_context)
        except OSError:
            # What was missing is missing again, unless it was a semaphore.
            context = mp_context or multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
            begin(cast("BaseContext", _WithoutSemaphores(context)))

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Let a worker call ``fn(*args, **kwargs)``; return a Future of the result, as concurrent.futures does.

        >>> import ndshare as nds
        >>> with nds.ProcessPoolExecutor(1) as pool:
        ...     pool.submit(abs, -3).result()
        3
        """
        future = cast("Future[_T]", super().submit(_run, _Call((fn, args, kwargs), self._min_bytes)))
        # Nobody has it yet who could cancel it.
        future.__class__ = _Future
        return future

    def map(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | Literal["auto"] | None = "auto",
    ) -> Iterator[_T]:
        """Return an iterator over ``fn(*args)`` for each args of ``zip(*iterables)``, in order; workers call `fn`.

        `buffersize` is how many calls (of `chunksize` items each) are submitted at most whose results were not taken,
        as in Python 3.14: the next item is taken from the iterables when a result is asked for. None submits all at
        once, as does ``"auto"`` for lists, arrays and other containers, which have all their items already. For
        anything else, such as a generator or a `Reader`, ``"auto"`` is twice the number of workers: each has one call
        at hand and one to go on with, and a stream is worked on while it runs.

        Closing the iterator cancels what has not begun. An error of the iterables is raised after the results of what
        came before it. Raises TimeoutError when a result is not there `timeout` seconds from now, what `fn` raises, and
        RuntimeError when calls are left to be submitted after the pool's shutdown.

        >>> import ndshare as nds
        >>> with nds.ProcessPoolExecutor(1) as pool:
        ...     sum(pool.map(abs, (-n for n in range(100))))
        4950
        """
        if chunksize < 1:
            raise ValueError(f"expected a chunksize of 1 or more, got {chunksize}")
        chunks = _chunks(zip(*iterables), chunksize)  # noqa: B905  (as map does, it ends with the shortest)
        submit: Any = functools.partial(cast("Any", self).submit, _call_each, fn)
        return _Results(submit, chunks, self._bound(buffersize, iterables), timeout, is_own=buffersize == "auto")

    def _bound(self, buffersize: object, iterables: tuple[Iterable[Any], ...]) -> int | None:
        if buffersize == "auto":
            is_there = all(isinstance(each, _CONTAINERS) for each in iterables)
            return None if is_there else _AHEAD * int(cast("Any", self)._max_workers)
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError(f"buffersize must be an integer or None, or 'auto', got {buffersize!r}")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be None or > 0, got {buffersize}")
        return buffersize


class _Future(Future[_T]):
    """A future that may be cancelled while its pool breaks.

    The thread that tells all calls of a broken pool ends, in Python 3.11, at the first that was cancelled meanwhile:
    the rest would never be told, and workers would go on for ever.
    """

    def set_exception(self, exception: BaseException | None) -> None:
        try:
            super().set_exception(exception)
        except InvalidStateError:
            if not self.cancelled():
                raise
            # Who waits for it is told that it is over.
            self.set_running_or_notify_cancel()


# Maps


class _Results(Iterator[_T], Generic[_T]):
    """The results of a map, in order. Asking for one submits what there is room for."""

    def __init__(
        self,
        submit: Callable[[Any], Future[list[_T]]],
        chunks: Iterator[Any],
        bound: int | None,
        timeout: float | None,
        *,
        is_own: bool,
    ) -> None:
        self._is_open = True
        self._was_asked = False
        self._is_own = is_own and bound is not None
        self._submit, self._bound = submit, bound
        self._chunks: Iterator[Any] | None = chunks
        self._end_time = None if timeout is None else time.monotonic() + timeout
        self._futures: deque[Future[list[_T]]] = deque()
        self._at_hand: list[_T] = []  # the last comes first
        self._error: BaseException | None = None
        self._fill()

    def __next__(self) -> _T:
        self._was_asked = True
        while not self._at_hand:
            self._fill()
            if not self._futures:
                self._end()
            self._at_hand = self._next_chunk()
            self._at_hand.reverse()
        return self._at_hand.pop()

    def close(self) -> None:
        """Cancel what has not begun, and end."""
        self._is_open, self._chunks, self._error = False, None, None
        self._at_hand.clear()
        while self._futures:
            self._futures.pop().cancel()

    def __del__(self) -> None:
        if not getattr(self, "_is_open", False):
            return
        if self._was_asked:
            self.close()
        elif self._chunks is not None and self._is_own:
            warnings.warn(
                "expected the results of a map over an iterator to be taken, got none of them taken: the rest of the "
                "iterator is not worked on; take the results, or give buffersize=None",
                RuntimeWarning,
                stacklevel=2,
            )

    def _fill(self) -> None:
        """Submit calls until there are as many as may be; those of a stream until a result is there, but one."""
        is_first = True
        while self._chunks is not None and (self._bound is None or len(self._futures) < self._bound):
            if self._is_own and not is_first and self._futures[0].done():
                return
            is_first = False
            self._submit_one()

    def _submit_one(self) -> None:
        assert self._chunks is not None
        try:
            self._futures.append(self._submit(next(self._chunks)))
        except StopIteration:
            self._chunks = None
        except BaseException as error:
            if not self._futures or not isinstance(error, Exception):
                self.close()
                raise
            # It has its place behind the results of what came before it.
            self._chunks, self._error = None, error

    def _next_chunk(self) -> list[_T]:
        future = self._futures.popleft()
        try:
            return _result(future, None if self._end_time is None else self._end_time - time.monotonic())
        except BaseException:
            self.close()
            raise
        finally:
            future.cancel()
            # The traceback of an error refers to this frame.
            del future

    def _end(self) -> None:
        error = self._error
        self.close()
        try:
            raise StopIteration if error is None else error
        finally:
            del error


def _result(future: Future[_T], timeout: float | None) -> _T:
    for seconds in slices(timeout):
        # Also what the call raised may be one.
        with contextlib.suppress(TimeoutError):
            return future.result(seconds)
        if future.done():
            break
    return future.result(0)


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[tuple[Any, ...], ...]]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk
        del chunk


def _call_each(fn: Callable[..., _T], chunk: tuple[tuple[Any, ...], ...]) -> list[_T]:
    return [fn(*args) for args in chunk]


# Workers


def _begin_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Run before a worker's first call: it ends with its pool's process; then what the user wants."""
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        try:
            _native.end_with(parent.pid, parent.sentinel)
            os.register_at_fork(after_in_parent=_native.watch_again)
        except Error as error:
            warnings.warn(f"this worker will not notice when its pool's process is killed: {error}", stacklevel=1)
    if initializer is not None:
        initializer(*initargs)


# Queues where there are no POSIX semaphores


class _WithoutSemaphores:
    """A context of multiprocessing whose queues work without POSIX semaphores."""

    def __init__(self, context: BaseContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def Lock(self) -> _Semaphore:  # noqa: N802
        return _Semaphore(1)

    def BoundedSemaphore(self, value: int) -> _Semaphore:  # noqa: N802
        return _Semaphore(value)

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:  # noqa: N802
        return queues.SimpleQueue(ctx=self)


class _Semaphore:
    """A semaphore that is as many bytes in a pipe.

    As with POSIX semaphores, what a killed process has taken is gone: its pool is broken, and its other workers end.
    """

    def __init__(self, value: int) -> None:
        self._reader, self._writer = connection.Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        os.write(self._writer.fileno(), bytes(value))

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        end_time = None if timeout is None else time.monotonic() + timeout
        while True:
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader.fileno(), 1)
                return True
            left = None if end_time is None else end_time - time.monotonic()
            if not block or (left is not None and left <= 0):
                return False
            connection.wait([self._reader], left)

    def release(self) -> None:
        os.write(self._writer.fileno(), b"\0")

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    # As multiprocessing's queues ask for it.

    @property
    def _semlock(self) -> _Semaphore:
        return self

    def _get_value(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self._reader.fileno(), termios.FIONREAD, bytes(4)))[0])

    def _is_zero(self) -> bool:
        return self._get_value() == 0


# Calls


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
        if array.dtype.hasobject:
            return _native.reduce(array)
        lent = _native.lend(array) or self._copy(array)
        if lent is None:
            return _native.reduce(array)
        token, hold, is_whole = lent
        self.kept.append(hold)
        return _open_array, (token,) if is_whole else (token, array.dtype)

    def _copy(self, array: NDArray[Any]) -> tuple[bytes, _native.Hold, bool] | None:
        """Put an ordinary array into shared memory, if it is worth it and there is room."""
        if array.nbytes < self._min_bytes or _native.is_shared_at(array.__array_interface__["data"][0], 1):
            return None
        with contextlib.suppress(Error, TypeError):
            return _native.lend(_arrays.array(array))
        return None


ProcessPoolExecutor.__module__ = "ndshare"
