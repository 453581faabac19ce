"""Getting memory: warm, for the first time, and in small pieces.

"The first time" means memory that no process has touched since the kernel gave it out. Ours comes from an arena
made just before the clock starts, so that it has no warm block to offer. The peer's comes from a SharedMemory made
inside the clock, because that is how it is had; so a row for ours with the arena made and closed inside the clock
stands beside it. The peer's time ends when its memory is closed and unlinked, ours when the array is dropped. The host
of a virtual machine may have taken free memory back; it gives it again before such a bench begins.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from itertools import repeat
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench, pinned

MIB = 1 << 20
GIB = 1 << 30


def warm_host(size: int) -> None:
    """Have the host of a virtual machine give so much memory: what it took back comes ten times as slowly."""
    memory = mmap.mmap(-1, size)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1


def bytes_of(memory: SharedMemory, size: int, start: int = 0) -> np.ndarray[Any, Any]:
    """Return an array over bytes of a SharedMemory."""
    return np.ndarray(size, np.uint8, memory.buf, start)


def _fill(x: np.ndarray[Any, Any]) -> None:
    x.fill(7)


def _check(x: np.ndarray[Any, Any]) -> None:
    if not (x[0] == x[-1] == x[x.size // 2] == 7):
        raise AssertionError("the filled array has other bytes")


def _ours(size: int, arena: nds.Arena | None) -> float:
    """Allocate, fill and drop; the check stands between two clocks."""
    start = perf_counter()
    x = nds.empty(size, np.uint8, arena=arena)
    _fill(x)
    took = perf_counter() - start
    _check(x)
    start = perf_counter()
    del x
    return took + perf_counter() - start


def _ours_cold(size: int) -> float:
    with nds.Arena(2 * size + 64 * MIB) as arena:
        return _ours(size, arena)


def _ours_with_arena(size: int) -> float:
    start = perf_counter()
    arena = nds.Arena(2 * size + 64 * MIB)
    took = perf_counter() - start + _ours(size, arena)
    start = perf_counter()
    arena.close()
    del arena
    return took + perf_counter() - start


def _shared_memory(size: int) -> float:
    """Create, fill, close and unlink."""
    start = perf_counter()
    memory = SharedMemory(create=True, size=size)
    x = bytes_of(memory, size)
    _fill(x)
    took = perf_counter() - start
    _check(x)
    start = perf_counter()
    del x
    memory.close()
    memory.unlink()
    return took + perf_counter() - start


def _numpy(size: int) -> float:
    start = perf_counter()
    x = np.empty(size, np.uint8)
    _fill(x)
    took = perf_counter() - start
    _check(x)
    start = perf_counter()
    del x
    return took + perf_counter() - start


@bench("warm-4mib", "allocate and fill 4 MiB, warm", target=Target("faster", 20), rounds=200)
def warm() -> Iterator[Contestants]:
    """Reuse a block that was just dropped, as a loop over frames does."""
    with pinned(0):
        yield {
            "ndshare": lambda: _ours(4 * MIB, None),
            "SharedMemory": lambda: _shared_memory(4 * MIB),
            "np.empty (private)": lambda: _numpy(4 * MIB),
        }


def first(size: int) -> Contestants:
    """Return who allocates and fills so much memory for the first time."""
    warm_host(4 * size + 64 * MIB)
    return {
        "ndshare": lambda: _ours_cold(size),
        "SharedMemory": lambda: _shared_memory(size),
        "ndshare, arena made and closed too": lambda: _ours_with_arena(size),
        "np.empty (private)": lambda: _numpy(size),
    }


@bench("first-4mib", "allocate and fill 4 MiB, the first time", target=Target("faster", 5), rounds=100)
def first_small() -> Iterator[Contestants]:
    """Touch memory that nobody has touched."""
    with pinned(0):
        yield first(4 * MIB)


@bench("first-1gib", "allocate and fill 1 GiB, the first time", target=Target("faster", 4), rounds=9)
def first_large() -> Iterator[Contestants]:
    """Touch so much of it that nothing but the pages counts."""
    with pinned(0):
        yield first(GIB)


def _loop(make: Callable[..., object], times: int) -> float:
    """Create and drop many small arrays; return the seconds of one."""
    dtype = np.uint8
    start = perf_counter()
    for _ in repeat(None, times):
        make(1024, dtype)
    return (perf_counter() - start) / times


@bench("create-1kib", "create and drop an array of 1 KiB", target=Target("at most", 3), rounds=60)
def create() -> Iterator[Contestants]:
    """Pay for the object and the block, and for nothing else."""
    with pinned(0):
        yield {
            "ndshare": lambda: _loop(nds.empty, 20_000),
            "np.empty": lambda: _loop(np.empty, 20_000),
            "ndshare.zeros": lambda: _loop(nds.zeros, 20_000),
            "np.zeros": lambda: _loop(np.zeros, 20_000),
        }
