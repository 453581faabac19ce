# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""SciPy's backend protocol: whoever calls `scipy.fft` gets our transforms, and SciPy's where we have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _functions

NAMES = tuple(f"{prefix}fft{suffix}" for suffix in ("", "2", "n") for prefix in ("", "i", "r", "ir", "h", "ih"))
_ours: dict[str, Callable[..., Any]] = {name: getattr(_functions, name) for name in NAMES}

__ua_domain__ = "numpy.scipy.fft"


def __ua_function__(method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: N807
    """Answer a call of `scipy.fft`, or NotImplemented for what is not ours."""
    function = _ours.get(method.__name__)
    x = args[0] if args else kwargs.get("x")
    if function is None or _is_foreign(x):
        return NotImplemented
    if len(args) < 6 and kwargs.get("workers") is None:
        # SciPy's default, which `scipy.fft.set_workers` sets.
        from scipy.fft import get_workers  # type: ignore[import-untyped,unused-ignore]

        kwargs = {**kwargs, "workers": get_workers()}
    return function(*args, **kwargs)


def _is_foreign(x: Any) -> bool:
    """Whether this is another library's array, whose results must be that library's."""
    return not isinstance(x, np.ndarray | np.generic) and hasattr(x, "__array_namespace__")


def install() -> None:
    """Let `scipy.fft` use these transforms, everywhere in this process; SciPy does what is not here.

    Needs SciPy; else ImportError. `uninstall` undoes it.
    """
    import scipy.fft  # type: ignore[import-untyped,unused-ignore]

    from ndshare import fft

    scipy.fft.register_backend("scipy")
    scipy.fft.set_global_backend(fft)


def uninstall() -> None:
    """Let `scipy.fft` use SciPy's own transforms again."""
    import scipy.fft  # type: ignore[import-untyped,unused-ignore]

    scipy.fft.set_global_backend("scipy", try_last=True)
