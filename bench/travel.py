"""Moving arrays: through a pipe, a queue, an executor, and into processes that are just being started.

Sender and receiver have a CPU each where there are two. Both ways through the pipe are one operation, and in ours
both pickle, send and open the array.
"""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench import targets
from bench.harness import Contestants, Target, bench, clock, cpus, partner, pinned

MIB = 1 << 20
Array = np.ndarray[Any, Any]


def _sevens(make: Callable[..., Array], size: int) -> Array:
    x = make(size, np.uint8)
    x.fill(7)
    return x


def _there_and_back(conn: Connection, x: object) -> object:
    conn.send(x)
    return conn.recv()


def _trips(conn: Connection, x: object, times: int) -> float:
    """Send and receive `times` times; check what came last."""
    took = clock(lambda: _there_and_back(conn, x), times)
    back = _there_and_back(conn, x)
    same = np.array_equal(back, x) if isinstance(x, np.ndarray) else back == x
    if not same:
        raise AssertionError("what came back is not what was sent")
    return took


def _named_trips(conn: Connection, memory: SharedMemory, times: int) -> float:
    task = (memory.name, memory.size)
    took = clock(lambda: _there_and_back(conn, task), times)
    if _there_and_back(conn, task) != (memory.name, 7):
        raise AssertionError("the named memory has other bytes")
    return took


@bench(
    "pipe-4mib",
    "pickle, send through a Pipe and open 4 MiB, both ways",
    target=Target("at most", 1.3),
    rounds=60,
    note="the peer sends a bytes object of 100 bytes",
    limit="100 bytes",
)
def pipe() -> Iterator[Contestants]:
    """Compare with the least that a pipe costs."""
    shared, plain, small = _sevens(nds.empty, 4 * MIB), _sevens(np.empty, 4 * MIB), bytes(100)
    memory = SharedMemory(create=True, size=4 * MIB)
    np.frombuffer(memory.buf, np.uint8).fill(7)
    try:
        with partner(targets.echo) as conn, partner(targets.echo_named) as named, pinned(0):
            yield {
                "ndshare": lambda: _trips(conn, shared, 300),
                "100 bytes": lambda: _trips(conn, small, 300),
                "SharedMemory, name sent and attached": lambda: _named_trips(named, memory, 50),
                "by value": lambda: _trips(conn, plain, 3),
            }
    finally:
        memory.close()
        memory.unlink()


@bench("queue-4mib", "4 MiB through a multiprocessing.Queue, both ways", rounds=25)
def queue() -> Iterator[Contestants]:
    """Give the queue's feeder threads their part."""
    context = mp.get_context("spawn")
    there, back = context.Queue(), context.Queue()
    process = context.Process(target=targets.echo_queue, args=(there, back, cpus()[-1]), daemon=True)
    process.start()
    shared, plain = _sevens(nds.empty, 4 * MIB), _sevens(np.empty, 4 * MIB)

    def trip(x: Array) -> Array:
        there.put(x)
        return back.get()

    def trips(x: Array, times: int) -> float:
        took = clock(lambda: trip(x), times)
        targets.look(trip(x))
        return took

    with pinned(0):
        yield {"ndshare": lambda: trips(shared, 100), "by value": lambda: trips(plain, 5)}
    there.put(None)
    process.join()


def _to_four(x: Array | None) -> float:
    """Start four processes with an argument, and wait until all have looked at it."""
    context = mp.get_context("spawn")
    start = perf_counter()
    processes = [context.Process(target=targets.look, args=(x,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took = perf_counter() - start
    if any(process.exitcode for process in processes):
        raise AssertionError("a process did not see the array")
    return took


@bench(
    "spawn-160mb",
    "160 MB to each of 4 spawned processes, start to end",
    target=Target("extra", 0.1),
    rounds=9,
    note="the peer passes None; all processes import NumPy and ndshare",
    limit="None",
)
def spawn() -> Iterator[Contestants]:
    """Start processes, which costs far more than handing over an array should."""
    shared, plain = _sevens(nds.empty, 160_000_000), _sevens(np.empty, 160_000_000)
    with pinned(None):
        yield {
            "ndshare": lambda: _to_four(shared),
            "None": lambda: _to_four(None),
            "by value": lambda: _to_four(plain),
        }


@bench(
    "executor",
    "a task of 3.8 MB in and 7.7 MB out, the work included",
    target=Target("extra", 0.0035),
    rounds=25,
    limit="the work alone",
)
def executor() -> Iterator[Contestants]:
    """Give both executors ordinary arrays, and ours shared ones as well. The function is plain NumPy."""
    plain, shared = _sevens(np.empty, 3_840_000), _sevens(nds.empty, 3_840_000)
    context = mp.get_context("spawn")
    with nds.ProcessPoolExecutor(2, context) as ours, ProcessPoolExecutor(2, context) as stock:
        for pool in (ours, stock):
            list(pool.map(targets.nothing, range(8)))

        def tasks(pool: ProcessPoolExecutor, x: Array) -> float:
            start = perf_counter()
            results = list(pool.map(targets.double, [x] * 8))
            took = (perf_counter() - start) / 8
            for result in results:
                targets.look(result)
            return took

        yield {
            "ndshare": lambda: tasks(ours, plain),
            "the work alone": lambda: clock(lambda: targets.double(plain), 8),
            "ndshare, arguments shared already": lambda: tasks(ours, shared),
            "concurrent.futures": lambda: tasks(stock, plain),
        }
