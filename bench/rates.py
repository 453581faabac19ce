"""Small frames at high rates: lines of a scanner, events of a camera; how long one takes from process to process.

Two processes have a processor each. The producer has the frames as rows of one array; the consumer gets each as array
or bytes, and looks at one item of it. Nobody loses any. Each contestant has room for as many frames as the others.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench import ring_targets as targets
from bench.harness import Contestants, Target, bench, partner, pinned

Array = np.ndarray[Any, Any]
Put = Callable[[Array], object]

FRAMES = 20_000
SLOTS = 1024
BATCH = 100


def _lines(nbytes: int) -> tuple[Array, int]:
    """Return frames as rows, and the sum of their first items."""
    lines = np.arange(FRAMES * nbytes, dtype=np.uint32).astype(np.uint8).reshape(FRAMES, nbytes)
    lines[:, 0] = np.arange(FRAMES) % 251
    return lines, int(lines[:, 0].sum())


def _run(conn: Connection, put: Put, lines: Array, total: int) -> float:
    """Have the partner take the frames; return the seconds of one."""
    conn.send(len(lines))
    conn.recv()
    start = perf_counter()
    put(lines)
    seen = conn.recv()
    took = (perf_counter() - start) / len(lines)
    if seen != total:
        raise AssertionError("the consumer saw other frames")
    return took


def _each(put: Put) -> Put:
    def put_all(lines: Array) -> None:
        for line in lines:
            put(line)

    return put_all


def _batches(put: Put) -> Put:
    def put_all(lines: Array) -> None:
        for first in range(0, len(lines), BATCH):
            put(lines[first : first + BATCH])

    return put_all


# ---- the peers


def _ring(stack: ExitStack, nbytes: int, is_many: bool) -> tuple[Connection, Put]:
    ring = nds.Ring(nbytes, np.uint8, slots=SLOTS)
    conn = stack.enter_context(partner(take_many if is_many else take, ring.reader()))
    return conn, _batches(ring.put_many) if is_many else _each(ring.put)


def take(conn: Connection, other: Connection, cpu: int, reader: nds.Reader[Any]) -> None:
    """Take the frames of a ring one by one."""
    targets.serve(conn, other, cpu, lambda times: sum(int(reader.get()[0]) for _ in range(times)))


def take_many(conn: Connection, other: Connection, cpu: int, reader: nds.Reader[Any]) -> None:
    """Take the frames of a ring together."""

    def work(times: int) -> int:
        total = 0
        while times:
            frames = reader.get_many(min(BATCH, times))
            times -= len(frames)
            total += sum(int(frame[0]) for frame in frames)
            del frames
        return total

    targets.serve(conn, other, cpu, work)


def take_queue(conn: Connection, other: Connection, cpu: int, queue: Any) -> None:
    """Take bytes out of a queue."""
    targets.serve(conn, other, cpu, lambda times: sum(int(queue.get()[0]) for _ in range(times)))


def take_pipe(conn: Connection, other: Connection, cpu: int, pipe: Connection) -> None:
    """Take bytes out of a pipe."""
    targets.serve(conn, other, cpu, lambda times: sum(pipe.recv_bytes()[0] for _ in range(times)))


def take_zmq(conn: Connection, other: Connection, cpu: int, endpoint: str) -> None:
    """Take bytes out of a socket of ZeroMQ."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.set_hwm(SLOTS // 2)
        socket.connect(endpoint)
        targets.serve(conn, other, cpu, lambda times: sum(socket.recv()[0] for _ in range(times)))


def take_ice(conn: Connection, other: Connection, cpu: int, name: str) -> None:
    """Take the samples of iceoryx2, looking all the time."""
    there = targets.Ice(targets.ice_node(), name, False, SLOTS)
    targets.serve(conn, other, cpu, lambda times: sum(there.look(0) for _ in range(times)))


def _zmq(stack: ExitStack) -> dict[str, tuple[Connection, Put]]:
    """Return ZeroMQ between processes of one machine, if it is installed."""
    if find_spec("zmq") is None:
        return {}
    import zmq

    folder = stack.enter_context(tempfile.TemporaryDirectory())
    socket = stack.enter_context(stack.enter_context(zmq.Context()).socket(zmq.PUSH))
    # Half of the room is on either side.
    socket.set_hwm(SLOTS // 2)
    socket.bind(f"ipc://{folder}/rates")
    conn = stack.enter_context(partner(take_zmq, f"ipc://{folder}/rates"))
    return {"ZeroMQ, ipc": (conn, _each(socket.send))}


def _ice(stack: ExitStack, nbytes: int) -> dict[str, tuple[Connection, Put]]:
    """Return iceoryx2 as it is documented, if it is installed."""
    if find_spec("iceoryx2") is None:
        return {}
    name = f"ndshare-bench-{os.getpid()}/rates-{nbytes}"
    out = targets.Ice(targets.ice_node(), name, True, SLOTS, nbytes)
    return {"iceoryx2": (stack.enter_context(partner(take_ice, name)), _each(out.copy_in))}


def by_value(stack: ExitStack, slots: int) -> list[tuple[Connection, Any]]:
    """Return a partner that takes from a queue of so many slots, one that takes from a pipe, and what is put into."""
    context = mp.get_context("spawn")
    queue = context.Queue(slots)
    theirs, mine = context.Pipe(duplex=False)
    stack.callback(theirs.close)
    stack.callback(mine.close)
    sides = ((take_queue, queue, queue), (take_pipe, theirs, mine))
    return [(stack.enter_context(partner(take, end)), into) for take, end, into in sides]


def _python(stack: ExitStack) -> dict[str, tuple[Connection, Put]]:
    """Return what Python has."""
    (in_queue, queue), (in_pipe, pipe) = by_value(stack, SLOTS)
    return {
        "multiprocessing.Queue of bytes": (in_queue, _each(lambda line: queue.put(line.tobytes()))),
        "multiprocessing.Pipe of bytes": (in_pipe, _each(pipe.send_bytes)),
    }


def _rates(nbytes: int) -> Iterator[Contestants]:
    lines, total = _lines(nbytes)
    with ExitStack() as stack, pinned(0):
        sides = {
            "ndshare, many": _ring(stack, nbytes, True),
            "ndshare, one by one": _ring(stack, nbytes, False),
            **_ice(stack, nbytes),
            **_zmq(stack),
            **_python(stack),
        }

        def contestant(conn: Connection, put: Put) -> Callable[[], float]:
            return lambda: _run(conn, put, lines, total)

        yield {label: contestant(*side) for label, side in sides.items()}


NOTE = f"{BATCH} frames a call of put_many and get_many; the peer is put and get"


@bench(
    "rates-1k",
    "a frame of 1 KiB from process to process, 20,000 of them",
    target=Target("faster", 1.5),
    rounds=9,
    note=NOTE,
)
def lines_1k() -> Iterator[Contestants]:
    """Pass lines of a scanner on."""
    yield from _rates(1 << 10)


@bench("rates-2k", "the same of 2 KiB", rounds=9)
def lines_2k() -> Iterator[Contestants]:
    """Pass longer ones on."""
    yield from _rates(2 << 10)


@bench("rates-8k", "the same of 8 KiB", rounds=9)
def lines_8k() -> Iterator[Contestants]:
    """Pass the longest ones on."""
    yield from _rates(8 << 10)
