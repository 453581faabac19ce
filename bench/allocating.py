"""NumPy's own results inside and outside of `allocating`. The peer is NumPy as it comes, in the same process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench, pinned

MIB = 1 << 20


def _loop(work: Callable[[], object], times: int, inside: bool) -> float:
    """Do the work in a scope, or in none; return the seconds of one."""
    with nds.allocating() if inside else nullcontext():
        start = perf_counter()
        for _ in repeat(None, times):
            work()
        took = (perf_counter() - start) / times
        result = work()
    if isinstance(result, np.ndarray) and nds.is_shared(result) != (inside and result.nbytes >= 4096):
        raise AssertionError("the result is not where it should be")
    return took


def _both(work: Callable[[], object], times: int) -> Contestants:
    return {"ndshare": lambda: _loop(work, times, True), "NumPy": lambda: _loop(work, times, False)}


def _made(size: int) -> Callable[[], np.ndarray[Any, Any]]:
    return lambda: np.empty(size, np.uint8)


@bench("allocating-small", "create and drop an array of 1 KiB inside a scope", target=Target("at most", 1.2), rounds=60)
def small() -> Iterator[Contestants]:
    """Stay below the least size: one comparison more."""
    with pinned(0):
        yield _both(_made(1024), 20_000)


@bench("allocating-8kib", "create and drop an array of 8 KiB inside a scope", rounds=60)
def middle() -> Iterator[Contestants]:
    """Be just above it."""
    with pinned(0):
        yield _both(_made(8192), 20_000)


@bench("allocating-4mib", "create and drop an array of 4 MiB inside a scope", rounds=60)
def large() -> Iterator[Contestants]:
    """Reuse a warm block."""
    with pinned(0):
        yield _both(_made(4 * MIB), 2000)


@bench("allocating-sum", "a + b of 4 MiB inside a scope", target=Target("at most", 1.1), rounds=60)
def arithmetic() -> Iterator[Contestants]:
    """Write what was allocated."""
    a, b = (np.full(MIB, i, np.float32) for i in (1, 2))
    with pinned(0):
        yield _both(lambda: a + b, 50)
