"""Frames from process to process: how soon a frame is there, and how many pass.

Two processes have a processor each. While one contestant has its turn, the partners of the others sleep at a pipe.
iceoryx2 is measured as its documentation uses it, with an array over each sample, and with bare addresses only; it has
no wait of its own in that interface, so both its sides look all the time. Its Rust crate is in `iceoryx2/` beside this
file, which only `make bench` builds.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from time import perf_counter, process_time
from time import sleep as sleep_for
from typing import Any

import numpy as np

import ndshare as nds
from bench import ring_targets as targets
from bench.harness import Contestants, Target, bench, clock, cpus, partner, pinned

ROOT = Path(__file__).resolve().parent.parent
CARGO = ["cargo", "run", "--quiet", "--release"]
OURS = [*CARGO, "--package", "ndshare", "--features", "internals", "--example", "ring_bench"]
ICE = [*CARGO, "--manifest-path", "bench/iceoryx2/Cargo.toml", "--target-dir", "target/iceoryx2"]
FRAME = targets.FRAME
SHAPE = (2048, 1024)
BATCH = 100


def _trips(conn: Connection, trip: Callable[[], object], times: int, sign: int = 1) -> float:
    """Do the trip in batches while the partner answers; return the seconds of one, by the median of the batches.

    A batch in which another program had one of the processors is no measure of a hand-over.
    """
    batch = min(BATCH, times)
    conn.send(sign * (times // batch) * batch)
    conn.recv()
    took = []
    for _ in range(times // batch):
        start = perf_counter()
        for _ in range(batch):
            trip()
        took.append((perf_counter() - start) / batch)
    conn.recv()
    return statistics.median(took)


class _Pair:
    """A ring there, a ring back, and this side's trip through both."""

    def __init__(self, spin: float | None = None) -> None:
        self.there, self.back = (nds.Ring(SHAPE, np.uint16, slots=4, spin=spin) for _ in range(2))
        self.theirs, self.mine = self.there.reader(), self.back.reader()
        self.frame: Any = nds.zeros(SHAPE, np.uint16)

    def trip(self) -> None:
        with self.there.write():
            pass
        self.mine.get()

    def pass_on(self) -> None:
        self.there.put(self.frame)
        self.frame = self.mine.get()


@contextmanager
def _rings(target: Any, spin: float | None = None) -> Iterator[tuple[_Pair, Connection]]:
    pair = _Pair(spin)
    with partner(target, pair.theirs, pair.back) as conn:
        del pair.theirs
        yield pair, conn


def _ice(stack: ExitStack) -> Contestants:
    """Return iceoryx2's round trips, if it is installed."""
    if find_spec("iceoryx2") is None:
        return {}
    name, node = f"ndshare-bench-{os.getpid()}", targets.ice_node()
    there, back = targets.Ice(node, f"{name}/there", True), targets.Ice(node, f"{name}/back", False)
    conn = stack.enter_context(partner(targets.ice_echo, name))

    def documented() -> None:
        there.send()
        back.receive()

    def bare() -> None:
        there.send_address()
        back.receive_address()

    return {
        "iceoryx2, as documented": lambda: _trips(conn, documented, 1000),
        "iceoryx2, bare addresses": lambda: _trips(conn, bare, 1000, sign=-1),
    }


def _named(stack: ExitStack) -> Contestants:
    """Return round trips of a place in one SharedMemory, and of the array itself, through queues."""
    context = mp.get_context("spawn")
    memory = SharedMemory(create=True, size=4 * FRAME)
    stack.callback(memory.unlink)
    stack.callback(memory.close)
    there, back = context.SimpleQueue(), context.SimpleQueue()
    conn = stack.enter_context(partner(targets.echo_memory, there, back, memory.name))
    queues = context.Queue(), context.Queue()
    by_value = stack.enter_context(partner(targets.echo_queue, *queues))
    array = np.zeros(SHAPE, np.uint16)

    def named() -> None:
        there.put(1)
        np.frombuffer(memory.buf, np.uint8, FRAME, back.get() * FRAME)

    def copied() -> None:
        queues[0].put(array)
        queues[1].get()

    return {
        "SharedMemory and SimpleQueue": lambda: _trips(conn, named, 300),
        "multiprocessing.Queue, by value": lambda: _trips(by_value, copied, 5),
    }


@bench(
    "ring-busy",
    "4 MiB there and back without filling them, both sides busy",
    target=Target("faster", 5),
    rounds=30,
    note="the promise is also 2 µs at the most; the row that passes on puts the received frame into the other ring",
)
def busy() -> Iterator[Contestants]:
    """Let both sides write and read frames as fast as they can."""
    with ExitStack() as stack, pinned(0):
        rings, conn = stack.enter_context(_rings(targets.echo))
        passing, other = stack.enter_context(_rings(targets.pass_on))
        yield {
            "ndshare": lambda: _trips(conn, rings.trip, 5000),
            **_ice(stack),
            "ndshare, passed on": lambda: _trips(other, passing.pass_on, 5000),
        }


@bench("ring-queues", "the same beside what Python has", rounds=10)
def queues() -> Iterator[Contestants]:
    """Compare with a place in a SharedMemory, and with the array itself, through queues."""
    with ExitStack() as stack, pinned(0):
        rings, conn = stack.enter_context(_rings(targets.echo))
        yield {"ndshare": lambda: _trips(conn, rings.trip, 5000), **_named(stack)}


