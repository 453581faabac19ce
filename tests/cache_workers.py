"""What the other processes of the tests of caches and canvases do. Each ends by itself, whatever happens to its parent."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

import ndshare as nds
from ring_workers import end_by_itself

# ---- canvases -------------------------------------------------------------------------------------------------------


def view(array: Any, stop: Any, conn: Any) -> None:
    """Look at a canvas under its lock until told to stop; tell how often, and how often two numbers were there."""
    end_by_itself()
    looks = halves = 0
    conn.send("ready")
    while not stop[0]:
        with nds.locked(array):
            halves += bool((array != array[0, 0]).any())
        looks += 1
        time.sleep(0)
    conn.send((looks, halves))
    conn.close()


def fill_reversed(canvas: Any, values: list[Any]) -> None:
    end_by_itself()
    nds.concatenate(values[::-1], axis=1, out=canvas)


class Deadly:
    """An array whose reading ends the process."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def fill_and_be_killed(canvas: Any, values: list[Any]) -> None:
    """Die under the lock of a canvas."""
    end_by_itself()
    nds.concatenate([*values[:1], Deadly()], axis=1, out=canvas)
