# pyright: reportPrivateUsage=false
"""How arrays travel: multiprocessing's pickler sends shared arrays by reference, every other pickler by value.

The address decides, so views of shared arrays count and copies do not. What a pickler dumps at once is a message: all
views of one block in it go by one ticket. Reducers are looked up by the very class, and a subclass may keep anything
beside its items, so those of NumPy are sent here one by one and those of users by value.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing.context
import sys
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._native import Arena
from ._started import outgoing


def _open_array(token: bytes, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Open the array that a token names; this is what pickles of shared arrays call.

    Raises Stale when nobody held the array any more, and AttachError when its arena cannot be reached.
    """
    return _native.open_token(token, dtype)


# Pickle finds a name in a package of one part faster than in a module below it, twice for each array sent.
_open_array.__module__ = "ndshare"


def _view_as(cls: type[Any], base: NDArray[Any]) -> Any:
    """Return the same bytes as an array of a class of NumPy; this is what pickles of such arrays call."""
    return base.view(cls)


def _set_attributes(array: Any, attributes: Mapping[str, Any]) -> None:
    """Give a masked array its mask and the rest of what NumPy keeps in its attributes."""
    for name, value in attributes.items():
        vars(array)[name] = value


def _reduce_view(array: NDArray[Any]) -> Any:
    """Reduce an array of a class of NumPy that keeps nothing but its items."""
    if not _native.is_shared(array):
        return array.__reduce__()
    return _view_as, (type(array), array.view(np.ndarray))


def _reduce_masked(array: Any) -> Any:
    """Reduce a masked array; data and mask each go by reference if they are shared, and by value if not."""
    if not (_native.is_shared(array) or _native.is_shared(array.mask)):
        return array.__reduce__()
    # As state, because what users attach may refer to the array itself.
    return _view_as, (type(array), array.data), vars(array), None, None, _set_attributes


# The items are all that arrays of these classes are. A memmap over an arena has no file, here and there.
_CLASSES_OF_ITEMS: tuple[type[NDArray[Any]], ...] = (np.recarray, np.matrix, np.memmap)

# Classes of modules that NumPy imports when they are asked for, which takes longer than all of ours: module, name and
# reducer. There is no array of such a class before, so a pickler that is made later is early enough.
_classes_to_come: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("numpy.ma.core", "MaskedArray", _reduce_masked),
    ("numpy._core.defchararray", "chararray", _reduce_view),
]
_modules_to_come = tuple(each[0] for each in _classes_to_come)


def _register_what_has_come(reducers: dict[type, Any] | None = None) -> None:
    """Register the classes whose modules have been imported since, also with a pickler that has its reducers already.

    A reducer that users have registered stays.
    """
    for each in tuple(_classes_to_come):
        module, name, reducer = each
        cls = getattr(sys.modules.get(module), name, None)
        if cls is None:
            continue
        for table in (cast("dict[type, Any]", ForkingPickler._extra_reducers), reducers):  # type: ignore[attr-defined]
            if table is not None:
                table.setdefault(cls, reducer)
        # Another thread may have been here at the same time.
        with contextlib.suppress(ValueError):
            _classes_to_come.remove(each)


# Arenas


def _reduce_arena(arena: Arena) -> Any:
    return _native.open_arena, _native.arena_parts(arena)


# The pickler


def look_at_each_message(pickler: Any, this_thread: Any) -> None:
    """Tell where a message of a pickler begins and ends, and look first at what has been imported meanwhile.

    `this_thread` is the thread-local in which multiprocessing, or a library like it, says for which Popen it pickles.
    """
    dump = pickler.dump
    begin, end = _native.begin_message, _native.end_message

    def dump_message(self: Any, obj: Any) -> Any:
        if _classes_to_come and not sys.modules.keys().isdisjoint(_modules_to_come):
            # One that was made in another way than by the class's own __init__ may have no table of its own.
            _register_what_has_come(getattr(self, "dispatch_table", None))
        try:
            popen = this_thread.__dict__.get("spawning_popen")
            begin(self, None if popen is None else outgoing(popen))
            done = dump(self, obj)
        except BaseException:
            end(self, True)
            raise
        end(self, False)
        return done

    pickler.dump = functools.wraps(dump)(dump_message)


def register_all() -> None:
    """Import the classes that NumPy makes when asked, and register them."""
    importlib.import_module("numpy.ma")
    importlib.import_module("numpy.char")
    _register_what_has_come()


def reducers_of_ours() -> dict[type, Callable[[Any], Any]]:
    """Return what multiprocessing's pickler has of ours, by class; also for classes that NumPy makes when asked."""
    register_all()
    table = cast("dict[type, Any]", ForkingPickler._extra_reducers)  # type: ignore[attr-defined]
    return {cls: reduce for cls, reduce in table.items() if reduce.__module__.partition(".")[0] == "ndshare"}


def register() -> None:
    """Make multiprocessing send arrays of exactly these classes, and arenas of one's own, this way."""
    _native.open_arrays_with(_open_array)
    ForkingPickler.register(np.ndarray, _native.reduce)
    for cls in _CLASSES_OF_ITEMS:
        ForkingPickler.register(cls, _reduce_view)
    ForkingPickler.register(Arena, _reduce_arena)
    _register_what_has_come()
    # What `get_spawning_popen` asks of most threads makes an exception each time, which takes longer than all the rest.
    look_at_each_message(ForkingPickler, cast("Any", multiprocessing.context)._tls)
