# pyright: reportPrivateUsage=false
# ruff: noqa: PLR0917  (SciPy's own signatures are as they are)
"""Calls that the native module leaves to us: arguments to be converted, errors in SciPy's words, longdouble.

What is converted goes to the native module again, so there is one engine. Only longdouble, for which no processor has
vectors, is NumPy's own work, in NumPy's long double precision.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import DTypeLike

from .. import _arrays
from .._native import FftPlan, FftTransform, fft_transform

_REAL: dict[str, np.dtype[Any]] = {"F": np.dtype("f"), "D": np.dtype("d"), "G": np.dtype("g")}
LONG = (np.dtype(np.longdouble), np.dtype(np.clongdouble))
Array = np.ndarray[Any, np.dtype[Any]]

# Bound now: a program that puts our functions in the place of NumPy's gets no circle.
_numpy: dict[str, Callable[..., Array]] = {name: getattr(np.fft, name) for name in ("fft", "ifft", "rfft", "irfft")}


def fallback(
    transform: FftTransform,
    x: Any,
    s: Any,
    axes: Any,
    norm: Any,
    workers: Any,
    plan: Any,
    out: Any,
    dtype: Any,
) -> Array:
    """Do what the native module did not, or raise what SciPy raises."""
    if plan is not None and not isinstance(plan, FftPlan):
        raise NotImplementedError(
            f"Passing a precomputed plan of another library is not supported: expected one of ndshare.fft, got {plan!r}"
        )
    a = as_numbers(x)
    if plan is not None:
        check_real(transform, a)
        return by_plan(
            transform, a, s, axes, check_norm(norm), count_workers(workers), cast("FftPlan", plan), out, dtype
        )
    request = asked_for(transform, a, s, axes, norm, workers)
    return nothing_to_do(transform, x, a, out) if request is None else request.go(out, dtype)


def in_ordinary_memory(
    transform: FftTransform, x: Any, s: Any, axes: Any, norm: Any, workers: Any, plan: FftPlan | None
) -> Array:
    """Do what a call asks for, whose arguments are in order, with a result that is not shared."""
    a = as_numbers(x)
    if plan is not None:
        out = np.empty(plan.result_shape, cast("Any", plan).result_dtype)
        return by_plan(transform, a, s, axes, check_norm(norm), count_workers(workers), plan, out, None)
    request = asked_for(transform, a, s, axes, norm, workers)
    if request is None:
        return nothing_to_do(transform, x, a, None)
    return request.go(np.empty(request.shape(), request.wanted(None, None)), None)


def asked_for(transform: FftTransform, a: Array, s: Any, axes: Any, norm: Any, workers: Any) -> Request | None:
    """Return what a call asks for, or None where no axis is to be transformed. Errors come in SciPy's order."""
    if transform.is_single:
        norm, count = check_norm(norm), count_workers(workers)
        check_real(transform, a)
        extent = one_axis(transform, a, s, axes)
    elif transform.family == "complex":
        extent = several_axes(transform, a, s, axes)
        count = count_workers(workers)
        if not extent.axes:
            return None
        norm = check_norm(norm)
    elif transform.family == "to half":
        check_real(transform, a)
        extent = several_axes(transform, a, s, axes)
        norm, count = check_norm(norm), count_workers(workers)
        check_some(extent.axes)
    else:
        extent = several_axes(transform, a, s, axes)
        check_some(extent.axes)
        norm, count = check_norm(norm), count_workers(workers)
    return Request(transform, a, extent, norm or "backward", count)


def check_real(transform: FftTransform, a: Array) -> None:
    """Raise for complex numbers where real ones are transformed."""
    if transform.family == "to half" and a.dtype.kind == "c":
        raise TypeError("x must be a real sequence")


def check_some(axes: list[int]) -> None:
    """Raise where no axis is left."""
    if not axes:
        raise ValueError("at least 1 axis must be transformed")


