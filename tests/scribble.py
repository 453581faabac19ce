"""Scribbling peers for longer: ``make scribble``. Words of shared memory are written over while all objects are used.

The tests of the library that do so run in the release build, and in one with AddressSanitizer, for which a nightly
toolchain is needed. Without ``--seconds`` that takes a minute after the builds, and some of the words are written over
in turn; with it every single word is, and each test with a live peer goes on for so many seconds. The table says how
many words were written over, how many operations were asked for meanwhile, how many of these ended in a typed error,
and how long the longest took.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "scribble"
MACHINE = f"{os.uname().machine}-unknown-linux-gnu"
# Optimisation across crates takes as long as all the rest of a build.
FASTER = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
TOLD = re.compile(
    r"^(?P<what>(?:in turn|live), .*?)\s+(?P<pokes>\d+) words written over, (?P<operations>\d+) operations, "
    r"(?P<errors>\d+) typed errors .*longest (?P<longest>\d+) ms \((?P<name>[^)]*)\)$",
    re.MULTILINE,
)


class Build(NamedTuple):
    """One way to build the tests, and of how many words one is written over in turn."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    every: int


BUILDS = (
    Build("release", ("cargo", "test", "--release"), FASTER, 20),
    Build(
        "AddressSanitizer",
        ("cargo", "+nightly", "test", "--target", MACHINE),
        {"RUSTFLAGS": "-Zsanitizer=address", "ASAN_OPTIONS": "detect_leaks=0"},
        300,
    ),
)


def run(build: Build, every: int, seconds: int) -> tuple[int, int, bool]:
    """Run the tests in one build, and return how many words and operations there were, and whether all passed."""
    limits = {"NDSHARE_SCRIBBLE_EVERY": str(every), "NDSHARE_SCRIBBLE_SECONDS": str(seconds)}
    command = [*build.command, "--quiet", "-p", "ndshare", "--lib", "--target-dir", str(TARGET), "scribble::"]
    environment = {**os.environ, **build.environment, **limits}
    # One after the other, for each has threads of its own.
    command += ["--", "--nocapture", "--test-threads=1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    pokes = operations = 0
    for row in TOLD.finditer(done.stdout):
        pokes, operations = pokes + int(row["pokes"]), operations + int(row["operations"])
        counts = "".join(f"{int(row[name]):>14,}" for name in ("pokes", "operations", "errors"))
        print(f"{row['what']:<34}{counts}  {int(row['longest']):,} ms ({row['name']})")
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-6000:])
    return pokes, operations, done.returncode == 0


def main() -> int:
    """Run both builds and print a table; the status is 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=int, default=0, help="seconds of each test with a live peer; every single word"
    )
    parser.add_argument("--build", choices=[build.name for build in BUILDS], help="one of the builds")
    wanted = parser.parse_args()
    passed = True
    for build in BUILDS:
        if wanted.build in {None, build.name}:
            print(f"{build.name:<34}{'words':>14}{'operations':>14}{'typed errors':>14}  longest", flush=True)
            pokes, operations, good = run(build, 1 if wanted.seconds else build.every, wanted.seconds or 1)
            print(f"{'all':<34}{pokes:>14,}{operations:>14,}", flush=True)
            passed = passed and good
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
