"""What a frame of several arrays costs beside a plain one of the same bytes: `python -m bench.fields`.

A tree of three arrays, two of them a level down, is put and got in one process, and each of its arrays is looked at, by
name, as a tree, or as dataclasses; so is a plain frame. The arrays are small and large; with and without a note; in one
case they have another length in each frame. Medians of rounds that take turns.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import clock
from bench.machine import facts

ROUNDS, TIMES = 41, 2000
SIZES = {"3 KiB": 1024, "3 MiB": 1 << 20}
NOTES: dict[str, Any] = {"no note": None, "a text of 100 bytes": "n" * 100, "a text of 10 KB": "n" * 10_000}


@dataclass
class Cam:
    """What is a level down."""

    rgb: Any
    depth: Any


@dataclass
class Shot:
    """The whole."""

    cam: Cam
    sound: Any


def trees(size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a tree of three arrays of so many bytes each, and such a tree."""
    fields: dict[str, Any] = {"cam": {"rgb": (size, "u1"), "depth": (size // 2, "u2")}, "sound": (size // 4, "f4")}
    cam = {"rgb": np.ones(size, "u1"), "depth": np.ones(size // 2, "u2")}
    return fields, {"cam": cam, "sound": np.ones(size // 4, "f4")}


def plain(size: int, note: Any) -> Callable[[], None]:
    """Return a round trip of a plain frame of as many bytes."""
    ring, x = nds.Ring(3 * size, "u1", slots=4), np.ones(3 * size, "u1")
    frames = ring.reader()

    def trip() -> None:
        ring.put(x, note=note)
        frames.get()

    return trip


def tree(size: int, note: Any, with_fields: bool, how: str) -> Callable[[], None]:
    """Return a round trip of a tree; `how` says what is done with the frame that arrives."""
    fields, x = trees(size)
    ring: Any = nds.Ring(fields=fields, slots=4) if with_fields else nds.Ring(slots=4)
    frames = ring.reader()

    def trip() -> None:
        ring.put(x, note=note)
        frame = frames.get()
        if how == "tree":
            frame.tree()
        elif how == "class":
            frame.tree(Shot)
        elif how == "fields":
            cam = frame["cam"]
            _ = cam["rgb"], cam["depth"], frame["sound"]

    return trip


def varying(size: int, note: Any) -> Callable[[], None]:
    """Return a round trip of trees whose arrays get longer from frame to frame, so that each says anew what it is."""
    ring = nds.Ring(slots=4)
    frames = ring.reader()
    put = cycle([trees(size - 4 * less)[1] for less in range(200)])

    def trip() -> None:
        ring.put(next(put), note=note)
        frames.get().tree()

    return trip


def measure(trips: dict[str, Callable[[], None]], times: int) -> dict[str, float]:
    """Return the median of each in seconds; they take turns."""
    took: dict[str, list[float]] = {label: [] for label in trips}
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for label, trip in trips.items():
            took[label].append(clock(trip, times))
    gc.enable()
    return {label: statistics.median(seconds[1:]) for label, seconds in took.items()}


def main() -> None:
    """Measure, and print."""
    print(facts())
    for name, size in SIZES.items():
        for told, note in NOTES.items():
            trips = {
                "a plain frame": plain(size, note),
                "fields, put and get": tree(size, note, True, "none"),
                "fields, each array looked at": tree(size, note, True, "fields"),
                "fields, tree()": tree(size, note, True, "tree"),
                "fields, tree(Shot), two dataclasses": tree(size, note, True, "class"),
                "a tree in a ring of any frames": tree(size, note, False, "none"),
                "a tree in a ring of any frames, tree()": tree(size, note, False, "tree"),
            }
            if size == min(SIZES.values()):
                trips["trees of another layout each, tree()"] = varying(size, note)
            found = measure(trips, max(20, TIMES * 1024 // size))
            for label, seconds in found.items():
                more = 1e6 * (seconds - found["a plain frame"])
                print(f"{name:6} {told:20} {label:40} {1e6 * seconds:8.2f} µs {more:+8.2f}")


if __name__ == "__main__":
    main()
