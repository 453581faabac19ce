"""From end to end: a camera, transforms in two processes, a store of tiles, and a canvas that a viewer looks at.

The camera writes frames of 1024 x 1024 uint16 as fast as they are taken, and none is lost: it waits where there is no
room. A worker transforms a frame and keeps the magnitudes of a quarter of the spectrum as a tile. The viewer puts each
16 tiles side by side, in the order of the frames. Figures are seconds of one frame, all steps included; so their
reciprocal is the rate that goes on without loss. Each contestant is what its libraries are best at, with the same
camera, the same magnitudes and the same check: every tile of every canvas has the sum of its frame at its corner.
"""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter, sleep
from typing import Any

import numpy as np

import ndshare as nds
from bench import ring_targets as targets
from bench.harness import Contestants, bench, partner

Array = np.ndarray[Any, Any]
SIDE, TILE, TILES = 1024, 512, 16
FRAME = (SIDE, SIDE)
FRAME_BYTES, TILE_BYTES = 2 * SIDE * SIDE, 4 * TILE * TILE
SLOTS, WORKERS, FRAMES = 8, 2, 96
TILE_SLOTS = 2 * TILES + SLOTS
NUMBER_BYTES = 64  # before a frame or tile, where no library carries its number
PAUSE = 50e-6


