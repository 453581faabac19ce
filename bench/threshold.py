"""Where streaming stores begin to pay: `python -m bench.threshold` draws docs/threshold.svg.

For each size an array is copied to another, again and again, by ordinary and by streaming stores in turn, on one
thread. A point is the median, in GB of output a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from math import log2
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import ndshare as nds
from bench.harness import pinned
from bench.machine import facts
from ndshare import _native

KIB, MIB = 1 << 10, 1 << 20
NEVER = 1 << 60
Points = dict[int, float]


def sizes(largest: int) -> Iterator[int]:
    """Return sizes from 32 KiB on, four for each doubling."""
    step = 0
    while (size := round(32 * KIB * 2 ** (step / 4) / KIB) * KIB) <= largest:
        yield size
        step += 1


def speed(out: np.ndarray[Any, Any], source: np.ndarray[Any, Any], stream_from: int) -> float:
    """Copy for some milliseconds and return bytes a second."""
    _native.set_stream_from(stream_from)
    copy = partial(nds.copyto, out, source, workers=1)
    copy()
    times = max(1, 8 * MIB // out.nbytes)
    start = perf_counter()
    for _ in repeat(None, times):
        copy()
    return out.nbytes * times / (perf_counter() - start)


def measure(largest: int, rounds: int) -> tuple[Points, Points]:
    """Return the medians for ordinary and for streaming stores."""
    source, out = nds.full(largest, 7, np.uint8), nds.zeros(largest, np.uint8)
    ordinary: Points = {}
    streaming: Points = {}
    with pinned(0):
        for size in sizes(largest):
            turns = [
                (speed(out[:size], source[:size], NEVER), speed(out[:size], source[:size], 1)) for _ in range(rounds)
            ]
            ordinary[size], streaming[size] = (statistics.median(column) for column in zip(*turns, strict=True))
            print(
                f"{size / MIB:9.3f} MiB {ordinary[size] / 1e9:7.1f} {streaming[size] / 1e9:7.1f} GB/s", file=sys.stderr
            )
    _native.set_stream_from()
    return ordinary, streaming


@dataclass
class Plot:
    """A drawing with sizes along x, on a scale of doublings, and speeds along y."""

    first: int
    last: int
    top: float
    parts: list[str] = field(default_factory=list)

    def x(self, size: float) -> float:
        """Return where a size is."""
        return 60 + 600 * log2(size / self.first) / log2(self.last / self.first)

    def y(self, value: float) -> float:
        """Return where a speed is."""
        return 320 - 280 * value / self.top

    def text(self, x: float, y: float, words: str, anchor: str = "middle", colour: str = "#444") -> None:
        """Write some words."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>')

    def line(self, points: list[tuple[float, float]], colour: str, width: float = 1, dash: str = "none") -> None:
        """Draw a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"'
        self.parts.append(f'<polyline points="{path}" {style}/>')

    def svg(self) -> str:
        """Return the drawing."""
        head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 380" font-family="sans-serif" font-size="12">'
        return "\n".join([head, '<rect width="700" height="380" fill="white"/>', *self.parts, "</svg>", ""])


def axes(plot: Plot) -> None:
    """Draw both scales."""
    size = plot.first
    while size <= plot.last:
        words = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
        plot.line([(plot.x(size), 320), (plot.x(size), 325)], "#444")
        plot.text(plot.x(size), 340, words)
        size *= 4
    step = 20 if plot.top > 60 else 10
    for value in range(0, int(plot.top) + 1, step):
        plot.line([(60, plot.y(value)), (660, plot.y(value))], "#ddd")
        plot.text(52, plot.y(value) + 4, str(value), "end")
    plot.text(60, 30, "GB/s")
    plot.text(360, 360, "bytes of output in one call")


def draw(ordinary: Points, streaming: Points, threshold: int) -> str:
    """Return the plot as SVG."""
    plot = Plot(min(ordinary), max(ordinary), max(*ordinary.values(), *streaming.values()) / 1e9)
    axes(plot)
    for points, colour, words, y in ((ordinary, "#c33", "ordinary", 60), (streaming, "#26c", "streaming", 78)):
        plot.line([(plot.x(size), plot.y(value / 1e9)) for size, value in points.items()], colour, 2)
        plot.text(640, y, words, "end", colour)
    plot.line([(plot.x(threshold), 40), (plot.x(threshold), 320)], "#444", 1, "4 3")
    plot.text(plot.x(threshold) - 6, 50, f"threshold, {threshold // MIB} MiB", "end")
    machine = facts()
    plot.text(360, 376, f"{machine['CPU']}; kernel {machine['kernel']}; {machine['glibc']}")
    return plot.svg()


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=256, metavar="MIB", help="the largest copy")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--svg", type=Path, default=Path(__file__).parent.parent / "docs" / "threshold.svg")
    options = parser.parse_args()
    ordinary, streaming = measure(options.largest * MIB, options.rounds)
    options.svg.write_text(draw(ordinary, streaming, _native.stream_from()))
    print(f"wrote {options.svg}")


if __name__ == "__main__":
    main()
