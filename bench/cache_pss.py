"""Measure what a cache takes in memory, summed over processes that all look at its values (PSS), beside its budget.

Run: .venv/bin/python bench/cache_pss.py [budget in MiB ...]
"""

from __future__ import annotations

import multiprocessing as mp
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import ndshare as nds

MIB = 1 << 20
PROCESSES = 8


def load(key: int) -> np.ndarray:
    """Return a value of about 1 MiB, of one of several sizes."""
    return np.full((1 + key % 7) * MIB // 4, key % 251, np.uint8)


def pss_of_arena() -> int:
    """Return this process's proportional share of the arena's mapping, in bytes."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
            counts = "memfd:ndshare" in line
        elif counts and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


def use(cache: nds.Cache, keys: int, conn: Connection, seed: int) -> None:
    """Load more than the cache has room for, look at all that is left, and say what it takes."""
    rng = np.random.default_rng(seed)
    for key in rng.integers(0, keys, 2 * keys):
        cache[int(key)][::4096].sum()
    conn.send("used")
    conn.recv()
    for key in range(keys):
        value = cache.get(key)
        if value is not None:
            value[::4096].sum()
        del value
    conn.send("looked")
    conn.recv()
    conn.send(pss_of_arena())
    conn.recv()


def measure(budget_mib: int) -> float:
    """Return the sum of the processes' PSS by the budget."""
    cache = nds.Cache(budget_mib * MIB, load)
    pipes = [mp.Pipe() for _ in range(PROCESSES)]
    keys = 2 * budget_mib
    workers = [mp.Process(target=use, args=(cache, keys, theirs, i)) for i, (_, theirs) in enumerate(pipes)]
    for worker in workers:
        worker.start()
    for _ in range(2):
        for mine, _ in pipes:
            mine.recv()
        for mine, _ in pipes:
            mine.send("go on")
    total = sum(mine.recv() for mine, _ in pipes) + pss_of_arena()
    info = cache.info()
    for mine, _ in pipes:
        mine.send("end")
    for worker in workers:
        worker.join()
    ratio = total / (budget_mib * MIB)
    print(
        f"{budget_mib} MiB: PSS of {PROCESSES} + 1 processes {total / MIB:.1f} MiB, {ratio:.3f} of the budget; values "
        f"{info['bytes'] / MIB:.1f} MiB, tables {info['table_bytes'] / MIB:.2f} MiB"
    )
    return ratio


def main() -> None:
    """Measure with each of the budgets."""
    mp.set_start_method("spawn")
    for budget in [int(text) for text in sys.argv[1:]] or [48, 256, 1024]:
        measure(budget)


if __name__ == "__main__":
    main()
