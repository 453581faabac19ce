"""Whether the same step takes longer when there is more of everything: entries, blocks, processes.

The contestants of a row are the same step at several sizes, the largest first, beside the smallest. What has to grow is
the time in which the CPU finds words that no cache of it has: a hundred thousand entries are 45 MB of tables. A dict of
the same size stands beside the caches, for it grows by the same cause.
"""

from __future__ import annotations

import multiprocessing as mp
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import repeat
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import Contestants, Target, bench, pinned

Array = np.ndarray[Any, Any]

LOOKS = 2000
KIB = 1 << 10


def _looks(have: Callable[[Any], Any], entries: int) -> Callable[[], float]:
    """Return a contestant that has values by keys in random order."""
    dice = random.Random(1)
    keys = [dice.randrange(entries) for _ in range(LOOKS)]

    def go() -> float:
        start = perf_counter()
        for key in keys:
            have(key)
        return (perf_counter() - start) / LOOKS

    return go


def _cache(entries: int) -> nds.Cache:
    """Return a cache of so many values, which are found by their numbers."""
    cache = nds.Cache("1 GiB", entries=entries)
    value = np.zeros(64, np.uint8)
    for key in range(entries):
        cache[key] = value
    return cache


ENTRIES = (100_000, 100, 1000, 10_000)


@bench(
    "growth-hit", "have a value of a cache with 100,000 entries, keys at random", target=Target("at most", 3), rounds=15
)
def hits() -> Iterator[Contestants]:
    """Find what there is in no more steps than among few."""
    caches = {entries: _cache(entries) for entries in ENTRIES}
    dicts = {entries: {key: np.zeros(64, np.uint8) for key in range(entries)} for entries in (ENTRIES[0], ENTRIES[1])}
    with pinned(0):
        ours = {f"{entries:,} entries": _looks(cache.__getitem__, entries) for entries, cache in caches.items()}
        peers = {f"dict of {entries:,}": _looks(have.__getitem__, entries) for entries, have in dicts.items()}
        yield ours | peers


@bench("growth-store", "store in a full cache with 100,000 entries", target=Target("at most", 3), rounds=15)
def stores() -> Iterator[Contestants]:
    """Evict and store in no more steps than among few."""
    caches = {entries: _cache(entries) for entries in ENTRIES}
    value = np.zeros(64, np.uint8)

    def go(cache: nds.Cache, names: Iterator[int]) -> float:
        some = [next(names) for _ in range(LOOKS)]
        start = perf_counter()
        for key in some:
            cache[key] = value
        return (perf_counter() - start) / LOOKS

    def contestant(entries: int, cache: nds.Cache) -> Callable[[], float]:
        names = iter(range(entries, sys.maxsize))
        return lambda: go(cache, names)

    with pinned(0):
        yield {f"{entries:,} entries": contestant(entries, cache) for entries, cache in caches.items()}


# ---- blocks ---------------------------------------------------------------------------------------------------------

BLOCKS = (100_000, 1, 100, 10_000)


def _make_and_drop(nbytes: int, arena: nds.Arena) -> float:
    start = perf_counter()
    for _ in repeat(None, 500):
        nds.empty(nbytes, np.uint8, arena=arena)
    return (perf_counter() - start) / 500


@contextmanager
def _arenas(sizes: tuple[int, ...]) -> Generator[dict[int, nds.Arena]]:
    """Make an arena for each number of arrays, which live meanwhile."""
    arenas = {count: nds.Arena("1 GiB") for count in sizes}
    kept = [[nds.empty(KIB, np.uint8, arena=arena) for _ in range(count)] for count, arena in arenas.items()]
    yield arenas
    kept.clear()
    for arena in arenas.values():
        arena.close()


def _growing(nbytes: int) -> Iterator[Contestants]:
    with _arenas(BLOCKS) as arenas, pinned(0):

        def contestant(arena: nds.Arena) -> Callable[[], float]:
            return lambda: _make_and_drop(nbytes, arena)

        yield {f"beside {count:,}": contestant(arena) for count, arena in arenas.items()}


@bench(
    "growth-small", "make and drop an array of 1 KiB beside 100,000 others", target=Target("at most", 1.5), rounds=15
)
def small() -> Iterator[Contestants]:
    """Take a block that is kept ready."""
    yield from _growing(KIB)


@bench(
    "growth-large", "make and drop an array of 1 MiB beside 100,000 others", target=Target("at most", 1.5), rounds=15
)
def large() -> Iterator[Contestants]:
    """Take a block of the arena's."""
    yield from _growing(1024 * KIB)


OPEN = """
import sys, time
import ndshare as nds
start = time.perf_counter()
array = nds.ref(sys.argv[1]).open()
print(time.perf_counter() - start, array[0])
"""


def _attach(ref: nds.Ref[Any]) -> float:
    """Have a new process join the arena for one array, and tell how long that took."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(ref)], check=True, stdout=subprocess.PIPE, text=True)
    took, first = done.stdout.split()
    if first != "7":
        raise AssertionError("another array")
    return float(took)


@bench("growth-attach", "join an arena with 100,000 blocks for one array", target=Target("at most", 1.5), rounds=7)
def attach() -> Iterator[Contestants]:
    """Join without a look at what there is."""
    with _arenas(BLOCKS) as arenas:

        def contestant(arena: nds.Arena) -> Callable[[], float]:
            ref = nds.ref(nds.full(KIB, 7, np.uint8, arena=arena))
            return lambda: _attach(ref)

        yield {f"{count:,} blocks": contestant(arena) for count, arena in arenas.items()}


# ---- processes ------------------------------------------------------------------------------------------------------

PROCESSES = (64, 1, 8)


def _stay(cache: nds.Cache, conn: Connection) -> None:
    """Hold a value until told to leave."""
    value = cache[0]
    conn.send(int(value[0]))
    conn.recv()


@contextmanager
def _others(cache: nds.Cache, count: int) -> Generator[None]:
    """Have so many processes hold a value of the cache."""
    context = mp.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [context.Process(target=_stay, args=(cache, theirs), daemon=True) for _, theirs in pipes]
    for process in processes:
        process.start()
    for mine, _ in pipes:
        mine.recv()
    yield
    for mine, _ in pipes:
        mine.send(None)
    for process in processes:
        process.join()


def _among(work: Callable[[nds.Cache], Callable[[], float]]) -> Iterator[Contestants]:
    """Do the work beside none, a few and many other processes, each time anew."""
    caches = {count: _cache(100) for count in PROCESSES}

    def contestant(count: int) -> Callable[[], float]:
        def go() -> float:
            with _others(caches[count], count - 1), pinned(0):
                timed = work(caches[count])
                timed()
                return timed()

        return go

    yield {f"{count} processes": contestant(count) for count in PROCESSES}


@bench("growth-processes-hit", "have a value that 63 other processes hold", target=Target("at most", 1.5), rounds=7)
def processes_hit() -> Iterator[Contestants]:
    """Take a hold beside many."""
    yield from _among(lambda cache: _looks(lambda _: cache[0], 1))


@bench(
    "growth-processes-make",
    "make and drop an array of 1 MiB among 64 processes",
    target=Target("at most", 1.5),
    rounds=7,
)
def processes_make() -> Iterator[Contestants]:
    """Take a block of the arena's beside many."""

    def work(_: nds.Cache) -> Callable[[], float]:
        def go() -> float:
            start = perf_counter()
            for _ in repeat(None, 500):
                nds.empty(1024 * KIB, np.uint8)
            return (perf_counter() - start) / 500

        return go

    yield from _among(work)
