"""Gathering: many arrays into one, again and again, with the output reused.

Sources are ordinary NumPy arrays, the output is shared; both were touched before. Each promise is a row of its own,
with its peer. "Flat" is the same call and kernel with an output in which every tile is one contiguous piece: what
streaming stores can do on this machine at the time. All peers use one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench, pinned

Array = np.ndarray[Any, Any]
Work = Callable[[], object]

FLOOR = Target("at most", 1 / 0.95)


def _timed(work: Work, check: Callable[[], bool]) -> Callable[[], float]:
    """Return a contestant that does the work twice, times the second, and then checks what came of it.

    The work is done over and over in practice. So the cache should hold what the work itself has left there, and not
    the unwritten lines of another contestant.
    """

    def go() -> float:
        work()
        start = perf_counter()
        work()
        took = perf_counter() - start
        if not check():
            raise AssertionError("the copy has other bytes")
        return took

    return go


# ---- a montage of seed size: 100 images of (1024, 1024, 4) side by side ---------------------------------------------


class Montage:
    """The images, and the contestants by name."""

    def __init__(self) -> None:
        self.images = [np.full((1024, 1024, 4), i, np.uint8) for i in range(100)]
        self.out = nds.zeros((1024, 102_400, 4), np.uint8)
        self.flat = nds.zeros((100, 1024, 1024, 4), np.uint8)

    def ours(self, workers: int = 1) -> Callable[[], float]:
        """Return our contestant."""
        return _timed(lambda: nds.concatenate(self.images, axis=1, out=self.out, workers=workers), self.is_made)

    def on_flat_memory(self) -> Callable[[], float]:
        """Return ours with an output in which every image is one piece."""
        return _timed(lambda: nds.stack(self.images, out=self.flat, workers=1), self.is_flat)

    def loop(self) -> Callable[[], float]:
        """Return the loop that people write."""
        return _timed(self._loop, self.is_made)

    def numpy(self) -> Callable[[], float]:
        """Return NumPy's own function."""
        return _timed(lambda: np.concatenate(self.images, axis=1, out=self.out), self.is_made)

    def opencv(self) -> Callable[[], float]:
        """Return OpenCV's function on one thread."""
        import cv2

        cv2.setNumThreads(1)
        return _timed(lambda: cv2.hconcat(self.images, self.out), self.is_made)

    def _loop(self) -> None:
        for i, image in enumerate(self.images):
            self.out[:, i * 1024 : (i + 1) * 1024] = image

    def is_made(self) -> bool:
        """Look at one pixel of every image, and take it away for the next round."""
        seen = self.out[7, 500::1024, 0].tolist() == list(range(100))
        self.out[7, 500::1024] = 255
        return seen

    def is_flat(self) -> bool:
        """Do the same with the flat output."""
        seen = self.flat[:, 7, 500, 0].tolist() == list(range(100))
        self.flat[:, 7, 500] = 255
        return seen


_SEED = "100 images of (1024, 1024, 4) side by side"


@bench("montage-loop", f"{_SEED}, 1 worker", target=Target("faster", 1.6), rounds=25)
def montage_loop() -> Iterator[Contestants]:
    """Beat the way people write it."""
    made = Montage()
    with pinned(0):
        yield {"ndshare": made.ours(), "NumPy slice loop": made.loop()}


@bench("montage-numpy", f"{_SEED}, 1 worker", target=Target("faster", 1.6), rounds=25)
def montage_numpy() -> Iterator[Contestants]:
    """Beat NumPy's own function."""
    made = Montage()
    with pinned(0):
        yield {"ndshare": made.ours(), "np.concatenate(out=)": made.numpy()}


@bench("montage-opencv", f"{_SEED}, 1 worker", target=Target("faster", 1.3), rounds=25)
def montage_opencv() -> Iterator[Contestants]:
    """Beat the quickest of the usual libraries."""
    made = Montage()
    with pinned(0):
        yield {"ndshare": made.ours(), "cv2.hconcat": made.opencv()}


@bench("montage-floor", f"{_SEED}, 1 worker", target=FLOOR, rounds=25)
def montage_floor() -> Iterator[Contestants]:
    """Keep the memory's speed although every row goes elsewhere."""
    made = Montage()
    with pinned(0):
        yield {"ndshare": made.ours(), "flat, same kernel": made.on_flat_memory()}


