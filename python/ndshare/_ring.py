# pyright: reportPrivateUsage=false
"""What Python adds to rings: the class of frames, iteration in asyncio, and how rings and readers travel."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import get_start_method, process, util
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast, overload

import numpy as np

from . import _native, _origin
from ._errors import Closed, Empty
from ._generic import shown_in_notebooks, subscriptable
from ._native import OfferedRing, Reader, Ring, Writer, Writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._native import _Item

_End = TypeVar("_End", bound=Reader | Writer)
# The class in which a frame's arrays are wanted.
_Told = TypeVar("_Told")

# Nobody announces a death: a waiting task looks so often (seconds) whether the writers live.
_LOOK_EVERY = 0.25


subscriptable(OfferedRing, Reader, Ring, Writer, Writing)
shown_in_notebooks(Ring)


class Frame(np.ndarray[tuple[Any, ...], "np.dtype[_Item]"]):
    """A frame of a ring, or a view of one. What arithmetic and NumPy's functions make of it are ordinary arrays.

    A received frame is read-only and never changes while it or a view of it lives. A copy has no number, time and
    meta any more.

    >>> import ndshare as nds
    >>> ring = nds.Ring(3, "uint8", slots=2, meta=[("gain", "f4")])
    >>> frames = ring.reader()
    >>> ring.put([1, 2, 3], gain=0.5)
    0
    >>> frame = frames.get()
    >>> frame.seq, frame.meta["gain"], frame[1:], type(frame + 1).__name__
    (0, np.float32(0.5), Frame([2, 3], dtype=uint8), 'ndarray')
    """

    __slots__ = ()
    # Below that of ndarray, so that what NumPy makes of both is an ndarray.
    __array_priority__ = cast("Any", -1.0)  # pyright: ignore[reportIncompatibleMethodOverride]
    # A function of C, found on the class: what ufuncs make is an ndarray already.
    __array_wrap__ = cast("Any", _native.unwrapped)

    if TYPE_CHECKING:
        # Frames of readers have these, and a frame that is being written has None: one class, so a checker is told
        # that there may be something else, and asks for no look at each frame.
        @property
        def seq(self) -> int | Any: ...
        @property
        def time_ns(self) -> int | Any: ...
        @time_ns.setter
        def time_ns(self, time_ns: int) -> None: ...
        @property
        def published_ns(self) -> int | Any: ...
        @property
        def age(self) -> float | Any: ...
        # So has a frame of this machine.
        @property
        def origin(self) -> _origin.Origin | Any: ...
        @property
        def meta(self) -> Any: ...
        @meta.setter
        def meta(self, meta: Any) -> None: ...
        @property
        def note(self) -> Any: ...
        @note.setter
        def note(self, note: Any) -> None: ...

        # Of frames with fields alone: a typo on any other frame is an error.
        def __getattr__(self: Frame[np.void], name: str) -> NDArray[Any]: ...

    else:
        # C, without a function of Python in between.
        seq = property(_native.frame_seq, doc="Its number, from 0; None while it is written, or when it was dropped.")
        time_ns = property(
            _native.frame_time_ns,
            _native.set_frame_time_ns,
            doc="When it was made, as its writer says; else when it was published. Writable while the frame is.",
        )
        published_ns = property(
            _native.frame_published_ns, doc="When it was published, by time.monotonic_ns(). None for its writer."
        )
        age = property(_native.frame_age, doc="How many seconds ago it was published. None for its writer.")
        meta = property(
            _native.frame_meta,
            _native.set_frame_meta,
            doc="What goes with it, as a record; writable while it is, by field or as a whole. None without meta.",
        )

        note = property(
            _native.frame_note,
            _native.set_frame_note,
            doc="Text, bytes or a value of JSON that goes with it; to be set while it is written. None without one.",
        )

        # Asked for what nothing else is called, and for what is there and says why it has no value.
        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                return super().__getattribute__(name)
            if name in (self.dtype.names or ()):
                return self[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def __setattr__(self, name: str, value: Any) -> None:
            # ``frame.rgb += 1`` puts back what it took out.
            if name in (self.dtype.names or ()) and not hasattr(type(self), name):
                self[name] = value
            else:
                super().__setattr__(name, value)

        origin = property(
            lambda frame: _origin.of_meta(_native.frame_meta(frame)),
            doc="Where it was made, if it came from another machine: host, run, seq, time_ns. Else None.",
        )

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result: Any = super().__array_function__(func, types, args, kwargs)
        if type(result) in {tuple, list}:
            return type(result)(map(_plain, result))
        return _plain(result)

    def copy(self, order: Any = "C") -> NDArray[_Item]:  # type: ignore[override]
        """Return an ordinary array with the same items, and without number, time and meta.

        >>> import ndshare as nds
        >>> with nds.Ring(2, "uint8", slots=4).write() as frame:
        ...     frame[:] = 7
        >>> frame.copy()
        array([7, 7], dtype=uint8)
        """
        return self.view(np.ndarray).copy(order)

    @overload
    def tree(self, kind: None = None) -> Any: ...
    @overload
    def tree(self, kind: type[_Told]) -> _Told: ...
    def tree(self, kind: type[Any] | None = None) -> Any:
        """Return the arrays of a frame of several as they were put: dicts and tuples of views. An array is itself.

        `kind` is a dataclass or a TypedDict to take them, nested like the fields: type checkers take the result for
        one. Raises TypeError when it has other fields.

        >>> import ndshare as nds
        >>> ring = nds.Ring(slots=4)
        >>> frames = ring.reader()
        >>> ring.put({"left": [1, 2], "pair": (nds.zeros(2), nds.ones(3))})
        0
        >>> tree = frames.get().tree()
        >>> tree["left"], tree["pair"][1]
        (Frame([1, 2]), Frame([1., 1., 1.]))
        """
        return _native.frame_tree(self, kind)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Readable without ndshare.
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _plain(result: Any) -> Any:
    return result.view(np.ndarray) if type(result) is Frame else result


class _Descriptor(Protocol):
    def fileno(self) -> int: ...


class Stream:
    """The frames of a reader for ``async for``. Cancelling a task that waits loses no frame and leaves nothing."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        while True:
            try:
                return self._reader.get(0)
            except Empty:
                await readable(self._reader)
            except Closed:
                raise StopAsyncIteration from None


