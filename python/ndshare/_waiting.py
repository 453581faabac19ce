"""How waits that are written in Python answer Ctrl-C, whenever it comes.

Python handles a signal in the main thread, between two steps of its own. A signal that comes just before a call goes to
sleep, or to another thread, wakes nobody. So no call sleeps for longer than `LOOK_EVERY`; then Python looks.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import IO, Any

LOOK_EVERY = 0.05  # seconds between two looks for signals


def slices(timeout: float | None) -> Iterator[float]:
    """Go through how long to sleep, again and again, until a timeout in seconds is over; at least once."""
    end = float("inf") if timeout is None else time.monotonic() + timeout
    left = end - time.monotonic()
    yield max(0.0, min(LOOK_EVERY, left))
    while (left := end - time.monotonic()) > 0:
        yield min(LOOK_EVERY, left)


def is_readable(file: IO[Any], timeout: float) -> bool:
    """Wait until a pipe has something to read, or its end, and tell whether it has."""
    return any(select.select([file], [], [], seconds)[0] for seconds in slices(timeout))
