"""Caches and canvases: a hit beside what else hands arrays to processes by key; a montage whose tiles change.

All of an image's bytes are there when a contestant has answered: ours are mapped, Ray's are mapped, diskcache's and
the manager's are read. Ray takes part where it is installed.
"""

from __future__ import annotations

import importlib.util
import multiprocessing as mp
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench, clock, pin, pinned

Array = np.ndarray[Any, Any]
KEYS = [f"tile-{number:05}" for number in range(64)]
SHAPE = (1024, 1024, 4)


def _image(number: int, shape: tuple[int, ...] = SHAPE) -> Array:
    return np.full(shape, number % 251, np.uint8)


# ---- hits -----------------------------------------------------------------------------------------------------------


def looks(have: Callable[[Any], Any], keys: list[Any], rounds: int) -> Callable[[], float]:
    """Return a contestant that has each key's value, and looks at one item of it."""

    def go() -> float:
        start = perf_counter()
        for _ in range(rounds):
            for key in keys:
                have(key)
        took = (perf_counter() - start) / (rounds * len(keys))
        if [have(key).flat[9] for key in keys] != list(range(len(keys))):
            raise AssertionError("other values")
        return took

    return go


def filled(shape: tuple[int, ...] = SHAPE) -> nds.Cache:
    """Return a cache that has an image for each key."""
    cache = nds.Cache("1 GiB", entries=2000)
    for number, key in enumerate(KEYS):
        cache[key] = _image(number, shape)
    return cache


@bench("cache-hit", "have one of 64 images of 4 MiB by its key", target=Target("faster", 20), rounds=15)
def hit_diskcache() -> Iterator[Contestants]:
    """Beat a cache on a file system in memory, which stores pickles."""
    import diskcache

    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as folder, diskcache.Cache(folder) as disk, pinned(0):
        for number, key in enumerate(KEYS):
            disk[key] = _image(number)
        yield {"ndshare": looks(filled().__getitem__, KEYS, 20), "diskcache": looks(disk.__getitem__, KEYS, 1)}


@bench("cache-hit-manager", "the same beside a manager's dict", target=Target("faster", 20), rounds=8)
def hit_manager() -> Iterator[Contestants]:
    """Beat a dict in another process."""
    with mp.get_context("spawn").Manager() as manager:
        shared = manager.dict({key: _image(number) for number, key in enumerate(KEYS)})
        yield {"ndshare": looks(filled().__getitem__, KEYS, 20), "Manager().dict()": looks(shared.__getitem__, KEYS, 1)}


@bench("cache-hit-dict", "the same beside a dict of this process's own", rounds=30)
def hit_dict() -> Iterator[Contestants]:
    """Show what there is to gain."""
    own = {key: _image(number) for number, key in enumerate(KEYS)}
    pairs = [("tile", number) for number in range(64)]
    cache = filled()
    for number, pair in enumerate(pairs):
        cache[pair] = _image(number, (8,) * 2)
    with pinned(0):
        yield {
            "ndshare": looks(cache.__getitem__, KEYS, 50),
            "dict": looks(own.__getitem__, KEYS, 50),
            "ndshare, keys are tuples": looks(cache.__getitem__, pairs, 50),
        }


if importlib.util.find_spec("ray"):

    @bench("cache-hit-ray", "the same beside Ray's object store", target=Target("faster", 20), rounds=8)
    def hit_ray() -> Iterator[Contestants]:
        """Beat an object store with a server."""
        import ray

        # Else it leaves a token in the user's folder.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=1, object_store_memory=1 << 30, include_dashboard=False, log_to_driver=False)
        refs = {key: ray.put(_image(number)) for number, key in enumerate(KEYS)}
        have: Any = lambda key: ray.get(refs[key])  # noqa: E731
        yield {"ndshare": looks(filled().__getitem__, KEYS, 20), "ray.get": looks(have, KEYS, 1)}
        ray.shutdown()


def hits(cache: nds.Cache, conn: Connection, cpu: int) -> None:
    """Look at keys whenever told, and tell how many seconds one took."""
    pin(cpu)
    while (count := conn.recv()) is not None:
        conn.send(clock(lambda: [cache[key] for key in KEYS], count) / len(KEYS))


class Pair:
    """Two processes, each on a CPU of its own."""

    def __init__(self, cache: nds.Cache) -> None:
        context = mp.get_context("spawn")
        self.pipes = [context.Pipe() for _ in range(2)]
        args = [(cache, theirs, -number) for number, (_, theirs) in enumerate(self.pipes)]
        self.processes = [context.Process(target=hits, args=some, daemon=True) for some in args]
        for process in self.processes:
            process.start()

    def together(self) -> float:
        """Return the seconds of a hit where both look at the same time; those of the slower one."""
        for mine, _ in self.pipes:
            mine.send(300)
        return max(mine.recv() for mine, _ in self.pipes)

    def in_turn(self) -> float:
        """Return the same where one looks after the other."""
        times: list[float] = []
        for mine, _ in self.pipes:
            mine.send(300)
            times.append(mine.recv())
        return max(times)

    def end(self) -> None:
        """Let them leave."""
        for mine, _ in self.pipes:
            mine.send(None)
        for process in self.processes:
            process.join()


