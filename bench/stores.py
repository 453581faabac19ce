"""Peers that share arrays by name or keep values by key: SharedArray, pyshmem, cachebox, those that are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench import ring_targets as targets
from bench.cache import KEYS, filled, looks
from bench.harness import Contestants, bench, partner, pinned
from bench.memory import bytes_of

Array = np.ndarray[Any, Any]
MIB = 1 << 20
NBYTES = 4 * MIB
TIMES = 200


# ---- an array by its name -------------------------------------------------------------------------------------------


def _opened(open_it: Callable[[], Array]) -> Callable[[], float]:
    """Return a contestant that opens the array and looks at it."""

    def go() -> float:
        seen, start = 0, perf_counter()
        for _ in range(TIMES):
            seen = int(open_it()[-1])
        took = (perf_counter() - start) / TIMES
        if seen != 7:
            raise AssertionError("another array")
        return took

    return go


def _by_shared_memory(stack: ExitStack) -> Contestants:
    memory = SharedMemory(create=True, size=NBYTES)
    stack.callback(memory.unlink)
    stack.callback(memory.close)
    bytes_of(memory, NBYTES).fill(7)

    def go() -> float:
        seen, start = 0, perf_counter()
        for _ in range(TIMES):
            opened = SharedMemory(memory.name)
            array = bytes_of(opened, NBYTES)
            seen = int(array[-1])
            del array
            opened.close()
        took = (perf_counter() - start) / TIMES
        if seen != 7:
            raise AssertionError("another array")
        return took

    return {"SharedMemory": go}


def _by_shared_array(stack: ExitStack, name: str) -> Contestants:
    if find_spec("SharedArray") is None:
        return {}
    library: Any = import_module("SharedArray")
    library.create(f"shm://{name}", NBYTES, np.uint8)[:] = 7
    stack.callback(library.delete, f"shm://{name}")
    return {"SharedArray": _opened(lambda: library.attach(f"shm://{name}"))}


@bench("open-name", "open an array of 4 MiB by its name and look at it", rounds=15)
def by_name() -> Iterator[Contestants]:
    """Find what somebody has published. All of it is mapped, and nothing copied."""
    name = f"ndshare-bench-{os.getpid()}"
    with ExitStack() as stack, pinned(0):
        array = nds.full(NBYTES, 7, np.uint8)
        nds.publish(name, array)
        stack.callback(nds.unpublish, name)
        ours = _opened(lambda: nds.attach(name, timeout=10))
        yield {"ndshare": ours, **_by_shared_memory(stack), **_by_shared_array(stack, name)}


# ---- the newest value of a stream -----------------------------------------------------------------------------------


def answer(conn: Connection, other: Connection, cpu: int, reader: nds.Reader[Any], back: nds.Ring[Any]) -> None:
    """Take each frame of a ring, and answer with its last item."""

    def work(times: int) -> None:
        for _ in range(times):
            back.put(reader.get()[-1:])

    targets.serve(conn, other, cpu, work)


def answer_pyshmem(conn: Connection, other: Connection, cpu: int, name: str) -> None:
    """Do the same with two streams of pyshmem."""
    library: Any = import_module("pyshmem")
    there, back = library.open(f"{name}-there"), library.open(f"{name}-back")
    frame = np.empty(NBYTES, np.uint8)

    def work(times: int) -> None:
        first = back.count
        for number in range(times):
            there.read_after(first + number, out=frame, timeout=60)
            back.write(frame[-1:])

    targets.serve(conn, other, cpu, work)


def _in_step(conn: Connection, put: Callable[[Array], object], get: Callable[[], Any]) -> Callable[[], float]:
    """Return a contestant that writes a frame and waits for the answer, often."""
    frames = [np.full(NBYTES, number, np.uint8) for number in range(2)]

    def go() -> float:
        conn.send(TIMES)
        conn.recv()
        start = perf_counter()
        seen = 0
        for number in range(TIMES):
            put(frames[number % 2])
            seen += int(get()[0])
        took = (perf_counter() - start) / TIMES
        conn.recv()
        if seen != TIMES // 2:
            raise AssertionError("other answers")
        return took

    return go


def _pyshmem(stack: ExitStack) -> Contestants:
    if find_spec("pyshmem") is None:
        return {}
    library: Any = import_module("pyshmem")
    name = f"ndshare-bench-{os.getpid()}"
    there = library.create(f"{name}-there", shape=(NBYTES,), dtype=np.uint8)
    back = library.create(f"{name}-back", shape=(1,), dtype=np.uint8)
    for stream in (there, back):
        stack.callback(stream.unlink)
    conn = stack.enter_context(partner(answer_pyshmem, name))
    return {"pyshmem": _in_step(conn, there.write, lambda: back.read_after(there.count - 1, timeout=60))}


@bench("in-step", "write a frame of 4 MiB, have it read in another process, and wait for its answer", rounds=15)
def in_step() -> Iterator[Contestants]:
    """Pass frames on one by one; a stream of pyshmem has room for one, and its reader copies it."""
    there, back = nds.Ring(NBYTES, np.uint8, slots=2), nds.Ring(1, np.uint8, slots=2)
    with ExitStack() as stack, pinned(0):
        answers = back.reader()
        conn = stack.enter_context(partner(answer, there.reader(), back))
        yield {"ndshare": _in_step(conn, there.put, answers.get), **_pyshmem(stack)}


# ---- values by key --------------------------------------------------------------------------------------------------


if find_spec("cachebox") is not None:

    @bench("cache-hit-cachebox", "have one of 64 images of 4 MiB by its key, beside caches of one process", rounds=30)
    def hit_cachebox() -> Iterator[Contestants]:
        """Compare with caches that no other process can look into."""
        library: Any = import_module("cachebox")
        cache = filled()
        own = library.LRUCache(2000)
        values = {key: np.array(cache[key]) for key in KEYS}
        for key, value in values.items():
            own[key] = value
        with pinned(0):
            yield {
                "ndshare": looks(cache.__getitem__, KEYS, 50),
                "cachebox.LRUCache": looks(own.__getitem__, KEYS, 50),
                "dict": looks(values.__getitem__, KEYS, 50),
            }
