"""The environment names processes that are dead, others that came to their numbers, and things that are no processes.

A text is left in ``NDSHARE_SESSION`` from yesterday. Whoever has that number today is somebody else, and what it has
in that descriptor is something else. It is not followed, no file of it is opened for longer than a look, and nothing
is waited for.
"""

from __future__ import annotations

import os
import subprocess
import warnings

import numpy  # noqa: F401  (so that each import of ours takes less)

from common import survives


def follow(text: str) -> None:
    """Import with this environment, and have a session of one's own."""
    os.environ["NDSHARE_SESSION"] = text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ndshare as nds

        assert nds.ones(1000).sum() == 1000
    assert os.environ["NDSHARE_SESSION"].split("-")[2] == str(os.getpid())


ID = "0123456789abcdef"
os.mkfifo(pipe := f"/tmp/attack-{os.getpid()}")
with subprocess.Popen(["sleep", "60"], stdin=(waits := os.open(pipe, os.O_RDWR))) as somebody:
    stale = [
        *(f"nds1-{ID}-{somebody.pid}-{fd}" for fd in range(3)),
        f"nds1-{ID}-1-3",
        f"nds1-{ID}-4194305-3",
        f"nds1-{ID}-0-0",
        f"nds1-{ID}--1-0",
        f"nds1-{ID}-{somebody.pid}-99999999999999999999",
        f"nds1-{'f' * 16}-{somebody.pid}-0",
        ",".join([f"nds1-{ID}-{somebody.pid}-0"] * 50),
        "nds1-" + "9" * 5000,
        "/proc/self/mem",
        "nds1-../../../etc/passwd-1-0",
    ]
    for text in stale:
        survives(lambda text=text: follow(text))
    somebody.kill()
os.close(waits)
os.unlink(pipe)
print(f"{len(stale)} texts led nowhere")
