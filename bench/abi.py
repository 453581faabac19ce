"""What the stable ABI costs: `python -m bench.abi SHIPPED OTHER` compares two builds of the extension.

Each is a file `_native.….so`. `make bench` leaves the one that ships in `python/ndshare/`; `cargo build --release -p
ndshare-py` makes `target/release/lib_native.so`, for `python` alone, to be copied elsewhere as `_native.so`. For each
build the package is laid out in a folder of its own, and a fresh process measures it. The builds take turns; medians
over the rounds are printed, and their ratios.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import clock

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 31


def best_of(work: Callable[[], Any]) -> float:
    """Return the seconds of one call, as the quickest of some turns has it."""
    return min(clock(work, 5000) for _ in range(20))


def measure() -> dict[str, float]:
    """Return the seconds of what is short enough to be slower by the way in and out of Python."""
    import numpy as np

    import ndshare as nds

    ring, frame = nds.Ring((16, 16), np.float32, slots=8, when_full="drop_oldest"), np.ones((16, 16), np.float32)
    reader, cache = ring.reader(), nds.Cache("1 MiB")
    cache[7] = frame

    def hand_over() -> None:
        ring.put(frame)
        assert reader.get()[0, 0] == 1

    assert nds.zeros((4, 4)).sum() == 0
    assert cache[7][0, 0] == 1
    return {
        "nds.empty((16,))": best_of(partial(nds.empty, (16,))),
        "nds.zeros((4, 4), np.uint16)": best_of(partial(nds.zeros, (4, 4), np.uint16)),
        "ring.put and reader.get of 1 KiB": best_of(hand_over),
        "cache[key]": best_of(partial(cache.__getitem__, 7)),
        "nds.copyto of 1 KiB": best_of(partial(nds.copyto, np.empty_like(frame), frame)),
    }


def laid_out(library: Path, folder: Path) -> Path:
    """Lay the package out with one build of its extension."""
    shutil.copytree(ROOT / "python", folder, ignore=shutil.ignore_patterns("_native*.so", "__pycache__"))
    shutil.copy(library, folder / "ndshare" / library.name)
    return folder


def main(libraries: list[str]) -> None:
    """Measure two builds by turns."""
    if "--one" in libraries:
        print(json.dumps(measure()))
        return
    times: list[dict[str, list[float]]] = [{}, {}]
    with tempfile.TemporaryDirectory() as name:
        places = [laid_out(Path(one), Path(name) / str(at)) for at, one in enumerate(libraries)]
        for _ in range(ROUNDS):
            for place, found in zip(places, times, strict=True):
                command = [sys.executable, "-c", "from bench.abi import main; main(['--one'])"]
                path = {"PYTHONPATH": f"{place}:{ROOT}", "PATH": "/usr/bin:/bin"}
                one = json.loads(subprocess.run(command, env=path, capture_output=True, check=True, text=True).stdout)
                for label, seconds in one.items():
                    found.setdefault(label, []).append(seconds)
    for label in times[0]:
        shipped, other = (statistics.median(found[label]) for found in times)
        print(f"{label:36} {shipped * 1e9:7.0f} ns  {other * 1e9:7.0f} ns  {shipped / other:5.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
