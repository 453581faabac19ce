"""The same work at several sizes: lines for the plots. The limit is one of them, where it is known.

Frames go one way from process to process, one processor each; the producer has them in memory of its own, and copies
each in. The consumer gets an array or bytes, and looks at one item. Nobody loses any.
"""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import prod
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench import ring_targets as targets
from bench.curves import size_text
from bench.harness import Contestants, bench, partner, pinned
from bench.memory import bytes_of, first
from bench.rates import by_value, take

Array = np.ndarray[Any, Any]
Put = Callable[[Array], object]
Side = tuple[Connection, Put]
KIB, MIB = 1 << 10, 1 << 20


# ---- frames from process to process ---------------------------------------------------------------------------------

SLOTS = 8
BYTES_OF_ROUND, MOST_FRAMES, FEWEST_FRAMES = 512 * MIB, 4000, 8


def _frames(nbytes: int) -> list[Array]:
    """Return frames that differ in their first item."""
    return [np.full(nbytes, number, np.uint8) for number in range(4)]


def _pass_on(conn: Connection, put: Put, frames: list[Array], count: int) -> float:
    """Have the partner take so many frames; return the seconds of one."""
    conn.send(count)
    conn.recv()
    start = perf_counter()
    for number in range(count):
        put(frames[number % 4])
    seen = conn.recv()
    took = (perf_counter() - start) / count
    if seen != sum(number % 4 for number in range(count)):
        raise AssertionError("the consumer saw other frames")
    return took


def take_slots(conn: Connection, other: Connection, cpu: int, name: str, full: Any, free: Any) -> None:  # noqa: PLR0917
    """Take frames out of the slots of a SharedMemory."""
    memory = SharedMemory(name)
    nbytes = memory.size // SLOTS

    def look() -> int:
        slot = full.get()
        seen = int(bytes_of(memory, 1, slot * nbytes)[0])
        free.put(slot)
        return seen

    targets.serve(conn, other, cpu, lambda times: sum(look() for _ in range(times)))
    memory.close()


def take_samples(conn: Connection, other: Connection, cpu: int, name: str, nbytes: int) -> None:
    """Take the samples of iceoryx2, looking all the time."""
    there = targets.Ice(targets.ice_node(), name, False, SLOTS, nbytes)
    targets.serve(conn, other, cpu, lambda times: sum(there.look(0) for _ in range(times)))


def _ring(stack: ExitStack, nbytes: int) -> Side:
    ring = nds.Ring(nbytes, np.uint8, slots=SLOTS)
    return stack.enter_context(partner(take, ring.reader())), ring.put


def _slots(stack: ExitStack, nbytes: int) -> Side:
    """Return slots in one SharedMemory, whose numbers go through queues: the best of what Python has."""
    context = mp.get_context("spawn")
    memory = SharedMemory(create=True, size=SLOTS * nbytes)
    stack.callback(memory.unlink)
    stack.callback(memory.close)
    full, free = context.SimpleQueue(), context.SimpleQueue()
    for slot in range(SLOTS):
        free.put(slot)
    conn = stack.enter_context(partner(take_slots, memory.name, full, free))

    def put(frame: Array) -> None:
        slot = free.get()
        np.copyto(bytes_of(memory, nbytes, slot * nbytes), frame)
        full.put(slot)

    return conn, put


def _by_value(stack: ExitStack) -> dict[str, Side]:
    (in_queue, queue), (in_pipe, pipe) = by_value(stack, SLOTS)
    made: dict[str, tuple[Connection, Any]] = {
        "Queue, by value": (in_queue, queue.put),
        "Pipe of bytes": (in_pipe, pipe.send_bytes),
    }
    return made


def _ice(stack: ExitStack, nbytes: int) -> dict[str, Side]:
    """Return iceoryx2 as it is documented, if it is installed."""
    if find_spec("iceoryx2") is None:
        return {}
    name = f"ndshare-bench-{os.getpid()}/sizes-{nbytes}"
    out = targets.Ice(targets.ice_node(), name, True, SLOTS, nbytes)
    return {"iceoryx2": (stack.enter_context(partner(take_samples, name, nbytes)), out.copy_in)}


def _copied(frames: list[Array], count: int) -> float:
    """Copy frames into as many arrays as there are slots."""
    arrays = _COPIES.setdefault(frames[0].nbytes, [nds.zeros(frames[0].nbytes, np.uint8) for _ in range(SLOTS)])
    start = perf_counter()
    for number in range(count):
        np.copyto(arrays[number % SLOTS], frames[number % 4])
    return (perf_counter() - start) / count


_COPIES: dict[int, list[Array]] = {}


