"""The process that records: takes frames, gives them to a sink, and says how it ended."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from . import _sinks
from ._errors import Closed, Empty, WriterDied
from ._held import Held, death_of, held_of
from ._native import Reader, Ring
from ._ref import ref
from ._sinks._file import LostError
from ._sinks._notes import NotesSink, notes_path
from ._sinks._place import Replacement
from ._sinks._times import TimesSink, paths_of
from ._task import Side

# So long (seconds) it waits for a frame before it looks whether it is to stop.
_LOOK_EVERY = 0.05
# Small frames are written together, so many and so many bytes of them.
_BATCH_FRAMES = 64
_BATCH_BYTES = 1 << 20
_WINDOW_NS = 500_000_000

# What the counters are.
FRAMES, LOST, BYTES, BEGAN_NS, NOW_NS, MILLI_RATE = range(6)


@dataclass(frozen=True)
class Plan:
    """What to record, and where to."""

    path: str
    format: str
    sidecar: str | None
    frames: int | None
    seconds: float | None
    replaces: bool = False


class EndedError(Exception):
    """Why a recording ended before its time."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number


class Output:
    """The files of a recording: frames, and beside them the table and the notes."""

    def __init__(self, path: Path, look: _sinks.Look, sidecar: str | None, place: Replacement | None = None) -> None:
        """Make them; with a `place` they are made there until a frame is whole. Raises OSError."""
        self._path, self._place = path, place
        path = path if place is None else place.path
        self._sink = _sinks.new_sink(_sinks.format_of(path), path, look)
        self._beside: list[TimesSink | NotesSink] = []
        if sidecar is not None:
            self._beside = [NotesSink(notes_path(path)), TimesSink(paths_of(path), sidecar, look.meta)]

    @property
    def frames(self) -> int:
        """How many frames are whole."""
        return self._sink.frames

    def write(self, frames: list[Any]) -> None:
        """Append frames of a ring, behind what is said of them. Raises OSError where the disk is full."""
        for table in self._beside:
            table.write(frames)
        try:
            self._sink.write([frame.view(np.ndarray) for frame in frames])
        finally:
            if self._place is not None and self.frames:
                self._take_place(self._place)

    def _take_place(self, place: Replacement) -> None:
        """Be at the path from now on, where an old recording was."""
        self._place = None
        place.take_place()
        for one in (self._sink, *self._beside):
            one.moved(self._path)

    def close(self) -> None:
        """Cut off what is not whole, and make the table what was wanted. Raises OSError where the disk is full."""
        self._sink.close()
        for table in self._beside:
            table.finish(self.frames)


