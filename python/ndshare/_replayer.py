"""The process that replays: takes frames of a file, and puts them into a ring when it is time."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from ._errors import Closed, Error, Full
from ._native import Ring, Writer
from ._ref import ref
from ._sources import Source, open_source
from ._task import Side

# So long (seconds) it waits for a time, a reader or room before it looks whether it is to stop.
_LOOK_EVERY = 0.05
# Rings that take the time of a frame with it keep that of the recording.
_TAKES_TIMES = "time_ns" in (getattr(Ring.put, "__text_signature__", None) or "")

FRAMES = 0


class _StoppedError(Exception):
    """It is to stop."""


class Replayer:
    """A replay that goes on."""

    def __init__(self, source: Source, ring: Ring[Any], writer: Writer[Any], side: Side) -> None:
        self._source, self._ring, self._writer, self._side = source, ring, writer, side
        self._meta = source.meta
        names = (ring.meta.names if ring.meta is not None else None) or ()
        have = () if self._meta is None else self._meta.dtype.names or ()
        # What the ring has no field for is left out, as when a frame goes from ring to ring.
        self._fields = [name for name in have if name in names]

    def run(self, speed: float | None, loop: bool, readers: int) -> None:
        """Put all frames into the ring, until the end or until it is to stop."""
        try:
            while len([one for one in self._ring.stats()["readers"] if one["alive"]]) < readers:
                self._nap(_LOOK_EVERY)
            for number, due in self._order(speed, loop):
                self._wait_until(due)
                self._put(number)
                self._side.counters[FRAMES] += 1
        except (_StoppedError, Closed):
            return

    def _order(self, speed: float | None, loop: bool) -> Generator[tuple[int, int], None, None]:
        """Yield which frame comes next, and when, in nanoseconds of the monotonic clock; 0 is at once."""
        times = None if self._source.rows is None else self._source.rows["time_ns"]
        begun, first, frames = time.monotonic_ns(), 0 if times is None or not len(times) else int(times[0]), 0
        while self._source.frames:
            for number in range(self._source.frames):
                due = 0 if speed is None or times is None else begun + round((int(times[number]) - first) / speed)
                yield number, due
            if not loop:
                return
            frames = self._source.frames
            if speed is not None and times is not None:
                # From the last frame to the first one goes as long as from one to the next.
                span = int(times[-1]) - first
                begun += round((span + span // max(1, frames - 1)) / speed)

    def _wait_until(self, due: int) -> None:
        if not due and self._side.is_stopped():
            raise _StoppedError
        while (left := (due - time.monotonic_ns()) / 1e9) > 0:
            self._nap(min(left, _LOOK_EVERY))

    def _nap(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._side.is_stopped():
            raise _StoppedError

    def _put(self, number: int) -> None:
        frame, more = self._source.get(number), dict[str, Any]()
        if self._fields and self._meta is not None:
            more["meta"] = {name: self._meta[number][name] for name in self._fields}
        if _TAKES_TIMES and self._source.rows is not None:
            more["time_ns"] = int(self._source.rows["time_ns"][number])
        while True:
            try:
                self._writer.put(frame, timeout=_LOOK_EVERY, **more)
                return
            except Full:
                if self._side.is_stopped():
                    raise _StoppedError from None


def main() -> None:
    """Be the process of a replay."""
    side = Side()
    plan = side.plan
    source = open_source(Path(plan["path"]))
    ring: Ring[Any] = cast("Any", ref(plan["ring"]).open())
    writer: Writer[Any] = cast("Any", ref(plan["writer"]).open())
    try:
        with writer:  # it is this process's from now on
            side.say("ready")
            Replayer(source, ring, writer, side).run(plan["speed"], plan["loop"], plan["readers"])
    except (Error, OSError, ValueError, TypeError) as error:
        side.end(error=str(error))
        return
    side.end(error=None)


if __name__ == "__main__":
    main()
    # Nothing is left to do, and a library's threads may take their time.
    os._exit(0)
