"""How soon a frame of a steady camera is there, and what the wait for it costs: `python -m bench.pace`.

A camera has one processor, and publishes at the moments of its clock, with jitter or without; a reader has the other
one, and waits. Each way to wait has its turn at each rate. Told are the median and the 99th percentile of how long
after its publication a frame was in the reader's hands, and the part of a processor that the reader took. Each run
checks that every frame came.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import random
import statistics
import time
from multiprocessing.connection import Connection

import ndshare as nds
from bench.harness import cpus
from bench.machine import facts

WAYS: dict[str, float | str | None] = {"spin=0": 0, "as is usual": None, 'spin="auto"': "auto", "always looking": 1000}
RATES = (10, 30, 100, 300, 1000)
MOST_FRAMES = 2000
SETTLED = 16


def camera(writer: nds.Writer, cpu: int, rate: float, jitter: float, frames: int) -> None:
    """Publish frames at the moments of a clock, late by up to `jitter` of a period."""
    os.sched_setaffinity(0, {cpu})
    dice, start = random.Random(1), time.perf_counter() + 0.2
    with writer:
        for number in range(frames):
            moment = start + (number + jitter * dice.random()) / rate
            time.sleep(max(0.0, moment - time.perf_counter() - 0.001))
            while time.perf_counter() < moment:
                pass
            writer.put([number] * 4)


def wait(conn: Connection, reader: nds.Reader, cpu: int) -> None:
    """Take all frames; tell how late each was, and the part of the processor that it took."""
    os.sched_setaffinity(0, {cpu})
    late: list[int] = []
    took = start = 0.0
    for frame in reader:
        late.append(time.monotonic_ns() - frame.published_ns)
        if len(late) == SETTLED:
            took, start = time.thread_time(), time.perf_counter()
    conn.send((late[SETTLED:], (time.thread_time() - took) / (time.perf_counter() - start), len(late)))


def run(spin: float | str | None, rate: float, jitter: float, seconds: float) -> tuple[float, float, float]:
    """Return the median and the 99th percentile of the delays in microseconds, and the part of a processor."""
    frames = min(MOST_FRAMES, max(3 * SETTLED, round(rate * seconds)))
    ring = nds.Ring(4, "i4", slots=64, spin=spin)  # type: ignore[arg-type]
    mine, theirs = mp.Pipe()
    spawn = mp.get_context("spawn")
    taker = spawn.Process(target=wait, args=(theirs, ring.reader(), cpus()[1]))
    maker = spawn.Process(target=camera, args=(ring.writer(), cpus()[0], rate, jitter, frames))
    taker.start()
    maker.start()
    late, share, count = mine.recv()
    maker.join()
    taker.join()
    if count != frames:
        raise AssertionError(f"{count} of {frames} frames came")
    return statistics.median(late) / 1000, statistics.quantiles(late, n=100)[-1] / 1000, share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.pace", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="about so long for each run")
    parser.add_argument("--jitter", type=float, action="append", help="as a part of the period; 0 and 0.05 by default")
    parser.add_argument("--rate", type=float, action="append", help="frames per second")
    options = parser.parse_args()
    print(facts()["CPU"])
    print(f"{'rate':>6} {'jitter':>7}  {'way':16} {'median us':>10} {'p99 us':>10} {'processor':>10}")
    for rate in options.rate or RATES:
        for jitter in options.jitter or (0.0, 0.05):
            for way, spin in WAYS.items():
                median, most, share = run(spin, rate, jitter, options.seconds)
                print(f"{rate:6g} {jitter:7.0%}  {way:16} {median:10.1f} {most:10.1f} {share:10.2%}", flush=True)


if __name__ == "__main__":
    main()
