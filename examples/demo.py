"""Acquisition in one process, processing in two others, on real pictures: the demo.

    python examples/demo.py --frames 300 --out demo-out

A simulated microscope makes 16-bit 2-megapixel frames and puts them into an ordinary multiprocessing queue. Two
workers take them out, and write what they find (a focus measure, a spectrum, a small tile) straight into arrays
that the parent shares with them. Everything runs twice: with frames from ``nds.empty``, which travel by reference,
and with frames from ``np.empty``, which multiprocessing pickles. Nothing else differs. Every figure is measured.
"""

import argparse
import gc
import multiprocessing as mp
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Semaphore
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import analysis
import microscope
import ndshare as nds
import pictures
from microscope import FRAME_BYTES, FRAME_SHAPE, Frame, Specimen

WORKERS = 2
QUEUE_LENGTH = 4  # frames that may wait; it bounds the memory in use
SHEET_COLUMNS = 20
CELL_SHAPE = (analysis.TILE_SHAPE[0] + 3, analysis.TILE_SHAPE[1] + 3)  # a tile and a gap
POLL_SECONDS = 0.05
SEED = 20
PICTURES = ("contact-sheet.png", "spectrum.png", "focus-curve.png")

# A fresh interpreter for each process: nothing is inherited, so everything that arrives has travelled.
CONTEXT = mp.get_context("spawn")

Parcel = tuple[int, Frame] | None
Moments = npt.NDArray[np.int64]


class Results(NamedTuple):
    """Shared arrays that the processes fill in place. Times are of the monotonic clock, in ns; 0 is "not yet"."""

    sent: Moments  # (frames,)
    opened: Moments  # (frames,)
    done: Moments  # (frames,)
    focus: npt.NDArray[np.float64]  # (frames,)
    power: analysis.Floats  # (WORKERS, rows, columns // 2 + 1), each worker adds to its own
    sheet: npt.NDArray[np.uint16]  # the contact sheet


class Desk(NamedTuple):
    """What one worker needs for a frame."""

    number: int
    bench: analysis.Bench
    results: Results


Work = Callable[[int, Frame, Desk], None]


class Plan(NamedTuple):
    """What one run does."""

    frames: int
    by_reference: bool
    work: Work


@dataclass(frozen=True)
class Measured:
    """What one way of handing frames over achieved."""

    hand_over_s: npt.NDArray[np.float64]
    stream_fps: float
    job_fps: float
    lost: int
    left_bytes: int


# The processes


def acquire(plan: Plan, specimen: Specimen, results: Results, queue: "Queue[Parcel]", start: Barrier) -> None:
    """Make frames and put them into the queue; the queue makes us wait when it is full."""
    rng = np.random.default_rng(SEED)
    empty = nds.empty if plan.by_reference else np.empty
    start.wait()
    for index in range(plan.frames):
        frame = empty(FRAME_SHAPE, np.uint16)
        microscope.expose(specimen, index, plan.frames, rng, out=frame)
        results.sent[index] = time.monotonic_ns()
        queue.put((index, frame))
    for _ in range(WORKERS):
        queue.put(None)


def process(number: int, plan: Plan, results: Results, queue: "Queue[Parcel]", start: Barrier) -> None:
    """Take frames out of the queue and work on each, until there are no more."""
    desk = Desk(number, analysis.make_bench(), results)
    start.wait()
    while (parcel := queue.get()) is not None:
        index, frame = parcel
        results.opened[index] = time.monotonic_ns()
        plan.work(index, frame, desk)
        results.done[index] = time.monotonic_ns()
        del parcel, frame  # the frame's memory goes back before we wait for the next one


def analyse(index: int, frame: Frame, desk: Desk) -> None:
    """Do the job: focus, spectrum and tile, each written where the parent will read it."""
    analysis.add_spectrum(frame, desk.bench, desk.results.power[desk.number])
    small = analysis.binned(frame)
    desk.results.focus[index] = analysis.focus_measure(small)
    tile_of(desk.results.sheet, index)[:] = analysis.binned(small) / analysis.BIN**4


def glance(index: int, frame: Frame, desk: Desk) -> None:
    """Read one pixel: what remains is the hand-over."""
    desk.results.focus[index] = frame[0, 0]


