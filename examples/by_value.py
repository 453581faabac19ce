"""The same job with what Python has: two multiprocessing queues, SciPy's transforms, a dict of tiles, NumPy's copies.

A frame goes into a pipe as bytes, which is the quickest of the ways that a queue has for arrays, and is read out of it
by the worker that gets it; its tile comes back through another one. Put next to `by_reference`, this has the same
processes, the same room for frames that wait, and the same arithmetic. Each worker adds up the spectra of its frames
itself, which spares them the way, and tells the sum at the end: a worker that is killed takes the sum along.
"""

import queue
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import numpy as np

import analysis
import job
import microscope
from analysis import TILE_SHAPE, Findings, Floats, Tile
from job import SHEET_TILES, WORKERS, Moments, Outcome, Plan, Refresh, Stage, Tick
from microscope import FRAME_SHAPE, Specimen

Offer = tuple[int, bytes] | None


class Done(NamedTuple):
    """A worker's news of one frame."""

    number: int  # of the frame
    taken: int
    worked: int
    findings: Findings


class Worked(NamedTuple):
    """A worker's last news."""

    power: Floats


class Exposed(NamedTuple):
    """The camera's news, at its end."""

    moments: Moments  # (frames,)
    dropped: int


News = Done | Worked | Exposed


class Lines(NamedTuple):
    """What goes between the processes."""

    frames: "Queue[Offer]"  # camera to workers
    news: "Queue[News]"  # everybody to the parent
    start: Barrier


# The processes


def expose(plan: Plan, specimen: Specimen, lines: Lines) -> None:
    """Be the camera: expose each frame and put it into the queue; if it is full, wait or drop the frame."""
    job.end_with_parent()
    rng = np.random.default_rng(job.SEED)
    exposed, dropped = np.zeros(plan.frames, np.int64), 0
    lines.start.wait()
    pace = job.Pace(plan)
    frame = np.empty(FRAME_SHAPE, np.uint16)
    for index in range(plan.frames):
        pace.wait(index)
        microscope.expose(specimen, index, rng, out=frame)
        exposed[index] = time.monotonic_ns()
        try:
            lines.frames.put((index, frame.tobytes()), block=plan.rate is None)
        except queue.Full:
            dropped += 1
    lines.news.put(Exposed(exposed, dropped))
    for _ in range(WORKERS):
        lines.frames.put(None)


def process(lines: Lines) -> None:
    """Be a worker: make a tile of each frame that comes out of the queue, until there are no more."""
    job.end_with_parent()
    engine, bench = analysis.ScipyEngine(), analysis.make_bench()
    power, squares = np.zeros((2, *analysis.SQUARES_SHAPE), np.float32)
    lines.start.wait()
    while (offer := lines.frames.get()) is not None:
        taken = time.monotonic_ns()
        frame = np.frombuffer(offer[1], np.uint16).reshape(FRAME_SHAPE)
        findings = analysis.analyse(frame, engine, bench, squares)
        power += squares
        lines.news.put(Done(offer[0], taken, time.monotonic_ns(), findings))
    lines.news.put(Worked(power))


# The parent


class Desk:
    """What the parent has learnt, and the contact sheet that it makes of it."""

    def __init__(self, frames: int) -> None:
        self.moments = np.zeros((len(Stage), frames), np.int64)
        self.focus = np.zeros(frames, np.float64)
        self.power = np.zeros(analysis.SQUARES_SHAPE, np.float32)
        self.tiles: dict[int, Tile] = {}
        self.sheet = np.zeros((SHEET_TILES * TILE_SHAPE[0], TILE_SHAPE[1]), np.uint16)
        self.refreshes: list[Refresh] = []
        self.dropped = 0
        self.left = WORKERS + 1  # processes that still have to say their last

    def note(self, news: News) -> None:
        """Take in one piece of news."""
        if isinstance(news, Done):
            self.moments[Stage.TAKEN : Stage.SHOWN, news.number] = news.taken, news.worked, time.monotonic_ns()
            self.tiles[news.number], self.focus[news.number] = news.findings
            if len(self.tiles) > job.TILES_KEPT:
                del self.tiles[next(iter(self.tiles))]
            return
        self.left -= 1
        if isinstance(news, Worked):
            self.power += news.power
        else:
            self.moments[Stage.EXPOSED], self.dropped = news

    def refresh(self) -> None:
        """Bring the sheet up to date."""
        blank = np.zeros(TILE_SHAPE, np.uint16)
        places = job.newest(self.moments)
        start = time.perf_counter()
        np.concatenate([self.tiles.get(int(index), blank) for index in places], axis=0, out=self.sheet)
        seconds = time.perf_counter() - start
        self.refreshes.append(Refresh(seconds, job.note_shown(self.moments, places, time.monotonic_ns())))

    def picture(self) -> Tile:
        """Return the sheet as one picture."""
        return job.as_picture(self.sheet)


def run(plan: Plan, specimen: Specimen, tick: Tick) -> Outcome:
    """Do the job once."""
    lines = Lines(job.CONTEXT.Queue(job.ROOM), job.CONTEXT.Queue(), job.CONTEXT.Barrier(WORKERS + 2))
    processes = [job.CONTEXT.Process(target=expose, args=(plan, specimen, lines), name="camera")]
    for number in range(WORKERS):
        processes.append(job.CONTEXT.Process(target=process, args=(lines,), name=f"worker {number}"))
    desk = Desk(plan.frames)
    with job.running(processes):
        began = job.begin(lines.start, processes)
        show(desk, lines, processes, tick)
    return outcome(plan, began, desk)


def show(desk: Desk, lines: Lines, processes: list[SpawnProcess], tick: Tick) -> None:
    """Take in news and keep the sheet up to date until everybody has said their last."""
    due = time.monotonic()
    while desk.left:
        due = max(due + job.REFRESH_SECONDS, time.monotonic())
        take_news(desk, lines, due)
        job.still_alive(processes)
        desk.refresh()
        tick(len(desk.tiles))


def take_news(desk: Desk, lines: Lines, due: float) -> None:
    """Take in what comes until then."""
    while desk.left and (patience := due - time.monotonic()) > 0:
        try:
            desk.note(lines.news.get(timeout=patience))
        except queue.Empty:
            return


def outcome(plan: Plan, began: int, desk: Desk) -> Outcome:
    """Return what the run achieved."""
    return Outcome(
        plan=plan,
        began=began,
        moments=desk.moments,
        focus=desk.focus,
        power=desk.power.sum(axis=2) / np.count_nonzero(desk.moments[Stage.WORKED]),
        tiles=desk.tiles,
        sheet=desk.picture(),
        refreshes=desk.refreshes,
        dropped=desk.dropped,
    )