@bench("montage-workers", f"{_SEED}, 2 workers", target=Target("at most", 1.0), rounds=25)
def montage_workers() -> Iterator[Contestants]:
    """Lose nothing by a second worker."""
    made = Montage()
    yield {"ndshare": made.ours(2), "ndshare, 1 worker": made.ours(1)}


# ---- a grid of 20,000 tiles of (64, 64, 4) --------------------------------------------------------------------------


class Grid:
    """100 rows of 200 tiles."""

    def __init__(self) -> None:
        self.tiles = [[np.full((64, 64, 4), (7 * i + j) % 251, np.uint8) for j in range(200)] for i in range(100)]
        # NumPy's block joins the last axes, so a pixel must be one item.
        self.pixels = [[tile.view(np.uint32)[..., 0] for tile in row] for row in self.tiles]
        self.out = nds.zeros((6400, 12_800, 4), np.uint8)
        self.flat = nds.zeros((20_000, 64, 64, 4), np.uint8)
        self.all = [tile for row in self.tiles for tile in row]
        self.expected = np.array([[(7 * i + j) % 251 for j in range(200)] for i in range(100)])

    def block(self) -> object:
        """Make the grid in one call."""
        return nds.block(self.pixels, out=self.out.view(np.uint32)[..., 0], workers=1)

    def strips(self) -> None:
        """Make the grid by a call for each row."""
        for i, row in enumerate(self.tiles):
            nds.concatenate(row, axis=1, out=self.out[i * 64 : (i + 1) * 64], workers=1)

    def loop(self) -> None:
        """Do it as people write it."""
        for i, row in enumerate(self.tiles):
            strip = self.out[i * 64 : (i + 1) * 64]
            for j, tile in enumerate(row):
                strip[:, j * 64 : (j + 1) * 64] = tile

    def is_made(self) -> bool:
        """Look at one pixel of every tile, and take it away for the next round."""
        seen = np.array_equal(self.out[31::64, 31::64, 1], self.expected)
        self.out[31::64, 31::64] = 255
        return seen

    def is_flat(self) -> bool:
        """Do the same with the flat output."""
        seen = np.array_equal(self.flat[:, 31, 31, 1], self.expected.ravel())
        self.flat[:, 31, 31] = 255
        return seen

    def contestants(self, ours: Work) -> Contestants:
        """Return ours, the floor and the loop."""
        return {
            "ndshare": _timed(ours, self.is_made),
            "flat, same kernel": _timed(lambda: nds.stack(self.all, out=self.flat, workers=1), self.is_flat),
            "NumPy slice loop": _timed(self.loop, self.is_made),
        }


@bench("grid-block", "20,000 tiles of (64, 64, 4), one block, 1 worker", target=Target("at most", 1 / 0.9), rounds=15)
def grid_block() -> Iterator[Contestants]:
    """Make one call for all of them."""
    made = Grid()
    with pinned(0):
        yield made.contestants(made.block)


@bench("grid-strips", "the same, a concatenate for each row of 200", target=Target("at most", 1 / 0.9), rounds=15)
def grid_strips() -> Iterator[Contestants]:
    """Make one call for each row of the grid."""
    made = Grid()
    with pinned(0):
        yield made.contestants(made.strips)


@bench(
    "grid-plan",
    "plan one of 20,000 tiles: reading the lists, checks, plan, one pixel copied",
    target=Target("at most", 1.0),
    rounds=30,
    note="the peer is the promise of one microsecond",
)
def grid_plan() -> Iterator[Contestants]:
    """Take tiles of one pixel: what is left is the planning."""
    tiles = [[np.full((1, 1), i + j, np.uint32) for j in range(200)] for i in range(100)]
    out = nds.zeros((100, 200), np.uint32)
    ours = _timed(lambda: nds.block(tiles, out=out), lambda: out[99, 199] == 298)
    with pinned(0):
        yield {"ndshare": lambda: ours() / 20_000, "1 µs": lambda: 1e-6}


# ---- a detector: modules of uint16 into one image of float32, with gaps ---------------------------------------------