def sources() -> list[Array]:
    """Return what the camera sees: four frames of different brightness."""
    dice = np.random.default_rng(1)
    return [(dice.integers(0, 4096, FRAME) // (number + 1)).astype(np.uint16) for number in range(4)]


class Viewer:
    """Puts tiles side by side as soon as all of a canvas are there, and looks at their corners."""

    def __init__(self, compose: Callable[[list[Any]], Array]) -> None:
        self.compose, self.waiting, self.next = compose, dict[int, Any](), 0
        self.corners = [float(source.sum()) for source in sources()]

    def take(self, number: int, tile: Any) -> None:
        """Take a tile of a frame's number; they come in nearly any order."""
        self.waiting[number] = tile
        while len(self.waiting) >= TILES and all(self.next + i in self.waiting for i in range(TILES)):
            numbers = range(self.next, self.next + TILES)
            canvas = self.compose([self.waiting.pop(number) for number in numbers])
            expected = [self.corners[number % 4] for number in numbers]
            if not np.allclose(canvas[0, ::TILE], expected, 1e-4):
                raise AssertionError("the canvas has other tiles")
            self.next += TILES


def stand_by(conn: Connection, other: Connection, work: Callable[[int], object]) -> None:
    """Do the work whenever told."""
    other.close()
    while (count := conn.recv()) is not None:
        conn.send("ready")
        conn.send(work(count))


def film(viewer: Connection, write: Callable[[Array], object]) -> Callable[[], float]:
    """Return a contestant: a camera that films until the viewer has seen all."""
    frames = sources()

    def go() -> float:
        viewer.send(FRAMES)
        viewer.recv()
        start = perf_counter()
        for number in range(FRAMES):
            write(frames[number % 4])
        viewer.recv()
        return (perf_counter() - start) / FRAMES

    return go


# ---- ndshare --------------------------------------------------------------------------------------------------------


def our_worker(  # noqa: PLR0917
    conn: Connection,
    other: Connection,
    _: int,
    reader: nds.Reader[Any],
    cache: nds.Cache,
    done: nds.Ring[Any],
    by_scipy: bool,
) -> None:
    """Transform frames of a ring, and store tiles in a cache."""
    other.close()
    plan = nds.fft.plan_rfft2(FRAME, np.uint16, np.complex64, workers=1)
    spectrum = nds.empty((SIDE, SIDE // 2 + 1), np.complex64)
    for frame in reader:
        tile = nds.empty((TILE, TILE), np.float32)
        if by_scipy:
            magnitudes(frame, tile)
        else:
            plan(frame, out=spectrum)
            np.abs(spectrum[:TILE, :TILE], out=tile)
        cache[frame.seq] = tile
        done.put(np.array([frame.seq]))
    conn.recv()


def our_viewer(conn: Connection, other: Connection, _: int, cache: nds.Cache, reader: nds.Reader[Any]) -> None:
    """Put tiles of the cache side by side."""
    canvas = nds.Canvas((TILE, TILES * TILE), np.float32)

    def compose(keys: list[int]) -> Array:
        cache.concatenate(keys, axis=1, out=canvas, workers=1)
        return canvas.array

    viewer = Viewer(compose)

    def work(count: int) -> None:
        for _ in range(count):
            number = int(reader.get(timeout=60)[0])
            viewer.take(number, number)

    stand_by(conn, other, work)


def ours(by_scipy: bool, stack: ExitStack) -> Contestants:
    """Return a ring, a group of readers, a cache and a canvas; the transforms are ours, or SciPy's."""
    ring, done = nds.Ring(FRAME, np.uint16, slots=SLOTS), nds.Ring(1, np.int64, slots=64)
    cache = nds.Cache(TILE_BYTES * 256, entries=1000)
    viewer = stack.enter_context(partner(our_viewer, cache, done.reader()))
    for _ in range(WORKERS):
        stack.enter_context(partner(our_worker, ring.reader(group="fft"), cache, done, by_scipy))
    stack.callback(ring.close)

    def write(source: Array) -> None:
        with ring.write(timeout=60) as frame:
            frame[...] = source

    return {"ndshare and SciPy, context" if by_scipy else "ndshare": film(viewer, write)}


# ---- the standard library, with SciPy -------------------------------------------------------------------------------


def magnitudes(frame: Array, tile: Array) -> None:
    """Transform by SciPy, in single precision."""
    scipy: Any = import_module("scipy.fft")
    spectrum = scipy.rfft2(frame.astype(np.float32), workers=1)
    np.abs(spectrum[:TILE, :TILE], out=tile)


class Slots:
    """Arrays in one SharedMemory, by their numbers."""

    def __init__(self, memory: SharedMemory, shape: tuple[int, int], dtype: Any, count: int) -> None:
        self.memory = memory
        nbytes = memory.size // count
        self.arrays: list[Any] = [np.ndarray(shape, dtype, memory.buf, number * nbytes) for number in range(count)]

    def close(self) -> None:
        """Let go of the arrays, and then of the memory."""
        self.arrays.clear()
        self.memory.close()


def shared_worker(conn: Connection, other: Connection, _: int, names: tuple[str, str], queues: list[Any]) -> None:
    """Transform frames of slots into slots for tiles."""
    other.close()
    filled, free, tiles_free, done = queues
    frames = Slots(SharedMemory(names[0]), FRAME, np.uint16, SLOTS)
    tiles = Slots(SharedMemory(names[1]), (TILE, TILE), np.float32, TILE_SLOTS)
    while (task := filled.get()) is not None:
        number, slot = task
        place = tiles_free.get()
        magnitudes(frames.arrays[slot], tiles.arrays[place])
        free.put(slot)
        done.put((number, place))
    frames.close()
    tiles.close()
    conn.recv()


def shared_viewer(conn: Connection, other: Connection, _: int, name: str, tiles_free: Any, done: Any) -> None:
    """Put tiles of slots side by side."""
    tiles = Slots(SharedMemory(name), (TILE, TILE), np.float32, TILE_SLOTS)
    canvas = np.zeros((TILE, TILES * TILE), np.float32)

    def compose(places: list[int]) -> Array:
        np.concatenate([tiles.arrays[place] for place in places], axis=1, out=canvas)
        for place in places:
            tiles_free.put(place)
        return canvas

    viewer = Viewer(compose)

    def work(count: int) -> None:
        for _ in range(count):
            viewer.take(*done.get())

    stand_by(conn, other, work)
    tiles.close()


def _queue() -> Any:
    return mp.get_context("spawn").SimpleQueue()


def shared_memory(stack: ExitStack) -> Contestants:
    """Return slots in SharedMemory, whose numbers go through queues, and SciPy's transforms."""
    sizes = (SLOTS * FRAME_BYTES, TILE_SLOTS * TILE_BYTES)
    memories = [SharedMemory(create=True, size=size) for size in sizes]
    for memory in memories:
        stack.callback(memory.unlink)
    frames = Slots(memories[0], FRAME, np.uint16, SLOTS)
    stack.callback(frames.close)
    stack.callback(memories[1].close)
    filled, free, tiles_free, done = (_queue() for _ in range(4))
    queues = [filled, free, tiles_free, done]
    for queue, count in ((free, SLOTS), (tiles_free, TILE_SLOTS)):
        for number in range(count):
            queue.put(number)
    viewer = stack.enter_context(partner(shared_viewer, memories[1].name, tiles_free, done))
    names = (memories[0].name, memories[1].name)
    for _ in range(WORKERS):
        stack.enter_context(partner(shared_worker, names, queues))
    stack.callback(lambda: [filled.put(None) for _ in range(WORKERS)])
    numbers = iter(range(1 << 60))

    def write(source: Array) -> None:
        slot = free.get()
        np.copyto(frames.arrays[slot], source)
        filled.put((next(numbers), slot))

    return {"SharedMemory, queues and SciPy": film(viewer, write)}


# ---- iceoryx2, with SciPy -------------------------------------------------------------------------------------------


def ice(node: Any, name: str, publishes: bool, nbytes: int) -> targets.Ice:
    """Return one direction of iceoryx2 for frames or tiles, each behind its number."""
    return targets.Ice(node, name, publishes, SLOTS, NUMBER_BYTES + nbytes)


def received(port: targets.Ice) -> Any:
    """Wait for a sample; with four processes on two CPUs it is best to sleep between two looks."""
    while (sample := port.port.receive()) is None:
        sleep(PAUSE)
    return sample


def parts(sample: Any, shape: tuple[int, int], dtype: Any) -> tuple[Array, Array]:
    """Return a sample's number and its array."""
    view = sample.payload().as_memory_view()
    return np.frombuffer(view, np.int64, 1), np.frombuffer(view, dtype, -1, NUMBER_BYTES).reshape(shape)


def ice_worker(conn: Connection, other: Connection, _: int, name: str) -> None:
    """Transform samples, and publish tiles."""
    other.close()
    node = targets.ice_node()
    into, out = ice(node, f"{name}/frames", False, FRAME_BYTES), ice(node, f"{name}/tiles", True, TILE_BYTES)
    conn.send("there")
    while True:
        sample = received(into)
        number, frame = parts(sample, FRAME, np.uint16)
        if number[0] < 0:
            break
        loan = out.port.loan_slice_uninit(out.nbytes)
        its_number, tile = parts(loan, (TILE, TILE), np.float32)
        magnitudes(frame, tile)
        its_number[0] = number[0]
        del number, frame, its_number, tile
        sample.delete()
        loan.assume_init().send()
    conn.recv()


def ice_viewer(conn: Connection, other: Connection, _: int, names: list[str]) -> None:
    """Copy tiles to their places as they come: no store is needed, and no second copy."""
    node = targets.ice_node()
    ports = [ice(node, f"{name}/tiles", False, TILE_BYTES) for name in names]
    canvases = [np.zeros((TILE, TILES * TILE), np.float32) for _ in range(4)]

    def compose(places: list[int]) -> Array:
        return canvases[places[0] // TILES % len(canvases)]

    viewer = Viewer(compose)
    conn.send("there")

    def look() -> int:
        found = 0
        for port in ports:
            while (sample := port.port.receive()) is not None:
                number, tile = parts(sample, (TILE, TILE), np.float32)
                place = int(number[0])
                start = place % TILES * TILE
                canvases[place // TILES % len(canvases)][:, start : start + TILE] = tile
                del number, tile
                sample.delete()
                viewer.take(place, place)
                found += 1
        return found

    def work(count: int) -> None:
        while count:
            found = look()
            count -= found
            if not found:
                sleep(PAUSE)

    stand_by(conn, other, work)


def iceoryx2(stack: ExitStack) -> Contestants:
    """Return services of iceoryx2: frames go to the workers by turns, for it has no group that shares them."""
    if find_spec("iceoryx2") is None:
        return {}
    node = targets.ice_node()
    names = [f"ndshare-bench-{os.getpid()}/end-{number}" for number in range(WORKERS)]
    ports = [ice(node, f"{name}/frames", True, FRAME_BYTES) for name in names]
    viewer = stack.enter_context(partner(ice_viewer, names))
    viewer.recv()
    for name in names:
        stack.enter_context(partner(ice_worker, name)).recv()
    numbers = iter(range(1 << 60))

    def write(source: Array, number: int | None = None) -> None:
        number = next(numbers) if number is None else number
        port = ports[number % WORKERS]
        sample = port.port.loan_slice_uninit(port.nbytes)
        its_number, frame = parts(sample, FRAME, np.uint16)
        its_number[0] = number
        frame[...] = source
        del its_number, frame
        sample.assume_init().send()

    stack.callback(lambda: [write(sources()[0], -1 - number) for number in range(WORKERS)])
    return {"iceoryx2 and SciPy": film(viewer, write)}


# ---- Ray, with SciPy ------------------------------------------------------------------------------------------------


class RayWorker:
    """An actor that transforms."""

    def tile(self, frame: Array) -> Array:
        """Return a frame's tile."""
        tile = np.empty((TILE, TILE), np.float32)
        magnitudes(frame, tile)
        return tile


class RayViewer:
    """An actor that puts tiles side by side."""

    def __init__(self) -> None:
        self.canvas = np.zeros((TILE, TILES * TILE), np.float32)
        self.viewer = Viewer(self.compose)
        self.number = 0

    def compose(self, tiles: list[Array]) -> Array:
        """Put tiles side by side."""
        return np.concatenate(tiles, axis=1, out=self.canvas)

    def show(self, *tiles: Array) -> None:
        """Take the tiles of a canvas."""
        for tile in tiles:
            self.viewer.take(self.number, tile)
            self.number += 1


def with_ray(stack: ExitStack) -> Contestants:
    """Return actors of Ray, and its store."""
    if find_spec("ray") is None:
        return {}
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else it leaves a token in the user's folder
    ray: Any = import_module("ray")
    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, logging_level="ERROR", object_store_memory=1 << 30)
    stack.callback(ray.shutdown)
    workers = [ray.remote(RayWorker).remote() for _ in range(WORKERS)]
    viewer = ray.remote(RayViewer).remote()
    frames = sources()

    def go() -> float:
        start = perf_counter()
        tiles: list[Any] = []
        waiting: list[Any] = []
        shown: Any = None
        for number in range(FRAMES):
            if len(waiting) == SLOTS:
                waiting = ray.wait(waiting)[1]
            tiles.append(workers[number % WORKERS].tile.remote(ray.put(frames[number % 4])))
            waiting.append(tiles[-1])
            if len(tiles) == TILES:
                shown = viewer.show.remote(*tiles)
                tiles = []
        ray.get(shown)
        return (perf_counter() - start) / FRAMES

    return {"Ray and SciPy": go}


def everybody(*makers: Callable[[ExitStack], Contestants]) -> Iterator[Contestants]:
    """Set up all of them, and end them in the reverse order."""
    with ExitStack() as stack:
        made: Contestants = {}
        for make in makers:
            made |= make(stack)
        yield made


bench(
    "end-to-end",
    "a frame of 2 MiB from the camera through two transforming processes and a store into a canvas",
    rounds=9,
    note="the camera waits where there is no room, so no frame is lost; the reciprocal is the sustained rate",
    best=True,
    context="context",
)(partial(everybody, partial(ours, False), shared_memory, iceoryx2, with_ray, partial(ours, True)))
