# pyright: reportPrivateUsage=false
"""Frequencies, shifts, and lengths that are fast."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, SupportsIndex, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arrays, _native

if TYPE_CHECKING:
    from .._native import _ArrayOf, _Told

    _Axes = SupportsIndex | Sequence[int] | None

_fftfreq, _rfftfreq = np.fft.fftfreq, np.fft.rfftfreq


@overload
def fftfreq(n: int, d: float = 1.0, *, xp: None = None, device: None = None) -> NDArray[np.float64]: ...
@overload
def fftfreq(n: int, d: float = 1.0, *, xp: Any, device: Any = None) -> Any: ...
def fftfreq(n: int, d: float = 1.0, *, xp: Any = None, device: Any = None) -> Any:
    """Return the frequencies of the items of a spectrum of length `n`, in cycles per unit of the spacing `d`.

    `xp` is another library's namespace, whose `fft.fftfreq` is called then, and `device` is for that.

    >>> import ndshare as nds
    >>> nds.fft.fftfreq(4, 0.5)
    array([ 0. ,  0.5, -1. , -0.5])
    """
    if xp is not None and xp is not np:
        return xp.fft.fftfreq(n, d=d, device=device)
    _refuse(device)
    return _fftfreq(n, d)


@overload
def rfftfreq(n: int, d: float = 1.0, *, xp: None = None, device: None = None) -> NDArray[np.float64]: ...
@overload
def rfftfreq(n: int, d: float = 1.0, *, xp: Any, device: Any = None) -> Any: ...
def rfftfreq(n: int, d: float = 1.0, *, xp: Any = None, device: Any = None) -> Any:
    """Return the frequencies of the items of a half-spectrum; arguments are those of `fftfreq`.

    >>> import ndshare as nds
    >>> nds.fft.rfftfreq(4, 0.5)
    array([0. , 0.5, 1. ])
    """
    if xp is not None and xp is not np:
        return xp.fft.rfftfreq(n, d=d, device=device)
    _refuse(device)
    return _rfftfreq(n, d)


def _refuse(device: Any) -> None:
    if device is not None:
        raise ValueError("device parameter is not supported for input array type")


@overload
def fftshift(x: _ArrayOf[_Told], axes: _Axes = None) -> NDArray[_Told]: ...
@overload
def fftshift(x: ArrayLike, axes: _Axes = None) -> NDArray[Any]: ...
def fftshift(x: Any, axes: _Axes = None) -> NDArray[Any]:
    """Return a shared copy of a spectrum with frequency 0 in the middle of `axes` (of all by default).

    >>> import ndshare as nds
    >>> nds.fft.fftshift([0, 1, 2, -2, -1])
    array([-2, -1,  0,  1,  2])
    """
    return _shifted(x, axes, 0)


@overload
def ifftshift(x: _ArrayOf[_Told], axes: _Axes = None) -> NDArray[_Told]: ...
@overload
def ifftshift(x: ArrayLike, axes: _Axes = None) -> NDArray[Any]: ...
def ifftshift(x: Any, axes: _Axes = None) -> NDArray[Any]:
    """Return a shared copy with the middle at the start; undoes `fftshift` also for odd lengths.

    >>> import ndshare as nds
    >>> nds.fft.ifftshift([-2, -1, 0, 1, 2])
    array([ 0,  1,  2, -2, -1])
    """
    return _shifted(x, axes, 1)


def _shifted(x: ArrayLike, axes: Any, rounded: int) -> NDArray[Any]:
    a = np.asarray(x)
    which: tuple[int, ...] = tuple(range(a.ndim)) if axes is None else _axes(axes)
    # An axis that is named twice is shifted twice, as in NumPy.
    times = Counter(axis % a.ndim if -a.ndim <= axis < a.ndim else _no_axis(axis, a.ndim) for axis in which)
    out = _arrays.empty_like(a)
    # What was before the middle of an axis goes to its end, and the rest to its start.
    parts = [
        _halves(length, times[axis] * ((length + rounded) // 2)) if times[axis] else [(slice(None), slice(None))]
        for axis, length in enumerate(a.shape)
    ]
    for part in product(*parts):
        # The ellipsis keeps an array an array where there are no axes.
        to: Any = (*(halves[0] for halves in part), ...)
        source: Any = (*(halves[1] for halves in part), ...)
        _native.copyto(out[to], a[source])
    return out


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(map(operator.index, cast("Sequence[int]", axes))) if np.iterable(axes) else (operator.index(axes),)


def _no_axis(axis: int, ndim: int) -> int:
    raise np.exceptions.AxisError(axis, ndim)


def _halves(length: int, shift: int) -> list[tuple[slice, slice]]:
    """Return where the two parts of an axis go that is rolled by `shift` items, and whence they come."""
    shift %= max(1, length)
    return [(slice(shift, None), slice(0, length - shift)), (slice(0, shift), slice(length - shift, None))]


# SciPy's bound.
_MOST = (2**64 - 1) // 11


def _smooth(target: int, primes: tuple[int, ...]) -> int:
    """Return the smallest product of such primes that is `target` or more."""
    products = [1]
    best = 1 << (target - 1).bit_length()
    for prime in primes:
        for value in products:
            # The list grows while it is walked through.
            if (larger := value * prime) < best:
                products.append(larger)
        best = min([best, *(value for value in products if value >= target)])
    return best


def next_fast_len(target: int, real: bool = False) -> int:
    """Return the smallest length from `target` on that is fast to transform, as SciPy does.

    That is a product of 2, 3 and 5 if one side is `real`, and otherwise of 2, 3, 5, 7 and 11.

    >>> import ndshare as nds
    >>> nds.fft.next_fast_len(1013), nds.fft.next_fast_len(1013, real=True)
    (1024, 1024)
    """
    length = operator.index(target)
    if length < 0:
        raise ValueError("Target cannot be negative")
    if length > _MOST:
        raise ValueError("Target length is too large to perform an FFT")
    return length if length < 2 else _smooth(length, (2, 3, 5) if real else (2, 3, 5, 7, 11))
