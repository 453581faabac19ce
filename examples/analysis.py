"""What is computed for each frame: a sharpened picture as a small tile, a power spectrum, and a focus measure.

Only the transforms differ from one way to the other, so they are all that an `Engine` has: `ndshare.fft` in one,
`scipy.fft` in the other, both in single precision and on one thread. The arithmetic around them is the same NumPy.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

import ndshare as nds
from microscope import FRAME_SHAPE, Frame

SHRINK = 8
TILE_SHAPE = (FRAME_SHAPE[0] // SHRINK, FRAME_SHAPE[1] // SHRINK)
SPECTRUM_SHAPE = (FRAME_SHAPE[0], FRAME_SHAPE[1] // 2 + 1)
SQUARES_SHAPE = (*SPECTRUM_SHAPE, 2)  # of the real and the imaginary parts; together they are the power

# The filter: structures below EDGE_PIXELS are lifted by BOOST, and what is finer than GRAIN_PIXELS, mostly shot noise,
# is damped. The mean stays.
BOOST = 1.5
EDGE_PIXELS = 6.0
GRAIN_PIXELS = 0.8

# Detail has between these many cycles a pixel; below are the large shapes, above is nothing that a blurred frame has.
COARSE, FINE = 1 / 32, 1 / 8

Floats = npt.NDArray[np.float32]
Spectrum = npt.NDArray[np.complex64]
Tile = npt.NDArray[np.uint16]


class Engine(Protocol):
    """The transforms of one way. What they return is valid until the next call."""

    def sharpened(self, frame: Frame) -> Floats:
        """Return the frame after the filter."""
        ...

    def spectrum(self, frame: Frame, taper: Floats) -> Spectrum:
        """Return the half spectrum of the same frame, times a taper."""
        ...


class NdshareEngine:
    """Plans of `ndshare.fft`: the filter is one plan, and takes the 16-bit frame as it is."""

    def __init__(self) -> None:
        plan = nds.fft.plan_rfft2(FRAME_SHAPE, np.uint16, np.complex64, workers=1)
        self._filter = plan.convolve(sharpening().astype(np.complex64))
        self._plan = nds.fft.plan_rfft2(FRAME_SHAPE, np.float32, np.complex64, workers=1)
        self._picture = np.empty(FRAME_SHAPE, np.float32)
        self._spectrum = np.empty(SPECTRUM_SHAPE, np.complex64)

    def sharpened(self, frame: Frame) -> Floats:
        """Return the frame after the filter."""
        return self._filter(frame, out=self._picture)

    def spectrum(self, frame: Frame, taper: Floats) -> Spectrum:
        """Return the half spectrum of the frame, tapered."""
        return self._plan(np.multiply(frame, taper, out=self._picture), out=self._spectrum)


class ScipyEngine:
    """`scipy.fft` as it is fastest for this: single precision, converted once, and room that it may overwrite."""

    def __init__(self) -> None:
        self._filter = sharpening()
        # SciPy has no type stubs.
        import scipy.fft  # pyright: ignore[reportMissingTypeStubs]

        self._fft: Any = scipy.fft
        self._picture = np.empty(FRAME_SHAPE, np.float32)

    def sharpened(self, frame: Frame) -> Floats:
        """Return the frame after the filter."""
        np.copyto(self._picture, frame)
        spectrum = self._fft.rfft2(self._picture, workers=1)
        spectrum *= self._filter
        return self._fft.irfft2(spectrum, s=FRAME_SHAPE, overwrite_x=True, workers=1)

    def spectrum(self, frame: Frame, taper: Floats) -> Spectrum:  # noqa: ARG002  (it is converted already)
        """Return the half spectrum of the frame that was sharpened last, tapered."""
        np.multiply(self._picture, taper, out=self._picture)
        return self._fft.rfft2(self._picture, overwrite_x=True, workers=1)


class Bench(NamedTuple):
    """One worker's private arrays, made once and used for every frame."""

    taper: Floats  # goes to zero at the edges, so that they leave no cross in the spectrum
    weights: Floats  # the taper's squares, for each pixel of a tile


class Findings(NamedTuple):
    """What a frame comes to."""

    tile: Tile
    focus: float


def make_bench() -> Bench:
    """Return the arrays that one worker needs."""
    taper = np.outer(np.hanning(FRAME_SHAPE[0]), np.hanning(FRAME_SHAPE[1])).astype(np.float32)
    return Bench(taper, binned(np.square(taper)))


def analyse(frame: Frame, engine: Engine, bench: Bench, squares: Floats) -> Findings:
    """Return what a frame comes to; write its power spectrum to `squares`, of SQUARES_SHAPE."""
    small = binned(engine.sharpened(frame)) / SHRINK**2
    np.square(engine.spectrum(frame, bench.taper).view(np.float32).reshape(SQUARES_SHAPE), out=squares)
    # Shot noise is white, and has in each pixel the variance of its mean: `small` tells how much.
    noise = float(np.vdot(small, bench.weights))
    tile = np.clip(np.rint(small), 0, np.iinfo(np.uint16).max).astype(np.uint16)
    return Findings(tile, focus_measure(squares, noise))


def sharpening() -> Floats:
    """Return the filter as factors for a half spectrum: it sharpens edges and damps grain."""
    rows = np.fft.fftfreq(FRAME_SHAPE[0])[:, np.newaxis]
    columns = np.fft.rfftfreq(FRAME_SHAPE[1])[np.newaxis, :]
    squared = rows**2 + columns**2

    def below(pixels: float) -> npt.NDArray[np.float64]:
        return np.exp(-2 * (np.pi * pixels) ** 2 * squared)

    return ((1 + BOOST * (1 - below(EDGE_PIXELS))) * below(GRAIN_PIXELS)).astype(np.float32)


def focus_measure(squares: Floats, noise: float) -> float:
    """Return how much of a picture's contrast is fine detail; what shot noise alone would give is taken off.

    `squares` are those of the parts of its spectrum, `noise` is the power of its noise in each place of it. No unit.
    """
    large = contrast(squares, COARSE, noise)
    whole = contrast(squares, FINE, noise)
    return max(whole - large, 0) / max(whole, 1)


def contrast(squares: Floats, cycles: float, noise: float) -> float:
    """Return the power of all structures with so many cycles a pixel or fewer, without the mean."""
    rows, columns = (round(side * cycles) for side in FRAME_SHAPE)
    corners = (squares[: rows + 1, : columns + 1], squares[-rows:, : columns + 1])
    # The taper spreads the mean over its neighbours.
    mean = squares[:2, :2].sum() + squares[-1, :2].sum()
    places = sum(corner.size for corner in corners) / 2
    return float(sum(corner.sum() for corner in corners) - mean - places * noise)


def binned(picture: Floats) -> Floats:
    """Return the sums over squares of SHRINK by SHRINK pixels."""
    rows: Floats = np.add.reduce(picture.reshape(TILE_SHAPE[0], SHRINK, FRAME_SHAPE[1]), axis=1)
    return rows.reshape(*TILE_SHAPE, SHRINK) @ np.ones(SHRINK, np.float32)
