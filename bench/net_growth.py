"""How a site grows, on paper: `python -m bench.net_growth` prints the tables of docs/net-growth.md and draws its plots.

It asks the model of `bench.net_model`, so it measures nothing and gives the same figures everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log10
from pathlib import Path
from typing import NamedTuple

from bench.net_model import FRAME, MACHINE_BYTES, Site, World, hops, saturation
from bench.threshold import MIB, Plot

DOCS = Path(__file__).parent.parent / "docs"
READERS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
BRIDGES = [1, 2, 4, 6, 8, 10, 11, 12, 14, 16, 24, 32, 48, 64]
HEIGHT = 390  # of a panel
TENS = 5


class Growth(NamedTuple):
    """What became of a site: of its farthest readers, and of the camera's machine."""

    rate: float  # frames a second that a reader gets
    p50: float  # seconds from the camera to the end of a reader's work
    p99: float
    lost: float  # share of the frames that were counted as lost or missed on the way to a reader
    memory: float  # the most bytes of frames and copies of frames on the camera's machine
    processors: float  # shares of what the camera's machine has
    bytes: float
    link: float


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))] if ordered else float("nan")


def growth(site: Site) -> Growth:
    """Let a site run, and look at what became of it."""
    world, seconds = World(site).run(), site.seconds
    machine, readers = world.machines[0], world.far or world.local
    lags = sorted(lag for reader in readers for lag in reader.lags)
    lost = sum(reader.lost / max(1, reader.expected) for reader in readers)
    return Growth(
        rate=sum(reader.taken for reader in readers) / len(readers) / seconds,
        p50=_quantile(lags, 0.5),
        p99=_quantile(lags, 0.99),
        lost=lost / len(readers),
        memory=FRAME * (machine.most_kept + machine.most_copies),
        processors=machine.busy / (site.cores * seconds),
        bytes=machine.memory.carried / (MACHINE_BYTES * seconds),
        link=machine.link.carried / (site.link_bytes * seconds),
    )


# ---- tables ---------------------------------------------------------------------------------------------------------


def row(label: str, it: Growth) -> str:
    """Return a row of a table."""
    shares = " | ".join(f"{share:.0%}" for share in (it.lost, it.processors, it.bytes, it.link))
    lags = f"{it.p50 * 1e3:.3g} | {it.p99 * 1e3:.3g}"
    return f"| {label} | {it.rate:.1f} | {lags} | {it.memory / MIB:.0f} | {shares} |"


def table(what: str, rows: Iterable[tuple[str, Site]]) -> None:
    """Print a table, as it stands in docs/net-growth.md."""
    print(f"\n| {what} | frames/s | lag p50, ms | p99, ms | memory, MiB | lost | processors | memory's rate | link |")
    print("|---|---|---|---|---|---|---|---|---|")
    for label, site in rows:
        print(row(label, growth(site)), flush=True)


def print_tables() -> None:
    """Print all tables."""
    fast = Site(rate=100, seconds=4)
    table("readers of 100 frames/s", [(f"{n:,}", replace(fast, readers=n)) for n in (1, 16, 64, 128, 256, 1000)])
    star = [(f"{n}", Site(bridges=n)) for n in (1, 4, 8, 11, 12, 16, 64)]
    table("bridges in a star, 10 Gbit/s", [*star, ("64, `latest`", Site(bridges=64, latest=True))])
    trees = [(f"fan-out {k}, {hops(64, k)} hops", Site(bridges=64, fan_out=k)) for k in (2, 3, 4, 8)]
    table("64 bridges in a tree, 10 Gbit/s", trees)
    wide = replace(fast, bridges=64, link=100e9)
    each = [("64, a server for each", wide), ("64, one server", replace(wide, one_server=True))]
    table("100 frames/s, 100 Gbit/s", [*each, ("fan-out 8, 2 hops", replace(wide, fan_out=8))])
    ten = Site(bridges=10, pause=0.5)
    slow = [("a server for each", ten), ("one server", replace(ten, one_server=True))]
    table("10 bridges, one takes 0.5 s for a frame", slow)
    print("\n| site | " + " | ".join(saturation(fast)) + " |\n|---|---|---|---|")
    for site in (Site(link=1e9), Site(), Site(link=100e9), fast, wide, replace(wide, one_server=True)):
        words = f"{site.rate:g} frames/s, {site.link / 1e9:g} Gbit/s{', one server' if site.one_server else ''}"
        print(f"| {words} | " + " | ".join(f"{number:.3g}" for number in saturation(site).values()) + " |")


# ---- plots ----------------------------------------------------------------------------------------------------------


class LogPlot(Plot):
    """A drawing whose values go by factors of ten, five of them up to the top."""

    def y(self, value: float) -> float:
        """Return where a value is."""
        return 320 - 280 * (1 + log10(value / self.top) / TENS)