def as_numbers(x: Any) -> Array:
    """Return `x` as an array of numbers in this machine's byte order, float16 as float32, the unusual as float64."""
    a = np.asarray(x)
    if a.dtype.kind == "f" and a.dtype.itemsize == 2:
        # In whatever byte order.
        return a.astype(np.float32)
    if a.dtype.kind not in "fcbiu":
        return np.asarray(a, np.float64)
    return np.asarray(a, a.dtype.newbyteorder("="))


def check_norm(norm: Any) -> str | None:
    """Raise for what is no norm."""
    try:
        known = norm is None or norm in {"backward", "ortho", "forward"}
    except ValueError:
        known = False
    if not known:
        raise ValueError(f'Invalid norm value {norm!r}, should be "backward", "ortho" or "forward"')
    return norm


def count_workers(workers: Any) -> int | None:
    """Return a number of threads; negative numbers count from the number of CPUs."""
    if workers is None:
        return None
    cpus = os.cpu_count() or 1
    workers = operator.index(workers)
    if workers == 0:
        raise ValueError("workers must not be zero")
    if workers < -cpus:
        raise ValueError(f"workers value out of range; got {workers}, must not be less than {-cpus}")
    return workers if workers > 0 else workers + 1 + cpus


class Extent(NamedTuple):
    """The axes of a transform, counted from 0, the length along each of them, and the shape of the result."""

    axes: list[int]
    lengths: list[int]
    shape: list[int]


def one_axis(transform: FftTransform, a: Array, n: Any, axis: Any) -> Extent:
    """Return the extent of a function that has one axis."""
    axis = operator.index(axis)
    lengths = None if n is None else [operator.index(n)]
    if not -a.ndim <= axis < a.ndim:
        # SciPy looks at the length first, and then for the axis.
        transform.extent((2,), lengths, (0,))
        raise IndexError("tuple index out of range")
    return Extent(*transform.extent(a.shape, lengths, (axis,)))


def several_axes(transform: FftTransform, a: Array, s: Any, axes: Any) -> Extent:
    """Return the extent of a function that has several axes."""
    places = None if axes is None else _ints(axes, "axes")
    if s is not None and places is not None:
        # SciPy looks at the axes first.
        transform.extent(tuple(max(n, 1) for n in a.shape), None, places)
    return Extent(*transform.extent(a.shape, None if s is None else _ints(s, "shape"), places))


def _ints(value: Any, name: str) -> list[int]:
    values = cast("Sequence[Any]", (value,) if isinstance(value, Number) else value)
    try:
        return [operator.index(item) for item in values]
    except TypeError as error:
        raise ValueError(f"{name} must be a scalar or iterable of integers") from error


def nothing_to_do(transform: FftTransform, x: Any, a: Array, out: Any) -> Array:
    """Return what a transform along no axis gives: `x` as it is."""
    if out is None:
        return cast("Array", x)
    check_out(out, a.shape, complex_of(a.dtype) if transform.family == "complex" else a.dtype)
    np.copyto(out, a)
    return out


def by_plan(
    transform: FftTransform,
    a: Array,
    s: Any,
    axes: Any,
    norm: Any,
    workers: int | None,
    plan: FftPlan,
    out: Any,
    dtype: Any,
) -> Array:
    """Follow a plan whose input had to be converted first."""
    done = fft_transform(transform, a, s, axes, norm, workers, plan, out, dtype)
    if done is None:
        extent = one_axis(transform, a, s, axes) if transform.is_single else several_axes(transform, a, s, axes)
        lengths, places = tuple(extent.lengths), tuple(extent.axes)
        done = fft_transform(transform, a, lengths, places, norm, workers, plan, out, dtype)
    if done is None:
        raise ValueError(f"{plan!r} cannot transform an array of shape {a.shape} and dtype {a.dtype}")
    return done


