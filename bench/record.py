"""Frames to disk at a camera's rate, while two readers work: `python -m bench.record [--rate N] [--folder PATH]`.

A camera in a process of its own copies frames of 2 million uint16 (4 MiB) into a ring so many times in a second. Two
readers in processes of their own take the maximum of every frame, so all of its bytes are read. Who records is a
process, too: ours, or a loop over a reader as one writes it by hand with NumPy or tifffile. All take turns, in rounds.
The ring drops its oldest frames, so that what cannot be written is lost and counted, and the camera never waits. It has
filmed for a while before, and one turn is without anybody who records.

The host of a virtual machine takes free memory back after some seconds, and the first touch of it costs several times
what the write itself does. So memory for all frames is in use at the beginning, and is given up bit by bit, as it is
needed.

`make bench` measures the writing alone: a recorder and the loops write the same frames, as fast as they can.
"""

from __future__ import annotations

import argparse
import functools
import mmap
import multiprocessing as mp
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ndshare as nds
from bench.harness import Contestants, bench

SHAPE = (2048, 1024)
FRAME = 4 << 20
SLOTS = 64
FRAMES = 250


class Outcome(NamedTuple):
    """What a turn came to: frames published, lost, and processor seconds of who recorded."""

    published: int
    lost: int
    busy: float


# ---- who writes


def _np_save(reader: Any, folder: Path) -> None:
    for number, frame in enumerate(reader):
        np.save(folder / f"{number:06}.npy", frame)


def _tofile(reader: Any, folder: Path) -> None:
    with (folder / "run.bin").open("wb", buffering=0) as file:
        for frame in reader:
            frame.tofile(file)


def _tifffile(reader: Any, folder: Path) -> None:
    import tifffile

    with tifffile.TiffWriter(folder / "run.tif", bigtiff=True) as writer:
        for frame in reader:
            writer.write(frame.view(np.ndarray), contiguous=True)


LOOPS: dict[str, Callable[[Any, Path], None]] = {
    "np.save, a file for each frame": _np_save,
    "ndarray.tofile, one file": _tofile,
    "tifffile, one file": _tifffile,
}
NOBODY = "nobody"
OURS = {"npy": "run.npy", "raw": "run.raw", "zarr": "run.zarr", "OME-TIFF": "run.ome.tif"}


def _loop(conn: Connection, reader: Any, name: str, folder: str) -> None:
    """Be a loop that writes, and say what it missed and what it cost."""
    if name.startswith("tifffile"):
        import tifffile  # noqa: F401
    reader.fileno()
    conn.send("ready")
    before = time.process_time()
    LOOPS[name](reader, Path(folder))
    conn.send((reader.missed, time.process_time() - before))


# ---- the others


def _look(reader: Any) -> None:
    for frame in reader:
        np.max(frame)


def _film(conn: Connection, writer: Any, rate: float, frames: int) -> None:
    """Be a camera: copy frames into the ring when they are due, and say how long that took."""
    images = [np.full(SHAPE, number, np.uint16) for number in range(4)]
    with writer:
        for number in range(2 * SLOTS):  # the first touch of its memory
            writer.put(images[number % 4])
        conn.send("warm")
        conn.recv()
        begun = time.monotonic()
        for number in range(frames):
            while rate and (left := begun + number / rate - time.monotonic()) > 0:
                time.sleep(left)
            writer.put(images[number % 4])
        conn.send(time.monotonic() - begun)


@contextmanager
def _process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    context = mp.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args) if target is not _look else args, daemon=True)
    process.start()
    theirs.close()
    try:
        yield mine
    finally:
        process.join()
        mine.close()


@contextmanager
def _filming(ring: Any, rate: float, frames: int) -> Iterator[Connection]:
    with _process(_film, ring.writer(), rate, frames) as camera:
        yield camera


def turn(name: str, folder: Path, *, rate: float, frames: int, readers: int, when_full: str) -> tuple[Outcome, float]:
    """Let one writer record so many frames; return what came of it, and how long the camera filmed."""
    ring: Any = nds.Ring(SHAPE, np.uint16, slots=SLOTS, when_full=when_full)  # type: ignore[call-overload]
    looks = [_process(_look, ring.reader()) for _ in range(readers)]
    with _filming(ring, rate, frames) as camera:
        for one in looks:
            one.__enter__()
        camera.recv()
        go = functools.partial(_go, camera, rate, frames)
        if name == NOBODY:
            outcome, took = Outcome(frames, 0, 0.0), go()
        else:
            outcome, took = (_by_hand if name in LOOPS else _ours)(ring, folder, go, name, frames)
        for one in looks:
            one.__exit__(None, None, None)
    return outcome, took


