# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""SciPy's backend protocol: whoever calls `scipy.fft` gets our transforms, and SciPy's where we have none.

The caller wrote a program for SciPy, so it works whatever becomes of shared memory: where there is no room for a
result it goes into ordinary memory, and that is counted. And SciPy, or another backend, serves whatever is not surely
an array of NumPy's or what SciPy itself makes one of, such as a list.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

from .. import _native
from .._errors import Error
from .._ring import Frame
from . import _functions
from ._fallback import in_ordinary_memory

NAMES = tuple(f"{prefix}fft{suffix}" for suffix in ("", "2", "n") for prefix in ("", "i", "r", "ir", "h", "ih"))
_ours: dict[str, Callable[..., Any]] = {name: getattr(_functions, name) for name in NAMES}
_transforms = {name: _native.FftTransform(name) for name in NAMES}
_signatures = {name: signature(function) for name, function in _ours.items()}
# Subclasses of ndarray may have transforms, units or masks of their own; these have not.
_PLAIN = (np.ndarray, np.memmap, np.recarray, Frame, list, tuple, int, float, complex, bool)

__ua_domain__ = "numpy.scipy.fft"


def __ua_function__(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: N807
    """Answer a call of `scipy.fft`, or NotImplemented for what is not ours."""
    function = _ours.get(method.__name__)
    x = args[0] if args else kwargs.get("x")
    if function is None or not (type(x) in _PLAIN or isinstance(x, np.generic)):
        return NotImplemented
    if len(args) < 6 and kwargs.get("workers") is None:
        # SciPy's default, which `scipy.fft.set_workers` sets.
        from scipy.fft import get_workers  # type: ignore[import-untyped,unused-ignore]

        kwargs = {**kwargs, "workers": get_workers()}
    try:
        return function(*args, **kwargs)
    except Error:
        # The arena is full, or out of reach. Whichever it is, SciPy would not have failed.
        return _elsewhere(method.__name__, args, kwargs)


def _elsewhere(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do the same in ordinary memory, and count it."""
    given = _signatures[name].bind(*args, **kwargs)
    given.apply_defaults()
    x, s, axes, norm, _, workers, plan = list(given.arguments.values())[:7]
    result = in_ordinary_memory(_transforms[name], x, s, axes, norm, workers, plan)
    _native.fft_fell_back(np.asarray(result).nbytes)
    return result


def info() -> dict[str, int]:
    """Return counts of this process: results that SciPy's callers got in ordinary memory, because the arena was full.

    "fallbacks" is how many, "fallback_bytes" how large they were together. Calls of `ndshare.fft` itself raise
    ArenaFull instead, and take an `out=` in whatever memory.

    >>> import ndshare as nds
    >>> nds.fft.info()
    {'fallbacks': 0, 'fallback_bytes': 0}
    """
    fallbacks, fallback_bytes = _native.fft_fallbacks()
    return {"fallbacks": fallbacks, "fallback_bytes": fallback_bytes}


def install() -> None:
    """Let `scipy.fft` use these transforms, everywhere in this process; SciPy does what is not here.

    Where the arena has no room, results are in ordinary memory, as SciPy's own: `info` counts them. Needs SciPy; else
    ImportError. `uninstall` undoes it.

    >>> import ndshare as nds, scipy.fft
    >>> nds.fft.install()
    >>> nds.is_shared(scipy.fft.fft([1.0, 2.0, 3.0]))
    True
    >>> nds.fft.uninstall()
    """
    import scipy.fft  # type: ignore[import-untyped,unused-ignore]

    from ndshare import fft

    scipy.fft.register_backend("scipy")
    scipy.fft.set_global_backend(fft)


def uninstall() -> None:
    """Let `scipy.fft` use SciPy's own transforms again.

    >>> import ndshare as nds, scipy.fft
    >>> nds.fft.install()
    >>> nds.fft.uninstall()
    >>> nds.is_shared(scipy.fft.fft([1.0, 2.0, 3.0]))
    False
    """
    import scipy.fft  # type: ignore[import-untyped,unused-ignore]

    scipy.fft.set_global_backend("scipy", try_last=True)
