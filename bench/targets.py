"""What the other processes of the benchmarks do. They import what any worker on arrays imports, and no more."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

import ndshare as nds  # noqa: F401  (any worker on shared arrays does)

Array = np.ndarray[Any, Any]


def echo(conn: Connection, other: Connection, cpu: int) -> None:
    """Send back what arrives, until None."""
    other.close()
    os.sched_setaffinity(0, {cpu})
    while (x := conn.recv()) is not None:
        conn.send(x)


def echo_named(conn: Connection, other: Connection, cpu: int) -> None:
    """Open the named memory that is spoken of, look at it, and answer with its name."""
    other.close()
    os.sched_setaffinity(0, {cpu})
    while (task := conn.recv()) is not None:
        name, size = task
        memory = SharedMemory(name)
        x = np.frombuffer(memory.buf, np.uint8, size)
        last = int(x[-1])
        del x
        memory.close()
        conn.send((name, last))


def echo_queue(inbox: Any, outbox: Any, cpu: int) -> None:
    """Send back what arrives in a queue, until None."""
    os.sched_setaffinity(0, {cpu})
    while (x := inbox.get()) is not None:
        outbox.put(x)


def look(x: Array | None) -> None:
    """Look at an array, or at nothing; fail when it is not what was sent."""
    if x is not None and not (x[0] == x[-1] == 7):
        raise AssertionError("another array has arrived")


def double(x: Array) -> Array:
    """Return an array of twice the bytes."""
    return np.concatenate([x, x])


def nothing(cpu: int) -> int:
    """Let a pool start its workers."""
    return cpu
