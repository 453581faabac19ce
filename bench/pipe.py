"""A stream of frames through a function in two processes, results in order: the pipe beside pools.

Everybody has its workers beforehand, calls the same function, and keeps a few frames in hand. Frames are ordinary
arrays when the clock starts, and results are looked at before it stops, so what a camera copies into a ring counts.
"""

from __future__ import annotations

import multiprocessing as mp
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import joblib
import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench

WORKERS, AHEAD = 2, 2
SHAPE = (1200, 1600)
Array = np.ndarray[Any, Any]
Way = Callable[[list[Array]], Iterable[Array]]


def spectrum(frame: Array) -> Array:
    """Return a frame's transform, 7.7 MB of 3.8 MB."""
    return nds.fft.rfft2(frame, dtype=np.complex64, workers=1)


def negative(frame: Array) -> Array:
    """Do next to nothing."""
    return ~frame


class Line:
    """A ring, a pipe and a ring of results, which stay for all rounds."""

    def __init__(self, f: Callable[..., Array], frame: Array, result: Array, **options: Any) -> None:
        self._ring = nds.Ring(frame.shape, frame.dtype, slots=WORKERS + AHEAD)
        into = nds.Ring(result.shape, result.dtype, slots=WORKERS + AHEAD)
        self._results = into.reader()
        context = mp.get_context("spawn")
        reader = self._ring.reader()
        self.pipe = nds.pipe(reader, f, into, workers=WORKERS, buffersize=AHEAD, mp_context=context, **options)

    def map(self, frames: list[Array]) -> Iterator[Array]:
        """Put frames into the ring, in a thread, and yield the results."""
        camera = threading.Thread(target=lambda: [self._ring.put(frame) for frame in frames])
        camera.start()
        for _ in frames:
            yield self._results.get(timeout=60)
        camera.join()

    def close(self) -> None:
        """End the stream, and wait for the end of the workers."""
        self._ring.close()
        self.pipe.wait()


def _round(way: Way, frames: list[Array], wanted: list[Array]) -> float:
    """Pass all frames once; look at each result as it comes, and at all of one outside the clock."""
    corners: list[Any] = []
    start = perf_counter()
    for result in way(frames):
        corners.append(result[-1, -1])
        last = result
    took = perf_counter() - start
    if not np.array_equal(corners, [each[-1, -1] for each in wanted]) or not np.array_equal(last, wanted[-1]):
        raise AssertionError("results are wrong, or in another order")
    return took / len(frames)


def _contestants(f: Callable[..., Array], out: Callable[..., Any] | None, frames: list[Array]) -> Iterator[Contestants]:
    wanted = [f(frame) for frame in frames]
    context = mp.get_context("spawn")
    with ExitStack() as stack:
        line, theirs = Line(f, frames[0], wanted[0]), stack.enter_context(ProcessPoolExecutor(WORKERS, context))
        stack.callback(line.close)
        pool = stack.enter_context(context.Pool(WORKERS))
        ours = stack.enter_context(nds.ProcessPoolExecutor(WORKERS, context))
        parallel = stack.enter_context(joblib.Parallel(n_jobs=WORKERS, return_as="generator"))
        ways: dict[str, Any] = {
            "nds.pipe": line.map,
            "concurrent.futures map": lambda frames: theirs.map(f, frames),
            "Pool.imap": lambda frames: pool.imap(f, frames),
            "joblib": lambda frames: parallel(joblib.delayed(f)(frame) for frame in frames),
            "nds.ProcessPoolExecutor.map": lambda frames: ours.map(f, iter(frames)),
        }
        if out is not None:
            second = Line(out, frames[0], wanted[0], out=True)
            stack.callback(second.close)
            ways["nds.pipe, out=True"] = second.map
        yield {label: lambda way=way: _round(way, frames, wanted) for label, way in ways.items()}


@bench(
    "stream-fft", "a frame of 3.8 MB through its FFT in two processes, in order", target=Target("faster", 2), rounds=12
)
def fft() -> Iterator[Contestants]:
    """Frames of 2 megapixels in uint16; results in complex64."""
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 4096, SHAPE, np.uint16) for _ in range(40)]
    plan = nds.fft.plan_rfft2(SHAPE, np.uint16, np.complex64, workers=1)
    yield from _contestants(spectrum, plan, frames)


@bench("stream-small", "a frame of 8 KB through next to nothing in two processes, in order", rounds=12)
def small() -> Iterator[Contestants]:
    """Measure what the hand-over costs: frames of 64 x 64 in uint16."""
    yield from _contestants(negative, None, [np.full((64, 64), n, np.uint16) for n in range(500)])
