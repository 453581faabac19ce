"""Transforms of frames: ours beside MKL, ducc0, OpenCV, pyFFTW, SciPy, zaft, oxifft and NumPy.

Those take part that are installed, on one thread and on two. Each contestant runs in a process of its own
(`bench.alone`), one at a time, by turns. One process serves several rows: calls back to back, the second call after
other data were read (`-cold`), and the first call (`fft-first`). The work is the whole work: where a peer does not
read 16-bit frames, it converts them. What it takes with `float32` that was converted outside the clock stands there
for context. pyFFTW's plan is the best of three that it measured.

`python -m bench.fft` draws docs/fft.svg.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from math import log2
from pathlib import Path
from statistics import median

from bench.alone import CONTESTANTS, COPY, GIVEN, WORKS
from bench.harness import BENCHES, Contestants, Target, bench, run
from bench.machine import facts
from bench.threshold import Plot

Task = tuple[str, int, int, int]  # work, rows, columns, threads
SHAPES = [(1024, 2048), (1080, 1920), (1088, 2048), (1200, 1600)]
ROUNDS = 5  # each is a process
PEERS = ["mkl_fft", "ducc0", "OpenCV", "pyFFTW", "SciPy", "zaft", "oxifft"]
SIDES, OF_SIDES = (64, 256, 1024, 2048), ["mkl_fft", "ducc0", "SciPy", "zaft", "oxifft", COPY]
ROOT = Path(__file__).parent.parent


class Processes:
    """One contestant of one task. A process tells all its figures, and each row takes one of each process."""

    def __init__(self, contestant: str, task: Task) -> None:
        words = [contestant, *map(str, task)]
        self.command = [sys.executable, "-m", "bench.alone", *words, str(Path(_folder().name, "-".join(words)))]
        self.told: list[dict[str, float]] = []
        self.taken: Counter[str] = Counter()

    def figure(self, name: str) -> float:
        """Return a figure of the next process that this row has not asked."""
        place = self.taken[name]
        self.taken[name] += 1
        if place == len(self.told):
            # What a later process does not tell stays: pyFFTW plans in the first one only.
            self.told.append((self.told[-1] if self.told else {}) | self._run())
        return self.told[place][name]

    def _run(self) -> dict[str, float]:
        done = subprocess.run(self.command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        return json.loads(done.stdout)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return the folder, of this run alone, in which plans that took long are kept."""
    return tempfile.TemporaryDirectory()


processes = cache(Processes)


def contestants(task: Task, peers: list[str], figure: str) -> Contestants:
    """Return ours and the peers, and after them those peers again that convert, without the conversion."""
    peers = [name for name in peers if takes_part(name, task)]
    made: Contestants = {name: partial(processes(name, task).figure, figure) for name in ["ndshare", *peers]}
    _, dtype, given, _ = WORKS[task[0]]
    if dtype != given and figure != "first":
        for name in filter(converts, peers):
            made[name + GIVEN] = partial(processes(name, task).figure, figure + GIVEN)
    return made


def takes_part(name: str, task: Task) -> bool:
    """Say whether a contestant is installed, and can do a task."""
    kind = CONTESTANTS[name]
    can = (kind.works is None or task[0] in kind.works) and (kind.most_threads or task[3]) >= task[3]
    return can and kind.is_there()


def converts(name: str) -> bool:
    """Say whether a contestant converts 16-bit frames before it transforms them."""
    return CONTESTANTS[name].converts


def _register(name: str, words: str, task: Task, value: float | None, peers: list[str] = PEERS) -> None:
    """Register a row for calls back to back, and one for calls that find other data in the caches."""
    threads = f"{task[3]} thread{'s' * (task[3] > 1)}"
    target = None if value is None else Target("faster", value)
    for end, figure in (("", "warm"), ("-cold", "cold")):

        @bench(
            f"fft-{name}{end}",
            f"{words}, {threads}, {figure}",
            target=target,
            rounds=ROUNDS,
            best=True,
            context=GIVEN,
            alone=True,
        )
        def prepare(figure: str = figure) -> Iterator[Contestants]:
            yield contestants(task, peers, figure)


for _rows, _cols in SHAPES:
    for _threads in (1, 2):
        _words = f"rfft2 of {_rows} x {_cols} uint16 to complex64"
        _peers = [*PEERS, *["NumPy"] * (_threads == 1)]
        _register(f"{_rows}x{_cols}-{_threads}", _words, ("rfft2-uint16", _rows, _cols, _threads), 1.15, _peers)

_FRAME = (1080, 1920, 1)
_register("double", "rfft2 of 1080 x 1920 float64 to complex128", ("rfft2-float64", *_FRAME), 1.15)
_register("complex", "fft2 of 1080 x 1920 complex64", ("fft2-complex64", *_FRAME), 1.15)
_register("complex-double", "fft2 of 1080 x 1920 complex128", ("fft2-complex128", *_FRAME), 1.15)
_register("convolve", "a 1080 x 1920 uint16 frame times a filter", ("convolve-uint16", *_FRAME), 1.6)


