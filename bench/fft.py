"""Transforms of frames: ours beside NumPy, SciPy, pyFFTW, MKL, ducc0 and OpenCV, on one thread and on two.

The work is a 16-bit frame to its half-spectrum in single precision. Each peer does it as well as it can: it converts
the frame to float32 first, into memory that it reuses; and, in a row of its own, it gets a frame that was converted
for it outside the clock. pyFFTW's plan is the best of three that it measured. Outputs are reused where a library lets
one. A target is against the best of all peers. Every result is compared with SciPy's in double precision.

`python -m bench.fft` draws docs/fft.svg.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from math import log2
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import scipy.fft

import ndshare as nds
from bench.harness import BENCHES, Contestants, Target, bench, clock, pinned, run
from bench.machine import facts
from bench.threshold import Plot

# MKL's idle threads would otherwise spin for 0.2 s after each call, on the CPUs that the next contestant needs.
os.environ.setdefault("KMP_BLOCKTIME", "0")

Array = np.ndarray[Any, Any]
Work = Callable[[], Array]
SHAPES = [(1024, 2048), (1080, 1920), (1088, 2048), (1200, 1600)]
ROUNDS = 40
CALLS = 4  # timed in each round, after one that brings the contestant's own memory back into the caches
PAUSE = 0.01  # seconds before that: OpenCV's idle threads spin for a while, on the CPU that the next contestant needs


def timed(work: Work, expected: Array, place: Any = ...) -> Callable[[], float]:
    """Return a contestant that does the work, and compares some of the last result with what is expected."""
    some = (slice(3, None, 97), slice(1, None, 89))
    sample = expected[some]
    size = np.linalg.norm(sample)

    def go() -> float:
        sleep(PAUSE)
        work()
        took = clock(work, CALLS)
        result = work()
        error = np.linalg.norm(result[some][place] - sample[place]) / size
        if not error < 1e-5:
            raise AssertionError(f"another result: the error is {error:.2g}")
        return took

    return go


class Peers:
    """The ways of other libraries from a real frame to its half-spectrum."""

    def __init__(self, frame: Array, threads: int, real: str = "f4") -> None:
        self.frame, self.threads = frame, threads
        self.ready = frame.astype(real)
        self.buffer = np.empty_like(self.ready)
        self.out = np.empty((frame.shape[0], frame.shape[1] // 2 + 1), np.result_type(real, "c8"))

    def cast(self) -> Array:
        """Convert the frame into memory that is reused."""
        np.copyto(self.buffer, self.frame)
        return self.buffer

    def all(self) -> dict[str, tuple[Callable[[Array], Array], Any]]:
        """Return for each library its way, and which items of its result are compared."""
        ways = {"SciPy": (self.scipy, ...), "pyFFTW": (self.pyfftw(), ...), "ducc0": (self.ducc(), ...)}
        if self.threads == 1:
            ways["NumPy"] = (lambda x: np.fft.rfft2(x, out=None), ...)
        ways["mkl_fft"] = (self.mkl(), ...)
        return ways

    def scipy(self, x: Array) -> Array:
        """Transform by SciPy."""
        return scipy.fft.rfft2(x, workers=self.threads)

    def pyfftw(self) -> Callable[[Array], Array]:
        """Return the best of three plans of FFTW."""
        import pyfftw

        plans: list[Any] = []
        for _ in range(3):
            pyfftw.forget_wisdom()
            source = pyfftw.empty_aligned(self.ready.shape, self.ready.dtype)
            target = pyfftw.empty_aligned(self.out.shape, self.out.dtype)
            plan = pyfftw.FFTW(source, target, axes=(0, 1), flags=("FFTW_MEASURE",), threads=self.threads)
            source[:] = self.ready
            plans.append((min(_seconds(plan.execute) for _ in range(10)), len(plans), plan))
        plan = min(plans)[2]

        def transform(x: Array) -> Array:
            # Its own input holds the frame that was converted; a frame that was not is converted into it.
            if x is not self.ready:
                np.copyto(plan.input_array, self.frame)
            plan.execute()
            return plan.output_array

        # FFTW converts by itself, so the cast is part of the copy into its input.
        transform.converts = True  # type: ignore[attr-defined]
        return transform

    def ducc(self) -> Callable[[Array], Array]:
        """Return ducc0's way."""
        import ducc0

        return lambda x: ducc0.fft.r2c(x, axes=(0, 1), nthreads=self.threads, out=self.out)

    def mkl(self) -> Callable[[Array], Array]:
        """Return MKL's way."""
        import mkl
        import mkl_fft

        mkl.set_num_threads(self.threads)
        return lambda x: mkl_fft.rfftn(x, axes=(0, 1), out=self.out)

    def opencv(self) -> Callable[[Array], Array]:
        """Return OpenCV's way, whose result is packed into as many numbers as the frame has."""
        import cv2

        cv2.setNumThreads(self.threads)
        packed = np.empty_like(self.ready)
        return lambda x: cv2.dft(x, packed)


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def camera(shape: tuple[int, int]) -> Array:
    """Return a frame of 12 bits in 16."""
    return nds.array(np.random.default_rng(1).integers(0, 4096, shape), np.uint16)