@bench("ring-bare", "the same beside iceoryx2 at its fastest", target=Target("faster", 2), rounds=30)
def bare() -> Iterator[Contestants]:
    """Compare with a peer that makes no arrays."""
    with ExitStack() as stack, pinned(0):
        rings, conn = stack.enter_context(_rings(targets.echo))
        ice = _ice(stack)
        ice.pop("iceoryx2, as documented", None)
        yield {"ndshare": lambda: _trips(conn, rings.trip, 5000), **ice}


@contextmanager
def two_sides(command: list[str]) -> Iterator[Callable[[str], float]]:
    """Run a program, each of its two processes on a processor; have it do one thing, in seconds."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin
        assert program.stdout
        requests, answers = program.stdin, program.stdout

        def ask(what: str) -> float:
            requests.write(f"{what}\n")
            requests.flush()
            return float(answers.readline()) * 1e-9

        for pid, cpu in zip(map(int, answers.readline().split()), (cpus()[0], cpus()[-1]), strict=True):
            os.sched_setaffinity(pid, {cpu})
        try:
            yield ask
        finally:
            requests.close()


@bench(
    "ring-asleep",
    "4 MiB there and back, both sides asleep",
    target=Target("at most", 1.2),
    rounds=30,
    note="the peer is a bare futex between two processes in Rust",
    limit="bare futex",
)
def asleep() -> Iterator[Contestants]:
    """Never spin, so that each hand-over wakes a sleeper."""
    with _rings(targets.echo, spin=0.0) as (rings, conn), pinned(0), two_sides(OURS) as rust:
        yield {"ndshare": lambda: _trips(conn, rings.trip, 1000), "bare futex": lambda: rust("futex")}


@bench(
    "ring-rust",
    "one way from process to process in Rust, spinning",
    target=Target("within", 100e-9),
    rounds=20,
    note="one word is the least that a hand-over costs; a frame takes an entry, a hold and a cursor besides",
    limit="one word",
)
def rust() -> Iterator[Contestants]:
    """Compare with iceoryx2's crate, and with the least that a hand-over costs."""
    with two_sides(OURS) as ours, two_sides(ICE) as ice:
        yield {
            "ndshare": lambda: ours("handoff"),
            "iceoryx2": lambda: ice("handoff"),
            "one word": lambda: ours("word"),
        }


@bench(
    "ring-get",
    "get and drop a frame that is ready",
    target=Target("within", 1e-6),
    rounds=60,
    note="the peer makes an array over bytes that it has",
)
def get() -> Iterator[Contestants]:
    """Take the frames of a full ring."""
    ring = nds.Ring(SHAPE, np.uint16, slots=64)
    reader = ring.reader()
    image = nds.zeros(SHAPE, np.uint16)

    def take() -> float:
        for _ in range(64):
            ring.put(image)
        start = perf_counter()
        for _ in range(64):
            reader.get()
        return (perf_counter() - start) / 64

    with pinned(0):
        yield {"ndshare": take, "numpy.frombuffer": lambda: clock(lambda: np.frombuffer(image, np.uint16), 64)}


@bench(
    "ring-stream",
    "4 MiB copied in by the producer, again and again",
    target=Target("at most", 1 / 0.95),
    rounds=15,
    note="the peer copies in a loop into as many shared arrays as the ring uses",
    limit="the copy alone",
)
def stream() -> Iterator[Contestants]:
    """Let the producer copy; the consumer looks at one item."""
    source = np.full(SHAPE, 7, np.uint16)
    ring = nds.Ring(SHAPE, np.uint16, slots=8)
    reader, places = ring.reader(), set[int]()

    def produce(conn: Connection, put: Callable[[], object], times: int = 400) -> float:
        conn.send(times)
        conn.recv()
        start = perf_counter()
        for _ in range(times):
            put()
        total = conn.recv()
        took = (perf_counter() - start) / times
        if total != 7 * times:
            raise AssertionError("the consumer saw other frames")
        return took

    def ours() -> None:
        with ring.write() as frame:
            frame[...] = source
            places.add(frame.ctypes.data)

    with ExitStack() as stack, pinned(0):
        conn = stack.enter_context(partner(targets.consume, reader))
        del reader
        produce(conn, ours)
        arrays = [nds.zeros(SHAPE, np.uint16) for _ in places]

        def loop() -> float:
            start = perf_counter()
            for i in range(400):
                arrays[i % len(arrays)][...] = source
            return (perf_counter() - start) / 400

        def put() -> None:
            ring.put(source)

        contestants: Contestants = {
            "ndshare": lambda: produce(conn, put),
            f"the copy alone, {len(arrays)} arrays": loop,
        }
        if find_spec("iceoryx2") is not None:
            name = f"ndshare-bench-{os.getpid()}"
            out = targets.Ice(targets.ice_node(), f"{name}/stream", True, 8)
            ice = stack.enter_context(partner(targets.ice_consume, name))
            # The last byte is what its consumer looks at.
            flat = np.full(FRAME, 7, np.uint8)
            contestants["iceoryx2"] = lambda: produce(ice, lambda: out.copy_in(flat))
        yield contestants


@bench(
    "ring-idle",
    "processor time of a reader that waits for a second",
    target=Target("within", 1e-3),
    rounds=5,
    note="the peer sleeps for that second",
)
def idle() -> Iterator[Contestants]:
    """Wait in vain."""
    ring = nds.Ring(SHAPE, np.uint16, slots=4)
    reader = ring.reader()
    with partner(targets.idle, reader) as conn:
        del reader

        def wait() -> float:
            conn.send(1000)
            conn.recv()
            return float(conn.recv())

        def sleep() -> float:
            start = process_time()
            sleep_for(1)
            return process_time() - start

        yield {"ndshare": wait, "time.sleep": sleep}
