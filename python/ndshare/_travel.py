# pyright: reportPrivateUsage=false
"""How arrays travel: multiprocessing's pickler sends shared arrays by reference, every other pickler by value.

The address decides, so views of shared arrays count and copies do not. Subclasses of ndarray are not looked up
under ``numpy.ndarray`` and go by value.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native


def _open_array(token: bytes, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Open the array that a token names; this is what pickles of shared arrays call.

    Raises Stale when nobody held the array any more, and AttachError when its arena cannot be reached.
    """
    return _native.open_token(token, dtype)


# Pickle finds a name in a package of one part faster than in a module below it, twice for each array sent.
_open_array.__module__ = "ndshare"


def register() -> None:
    """Make multiprocessing send arrays of exactly numpy.ndarray this way."""
    ForkingPickler.register(np.ndarray, _native.reduce)