def complex_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the complex dtype of the precision that SciPy would use."""
    return np.result_type(dtype, np.complex64) if dtype.kind in "fc" else np.dtype(np.complex128)


def real_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the real dtype of the precision that SciPy would use."""
    return np.result_type(dtype, np.float32) if dtype.kind == "f" else _REAL[complex_of(dtype).char]


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise for an `out` that cannot take the result."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"return arrays must be of ArrayType: expected out to be an ndarray, got {type(out).__name__}")
    array = cast("Array", out)
    if array.shape != shape:
        raise ValueError(f"output array has wrong shape: expected {shape}, got {array.shape}")
    if not np.can_cast(dtype, array.dtype, "same_kind"):
        raise TypeError(f"Cannot cast the result from {dtype!r} to {array.dtype!r}: pass an out of dtype {dtype}")
    if not array.flags.writeable:
        raise ValueError(f"output array is read-only: expected a writable array of shape {shape}")


class Request(NamedTuple):
    """A transform whose arguments are in order."""

    transform: FftTransform
    a: Array
    extent: Extent
    norm: str
    workers: int | None

    def go(self, out: Any, dtype: DTypeLike | None) -> Array:
        """Transform."""
        wanted = self.wanted(out, dtype)
        if out is not None:
            check_out(out, self.shape(), wanted)
        if wanted in LONG or self.a.dtype in LONG:
            return self.deliver(self.long().astype(wanted, copy=False), out)
        done = self.ask(out, None) if out is not None and out.dtype == wanted else None
        if done is not None:
            return done
        done = self.ask(None, wanted)
        if done is None:
            raise TypeError(f"cannot transform an array of shape {self.a.shape} and dtype {self.a.dtype}")
        return self.deliver(done, out)

    def ask(self, out: Any, dtype: DTypeLike | None) -> Array | None:
        """Ask the native module again."""
        lengths, places = tuple(self.extent.lengths), tuple(self.extent.axes)
        return fft_transform(self.transform, self.a, lengths, places, self.norm, self.workers, None, out, dtype)

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the result."""
        return tuple(self.extent.shape)

    def wanted(self, out: Any, dtype: DTypeLike | None) -> np.dtype[Any]:
        """Return the dtype in which the result is made."""
        is_real = self.transform.family == "to real"
        usual = real_of(self.a.dtype) if is_real else complex_of(self.a.dtype)
        given = np.dtype(dtype).newbyteorder("=") if dtype is not None else None
        letter, words = (
            ("f", "float32, float64 or longdouble") if is_real else ("c", "complex64, complex128 or clongdouble")
        )
        if given is not None and (given.kind != letter or given.itemsize < 4):
            raise TypeError(f"expected the dtype of the result to be {words}, got {given}")
        if not isinstance(out, np.ndarray):
            return given or usual
        target = cast("Array", out).dtype.newbyteorder("=")
        if given is not None and given != target:
            raise TypeError(f"expected dtype to be that of out, {target}, got {given}: leave one of them out")
        return target if target.kind == letter and target.itemsize >= 4 else usual

    def long(self) -> Array:
        """Transform in long double precision, by NumPy's one-dimensional transforms."""
        forward = self.transform.is_forward
        name, norm = ("fft" if forward else "ifft"), self.norm
        a = self.a.astype(np.longdouble if self.a.dtype.kind != "c" else np.clongdouble)
        steps = list(zip(self.extent.lengths, self.extent.axes, strict=True))
        last, axis = steps[-1]
        if self.transform.family == "to half":
            # A half-spectrum with the other sign is the conjugate, scaled as the other direction is.
            a = _numpy["rfft"](a, last, axis, norm=norm if forward else _other(norm))
            a = a if forward else a.conj()
        if self.transform.family != "complex":
            steps.pop()
        for length, place in reversed(steps):
            a = _numpy[name](a, length, place, norm=norm)
        if self.transform.family == "to real":
            a = a.conj() if forward else a
            a = _numpy["irfft"](a, last, axis, norm=_other(norm) if forward else norm)
        return a

    def deliver(self, result: Array, out: Any) -> Array:
        """Put a result into `out`, or share it."""
        if out is None:
            return _arrays.asarray(result)
        np.copyto(out, result, casting="same_kind")
        return out


def _other(norm: str) -> str:
    return {"backward": "forward", "forward": "backward"}.get(norm, norm)
