"""Two runs beside each other: `python -m bench.compare NEW.json [OLD.json] [--strict]`.

A figure counts as another one when it changed by more than a tenth, and neither run's median lies within the quartiles
of the other. Less is what two runs of the same program differ by. The peers have lines, too: where they changed as
well, it is the machine that did.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench import kept
from bench.kept import Figure, Kept
from bench.report import plain_table, seconds

LEAST = 0.1


@dataclass(frozen=True)
class Change:
    """A contestant's figure before and now."""

    name: str
    label: str
    is_ours: bool
    before: Figure
    now: Figure

    @property
    def ratio(self) -> float:
        """Return how many times as long it takes."""
        return self.now["median"] / self.before["median"]

    @property
    def is_beyond_noise(self) -> bool:
        """Say whether it is another figure than before."""
        is_small = 1 / (1 + LEAST) < self.ratio < 1 + LEAST
        return not (is_small or _within(self.now, self.before) or _within(self.before, self.now))

    @property
    def verdict(self) -> str:
        """Return what to say of it."""
        if not self.is_beyond_noise:
            return ""
        return "slower" if self.ratio > 1 else "faster"


def _within(one: Figure, other: Figure) -> bool:
    low, high = other["quartiles"]
    return low <= one["median"] <= high


def changes(before: Kept, now: Kept) -> list[Change]:
    """Return the figures that are in both runs."""
    rows = {row["name"]: row["seconds"] for row in before["results"]}
    return [
        Change(row["name"], label, place == 0, rows[row["name"]][label], figure)
        for row in now["results"]
        for place, (label, figure) in enumerate(row["seconds"].items())
        if label in rows.get(row["name"], {})
    ]


def show(before: Kept, now: Kept) -> bool:
    """Print both runs beside each other, and say whether a figure of ours is slower."""
    found = changes(before, now)
    table = plain_table(["figure", "of", "before", "now", "ratio", ""])
    for one in found:
        times = seconds(one.before["median"]), seconds(one.now["median"])
        table.add_row(one.name, escape(one.label), *times, f"{one.ratio:.2f}", one.verdict)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(f"before: {_line(before)}\nnow: {_line(now)}\n")
    console.print(table)
    ours = [one for one in found if one.is_ours]
    count = {verdict: sum(one.verdict == verdict for one in ours) for verdict in ("slower", "faster")}
    console.print(f"Of {len(ours)} figures of ours {count['slower']} are slower, and {count['faster']} faster.")
    if before["machine"]["cpu"]["model"] != now["machine"]["cpu"]["model"]:
        console.print("The CPUs differ, so this says little about the programs.")
    return count["slower"] > 0


def _line(run: Kept) -> str:
    machine = run["machine"]
    return f"{machine['date']}, commit {machine['commit']}, {machine['cpu']['model']}, {run['took']:.0f} s"


def main() -> int:
    """Compare two files; without the second one the one that is kept for this kind of CPU is the old one."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("new", type=Path)
    parser.add_argument("old", type=Path, nargs="?", default=kept.path())
    parser.add_argument("--strict", action="store_true", help="fail when a figure of ours is slower")
    options = parser.parse_args()
    return int(show(kept.read(options.old), kept.read(options.new)) and options.strict)


if __name__ == "__main__":
    sys.exit(main())