def axes(plot: Plot, marks: Iterable[float], title: str, unit: str, along: str) -> None:
    """Draw both scales of a panel."""
    size = plot.first
    while size <= plot.last:
        plot.line([(plot.x(size), 320), (plot.x(size), 325)], "#444")
        plot.text(plot.x(size), 340, f"{size:,}")
        size *= 2
    for value in marks:
        plot.line([(60, plot.y(value)), (660, plot.y(value))], "#ddd")
        plot.text(52, plot.y(value) + 4, f"{value:,g}", "end")
    plot.text(60, 14, f'<tspan font-weight="bold">{title}</tspan>', "start", "#000")
    plot.text(60, 30, unit, "start")
    plot.text(360, 360, along)


class Line(NamedTuple):
    """A line of all panels: what it is called, its colour, and what became of each size."""

    label: str
    colour: str
    dash: str
    points: dict[int, Growth]


Value = Callable[[Growth], float]


def panel(plot: Plot, lines: list[Line], value: Value) -> None:
    """Draw the lines of a panel, and name them below the scale."""
    for place, line in enumerate(lines):
        points = [(plot.x(size), plot.y(value(it))) for size, it in line.points.items()]
        plot.line(points, line.colour, 2, line.dash)
        x, y = 62 + 300 * (place % 2), 48 + 15 * (place // 2)
        plot.line([(x, y - 4), (x + 22, y - 4)], line.colour, 2, line.dash)
        plot.text(x + 28, y, line.label, "start", line.colour)


def stacked(plots: list[Plot]) -> str:
    """Return panels one below the other as SVG."""
    size = f"0 0 700 {HEIGHT * len(plots)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">'
    parts = [head, f'<rect width="700" height="{HEIGHT * len(plots)}" fill="white"/>']
    for place, plot in enumerate(plots):
        parts += [f'<g transform="translate(0 {HEIGHT * place + 6})">', *plot.parts, "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def grown(label: str, colour: str, sites: dict[int, Site], dash: str = "none") -> Line:
    """Let a site of each size run."""
    return Line(label, colour, dash, {size: growth(site) for size, site in sites.items()})


def draw(lines: list[Line], along: str, rates: list[float], who: str) -> str:
    """Return rate, lag and memory as SVG."""
    sizes = list(lines[0].points)
    last = 1 << (sizes[-1] - 1).bit_length()
    plots = [Plot(1, last, rates[-1] * 1.3), LogPlot(1, last, 1e4), LogPlot(1, last, 1e4)]
    tens = [0.1, 1, 10, 100, 1000]
    axes(plots[0], rates, f"Rate: frames of 4 MiB that {who} gets", "frames/s", along)
    axes(plots[1], tens, "Lag: from the camera to the end of a reader's work, 99th percentile", "ms", along)
    axes(plots[2], tens, "Memory of the camera's machine for frames and their copies, at the most", "MiB", along)
    for plot, value in zip(plots, VALUES, strict=True):
        panel(plot, lines, value)
    return stacked(plots)


VALUES: list[Value] = [lambda it: it.rate, lambda it: it.p99 * 1e3, lambda it: it.memory / MIB]


def draw_readers() -> str:
    """Return how readers of one machine grow."""
    lines = [
        grown(
            f"{rate} frames/s, {rate * FRAME / 1e9:.2g} GB/s",
            colour,
            {n: Site(rate, readers=n, seconds=4) for n in READERS},
        )
        for rate, colour in ((25, "#282"), (100, "#26c"), (400, "#d22"))
    ]
    return draw(lines, "readers on the camera's machine", [0, 100, 200, 300, 400], "each reader")


def draw_bridges() -> str:
    """Return how bridges grow, in a star and in a tree."""
    lines = [
        grown("star, 1 Gbit/s", "#808", {n: Site(bridges=n, link=1e9) for n in BRIDGES}),
        grown("star, 10 Gbit/s", "#d22", {n: Site(bridges=n) for n in BRIDGES}),
        grown(
            "star, 10 Gbit/s, the latest frame only", "#d22", {n: Site(bridges=n, latest=True) for n in BRIDGES}, "5 3"
        ),
        grown("star, 25 Gbit/s", "#c60", {n: Site(bridges=n, link=25e9) for n in BRIDGES}),
        grown("tree of fan-out 3, 10 Gbit/s", "#26c", {n: Site(bridges=n, fan_out=3) for n in BRIDGES}),
    ]
    return draw(lines, "far machines, each with 16 readers", [0, 5, 10, 15, 20, 25], "each far reader")


def main() -> None:
    """Print, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the drawings go")
    folder = parser.parse_args().folder
    print_tables()
    (folder / "net-readers.svg").write_text(draw_readers())
    (folder / "net-growth.svg").write_text(draw_bridges())
    print(f"\nwrote {folder / 'net-readers.svg'} and {folder / 'net-growth.svg'}")


if __name__ == "__main__":
    main()
