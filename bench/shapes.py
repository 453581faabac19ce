"""Random planes: `python -m bench.shapes [--count 200] [--threads 1] [--work rfft2-uint16]`.

Sides are 64 to 4096 without a prime factor beyond 17; their logarithms are even, so small planes count as much as
large ones. Contestants take turns, each in a process of its own for ten shapes. Printed are the ratios of the best
peer's time to ours, warm and cold: the lowest ones with their shapes, and the median.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.alone import CONTESTANTS, OTHER, WORKS, Task, as_measured, check, cold, make, warm
from bench.machine import facts

PEERS = ["mkl_fft", "ducc0", "OpenCV", "SciPy"]  # FFTW would plan for an hour
LEAST, MOST, LARGEST_PRIME = 64, 4096, 17
SHAPES_OF_PROCESS = 10
WORST_SHOWN = 12

Shape = tuple[int, int]
Figures = dict[str, float]


def is_smooth(length: int) -> bool:
    """Say whether a length has no large prime factor."""
    for factor in range(2, LARGEST_PRIME + 1):
        while length % factor == 0:
            length //= factor
    return length == 1


def shapes(count: int, seed: int) -> list[Shape]:
    """Return random shapes, always the same ones for a seed."""
    sides, dice = [side for side in range(LEAST, MOST + 1) if is_smooth(side)], random.Random(seed)

    def side() -> int:
        wanted = LEAST * (MOST / LEAST) ** dice.random()
        return min(sides, key=lambda side: abs(side - wanted))

    return [(side(), side()) for _ in range(count)]


def one(contestant: str, task: Task, other: np.ndarray) -> Figures:
    """Return the figures of a contestant for one shape."""
    kind = CONTESTANTS[contestant]
    way = make(kind, task, kind.input(task))[0]
    figures = {"warm": warm(way.whole), "cold": cold(way.whole, other)}
    check(way, way.whole(), task.expected())
    return figures


def serve(contestant: str, work: str, threads: int, asked: list[Shape]) -> None:
    """Print the figures of some shapes, one line each, from a process that does nothing else."""
    as_measured(threads)
    for module in CONTESTANTS[contestant].modules:
        importlib.import_module(module)
    call, dtype, given, stack = WORKS[work]
    other = np.ones(OTHER // 8)
    for shape in asked:
        print(json.dumps(one(contestant, Task(call, dtype, given, (*stack, *shape), threads), other)), flush=True)


def figures(contestant: str, work: str, threads: int, asked: list[Shape]) -> list[Figures]:
    """Return the figures of some shapes by another process."""
    words = [json.dumps(asked), "--of", contestant, "--work", work, "--threads", str(threads)]
    command = [sys.executable, "-m", "bench.shapes", "--shapes", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    return [json.loads(line) for line in done.stdout.splitlines()]


def report(state: str, asked: list[Shape], told: dict[str, list[Figures]]) -> str:
    """Return what a state's figures say."""

    def ratio(place: int) -> tuple[float, str]:
        peer = min(PEERS, key=lambda name: told[name][place][state])
        return told[peer][place][state] / told["ndshare"][place][state], peer

    ratios = [(*ratio(place), shape) for place, shape in enumerate(asked)]
    ordered = sorted(ratios)
    lines = [f"{value:.2f} of {peer} at {shape[0]} x {shape[1]}" for value, peer, shape in ordered[:WORST_SHOWN]]
    below = sum(value < 0.8 for value, *_ in ratios)
    head = f"{state}: median {median(value for value, *_ in ratios):.2f}, {below} of {len(ratios)} below 0.8; lowest:"
    return "\n  ".join([head, *lines])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.shapes", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many shapes")
    parser.add_argument("--seed", type=int, default=1, help="which shapes")
    parser.add_argument("--work", choices=[name for name in WORKS if WORKS[name][0] != "fft"], default="rfft2-uint16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--of", help=argparse.SUPPRESS)
    parser.add_argument("--shapes", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of:
        return serve(options.of, options.work, options.threads, [(rows, cols) for rows, cols in options.shapes])
    asked = shapes(options.count, options.seed)
    told: dict[str, list[Figures]] = {name: [] for name in ["ndshare", *PEERS]}
    for first in track(range(0, len(asked), SHAPES_OF_PROCESS), "shapes", console=Console(stderr=True)):
        for name in told:
            told[name] += figures(name, options.work, options.threads, asked[first : first + SHAPES_OF_PROCESS])
    machine = facts()
    print(f"{options.work}, {options.threads} thread(s), {machine['CPU']}")
    print("\n".join(report(state, asked, told) for state in ("warm", "cold")))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "shapes": asked, "figures": told}))
    return None


if __name__ == "__main__":
    main()