def passing(nbytes: int) -> Iterator[Contestants]:
    """Pass frames of so many bytes on."""
    frames = _frames(nbytes)
    count = max(FEWEST_FRAMES, min(MOST_FRAMES, BYTES_OF_ROUND // nbytes))
    with ExitStack() as stack, pinned(0):
        sides = {
            "ndshare": _ring(stack, nbytes),
            "SharedMemory and queues": _slots(stack, nbytes),
            **_ice(stack, nbytes),
        }
        counted = {label: (*side, count) for label, side in sides.items()}
        # What goes by value takes so much longer that fewer frames are enough.
        counted |= {label: (*side, max(FEWEST_FRAMES, count // 8)) for label, side in _by_value(stack).items()}
        made: Contestants = {
            label: partial(_pass_on, conn, put, frames, n) for label, (conn, put, n) in counted.items()
        }
        yield {**made, "the copy alone": lambda: _copied(frames, count)}


def _register_passing(nbytes: int) -> None:
    bench(
        f"size-frames-{nbytes}",
        f"a frame of {size_text(nbytes)} that is copied in, from process to process",
        rounds=9,
        series="frames",
        x=nbytes,
        limit="the copy alone",
    )(partial(passing, nbytes))


for _nbytes in (KIB, 16 * KIB, 256 * KIB, 4 * MIB, 32 * MIB):
    _register_passing(_nbytes)


# ---- copies, and many arrays into one -------------------------------------------------------------------------------


def _repeated(work: Callable[[], object], times: int, is_made: Callable[[], bool]) -> Callable[[], float]:
    """Return a contestant that does the work some times, and then looks at what came of it."""

    def go() -> float:
        start = perf_counter()
        for _ in range(times):
            work()
        took = (perf_counter() - start) / times
        if not is_made():
            raise AssertionError("other bytes")
        return took

    return go


def copies(nbytes: int) -> Iterator[Contestants]:
    """Copy so many bytes to another array, again and again."""
    source, out = nds.full(nbytes, 7, np.uint8), nds.zeros(nbytes, np.uint8)
    times = max(1, min(2000, 64 * MIB // nbytes))

    def is_made() -> bool:
        seen = bool(out[0] == out[-1] == 7)
        out[0] = out[-1] = 0
        return seen

    with pinned(0):
        yield {
            "ndshare.copyto": _repeated(lambda: nds.copyto(out, source, workers=1), times, is_made),
            "np.copyto": _repeated(lambda: np.copyto(out, source), times, is_made),
        }


def montage(side: int) -> Iterator[Contestants]:
    """Put 100 images side by side."""
    shape = (side, side, 4)
    images = [np.full(shape, number, np.uint8) for number in range(100)]
    out = nds.zeros((side, 100 * side, 4), np.uint8)
    flat = nds.zeros((100, *shape), np.uint8)
    times = max(1, min(200, 64 * MIB // out.nbytes))

    def is_made() -> bool:
        seen = out[side // 2, side // 2 :: side, 0].tolist() == list(range(100))
        out[side // 2] = 255
        return seen

    def is_flat() -> bool:
        seen = flat[:, side // 2, side // 2, 0].tolist() == list(range(100))
        flat[:, side // 2] = 255
        return seen

    with pinned(0):
        made: Contestants = {
            "ndshare.concatenate": _repeated(
                lambda: nds.concatenate(images, axis=1, out=out, workers=1), times, is_made
            ),
            "np.concatenate": _repeated(lambda: np.concatenate(images, axis=1, out=out), times, is_made),
        }
        if find_spec("cv2") is not None:
            cv2: Any = import_module("cv2")
            cv2.setNumThreads(1)
            made["cv2.hconcat"] = _repeated(partial(cv2.hconcat, images, out), times, is_made)
        flat_copy = _repeated(lambda: nds.stack(images, out=flat, workers=1), times, is_flat)
        yield {**made, "into contiguous pieces": flat_copy}


def _register_copies(nbytes: int) -> None:
    bench(f"size-copy-{nbytes}", f"copy {size_text(nbytes)}, 1 thread", rounds=15, series="copy", x=nbytes)(
        partial(copies, nbytes)
    )


def _register_montage(side: int) -> None:
    bench(
        f"size-montage-{side}",
        f"100 images of ({side}, {side}, 4) side by side, 1 thread",
        rounds=15,
        series="montage",
        x=prod((side, side, 4)),
        limit="into contiguous pieces",
    )(partial(montage, side))


for _nbytes in (4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB):
    _register_copies(_nbytes)
for _side in (16, 64, 256, 1024):
    _register_montage(_side)


# ---- memory that nobody has touched ---------------------------------------------------------------------------------


def touched(nbytes: int) -> Iterator[Contestants]:
    """Allocate and fill so many bytes, the first time; beside memory that is warm."""
    warm = np.zeros(nbytes, np.uint8)

    def fill() -> float:
        start = perf_counter()
        warm.fill(7)
        return perf_counter() - start

    with pinned(0):
        contestants = first(nbytes)
        contestants.pop("ndshare, arena made and closed too")
        yield {**contestants, "warm memory": fill}


def _register_touched(nbytes: int) -> None:
    bench(
        f"size-first-{nbytes}",
        f"allocate and fill {size_text(nbytes)}, the first time",
        rounds=25,
        series="first",
        x=nbytes,
        limit="warm memory",
    )(partial(touched, nbytes))


for _nbytes in (64 * KIB, MIB, 16 * MIB, 256 * MIB):
    _register_touched(_nbytes)