@bench("cache-hit-view", "the same beside a look into a dict and a view", target=Target("at most", 2), rounds=30)
def hit_view() -> Iterator[Contestants]:
    """Make an array over the value, as any look at shared memory must, and little more."""
    own = {key: _image(number) for number, key in enumerate(KEYS)}
    cache = filled()
    with pinned(0):
        yield {
            "ndshare": looks(lambda key: cache[key], KEYS, 50),
            "dict, and a view": looks(lambda key: own[key].view(), KEYS, 50),
        }


@bench("cache-hits-2", "hits of two processes at once on the same keys", target=Target("at most", 2 / 1.7), rounds=25)
def two_at_once() -> Iterator[Contestants]:
    """Two processes do 1.7 times the work of one."""
    pair = Pair(filled((64, 64)))
    yield {"both at once": pair.together, "one after the other": pair.in_turn}
    pair.end()


# ---- the montage ----------------------------------------------------------------------------------------------------

TILES = range(100)
WIDE = (SHAPE[0], 100 * SHAPE[1], SHAPE[2])


class Montage:
    """100 images in a cache, which are put side by side, and others that a loop puts so. Some of both change."""

    def __init__(self, changed: int) -> None:
        self.cache = nds.Cache("1 GiB", entries=1000)
        self.images = [_image(number) for number in TILES]
        self.numbers = list(TILES)
        for number in TILES:
            self.cache[number] = self.images[number]
        self.canvas = nds.Canvas(WIDE, np.uint8)
        self.out = nds.zeros(WIDE, np.uint8)
        self.changed, self.round = changed, 0
        self.cache.concatenate(TILES, axis=1, out=self.canvas)

    def change(self) -> list[int]:
        """Return the places that change in this round."""
        self.round += 1
        return [(number * 20 + self.round) % 100 for number in range(self.changed)]

    def ours(self) -> float:
        """Put images side by side by their keys."""
        for place in self.change():
            self.numbers[place] = (self.numbers[place] + 1) % 251
            self.cache[place] = _image(self.numbers[place])
        start = perf_counter()
        self.cache.concatenate(TILES, axis=1, out=self.canvas)
        took = perf_counter() - start
        if self.canvas.array[7, 500::1024, 0].tolist() != self.numbers:
            raise AssertionError("other images")
        return took

    def loop(self) -> float:
        """Do what people write."""
        for place in self.change():
            self.images[place] = _image(int(self.images[place].flat[0]) + 1)
        start = perf_counter()
        for number, image in enumerate(self.images):
            self.out[:, number * 1024 : (number + 1) * 1024] = image
        took = perf_counter() - start
        if self.out[7, 500::1024, 0].tolist() != [image.flat[0] for image in self.images]:
            raise AssertionError("other images")
        return took


_SEED = "100 images of (1024, 1024, 4) of a cache side by side"


@bench("canvas-5", f"{_SEED}, 5 changed", target=Target("faster", 15), rounds=20)
def five_changed() -> Iterator[Contestants]:
    """Copy only what changed."""
    made = Montage(5)
    with pinned(0):
        yield {"ndshare": made.ours, "NumPy slice loop": made.loop}


@bench("canvas-0", f"{_SEED}, none changed", target=Target("faster", 100), rounds=20)
def none_changed() -> Iterator[Contestants]:
    """Look, and copy nothing."""
    made = Montage(0)
    with pinned(0):
        yield {"ndshare": made.ours, "NumPy slice loop": made.loop}


@bench(
    "canvas-misses",
    f"{_SEED}, 10 to be decoded, 2 threads",
    target=Target("at most", 1.05),
    rounds=12,
    limit="decoding alone",
)
def ten_misses() -> Iterator[Contestants]:
    """Cost little beside the decoder, which runs on as many threads for itself."""
    import cv2

    cv2.setNumThreads(1)
    rng = np.random.default_rng(1)
    # Like a photograph: smooth, with a little noise.
    smooth = cv2.resize(rng.integers(0, 255, (32, 32, 4), np.uint8), SHAPE[:2])
    noisy = cv2.add(smooth, rng.integers(0, 12, SHAPE, np.uint8))
    files = [cv2.imencode(".png", cv2.add(noisy, number))[1] for number in range(10)]
    cache = nds.Cache("1 GiB", lambda number: cv2.imdecode(files[number % 10], cv2.IMREAD_UNCHANGED), entries=1000)
    canvas = nds.Canvas(WIDE, np.uint8)
    cache.concatenate(TILES, axis=1, out=canvas)

    def ours() -> float:
        for number in range(0, 100, 10):
            del cache[number + 3]
        return clock(lambda: cache.concatenate(TILES, axis=1, out=canvas, workers=2))

    def alone() -> float:
        return clock(lambda: _in_threads(lambda number: cv2.imdecode(files[number], cv2.IMREAD_UNCHANGED)))

    yield {"ndshare": ours, "decoding alone": alone}


def _in_threads(work: Callable[[int], object]) -> None:
    """Do ten pieces of work in two threads."""
    todo = iter(range(10))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            work(number)

    threads = [threading.Thread(target=run) for _ in range(min(2, len(os.sched_getaffinity(0))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
