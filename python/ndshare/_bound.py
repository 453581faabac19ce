"""The bound of references in flight: what is sent beyond it goes as a copy, and that is said.

An array of which each side has its own bytes from then on is a loss that shows much later, if at all. So every such
copy warns, at the line that asked for it where that is on the stack of the thread that pickles; Python's filters show
it once for each place, and make it an exception where that is wanted.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import CopyWarning

# What stands between a user's call and the pickler. A queue's own thread has nothing else on its stack.
_MACHINERY = frozenset({"asyncio", "concurrent", "multiprocessing", "ndshare", "pickle", "threading"})


def warn(array: NDArray[np.generic]) -> None:
    """Warn that an array goes by value, because no more references can be in flight."""
    kind = "writable" if array.flags.writeable else "read-only"
    frame = _place()
    names = frame.f_globals
    # The text is the same for all arrays of a kind, so that the usual filters show it once and not for each of them.
    warnings.warn_explicit(
        f"a {kind} shared array is sent as a copy, because as many references are in flight as can be "
        '(nds.stats()["ticket_budget"]): what one side writes, the other will not see. Receive what was sent, or take '
        'back with nds.reclaim() what nobody will receive; nds.stats()["copied_by_bound"] counts the copies',
        CopyWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        names.get("__name__", "<unknown>"),
        names.setdefault("__warningregistry__", {}),
    )


def _place() -> FrameType:
    """Return the innermost frame of a user, or the outermost of all."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _package(frame.f_globals) in _MACHINERY:
        frame = frame.f_back
    return frame


def _package(names: dict[str, Any]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