def _register_one(name: str, words: str, peers: list[str], figure: str, value: float) -> None:
    """Register a row against the first of some peers, with a 1080 x 1920 uint16 frame and one thread."""

    @bench(f"fft-{name}", words, target=Target("faster", value), rounds=ROUNDS, alone=True)
    def prepare() -> Iterator[Contestants]:
        yield contestants(("rfft2-uint16", *_FRAME), peers, figure)


_SAME = "rfft2 of the same 1080 x 1920 uint16 frame, 1 thread, warm"
_register_one("numpy", _SAME, ["np.fft.rfft2"], "warm", 4)
_register_one("scipy", _SAME, ["scipy.fft.rfft2"], "warm", 2)
_register_one(
    "first",
    "first rfft2 of a process, 1080 x 1920, planning included",
    ["pyFFTW", *[name for name in PEERS if name != "pyFFTW"]],
    "first",
    20,
)

_register("stack", "rfft2 of 32 planes of 256 x 256 uint16 to complex64", ("rfft2-stack", 256, 256, 1), None)
for _side in (64, 512):
    _words = f"rfft2 of {_side} x {_side} uint16 to complex64"
    _register(f"{_side}x{_side}", _words, ("rfft2-uint16", _side, _side, 1), None)
for _power in (10, 16, 20):
    _register(f"line-{_power}", f"fft of 2^{_power} complex64", ("fft-complex64", 1, 1 << _power, 1), None)


def _register_side(side: int) -> None:
    """Register a point of the plot over sizes."""
    words = f"rfft2 of {side} x {side} uint16 to complex64, 1 thread, by size"
    task = ("rfft2-uint16", side, side, 1)

    @bench(f"size-fft-{side}", words, rounds=ROUNDS, alone=True, series="fft", x=2 * side * side, limit=COPY)
    def prepare() -> Iterator[Contestants]:
        made = contestants(task, OF_SIDES, "warm")
        yield {name: go for name, go in made.items() if not name.endswith(GIVEN)}


for _side in SIDES:
    _register_side(_side)


# ---- the plot -------------------------------------------------------------------------------------------------------

COLOURS = {
    "ndshare": "#d22",
    "OpenCV": "#26c",
    "ducc0": "#282",
    "mkl_fft": "#c60",
    "pyFFTW": "#808",
    "SciPy": "#088",
    "zaft": "#b58",
    "oxifft": "#863",
    "NumPy": "#666",
}


@cache
def flops(shape: tuple[int, int]) -> float:
    """Return how many operations a real transform is said to have."""
    points = shape[0] * shape[1]
    return 2.5 * points * log2(points)


def draw(speeds: dict[str, list[float]]) -> str:
    """Return the plot as SVG."""
    plot = Plot(1, 8, max(map(max, speeds.values())) * 1.05)

    def x(place: int) -> float:
        return 120 + 135 * place

    step = next(step for step in (1, 2, 5, 10, 20, 50) if plot.top / step <= 8)
    for value in range(0, int(plot.top) + 1, step):
        plot.line([(60, plot.y(value)), (600, plot.y(value))], "#ddd")
        plot.text(52, plot.y(value) + 4, str(value), "end")
    plot.text(60, 30, "GFLOP/s", "start")
    for place, (rows, cols) in enumerate(SHAPES):
        plot.text(x(place), 340, f"{rows} x {cols}")
    labels = sorted(speeds, key=lambda name: -speeds[name][-1])
    below = 0.0
    for name in labels:
        points = [(x(place), plot.y(speed)) for place, speed in enumerate(speeds[name])]
        plot.line(points, COLOURS[name], 2)
        below = max(points[-1][1] + 4, below + 13)
        plot.text(x(3) + 10, below, name, "start", COLOURS[name])
    machine = facts()
    plot.text(350, 360, "rfft2 of a uint16 frame to complex64, one thread, warm, conversion included")
    plot.text(350, 376, f"{machine['CPU']}; kernel {machine['kernel']}; {machine['glibc']}")
    return plot.svg()


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="do this share of the rounds")
    parser.add_argument("--svg", type=Path, default=Path(__file__).parent.parent / "docs" / "fft.svg")
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {}
    for shape in SHAPES:
        result = run(BENCHES[f"fft-{shape[0]}x{shape[1]}-1"], options.share)
        for name, times in result.times.items():
            if name in COLOURS:
                speeds.setdefault(name, []).append(flops(shape) / median(times) / 1e9)
    options.svg.write_text(draw(speeds))
    print(f"wrote {options.svg}")


if __name__ == "__main__":
    main()
