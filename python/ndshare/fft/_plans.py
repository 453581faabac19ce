# pyright: reportPrivateUsage=false
"""Plans: a transform of many frames of one shape and dtype, prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _arrays, _native
from .._generic import subscriptable
from .._native import FftFilter, FftPlan, FftTransform
from ._fallback import as_numbers, check_norm, complex_of, count_workers, real_of
from ._functions import rfft2

subscriptable(FftPlan)

Array = np.ndarray[Any, np.dtype[Any]]
_transforms = {name: FftTransform(name) for name in ("rfft2", "irfft2", "fft2", "ifft2")}


class Plan(FftPlan):
    """A transform of frames of one shape and dtype along their last two axes: `plan(frame, out=None, workers=None)`.

    It is made by `plan_rfft2` and its kin. Two plans are equal when they do the same. A plan goes to other processes by
    any pickler, as what it was made from, and may be called by several threads at once. It is also what the functions
    take as `plan=`, those of `scipy.fft` included when ndshare is their backend.

    Attributes: `shape` and `dtype` of frames, `result_shape` and `result_dtype`, `name` and `norm` of the transform.
    `explain()` tells how it is done on this machine: vectors, order of axes, and how each length is factored.

    Raises ValueError for a frame or an `out` of another shape or dtype.

    >>> import ndshare as nds, numpy as np
    >>> plan = nds.fft.plan_rfft2((4, 6), "uint16", "complex64")
    >>> plan, plan(np.ones((4, 6), "uint16"))[0, 0]
    (<Plan rfft2 (4, 6) uint16 to (4, 4) complex64>, np.complex64(24+0j))
    >>> plan.explain().split()[0] in ("axis", "axes")
    True
    """

    name: str
    norm: str
    workers: int | None
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
        plan = super().__new__(cls, _transforms[name], shape, dtype, result_dtype, image[-2:], norm, workers)
        plan.workers = workers
        plan.name, plan.norm, plan.dtype, plan.result_dtype = name, norm, dtype, result_dtype
        plan._made_from = (name, image, dtype, result_dtype, norm, workers)
        return plan

    def convolve(self, filter: ArrayLike) -> Convolution:  # noqa: A002
        """Return a filter of frames: `c(frame, out=)` is `irfft2(rfft2(frame) * half-spectrum)`.

        `filter` is a half-spectrum, complex and of the shape of this plan's results, or a real image that is
        transformed once: the kernel of a circular convolution, with its origin at (0, 0), padded with zeros. A real
        array of the shape of a half-spectrum could be meant as either, and is a ValueError.
        The plan must be for `rfft2` of planes with norm "backward"; else ValueError.

        >>> import ndshare as nds, numpy as np
        >>> c = nds.fft.plan_rfft2((4, 6), "uint16", "complex64").convolve([[0, 1]])
        >>> c(np.arange(24, dtype="uint16").reshape(4, 6))[0].round()
        array([5., 0., 1., 2., 3., 4.], dtype=float32)
        """
        return Convolution(self, filter)

    def __reduce__(self) -> tuple[Any, ...]:
        return Plan, self._made_from

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._made_from == other._made_from

    def __hash__(self) -> int:
        return hash(self._made_from)

    def __repr__(self) -> str:
        return f"<Plan {self.name} {self.shape} {self.dtype} to {self.result_shape} {self.result_dtype}>"


class Convolution:
    """A filter of frames: `c(frame, out=None, *, spectrum_out=None, workers=None)`. Made by `Plan.convolve`.

    The result is real, of the shape of the frame and the precision of the plan. A convolution goes to other processes
    by any pickler; `multiprocessing` passes its half-spectrum by reference.

    Attributes: the `plan`, and the `spectrum` that its results are multiplied by (read-only).

    >>> import ndshare as nds, numpy as np
    >>> shift = nds.fft.plan_rfft2((1, 4), "uint8", "complex64").convolve([[0, 1]])
    >>> shift(np.array([[1, 2, 3, 4]], "uint8")).round()
    array([[4., 1., 2., 3.]], dtype=float32)
    """

    def __init__(self, plan: Plan, filter: ArrayLike) -> None:  # noqa: A002
        if plan.name != "rfft2" or plan.norm != "backward":
            raise ValueError(f'expected a plan for rfft2 with norm "backward", got {plan!r}, norm {plan.norm!r}')
        if len(plan.shape) != 2:
            raise ValueError(
                f"expected a plan for rfft2 of frames of 2 axes, got {len(plan.shape)} axes, {plan!r}: make one by "
                f"plan_rfft2({plan.shape[-2:]}, ...), and filter a stack plane by plane"
            )
        self.plan = plan
        self.spectrum = _spectrum(plan, np.asarray(filter))
        self.spectrum.flags.writeable = False
        self._engine = FftFilter.of(plan)
        self._back = None
        if self._engine is None:
            self._back = plan_irfft2(plan.shape, plan.result_dtype, workers=plan.workers)

    def __call__(
        self,
        frame: Array,
        /,
        out: Array | None = None,
        *,
        spectrum_out: Array | None = None,
        workers: int | None = None,
    ) -> Array:
        """Filter one frame, into `out` if that is given.

        The frame's own spectrum, which is made on the way, goes to `spectrum_out`: ``plan(frame)`` but for rounding. It
        is a writable array of the plan's `result_shape` and `result_dtype` that shares no memory with `frame` and
        `out`; else ValueError, and nothing is written.

        >>> import ndshare as nds, numpy as np
        >>> plan = nds.fft.plan_rfft2((4, 6), "uint16", "complex64")
        >>> frame, spectrum = nds.ones((4, 6), "uint16"), nds.empty(plan.result_shape, plan.result_dtype)
        >>> plan.convolve([[0, 1]])(frame, spectrum_out=spectrum)[0].round(), spectrum[0, 0]
        (array([1., 1., 1., 1., 1., 1.], dtype=float32), np.complex64(24+0j))
        """
        workers = count_workers(workers)
        if self._engine is not None:
            return self._engine(frame, self.spectrum, out, workers, spectrum_out)
        assert self._back is not None
        self._check_spectrum_out(frame, out, spectrum_out)
        between = self.plan(frame, out=spectrum_out, workers=workers)
        product = np.multiply(between, self.spectrum, out=between if spectrum_out is None else None)
        return self._back(product, out=out, workers=workers)

    def _check_spectrum_out(self, frame: Array, out: Array | None, given: Array | None) -> None:
        """Refuse what the engine refuses, before anything is written."""
        if given is None:
            return
        plan = self.plan
        is_right = given.shape == plan.result_shape and given.dtype == plan.result_dtype and given.flags.writeable
        if not is_right:
            access = "" if given.flags.writeable else "read-only "
            raise ValueError(
                "spectrum_out has wrong shape, dtype or layout: expected a writable array of shape "
                f"{list(plan.result_shape)}, {plan.result_dtype}, got {access}shape {list(given.shape)}, {given.dtype}"
            )
        if any(other is not None and np.may_share_memory(given, other) for other in (frame, out)):
            raise ValueError(
                "expected a spectrum_out that shares no memory with the frame and with out: give it memory of its own"
            )
        if out is not None and (out.shape != plan.shape or not out.flags.writeable):
            raise ValueError(
                f"output array has wrong shape, dtype or layout: expected a writable array of shape {list(plan.shape)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return Convolution, (self.plan, self.spectrum)

    def __repr__(self) -> str:
        return f"<Convolution of {self.plan.shape} {self.plan.dtype}>"


def _spectrum(plan: Plan, given: Array) -> Array:
    """Return a half-spectrum in memory of its own, or the one that was sent to this process."""
    if given.dtype.kind == "c":
        if given.shape != plan.result_shape:
            raise ValueError(f"expected a half-spectrum of shape {plan.result_shape}, got {given.shape}")
        is_sent = given.dtype == plan.result_dtype and not given.flags.writeable and _native.is_shared(given)
        return given if is_sent else _arrays.array(given, plan.result_dtype, order="C")
    if given.ndim != 2 or given.shape[0] > plan.shape[0] or given.shape[1] > plan.shape[1]:
        raise ValueError(f"expected a real image of at most shape {plan.shape}, or a half-spectrum, got {given.shape}")
    if given.shape == plan.result_shape != plan.shape:
        raise ValueError(
            f"expected a complex half-spectrum of shape {plan.result_shape} or a real image of another shape, got real "
            f"numbers of just that shape: pass filter.astype({plan.result_dtype}) for a half-spectrum, or pad the image"
        )
    # In double precision once, whatever frames are transformed in.
    return _arrays.array(rfft2(given, plan.shape, dtype=np.complex128), plan.result_dtype)


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
    """Plan `fft2` of frames of one shape and dtype; arguments are those of `plan_rfft2`.

    >>> import ndshare as nds
    >>> nds.fft.plan_fft2((4, 6), "complex64")
    <Plan fft2 (4, 6) complex64 to (4, 6) complex64>
    """
    return _plan("fft2", shape, dtype, result_dtype, norm, workers)


def plan_ifft2(
    shape: Shape,
    dtype: DTypeLike = np.complex128,
    result_dtype: DTypeLike | None = None,
    *,
    norm: str | None = None,
    workers: int | None = None,
) -> Plan:
    """Plan `ifft2` of frames of one shape and dtype; arguments are those of `plan_rfft2`.

    >>> import ndshare as nds
    >>> nds.fft.plan_ifft2((4, 6), "complex64")
    <Plan ifft2 (4, 6) complex64 to (4, 6) complex64>
    """
    return _plan("ifft2", shape, dtype, result_dtype, norm, workers)
