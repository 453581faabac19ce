"""Frames from before a recording, on their way to the process that records.

That process takes its time to start, and a reader that stands still meanwhile loses them. So who asks takes them at
once, and goes on reading until the process is there: then it gets the frames by reference, and a reader of its own that
goes on behind them. A frame that is held stays where it is, and the ring takes another block in its place.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import Closed, Empty, WriterDied
from ._native import Reader, Ring
from ._ref import Ref, ref
from ._sinks._notes import told_of

# So long (seconds) it waits for a frame before it looks whether it is to stop.
_NAP = 0.005
# So many are held, and so many bytes, if that is more than the ring has slots.
_MOST, _MOST_BYTES = 4096, 64 << 20


class Holding:
    """What is held by who asks: frames from number `first` on, taken by a thread until `end` or `drop`."""

    def __init__(self, ring: Ring[Any], before: int) -> None:
        self._ring = ring
        self.written = ring.stats()["written"]
        self.first = max(0, self.written - before)
        self._reader: Reader[Any] = ring.reader(start="oldest")
        self._frames: list[Any] = []
        self._nbytes = 0  # of all frames that are held, which may differ in size
        self._is_over = False
        self._death: WriterDied | None = None
        self._take()
        self.before = sum(frame.seq < self.written for frame in self._frames)
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._is_over:
            if not self._has_room() or self._take_one(_NAP) is None:
                time.sleep(_NAP)

    def _take(self) -> None:
        while self._has_room() and self._take_one(0) is not None:
            pass

    def _has_room(self) -> bool:
        """Tell whether one more may be held: at most as many as the ring has slots, or some more of small ones."""
        held = len(self._frames)
        return held < self._ring.slots or (held < _MOST and self._nbytes < _MOST_BYTES)

    def _take_one(self, timeout: float) -> int | None:
        """Take a frame, and return its number; None if there is none, and after a death, which ends a recording."""
        if self._death is not None:
            return None
        try:
            frame = self._reader.get(timeout=timeout)
        except (Empty, Closed):  # who reads next is told so as well
            return None
        except WriterDied as death:  # of this nobody else hears who begins to read later
            self._death = death
            return None
        if frame.seq >= self.first:
            self._frames.append(frame)
            self._nbytes += frame.nbytes
        return int(frame.seq)

    def end(self) -> Reader[Any]:
        """Hold what was published by now, and return a reader that nobody has used, which goes on from here."""
        reader, written = self._ring.reader(), self._ring.stats()["written"]
        self._stop()
        while (number := self._take_one(0)) is not None and number + 1 < written:
            pass
        self._reader.close()
        return reader

    def _stop(self) -> None:
        self._is_over = True
        self._thread.join()

    def drop(self) -> None:
        """Let go of all."""
        self._stop()
        self._reader.close()
        self._frames.clear()

    @property
    def death(self) -> dict[str, Any] | None:
        """What the other process is told of the death that was heard of, if one was."""
        return None if self._death is None else {"text": str(self._death), "pid": self._death.pid}

    def told(self) -> tuple[list[dict[str, Any]], list[Ref[Any]]]:
        """Return what the other process is told of each frame, and what is to be kept until it has them."""
        refs = [ref(frame) for frame in self._frames]
        return [_told(frame, str(one)) for frame, one in zip(self._frames, refs, strict=True)], refs


def _told(frame: Any, reference: str) -> dict[str, Any]:
    meta = None if frame.meta is None else frame.meta.tobytes().hex()
    return {"ref": reference, "seq": frame.seq, "time_ns": frame.time_ns, "meta": meta, "said": told_of(frame)}


class Held:
    """A frame that another process has held: as much of it as a recording needs."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._array: NDArray[Any] = ref(told["ref"]).open()
        self.seq, self.time_ns, self._said = int(told["seq"]), int(told["time_ns"]), told["said"]
        self.meta = None if told["meta"] is None else np.frombuffer(bytes.fromhex(told["meta"]), np.uint8)
        self.shape, self.dtype, self.nbytes = self._array.shape, self._array.dtype, self._array.nbytes

    def view(self, kind: type[NDArray[Any]]) -> NDArray[Any]:
        """Return its items."""
        return self._array.view(kind)

    @property
    def note(self) -> Any:
        """Its note. Raises ValueError where that is not readable."""
        if "unreadable" in self._said:
            raise ValueError(self._said["unreadable"])
        return base64.b64decode(self._said["base64"]) if "base64" in self._said else self._said.get("note")


def held_of(told: list[dict[str, Any]]) -> deque[Held]:
    """Return the frames that another process has told of."""
    return deque(map(Held, told))


def death_of(told: dict[str, Any] | None) -> WriterDied | None:
    """Return the death that another process has told of."""
    if told is None:
        return None
    death = WriterDied(told["text"])
    death.pid = told["pid"]
    return death
