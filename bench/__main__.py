"""Run the benchmarks: `python -m bench [--only NAME] [--json FILE] [--share X] [--strict]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import (  # noqa: F401  (they register themselves)
    allocating,
    cache,
    fft,
    gather,
    growth,
    lock,
    memory,
    net,
    pipe,
    rates,
    ray,
    record,
    ring,
    travel,
)
from bench.harness import BENCHES, Bench, Result, run
from bench.machine import facts
from bench.report import as_json, met, show


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ndshare beside its peers.")
    parser.add_argument("--only", action="append", metavar="NAME", help="run those whose name contains NAME")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there (- for the standard output)")
    parser.add_argument("--share", type=float, default=1.0, help="do this share of the rounds, such as 0.1")
    parser.add_argument("--strict", action="store_true", help="fail when a target is missed")
    return parser.parse_args(arguments)


def chosen(only: list[str] | None) -> list[Bench]:
    """Return the benchmarks whose names contain one of the words; all without any."""
    found = [one for one in BENCHES.values() if not only or any(word in one.name for word in only)]
    if not found:
        raise SystemExit(f"No benchmark's name contains {only}; there are {', '.join(BENCHES)}.")
    return found


def measure(benches: list[Bench], share: float) -> list[Result]:
    """Run them one after another, with a word on stderr about which it is."""
    results: list[Result] = []
    for one in benches:
        print(f"{one.name}: {one.work}", file=sys.stderr, flush=True)
        results.append(run(one, share))
    return results


def main() -> int:
    """Measure, print, and return the exit status."""
    options = parse()
    if options.list:
        print("\n".join(f"{one.name:12} {one.work}" for one in BENCHES.values()))
        return 0
    machine = facts()
    results = measure(chosen(options.only), options.share)
    if options.json == "-":
        print(as_json(machine, results))
    else:
        show(machine, results)
        if options.json:
            Path(options.json).write_text(as_json(machine, results) + "\n")
    return 1 if options.strict and not all(map(met, results)) else 0


if __name__ == "__main__":
    sys.exit(main())
