# pyright: reportPrivateUsage=false
"""Warnings about copies: a writable shared array that is pickled by value is a write that will be lost.

While they are on, copyreg has a reducer of ours for ndarray and its subclasses. Picklers look there when they have no
reducer of their own, and multiprocessing's has one for the arrays that it sends by reference. While they are off,
copyreg knows nothing of us. dill, which multiprocess uses, has a table of its own, and it is the same there.

copyreg does not say which protocol is written, so the array is pickled inside a stand-in, whose ``__reduce_ex__`` is
told; NumPy alone reads the result.
"""

from __future__ import annotations

import copyreg
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np

from . import _native
from ._errors import CopyWarning
from ._ring import Frame
from ._travel import register_all

Array = np.ndarray[Any, Any]
Reducer = Callable[[Any], Any]

# The packages that may stand between a user's call and the pickler. All others are the user's.
_MACHINERY = frozenset(
    {
        "asyncio",
        "billiard",
        "celery",
        "cloudpickle",
        "concurrent",
        "copyreg",
        "dask",
        "dill",
        "distributed",
        "joblib",
        "kombu",
        "loky",
        "multiprocess",
        "multiprocessing",
        "ndshare",
        "numpy",
        "pickle",
        "runpy",
        "threading",
        "tornado",
    }
)

_lock = threading.Lock()
# The reducers that copyreg had before ours, by class; a class of no reducer has None. Empty while we are off.
_before: dict[type, Reducer | None] = {}
# The same for dill's table.
_savers_before: dict[type, Any] = {}


def warn_copies(on: bool = True) -> None:
    """Warn with `CopyWarning` when a pickler takes a writable shared array by value; ``warn_copies(False)`` ends it.

    What a receiver writes to such a copy is lost. multiprocessing's pickler sends references and warns of none;
    pickle, cloudpickle, joblib, loky, dask, billiard and multiprocess copy. It counts for this process, for all its
    threads, and for the children that it forks; ``NDSHARE_WARN=copies`` in the environment turns it on in every
    process. Subclasses of ndarray that are defined later are seen after another call. Off, it costs nothing.

    >>> import pickle, warnings
    >>> import ndshare as nds
    >>> nds.warn_copies()
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     data = pickle.dumps(nds.zeros((2, 3)))
    >>> nds.warn_copies(False)
    >>> seen[0].category.__name__
    'CopyWarning'
    """
    # Importing runs anybody's code, so it comes before the lock, under which only tables of classes are changed.
    if on:
        # NumPy makes some classes when they are first asked for; an array of one of them is to be seen, too. A pickler
        # of multiprocessing takes our reducers over copyreg's as it is made, so these come first.
        register_all()
    savers = _dills_table() if on or _savers_before else {}
    classes: set[type] = {np.ndarray, *_subclasses(np.ndarray)} if on else set()
    with _lock:
        if on:
            _register(classes, savers)
        else:
            _unregister(savers)


warn_copies.__module__ = "ndshare"


def start() -> None:
    """Do what ``NDSHARE_WARN`` says: warnings about copies, or nothing."""
    text = os.environ.get("NDSHARE_WARN", "").strip()
    if text not in {"", "copies"}:
        raise ValueError(f"expected NDSHARE_WARN to be 'copies' or empty, got {text!r}; set it anew or unset it")
    if text:
        warn_copies()


def _register(classes: set[type], savers: dict[type, Any]) -> None:
    for cls in classes:
        if cls not in _before:
            _before[cls] = copyreg.dispatch_table.get(cls)
            copyreg.pickle(cls, _reduce)  # pyright: ignore[reportArgumentType]
        if savers.get(cls) is not _save:
            _savers_before[cls] = savers.get(cls)
            savers[cls] = _save


def _unregister(savers: dict[type, Any]) -> None:
    _put_back(copyreg.dispatch_table, _reduce, _before)
    _put_back(savers, _save, _savers_before)


