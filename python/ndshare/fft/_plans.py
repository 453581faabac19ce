# pyright: reportPrivateUsage=false
"""Plans: a transform of many frames of one shape and dtype, prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from .._native import FftPlan
from ._odd import as_numbers, check_norm, complex_of, count_workers, real_of

KINDS = {"rfft2": 2, "irfft2": 5, "fft2": 0, "ifft2": 1}


class Plan(FftPlan):
    """A transform of frames of one shape and dtype along their last two axes: `plan(frame, out=None, workers=None)`.

    It is made by `plan_rfft2` and its kin. Two plans are equal when they do the same. A plan goes to other processes by
    any pickler, as what it was made from, and may be called by several threads at once. It is also what the functions
    take as `plan=`, those of `scipy.fft` included when ndshare is their backend.

    Attributes: `shape` and `dtype` of frames, `result_shape` and `result_dtype`, `name` and `norm` of the transform.

    Raises ValueError for a frame or an `out` of another shape or dtype.
    """

    name: str
    norm: str
    dtype: np.dtype[Any]
    result_dtype: np.dtype[Any]
    _made_from: tuple[Any, ...]

    def __new__(  # noqa: PLR0917
        cls,
        name: str,
        image: tuple[int, ...],
        dtype: np.dtype[Any],
        result_dtype: np.dtype[Any],
        norm: str,
        workers: int | None,
    ) -> Plan:
        shape = (*image[:-1], image[-1] // 2 + 1) if name == "irfft2" else image
        axes = [len(image) - 2, len(image) - 1]
        plan = super().__new__(cls, KINDS[name], shape, dtype, result_dtype, axes, list(image[-2:]), norm, workers)
        plan.name, plan.norm, plan.dtype, plan.result_dtype = name, norm, dtype, result_dtype
        plan._made_from = (name, image, dtype, result_dtype, norm, workers)
        return plan

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, self._made_from

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._made_from == other._made_from

    def __hash__(self) -> int:
        return hash(self._made_from)

    def __repr__(self) -> str:
        return f"<Plan {self.name} {self.shape} {self.dtype} to {self.result_shape} {self.result_dtype}>"


Shape = Sequence[SupportsIndex]


def _plan(  # noqa: PLR0917
    name: str, shape: Shape, dtype: DTypeLike, result_dtype: DTypeLike | None, norm: str | None, workers: int | None
) -> Plan:
    image = tuple(int(length) for length in shape)
    if len(image) < 2 or min(image) < 1:
        raise ValueError(f"expected a shape of 2 or more axes, none of them empty, got {image}")
    given = np.dtype(dtype)
    if as_numbers(np.empty(0, given)).dtype != given:
        raise TypeError(f"expected the dtype of frames to be a number in this machine's byte order, got {given}")
    usual = real_of(given) if name == "irfft2" else complex_of(given)
    result = usual if result_dtype is None else np.dtype(result_dtype)
    return Plan(name, image, given, result, check_norm(norm) or "backward", count_workers(workers))


def plan_rfft2(
    shape: Shape,
    dtype: DTypeLike = np.float64,
    result_dtype: DTypeLike | None = None,
    *,
    norm: str | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan `rfft2` of frames of one shape and dtype along their last two axes.

    `result_dtype` is complex64 or complex128; by default it is that of `rfft2`. `workers` is the number of threads of
    each call; None picks by size and CPUs.

    >>> import ndshare as nds
    >>> plan = nds.fft.plan_rfft2((1080, 1920), "uint16", "complex64")
    >>> spectrum = nds.empty(plan.result_shape, plan.result_dtype)
    >>> plan(nds.ones((1080, 1920), "uint16"), out=spectrum) is spectrum
    True
    """
    return _plan("rfft2", shape, dtype, result_dtype, norm, workers)


def plan_irfft2(
    shape: Shape,
    dtype: DTypeLike = np.complex128,
    result_dtype: DTypeLike | None = None,
    *,
    norm: str | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan `irfft2` to real images of `shape`, from half-spectra of shape (..., rows, columns // 2 + 1).

    So it undoes the plan that `plan_rfft2` makes with the same shape. The other arguments are those of `plan_rfft2`.

    >>> import ndshare as nds
    >>> nds.fft.plan_irfft2((1080, 1921), "complex64")
    <Plan irfft2 (1080, 961) complex64 to (1080, 1921) float32>
    """
    return _plan("irfft2", shape, dtype, result_dtype, norm, workers)


def plan_fft2(
    shape: Shape,
    dtype: DTypeLike = np.complex128,
    result_dtype: DTypeLike | None = None,
    *,
    norm: str | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan `fft2` of frames of one shape and dtype; arguments are those of `plan_rfft2`."""
    return _plan("fft2", shape, dtype, result_dtype, norm, workers)


def plan_ifft2(
    shape: Shape,
    dtype: DTypeLike = np.complex128,
    result_dtype: DTypeLike | None = None,
    *,
    norm: str | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan `ifft2` of frames of one shape and dtype; arguments are those of `plan_rfft2`."""
    return _plan("ifft2", shape, dtype, result_dtype, norm, workers)
