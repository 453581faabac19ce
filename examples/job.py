"""What both ways of doing the job have in common: its plan, the moments that are noted, the sheet, the processes.

A camera exposes frames, two workers share them and make a tile of each, and the parent keeps a contact sheet of the
newest tiles up to date while all that runs. Each frame's way is noted in a row of moments for each stage.
"""

import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from analysis import TILE_SHAPE, Floats, Tile

WORKERS = 2
ROOM = 8  # frames that may wait between the camera and the workers; it bounds the memory in use
SHEET_ROWS, SHEET_COLUMNS = 10, 10
SHEET_TILES = SHEET_ROWS * SHEET_COLUMNS
NO_FRAME = -1
REFRESH_SECONDS = 0.04
TILES_KEPT = 1000
SEED = 20

# A fresh interpreter for each process: nothing is inherited, so everything that arrives has travelled.
CONTEXT = mp.get_context("spawn")

Moments = npt.NDArray[np.int64]
Tick = Callable[[int], None]


class Stage(IntEnum):
    """A row of the moments. They are of the monotonic clock, in ns, and 0 is "never"."""

    EXPOSED = 0  # by the camera, and on offer to the workers
    TAKEN = 1  # a worker has the array open
    WORKED = 2  # the worker has made the tile
    STORED = 3  # the tile is where the parent can read it
    SHOWN = 4  # the tile is on the sheet


class Plan(NamedTuple):
    """What one run does."""

    frames: int
    rate: float | None  # frames/s of a camera that waits for nobody; None is as fast as the workers take them
    kills: int = 0  # how often a worker is killed amid its work, which only the way by reference outlives


class Refresh(NamedTuple):
    """One time that the sheet was brought up to date."""

    seconds: float
    tiles: int  # that are new on it


@dataclass(frozen=True)
class Outcome:
    """What one run achieved."""

    plan: Plan
    began: int
    moments: Moments  # (stages, frames)
    focus: npt.NDArray[np.float64]  # (frames,)
    power: Floats  # (rows, columns // 2 + 1), the mean over all frames
    tiles: dict[int, Tile]
    sheet: Tile
    refreshes: list[Refresh]
    dropped: int  # frames that the hand-over itself counted as lost
    restarted: int = 0  # workers that took the place of killed ones


class Pace:
    """The clock of a camera that waits for nobody."""

    def __init__(self, plan: Plan) -> None:
        self._start = time.monotonic()
        self._period = 0.0 if plan.rate is None else 1 / plan.rate

    def wait(self, index: int) -> None:
        """Wait until it is time for a frame."""
        left = self._start + index * self._period - time.monotonic()
        if left > 0:
            time.sleep(left)


def newest(moments: Moments) -> npt.NDArray[np.intp]:
    """Return for each place of the sheet the number of the newest frame that belongs there, or NO_FRAME.

    Frame i belongs to place i modulo the number of places, so a new tile takes the place of the oldest one.
    """
    # A copy, because workers write meanwhile: NumPy counts first, looks again, and raises if more are there by then.
    stored = np.flatnonzero(moments[Stage.STORED].copy())
    places = np.full(SHEET_TILES, NO_FRAME)
    places[stored % SHEET_TILES] = stored
    return places


def note_shown(moments: Moments, places: npt.NDArray[np.intp], now: int) -> int:
    """Note that the frames at these places are on the sheet; return how many of them were not before."""
    fresh = places[places != NO_FRAME]
    fresh = fresh[moments[Stage.SHOWN, fresh] == 0]
    moments[Stage.SHOWN, fresh] = now
    return len(fresh)


def as_picture(tiles: Tile) -> Tile:
    """Return a copy of tiles that lie one below the other as a sheet of rows and columns."""
    grid = tiles.reshape(SHEET_ROWS, SHEET_COLUMNS, *TILE_SHAPE)
    return grid.swapaxes(1, 2).reshape(SHEET_ROWS * TILE_SHAPE[0], SHEET_COLUMNS * TILE_SHAPE[1])


# Processes


@contextmanager
def running(processes: list[SpawnProcess]) -> Generator[None, None, None]:
    """Start processes; on the way out they have all ended, at the latest when we stop them."""
    # Started later, it would take the signals' mask away again before the first child is there.
    resource_tracker.ensure_running()
    try:
        # Children inherit the mask: Ctrl-C is for the parent, which then ends them.
        with interrupts_later():
            for child in processes:
                child.start()
        yield
    finally:
        with interrupts_later():
            end(processes)


@contextmanager
def interrupts_later() -> Generator[None, None, None]:
    """Put Ctrl-C and SIGTERM off until the end of the block."""
    caught: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    # Only for the children: here another thread may take the signal, and Python then interrupts this one all the same.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in caught[:1]:
        signal.raise_signal(number)


def begin(start: Barrier, processes: list[SpawnProcess]) -> int:
    """Let everybody start as soon as everybody is there; return the moment."""
    while start.n_waiting < len(processes):
        wait([child.sentinel for child in processes], timeout=0.01)
        still_alive(processes)
    start.wait()
    return time.monotonic_ns()


def end(processes: list[SpawnProcess]) -> None:
    """End those that still run, and wait for all."""
    for child in processes:
        if child.is_alive():
            child.terminate()
    for child in processes:
        if child.pid is not None:
            child.join()


def still_alive(processes: list[SpawnProcess]) -> list[SpawnProcess]:
    """Return those that have not ended; one that failed is an error."""
    for child in processes:
        if child.exitcode:
            raise RuntimeError(f"{child.name} ended with exit code {child.exitcode}; its message, if any, is above")
    return [child for child in processes if child.exitcode is None]


def ended(number: int, _frame: object) -> NoReturn:
    """Leave by way of all clean-up."""
    sys.exit(128 + number)


def end_with_parent() -> None:
    """In a child: see to it that it ends when its parent does, even if that is killed."""
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