class Recorder:
    """A recording that goes on."""

    def __init__(self, plan: Plan, ring: Ring[Any], side: Side) -> None:
        self._plan, self._ring, self._side = plan, ring, side
        self._reader: Reader[Any] | None = None
        self._held, self._first, self._last_held = deque[Held](), 0, -1
        self._death: WriterDied | None = None
        self._counters = side.counters
        self._output: Output | None = None
        self._place: Replacement | None = None
        self._look: _sinks.Look | None = None
        self._next: int | None = None
        self._began = time.monotonic_ns()
        self._window = self._began, 0

    def prepare(self) -> None:
        """Make the file before the first frame comes, where the ring says what frames look like. Raises EndedError."""
        try:
            with self._told():
                self._place = Replacement(Path(self._plan.path)) if self._plan.replaces else None
                if self._ring.shape is not None:
                    self._open(self._ring.shape, self._ring.dtype)
        except EndedError:
            self.close()
            raise

    def begin(self, reader: Reader[Any], first: int, held: deque[Held], death: WriterDied | None) -> None:
        """Have a reader, and what was told before: frames, a death. What is older than `first` does not count."""
        self._reader, self._first, self._held, self._death = reader, first, held, death
        self._last_held = held[-1].seq if held else -1
        # From now on the reader is this process's.
        _ = reader.fileno()

    def _get(self, most: int, timeout: float) -> list[Any]:
        """Return the next frames. Raises as `Reader.get_many`."""
        if self._held:
            return [self._held.popleft()]
        if self._death is not None:
            death, self._death = self._death, None
            raise death
        while True:
            frames = cast("Reader[Any]", self._reader).get_many(most, timeout=timeout)
            if frames := [frame for frame in frames if frame.seq > self._last_held]:
                return frames

    def run(self) -> None:
        """Record until the end. Raises EndedError if that came too early; what is whole is on the disk in any case."""
        self._counters[BEGAN_NS] = self._began
        try:
            with self._told():
                for frames in self._batches():
                    self._write(frames)
        finally:
            with self._told():
                self.close()

    @contextlib.contextmanager
    def _told(self) -> Generator[None, None, None]:
        """Say errors of the disk and of the ring in the words of a recording."""
        try:
            yield
        except LostError as error:
            raise EndedError(f"{error}; record anew, to a file that nobody else touches") from error
        except OSError as error:
            raise EndedError(
                f"{error.strerror or error}; {self._whole()}: free space there, or record to another disk"
                if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
                else f"{error}; {self._whole()}",
                error.errno,
            ) from error
        except WriterDied as error:
            raise EndedError(
                f"the last writer of the ring died without closing it (process {error.pid}); {self._whole()}"
            ) from error

    def _whole(self) -> str:
        return f"{0 if self._output is None else self._output.frames} frames are whole and can be read"

    def _batches(self) -> Generator[list[Any], None, None]:
        """Yield frames as they come, small ones together."""
        left = self._plan.frames
        while left is None or left > 0:
            frames = self._batch(_BATCH_FRAMES if left is None else min(left, _BATCH_FRAMES))
            if frames is None:
                return
            left = None if left is None else left - len(frames)
            yield frames
            # The ring fills them anew, while they are still in the processor's cache.
            frames.clear()

    def _batch(self, most: int) -> list[Any] | None:
        """Return the next frames that count, once there are some; None at the end of the recording or of the stream."""
        while True:
            if self._bound is None and self._is_over():
                # What was published by now still counts, and no more: the stream may be fast.
                self._bound = self._ring.stats()["written"]
            try:
                frames = self._get(min(most, self._at_once), timeout=_LOOK_EVERY if self._bound is None else 0)
            except Empty:
                if self._bound is not None:
                    return None
                continue
            except Closed:
                return None
            self._at_once = max(1, _BATCH_BYTES // max(1, frames[-1].nbytes))
            if self._bound is not None and frames[0].seq >= self._bound:
                return None
            if frames := [frame for frame in frames if self._counts(frame)]:
                return frames

    _bound: int | None = None
    # So many frames make a megabyte, as far as is known.
    _at_once = 1

    def _counts(self, frame: Any) -> bool:
        return frame.seq >= self._first and (self._bound is None or frame.seq < self._bound)

    def _is_over(self) -> bool:
        seconds = self._plan.seconds
        is_late = seconds is not None and time.monotonic_ns() - self._began >= seconds * 1e9
        return is_late or self._side.is_stopped()

    def _write(self, frames: list[Any]) -> None:
        output = self._output or self._open(frames[0].shape, frames[0].dtype)
        same = self._alike(frames)
        self._count_lost(same)
        before = output.frames
        try:
            output.write(same)
        finally:
            self._count(output.frames, sum(frame.nbytes for frame in same[: output.frames - before]))
        if len(same) < len(frames):
            self._refuse(frames[len(same)])

    def _open(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Output:
        plan = self._plan
        self._look = _sinks.Look(shape, dtype, self._ring.meta, plan.frames)
        try:
            _sinks.check_format(plan.format, self._look)
        except TypeError as error:
            raise EndedError(str(error)) from error
        self._output = Output(Path(plan.path), self._look, plan.sidecar, self._place)
        return self._output

    def _alike(self, frames: list[Any]) -> list[Any]:
        """Return the frames up to the first that looks otherwise."""
        look = cast("_sinks.Look", self._look)
        for number, frame in enumerate(frames):
            if frame.shape != look.shape or frame.dtype != look.dtype:
                return frames[:number]
        return frames

    def _refuse(self, frame: Any) -> None:
        look = cast("_sinks.Look", self._look)
        wanted = "the first one" if self._ring.shape is None else "the ring says"
        raise EndedError(
            f"expected frames of {look.shape} {look.dtype} as {wanted}, got frame {frame.seq} of {frame.shape} "
            f"{frame.dtype}; {self._whole()}: record what comes now to another file"
        )

    def _count_lost(self, frames: list[Any]) -> None:
        for frame in frames:
            if self._next is None:
                lost = min(cast("Reader[Any]", self._reader).missed, frame.seq - self._first)
            else:
                lost = frame.seq - self._next
            self._counters[LOST] += lost
            self._next = frame.seq + 1

    def _count(self, frames: int, more_bytes: int) -> None:
        now, (then, had) = time.monotonic_ns(), self._window
        self._counters[FRAMES] = frames
        self._counters[BYTES] += more_bytes
        self._counters[NOW_NS] = now
        if now - then >= _WINDOW_NS:
            self._counters[MILLI_RATE] = (frames - had) * 10**12 // (now - then)
            self._window = now, frames

    def close(self) -> None:
        """Let go of the ring first: a table takes its time."""
        self._held.clear()
        if self._reader is not None:
            self._reader.close()
        try:
            if self._output is not None:
                self._output.close()
        finally:
            if self._place is not None:
                self._place.close()


def main() -> None:
    """Be the process of a recording."""
    side = Side()
    told = side.plan
    if (package := _sinks.package_of(told["plan"]["format"])) is not None:
        _sinks.need(package)
    recorder = Recorder(Plan(**told["plan"]), cast("Ring[Any]", ref(told["ring"]).open()), side)
    try:
        recorder.prepare()
        side.say("ready")
        if not (text := side.hear()).startswith("{"):  # it is to stop already, or who asked is gone
            recorder.close()
            side.end(error=None, errno=None)
            return
        given = json.loads(text)
        reader = cast("Reader[Any]", ref(given["reader"]).open())
        recorder.begin(reader, given["first"], held_of(given["held"]), death_of(given["death"]))
        side.say("started")
        recorder.run()
    except EndedError as error:
        side.end(error=str(error), errno=error.number)
        return
    side.end(error=None, errno=None)


if __name__ == "__main__":
    main()
    # Nothing is left to do, and a library's threads may take their time.
    os._exit(0)
