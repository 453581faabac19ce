# pyright: reportPrivateUsage=false
"""How arrays travel: multiprocessing's pickler sends shared arrays by reference, every other pickler by value.

The address decides, so views of shared arrays count and copies do not. Each pickler has a `Message` of its own, so that
all views of one block in one message go by one ticket. Subclasses of ndarray are not looked up under
``numpy.ndarray`` and go by value.
"""

from __future__ import annotations

import functools
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._native import Arena
from ._ring import Frame


def _open_array(token: bytes, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Open the array that a token names; this is what pickles of shared arrays call.

    Raises Stale when nobody held the array any more, and AttachError when its arena cannot be reached.
    """
    return _native.open_token(token, dtype)


# Pickle finds a name in a package of one part faster than in a module below it, twice for each array sent.
_open_array.__module__ = "ndshare"


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
    ForkingPickler.register(Arena, _reduce_arena)
    _give_messages()
