"""Arrays that are more than their items: what of them would be lost in silence is refused, with what to do instead.

A shared array, a frame of a ring and a value of a cache are items, shape and dtype. Of NumPy's classes a masked array
has something beside these that changes what the items mean; of other libraries' those with a unit.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def check(array: Array) -> None:
    """Raise TypeError for an array of a subclass whose items alone would mean something else."""
    if (found := beside(array)) is not None:
        raise TypeError(f"expected an array that its items say all of, got {found}")


def beside(array: Array) -> str | None:
    """Return in words what an array has beside its items, and what to do; None for one that its items say all of."""
    cls = type(array)
    if cls is np.ndarray:
        return None
    if (masked := _masked(array)) is not None:
        return masked
    # Attributes of NumPy's and our own classes may be fields of the items.
    if cls.__module__.partition(".")[0] in {"numpy", "ndshare"}:
        return None
    for name in ("unit", "units"):
        unit = getattr(array, name, None) if hasattr(cls, name) or name in getattr(array, "__dict__", ()) else None
        if unit is not None and str(unit) not in {"", "dimensionless"}:
            return (
                f"{cls.__name__} in {unit}, and the unit would be lost: pass np.asarray(x) for the numbers, and say "
                "the unit elsewhere, as in meta or in a key"
            )
    return None


def _masked(array: Array) -> str | None:
    """Return what is to be said of a masked array of which items are masked."""
    # Whose module is not imported is the class of nothing.
    module: Any = sys.modules.get("numpy.ma.core")
    if module is None or not isinstance(array, module.MaskedArray):
        return None
    mask: Any = module.getmask(array)
    count = 0 if mask is module.nomask else int(np.ascontiguousarray(mask).view(np.bool_).sum())
    if not count:
        return None
    return (
        f"a masked array, {count} of whose items are masked, and the mask would be lost: pass x.filled(value), or "
        "x.data and np.ma.getmaskarray(x) as two arrays"
    )
