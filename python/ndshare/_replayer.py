"""The process that replays: takes frames of a file, and puts them into a ring when it is time."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ._errors import Closed, Error, Full
from ._meta import SOURCE_SEQ, SOURCE_TIME
from ._native import Ring, Writer
from ._ref import ref
from ._sinks._times import leaves
from ._sources import Source, open_source
from ._task import Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So long (seconds) it waits for a time, a reader or room before it looks whether it is to stop.
_LOOK_EVERY = 0.05

FRAMES = 0


class _StoppedError(Exception):
    """It is to stop."""


class Replayer:
    """A replay that goes on."""

    def __init__(self, source: Source, ring: Ring[Any], writer: Writer[Any], side: Side) -> None:
        self._source, self._ring, self._writer, self._side = source, ring, writer, side
        self._meta, self._times = source.meta, None if source.rows is None else _times_of(source.rows)
        names = (ring.meta.names if ring.meta is not None else None) or ()
        have = () if self._meta is None else self._meta.dtype.names or ()
        # What the ring has no field for is left out, as when a frame goes from ring to ring.
        self._fields = [name for name in have if name in names]
        self._origins = [one for one in ((SOURCE_SEQ, "seq"), (SOURCE_TIME, "time_ns")) if one[0] in names]
        self._check_fields()
        self._begun = 0
        # From the last frame to the first one goes as long as from one to the next.
        span = self._times[-1] - self._times[0] if self._times else 0
        self._length = span + span // max(1, source.frames - 1)

    def _check_fields(self) -> None:
        """Raise ValueError where a field of the ring has other parts than the one that was recorded."""
        for name in self._fields:
            recorded, wanted = (leaves(of.fields[name][0], name) for of in self._dtypes())
            if recorded != wanted:
                raise ValueError(
                    f"expected meta of the ring as it was recorded, the field {name!r} with {recorded}, got {wanted}: "
                    "make the ring with such a field, or without it"
                )

    def _dtypes(self) -> tuple[Any, Any]:
        return (None if self._meta is None else self._meta.dtype), self._ring.meta

    def run(self, speed: float | None, loop: bool, readers: int) -> None:
        """Put all frames into the ring, until the end or until it is to stop."""
        try:
            while len([one for one in self._ring.stats()["readers"] if one["alive"]]) < readers:
                self._nap(_LOOK_EVERY)
            self._begun = time.monotonic_ns()
            for number, time_ns in self._order(loop):
                self._wait_until(self._due(time_ns, speed))
                self._put(number, time_ns)
                self._side.counters[FRAMES] += 1
        except (_StoppedError, Closed):
            return

    def _order(self, loop: bool) -> Generator[tuple[int, int | None]]:
        """Yield which frame comes next, and with which time: in a loop the times go on."""
        later = 0
        while self._source.frames:
            for number in range(self._source.frames):
                yield number, None if self._times is None else self._times[number] + later
            if not loop:
                return
            later += self._length

    def _due(self, time_ns: int | None, speed: float | None) -> int:
        """Return when a frame is to be put, in nanoseconds of the monotonic clock; 0 is at once."""
        if speed is None or time_ns is None or self._times is None:
            return 0
        return self._begun + round((time_ns - self._times[0]) / speed)

    def _wait_until(self, due: int) -> None:
        # Asked for each frame: one that is late does not wait, and a ring that drops frames has always room.
        if self._side.is_stopped():
            raise _StoppedError
        while (left := (due - time.monotonic_ns()) / 1e9) > 0:
            self._nap(min(left, _LOOK_EVERY))

    def _nap(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._side.is_stopped():
            raise _StoppedError

    def _meta_of(self, number: int) -> dict[str, Any]:
        """Return what goes with a frame: what was recorded, and its number and time of then, as a pipe says them."""
        rows = self._source.rows
        meta = {} if rows is None else {name: int(rows[number][column]) for name, column in self._origins}
        if self._meta is not None:
            meta |= {name: self._meta[number][name] for name in self._fields}
        return meta

    def _put(self, number: int, time_ns: int | None) -> None:
        frame, more = self._source.get(number), dict[str, Any]()
        if meta := self._meta_of(number):
            more["meta"] = meta
        if self._source.notes is not None:
            more["note"] = self._source.note(number)
        if time_ns is not None:
            more["time_ns"] = time_ns
        while True:
            try:
                self._writer.put(frame, timeout=_LOOK_EVERY, **more)
                return
            except Full:
                if self._side.is_stopped():
                    raise _StoppedError from None


def _times_of(rows: NDArray[Any]) -> list[int]:
    """Return the times of frames. Those of several writers may cross; of one, as here, they do not go back."""
    return [int(time_ns) for time_ns in np.maximum.accumulate(rows["time_ns"])]


def main() -> None:
    """Be the process of a replay."""
    side = Side()
    plan = side.plan
    try:
        ring: Ring[Any] = cast("Any", ref(plan["ring"]).open())
        source = open_source(Path(plan["path"]), ring.meta)
        writer: Writer[Any] = cast("Any", ref(plan["writer"]).open())
        with writer:  # it is this process's from now on
            replayer = Replayer(source, ring, writer, side)
            side.say("ready")
            replayer.run(plan["speed"], plan["loop"], plan["readers"])
    except (Error, OSError, ValueError, TypeError) as error:
        side.end(error=str(error))
    except Exception as error:  # whatever it is, who asked is to hear it
        side.end(error=f"{type(error).__name__}: {error}")
    else:
        side.end(error=None)


if __name__ == "__main__":
    main()
    # Nothing is left to do, and a library's threads may take their time.
    os._exit(0)