def _put_back(table: dict[type, Any], ours: Any, before: dict[type, Any]) -> None:
    for cls, theirs in before.items():
        # Somebody who has registered another one since keeps it.
        if table.get(cls) is ours:
            if theirs is None:
                del table[cls]
            else:
                table[cls] = theirs
    before.clear()


def _dills_table() -> dict[type, Any]:
    """Return the table in which dill looks before copyreg's; it has arrays there, too. Imports dill if it is there."""
    with suppress(ImportError):
        return importlib.import_module("dill").Pickler.dispatch
    return {}


def _subclasses(cls: type) -> Iterator[type]:
    below: list[type] = cls.__subclasses__()
    for each in below:
        yield each
        yield from _subclasses(each)


def _reduce(array: Array) -> Any:
    """Reduce an array as it would have been without us, after a warning when it is shared and writable."""
    if array.flags.writeable and _native.is_shared(array):
        _warn(array)
    cls = type(array)
    reducer = _before.get(cls)
    if reducer is not None:
        return reducer(array)
    if cls is Frame or (cls is np.ndarray and not array.dtype.hasobject):
        return np.asanyarray, (_StandIn(array),)
    # Subclasses and arrays of objects, which may contain themselves, are the same in all protocols.
    return array.__reduce_ex__(2)


def _save(pickler: Any, array: Array) -> None:
    """Save an array for dill."""
    pickler.save_reduce(*_reduce(array), obj=array)


class _StandIn:
    """Pickled as the array that it stands for, in the pickler's own protocol: with its buffers out of band, too."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._array.__reduce_ex__(protocol)


def warn_at_bound(array: Array) -> None:
    """Warn that an array goes by value because no more references can be in flight; always, on or off."""
    frame = sys._getframe(1)
    kind = "writable" if array.flags.writeable else "read-only"
    # The text is the same for all arrays of a kind, so that the usual filters show it once and not for each of them.
    text = (
        f"a {kind} shared array is sent as a copy, because as many references are in flight as can be "
        '(nds.stats()["ticket_budget"]): what one side writes, the other will not see. Receive what was sent, or take '
        'back with nds.reclaim() what nobody will receive; nds.stats()["copied_by_bound"] counts the copies'
    )
    _show(text, _users(frame) or frame)


def _warn(array: Array) -> None:
    frame = sys._getframe(2)
    caller = _users(frame)
    if frame.f_code is _save.__code__ and frame.f_back is not None:
        frame = frame.f_back
    _show(_message(array, known=caller is not None), frame if caller is None else caller)


def _show(text: str, where: FrameType) -> None:
    # Not stacklevel: that counts frames, and can't tell whose they are.
    warnings.warn_explicit(
        text,
        CopyWarning,
        where.f_code.co_filename,
        where.f_lineno,
        where.f_globals.get("__name__", "<unknown>"),
        where.f_globals.setdefault("__warningregistry__", {}),
    )


def _users(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame that is no pickler's and no pool's; None in a thread that is all theirs."""
    while frame is not None and _package(frame.f_globals) in _MACHINERY:
        frame = frame.f_back
    return frame


def _package(names: dict[str, Any]) -> str:
    # Workers of a library may have one of its modules for their __main__.
    name = getattr(names.get("__spec__"), "name", None) or names.get("__name__") or ""
    return str(name).partition(".")[0]


def _message(array: Array, *, known: bool) -> str:
    name = type(array).__name__
    kind = "array" if name == "ndarray" else name
    whose = "" if known else f" (by the thread {threading.current_thread().name!r}, for a call that it doesn't know)"
    return (
        f"a writable shared {kind} of shape {array.shape} and dtype {array.dtype} is pickled by value{whose}: what the "
        "receiver writes is lost; send nds.ref(a) and open() it there, or send it through multiprocessing's pools, "
        "queues and pipes; a read-only view of it is copied without this warning"
    )