class Detector:
    """128 frames of 16 modules of 512 x 128."""

    def __init__(self) -> None:
        self.modules = [np.full((128, 512, 128), 1000 + i, np.uint16) for i in range(16)]
        self.out = nds.zeros((128, 1300, 1300), np.float32)
        places = [(i // 8 * 600 + 20, i % 8 * 150 + 7) for i in range(16)]
        self.parts = [self.out[:, y : y + 512, x : x + 128] for y, x in places]

    def assemble(self, copy: Callable[[Array, Array], object]) -> None:
        """Copy every module to its place."""
        for part, module in zip(self.parts, self.modules, strict=True):
            copy(part, module)

    def loop(self) -> None:
        """Do it as people write it."""
        for part, module in zip(self.parts, self.modules, strict=True):
            part[:] = module

    def is_made(self) -> bool:
        """Look at one pixel of every tile, and take it away for the next round."""
        seen = [float(part[127, 511, 127]) for part in self.parts] == [1000.0 + i for i in range(16)]
        self.out[127] = -1
        return seen

    def contestants(self, workers: int) -> Contestants:
        """Return ours and the loop."""
        copy = partial(nds.copyto, workers=workers)
        return {
            "ndshare": _timed(lambda: self.assemble(copy), self.is_made),
            "NumPy slice loop": _timed(self.loop, self.is_made),
        }


@bench("detector", "128 frames of 16 modules, uint16 to float32, 1 worker", target=Target("faster", 2), rounds=9)
def detector() -> Iterator[Contestants]:
    """Cast and scatter into images with gaps, nothing allocated."""
    made = Detector()
    with pinned(0):
        yield made.contestants(1)


@bench("detector-workers", "the same, 2 workers", target=Target("faster", 2), rounds=9)
def detector_workers() -> Iterator[Contestants]:
    """Do it with a second worker."""
    yield Detector().contestants(2)


# ---- what stays in the cache, and what is tiny ----------------------------------------------------------------------


def _repeated(work: Work, times: int) -> Callable[[], float]:
    def go() -> float:
        start = perf_counter()
        for _ in repeat(None, times):
            work()
        return (perf_counter() - start) / times

    return go


@bench("copy-4mib", "copy 4 MiB that stay in the cache, 1 worker", target=Target("at most", 1.0), rounds=200)
def copy_cached() -> Iterator[Contestants]:
    """Leave in the cache what the next stage reads at once."""
    a, b = nds.full(4 << 20, 7, np.uint8), nds.zeros(4 << 20, np.uint8)
    with pinned(0):
        yield {
            "ndshare": _repeated(lambda: nds.copyto(b, a, workers=1), 4),
            "np.copyto": _repeated(lambda: np.copyto(b, a), 4),
        }


_SMALL: dict[str, Callable[[Any], Work]] = {
    "concatenate 2 of 1 KiB": lambda np_: partial(np_.concatenate, [np.zeros(128), np.zeros(128)]),
    "concatenate 2 of 1 KiB with out": lambda np_: partial(
        np_.concatenate, [np.zeros(128), np.zeros(128)], out=np.zeros(256)
    ),
    "concatenate 20 of 128 B": lambda np_: partial(np_.concatenate, [np.zeros(16) for _ in range(20)]),
    "concatenate 2 dtypes": lambda np_: partial(np_.concatenate, [np.zeros(99), np.zeros(99, np.int32)]),
    "concatenate 2 lists": lambda np_: partial(np_.concatenate, [[1, 2], [3]]),
    "stack 2 of 1 KiB": lambda np_: partial(np_.stack, [np.zeros(128), np.zeros(128)]),
    "block of 4 matrices": lambda np_: partial(np_.block, [[np.zeros((8, 8))] * 2] * 2),
    "copyto 1 KiB": lambda np_: partial(np_.copyto, np.zeros(128), np.zeros(128)),
    "copyto 1 KiB, transposed": lambda np_: partial(np_.copyto, np.zeros((16, 8)), np.zeros((8, 16)).T),
    "copyto a number": lambda np_: partial(np_.copyto, np.zeros(128), 0),
}


def _small(make: Callable[[Any], Work]) -> Iterator[Contestants]:
    with pinned(0):
        yield {"ndshare": _repeated(make(nds), 5000), "NumPy": _repeated(make(np), 5000)}


for _number, (_work, _make) in enumerate(_SMALL.items()):
    # The promise is about arrays; lists are there for context.
    _target = None if "lists" in _work else Target("at most", 1.5)
    bench(f"small-{_number}", _work, target=_target, rounds=40)(partial(_small, _make))
