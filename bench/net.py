"""Frames to another machine, over loopback: the bridge, beside Zenoh's own put and beside a bare socket.

Copies of a frame in user space, by the code: a bare socket makes none. Zenoh in Python makes three when it sends (into
`bytes`, into a `ZBytes`, into batches) and two when it receives (out of the fragments into `bytes`, into an array). The
bridge makes the same five: its last one is into the ring. With the engine `ndshare_zenoh` it makes two: into batches,
and out of the fragments into the ring. Each engine is a contestant where it is installed; a program has one, so the
bridge is in a process beside the camera's.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

import ndshare as nds
from bench import net_targets
from bench.harness import Contestants, bench, partner

FRAME = 4 << 20
Send = Callable[[], None]
# How to talk to who receives, how to send a frame to it, and the CPU time so far of those in between, in seconds.
Side = tuple[Connection, Send, Callable[[], float]]
Array = np.ndarray[Any, Any]


def _stamp(frame: Array) -> None:
    frame[:8].view(np.int64)[0] = time.monotonic_ns()
    frame[-1] = 7


def _stream(side: Side, frames: int) -> float:
    """Send frames as fast as they go; return the seconds of one, until the last has arrived."""
    conn, send, _ = side
    conn.send(frames)
    start = time.perf_counter()
    for _ in range(frames):
        send()
    conn.recv()
    return (time.perf_counter() - start) / frames


def _cpu(side: Side, frames: int) -> float:
    """Do the same; return the seconds of CPU time of one frame, of all processes together."""
    conn, send, between = side
    begun = time.process_time() + between()
    conn.send(frames)
    for _ in range(frames):
        send()
    _, theirs = conn.recv()
    return (time.process_time() + between() - begun + float(theirs)) / frames


def _ways(side: Side, frames: int, tell: Callable[[list[float]], float]) -> float:
    """Send frames one by one, and tell of the times that they were on their way."""
    conn, send, _ = side
    conn.send(frames)
    for _ in range(frames):
        send()
        time.sleep(0.02)  # until the one before has arrived
    return tell(conn.recv()[0])


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _by(engine: str) -> Iterator[None]:
    """Have processes that are started meanwhile use an engine."""
    before = dict(os.environ)
    os.environ["NDSHARE_NET_ENGINE"] = engine
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _bridge(engine: str, size: int) -> Iterator[Side]:
    place, ring = f"tcp/127.0.0.1:{_port()}", nds.Ring(size, "u1", slots=8)

    def send() -> None:
        with ring.write() as frame:
            _stamp(frame)

    with _by(engine), partner(net_targets.bridge, place, ring) as server, partner(net_targets.of_ring, place) as conn:
        server.recv()
        conn.recv()

        def between() -> float:
            server.send("how much")
            return float(server.recv())

        yield conn, send, between


@contextmanager
def _zenoh(size: int) -> Iterator[Side]:
    import zenoh

    from ndshare.net import _link

    place, array = f"tcp/127.0.0.1:{_port()}", np.zeros(size, np.uint8)
    session: Any = zenoh.open(zenoh.Config.from_json5(str(_link.configured("listen", place, None))))
    publisher = session.declare_publisher("bench", congestion_control=zenoh.CongestionControl.BLOCK)

    def send() -> None:
        _stamp(array)
        publisher.put(array.tobytes())

    with partner(net_targets.of_zenoh, place, size) as conn:
        conn.recv()
        while not publisher.matching_status.matching:
            time.sleep(0.01)
        yield conn, send, lambda: 0.0
    session.close()


@contextmanager
def _socket(size: int) -> Iterator[Side]:
    array = np.zeros(size, np.uint8)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        partner(net_targets.of_socket, server.getsockname()[1], size) as conn,
        server.accept()[0] as line,
    ):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send() -> None:
            _stamp(array)
            rest = memoryview(array)
            while rest:
                rest = rest[line.sendmsg([rest]) :]

        conn.recv()
        yield conn, send, lambda: 0.0


_ENGINES = [name for name in ("ndshare_zenoh", "zenoh") if find_spec(name)]
_SIDES = {f"ndshare.net by {name}": partial(_bridge, name) for name in _ENGINES}
_SIDES |= {"zenoh, put and subscribe": _zenoh, "TCP, sendmsg and recv_into": _socket}


@contextmanager
def _sides(size: int) -> Iterator[dict[str, Side]]:
    with ExitStack() as stack:
        yield {label: stack.enter_context(side(size)) for label, side in _SIDES.items()}


def _median(ways: list[float]) -> float:
    return statistics.median(ways)


def _p99(ways: list[float]) -> float:
    return sorted(ways)[int(0.99 * len(ways))]


def _latencies(tell: Callable[[list[float]], float], frames: int) -> Iterator[Contestants]:
    with _sides(FRAME) as sides:
        yield {label: lambda side=side: _ways(side, frames, tell) for label, side in sides.items()}


if find_spec("zenoh"):
    NOTE = "loopback; the socket, which makes no copy of its own, is the limit; Zenoh's shared memory is off in both"

    @bench("net-stream", "frames of 4 MiB over loopback, seconds of one", rounds=20, note=NOTE)
    def stream() -> Iterator[Contestants]:
        """Send as fast as it goes."""
        with _sides(FRAME) as sides:
            yield {label: lambda side=side: _stream(side, 32) for label, side in sides.items()}

    @bench("net-cpu", "the same: CPU time of one frame, of all processes, in seconds", rounds=20, note=NOTE)
    def cpu() -> Iterator[Contestants]:
        """Send as fast as it goes, and look at the clocks of the processes."""
        with _sides(FRAME) as sides:
            yield {label: lambda side=side: _cpu(side, 32) for label, side in sides.items()}

    @bench("net-p50", "one frame of 4 MiB over loopback, from writing to reading it: median", rounds=5, note=NOTE)
    def p50() -> Iterator[Contestants]:
        """Send one by one."""
        yield from _latencies(_median, 50)

    @bench("net-p99", "the same: the slowest of a hundred", rounds=5, note=NOTE)
    def p99() -> Iterator[Contestants]:
        """Send one by one."""
        yield from _latencies(_p99, 100)
