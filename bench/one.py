"""One benchmark in a process of its own: `python -m bench.one NAME SECONDS SHARE FILE`.

So no benchmark finds the threads, the warm memory or the settings that another one has left, and one that crashes or
hangs ends by itself alone. It writes its times to the file as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.harness import Bench, Result, run
from bench.machine import ROOT

PATIENCE = 120.0  # seconds beyond four times its share, after which a benchmark counts as hanging


class Left(Exception):  # noqa: N818  (it is no error that a peer is not installed)
    """A benchmark was left out."""


def apart(one: Bench, share: float, seconds: float) -> Result:
    """Run a benchmark in another process, or here if it starts processes of its own for each figure.

    Raises
    ------
    Left
        If it needs a package that is not installed.
    RuntimeError
        If it fails or hangs.

    """
    if one.alone:
        return run(one, share, seconds)
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "times.json")
        words = [one.name, str(seconds), str(share), str(told)]
        _wait(subprocess.Popen([sys.executable, "-m", "bench.one", *words], cwd=ROOT, start_new_session=True), seconds)
        if not told.exists():
            raise RuntimeError("its process ended without a result")
        answer = json.loads(told.read_text())
    if "left" in answer:
        raise Left(answer["left"])
    return Result(one, answer["times"], answer["took"])


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the process, and end it and its children if it hangs or we are interrupted."""
    try:
        process.wait(4 * min(seconds, 3600.0) + PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def main() -> None:
    """Measure, and write the times."""
    from bench.all import BENCHES

    name, seconds, share, told = sys.argv[1:]
    try:
        result = run(BENCHES[name], float(share), float(seconds))
        answer: dict[str, object] = {"times": result.times, "took": result.took}
    except ModuleNotFoundError as error:
        answer = {"left": f"{error.name} is not installed"}
    Path(told).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
