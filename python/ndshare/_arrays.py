# pyright: reportPrivateUsage=false
"""Ways to make shared arrays, with NumPy's names and meanings. `empty` and `zeros` are native."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _items, _native
from ._native import Arena

Shape = SupportsIndex | Sequence[SupportsIndex]


def ones(
    shape: Shape,
    dtype: DTypeLike | None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array of ones; arguments and errors are those of `empty`.

    >>> import ndshare as nds
    >>> nds.ones((2, 2), "int8").sum()
    np.int64(4)
    """
    out = _native.empty(shape, dtype, order, align=align, arena=arena)
    np.copyto(out, 1, casting="unsafe")
    return out


def full(
    shape: Shape,
    fill_value: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "C",
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array filled with `fill_value`, which is broadcast and decides the dtype by default.

    Errors are those of `empty`, and ValueError when `fill_value` does not broadcast to `shape`.

    >>> import ndshare as nds
    >>> nds.full(3, 7)
    array([7, 7, 7])
    """
    if dtype is None:
        fill_value = np.asarray(fill_value)
        dtype = fill_value.dtype
    out = _native.empty(shape, dtype, order, align=align, arena=arena)
    np.copyto(out, fill_value, casting="unsafe")
    return out


def empty_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,  # noqa: ARG001
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array with the shape, dtype and memory order of `a`, and whatever bytes are there.

    `dtype`, `order` ('C', 'F', 'A', 'K') and `shape` override those of `a`. The result is a plain ndarray whatever
    `subok` says. Errors are those of `empty`.

    >>> import ndshare as nds, numpy as np
    >>> nds.empty_like(np.zeros((3, 4), "f4", order="F")).strides
    (4, 12)
    """
    return _like(np.asarray(a), dtype, order, shape, align, arena)


def zeros_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,  # noqa: ARG001
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array of zeros like `a`; the rest is as in `empty_like`.

    >>> import ndshare as nds
    >>> nds.zeros_like([1, 2, 3])
    array([0, 0, 0])
    """
    return _like(np.asarray(a), dtype, order, shape, align, arena, zero=True)


def ones_like(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,  # noqa: ARG001
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array of ones like `a`; the rest is as in `empty_like`.

    >>> import ndshare as nds
    >>> nds.ones_like([1.5, 2.5])
    array([1., 1.])
    """
    out = _like(np.asarray(a), dtype, order, shape, align, arena)
    np.copyto(out, 1, casting="unsafe")
    return out


def full_like(  # noqa: PLR0917
    a: ArrayLike,
    fill_value: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str = "K",
    subok: bool = True,  # noqa: ARG001
    shape: Shape | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a new shared array like `a`, filled with `fill_value`; the rest is as in `empty_like`.

    >>> import ndshare as nds
    >>> nds.full_like([1, 2], 9)
    array([9, 9])
    """
    out = _like(np.asarray(a), dtype, order, shape, align, arena)
    np.copyto(out, fill_value, casting="unsafe")
    return out


def array(
    object: ArrayLike,  # noqa: A002
    dtype: DTypeLike | None = None,
    *,
    copy: bool | None = True,
    order: str | None = "K",
    ndmin: int = 0,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return a shared copy of `object`: an array, or anything that NumPy makes one of.

    With ``copy=None`` an array that is shared already, at a multiple of `align` bytes and in `arena` if one is
    given, comes back as it is; ``copy=False`` raises ValueError where a copy would be needed. `dtype`, `order` and
    `ndmin` are NumPy's. Further errors are those of `empty`.

    >>> import ndshare as nds
    >>> nds.array([[1, 2], [3, 4]], "uint8").nbytes
    4
    """
    order = _order_name("K" if order is None else order)
    source, wanted = _source(object, dtype, order, ndmin)
    as_asked = wanted == source.dtype and _lies_in_order(source, order)
    if not copy and as_asked and _native.is_placed(source, align, arena):
        return source
    if copy is not None and not copy:
        raise ValueError(
            f"expected a shared array that lies as asked for, since copy=False, got one of shape {source.shape} "
            "that needs a copy: pass copy=None"
        )
    out = _like(source, wanted, order, None, align, arena)
    np.copyto(out, source, casting="unsafe")
    return out


def asarray(
    a: ArrayLike,
    dtype: DTypeLike | None = None,
    order: str | None = None,
    *,
    align: int = 64,
    arena: Arena | None = None,
) -> NDArray[Any]:
    """Return `a` itself if it is shared already, at a multiple of `align` bytes, else a shared copy.

    `dtype` and `order` are NumPy's; `arena` asks for an array in that arena. Errors are those of `empty`.

    >>> import ndshare as nds
    >>> a = nds.asarray([1, 2, 3])
    >>> nds.asarray(a) is a
    True
    """
    return array(a, dtype, copy=None, order=order, align=align, arena=arena)


def _source(object_: ArrayLike, dtype: DTypeLike | None, order: str, ndmin: int) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return an array to copy from, without an extra copy if possible, and the dtype that is wanted."""
    if not isinstance(object_, np.ndarray):
        made = np.array(object_, dtype=dtype, copy=None, order=cast("Any", order), ndmin=ndmin)
        return made, made.dtype
    _items.check(cast("NDArray[Any]", object_))
    source: NDArray[Any] = np.array(cast("NDArray[Any]", object_), copy=None, ndmin=ndmin)
    if dtype is None:
        return source, source.dtype
    wanted = np.dtype(dtype)
    if _is_open_ended(wanted) or source.dtype.hasobject:
        # What such a dtype becomes depends on the values.
        source = np.array(source, dtype=wanted, copy=None)
        return source, source.dtype
    return source, wanted


def _is_open_ended(dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize == 0 or dtype.subdtype is not None or dtype.str[1:] in {"M8", "m8"}


def _lies_in_order(a: NDArray[Any], order: str) -> bool:
    if order == "C":
        return a.flags.c_contiguous
    return order != "F" or a.flags.f_contiguous


def _like(  # noqa: PLR0917
    a: NDArray[Any],
    dtype: DTypeLike | None,
    order: str | None,
    shape: Shape | None,
    align: int,
    arena: Arena | None,
    zero: bool = False,
) -> NDArray[Any]:
    lengths = a.shape if shape is None else _lengths(shape)
    if dtype is None:
        dtype = a.dtype
    layout = _layout(a, len(lengths), _order_name("K" if order is None else order))
    if isinstance(layout, str):
        make = _native.zeros if zero else _native.empty
        return make(lengths, dtype, layout, align=align, arena=arena)
    return _native.empty_in_order(lengths, dtype, layout, align, arena, zero)


def _lengths(shape: Shape) -> tuple[SupportsIndex, ...]:
    if isinstance(shape, Sequence) or np.iterable(shape):
        return tuple(cast("Sequence[SupportsIndex]", shape))
    return (operator.index(shape),)


def _order_name(order: str) -> str:
    name = order.upper()
    if name not in {"C", "F", "A", "K"}:
        raise ValueError(f"order must be one of 'C', 'F', 'A', or 'K' (got {order!r})")
    return name


def _layout(a: NDArray[Any], ndim: int, order: str) -> str | list[int]:
    """Return 'C', 'F', or the axes from the outermost to the innermost, as NumPy decides it for 'A' and 'K'."""
    if order in {"C", "F"}:
        return order
    if order == "A":
        return "F" if a.flags.fnc else "C"
    if ndim != a.ndim or a.flags.c_contiguous or ndim <= 1:
        return "C"
    if a.flags.f_contiguous:
        return "F"
    return sorted(range(ndim), key=lambda axis: -abs(a.strides[axis]))


for _function in (ones, full, empty_like, zeros_like, ones_like, full_like, array, asarray):
    _function.__module__ = "ndshare"
