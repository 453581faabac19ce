"""Run the benchmarks: `python -m bench [--quick | --growth | --all | --only NAME] [--keep | --compare]`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from math import inf
from pathlib import Path
from time import perf_counter

from bench import compare, kept
from bench.all import BENCHES
from bench.budget import USUAL, USUAL_ALONE, Budget
from bench.harness import Bench, Result
from bench.machine import ROOT, describe, facts
from bench.one import Left, apart
from bench.report import met, show
from bench.suite import MINUTES, QUICK_SECONDS, growth, quick, suite

LAST = ROOT / "target" / "bench" / "last.json"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ndshare beside its peers.")
    parser.add_argument("--only", action="append", metavar="NAME", help="run those whose name contains NAME")
    parser.add_argument("--quick", action="store_true", help="run a few, in 90 seconds")
    parser.add_argument("--growth", action="store_true", help="run those that show how costs grow")
    parser.add_argument("--all", action="store_true", help="run all that there are, for as long as they take")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    parser.add_argument("--minutes", type=float, metavar="M", help="take so long in all")
    parser.add_argument("--share", type=float, default=1.0, help="do this share of the rounds, such as 0.1")
    parser.add_argument("--json", metavar="FILE", help="also write all figures there (- for the standard output)")
    parser.add_argument("--keep", action="store_true", help="keep the figures as those of this kind of CPU")
    parser.add_argument("--compare", action="store_true", help="compare with the figures that are kept")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail when a target is missed; with --compare, when a figure of ours is slower",
    )
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[Bench]:
    """Return the benchmarks of a run: those whose names contain one of the words, or a suite."""
    if options.only or options.all:
        words = options.only or [""]
        found = [one for one in BENCHES.values() if any(word in one.name for word in words)]
    else:
        found = quick() if options.quick else growth() if options.growth else suite()
    if not found:
        raise SystemExit(f"No benchmark's name contains {options.only}; there are {', '.join(BENCHES)}.")
    return found


def seconds(options: argparse.Namespace) -> float:
    """Return how long a run may take."""
    if options.minutes is not None:
        return 60 * options.minutes
    if options.only or options.all:
        return inf
    return QUICK_SECONDS if options.quick else 60 * MINUTES


def measure(
    benches: list[Bench], share: float, limit: float, took: dict[str, float]
) -> tuple[list[Result], dict[str, str]]:
    """Run them one after another, with a word on stderr about which it is; return results, and why others have none."""
    results: list[Result] = []
    failed: dict[str, str] = {}
    guessed = {one.name: USUAL_ALONE if one.alone else USUAL for one in benches}
    begin, budget = perf_counter(), Budget(limit, guessed, guessed | took)
    for one in benches:
        share_of_time = budget.share(one.name, perf_counter() - begin)
        print(f"{perf_counter() - begin:5.0f} s  {one.name}: {one.work}", file=sys.stderr, flush=True)
        try:
            results.append(apart(one, share, share_of_time))
        except Left as left:
            failed[one.name] = f"left out: {left}"
        except subprocess.CalledProcessError as error:  # its text would name paths of this machine
            failed[one.name] = f"{' '.join(map(str, error.cmd[1:4]))} ended with status {error.returncode}"
        except Exception as error:
            failed[one.name] = f"{type(error).__name__}: {error}"
    return results, failed


def main() -> int:
    """Measure, print, and return the exit status."""
    options = parse()
    if options.list:
        print("\n".join(f"{one.name:24} {one.work}" for one in BENCHES.values()))
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so the row that is running ends, too
    before = kept.path(options.growth)
    old = kept.read(before) if options.compare else None  # here, for it may not be there
    known = {**kept.durations(kept.path(True)), **kept.durations(kept.path())}
    lines, machine, begin = facts(), describe(), perf_counter()
    results, failed = measure(chosen(options), options.share, seconds(options), known)
    run = kept.kept(machine, results, failed, perf_counter() - begin)
    kept.write(run, LAST)
    if options.json == "-":
        print(kept.text(run))
    else:
        show(lines, machine, results, failed, run["took"])
    if options.json and options.json != "-":
        kept.write(run, Path(options.json))
    is_bad = compare.show(old, run) if old else not all(map(met, results))
    if options.keep:
        kept.write(run, before)
        print(f"Kept in {before.relative_to(ROOT)}.")
    return 1 if any(not why.startswith("left out") for why in failed.values()) or (options.strict and is_bad) else 0


if __name__ == "__main__":
    sys.exit(main())
