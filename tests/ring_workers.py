"""What the other processes of the tests of rings do. Each ends by itself, whatever happens to its parent."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import util
from typing import Any

import numpy as np

import ndshare as nds

LIFE = 120  # seconds after which a child ends, if nobody ends it before


def end_by_itself(seconds: int = LIFE) -> None:
    """Die at the end of a child's life. A forked child has its parent's handler."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def fill(ring: nds.Ring, numbers: list[int]) -> None:
    """Write frames full of these numbers, as the last writer."""
    end_by_itself()
    with ring:
        for number in numbers:
            with ring.write() as frame:
                frame[...] = number


def write_as(writer: nds.Writer, numbers: list[int], end: str) -> None:
    """Write frames full of these numbers, and end in one of the ways in order."""
    end_by_itself()
    if end == "with":
        with writer:
            for number in numbers:
                writer.put([number, number])
        return
    for number in numbers:
        writer.put([number, number])
    if end == "close":
        writer.close()


def write_as_and_wait(writer: nds.Writer, conn: Any) -> None:
    """Write a frame and stay."""
    end_by_itself()
    conn.send(writer.put([1, 1]))
    time.sleep(LIFE)


def write_when_told(writer: nds.Writer, conn: Any) -> None:
    """Write a frame, another one for each word, and stay."""
    end_by_itself()
    writer.put([1, 1])
    while conn.recv():
        writer.put([2, 2])


