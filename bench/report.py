"""The table: ours, the peer, the ratio, the target, and whether it is met. Losses look like wins."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.harness import Result
from bench.machine import Machine


def seconds(value: float) -> str:
    """Write a time with three figures in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _verdict(result: Result) -> tuple[str, str, str]:
    """Return the figure, the target and the verdict as they are printed."""
    target = result.bench.target
    ours, peer = (result.median(label) for label in result.labels[:2])
    if target is None:
        return f"{peer / ours:.3g} times faster", "", ""
    figure = target.measure(ours, peer)
    faster = f"{peer / ours:.3g} times faster"
    text = {"faster": faster, "within": faster, "at most": f"{figure:.3g} times"}.get(target.kind)
    return text or f"{1000 * figure:.3g} ms more", target.text(), "met" if target.met(ours, peer) else "MISSED"


def plain_table(columns: list[str]) -> Table:
    """Return a table without rows; names are at the left, figures at the right."""
    made = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else box.MARKDOWN)
    for place, name in enumerate(columns):
        made.add_column(name, justify="left" if place == 0 or name in ("", "of") else "right")
    return made


def table(results: list[Result]) -> Table:
    """Return the table of all results."""
    made = plain_table(["work", "ours", "peer", "", "ratio", "target", "verdict"])
    for result in results:
        ours, peer, *others = result.labels
        times = seconds(result.median(ours)), seconds(result.median(peer))
        made.add_row(result.bench.work, *times, escape(peer), *_verdict(result))
        for other in others:
            ratio = f"{result.median(other) / result.median(ours):.3g} times"
            made.add_row("", "", seconds(result.median(other)), escape(other), ratio, "", "")
    return made


def show(facts: dict[str, str], machine: Machine, results: list[Result], failed: dict[str, str], took: float) -> None:
    """Print the machine, the table, the notes, what is missing, and how long it took."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for name, fact in facts.items():
        console.print(f"{name}: {fact}")
    console.print("peers: " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    if machine["missing"]:
        console.print(f"not installed: {', '.join(machine['missing'])}")
    console.print()
    console.print(table(results))
    for result in results:
        if result.bench.note:
            console.print(f"{result.bench.work}: {result.bench.note}.")
    for name, why in failed.items():
        console.print(f"{name} has no figure: {escape(why)}")
    with_target = [result for result in results if result.bench.target]
    console.print(f"{sum(map(met, with_target))} of {len(with_target)} targets met. Medians of interleaved rounds.")
    console.print(f"The run took {took:.0f} s.")


def met(result: Result) -> bool:
    """Say whether a result meets its target; one without a target does."""
    target = result.bench.target
    ours, peer = result.labels[:2]
    return target is None or target.met(result.median(ours), result.median(peer))
