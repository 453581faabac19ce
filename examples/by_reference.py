"""The job with ndshare: a Ring of frames, a group of workers with nds.fft, a Cache of tiles, a Canvas for the sheet.

No frame is copied. The camera exposes into memory of the ring, a worker transforms the frame where it lies, the
cache keeps the tile for all processes, and the canvas copies those tiles that are new on it.
"""

import time
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

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


class Shared(NamedTuple):
    """What all processes have. The arrays are filled in place."""

    ring: nds.Ring
    cache: nds.Cache  # a tile for each ("tile", number of its frame)
    moments: Moments  # (stages, frames)
    focus: npt.NDArray[np.float64]  # (frames,)
    power: Floats  # (WORKERS, rows, columns // 2 + 1, 2): each worker adds squares to its own
    dropped: npt.NDArray[np.int64]  # (WORKERS,): what the ring counted


def blank(_key: object) -> Tile:
    """Return the tile for a place that has none: what the cache loads."""
    return np.zeros(TILE_SHAPE, np.uint16)


# The processes


def expose(plan: Plan, specimen: Specimen, shared: Shared, start: Barrier) -> None:
    """Be the camera: expose each frame where the workers will find it."""
    job.end_with_parent()
    rng = np.random.default_rng(job.SEED)
    start.wait()
    pace = job.Pace(plan)
    with shared.ring as ring:
        for index in range(plan.frames):
            pace.wait(index)
            with ring.write() as frame:
                microscope.expose(specimen, index, rng, out=frame)
                shared.moments[Stage.EXPOSED, index] = time.monotonic_ns()
            del frame


def process(number: int, frames: nds.Reader, shared: Shared, start: Barrier) -> None:
    """Be a worker: make a tile of each frame that this member of the group gets, until there are no more."""
    job.end_with_parent()
    engine, bench = analysis.NdshareEngine(), analysis.make_bench()
    start.wait()
    for frame in frames:
        index = frame.seq
        shared.moments[Stage.TAKEN, index] = time.monotonic_ns()
        tile, shared.focus[index] = analysis.analyse(frame, engine, bench, shared.power[number])
        del frame  # its memory goes back before we wait for the next one
        shared.moments[Stage.WORKED, index] = time.monotonic_ns()
        shared.cache["tile", index] = tile
        shared.moments[Stage.STORED, index] = time.monotonic_ns()
    shared.dropped[number] = max(reader["missed"] for reader in shared.ring.stats()["readers"])


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


def run(plan: Plan, specimen: Specimen, tick: Tick) -> Outcome:
    """Do the job once."""
    shared, readers = prepare(plan)
    start = job.CONTEXT.Barrier(WORKERS + 2)
    processes = [job.CONTEXT.Process(target=expose, args=(plan, specimen, shared, start), name="camera")]
    for number, reader in enumerate(readers):
        arguments = (number, reader, shared, start)
        processes.append(job.CONTEXT.Process(target=process, args=arguments, name=f"worker {number}"))
    with job.running(processes):
        readers.clear()  # they belong to the workers now
        began = job.begin(start, processes)
        sheet = show(shared, processes, tick)
    return outcome(plan, began, shared, sheet)


def prepare(plan: Plan) -> tuple[Shared, list[nds.Reader]]:
    """Return what all processes have, and a reader of the group for each worker."""
    ring = nds.Ring(FRAME_SHAPE, np.uint16, slots=job.ROOM, when_full="drop_oldest" if plan.rate else "wait")
    shared = Shared(
        ring=ring,
        cache=nds.Cache(job.TILES_KEPT * TILE_BYTES, load=blank),
        moments=nds.zeros((len(Stage), plan.frames), np.int64),
        focus=nds.zeros(plan.frames, np.float64),
        power=nds.zeros((WORKERS, *analysis.SPECTRUM_SHAPE, 2), np.float32),
        dropped=nds.zeros(WORKERS, np.int64),
    )
    return shared, [ring.reader(group="workers") for _ in range(WORKERS)]


def show(shared: Shared, processes: list[SpawnProcess], tick: Tick) -> Sheet:
    """Keep the sheet up to date until all processes have ended, and return it."""
    sheet, alive = Sheet(shared), processes
    while alive:
        wait([child.sentinel for child in alive], timeout=job.REFRESH_SECONDS)
        alive = job.still_alive(alive)
        sheet.refresh()
        tick(int(np.count_nonzero(shared.moments[Stage.STORED])))
    return sheet


def outcome(plan: Plan, began: int, shared: Shared, sheet: Sheet) -> Outcome:
    """Return what the run achieved, in ordinary arrays: nothing of it keeps shared memory."""
    moments = shared.moments.copy()
    found = {index: shared.cache.get(("tile", index)) for index in range(plan.frames)}
    return Outcome(
        plan=plan,
        began=began,
        moments=moments,
        focus=shared.focus.copy(),
        power=shared.power.sum(axis=(0, 3)) / np.count_nonzero(moments[Stage.WORKED]),
        tiles={index: tile.copy() for index, tile in found.items() if tile is not None},
        sheet=sheet.picture(),
        refreshes=sheet.refreshes,
        dropped=int(shared.dropped.max()),
    )
