"""The job with ndshare: a pipe from a Ring of frames to a Ring of spectra, a Cache of tiles, a Canvas for the sheet.

No frame is copied. The camera exposes into memory of the ring, a worker of the pipe transforms the frame where it lies
and writes its power spectrum into memory of the other ring, the cache keeps the tile for all processes, and the canvas
copies those tiles that are new on it. The parent adds the spectra up. So a worker adds nothing to anything: its work on
a frame may be done again, and when it is killed, another one does that.
"""

import functools
import os
import signal
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import analysis
import job
import microscope
import ndshare as nds
from analysis import TILE_SHAPE, Floats, Tile
from job import NO_FRAME, SHEET_TILES, WORKERS, Moments, Outcome, Plan, Refresh, Stage, Tick
from microscope import FRAME_SHAPE, Specimen

TILE_BYTES = TILE_SHAPE[0] * TILE_SHAPE[1] * 2
SPECTRA_ROOM = 2  # results that may wait for the parent; each has 7.7 MB


class Shared(NamedTuple):
    """What all processes have. A frame has places of its own everywhere, so nothing is wrong if it comes twice."""

    frames: nds.Ring
    spectra: nds.Ring  # squares of the parts of each frame's spectrum; and its focus measure
    cache: nds.Cache  # a tile for each ("tile", number of its frame)
    moments: Moments  # (stages, frames)


def blank(_key: object) -> Tile:
    """Return the tile for a place that has none: what the cache loads."""
    return np.zeros(TILE_SHAPE, np.uint16)


# The camera, and the workers of the pipe


def expose(plan: Plan, specimen: Specimen, shared: Shared, start: Barrier) -> None:
    """Be the camera: expose each frame where the workers will find it."""
    job.end_with_parent()
    rng = np.random.default_rng(job.SEED)
    start.wait()
    pace = job.Pace(plan)
    with shared.frames as ring:
        for index in range(plan.frames):
            pace.wait(index)
            with ring.write() as frame:
                microscope.expose(specimen, index, rng, out=frame)
                shared.moments[Stage.EXPOSED, index] = time.monotonic_ns()
            del frame


@functools.cache
def tools() -> tuple[analysis.Engine, analysis.Bench]:
    """Return what a worker makes once: before its first frame, because the pipe has each call this when it begins."""
    return analysis.NdshareEngine(), analysis.make_bench()


def process(shared: Shared, frame: nds.Frame[Any], out: Floats) -> dict[str, float]:
    """Make a tile of a frame, and write its power spectrum to `out`; return its focus measure. The pipe calls this."""
    index, moments = frame.seq, shared.moments
    moments[Stage.TAKEN, index] = time.monotonic_ns()
    tile, focus = analysis.analyse(frame, *tools(), out)
    moments[Stage.WORKED, index] = time.monotonic_ns()
    shared.cache["tile", index] = tile
    moments[Stage.STORED, index] = time.monotonic_ns()
    return {"focus": focus}


# The parent