def unpacked(packed: Array, expected: Array) -> Array:
    """Return the middle columns of OpenCV's result as a half-spectrum; its first and last are packed otherwise."""
    middle = packed[:, 1 : 2 * ((packed.shape[1] - 1) // 2) + 1].view("c8") if packed.flags.c_contiguous else None
    if middle is None:
        middle = np.ascontiguousarray(packed[:, 1:-1]).view("c8")
    result = expected.copy()
    result[:, 1 : 1 + middle.shape[1]] = middle
    return result


def contestants(shape: tuple[int, int], threads: int) -> Contestants:
    """Return ours and all peers with a 16-bit frame, and with one that was converted before."""
    frame = camera(shape)
    expected = scipy.fft.rfft2(frame)
    plan = nds.fft.plan_rfft2(shape, np.uint16, np.complex64, workers=threads)
    out = nds.zeros(plan.result_shape, np.complex64)
    made: Contestants = {"ndshare": timed(lambda: plan(frame, out=out), expected)}
    peers = Peers(frame, threads)
    for name, (way, place) in peers.all().items():
        given = (lambda peers=peers: peers.frame) if hasattr(way, "converts") else peers.cast
        made[name] = timed(lambda way=way, given=given: way(given()), expected, place)
        made[f"{name}, float32 given"] = timed(lambda way=way: way(peers.ready), expected, place)
    made |= _opencv(peers, expected)
    return made


def _opencv(peers: Peers, expected: Array) -> Contestants:
    way = peers.opencv()

    def checked(source: Callable[[], Array]) -> Callable[[], float]:
        def go() -> float:
            sleep(PAUSE)
            way(source())
            took = clock(lambda: way(source()), CALLS)
            packed = way(source())
            rows = unpacked(np.ascontiguousarray(packed[3::97]), expected[3::97])
            if not np.linalg.norm(rows - expected[3::97]) < 1e-5 * np.linalg.norm(expected[3::97]):
                raise AssertionError("OpenCV has another result")
            return took

        return go

    return {"OpenCV": checked(peers.cast), "OpenCV, float32 given": checked(lambda: peers.ready)}


def _register(shape: tuple[int, int], threads: int) -> None:
    rows, cols = shape
    target = Target("faster", 1.15 if shape == (1080, 1920) else 1.0)
    words = f"rfft2 of {rows} x {cols} uint16 to complex64, {threads} thread{'s' * (threads > 1)}"

    @bench(f"fft-{rows}x{cols}-{threads}", words, target=target, rounds=ROUNDS, best=True)
    def prepare() -> Iterator[Contestants]:
        with pinned(0 if threads == 1 else None):
            yield contestants(shape, threads)


for _shape in SHAPES:
    for _threads in (1, 2):
        _register(_shape, _threads)


_FRAME = "rfft2 of the same 1080 x 1920 uint16 frame, 1 thread"


@bench("fft-numpy", _FRAME, target=Target("faster", 4), rounds=ROUNDS)
def against_numpy() -> Iterator[Contestants]:
    """Beat NumPy as people call it."""
    frame = camera((1080, 1920))
    out, expected = nds.zeros((1080, 961), "c8"), scipy.fft.rfft2(frame)
    ours = timed(lambda: nds.fft.rfft2(frame, out=out, workers=1), expected)
    with pinned(0):
        yield {"ndshare": ours, "np.fft.rfft2": timed(lambda: np.fft.rfft2(frame), expected)}


@bench("fft-scipy", _FRAME, target=Target("faster", 2), rounds=ROUNDS)
def against_scipy() -> Iterator[Contestants]:
    """Beat SciPy as people call it."""
    frame = camera((1080, 1920))
    out, expected = nds.zeros((1080, 961), "c8"), scipy.fft.rfft2(frame)
    ours = timed(lambda: nds.fft.rfft2(frame, out=out, workers=1), expected)
    with pinned(0):
        yield {"ndshare": ours, "scipy.fft.rfft2": timed(lambda: scipy.fft.rfft2(frame), expected)}


_FIRST = {
    "ndshare": """
    import numpy as np, ndshare as nds
    from time import perf_counter
    frame, out = np.ones((1080, 1920), np.uint16), nds.empty((1080, 961), np.complex64)
    start = perf_counter()
    nds.fft.rfft2(frame, out=out, workers=1)
    print(perf_counter() - start)
    """,
    "pyFFTW MEASURE": """
    import numpy as np, pyfftw
    from time import perf_counter
    frame = np.ones((1080, 1920), np.uint16)
    start = perf_counter()
    x, out = pyfftw.empty_aligned(frame.shape, "f4"), pyfftw.empty_aligned((1080, 961), "c8")
    plan = pyfftw.FFTW(x, out, axes=(0, 1), flags=("FFTW_MEASURE",))
    x[:] = frame
    plan.execute()
    print(perf_counter() - start)
    """,
}


@bench("fft-first", "first rfft2 of a process, 1080 x 1920, planning included", target=Target("faster", 20), rounds=3)
def first_of_a_process() -> Iterator[Contestants]:
    """Need no time to plan."""
    import textwrap

    def starter(program: str) -> Callable[[], float]:
        command = [sys.executable, "-c", textwrap.dedent(program)]
        return lambda: float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    yield {name: starter(program) for name, program in _FIRST.items()}


@bench(
    "fft-convolve",
    "a 1080 x 1920 uint16 frame times a filter, 1 thread",
    target=Target("faster", 1.5),
    rounds=ROUNDS,
    best=True,
)
def convolution() -> Iterator[Contestants]:
    """Transform, multiply and transform back in one plan."""
    frame = camera((1080, 1920))
    kernel = np.exp(-np.hypot(*np.ogrid[:1080, :1920]) / 5).astype("f4")
    spectrum = scipy.fft.rfft2(kernel).astype("c8")
    expected = scipy.fft.irfft2(scipy.fft.rfft2(frame) * spectrum, frame.shape)
    out = nds.zeros(frame.shape, "f4")
    c = nds.fft.plan_rfft2(frame.shape, np.uint16, np.complex64, workers=1).convolve(spectrum)
    made: Contestants = {"ndshare": timed(lambda: c(frame, out=out), expected)}
    peers = Peers(frame, 1)
    for name, way in _convolutions(peers, spectrum).items():
        made[name] = timed(lambda way=way: way(peers.cast()), expected)
        made[f"{name}, float32 given"] = timed(lambda way=way: way(peers.ready), expected)
    with pinned(0):
        yield made


def _convolutions(peers: Peers, spectrum: Array) -> dict[str, Callable[[Array], Array]]:
    """Return the peers' two transforms and the multiplication between them."""
    import ducc0
    import mkl_fft
    import pyfftw

    shape, product, real = peers.ready.shape, np.empty_like(peers.out), np.empty_like(peers.ready)
    forward = peers.pyfftw()
    source, target = pyfftw.empty_aligned(product.shape, "c8"), pyfftw.empty_aligned(shape, "f4")
    flags = ("FFTW_MEASURE", "FFTW_DESTROY_INPUT")
    back = pyfftw.FFTW(source, target, axes=(0, 1), direction="FFTW_BACKWARD", flags=flags)
    scaled = spectrum / (shape[0] * shape[1])
    ducc, mkl = peers.ducc(), peers.mkl()

    def fftw(x: Array) -> Array:
        np.multiply(forward(x), scaled, out=source)
        back.execute()
        return target

    def of_ducc(x: Array) -> Array:
        np.multiply(ducc(x), scaled, out=product)
        return ducc0.fft.c2r(product, axes=(0, 1), lastsize=shape[1], forward=False, out=real, nthreads=1)

    def of_mkl(x: Array) -> Array:
        np.multiply(mkl(x), spectrum, out=product)
        return mkl_fft.irfftn(product, s=shape, axes=(0, 1))

    def of_scipy(x: Array) -> Array:
        np.multiply(scipy.fft.rfft2(x), spectrum, out=product)
        return scipy.fft.irfft2(product, shape)

    return {"pyFFTW": fftw, "ducc0": of_ducc, "mkl_fft": of_mkl, "SciPy": of_scipy}


def _register_more(name: str, words: str, dtype: str, real: bool) -> None:
    @bench(f"fft-{name}", words, target=Target("faster", 1.0), rounds=ROUNDS, best=True)
    def prepare() -> Iterator[Contestants]:
        rng = np.random.default_rng(2)
        x = rng.standard_normal((1080, 1920))
        x = nds.array(x if real else x + 1j * rng.standard_normal((1080, 1920)), dtype)
        with pinned(0):
            yield _double(x, real)


def _double(x: Array, real: bool) -> Contestants:
    """Return ours, SciPy's, FFTW's and ducc0's transforms in the precision of the input."""
    import ducc0
    import pyfftw

    ours, theirs = (nds.fft.rfft2, scipy.fft.rfft2) if real else (nds.fft.fft2, scipy.fft.fft2)
    expected = theirs(x.astype("f8" if real else "c16"))
    out, other = nds.zeros(expected.shape, theirs(x).dtype), np.empty(expected.shape, theirs(x).dtype)
    source, target = pyfftw.empty_aligned(x.shape, x.dtype), pyfftw.empty_aligned(other.shape, other.dtype)
    plan = pyfftw.FFTW(source, target, axes=(0, 1), flags=("FFTW_MEASURE",))
    source[:] = x
    ducc = ducc0.fft.r2c if real else ducc0.fft.c2c

    def fftw() -> Array:
        plan.execute()
        return target

    return {
        "ndshare": timed(lambda: ours(x, out=out, workers=1), expected),
        "SciPy": timed(lambda: theirs(x), expected),
        "pyFFTW": timed(fftw, expected),
        "ducc0": timed(lambda: ducc(x, axes=(0, 1), out=other, nthreads=1), expected),
    }


_register_more("double", "rfft2 of 1080 x 1920 float64 to complex128, 1 thread", "f8", True)
_register_more("complex", "fft2 of 1080 x 1920 complex64, 1 thread", "c8", False)
_register_more("complex-double", "fft2 of 1080 x 1920 complex128, 1 thread", "c16", False)


# ---- the plot -------------------------------------------------------------------------------------------------------

COLOURS = {
    "ndshare": "#d22",
    "OpenCV": "#26c",
    "ducc0": "#282",
    "mkl_fft": "#c60",
    "pyFFTW": "#808",
    "SciPy": "#088",
    "NumPy": "#666",
}


@cache
def flops(shape: tuple[int, int]) -> float:
    """Return how many operations a real transform is said to have."""
    points = shape[0] * shape[1]
    return 2.5 * points * log2(points)


def draw(speeds: dict[str, list[float]]) -> str:
    """Return the plot as SVG."""
    plot = Plot(1, 8, max(map(max, speeds.values())) * 1.05)

    def x(place: int) -> float:
        return 120 + 135 * place

    step = next(step for step in (1, 2, 5, 10, 20, 50) if plot.top / step <= 8)
    for value in range(0, int(plot.top) + 1, step):
        plot.line([(60, plot.y(value)), (600, plot.y(value))], "#ddd")
        plot.text(52, plot.y(value) + 4, str(value), "end")
    plot.text(60, 30, "GFLOP/s", "start")
    for place, (rows, cols) in enumerate(SHAPES):
        plot.text(x(place), 340, f"{rows} x {cols}")
    labels = sorted(speeds, key=lambda name: -speeds[name][-1])
    below = 0.0
    for name in labels:
        points = [(x(place), plot.y(speed)) for place, speed in enumerate(speeds[name])]
        plot.line(points, COLOURS[name], 2)
        below = max(points[-1][1] + 4, below + 13)
        plot.text(x(3) + 10, below, name, "start", COLOURS[name])
    machine = facts()
    plot.text(350, 360, "rfft2 of a uint16 frame to complex64, one thread, conversion included")
    plot.text(350, 376, f"{machine['CPU']}; kernel {machine['kernel']}; {machine['glibc']}")
    return plot.svg()


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="do this share of the rounds")
    parser.add_argument("--svg", type=Path, default=Path(__file__).parent.parent / "docs" / "fft.svg")
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {}
    for shape in SHAPES:
        result = run(BENCHES[f"fft-{shape[0]}x{shape[1]}-1"], options.share)
        for name, times in result.times.items():
            if name in COLOURS:
                speeds.setdefault(name, []).append(flops(shape) / median(times) / 1e9)
    options.svg.write_text(draw(speeds))
    print(f"wrote {options.svg}")


if __name__ == "__main__":
    main()