def _aiter(self: Reader) -> Stream:
    """Implement aiter(self)."""
    return Stream(self)


# The class is C's, and what waits in asyncio is Python's.
Reader.__aiter__ = _aiter  # type: ignore[method-assign]


async def readable(source: _Descriptor) -> None:
    """Wait until there is something to get, or until it is time to look whether the writers live."""
    # Here, because few programs use it and it takes longer to import than this package.
    import asyncio

    loop = asyncio.get_running_loop()
    news = loop.create_future()

    def tell() -> None:
        if not news.done():
            news.set_result(None)

    # A descriptor of its own, because several tasks may wait for one source.
    descriptor = os.dup(source.fileno())
    try:
        loop.add_reader(descriptor, tell)
        timer = loop.call_later(_LOOK_EVERY, tell)
        try:
            await news
        finally:
            timer.cancel()
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def as_array(x: Any, dtype: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """Return what a list or a scalar is in a ring, which may have a dtype.

    Python's ints have no size: those that fit are as good as numbers of that dtype. Everything else is judged as an
    array of it is.
    """
    natural = np.asarray(x)
    if dtype is None:
        return natural
    if natural.size:
        if dtype.kind in "iu" and natural.dtype.kind in "fO":
            # NumPy takes ints beyond int64 for floats or objects.
            exact = np.asarray(x, dtype=object)
            if all(isinstance(item, int | np.integer) for item in exact.flat):
                _check_range(exact, dtype)
                return exact.astype(dtype)
        if natural.dtype.kind not in "iu" or dtype.kind not in "iu":
            return natural
        check_fits(natural, dtype)
    return natural.astype(dtype)


def check_fits(x: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> None:
    """Refuse integers that would be others in a ring's dtype: NumPy's casts take 300 for 44 in uint8 without a word."""
    if x.dtype.kind not in "iu" or dtype.kind not in "iu" or not x.size or np.can_cast(x.dtype, dtype, "safe"):
        return
    _check_range(x, dtype)


def _check_range(x: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> None:
    facts, least, most = np.iinfo(dtype), x.min(), x.max()
    if least < facts.min or most > facts.max:
        raise OverflowError(
            f"expected numbers that fit {dtype}, the dtype of the ring, got {least} to {most}: "
            "make the ring with a larger one, or convert them"
        )


# How rings, readers and frames travel


def _reduce_ring(ring: Ring) -> tuple[Any, ...]:
    return _native.open_ring, _native.ring_parts(ring)


# The readers and writers of this process that have travelled, or are about to: one that arrives twice is one object.
_ends: weakref.WeakValueDictionary[tuple[int, int, int], Reader | Writer] = weakref.WeakValueDictionary()
# For who looks and then enters; a destructor that runs meanwhile may do the same.
_entering = threading.RLock()
os.register_at_fork(after_in_child=cast("Any", _entering)._at_fork_reinit)


def _reduce_reader(reader: Reader) -> tuple[Any, ...]:
    parts = _native.reader_parts(reader)
    _ends[_native.end_key(reader)] = reader
    return _open_reader, parts


def _reduce_writer(writer: Writer) -> tuple[Any, ...]:
    parts = _native.writer_parts(writer)
    _ends[_native.end_key(writer)] = writer
    return _open_writer, parts


def _open_reader(parts: tuple[Any, ...], token: bytes, place: int) -> Reader:
    # In any case, because that takes it off the books of what is under way.
    return the_one(_native.open_reader(_native.open_ring(*parts), token, place))


def _open_writer(parts: tuple[Any, ...], token: bytes, place: int) -> Writer:
    return the_one(_native.open_writer(_native.open_ring(*parts), token, place))


def the_one(end: _End) -> _End:
    """Return the object that this process has for a reader or a writer already, or this one from now on."""
    key = _native.end_key(end)
    with _entering:
        known = _ends.get(key)
        if known is not None and not known.closed:
            return cast("_End", known)
        _ends[key] = end
    return end


def reduce_frame(frame: Frame) -> tuple[Any, ...]:
    """Reduce a frame to the array that it is."""
    return _native.reduce(frame.view(np.ndarray))


def register() -> None:
    """Make multiprocessing send rings, readers, writers and frames this way; a frame arrives as an ordinary array."""
    ForkingPickler.register(Ring, _reduce_ring)
    ForkingPickler.register(Reader, _reduce_reader)
    ForkingPickler.register(Writer, _reduce_writer)
    ForkingPickler.register(Frame, reduce_frame)
    # A process that ends in order closes its writers: an interpreter that exits, and a forked child of multiprocessing,
    # which leaves by os._exit after its finalizers. These are forgotten when a child begins; so it enters its own then,
    # or now, if it has begun already.
    atexit.register(_native.leave_rings)
    util.register_after_fork(_leave_at_the_end, _leave_at_the_end)
    if process.parent_process() is not None and get_start_method(allow_none=True) != "spawn":
        _leave_at_the_end()


def _leave_at_the_end(_: object = None) -> None:
    # The others come first: some may still write.
    util.Finalize(None, _leave_after_threads, exitpriority=-100)


def _leave_after_threads() -> None:
    """Leave once the threads have ended that are no daemons, as at the exit of an interpreter: they may still write.

    From 3.13 on, multiprocessing has waited for them when it calls its finalizers. Before, it waits after these, by
    this function of `threading`, and calls nothing more then.
    """
    if sys.version_info >= (3, 13):
        _native.leave_rings()
        return
    shutdown: Callable[[], None] = cast("Any", threading)._shutdown

    def shutdown_and_leave() -> None:
        try:
            shutdown()
        finally:
            _native.leave_rings()

    # A type checker takes no other way.
    setattr(threading, "_shutdown", shutdown_and_leave)  # noqa: B010


Frame.__module__ = "ndshare"
