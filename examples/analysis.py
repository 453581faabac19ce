"""What is computed for each frame: a focus measure, a spectrum, and a small tile for the contact sheet."""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from microscope import FRAME_SHAPE, Frame

BIN = 4
TILE_SHAPE = (FRAME_SHAPE[0] // BIN**2, FRAME_SHAPE[1] // BIN**2)
SPECTRUM_SHAPE = (FRAME_SHAPE[0], FRAME_SHAPE[1] // 2 + 1)

# The weights of a Laplacian are 4, -1, -1, -1, -1; uncorrelated noise comes out with the sum of their squares.
LAPLACIAN_NOISE_GAIN = 20

Floats = npt.NDArray[np.float32]


class Bench(NamedTuple):
    """One worker's private arrays, made once and used for every frame."""

    taper: Floats  # goes to zero at the edges, so that they leave no cross in the spectrum
    tapered: Floats
    spectrum: npt.NDArray[np.complex64]


def make_bench() -> Bench:
    """Return the arrays that one worker needs."""
    taper = np.outer(np.hanning(FRAME_SHAPE[0]), np.hanning(FRAME_SHAPE[1])).astype(np.float32)
    return Bench(taper, np.empty(FRAME_SHAPE, np.float32), np.empty(SPECTRUM_SHAPE, np.complex64))


def add_spectrum(frame: Frame, bench: Bench, power: Floats) -> None:
    """Add the power spectrum of a frame to ``power``, in place."""
    np.multiply(frame, bench.taper, out=bench.tapered)
    # NumPy's stubs know only complex128 here.
    np.fft.rfft2(bench.tapered, out=cast("Any", bench.spectrum))
    power += bench.spectrum.real**2
    power += bench.spectrum.imag**2


def focus_measure(small: Floats) -> float:
    """Return how much of a picture's contrast is fine detail; what shot noise alone would give is taken off.

    ``small`` counts photons, so its noise has the variance of its mean. The result has no unit.
    """
    inner = small[1:-1, 1:-1]
    laplacian = 4 * inner - small[:-2, 1:-1] - small[2:, 1:-1] - small[1:-1, :-2] - small[1:-1, 2:]
    detail = laplacian.var() - LAPLACIAN_NOISE_GAIN * small.mean()
    return float(max(detail, 0) / small.var())


def binned(picture: Frame | Floats) -> Floats:
    """Return the sums over squares of BIN by BIN pixels; both sides must be multiples of BIN."""
    rows = picture[0::BIN].astype(np.float32)
    for offset in range(1, BIN):
        rows += picture[offset::BIN]
    columns = rows[:, 0::BIN].copy()
    for offset in range(1, BIN):
        columns += rows[:, offset::BIN]
    return columns
