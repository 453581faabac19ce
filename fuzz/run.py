"""Run all fuzz targets and print a table: ``make fuzz``, or ``python fuzz/run.py --runs 10000000 token``.

Without ``--runs`` each target runs for three seconds. The targets in Rust are built with AddressSanitizer, for which a
nightly toolchain is needed; the one in Python needs atheris. What a run adds to the seeds in ``fuzz/corpus`` stays in
``target/fuzz/corpus`` for the next one; bytes that make a fault are in ``fuzz/artifacts``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "target" / "fuzz"
MACHINE = f"{os.uname().machine}-unknown-linux-gnu"
BINARIES = BUILD / MACHINE / "release"
IN_PYTHON = "net_wire"
# Seconds of each target where nobody says how many runs.
QUICK = 3
# Those that read texts and short descriptions see all of them; a longer one says nothing more.
MOST_BYTES = 512
# What `cargo fuzz` says; it allows one unit of code for each crate alone, which takes longer.
FLAGS = (
    "--cfg fuzzing",
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)


class Row(NamedTuple):
    """What one target did."""

    target: str
    runs: int
    per_second: int
    faults: int


def targets() -> list[str]:
    """Return the names of all targets."""
    return [*sorted(path.stem for path in (HERE / "fuzz_targets").glob("*.rs")), IN_PYTHON]


def build() -> None:
    """Build the targets in Rust."""
    command = ["cargo", "+nightly", "build", "--quiet", "--release", "--target", MACHINE, "--target-dir", str(BUILD)]
    environment = {**os.environ, "RUSTFLAGS": " ".join(FLAGS)}
    subprocess.run([*command, "--manifest-path", str(HERE / "Cargo.toml")], check=True, env=environment)


def run(target: str, runs: int | None) -> Row:
    """Run one target; its faults are printed as they are, with the bytes that made them."""
    kept, artifacts = BUILD / "corpus" / target, HERE / "artifacts" / target
    kept.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    limit = f"-max_total_time={QUICK}" if runs is None else f"-runs={runs}"
    options = ["-print_final_stats=1", "-print_funcs=0", "-timeout=30", f"-max_len={MOST_BYTES}"]
    places = [f"-artifact_prefix={artifacts}/", str(kept), str(HERE / "corpus" / target)]
    program = [sys.executable, str(HERE / f"{IN_PYTHON}.py")] if target == IN_PYTHON else [str(BINARIES / target)]
    # What is told by a backtrace is told in a second.
    environment = {**os.environ, "RUST_BACKTRACE": "1"}
    done = subprocess.run([*program, limit, *options, *places], capture_output=True, check=False, env=environment)
    told = done.stderr.decode(errors="replace")
    if done.returncode:
        print(told[-6000:])
    return Row(
        target,
        figure(told, "number_of_executed_units"),
        figure(told, "average_exec_per_sec"),
        int(done.returncode != 0),
    )


def figure(told: str, name: str) -> int:
    """Return a figure of those that libFuzzer prints at the end; 0 if it came to no end."""
    found = re.search(rf"^stat::{name}:\s+(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else 0


def main() -> int:
    """Build, run, and print a table; the status is 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="runs of each target; without it each has three seconds")
    parser.add_argument("targets", nargs="*", help="some targets; without any, all")
    wanted = parser.parse_args()
    names: list[str] = wanted.targets or targets()
    if unknown := set(names) - set(targets()):
        parser.error(f"expected targets of {', '.join(targets())}, got {', '.join(sorted(unknown))}")
    build()
    print(f"{'target':<14}{'runs':>12}{'executions/s':>14}{'faults':>8}")
    rows = list[Row]()
    for name in names:
        rows.append(run(name, wanted.runs))
        row = rows[-1]
        print(f"{row.target:<14}{row.runs:>12,}{row.per_second:>14,}{row.faults:>8}", flush=True)
    faults = sum(row.faults for row in rows)
    print(f"{'all':<14}{sum(row.runs for row in rows):>12,}{'':>14}{faults:>8}")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
