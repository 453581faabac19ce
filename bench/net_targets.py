"""The other sides of the benchmarks of `ndshare.net`: each takes frames as they come, into memory of its own.

The first eight bytes of a frame are when it was sent, by the monotonic clock that all processes of a machine share; the
last byte is 7.
"""

from __future__ import annotations

import queue
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def _serve(conn: Connection, take: Callable[[], Array]) -> None:
    """Take as many frames as the other side says; tell how long each was on its way, and our CPU time, in seconds."""
    conn.send("ready")
    while (times := conn.recv()) is not None:
        ways, begun = list[float](), time.process_time()
        for _ in range(times):
            frame = take()
            ways.append((time.monotonic_ns() - int(frame[:8].view(np.int64)[0])) * 1e-9)
            if frame[-1] != 7:
                raise AssertionError("another frame has arrived")
            del frame
        conn.send((ways, time.process_time() - begun))


def bridge(conn: Connection, other: Connection, cpu: int, endpoint: str, ring: Any) -> None:  # noqa: ARG001
    """Offer the ring that the camera fills, and tell when asked how much CPU time that took so far."""
    from ndshare import net

    other.close()
    with net.serve(endpoint, rings={"bench": ring}, hold_back=True):
        conn.send("ready")
        while conn.recv() is not None:
            conn.send(time.process_time())


def of_ring(conn: Connection, other: Connection, cpu: int, endpoint: str) -> None:  # noqa: ARG001
    """Read the ring that the bridge fills."""
    from ndshare import net

    other.close()
    with net.connect(endpoint) as far:
        reader = far.ring("bench", slots=8, when_full="wait").reader()
        _serve(conn, reader.get)


def of_zenoh(conn: Connection, other: Connection, cpu: int, endpoint: str, size: int) -> None:  # noqa: ARG001
    """Take what Zenoh brings, and copy it into an array that is there."""
    import zenoh

    from ndshare.net import _link

    other.close()
    came: queue.Queue[Any] = queue.Queue(2)
    session: Any = zenoh.open(zenoh.Config.from_json5(str(_link.configured("connect", endpoint, None))))
    array = np.empty(size, np.uint8)

    def take() -> Array:
        array[:] = np.frombuffer(came.get().to_bytes(), np.uint8)
        return array

    handler: Any = zenoh.handlers.Callback(lambda sample: came.put(sample.payload), indirect=False)
    subscriber = session.declare_subscriber("bench", handler)
    _serve(conn, take)
    subscriber.undeclare()
    session.close()


def of_socket(conn: Connection, other: Connection, cpu: int, port: int, size: int) -> None:  # noqa: ARG001
    """Read from a socket into an array that is there."""
    other.close()
    array = np.empty(size, np.uint8)
    with socket.create_connection(("127.0.0.1", port)) as line:

        def take() -> Array:
            rest = memoryview(array)
            while rest:
                rest = rest[line.recv_into(rest) :]
            return array

        _serve(conn, take)