def write_without_descriptors(writer: nds.Writer, conn: Any) -> None:
    """Write a frame; when told one while there is no descriptor to be had; and at once another one."""
    end_by_itself()
    conn.send(writer.put([0, 0]))
    conn.recv()
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    writer.put([1, 1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    writer.put([2, 2])
    conn.send("written")
    conn.recv()


def film(writer: nds.Writer, frames: int, period_s: float) -> None:
    """Write frames at a pace."""
    end_by_itself()
    with writer:
        for number in range(frames):
            time.sleep(period_s)
            writer.put([number, number])


def write_at_the_end(writer: nds.Writer | nds.Ring, number: int) -> None:
    """Return, and leave it to a thread to write when multiprocessing has called all that it calls at the end."""
    end_by_itself()
    is_over = threading.Event()
    # From 3.13 on it waits for threads before it calls its finalizers, so this one would never be called.
    if sys.version_info >= (3, 13):
        threading._register_atexit(is_over.set)  # type: ignore[attr-defined]
    else:
        util.Finalize(None, is_over.set, exitpriority=-1000)

    def write() -> None:
        is_over.wait()
        writer.put([number, number])

    writer.__enter__()
    threading.Thread(target=write).start()


def keep(writer: nds.Writer) -> None:
    """Have a writer and never use it."""
    end_by_itself()
    while not writer.closed:
        time.sleep(1)


def read_all(reader: nds.Reader, conn: Any) -> None:
    """Read to the end, and tell what came."""
    end_by_itself()
    conn.send([(frame.seq, int(frame.flat[0])) for frame in reader])
    conn.close()


def hold_back(reader: nds.Reader, conn: Any) -> None:
    """Take one frame and do no more."""
    end_by_itself()
    frame = reader.get()
    conn.send(frame.seq)
    time.sleep(LIFE)


def select_and_keep(reader: nds.Reader, results: Any) -> None:
    """Read a stream to its end by `select`, with the last frame in a variable; send the numbers that came."""
    end_by_itself()
    numbers: list[int] = []
    descriptor = reader.fileno()
    with suppress(nds.Closed):
        while select.select([descriptor], [], [])[0]:
            with suppress(nds.Empty):
                frame = reader.get(timeout=0)
                numbers.append(int(frame[0]))
    results.put(numbers)


def close_holding(reader: nds.Reader, conn: Any) -> None:
    """Take one frame, close the reader when told, and stay with the frame."""
    end_by_itself()
    frame = reader.get()
    conn.send(frame.seq)
    conn.recv()
    reader.close()
    time.sleep(LIFE)


def write_and_wait(ring: nds.Ring, count: int, conn: Any) -> None:
    """Write some frames and stay."""
    end_by_itself()
    for _ in range(count):
        with ring.write() as frame:
            frame[...] = 1
    conn.send(count)
    time.sleep(LIFE)


def enter_and_wait(ring: nds.Ring, conn: Any) -> None:
    """Begin to write, and stay without a frame."""
    end_by_itself()
    with ring:
        conn.send("inside")
        time.sleep(LIFE)


def swift(ring: nds.Ring, count: int) -> None:
    """Write frames of 64 bytes as fast as can be; each is full of its number."""
    end_by_itself()
    with ring:
        for number in range(count):
            with ring.write() as frame:
                frame[:] = number


def put_arrays(ring: nds.Ring, arrays: list[Any]) -> None:
    end_by_itself()
    with ring:
        for array in arrays:
            ring.put(array)


def count_faults(readers: list[nds.Reader], conn: Any) -> None:
    """Read as many frames as told, again and again, and tell the page faults of each time."""
    end_by_itself()
    every, latest, member = readers
    while count := conn.recv():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(count):
            for reader in (every, member):
                frame = reader.get()
                assert frame[::100].max() == 1
                assert frame.meta["n"] >= 0
            with suppress(nds.Empty):
                latest.get(0)
        conn.send(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


# ---- the camera -----------------------------------------------------------------------------------------------------


def camera(ring: nds.Ring, count: int, period: float) -> None:
    """Write a frame each period, with its checksum."""
    end_by_itself()
    pattern = (np.arange(1200 * 1600, dtype=np.uint32) * 40503 >> 7).astype(np.uint16).reshape(1200, 1600)
    start = time.monotonic() + 0.05
    with ring:
        for number in range(count):
            time.sleep(max(0.0, start + number * period - time.monotonic()))
            with ring.write() as frame:
                np.add(pattern, number, out=frame, casting="unsafe")
                frame.meta["number"] = number
                frame.meta["sum"] = checksum(frame)


def checksum(frame: Any) -> int:
    return int(np.asarray(frame).view(np.uint64).sum())


def is_whole(frame: Any) -> bool:
    return bool(checksum(frame) == frame.meta["sum"] and frame.meta["number"] == frame.seq)


def watch(reader: nds.Reader, conn: Any) -> None:
    """Check every frame; tell the numbers, when they were published, and how many were torn."""
    end_by_itself()
    numbers, times, torn = [], [], 0
    for frame in reader:
        numbers.append(frame.seq)
        times.append(frame.time_ns)
        torn += not is_whole(frame)
    conn.send((numbers, times, torn))
    conn.close()


# ---- a storm --------------------------------------------------------------------------------------------------------


class Log:
    """Numbers in shared memory, so that they outlive the process that writes them."""

    def __init__(self, size: int) -> None:
        self.count = nds.zeros(1, np.int64)
        self.numbers = nds.zeros(size, np.int64)

    def add(self, number: int) -> None:
        self.numbers[self.count[0]] = number
        self.count[0] += 1

    def all(self) -> Any:
        return self.numbers[: self.count[0]].copy()


def _arm(label: str | None, nth: int, life: int = LIFE) -> None:
    from ndshare import _native

    end_by_itself(life)
    if label:
        _native.kill_at(label, nth)


def storm_writer(ring: nds.Ring, seed: int, label: str | None, nth: int, arrays: Any) -> None:
    """Write, put and throw away frames of random sizes until killed."""
    _arm(label, nth)
    rng = random.Random(seed)
    while True:
        _write_once(ring, rng, arrays)
        if rng.random() < 0.5:
            time.sleep(rng.random() * 0.002)


def steady_writer(ring: nds.Ring, slowest: Any, life: int) -> None:
    """Write to the end, and note the longest time in seconds that one frame took while there was a processor for it."""
    end_by_itself(life)
    while True:
        start, idle = time.perf_counter(), _seconds_without_a_processor()
        try:
            with ring.write(2, timeout=30) as frame:
                frame[:] = 4, 5
                frame.meta["stamp"] = 4
        except nds.Closed:
            os._exit(0)
        took = time.perf_counter() - start - (_seconds_without_a_processor() - idle)
        slowest[0] = max(slowest[0], took)
        time.sleep(0.002)


def _seconds_without_a_processor() -> float:
    """Return how long this thread was ready to run and could not."""
    with open("/proc/thread-self/schedstat", "rb") as file:
        return int(file.read().split()[1]) / 1e9


def _write_once(ring: nds.Ring, rng: random.Random, arrays: Any) -> None:
    stamp, size = rng.getrandbits(60), 1 << rng.randrange(1, 12)
    try:
        if rng.random() < 0.2:
            x = nds.empty(size, np.uint64, arena=arrays)
            x[:] = np.arange(size, dtype=np.uint64) + np.uint64(stamp)
            ring.put(x, 5, stamp=stamp)
            return
        with ring.write(size, timeout=5) as frame:
            frame[:] = np.arange(size, dtype=np.uint64) + np.uint64(stamp)
            frame.meta["stamp"] = stamp
            if rng.random() < 0.1:
                raise InterruptedError
    except InterruptedError:
        pass
    except nds.Closed:
        os._exit(0)


def storm_reader(  # noqa: PLR0917
    reader: nds.Reader, keeps: bool, log: Log, seed: int, label: str | None, nth: int, life: int = LIFE
) -> None:
    """Read, check and note frames until killed or until the end. A group would wait for what a member keeps."""
    _arm(label, nth, life)
    rng = random.Random(seed)
    kept: list[Any] = []
    while True:
        try:
            frame = reader.get(30)
        except nds.WriterDied:
            continue
        except nds.Closed:
            os._exit(0)
        assert (frame == frame.meta["stamp"] + np.arange(frame.size, dtype=np.uint64)).all(), "torn"
        log.add(frame.seq)
        if keeps and rng.random() < 0.2:
            kept.append(frame[::2])
        if len(kept) > 3:
            kept.clear()
        del frame
        if rng.random() < 0.05:
            time.sleep(rng.random() * 0.001)


def echo_trees(reader: nds.Reader, writer: nds.Writer) -> None:
    """Put what comes out of one ring into another, as a tree, with its note."""
    end_by_itself()
    with writer:
        for frame in reader:
            writer.put(frame.tree(), note=frame.note)


def write_fields_and_wait(writer: nds.Writer, conn: Any) -> None:
    """Write a frame, and stay inside the next one."""
    end_by_itself()
    with writer.write() as frame:
        frame["rgb"][...] = 1
        frame.note = "whole"
    with writer.write(note_bytes=5000) as frame:
        frame["rgb"][...] = 2
        frame.note = "half" * 1000
        conn.send("inside")
        time.sleep(LIFE)
