# pyright: reportPrivateUsage=false
"""The worker's side of a pipe: frames come by reference, and so do results go.

A message is one packet of a socket, so it comes whole or not at all, whenever somebody is killed. Nothing in it needs
a ticket: the pipe keeps a frame until its result is there, and a worker keeps a result until it hears of it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import traceback
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _native
from ._executor import _begin_worker
from ._fields import _is_level
from ._ring import Frame

# Bytes of a message: of a packet the kernel takes 200 KiB for certain.
MOST_BYTES: Final = 128 << 10

# What a pipe tells a worker beside frames: that it has the result, and that there are no more.
TAKEN: Final = "taken"
END: Final = "end"

_MOST_TEXT: Final = 8000  # characters that are kept of an exception that cannot be sent as it is


class Wanted(NamedTuple):
    """What the frames of the ring of results are; no shape where they are of any."""

    shape: tuple[int, ...] | None
    dtype: np.dtype[Any]

    @property
    def has_fields(self) -> bool:
        """Whether each is an item with fields, which a tree of arrays fits."""
        return self.shape == () and self.dtype.names is not None

    def ring(self) -> _native.Ring[Any]:
        """Return a ring of such frames, for one at a time."""
        return _native.Ring(slots=1) if self.shape is None else _native.Ring(self.shape, self.dtype, slots=1)


class Task(NamedTuple):
    """What a worker does with frames."""

    function: Callable[..., Any]
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    wanted: Wanted | None  # of what it returns; None when that is dropped
    min_bytes: int  # smaller results go by value


class Order(NamedTuple):
    """One frame to be worked on."""

    token: bytes
    dtype: np.dtype[Any] | None  # where the token does not say it
    seq: int
    times: tuple[int, int]  # when it was made, and published
    meta: bytes
    note: Any
    out: tuple[bytes, np.dtype[Any] | None] | None


class Answer(NamedTuple):
    """What became of a frame: a result, as a token with what that does not say of the dtype or as itself; an error."""

    array: tuple[bytes, np.dtype[Any] | None] | NDArray[Any] | None = None
    meta: dict[str, Any] | None = None
    error: bytes | None = None


class RemoteTraceback(Exception):  # noqa: N818  (it is no error of its own)
    """Where an exception came from in the worker: the cause of what a pipe raises."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Line:
    """One end of a socket whose packets are pickles."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
        self.socket = end
        self._buffer = bytearray(MOST_BYTES)

    def send(self, message: object) -> None:
        """Send a message. Raises ValueError for one that is too long, OSError where nobody hears it."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(data) > MOST_BYTES:
            raise ValueError(
                f"expected at most {MOST_BYTES} bytes to go with a frame beside its array, got {len(data)}: put large "
                "values into the array"
            )
        self.socket.send(data)

    def receive(self) -> Any:
        """Return the next message. Raises EOFError where there are no more, BlockingIOError where there is none yet."""
        count = self.socket.recv_into(self._buffer)
        if not count:
            raise EOFError
        return pickle.loads(memoryview(self._buffer)[:count])


def serve(end: socket.socket, task: Task) -> None:
    """Work on the frames that come, until there are no more."""
    # Ctrl-C is for the process that has the pipe. It was blocked until now.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # A program that replaces this one has no part in it: its end is heard at once.
    end.set_inheritable(False)
    _begin_worker(task.initializer, task.initargs)
    line, bench = Line(end), _Bench(task)
    line.send(Answer())
    while (message := line.receive()) != END:
        bench.kept = None
        if isinstance(message, Order):
            bench.work(line, message)
        elif message != TAKEN:
            bench.frames = _native.PassedFrames(message)


class _Items:
    """Makes one array of each result, as `put` would take it."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._through: tuple[_native.Ring[Any], _native.Reader[Any]] | None = None

    def array(self, value: Any) -> NDArray[Any]:
        """Return a result as one array: of a tree an item that has its arrays as fields."""
        wanted, is_array = self._wanted, isinstance(value, np.ndarray | np.generic)
        if is_array or not (wanted.has_fields or _is_level(value)):
            return np.asarray(value)
        if wanted.shape is not None and not wanted.has_fields:
            raise _no_array(value, wanted)
        return self._item(value)

    def _item(self, value: Any) -> NDArray[Any]:
        """Put a tree through a ring of this worker's own; a frame that was got keeps its block, and frees its slot."""
        if self._through is None:
            ring = self._wanted.ring()
            self._through = ring, ring.reader()
        ring, items = self._through
        ring.put(value, 0)
        return items.get(0)


