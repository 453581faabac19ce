"""Frames of a ring to disk, by a process of their own: `record` plans, `_recorder` does it."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any, TypedDict

from . import _progress, _sinks
from ._errors import RecordError
from ._held import Holding
from ._native import Ring
from ._recorder import BEGAN_NS, BYTES, FRAMES, LOST, MILLI_RATE, NOW_NS, Plan
from ._ref import ref
from ._sinks._place import beside, is_taken
from ._sinks._times import kind_of
from ._task import Stopping, Task


class RecordStats(TypedDict):
    """What a recording has done so far."""

    frames: int
    before: int
    lost: int
    bytes: int
    rate: float
    seconds: float
    disk_left: int


class Recording(Stopping):
    """A recording that goes on in a process of its own, made by `ndshare.record`.

    It goes on until `stop`, the end of its ``with`` block, the end of the stream, or of what it was asked for; and it
    stops when this process ends, however it does. What is written by then is whole.

    >>> import ndshare as nds, numpy as np, tempfile
    >>> ring = nds.Ring((2, 3), np.uint16, slots=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with nds.record(ring, f"{folder}/run.npy") as recording:
    ...         for i in range(5):
    ...             number = ring.put(np.full((2, 3), i, np.uint16))
    ...     recording.stats()["frames"], np.load(recording.path).shape
    (5, (5, 2, 3))
    """

    def __init__(self, path: Path, task: Task) -> None:
        self.path = path
        self._task = task

    @property
    def pid(self) -> int:
        """The number of the process that records.

        >>> import ndshare as nds, os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with nds.record(nds.Ring(3, "u1", slots=2), f"{folder}/run.npy") as recording:
        ...         recording.pid == os.getpid()
        False
        """
        return self._task.pid

    def stats(self) -> RecordStats:
        """Return what was recorded so far: `frames` are whole on the disk by now, and have so many `bytes`.

        `before` is how many of them are from before the recording began, `lost` is how many frames went before they
        could be recorded, `rate` is frames in a second just now, `seconds` is the time from the beginning to the last
        frame, and `disk_left` how many bytes the disk has left.

        >>> import ndshare as nds, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with nds.record(nds.Ring(3, "u1", slots=2), f"{folder}/run.npy") as recording:
        ...         recording.stats()["frames"]
        0
        """
        counters = [int(number) for number in self._task.counters]
        seconds = max(0, counters[NOW_NS] - counters[BEGAN_NS]) / 1e9 if counters[NOW_NS] else 0.0
        rate = counters[MILLI_RATE] / 1000
        if not rate and seconds:
            rate = counters[FRAMES] / seconds
        return {
            "frames": counters[FRAMES],
            "before": min(self._before, counters[FRAMES]),
            "lost": counters[LOST],
            "bytes": counters[BYTES],
            "rate": rate,
            "seconds": seconds,
            "disk_left": _disk_left(self.path),
        }

    def stop(self, timeout: float | None = None) -> RecordStats:
        """End it with what was published by now, and return what was recorded; later, do nothing.

        Raises as `wait` does.

        >>> import ndshare as nds, tempfile
        >>> ring = nds.Ring(3, "u1", slots=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recording = nds.record(ring, f"{folder}/run.npy")
        ...     number = ring.put([1, 2, 3])
        ...     recording.stop()["frames"]
        1
        """
        self._task.stop()
        return self.wait(timeout)

    def wait(self, timeout: float | None = None, progress: bool = False) -> RecordStats:
        """Wait for its end, and return what was recorded. With `progress`, a bar or a line shows how it goes.

        Raises RecordError if it ended too early, as where the disk is full or its process was killed: `frames` says how
        many are whole. Raises Timeout if it goes on.

        >>> import ndshare as nds, tempfile
        >>> ring = nds.Ring(3, "u1", slots=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recording = nds.record(ring, f"{folder}/run.npy", frames=1)
        ...     number = ring.put([1, 2, 3])
        ...     recording.wait(timeout=30)["lost"]
        0
        """
        if progress:
            self._show(None if timeout is None else time.monotonic() + timeout)
        outcome = self._task.outcome(timeout if not progress else 0 if timeout is not None else None, f"{self!r}")
        if not outcome or outcome["error"]:
            frames = int(self._task.counters[FRAMES])
            reason = outcome.get("error") or f"{self._task.how_it_died()}; {frames} frames are whole and can be read"
            raise RecordError(f"recording to {self.path} ended: {reason}", frames, outcome.get("errno"))
        return self.stats()

    def _show(self, end: float | None) -> None:
        with _progress.told("recording", self._task_total) as tell:
            while not self._task.is_over(0.1) and (end is None or time.monotonic() < end):
                tell(*_line(self.stats()))
            tell(*_line(self.stats()))

    _task_total: int | None = None
    _before = 0

    def __repr__(self) -> str:
        return f"<Recording to {self.path}, process {self.pid}>"


def _disk_left(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:  # it was taken away
        return 0


def _line(stats: RecordStats) -> tuple[int, str]:
    """Return how many frames are done, and a text for people."""
    per_frame = stats["bytes"] / stats["frames"] if stats["frames"] else 0.0
    return stats["frames"], (
        f"{stats['frames']} frames, {stats['rate']:.0f}/s, {stats['rate'] * per_frame / 1e9:.2f} GB/s, "
        f"{stats['lost']} lost, {stats['disk_left'] / 1e9:.1f} GB left"
    )


def record(
    ring: Ring[Any],
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    seconds: float | None = None,
    before: int = 0,
    sidecar: str | bool | None = None,
    overwrite: bool = False,
) -> Recording:
    """Record the frames of a ring to disk from now on, in a process of its own.

    The ending of `path` says the format: ``.npy``; ``.raw``, with ``.raw.json`` beside it; ``.tif`` for OME-TIFF, with
    tifffile; ``.zarr`` for zarr 3. Every frame that is published after this returns is recorded, or counted as `lost`.
    It ends after so many `frames` or `seconds`, with the stream, or by `Recording.stop`.

    With `before` it begins with frames from before: at most so many, of those that the ring still has; they count as
    `frames`. A RuntimeWarning says where there are fewer than a ring of so many slots could have.
    Beside the file is a table with number, time and meta of each frame: Parquet if pyarrow is installed, else CSV;
    `sidecar` is ``"parquet"``, ``"csv"``, ``"npy"`` or False for none. Notes of frames go into ``path.notes.jsonl``, a
    line of JSON each; with ``sidecar=False`` they are left out.

    It is a reader of every frame. If the disk is slower than the camera, a ring with ``when_full="wait"`` holds its
    writers back; others lose frames, which is counted. All frames have to be as the first one: another shape or dtype
    ends the recording with an error. What is counted is whole and can be read at every instant, also after a kill.

    With `overwrite` it takes the place of an old recording with its first whole frame; without one the old one stays.

    Raises FileExistsError where something is there already, unless `overwrite`, and where another recording goes on;
    ImportError where a package is missing; ValueError for other endings, TypeError for frames that the format does not
    have, RecordError where it could not begin.

    >>> import ndshare as nds, tempfile
    >>> ring = nds.Ring(3, "uint8", slots=8, keep=2)
    >>> for i in range(5):
    ...     number = ring.put([i, i, i])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     recording = nds.record(ring, f"{folder}/run.npy", before=2, frames=2)
    ...     recording.wait()["frames"], nds.load(recording.path)[:, 0].tolist()
    (2, [3, 4])
    """
    # Before anything else, while the frames are still there: packages and a process take their time.
    holding = Holding(ring, before) if isinstance(ring, Ring) and operator.index(before) > 0 else None  # pyright: ignore[reportUnnecessaryIsInstance]
    try:
        plan = _planned(ring, path, frames=frames, seconds=seconds, before=before, sidecar=sidecar, overwrite=overwrite)
        task = Task("ndshare._recorder", {"plan": dataclasses.asdict(plan), "ring": str(ref(ring))})
        recording = Recording(Path(plan.path), task)
        recording._task_total = plan.frames  # pyright: ignore[reportPrivateUsage]
        if task.expect("ready") and _handed_over(task, ring, holding):
            if holding is not None:
                recording._before = holding.before  # pyright: ignore[reportPrivateUsage]
                _warn_of_fewer(ring, before, holding)
            return recording
    finally:
        if holding is not None:
            holding.drop()
    recording.wait()
    return recording


def _handed_over(task: Task, ring: Ring[Any], holding: Holding | None) -> bool:
    """Give the process its reader, and what was read before; tell whether it has begun."""
    if holding is None:
        written, reader = ring.stats()["written"], ring.reader()
        told: dict[str, Any] = {"first": written, "reader": str(reference := ref(reader)), "held": [], "death": None}
        task.say(json.dumps(told))
        return task.expect("started") and bool(reference)
    reader = holding.end()
    held, refs = holding.told()
    first = held[0]["seq"] if held else holding.first
    refs.append(ref(reader))
    task.say(json.dumps({"first": first, "reader": str(refs[-1]), "held": held, "death": holding.death}))
    return task.expect("started")


def _warn_of_fewer(ring: Ring[Any], before: int, holding: Holding) -> None:
    """Warn where there are fewer frames from before than the ring could have had."""
    wanted = min(before, holding.written)
    if holding.before < wanted and before <= ring.slots:
        warnings.warn(
            f"expected {wanted} frames from before, got {holding.before}: the ring has {ring.slots} slots, and for "
            f"certain its last {ring.keep} frames only; make it with keep={before}",
            RuntimeWarning,
            stacklevel=3,
        )


def _planned(
    ring: Ring[Any],
    path: str | os.PathLike[str],
    *,
    frames: int | None,
    seconds: float | None,
    before: int,
    sidecar: str | bool | None,
    overwrite: bool,
) -> Plan:
    """Check what is asked for, before anything is changed."""
    if not isinstance(ring, Ring):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"expected a Ring, as nds.attach('camera') returns, got {type(ring).__name__}")
    target = Path(os.path.abspath(path))
    name = _sinks.format_of(target)
    kind = kind_of(sidecar)
    count = None if frames is None else operator.index(frames)
    if (count is not None and count < 1) or operator.index(before) < 0 or (seconds is not None and not seconds >= 0):
        raise ValueError(
            f"expected at least 1 frame, seconds and before of 0 or more, got {frames=}, {seconds=}, {before=}"
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(f"expected a folder {target.parent}, got none: make it first")
    if ring.shape is not None:
        _sinks.check_format(name, _sinks.Look(ring.shape, ring.dtype, ring.meta))
    elif (package := _sinks.package_of(name)) is not None:
        _sinks.need(package)
    return Plan(str(target), name, kind, count, seconds, _replaces(target, overwrite))


def _replaces(target: Path, overwrite: bool) -> bool:
    """Tell whether there is an old recording, or a part of one, that is to be replaced. Raises FileExistsError."""
    there = [one for one in [target, *beside(target)] if os.path.lexists(one)]
    if there and not overwrite:
        raise FileExistsError(
            f"expected no recording {target}, got {there[0].name} there: choose another name, or pass overwrite=True"
        )
    if target.is_dir() and not target.is_symlink() and not (target / "zarr.json").is_file():
        raise FileExistsError(f"expected a recording at {target}, got a folder of something else: choose another name")
    if is_taken(target):
        raise FileExistsError(f"expected one recording to {target} at a time, got another that goes on: stop it first")
    return bool(there)


record.__module__ = Recording.__module__ = RecordStats.__module__ = "ndshare"
