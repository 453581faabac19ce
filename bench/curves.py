"""The plots of the page of benchmarks: which rows are lines of which plot, and what is said of each.

A series over size has a row for each point, and a line for each contestant. A row that shows how a cost grows has a
contestant for each point, which is named after its number: "10,000 entries". Both become `Line`s, and are drawn alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.kept import Row
from bench.report import seconds

NUMBER = re.compile(r"\d[\d,]*")


@dataclass
class Line:
    """Points of one contestant: a number, and the seconds at it."""

    label: str
    is_ours: bool
    is_limit: bool
    points: dict[int, float] = field(default_factory=dict[int, float])


@dataclass(frozen=True)
class Curve:
    """A plot: its file's name, title, what stands along x, whether that is bytes, and a sentence that says why.

    `rows` are the rows of it that have a contestant for each point, with what their line is called.
    """

    name: str
    title: str
    along: str
    why: str
    is_bytes: bool = False
    rows: tuple[tuple[str, str], ...] = ()


SIZES = (
    Curve(
        "frames",
        "A frame that is copied in, from process to process",
        "bytes of a frame",
        "Small frames cost a hand-over, large ones their copy. What goes by value is copied twice more, and "
        "through the kernel.",
        True,
    ),
    Curve(
        "copy",
        "A copy on one thread",
        "bytes that are copied",
        "Beyond the second-level cache a copy takes as long as memory does; from a threshold on ours goes "
        "past the cache.",
        True,
    ),
    Curve(
        "montage",
        "100 images side by side, one thread",
        "bytes of an image",
        "Small images cost their planning. Large ones cost the memory, past the cache where the result is "
        "larger than it.",
        True,
    ),
    Curve(
        "first",
        "Allocating and filling, the first time",
        "bytes of the array",
        "The kernel clears each page and maps it. From 2 MiB on ours are large pages, so there are 512 times "
        "fewer of them.",
        True,
    ),
    Curve(
        "fft",
        "rfft2 of a square uint16 frame to complex64, one thread",
        "bytes of the frame",
        "All grow a little faster than the frame. A plane that the second-level cache holds costs arithmetic alone.",
        True,
    ),
)

GROWTH = (
    Curve(
        "growth-array",
        "An array to another process and back through a pipe",
        "bytes of the array",
        "A message says where the array is, so 4 GiB take as long as 1 KiB; by value all bytes go through the "
        "kernel twice.",
        True,
        (("growth-array", "ndshare"),),
    ),
    Curve(
        "growth-blocks",
        "Making and dropping an array beside others",
        "blocks in the arena",
        "Free blocks are found by their size class, not by a search; what others there are is not looked at.",
        rows=(("growth-small", "1 KiB"), ("growth-large", "1 MiB")),
    ),
    Curve(
        "growth-attach",
        "Joining an arena in a new process",
        "blocks in the arena",
        "Whoever joins takes a place and maps the memory; a block is looked at when it is used.",
        rows=(("growth-attach", "for an array"), ("growth-ring-attach", "for a ring and a frame")),
    ),
    Curve(
        "growth-cache",
        "A value of a cache, keys at random",
        "entries in the cache",
        "The steps stay as many. What grows is the time in which the CPU finds words that its caches do not "
        "hold: tables of "
        "100,000 entries are 45 MB. A dict grows by the same cause.",
        rows=(("growth-hit", "a hit"), ("growth-store", "a store that evicts")),
    ),
    Curve(
        "growth-readers",
        "A frame into a ring with many readers",
        "readers",
        "A writer looks at the place of each reader, some dozen nanoseconds for one; that they are processes "
        "adds nothing.",
        rows=(("growth-ring-readers", "in one process"), ("growth-ring-processes", "a process each, and a get")),
    ),
    Curve(
        "growth-slots",
        "A frame into a ring of many slots",
        "slots",
        "The frame to write next is known; no slot is searched for.",
        rows=(("growth-ring-slots", "put"),),
    ),
    Curve(
        "growth-processes",
        "The same beside other processes",
        "processes in the arena",
        "Each process has a bit of its own for each block, so nobody waits for, or looks through, the others.",
        rows=(("growth-processes-hit", "a hit of a cache"), ("growth-processes-make", "making an array of 1 MiB")),
    ),
)


def lines(curve: Curve, rows: Iterable[Row]) -> list[Line]:
    """Return the lines of a plot, ours first; none without rows for it."""
    found = {row["name"]: row for row in rows}
    if curve.rows:
        parts = [_of_labels(found[name], words) for name, words in curve.rows if name in found]
        return [line for part in parts for line in part]
    return _of_series([row for row in found.values() if row["series"] == curve.name])


def _of_series(rows: list[Row]) -> list[Line]:
    """Return a line for each contestant, with a point for each row."""
    made: dict[str, Line] = {}
    for row in sorted(rows, key=lambda row: row["x"]):
        for place, (label, figure) in enumerate(row["seconds"].items()):
            line = made.setdefault(label, Line(label, place == 0, label == row["limit"]))
            line.points[row["x"]] = figure["median"]
    return sorted(made.values(), key=lambda line: (not line.is_ours, line.is_limit))


def _of_labels(row: Row, words: str) -> list[Line]:
    """Return a line for each kind of label, with a point for each number in them.

    >>> figures = {"100 entries": 1.0, "1,000 entries": 2.0, "dict of 100": 0.5}
    >>> row: Any = {"seconds": {label: {"median": median} for label, median in figures.items()}}
    >>> [(line.label, line.points) for line in _of_labels(row, "a hit")]
    [('a hit', {100: 1.0, 1000: 2.0}), ('dict', {100: 0.5})]
    """
    made: dict[str, Line] = {}
    for label, figure in row["seconds"].items():
        number = NUMBER.search(label)
        if number is None:
            continue
        kind = NUMBER.sub("", label).removesuffix(" of ").strip()
        line = made.setdefault(kind, Line(kind if made else words, not made, False))
        line.points[int(number[0].replace(",", ""))] = figure["median"]
    for line in made.values():
        line.points = dict(sorted(line.points.items()))
    return list(made.values())


# ---- drawing --------------------------------------------------------------------------------------------------------

OURS = ("#d22", "#e80")
OTHERS = ("#26c", "#282", "#808", "#088", "#863", "#b58")


def draw(curve: Curve, found: list[Line], to: Path, caption: str) -> None:
    """Draw a plot as SVG, the same for the same lines."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "ndshare", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    plot: Any = plt
    figure, axes = plot.subplots(figsize=(7, 4), layout="constrained")
    colours = {True: iter(OURS), False: iter(OTHERS)}
    for line in found:
        colour = "#888" if line.is_limit else next(colours[line.is_ours], "#555")
        style = "--" if line.is_limit else "-"
        width = 2.2 if line.is_ours else 1.4
        axes.plot(
            list(line.points), list(line.points.values()), style, c=colour, lw=width, marker=".", label=line.label
        )
    _scales(axes, curve, found)
    axes.set_title(curve.title, fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    axes.grid(color="#ddd", linewidth=0.6)
    axes.set_xlabel(f"{curve.along}\n{caption}", fontsize=8, color="#444")
    to.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(to, metadata={"Date": None, "Creator": None})
    plot.close(figure)


def _scales(axes: Any, curve: Curve, found: list[Line]) -> None:
    """Have both scales logarithmic, with times along y and the numbers that were measured along x."""
    from matplotlib.ticker import LogLocator

    xs = sorted({x for line in found for x in line.points})
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(xs, [size_text(x) if curve.is_bytes else f"{x:,}" for x in xs])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_time)
    low, high = axes.get_ylim()
    # What does not grow shall look flat: noise fills no plot.
    if high < 10 * low:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)


def _time(value: float, _: int | None = None) -> str:
    """Return what stands at a tick."""
    return seconds(value)


def size_text(size: int) -> str:
    """Return a size with its unit.

    >>> size_text(4 << 20)
    '4 MiB'
    """
    for unit, of in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= of:
            return f"{size / of:.3g} {unit}"
    return f"{size} B"
