# pyright: reportPrivateUsage=false
"""Warnings of copies: a shared array that somebody takes by value, whose changes then stay where they were made.

Picklers other than multiprocessing's copy. To see that, one has to be asked: `copyreg.dispatch_table` is where every
pickler looks that has no answer of its own, and ours stands in it only while the warnings are switched on.
"""

from __future__ import annotations

import copyreg
import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._errors import CopyWarning

ENVIRONMENT = "NDSHARE_WARN"
# The line that a warning names is the first outside of these packages: they carry out what it asked for.
_MACHINERY = frozenset({
    "_pickle", "asyncio", "billiard", "cloudpickle", "concurrent", "copyreg", "dask", "dill", "distributed", "joblib",
    "loky", "multiprocess", "multiprocessing", "ndshare", "pickle", "queue", "threading",
})  # fmt: skip

_lock = threading.Lock()
_before: dict[type[Any], Callable[[Any], Any] | None] = {}


class _Value:
    """An array on its way by value. It is asked with the protocol in use, which a function of copyreg never learns."""

    __slots__ = ("_array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._array.__reduce_ex__(protocol)


def warn_copies(on: bool = True, /) -> None:
    """Warn from now on whenever a pickler other than multiprocessing's copies a writable shared array.

    joblib, loky, Dask, billiard and multiprocess have picklers of their own, and plain ``pickle`` copies by its nature:
    what the receiver writes into such a copy is lost. The warning is a `CopyWarning`, at the line that asked for the
    pickling if that is on the stack of the thread that pickles. Python's filters decide how often it is shown, and
    ``error`` makes it an exception. Send ``nds.ref(array)`` to share it.

    The switch is this process's own, off by default, and costs nothing while off. ``NDSHARE_WARN=copies`` in the
    environment switches it on in every process that imports ndshare.

    >>> import ndshare as nds, pickle, warnings
    >>> nds.warn_copies()
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     data = pickle.dumps(nds.zeros(3))
    >>> [w.category.__name__ for w in said]
    ['CopyWarning']
    >>> nds.warn_copies(False)
    """
    with _lock:
        if on and not _before:
            for kind in kinds():
                _before[kind] = copyreg.dispatch_table.get(kind)
                copyreg.dispatch_table[kind] = _reduce
        elif not on:
            _switch_off()


def _switch_off() -> None:
    for kind, function in _before.items():
        if copyreg.dispatch_table.get(kind) is not _reduce:
            # Somebody has put theirs in its place meanwhile.
            continue
        if function is None:
            del copyreg.dispatch_table[kind]
        else:
            copyreg.dispatch_table[kind] = function
    _before.clear()


def kinds() -> tuple[type[Any], ...]:
    """Return ndarray, and those subclasses of NumPy's whose arrays are told by what an ndarray has, and a mask."""
    # Not by its name, which some version may warn of.
    characters: Any = vars(np.char).get("chararray")
    more = () if characters is None else (characters,)
    return (np.ndarray, np.recarray, np.memmap, np.matrix, np.ma.MaskedArray, *more)


def _reduce(array: Any) -> Any:
    if array.flags.writeable and _native.is_shared(array):
        _warn(
            f"a writable shared array of shape {array.shape}, dtype {array.dtype}, is pickled by value: what the "
            "receiver writes is lost. Send nds.ref(array), or nds.array(array) where a copy is what you want"
        )
    function = _before.get(type(array))
    if function is not None:
        return function(array)
    return np.asanyarray, (_Value(array),)


def warn_at_the_bound(array: NDArray[Any]) -> None:
    """Warn that an array goes by value because no more references can be in flight."""
    kind = "writable" if array.flags.writeable else "read-only"
    _warn(
        f"a {kind} shared array is sent as a copy, because as many references are in flight as can be "
        '(nds.stats()["ticket_budget"]): what one side writes the other will not see. Receive what was sent, or take '
        'back with nds.reclaim() what nobody will receive; nds.stats()["copied_by_bound"] counts the copies'
    )


def _warn(text: str) -> None:
    frame = _place()
    names = frame.f_globals
    warnings.warn_explicit(
        text,
        CopyWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}),
    )


def _place() -> FrameType:
    """Return the innermost frame outside of the machinery, or the outermost one: the thread that feeds a queue."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame) in _MACHINERY:
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def start() -> None:
    """At import: do what the environment asks for."""
    for word in os.environ.get(ENVIRONMENT, "").replace(",", " ").split():
        if word == "copies":
            warn_copies()
        else:
            warnings.warn(f'{ENVIRONMENT}: expected "copies", got {word!r}, which does nothing', stacklevel=2)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
warn_copies.__module__ = "ndshare"
