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
from bench import targets
from bench.harness import Contestants, Target, bench, partner, pinned
from bench.machine import memory

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
OPEN_RING = """
import sys, time
import ndshare as nds
start = time.perf_counter()
frame = nds.ref(sys.argv[1]).open().reader(start="oldest").get(timeout=60)
print(time.perf_counter() - start, frame[0])
"""


def _attach(ref: nds.Ref[Any], program: str = OPEN) -> float:
    """Have a new process join the arena for one array, and tell how long that took."""
    done = subprocess.run([sys.executable, "-c", program, str(ref)], check=True, stdout=subprocess.PIPE, text=True)
    took, first = done.stdout.split()
    if first != "7":
        raise AssertionError("another array")
    return float(took)


ARRAYS = (4 << 30, 1 << 10, 1 << 20, 64 << 20, 1 << 30)
BY_VALUE = (64 << 20, 1 << 10, 1 << 20)


@bench(
    "growth-array",
    "send an array of 4 GiB through a Pipe, and get it back",
    target=Target("at most", 1.5),
    rounds=15,
    note="by value for comparison, up to 64 MiB",
)
def arrays() -> Iterator[Contestants]:
    """Send where an array is, and not what is in it."""
    with partner(targets.echo) as conn, pinned(0):

        def contestant(array: Array, times: int) -> Callable[[], float]:
            return lambda: _there_and_back(conn, array, times)

        sizes = [size for size in ARRAYS if size <= memory() // 4]
        ours = {f"{size:,} bytes": contestant(_ends(nds.empty(size, np.uint8)), 100) for size in sizes}
        yield ours | {f"by value {size:,}": contestant(np.full(size, 7, np.uint8), 2) for size in BY_VALUE}


def _ends(array: Array) -> Array:
    """Write what is looked at: nothing else is read."""
    array[0] = array[-1] = 7
    return array


def _there_and_back(conn: Connection, array: Array, times: int) -> float:
    """Send and receive it some times, and look at its ends."""
    start = perf_counter()
    for _ in range(times):
        conn.send(array)
        back = conn.recv()
    took = (perf_counter() - start) / times
    if not back[0] == back[-1] == 7:
        raise AssertionError("another array")
    return took


@bench("growth-attach", "join an arena with 100,000 blocks for one array", target=Target("at most", 1.5), rounds=7)
def attach() -> Iterator[Contestants]:
    """Join without a look at what there is."""
    with _arenas(BLOCKS) as arenas:

        def contestant(arena: nds.Arena) -> Callable[[], float]:
            ref = nds.ref(nds.full(KIB, 7, np.uint8, arena=arena))
            return lambda: _attach(ref)

        yield {f"{count:,} blocks": contestant(arena) for count, arena in arenas.items()}


@bench(
    "growth-ring-attach",
    "join an arena with 100,000 blocks for a ring, and read a frame",
    target=Target("at most", 1.5),
    rounds=7,
)
def ring_attach() -> Iterator[Contestants]:
    """Join, open a ring and make a reader without a look at what there is."""
    with _arenas(BLOCKS) as arenas:
        rings = {count: nds.Ring(KIB, np.uint8, slots=4, keep=1, arena=arena) for count, arena in arenas.items()}
        for ring in rings.values():
            ring.put(np.full(KIB, 7, np.uint8))

        def contestant(ring: nds.Ring[Any]) -> Callable[[], float]:
            ref = nds.ref(ring)
            return lambda: _attach(ref, OPEN_RING)

        yield {f"{count:,} blocks": contestant(ring) for count, ring in rings.items()}
        rings.clear()


# ---- rings ----------------------------------------------------------------------------------------------------------

BURST = 32
LINE = np.zeros(KIB, np.uint8)


def _bursts(ring: nds.Ring[Any], readers: list[nds.Reader[Any]]) -> Callable[[], float]:
    """Return a contestant that puts frames while the readers look on, and has them read outside the clock."""

    def go() -> float:
        took = 0.0
        for _ in range(30):
            start = perf_counter()
            for _ in repeat(None, BURST):
                ring.put(LINE)
            took += perf_counter() - start
            for reader in readers:
                while reader.lag:
                    reader.get_many(BURST)
        return took / 30 / BURST

    return go


@bench(
    "growth-ring-slots", "put into a ring of 8192 slots, readers 32 behind", target=Target("at most", 1.5), rounds=15
)
def ring_slots() -> Iterator[Contestants]:
    """Find a frame to write without a look at all."""
    with pinned(0):
        rings = {slots: nds.Ring(KIB, np.uint8, slots=slots) for slots in (8192, 64, 1024)}
        yield {f"{slots:,} slots": _bursts(ring, [ring.reader()]) for slots, ring in rings.items()}


@bench(
    "growth-ring-readers",
    "put into a ring with 64 readers of every frame",
    rounds=15,
    note="a writer looks at the place of each reader, so this grows by some dozen nanoseconds a reader",
)
def ring_readers() -> Iterator[Contestants]:
    """Look at each reader."""

    def contestant(count: int) -> Callable[[], float]:
        ring = nds.Ring(KIB, np.uint8, slots=64)
        return _bursts(ring, [ring.reader() for _ in range(count)])

    with pinned(0):
        yield {f"{count} readers": contestant(count) for count in (64, 1, 4, 16)}


# ---- processes ------------------------------------------------------------------------------------------------------

PROCESSES = (64, 1, 4, 16)


def _stay(cache: nds.Cache, conn: Connection) -> None:
    """Hold a value until told to leave."""
    value = cache[0]
    conn.send(int(value[0]))
    conn.recv()


def _stay_attached(ring: nds.Ring[Any], conn: Connection) -> None:
    """Have read a frame, and look on for the newest until told to leave."""
    reader = ring.reader(latest=True, start="oldest")
    conn.send(int(reader.get()[0]))
    conn.recv()


@contextmanager
def _others(cache: Any, count: int, stay: Callable[..., None] = _stay) -> Generator[None]:
    """Have so many processes hold a value of the cache, or a reader of the ring."""
    context = mp.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [context.Process(target=stay, args=(cache, theirs), daemon=True) for _, theirs in pipes]
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


@bench(
    "growth-ring-processes",
    "put and get a frame in a ring that 63 other processes read",
    rounds=7,
    note="a writer looks at the place of each reader, as above; the processes add nothing to that",
)
def processes_ring() -> Iterator[Contestants]:
    """Put and get beside many that look on."""
    rings = {count: nds.Ring(KIB, np.uint8, slots=64, keep=1) for count in PROCESSES}
    for ring in rings.values():
        ring.put(LINE)

    def contestant(ring: nds.Ring[Any], count: int) -> Callable[[], float]:
        def go() -> float:
            with _others(ring, count - 1, _stay_attached), pinned(0):
                work = _bursts(ring, [ring.reader()])
                work()
                return work()

        return go

    yield {f"{count} processes": contestant(ring, count) for count, ring in rings.items()}
