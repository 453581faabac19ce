"""Recorded files into rings, by a process of their own: `replay` plans, `_replayer` does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypedDict

from ._errors import RecordError
from ._native import Ring
from ._ref import ref
from ._replayer import FRAMES
from ._sources import Source, open_source
from ._task import Stopping, Task


class ReplayStats(TypedDict):
    """What a replay has done so far."""

    frames: int
    of: int


class Replay(Stopping):
    """A recording that is replayed by a process of its own, made by `ndshare.replay`; `ring` has its frames.

    It goes on until the end of the file, `stop`, the end of its ``with`` block or of this process.

    >>> import ndshare as nds, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nds.save(f"{folder}/a.npy", np.arange(6, dtype="u1").reshape(3, 2))
    ...     with nds.replay(f"{folder}/a.npy", speed=None) as replay:
    ...         [frame.tolist() for frame in replay.ring.reader()]
    [[0, 1], [2, 3], [4, 5]]
    """

    def __init__(self, path: Path, ring: Ring[Any], frames: int, task: Task) -> None:
        self.path = path
        self.ring = ring
        self._frames, self._task = frames, task

    @property
    def pid(self) -> int:
        """The number of the process that replays.

        >>> import ndshare as nds, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nds.save(f"{folder}/a.npy", np.zeros((3, 2)))
        ...     replay = nds.replay(f"{folder}/a.npy", nds.Ring(2, slots=4), speed=None)
        ...     replay.wait()["frames"], replay.pid > 0
        (3, True)
        """
        return self._task.pid

    def stats(self) -> ReplayStats:
        """Return how many frames were put into the ring, and how many the file has.

        >>> import ndshare as nds, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nds.save(f"{folder}/a.npy", np.zeros((3, 2)))
        ...     replay = nds.replay(f"{folder}/a.npy", nds.Ring(2, slots=4), speed=None)
        ...     replay.stats()["of"], replay.stop()["of"]
        (3, 3)
        """
        return {"frames": int(self._task.counters[FRAMES]), "of": self._frames}

    def stop(self, timeout: float | None = None) -> ReplayStats:
        """End it, and return what was done; later, do nothing. Raises as `wait` does.

        >>> import ndshare as nds, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nds.save(f"{folder}/a.npy", np.zeros((3, 2)))
        ...     replay = nds.replay(f"{folder}/a.npy", nds.Ring(2, slots=4), speed=None)
        ...     replay.stop()["of"]
        3
        """
        self._task.stop()
        return self.wait(timeout)

    def wait(self, timeout: float | None = None) -> ReplayStats:
        """Wait for its end, and return what was done. Raises RecordError if it failed, Timeout if it goes on.

        >>> import ndshare as nds, numpy as np, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nds.save(f"{folder}/a.npy", np.zeros((3, 2)))
        ...     replay = nds.replay(f"{folder}/a.npy", nds.Ring(2, slots=4), speed=None)
        ...     replay.wait(timeout=30)
        {'frames': 3, 'of': 3}
        """
        outcome = self._task.outcome(timeout, f"{self!r}")
        if not outcome or outcome["error"]:
            reason = outcome.get("error") or self._task.how_it_died()
            raise RecordError(f"replay of {self.path} ended: {reason}", self.stats()["frames"])
        return self.stats()

    def __repr__(self) -> str:
        return f"<Replay of {self.path}, process {self.pid}>"


def replay(
    path: str | os.PathLike[str],
    ring: Ring[Any] | None = None,
    *,
    speed: float | None = 1.0,
    loop: bool = False,
    slots: int = 32,
    readers: int | None = None,
) -> Replay:
    """Put the frames of a recording into a ring, in a process of its own, and return at once.

    It is a writer of the ring, and ends the stream as one. Without a `ring` it makes one with so many `slots`, which
    waits for its readers, and begins as soon as there is one. `readers` says for how many it waits: 1 for its own ring,
    and 0 for yours.

    Frames come as they came once, by the table beside the file; at twice that with ``speed=2``, and as fast as the ring
    takes them with ``speed=None``. Each has the `time_ns` that was recorded. With `loop` it begins anew at the end, and
    the times of each further pass are later by one more length of the recording, so they never go back. Meta comes
    along, in the fields that the ring has. Every file in one of the formats of `record` will do; one without a table
    has no times, and needs ``speed=None``.

    Raises FileNotFoundError; ValueError where the file is none, is damaged, or has no times; RecordError where a field
    of meta has other parts in the ring than in the recording; ImportError for a package.

    >>> import ndshare as nds, numpy as np, tempfile
    >>> ring = nds.Ring(2, "u1", slots=4)
    >>> frames = ring.reader()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nds.save(f"{folder}/a.npy", np.arange(6, dtype="u1").reshape(3, 2))
    ...     nds.replay(f"{folder}/a.npy", ring, speed=None).wait()
    {'frames': 3, 'of': 3}
    >>> len(list(frames))
    3
    """
    target = Path(os.path.abspath(path))
    source = open_source(target)
    source.close()  # what its frames are is known now, and the process that replays opens it anew
    if speed is not None and not speed > 0:
        raise ValueError(f"expected a speed above 0, or None for as fast as it goes, got {speed!r}")
    if speed is not None and source.rows is None:
        raise ValueError(f"expected a table of times beside {target}, got none: pass speed=None for as fast as it goes")
    mine = ring_for(source, slots) if ring is None else ring
    wanted = int(ring is None) if readers is None else readers
    # Made here, so that whoever reads knows of it from now on.
    writer = mine.writer()
    task = Task(
        "ndshare._replayer",
        {
            "path": str(target),
            "ring": str(ref(mine)),
            "writer": str(reference := ref(writer)),
            "speed": speed,
            "loop": loop,
            "readers": wanted,
        },
    )
    replaying = Replay(target, mine, source.frames, task)
    if not task.expect("ready"):
        replaying.wait()
    del reference, writer
    return replaying


def ring_for(source: Source, slots: int, **where: Any) -> Ring[Any]:
    """Make a ring for the frames of a file and their meta; or find it, if `where` names one that is the same."""
    meta = source.meta
    return Ring(source.shape, source.dtype, slots=slots, meta=None if meta is None else meta.dtype, **where)


replay.__module__ = Replay.__module__ = ReplayStats.__module__ = "ndshare"
