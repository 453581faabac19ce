"""What a set of frames costs, and a look at the newest frame: `python -m bench.join` prints the figures of docs.

The frames are published beforehand, outside of the clock: what is measured is one `get` of a join of three cameras, as
the median of rounds, without a wait. Beside it are three `get`s of the readers alone, which a program without `join`
would call.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter

import ndshare as nds
from bench.harness import pinned
from bench.machine import facts

CAMERAS = 3
SETS = 200
PERIOD_NS = 10_000_000


def publish(rings: list[nds.Ring]) -> None:
    """Publish frames for all sets, a millisecond after each other."""
    for number in range(SETS):
        for late, ring in enumerate(rings):
            ring.put([0] * 4, time_ns=(number * PERIOD_NS) + late * 1_000_000)


def rig() -> list[nds.Ring]:
    """Return the cameras' rings, with room for all frames."""
    return [nds.Ring(4, "u1", slots=SETS) for _ in range(CAMERAS)]


def of_join(apart: float) -> float:
    """Return the seconds of one set."""
    rings = rig()
    with nds.join([ring.reader() for ring in rings], apart=apart) as sets:
        publish(rings)
        for ring in rings:
            ring.close()
        start = perf_counter()
        count = sum(one.complete for one in sets)
        took = perf_counter() - start
    assert count == SETS, f"{count} of {SETS} sets were complete"
    return took / SETS


def of_gets() -> float:
    """Return the seconds of a frame of each reader."""
    rings = rig()
    readers = [ring.reader() for ring in rings]
    publish(rings)
    start = perf_counter()
    for _ in range(SETS):
        for reader in readers:
            reader.get()
    return (perf_counter() - start) / SETS


def of_newest() -> float:
    """Return the seconds of a look at the newest frame."""
    ring = nds.Ring(4, "u1", slots=4)
    with ring.reader(latest=True) as frames:
        ring.put([0] * 4)
        start = perf_counter()
        for _ in range(SETS):
            frames.newest(max_age=60)
        return (perf_counter() - start) / SETS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    rounds = parser.parse_args().rounds
    contestants: dict[str, Callable[[], float]] = {
        "join, 3 cameras, apart=0.01": lambda: of_join(0.01),
        "join, 3 cameras": lambda: of_join(0.0),
        "get of 3 readers": of_gets,
        "newest": of_newest,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with pinned(0):
        for _ in range(rounds):
            for name, contestant in contestants.items():
                times[name].append(contestant() * 1e6)
    print("\n".join(f"{name}: {value}" for name, value in facts().items()))
    for name, found in times.items():
        print(f"{name:32} {statistics.median(found):7.2f} µs  (least {min(found):.2f}, most {max(found):.2f})")


if __name__ == "__main__":
    main()
