"""The table: ours, the peer, the ratio, the target, and whether it is met. Losses look like wins."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.harness import Result


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


def table(results: list[Result]) -> Table:
    """Return the table of all results."""
    made = Table(box=box.MARKDOWN if not sys.stdout.isatty() else box.SIMPLE_HEAD)
    for name, side in (("work", "left"), ("ours", "right"), ("peer", "right"), ("", "left")):
        made.add_column(name, justify=side)  # type: ignore[arg-type]
    for name in ("ratio", "target", "verdict"):
        made.add_column(name, justify="right")
    for result in results:
        ours, peer, *others = result.labels
        made.add_row(
            result.bench.work, seconds(result.median(ours)), seconds(result.median(peer)), peer, *_verdict(result)
        )
        for other in others:
            made.add_row("", "", seconds(result.median(other)), other, "", "", "")
    return made


def show(facts: dict[str, str], results: list[Result]) -> None:
    """Print the machine, the table, the notes and the count."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for name, fact in facts.items():
        console.print(f"{name}: {fact}")
    console.print()
    console.print(table(results))
    for result in results:
        if result.bench.note:
            console.print(f"{result.bench.work}: {result.bench.note}.")
    with_target = [result for result in results if result.bench.target]
    console.print(f"{sum(map(met, with_target))} of {len(with_target)} targets met. Medians of interleaved rounds.")


def met(result: Result) -> bool:
    """Say whether a result meets its target; one without a target does."""
    target = result.bench.target
    ours, peer = result.labels[:2]
    return target is None or target.met(result.median(ours), result.median(peer))


def as_json(facts: dict[str, str], results: list[Result]) -> str:
    """Return everything for programs: medians and quartiles in seconds, and ratios of medians."""
    rows: list[dict[str, Any]] = [
        {
            "name": result.bench.name,
            "work": result.bench.work,
            "target": result.bench.target.text() if result.bench.target else None,
            "met": met(result) if result.bench.target else None,
            "rounds": len(result.times[result.labels[0]]),
            "seconds": {
                label: {"median": result.median(label), "quartiles": result.spread(label)} for label in result.labels
            },
            "times faster": {peer: result.median(peer) / result.median(ours) for peer in peers},
        }
        for result in results
        for ours, *peers in [result.labels]
    ]
    return json.dumps({"machine": facts, "results": rows}, indent=2, ensure_ascii=False)
