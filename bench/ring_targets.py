"""The other sides of the benchmarks of rings. Each waits at a pipe until it is told how many frames to answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

import ndshare as nds

FRAME = 4 << 20


def serve(conn: Connection, other: Connection, cpu: int, work: Callable[[int], object]) -> None:
    """Do the work as often as the other side says, and say when it is about to begin and when it is done."""
    other.close()
    os.sched_setaffinity(0, {cpu})
    while (times := conn.recv()) is not None:
        conn.send("ready")
        conn.send(work(times))


def echo(conn: Connection, other: Connection, cpu: int, reader: nds.Reader, ring: nds.Ring) -> None:
    """Take each frame and answer with another one."""

    def work(times: int) -> None:
        for _ in range(times):
            reader.get()
            with ring.write():
                pass

    serve(conn, other, cpu, work)


def pass_on(conn: Connection, other: Connection, cpu: int, reader: nds.Reader, ring: nds.Ring) -> None:
    """Put each frame into the other ring as it is."""

    def work(times: int) -> None:
        for _ in range(times):
            frame = reader.get()
            ring.put(frame)
            del frame

    serve(conn, other, cpu, work)


def consume(conn: Connection, other: Connection, cpu: int, reader: nds.Reader) -> None:
    """Take each frame, and look at its last item."""

    def work(times: int) -> int:
        return sum(int(reader.get()[-1, -1]) for _ in range(times))

    serve(conn, other, cpu, work)


def idle(conn: Connection, other: Connection, cpu: int, reader: nds.Reader) -> None:
    """Wait in vain for so many milliseconds; answer with the seconds of processor time that took."""

    def work(milliseconds: int) -> float:
        start = time.process_time()
        try:
            reader.get(timeout=milliseconds / 1000)
        except nds.Empty:
            return time.process_time() - start
        raise AssertionError("a frame came from nowhere")

    serve(conn, other, cpu, work)


def echo_memory(  # noqa: PLR0917
    conn: Connection, other: Connection, cpu: int, inbox: Any, outbox: Any, name: str
) -> None:
    """Answer each number of a place in one SharedMemory, having made an array over it."""
    memory = SharedMemory(name)

    def work(times: int) -> None:
        for _ in range(times):
            place = inbox.get()
            np.frombuffer(memory.buf, np.uint8, FRAME, place * FRAME)
            outbox.put(place)

    serve(conn, other, cpu, work)
    memory.close()


def echo_queue(conn: Connection, other: Connection, cpu: int, inbox: Any, outbox: Any) -> None:
    """Send each array back through a queue, by value."""

    def work(times: int) -> None:
        for _ in range(times):
            outbox.put(inbox.get())

    serve(conn, other, cpu, work)


# ---- iceoryx2


class Ice:
    """One direction of iceoryx2: slices of bytes, published and received."""

    def __init__(self, node: Any, name: str, publishes: bool, waiting: int = 4, nbytes: int = FRAME) -> None:
        import ctypes

        import iceoryx2 as iox2

        builder = node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(iox2.Slice[ctypes.c_uint8])
        # As many frames wait as in our rings, and none is lost: by default the oldest would be.
        builder = builder.enable_safe_overflow(False).subscriber_max_buffer_size(waiting)
        self.nbytes = nbytes
        self.service = builder.open_or_create()
        if publishes:
            port = self.service.publisher_builder().initial_max_slice_len(nbytes)
            self.port: Any = port.backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered).create()
        else:
            self.port = self.service.subscriber_builder().create()

    def send(self) -> None:
        """Publish a frame with an array over it, as documented."""
        sample = self.port.loan_slice_uninit(self.nbytes)
        np.frombuffer(sample.payload().as_memory_view(), np.uint8)
        sample.assume_init().send()

    def receive(self) -> None:
        """Wait for a frame, looking all the time, and make an array over it."""
        while (sample := self.port.receive()) is None:
            pass
        array = np.frombuffer(sample.payload().as_memory_view(), np.uint8)
        del array
        sample.delete()

    def send_address(self) -> None:
        """Publish a frame of which only the address is looked at."""
        sample = self.port.loan_slice_uninit(self.nbytes)
        _ = sample.payload_ptr
        sample.assume_init().send()

    def receive_address(self) -> None:
        """Wait for a frame and look at its address."""
        while (sample := self.port.receive()) is None:
            pass
        _ = sample.payload_ptr
        sample.delete()

    def copy_in(self, source: Any) -> None:
        """Publish a copy of an array."""
        sample = self.port.loan_slice_uninit(self.nbytes)
        np.copyto(np.frombuffer(sample.payload().as_memory_view(), np.uint8), source)
        sample.assume_init().send()

    def look(self, item: int = -1) -> int:
        """Wait for a frame and look at one item of it."""
        while (sample := self.port.receive()) is None:
            pass
        array = np.frombuffer(sample.payload().as_memory_view(), np.uint8)
        seen = int(array[item])
        del array
        sample.delete()
        return seen


def ice_node() -> Any:
    """Return a node of iceoryx2 that keeps quiet."""
    import iceoryx2 as iox2

    iox2.set_log_level_from_env_or(iox2.LogLevel.Error)
    return iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)


def ice_echo(conn: Connection, other: Connection, cpu: int, name: str) -> None:
    """Answer each frame; negative numbers are answered by addresses."""
    node = ice_node()
    there, back = Ice(node, f"{name}/there", False), Ice(node, f"{name}/back", True)

    def work(times: int) -> None:
        receive, send = (there.receive, back.send) if times > 0 else (there.receive_address, back.send_address)
        for _ in range(abs(times)):
            receive()
            send()

    serve(conn, other, cpu, work)


def ice_consume(conn: Connection, other: Connection, cpu: int, name: str) -> None:
    """Take each frame, and look at one item of it."""
    there = Ice(ice_node(), f"{name}/stream", False, 8)
    serve(conn, other, cpu, lambda times: sum(there.look() for _ in range(times)))
