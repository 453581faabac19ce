# pyright: reportPrivateUsage=false
# ruff: noqa: PLR0917  (SciPy's own signatures are as they are)
"""The transforms, with SciPy's names, signatures and meanings, and `out` and `dtype` beside them.

Each asks the native module first. That answers ordinary calls; for all others `fallback` converts the arguments, or
finds SciPy's words for what is wrong with them. The first argument of both says which transform it is.

Arguments that all functions have:

- `x`: any array, shared or not, read-only or not, of any layout; or what NumPy makes one of. It is never changed.
- `n`, `s`: the length of the transform along its axis, or axes; `x` is cropped, or padded with zeros, at its end.
- `axis`, `axes`: where to transform; negative numbers count from the end.
- `norm`: "backward" (None) scales inverse transforms by 1/n, "forward" forward ones, "ortho" both by 1/sqrt(n).
- `overwrite_x`: is accepted, and changes nothing.
- `workers`: how many threads work; None picks by size and CPUs, negative numbers count from the number of CPUs.
- `plan`: a plan of this module for just this transform.
- `out`: the array for the result; without it the result is a new shared array.
- `dtype`: of the result, complex64 or complex128 (float32 or float64 where the result is real). By default as in SciPy:
  single precision for float16, float32 and complex64, double for other numbers, longdouble for longdouble.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._native import FftPlan, FftTransform
from .._native import fft_transform as _transform
from ._fallback import fallback

# Made once: a call hands one over as it is.
_FFT = FftTransform("fft")
_IFFT = FftTransform("ifft")
_RFFT = FftTransform("rfft")
_IRFFT = FftTransform("irfft")
_HFFT = FftTransform("hfft")
_IHFFT = FftTransform("ihfft")
_FFT2 = FftTransform("fft2")
_IFFT2 = FftTransform("ifft2")
_RFFT2 = FftTransform("rfft2")
_IRFFT2 = FftTransform("irfft2")
_HFFT2 = FftTransform("hfft2")
_IHFFT2 = FftTransform("ihfft2")
_FFTN = FftTransform("fftn")
_IFFTN = FftTransform("ifftn")
_RFFTN = FftTransform("rfftn")
_IRFFTN = FftTransform("irfftn")
_HFFTN = FftTransform("hfftn")
_IHFFTN = FftTransform("ihfftn")

Lengths = SupportsIndex | Sequence[SupportsIndex] | None


def fft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the discrete Fourier transform along one axis.

    Arguments and errors are those of `scipy.fft.fft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.fft([1, 0, 0, 0])
    array([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    done = _transform(_FFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_FFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def ifft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `fft` along one axis.

    Arguments and errors are those of `scipy.fft.ifft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ifft([4, 0, 0, 0]).real
    array([1., 1., 1., 1.])
    """
    done = _transform(_IFFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_IFFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def rfft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the half-spectrum (n // 2 + 1 numbers) of a real array along one axis.

    Arguments and errors are those of `scipy.fft.rfft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.rfft([1, 2, 3, 4]).real
    array([10., -2., -2.])
    """
    done = _transform(_RFFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_RFFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def irfft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real array whose half-spectrum along one axis is `x`; n is 2 * (m - 1) by default.

    Arguments and errors are those of `scipy.fft.irfft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.irfft([10, -2 + 2j, -2])
    array([1., 2., 3., 4.])
    """
    done = _transform(_IRFFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_IRFFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def hfft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real spectrum of an array with Hermitian symmetry, of which `x` is the first half.

    Arguments and errors are those of `scipy.fft.hfft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.hfft([1, 2, 1])
    array([ 6.,  0., -2.,  0.])
    """
    done = _transform(_HFFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_HFFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def ihfft(
    x: ArrayLike,
    n: int | None = None,
    axis: int = -1,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `hfft` along one axis: half of the inverse transform of a real array.

    Arguments and errors are those of `scipy.fft.ihfft`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ihfft([6, 0, -2, 0]).real
    array([1., 2., 1.])
    """
    done = _transform(_IHFFT, x, n, axis, norm, workers, plan, out, dtype)
    return fallback(_IHFFT, x, n, axis, norm, workers, plan, out, dtype) if done is None else done


def fft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the discrete Fourier transform along two axes.

    Arguments and errors are those of `scipy.fft.fft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.fft2([[1, 2], [3, 5]]).real
    array([[11., -3.],
           [-5.,  1.]])
    """
    done = _transform(_FFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_FFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def ifft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `fft2` along two axes.

    Arguments and errors are those of `scipy.fft.ifft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ifft2([[11, -3], [-5, 1]]).real
    array([[1., 2.],
           [3., 5.]])
    """
    done = _transform(_IFFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IFFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def rfft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the half-spectrum of a real array along two axes, of which the last is halved.

    Arguments and errors are those of `scipy.fft.rfft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> frame = nds.ones((1080, 1920), "uint16")
    >>> half = nds.fft.rfft2(frame, dtype="complex64")
    >>> half.shape, half.dtype, nds.is_shared(half)
    ((1080, 961), dtype('complex64'), True)
    """
    done = _transform(_RFFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_RFFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def irfft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real array whose half-spectrum along two axes, of which the last is halved, is `x`.

    Arguments and errors are those of `scipy.fft.irfft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.irfft2([[10, -2], [-4, 0]])
    array([[1., 2.],
           [3., 4.]])
    """
    done = _transform(_IRFFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IRFFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def hfft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real spectrum of an array with Hermitian symmetry, of which `x` is the first half.

    Arguments and errors are those of `scipy.fft.hfft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.hfft2([[1, 2], [3, 4]])
    array([[10., -2.],
           [-4.,  0.]])
    """
    done = _transform(_HFFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_HFFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def ihfft2(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = (-2, -1),
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `hfft2` along two axes: half of the inverse transform of a real array.

    Arguments and errors are those of `scipy.fft.ihfft2`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ihfft2([[1, 2], [3, 5]]).real
    array([[ 2.75, -0.75],
           [-1.25,  0.25]])
    """
    done = _transform(_IHFFT2, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IHFFT2, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def fftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the discrete Fourier transform along several axes, all by default.

    Arguments and errors are those of `scipy.fft.fftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.fftn([[1, 2], [3, 5]]).real
    array([[11., -3.],
           [-5.,  1.]])
    """
    done = _transform(_FFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_FFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def ifftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `fftn` along several axes, all by default.

    Arguments and errors are those of `scipy.fft.ifftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ifftn([[11, -3], [-5, 1]]).real
    array([[1., 2.],
           [3., 5.]])
    """
    done = _transform(_IFFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IFFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def rfftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the half-spectrum of a real array along several axes, all by default; the last is halved.

    Arguments and errors are those of `scipy.fft.rfftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.rfftn([[1, 2], [3, 5]]).real
    array([[11., -3.],
           [-5.,  1.]])
    """
    done = _transform(_RFFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_RFFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def irfftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real array whose half-spectrum is `x`, along several axes, all by default; the last is halved.

    Arguments and errors are those of `scipy.fft.irfftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.irfftn([[10, -2], [-4, 0]])
    array([[1., 2.],
           [3., 4.]])
    """
    done = _transform(_IRFFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IRFFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def hfftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the real spectrum of an array with Hermitian symmetry, of which `x` is the first half.

    Arguments and errors are those of `scipy.fft.hfftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.hfftn([[1, 2], [3, 4]])
    array([[10., -2.],
           [-4.,  0.]])
    """
    done = _transform(_HFFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_HFFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done


def ihfftn(
    x: ArrayLike,
    s: Lengths = None,
    axes: Lengths = None,
    norm: str | None = None,
    overwrite_x: bool = False,  # noqa: ARG001
    workers: int | None = None,
    *,
    plan: FftPlan | None = None,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Return the inverse of `hfftn` along several axes, all by default: half of the inverse transform of a real array.

    Arguments and errors are those of `scipy.fft.ihfftn`, and `out` and `dtype`: see `ndshare.fft`.

    >>> import ndshare as nds
    >>> nds.fft.ihfftn([[1, 2], [3, 5]]).real
    array([[ 2.75, -0.75],
           [-1.25,  0.25]])
    """
    done = _transform(_IHFFTN, x, s, axes, norm, workers, plan, out, dtype)
    return fallback(_IHFFTN, x, s, axes, norm, workers, plan, out, dtype) if done is None else done
