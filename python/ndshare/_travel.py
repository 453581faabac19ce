# pyright: reportPrivateUsage=false
"""How arrays travel: multiprocessing's pickler sends shared arrays by reference, every other pickler by value.

The address decides, so views of shared arrays count and copies do not. Each pickler has a `Message` of its own, so that
all views of one block in one message go by one ticket. NumPy's own subclasses arrive as what they were, around plain
arrays that go like all others; other subclasses are not known, and go by value.
"""

from __future__ import annotations

import functools
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._copies import kinds
from ._native import Arena
from ._ring import Frame


def _open_array(token: bytes, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Open the array that a token names; this is what pickles of shared arrays call.

    Raises Stale when nobody held the array any more, and AttachError when its arena cannot be reached.
    """
    return _native.open_token(token, dtype)


# Pickle finds a name in a package of one part faster than in a module below it, twice for each array sent.
_open_array.__module__ = "ndshare"


# Subclasses of NumPy's


def _starts_shared(array: NDArray[Any]) -> bool:
    return _native.is_shared_at(array.__array_interface__["data"][0], 1)


def _reduce_view(array: NDArray[Any]) -> Any:
    if not _starts_shared(array):
        return array.__reduce_ex__(4)
    # The plain array is pickled by the same pickler: by reference if it can be, by value with all its warnings if not.
    return _open_view, (type(array), array.view(np.ndarray))


def _open_view(kind: type[Any], array: NDArray[Any]) -> Any:
    return array.view(kind)


def _reduce_masked(array: Any) -> Any:
    data, mask = array._data, array._mask
    mask = None if mask is np.ma.nomask else mask
    if not _starts_shared(data) and (mask is None or not _starts_shared(mask)):
        return array.__reduce_ex__(4)
    return _open_masked, (data, mask, array._fill_value, array._hardmask, array._sharedmask)


def _open_masked(data: NDArray[Any], mask: Any, fill_value: Any, hard: bool, shared: bool) -> Any:
    """Put data and mask together again. A mask of None is no mask."""
    array: Any = data.view(np.ma.MaskedArray)
    # By its attribute: the property would copy the mask into one of its own.
    array._mask = np.ma.nomask if mask is None else mask
    array._fill_value, array._hardmask, array._sharedmask = fill_value, hard, shared
    return array


# Arenas


def _reduce_arena(arena: Arena) -> Any:
    return _native.open_arena, _native.arena_parts(arena)


# The pickler


def _give_messages() -> None:
    """Give each of multiprocessing's picklers a message of its own from now on."""
    make = ForkingPickler.__init__

    @functools.wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        make(self, *args, **kwargs)
        message = _native.Message()
        self.dispatch_table[np.ndarray] = self.dispatch_table[Frame] = message

    ForkingPickler.__init__ = __init__


def register() -> None:
    """Make multiprocessing send arrays, and arenas of one's own, this way."""
    # For picklers that are made in another way than by the class's own __init__.
    ForkingPickler.register(np.ndarray, _native.reduce)
    for kind in kinds():
        if kind not in {np.ndarray, np.ma.MaskedArray}:
            ForkingPickler.register(kind, _reduce_view)
    ForkingPickler.register(np.ma.MaskedArray, _reduce_masked)
    ForkingPickler.register(Arena, _reduce_arena)
    _give_messages()
