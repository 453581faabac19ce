"""Locking what nobody else wants: in Rust beside two bare exchanges, in Python beside the standard library's locks.

The Rust side is an example program of the library, `lock_bench`, built in release mode. It is asked line by line, so
that its two contestants take turns, too.
"""

from __future__ import annotations

import multiprocessing as mp
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import ndshare as nds
from bench.harness import Contestants, Target, bench, pinned

ROOT = Path(__file__).resolve().parent.parent
OURS = ["--package", "ndshare", "--features", "internals", "--example", "lock_bench"]
CARGO = ["cargo", "run", "--quiet", "--release", *OURS]


@contextmanager
def _rust() -> Iterator[subprocess.Popen[str]]:
    """Run the example program."""
    with subprocess.Popen(CARGO, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            assert program.stdin
            program.stdin.close()


def _ask(program: subprocess.Popen[str], what: str) -> float:
    """Have it do one thing many times; return the seconds of one."""
    assert program.stdin
    assert program.stdout
    program.stdin.write(f"{what}\n")
    program.stdin.flush()
    return float(program.stdout.readline()) * 1e-9


@bench(
    "lock-rust",
    "lock and unlock in Rust, uncontended",
    target=Target("at most", 1.3),
    rounds=20,
    note="the peer is two compare-and-exchanges on a word of the same memory; each round is the best of 100 short runs",
)
def rust() -> Iterator[Contestants]:
    """Compare with the least that a lock costs."""
    with pinned(0), _rust() as program:
        yield {"ndshare": lambda: _ask(program, "lock"), "two exchanges": lambda: _ask(program, "exchange")}


def _pairs(lock: Any, times: int) -> float:
    """Acquire and release many times; return the seconds of one pair."""
    start = perf_counter()
    for _ in repeat(None, times):
        lock.acquire()
        lock.release()
    took = (perf_counter() - start) / times
    if not lock.acquire(False):
        raise AssertionError("the lock is not free after its release")
    lock.release()
    return took


def _blocks(lock: Any, times: int) -> float:
    """Enter and leave many times."""
    start = perf_counter()
    for _ in repeat(None, times):
        with lock:
            pass
    return (perf_counter() - start) / times


@bench("lock", "acquire and release a Lock in Python, uncontended", target=Target("at most", 3), rounds=60)
def lock() -> Iterator[Contestants]:
    """Compare with the locks that Python comes with."""
    ours, threads, processes = nds.Lock(), threading.Lock(), mp.get_context("spawn").Lock()
    with pinned(0):
        yield {
            "ndshare.Lock": lambda: _pairs(ours, 20_000),
            "threading.Lock": lambda: _pairs(threads, 20_000),
            "multiprocessing.Lock": lambda: _pairs(processes, 20_000),
        }


@bench("lock-with", "the same as a with block", target=Target("at most", 3), rounds=60)
def with_block() -> Iterator[Contestants]:
    """Enter and leave as programs do; the lock of an array stands beside it."""
    ours, threads, processes = nds.Lock(), threading.Lock(), mp.get_context("spawn").Lock()
    array = nds.locked(nds.zeros(8))
    with pinned(0):
        yield {
            "ndshare.Lock": lambda: _blocks(ours, 20_000),
            "threading.Lock": lambda: _blocks(threads, 20_000),
            "multiprocessing.Lock": lambda: _blocks(processes, 20_000),
            "ndshare.locked(array)": lambda: _blocks(array, 20_000),
        }
