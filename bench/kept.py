"""Results that are kept: one file of JSON for each kind of CPU, below `bench/results/`.

`FORMAT` is counted up when a field changes its meaning; what reads a file refuses others. Times are seconds of one
operation. The names of rows and contestants stay the same from run to run, for that is how runs are compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from bench.harness import Result
from bench.machine import ROOT, Machine, cpu, slug

FORMAT = 1
RESULTS = ROOT / "bench" / "results"
GROWTH = ".growth"


class Figure(TypedDict):
    """What a contestant took, in seconds, and in how many rounds."""

    median: float
    quartiles: tuple[float, float]
    rounds: int


class Row(TypedDict):
    """A benchmark's outcome. The first contestant is ours, the second the peer that counts."""

    name: str
    work: str
    target: str | None
    met: bool | None
    note: str
    series: str
    x: int
    limit: str
    took: float
    seconds: dict[str, Figure]


class Kept(TypedDict):
    """A run: on what, for how long, what came out, and what did not, with the reason."""

    format: int
    machine: Machine
    took: float
    results: list[Row]
    failed: dict[str, str]


def path(growth: bool = False) -> Path:
    """Return where the results of this kind of CPU are."""
    return RESULTS / f"{slug(cpu())}{GROWTH if growth else ''}.json"


def row(result: Result) -> Row:
    """Return a result as it is kept."""
    bench, (ours, peer) = result.bench, (result.median(label) for label in result.labels[:2])
    return {
        "name": bench.name,
        "work": bench.work,
        "target": bench.target.text() if bench.target else None,
        "met": bench.target.met(ours, peer) if bench.target else None,
        "note": bench.note,
        "series": bench.series,
        "x": bench.x,
        "limit": bench.limit,
        "took": result.took,
        "seconds": {label: _figure(result, label) for label in result.labels},
    }


def _figure(result: Result, label: str) -> Figure:
    return {"median": result.median(label), "quartiles": result.spread(label), "rounds": len(result.times[label])}


def kept(machine: Machine, results: list[Result], failed: dict[str, str], took: float) -> Kept:
    """Return a run as it is kept."""
    rows = [row(result) for result in results]
    return {"format": FORMAT, "machine": machine, "took": took, "results": rows, "failed": failed}


def write(run: Kept, to: Path) -> None:
    """Write a run, with figures of four digits: more is noise."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text(run))


def text(run: Kept) -> str:
    """Return a run as JSON."""
    rounded = json.loads(json.dumps(run), parse_float=lambda digits: float(f"{float(digits):.4g}"))
    return json.dumps(rounded, indent=1, ensure_ascii=False) + "\n"


def read(of: Path) -> Kept:
    """Return a run that was kept.

    Raises
    ------
    SystemExit
        If there is none, or it is of another format.

    """
    if not of.exists():
        raise SystemExit(f"There are no results in {of}; `make bench` measures and keeps them.")
    run: Kept = json.loads(of.read_text())
    if run.get("format") != FORMAT:
        raise SystemExit(f"{of} has format {run.get('format')}, and this program reads {FORMAT}: measure anew.")
    return run


def durations(of: Path) -> dict[str, float]:
    """Return how long each benchmark of a run took; nothing without a run."""
    return {row["name"]: row["took"] for row in read(of)["results"]} if of.exists() else {}