class Sheet:
    """The contact sheet: a canvas of tiles one below the other, which copies what has changed."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._canvas = nds.Canvas((SHEET_TILES * TILE_SHAPE[0], TILE_SHAPE[1]), np.uint16)
        self._places = np.full(SHEET_TILES, NO_FRAME)
        self.refreshes: list[Refresh] = []

    def refresh(self) -> None:
        """Bring it up to date."""
        places = self._wanted()
        start = time.perf_counter()
        keys = [("tile", int(index)) for index in places]
        self._shared.cache.concatenate(keys, axis=0, out=self._canvas, workers=1)
        seconds = time.perf_counter() - start
        self._places = places
        self.refreshes.append(Refresh(seconds, job.note_shown(self._shared.moments, places, time.monotonic_ns())))

    def _wanted(self) -> npt.NDArray[np.intp]:
        """Return which frame belongs where. Where the cache has evicted its tile already, the old one stays."""
        places = job.newest(self._shared.moments)
        for place in np.flatnonzero(places != self._places):
            if ("tile", int(places[place])) not in self._shared.cache:
                places[place] = self._places[place]
        return places

    def picture(self) -> Tile:
        """Return a copy of the sheet as one picture."""
        with nds.locked(self._canvas.array):
            return job.as_picture(self._canvas.array)


class Sums:
    """What the parent has of all frames: the sum of their spectra, each once, and the focus measure of each."""

    def __init__(self, frames: int) -> None:
        self.power = np.zeros(analysis.SQUARES_SHAPE, np.float32)
        self.focus = np.zeros(frames, np.float64)
        self.count = 0

    def take(self, spectrum: nds.Frame[Any]) -> None:
        """Take a result in."""
        self.power += spectrum
        self.focus[spectrum.meta.source_seq] = spectrum.meta.focus
        self.count += 1


class Killer:
    """Kills workers amid their work, as often as is planned, and spread over the run."""

    def __init__(self, plan: Plan, pipe: nds.Pipe) -> None:
        self._pipe = pipe
        self._due = [plan.frames * number // (plan.kills + 1) for number in range(1, plan.kills + 1)]

    def look(self, done: int) -> None:
        """Kill one that has a frame in hand, if it is time to."""
        if not self._due or done < self._due[0]:
            return
        busy = [worker["pid"] for worker in self._pipe.stats()["workers"] if worker["state"] == "working"]
        if busy:
            del self._due[0]
            os.kill(busy[0] or 0, signal.SIGKILL)


def run(plan: Plan, specimen: Specimen, tick: Tick) -> Outcome:
    """Do the job once."""
    shared = prepare(plan)
    spectra, frames = shared.spectra.reader(), shared.frames.reader()
    start = job.CONTEXT.Barrier(2)
    camera = job.CONTEXT.Process(target=expose, args=(plan, specimen, shared, start), name="camera")
    work = functools.partial(process, shared)
    options: dict[str, Any] = {"workers": WORKERS, "out": True, "initializer": tools, "mp_context": job.CONTEXT}
    with job.running([camera]):
        # A child that is interrupted while it starts says so. A pipe that nobody enters ends with the program.
        with job.interrupts_later():
            pipe = nds.pipe(frames, work, into=shared.spectra, **options)
        with pipe:
            began = begin(start, camera, pipe)
            sheet, sums = collect(shared, spectra, camera, Killer(plan, pipe), tick)
    stats = pipe.stats()
    gained: dict[str, Any] = {"dropped": stats["missed"], "restarted": stats["restarted"], "began": began}
    return Outcome(plan=plan, **gained, **results(plan, shared, sums), sheet=sheet.picture(), refreshes=sheet.refreshes)


def prepare(plan: Plan) -> Shared:
    """Return what all processes have."""
    about = [("source_seq", "i8"), ("focus", "f8")]
    return Shared(
        frames=nds.Ring(FRAME_SHAPE, np.uint16, slots=job.ROOM, when_full="drop_oldest" if plan.rate else "wait"),
        spectra=nds.Ring(analysis.SQUARES_SHAPE, np.float32, slots=SPECTRA_ROOM, meta=about),
        cache=nds.Cache(job.TILES_KEPT * TILE_BYTES, load=blank),
        moments=nds.zeros((len(Stage), plan.frames), np.int64),
    )


def begin(start: Barrier, camera: SpawnProcess, pipe: nds.Pipe) -> int:
    """Let the camera begin as soon as the workers are there; return the moment."""
    while any(worker["state"] == "starting" for worker in pipe.stats()["workers"]):
        time.sleep(0.01)
    return job.begin(start, [camera])


def collect(
    shared: Shared, spectra: nds.Reader, camera: SpawnProcess, killer: Killer, tick: Tick
) -> tuple[Sheet, Sums]:
    """Add up spectra and keep the sheet up to date until the stream ends; return both."""
    sheet, sums = Sheet(shared), Sums(shared.moments.shape[1])
    is_open = True
    while is_open:
        is_open = take_spectra(spectra, sums, killer)
        job.still_alive([camera])
        sheet.refresh()
        tick(sums.count)
    return sheet, sums


def take_spectra(spectra: nds.Reader, sums: Sums, killer: Killer) -> bool:
    """Take in what comes until the sheet is due; False at the end of the stream."""
    due = time.monotonic() + job.REFRESH_SECONDS
    while (patience := due - time.monotonic()) > 0:
        try:
            sums.take(spectra.get(timeout=patience))
        except nds.Empty:
            return True
        except (nds.Closed, nds.WriterDied):
            return False  # what ended the pipe before, the pipe raises
        killer.look(sums.count)
    return True


def results(plan: Plan, shared: Shared, sums: Sums) -> dict[str, Any]:
    """Return what the run came to, in ordinary arrays: nothing of it keeps shared memory."""
    found = {index: shared.cache.get(("tile", index)) for index in range(plan.frames)}
    return {
        "moments": shared.moments.copy(),
        "focus": sums.focus,
        "power": sums.power.sum(axis=2) / max(sums.count, 1),
        "tiles": {index: tile.copy() for index, tile in found.items() if tile is not None},
    }