def _go(camera: Connection, rate: float, frames: int) -> float:
    """Let the camera film, and return how long that took. Memory for the frames is free when it is needed."""
    kept = mmap.mmap(-1, (frames + SLOTS) * FRAME if rate else FRAME, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    kept.madvise(mmap.MADV_HUGEPAGE)
    np.frombuffer(kept, np.uint8)[:: mmap.PAGESIZE] = 1
    camera.send("go")
    begun, given = time.monotonic(), 0
    while not camera.poll(0.02):
        due = min(len(kept), (round((time.monotonic() - begun) * rate) + SLOTS) * FRAME)
        if due > given:
            kept.madvise(mmap.MADV_DONTNEED, given, due - given)
            given = due
    return float(camera.recv())


def _by_hand(ring: Any, folder: Path, go: Callable[[], float], name: str, frames: int) -> tuple[Outcome, float]:
    with _process(_loop, ring.reader(), name, str(folder)) as loop:
        loop.recv()
        took = go()
        return Outcome(frames, *loop.recv()), took


def _ours(ring: Any, folder: Path, go: Callable[[], float], name: str, frames: int) -> tuple[Outcome, float]:
    ending, _, known = name.partition(",")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    recording = nds.record(ring, folder / OURS[ending], frames=frames if known else None, sidecar="npy")
    started = _busy_of(recording.pid)
    took = go()
    stats = recording.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - started
    if stats["frames"] + stats["lost"] != frames:
        raise AssertionError(f"{stats['frames']} frames and {stats['lost']} lost are not {frames}")
    return Outcome(frames, stats["lost"], busy), took


def _busy_of(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def writers() -> list[str]:
    """Return those whose packages are installed."""
    needed = {"zarr": "zarr", "OME-TIFF": "tifffile", "tifffile, one file": "tifffile"}
    return [name for name in ["npy, known length", *OURS, *LOOPS] if find_spec(needed.get(name, "numpy"))]


@contextmanager
def _folder(parent: str) -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="bench-record-", dir=parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


@bench(
    "record",
    f"{FRAMES} frames of 4 MiB from a ring to a RAM drive, as fast as they are written",
    rounds=5,
    note="a frame; the camera waits for who writes, so its time is the writer's",
)
def record() -> Iterator[Contestants]:
    """Let each writer have the machine with a camera alone."""

    def go(name: str) -> float:
        with _folder("/dev/shm") as folder:
            _, took = turn(name, folder, rate=0, frames=FRAMES, readers=0, when_full="wait")
        return took / FRAMES

    yield {name if name in LOOPS else f"ndshare, {name}": lambda name=name: go(name) for name in writers()}  # type: ignore[misc]


def main() -> None:
    """Film at a rate beside two readers, and print what each writer lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.record", description=__doc__)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--only", action="append")
    wanted = parser.parse_args()
    frames = round(wanted.rate * wanted.seconds)
    names = [name for name in [NOBODY, *writers()] if not wanted.only or name in wanted.only]
    outcomes: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in names}
    for _ in range(wanted.rounds):
        for name in names:
            with _folder(wanted.folder) as folder:
                outcomes[name].append(
                    turn(name, folder, rate=wanted.rate, frames=frames, readers=2, when_full="drop_oldest")
                )
        names.append(names.pop(0))
    print(f"{frames} frames of 4 MiB at {wanted.rate:g}/s to {wanted.folder}, two readers; {wanted.rounds} rounds")
    for name, turns in outcomes.items():
        lost = ", ".join(f"{outcome.lost}" for outcome, _ in turns)
        rates = ", ".join(f"{frames / took:.0f}" for _, took in turns)
        busy = statistics.median(outcome.busy / (frames - outcome.lost) for outcome, _ in turns)
        lost, cost = f"lost {lost},", f"{1000 * busy:.2f} ms of a processor for a frame"
        print(f"{name:26} {lost:24} filmed {rates} /s, recorder {cost}")


if __name__ == "__main__":
    main()