def send_on_request(plan: Plan, specimen: Specimen, results: Results, queue: "Queue[Parcel]", idle: Semaphore) -> None:
    """Send one frame each time the receiver says that it is idle."""
    rng = np.random.default_rng(SEED)
    empty = nds.empty if plan.by_reference else np.empty
    for index in range(plan.frames):
        frame = empty(FRAME_SHAPE, np.uint16)
        microscope.expose(specimen, index, plan.frames, rng, out=frame)
        idle.acquire()
        results.sent[index] = time.monotonic_ns()
        queue.put((index, frame))


def receive_when_idle(plan: Plan, results: Results, queue: "Queue[Parcel]", idle: Semaphore) -> None:
    """Say that we are idle, and note when the frame is open."""
    for _ in range(plan.frames):
        idle.release()
        parcel = queue.get()
        now = time.monotonic_ns()
        if parcel is None:
            return
        results.opened[parcel[0]] = results.done[parcel[0]] = now
        del parcel


# The runs


def run_stream(plan: Plan, specimen: Specimen, results: Results, tick: Callable[[int], None]) -> float:
    """Run acquisition and workers over all frames. Return frames per second, from the common start to the last."""
    queue: Queue[Parcel] = CONTEXT.Queue(QUEUE_LENGTH)
    start = CONTEXT.Barrier(WORKERS + 2)
    processes = [CONTEXT.Process(target=acquire, args=(plan, specimen, results, queue, start))]
    for number in range(WORKERS):
        processes.append(CONTEXT.Process(target=process, args=(number, plan, results, queue, start)))
    with running(processes):
        start.wait()
        began = time.monotonic_ns()
        watch(processes, results, tick)
    return plan.frames / ((int(results.done.max()) - began) / 1e9)


def run_hand_over(plan: Plan, specimen: Specimen, results: Results, tick: Callable[[int], None]) -> None:
    """Send frames one at a time to a process that waits for them; ``results`` then tells how long each took."""
    queue: Queue[Parcel] = CONTEXT.Queue(1)
    idle = CONTEXT.Semaphore(0)
    processes = [
        CONTEXT.Process(target=send_on_request, args=(plan, specimen, results, queue, idle)),
        CONTEXT.Process(target=receive_when_idle, args=(plan, results, queue, idle)),
    ]
    with running(processes):
        watch(processes, results, tick)


@contextmanager
def running(processes: list[SpawnProcess]) -> Generator[None, None, None]:
    """Start processes; on the way out they have all ended, at the latest when we stop them."""
    try:
        for child in processes:
            child.start()
        yield
    finally:
        for child in processes:
            if child.is_alive():
                child.terminate()
            child.join()


def watch(processes: list[SpawnProcess], results: Results, tick: Callable[[int], None]) -> None:
    """Wait until all processes have ended, and tell how many frames are done meanwhile."""
    alive: list[SpawnProcess] = list(processes)
    while alive:
        wait([child.sentinel for child in alive], timeout=POLL_SECONDS)
        tick(int(np.count_nonzero(results.done)))
        failed = [child for child in alive if child.exitcode]
        if failed:
            raise RuntimeError(f"{failed[0].name} ended with exit code {failed[0].exitcode}; its message is above")
        alive = [child for child in alive if child.exitcode is None]