class _Bench:
    """Where one frame at a time is worked on."""

    def __init__(self, task: Task) -> None:
        self.frames = _native.PassedFrames()
        self._items: _Items | None = None if task.wanted is None else _Items(task.wanted)
        self.kept: _native.Hold | None = None  # the last result, until the pipe has it
        self._task = task
        self._process = os.getpid()

    def work(self, line: Line, order: Order) -> None:
        answer = self._answer(order)
        if os.getpid() != self._process:
            # The function has forked, and its child has come back here: it would answer as well, for another frame.
            os._exit(0)
        try:
            line.send(answer)
        except OSError:
            raise
        except Exception as error:  # what cannot be pickled raises anything
            line.send(Answer(error=_packed(error)))

    def _answer(self, order: Order) -> Answer:
        try:
            return self._handed_over([self._call(order)])
        except BaseException as error:
            return Answer(error=_packed(error))

    def _call(self, order: Order) -> Any:
        frame = self.frames.open(order.token, order.seq, order.times, order.meta, order.note, order.dtype)
        with _native.allocating(self._task.min_bytes):
            if order.out is None:
                return self._task.function(frame)
            out = _native.open_token(*order.out)
            return None, _meta_beside(out, self._task.function(frame, out=out))

    def _handed_over(self, returned: list[Any]) -> Answer:
        """Return what is sent of a result. It comes in a list, so that nobody but the function keeps it elsewhere."""
        value, meta = _parted(returned.pop())
        if value is None or self._items is None:
            return Answer(None, meta)
        array = self._items.array(value)
        value, root, dtype = None, _root(array), array.dtype
        # A frame never changes.
        watch = None if isinstance(root, Frame) else weakref.ref(root)
        lent = _native.lend(array)
        if lent is None:
            return self._copied(array, meta)
        del array, root
        token, self.kept, is_whole = lent
        beside = None if is_whole else dtype
        if watch is None or watch() is None:
            return Answer((token, beside), meta)
        # The function keeps it, and may write to it for the next frame.
        return self._copied(_native.open_token(token, beside), meta)

    def _copied(self, array: NDArray[Any], meta: dict[str, Any] | None) -> Answer:
        """Put a large array into shared memory; a small one, or one of objects, goes by value."""
        if array.nbytes < self._task.min_bytes or array.dtype.hasobject:
            self.kept = None
            return Answer(array, meta)
        lent = _native.lend(_arrays.array(array))
        assert lent is not None
        token, self.kept, is_whole = lent
        return Answer((token, None if is_whole else array.dtype), meta)


def _parted(value: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return a result and its meta: two of which the second is a mapping or None are both, and no tree of arrays."""
    pair = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    if len(pair) == 2:
        result, meta = pair
        if meta is None:
            return result, None
        if isinstance(meta, Mapping):
            return result, dict(cast("Mapping[str, Any]", meta))
    return cast("Any", value), None


def _no_array(value: Any, wanted: Wanted) -> TypeError:
    got = f"a tuple of {len(cast('Any', value))}" if isinstance(value, tuple) else f"a {type(value).__name__}"
    return TypeError(
        f"expected one array for a ring of results whose frames are of shape {wanted.shape} and dtype {wanted.dtype}, "
        f"got {got}: return one, as np.stack makes it, or one and a mapping with its meta; or make the ring of results "
        "with fields, for several arrays"
    )


def _meta_beside(out: NDArray[Any], value: Any) -> dict[str, Any] | None:
    """Return the meta of a result that the function was to write into `out`. Raises TypeError when it is elsewhere."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    result, meta = _parted(value)
    # NumPy says of an array without items that it shares none.
    if result is None or result is out or (hasattr(result, "__array__") and np.may_share_memory(result, out)):
        return meta
    is_array = isinstance(result, np.ndarray)
    got = f"an array of shape {cast('Any', result).shape}" if is_array else f"a {type(result).__name__}"
    raise TypeError(
        f"expected the result in out, of shape {out.shape} and dtype {out.dtype}, got {got} beside it: fill out, as by "
        "out[...] = result, and return None, out or a mapping with the meta; or make the pipe without out=True"
    )


def _root(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array of which this one is a view, or itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _packed(error: BaseException) -> bytes:
    """Return an exception and its traceback, which `unpacked` makes one again."""
    text = "".join(traceback.format_exception(error))[-_MOST_TEXT:]
    try:
        said = str(error)[:_MOST_TEXT]
    except Exception as other:  # its class may do anything there
        said = f"its text cannot be made ({type(other).__name__})"
    instead = f"{type(error).__qualname__}: {said}"
    pickled = b""
    with contextlib.suppress(Exception):
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    return pickle.dumps((pickled if len(pickled) < MOST_BYTES // 2 else b"", instead, text))


def unpacked(packed: bytes) -> BaseException:
    """Return the exception that a worker packed, or one that says the same; its cause says where it was raised."""
    pickled, instead, text = cast("tuple[bytes, str, str]", pickle.loads(packed))
    error: BaseException = RuntimeError(instead)
    # Its class may be unknown here, or not be made again by its own arguments, or be pickled as something else.
    with contextlib.suppress(Exception):
        again = pickle.loads(pickled)
        error = again if isinstance(again, BaseException) else error
    error.__cause__ = RemoteTraceback(text)
    return error