def make_results(frames: int) -> Results:
    """Return shared arrays for so many frames, all zero."""
    rows = -(-frames // SHEET_COLUMNS)
    height, width = CELL_SHAPE
    return Results(
        sent=nds.zeros(frames, np.int64),
        opened=nds.zeros(frames, np.int64),
        done=nds.zeros(frames, np.int64),
        focus=nds.zeros(frames, np.float64),
        power=nds.zeros((WORKERS, *analysis.SPECTRUM_SHAPE), np.float32),
        sheet=nds.zeros((rows * height, SHEET_COLUMNS * width), np.uint16),
    )


def tile_of(sheet: npt.NDArray[np.uint16], index: int) -> npt.NDArray[np.uint16]:
    """Return the place of one frame on the contact sheet."""
    row, column = divmod(index, SHEET_COLUMNS)
    top, left = row * CELL_SHAPE[0], column * CELL_SHAPE[1]
    return sheet[top : top + analysis.TILE_SHAPE[0], left : left + analysis.TILE_SHAPE[1]]


def measure(by_reference: bool, frames: int, specimen: Specimen, progress: Progress, out: Path) -> Measured:
    """Run the hand-over, the stream and the job one way, write the job's pictures, and return the figures."""
    held_before = nds.stats()["bytes"]
    way = "by reference" if by_reference else "pickled"

    def ticker(what: str) -> Callable[[int], None]:
        task = progress.add_task(f"{what}, {way}", total=frames)
        return lambda done: progress.update(task, completed=done)

    hand_over, stream, job = make_results(frames), make_results(frames), make_results(frames)
    run_hand_over(Plan(frames, by_reference, glance), specimen, hand_over, ticker("hand-over"))
    stream_fps = run_stream(Plan(frames, by_reference, glance), specimen, stream, ticker("stream"))
    job_fps = run_stream(Plan(frames, by_reference, analyse), specimen, job, ticker("job"))
    if by_reference:
        write_pictures(job, out)
    lost = sum(frames - int(np.count_nonzero(results.done)) for results in (hand_over, stream, job))
    hand_over_s = (hand_over.opened - hand_over.sent) / 1e9
    del hand_over, stream, job
    gc.collect()
    return Measured(hand_over_s, stream_fps, job_fps, lost, nds.stats()["bytes"] - held_before)


def write_pictures(results: Results, out: Path) -> None:
    """Write the contact sheet, the mean spectrum and the focus curve."""
    out.mkdir(parents=True, exist_ok=True)
    sheet, spectrum, curve = (out / name for name in PICTURES)
    pictures.save_contact_sheet(results.sheet, sheet)
    pictures.save_spectrum(results.power.sum(axis=0) / len(results.focus), spectrum)
    pictures.save_focus_curve(results.focus, curve)


# What is printed


def table(reference: Measured, pickled: Measured, frames: int) -> Table:
    """Return the figures of both ways side by side."""
    result = Table(
        title=f"{frames} frames of {FRAME_SHAPE[0]} x {FRAME_SHAPE[1]} uint16, {FRAME_BYTES / 1e6:.2f} MB each"
    )
    for heading in ("", "by reference", "pickled", "ratio"):
        result.add_column(heading, justify="left" if not heading else "right")
    rate_rows(result, "focus and spectrum", reference.job_fps, pickled.job_fps)
    rate_rows(result, "hand-over alone", reference.stream_fps, pickled.stream_fps)
    for quantile in (50, 99):
        ours, theirs = (float(np.percentile(way.hand_over_s, quantile)) for way in (reference, pickled))
        result.add_row(f"hand-over time, p{quantile}", duration(ours), duration(theirs), f"{theirs / ours:.1f}")
    result.add_row("frames lost", str(reference.lost), str(pickled.lost), "")
    result.add_row("bytes left behind", str(reference.left_bytes), str(pickled.left_bytes), "")
    return result


def rate_rows(result: Table, what: str, ours: float, theirs: float) -> None:
    """Add a rate in frames and in bytes."""
    result.add_row(f"{what}, frames/s", f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.1f}")
    gigabytes = [f"{rate * FRAME_BYTES / 1e9:.2f}" for rate in (ours, theirs)]
    result.add_row(f"{what}, GB/s", *gigabytes, "")


def duration(seconds: float) -> str:
    """Return a short time in the unit that fits it."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Acquisition and processing in separate processes, on real pictures.")
    parser.add_argument("--frames", type=int, default=300, help="frames in each run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for pictures (default: %(default)s)")
    options = parser.parse_args()
    if options.frames < 1:
        parser.error(f"--frames must be at least 1, got {options.frames}")
    return options


def main() -> int:
    """Run the demo; return 1 if a frame was lost or memory left behind."""
    options = arguments()
    console = Console()
    console.print("Pictures that ship with scikit-image:")
    for photograph in microscope.PHOTOGRAPHS:
        console.print(
            f"  {photograph.what} ({photograph.file}), {photograph.author}, {photograph.licence}", soft_wrap=True
        )
    columns = (TextColumn("{task.description:<23}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        preparing = progress.add_task("specimen", total=1)
        specimen = microscope.prepare(SEED)
        progress.update(preparing, completed=1)
        reference = measure(True, options.frames, specimen, progress, options.out)
        pickled = measure(False, options.frames, specimen, progress, options.out)
    del specimen
    console.print(table(reference, pickled, options.frames))
    console.print(
        "Hand-over time: from the put to the array being open in a process that waits for it.", soft_wrap=True
    )
    console.print(f"Written to {options.out}: {', '.join(PICTURES)}", soft_wrap=True)
    return 1 if any(way.lost or way.left_bytes for way in (reference, pickled)) else 0


if __name__ == "__main__":
    sys.exit(main())
